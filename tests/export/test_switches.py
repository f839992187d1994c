from collections.abc import Mapping
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inferwatt.errors import ConfigError
from inferwatt.export.catalog import CATALOG
from inferwatt.export.places import INFO, places_of
from inferwatt.export.settings import Label
from inferwatt.export.switches import Switches
from inferwatt.snapshot import Exemplar, HistogramValue, Labels, LiveView, Snapshot

NOTHING = LiveView(0.0, 0.0, "0", "h", (), (), (), (), (), ())
ENERGY, REQUEST = "inferwatt_energy_joules_total", "inferwatt_request_energy_joules"
WORDS = st.sampled_from(["a", "b", "c"])
SERIES = st.dictionaries(st.tuples(WORDS, WORDS, WORDS, WORDS, WORDS), st.integers(0, 10**18), max_size=20)


@given(SERIES, st.sets(st.sampled_from(get_args(Label))))
def test_summing_labels_away_loses_no_microjoule(series: Mapping[Labels, int], off: set[str]) -> None:
    """Whatever labels are off, the sum of each model and provenance stays the same, and the labels are empty."""
    shown = Switches((), off).shown(Snapshot({ENERGY: series}, {}, NOTHING)).values[ENERGY]
    labels = CATALOG[ENERGY].labels

    for key in {(values[0], values[4]) for values in series}:
        before = sum(value for values, value in series.items() if (values[0], values[4]) == key)
        assert before == sum(value for values, value in shown.items() if (values[0], values[4]) == key)
    assert all(values[labels.index(name)] == "" for values in shown for name in off if name in labels)


def test_histograms_are_added_bucket_by_bucket() -> None:
    """Two servers of one model become one, with the observations and the exemplars of both."""
    first, second = Exemplar(1.0, 1.0, "r1"), Exemplar(2.0, 2.0, "r2")
    both: dict[Labels, HistogramValue] = {
        ("m", "s1", "measured"): HistogramValue((1, 0, 2), 3.0, {0: first}),
        ("m", "s2", "measured"): HistogramValue((0, 5, 1), 4.0, {2: second}),
    }
    shown = Switches((), ["server"]).shown(Snapshot({}, {REQUEST: both}, NOTHING))

    assert shown.histograms[REQUEST] == {("m", "", "measured"): HistogramValue((1, 5, 3), 7.0, {0: first, 2: second})}


def test_a_family_that_is_off_is_nowhere() -> None:
    """It is left out, of whatever kind it is, and the others stay as they are."""
    values: dict[str, dict[Labels, float]] = {
        ENERGY: {("m", "s", "decode", "cpu", "modelled"): 1},
        "inferwatt_source_up": {("nvml",): 1},
    }
    shown = Switches([ENERGY, REQUEST]).shown(Snapshot(values, {REQUEST: {}}, NOTHING))

    assert (shown.values, shown.histograms) == ({"inferwatt_source_up": {("nvml",): 1}}, {})


def test_what_says_where_a_server_is_keeps_its_labels() -> None:
    """An info is not a sum: its labels are what it says."""
    info: dict[Labels, float] = {("s", "vllm", "1", "n", "p", "c"): 1}

    assert Switches((), ["server"]).shown(Snapshot({"inferwatt_server_info": info}, {}, NOTHING)).values == {
        "inferwatt_server_info": info
    }


def test_where_a_server_runs_can_be_left_out() -> None:
    """Then it stands beside no figure either: a cluster whose pods come and go may want the namespace alone."""
    info: dict[Labels, float] = {("s", "vllm", "1", "n", "p", "c"): 1}
    shown = Switches((), ["pod", "container"]).shown(Snapshot({INFO: info}, {}, NOTHING))

    assert shown.values == {INFO: {("s", "vllm", "1", "n", "", ""): 1}}
    assert places_of(shown) == {"s": ("n", "", "")}


def test_nothing_is_copied_where_nothing_is_off_and_once_where_something_is() -> None:
    """Every exporter asks for the same snapshot: it is made once."""
    snapshot = Snapshot({ENERGY: {}}, {}, NOTHING)
    off = Switches((), ["server"])

    assert Switches().shown(snapshot) is snapshot
    assert off.shown(snapshot) is off.shown(snapshot)


def test_a_family_that_is_not_there_stops_the_start() -> None:
    """A typing error would else show what was to be hidden."""
    with pytest.raises(ConfigError, match="inferwatt_energy_joules"):
        Switches(["inferwatt_energy_joules"])
