"""The four tools as processes of their own over the stand-in: started, looked at, asked for their end, and stopped."""

import contextlib
import json
import math
import queue
import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from benchmarks.doubles.faulty_process import STOP_SECONDS, Program
from benchmarks.doubles.faulty_rows import GPUS, ILL, Figures

START_SECONDS = 30.0
LOOK_SECONDS, END_SECONDS = 2.0, 10.0
POLL_SECONDS = 0.1
PEER = str(Path(__file__).with_name("faulty.py"))
JOULES, EVENTS = "inferwatt_device_energy_joules_total", "inferwatt_device_events_total"
_SAMPLE = re.compile(r"^(\w+)\{(.*)\} (\S+)", re.MULTILINE)
_LABEL = re.compile(r'(\w+)="([^"]*)"')

Samples = list[tuple[str, dict[str, str], float]]


class Tool(Protocol):
    """What is asked of each tool; every word of it is heard within a limit."""

    name: str

    def start(self) -> str:
        """Wait until it is at work; return why it is not."""

    def look(self) -> Figures:
        """Return what it tells in mid-run."""

    def end(self) -> Figures:
        """Return its joules since the beginning; it may end with that."""

    def stop(self) -> float | None:
        """Let it end, and return how many seconds that took from the first word; None where it had ended before."""

    def events(self) -> Mapping[str, int]:
        """Return what it counted of the ill GPU."""

    def words(self) -> tuple[str, ...]:
        """Return its warnings and errors, in its own words."""

    def kill(self) -> None:
        """Make sure that it is gone."""


class Peer(Program):
    """Zeus or CodeCarbon, in a process that answers each word (faulty.py)."""

    def __init__(self, name: str, python: str, folder: Path, environment: Mapping[str, str]) -> None:
        self.name = name
        self._owed = 0
        self._end_told = 0.0
        super().__init__([python, PEER, name], folder, environment)

    def start(self) -> str:
        """Wait until it has begun to measure."""
        return str(self._answer(START_SECONDS).get("raised", ""))

    def _answer(self, seconds: float) -> dict[str, Any]:
        """Return the newest answer; those that came too late are passed over."""
        deadline = time.monotonic() + seconds
        try:
            while True:
                answer: dict[str, Any] = json.loads(self.line(max(deadline - time.monotonic(), 0.01)))
                if not self._owed:
                    return answer
                self._owed -= 1
        except queue.Empty:
            self._owed += 1
            return {"raised": f"no answer: not within {seconds:g} s"}

    def _ask(self, word: str, seconds: float) -> Figures:
        self.tell(word)
        said = self._answer(seconds)
        joules = {int(gpu): value for gpu, value in said.get("joules", {}).items()}
        return Figures(joules, said.get("whole"), {}, said.get("raised", ""))

    def look(self) -> Figures:
        """Return what a user would see now."""
        return self._ask("look", LOOK_SECONDS)

    def end(self) -> Figures:
        """Return what it comes to; a tool that hangs is waited for."""
        self._end_told = time.monotonic()
        return self._ask("end", STOP_SECONDS)

    def stop(self) -> float | None:
        """Return how long it took from the word to the end of the process."""
        return self.ended(self._end_told) if self._end_told else None


class Page(Program):
    """A program that serves `/metrics` until it is told to end."""

    def __init__(self, command: Sequence[str], url: str, folder: Path, environment: Mapping[str, str]) -> None:
        self._url = url
        super().__init__(command, folder, environment)

    def start(self) -> str:
        """Wait until its page is there and has settled."""
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline and self.process.poll() is None:
            if self.is_ready():
                return ""
            time.sleep(POLL_SECONDS)
        code = self.process.poll()
        return "no page" if code is None else f"exit status {code}: {'; '.join(self.words())}"

    def is_ready(self) -> bool:
        """Tell whether its page has something."""
        return bool(self.samples())

    def samples(self, seconds: float = LOOK_SECONDS) -> Samples:
        """Return what its page says, nothing where there is no answer so soon."""
        try:
            with urllib.request.urlopen(f"{self._url}/metrics", timeout=seconds) as answer:
                text = answer.read().decode()
        except OSError:
            return []
        return [(name, dict(_LABEL.findall(labels)), float(value)) for name, labels, value in _SAMPLE.findall(text)]

    def stop(self) -> float | None:
        """Send SIGTERM and return how long it took."""
        return self.terminate()


