"""Rails from the file to the joule, over whatever the file may show: no figure, stale, jumping and impossible ones."""

import tempfile
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from inferwatt.attribution.timeline import Timeline
from inferwatt.errors import SourceRetry
from inferwatt.records import Event, EventKind
from inferwatt.sources import SourcesConfig
from inferwatt.sources.hwmon import discover
from inferwatt.units import NS_PER_SECOND, UJ_PER_JOULE

from .trees import Hwmon, read

NO_FIGURE = ("0", "4294967295000", "", "N/A", "-1")
MOST_UW = 1_000_000_000
POWER_UW = st.integers(1_000, MOST_UW).map(str)
"""What a socket can draw; below 1 mW it would be rounded to nothing."""


def metered(first_uw: str, story: list[str]) -> Timeline:
    """Return the timeline of a Grace socket whose meter shows these texts, read once a second."""
    with tempfile.TemporaryDirectory() as folder:
        meter = Hwmon(Path(folder)).grace(0, "Grace Power Socket 0", first_uw) / "power1_average"
        source = discover(SourcesConfig(sysfs_root=folder, proc_root=folder)).sources[0]
        timeline = Timeline(source.device)
        for second, text in enumerate((first_uw, *story)):
            meter.write_text(text)
            try:
                timeline.add(read(source, second * NS_PER_SECOND))
            except SourceRetry:
                timeline.failed(Event(second * NS_PER_SECOND, EventKind.READ_FAILURE, "cpu-0"))
        source.close()
    return timeline


@given(POWER_UW, st.lists(st.one_of(POWER_UW, st.sampled_from(NO_FIGURE)), max_size=20))
def test_what_is_no_figure_is_no_energy(first_uw: str, story: list[str]) -> None:
    """Whatever the meter shows, the joules lie between none and the most that was ever shown, all the time."""
    most_uw = max(int(text) for text in (first_uw, *story) if text not in NO_FIGURE)

    assert 0 <= metered(first_uw, story).measured_uj <= (most_uw + 500) * len(story)


@given(st.integers(1, MOST_UW // UJ_PER_JOULE), st.lists(st.one_of(st.none(), st.sampled_from(NO_FIGURE)), max_size=20))
def test_a_steady_power_is_its_energy_over_single_lost_samples(watts: int, story: list[str | None]) -> None:
    """One figure that is missing between two is bridged, to the microjoule."""
    shown = [text for pair in story for text in (pair or str(watts * 1_000_000), str(watts * 1_000_000))]

    assert metered(str(watts * 1_000_000), shown).measured_uj == watts * UJ_PER_JOULE * len(shown)
