from dataclasses import replace

from inferwatt.engines.session import Incoming
from inferwatt.records import Engine, Request
from inferwatt.routing import RESOLVE_NS, Routes

CHAT = Engine("llamacpp:1", "Chat-7B", server="llamacpp:1", kind="llamacpp")
CODE = Engine("llamacpp:2", "code", server="llamacpp:2", kind="llamacpp")


def incoming(model: str, pid: int = 7, at_ns: int = 0) -> Incoming:
    """Return a request for this model by this process."""
    return Incoming("p" * 32, pid, 1, Request("r", model=model), at_ns)


def routes(*engines: Engine, connected: tuple[tuple[int, str], ...] = ()) -> Routes:
    """Return routes between these engines."""
    found = Routes(lambda: engines, lambda pid, url: (pid, url) in connected)
    for engine in engines:
        found.add_server(engine.engine, f"http://{engine.engine}")
    return found


def test_a_request_goes_to_the_server_of_its_model() -> None:
    """Names are compared without case."""
    assert routes(CHAT, CODE).engine_of(incoming("chat-7b")) == "llamacpp:1"


def test_a_model_by_another_name_is_found_by_the_connection() -> None:
    """A process that talks to one server only means that server, whatever it calls the model."""
    found = routes(CHAT, CODE, connected=((7, "http://llamacpp:2"),))

    assert found.engine_of(incoming("my-model")) == "llamacpp:2"
    assert found.engine_of(incoming("my-model", pid=8)) == "llamacpp:2"  # the producer is known by now


def test_two_servers_of_one_model_are_told_apart_by_the_connection() -> None:
    """Where a name fits two, the connection decides."""
    twin = Engine("llamacpp:3", "chat-7b", kind="llamacpp")
    found = routes(CHAT, twin, connected=((7, "http://llamacpp:3"),))

    assert found.engine_of(incoming("Chat-7B")) == "llamacpp:3"


def test_what_fits_no_server_waits_and_then_is_its_own_process() -> None:
    """A request for a model that no server here has is never charged to a server."""
    found = routes(CHAT)

    assert found.engine_of(incoming("gpt-x", at_ns=100)) is None
    assert found.ready(RESOLVE_NS) == []
    [(_, engine)] = found.ready(RESOLVE_NS + 100)
    assert engine == "sdk:7"
    assert found.engine_of(incoming("gpt-x")) == "sdk:7"


def test_a_forgotten_producer_is_looked_at_anew() -> None:
    """A route belongs to the life of its producer."""
    found = routes(CHAT)
    found.engine_of(incoming("gpt-x"))
    found.ready(0, all_of_them=True)

    found.forget("p" * 32)

    assert found.engine_of(incoming("gpt-x")) is None


def test_a_request_that_names_its_server_goes_there() -> None:
    """What the user says of the server stands, where such a server is known."""
    named = replace(incoming("code"), request=Request("r", engine="llamacpp:1", model="code"))

    assert routes(CHAT, CODE).engine_of(named) == "llamacpp:1"
