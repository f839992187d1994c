"""A vLLM that lacks what the plugin reads: named, served on, and metered by a lower tier, never an AttributeError."""

import json
import os
import subprocess
from pathlib import Path

import pytest

from inferwatt.engines.vllm_lacks import ENDS, STEPS
from inferwatt.records import Ending, Outcome, Tier
from tests.real.children import AgentProcess, Command
from tests.real.ledgers import assert_conserved
from tests.real.pages import get_json, samples, total, wait_for
from tests.vllm.books import assert_found, kept
from tests.vllm.load import Load
from tests.vllm.server import PYTHON, VllmProcess

pytestmark = pytest.mark.real

HIDE = '''
"""A general plugin of vLLM that hides a field of its steps from whoever looks for it, as if its version had none."""

def register():
    from vllm.v1.core.sched.output import SchedulerOutput

    del SchedulerOutput.__dataclass_fields__["num_scheduled_tokens"]
'''


@pytest.fixture(scope="module")
def looked() -> dict[str, dict[str, object]]:
    """What the plugin says in vLLM's own process, by the field that was deleted there."""
    made = subprocess.run(
        [PYTHON, str(Path(__file__).with_name("lacking.py"))],
        env={**os.environ, "INFERWATT_SOCKET": "/nonexistent/inferwatt.sock"},
        capture_output=True,
        check=False,
        text=True,
    )
    assert made.returncode == 0, made.stderr
    found: dict[str, dict[str, object]] = json.loads(made.stdout.splitlines()[-1])
    return found


def test_the_vllm_that_is_installed_lacks_nothing(looked: dict[str, dict[str, object]]) -> None:
    """Its steps are recorded."""
    assert looked[""] == {"lacks": {}, "records": True}


@pytest.mark.parametrize("owner", [*STEPS, *ENDS], ids=lambda owner: str(owner[1]))
def test_each_field_that_is_deleted_is_named(owner: tuple[str, str], looked: dict[str, dict[str, object]]) -> None:
    """Without a field of a step none is recorded; without one of a finished request steps are."""
    what, fields = ("steps", STEPS[owner]) if owner in STEPS else ("ends", ENDS[owner])
    for field in fields:
        name = f"{owner[1]}.{field}"

        assert looked[name] == {"lacks": {what: [name]}, "records": what == "ends"}


def test_a_server_without_the_field_is_metered_by_its_finished_requests(tiny_model: Path, tmp_path: Path) -> None:
    """Every answer is given, each request that ended is there once by its own times, and the listing says why."""
    with AgentProcess(tmp_path) as agent:
        with VllmProcess(tiny_model, agent, plugin=HIDE) as server:
            told = Load(server.url, 30, kinds=("plain", "stream", "prefix", "token")).run()
            assert_found(agent, told)
            listed = tmp_path / "listed"
            with Command(listed, "engines", "--url", agent.url) as listing:
                assert listing.wait() == 0
                shown = listing.out.read_text()
            live = wait_for("what the plugin said", lambda: get_json(f"{agent.url}/v1/snapshot")["engines"])
            page = samples(agent.url)
            log = server.log.read_text()
        assert agent.end() == 0, agent.err.read_text()
    found = kept(agent)
    rows = [row for rows in found.rows.values() for row in rows]

    assert not [one for one in told if one.error]
    assert "AttributeError" not in log
    assert "inferwatt: the engine's steps are not metered: this vLLM has no SchedulerOutput.num_scheduled_tokens" in log
    assert "has no SchedulerOutput.num_scheduled_tokens: step_exact is not possible" in shown
    assert [engine["tier"] for engine in live] == ["step_reconstructed"]
    assert total(page, "inferwatt_records_dropped_total") == 0
    assert len(rows) == len(told)
    assert set(found.tiers) <= {Tier.STEP_RECONSTRUCTED, None}
    assert found.tiers[Tier.STEP_RECONSTRUCTED] > 0
    for one in told:
        [row] = found.rows[one.request_id]
        assert (row.prompt_tokens, row.cached_tokens, row.output_tokens) == (one.prompt, one.cached, one.output)
        assert row.outcome is Outcome.FINISHED
        assert row.ending in {None, Ending.LENGTH}
    assert_conserved(agent.ledger)
