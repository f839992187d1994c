"""Whose child holds the accelerator: over a fake /proc, over real processes, and by property."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inferwatt.records import HOST, Condition, Event, EventKind, Reading, Usage
from inferwatt.sources import Emitted
from inferwatt.sources import families as families_module
from inferwatt.sources.families import MOST_LEVELS, RECHECK_NS, Families

from .trees import Proc

SECOND = 1_000_000_000
SERVER, ENGINE, WORKER_0, WORKER_1, STRANGER = 100, 110, 111, 112, 200


def usage(shares: dict[int, float], t1_ns: int = SECOND, device: str = "gpu-0") -> Usage:
    """Return the use of a device, with a tenth by others and a tenth that cannot be told apart."""
    return Usage(0, t1_ns, device, shares, 0.1, 0.1)


@pytest.fixture
def proc(tmp_path: Path) -> Proc:
    """A server, its engine, two workers of that, and a stranger: the tree of vLLM with two GPUs, as ps showed it."""
    proc = Proc(tmp_path)
    proc.process(1, 0, start=1, ppid=0)
    proc.process(SERVER, 0, start=10, ppid=1, name="vllm")
    proc.process(ENGINE, 0, start=20, ppid=SERVER, name="VLLM::EngineCor")
    proc.process(WORKER_0, 0, start=30, ppid=ENGINE, name="VLLM::Worker_TP")
    proc.process(WORKER_1, 0, start=31, ppid=ENGINE, name="VLLM::Worker_TP")
    proc.process(STRANGER, 0, start=40, ppid=1)
    return proc


@pytest.fixture
def families(proc: Proc) -> Families:
    """The families of that tree, the server watched."""
    families = Families(str(proc.root))
    families.watch([SERVER])
    return families


def end(proc: Proc, *pids: int) -> None:
    """Let processes end: their folders are gone."""
    for pid in pids:
        (proc.root / str(pid) / "stat").unlink()


def test_workers_count_for_the_server_that_they_descend_from(families: Families) -> None:
    """Shares of one family are summed, what is nobody's stays its own, and what is not told apart stays that."""
    resolved = families.resolve(usage({WORKER_0: 0.25, WORKER_1: 0.5, STRANGER: 0.125}))

    assert resolved == usage({SERVER: 0.75, STRANGER: 0.125})


def test_who_holds_a_gpu_and_does_nothing_still_holds_it(families: Families) -> None:
    """A share of 0 is kept: an accelerator names each process that holds it."""
    assert families.resolve(usage({WORKER_0: 0.0})) == usage({SERVER: 0.0})


def test_the_nearest_watched_ancestor_has_it(families: Families) -> None:
    """Where the engine is watched too its workers are its own; a watched process is never its parent's."""
    families.watch([SERVER, ENGINE])

    assert families.resolve(usage({WORKER_0: 0.5, ENGINE: 0.25, SERVER: 0.125})).shares == {ENGINE: 0.75, SERVER: 0.125}


def test_what_is_watched_can_change(families: Families) -> None:
    """A server that is found later gets its workers, one that is watched no more loses them."""
    families.watch([])
    assert families.resolve(usage({WORKER_0: 0.5})).shares == {WORKER_0: 0.5}
    families.watch([ENGINE])
    assert families.resolve(usage({WORKER_0: 0.5})).shares == {ENGINE: 0.5}


def test_a_worker_whose_parents_have_ended_stays_in_the_family(proc: Proc, families: Families) -> None:
    """The kernel gives an orphan to init; whose it was is remembered."""
    families.resolve(usage({WORKER_0: 0.5}))
    end(proc, ENGINE)
    proc.process(WORKER_0, 0, start=30, ppid=1)

    assert families.resolve(usage({WORKER_0: 0.5}, 9 * SECOND)).shares == {SERVER: 0.5}


