"""The image cannot be built without a daemon and a base image; what it consists of can be run (docs/container.md)."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FILE = ROOT / "deploy" / "Containerfile"


def stages() -> list[list[list[str]]]:
    """Return the words of each instruction, by stage."""
    lines = [line for line in FILE.read_text(encoding="utf-8").splitlines() if line and not line.startswith("#")]
    found: list[list[list[str]]] = []
    for words in (line.split(maxsplit=1) for line in lines):
        if words[0] == "FROM":
            found.append([])
        found[-1].append(words)
    return found


def given(stage: list[list[str]], instruction: str) -> list[str]:
    """Return what follows an instruction, each time that it stands in the stage."""
    return [rest for name, rest in stage if name == instruction]


def test_the_last_stage_is_small_and_nobodys_root() -> None:
    """Not root, a volume for the ledger, a health check, and nothing of the build but one folder."""
    build, final = stages()

    assert given(build, "FROM") == ["python:3.13-slim AS build"]
    assert given(final, "FROM") == ["python:3.13-slim"]
    assert given(final, "USER") == ["10001"]
    assert given(final, "VOLUME") == ['["/var/lib/inferwatt"]']
    assert given(final, "COPY") == ["--from=build /opt/inferwatt /opt/inferwatt"]
    assert "http://127.0.0.1:9595/healthz" in given(final, "HEALTHCHECK")[0]
    assert given(final, "ENTRYPOINT") == ['["inferwatt"]']


def test_every_package_is_pinned_by_its_hash() -> None:
    """No package is installed without its hash but our own wheel."""
    installs = [part for run in given(stages()[0], "RUN") for part in run.split(" && ") if "pip install" in part]

    assert len(installs) == 3
    assert all("--no-deps" in part for part in installs)
    assert all("--require-hashes" in part for part in installs if not part.endswith("/wheel/*.whl"))


def test_the_builder_is_given_what_is_copied_and_no_environment() -> None:
    """All of a checkout is left out but what a COPY of the build stage names: gigabytes, and what may be secret."""
    lines = [line for line in (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines() if line[0] != "#"]
    given_to_it = {line.removeprefix("!") for line in lines if line.startswith("!")}
    copied = {part for copy in given(stages()[0], "COPY") for part in copy.split()[:-1]}

    assert lines[0] == "*"
    assert {part.split("/")[0] if part.startswith("constraints/") else part for part in copied} == given_to_it


@pytest.mark.real
def test_the_commands_of_the_build_make_an_agent(tmp_path: Path) -> None:
    """Each COPY and RUN of the build stage, in folders of its own instead of /src and /opt: what comes out runs."""
    source = tmp_path / "src"
    source.mkdir()
    for name, rest in stages()[0]:
        if name == "COPY":
            *parts, target = rest.split()
            for part in parts:
                copy(ROOT / part, source / target / (Path(part).name if target.endswith("/") else ""))
        elif name == "RUN":
            command = re.sub(r"(?<![\w/])/opt/", f"{tmp_path}/", rest)
            command = re.sub(r"(?<![\w/-])python -m venv", f"{sys.executable} -m venv", command)
            command = command.replace("--no-cache-dir", "--no-compile")  # a test need not wait for it
            subprocess.run(["sh", "-ec", command], cwd=source, check=True, capture_output=True, timeout=400)

    program = tmp_path / "inferwatt" / "bin" / "inferwatt"
    said = subprocess.run([program, "--version"], check=True, capture_output=True, text=True)
    board = subprocess.run([program, "print", "grafana"], check=True, capture_output=True, text=True)

    assert "0.1.0" in said.stdout
    assert '"title"' in board.stdout


def copy(source: Path, target: Path) -> None:
    """Copy a file or a folder as the builder does; what a checkout has installed stays behind."""
    if source.is_dir():
        shutil.copytree(source, target, ignore=shutil.ignore_patterns("node_modules", "__pycache__", "static"))
    else:
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(source, target)
