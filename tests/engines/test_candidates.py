"""Which sockets are servers of which kind: on made process trees, by what a made server answers."""

from pathlib import Path

import pytest

from inferwatt.engines.candidates import FoundEngines, find
from inferwatt.engines.fetch import Answer
from inferwatt.engines.listeners import Listener
from inferwatt.engines.servers import EnginesConfig, KindConfig
from inferwatt.engines.trees import ancestors, is_relay, processes_of, python_of
from inferwatt.errors import SourceRetry
from tests.engines.servers import FakeLlama

Tree = dict[int, tuple[int, str]]
"""By pid: the parent's pid and the command line, its words between spaces."""
VLLM: Tree = {
    10: (1, "/bin/bash -c vllm serve m & something else"),
    41: (10, "python3.11 /opt/bin/vllm serve DIR --tensor-parallel-size 2"),
    57: (41, "python3.11 -B -c from multiprocessing.resource_tracker import main"),
    58: (41, "VLLM::DPCoordinator"),
    90: (41, "VLLM::EngineCore_DP0"),
    98: (90, "VLLM::Worker_TP0"),
    92: (41, "VLLM::APIServer_0"),
    93: (41, "VLLM::APIServer_1"),
}
TGI: Tree = {
    20: (1, "text-generation-launcher --model-id m"),
    21: (20, "/opt/venv/bin/text-generation-server serve m"),
    22: (20, "text-generation-router serve --port 80"),
}
OLLAMA: Tree = {30: (1, "/usr/local/bin/ollama serve"), 31: (30, "/usr/lib/ollama/llama-server --model m --port 40001")}


@pytest.fixture
def proc(tmp_path: Path) -> Path:
    """A /proc with the three trees and a relay."""
    for pid, (parent, command) in {**VLLM, **TGI, **OLLAMA, 70: (1, "/usr/bin/docker-proxy -host-port 8000")}.items():
        folder = tmp_path / str(pid)
        folder.mkdir()
        (folder / "cmdline").write_bytes(command.replace(" ", "\0").encode() + b"\0")
        (folder / "stat").write_text(f"{pid} (a) b (c)) S {parent} 1 1 0\n")
        (folder / "maps").write_text("")
    return tmp_path


class Server(FakeLlama):
    """A made server that answers some paths, and 404 to all others."""

    def __init__(self, **answers: str) -> None:
        super().__init__()
        self.answers = {f"/{path.replace('_', '/')}": Answer(200, body.encode(), {}) for path, body in answers.items()}
        self.answers["*"] = Answer(404, b"", {})


def owned_by(name: str) -> str:
    """Return a list of one model."""
    return f'{{"data":[{{"id":"m","owned_by":"{name}"}}]}}'


def found(kind: str, server: FakeLlama, proc: Path, *pids: int, port: int = 50_000) -> FoundEngines:
    """Look for a kind where one socket is held by some processes."""
    sockets = [Listener("127.0.0.1", port, frozenset(pids))]
    return find(kind, sockets, fetch=lambda _url, _timeout: server, proc=proc)


def test_the_whole_tree_of_vllm_belongs_to_its_server(proc: Path) -> None:
    """Its API servers answer, its launcher started the engines: the launcher is named, the shell before it is not."""
    engine = found("vllm", Server(v1_models=owned_by("vllm"), metrics="vllm:x 1\n"), proc, 92, 93).engines[0]

    assert engine.pids == {41, 92, 93}
    assert {41, 90} <= set(ancestors(98, proc))


def test_the_shards_of_tgi_are_found_by_their_launcher(proc: Path) -> None:
    """The router answers and its sister computes: TGI says what it is by its metrics, it owns no model."""
    result = found("tgi", Server(metrics="# TYPE tgi_queue_size gauge\ntgi_queue_size 0\n"), proc, 22)

    assert result.engines[0].pids == {20, 22}
    assert result.lacks == ()


def test_a_child_of_ollama_is_no_llamacpp_server(proc: Path) -> None:
    """Ollama's llama-server children belong to it, and it is found by itself."""
    llama = Server(v1_models=owned_by("llamacpp"), metrics="llamacpp:x 1\n")
    assert found("llamacpp", llama, proc, 31) == FoundEngines()

    ollama = found("ollama", Server(v1_models=owned_by("library")), proc, 30, port=11434)
    assert ollama.engines[0].name == "ollama:11434"
    assert ollama.lacks == ()


@pytest.mark.parametrize(
    ("kind", "port", "page"),
    [
        ("triton", 8002, "# TYPE nv_inference_count counter\n"),
        ("dynamo", 8000, 'dynamo_frontend_inflight_requests{model="a"} 0\n'),
        ("kserve", 8080, "# HELP request_predict_seconds predict request latency\n"),
        ("vllm", 8000, "vllm_num_requests_running 1\n"),
    ],
)
def test_a_server_is_known_by_the_metrics_on_its_page(kind: str, port: int, page: str, proc: Path) -> None:
    """At its usual port, by a metric of its own or the promise of one; a page of another kind is not believed."""
    assert [engine.kind for engine in found(kind, Server(metrics=page), proc, port=port).engines] == [kind]
    assert found(kind, Server(metrics="node_load1 1\n"), proc, port=port).engines == ()


