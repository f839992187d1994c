"""What holds of a slow source whatever happens, by a fake clock."""

from hypothesis import given
from hypothesis import strategies as st

from inferwatt.errors import InferwattError, SourceRetry
from inferwatt.records import Device, Reading
from inferwatt.sources.slow import MOST_DELAY_NS, Sample, Samples, SlowDevice, SlowPoller
from inferwatt.testing import FakeClock
from inferwatt.units import NS_PER_MS, NS_PER_SECOND
from tests.sources.test_slow import TIRED, no_thread

SECOND = NS_PER_SECOND


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 40 * SECOND)), max_size=30))
def test_a_deadline_is_a_multiple_of_the_period_and_never_in_the_past(polls: list[tuple[bool, int]]) -> None:
    """However long polls take and however they end, the next is on the grid, ahead of now and not too far."""
    clock = FakeClock(SECOND)
    script = iter(polls)

    def poll() -> Samples:
        is_good, takes_ns = next(script)
        clock.advance(takes_ns)
        if not is_good:
            raise TIRED
        return {}

    poller = SlowPoller("bmc", poll, 2 * SECOND, clock=clock, spawn=no_thread)
    for _ in polls:
        due_ns = poller.step(clock.monotonic_ns())
        ahead_ns = due_ns - clock.monotonic_ns()
        assert (due_ns - SECOND) % (2 * SECOND) == 0
        assert 0 <= ahead_ns <= MOST_DELAY_NS + 2 * SECOND
        clock.advance(ahead_ns)


@given(st.lists(st.sampled_from(["good", "bad", "nothing", "read"]), max_size=40))
def test_every_sample_is_handed_over_at_most_once_and_in_order(story: list[str]) -> None:
    """Whatever happens between reads, times only rise, and the newest sample is never lost."""
    clock = FakeClock(SECOND)
    answers: list[Samples | InferwattError] = []

    def poll() -> Samples:
        answer = answers.pop()
        if isinstance(answer, InferwattError):
            raise answer
        return answer

    poller = SlowPoller("bmc", poll, NS_PER_MS, clock=clock, spawn=no_thread)
    view = SlowDevice(poller, Device("server"))
    handed: list[int] = []
    newest = 0
    for word in [*story, "read"]:
        if word == "read":
            handed += read_times(view, clock)
            continue
        said: dict[str, Samples | InferwattError] = {"good": {"server": Sample(counter_uj=1)}, "bad": TIRED}
        answers = [said.get(word, {})]
        clock.advance(3600 * SECOND)
        poller.step(clock.monotonic_ns())
        newest = clock.monotonic_ns() if word == "good" else newest

    assert handed == sorted(set(handed))
    assert (handed or [0])[-1] == newest


def read_times(view: SlowDevice, clock: FakeClock) -> list[int]:
    """Read once and return the time of the reading, if there is one."""
    try:
        said = view.read(clock.monotonic_ns())
    except SourceRetry:
        return []
    return [said.t_ns] if isinstance(said, Reading) else []
