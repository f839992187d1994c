"""Streams are cut where the WHATWG standard says, wherever the network cut them, and no byte is changed."""

from hypothesis import given
from hypothesis import strategies as st

from inferwatt.answering.events import Framer, data_of, kind_of

ENDS = st.sampled_from([b"\n", b"\r\n", b"\r"])
LINES = st.sampled_from(
    [b"data: {}", b"data:x", b": comment", b"event: a", b"id: 1", b"data", "data: ä\u2028\u0085".encode()]
)
STREAMS = st.lists(st.tuples(LINES | st.just(b""), ENDS), max_size=40).map(
    lambda rows: b"".join(a + b for a, b in rows)
)
CUTS = st.lists(st.integers(1, 7), max_size=60)


def cut(stream: bytes, sizes: list[int]) -> list[bytes]:
    """Return the stream in pieces of these sizes, the rest as one."""
    pieces, start = [], 0
    for size in sizes:
        pieces.append(stream[start : start + size])
        start += size
    return [*pieces, stream[start:]]


def datas(pieces: list[bytes]) -> tuple[bytes, list[bytes]]:
    """Return the bytes that came out of a framer, and the data of its events."""
    framer, out, read = Framer(), b"", []
    for piece in pieces:
        for event, whole in framer.feed(piece):
            out += event
            if whole and (data := data_of(event)) is not None:
                read.append(data)
    return out + framer.end(), read


def by_the_standard(stream: bytes) -> list[bytes]:
    """Return the data of each event, by the standard's algorithm, line by line on the whole stream."""
    found: list[bytes] = []
    lines = stream.replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n")[:-1]
    data: list[bytes] = []
    for line in lines:
        if not line and data:
            found.append(b"\n".join(data))
        if not line:
            data = []
        field, colon, value = line.partition(b":")
        if field == b"data":
            data.append(value.removeprefix(b" ") if colon else b"")
    return found


@given(STREAMS, CUTS)
def test_a_split_at_any_byte_changes_nothing(stream: bytes, sizes: list[int]) -> None:
    """The bytes come out as they came in, and the events are those of the standard, however it was cut."""
    assert datas(cut(stream, sizes)) == (stream, by_the_standard(stream))


def test_an_event_too_long_is_passed_on_and_the_next_is_read_again() -> None:
    """A line without an end is given up at the limit, counted once, and holds nothing back."""
    framer = Framer(most_bytes=100)
    held = []
    out = []
    for _ in range(50):
        out += framer.feed(b"x" * 10)
        held.append(10 * (_ + 1) - sum(len(piece) for piece, _whole in out))
    out += framer.feed(b"\n\ndata: 1\n\n")

    assert max(held) <= 110
    assert [piece for piece, whole in out if whole] == [b"data: 1\n\n"]
    assert framer.too_long == 1


def test_a_mark_at_the_start_and_several_lines_of_data() -> None:
    """A byte order mark is no part of a field; lines of data are joined by LF, the last type counts."""
    event = b"\xef\xbb\xbfdata: a\r\ndata: b\nevent: x\revent: y\n\n"

    assert (data_of(event), kind_of(event)) == (b"a\nb", b"y")
