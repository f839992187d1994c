from itertools import permutations
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inferwatt.attribution.accounts import TickEnergy
from inferwatt.books import Books, BooksConfig
from inferwatt.export.catalog import CATALOG, PHASES, Kind
from inferwatt.records import (
    Component,
    Device,
    EnergyPart,
    Engine,
    Event,
    EventKind,
    Outcome,
    Provenance,
    Request,
    RequestEnergy,
    Sums,
    Tier,
)
from inferwatt.snapshot import HistogramValue
from inferwatt.tallies import accounts_of

Counters = dict[str, dict[tuple[str, ...], float]]
SECOND = 1_000_000_000
QUIET_NS = 10 * SECOND
GPU = Device("gpu-0", domain="gpu")
CPU = Device("cpu", domain="package", component=Component.CPU, provenance=Provenance.MODELLED, systematic_ratio=0.4)
UJ = st.integers(0, 10**12)
PAIRS = st.tuples(UJ, UJ)
TENANTS = [f"t{number}" for number in range(6)]
ENERGY, TENANT_ENERGY = "inferwatt_energy_joules_total", "inferwatt_tenant_energy_joules_total"
DEVICE_ENERGY, FOLDED = "inferwatt_device_energy_joules_total", "inferwatt_tenants_folded_total"
DISAGREEMENT = "inferwatt_token_disagreement_tokens"
OUTPUT, PROMPT = "inferwatt_output_tokens_total", "inferwatt_prompt_tokens_total"


def open_books(config: BooksConfig | None = None) -> Books:
    """Return books that know two devices and an engine."""
    books = Books(config)
    books.add_device(GPU)
    books.add_device(CPU)
    books.add_engine(Engine("e0", "m", ("gpu-0", "cpu"), server="s", kind="llamacpp"), "b1")
    return books


@st.composite
def ticks(draw: st.DrawFn) -> TickEnergy:
    """Any closed tick whose parts sum to it."""
    labels = st.tuples(st.sampled_from(["e0", "e9"]), st.sampled_from("mn"), st.sampled_from(TENANTS))
    requests = draw(st.dictionaries(labels, PAIRS, max_size=4))
    unlisted = draw(st.dictionaries(st.just("e0"), PAIRS, max_size=1))
    idle = draw(st.dictionaries(st.just("e0"), UJ, max_size=1))
    empty, other, unattributed = draw(st.tuples(UJ, UJ, UJ))
    whole_uj = sum(map(sum, [*requests.values(), *unlisted.values()])) + sum(idle.values())
    device = draw(st.sampled_from([GPU.device, CPU.device]))
    return TickEnergy(
        device, 0, 1, whole_uj + empty + other + unattributed, requests, unlisted, idle, empty, other, unattributed
    )


def ended(name: str, prompt: int | None, output: int | None, *, end_ns: int = 0, **more: Any) -> Request:
    """Return an ended request of the engine."""
    return Request(
        name, "e0", "m", end_ns=end_ns, prompt_tokens=prompt, output_tokens=output, outcome=Outcome.FINISHED, **more
    )


def energy_of(name: str, *parts: EnergyPart) -> RequestEnergy:
    """Return a request's final energy."""
    return RequestEnergy(name, parts, Tier.STEP_EXACT, final=True)


def book(books: Books, request: Request, *parts: EnergyPart) -> None:
    """Book a final request."""
    books.request(request, energy_of(request.request, *parts), 1e9)


@given(st.lists(ticks(), max_size=6), st.integers(0, 3))
def test_sums_over_labels_are_what_the_devices_used(closed: list[TickEnergy], max_tenants: int) -> None:
    """Over any ticks devices and phases have one sum, and tenants that of the requests, however many are folded."""
    books = open_books(BooksConfig(max_tenants=max_tenants))
    for tick in closed:
        books.tick(tick)
    energy = books.values.get(ENERGY, {})

    assert sum(books.values.get(DEVICE_ENERGY, {}).values()) == sum(energy.values())
    assert sum(energy.values()) == sum(tick.energy_uj for tick in closed)
    of_requests = sum(uj for labels, uj in energy.items() if labels[2] in {"prefill", "decode"})
    assert sum(books.values.get(TENANT_ENERGY, {}).values()) == of_requests
    assert {labels[2] for labels in energy} <= set(PHASES)
    assert {labels[3:] for labels in energy} <= {("accelerator", "measured"), ("cpu", "modelled")}


@given(st.lists(ticks(), max_size=6))
def test_counters_never_fall(closed: list[TickEnergy]) -> None:
    """After each tick and request every counter is at least what it was."""
    books = open_books(BooksConfig(max_tenants=2))
    before: Counters = {}
    for number, tick in enumerate(closed):
        books.tick(tick)
        book(books, ended(f"r{number}", None, number), EnergyPart(Component.CPU, Provenance.MODELLED, 5, 5, 0, 20, 0.1))
        for name, series in books.values.items():
            if CATALOG[name].kind is Kind.COUNTER:
                assert all(series[labels] >= value for labels, value in before.get(name, {}).items())
        before = {name: dict(series) for name, series in books.values.items()}


