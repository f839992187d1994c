"""What benchmarks/faults.py says of a meter follows from what was seen of it; the run itself is not tested here."""

from pathlib import Path
from typing import Any

import pytest
from benchmarks.doubles.faulty_page import COLUMNS, DETAILS, HEAD, HOW, page, table
from benchmarks.doubles.faulty_process import words_of
from benchmarks.doubles.faulty_rows import (
    GPUS,
    HEALTHY,
    ILL,
    MOVED,
    NOTHING,
    OTHER_WATTS,
    WATTS,
    Figures,
    Scene,
    Seen,
    figures_of,
    negative,
    row,
    sentence,
    went_on,
)
from benchmarks.doubles.faulty_tools import lack_of
from benchmarks.faults import FAULTS, PAGE, Machine

TRUE = 3000.0
TRUTH = dict.fromkeys(range(GPUS), TRUE)
RIGHT = Figures(TRUTH)
SCENE = Scene("A fault", TRUTH, 900.0, ())


def seen(**told: Any) -> Seen:
    """Return a meter whose figures grow as they should, but for what is `told`."""
    usual = Seen("A meter", first=figures(1200.0), second=figures(1950.0), apart=2.5, end=RIGHT, stop_seconds=0.2)
    return usual._replace(**told)


def figures(joules: float, ill: float | None = None) -> Figures:
    """Return so many joules of each GPU, and others of the ill one."""
    return Figures({**dict.fromkeys(range(GPUS), joules), ILL: joules if ill is None else ill})


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        ({}, "the seven: right; GPU 3: right"),
        ({"end": figures(TRUE + 59)}, "the seven: right; GPU 3: right"),
        ({"end": figures(TRUE + 61)}, "the seven: **2% too much**; GPU 3: **2% too much**"),
        ({"end": figures(TRUE, -9000)}, "the seven: right; GPU 3: **−9,000 J**"),
        ({"end": figures(TRUE, 880)}, "the seven: right; GPU 3: right until the fault, then no more"),
        ({"end": figures(TRUE, 0)}, "the seven: right; GPU 3: **0 J**"),
        ({"end": Figures(dict.fromkeys(HEALTHY, TRUE))}, "the seven: right; GPU 3: absent"),
        ({"end": Figures({ILL: TRUE})}, "the seven: **not all there**; GPU 3: right"),
        ({"end": Figures(whole=0.9 * GPUS * TRUE)}, "all eight in one sum: **10% too little**"),
        ({"end": Figures(), "words": ("why",)}, "no figure of any GPU, and says why"),
        ({"end": Figures()}, "**no figure of any GPU, and no word why**"),
        ({"end": Figures(raised="LostError: GPU is lost")}, "**no figure at the end: LostError**"),
        ({"stop_seconds": 6.04}, "the seven: right; GPU 3: right; **6.0 s to stop**"),
        ({"second": figures(1200.0)}, "the seven: right; GPU 3: right; **all figures stood still meanwhile**"),
        (
            {"first": Figures(raised="LostError: x")},
            "the seven: right; GPU 3: right; **who asks meanwhile: LostError**",
        ),
        ({"failed_start": "LostError: GPU is lost"}, "**does not start: LostError**"),
        ({"lack": "zeus is not installed"}, "absent: zeus is not installed"),
    ],
)
def test_the_sentence_says_what_was_seen(told: dict[str, Any], expected: str) -> None:
    """Each of its parts is made from a figure, whichever meter it was."""
    assert expected == sentence(seen(**told), SCENE)


@pytest.mark.parametrize(("watts", "expected"), [(OTHER_WATTS, True), (WATTS, False)])
def test_a_gauge_went_on_if_it_shows_the_new_power(watts: float, expected: bool) -> None:
    """It is the healthy GPU whose power changed that is looked at."""
    gauges = Figures(watts={**dict.fromkeys(range(GPUS), WATTS), MOVED: watts})

    assert went_on(seen(first=gauges, second=gauges, end=gauges)) is expected


def test_who_had_no_figure_did_not_stand_still() -> None:
    """Nothing before the fault and nothing during it is no standstill."""
    assert went_on(seen(first=Figures(), second=Figures())) is None


