"""Recordings that others wrote: spelt otherwise, out of order, in pieces. What they say decides, not how."""

import gzip
import json
import random
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from benchmarks.truth.scores import score
from hypothesis import given, settings
from hypothesis import strategies as st

from inferwatt import recording, simulating_disk
from inferwatt.records import Event, EventKind, Provenance, Reading, Rule, Tier
from inferwatt.replay import ReplayResult, replay
from inferwatt.simulate.loads import LOADS
from inferwatt.simulate.witness import Witness
from inferwatt.simulate.world import Run, World, simulate

SECOND = 1_000_000_000
Files = dict[str, list[dict[str, Any]]]


@cache
def run() -> Run:
    """Return a short run of a mixed load, its chunks seen."""
    return simulate(World(replace(LOADS["mixed"], requests=20), seed=5, witness=Witness(chunks=True)))


@cache
def told() -> str:
    """Return its recording, meta and lines by file, as JSON."""
    with TemporaryDirectory() as name:
        simulating_disk.write(Path(name), run())
        files: dict[str, Any] = {
            path.stem: [json.loads(line) for line in path.read_text().splitlines()]
            for path in Path(name).glob("*.jsonl")
        }
        files["meta"] = json.loads((Path(name) / "meta.json").read_text())
    return json.dumps(files)


def parts() -> tuple[dict[str, Any], Files]:
    """Return what the recording says of itself, and its lines, to be changed at will."""
    files = json.loads(told())
    return files.pop("meta"), files


def put(folder: Path, meta: dict[str, Any], files: Files) -> Path:
    """Write a recording as its parts are."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "meta.json").write_text(json.dumps(meta))
    for name, lines in files.items():
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder


def figures(result: ReplayResult) -> list[str]:
    """Return what a replay printed, after the law was checked; whatever a request is called."""
    for _, totals in result.devices:
        accounts = totals.accounts()
        assert accounts["measured"] * 2 == sum(accounts.values())
        assert min(accounts.values()) >= 0
    assert sum(energy.energy_uj for _, energy in result.requests) == sum(t.requests_uj for _, t in result.devices)
    return [line.partition(",")[2] for line in result.json_lines()]


@cache
def plain() -> list[str]:
    """Return the figures of the recording as it was written."""
    with TemporaryDirectory() as name:
        return figures(replay(put(Path(name), *parts())))


def shuffled(meta: dict[str, Any], files: Files, chance: random.Random) -> None:
    """Lines in any order."""
    for lines in files.values():
        chance.shuffle(lines)


def doubled(meta: dict[str, Any], files: Files, chance: random.Random) -> None:
    """Lines that are there twice."""
    for lines in files.values():
        lines += [dict(line) for line in chance.sample(lines, len(lines) // 3)]


def with_more_fields(meta: dict[str, Any], files: Files, chance: random.Random) -> None:
    """Fields of a later version, and of others."""
    for line in (meta, *(line for lines in files.values() for line in lines)):
        line |= {"colour": "red", "nested": {"t_ns": [1]}}


def with_nulls(meta: dict[str, Any], files: Files, chance: random.Random) -> None:
    """What is not known as null; how it ended in others' words (nothing depends on it)."""
    for line in files["requests"]:
        line |= {"recomputed_tokens": None, "tags": None, "trace_id": None, "outcome": chance.choice(["stop", None])}
    for line in files["readings"]:
        line |= {"power_mw": None, "wraps_at_uj": None}
    meta |= {"host": None, "clock": None}
    meta["devices"]["gpu-0"]["max_watts"] = None


def as_floats(meta: dict[str, Any], files: Files, chance: random.Random) -> None:
    """Whole numbers as pandas writes them; the unit's last digits."""
    for line in files["readings"]:
        line["counter_uj"] += 0.25
    for line in files["requests"]:
        line["prompt_tokens"] = float(line["prompt_tokens"])
    for line in files["steps"]:
        line["members"] = [[name, float(new), float(context), phase] for name, new, context, phase in line["members"]]


