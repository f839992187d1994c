"""What an answer says of its energy, by each protocol, and what is asked of a server for that."""

import gzip
import json
import threading
from typing import Any

import pytest

from inferwatt.records import Outcome
from tests.engines.ends import WAIT_SECONDS, some_energy
from tests.gateway.conftest import Desk
from tests.gateway.processes import CHAT, Answer, Gateway, StandIn

ANTHROPIC = "".join(
    f"event: {told['type']}\ndata: {json.dumps(told)}\n\n"
    for told in (
        {"type": "message_start", "message": {"id": "msg_1", "usage": {"input_tokens": 5, "output_tokens": 1}}},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "a"}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "b"}},
        {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 2}},
        {"type": "message_stop"},
    )
)
RESPONSES = "".join(
    f"event: {told['type']}\ndata: {json.dumps(told)}\n\n"
    for told in (
        {"type": "response.created", "response": {"id": "resp_1", "usage": None}},
        {"type": "response.output_text.delta", "delta": "a"},
        {"type": "response.output_text.delta", "delta": "b"},
        {
            "type": "response.completed",
            "response": {"id": "resp_1", "usage": {"input_tokens": 5, "output_tokens": 2, "total_tokens": 7}},
        },
    )
)
TGI = "".join(
    f"data:{json.dumps(told)}\n\n"
    for told in (
        {"index": 1, "token": {"id": 1, "text": "a"}, "generated_text": None, "details": None},
        {
            "index": 2,
            "token": {"id": 2, "text": "b"},
            "generated_text": "ab",
            "details": {"finish_reason": "length", "generated_tokens": 2, "prefill": [{}] * 5},
        },
    )
)
STREAMS: dict[str, tuple[str, str, str]] = {
    "anthropic": ("/v1/messages", ANTHROPIC, "msg_1"),
    "responses": ("/v1/responses", RESPONSES, "resp_1"),
    "tgi": ("/generate_stream", TGI, ""),
}
USED = {"usage": {"prompt_tokens": 5, "completion_tokens": 2, "total_tokens": 7}}
BODIES: dict[str, tuple[str, dict[str, Any], dict[str, str]]] = {
    "chat": (CHAT, {"id": "i", **USED}, {}),
    "completion": ("/v1/completions", {"id": "i", **USED}, {}),
    "azure": ("/openai/deployments/my-gpt/chat/completions?api-version=2024-10-21", {"id": "i", **USED}, {}),
    "anthropic": ("/v1/messages", {"id": "i", "usage": {"input_tokens": 5, "output_tokens": 2}}, {}),
    "responses": ("/v1/responses", {"id": "i", "usage": {"input_tokens": 5, "output_tokens": 2}}, {}),
    "tgi": ("/generate", {"generated_text": "ab"}, {"x-prompt-tokens": "5", "x-generated-tokens": "2"}),
}


@pytest.mark.parametrize("name", STREAMS)
def test_the_last_data_of_each_protocol_has_the_object(name: str, gateway: Gateway, desk: Desk) -> None:
    """It is in the event that is the last by its protocol, all else is untouched, and the tokens are the server's."""
    path, stream, response_id = STREAMS[name]

    segments = stream.splitlines(keepends=True)

    answer = gateway.ask({"model": "m", "stream": True, "say": {"segments": segments}}, path)
    record = desk.ended(answer.name)
    start = answer.body.index(b',"inferwatt":{')
    end = answer.body.index(b"}", start) + 1

    assert answer.body[:start] + answer.body[end:] == stream.encode()
    assert b"\n\n" not in answer.body[end:].rstrip(b"\n")
    assert (record.outcome, record.prompt_tokens, record.output_tokens) == (Outcome.FINISHED, 5, 2)
    assert record.response_id == response_id
    assert record.first_token_ns is not None
    assert 1 <= len(record.chunk_ns) <= len(segments)


@pytest.mark.parametrize("name", BODIES)
def test_a_body_of_each_protocol_has_the_object(name: str, gateway: Gateway, server: StandIn, desk: Desk) -> None:
    """Before its last brace, and in the headers; the path goes on as it was asked."""
    path, said, headers = BODIES[name]
    say = {"segments": [json.dumps(said)], "kind": "application/json", "headers": headers}

    answer = gateway.ask({"model": "m", "say": say}, path)
    record = desk.ended(answer.name)

    assert server.seen()["path"] == path
    assert {key: value for key, value in answer.json().items() if key != "inferwatt"} == said
    assert answer.json()["inferwatt"] == {
        "id": answer.name,
        "final": False,
        "state": "pending",
        "link": f"/v1/requests/{answer.name}",
    }
    assert (record.prompt_tokens, record.output_tokens) == (5, 2)
    assert record.model == ("my-gpt" if name == "azure" else "m")


