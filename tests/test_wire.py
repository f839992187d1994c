"""The wire: frames however they are cut, records however they are spoilt."""

import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inferwatt import wire
from inferwatt.errors import RecordRejected
from inferwatt.records import (
    Component,
    Ending,
    EnergyPart,
    Outcome,
    Provenance,
    Request,
    RequestEnergy,
    Tier,
)

COUNTS = st.integers(0, wire.MAX_INTEGER)
TEXTS = st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=wire.MAX_TEXT_CHARACTERS)
MESSAGES = st.dictionaries(TEXTS, st.none() | st.booleans() | COUNTS | TEXTS | st.lists(COUNTS, max_size=3), max_size=5)


@st.composite
def requests(draw: st.DrawFn) -> Request:
    """Any request that an honest producer can hand in."""
    arrival_ns, first_ns, end_ns = sorted(draw(st.tuples(COUNTS, COUNTS, COUNTS)))
    ended = draw(st.booleans())
    cached, prompt = sorted(draw(st.tuples(COUNTS, COUNTS)))
    return Request(
        request=draw(TEXTS.filter(bool)),
        engine=draw(TEXTS),
        model=draw(TEXTS),
        tenant=draw(TEXTS.filter(lambda text: text not in {"", "__other__"})),
        arrival_ns=arrival_ns,
        first_token_ns=draw(st.none() | st.just(first_ns)),
        end_ns=end_ns if ended else None,
        prompt_tokens=prompt,
        cached_tokens=draw(st.none() | st.just(cached)),
        output_tokens=draw(st.none() | COUNTS),
        outcome=draw(st.sampled_from(Outcome)) if ended else None,
        ending=draw(st.none() | st.sampled_from(Ending)),
        queued_ns=draw(st.none() | st.integers(0, end_ns - arrival_ns)),
        chunk_ns=tuple(draw(st.lists(COUNTS, max_size=3))),
        wasted_tokens=draw(st.none() | COUNTS),
        tags=draw(st.dictionaries(TEXTS, TEXTS, max_size=3)),
        response_id=draw(TEXTS),
        trace_id=draw(TEXTS),
        namespace=draw(TEXTS),
        pod=draw(TEXTS),
        container=draw(TEXTS),
        provider=draw(TEXTS),
        units=draw(st.dictionaries(TEXTS, COUNTS, max_size=3)),
    )


PARTS = st.builds(
    EnergyPart,
    st.sampled_from(Component),
    st.sampled_from(Provenance),
    *(COUNTS, COUNTS, COUNTS, COUNTS),
    st.floats(0, 10),
)
ENERGIES = st.builds(RequestEnergy, TEXTS, st.lists(PARTS, max_size=3).map(tuple), st.sampled_from(Tier), st.booleans())

SPOILT_REQUEST: dict[str, tuple[object, ...]] = {
    "prompt_tokens": (True, 1.0, -1, 2**63, "7", math.nan, []),
    "arrival_ns": (None, True, 1.5, -1, 2**63),
    "end_ns": (99, "soon", -1),
    "first_token_ns": (99, 201),
    "request": ("", None, 7, "x" * 257, "\ud800", "a\x00b", "a\nb"),
    "tenant": ("__other__", "x" * 257, 3),
    "tags": ({str(n): "" for n in range(33)}, {"a": 1}, {"a": "\udfff"}, {"x" * 257: ""}, []),
    "units": (
        {str(n): 0 for n in range(17)},
        *({"a": count} for count in (-1, 2**63, True, 1.5, None, "1")),
        *({name: 1} for name in ("x" * 257, "a\n", "\ud800")),
        [],
        5,
    ),
    "namespace": (None, 7, "x" * 257, "a\x00b", "\ud800"),
    "pod": (None, ["p"], "x" * 257, "a\nb"),
    "container": (None, {}, "x" * 257, "\x7f"),
    "provider": (None, 1, "x" * 257, "\n"),
    "outcome": ("thinking", 1, [], {}),
    "ending": (1, [], "a\nb"),
    "chunk_ns": (5, [1.5], [True], [0] * (wire.MAX_CHUNKS + 1)),
    "cached_tokens": (11,),
}
SPOILT_ENERGY: dict[str, tuple[object, ...]] = {
    "parts": (None, 7, [7], [{}], [None], [{"component": "cpu"}]),
    "tier": (None, "guess", [], 1),
    "component": ("soul", None, []),
    "prefill_uj": (-1, 1.5, None, True, 2**63),
    "systematic_ratio": ("nan", None, True, []),
}


def flat(spoilt: dict[str, tuple[object, ...]]) -> list[tuple[str, object]]:
    """One case for each spoilt value of each field."""
    return [(field, value) for field, values in spoilt.items() for value in values]


def as_json(value: Any) -> Any:
    """What the other end sees of a value."""
    return json.loads(json.dumps(value))


@given(requests())
def test_a_request_comes_out_as_it_went_in(request_: Request) -> None:
    """Whatever an honest producer says of a request is what the agent reads."""
    assert request_ == wire.request_from_wire(as_json(wire.request_to_wire(request_)))


@given(ENERGIES)
def test_an_energy_comes_out_as_it_went_in(energy: RequestEnergy) -> None:
    """The joules that the agent pushes are those that the producer reads, to the microjoule."""
    assert energy == wire.energy_from_wire(as_json(wire.energy_to_wire(energy)))


def test_what_is_not_known_is_not_said() -> None:
    """A field at its default costs no byte, and zero tokens are not the same as unknown ones."""
    expected = {"request": "1", "arrival_ns": 5, "output_tokens": 0}

    assert expected == wire.request_to_wire(Request("1", arrival_ns=5, output_tokens=0))


