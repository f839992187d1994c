"""A general plugin of vLLM that lets its CPU gather and scatter between data-parallel ranks, as GPUs do.

vLLM 0.32's CPU communicator lacks the two collectives that the experts of a data-parallel model need
(`distributed/device_communicators/base_device_communicator.py` raises NotImplementedError), so that the engine with
dummy steps cannot run there without them. Each dummy step is written to the log. `server.py` gives vLLM this file.
"""

import sys
from typing import Any


def register() -> None:
    """Give the communicator what it lacks; called by vLLM in each of its processes."""
    from vllm.distributed.device_communicators import (  # type: ignore[import-not-found, unused-ignore]
        cpu_communicator,
    )
    from vllm.v1.engine.core import EngineCore  # type: ignore[import-not-found, unused-ignore]

    communicator = cpu_communicator.CpuCommunicator
    communicator.all_gatherv, communicator.reduce_scatterv = all_gatherv, reduce_scatterv
    dummy = EngineCore.execute_dummy_batch

    def counted(self: Any) -> None:
        dummy(self)
        sys.stderr.write(f"a dummy step of engine {self.engine_index}\n")

    EngineCore.execute_dummy_batch = counted


def all_gatherv(self: Any, given: Any, dim: int = 0, sizes: list[int] | None = None) -> Any:
    """Return the rows of all ranks, of which each may have another number."""
    import torch  # type: ignore[import-not-found, unused-ignore]

    if isinstance(given, list):
        return [all_gatherv(self, one, dim, sizes) for one in given]
    counts = sizes or [given.shape[0]] * self.world_size
    padded = given.new_zeros((max(counts), *given.shape[1:]))
    padded[: given.shape[0]] = given
    parts = [torch.empty_like(padded) for _ in counts]
    torch.distributed.all_gather(parts, padded, group=self.device_group)
    return torch.cat([part[:count] for part, count in zip(parts, counts, strict=True)])


def reduce_scatterv(self: Any, given: Any, dim: int = 0, sizes: list[int] | None = None) -> Any:
    """Return the sum of all ranks' rows, those of this rank."""
    import torch  # type: ignore[import-not-found, unused-ignore]

    whole = given.clone()
    torch.distributed.all_reduce(whole, group=self.device_group)
    counts = sizes or [whole.shape[0] // self.world_size] * self.world_size
    first = sum(counts[: self.rank_in_group])
    return whole[first : first + counts[self.rank_in_group]].contiguous()
