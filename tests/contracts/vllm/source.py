"""The source of one vLLM, asked by its syntax tree: nothing of it is imported or run."""

import ast
import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

MOST_BASES = 8
"""Classes above a class that are looked at; vLLM's are one or two."""
_KINDS = inspect.Parameter
_PROPERTY = {"property", "cached_property"}
Function = ast.FunctionDef | ast.AsyncFunctionDef


class Changed(Exception):
    """What is not as it was agreed, in words that end a sentence: "has no field x"."""


class Class(NamedTuple):
    """A class and the file that has it, which may be another one than was asked: an import is followed."""

    path: str
    node: ast.ClassDef


class Member(NamedTuple):
    """What a class has under a name: a field, an attribute, a property or a method, and how it is declared."""

    kind: str
    declared: str
    node: ast.stmt


class Metric(NamedTuple):
    """A metric as it is made: counter, gauge or histogram, and the names of its labels."""

    kind: str
    labels: frozenset[str]


@dataclass(frozen=True, slots=True)
class Vllm:
    """One version: its name, and how a file below `vllm/` is read; None where there is no such file."""

    version: str
    read: Callable[[str], str | None]
    _trees: dict[str, ast.Module] = field(default_factory=dict)

    def tree(self, path: str) -> ast.Module:
        """Return a file's syntax tree.

        Raises:
            Changed: there is no such file.
        """
        if path not in self._trees:
            text = self.read(path)
            if text is None:
                raise Changed("is not there")
            self._trees[path] = ast.parse(text)
        return self._trees[path]

    def first(self, paths: Iterable[str]) -> ast.Module:
        """Return the syntax tree of the first of these files that is there.

        Raises:
            Changed: none of them is.
        """
        for path in paths:
            if self.read(path) is not None:
                return self.tree(path)
        raise Changed("is not there")

    def find(self, path: str, name: str) -> Class:
        """Return a class of a file, or the one that the file imports by that name from vLLM.

        Raises:
            Changed: there is none.
        """
        tree = self.tree(path)
        for node in ast.walk(tree):
            if isinstance(node, ast.ClassDef) and node.name == name:
                return Class(path, node)
        for module, inside in _imported(tree, name):
            for file in (f"{module}.py", f"{module}/__init__.py"):
                if self.read(file) is not None:
                    return self.find(file, inside)
        raise Changed(f"has no class {name}")

    def line(self, path: str, name: str) -> list[Class]:
        """Return a class and those above it that are vLLM's own, the nearest first."""
        classes = [self.find(path, name)]
        for one in classes:
            for base in map(_last_name, one.node.bases):
                try:
                    found = self.find(one.path, base)
                except Changed:
                    continue  # the standard library's, or another package's
                if found not in classes and len(classes) < MOST_BASES:
                    classes.append(found)
        return classes

    def members(self, path: str, name: str) -> dict[str, Member]:
        """Return what a class and those above it have, each by the nearest that has it."""
        found: dict[str, Member] = {}
        for one in reversed(self.line(path, name)):
            found.update(members(one.node))
        return found

    def method(self, path: str, owner: str, name: str) -> ast.FunctionDef:
        """Return a plain method of a class.

        Raises:
            Changed: it has none, or what it has by that name is not called like one.
        """
        member = self.members(path, owner).get(name)
        if member is None:
            raise Changed(f"has no method {owner}.{name}")
        if member.kind != "method" or not isinstance(member.node, ast.FunctionDef):
            raise Changed(f"has {owner}.{name} as {member.kind}, not as a plain method")
        return member.node

    def abstract(self, path: str, name: str) -> frozenset[str]:
        """Return the methods that a subclass has to have, or it cannot be built."""
        found = self.members(path, name)
        return frozenset(one for one, member in found.items() if "abstractmethod" in _decorators(member.node))


def members(node: ast.ClassDef) -> dict[str, Member]:
    """Return what a class declares itself; what only its methods assign to `self` too."""
    found: dict[str, Member] = {}
    for statement in node.body:
        found.update(_declared(statement))
    assigned = (each for statement in node.body if isinstance(statement, Function) for each in _assigned(statement))
    return {**{name: member for name, member in assigned if name not in found}, **found}


def _declared(statement: ast.stmt) -> Iterator[tuple[str, Member]]:
    """Return the fields, members and methods of one statement of a class."""
    if isinstance(statement, Function):
        kind = "property" if _PROPERTY & _decorators(statement) else "method"
        kind = f"async {kind}" if isinstance(statement, ast.AsyncFunctionDef) else kind
        yield statement.name, Member(kind, f"({ast.unparse(statement.args)})", statement)
    elif isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
        yield statement.target.id, Member("field", declared(statement.annotation), statement)
    elif isinstance(statement, ast.Assign):
        for target in statement.targets:
            if isinstance(target, ast.Name):
                yield target.id, Member("constant", "", statement)


