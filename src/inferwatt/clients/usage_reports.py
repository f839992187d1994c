"""What a provider itself says was used: OpenAI's and Anthropic's usage API and exports, as lines by day and model.

The forms, each as its provider documents it:

- OpenAI, `GET /v1/organization/usage/completions` (and `/embeddings`), grouped by model: pages of buckets with
  `start_time` in Unix seconds; `input_tokens` has the cached ones in it. The dashboard's CSV has the same columns.
- Anthropic, `GET /v1/organizations/usage_report/messages`, grouped by model: buckets with `starting_at`;
  `uncached_input_tokens`, `cache_creation` and `cache_read_input_tokens` are apart. No number of requests.
- Anthropic's Console, Usage, export: CSV with `usage_date_utc`, `model_version`, `usage_input_tokens_no_cache`, ...

A file holds one page, a list of pages, or a page a line. What is in it and is not tokens is named, not dropped.
"""

import csv
import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Any

from inferwatt.errors import ConfigError

OPENAI_TOKENS = ("organization.usage.completions.result", "organization.usage.embeddings.result")
FIX = "export it grouped by model, by day: docs/estimates.md, Usage reports"
ANTHROPIC_COLUMNS = {
    "uncached_input_tokens": "usage_input_tokens_no_cache",
    "cache_read_input_tokens": "usage_input_tokens_cache_read",
    "output_tokens": "usage_output_tokens",
}
ANTHROPIC_WRITES = ("usage_input_tokens_cache_write_5m", "usage_input_tokens_cache_write_1h")


@dataclass(frozen=True, slots=True)
class Usage:
    """One model on one day (UTC) by its provider's word; `prompt_tokens` has the cached ones in it, as everywhere.

    `requests` is None where the provider does not tell; an empty model is one that the report was not grouped by.
    """

    day: date
    provider: str
    model: str
    prompt_tokens: int
    cached_tokens: int
    output_tokens: int
    requests: int | None = None


@dataclass(frozen=True, slots=True)
class Report:
    """A report: its lines by day and model, what was in it that is not tokens, and whether more pages belong to it."""

    usages: tuple[Usage, ...]
    left_out: Mapping[str, int]
    is_cut: bool = False


def read(text: str, name: str) -> Report:
    """Return what a file says.

    Raises:
        ConfigError: it is none of the forms, or a figure in it is not one.
    """
    try:
        if text.lstrip("\ufeff \r\n\t")[:1] in {"{", "["}:
            return _pages(_documents(text), name)
        return _table(text.lstrip("\ufeff"), name)
    except (AttributeError, KeyError, TypeError, ValueError, OverflowError, OSError, csv.Error) as exc:
        raise ConfigError(f"is not a usage report of a known form: {exc!r}", where=name, fix=FIX) from None


def _documents(text: str) -> Iterator[Any]:
    """Yield the pages of a file: one, a list of them, or one a line."""
    try:
        document = json.loads(text.lstrip("\ufeff"))
    except json.JSONDecodeError:
        yield from (json.loads(line) for line in text.lstrip("\ufeff").splitlines() if line.strip())
        return
    yield from document if isinstance(document, list) else [document]


def _pages(pages: Iterable[Any], name: str) -> Report:
    usages: list[Usage] = []
    left_out: Counter[str] = Counter()
    is_cut = False
    for page in pages:
        is_cut = bool(page.get("has_more"))
        for bucket in page["data"]:
            for result in bucket["results"]:
                usage = _result(bucket, result)
                if usage is None:
                    left_out[str(result.get("object"))] += 1
                else:
                    usages.append(usage)
    return Report(_summed(usages), dict(left_out), is_cut)


def _result(bucket: Mapping[str, Any], result: Mapping[str, Any]) -> Usage | None:
    """Return one line of a bucket; None where it is no use of tokens."""
    if "starting_at" in bucket:
        begun = datetime.fromisoformat(bucket["starting_at"])
        day = (begun if begun.tzinfo else begun.replace(tzinfo=UTC)).astimezone(UTC).date()
        written = sum(_count(value) for value in (result.get("cache_creation") or {}).values())
        return _anthropic(day, result.get("model"), result, written)
    if result["object"] not in OPENAI_TOKENS:
        return None
    return _openai(_day(bucket["start_time"]), result)


def _openai(day: date, row: Mapping[str, Any]) -> Usage:
    return Usage(
        day=day,
        provider="openai",
        model=row.get("model") or "",
        prompt_tokens=_count(row["input_tokens"]),
        cached_tokens=_count(row.get("input_cached_tokens")),
        output_tokens=_count(row.get("output_tokens")),
        requests=_count(row["num_model_requests"]),
    )


def _anthropic(day: date, model: str | None, row: Mapping[str, Any], written: int) -> Usage:
    """Return one line; what was written to a cache was computed, what was read from one was not."""
    read_from_cache = _count(row["cache_read_input_tokens"])
    computed = _count(row["uncached_input_tokens"]) + written
    return Usage(
        day=day,
        provider="anthropic",
        model=model or "",
        prompt_tokens=computed + read_from_cache,
        cached_tokens=read_from_cache,
        output_tokens=_count(row["output_tokens"]),
    )


def _table(text: str, name: str) -> Report:
    rows = csv.DictReader(text.splitlines())
    columns = set(rows.fieldnames or ())
    if "usage_date_utc" in columns:
        return Report(_summed(_console_row(row) for row in rows), {})
    if {"start_time", "input_tokens", "num_model_requests"} <= columns:
        return Report(_summed(_openai(_day(row["start_time"]), row) for row in rows if row["input_tokens"]), {})
    if columns == {"start_time", "end_time", "start_time_iso", "end_time_iso"}:  # OpenAI's export of a time without use
        return Report((), {})
    raise ConfigError(f"is no usage report: columns {', '.join(sorted(columns))[:200]}", where=name, fix=FIX)


def _console_row(row: Mapping[str, str]) -> Usage:
    given = {key: row[column] for key, column in ANTHROPIC_COLUMNS.items()}
    written = sum(_count(row.get(column)) for column in ANTHROPIC_WRITES)
    return _anthropic(date.fromisoformat(row["usage_date_utc"][:10]), row["model_version"], given, written)


def _day(unix_seconds: object) -> date:
    return datetime.fromtimestamp(float(str(unix_seconds)), tz=UTC).date()


def _count(value: object) -> int:
    """Return a number of tokens or requests; what is not said is none of them.

    Raises:
        ValueError: it is no number, or less than none.
    """
    number = float(str(value)) if value not in {None, ""} else 0.0
    if number < 0 or number != int(number):
        raise ValueError(f"{value} is not a number of tokens")
    return int(number)


def _summed(usages: Iterable[Usage]) -> tuple[Usage, ...]:
    """Return one line for each day and model: keys, projects and tiers of one model are one."""
    lines: dict[tuple[date, str, str], list[Usage]] = defaultdict(list)
    for usage in usages:
        lines[usage.day, usage.provider, usage.model].append(usage)
    return tuple(_sum(key, lines[key]) for key in sorted(lines))


def _sum(key: tuple[date, str, str], usages: list[Usage]) -> Usage:
    told = [usage.requests for usage in usages if usage.requests is not None]
    return Usage(
        *key,
        prompt_tokens=sum(usage.prompt_tokens for usage in usages),
        cached_tokens=sum(usage.cached_tokens for usage in usages),
        output_tokens=sum(usage.output_tokens for usage in usages),
        requests=sum(told) if len(told) == len(usages) else None,
    )
