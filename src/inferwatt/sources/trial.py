"""Open what was found and read it once: only what can be read is a source, and what cannot be says why."""

import errno
import os
import stat
from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

from inferwatt.errors import InferwattError
from inferwatt.snapshot import Lack
from inferwatt.sources import Source

P = TypeVar("P")
S = TypeVar("S", bound=Source)


def tried(
    places: Iterable[P],
    open_one: Callable[[P, Sequence[S]], S],
    lack_of: Callable[[P, OSError | InferwattError], Lack],
) -> tuple[list[S], list[Lack]]:
    """Return the sources that can be read, and for each place that cannot be why.

    Args:
        places: where there may be one.
        open_one: opens the source of a place, given those that are open already; OSError where it cannot.
        lack_of: says what it means that a place cannot be opened (OSError), or not be read.
    """
    sources: list[S] = []
    lacks: list[Lack] = []
    for place in places:
        try:
            source = open_one(place, sources)
        except OSError as exc:
            lacks.append(lack_of(place, exc))
            continue
        try:
            source.read(0)
        except InferwattError as exc:
            source.close()
            lacks.append(lack_of(place, exc))
        else:
            sources.append(source)
    return sources, lacks


def check_regular(fd: int) -> None:
    """Let only a regular file pass: a FIFO in its place would hang every read.

    Raises:
        OSError: it is something else.
    """
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        raise OSError(errno.EINVAL, "is not a regular file")
