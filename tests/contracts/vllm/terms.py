"""The kinds of things that can be agreed on with vLLM's source, and what is said where it is otherwise."""

import ast
import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

from inferwatt.engines.wanted import wanted
from tests.contracts.vllm.source import Changed, Vllm, calls, constants, declared, fits, metrics, signature


class Loss(StrEnum):
    """What is lost where vLLM is not as agreed: which tier, or which figures of it."""

    STEPS = "`step_exact` of all its requests: no step is told or understood; the sums of its metrics page remain"
    ENDS = "aborted and failed requests are told as finished; the tier and the joules stay"
    STOPS = "requests that a stop string ended are told as aborted, with the tokens that the engine had given by then"
    FRONT = "what the front end tells, or vLLM itself: a call that ours does not take ends serving"
    ARRIVAL = "the time in vLLM's queue: a request begins with its first step"
    PROMPT = "the prompt's tokens of requests that had no token ids (embeddings)"
    LORA = "LoRA adapters are told under their base model's name"
    NAMES = "a request cannot be asked for by the id that its client knows"
    SURPLUS = (
        "with several tokens a step, those after a stop string count as output, though the client did not get them"
    )
    ANSWERS = "the energy in vLLM's own answers, and tenants: the middleware is not there, or finds no place for it"
    SHAPE = "the model's name, shape or sizes in what a process says of itself: a step is split without them"
    PLACE = "which of several data-parallel engines it is: each calls itself the first"
    PAGE = "sums of servers without the plugin (`token_share`), and the cross-check of those with it"
    DELAYS = "latencies of servers without the plugin"
    FOUND = "servers are found by their port or page only"


class Break(NamedTuple):
    """One thing that is not as agreed, in one version."""

    version: str
    path: str
    what: str
    ours: str
    loss: Loss

    def __str__(self) -> str:
        """Say what changed where, what it costs, and where it is to be mended."""
        return (
            f"{self.version}: vllm/{self.path} {self.what}\n  lost:  {self.loss}\n"
            f"  fix:   src/inferwatt/engines/{self.ours}, then tests/contracts/vllm/contract.py"
        )


@dataclass(frozen=True, slots=True)
class Term:
    """One row of the contract.

    Args:
        path: the file below `vllm/`.
        owner: its class, or what else has a name there.
        names: what is needed of it.
        ours: our file that needs it.
        loss: what it costs where it is otherwise.
        look: says what is otherwise, each as the end of a sentence that begins with the file.
    """

    path: str
    owner: str
    names: tuple[str, ...]
    ours: str
    loss: Loss
    look: Callable[[Vllm], Iterable[str]]

    def breaks(self, vllm: Vllm) -> list[Break]:
        """Return what of this is otherwise in a version."""
        try:
            found = list(self.look(vllm))
        except Changed as changed:
            found = [str(changed)]
        return [Break(vllm.version, self.path, what, self.ours, self.loss) for what in found]


def has(path: str, owner: str, types: Mapping[str, str], ours: str, loss: Loss) -> Term:
    """Agree on the fields and attributes of a class, and their types where we rely on them."""

    def look(vllm: Vllm) -> Iterator[str]:
        members = vllm.members(path, owner)
        for name, expected in types.items():
            member = members.get(name)
            if member is None:
                yield f"has no field {owner}.{name}"
            elif "method" in member.kind:
                yield f"has {owner}.{name} as a {member.kind}, not as a field"
            elif expected and member.declared != expected:
                yield f"declares {owner}.{name} as {member.declared or member.kind}, not as {expected}"

    return Term(path, owner, tuple(types), ours, loss, look)


def takes(path: str, owner: str, method: str, named: tuple[str, ...], reader: str, returns: str = "") -> Term:
    """Agree on a method that we override: the parameters that ours names have their place and name in vLLM's too."""

    def look(vllm: Vllm) -> Iterator[str]:
        function = vllm.method(path, owner, method)
        found = tuple(name for name in signature(function.args).parameters if name != "self")
        if found[: len(named)] != named:
            yield f"has {owner}.{method}({', '.join(found)}), not {owner}.{method}({', '.join(named)}, ...)"
        result = declared(function.returns) if function.returns else "nothing"
        if returns and result != returns:
            yield f"lets {owner}.{method} return {result}, not {returns}"

    return Term(path, owner, (f"{method}({', '.join(named)})",), reader, Loss.STEPS, look)


def calls_ours(path: str, callee: str, ours: inspect.Signature, reader: str, loss: Loss) -> Term:
    """Agree on how vLLM calls what is ours: at least once, and so that our parameters take it."""

    def look(vllm: Vllm) -> Iterator[str]:
        found = calls(vllm.tree(path), callee)
        if not found:
            yield f"does not call {callee} any more"
        for call in found:
            if not fits(call, ours):
                yield f"calls {ast.unparse(call)} in line {call.lineno}, which ours does not take: {ours}"

    return Term(path, "its calls", (f"{callee}(...)",), reader, loss, look)


