"""AMD GPUs without AMD's library, over fake trees with real files and links."""

import errno
import os
from pathlib import Path

import pytest

from inferwatt.errors import SourceGone, SourceRetry
from inferwatt.records import Component, Provenance, Reading
from inferwatt.sources import Found, SourcesConfig
from inferwatt.sources.amdsmi import discover
from inferwatt.sources.amdsmi_binding import INSTALL
from tests.doubles.amd_sysfs import MI100, MI250X, MI300A, RX7900, AmdSysfs, hwmon

from .amd import found, no_package, tree
from .trees import read

__all__ = ["no_package", "tree"]

pytestmark = pytest.mark.usefixtures("no_package")


def test_a_machine_without_an_amd_gpu_has_nothing_and_lacks_nothing(tree: AmdSysfs) -> None:
    """Another maker's display, and AMD's own bridge and sound, are no sign of an AMD GPU."""
    tree.function("0000:01:00.0", 0x10DE, 0x2330, 0x030200)
    tree.function("0000:02:00.0", 0x1002, 0x1478, 0x060400)
    tree.function("0000:03:00.1", 0x1002, 0xAB30, 0x040300)

    assert found(tree) == Found()
    assert discover(SourcesConfig(sysfs_root=str(tree.root / "nowhere"))) == Found()


def test_the_power_is_sampled_and_the_lack_names_the_better_way(tree: AmdSysfs) -> None:
    """Without the library a GPU is read from hwmon, in mW, and the command that brings its counter is named."""
    folder = tree.card("0000:c1:00.0")

    result = found(tree)

    (source,) = result.sources
    device = source.device
    assert (device.device, device.kind, device.domain) == ("gpu-0", "AMD Instinct MI300X OAM", "gpu")
    assert (device.component, device.provenance) == (Component.ACCELERATOR, Provenance.SAMPLED)
    assert (device.vendor, device.driver, device.source, device.max_watts) == ("AMD", "amdgpu", source.name, 750.0)
    assert read(source, 5) == Reading(5, "gpu-0", power_mw=140_000)
    (hwmon(folder) / "power1_average").write_text("305123456\n")
    assert read(source, 6) == Reading(6, "gpu-0", power_mw=305_123)
    (lack,) = result.lacks
    assert (lack.source, lack.component, lack.fix) == ("amdsmi", "accelerator", INSTALL)


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({"power1_average": None, "power1_input": 95_000_000}, Reading(1, "gpu-0", power_mw=95_000)),
        ({"power1_input": 95_000_000}, Reading(1, "gpu-0", power_mw=140_000)),
        ({"energy1_input": 123_456_789}, Reading(1, "gpu-0", 123_456_789)),
    ],
)
def test_the_best_sensor_is_read(tree: AmdSysfs, files: dict[str, object], expected: Reading) -> None:
    """A counter is better than a mean, and a mean than an instant."""
    tree.card("0000:c1:00.0", sensors=files)

    (source,) = found(tree).sources

    assert read(source, 1) == expected
    measured = expected.counter_uj is not None
    assert source.device.provenance is (Provenance.MEASURED if measured else Provenance.SAMPLED)


def test_the_uuid_is_the_one_that_amds_library_would_give(tree: AmdSysfs) -> None:
    """amd_smi_uuid.cc, with the PCI id 74a1 and the unique id 9cb0ecd3a40a6b11."""
    tree.card("0000:c1:00.0")
    tree.card("0000:c2:00.0", RX7900)

    uuids = [source.device.uuid for source in found(tree).sources]

    assert uuids == ["9cff74a1-0000-1000-80b0-ecd3a40a6b11", "pci-0000:c2:00.0"]


def test_two_dies_with_one_sensor_are_one_device(tree: AmdSysfs) -> None:
    """The secondary die of an MI250X says 0 W: it is part of the primary, not a GPU that uses nothing."""
    tree.card("0000:c1:00.0", MI250X)
    tree.card("0000:c6:00.0", MI250X, sensors={"power1_average": 0})
    tree.card("0000:c9:00.0", MI250X, sensors={"power1_average": 0})
    tree.card("0000:ce:00.0", MI250X, sensors={"power1_average": 90_000_000})

    result = found(tree)

    assert [source.device.kind for source in result.sources] == ["AMD Instinct MI250X (both dies)"] * 2
    assert [read(source, 1).power_mw for source in result.sources] == [140_000, 90_000]
    assert len(result.lacks) == 1


