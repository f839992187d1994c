"""The series API without an Agent, against a stand-in that answers as Datadog documents."""

from pathlib import Path

import pytest

from inferwatt.errors import ConfigError
from inferwatt.export import datadog_api
from inferwatt.export.datadog import open_exporter
from inferwatt.export.datadog_api import MOST_PACKED_BYTES, SeriesApi, series_url
from inferwatt.export.exporter import About, Batch, Exporter, ExportRetry
from inferwatt.export.settings import DatadogConfig, ExportConfig
from inferwatt.snapshot import Labels, Snapshot

from .figures import LIVE, snapshot
from .intake import Intake, listening

KEY = "0123456789abcdef0123456789abcdef"
NOW_NS = 1_800_000_000 * 10**9
SECOND_NS = 10**9
JOULES = "inferwatt.energy_joules.count"
ABOUT = About("node-1", "0.1.0", 0)


def opened(intake: Intake, **settings: object) -> SeriesApi:
    """Return the exporter, its key in place."""
    config = DatadogConfig(api_url=intake.url, **settings)  # type: ignore[arg-type]
    return SeriesApi(series_url(config.api_url), lambda: KEY, config, "node-1")


def sent(exporter: Exporter, second: int, page: Snapshot) -> int:
    """Export at a second after the start."""
    return exporter.export(Batch(NOW_NS + second * SECOND_NS, page))


def joules(intake: Intake) -> list[tuple[int, float]]:
    """Return time (after the start) and value of each point of the measured energy that was taken."""
    return [
        (each["points"][0]["timestamp"] - 1_800_000_000, each["points"][0]["value"])
        for each in intake.series()
        if each["metric"] == JOULES and "provenance:measured" in each["tags"]
    ]


def test_a_series_is_as_version_2_wants_it() -> None:
    """Counts with their interval, gauges, the host as a resource, the key in its header, gzip."""
    with listening() as intake:
        exporter = opened(intake, tags=("env:prod", "a b"))
        sent(exporter, 0, snapshot(0))
        intake.bodies.clear()
        assert sent(exporter, 10, snapshot(2_500_000)) == 0
    by_name = {each["metric"]: each for each in intake.series() if "provenance:modelled" not in each["tags"]}

    assert by_name[JOULES] == {
        "metric": JOULES,
        "type": 1,
        "interval": 10,
        "points": [{"timestamp": 1_800_000_010, "value": 2.5}],
        "resources": [{"type": "host", "name": "node-1"}],
        "tags": [
            *("model_name:m/8B", "server:vllm:8000", "phase:decode", "component:accelerator", "provenance:measured"),
            *("env:prod", "a_b"),
        ],
    }
    assert by_name["inferwatt.device_power_watts"]["type"] == 3
    assert by_name["inferwatt.device_power_watts"]["points"][0]["value"] == 99.5
    assert intake.headers[-1]["dd-api-key"] == KEY
    assert intake.headers[-1]["content-encoding"] == "gzip"


@pytest.mark.parametrize("status", [403, 404, 408, 429, 500, 503])
def test_an_outage_loses_nothing(status: int) -> None:
    """What was gained while nothing was taken comes later with its own time, once; gaps are not filled by a lump."""
    with listening() as intake:
        exporter = opened(intake)
        sent(exporter, 0, snapshot(0))
        intake.answers = [(status, {}), (status, {})]
        for second in (10, 20):
            with pytest.raises(ExportRetry) as refusal:
                sent(exporter, second, snapshot(second * 1_000_000))
            assert refusal.value.reason == str(status)
        sent(exporter, 30, snapshot(30_000_000))

    assert joules(intake) == [(10, 10.0), (20, 10.0), (30, 10.0)]


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [({"Retry-After": "7"}, 7.0), ({"X-RateLimit-Reset": "30"}, 30.0), ({"Retry-After": "soon"}, None), ({}, None)],
)
def test_it_waits_as_long_as_it_is_asked_to(headers: dict[str, str], seconds: float | None) -> None:
    """429 says for how long."""
    with listening() as intake:
        intake.answers = [(429, headers)]
        with pytest.raises(ExportRetry) as refusal:
            sent(opened(intake), 0, snapshot())

    assert refusal.value.retry_after_seconds == seconds


def test_points_older_than_an_hour_are_given_up_and_counted() -> None:
    """After an outage of two hours the last hour is sent, and the count says what is missing."""
    with listening() as intake:
        exporter = opened(intake)
        sent(exporter, 0, snapshot(0))
        intake.answers = [(503, {})] * 8
        for minutes in range(15, 135, 15):
            with pytest.raises(ExportRetry):
                sent(exporter, minutes * 60, snapshot(minutes * 1_000_000))
        refused = sent(exporter, 7200 + 30, snapshot(121_000_000))

    assert [at for at, _ in joules(intake)] == [4500, 5400, 6300, 7200, 7230]
    assert refused == 4 * 3  # four intervals of three series


