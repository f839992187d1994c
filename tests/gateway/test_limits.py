"""What is not passed on: what is too large, too slow, ambiguous, or no call of a model. And clients that leave."""

import http.client
import json
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from inferwatt.records import Outcome
from tests.engines.ends import eventually
from tests.gateway.conftest import TRUSTING, Desk
from tests.gateway.processes import CHAT, Gateway, StandIn

LIMITS = f"""
{TRUSTING}
[gateway.limits]
body_bytes = 1000
header_bytes = 4096
body_seconds = 0.2
call_seconds = 0.3
connections = 20
"""
HEAD = b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\n"
BODY = b'{"model":"m"}'
AMBIGUOUS = {
    "two_lengths": HEAD + b"Content-Length: 13\r\nContent-Length: 13\r\n\r\n" + BODY,
    "two_lengths_that_differ": HEAD + b"Content-Length: 13\r\nContent-Length: 0\r\n\r\n" + BODY,
    "length_and_chunks": HEAD + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "chunks_and_length": HEAD + b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n",
    "length_with_a_sign": HEAD + b"Content-Length: +13\r\n\r\n" + BODY,
    "length_as_a_list": HEAD + b"Content-Length: 13, 13\r\n\r\n" + BODY,
    "unknown_encoding": HEAD + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    "odd_encoding": HEAD + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
    "space_before_the_colon": HEAD + b"Content-Length : 13\r\n\r\n" + BODY,
    "bad_end_of_a_chunk": HEAD + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhelloXX0\r\n\r\n",
    "bad_length_of_a_chunk": HEAD + b"Transfer-Encoding: chunked\r\n\r\n0x5\r\nhello\r\n0\r\n\r\n",
    "folded_header": HEAD + b"X-A: b\r\n c\r\nContent-Length: 13\r\n\r\n" + BODY,
    "no_host": b"POST /v1/chat/completions HTTP/1.1\r\nContent-Length: 13\r\n\r\n" + BODY,
    "two_hosts": HEAD + b"Host: other\r\nContent-Length: 13\r\n\r\n" + BODY,
    "host_with_a_path": b"POST /v1/chat/completions HTTP/1.1\r\nHost: a/b?c\r\nContent-Length: 13\r\n\r\n" + BODY,
    "absolute_form": HEAD.replace(b"/v1", b"http://localhost/v1", 1) + b"Content-Length: 13\r\n\r\n" + BODY,
    "lf_only": (HEAD + b"Content-Length: 13\r\n\r\n").replace(b"\r\n", b"\n") + BODY,
    "nul_in_a_header": HEAD + b"X-A: a\0b\r\nContent-Length: 13\r\n\r\n" + BODY,
    "large_head": HEAD + b"X-A: " + b"a" * 5000 + b"\r\nContent-Length: 13\r\n\r\n" + BODY,
    "many_headers": HEAD + b"A: b\r\n" * 2000 + b"Content-Length: 13\r\n\r\n" + BODY,
    "no_http": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
}
CLOSED = (
    "/invocations", "/v1/load_lora_adapter", "/tokenize", "/metrics", "/slots", "/", "/v1", "/v1//chat/completions",
    "/v1/chat/completions/", "/V1/chat/completions", "/v1/chat/%63ompletions", "/v1/models/../invocations",
    "/v1/chat/completions/../../../invocations", "/openai/deployments/../invocations/completions", "/v1/audio/speech",
    "/openai/deployments/a/b/chat/completions", "/v1/chat/completions;x", "/v1\\chat\\completions",
)  # fmt: skip


@pytest.fixture(scope="module")
def limited(folder: Path, server: StandIn, desk: Desk) -> Iterator[Gateway]:
    """Return a gateway with small limits."""
    with Gateway(folder / "limited", [server.url], LIMITS, str(folder / "agent.sock")) as running:
        yield running


@pytest.mark.parametrize("name", AMBIGUOUS)
def test_what_two_servers_could_read_in_two_ways_is_refused(name: str, limited: Gateway, server: StandIn) -> None:
    """400, the connection ends, and the server hears nothing of it."""
    before = server.seen()["calls"]

    answer = limited.raw(AMBIGUOUS[name])

    assert answer.startswith(b"HTTP/1.1 400 ")
    assert answer.count(b"HTTP/1.1") == 1
    assert server.seen()["calls"] == before


@pytest.mark.parametrize("path", CLOSED)
def test_other_paths_are_closed(path: str, gateway: Gateway, server: StandIn) -> None:
    """Only what is a call of a model goes on, by the path as it was sent, whatever a server has beside it."""
    before = server.seen()["calls"]

    assert gateway.ask({"model": "m"}, path).status == 404
    assert server.seen()["calls"] == before


