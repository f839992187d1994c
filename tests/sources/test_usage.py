"""Shares of the CPU: over a fake /proc, over the real one, and by property."""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inferwatt.errors import SourceGone, SourceRetry
from inferwatt.records import Usage
from inferwatt.sources.procfs import TICK_NS, ProcessTime, children
from inferwatt.sources.usage import RESCAN_NS, CpuUsage

from .trees import Proc

SECOND = 1_000_000_000


@pytest.fixture
def proc(tmp_path: Path) -> Proc:
    """An empty fake /proc."""
    return Proc(tmp_path)


@pytest.fixture
def usage(proc: Proc) -> Iterator[CpuUsage]:
    """The usage of a fake machine with two logical CPUs, as seen by two devices."""
    reader = CpuUsage(("cpu-0", "dram-0"), 2, proc_root=str(proc.root))
    yield reader
    reader.close()


def ticks(seconds: float) -> int:
    """Return so many seconds of CPU time in ticks."""
    return round(seconds * SECOND / TICK_NS)


def test_each_device_is_told_who_held_the_capacity(proc: Proc, usage: CpuUsage) -> None:
    """Half a second of one process and a quarter of others, of two seconds that two CPUs offer in one."""
    proc.process(10, 0)
    usage.watch([10])
    assert usage.read(0) == ()
    proc.host(ticks(0.75))
    proc.process(10, ticks(0.5))

    assert usage.read(SECOND) == tuple(Usage(0, SECOND, device, {10: 0.25}, 0.125) for device in ("cpu-0", "dram-0"))


def test_a_process_has_the_time_of_its_descendants(proc: Proc, usage: CpuUsage) -> None:
    """Children and their children count for the watched one; a watched child counts for itself."""
    for pid, kids in ((10, (11, 12)), (11, (13,)), (12, ()), (13, ())):
        proc.process(pid, 0)
        proc.children(pid, *kids)
    usage.watch([10, 12])
    usage.read(0)
    for pid, seconds in ((10, 0.1), (11, 0.2), (12, 0.4), (13, 0.3)):
        proc.process(pid, ticks(seconds))
    proc.host(ticks(1.0))

    (cpu, _) = usage.read(SECOND)

    assert cpu.shares == pytest.approx({10: 0.3, 12: 0.2})
    assert cpu.other_ratio == 0


@pytest.mark.parametrize(("parent", "child"), [(10, 12), (12, 10)])
def test_a_watched_child_counts_for_itself_whatever_its_number(
    proc: Proc, usage: CpuUsage, parent: int, child: int
) -> None:
    """The nearest watched ancestor gets the time, not the first that is looked at."""
    proc.process(parent, 0)
    proc.children(parent, child)
    proc.process(child, 0)
    usage.watch([parent, child])
    usage.read(0)
    proc.process(child, ticks(1))
    proc.host(ticks(1))

    assert usage.read(SECOND)[0].shares == {parent: 0.0, child: 0.5}


def test_a_child_that_comes_later_is_found_within_a_second(proc: Proc, usage: CpuUsage) -> None:
    """Descendants are looked for again every second, and what they use from then on counts."""
    proc.process(10, 0)
    proc.children(10)
    usage.watch([10])
    usage.read(0)
    proc.children(10, 11)
    proc.process(11, ticks(5))
    usage.read(RESCAN_NS)
    proc.process(11, ticks(5.5))
    proc.host(ticks(0.5))

    assert usage.read(2 * RESCAN_NS)[0].shares == {10: 0.25}


def test_children_are_found_by_a_scan_where_the_kernel_keeps_no_lists(proc: Proc) -> None:
    """Without CONFIG_PROC_CHILDREN the parent is read from each process."""
    proc.process(10, 0)
    proc.process(11, 0, ppid=10)
    proc.process(12, 0, ppid=11)
    (proc.root / "13").mkdir()

    assert list(children(str(proc.root), 10)) == [11]
    assert list(children(str(proc.root), 99)) == []


def test_an_ended_process_drops_out(proc: Proc, usage: CpuUsage) -> None:
    """It is not shown with zero, nor does it end the others."""
    proc.process(10, 0)
    proc.process(20, 0)
    usage.watch([10, 20])
    usage.read(0)
    proc.process(10, ticks(1), state="Z")
    proc.process(20, ticks(1))
    proc.host(ticks(1))

    assert usage.read(SECOND)[0].shares == {20: 0.5}
    assert usage.read(3 * SECOND)[0].shares == {20: 0.0}


