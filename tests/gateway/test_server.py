"""What the gateway refuses to begin with, TLS, and web pages that call what listens on loopback."""

import http.client
import json
import ssl
import subprocess
from pathlib import Path
from typing import Any

import msgspec
import pytest

from inferwatt.errors import InferwattError, Unavailable
from inferwatt.gateway.server import Serving, is_sound
from inferwatt.gateway.settings import GatewayConfig, GatewayTenants, LimitsConfig, UpstreamConfig
from tests.gateway.processes import CHAT, Gateway, StandIn
from tests.real.children import Command
from tests.real.conftest import free_port, missing

UPSTREAM = UpstreamConfig("u", "http://127.0.0.1:1")


def refused(**more: Any) -> str:
    """Return why a gateway of this configuration does not begin."""
    with pytest.raises(InferwattError) as told:
        Serving(GatewayConfig(**{"upstream": (UPSTREAM,), "listen": "127.0.0.1:0", **more}))
    return str(told.value)


@pytest.fixture
def keys(tmp_path: Path) -> GatewayTenants:
    """Return a section with a file of keys."""
    (tmp_path / "keys.toml").write_text('acme = "sk-1"\n')
    return GatewayTenants(keys_file=str(tmp_path / "keys.toml"))


@pytest.mark.parametrize("listen", ["0.0.0.0:0", "192.0.2.1:0", "[::]:0"])
def test_what_others_can_reach_needs_keys_and_tls(listen: str, keys: GatewayTenants) -> None:
    """Without either it does not begin, and says what to set."""
    open_to_all = GatewayTenants(keys.keys_file, keys_only=False)

    assert "nobody needs a key" in refused(listen=listen)
    assert "nobody needs a key" in refused(listen=listen, tenants=open_to_all)
    assert "keys would be sent in the clear" in refused(listen=listen, tenants=keys)


def test_behind_a_proxy_with_tls_it_may_listen(keys: GatewayTenants) -> None:
    """Whoever says so has TLS elsewhere."""
    serving = Serving(GatewayConfig("0.0.0.0:0", (UPSTREAM,), tenants=keys, plaintext=True))

    serving.listener.close()
    assert serving.url.startswith("http://0.0.0.0:")


def test_what_is_wrong_is_said_with_its_key(tmp_path: Path, keys: GatewayTenants) -> None:
    """Each error names what, where and what to do; a key is in none of them."""
    (tmp_path / "empty").write_text("")
    (tmp_path / "bad.toml").write_text('a b = "sk-canary"')
    (tmp_path / "number.toml").write_text("acme = 1")
    (tmp_path / "name.toml").write_text('"__other__" = "sk-canary"')
    (tmp_path / "pem").write_text("no certificate")
    absent = str(tmp_path / "absent")
    told = [
        refused(upstream=()),
        refused(upstream=(UPSTREAM, UPSTREAM)),
        refused(upstream=(UpstreamConfig("u", "http://a", key_file=absent),)),
        refused(upstream=(UpstreamConfig("u", "http://a", key_file=str(tmp_path / "empty")),)),
        refused(listen="nowhere"),
        refused(listen="127.0.0.1:99999"),
        refused(tls_certificate_file=str(tmp_path / "pem")),
        *(
            refused(tenants=GatewayTenants(str(tmp_path / f"{name}.toml")))
            for name in ("absent", "bad", "number", "name")
        ),
        refused(tenants=GatewayTenants(keys.keys_file, peers=("nobody",))),
    ]

    assert all("\n  where: " in one and "\n  fix:   " in one for one in told)
    assert not [one for one in told if "canary" in one]


@pytest.mark.parametrize(
    "url", ["", "127.0.0.1:80", "ftp://a", "http://a b", "http://u:p@a", "http://a/?q=1", "http://"]
)
def test_an_address_that_is_none_is_refused(url: str) -> None:
    """Nor may it hold a password, which would stand in logs."""
    with pytest.raises(ValueError, match="url is not"):
        UpstreamConfig("u", url)


@pytest.mark.parametrize("name", LimitsConfig.__struct_fields__)
def test_a_limit_is_above_nothing(name: str) -> None:
    """Retries may be none."""
    for value in (-1, 0):
        if name == "retries" and value == 0:
            continue
        with pytest.raises(msgspec.ValidationError, match=name):
            msgspec.convert({name: value}, LimitsConfig)


def test_a_port_that_is_taken_is_said(server_port: int) -> None:
    """And what would help."""
    with pytest.raises(Unavailable, match="Address already in use"):
        Serving(GatewayConfig(f"127.0.0.1:{server_port}", (UPSTREAM,)))


