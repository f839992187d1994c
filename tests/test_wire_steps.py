"""Steps on the wire: what goes in comes out, and what is no step is refused whole."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inferwatt.errors import RecordRejected
from inferwatt.records import Phase, Step
from inferwatt.wire_steps import End, Same, StepRow, ends_from_wire, ends_message, steps_from_wire, steps_message

TIMES = st.integers(0, 2**50)
NAMES = st.text("abcd-_0123", min_size=1, max_size=8)
TOKENS = st.integers(0, 2**40)


@st.composite
def whole_rows(draw: st.DrawFn) -> StepRow:
    """A step with its members."""
    names = draw(st.lists(NAMES, unique=True, max_size=6))
    count = len(names)
    new = draw(st.lists(TOKENS, min_size=count, max_size=count))
    context = draw(st.lists(TOKENS, min_size=count, max_size=count))
    prefill = draw(st.lists(st.integers(0, max(count - 1, 0)), unique=True, max_size=count)) if count else []
    t0_ns = draw(TIMES)
    return StepRow(t0_ns, t0_ns + draw(TIMES), names, new, context, sorted(prefill))


ROWS = st.builds(
    lambda first, rest: [first, *rest],
    whole_rows(),
    st.lists(st.one_of(whole_rows(), st.builds(Same, TIMES, st.integers(2**50, 2**51))), max_size=8),
)


def expanded(rows: list[StepRow | Same]) -> list[Step]:
    """Say the same at length."""
    steps: list[Step] = []
    for row in rows:
        if isinstance(row, Same):
            members = tuple((name, 1, context + new, Phase.DECODE) for name, new, context, _ in steps[-1].members)
        else:
            members = tuple(
                (f"p:{name}", new, context, Phase.PREFILL if place in row.prefill else Phase.DECODE)
                for place, (name, new, context) in enumerate(
                    zip(row.names, row.new_tokens, row.context_tokens, strict=True)
                )
            )
        steps.append(Step(row.t0_ns, row.t1_ns, "", members))
    return steps


@given(ROWS)
def test_what_goes_in_comes_out(rows: list[StepRow | Same]) -> None:
    """Steps that were said short are, to the agent, what they were."""
    message = json.loads(json.dumps(steps_message(7, rows)))

    assert list(steps_from_wire(message, "p")) == expanded(rows)


@given(st.lists(st.builds(End, NAMES, TIMES, NAMES, TOKENS, TOKENS, TOKENS), max_size=5))
def test_ends_come_back(ends: list[End]) -> None:
    """What a front end finished arrives as it was."""
    assert list(ends_from_wire(json.loads(json.dumps(ends_message(1, ends))))) == ends


JUNK = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(), lambda c: st.lists(c, max_size=6)
)


@given(st.lists(JUNK, max_size=4), JUNK)
def test_junk_is_refused_in_our_words(steps: list[object], names: object) -> None:
    """Whatever is sent as steps is taken whole or refused with a reason, and nothing else happens."""
    for message in ({"names": names, "steps": steps}, {"names": ["a"], "steps": names, "ends": steps}):
        for read in (lambda message: steps_from_wire(message, "p"), ends_from_wire):
            try:
                read(message)
            except RecordRejected as problem:
                assert problem.where in {"steps", "names", "ends"}  # noqa: PT017 - what else would it say


@pytest.mark.parametrize(
    "steps",
    [[[1, 1]], [[1, 1, [0], [1], [1, 2], []]], [[1, 1, [3], [1], [1], []]], [[1, 1, [0, 0], [1, 1], [1, 1], []]],
     [[1, -1, [0], [1], [1], []]], [[1, 1, [0], [True], [1], []]], [[1, 1, [0], [1], [1]]],
     [[2**63 - 1, 1, [0], [1], [1], []]]],
)  # fmt: skip
def test_a_step_that_cannot_be_is_refused(steps: list[object]) -> None:
    """No members to repeat, columns of two lengths, a member without a name or twice: nothing of it is taken."""
    with pytest.raises(RecordRejected):
        steps_from_wire({"names": ["a"], "steps": steps}, "p")


def test_a_message_cannot_grow_without_end() -> None:
    """A short message of steady steps may not make more members than a message may have."""
    names = [str(number) for number in range(16_384)]
    row = [1, 1, list(range(16_384)), [1] * 16_384, [0] * 16_384, []]
    with pytest.raises(RecordRejected, match="too many members"):
        steps_from_wire({"names": names, "steps": [row, *([[1, 1]] * 100)]}, "p")
