"""Lost devices are looked for where they were lost, and nowhere else."""

from inferwatt.sources import Found, SourcesConfig
from inferwatt.sources.again import searching_again
from inferwatt.sources.health import SamplerHealth, SourceHealth
from inferwatt.testing import ScriptedSource


def health(*devices: tuple[str, str, bool]) -> SamplerHealth:
    """Return the health of devices, given as name, source, and whether it is up."""
    sources = tuple(SourceHealth(name, source, up, False, 9, 0, 0) for name, source, up in devices)
    return SamplerHealth(sources, 1, 0, 0, 10.0, running=True)


def test_only_the_source_that_lost_a_device_is_asked_again() -> None:
    """Its other devices come with it; whose devices are all well, and who never had one, are left alone."""
    seen: list[tuple[str, ...]] = []
    gpu = ScriptedSource("gpu-0", [])

    def find(settings: SourcesConfig) -> Found:
        seen.append(settings.disabled)
        return Found((gpu,))

    settings = SourcesConfig("/sys", "/proc", disabled=("hwmon",))
    now = health(("gpu-0", "nvml", False), ("gpu-1", "nvml", True), ("server", "redfish", True))

    found = searching_again(find, settings, ("nvml", "redfish", "rapl"), lambda: now)()

    assert found == (gpu,)
    assert seen == [("hwmon", "redfish", "rapl")]
