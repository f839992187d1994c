"""Who answers clients inside vLLM, and the clients of it: each call hears of its own sequences' joules, once."""

from typing import Any

import pytest

from inferwatt.engines.plugged import PluginSeen
from inferwatt.ports import ProducerGone
from inferwatt.rates import LEAST_REQUESTS
from tests.desk import MS, PRODUCER, SECOND, ended, opened
from tests.test_plugins import CORE, MODEL, NAME, PluggedDesk

ANSWERS = "a" * 32
OTHER = "chatcmpl-abc-00000002"


class AnsweringDesk(PluggedDesk):
    """A desk beside a vLLM whose API server tells of the calls that it answers."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.keeper.put(PluginSeen(ANSWERS, 50, self.now, "answer", MODEL, "0.32.0", 0, 1))

    def call(self, name: str = "1", at_ns: int | None = None, **more: Any) -> None:
        """A call has come, by the name that its client gave."""
        known = {"producer": ANSWERS, "model": "", "trace_id": "abc", "tenant": "acme"}
        self.say(opened(name, self.now if at_ns is None else at_ns, **{**known, **more}), pid=50)

    def answered(self, name: str = "1", start_ns: int = 0, **more: Any) -> None:
        """A call was answered."""
        known = {"producer": ANSWERS, "model": "", "trace_id": "abc", "response_id": "chatcmpl-abc", "tenant": "acme"}
        self.say(ended(name, start_ns or self.now - SECOND, self.now, **{**known, **more}), pid=50)

    def worked(self, *names: str, seconds: float = 2.0) -> None:
        """Let names be computed together for a while."""
        for _ in range(round(seconds * 5)):
            self.live(0.2)
            self.steps(*names)


class RestartedDesk(AnsweringDesk):
    """A desk that has just started beside a vLLM that runs: its plugins find it one after the other."""

    age_seconds = 0.0

    def hello(self, index: int = 0, producer: str = CORE) -> None:
        """Nobody says hello before he has found it."""

    def core_found(self) -> None:
        """The engine's plugin has found it, and tells of what ended before."""
        super().hello()
        self.core_ended(arrival_ns=self.now - 8 * SECOND, end_ns=self.now - 7 * SECOND)

    def answers_found(self) -> None:
        """Who answers clients has found it, and tells the same."""
        known = {"producer": ANSWERS, "trace_id": "abc", "response_id": "chatcmpl-abc", "tenant": "acme"}
        self.say(ended("1", self.now - 8 * SECOND, self.now - 7 * SECOND, **known), pid=50)


@pytest.fixture
def desk() -> AnsweringDesk:
    """A desk with plugins."""
    return AnsweringDesk()


@pytest.mark.parametrize("is_first", [True, False])
def test_an_open_call_hears_what_its_request_has_used(desk: AnsweringDesk, is_first: bool) -> None:
    """Whoever speaks first: every fifth of a second what is settled so far, and at last the final figure."""
    for speak in (desk.call, desk.core) if is_first else (desk.core, desk.call):
        speak()
        desk.live(0.1)
    desk.worked(NAME)
    told = [one.energy_uj for one in desk.heard(final=False)]
    assert len(told) > 5
    assert told == sorted(told)
    assert told[-1] > 0

    desk.core_ended()
    desk.answered()
    desk.live(4)
    (final,) = desk.heard(final=True)
    row = desk.kept()
    assert row.energy is not None
    assert final.energy_uj == row.energy.energy_uj >= told[-1]
    assert row.request.tenant == "acme"
    assert list(desk.disk.rows) == [(CORE, f"{CORE}:{NAME}")]
    assert (ANSWERS, 2) in desk.told.acks


