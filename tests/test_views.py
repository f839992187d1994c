from math import sqrt
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inferwatt.attribution.accounts import TickEnergy
from inferwatt.books import Books, BooksConfig
from inferwatt.records import (
    Component,
    Device,
    Ending,
    EnergyPart,
    Engine,
    Outcome,
    Provenance,
    Request,
    RequestEnergy,
    Tier,
)
from inferwatt.snapshot import LiveView, ModelView
from inferwatt.views import Views, request_view

SECOND = 1_000_000_000
UJ = 1_000_000
GPU = Device("gpu-0", systematic_ratio=0.05)
CPU = Device("cpu", domain="package", component=Component.CPU, provenance=Provenance.MODELLED, systematic_ratio=0.4)
AMOUNTS = st.integers(0, 10**9)


class Stage:
    """Views over books with two devices and an engine."""

    def __init__(self, config: BooksConfig | None = None) -> None:
        self.books = Books(config)
        self.books.add_device(GPU)
        self.books.add_device(CPU)
        self.books.add_engine(Engine("e0", "m", ("gpu-0", "cpu"), server="s"))
        self.views = Views(self.books)

    def tick(
        self, start: float, end: float, device: str = "gpu-0", *, prefill: int = 0, decode: int = 0, **more: Any
    ) -> None:
        """Add a tick in which one request of tenant `a` worked, its times in seconds."""
        requests = {("e0", "m", more.pop("tenant", "a")): (prefill, decode)} if prefill or decode else {}
        unlisted, idle = more.pop("unlisted", {}), more.pop("idle", {})
        empty, other, unattributed = (more.pop(name, 0) for name in ("empty", "other", "unattributed"))
        whole_uj = prefill + decode + sum(map(sum, unlisted.values())) + sum(idle.values())
        whole_uj += empty + other + unattributed
        times = round(start * SECOND), round(end * SECOND)
        self.views.tick(TickEnergy(device, *times, whole_uj, requests, unlisted, idle, empty, other, unattributed))

    def request(self, name: str, *parts: EnergyPart, tenant: str = "a", output: int | None = 10) -> None:
        """Add a final request."""
        record = Request(
            name, "e0", "m", tenant, prompt_tokens=8, cached_tokens=3, output_tokens=output, end_ns=2 * SECOND,
            outcome=Outcome.FINISHED,
        )  # fmt: skip
        self.views.request(record, RequestEnergy(name, parts, Tier.STEP_EXACT, final=True), 5.0)

    def live(self, stale: frozenset[str] = frozenset()) -> LiveView:
        """Return what is shown."""
        return self.views.live(unix_seconds=9.0, started_unix_seconds=1.0, version="v", host="h", stale=stale)

    def model(self) -> ModelView:
        """Return the only model that is shown."""
        [model] = self.live().models
        return model


def part(prefill: int, decode: int, half: int, provenance: Provenance = Provenance.MEASURED) -> EnergyPart:
    """Return a part of a request's energy with this half-width, µJ."""
    whole = prefill + decode
    return EnergyPart(Component.ACCELERATOR, provenance, prefill, decode, whole - half, whole + half, 0.05)


@given(st.lists(st.tuples(st.sampled_from(["gpu-0", "cpu"]), *[AMOUNTS] * 8), max_size=8))
def test_the_accounts_of_a_provenance_sum_to_its_devices(told: list[tuple[Any, ...]]) -> None:
    """Where every joule went: the parts sum to what the devices of that provenance used, and never mix with others."""
    stage = Stage()
    for number, (device, prefill, decode, first, second, idle, empty, other, unattributed) in enumerate(told):
        stage.tick(
            number, number + 1, device, prefill=prefill, decode=decode, unlisted={"e0": (first, second)},
            idle={"e0": idle}, empty=empty, other=other, unattributed=unattributed,
        )  # fmt: skip
    live = stage.live()

    for account in live.accounts:
        parts = (
            account.prefill_joules, account.decode_joules, account.unlisted_joules, account.idle_joules,
            account.other_joules, account.unattributed_joules,
        )  # fmt: skip
        used = sum(view.energy_joules for view in live.devices if view.provenance == account.provenance)
        assert sum(parts) == pytest.approx(used)
    for model in live.models:
        [account] = [one for one in live.accounts if one.provenance == model.provenance]
        assert model.prefill_joules == pytest.approx(account.prefill_joules)
        assert model.decode_joules == pytest.approx(account.decode_joules)
        assert model.unlisted_joules == pytest.approx(account.unlisted_joules)
        assert model.idle_joules <= account.idle_joules + 1e-9


def test_power_is_that_of_the_last_second() -> None:
    """A device's power is its energy of about the last second over its time, not the mean since the start."""
    stage = Stage()
    for number in range(40):
        stage.tick(number / 10, (number + 1) / 10, other=10 * UJ if number < 20 else 30 * UJ)

    [device] = stage.live().devices
    assert device.power_watts == pytest.approx(300.0)
    assert device.energy_joules == pytest.approx(800.0)


