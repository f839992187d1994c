"""The real vLLM on the CPU: run by `make test-vllm`, which installs it and names its Python in VLLM_PYTHON.

With VLLM_MODES, which `make test-vllm-modes` sets, in its rarer modes too.
"""

import os
import subprocess
from pathlib import Path

import pytest

from tests.vllm.server import PYTHON

_ASKED = {"VLLM_PYTHON": "test_real_*.py", "VLLM_MODES": "test_modes_*.py"}
collect_ignore_glob = [names for asked, names in _ASKED.items() if not os.environ.get(asked)]


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a tiny model of random weights."""
    folder = tmp_path_factory.mktemp("tiny")
    subprocess.run([PYTHON, str(Path(__file__).with_name("tiny_model.py")), str(folder)], check=True)
    return folder
