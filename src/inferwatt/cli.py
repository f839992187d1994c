"""The command line: parse, call, print. Each command imports what it needs when it runs, so that `--help` is quick."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from inferwatt import __version__
from inferwatt.errors import ConfigError, InferwattError
from inferwatt.estimating import estimate_command, import_usage_command
from inferwatt.printing import print_command
from inferwatt.proxying import gateway_command
from inferwatt.simulating import simulate_command

if TYPE_CHECKING:
    from inferwatt.demo.session import Options

EXIT_FAILED = 1
EXIT_CONFIG = 2
EXIT_INTERRUPTED = 130
AGENT_URL = "http://127.0.0.1:9595"
DEMO_PORT = 9595

_FOLDER = click.Path(file_okay=False, path_type=Path)
_RECORDING = click.Path(exists=True, file_okay=False, path_type=Path)
_FILE = click.Path(dir_okay=False, path_type=Path)
_TIERS = click.Choice(["step_exact", "step_reconstructed", "request_span", "token_share"])
_RULES = click.Choice(["shapley", "output_tokens", "all_tokens", "residence", "equal"])
_as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")
_config = click.option("--config", type=_FILE, help="TOML file; `inferwatt config --defaults` prints one.")


def main() -> None:
    """Run the command line: errors are told without a traceback, and decide the exit status."""
    try:
        status = cli.main(prog_name="inferwatt", standalone_mode=False)
    except click.Abort:
        status = EXIT_INTERRUPTED
    except click.ClickException as exc:
        exc.show()
        status = exc.exit_code
    except InferwattError as exc:
        click.echo(f"inferwatt: {exc}", err=True)
        status = EXIT_CONFIG if isinstance(exc, ConfigError) else EXIT_FAILED
    except KeyboardInterrupt:
        status = EXIT_INTERRUPTED
    sys.exit(status or 0)


@click.group(
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Begin with: inferwatt demo",
)
@click.version_option(__version__, prog_name="inferwatt")
def cli() -> None:
    """The energy meter of AI inference: joules per request, token, model and tenant, live."""


@cli.command(
    short_help="Meter the inference server of this machine.", epilog="Example: inferwatt agent --listen 127.0.0.1:9595"
)
@_config
@click.option("--listen", metavar="HOST:PORT", help="Where the page, /metrics and /healthz are served.")
@click.option("--record", type=_FOLDER, help="Also write a recording into this folder, for `inferwatt replay`.")
@click.option("--state-dir", type=_FOLDER, help="Where the ledger is kept.")
@click.option("--socket", type=_FILE, help="Unix socket on which the SDK hands in its requests.")
def agent(
    config: Path | None, listen: str | None, record: Path | None, state_dir: Path | None, socket: Path | None
) -> int | None:
    """Meter the inference server of this machine; no configuration is needed.

    It says in a few lines what it found, what it lacks, and one command for each lack. Ctrl-C or SIGTERM ends it.
    """
    from inferwatt import agent as agent_module

    return agent_module.main(config=config, listen=listen, record=record, state_dir=state_dir, socket=socket)


def _demo_options(function: Callable[..., Any]) -> Callable[..., Any]:
    for option in (
        click.option("--duration", type=click.FloatRange(min=1), metavar="SECONDS", help="End by itself after this."),
        click.option("--json", "as_json", is_flag=True, help="Print the summary as one JSON document, nothing else."),
        click.option(
            "--port", type=click.IntRange(0, 65535), default=DEMO_PORT, show_default=True, help="Of the page."
        ),
        click.option("--no-browser-hint", is_flag=True, help="Do not name the page's address."),
        click.option("--record", type=_FOLDER, help="Keep the recording of this run in this folder."),
        click.option(
            "--rate",
            type=click.FloatRange(min=0.01, max=100),
            default=1.0,
            show_default=True,
            help="Requests a second.",
        ),
        click.option(
            "--seed", type=int, default=1, show_default=True, help="Of the load: equal seed, equal questions."
        ),
    ):
        function = option(function)
    return function


@cli.command(short_help="A real model under a real load, metered live.", epilog="Example: inferwatt demo --duration 20")
@_demo_options
def demo(**options: Any) -> int | None:  # noqa: ANN401 - click passes what the options above declare
    """Run a real language model on the real llama.cpp server, ask it real questions, and meter it live.

    Everything runs on this machine and ends with this command: Ctrl-C, or --duration. At the end the figures are
    computed once more from a recording of the run, and must match what was shown.
    """
    from inferwatt.demo import session

    given: Options = session.Options(**options)
    return session.main(given)


@cli.command(
    context_settings={"allow_interspersed_args": False},
    short_help="The energy of any command.",
    epilog="Example: inferwatt run -- python train.py --epochs 3",
)
@click.option("--json", "as_json", is_flag=True, help="Write the summary as JSON.")
@click.option("--output", metavar="FILE", help="Write the summary here instead of to standard error.")
@click.option(
    "--interval",
    type=click.FloatRange(0.01, 60),
    default=0.1,
    show_default=True,
    metavar="SECONDS",
    help="Between readings.",
)
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
def run(as_json: bool, output: str | None, interval: float, command: tuple[str, ...]) -> int:
    """Run a command and say what energy it took: the devices' joules in that time, and the command's share.

    The command always runs; its input, output and exit status are its own. The summary goes to standard error.
    """
    from inferwatt import run as run_module

    report = run_module.run(command, interval_seconds=interval)
    run_module.tell(report, as_json=as_json, output=output)
    return report.exit_status


@cli.command(
    short_help="The last requests with their joules.",
    epilog="Example: inferwatt requests --tenant acme-support --limit 5",
)
@click.option("--limit", type=click.IntRange(1, 1000), default=20, show_default=True, help="How many.")
@click.option("--tenant", help="Only this tenant's.")
@click.option("--model", help="Only this model's.")
@click.option("--url", default=AGENT_URL, show_default=True, help="Where the agent serves.")
@_as_json
def requests(limit: int, tenant: str | None, model: str | None, url: str, as_json: bool) -> None:
    """List the last requests with their joules, from the running agent, else from its ledger."""
    from inferwatt import listing

    listing.print_requests(listing.find_requests(url, limit=limit, tenant=tenant, model=model), as_json=as_json)


@cli.command(
    short_help="Write a recording from live sources.", epilog="Example: inferwatt record monday.recording --duration 60"
)
@click.argument("folder", type=_FOLDER)
@click.option("--duration", type=click.FloatRange(min=0.1), metavar="SECONDS", help="End by itself after this.")
@_config
def record(folder: Path, duration: float | None, config: Path | None) -> int | None:
    """Record what the hardware and the servers of this machine do, into FOLDER, until Ctrl-C or --duration."""
    from inferwatt import agent as agent_module

    return agent_module.record(folder, duration_seconds=duration, config=config)


@cli.command(
    short_help="Attribute a recording's joules, the same each time.",
    epilog="Example: inferwatt replay monday.recording --rule output_tokens --json",
)
@click.argument("folder", type=_RECORDING)
@click.option("--tier", type=_TIERS, help="Use only what this tier may know; all that there is when not given.")
@click.option("--rule", type=_RULES, default="shapley", show_default=True, help="How joules are split.")
@_as_json
def replay(folder: Path, tier: str | None, rule: str, as_json: bool) -> None:
    """Run the agent's attribution over the recording in FOLDER; equal input gives equal output, to the bit."""
    from inferwatt import listing
    from inferwatt import replay as replay_module
    from inferwatt.records import Rule, Tier

    result = replay_module.replay(folder, tier=Tier(tier) if tier else None, rule=Rule(rule))
    if as_json:
        for line in result.json_lines():
            click.echo(line)
    else:
        listing.print_replay(result)
    listing.print_left_out(result.rejected)


