"""Every command and option is documented, and every command that we name exists."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from docs import make_cli
from inferwatt.cli import cli
from tests.docs.documents import DOCUMENTS, ROOT, name_of

SOURCE = ROOT / "src" / "inferwatt"
ADVICE = re.compile(r"(?:^|[`(]|[:;,] |&& )inferwatt ([a-z]+(?:-[a-z]+)*)\b((?: --[a-z][a-z-]*)*)")


def test_the_page_of_the_commands_is_up_to_date() -> None:
    """docs/cli.md is what `python docs/make_cli.py` would write now."""
    assert make_cli.PAGE.read_text(encoding="utf-8") == make_cli.page()


@pytest.mark.parametrize("name", sorted(cli.commands))
def test_a_command_is_documented_with_all_its_options(name: str) -> None:
    """Each command has a section with every option and an example."""
    section = make_cli.section(name, cli.commands[name])
    options = [option for param in cli.commands[name].params for option in param.opts if option.startswith("--")]

    assert [option for option in options if f"`{option}" not in section] == []
    assert "Example: `inferwatt " in section


def words_of_messages(path: Path) -> Iterator[str]:
    """Yield the texts that a module holds, its docstrings left out."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    silent = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in silent:
            yield node.value


def unknown(text: str) -> list[str]:
    """Return the commands that a text advises and that are not there."""
    wrong = []
    for name, options in ADVICE.findall(text):
        command = cli.commands.get(name)
        known = {option for param in command.params for option in param.opts} if command else set()
        if command is None or set(options.split()) - known:
            wrong.append(f"inferwatt {name}{options}")
    return wrong


@pytest.mark.parametrize("path", sorted(SOURCE.rglob("*.py")), ids=lambda path: path.relative_to(SOURCE).as_posix())
def test_a_message_advises_only_commands_that_exist(path: Path) -> None:
    """What an error tells a user to type can be typed."""
    assert [wrong for text in words_of_messages(path) for wrong in unknown(text)] == []


@pytest.mark.parametrize("path", DOCUMENTS, ids=name_of)
def test_a_document_names_only_commands_that_exist(path: Path) -> None:
    """Each `inferwatt COMMAND` in code quotes or blocks of a document is there, with its options."""
    text = path.read_text(encoding="utf-8")
    quoted = re.findall(r"`(inferwatt [^`]+)`", text) + re.findall(
        r"^(?:\.venv/bin/)?(inferwatt .+)$", text, re.MULTILINE
    )
    prose = re.compile(r"inferwatt \d")  # the agent's first line carries its version

    assert [wrong for line in quoted if not prose.match(line) for wrong in unknown(line)] == []


def test_every_command_says_what_it_does() -> None:
    """Help is there, short and long."""
    silent = [name for name, command in cli.commands.items() if not (command.help and command.short_help)]

    assert silent == []
    assert isinstance(cli, click.Group)
