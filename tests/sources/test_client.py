"""The HTTP client of sources against a server that a test scripts byte by byte."""

import http.client
import socket
import ssl
from collections.abc import Callable, Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inferwatt.errors import SourceRetry
from inferwatt.sources.client import Client, is_address, meaning
from tests.doubles.raw_server import HANG_UP, RawServer, Script, say

HELLO = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"


@pytest.fixture
def server() -> Iterator[Callable[..., RawServer]]:
    """Make servers, and close them at the end."""
    made: list[RawServer] = []

    def make(*scripts: Script) -> RawServer:
        made.append(RawServer(*scripts))
        return made[-1]

    yield make
    for each in made:
        each.close()


def drip(head: bytes, server_of: list[RawServer]) -> Script:
    """Return a script that sends `head` and then a byte every now and then."""

    def script(connection: socket.socket, _asked: bytes) -> None:
        connection.sendall(head)
        for _ in range(400):
            if server_of[0].stop.wait(0.02):
                return
            connection.sendall(b"x")

    return script


def test_an_answer_has_its_status_its_headers_and_its_body(server: Callable[..., RawServer]) -> None:
    """Of whatever status: what it means is for who asked. The next question goes over the same connection."""
    raw = server(say(HELLO), say(b"HTTP/1.1 404 No\r\nX-Why: gone\r\nContent-Length: 0\r\n\r\n"))
    client = Client(f"{raw.url}/base/", 5.0)
    first, second = client.ask("/a", headers={"X-Who": "me"}), client.ask("/b", method="POST", body=b"{}")
    client.close()

    assert (first.status, first.body) == (200, b"hello")
    assert (second.status, second.headers["x-why"], second.body) == (404, "gone", b"")
    assert raw.connections == 1
    assert raw.questions[0].startswith(b"GET /base/a HTTP/1.1\r\n")
    assert b"X-Who: me\r\n" in raw.questions[0]
    assert raw.questions[1].startswith(b"POST /base/b HTTP/1.1\r\n")


def test_the_time_of_an_answer_only_rises(server: Callable[..., RawServer]) -> None:
    """It is the middle of the exchange."""
    raw = server(say(HELLO), say(HELLO))
    client = Client(raw.url, 5.0)
    times_ns = [client.ask("/").t_ns for _ in range(2)]
    client.close()

    assert times_ns == sorted(set(times_ns))


@pytest.mark.parametrize(
    "head",
    [b"HTTP/1.1 200 OK\r\nContent-Length: 400\r\n\r\n", b"HTTP/1.1 200 OK\r\nX-Long: ", b"HTTP/1.1 ", b""],
    ids=["body", "header", "status", "nothing"],
)
def test_an_answer_that_drips_ends_as_one_that_never_comes(server: Callable[..., RawServer], head: bytes) -> None:
    """The time-out is for the whole answer, wherever it dawdles."""
    servers: list[RawServer] = []
    servers.append(server(drip(head, servers)))

    with pytest.raises(SourceRetry, match="no whole answer in time"):
        Client(servers[0].url, 0.3).ask("/")


def test_a_connection_that_was_closed_meanwhile_is_opened_again(server: Callable[..., RawServer]) -> None:
    """A kept-alive connection may end at any time; a question that changes nothing is asked once more."""
    raw = server(say(HELLO), HANG_UP, say(HELLO))
    client = Client(raw.url, 5.0)
    answers = [client.ask("/").body for _ in range(2)]
    client.close()

    assert answers == [b"hello", b"hello"]
    assert raw.connections == 2


def test_what_may_change_something_is_not_asked_twice(server: Callable[..., RawServer]) -> None:
    """A login that got no answer may have happened."""
    raw = server(say(HELLO), HANG_UP, say(HELLO))
    client = Client(raw.url, 5.0)
    client.ask("/")

    with pytest.raises(SourceRetry, match="hung up"):
        client.ask("/", method="POST", body=b"{}")
    assert len(raw.questions) == 2


def test_a_first_connection_that_hangs_up_is_a_failure(server: Callable[..., RawServer]) -> None:
    """It is not asked a second time."""
    raw = server(HANG_UP, say(HELLO))

    with pytest.raises(SourceRetry, match="hung up"):
        Client(raw.url, 5.0).ask("/")
    assert len(raw.questions) == 1


def redirect(location: str) -> bytes:
    """Return a redirect."""
    return f"HTTP/1.1 301 Moved\r\nLocation: {location}\r\nContent-Length: 0\r\n\r\n".encode()


def test_a_redirect_to_the_same_host_is_followed_once(server: Callable[..., RawServer]) -> None:
    """Services differ in the slash at the end of their addresses."""
    raw = server(say(redirect("/a/?b=c")), say(HELLO), say(redirect("/b")), say(redirect("/c")))
    client = Client(raw.url, 5.0)

    assert client.ask("/a").body == b"hello"
    assert raw.questions[1].startswith(b"GET /a/?b=c HTTP/1.1\r\n")
    with pytest.raises(SourceRetry, match="from place to place"):
        client.ask("/a")