def test_a_gpu_inside_a_processor_is_not_counted_beside_the_package(tree: AmdSysfs) -> None:
    """Its power1_average includes the CPU, which RAPL counts: it is left out, and said so."""
    tree.card("0000:04:00.0", 0x1586, sensors={"in1_label": "vddnb"})

    result = found(tree)

    assert result.sources == ()
    assert [(lack.where, lack.fix) for lack in result.lacks] == [("0000:04:00.0", "none needed: see the source rapl")]


def test_an_mi300a_is_a_module(tree: AmdSysfs) -> None:
    """Its socket holds the CPU too, and the domain says so."""
    tree.card("0000:01:00.0", MI300A, sensors={"in1_label": "vddnb"})

    assert [source.device.domain for source in found(tree).sources] == ["module"]


@pytest.mark.parametrize(
    ("driver", "words", "fix"),
    [("", "has no driver", "sudo modprobe amdgpu"), ("vfio-pci", "virtual machine", "none here")],
)
def test_a_gpu_that_the_driver_does_not_have_is_a_lack(tree: AmdSysfs, driver: str, words: str, fix: str) -> None:
    """Hardware that is there and cannot be read is said plainly, with its address."""
    tree.card("0000:c1:00.0", driver=driver)

    result = found(tree)

    assert result.sources == ()
    (lack,) = result.lacks
    assert lack.where == "0000:c1:00.0"
    assert words in lack.what
    assert lack.fix.startswith(fix)


def test_a_gpu_without_a_power_sensor_is_a_lack_and_no_zero(tree: AmdSysfs) -> None:
    """A virtual machine's share of a GPU shows no power: unknown, so no device."""
    tree.card("0000:c1:00.0", sensors={"power1_average": None})

    result = found(tree)

    assert result.sources == ()
    assert "shows no power" in result.lacks[-1].what


def test_guests_shares_of_a_gpu_are_not_gpus_of_the_host(tree: AmdSysfs) -> None:
    """A virtual function has its physical function beside it, whose power is all of it."""
    tree.card("0000:c1:00.0")
    share = tree.card("0000:c1:02.0", 0x74B5)
    (share / "physfn").symlink_to(share.parent / "0000:c1:00.0")

    assert len(found(tree).sources) == 1


def test_a_gpu_that_is_pulled_out_does_not_lend_its_name(tree: AmdSysfs) -> None:
    """Names are by PCI address after NVIDIA's, and stay while the process lives."""
    tree.function("0000:01:00.0", 0x10DE, 0x2330, 0x030200)
    for address in ("0000:c1:00.0", "0000:c6:00.0", "0000:c9:00.0"):
        tree.card(address, MI100)
    assert [source.device.device for source in found(tree).sources] == ["gpu-1", "gpu-2", "gpu-3"]

    (tree.root / "bus" / "pci" / "devices" / "0000:c6:00.0").unlink()

    assert [source.device.device for source in found(tree).sources] == ["gpu-1", "gpu-3"]


def test_a_text_that_is_no_number_is_a_lost_sample(tree: AmdSysfs) -> None:
    """The next read may work."""
    folder = tree.card("0000:c1:00.0")
    (source,) = found(tree).sources

    (hwmon(folder) / "power1_average").write_text("\n")

    with pytest.raises(SourceRetry, match=r"power sensor of gpu-0: its text is not a number.*\n.*power1_average\n"):
        source.read(1)


@pytest.mark.parametrize(
    ("code", "kind"), [(errno.EPERM, SourceRetry), (errno.EBUSY, SourceRetry), (errno.ENODEV, SourceGone)]
)
def test_what_the_driver_answers_is_told_apart(
    tree: AmdSysfs, monkeypatch: pytest.MonkeyPatch, code: int, kind: type[Exception]
) -> None:
    """A GPU in reset or asleep (EPERM, EBUSY) comes back by itself, one that was removed (ENODEV) does not."""
    tree.card("0000:c1:00.0")
    (source,) = found(tree).sources

    def refuse(_path: Path) -> str:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(Path, "read_text", refuse)  # no file can be made to answer so

    with pytest.raises(kind, match="gpu-0"):
        source.read(1)


def test_a_vanished_card_is_gone(tree: AmdSysfs) -> None:
    """A GPU that was unplugged is not tried again and again."""
    folder = tree.card("0000:c1:00.0")
    (source,) = found(tree).sources

    (hwmon(folder) / "power1_average").unlink()

    with pytest.raises(SourceGone, match=r"gpu-0 is gone.*\n.*power1_average\n.*every 10 s"):
        source.read(1)
