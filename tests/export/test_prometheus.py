import shutil
import subprocess
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import parser as classic_parser
from prometheus_client.openmetrics import parser as openmetrics_parser

from inferwatt.export import prometheus
from inferwatt.export.catalog import CATALOG, Kind, Metric
from inferwatt.export.prometheus import OPENMETRICS_TYPE, TEXT_TYPE, negotiate, render
from inferwatt.snapshot import Exemplar, HistogramValue, Labels, LiveView, Snapshot

from .figures import expected_labels

parse_classic: Any = classic_parser.text_string_to_metric_families
parse_openmetrics: Any = openmetrics_parser.text_string_to_metric_families
NOTHING = LiveView(0.0, 0.0, "0", "h", (), (), (), (), (), ())
ENERGY = "inferwatt_energy_joules_total"
REQUEST = "inferwatt_request_energy_joules"
MODEL = ("m", "s", "decode", "cpu", "modelled")
NAMES = st.text(st.characters(exclude_categories=["Cs", "Cc"]) | st.sampled_from('\n"\\{},= #'), max_size=12)
TRACES = st.text(st.sampled_from("0123456789abcdef"), max_size=32)
PLAIN = [metric for metric in CATALOG.values() if metric.kind is not Kind.HISTOGRAM]
UNITS = {metric.family: metric.unit for metric in CATALOG.values()}
HISTOGRAMS = [metric for metric in CATALOG.values() if metric.kind is Kind.HISTOGRAM]


def snapshot(
    values: Mapping[str, Mapping[Labels, float]] | None = None,
    histograms: Mapping[str, Mapping[Labels, HistogramValue]] | None = None,
) -> Snapshot:
    """Return a snapshot with these families and nothing live."""
    return Snapshot(values or {}, histograms or {}, NOTHING)


def page(shown: Snapshot, *, openmetrics: bool = False, details: bool = True) -> str:
    """Return the page as text."""
    return render(shown, openmetrics=openmetrics, details=details).decode()


def series_of(metric: Metric) -> st.SearchStrategy[Mapping[Labels, Any]]:
    """Draw a few series of one family."""
    labels = st.tuples(*[NAMES] * len(metric.labels))
    if metric.kind is Kind.INFO:
        return st.dictionaries(labels, st.just(1), max_size=2)
    if metric.kind is not Kind.HISTOGRAM:
        return st.dictionaries(labels, st.integers(0, 10**24) | st.floats(0, 1e18), max_size=2)
    buckets = len(metric.buckets) + 1
    exemplars = st.builds(Exemplar, st.floats(0, 10), st.integers(1, 2**31).map(float), NAMES, TRACES)
    return st.dictionaries(
        labels,
        st.builds(
            HistogramValue,
            st.tuples(*[st.integers(0, 10**9)] * buckets),
            st.floats(0, 1e15),
            st.dictionaries(st.integers(0, buckets - 1), exemplars, max_size=2),
        ),
        max_size=2,
    )


def some_of(metrics: list[Metric]) -> st.SearchStrategy[dict[str, Any]]:
    """Draw up to three families with their series."""
    picked = st.lists(st.sampled_from(metrics), max_size=3, unique=True)
    return picked.flatmap(lambda some: st.fixed_dictionaries({metric.name: series_of(metric) for metric in some}))


SNAPSHOTS = st.builds(snapshot, some_of(PLAIN), some_of(HISTOGRAMS))


def expected_samples(shown: Snapshot) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    """What each line must say, worked out another way: decimals for scale, sums of slices for buckets."""
    samples = {}
    for name, series in shown.values.items():
        metric = CATALOG[name]
        for labels, value in series.items():
            exact = Decimal(value).scaleb(-metric.decimals) if isinstance(value, int) else value / 10**metric.decimals
            samples[name, expected_labels(shown, metric, labels)] = float(exact)
    for name, histograms in shown.histograms.items():
        metric = CATALOG[name]
        for labels, histogram in histograms.items():
            own = expected_labels(shown, metric, labels)
            for place, bound in enumerate([*map(str, metric.buckets), "+Inf"]):
                samples[f"{name}_bucket", own | {("le", bound)}] = float(sum(histogram.counts[: place + 1]))
            samples[f"{name}_sum", own] = histogram.sum
            samples[f"{name}_count", own] = float(sum(histogram.counts))
    return samples


@given(SNAPSHOTS)
def test_the_classic_page_reads_back_as_it_was(shown: Snapshot) -> None:
    """Whatever names and numbers a snapshot holds, Prometheus' own Python parser reads the same from text 0.0.4."""
    read = {
        (sample.name, frozenset(sample.labels.items())): float(sample.value)
        for family in parse_classic(page(shown))
        for sample in family.samples
    }

    assert expected_samples(shown) == read


