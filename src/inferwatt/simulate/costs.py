"""What a step of an engine really costs: seconds and joules of any set of its members. Pure.

A set of members is told by four sums: FLOPs, KV bytes, tokens and members. A step's cost is a function of those and of
the conditions in force (clock, heat), so the truth of a request can be computed for any form of that function.
The constants are those of an 8-billion-parameter dense model on an accelerator like an H100: plausible, not measured.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from inferwatt.records import Model

Floats = npt.NDArray[np.float64]

SHAPE = Model(
    "sim-8b",
    weight_bytes=16e9,
    flops_per_token=16e9,
    attention_flops_per_token_pair=524288.0,
    kv_bytes_per_token=131072.0,
)
EXPERTS = Model(
    "sim-30b-a3b",
    weight_bytes=61e9,
    flops_per_token=6.6e9,
    attention_flops_per_token_pair=786432.0,
    kv_bytes_per_token=98304.0,
    experts=128,
    experts_per_token=8,
    expert_bytes=58e9,
)
"""A mixture of experts of the shape of Qwen3-30B-A3B (config.json: 48 layers, 128 experts, 8 a token, 4 KV heads)."""
FLOPS, KV_BYTES, TOKENS, MEMBERS = range(4)
"""The columns of a member's work."""


@dataclass(frozen=True, slots=True)
class Costs:
    """The true constants of a model on its devices, all of them together.

    `roofline_power` is the p of the p-norm that joins compute and memory time (None: the longer of the two, a hard
    roofline); `flop_exponent` above one lets a step's FLOP energy grow faster than its FLOPs, from `flop_scale` on.
    Where `follows_work` is false, power is `static_watts` whatever runs.
    """

    peak_flops: float = 495e12
    peak_bytes_per_second: float = 2.68e12
    overhead_seconds: float = 1e-3
    overhead_seconds_per_member: float = 0.0
    static_watts: float = 180.0
    idle_watts: float = 75.0
    joules_per_flop: float = 0.7e-12
    joules_per_byte: float = 70e-12
    roofline_power: float | None = None
    flop_exponent: float = 1.0
    flop_scale: float = 1e13
    follows_work: bool = True


@dataclass(frozen=True, slots=True)
class Condition:
    """What holds while a step runs: the clock as a part of its highest, and a factor on all of its power."""

    clock_ratio: float = 1.0
    power_ratio: float = 1.0


def member_work(shape: Model, new: Floats, context: Floats) -> Floats:
    """Return each member's work, shape (members, 4): its FLOPs, the KV bytes that it touches, its tokens, and one."""
    flops = new * (shape.flops_per_token or 0.0)
    flops = flops + (shape.attention_flops_per_token_pair or 0.0) * new * (context + new / 2)
    kv_bytes = (shape.kv_bytes_per_token or 0.0) * (context + new)
    return np.stack([flops, kv_bytes, new.astype(np.float64), np.ones(len(new))], axis=-1)


class StepCosts:
    """The cost function of one model on its devices: v(S) of any set of members, and whether it is a plain sum."""

    def __init__(self, costs: Costs, shape: Model) -> None:
        self.costs = costs
        self.shape = shape

    def seconds(self, sums: Floats, clock_ratio: Floats | float = 1.0) -> Floats:
        """Return how long a step takes; `sums` has shape (..., 4)."""
        costs = self.costs
        compute = sums[..., FLOPS] / (costs.peak_flops * clock_ratio)
        memory = self._bytes(sums) / costs.peak_bytes_per_second
        if costs.roofline_power is None:
            roof = np.maximum(compute, memory)
        else:
            longer = np.maximum(compute, memory)
            ratio = np.divide(np.minimum(compute, memory), longer, out=np.zeros_like(longer), where=longer > 0)
            roof = longer * (1.0 + ratio**costs.roofline_power) ** (1 / costs.roofline_power)
        result: Floats = costs.overhead_seconds + costs.overhead_seconds_per_member * sums[..., MEMBERS] + roof
        return result

    def joules(self, sums: Floats, clock_ratio: Floats | float = 1.0, power_ratio: Floats | float = 1.0) -> Floats:
        """Return what a step uses; `sums` has shape (..., 4)."""
        costs = self.costs
        total = costs.static_watts * self.seconds(sums, clock_ratio)
        if costs.follows_work:
            flops = sums[..., FLOPS]
            if costs.flop_exponent != 1.0:
                flops = flops * (1.0 + flops / costs.flop_scale) ** (costs.flop_exponent - 1.0)
            total = total + costs.joules_per_flop * flops * clock_ratio**2 + costs.joules_per_byte * self._bytes(sums)
        result: Floats = total * power_ratio
        return result

    def is_affine(self, work: Floats, clock_ratio: Floats) -> npt.NDArray[np.bool_]:
        """Tell of each step whether its cost is a constant and a sum over members, whichever members are there.

        `work` has shape (steps, members, 4). So it is where memory is the longer time for every set of members.
        """
        costs = self.costs
        if costs.roofline_power is not None or costs.flop_exponent != 1.0 or self.shape.experts:
            return np.zeros(len(work), dtype=np.bool_)
        compute = work[..., FLOPS] / (costs.peak_flops * clock_ratio[:, None])
        ahead = np.maximum(compute - work[..., KV_BYTES] / costs.peak_bytes_per_second, 0.0).sum(axis=1)
        result: npt.NDArray[np.bool_] = ahead <= (self.shape.weight_bytes or 0.0) / costs.peak_bytes_per_second
        return result

    def _bytes(self, sums: Floats) -> Floats:
        """Weights read once whatever the batch (of a mixture, the experts that the tokens touch), and KV bytes."""
        shape = self.shape
        weights: Floats | float = shape.weight_bytes or 0.0
        if shape.experts and shape.expert_bytes and shape.experts_per_token:
            untouched = (1.0 - shape.experts_per_token / shape.experts) ** sums[..., TOKENS]
            weights = weights - shape.expert_bytes * untouched
        result: Floats = weights + sums[..., KV_BYTES]
        return result
