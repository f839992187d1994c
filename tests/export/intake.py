"""A stand-in for Datadog's series API: it answers as it is told, and keeps what it took."""

import gzip
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from typing import Any

from tests.serving import serving


@dataclass
class Intake:
    """What came, and what is answered: one of `answers` each, then 202."""

    url: str
    answers: list[tuple[int, dict[str, str]]] = field(default_factory=list)
    bodies: list[dict[str, Any]] = field(default_factory=list)
    packed_bytes: list[int] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)

    def series(self) -> list[dict[str, Any]]:
        """Return every series of every body that was taken."""
        return [each for body in self.bodies for each in body["series"]]


@contextmanager
def listening() -> Iterator[Intake]:
    """Serve a stand-in on a free port."""

    class Handler(BaseHTTPRequestHandler):
        """One request."""

        def do_POST(self) -> None:
            """Take a body, or not."""
            packed = self.rfile.read(int(self.headers["content-length"]))
            status, headers = intake.answers.pop(0) if intake.answers else (202, {})
            intake.headers.append({key.lower(): value for key, value in self.headers.items()})
            intake.packed_bytes.append(len(packed))
            if status == 202:
                intake.bodies.append(json.loads(gzip.decompress(packed)))
            self.send_response(status)
            for key, value in headers.items():
                self.send_header(key, value)
            self.end_headers()
            self.wfile.write(b'{"errors":[]}')

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with serving(Handler) as url:
        intake = Intake(url)
        yield intake
