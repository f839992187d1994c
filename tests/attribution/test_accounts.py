from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from inferwatt.attribution.accounts import NOTES, DeviceTotals, Pool, Shares, TickEnergy, merged, whole_tick
from inferwatt.attribution.timeline import Tick

UJ = st.integers(0, 10**9)
PAIRS = st.tuples(UJ, UJ)
LABELS = st.tuples(st.sampled_from("ef"), st.sampled_from("mn"), st.sampled_from("ab"))
TICK = Tick("gpu-0", 10, 30, 500)


@st.composite
def ticks(draw: st.DrawFn) -> TickEnergy:
    """Any closed tick, its parts as the law wants them."""
    requests = draw(st.dictionaries(LABELS, PAIRS, max_size=3))
    unlisted = draw(st.dictionaries(st.sampled_from("ef"), PAIRS, max_size=2))
    idle_resident, pooled = (draw(st.dictionaries(st.sampled_from("ef"), UJ, max_size=2)) for _ in range(2))
    rest = (draw(UJ), draw(UJ), draw(UJ))
    energy_uj = sum(map(sum, [*requests.values(), *unlisted.values()])) + sum(rest)
    energy_uj += sum(idle_resident.values()) + sum(pooled.values())
    return TickEnergy("gpu-0", 0, 1, energy_uj, requests, unlisted, idle_resident, rest[0], rest[1], rest[2], pooled)


def rows(*keys: int, uj: float = 1.0) -> tuple[Any, Any, Any]:
    """Return the energy of these keys, and half of it as each doubt."""
    count = len(keys)
    return np.array(keys), np.full(count, uj), np.full((NOTES, count), uj / 2)


@given(st.lists(ticks(), max_size=5))
def test_a_devices_accounts_sum_to_what_was_measured(closed: list[TickEnergy]) -> None:
    """After any ticks the accounts sum to the counter, to the microjoule."""
    totals = DeviceTotals()
    for tick in closed:
        totals.add(tick)
    accounts = totals.accounts()

    assert accounts.pop("measured") == sum(tick.energy_uj for tick in closed) == sum(accounts.values())


def test_each_part_of_a_tick_has_its_own_account() -> None:
    """Requests (and what a simple rule will divide), unlisted work, both idles, others, and the rest stay apart."""
    totals = DeviceTotals()

    totals.add(TickEnergy("d", 0, 1, 511, {("e", "m", "a"): (1, 2)}, {"e": (4, 8)}, {"e": 16}, 32, 64, 128, {"e": 256}))

    assert totals.accounts() == {
        "measured": 511, "requests": 259, "unlisted": 12, "idle_resident": 16, "idle_empty": 32, "other": 64,
        "unattributed": 128,
    }  # fmt: skip


def test_loaded_models_share_idle_equally() -> None:
    """Idle goes to the models that are loaded, in equal parts; to nobody where none is."""
    shares, empty = Shares(), Shares()

    shares.add_idle(10.0, ["a", "b"])
    shares.add_idle(6.0, ["a"])
    empty.add_idle(5.0, [])

    assert (shares.idle_resident, shares.idle_empty) == ({"a": 11.0, "b": 5.0}, 0.0)
    assert (empty.idle_resident, empty.idle_empty) == ({}, 5.0)


def test_unlisted_work_keeps_its_phases() -> None:
    """What no record explains is divided into prefill and decode, and adds up."""
    shares = Shares()

    shares.add_unlisted("e", 100.0, 0.25)
    shares.add_unlisted("e", 100.0, 0.75)
    shares.add_unlisted("f", 0.0, 1.0)

    assert shares.unlisted == {"e": [100.0, 100.0]}


