"""A gateway's call and its engine meet also where one of them is late: a server just begun, a loaded machine."""

from collections.abc import Iterable

import pytest

from inferwatt.ledger.rows import RequestRow
from inferwatt.records import Engine, Usage
from tests.desk import MS, SECOND, SERVER, Disk, ended, opened
from tests.test_callers import ANSWERS, AnsweringDesk, RestartedDesk
from tests.test_plugins import CORE, NAME, PluggedDesk


class Named(Disk):
    """A disk whose rows are found by each of their names."""

    def find(self, alias: str) -> list[RequestRow]:
        """Return the rows of a name."""
        return [row for row in self.rows.values() if alias in {row.request.trace_id, row.request.response_id}]


class NewDesk(PluggedDesk):
    """A desk beside a vLLM that has just started: nobody has read its page, and another serves a model of that name."""

    def __init__(self, *, is_late: bool) -> None:
        self._is_late = is_late
        super().__init__()

    def hello(self, index: int = 0, producer: str = CORE) -> None:
        """The other's page was read before its own plugin says hello, which may be late."""
        self.serve(Engine("vllm:2", "m", server="vllm:2", kind="vllm"), (60,))
        self.live(0.1)
        if not self._is_late:
            super().hello(index, producer)

    def late_hello(self) -> None:
        """Its plugin says hello at last."""
        super().hello()

    def serve(self, engine: Engine, pids: Iterable[int] = (50,)) -> None:
        """Its own page is read later."""
        if engine is not SERVER:
            super().serve(engine, pids)


@pytest.mark.parametrize("is_first", [True, False])
def test_a_gateways_first_call_is_its_engines(is_first: bool) -> None:
    """By the address that it asked, also where another server has a model of that name, and no page was read yet."""
    desk = NewDesk(is_late=is_first)
    known = {"engine": "http://127.0.0.1:1", "trace_id": "abc", "tenant": "acme"}
    desk.say(opened("1", desk.now, **known))
    desk.live(1)
    if is_first:
        desk.late_hello()
    desk.core(arrival_ns=desk.now - SECOND)
    desk.keeper.put(Usage(desk.now - SECOND, desk.now, "gpu-0", {50: 1.0}, 0.0))
    desk.live(0.2)
    desk.steps(NAME)
    desk.core_ended()
    desk.say(ended("1", desk.now - 1200 * MS, desk.now, **known))
    desk.live(4)

    assert desk.kept().request.tenant == "acme"
    (final,) = desk.heard(final=True)
    assert final.energy_uj == desk.kept().energy.energy_uj
    assert list(desk.disk.rows) == [(CORE, f"{CORE}:{NAME}")]
    assert not desk.shown("inferwatt_records_dropped_total")


def test_an_engine_that_speaks_late_is_waited_for() -> None:
    """On a loaded machine a call may be over for some seconds before its engine's first word comes."""
    desk = AnsweringDesk()
    desk.live(7)
    desk.call()
    desk.live(0.2)
    desk.answered()
    desk.live(3)
    desk.core(arrival_ns=desk.now - 4 * SECOND)
    desk.steps(NAME)
    desk.core_ended()
    desk.live(4)

    assert desk.kept().request.tenant == "acme"
    assert len(desk.heard(final=True)) == 1
    assert not desk.shown("inferwatt_records_dropped_total")


def test_a_call_just_after_a_restart_waits_for_who_finds_the_agent_late() -> None:
    """Its engine's word is there at once, and over; who answered it is heard of seconds later."""
    desk = RestartedDesk()
    desk.live(1)
    PluggedDesk.hello(desk)
    desk.core_ended()
    desk.live(3)
    desk.answered()
    desk.live(5)

    assert desk.kept().request.tenant == "acme"
    assert not desk.shown("inferwatt_records_dropped_total")


@pytest.mark.parametrize(
    ("tenant", "ago", "reason"), [("acme", 8, "duplicate"), ("other", 8, "witness"), ("acme", 2, "witness")]
)
def test_what_the_agent_before_has_kept_whole_is_said_twice_not_lost(tenant: str, ago: int, reason: str) -> None:
    """Killed between a commit and its acknowledgement it hears of a call again; without its tenant that was lost."""
    before = AnsweringDesk(disk=Named())
    before.call()
    before.core()
    before.worked(NAME)
    before.core_ended()
    before.answered()
    before.live(4)
    desk = RestartedDesk(clock=before.clock, disk=before.disk)
    known = {"producer": ANSWERS, "trace_id": "abc", "response_id": "chatcmpl-abc", "tenant": tenant}
    desk.say(ended("1", desk.now - ago * SECOND, desk.now - ago * SECOND // 2, **known), seq=9, pid=50)
    desk.live(7)

    assert before.kept().request.tenant == "acme"
    told = [one.energy_uj for one in desk.heard(final=True)]
    assert told == ([before.kept().energy.energy_uj] if reason == "duplicate" else [])
    assert desk.shown("inferwatt_records_dropped_total") == {(reason,): 1}
    assert (ANSWERS, 9) in desk.told.acks
