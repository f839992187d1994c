"""What the agent kept of a run, beside what the clients were told, and the law between the two."""

from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from inferwatt.ledger.queries import LedgerReader
from inferwatt.recording import read
from inferwatt.records import Ending, Outcome, Request, Step, Tier
from tests.real.children import AgentProcess
from tests.real.ledgers import MOST_ROWS
from tests.real.pages import get_json, samples, total, wait_for
from tests.vllm.load import Told

LEFT_IN_PREFILL, LEFT_IN_DECODE, RECOMPUTED = "left in prefill", "left in decode", "recomputed"
MOST_REQUESTS = 1000
"""What the API shows at once."""
ENDINGS = {"stop": {Ending.EOS, Ending.STOP_STRING}, "length": {Ending.LENGTH}}
"""What each `finish_reason` of an answer may be."""


@dataclass(slots=True)
class Kept:
    """What an agent kept: its rows by the client's own id, and the tokens that its steps computed, by request."""

    rows: dict[str, list[Request]] = field(default_factory=lambda: defaultdict(list))
    computed: Counter[str] = field(default_factory=Counter)
    counted: Counter[str] = field(default_factory=Counter)
    """Tokens that nobody got, by reason, as the metrics had them."""
    tiers: Counter[Tier | None] = field(default_factory=Counter)
    steps: dict[str, list[tuple[int, int]]] = field(default_factory=lambda: defaultdict(list))
    """When each engine's steps began and ended, ns."""
    overlaps: int = 0
    gaps: int = 0


def kept(agent: AgentProcess, recording: Path | None = None) -> Kept:
    """Return what an agent that has ended kept in its ledger and, if it wrote one, in its recording."""
    found = Kept()
    reader = LedgerReader.open(agent.ledger)
    try:
        assert reader.verify().ok
        for row in reader.requests(MOST_ROWS):
            found.rows[row.request.trace_id].append(row.request)
            found.tiers[row.energy.tier if row.energy else None] += 1
        for (_, _, reason), tokens in reader.counters().get("inferwatt_wasted_tokens_total", {}).items():
            found.counted[reason] += round(tokens)
    finally:
        reader.close()
    reach: dict[str, int] = {}
    last_ns: dict[str, int] = {}
    for step in read(recording).records if recording else ():
        if isinstance(step, Step):
            found.overlaps += step.t0_ns < last_ns.get(step.engine, 0)
            last_ns[step.engine] = step.t1_ns
            found.steps[step.engine].append((step.t0_ns, step.t1_ns))
            for name, new_tokens, context_tokens, _ in step.members:
                found.computed[name] += new_tokens
                found.gaps += context_tokens > reach.get(name, context_tokens)
                reach[name] = max(reach.get(name, 0), context_tokens + new_tokens)
    return found


def assert_found(agent: AgentProcess, told: list[Told]) -> None:
    """Each request is found by the id that its client gave, aborted ones too."""
    for one in (one for one in told if not one.may_be_unheard):
        url = f"{agent.url}/v1/requests/{one.request_id}"
        wait_for(f"{one}", partial(_has, url, one.answers))


def _has(url: str, answers: int) -> bool:
    page = get_json(url)
    return len(page) >= answers if isinstance(page, list) else answers == 1 and "request" in page


def assert_told(found: Kept, told: list[Told]) -> None:
    """What the ledger has of each request is what its client was told; who left got at most what was computed."""
    for one in told:
        rows = found.rows[one.request_id]
        assert not one.error, one
        assert len(rows) == one.answers or (one.may_be_unheard and not rows), (one, rows)
        outcome = {row.outcome for row in rows}
        if one.has_left:
            assert outcome <= {Outcome.ABORTED, Outcome.FINISHED}, (one, rows)  # news of it may come too late
            assert one.chunks - 1 <= sum(row.output_tokens or 0 for row in rows), (one, rows)
            continue
        assert outcome == {Outcome.FINISHED}, (one, rows)
        assert {row.prompt_tokens for row in rows} == {one.prompt}, (one, rows)
        assert {row.model for row in rows} == {one.model}, (one, rows)
        assert sum(row.output_tokens or 0 for row in rows) == one.output, (one, rows)
        if one.answers == 1:
            assert rows[0].cached_tokens == one.cached, (one, rows)


def assert_law(found: Kept, told: list[Told]) -> None:
    """For each sequence, what its steps computed is exactly what its row says of prompt, cache, output and waste."""
    for row in (row for one in told for row in found.rows[one.request_id]):
        computed, prompt, cached = found.computed[row.request], row.prompt_tokens or 0, row.cached_tokens or 0
        beyond = (row.recomputed_tokens or 0) + (row.rejected_tokens or 0) + (row.wasted_tokens or 0)
        whole = prompt - cached + max((row.output_tokens or 0) - 1, 0) + beyond
        is_short = row.outcome is Outcome.ABORTED and not row.output_tokens
        assert computed <= whole if is_short else computed == whole, (row, computed)
    assert found.overlaps == found.gaps == 0


def assert_endings(found: Kept, told: list[Told]) -> None:
    """What ended each request is what its client was told, or did; what was wasted of it has that reason."""
    for one in told:
        for row in found.rows[one.request_id]:
            if row.outcome is Outcome.ABORTED:
                assert row.ending is Ending.DISCONNECT, (one, row)
            elif one.finish and one.answers == 1:
                assert row.ending in ENDINGS[one.finish], (one, row)
            assert one.kind in {"stop", "several"} or row.ending is not Ending.STOP_STRING, (one, row)
    assert found.counted == by_reason(found)


def by_reason(found: Kept) -> Counter[str]:
    """Return the tokens that nobody got, by reason, of all rows."""
    return sum((Counter(row.thrown_away) for rows in found.rows.values() for row in rows), Counter[str]())


def happened(found: Kept) -> set[str]:
    """Return what happened that not every request meets: why tokens were thrown away, and more."""
    rows = [row for rows in found.rows.values() for row in rows]
    return _happened([(str(row.outcome), row.output_tokens, row.recomputed_tokens, row.thrown_away) for row in rows])


def seen(agent: AgentProcess) -> set[str]:
    """Return the same of what a running agent shows, once no request is open."""
    wait_for("an end of all", lambda: total(samples(agent.url), "inferwatt_open_requests") == 0)
    rows = get_json(f"{agent.url}/v1/requests?limit={MOST_REQUESTS}")["requests"]
    names = ("outcome", "output_tokens", "recomputed_tokens", "thrown_away_tokens")
    return _happened([tuple(row[name] for name in names) for row in rows])


def _happened(rows: Iterable[tuple[Any, ...]]) -> set[str]:
    found: set[str] = set()
    for outcome, output, recomputed, thrown_away in rows:
        found |= thrown_away.keys() | ({RECOMPUTED} if recomputed else set())
        if outcome == Outcome.ABORTED.value:
            found.add(LEFT_IN_DECODE if output else LEFT_IN_PREFILL)
    return found
