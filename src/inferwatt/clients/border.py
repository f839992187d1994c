"""The border to the host's code: what fails in ours is counted, told once in the log, and never raised."""

from collections import Counter
from collections.abc import Callable
from typing import Any

troubles: Counter[str] = Counter()
"""What went wrong in our own code, by where."""


def guarded(where: str, work: Callable[..., Any], *args: object) -> Any:  # noqa: ANN401 - what the work returns
    """Return what `work` returns; None where it fails."""
    try:
        return work(*args)
    except Exception as exc:  # noqa: BLE001 - the border to the host
        failed(where, exc)
        return None


def failed(where: str, exc: Exception) -> None:
    """Count what failed; warn of it the first time, in the log `inferwatt`."""
    troubles[where] += 1
    if troubles[where] == 1:
        import logging

        logging.getLogger("inferwatt").warning("%s cannot be read, calls go on without it: %r", where, exc)
