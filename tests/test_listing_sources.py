"""What `inferwatt sources` shows: every device and remedy, in 80 columns and in 120, and all of it as JSON."""

import io
import json
from dataclasses import replace

import pytest
from rich.console import Console

from inferwatt.listing_sources import print_sources, update_period_ns
from inferwatt.records import Device
from inferwatt.snapshot import Lack
from inferwatt.sources import Found
from inferwatt.sources.choice import choose
from inferwatt.survey import Seen

from .sources.devices import CPU, DRAM, MODELLED, OVERHEAD, REPORTED, SAMPLED, NamedSource, device

MS = 1_000_000
FIX = "sudo chmod a+r /sys/class/powercap/*/energy_uj  # until reboot; for good, in /etc/udev/rules.d/70-rapl.rules"
LACKS = (
    Lack("cannot read package-0: Permission denied", "/sys/class/powercap/intel-rapl:0/energy_uj", FIX, "rapl", "cpu"),
    Lack("no energy counter: power is integrated", "gpu-1", "none: the hardware has none", "nvml", "accelerator"),
    Lack("there is a BMC", "/dev/ipmi0", "set sources.ipmi.enabled = true", "ipmi", "overhead"),
    Lack("the source other failed to start: KeyError", "other:find", 'set sources.disabled = ["other"]', "other"),
    Lack("no rail", "/sys/class/hwmon", "force_cap_on=y", "hwmon", "dram"),
)
EXPORTERS = {"reported": "dcgm-exporter"}
SEEN = {
    "gpu-0": Seen(412.34, 0.1003, is_faster=False, readings=200, failures=0),
    "cpu": Seen(2.41, 0.1, is_faster=True, readings=20, failures=1, trouble="a read hangs (1.0 s)"),
    "dram-0": Seen(None, None, is_faster=False, readings=0, failures=0),
}


def source(name: str, of: Device, period_ms: int, kind: str) -> NamedSource:
    """Return a source with a device of some kind."""
    made = NamedSource(name, replace(of, source=EXPORTERS.get(name, name), kind=kind))
    made.period_ns = period_ms * MS
    return made


@pytest.fixture
def found() -> Found:
    """A machine with two GPUs, one of them old, a modelled CPU, reported DRAM; without a figure of the server."""
    choice = choose(
        [
            source("reported", device("dram-0", DRAM, REPORTED), 0, ""),
            source("modelled", device("cpu", CPU, MODELLED, ratio=0.59), 100, "Zen 5, 2 logical CPUs"),
            source("nvml", device("gpu-0", uuid="GPU-0"), 100, "NVIDIA H100 80GB HBM3"),
            source("nvml", device("gpu-1", provenance=SAMPLED, uuid="GPU-1"), 20, "Tesla P100-PCIE-16GB"),
            source("reported", device("gpu-0", provenance=REPORTED, uuid="GPU-0"), 1000, "dcgm"),
        ]
    )
    return Found(choice.kept, LACKS, choice.passed_over, ("nvml", "rapl", "reported"))


def shown(found: Found, seen: dict[str, Seen] | None = None, *, width: int = 80) -> str:
    """Return what a terminal of this width shows, blanks at the ends of lines left out."""
    console = Console(file=io.StringIO(), width=width, highlight=False)
    print_sources(found, seen or {}, as_json=False, console=console)
    assert isinstance(console.file, io.StringIO)
    return "\n".join(line.rstrip() for line in console.file.getvalue().splitlines())


def test_all_of_it_in_80_columns(found: Found) -> None:
    """One row a device, the reasons and remedies below it, by number; then what is not measured or is left out."""
    assert (
        shown(found)
        == f"""\
device  kind               covers   read by        provenance   every    ±  note
gpu-0   NVIDIA H100 80GB   gpu      nvml           measured    100 ms   5%
        HBM3
gpu-1   Tesla              gpu      nvml           sampled      20 ms   5%  1
        P100-PCIE-16GB
cpu     Zen 5, 2 logical   package  modelled       modelled    100 ms  59%  2
        CPUs
dram-0  -                  dram     dcgm-exporter  reported         -   5%  3

what would be better, and how
   1  nvml: no energy counter: power is integrated (gpu-1)
      fix: none: the hardware has none
   2  rapl: cannot read package-0: Permission denied
      (/sys/class/powercap/intel-rapl:0/energy_uj)
      fix: {FIX}
   3  hwmon: no rail (/sys/class/hwmon)
      fix: force_cap_on=y

not measured here
  overhead  ipmi: there is a BMC (/dev/ipmi0)
            fix: set sources.ipmi.enabled = true

lacking besides
  other  the source other failed to start: KeyError (other:find)
         fix: set sources.disabled = ["other"]

found, and left out: each joule is counted once
  gpu-0  dcgm-exporter (reported): the same GPU is read by nvml (measured)"""
    )


@pytest.mark.parametrize("width", [80, 120])
def test_what_was_seen_stands_beside_it(found: Found, width: int) -> None:
    """Watts and periods in a table of their own; what was not seen is a dash, a limit is shown as one."""
    assert """
device  watts  moved every  readings  failures
gpu-0   412.3       100 ms       200         0
cpu       2.4     ≤ 100 ms        20         1
dram-0      -            -         0         0
  cpu  a read hangs (1.0 s)
""" in shown(found, SEEN, width=width)


