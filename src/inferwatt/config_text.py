"""TOML text to values and to the line of each key, so that an error can name it. No file is read here.

`tomllib` decides what the text means and forgets where it stood; a small scanner of ours walks the same text again
for the lines only.
"""

import re
import tomllib
from bisect import bisect_right
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from inferwatt.errors import ConfigError

Path = tuple[str | int, ...]
"""Where a value lies: keys, and places in lists."""

DEEPEST = 32
"""Brackets within brackets; far more than any configuration has, far less than the interpreter's stack."""

_BASIC = r'"(?:\\.|[^"\\\n])*"'
_LITERAL = r"'[^'\n]*'"
_LONG = r'"""(?:\\.|[^\\])*?"""+|' + r"'''.*?'''+"
_STRING = re.compile(f"{_LONG}|{_BASIC}|{_LITERAL}", re.DOTALL)
_TOKEN = re.compile(f"{_LONG}|{_BASIC}|{_LITERAL}|#[^\n]*|[][{{}}]", re.DOTALL)
_BARE = re.compile(r"[A-Za-z0-9_-]+")
_BLANK = re.compile(r"(?:[ \t\r\n]|#[^\n]*)*")
_SPACE = re.compile(r"[ \t]*")
_SCALAR = re.compile(r"[^,\]}\n#]*")
_AT_LINE = re.compile(r" ?\(at line (\d+), column \d+\)$")


@dataclass(frozen=True, slots=True)
class Text:
    """What a file says: its values, the line of each path, and which paths it gives a value itself."""

    values: dict[str, Any]
    lines: dict[Path, int]
    given: frozenset[Path]

    def line(self, path: Path) -> int | None:
        """Return the line of `path`, or of the nearest thing that holds it."""
        return next((self.lines[path[:end]] for end in range(len(path), 0, -1) if path[:end] in self.lines), None)


def parse(content: bytes, name: str) -> Text:
    """Read TOML from a file called `name`; a byte order mark is skipped.

    Raises:
        ConfigError: it is not UTF-8, not TOML, gives a key twice or is nested too deeply; with the line.
    """
    text = _decode(content, name)
    _refuse_depth(text, name)
    try:
        values = tomllib.loads(text)
    except ValueError as error:
        raise _not_toml(str(error), text, name) from None
    # tomllib reads CRLF as LF too, so that both walks see the same lines
    return _Scanner(text.replace("\r\n", "\n")).scan(values)


def _decode(content: bytes, name: str) -> str:
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        fix = "save the file as UTF-8 (it looks like UTF-16)" if content[:2] in {b"\xff\xfe", b"\xfe\xff"} else ""
        raise ConfigError("not UTF-8 text", where=f"{name} line {line}", fix=fix or "save the file as UTF-8") from None


def _refuse_depth(text: str, name: str) -> None:
    depth = 0
    for token in _TOKEN.finditer(text):
        depth += {"[": 1, "{": 1, "]": -1, "}": -1}.get(token[0], 0)
        if depth > DEEPEST:
            line = text.count("\n", 0, token.start()) + 1
            what = f"more than {DEEPEST} brackets within each other"
            raise ConfigError(what, where=f"{name} line {line}", fix="nest less: no key needs more than three")


def _not_toml(message: str, text: str, name: str) -> ConfigError:
    found = _AT_LINE.search(message)
    where = name
    if found:
        where = f"{name} line {found[1]}"
    elif "end of document" in message:
        where = f"{name} line {text.rstrip().count(chr(10)) + 1}"
    message = _AT_LINE.sub("", message).replace(" (at end of document)", " at the end of the file")
    twice = message.startswith(("Cannot overwrite", "Cannot declare", "Duplicate", "Cannot mutate"))
    if twice:
        return ConfigError(f"a key or table is given twice: {message}", where=where, fix="keep one of the two")
    fix = 'write key = value, text in "quotes" (all keys: inferwatt config --defaults)'
    return ConfigError(f"not valid TOML: {message}", where=where, fix=fix)


@dataclass(slots=True)
class _Scanner:
    """Walks text that `tomllib` has accepted, so that it need not check anything."""

    text: str
    position: int = 0
    lines: dict[Path, int] = field(default_factory=dict)
    given: set[Path] = field(default_factory=set)
    last: dict[Path, int] = field(default_factory=dict)
    """Each array of tables and the place of its newest one."""

    def scan(self, values: dict[str, Any]) -> Text:
        breaks = [found.start() for found in re.finditer("\n", self.text)]
        table: Path = ()
        self.skip(_BLANK)
        while self.position < len(self.text):
            if self.text[self.position] == "[":
                table = self.header()
            else:
                self.assignment(table)
            self.skip(_BLANK)
        lines = {path: bisect_right(breaks, start - 1) + 1 for path, start in self.lines.items()}
        return Text(values, lines, frozenset(self.given))

    def skip(self, pattern: re.Pattern[str]) -> str:
        found = pattern.match(self.text, self.position)
        if found is None:
            return ""
        self.position = found.end()
        return found[0]

    def header(self) -> Path:
        start = self.position
        brackets = 2 if self.text.startswith("[[", start) else 1
        self.position += brackets
        *parents, name = self.key()
        self.position += brackets
        path: Path = ()
        for part in parents:
            path = (*path, part)
            path = (*path, self.last[path]) if path in self.last else path
        path = (*path, name)
        if brackets == 2:
            self.lines.setdefault(path, start)
            self.last[path] = self.last.get(path, -1) + 1
        if path in self.last:
            path = (*path, self.last[path])
        self.lines[path] = start
        return path

    def key(self) -> tuple[str, ...]:
        parts = []
        while True:
            self.skip(_SPACE)
            quoted = self.skip(_STRING)
            parts.append(tomllib.loads(f"key = {quoted}")["key"] if quoted else self.skip(_BARE))
            self.skip(_SPACE)
            if not self.text.startswith(".", self.position):
                return tuple(parts)
            self.position += 1

    def assignment(self, table: Path) -> None:
        start = self.position
        path = (*table, *self.key())
        for end in range(len(table) + 1, len(path) + 1):
            self.lines.setdefault(path[:end], start)
        self.position += 1
        self.value(path)

    def value(self, path: Path) -> None:
        self.skip(_BLANK)
        self.lines.setdefault(path, self.position)
        opening = self.text[self.position : self.position + 1]
        if opening == "{":
            self.members(lambda _place: self.assignment(path), "}")
            return
        self.given.add(path)
        if opening == "[":
            self.members(lambda place: self.value((*path, place)), "]")
        elif not self.skip(_STRING):
            self.skip(_SCALAR)

    def members(self, member: Callable[[int], None], closing: str) -> None:
        self.position += 1
        self.skip(_BLANK)
        place = 0
        while not self.text.startswith(closing, self.position):
            member(place)
            place += 1
            self.skip(_BLANK)
            if self.text.startswith(",", self.position):
                self.position += 1
                self.skip(_BLANK)
        self.position += 1