@pytest.mark.parametrize(
    "location", ["http://127.0.0.2/", "//evil.example/", "https://127.0.0.1/", "http://127.0.0.1:1/", "file:///etc"]
)
def test_a_redirect_to_elsewhere_is_not_followed(server: Callable[..., RawServer], location: str) -> None:
    """No password goes where nobody configured it."""
    raw = server(say(redirect(location)))

    with pytest.raises(SourceRetry, match="another address"):
        Client(raw.url, 5.0).ask("/", headers={"Authorization": "Basic c2VjcmV0"})


@pytest.mark.parametrize(
    ("answer", "what"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n" + b"x" * 99, "too long"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n63\r\n" + b"x" * 99 + b"\r\n0\r\n\r\n", "too long"),
        (b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 0\r\n\r\n", "does not speak HTTP"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", "does not speak HTTP"),
        (b"SSH-2.0-OpenSSH_9.2\r\n", "does not speak HTTP"),
        (b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 200 + b"\r\n", "does not speak HTTP"),
        (b"HTTP/1.1 200 OK\r\nX: " + b"y" * 70000 + b"\r\n\r\n", "does not speak HTTP"),
    ],
    ids=["length", "chunks", "gzip", "broken-chunk", "ssh", "headers", "header"],
)
def test_an_answer_that_is_none_is_said_to_be_none(server: Callable[..., RawServer], answer: bytes, what: str) -> None:
    """Too long, broken, or not HTTP at all."""
    raw = server(say(answer))

    with pytest.raises(SourceRetry, match=what):
        Client(raw.url, 5.0, max_body_bytes=64).ask("/")


def test_an_answer_without_end_is_not_kept(server: Callable[..., RawServer]) -> None:
    """It is left where the cap is, long before the time-out."""

    def endless(connection: socket.socket, _asked: bytes) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
        while True:
            connection.sendall(b"x" * 1024)

    with pytest.raises(SourceRetry, match="too long"):
        Client(server(endless).url, 3.0, max_body_bytes=4096).ask("/")


def test_a_server_that_closes_after_each_answer_is_connected_to_again(server: Callable[..., RawServer]) -> None:
    """As HTTP/1.0 does, and many a BMC."""
    closing = say(b"HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\nhello")
    raw = server(closing, closing)
    client = Client(raw.url, 5.0)

    assert [client.ask("/").body for _ in range(2)] == [b"hello", b"hello"]
    assert raw.connections == 2


def test_an_answer_that_ends_early_is_no_answer(server: Callable[..., RawServer]) -> None:
    """Half a document is none."""

    def half(connection: socket.socket, _asked: bytes) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello")
        connection.shutdown(socket.SHUT_WR)

    raw = server(half)

    with pytest.raises(SourceRetry, match="does not speak HTTP"):
        Client(raw.url, 5.0).ask("/")


def test_nobody_there_is_said_with_what_to_do() -> None:
    """A BMC that is off, or another port."""
    with socket.create_server(("127.0.0.1", 0)) as closed:
        url = f"http://127.0.0.1:{closed.getsockname()[1]}"

    with pytest.raises(SourceRetry, match=r"nobody listens\n.*\n.*start it"):
        Client(url, 5.0).ask("/")


EXCEPTIONS = [
    ssl.SSLCertVerificationError("x"),
    ssl.SSLEOFError("x"),
    TimeoutError("x"),
    socket.gaierror("x"),
    ConnectionRefusedError("x"),
    ConnectionResetError("x"),
    BrokenPipeError("x"),
    OSError("x"),
    http.client.BadStatusLine("x"),
    http.client.IncompleteRead(b"x"),
    http.client.LineTooLong("x"),
    http.client.InvalidURL("x"),
    UnicodeError("x"),
    ValueError("Invalid header value b'Basic c2VjcmV0'"),
]


@pytest.mark.parametrize("exc", EXCEPTIONS, ids=lambda exc: type(exc).__name__)
def test_every_exception_of_a_connection_has_a_meaning(exc: Exception) -> None:
    """None is unmapped, and none of their texts is told: they may quote a header."""
    what, fix = meaning(exc)

    assert what
    assert fix
    assert "c2VjcmV0" not in what + fix


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("https://bmc", True),
        ("http://[::1]:8000/redfish/v1", True),
        ("https://bmc:0", False),
        ("https://bmc:99999", False),
        ("https://root:calvin@bmc", False),
        ("https://", False),
        ("ftp://bmc", False),
        ("bmc", False),
        ("https://bmc/?a=b", False),
        ("https://[::1", False),
    ],
)
def test_an_address_is_http_with_a_host_and_without_an_account(url: str, *, expected: bool) -> None:
    """An account in an address ends up in logs."""
    assert is_address(url) is expected


@given(st.text())
def test_any_text_can_be_asked_about(text: str) -> None:
    """No text makes it raise."""
    assert is_address(text) in {True, False}
