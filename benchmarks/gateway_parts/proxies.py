"""The processes of the benchmark of the gateway: the server, our gateway, LiteLLM's proxy; each with its CPU time."""

import contextlib
import os
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Self

MODELS = ("burst", "paced", "single", "large")
READY_SECONDS = 120.0
_CPU_CLOCK = 2
"""CPUCLOCK_SCHED of Linux's clock of another process (linux/posix-timers.h)."""


class Proxy:
    """A process that listens on a port; it ends with the context."""

    def __init__(
        self, name: str, command: Sequence[str], port: int, key: str = "none", core: int | None = None
    ) -> None:
        self.name, self.port, self.key = name, port, key
        self._command, self._core = command, core

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            self._command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=_environment()
        )
        if self._core is not None:
            os.sched_setaffinity(self._process.pid, {self._core})
        deadline = time.monotonic() + READY_SECONDS
        while not _listens(self.port):
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.__exit__()
                raise RuntimeError(f"{self.name} does not listen")
            time.sleep(0.05)
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(10)
        self._process.kill()
        self._process.wait()

    @property
    def cpu_ms(self) -> float:
        """The CPU time that all its threads have taken, milliseconds."""
        return time.clock_gettime_ns((~self._process.pid << 3) | _CPU_CLOCK) / 1e6

    @property
    def rss_mb(self) -> float:
        """What of it is in memory, 1e6 bytes."""
        pages = int(Path(f"/proc/{self._process.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def upstream(port: int, core: int | None) -> Proxy:
    """Return the stand-in of a server."""
    return Proxy("upstream", [sys.executable, "-m", "benchmarks.gateway_parts.upstream", str(port)], port, core=core)


def agent(folder: Path, core: int | None) -> Proxy:
    """Return a real agent, to which the gateway tells its calls."""
    port = free_port()
    own = [
        "--listen",
        f"127.0.0.1:{port}",
        "--state-dir",
        str(folder / "state"),
        "--socket",
        str(folder / "agent.sock"),
    ]
    return Proxy("agent", [sys.executable, "-m", "inferwatt", "agent", *own], port, core=core)


def gateway(folder: Path, server: int, core: int | None) -> Proxy:
    """Return our gateway, beside the agent of the same folder."""
    port = free_port()
    file = folder / f"gateway-{port}.toml"
    file.write_text(
        f'[agent]\nsocket = "{folder}/agent.sock"\n[gateway]\nlisten = "127.0.0.1:{port}"\n'
        f'[[gateway.upstream]]\nname = "upstream"\nurl = "http://127.0.0.1:{server}"\n'
    )
    return Proxy("inferwatt", [sys.executable, "-m", "inferwatt", "gateway", "--config", str(file)], port, core=core)


def minimal(server: int, core: int | None) -> Proxy:
    """Return a proxy that does nothing but pass bytes on."""
    port = free_port()
    program = [sys.executable, "-m", "benchmarks.gateway_parts.minimal", str(port), f"http://127.0.0.1:{server}"]
    return Proxy("minimal", program, port, core=core)


def litellm(folder: Path, server: int, core: int | None, python: str) -> Proxy:
    """Return LiteLLM's proxy with one worker, as its documentation says; a key as long as it asks for."""
    port, key = free_port(), "sk-" + os.urandom(24).hex()
    file = folder / "litellm.yaml"
    rows = "".join(
        f"  - model_name: {model}\n    litellm_params:\n      model: openai/{model}\n      api_key: none\n"
        f"      api_base: http://127.0.0.1:{server}/v1\n"
        for model in MODELS
    )
    file.write_text(f"model_list:\n{rows}general_settings:\n  master_key: {key}\n")
    program = str(Path(python).with_name("litellm"))
    command = [program, "--config", str(file), "--host", "127.0.0.1", "--port", str(port), "--num_workers", "1"]
    return Proxy("litellm", command, port, key, core)


def free_port() -> int:
    """Return a port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
    except OSError:
        return False
    return True


def _environment() -> dict[str, str]:
    quiet = {"LITELLM_LOG": "ERROR", "LITELLM_TELEMETRY": "False", "LITELLM_LOCAL_MODEL_COST_MAP": "True"}
    return {name: value for name, value in os.environ.items() if not name.startswith("INFERWATT_")} | quiet
