"""A stream comes out as it went in, but for one object in its last data."""

import json
from collections.abc import Iterable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inferwatt.answering.events import data_of
from inferwatt.answering.stream import Stream
from inferwatt.answering.usage import Used

FIGURE = {"id": "r", "energy_joules": 1.5}


def sse(*datas: Any, end: str = "\n\n") -> bytes:
    """Return events with these data: text as it is, all else as JSON."""
    return "".join(f"data: {one if isinstance(one, str) else json.dumps(one)}{end}" for one in datas).encode()


def chunk(text: str, reason: str | None = None, index: int = 0) -> dict[str, Any]:
    """Return one chunk of a chat stream."""
    return {"id": "chatcmpl-1", "choices": [{"index": index, "delta": {"content": text}, "finish_reason": reason}]}


USAGE = {"id": "chatcmpl-1", "choices": [], "usage": {"prompt_tokens": 5, "completion_tokens": 3}}
CHAT = [chunk("a"), chunk("b\u2028"), chunk("c"), chunk("", "stop")]
ANTHROPIC = (
    b'event: message_start\ndata: {"type":"message_start","message":{"id":"msg_1",'
    b'"usage":{"input_tokens":4,"output_tokens":1}}}\n\n'
    b'event: content_block_delta\ndata: {"type":"content_block_delta","delta":{"text":"hi"}}\n\n'
    b'event: message_delta\ndata: {"type":"message_delta","delta":{"stop_reason":"end_turn"},'
    b'"usage":{"output_tokens":9}}\n\n'
    b'event: message_stop\ndata: {"type":"message_stop"}\n\n'
)


def through(stream: Stream, data: bytes, sizes: Iterable[int] = ()) -> bytes:
    """Return what comes out of a stream that comes in pieces of these sizes."""
    out, start = b"", 0
    for size in sizes:
        out += stream.feed(data[start : start + size])
        start += size
    return out + stream.feed(data[start:]) + stream.end()


def objects(data: bytes) -> list[Any]:
    """Return the data of a stream with LF ends, decoded."""
    found = [data_of(event) for event in data.split(b"\n\n")]
    return [json.loads(one) for one in found if one is not None and one != b"[DONE]"]


@given(st.lists(st.integers(1, 40), max_size=80))
def test_what_a_server_says_itself_is_not_hidden_with_its_usage(sizes: list[int]) -> None:
    """Its object, put into the usage that the client did not ask for, is in the last data that the client gets."""
    mine = {"id": "mine", "energy_joules": 7.0}
    data = sse(*CHAT, {**USAGE, "inferwatt": mine}, "[DONE]")
    for stream in (Stream(lambda _: FIGURE, hides_usage=True), Stream(lambda _: None, hides_usage=True)):
        assert objects(through(stream, data, sizes)) == [*CHAT[:-1], {**CHAT[-1], "inferwatt": mine}]


@given(st.lists(st.integers(1, 40), max_size=80), st.sampled_from(["\n\n", "\r\n\r\n"]))
def test_switched_off_every_byte_is_as_it_was(sizes: list[int], end: str) -> None:
    """Without a figure the stream is the server's, wherever it was cut."""
    for data in (sse(*CHAT, USAGE, "[DONE]", end=end), ANTHROPIC, sse(*CHAT), sse(chunk("a"))[:-9]):
        assert through(Stream(lambda _used: None), data, sizes) == data


@given(st.lists(st.integers(1, 40), max_size=80))
def test_the_object_is_in_the_last_data_and_nothing_else_changed(sizes: list[int]) -> None:
    """One object, before `[DONE]`, in the usage; taken out again the stream is the server's to the byte."""
    data = sse(*CHAT, USAGE, "[DONE]")
    stream = Stream(lambda _used: FIGURE)
    out = through(stream, data, sizes)
    added = b"," + json.dumps({"inferwatt": FIGURE}, separators=(",", ":")).encode()[1:-1]

    assert out.count(added) == 1
    assert out.replace(added, b"") == data
    assert objects(out)[-1] == {**USAGE, "inferwatt": FIGURE}
    assert (stream.used.prompt, stream.used.output, stream.used.response_id, stream.is_over) == (
        5,
        3,
        "chatcmpl-1",
        True,
    )


