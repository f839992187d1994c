"""The laws of the choice, over arbitrary machines: nothing is lost or read twice, whatever is found first."""

import random
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from inferwatt.records import Component, Device, Provenance
from inferwatt.sources.choice import COVERS, SERVER, choose

from .devices import ACCELERATOR, CPU, DRAM, MEASURED, OVERHEAD, NamedSource

SOURCES = ["nvml", "rapl", "hwmon", "reported", "somebody", "modelled"]
DEVICES = st.builds(
    lambda source, component, domain, number, provenance, uuid: NamedSource(
        source,
        Device(
            f"{component.value}-{number}",
            domain=domain if domain != "part" else "part-" + component.value,
            component=component,
            provenance=provenance,
            uuid=uuid,
            source=source,
        ),
    ),
    st.sampled_from(SOURCES),
    st.sampled_from(Component),
    st.sampled_from(["part", "part", "part", "socket", "module", "psys", SERVER]),
    st.integers(0, 2),
    st.sampled_from(Provenance),
    st.sampled_from(["", "GPU-a", "GPU-b", "GPU-c", "GPU-d"]),
)
MACHINES = st.lists(DEVICES, max_size=10)
SANE_MACHINES = st.lists(
    DEVICES,
    max_size=10,
    unique_by=(
        lambda source: (source.name, source.device.device),
        lambda source: (source.name, source.device.uuid or id(source)),
    ),
)
"""Machines whose sources give no two devices one name, or one UUID."""


@given(MACHINES)
def test_whatever_there_is_nothing_is_lost_or_read_twice(sources: list[NamedSource]) -> None:
    """Each source is read or closed, each one that is closed is explained, and no two devices share a name."""
    found = choose(sources)
    names = [source.device.device for source in found.kept]

    assert len(found.kept) + len(found.closed) == len(sources)
    assert [over.device for over in found.passed_over] == [source.device for source in found.closed]
    assert all(over.why and over.fix and over.instead for over in found.passed_over)
    assert len(set(names)) == len(names)
    assert bool(found.kept) == bool(sources)


@given(MACHINES)
def test_whatever_there_is_no_two_devices_count_the_same(sources: list[NamedSource]) -> None:
    """One device a UUID, one source a host component, one server, and no whole beside a part of it."""
    devices = [source.device for source in choose(sources).kept]
    parts = [d for d in devices if d.domain != SERVER]
    uuids = [d.uuid for d in parts if d.component is ACCELERATOR and d.uuid]

    assert len(set(uuids)) == len(uuids)
    assert sum(d.domain == SERVER for d in devices) == any(s.device.domain == SERVER for s in sources)
    for component in (CPU, DRAM, OVERHEAD):
        assert len({d.source for d in parts if d.component is component}) <= 1
    for one in parts:
        covered = COVERS.get(one.domain, {one.component})
        assert [d for d in parts if d.component in covered and d.component is not one.component] == []


@given(SANE_MACHINES, st.randoms(use_true_random=False))
def test_the_order_in_which_sources_answer_decides_nothing(sources: list[NamedSource], chance: random.Random) -> None:
    """The same machine gives as many devices of each source, where no two sources are alike in everything."""
    for source in sources:
        source.device = replace(source.device, systematic_ratio=SOURCES.index(source.name) / 100)
    shuffled = sources.copy()
    chance.shuffle(shuffled)

    def devices(of: list[NamedSource]) -> list[str]:
        kept = [(source.name, source.device) for source in choose(of).kept]
        return sorted(f"{name} {d.domain == SERVER or d.component} {d.provenance}" for name, d in kept)

    assert devices(sources) == devices(shuffled)


@given(MACHINES)
def test_nothing_computed_stands_where_the_hardware_tells(sources: list[NamedSource]) -> None:
    """No modelled figure of the CPU or DRAM is read where one source reads it, unless that overlaps with a part."""
    devices = [source.device for source in choose(sources).kept]
    found = [s.device for s in sources if s.device.domain not in {SERVER, *COVERS}]
    for component in (CPU, DRAM):
        read = [d for d in devices if d.component is component and d.domain != SERVER]
        better = [d for d in found if d.component is component and d.provenance is MEASURED]
        if better and read:
            assert any(d.provenance is MEASURED for d in read)
