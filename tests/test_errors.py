import pytest

from inferwatt import errors
from inferwatt.errors import InferwattError

CLASSES = sorted(
    (kind for kind in vars(errors).values() if isinstance(kind, type) and kind is not InferwattError),
    key=lambda kind: kind.__name__,
)


@pytest.mark.parametrize("kind", CLASSES)
def test_every_error_says_what_where_and_what_to_do(kind: type[InferwattError]) -> None:
    """Each class prints the three, once and in this order, and keeps them apart for logs and the page."""
    error = kind("the disk is full", where=17, fix="free space")

    assert str(error) == "the disk is full\n  where: 17\n  fix:   free space"
    assert (error.what, error.where, error.fix) == ("the disk is full", "17", "free space")


@pytest.mark.parametrize("kind", CLASSES)
def test_every_error_is_ours_and_only_one_of_ours(kind: type[InferwattError]) -> None:
    """A handler of one class never catches another by accident; a handler of all catches each."""
    assert kind.__bases__ == (InferwattError,)


def test_the_tree_in_the_documentation_is_the_tree() -> None:
    """The module's docstring names each class."""
    assert errors.__doc__ is not None
    assert [kind.__name__ for kind in CLASSES if kind.__name__ not in errors.__doc__] == []
