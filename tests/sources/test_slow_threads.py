"""The thread of a slow source: it starts late, hangs, and ends."""

import threading
from functools import partial

from inferwatt.records import Device
from inferwatt.sources.slow import Sample, Samples, SlowDevice, SlowPoller, slow_source
from inferwatt.units import NS_PER_SECOND

SECOND = NS_PER_SECOND
PATIENCE_SECONDS = 20.0


def test_finding_a_source_starts_no_thread() -> None:
    """It starts with the first read: what is found again and closed costs nothing."""
    before = threading.active_count()
    source = slow_source("bmc", Device("server"), lambda: None, SECOND)
    source.close()

    assert threading.active_count() == before


def test_who_only_looked_says_farewell_too() -> None:
    """Without a thread the one who closes does it; where nothing was asked there is nothing to say."""
    farewells: list[str] = []
    looked, unasked = (
        slow_source("bmc", Device(name), lambda: None, SECOND, finish=partial(farewells.append, name))
        for name in ("looked", "unasked")
    )
    looked.look()
    for source in (looked, unasked, looked):
        source.close()

    assert farewells == ["looked"]


class Asked:
    """A real poll on a real thread, held until the test lets it go."""

    def __init__(self) -> None:
        self.began = threading.Event()
        self.go_on = threading.Event()
        self.finished = threading.Event()

    def poll(self) -> Sample:
        """Wait for the test."""
        self.began.set()
        assert self.go_on.wait(PATIENCE_SECONDS)
        return Sample(power_mw=5000, t_ns=7)


def test_a_poll_that_hangs_holds_up_neither_reads_nor_the_end() -> None:
    """Reads come back with nothing, close comes back at once, and the thread ends when its poll does."""
    asked = Asked()
    source = slow_source("bmc", Device("server"), asked.poll, SECOND, finish=asked.finished.set)
    first = source.read(1)
    assert asked.began.wait(PATIENCE_SECONDS)
    thread = next(thread for thread in threading.enumerate() if thread.name == "inferwatt-bmc")
    second = source.read(2)
    source.close()
    source.close()
    still_hangs = thread.is_alive()
    asked.go_on.set()
    thread.join(PATIENCE_SECONDS)

    assert (first, second) == (None, None)
    assert (still_hangs, thread.daemon, thread.is_alive()) == (True, True, False)
    assert asked.finished.is_set()


def test_a_thread_that_waits_for_its_next_poll_ends_with_the_last_device() -> None:
    """The first close leaves the other device its samples; the second ends the thread, which says farewell."""
    polled = threading.Event()
    finished = threading.Event()

    def poll() -> Samples:
        polled.set()
        return {}

    poller = SlowPoller("bmc-2", poll, 3600 * SECOND, finish=finished.set)
    views = [SlowDevice(poller, Device(name)) for name in ("gpu-0", "gpu-1")]
    views[0].read(1)
    assert polled.wait(PATIENCE_SECONDS)
    thread = next(thread for thread in threading.enumerate() if thread.name == "inferwatt-bmc-2")
    views[0].close()
    views[0].close()
    lives_on = thread.is_alive()
    views[1].close()
    thread.join(PATIENCE_SECONDS)

    assert (lives_on, thread.is_alive(), finished.is_set()) == (True, False, True)


def test_a_farewell_that_fails_is_counted() -> None:
    """Nobody waits for its answer."""
    polled = threading.Event()

    def poll() -> Samples:
        polled.set()
        return {}

    def farewell() -> None:
        raise OSError("the network is gone")

    poller = SlowPoller("bmc-3", poll, SECOND, finish=farewell)
    view = SlowDevice(poller, Device("server"))
    view.read(1)
    assert polled.wait(PATIENCE_SECONDS)
    thread = next(thread for thread in threading.enumerate() if thread.name == "inferwatt-bmc-3")
    view.close()
    thread.join(PATIENCE_SECONDS)

    assert poller.errors == 1
