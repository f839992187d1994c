"""Is there NVIDIA hardware: by device nodes and PCI functions, over trees as the kernel lays them out."""

from pathlib import Path

import pytest

from inferwatt.sources.nvml_api import NvmlError
from inferwatt.sources.nvml_errors import DRIVER_NOT_LOADED
from inferwatt.sources.nvml_products import PEAKS, peak, systematic_ratio
from inferwatt.sources.nvml_signs import not_opened, signs


def function(root: Path, address: str, vendor: str, kind: str, driver: str = "") -> None:
    """Put a PCI function into a tree, with the driver that holds it."""
    folder = root / "bus" / "pci" / "devices" / address
    folder.mkdir(parents=True)
    (folder / "vendor").write_text(f"{vendor}\n")
    (folder / "class").write_text(f"{kind}\n")
    if driver:
        there = root / "bus" / "pci" / "drivers" / driver
        there.mkdir(parents=True, exist_ok=True)
        (folder / "driver").symlink_to(there)


def test_a_gpu_on_the_bus_is_a_sign_and_what_sits_beside_it_is_not(tmp_path: Path) -> None:
    """The audio function of a card, an NVSwitch and another vendor's GPU are no NVIDIA GPU."""
    function(tmp_path, "0000:01:00.0", "0x10de", "0x030000", "nvidia")
    function(tmp_path, "0000:01:00.1", "0x10de", "0x040300")
    function(tmp_path, "0000:02:00.0", "0x10de", "0x030200")
    function(tmp_path, "0000:03:00.0", "0x10de", "0x068000")
    function(tmp_path, "0000:04:00.0", "0x1002", "0x030000")

    assert signs(str(tmp_path), str(tmp_path)).functions == (("0000:01:00.0", "nvidia"), ("0000:02:00.0", ""))


def test_a_device_node_is_a_sign_in_a_container_without_pci(tmp_path: Path) -> None:
    """Nodes of capabilities and of unified memory alone are none."""
    for node in ("nvidia-uvm", "nvidia-caps", "nvidia3", "nvidiactl"):
        (tmp_path / node).touch()

    assert signs(str(tmp_path), str(tmp_path)).nodes == (str(tmp_path / "nvidia3"), str(tmp_path / "nvidiactl"))


def test_an_empty_machine_has_no_sign(tmp_path: Path) -> None:
    """And lacks nothing."""
    assert not signs(str(tmp_path), str(tmp_path))


@pytest.mark.parametrize(
    ("driver", "says", "fix"),
    [
        ("vfio-pci", "passed through to a virtual machine", "run inferwatt inside that virtual machine"),
        ("nouveau", "nouveau", "install NVIDIA's driver"),
        ("", "driver is not loaded", "sudo modprobe nvidia"),
    ],
)
def test_a_gpu_that_another_driver_holds_says_which(tmp_path: Path, driver: str, says: str, fix: str) -> None:
    """To load NVIDIA's driver would not help there."""
    function(tmp_path, "0000:01:00.0", "0x10de", "0x030200", driver)

    lack = not_opened(NvmlError(DRIVER_NOT_LOADED), signs(str(tmp_path), str(tmp_path)), str(tmp_path))

    assert says in lack.what
    assert lack.fix == fix
    assert lack.where == "PCI 0000:01:00.0"


def test_a_peak_rate_is_a_datasheets_or_absent() -> None:
    """A product that is not in the table is not guessed from its like."""
    assert peak("NVIDIA H100 80GB HBM3") == PEAKS["NVIDIA H100 80GB HBM3"]
    assert peak("NVIDIA H100 SXM5 64GB") is None
    assert all(row.datasheet.startswith("NVIDIA ") for row in PEAKS.values())
    assert all(1e13 < row.flops < 1e16 and 1e11 < row.bytes_per_second < 1e14 for row in PEAKS.values())


def test_a_bound_is_the_boards_own_where_it_was_studied() -> None:
    """Any other board has that of the study's; integrating power adds to it."""
    assert systematic_ratio("NVIDIA A100-SXM4-80GB", integrated=False) == 0.06
    assert systematic_ratio("NVIDIA B200", integrated=False) == 0.08
    assert systematic_ratio("Quadro P6000", integrated=True) == 0.09
