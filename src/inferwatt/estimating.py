"""The commands `inferwatt estimate` and `inferwatt import-usage`: managed APIs, whose machines nobody can meter."""

import json
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from inferwatt.clients.carbon import Intensity
    from inferwatt.clients.coverage import Coverage, Tokens
    from inferwatt.clients.estimates import Estimate, Shape, Work
    from inferwatt.clients.registry import Registry
    from inferwatt.clients.usage_reports import Report

WH_JOULES = 3600.0
DAY_SECONDS = 86_400
_FILE = click.Path(dir_okay=False, path_type=Path)
_COUNT = click.IntRange(min=0)
_registry = click.option("--registry", type=_FILE, envvar="INFERWATT_REGISTRY", help="Models of your own, over ours.")
_as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON instead of words.")


@click.command(
    "estimate",
    short_help="What one request to a managed API is estimated to use.",
    epilog="Example: inferwatt estimate --model gpt-4o --prompt-tokens 400 --output-tokens 250",
)
@click.option("--model", required=True, help="As the provider spells it; dates and prefixes may stay.")
@click.option("--provider", default="", help="openai, anthropic, ...: for the building in EcoLogits' figure.")
@click.option("--prompt-tokens", type=_COUNT, help="The whole prompt, cached tokens too.")
@click.option("--cached-tokens", "--cached", type=_COUNT, help="What of the prompt was read from a cache.")
@click.option("--output-tokens", type=_COUNT, help="All that was generated, reasoning too.")
@click.option("--reasoning-tokens", "--reasoning", type=_COUNT, help="What of the output was reasoning.")
@click.option(
    "--seconds-to-last-token", type=click.FloatRange(min=0, min_open=True), help="From request to last token."
)
@click.option("--seconds-to-first-token", type=click.FloatRange(min=0, min_open=True), help="From request to first.")
@click.option("--batch", type=click.FloatRange(min=0, min_open=True), help="Requests at once, where that is known.")
@click.option("--gpus", type=click.IntRange(min=1), help="GPUs of one replica, where that is known.")
@click.option("--gpu-kind", type=click.Choice(["H100", "B200"]), help="Their kind, where that is known.")
@click.option(
    "--carbon-grams-per-kwh",
    type=float,
    envvar="INFERWATT_ESTIMATES__CARBON_GRAMS_PER_KWH",
    help="What the electricity emits, grams of CO2e; without it no emissions are printed.",
)
@click.option("--carbon-source", envvar="INFERWATT_ESTIMATES__CARBON_SOURCE", default="", help="Where that is from.")
@_registry
@_as_json
def estimate_command(model: str, provider: str, registry: Path | None, as_json: bool, **told: Any) -> None:  # noqa: ANN401 - click passes what the options above declare
    """Estimate the energy of one request to a managed API, by two methods, ours with a 90% interval.

    It is the energy of the machines that serve it, without the building. An estimate is never a measurement; what it
    was told and what it had to assume stand beside it. With --batch, --gpus, --gpu-kind and --seconds-to-last-token
    it also says what a server that you see, but cannot meter, uses.
    """
    from inferwatt.clients.registry import load

    shape = load(registry).find(model)
    work, carbon = _work(told), _carbon(told)
    made = list(_by_every_method(shape, work))
    if as_json:
        click.echo(json.dumps([_document(each, shape, work, provider) | _emitted(each, carbon) for each in made]))
        return
    click.echo(f"{shape.model}: {'known' if shape.known else 'not known: any model'} ({shape.source})")
    for each in made:
        _say(each)
        if emitted := _emitted(each, carbon):
            low, high = emitted["emissions_low_co2e_grams"], emitted["emissions_high_co2e_grams"]
            figure = f"{emitted['emissions_co2e_grams']:.3g} g CO2e, {low:.3g} to {high:.3g}"
            click.echo(f"  {figure} ({emitted['emissions_source']})")
    for words in _beside(shape, work, provider):
        click.echo(words)


