"""The modelled CPU: exact sums, the table's rows, and this machine."""

import re
import time
from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inferwatt.errors import SourceRetry
from inferwatt.records import Component, Provenance
from inferwatt.sources import SourcesConfig
from inferwatt.sources.coefficients import AMD, ARM, INTEL, ROWS, Coefficients, Cpu, coefficients, microarchitecture
from inferwatt.sources.modelled import ModelledCpu, PsutilTime, discover, identify
from inferwatt.sources.procfs import TICK_NS

from .trees import Proc, read

TABLE = Coefficients("Zen 5", 353_385, 1_976_562, 0.59, known=True)
CPUINFO = "processor\t: {}\nvendor_id\t: {}\ncpu family\t: {}\nmodel\t\t: {}\nmodel name\t: {}\nstepping\t: {}\n\n"


class ScriptedTime:
    """Busy time that a test sets."""

    def __init__(self) -> None:
        self.now_ns = 0
        self.closed = False

    def busy_ns(self) -> int:
        """Return what the test set."""
        return self.now_ns

    def close(self) -> None:
        """Note it."""
        self.closed = True


@given(
    st.lists(st.tuples(st.integers(0, 10**10), st.integers(0, 10**10)), max_size=40),
    st.integers(0, 10**8),
    st.integers(0, 10**8),
)
def test_the_counter_is_the_formula_to_the_microjoule_however_it_is_read(
    steps: list[tuple[int, int]], idle_uw: int, more_uw: int
) -> None:
    """Read often or seldom, no microjoule is lost to rounding: the remainder is carried."""
    host = ScriptedTime()
    source = ModelledCpu(Cpu(), 3, Coefficients("x", idle_uw, idle_uw + more_uw, 0.5, known=True), host)
    counter_uj = source.read(0).counter_uj
    now_ns = 0
    for elapsed_ns, worked_ns in steps:
        now_ns += elapsed_ns
        host.now_ns += worked_ns
        counter_uj = source.read(now_ns).counter_uj

    assert counter_uj == Fraction(3 * idle_uw * now_ns + more_uw * host.now_ns, 10**9) // 1


@given(st.lists(st.tuples(st.integers(-(10**9), 10**9), st.integers(-(10**9), 10**9)), max_size=40))
def test_the_counter_never_falls(steps: list[tuple[int, int]]) -> None:
    """Not when the kernel's count steps back, nor the clock."""
    host = ScriptedTime()
    source = ModelledCpu(Cpu(), 2, TABLE, host)
    now_ns, last_uj = 0, source.read(0).counter_uj
    for elapsed_ns, worked_ns in steps:
        now_ns += elapsed_ns
        host.now_ns += worked_ns
        counter_uj = source.read(now_ns).counter_uj
        assert last_uj is not None
        assert counter_uj is not None
        assert counter_uj >= last_uj
        last_uj = counter_uj


def test_work_that_the_kernel_takes_back_and_gives_again_is_counted_once() -> None:
    """A count that steps back and comes back brings no new work."""
    host = ScriptedTime()
    source = ModelledCpu(Cpu(), 2, TABLE, host)
    source.read(0)
    counters = []
    for busy_ns in (10**9, 4 * 10**8, 10**9):
        host.now_ns = busy_ns
        counters.append(source.read(0).counter_uj)

    assert counters == [1_976_562 - 353_385] * 3


def test_an_idle_second_and_a_busy_second_cost_what_the_table_says() -> None:
    """Two logical CPUs, idle for a second, then both busy for a second."""
    host = ScriptedTime()
    source = ModelledCpu(Cpu(), 2, TABLE, host)
    source.read(0)

    assert source.read(10**9).counter_uj == 2 * 353_385
    host.now_ns += 2 * 10**9
    assert source.read(2 * 10**9).counter_uj == 2 * 353_385 + 2 * 1_976_562
    assert (source.device.idle_watts, source.device.max_watts) == (0.70677, 3.953124)
    source.close()
    assert host.closed


def test_steal_guest_idle_and_waiting_are_not_work(tmp_path: Path) -> None:
    """Time stolen from this machine is another's, and guest time is already inside user time."""
    proc = Proc(tmp_path)
    proc.cpuinfo(CPUINFO.format(0, AMD, 26, 2, "AMD EPYC", 1))
    source = discover(SourcesConfig(proc_root=str(tmp_path))).sources[0]
    source.read(0)
    proc.host(0, idle=500, steal=500, iowait=500)
    idle_uj = read(source, 10**9).counter_uj
    proc.host(100, idle=500, steal=900, guest=100, iowait=500)

    assert idle_uj == 353_385
    assert read(source, 2 * 10**9).counter_uj == 353_385 + 353_385 + (1_976_562 - 353_385) * 100 * TICK_NS // 10**9
    (tmp_path / "stat").write_text("")
    with pytest.raises(SourceRetry, match="host's CPU time"):
        source.read(3 * 10**9)


