import time

from hypothesis import given
from hypothesis import strategies as st

from inferwatt.clock import Clock, SystemClock, boot_id
from inferwatt.testing import FakeClock

JUMPS = st.lists(st.tuples(st.booleans(), st.integers(0, 10**12)), max_size=10)


def test_the_machines_clock_is_the_kernels() -> None:
    """Both times are read from the kernel at the moment of the call."""
    before = time.monotonic_ns(), time.time_ns()
    clock = SystemClock()
    now = clock.monotonic_ns(), clock.unix_ns()

    assert before[0] <= now[0] <= time.monotonic_ns()
    assert abs(now[1] - before[1]) < 3600 * 10**9


def test_one_boot_has_one_name() -> None:
    """The name is there, and the same at each call."""
    assert boot_id() == boot_id() != ""


@given(JUMPS)
def test_a_fake_clock_goes_where_it_is_told(jumps: list[tuple[bool, int]]) -> None:
    """Both times advance together; a step of the wall leaves the monotonic time alone."""
    fake = FakeClock(100, 1000)
    clock: Clock = fake
    advanced = stepped = 0
    for is_step, amount_ns in jumps:
        if is_step:
            fake.step_wall(-amount_ns)
            stepped -= amount_ns
        else:
            fake.advance(amount_ns)
            advanced += amount_ns

        assert clock.monotonic_ns() == 100 + advanced
        assert clock.unix_ns() == 1000 + advanced + stepped