def test_the_most_negative_joule_is_found_wherever_it_was_told() -> None:
    """A look in mid-run counts as the end does."""
    assert negative(seen()) is None
    assert negative(seen(second=figures(1.0, -5.0), end=figures(1.0, -3.0))) == -5.0


@pytest.mark.parametrize(
    "one", [seen(), seen(lack="not there"), seen(failed_start="LostError: x"), seen(end=Figures())]
)
def test_a_row_has_a_cell_for_each_column(one: Seen) -> None:
    """Whatever became of the meter, the table stays a table."""
    assert len(row(one)) == len(COLUMNS)


def test_what_was_not_told_is_absent_from_the_line() -> None:
    """No figure is made up for a meter that told none."""
    told = figures_of({"lost": SCENE._replace(seen=(seen(), seen(tool="B-meter", end=Figures(), stop_seconds=None)))})

    assert told == {
        "lost_a meter_healthy_ratio": 1.0,
        "lost_a meter_ill_ratio": 1.0,
        "lost_a meter_stop_seconds": 0.2,
        "lost_a meter_went_on": 1.0,
        "lost_b_meter_went_on": 1.0,
    }


def test_only_words_about_the_gpus_are_quoted() -> None:
    """Warnings, errors and lacks, each once, and none of them about something else."""
    said = """[codecarbon WARNING @ 03:37:46] Failed to read the energy counter of GPU 3
[codecarbon WARNING @ 03:37:47] Failed to read the energy counter of GPU 3
[codecarbon WARNING @ 03:37:47] AMD GPU detected but amdsmi is not there
[codecarbon ERROR @ 03:37:48] No CPU tracking mode found
INFO: GPU 4: fine
NVML ERROR: NVML/RM version mismatch.
lacks: gpu-3: cannot be read -> reboot
pynvml.NVMLError_GpuIsLost: GPU is lost
"""

    assert words_of(said) == (
        "Failed to read the energy counter of GPU 3",
        "NVML/RM version mismatch.",
        "gpu-3: cannot be read -> reboot",
        "pynvml.NVMLError_GpuIsLost: GPU is lost",
    )


def test_the_truth_remembers_what_a_reset_forgot(tmp_path: Path) -> None:
    """A counter that begins anew takes nothing from what was really used."""
    machine = Machine(tmp_path)
    machine.begin()
    machine.gpus[ILL].energy_mj += 5000
    machine.reset(ILL)
    counted = machine.gpus[ILL].energy_mj
    machine.gpus[ILL].energy_mj = counted + 7000

    assert counted < 1000
    assert 12.0 <= machine.joules()[ILL] < 13.0


def test_a_peer_that_is_not_there_is_said_to_be_absent() -> None:
    """Its rows say so, and hold no figure."""
    why = lack_of("", "zeus")

    assert why == "PEERS_PYTHON names no Python"
    assert row(Seen("Zeus", lack=why)) == ("Zeus", f"absent: {why}", *[NOTHING] * 6)


def test_the_page_in_the_docs_is_of_these_rules() -> None:
    """Its fixed parts are those that would be written now, and each fault has its table."""
    written = PAGE.read_text(encoding="utf-8")
    titles = [line.removeprefix("## ") for line in written.splitlines() if line.startswith("## ")]

    assert [
        part for part in (HEAD.strip(), DETAILS.strip(), HOW.strip(), table(COLUMNS, ())) if part not in written
    ] == []
    assert titles == [*(fault.title for fault in FAULTS), "How it was made"]
    assert "absent" not in written.replace("GPU 3: absent", "")


def test_a_page_has_every_fault_and_every_meter() -> None:
    """The overview has a row for each fault, and each of them a table below."""
    text = page([SCENE._replace(seen=(seen(),))], {"cpus": 2}, "2026-01-01")

    assert "| **A fault** | the seven: right; GPU 3: right |" in text
    assert "Really used: the seven 21,000 J, GPU 3 3,000 J, 900 J of it until then." in text
    assert text.endswith("Made on 2026-01-01: cpus 2.\n")
