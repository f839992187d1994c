"""The books: running totals by label from closed ticks and final requests. Pure: no clock, no I/O.

Counters only grow, and are shown from 0 on where that is known, so that their first step is seen as one; they are
restored from the ledger at start, and what they gained since the last commit is handed to the next one. What a person
looks at (`views.py`) counts from the agent's start.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from inferwatt.attribution.accounts import TickEnergy
from inferwatt.export import estimated
from inferwatt.export.catalog import CACHE_NONE, CACHE_READ, CATALOG, DECODE, IDLE_RESIDENT, PREFILL, Kind
from inferwatt.folding import Names
from inferwatt.records import Device, Engine, Event, Outcome, Request, RequestEnergy, Sums
from inferwatt.snapshot import EXEMPLAR_ID_CHARACTERS, Exemplar, HistogramValue, Labels
from inferwatt.tallies import accounts_of, at_zero, wasted_by_reason
from inferwatt.tokens import TokenBooks, Tokens
from inferwatt.units import joules, seconds
from inferwatt.waits import passed_on, with_observed, with_one

_PARTS = "inferwatt_request_part_energy_joules_total"


@dataclass(frozen=True, slots=True)
class BooksConfig:
    """What the books keep apart."""

    max_tenants: int = 1000
    by_tenant: bool = True
    max_models: int = 500


class Books:
    """Running totals. `values` and `histograms` are keyed by the catalogue's names and label orders."""

    def __init__(self, config: BooksConfig | None = None) -> None:
        self._config = config or BooksConfig()
        self.values: dict[str, dict[Labels, float]] = at_zero()
        self.histograms: dict[str, dict[Labels, HistogramValue]] = {}
        self._changed: dict[str, set[Labels]] = {}
        self._changed_histograms: dict[str, set[Labels]] = {}
        self._followed: dict[tuple[str, Labels], float] = {}
        self._devices: dict[str, Device] = {}
        self._device_labels: dict[str, tuple[str, Labels]] = {}
        self._engines: dict[str, Engine] = {}
        self._tokens: dict[str, TokenBooks] = {}
        self._tenants = Names(self._config.max_tenants, lambda: self.add("inferwatt_tenants_folded_total", (), 1))
        self._models = Names(self._config.max_models, lambda: self.add("inferwatt_models_folded_total", (), 1))
        self.gauge("inferwatt_tenants_limit", (), self._config.max_tenants)
        self.gauge("inferwatt_models_limit", (), self._config.max_models)

    # What there is.

    def restore(
        self,
        counters: Mapping[str, Mapping[Labels, float]],
        histograms: Mapping[str, Mapping[Labels, HistogramValue]],
    ) -> None:
        """Go on from the totals of an earlier run."""
        for name, series in counters.items():
            if name in CATALOG and CATALOG[name].kind is Kind.COUNTER:
                self.values.setdefault(name, {}).update(series)
        for name, rows in histograms.items():
            if name in CATALOG:
                self.histograms.setdefault(name, {}).update(rows)
        for name in ("inferwatt_tenant_energy_joules_total", estimated.TENANT):
            self._tenants.restore(labels[0] for labels in self.values.get(name, {}))
        managed = (estimated.REQUESTS, estimated.UNKNOWN)
        for name in ("inferwatt_energy_joules_total", "inferwatt_requests_total", *managed):
            self._models.restore(labels[0] for labels in self.values.get(name, {}))

    def add_device(self, device: Device) -> None:
        """Make a device known."""
        self._devices[device.device] = device
        info = (device.device, device.vendor, device.model or device.kind, device.driver, device.uuid)
        self.gauge("inferwatt_device_info", info, 1)
        labels = (device.device, device.domain, device.provenance.value)
        self._device_labels[device.device] = (device.component.value, labels)
        self.gauge("inferwatt_device_systematic_uncertainty_ratio", labels, device.systematic_ratio)

    def add_engine(self, engine: Engine, version: str = "", where: tuple[str, str, str] = ("", "", "")) -> None:
        """Make an engine known, and where it runs: namespace, pod, container."""
        self._engines[engine.engine] = engine
        self._tokens.setdefault(engine.engine, TokenBooks())
        known = self.values.get("inferwatt_server_info", {})  # of another version, after a restart
        self.values["inferwatt_server_info"] = {k: value for k, value in known.items() if k[0] != engine.server}
        self.gauge("inferwatt_server_info", (engine.server, engine.kind, version, *where), 1)

    @property
    def devices(self) -> Mapping[str, Device]:
        """The devices by name."""
        return self._devices

    @property
    def engines(self) -> Mapping[str, Engine]:
        """The engines by name."""
        return self._engines

    # Counting.

    def add(self, name: str, labels: Labels, amount: float) -> None:
        """Add to a counter."""
        series = self.values.get(name)
        if series is None:
            series = self.values[name] = {}
        series[labels] = series.get(labels, 0) + amount
        changed = self._changed.get(name)
        if changed is None:
            changed = self._changed[name] = set()
        changed.add(labels)

    def gauge(self, name: str, labels: Labels, value: float) -> None:
        """Set a gauge."""
        self.values.setdefault(name, {})[labels] = value

    def count_to(self, name: str, labels: Labels, value: float) -> None:
        """Follow a count that another part of the agent keeps from its own start, at 0 too: add what it gained."""
        gained = value - self._followed.get((name, labels), 0)
        self._followed[name, labels] = value
        if gained > 0 or labels not in self.values.get(name, {}):
            self.add(name, labels, max(gained, 0))

    def forget(self, name: str) -> None:
        """Drop a gauge's series, before those that still exist are set again."""
        self.values.pop(name, None)

    def take_changes(
        self,
    ) -> tuple[dict[str, dict[Labels, float]], dict[str, dict[Labels, HistogramValue]]]:
        """Return the counters and histograms that changed since the last call, with their absolute values."""
        counters = {n: {k: self.values[n][k] for k in keys} for n, keys in self._changed.items()}
        histograms = {n: {k: self.histograms[n][k] for k in keys} for n, keys in self._changed_histograms.items()}
        self._changed, self._changed_histograms = {}, {}
        return counters, histograms

    # What happened.

    def tick(self, tick: TickEnergy) -> None:
        """Book one closed tick."""
        component, labels = self._device_labels[tick.device]
        provenance = labels[2]
        self.add("inferwatt_device_energy_joules_total", labels, tick.energy_uj)
        for account, engine, uj in accounts_of(tick):
            model, server = self._names(engine)
            labels = (model, server, account, component, provenance)
            if uj or labels not in self.values.get("inferwatt_energy_joules_total", {}):
                self.add("inferwatt_energy_joules_total", labels, uj)
                if account == IDLE_RESIDENT:
                    self.add("inferwatt_loaded_energy_joules_total", (model, server, provenance), uj)
        for (engine, model, tenant), (prefill_uj, decode_uj) in tick.requests.items():
            model, server = self._models.shown(model), self._names(engine)[1]
            self.add("inferwatt_loaded_energy_joules_total", (model, server, provenance), prefill_uj + decode_uj)
            for phase, uj in ((PREFILL, prefill_uj), (DECODE, decode_uj)):
                if uj:
                    labels = (model, server, phase, component, provenance)
                    self.add("inferwatt_energy_joules_total", labels, uj)
            if self._config.by_tenant:
                tenant_labels = (self.tenant(tenant), model, provenance)
                self.add("inferwatt_tenant_energy_joules_total", tenant_labels, prefill_uj + decode_uj)

    def _names(self, engine: str) -> tuple[str, str]:
        known = self._engines.get(engine)
        return ("", "") if known is None else (self._models.shown(known.model), known.server)

    def tenant(self, tenant: str) -> str:
        """Return the tenant's name as it is shown: once named it stays named, beyond the limit it is folded."""
        return self._tenants.shown(tenant)

    def model(self, model: str) -> str:
        """Return the model's name as it is shown, likewise."""
        return self._models.shown(model)

    @property
    def by_tenant(self) -> bool:
        """Whether energy is counted by tenant."""
        return self._config.by_tenant

    def request(self, request: Request, energy: RequestEnergy, end_unix_seconds: float) -> None:
        """Book one final request."""
        model, server = self._models.shown(request.model), self._names(request.engine)[1]
        outcome = request.outcome or Outcome.ABORTED
        self.add("inferwatt_requests_total", (model, server, outcome.value), 1)
        self._tokens_of(request, model, server)
        for reason, tokens in request.thrown_away.items():
            self.add("inferwatt_wasted_tokens_total", (model, server, reason), tokens)
        self._latencies(request, model, server)
        for part in energy.parts:
            how, half_uj2 = part.provenance.value, round(((part.high_uj - part.low_uj) / 2) ** 2)
            self.add("inferwatt_energy_split_variance_square_joules_total", (model, server, how), half_uj2)
            self.add("inferwatt_tier_energy_joules_total", (model, server, energy.tier.value, how), part.energy_uj)
            for name, uj in part.details_uj.items():
                if name != "marginal":
                    self.add(_PARTS, (model, server, name, how), uj)
            for reason, uj in wasted_by_reason(request, part).items():
                self.add("inferwatt_wasted_energy_joules_total", (model, server, reason, how), uj)
        if energy.provenance is not None:
            self._energy_histograms(request, energy, (model, server, energy.provenance.value), end_unix_seconds)

    def _energy_histograms(self, request: Request, energy: RequestEnergy, labels: Labels, unix_seconds: float) -> None:
        name = (request.response_id or request.request)[:EXEMPLAR_ID_CHARACTERS]
        value = joules(energy.energy_uj)
        exemplar = Exemplar(value, unix_seconds, name, request.trace_id)
        self.observe("inferwatt_request_energy_joules", labels, value, exemplar)
        if "marginal" in energy.details_uj:
            marginal = joules(energy.details_uj["marginal"])
            self.observe("inferwatt_request_marginal_energy_joules", labels, marginal, None)
        if request.output_tokens:
            each = value / request.output_tokens
            exemplar = Exemplar(each, unix_seconds, name, request.trace_id)
            self.observe("inferwatt_request_energy_per_output_token_joules", labels, each, exemplar)

    def _tokens_of(self, request: Request, model: str, server: str) -> None:
        prompt, cached = request.prompt_tokens or 0, request.cached_tokens or 0
        tokens = Tokens(max(prompt - cached, 0), cached, request.output_tokens or 0)
        self._count_tokens(model, server, tokens)
        books = self._tokens.get(request.engine)
        if books is not None:
            books.record(request.request, tokens, request.end_ns or 0)

    def _count_tokens(self, model: str, server: str, tokens: Tokens) -> None:
        for name, labels, amount in (
            ("inferwatt_prompt_tokens_total", (model, server, CACHE_NONE), tokens.computed),
            ("inferwatt_prompt_tokens_total", (model, server, CACHE_READ), tokens.cached),
            ("inferwatt_output_tokens_total", (model, server), tokens.output),
        ):
            if amount:
                self.add(name, labels, amount)

    def _latencies(self, request: Request, model: str, server: str) -> None:
        if request.first_token_ns is None or request.end_ns is None:
            return
        first = seconds(request.first_token_ns - request.arrival_ns)
        self.observe("inferwatt_time_to_first_token_seconds", (model, server), first, None)
        if (request.output_tokens or 0) > 1:
            gap = seconds(request.end_ns - request.first_token_ns) / ((request.output_tokens or 0) - 1)
            self.observe("inferwatt_inter_token_latency_seconds", (model, server), gap, None)

    def observe(self, name: str, labels: Labels, value: float, exemplar: Exemplar | None) -> None:
        """Add one observation to a histogram."""
        self._put(name, labels, with_one(self.histograms.get(name, {}).get(labels), CATALOG[name], value, exemplar))

    def _put(self, name: str, labels: Labels, histogram: HistogramValue) -> None:
        self.histograms.setdefault(name, {})[labels] = histogram
        self._changed_histograms.setdefault(name, set()).add(labels)

    def events(self, events: Iterable[Event]) -> None:
        """Count what the timelines noticed."""
        for event in events:
            if event.device:
                self.add("inferwatt_device_events_total", (event.device, event.kind.value), 1)

    def dropped(self, reason: str) -> None:
        """Count a record that was not taken."""
        self.add("inferwatt_records_dropped_total", (reason,), 1)

    # The server's own count.

    def sums(self, sums: Sums) -> None:
        """Take what a server counted itself."""
        books = self._tokens.get(sums.engine)
        if books is None or sums.steps is not None:
            return
        books.count(Tokens(sums.prompt_tokens or 0, sums.cached_tokens or 0, sums.output_tokens or 0), sums.t1_ns)
        labels = self._names(sums.engine)
        for name, observed in passed_on(sums, is_recorded=books.is_recorded):
            self._put(name, labels, with_observed(self.histograms.get(name, {}).get(labels), CATALOG[name], observed))

    def expect(self, request: Request) -> None:
        """Note that a record of a request came: until it is booked, its server's count is not compared."""
        books = self._tokens.get(request.engine)
        if books is not None:
            books.expect(request.request)

    def open_requests(self, by_engine: Mapping[str, int]) -> None:
        """Note how many requests are open."""
        for name in self._tokens:
            self.gauge("inferwatt_open_requests", self._names(name), by_engine.get(name, 0))

    def reconcile(self, now_ns: int, resolution_tokens: Mapping[str, int]) -> None:
        """Compare records with the servers' own pages, where both are whole.

        What a page counts beyond the records is unlisted work; records beyond the page are a disagreement, unless
        they differ by less than the step in which the page's counters move.
        """
        for name, books in self._tokens.items():
            compared = books.reconcile(now_ns)
            if compared is None:
                continue
            unlisted, disagreement = compared
            labels = self._names(name)
            self._count_tokens(*labels, unlisted)
            step = resolution_tokens.get(name, 1)
            for kind, count in (("prompt", disagreement.computed), ("output", disagreement.output)):
                self.gauge("inferwatt_token_disagreement_tokens", (*labels, kind), count if count >= step else 0)

    def tokens(self, engine: str) -> TokenBooks:
        """Return an engine's token books."""
        return self._tokens.get(engine) or TokenBooks()
