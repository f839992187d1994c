"""The page's files, read once: nothing is served that was not there at the start, and no disk is waited for."""

import hashlib
import html
import mimetypes
from dataclasses import dataclass
from pathlib import Path
from typing import Final

LARGEST_BYTES: Final = 4 << 20
BUILD: Final = "python hatch_build.py"


@dataclass(frozen=True, slots=True)
class Asset:
    """One file: what it holds, what it is, and a tag that changes with it."""

    body: bytes
    media_type: str
    etag: str


def read_assets(folder: Path | None) -> dict[str, Asset]:
    """Return the files directly in `folder` by name; none where there is no folder."""
    if folder is None or not folder.is_dir():
        return {}
    return {
        path.name: _asset(path.read_bytes(), mimetypes.guess_type(path.name)[0] or "application/octet-stream")
        for path in sorted(folder.iterdir())
        if path.is_file() and path.stat().st_size <= LARGEST_BYTES
    }


def plain_page(version: str) -> Asset:
    """Return what stands in the place of the page where it was not built: how to build it, and what is there."""
    links = "".join(
        f'<li><a href="{path}">{path}</a> {words}</li>'
        for path, words in (
            ("/metrics", "for Prometheus"),
            ("/v1/snapshot", "the live figures as JSON"),
            ("/v1/requests", "the last requests as JSON"),
            ("/healthz", "whether the meter is well"),
        )
    )
    text = (
        '<!doctype html><html lang="en"><meta charset="utf-8"><title>inferwatt</title>'
        f"<h1>inferwatt {html.escape(version)}</h1><p>The meter runs. The live page was not built: "
        f"<code>{BUILD}</code> builds it, then start the agent again.</p><ul>{links}</ul></html>\n"
    )
    return _asset(text.encode(), "text/html")


def _asset(body: bytes, media_type: str) -> Asset:
    textual = media_type.startswith("text/") or media_type in {"application/javascript", "image/svg+xml"}
    kind = f"{media_type}; charset=utf-8" if textual else media_type
    return Asset(body, kind, f'"{hashlib.sha256(body).hexdigest()[:32]}"')
