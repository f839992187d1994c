"""Calls of managed APIs at the desk: estimated once, in families of their own, kept, and never a device's joules."""

from typing import Any

import pytest

from inferwatt.clients.carbon import Intensity
from inferwatt.clients.estimator import estimate
from inferwatt.export import estimated
from inferwatt.ledger.schema import HourSums, roll_up
from inferwatt.records import Component, Outcome, Provenance, Request
from inferwatt.units import joules
from tests.desk import MS, SECOND, Desk, ended, opened

OF = ("gpt-4o", "openai")


def called(name: str, desk: Desk, **more: Any) -> Request:
    """Return a call to a managed API that took 2 s."""
    said = {"model": "gpt-4o", "provider": "openai", "prompt_tokens": 100, "cached_tokens": 40, "output_tokens": 20}
    return ended(name, desk.now - 2 * SECOND, desk.now, **{"tenant": "acme", **said, **more})


def test_a_call_is_estimated_counted_and_kept() -> None:
    """Its joules are the estimator's, with their bounds; the ledger has the row, its producer the acknowledgement."""
    desk = Desk()
    seq = desk.say(called("1", desk, response_id="chatcmpl-1"))
    desk.live(2)
    told = estimate("gpt-4o", prompt_tokens=100, cached_tokens=40, output_tokens=20, seconds=2.0)

    assert desk.shown(estimated.ENERGY) == {(*OF, "estimated"): pytest.approx(told.energy_joules * 1e6, abs=1)}
    assert desk.shown(estimated.LOW) == {(*OF, "estimated"): pytest.approx(told.low_joules * 1e6, abs=1)}
    assert desk.shown(estimated.HIGH) == {(*OF, "estimated"): pytest.approx(told.high_joules * 1e6, abs=1)}
    assert desk.shown(estimated.TENANT).keys() == {("acme", *OF, "estimated")}
    assert desk.shown(estimated.TOKENS) == {(*OF, "prompt"): 60, (*OF, "cached"): 40, (*OF, "output"): 20}
    assert desk.shown(estimated.REQUESTS) == {(*OF, "finished"): 1}
    row = desk.row("1")
    assert row.energy is not None
    assert (row.server, row.energy.provenance) == ("openai", Provenance.ESTIMATED)
    assert joules(row.energy.energy_uj) == pytest.approx(told.energy_joules, rel=1e-6)
    assert joules(row.energy.low_uj) == pytest.approx(told.low_joules, rel=1e-6)
    assert [part.component for part in row.energy.parts] == [Component.ACCELERATOR, Component.OVERHEAD]
    assert joules(row.energy.parts[0].energy_uj) == pytest.approx(told.accelerator_joules, rel=1e-6)
    assert desk.told.acks[-1][1] == seq
    assert [energy.final for energy in desk.told.energies] == [True]


def test_emissions_are_counted_where_somebody_said_what_a_kwh_emits() -> None:
    """To the nanogram, with their bounds; the figure and its source stand beside. Without it there is none."""
    desk, silent = Desk(carbon=Intensity(400.0, "Ember 2024, Sweden")), Desk()
    for one in (desk, silent):
        one.say(called("1", one))
        one.live(2)
    told = estimate("gpt-4o", prompt_tokens=100, cached_tokens=40, output_tokens=20, seconds=2.0)
    joules = (told.energy_joules, told.low_joules, told.high_joules)

    for name, each in zip(estimated.EMISSIONS, joules, strict=True):
        assert desk.shown(name) == {(*OF, "estimated"): pytest.approx(each / 9000 * 1e9, abs=1)}
        assert silent.shown(name) == {}
    method = told.method
    assert [one.row("1").fit for one in (desk, silent)] == [f"{method}; 400 g/kWh, Ember 2024, Sweden", method]
    assert desk.shown(estimated.INTENSITY) == {("Ember 2024, Sweden",): pytest.approx(400 / 3.6e6)}
    assert silent.shown(estimated.INTENSITY) == {}


def test_no_device_pays_for_it() -> None:
    """What is estimated is in no family of measured joules, requests or tokens, and no engine is made up for it."""
    desk = Desk()
    desk.say(opened("1", desk.now, provider="openai"))
    desk.say(called("1", desk))
    desk.live(2)
    kinds = {engine.kind for engine in desk.metering.engines.values()}

    assert kinds == {"vllm"}
    assert {labels[2] for labels in desk.shown("inferwatt_energy_joules_total")} == {"idle_resident"}
    assert desk.shown("inferwatt_requests_total") == {}
    assert desk.shown("inferwatt_tenant_energy_joules_total") == {}
    assert desk.shown("inferwatt_output_tokens_total") == {}


def test_two_words_of_one_call_count_once() -> None:
    """The client's own and a span of it have the same response id; of two calls with none both count."""
    desk = Desk()
    desk.say(called("1", desk, response_id="r"))
    desk.say(called("2", desk, response_id="r", producer="q" * 32))
    desk.say(called("3", desk, response_id="r", provider="anthropic"), called("4", desk), called("5", desk))
    desk.live(2)

    assert sum(desk.shown(estimated.REQUESTS).values()) == 4
    assert desk.shown("inferwatt_records_dropped_total") == {("duplicate",): 1}


def test_what_told_no_tokens_is_counted_as_unknown() -> None:
    """No joule is made up for it; its row is kept without energy."""
    desk = Desk()
    desk.say(called("1", desk, prompt_tokens=None, cached_tokens=None, output_tokens=None, outcome=Outcome.FAILED))
    desk.live(2)

    assert desk.shown(estimated.UNKNOWN) == {(*OF, "failed"): 1}
    assert desk.shown(estimated.ENERGY) == {}
    assert desk.row("1").energy is None


def test_counters_go_on_after_a_restart_and_a_repeated_record_is_not_counted() -> None:
    """A producer that was not acknowledged says it again to the next agent: it is kept already."""
    first = Desk()
    call = called("1", first)
    first.say(call)
    first.live(2)
    second = Desk(first.clock, first.disk)
    second.say(call)
    second.say(called("2", second))
    second.live(2)

    assert sum(second.shown(estimated.REQUESTS).values()) == 2
    assert second.shown(estimated.TOKENS)[*OF, "output"] == 40


def test_names_are_folded_as_elsewhere() -> None:
    """Models, tenants and providers beyond their limits are one, and nothing of them is lost."""
    desk = Desk()
    for number in range(1200):
        desk.say(called(str(number), desk, model=f"m{number}", tenant=f"t{number}", provider=f"p{number}"))
    desk.clock.advance(100 * MS)
    desk.live(2)
    shown = desk.shown(estimated.REQUESTS)

    assert sum(shown.values()) == 1200
    assert len({labels[0] for labels in shown}) == 501
    assert len({labels[1] for labels in shown}) == 101
    assert len({labels[0] for labels in desk.shown(estimated.TENANT)}) == 1001


def test_estimates_share_their_causes() -> None:
    """In the ledger's hours their bounds add up linearly, as metrics do: ten thousand are no surer than one."""
    desk = Desk()
    desk.say(called("1", desk), called("2", desk))
    desk.live(2)
    rows = [desk.row("1"), desk.row("2")]
    sums: HourSums = {}
    for row in rows:
        roll_up(sums, row)

    assert sum(line[2] for line in sums.values()) == 0
    assert sum(line[3] for line in sums.values()) == sum(
        (part.high_uj - part.low_uj) / 2 for row in rows if row.energy for part in row.energy.parts
    )
