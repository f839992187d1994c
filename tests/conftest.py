"""Settings of every test: examples may take their time (the machine is shared), and are the same in every run of CI."""

import os
import threading
from collections.abc import Iterator

import pytest
from hypothesis import settings

settings.register_profile("here", deadline=None)
settings.register_profile("ci", deadline=None, derandomize=True)
settings.load_profile("ci" if os.environ.get("CI") else "here")


@pytest.fixture(scope="session", autouse=True)
def _no_thread_is_left() -> Iterator[None]:
    """A thread that a test left behind would keep the run from ending, and slow every test after it."""
    yield
    left = [t.name for t in threading.enumerate() if t is not threading.main_thread() and not t.daemon]
    assert left == []