def _work(told: dict[str, Any]) -> "Work":
    from inferwatt.clients.estimates import Work

    try:
        return Work(
            prompt_tokens=told["prompt_tokens"],
            cached_tokens=told["cached_tokens"],
            output_tokens=told["output_tokens"],
            reasoning_tokens=told["reasoning_tokens"],
            seconds=told["seconds_to_last_token"],
            first_token_seconds=told["seconds_to_first_token"],
            batch=told["batch"],
            gpus=told["gpus"],
            gpu_kind=told["gpu_kind"] or "",
        )
    except ValueError as exc:
        raise click.UsageError(str(exc)) from None


def _carbon(told: dict[str, Any]) -> "Intensity | None":
    from inferwatt.clients.carbon import intensity

    try:
        return intensity(told["carbon_grams_per_kwh"], told["carbon_source"])
    except ValueError as exc:
        raise click.UsageError(str(exc)) from None


def _emitted(made: "Estimate", carbon: "Intensity | None") -> dict[str, Any]:
    """Return an estimate's emissions; nothing where nobody has said what electricity emits."""
    return {} if carbon is None else carbon.of(made.energy_joules, made.low_joules, made.high_joules)


def _by_every_method(shape: "Shape", work: "Work") -> "Iterator[Estimate]":
    from inferwatt.clients import ecologits, ours
    from inferwatt.clients.registry import coefficients

    yield ours.estimate(shape, work, coefficients())
    if work.output_tokens:
        yield ecologits.estimate(shape, work)


def _document(made: "Estimate", shape: "Shape", work: "Work", provider: str) -> dict[str, Any]:
    from inferwatt.clients import ecologits

    document = asdict(made)
    if made.method == ecologits.METHOD and provider in ecologits.PUE:
        document["site_low_joules"], document["site_high_joules"] = ecologits.site_joules(shape, work, provider)
    return document


def _say(made: "Estimate") -> None:
    from inferwatt.clients import ecologits

    low, high = made.low_joules / WH_JOULES, made.high_joules / WH_JOULES
    how = "between" if made.method == ecologits.METHOD else "90% between"
    click.echo(f"\n{made.method}: {made.energy_joules / WH_JOULES:.3g} Wh, {how} {low:.3g} and {high:.3g} Wh")
    for part in made.parts:
        click.echo(f"  {part.phase:8} {part.energy_joules:10.4g} J   {part.basis}")
    if made.reasoning_joules is not None:
        click.echo(f"  of which reasoning {made.reasoning_joules:.4g} J")
    click.echo(f"  accelerators alone {made.accelerator_joules:.4g} J; {made.basis}")


def _beside(shape: "Shape", work: "Work", provider: str) -> Iterator[str]:
    from inferwatt.clients import ecologits, ours
    from inferwatt.clients.registry import coefficients

    if provider in ecologits.PUE and work.output_tokens:
        low, high = (joules / WH_JOULES for joules in ecologits.site_joules(shape, work, provider))
        yield f"  as EcoLogits publishes it, with {provider}'s buildings: {low:.3g} to {high:.3g} Wh"
    if None not in {work.batch, work.gpus, work.inter_token_ms} and work.gpu_kind and work.output_tokens:
        seen = ours.visible_joules(work, coefficients())
        yield (
            f"\nseen, not metered: {seen.value:.4g} J of accelerators, 90% between {seen.low:.4g} and {seen.high:.4g} J"
            " (GPUs * watts of their kind * time between tokens / batch)"
        )


@click.command(
    "import-usage",
    short_help="What a provider reports, how much of it passed us, and the rest.",
    epilog="Example: inferwatt import-usage openai-usage.json --json",
)
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--ledger", type=_FILE, help="The ledger to compare with; the agent's own when not given.")
@_registry
@_as_json
def import_usage_command(file: Path, ledger: Path | None, registry: Path | None, as_json: bool) -> None:
    """Compare a provider's own usage report with the ledger: coverage, and the rest as an estimate by day and model.

    FILE is OpenAI's or Anthropic's usage API answer, grouped by model, or their CSV export. Nothing is written: what
    bypassed this meter stays an estimate of its own and is never added to what was measured.
    """
    from inferwatt.clients import usage_reports
    from inferwatt.clients.registry import load

    report = usage_reports.read(file.read_text("utf-8", errors="replace"), file.name)
    compared = _compare(report, _seen(report, ledger), load(registry))
    if as_json:
        click.echo(json.dumps(_coverage_document(compared, report), default=str))
        return
    _say_coverage(compared, report)