def test_the_joules_that_are_known_go_into_the_last_data(gateway: Gateway, server: StandIn, desk: Desk) -> None:
    """Nothing is held back for them: what is settled by then, with no upper bound, since the rest is not known."""
    got: list[Answer] = []
    told = {"model": "joules", "stream": True, "max_tokens": 3, "waits_after": 2}
    asking = threading.Thread(target=lambda: got.append(gateway.ask(told)))
    asking.start()
    incoming = next(one for one in iter(desk.agent.next, None) if one.request.model == "joules")
    desk.agent.inbox.push(incoming.producer, [some_energy(incoming.request.request, final=False)])
    name = incoming.request.trace_id
    while gateway.ask(b"", f"/v1/requests/{name}", "GET").json()["state"] == "pending":
        threading.Event().wait(0.01)
    server.ask({}, "/go")
    asking.join(WAIT_SECONDS)
    [*before, last] = got[0].data()

    desk.agent.inbox.push(incoming.producer, [some_energy(incoming.request.request, final=True)])
    desk.ended(name)
    while not gateway.ask(b"", f"/v1/requests/{name}", "GET").json()["final"]:
        threading.Event().wait(0.01)

    assert last["inferwatt"] | {"link": ""} == {
        "id": name,
        "energy_joules": 3e-06,
        "low_joules": 3e-06,
        "prefill_joules": 1e-06,
        "decode_joules": 2e-06,
        "systematic_ratio": 0.4,
        "tier": "request_span",
        "provenance": "modelled",
        "basis": "settled_so_far",
        "final": False,
        "state": "provisional",
        "link": "",
    }
    assert not [one for one in before if "inferwatt" in one]


def test_the_usage_is_asked_for_and_hidden(gateway: Gateway, server: StandIn, desk: Desk) -> None:
    """A server tells its tokens to the gateway; the client that did not ask gets what it asked for."""
    told = {"model": "m", "stream": True, "max_tokens": 4}

    answer = gateway.ask(told)
    record = desk.ended(answer.name)
    seen = json.loads(server.seen()["body"])

    assert seen == {"stream_options": {"include_usage": True}, **told}
    assert not [one for one in answer.data() if "usage" in one or not one["choices"]]
    assert answer.body.endswith(b"data: [DONE]\n\n")
    assert "inferwatt" in answer.data()[-1]
    assert (record.prompt_tokens, record.output_tokens) == (7, 4)


def test_who_asks_for_the_usage_gets_it(gateway: Gateway, server: StandIn) -> None:
    """The options of a client go on as they are, and the object is in the event with the usage, which is the last."""
    told = {"model": "m", "stream": True, "stream_options": {"include_usage": True, "other": 1}}

    answer = gateway.ask(told)

    assert json.loads(server.seen()["body"]) == told
    assert answer.data()[-1]["usage"]["completion_tokens"] == 5
    assert "inferwatt" in answer.data()[-1]


def test_a_server_that_tells_its_tokens_anyway_is_not_asked(gateway: Gateway, server: StandIn) -> None:
    """llama.cpp has its timings in the last event, and elsewhere if it is asked for its usage: its streams stay."""
    json_of_it = {"segments": ["{}"], "kind": "application/json", "headers": {"server": "llama.cpp"}}
    told = {"model": "m", "stream": True}
    gateway.ask({"model": "m", "say": json_of_it})

    gateway.ask(told)

    assert json.loads(server.seen()["body"]) == told
    gateway.ask({"model": "m", "stream": True})
    assert "include_usage" in server.seen()["body"]


@pytest.mark.parametrize("streams", [True, False])
def test_a_server_that_says_its_own_joules_is_left_to_it(streams: bool, gateway: Gateway, desk: Desk) -> None:
    """As vLLM's middleware does, or another gateway: its object and its headers stand, not half of each."""
    said = {"id": "i", "choices": [], **USED, "inferwatt": {"id": "mine", "state": "final", "energy_joules": 5.0}}
    text = json.dumps(said)
    headers = {"x-inferwatt-request-id": "mine", "x-inferwatt-energy-joules": "5.0", "x-inferwatt-state": "final"}
    kind = "text/event-stream" if streams else "application/json"
    body = f"data: {text}\n\ndata: [DONE]\n\n" if streams else text

    told = {"model": "m", "stream": streams, "stream_options": {"include_usage": True}}
    told["say"] = {"segments": [body], "kind": kind, "headers": headers}
    answer = gateway.ask(told, headers={"x-request-id": "mine"})
    record = desk.ended("mine")

    assert answer.body == body.encode()
    assert {name: answer.headers[name] for name in answer.headers if name.startswith("x-inferwatt")} == headers
    assert (record.prompt_tokens, record.output_tokens) == (5, 2)


