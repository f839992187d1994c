"""Who holds an AMD GPU and how it is, over fake trees with real files and links."""

import os

import pytest

from inferwatt.records import Condition, Reading, Usage
from inferwatt.sources import Source
from inferwatt.sources.amdgpu_beside import shared
from inferwatt.units import NS_PER_SECOND
from tests.doubles.amd_sysfs import MI250X, AmdSysfs, hwmon

from .amd import found, no_package, tree

__all__ = ["no_package", "tree"]

pytestmark = pytest.mark.usefixtures("no_package")


def beside(source: Source, *times_ns: int) -> list[object]:
    """Return what comes beside the reading at the last of these times."""
    said = [source.read(time_ns) for time_ns in times_ns][-1]
    return list(said[1:]) if isinstance(said, tuple) else []


def test_the_process_that_holds_a_gpu_alone_has_what_is_used_of_it(tree: AmdSysfs) -> None:
    """Twice a second, the use of each GPU goes to whoever has memory on it; who has none holds nothing."""
    folder = tree.card("0000:c1:00.0")
    tree.process(4711, gpu_1193=2**30, gpu_1198=0)
    tree.process(os.getpid(), gpu_1193=0)
    (folder / "gpu_busy_percent").write_text("80\n")
    (source,) = found(tree).sources

    assert beside(source, 0, 100_000_000) == []
    assert beside(source, 500_000_000) == [Usage(0, 500_000_000, "gpu-0", {4711: 0.8}, 0.0, 0.0)]
    assert source.read(600_000_000) == Reading(600_000_000, "gpu-0", power_mw=140_000)


def test_a_use_that_cannot_be_told_apart_is_unknown(tree: AmdSysfs) -> None:
    """Two processes on one GPU are both named with 0; a GPU that nobody is known to hold has no names."""
    shared_gpu = tree.card("0000:c1:00.0")
    drawing = tree.card("0000:c6:00.0")
    tree.process(1, gpu_1193=1)
    tree.process(2, gpu_1193=2)
    for folder in (shared_gpu, drawing):
        (folder / "gpu_busy_percent").write_text("50\n")

    usages = [beside(source, 0, NS_PER_SECOND // 2)[0] for source in found(tree).sources]

    assert usages == [
        Usage(0, NS_PER_SECOND // 2, "gpu-0", {1: 0.0, 2: 0.0}, 0.0, 0.5),
        Usage(0, NS_PER_SECOND // 2, "gpu-1", {}, 0.0, 0.5),
    ]


def test_both_dies_of_an_mi250_make_one_use(tree: AmdSysfs) -> None:
    """Each die is half of the device, and each has its own holder."""
    first = tree.card("0000:c1:00.0", MI250X)
    second = tree.card("0000:c6:00.0", MI250X, sensors={"power1_average": 0})
    (first / "gpu_busy_percent").write_text("100\n")
    (second / "gpu_busy_percent").write_text("40\n")
    tree.process(1, gpu_1193=1)
    tree.process(2, gpu_1198=1)
    (source,) = found(tree).sources

    assert beside(source, 0, NS_PER_SECOND // 2)[0] == Usage(0, NS_PER_SECOND // 2, "gpu-0", {1: 0.5, 2: 0.2}, 0.0, 0.0)


@pytest.mark.parametrize("missing", ["gpu_busy_percent", "proc", "node"])
def test_nothing_is_said_of_a_use_that_is_not_known(tree: AmdSysfs, missing: str) -> None:
    """Without the utilisation or without the holders there is no usage: silence is not idleness."""
    folder = tree.card("0000:c1:00.0")
    if missing == "proc":
        (tree.kfd / "proc").rmdir()
    elif missing == "node":
        (tree.kfd / "topology" / "nodes" / "1" / "properties").write_text("location_id many\n")
    else:
        (folder / missing).write_text("200\n")
    (source,) = found(tree).sources

    assert [record for record in beside(source, 0, NS_PER_SECOND) if isinstance(record, Usage)] == []


def test_how_it_is_comes_once_a_second(tree: AmdSysfs) -> None:
    """Temperature of the hot spot, clock, utilisation and power cap, in our units; what is not told is None."""
    folder = tree.card("0000:c1:00.0")
    (folder / "gpu_busy_percent").write_text("7\n")
    (source,) = found(tree).sources

    assert beside(source, 0) == [Condition(0, "gpu-0", 0.07, 132e6, 45.0, 750.0)]
    assert [record for record in beside(source, NS_PER_SECOND // 2) if isinstance(record, Condition)] == []
    for name in ("temp1_input", "temp2_input", "freq1_input", "power1_cap"):
        (hwmon(folder) / name).unlink()
    (folder / "gpu_busy_percent").unlink()
    assert beside(source, NS_PER_SECOND) == [Condition(NS_PER_SECOND, "gpu-0")]


def test_shares_of_dies_add_up_to_their_mean() -> None:
    """Whoever holds them, the parts make the utilisation of the device."""
    shares, unknown = shared(
        [(frozenset({1}), 0.5), (frozenset({1, 2}), 1.0), (frozenset(), 0.3), (frozenset({2}), 0.2)]
    )

    assert shares == {1: 0.125, 2: 0.05}
    assert sum(shares.values()) + unknown == pytest.approx(0.5)
