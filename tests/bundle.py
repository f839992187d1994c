"""The build hook, for tests: hatch_build.py lies beside the package, not in it."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

ROOT = Path(__file__).resolve().parent.parent
STATIC = ROOT / "src" / "inferwatt" / "web" / "static"


def hook() -> ModuleType:
    """Load hatch_build.py as a module."""
    spec = importlib.util.spec_from_file_location("hatch_build", ROOT / "hatch_build.py")
    if spec is None or spec.loader is None:
        raise ImportError("hatch_build.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules["hatch_build"] = module
    spec.loader.exec_module(module)
    return module


def bundle() -> None:
    """Make the page's bundle where there is none, or an old one."""
    hook().bundle(ROOT)
