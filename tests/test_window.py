"""The meter without an agent, over a fake that measures and over the real one."""

import asyncio
import os
import time

import pytest

import inferwatt
from inferwatt.inprocess import DeviceTotal
from inferwatt.records import Component, Device, EnergyPart, Outcome, Provenance, Request, RequestEnergy, Tier
from inferwatt.snapshot import Lack
from inferwatt.window import DeviceEnergy, Meter, MeterEnergy

PART = EnergyPart(Component.CPU, Provenance.MODELLED, 1, 2, 2, 4, 0.5)


class Fake:
    """Measures by the book: 100 µJ for each request that ended, final once the window has."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.lacks: tuple[Lack, ...] = (Lack("no counter", "here", "buy one"),)
        self.submitted: list[Request] = []
        self.running = False

    def start(self) -> None:
        """Begin."""
        self.running = True

    def stop(self) -> None:
        """End."""
        self.running = False

    def submit(self, request: Request, /) -> None:
        """Keep it."""
        self.submitted.append(request)

    def energy(self, request: str, /) -> RequestEnergy | None:
        """Nothing until it has ended."""
        ends = [one for one in self.submitted if one.request == request and one.end_ns is not None]
        return RequestEnergy(request, (PART,), Tier.REQUEST_SPAN, final=not self.running) if ends else None

    def totals(self) -> tuple[DeviceTotal, ...]:
        """Two devices, one read and one modelled."""
        gpu = Device("gpu-0", provenance=Provenance.MEASURED, systematic_ratio=0.05)
        cpu = Device("cpu", component=Component.CPU, provenance=Provenance.MODELLED, systematic_ratio=0.4)
        return (DeviceTotal(gpu, 3000, 1000), DeviceTotal(cpu, 200, 100))


class Broken(Fake):
    """Stumbles over everything once it runs."""

    def stop(self) -> None:
        """Stumble."""
        raise ZeroDivisionError

    def submit(self, request: Request, /) -> None:
        """Stumble."""
        raise ZeroDivisionError

    def energy(self, request: str, /) -> RequestEnergy | None:
        """Stumble."""
        raise ZeroDivisionError

    def totals(self) -> tuple[DeviceTotal, ...]:
        """Stumble."""
        raise ZeroDivisionError


def test_a_window_keeps_its_devices_apart() -> None:
    """All devices with their provenance, the own share, the bounds of both added linearly, and what is missing."""
    with Meter(Fake) as m:
        pass
    found = m.energy()

    assert found.devices == (
        DeviceEnergy("gpu-0", Component.ACCELERATOR, Provenance.MEASURED, 3000, 1000, 0.05),
        DeviceEnergy("cpu", Component.CPU, Provenance.MODELLED, 200, 100, 0.4),
    )
    assert (found.own_uj, found.low_uj, found.high_uj) == (1100, 1010, 1190)
    assert found.systematic_ratio == pytest.approx(90 / 1100)
    assert (found.provenance, found.own_joules) == (Provenance.MODELLED, 0.0011)
    assert found.lacks == (Lack("no counter", "here", "buy one"),)
    assert found.window_ns > 0


def test_a_request_inside_gets_its_share() -> None:
    """The same handle as with an agent: told while it runs, final when the window has ended."""
    fakes: list[Fake] = []

    def build(pid: int) -> Fake:
        fakes.append(Fake(pid))
        return fakes[-1]

    with Meter(build) as m:
        with m.request(model="m", tenant="t") as r:
            r.first_token()
            assert r.energy() is None
            r.usage(output=3)
        during = r.energy()
        assert r.energy(wait_seconds=0.0) == during
    after = r.energy(wait_seconds=30.0)

    assert (during is not None and during.final, after is not None and after.final) == (False, True)
    assert [(one.output_tokens, one.outcome) for one in fakes[0].submitted][-1] == (3, Outcome.FINISHED)
    assert (len(fakes[0].submitted), fakes[0].pid) == (3, os.getpid())


def test_the_asynchronous_form_is_the_same() -> None:
    """`async with` around the window and around the call."""

    async def main() -> tuple[MeterEnergy, RequestEnergy | None]:
        async with Meter(Fake) as m, m.request() as r:
            pass
        return m.energy(), await r.energy_async()

    found, energy = asyncio.run(main())

    assert found.own_uj == 1100
    assert energy is not None
    assert energy.final


def test_a_meter_that_cannot_start_says_what_is_missing(caplog: pytest.LogCaptureFixture) -> None:
    """The host's code runs, one line is logged, and nothing is zero."""

    def build(pid: int) -> Fake:
        raise PermissionError("no counter for you")

    with Meter(build) as m, m.request() as r:
        pass
    found = m.energy()

    assert (found.devices, found.own_uj, found.low_uj, found.high_uj, found.own_joules) == ((), None, None, None, None)
    assert (found.provenance, found.systematic_ratio, r.energy(wait_seconds=30.0)) == (None, 0.0, None)
    assert "no counter for you" in found.lacks[0].what
    assert len(caplog.records) == 1


def test_a_meter_that_stumbles_hurts_nobody(caplog: pytest.LogCaptureFixture) -> None:
    """An error of ours inside the window is logged once and stays inside."""
    with Meter(Broken) as m, m.request() as r:
        r.usage(output=1)

    assert r.energy() is None
    assert m.energy().devices == ()
    assert len(caplog.records) == 1


def test_the_real_meter_measures_this_process() -> None:
    """`inferwatt.meter()` finds what this machine has, or says what it lacks; a call inside ends with its joules."""
    with inferwatt.meter() as m, m.request(model="m") as r:
        start_seconds = time.process_time()
        while time.process_time() < start_seconds + 0.5:
            sum(range(10_000))
        r.usage(prompt=1, output=1)
    found = m.energy()

    assert found.devices or found.lacks
    assert all(0 <= one.own_uj <= one.measured_uj for one in found.devices)
    if found.devices:
        energy = r.energy()
        assert energy is not None
        assert energy.final
        assert 0 < energy.energy_uj <= sum(one.own_uj for one in found.devices)
