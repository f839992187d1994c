"""A stand-in for the agent's web server: the built page and a scripted stream; it proves the page, not the agent."""

import asyncio
import math
import socket
import threading
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import msgspec
import uvicorn
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware, RequestResponseEndpoint
from starlette.requests import Request
from starlette.responses import FileResponse, Response, StreamingResponse
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from inferwatt.snapshot import AccountView, DeviceView, Lack, LiveView, ModelView, RequestView, TenantView

STATIC = Path(__file__).resolve().parent.parent.parent / "src" / "inferwatt" / "web" / "static"
POLICY = "default-src 'self'; base-uri 'none'; object-src 'none'; frame-ancestors 'none'; form-action 'none'"
STARTED_UNIX_SECONDS = 1_795_600_000.0
NOW_UNIX_SECONDS = STARTED_UNIX_SECONDS + 11_535.0


class StandIn:
    """Serve the page on a loopback port of its own; what is pushed goes to every open stream, the last to new ones."""

    def __init__(self) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port: int = probe.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self._last: bytes | None = None
        self._pushed = 0
        self._streams: set[asyncio.Queue[bytes | None]] = set()

    def start(self) -> None:
        """Serve until `stop`; the same port again after it."""
        routes = [
            Route("/", self._page),
            Route("/v1/live", self._live),
            Mount("/static", StaticFiles(directory=STATIC)),
        ]
        app = Starlette(routes=routes, middleware=[Middleware(BaseHTTPMiddleware, dispatch=strict)])
        self._server = uvicorn.Server(uvicorn.Config(app, port=self.port, log_level="error", lifespan="off"))
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()), name="stand-in")
        self._ready = threading.Event()
        self._thread.start()
        if not self._ready.wait(10):
            raise TimeoutError("the stand-in did not start")

    def stop(self) -> None:
        """End every stream and the server."""
        self._loop.call_soon_threadsafe(self._end)
        self._thread.join(10)

    def push(self, *views: LiveView, restricted: bool = False) -> None:
        """Send views to every open stream; `restricted` is the mark that the web server adds."""
        for view in views:
            self._pushed += 1
            self._last = encoded(view, restricted, f"{self._pushed}")
            self._loop.call_soon_threadsafe(self._send, self._last)

    def _send(self, data: bytes | None) -> None:
        for stream in self._streams:
            stream.put_nowait(data)

    def _end(self) -> None:
        self._send(None)
        self._server.should_exit = True

    async def _serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", self.port))
        listener.listen()
        self._ready.set()
        await self._server.serve(sockets=[listener])
        listener.close()

    async def _page(self, request: Request) -> Response:
        return FileResponse(STATIC / "index.html")

    async def _live(self, request: Request) -> Response:
        return StreamingResponse(self._events(), media_type="text/event-stream")

    async def _events(self) -> AsyncIterator[bytes]:
        mine: asyncio.Queue[bytes | None] = asyncio.Queue()
        self._streams.add(mine)
        try:
            yield b"retry: 200\n\n" + (self._last or b"")
            while (data := await mine.get()) is not None:
                yield data
        finally:
            self._streams.discard(mine)


def encoded(view: LiveView, restricted: bool, start: str) -> bytes:
    """Return a view's requests and its window as events; with another `start` no request was told before."""
    fields = msgspec.to_builtins(view) | {"restricted": restricted}
    told = [("request", each) for each in reversed(fields.pop("requests"))] + [("window", fields)]
    return b"".join(
        f"event: {name}\nid: {start}-{number}\ndata: {msgspec.json.encode(data).decode()}\n\n".encode()
        for number, (name, data) in enumerate(told, 1)
    )


async def strict(request: Request, call_next: RequestResponseEndpoint) -> Response:
    """Forbid whatever does not come from this server, inline styles and scripts included."""
    response = await call_next(request)
    response.headers["Content-Security-Policy"] = POLICY
    return response


def device(
    name: str, domain: str, component: str, watts: float | None, provenance: str = "measured", ratio: float = 0.05
) -> DeviceView:
    """One device."""
    energy_joules = 0.0 if watts is None else watts * 9000
    return DeviceView(name, domain, component, provenance, ratio, watts, energy_joules, stale=watts is None)


def model(name: str, server: str, provenance: str, joules_per_token: float | None, ratio: float) -> ModelView:
    """One model; its bounds are the ratio and a tenth more."""
    low = None if joules_per_token is None else joules_per_token * (1 - ratio) * 0.9
    high = None if joules_per_token is None else joules_per_token * (1 + ratio) * 1.1
    scale = joules_per_token or 0.0
    return ModelView(
        model_name=name,
        server=server,
        provenance=provenance,
        window_seconds=60.0,
        power_watts=None if joules_per_token is None else scale * 212.4,
        output_tokens_per_second=212.4,
        joules_per_output_token=joules_per_token,
        low_joules_per_output_token=low,
        high_joules_per_output_token=high,
        energy_joules=scale * 1_600_000,
        prefill_joules=scale * 310_000,
        decode_joules=scale * 1_020_000,
        idle_joules=scale * 262_000,
        unlisted_joules=scale * 8_000,
        systematic_ratio=ratio,
        prompt_tokens=4_211_870,
        cached_tokens=1_833_024,
        output_tokens=1_402_311,
        requests=8_120,
        open_requests=14,
    )


