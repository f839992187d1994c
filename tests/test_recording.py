import gzip
import json
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inferwatt import recording
from inferwatt.errors import Unavailable
from inferwatt.recording import FILES, Meta, Record, RecordingWriter
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
    Step,
    Sums,
)

NS = st.integers(0, 2**62)
COUNTS = st.none() | st.integers(0, 2**40)
TEXTS = st.text(st.characters(codec="utf-8"), max_size=5)
NAMES = st.sampled_from(["a", "b", "ü"])
RATIOS = st.floats(0, 1)
TAGS = st.dictionaries(TEXTS, TEXTS, max_size=2)
KINDS: dict[type[Record], st.SearchStrategy[Any]] = {
    Reading: st.builds(Reading, NS, NAMES, COUNTS, COUNTS, COUNTS),
    Step: st.builds(
        Step, NS, NS, NAMES, st.lists(st.tuples(NAMES, NS, NS, st.sampled_from(Phase)), max_size=3).map(tuple)
    ),
    Request: st.builds(
        Request, TEXTS, NAMES, TEXTS, TEXTS, NS, COUNTS, COUNTS, COUNTS, COUNTS, COUNTS,
        st.none() | st.sampled_from(Outcome), st.lists(NS, max_size=3).map(tuple), COUNTS, COUNTS, COUNTS, TAGS, TEXTS,
        namespace=TEXTS, pod=TEXTS, container=TEXTS, units=st.dictionaries(TEXTS, NS, max_size=2),
    ),
    Activity: st.builds(Activity, NS, NS, NAMES, st.dictionaries(NAMES, RATIOS, max_size=2), RATIOS),
    Event: st.builds(Event, NS, st.sampled_from(EventKind), NAMES, NAMES, TEXTS),
    Sums: st.builds(Sums, NS, NS, NAMES, *[COUNTS] * 5, st.just({}), st.just({}), *[COUNTS] * 6),
}  # fmt: skip
RECORDS = st.lists(st.one_of(*KINDS.values()), max_size=12)
METAS = st.builds(
    Meta,
    engines=st.just((Engine("e0", "m", ("gpu-0", "cpu"), server="s", kind="llamacpp"),)),
    models=st.just((Model("m", weight_bytes=1e9, experts=8),)),
    devices=st.just((Device("cpu", component=Component.CPU, provenance=Provenance.MODELLED, idle_watts=0.0),)),
    host=TEXTS,
    boot_id=TEXTS,
    hold_ns=NS,
    clock=st.lists(st.tuples(NS, NS), max_size=2).map(tuple),
)


def pack(folder: Path) -> None:
    """Gzip every file of a recording in its place."""
    for plain in list(folder.iterdir()):
        plain.with_name(plain.name + ".gz").write_bytes(gzip.compress(plain.read_bytes()))
        plain.unlink()


