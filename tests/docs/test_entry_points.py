"""Every source and server that we bring has a page, in the same four parts."""

import re
import tomllib
from pathlib import Path

import pytest

from tests.docs.documents import DOCS, ROOT, name_of

POINTS = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["entry-points"]
OF_ALL = {"README.md", "faults.md", "vllm-versions.md"}
PAGES = sorted(
    page for room in ("sources", "servers") for page in (DOCS / room).glob("*.md") if page.name not in OF_ALL
)
FOLDERS = {"inferwatt.sources": "sources", "inferwatt.engines": "servers"}
"""Where the pages are of what registers with us; what we register with others (vLLM) is told where it is used."""
PARTS = ["Requirements", "Metrics", "Configuration", "More information"]


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_a_page_has_the_four_parts(page: Path) -> None:
    """Who knows one page finds the way in all of them."""
    assert re.findall(r"^## (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE) == PARTS


def test_every_entry_point_has_a_page() -> None:
    """Each source and each server that is found by itself is documented, and none that is not there."""
    expected = {f"docs/sources/{name}.md" for name in POINTS["inferwatt.sources"]}
    expected |= {f"docs/servers/{name}.md" for name in POINTS["inferwatt.engines"]}

    assert {name_of(page) for page in PAGES} == expected


@pytest.mark.parametrize("name", sorted(f"{group}:{name}" for group in FOLDERS for name in POINTS[group]))
def test_the_readme_leads_to_it(name: str) -> None:
    """The table of sources and servers links each page."""
    group, _, point = name.partition(":")

    assert f"(docs/{FOLDERS[group]}/{point}.md)" in (ROOT / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", sorted(POINTS["inferwatt.sources"]))
def test_the_sources_stand_side_by_side(name: str) -> None:
    """Each source has a row in both tables of docs/sources: what it needs and sees, and how far off it can be."""
    rows = re.findall(r"^\| (.+?) \|", (DOCS / "sources" / "README.md").read_text(encoding="utf-8"), re.MULTILINE)

    assert [row for row in rows if row.endswith(f"]({name}.md) (`{name}`)")]
    assert [row for row in rows if f"`{name}`" in row and "]" not in row]
