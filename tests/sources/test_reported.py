"""Exporters over real HTTP: pages by a stand-in, the poller driven by hand."""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from inferwatt.attribution.timeline import TickKind, Timeline
from inferwatt.errors import SourceRetry
from inferwatt.records import Device, EventKind, Provenance, Reading
from inferwatt.sources import SourcesConfig, discover_all
from inferwatt.sources.reported import discover
from inferwatt.sources.settings import ReportedConfig
from inferwatt.sources.slow import SlowDevice
from inferwatt.testing import ScriptedSource
from inferwatt.units import NS_PER_SECOND
from tests.sources import exporters as pages
from tests.sources.exporters import ENERGY, FIRST, POWER, SECOND, Exporter, dcgm, serving
from tests.sources.trees import RANGE_UJ, Powercap

SECOND_NS = NS_PER_SECOND
PATIENT = 10.0


def settings(url: str, kind: str = "", root: str = "/nonexistent") -> SourcesConfig:
    """Return a configuration with one exporter, asked with patience: the machine of a test may be busy."""
    page = ReportedConfig(url, kind, timeout_seconds=PATIENT)
    return SourcesConfig(sysfs_root=root, proc_root=root, reported=(page,))


class Desk:
    """The devices of one page, polled by hand: `poll` asks, `read` hands over what was said of one device."""

    def __init__(self, config: SourcesConfig) -> None:
        self.found = discover(config)
        self.devices = {source.device.device: source for source in self.found.sources}
        self.poller = next(s for s in self.found.sources if isinstance(s, SlowDevice))._poller
        self.poller.is_started = True  # no thread: the test polls
        self._now_ns = self.poller.clock.monotonic_ns()

    def poll(self) -> None:
        """Ask once, now."""
        self._now_ns = self.poller.step(max(self._now_ns, self.poller.clock.monotonic_ns()))

    def read(self, device: str) -> Reading:
        """Return the reading of a device; raises what the sampler would see."""
        said = self.devices[device].read(self._now_ns)
        assert isinstance(said, Reading)
        return said


@contextmanager
def desk(page: str) -> Iterator[tuple[Exporter, Desk]]:
    """Serve a page, and find its devices."""
    with serving(page) as exporter:
        yield exporter, Desk(settings(exporter.url))


def test_each_device_of_a_page_is_a_source() -> None:
    """Devices say who told of them, that it is reported, and which hardware it is."""
    with desk(pages.DCGM_MIG) as (_, found):
        devices = [source.device for source in found.found.sources]

    assert [(d.device, d.kind, d.uuid, d.source) for d in devices] == [
        ("gpu-0", "NVIDIA A100-SXM4-80GB", FIRST, "dcgm-exporter"),
        ("gpu-1", "NVIDIA A100-SXM4-80GB", SECOND, "dcgm-exporter"),
    ]
    assert {device.provenance for device in devices} == {Provenance.REPORTED}
    assert {source.name for source in found.found.sources} == {"reported"}
    assert found.found.lacks == ()


def test_one_question_serves_all_devices() -> None:
    """Two GPUs of one page: one question to find them, one for each poll."""
    with desk(pages.DCGM_MIG) as (exporter, found):
        found.poll()
        readings = [found.read(name) for name in ("gpu-0", "gpu-1")]

    assert [reading.counter_uj for reading in readings] == [257858331000, 187554325000]
    assert readings[0].t_ns == readings[1].t_ns
    assert [path for path, _ in exporter.asked] == ["/metrics"] * 2


def test_a_sample_that_is_not_there_is_a_failed_read_of_that_device() -> None:
    """The other device goes on; the one that is missing says so, and is never zero."""
    with desk(pages.DCGM_MIG) as (exporter, found):
        exporter.page = dcgm((ENERGY, 1, SECOND, "", "187554400")).encode()
        found.poll()

        with pytest.raises(SourceRetry, match="gpu-0: dcgm-exporter says nothing of it"):
            found.read("gpu-0")
        assert found.read("gpu-1").counter_uj == 187554400000


@pytest.mark.parametrize(
    ("value", "what"),
    [
        ("0", "says 0, by which it means"),
        ("-5", "says a negative number"),
        ("NaN", r"says nothing of it .*1 not_finite"),
    ],
)
def test_an_unknown_figure_is_a_failed_read_with_its_reason(value: str, what: str) -> None:
    """Zero, a negative number and NaN are lost samples, and each says why."""
    with desk(pages.DCGM_MIG) as (exporter, found):
        exporter.page = dcgm((ENERGY, 0, FIRST, "", value), (ENERGY, 1, SECOND, "", "7")).encode()
        found.poll()

        with pytest.raises(SourceRetry, match=what):
            found.read("gpu-0")