@pytest.mark.parametrize(
    ("cpu", "expected"),
    [
        (Cpu(AMD, 26, 2), "Zen 5"),
        (Cpu(AMD, 26, 17), "Zen 5c"),
        (Cpu(AMD, 26, 68), "Zen 4/5 AM5"),
        (Cpu(AMD, 25, 97), "Zen 4/5 AM5"),
        (Cpu(AMD, 25, 160), "Zen 4c"),
        (Cpu(AMD, 25, 17), "Zen 4"),
        (Cpu(AMD, 25, 1), "Zen 3"),
        (Cpu(AMD, 23, 49), "Zen 2"),
        (Cpu(AMD, 23, 1), "Zen"),
        (Cpu(INTEL, 6, 173), "Granite Rapids"),
        (Cpu(INTEL, 6, 175), "Sierra Forest"),
        (Cpu(INTEL, 6, 207), "Emerald Rapids"),
        (Cpu(INTEL, 6, 143), "Sapphire Rapids"),
        (Cpu(INTEL, 6, 106), "Ice Lake"),
        (Cpu(INTEL, 6, 85, 11), "Cooper Lake"),
        (Cpu(INTEL, 6, 85, 7), "Cascade Lake"),
        (Cpu(INTEL, 6, 85, 4), "Skylake"),
        (Cpu(INTEL, 6, 79), "Broadwell"),
        (Cpu(INTEL, 6, 63), "Haswell"),
        (Cpu(INTEL, 6, 62), "Ivy Bridge"),
        (Cpu(INTEL, 6, 45), "Sandy Bridge"),
        (Cpu(INTEL, 6, 158, 10), "Coffee Lake"),
        (Cpu(ARM, part=0xD0C), "Neoverse N1"),
        (Cpu(INTEL, 6, 158, 9), ""),
        (Cpu(AMD, 27, 1), ""),
        (Cpu(ARM, part=0xD40), ""),
        (Cpu(), ""),
    ],
)
def test_a_processor_is_known_by_its_numbers(cpu: Cpu, expected: str) -> None:
    """Family, model and stepping name the microarchitecture; a name like "AMD EPYC" says nothing."""
    assert microarchitecture(cpu) == expected


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.microarchitecture)
def test_every_row_is_plausible_and_says_where_it_is_from(row: object) -> None:
    """Idle is less than full load, the pattern is a pattern, and there are results behind it."""
    assert row in ROWS
    entry = next(entry for entry in ROWS if entry is row)

    assert 0 < entry.idle_uw < entry.full_uw < 10_000_000
    assert entry.results >= 3
    assert re.compile(entry.match)


def test_no_bound_is_tighter_than_forty_percent() -> None:
    """However alike the servers of a row are, the model does not know the load."""
    assert min(coefficients(Cpu(AMD, 26, 2)).systematic_ratio, coefficients(Cpu()).systematic_ratio) >= 0.40


@pytest.mark.parametrize("cpu", [Cpu(AMD, 99), Cpu(INTEL, 6, 1), Cpu(ARM, part=1), Cpu()])
def test_an_unknown_processor_gets_an_interval_that_spans_the_rows(cpu: Cpu) -> None:
    """Its bounds hold every row that it could be; it is no row in disguise."""
    table = coefficients(cpu)
    rows = [row for row in ROWS if row.vendor == cpu.vendor] or ROWS

    assert not table.known
    for row in rows:
        assert abs(row.idle_uw - table.idle_uw) <= table.idle_uw * table.systematic_ratio
        assert abs(row.full_uw - table.full_uw) <= table.full_uw * table.systematic_ratio


def test_an_unknown_processor_is_named_as_a_lack(tmp_path: Path) -> None:
    """Who has one learns that the interval is wide, and which numbers to report."""
    Proc(tmp_path).cpuinfo(CPUINFO.format(0, "CentaurHauls", 7, 59, "VIA", 0) + CPUINFO.format(1, "x", 0, 0, "", 0))

    result = discover(SourcesConfig(proc_root=str(tmp_path)))

    assert result.sources[0].device.kind == "unknown CPU, 2 logical CPUs"
    assert result.lacks[0].where == "CentaurHauls family 7 model 59 VIA"


def test_a_host_without_proc_is_a_lack(tmp_path: Path) -> None:
    """Nothing to model from is said, not guessed."""
    result = discover(SourcesConfig(proc_root=str(tmp_path)))

    assert result.sources == ()
    assert "cannot be modelled" in result.lacks[0].what


def test_arm_and_windows_name_their_processors_too(tmp_path: Path) -> None:
    """Arm by part number, Windows by the text of the platform module."""
    Proc(tmp_path).cpuinfo("processor\t: 0\nCPU implementer\t: 0x41\nCPU part\t: 0xd0c\n\n")

    assert discover(SourcesConfig(proc_root=str(tmp_path))).sources[0].device.kind.startswith("Neoverse N1")
    assert microarchitecture(identify("AMD64 Family 25 Model 97 Stepping 2, AuthenticAMD")) == "Zen 4/5 AM5"
    assert identify("arm") == Cpu(name="arm")


def test_psutil_counts_the_same_work() -> None:
    """Where there is no /proc, psutil's busy time only grows."""
    pytest.importorskip("psutil")
    host = PsutilTime()

    assert 0 < host.busy_ns() <= host.busy_ns()
    host.close()


def test_this_machine_draws_between_its_idle_and_its_full_power() -> None:
    """The real /proc of this machine gives a counter that grows within the model's bounds."""
    result = discover(SourcesConfig())
    source = result.sources[0]
    first = read(source, time.monotonic_ns())
    end_ns = first.t_ns + 200_000_000
    while time.monotonic_ns() < end_ns:
        pass
    last = read(source, time.monotonic_ns())
    source.close()

    device = source.device
    assert (device.component, device.provenance) == (Component.CPU, Provenance.MODELLED)
    assert first.counter_uj == 0
    assert last.counter_uj is not None
    assert device.idle_watts is not None
    assert device.max_watts is not None
    elapsed_ns = last.t_ns - first.t_ns
    slack_ns = 4 * TICK_NS  # the kernel's count may lag or lead by a tick at either end
    assert device.idle_watts * elapsed_ns / 1e3 - 1 <= last.counter_uj
    assert last.counter_uj <= device.max_watts * (elapsed_ns + slack_ns) / 1e3
