"""Who used a GPU, by the real binding over a stand-in for the driver's library."""

from collections.abc import Callable, Iterator

import pynvml
import pytest

from inferwatt.records import Usage
from inferwatt.sources.nvml import NvmlGpu

from .gpus import MS, SECOND, Machine, machine_of, nvml_library, parts

__all__ = ["machine_of", "nvml_library"]

pytestmark = pytest.mark.real
MachineOf = Callable[[int], Machine]
BEGIN_NS = 5 * SECOND


def usages(gpu: NvmlGpu, until_ns: int, *, since_ns: int = BEGIN_NS) -> Iterator[Usage]:
    """Read ten times a second and yield the shares that come."""
    for now_ns in range(since_ns, until_ns + 1, 100 * MS):
        _, usage, _ = parts(gpu.read(now_ns))
        if usage is not None:
            yield usage


def test_who_used_the_gpu_is_told_by_pid_and_who_only_holds_it_too(machine_of: MachineOf) -> None:
    """From the last answer to this one; an idle holder stands at 0, and nothing is left for others."""
    machine = machine_of(1)
    machine.gpus[0].hold(77, 88)
    gpu = machine.only()
    gpu.read(BEGIN_NS)
    machine.gpus[0].sampled(900_000_000, {77: 60})

    (usage,) = usages(gpu, BEGIN_NS + 200 * MS)

    assert usage == Usage(BEGIN_NS, BEGIN_NS + 200 * MS, "gpu-0", {77: 0.6, 88: 0.0}, 0.0)


def test_the_history_of_before_is_nobodys_now(machine_of: MachineOf) -> None:
    """What the driver remembers from before the first look is not counted into it."""
    machine = machine_of(1)
    machine.gpus[0].hold(77)
    machine.gpus[0].sampled(800_000_000, {77: 100})
    gpu = machine.only()

    assert [usage.shares for usage in usages(gpu, BEGIN_NS + SECOND)] == [{77: 0.0}]


def test_windows_follow_each_other_without_a_gap(machine_of: MachineOf) -> None:
    """Whatever the driver's samples do, each window begins where the last one ended, at most five a second."""
    machine = machine_of(1)
    machine.gpus[0].hold(77)
    gpu = machine.only()
    seen = list(usages(gpu, BEGIN_NS + SECOND))
    for step in range(1, 12):
        machine.gpus[0].sampled(900_000_000 + step * 166_667, {77: 50})
        since_ns = BEGIN_NS + SECOND + step * 200 * MS - 100 * MS
        seen += usages(gpu, since_ns + 100 * MS, since_ns=since_ns)

    assert [usage.t0_ns for usage in seen[1:]] == [usage.t1_ns for usage in seen[:-1]]
    assert len(seen) == 12
    assert min(usage.t1_ns - usage.t0_ns for usage in seen) == 200 * MS


def test_a_second_without_samples_is_a_second_in_which_nobody_did_anything(machine_of: MachineOf) -> None:
    """NOT_FOUND is an answer: holders stand at 0, and are not forgotten."""
    machine = machine_of(1)
    machine.gpus[0].hold(77)

    seen = list(usages(machine.only(), BEGIN_NS + 3 * SECOND))

    assert [(usage.t1_ns - usage.t0_ns, usage.shares, usage.unknown_ratio) for usage in seen] == [
        (SECOND, {77: 0.0}, 0.0)
    ] * 3


def test_use_of_no_believable_process_is_unknown(machine_of: MachineOf) -> None:
    """A zombie's sample of a pid that cannot be, or of more than all, is nobody's: it is not spread."""
    machine = machine_of(1)
    machine.gpus[0].hold(77)
    gpu = machine.only()
    gpu.read(BEGIN_NS)
    machine.gpus[0].sampled(900_000_000, {77: 30, 4_294_967_295: 40})

    (usage,) = usages(gpu, BEGIN_NS + 200 * MS)

    assert usage.shares == {77: pytest.approx(0.3)}
    assert usage.unknown_ratio == pytest.approx(0.4)


def test_use_of_more_than_all_is_unknown(machine_of: MachineOf) -> None:
    """A sample of 250% says that something is wrong, not who it was."""
    machine = machine_of(1)
    gpu = machine.only()
    gpu.read(BEGIN_NS)
    machine.gpus[0].sampled(900_000_000, {77: 250})

    (usage,) = usages(gpu, BEGIN_NS + 200 * MS)

    assert (usage.shares, usage.unknown_ratio) == ({}, 1.0)


