"""What a lack stands for beside what is read: a better figure, a figure at all, or nothing."""

from dataclasses import replace

import pytest

from inferwatt.records import Device
from inferwatt.snapshot import Lack
from inferwatt.sources import Found
from inferwatt.sources.advice import advise, uncovered, worth_telling

from .devices import ACCELERATOR, CPU, DRAM, MODELLED, REPORTED, SAMPLED, device, gpu, read_by

MODELLED_CPU = device("cpu", CPU, MODELLED, source="modelled")
RAPL_CPU = device("cpu-0", CPU, source="rapl")
GPU = device("gpu-0", source="nvml")


def lack(source: str, component: str) -> Lack:
    """Return what `source` lacks of a component."""
    return Lack(f"{source} cannot", "here", "do this", source, component)


@pytest.mark.parametrize(
    ("read", "lacking"),
    [
        (MODELLED_CPU, lack("rapl", "cpu")),
        (MODELLED_CPU, lack("hwmon", "cpu")),
        (MODELLED_CPU, lack("modelled", "cpu")),
        (MODELLED_CPU, lack("somebody's", "cpu")),
        (device("gpu-0", provenance=REPORTED, source="reported"), lack("nvml", "accelerator")),
        (device("gpu-0", provenance=SAMPLED, source="nvml"), lack("nvml", "accelerator")),
    ],
    ids=lambda value: value.source,
)
def test_a_lack_of_a_better_source_is_why_the_figure_is_no_better(read: Device, lacking: Lack) -> None:
    """A modelled CPU could be measured, a reported or sampled GPU too."""
    advice = advise([read], [lacking])

    assert (advice.better, advice.missing, advice.moot) == ({read.device: (lacking,)}, (), ())


@pytest.mark.parametrize(
    ("read", "lacking"),
    [
        ([], lack("nvml", "accelerator")),
        ([RAPL_CPU], lack("rapl", "dram")),
        ([RAPL_CPU], lack("rapl", "cpu")),
        ([GPU], lack("nvml", "accelerator")),
        ([GPU], lack("amdsmi", "accelerator")),
        ([replace(GPU, vendor="NVIDIA", provenance=SAMPLED)], lack("amdsmi", "accelerator")),
        ([RAPL_CPU], lack("nvml", "")),
    ],
)
def test_what_no_device_covers_is_missing(read: list[Device], lacking: Lack) -> None:
    """A component without a device, a second package, one GPU of several, another vendor's GPU."""
    advice = advise(read, [lacking])

    assert (dict(advice.better), advice.missing, advice.moot) == ({}, (lacking,), ())


@pytest.mark.parametrize("source", ["hwmon", "reported", "modelled", "somebody's"])
def test_a_lack_of_a_worse_source_is_moot(source: str) -> None:
    """Where RAPL reads the CPU nobody needs a rail, an exporter, a model or another counter of it."""
    lacking = lack(source, "cpu")

    assert advise([RAPL_CPU], [lacking]).moot == (lacking,)
    assert worth_telling(Found((read_by("rapl", "cpu-0", CPU),), (lacking,))) == ()


def test_what_could_only_be_as_good_is_moot() -> None:
    """A rail is no reason to ask for an exporter's figure of it, nor one exporter for another's."""
    rail, told = device("cpu-0", CPU, SAMPLED, source="hwmon"), device("cpu-0", CPU, REPORTED, source="node_exporter")

    assert advise([rail], [lack("reported", "cpu")]).moot == (lack("reported", "cpu"),)
    assert advise([told], [lack("reported", "cpu")]).moot == (lack("reported", "cpu"),)


def test_a_part_of_what_is_read_is_missing_whoever_reads_the_other_part() -> None:
    """One package of two is lacking although another source has a figure of its own beside it."""
    read = [RAPL_CPU, device("npu-0", CPU, source="somebody's")]

    assert advise(read, [lack("rapl", "cpu")]).missing == (lack("rapl", "cpu"),)


def test_what_is_worth_telling_is_told_in_order() -> None:
    """All that would change something stays, once, whatever it would change."""
    lacks = (lack("rapl", "cpu"), lack("hwmon", "cpu"), lack("redfish", "overhead"), Lack("ledger", "here", "do this"))

    found = Found((read_by("modelled", "cpu", CPU, provenance=MODELLED), gpu("nvml", 0)), lacks)

    assert worth_telling(found) == lacks


def test_the_parts_that_nobody_measures_are_named() -> None:
    """A machine with a CPU alone has no figure of three parts of it."""
    assert uncovered([RAPL_CPU]) == ("accelerator", "dram", "overhead")
    assert uncovered([device("x", component) for component in (ACCELERATOR, CPU, DRAM)]) == ("overhead",)


def test_what_a_whole_contains_is_not_missing() -> None:
    """A module has its CPU and memory in its figure: who cannot read RAPL beside it lacks nothing."""
    module = device("gpu-0", domain="module", source="nvml")

    assert uncovered([module]) == ("overhead",)
    assert advise([module], [lack("rapl", "cpu"), lack("rapl", "dram")]).moot == (
        lack("rapl", "cpu"),
        lack("rapl", "dram"),
    )
