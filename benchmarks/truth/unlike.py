"""Worlds unlike those of loads.toml: other models, cards, loads, meters and conditions; one thing at a time is changed.

Nothing was chosen by looking at them. Shapes are those of models' published configurations; what cards reach of their
data sheets, and what they draw, is plausible and not measured.
"""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np

from inferwatt.records import Model
from inferwatt.simulate.climate import Climate
from inferwatt.simulate.costs import EXPERTS, SHAPE, Costs
from inferwatt.simulate.engine import Scheduler
from inferwatt.simulate.loads import LOADS, Kind, Lengths, Load
from inferwatt.simulate.meter import Meter
from inferwatt.simulate.witness import Witness
from inferwatt.simulate.world import CARD, World

MODELS = {
    "1b": Model("1b", 2.5e9, 2.5e9, 131072.0, 32768.0),
    "3b": Model("3b", 6.4e9, 6.4e9, 344064.0, 114688.0),
    "7b-mha": Model("7b-mha", 13.5e9, 13.5e9, 524288.0, 524288.0),
    "8b": SHAPE,
    "8b-fp8": replace(SHAPE, model="8b-fp8", weight_bytes=8e9, kv_bytes_per_token=65536.0),
    "14b": Model("14b", 29.5e9, 29.5e9, 983040.0, 196608.0),
    "32b": Model("32b", 65e9, 65e9, 1310720.0, 262144.0),
    "70b": Model("70b", 141e9, 141e9, 2621440.0, 327680.0),
    "30b-a3b": EXPERTS,
    "8x7b": Model("8x7b", 93.4e9, 25.8e9, 524288.0, 131072.0, 8, 2, 90.2e9),
    "120b-a5b": Model("120b-a5b", 63e9, 10.2e9, 589824.0, 73728.0, 128, 4, 60e9),
}
CARDS = {
    "h100": (Costs(), (989e12, 3.35e12)),
    "a100": (Costs(190e12, 1.55e12, 1.3e-3, 0.0, 90.0, 55.0, 1.0e-12, 85e-12), (312e12, 2.04e12)),
    "l4": (Costs(62e12, 0.24e12, 0.8e-3, 0.0, 24.0, 17.0, 0.6e-12, 95e-12), (121e12, 0.3e12)),
    "mi300x": (Costs(620e12, 3.6e12, 1.6e-3, 0.0, 260.0, 140.0, 0.65e-12, 55e-12), (1307e12, 5.3e12)),
    "b200": (Costs(1200e12, 6.2e12, 0.9e-3, 0.0, 300.0, 140.0, 0.4e-12, 45e-12), (2250e12, 8e12)),
}
"""What a card truly costs, and the peaks of its data sheet (dense 16-bit FLOP/s, bytes/s)."""
SERVED = (
    ("1b", "h100", 1), ("1b", "l4", 1), ("3b", "a100", 1), ("8b", "l4", 1), ("8b", "mi300x", 1), ("8b-fp8", "b200", 1),
    ("7b-mha", "a100", 1), ("14b", "a100", 2), ("32b", "h100", 2), ("70b", "h100", 4), ("70b", "a100", 8),
    ("30b-a3b", "h100", 2), ("8x7b", "a100", 4), ("120b-a5b", "h100", 1),
)  # fmt: skip
"""Which model on how many of which card."""
_TENSOR_PARALLEL = 0.85
"""What of a card's speed is left in a group; each doubling costs 3 ms a step besides."""


def _kinds(prompt: float, spread: float, output: float, output_spread: float) -> tuple[Kind, ...]:
    return (Kind(Lengths(prompt, spread, 8, 32000), Lengths(output, output_spread, 1, 4096)),)


