"""Who used a GPU that is cut into instances."""

from collections.abc import Callable

import pynvml
import pytest

from inferwatt.records import Usage
from inferwatt.sources.nvml import NvmlGpu
from tests.doubles.nvml import Gpu

from .gpus import MS, SECOND, Machine, machine_of, nvml_library, parts

__all__ = ["machine_of", "nvml_library"]

pytestmark = pytest.mark.real
MachineOf = Callable[[int], Machine]


def sliced(machine: Machine, *slices: int, gpm: bool = True) -> Gpu:
    """Return the first GPU, cut into instances of these sizes; instance n is held by pid 100 * n."""
    gpu = machine.gpus[0]
    gpu.slice_into(*slices)
    gpu.page.gpm = int(gpm)
    for at in range(len(slices)):
        gpu.hold(100 * (at + 1), instance=(at + 1, 0))
    return gpu


def run(gpu: NvmlGpu, page: Gpu, seconds: int, *activity: float, since: int = 1) -> list[Usage]:
    """Read ten times a second while each instance is so active; return the shares that came."""
    seen = []
    for step in range(seconds * 10):
        for at, ratio in enumerate(activity):
            page.page.instances[at].elapsed_ns += 100 * MS
            page.page.instances[at].busy_ns += round(ratio * 100 * MS)
        _, usage, _ = parts(gpu.read(since * SECOND + step * 100 * MS))
        if usage is not None:
            seen.append(usage)
    return seen


def test_an_instance_uses_its_slices_times_its_activity(machine_of: MachineOf) -> None:
    """Four of seven slices at a half, two of seven at all: the idle rest is nobody's."""
    machine = machine_of(1)
    page = sliced(machine, 4, 2)

    usage = run(machine.only(), page, 6, 0.5, 1.0)[-1]

    assert usage.shares == pytest.approx({100: 2 / 7, 200: 2 / 7})
    assert (usage.other_ratio, usage.unknown_ratio) == (0.0, 0.0)


def test_until_every_instance_was_seen_nobody_can_say(machine_of: MachineOf) -> None:
    """Instances are looked at one at a time: a look-up is slow, and the sampler waits for it."""
    machine = machine_of(1)
    page = sliced(machine, 4, 2)

    first, second, *_ = run(machine.only(), page, 4, 0.5, 1.0)

    assert first.unknown_ratio == 1.0
    assert first.shares == {100: 0.0, 200: 0.0}
    assert second.unknown_ratio == pytest.approx(6 / 7)  # the first of two samples of an activity
    looked = page.calls("nvmlDeviceGetMigDeviceHandleByIndex")
    assert looked == 7 + 2


def test_two_processes_of_one_instance_cannot_be_told_apart(machine_of: MachineOf) -> None:
    """The other instance's process keeps its own."""
    machine = machine_of(1)
    page = sliced(machine, 4, 2)
    page.hold(101, instance=(1, 0))

    usage = run(machine.only(), page, 6, 0.5, 1.0)[-1]

    assert usage.shares == pytest.approx({100: 0.0, 101: 0.0, 200: 2 / 7})
    assert usage.unknown_ratio == pytest.approx(2 / 7)


def test_an_active_instance_that_nobody_is_seen_to_hold_is_unknown(machine_of: MachineOf) -> None:
    """A process in another pid namespace may not be listed."""
    machine = machine_of(1)
    page = sliced(machine, 4)
    page.page.process_count = 0

    usage = run(machine.only(), page, 6, 0.5)[-1]

    assert usage.shares == {}
    assert usage.unknown_ratio == pytest.approx(2 / 7)


def test_before_hopper_all_of_it_is_unknown(machine_of: MachineOf) -> None:
    """An A100 has no activity of instances: nothing is smeared over them by their size."""
    machine = machine_of(1)
    page = sliced(machine, 4, 2, gpm=False)

    usage = run(machine.only(), page, 6, 0.5, 1.0)[-1]

    assert (usage.shares, usage.unknown_ratio) == ({100: 0.0, 200: 0.0}, 1.0)


def test_a_gpu_of_instances_that_nobody_holds_is_idle(machine_of: MachineOf) -> None:
    """Nothing is unknown where there is nobody, though activity cannot be read."""
    machine = machine_of(1)
    page = sliced(machine, 4, gpm=False)
    page.page.process_count = 0

    assert run(machine.only(), page, 6, 0.0)[-1].unknown_ratio == 0.0


def test_without_a_view_of_the_whole_gpu_each_instance_is_asked(machine_of: MachineOf) -> None:
    """An agent without rights sees the processes of its own instances."""
    machine = machine_of(1)
    page = sliced(machine, 4, 2)
    page.page.hides_processes = 1

    usage = run(machine.only(), page, 6, 0.5, 1.0)[-1]

    assert usage.shares == pytest.approx({100: 2 / 7, 200: 2 / 7})


def test_an_instance_whose_activity_fails_is_unknown_by_its_size(machine_of: MachineOf) -> None:
    """GPM may need rights: only what cannot be told is not told."""
    machine = machine_of(1)
    page = sliced(machine, 4, 2)
    page.answer("nvmlGpmMigSampleGet", pynvml.NVML_ERROR_NO_PERMISSION)

    usage = run(machine.only(), page, 6, 0.5, 1.0)[-1]

    assert usage.shares == {100: 0.0, 200: 0.0}
    assert usage.unknown_ratio == pytest.approx(6 / 7)


def test_an_instance_that_is_destroyed_and_one_that_is_made_are_noticed(machine_of: MachineOf) -> None:
    """Within one round of looking, one index a second."""
    machine = machine_of(1)
    page = sliced(machine, 4, 2)
    gpu = machine.only()
    run(gpu, page, 4, 0.5, 1.0)
    page.page.instances[0].exists = 0
    page.page.instances[1].slices = 3
    page.page.process_count = 0
    page.hold(200, instance=(2, 0))

    usage = run(gpu, page, 9, 0.0, 1.0, since=5)[-1]

    assert usage.shares == pytest.approx({200: 3 / 7})


def test_mig_that_is_turned_off_ends_in_samples_of_processes(machine_of: MachineOf) -> None:
    """And on again: what is asked follows the GPU's mode."""
    machine = machine_of(1)
    page = sliced(machine, 4)
    gpu = machine.only()
    run(gpu, page, 4, 0.5)
    page.page.mig = 0
    page.page.process_count = 0
    page.hold(100)
    run(gpu, page, 2, 0.0, since=5)
    page.sampled(900_000_000, {100: 70})

    usage = run(gpu, page, 1, 0.0, since=7)[-1]

    assert 0 < usage.shares[100] <= 0.7
    assert usage.unknown_ratio == 0.0
