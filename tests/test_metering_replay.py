"""A replay of what an agent recorded is what it settled, to the bit."""

from pathlib import Path
from tempfile import TemporaryDirectory

from hypothesis import given
from hypothesis import strategies as st

from inferwatt.metering import Metering
from inferwatt.recording import RecordingWriter
from inferwatt.records import Event, EventKind, Fit, Model, Phase, Step, Sums
from inferwatt.replay import replay
from tests.test_metering import MS, SECOND, SERVER, build, request, run

MOMENTS = st.lists(
    st.sampled_from(["open", "end", "gone", "unload", "seen", "sums", "run", "idle", "late"]), max_size=12
)


def _tell(metering: Metering, moment: str, t_ns: int, names: list[str]) -> None:
    match moment:
        case "open":
            names.append(f"r{len(names)}")
            metering.request(request(names[-1], t_ns / SECOND, None))
        case "end" if names:
            metering.request(request(names[-1], 0, t_ns / SECOND, prompt_tokens=5, output_tokens=9))
        case "gone":
            metering.producer_gone("p", t_ns)
        case "unload":
            metering.feed(Event(t_ns, EventKind.MODEL_UNLOAD, engine="llamacpp:1"))
        case "seen":
            metering.engine_seen(SERVER, Model("m"), [8], t_ns)
            metering.feed(Event(t_ns, EventKind.MODEL_LOAD, engine="llamacpp:1"))
        case "sums":
            metering.feed(Sums(t_ns - SECOND, t_ns, "llamacpp:1", 5, 0, 5, 1))
        case "late":
            member = (names[-1] if names else "unheard of", 1, 10, Phase.DECODE)
            metering.feed(Step(t_ns - 2 * SECOND, t_ns - SECOND, "llamacpp:1", (member,)))


def _recorded(folder: Path, moments: list[str], fits: tuple[Fit, ...]) -> Metering:
    writer = RecordingWriter(folder)
    metering = build(recorder=writer, hold_ns=300 * MS, fits=fits)
    names: list[str] = []
    for second, moment in enumerate(moments):
        _tell(metering, moment, second * SECOND, names)
        run(metering, 0.9, shares={} if moment == "idle" else {7: 0.5, 8: 0.1}, other=0.2, start=second)
    metering.finish()
    writer.close()
    return metering


@given(MOMENTS)
def test_a_replay_of_what_was_recorded_says_the_same(moments: list[str]) -> None:
    """Whatever happened, replaying the recording of it gives each request and device what the meter gave, exactly.

    So it is for a meter that begins with what another has learnt.
    """
    fits: tuple[Fit, ...] = ()
    for _ in range(2):
        with TemporaryDirectory() as name:
            metering = _recorded(Path(name), moments, fits)
            final = metering.take().final()
            again = replay(Path(name))

        assert [(r.request, e) for r, e in again.requests] == [(r.request, e) for r, e in final]
        assert {d.device: totals.accounts() for d, totals in again.devices} == metering.device_totals
        assert again.rejected == ()
        fits = metering.fits()