@pytest.mark.parametrize("account", ["idle_empty", "other", "unattributed"])
def test_a_tick_of_one_account_is_given_whole(account: str) -> None:
    """Where one account alone holds the tick it gets every microjoule, whatever its share was rounded to."""
    shares = Shares()
    setattr(shares, account, 1.0)
    only = shares.only_account

    assert only == account
    tick = whole_tick(TICK, shares, only)
    got = {"idle_empty": tick.idle_empty_uj, "other": tick.other_uj, "unattributed": tick.unattributed_uj}
    assert got == {**dict.fromkeys(got, 0), account: 500}
    assert (tick.device, tick.t0_ns, tick.t1_ns, tick.energy_uj) == ("gpu-0", 10, 30, 500)


def test_one_resident_model_may_hold_a_whole_tick() -> None:
    """The common case while nothing runs: all of it is the loaded model's idle."""
    shares = Shares(idle_resident={"e": 3.0})

    assert shares.only_account == "idle_resident"
    assert whole_tick(TICK, shares, "idle_resident").idle_resident == {"e": 500}


def test_two_accounts_are_never_taken_for_one() -> None:
    """As soon as a second account, a request or a pool has a share, the tick has to be divided."""
    with_request = Shares(other=1.0)
    with_request.add_rows(*rows(0))
    several = [
        Shares(),
        Shares(other=1.0, idle_empty=1.0),
        Shares(idle_resident={"e": 1.0}, other=1.0),
        Shares(idle_resident={"e": 1.0}, idle_empty=1.0),
        Shares(idle_resident={"e": 1.0}, unattributed=1.0),
        Shares(idle_resident={"e": 1.0, "f": 1.0}),
        Shares(other=1.0, unlisted={"e": [1.0, 0.0]}),
        Shares(other=1.0, pooled={"e": 1.0}),
        with_request,
    ]

    assert [shares.only_account for shares in several] == [None] * len(several)


def test_rows_of_several_engines_stand_side_by_side() -> None:
    """Each key keeps its energy and its doubts, in the order in which they came."""
    shares = Shares()
    shares.add_rows(*rows(6, 10, uj=10.0))
    shares.add_rows(*rows(7, uj=2.0))

    keys, fair, doubts = shares.members()

    assert (keys.tolist(), fair.tolist()) == ([6, 10, 7], [10.0, 10.0, 2.0])
    assert doubts.tolist() == [[5.0, 5.0, 1.0]] * NOTES
    assert [part.shape for part in Shares().members()] == [(0,), (0,), (NOTES, 0)]


def test_the_other_accounts_come_in_the_order_in_which_they_are_read() -> None:
    """Idle of each model, unlisted by phase, pools, and the three that belong to nobody."""
    shares = Shares(
        idle_resident={"e": 1.0}, unlisted={"e": [2.0, 3.0]}, pooled={"e": 4.0},
        idle_empty=5.0, other=6.0, unattributed=7.0,
    )  # fmt: skip

    assert shares.scalars() == [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0]


def test_a_pool_keeps_kinds_of_joules_and_engines_apart() -> None:
    """What a simple rule divides later is kept by kind of joule and by engine."""
    pool = Pool()
    for slot_class, engine, uj in ((0, "e", 5), (0, "e", 6), (1, "e", 7), (0, "f", 8)):
        pool.add(slot_class, engine, uj)

    assert pool.energy_uj == {(0, "e"): 11, (1, "e"): 7, (0, "f"): 8}


def test_merged_ticks_hold_the_same_joules() -> None:
    """Ticks of one device become one, account by account; devices stay apart."""
    first = TickEnergy("a", 0, 5, 30, {("e", "m", "t"): (1, 2)}, {"e": (3, 4)}, {"e": 5}, 6, 7, 2)
    second = TickEnergy("a", 5, 9, 20, {("e", "m", "t"): (2, 3)}, {}, {"e": 15}, 0, 0, 0)
    other = TickEnergy("b", 0, 5, 8, {}, {}, {}, 8, 0, 0)

    assert merged([first, other, second]) == [
        TickEnergy("a", 0, 9, 50, {("e", "m", "t"): (3, 5)}, {"e": (3, 4)}, {"e": 20}, 6, 7, 2),
        other,
    ]
