"""What an OTLP receiver is owed: nothing is lost or told twice, whatever is taken and when."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from inferwatt.export.otlp_names import HOST
from inferwatt.export.otlp_owed import Owed, Point
from inferwatt.snapshot import HistogramValue, Labels, Snapshot

from .figures import ENERGY, LIVE, REQUEST_JOULES, snapshot

JOULES = "inferwatt_energy_joules_total"
START_NS = 1_800_000_000 * 10**9
GAINS = st.lists(st.tuples(st.integers(0, 10**9), st.integers(0, 10**9), st.sampled_from(["all", "first", "none"])))


def owed(*, is_delta: bool) -> Owed:
    """Return what nothing was told of yet."""
    return Owed(is_delta=is_delta, started_unix_ns=START_NS, host="node-1")


def page(first_uj: int, second_uj: int) -> Snapshot:
    """Return two series of one counter."""
    return Snapshot({JOULES: {ENERGY: first_uj, ("", "", "other", "cpu", "modelled"): second_uj}}, {}, LIVE)


def of(points: list[Point], labels: Labels = ENERGY) -> list[Point]:
    """Return those of one series of the energy."""
    return [point for point in points if (point.family, point.labels) == (JOULES, labels)]


@given(GAINS, st.integers(0, 10**18))
def test_deltas_sum_to_the_counter(gains: list[tuple[int, int, str]], before_uj: int) -> None:
    """Whatever of a message is taken, in the end each microjoule was told once, in windows that do not overlap."""
    debt = owed(is_delta=True)
    totals = [before_uj, 0]
    told: dict[Labels, list[Point]] = {}
    debt.look(page(*totals), START_NS)
    for turn, (first, second, taken) in enumerate([*gains, (0, 0, "all")], 1):
        totals = [totals[0] + first, totals[1] + second]
        points = debt.look(page(*totals), START_NS + turn)
        part = {"all": points, "first": points[:1], "none": []}[taken]
        debt.taken(part)
        for point in part:
            told.setdefault(point.labels, []).append(point._replace(total=START_NS + turn))

    assert sum(point.gained for points in told.values() for point in points) == sum(totals) - before_uj  # type: ignore[misc]
    for points in told.values():
        for one, after in pairwise(points):
            assert one.since_unix_ns < one.total <= after.since_unix_ns  # type: ignore[operator]


def test_what_did_not_move_is_told_from_the_last_look_on() -> None:
    """A quiet hour is not the time in which a later joule was used."""
    debt = owed(is_delta=True)
    for second, uj in ((1, 0), (2, 0), (3_600, 0)):
        debt.taken(debt.look(page(uj, 0), START_NS + second))

    assert of(debt.look(page(5, 0), START_NS + 3_610)) == [Point(JOULES, ENERGY, START_NS + 3_600, 5, 5)]


def test_cumulative_begins_with_the_process() -> None:
    """Whatever the ledger had before; a series that comes later begins at zero then."""
    debt = owed(is_delta=False)
    debt.look(page(10**15, 0), START_NS + 5)
    points = debt.look(snapshot(10**15 + 7), START_NS + 10)
    (tenant,) = [point for point in points if point.family == "inferwatt_tenant_energy_joules_total"]

    assert of(points) == [Point(JOULES, ENERGY, START_NS, 7, 10**15 + 7)]
    assert tenant.gained == 10**15 + 7


def test_a_histogram_is_less_what_it_was() -> None:
    """Bucket by bucket, and its sum."""
    debt = owed(is_delta=False)
    debt.look(snapshot(0, requests=5), START_NS)
    points = debt.look(snapshot(0, requests=8), START_NS + 1)
    (found,) = [point.gained for point in points if point.family == REQUEST_JOULES]

    assert isinstance(found, HistogramValue)
    assert (sum(found.counts), found.counts[5], found.sum) == (3, 3, 9.0)


def test_a_whole_server_begins_where_its_meter_was_first_read() -> None:
    """What its devices used before, in other years too, was not measured by it."""
    devices: dict[Labels, float] = {("gpu-0", "gpu", "measured"): 10**15}
    whole = {**devices, ("overhead", "overhead", "reported"): 10}
    debt = owed(is_delta=True)
    for second, series in ((1, devices), (2, whole)):
        points = debt.look(Snapshot({"inferwatt_device_energy_joules_total": series}, {}, LIVE), START_NS + second)
        assert HOST not in {point.family for point in points}
        debt.taken(points)
    more = {**whole, ("gpu-0", "gpu", "measured"): 10**15 + 3}
    points = debt.look(Snapshot({"inferwatt_device_energy_joules_total": more}, {}, LIVE), START_NS + 3)

    assert [(point.gained, point.since_unix_ns) for point in points if point.family == HOST] == [(3, START_NS + 2)]
