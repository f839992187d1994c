"""Whose calls they are by the middleware, and how it is switched on: by vLLM's environment."""

from pathlib import Path
from typing import Any

import pytest
from starlette.applications import Starlette

from inferwatt.engines.vllm_middleware import Middleware, put_before, tenants_of
from tests.engines.asgi import APPLICATION, CHAT, Message, ask
from tests.engines.ends import Agent
from tests.engines.producer import ended


@pytest.mark.parametrize(
    ("path", "raw", "served"),
    [
        ("/t/acme/v1/chat/completions", b"/t/acme/v1/chat/completions", CHAT),
        ("/t/a b/v1/chat/completions", b"/t/a%20b/v1/chat/completions", CHAT),
        ("/t/acme/metrics", b"/t/acme/metrics", None),  # a tenant has no other paths
        ("/t/acme", b"/t/acme", None),
    ],
)
def test_a_tenants_path_is_served_as_vllms_own(path: str, raw: bytes, served: str | None) -> None:
    """With an agent or without; the tenant is cut off, with its escapes."""
    seen: list[Message] = []

    async def app(scope: Message, *_: Any) -> None:
        seen.append(scope)

    ask(Middleware(app), path=path, raw=raw)

    assert seen[0]["path"] == (served or path)
    assert seen[0]["raw_path"] == (served.encode() if served else raw)


CALLER = {"authorization": "Bearer sk-1", "x-inferwatt-tenant": "by-header"}


def test_tenants_are_told_by_keys_and_by_those_who_are_believed(
    agent: Agent, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A header and a path count from the peers that were named only."""
    (tmp_path / "keys").write_text('acme = "sk-1"')
    monkeypatch.setenv("INFERWATT_TENANT_KEYS_FILE", str(tmp_path / "keys"))
    told = []
    for peers in ("", "10.0.0.0/8, ::1"):
        monkeypatch.setenv("INFERWATT_TENANT_PEERS", peers)
        wrapped = Middleware(APPLICATION)
        for path in (CHAT, f"/t/by-path{CHAT}"):
            ask(wrapped, path=path, headers=CALLER)
            told.append(ended(agent).tenant)
        assert wrapped._desk is not None
        wrapped._desk.close(1.0)

    assert told == ["acme", "acme", "by-header", "by-path"]


@pytest.mark.parametrize(
    ("environment", "problem"),
    [
        ({"INFERWATT_TENANT_PEERS": "nobody"}, "nobody"),
        ({"INFERWATT_TENANT_KEYS_FILE": "/nonexistent"}, "nonexistent"),
        ({"INFERWATT_TENANT_SECRET_FILE": "/nonexistent"}, "nonexistent"),
    ],
)
def test_settings_that_are_wrong_are_said_and_harm_nobody(
    environment: dict[str, str], problem: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """VLLM starts, its log says what to do, and nobody is believed."""
    with pytest.raises((OSError, ValueError), match=problem):
        tenants_of(environment)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)

    assert ask(Middleware(APPLICATION)).status == 200
    assert problem in capsys.readouterr().err


def test_from_the_environment_it_is_there_once() -> None:
    """VLLM's application has it outermost, another one not, and one that names it by its command line not twice."""

    class Application(Starlette):
        """An application of which the class is changed."""

    for _ in range(2):
        put_before(Application)
    other, own, named = (Application() for _ in range(3))
    own.state.args = named.state.args = object()
    named.add_middleware(Middleware)

    assert not isinstance(other.build_middleware_stack(), Middleware)
    outermost = own.build_middleware_stack()
    assert isinstance(outermost, Middleware)
    assert not isinstance(outermost._app, Middleware)
    assert not isinstance(named.build_middleware_stack(), Middleware)
