"""What our plugin touches of objects that are not ours: the attributes that it reads, as its source says."""

import ast
import sys
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from types import MethodType, ModuleType

import inferwatt
from tests.contracts.vllm.source import dotted, members

SOURCE = Path(inferwatt.__file__).parent
GIVEN_NOTHING = {"vllm_courier.py", "vllm_names.py", "vllm_server.py"}
"""Those of our modules named after vLLM that see none of its objects; a new one is taken to see some."""
GETTERS = ("getattr", "_of", "_number")
"""How they read what may be missing: `_of` and `_number` are vllm_shape.py's."""
MODELS = "text"
"""What vllm_shape.py calls a model's own configuration file: transformers', and of many forms, not vLLM's."""
PYTHONS = (str, list, dict, set, frozenset, tuple, int, float, deque, type, MethodType, ModuleType, Exception, Path)

STARLETTES = {"FastAPI", "user_middleware", "cls"}
"""What the middleware touches of FastAPI and Starlette, by which vLLM serves: the real ones are met in tests/vllm."""

DATACLASSES = {"__dataclass_fields__"}
"""What Python gives to each dataclass."""


def touched() -> dict[str, str]:
    """Return the attributes that our modules read of what is neither ours nor Python's, each with such a module."""
    ours = {name for path in SOURCE.rglob("*.py") for name in defined(ast.parse(path.read_text(encoding="utf-8")))}
    pythons = {name for each in PYTHONS for name in dir(each)}
    found: dict[str, str] = {}
    for path in sorted((SOURCE / "engines").glob("vllm_*.py")):
        if path.name not in GIVEN_NOTHING:
            names = set(read(ast.parse(path.read_text(encoding="utf-8"))))
            found.update(dict.fromkeys(names - ours - pythons - STARLETTES - DATACLASSES, path.name))
    return found


def defined(tree: ast.Module) -> Iterator[str]:
    """Return the names that a file gives to classes, functions, and what its objects hold."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef):
            yield node.name
            yield from members(node)
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node.name


def read(tree: ast.Module) -> Iterator[str]:
    """Return the attributes that a file reads by a dot or a getter; not those of modules and of a model's own file."""
    imports = [alias for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names]
    modules = {alias.asname or alias.name.partition(".")[0] for alias in imports} & {*sys.stdlib_module_names}
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Load):
            if dotted(node).partition(".")[0] not in {*modules, "self"}:
                yield node.attr
        elif isinstance(node, ast.Call) and dotted(node.func) in GETTERS and dotted(node.args[0]) != MODELS:
            yield from (str(one.value) for one in node.args[1:2] if isinstance(one, ast.Constant))