def test_a_tick_longer_than_a_second_has_its_own_power() -> None:
    """Where the counter moves rarely, the last tick alone is the power."""
    stage = Stage()
    stage.tick(0, 1, other=500 * UJ)
    stage.tick(1, 6, other=100 * UJ)

    [device] = stage.live().devices
    assert device.power_watts == pytest.approx(20.0)


def test_a_stale_device_has_no_power() -> None:
    """A device that stopped answering shows no power, but all that it used."""
    stage = Stage()
    stage.tick(0, 1, other=UJ)

    [device] = stage.live(frozenset({"gpu-0"})).devices
    assert (device.stale, device.power_watts, device.energy_joules) == (True, None, 1.0)


def test_provenances_are_rows_of_their_own() -> None:
    """One model on a measured and on a modelled device is two rows, each with its own joules per token."""
    stage = Stage()
    stage.tick(0, 1, prefill=20 * UJ, decode=80 * UJ)
    stage.tick(0, 1, "cpu", decode=50 * UJ)
    stage.request("r", part(20 * UJ, 80 * UJ, 0), part(0, 50 * UJ, 0, Provenance.MODELLED))

    models = {model.provenance: model for model in stage.live().models}
    tenants = {tenant.provenance: tenant for tenant in stage.live().tenants}
    assert {name: model.joules_per_output_token for name, model in models.items()} == {
        "measured": pytest.approx(10.0),
        "modelled": pytest.approx(5.0),
    }
    assert models["measured"].prefill_joules == 20.0
    assert models["modelled"].systematic_ratio == pytest.approx(0.4)
    assert {name: tenant.energy_joules for name, tenant in tenants.items()} == {"measured": 100.0, "modelled": 50.0}


def test_both_bounds_stand_around_the_figure() -> None:
    """The split's half-widths add up as squares, the sensor's bound linearly; low and high hold both."""
    stage = Stage()
    stage.tick(0, 1, decode=100 * UJ)
    stage.request("a", part(0, 50 * UJ, 3 * UJ))
    stage.request("b", part(0, 50 * UJ, 4 * UJ))

    model = stage.model()
    [tenant] = stage.live().tenants

    half = sqrt(3**2 + 4**2)
    assert tenant.low_joules == pytest.approx((100 - half) * 0.95)
    assert tenant.high_joules == pytest.approx((100 + half) * 1.05)
    assert (model.joules_per_output_token, tenant.joules_per_output_token) == (5.0, 5.0)
    assert model.low_joules_per_output_token == pytest.approx(tenant.low_joules / 20)
    assert model.high_joules_per_output_token == pytest.approx(tenant.high_joules / 20)


def test_idle_is_no_joule_of_a_token() -> None:
    """A loaded model's idle is shown apart; joules per token are those of work."""
    stage = Stage()
    stage.tick(0, 1, decode=10 * UJ, idle={"e0": 90 * UJ})
    stage.request("r", part(0, 10 * UJ, 0))

    model = stage.model()
    assert (model.energy_joules, model.idle_joules, model.joules_per_output_token) == (10.0, 90.0, 1.0)


def test_counts_are_those_of_the_records() -> None:
    """Tokens and requests are counted by model and by tenant; what is unknown counts nothing."""
    stage = Stage()
    stage.tick(0, 1, decode=UJ)
    stage.request("a", part(0, UJ, 0))
    stage.request("b", part(0, 0, 0), output=None)
    stage.books.gauge("inferwatt_open_requests", ("m", "s"), 3)

    model = stage.model()
    counts = (model.requests, model.prompt_tokens, model.cached_tokens, model.output_tokens, model.open_requests)
    assert counts == (2, 16, 6, 10, 3)
    [tenant] = stage.live().tenants
    assert (tenant.requests, tenant.output_tokens) == (2, 10)


def test_folded_tenants_are_one_row() -> None:
    """Beyond the limit tenants are shown together, their joules and requests with them."""
    stage = Stage(BooksConfig(max_tenants=1))
    for tenant in ("a", "b", "c"):
        stage.tick(0, 1, decode=UJ, tenant=tenant)
        stage.request(tenant, part(0, UJ, 0), tenant=tenant)

    rows = {row.tenant: (row.energy_joules, row.requests) for row in stage.live().tenants}
    assert rows == {"a": (1.0, 1), "__other__": (2.0, 2)}


def test_the_window_shows_what_was_gained_in_it() -> None:
    """Power and tokens a second of a model are those of the last half minute, not of the whole time."""
    stage = Stage()
    stage.tick(0, 1, decode=1000 * UJ)
    stage.request("old", part(0, 1000 * UJ, 0))
    assert stage.model().power_watts is None

    for second in range(100):
        if second >= 60:
            stage.tick(second, second + 1, decode=20 * UJ)
            stage.request(f"r{second}", part(0, 20 * UJ, 0), output=4)
        stage.views.mark((second + 1) * SECOND)

    model = stage.model()
    assert 30.0 <= model.window_seconds <= 32.0
    assert model.power_watts == pytest.approx(20.0)
    assert model.output_tokens_per_second == pytest.approx(4.0)


