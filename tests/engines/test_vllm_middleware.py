"""The middleware around real Starlette applications that answer as vLLM does, and an inbox in place of the agent."""

import asyncio
import json
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from starlette.requests import ClientDisconnect

from inferwatt.engines import vllm_front
from inferwatt.engines.vllm_middleware import Middleware
from inferwatt.engines.vllm_middleware_desk import Desk
from inferwatt.rates import Band, Rates
from inferwatt.records import Outcome, Provenance, Tier
from tests.engines.asgi import APPLICATION, CHAT, ask
from tests.engines.ends import Agent, eventually, some_energy
from tests.engines.producer import ended, first

BAND = Band(1, 1, 1)
RATES = Rates("vllm:1", "m", 20, Tier.STEP_EXACT, Provenance.MEASURED, 0.1, BAND, BAND, BAND)


def event(**more: Any) -> bytes:
    """Return an event of a chat."""
    return f"data: {json.dumps({'id': 'chatcmpl-a', 'model': 'm', **more})}\n\n".encode()


TOKEN = event(choices=[{"index": 0, "finish_reason": None}])
END = event(choices=[{"index": 0, "finish_reason": "stop"}])
DONE = b"data: [DONE]\n\n"


@pytest.fixture
def app(agent: Agent) -> Iterator[Middleware]:
    """Return the application with the middleware, beside an agent."""
    assert agent
    wrapped = Middleware(APPLICATION)
    yield wrapped
    if wrapped._desk is not None:
        wrapped._desk.close(1.0)


def test_without_an_agent_vllm_is_called_as_if_nobody_were_there(monkeypatch: pytest.MonkeyPatch) -> None:
    """The very scope, the very functions: nothing is wrapped, and no thread is started."""
    seen: list[Any] = []

    async def app(*arguments: Any) -> None:
        seen.append(arguments)

    monkeypatch.setenv("INFERWATT_SOCKET", "/nonexistent/agent.sock")
    wrapped = Middleware(app)
    call = ({"type": "http", "method": "POST", "path": CHAT, "headers": []}, object(), object())
    for _ in range(2):
        asyncio.run(wrapped(*call))  # type: ignore[arg-type]

    assert [[one is other for one, other in zip(got, call, strict=True)] for got in seen] == [[True] * 3] * 2
    assert wrapped._desk is None


