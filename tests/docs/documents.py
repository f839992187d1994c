"""The documents of the repository, as text: their blocks, their links, their headings."""

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
DOCS = ROOT / "docs"
DOCUMENTS = tuple(sorted([*(path for path in ROOT.glob("*.md") if not path.name.startswith(".")), *DOCS.rglob("*.md")]))

_BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\]\(([^)\s]+)\)|(?:src|srcset)=\"([^\"]+)\"")


@dataclass(frozen=True, slots=True)
class Block:
    """One fenced block: its language, and the text."""

    language: str
    text: str


def name_of(path: Path) -> str:
    """Name a document as the repository does."""
    return path.relative_to(ROOT).as_posix()


def blocks(path: Path, language: str) -> list[str]:
    """Return the texts of a document's blocks in one language."""
    return [block.text for block in all_blocks(path) if block.language == language]


def all_blocks(path: Path) -> list[Block]:
    """Return all fenced blocks."""
    return [Block(*found) for found in _BLOCK.findall(path.read_text(encoding="utf-8"))]


def links(path: Path) -> list[str]:
    """Return what a document points at, fenced blocks left out."""
    text = _BLOCK.sub("", path.read_text(encoding="utf-8"))
    return [first or second for first, second in _LINK.findall(text)]


def anchors(path: Path) -> set[str]:
    """Return the names by which a document's headings can be linked, as GitHub makes them."""
    text = _BLOCK.sub("", path.read_text(encoding="utf-8"))
    titles = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def shell_commands(path: Path) -> list[str]:
    """Return the commands of a document's `sh` blocks, without comments."""
    text = "".join(blocks(path, "sh")).replace("\\\n", " ")
    return [line for raw in text.splitlines() if (line := re.sub(r"(^|\s)#\s.*$", "", raw).strip())]
