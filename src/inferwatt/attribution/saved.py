"""What was learnt of a model on a kind of device, kept for the next time: an agent that starts knows its servers. Pure.

What is resumed counts as a few observations only, so that another world (a new driver, another power cap) is learnt
as soon as it is seen. It is taken only by a model of the same shape: the shape is the unit of what was learnt.
"""

from collections.abc import Iterable
from dataclasses import astuple

from inferwatt.attribution.costmodel import CostModel
from inferwatt.attribution.engine import EngineState
from inferwatt.attribution.power import Power
from inferwatt.records import Device, Fit

Key = tuple[str, str, int, tuple[float, ...]]


class Fits:
    """What was learnt another time."""

    def __init__(self, fits: Iterable[Fit]) -> None:
        self._known: dict[Key, Fit] = {(fit.model, fit.device_kind, fit.devices, fit.shape): fit for fit in fits}

    def resume(self, engine: EngineState, power: Power, cost: CostModel) -> None:
        """Let what is about to be learnt begin where it ended."""
        fit = self._known.get(_key(engine, power.device))
        if fit is not None:
            cost.resume(fit.energy)
            cost.time.resume(fit.step_time)
            engine.lives.pace.resume(fit.pace)
            power.lag.suppose(fit.lag_ns, fit.window_ns)
            power.idle.suppose(fit.idle_watts)


def fit_of(engine: EngineState, power: Power, cost: CostModel) -> Fit:
    """Return what is learnt by now."""
    return Fit(
        *_key(engine, power.device),
        energy=cost.saved(),
        step_time=cost.time.saved(),
        pace=engine.lives.pace.saved(),
        lag_ns=power.lag.ns,
        window_ns=power.lag.window_ns,
        idle_watts=power.idle.watts,
    )


def _key(engine: EngineState, device: Device) -> Key:
    return engine.engine.model, device.kind, len(engine.engine.devices), astuple(engine.shape)
