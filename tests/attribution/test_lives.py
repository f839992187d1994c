from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inferwatt.attribution.lives import FAR_NS, Life, Lives, Rates, computed_tokens, tier_of
from inferwatt.attribution.rebuild import Span
from inferwatt.attribution.work import Shape
from inferwatt.records import Request, Tier

SECOND = 1_000_000_000
TIMES = st.integers(0, 100 * SECOND)
TOKENS = st.none() | st.integers(0, 5000)


def request(name: str, start: float, end: float | None, first: float | None = None, **more: Any) -> Request:
    """Return a request, its times in seconds."""
    return Request(
        name,
        arrival_ns=round(start * SECOND),
        end_ns=None if end is None else round(end * SECOND),
        first_token_ns=None if first is None else round(first * SECOND),
        **more,
    )


def life(record: Request, slot: int = 0) -> Life:
    """Return the life of a request."""
    return Life(record, slot, Tier.REQUEST_SPAN)


@st.composite
def lives(draw: st.DrawFn) -> list[Life]:
    """Any requests, open and ended, in any order."""
    found = []
    for slot in range(draw(st.integers(0, 8))):
        arrival_ns = draw(TIMES)
        end_ns = draw(st.none() | st.integers(arrival_ns, 120 * SECOND))
        first_ns = draw(st.none() | st.integers(arrival_ns, end_ns or 120 * SECOND))
        record = Request(
            f"r{slot}", arrival_ns=arrival_ns, first_token_ns=first_ns, end_ns=end_ns,
            prompt_tokens=draw(TOKENS), cached_tokens=draw(TOKENS), output_tokens=draw(TOKENS),
        )  # fmt: skip
        found.append(life(record, slot))
    return found


@given(lives(), st.lists(TIMES, min_size=2, max_size=6).map(sorted))
def test_who_is_present_is_who_lives_then(known: list[Life], times: list[int]) -> None:
    """In each stretch of time, asked in order, exactly those are present whose life overlaps it."""
    kept = Lives()
    for one in known:
        kept.add(one)

    for t0_ns, t1_ns in pairwise(times):
        expected = {one.slot for one in known if one.record.arrival_ns < t1_ns and one.end_ns > t0_ns}
        assert {one.slot for one in kept.present(t0_ns, t1_ns)} == expected


@given(lives(), st.lists(TIMES, min_size=1, max_size=4).map(sorted))
def test_each_life_ends_once(known: list[Life], times: list[int]) -> None:
    """Every request is handed out once, as soon as its end is settled; the open ones at the very end."""
    kept = Lives()
    for one in known:
        kept.add(one)
    ended: list[int] = []
    for t_ns in times:
        ended += [one.slot for one in kept.ended(t_ns)]
        assert sorted(ended) == [one.slot for one in known if one.end_ns <= t_ns and one.record.arrival_ns < t_ns]
    ended += [one.slot for one in kept.ended(FAR_NS)]

    assert sorted(ended) == [one.slot for one in known]


def span(kept: Lives, one: Life, now_ns: int) -> Span:
    """Return the span that is supposed of a request, without what of its prompt filled up a step of others."""
    return kept.spans([one], now_ns)[-1]


def teach_pace(kept: Lives) -> None:
    """Teach a step of a hundredth of a second, and a thousand tokens of prompts in a second."""
    kept.shape = Shape(flops_per_token=1e9)
    for chunks in range(20):
        kept.pace.passes(20, chunks * 1e12, chunks, (20 - chunks) * 0.01 + chunks)


@given(lives(), TIMES, st.booleans())
def test_a_span_lies_within_its_request(known: list[Life], now_ns: int, paced: bool) -> None:
    """What is supposed of a request's course never leaves its time, and its phases are in order."""
    kept = Lives()
    if paced:
        teach_pace(kept)
    for one in known:
        kept.rates.learn(one.record)
    for one in known:
        supposed = span(kept, one, now_ns)
        end_ns = FAR_NS if one.record.end_ns is None else one.record.end_ns

        assert one.record.arrival_ns <= supposed.start_ns <= supposed.first_ns <= supposed.end_ns == end_ns
        earlier = one.earlier or supposed
        assert one.record.arrival_ns <= earlier.start_ns <= earlier.first_ns <= earlier.end_ns
        assert min(supposed.computed_tokens, earlier.computed_tokens) >= 0
        assert supposed.decode_tokens_per_second >= 0


def test_an_open_requests_span_is_looked_at_anew() -> None:
    """While a request is open its span may change with what is learnt; once it has ended it stands."""
    kept, one = Lives(), life(request("r", 1, None, prompt_tokens=100))
    before = span(kept, one, 2 * SECOND)
    for _ in range(8):
        kept.rates.learn(request("other", 0, 3, first=2, prompt_tokens=20, output_tokens=11))

    after = span(kept, one, 2 * SECOND)
    assert before.first_ns == 1 * SECOND
    assert after.first_ns == 11 * SECOND  # a tenth of a second for each of its 100 tokens

    one.record, one.span = request("r", 1, 5, first=2, prompt_tokens=100, output_tokens=4), None
    assert span(kept, one, 6 * SECOND) is span(kept, one, 7 * SECOND)


def test_a_wait_in_a_queue_is_no_prefill() -> None:
    """A first token that came much later than its prompt takes was queued for: prefill starts late."""
    kept = Lives()
    for _ in range(8):
        kept.rates.learn(request("quick", 0, 2, first=1, prompt_tokens=100, output_tokens=2))

    queued = span(kept, life(request("queued", 0, 20, first=10, prompt_tokens=100, output_tokens=11)), 0)

    assert queued.start_ns == 8.5 * SECOND
    assert queued.decode_tokens_per_second == pytest.approx(1.0)