def _assigned(function: Function) -> Iterator[tuple[str, Member]]:
    """Return the attributes that a method gives its object."""
    for node in ast.walk(function):
        targets: list[ast.expr] = []
        annotation = ""
        if isinstance(node, ast.Assign):
            targets = node.targets
        elif isinstance(node, ast.AnnAssign):
            targets, annotation = [node.target], declared(node.annotation)
        for target in targets:
            if isinstance(target, ast.Attribute) and dotted(target.value) == "self":
                yield target.attr, Member("attribute", annotation, function)


def _decorators(statement: ast.stmt) -> set[str]:
    return set(map(_last_name, statement.decorator_list)) if isinstance(statement, Function) else set()


def _last_name(node: ast.expr) -> str:
    return dotted(node).rpartition(".")[2]


def _imported(tree: ast.Module, name: str) -> Iterator[tuple[str, str]]:
    """Return from which files of vLLM's a name is imported, and how it is called there."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("vllm."):
            for alias in node.names:
                if (alias.asname or alias.name) == name:
                    yield (node.module or "").removeprefix("vllm.").replace(".", "/"), alias.name


def declared(annotation: ast.expr) -> str:
    """Return a type as it would be written without quotes."""
    if isinstance(annotation, ast.Constant) and isinstance(annotation.value, str):
        return annotation.value
    return ast.unparse(annotation)


def dotted(node: ast.expr) -> str:
    """Return `a.b.c` of an expression; what is indexed counts as itself, what is called too."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        return f"{dotted(node.value)}.{node.attr}"
    if isinstance(node, ast.Subscript):
        return dotted(node.value)
    return dotted(node.func) if isinstance(node, ast.Call) else ""


def calls(node: ast.AST, ending: str) -> list[ast.Call]:
    """Return the calls of what is called `ending`, or something of that name, in their order."""
    found = [each for each in ast.walk(node) if isinstance(each, ast.Call)]
    found = [each for each in found if f".{dotted(each.func)}".endswith(f".{ending}")]
    return sorted(found, key=lambda each: (each.lineno, each.col_offset))


def signature(arguments: ast.arguments) -> inspect.Signature:
    """Return the parameters of a function."""
    plain = [*arguments.posonlyargs, *arguments.args]
    required = len(plain) - len(arguments.defaults)
    found = [
        _parameter(each.arg, _KINDS.POSITIONAL_OR_KEYWORD, has_default=place >= required)
        for place, each in enumerate(plain)
    ]
    if arguments.vararg:
        found.append(_parameter(arguments.vararg.arg, _KINDS.VAR_POSITIONAL))
    for each, default in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True):
        found.append(_parameter(each.arg, _KINDS.KEYWORD_ONLY, has_default=default is not None))
    if arguments.kwarg:
        found.append(_parameter(arguments.kwarg.arg, _KINDS.VAR_KEYWORD))
    return inspect.Signature(found)


def _parameter(name: str, kind: inspect._ParameterKind, *, has_default: bool = False) -> inspect.Parameter:
    return inspect.Parameter(name, kind, default=None if has_default else inspect.Parameter.empty)


def fits(call: ast.Call, parameters: inspect.Signature) -> bool:
    """Whether a method with these parameters, `self` among them, can be called so; what is starred fits."""
    positional = [each for each in call.args if not isinstance(each, ast.Starred)]
    named = {each.arg: None for each in call.keywords if each.arg is not None}
    is_whole = len(positional) + len(named) == len(call.args) + len(call.keywords)
    try:
        (parameters.bind if is_whole else parameters.bind_partial)(None, *positional, **named)
    except TypeError:
        return False
    return True


def constants(tree: ast.Module) -> dict[str, str]:
    """Return the names that a file gives to texts."""
    return {
        target.id: node.value.value
        for node in tree.body
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
        for target in node.targets
        if isinstance(target, ast.Name)
    }


def metrics(tree: ast.AST) -> Mapping[str, Metric]:
    """Return the metrics that a file makes by `self._counter_cls(name="vllm:...")`, and the like of it."""
    lists = {
        target.id: _texts(node.value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Assign)
        for target in node.targets
        if isinstance(target, ast.Name)
    }
    found = {}
    for node in ast.walk(tree):
        given = {each.arg: each.value for each in node.keywords} if isinstance(node, ast.Call) else {}
        name = given.get("name")
        if isinstance(node, ast.Call) and isinstance(name, ast.Constant) and str(name.value).startswith("vllm:"):
            labels = given.get("labelnames", ast.Tuple([]))
            known = [lists.get(each.id, set()) for each in ast.walk(labels) if isinstance(each, ast.Name)]
            kind = _last_name(node.func).strip("_").removesuffix("_cls").lower()
            found[str(name.value)] = Metric(kind, frozenset(_texts(labels).union(*known)))
    return found


def _texts(node: ast.AST) -> set[str]:
    return {each.value for each in ast.walk(node) if isinstance(each, ast.Constant) and isinstance(each.value, str)}
