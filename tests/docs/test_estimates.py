"""The page of the estimates."""

from docs import make_estimates

OUTSIDE = ["How Hungry is AI", "DeepSeek"]


def test_the_tables_of_the_estimates_are_up_to_date() -> None:
    """docs/estimates.md is what `python docs/make_estimates.py` would write now."""
    text = make_estimates.PAGE.read_text(encoding="utf-8")

    assert make_estimates.page(text) == text


def test_where_we_are_outside_is_said() -> None:
    """Each published figure has a verdict, and those outside are named in words below the table."""
    rows = list(make_estimates.checked())[2:]

    assert len(rows) == len(make_estimates.CHECKED)
    assert [row.split("|")[1].split(",")[0].strip() for row in rows if "**outside**" in row] == OUTSIDE
    words = make_estimates.PAGE.read_text(encoding="utf-8").partition("Where we are outside")[2].partition("## ")[0]
    assert all(who in words for who in OUTSIDE)
