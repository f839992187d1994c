import contextlib
import gzip
import time
from contextlib import closing

import pytest

from inferwatt.engines.fetch import Answer, HttpFetch
from inferwatt.engines.pages import MAX_BODY_BYTES
from inferwatt.errors import ConfigError, SourceGone, SourceRetry
from tests.engines.servers import RawServer, http, raw_server
from tests.real.conftest import free_port

PAGE = b"a_total 1\n"


def ask(url: str, timeout_seconds: float = 5.0) -> Answer | None:
    """Ask a server once for its metrics, and close the connection."""
    with closing(HttpFetch(url, timeout_seconds)) as fetch:
        return fetch.get("/metrics")


def test_an_answer_comes_with_its_status_body_and_headers() -> None:
    """Header names are lower case, whatever the server writes."""
    with raw_server(http(PAGE, "X-Start: 7", status="501 Not Implemented")) as server:
        answer = ask(server.url)

    assert answer is not None
    assert (answer.status, answer.body, answer.headers["x-start"], answer.whole) == (501, PAGE, "7", True)
    assert server.questions[0].startswith(b"GET /metrics HTTP/1.1\r\n")


def test_nobody_there_is_told_from_no_answer() -> None:
    """A refused connection is a server that is gone; anything else may work the next time."""
    with pytest.raises(SourceGone, match="nobody listens"):
        ask(f"http://127.0.0.1:{free_port()}")


@pytest.mark.parametrize(
    "answer",
    [
        http(b"", "Location: http://example.org/", status="302 Found"),
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"",
        http(b"not gzip at all", "Content-Encoding: gzip"),
        b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 500 + b"\r\n",
    ],
)
def test_what_is_no_http_answer_of_ours_may_work_the_next_time(answer: bytes) -> None:
    """Redirects are not followed; a broken answer is an error with words, never a traceback."""
    with raw_server(answer) as server, pytest.raises(SourceRetry, match="no usable answer"):
        ask(server.url, 1.0)


def test_a_body_that_ends_early_is_not_whole() -> None:
    """Row 4: what came is kept, and it is known that more was promised."""
    with raw_server(http(PAGE, length=100)) as server:
        answer = ask(server.url)

    assert answer is not None
    assert (answer.body, answer.whole) == (PAGE, False)


def test_an_endless_body_is_cut_just_above_the_cap() -> None:
    """Row 13: at most one chunk more than 8 MiB is read, and the page reader refuses it."""
    with raw_server(b"HTTP/1.1 200 OK\r\n\r\n", *([b"x" * 1_048_576] * 20)) as server:
        answer = ask(server.url)

    assert answer is not None
    assert MAX_BODY_BYTES < len(answer.body) <= MAX_BODY_BYTES + 65536


def test_gzip_is_read_though_not_asked_for() -> None:
    """Row 14: a server that sends gzip all the same is understood, and a cut one is not whole."""
    packed = gzip.compress(PAGE * 100)
    with raw_server(http(packed, "Content-Encoding: gzip")) as server:
        answer = ask(server.url)
    with raw_server(http(packed[:-12], "Content-Encoding: gzip")) as server:
        cut = ask(server.url)

    assert answer is not None
    assert cut is not None
    assert (answer.body, answer.whole) == (PAGE * 100, True)
    assert not cut.whole


def test_a_late_answer_is_picked_up_and_asked_for_once() -> None:
    """A busy server has one question of ours, however often we look."""
    with raw_server(http(PAGE), hold=True) as server:
        fetch = HttpFetch(server.url, 0.02)
        assert [fetch.get("/metrics") for _ in range(5)] == [None] * 5
        server.release()
        answer = None
        while answer is None:
            answer = fetch.get("/metrics")
        fetch.close()

    assert answer.body == PAGE
    assert len(server.questions) == 1


def test_a_question_that_stands_is_only_looked_after() -> None:
    """A server that hangs is waited for once: of 20 further looks none takes the others' time."""
    with raw_server(http(PAGE), hold=True) as server, closing(HttpFetch(server.url, 1.0)) as fetch:
        assert fetch.get("/metrics") is None
        before = time.monotonic()
        assert [fetch.get("/metrics") for _ in range(20)] == [None] * 20
        spent_seconds = time.monotonic() - before

    assert spent_seconds < 10


def test_a_kept_connection_that_the_server_closed_is_opened_again() -> None:
    """llama.cpp closes a kept connection after 100 questions or 5 s: the next question does not fail for it."""
    with raw_server(http(PAGE)) as server, closing(HttpFetch(server.url, 5.0)) as fetch:
        answers = [fetch.get("/metrics") for _ in range(3)]

    assert [answer.body if answer else b"" for answer in answers] == [PAGE] * 3


@pytest.mark.parametrize("url", ["127.0.0.1:8080", "file:///etc/passwd", "http://", ""])
def test_what_is_no_address_is_a_configuration_error(url: str) -> None:
    """Only http and https with a host are asked."""
    with pytest.raises(ConfigError, match="not the address"):
        HttpFetch(url, 1.0)


class Dripping(RawServer):
    """A server that sends its answer byte by byte, for ever, until nobody listens."""

    def _serve(self) -> None:
        connection, _ = self._listener.accept()
        with connection, contextlib.suppress(OSError):
            connection.recv(65536)
            connection.sendall(self._chunks[0])
            while not self._released.wait(0.01):
                connection.sendall(self._chunks[1])


@pytest.mark.parametrize("start", [b"HTTP/1.1 200 OK\r\nX-Slow: ", b"HTTP/1.1 200 OK\r\n\r\n"])
def test_an_answer_that_drips_for_ever_is_given_up(start: bytes) -> None:
    """One byte at a time, in its head or in its body: the time-out is that of the whole answer."""
    server = Dripping(start, b"x")
    try:
        with pytest.raises(SourceRetry, match="no usable answer: TimeoutError"):
            ask(server.url, 0.2)
    finally:
        server.close()


def test_a_page_of_200_megabytes_is_not_read() -> None:
    """A length that is said to be far beyond the cap: at most one chunk more than 8 MiB is taken in."""
    with raw_server(b"HTTP/1.1 200 OK\r\nContent-Length: 209715200\r\n\r\n", *([b"a 1\n" * 262_144] * 20)) as server:
        answer = ask(server.url)

    assert answer is not None
    assert MAX_BODY_BYTES < len(answer.body) <= MAX_BODY_BYTES + 65536


def test_a_gzip_bomb_that_was_not_asked_for_is_cut() -> None:
    """Identity is asked for; 64 MiB of zeros that come packed all the same are inflated to the cap and no further."""
    with raw_server(http(gzip.compress(bytes(64 * 1024 * 1024)), "Content-Encoding: gzip")) as server:
        answer = ask(server.url)

    assert answer is not None
    assert len(answer.body) == MAX_BODY_BYTES + 1
    assert not answer.whole
    assert b"Accept-Encoding: identity" in server.questions[0]
