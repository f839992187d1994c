"""What is said of a call that is over: its joules once they are final, and that nobody will ever know them."""

from pathlib import Path

import pytest

from inferwatt.gateway import known
from inferwatt.gateway.known import Recent
from inferwatt.handle import RequestHandle
from inferwatt.records import RequestEnergy, Tier
from tests.gateway.conftest import Desk
from tests.gateway.processes import Gateway, StandIn
from tests.gateway.test_lately import call
from tests.real.pages import wait_for


def state(handle: RequestHandle) -> tuple[str, bool]:
    """Return what is said of a call, and whether that is the last word."""
    recent = Recent()
    recent.add("r", "acme", handle)
    told = recent.find("r", "acme", "")
    assert told is not None
    assert ("energy_joules" in told) == (told["state"] not in {"pending", "unknown"})
    return told["state"], told["final"]


def test_who_asks_again_and_again_is_told_at_last(monkeypatch: pytest.MonkeyPatch) -> None:
    """Final joules, or that none were read, or that no agent has spoken of the call for half a minute."""
    nothing = call("m")
    nothing.last_energy = RequestEnergy("1", (), Tier.REQUEST_SPAN, final=True)

    assert state(call("m")) == ("pending", False)
    assert state(call("m", 2000, final=False)) == ("provisional", False)
    assert state(call("m", 2000)) == ("final", True)
    assert state(nothing) == ("unknown", True)

    monkeypatch.setattr(known, "FINAL_WITHIN_NS", -1)
    assert state(call("m")) == ("unknown", True)


def test_a_gateway_is_connected_before_its_first_call(folder: Path, server: StandIn, desk: Desk) -> None:
    """Its agent must not hear of a short call when that is long over."""
    before = desk.agent.inbox.health().connections
    with Gateway(folder / "early", [server.url], agent=str(folder / "agent.sock")):
        wait_for("its connection", lambda: desk.agent.inbox.health().connections > before)
