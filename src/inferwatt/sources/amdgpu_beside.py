"""What goes with the readings of an AMD GPU: who holds it, twice a second, and how it is, once a second.

Who holds a GPU is told by the kernel's compute driver in ``/sys/class/kfd`` (``amdkfd/kfd_process.c``): each process
with the memory that it has on each GPU, readable by everybody. AMD's library reads the same files, and for each GPU
walks every file descriptor of those processes besides (``src/amd_smi/fdinfo.cc``), too much for the sampler's thread.

Nobody tells how much of a GPU each process *used*: the compute driver keeps no time for it (amdsmi issue 130: "GFX: 0
ns" of a process that keeps the GPU 97% busy), and ``cu_occupancy`` is the count of one instant (rocm-systems pull
request 10524). So a process that holds a GPU alone has what is used of it; where several do, each is named with 0 and
the use is unknown. A process that only draws (no ``/dev/kfd``) is not seen: what is used of a GPU that nobody holds is
unknown too.
"""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from inferwatt.records import Condition, Usage
from inferwatt.sources.amdgpu_cards import Card, decimal, text
from inferwatt.units import NS_PER_SECOND

USAGE_NS = NS_PER_SECOND // 2
CONDITION_NS = NS_PER_SECOND


@dataclass(frozen=True, slots=True)
class Die:
    """A part of the device with a utilisation of its own: all of it, or one die of an MI250."""

    gpu_ids: tuple[str, ...]
    utilization: Callable[[], float | None]


class Kfd:
    """The compute driver's view: its numbers for the GPUs, and which processes have memory on them."""

    def __init__(self, root: Path) -> None:
        folder = root / "class" / "kfd" / "kfd"
        self._processes = folder / "proc"
        self._ids: dict[str, list[str]] = {}
        for node in sorted((folder / "topology" / "nodes").glob("*")):
            gpu_id = decimal(node / "gpu_id")
            if gpu_id:
                self._ids.setdefault(_place(text(node / "properties")), []).append(str(gpu_id))

    def gpu_ids(self, card: Card) -> tuple[str, ...]:
        """Return its numbers for a card: one, or one for each partition."""
        return tuple(self._ids.get(card.place, ()))

    def holders(self, gpu_ids: Collection[str]) -> frozenset[int] | None:
        """Return the processes that have memory on these GPUs; None where that cannot be known.

        Who has none holds nothing, though the driver lists it: whoever asks AMD's library once is on the list.
        """
        if not gpu_ids:
            return None
        try:
            folders = [entry for entry in self._processes.iterdir() if entry.name.isdigit()]
        except OSError:
            return None
        return frozenset(
            int(folder.name)
            for folder in folders
            if any((decimal(folder / f"vram_{gpu_id}") or 0) > 0 for gpu_id in gpu_ids)
        )


class Beside:
    """Reads what is due beside the counter."""

    def __init__(self, device: str, dies: Sequence[Die], kfd: Kfd, condition: Callable[[int], Condition]) -> None:
        """Take what to ask.

        Args:
            device: the device's name.
            dies: its parts, equal in size.
            kfd: who holds them.
            condition: returns how the device is, without its utilisation.
        """
        self._device = device
        self._dies = dies
        self._kfd = kfd
        self._condition = condition
        self._usage_ns: int | None = None
        self._condition_ns = 0

    def due(self, now_ns: int) -> tuple[Usage | Condition, ...]:
        """Return what is due at `now_ns`; empty between the beats."""
        last_ns = self._usage_ns
        if last_ns is not None and now_ns < last_ns + USAGE_NS:
            return ()
        self._usage_ns = now_ns
        used = [die.utilization() for die in self._dies]
        held = [self._kfd.holders(die.gpu_ids) for die in self._dies]
        said: list[Usage | Condition] = []
        parts = [(who, ratio) for who, ratio in zip(held, used, strict=True) if who is not None and ratio is not None]
        if last_ns is not None and len(parts) == len(self._dies):
            shares, unknown = shared(parts)
            said.append(Usage(last_ns, now_ns, self._device, shares, 0.0, unknown))
        if now_ns >= self._condition_ns:
            self._condition_ns = now_ns + CONDITION_NS
            known = [ratio for ratio in used if ratio is not None]
            mean = sum(known) / len(known) if known else None
            said.append(replace(self._condition(now_ns), utilization_ratio=mean))
        return tuple(said)


def shared(dies: Sequence[tuple[frozenset[int], float]]) -> tuple[dict[int, float], float]:
    """Return the ratio of each holder, and that of nobody known, of a device of equal dies (holders, utilisation)."""
    shares: dict[int, float] = {}
    unknown = 0.0
    for holders, ratio in dies:
        part = ratio / len(dies)
        for pid in holders:
            shares[pid] = shares.get(pid, 0.0) + (part if len(holders) == 1 else 0.0)
        if len(holders) != 1:
            unknown += part
    return shares, unknown


def _place(properties: str) -> str:
    """Return the PCI address of a node without its function: bus and device in ``location_id``, bits 3 to 15."""
    values = dict(line.split(maxsplit=1) for line in properties.splitlines() if len(line.split()) == 2)
    try:
        domain, location = int(values["domain"]), int(values["location_id"])
    except (KeyError, ValueError):
        return ""
    return f"{domain:04x}:{location >> 8 & 0xFF:02x}:{location >> 3 & 0x1F:02x}"
