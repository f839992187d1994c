"""Units: the only constants and the only conversions. Energy inside is integer microjoules, time is nanoseconds."""

from collections.abc import Mapping

NS_PER_SECOND = 1_000_000_000
NS_PER_MS = 1_000_000
UJ_PER_JOULE = 1_000_000
PJ_PER_UJ = 1_000_000
"""Picojoules per microjoule; one milliwatt for one nanosecond is one picojoule."""
JOULES_PER_KWH = 3_600_000


def joules(uj: float) -> float:
    """Convert microjoules to joules."""
    return uj / UJ_PER_JOULE


def named_joules(energies_uj: Mapping[str, float]) -> dict[str, float]:
    """Return energies in joules, each under its name with the unit in it: `{"idle": 5}` as `{"idle_joules": 5e-06}`."""
    return {f"{name}_joules": joules(uj) for name, uj in energies_uj.items()}


def microjoules(energy_joules: float) -> int:
    """Convert joules to whole microjoules, rounded to nearest."""
    return round(energy_joules * UJ_PER_JOULE)


def seconds(ns: float) -> float:
    """Convert nanoseconds to seconds."""
    return ns / NS_PER_SECOND


def nanoseconds(time_seconds: float) -> int:
    """Convert seconds to whole nanoseconds, rounded to nearest."""
    return round(time_seconds * NS_PER_SECOND)


def watts(energy_uj: float, elapsed_ns: float) -> float:
    """Return the mean power, in watts, of `energy_uj` microjoules over `elapsed_ns` nanoseconds (> 0)."""
    return energy_uj * 1000.0 / elapsed_ns
