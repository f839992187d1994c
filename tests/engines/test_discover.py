from importlib.metadata import EntryPoint

import pytest

from inferwatt.engines.candidates import MAX_LIKELY, FoundEngines, Smell, find
from inferwatt.engines.discover import configured, discover_all
from inferwatt.engines.fetch import Answer
from inferwatt.engines.listeners import Listener
from inferwatt.engines.servers import EnginesConfig, ServerConfig, Target, model_name, model_shape, server_kinds
from inferwatt.errors import ConfigError, SourceRetry
from inferwatt.records import Model
from tests.engines.servers import LOADING, FakeLlama

PIDS = frozenset({7})
BY_PROCESS = "its process, and its own word"


class Machine:
    """Fake servers by port, which of them smell of llama.cpp, and what was asked."""

    def __init__(self, servers: dict[int, FakeLlama], smelling: set[int] | None = None) -> None:
        self.servers = servers
        self.smelling = smelling or set()
        self.asked: list[str] = []

    def find(self, sockets: list[Listener]) -> FoundEngines:
        """Look for llama.cpp among the sockets."""
        return find("llamacpp", sockets, smell=self._smell, fetch=self._fetch)

    def _smell(self, _kind: str, found: Listener) -> Smell:
        return Smell.THIS if found.port in self.smelling else Smell.NONE

    def _fetch(self, url: str, _timeout_seconds: float) -> FakeLlama:
        self.asked.append(url)
        return self.servers[int(url.rsplit(":", 1)[1])]


def other_server(answer: Answer | SourceRetry) -> FakeLlama:
    """Return a server that is no llama.cpp."""
    server = FakeLlama()
    server.answers["*"] = answer
    return server


def test_a_llamacpp_server_is_found_on_any_port_by_its_smell_and_believed_by_its_word() -> None:
    """It is named kind:port, with its processes, and lacks nothing."""
    machine = Machine({50123: FakeLlama()}, smelling={50123})

    assert machine.find([Listener("127.0.0.1", 50123, PIDS)]) == FoundEngines(
        (Target("llamacpp:50123", "http://127.0.0.1:50123", "llamacpp", pids=PIDS, why=BY_PROCESS),)
    )


def test_a_port_that_only_is_a_default_is_asked_and_not_believed_without_word() -> None:
    """Another server on 8080, whatever it answers, is no llama.cpp; ports that hint at nothing are not asked."""
    machine = Machine(
        {
            8080: other_server(Answer(200, b"<html></html>", {})),
            8000: other_server(Answer(200, b'{"data":[{"id":"m","owned_by":"vllm"}]}', {})),
            11434: other_server(SourceRetry("no usable answer", where="x", fix="y")),
        }
    )
    sockets = [Listener("127.0.0.1", port, PIDS) for port in (22, 5432, 8080, 8000, 11434)]

    assert machine.find(sockets) == FoundEngines()
    assert sorted(machine.asked) == ["http://127.0.0.1:11434", "http://127.0.0.1:8000", "http://127.0.0.1:8080"]


@pytest.mark.parametrize("answer", [LOADING, None])
def test_a_server_that_is_loading_or_busy_is_believed_by_its_smell(answer: Answer | None) -> None:
    """A server is found while it starts, but not where nothing but the port speaks for it."""
    server = FakeLlama()
    server.answers["*"] = answer
    sockets = [Listener("127.0.0.1", 8080, PIDS)]

    assert len(Machine({8080: server}, smelling={8080}).find(sockets).engines) == 1
    assert Machine({8080: server}).find(sockets).engines == ()


@pytest.mark.parametrize("status", [401, 403])
def test_a_server_that_asks_for_a_key_is_believed_by_its_smell(status: int) -> None:
    """It is found, so that what it lacks can be said; not where nothing but the port speaks for it."""
    server = other_server(Answer(status, b"", {}))
    sockets = [Listener("127.0.0.1", 8080, PIDS)]

    assert len(Machine({8080: server}, smelling={8080}).find(sockets).engines) == 1
    assert Machine({8080: server}).find(sockets).engines == ()


def test_a_server_of_another_user_is_found_and_what_cannot_be_seen_is_said() -> None:
    """Without its process its CPU time cannot be read: a lack with a remedy."""
    found = Machine({8080: FakeLlama()}).find([Listener("127.0.0.1", 8080, frozenset())])

    assert [lack.what for lack in found.lacks] == ["the process of llamacpp:8080 cannot be seen"]