def test_a_reused_pid_is_another_process(proc: Proc, usage: CpuUsage) -> None:
    """The new owner of the number has another start time: it gets nothing before it is watched itself."""
    proc.process(10, ticks(1), start=7)
    usage.watch([10])
    usage.read(0)
    proc.process(10, ticks(900), start=8)
    proc.host(ticks(1))

    assert usage.read(SECOND)[0].shares == {}
    proc.process(10, ticks(901), start=8)
    proc.host(ticks(2))
    assert usage.read(3 * SECOND)[0].shares == {}
    usage.watch([])
    usage.read(4 * SECOND)
    usage.watch([10])
    usage.read(5 * SECOND)
    proc.process(10, ticks(902), start=8)
    proc.host(ticks(3))
    assert usage.read(6 * SECOND)[0].shares == {10: 0.5}


def test_what_the_host_counts_a_tick_later_is_not_lost(proc: Proc, usage: CpuUsage) -> None:
    """A process that is ahead of the host's count is given the rest as soon as the host has caught up."""
    proc.process(10, 0)
    usage.watch([10])
    usage.read(0)
    proc.process(10, 3)
    proc.host(2)
    assert usage.read(2 * TICK_NS)[0].shares == {10: 0.5}
    proc.host(3)

    (cpu, _) = usage.read(3 * TICK_NS)

    assert cpu.shares == {10: 0.5}
    assert cpu.other_ratio == 0


def test_a_bad_read_costs_no_time(proc: Proc, usage: CpuUsage) -> None:
    """After a failed read the next one covers both intervals."""
    proc.process(10, 0)
    usage.watch([10])
    usage.read(0)
    (proc.root / "stat").write_text("garbage")
    with pytest.raises(SourceRetry):
        usage.read(SECOND)
    proc.process(10, ticks(1))
    proc.host(ticks(2))

    (cpu, _) = usage.read(2 * SECOND)

    assert (cpu.t0_ns, cpu.shares, cpu.other_ratio) == (0, {10: 0.25}, 0.25)


def test_a_pid_that_is_no_process_is_left_out(proc: Proc, usage: CpuUsage) -> None:
    """Watching nothing real is not an error."""
    usage.watch([4_000_000])
    usage.read(0)
    proc.host(ticks(1))

    assert usage.read(SECOND)[0].shares == {}
    with pytest.raises(SourceGone):
        ProcessTime(str(proc.root), 4_000_000)


STEPS = st.lists(
    st.tuples(
        st.integers(1, 500), st.integers(0, 500), st.dictionaries(st.sampled_from([10, 20, 30]), st.integers(0, 500))
    ),
    min_size=1,
    max_size=12,
)


@settings(max_examples=60, deadline=None)
@given(STEPS)
def test_shares_and_others_are_the_busy_time_and_never_negative(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[int, int, dict[int, int]]]
) -> None:
    """Whatever the counts say, the shares and the others sum to the host's busy ratio, each of them 0 to 1."""
    root = tmp_path_factory.mktemp("proc")
    proc = Proc(root)
    used = dict.fromkeys((10, 20, 30), 0)
    for pid in used:
        proc.process(pid, 0)
    usage = CpuUsage(("cpu",), 2, proc_root=str(root))
    usage.watch(used)
    usage.read(0)
    now_ns = host = 0
    for elapsed, worked, more in steps:
        now_ns += elapsed * TICK_NS
        host += worked
        proc.host(host)
        for pid, extra in more.items():
            used[pid] += extra
            proc.process(pid, used[pid])
        (cpu,) = usage.read(now_ns)
        busy_ratio = min(worked / (2 * elapsed), 1.0)

        assert min(*cpu.shares.values(), cpu.other_ratio) >= 0
        assert sum(cpu.shares.values()) + cpu.other_ratio == pytest.approx(busy_ratio, abs=1e-9)
    usage.close()
    shutil.rmtree(root)


def test_a_real_process_that_spins_holds_the_cpu_that_it_spins_on() -> None:
    """On this machine's own /proc: what the kernel counted for the process is what its share says."""
    usage = CpuUsage(("cpu",), os.cpu_count() or 1)
    child = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        usage.watch([child.pid])
        usage.read(t0_ns := time.monotonic_ns())
        before_ns = (counted := ProcessTime("/proc", child.pid)).cpu_ns()
        time.sleep(0.3)
        (cpu,) = usage.read(time.monotonic_ns())
        used_ns = counted.cpu_ns() - before_ns
        counted.close()
    finally:
        child.kill()
        child.wait()
        usage.close()

    capacity_ns = (cpu.t1_ns - t0_ns) * (os.cpu_count() or 1)
    assert cpu.shares[child.pid] * capacity_ns <= used_ns + 4 * TICK_NS
    assert cpu.shares[child.pid] > 0
    assert cpu.shares[child.pid] + cpu.other_ratio <= 1