@cli.command(
    short_help="The configuration in force, and where it came from.",
    epilog="Example: inferwatt config --defaults > inferwatt.toml",
)
@_config
@click.option("--defaults", is_flag=True, help="Print a file with every key at its default instead.")
def config(config: Path | None, defaults: bool) -> None:
    """Print the configuration in force, each value with where it came from: file, environment or default."""
    from inferwatt.config import render_defaults, render_effective
    from inferwatt.settings import AgentConfig, configuration

    text = render_defaults(AgentConfig) if defaults else render_effective(configuration(config))
    click.echo(text, nl=False)


@cli.command(short_help="Which meters this machine has.", epilog="Example: inferwatt sources --measure 2")
@_config
@click.option(
    "--measure",
    type=click.FloatRange(0.1, 3600),
    metavar="SECONDS",
    help="Also read every device for so long: how often it moves, and how many watts.",
)
@_as_json
def sources(config: Path | None, measure: float | None, as_json: bool) -> None:
    """List the devices that can be read here: what reads each, how its joules come about, and how sure they are.

    Below stands what would make a figure better and what is not measured at all, each with the command that would
    help, and what was found and is left out because its joules are counted already.
    """
    from inferwatt import listing_sources, survey
    from inferwatt.settings import configuration
    from inferwatt.sources import discover_all

    found = discover_all(configuration(config).value.sources)
    try:
        if measure:
            listing_sources.say_wait(measure)
        seen = survey.survey(found.sources, measure) if measure else {}
        listing_sources.print_sources(found, seen, as_json=as_json)
    finally:
        for source in found.sources:
            source.close()


