"""One server under watch: is it there, is it still the same process, and what did it do since the last page."""

from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace

from inferwatt.engines.counters import Counters, Delta, Growth
from inferwatt.engines.epochs import Epochs
from inferwatt.engines.fetch import Answer, Fetch, HttpFetch, decoded
from inferwatt.engines.pages import Page, read_page
from inferwatt.engines.roster import EngineSeen, Roster, Said
from inferwatt.engines.servers import ServerKind, Target, loaded_models
from inferwatt.engines.slots import Begun, begun
from inferwatt.engines.trees import processes_of
from inferwatt.errors import InferwattError, RecordRejected, SourceGone, SourceRetry
from inferwatt.records import NOWHERE, Event, Place, Sums
from inferwatt.snapshot import Lack
from inferwatt.units import NS_PER_SECOND

__all__ = ["REPLICAS", "SILENT", "Emitted", "EngineSeen", "ServerWatch", "TargetHealth"]

UP = "up"
BUSY = "busy"
LOADING = "loading"
DOWN = "down"
NO_METRICS = "no_metrics"
SILENT = "silent"
REPLICAS = "replicas"
UNREADABLE = "unreadable"
UNSEEN = "unseen"

_LOOK_AGAIN_NS = 10 * NS_PER_SECOND
_PROBE_AGAIN_NS = 60 * NS_PER_SECOND
_FAILURES_UNTIL_SAID = 3


Emitted = Sums | Event | EngineSeen


def fetch_of(target: Target, timeout_seconds: float, fetch: Callable[[str, float], Fetch] = HttpFetch) -> Fetch:
    """Return what asks a server: by its key, where it has one."""
    if target.key_file:
        return HttpFetch(target.url, timeout_seconds, target.key_file)
    return fetch(target.url, timeout_seconds)


@dataclass(frozen=True, slots=True)
class TargetHealth:
    """How one server is, and how its pages were.

    `state` is up, busy (it has our question and works), no_metrics (it answers, but has no page, or its page is off),
    silent (its page has none of its metrics yet), replicas (several servers answer: refused), loading, down (nobody
    listens), unreadable (somebody does, and gives no page that can be read) or unseen.
    `resolution_tokens` is the step in which its counters move: counts that differ by less do not disagree.
    """

    name: str
    url: str
    kind: str
    state: str
    model: str
    pages: int
    failures: int
    busy: int
    restarts: int
    partial_pages: int
    bad_lines: Mapping[str, int]
    resolution_tokens: int
    last_error: Lack | None

    @property
    def is_up(self) -> bool:
        """Whether the server answers, or will as soon as it has time."""
        return self.state in {UP, BUSY}


