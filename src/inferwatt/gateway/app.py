"""The gateway as an ASGI application: what is let in, whose it is, who is asked, and what stays closed.

No body is logged or kept. What is no call of a model (`/v1/models`, health) makes no record, and costs nothing.
"""

import itertools
import os
from collections import Counter
from collections.abc import Mapping
from typing import Any

import aiohttp

from inferwatt.answering.tenant import Tenants, key_of, split_path
from inferwatt.gateway import asking, headers, paths
from inferwatt.gateway.answer import Left, Receive, Refused, Send, body_of, refuse, say
from inferwatt.gateway.asking import Asked
from inferwatt.gateway.call import Call, Given, Watch, refusal
from inferwatt.gateway.known import Recent
from inferwatt.gateway.models import models
from inferwatt.gateway.settings import GatewayConfig
from inferwatt.gateway.trying import ask
from inferwatt.gateway.upstreams import Upstream, Upstreams
from inferwatt.handle import RequestHandle, Sink

Scope = Mapping[str, Any]


class Gateway:
    """Answers one HTTP call after the other.

    Args:
        config: the section `[gateway]`.
        upstreams: who is asked.
        tenants: whose calls they are.
        desk: who tells the agent, and hears joules.
        nobody: takes what must not be told to the agent: calls of managed APIs, which no device here serves.
    """

    def __init__(self, config: GatewayConfig, upstreams: Upstreams, tenants: Tenants, desk: Sink, nobody: Sink) -> None:
        self.counts: Counter[str] = Counter()
        self._config, self._upstreams, self._tenants = config, upstreams, tenants
        self._desk, self._nobody = desk, nobody
        self._allowed = frozenset(config.paths)
        self._names = itertools.count(1)
        self._recent = Recent()
        self._session: aiohttp.ClientSession | None = None

    async def close(self) -> None:
        """Close the connections to the servers."""
        if self._session is not None:
            await self._session.close()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one call."""
        if scope["type"] != "http":
            raise RuntimeError(f"{scope['type']} is not served here")
        try:
            await self._answer(scope, receive, send)
        except Refused as refused:
            self.counts["refused"] += 1
            await refuse(send, refused)
        except Left:
            self.counts["left_early"] += 1

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        told = headers.read(scope["headers"])
        named, path = split_path(scope["raw_path"].decode("latin-1"))
        peer = (scope.get("client") or ("",))[0]
        if path in paths.HEALTH and scope["method"] in {"GET", "HEAD"}:
            await say(send, 200, {"status": "ok"})
            return
        tenant = self._tenant(told, named, peer)
        if scope["method"] == "GET" and paths.MODELS.fullmatch(path):
            await models(self._client(), self._upstreams, path, told, send, hides_key=self._knows(told))
        elif scope["method"] == "GET" and (found := paths.RECORDS.fullmatch(path)):
            await self._record(found[1], tenant, send)
        elif scope["method"] == "POST" and (call := paths.call_of(path, self._allowed)):
            await self._call(scope, told, tenant, call, path, receive, send)
        else:
            raise Refused(404, f"{scope['method']} on this path is not passed on", "See gateway.paths.")

    # Whose it is.

    def _knows(self, told: Mapping[str, str]) -> bool:
        """Whether a client's key is one of ours."""
        return bool(self._tenants.names) and bool(key_of(told))

    def _tenant(self, told: Mapping[str, str], named: str | None, peer: str) -> str:
        trusted = self._tenants.trusts(peer)
        if named is not None and not trusted:
            raise Refused(403, "this peer may not say whose a call is", "Name it in gateway.tenants.peers.")
        tenants = self._tenants
        if tenants.names and self._config.tenants.keys_only and not trusted:
            name = tenants.known(key_of(told))
            if not name:
                raise Refused(401, "this needs a key", "Authorization: Bearer KEY.", closes=True)
            return name
        return tenants.of(told, peer, named)

    async def _record(self, name: str, tenant: str, send: Send) -> None:
        known = self._recent.find(name, tenant, self._config.agent_url)
        if known is None:
            raise Refused(404, "no call of yours has this id", "The agent's ledger keeps the older ones.")
        await say(send, 200, known)

    # Calls of models.

    async def _call(
        self,
        scope: Scope,
        told: Mapping[str, str],
        tenant: str,
        call: paths.Call,
        path: str,
        receive: Receive,
        send: Send,
    ) -> None:
        body = await body_of(scope, receive, self._config.limits.body_bytes)
        asked = self._read(body, call)
        serving = self._upstreams.of(asked.model)
        if not serving:
            raise Refused(404, "no upstream serves this model", "See gateway.upstream.models.")
        if serving[0].config.ask_usage:
            asked = asking.with_usage(asked, call)
        name = headers.request_id(told) or os.urandom(16).hex()
        handle = self._handle(serving[0], asked, tenant, told, name)
        given = Given(name, handle, serving[0], self._config.embed, self._config.agent_url)
        query = scope["query_string"].decode("latin-1")
        await self._pass(Call(given, asked), given, serving, scope, asked, (path, query), receive, send)

    def _read(self, body: bytes, call: paths.Call) -> Asked:
        try:
            return asking.read(body, call)
        except asking.Unreadable:
            raise Refused(400, "the body is no JSON object", "Send one.") from None

    def _handle(
        self, upstream: Upstream, asked: Asked, tenant: str, told: Mapping[str, str], name: str
    ) -> RequestHandle:
        sink = self._nobody if upstream.config.is_managed else self._desk
        server = upstream.config.server
        handle = RequestHandle(sink, str(next(self._names)), asked.model, tenant, server, headers.tags(told))
        handle.trace_id = name
        self._recent.add(name, tenant, handle)
        return handle.start()

    async def _pass(
        self,
        call: Call,
        given: Given,
        serving: list[Upstream],
        scope: Scope,
        asked: Asked,
        where: tuple[str, str],
        receive: Receive,
        send: Send,
    ) -> None:
        limits = self._config.limits
        hides_key = self._knows(headers.read(scope["headers"]))
        problem: Refused | None = None
        watch = Watch(receive, limits.call_seconds)
        try:
            async with watch:
                response = await ask(self._client(), serving, scope, asked.body, where, given, limits, hides_key)
                async with response:
                    await call.answer(response, send)
        except (aiohttp.ClientError, TimeoutError, OSError) as exc:
            self.counts["upstream_failed"] += 1
            problem = refusal(exc, given.upstream.config.name)
        finally:
            call.has_left = watch.has_left
            call.end()
        self.counts["aborted"] += watch.has_left
        if watch.is_late:
            problem = Refused(504, f"the call took longer than {limits.call_seconds} s", "See gateway.limits.")
        if problem is not None and not call.began:
            raise problem

    def _client(self) -> aiohttp.ClientSession:
        """Return the client, made on the loop on which it is used."""
        if self._session is None:
            limits = self._config.limits
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=limits.connections, keepalive_timeout=30, ttl_dns_cache=60),
                timeout=aiohttp.ClientTimeout(
                    total=None, sock_connect=limits.connect_seconds, sock_read=limits.silent_seconds
                ),
                cookie_jar=aiohttp.DummyCookieJar(),
                auto_decompress=False,
                skip_auto_headers=("User-Agent", "Accept", "Accept-Encoding", "Content-Type"),
            )
        return self._session


class Nobody:
    """Takes what is told of calls that no device of ours serves, and tells no joules."""

    producer = "0" * 32

    def changed(self, handle: RequestHandle) -> None:
        """It goes on."""

    def ended(self, handle: RequestHandle) -> None:
        """It has ended."""

    def note(self, problem: str) -> None:
        """Nobody asks."""

    def energy(self, handle: RequestHandle, wait_seconds: float | None) -> None:
        """Nothing is known here."""

    def may_come(self, handle: RequestHandle) -> bool:
        """Nothing comes."""
        return False
