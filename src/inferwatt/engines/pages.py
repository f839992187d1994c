"""A server's metrics page, from bytes to the few samples that are wanted. Pure.

A page of a busy server has hundreds of series and a meter wants six: lines that do not begin with a wanted
name are never parsed (0.1 ms a page instead of 5). The parser is strict and our own, because lenient ones turn
an exemplar or a third number into a time stamp, and return NaN as a number. What is not whole is counted and
left out, and a page without one wanted sample is a failed scrape, never zeros.

Format: Prometheus text 0.0.4 and OpenMetrics 1.0, https://prometheus.io/docs/instrumenting/exposition_formats/
"""

import math
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from inferwatt.errors import RecordRejected

MAX_BODY_BYTES = 8 * 1024 * 1024
MAX_SERIES = 100_000

MALFORMED = "malformed"
NOT_FINITE = "not_finite"
DUPLICATE = "duplicate"
CUT = "cut"
LIMIT = "limit"

Labels = tuple[tuple[str, str], ...]

_NUMBER = re.compile(r"[+-]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?", re.ASCII)
_NOT_FINITE = frozenset({"nan", "inf", "+inf", "-inf", "infinity", "+infinity", "-infinity"})
_NAME = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*")
_QUOTED = re.compile(r'"((?:[^"\\\n]|\\.)*)"')
_LABEL = re.compile(r'\s*([a-zA-Z_][a-zA-Z0-9_]*|"(?:[^"\\\n]|\\.)*")\s*=\s*"((?:[^"\\\n]|\\.)*)"')
_OPENING = re.compile(r"\s*\{")
_CLOSING = re.compile(r"\s*\}")
_COMMA = re.compile(r"\s*,")
_TYPED = re.compile(rb"# (?:TYPE|HELP) [a-zA-Z_:]")
_ESCAPE = re.compile(r"\\(.)")
_ESCAPED = {"n": "\n", "\\": "\\", '"': '"'}


@dataclass(frozen=True, slots=True)
class Sample:
    """One series' value; labels are sorted by name. The value is finite."""

    name: str
    labels: Labels
    value: float


@dataclass(frozen=True, slots=True)
class Page:
    """The wanted samples of one scrape, whether its end was missing, and what was left out, by reason."""

    samples: tuple[Sample, ...]
    partial: bool
    bad_lines: Mapping[str, int]

    def named(self, candidates: Iterable[str]) -> tuple[Sample, ...]:
        """Return the samples of the first candidate name that the page has under any of its spellings."""
        for candidate in candidates:
            for spelling in spellings(candidate):
                found = tuple(sample for sample in self.samples if sample.name == spelling)
                if found:
                    return found
        return ()


def spellings(name: str) -> tuple[str, ...]:
    """Return the ways in which servers, collectors and client libraries write one metric's name.

    Some agents rewrite `vllm:x` to `vllm_x`, and some clients leave `_total` off a counter.
    """
    bare = name.removesuffix("_total")
    names = (name, bare) if bare != name else (name, f"{name}_total")
    return tuple(dict.fromkeys((*names, *(other.replace(":", "_") for other in names))))


def read_page(
    body: bytes,
    names: Iterable[str],
    *,
    whole: bool = True,
    openmetrics: bool = False,
    may_be_silent: bool = False,
) -> Page:
    """Read the samples called `names` (in any of their spellings) from a metrics page.

    Args:
        body: the page, not compressed, at most `MAX_BODY_BYTES`.
        names: the metrics that are wanted.
        whole: False when the transfer ended before the server said so.
        openmetrics: the server says that this is OpenMetrics, which ends with `# EOF`.
        may_be_silent: a whole page of other metrics will do: the wanted ones come with the first request.

    Raises:
        RecordRejected: the page is too long, empty, no metrics page, or has none of the wanted samples.
    """
    _refuse_what_is_no_page(body)
    wanted = frozenset(spelling for name in names for spelling in spellings(name))
    lines, cut = _whole_lines(body)
    partial = cut or not whole or (openmetrics and not _ends_with_eof(body))
    bad: Counter[str] = Counter()
    if cut:
        bad[CUT] += 1
    samples: dict[tuple[str, Labels], Sample] = {}
    for count, line in enumerate(_candidates(lines, wanted)):
        if count >= MAX_SERIES:
            bad[LIMIT] += 1
            break
        _keep(line, wanted, samples, bad)
    is_silent = may_be_silent and not partial and not bad and any(_TYPED.match(line) for line in lines)
    if not samples and not is_silent:
        raise _rejected("no wanted sample in the metrics page", "check the address, and that its metrics are on")
    return Page(tuple(samples.values()), partial, dict(bad))


def _refuse_what_is_no_page(body: bytes) -> None:
    if len(body) > MAX_BODY_BYTES:
        raise _rejected(f"the metrics page is longer than {MAX_BODY_BYTES} bytes", "lower the server's label counts")
    head = body[:512].lstrip()
    if not head:
        raise _rejected("the metrics page is empty", "check that the server's metrics are on")
    if head.startswith(b"<"):
        raise _rejected("the answer is HTML, not a metrics page", "check the address: is there a proxy before it?")


