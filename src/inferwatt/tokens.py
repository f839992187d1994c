"""The token books of one engine: by the records, by its server's own page, and what no record explains. Pure."""

from dataclasses import dataclass, field

from inferwatt.units import NS_PER_SECOND

QUIET_NS = 3 * NS_PER_SECOND
"""How long an engine must have been quiet before its own count is compared with the records: both are then whole."""


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
    """What was counted of one engine, and by whom."""

    recorded: Tokens = field(default_factory=Tokens)
    counted: Tokens = field(default_factory=Tokens)
    unlisted: Tokens = field(default_factory=Tokens)
    open_requests: int = 0
    _was_counted: bool = False
    _was_recorded: bool = False
    _last_end_ns: int = 0

    def record(self, tokens: Tokens, end_ns: int) -> None:
        """Count a request's tokens by its record."""
        self._was_recorded = True
        self.recorded.add(tokens)
        self._last_end_ns = max(self._last_end_ns, end_ns)

    def count(self, tokens: Tokens) -> Tokens:
        """Count what the server counted; return what is unlisted by that: all, where no record ever came."""
        self._was_counted = True
        self.counted.add(tokens)
        if self._was_recorded or self.open_requests:
            return Tokens()
        self.unlisted.add(tokens)
        return tokens

    def reconcile(self, now_ns: int) -> tuple[Tokens, Tokens] | None:
        """Compare the records with the server's page, if both are whole now.

        Returns:
            What the page counts beyond the records (unlisted from now on), and what the records count beyond the
            page (a disagreement); None while the engine works or has just worked, or only one of them counts.
        """
        both = self._was_counted and self._was_recorded
        if not both or self.open_requests or now_ns - self._last_end_ns < QUIET_NS:
            return None
        beyond = Tokens(*(self._missing(kind) for kind in ("computed", "cached", "output")))
        gained = Tokens(max(beyond.computed, 0), max(beyond.cached, 0), max(beyond.output, 0))
        self.unlisted.add(gained)
        return gained, Tokens(max(-beyond.computed, 0), max(-beyond.cached, 0), max(-beyond.output, 0))

    def _missing(self, kind: str) -> int:
        counted: int = getattr(self.counted, kind)
        return counted - int(getattr(self.recorded, kind)) - int(getattr(self.unlisted, kind))
