"""A stand-in for the metadata services of clouds: a real HTTP server that speaks what their documentation says.

Amazon's IMDSv2 wants a token that was fetched by PUT; Google and Microsoft want a header that no browser sends, and
refuse what was forwarded. What no service would say is scripted with raw_server.py.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

TOKEN = "AQAEAA-stand-in=="


@dataclass
class Service:
    """One cloud's service: what it calls itself, the type that it names, where it is, and what it was asked."""

    cloud: str
    type: str
    address: str = ""
    asked: list[str] = field(default_factory=list)

    def answer(self, method: str, path: str, headers: dict[str, str]) -> tuple[int, str]:
        """Return the status and the text for one request."""
        self.asked.append(f"{method} {path}")
        return {"ec2": self._ec2, "gce": self._gce, "azure": self._azure, "oracle": self._oracle}[self.cloud](
            method, path, headers
        )

    def _ec2(self, method: str, path: str, headers: dict[str, str]) -> tuple[int, str]:
        if (method, path) == ("PUT", "/latest/api/token"):
            return (200, TOKEN) if headers.get("x-aws-ec2-metadata-token-ttl-seconds", "").isdecimal() else (400, "")
        if headers.get("x-aws-ec2-metadata-token") != TOKEN:
            return 401, "Unauthorized"
        return (200, self.type) if (method, path) == ("GET", "/latest/meta-data/instance-type") else (404, "")

    def _gce(self, method: str, path: str, headers: dict[str, str]) -> tuple[int, str]:
        if headers.get("metadata-flavor") != "Google":
            return 403, "Missing Metadata-Flavor:Google header."
        is_it = (method, path) == ("GET", "/computeMetadata/v1/instance/machine-type")
        return (200, f"projects/123456789/machineTypes/{self.type}") if is_it else (404, "not found")

    def _azure(self, method: str, path: str, headers: dict[str, str]) -> tuple[int, str]:
        if headers.get("metadata") != "true":
            return 400, '{ "error": "Bad request. Required metadata header not specified" }'
        where, _, query = path.partition("?")
        is_it = (method, where) == ("GET", "/metadata/instance/compute/vmSize")
        return (200, self.type) if is_it and "api-version=" in query and "format=text" in query else (404, "")

    def _oracle(self, method: str, path: str, headers: dict[str, str]) -> tuple[int, str]:
        if headers.get("authorization") != "Bearer Oracle":
            return 403, "Forbidden"
        return (200, f'"{self.type}"') if (method, path) == ("GET", "/opc/v2/instance/shape") else (404, "")


@contextmanager
def serving(cloud: str, kind: str) -> Iterator[Service]:
    """Run the service of one cloud on this machine."""
    service = Service(cloud, kind)

    class Handler(BaseHTTPRequestHandler):
        """Hands each request to the service."""

        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            """Answer one request."""
            headers = {key.lower(): value for key, value in self.headers.items()}
            status, text = service.answer(self.command, self.path, headers)
            body = text.encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def do_PUT(self) -> None:
            """Answer one request."""
            self.do_GET()

        def log_message(self, format: str, *args: object) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        service.address = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        thread.start()
        yield service
        server.shutdown()
        thread.join()