def tenant(name: str, joules: float, provenance: str = "measured", ratio: float = 0.05) -> TenantView:
    """One tenant."""
    return TenantView(name, provenance, joules, joules * 0.92, joules * 1.09, ratio, 412, 98_330, joules / 98_330)


def request(number: int, **changes: object) -> RequestView:
    """One ended request."""
    view = RequestView(
        request=f"r{number}",
        response_id=f"chatcmpl-{number:08x}",
        model_name="qwen3-32b",
        server="vllm-a",
        tenant=("search", "support", "batch")[number % 3],
        end_unix_seconds=NOW_UNIX_SECONDS - 0.4 - number * 3.7,
        duration_seconds=1.2 + number * 0.83,
        prompt_tokens=812 + number * 97,
        cached_tokens=512 if number % 2 else 0,
        output_tokens=96 + number * 31,
        energy_joules=88.4 + number * 24.1,
        prefill_joules=20.1,
        decode_joules=68.3 + number * 24.1,
        low_joules=(88.4 + number * 24.1) * 0.94,
        high_joules=(88.4 + number * 24.1) * 1.07,
        systematic_ratio=0.05,
        tier="step_exact",
        provenance="measured",
        outcome="finished",
        tags={"team": "rank"} if number % 3 == 0 else {},
    )
    return msgspec.convert({**msgspec.to_builtins(view), **changes}, RequestView)


DEVICES = (
    device("gpu-0", "gpu", "accelerator", 412.0),
    device("gpu-1", "gpu", "accelerator", 388.5),
    device("package-0", "package", "cpu", 96.2, "modelled", 0.4),
    device("dram-0", "dram", "dram", None),
)
MODELS = (
    model("qwen3-32b", "vllm-a", "measured", 1.94, 0.05),
    model("qwen3-32b", "vllm-a", "modelled", 0.42, 0.4),
    model("smollm2-135m-instruct", "llamacpp:8080", "modelled", 0.113, 0.4),
    model("embed-large", "tei:8081", "measured", None, 0.05),
)
TENANTS = (
    tenant("search", 1_254_300.0),
    tenant("support", 402_180.0),
    tenant("__unknown__", 96_400.0),
    tenant("support", 31_930.0, "modelled", 0.4),
)
REQUESTS = (
    request(0),
    request(1, model_name="smollm2-135m-instruct", server="llamacpp:8080", provenance="modelled",
            systematic_ratio=0.4, tier="request_span", tenant="__unknown__"),
    request(2, outcome="aborted"),
    *(request(number) for number in range(3, 9)),
    request(9, energy_joules=None, low_joules=None, high_joules=None, systematic_ratio=None, provenance="",
            tier="token_share", output_tokens=None, outcome="failed"),
)  # fmt: skip
ACCOUNTS = (
    AccountView("measured", 410_000.0, 2_450_000.0, 12_000.0, 1_180_000.0, 90_000.0, 3_200.0),
    AccountView("modelled", 20_000.0, 61_000.0, 0.0, 60_000.0, 124_000.0, 0.0),
)
LACKS = (
    Lack("The energy counter of the CPU is not readable, so its power is modelled", "intel-rapl:0/energy_uj",
         "sudo chmod a+r /sys/class/powercap/intel-rapl:*/energy_uj"),
    Lack("embed-large serves no metrics page", "127.0.0.1:8081", "inferwatt doctor engines"),
)  # fmt: skip


def view(
    at_unix_seconds: float = NOW_UNIX_SECONDS,
    *,
    devices: Sequence[DeviceView] = DEVICES,
    models: Sequence[ModelView] = MODELS,
    tenants: Sequence[TenantView] = TENANTS,
    requests: Sequence[RequestView] = REQUESTS,
    lacks: Sequence[Lack] = LACKS,
) -> LiveView:
    """One moment of a busy machine; every figure in it is made up, to fill the page."""
    return LiveView(
        unix_seconds=at_unix_seconds,
        started_unix_seconds=STARTED_UNIX_SECONDS,
        version="0.1.0",
        host="inference-7.example",
        devices=tuple(devices),
        models=tuple(models),
        tenants=tuple(tenants),
        requests=tuple(requests),
        lacks=tuple(lacks),
        accounts=ACCOUNTS,
    )


def minutes(seconds: int) -> list[LiveView]:
    """The same machine over the last `seconds`, its power going up and down."""
    return [
        view(NOW_UNIX_SECONDS - ago, devices=[at_time(each, at, -ago) for at, each in enumerate(DEVICES)])
        for ago in range(seconds, -1, -1)
    ]


def at_time(each: DeviceView, phase: int, seconds: int) -> DeviceView:
    """A device's power at a moment: a load that comes and goes, with a ripple."""
    if each.power_watts is None:
        return each
    ripple = 0.02 * math.sin(seconds * 1.7 + phase) + 0.015 * math.sin(seconds * 0.53)
    load = 0.6 + 0.35 * math.tanh(3 * math.sin(seconds / 31 + phase * 0.6)) + ripple
    fields = msgspec.to_builtins(each) | {"power_watts": each.power_watts * load}
    return msgspec.convert(fields, DeviceView)
