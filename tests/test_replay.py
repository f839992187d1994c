import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from inferwatt import recording
from inferwatt.cli import cli
from inferwatt.errors import Unavailable
from inferwatt.recording import Meta, Record
from inferwatt.records import (
    Activity,
    Component,
    Device,
    Engine,
    Event,
    EventKind,
    Model,
    Outcome,
    Phase,
    Provenance,
    Reading,
    Request,
    Rule,
    Step,
    Tier,
)
from inferwatt.replay import replay

SECOND = 1_000_000_000
GPU = Device("gpu-0")
CPU = Device("cpu", component=Component.CPU, provenance=Provenance.MODELLED, systematic_ratio=0.4, idle_watts=0.0)
MODEL = Model("m", weight_bytes=1e9, flops_per_token=2e9, kv_bytes_per_token=1e5)
REQUEST_KEYS = {
    "request", "energy_joules", "prefill_joules", "decode_joules", "low_joules", "high_joules", "systematic_ratio",
    "tier", "provenance",
}  # fmt: skip
DEVICE_KEYS = {
    "device", "measured_joules", "requests_joules", "unlisted_joules", "idle_resident_joules", "idle_empty_joules",
    "other_joules", "unattributed_joules",
}  # fmt: skip


def request(name: str, start: float, end: float, first: float | None = None, **more: Any) -> Request:
    """Return an ended request, its times in seconds."""
    values = {"engine": "e0", "model": "m", "prompt_tokens": 10, "output_tokens": 10, **more}
    return Request(
        name,
        arrival_ns=round(start * SECOND),
        first_token_ns=None if first is None else round(first * SECOND),
        end_ns=round(end * SECOND),
        outcome=Outcome.FINISHED,
        **values,
    )