def test_the_tenant_is_there_from_the_first_tick(desk: AnsweringDesk) -> None:
    """A call that names its tenant at its beginning has no joule under another name."""
    desk.call()
    desk.core()
    desk.worked(NAME)
    desk.core_ended()
    desk.answered()
    desk.live(4)

    tenants = {word for labels in desk.shown("inferwatt_tenant_energy_joules_total") for word in labels}
    assert "acme" in tenants
    assert "__unknown__" not in tenants


def test_a_call_for_two_answers_hears_their_sum(desk: AnsweringDesk) -> None:
    """Also when one of them has long ended: nothing that was told is taken back."""
    names = [f"{place}_{NAME}" for place in (0, 1)]
    desk.call()
    for name in names:
        desk.core(name)
    desk.worked(*names)
    desk.core_ended(names[0])
    desk.worked(names[1], seconds=5.0)
    told = [one.energy_uj for one in desk.heard(final=False)]
    assert told == sorted(told)
    first = desk.kept(names[0]).energy
    assert first is not None
    assert told[-1] > first.energy_uj

    desk.core_ended(names[1])
    desk.answered(start_ns=desk.now - 7 * SECOND)
    desk.live(4)
    (final,) = desk.heard(final=True)
    assert final.energy_uj == sum(desk.kept(name).energy.energy_uj for name in names)
    assert {desk.kept(name).request.tenant for name in names} == {"acme"}


def test_a_name_that_is_used_twice_at_once_is_two_calls(desk: AnsweringDesk) -> None:
    """Each sequence is of the call that came last before it: no tenant gets another's joules."""
    desk.call("1", tenant="acme")
    desk.clock.advance(50 * MS)
    desk.core(NAME)
    desk.clock.advance(50 * MS)
    desk.call("2", tenant="evil")
    desk.clock.advance(50 * MS)
    desk.core(OTHER)
    desk.worked(NAME, OTHER)
    for name in (NAME, OTHER):
        desk.core_ended(name)
    desk.answered("2", tenant="evil")
    desk.answered("1", tenant="acme")
    desk.live(4)

    assert [desk.kept(name).request.tenant for name in (NAME, OTHER)] == ["acme", "evil"]
    for call, name in (("1", NAME), ("2", OTHER)):
        (final,) = desk.heard(call, final=True)
        assert final.energy_uj == desk.kept(name).energy.energy_uj


def test_a_name_that_is_used_again_does_not_take_the_last_call(desk: AnsweringDesk) -> None:
    """A request that has just ended stays its own call's, whoever comes by its name next."""
    desk.call("1")
    desk.core()
    desk.worked(NAME)
    desk.core_ended()
    desk.answered("1")
    desk.live(0.1)
    desk.call("2", tenant="evil")
    desk.live(4)

    assert desk.kept().request.tenant == "acme"
    assert len(desk.heard("1", final=True)) == 1
    assert desk.heard("2", final=False) == desk.heard("2", final=True) == []


def test_an_answer_that_comes_after_the_settlement_is_told_it(desk: AnsweringDesk) -> None:
    """A front end that was held up says the end late: it is kept, and hears the final figure."""
    desk.call()
    desk.core()
    desk.worked(NAME)
    desk.core_ended()
    desk.live(5)
    desk.answered(start_ns=desk.now - 7 * SECOND)
    desk.live(2)

    assert len(desk.heard(final=True)) == 1
    assert (ANSWERS, 2) in desk.told.acks
    assert not desk.shown("inferwatt_records_dropped_total")


@pytest.mark.parametrize(("outcome", "dropped"), [("finished", {("witness",): 1}), ("failed", {})])
def test_a_call_that_no_engine_knows_is_dropped(
    desk: AnsweringDesk, outcome: str, dropped: dict[tuple[str, ...], int]
) -> None:
    """It has no joule, and costs nobody any; it is a loss, and counted, unless vLLM refused it."""
    desk.core(OTHER, response_id="chatcmpl-xyz", trace_id="xyz")
    desk.call()
    desk.answered(outcome=outcome)
    desk.live(6)

    assert desk.shown("inferwatt_records_dropped_total") == dropped
    assert (ANSWERS, 2) in desk.told.acks
    assert not desk.disk.rows


