"""What calls of a server cost lately: learnt from their own final joules, and said before a call's own are there."""

import threading
from pathlib import Path

import pytest

from inferwatt.answering.provisional import Known
from inferwatt.answering.usage import Used
from inferwatt.gateway import lately
from inferwatt.gateway.lately import Lately
from inferwatt.handle import RequestHandle
from inferwatt.rates import LEAST_REQUESTS
from inferwatt.records import Component, EnergyPart, Provenance, RequestEnergy, Tier
from tests.engines.ends import some_energy
from tests.gateway.conftest import Desk
from tests.gateway.processes import Gateway, StandIn


class Sink:
    """Where handles of a test tell what happens: nowhere."""

    producer = "p"

    def changed(self, handle: RequestHandle) -> None:
        """Take note of nothing."""

    def ended(self, handle: RequestHandle) -> None:
        """Take note of nothing."""

    def note(self, problem: str) -> None:
        """Take note of nothing."""

    def energy(self, handle: RequestHandle, wait_seconds: float | None) -> RequestEnergy | None:
        """Return what a test has said."""
        return handle.last_energy

    def may_come(self, handle: RequestHandle) -> bool:
        """Whether a test may say more."""
        return True


def call(model: str, energy_uj: int | None = None, *, final: bool = True) -> RequestHandle:
    """Return a call of 10 prompt and 11 output tokens that took so much, half of it for the prompt."""
    handle = RequestHandle(Sink(), "1", model, "", "e", None).start()
    handle.usage(prompt=10, output=11)
    handle.finish()
    if energy_uj is not None:
        half = energy_uj // 2
        part = EnergyPart(Component.CPU, Provenance.MODELLED, half, half, half, energy_uj, 0.5)
        handle.last_energy = RequestEnergy("1", (part,), Tier.REQUEST_SPAN, final)
    return handle


def learnt(own: Lately, model: str = "m", prompt: int = 10, output: int = 11) -> Known | RequestEnergy | None:
    """Return what is known of a new call."""
    own._look_at = 0.0
    return own.known(call(model), Used(prompt=prompt, output=output), 1)


def test_only_final_joules_of_the_same_model_count() -> None:
    """An average of 19 calls at least; what is not final, or another model's, says nothing; twice the work twice."""
    own = Lately()
    for _ in range(LEAST_REQUESTS - 1):
        own.ended(call("m", 2000))
    own.ended(call("m", 10**6, final=False))
    own.ended(call("other", 10**6))
    before = learnt(own)
    own.ended(call("m", 2000))
    after, twice = learnt(own), learnt(own, prompt=20, output=21)

    assert before is None
    assert isinstance(after, Known)
    assert isinstance(twice, Known)
    assert (after.energy_uj, after.low_uj, after.high_uj) == (2000, 2000, 2000)
    assert twice.energy_uj == 4000
    assert learnt(own, "other") is None


def test_what_was_long_ago_is_not_lately(monkeypatch: pytest.MonkeyPatch) -> None:
    """After a while without a call its model costs nobody knows what; and of many models the newest are kept."""
    own = Lately()
    for _ in range(LEAST_REQUESTS):
        own.ended(call("m", 2000))
    now = learnt(own)
    monkeypatch.setattr(lately, "RECENT_SECONDS", 0.0)
    later = learnt(own)
    monkeypatch.undo()
    monkeypatch.setattr(lately, "MAX_MODELS", 2)
    for model in ("a", "b", "c"):
        for _ in range(LEAST_REQUESTS):
            own.ended(call(model, 2000))
        learnt(own)

    assert (now is None, later is None) == (False, True)
    assert [learnt(own, model) is None for model in ("m", "a", "b", "c")] == [True, True, False, False]


def test_calls_that_never_become_final_hold_nothing_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that nobody meters: its calls are forgotten after a while, and few are held until then."""
    own = Lately()
    for _ in range(1000):
        own.ended(call("m"))
    assert len(own._waiting) == lately.MOST_WAITING
    monkeypatch.setattr(lately, "FINAL_WITHIN_NS", -1)
    learnt(own)

    assert not own._waiting


def test_an_answer_says_what_its_tokens_cost_lately(folder: Path, server: StandIn, desk: Desk) -> None:
    """After 19 calls whose joules are final the next says theirs at once, with the interval in which 90% lay."""
    with Gateway(folder / "lately", [server.url], agent=str(folder / "agent.sock")) as gateway:
        first = gateway.ask({"model": "lately"}).json()["inferwatt"]
        for _ in range(LEAST_REQUESTS - 1):
            gateway.ask({"model": "lately"})
        records = desk.ended_all(LEAST_REQUESTS)
        desk.agent.inbox.push(records[0].producer, [some_energy(one.request, final=True) for one in records])
        said = [gateway.ask({"model": "lately"}).json()["inferwatt"]]
        while said[-1]["state"] == "pending":
            threading.Event().wait(0.1)
            said.append(gateway.ask({"model": "lately"}).json()["inferwatt"])
        other = gateway.ask({"model": "another"}).json()["inferwatt"]
        several = gateway.ask({"model": "lately", "n": 2}).json()["inferwatt"]

    assert first["state"] == other["state"] == "pending"
    names = ("energy_joules", "low_joules", "high_joules", "basis", "state", "final")
    assert [said[-1][name] for name in names] == [3e-06, 3e-06, 3e-06, "recent_average", "provisional", False]
    assert several["prefill_joules"] == 2e-06
