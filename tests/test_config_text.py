import msgspec
from hypothesis import given
from hypothesis import strategies as st

from inferwatt.config_text import parse
from inferwatt.errors import ConfigError

KEYS = st.text("ab-_1", min_size=1, max_size=3) | st.text(st.characters(exclude_categories=["Cs"]), max_size=3)
SCALARS = st.integers() | st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=5) | st.booleans()


@given(st.lists(st.tuples(KEYS, st.lists(SCALARS, max_size=3) | SCALARS), max_size=5, unique_by=lambda pair: pair[0]))
def test_every_key_is_found_on_its_own_line(pairs: list[tuple[str, object]]) -> None:
    """However keys are quoted and values written, key number n is on line 2n + 1."""

    def quote(value: object) -> str:
        return msgspec.json.encode(value).decode().replace("\x7f", "\\u007f")

    text = "".join(f"{quote(key)} = {quote(value)} # x = 1\n\n" for key, value in pairs)

    assert {(key,): 2 * place + 1 for place, (key, _) in enumerate(pairs)} == {
        path: line for path, line in parse(text.encode(), "f").lines.items() if len(path) == 1
    }


@given(st.text())
def test_no_text_does_anything_but_load_or_be_refused(text: str) -> None:
    """Any file at all is values or a ConfigError."""
    try:
        values = parse(text.encode("utf-8", "replace"), "f").values
    except ConfigError:
        return
    assert isinstance(values, dict)


def test_every_kind_of_string_and_table_keeps_its_lines() -> None:
    """Long strings, dotted keys, inline tables, arrays over lines and arrays of tables do not lose the count."""
    text = b'''a.b = """
[not.a.table]
""" # c = 1
[t] # [x]
"q.r" = {s = 1, u = [1,
  2]}
[[t.v]]
w = \'\'\'
\'\'\'
[[t.v]]
x = 07:32:00
[t.v.y]
z = "\\"#"
'''
    lines = parse(text, "f").lines

    assert {
        ("a", "b"): 1,
        ("t",): 4,
        ("t", "q.r"): 5,
        ("t", "q.r", "u", 1): 6,
        ("t", "v", 0): 7,
        ("t", "v", 0, "w"): 8,
        ("t", "v", 1): 10,
        ("t", "v", 1, "x"): 11,
        ("t", "v", 1, "y"): 12,
        ("t", "v", 1, "y", "z"): 13,
    }.items() <= lines.items()
