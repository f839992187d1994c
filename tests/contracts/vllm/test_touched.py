"""The contract says all that the plugin needs, and no more: compared with the plugin's own source."""

import ast
import re
from pathlib import Path

from inferwatt.engines.vllm_lacks import ENDS, STEPS
from tests.contracts.vllm.contract import KNOWN_ENDS, KNOWN_STATES, NEWEST_CPU, SUPPORTED, TERMS, TOLD_APART
from tests.contracts.vllm.touched import SOURCE, read, touched

ENUMERATIONS = {"FinishReason", "RequestStatus"}
ROOT = Path(__file__).resolve().parents[3]


def test_all_that_the_plugin_reads_of_vllm_is_in_the_contract() -> None:
    """An attribute of vLLM's that is newly read gets a row; one that has a name of ours is not seen by this."""
    agreed = {name for term in TERMS for name in re.findall(r"\w+", " ".join((term.owner, *term.names)))}
    new = {name: module for name, module in touched().items() if name not in agreed}

    assert new == {}, "name it in tests/contracts/vllm/contract.py, with what is lost without it"


def test_the_contract_asks_for_nothing_that_nobody_reads() -> None:
    """A field that we no longer read is no reason to fail."""
    idle = [
        (term.owner, name)
        for term in TERMS
        if term.owner not in ENUMERATIONS
        for name in term.names
        if name.isidentifier() and name not in (SOURCE / "engines" / term.ours).read_text(encoding="utf-8")
    ]

    assert idle == []


def test_what_is_looked_up_at_the_start_is_what_is_agreed() -> None:
    """The plugin looks for what steps and finished requests are read from, and for nothing else."""
    agreed = {(term.owner, name.partition("(")[0]) for term in TERMS for name in term.names}
    looked = {(owner, name) for (_, owner), names in {**STEPS, **ENDS}.items() for name in names}
    read = {(term.owner, name) for term in TERMS for name in term.names if term.ours == "vllm_books.py"}

    assert looked <= agreed
    assert {one for one in read if one[0] not in ENUMERATIONS} <= looked


def test_ends_that_the_plugin_tells_apart_are_ends_of_vllm() -> None:
    """An end that the books take for an abort or a failure is one that the contract knows."""
    assert TOLD_APART <= KNOWN_ENDS | KNOWN_STATES


def test_the_vllm_that_runs_is_one_that_is_read() -> None:
    """`make test-vllm` installs the newest version for the CPU: a new one moves both."""
    pinned = (ROOT / "constraints" / "vllm.txt").read_text(encoding="utf-8").splitlines()

    assert NEWEST_CPU in SUPPORTED
    assert [line.split(" ")[0] for line in pinned if line.startswith("vllm")] == [NEWEST_CPU]


def test_what_is_read_is_found_however_it_is_written() -> None:
    """By a dot, by `getattr`, by a getter of ours; what belongs to a module, to `self` or to a model's file is not."""
    text = "import os\nos.path.sep\nself.mine\noutput.a.b\ngetattr(x, 'c', None)\n_of(config, 'd')\n_of(text, 'e')\n"

    assert set(read(ast.parse(text))) == {"a", "b", "c", "d"}
