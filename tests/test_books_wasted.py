"""What was computed and nobody got: counted by reason, tokens and joules, each of them once."""

from hypothesis import given
from hypothesis import strategies as st

from inferwatt.books import Books
from inferwatt.records import Component, Ending, EnergyPart, Engine, Outcome, Provenance, Request, RequestEnergy, Tier

TOKENS, ENERGY = "inferwatt_wasted_tokens_total", "inferwatt_wasted_energy_joules_total"
PARTS = "inferwatt_request_part_energy_joules_total"
COUNTS = st.integers(0, 10**6)
ENDED = st.builds(
    lambda ending, wasted, rejected: Request(
        "r",
        "e0",
        "m",
        end_ns=1,
        outcome=Outcome.FINISHED,
        ending=ending,
        wasted_tokens=wasted,
        rejected_tokens=rejected,
    ),
    st.none() | st.sampled_from(Ending),
    st.none() | COUNTS,
    st.none() | COUNTS,
)


def booked(request: Request, wasted_uj: int | None) -> Books:
    """Return books of one request."""
    books = Books()
    books.add_engine(Engine("e0", "m", server="s"))
    part = EnergyPart(Component.CPU, Provenance.MODELLED, 1, 2, 1, 3, 0.1, wasted_uj=wasted_uj)
    books.request(request, RequestEnergy("r", (part,), Tier.STEP_EXACT, final=True), 1.0)
    return books


def test_each_reason_has_its_tokens_and_its_joules() -> None:
    """Rejected drafts are one reason, what came after the end another; a token costs the same in either."""
    request = Request("r", "e0", "m", end_ns=1, ending=Ending.STOP_STRING, wasted_tokens=2, rejected_tokens=1)
    books = booked(request, 10)

    assert books.values[TOKENS] == {("m", "s", "rejected_draft"): 1, ("m", "s", "stop_string"): 2}
    assert books.values[ENERGY] == {
        ("m", "s", "rejected_draft", "modelled"): 3,
        ("m", "s", "stop_string", "modelled"): 7,
    }


@given(ENDED, st.none() | COUNTS)
def test_reasons_sum_to_what_was_wasted(request_: Request, wasted_uj: int | None) -> None:
    """Whatever was wasted, its tokens are all there, and its joules are those of the part, to the microjoule."""
    books = booked(request_, wasted_uj)
    tokens = (request_.wasted_tokens or 0) + (request_.rejected_tokens or 0)
    part = books.values.get(PARTS, {}).get(("m", "s", "wasted", "modelled"), 0)

    assert sum(books.values.get(TOKENS, {}).values()) == tokens
    assert sum(books.values.get(ENERGY, {}).values()) == (part if tokens else 0)


def test_what_no_server_tells_has_no_series() -> None:
    """Unknown is absent, never zero."""
    books = booked(Request("r", "e0", "m", end_ns=1), None)

    assert not books.values.keys() & {TOKENS, ENERGY}
