"""RAPL from the file to the joule, over whatever the file may show: wraps, resets, jumps, stalls and texts."""

import tempfile
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from inferwatt.attribution.timeline import Timeline
from inferwatt.errors import SourceRetry
from inferwatt.records import Event, EventKind
from inferwatt.sources import SourcesConfig
from inferwatt.sources.rapl import MOST_WATTS, discover
from inferwatt.units import NS_PER_SECOND, UJ_PER_JOULE

from .trees import RANGE_UJ, Powercap, read

TURNS_UJ = RANGE_UJ + 1
SPENT_UJ = st.integers(0, int(MOST_WATTS * UJ_PER_JOULE))
"""What a package can spend in a second."""
BROKEN = st.sampled_from(["", "N/A", "garbage\n", "-1\n"])
STALE = st.just(None)


def metered(start_uj: int, story: list[int | str | None]) -> Timeline:
    """Return the timeline of a zone that is read once a second: a number is spent, a text is shown, None is no news."""
    with tempfile.TemporaryDirectory() as folder:
        tree = Powercap(Path(folder))
        counter = tree.zone("0", "package-0", start_uj) / "energy_uj"
        source = discover(SourcesConfig(sysfs_root=folder, proc_root=folder)).sources[0]
        timeline = Timeline(source.device)
        timeline.add(read(source, 0))
        spent_uj = start_uj
        for second, step in enumerate(story, start=1):
            spent_uj += step if isinstance(step, int) else 0
            counter.write_text(step if isinstance(step, str) else f"{spent_uj % TURNS_UJ}\n")
            try:
                timeline.add(read(source, second * NS_PER_SECOND))
            except SourceRetry:
                timeline.failed(Event(second * NS_PER_SECOND, EventKind.READ_FAILURE, "cpu-0"))
        counter.write_text(f"{spent_uj % TURNS_UJ}\n")
        timeline.add(read(source, (len(story) + 1) * NS_PER_SECOND))
        source.close()
    return timeline


@given(st.integers(0, RANGE_UJ), st.lists(st.one_of(SPENT_UJ, BROKEN, STALE), max_size=20))
def test_no_joule_is_lost_or_made_over_wraps_failures_and_stalls(start_uj: int, story: list[int | str | None]) -> None:
    """Whatever the file shows in between, the counter's total is what was spent, to the microjoule."""
    timeline = metered(start_uj, story)

    assert timeline.measured_uj == sum(step for step in story if isinstance(step, int))
    assert EventKind.RESET not in {event.kind for event in timeline.events}


@given(st.integers(0, RANGE_UJ), st.lists(st.one_of(SPENT_UJ, st.integers(0, RANGE_UJ)), min_size=1, max_size=20))
def test_a_counter_that_jumps_makes_no_joules(start_uj: int, story: list[int | str | None]) -> None:
    """More than the package could have spent in a second is a reset, and never a negative or an absurd energy."""
    timeline = metered(start_uj, story)

    assert 0 <= timeline.measured_uj <= 1.5 * MOST_WATTS * UJ_PER_JOULE * 2 * (len(story) + 1)
