"""A server in a real network namespace, as a pod has one, reached over a real veth pair (root, iproute2)."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from inferwatt.clock import SystemClock
from inferwatt.engines.discover import vllm
from inferwatt.engines.glance import glances
from inferwatt.engines.networks import pids_behind
from inferwatt.engines.servers import EnginesConfig, Target
from tests.real.pages import wait_for

pytestmark = pytest.mark.real

HERE, THERE, PORT = "198.18.65.1", "198.18.65.2", 8000
PAGE = Path(__file__).parents[1] / "engines" / "pages" / "vllm_0.32.txt"
SERVER = """
import http.server, sys

MODELS = b'{"data":[{"id":"m","owned_by":"vllm"}]}'
PAGE = open(sys.argv[1], "rb").read()

class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        body = {"/metrics": PAGE, "/v1/models": MODELS}.get(self.path, b"{}")
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass

http.server.ThreadingHTTPServer(("", 8000), Handler).serve_forever()
"""
"""A stand-in for vLLM: the page of a real 0.32 and its word, in a process that is called as vLLM's."""


def ran(*command: str) -> bool:
    """Run a command and say whether it worked."""
    return subprocess.run(command, check=False, capture_output=True).returncode == 0


@contextmanager
def in_a_network() -> Iterator[int]:
    """Run the server in a network of its own while the context lasts; yields its process."""
    if not shutil.which("ip") or not shutil.which("nsenter") or not ran("unshare", "--net", "true"):
        pytest.skip("a network namespace with a veth pair needs iproute2, util-linux and root")
    ours, theirs = f"iw{os.getpid()}a"[:15], f"iw{os.getpid()}b"[:15]
    if not ran("ip", "link", "add", ours, "type", "veth", "peer", "name", theirs):
        pytest.skip("no veth pair can be made here")
    server = subprocess.Popen(["unshare", "--net", sys.executable, "-c", SERVER, str(PAGE), "vllm serve m"])
    try:
        ns = os.readlink("/proc/self/ns/net")
        wait_for("its network", lambda: os.readlink(f"/proc/{server.pid}/ns/net") != ns)
        inside = ("nsenter", "-t", str(server.pid), "-n", "ip")
        assert ran("ip", "link", "set", theirs, "netns", str(server.pid))
        for command in (
            ("ip", "addr", "add", f"{HERE}/30", "dev", ours),
            ("ip", "link", "set", ours, "up"),
            (*inside, "addr", "add", f"{THERE}/30", "dev", theirs),
            (*inside, "link", "set", theirs, "up"),
        ):
            assert ran(*command), command
        yield server.pid
    finally:
        server.kill()
        server.wait(10)
        ran("ip", "link", "del", ours)


def test_a_server_in_a_pod_s_network_is_found_and_read() -> None:
    """No port of this machine leads to it: it is found by its process, asked at its own address, and its page read."""
    name, url = f"vllm:{THERE}:{PORT}", f"http://{THERE}:{PORT}"
    with in_a_network() as pid:

        def look() -> Target | None:
            found = {target.name: target for target in vllm(EnginesConfig()).engines}
            return found.get(name)

        target = wait_for("the server", look)
        (seen,) = glances([Target("chat", url, "vllm")], EnginesConfig(timeout_seconds=10), SystemClock())
        held = pids_behind(url)

    assert target is not None
    assert (target.url, target.pids, target.why) == (url, {pid}, "its process, and its own word")
    assert (seen.state, set(seen.target.pids), seen.lacks) == ("up", {pid}, ())
    assert held == {pid}