class Ours(Page):
    """The real agent."""

    name = "inferwatt"

    def __init__(self, folder: Path, environment: Mapping[str, str]) -> None:
        url, home = _free_url(), folder / "home"
        home.mkdir(parents=True)
        config = home / "inferwatt.toml"
        config.write_text(
            f'[engines]\ndiscover = false\n[sources]\nsysfs_root = "{_fake_sysfs(home)}"\ncloud_metadata = false\n'
        )
        places = ("--listen", url.removeprefix("http://"), "--config", str(config))
        own = ("--state-dir", str(home / "state"), "--socket", str(home / "agent.sock"))
        super().__init__([sys.executable, "-m", "inferwatt", "agent", *places, *own], url, folder / "run", environment)
        self._began: dict[int, float] = {}
        self._troubles: list[str] = []
        self._last: Samples = []

    def start(self) -> str:
        """Wait until its page is there, and remember where its joules begin."""
        failed = super().start()
        self._began = _joules(self.samples(END_SECONDS))
        return failed

    def is_ready(self) -> bool:
        """Tell whether a device of any kind has joules."""
        return any(name == JOULES and value > 0 for name, _, value in self.samples())

    def look(self) -> Figures:
        """Return its joules since the beginning; what its health page says is kept for `words`."""
        return self._figures(LOOK_SECONDS)

    def end(self) -> Figures:
        """Return the same: it goes on until it is stopped."""
        return self._figures(END_SECONDS)

    def _figures(self, seconds: float) -> Figures:
        with contextlib.suppress(OSError), urllib.request.urlopen(f"{self._url}/healthz", timeout=seconds) as page:
            self._troubles += json.load(page)["trouble"]
        self._last = self.samples(seconds)
        if not self._last:
            return Figures(raised=f"no answer: not within {seconds:g} s")
        return Figures({gpu: value - self._began.get(gpu, 0.0) for gpu, value in _joules(self._last).items()})

    def events(self) -> Mapping[str, int]:
        """Return what it had counted of the ill GPU when it was asked last."""
        found = [(labels, value) for name, labels, value in self._last if name == EVENTS]
        return {labels["kind"]: round(value) for labels, value in found if labels["device"] == f"gpu-{ILL}"}

    def words(self) -> tuple[str, ...]:
        """Return its lacks and what its health page said."""
        return (*super().words(), *dict.fromkeys(self._troubles))


def _joules(page: Samples) -> dict[int, float]:
    """Return the joules of each GPU on our page."""
    gpus = {f"gpu-{gpu}": gpu for gpu in range(GPUS)}
    found = [(labels["device"], value) for name, labels, value in page if name == JOULES]
    return {gpus[device]: value for device, value in found if device in gpus}


class Exporter(Page):
    """nvitop's exporter."""

    name = "nvitop-exporter"

    def __init__(self, python: str, folder: Path, environment: Mapping[str, str]) -> None:
        url = _free_url()
        program = str(Path(python).with_name("nvitop-exporter"))
        port = url.rpartition(":")[2]
        super().__init__([program, "--hostname", "here", "--port", port], url, folder, environment)

    def is_ready(self) -> bool:
        """Tell whether it shows the power of a GPU."""
        return bool(self.look().watts)

    def look(self) -> Figures:
        """Return its gauges of power."""
        watts = {
            int(labels["index"]): value
            for name, labels, value in self.samples()
            if name.startswith("gpu_power_usage") and not math.isnan(value)
        }
        return Figures(watts=watts)

    def end(self) -> Figures:
        """Return the same."""
        return self.look()


def _free_url() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{probe.getsockname()[1]}"


def _fake_sysfs(home: Path) -> Path:
    """Make a sysfs in which there is one NVIDIA card: by it the agent sees that there is hardware to look for."""
    card = home / "sys" / "bus" / "pci" / "devices" / "0000:01:00.0"
    card.mkdir(parents=True)
    (card / "vendor").write_text("0x10de\n")
    (card / "class").write_text("0x030200\n")
    return home / "sys"


def lack_of(python: str, package: str) -> str:
    """Return why a peer cannot run: empty where it can."""
    if not python or shutil.which(python) is None:
        return "PEERS_PYTHON names no Python"
    code = f"from importlib.metadata import version; print(version({package!r}))"
    asked = subprocess.run([python, "-c", code], capture_output=True, text=True, check=False)
    return "" if asked.returncode == 0 else f"{package} is not installed"