def test_a_burst_after_quiet_seconds_is_not_spread_over_them(machine_of: MachineOf) -> None:
    """Windows in which nobody did anything were told already: what comes then belongs to its own window."""
    machine = machine_of(1)
    machine.gpus[0].sampled(899_000_000, {77: 10})
    gpu = machine.only()
    gpu.read(BEGIN_NS)
    for step in range(1, 6):
        machine.gpus[0].sampled(899_000_000 + step * 200_000, {77: 10})
    busy = list(usages(gpu, BEGIN_NS + 200 * MS))
    quiet = list(usages(gpu, BEGIN_NS + 3200 * MS, since_ns=BEGIN_NS + 300 * MS))
    machine.gpus[0].sampled(899_000_000 + 5 * 200_000 + 3_200_000, {77: 100})

    (burst,) = usages(gpu, BEGIN_NS + 3400 * MS, since_ns=BEGIN_NS + 3400 * MS)

    assert len(busy) == 1
    assert [usage.shares for usage in quiet] == [{}, {}, {}]
    assert burst.shares[77] > 0.9


@pytest.mark.parametrize(
    ("pids", "shares", "unknown"), [((), {}, 0.4), ((77,), {77: 0.4}, 0.0), ((77, 88), {77: 0.0, 88: 0.0}, 0.4)]
)
def test_without_samples_of_processes_only_one_alone_can_be_told(
    machine_of: MachineOf, pids: tuple[int, ...], shares: dict[int, float], unknown: float
) -> None:
    """The GPU's own utilisation belongs to its only process; of two nobody can say whose it was."""
    machine = machine_of(1)
    machine.gpus[0].answer("nvmlDeviceGetProcessUtilization", pynvml.NVML_ERROR_NOT_SUPPORTED)
    machine.gpus[0].hold(*pids)

    (usage,) = usages(machine.only(), BEGIN_NS + SECOND)

    assert (usage.shares, usage.unknown_ratio) == (shares, unknown)


def test_without_any_view_all_use_is_unknown(machine_of: MachineOf) -> None:
    """No samples, no lists, no utilisation: the joules end as unattributed, and are not guessed."""
    machine = machine_of(1)
    for call in pynvml_calls("Utilization") | pynvml_calls("RunningProcesses"):
        machine.gpus[0].answer(call, pynvml.NVML_ERROR_NO_PERMISSION)

    (usage,) = usages(machine.only(), BEGIN_NS + SECOND)

    assert (usage.shares, usage.unknown_ratio) == ({}, 1.0)


def pynvml_calls(part: str) -> set[str]:
    """Return the calls of the stand-in whose name has this part."""
    from tests.doubles.nvml import CALLS

    return {call for call in CALLS if part in call}


def test_a_view_that_fails_is_not_asked_again_for_a_minute(machine_of: MachineOf) -> None:
    """After it, samples of the time in between are not counted into one window."""
    machine = machine_of(1)
    machine.gpus[0].hold(77)
    machine.gpus[0].answer("nvmlDeviceGetProcessUtilization", pynvml.NVML_ERROR_UNKNOWN)
    gpu = machine.only()
    assert len(list(usages(gpu, BEGIN_NS + 59 * SECOND))) == 59
    assert machine.gpus[0].calls("nvmlDeviceGetProcessUtilization") == 1
    machine.gpus[0].answer("nvmlDeviceGetProcessUtilization", 0)
    machine.gpus[0].sampled(900_000_000, {77: 100})

    later = list(usages(gpu, BEGIN_NS + 63 * SECOND, since_ns=BEGIN_NS + 59 * SECOND + 100 * MS))

    assert [usage.shares for usage in later] == [{77: 0.4}, {77: 0.0}, {77: 0.0}, {77: 0.0}]


def test_a_device_goes_on_though_its_lists_fail(machine_of: MachineOf) -> None:
    """Who holds the GPU is not known then; who used it is."""
    machine = machine_of(1)
    for call in pynvml_calls("RunningProcesses"):
        machine.gpus[0].answer(call, pynvml.NVML_ERROR_UNKNOWN)
    gpu = machine.only()
    gpu.read(BEGIN_NS)
    machine.gpus[0].sampled(900_000_000, {77: 60})

    (usage,) = usages(gpu, BEGIN_NS + 200 * MS)

    assert usage.shares == {77: 0.6}
