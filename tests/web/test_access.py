from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inferwatt.errors import ConfigError
from inferwatt.web.access import Access, WebConfig, open_access, split_listen

from .running import TOKEN


def token_file(tmp_path: Path, text: str = TOKEN, mode: int = 0o600) -> str:
    """Write a token and return where it lies."""
    file = tmp_path / "token"
    file.write_text(text)
    file.chmod(mode)
    return str(file)


@pytest.mark.parametrize("listen", ["0.0.0.0:9595", "[::]:9595", "10.0.0.1:9595", "example.com:9595"])
def test_listening_beyond_this_machine_needs_a_token(tmp_path: Path, listen: str) -> None:
    """An agent that anyone can reach and read does not start."""
    with pytest.raises(ConfigError, match=r"others can reach.*\n.*\n.*openssl rand"):
        open_access(WebConfig(listen=listen))

    assert open_access(WebConfig(listen=listen, token_file=token_file(tmp_path))).is_token(TOKEN)


@pytest.mark.parametrize(
    ("listen", "address"),
    [("127.0.0.1:9595", ("127.0.0.1", 9595)), ("[::1]:0", ("::1", 0)), ("localhost:80", ("localhost", 80))],
)
def test_listen_is_host_and_port(listen: str, address: tuple[str, int]) -> None:
    """Addresses of both families and names are taken, and need no token on loopback."""
    assert address == split_listen(listen)
    assert open_access(WebConfig(listen=listen)).token == ""


@pytest.mark.parametrize("listen", ["", "9595", ":9595", "::1:9595", "127.0.0.1", "a:b", "a:-1", "a:65536", "a:٣"])
def test_what_is_no_address_is_refused(listen: str) -> None:
    """A listen address that could be misread stops the start."""
    with pytest.raises(ConfigError, match="must be host:port"):
        split_listen(listen)


@pytest.mark.parametrize(
    ("text", "mode", "what"),
    [
        ("short", 0o600, "at least 16"),
        ("two words " * 3, 0o600, "one word"),
        (TOKEN, 0o644, "every user"),
        ("", 0o600, "at least 16"),
    ],
)
def test_a_weak_or_open_token_is_refused(tmp_path: Path, text: str, mode: int, what: str) -> None:
    """A token that can be guessed or read by every user protects nothing."""
    with pytest.raises(ConfigError, match=what) as caught:
        open_access(WebConfig(token_file=token_file(tmp_path, text, mode)))

    assert not text or text not in str(caught.value)


def test_a_missing_token_file_is_named(tmp_path: Path) -> None:
    """The start stops with the path and the command that makes one."""
    with pytest.raises(ConfigError, match="cannot read the token"):
        open_access(WebConfig(token_file=str(tmp_path / "absent")))


def test_the_token_is_in_no_representation() -> None:
    """Logs and tracebacks do not show it."""
    assert TOKEN not in repr(Access(token=TOKEN)) + Access(token=TOKEN).cookie


@pytest.mark.parametrize(
    ("headers", "held"),
    [
        ({"authorization": f"Bearer {TOKEN}"}, True),
        ({"authorization": f"bearer  {TOKEN} "}, True),
        ({"authorization": f"Basic {TOKEN}"}, False),
        ({"authorization": "Bearer "}, False),
        ({"authorization": "Bearer \u00e9"}, False),
        ({"cookie": f"a=b; inferwatt={Access(token=TOKEN).cookie}"}, True),
        ({"cookie": f"inferwatt={TOKEN}"}, False),
        ({"cookie": "inferwatt=;;;="}, False),
        ({}, False),
    ],
)
def test_a_token_is_held_as_bearer_or_cookie(headers: dict[str, str], held: bool) -> None:
    """Only the whole token counts, and the cookie is not the token."""
    assert held is Access(token=TOKEN).holds_token(headers)


@given(st.text(), st.text())
def test_without_a_token_nothing_holds_it(authorization: str, cookie: str) -> None:
    """An empty token is no token: no header opens anything."""
    assert not Access().holds_token({"authorization": authorization, "cookie": cookie})
    assert not Access().holds_token({"authorization": "Bearer", "cookie": f"inferwatt={Access().cookie}"})


@pytest.mark.parametrize(
    ("header", "allowed"),
    [
        ("127.0.0.1:9595", True),
        ("localhost", True),
        ("LOCALHOST.:1", True),
        ("[::1]:9595", True),
        ("meter.lan:9595", True),
        ("10.1.2.3:9595", True),
        ("127.0.0.2", False),
        ("evil.example", False),
        ("localhost.evil.example", False),
        ("localhost:80@evil.example", False),
        ("localhost/x", False),
        ("[::1", False),
        ("", False),
        (":9595", False),
    ],
)
def test_only_known_names_and_the_own_address_are_answered(header: str, allowed: bool) -> None:
    """A name that a hostile page has bound to this machine is not one of ours."""
    access = open_access(WebConfig(allowed_hosts=("Meter.lan",)))

    assert allowed is access.is_host(header, "10.1.2.3")
