"""Whether a producer's hello can be answered. Pure."""

import re

from inferwatt import wire
from inferwatt.errors import RecordRejected

_PRODUCER = re.compile("[0-9a-f]{32}")


class Unwelcome(RecordRejected):
    """Nothing that follows can be understood: close the connection."""


def producer_of(message: wire.Message, boot_id: str) -> str:
    """Return who says hello.

    Raises:
        Unwelcome: it speaks another version, or lives on another machine or boot than `boot_id` (empty: not checked).
        RecordRejected: it does not say who it is; it may say it again.
    """
    if message.get("v") != wire.VERSION:
        what = f"this agent speaks version {wire.VERSION} of the wire"
        raise Unwelcome(what, where="v", fix="install the agent's version of inferwatt")
    producer = message.get("producer")
    if not isinstance(producer, str) or not _PRODUCER.fullmatch(producer):
        raise RecordRejected("not a producer", where="producer", fix="send 32 hexadecimal digits")
    if boot_id and message.get("boot_id") != boot_id:
        raise Unwelcome("another machine or boot", where="boot_id", fix="use the agent of your own machine")
    return producer
