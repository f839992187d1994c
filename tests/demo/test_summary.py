"""The summary: sums that respect provenance and the two kinds of uncertainty, and a replay that must match."""

import json
from math import sqrt

import pytest

from inferwatt.attribution.accounts import DeviceTotals
from inferwatt.demo.summary import Accounts, as_text, summarise
from inferwatt.records import Component, Device, EnergyPart, Outcome, Provenance, Request, RequestEnergy, Tier
from inferwatt.replay import ReplayResult

CPU = Device("cpu", component=Component.CPU, provenance=Provenance.MODELLED, systematic_ratio=0.5)
TOTALS = DeviceTotals(10_000_000, 3_000_000, 0, 2_000_000, 0, 5_000_000, 0)
RUN = {"duration_seconds": 20.0, "seed": 1, "rate": 1.0, "lacks": [], "recording": None}


def settled(name: str, tenant: str, energy_uj: int, half_uj: int, output: int | None) -> tuple[Request, RequestEnergy]:
    """Return one request of modelled CPU energy, all of it decode."""
    record = Request(
        name,
        model="m",
        tenant=tenant,
        end_ns=1,
        prompt_tokens=None if output is None else 10,
        cached_tokens=4,
        output_tokens=output,
        outcome=Outcome.FINISHED,
    )
    part = EnergyPart(
        Component.CPU, Provenance.MODELLED, 0, energy_uj, energy_uj - half_uj, energy_uj + half_uj, systematic_ratio=0.5
    )
    return record, RequestEnergy(name, (part,), Tier.STEP_RECONSTRUCTED, final=True)


REPLAYED = ReplayResult(
    requests=(
        settled("a", "t1", 1_000_000, 300_000, 20),
        settled("b", "t1", 1_500_000, 400_000, 30),
        settled("c", "t2", 500_000, 100_000, None),
    ),
    devices=((CPU, TOTALS),),
    rejected=(),
)
LIVE = Accounts({"a": 1_000_000, "b": 1_500_000, "c": 500_000}, {"cpu": 10_000_000})


def document(live: Accounts = LIVE, replayed: ReplayResult = REPLAYED) -> dict[str, object]:
    """Return the summary as it is printed by --json."""
    server = {"prompt_computed": 12, "cached": 8, "output": 53}
    clients = {"finished": 3, "aborted": 0, "failed": 0, "prompt_tokens": 20, "cached_tokens": 8, "output_tokens": 50}
    made = summarise(replayed, live, server_tokens=server, clients=clients, run=RUN)
    read: dict[str, object] = json.loads(json.dumps(made))
    return read


def test_split_uncertainty_adds_by_squares_and_the_sensors_linearly() -> None:
    """Two requests of ±0.3 J and ±0.4 J are ±0.5 J; the sensor's 50% stay 50%."""
    tenants = document()["tenants"]
    assert isinstance(tenants, list)
    row = tenants[0]

    assert row["energy_joules"] == pytest.approx(2.5)
    assert row["low_joules"] == pytest.approx((2.5 - sqrt(0.3**2 + 0.4**2)) * 0.5)
    assert row["high_joules"] == pytest.approx((2.5 + 0.5) * 1.5)
    assert row["joules_per_output_token"] == pytest.approx(0.05)


def test_a_tenant_without_known_tokens_has_no_joules_per_token() -> None:
    """Unknown is null, and the request is counted as one without tokens."""
    made = document()
    tenants, tokens = made["tenants"], made["tokens"]
    assert isinstance(tenants, list)
    assert isinstance(tokens, dict)

    assert tenants[1]["joules_per_output_token"] is None
    assert tokens["requests_without_tokens"] == 1
    assert tokens["records"] == {"prompt_computed": 12, "cached": 8, "output": 50}
    assert "tokens of 1 requests are not known" in as_text(made)


def test_a_models_joules_are_its_tenants_joules() -> None:
    """Grouped one way or the other, the same joules."""
    made = document()
    models, tenants = made["models"], made["tenants"]
    assert isinstance(models, list)
    assert isinstance(tenants, list)

    assert sum(row["energy_joules"] for row in models) == pytest.approx(sum(row["energy_joules"] for row in tenants))


def test_the_parts_of_a_device_are_all_of_it() -> None:
    """The conservation line says that nothing is missing."""
    made = document()
    devices = made["devices"]
    assert isinstance(devices, list)

    assert devices[0]["missing_microjoules"] == 0
    assert "sum of the parts less counter           0 µJ" in as_text(made)


@pytest.mark.parametrize(
    "live",
    [
        Accounts({"a": 1_000_001, "b": 1_500_000, "c": 500_000}, {"cpu": 10_000_000}),
        Accounts({"a": 1_000_000, "b": 1_500_000}, {"cpu": 10_000_000}),
        Accounts(dict(LIVE.requests_uj), {"cpu": 9_999_999}),
        Accounts(dict(LIVE.requests_uj), {}),
    ],
)
def test_one_microjoule_of_difference_is_found(live: Accounts) -> None:
    """A request or a device that the replay does not give back exactly is named."""
    replay = document(live)["replay"]
    assert isinstance(replay, dict)

    assert not replay["matches"]
    assert len(replay["differences"]) == 1
    assert "DIFFERS" in as_text(document(live))


def test_a_replay_that_gives_all_back_matches() -> None:
    """Equal to the microjoule, and how much was compared."""
    assert document()["replay"] == {"matches": True, "compared": 4, "differences": []}