def test_the_rest_of_a_step_is_filled_by_the_next_prompt() -> None:
    """Of a prompt that is more work than the time it had alone, a part was computed in the step of the one before."""
    kept = Lives()
    teach_pace(kept)
    first = life(request("first", 0, 3, first=2, prompt_tokens=1000, output_tokens=2), 0)
    second = life(request("second", 0.5, 4, first=3, prompt_tokens=1500, output_tokens=2), 1)

    spans = kept.spans([first, second], 5 * SECOND)

    assert [one.slot for one in spans] == [0, 1, 1]
    part, rest = spans[1:]
    assert (part.first_ns, part.end_ns, rest.start_ns) == (2 * SECOND, 2 * SECOND, 2 * SECOND)
    assert part.computed_tokens + rest.computed_tokens == 1500
    assert rest.cached_tokens == part.computed_tokens > 0


def test_prefill_that_nobody_saw_is_supposed_by_what_tokens_cost() -> None:
    """Without a first token the time is parted by the tokens' prices: a prompt token costs a tenth at first."""
    unseen = span(Lives(), life(request("r", 0, 10, prompt_tokens=100, output_tokens=11)), 0)

    assert unseen.first_ns == 5 * SECOND


def test_rates_are_learnt_from_seen_first_tokens_only() -> None:
    """An open request, or one whose first token nobody saw, teaches nothing."""
    rates = Rates()
    rates.learn(request("open", 0, None, first=1, prompt_tokens=100))
    rates.learn(request("unseen", 0, 2, prompt_tokens=100, output_tokens=50))

    assert (rates.decode_tokens_per_second, rates.prompt_tokens) == (0.0, 0.0)
    assert rates.tokens_per_second == 20.0
    assert rates.prompt_token_price == 0.1


def test_the_first_lesson_is_believed_the_others_pull() -> None:
    """Decode and prompts follow their first example at once and later ones by a tenth."""
    rates = Rates()
    rates.learn(request("a", 0, 3, first=1, prompt_tokens=100, output_tokens=21))
    rates.learn(request("b", 0, 3, first=1, prompt_tokens=200, output_tokens=41))

    assert rates.decode_tokens_per_second == pytest.approx(11.0)
    assert rates.prompt_tokens == pytest.approx(110.0)


def test_prefill_is_learnt_from_those_that_did_not_queue() -> None:
    """Of eight times to first token the lower quartile stands; short prompts tell nothing."""
    rates = Rates()
    for wait in (1, 1, 2, 9, 9, 9, 9):
        rates.learn(request("r", 0, 20, first=wait, prompt_tokens=100, output_tokens=1))
    rates.learn(request("short", 0, 20, first=1, prompt_tokens=15, output_tokens=1))
    assert rates.prefill_seconds_per_token is None

    rates.learn(request("r", 0, 20, first=9, prompt_tokens=100, output_tokens=1))
    assert rates.prefill_seconds_per_token == pytest.approx(0.02)


def test_a_prompt_token_never_costs_more_than_an_output_token() -> None:
    """The learnt price is the time of one against the time of the other, at most one."""
    slow, quick = Rates(), Rates()
    for rates, first in ((slow, 100.0), (quick, 0.5)):
        for _ in range(8):
            rates.learn(request("r", 0, first + 1, first=first, prompt_tokens=100, output_tokens=11))

    assert slow.prompt_token_price == 1.0
    assert quick.prompt_token_price == pytest.approx(0.05)


@pytest.mark.parametrize(
    ("prompt", "cached", "expected"), [(None, 5, None), (10, None, 10), (10, 4, 6), (10, 40, 0), (0, 0, 0)]
)
def test_cached_tokens_are_not_computed(prompt: int | None, cached: int | None, expected: int | None) -> None:
    """What was computed is the prompt without the cached part, never negative, unknown where the prompt is."""
    assert computed_tokens(Request("r", prompt_tokens=prompt, cached_tokens=cached)) == expected


def test_a_tier_is_not_better_than_what_is_known() -> None:
    """A first token makes a request reconstructible, unless less may be known."""
    seen, unseen = request("r", 0, 2, first=1), request("r", 0, 2)

    assert tier_of(seen, Tier.STEP_EXACT) is Tier.STEP_RECONSTRUCTED
    assert tier_of(unseen, Tier.STEP_EXACT) is Tier.REQUEST_SPAN
    assert tier_of(seen, Tier.TOKEN_SHARE) is Tier.TOKEN_SHARE


def test_work_may_end_after_the_requests_end() -> None:
    """A request whose last step ends later than itself lives until that."""
    one = life(request("r", 0, 2))
    one.last_step_end_ns = 3 * SECOND

    assert one.end_ns == 3 * SECOND
    assert life(request("open", 0, None)).end_ns == FAR_NS


def test_a_request_that_was_forgotten_was_at_work_all_the_same() -> None:
    """Whether anybody worked in a time is known of open, coming and forgotten requests."""
    kept = Lives()
    for slot, record in enumerate((request("done", 1, 2), request("open", 5, None), request("coming", 8, None))):
        kept.add(life(record, slot))
    assert [one.record.request for one in kept.ended(3 * SECOND)] == ["done"]

    at_work = [kept.worked(t * SECOND, (t + 1) * SECOND) for t in (0, 1, 2, 4, 5, 8)]
    assert at_work == [False, True, False, False, True, True]


def test_open_requests_are_counted_at_a_moment() -> None:
    """A request is at work from its arrival until before its end."""
    kept = Lives()
    kept.add(life(request("r", 1, 2)))
    assert [kept.coming_before(t * SECOND) for t in (1, 2)] == [False, True]

    assert [kept.open_at(t * SECOND) for t in (1, 2)] == [1, 0]
    assert not kept.coming_before(9 * SECOND)
