"""Engine steps on the wire: which requests were computed together, when, and how many tokens of each.

A message of kind `steps` carries the names of its requests once and each step by their places. A step is
`[t0_ns, duration_ns, places, new_tokens, context_tokens, prefill]`, where `prefill` lists which of its members are
prefill; or `[t0_ns, duration_ns]`: the same members as in the step before it, one token more each, all of them decode.
A message stands alone: its first step is always whole, so that an agent that has just started understands it.
Standard library only, no thread, no clock. An agent that does not know this kind answers with an error and goes on.
"""

from collections.abc import Iterable, Sequence
from typing import NamedTuple, NoReturn

from inferwatt.errors import RecordRejected
from inferwatt.records import Phase, Step
from inferwatt.wire import MAX_INTEGER, MAX_TEXT_CHARACTERS, REFUSED_CHARACTERS, Message

STEPS = "steps"
ENDS = "ends"
MAX_STEPS = 4096
MAX_MEMBERS = 16_384
MAX_MEMBERS_PER_MESSAGE = 1 << 20
"""What one message may make of itself: a steady step is short, however many members it has."""
_FIX = "use plugin and agent of one version"


class StepRow(NamedTuple):
    """One engine step with its members as columns; `prefill` holds the places of those that are prefill."""

    t0_ns: int
    t1_ns: int
    names: list[str]
    new_tokens: list[int]
    context_tokens: list[int]
    prefill: list[int]


class Same(NamedTuple):
    """A step with the members of the one before it, each with one token more, all of them decode."""

    t0_ns: int
    t1_ns: int


class End(NamedTuple):
    """What a server's front end says of a request that it has finished, under the name that the front end uses."""

    name: str
    t_ns: int
    reason: str
    prompt_tokens: int
    cached_tokens: int
    output_tokens: int


def steps_message(seq: int, rows: Iterable[StepRow | Same], dropped: int = 0) -> Message:
    """Return a message of steps, the first of them whole.

    `dropped` is how many records its producer had to drop since its start.
    """
    places: dict[str, int] = {}
    steps: list[list[object]] = []
    for row in rows:
        step: list[object] = [row.t0_ns, row.t1_ns - row.t0_ns]
        if isinstance(row, StepRow):
            members = [places.setdefault(name, len(places)) for name in row.names]
            step += [members, row.new_tokens, row.context_tokens, row.prefill]
        steps.append(step)
    message: Message = {"t": STEPS, "seq": seq, "names": list(places), "steps": steps}
    return {**message, "dropped": dropped} if dropped else message


def steps_from_wire(message: Message, producer: str) -> tuple[Step, ...]:
    """Return the steps of a decoded message, their members under the names that are the producer's alone.

    Raises:
        RecordRejected: it is not of that form; nothing of it is taken.
    """
    names = [f"{producer}:{name}" for name in _names(message.get("names"))]
    rows = message.get("steps")
    if not isinstance(rows, list) or len(rows) > MAX_STEPS:
        _reject("steps", f"not a list of at most {MAX_STEPS} steps")
    steps: list[Step] = []
    left = MAX_MEMBERS_PER_MESSAGE
    for row in rows:
        step = _step(row, names, steps[-1] if steps else None)
        left -= len(step.members)
        if left < 0:
            _reject("steps", "too many members in one message")
        steps.append(step)
    return tuple(steps)


def ends_message(seq: int, ends: Iterable[End]) -> Message:
    """Return a message of what a front end has finished."""
    return {"t": ENDS, "seq": seq, "ends": [list(end) for end in ends]}


def ends_from_wire(message: Message) -> tuple[End, ...]:
    """Return what a front end has finished.

    Raises:
        RecordRejected: it is not of that form; nothing of it is taken.
    """
    rows = message.get("ends")
    if not isinstance(rows, list) or len(rows) > MAX_STEPS:
        _reject("ends", f"not a list of at most {MAX_STEPS}")
    return tuple(_end(row) for row in rows)


def _end(row: object) -> End:
    if not isinstance(row, list) or len(row) != len(End._fields):
        _reject("ends", f"not {len(End._fields)} values")
    name, t_ns, reason, *tokens = row
    (prompt, cached, output) = (_integer("ends", one) for one in tokens)
    return End(_text("ends", name), _integer("ends", t_ns), _text("ends", reason), prompt, cached, output)


def _step(row: object, names: Sequence[str], before: Step | None) -> Step:
    if not isinstance(row, list) or len(row) not in {2, 6}:
        _reject("steps", "a step of 2 or 6 values")
    t0_ns, duration_ns = (_integer("steps", one) for one in row[:2])
    if t0_ns + duration_ns > MAX_INTEGER:
        _reject("steps", "a step without an end")
    if len(row) == 2:
        if before is None:
            _reject("steps", "a first step without its members")
        grown = tuple((name, 1, context + new, Phase.DECODE) for name, new, context, _ in before.members)
        return Step(t0_ns, t0_ns + duration_ns, "", grown)
    places, new_tokens, context_tokens, prefill = (_integers(one) for one in row[2:])
    if not len(places) == len(new_tokens) == len(context_tokens) <= MAX_MEMBERS or len(set(places)) != len(places):
        _reject("steps", "columns that do not fit each other")
    if any(place >= len(names) for place in places):
        _reject("steps", "a member without a name")
    is_prefill = set(prefill)
    members = tuple(
        (names[place], new, context, Phase.PREFILL if number in is_prefill else Phase.DECODE)
        for number, (place, new, context) in enumerate(zip(places, new_tokens, context_tokens, strict=True))
    )
    return Step(t0_ns, t0_ns + duration_ns, "", members)


def _names(value: object) -> list[str]:
    if not isinstance(value, list) or len(value) > MAX_MEMBERS:
        _reject("names", f"not a list of at most {MAX_MEMBERS} names")
    return [_text("names", one) for one in value]


def _text(where: str, value: object) -> str:
    if not isinstance(value, str) or len(value) > MAX_TEXT_CHARACTERS or REFUSED_CHARACTERS.search(value):
        _reject(where, f"not a text of at most {MAX_TEXT_CHARACTERS} characters")
    return value


def _integers(value: object) -> list[int]:
    if not isinstance(value, list):
        _reject("steps", "not a list of numbers")
    return [_integer("steps", one) for one in value]


def _integer(where: str, value: object) -> int:
    if type(value) is not int or not 0 <= value <= MAX_INTEGER:
        _reject(where, "not a whole number, 0 to 2^63 - 1")
    return value


def _reject(where: str, what: str) -> NoReturn:
    raise RecordRejected(what, where=where, fix=_FIX)
