"""What the driver's samples of processes add up to, and which of its pids are believed."""

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inferwatt.sources.nvml_processes import UNKNOWN_PID, ProcessList, Shares, Use, integrated

from .gpus import Machine, machine_of, nvml_library

__all__ = ["machine_of", "nvml_library"]

MachineOf = Callable[[int], Machine]
PERIOD_US = 166_667
KNOWN = Shares({}, 1_000_000_000, (PERIOD_US,) * 8)
"""What is known after a while: until when, and how often the driver samples."""
USES = st.lists(
    st.builds(Use, st.integers(1, 10**10), st.sampled_from([UNKNOWN_PID, 1, 2, 3]), st.floats(0, 1)), min_size=1
)


@given(USES, st.sampled_from([0, 10**9]))
def test_shares_are_ratios_whatever_the_driver_says(uses: list[Use], until_us: int) -> None:
    """No share is negative, and together they are never more than the whole GPU."""
    shares = integrated(uses, Shares({}, until_us))

    assert all(ratio >= 0 for ratio in shares.ratios.values())
    assert sum(shares.ratios.values()) <= 1 + 1e-9
    assert shares.until_us >= max(use.time_us for use in uses)


@given(st.floats(0.1, 1), st.lists(st.integers(140_000, 200_000), min_size=1, max_size=30))
def test_a_steady_process_has_its_steady_share(ratio: float, gaps_us: list[int]) -> None:
    """However unevenly the driver samples around its period, the mean is what it used."""
    time_us, uses = KNOWN.until_us, []
    for gap_us in gaps_us:
        time_us += gap_us
        uses.append(Use(time_us, 7, ratio))

    assert integrated(uses, KNOWN).ratios[7] == pytest.approx(ratio)


def test_a_share_is_a_mean_over_time_and_not_of_samples() -> None:
    """Half a second at 80%, then half a second in which nobody did anything and one period at 20%."""
    uses = [Use(KNOWN.until_us + n * PERIOD_US, 7, 0.8) for n in (1, 2, 3)]
    uses.append(Use(KNOWN.until_us + 7 * PERIOD_US, 7, 0.2))

    shares = integrated(uses, KNOWN)

    assert shares.ratios[7] == pytest.approx((3 * 0.8 + 0.2) / 7)
    assert shares.until_us == KNOWN.until_us + 7 * PERIOD_US


def test_processes_of_one_instant_have_equal_time() -> None:
    """The stamps of one sample are some µs apart; none of the processes is thought to have had only these."""
    at_us = KNOWN.until_us + PERIOD_US

    shares = integrated([Use(at_us, 1, 0.3), Use(at_us + 5, 2, 0.6)], KNOWN)

    assert shares.ratios == pytest.approx({1: 0.3, 2: 0.6}, rel=1e-3)


def test_a_history_of_which_nothing_is_known_begins_a_period_before_its_first_sample() -> None:
    """The first answer ever has no sample before it to count from."""
    shares = integrated([Use(5_000_000, 1, 0.5), Use(6_000_000, 1, 0.5)], Shares({}, 0))

    assert shares.ratios == {1: 0.5}


def test_one_odd_gap_does_not_change_what_the_period_is_thought_to_be() -> None:
    """A stamp that comes 50 ms after another makes no one's use a third of what it was."""
    odd = Shares({}, KNOWN.until_us, (*KNOWN.gaps_us, 50_000))

    shares = integrated([Use(odd.until_us + PERIOD_US, 7, 0.9)], odd)

    assert shares.ratios[7] == pytest.approx(0.9)


@pytest.mark.real
def test_processes_of_every_kind_are_found_and_a_longer_list_is_asked_again(machine_of: MachineOf) -> None:
    """Computing, drawing and under MPS; more than there was room for the first time."""
    machine = machine_of(1)
    machine.session.open()
    machine.gpus[0].hold(11, 12)
    machine.gpus[0].hold(13, graphics=True)
    listed = ProcessList(machine.session, machine.session.handle(0), 4_194_304)
    listed._entries = (type(listed._entries[0]) * 1)()

    assert {pid for pid, _ in listed.read(0) or ()} == {11, 12, 13}


@pytest.mark.real
def test_shifted_entries_of_a_driver_are_not_taken_for_processes(machine_of: MachineOf) -> None:
    """Drivers 530 to 534 wrote longer entries: only the first is where it should be."""
    machine = machine_of(1)
    machine.stand_in.page.process_stride = 32
    machine.session.open()
    machine.gpus[0].hold(1111, 2222, 3333)

    listed = ProcessList(machine.session, machine.session.handle(0), 4_194_304).read(0)

    assert {pid for pid, _ in listed or ()} == {1111}


@pytest.mark.real
def test_a_pid_that_the_kernel_cannot_give_is_no_process(machine_of: MachineOf) -> None:
    """Neither 0 nor anything above pid_max."""
    machine = machine_of(1)
    machine.session.open()
    machine.gpus[0].hold(0, 40_000, 4_294_967_295)

    listed = ProcessList(machine.session, machine.session.handle(0), 32_768).read(0)

    assert listed == frozenset()
