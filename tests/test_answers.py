import pytest

from inferwatt.answers import Answers
from tests.desk import SECOND, Desk, ended


@pytest.mark.parametrize("name", ["r", "chatcmpl-1", "mine"])
def test_without_a_ledger_a_request_is_found_by_any_name(name: str) -> None:
    """By its own, by its answer's, and by the one that its client gave."""
    desk = Desk(store=None)
    desk.live(1)
    desk.say(ended("r", desk.now - SECOND, desk.now, response_id="chatcmpl-1", trace_id="mine"))
    desk.live(3)
    find = Answers(None, lambda: desk.keeper.snapshot)

    assert [found["request"] for found in find(limit=9, request=name)] == ["r"]
    assert find(limit=9, request="another") == []