def with_numbers_as_names(meta: dict[str, Any], files: Files, chance: random.Random) -> None:
    """A request, an engine and a device by number; phases in capitals."""
    for line in files["requests"]:
        line["request"] = int(line["request"][1:]) + 10_000
    for line in files["steps"]:
        line["members"] = [[int(name[1:]) + 10_000, *rest, phase.upper()] for name, *rest, phase in line["members"]]
    for line in files["requests"] + files["steps"]:
        line["engine"] = 7
    for line in files["readings"]:
        line["device"] = 0
    meta["engines"] = {"7": {**meta["engines"]["e0"], "devices": [0]}}
    meta["devices"] = {"0": meta["devices"]["gpu-0"]}


def unnamed(meta: dict[str, Any], files: Files, chance: random.Random) -> None:
    """The only engine and the only device are not named in lines, nor is where the engine runs."""
    for line in (line for lines in files.values() for line in lines):
        line.pop("engine", None)
        line.pop("device", None)
    meta["engines"] = {name: {} for name in meta["engines"]}


def renamed(meta: dict[str, Any], files: Files, chance: random.Random) -> None:
    """Names in any alphabet, of any length."""
    for line in files["requests"]:
        line["request"] = f"запрос-{'ü' * 200}-{line['request']}"
    for line in files["steps"]:
        line["members"] = [[f"запрос-{'ü' * 200}-{name}", *rest] for name, *rest in line["members"]]


def unchanged(meta: dict[str, Any], files: Files, chance: random.Random) -> None:
    """Nothing."""


Change = Callable[[dict[str, Any], Files, random.Random], None]
SPELLINGS: list[Change] = [shuffled, doubled, with_more_fields, with_nulls, as_floats]
NAMINGS: list[Change] = [unchanged, with_numbers_as_names, unnamed, renamed]


@given(
    st.sets(st.sampled_from(SPELLINGS)),
    st.sampled_from(NAMINGS),
    st.sampled_from([b"\n", b"\r\n", b"\n\n  \n"]),
    st.sampled_from([b"", b"\xef\xbb\xbf"]),
    st.sampled_from([(lambda data: data, ""), (gzip.compress, ".gz")]),
    st.randoms(use_true_random=False),
)
@settings(max_examples=25, deadline=None)
def test_how_a_recording_is_written_changes_no_figure(
    spellings: set[Change],
    naming: Change,
    line_end: bytes,
    mark: bytes,
    packed: tuple[Callable[[bytes], bytes], str],
    chance: random.Random,
) -> None:
    """Order, repetition, unknown fields, nulls, floats, names, line ends, marks, gzip: the same joules, to the bit."""
    meta, files = parts()
    for change in [each for each in SPELLINGS if each in spellings] + [naming]:
        change(meta, files, chance)
    with TemporaryDirectory() as name:
        for path in list(put(Path(name), meta, files).iterdir()):
            pack, suffix = packed
            data = mark + path.read_bytes().replace(b"\n", line_end)
            path.unlink()
            path.with_name(path.name + suffix).write_bytes(pack(data))

        result = replay(Path(name))

    assert result.rejected == ()
    assert [line.replace('"device":"0"', '"device":"gpu-0"') for line in figures(result)] == plain()


@given(st.sampled_from([-(10**12), 10**9, 1_700_000_000_000_000_000]))
@settings(max_examples=3, deadline=None)
def test_any_clock_will_do(shift_ns: int) -> None:
    """A clock that begins at 0, or counts from 1970: the same joules, but for what a float holds of such a time."""
    meta, files = parts()
    begin_ns = files["readings"][0]["t_ns"]
    shift_ns = -begin_ns if shift_ns < 0 else shift_ns
    for line in (line for lines in files.values() for line in lines):
        line |= {key: value + shift_ns for key, value in line.items() if key.endswith("_ns") and isinstance(value, int)}
        line |= {key: [each + shift_ns for each in value] for key, value in line.items() if key == "chunk_ns"}
    with TemporaryDirectory() as name:
        found = replay(put(Path(name) / "moved", meta, files))
        was = replay(put(Path(name) / "plain", *parts()))

    moved = {record.request: energy.energy_uj for record, energy in found.requests}
    for record, energy in was.requests:
        assert moved[record.request] == pytest.approx(energy.energy_uj, rel=2e-3)


