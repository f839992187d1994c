"""Build vLLM's own application as its server does, without an engine, and ask it; runs in vLLM's own environment."""

import asyncio
import json
import sys
from typing import Any

from vllm.entrypoints.launchers.app import build_app  # type: ignore[import-not-found, unused-ignore]
from vllm.entrypoints.launchers.cli_args import make_arg_parser  # type: ignore[import-not-found, unused-ignore]
from vllm.plugins import load_general_plugins  # type: ignore[import-not-found, unused-ignore]
from vllm.utils.argparse_utils import FlexibleArgumentParser  # type: ignore[import-not-found, unused-ignore]


async def status(app: Any, path: str, key: str = "") -> int:
    """Return the status of a GET."""
    sent: list[dict[str, Any]] = []
    headers = [(b"host", b"a"), (b"authorization", f"Bearer {key}".encode())]
    scope = {"type": "http", "method": "GET", "path": path, "raw_path": path.encode(), "headers": headers}
    scope |= {"http_version": "1.1", "scheme": "http", "query_string": b"", "client": ("127.0.0.1", 1)}

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b""}

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    await app(scope, receive, send)
    return int(sent[0]["status"])


def main() -> None:
    """Print how many of our middlewares there are, and what calls with and without a key get."""
    arguments = make_arg_parser(FlexibleArgumentParser()).parse_args(sys.argv[1:])
    load_general_plugins()
    app = build_app(arguments, ("generate",))
    app.middleware_stack = app.build_middleware_stack()
    found, layer = 0, app.middleware_stack
    while layer is not None:
        found += type(layer).__module__ == "inferwatt.engines.vllm_middleware"
        layer = getattr(layer, "app", None) or getattr(layer, "_app", None)
    told = {path: asyncio.run(status(app, path)) for path in ("/v1/models", "/t/acme/v1/models")}
    known = asyncio.run(status(app, "/t/acme/v1/nothing", arguments.api_key[0]))
    sys.stdout.write(json.dumps({"middlewares": found, **told, "/t/acme/v1/nothing with its key": known}) + "\n")


if __name__ == "__main__":
    main()
