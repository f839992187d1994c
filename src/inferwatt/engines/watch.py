"""One server under watch: is it there, is it still the same process, and what did it do since the last page."""

import json
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from inferwatt.engines.counters import Counters, Delta
from inferwatt.engines.fetch import Answer, Fetch
from inferwatt.engines.pages import MAX_BODY_BYTES, read_page
from inferwatt.engines.servers import ServerKind, Target, first_model, model_shape, server_kinds
from inferwatt.errors import InferwattError, SourceGone, SourceRetry
from inferwatt.records import Engine, Event, EventKind, Model, Sums
from inferwatt.snapshot import Lack
from inferwatt.units import NS_PER_SECOND

UP = "up"
BUSY = "busy"
LOADING = "loading"
DOWN = "down"
NO_METRICS = "no_metrics"
UNSEEN = "unseen"

_LOOK_AGAIN_NS = 10 * NS_PER_SECOND
_PROBE_AGAIN_NS = 60 * NS_PER_SECOND
_FAILURES_UNTIL_DOWN = 3


@dataclass(frozen=True, slots=True)
class EngineSeen:
    """A server was found, or what it says of itself changed. `pids` are the processes that listen on its port."""

    t_ns: int
    engine: Engine
    model: Model
    pids: frozenset[int]
    url: str
    version: str


Emitted = Sums | Event | EngineSeen