def write_lines(folder: Path, **files: list[Any]) -> Path:
    """Write a recording by hand, as anyone's script does; texts are taken as they are."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "meta.json").write_text('{"format": "inferwatt-recording/1"}')
    for name, lines in files.items():
        text = "".join(line if isinstance(line, str) else json.dumps(line) + "\n" for line in lines)
        (folder / f"{name}.jsonl").write_text(text)
    return folder


@given(METAS, RECORDS, st.booleans())
def test_what_a_writer_kept_is_read_back_in_its_order(meta: Meta, records: list[Record], packed: bool) -> None:
    """A live recording gives every record back, field by field, in the order in which the meter took them."""
    with TemporaryDirectory() as name:
        folder = Path(name)
        writer = RecordingWriter(folder)
        for record in records:
            writer.write(record)
        writer.write_meta(meta)
        writer.close()
        if packed:
            pack(folder)

        found = recording.read(folder)

    assert found.records == records
    assert found.meta == meta
    assert (found.live, found.rejected) == (bool(records), [])


@given(METAS, RECORDS, st.booleans())
def test_what_a_script_wrote_is_read_back(meta: Meta, records: list[Record], packed: bool) -> None:
    """A recording without numbers gives every record back, plain or gzipped; what is there twice, once."""
    with TemporaryDirectory() as name:
        folder = Path(name)
        recording.write(folder, meta, records)
        if packed:
            pack(folder)

        found = recording.read(folder)

    assert sorted(map(repr, found.records)) == sorted({*map(repr, records)})
    assert (found.meta, found.live, found.rejected) == (meta, False, [])


@given(RECORDS, st.randoms(use_true_random=False))
def test_the_order_of_lines_says_nothing_where_there_is_no_number(records: list[Record], chance: Any) -> None:
    """Permuted lines change nothing: records without `seq` are ordered by what they say."""
    shuffled = list(records)
    chance.shuffle(shuffled)
    orders = []
    with TemporaryDirectory() as name:
        for number, some in enumerate((records, shuffled)):
            recording.write(Path(name) / str(number), Meta(), some)
            orders.append(recording.read(Path(name) / str(number)).records)

    assert orders[0] == orders[1]


def test_what_is_known_beforehand_comes_first_and_the_rest_by_time(tmp_path: Path) -> None:
    """Activity, requests and sums lie before the rest, each by its time; of one moment a reading is the last."""
    reading, step = Reading(5, "d", 1), Step(5, 9, "e", ())
    early, request, activity = Reading(1, "d", 0), Request("r", arrival_ns=7), Activity(8, 9, "d", {}, 0.5)
    events = [Event(9, EventKind.WRAP), Event(5, EventKind.WRAP)]
    recording.write(tmp_path, Meta(), [reading, step, early, Sums(2, 3, "e"), request, activity, *events])

    expected = [activity, request, Sums(2, 3, "e"), early, events[1], step, reading, events[0]]
    assert recording.read(tmp_path).records == expected


def test_of_one_request_the_end_comes_last(tmp_path: Path) -> None:
    """Two records of one request are in the order in which they can have been said: open, then ended."""
    ended, opened = Request("r", arrival_ns=5, end_ns=9), Request("r", arrival_ns=5)
    recording.write(tmp_path, Meta(), [ended, opened])

    assert recording.read(tmp_path).records == [opened, ended]


@given(RECORDS, st.randoms(use_true_random=False))
def test_numbers_decide_the_order_whatever_the_lines(records: list[Record], chance: Any) -> None:
    """Lines with `seq` are taken by it, also where a file's lines were shuffled."""
    with TemporaryDirectory() as name:
        folder = Path(name)
        writer = RecordingWriter(folder)
        for record in records:
            writer.write(record)
        writer.write_meta(Meta())
        writer.close()
        for path in folder.glob("*.jsonl"):
            lines = path.read_bytes().splitlines(keepends=True)
            chance.shuffle(lines)
            path.write_bytes(b"".join(lines))

        assert recording.read(folder).records == records


def test_fields_that_are_not_known_are_ignored(tmp_path: Path) -> None:
    """A newer writer's fields, in lines and in meta.json, do not hinder an older reader."""
    write_lines(tmp_path, readings=[{"t_ns": 1, "device": "d", "counter_uj": 2, "colour": "red"}])
    text = '{"format": "inferwatt-recording/1", "mood": 1, "devices": {"d": {"kind": "x", "smell": 2}}}'
    (tmp_path / "meta.json").write_text(text)

    found = recording.read(tmp_path)

    assert found.records == [Reading(1, "d", 2)]
    assert found.meta.devices == (Device("d", kind="x"),)


def test_the_examples_of_the_format_are_read(tmp_path: Path) -> None:
    """The four files that the format names are enough, members as lists and phases as words."""
    step = {"t0_ns": 1, "t1_ns": 2, "engine": "e0", "members": [["r", 3, 4, "prefill"]]}
    write_lines(tmp_path, steps=[step], readings=[{"t_ns": 1, "device": "d", "power_mw": 5}])

    assert recording.read(tmp_path).records == [
        Step(1, 2, "e0", (("r", 3, 4, Phase.PREFILL),)),
        Reading(1, "d", power_mw=5),
    ]


