"""Every key of the configuration is documented."""

import re
from collections.abc import Iterator

import msgspec
import pytest

from inferwatt.config_schema import literal
from inferwatt.settings import AgentConfig
from tests.docs.documents import DOCS

PAGE = (DOCS / "agent.md").read_text(encoding="utf-8")
SECTION = PAGE.partition("## Configuration\n")[2].partition("\n## ")[0]
ROWS = dict(re.findall(r"^\| `([a-z_.]+)` \|([^|]*)\|", SECTION, re.MULTILINE))


def keys(schema: type[msgspec.Struct], path: str = "") -> Iterator[tuple[str, object]]:
    """Yield each key with its default; tables in a list are walked too."""
    for field in msgspec.structs.fields(schema):
        name = f"{path}{field.encode_name}"
        inside = [kind for kind in (field.type, *getattr(field.type, "__args__", ())) if is_section(kind)]
        if not inside or inside[0] is not field.type:
            yield name, field.default
        for kind in inside:
            yield from keys(kind, f"{name}.")


def is_section(kind: object) -> bool:
    """Tell a section from a value."""
    return isinstance(kind, type) and issubclass(kind, msgspec.Struct)


@pytest.mark.parametrize(("name", "default"), [pytest.param(*key, id=key[0]) for key in keys(AgentConfig)])
def test_a_key_is_documented_with_its_default(name: str, default: object) -> None:
    """docs/agent.md has a row for it, and says what it is where nothing is set."""
    stated = ROWS[name].strip().strip("`")

    is_unset = default is msgspec.NODEFAULT or default is None or name == "engines.server"

    assert stated == ("" if is_unset else literal(default))


def test_no_key_is_documented_that_is_not_there() -> None:
    """The table has no row beyond the keys."""
    assert set(ROWS) == {name for name, _ in keys(AgentConfig)}
