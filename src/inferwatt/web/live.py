"""The HTTP application: it shows the newest snapshot and the ledger, and changes nothing.

Everything but `/v1/requests` is answered from memory, so that it answers while a device or a disk hangs. Figures
change at most once a second here: faster ones would tell a stranger what the machine computes.
"""

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Protocol

import msgspec
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp

from inferwatt.export.prometheus import negotiate, render
from inferwatt.snapshot import LiveView, Snapshot
from inferwatt.units import nanoseconds
from inferwatt.web.access import Access
from inferwatt.web.assets import Asset, plain_page, read_assets
from inferwatt.web.events import Frames, Reader, encode_view, schema
from inferwatt.web.guard import Guard, Refusal, sees_details
from inferwatt.web.stream import PERIOD_SECONDS, LiveStream, Seats

_log = logging.getLogger(__name__)

MOST_REQUESTS: Final = 1000
USUAL_REQUESTS: Final = 50
JSON: Final = "application/json"
NO_STORE: Final = {"cache-control": "no-store"}
LONGEST_WORD: Final = 512


class FindRequests(Protocol):
    """Reads ended requests from the ledger, newest first; may wait for the disk."""

    def __call__(
        self, *, limit: int, tenant: str | None = None, model: str | None = None, request: str | None = None
    ) -> Sequence[Mapping[str, Any]]:
        """Return at most `limit` requests; `request` is an internal id, a response id or another alias."""
        ...


class Shown:
    """The snapshot that is shown, held for a second, with what was made of it."""

    def __init__(
        self,
        snapshot: Callable[[], Snapshot],
        process: Callable[[], Mapping[str, float]],
        monotonic_ns: Callable[[], int],
        period_seconds: float,
    ) -> None:
        self._snapshot = snapshot
        self._process = process
        self._monotonic_ns = monotonic_ns
        self._period_ns = nanoseconds(period_seconds)
        self._until_ns = monotonic_ns()
        self._held: Snapshot | None = None
        self._made: dict[tuple[str, bool, bool], bytes] = {}
        self.frames = Frames()

    def newest(self) -> Snapshot:
        """Return the snapshot to show now."""
        now_ns = self._monotonic_ns()
        if self._held is None or now_ns >= self._until_ns:
            newest = self._snapshot()
            if newest is not self._held:
                self._held, self._made = newest, {}
                self.frames.show(newest.live)
                self._until_ns = now_ns + self._period_ns
        return self._held

    def page(self, *, openmetrics: bool, details: bool) -> bytes:
        """Return the metrics page, made once for each snapshot and form."""
        snapshot = self.newest()
        return self._keep(
            ("page", openmetrics, details),
            lambda: render(snapshot, openmetrics=openmetrics, details=details, process=self._process()),
        )

    def view(self, *, details: bool) -> bytes:
        """Return the live view as JSON; `restricted` says whether tenants and requests were left out."""
        live = self.newest().live
        return self._keep(("view", False, details), lambda: encode_view(live, details=details))

    def live(self) -> LiveView:
        """Return the live view to show now."""
        return self.newest().live

    def _keep(self, key: tuple[str, bool, bool], make: Callable[[], bytes]) -> bytes:
        made = self._made.get(key)
        if made is None:
            made = self._made[key] = make()
        return made


