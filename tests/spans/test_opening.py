"""What opens the receiver: off by default, closed to strangers, with the extra named where it is missing."""

import socket
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from inferwatt.errors import ConfigError, Unavailable
from inferwatt.opening import open_spans
from inferwatt.settings import AgentConfig
from inferwatt.spans import decoding
from inferwatt.spans.settings import SpansConfig
from inferwatt.testing import FakeClock

PACKAGE = "opentelemetry.proto.collector.trace.v1.trace_service_pb2"


@pytest.fixture(autouse=True)
def _asked_anew() -> Iterator[None]:
    """What is installed is looked for anew."""
    decoding.protobuf.cache_clear()
    yield
    decoding.protobuf.cache_clear()


def opened(listen: str) -> list[Callable[[], object]]:
    """Open the receiver; return what would close it."""
    undo: list[Callable[[], object]] = []
    open_spans(AgentConfig(spans=SpansConfig(listen=listen)), lambda _incoming: None, FakeClock(), undo)
    return undo


def test_it_is_off_by_default() -> None:
    """Nothing listens, nothing is needed."""
    assert opened("") == []


def test_beyond_this_machine_it_needs_the_token() -> None:
    """An address that others can reach is refused without one."""
    with pytest.raises(ConfigError, match=r"(?s)which others can reach.*spans\.listen"):
        opened("0.0.0.0:4318")


def test_a_missing_extra_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """The start stops with the line to type."""
    monkeypatch.setitem(sys.modules, PACKAGE, None)

    with pytest.raises(Unavailable, match=r"pip install 'inferwatt\[otlp\]'"):
        opened("127.0.0.1:0")


def test_a_taken_port_names_its_own_key(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is not the page's address that has to be changed."""
    fake: Any = type(sys)(PACKAGE)
    fake.ExportTraceServiceRequest = type("Request", (), {"FromString": staticmethod(bytes)})
    for name in ("opentelemetry.proto", PACKAGE.rpartition(".")[0], PACKAGE):
        monkeypatch.setitem(sys.modules, name, fake)
    with socket.create_server(("127.0.0.1", 0)) as holder:
        port = holder.getsockname()[1]
        with pytest.raises(Unavailable, match=rf"(?s)port {port} is taken.*spans\.listen 127\.0\.0\.1:{port}"):
            opened(f"127.0.0.1:{port}")


@pytest.mark.parametrize("listen", ["4318", "localhost", "http://localhost:4318", "a b:1", "host:123456"])
def test_an_address_is_host_and_port(listen: str) -> None:
    """Anything else stops the start, by its key."""
    with pytest.raises(ValueError, match="listen is not host:port"):
        SpansConfig(listen=listen)