_MIXED = (
    Kind(Lengths(9000, 0.4, 500, 30000), Lengths(300, 0.6, 8, 1000), 0.2, "documents"),
    Kind(Lengths(150, 0.7, 8, 2000), Lengths(250, 0.6, 8, 1500), 0.6, "chat"),
    Kind(Lengths(400, 0.5, 8, 2000), Lengths(1200, 0.5, 100, 3000), 0.2, "reasoning"),
)
LOADS_UNLIKE = {
    **{name: LOADS[name] for name in ("chat", "mixed", "long", "tenants", "prefixes", "azure")},
    "retrieval": Load(_kinds(4000, 0.5, 120, 0.6), 1.0),
    "completion": Load(_kinds(1500, 0.8, 30, 0.8), 1.0),
    "reasoning": Load(_kinds(300, 0.7, 1500, 0.5), 1.0),
    "embedding": Load(_kinds(512, 0.7, 1, 0.0), 1.0),
    "summary": Load(_kinds(12000, 0.5, 250, 0.4), 1.0),
    "same": Load(_kinds(512, 0.0, 128, 0.0), 1.0),
    "agents": Load((replace(_kinds(800, 0.8, 120, 0.8)[0], prefixes=12, prefix=Lengths(6000, 0.6, 500, 20000)),), 1.0),
    "three": Load(_MIXED, 1.0),
    "bursts": replace(LOADS["bursty"], burst_seconds=3.0, burst_ratio=6.0),
}
METERS: dict[str, dict[str, Any]] = {
    "tick 10 ms": {"tick_seconds": 0.01}, "tick 20 ms": {"tick_seconds": 0.02}, "tick 33 ms": {"tick_seconds": 0.033},
    "tick 50 ms": {"tick_seconds": 0.05}, "tick 250 ms": {"tick_seconds": 0.25}, "tick 1 s": {"tick_seconds": 1.0},
    "lag 20 ms": {"lag_seconds": 0.02}, "lag 60 ms": {"lag_seconds": 0.06}, "lag 120 ms": {"lag_seconds": 0.12},
    "lag 200 ms": {"lag_seconds": 0.2}, "mean of 50 ms": {"window_seconds": 0.05},
    "mean of 100 ms": {"window_seconds": 0.1}, "mean of 300 ms": {"window_seconds": 0.3},
    "mean of 1 s": {"window_seconds": 1.0},
    "all of it": {"tick_seconds": 0.02, "lag_seconds": 0.1, "window_seconds": 0.1},
    "no noise": {"noise_ratio": 0.0}, "noise 3%": {"noise_ratio": 0.03}, "noise 8%": {"noise_ratio": 0.08},
    "jitter 20 ms": {"jitter_seconds": 0.02}, "poll 100 ms": {"poll_seconds": 0.1},
    "poll 1 s": {"poll_seconds": 1.0}, "lost 10%": {"lost_ratio": 0.1}, "failed 5%": {"failed_ratio": 0.05},
    "power": {"shows_power": True}, "power 20 ms": {"shows_power": True, "tick_seconds": 0.02},
    "power of 1 s": {"shows_power": True, "window_seconds": 1.0},
}  # fmt: skip
CONDITIONS: dict[str, dict[str, Any]] = {
    "512 tokens a step": {"scheduler": Scheduler(512, 32)}, "8192 tokens a step": {"scheduler": Scheduler(8192, 64)},
    "no chunks": {"scheduler": Scheduler(65536, 64)}, "four sequences": {"scheduler": Scheduler(2048, 4)},
    "full cache": {"scheduler": Scheduler(2048, 64, 40000)},
    "drafts": {"scheduler": Scheduler(2048, 32, None, 4, 1.0, 0.6)},
    "cap": {"climate": Climate(cap_watts=350.0, cap_after_seconds=8.0)},
    "cap untold": {"climate": Climate(cap_watts=350.0, cap_after_seconds=8.0, cap_told=False)},
    "heat": {"climate": Climate(heat_ratio=0.2, heat_seconds=8.0)},
    "clocks": {"climate": Climate(clock_swing=0.3, swing_seconds=5.0)},
    "soft": {"costs": {"roofline_power": 2.0, "flop_exponent": 1.15}}, "steep": {"costs": {"flop_exponent": 1.4}},
    "overhead": {"costs": {"overhead_seconds": 6e-3, "overhead_seconds_per_member": 3e-4}},
    "bytes dear": {"costs": {"joules_per_flop": 0.1e-12, "joules_per_byte": 130e-12}},
    "bytes cheap": {"costs": {"joules_per_flop": 1.5e-12, "joules_per_byte": 10e-12}}, "uneven": {"uneven": True},
    "breaks of 2 ms": {"witness": Witness(hidden_seconds=0.002)}, "seen 20 ms late": {"witness": Witness(0.02)},
    "seen 100 ms late": {"witness": Witness(0.1)}, "chunks": {"witness": Witness(chunks=True)},
    "sums": {"witness": Witness(sums="step")}, "passes": {"witness": Witness(sums="passes")},
    "no idle": {"lead_seconds": 0.0, "tail_seconds": 0.0},
    "no shape": {"told_peaks": False, "told_shape": Model(SHAPE.model)},
}  # fmt: skip