@cli.command(short_help="Which inference servers run on this machine.", epilog="Example: inferwatt engines")
@_config
@click.option("--url", default=AGENT_URL, show_default=True, help="Where the agent serves, if one runs.")
@_as_json
def engines(config: Path | None, url: str, as_json: bool) -> None:
    """List the inference servers that were found or configured: why, their processes, and the accelerators they hold.

    Below stands what is missing to meter them, each with the command that would help, and what would tell more than
    their own pages do; of plugins inside servers what they have told the agent.
    """
    from inferwatt import holders, listing
    from inferwatt.clock import SystemClock
    from inferwatt.engines.discover import discover_all
    from inferwatt.engines.glance import glances
    from inferwatt.engines.places import Places
    from inferwatt.engines.sglang_sockets import published
    from inferwatt.settings import configuration
    from inferwatt.sources import discover_all as discover_sources

    settings = configuration(config).value
    found = discover_all(settings.engines)
    seen = glances(found.engines, settings.engines, SystemClock())
    targets = [glance.target for glance in seen]
    sources = discover_sources(settings.sources).sources if targets else ()
    try:
        places = Places(settings.engines.kubernetes)
        looks = {target.name: places.look(target.pids) for target in targets}
        where = {target.name: target.where(looks[target.name].place) for target in targets}
        proc_root = settings.sources.proc_root
        held = holders.held(sources, targets, clock=SystemClock(), places=where, proc_root=proc_root)
        plugged, absent = listing.told_by_plugins(url)
        by_look = (lack for glance in seen for lack in glance.lacks)
        lacks = (*found.lacks, *by_look, *holders.lacks(looks, held), *absent)
        listing.print_engines(
            seen,
            tuple(dict.fromkeys(lacks)),
            kinds=settings.engines.kinds,
            held=held,
            places=where,
            passes={target.name: published(target) for target in targets},
            plugged=plugged,
            as_json=as_json,
        )
    finally:
        for source in sources:
            source.close()


cli.add_command(estimate_command)
cli.add_command(gateway_command)
cli.add_command(import_usage_command)
cli.add_command(print_command)
cli.add_command(simulate_command)
