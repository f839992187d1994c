"""One peer under a fault, in the Python that has it, unmodified: `PEERS_PYTHON faulty.py Zeus|CodeCarbon`.

Its first line says whether it could start. Each word on its input is answered by a line of JSON: `look` is what a user
would see in mid-run, `end` what he gets at the end, after which it ends. What it raises is told, and never kept back.
"""

import json
import os
import sys
from collections.abc import Callable
from importlib import import_module
from typing import Any

JOULES_PER_KWH = 3_600_000.0


class Zeus:
    """Zeus's monitor with two windows: one for all of the run, and one that ends at each look."""

    def __init__(self) -> None:
        self._monitor = import_module("zeus.monitor").ZeusMonitor()
        self._joules = dict.fromkeys(self._monitor.gpu_indices, 0.0)
        for window in ("whole", "look"):
            self._monitor.begin_window(window, sync_execution=False)

    def look(self) -> dict[str, Any]:
        """End a window, begin the next one, and tell what all of them came to."""
        met = self._monitor.end_window("look", sync_execution=False).gpu_energy
        for gpu, joules in met.items():
            self._joules[gpu] += joules
        self._monitor.begin_window("look", sync_execution=False)
        return {"joules": self._joules}

    def end(self) -> dict[str, Any]:
        """End the window of all of the run."""
        return {"joules": self._monitor.end_window("whole", sync_execution=False).gpu_energy}


class CodeCarbon:
    """CodeCarbon's tracker, offline, as it tells an output handler of each measurement; GPUs in one sum."""

    def __init__(self) -> None:
        self._kwh: float | None = None
        told, told_base = self, import_module("codecarbon.output_methods.base_output").BaseOutput

        class Handler(told_base):  # type: ignore[misc, valid-type]
            """Keeps the newest total."""

            def live_out(self, total: Any, delta: object) -> None:  # noqa: ANN401 - CodeCarbon's own
                """Take it."""
                told._kwh = total.gpu_energy

        self._tracker = import_module("codecarbon").OfflineEmissionsTracker(
            country_iso_code="FRA",
            measure_power_secs=0.5,
            api_call_interval=1,
            save_to_file=False,
            log_level="warning",
            allow_multiple_runs=True,
            output_handlers=[Handler()],
        )
        self._tracker.start()

    def look(self) -> dict[str, Any]:
        """Return the newest total that it told."""
        return {} if self._kwh is None else {"whole": self._kwh * JOULES_PER_KWH}

    def end(self) -> dict[str, Any]:
        """Stop it and return its final total, none where there is none."""
        self._tracker.stop()
        final = getattr(self._tracker, "final_emissions_data", None)
        return {} if final is None else {"whole": final.gpu_energy * JOULES_PER_KWH}


def told(work: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """Return what came of it, or what it raised."""
    try:
        return work()
    except Exception as exc:  # noqa: BLE001 - whatever a peer raises is the finding
        return {"raised": f"{type(exc).__name__}: {exc}"}


def main() -> None:
    """Start the peer, say so, and answer."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what a peer prints must not stand among the answers
    peer: Zeus | CodeCarbon | None = None

    def start() -> dict[str, Any]:
        nonlocal peer
        peer = Zeus() if sys.argv[1] == "Zeus" else CodeCarbon()
        return {}

    print(json.dumps(told(start)), file=answers, flush=True)
    for line in sys.stdin if peer is not None else ():
        word = line.strip()
        print(json.dumps(told(getattr(peer, word))), file=answers, flush=True)
        if word == "end":
            return


if __name__ == "__main__":
    main()
