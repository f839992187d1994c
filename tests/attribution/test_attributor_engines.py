"""Engines that change: another model, another device."""

import pytest

from inferwatt.records import Engine, Event, EventKind, Model
from tests.attribution.test_attributor import UJ, meter, request, run


def test_an_engine_with_another_model_learns_anew() -> None:
    """A server that came back with another model keeps its name and its devices, and nothing of what it had learnt."""
    attributor = meter(engines=[Engine("e0", "m", ("gpu-0",))])
    attributor.add_model(Model("n", flops_per_token=1e9))
    attributor.request(request("before", 0, 2, first=0.5))
    run(attributor, 2, lambda _: 100.0, last=False)

    attributor.add_engine(Engine("e0", "n", ("gpu-0",)))
    attributor.request(request("after", 3, 4, first=3.5, model="n"))
    final = run(attributor, 5, lambda _: 100.0)

    assert final["after"].energy_uj == pytest.approx(100 * UJ, rel=0.02)


def test_a_device_that_comes_later_does_not_load_a_model() -> None:
    """An engine whose model was unloaded stays so when it is placed on another device."""
    attributor = meter()
    attributor.event(Event(0, EventKind.MODEL_UNLOAD, engine="e0"))
    attributor.add_engine(Engine("e0", "m", ("gpu-0", "gpu-1")))

    run(attributor, 1, lambda _: 100.0)

    totals = attributor.devices["gpu-0"]
    assert (totals.idle_empty_uj, totals.idle_resident_uj) == (100 * UJ, 0)
