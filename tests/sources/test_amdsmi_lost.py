"""AMD GPUs that hang, fall off the bus and come back, and counters that are wrong."""

import os
import threading
import time
from collections.abc import Callable
from types import ModuleType

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inferwatt.clock import SystemClock
from inferwatt.errors import SourceRetry
from inferwatt.records import Event, EventKind, Reading
from inferwatt.sources import Emitted, SourcesConfig
from inferwatt.sources.amdsmi import discover
from inferwatt.sources.amdsmi_binding import AmdSmi, load
from inferwatt.sources.asking import answer_of
from inferwatt.sources.sampler import REDISCOVER_NS, Sampler
from inferwatt.testing import FakeClock
from inferwatt.units import NS_PER_SECOND
from tests.doubles.amd_smi import NONE16, NONE64, PAGE, Page
from tests.doubles.amd_sysfs import MI210, AmdSysfs

from .amd import Search, amd_library, amdsmi, in_tuple, page, search, tree
from .trees import read

__all__ = ["amd_library", "amdsmi", "page", "search", "tree"]

pytestmark = pytest.mark.real


def test_a_counter_that_stands_still_under_load_is_told(page: Page, tree: AmdSysfs, search: Search) -> None:
    """The reading is what the counter says, never smoothed; one event names the figures and the setting that helps."""
    tree.card("0000:c1:00.0", MI210)
    page.add("0000:c1:00.0", current_watts=NONE16, average_watts=305, socket_watts=305)
    source = search.one()

    said = [record for t in range(30) for record in in_tuple(source, t * NS_PER_SECOND) if isinstance(record, Event)]

    (event,) = said
    assert (event.t_ns, event.kind, event.device) == (10 * NS_PER_SECOND, EventKind.READ_FAILURE, "gpu-0")
    assert event.detail.startswith("the energy counter stands still while the power sensor says 305 W: set")
    assert "sources.amdsmi.use_counter = false" in event.detail
    assert read(source, 1).counter_uj == 65_536_000_000


def test_a_counter_that_agrees_with_the_sensor_is_left_in_peace(page: Page, tree: AmdSysfs, search: Search) -> None:
    """305 W by both."""
    tree.card("0000:c1:00.0")
    page.add("0000:c1:00.0", current_watts=305, step=305 << 16)
    source = search.one()

    assert [
        record for t in range(30) for record in in_tuple(source, t * NS_PER_SECOND) if isinstance(record, Event)
    ] == []


class Sampled:
    """A machine of three GPUs under the sampler, upon a clock that the test moves from one search to the next."""

    def __init__(self, page: Page, tree: AmdSysfs, search: Search) -> None:
        self.numbers = []
        for bus in ("c1", "c6", "c9"):
            tree.card(f"0000:{bus}:00.0")
            self.numbers.append(page.add(f"0000:{bus}:00.0", step=1000))
        self.said: list[Emitted] = []
        self._clock = FakeClock()
        self.sampler = Sampler(
            search.found().sources, None, self._clock, self.said.append, rediscover=lambda: search.found().sources
        )

    def beat(self) -> set[str]:
        """Read all and search; return what was read."""
        self.said.clear()
        self._clock.advance(REDISCOVER_NS)
        self.sampler.poll(self._clock.monotonic_ns())
        return {record.device for record in self.said if isinstance(record, Reading)}

    def events(self) -> list[tuple[EventKind, str]]:
        """Return what happened in the last beat."""
        return [(record.kind, record.device) for record in self.said if isinstance(record, Event)]


ALL, OTHERS = {"gpu-0", "gpu-1", "gpu-2"}, {"gpu-0", "gpu-2"}


def test_a_gpu_that_is_lost_and_back_is_found_again(page: Page, tree: AmdSysfs, search: Search) -> None:
    """Of three GPUs the second falls off and comes back, under its own name: the others are read all the time."""
    machine = Sampled(page, tree, search)

    assert machine.beat() == ALL
    page.set(machine.numbers[1], status=31)
    assert machine.beat() == OTHERS
    assert machine.events() == [(EventKind.DEVICE_GONE, "gpu-1")]
    assert machine.beat() == OTHERS
    page.set(machine.numbers[1], status=0)
    machine.beat()
    assert machine.beat() == ALL
    machine.sampler.stop()


def test_a_gpu_that_only_a_new_look_shows_is_found_by_one(page: Page, tree: AmdSysfs, search: Search) -> None:
    """The library looks for GPUs when it is initialised: it is, once, and all the others get handles that work."""
    machine = Sampled(page, tree, search)
    machine.beat()

    page.set(machine.numbers[1], since_init=2)
    assert machine.beat() == OTHERS
    machine.beat()

    assert machine.beat() == ALL
    assert machine.events() == []
    assert (page["inits"], page["shutdowns"]) == (2, 1)
    machine.sampler.stop()
    assert page["shutdowns"] == 2


