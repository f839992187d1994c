"""What the inbox took in and turned away. No I/O."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class InboxHealth:
    """What the inbox took in and turned away since its start; keys of `rejected` and `refused` are fixed words."""

    connections: int
    frames: int
    records: int
    repeated_frames: int
    missing_frames: int
    skipped_pushes: int
    rejected: Mapping[str, int]
    refused: Mapping[str, int]
