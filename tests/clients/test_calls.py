"""What callers read: blocks, sums by provenance, answers that are remembered without being kept."""

import asyncio
import gc
import threading

import pytest

import inferwatt
from inferwatt.clients.calls import CallEnergy, Known
from inferwatt.clients.life import Asked, Call
from inferwatt.records import Outcome, Provenance


def made(energy_joules: float | None, provenance: Provenance | None = Provenance.ESTIMATED) -> CallEnergy:
    """Return a call that took so much."""
    if energy_joules is None:
        return CallEnergy("openai", "openai", "m", Outcome.FINISHED)
    low, high = energy_joules / 2, energy_joules * 3
    return CallEnergy("openai", "openai", "m", Outcome.FINISHED, energy_joules, low, high, provenance)


def test_sums_are_by_provenance_and_bounds_add_up_linearly() -> None:
    """An estimate is never added to a measurement; a call without a figure is counted, not zero."""
    calls = inferwatt.Calls([made(1.0), made(2.0), made(4.0, Provenance.MEASURED), made(None)])
    total = calls.totals[Provenance.ESTIMATED]

    assert (total.calls, total.energy_joules, total.low_joules, total.high_joules) == (2, 3.0, 1.5, 9.0)
    assert calls.totals[Provenance.MEASURED].calls == 1
    assert calls.unknown == 1


def ask() -> None:
    """Make a call that fails at once."""
    Call(Asked("openai", "m", "api.openai.com")).abort()


def test_blocks_within_blocks() -> None:
    """A call is in every block around it, and in none that has ended."""
    with inferwatt.calls() as outer:
        ask()
        with inferwatt.calls() as inner:
            ask()
        ask()

    ask()
    assert (len(outer), len(inner)) == (3, 1)


def test_a_block_has_its_tasks_calls_and_not_those_of_other_threads() -> None:
    """Tasks of asyncio carry their block with them; a thread begins without one."""

    async def two() -> None:
        await asyncio.gather(asyncio.to_thread(ask), asyncio.create_task(asyncio.to_thread(ask)))

    with inferwatt.calls() as calls:
        asyncio.run(two())
        thread = threading.Thread(target=ask)
        thread.start()
        thread.join()

    assert len(calls) == 2


def test_an_inner_block_adds_to_whose_calls_they_are() -> None:
    """Tenant and tags are those of the innermost block that says them."""
    with inferwatt.calls(tenant="acme", tags={"team": "a", "task": "t"}), inferwatt.calls(tags={"team": "b"}):
        call = Call(Asked("openai", "m"))

    assert (call.blocks[-1].tenant, call.blocks[-1].tags) == ("acme", {"team": "b", "task": "t"})


class Thing:
    """An answer."""


def test_answers_are_remembered_as_long_as_they_live() -> None:
    """Nothing is kept alive, and a new thing in an old one's place is not taken for it."""
    known = Known()
    thing = Thing()
    known.add(thing, [made(1.0)])
    assert known.find(thing) == made(1.0)
    key = id(thing)
    del thing
    gc.collect()

    assert key not in known._by_id
    assert known.find(Thing()) is None


def test_plain_text_cannot_be_remembered_and_is_no_error() -> None:
    """Nobody is told a figure of another text that happens to be there."""
    known = Known()
    known.add("Hello", [made(1.0)])

    assert known.find("Hello") is None


def test_a_call_ends_once() -> None:
    """What comes after its end changes nothing."""
    call = Call(Asked("openai", "gpt-4o", "api.openai.com"))
    call.see({"id": "c", "model": "gpt-4o", "usage": {"prompt_tokens": 100, "completion_tokens": 20}})
    call.end()
    call.abort()
    call.fail(ValueError())
    (took,) = call.ended

    assert (took.outcome, took.prompt_tokens, took.output_tokens) == (Outcome.FINISHED, 100, 20)
    assert took.energy_joules is not None


@pytest.mark.parametrize(
    ("figure", "state", "energy_joules"),
    [
        ({"id": "1", "state": "pending", "link": "/v1/requests/1"}, "pending", None),
        ({"id": "1"}, "pending", None),
        ({"id": "1", "energy_joules": "2"}, "pending", None),
        (
            {"id": "1", "energy_joules": -2.0, "low_joules": 0.0, "high_joules": 1.0, "provenance": "measured"},
            "pending",
            None,
        ),
        (
            {"id": "1", "energy_joules": 2.0, "low_joules": 1.0, "high_joules": 3.0, "provenance": "guessed"},
            "pending",
            None,
        ),
        (
            {
                "id": "1",
                "energy_joules": 2,
                "low_joules": 1,
                "high_joules": 3,
                "provenance": "measured",
                "state": "final",
            },
            "final",
            2.0,
        ),
    ],
)
def test_a_servers_figure_is_taken_only_whole(figure: object, state: str, energy_joules: float | None) -> None:
    """What is pending has no joules yet, and gets no estimate in their place."""
    call = Call(Asked("openai", "gpt-4o", "api.openai.com"))
    call.see({"usage": {"prompt_tokens": 100, "completion_tokens": 20}, "inferwatt": figure})
    call.end()
    (took,) = call.ended

    assert (took.state, took.energy_joules, took.request) == (state, energy_joules, "1")


def test_the_sensors_bound_is_in_the_interval() -> None:
    """A server's interval is of the split alone: its systematic bound is put around it, linearly."""
    call = Call(Asked("openai", "m", "localhost"))
    figure = {"id": "1", "energy_joules": 2.0, "low_joules": 1.0, "high_joules": 3.0, "systematic_ratio": 0.5}
    call.see({"inferwatt": {**figure, "provenance": "modelled", "state": "final"}})
    call.end()

    assert (call.ended[0].low_joules, call.ended[0].high_joules) == (0.5, 4.5)


def test_a_part_that_is_settled_has_no_upper_end() -> None:
    """A server that has said what is settled so far said no more; the sum of such a call and others has none either."""
    figure = {"id": "1", "energy_joules": 2.0, "low_joules": 1.0, "provenance": "measured", "state": "provisional"}
    with inferwatt.calls() as calls:
        call = Call(Asked("openai", "m", "localhost"))
        call.see({"inferwatt": figure})
        call.end()

    assert (call.ended[0].energy_joules, call.ended[0].high_joules, call.ended[0].state) == (2.0, None, "provisional")
    assert calls.totals[Provenance.MEASURED].high_joules is None
