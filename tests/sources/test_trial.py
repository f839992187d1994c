import errno
from collections.abc import Sequence

from inferwatt.errors import InferwattError, SourceRetry
from inferwatt.records import Reading
from inferwatt.snapshot import Lack
from inferwatt.sources.trial import tried
from inferwatt.testing import ScriptedSource


class Bad(ScriptedSource):
    """A source that opens and cannot be read."""

    times_closed = 0

    def read(self, now_ns: int) -> Reading:
        """Fail."""
        raise SourceRetry("no number", where="there", fix="none")

    def close(self) -> None:
        """Note it."""
        type(self).times_closed += 1


def test_only_what_can_be_read_is_a_source() -> None:
    """What cannot be opened or not be read says why, by its error, and is closed; the next sees who is open already."""

    def opened(name: str, taken: Sequence[ScriptedSource]) -> ScriptedSource:
        if name == "shut":
            raise PermissionError(errno.EACCES, "Permission denied")
        return Bad(name, []) if name == "bad" else ScriptedSource(f"{name}-{len(taken)}", [1])

    def why(name: str, exc: OSError | InferwattError) -> Lack:
        return Lack(f"{name}: {type(exc).__name__}", name, "")

    sources, lacks = tried(["a", "shut", "bad", "b"], opened, why)

    assert [source.device.device for source in sources] == ["a-0", "b-1"]
    assert [lack.what for lack in lacks] == ["shut: PermissionError", "bad: SourceRetry"]
    assert Bad.times_closed == 1
