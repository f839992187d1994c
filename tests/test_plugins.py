"""The desk with a plugin: one engine, one truth of several witnesses, and never a second charge."""

from dataclasses import replace
from typing import Any

import pytest

from inferwatt.engines.plugged import Ends, PluginSeen, Steps
from inferwatt.engines.session import Incoming
from inferwatt.engines.vllm_server import Found
from inferwatt.engines.watch import EngineSeen
from inferwatt.ports import ProducerGone
from inferwatt.records import Engine, Model, Outcome, Phase, Request, RequestEnergy, Step, Sums, Tier
from inferwatt.wire_steps import End
from tests.desk import MS, PRODUCER, SECOND, SERVER, Desk, ended

CORE, FRONT = "c" * 32, "f" * 32
NAME = "chatcmpl-abc-00000001"
MODEL = Model("m", flops_per_token=2.0)


def number_of(desk: Desk, producer: str) -> int:
    """Return the number of a producer's next message."""
    desk.seqs[producer] = desk.seqs.get(producer, 0) + 1
    return desk.seqs[producer]


def a_step(desk: Desk, *names: str, producer: str = CORE, seconds: float = 0.2) -> Steps:
    """Return a step that is over now, with these members."""
    members = tuple((f"{producer}:{name}", 1, 5, Phase.DECODE) for name in names)
    step = Step(desk.now - round(seconds * SECOND), desk.now, "", members)
    own = frozenset(name for name, *_ in members)
    return Steps(producer, 51, number_of(desk, producer), (step,), desk.now, own)


class PluggedDesk(Desk):
    """A desk beside which a vLLM server with our plugin runs, on its GPU."""

    age_seconds = 6.0
    """By then all producers of a server have found an agent that has started anew."""

    def __init__(self, **options: Any) -> None:
        super().__init__(server_of=lambda _pid, _port: Found("vllm:1", frozenset({50}), 1), **options)
        self.live(self.age_seconds)
        self.hello()

    def hello(self, index: int = 0, producer: str = CORE) -> None:
        """The plugins say hello."""
        self.keeper.put(PluginSeen(producer, 51, self.now, "engine", MODEL, "0.32.0", index))
        self.keeper.put(PluginSeen(FRONT, 50, self.now, "front", MODEL, "0.32.0"))

    def number(self, producer: str) -> int:
        """Return the number of a producer's next message."""
        return number_of(self, producer)

    def steps(self, *names: str, producer: str = CORE, seconds: float = 0.2) -> None:
        """Let names be computed together for a time that is over now."""
        self.keeper.put(a_step(self, *names, producer=producer, seconds=seconds))

    def core(self, name: str = NAME, producer: str = CORE, **more: Any) -> None:
        """The engine tells of a request."""
        known = {"model": "m", "response_id": "chatcmpl-abc", "trace_id": "abc", "prompt_tokens": 7, "cached_tokens": 0}
        request = Request(f"{producer}:{name}", producer=producer, **{"arrival_ns": self.now, **known, **more})
        self.keeper.put(Incoming(producer, 51, self.number(producer), request, self.now))

    def core_ended(self, name: str = NAME, **more: Any) -> None:
        """The engine tells that a request has ended."""
        ends = {"end_ns": self.now, "output_tokens": 5, "wasted_tokens": 1, "outcome": Outcome.FINISHED}
        self.core(name, **{"arrival_ns": self.now - SECOND, **ends, **more})

    def front(self, *ends: End) -> None:
        """The front end tells what it has finished."""
        self.keeper.put(Ends(FRONT, 50, self.number(FRONT), ends, self.now))

    def heard(self, name: str = "1", *, final: bool) -> list[RequestEnergy]:
        """Return what a call was told."""
        return [one for one in self.told.energies if (one.request, one.final) == (name, final)]

    def kept(self, name: str = NAME, producer: str = CORE) -> Any:
        """Return the committed row of a request of the plugin's."""
        return self.disk.rows[producer, f"{producer}:{name}"]


@pytest.fixture
def desk() -> PluggedDesk:
    """A desk with a plugin."""
    return PluggedDesk()


def test_a_plugin_and_a_scraped_server_are_one_engine(desk: PluggedDesk) -> None:
    """By the port that its server listens on; the shape of the model is the plugin's, whoever came first."""
    desk.live(0.2)

    assert set(desk.metering.engines) == {"vllm:1"}
    assert desk.metering.engines["vllm:1"].kind == "vllm"
    assert desk.metering._models["m"].flops_per_token == 2.0