@pytest.fixture
def server_port(server: StandIn) -> int:
    """Return a port that somebody listens on."""
    return server.port


def test_the_command_says_what_is_wrong(tmp_path: Path) -> None:
    """Exit status 2, three lines, no traceback."""
    with Command(tmp_path, "gateway", "--listen", f"127.0.0.1:{free_port()}") as command:
        assert command.wait() == 2

    assert command.err.read_text() == (
        "inferwatt: the gateway has nothing to stand before\n  where: gateway.upstream\n"
        "  fix:   inferwatt gateway --upstream http://127.0.0.1:8080\n"
    )


def test_without_the_extra_it_says_what_to_install(tmp_path: Path) -> None:
    """The base package has no client for servers."""
    program = "import sys; sys.modules['aiohttp'] = None; from inferwatt.cli import main; main()"
    with Command(tmp_path, "gateway", "--upstream", "http://127.0.0.1:1", program=("-c", program)) as command:
        assert command.wait() == 2

    assert "the gateway needs the package aiohttp" in command.err.read_text()
    assert "pip install 'inferwatt[gateway]'" in command.err.read_text()


def test_it_may_open_a_file_for_each_connection(folder: Path, server: StandIn) -> None:
    """A limit that shells set low is raised as far as the process may."""
    low = "from resource import *; setrlimit(RLIMIT_NOFILE, (64, getrlimit(RLIMIT_NOFILE)[1]));"
    with Gateway(
        folder / "files", [server.url], program=("-c", f"{low} from inferwatt.cli import main; main()")
    ) as gateway:
        limits = Path(f"/proc/{gateway.process.pid}/limits").read_text()

    soft, hard = next(line.split()[3:5] for line in limits.splitlines() if line.startswith("Max open files"))
    assert int(soft) == min(int(hard), 20_256)


def test_a_call_over_tls(folder: Path, server: StandIn, tmp_path: Path) -> None:
    """The certificate is the configured one, and a client that knows it is answered."""
    certificate, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    _make_certificate(certificate, key)
    more = f'tls_certificate_file = "{certificate}"\ntls_key_file = "{key}"'
    context = ssl.create_default_context(cafile=str(certificate))
    with Gateway(folder / "tls", [server.url], more) as gateway:
        connection = http.client.HTTPSConnection("localhost", gateway.port, timeout=10, context=context)
        connection.request("POST", CHAT, json.dumps({"model": "m"}))
        answer = connection.getresponse()

        assert answer.status == 200
        assert json.loads(answer.read())["usage"]["completion_tokens"] == 5
        connection.close()


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"host": "localhost:1"}, 200),
        ({"host": "[::1]"}, 200),
        ({"host": "gateway.internal"}, 200),
        ({"host": "evil.example"}, 421),
        ({"host": "evil.example:9596"}, 421),
        ({"host": "127.0.0.1.evil.example"}, 421),
        ({"sec-fetch-site": "cross-site"}, 403),
        ({"sec-fetch-site": "same-site"}, 403),
        ({"sec-fetch-site": "same-origin"}, 200),
        ({"sec-fetch-site": "none"}, 200),
    ],
)
def test_web_pages_of_others_are_not_answered(headers: dict[str, str], status: int, open_gateway: Gateway) -> None:
    """Neither by a name that was made to lead here, nor by a form: nobody needs a key on loopback."""
    assert open_gateway.ask({"model": "m"}, headers=headers).status == status


@pytest.fixture(scope="module")
def open_gateway(folder: Path, server: StandIn) -> Any:
    """Return a gateway without keys, which goes by one name more."""
    with Gateway(folder / "hosts", [server.url], 'allowed_hosts = ["gateway.internal"]') as running:
        yield running


@pytest.mark.parametrize(
    ("host", "is_right"),
    [
        (b"a", True),
        (b"a.b:80", True),
        (b"[::1]:80", True),
        (b"", False),
        (b"a b", False),
        (b"a/b", False),
        (b"a@b", False),
        (b"a:b", False),
        (b"a:123456", False),
    ],
)
def test_a_host_is_a_name_and_a_port(host: bytes, is_right: bool) -> None:
    """Nothing else, so that no path and no name hides in it."""
    assert is_sound([(b"host", host)]) is is_right


def _make_certificate(certificate: Path, key: Path) -> None:
    arguments = "req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost -addext subjectAltName=DNS:localhost"
    try:
        subprocess.run(
            ["openssl", *arguments.split(), "-keyout", str(key), "-out", str(certificate)],
            check=True,
            capture_output=True,
        )
    except FileNotFoundError:
        missing("openssl is not installed")
