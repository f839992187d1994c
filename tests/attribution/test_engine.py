from typing import Any

import pytest

from inferwatt.attribution.engine import EngineState
from inferwatt.attribution.lag import MOST_NS
from inferwatt.attribution.slots import SlotTable
from inferwatt.attribution.steptime import StepTime
from inferwatt.attribution.timeline import Tick
from inferwatt.attribution.work import Work
from inferwatt.errors import RecordRejected
from inferwatt.records import Engine, Model, Phase, Request, Step, Sums, Tier

SECOND = 1_000_000_000
MODEL = Model("m", weight_bytes=1e9, flops_per_token=2e9, attention_flops_per_token_pair=1e5, kv_bytes_per_token=1e5)


class Bench:
    """One engine and its accounts."""

    def __init__(self, best_tier: Tier = Tier.STEP_EXACT) -> None:
        self.engine = EngineState(Engine("e0", "m", ("gpu-0",)), MODEL, True, best_tier)
        self.slots = SlotTable()

    def request(self, name: str, start: float, end: float | None, first: float | None = None, **more: Any) -> None:
        """Take a request, its times in seconds."""
        end_ns, first_ns = (None if t is None else round(t * SECOND) for t in (end, first))
        record = Request(name, "e0", arrival_ns=round(start * SECOND), end_ns=end_ns, first_token_ns=first_ns, **more)
        self.engine.add_request(record, self.slots)

    def step(self, start: float, end: float, *members: tuple[str, int, int, Phase]) -> None:
        """Take a step, its times in seconds."""
        self.engine.add_step(Step(round(start * SECOND), round(end * SECOND), "e0", members), self.slots)

    def members(self, start: float, end: float) -> dict[str, float]:
        """Return the FLOPs of each request at work in a stretch of seconds."""
        work = self.engine.work(round(start * SECOND), round(end * SECOND))
        names = {life.slot: life.record.request for life in self.slots.lives()}
        found: dict[str, float] = {}
        for slot, flops in zip(work.slot.tolist(), work.flops.tolist(), strict=True) if work else ():
            found[names[slot]] = found.get(names[slot], 0.0) + flops
        return found

    def ended(self, at: float, *, last: bool = False) -> list[str]:
        """Return the names of those that ended by `at` seconds."""
        done = self.engine.ended(round(at * SECOND), self.slots, last=last)
        return [life.record.request for life in done]


def tick(start: float, end: float) -> Tick:
    """Return a tick from `start` to `end` seconds."""
    return Tick("gpu-0", round(start * SECOND), round(end * SECOND), 1000)


def sums(start: float, end: float, **more: Any) -> Sums:
    """Return what a server counted from `start` to `end` seconds."""
    return Sums(round(start * SECOND), round(end * SECOND), "e0", **more)


def test_steps_say_who_was_at_work() -> None:
    """Where steps are known, the work of a tick is theirs alone, in proportion to their time inside it."""
    bench = Bench()
    bench.request("waiter", 0, 4, first=1)
    bench.step(0, 2, ("a", 100, 0, Phase.PREFILL), ("b", 1, 10, Phase.DECODE))
    bench.step(2, 4, ("b", 1, 11, Phase.DECODE))

    whole, half = bench.members(0, 2), bench.members(0, 1)

    assert whole.keys() == half.keys() == {"a", "b"}
    assert whole["a"] == pytest.approx(100 * 2e9 + 1e5 * 100 * 50)
    assert half["a"] == pytest.approx(whole["a"] / 2)
    assert bench.members(2, 4).keys() == {"b"}


def test_a_steps_phases_are_kept() -> None:
    """Each member's work is marked as prefill or decode, whatever the member before it was."""
    bench = Bench()
    bench.step(0, 1, ("a", 100, 0, Phase.PREFILL), ("b", 1, 10, Phase.DECODE))
    bench.step(1, 2, ("a", 1, 100, Phase.DECODE), ("b", 1, 11, Phase.DECODE))

    work = bench.engine.work(0, 2 * SECOND)

    assert isinstance(work, Work)
    assert work.prefill.tolist() == [True, False, False, False]
    assert work.slot.tolist()[:2] == work.slot.tolist()[2:]