def test_what_is_too_large_is_split(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither limit is exceeded, 413 halves further, and each series arrives once."""
    monkeypatch.setattr(datadog_api, "MOST_PACKED_BYTES", 2_000)
    tenants: dict[Labels, float] = {(f"tenant-{n * 7919 % 9973}", "m", "measured"): n for n in range(500)}
    page = Snapshot({"inferwatt_tenant_energy_joules_total": tenants}, {}, LIVE)
    with listening() as intake:
        exporter = opened(intake)
        sent(exporter, 0, Snapshot({}, {}, LIVE))
        intake.answers = [(413, {})]
        sent(exporter, 10, page)
    told = [each["tags"][0] for each in intake.series()]

    assert len(told) == len(set(told)) == 499
    assert max(intake.packed_bytes) <= 2_000 < MOST_PACKED_BYTES


def test_a_single_series_that_is_never_taken_is_left_out_and_counted() -> None:
    """400 will not change: the rest of what waits goes on."""
    with listening() as intake:
        exporter = opened(intake)
        sent(exporter, 0, snapshot(0))
        intake.answers = [(400, {})]
        refused = sent(exporter, 10, snapshot(1_000_000))
        again = sent(exporter, 20, snapshot(2_000_000))

    assert (refused, again) == (3, 0)
    assert joules(intake) == [(20, 1.0)]


def test_nobody_there_is_told_without_the_key() -> None:
    """A dead address is a connection that failed; no error has the key in it, and a redirect is not followed."""
    with listening() as intake:
        exporter = opened(intake)
        intake.answers = [(302, {"Location": "http://127.0.0.1:9/elsewhere"})]
        with pytest.raises(ExportRetry) as redirect:
            sent(exporter, 0, snapshot())
    with pytest.raises(ExportRetry) as dead:
        sent(exporter, 10, snapshot())

    assert (redirect.value.reason, dead.value.reason) == ("302", "connection")
    assert KEY not in f"{redirect.value}{dead.value}{exporter!r}{vars(exporter)}"


def test_a_receiver_of_version_1_is_told_in_its_form() -> None:
    """Named by its whole address: points as pairs, the type as a word, the host beside it."""
    with listening() as intake:
        config = DatadogConfig(api_url=f"{intake.url}/datadog/api/v1/series")
        exporter = SeriesApi(series_url(config.api_url), lambda: KEY, config, "node-1")
        sent(exporter, 0, snapshot(0))
        intake.bodies.clear()
        sent(exporter, 10, snapshot(1_000_000))
    first = intake.series()[0]

    assert (first["type"], first["points"], first["host"]) == ("count", [[1_800_000_010, 1.0]], "node-1")


def test_the_key_comes_from_a_file_or_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is read anew for each batch, and without one the agent does not start."""
    monkeypatch.delenv("DD_API_KEY", raising=False)
    file = tmp_path / "key"
    settings = ExportConfig(datadog=DatadogConfig(api_url="https://api.datadoghq.eu", api_key_file=str(file)))
    with pytest.raises(ConfigError, match=r"(?s)cannot be read: No such file.*api_key_file"):
        open_exporter(settings, ABOUT)
    with pytest.raises(ConfigError, match=r"(?s)no key.*DD_API_KEY"):
        open_exporter(ExportConfig(datadog=DatadogConfig(api_url="https://api.datadoghq.eu")), ABOUT)
    with listening() as intake:
        file.write_text("first\n")
        here = DatadogConfig(api_url=intake.url, api_key_file=str(file))
        exporter = open_exporter(ExportConfig(datadog=here), ABOUT)
        assert exporter is not None
        sent(exporter, 0, snapshot())
        file.write_text("second\n")
        sent(exporter, 10, snapshot())
        file.unlink()
        with pytest.raises(ExportRetry, match="cannot be read"):
            sent(exporter, 20, snapshot())
        monkeypatch.setenv("DD_API_KEY", "third")
        other = open_exporter(ExportConfig(datadog=DatadogConfig(api_url=intake.url)), ABOUT)
        assert other is not None
        sent(other, 0, snapshot())
        other.close()

    assert [each["dd-api-key"] for each in intake.headers] == ["first", "second", "third"]


@pytest.mark.parametrize(
    "config",
    [
        DatadogConfig(api_url="http://datadog.example", api_key_file="x"),
        DatadogConfig(api_url="api.datadoghq.com"),
        DatadogConfig(api_url="https://user:pass@api.datadoghq.com"),
        DatadogConfig(api_url="https://api.datadoghq.com", dogstatsd="udp://127.0.0.1:8125"),
        DatadogConfig(dogstatsd="127.0.0.1:8125"),
        DatadogConfig(dogstatsd="udp://127.0.0.1"),
        DatadogConfig(dogstatsd="unix://"),
    ],
)
def test_what_cannot_work_stops_the_start(config: DatadogConfig) -> None:
    """A wrong address, a key in the clear, or every joule twice."""
    with pytest.raises(ConfigError, match=r"(?s)fix: "):
        open_exporter(ExportConfig(datadog=config), ABOUT)


def test_without_an_address_there_is_none() -> None:
    """Nothing is sent anywhere that was not named."""
    assert open_exporter(ExportConfig(), ABOUT) is None
