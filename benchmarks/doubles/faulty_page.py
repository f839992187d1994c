"""docs/sources/faults.md from what was seen: every figure and every sentence of its tables. Pure."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from benchmarks.doubles.faulty_rows import ILL, RIGHT_TICKS, STANDS_RATIO, Scene, row, sentence

HEAD = f"""# A GPU that fails: four meters over the same faults

*Written by `make bench-faults ARGS=--write`: change it there. No real GPU: all four read one stand-in for NVIDIA's
library, a C program of ours that answers as NVIDIA's nvml.h says.*

Eight GPUs at 300 W, whose counters move every 100 ms; number {ILL} falls ill, the others are well. Each meter runs
unmodified in a process of its own, all of them at once. What was really used is known from the stand-in's own counters.

"""

DETAILS = f"""
"Right" is within {RIGHT_TICKS} ticks of each counter; the figures are below. "Meanwhile" is while the fault lasts: from
1.5 s after it began, for 2.5 s, in which GPU 0 goes from 300 W to 200 W.
"""

COLUMNS = (
    "meter",
    "the seven",
    f"GPU {ILL}",
    "a negative joule",
    "the seven went on meanwhile",
    "raised",
    "to stop",
    f"what it says of GPU {ILL}",
)

HOW = f"""## How it was made

`make bench-faults` plays the faults anew and prints what it sees; `ARGS=--write` writes this page. It needs a C
compiler. Each sentence is made from the figures by the same rules for all four meters.

- **inferwatt**: the agent with its defaults; joules are `inferwatt_device_energy_joules_total`, what it says are
  `inferwatt_device_events_total` of GPU {ILL}, its lacks at the start and `trouble` of `/healthz`. Stop: SIGTERM.
- **Zeus**: `ZeusMonitor` with one window around everything, and a second one that ends at each look ("meanwhile"),
  both with `sync_execution=False`. Stop: from `end_window` to the end of the process.
- **CodeCarbon**: `OfflineEmissionsTracker(measure_power_secs=0.5)`, as it tells an output handler of each
  measurement; it tells the GPUs' energy in one sum. Stop: from `stop()` to the end of the process.
- **nvitop-exporter**: the program with its defaults (an update each second); gauges of power, no energy. Stop:
  SIGTERM.

The seven went on if their joules grew by more than {STANDS_RATIO:.0%} of what they used between two looks; a gauge, if
it showed the new power of GPU 0. A gauge in the tables is the one of the second look. The hanging call comes back 6 s
after the meters were told to stop; what GPU {ILL} used meanwhile can be known only then. Before and after the window
the GPUs draw 1 W, so that it matters little when exactly a meter begins and ends. This is one run: what depends on the
moment of a fault, or on what else the machine does, can differ in another.
"""


def page(scenes: Sequence[Scene], machine: Mapping[str, Any], date: str) -> str:
    """Return the whole page."""
    meters = [seen.tool for seen in scenes[0].seen]
    overview = table(
        ("fault", *meters),
        ([f"**{scene.fault}**", *(sentence(seen, scene) for seen in scene.seen)] for scene in scenes),
    )
    return "\n".join([HEAD.rstrip(), "", overview, DETAILS, *map(section, scenes), HOW, _made_on(machine, date), ""])


def section(scene: Scene) -> str:
    """Return one fault in figures."""
    until = "" if scene.until_ill is None else f", {scene.until_ill:,.0f} J of it until then"
    truth = f"Really used: the seven {scene.seven:,.0f} J, GPU {ILL} {scene.truth[ILL]:,.0f} J{until}."
    return f"## {scene.fault}\n\n{truth}\n\n{table(COLUMNS, map(row, scene.seen))}\n"


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table in Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def _made_on(machine: Mapping[str, Any], date: str) -> str:
    return f"Made on {date}: " + ", ".join(f"{name} {value}" for name, value in machine.items()) + "."
