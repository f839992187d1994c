"""The real vLLM on the CPU: run by `make test-vllm`, which installs it and names its Python in VLLM_PYTHON."""

import os
import subprocess
from pathlib import Path

import pytest

from tests.vllm.server import PYTHON

collect_ignore_glob = [] if os.environ.get("VLLM_PYTHON") else ["test_real_*.py"]


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a tiny model of random weights."""
    folder = tmp_path_factory.mktemp("tiny")
    subprocess.run([PYTHON, str(Path(__file__).with_name("tiny_model.py")), str(folder)], check=True)
    return folder