def readings(device: str, seconds: int, joules_each: int) -> list[Reading]:
    """Return a counter that is read each 100 ms."""
    return [Reading(i * SECOND // 10, device, i * joules_each * 100_000) for i in range(10 * seconds + 1)]


def write(folder: Path, records: Sequence[Record], devices: tuple[Device, ...] = (GPU,)) -> Path:
    """Write a recording of one engine on these devices."""
    engine = Engine("e0", "m", tuple(device.device for device in devices), server="s")
    recording.write(folder, Meta(engines=(engine,), models=(MODEL,), devices=devices), records)
    return folder


def story() -> list[Record]:
    """Two requests with steps: `long` alone for two seconds, then beside `short`, which is prefilled at once."""
    steps = [
        Step(i * SECOND // 10, (i + 1) * SECOND // 10, "e0", (("long", 1, 10 + i, Phase.DECODE),)) for i in range(20)
    ]
    both = (("long", 1, 40, Phase.DECODE), ("short", 1, 10, Phase.DECODE))
    steps += [Step(i * SECOND // 10, (i + 1) * SECOND // 10, "e0", both) for i in range(20, 40)]
    long = request("long", 0, 4, first=0.0, tenant="a", output_tokens=40)
    short = request("short", 0, 4, first=2.0, tenant="b", output_tokens=20)
    return [*steps, long, short, *readings("gpu-0", 5, 100)]


def shares(folder: Path, **options: Any) -> tuple[dict[str, float], set[str]]:
    """Return the joules of each request and the tiers, after the law of the devices was checked."""
    result = replay(folder, **options)
    rows = [json.loads(line) for line in result.json_lines()]
    for row in (row for row in rows if "device" in row):
        parts = [round(row[key] * 1e6) for key in DEVICE_KEYS - {"device", "measured_joules"}]
        assert sum(parts) == round(row["measured_joules"] * 1e6)
    found = {row["request"]: row for row in rows if "request" in row}
    whole_uj = sum(totals.requests_uj for _, totals in result.devices)
    assert sum(round(row.get("energy_joules", 0) * 1e6) for row in found.values()) == whole_uj
    return {name: row.get("energy_joules", 0.0) for name, row in found.items()}, {r["tier"] for r in found.values()}


@pytest.mark.parametrize(
    ("tier", "long", "short"),
    [
        (None, 300, 100),  # by the steps: alone for two seconds, then half each
        (Tier.STEP_EXACT, 300, 100),
        (Tier.STEP_RECONSTRUCTED, 200, 200),  # by times: `short` was there from the start, as if at work
        (Tier.REQUEST_SPAN, 200, 200),
        (Tier.TOKEN_SHARE, 267, 133),  # by tokens: 40 and 20
    ],
)
def test_each_tier_uses_only_what_it_may_know(tmp_path: Path, tier: Tier | None, long: float, short: float) -> None:
    """A lower tier says so, and its shares are those of one that never saw more; the sum stays the same."""
    found, tiers = shares(write(tmp_path, story()), tier=tier)

    assert found["long"] + found["short"] == pytest.approx(400)
    assert found["long"] == pytest.approx(long, rel=0.02)
    assert found["short"] == pytest.approx(short, rel=0.02)
    assert tiers == {(tier or Tier.STEP_EXACT).value}


def test_a_lower_tier_is_as_if_the_rest_had_not_been_recorded(tmp_path: Path) -> None:
    """`--tier` gives the figures of a recording that lacks what the tier may not know."""
    no_steps = [record for record in story() if not isinstance(record, Step)]
    whole = write(tmp_path / "whole", story())
    spans = [
        request(r.request, r.arrival_ns / SECOND, 4, tenant=r.tenant, output_tokens=r.output_tokens)
        if isinstance(r, Request)
        else r
        for r in no_steps
    ]

    for tier, lacking in ((Tier.STEP_RECONSTRUCTED, no_steps), (Tier.REQUEST_SPAN, spans)):
        seen = list(replay(whole, tier=tier).json_lines())
        assert seen == list(replay(write(tmp_path / tier, lacking)).json_lines())


def test_token_share_knows_no_time(tmp_path: Path) -> None:
    """With sums only, two equal requests at different times cost the same, whatever the power was then."""
    counter = [*readings("gpu-0", 2, 100), *(Reading(r.t_ns + 2 * SECOND, "gpu-0", 2 * 10**8 + 5 * r.counter_uj)
               for r in readings("gpu-0", 2, 100)[1:] if r.counter_uj is not None)]  # fmt: skip
    folder = write(tmp_path, [request("a", 0, 2, first=1), request("b", 2, 4, first=3), *counter])

    apart, _ = shares(folder)
    together, _ = shares(folder, tier=Tier.TOKEN_SHARE)

    assert apart["b"] == pytest.approx(5 * apart["a"], rel=0.1)
    assert together["b"] == pytest.approx(together["a"])


@pytest.mark.parametrize(
    ("rule", "ratio"),
    [
        (Rule.OUTPUT_TOKENS, 40 / 20),
        (Rule.ALL_TOKENS, (40 + 10) / (20 + 10)),
        (Rule.RESIDENCE, 1.0),
        (Rule.EQUAL, 1.0),
        (Rule.SHAPLEY, 3.0),
    ],
)
def test_each_rule_divides_the_same_joules(tmp_path: Path, rule: Rule, ratio: float) -> None:
    """The simple rules divide the energy of all work by their own number; ours by who was in each step."""
    found, _ = shares(write(tmp_path, story()), rule=rule)

    assert sum(found.values()) == pytest.approx(400)
    assert found["long"] / found["short"] == pytest.approx(ratio, rel=0.1)


def test_an_open_request_has_a_share_by_any_rule(tmp_path: Path) -> None:
    """A recording may end while a request is open, with or without its first token; each rule divides all the same."""
    opened = Request("open", "e0", "m", arrival_ns=0, first_token_ns=SECOND)
    folder = write(tmp_path, [opened, request("r", 0, 2, first=1), *readings("gpu-0", 4, 100)])

    for rule in Rule:
        found, _ = shares(folder, rule=rule)
        assert found.keys() == {"open", "r"}


def test_the_rows_have_the_fields_of_the_format(tmp_path: Path) -> None:
    """A row for each request, then one for each device, under the names of the format; unknown is absent."""
    rows = list(replay(write(tmp_path, [*story(), request("idle", 7, 8)])).rows())

    assert [("request" in row, "device" in row) for row in rows] == [(True, False)] * 3 + [(False, True)]
    by_name = {row.get("request"): row for row in rows}
    details = {"shared_joules", "context_joules", "recomputed_joules", "marginal_joules"}
    assert set(by_name["long"]) == REQUEST_KEYS | {"model", "tenant"} | details
    assert set(by_name["idle"]) == {"request", "tier", "model", "tenant"}
    assert set(rows[-1]) == DEVICE_KEYS | {"provenance", "systematic_ratio"}
    long = by_name["long"]
    assert long["energy_joules"] == pytest.approx(long["prefill_joules"] + long["decode_joules"])
    assert long["low_joules"] <= long["energy_joules"] <= long["high_joules"]
    assert (long["tenant"], long["model"], long["provenance"]) == ("a", "m", "measured")


def test_parts_are_listed_only_where_there_are_several(tmp_path: Path) -> None:
    """Joules of two kinds stand apart, add up to the figure, and the weaker provenance names the whole."""
    held = Activity(0, 4 * SECOND, "cpu", {"e0": 1.0}, 0.0)
    records: list[Record] = [held, request("r", 0, 4, first=1), *readings("gpu-0", 4, 100), *readings("cpu", 4, 50)]

    [row] = [row for row in replay(write(tmp_path, records, (GPU, CPU))).rows() if "request" in row]

    assert {(part["component"], part["provenance"]) for part in row["parts"]} == {
        ("accelerator", "measured"),
        ("cpu", "modelled"),
    }
    assert row["energy_joules"] == pytest.approx(sum(part["energy_joules"] for part in row["parts"]))
    assert row["energy_joules"] == pytest.approx(600, rel=0.01)
    assert row["provenance"] == "modelled"
    assert row["systematic_ratio"] == pytest.approx((400 * 0.05 + 200 * 0.4) / 600, rel=0.01)


def test_what_cannot_be_is_counted_and_the_rest_is_replayed(tmp_path: Path) -> None:
    """Broken lines, unknown engines and devices, ends before starts and second ends are named, each once."""
    bad: list[Record] = [
        Reading(1, "gpu-9", 5),
        request("nobody", 0, 1, engine="e9"),
        request("early", 2, 1),
        request("long", 0, 9),
        Step(5, 4, "e0", (("long", 1, 1, Phase.DECODE),)),
    ]
    folder = write(tmp_path, [*story(), *bad])
    with (folder / "requests.jsonl").open("a") as stream:
        stream.write("{broken\n")

    result = replay(folder)

    assert len(result.rejected) == 6
    assert "requests.jsonl line" in result.rejected[0]
    assert {record.request for record, _ in result.requests} == {"long", "short"}


def test_an_unloaded_model_has_no_idle(tmp_path: Path) -> None:
    """A script's recording has its engines loaded from the start, until an event says otherwise."""
    unload = Event(0, EventKind.MODEL_UNLOAD, engine="e0")
    loaded = write(tmp_path / "a", list(readings("gpu-0", 2, 50)))
    unloaded = write(tmp_path / "b", [unload, *readings("gpu-0", 2, 50)])

    assert replay(loaded).devices[0][1].accounts()["idle_resident"] == 100_000_000
    assert replay(unloaded).devices[0][1].accounts()["idle_empty"] == 100_000_000


def test_a_recording_without_a_record_has_empty_accounts(tmp_path: Path) -> None:
    """Nothing recorded is nothing used: a row for each device, all zero."""
    [row] = replay(write(tmp_path, [])).rows()

    assert {row[key] for key in DEVICE_KEYS - {"device"}} == {0.0}


def test_no_recording_is_said(tmp_path: Path) -> None:
    """A folder without one ends with words."""
    with pytest.raises(Unavailable, match="no recording here"):
        replay(tmp_path)


def test_what_is_left_out_is_said_on_the_side(tmp_path: Path) -> None:
    """Lines that cannot be read are named on standard error, beside JSON too: the first twenty of many."""
    folder = write(tmp_path, story())
    with (folder / "requests.jsonl").open("a") as stream:
        stream.write("{broken\n" * 25)

    done = CliRunner().invoke(cli, ["replay", str(folder), "--json"])

    assert done.exit_code == 0
    assert len([json.loads(line) for line in done.stdout.splitlines()]) == 3
    assert len(done.stderr.splitlines()) == 21
    assert done.stderr.splitlines()[-1] == "left out: 5 more"