def worlds(requests: int) -> Iterator[tuple[str, World]]:
    """Yield the worlds by name, each with so many requests."""
    for model, card, count in SERVED:
        for load in ("mixed", "retrieval"):
            yield f"{model} on {count} {card}, {load}", world(load, requests, 77, model=model, card=card, count=count)
    for load in LOADS_UNLIKE:
        for busy in (0.08, 0.5, 1.2):
            yield f"{load} at {busy:.0%}", world(load, requests, 78, busy=busy)
    for load in ("mixed", "long"):
        for name, meter in METERS.items():
            yield f"{name}, {load}", world(load, requests, 79, meter=Meter(**{"noise_ratio": 0.01, **meter}))
        for name, condition in CONDITIONS.items():
            yield f"{name}, {load}", world(load, requests, 80, **condition)


def world(
    load: str,
    requests: int,
    seed: int,
    *,
    model: str = "8b",
    card: str = "h100",
    count: int = 1,
    busy: float = 0.5,
    costs: dict[str, Any] | None = None,
    **more: Any,  # noqa: ANN401 - whatever a world has
) -> World:
    """Return a world in which so many cards are busy for this part of the time (above 1: requests queue)."""
    shape, (truth, (peak_flops, peak_bytes)) = MODELS[model], CARDS[card]
    truth = replace(_grouped(truth, count), **(costs or {}))
    chosen = LOADS_UNLIKE[load]
    chosen = replace(chosen, requests=requests, rate_per_second=busy / _seconds(chosen, shape, truth))
    shares = tuple((np.linspace(1.03, 0.97, count) / count).tolist()) if count > 1 else (1.0,)
    told = replace(CARD, peak_flops=peak_flops, peak_bytes_per_second=peak_bytes)
    given = {"meter": Meter(noise_ratio=0.01), **more}
    return World(chosen, seed=seed, costs=truth, shape=shape, device_shares=shares, card=told, **given)


def _grouped(costs: Costs, count: int) -> Costs:
    """Return what so many cards together cost."""
    if count == 1:
        return costs
    return replace(
        costs,
        peak_flops=costs.peak_flops * count * _TENSOR_PARALLEL,
        peak_bytes_per_second=costs.peak_bytes_per_second * count * _TENSOR_PARALLEL,
        static_watts=costs.static_watts * count,
        idle_watts=costs.idle_watts * count,
        overhead_seconds=costs.overhead_seconds + 0.003 * float(np.log2(count)),
    )


def _seconds(load: Load, shape: Model, costs: Costs, batch: int = 16) -> float:
    """Return about how long a request of a load takes, where so many decode together."""
    rng = np.random.default_rng(0)
    whole = sum(kind.weight for kind in load.kinds)
    seconds = 0.0
    for kind in load.kinds:
        prompt, output = (float(lengths.draw(2000, rng).mean()) for lengths in (kind.prompt, kind.output))
        untouched = (1 - (shape.experts_per_token or 0) / (shape.experts or 1)) ** batch * (shape.expert_bytes or 0.0)
        read = (
            (shape.weight_bytes or 0.0) - untouched + batch * (prompt + output / 2) * (shape.kv_bytes_per_token or 0.0)
        )
        flops = prompt * ((shape.flops_per_token or 0.0) + (shape.attention_flops_per_token_pair or 0.0) * prompt / 2)
        step = costs.overhead_seconds + read / costs.peak_bytes_per_second
        seconds += kind.weight / whole * (flops / costs.peak_flops + output * step / batch)
    return seconds