def test_a_path_that_the_configuration_names_is_open(folder: Path, server: StandIn, desk: Desk) -> None:
    """It is passed on as it is, and is a call like others."""
    with Gateway(folder / "open", [server.url], 'paths = ["/v1/rerank"]', str(folder / "agent.sock")) as gateway:
        answer = gateway.ask({"model": "m"}, "/v1/rerank")

        assert answer.json()["usage"]["completion_tokens"] == 5
        assert gateway.ask({"model": "m"}, "/v1/rerank/").status == 404
        assert desk.ended(answer.name).output_tokens == 5


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'"x"', b"\xff", b"{" * 100_000, b'{"model": NaN}'])
def test_what_is_no_json_object_is_refused(body: bytes, gateway: Gateway, server: StandIn) -> None:
    """400 in the form of OpenAI's errors, so that clients say it in their own words."""
    before = server.seen()["calls"]

    answer = gateway.ask(body)

    assert answer.status == 400
    assert answer.json()["error"]["message"] == "the body is no JSON object. Send one, not compressed."
    assert server.seen()["calls"] == before


def test_a_body_of_100_mb_is_refused_unread(gateway: Gateway) -> None:
    """Its length is enough; of one in chunks only so much is read as is allowed."""
    with socket.create_connection(("127.0.0.1", gateway.port), 10) as connection:
        connection.sendall(HEAD + b"Content-Length: 100000000\r\n\r\n")

        assert connection.recv(1 << 16).startswith(b"HTTP/1.1 413 ")
    before = rss_bytes(gateway)
    with socket.create_connection(("127.0.0.1", gateway.port), 10) as connection:
        sender = threading.Thread(target=_send_chunks, args=(connection, 100))
        sender.start()
        answer = connection.recv(1 << 16)
        sender.join(10)

    assert answer.startswith(b"HTTP/1.1 413 ")
    assert rss_bytes(gateway) - before < 80 << 20


def test_a_body_as_large_as_allowed_goes_through(gateway: Gateway, server: StandIn, desk: Desk) -> None:
    """A picture in base64 has many megabytes, and none of them is changed."""
    answer = gateway.ask({"model": "m", "messages": "x" * (20 << 20), "size": 1})

    assert answer.status == 200
    assert dict(map(tuple, server.seen()["headers"]))["content-length"] == str(
        len(json.dumps({"model": "m", "messages": "x" * (20 << 20), "size": 1}))
    )
    desk.ended(answer.name)


def test_a_body_that_does_not_come_is_not_waited_for(limited: Gateway) -> None:
    """408, so that slow senders hold nothing."""
    with socket.create_connection(("127.0.0.1", limited.port), 10) as connection:
        connection.sendall(HEAD + b"Content-Length: 13\r\n\r\n{")

        assert connection.recv(1 << 16).startswith(b"HTTP/1.1 408 ")


def test_a_body_beyond_a_small_limit_is_refused(limited: Gateway) -> None:
    """413, and the words say how large it may be."""
    answer = limited.ask({"model": "m", "messages": "x" * 1000})

    assert answer.status == 413
    assert answer.json()["error"]["message"] == "the body is larger than 1000 bytes. Send less."


def test_a_call_that_takes_too_long_is_ended(limited: Gateway, server: StandIn, desk: Desk) -> None:
    """504 where nothing was answered yet, a cut where something was; the server is let go."""
    left = server.seen()["left"]
    whole = limited.ask({"model": "slow", "pause": 30})
    stream = limited.ask({"model": "slow", "stream": True, "max_tokens": 1000, "pause": 0.05})
    records = desk.ended_all(2)

    assert (whole.status, stream.status, stream.is_whole) == (504, 200, False)
    assert [one.outcome for one in records] == [Outcome.FAILED, Outcome.FAILED]
    assert eventually(lambda: server.seen()["left"] == left + 2)


@pytest.mark.parametrize("streams", [True, False])
def test_a_client_that_leaves_takes_its_call_with_it(
    streams: bool, gateway: Gateway, server: StandIn, desk: Desk
) -> None:
    """The server is let go at once, long before it would have been done; what was made until then is kept."""
    before = server.seen()
    told = {"model": "left", "stream": streams, "max_tokens": 100_000, "pause": 0.02 if streams else 3600}
    connection = http.client.HTTPConnection("127.0.0.1", gateway.port, timeout=10)
    connection.request("POST", CHAT, json.dumps(told))
    if streams:
        answer = connection.getresponse()
        while answer.readline() == b"" or server.seen()["tokens"] < before["tokens"] + 10:
            pass
        answer.close()
    else:
        assert eventually(lambda: server.seen()["calls"] > before["calls"])
    connection.close()
    record = next(one for one in iter(lambda: desk.ended_all(1)[0], None) if one.model == "left")

    assert eventually(lambda: server.seen()["left"] == before["left"] + 1)
    assert record.outcome is Outcome.ABORTED
    assert bool(record.output_tokens) is streams
    made = server.seen()["tokens"] - before["tokens"]
    assert made == 0 or 10 <= made < 10_000


