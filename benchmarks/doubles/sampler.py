"""The sampler alone with the GPUs of the stand-in NVML: `python -m benchmarks.doubles.sampler HZ FOLDER [bare]`.

FOLDER has the stand-in, and the device node by which the source sees that there is hardware. ``bare`` reads the energy
counters and nothing else, as Zeus's loop does: no processes, no condition.
"""

import json
import sys

from inferwatt.clock import SystemClock
from inferwatt.records import Reading
from inferwatt.sources import Emitted, Source, SourcesConfig
from inferwatt.sources.nvml import NvmlGpu, find
from inferwatt.sources.nvml_api import SESSION
from inferwatt.sources.sampler import Sampler, SamplingConfig

NEVER_NS = 1 << 62


def gpus(folder: str, *, bare: bool) -> tuple[Source, ...]:
    """Return the GPUs; `bare` ones owe nothing but their counters."""
    sources = find(SourcesConfig(sysfs_root=folder), SESSION, dev_root=folder).sources
    for source in sources:
        if bare and isinstance(source, NvmlGpu):
            source._due_ns = NEVER_NS
    return sources


def main() -> None:
    """Sample until the input ends; answer each line by the number of samples."""
    hertz = float(sys.argv[1])
    samples = 0

    def take(record: Emitted) -> None:
        nonlocal samples
        if record.__class__ is Reading:
            samples += 1

    sources = gpus(sys.argv[2], bare="bare" in sys.argv[3:])
    sampler = Sampler(sources, None, SystemClock(), take, config=SamplingConfig(idle_hz=hertz, active_hz=hertz))
    sampler.start()
    print('"ready"', flush=True)
    for _ in sys.stdin:
        print(json.dumps({"samples": samples}), flush=True)
    sampler.stop()


if __name__ == "__main__":
    main()
