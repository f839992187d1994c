"""The real agent in a process of its own, with eight replayed devices: `python -m benchmarks.doubles.meter ...`."""

import json
import logging
import sys
import threading
from pathlib import Path
from typing import Any

from benchmarks.doubles.replayed import discover
from inferwatt.engines.servers import EnginesConfig, ServerConfig
from inferwatt.ledger.sqlite import LedgerConfig
from inferwatt.service import Agent
from inferwatt.settings import AgentConfig, AgentSection
from inferwatt.sources.sampler import SamplingConfig
from inferwatt.web.access import WebConfig


class Troubles(logging.Handler):
    """Counts what the agent logs as an error: an agent that fails over and over is not what is to be measured."""

    count = 0

    def emit(self, record: logging.LogRecord) -> None:
        """Count one."""
        self.count += 1


TROUBLES = Troubles(logging.ERROR)


def settings(folder: Path, hertz: float, server_url: str) -> AgentConfig:
    """Return the agent's defaults, but for places of its own, one rate, and no other server than the stand-in."""
    return AgentConfig(
        agent=AgentSection(state_dir=str(folder / "state"), socket=str(folder / "agent.sock")),
        sampling=SamplingConfig(idle_hz=hertz, active_hz=hertz),
        engines=EnginesConfig(discover=False, server=(ServerConfig("stand-in", server_url),)),
        ledger=LedgerConfig(),
        web=WebConfig(listen="127.0.0.1:0"),
    )


def counts(agent: Agent) -> dict[str, Any]:
    """Return what the agent has done so far."""
    values = agent.keeper.snapshot.values
    joules = values.get("inferwatt_energy_joules_total", {})
    return {
        "samples": sum(source.samples for source in agent.sampler_health().sources if source.source == "replay"),
        "requests": sum(values.get("inferwatt_requests_total", {}).values()),
        "request_uj": sum(uj for labels, uj in joules.items() if labels[2] in {"prefill", "decode"}),
        "dropped": {labels[0]: count for labels, count in values.get("inferwatt_records_dropped_total", {}).items()},
        "servers": [target.state for target in agent.scraper_health().targets],
        "missed_beats": agent.sampler_health().missed_beats,
        "errors": TROUBLES.count,
        "ledger_error": agent.keeper.ledger_error,
    }


def main() -> None:
    """Run the agent until the input ends; answer each line of it."""
    logging.getLogger("inferwatt").addHandler(TROUBLES)
    folder, hertz, server_url = Path(sys.argv[1]), float(sys.argv[2]), sys.argv[3]
    agent = Agent(settings(folder, hertz, server_url), find_sources=discover)
    agent.start()
    try:
        print(json.dumps(agent.url), flush=True)
        _answer(agent)
    finally:
        agent.stop()


def _answer(agent: Agent) -> None:
    """Watch over the agent's threads as the command does, and answer from a thread beside it."""

    def answer() -> None:
        try:
            for _ in sys.stdin:
                print(json.dumps(counts(agent)), flush=True)
        finally:
            agent.wake()

    threading.Thread(target=answer, daemon=True).start()
    agent.wait()


if __name__ == "__main__":
    main()
