"""These tests run where the client libraries are: `make test-clients`."""

import importlib.util
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

import inferwatt
from inferwatt.clients import border
from tests.instrument.apis import Apis
from tests.real.conftest import llamacpp_server as llamacpp_server  # a fixture

collect_ignore_glob = [] if importlib.util.find_spec("litellm") else ["test_*.py"]


@pytest.fixture(scope="session")
def apis() -> Iterator[Apis]:
    """The stand-ins of the managed APIs."""
    with Apis() as standing:
        yield standing


@pytest.fixture(scope="session", autouse=True)
def _litellms_threads_end() -> Iterator[None]:
    """LiteLLM logs in threads that would outlive the tests."""
    yield
    loaded = [vars(module) for name, module in list(sys.modules.items()) if name.partition(".")[0] == "litellm"]
    for pool in {id(value): value for names in loaded for value in names.values()}.values():
        if isinstance(pool, ThreadPoolExecutor):
            pool.shutdown()


@pytest.fixture(autouse=True)
def _instrumented() -> Iterator[None]:
    """Every test is instrumented, the stand-ins count as managed APIs, and nothing of ours has failed by its end."""
    border.troubles.clear()
    inferwatt.instrument(managed=["127.0.0.1"])
    yield
    inferwatt.uninstrument()
    assert border.troubles == {}
