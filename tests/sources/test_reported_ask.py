"""How a page is asked for: addresses, accounts, certificates."""

import base64
from pathlib import Path

import pytest

from inferwatt.errors import SourceRetry
from inferwatt.sources.reported_ask import Pages
from inferwatt.sources.settings import ReportedConfig
from tests.sources.exporters import NODE, serving

SECRET = "hunter2"


@pytest.fixture
def password(tmp_path: Path) -> str:
    """Return a file with a password that others cannot read."""
    path = tmp_path / "password"
    path.write_text(f"{SECRET}\nnot this\n")
    path.chmod(0o600)
    return str(path)


@pytest.mark.parametrize(
    "url",
    [
        "127.0.0.1:9400",
        "file:///etc/passwd",
        "ftp://host/metrics",
        "http://",
        "http://host:0/metrics",
        "http://user:hunter2@host/metrics",
        "http://user@host/metrics",
        "http://host/metrics#here",
        "",
    ],
)
def test_what_is_no_address_or_has_an_account_in_it_is_refused(url: str) -> None:
    """Only http and https, and a password never stands in an address: neither is it repeated."""
    with pytest.raises(SourceRetry, match="not the address of a page") as trouble:
        Pages(ReportedConfig(url))

    assert SECRET not in str(trouble.value)


def test_without_a_path_it_is_metrics() -> None:
    """http://HOST:PORT is enough; a query goes with the question."""
    with serving(NODE) as exporter:
        host = exporter.url.removesuffix("/metrics")
        for url in (host, f"{host}?collect[]=rapl", f"{host}/other"):
            Pages(ReportedConfig(url, timeout_seconds=10.0)).ask()

    assert [path for path, _ in exporter.asked] == ["/metrics", "/metrics?collect[]=rapl", "/other"]


def test_an_account_or_a_token_is_shown_to_the_exporter(password: str) -> None:
    """With a name it is basic authentication, without one a bearer token; the first line of the file."""
    with serving(NODE) as exporter:
        for username in ("inferwatt", ""):
            Pages(ReportedConfig(exporter.url, username=username, password_file=password, timeout_seconds=10.0)).ask()

    basic = base64.b64encode(f"inferwatt:{SECRET}".encode()).decode()
    assert [header for _, header in exporter.asked] == [f"Basic {basic}", f"Bearer {SECRET}"]


def test_a_new_token_in_the_file_is_the_next_one_shown(password: str) -> None:
    """A cluster renews its tokens: the file is read at each question."""
    with serving(NODE) as exporter:
        pages = Pages(ReportedConfig(exporter.url, password_file=password, timeout_seconds=10.0))
        pages.ask()
        Path(password).write_text("renewed\n")
        pages.ask()
        pages.close()

    assert [header for _, header in exporter.asked] == [f"Bearer {SECRET}", "Bearer renewed"]


def test_a_password_goes_over_no_network_in_the_clear(password: str) -> None:
    """By http to another machine it is refused before anything is sent."""
    with pytest.raises(SourceRetry, match="for everybody to read"):
        Pages(ReportedConfig("http://192.0.2.7:9400/metrics", password_file=password))


def test_a_password_file_that_everybody_can_read_is_refused(password: str) -> None:
    """Its words say what to do, and not what it holds."""
    Path(password).chmod(0o644)
    with serving(NODE) as exporter, pytest.raises(SourceRetry, match="every user can read") as trouble:
        Pages(ReportedConfig(exporter.url, password_file=password)).ask()

    assert exporter.asked == []
    assert SECRET not in str(trouble.value)


def test_a_certificate_that_is_none_is_said_at_the_start(tmp_path: Path) -> None:
    """`ca_file` must be there and be one."""
    (tmp_path / "ca.pem").write_text("no certificate\n")
    for ca_file in (tmp_path / "ca.pem", tmp_path / "missing.pem"):
        with pytest.raises(SourceRetry, match="cannot read the certificate"):
            Pages(ReportedConfig("https://localhost:1/metrics", ca_file=str(ca_file)))