def test_a_request_is_charged_by_its_steps(desk: PluggedDesk) -> None:
    """The tier is exact, and the token book the engine's."""
    desk.core()
    desk.live(1.0)
    desk.steps(NAME)
    desk.core_ended()
    desk.live(5)
    row = desk.kept()

    assert row.energy is not None
    assert row.energy.tier is Tier.STEP_EXACT
    assert row.energy.energy_uj > 0
    assert (row.server, row.request.output_tokens, row.request.wasted_tokens) == ("vllm:1", 5, 1)


def test_a_stop_string_is_no_abort(desk: PluggedDesk) -> None:
    """The front end's word makes an abort an end, and what the client did not get is wasted."""
    desk.core_ended(outcome=Outcome.ABORTED)
    desk.live(0.5)
    desk.front(End("chatcmpl-abc", desk.now, "STOP", 7, 0, 4))
    desk.live(4)
    request = desk.kept().request

    assert (request.outcome, request.output_tokens, request.wasted_tokens) == (Outcome.FINISHED, 4, 2)


def test_an_abort_that_no_front_end_speaks_of_is_one(desk: PluggedDesk) -> None:
    """After two seconds the engine's word stands."""
    desk.core_ended(outcome=Outcome.ABORTED)
    desk.live(1.5)
    assert not desk.disk.rows
    desk.live(3)

    assert desk.kept().request.outcome is Outcome.ABORTED


def test_two_answers_of_one_request_get_the_word_that_fits(desk: PluggedDesk) -> None:
    """Of n > 1 answers with one name each sequence takes the count that is nearest to its own."""
    for number, made in ((0, 9), (1, 5)):
        desk.core_ended(f"{number}_cmpl-abc-0-0000000{number}", output_tokens=made, outcome=Outcome.ABORTED)
    desk.front(End("cmpl-abc-0", desk.now, "STOP", 7, 0, 5), End("cmpl-abc-0", desk.now, "STOP", 7, 0, 8))
    desk.live(4)
    kept = [desk.kept(f"{number}_cmpl-abc-0-0000000{number}").request.output_tokens for number in (0, 1)]

    assert kept == [8, 5]


def test_a_client_of_the_server_adds_its_name_and_is_no_second_charge(desk: PluggedDesk) -> None:
    """The joules are there once, under the tenant that the client told, and the client hears them."""
    desk.core()
    desk.live(1.0)
    desk.steps(NAME)
    start_ns = desk.now - SECOND
    desk.say(ended("mine", start_ns, desk.now, response_id="chatcmpl-abc", tenant="acme"))
    desk.core_ended()
    desk.live(5)
    row = desk.kept()

    assert row.energy is not None
    assert row.request.tenant == "acme"
    assert list(desk.disk.rows) == [(CORE, f"{CORE}:{NAME}")]
    assert {(one.request, one.energy_uj) for one in desk.told.energies if one.final} == {("mine", row.energy.energy_uj)}
    assert desk.told.acks[-1] == (PRODUCER, 1) or (PRODUCER, 1) in desk.told.acks


def test_a_client_that_names_no_request_is_dropped_and_counted(desk: PluggedDesk) -> None:
    """Without an id that a plugin knows its record says nothing new; it is acknowledged, and gets no joule."""
    desk.core()
    desk.live(1.0)
    desk.say(ended("mine", desk.now - SECOND, desk.now))
    desk.live(5)

    assert (PRODUCER, 1) in desk.told.acks
    assert not desk.disk.rows
    assert desk.shown("inferwatt_records_dropped_total") == {("witness",): 1}


def test_an_adapter_keeps_its_name(desk: PluggedDesk) -> None:
    """A LoRA adapter is a model of its own in the books."""
    desk.core_ended(model="m-lora")
    desk.live(3)

    assert desk.kept().request.model == "m-lora"


def test_who_was_in_a_step_and_not_heard_of_gets_a_record(desk: PluggedDesk) -> None:
    """No joule goes to a request that is nobody's: it is open, and ends with its engine."""
    desk.live(1.0)
    desk.steps(NAME)
    desk.live(0.5)
    assert [one.request for one in desk.metering.open_requests()] == [f"{CORE}:{NAME}"]
    desk.keeper.put(ProducerGone(CORE))
    desk.live(14)

    assert desk.kept().request.outcome is Outcome.ABORTED
    assert desk.metering.open_requests() == []


