"""The published rows, and which processor has which."""

import re

import pytest

from inferwatt.sources.coefficients import AMD, ARM, INTEL, ROWS, Cpu, coefficients, describe_cpuinfo, microarchitecture
from inferwatt.sources.instances import SERIES

from .trees import cpuinfo


@pytest.mark.parametrize(
    ("cpu", "expected"),
    [
        (Cpu(AMD, 26, 2), "Zen 5"),
        (Cpu(AMD, 26, 17), "Zen 5c"),
        (Cpu(AMD, 26, 68), "Zen 4/5 AM5"),
        (Cpu(AMD, 25, 97), "Zen 4/5 AM5"),
        (Cpu(AMD, 25, 160), "Zen 4c"),
        (Cpu(AMD, 25, 17), "Zen 4"),
        (Cpu(AMD, 25, 1), "Zen 3"),
        (Cpu(AMD, 23, 49), "Zen 2"),
        (Cpu(AMD, 23, 1), "Zen"),
        (Cpu(INTEL, 6, 173), "Granite Rapids"),
        (Cpu(INTEL, 6, 175), "Sierra Forest"),
        (Cpu(INTEL, 6, 207), "Emerald Rapids"),
        (Cpu(INTEL, 6, 143), "Sapphire Rapids"),
        (Cpu(INTEL, 6, 106), "Ice Lake"),
        (Cpu(INTEL, 6, 85, 11), "Cooper Lake"),
        (Cpu(INTEL, 6, 85, 7), "Cascade Lake"),
        (Cpu(INTEL, 6, 85, 4), "Skylake"),
        (Cpu(INTEL, 6, 79), "Broadwell"),
        (Cpu(INTEL, 6, 63), "Haswell"),
        (Cpu(INTEL, 6, 62), "Ivy Bridge"),
        (Cpu(INTEL, 6, 45), "Sandy Bridge"),
        (Cpu(INTEL, 6, 158, 10), "Coffee Lake"),
        (Cpu(ARM, part=0xD0C), "Neoverse N1"),
        (Cpu(INTEL, 6, 158, 9), ""),
        (Cpu(AMD, 27, 1), ""),
        (Cpu(ARM, part=0xD40), ""),
        (Cpu(), ""),
    ],
)
def test_a_processor_is_known_by_its_numbers(cpu: Cpu, expected: str) -> None:
    """Family, model and stepping name the microarchitecture; a name like "AMD EPYC" says nothing."""
    assert microarchitecture(cpu) == expected


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.microarchitecture)
def test_every_row_is_plausible_and_says_where_it_is_from(row: object) -> None:
    """Idle is less than full load, the pattern is a pattern, and there are results behind it."""
    assert row in ROWS
    entry = next(entry for entry in ROWS if entry is row)

    assert 0 < entry.idle_uw < entry.full_uw < 10_000_000
    assert entry.results >= 3
    assert re.compile(entry.match)


def test_no_bound_is_tighter_than_forty_percent() -> None:
    """However alike the servers of a row are, the model does not know the load."""
    assert min(coefficients(Cpu(AMD, 26, 2)).systematic_ratio, coefficients(Cpu()).systematic_ratio) >= 0.40


@pytest.mark.parametrize("cpu", [Cpu(AMD, 99), Cpu(INTEL, 6, 1), Cpu(ARM, part=1), Cpu()])
def test_an_unknown_processor_gets_an_interval_that_spans_the_rows(cpu: Cpu) -> None:
    """Its bounds hold every row that it could be; it is no row in disguise."""
    table = coefficients(cpu)
    rows = [row for row in ROWS if row.vendor == cpu.vendor] or ROWS

    assert not table.known
    for row in rows:
        assert abs(row.idle_uw - table.idle_uw) <= table.idle_uw * table.systematic_ratio
        assert abs(row.full_uw - table.full_uw) <= table.full_uw * table.systematic_ratio


def test_other_knowledge_counts_where_cpuid_tells_nothing() -> None:
    """A known processor keeps its own row; a name without a row is as unknown as none."""
    assert coefficients(Cpu(INTEL, 6, 1), "Ice Lake") == coefficients(Cpu(INTEL, 6, 106))
    assert coefficients(Cpu(INTEL, 6, 143), "Ice Lake").kind == "Sapphire Rapids"
    assert coefficients(Cpu(INTEL, 6, 1), "Neoverse V2") == coefficients(Cpu(INTEL, 6, 1))


def test_what_is_published_of_an_instance_has_a_row() -> None:
    """A name that no row has would be of no use."""
    assert {series.microarchitecture for series in SERIES} - {row.microarchitecture for row in ROWS} == {""}


@pytest.mark.parametrize(
    ("flags", "is_guest"), [("fpu hypervisor lm", True), ("fpu lm", False), ("hypervisor_x", False)]
)
def test_cpuid_says_whether_a_hypervisor_is_below(flags: str, is_guest: bool) -> None:
    """One flag among many, and the whole word."""
    assert describe_cpuinfo(cpuinfo(AMD, 26, 2, flags=flags)).is_guest is is_guest
