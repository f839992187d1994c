"""AMD GPUs: which there are, and how each is read. By AMD's library where it is there, else by the kernel's own files.

A GPU whose energy accumulator has a documented unit (MI200 and newer) is `measured`; of every other one the power is
integrated, `sampled`. A GPU inside a processor is left out: its power sensor is the processor's, and RAPL counts it.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path

from inferwatt.errors import InferwattError
from inferwatt.snapshot import Lack
from inferwatt.sources import Found, Source, SourcesConfig
from inferwatt.sources.amdgpu_beside import Kfd
from inferwatt.sources.amdgpu_cards import Card, modules, name_of, scan
from inferwatt.sources.amdgpu_sysfs import SysfsGpu, sensor_of
from inferwatt.sources.amdsmi_binding import AmdSmi, Handle, load
from inferwatt.sources.amdsmi_counter import counter_uj
from inferwatt.sources.amdsmi_gpu import AmdGpu
from inferwatt.sources.amdsmi_status import GROUPS, LOAD


def discover(settings: SourcesConfig) -> Found:
    """Return the AMD GPUs under ``sysfs_root``; nothing, not even a lack, on a machine without one."""
    search = _Search(Path(settings.sysfs_root), settings.amdsmi.use_counter)
    sources = search.sources()
    return Found(tuple(sources), tuple(search.lacks))


class _Search:
    """One search: by the library first, by sysfs what is left."""

    def __init__(self, root: Path, use_counter: bool) -> None:
        self.lacks: list[Lack] = []
        self._root = root
        self._use_counter = use_counter

    def sources(self) -> list[Source]:
        cards = [card for card in scan(self._root) if self._is_readable(card)]
        if not cards:
            return []
        kfd = Kfd(self._root)
        read, rest = self._by_library(cards, kfd)
        found = [*read, *self._by_sysfs(rest, kfd)]
        return sorted(found, key=lambda source: int(source.device.device.rpartition("-")[2]))

    def _is_readable(self, card: Card) -> bool:
        """Tell whether this machine's driver has the card, and it is not a processor's own; else say why not."""
        if card.integrated:
            self._lacks(
                card, "is inside the processor: its joules are the package's", "none needed: see the source rapl"
            )
        elif not card.driver:
            self._lacks(card, "has no driver", LOAD)
        elif card.driver == "vfio-pci":
            self._lacks(card, "is given to a virtual machine", "none here: run inferwatt in that virtual machine")
        else:
            return True
        return False

    def _by_library(self, cards: Sequence[Card], kfd: Kfd) -> tuple[list[Source], Sequence[Card]]:
        """Return what AMD's library reads, and the cards that are left; each reason is said once."""
        library = load()
        if isinstance(library, Lack):
            self.lacks.append(library)
            return [], cards
        try:
            library.open()
        except InferwattError as exc:
            self._failed(exc)
            return [], cards
        try:
            return self._read_by(library, cards, kfd)
        except InferwattError as exc:
            self._failed(exc)
            return [], cards
        finally:
            library.close()

    def _read_by(self, library: AmdSmi, cards: Sequence[Card], kfd: Kfd) -> tuple[list[Source], list[Card]]:
        handles = {place: partitions[0] for place, partitions in library.handles().items()}
        hidden = [card for card in cards if card.place not in handles]
        for card in hidden:
            self._lacks(card, "is not shown by AMD's library", GROUPS)
        shown = [card for card in cards if card.place in handles]
        counted = {card.address for card in shown if self._counts(library, card, handles[card.place])}
        powered = {card.address for card in shown if _power_mw(library, handles[card.place])}
        groups, orphans = modules(shown, lambda card: card.address in counted | powered)
        sources = []
        for group in groups:
            card = group[0]
            if card.address not in counted and self._use_counter:
                self._lacks(card, _why_not_counted(card), "none: its power is summed up instead")
            dies = [handles[die.place] for die in group]
            name = name_of(self._root, card)
            sources.append(AmdGpu(library, name, group, dies, kfd, counted=card.address in counted))
        return list(sources), [*hidden, *orphans]

    def _counts(self, library: AmdSmi, card: Card, handle: Handle) -> bool:
        """Tell whether the card's accumulator is to be used: its unit is known, and it has counted something."""
        if not (self._use_counter and card.counted):
            return False
        try:
            return bool(counter_uj(*library.energy(handle)))
        except InferwattError:
            return False

    def _by_sysfs(self, cards: Sequence[Card], kfd: Kfd) -> Iterable[Source]:
        groups, orphans = modules(cards, lambda card: sensor_of(card) is not None)
        for card in orphans:
            self._lacks(card, "shows no power (a virtual machine's share of a GPU, or a driver without it)", LOAD)
        for group in groups:
            sensor = sensor_of(group[0])
            if sensor is not None:
                yield SysfsGpu(name_of(self._root, group[0]), group, sensor, kfd)

    def _failed(self, exc: InferwattError) -> None:
        what = f"AMD's library cannot be used: {exc.what}: AMD GPUs are read by sysfs, their power summed up"
        self.lacks.append(Lack(what, exc.where, exc.fix, "amdsmi", "accelerator"))

    def _lacks(self, card: Card, why: str, fix: str) -> None:
        self.lacks.append(Lack(f"{card.product} {why}", card.address, fix, "amdsmi", "accelerator"))


def _power_mw(library: AmdSmi, handle: Handle) -> int | None:
    try:
        return library.power_mw(handle)
    except InferwattError:
        return None


def _why_not_counted(card: Card) -> str:
    if card.counted:
        return "shows no energy counter (AMD does not pass it on to virtual machines)"
    return "has no energy counter of a documented unit"