def after(path: str, owner: str, method: str, first: str, then: str, reader: str) -> Term:
    """Agree on the order of two calls in one method."""

    def look(vllm: Vllm) -> Iterator[str]:
        function = vllm.method(path, owner, method)
        earlier, later = calls(function, first), calls(function, then)
        for name, found in ((first, earlier), (then, later)):
            if not found:
                yield f"does not call {name}() in {owner}.{method} any more"
        if earlier and later and earlier[0].lineno > later[0].lineno:
            yield f"calls {first}() after {then}() in {owner}.{method}, not before it"

    return Term(path, f"{owner}.{method}", (f"{first}() before {then}()",), reader, Loss.STEPS, look)


def demands(path: str, owner: str, ours: frozenset[str], reader: str) -> Term:
    """Agree on what a subclass has to have: nothing that ours has not, or it cannot be built."""

    def look(vllm: Vllm) -> Iterator[str]:
        for name in sorted(vllm.abstract(path, owner) - ours):
            yield f"demands a method {owner}.{name} of every subclass, and ours has none"

    return Term(path, owner, ("no abstract method that we have not",), reader, Loss.FRONT, look)


def derives(path: str, owner: str, base: str, reader: str) -> Term:
    """Agree on the class above a class."""

    def look(vllm: Vllm) -> Iterator[str]:
        if base not in [one.node.name for one in vllm.line(path, owner)]:
            yield f"does not derive {owner} from {base} any more"

    return Term(path, owner, (f"is a {base}",), reader, Loss.STEPS, look)


def takes_back(path: str, owner: str, method: str, named: tuple[str, ...], detokenizer: str, reader: str) -> Term:
    """Agree on where tokens are taken back after a stop string, in versions whose detokenizer does so at all."""

    def look(vllm: Vllm) -> Iterator[str]:
        if not any(isinstance(node, ast.Delete) for node in ast.walk(vllm.tree(detokenizer))):
            return
        member = vllm.members(path, owner).get(method)
        node = member.node if member is not None else None
        if not isinstance(node, ast.FunctionDef) or "staticmethod" not in map(ast.unparse, node.decorator_list):
            yield f"has no static method {owner}.{method}, and takes tokens back after a stop string"
            return
        found = tuple(signature(node.args).parameters)
        if found[: len(named)] != named:
            yield f"has {owner}.{method}({', '.join(found)}), not {owner}.{method}({', '.join(named)}, ...)"

    return Term(path, owner, (f"{method}({', '.join(named)})",), reader, Loss.SURPLUS, look)


def spells(path: str, constant: str, value: str, reader: str, loss: Loss) -> Term:
    """Agree on a text that a file gives a name to."""

    def look(vllm: Vllm) -> Iterator[str]:
        found = constants(vllm.tree(path)).get(constant)
        if found != value:
            yield f"has {constant} = {found!r}, not {value!r}"

    return Term(path, constant, (value,), reader, loss, look)


def writes(path: str, expression: str, reader: str, loss: Loss, *moved: str) -> Term:
    """Agree on an expression that stands in a file, however it is laid out there; or in that to which it has moved."""
    expected = _spelt(ast.parse(expression, mode="eval").body)

    def look(vllm: Vllm) -> Iterator[str]:
        tree = vllm.first((*moved, path))
        if not any(isinstance(node, ast.expr) and _spelt(node) == expected for node in ast.walk(tree)):
            yield f"does not have `{expression}` any more"

    return Term(path, "its expressions", (expression,), reader, loss, look)


def _spelt(expression: ast.expr) -> str:
    """Return an expression as it is compared: what is read and what is assigned to are alike."""
    return ast.dump(expression).replace("Store()", "Load()")


def ends(path: str, owner: str, told: Iterable[str], known: Iterable[str], beginning: str, reader: str) -> Term:
    """Agree on how a request can end: the ends that we tell apart are there, and none that we have not heard of."""
    needed, heard = frozenset(told), frozenset(known)

    def look(vllm: Vllm) -> Iterator[str]:
        members = vllm.members(path, owner).items()
        found = {name for name, one in members if one.kind == "constant" and name.startswith(beginning)}
        for name in sorted(needed - found):
            yield f"has no {owner}.{name}"
        for name in sorted(found - heard):
            yield f"has a new {owner}.{name}: is it an abort, a failure or neither?"

    return Term(path, owner, tuple(sorted(heard)), reader, Loss.ENDS, look)


def shows(path: str, key: str, candidates: Iterable[str], kind: str, labels: Iterable[str], loss: Loss) -> Term:
    """Agree on a metric of the page: one of its candidates is made, is of its type and has the labels that we read."""
    names = tuple(candidates)

    def look(vllm: Vllm) -> Iterator[str]:
        made = metrics(vllm.tree(path))
        found = next((one for one in names if _bare(one) in made), None)
        if found is None:
            yield f"makes none of {', '.join(names)}"
            return
        metric = made[_bare(found)]
        if metric.kind != kind:
            yield f"makes {_bare(found)} a {metric.kind}, not a {kind}"
        for label in sorted({*labels, *(label for label, _, _ in wanted(found).labels)} - metric.labels):
            yield f"makes {_bare(found)} without the label {label}"

    return Term(path, f"metric `{key}`", names, "servers.toml", loss, look)


def _bare(candidate: str) -> str:
    """Return a metric's name as it is made; the page adds `_total` to a counter's."""
    return wanted(candidate).name.removesuffix("_total")
