"""A provider's own report: its forms, how much of it passed us, and the rest.

The documents have the fields of the providers' API references (OpenAI: organization usage, completions and embeddings;
Anthropic: messages usage report, and the Console's CSV export). Their numbers are synthetic.
"""

import json
from collections.abc import Iterator
from datetime import date
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inferwatt.clients.coverage import Tokens, compare, line, matched
from inferwatt.clients.registry import coefficients, load
from inferwatt.clients.usage_reports import Usage, read
from inferwatt.errors import ConfigError

MIDNIGHT = 1_730_419_200  # 2024-11-01T00:00:00Z
COMPLETIONS = {
    "object": "organization.usage.completions.result",
    "input_tokens": 1000,
    "output_tokens": 500,
    "input_cached_tokens": 800,
    "num_model_requests": 5,
    "project_id": None,
    "user_id": None,
    "api_key_id": "key_1",
    "model": "gpt-4o-2024-08-06",
    "batch": None,
}
MESSAGES = {
    "uncached_input_tokens": 1500,
    "cache_creation": {"ephemeral_1h_input_tokens": 1000, "ephemeral_5m_input_tokens": 500},
    "cache_read_input_tokens": 200,
    "output_tokens": 500,
    "server_tool_use": {"web_search_requests": 10},
    "api_key_id": None,
    "model": "claude-opus-4-1-20250805",
    "service_tier": "standard",
}
CONSOLE = (
    "usage_date_utc,model_version,api_key,workspace,usage_type,context_window,usage_input_tokens_no_cache,"
    "usage_input_tokens_cache_write_5m,usage_input_tokens_cache_write_1h,usage_input_tokens_cache_read,"
    "usage_output_tokens,web_search_count,inference_geo,speed\n"
    "2026-08-05,claude-opus-5,App,Default,standard,≤ 200k,46981,15969,0,7,16932,0,global,\n"
)
COUNTS = st.integers(min_value=0, max_value=10**9)


def openai_page(*results: dict[str, Any], start: int = MIDNIGHT, more: bool = False) -> dict[str, Any]:
    """Return one page with one bucket."""
    bucket = {"object": "bucket", "start_time": start, "end_time": start + 86_400, "results": list(results)}
    return {"object": "page", "data": [bucket], "has_more": more, "next_page": None}


def anthropic_page(*results: dict[str, Any]) -> dict[str, Any]:
    """Return one page with one bucket."""
    bucket = {"starting_at": "2025-08-01T00:00:00Z", "ending_at": "2025-08-02T00:00:00Z", "results": list(results)}
    return {"data": [bucket], "has_more": False, "next_page": None}


def test_openai_counts_the_cached_tokens_within_the_prompt() -> None:
    """A completions result becomes one line of its day and model; keys of one model are summed."""
    report = read(json.dumps(openai_page(COMPLETIONS, {**COMPLETIONS, "api_key_id": "key_2"})), "u.json")

    assert report.usages == (Usage(date(2024, 11, 1), "openai", "gpt-4o-2024-08-06", 2000, 1600, 1000, 10),)
    assert not report.is_cut


def test_the_form_is_openais_own() -> None:
    """OpenAI's own client library (tried: 3.57.0) takes the document of these tests for an answer of its usage API."""
    organization = pytest.importorskip("openai.types.admin.organization")
    answer = organization.UsageCompletionsResponse.model_validate(openai_page(COMPLETIONS))

    assert answer.data[0].results[0].input_cached_tokens == COMPLETIONS["input_cached_tokens"]
    assert type(answer.data[0].results[0]).__name__.endswith("UsageCompletionsResult")


def test_openai_embeddings_have_a_prompt_only() -> None:
    """An embeddings result has no output."""
    result = {
        "object": "organization.usage.embeddings.result",
        "input_tokens": 16,
        "num_model_requests": 2,
        "model": "text-embedding-3-small",
    }

    assert read(json.dumps(openai_page(result)), "u.json").usages == (
        Usage(date(2024, 11, 1), "openai", "text-embedding-3-small", 16, 0, 0, 2),
    )


def test_what_is_no_tokens_is_named() -> None:
    """Images are left out, and counted as such."""
    images = {"object": "organization.usage.images.result", "images": 2, "num_model_requests": 2}
    report = read(json.dumps(openai_page(COMPLETIONS, images)), "u.json")

    assert report.left_out == {"organization.usage.images.result": 1}


def test_pages_may_come_as_a_list_or_by_line() -> None:
    """Whoever pages through the API may keep the pages either way; the last one says whether more belong to them."""
    pages = [openai_page(COMPLETIONS, more=True), openai_page(COMPLETIONS, start=MIDNIGHT + 86_400)]
    listed, lines = read(json.dumps(pages), "u.json"), read("\n".join(map(json.dumps, pages)), "u.jsonl")

    assert listed == lines
    assert [usage.day.day for usage in listed.usages] == [1, 2]
    assert not listed.is_cut
    assert read(json.dumps(pages[0]), "u.json").is_cut


def test_openais_export_has_the_same_columns() -> None:
    """Rows by the minute are summed by the day; numbers may be written as 3.0; an export without use is empty."""
    head = "start_time,end_time,start_time_iso,end_time_iso,num_model_requests,model,input_tokens,output_tokens"
    rows = [f"{MIDNIGHT + 60 * n},0,x,y,3.0,gpt-4o,4212,1673" for n in range(2)]

    assert read("\n".join([head, *rows]), "u.csv").usages == (
        Usage(date(2024, 11, 1), "openai", "gpt-4o", 8424, 0, 3346, 6),
    )
    assert read("start_time,end_time,start_time_iso,end_time_iso\n1,2,x,y\n", "u.csv").usages == ()