def test_a_worker_that_has_ended_keeps_its_family(proc: Proc, families: Families) -> None:
    """A driver names a process for a while after its end: its last share is still the server's."""
    families.resolve(usage({WORKER_0: 0.5}))
    end(proc, WORKER_0)

    for second in (9, 19):
        assert families.resolve(usage({WORKER_0: 0.5}, second * SECOND)).shares == {SERVER: 0.5}
    assert families.resolve(usage({WORKER_1: 0.5, 999: 0.25}, 9 * SECOND)).shares == {SERVER: 0.5, 999: 0.25}


def test_a_new_process_with_an_old_number_is_nobodys_child(proc: Proc, families: Families) -> None:
    """A process is its pid and its start time: the number alone makes no family."""
    families.resolve(usage({WORKER_0: 0.5}))
    proc.process(WORKER_0, 0, start=99, ppid=STRANGER)

    assert families.resolve(usage({WORKER_0: 0.5}, 9 * SECOND)).shares == {WORKER_0: 0.5}


def test_a_parent_that_is_younger_than_its_child_is_none(proc: Proc, families: Families) -> None:
    """Between two of our reads the server ended and another process took its number."""
    proc.process(SERVER, 0, start=99, ppid=1)
    families.watch([SERVER])

    assert families.resolve(usage({WORKER_0: 0.5})).shares == {WORKER_0: 0.5}


def test_a_server_that_was_restarted_under_its_number_is_another(proc: Proc, families: Families) -> None:
    """Workers that outlived the old server are not the new one's."""
    families.resolve(usage({WORKER_0: 0.5}))
    proc.process(SERVER, 0, start=99, ppid=1)
    families.watch([SERVER])
    proc.process(WORKER_1 + 1, 0, start=100, ppid=SERVER)

    assert families.resolve(usage({WORKER_0: 0.5, WORKER_1 + 1: 0.25})).shares == {WORKER_0: 0.5, SERVER: 0.25}


def test_a_server_that_has_ended_keeps_its_workers(proc: Proc, families: Families) -> None:
    """While it is watched it is the process that it was, though it cannot be read any more."""
    families.resolve(usage({WORKER_0: 0.5}))
    end(proc, SERVER)
    families.watch([SERVER])
    proc.process(SERVER, 0, start=99, ppid=1)
    proc.process(WORKER_1, 0, start=100, ppid=SERVER)

    assert families.resolve(usage({WORKER_0: 0.5, WORKER_1: 0.25}, 9 * SECOND)).shares == {SERVER: 0.5, WORKER_1: 0.25}


def test_a_process_is_looked_at_once_a_second(proc: Proc, families: Families) -> None:
    """Eight GPUs name the same process several times a second: in between its number is taken for it."""
    families.resolve(usage({WORKER_0: 0.5}, SECOND))
    proc.process(WORKER_0, 0, start=99, ppid=STRANGER)

    assert families.resolve(usage({WORKER_0: 0.5}, SECOND + RECHECK_NS - 1)).shares == {SERVER: 0.5}
    assert families.resolve(usage({WORKER_0: 0.5}, SECOND + RECHECK_NS)).shares == {WORKER_0: 0.5}


def test_ancestors_are_followed_so_far_and_no_further(proc: Proc) -> None:
    """A chain without an end, or one that bites its tail, ends all the same."""
    first, last = 1000, 1000 + MOST_LEVELS + 1
    for pid in range(first, last + 1):
        proc.process(pid, 0, start=pid, ppid=pid - 1)
    proc.process(first, 0, start=first, ppid=last)
    for pid, ppid in ((5000, 5001), (5001, 5000)):
        proc.process(pid, 0, start=5, ppid=ppid)
    families = Families(str(proc.root))
    families.watch([first])

    resolved = families.resolve(usage({last - 1: 0.25, last: 0.125, 5000: 0.5}))

    assert resolved.shares == {first: 0.25, last: 0.125, 5000: 0.5}


