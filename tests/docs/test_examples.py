"""What the documents tell people to run, runs, and comes to what they say."""

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from inferwatt import replay
from tests.docs.documents import DOCS, DOCUMENTS, ROOT, all_blocks, blocks, name_of, shell_commands

README = ROOT / "README.md"
RUNS_FOR_LONG = {"agent", "demo"}
NEEDS_AN_AGENT = {"requests"}
COMMANDS = [line for line in shell_commands(README) if "bin/inferwatt" in line]


@pytest.mark.parametrize("line", COMMANDS)
def test_a_command_of_the_readme_runs(line: str, tmp_path: Path) -> None:
    """Each is tried as it stands; one that would run on, or needs another, is asked for its help."""
    words = shlex.split(line)
    command = [sys.executable, "-m", "inferwatt", *words[1:]]
    if words[1] in RUNS_FOR_LONG | NEEDS_AN_AGENT:
        command.append("--help")
    run = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=120)

    assert (run.returncode, "Traceback" in run.stderr) == (0, False), run.stderr


def test_the_readme_names_targets_that_exist() -> None:
    """Each `make TARGET` of the README and of CONTRIBUTING is in the Makefile."""
    targets = set(re.findall(r"^([a-z%-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    lines = [*shell_commands(README), *shell_commands(ROOT / "CONTRIBUTING.md")]
    named = {shlex.split(line)[1] for line in lines if line.startswith("make ")}

    assert named - targets == set()
    assert {"demo", "test", "setup", "check"} <= named


def test_the_recording_in_the_documents_replays_to_what_they_print(tmp_path: Path) -> None:
    """The example of docs/recordings.md, saved as it stands, gives the figures beside it."""
    text = (DOCS / "recordings.md").read_text(encoding="utf-8")
    for name, content in re.findall(r"^`([a-z]+\.jsonl?)`\n```json\n(.*?)^```", text, re.MULTILINE | re.DOTALL):
        (tmp_path / name).write_text(content, encoding="utf-8")
    printed = [
        json.loads(re.sub(r", \.\.\.\}", "}", line)) for line in blocks(DOCS / "recordings.md", "json")[-1].splitlines()
    ]

    rows = list(replay.replay(tmp_path).rows())

    assert [{key: row[key] for key in shown} for row, shown in zip(rows, printed, strict=True)] == printed


@pytest.mark.parametrize("path", DOCUMENTS, ids=name_of)
def test_python_in_a_document_is_python(path: Path) -> None:
    """Each block compiles; await may stand by itself, as in a notebook."""
    for block in all_blocks(path):
        if block.language == "python":
            compile(block.text, name_of(path), "exec", flags=0x2000)  # ast.PyCF_ALLOW_TOP_LEVEL_AWAIT


def test_the_example_of_a_meter_runs(tmp_path: Path) -> None:
    """The block of docs/sdk.md that needs no client prints this process's joules, or what is lacking."""
    example = next(text for text in blocks(DOCS / "sdk.md", "python") if "inferwatt.meter()" in text)
    settings = {**os.environ, "INFERWATT_SOCKET": str(tmp_path / "nobody.sock")}
    run = subprocess.run(
        [sys.executable, "-c", example], capture_output=True, text=True, check=False, timeout=120, env=settings
    )

    assert run.returncode == 0, run.stderr
    assert run.stdout.strip()