class Live:
    """The answers, one method for each address."""

    def __init__(
        self,
        shown: Shown,
        find_requests: FindRequests,
        health: Callable[[], Mapping[str, object]],
        assets: Mapping[str, Asset],
        access: Access,
        seats: Seats,
        period_seconds: float,
    ) -> None:
        self.shown = shown
        self.find_requests = find_requests
        self.health = health
        self.assets = assets
        self.access = access
        self.seats = seats
        self.period_seconds = period_seconds

    def details(self, request: Request) -> bool:
        """Say whether this request may see tenants and requests."""
        return sees_details(request.scope, self.access)

    async def index(self, request: Request) -> Response:
        """Give the page."""
        return _file(request, self.assets.get("index.html") or plain_page(self.shown.newest().live.version))

    async def static(self, request: Request) -> Response:
        """Give one of the page's files."""
        asset = self.assets.get(request.path_params["name"])
        return _file(request, asset) if asset else _absent("no such file", "see /")

    async def metrics(self, request: Request) -> Response:
        """Give the metrics page in the form that is asked for."""
        openmetrics, content_type = negotiate(", ".join(request.headers.getlist("accept")))
        body = self.shown.page(openmetrics=openmetrics, details=self.details(request))
        return Response(body, headers={**NO_STORE, "content-type": content_type, "vary": "accept"})

    async def healthz(self, request: Request) -> Response:
        """Say how the meter is; to strangers from elsewhere only that.

        Only a meter that no longer works is answered 503: what watches over it would restart one that merely waits
        for a device, and restarting does not mend a device.
        """
        health = dict(self.health())
        well = health.get("status") != "failed"
        if not self.details(request):
            health = {key: health[key] for key in ("status", "version") if key in health}
        return Response(msgspec.json.encode(health), 200 if well else 503, NO_STORE, JSON)

    async def live(self, request: Request) -> ASGIApp:
        """Push what stands, and each request that ends."""
        details = self.details(request)
        if request.method == "HEAD":
            return Response(headers=NO_STORE, media_type="text/event-stream")
        if not self.seats.take(details):
            return Refusal(503, "too many readers", "try again in a moment, or GET /v1/snapshot", {"retry-after": "5"})
        last_event_id = request.headers.get("last-event-id", "")
        reader = Reader(self.shown.live, self.shown.frames, details, last_event_id)
        return LiveStream(reader, self.seats, details, self.period_seconds)

    async def schema(self, _request: Request) -> Response:
        """Give the schema of the stream's events."""
        return Response(msgspec.json.encode(schema()), media_type="application/schema+json")

    async def snapshot(self, request: Request) -> Response:
        """Give the live view once."""
        return Response(self.shown.view(details=self.details(request)), headers=NO_STORE, media_type=JSON)

    async def requests(self, request: Request) -> Response:
        """Give the last requests, newest first."""
        if not self.details(request):
            return _forbidden()
        limit = request.query_params.get("limit", str(USUAL_REQUESTS))
        if not (limit.isascii() and limit.isdigit() and 1 <= int(limit[:9]) <= MOST_REQUESTS):
            return Refusal(400, "limit is not a number that is allowed", f"limit=1 to limit={MOST_REQUESTS}")
        words = {key: request.query_params.get(key) for key in ("tenant", "model")}
        if any(word and len(word) > LONGEST_WORD for word in words.values()):
            return Refusal(400, "a name is too long", f"at most {LONGEST_WORD} characters")
        found = await run_in_threadpool(
            self.find_requests, limit=int(limit), tenant=words["tenant"], model=words["model"]
        )
        return Response(msgspec.json.encode({"requests": found}), headers=NO_STORE, media_type=JSON)

    async def request(self, request: Request) -> Response:
        """Give one request by any of its ids; a list where the id is that of several."""
        if not self.details(request):
            return _forbidden()
        wanted = request.path_params["id"]
        if len(wanted) > LONGEST_WORD:
            return _absent("no such request", "GET /v1/requests")
        found = await run_in_threadpool(self.find_requests, limit=MOST_REQUESTS, request=wanted)
        if not found:
            return _absent("no such request, or it has not ended", "GET /v1/requests")
        return Response(msgspec.json.encode(found[0] if len(found) == 1 else found), headers=NO_STORE, media_type=JSON)


def make_app(
    snapshot: Callable[[], Snapshot],
    *,
    find_requests: FindRequests,
    health: Callable[[], Mapping[str, object]],
    static_dir: Path | None,
    access: Access,
    process: Callable[[], Mapping[str, float]] = dict,
    monotonic_ns: Callable[[], int] = time.monotonic_ns,
    seats: Seats | None = None,
    period_seconds: float = PERIOD_SECONDS,
) -> Guard:
    """Return the application.

    Args:
        snapshot: the newest snapshot; called at most once in `period_seconds`, from the server's thread.
        find_requests: reads the ledger; called in a thread of its own.
        health: `{"status": "ok" | "degraded" | "failed", ...}`; failed is answered 503. Must not wait.
        static_dir: the built page; None or an empty folder gives a plain one.
        access: who may see what (`access.open_access`).
        process: the `process_*` families (`export.process.read_process`).
        monotonic_ns: the clock.
        seats: who may read the live stream at once, and how many were dropped.
        period_seconds: how often figures change.
    """
    shown = Shown(snapshot, process, monotonic_ns, period_seconds)
    assets = read_assets(static_dir)
    live = Live(shown, find_requests, health, assets, access, seats or Seats(), period_seconds)
    routes = [
        Route("/", live.index),
        Route("/static/{name}", live.static),
        Route("/metrics", live.metrics),
        Route("/healthz", live.healthz),
        Route("/v1/live", live.live),
        Route("/v1/live/schema", live.schema),
        Route("/v1/snapshot", live.snapshot),
        Route("/v1/requests", live.requests),
        Route("/v1/requests/{id:path}", live.request),
    ]
    handlers: dict[Any, Any] = {HTTPException: _refuse, Exception: _failed}
    return Guard(Starlette(routes=routes, exception_handlers=handlers), access)


def _file(request: Request, asset: Asset) -> Response:
    headers = {"etag": asset.etag, "cache-control": "no-cache"}
    if request.headers.get("if-none-match") == asset.etag:
        return Response(status_code=304, headers=headers)
    return Response(asset.body, headers={**headers, "content-type": asset.media_type})


def _forbidden() -> Response:
    fix = "ask from this machine as the agent's own user, or with the token (web.token_file)"
    return Refusal(403, "requests and tenants are not shown to you", fix)


def _absent(what: str, fix: str) -> Response:
    return Refusal(404, what, fix)


async def _refuse(_request: Request, error: HTTPException) -> Response:
    return Refusal(error.status_code, str(error.detail).lower(), "see /", dict(error.headers or {}))


async def _failed(request: Request, error: Exception) -> Response:
    _log.error("no answer to %s: %s", request.url.path, error, exc_info=error)
    return Refusal(500, "this answer could not be made", "see the agent's log")
