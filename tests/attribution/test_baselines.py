import pytest
from hypothesis import given
from hypothesis import strategies as st

from inferwatt.attribution.baselines import weights
from inferwatt.records import Request, Rule

TOKENS = st.none() | st.integers(0, 10_000)
TIMES = st.integers(0, 10**12)


@st.composite
def requests(draw: st.DrawFn) -> Request:
    """Any ended request of which more or less is known."""
    arrival_ns, first_ns, end_ns = sorted(draw(st.tuples(TIMES, TIMES, TIMES)))
    return Request(
        "r",
        arrival_ns=arrival_ns,
        first_token_ns=draw(st.none() | st.just(first_ns)),
        end_ns=draw(st.none() | st.just(end_ns)),
        prompt_tokens=draw(TOKENS),
        output_tokens=draw(TOKENS),
    )


@given(st.sampled_from(Rule), st.lists(requests(), min_size=1, max_size=8))
def test_weights_can_always_be_divided_by(rule: Rule, known: list[Request]) -> None:
    """Whatever is unknown, there is one row a request, none is negative, and they sum to more than nothing."""
    rows = weights(rule, known)

    assert rows.shape == (len(known), 2)
    assert rows.min() >= 0
    assert rows.sum() > 0


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        (Rule.OUTPUT_TOKENS, [0, 7]),
        (Rule.ALL_TOKENS, [5, 7]),
        (Rule.RESIDENCE, [3, 16]),
        (Rule.EQUAL, [0, 1]),
    ],
)
def test_each_rule_weighs_by_its_own_number(rule: Rule, expected: list[float]) -> None:
    """Output tokens, all tokens, time until and after the first token, or one for each request."""
    request = Request("r", arrival_ns=1, first_token_ns=4, end_ns=20, prompt_tokens=5, output_tokens=7)

    assert weights(rule, [request]).tolist() == [expected]


def test_a_rule_that_knows_nothing_divides_equally() -> None:
    """Without a token anywhere each request weighs the same; beside one that has some, it weighs nothing."""
    unknown, known = Request("u"), Request("k", output_tokens=3)

    assert weights(Rule.OUTPUT_TOKENS, [unknown, unknown]).tolist() == [[0, 1], [0, 1]]
    assert weights(Rule.OUTPUT_TOKENS, [unknown, known]).tolist() == [[0, 0], [0, 3]]


def test_no_request_weighs_nothing() -> None:
    """Without requests there are no rows."""
    assert weights(Rule.EQUAL, []).shape == (0, 2)


def test_a_request_without_a_first_token_has_only_decoded() -> None:
    """Residence that cannot be told apart is the decode's."""
    assert weights(Rule.RESIDENCE, [Request("r", arrival_ns=5, end_ns=9)]).tolist() == [[0, 4]]
