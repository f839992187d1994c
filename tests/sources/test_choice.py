"""Which source reads what: no joule twice, the best source wins, and each decision is explained."""

import pytest

from inferwatt.sources.choice import choose

from .devices import (
    ACCELERATOR,
    CPU,
    DRAM,
    MODELLED,
    OVERHEAD,
    REPORTED,
    SAMPLED,
    NamedSource,
    device,
    gpu,
    read_by,
)


def kept(*sources: NamedSource) -> list[tuple[str, str]]:
    """Return what is read after the choice: which source, which device."""
    return [(source.name, source.device.device) for source in choose(sources).kept]


def why(*sources: NamedSource) -> list[str]:
    """Return what is said of those that are not read."""
    return [f"{over.source} {over.device.device}: {over.why}" for over in choose(sources).passed_over]


def test_a_gpu_is_known_by_its_uuid_and_read_by_the_best() -> None:
    """The driver's counter wins over another exporter's figure of the same GPU, whatever that calls it."""
    ours, theirs = gpu("nvml", 0, "GPU-a"), gpu("reported", 3, "GPU-A")

    assert kept(theirs, ours) == [("nvml", "gpu-0")]
    assert why(theirs, ours) == ["reported gpu-3: the same GPU is read by nvml (measured)"]


def test_a_gpu_without_a_uuid_is_known_by_its_name() -> None:
    """An exporter that tells no UUID means the GPU that it names."""
    assert kept(gpu("nvml", 0, "GPU-a"), gpu("reported", 0), gpu("reported", 1)) == [
        ("nvml", "gpu-0"),
        ("reported", "gpu-1"),
    ]


def test_one_name_for_two_gpus_loses_neither() -> None:
    """An NVIDIA and an AMD GPU may both be the first of their driver: each is read, under a name of its own."""
    sources = [gpu("amdsmi", 0, "amd-x"), gpu("nvml", 0, "GPU-a")]

    found = choose(sources)

    assert [(s.name, s.device.device) for s in found.kept] == [("amdsmi", "gpu-0-amdsmi"), ("nvml", "gpu-0")]
    assert found.passed_over == ()


def test_what_tells_no_uuid_hides_no_two_that_do() -> None:
    """Of three of one name and one source the two with UUIDs are two; the third is one of them."""
    nameless = gpu("reported", 0)
    known = [gpu("reported", 0, "GPU-a"), gpu("reported", 0, "GPU-b")]

    assert len(kept(nameless, *known)) == 2
    assert kept(nameless) == [("reported", "gpu-0")]


def test_a_wrong_name_does_not_hide_a_gpu() -> None:
    """In a container an exporter's gpu-1 may be another GPU than ours: the UUID decides, both ours stay."""
    sources = [gpu("nvml", 0, "GPU-a"), gpu("nvml", 1, "GPU-b"), gpu("reported", 1, "GPU-a")]

    assert kept(*sources) == [("nvml", "gpu-0"), ("nvml", "gpu-1")]


def test_among_equals_whoever_is_closer_to_the_hardware_reads() -> None:
    """With one provenance the driver comes before another exporter, and a package that we do not know between them."""
    sources = [
        NamedSource(name, device("gpu-0", provenance=SAMPLED, uuid="GPU-a", ratio=ratio))
        for name, ratio in (("reported", 0.01), ("somebody", 0.02), ("nvml", 0.1))
    ]

    assert kept(*sources) == [("nvml", "gpu-0")]
    assert kept(*sources[:2]) == [("somebody", "gpu-0")]


@pytest.mark.parametrize(
    "other",
    [
        read_by("reported", "cpu-0", CPU, provenance=REPORTED),
        read_by("hwmon", "cpu-rail-0", CPU, provenance=SAMPLED),
        read_by("modelled", "cpu", CPU, provenance=MODELLED),
    ],
    ids=lambda source: source.name,
)
def test_a_cpu_is_read_by_one_source_as_a_whole(other: NamedSource) -> None:
    """RAPL's packages stand alone: what another tells of the CPU would be the same joules again."""
    packages = [read_by("rapl", f"cpu-{n}", CPU) for n in range(2)]

    assert kept(other, *packages) == [("rapl", "cpu-0"), ("rapl", "cpu-1")]
    assert why(other, *packages) == [f"{other.name} {other.device.device}: the CPU is read by rapl (measured)"]


def test_each_component_of_the_host_has_a_source_of_its_own() -> None:
    """Where RAPL has no DRAM zone the rail of another source is no double."""
    assert kept(
        read_by("rapl", "cpu-0", CPU),
        read_by("hwmon", "cpu-rail-0", CPU, provenance=SAMPLED),
        read_by("hwmon", "dram-rail-0", DRAM, provenance=SAMPLED),
    ) == [("rapl", "cpu-0"), ("hwmon", "dram-rail-0")]


def test_of_two_exporters_that_report_a_cpu_one_is_read() -> None:
    """They come by one source, and are told apart by what they are."""
    exporters = [
        NamedSource("reported", device(name, CPU, REPORTED, source=source))
        for name, source in (("cpu-0", "node_exporter"), ("cpu-package-0", "kepler"))
    ]

    assert kept(*exporters) == [("reported", "cpu-0")]


