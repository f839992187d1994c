"""What the commands print: requests, a replay, meters and servers, as a table for people or as JSON lines."""

import json
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import click
import msgspec
from rich.console import Console
from rich.table import Table

from inferwatt.engines.glance import Glance
from inferwatt.engines.plugged import VLLM
from inferwatt.engines.servers import ServerKind, Target
from inferwatt.engines.trees import python_of
from inferwatt.errors import Unavailable
from inferwatt.ledger.queries import LedgerReader
from inferwatt.records import Place
from inferwatt.replay import ReplayResult
from inferwatt.settings import configuration, state_folder
from inferwatt.snapshot import EngineView, Lack
from inferwatt.units import NS_PER_SECOND
from inferwatt.views import request_view

MOST_LEFT_OUT = 20
TIMEOUT_SECONDS = 5.0
UNKNOWN = "-"
PIPED_COLUMNS = 160
LEDGER_NAME = "ledger.sqlite"

Row = Mapping[str, Any]


class _Told(msgspec.Struct):
    """What of an agent's snapshot is of plugins."""

    engines: tuple[EngineView, ...] = ()
    lacks: tuple[Lack, ...] = ()


class NoAgent(Unavailable):
    """Nobody answers at the agent's address: the ledger may."""


def find_requests(url: str, *, limit: int, tenant: str | None, model: str | None) -> list[Row]:
    """Return the last requests, newest first: from the agent at `url`, else from the ledger that it left.

    Raises:
        Unavailable: no agent answers there and there is no ledger, or the agent refuses.
    """
    try:
        return _from_agent(url, limit=limit, tenant=tenant, model=model)
    except NoAgent as exc:
        rows = _from_ledger(limit=limit, tenant=tenant, model=model)
        if rows is None:
            raise
        click.echo(f"{exc.what}: this is from the ledger", err=True)
        return rows


def ledger_path() -> Path:
    """Return where the agent of this user keeps its ledger, whether it is there or not."""
    settings = configuration(None).value
    return Path(settings.ledger.path) if settings.ledger.path else state_folder(settings.agent) / LEDGER_NAME


def _from_ledger(*, limit: int, tenant: str | None, model: str | None) -> list[Row] | None:
    """Return the last requests of the ledger, None where there is none; only read, so that an agent can start."""
    path = ledger_path()
    if not path.is_file():
        return None
    reader = LedgerReader.open(path)
    try:
        rows = reader.requests(limit, tenant=tenant, model=model)
    finally:
        reader.close()
    return [
        msgspec.to_builtins(request_view(row.request, row.energy, row.server, row.end_unix_ns / NS_PER_SECOND))
        for row in rows
    ]


def _from_agent(url: str, *, limit: int, tenant: str | None, model: str | None) -> list[Row]:
    wanted = {"limit": str(limit), "tenant": tenant, "model": model}
    query = urllib.parse.urlencode({key: value for key, value in wanted.items() if value is not None})
    address = f"{url.rstrip('/')}/v1/requests?{query}"
    document = _asked(address, url)
    rows = document.get("requests") if isinstance(document, dict) else document
    if not isinstance(rows, list):
        raise Unavailable("this is not an inferwatt agent", where=address, fix="--url http://127.0.0.1:9595")
    return rows


def told_by_plugins(url: str) -> tuple[tuple[EngineView, ...], tuple[Lack, ...]]:
    """Return what plugins inside servers have told the agent at `url`: what they tell, and what they lack.

    Nothing where no agent answers there, or it says nothing of them.
    """
    try:
        told = msgspec.convert(_asked(f"{url.rstrip('/')}/v1/snapshot", url), _Told)
    except (Unavailable, msgspec.ValidationError):
        return (), ()
    return told.engines, tuple(lack for lack in told.lacks if lack.source == VLLM)


