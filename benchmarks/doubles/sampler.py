"""The sampler alone with eight replayed devices: `python -m benchmarks.doubles.sampler HZ`."""

import json
import sys
from collections import Counter

from benchmarks.doubles.replayed import devices
from inferwatt.clock import SystemClock
from inferwatt.sources import Emitted
from inferwatt.sources.sampler import Sampler, SamplingConfig


def main() -> None:
    """Sample until the input ends; answer each line by the number of samples."""
    hertz = float(sys.argv[1])
    taken: Counter[str] = Counter()

    def take(record: Emitted) -> None:
        taken[type(record).__name__] += 1

    sampler = Sampler(devices(), None, SystemClock(), take, config=SamplingConfig(idle_hz=hertz, active_hz=hertz))
    sampler.start()
    print('"ready"', flush=True)
    for _ in sys.stdin:
        print(json.dumps({"samples": taken["Reading"]}), flush=True)
    sampler.stop()


if __name__ == "__main__":
    main()
