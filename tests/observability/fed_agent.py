"""A real agent process with a simulated server before it, as `inferwatt simulate --live` makes one."""

import json
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import entry_points
from pathlib import Path

from inferwatt.export.catalog import CATALOG
from inferwatt.ledger.queries import LedgerReader
from inferwatt.sources import GROUP
from inferwatt.sources.simulated import DEVICE, STATE
from tests.real.children import AgentProcess, Command
from tests.real.conftest import free_port
from tests.real.pages import wait_for

Series = dict[tuple[str, frozenset[tuple[str, str]]], float]


class FedAgent:
    """An agent, and the simulated server whose device and requests it meters; both can be stopped and started."""

    def __init__(self, folder: Path, more: str = "") -> None:
        self._folder = folder
        self._config = folder / "inferwatt.toml"
        others = sorted({entry.name for entry in entry_points(group=GROUP)} - {"simulated"})
        sources = f"[sources]\nsimulated = {json.dumps(str(folder / 'devices'))}\ndisabled = {json.dumps(others)}\n"
        self._config.write_text(f"{sources}\n[engines]\ndiscover = false\n{more}")
        self._port = free_port()
        self.simulator = Command(
            folder,
            *("simulate", "--live", "--load", "tenants", "--out", str(folder / "devices")),
            environment={"INFERWATT_SOCKET": str(folder / "agent.sock")},
        )
        try:
            wait_for("the simulated device", self._state)
            self.agent = self._started()
        except BaseException:
            self.simulator.__exit__()
            raise

    def _started(self) -> AgentProcess:
        return AgentProcess(self._folder, "--config", str(self._config), port=self._port).__enter__()

    def _state(self) -> Path | None:
        """Return where the device's counter is; None before it is there."""
        return next((path.parent / STATE for path in (self._folder / "devices").glob(f"*/{DEVICE}")), None)

    def kill(self) -> None:
        """End the agent as `kill -9` does."""
        self.agent.end(signal.SIGKILL)
        self.agent.__exit__()

    def start(self) -> None:
        """Start the next agent over the same files, on the same port."""
        self.agent = self._started()

    def close(self) -> None:
        """End both."""
        self.simulator.process.send_signal(signal.SIGCONT)
        self.simulator.__exit__()
        self.agent.__exit__()

    def counter_uj(self) -> int:
        """Return what the device itself counts."""
        state = self._state()
        assert state is not None
        return int(json.loads(state.read_text())["counter_uj"])

    @contextmanager
    def quiet(self) -> Iterator[None]:
        """Let the simulated server stand still: no joule and no request is new."""
        self.simulator.process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self.simulator.process.send_signal(signal.SIGCONT)

    def kept(self) -> Series:
        """Return every counter of the ledger, in the page's units."""
        ledger = LedgerReader.open(self.agent.ledger)
        try:
            counters = ledger.counters()
        finally:
            ledger.close()
        return {
            (name, _labels(CATALOG[name].labels, labels)): value / 10 ** CATALOG[name].decimals
            for name, series in counters.items()
            for labels, value in series.items()
        }


def _labels(names: tuple[str, ...], values: tuple[str, ...]) -> frozenset[tuple[str, str]]:
    """Return labels as a database keeps them: an empty one is none."""
    return frozenset((name, value) for name, value in zip(names, values, strict=True) if value)
