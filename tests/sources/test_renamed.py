"""A device under another name: every record of it has that name, and nothing else changes."""

from dataclasses import replace

from inferwatt.records import Condition, Device, Event, EventKind, Reading, Usage
from inferwatt.sources import Said
from inferwatt.sources.renamed import Renamed
from inferwatt.testing import ScriptedSource

RECORDS = (
    Reading(5, "gpu-0", 7),
    Usage(1, 5, "gpu-0", {3: 0.5}, 0.0, 0.1),
    Condition(5, "gpu-0", 0.4),
    Event(5, EventKind.READ_FAILURE, "gpu-0", detail="x"),
)


class Answering(ScriptedSource):
    """Says what it is told to say."""

    def __init__(self, said: Said) -> None:
        super().__init__(Device("gpu-0", kind="X", uuid="amd-1"), [], period_ns=9)
        self.said = said

    def read(self, now_ns: int) -> Said:  # type: ignore[override]
        """Return it."""
        return self.said


def test_every_record_has_the_other_name() -> None:
    """A reading alone, records of all kinds together, and nothing at all."""
    for said, expected in (
        (RECORDS[0], replace(RECORDS[0], device="gpu-9")),
        (RECORDS, tuple(replace(record, device="gpu-9") for record in RECORDS)),
        (None, None),
    ):
        source = Answering(said)
        renamed = Renamed(source, replace(source.device, device="gpu-9"))

        assert renamed.read(5) == expected
        assert (renamed.name, renamed.period_ns, renamed.device.uuid) == ("scripted", 9, "amd-1")
        renamed.close()
        assert source.closed


def test_a_slow_device_is_still_known_to_be_slow() -> None:
    """How often it asks is not how often it hands over."""
    source = Answering(None)
    renamed = Renamed(source, source.device)

    assert renamed.poll_ns == 9
    source.poll_ns = 90  # type: ignore[attr-defined]
    assert renamed.poll_ns == 90
