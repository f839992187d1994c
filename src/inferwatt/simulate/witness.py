"""What is told of an engine's work: its steps, its requests as a witness saw them, its sums. Pure."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from inferwatt.records import UNKNOWN_TENANT, Outcome, Phase, Request, Step, Sums
from inferwatt.simulate.sequence import SECOND_NS, Sequence, Trace

_WINDOW_NS = SECOND_NS // 10


@dataclass(frozen=True, slots=True)
class Witness:
    """What is seen of the requests beside their steps: how late, with which chunks and sums.

    `steps` false leaves the steps out; `sums` are what the server tells of each `step`, or of its `passes` in each
    tenth of a second as SGLang does, or nothing. `hidden_seconds` at the beginning of each step are not in its told
    time: the server does something between steps.
    """

    late_seconds: float = 0.0002
    """Mean delay of a first and a last token on their way to the witness."""
    steps: bool = True
    chunks: bool = False
    sums: str = ""
    hidden_seconds: float = 0.0


def name_of(number: int) -> str:
    """Return the id of a request."""
    return f"r{number:05d}"


def told_steps(trace: Trace, engine: str, hidden_seconds: float = 0.0) -> Iterator[Step]:
    """Return the steps with their members."""
    hidden_ns = round(hidden_seconds * SECOND_NS)
    phases = (Phase.DECODE, Phase.PREFILL)
    for t0_ns, t1_ns, rows in zip(trace.t0_ns, trace.t1_ns, trace.members, strict=True):
        members = tuple((name_of(number), new, context, phases[prefill]) for number, new, context, prefill in rows)
        yield Step(min(t0_ns + hidden_ns, t1_ns - 1), t1_ns, engine, members)


def told_requests(
    trace: Trace, engine: str, model: str, witness: Witness, rng: np.random.Generator
) -> Iterator[Request]:
    """Return the requests as the witness saw them."""
    delays = rng.exponential(witness.late_seconds * SECOND_NS, (len(trace.sequences), 2)).astype(np.int64)
    for seq, (late_first, late_last) in zip(trace.sequences, delays.tolist(), strict=True):
        yield told_request(seq, engine, model, chunks=witness.chunks, late_ns=(late_first, late_last))


def told_arrival(seq: Sequence, engine: str, model: str) -> Request:
    """Return what is known of a request when it comes."""
    wish = seq.wish
    return Request(
        name_of(seq.number),
        engine,
        model,
        tenant=wish.tenant or UNKNOWN_TENANT,
        arrival_ns=wish.arrival_ns,
        prompt_tokens=wish.prompt_tokens,
        cached_tokens=seq.restart_at,
    )


def told_request(
    seq: Sequence, engine: str, model: str, *, chunks: bool = False, late_ns: tuple[int, int] = (0, 0)
) -> Request:
    """Return a request that has ended, its first and its last token seen so much later."""
    late_first, late_last = late_ns
    first_ns = seq.token_ns[0] + late_first if seq.token_ns else None
    end_ns = (seq.token_ns[-1] if seq.aborted_ns is None else seq.aborted_ns) + late_last
    seen = tuple(dict.fromkeys(moment + late_first for moment in seq.token_ns)) if chunks else ()
    return replace(
        told_arrival(seq, engine, model),
        first_token_ns=first_ns,
        end_ns=max(end_ns, first_ns or 0, *seen[-1:]),
        output_tokens=seq.generated,
        outcome=Outcome.FINISHED if seq.done else Outcome.ABORTED,
        chunk_ns=seen,
        recomputed_tokens=seq.recomputed or None,
        rejected_tokens=seq.rejected or None,
    )


def told_sums(trace: Trace, engine: str) -> Iterator[Sums]:
    """Return what the server counts of each step: computed prompt tokens, output tokens, and who ran."""
    made = _made(trace)
    for t0_ns, t1_ns, rows in zip(trace.t0_ns, trace.t1_ns, trace.members, strict=True):
        prompt = sum(new for _, new, _, prefill in rows if prefill)
        yield Sums(t0_ns, t1_ns, engine, prompt_tokens=prompt, output_tokens=made.get(t1_ns, 0), running=len(rows))


def told_passes(trace: Trace, engine: str) -> Iterator[Sums]:
    """Return what a server that tells its passes says of each tenth of a second: sums over them, and no request."""
    windows: dict[int, list[int]] = {}
    for t0_ns, t1_ns, rows in zip(trace.t0_ns, trace.t1_ns, trace.members, strict=True):
        window = windows.setdefault(t1_ns // _WINDOW_NS, [0] * 5)
        decoding = [context for _, _, context, prefill in rows if not prefill]
        prefilled = sum(new for _, new, _, prefill in rows if prefill)
        for place, each in enumerate((1, prefilled, len(decoding), sum(decoding), t1_ns - t0_ns)):
            window[place] += each
    for number, (steps, prompt, decodes, context, passes_ns) in windows.items():
        yield Sums(
            number * _WINDOW_NS, (number + 1) * _WINDOW_NS, engine, steps=steps, prefill_tokens=prompt,
            decode_requests=decodes, context_tokens=context, passes_ns=passes_ns, lost_passes=0,
        )  # fmt: skip


def _made(trace: Trace) -> dict[int, int]:
    """Return how many tokens came out at the end of each step."""
    moments, counts = np.unique([moment for seq in trace.sequences for moment in seq.token_ns], return_counts=True)
    return dict(zip(moments.tolist(), counts.tolist(), strict=True))
