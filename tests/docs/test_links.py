"""What a document points at is there."""

from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.docs.documents import DOCUMENTS, ROOT, anchors, links, name_of

SOURCE = ROOT / "src" / "inferwatt"
LARGEST_PICTURE_BYTES = 300_000


@pytest.mark.parametrize("path", DOCUMENTS, ids=name_of)
def test_links_lead_somewhere(path: Path) -> None:
    """Each link within the repository names a file, and a heading of it, that exist."""
    lost = []
    for link in links(path):
        target = urlsplit(link)
        if target.scheme:
            continue
        file = path.parent / target.path if target.path else path
        if not file.exists() or (target.fragment and target.fragment not in anchors(file)):
            lost.append(link)

    assert lost == []


def test_pictures_are_small() -> None:
    """A clone stays light."""
    pictures = list((ROOT / "docs" / "images").iterdir())

    assert [name_of(path) for path in pictures if path.stat().st_size > LARGEST_PICTURE_BYTES] == []
    assert pictures


def test_the_tree_names_every_module() -> None:
    """ARCHITECTURE.md has a word on each module, and names none that is gone."""
    text = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8")
    tree = text.partition("## The tree")[2].partition("```\n")[2].partition("```")[0]
    named = set(tree.replace(",", " ").replace("(", " ").split())
    modules = {path.stem for path in SOURCE.rglob("*.py") if not path.stem.startswith("__")}

    assert sorted(modules - named) == []
