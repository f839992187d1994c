import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from inferwatt.inprocess import InProcessMeter
from inferwatt.records import Component, Device, Outcome, Provenance, Reading, Request
from inferwatt.sources import Found
from inferwatt.testing import FakeClock, ScriptedSource

from .sources.devices import HeldGpu

MS = 1_000_000
GPU = Device("gpu-0", component=Component.ACCELERATOR, provenance=Provenance.MEASURED)


def test_a_request_in_the_process_has_the_devices_joules_of_its_time() -> None:
    """Without a view of processes a device's joules go to the request that ran, the rest to the process."""
    clock = FakeClock(monotonic_ns=0)
    readings = [Reading(i * 100 * MS, "gpu-0", counter_uj=i * 1_000_000) for i in range(11)]
    meter = InProcessMeter(pid=1, clock=clock, found=Found((ScriptedSource(GPU, []),)))
    meter.start()
    for reading in readings[:3]:
        meter._take(reading)
    request = Request("r", model="m", arrival_ns=200 * MS)
    meter.submit(request)
    for reading in readings[3:8]:
        meter._take(reading)
    meter.submit(replace(request, end_ns=700 * MS, outcome=Outcome.FINISHED, output_tokens=4))
    for reading in readings[8:]:
        meter._take(reading)

    meter.stop()

    energy = meter.energy("r")
    assert energy is not None
    assert energy.final
    assert energy.energy_uj == 5_000_000
    [total] = meter.totals()
    assert (total.measured_uj, total.own_uj) == (10_000_000, 5_000_000)


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="this system has no /proc")
def test_what_a_child_holds_of_a_gpu_is_this_processs() -> None:
    """A worker process, as torch or vLLM starts them, is not somebody else's."""
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        held = HeldGpu(child.pid)
        meter = InProcessMeter(found=Found((held,)))
        meter.start()
        while held.reads < 5:
            time.sleep(0.01)
        child.communicate(b"\n")
        meter.stop()

    accounts = meter._metering.device_totals["gpu-0"]
    assert accounts["measured"] > 0
    assert accounts["other"] == 0


def test_this_process_has_a_part_of_this_machine() -> None:
    """On the real machine the process's part is more than nothing and at most all."""
    meter = InProcessMeter()
    meter.start()
    sum(i * i for i in range(6_000_000))

    meter.stop()

    for total in meter.totals():
        assert 0 < total.own_uj <= total.measured_uj
    assert meter.totals() or meter.lacks