def test_a_tier_that_may_not_know_steps_has_none() -> None:
    """Below step_exact a step is not looked at, and requests are told apart by their times."""
    bench = Bench(Tier.STEP_RECONSTRUCTED)
    bench.step(0, 1, ("a", 1, 1, Phase.DECODE))
    assert not bench.engine.may_work(SECOND)

    bench.request("r", 0, 1, first=0.5, prompt_tokens=10, output_tokens=10)
    assert bench.members(0, 1).keys() == {"r"}


def test_an_empty_step_is_no_step() -> None:
    """A step without members does not make the engine one whose steps are known."""
    bench = Bench()
    bench.step(0, 1)
    bench.request("r", 0, 1, first=0.5)

    assert bench.members(0, 1).keys() == {"r"}


def test_an_engine_without_work_says_so_cheaply() -> None:
    """Nothing can be at work before a request arrives, nor once all are settled."""
    bench = Bench()
    bench.request("r", 1, 2, first=1.5)

    assert [bench.engine.may_work(t * SECOND) for t in (1, 2)] == [False, True]
    assert bench.members(1, 2).keys() == {"r"}
    assert bench.ended(2) == ["r"]
    assert not bench.engine.may_work(9 * SECOND)


def test_a_later_record_replaces_the_earlier_one() -> None:
    """What is known of an open request grows: its tier, tenant and times follow the newest record."""
    bench = Bench()
    bench.request("r", 0, None)
    bench.request("r", 0, 3, first=1, tenant="t")

    life = bench.slots.life("r")
    assert life is not None
    assert (life.record.tenant, life.record.model, life.tier) == ("t", "m", Tier.STEP_RECONSTRUCTED)
    assert bench.ended(3) == ["r"]


def test_a_second_end_is_refused() -> None:
    """A request that has ended is not changed by anything that comes later."""
    bench = Bench()
    bench.request("r", 0, 1, output_tokens=5)

    with pytest.raises(RecordRejected, match="has ended already"):
        bench.request("r", 0, 9, output_tokens=500)
    assert bench.ended(1) == ["r"]


def test_a_record_that_comes_after_its_steps_meets_them() -> None:
    """A member that was known from steps only keeps its account, and its tier, when its record comes."""
    bench = Bench()
    bench.step(0, 1, ("r", 1, 1, Phase.DECODE))
    before = bench.slots.life("r")
    bench.request("r", 0, 1, tenant="t")

    assert bench.slots.life("r") is before
    assert before is not None
    assert (before.tier, before.record.tenant) == (Tier.STEP_EXACT, "t")


def test_a_request_is_settled_after_its_last_step() -> None:
    """Work that goes on after the end of a request still belongs to it."""
    bench = Bench()
    bench.request("r", 0, 1, first=0.5)
    bench.step(0, 1, ("r", 1, 1, Phase.DECODE))
    bench.step(1, 2, ("r", 1, 1, Phase.DECODE))
    bench.members(0, 2)
    bench.engine.lives.present(0, 2 * SECOND)

    assert bench.ended(1.5) == []
    assert bench.ended(2) == ["r"]


def test_at_the_very_end_open_requests_are_settled_too() -> None:
    """The last call hands out everything."""
    bench = Bench()
    bench.request("open", 0, None)

    assert bench.ended(9) == []
    assert bench.ended(9, last=True) == ["open"]


def test_work_is_told_apart_only_as_well_as_its_worst_member() -> None:
    """One request without a first token makes a tick's split that of spans; steps make it exact."""
    bench = Bench()
    bench.request("seen", 0, 2, first=1)
    assert _tier(bench) is Tier.STEP_RECONSTRUCTED

    bench.request("unseen", 0, 2)
    assert _tier(bench) is Tier.REQUEST_SPAN

    bench.step(0, 2, ("seen", 1, 1, Phase.DECODE))
    assert _tier(bench) is Tier.STEP_EXACT


def _tier(bench: Bench) -> Tier:
    assert bench.engine.work(0, 2 * SECOND) is not None
    return bench.engine.tier


def test_forgotten_steps_do_no_work() -> None:
    """Steps that no open tick can need are dropped."""
    bench = Bench()
    bench.step(0, 1, ("a", 1, 1, Phase.DECODE))
    bench.step(1, 2, ("a", 1, 1, Phase.DECODE))

    bench.engine.closed(SECOND, SECOND)
    assert len(bench.engine.steps.overlapping(0, SECOND)) == 1, "a counter may lag: its next tick may show it still"

    bench.engine.closed(SECOND + MOST_NS, SECOND + MOST_NS)
    assert bench.engine.steps.overlapping(0, SECOND) == []
    assert bench.members(1, 2).keys() == {"a"}


