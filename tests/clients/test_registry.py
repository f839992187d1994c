"""Which row a model's name means, and what a row must say."""

import tomllib
from importlib.resources import files
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inferwatt.clients.estimates import Figure
from inferwatt.clients.registry import load, plain
from inferwatt.errors import ConfigError

SHIPPED = tomllib.loads((files("inferwatt.clients") / "registry.toml").read_text("utf-8"))
NAMES = [name for group in SHIPPED["from"] for name in group["models"]]


@pytest.mark.parametrize(
    ("spelled", "row"),
    [
        ("gpt-4o-2024-08-06", "gpt-4o"),
        ("gpt-35-turbo", "gpt-3.5-turbo"),
        ("ft:gpt-4o-mini-2024-07-18:org::abc", "gpt-4o-mini"),
        ("openai/gpt-oss-120b:free", "gpt-oss-120b"),
        ("anthropic/claude-3.5-sonnet", "claude-3-5-sonnet"),
        ("claude-sonnet-4-5@20250929", "claude-sonnet-4"),
        ("us.anthropic.claude-3-5-sonnet-20241022-v2:0", "claude-3-5-sonnet"),
        ("global.anthropic.claude-sonnet-4-5-20250929-v1:0", "claude-sonnet-4"),
        ("meta.llama3-1-70b-instruct-v1:0", "llama-3.1-70b"),
        ("meta-llama/Meta-Llama-3.1-405B-Instruct-FP8", "llama-3.1-405b"),
        ("llama3.1:70b", "llama-3.1-70b"),
        ("accounts/fireworks/models/deepseek-v3p1", "deepseek-v3"),
        ("models/gemini-2.5-flash-preview-05-20", "gemini-2.5-flash"),
        ("publishers/google/models/gemini-1.5-pro-002", "gemini-1.5-pro"),
        ("mistral-large-2411", "mistral-large-2411"),
        ("mistral-large-latest", "mistral-large-2512"),
        ("mistral.mistral-large-2402-v1:0", "mistral-large-2402"),
        ("cohere.command-r-plus-v1:0", "command-r-plus"),
        ("Qwen/Qwen3-235B-A22B-Thinking-2507-FP8", "qwen3-235b-a22b"),
    ],
)
def test_a_name_is_seen_through(spelled: str, row: str) -> None:
    """Dates, versions, channels, regions, makers and punctuation do not hide a model."""
    assert load().find(spelled).model == row


@pytest.mark.parametrize("spelled", ["gpt-7", "gpt-4o-ultra", "my-deployment", "claude", "", "llama-3.1"])
def test_what_is_not_there_is_not_guessed(spelled: str) -> None:
    """A name that only resembles a row is unknown, and keeps its name."""
    found = load().find(spelled)

    assert (found.known, found.assumed, found.model) == (False, True, spelled)


@given(st.text())
def test_any_name_has_an_answer(spelled: str) -> None:
    """No name is an error."""
    assert load().find(spelled).active_billions.low > 0


def test_every_row_says_where_it_is_from() -> None:
    """Source, and whether it is the maker's word; active parameters are within the total."""
    for name in NAMES:
        shape = load().find(name)

        assert shape.model == name
        assert len(shape.source) > 10
        assert shape.assumed == ("assum" in shape.source)
        assert shape.active_billions.low <= shape.total_billions.low
        assert shape.active_billions.high <= shape.total_billions.high


def test_retired_models_stay() -> None:
    """Last year's traffic is to be estimated too: these were sold, and are in EcoLogits' release no more."""
    for name in ("gemini-2.0-flash", "claude-3-haiku-20240307", "mistral-large-2411", "gpt-4-1106-preview"):
        assert load().find(name).known


def test_no_two_rows_have_one_spelling() -> None:
    """Names without punctuation are as many as names."""
    assert len({plain(name) for name in NAMES}) == len(NAMES)


def test_a_users_row_stands_over_ours(tmp_path: Path) -> None:
    """A file of the user's can correct a row, add one, and name a deployment."""
    own = tmp_path / "own.toml"
    own.write_text(
        '[[from]]\nsource = "our contract"\n[from.models]\n'
        '"gpt-4o" = { active = 50, total = 200, bits = 8, aliases = ["prod-eastus"] }\n'
    )
    found = load(own).find("prod-eastus")

    assert found == load(own).find("gpt-4o")
    assert found.total_billions == Figure(200.0, 200.0, 200.0)
    assert load(own).find("gpt-4.1") == load().find("gpt-4.1")


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("x = ", "is not TOML"),
        ("[model]", "model is not a table"),
        ('[[from]]\n[from.models]\n"m" = { total = 3 }', "source is missing"),
        ('[[from]]\nsource = "s"\n[from.models]\n"m" = { total = -3 }', "total is -3"),
        ('[[from]]\nsource = "s"\n[from.models]\n"m" = { total = [9, 3] }', r"total is \[9, 3\]"),
        ('[[from]]\nsource = "s"\n[from.models]\n"m" = { active = 3 }', "total is None"),
        ('[[from]]\nsource = "s"\n[from.models]\n"m" = { totl = 3 }', "totl is not a key"),
        ('[[from]]\nsource = "s"\n[from.models]\n"m" = { total = 3, bits = "4" }', "bits is 4"),
        ('[[from]]\nsource = "s"\n[from.models]\n"m" = { active = 9, total = 3 }', "active is more than total"),
        ('[[from]]\nsource = "s"\n[from.models]\n"m" = { total = 3, aliases = ["M"] }', "M is there twice"),
    ],
)
def test_a_wrong_row_is_told(tmp_path: Path, text: str, what: str) -> None:
    """A mistake in the user's file names the file and what is wrong."""
    own = tmp_path / "own.toml"
    own.write_text(text)

    with pytest.raises(ConfigError, match=rf"{what}(.|\n)*own.toml"):
        load(own)


def test_a_missing_file_is_told(tmp_path: Path) -> None:
    """A registry that is not there stops, rather than being left out."""
    with pytest.raises(ConfigError, match="cannot read the registry"):
        load(tmp_path / "gone.toml")
