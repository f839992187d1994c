"""Who listens beyond loopback: on made /proc trees with networks of containers."""

from pathlib import Path

import pytest

from inferwatt.engines.candidates import find
from inferwatt.engines.fetch import Answer
from inferwatt.engines.listeners import Listener
from inferwatt.engines.networks import addresses, beyond, holders_at, pids_behind
from tests.engines.servers import FakeLlama

ROW = "   0: {}:{:04X} 00000000:0000 0A 0:0 00:0 0 0 0 {} 1\n"
ANY, LOOPBACK, OWN = "00000000", "0100007F", "0502000A"
ANY6, LINK6 = "0" * 32, "000080FE000000000000000001000000"
TRIE = "Local:\n     |-- 127.0.0.1\n        /32 host LOCAL\n     |-- {}\n        /32 host LOCAL\n"


def network(folder: Path, address: str, *sockets: tuple[str, int, int], v6: str = "") -> None:
    """Make the network of a process: its address, and who listens (address, port, inode)."""
    net = folder / "net"
    net.mkdir(parents=True)
    rows = dict.fromkeys(("tcp", "tcp6"), "head\n")
    for where, port, inode in sockets:
        rows["tcp6" if len(where) == 32 else "tcp"] += ROW.format(where, port, inode)
    for name, text in rows.items():
        (net / name).write_text(text)
    (net / "fib_trie").write_text(TRIE.format(address) if address else "")
    (net / "if_inet6").write_text(v6)


def process(proc: Path, pid: int, inode: int, netns: int, command: str) -> None:
    """Make a process that holds a socket, in a network."""
    folder = proc / str(pid)
    for name in ("ns", "fd"):
        (folder / name).mkdir(parents=True)
    (folder / "ns" / "net").symlink_to(f"net:[{netns}]")
    (folder / "fd" / "3").symlink_to(f"socket:[{inode}]")
    (folder / "cmdline").write_bytes(command.replace(" ", "\0").encode())
    (folder / "stat").write_text(f"{pid} (a) S 1 1 1 0\n")
    (folder / "maps").write_text("")


@pytest.fixture
def proc(tmp_path: Path) -> Path:
    """Our own network with a server at our own address, and the networks of two pods, the second with IPv6 alone."""
    process(tmp_path, 20, 200, 1, "vllm serve near")
    (tmp_path / "self").symlink_to("20")
    network(tmp_path, "10.0.2.5", (OWN, 8000, 200), (LOOPBACK, 9000, 201))
    process(tmp_path, 41, 400, 2, "vllm serve pod")
    network(tmp_path / "41", "10.244.0.7", (ANY, 8000, 400), (LOOPBACK, 8001, 401))
    process(tmp_path, 61, 600, 3, "vllm serve six")
    v6 = "fd000000000000000000000000000009 04 40 00 82 eth0\nfe800000000000000000000000000001 04 40 20 80 eth0\n"
    network(tmp_path / "61", "", (ANY6, 8000, 600), (LINK6, 8002, 602), v6=v6)
    return tmp_path


def test_pods_are_reached_at_their_own_address(proc: Path) -> None:
    """What listens on every address or on one of its own; not what listens on its loopback or its link alone."""
    assert beyond(proc) == (
        Listener("10.0.2.5", 8000, frozenset({20})),
        Listener("10.244.0.7", 8000, frozenset({41})),
        Listener("[fd00::9]", 8000, frozenset({61})),
    )
    assert list(addresses(proc / "61")) == ["fd00::9"]


@pytest.mark.parametrize(
    ("url", "pids"),
    [
        ("http://10.244.0.7:8000", {41}),
        ("http://[fd00::9]:8000/v1", {61}),
        ("http://10.0.2.5:8000", {20}),
        ("http://10.0.2.5:9000", {77}),
        ("http://localhost:9000", {77}),
        ("http://10.244.0.8:8000", set()),
        ("http://chat.example:8000", set()),
        ("http://10.244.0.7:8001", set()),
    ],
)
def test_an_address_leads_to_its_processes(url: str, pids: set[int], proc: Path) -> None:
    """A pod's, our own, loopback; another machine's and one that only has a name lead to nobody."""
    near = [Listener("127.0.0.1", 9000, frozenset({77}))]

    assert holders_at(url, near, beyond(proc), proc) == pids


def test_a_configured_pod_has_its_processes(proc: Path) -> None:
    """Without any list at hand, by the same way."""
    assert pids_behind("http://10.244.0.7:8000", proc) == {41}


def test_a_server_in_a_pod_is_found_by_its_process_and_one_that_is_published_once(proc: Path) -> None:
    """It has its address in its name; where docker-proxy leads to it already it is not another one."""
    server = FakeLlama()
    server.answers = {"/v1/models": Answer(200, b'{"data":[{"id":"m","owned_by":"vllm"}]}', {})}
    relay = "/usr/bin/docker-proxy -proto tcp -host-port 8000 -container-ip 10.244.0.7 -container-port 8000"
    process(proc, 70, 700, 1, relay)
    near = Listener("127.0.0.1", 8000, frozenset({70}))
    alone = find("vllm", beyond(proc)[1:2], fetch=lambda _url, _timeout: server, proc=proc)
    both = find("vllm", (near, *beyond(proc)), fetch=lambda _url, _timeout: server, proc=proc)

    assert [(engine.name, set(engine.pids)) for engine in alone.engines] == [("vllm:10.244.0.7:8000", {41})]
    assert {engine.name for engine in both.engines} == {"vllm:8000", "vllm:10.0.2.5:8000", "vllm:[fd00::9]:8000"}


def test_a_stranger_s_container_is_not_asked(proc: Path) -> None:
    """By its port alone nobody beyond loopback is asked."""
    (proc / "41" / "cmdline").write_bytes(b"nginx")
    found = find("vllm", beyond(proc)[1:2], fetch=lambda _url, _timeout: pytest.fail("asked"), proc=proc)

    assert found.engines == ()