@given(SNAPSHOTS)
def test_the_openmetrics_page_reads_back_as_it_was(shown: Snapshot) -> None:
    """The strict OpenMetrics parser accepts every page: order, suffixes, units, exemplars, end."""
    families = list(parse_openmetrics(page(shown, openmetrics=True)))
    read = {(s.name, frozenset(s.labels.items())): float(s.value) for family in families for s in family.samples}

    assert expected_samples(shown) == read
    assert all(family.unit == UNITS[family.name] for family in families)


@given(SNAPSHOTS)
def test_every_exemplar_is_on_its_own_bucket(shown: Snapshot) -> None:
    """As many exemplars are read back as the snapshot has with an id or a trace, with value and time."""
    read = sorted(
        (s.exemplar.value, float(s.exemplar.timestamp))
        for family in parse_openmetrics(page(shown, openmetrics=True))
        for s in family.samples
        if s.exemplar is not None
    )
    wanted = sorted(
        (exemplar.value, exemplar.unix_seconds)
        for series in shown.histograms.values()
        for histogram in series.values()
        for exemplar in histogram.exemplars.values()
        if exemplar.request_id or exemplar.trace_id
    )

    assert wanted == read


def request_page(exemplar: Exemplar) -> str:
    """Return a page with one histogram and this exemplar."""
    counts = tuple([0] * 5 + [3] + [0] * 16)
    histogram = HistogramValue(counts, 6.5, {5: exemplar})
    return page(snapshot(histograms={REQUEST: {("m", "s", "modelled"): histogram}}), openmetrics=True)


def test_an_exemplar_names_request_and_trace() -> None:
    """A bucket points at a request that fell into it, by the names that tracing tools look for."""
    text = request_page(Exemplar(2.5, 1_800_000_000.25, "chatcmpl-1", "0af7651916cd43dd8448eb211c80319c"))

    assert (
        'inferwatt_request_energy_joules_bucket{model_name="m",server="s",provenance="modelled",le="3.2"} 3'
        ' # {request_id="chatcmpl-1",trace_id="0af7651916cd43dd8448eb211c80319c"} 2.5 1800000000.250\n'
    ) in text


@given(st.text(min_size=1, max_size=300), st.text(max_size=300))
def test_an_exemplar_never_exceeds_128_characters(request_id: str, trace_id: str) -> None:
    """A long id is cut, because one label too long makes Prometheus refuse the whole scrape."""
    families = parse_openmetrics(request_page(Exemplar(2.5, 1.0, request_id, trace_id)))
    labels = next(s.exemplar.labels for family in families for s in family.samples if s.exemplar is not None)

    assert sum(len(name) + len(value) for name, value in labels.items()) <= 128


def test_classic_text_has_no_exemplars_and_neither_form_has_created_lines() -> None:
    """Exemplars in text 0.0.4 are read as time stamps, and `_created` says nothing that the counters do not."""
    histogram = HistogramValue(tuple([1] * 22), 1.0, {0: Exemplar(0.05, 1.0, "r")})
    shown = snapshot({ENERGY: {MODEL: 1}}, {REQUEST: {("m", "s", "modelled"): histogram}})

    assert "# {" not in page(shown)
    assert "_created" not in page(shown) + page(shown, openmetrics=True)


def test_joules_are_exact_to_the_microjoule_however_many() -> None:
    """Years of a cluster's energy keep their last digit: no float is between the ledger and the page."""
    text = page(snapshot({ENERGY: {MODEL: 14_500_000_000_123_456, ("m", "s", "prefill", "cpu", "modelled"): 7}}))

    assert 'phase="decode",component="cpu",provenance="modelled"} 14500000000.123456\n' in text
    assert 'phase="prefill",component="cpu",provenance="modelled"} 0.000007\n' in text


@given(st.integers(-(10**20), 10**20))
def test_whole_microjoules_print_as_exact_decimals(energy_uj: int) -> None:
    """The text is the decimal number itself, of either sign."""
    line = page(snapshot({ENERGY: {MODEL: energy_uj}})).splitlines()[-1]

    assert Decimal(energy_uj) / 10**6 == Decimal(line.rpartition(" ")[2])


def test_unknown_is_absent() -> None:
    """Families without series, and numbers that are not numbers, are not on the page at all."""
    shown = snapshot({ENERGY: {}, "inferwatt_device_power_watts": {("d", "gpu", "measured"): float("nan")}})

    assert page(shown) == ""
    assert page(shown, openmetrics=True) == "# EOF\n"


