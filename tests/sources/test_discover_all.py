"""Discovery: every source once, none of them can end the others."""

import threading
from collections.abc import Callable
from importlib.metadata import entry_points
from pathlib import Path

import pytest

from inferwatt.records import Component, Device, Provenance
from inferwatt.snapshot import Lack
from inferwatt.sources import GROUP, Discover, Found, SourcesConfig, discover_all
from inferwatt.sources.modelled import discover as modelled
from inferwatt.sources.rapl import discover as rapl
from inferwatt.testing import ScriptedSource

from .trees import Powercap, Proc

CPUINFO = (
    "processor\t: 0\nvendor_id\t: AuthenticAMD\ncpu family\t: 26\nmodel\t\t: 2\nmodel name\t: AMD EPYC\nstepping\t: 1\n"
)
OURS: dict[str, Discover] = {"modelled": modelled, "rapl": rapl}
INSTALLED = tuple(sorted(entry.name for entry in entry_points(group=GROUP)))


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


def test_what_is_passed_over_is_closed_and_explained(machine: SourcesConfig) -> None:
    """Of two sources of one device the second is closed, and it is said what is read in its place."""
    first, _ = finds(Device("gpu-0"))
    second, (twin,) = finds(Device("gpu-0"))

    result = discover_all(machine, discoverers={"a": first, "b": second})

    assert len(result.sources) == 1
    assert twin.closed
    assert [(over.device.device, over.instead) for over in result.passed_over] == [("gpu-0", "gpu-0")]


def test_a_source_that_fails_to_close_ends_nobody(machine: SourcesConfig) -> None:
    """What is not read must not end what is."""

    class Stuck(ScriptedSource):
        """A source whose driver fails at the end."""

        def close(self) -> None:
            """Fail."""
            raise OSError("driver in use")

    stuck = Found((ScriptedSource("gpu-0", []), Stuck("gpu-0", [])))

    result = discover_all(machine, discoverers={"a": lambda _settings: stuck})

    assert len(result.sources) == 1
    assert "driver in use" in result.lacks[0].what


def test_a_driver_that_hangs_at_the_start_is_a_lack(machine: SourcesConfig) -> None:
    """Nobody waits for ever: the others are read, and what it finds at last is closed."""
    hang, late = threading.Event(), ScriptedSource("gpu-0", [])
    closed = threading.Event()
    late.close = closed.set  # type: ignore[method-assign]

    def hangs(_settings: SourcesConfig) -> Found:
        hang.wait()
        return Found((late,))

    result = discover_all(machine, discoverers={"nvml": hangs, **OURS}, patience_seconds=0.5)
    hang.set()

    assert [source.name for source in result.sources] == ["rapl"]
    assert "TimeoutError: no answer within 0.5 s: its driver hangs" in result.lacks[0].what
    assert closed.wait(10)


def test_it_is_known_who_was_asked(machine: SourcesConfig) -> None:
    """A source that found nothing or failed was asked all the same; a disabled one was not."""

    def broken(_settings: SourcesConfig) -> Found:
        raise OSError

    asked: dict[str, Discover] = {"broken": broken, "empty": lambda _settings: Found(), **OURS}
    settings = SourcesConfig(machine.sysfs_root, machine.proc_root, disabled=("rapl",))

    assert discover_all(settings, discoverers=asked).asked == ("broken", "empty", "modelled")


def test_a_lack_has_the_name_of_the_source_that_said_it(machine: SourcesConfig) -> None:
    """Where a source does not say who it is, its entry point's name stands."""
    lacks = (Lack("a", "b", "c"), Lack("a", "b", "c", source="its own"))

    result = discover_all(machine, discoverers={"empty": lambda _settings: Found(lacks=lacks)})

    assert [lack.source for lack in result.lacks] == ["empty", "its own"]


def test_an_answer_that_is_none_is_a_lack(machine: SourcesConfig) -> None:
    """A package that returns something else is contained as one that fails."""

    def wrong(_settings: SourcesConfig) -> Found:
        return [ScriptedSource("gpu-0", [])]  # type: ignore[return-value]

    result = discover_all(machine, discoverers={"other": wrong, **OURS})

    assert [source.name for source in result.sources] == ["rapl"]
    assert "TypeError: it returns list, not Found" in result.lacks[0].what


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


def test_a_name_that_no_source_has_is_said(tmp_path: Path) -> None:
    """A typing error in sources.disabled leaves nothing out, and is told with the names that there are."""
    settings = SourcesConfig(str(tmp_path), str(tmp_path), disabled=("rapll", *INSTALLED))

    result = discover_all(settings)

    assert result.asked == ()
    assert [lack.what[:24] for lack in result.lacks] == ["no source is called rapl"]
    assert ", ".join(INSTALLED) in result.lacks[0].fix
