"""AMD GPUs as the kernel shows them in sysfs: which there are, who drives them, which sensors they have.

What is said here of chips is the kernel's own (Linux, ``drivers/gpu/drm/amd``):

- ``pm/swsmu/smu13/smu_v13_0_6_ppt.c`` (MI300): "Energy counter reported in 15.259uJ (2^-16) units", 64 bits. MI200
  (``aldebaran_ppt.c``) has 64 bits too. The firmware of older Instincts and of Radeons counts 32 bits of no documented
  unit (``uint32_t EnergyAccumulator``), or none (``smu_v14_0_2_ppt.c``: UINT_MAX): that counter is not used.
- ``aldebaran_ppt.c``: "Valid power data is available only from primary die". An MI250 is two dies with a PCI address
  each and one sensor: one device, whose secondary die says 0. Nothing after it is so: an MI300X is one socket.
- ``pm/amdgpu_pm.c``: "power1_average: average power used by the SoC in microWatts. On APUs this includes the CPU", and
  "only APUs have vddnb": by that label a GPU inside a processor is known. Its joules are the package's (RAPL).
- The unique id and the PCI id make the uuid as AMD's library makes it (amdsmi 6.3, ``src/amd_smi/amd_smi_uuid.cc``), so
  that a GPU has one identity by whatever road it is read.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

AMD = 0x1002
NVIDIA = 0x10DE
DISPLAY, ACCELERATOR = 0x03, 0x12
"""PCI base classes: an MI210 is a display controller, an MI300X a processing accelerator."""
MI250 = frozenset({0x7408, 0x740C})
MI300A = frozenset({0x74A0})
_COUNTED = (range(0x7408, 0x7411), range(0x74A0, 0x74C0), range(0x75A0, 0x75C0))
"""PCI ids of MI200, MI300 and MI350 (``amdgpu_drv.c`` and the PCI ID repository)."""

_names: dict[tuple[str, str], str] = {}


@dataclass(frozen=True, slots=True)
class Card:
    """One PCI function with a GPU (for an MI250: one die)."""

    address: str
    folder: Path
    chip: int
    accelerator: bool
    driver: str
    hwmon: Path | None

    @property
    def counted(self) -> bool:
        """Tell whether its energy accumulator has a documented unit."""
        return self.accelerator or any(self.chip in chips for chips in _COUNTED)

    @property
    def integrated(self) -> bool:
        """Tell a GPU inside a processor, whose power sensor is the processor's."""
        return not self.counted and self.hwmon is not None and text(self.hwmon / "in1_label") == "vddnb"

    @property
    def place(self) -> str:
        """Return the address without the function: partitions of one GPU differ only there."""
        return self.address.partition(".")[0]

    @property
    def product(self) -> str:
        """Return what the board says that it is; its PCI id where it does not say."""
        return text(self.folder / "product_name") or f"AMD GPU 1002:{self.chip:04x}"

    @property
    def uuid(self) -> str:
        """Return the uuid of its unique id; its PCI address where it has none."""
        try:
            serial = int(text(self.folder / "unique_id") or "0", 16)
        except ValueError:
            serial = 0
        if not serial:
            return f"pci-{self.address}"
        return (
            f"{serial >> 56:02x}ff{self.chip:04x}-0000-1000-80{serial >> 48 & 0xFF:02x}-{serial & (1 << 48) - 1:012x}"
        )


def scan(root: Path) -> tuple[Card, ...]:
    """Return the AMD GPUs under `root`, a sysfs, by PCI address, without those that a host has made for its guests."""
    return tuple(
        _card(folder)
        for folder in _functions(root)
        if hexadecimal(folder / "vendor") == AMD
        and _base_class(folder) in {DISPLAY, ACCELERATOR}
        and not (folder / "physfn").exists()
    )


def name_of(root: Path, card: Card) -> str:
    """Return the device's name, ``gpu-N`` by PCI address; the same for as long as this process lives.

    A GPU that was pulled out must not lend its name to its neighbour. NVIDIA's GPUs come first.
    """
    key = (str(root), card.address)
    if key not in _names:
        taken = sum(known == key[0] for known, _ in _names)
        _names[key] = f"gpu-{_nvidia_count(root) + taken}"
    return _names[key]


def modules(cards: Sequence[Card], has_sensor: Callable[[Card], bool]) -> tuple[list[tuple[Card, ...]], list[Card]]:
    """Group the cards by power sensor: the one that has it first; then those that have none and no partner with one.

    Args:
        cards: by PCI address, in which the dies of one MI250 are neighbours.
        has_sensor: tells whether a card shows power or energy.
    """
    groups: list[tuple[Card, ...]] = []
    orphans: list[Card] = []
    dies = [card for card in cards if card.chip in MI250]
    pairs = [dies[at : at + 2] for at in range(0, len(dies), 2)]
    for group in [*([card] for card in cards if card.chip not in MI250), *pairs]:
        live = [card for card in group if has_sensor(card)]
        dead = [card for card in group if card not in live]
        if len(live) == 1:
            groups.append((live[0], *dead))
        else:
            groups += ((card,) for card in live)
            orphans += dead
    return sorted(groups, key=lambda group: group[0].address), orphans


def text(path: Path) -> str:
    """Return the text of a small file without its line end; empty where it cannot be read."""
    try:
        return path.read_text(errors="replace").strip()
    except OSError:
        return ""


def hexadecimal(path: Path) -> int | None:
    """Return the hexadecimal number in a file, None where there is none."""
    try:
        return int(text(path), 16)
    except ValueError:
        return None


def decimal(path: Path) -> int | None:
    """Return the decimal number in a file, None where there is none."""
    try:
        return int(text(path))
    except ValueError:
        return None


def _functions(root: Path) -> list[Path]:
    return sorted((root / "bus" / "pci" / "devices").glob("*:*:*.*"))


def _base_class(folder: Path) -> int:
    return (hexadecimal(folder / "class") or 0) >> 16


def _card(folder: Path) -> Card:
    driver = folder / "driver"
    return Card(
        address=folder.name,
        folder=folder,
        chip=hexadecimal(folder / "device") or 0,
        accelerator=_base_class(folder) == ACCELERATOR,
        driver=driver.resolve().name if driver.exists() else "",
        hwmon=next(iter(sorted((folder / "hwmon").glob("hwmon*"))), None),
    )


def _nvidia_count(root: Path) -> int:
    return sum(
        hexadecimal(folder / "vendor") == NVIDIA and _base_class(folder) == DISPLAY for folder in _functions(root)
    )