def test_the_meter_never_asks_itself_and_never_asks_many() -> None:
    """Our own ports are left out, and at most so many candidates are asked, a question each where it is enough."""
    servers = {port: FakeLlama() for port in range(20_000, 20_100)}
    machine = Machine(servers, smelling={*servers, 9595, 9596})
    found = machine.find([Listener("127.0.0.1", port, PIDS) for port in (9595, 9596, *servers)])

    assert len(found.engines) == len(machine.asked) == MAX_LIKELY
    assert sum(len(server.asked) for server in servers.values()) == MAX_LIKELY


def test_configured_servers_come_first_and_are_not_found_twice() -> None:
    """A server that is configured keeps its name, also where discovery finds it under another spelling."""
    settings = EnginesConfig(server=(ServerConfig("chat", "http://localhost:8080/"),))
    entry = EntryPoint("fake", f"{__name__}:plugin", "inferwatt.engines")

    assert discover_all(settings, [entry]).engines == (
        Target("chat", "http://localhost:8080/", why="it is configured"),
        Target("llamacpp:9000", "http://127.0.0.1:9000"),
    )
    assert discover_all(EnginesConfig(discover=False), [entry]) == FoundEngines()


def test_a_plugin_that_fails_is_a_lack() -> None:
    """Somebody else's broken plugin is named, and ends nothing."""
    found = discover_all(EnginesConfig(), [EntryPoint("broken", "inferwatt.nowhere:find", "inferwatt.engines")])

    assert found.engines == ()
    assert "the plugin broken failed" in found.lacks[0].what


def plugin(_settings: EnginesConfig) -> FoundEngines:
    """Find two servers, as a plugin would."""
    return FoundEngines(
        (Target("llamacpp:8080", "http://127.0.0.1:8080"), Target("llamacpp:9000", "http://127.0.0.1:9000"))
    )


@pytest.mark.parametrize(
    ("servers", "where"),
    [
        ((ServerConfig("a", "http://h:1", "lamacpp"),), r"engines\.server\[0\]\.kind"),
        ((ServerConfig("a", "http://h:1"), ServerConfig("a", "http://h:2")), r"engines\.server\[1\]\.name"),
        ((ServerConfig("a", "h:1"),), r"engines\.server\[0\]\.url"),
    ],
)
def test_a_wrong_configured_server_stops_the_start_with_its_key(servers: tuple[ServerConfig, ...], where: str) -> None:
    """An unknown kind, a name given twice and what is no address are errors that name the key."""
    with pytest.raises(ConfigError, match=where):
        configured(EnginesConfig(server=servers))


def test_every_kind_of_server_says_where_it_was_tried() -> None:
    """No mapping without its evidence; each with a page counts tokens or inferences on it, the others say why not."""
    for kind in server_kinds().values():
        assert kind.tried
        assert bool(kind.inferences or (kind.prompt_tokens and kind.output_tokens)) is kind.has_metrics
        assert kind.better_of("http://h:1").endswith(("http://h:1", "/v1", "[vllm]'", "(docs/sdk.md)"))


@pytest.mark.parametrize(
    ("model_id", "name"),
    [
        ("/home/me/models/SmolLM2-135M-Instruct.Q4_1.gguf", "SmolLM2-135M-Instruct.Q4_1"),
        ("C:\\models\\m.gguf", "m"),
        ("tiny.gguf", "tiny"),
        ("HuggingFaceTB/SmolLM2-135M-Instruct", "HuggingFaceTB/SmolLM2-135M-Instruct"),
        ("x" * 1000, "x" * 256),
    ],
)
def test_a_model_is_named_without_the_path_of_its_file(model_id: str, name: str) -> None:
    """A label tells which model, not where somebody's disk has it."""
    assert model_name(model_id) == name


@pytest.mark.parametrize("meta", [None, [], {}, {"n_params": "7", "size": None}, {"n_params": True, "size": -1}])
def test_a_shape_that_is_not_told_is_unknown(meta: object) -> None:
    """What the server does not say, or says wrongly, is None, never zero."""
    assert model_shape({"id": "m", "meta": meta}) == Model("m")


def test_where_passes_are_published_is_checked() -> None:
    """An address of ZeroMQ is taken over as it is; anything else stops the start, with its place."""
    server = ServerConfig("chat", "http://127.0.0.1:30000", "sglang", passes=("ipc:///tmp/x.0",))
    assert configured(EnginesConfig(server=(server,)))[0].passes == ("ipc:///tmp/x.0",)

    wrong = ServerConfig("chat", "http://127.0.0.1:30000", "sglang", passes=("/tmp/x.0",))
    with pytest.raises(ConfigError, match=r"engines.server\[0\].passes"):
        configured(EnginesConfig(server=(wrong,)))
