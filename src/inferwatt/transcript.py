"""What the recorder is told, until its disk is full: the records in their order, and what the recording says of itself.

Pure but for the recorder that is handed in; metering goes on without it, since the meter matters more.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Protocol

from inferwatt.recording import Meta, Record


class Recorder(Protocol):
    """What keeps the records in the order in which they were taken (recording.RecordingWriter)."""

    def write(self, record: Record) -> None:
        """Keep one record; OSError where it cannot be kept."""
        ...

    def write_meta(self, meta: Meta) -> None:
        """Keep what the recording says of itself; OSError where it cannot be kept."""
        ...


class Transcript:
    """Hands records to a recorder, if there is one, and stops at the first that it cannot keep."""

    def __init__(self, recorder: Recorder | None, meta: Meta, on_failure: Callable[[], object]) -> None:
        self.meta = meta
        self.error = ""
        self._recorder = recorder
        self._on_failure = on_failure

    def write(self, record: Record) -> None:
        """Keep one record."""
        if self._recorder is not None:
            try:
                self._recorder.write(record)
            except OSError as exc:
                self._stop(exc)

    def describe(self, **known: object) -> None:
        """Keep what is known by now: fields of `Meta`."""
        self.meta = replace(self.meta, **known)  # type: ignore[arg-type]
        if self._recorder is not None:
            try:
                self._recorder.write_meta(self.meta)
            except OSError as exc:
                self._stop(exc)

    def _stop(self, exc: OSError) -> None:
        self.error = exc.strerror or str(exc)
        self._recorder = None
        self._on_failure()
