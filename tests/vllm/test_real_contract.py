"""The installed vLLM has what the contract asks for; other versions are read from wheels (tests/contracts/vllm)."""

from pathlib import Path

import pytest

from tests.contracts.vllm.contract import breaks
from tests.contracts.vllm.source import Vllm
from tests.vllm.server import PYTHON

pytestmark = pytest.mark.real


def test_the_vllm_that_is_installed_has_all_that_we_need() -> None:
    """It was built for this machine, and its files are those that the server runs."""
    installed = next(Path(PYTHON).parent.parent.glob("lib/python*/site-packages/vllm"))

    def read(path: str) -> str | None:
        return (installed / path).read_text() if (installed / path).is_file() else None

    found = breaks(Vllm("installed", read))

    assert not found, "\n".join(map(str, found))
