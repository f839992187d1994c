"""The plugin's own code against vLLM's own classes, each time with one field deleted; runs in vLLM's environment.

Prints a JSON object: by field, what the plugin says that is absent, and whether it records a scheduler's steps.
"""

import dataclasses
import json
import os
import sys
from importlib import import_module
from typing import Any

import msgspec

from inferwatt.engines import vllm_lacks, vllm_plugin
from inferwatt.engines.vllm_front import FrontLogger
from inferwatt.engines.vllm_recorder import metered


class Scheduler:
    """What stands for a scheduler that vLLM has built: the plugin asks it for nothing but its configuration."""


def without(owner: Any, name: str) -> Any:
    """Return a class with the fields, or the methods, of another but one."""
    called = owner.__name__
    if dataclasses.is_dataclass(owner):
        left = [(one.name, one.type) for one in dataclasses.fields(owner) if one.name != name]
        return dataclasses.make_dataclass(called, left, kw_only=True)
    if issubclass(owner, msgspec.Struct):
        return msgspec.defstruct(called, [one for one in owner.__struct_fields__ if one != name], kw_only=True)
    return type(called, (), {one: getattr(owner, one) for one in dir(owner) if one[:2] != "__" and one != name})


def told() -> dict[str, Any]:
    """Return what the plugin says now, and whether it records."""
    vllm_lacks.lacks.cache_clear()
    recorder = vllm_plugin.start(metered(Scheduler, lambda _: None)())
    FrontLogger(None).record(None, None)
    return {"lacks": vllm_lacks.lacks(), "records": recorder is not None}


def main() -> None:
    """Look at vLLM as it is, then at each field's absence."""
    os.environ["INFERWATT_VLLM"] = "1"
    found = {"": told()}
    for (module, name), fields in {**vllm_lacks.STEPS, **vllm_lacks.ENDS}.items():
        where = import_module(module)
        owner = getattr(where, name)
        for field in fields:
            setattr(where, name, without(owner, field))
            found[f"{name}.{field}"] = told()
        setattr(where, name, owner)
    sys.stdout.write(json.dumps(found) + "\n")


if __name__ == "__main__":
    main()