def test_a_library_is_not_initialised_anew_at_each_search(page: Page, tree: AmdSysfs, search: Search) -> None:
    """A GPU that does not come back is looked for so at the 1st, 2nd, 4th and 8th search: it may take a second."""
    machine = Sampled(page, tree, search)
    machine.beat()

    page.set(machine.numbers[1], since_init=99)
    for _ in range(12):
        assert machine.beat() == OTHERS

    assert page["inits"] == 1 + 4
    machine.sampler.stop()


def test_a_new_look_that_fails_is_told_by_every_gpu(page: Page, tree: AmdSysfs, search: Search) -> None:
    """Without the driver nothing is read and no handle of before is used; once it is back, all are found by name."""
    machine = Sampled(page, tree, search)
    machine.beat()

    page.set(machine.numbers[1], since_init=2)
    page["init_status"] = 34
    machine.beat()
    machine.beat()
    assert machine.beat() == set()
    page["init_status"] = 0
    machine.beat()

    assert machine.beat() == ALL
    machine.sampler.stop()


def test_a_call_that_hangs_does_not_hold_up_the_other_gpus(page: Page, tree: AmdSysfs, search: Search) -> None:
    """No lock is held while the library is asked: the next thread reads the others while one call still hangs.

    A search asks nothing of that GPU, and does not initialise the library under its call.
    """
    for bus in ("c1", "c6"):
        tree.card(f"0000:{bus}:00.0")
        page.add(f"0000:{bus}:00.0")
    library = load()
    assert isinstance(library, AmdSmi)
    second = threading.Event()
    said: list[Emitted] = []

    def emit(record: Emitted) -> None:
        said.append(record)
        if isinstance(record, Reading) and record.device == "gpu-1":
            second.set()

    clock = SystemClock()
    sampler = Sampler(search.found().sources, None, clock, emit)
    page.set(0, hang=1)
    asked = page.get(0, "calls")
    sampler.start()
    wait_for(lambda: page.get(0, "calls") > asked)
    sampler.check(clock.monotonic_ns() + 2 * NS_PER_SECOND)

    assert second.wait(PATIENCE_SECONDS)
    assert [(e.kind, e.device) for e in said if isinstance(e, Event)] == [(EventKind.READ_FAILURE, "gpu-0")]
    sampler.stop()
    page.set(1, since_init=2)
    for _ in range(2):
        found = answer_of(search.found, too_late=print, patience_seconds=PATIENCE_SECONDS)
        assert [source.device.device for source in found.sources] == ["gpu-1"]
    assert (page.get(0, "calls"), page["inits"]) == (asked + 1, 1)
    page.set(0, hang=0)
    wait_for(lambda: not library.in_flight())
    assert len(search.found().sources) == 2
    assert page["inits"] == 2


def test_a_new_look_that_hangs_holds_up_nobody(page: Page, tree: AmdSysfs, search: Search) -> None:
    """Meanwhile a read is a lost sample at once, and a GPU can be closed; afterwards the others are read."""
    for bus in ("c1", "c6"):
        tree.card(f"0000:{bus}:00.0")
        page.add(f"0000:{bus}:00.0")
    first, second = search.found().sources
    library = load()
    assert isinstance(library, AmdSmi)

    page["init_hang"] = 1
    look = threading.Thread(target=library.restart, daemon=True)
    look.start()
    wait_for(lambda: page["inits"] == 2)
    with pytest.raises(SourceRetry, match="the library is initialised anew"):
        first.read(1)
    first.close()
    assert not library.restart()
    page["init_hang"] = 0
    look.join(PATIENCE_SECONDS)

    assert read(second, 2).counter_uj == 65_536_000_000


def wait_for(happens: Callable[[], bool]) -> None:
    """Wait until it happens; for a real thread, whose end of a call nobody is told of."""
    end = time.monotonic() + PATIENCE_SECONDS
    while not happens():
        assert time.monotonic() < end
        time.sleep(0.001)


PATIENCE_SECONDS = 30.0
COUNTS = st.integers(min_value=0, max_value=2**64 - 1)


@given(st.lists(COUNTS, min_size=1, max_size=20))
def test_whatever_it_counts_is_read_or_lost(
    amdsmi: ModuleType, tmp_path_factory: pytest.TempPathFactory, counts: list[int]
) -> None:
    """Resets, jumps and "not there" pass the real package as they are: a reading is the count, or there is none."""
    folder = tmp_path_factory.mktemp("law")
    os.environ[PAGE] = str(folder / "page")
    page, tree = Page(folder / "page", amdsmi), AmdSysfs(folder)
    tree.card("0000:c1:00.0")
    gpu = page.add("0000:c1:00.0")
    (source,) = discover(SourcesConfig(sysfs_root=str(folder))).sources

    for number, count in enumerate(counts):
        page.set(gpu, accumulator=count)
        try:
            shown = read(source, number).counter_uj
        except SourceRetry:
            shown = None
        assert shown == (None if count in {0xFFFFFFFF, NONE64} else count * 10**6 // 2**16)
    source.close()
    page.close()
