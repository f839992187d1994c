"""A step that raised: vLLM's own scheduler and sentinel drop what is in flight, and our books do not wait for ever."""

import json
import subprocess
from pathlib import Path

import pytest

from tests.vllm.server import PYTHON

pytestmark = pytest.mark.real


def test_requests_of_an_engine_that_failed_end_though_no_step_comes(tiny_model: Path) -> None:
    """`EngineCoreSentinel.on_fault` over real SchedulerOutput objects: two steps in flight are given up."""
    script = Path(__file__).with_name("failed_engine.py")
    made = subprocess.run([PYTHON, str(script), str(tiny_model)], capture_output=True, check=False, text=True)
    assert made.returncode == 0, made.stderr
    said = json.loads(made.stdout.splitlines()[-1])

    assert (said["queue"], said["scheduled"], said["failed"]) == (0, [40, 2, 2], 0)
    assert (said["ended_at_once"], said["lost_steps"], said["rows"]) == (0, 2, 0)
    assert said["ended"] == [["a", "aborted", 1, 0], ["b", "aborted", 1, 0]]