def test_only_so_many_processes_are_remembered(proc: Proc, families: Families, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine that starts processes without end costs no memory without end; the least used is forgotten."""
    monkeypatch.setattr(families_module, "MOST_KNOWN", 2)
    for pid in (WORKER_0, WORKER_1, WORKER_0, STRANGER):
        families.resolve(usage({pid: 0.5}))
    end(proc, WORKER_0, WORKER_1)

    assert families.resolve(usage({WORKER_0: 0.25}, 9 * SECOND)).shares == {SERVER: 0.25}
    assert families.resolve(usage({WORKER_1: 0.25}, 9 * SECOND)).shares == {WORKER_1: 0.25}


def test_the_hosts_usage_and_all_other_records_go_through_as_they_are(families: Families) -> None:
    """Only an accelerator's usage names processes that were not added up yet."""
    taken: list[Emitted] = []
    records: list[Emitted] = [
        usage({WORKER_0: 0.5}, device=HOST),
        Reading(1, "gpu-0", 5),
        Condition(1, "gpu-0"),
        Event(1, EventKind.READ_FAILURE),
    ]
    put = families.before(taken.append)

    for record in [*records, usage({WORKER_0: 0.5})]:
        put(record)

    assert taken == [*records, usage({SERVER: 0.5})]


STATS = st.one_of(st.binary(max_size=60), st.builds(lambda tail: b"7 (a) S " + tail, st.binary(max_size=60)))
SHARES = st.dictionaries(st.integers(0, 6), st.floats(0, 1), max_size=6)


@given(st.dictionaries(st.integers(0, 6), STATS), SHARES, st.sets(st.integers(0, 6)), st.integers(0, 5 * SECOND))
def test_whatever_stands_in_proc_no_share_is_lost(
    tmp_path_factory: pytest.TempPathFactory,
    stats: dict[int, bytes],
    shares: dict[int, float],
    watched: set[int],
    t: int,
) -> None:
    """Texts that are no status raise nothing, and the shares still sum to what they were."""
    root = tmp_path_factory.mktemp("proc")
    for pid, text in stats.items():
        (root / str(pid)).mkdir()
        (root / str(pid) / "stat").write_bytes(text)
    families = Families(str(root))
    families.watch(watched)

    resolved = families.resolve(usage(shares, t))

    assert sum(resolved.shares.values()) == pytest.approx(sum(shares.values()))
    assert not set(shares) & watched - set(resolved.shares)


GRANDPARENT = """
import subprocess, sys
child = "import subprocess, sys; p = subprocess.Popen(['cat']); print(p.pid, flush=True); p.wait()"
subprocess.run([sys.executable, "-c", child])
"""


@pytest.fixture
def grandchild() -> Iterator[tuple[int, int, subprocess.Popen[str]]]:
    """A process of ours, its grandchild, and its handle."""
    if not Path("/proc/self/stat").exists():
        pytest.skip("this system has no /proc")
    with ExitStack() as stack:
        process = stack.enter_context(
            subprocess.Popen(
                [sys.executable, "-c", GRANDPARENT], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
            )
        )
        assert process.stdout is not None
        yield process.pid, int(process.stdout.readline()), process


def test_a_real_grandchild_is_its_grandparents(grandchild: tuple[int, int, subprocess.Popen[str]]) -> None:
    """Over the real /proc, with a name in brackets and all, and after the end of them all."""
    server, worker, process = grandchild
    families = Families("/proc")
    families.watch([server])

    assert families.resolve(usage({worker: 0.5, 1: 0.25})).shares == {server: 0.5, 1: 0.25}
    assert process.stdin is not None
    process.stdin.close()  # cat ends, then its parent, then the server
    process.wait()
    assert not Path(f"/proc/{worker}/stat").exists()
    assert families.resolve(usage({worker: 0.5}, 9 * SECOND)).shares == {server: 0.5}
