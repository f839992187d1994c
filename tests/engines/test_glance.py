"""One look at configured servers: by real sockets, each of which is wrong in its own way."""

import time
from pathlib import Path

import pytest

from inferwatt.clock import SystemClock
from inferwatt.engines.fetch import HttpFetch
from inferwatt.engines.glance import Glance, glances
from inferwatt.engines.servers import EnginesConfig, Target
from tests.engines.servers import http, raw_server
from tests.real.conftest import free_port

PAGE = b"llamacpp:tokens_predicted_total 7\n"
MODELS = b'{"data":[{"id":"m","owned_by":"llamacpp"}]}'


def glance(url: str, kind: str = "llamacpp", **about: object) -> Glance:
    """Take one look at one server that answers at once, however busy this machine is."""
    target = Target("chat", url, kind, why="it is configured", **about)  # type: ignore[arg-type]
    (seen,) = glances([target], EnginesConfig(timeout_seconds=20.0), SystemClock())
    return seen


def said(seen: Glance) -> list[tuple[str, str]]:
    """Return what is in the way, and what to do."""
    return [(lack.what, lack.fix) for lack in seen.lacks]


def test_a_server_that_answers_has_its_state_and_its_processes() -> None:
    """It is up, by its own page, and lacks nothing: its process is this one."""
    with raw_server(http(PAGE)) as server:
        seen = glance(server.url)

    assert (seen.state, seen.is_one, bool(seen.target.pids), seen.lacks) == ("up", True, True, ())


def test_nobody_there_is_said_with_what_to_do() -> None:
    """A configured server that does not run is down, and nothing else is told of it."""
    seen = glance(f"http://127.0.0.1:{free_port()}")

    assert (seen.state, seen.is_one, said(seen)) == ("down", False, [("nobody listens", "start the server")])


@pytest.mark.parametrize(
    ("answer", "state", "what", "fix"),
    [
        (
            http(b"", status="501 Not Implemented"),
            "no_metrics",
            "its metrics are off",
            "start the server with --metrics",
        ),
        (http(b"", status="401 Unauthorized"), "unreadable", "the metrics page answers 401", "key_file"),
        (http(b"<html>login</html>"), "unreadable", "the answer is HTML", "check the address"),
        (http(b"", "Location: http://example.org/", status="302 Found"), "unreadable", "a redirect to", "server's log"),
        (http(b"node_load1 1\n"), "unreadable", "no wanted sample", "check the address"),
    ],
)
def test_what_is_in_the_way_is_said(answer: bytes, state: str, what: str, fix: str) -> None:
    """Metrics that are off, a key, another program, a redirect: each with its own words, and where."""
    with raw_server(answer) as server:
        seen = glance(server.url)

    assert seen.state == state
    assert what in seen.lacks[0].what
    assert fix in seen.lacks[0].fix
    assert seen.lacks[0].where.startswith(f"chat: {server.url}")


def test_a_wrong_kind_is_told_by_the_server_s_own_word() -> None:
    """Read as vLLM, it has none of its metrics, and its list of models says whose they are."""
    with raw_server(http(MODELS)) as server:
        seen = glance(server.url, "vllm")

    assert seen.state == "other_kind"
    assert said(seen) == [
        ("chat is read as vllm and says that it is llamacpp", 'kind = "llamacpp" in [[engines.server]]')
    ]


def test_servers_that_hang_cost_one_time_out_together() -> None:
    """Each has not answered yet, and the one that does is not kept waiting for them."""
    with raw_server(http(PAGE), hold=True) as hanging, raw_server(http(PAGE)) as good:
        targets = [Target(f"h{number}", hanging.url) for number in range(12)]
        before = time.monotonic()
        seen = glances([*targets, Target("good", good.url)], EnginesConfig(timeout_seconds=3.0), SystemClock())
        spent = time.monotonic() - before

    assert [one.state for one in seen] == ["late"] * 12 + ["up"]
    assert said(seen[0])[0][0] == "h0 has not answered yet"
    assert spent < 12 * 3.0


def test_a_key_is_sent_where_there_is_one(tmp_path: Path) -> None:
    """The first line of its file, as a bearer; a file that is not there is said with its path."""
    key = tmp_path / "key"
    key.write_text("sk-1\nnot this\n")
    with raw_server(http(PAGE)) as server:
        seen = glance(server.url, key_file=str(key))
        question = server.questions[0]
        missing = glance(server.url, key_file=str(tmp_path / "none"))

    assert seen.state == "up"
    assert b"\r\nAuthorization: Bearer sk-1\r\n" in question
    assert said(missing) == [("its key cannot be read: No such file or directory", "put it there, or correct the path")]
    assert str(tmp_path / "none") in missing.lacks[0].where


def test_a_server_elsewhere_has_no_joule_here() -> None:
    """At an address that is not this machine's own, unless its accelerators are named."""
    with raw_server(http(PAGE)) as server:
        url = server.url.replace("127.0.0.1", "localhost.localdomain")
        seen, named = (
            glances(
                [Target("chat", url, devices=devices)],
                EnginesConfig(timeout_seconds=20.0),
                SystemClock(),
                fetch=lambda _url, timeout: HttpFetch(server.url, timeout),
            )[0]
            for devices in ((), ("gpu-0",))
        )

    assert "no process of this machine is known to serve chat" in seen.lacks[0].what
    assert named.lacks == ()
