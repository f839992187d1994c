"""The commands of managed APIs."""

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from inferwatt.cli import cli
from inferwatt.ledger.rows import LedgerBatch
from inferwatt.records import Component, EnergyPart, Provenance, RequestEnergy, Tier
from tests.ledger.books import batch, open_ledger, row


def invoke(*arguments: str | Path) -> Result:
    """Run a command line."""
    return CliRunner().invoke(cli, [str(argument) for argument in arguments])


def estimated(*arguments: str) -> list[dict[str, Any]]:
    """Return what `estimate --json` prints."""
    made: list[dict[str, Any]] = json.loads(invoke("estimate", *arguments, "--json").output)
    return made


def test_two_methods_stand_side_by_side() -> None:
    """Ours and EcoLogits', each with its interval, provenance and basis."""
    ours, theirs = estimated("--model", "gpt-4o", "--prompt-tokens", "400", "--output-tokens", "250")

    assert (ours["method"], theirs["method"]) == ("inferwatt-1", "ecologits-0.11.3")
    for made in (ours, theirs):
        assert made["provenance"] == "estimated"
        assert 0 < made["low_joules"] < made["energy_joules"] < made["high_joules"]
    assert ours["prefill"]["energy_joules"] > 0
    assert theirs["prefill"] is None


def test_people_read_watt_hours_and_where_they_are_from() -> None:
    """The words name model, source, interval and what had to be assumed."""
    said = invoke(
        "estimate", "--model", "gpt-4o", "--provider", "openai", "--prompt-tokens", "400", "--output-tokens", "250",
        "--reasoning", "50",
    ).output  # fmt: skip

    for words in ("EcoLogits 0.11.3's assumption", "90% between", "batch not known", "reasoning", "openai's buildings"):
        assert words in said


def test_a_server_that_is_seen_needs_no_model() -> None:
    """With GPUs, their kind, the batch and the time there is a third figure."""
    said = invoke(
        "estimate", "--model", "mine", "--output-tokens", "100", "--seconds-to-last-token", "3", "--batch", "32",
        "--gpus", "8", "--gpu-kind", "H100",
    ).output  # fmt: skip

    assert "seen, not metered: 407.1 J" in said  # 8 * 542.8 W * 30 ms / 32 * 100
    assert "not known: any model" in said


def test_nothing_to_estimate_from_is_a_usage_error() -> None:
    """Without tokens there is no figure, and no traceback."""
    failed = invoke("estimate", "--model", "gpt-4o")

    assert failed.exit_code == 2
    assert "nothing to estimate from" in failed.output


def test_emissions_are_printed_where_a_kwh_is_given() -> None:
    """A small one has its digits; without a source it is a usage error, and without a figure there is none."""
    asked = ["estimate", "--model", "gpt-4o", "--output-tokens", "1", "--carbon-grams-per-kwh", "20"]
    told = invoke(*asked, "--carbon-source", "Ember 2024, Sweden", "--json")
    [ours, _] = json.loads(told.stdout)
    words = invoke(*asked, "--carbon-source", "Ember 2024, Sweden").stdout

    assert ours["emissions_co2e_grams"] == pytest.approx(ours["energy_joules"] * 20 / 3.6e6)
    assert "(20 g/kWh, Ember 2024, Sweden)" in words
    assert " 0 g CO2e" not in words
    assert invoke(*asked).exit_code == 2
    assert "CO2e" not in invoke(*asked[:-2]).stdout


def test_a_users_registry_counts(tmp_path: Path) -> None:
    """--registry stands over ours."""
    own = tmp_path / "own.toml"
    own.write_text('[[from]]\nsource = "our contract"\n[from.models]\n"prod" = { total = 8, bits = 8 }\n')
    (ours, _) = estimated("--model", "prod", "--output-tokens", "100", "--registry", str(own))

    assert ours["known_model"] is True
    assert "our contract" in ours["basis"]


@pytest.fixture
def report(tmp_path: Path) -> Path:
    """A day of OpenAI's, 3,000 tokens of the model of tests/ledger/books.py on the day of its rows."""
    first = row(1)
    result = {
        "object": "organization.usage.completions.result",
        "input_tokens": 10 * (first.request.prompt_tokens or 0),
        "output_tokens": 10 * (first.request.output_tokens or 0),
        "num_model_requests": 10,
        "model": first.request.model,
    }
    start = first.end_unix_ns // 10**9 // 86_400 * 86_400
    page = {"object": "page", "data": [{"start_time": start, "results": [result]}], "has_more": False}
    file = tmp_path / "usage.json"
    file.write_text(json.dumps(page))
    return file


def test_a_report_is_compared_with_the_ledger(tmp_path: Path, report: Path) -> None:
    """Four of ten requests are in the ledger: 40% passed, and six are estimated."""
    path = tmp_path / "ledger.sqlite"
    ledger = open_ledger(path)
    ledger.commit(batch(1, 2, 3, 4, server="openai"))
    ledger.close()
    compared = json.loads(invoke("import-usage", report, "--ledger", path, "--json").stdout)

    assert compared["coverage_ratio"] == pytest.approx(0.4)
    assert compared["lines"][0]["rest"]["requests"] == 6
    assert compared["lines"][0]["energy_joules"] > 0
    assert "passed this meter: 40.0%" in invoke("import-usage", report, "--ledger", path).output


def test_what_others_serve_is_not_in_a_providers_report(tmp_path: Path, report: Path) -> None:
    """The same model at Azure, or on a server of one's own, covers nothing of OpenAI's; by one's own proxy it does."""
    path = tmp_path / "ledger.sqlite"
    part = EnergyPart(Component.ACCELERATOR, Provenance.ESTIMATED, 1, 2, 1, 9, 0.0)
    by_proxy = row(6, server="llm-proxy.internal", energy=RequestEnergy("r6", (part,), Tier.TOKEN_SHARE, final=True))
    ledger = open_ledger(path)
    ledger.commit(batch(1, 2, server="azure.ai.openai"))
    ledger.commit(batch(3, 4, server="vllm:8000"))
    ledger.commit(batch(5, server="openai"))
    ledger.commit(LedgerBatch(rows=[by_proxy]))
    ledger.close()

    compared = json.loads(invoke("import-usage", report, "--ledger", path, "--json").stdout)

    assert compared["coverage_ratio"] == pytest.approx(0.2)


def test_without_a_ledger_nothing_passed(tmp_path: Path, report: Path) -> None:
    """No ledger is said, and the whole report is estimated."""
    said = invoke("import-usage", report, "--ledger", tmp_path / "none.sqlite")

    assert "there is no ledger at" in said.stderr
    assert "passed this meter: 0.0%" in said.stdout
