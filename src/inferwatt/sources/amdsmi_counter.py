"""AMD's energy accumulator: its unit, and whether it agrees with the power sensor. Pure.

The firmware counts in units of 2^-16 J = 15.2588 µJ (Linux, ``kgd_pp_interface.h``, from gpu_metrics_v1_4 on: "Energy
(15.259uJ (2^-16) units)"; ``amdsmi.h``, ``energy_accumulator``: "15.259uJ"). The library hands out 15.3 instead
(``rocm_smi.cc``: ``kEnergyCounterResolution = 15.3F``, "hard-coded for now since all ASICs have same resolution"):
0.27% too much. That rounded constant is read as what it stands for; any other resolution is taken at its word.

Some accumulators are wrong: standing still for the life of a process (rocm_smi_lib issue 180, MI210), standing still or
far too slow (amdsmi issues 22 and 38, MI100; Zeus issue 113). Nothing is corrected here. It is compared and told.
"""

from functools import lru_cache
from math import isfinite

from inferwatt.units import NS_PER_SECOND, PJ_PER_UJ

EXACT = (15_625, 1_024)
"""10^6 µJ / 2^16, reduced."""
_ROUNDED_FROM, _ROUNDED_TO = 15.25, 15.35
_NO_VALUE = frozenset({0xFFFFFFFF, 0xFFFFFFFFFFFFFFFF})
"""All bits set is "not there", in 32 bits or in 64."""
_LEAST_MW = 5_000
"""Below this a sensor in whole watts says too little to compare with."""
_MOST_FACTOR = 3
_WINDOW_NS = 10 * NS_PER_SECOND
_MOST_GAP_NS = 3 * NS_PER_SECOND


@lru_cache(maxsize=8)
def unit_uj(resolution: float) -> tuple[int, int] | None:
    """Return one count in µJ as an exact fraction; None for a resolution that is none."""
    if _ROUNDED_FROM <= resolution <= _ROUNDED_TO:
        return EXACT
    if not isfinite(resolution) or resolution <= 0:
        return None
    return resolution.as_integer_ratio()


def counter_uj(accumulator: int, resolution: float) -> int | None:
    """Return the counter in whole µJ, rounded down; None where the driver has no value."""
    unit = unit_uj(resolution)
    if unit is None or accumulator in _NO_VALUE:
        return None
    return accumulator * unit[0] // unit[1]


class CounterCheck:
    """Compares the counter with the power sensor, over windows of 10 s, and says once when they disagree threefold.

    The factor is ours, wide enough for a sensor of averages read once a second; Zeus allows ten (``gpu/amd.py``).
    """

    def __init__(self) -> None:
        self._began: tuple[int, int] | None = None
        self._last: tuple[int, int, int] = (0, 0, 0)
        self._sensed_pj = 0
        self._said = False

    def add(self, t_ns: int, now_uj: int, power_mw: int | None) -> str:
        """Take both at `t_ns`; return what is wrong with the counter, once, and nothing else."""
        if self._said:
            return ""
        last_ns, last_uj, last_mw = self._last
        self._last = (t_ns, now_uj, power_mw or 0)
        began = self._began
        if began is None or power_mw is None or now_uj < last_uj or t_ns - last_ns > _MOST_GAP_NS:
            self._began = None if power_mw is None else (t_ns, now_uj)
            self._sensed_pj = 0
            return ""
        self._sensed_pj += (last_mw + power_mw) * (t_ns - last_ns) // 2
        if t_ns - began[0] < _WINDOW_NS:
            return ""
        counted_uj, elapsed_ns = now_uj - began[1], t_ns - began[0]
        self._began = (t_ns, now_uj)
        wrong = _judged(counted_uj, self._sensed_pj, elapsed_ns)
        self._sensed_pj = 0
        self._said = bool(wrong)
        return wrong


def _judged(counted_uj: int, sensed_pj: int, elapsed_ns: int) -> str:
    """Return how the counter disagrees with the sensor; empty where it does not, or too little power flowed to tell."""
    sensed_uj = sensed_pj // PJ_PER_UJ
    if sensed_pj < _LEAST_MW * elapsed_ns or sensed_uj <= _MOST_FACTOR * counted_uj <= _MOST_FACTOR**2 * sensed_uj:
        return ""
    counted_watts, sensed_watts = (round(uj * 1000 / elapsed_ns) for uj in (counted_uj, sensed_uj))
    if not counted_uj:
        return f"the energy counter stands still while the power sensor says {sensed_watts} W"
    return f"the energy counter says {counted_watts} W while the power sensor says {sensed_watts} W"
