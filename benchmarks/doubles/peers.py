"""One peer at work, in the Python that has it: reads eight devices at a steady rate until its input ends.

Run by path, not as a module: `PEERS_PYTHON peers.py zeus_loop|zeus_windows|codecarbon HZ`, with the stand-in NVML on
LD_LIBRARY_PATH. Each line on its input is answered by the number of samples so far: devices times beats, counted by
the stand-in's energy readings (a window of Zeus's monitor reads twice a beat: at its end, and at the next one's begin).
"""

import ctypes
import logging
import os
import sys
import threading
import time
from collections.abc import Callable
from importlib import import_module

DEVICES = 8


def zeus_loop(period_seconds: float) -> None:
    """Zeus's cheapest path: the total energy of each device, in a plain loop."""
    gpus = import_module("zeus.device.gpu").get_gpus()
    at_beats(period_seconds, lambda: [gpus.get_total_energy_consumption(index) for index in range(DEVICES)])


def zeus_windows(period_seconds: float) -> None:
    """Zeus's own monitor, one window after the other; `sync_execution` would ask for torch."""
    monitor = import_module("zeus.monitor").ZeusMonitor(gpu_indices=list(range(DEVICES)))

    def window() -> None:
        if monitor.measurement_states:
            monitor.end_window("window", sync_execution=False)
        monitor.begin_window("window", sync_execution=False)

    at_beats(period_seconds, window)


def codecarbon(period_seconds: float) -> None:
    """CodeCarbon's tracker, offline, without its file; it measures in a thread of its own."""
    tracker = import_module("codecarbon").OfflineEmissionsTracker(
        country_iso_code="FRA",
        measure_power_secs=period_seconds,
        save_to_file=False,
        log_level="critical",
        allow_multiple_runs=True,
    )
    tracker.start()


def at_beats(period_seconds: float, work: Callable[[], object]) -> None:
    """Call `work` at steady beats, in a thread as every sampler of ours."""

    def run() -> None:
        due = time.monotonic()
        while True:
            work()
            due += period_seconds
            time.sleep(max(due - time.monotonic(), 0.0))

    threading.Thread(target=run, daemon=True).start()


def main() -> None:
    """Start the peer, say so, and answer."""
    logging.disable(logging.CRITICAL)
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what a peer's import prints must not stand among the answers
    peers = {"zeus_loop": zeus_loop, "zeus_windows": zeus_windows, "codecarbon": codecarbon}
    readings_a_sample = 2 if sys.argv[1] == "zeus_windows" else 1
    peers[sys.argv[1]](1.0 / float(sys.argv[2]))
    stand_in = ctypes.CDLL("libnvidia-ml.so.1")
    print('"ready"', file=answers, flush=True)
    for _ in sys.stdin:
        print(f'{{"samples": {stand_in.stand_in_energy_reads() // readings_a_sample}}}', file=answers, flush=True)


if __name__ == "__main__":
    main()