def test_joules_never_fall_back_to_watts() -> None:
    """A device that was read by its counter waits for it; one that had watts takes the counter up when it comes."""
    with desk(dcgm((ENERGY, 0, FIRST, "", "7"), (POWER, 0, FIRST, "", "50"), (POWER, 1, SECOND, "", "60"))) as (
        exporter,
        found,
    ):
        exporter.page = dcgm(
            (POWER, 0, FIRST, "", "50"), (ENERGY, 1, SECOND, "", "9"), (POWER, 1, SECOND, "", "60")
        ).encode()
        found.poll()

        with pytest.raises(SourceRetry, match="gpu-0"):
            found.read("gpu-0")
        assert found.read("gpu-1").counter_uj == 9000


def test_a_counter_that_steps_back_is_passed_on_as_it_is() -> None:
    """An exporter that restarts begins at zero: the timeline judges that, not the source."""
    with desk(pages.TRITON) as (exporter, found):
        found.poll()
        before = found.read("gpu-1")
        exporter.page = pages.TRITON.replace("9380.053", "2.5").encode()
        found.poll()
        after = found.read("gpu-1")

    assert (before.counter_uj, after.counter_uj) == (9380053000, 2500000)


@pytest.mark.parametrize(
    ("break_it", "what"),
    [
        (lambda exporter: exporter.stop(), "nobody listens"),
        (lambda exporter: setattr(exporter, "status", 503), "answers 503"),
        (lambda exporter: setattr(exporter, "page", b"<html>busy</html>"), "is HTML"),
        (lambda exporter: setattr(exporter, "page", b""), "is empty"),
        (lambda exporter: setattr(exporter, "page", b"x" * (4 << 20) + b"\n"), "too long"),
    ],
)
def test_a_page_that_is_away_is_a_failed_read_of_all_and_comes_back(
    break_it: Callable[[Exporter], None], what: str
) -> None:
    """Nobody there, an error, HTML, nothing or five megabytes: each device says so once, then nothing is new."""
    with desk(pages.DCGM_MIG) as (exporter, found):
        break_it(exporter)
        found.poll()

        for name in ("gpu-0", "gpu-1"):
            with pytest.raises(SourceRetry, match=what):
                found.read(name)
            assert found.devices[name].read(found.poller.clock.monotonic_ns()) is None


@pytest.mark.parametrize(
    ("page", "status", "what", "fix"),
    [
        (
            "go_goroutines 7\nx{a} 5\n",
            200,
            "of no exporter that we know: 2 metrics, go_goroutines, x",
            "dcgm, node, kepler",
        ),
        ("<html>", 200, "is HTML", "/metrics"),
        ("", 200, "page is empty", "/metrics"),
        ("\x1b[2J{} 7\n", 200, "of no exporter that we know: 1 metrics, none with a name", "dcgm"),
        (pages.TRITON_WITHOUT_GPU, 200, "no joules and no watts", "--allow-gpu-metrics=true"),
        (pages.DCGM_MIG, 401, "answers 401", "password_file"),
        (pages.DCGM_MIG, 404, "answers 404", "/metrics"),
        ('{"pets": 7}', 200, "of no exporter that we know: 1 metrics, pets", "zeusd"),
    ],
)
def test_a_page_that_cannot_be_used_is_a_lack(page: str, status: int, what: str, fix: str) -> None:
    """It says what was seen, at which address, and what to do; nothing is read."""
    with serving(page, status) as exporter:
        found = discover(settings(exporter.url))

    assert found.sources == ()
    (lack,) = found.lacks
    assert what in lack.what
    assert fix in lack.fix
    assert lack.where == exporter.url
    assert lack.what.isprintable()


def test_an_exporter_that_is_not_there_is_a_lack() -> None:
    """Nobody listens at the start: said, and the agent goes on."""
    with serving(pages.NODE) as exporter:
        pass
    (lack,) = discover(settings(exporter.url)).lacks

    assert "nobody listens" in lack.what