def _seen(report: "Report", ledger: Path | None) -> "dict[tuple[str, str], Tokens]":
    """Return the tokens of each day (UTC) and model name that passed us to the report's provider, if there is a ledger.

    What others serve under the same name (Azure, a server of one's own) is not in that report.
    """
    from inferwatt.listing import ledger_path

    path = ledger or ledger_path()
    if not path.is_file():
        click.echo(f"there is no ledger at {path}: nothing of it is known to have passed", err=True)
        return {}
    return dict(_days(report, path)) if report.usages else {}


def _days(report: "Report", path: Path) -> "Iterator[tuple[tuple[str, str], Tokens]]":
    from datetime import UTC, datetime

    from inferwatt.clients.coverage import Tokens
    from inferwatt.clients.hosts import PROVIDERS
    from inferwatt.ledger.queries import LedgerReader

    provider = report.usages[0].provider
    midnights = {
        usage.day: datetime.combine(usage.day, datetime.min.time(), UTC).timestamp() for usage in report.usages
    }
    reader = LedgerReader.open(path)
    try:
        for day, start in sorted(midnights.items()):
            sums: dict[str, Tokens] = {}
            for key, value in reader.hours(start, start + DAY_SECONDS).items():
                is_proxy = key.provenance == "estimated" and key.server not in PROVIDERS.values()
                if key.server != provider and not is_proxy:
                    continue
                found = Tokens(value.prompt_tokens, value.cached_tokens, value.output_tokens, value.requests)
                sums[key.model] = sums.get(key.model, Tokens()).plus(found)
            yield from (((day.isoformat(), model), tokens) for model, tokens in sums.items())
    finally:
        reader.close()


def _compare(report: "Report", seen: "dict[tuple[str, str], Tokens]", registry: "Registry") -> "Coverage":
    from inferwatt.clients import coverage
    from inferwatt.clients.registry import coefficients

    lines = coverage.matched(report.usages, seen, registry.key)
    shapes = {key: registry.find(key[2]) for key, _, _ in lines}
    return coverage.compare(coverage.line(key, told, had, shapes[key], coefficients()) for key, told, had in lines)


def _coverage_document(compared: "Coverage", report: "Report") -> dict[str, Any]:
    return {
        "coverage_ratio": compared.ratio,
        "beyond_tokens": compared.beyond_tokens,
        "provenance": "estimated",
        "left_out": dict(report.left_out),
        "more_pages": report.is_cut,
        "lines": [asdict(line) for line in compared.lines],
    }


def _say_coverage(compared: "Coverage", report: "Report") -> None:
    ratio = "nothing is reported" if compared.ratio is None else f"{100 * compared.ratio:.1f}% of the reported tokens"
    click.echo(f"passed this meter: {ratio}")
    if compared.beyond_tokens:
        click.echo(f"beyond the report: {compared.beyond_tokens} tokens passed that it does not have")
    if report.is_cut:
        click.echo("the report goes on: more pages belong to it (has_more)")
    for what, count in report.left_out.items():
        click.echo(f"left out: {count} results of {what}, which are no tokens")
    click.echo("\nthe rest, estimated (Wh, 90% interval), never added to what was measured:")
    for line in compared.lines:
        if line.energy_joules is None or line.low_joules is None or line.high_joules is None:
            continue
        middle, low, high = (value / WH_JOULES for value in (line.energy_joules, line.low_joules, line.high_joules))
        tokens = f"{line.rest.prompt} prompt, {line.rest.output} output"
        name = line.model or "(not grouped by model)"
        click.echo(f"  {line.day} {name:32} {tokens:34} {middle:.3g} ({low:.3g} to {high:.3g})")
