"""The page's sources against ours: same fields, same words, and not too large."""

import dataclasses
import gzip
import re

import pytest

from inferwatt import records, snapshot
from tests.bundle import ROOT, STATIC, bundle

APP = ROOT / "src" / "inferwatt" / "web" / "app"
VIEWS = ("DeviceView", "ModelView", "TenantView", "RequestView", "Lack", "EngineView", "LiveView")


@pytest.mark.parametrize("name", VIEWS)
def test_the_page_knows_the_fields_of_the_snapshot(name: str) -> None:
    """Each view in view.ts has the fields of snapshot.py, in their order."""
    found = re.search(rf"export interface {name} \{{(.*?)\n\}}", (APP / "src" / "view.ts").read_text(), re.DOTALL)
    fields = [field.name for field in dataclasses.fields(getattr(snapshot, name))]

    assert found is not None
    assert fields == re.findall(r"^  (\w+): ", found[1], re.MULTILINE)


def test_the_page_knows_every_provenance() -> None:
    """The words of view.ts are those of records.py, best first."""
    found = re.search(r"PROVENANCES: readonly Provenance\[\] = \[(.*?)\]", (APP / "src" / "view.ts").read_text(), re.S)

    assert found is not None
    assert list(records.Provenance) == re.findall(r'"(\w+)"', found[1])


@pytest.mark.real
def test_it_is_small() -> None:
    """Script and style together stay under 60 kB as they are sent, gzipped."""
    bundle()
    sent = sum(len(gzip.compress((STATIC / name).read_bytes())) for name in ("app.js", "app.css"))

    assert sent < 60_000
