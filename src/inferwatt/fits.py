"""What the meter has learnt, kept in a file between two runs of the agent: lost, it is learnt again."""

import logging
from collections.abc import Iterable
from pathlib import Path

import msgspec

from inferwatt.records import Fit

NAME = "fits.json"
_FORMAT = "inferwatt-fits/1"
_MOST_BYTES = 4_000_000
log = logging.getLogger("inferwatt")


class _File(msgspec.Struct):
    format: str
    fits: tuple[Fit, ...]


def read_fits(folder: Path) -> tuple[Fit, ...]:
    """Return what was learnt another time; nothing where no file is, or none that can be read."""
    path = folder / NAME
    try:
        with path.open("rb") as stream:
            found = msgspec.json.decode(stream.read(_MOST_BYTES), type=_File)
    except FileNotFoundError:
        return ()
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError) as exc:
        log.warning("what was learnt before cannot be read, and is learnt anew: %s: %s", path, exc)
        return ()
    return found.fits if found.format == _FORMAT else ()


def write_fits(folder: Path, fits: Iterable[Fit]) -> None:
    """Keep what is learnt, whole or not at all; where it cannot be kept the next run learns it again."""
    path = folder / NAME
    temporary = path.with_suffix(".new")
    try:
        temporary.write_bytes(msgspec.json.encode(_File(_FORMAT, tuple(fits))))
        temporary.replace(path)
    except OSError as exc:
        log.warning("what was learnt cannot be kept: %s: %s", path, exc.strerror)
