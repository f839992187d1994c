from dataclasses import replace

from inferwatt.engines.session import Incoming
from inferwatt.records import Engine, Request
from inferwatt.routing import NAMED_NS, RESOLVE_NS, Routes
from tests.desk import SECOND, Desk, ended

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


def test_a_gateway_s_request_goes_to_the_server_at_its_address() -> None:
    """Whatever its client calls the model; this machine has several names."""
    asked = replace(incoming("gpt-x"), request=Request("r", engine="http://localhost:2", model="gpt-x"))
    found = Routes(lambda: (CHAT, CODE), lambda _pid, _url: False)
    found.add_server("llamacpp:1", "http://127.0.0.1:1")
    found.add_server("llamacpp:2", "http://127.0.0.1:2")

    assert found.engine_of(asked) == "llamacpp:2"


def test_an_address_of_this_machine_is_no_other_servers() -> None:
    """A server that has just been started is not taken for one of its model at another port; it may be the unread."""
    asked = replace(incoming("code"), request=Request("r", engine="http://localhost:3", model="code"))
    new = Engine("vllm:3", "code", server="vllm:3", kind="vllm")
    engines = [CODE]
    found = Routes(lambda: engines, lambda _pid, _url: False)
    found.add_server("llamacpp:2", "http://127.0.0.1:2")

    assert found.engine_of(asked) is None
    assert found.ready(NAMED_NS - 1) == []
    engines.append(new)
    assert [engine for _, engine in found.ready(NAMED_NS - 1)] == ["vllm:3"]


def test_several_models_at_one_address_are_told_apart_by_their_names() -> None:
    """A server with adapters is one engine a model."""
    adapter = Engine("llamacpp:1/poet", "poet", server="llamacpp:1", kind="llamacpp")
    found = routes(CHAT, adapter, CODE)
    found.add_server("llamacpp:1/poet", "http://llamacpp:1")

    asked = replace(incoming("poet"), request=Request("r", engine="http://llamacpp:1", model="poet"))

    assert found.engine_of(asked) == "llamacpp:1/poet"


def test_a_server_that_is_not_here_is_not_the_gateway() -> None:
    """A request of a gateway that no server here computed is nobody's, and never its own process's."""
    asked = replace(incoming("gpt-x"), request=Request("r", engine="https://elsewhere:443", model="gpt-x"))
    found = routes(CHAT)
    found.engine_of(asked)

    [(_, engine)] = found.ready(RESOLVE_NS, all_of_them=True)
    found.add_server("vllm:443", "https://elsewhere:443")

    assert engine == "https://elsewhere:443"
    assert found.engine_of(asked) is None  # it is looked at anew


def test_a_call_of_a_server_that_is_not_here_has_no_joule() -> None:
    """What a gateway asked of an address where the agent knows no server is counted as that."""
    desk = Desk()
    desk.live(1)
    desk.say(ended("r", desk.now - SECOND, desk.now, engine="https://elsewhere:1", model="gpt-x"))
    desk.live(3)

    assert desk.shown("inferwatt_records_dropped_total") == {("unknown_engine",): 1}
    assert not desk.disk.rows


def test_those_that_wait_for_one_route_are_looked_at_as_one() -> None:
    """Looking for a connection reads the system's tables: a thousand requests of a new client cost one look a step."""
    looks: list[int] = []

    def looked(pid: int, _url: str) -> bool:
        looks.append(pid)
        return False

    found = Routes(lambda: (CHAT,), looked)
    found.add_server("llamacpp:1", "http://llamacpp:1")
    for number in range(1000):
        assert found.engine_of(replace(incoming("gpt-x"), seq=number)) is None
    assert found.ready(RESOLVE_NS - 1) == []

    done = found.ready(RESOLVE_NS)

    assert [one.seq for one, engine in done if engine == "sdk:7"] == list(range(1000))
    assert len(looks) == 3
