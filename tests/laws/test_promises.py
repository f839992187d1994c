"""What the attribution promises of time and memory, in the time of its records."""

import tracemalloc

import pytest

from inferwatt.attribution.attributor import Attributor
from inferwatt.books import Books
from inferwatt.metering import Metering
from inferwatt.records import Device, Engine, Outcome, Phase, Reading, Request, RequestEnergy, Step

MS = 1_000_000
SECOND = 1_000_000_000
OPEN = 100_000


def opened(attributor: Attributor, count: int) -> None:
    """Open so many requests, a microsecond apart."""
    for number in range(count):
        attributor.request(Request(f"r{number}", "e0", "m", arrival_ns=number * 1000, prompt_tokens=10))


def test_memory_is_bounded_by_what_is_open() -> None:
    """An open request takes under 2 KB, and when 100,000 have ended as many are opened anew in the same memory."""
    tracemalloc.start()
    try:
        attributor = Attributor()
        attributor.add_device(Device("gpu-0"))
        attributor.add_engine(Engine("e0", "m", ("gpu-0",)))
        taken = []
        for turn in range(2):
            opened(attributor, OPEN)
            taken.append(tracemalloc.get_traced_memory()[0])
            for number in range(OPEN):
                end_ns = (turn + 1) * SECOND
                attributor.request(Request(f"r{number}", "e0", "m", end_ns=end_ns, outcome=Outcome.FINISHED))
            for second in range(20):
                attributor.advance((turn * 20 + second) * SECOND)
    finally:
        tracemalloc.stop()

    print(f"\n{OPEN} open requests: {taken[0] / 1e6:.0f} MB, {taken[1] / 1e6:.0f} MB the second time")  # noqa: T201
    assert taken[0] < OPEN * 2000
    assert taken[1] < 1.1 * taken[0]


@pytest.mark.parametrize("period_ms", [20, 100])
def test_figures_come_while_a_request_runs_and_are_final_soon_after(period_ms: int) -> None:
    """Provisional within 200 ms where costs are learnt, final within 2 s of the end, and then never changed."""
    meter = Metering(Books())
    meter.add_device(Device("gpu-0"))
    meter.engine_seen(Engine("e0", "m", ("gpu-0",)), None, frozenset(), 0, "")
    first_seen_ns = final_ns = None
    finals: list[RequestEnergy] = []
    begin_ns, end_ns = 2 * SECOND, 4 * SECOND
    meter.request(Request("r", "e0", "m", arrival_ns=begin_ns))
    for beat in range(500):
        t_ns = beat * 20 * MS
        if t_ns < end_ns:
            name = "r" if t_ns >= begin_ns else "earlier"
            meter.feed(Step(t_ns, t_ns + 20 * MS, "e0", ((name, 1, beat, Phase.DECODE),)))
        if t_ns == end_ns:
            meter.request(Request("r", "e0", "m", arrival_ns=begin_ns, end_ns=end_ns, outcome=Outcome.FINISHED))
        shown_ns = t_ns // (period_ms * MS) * period_ms * MS
        meter.feed(Reading(t_ns, "gpu-0", counter_uj=shown_ns * 300 // 1000))
        known = meter.energy("r")
        if known is not None and known.parts:
            first_seen_ns = first_seen_ns or t_ns
            if t_ns < end_ns:  # 300 W, all of it: what runs now is not far behind
                assert known.energy_uj == pytest.approx(300 * (t_ns - begin_ns) / 1000, rel=0.1, abs=15e6)
                assert known.low_uj <= 300 * (t_ns - begin_ns) / 1000 + 15e6
        ended = [energy for record, energy in meter.take().requests if record.request == "r"]
        finals += ended
        if ended:
            final_ns = t_ns

    assert first_seen_ns is not None
    assert first_seen_ns - begin_ns <= 200 * MS
    assert final_ns is not None
    assert final_ns - end_ns <= 2 * SECOND
    assert len(finals) == 1