@pytest.mark.parametrize("width", [80, 120])
def test_no_line_is_too_long_but_a_command(found: Found, width: int) -> None:
    """A command is never broken, so that it can be copied; everything else fits, a long name included."""
    name = "NVIDIA RTX PRO 6000 Blackwell Max-Q Workstation Edition with a name that goes on"
    long = NamedSource(
        "nvml", replace(device("gpu-10-amdsmi", uuid="GPU-9"), kind=name, source="AMD device-metrics-exporter")
    )
    lines = shown(replace(found, sources=(*found.sources, long)), SEEN, width=width).splitlines()

    assert [line for line in lines if len(line) > width and "fix: " not in line] == []
    assert any(line.endswith(FIX) for line in lines)
    assert "Workstation" in "\n".join(lines)
    assert "gpu-10-amdsmi" in "\n".join(lines)


def test_a_machine_without_any_meter_says_what_it_lacks() -> None:
    """Nothing to read is no error: each part of the server is named, with the remedy where one is known."""
    assert (
        shown(Found(lacks=LACKS[:1]))
        == f"""\
no device can be read

not measured here
  accelerator  nothing was found that tells of it
  cpu          rapl: cannot read package-0: Permission denied
               (/sys/class/powercap/intel-rapl:0/energy_uj)
               fix: {FIX}
  dram         nothing was found that tells of it
  overhead     no BMC is named that could tell what the whole server draws
               fix: in the configuration: [[sources.redfish]] with its url, or sources.ipmi.enabled = true"""
    )


def test_a_better_source_that_was_left_out_is_a_note_too() -> None:
    """Where parts are preferred to a measured whole, the row of the part says what could be had instead."""
    choice = choose(
        [
            source("nvml", device("gpu-9", domain="module", uuid="GPU-0"), 100, ""),
            source("other", device("gpu-0", provenance=SAMPLED, uuid="GPU-0"), 100, "GH200"),
        ]
    )

    text = shown(Found(choice.kept, (), choice.passed_over))

    assert "nvml (measured): it covers the whole module, and gpu-0 the GPU alone" in text.replace("\n     ", "")
    assert 'fix: to read it instead: sources.disabled = ["other"]' in text


def test_json_has_everything(found: Found, capsys: pytest.CaptureFixture[str]) -> None:
    """Each line says what it is; units are in the names, and what is not known is left out."""
    print_sources(found, SEEN, as_json=True)
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    gpu, cpu = lines[0], next(line for line in lines if line.get("device") == "cpu")

    assert [line["record"] for line in lines] == ["device"] * 4 + ["passed_over"] + ["lack"] * 5 + ["asked"]
    assert gpu["update_period_seconds"] == 0.1
    assert (gpu["seen_power_watts"], gpu["seen_update_period_seconds"], gpu["seen_readings"]) == (412.34, 0.1003, 200)
    assert (gpu["uuid"], gpu["source"], gpu["provenance"], gpu["systematic_ratio"]) == (
        "GPU-0",
        "nvml",
        "measured",
        0.05,
    )
    assert [lack["fix"] for lack in cpu["better"]] == [FIX]
    assert cpu["seen_trouble"] == "a read hangs (1.0 s)"
    assert "update_period_seconds" not in lines[3]
    assert "seen_power_watts" not in lines[3]
    assert (lines[4]["device"], lines[4]["instead"], lines[4]["source"]) == ("gpu-0", "gpu-0", "reported")
    assert [line["would_bring"] for line in lines[5:10]] == ["a better figure"] * 2 + ["a device"] * 2 + [
        "a better figure"
    ]
    assert lines[-1] == {"record": "asked", "sources": ["nvml", "rapl", "reported"]}


def test_json_has_no_unknown_as_a_value(found: Found, capsys: pytest.CaptureFixture[str]) -> None:
    """What is not known is absent: no null, and no empty word for a device."""
    print_sources(found, SEEN, as_json=True)
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]

    assert [row for row in rows if row["record"] != "lack" and (None in row.values() or "" in row.values())] == []


def test_a_reason_that_many_devices_share_is_given_once() -> None:
    """Eight old GPUs are no reason to repeat it eight times."""
    gpus = [source("nvml", device(f"gpu-{n}", provenance=SAMPLED, uuid=f"GPU-{n}"), 20, "P100") for n in range(8)]
    text = shown(Found(tuple(gpus), LACKS[1:2]))

    assert text.count("no energy counter") == 1
    assert [line.split()[-1] for line in text.splitlines() if line.startswith("gpu-")] == ["1"] * 8


def test_a_lack_that_would_change_nothing_is_in_the_json_alone(capsys: pytest.CaptureFixture[str]) -> None:
    """Who reads the CPU by RAPL is not told how to get a rail of it."""
    rapl = source("rapl", device("cpu-0", CPU), 10, "RAPL package-0")
    found = Found((rapl,), (Lack("no rail", "x", "y", "hwmon", "cpu"),))

    assert "no rail" not in shown(found)
    print_sources(found, {}, as_json=True)
    assert json.loads(capsys.readouterr().out.splitlines()[1])["would_bring"] == "nothing"


def test_the_period_of_a_slow_source_is_that_of_its_polls() -> None:
    """It hands over what is there more often than it asks."""
    slow = source("redfish", device("server", OVERHEAD, SAMPLED), 1000, "")
    assert update_period_ns(slow) == 1000 * MS

    slow.poll_ns = 10_000 * MS  # type: ignore[attr-defined]
    assert update_period_ns(slow) == 10_000 * MS