def test_anthropic_tells_computed_written_and_read_apart() -> None:
    """What was written to a cache was computed, what was read from one was not; requests are not told."""
    report = read(json.dumps(anthropic_page(MESSAGES)), "u.json")

    assert report.usages == (
        Usage(date(2025, 8, 1), "anthropic", "claude-opus-4-1-20250805", 1500 + 1000 + 500 + 200, 200, 500, None),
    )


def test_the_consoles_export_is_read() -> None:
    """The CSV of Anthropic's Console says the same in other words."""
    assert read("\ufeff" + CONSOLE, "u.csv").usages == (
        Usage(date(2026, 8, 5), "anthropic", "claude-opus-5", 46981 + 15969 + 7, 7, 16932, None),
    )


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a,b\n1,2\n",
        "{",
        "[]x",
        '{"data": [{"results": [{}]}]}',
        '{"x": 1}',
        "[1]",
        json.dumps(openai_page({**COMPLETIONS, "input_tokens": -1})),
        json.dumps(openai_page({**COMPLETIONS, "input_tokens": "many"})),
        json.dumps(openai_page({**COMPLETIONS, "output_tokens": 1.5})),
        json.dumps(openai_page(COMPLETIONS, start=10**30)),
        json.dumps(anthropic_page({**MESSAGES, "cache_creation": 3})),
        CONSOLE.replace("2026-08-05", "yesterday"),
    ],
)
def test_what_is_no_report_is_refused(text: str) -> None:
    """A file of another form is told, with its name; never half of it is taken."""
    with pytest.raises(ConfigError, match=r"usage report(.|\n)*u.json"):
        read(text, "u.json")


def lines_of(usages: Iterator[Usage] | tuple[Usage, ...], seen: dict[tuple[str, str], Tokens]) -> Any:
    """Return the coverage of some lines."""
    registry = load()
    found = matched(usages, seen, registry.key)
    return compare(line(key, told, had, registry.find(key[2]), coefficients()) for key, told, had in found)


USAGE = Usage(date(2024, 11, 1), "openai", "gpt-4o-2024-08-06", 1000, 200, 500, 5)
DAY = "2024-11-01"


def test_half_of_it_passed_us() -> None:
    """Coverage is the part of the reported tokens that passed us; the rest is estimated."""
    compared = lines_of((USAGE,), {(DAY, "gpt-4o"): Tokens(500, 100, 250, 3)})

    assert compared.ratio == 0.5
    assert compared.lines[0].rest == Tokens(500, 100, 250, 2)
    assert 0 < compared.lines[0].low_joules < compared.lines[0].energy_joules < compared.lines[0].high_joules


def test_all_of_it_passed_us() -> None:
    """Nothing is left, and nothing is estimated: what was measured or estimated already is not estimated again."""
    compared = lines_of((USAGE,), {(DAY, "gpt-4o"): Tokens(1000, 200, 500, 5)})

    assert compared.ratio == 1.0
    assert compared.lines[0].energy_joules is None


def test_what_passed_and_is_not_reported_is_a_disagreement() -> None:
    """More than the report has is named and never makes up for something else that is missing."""
    other = Usage(date(2024, 11, 1), "openai", "gpt-4.1", 100, 0, 0, 1)
    compared = lines_of((USAGE, other), {(DAY, "gpt-4o"): Tokens(1200, 200, 500, 5)})

    assert compared.beyond_tokens == 200
    assert compared.ratio == 1500 / 1600


def test_another_day_is_another_line() -> None:
    """What passed on another day, or of another model, covers nothing of this one."""
    compared = lines_of((USAGE,), {("2024-11-02", "gpt-4o"): Tokens(1000, 0, 500), (DAY, "gpt-4"): Tokens(1000)})

    assert compared.ratio == 0.0


def test_nothing_reported_has_no_coverage() -> None:
    """Of nothing there is no part."""
    assert lines_of((), {}).ratio is None


def test_many_requests_are_not_one_long_one() -> None:
    """A day of a million short prompts is a million short requests, and where none are told that is said."""
    usage = Usage(date(2024, 11, 1), "anthropic", "claude-sonnet-4-5", 4_000_000, 0, 1_000_000, None)
    untold = lines_of((usage,), {}).lines[0]
    told = lines_of((Usage(usage.day, "openai", "gpt-4o", 4_000_000, 0, 1_000_000, 1000),), {}).lines[0]

    assert "requests not told, taken for 1000" in untold.basis
    assert "1000 requests of the mean size" in told.basis
    assert untold.energy_joules == pytest.approx(told.energy_joules)


@given(COUNTS, COUNTS, COUNTS, COUNTS)
def test_coverage_is_between_nothing_and_all(prompt: int, output: int, had_prompt: int, had_output: int) -> None:
    """Whatever is reported and seen, the figure is a part of one, and the rest is never negative."""
    usage = Usage(date(2024, 11, 1), "openai", "gpt-4o", prompt, 0, output, 1)
    compared = lines_of((usage,), {(DAY, "gpt-4o"): Tokens(had_prompt, 0, had_output)})

    assert compared.ratio is None or 0 <= compared.ratio <= 1
    assert (compared.lines[0].energy_joules is None) == (compared.lines[0].rest.total == 0)