def test_trtllm_is_known_by_its_word(proc: Path) -> None:
    """With its page at /prometheus/metrics, and without."""
    lacking = found("trtllm", Server(v1_models=owned_by("tensorrt_llm")), proc, port=8000)
    whole = Server(v1_models=owned_by("tensorrt_llm"), prometheus_metrics="trtllm_x 1\n")

    assert [engine.name for engine in lacking.engines] == ["trtllm:8000"]
    assert found("trtllm", whole, proc, port=8000).engines


def test_a_server_whose_metrics_are_off_is_a_lack_though_it_is_not_found(proc: Path) -> None:
    """A process of TGI without a page: what would make it known is said."""
    result = found("tgi", Server(), proc, 22)

    assert result.engines == ()
    assert [lack.what for lack in result.lacks] == ["a tgi server shows no metrics page"]


def test_a_port_that_is_passed_on_cannot_be_mapped(proc: Path) -> None:
    """docker-proxy is no server: its CPU time is not the server's, and the remedy is named."""
    server = Server(v1_models=owned_by("vllm"), metrics="vllm:x 1\n")
    result = found("vllm", server, proc, 70, port=8000)

    assert result.engines[0].pids == frozenset()
    assert "cannot be mapped" in result.lacks[0].what
    assert "devices =" in result.lacks[0].fix


def test_a_kind_of_the_user_is_found_by_its_command(proc: Path) -> None:
    """A table in the configuration with a command and a sign finds a server as ours do."""
    kind = KindConfig(commands=("something else",), signs=("mine_",), output_tokens=("mine_tokens_total",))
    kinds = EnginesConfig(kind={"mine": kind}).kinds
    sockets = [Listener("127.0.0.1", 5, frozenset({10}))]
    server = Server(metrics="mine_tokens_total 1\n")

    assert find("mine", sockets, kinds, fetch=lambda _u, _t: server, proc=proc).engines


def test_a_server_that_cannot_be_asked_is_not_found(proc: Path) -> None:
    """No answer at all, from whatever smells."""
    server = Server()
    server.answers["*"] = SourceRetry("no usable answer", where="x", fix="y")

    assert found("vllm", server, proc, 92).engines == ()


def test_the_interpreter_of_a_server_is_named_where_it_is_on_this_disk(proc: Path) -> None:
    """By its path, for the command that installs something beside it; not one of a container, nor a program's name."""
    (proc / "41" / "cmdline").write_bytes(b"/opt/venv/bin/python3.11\0/opt/venv/bin/vllm\0serve\0m\0")
    assert python_of([41, 92], proc) == "/opt/venv/bin/python3.11"

    (proc / "41" / "cgroup").write_text(f"0::/system.slice/docker-{'a' * 64}.scope\n")
    assert python_of([41], proc) == "python"
    assert python_of([20, 70, 4_000_000], proc) == "python"


def test_processes_that_are_gone_are_nobody_s(proc: Path) -> None:
    """A pid without /proc has no parents and stays itself; a relay is known by its program alone."""
    assert processes_of([4_000_000], ["vllm"], proc) == {4_000_000}
    assert is_relay("/usr/bin/docker-proxy -proto tcp")
    assert not is_relay("vllm serve docker-proxy")


@pytest.mark.parametrize(("address", "port", "pids"), [("172.17.0.2", 8000, {81}), ("172.17.0.9", 8000, set())])
def test_who_is_behind_docker_proxy_is_found_in_its_container(
    address: str, port: int, pids: set[int], proc: Path
) -> None:
    """By the container's own address and port in a network that is not ours; another address leads to nobody."""
    relay = f"/usr/bin/docker-proxy -proto tcp -host-port 8000 -container-ip {address} -container-port {port}"
    (proc / "70" / "cmdline").write_bytes(relay.replace(" ", "\0").encode())
    for pid, network in (("self", "net:[1]"), ("41", "net:[1]"), ("81", "net:[2]")):
        (proc / pid / "ns").mkdir(parents=True)
        (proc / pid / "ns" / "net").symlink_to(network)
    (proc / "81" / "cmdline").write_bytes(b"python3\0/opt/vllm\0serve\0")
    (proc / "81" / "net").mkdir()
    (proc / "81" / "net" / "fib_trie").write_text("Local:\n     |-- 172.17.0.2\n        /32 host LOCAL\n")
    row = "   0: 00000000:{:04X} 00000000:0000 0A 0:0 00:0 0 0 0 {} 1\n"
    (proc / "81" / "net" / "tcp").write_text("head\n" + row.format(8000, 777) + row.format(8001, 778))
    for owner, inode in ((81, 777), (30, 778)):
        (proc / str(owner) / "fd").mkdir()
        (proc / str(owner) / "fd" / "3").symlink_to(f"socket:[{inode}]")

    assert processes_of([70], ["vllm serve"], proc) == pids
