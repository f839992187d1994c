"""The source of vLLM, from the oldest version that we support to the newest: a change is named before it costs.

The wheels are downloaded once (80 to 340 MB each; what is kept of them is 2 to 8 MB), and nothing of them is installed.
"""

import re

import pytest

from tests.contracts.vllm.contract import NEWEST_CPU, SUPPORTED, TERMS, TOO_OLD, breaks
from tests.contracts.vllm.page import PAGE, VERSIONS, text
from tests.contracts.vllm.source import Vllm
from tests.contracts.vllm.terms import Term
from tests.contracts.vllm.wheels import NoWheel, vllm_of
from tests.real.conftest import missing

pytestmark = pytest.mark.real


def at_hand(version: str) -> Vllm:
    """Return the source of a version; without it there is nothing to test."""
    try:
        return vllm_of(version)
    except NoWheel as exc:
        missing(str(exc))


def changes(term: Term) -> list[list[str]]:
    """Return what to rename in vLLM, each of which a row must see; any of a metric's names will do, so all at once."""
    if all(name.isidentifier() for name in term.names):
        return [[name] for name in term.names]
    words = re.findall(r"[A-Za-z_]{4,}", " ".join(term.names).replace("vllm:", ""))
    return [] if "abstract" in words else [[word.removesuffix("_total") for word in words]]


@pytest.mark.parametrize("version", SUPPORTED)
def test_a_supported_vllm_has_all_that_we_need(version: str) -> None:
    """No class, field, method, call, entry point or metric that we rely on is gone or otherwise."""
    found = breaks(at_hand(version))

    assert not found, "\n".join(["vLLM is not as the plugin needs it:", *map(str, found)])


def test_what_the_range_excludes_is_seen() -> None:
    """Below the range, finished requests have no name: the contract says so, and nothing else."""
    found = [(one.path, one.what) for one in breaks(at_hand(TOO_OLD))]

    assert found == [("v1/metrics/stats.py", "has no field FinishedRequestStats.request_id")]


def test_the_page_of_the_versions_is_up_to_date() -> None:
    """`python -m tests.contracts.vllm --write` was run."""
    assert PAGE.read_text(encoding="utf-8") == text([at_hand(version) for version in VERSIONS])


@pytest.mark.parametrize(
    ("term", "words"),
    [pytest.param(term, words, id=f"{term.owner}: {words[0]}") for term in TERMS for words in changes(term)],
)
def test_each_row_sees_its_own_change(term: Term, words: list[str]) -> None:
    """Where vLLM calls otherwise what a row needs, that row says so."""
    vllm = at_hand(NEWEST_CPU)

    def renamed(path: str) -> str | None:
        text = vllm.read(path)
        return text and re.sub(rf"\b({'|'.join(words)})\b", r"\1_renamed", text)

    assert term.breaks(vllm) == []
    assert term.breaks(Vllm("renamed", renamed))
