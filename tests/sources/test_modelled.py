"""The modelled CPU: exact sums, the table's rows, and this machine."""

import time
from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inferwatt.errors import SourceRetry
from inferwatt.records import Component, Provenance
from inferwatt.sources import Found, SourcesConfig
from inferwatt.sources.coefficients import AMD, INTEL, Coefficients, Cpu, microarchitecture
from inferwatt.sources.modelled import ModelledCpu, PsutilTime, discover, identify
from inferwatt.sources.procfs import TICK_NS

from .trees import Dmi, Proc, cpuinfo, read

TABLE = Coefficients("Zen 5", 353_385, 1_976_562, 0.59, known=True)


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
    proc.cpuinfo(cpuinfo(AMD, 26, 2))
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


def test_an_unknown_processor_is_named_as_a_lack(tmp_path: Path) -> None:
    """Who has one learns that the interval is wide, and which numbers to report."""
    Proc(tmp_path).cpuinfo(cpuinfo("CentaurHauls", 7, 59, cpus=2))

    result = discover(SourcesConfig(proc_root=str(tmp_path)))

    assert result.sources[0].device.kind == "unknown CPU, 2 logical CPUs"
    assert result.lacks[0].where == "CentaurHauls family 7 model 59 a processor"


def instance(root: Path, product_name: str, text: str) -> Found:
    """Return what is found on an instance of Amazon's of this type, with this /proc/cpuinfo."""
    root.mkdir(exist_ok=True)
    Proc(root).cpuinfo(text)
    Dmi(root).says(sys_vendor="Amazon EC2", product_name=product_name)
    return discover(SourcesConfig(sysfs_root=str(root), proc_root=str(root)))


def test_the_instance_type_tells_a_processor_that_cpuid_does_not(tmp_path: Path) -> None:
    """An m7i is a Sapphire Rapids, which is what it is called, with the cloud's name beside it."""
    result = instance(tmp_path, "m7i.large", cpuinfo(INTEL, 6, 1, cpus=2))

    assert result.sources[0].device.kind == "Sapphire Rapids, 2 logical CPUs, Amazon EC2 m7i.large"
    assert result.lacks == ()


def test_cpuid_stands_over_the_instance_type(tmp_path: Path) -> None:
    """What this very machine has is not what a list says of its kind."""
    assert instance(tmp_path, "m7i.large", cpuinfo(INTEL, 6, 0xCF)).sources[0].device.kind.startswith("Emerald Rapids")


def test_a_logical_cpu_that_is_a_whole_core_costs_two_threads(tmp_path: Path) -> None:
    """An m7a shows one CPU for each core of a Zen 4; an m6a of the same size, one for each thread of a Zen 3."""
    whole = instance(tmp_path / "whole", "m7a.large", cpuinfo(AMD, 25, 17, cpus=2)).sources[0].device
    single = instance(tmp_path / "thread", "m6a.large", cpuinfo(AMD, 25, 1, cpus=2)).sources[0].device

    assert (whole.idle_watts, whole.max_watts) == (4 * 0.331250, 4 * 1.864583)
    assert (single.idle_watts, single.max_watts) == (2 * 0.421875, 2 * 1.828125)


def test_a_gpu_that_cannot_be_seen_is_a_lack_and_no_joules(tmp_path: Path) -> None:
    """Between its idle power and its limit is no figure: a p5 whose GPUs a container does not show."""
    result = instance(tmp_path, "p5.48xlarge", cpuinfo(AMD, 25, 1))

    assert [source.device.component for source in result.sources] == [Component.CPU]
    assert [(lack.component, lack.source) for lack in result.lacks] == [(Component.ACCELERATOR, "modelled")]
    assert "Amazon EC2 p5.48xlarge has NVIDIA H100" in result.lacks[0].what


@pytest.mark.parametrize(
    ("vendor", "kind", "lacks"),
    [("0x10de", "0x030200", 0), ("0x1002", "0x120000", 0), ("0x10de", "0x040300", 1), ("0x1013", "0x030000", 1)],
)
def test_a_gpu_on_the_bus_is_its_own_sources_matter(tmp_path: Path, vendor: str, kind: str, lacks: int) -> None:
    """That source says why it is not read; an audio function or a console's graphics is no accelerator."""
    function = tmp_path / "bus" / "pci" / "devices" / "0000:53:00.0"
    function.mkdir(parents=True)
    (function / "vendor").write_text(f"{vendor}\n")
    (function / "class").write_text(f"{kind}\n")

    assert len(instance(tmp_path, "p5.48xlarge", cpuinfo(AMD, 25, 1)).lacks) == lacks


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
    result = discover(SourcesConfig(cloud_metadata=False))
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