def test_a_packed_answer_is_passed_on_packed(gateway: Gateway, server: StandIn, desk: Desk) -> None:
    """Plain bytes are asked for; a server that packs them all the same is not read, and not broken."""
    packed = gzip.compress(b'{"usage": {"prompt_tokens": 1}}', mtime=0).decode("latin-1")
    say = {"segments": [packed], "kind": "application/json", "headers": {"content-encoding": "gzip"}}

    answer = gateway.ask({"model": "m", "say": say}, headers={"accept-encoding": "gzip"})

    assert answer.body.decode("latin-1") == packed
    assert answer.headers["content-encoding"] == "gzip"
    assert ["accept-encoding", "identity"] in server.seen()["headers"]
    assert desk.ended(answer.name).output_tokens is None


def test_a_large_body_goes_through_and_its_usage_is_read_at_its_end(gateway: Gateway, desk: Desk) -> None:
    """Embeddings of many megabytes are not held back for their figure."""
    body = '{"data": "' + "x" * (6 << 20) + '", "usage": {"prompt_tokens": 9, "details": {"a": 1}}}'
    say = {"segments": [body[: 3 << 20], body[3 << 20 :]], "kind": "application/json"}

    answer = gateway.ask({"model": "m", "say": say}, "/v1/embeddings")

    assert answer.body == body.encode()
    assert desk.ended(answer.name).prompt_tokens == 9


@pytest.mark.parametrize("status", [400, 404, 429, 503])
def test_a_call_that_its_server_refuses_has_no_tokens(status: int, gateway: Gateway, desk: Desk) -> None:
    """The server's own words go back, with nothing in them; the call has failed, and nothing was computed."""
    body = '{"error": {"message": "no"}}'
    say = {"segments": [body], "kind": "application/json", "status": status, "headers": {"retry-after": "60"}}

    answer = gateway.ask({"model": "m", "say": say})
    record = desk.ended(answer.name)

    assert (answer.status, answer.body) == (status, body.encode())
    assert answer.headers["retry-after"] == "60"
    assert (record.outcome, record.prompt_tokens, record.output_tokens) == (Outcome.FAILED, 0, 0)


@pytest.mark.parametrize("kind", ["application/json", "text/html"])
def test_a_call_that_breaks_its_server_has_failed(kind: str, gateway: Gateway, desk: Desk) -> None:
    """What it had computed by then is not known: a body without usage tells no tokens."""
    answer = gateway.ask({"model": "m", "say": {"segments": ["{}"], "kind": kind, "status": 500}})
    record = desk.ended(answer.name)

    assert (answer.status, answer.body) == (500, b"{}")
    assert (record.outcome, record.prompt_tokens, record.output_tokens) == (Outcome.FAILED, None, None)
    assert "usage after the end of its request" not in gateway.ask(b"", "/healthz", "GET").json()["counts"]


def test_polls_are_no_calls(gateway: Gateway, server: StandIn, desk: Desk) -> None:
    """Health and the list of models make no record, so that they cost nobody a joule."""
    before = server.seen()["polls"]
    for path in ("/health", "/healthz", "/v1/models", "/v1/models/m"):
        assert gateway.ask(b"", path, "GET").status == 200
    answer = gateway.ask({"model": "after"})

    assert gateway.ask(b"", "/v1/models", "GET").json()["data"] == [{"id": "m", "object": "model"}]
    assert server.seen()["polls"] == before + 3
    assert desk.ended(answer.name).model == "after"
    assert desk.agent.records.empty()


def test_trace_context_and_tags_go_along(gateway: Gateway, server: StandIn, desk: Desk) -> None:
    """A server continues the client's trace; the record has its id, the tags, and the id that the client gave."""
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    headers = {
        "traceparent": trace,
        "tracestate": "a=b",
        "x-request-id": "mine-1",
        "x-inferwatt-tags": "team=red, task=x",
    }

    answer = gateway.ask({"model": "m"}, headers=headers)
    seen = dict(map(tuple, server.seen()["headers"]))

    assert answer.name == "mine-1"
    assert (seen["traceparent"], seen["tracestate"], seen["x-request-id"]) == (trace, "a=b", "mine-1")
    assert "x-inferwatt-tags" not in seen
    record = desk.ended("mine-1")
    assert record.tags == {"team": "red", "task": "x", "trace_id": "0af7651916cd43dd8448eb211c80319c"}
    assert record.traceparent == trace
