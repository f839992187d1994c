"""An ASGI middleware for vLLM, under ours in the tests: notes what vLLM itself sent, in files."""

import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

Message = dict[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]


class Tap:
    """Writes the body of each answer into a file that the `x-tap` of its call names."""

    def __init__(self, app: Callable[[Message, Receive, Send], Awaitable[None]]) -> None:
        self._app = app

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Pass a call on, and note the bytes of its answer."""
        name = next((value.decode() for key, value in scope.get("headers", ()) if key == b"x-tap"), "")

        async def noting(message: Message) -> None:
            if name:
                with (Path(os.environ["TAP_FOLDER"]) / name).open("ab") as file:
                    file.write(message.get("body", b""))
            await send(message)

        await self._app(scope, receive, noting)
