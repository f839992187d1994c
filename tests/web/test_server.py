import http.client
import os
from contextlib import suppress
from pathlib import Path

import pytest

from inferwatt.errors import Unavailable
from inferwatt.web.server import bind

from .running import OWN, STRANGER, Meter, Reader, ask, raw, running


def test_huge_headers_and_garbage_end_the_connection() -> None:
    """What is no request costs its sender the connection, and nobody else anything."""
    with running(Meter(), OWN) as serving:
        huge = raw(serving, b"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + b"x" * 200_000 + b"\r\n\r\n")
        junk = raw(serving, b"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n")
        well = ask(serving, "/healthz")[0].status

    assert huge[:12] in {b"", b"HTTP/1.1 400", b"HTTP/1.1 431"}
    assert junk[:12] in {b"", b"HTTP/1.1 400"}
    assert well == 200


def test_a_taken_port_names_its_holder_and_another_port() -> None:
    """The second of two agents says who was first and what to do."""
    with bind("127.0.0.1:0") as first:
        port = first.getsockname()[1]
        with pytest.raises(Unavailable, match=f"port {port} is taken") as caught:
            bind(f"127.0.0.1:{port}")

    assert str(port + 1) in caught.value.fix
    assert f"pid {os.getpid()}" in caught.value.what or not Path("/proc/net/tcp").exists()


def test_an_address_of_another_machine_is_refused() -> None:
    """Listening where this machine is not says so."""
    with pytest.raises(Unavailable, match="cannot listen"):
        bind("192.0.2.1:0")


def test_the_server_ends_while_streams_are_open_and_the_port_is_free_again() -> None:
    """A stop waits for no reader, and the same port can be taken at once."""
    with running(Meter(), STRANGER) as serving:
        readers = [Reader(serving) for _ in range(3)]
        assert [reader.event()[0] for reader in readers] == ["window"] * 3
    assert not serving.server.force_exit
    with suppress(http.client.HTTPException, OSError):  # a clean end is as good as a cut
        while readers[0].answer.readline():
            pass
    bind(f"127.0.0.1:{serving.port}").close()
    for reader in readers:
        reader.close()