def _asked(address: str, url: str) -> object:
    if urllib.parse.urlsplit(address).scheme not in {"http", "https"}:
        raise Unavailable("not an address of an agent", where=url, fix="--url http://127.0.0.1:9595")
    try:
        with urllib.request.urlopen(address, timeout=TIMEOUT_SECONDS) as answer:
            return json.load(answer)
    except urllib.error.HTTPError as exc:
        raise Unavailable(f"the agent refuses: {exc.code} {exc.reason}", where=address, fix="inferwatt agent") from exc
    except (OSError, ValueError) as exc:
        reason = getattr(exc, "reason", exc)
        raise NoAgent(f"no agent answers: {reason}", where=url, fix="start one: inferwatt agent") from exc


def print_requests(rows: Iterable[Row], *, as_json: bool) -> None:
    """Print requests, a line each."""
    if as_json:
        print_lines(rows)
        return
    table = _table(
        "request", "model", "tenant", "outcome", "prompt/cached/output", "joules", "90% split", "± sensor", "how"
    )
    for row in rows:
        tokens = "/".join(_text(row.get(f"{kind}_tokens")) for kind in ("prompt", "cached", "output"))
        table.add_row(
            _text(row.get("response_id") or row.get("request"))[-24:],
            _text(row.get("model_name")),
            _text(row.get("tenant")),
            _text(row.get("outcome")),
            tokens,
            *_energy(row),
            f"{_text(row.get('provenance'))}, {_text(row.get('tier'))}",
        )
    _print(table, "no request yet")


def print_replay(result: ReplayResult) -> None:
    """Print what a replay settled: requests, then the accounts of each device."""
    rows = list(result.rows())
    table = _table("request", "model", "tenant", "joules", "90% split", "± sensor", "how")
    for row in (row for row in rows if "request" in row):
        how = f"{_text(row.get('provenance'))}, {_text(row.get('tier'))}"
        table.add_row(
            _text(row["request"])[-24:], _text(row.get("model")), _text(row.get("tenant")), *_energy(row), how
        )
    _print(table, "no request")
    table = _table("device", "account", ("joules", True), "how")
    for row in (row for row in rows if "device" in row):
        how = f"{row['provenance']}, ±{row['systematic_ratio']:.0%}"
        accounts = [key for key in row if key.endswith("_joules")]
        for key in accounts:
            name = key.removesuffix("_joules").replace("_", " ")
            table.add_row(row["device"], name, f"{row[key]:.6f}", how)
    _print(table, "no device")


def print_left_out(lines: Sequence[str]) -> None:
    """Say which lines of a recording were left out, the first of many."""
    for line in lines[:MOST_LEFT_OUT]:
        click.echo(f"left out: {line}", err=True)
    if len(lines) > MOST_LEFT_OUT:
        click.echo(f"left out: {len(lines) - MOST_LEFT_OUT} more", err=True)


def print_engines(
    engines: Sequence[Glance],
    lacks: Sequence[Lack],
    *,
    kinds: Mapping[str, ServerKind],
    held: Mapping[str, tuple[str, ...]] | None = None,
    places: Mapping[str, Place] | None = None,
    passes: Mapping[str, tuple[str, ...]] | None = None,
    plugged: Sequence[EngineView] = (),
    as_json: bool,
) -> None:
    """Print the inference servers that were found and why, what they hold, what is missing, and what would tell more.

    Args:
        engines: the servers, as one look found them.
        lacks: what keeps them from being metered in full.
        kinds: all kinds of server.
        held: by server, the accelerators that it holds; None where the machine has none.
        places: by server, where it runs, as far as that is known.
        passes: by server, where it publishes what each of its steps did.
        plugged: the servers in which our plugin is.
        as_json: one object a line, for programs.
    """
    if as_json:
        _print_engine_lines(engines, lacks, held=held, places=places or {}, passes=passes or {}, plugged=plugged)
        return
    pods = {name: place for name, place in (places or {}).items() if place.pod}
    columns = ("server", "address", "state", "model", "found by", "processes", "accelerators")
    table = _table(*columns, *(["pod"] if pods else []))
    for seen in engines:
        engine = seen.target
        pids = " ".join(map(str, sorted(engine.pids)))
        accelerators = "none here" if held is None else " ".join(held.get(engine.name, ())) or "cannot map"
        cells = (seen.state.replace("_", " "), engine.model, engine.why, pids, accelerators)
        row = (engine.name, engine.url, *map(_text, cells))
        table.add_row(*row, *([_pod(pods.get(engine.name))] if pods else []))
    _print(table, "no inference server found")
    _print_lacks(lacks)
    _print_better([seen.target for seen in engines if seen.is_one], kinds, passes or {}, plugged)