@dataclass(frozen=True, slots=True)
class TargetHealth:
    """How one server is, and how its pages were.

    `state` is up, busy (it has our question and works), no_metrics (it answers, but its page is off), loading, down or
    unseen. `resolution_tokens` is the step in which its counters move: counts that differ by less do not disagree.
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
        fetch: Fetch,
        emit: Callable[[Emitted], None],
        period_ns: int,
        find_pids: Callable[[str], frozenset[int]],
    ) -> None:
        self.due_ns = 0
        self._target = target
        self._fetch = fetch
        self._emit = emit
        self._period_ns = period_ns
        self._find_pids = find_pids
        self._kind: ServerKind = server_kinds()[target.kind]
        self._counters = Counters(self._kind)
        self._page_ns: int | None = None
        self._away_ns: int | None = None
        self._probe_due_ns = 0
        self._mark = ""
        self._failed_in_a_row = 0
        self._seen: EngineSeen | None = None
        self._loaded = False
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
            answer = self._fetch.get(self._kind.metrics_path)
            if answer is None:
                self._note(busy=self._health.busy + 1, state=BUSY if self._health.is_up else self._health.state)
            elif self._is_loading(answer):
                self._away(now_ns, LOADING, "its model is loading")
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
        """Count a failure; after some in a row the server is down, and looked for less and less often."""
        self._failed_in_a_row += 1
        is_down = self._failed_in_a_row >= _FAILURES_UNTIL_DOWN or not self._health.is_up
        lack = Lack(exc.what, f"{self._target.name}: {exc.where}", exc.fix)
        self._note(failures=self._health.failures + 1, state=DOWN if is_down else self._health.state, last_error=lack)
        self.due_ns = now_ns + min(
            self._period_ns << min(self._failed_in_a_row - 1, 10), max(_LOOK_AGAIN_NS, self._period_ns)
        )

    def _away(self, now_ns: int, state: str, why: str) -> None:
        """No process with a loaded model is there at `now_ns`."""
        self._away_ns = now_ns
        if self._loaded:
            self._event(now_ns, EventKind.MODEL_UNLOAD, why)
        self._loaded = False
        self._note(state=state)

    def _read(self, answer: Answer, now_ns: int) -> None:
        where = self._target.url + self._kind.metrics_path
        if answer.status in {404, 501}:
            self._introduce(now_ns)
            self._failed(SourceRetry("its metrics are off", where=where, fix=self._kind.metrics_off_fix), now_ns)
            self._note(state=NO_METRICS)
            return
        if answer.status != 200:
            what = f"the metrics page answers {answer.status}"
            raise SourceRetry(what, where=where, fix="look at the server's log")
        is_openmetrics = "openmetrics" in answer.headers.get("content-type", "")
        page = read_page(answer.body, self._kind.names, whole=answer.whole, openmetrics=is_openmetrics)
        since_ns = self._same_process(answer, now_ns)
        was_seeded = self._counters.seeded
        delta = self._counters.advance(page)
        if delta.fell:
            self._restarted(now_ns, "a counter fell")
        self._bad_lines.update(page.bad_lines)
        self._bad_lines.update(delta.bad_samples)
        self._note(
            state=UP,
            pages=self._health.pages + 1,
            partial_pages=self._health.partial_pages + page.partial,
            bad_lines=dict(self._bad_lines),
            resolution_tokens=delta.resolution_tokens,
            last_error=None,
        )
        self._page_ns, self._away_ns, self._failed_in_a_row = now_ns, None, 0
        self._introduce(now_ns)
        if was_seeded and since_ns is not None and since_ns < now_ns:
            self._emit(self._sums(delta, since_ns, now_ns))

    def _same_process(self, answer: Answer, now_ns: int) -> int | None:
        """Return since when this page's growth was done; begin a new epoch where another process answers.

        A server that names its start in a header settles it. Else one that was away has been restarted, and its
        counters began at zero after it was last seen away.
        """
        mark = answer.headers.get(self._kind.start_header, "") if self._kind.start_header else ""
        known, self._mark = self._mark, mark or self._mark
        is_new = bool(known and mark and mark != known)
        if self._away_ns is None or (known and mark == known):
            since_ns = self._page_ns
        else:
            is_new, since_ns = True, self._away_ns
        if is_new:
            self._counters.forget(from_zero=True)
            if self._page_ns is not None:
                self._restarted(now_ns, "another process answers")
        return since_ns

    def _restarted(self, now_ns: int, why: str) -> None:
        if self._loaded:
            self._event(now_ns, EventKind.MODEL_UNLOAD, why)
        self._loaded = False
        self._probe_due_ns = now_ns
        self._note(restarts=self._health.restarts + 1)

    def _introduce(self, now_ns: int) -> None:
        """Ask the server for its model now and then, and say who it is where that is new."""
        if now_ns >= self._probe_due_ns or not self._loaded:
            self._probe_due_ns = now_ns + _PROBE_AGAIN_NS
            seen = self._probe(now_ns)
            if self._seen is None or replace(seen, t_ns=self._seen.t_ns) != self._seen:
                self._seen = seen
                self._note(model=seen.model.model)
                self._emit(seen)
        if not self._loaded:
            self._loaded = True
            self._event(now_ns, EventKind.MODEL_LOAD, "its page answers")

    def _probe(self, now_ns: int) -> EngineSeen:
        listed = first_model(self._json(self._kind.models_path))
        before = self._seen.model if self._seen else Model(self._target.model)
        model = before if listed is None else model_shape(listed, self._target.model)
        props = self._json(self._kind.props_path)
        version = props.get("build_info") or props.get("version") if isinstance(props, dict) else ""
        target = self._target
        engine = Engine(target.name, model.model, target.devices, server=target.name, kind=target.kind)
        pids = self._find_pids(self._target.url) or self._target.pids
        return EngineSeen(now_ns, engine, model, pids, self._target.url, str(version or ""))

    def _json(self, path: str) -> object:
        """Return what a path answers, None where that is nothing usable: the page itself is what counts."""
        try:
            answer = self._fetch.get(path)
            is_usable = (
                answer is not None and answer.status == 200 and answer.whole and len(answer.body) < MAX_BODY_BYTES
            )
            return json.loads(answer.body) if answer is not None and is_usable else None
        except (InferwattError, ValueError, RecursionError):
            return None

    def _sums(self, delta: Delta, since_ns: int, now_ns: int) -> Sums:
        return Sums(
            since_ns,
            now_ns,
            self._target.name,
            prompt_tokens=delta.computed_tokens,
            cached_tokens=delta.cached_tokens,
            output_tokens=delta.output_tokens,
            running=delta.running,
            waiting=delta.waiting,
        )

    def _event(self, now_ns: int, kind: EventKind, detail: str) -> None:
        self._emit(Event(now_ns, kind, engine=self._target.name, detail=detail))

    def _note(self, **changes: object) -> None:
        self._health = replace(self._health, **changes)  # type: ignore[arg-type]