def test_usage_that_the_client_did_not_ask_for_is_hidden() -> None:
    """The usage is read and left out; the object is in the chunk that ends the answer."""
    stream = Stream(lambda used: {"tokens": used.output}, hides_usage=True)
    out = through(stream, sse(*CHAT, USAGE, "[DONE]"))

    assert out == sse(*CHAT[:-1]) + sse({**CHAT[-1], "inferwatt": {"tokens": 3}}).replace(
        b', "inferwatt": {"tokens": 3}', b',"inferwatt":{"tokens":3}'
    ) + sse("[DONE]")


def test_usage_is_hidden_where_there_is_no_figure_too() -> None:
    """Switched off, the client gets what it asked for and not a byte more."""
    assert through(Stream(lambda _used: None, hides_usage=True), sse(*CHAT, USAGE, "[DONE]")) == sse(*CHAT, "[DONE]")


def test_of_several_answers_only_the_last_end_is_kept_back() -> None:
    """With n=2 the end of the first answer goes out at once."""
    stream = Stream(lambda _used: FIGURE, answers=2)

    assert stream.feed(sse(chunk("a"), chunk("", "stop", 0))) == sse(chunk("a"), chunk("", "stop", 0))
    assert stream.feed(sse(chunk("", "stop", 1))) == b""
    assert b"inferwatt" in stream.feed(sse("[DONE]"))


def test_anthropics_last_event_has_it() -> None:
    """`message_stop` carries the object; tokens are those of the start and of the last delta."""
    stream = Stream(lambda _used: FIGURE)
    out = through(stream, ANTHROPIC)

    assert objects(out)[-1] == {"type": "message_stop", "inferwatt": FIGURE}
    assert stream.used == Used(4, None, 9, response_id="msg_1")


def test_responses_and_tgi_have_it_in_their_last_event() -> None:
    """`response.completed` and the event with the whole text carry the object at their top level."""
    done = {
        "type": "response.completed",
        "response": {"id": "resp_1", "usage": {"input_tokens": 2, "output_tokens": 3}},
    }
    text = {"token": {"id": 1}, "generated_text": "a b", "details": {"generated_tokens": 2}}
    for last in (done, text):
        assert objects(through(Stream(lambda _used: FIGURE), sse({"type": "x"}, last)))[-1] == {
            **last,
            "inferwatt": FIGURE,
        }


def test_a_cut_stream_gets_no_figure_and_says_that_it_was_cut() -> None:
    """Without an end it is not over; what was kept goes out as it came."""
    stream = Stream(lambda _used: FIGURE)
    out = stream.feed(sse(*CHAT[:2])) + stream.end(was_cut=True)

    assert (out, stream.is_over, stream.events) == (sse(*CHAT[:2]), False, 2)


def test_an_error_in_a_stream_is_a_failure_and_passed_on() -> None:
    """After status 200 an error is no empty success."""
    data = sse(chunk("a"), {"error": {"message": "boom"}})
    stream = Stream(lambda _used: None)

    assert through(stream, data) == data
    assert stream.used.failed


def test_an_upstreams_own_object_stands() -> None:
    """What a server's middleware has said already is passed on, not said twice."""
    data = sse(chunk("a"), {**USAGE, "inferwatt": {"id": "theirs"}}, "[DONE]")

    assert through(Stream(lambda _used: FIGURE), data) == data


@pytest.mark.parametrize("size", [1, 100_000])
def test_bytes_alone_and_large_events_come_through(size: int) -> None:
    """Events of 100 kB in pieces of one byte, and of 100 kB, are the same stream."""
    data = sse(*[chunk("x" * 50_000)] * 3, chunk("", "stop"), "[DONE]")

    assert through(Stream(lambda _used: None), data, [size] * (len(data) // size)) == data