def _print_engine_lines(
    engines: Sequence[Glance],
    lacks: Sequence[Lack],
    *,
    held: Mapping[str, tuple[str, ...]] | None,
    places: Mapping[str, Place],
    passes: Mapping[str, tuple[str, ...]],
    plugged: Sequence[EngineView],
) -> None:
    tiers = {view.server: view.tier for view in plugged}
    for seen in engines:
        name = seen.target.name
        row = msgspec.to_builtins(seen.target) | {"state": seen.state, "version": seen.version}
        row |= {"accelerators": (held or {}).get(name), "place": msgspec.to_builtins(places.get(name))}
        print_lines([row | {"passes": passes.get(name, ()), "tier": tiers.get(name)}])
    print_lines(msgspec.to_builtins(lack) for lack in lacks)


def _print_better(
    engines: Sequence[Target],
    kinds: Mapping[str, ServerKind],
    passes: Mapping[str, tuple[str, ...]],
    plugged: Sequence[EngineView],
) -> None:
    """Print by what servers are metered beyond their pages, and for the others the one command that would do it."""
    for view in plugged:
        click.echo(
            f"plugin: {view.server} ({view.kind} {view.version}) tells its requests by the best tier {view.tier}"
        )
    told = {view.server for view in plugged}
    for engine in engines:
        kind, addresses = kinds[engine.kind], passes.get(engine.name, ())
        if addresses:
            click.echo(f"steps: {engine.name} tells what each did, at {' '.join(addresses)}")
        elif kind.steps_fix:
            click.echo(f"steps: {engine.name} does not tell what each did; {kind.steps_fix}")
        if engine.name not in told:
            told_by = f"each request of {engine.name} ({kind.better_tier}) is told by"
            click.echo(f"better: {told_by}: {kind.better_of(engine.url, python_of(engine.pids))}")


def _pod(place: Place | None) -> str:
    """Return where a server runs, as kubectl's users write it."""
    return "/".join(name for name in (place.namespace, place.pod, place.container) if name) if place else UNKNOWN


def print_lines(rows: Iterable[Row]) -> None:
    """Print one JSON object a line."""
    for row in rows:
        click.echo(json.dumps(row))


def _print_lacks(lacks: Iterable[Lack]) -> None:
    for lack in lacks:
        click.echo(f"lacks: {lack.what} ({lack.where}); fix: {lack.fix}")


def _energy(row: Row) -> tuple[str, str, str]:
    if row.get("energy_joules") is None:
        return UNKNOWN, UNKNOWN, UNKNOWN
    between = f"{row['low_joules']:.3g} to {row['high_joules']:.3g}"
    return f"{row['energy_joules']:.4g}", between, f"{row['systematic_ratio']:.0%}"


def _text(value: object) -> str:
    return UNKNOWN if value is None or value == "" else str(value)


def _table(*columns: str | tuple[str, bool]) -> Table:
    """Return an empty table; a column that is given with True holds numbers."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        name, is_number = (column, False) if isinstance(column, str) else column
        table.add_column(name, overflow="fold", justify="right" if is_number else "left")
    return table


def _print(table: Table, if_empty: str) -> None:
    if not table.row_count:
        click.echo(if_empty)
        return
    console = Console()
    if not console.is_terminal:
        console.width = PIPED_COLUMNS
    console.print(table)