def test_an_agent_that_comes_later_is_found(app: Middleware, agent: Agent, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is looked for once a second, when somebody calls."""
    with monkeypatch.context() as absent:
        absent.setenv("INFERWATT_SOCKET", "/nonexistent/agent.sock")
        assert "inferwatt" not in ask(app).body.decode()
    assert "inferwatt" not in ask(app).body.decode()
    app._look_at = 0.0

    assert ask(app).object()["state"] == "pending"
    assert ended(agent).outcome is Outcome.FINISHED


def test_a_plain_answer_has_the_object_and_its_length(app: Middleware, agent: Agent) -> None:
    """The record names the call as vLLM does; without joules there is no number."""
    told = ask(app, {"size": 100})
    record = ended(agent)
    name = json.loads(told.body)["choices"][1]["name"]

    assert told.headers["content-length"] == str(len(told.body))
    assert told.object() == {"id": name, "final": False, "state": "pending"}
    assert told.headers["x-inferwatt-request-id"] == name == record.trace_id
    assert (record.response_id, record.prompt_tokens, record.output_tokens) == ("chatcmpl-a", 10, 3)


@pytest.mark.parametrize(
    ("body", "path", "headers", "name"),
    [
        ({}, CHAT, {"x-request-id": "mine"}, "mine"),
        ({"request_id": "its own"}, CHAT, {}, None),  # a header would stand over it
        ({"text": '"request_id": 1'}, CHAT, {}, "made"),  # inside a string it is no name
        ({}, "/v1/responses", {}, None),  # vLLM does not look at the header there
        ({"size": 0, "text": "x" * (1 << 20)}, CHAT, {}, None),  # too large to be looked into
    ],
)
def test_a_name_is_given_where_there_is_none(
    app: Middleware, agent: Agent, body: Any, path: str, headers: dict[str, str], name: str | None
) -> None:
    """The client's own stands, in its header or its body."""
    told = ask(app, body, path, headers)
    got = json.loads(told.body)["choices"][1]["name"]

    assert got == name or (name == "made" and len(got) == 32)
    assert ended(agent).trace_id == (got or "")
    assert told.object()["id"] == (got or "chatcmpl-a")


def test_the_record_is_below_its_callers_span(app: Middleware, agent: Agent) -> None:
    """Trace context goes along as its header has it."""
    header = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    ask(app, {}, CHAT, {"traceparent": header})

    assert ended(agent).traceparent == header


def test_what_was_told_of_a_stream_is_in_its_last_data(app: Middleware, agent: Agent) -> None:
    """The rest is as it was, and the head says the id alone."""
    pieces = [TOKEN, TOKEN, END, DONE]
    told = ask(app, {"pieces": [one.decode() for one in pieces]})
    record = ended(agent)
    *before, last, done = told.body.split(b"\n\n")[:-1]
    said = json.loads(last.removeprefix(b"data: ")).pop("inferwatt")

    assert [one + b"\n\n" for one in (*before, done)] == [TOKEN, TOKEN, DONE]
    assert last.replace(b',"inferwatt":' + json.dumps(said, separators=(",", ":")).encode(), b"") + b"\n\n" == END
    assert [name for name in told.headers if name.startswith("x-inferwatt")] == ["x-inferwatt-request-id"]
    assert (record.outcome, record.response_id) == (Outcome.FINISHED, "chatcmpl-a")
    assert record.first_token_ns is not None


UNTOUCHED: dict[str, Any] = {
    "malformed": b"{",
    "large": {"size": 1 << 20},
    "compressed": {"headers": {"content-encoding": "gzip"}},
    "in pieces": {"pieces": ['{"id":', "1}"], "kind": "application/json"},
    "text": {"pieces": ["words"], "kind": "text/plain"},
    "not an object": {"pieces": ["[1]"], "kind": "application/json"},
    "a cut stream": {"pieces": [TOKEN.decode(), TOKEN.decode()[:9]]},
}


NAMED = {"x-request-id": "n"}


@pytest.mark.parametrize("name", UNTOUCHED)
def test_whatever_else_comes_is_passed_on(app: Middleware, name: str) -> None:
    """Byte by byte, in the pieces in which it came."""
    bare, told = (ask(one, UNTOUCHED[name], headers=NAMED) for one in (APPLICATION, app))
    bodies = [[one["body"] for one in each.sent if one.get("body")] for each in (bare, told)]

    assert bodies[0] == bodies[1] or b"".join(bodies[0]) == b"".join(bodies[1]) == bare.body
    assert b"inferwatt" not in told.body


@pytest.mark.parametrize("body", [{}, {"pieces": [TOKEN.decode(), END.decode(), DONE.decode()]}])
def test_what_goes_wrong_here_leaves_the_answer_as_it_was(
    app: Middleware, body: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A fault of ours in the middle of an answer: what was kept goes out, the fault is counted."""
    ask(app)

    def fails(*_arguments: object) -> None:
        raise RuntimeError("a fault")

    monkeypatch.setattr(Desk, "known", fails)
    told = ask(app, body, headers=NAMED)
    desk = app._desk

    assert told.body == ask(APPLICATION, body, headers=NAMED).body
    assert told.headers["content-length" if not body else "content-type"]
    assert desk is not None
    assert sum(count for problem, count in desk.counts.items() if "RuntimeError" in problem) == 1


def test_vllms_own_exception_is_vllms(app: Middleware, agent: Agent) -> None:
    """It goes on as it came, and the record has failed."""
    with pytest.raises(RuntimeError, match="its own"):
        ask(app, {"raises": "its own"})

    assert ended(agent).outcome is Outcome.FAILED


def test_a_client_that_has_left_is_aborted(app: Middleware, agent: Agent) -> None:
    """However its server says it: by an error where something is sent, or by a message."""
    pieces = {"pieces": [TOKEN.decode()] * 3}
    with pytest.raises((ClientDisconnect, OSError)):
        ask(app, pieces, leaves=True)
    ask(app, pieces, version="2.3")  # after its request it hears that its client has left

    assert [ended(agent).outcome for _ in range(2)] == [Outcome.ABORTED] * 2


def test_joules_and_rates_of_the_agent_go_into_answers(app: Middleware, agent: Agent) -> None:
    """What its tokens cost lately; with two answers to a prompt, each has the prompt as its own."""
    ask(app)
    producer = first(agent).producer
    agent.inbox.rates(producer, [RATES])
    desk = app._desk
    assert desk is not None
    assert eventually(lambda: bool(desk._rates))

    one, two = (ask(app, {"n": count}).object() for count in (1, 2))
    lists = ask(app, {"n": 2, "prompt": ["a", "b"]}).object()
    ids = ask(app, {"n": 2, "prompt": [1, 2, 3]}).object()

    assert (one["prefill_joules"], one["decode_joules"]) == (10e-6, 2e-6)
    assert (two["prefill_joules"], two["decode_joules"]) == (20e-6, 1e-6)
    assert lists["prefill_joules"] == ids["prefill_joules"] == 20e-6
    assert one["basis"] == "recent_average"


def test_without_its_agent_an_average_is_not_believed(app: Middleware, agent: Agent) -> None:
    """When the agent is gone nobody knows what tokens cost now."""
    ask(app)
    agent.inbox.rates(first(agent).producer, [RATES])
    desk = app._desk
    assert desk is not None
    assert eventually(lambda: ask(app).object()["state"] == "provisional")

    agent.inbox.close()

    assert eventually(lambda: ask(app).object()["state"] == "pending")


def test_tokens_that_an_answer_does_not_tell_are_the_front_ends_count(
    app: Middleware, agent: Agent, monkeypatch: pytest.MonkeyPatch
) -> None:
    """VLLM's stat logger in the same process has counted them when the stream ends."""
    front = vllm_front.Front({})
    monkeypatch.setattr(vllm_front, "_started", [front])
    counts = {"finish_reason": None, "num_prompt_tokens": 7, "num_cached_tokens": 4, "num_generation_tokens": 3}
    for name in ("chatcmpl-ab", "chatcmpl-a", None):
        front.note(SimpleNamespace(finished_requests=[SimpleNamespace(request_id=name, **counts)]))
    ask(app)
    agent.inbox.rates(first(agent).producer, [RATES])
    desk = app._desk
    assert desk is not None
    assert eventually(lambda: bool(desk._rates))

    told = ask(app, {"pieces": [TOKEN.decode(), END.decode(), DONE.decode()]})
    said = json.loads(told.body.split(b"\n\n")[1].removeprefix(b"data: "))["inferwatt"]

    assert [end.prompt_tokens for end in vllm_front.finished("chatcmpl-a")] == [7]
    assert (said["prefill_joules"], said["decode_joules"]) == (3e-6, 2e-6)


def test_an_open_call_hears_its_own_joules(app: Middleware, agent: Agent) -> None:
    """What the agent has settled of it by its last data stands there, and that it is a part."""

    async def slow(_scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await receive()
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"application/json")]})
        said = await asyncio.to_thread(first, agent)
        agent.inbox.push(said.producer, [some_energy(said.request.request, final=False)])
        desk = app._desk
        assert desk is not None
        assert await asyncio.to_thread(eventually, lambda: any(one.last_energy for one in desk._open.values()))
        await send({"type": "http.response.body", "body": b'{"id": "chatcmpl-a"}'})

    app._app = slow
    said = ask(app).object()

    assert (said["energy_joules"], said["basis"], said["final"]) == (3e-6, "settled_so_far", False)
    assert "high_joules" not in said
