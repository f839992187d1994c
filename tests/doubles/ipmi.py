"""A stand-in for a BMC that speaks IPMI over LAN: pyghmi's own `Bmc` class, which answers DCMI's "Get Power Reading".

Run as a program it serves until it is killed, and reads what to say from a file before each answer, so that a test can
change it: ``{"watts": 220, "state": 64, "code": 0}``.
"""

import json
import socket
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

USER, PASSWORD = "meter", "s3cret-Pa55w0rd"
ACTIVATED = 0x40
_DCMI, _GROUP_EXTENSION, _GET_POWER_READING = 0xDC, 0x2C, 2


class IpmiBmc:
    """The stand-in as a process of its own, while the context lasts."""

    def __init__(self, folder: Path) -> None:
        self._says = folder / "bmc.json"
        self._process: subprocess.Popen[bytes] | None = None
        self.port = 0
        self.password_file = folder / "ipmi-password"
        self.password_file.write_text(PASSWORD)
        self.password_file.chmod(0o600)

    def __enter__(self) -> "IpmiBmc":
        self.say(watts=220)
        command = [sys.executable, "-m", __name__, str(self._says)]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, cwd=Path(__file__).parents[2])
        assert self._process.stdout is not None
        self.port = int(self._process.stdout.readline())
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process is not None
        assert self._process.stdout is not None
        self._process.kill()
        self._process.wait()
        self._process.stdout.close()

    def say(self, *, watts: int = 220, state: int = ACTIVATED, code: int = 0) -> None:
        """Change what it answers from now on."""
        changed = self._says.with_suffix(".new")
        changed.write_text(json.dumps({"watts": watts, "state": state, "code": code}))
        changed.replace(self._says)

    def command(self, ipmitool: str, password_file: Path | None = None) -> tuple[str, ...]:
        """Return ipmitool as it is to be called for this BMC."""
        account = ["-U", USER, "-f", str(password_file or self.password_file)]
        return (ipmitool, "-I", "lanplus", "-H", "127.0.0.1", "-p", str(self.port), *account)


def power_reading(watts: int, state: int) -> list[int]:
    """Return the bytes of an answer: current, least, most and mean watts, a time, a period, a state."""
    return [_DCMI, *struct.pack("<HHHHIIB", watts, 180, 260, 215, 0x65000000, 1000, state)]


def serve(says: Path) -> None:
    """Answer until killed, on a port of the system's choice, which is printed."""
    from pyghmi.ipmi.bmc import Bmc

    class PowerBmc(Bmc):  # type: ignore[misc, unused-ignore]
        """Adds the one command that pyghmi's does not have."""

        def handle_raw_request(self, request: Any, session: Any) -> None:
            """Answer a power reading here, anything else as pyghmi does."""
            asked = (request["netfn"], request["command"], *request["data"][:1])
            if asked != (_GROUP_EXTENSION, _GET_POWER_READING, _DCMI):
                super().handle_raw_request(request, session)
                return
            now = json.loads(says.read_text())
            data = [] if now["code"] else power_reading(now["watts"], now["state"])
            session.send_ipmi_response(code=now["code"], data=data)

    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    bmc = PowerBmc({USER: PASSWORD}, port=port, address="127.0.0.1")
    print(port, flush=True)  # noqa: T201 - what the test waits for
    bmc.listen()


if __name__ == "__main__":
    serve(Path(sys.argv[1]))
