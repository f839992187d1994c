"""Writes docs/cli.md from the commands themselves: `python docs/make_cli.py`; a test asks that it is up to date."""

import inspect
from collections.abc import Iterator
from pathlib import Path

import click

from inferwatt.cli import EXIT_CONFIG, EXIT_FAILED, EXIT_INTERRUPTED, cli

PAGE = Path(__file__).with_name("cli.md")

HEAD = f"""# Commands

*Written by `docs/make_cli.py` from `src/inferwatt/cli.py`: change it there.*

Exit status: 0 when all went well, {EXIT_FAILED} when something that the command needs is not there, {EXIT_CONFIG} when
the configuration or the command line is wrong, {EXIT_INTERRUPTED} after Ctrl-C. `inferwatt run` exits as its command
did. An error says what is wrong, where, and what to do; there is no traceback.

`inferwatt --version` prints the version; `-h` or `--help` works everywhere.
"""


def page() -> str:
    """Return the page."""
    return HEAD + "".join(f"\n{section(name, command)}" for name, command in sorted(cli.commands.items()))


def section(name: str, command: click.Command) -> str:
    """Return one command's section."""
    arguments = [param for param in command.params if isinstance(param, click.Argument)]
    usage = " ".join(["inferwatt", name, *(["[OPTIONS]"] if has_options(command) else []), *map(spelled, arguments)])
    parts = [f"## inferwatt {name}", "", inspect.cleandoc(command.help or ""), "", "```", usage, "```"]
    if has_options(command):
        parts += ["", *options(command)]
    if command.epilog:
        parts += ["", f"Example: `{command.epilog.removeprefix('Example: ')}`"]
    return "\n".join(parts) + "\n"


def has_options(command: click.Command) -> bool:
    """Tell whether there is an option besides --help."""
    return any(isinstance(param, click.Option) for param in command.params)


def spelled(argument: click.Argument) -> str:
    """Return an argument as usage lines write it."""
    name = (argument.metavar or argument.name or "").upper()
    return f"{name}..." if argument.nargs == -1 else name


def options(command: click.Command) -> Iterator[str]:
    """Yield a table of the options."""
    yield "| option | what | default |"
    yield "|---|---|---|"
    for param in command.params:
        if isinstance(param, click.Option):
            flag = ", ".join(param.opts) + ("" if param.is_flag else f" {value_of(param)}")
            default = f"`{param.default}`" if param.show_default and param.default is not None else ""
            yield f"| `{flag}` | {(param.help or '').strip()} | {default} |"


def value_of(option: click.Option) -> str:
    """Return what an option's value is called, with its bounds or choices."""
    kind = option.type
    if isinstance(kind, click.Choice):
        return "/".join(map(str, kind.choices))
    name = option.metavar or {"integer range": "INTEGER", "float range": "NUMBER"}.get(kind.name, kind.name).upper()
    if isinstance(kind, click.IntRange | click.FloatRange):
        low = "" if kind.min is None else f"{kind.min:g} to "
        name += f" ({low}{kind.max:g})" if kind.max is not None else f" (from {kind.min:g})"
    return name


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