@given(st.lists(st.sampled_from(TENANTS), max_size=30), st.integers(0, 3))
def test_a_named_tenant_stays_named(seen: list[str], limit: int) -> None:
    """The first tenants up to the limit keep their names for good; each further one is folded, and counted once."""
    books = open_books(BooksConfig(max_tenants=limit))
    named = list(dict.fromkeys(seen))[:limit]

    for tenant in seen:
        assert books.tenant(tenant) == (tenant if tenant in named else "__other__")
    folded = len(set(seen)) - len(named) if limit else 0
    assert books.values.get(FOLDED, {}).get((), 0) == folded


def test_a_name_outlives_the_agent() -> None:
    """After a restart those that were named still are, what was folded takes no name's place, and both go on."""
    books = open_books(BooksConfig(max_tenants=2))
    books.restore({TENANT_ENERGY: {("old", "m", "measured"): 5, ("__other__", "m", "measured"): 7}}, {})

    for tenant in ("new", "newer", "old"):
        books.tick(TickEnergy("gpu-0", 0, 1, 3, {("e0", "m", tenant): (1, 2)}, {}, {}, 0, 0, 0))

    found = {labels[0]: uj for labels, uj in books.values[TENANT_ENERGY].items()}
    assert found == {"old": 8, "__other__": 10, "new": 3}


def test_tenants_are_not_counted_where_that_is_off() -> None:
    """A switch leaves tenants out of the metrics; the model's joules are all there."""
    books = open_books(BooksConfig(by_tenant=False))
    books.tick(TickEnergy("gpu-0", 0, 1, 3, {("e0", "m", "a"): (1, 2)}, {}, {}, 0, 0, 0))

    assert TENANT_ENERGY not in books.values
    assert sum(books.values[ENERGY].values()) == 3


def test_restored_totals_go_on() -> None:
    """Counters and histograms begin where the last run ended; gauges and what the catalogue does not know do not."""
    books = open_books()
    histogram = HistogramValue((1,) * 22, 12.0, {})
    name = "inferwatt_request_energy_joules"
    old: Counters = {
        "inferwatt_requests_total": {("m", "s", "finished"): 41},
        "inferwatt_open_requests": {("m", "s"): 9},
    }

    old["gone_total"] = {(): 1}
    books.restore(old, {name: {("m", "s", "measured"): histogram}, "gone": {}})
    book(books, ended("r", 1, 1), EnergyPart(Component.ACCELERATOR, Provenance.MEASURED, 0, 3_000_000, 0, 0, 0.1))

    assert books.values["inferwatt_requests_total"] == {("m", "s", "finished"): 42}
    assert "inferwatt_open_requests" not in books.values
    assert "gone_total" not in books.values
    found = books.histograms[name]["m", "s", "measured"]
    assert (sum(found.counts), found.sum) == (23, 15.0)


def test_changes_are_taken_once_with_their_whole_value() -> None:
    """What the next commit writes is the totals that changed since the last, and only those."""
    books = open_books()
    books.restore({FOLDED: {(): 5}}, {})
    books.add(FOLDED, (), 1)
    books.observe("inferwatt_queue_seconds", ("m", "s"), 0.5, None)

    counters, histograms = books.take_changes()

    assert counters == {FOLDED: {(): 6}}
    assert histograms.keys() == {"inferwatt_queue_seconds"}
    assert books.take_changes() == ({}, {})


@given(st.lists(st.integers(0, 100), max_size=10))
def test_a_count_kept_elsewhere_is_followed(counts: list[int]) -> None:
    """What another room counts from its own start is added as it grows; when it begins anew, only growth is added."""
    books = open_books()
    books.restore({FOLDED: {(): 1000}}, {})
    gained = before = 0
    for count in counts:
        gained, before = gained + max(count - before, 0), count
        books.count_to(FOLDED, (), count)

    assert books.values[FOLDED][()] == 1000 + gained


def test_the_accounts_of_a_tick_are_its_phases() -> None:
    """Everything in a tick that is not a request has a phase and, where one is loaded, an engine."""
    tick = TickEnergy("gpu-0", 0, 1, 63, {}, {"e0": (1, 2)}, {"e0": 4}, 8, 16, 32)

    assert accounts_of(tick) == [
        ("unlisted", "e0", 3),
        ("idle_resident", "e0", 4),
        ("idle_empty", "", 8),
        ("other", "", 16),
        ("unattributed", "", 32),
    ]


