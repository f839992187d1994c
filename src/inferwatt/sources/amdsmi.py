"""AMD GPUs: which there are, and how each is read. By AMD's library where it is there, else by the kernel's own files.

A GPU whose energy accumulator has a documented unit (MI200 and newer) is `measured`; of every other one the power is
integrated, `sampled`. A GPU inside a processor is left out: its power sensor is the processor's, and RAPL counts it.

A search asks nothing of a GPU whose call has not come back. Where one that was read by the library is there, but not
shown by it any more, the kernel found it after the library had looked: the library is initialised anew.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from inferwatt.errors import InferwattError
from inferwatt.snapshot import Lack
from inferwatt.sources import Found, Source, SourcesConfig
from inferwatt.sources.amdgpu_beside import Kfd
from inferwatt.sources.amdgpu_cards import Card, modules, name_of, scan
from inferwatt.sources.amdgpu_sysfs import SysfsGpu, sensor_of
from inferwatt.sources.amdsmi_binding import AmdSmi, Handle, Handles, load
from inferwatt.sources.amdsmi_counter import counter_uj
from inferwatt.sources.amdsmi_gpu import AmdGpu, power_mw_of
from inferwatt.sources.amdsmi_status import GROUPS, LOAD

_SEARCHES_APART = 64


def discover(settings: SourcesConfig) -> Found:
    """Return the AMD GPUs under ``sysfs_root``; nothing, not even a lack, on a machine without one."""
    search = _Search(Path(settings.sysfs_root), settings.amdsmi.use_counter)
    sources = search.sources()
    return Found(tuple(sources), tuple(search.lacks))


@dataclass(frozen=True, slots=True)
class _Plan:
    """A GPU that can be read: its card with the sensor, and what opens it under a name."""

    card: Card
    open: Callable[[str], Source]


class _Search:
    """One search: by the library first, by sysfs what is left."""

    def __init__(self, root: Path, use_counter: bool) -> None:
        self.lacks: list[Lack] = []
        self._root = root
        self._use_counter = use_counter
        self._kfd = Kfd(root)

    def sources(self) -> list[Source]:
        cards = [card for card in scan(self._root) if self._is_readable(card)]
        library = self._opened() if cards else None
        try:
            plans, rest = self._by_library(library, cards) if library else ([], cards)
            plans = sorted([*plans, *self._by_sysfs(rest)], key=lambda plan: plan.card.address)
            return [plan.open(name_of(self._root, plan.card)) for plan in plans]
        finally:
            if library:
                library.close()

    def _is_readable(self, card: Card) -> bool:
        """Tell whether this machine's driver has the card, and it is not a processor's own; else say why not."""
        if card.integrated:
            why = "is inside the processor: its joules are the package's"
            self._lacks(card, why, "none needed: see the source rapl")
        elif not card.driver:
            self._lacks(card, "has no driver", LOAD)
        elif card.driver == "vfio-pci":
            self._lacks(card, "is given to a virtual machine", "none here: run inferwatt in that virtual machine")
        else:
            return True
        return False

    def _opened(self) -> AmdSmi | None:
        """Return AMD's library, held open; None where it cannot be, and the reason is a lack."""
        library = load()
        if isinstance(library, Lack):
            self.lacks.append(library)
            return None
        try:
            library.open()
        except InferwattError as exc:
            self._failed(exc)
            return None
        return library

    def _by_library(self, library: AmdSmi, cards: Sequence[Card]) -> tuple[list[_Plan], list[Card]]:
        """Return what AMD's library reads, and the cards that are left; each reason is said once."""
        busy = library.in_flight()
        asked = [card for card in cards if card.place not in busy]
        before = len(self.lacks)
        try:
            plans, rest = self._read_by(library, asked)
            if not busy and _is_missing(library, rest) and _may_restart(library) and library.restart():
                del self.lacks[before:]
                plans, rest = self._read_by(library, asked)
        except InferwattError as exc:
            self._failed(exc)
            return [], asked
        return plans, rest

    def _read_by(self, library: AmdSmi, cards: Sequence[Card]) -> tuple[list[_Plan], list[Card]]:
        handles = library.handles()
        hidden = [card for card in cards if card.place not in handles]
        for card in hidden:
            self._lacks(card, "is not shown by AMD's library", GROUPS)
        shown = [card for card in cards if card.place in handles]
        counted = {card.address for card in shown if self._counts(library, card, handles[card.place][0])}
        powered = {card.address for card in shown if power_mw_of(library, handles[card.place][0])}
        groups, orphans = modules(shown, lambda card: card.address in counted | powered)
        plans = [self._plan(library, group, handles, counted=group[0].address in counted) for group in groups]
        return plans, [*hidden, *orphans]

    def _plan(self, library: AmdSmi, group: Sequence[Card], handles: Handles, *, counted: bool) -> _Plan:
        card = group[0]
        if self._use_counter and not counted:
            self._lacks(card, _why_not_counted(card), "none: its power is summed up instead")

        def opened(name: str) -> Source:
            dies = [handles[die.place][0] for die in group]
            return AmdGpu(library, name, group, dies, self._kfd, counted=counted)

        return _Plan(card, opened)

    def _counts(self, library: AmdSmi, card: Card, handle: Handle) -> bool:
        """Tell whether the card's accumulator is to be used: its unit is known, and it has counted something."""
        if not (self._use_counter and card.counted):
            return False
        try:
            return bool(counter_uj(*library.energy(handle)))
        except InferwattError:
            return False

    def _by_sysfs(self, cards: Sequence[Card]) -> Iterator[_Plan]:
        groups, orphans = modules(cards, lambda card: sensor_of(card) is not None)
        for card in orphans:
            self._lacks(card, "shows no power (a virtual machine's share of a GPU, or a driver without it)", LOAD)
        for group in groups:
            sensor = sensor_of(group[0])
            if sensor is not None:
                yield _Plan(group[0], partial(SysfsGpu, cards=group, sensor=sensor, kfd=self._kfd))

    def _failed(self, exc: InferwattError) -> None:
        what = f"AMD's library cannot be used: {exc.what}: AMD GPUs are read by sysfs, their power summed up"
        self.lacks.append(Lack(what, exc.where, exc.fix, "amdsmi", "accelerator"))

    def _lacks(self, card: Card, why: str, fix: str) -> None:
        self.lacks.append(Lack(f"{card.product} {why}", card.address, fix, "amdsmi", "accelerator"))


def _is_missing(library: AmdSmi, unread: Sequence[Card]) -> bool:
    """Tell whether a GPU is there that was read before and is not now, and count the searches that ended so."""
    missing = any(card.place in library.known for card in unread)
    library.searches = library.searches + 1 if missing else 0
    return missing


def _may_restart(library: AmdSmi) -> bool:
    """Tell whether to initialise the library anew: at the 1st, 2nd, 4th, ... search in vain, then at each 64th."""
    searches = library.searches
    return searches & (searches - 1) == 0 or searches % _SEARCHES_APART == 0


def _why_not_counted(card: Card) -> str:
    if card.counted:
        return "shows no energy counter (AMD does not pass it on to virtual machines)"
    return "has no energy counter of a documented unit"