class ServerWatch:
    """Look at one server's page when it is due; `due_ns` says when. Called by one thread at a time."""

    def __init__(
        self,
        target: Target,
        kind: ServerKind,
        fetch: Fetch,
        emit: Callable[[Emitted], None],
        period_ns: int,
        find_pids: Callable[[str], frozenset[int]],
        find_place: Callable[[frozenset[int]], Place] = lambda _pids: NOWHERE,
    ) -> None:
        self.due_ns = 0
        self._target = target
        self._kind = kind.at(target.metrics_path)
        self._fetch = fetch
        self._emit = emit
        self._period_ns = period_ns
        self._find_pids, self._find_place = find_pids, find_place
        self._counters = Counters(kind)
        self._epochs = Epochs(kind.start_header)
        self._roster = Roster(target, emit)
        self._begun = Begun()
        self._has_slots = True
        self._probe_due_ns = 0
        self._failed_in_a_row = 0
        self._is_several = False
        self._bad_lines: Counter[str] = Counter()
        self._health = TargetHealth(
            target.name, target.url, target.kind, UNSEEN, target.model, 0, 0, 0, 0, 0, {}, 1, None
        )

    def health(self) -> TargetHealth:
        """Return how it is."""
        return self._health

    def close(self) -> None:
        """Close the connection."""
        self._fetch.close()

    def look(self, now_ns: int) -> None:
        """Ask for the page and emit what it tells; whatever goes wrong is counted, never raised."""
        self.due_ns = max(self.due_ns + self._period_ns, now_ns + self._period_ns // 2)
        try:
            answer = self._fetch.get(self._kind.metrics_path if self._kind.has_metrics else self._kind.models_path)
            if answer is None:
                self._note(busy=self._health.busy + 1, state=BUSY if self._health.is_up else self._health.state)
            elif self._is_loading(answer):
                self._away(now_ns, LOADING, "its model is loading")
            elif not self._kind.has_metrics:
                self._without_page(answer, now_ns)
            else:
                self._read(answer, now_ns)
        except SourceGone as exc:
            self._failed(exc, now_ns)
            self._away(now_ns, DOWN, "nobody listens on its port any more")
        except InferwattError as exc:
            self._failed(exc, now_ns)

    def _is_loading(self, answer: Answer) -> bool:
        return answer.status == 503 and bool(self._kind.loading) and self._kind.loading.encode() in answer.body

    def _failed(self, exc: InferwattError, now_ns: int) -> None:
        """Count a failure; after some in a row that is how the server is, and it is asked less and less often."""
        self._failed_in_a_row += 1
        where = self._target.url + self._kind.metrics_path if isinstance(exc, RecordRejected) else exc.where
        is_so = self._failed_in_a_row >= _FAILURES_UNTIL_SAID or not self._health.is_up
        self._note(
            failures=self._health.failures + 1,
            state=UNREADABLE if is_so else self._health.state,
            last_error=self._lack(exc.what, where, exc.fix),
        )
        self.due_ns = now_ns + min(
            self._period_ns << min(self._failed_in_a_row - 1, 10), max(_LOOK_AGAIN_NS, self._period_ns)
        )

    def _lack(self, what: str, where: str, fix: str) -> Lack:
        return Lack(what, f"{self._target.name}: {where}", fix)

    def _away(self, now_ns: int, state: str, why: str) -> None:
        """No process with a loaded model is there at `now_ns`."""
        self._epochs.away(now_ns)
        self._roster.unload(now_ns, why)
        self._note(state=state)

    def _without_page(self, answer: Answer, now_ns: int) -> None:
        """Learn from a server that has no metrics page which models are loaded."""
        where = self._target.url + self._kind.models_path
        if answer.status != 200:
            raise SourceRetry(f"it answers {answer.status}", where=where, fix="look at the server's log")
        self._failed_in_a_row = 0
        self._introduce(now_ns, loaded_models(decoded(answer)), "it says that it is loaded")
        fix = self._kind.better_of(self._target.url)
        lack = self._lack(f"{self._target.kind} counts no tokens on any page", where, fix)
        self._note(state=NO_METRICS, last_error=lack)
        self.due_ns = now_ns + max(_LOOK_AGAIN_NS, self._period_ns)

    def _read(self, answer: Answer, now_ns: int) -> None:
        """Take an answer to the question for the page."""
        where = self._target.url + self._kind.metrics_path
        if answer.status in {404, 501}:
            self._introduce(now_ns, ("",), "it answers")
            self._failed(SourceRetry("its metrics are off", where=where, fix=self._kind.metrics_off_fix), now_ns)
            self._note(state=NO_METRICS)
            return
        if answer.status != 200:
            is_closed = answer.status in {401, 403}
            fix = "its key into a file: key_file in [[engines.server]]" if is_closed else "look at the server's log"
            raise SourceRetry(f"the metrics page answers {answer.status}", where=where, fix=fix)
        page = read_page(
            answer.body,
            self._kind.names,
            whole=answer.whole,
            openmetrics="openmetrics" in answer.headers.get("content-type", ""),
            may_be_silent=self._kind.silent_until_work,
        )
        epoch = self._epochs.page(answer.headers, now_ns)
        if epoch.is_new:
            self._counters.forget(from_zero=True)
        if epoch.is_restart:
            self._restarted(now_ns, "another process answers")
        if epoch.is_new:
            self._begun.start(0)
        was_seeded = self._counters.seeded
        growth = self._dated(self._counters.advance(page), is_first=not was_seeded)
        self._note_page(page, growth)
        self._is_several = self._is_several or epoch.replicas or growth.replicas
        if self._is_several or not page.samples:
            self._refuse(where, now_ns)
        else:
            self._tell(growth.models, epoch.since_ns if was_seeded else None, now_ns, is_partial=page.partial)

    def _dated(self, growth: Growth, *, is_first: bool) -> Growth:
        """Return what was done, with the tokens of answers that are not complete where the server's slots tell them."""
        delta = growth.models.get("") if self._kind.slots_path else None
        if delta is None or delta.output_tokens is None:
            return growth
        begun = self._slots()
        if is_first:
            self._begun.start(begun)
            return growth
        made = self._begun.made(delta.output_tokens, begun)
        return replace(growth, models={"": replace(delta, output_tokens=made)})

    def _slots(self) -> int | None:
        """Return the tokens of answers that are not complete; a server that does not tell them is not asked again."""
        if not self._has_slots:
            return None
        try:
            answer = self._fetch.get(self._kind.slots_path)
        except InferwattError:
            return None
        self._has_slots = answer is None or answer.status == 200
        return begun(answer.body) if answer is not None and answer.status == 200 else None

    def _note_page(self, page: Page, growth: Growth) -> None:
        """Count a page that could be read."""
        self._bad_lines.update(page.bad_lines)
        self._bad_lines.update(growth.bad_samples)
        self._failed_in_a_row = 0
        self._note(
            state=UP,
            pages=self._health.pages + 1,
            partial_pages=self._health.partial_pages + page.partial,
            bad_lines=dict(self._bad_lines),
            resolution_tokens=growth.resolution_tokens,
            last_error=None,
        )

    def _refuse(self, where: str, now_ns: int) -> None:
        """Say why nothing is told of a page that could be read."""
        if self._is_several:
            what, fix = "several servers answer at one address", "name each replica (pod) in [[engines.server]]"
            read, failed = self._health.pages - 1, self._health.failures + 1
            self._note(state=REPLICAS, pages=read, failures=failed, last_error=self._lack(what, where, fix))
            self.due_ns = now_ns + max(_LOOK_AGAIN_NS, self._period_ns)
            return
        what = f"its page has no metric of {self._target.kind} yet"
        self._note(state=SILENT, last_error=self._lack(what, where, "send it a request; else correct its kind"))

    def _tell(self, models: Mapping[str, Delta], since_ns: int | None, now_ns: int, *, is_partial: bool) -> None:
        """Say which models are served and what each did since the page before."""
        fallen = [model for model, delta in models.items() if delta.fell]
        if fallen:
            self._restarted(now_ns, "a counter fell", fallen)
        served = tuple(dict.fromkeys((*self._roster.served, *models))) if is_partial else tuple(models)
        self._introduce(now_ns, served, "its page answers")
        if since_ns is not None and since_ns < now_ns:
            for model, delta in models.items():
                self._emit(delta.sums(since_ns, now_ns, self._roster.engine(model)))

    def _restarted(self, now_ns: int, why: str, models: Collection[str] | None = None) -> None:
        self._roster.unload(now_ns, why, models)
        self._probe_due_ns = now_ns
        self._has_slots = True
        self._note(restarts=self._health.restarts + 1)

    def _introduce(self, now_ns: int, models: Sequence[str], why: str) -> None:
        """Ask the server for its models now and then, and say which engines it is where that is new."""
        is_due = now_ns >= self._probe_due_ns or not self._roster.knows(models)
        if is_due:
            self._probe_due_ns = now_ns + _PROBE_AGAIN_NS
        self._roster.serve(now_ns, models, self._said() if is_due else None, why)
        self._note(model=self._roster.models or self._target.model)

    def _said(self) -> Said:
        props = self._json(self._kind.props_path)
        version = props.get("build_info") or props.get("version") if isinstance(props, dict) else ""
        pids = self._find_pids(self._target.url) or self._target.pids
        listing = self._json(self._kind.models_path) if self._kind.has_metrics else None
        own = processes_of(pids, self._kind.commands)
        return Said(listing, str(version or ""), own, self._target.where(self._find_place(own)))

    def _json(self, path: str) -> object:
        """Return what a path answers, None where that is nothing usable: the page itself is what counts."""
        try:
            return decoded(self._fetch.get(path)) if path else None
        except InferwattError:
            return None

    def _note(self, **changes: object) -> None:
        self._health = replace(self._health, **changes)  # type: ignore[arg-type]