def test_a_kind_that_is_set_is_not_guessed() -> None:
    """A page of two exporters is read as the one that was named; a name that is none is a lack."""
    both = pages.NODE + pages.KEPLER
    with serving(both) as exporter:
        guessed = discover(settings(exporter.url))
        named = discover(settings(exporter.url, kind="kepler"))
        wrong = discover(settings(exporter.url, kind="prometheus"))

    assert {source.device.source for source in guessed.sources} == {"node_exporter"}
    assert {source.device.source for source in named.sources} == {"Kepler"}
    assert "'prometheus' is no kind of exporter" in wrong.lacks[0].what


def test_watts_alone_are_said_to_be_less() -> None:
    """Who publishes its power every 30 s and no energy is read, with the setting that would give joules."""
    with serving(dcgm((POWER, 0, FIRST, "", "50"), (POWER, 1, SECOND, "", "60"))) as exporter:
        found = discover(settings(exporter.url))

    (lack,) = found.lacks
    assert lack.what == (
        "dcgm-exporter says watts only of gpu-0, gpu-1, new every 30 s: what was used between them is not known"
    )
    assert lack.fix == "add DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION to the file of its option --collectors"


def test_a_gpu_that_the_driver_tells_of_is_counted_once() -> None:
    """The same UUID by NVML and by dcgm-exporter: the driver's is read, the exporter's other GPU stays."""
    nvml = ScriptedSource(Device("gpu-0", uuid=FIRST.upper(), source="nvml"), [1])
    with serving(pages.DCGM_MIG) as exporter:
        config = settings(exporter.url)
        found = discover_all(
            config, discoverers={"nvml": lambda _: type(discover(config))((nvml,)), "reported": discover}
        )

    assert [(s.device.uuid.casefold(), s.device.source) for s in found.sources] == [
        (FIRST.casefold(), "nvml"),
        (SECOND.casefold(), "dcgm-exporter"),
    ]


@pytest.fixture
def intel(tmp_path: Path) -> str:
    """Return the root of a machine with one Intel package, whose counter only root may read."""
    Powercap(tmp_path).zone("0", "package-0", None)
    (tmp_path / "cpuinfo").write_text("processor : 0\nvendor_id : GenuineIntel\ncpu family : 6\nmodel : 143\n")
    return str(tmp_path)


def test_a_raw_counter_wraps_where_this_kernel_says(intel: str) -> None:
    """Every user may read the range of a RAPL zone, if not its counter: an exporter on this machine wraps there."""
    with serving(pages.NODE) as exporter:
        found = Desk(settings(exporter.url, root=intel))
        found.poll()

        assert found.read("cpu-0").wraps_at_uj == RANGE_UJ + 1
        assert found.read("cpu-1").wraps_at_uj is None
        assert found.devices["cpu-0"].device.systematic_ratio == 0.05


def test_nothing_of_this_machine_is_taken_for_another(intel: str) -> None:
    """An exporter elsewhere may have another processor: neither its range nor its bound is ours."""
    with serving(pages.NODE) as exporter:
        found = Desk(settings(exporter.url.replace("127.0.0.1", "0.0.0.0"), root=intel))
        found.poll()

        assert found.read("cpu-0").wraps_at_uj is None
        assert found.devices["cpu-0"].device.systematic_ratio == 0.20


def test_an_update_of_30_s_is_found_out_and_its_joules_are_kept() -> None:
    """dcgm-exporter at its default, asked each second: ticks of 30 s, all joules in them, no stall once it is known."""
    timeline = Timeline(Device("gpu-0", provenance=Provenance.REPORTED))
    ticks = []
    for second in range(600):
        counter_uj = second // 30 * 30 * 400 * 1_000_000
        tick = timeline.add(Reading(second * SECOND_NS, "gpu-0", counter_uj=counter_uj))
        ticks += [tick] if tick else []
    stalls = [event.t_ns // SECOND_NS for event in timeline.events if event.kind is EventKind.STALL]

    assert {tick.energy_uj for tick in ticks} == {30 * 400 * 1_000_000}
    assert sum(tick.kind is TickKind.NORMAL for tick in ticks[2:]) == len(ticks) - 2
    assert abs(timeline.period_ns - 30 * SECOND_NS) < SECOND_NS
    assert max(stalls) < 65


def test_no_address_is_told_with_what_may_be_a_secret() -> None:
    """What stands behind the question mark is for the exporter, and in no lack."""
    with serving("", 500) as exporter:
        (lack,) = discover(settings(f"{exporter.url}?token=hunter2")).lacks

    assert exporter.asked[0][0] == "/metrics?token=hunter2"
    assert not re.search("hunter2", f"{lack}")