def test_who_leaves_pays_for_what_was_made_until_then(gateway: Gateway, server: StandIn, desk: Desk) -> None:
    """Of 300 tokens, one each 20 ms, the client takes 50 and goes: the record has these, and the server stops there."""
    before = server.seen()
    told = {"model": "paced", "stream": True, "max_tokens": 300, "pause": 0.02}
    connection = http.client.HTTPConnection("127.0.0.1", gateway.port, timeout=10)
    connection.request("POST", CHAT, json.dumps(told))
    answer = connection.getresponse()
    for _ in range(51):  # the first has a role and no text
        while not answer.readline().startswith(b"data:"):
            pass
    answer.close()
    connection.close()
    record = next(one for one in iter(lambda: desk.ended_all(1)[0], None) if one.model == "paced")

    assert eventually(lambda: server.seen()["left"] == before["left"] + 1)
    assert record.outcome is Outcome.ABORTED
    assert record.output_tokens is not None
    assert 50 <= record.output_tokens <= 60
    assert 51 <= server.seen()["tokens"] - before["tokens"] <= 70


def test_a_reader_that_does_not_read_holds_its_server_back(gateway: Gateway, server: StandIn) -> None:
    """What nobody takes is not made: the gateway keeps little of it, and all of it comes once it is read."""
    before, tokens = rss_bytes(gateway), server.seen()["tokens"]
    told = {"model": "m", "stream": True, "max_tokens": 4000, "size": 20_000}
    connection = http.client.HTTPConnection("127.0.0.1", gateway.port, timeout=30)
    connection.request("POST", CHAT, json.dumps(told))
    answer = connection.getresponse()
    made = -1
    while made != (made := server.seen()["tokens"] - tokens):
        threading.Event().wait(0.3)
    grown = rss_bytes(gateway) - before
    body = answer.read()
    connection.close()

    assert made < 2000
    assert grown < 20 << 20
    assert body.count(b'"content"') == 4001


def test_idle_connections_beyond_the_limit_are_refused(limited: Gateway) -> None:
    """503, and the others are not harmed: once they are gone there is room again."""
    idle = [socket.create_connection(("127.0.0.1", limited.port), 5) for _ in range(25)]
    try:
        assert eventually(lambda: limited.ask({"model": "m"}).status == 503)
    finally:
        for one in idle:
            one.close()
    assert eventually(lambda: limited.ask({"model": "m"}).status == 200)


def test_what_was_refused_is_counted(limited: Gateway) -> None:
    """Health says how often, without a word of whose calls they were."""
    before = limited.ask(b"", "/healthz", "GET").json()
    limited.ask(b"{")
    after = limited.ask(b"", "/healthz", "GET").json()

    assert (before["status"], after["status"]) == ("ok", "ok")
    assert after["counts"]["refused"] == before["counts"].get("refused", 0) + 1


def test_pipelined_calls_are_answered_in_order(gateway: Gateway) -> None:
    """Each gets its own answer; what stands behind a call is not part of it."""
    call = HEAD + b"Content-Length: %d\r\n\r\n%b"
    first, second = b'{"model":"m","max_tokens":1}', b'{"model":"m","max_tokens":2}'
    answers = gateway.raw(
        call % (len(first), first)
        + call % (len(second), second)
        + b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    )

    assert answers.count(b"HTTP/1.1 200 OK") == 3
    assert (
        answers.index(b'"completion_tokens": 1')
        < answers.index(b'"completion_tokens": 2')
        < answers.index(b'"status":"ok"')
    )


def _send_chunks(connection: socket.socket, count: int) -> None:
    try:
        connection.sendall(HEAD + b"Transfer-Encoding: chunked\r\n\r\n")
        for _ in range(count):
            connection.sendall(b"100000\r\n" + b" " * (1 << 20) + b"\r\n")
    except OSError:
        return


def rss_bytes(process: Gateway) -> int:
    """Return the memory of a process."""
    return int(Path(f"/proc/{process.process.pid}/statm").read_text().split()[1]) * 4096
