from itertools import pairwise

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from inferwatt.engines.sglang_passes import MAX_MESSAGE_BYTES, WINDOW_NS, Passes
from inferwatt.records import Sums
from tests.doubles.sglang import message, scheduled

MS = 1_000_000
AT = "ipc:///x.0"


def test_passes_are_summed_over_a_short_time() -> None:
    """From where the first began to where the last arrived; what is not SGLang's to tell stays unknown."""
    passes = Passes("sglang:30000")
    assert passes.take(AT, message(0), 10 * MS) is None
    assert passes.take(AT, message(1, 0.020, scheduled(prefill=(2, 300))), 100 * MS) is None
    assert passes.take(AT, message(2, 0.010, scheduled(decode=(3, 900))), 110 * MS) is None
    assert passes.take(AT, message(3, 0.010, scheduled((1, 50), (4, 1200))), 121 * MS) is None

    assert passes.due(80 * MS + WINDOW_NS) == Sums(
        80 * MS,
        121 * MS,
        "sglang:30000",
        steps=3,
        prefill_tokens=350,
        decode_requests=7,
        context_tokens=2100,
        passes_ns=40 * MS,
        lost_passes=0,
    )
    assert passes.due(10**12) is None


def test_a_window_ends_with_the_work() -> None:
    """A heartbeat closes it; the next one begins where its first pass began, and never before the one before ended."""
    passes = Passes("e")
    passes.take(AT, message(0, 0.010, scheduled(decode=(1, 1))), 100 * MS)
    first = passes.take(AT, message(1), 130 * MS)
    passes.take(AT, message(2, 9.0, scheduled(decode=(1, 2))), 140 * MS)
    second = passes.take(AT, message(3), 150 * MS)

    assert first is not None
    assert second is not None
    assert (first.t0_ns, first.t1_ns, second.t0_ns, second.t1_ns) == (90 * MS, 100 * MS, 100 * MS, 140 * MS)


def test_a_missing_number_is_a_lost_pass_and_no_zero() -> None:
    """Two are missing: they were since the message before, what they did is in no sum, and they are counted."""
    passes = Passes("e")
    passes.take(AT, message(7, 0.01, scheduled(decode=(1, 10))), 100 * MS)
    passes.take(AT, message(8), 110 * MS)
    passes.take(AT, message(11, 0.01, scheduled(decode=(1, 20))), 150 * MS)
    told = passes.due(10**12)

    assert told is not None
    assert (told.t0_ns, told.t1_ns, told.steps, told.context_tokens, told.lost_passes) == (110 * MS, 150 * MS, 1, 20, 2)
    assert passes.lost == 2


def test_what_was_lost_before_the_engine_fell_idle_is_told_too() -> None:
    """Only a heartbeat shows the gap: there is a record of no known step and one lost."""
    passes = Passes("e")
    passes.take(AT, message(0), 100 * MS)
    assert passes.take(AT, message(2), 1100 * MS) is None
    told = passes.take(AT, message(3), 2100 * MS)

    assert told == Sums(100 * MS, 1100 * MS, "e", steps=0, prefill_tokens=0, decode_requests=0, context_tokens=0,
                        passes_ns=0, lost_passes=1)  # fmt: skip


def test_each_rank_has_its_own_numbers_and_a_restart_is_no_loss() -> None:
    """Ranks are summed; a number that falls is another process, and the first that is heard is a beginning."""
    passes = Passes("e")
    for rank, number in (("a", 500), ("b", 3), ("a", 501), ("b", 4), ("a", 0), ("a", 1)):
        passes.take(rank, message(number, 0.001, scheduled(decode=(1, 1))), 100 * MS)
    told = passes.due(10**12)

    assert told is not None
    assert (told.steps, told.lost_passes, passes.lost) == (6, 0, 0)


def test_prefill_of_which_the_tokens_are_not_told_is_unknown() -> None:
    """SGLang says 0 tokens where a batch has no statistics: then nobody knows the sum of that time."""
    passes = Passes("e")
    passes.take(AT, message(0, 0.01, scheduled(prefill=(1, 100))), 100 * MS)
    passes.take(AT, message(1, 0.01, scheduled(prefill=(1, 0))), 110 * MS)
    passes.take(AT, message(2, 0.01, scheduled(prefill=(1, 100))), 120 * MS)
    told = passes.due(10**12)

    assert told is not None
    assert (told.steps, told.prefill_tokens) == (3, None)


def test_what_is_no_message_is_counted_by_what_is_wrong() -> None:
    """Frames, payload, version: nothing of it is taken, and it breaks nothing."""
    passes = Passes("e")
    topic, number, payload = message(0, 0.01, scheduled())
    negative = message(1, 0.01, {**scheduled(), "num_decode_requests": -1})
    bad = (
        [number, payload],
        [topic, b"1", payload],
        [topic, number, b"x" * (MAX_MESSAGE_BYTES + 1)],
        [topic, number, b"\xc1"],
        [topic, number, b"\x90"],
        negative,
        message(2, -1.0, scheduled()),
        message(3, version=2),
    )
    for frames in bad:
        assert passes.take(AT, frames, 0) is None

    assert dict(passes.bad) == {"frames": 3, "payload": 4, "version": 1}
    assert (passes.messages, passes.due(10**12)) == (0, None)


def test_the_first_form_without_a_version_is_read_too() -> None:
    """SGLang at 48ccb9a4: no version, no counter."""
    passes = Passes("e")
    topic, number, _ = message(0)
    payload = msgspec.msgpack.encode(
        {"worker_id": "", "dp_rank": 0, "wall_time": 0.01, "scheduled_requests": scheduled()}
    )
    passes.take(AT, [topic, number, payload], MS)

    assert passes.messages == 1


STEPS = st.tuples(
    st.integers(1, 5), st.integers(1, 300), st.integers(0, 9), st.integers(0, 9), st.booleans()
)  # numbers gone on, ms gone on, prefill tokens, decode requests, whether it arrives


@given(st.lists(STEPS, max_size=60))
def test_all_that_arrives_is_in_exactly_one_sum(steps: list[tuple[int, int, int, int, bool]]) -> None:
    """Sums neither overlap nor lose anything, and every number is heard or counted as lost."""
    passes = Passes("e")
    told: list[Sums | None] = []
    number, now_ns, first = 0, 0, -1
    heard = [0, 0, 0]
    for gone_on, ms, prefill, decode, arrives in steps:
        number, now_ns = number + gone_on, now_ns + ms * MS
        if not arrives:
            continue
        first = number if first < 0 else first
        last = number
        heard = [heard[0] + 1, heard[1] + prefill, heard[2] + decode]
        told.append(passes.take(AT, message(number, ms / 1000, scheduled((prefill, prefill), (decode, 5))), now_ns))
        told.append(passes.due(now_ns))
    told.append(passes.due(now_ns + 10**12))
    sums = [one for one in told if one is not None]

    assert [sum(s.steps or 0 for s in sums), sum(s.prefill_tokens or 0 for s in sums),
            sum(s.decode_requests or 0 for s in sums)] == heard  # fmt: skip
    assert all(one.t1_ns <= other.t0_ns for one, other in pairwise(sums))
    assert all(one.t0_ns < one.t1_ns for one in sums)
    if first >= 0:
        assert heard[0] + sum(s.lost_passes or 0 for s in sums) == last - first + 1