@pytest.mark.parametrize("is_first", [True, False])
def test_a_call_of_meanwhile_is_kept_once_with_its_tenant(is_first: bool) -> None:
    """Whoever finds an agent first that has started anew: the other's word of the same call is waited for."""
    desk = RestartedDesk()
    finders = [desk.answers_found, desk.core_found]
    for found in finders if is_first else reversed(finders):
        found()
        desk.live(2)
    desk.live(4)

    assert desk.kept().request.tenant == "acme"
    assert len(desk.disk.rows) == 1
    assert not desk.shown("inferwatt_records_dropped_total")


def test_a_front_end_that_dies_leaves_the_request_to_its_engine(desk: AnsweringDesk) -> None:
    """Its open calls are forgotten, the tenant that it told stays, and nothing is held."""
    desk.call()
    desk.core()
    desk.worked(NAME)
    desk.keeper.put(ProducerGone(ANSWERS))
    desk.live(12)
    desk.core_ended()
    desk.live(4)

    assert desk.kept().request.tenant == "acme"
    assert not desk.keeper._plugins._clients._calls
    assert not desk.keeper._plugins._clients._open_by_alias
    assert not desk.keeper._plugins._clients._claims


def test_a_client_beside_the_front_end_hears_the_same(desk: AnsweringDesk) -> None:
    """Two producers may stand for one request: each is told, nothing is charged twice."""
    desk.call()
    desk.core()
    desk.worked(NAME)
    desk.core_ended()
    desk.answered()
    desk.say(ended("mine", desk.now - SECOND, desk.now, response_id="chatcmpl-abc"))
    desk.live(4)
    energies = {one.energy_uj for name in ("1", "mine") for one in desk.heard(name, final=True)}

    assert energies == {desk.kept().energy.energy_uj}
    assert len(desk.heard("mine", final=True)) == 1
    assert list(desk.disk.rows) == [(CORE, f"{CORE}:{NAME}")]


def test_who_answers_hears_what_tokens_cost(desk: AnsweringDesk) -> None:
    """After enough finals of its own server; all at once when it comes, and then what has changed."""
    desk.call()
    for number in range(LEAST_REQUESTS):
        name = f"chatcmpl-{number}-00000000"
        desk.core(name, response_id=f"chatcmpl-{number}", trace_id=str(number))
        desk.worked(name, seconds=0.2)
        desk.core_ended(name, response_id=f"chatcmpl-{number}", trace_id=str(number))
    desk.live(4)
    rates = desk.told.rated[ANSWERS][-1]
    assert (rates.engine, rates.model) == ("vllm:1", "m")
    assert rates.requests >= LEAST_REQUESTS
    assert desk.told.rated.keys() == {ANSWERS}
    count = len(desk.told.rated[ANSWERS])
    desk.live(3)
    assert len(desk.told.rated[ANSWERS]) == count

    late = "b" * 32
    desk.keeper.put(PluginSeen(late, 52, desk.now, "answer", MODEL, "0.32.0", 0, 1))
    desk.call("9", producer=late, trace_id="nobody")
    desk.live(2)
    assert desk.told.rated[late] == [rates]


def test_a_front_end_without_an_engine_plugin_is_a_client_of_its_server(desk: AnsweringDesk) -> None:
    """Where no plugin tells the steps, what it tells of a request is all there is, and it is metered by that."""
    desk.live(0.2)
    desk.keeper.put(ProducerGone(CORE))
    desk.live(11)
    desk.call()
    desk.live(2)
    desk.answered()
    desk.live(4)
    row = desk.disk.rows[ANSWERS, "1"]

    assert row.server == "vllm:1"
    assert row.energy is not None
    assert PRODUCER not in {producer for producer, _ in desk.disk.rows}
