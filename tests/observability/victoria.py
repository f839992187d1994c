"""A real VictoriaMetrics."""

import json
import shutil
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.real.conftest import free_port, missing

READY_SECONDS = 60.0


@contextmanager
def victoria_metrics(folder: Path, *more: str) -> Iterator[str]:
    """Run it on a free port with `more` flags; return where. New points are shown at once, all of them kept apart."""
    program = shutil.which("victoria-metrics")
    if program is None:
        missing("victoria-metrics is not installed: apt-get install victoria-metrics")
    port = free_port()
    flags = [f"-httpListenAddr=127.0.0.1:{port}", f"-storageDataPath={folder}", "-search.latencyOffset=0s", *more]
    process = subprocess.Popen([program, *flags], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    url = f"http://127.0.0.1:{port}"
    try:
        wait_until(lambda: get(f"{url}/health") == b"OK")
        yield url
    finally:
        process.kill()
        process.wait(10)


def wait_until(is_so: Any) -> None:
    """Wait until something is so."""
    deadline = time.monotonic() + READY_SECONDS
    while time.monotonic() < deadline:
        if is_so():
            return
        time.sleep(0.05)
    pytest.fail("it did not come to pass")


def get(url: str) -> bytes:
    """Return an answer; nothing where there is none yet."""
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return bytes(answer.read())
    except (urllib.error.URLError, ConnectionError, TimeoutError):
        return b""


def exported(url: str, match: str) -> list[dict[str, Any]]:
    """Return every stored series that matches, with all its points."""
    text = get(f"{url}/api/v1/export?" + urllib.parse.urlencode({"match[]": match, "reduce_mem_usage": 1}))
    return [json.loads(line) for line in text.splitlines()]
