"""What becomes of an NVIDIA counter, whatever it and its driver do: by the real binding, the stand-in, the timeline."""

from collections.abc import Callable

import pynvml
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from inferwatt.attribution.timeline import Tick, TickKind, Timeline
from inferwatt.errors import SourceGone, SourceRetry
from inferwatt.records import Event, EventKind, Reading
from inferwatt.sources.nvml import NvmlGpu

from .gpus import MS, SECOND, Machine, machine_of, nvml_library, parts

__all__ = ["machine_of", "nvml_library"]

pytestmark = pytest.mark.real
MachineOf = Callable[[int], Machine]
WATTS = 700
PASSING = st.sampled_from([10, 19, 21, 27, 999])
BEATS = st.lists(
    st.one_of(
        st.tuples(st.just("grow"), st.integers(0, WATTS * 100)),  # mJ in 100 ms: standing still up to the limit
        st.tuples(st.just("reset"), st.integers(0, WATTS * 100)),
        st.tuples(st.just("jump"), st.integers(10**9, 2**60)),
        st.tuples(st.just("fail"), PASSING),
    ),
    max_size=40,
)


@pytest.fixture
def machine(machine_of: MachineOf) -> Machine:
    """A machine with one GPU, the same for every example of a law."""
    return machine_of(1)


class Watched:
    """A GPU whose readings go into a timeline, one each 100 ms."""

    def __init__(self, machine: Machine, gpu: NvmlGpu) -> None:
        self.page = machine.gpus[0]
        self.page.energy_mj = 5_000_000
        self.gpu = gpu
        self.timeline = Timeline(gpu.device)
        self.ticks: list[Tick] = []
        self.now_ns = SECOND
        self.beat()

    def beat(self) -> None:
        """Read once."""
        self.now_ns += 100 * MS
        try:
            reading, _, _ = parts(self.gpu.read(self.now_ns))
        except SourceRetry as exc:
            self.timeline.failed(Event(self.now_ns, EventKind.READ_FAILURE, detail=exc.what))
            return
        assert reading is not None
        tick = self.timeline.add(reading)
        if tick is not None:
            self.ticks.append(tick)

    def does(self, what: str, value: int) -> None:
        """Let one thing happen, and read."""
        if what == "grow":
            self.page.energy_mj += value
        elif what == "reset":
            self.page.energy_mj = value
        elif what == "jump":
            self.page.energy_mj += value
        else:
            self.page.lose(value)
        self.beat()
        self.page.come_back()

    def kinds(self) -> list[EventKind]:
        """Return what was noticed."""
        return [event.kind for event in self.timeline.events]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=200)
@given(beats=BEATS)
def test_no_story_of_a_counter_makes_a_joule_that_no_gpu_could_draw(
    machine: Machine, beats: list[tuple[str, int]]
) -> None:
    """Grown, stood still, fallen, jumped, not read: each tick is within what the limit allows, and none is negative."""
    watched = Watched(machine, machine.only())
    for what, value in beats:
        watched.does(what, value)
    watched.gpu.close()

    assert all(tick.energy_uj >= 0 for tick in watched.ticks)
    spent_uj = sum(tick.energy_uj for tick in watched.ticks)
    elapsed_seconds = (watched.now_ns - SECOND) / SECOND
    assert spent_uj <= 1.5 * WATTS * (elapsed_seconds + 0.1 * len(watched.ticks)) * 1e6
    assert EventKind.WRAP not in watched.kinds()
    failures = sum(what == "fail" for what, _ in beats)
    assert watched.kinds().count(EventKind.READ_FAILURE) == failures


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=100)
@given(grown=st.lists(st.tuples(st.integers(0, WATTS * 100), st.booleans()), min_size=1, max_size=40))
def test_a_counter_that_only_grows_is_told_to_the_last_millijoule(
    machine: Machine, grown: list[tuple[int, bool]]
) -> None:
    """Reads that fail in between lose nothing: the next tick bridges them, and says so."""
    watched = Watched(machine, machine.only())
    for energy_mj, fails in grown:
        watched.page.energy_mj += energy_mj
        if fails:
            watched.page.lose(pynvml.NVML_ERROR_TIMEOUT)
        watched.beat()
        watched.page.come_back()
    watched.beat()
    watched.gpu.close()

    assert sum(tick.energy_uj for tick in watched.ticks) == sum(energy_mj for energy_mj, _ in grown) * 1000
    assert EventKind.RESET not in watched.kinds()


def test_a_counter_that_begins_anew_is_a_reset_and_what_follows_is_counted(machine: Machine) -> None:
    """A driver loaded anew: no 2^64 wrap is made of it, and no negative joule."""
    watched = Watched(machine, machine.only())
    watched.does("grow", 30_000)
    watched.does("reset", 20)
    watched.does("grow", 30_000)

    assert [(tick.energy_uj, tick.kind) for tick in watched.ticks] == [
        (30_000_000, TickKind.NORMAL),
        (20_000, TickKind.RESET),
        (30_000_000, TickKind.NORMAL),
    ]
    assert watched.kinds() == [EventKind.RESET]


def test_a_counter_that_stands_still_is_a_stall(machine: Machine) -> None:
    """Nothing is made up meanwhile; when it moves again the tick says that it was bridged."""
    watched = Watched(machine, machine.only())
    watched.does("grow", 30_000)
    for _ in range(30):
        watched.beat()
    watched.does("grow", 900_000)

    assert watched.kinds() == [EventKind.STALL]
    assert [tick.kind for tick in watched.ticks] == [TickKind.NORMAL, TickKind.BRIDGED]


def test_a_counter_that_is_not_supported_any_more_ends_the_device(machine: Machine) -> None:
    """It is looked for again, and may then be read by its power, which has another provenance."""
    watched = Watched(machine, machine.only())
    watched.page.answer("nvmlDeviceGetTotalEnergyConsumption", pynvml.NVML_ERROR_NOT_SUPPORTED)

    with pytest.raises(SourceGone):
        watched.beat()


def test_a_gpu_that_is_read_by_its_power_adds_it_up(machine: Machine) -> None:
    """A line between two samples: 300 W for half a second, then from 300 to 500 W."""
    machine.gpus[0].answer("nvmlDeviceGetTotalEnergyConsumption", pynvml.NVML_ERROR_NOT_SUPPORTED)
    gpu = machine.only()
    timeline, ticks = Timeline(gpu.device), []
    for step, power_mw in enumerate((300_000, 300_000, 500_000)):
        machine.gpus[0].page.instant_mw = power_mw
        reading, _, _ = parts(gpu.read(SECOND + step * SECOND // 2))
        assert isinstance(reading, Reading)
        ticks.append(timeline.add(reading))

    assert [tick.energy_uj for tick in ticks if tick] == [150_000_000, 200_000_000]
