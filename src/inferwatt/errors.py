"""Errors are classed by what the caller should do, not by what the driver said.

InferwattError
├── ConfigError      the user must change the configuration: stop, exit status 2
├── Unavailable      something that this command needs is not there: stop, exit status 1
├── SourceRetry      this read failed, the next may work: count it, go on
├── SourceGone       the device will not come back by itself: drop it, look again later
├── RecordRejected   this record is malformed: count it, drop it
└── LedgerRetry      this commit failed, a later one may work: keep the rows, count it
"""


class InferwattError(Exception):
    """What is wrong, where, and what to do; the CLI prints it without a traceback."""

    def __init__(self, what: str, *, where: object, fix: str) -> None:
        super().__init__(f"{what}\n  where: {where}\n  fix:   {fix}")
        self.what = what
        self.where = str(where)
        self.fix = fix


class ConfigError(InferwattError):
    """The configuration is wrong: the start stops with exit status 2."""


class Unavailable(InferwattError):
    """A server, a file or an extra that this command needs is not there: exit status 1."""


class SourceRetry(InferwattError):
    """This read failed, the next may work: the sampler counts a lost sample."""


class SourceGone(InferwattError):
    """The device will not come back by itself: the sampler drops it, the others go on."""


_REASONS = {
    "ended already": "duplicate",
    "ends before": "end_before_start",
    "unknown device": "unknown_device",
    "unknown engine": "unknown_engine",
}


class RecordRejected(InferwattError):
    """A record or frame is malformed: it is dropped and counted, the connection may go on."""

    @property
    def reason(self) -> str:
        """Why, in a short fixed word: what drops are counted by."""
        return next((reason for words, reason in _REASONS.items() if words in self.what), "malformed")


class LedgerRetry(InferwattError):
    """A commit failed (disk full, I/O error): its rows are kept in memory and tried again."""