def test_an_ending_of_a_newer_producer_is_another() -> None:
    """How a request ended may get a name that this agent does not know: the record is taken."""
    wired = {"request": "1", "arrival_ns": 5, "end_ns": 6, "ending": "bored", "wasted_tokens": 2}

    assert wire.request_from_wire(wired).thrown_away == {"other": 2}


def test_a_field_of_a_newer_producer_is_ignored() -> None:
    """An agent reads what it knows of a record from a newer SDK."""
    newer = {"request": "1", "arrival_ns": 5, "mood": ["sunny"], "producer": "someone else"}

    assert Request("1", arrival_ns=5) == wire.request_from_wire(newer)


@pytest.mark.parametrize(("field", "value"), flat(SPOILT_REQUEST))
def test_a_spoilt_field_is_refused_by_its_name(field: str, value: object) -> None:
    """Bool, float, negative, too large, too long, contradicting: the record is refused and the field is named."""
    good = {"request": "1", "arrival_ns": 100, "end_ns": 200, "prompt_tokens": 10, "outcome": "finished"}
    assert wire.request_from_wire(good).end_ns == 200

    with pytest.raises(RecordRejected) as caught:
        wire.request_from_wire({**good, field: value})

    assert field == caught.value.where


@given(st.recursive(st.none() | st.booleans() | st.floats() | st.integers() | st.text(), st.lists, max_leaves=8))
def test_no_value_but_an_object_is_a_record(value: object) -> None:
    """A record that is a number, a text or a list is refused, never misread."""
    with pytest.raises(RecordRejected):
        wire.request_from_wire(value)
    with pytest.raises(RecordRejected):
        wire.energy_from_wire(value)


@pytest.mark.parametrize(("field", "value"), flat(SPOILT_ENERGY))
def test_a_spoilt_energy_is_refused(field: str, value: object) -> None:
    """A producer never stumbles over what an agent of another version pushes."""
    part = EnergyPart(Component.CPU, Provenance.MODELLED, 1, 2, 3, 4, 0.5)
    good = wire.energy_to_wire(RequestEnergy("1", (part,), Tier.REQUEST_SPAN, final=True))
    assert wire.energy_from_wire(good).energy_uj == 3
    spoilt = {**good, field: value} if field in good else {**good, "parts": [{**good["parts"][0], field: value}]}

    with pytest.raises(RecordRejected):
        wire.energy_from_wire(spoilt)


@given(st.lists(MESSAGES, max_size=6), st.lists(st.integers(1, 40), min_size=1, max_size=20))
def test_frames_survive_any_cut(messages: list[dict[str, Any]], sizes: list[int]) -> None:
    """However the stream is cut into reads, the same messages come out, and nothing is left over."""
    stream = b"".join(wire.encode(message) for message in messages)
    decoder = wire.Decoder()
    found: list[Any] = []
    turn = 0
    while stream:
        size = sizes[turn % len(sizes)]
        found += decoder.feed(stream[:size])
        stream, turn = stream[size:], turn + 1

    assert messages == found
    assert decoder.buffered_bytes == 0


@given(st.lists(st.binary(max_size=200), max_size=10))
def test_the_decoder_never_fails_and_never_grows(chunks: list[bytes]) -> None:
    """Any bytes give messages or counted refusals, and no more than one frame is ever held."""
    decoder = wire.Decoder()
    for chunk in chunks:
        for one in decoder.feed(chunk):
            assert isinstance(one, dict | RecordRejected)
        assert decoder.buffered_bytes <= wire.MAX_FRAME_BYTES + 3


@pytest.mark.parametrize("length", [0, wire.MAX_FRAME_BYTES + 1, 2**32 - 1])
def test_an_impossible_length_ends_the_stream(length: int) -> None:
    """A length of 0, over 1 MiB or 4 GB breaks the stream after the good frames before it, and holds no memory."""
    decoder = wire.Decoder()
    found = decoder.feed(wire.encode({"t": "hello"}) + length.to_bytes(4, "big") + b"x" * 100)

    assert found[0] == {"t": "hello"}
    assert isinstance(found[1], wire.FrameBroken)
    assert decoder.feed(wire.encode({"t": "hello"})) == []
    assert decoder.buffered_bytes == 0


@pytest.mark.parametrize(
    "body",
    [
        b"\x80\x04\x95",  # a pickle
        b'{"v": NaN}',
        b'{"v": -Infinity}',
        b'{"v": "\xff"}',
        b"[" * 100_000,
        b"[1]",
        b"7",
        b"9" * 5000,
        b'{"v":',
    ],
)
def test_a_frame_that_is_no_message_costs_only_itself(body: bytes) -> None:
    """Pickle, NaN, broken UTF-8 and endless brackets are refused; the next frame is read."""
    good = wire.encode({"t": "ack", "seq": 1})
    found = wire.Decoder().feed(len(body).to_bytes(4, "big") + body + good)

    assert isinstance(found[0], RecordRejected)
    assert found[1:] == [{"t": "ack", "seq": 1}]


@pytest.mark.parametrize("message", [{"v": math.nan}, {"v": "\ud800"}, {"v": object()}, {"v": "x" * (1 << 20)}])
def test_what_the_other_end_would_refuse_is_not_written(message: dict[str, Any]) -> None:
    """A writer is told at once that its message cannot be sent."""
    with pytest.raises(RecordRejected):
        wire.encode(message)
