"""A real collector, rotel: it takes OTLP by HTTP and by gRPC, and passes on what it took to the stand-in behind it."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from socket import create_connection

from tests.real.conftest import free_port, missing

from .otlp_receiver import Receiver, receiving
from .victoria import wait_until


@dataclass
class Collector:
    """It may be killed, and come back at the same ports; `came` is what it passed on."""

    folder: Path
    came: Receiver
    ports: dict[str, int] = field(default_factory=lambda: {"http": free_port(), "grpc": free_port()})
    process: "subprocess.Popen[bytes] | None" = None

    def endpoint(self, protocol: str) -> str:
        """Return where it takes this protocol."""
        return f"http://127.0.0.1:{self.ports[protocol]}"

    def start(self) -> None:
        """Start it."""
        found = find_spec("rotel")
        if found is None or found.origin is None:
            missing("rotel is not installed: make test-observability")
        flags = {
            "otlp-grpc-endpoint": f"127.0.0.1:{self.ports['grpc']}",
            "otlp-http-endpoint": f"127.0.0.1:{self.ports['http']}",
            "exporter": "otlp",
            "otlp-exporter-protocol": "http",
            "otlp-exporter-endpoint": self.came.url,
            "batch-timeout": "50ms",
            "pid-file": str(self.folder / "rotel.pid"),
            "log-file": str(self.folder / "rotel.log"),
        }
        command = [str(Path(found.origin).with_name("rotel-agent")), "start"]
        command += [each for name, value in flags.items() for each in (f"--{name}", value)]
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        wait_until(lambda: all(map(listens, self.ports.values())))

    def kill(self) -> None:
        """End it without a word: what it has not passed on is lost, though it took it."""
        if self.process is not None:
            self.process.kill()
            self.process.wait(10)

    def end(self) -> None:
        """End it: it passes on what it took."""
        assert self.process is not None
        self.process.terminate()
        self.process.wait(30)


def listens(port: int) -> bool:
    """Say whether somebody listens there."""
    with suppress(OSError):
        create_connection(("127.0.0.1", port), 1).close()
        return True
    return False


@contextmanager
def collecting(folder: Path) -> Iterator[Collector]:
    """Run a collector."""
    with receiving() as came:
        collector = Collector(folder, came)
        try:
            collector.start()
            yield collector
        finally:
            collector.kill()
