"""A real vLLM server beside a real agent, as processes of a test."""

import contextlib
import os
import signal
import subprocess
import time
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Self

import pytest

from tests.real.children import AgentProcess
from tests.real.conftest import free_port

PYTHON = os.environ.get("VLLM_PYTHON", "python3")
MODEL = "tiny"
READY_SECONDS = 180.0
FLAGS = (
    "--served-model-name", MODEL, "--dtype", "float32", "--enforce-eager", "--max-model-len", "1024",
    "--max-num-batched-tokens", "256", "--max-num-seqs", "6", "--enable-prompt-tokens-details",
)  # fmt: skip
FORCE_ASYNC = '''
"""A general plugin of vLLM that forces async scheduling, the default on GPUs, on the CPU too."""

def register():
    from vllm.platforms.cpu import CpuPlatform

    check = CpuPlatform.check_and_update_config.__func__

    def forced(cls, vllm_config):
        check(cls, vllm_config)
        vllm_config.scheduler_config.async_scheduling = True

    CpuPlatform.check_and_update_config = classmethod(forced)
'''


class VllmProcess:
    """`vllm serve` with the tiny model, told where the agent's socket is; it and its children end with the context.

    It has async scheduling forced, or another general plugin of vLLM's whose source is given.
    """

    def __init__(
        self,
        model: Path,
        agent: AgentProcess,
        *flags: str,
        is_async: bool = False,
        plugin: str = "",
        environment: Mapping[str, str] | None = None,
        port: int | None = None,
    ) -> None:
        self.port = port or free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.log = agent.home / f"vllm-{self.port}.log"
        own = {**os.environ, **agent.environment, "VLLM_NO_USAGE_STATS": "1", "HF_HUB_OFFLINE": "1"}
        own |= {"VLLM_CPU_KVCACHE_SPACE": "1", "OMP_NUM_THREADS": "1", "VLLM_LOGGING_LEVEL": "INFO"}
        own["VLLM_CPU_OMP_THREADS_BIND"] = "nobind"  # else each worker of each server is bound to the same core
        own.pop("PYTHONPATH", None)
        if plugin or is_async:
            own["PYTHONPATH"] = str(_plugin(agent.home / "plugin", plugin or FORCE_ASYNC))
        where = ("--host", "127.0.0.1", "--port", str(self.port))
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [str(Path(PYTHON).with_name("vllm")), "serve", str(model), *FLAGS, *where, *flags],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=own | dict(environment or {}),
                start_new_session=True,
            )

    def __enter__(self) -> Self:
        deadline = time.monotonic() + READY_SECONDS
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                pytest.fail(f"vLLM ended with {self.process.returncode}: {self.log.read_text()[-3000:]}")
            try:
                with urllib.request.urlopen(f"{self.url}/health", timeout=5) as answer:
                    if answer.status == 200:
                        return self
            except OSError:
                time.sleep(0.1)
        self.__exit__()
        pytest.fail(f"vLLM was not ready within {READY_SECONDS:.0f} s: {self.log.read_text()[-3000:]}")

    def __exit__(self, *exc: object) -> None:
        self.signal(signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(15)
        self.signal(signal.SIGKILL)
        self.process.wait(10)

    def signal(self, number: int) -> None:
        """Send a signal to every process of the server."""
        try:
            os.killpg(self.process.pid, number)
        except ProcessLookupError:
            return


def _plugin(folder: Path, text: str) -> Path:
    """Write a plugin of vLLM into a folder that can stand on PYTHONPATH."""
    metadata = folder / "of_the_test-1.dist-info"
    metadata.mkdir(parents=True)
    (folder / "of_the_test.py").write_text(text)
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: of-the-test\nVersion: 1\n")
    (metadata / "entry_points.txt").write_text("[vllm.general_plugins]\nof_the_test = of_the_test:register\n")
    return folder
