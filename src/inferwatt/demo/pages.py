"""What the demo's parent asks its children over HTTP: is it ready, what does it show, what did it count."""

import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from typing import Any

import msgspec

from inferwatt.demo.tree import Child
from inferwatt.errors import Unavailable
from inferwatt.snapshot import LiveView

_TIMEOUT_SECONDS = 2.0
_POLL_SECONDS = 0.05
_SERVER_COUNTERS = {
    "llamacpp:prompt_tokens_total": "prompt_computed",
    "llamacpp:prompt_tokens_cached_total": "cached",
    "llamacpp:tokens_predicted_total": "output",
}


def get(address: str) -> bytes:
    """Return what a page of ours on loopback says.

    Raises:
        OSError: it does not answer, or not with success (urllib's HTTPError is one).
    """
    with urllib.request.urlopen(address, timeout=_TIMEOUT_SECONDS) as answer:
        content: bytes = answer.read()
    return content


def wait_until_ready(child: Child, address: str, timeout_seconds: float) -> None:
    """Return once `address` answers; a page that says 503 is there, but not ready.

    Raises:
        Unavailable: the child ended, or took too long.
    """
    until = time.monotonic() + timeout_seconds
    while time.monotonic() < until:
        child.check()
        try:
            get(address)
        except OSError:
            time.sleep(_POLL_SECONDS)
        else:
            return
    raise Unavailable(
        f"the demo's {child.name} did not get ready", where=address, fix="run it again on a quieter machine"
    )


def is_up(address: str) -> bool:
    """Whether anything answers there, well or not."""
    try:
        get(address)
    except urllib.error.HTTPError:
        return True
    except OSError:
        return False
    return True


def live_view(agent: str) -> LiveView | None:
    """Return what the agent shows now, None where it does not answer in time."""
    try:
        return msgspec.json.decode(get(f"{agent}/v1/snapshot"), type=LiveView)
    except (OSError, msgspec.MsgspecError):
        return None


def server_tokens(server: str) -> Mapping[str, int] | None:
    """Return the tokens that the server counted itself, None where its page cannot be read."""
    try:
        text = get(f"{server}/metrics").decode()
    except (OSError, UnicodeDecodeError):
        return None
    pairs = dict(line.split(" ")[:2] for line in text.splitlines() if line and not line.startswith("#"))
    try:
        return {word: int(float(pairs[name])) for name, word in _SERVER_COUNTERS.items()}
    except (KeyError, ValueError):
        return None


def as_lacks(view: LiveView | None) -> list[dict[str, Any]]:
    """Return what the agent said it lacks."""
    return [] if view is None else [msgspec.to_builtins(lack) for lack in view.lacks]