def test_the_newest_requests_are_shown_first_and_only_the_last_ones() -> None:
    """The list is bounded, newest first, and how many there were in all is told."""
    stage = Stage()
    for number in range(520):
        stage.request(f"r{number}", part(0, UJ, 0))
    live = stage.live()

    assert [row.request for row in live.requests] == [f"r{number}" for number in range(519, 19, -1)]
    assert live.requests_ended == 520


def test_a_request_without_joules_shows_none() -> None:
    """Where no device was read while it ran its figures are absent, never zero; its tier is said all the same."""
    record = Request("r", "e0", "m", arrival_ns=SECOND, end_ns=4 * SECOND, outcome=Outcome.FAILED)
    row = request_view(record, RequestEnergy("r", (), Tier.REQUEST_SPAN, final=True), "s", 5.0)

    assert {row.energy_joules, row.prefill_joules, row.decode_joules, row.low_joules, row.high_joules} == {None}
    assert (row.systematic_ratio, row.provenance) == (None, "")
    assert (row.duration_seconds, row.tier, row.outcome, row.server) == (3.0, "request_span", "failed", "s")


def test_a_requests_row_keeps_the_splits_interval_apart() -> None:
    """Low and high are the split's alone; the sensor's bound is its own column."""
    energy = RequestEnergy("r", (part(UJ, 2 * UJ, UJ),), Tier.STEP_EXACT, final=True)
    row = request_view(Request("r", "e0", "m", response_id="x", tags={"team": "t"}), energy, "s", 5.0)

    assert (row.energy_joules, row.prefill_joules, row.decode_joules) == (3.0, 1.0, 2.0)
    assert (row.low_joules, row.high_joules) == (2.0, 4.0)
    assert row.systematic_ratio == pytest.approx(0.05)
    assert (row.response_id, row.tags, row.outcome, row.duration_seconds) == ("x", {"team": "t"}, "", 0.0)


def test_a_requests_row_says_what_nobody_got_and_why() -> None:
    """Tokens that were computed again, rejected, or made beyond the end, which is named; an open one has none."""
    record = Request("r", "e0", "m", recomputed_tokens=4, rejected_tokens=3, wasted_tokens=2, ending=Ending.DISCONNECT)
    row, bare = (request_view(one, None, "s", 5.0) for one in (record, Request("r", "e0", "m")))

    assert (row.recomputed_tokens, row.rejected_tokens, row.wasted_tokens, row.ending) == (4, 3, 2, "disconnect")
    assert row.thrown_away_tokens == {"rejected_draft": 3, "disconnect": 2}
    assert (bare.wasted_tokens, bare.ending, bare.thrown_away_tokens) == (None, "", {})


def test_a_requests_row_says_how_long_it_waited() -> None:
    """Where its server says so; not told is not 0."""
    told = [request_view(Request("r", "e0", queued_ns=waited), None, "s", 5.0) for waited in (1_500_000_000, 0, None)]

    assert [row.queue_seconds for row in told] == [1.5, 0.0, None]


def test_nothing_seen_is_nothing_shown() -> None:
    """Before the first tick there is no row at all, and what the agent is stands there."""
    live = Stage().live()

    assert (live.devices, live.models, live.tenants, live.requests, live.accounts) == ((), (), (), (), ())
    assert (live.unix_seconds, live.started_unix_seconds, live.version, live.host) == (9.0, 1.0, "v", "h")


def test_joules_of_open_requests_are_not_divided_by_the_tokens_of_ended_ones() -> None:
    """While long answers run, energy per token is that of the answers whose tokens are known."""
    stage = Stage()
    stage.tick(0, 1, decode=100 * UJ)
    part = EnergyPart(Component.ACCELERATOR, Provenance.MEASURED, 0, 20 * UJ, 20 * UJ, 20 * UJ, 0.05)

    stage.request("r", part, output=10)

    assert stage.model().joules_per_output_token == pytest.approx(2.0)
    assert stage.live().tenants[0].joules_per_output_token == pytest.approx(2.0)
    assert stage.model().energy_joules == pytest.approx(100.0)


def test_a_request_says_where_it_was_served() -> None:
    """Namespace, pod and container of its server; empty words outside of containers."""
    records = Request("r", "e0", namespace="llm", pod="vllm-0", container="server"), Request("r", "e0")
    rows = [request_view(record, None, "s", 5.0) for record in records]

    assert [(row.namespace, row.pod, row.container) for row in rows] == [("llm", "vllm-0", "server"), ("", "", "")]