def test_without_details_no_tenant_and_no_request_is_named() -> None:
    """A peer without a token gets sums only: no family by tenant, no exemplar."""
    histogram = HistogramValue(tuple([1] * 22), 1.0, {0: Exemplar(0.05, 1.0, "secret-request")})
    shown = snapshot(
        {ENERGY: {MODEL: 1}, "inferwatt_tenant_energy_joules_total": {("secret-tenant", "m", "measured"): 1}},
        {REQUEST: {("m", "s", "measured"): histogram}},
    )
    text = page(shown, openmetrics=True, details=False)

    assert "secret" not in text
    assert ENERGY in text


def test_a_name_cannot_break_out_of_its_line() -> None:
    """Control characters, quotes and lone surrogates of a hostile model name end no line and no page."""
    hostile = 'a"} 1\nevil_total 9\r\x00\ud800'
    families = list(parse_classic(page(snapshot({ENERGY: {(hostile, "s", "decode", "cpu", "modelled"): 1}}))))

    assert [family.name for family in families] == ["inferwatt_energy_joules"]
    assert families[0].samples[0].labels["model_name"] == 'a"} 1\nevil_total 9\ufffd\ufffd\ufffd'


def test_label_strings_are_kept_within_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    """Names that come and go do not grow memory, and the page stays right when the kept strings are dropped."""
    prefixes = prometheus._Prefixes()
    monkeypatch.setattr(prometheus, "_PREFIXES", prefixes)
    monkeypatch.setattr(prometheus, "CACHED_SERIES", 10)
    for first in range(0, 100, 4):
        labels = [(f"m{first + place}", "s", "decode", "cpu", "modelled") for place in range(4)]
        assert page(snapshot({ENERGY: dict.fromkeys(labels, 1)})).count(" 0.000001\n") == 4

    assert sum(map(len, prefixes._plain.values())) < 50_000


def test_this_process_is_on_the_page() -> None:
    """The families that every dashboard of a client library looks for are there."""
    text = render(snapshot(), openmetrics=False, process={"process_cpu_seconds_total": 1.5}).decode()

    assert "# TYPE process_cpu_seconds_total counter\nprocess_cpu_seconds_total 1.5\n" in text


PROMETHEUS_2 = (
    "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,"
    "text/plain;version=0.0.4;q=0.5,*/*;q=0.1"
)
PROMETHEUS_3 = (
    "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,"
    "application/openmetrics-text;version=0.0.1;q=0.5,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,"
    "text/plain;version=0.0.4;q=0.3,*/*;q=0.2"
)


@pytest.mark.parametrize(
    ("accept", "content_type"),
    [
        (PROMETHEUS_2, OPENMETRICS_TYPE),
        (PROMETHEUS_3, OPENMETRICS_TYPE),
        ("application/openmetrics-text", OPENMETRICS_TYPE),
        ('Application/OpenMetrics-Text; Version="1.0.0"', OPENMETRICS_TYPE),
        ("application/openmetrics-text;version=0.0.1", OPENMETRICS_TYPE.replace("1.0.0", "0.0.1")),
        ("application/openmetrics-text;version=2.0.0", TEXT_TYPE),
        ("application/openmetrics-text;q=0", TEXT_TYPE),
        ("application/openmetrics-text;q=0.3,text/plain;q=0.9", TEXT_TYPE),
        ("application/openmetrics-text;q=nan", TEXT_TYPE),
        ("application/openmetrics-text;q=high", TEXT_TYPE),
        ("text/html,application/xhtml+xml,*/*;q=0.8", TEXT_TYPE),
        ("text/plain", TEXT_TYPE),
        ("*/*", TEXT_TYPE),
        ("", TEXT_TYPE),
    ],
)
def test_openmetrics_is_given_to_who_asks_for_it(accept: str, content_type: str) -> None:
    """What Prometheus sends gets OpenMetrics; browsers, curl and promtool get text 0.0.4."""
    assert (content_type != TEXT_TYPE, content_type) == negotiate(accept)


@given(st.text())
def test_no_accept_header_breaks_negotiation(accept: str) -> None:
    """Garbage is answered with text."""
    assert negotiate(accept)[1] in {TEXT_TYPE, OPENMETRICS_TYPE}


@pytest.mark.real
def test_promtool_has_nothing_to_say() -> None:
    """The real promtool accepts a page with every family of the catalogue, without a word."""
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("no promtool on this machine")
    values = {metric.name: {("a",) * len(metric.labels): 1} for metric in PLAIN}
    buckets = {
        m.name: HistogramValue((1,) * (len(m.buckets) + 1), 1.0, {0: Exemplar(0.0, 1.0, "r")}) for m in HISTOGRAMS
    }
    histograms = {m.name: {("a",) * len(m.labels): buckets[m.name]} for m in HISTOGRAMS}
    shown = page(snapshot(values, histograms))
    done = subprocess.run([promtool, "check", "metrics"], input=shown, text=True, capture_output=True, check=False)

    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