def test_a_request_is_counted_by_outcome_tokens_and_tier() -> None:
    """One request: its outcome, its prompt by cache, its output, its joules by tier, the square of its half-width."""
    books = open_books()
    part = EnergyPart(Component.ACCELERATOR, Provenance.MEASURED, 1_000_000, 2_000_000, 2_000_000, 4_000_000, 0.05)

    book(books, ended("r", 100, 50, cached_tokens=30, response_id="resp-1", trace_id="t"), part)
    book(books, Request("open", "e0", "m"))

    assert books.values["inferwatt_requests_total"] == {("m", "s", "finished"): 1, ("m", "s", "aborted"): 1}
    assert books.values[PROMPT] == {("m", "s", "none"): 70, ("m", "s", "read"): 30}
    assert books.values[OUTPUT] == {("m", "s"): 50}
    assert books.values["inferwatt_tier_energy_joules_total"] == {("m", "s", "step_exact", "measured"): 3_000_000}
    variance = books.values["inferwatt_energy_split_variance_square_joules_total"]
    assert variance == {("m", "s", "measured"): 10**12}
    whole = books.histograms["inferwatt_request_energy_joules"]["m", "s", "measured"]
    each = books.histograms["inferwatt_request_energy_per_output_token_joules"]["m", "s", "measured"]
    assert whole.sum == 3.0
    assert each.sum == pytest.approx(0.06)
    [exemplar] = whole.exemplars.values()
    assert (exemplar.value, exemplar.request_id, exemplar.trace_id) == (3.0, "resp-1", "t")


def test_latencies_are_seen_where_times_are_known() -> None:
    """Time to first token, and the mean gap between tokens of a request with more than one."""
    books = open_books()
    book(books, ended("r", 1, 5, end_ns=3 * SECOND, first_token_ns=SECOND))
    book(books, ended("one", 1, 1, end_ns=3 * SECOND, first_token_ns=SECOND))
    book(books, ended("unseen", 1, 5, end_ns=3 * SECOND))

    first = books.histograms["inferwatt_time_to_first_token_seconds"]["m", "s"]
    gap = books.histograms["inferwatt_inter_token_latency_seconds"]["m", "s"]
    assert (sum(first.counts), first.sum) == (2, 2.0)
    assert (sum(gap.counts), gap.sum) == (1, 0.5)


@pytest.mark.parametrize("order", list(permutations(["record", "page"])))
def test_what_only_the_server_counted_is_listed_in_the_end(order: tuple[str, ...]) -> None:
    """Tokens of a page beyond the records join the model's totals once all is quiet, in whatever order they came."""
    books = open_books()
    for what in order:
        if what == "record":
            book(books, ended("r", 10, 5, cached_tokens=4))
        else:
            books.sums(Sums(0, SECOND, "e0", 106, 4, 25))

    books.reconcile(QUIET_NS, {})
    books.reconcile(2 * QUIET_NS, {})

    assert books.values[OUTPUT] == {("m", "s"): 25}
    assert books.values[PROMPT] == {("m", "s", "none"): 106, ("m", "s", "read"): 4}
    assert set(books.values[DISAGREEMENT].values()) == {0}


def test_records_beyond_the_page_are_a_disagreement() -> None:
    """Only records that exceed the server's own count are one, and only by its counters' step or more."""
    books = open_books()
    book(books, ended("r", 10, 8))
    books.sums(Sums(0, SECOND, "e0", 10, 0, 5))

    books.reconcile(QUIET_NS, {})
    assert books.values[DISAGREEMENT] == {("m", "s", "prompt"): 0, ("m", "s", "output"): 3}

    books.reconcile(QUIET_NS, {"e0": 4})
    assert books.values[DISAGREEMENT] == {("m", "s", "prompt"): 0, ("m", "s", "output"): 0}
    assert books.values[OUTPUT] == {("m", "s"): 8}


def test_events_and_drops_are_counted_by_kind() -> None:
    """What befell a device and why a record was not taken are counted under fixed words."""
    books = open_books()
    books.events([Event(0, EventKind.WRAP, "gpu-0"), Event(1, EventKind.WRAP, "gpu-0"), Event(0, EventKind.MODEL_LOAD)])
    books.dropped("duplicate")

    assert books.values["inferwatt_device_events_total"] == {("gpu-0", "wrap"): 2}
    assert books.values["inferwatt_records_dropped_total"] == {("duplicate",): 1}


def test_a_server_of_another_version_has_one_series() -> None:
    """After an update the info says the new version only; another server keeps its own."""
    books = Books()
    for server, version in (("a", "1"), ("b", "1"), ("a", "2")):
        books.add_engine(Engine(server, "m", server=server, kind="vllm"), version)

    assert books.values["inferwatt_server_info"].keys() == {
        ("a", "vllm", "2", "", "", ""),
        ("b", "vllm", "1", "", "", ""),
    }
