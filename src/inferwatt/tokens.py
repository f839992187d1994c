"""The token books of one engine: by the records, by its server's own page, and what no record explains. Pure."""

from collections import deque
from dataclasses import dataclass, field

from inferwatt.units import NS_PER_SECOND

QUIET_NS = 3 * NS_PER_SECOND
"""How long an engine must have been quiet before its own count is compared with the records: both are then whole.

It is also how long a server's count waits for a record: the page may be read before the SDK has told of a request,
and what was once counted as unlisted cannot be taken back.
"""


@dataclass(slots=True)
class Tokens:
    """Tokens: of the prompt those that were computed and those that were reused, and of the output."""

    computed: int = 0
    cached: int = 0
    output: int = 0

    def add(self, other: "Tokens") -> None:
        """Add the same kinds of tokens."""
        self.computed += other.computed
        self.cached += other.cached
        self.output += other.output


@dataclass(slots=True)
class TokenBooks:
    """What was counted of one engine, and by whom; `counted` is the part of the server's count that is old enough.

    `is_recorded` tells that records of its requests have come.
    """

    recorded: Tokens = field(default_factory=Tokens)
    counted: Tokens = field(default_factory=Tokens)
    unlisted: Tokens = field(default_factory=Tokens)
    _fresh: deque[tuple[int, Tokens]] = field(default_factory=deque)
    _awaited: set[str] = field(default_factory=set)
    is_recorded: bool = False
    _was_counted: bool = False
    _was_recorded: bool = False
    _last_end_ns: int = 0

    def expect(self, request: str) -> None:
        """Note that a record has come of a request that is not booked yet."""
        self.is_recorded = True
        self._awaited.add(request)

    def record(self, request: str, tokens: Tokens, end_ns: int) -> None:
        """Count a request's tokens by its final record."""
        self._awaited.discard(request)
        self._was_recorded = True
        self.recorded.add(tokens)
        self._last_end_ns = max(self._last_end_ns, end_ns)

    def count(self, tokens: Tokens, now_ns: int) -> None:
        """Take what the server counted."""
        self._was_counted = True
        if tokens != Tokens():
            self._fresh.append((now_ns, tokens))

    def reconcile(self, now_ns: int) -> tuple[Tokens, Tokens] | None:
        """Compare the records with the server's page, if both are whole now.

        Returns:
            What the page counts beyond the records (unlisted from now on), and what the records count beyond the
            page (a disagreement); None while the engine works or has just worked, or the server counts nothing.
        """
        while self._fresh and now_ns - self._fresh[0][0] >= QUIET_NS:
            self.counted.add(self._fresh.popleft()[1])
        is_quiet = not self._was_recorded or now_ns - self._last_end_ns >= QUIET_NS
        if not self._was_counted or self._awaited or not is_quiet:
            return None
        known = _sum(self.recorded, self.unlisted)
        gained = _beyond(self.counted, known)
        self.unlisted.add(gained)
        return gained, _beyond(known, _sum(self.counted, *(tokens for _, tokens in self._fresh)))


def _sum(*parts: Tokens) -> Tokens:
    whole = Tokens()
    for tokens in parts:
        whole.add(tokens)
    return whole


def _beyond(more: Tokens, less: Tokens) -> Tokens:
    return Tokens(
        max(more.computed - less.computed, 0), max(more.cached - less.cached, 0), max(more.output - less.output, 0)
    )
