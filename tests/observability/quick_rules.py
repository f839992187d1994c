"""Our rules as a test needs them: worked out each second, alerts without patience."""

import re
from collections.abc import Iterable

from inferwatt.export.alerts import rules_text

OF_YESTERDAY = "ratio_to_1d_ago"
"""What compares with yesterday needs a day of load; `promtool test rules` works it out from known figures."""


def quick_rules(budgets: Iterable[tuple[str, float]] = ()) -> str:
    """Return the rules and alerts as they are printed, but for their times."""
    text = rules_text(budgets)
    assert "interval: 30s" in text
    assert re.search(r"\bfor: \d+[mh]", text)
    return re.sub(r"\bfor: \d+[mh]", "for: 0s", text.replace("interval: 30s", "interval: 1s"))
