from typing import Any

import pytest

from inferwatt.books import Books
from inferwatt.metering import Metering
from inferwatt.recording import Meta, Record
from inferwatt.records import (
    Activity,
    Component,
    Device,
    Engine,
    Event,
    EventKind,
    Fit,
    Model,
    Outcome,
    Provenance,
    Reading,
    Request,
    Sums,
    Usage,
)
from inferwatt.settled import Settled

SECOND = 1_000_000_000
MS = 1_000_000
CPU = Device("cpu", component=Component.CPU, provenance=Provenance.MODELLED, idle_watts=0.0)
GPU = Device("gpu-0")
SERVER = Engine("llamacpp:1", "m", server="llamacpp:1", kind="llamacpp")
DROPPED, ENERGY = "inferwatt_records_dropped_total", "inferwatt_energy_joules_total"
OWN = "inferwatt_agent_energy_joules_total"


class Recorder:
    """A recorder in memory, whose disk may fill."""

    def __init__(self, room: int = 10**9) -> None:
        self.records: list[Record] = []
        self.metas: list[Meta] = []
        self.room = room

    def write(self, record: Record) -> None:
        """Keep a record while there is room."""
        self._take_room()
        self.records.append(record)

    def write_meta(self, meta: Meta) -> None:
        """Keep what the recording says of itself while there is room."""
        self._take_room()
        self.metas.append(meta)

    def _take_room(self) -> None:
        self.room -= 1
        if self.room < 0:
            raise OSError(28, "No space left on device")


def build(*devices: Device, recorder: Any = None, hold_ns: int = 0, fits: tuple[Fit, ...] = ()) -> Metering:
    """Return a meter of a server whose processes are 7 and 8, beside inferwatt itself, process 99."""
    metering = Metering(Books(), hold_ns=hold_ns, recorder=recorder, meta=Meta(fits=fits))
    for device in devices or (CPU,):
        metering.add_device(device)
    metering.own_process(99)
    metering.engine_seen(SERVER, Model("m"), [7, 8], 0, "b1")
    return metering


def run(metering: Metering, seconds: float, *, shares: dict[int, float], other: float = 0, start: float = 0) -> None:
    """Read a CPU of 100 W each 100 ms, with these shares of it."""
    first, last = round(start * 10), round((start + seconds) * 10)
    for i in range(first, last + 1):
        t_ns = i * 100 * MS
        if i > first:
            metering.feed(Usage(t_ns - 100 * MS, t_ns, "cpu", shares, other))
        metering.feed(Reading(t_ns, "cpu", counter_uj=i * 10_000_000))


def request(name: str, start: float, end: float | None, **more: Any) -> Request:
    """Return a request to the server, its times in seconds."""
    values = {"engine": "llamacpp:1", "model": "alias", "producer": "p", **more}
    end_ns = None if end is None else round(end * SECOND)
    return Request(name, arrival_ns=round(start * SECOND), end_ns=end_ns, **values)


def accounts(metering: Metering) -> dict[str, float]:
    """Return the CPU's accounts in joules, after the law was checked."""
    found = dict(metering.device_totals["cpu"])
    assert found.pop("measured") == sum(found.values())
    return {name: uj / 1e6 for name, uj in found.items() if uj}


def test_processes_are_joined_with_the_engines_that_they_serve() -> None:
    """Shares of an engine's processes are the engine's, those of all others are other processes'."""
    recorder = Recorder()
    metering = build(recorder=recorder)

    metering.feed(Usage(0, 5, "cpu", {7: 0.25, 8: 0.125, 99: 0.0625, 1234: 0.5}, other_ratio=0.0625))

    assert recorder.records[-1] == Activity(0, 5, "cpu", {"llamacpp:1": 0.375}, 0.625)
    assert metering.pids == {7, 8, 99}


def test_a_server_that_comes_back_has_its_new_processes_only() -> None:
    """After a restart the old processes are strangers; a process belongs to the engine that was seen with it last."""
    recorder = Recorder()
    metering = build(recorder=recorder)

    metering.engine_seen(SERVER, None, [9], 5)
    metering.engine_seen(Engine("llamacpp:2", "n", server="llamacpp:2"), None, [9, 10], 6)
    metering.feed(Usage(0, 5, "cpu", {7: 0.25, 9: 0.125, 10: 0.25}, other_ratio=0.0))

    assert recorder.records[-1] == Activity(0, 5, "cpu", {"llamacpp:2": 0.375}, 0.25)


def test_a_requests_joules_are_its_servers_share() -> None:
    """A request on the CPU has what its server's processes used, others have theirs, to the microjoule."""
    metering = build()
    metering.request(request("r", 0, 2))

    run(metering, 2, shares={7: 0.5, 8: 0.25}, other=0.25)
    metering.finish()

    settled = metering.take()
    [(_, energy)] = settled.requests
    assert energy.energy_uj == pytest.approx(150e6)
    assert accounts(metering) == pytest.approx({"requests": 150.0, "other": 50.0})
    assert sum(tick.energy_uj for tick in settled.ticks) == sum(metering.books.values[ENERGY].values()) == 200_000_000
    assert metering.take() == Settled()


