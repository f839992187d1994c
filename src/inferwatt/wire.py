"""Records on the Unix socket: what SDK, plugin and gateway say to the agent, and what it answers.

A frame is a big-endian u32 length and that many bytes of JSON in UTF-8, at most 1 MiB. Nothing but JSON is
ever decoded. Who writes: hello, then records. Who listens: hello, acknowledgements (cumulative, after COMMIT),
energies of open and ended requests, errors. Field names are those of `records.Request`; a field at its default is
left out, a field that the reader does not know is ignored, a value of the wrong type or range is refused.
Standard library only, no thread, no clock.
"""

import json
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NoReturn

from inferwatt.errors import RecordRejected
from inferwatt.records import (
    UNKNOWN_TENANT,
    Component,
    Ending,
    EnergyPart,
    Outcome,
    Provenance,
    Request,
    RequestEnergy,
    Tier,
)

VERSION = 1
MAX_FRAME_BYTES = 1 << 20
MAX_TEXT_CHARACTERS = 256
MAX_TAGS = 32
MAX_UNITS = 16
MAX_CHUNKS = 16_384
MAX_RECORDS_PER_FRAME = 4096
MAX_INTEGER = 2**63 - 1
"""The largest integer that a ledger column holds."""

Message = dict[str, Any]

_TEXT = (
    *("request", "engine", "model", "tenant", "response_id", "trace_id", "namespace", "pod", "container", "provider"),
    "traceparent",
)
_TIMES = ("arrival_ns", "first_token_ns", "end_ns", "queued_ns")
_TOKENS = ("prompt_tokens", "cached_tokens", "output_tokens", "recomputed_tokens", "rejected_tokens", "wasted_tokens")
REFUSED_CHARACTERS = re.compile("[\x00-\x1f\x7f\ud800-\udfff]")
"""Control characters break logs and labels; a lone surrogate cannot be written as UTF-8."""
_PART_ENERGIES = ("prefill_uj", "decode_uj", "low_uj", "high_uj")


class FrameBroken(RecordRejected):
    """The length cannot be right, so that the start of the next frame is unknown: close the connection."""