def test_a_gpu_alone_is_preferred_to_its_module() -> None:
    """A superchip's module holds its GPU, CPU and memory: with the GPU and CPU read alone all would count twice."""
    module = gpu("nvml", 7, "GPU-a", domain="module")
    parts = [gpu("nvml", 0, "GPU-a", provenance=SAMPLED), read_by("hwmon", "cpu-0", CPU, provenance=SAMPLED)]

    assert kept(module, *parts) == [("nvml", "gpu-0"), ("hwmon", "cpu-0")]
    assert why(module, *parts) == ["nvml gpu-7: it covers the whole module, and gpu-0 the GPU alone"]


def test_an_exporters_gpu_is_no_part_to_prefer_to_our_module() -> None:
    """It has the figure from the same driver, whose counter covers the module whatever the exporter calls it."""
    module = gpu("nvml", 0, "GPU-a", domain="module")

    assert kept(gpu("reported", 0, "GPU-a"), module) == [("nvml", "gpu-0")]
    assert kept(gpu("reported", 0, "GPU-a"), gpu("reported", 1, "GPU-a", domain="module")) == [("reported", "gpu-0")]


def test_a_module_without_a_uuid_stands_beside_no_gpu() -> None:
    """A rail that calls itself the module does not say of which GPU: beside any it could be counted twice."""
    module = read_by("hwmon", "module-0", ACCELERATOR, domain="module", provenance=SAMPLED)

    assert kept(module, gpu("nvml", 0, "GPU-a")) == [("nvml", "gpu-0")]
    assert kept(module, read_by("hwmon", "module-1", ACCELERATOR, domain="module", provenance=SAMPLED)) == [
        ("hwmon", "module-0"),
        ("hwmon", "module-1"),
    ]


def test_where_only_the_module_is_known_nothing_that_it_contains_is_read() -> None:
    """Its figure has the CPU and the memory: both alone would count them a second time."""
    module = gpu("nvml", 0, "GPU-a", domain="module")
    contained = [read_by("rapl", "cpu-0", CPU), read_by("rapl", "dram-0", DRAM)]

    assert kept(module, *contained) == [("nvml", "gpu-0")]
    assert why(module, *contained) == [
        f"rapl {name}: gpu-0 covers it too: its figure is of the whole module" for name in ("cpu-0", "dram-0")
    ]


def test_a_measured_module_is_better_than_a_modelled_gpu() -> None:
    """A part that nobody measured is no part to prefer."""
    sources = [
        gpu("nvml", 0, "GPU-a", domain="module"),
        read_by("modelled", "gpu-0", ACCELERATOR, provenance=MODELLED),
    ]

    assert kept(*sources) == [("nvml", "gpu-0")]


def test_a_modelled_gpu_that_could_be_any_is_not_read_beside_a_real_one() -> None:
    """Without a UUID or a name in common nobody could say that it is another; two models of one source are two."""
    modelled = [read_by("modelled", f"gpu-{n}", ACCELERATOR, provenance=MODELLED) for n in (4, 5)]

    assert kept(gpu("nvml", 0, "GPU-a"), *modelled) == [("nvml", "gpu-0")]
    assert kept(*modelled) == [("modelled", "gpu-4"), ("modelled", "gpu-5")]


def test_the_platform_is_read_beside_no_part_of_it() -> None:
    """What psys feeds is not known: with a GPU, a package or DRAM read alone it would be counted twice."""
    psys = read_by("rapl", "psys-1", CPU, domain="psys")
    dram = read_by("reported", "dram-0", DRAM, provenance=REPORTED)
    modelled = read_by("modelled", "cpu", CPU, provenance=MODELLED)

    assert kept(psys, read_by("rapl", "cpu-0", CPU), dram) == [("rapl", "cpu-0"), ("reported", "dram-0")]
    assert kept(psys, gpu("nvml", 0, "GPU-a"), modelled) == [("nvml", "gpu-0"), ("modelled", "cpu")]
    assert kept(psys, dram, modelled) == [("rapl", "psys-1")]


def test_a_socket_has_its_memory_in_it() -> None:
    """Grace's meter counts its DRAM: another figure of that would be a second one, a GPU is none of it."""
    socket = read_by("hwmon", "cpu-0", CPU, domain="socket", provenance=SAMPLED)
    dram = read_by("reported", "dram-0", DRAM, provenance=REPORTED)

    assert kept(dram, socket, gpu("nvml", 0, "GPU-a")) == [("hwmon", "cpu-0"), ("nvml", "gpu-0")]
    assert why(dram, socket) == ["reported dram-0: cpu-0 covers it too: its figure is of the whole socket"]


def test_the_whole_server_is_read_once_beside_everything() -> None:
    """What chips used is subtracted from it later; of two that know it one is enough."""
    server = read_by("redfish", "server", OVERHEAD, provenance=SAMPLED)
    again = read_by("ipmi", "server-ipmi", OVERHEAD, provenance=SAMPLED)
    parts = [gpu("nvml", 0, "GPU-a", domain="module"), read_by("rapl", "psys-1", CPU, domain="psys")]

    assert ("redfish", "server") in kept(again, server, *parts)
    assert "ipmi server-ipmi: the whole server is read by redfish (sampled)" in why(again, server, *parts)


def test_who_wants_the_other_one_is_told_how() -> None:
    """The setting that leaves the better source out is named, where it would help."""
    (over,) = choose([read_by("rapl", "cpu-0", CPU), read_by("modelled", "cpu", CPU, provenance=MODELLED)]).passed_over
    (same,) = choose([gpu("nvml", 0, "GPU-a"), gpu("nvml", 1, "GPU-a")]).passed_over

    assert (over.instead, over.fix) == ("cpu-0", 'to read it instead: sources.disabled = ["rapl"]')
    assert same.fix == "none: both are of the same source"