@given(
    st.sets(st.sampled_from(["activity", "steps", "requests", "readings"])),
    st.sets(st.sampled_from(["engines", "models", "devices"])),
    st.sampled_from([None, *Tier]),
    st.sampled_from(Rule),
    st.floats(0, 1),
    st.randoms(use_true_random=False),
)
@settings(max_examples=60, deadline=None)
def test_what_is_lost_costs_no_microjoule(
    files_lost: set[str], sections_lost: set[str], tier: Tier | None, rule: Rule, part: float, chance: random.Random
) -> None:
    """Whatever lines, fields and sections are missing: no traceback, and each device's joules are all somewhere."""
    meta, files = parts()
    for name in files_lost:
        files[name] = [line for line in files.get(name, []) if chance.random() > part]
    for section in sections_lost:
        del meta[section]
    optional = ("first_token_ns", "end_ns", "prompt_tokens", "output_tokens", "cached_tokens", "chunk_ns", "outcome")
    for line in files["requests"]:
        for key in optional:
            if chance.random() < part / 2:
                line.pop(key, None)
    with TemporaryDirectory() as name:
        result = replay(put(Path(name), meta, files), tier=tier, rule=rule)

    figures(result)


def test_a_hole_in_the_readings_is_shared_by_the_steps(tmp_path: Path) -> None:
    """No reading for a fifth of the time: the counter tells how much it was, the steps whose."""
    meta, files = parts()
    begin_ns, end_ns = files["readings"][0]["t_ns"], files["readings"][-1]["t_ns"]
    span_ns = end_ns - begin_ns
    files["readings"] = [
        line for line in files["readings"] if not 0.4 < (line["t_ns"] - begin_ns) / span_ns < 0.6
    ]  # fmt: skip

    result = replay(put(tmp_path, meta, files))

    figures(result)
    assert score(run().truth, {record.request: energy for record, energy in result.requests}).misplaced < 0.015


def test_devices_that_are_not_described_are_known_by_their_readings(tmp_path: Path) -> None:
    """A counter is measured, power is sampled; an engine that is nowhere else is known by its work."""
    meta, files = parts()
    for line in files["readings"]:
        line["power_mw"] = 100_000
        del line["counter_uj"]

    result = replay(put(tmp_path, {"format": meta["format"]}, files))

    assert [device.provenance for device, _ in result.devices] == [Provenance.SAMPLED]
    assert result.rejected == ()
    assert {record.request for record, energy in result.requests if energy.energy_uj} == set(run().truth)


def test_events_come_in_their_time(tmp_path: Path) -> None:
    """A model that is loaded in mid-run was not there before; where a read failed, that tick is bridged, no other."""
    readings = [Reading(beat * SECOND // 10, "gpu-0", counter_uj=beat * 5_000_000) for beat in range(101)]
    meta, _ = parts()
    events = [
        Event(5 * SECOND, EventKind.MODEL_LOAD, engine="e0"),
        Event(8 * SECOND + 1, EventKind.READ_FAILURE, "gpu-0"),
    ]
    recording.write(tmp_path, recording.Meta(), [*readings, *events])
    (tmp_path / "meta.json").write_text(json.dumps(meta))

    [(_, totals)] = replay(tmp_path).devices

    accounts = totals.accounts()
    assert accounts["idle_empty"] == pytest.approx(250e6, abs=30e6)
    assert accounts["unattributed"] == 5_000_000
    assert accounts["idle_resident"] == 500_000_000 - accounts["idle_empty"] - accounts["unattributed"]


def test_a_large_recording_needs_no_memory(tmp_path: Path) -> None:
    """What is in order is read as it goes: the records of a recording are never all in memory."""
    simulating_disk.write(tmp_path, run())

    source = recording.stream(tmp_path)

    assert not isinstance(source.records, list)
    assert list(source.records) == list(source.records) == list(recording.read(tmp_path).records)
