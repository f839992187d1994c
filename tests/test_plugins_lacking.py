"""The desk with a vLLM whose steps cannot be told: its front end tells what it has finished, charged once."""

from dataclasses import replace

from inferwatt.engines.plugged import PluginSeen
from inferwatt.engines.session import Incoming
from inferwatt.engines.vllm_server import Found
from inferwatt.records import Model, Outcome, Request, Tier
from tests.desk import MS, SECOND, Desk, ended

CORE, FRONT = "c" * 32, "f" * 32
ABSENT = ("SchedulerOutput.num_scheduled_tokens",)
MODEL = Model("m", flops_per_token=2.0)


class LackingDesk(Desk):
    """A desk beside a vLLM whose steps our plugin cannot read."""

    def __init__(self) -> None:
        super().__init__(server_of=lambda _pid, _port: Found("vllm:1", frozenset({50})))
        core = PluginSeen(CORE, 51, self.now, "engine", MODEL, "9.9", lacks_steps=ABSENT)
        self.keeper.put(core)
        self.keeper.put(replace(core, producer=FRONT, pid=50, role="front"))
        self.live(1.0)
        self.keeper.set_lacks(())

    def finished(self, name: str, seconds: float) -> str:
        """The front end tells a request that has taken so long; return its name."""
        start_ns = self.now - round(seconds * SECOND)
        request = Request(
            f"{FRONT}:{name}", model="m", producer=FRONT, arrival_ns=start_ns, first_token_ns=start_ns + 100 * MS,
            end_ns=self.now, prompt_tokens=7, output_tokens=5, outcome=Outcome.FINISHED, response_id=name,
        )  # fmt: skip
        self.seqs[FRONT] = self.seqs.get(FRONT, 0) + 1
        self.keeper.put(Incoming(FRONT, 50, self.seqs[FRONT], request, self.now))
        return request.request


def test_what_is_absent_is_shown_with_the_lower_tier() -> None:
    """One lack for a server, however many of its processes tell it, and the tier that is left."""
    desk = LackingDesk()
    desk.live(2.0)
    live = desk.keeper.snapshot.live
    [lack] = [each for each in live.lacks if each.source == "vllm"]
    [engine] = live.engines

    assert lack.what.startswith("vllm 9.9 has no SchedulerOutput.num_scheduled_tokens: step_exact is not possible")
    assert lack.where == "vllm:1"
    assert (engine.server, engine.version, engine.tier) == ("vllm:1", "9.9", "step_reconstructed")


def test_a_request_that_the_front_end_tells_is_reconstructed() -> None:
    """It has joules by its times, in the lower tier."""
    desk = LackingDesk()
    name = desk.finished("chatcmpl-a", 0.8)
    desk.live(5)
    row = desk.disk.rows[FRONT, name]

    assert row.energy is not None
    assert row.energy.tier is Tier.STEP_RECONSTRUCTED
    assert row.energy.energy_uj > 0
    assert row.server == "vllm:1"


def test_a_client_of_it_adds_its_name_and_is_no_second_charge() -> None:
    """The request is there once, under the tenant that the client told."""
    desk = LackingDesk()
    start_ns = desk.now
    desk.live(0.8)
    name = desk.finished("chatcmpl-a", 0.8)
    desk.say(ended("mine", start_ns, desk.now, response_id="chatcmpl-a", tenant="acme"))
    desk.live(5)

    assert list(desk.disk.rows) == [(FRONT, name)]
    assert desk.disk.rows[FRONT, name].request.tenant == "acme"


def test_a_plugin_that_lacks_nothing_is_exact() -> None:
    """It is shown so, and there is no lack."""
    desk = Desk(server_of=lambda _pid, _port: Found("vllm:1", frozenset({50})))
    desk.keeper.put(PluginSeen(CORE, 51, desk.now, "engine", MODEL, "0.32.0"))
    desk.live(0.2)
    desk.keeper.set_lacks(())
    desk.live(2.0)

    assert [engine.tier for engine in desk.keeper.snapshot.live.engines] == ["step_exact"]
    assert desk.keeper.snapshot.live.lacks == ()