def test_steps_of_before_the_agent_are_taken_for_done(desk: PluggedDesk) -> None:
    """They are in no tick; whoever was in them is not opened again."""
    desk.clock.advance(-12 * SECOND)
    desk.steps(NAME)
    desk.clock.advance(12 * SECOND)
    desk.live(2)

    assert desk.metering.open_requests() == []
    assert (CORE, 1) in desk.told.acks


def test_the_servers_page_is_a_cross_check_alone(desk: PluggedDesk) -> None:
    """Where a plugin tells all, what the page counts is compared, and never makes unlisted joules."""
    desk.live(0.5)
    for _ in range(30):
        desk.keeper.put(Sums(desk.now - 100 * MS, desk.now, "vllm:1", output_tokens=50, running=3))
        desk.live(0.1)
    desk.live(5)

    assert not any(labels[2] == "unlisted" for labels in desk.shown("inferwatt_energy_joules_total"))


def test_several_engines_of_one_server_are_told_apart(desk: PluggedDesk) -> None:
    """Data parallel engines have a name each, and one server; its page is the sum of them, and compared with none."""
    other = "d" * 32
    desk.hello(1, other)
    desk.live(1.0)
    desk.steps(NAME)
    desk.steps(NAME, producer=other)
    desk.live(0.2)
    desk.keeper.put(Sums(desk.now - SECOND, desk.now, "vllm:1", output_tokens=500))
    desk.live(6)

    assert {name: engine.server for name, engine in desk.metering.engines.items()} == {
        "vllm:1": "vllm:1",
        "vllm:1/1": "vllm:1",
    }
    assert "inferwatt_output_tokens_total" not in desk.keeper.snapshot.values


def test_vllm_inside_a_program_has_no_port() -> None:
    """Where nobody listens the engine is the process, and the server is just vLLM."""
    desk = Desk(server_of=lambda _pid, _port: None)
    desk.keeper.put(PluginSeen(CORE, 51, desk.now, "engine", replace(MODEL, model="own"), "0.32.0"))
    desk.live(1.0)
    assert set(desk.metering.engines) == {"vllm:1"}
    desk.keeper.put(a_step(desk, NAME))
    desk.live(0.2)

    assert desk.metering.engines["vllm:51"] == Engine("vllm:51", "own", (), server="vllm", kind="vllm")


def test_what_was_dropped_in_vllm_is_counted_here(desk: PluggedDesk) -> None:
    """The plugin says how much in all; the agent counts what is new."""
    step = Step(desk.now + 1, desk.now + 2, "", ((f"{CORE}:{NAME}", 1, 1, Phase.DECODE),))
    for dropped in (3, 3, 5):
        said = Steps(CORE, 51, desk.number(CORE), (step,), desk.now, frozenset({f"{CORE}:{NAME}"}), dropped)
        desk.keeper.put(said)
    desk.live(1.5)

    assert desk.shown("inferwatt_records_dropped_total") == {("plugin",): 5}


def test_a_server_seen_first_keeps_its_processes(desk: PluggedDesk) -> None:
    """The page's finder knows who listens; a plugin that comes later changes the shape of the model alone."""
    desk.keeper.put(EngineSeen(desk.now, SERVER, Model("m"), frozenset({50}), "http://vllm:1", "0.32.0"))
    desk.live(0.3)

    assert desk.metering.pids == frozenset({50})


def test_what_no_engine_speaks_of_is_forgotten(desk: PluggedDesk) -> None:
    """Words of a front end that meet no request do not pile up, also while others come and go."""
    for number in range(30):
        desk.front(End(f"chatcmpl-{number}", desk.now, "STOP", 7, 0, 4))
        desk.core_ended(f"other-{number}-00000001")
        desk.live(1.0)

    assert len(desk.keeper._plugins._fronts._said) < 25


def test_a_front_ends_word_is_acknowledged_with_its_request(desk: PluggedDesk) -> None:
    """An agent that is killed before the row is kept hears it again; one that met nobody is let go in the end."""
    desk.core_ended(outcome=Outcome.ABORTED)
    desk.front(End("chatcmpl-abc", desk.now, "STOP", 7, 0, 4))
    desk.live(1.8)
    assert (FRONT, 1) not in desk.told.acks
    desk.live(3)
    assert (FRONT, 1) in desk.told.acks
    desk.front(End("chatcmpl-nobody", desk.now, "STOP", 7, 0, 4))
    desk.live(5)
    assert (FRONT, 2) not in desk.told.acks
    desk.live(20)

    assert (FRONT, 2) in desk.told.acks
