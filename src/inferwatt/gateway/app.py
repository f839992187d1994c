"""The gateway as an ASGI application: what is let in, whose it is, who is asked, and what stays closed.

No body is logged or kept. What is no call of a model (`/v1/models`, health) makes no record, and costs nothing.
"""

import itertools
import os
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import aiohttp

from inferwatt.answering.tenant import Tenants, key_of, split_path
from inferwatt.gateway import asking, headers, paths
from inferwatt.gateway.answer import Left, Receive, Refused, Send, body_of, refuse, say
from inferwatt.gateway.asking import Asked
from inferwatt.gateway.call import Call, Terms
from inferwatt.gateway.ending import Ending, refusal
from inferwatt.gateway.known import Recent
from inferwatt.gateway.lately import Desk
from inferwatt.gateway.models import models
from inferwatt.gateway.settings import GatewayConfig
from inferwatt.gateway.trying import Question, ask
from inferwatt.gateway.upstreams import Upstream, Upstreams
from inferwatt.handle import RequestHandle

if TYPE_CHECKING:
    from inferwatt.clients.carbon import Intensity

Scope = Mapping[str, Any]
LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})
PORT = re.compile(r":[0-9]+\Z")


@dataclass(frozen=True, slots=True)
class Visit:
    """One HTTP call that was let in: its headers by name, whose it is, and its path without the tenant."""

    scope: Scope
    told: Mapping[str, str]
    tenant: str
    path: str
    receive: Receive
    send: Send


class Gateway:
    """Answers one HTTP call after the other.

    Args:
        config: the section `[gateway]`.
        upstreams: who is asked.
        tenants: whose calls they are.
        desk: who tells the agent, and hears joules.
        carbon: what the electricity of managed APIs emits.
    """

    def __init__(
        self,
        config: GatewayConfig,
        upstreams: Upstreams,
        tenants: Tenants,
        desk: Desk,
        carbon: "Intensity | None" = None,
    ) -> None:
        self.counts: Counter[str] = Counter()
        self._config, self._upstreams, self._tenants = config, upstreams, tenants
        self._desk = desk
        self._allowed = frozenset(config.paths)
        self._names = itertools.count(1)
        self._recent = Recent()
        self._terms = Terms(config.embed, config.agent_url, desk, carbon)
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
            await say(send, 200, {"status": "ok", "counts": {**self._desk.counts, **self.counts}})
            return
        self._check_page(told)
        visit = Visit(scope, told, self._tenant(told, named, peer), path, receive, send)
        if scope["method"] == "GET" and paths.MODELS.fullmatch(path):
            await models(self._client(), self._upstreams, self._question(visit), send)
        elif scope["method"] == "GET" and (found := paths.RECORDS.fullmatch(path)):
            await self._record(found[1], visit)
        elif scope["method"] == "POST" and (kind := paths.call_of(path, self._allowed)):
            await self._call(visit, kind)
        else:
            raise Refused(404, f"{scope['method']} on this path is not passed on", "See gateway.paths.")

    # Whose it is.

    @property
    def _needs_key(self) -> bool:
        return bool(self._tenants.names) and self._config.tenants.keys_only

    def _check_page(self, told: Mapping[str, str]) -> None:
        """Refuse what a web page asks of a gateway that needs no key: by another site's page, or by a name made up."""
        if self._needs_key:
            return
        host = PORT.sub("", told.get("host", "")).strip("[]").lower()
        if host not in LOOPBACK and host not in self._config.allowed_hosts:
            raise Refused(421, "this gateway does not go by that host name", "Add it to gateway.allowed_hosts.")
        if told.get("sec-fetch-site", "none") not in {"none", "same-origin"}:
            raise Refused(403, "another web page asked for this", "Set gateway.tenants.keys_file, and use a key.")

    def _tenant(self, told: Mapping[str, str], named: str | None, peer: str) -> str:
        trusted = self._tenants.trusts(peer)
        if named is not None and not trusted:
            raise Refused(403, "this peer may not say whose a call is", "Name it in gateway.tenants.peers.")
        tenants = self._tenants
        if self._needs_key and not trusted:
            name = tenants.known(key_of(told))
            if not name:
                raise Refused(401, "this needs a key", "Authorization: Bearer KEY.", closes=True)
            return name
        return tenants.of(told, peer, named)

    async def _record(self, name: str, visit: Visit) -> None:
        known = self._recent.find(name, visit.tenant, self._config.agent_url)
        if known is None:
            raise Refused(404, "no call of yours has this id", "The agent's ledger keeps the older ones.")
        await say(visit.send, 200, known)

    # Calls of models.

    async def _call(self, visit: Visit, kind: paths.Call) -> None:
        limits = self._config.limits
        asked = _read(await body_of(visit.scope, visit.receive, limits.body_bytes, limits.body_seconds), kind)
        serving = self._upstreams.of(asked.model)
        if not serving:
            raise Refused(404, "no upstream serves this model", "See gateway.upstream.models.")
        name, tags = headers.request_id(visit.told) or os.urandom(16).hex(), headers.tags(visit.told)

        def opened(upstream: Upstream) -> RequestHandle:
            handle = self._opened(upstream, name, asked.model, tags, visit.tenant)
            handle.traceparent = visit.told.get("traceparent", "")
            return handle.start()

        await self._pass(Call(name, asked, opened, self._terms), serving, visit)

    def _question(self, visit: Visit) -> Question:
        hides_key = bool(self._tenants.names) and bool(key_of(visit.told))
        query = visit.scope["query_string"].decode("latin-1")
        return Question(visit.path, query, visit.scope["headers"], hides_key, self._tenants.header)

    def _opened(self, upstream: Upstream, name: str, model: str, tags: Mapping[str, str], tenant: str) -> RequestHandle:
        number = str(next(self._names))
        handle = RequestHandle(self._desk, number, model, tenant, upstream.engine, tags, upstream.config.provider)
        handle.trace_id = name
        self._recent.add(name, tenant, handle)
        return handle

    async def _pass(self, call: Call, serving: list[Upstream], visit: Visit) -> None:
        limits = self._config.limits
        problem: Refused | None = None
        ending = Ending(visit.scope, limits.call_seconds)
        try:
            with ending:
                response = await ask(self._client(), serving, call, self._question(visit), limits)
                async with response:
                    await call.answer(response, visit.send)
        except (aiohttp.ClientError, TimeoutError, OSError) as exc:
            self.counts["upstream_failed"] += 1
            problem = refusal(exc)
        finally:
            call.has_left = ending.has_left
            call.end()
        if (made := call.estimate()) is not None:
            self._recent.add(call.name, visit.tenant, made)
        self.counts["aborted"] += ending.has_left
        self.counts["unread_events"] += call.unread_events
        if ending.is_late:
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


def _read(body: bytes, call: paths.Call) -> Asked:
    try:
        return asking.read(body, call)
    except asking.Unreadable:
        raise Refused(400, "the body is no JSON object", "Send one, not compressed.") from None
