"""A sysfs with AMD GPUs: real files and real links, laid out as the kernel lays them out."""

from collections.abc import Mapping
from pathlib import Path

MI300X, MI300A, MI250X, MI210, MI100, RX7900 = 0x74A1, 0x74A0, 0x7408, 0x740F, 0x738C, 0x744C
PRODUCTS = {
    MI300X: ("AMD Instinct MI300X OAM", 0x12),
    MI300A: ("AMD Instinct MI300A", 0x12),
    MI250X: ("AMD Instinct MI250X", 0x03),
    MI210: ("AMD Instinct MI210", 0x03),
    MI100: ("AMD Instinct MI100", 0x03),
    RX7900: ("", 0x03),
}
SERIAL = "9cb0ecd3a40a6b11"


class AmdSysfs:
    """A /sys of our own making."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._nodes = 0
        self.kfd = root / "devices" / "virtual" / "kfd" / "kfd"
        (self.kfd / "topology" / "nodes").mkdir(parents=True)
        (self.kfd / "proc").mkdir()
        (root / "class" / "kfd").mkdir(parents=True)
        (root / "class" / "kfd" / "kfd").symlink_to(self.kfd)
        self._node("0", 0, 0)

    def card(
        self,
        address: str,
        chip: int = MI300X,
        *,
        driver: str = "amdgpu",
        sensors: Mapping[str, object] | None = None,
    ) -> Path:
        """Add a GPU; `sensors` are files of its hwmon, where None leaves one out. Return its PCI folder."""
        product, base_class = PRODUCTS.get(chip, ("", 0x03))
        folder = self.function(address, 0x1002, chip, base_class << 16)
        (folder / "gpu_busy_percent").write_text("0\n")
        if product:
            (folder / "product_name").write_text(f"{product}\n")
            (folder / "unique_id").write_text(f"{SERIAL}\n")
        if driver:
            drivers = self.root / "bus" / "pci" / "drivers" / driver
            drivers.mkdir(parents=True, exist_ok=True)
            (folder / "driver").symlink_to(drivers)
        if driver == "amdgpu":
            self._bound(folder, address, sensors or {})
        return folder

    def function(self, address: str, vendor: int, device: int, pci_class: int) -> Path:
        """Add a PCI function and its link; return its folder."""
        folder = self.root / "devices" / "pci0000:00" / address
        folder.mkdir(parents=True)
        (folder / "vendor").write_text(f"0x{vendor:04x}\n")
        (folder / "device").write_text(f"0x{device:04x}\n")
        (folder / "class").write_text(f"0x{pci_class:06x}\n")
        links = self.root / "bus" / "pci" / "devices"
        links.mkdir(parents=True, exist_ok=True)
        (links / address).symlink_to(folder)
        return folder

    def process(self, pid: int, **memory: int) -> None:
        """Add a process of the compute driver, with bytes on GPUs by number (``gpu_1001=2**30``)."""
        folder = self.kfd / "proc" / str(pid)
        folder.mkdir()
        for name, count in memory.items():
            (folder / f"vram_{name.removeprefix('gpu_')}").write_text(f"{count}\n")

    def partition(self, address: str, gpu_id: int, number: int = 0) -> None:
        """Add a node of the compute driver: one for each partition of a GPU."""
        domain, bus, rest = address.split(":")
        device, _, function = rest.partition(".")
        location = int(bus, 16) << 8 | int(device, 16) << 3 | int(function, 16) | number << 28
        self._node(str(gpu_id), int(domain, 16), location)

    def _bound(self, folder: Path, address: str, files: Mapping[str, object]) -> None:
        """Add what the driver adds: hwmon, a card and a compute node numbered 1000 and the bus."""
        number = len(list((self.root / "bus" / "pci" / "devices").iterdir()))
        hwmon = folder / "hwmon" / f"hwmon{number}"
        hwmon.mkdir(parents=True)
        sensors: dict[str, object] = {
            "name": "amdgpu",
            "power1_average": 140_000_000,
            "power1_cap": 750_000_000,
            "power1_cap_max": 750_000_000,
            "temp1_input": 41_000,
            "temp2_input": 45_000,
            "freq1_input": 132_000_000,
        }
        for name, value in {**sensors, **files}.items():
            if value is not None:
                (hwmon / name).write_text(f"{value}\n")
        drm = self.root / "class" / "drm" / f"card{number}"
        drm.mkdir(parents=True)
        (drm / "device").symlink_to(folder)
        self.partition(address, 1000 + int(address.split(":")[1], 16))

    def _node(self, gpu_id: str, domain: int, location: int) -> None:
        folder = self.kfd / "topology" / "nodes" / str(self._nodes)
        folder.mkdir()
        self._nodes += 1
        (folder / "gpu_id").write_text(f"{gpu_id}\n")
        (folder / "properties").write_text(
            f"cpu_cores_count 0\nsimd_count 1216\nlocation_id {location}\ndomain {domain}\nunique_id 0\n"
        )


def hwmon(folder: Path) -> Path:
    """Return the sensors of a card's PCI folder."""
    return next((folder / "hwmon").iterdir())
