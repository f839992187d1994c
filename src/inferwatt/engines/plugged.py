"""What a plugin inside a server says on the inbox's socket, beside records of requests: who it is, steps, and ends."""

from dataclasses import dataclass

from inferwatt import wire_steps
from inferwatt.errors import RecordRejected
from inferwatt.records import Model, Request, Step, Tier
from inferwatt.snapshot import Lack
from inferwatt.wire import MAX_INTEGER, MAX_TEXT_CHARACTERS, REFUSED_CHARACTERS, Message
from inferwatt.wire_steps import End

VLLM = "vllm"
ENGINE, FRONT, ANSWER = "engine", "front", "answer"
"""What a plugin is part of: what computes the schedule, what counts the finished, what answers clients."""
_NO_STEPS = "step_exact is not possible, its requests are told when they have ended"
_NO_ENDS = "the requests that it has finished are not told, what a stop string ended counts as aborted"
_UPGRADE = "pip install --upgrade 'inferwatt[vllm]'"
MAX_ENGINES = 4096
MAX_LACKS = 32
_SHAPE = tuple(name for name in Model.__dataclass_fields__ if name != "model")


@dataclass(frozen=True, slots=True)
class PluginSeen:
    """A plugin has said hello: what it is part of."""

    producer: str
    pid: int
    t_ns: int
    role: str
    model: Model
    version: str = ""
    engine_index: int = 0
    port: int | None = None
    """Where its server will listen, as its command line says."""
    lacks_steps: tuple[str, ...] = ()
    """What its server's version lacks, without which no step can be told."""
    lacks_ends: tuple[str, ...] = ()
    """The same of finished requests."""

    @property
    def tells_requests(self) -> bool:
        """Whether it is the one that tells its server's requests: the engine's own, or who stands in for it."""
        return self.role == ENGINE if not self.lacks_steps else self.role == FRONT and not self.lacks_ends

    @property
    def is_of_engine(self) -> bool:
        """Whether its engine's name is wanted: it computes the schedule, or stands in for who cannot tell of it."""
        return self.role == ENGINE or (self.role == FRONT and bool(self.lacks_steps or self.lacks_ends))

    @property
    def tier(self) -> Tier | None:
        """The best tier that its requests can have; None where it tells none."""
        told = Tier.STEP_EXACT if self.role == ENGINE else Tier.STEP_RECONSTRUCTED
        return told if self.tells_requests else None

    def lacks(self, server: str) -> tuple[Lack, ...]:
        """Return what its server's version lacks, what that costs, and what would help."""
        absent = ((self.lacks_steps, _NO_STEPS), (self.lacks_ends, _NO_ENDS))
        return tuple(
            Lack(f"vllm {self.version} has no {', '.join(names)}: {cost}", server, _UPGRADE, source=VLLM)
            for names, cost in absent
            if names
        )


@dataclass(frozen=True, slots=True)
class Steps:
    """Steps as they arrived; the engine in them is empty, since a plugin does not know what the agent calls it."""

    producer: str
    pid: int
    seq: int
    steps: tuple[Step, ...]
    received_ns: int
    names: frozenset[str] = frozenset()
    """Whoever was in one of them."""
    dropped: int = 0


@dataclass(frozen=True, slots=True)
class Ends:
    """What a server's front end has finished, as it arrived."""

    producer: str
    pid: int
    seq: int
    ends: tuple[End, ...]
    received_ns: int


Plugged = PluginSeen | Steps | Ends


def plugin_of(message: Message, pid: int, now_ns: int) -> PluginSeen | None:
    """Return who says a hello, None where it is no plugin; what is not of its type or range is left out."""
    said = message.get(VLLM)
    if message.get("kind") != VLLM or not isinstance(said, dict) or said.get("role") not in {ENGINE, FRONT, ANSWER}:
        return None
    shape = said.get("shape")
    known = {name: _positive(shape.get(name)) for name in _SHAPE} if isinstance(shape, dict) else {}
    for name in ("experts", "experts_per_token"):
        value = known.get(name)
        known[name] = int(value) if value is not None else None
    index, port = said.get("engine_index"), said.get("port")
    return PluginSeen(
        str(message.get("producer")),
        pid,
        now_ns,
        said["role"],
        Model(_text(said.get("model")), **known),  # type: ignore[arg-type]
        _text(said.get("version")),
        index if type(index) is int and 0 <= index < MAX_ENGINES else 0,
        port if type(port) is int and 0 < port < 1 << 16 else None,
        *(_names(said.get("lacks"), what) for what in ("steps", "ends")),
    )


def taken(message: Message, producer: str, pid: int, now_ns: int) -> Steps | Ends:
    """Return what a message of steps or ends holds.

    Raises:
        RecordRejected: it is not of its form, or speaks of a time to come.
    """
    seq = message["seq"]
    if message["t"] == wire_steps.ENDS:
        return Ends(producer, pid, seq, wire_steps.ends_from_wire(message), now_ns)
    steps = wire_steps.steps_from_wire(message, producer)
    dropped = message.get("dropped")
    known = dropped if type(dropped) is int and 0 <= dropped <= MAX_INTEGER else 0
    names = frozenset(f"{producer}:{name}" for name in message["names"])
    return Steps(producer, pid, seq, steps, now_ns, names, known)


def check_times(said: Steps | Ends | Request, latest_ns: int) -> None:
    """Refuse what another clock would say.

    Raises:
        RecordRejected: a time is later than `latest_ns`.
    """
    match said:
        case Request():
            times = [said.arrival_ns, said.first_token_ns or 0, said.end_ns or 0]
        case Steps():
            times = [step.t1_ns for step in said.steps]
        case Ends():
            times = [end.t_ns for end in said.ends]
    if max(times, default=0) > latest_ns:
        raise RecordRejected("a time in the future", where="future", fix="send CLOCK_MONOTONIC of this machine")


def _text(value: object) -> str:
    is_text = isinstance(value, str) and len(value) <= MAX_TEXT_CHARACTERS and not REFUSED_CHARACTERS.search(value)
    return str(value) if is_text else ""


def _names(said: object, what: str) -> tuple[str, ...]:
    names = said.get(what) if isinstance(said, dict) else None
    return tuple(filter(None, map(_text, names[:MAX_LACKS]))) if isinstance(names, list) else ()


def _positive(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) and 0 < value < 1e30 else None
