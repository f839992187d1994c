"""Which server an engine of vLLM's is of: over trees of processes as a real 0.32 makes them."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from inferwatt.engines.listeners import Listener
from inferwatt.engines.vllm_server import Found, server_of

LAUNCHER = "/opt/venv/bin/python /opt/venv/bin/vllm serve m --port 8000"


@pytest.fixture
def proc(tmp_path: Path) -> Path:
    """A server with two API servers, started by a shell of a test that is named after vLLM."""
    for pid, parent, command in (
        (100, 1, "make test-vllm"),
        (110, 100, LAUNCHER),
        (111, 110, "VLLM::EngineCore"),
        (112, 110, "VLLM::APIServer_0"),
        (113, 111, "VLLM::Worker_TP0"),
        (200, 1, "python program.py"),
    ):
        (tmp_path / str(pid)).mkdir()
        (tmp_path / str(pid) / "stat").write_text(f"{pid} (a (name) of) S {parent} 1 1")
        (tmp_path / str(pid) / "cmdline").write_bytes(command.replace(" ", "\0").encode())
    return tmp_path


def found(proc: Path, pid: int, *sockets: tuple[int, set[int]], port: int | None = None, **named: str) -> Found | None:
    """Ask for a process, with who listens where and what is known already."""
    listening = [Listener("127.0.0.1", number, frozenset(pids)) for number, pids in sockets]
    targets: Any = [SimpleNamespace(name=name, url=url) for name, url in named.items()]
    return server_of(pid, port, targets, find=lambda: listening, proc=proc)


def test_the_nearest_ancestor_that_listens_is_the_server(proc: Path) -> None:
    """The launcher holds the port, and so do its API servers; what others listen on is not asked."""
    sockets = ((8000, {110, 112}), (9999, {100}))

    assert found(proc, 111, *sockets) == Found("vllm:8000", frozenset({110, 112}), 8000)
    assert found(proc, 111, *sockets, chat="http://localhost:8000") == Found("chat", frozenset({110, 112}), 8000)
    assert found(proc, 111, *sockets, far="http://192.0.2.1:8000") == Found("vllm:8000", frozenset({110, 112}), 8000)


def test_before_it_listens_its_command_line_says_where_it_will(proc: Path) -> None:
    """Its processes are watched from the start: the launcher is the head of the tree, not who started it."""
    assert found(proc, 111, port=8000) == Found("vllm:8000", frozenset({110}), 8000)
    assert found(proc, 111, (29500, {110}), port=8000) == Found("vllm:8000", frozenset({110}), 8000)
    assert found(proc, 111, (29500, {110}), port=8000, guessed="http://127.0.0.1:29500") == Found(
        "vllm:8000", frozenset({110}), 8000
    )
    assert found(proc, 111, port=8000, chat="http://127.0.0.1:8000") == Found("chat", frozenset({110}), 8000)


def test_pods_that_serve_on_one_port_are_several_servers(proc: Path) -> None:
    """Each is named by its own address, before it listens too: as it will be found, and not as another one's."""
    (proc / "self").mkdir()
    for pid, network in (("self", 1), ("110", 2)):
        (proc / pid / "ns").mkdir()
        (proc / pid / "ns" / "net").symlink_to(f"net:[{network}]")
    (proc / "110" / "net").mkdir()
    (proc / "110" / "net" / "fib_trie").write_text("     |-- 10.244.0.7\n        /32 host LOCAL\n")
    pod = Found("vllm:10.244.0.7:8000", frozenset({110}), 8000, "10.244.0.7")
    sockets = [Listener("10.244.0.7", 8000, frozenset({110})), Listener("10.244.0.8", 8000, frozenset({9}))]
    chat: Any = [SimpleNamespace(name="chat", url="http://10.244.0.7:8000")]

    assert server_of(111, 8000, (), find=tuple, proc=proc) == pod
    assert server_of(111, 8000, (), find=lambda: sockets, proc=proc) == pod
    assert server_of(111, 8000, chat, find=lambda: sockets, proc=proc) == pod._replace(name="chat")
    assert server_of(111, None, chat, find=lambda: sockets, proc=proc) == pod._replace(name="chat")


def test_who_listens_for_nobody_is_no_server(proc: Path) -> None:
    """An engine's own ports are its workers'; a program that holds vLLM has no server, unless it is configured."""
    assert found(proc, 111, (29500, {111})) is None
    assert found(proc, 200, (29500, {200})) is None
    assert found(proc, 200, (8080, {200}), own="http://127.0.0.1:8080") == Found("own", frozenset({200}), 8080)
    assert found(proc, 4711) is None
