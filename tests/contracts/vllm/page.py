"""Writes docs/servers/vllm-versions.md: what we need of vLLM, which versions have it, and what moves beside it."""

import textwrap
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from pathlib import Path

from tests.contracts.vllm.contract import (
    ENGINE,
    NEWEST_CPU,
    NEWEST_CUDA,
    OLDEST,
    OURS,
    OUTPUT,
    SCHEDULER,
    STATS,
    SUPPORTED,
    TERMS,
    TOO_OLD,
)
from tests.contracts.vllm.source import Vllm
from tests.contracts.vllm.terms import Loss, Term

PAGE = Path(__file__).resolve().parents[3] / "docs" / "servers" / "vllm-versions.md"
VERSIONS = (TOO_OLD, *SUPPORTED)
WATCHED = (
    (OUTPUT, "SchedulerOutput"),
    (OUTPUT, "NewRequestData"),
    (OUTPUT, "CachedRequestData"),
    (ENGINE, "EngineCoreOutput"),
    (ENGINE, "EngineCoreOutputs"),
    (STATS, "SchedulerStats"),
    (STATS, "IterationStats"),
    (STATS, "FinishedRequestStats"),
)
"""Classes that are read, or may be one day: what else they have moves from version to version."""
TITLES = {
    Loss.STEPS: "Engine steps",
    Loss.ENDS: "How requests end",
    Loss.STOPS: "Stop strings",
    Loss.FRONT: "The stat logger's calls",
    Loss.ARRIVAL: "Arrival",
    Loss.PROMPT: "Prompts without token ids",
    Loss.LORA: "LoRA adapters",
    Loss.NAMES: "The names of requests",
    Loss.SURPLUS: "Tokens after a stop string",
    Loss.ANSWERS: "The middleware",
    Loss.SHAPE: "The model",
    Loss.PLACE: "Data-parallel engines",
    Loss.PAGE: "The metrics page: tokens and requests",
    Loss.DELAYS: "The metrics page: latencies",
    Loss.FOUND: "Finding servers",
}
HEAD = """# vLLM, version by version

*Written by `python -m tests.contracts.vllm --write`: change `tests/contracts/vllm/contract.py`.*

What the [plugin](vllm.md) and the reader of the metrics page need of vLLM's source, grouped by what is lost where a
version is otherwise. Supported is {oldest} to the newest; {old} shows what is missing below. GPUs have their own
wheels, the newest of which is {cuda}. The source was read, not run: that a name is there does not say what it
means. That is tried by `make test-vllm`, on {cpu}.

Another version is looked at by:

```sh
python -m tests.contracts.vllm {cuda_requirement}
```
"""
MOVED = """## What else moves

Nothing here is relied on. What the engine hands to the methods that we wrap goes through ours, whatever it is:

"""
CAME = """
Fields and attributes that came (+) and went (-), each since the version before it on this page:

"""


def text(versions: Sequence[Vllm]) -> str:
    """Return the page for these versions."""
    known = {"oldest": OLDEST, "cpu": NEWEST_CPU, "cuda": NEWEST_CUDA, "old": TOO_OLD}
    head = HEAD.format(**{key: _spoken(one) for key, one in known.items()}, cuda_requirement=NEWEST_CUDA)
    moved = [MOVED + "\n".join(_parameters(versions)), CAME + "\n".join(_came(versions))]
    return "\n".join([head, *_sections(versions), *moved]) + "\n"


def _spoken(requirement: str) -> str:
    return requirement.replace("==", " ")


def _sections(versions: Sequence[Vllm]) -> Iterator[str]:
    """Return a table for each loss."""
    for loss in Loss:
        terms = [term for term in TERMS if term.loss is loss]
        if terms:
            yield f"## {TITLES[loss]}\n"
            yield "\n".join(textwrap.wrap(f"Lost without it: {loss}.", 120)) + "\n"
            yield _line(["needed", "of", *(_spoken(vllm.version) for vllm in versions)])
            yield "|" + "---|" * (len(versions) + 2)
            yield from (_row(term, versions) for term in terms)
            yield ""


def _row(term: Term, versions: Iterable[Vllm]) -> str:
    owner = term.owner if term.owner.startswith(("its ", "metric ")) else f"`{term.owner}`"
    needed = ", ".join(f"`{name}`" for name in term.names)
    return _line([needed, f"{owner}, `{term.path}`", *(_cell(term, vllm) for vllm in versions)])


def _cell(term: Term, vllm: Vllm) -> str:
    return "<br>".join(f"**{one.what}**" for one in term.breaks(vllm)).replace("|", "\\|") or "yes"


def _line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _parameters(versions: Sequence[Vllm]) -> Iterator[str]:
    """Return each way in which a wrapped method was declared, and the version that had it first."""
    for name in OURS:
        before = ""
        for vllm in versions:
            now = vllm.members(SCHEDULER, "Scheduler")[name].declared
            if now != before:
                yield f"- `{name}{now}` since {_spoken(vllm.version)}"
            before = now


def _came(versions: Sequence[Vllm]) -> Iterator[str]:
    """Return what each watched class gained and lost."""
    for path, owner in WATCHED:
        for old, new in pairwise(versions):
            had, has = (_fields(vllm, path, owner) for vllm in (old, new))
            signed = [*(f"+{name}" for name in sorted(has - had)), *(f"-{name}" for name in sorted(had - has))]
            if signed:
                yield f"- `{owner}`, {_spoken(new.version)}: {', '.join(f'`{one}`' for one in signed)}"


def _fields(vllm: Vllm, path: str, owner: str) -> set[str]:
    members = vllm.members(path, owner).items()
    return {name for name, one in members if "method" not in one.kind and not name.startswith("_")}
