import struct
from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inferwatt.export.catalog import CATALOG
from inferwatt.export.datadog_owed import OLDEST_SECONDS, Owed, Series, distributions, gauges, tag, tags_of, told_names
from inferwatt.snapshot import Snapshot

from .figures import ENERGY, LIVE, row, snapshot

JOULES = "inferwatt.energy_joules.count"
COUNTED = "inferwatt_energy_joules_total"


def told(owed: Owed, name: str = JOULES) -> float:
    """Return the sum of all that waits under a name."""
    return sum(sum(interval.gained.get(name, {}).values()) for interval in owed.waiting)


def at(uj: float) -> Snapshot:
    """Return a snapshot with one counter."""
    return Snapshot({COUNTED: {ENERGY: uj}}, {}, LIVE)


def test_a_total_from_before_is_not_told_as_a_gain() -> None:
    """The counter that the ledger restored is where it begins; a series that is new later is told whole."""
    owed = Owed(100)
    owed.gather(at(14_500_000_000_000_000), 100)
    owed.gather(
        Snapshot({COUNTED: {ENERGY: 14_500_000_001_000_000, (*ENERGY[:4], "modelled"): 7_000_000}}, {}, LIVE), 110
    )

    assert [(each.value, labels[-1]) for labels, each in owed.waiting[0].series()] == [
        (1.0, "measured"),
        (7.0, "modelled"),
    ]
    assert (owed.waiting[0].end_unix_seconds, owed.waiting[0].seconds) == (110, 10)


@given(st.lists(st.integers(1, 10**12), min_size=1, max_size=60), st.sampled_from([0, 3, 1000]))
def test_nothing_is_lost_to_rounding(gains_uj: Sequence[int], most: int) -> None:
    """Whatever is gained and joined, what was told differs from the counter by less than the last rounding."""
    owed = Owed(most)
    total_uj = 14_500_000_000_000_000
    owed.gather(at(total_uj), 0)
    for second, gain_uj in enumerate(gains_uj, 1):
        total_uj += gain_uj
        owed.gather(at(total_uj), second)
    values = [each.value for interval in owed.waiting for _, each in interval.series()]
    largest = max(values)

    assert all(value == struct.unpack("f", struct.pack("f", value))[0] for value in values)
    assert abs(told(owed) * 1e6 - sum(gains_uj)) <= largest * 1e6 * 2.0**-23 + 1e-3
    assert len(owed.waiting) == (1 if most == 0 else min(len(gains_uj), most))


def test_what_is_taken_is_forgotten_and_what_is_not_waits() -> None:
    """One series of an interval can be taken without the others."""
    owed = Owed(100)
    owed.gather(snapshot(0), 0)
    owed.gather(snapshot(2_000_000), 10)
    interval = owed.waiting[0]
    interval.forget(JOULES, ENERGY)

    assert sorted(each.value for _, each in interval.series() if each.name == JOULES) == [10.0]


def test_what_is_older_than_an_hour_is_given_up_and_counted() -> None:
    """Datadog would refuse it; what is younger stays."""
    owed = Owed(1000)
    owed.gather(at(0), 0)
    for second in (10, 20, 30):
        owed.gather(at(second * 1_000_000), second)

    assert owed.expire(20 + OLDEST_SECONDS) == 1
    assert owed.expire(20 + OLDEST_SECONDS) == 0
    assert [each.end_unix_seconds for each in owed.waiting] == [20, 30]


def test_a_quiet_meter_tells_no_gains() -> None:
    """What did not move is not told, and takes no place."""
    owed = Owed(10)
    owed.gather(snapshot(5), 0)
    owed.gather(snapshot(5), 10)

    assert not owed.waiting


def test_gauges_and_what_is_known_of_things() -> None:
    """A gauge is told as it stands, an info family as 1, one that is not a number not at all."""
    told_now = {each.name: each for each in gauges(snapshot(watts=99.5))}

    assert told_now["inferwatt.device_power_watts"] == Series(
        "inferwatt.device_power_watts", ("device:gpu-0", "domain:gpu", "provenance:measured"), 99.5
    )
    assert told_now["inferwatt.build_info"].value == 1
    assert "inferwatt.device_power_watts" not in {each.name for each in gauges(snapshot(watts=float("nan")))}


def test_a_request_is_told_as_the_page_counts_it() -> None:
    """Joules, and joules per output token where that family is shown; a model beyond the limit is folded."""
    page = snapshot(requests=1)
    shown = list(distributions(row("a"), page, {}))
    histogram = page.histograms["inferwatt_request_energy_joules"]
    folded = replace(
        page,
        histograms={
            "inferwatt_request_energy_joules": {("__other__", "vllm:8000", "measured"): next(iter(histogram.values()))}
        },
    )

    assert shown == [
        Series("inferwatt.request_energy_joules", ("model_name:m/8B", "server:vllm:8000", "provenance:measured"), 3.0)
    ]
    assert [each.tags[0] for each in distributions(row("a", model="new"), folded, {})] == ["model_name:__other__"]
    assert list(distributions(row("a"), replace(page, histograms={}), {})) == []
    assert list(distributions(replace(row("a"), energy=None), page, {})) == []
    assert list(distributions(replace(row("a"), corrects=7), page, {})) == []


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("model_name:a b|c,d#e\n", "model_name:a_b_c_d_e_"),
        ("t:" + "x" * 300, "t:" + "x" * 198),
        ("t:Ünï/c.o-d_e", "t:Ünï/c.o-d_e"),
    ],
)
def test_hostile_names_stay_one_tag(text: str, expected: str) -> None:
    """Nothing in a name ends a tag, a line or a metric."""
    assert tag(text) == expected


def test_an_empty_label_is_no_tag() -> None:
    """As in Prometheus, an empty label is one that is not there."""
    assert tags_of(CATALOG["inferwatt_output_tokens_total"], ("", "s"), {}) == ("server:s",)


def test_names_are_what_datadog_takes() -> None:
    """ASCII letters, digits, underscores and dots, at most 100 of them."""
    for name in told_names():
        assert name.startswith("inferwatt.")
        assert len(name) <= 100
        assert name.replace("_", "").replace(".", "").isalnum()