def test_a_model_has_the_name_that_its_server_gives_it() -> None:
    """Whatever a client calls the model, its requests are the engine's; without one, the client's word stands."""
    metering = build()
    metering.engine_seen(Engine("sdk:5", "", server="sdk", kind="sdk"), None, [5], 0)
    metering.request(request("r", 0, None))
    metering.request(request("local", 0, None, engine="sdk:5"))

    assert {r.request: r.model for r in metering.open_requests()} == {"r": "m", "local": "alias"}


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (request("done", 0, 1), "duplicate"),
        (request("r", 2, 1), "end_before_start"),
        (request("r", 0, 1, engine="nobody"), "unknown_engine"),
        (Reading(1, "gpu-9", 5), "unknown_device"),
    ],
)
def test_what_cannot_be_is_counted_by_its_reason(bad: Any, reason: str) -> None:
    """A record that does not fit is dropped under a fixed word, is not recorded, and hinders nothing."""
    recorder = Recorder()
    metering = build(recorder=recorder)
    metering.request(request("done", 0, 1))
    before = list(recorder.records)

    assert not (metering.request(bad) if isinstance(bad, Request) else metering.feed(bad))
    assert metering.books.values[DROPPED] == {(reason,): 1}
    assert recorder.records == before


def test_a_lost_producers_open_requests_end_as_aborted() -> None:
    """What a dead process left open ends when it was last heard; others' requests go on."""
    metering = build()
    metering.request(request("left", 0, None))
    metering.request(request("young", 1.8, None))
    metering.request(request("done", 0, 1, outcome=Outcome.FINISHED))
    metering.request(request("other", 0, None, producer="q"))

    metering.producer_gone("p", round(1.5 * SECOND))
    run(metering, 3, shares={7: 1.0})

    final = metering.take().requests
    ends = {r.request: (r.outcome, r.end_ns) for r, _ in final}
    aborted, finished = Outcome.ABORTED, Outcome.FINISHED
    assert ends == {"left": (aborted, 1.5 * SECOND), "young": (aborted, 1.8 * SECOND), "done": (finished, SECOND)}
    assert [r.request for r in metering.open_requests()] == ["other"]


def test_the_meters_own_energy_is_counted() -> None:
    """What inferwatt itself used is counted apart, and is contained in what other processes used."""
    metering = build()

    run(metering, 2, shares={7: 0.5, 99: 0.125}, other=0.375)
    metering.finish()
    metering.take()

    assert accounts(metering)["other"] == pytest.approx(100.0)
    assert metering.books.values[OWN] == {("modelled",): pytest.approx(25e6, rel=0.06)}


@pytest.mark.parametrize("room", [0, 12])
def test_a_full_disk_ends_the_recording_and_not_the_meter(room: int) -> None:
    """From the first record that cannot be kept nothing is recorded, that is said and counted, and all is metered."""
    recorder = Recorder(room)
    metering = build(recorder=recorder)

    run(metering, 2, shares={7: 1.0})
    metering.finish()

    assert metering.recorder_error == "No space left on device"
    assert metering.books.values[DROPPED] == {("recording",): 1}
    assert len(recorder.records) + len(recorder.metas) == room
    assert sum(accounts(metering).values()) == 200.0


def test_those_who_watch_processes_hear_of_each_engine() -> None:
    """Whoever samples processes is told when there are others to watch; a model's load is an event, once."""
    heard: list[int] = []
    recorder = Recorder()
    metering = Metering(Books(), recorder=recorder, on_engine=lambda: heard.append(1))
    metering.engine_seen(SERVER, None, [7], 5)
    metering.engine_seen(SERVER, None, [8], 6)

    assert len(heard) == 2
    assert recorder.records == [Event(5, EventKind.MODEL_LOAD, engine="llamacpp:1", detail="m")]


def test_what_a_server_counts_itself_reaches_the_books() -> None:
    """Sums of a known server's page are its tokens, where no record says more."""
    metering = build()
    metering.feed(Sums(0, SECOND, "llamacpp:1", 10, 0, 5))
    metering.feed(Sums(0, SECOND, "nobody", 10, 0, 5))
    metering.books.reconcile(60 * SECOND, {})

    assert metering.books.values["inferwatt_output_tokens_total"] == {("m", "llamacpp:1"): 5}


def test_an_open_request_has_a_figure_and_is_known_until_it_is_final() -> None:
    """Joules of an open request can be asked for at any time; a final one is not known any more."""
    metering = build()
    metering.request(request("r", 0, None))
    run(metering, 1, shares={7: 1.0})
    energy = metering.energy("r")
    assert energy is not None
    assert not energy.final
    assert energy.energy_uj == pytest.approx(100e6)

    metering.request(request("r", 0, 1))
    assert metering.energy("r") is not None
    run(metering, 0.1, shares={7: 1.0}, start=1.1)
    assert metering.energy("r") is None
