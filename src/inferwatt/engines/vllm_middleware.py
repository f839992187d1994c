"""vLLM's ASGI middleware: whose a call is, and what it has used, in vLLM's own answers.

`vllm serve MODEL --middleware inferwatt.vllm.Middleware`. It runs on the event loop of each API server process: nothing
here waits, and nothing raises into vLLM. What is no call of a model (`/v1/models`, `/health`, `/metrics`) is passed on
as it came, and so is everything while no agent was ever there.
"""

import atexit
import functools
import itertools
import os
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from inferwatt.answering.tenant import HEADER, Tenants, keys_of, split_path, tenants
from inferwatt.engines.vllm_middleware_call import App, Call, Receive, Scope, Send
from inferwatt.engines.vllm_middleware_desk import Desk
from inferwatt.engines.vllm_plugin import is_wanted
from inferwatt.handle import RequestHandle

CALLS = frozenset(
    {
        "/v1/chat/completions", "/v1/chat/completions/batch", "/v1/completions", "/v1/responses", "/v1/messages",
        "/inference/v1/generate", "/generative_scoring", "/invocations", "/cohere/v2/chat", "/v1/systemone",
        "/v1/embeddings", "/v2/embed", "/pooling", "/classify", "/score", "/v1/score", "/rerank", "/v1/rerank",
        "/v2/rerank", "/v1/audio/transcriptions", "/v1/audio/translations",
    }
)  # fmt: skip
"""What vLLM 0.32 computes something for, by its routers."""
UNNAMED = frozenset({"/v1/responses"})
"""Of these vLLM takes the name from nowhere but their body."""
LOOK_SECONDS = 1.0
LAST_WORDS_SECONDS = 0.3


class Middleware:
    """Wraps an ASGI application, vLLM's."""

    def __init__(self, app: App) -> None:
        self.failed = 0
        self._app = app
        self._desk: Desk | None = None
        self._look_at = 0.0
        self._names = itertools.count(1)
        self._url = os.environ.get("INFERWATT_URL", "").rstrip("/") or None
        self._tenants = _tenants()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one connection's request."""
        call = None
        if scope["type"] == "http":
            try:
                scope, named = _without_tenant(scope)
                call = self._call(scope, named)
            except Exception:  # noqa: BLE001 - nothing of ours may reach vLLM
                self.failed += 1
        if call is None:
            await self._app(scope, receive, send)
        else:
            await call.run(self._app, receive, send)

    def _call(self, scope: Scope, named: str | None) -> Call | None:
        """Return what is to be told of a request; None where it is none to a model, or nobody is there to be told."""
        path = scope["path"].removeprefix(scope.get("root_path", ""))
        if scope["method"] != "POST" or path not in CALLS:
            return None
        desk = self._desk or self._open(scope)
        if desk is None:
            return None
        headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}
        tenant = self._tenants.of(headers, (scope.get("client") or ("",))[0], named)
        handle = RequestHandle(desk, str(next(self._names)), "", tenant, "", None)
        return Call(scope, handle, desk, self._url, names=path not in UNNAMED)

    def _open(self, scope: Scope) -> Desk | None:
        """Start the producer of this process once an agent's socket is there; looked for once a second."""
        now = time.monotonic()
        if now < self._look_at:
            return None
        self._look_at = now + LOOK_SECONDS
        if is_wanted():
            self._desk = _desk(scope.get("server"))
        return self._desk


def put_before(application: Any) -> None:
    """Let vLLM's own application of this class have the middleware, outermost, where its command line names none."""
    build = application.build_middleware_stack
    if getattr(build, "_inferwatt", False):
        return

    @functools.wraps(build)
    def build_middleware_stack(self: Any) -> App:
        stack: App = build(self)
        is_vllms = hasattr(getattr(self, "state", None), "args")
        has_it = any(getattr(one, "cls", None) is Middleware for one in getattr(self, "user_middleware", ()))
        return Middleware(stack) if is_vllms and not has_it else stack

    build_middleware_stack._inferwatt = True  # type: ignore[attr-defined]
    application.build_middleware_stack = build_middleware_stack


def _without_tenant(scope: Scope) -> tuple[Scope, str | None]:
    """Return the scope of `/t/TENANT/v1/...` with the path that vLLM knows, and the tenant; another as it is."""
    root = scope.get("root_path", "")
    named, path = split_path(scope["path"].removeprefix(root))
    if named is None or not path.startswith("/v1/"):
        return scope, None
    raw = scope.get("raw_path")
    if raw:  # as it was sent, with its escapes: the tenant is the second part there too
        head = root.encode()
        scope = {**scope, "raw_path": head + b"/" + raw.removeprefix(head).split(b"/", 3)[3]}
    return {**scope, "path": root + path}, named


def _desk(server: Any) -> Desk:
    """Start the producer of this process, which answers at an address: (host, port), or (path, None)."""
    from inferwatt.engines.vllm_shape import port_of

    port = server[1] if server and isinstance(server[1], int) else port_of(sys.argv)
    about = {"role": "answer", "version": _version(), "port": port, "parent": os.getppid()}
    desk = Desk({name: value for name, value in about.items() if value is not None})
    try:
        desk.start()
        atexit.register(desk.close, LAST_WORDS_SECONDS)
    except RuntimeError:  # this process may start no thread
        desk.retire()
    return desk


def _version() -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("vllm")
    except PackageNotFoundError:
        return ""


def _tenants() -> Tenants:
    """Return how tenants are told; settings that are wrong are said in the log, and nobody is believed."""
    try:
        return tenants_of(os.environ)
    except (OSError, ValueError) as exc:
        sys.stderr.write(f"inferwatt: tenants are not told: {exc}\n  fix: INFERWATT_TENANT_*, and start vLLM again\n")
        return Tenants()


def tenants_of(environ: Mapping[str, str]) -> Tenants:
    """Return how tenants are told, by the server's environment: a middleware of vLLM's takes no arguments.

    Raises:
        ValueError: a network, or the file of keys, is not of its form; no key is shown.
        OSError: a file cannot be read.
    """
    secret, keys = environ.get("INFERWATT_TENANT_SECRET_FILE", ""), environ.get("INFERWATT_TENANT_KEYS_FILE", "")
    return tenants(
        keys_of(Path(keys).read_text(encoding="utf-8")) if keys else {},
        secret=Path(secret).read_bytes().strip() if secret else b"",
        peers=[peer.strip() for peer in environ.get("INFERWATT_TENANT_PEERS", "").split(",") if peer.strip()],
        header=environ.get("INFERWATT_TENANT_HEADER", HEADER),
    )
