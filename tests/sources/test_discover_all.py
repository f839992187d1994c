"""Discovery: every source once, none of them can end the others."""

from collections.abc import Callable
from importlib.metadata import entry_points
from pathlib import Path

import pytest

from inferwatt.records import Component, Device, Provenance
from inferwatt.sources import GROUP, Discover, Found, SourcesConfig, discover_all
from inferwatt.sources.modelled import discover as modelled
from inferwatt.sources.rapl import discover as rapl
from inferwatt.testing import ScriptedSource

from .trees import Powercap, Proc

CPUINFO = (
    "processor\t: 0\nvendor_id\t: AuthenticAMD\ncpu family\t: 26\nmodel\t\t: 2\nmodel name\t: AMD EPYC\nstepping\t: 1\n"
)
OURS: dict[str, Discover] = {"modelled": modelled, "rapl": rapl}


def finds(*devices: Device) -> tuple[Callable[[SourcesConfig], Found], list[ScriptedSource]]:
    """Return a discoverer of these devices, and its sources."""
    sources = [ScriptedSource(device, []) for device in devices]
    return lambda _settings: Found(tuple(sources)), sources


@pytest.fixture
def machine(tmp_path: Path) -> SourcesConfig:
    """A machine with one RAPL package and a known processor."""
    Powercap(tmp_path).zone("0", "package-0", 10)
    Proc(tmp_path).cpuinfo(CPUINFO)
    return SourcesConfig(sysfs_root=str(tmp_path), proc_root=str(tmp_path))


def test_where_rapl_is_readable_the_cpu_is_not_modelled_too(machine: SourcesConfig) -> None:
    """The same joules twice would be wrong: the measured package stands alone."""
    result = discover_all(machine, discoverers=OURS)

    assert [source.name for source in result.sources] == ["rapl"]
    assert result.lacks == ()


def test_where_rapl_is_not_readable_the_cpu_is_modelled_and_the_lack_is_said(tmp_path: Path) -> None:
    """A virtual machine gets a modelled figure, and is told that it is not the best there could be."""
    Proc(tmp_path).cpuinfo(CPUINFO)

    result = discover_all(SourcesConfig(sysfs_root=str(tmp_path), proc_root=str(tmp_path)), discoverers=OURS)

    assert [source.name for source in result.sources] == ["modelled"]
    assert [lack.what[:21] for lack in result.lacks] == ["no RAPL energy counte"]


def test_a_disabled_source_is_not_asked(machine: SourcesConfig) -> None:
    """The configuration can leave one out."""
    settings = SourcesConfig(machine.sysfs_root, machine.proc_root, disabled=("rapl",))

    assert [source.name for source in discover_all(settings, discoverers=OURS).sources] == ["modelled"]


def test_a_failing_third_party_source_is_a_lack_and_the_others_go_on(machine: SourcesConfig) -> None:
    """An exception of any kind in another package's discovery is contained."""

    def broken(_settings: SourcesConfig) -> Found:
        raise KeyError("libamd_smi.so")

    result = discover_all(machine, discoverers={"other": broken, **OURS})

    assert [source.name for source in result.sources] == ["rapl"]
    assert result.lacks[0].what == "the source other failed to start: KeyError: 'libamd_smi.so'"
    assert 'disabled = ["other"]' in result.lacks[0].fix


def test_a_device_is_read_once(machine: SourcesConfig) -> None:
    """Of two sources with the same device name the second is closed, and said to be."""
    first, _ = finds(Device("gpu-0"))
    second, (twin,) = finds(Device("gpu-0"))

    result = discover_all(machine, discoverers={"a": first, "b": second})

    assert len(result.sources) == 1
    assert twin.closed
    assert "two sources call a device gpu-0" in result.lacks[0].what


def test_a_modelled_component_leaves_the_other_components_alone(machine: SourcesConfig) -> None:
    """A measured GPU is no reason not to model the CPU."""
    gpu, _ = finds(Device("gpu-0", component=Component.ACCELERATOR, provenance=Provenance.MEASURED))

    result = discover_all(machine, discoverers={"gpu": gpu, "modelled": modelled})

    assert [source.device.device for source in result.sources] == ["gpu-0", "cpu"]


def test_our_own_sources_are_found_by_entry_point() -> None:
    """Adding a source is a row in pyproject.toml, ours included."""
    if not entry_points(group=GROUP):
        pytest.skip("inferwatt is not installed in this environment")
    found = discover_all(SourcesConfig())

    assert [source.device.component for source in found.sources if source.name in OURS]
    for source in found.sources:
        source.close()
