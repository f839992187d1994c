from hypothesis import given
from hypothesis import strategies as st

from inferwatt.folding import FOLDED, Names

WORDS = st.lists(st.text(max_size=3), max_size=40)


@given(WORDS, st.integers(0, 5))
def test_no_more_names_than_the_limit_and_each_fold_is_counted_once(words: list[str], limit: int) -> None:
    """Whatever names come, at most `limit` are shown besides the fold; who has none stays without."""
    folds: list[int] = []
    names = Names(limit, lambda: folds.append(1))
    shown = {word: names.shown(word) for word in words}
    again = {word: names.shown(word) for word in words}

    assert shown == again
    assert len(set(shown.values()) - {FOLDED, ""}) <= limit
    assert all(name in (word, FOLDED) for word, name in shown.items())
    assert shown.get("", "") == ""
    assert limit == 0 or len(folds) == sum(name == FOLDED != word for word, name in shown.items())


@given(WORDS, WORDS)
def test_a_restart_keeps_every_name(before: list[str], after: list[str]) -> None:
    """A name of an earlier run stays named even where there were more of them than are allowed now."""
    names = Names(1, lambda: None)
    names.restore([*before, "", FOLDED])

    assert [names.shown(word) for word in before] == before
    assert all(names.shown(word) == (word if word in before or word in ("", FOLDED) else FOLDED) for word in after) or (
        set(before) <= {"", FOLDED}
    )
