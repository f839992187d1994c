"""What a front end's word makes of an engine's record: how it ended, and what the client did not get."""

import pytest

from inferwatt.engines.plugged import Ends
from inferwatt.receipts import Receipts
from inferwatt.records import Ending, Outcome, Request
from inferwatt.wire_steps import End
from inferwatt.witnesses import FrontEnds

PRODUCER, FRONT = "c" * 32, "f" * 32
ABORTED, FINISHED, FAILED = Outcome.ABORTED, Outcome.FINISHED, Outcome.FAILED
ENGINES_WORD = {
    "aborted": (ABORTED, Ending.DISCONNECT),
    "at its token": (FINISHED, Ending.EOS),
    "at its length": (FINISHED, Ending.LENGTH),
}


def corrected(engine: str, reason: str, output: int) -> Request:
    """Return an engine's record of five output tokens, one more wasted, after the front end's word of it."""
    outcome, ending = ENGINES_WORD[engine]
    fronts = FrontEnds(Receipts())
    fronts.add(Ends(FRONT, 1, 1, (End("chatcmpl-a", 9, reason, 7, 0, output),), 10))
    name = f"{PRODUCER}:chatcmpl-a-00000001"
    request = Request(
        name, producer=PRODUCER, prompt_tokens=7, output_tokens=5, wasted_tokens=1, outcome=outcome, ending=ending
    )
    return fronts.corrected(request)


@pytest.mark.parametrize(
    ("engine", "reason", "output", "outcome", "ending"),
    [
        ("aborted", "STOP", 5, FINISHED, Ending.STOP_STRING),
        ("aborted", "STOP", 3, FINISHED, Ending.STOP_STRING),
        ("aborted", "ABORT", 5, ABORTED, Ending.DISCONNECT),
        ("at its token", "STOP", 5, FINISHED, Ending.EOS),
        ("at its token", "STOP", 4, FINISHED, Ending.STOP_STRING),  # found before the engine's own end was heard of
        ("at its length", "STOP", 4, FINISHED, Ending.STOP_STRING),
        ("at its length", "LENGTH", 5, FINISHED, Ending.LENGTH),
        ("at its length", "ABORT", 2, ABORTED, Ending.DISCONNECT),
        ("at its length", "ERROR", 5, FAILED, Ending.ERROR),
        ("at its length", "", 5, FINISHED, Ending.LENGTH),
    ],
)
def test_what_ended_a_request_is_why_tokens_of_it_were_wasted(
    engine: str, reason: str, output: int, outcome: Outcome, ending: Ending
) -> None:
    """Each way to end has its reason, and what the engine made and wasted before is under it too."""
    request = corrected(engine, reason, output)

    assert (request.outcome, request.ending, request.output_tokens) == (outcome, ending, output)
    assert request.thrown_away == {ending.value: 1 + 5 - output}
