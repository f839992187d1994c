"""Whose a call is, and who may read what it took."""

import asyncio
import json
import random
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from inferwatt.records import UNKNOWN_TENANT, Outcome
from tests.gateway.conftest import Desk
from tests.gateway.processes import CHAT, Gateway, StandIn

KEYS = {"acme": "sk-acme-canary-1", "globex": "sk-globex-canary-2"}
SERVER_KEY = "sk-server-canary-3"
STREAMS = 500


@pytest.fixture(scope="module")
def keyed(folder: Path, server: StandIn, desk: Desk) -> Iterator[Gateway]:
    """Return a gateway that asks for keys, before a server with a key of its own."""
    home = folder / "keyed"
    home.mkdir()
    (home / "keys.toml").write_text("".join(f'{name} = "{key}"\n' for name, key in KEYS.items()))
    (home / "server.key").write_text(f"{SERVER_KEY}\n")
    more = f'[gateway.tenants]\nkeys_file = "{home}/keys.toml"'
    table = f'name = "u"\nurl = "{server.url}/v1/"\nkey_file = "{home}/server.key"\n'
    with Gateway(home, [table], more, str(folder / "agent.sock")) as running:
        yield running


def bearer(key: str) -> dict[str, str]:
    """Return a key as OpenAI's clients send it."""
    return {"authorization": f"Bearer {key}"}


@pytest.mark.parametrize("header", ["authorization", "x-api-key", "api-key"])
def test_a_tenant_is_known_by_its_key(header: str, keyed: Gateway, server: StandIn, desk: Desk) -> None:
    """In each protocol's header; the server gets its own key in the same one, and never the client's."""
    key = KEYS["acme"]

    answer = keyed.ask({"model": "m"}, headers={header: f"Bearer {key}" if header == "authorization" else key})
    seen = {
        name: value for name, value in server.seen()["headers"] if name in {"authorization", "x-api-key", "api-key"}
    }

    assert answer.status == 200
    assert seen == {header: f"Bearer {SERVER_KEY}" if header == "authorization" else SERVER_KEY}
    assert desk.ended(answer.name).tenant == "acme"


@pytest.mark.parametrize("headers", [{}, bearer("sk-other"), bearer(""), {"authorization": f"Basic {KEYS['acme']}"}])
@pytest.mark.parametrize("path", [CHAT, "/t/acme/v1/chat/completions"])
def test_without_a_key_nothing_is_passed_on(
    headers: dict[str, str], path: str, keyed: Gateway, server: StandIn
) -> None:
    """401 or 403, whatever header or path says: neither is believed of who calls from here."""
    before = server.seen()["calls"]

    answer = keyed.ask({"model": "m"}, path, headers={**headers, "x-inferwatt-tenant": "acme"})

    assert answer.status == (401 if path == CHAT else 403)
    assert server.seen()["calls"] == before


def test_a_key_stands_over_what_its_holder_calls_himself(keyed: Gateway, desk: Desk) -> None:
    """The header of somebody who is not trusted is not believed, and not passed on."""
    answer = keyed.ask({"model": "m"}, headers={**bearer(KEYS["acme"]), "x-inferwatt-tenant": "globex"})

    assert desk.ended(answer.name).tenant == "acme"


def test_a_tenant_reads_its_own_calls_only(keyed: Gateway, desk: Desk) -> None:
    """Another's id is no id, even where both have chosen the same."""
    mine = {**bearer(KEYS["acme"]), "x-request-id": "same"}
    other = {**bearer(KEYS["globex"]), "x-request-id": "same"}
    answer = keyed.ask({"model": "m"}, headers=mine)
    path = f"/v1/requests/{answer.name}"

    assert keyed.ask(b"", path, "GET", mine).json()["id"] == "same"
    assert keyed.ask(b"", path, "GET", other).status == 404
    assert keyed.ask(b"", path, "GET").status == 401
    assert keyed.ask({"model": "m"}, headers=other).name == "same"
    assert {one.tenant for one in desk.ended_all(2, "same")} == {"acme", "globex"}


def test_no_key_is_said_or_written(keyed: Gateway, folder: Path, desk: Desk) -> None:
    """Neither in an answer, nor in a record, nor in what the process prints, nor in its file."""
    answers = [
        keyed.ask(body, headers=bearer(KEYS["acme"])) for body in (b"{", {"model": "m"}, {"model": "m", "say": 1})
    ]
    record = desk.ended(answers[1].name)

    told = repr(answers) + repr(record) + keyed.out.read_text() + keyed.err.read_text()

    assert "canary" not in told


@pytest.mark.parametrize(
    ("path", "headers", "tenant"),
    [
        (CHAT, {"x-inferwatt-tenant": "blue"}, "blue"),
        ("/t/red/v1/chat/completions", {}, "red"),
        ("/t/red/v1/chat/completions", {"x-inferwatt-tenant": "blue"}, "red"),
        (CHAT, {"x-inferwatt-tenant": "__other__"}, UNKNOWN_TENANT),
        (CHAT, {"x-inferwatt-tenant": "a b"}, UNKNOWN_TENANT),
        (CHAT, {}, UNKNOWN_TENANT),
    ],
)
def test_a_trusted_peer_names_the_tenant(
    path: str, headers: dict[str, str], tenant: str, gateway: Gateway, server: StandIn, desk: Desk
) -> None:
    """By header or path; the server sees neither."""
    answer = gateway.ask({"model": "m"}, path, headers=headers)
    seen = server.seen()

    assert desk.ended(answer.name).tenant == tenant
    assert seen["path"] == CHAT
    assert not [name for name, _ in seen["headers"] if name.startswith("x-inferwatt")]


def test_five_hundred_streams_at_once_are_counted_exactly(gateway: Gateway, desk: Desk) -> None:
    """Two tenants' tokens and calls are, to the last, those that their clients asked for."""
    draw = random.Random(7)
    asked = [("even" if draw.random() < 0.4 else "odd", draw.randrange(1, 60)) for _ in range(STREAMS)]

    bodies = asyncio.run(_all_at_once(gateway, asked))
    records = desk.ended_all(STREAMS)
    expected, found = Counter[str](), Counter[str]()
    for tenant, tokens in asked:
        expected[tenant] += tokens
    for record in records:
        found[record.tenant] += record.output_tokens or 0

    assert found == expected
    assert Counter(record.tenant for record in records) == Counter(tenant for tenant, _ in asked)
    assert {record.outcome for record in records} == {Outcome.FINISHED}
    assert [body.count(b'{"content": "\xc3\xa4') for body in bodies] == [tokens for _, tokens in asked]


async def _all_at_once(gateway: Gateway, asked: list[tuple[str, int]]) -> list[bytes]:
    together = asyncio.Barrier(len(asked))

    async def ask(client: aiohttp.ClientSession, tenant: str, tokens: int) -> bytes:
        body: dict[str, Any] = {"model": "m", "stream": True, "max_tokens": tokens, "pause": 0.01}
        async with client.post(
            gateway.url + CHAT, data=json.dumps(body), headers={"x-inferwatt-tenant": tenant}
        ) as got:
            await together.wait()  # all of them are open
            return await got.read()

    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as client:
        return await asyncio.gather(*(ask(client, *one) for one in asked))
