"""Which server is asked, and what happens when it cannot be."""

import socket
from pathlib import Path

from inferwatt.records import Outcome
from tests.gateway.conftest import Desk
from tests.gateway.processes import Gateway, StandIn
from tests.real.conftest import free_port


def table(name: str, url: str, *models: str) -> str:
    """Return the table of a server that is asked for some models."""
    return f'name = "{name}"\nurl = "{url}"\nmodels = {list(models)}\n'


def test_models_are_asked_of_who_serves_them(folder: Path, server: StandIn, desk: Desk) -> None:
    """By name, then by pattern; a model that nobody serves is an error, and the lists are one."""
    with StandIn(folder / "second") as second:
        tables = [table("first", server.url, "one", "two-*"), table("second", second.url, "three")]
        with Gateway(folder / "routed", tables, agent=str(folder / "agent.sock")) as gateway:
            for model in ("one", "two-x", "three"):
                desk.ended(gateway.ask({"model": model}).name)
            unknown = gateway.ask({"model": "four"})
            listed = gateway.ask(b"", "/v1/models", "GET").json()["data"]

            assert second.seen()["calls"] == 1
            assert unknown.status == 404
            assert unknown.json()["error"]["message"] == "no upstream serves this model. See gateway.upstream.models."
            assert gateway.ask(b"", "/v1/models/four", "GET").status == 404
            assert len(listed) == 2


def test_who_serves_one_model_stand_in_for_each_other(folder: Path, server: StandIn, desk: Desk) -> None:
    """Where nobody listens the next one is asked; each attempt is a record of its own server, the first of no work."""
    nobody = f"http://127.0.0.1:{free_port()}"
    before = server.seen()["calls"]
    with Gateway(folder / "two", [nobody, server.url], agent=str(folder / "agent.sock")) as gateway:
        answers = [gateway.ask({"model": "m", "max_tokens": 3}) for _ in range(2)]
        records = desk.ended_all(3)

    assert [one.status for one in answers] == [200, 200]
    assert server.seen()["calls"] == before + 2
    assert sorted((one.outcome or "", one.engine, one.output_tokens or 0) for one in records) == sorted(
        [(Outcome.FAILED, nobody, 0), (Outcome.FINISHED, server.url, 3), (Outcome.FINISHED, server.url, 3)]
    )


def test_who_takes_no_connection_is_not_waited_for(folder: Path, server: StandIn) -> None:
    """A server that hangs, with a full backlog, is left for the next one after `connect_seconds`."""
    with socket.socket() as hung, socket.socket() as first, socket.socket() as second:
        hung.bind(("127.0.0.1", 0))
        hung.listen(0)
        for one in (first, second):
            one.setblocking(False)
            one.connect_ex(hung.getsockname())
        urls = [f"http://127.0.0.1:{hung.getsockname()[1]}", server.url]
        with Gateway(folder / "hung", urls, "[gateway.limits]\nconnect_seconds = 0.3") as gateway:
            assert gateway.ask({"model": "m"}).status == 200


def test_a_server_that_is_busy_for_a_moment_is_asked_again(folder: Path, desk: Desk) -> None:
    """A 503 that says when to come again is not the answer, and both attempts are one call."""
    with (
        StandIn(folder / "busy") as busy,
        Gateway(folder / "busy", [busy.url], agent=str(folder / "agent.sock")) as gateway,
    ):
        answer = gateway.ask({"model": "m", "unavailable": 1})
        record = desk.ended(answer.name)

        assert answer.status == 200
        assert busy.seen()["calls"] == 2
        assert (record.outcome, record.output_tokens) == (Outcome.FINISHED, 5)
        assert desk.agent.records.empty()
        assert gateway.ask({"model": "m", "unavailable": 99}).status == 503


def test_a_redirect_is_passed_on_and_not_followed(gateway: Gateway, server: StandIn) -> None:
    """A server does not send a call, and the key in it, to somewhere else."""
    before = server.seen()["calls"]
    say = {"segments": [], "status": 307, "kind": "text/plain", "headers": {"location": f"{server.url}/v1/completions"}}

    answer = gateway.ask({"model": "m", "say": say})

    assert (answer.status, answer.headers["location"]) == (307, f"{server.url}/v1/completions")
    assert server.seen()["calls"] == before + 1


def test_another_server_stands_in_for_a_busy_one(folder: Path, server: StandIn, desk: Desk) -> None:
    """A 503 of one is no answer as long as the next may have one."""
    server.ask({"model": "m"})
    with (
        StandIn(folder / "full") as full,
        Gateway(folder / "full", [full.url, server.url], agent=str(folder / "agent.sock")) as gateway,
    ):
        answer = gateway.ask({"model": "m", "unavailable": 1})
        records = desk.ended_all(2, answer.name)

        assert answer.status == 200
        assert full.seen()["calls"] == 1
    assert {(one.engine, one.outcome) for one in records} == {
        (full.url, Outcome.FAILED),
        (server.url, Outcome.FINISHED),
    }


def test_a_connection_that_was_closed_meanwhile_is_opened_again(folder: Path, desk: Desk) -> None:
    """A server that began anew has forgotten the connections that were kept open: nobody notices."""
    port = free_port()
    with Gateway(folder / "again", [f"http://127.0.0.1:{port}"], agent=str(folder / "agent.sock")) as gateway:
        for _ in range(2):
            with StandIn(folder / "again", port) as server:
                assert gateway.ask({"model": "m"}).status == 200
                assert server.seen()["calls"] == 1
        gone = gateway.ask({"model": "m"})
        desk.ended_all(3)

    assert gone.status == 502
    assert gone.json()["error"]["message"] == "the server cannot be reached. Ask again later."


def test_its_end_is_in_order(folder: Path, server: StandIn, desk: Desk) -> None:
    """SIGTERM: the last call's record is told to the agent, nothing is printed but its address, and the status is 0."""
    gateway = Gateway(folder / "ended", [server.url], agent=str(folder / "agent.sock"))
    with gateway:
        answer = gateway.ask({"model": "m"})
        assert gateway.end() == 0

    assert desk.ended(answer.name).outcome is Outcome.FINISHED
    assert gateway.err.read_text() == f"inferwatt gateway: {gateway.url} before {server.url}\n"
    assert gateway.out.read_text() == ""