@pytest.mark.parametrize(
    "broken",
    ["{", "[]", '{"device": "d"}', '{"t_ns": "1", "device": "d"}', '{"t_ns": 1, "device": "d", "seq": "x"}', "<html>"],
)
def test_a_broken_line_is_named_and_the_others_are_read(tmp_path: Path, broken: str) -> None:
    """What cannot be read is counted with its file and line; empty lines are nothing."""
    write_lines(tmp_path, readings=[{"t_ns": 1, "device": "d"}, "\n", broken + "\n", {"t_ns": 2, "device": "d"}])

    found = recording.read(tmp_path)

    assert found.records == [Reading(1, "d"), Reading(2, "d")]
    [what] = found.rejected
    assert what.startswith("readings.jsonl line 3: ")


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("readings", {"t_ns": 1, "device": "d", "counter_uj": -1}),
        ("readings", {"t_ns": 1, "device": "d", "power_mw": -1}),
        ("requests", {"request": "r", "output_tokens": -1}),
        ("requests", {"request": "r", "rejected_tokens": -1}),
        ("steps", {"t0_ns": 1, "t1_ns": 2, "engine": "e", "members": [["r", 1, -1, "decode"]]}),
        ("sums", {"t0_ns": 1, "t1_ns": 2, "engine": "e", "running": -1}),
        ("activity", {"t0_ns": 1, "t1_ns": 2, "device": "d", "shares": {"e": -0.1}, "other_ratio": 0}),
        ("activity", {"t0_ns": 1, "t1_ns": 2, "device": "d", "shares": {}, "other_ratio": -0.1}),
    ],
)
def test_a_count_or_a_share_below_zero_is_a_broken_line(tmp_path: Path, name: str, line: dict[str, Any]) -> None:
    """Nothing counts below zero: such a line is named and left out, instead of taking joules from others."""
    write_lines(tmp_path, **{name: [line]})

    found = recording.read(tmp_path)
    assert found.records == []
    assert found.rejected[0].startswith(f"{name}.jsonl line 1: -")


def test_bytes_that_are_no_text_are_a_broken_line(tmp_path: Path) -> None:
    """Bytes that are not UTF-8 are counted as their line."""
    write_lines(tmp_path)
    (tmp_path / "readings.jsonl").write_bytes(b'{"t_ns": 1, "device": "\xff"}\n{"t_ns": 2, "device": "d"}\n')
    found = recording.read(tmp_path)

    assert (found.records, len(found.rejected)) == ([Reading(2, "d")], 1)


@pytest.mark.parametrize("name", ["readings.jsonl.gz", "meta.json.gz"])
def test_a_gzip_that_was_cut_off_is_said(tmp_path: Path, name: str) -> None:
    """A packed file without its end is named; what was read before the cut is kept."""
    write_lines(tmp_path, readings=[{"t_ns": t, "device": f"d{t * 7919 % 1000}"} for t in range(1000)])
    pack(tmp_path)
    whole = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(whole[: len(whole) // 2])

    if name.startswith("meta"):
        with pytest.raises(Unavailable, match=r"meta\.json"):
            recording.read(tmp_path)
    else:
        [what] = recording.read(tmp_path).rejected
        assert what.startswith("readings.jsonl")


@pytest.mark.parametrize(
    "meta",
    [
        '{"format": "inferwatt-recording/9"}',
        "{}",
        "[]",
        "no json",
        '{"format": "inferwatt-recording/1", "devices": {"d": {"domain": 5}}}',
        '{"format": "inferwatt-recording/1", "devices": ["d"]}',
        '{"format": "inferwatt-recording/1", "clock": [{"unix_ns": 1}]}',
    ],
)
def test_a_meta_that_cannot_be_read_says_where(tmp_path: Path, meta: str) -> None:
    """Another format, or a file that is none, ends the reading with its path."""
    (tmp_path / "meta.json").write_text(meta)

    with pytest.raises(Unavailable, match=r"meta\.json"):
        recording.read(tmp_path)


def test_a_folder_without_a_recording_says_how_to_make_one(tmp_path: Path) -> None:
    """No meta.json is no recording."""
    with pytest.raises(Unavailable, match="inferwatt record FOLDER"):
        recording.read(tmp_path)


def test_a_recording_is_never_written_over(tmp_path: Path) -> None:
    """A folder that holds one already, also a packed one, is refused; so is one that cannot be made."""
    (tmp_path / "file").write_text("")
    write_lines(tmp_path / "old")
    pack(tmp_path / "old")

    with pytest.raises(Unavailable, match="already"):
        RecordingWriter(tmp_path / "old")
    with pytest.raises(Unavailable, match="another folder"):
        RecordingWriter(tmp_path / "file" / "below")


def test_a_line_holds_only_what_is_known(tmp_path: Path) -> None:
    """Fields that are unknown or stand at their default are left out, zero is kept."""
    writer = RecordingWriter(tmp_path)
    writer.write(Request("r", arrival_ns=5, output_tokens=0))
    writer.flush()

    line = json.loads((tmp_path / "requests.jsonl").read_text())
    assert line == {"request": "r", "arrival_ns": 5, "output_tokens": 0, "seq": 0}
    writer.close()
    assert set(FILES.values()) == set(KINDS)