def counted(bench: Bench, t0_seconds: float, t1_seconds: float) -> bool:
    """Return whether the server says that it worked in that time."""
    return bench.engine.counts.worked(round(t0_seconds * SECOND), round(t1_seconds * SECOND))


def test_a_server_that_counted_nothing_did_not_work() -> None:
    """A page with tokens, or with running requests, says that the server worked in its time; an empty one does not."""
    bench = Bench()
    for second, more in enumerate(({"output_tokens": 5}, {"output_tokens": 0, "running": 0}, {"running": 1}, {})):
        bench.engine.counts.add(sums(second, second + 1, **more))

    assert [counted(bench, t, t + 1) for t in range(5)] == [True, False, True, False, False]
    assert counted(bench, 0.5, 1.5)


def test_requests_that_run_at_two_scrapes_without_a_record_are_unlisted_work() -> None:
    """One scrape may see what has just ended; what two see in a row beyond the records is a part of the work."""
    bench = Bench()
    bench.request("r", 0, 4, first=0)
    for second, running in enumerate((4, 3, 1, 4)):
        bench.engine.counts.add(sums(second, second + 1 - 1e-9, running=running))
    work = bench.engine.work(0, 4 * SECOND)
    assert work is not None

    parts = [bench.engine.counts.unlisted_part(tick(t, t + 0.5), work) for t in range(5)]

    assert parts == pytest.approx([0.0, 2 / 3, 0.0, 0.0, 0.0])  # excess: 3, 2, 0, 3


def test_unlisted_work_is_parted_by_what_its_tokens_take() -> None:
    """At first a prompt token costs a tenth of an output token; without tokens all of it is decode."""
    bench = Bench()
    bench.engine.counts.add(sums(0, 1, prompt_tokens=100, output_tokens=30))
    bench.engine.counts.add(sums(1, 2, running=1))

    assert bench.engine.counts.unlisted_prefill_ratio(tick(0, 1)) == pytest.approx(0.25)
    assert bench.engine.counts.unlisted_prefill_ratio(tick(1, 2)) == 0.0


def test_old_counts_are_forgotten() -> None:
    """What a server counted more than ten seconds before the last closed tick is dropped."""
    bench = Bench()
    bench.engine.counts.add(sums(0, 1, output_tokens=5))

    bench.engine.closed(11 * SECOND, 11 * SECOND)
    assert counted(bench, 0, 1)

    bench.engine.closed(11 * SECOND + 1, 11 * SECOND + 1)
    assert not counted(bench, 0, 1)


class Lessons(StepTime):
    """What is learnt of time, and also written down."""

    def __init__(self) -> None:
        super().__init__()
        self.step_seconds: list[float] = []
        self.own: list[float] = []

    def learn(self, flops: float, read_bytes: float, members: int, step_seconds: float, *, has_prefill: bool) -> None:
        """Write down a step's time."""
        self.step_seconds.append(step_seconds)
        super().learn(flops, read_bytes, members, step_seconds, has_prefill=has_prefill)

    def set_per_flop(self, seconds_per_flop: float) -> None:
        """Write down what prefill takes."""
        self.own.append(seconds_per_flop)
        super().set_per_flop(seconds_per_flop)


def test_steps_teach_how_long_work_takes_once_each() -> None:
    """Each step's time is taught once."""
    bench, time = Bench(), Lessons()
    bench.step(0, 0.5, ("a", 1, 1, Phase.DECODE))
    bench.step(1, 1.25, ("a", 1, 1, Phase.DECODE))

    bench.engine.teach(time)
    bench.engine.teach(time)

    assert time.step_seconds == [0.5, 0.25]


def test_without_steps_prefill_teaches_what_own_work_takes() -> None:
    """Eight seen first tokens say how long a token's work takes, per FLOP of the model's shape."""
    bench, time = Bench(), Lessons()
    bench.engine.teach(time)
    assert time.own == []

    for number in range(8):
        bench.request(f"r{number}", 0, 2, first=1, prompt_tokens=100, output_tokens=2)
    bench.engine.teach(time)

    assert time.own == pytest.approx([0.01 / 2e9])
