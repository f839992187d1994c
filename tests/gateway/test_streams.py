"""Streams, whatever they are made of: the bytes are the server's own, and the record says how it ended."""

import json
from typing import Any

import pytest

from inferwatt.records import Outcome
from tests.gateway.conftest import Desk
from tests.gateway.processes import Gateway, StandIn


def event(**choice: Any) -> str:
    """Return an event of a chat, as latin-1 text of its UTF-8 bytes."""
    told = {"id": "chatcmpl-s", "model": "m", "choices": [{"index": 0, "finish_reason": None, **choice}]}
    return f"data: {json.dumps(told, ensure_ascii=False)}\n\n".encode().decode("latin-1")


def usage(**more: Any) -> str:
    """Return the event that tells the usage."""
    used = {"prompt_tokens": 7, "completion_tokens": 2, "total_tokens": 9}
    return f"data: {json.dumps({'id': 'chatcmpl-s', 'choices': [], 'usage': used, **more})}\n\n"


TOKEN, END, DONE = event(delta={"content": "x"}), event(delta={}, finish_reason="stop"), "data: [DONE]\n\n"
CHAT = [TOKEN, TOKEN, END, usage(), DONE]
ODD = event(delta={"content": "ä\u2028\u0085 \U0001f600"})
HUGE = 'data: {"choices": [], "text": "' + "x" * (20 << 20) + '"}\n\n'
LINES = 'data: {\ndata: "choices": []}\nid: 7\nevent: x\nretry: 10\n\n'
STREAMS: dict[str, list[str]] = {
    "plain": CHAT,
    "bytes": list("".join([ODD, *CHAT])),
    "odd_ends_of_lines_in_text": [ODD, *CHAT],
    "crlf": [one.replace("\n", "\r\n") for one in CHAT],
    "cr": [one.replace("\n", "\r") for one in CHAT],
    "crlf_by_bytes": list("".join(CHAT).replace("\n", "\r\n")),
    "no_space": [one.replace("data: ", "data:") for one in CHAT],
    "comments": [": keep alive\n\n", *CHAT[:2], ":\n\n", *CHAT[2:]],
    "fields": [LINES, *CHAT],
    "bom": ["\xef\xbb\xbf" + CHAT[0], *CHAT[1:]],
    "usage_in_each": [usage(choices=[{"index": 0, "delta": {"content": "x"}}])] * 2 + [END, usage(), DONE],
    "usage_null": [*([TOKEN.replace("}\n", ', "usage": null}\n')] * 2), END, usage(), DONE],
    "text_after_the_end": [*CHAT, "what else\n\n"],
    "no_last_blank_line": [*CHAT[:-1], "data: [DONE]"],
    "several_in_one": ["".join(CHAT[:3]), "".join(CHAT[3:])],
    "line_of_20_mb": [HUGE[: 1 << 20], HUGE[1 << 20 :], *CHAT],
    "not_json": ["data: {\n\n", "data: \n\n", *CHAT],
}


@pytest.mark.parametrize("name", STREAMS)
def test_bytes_are_passed_on_as_they_came(name: str, silent: Gateway, server: StandIn) -> None:
    """Where nothing is put into answers, a client gets what it would have got of the server itself."""
    told = {"model": "m", "stream": True, "say": {"segments": STREAMS[name]}}

    direct, through = server.ask(told), silent.ask(told)

    assert through.body == direct.body == "".join(STREAMS[name]).encode("latin-1")
    assert through.headers["content-type"] == direct.headers["content-type"]
    assert not [header for header in through.headers if header.startswith("x-inferwatt")]


@pytest.mark.parametrize("name", STREAMS)
def test_but_for_the_object_they_are_as_they_came(name: str, gateway: Gateway, desk: Desk) -> None:
    """With the object taken out again, the rest is the server's, byte for byte; the tokens are those that it told."""
    told = {"model": "m", "stream": True, "stream_options": {"include_usage": True}, "say": {"segments": STREAMS[name]}}

    answer = gateway.ask(told)
    start = answer.body.index(b',"inferwatt":{')
    end = answer.body.index(b"}", start) + 1
    record = desk.ended(answer.name)

    assert answer.body[:start] + answer.body[end:] == "".join(STREAMS[name]).encode("latin-1")
    assert json.loads(answer.body[start + 13 : end])["id"] == answer.name
    assert (record.outcome, record.prompt_tokens, record.output_tokens) == (Outcome.FINISHED, 7, 2)
    assert record.response_id == "chatcmpl-s"


CUT: dict[str, tuple[dict[str, Any], int]] = {
    "cut_in_an_event": ({"segments": [TOKEN, TOKEN, TOKEN[:20]], "cut": True}, 2),
    "cut_between": ({"segments": [TOKEN, TOKEN, TOKEN], "cut": True}, 3),
    "no_end": ({"segments": [TOKEN, TOKEN]}, 2),
    "an_error": ({"segments": [TOKEN, 'data: {"error": {"message": "out of memory"}}\n\n', DONE]}, 2),
    "an_error_by_its_name": ({"segments": [TOKEN, 'event: error\ndata: {"message": "no"}\n\n'], "cut": True}, 2),
}


@pytest.mark.parametrize("name", CUT)
def test_what_did_not_end_well_has_failed(name: str, gateway: Gateway, desk: Desk) -> None:
    """What came is passed on, a cut as a cut, and the tokens so far are kept: one an event, an end or an error too."""
    say, tokens = CUT[name]

    answer = gateway.ask({"model": "m", "stream": True, "say": say})
    record = desk.ended(answer.name)

    assert answer.body == "".join(say["segments"]).encode()
    assert answer.is_whole == ("cut" not in say)
    assert (record.outcome, record.output_tokens) == (Outcome.FAILED, tokens)


def test_a_server_killed_in_mid_stream_is_a_cut(gateway: Gateway, desk: Desk, tmp_path: Any) -> None:
    """A process that dies takes its connection with it; nothing hangs, and the next call says that nobody is there."""
    with StandIn(tmp_path) as dying, Gateway(tmp_path, [dying.url], agent=str(desk.agent.inbox.path)) as before:
        answer = before.ask({"model": "m", "stream": True, "max_tokens": 9, "dies_after": 4})
        record = desk.ended(answer.name)
        after = before.ask({"model": "m"})

    assert not answer.is_whole
    assert (record.outcome, record.output_tokens) == (Outcome.FAILED, 4)
    assert after.status == 502
