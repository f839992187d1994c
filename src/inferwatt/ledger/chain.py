"""The hash chain: what a batch's bytes are, and how each link holds the one before. Pure, integers and text only.

A batch is hashed by columns, each length-prefixed: 0.5 µs a row where a Merkle tree or canonical JSON takes 5 to 10.
The chain proves that nothing was changed, removed or put in between. It proves nothing against who can rewrite the
whole file, or cut its tail: for that, keep a `Head` elsewhere and hand it to `verify`.
"""

import hashlib
import struct
from collections.abc import Sequence
from typing import Final

from inferwatt.ledger.rows import Batch, Epoch

GENESIS: Final = bytes(32)
NULL: Final = -(2**63)
"""Stands for an absent integer in hashed bytes; no field can hold it otherwise."""

TextColumn = Sequence[str]
IntColumn = Sequence[int | None]


def content_bytes(texts: Sequence[TextColumn], ints: Sequence[IntColumn]) -> bytes:
    """Return the bytes of a table's columns: for text the lengths (in characters) and UTF-8, for integers 64 bits.

    Raises:
        UnicodeEncodeError: a text holds a lone surrogate.
        struct.error: an integer does not fit 64 bits.
    """
    pieces: list[bytes] = []
    for texts_column in texts:
        lengths = struct.pack(f"<{len(texts_column)}I", *map(len, texts_column))
        pieces += _prefixed(lengths, "".join(texts_column).encode())
    for ints_column in ints:
        values = [NULL if value is None else value for value in ints_column]
        pieces += _prefixed(struct.pack(f"<{len(values)}q", *values))
    return b"".join(pieces)


def content_hash(*tables: bytes) -> bytes:
    """Return the SHA-256 of a batch's tables, each from `content_bytes`."""
    digest = hashlib.sha256()
    for piece in _prefixed(*tables):
        digest.update(piece)
    return digest.digest()


def link_hash(batch: Batch, epoch: Epoch) -> bytes:
    """Return what `batch.hash` must be: its own figures, who wrote it (`epoch`) and the hash before."""
    head = struct.pack(
        "<6q", batch.seq, batch.first_row, batch.last_row, batch.rows, batch.sum_uj, batch.unix_ns
    ) + struct.pack("<3q", epoch.id, epoch.unix_ns, epoch.monotonic_ns)
    texts = (batch.kind, epoch.agent, epoch.boot_id, epoch.version, epoch.config_hash)
    return content_hash(head, *(text.encode() for text in texts), batch.content_hash, batch.prev_hash)


def broken(batch: Batch, epoch: Epoch | None, prev_hash: bytes, prev_row: int) -> str:
    """Return why `batch` does not follow the link before (its hash, the last row added by then), else nothing."""
    if epoch is None or epoch.id != batch.epoch:
        return f"its epoch {batch.epoch} is missing"
    if batch.prev_hash != prev_hash:
        return "it does not name the hash of the batch before it: a batch was changed, removed or put in between"
    if batch.hash != link_hash(batch, epoch):
        return "its head was changed"
    if batch.kind == "rows" and batch.first_row != prev_row + 1:
        return f"it starts at row {batch.first_row}, not at {prev_row + 1}"
    return ""


def _prefixed(*pieces: bytes) -> list[bytes]:
    out: list[bytes] = []
    for piece in pieces:
        out += (struct.pack("<Q", len(piece)), piece)
    return out