def _rejected(what: str, fix: str) -> RecordRejected:
    return RecordRejected(what, where="metrics page", fix=fix)


def _whole_lines(body: bytes) -> tuple[list[bytes], bool]:
    """Split into lines; the text after the last line end is dropped, since nobody can say that it is whole."""
    lines = body.split(b"\n")
    tail = lines.pop()
    return lines, bool(tail.strip()) and tail.strip() != b"# EOF"


def _candidates(lines: Iterable[bytes], wanted: Iterable[str]) -> Iterator[bytes]:
    """Yield the lines that begin with a wanted name: almost all of a page is passed over here."""
    names = frozenset(name.encode() for name in wanted)
    quoted = tuple(b'{"' + name + b'"' for name in names)
    for line in lines:
        head = line.partition(b"{")[0].split(None, 1)
        if (head[0] in names) if head else line.startswith(quoted):
            yield line


def _ends_with_eof(body: bytes) -> bool:
    return body[-16:].rstrip().endswith(b"# EOF")


def _keep(line: bytes, wanted: frozenset[str], samples: dict[tuple[str, Labels], Sample], bad: Counter[str]) -> None:
    """Parse one line into `samples`, or count in `bad` why it was left out."""
    try:
        text = line.decode()
    except UnicodeDecodeError:
        bad[MALFORMED] += 1
        return
    parsed = _series(text)
    if parsed is None:
        bad[MALFORMED] += 1
        return
    name, labels, rest = parsed
    if name not in wanted:
        return
    value = _value(rest)
    if value is None:
        bad[MALFORMED] += 1
    elif not math.isfinite(value):
        bad[NOT_FINITE] += 1
    elif (name, labels) in samples:
        bad[DUPLICATE] += 1
    else:
        samples[name, labels] = Sample(name, labels, value)


def _series(text: str) -> tuple[str, Labels, str] | None:
    """Split a line into name, labels and what follows; None where it is malformed."""
    match = _NAME.match(text)
    name = match.group() if match else ""
    at = match.end() if match else 0
    opening = _OPENING.match(text, at)
    if opening is None:
        return (name, (), text[at:]) if name and text[at : at + 1].isspace() else None
    at = opening.end()
    if not name:
        quoted = _QUOTED.match(text, at)
        if quoted is None:
            return None
        name = _unescaped(quoted.group(1))
        comma = _COMMA.match(text, quoted.end())
        at = comma.end() if comma else quoted.end()
    block = _labels(text, at)
    return None if block is None else (name, block[0], text[block[1] :])


def _labels(text: str, at: int) -> tuple[Labels, int] | None:
    """Read labels from `at` up to the closing brace; a brace or a quote inside a value is part of the value."""
    labels: dict[str, str] = {}
    while (match := _LABEL.match(text, at)) is not None:
        key = match.group(1)
        key = _unescaped(key[1:-1]) if key.startswith('"') else key
        if key in labels:
            return None
        labels[key] = _unescaped(match.group(2))
        at = match.end()
        comma = _COMMA.match(text, at)
        if comma is None:
            break
        at = comma.end()
    closing = _CLOSING.match(text, at)
    return (tuple(sorted(labels.items())), closing.end()) if closing else None


def _unescaped(value: str) -> str:
    return _ESCAPE.sub(lambda match: _ESCAPED.get(match.group(1), match.group()), value) if "\\" in value else value


def _value(rest: str) -> float | None:
    """Return the value of `value [timestamp] [# exemplar]`, None where that is not what stands there.

    The time stamp is only checked: the meter uses its own clock, and an exporter's may be anything.
    """
    words = rest.split("#", 1)[0].split()
    if not words or len(words) > 2 or any(_number(word) is None for word in words):
        return None
    return _number(words[0])


def _number(word: str) -> float | None:
    """Return the number that `word` spells, which may not be finite, or None; never what only Python takes."""
    return float(word) if _NUMBER.fullmatch(word) or word.lower() in _NOT_FINITE else None


def histogram(samples: Iterable[Sample]) -> tuple[tuple[float, float], ...] | None:
    """Return the cumulative (bound, count) pairs of one histogram's `_bucket` samples in the page's order.

    None where the family cannot be trusted: bounds out of order, counts that fall, or no `+Inf` at the end.
    """
    pairs: list[tuple[float, float]] = []
    for sample in samples:
        bound = _number(dict(sample.labels).get("le", ""))
        if bound is None or math.isnan(bound):
            return None
        if pairs and (bound <= pairs[-1][0] or sample.value < pairs[-1][1]):
            return None
        pairs.append((bound, sample.value))
    return tuple(pairs) if pairs and pairs[-1][0] == math.inf else None
