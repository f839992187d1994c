"""What llama.cpp's slots say of answers that are not complete: tokens that its counters count only at the end. Pure.

`GET /slots` lists what each slot does (llama.cpp, tools/server/README.md); of a slot at work `next_token` has how many
tokens its answer has so far. A page is read before the slots: what a page counts has ended by then, so that no slot
tells it again, and nothing is counted twice. What ended between the two is in the next page.
"""

from typing import Annotated

import msgspec

Count = Annotated[int, msgspec.Meta(ge=0, le=1 << 53)]


class _Next(msgspec.Struct):
    n_decoded: Count = 0


class _Slot(msgspec.Struct):
    is_processing: bool = False
    next_token: list[_Next] | _Next = []


_decoder = msgspec.json.Decoder(list[_Slot])


def begun(body: bytes) -> int | None:
    """Return how many tokens the answers have that are not complete; None where that is not said."""
    try:
        slots = _decoder.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
    return sum(_tokens(slot) for slot in slots if slot.is_processing)


def _tokens(slot: _Slot) -> int:
    """Return the tokens of one slot's answer; older servers have an object where newer ones have a list."""
    told = slot.next_token
    return told.n_decoded if isinstance(told, _Next) else sum(each.n_decoded for each in told)


class Begun:
    """Dates tokens to when they were made: a counter that moves at the end of an answer, and answers on the way.

    What is told is never more than what was made. Where the slots are not known it is what the counter says, less what
    was told before.
    """

    def __init__(self) -> None:
        self._begun = 0
        self._owed = 0

    def start(self, begun: int | None) -> None:
        """Begin with what is on the way already: made before we came, and nobody's."""
        self._begun, self._owed = begun or 0, 0

    def made(self, counted: int, begun: int | None) -> int:
        """Return how many tokens were made since the last call.

        Args:
            counted: what the counter gained.
            begun: what the answers on the way have now, None where that is not known.
        """
        gained = counted + (begun or 0) - self._begun - self._owed
        self._begun, self._owed = begun or 0, max(-gained, 0)
        return max(gained, 0)