def encode(message: Mapping[str, Any]) -> bytes:
    """Return `message` as one frame.

    Raises:
        RecordRejected: it is larger than 1 MiB, or holds what JSON cannot say (NaN, a lone surrogate).
    """
    try:
        body = json.dumps(message, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()
    except (ValueError, TypeError, RecursionError) as exc:
        raise RecordRejected(f"cannot be written as JSON: {exc}", where="frame", fix="send JSON values only") from exc
    if len(body) > MAX_FRAME_BYTES:
        raise RecordRejected(f"a frame of {len(body)} bytes", where="frame", fix="send fewer records per frame")
    return len(body).to_bytes(4, "big") + body


class Decoder:
    """Frames out of a byte stream, however it is cut; it never holds more than one frame beside what it was fed."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self.broken: FrameBroken | None = None

    @property
    def buffered_bytes(self) -> int:
        """How much of a frame that is not whole yet is held."""
        return len(self._buffer)

    def feed(self, data: bytes) -> list[Message | RecordRejected]:
        """Return what became whole with `data`, in order.

        A frame that is no JSON object stands as a `RecordRejected` in its place, because the next one may be good.
        After a `FrameBroken`, always the last, nothing more is read.
        """
        if self.broken is not None:
            return []
        self._buffer += data
        found: list[Message | RecordRejected] = []
        start = 0
        while len(self._buffer) - start >= 4:
            length = int.from_bytes(self._buffer[start : start + 4], "big")
            if not 0 < length <= MAX_FRAME_BYTES:
                self.broken = FrameBroken(
                    f"a frame of {length} bytes", where="frame", fix="a frame has 1 byte to 1 MiB after its u32 length"
                )
                self._buffer.clear()
                return [*found, self.broken]
            if len(self._buffer) - start < 4 + length:
                break
            found.append(_decode(bytes(self._buffer[start + 4 : start + 4 + length])))
            start += 4 + length
        del self._buffer[:start]
        return found


def _decode(body: bytes) -> Message | RecordRejected:
    try:
        message = json.loads(body.decode("utf-8"), parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as exc:
        return RecordRejected(f"not JSON: {type(exc).__name__}", where="json", fix="send one JSON object per frame")
    if not isinstance(message, dict):
        return RecordRejected("not a JSON object", where="json", fix="send one JSON object per frame")
    return message


def _refuse_constant(word: str) -> NoReturn:
    raise ValueError(f"{word} is not JSON")


def hello(producer: str, *, kind: str, pid: int, boot_id: str, monotonic_ns: int, unix_ns: int) -> Message:
    """Return a producer's first message: who it is, and its two clocks at one moment (nanoseconds)."""
    clocks = {"monotonic_ns": monotonic_ns, "unix_ns": unix_ns}
    return {"t": "hello", "v": VERSION, "producer": producer, "kind": kind, "pid": pid, "boot_id": boot_id, **clocks}


def hello_back(agent: str) -> Message:
    """Return the agent's first message; `agent` differs after each restart, so that open requests are told anew."""
    return {"t": "hello", "v": VERSION, "agent": agent}


def records_message(seq: int, records: Iterable[Message]) -> Message:
    """Return a message of records in wire form; `seq` rises by one with each of a producer's messages."""
    return {"t": "records", "seq": seq, "records": list(records)}


def ack(seq: int) -> Message:
    """Return the word that everything up to `seq` is kept for good."""
    return {"t": "ack", "seq": seq}


def energy(requests: Iterable[RequestEnergy]) -> Message:
    """Return a message with the joules of open and ended requests."""
    return {"t": "energy", "requests": [energy_to_wire(one) for one in requests]}


def error(problem: RecordRejected) -> Message:
    """Return what is wrong, where, and what to do, as a message."""
    return {"t": "error", "what": problem.what, "where": problem.where, "fix": problem.fix}


def request_to_wire(request: Request) -> Message:
    """Return `request` as a dict without the fields at their default; `producer` is the connection's, not the row's."""
    wire: Message = {"request": request.request, "arrival_ns": request.arrival_ns}
    for name in (*_TEXT[1:], *_TIMES[1:], *_TOKENS):
        value = getattr(request, name)
        if value not in (None, "") and (name, value) != ("tenant", UNKNOWN_TENANT):
            wire[name] = value
    wire |= {name: value.value for name in ("outcome", "ending") if (value := getattr(request, name)) is not None}
    if request.chunk_ns:
        wire["chunk_ns"] = list(request.chunk_ns)
    return wire | {name: dict(value) for name in ("tags", "units") if (value := getattr(request, name))}


def request_from_wire(wire: object, producer: str = "") -> Request:
    """Return the request that `wire`, a decoded JSON value, describes, under a name that is its `producer`'s alone.

    Raises:
        RecordRejected: a value is not of its type and range, or times contradict each other; `where` is the field.
    """
    if not isinstance(wire, dict):
        _reject("record", "not a JSON object", "send each record as an object")
    texts = {name: _text(name, wire[name]) for name in _TEXT if name in wire}
    texts["tenant"] = _tenant(texts.get("tenant", ""))
    if not texts.get("request"):
        _reject("request", "no id", "give each request an id that is unique in its process")
    numbers = {name: _integer(name, wire[name]) for name in _TIMES + _TOKENS if wire.get(name) is not None}
    if "arrival_ns" not in numbers:
        _reject("arrival_ns", "no start time", "send arrival_ns, nanoseconds of CLOCK_MONOTONIC")
    if producer:
        own = f"{producer}:"
        texts |= {"producer": producer, "request": own + texts["request"].removeprefix(own)}
    known: dict[str, Any] = {**texts, **numbers}
    request = Request(
        **known,
        outcome=_outcome(wire.get("outcome")),
        ending=None if wire.get("ending") is None else Ending(_text("ending", wire["ending"])),
        chunk_ns=_chunks(wire.get("chunk_ns")),
        tags=_small_map("tags", wire.get("tags"), MAX_TAGS, _text),
        units=_small_map("units", wire.get("units"), MAX_UNITS, _integer),
    )
    _check_consistent(request)
    return request


def energy_to_wire(energy: RequestEnergy) -> Message:
    """Return a request's joules as a dict; `energy_uj` is the sum of the parts, for readers that want one figure."""
    parts = [
        {
            "component": part.component.value,
            "provenance": part.provenance.value,
            **{name: getattr(part, name) for name in _PART_ENERGIES},
            "systematic_ratio": part.systematic_ratio,
        }
        for part in energy.parts
    ]
    head = {"request": energy.request, "energy_uj": energy.energy_uj, "tier": energy.tier.value}
    return {**head, "final": energy.final, "parts": parts}


def energy_from_wire(wire: object) -> RequestEnergy:
    """Return the joules that `wire`, a decoded JSON value, describes.

    Raises:
        RecordRejected: it is no such value; the reader counts it and goes on.
    """
    if not isinstance(wire, dict):
        _reject("energy", "not a JSON object", "use agent and SDK of one version")
    try:
        parts = tuple(_part(part) for part in wire["parts"])
        return RequestEnergy(str(wire["request"]), parts, Tier(wire["tier"]), wire["final"] is True)
    except (LookupError, TypeError, ValueError) as exc:
        fix = "use agent and SDK of one version"
        raise RecordRejected(f"not an energy: {type(exc).__name__}", where="energy", fix=fix) from exc


def _part(wire: Message) -> EnergyPart:
    prefill_uj, decode_uj, low_uj, high_uj = (_integer(name, wire[name]) for name in _PART_ENERGIES)
    component, provenance = Component(wire["component"]), Provenance(wire["provenance"])
    ratio = wire["systematic_ratio"]
    if type(ratio) not in {int, float}:
        _reject("energy", "a ratio that is no number", "use agent and SDK of one version")
    return EnergyPart(component, provenance, prefill_uj, decode_uj, low_uj, high_uj, float(ratio))


def _reject(where: str, what: str, fix: str) -> NoReturn:
    raise RecordRejected(what, where=where, fix=fix)


def _text(name: str, value: object) -> str:
    if not isinstance(value, str):
        _reject(name, f"a {type(value).__name__}", "send text")
    if len(value) > MAX_TEXT_CHARACTERS:
        _reject(name, f"{len(value)} characters", f"send at most {MAX_TEXT_CHARACTERS}")
    if REFUSED_CHARACTERS.search(value):
        _reject(name, "a control character or lone surrogate", "send printable text")
    return value


def _integer(name: str, value: object) -> int:
    if type(value) is not int:  # a bool is an int by inheritance only
        _reject(name, f"a {type(value).__name__}", "send a whole number")
    if not 0 <= value <= MAX_INTEGER:
        _reject(name, "out of range", "send 0 to 2^63 - 1, or leave out what is not known")
    return value


def _tenant(value: str) -> str:
    if value == "__other__":
        _reject("tenant", "a reserved name", "choose a tenant name that does not start with two underscores")
    return value or UNKNOWN_TENANT


def _outcome(value: object) -> Outcome | None:
    if value is None:
        return None
    try:
        return Outcome(value)  # type: ignore[arg-type]
    except ValueError:
        _reject("outcome", "not an outcome", f"send one of {', '.join(Outcome)}")


def _chunks(value: object) -> tuple[int, ...]:
    if value is None:
        return ()
    if not isinstance(value, list) or len(value) > MAX_CHUNKS:
        _reject("chunk_ns", "not a list of times", f"send at most {MAX_CHUNKS} times")
    return tuple(_integer("chunk_ns", one) for one in value)


def _small_map(name: str, value: object, most: int, check: Callable[[str, object], Any]) -> dict[str, Any]:
    if value is None:
        return {}
    if not isinstance(value, dict) or len(value) > most:
        _reject(name, "not a small map", f"send at most {most} {name}")
    return {_text(name, key): check(name, one) for key, one in value.items()}


def _check_consistent(request: Request) -> None:
    start_ns, first_ns, end_ns = request.arrival_ns, request.first_token_ns, request.end_ns
    if end_ns is not None and end_ns < start_ns + (request.queued_ns or 0):
        _reject("end_ns", "ends before it starts", "send monotonic times of one machine")
    if end_ns is None and request.outcome is not None:
        _reject("outcome", "an outcome without an end", "send end_ns with the outcome")
    if first_ns is not None and not start_ns <= first_ns <= (MAX_INTEGER if end_ns is None else end_ns):
        _reject("first_token_ns", "outside of the request", "send monotonic times of one machine")
    if (request.cached_tokens or 0) > (MAX_INTEGER if request.prompt_tokens is None else request.prompt_tokens):
        _reject("cached_tokens", "more than the prompt", "send the whole prompt as prompt_tokens, cached ones included")
