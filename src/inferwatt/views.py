"""What a person looks at: power now, joules per token, the last requests, since the agent's start. Pure."""

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field

from inferwatt.attribution.accounts import TickEnergy
from inferwatt.books import Books
from inferwatt.records import Device, Request, RequestEnergy
from inferwatt.snapshot import DeviceView, LiveView, ModelView, RequestView, TenantView
from inferwatt.tallies import AccountSum, EnergySum, WorkCount
from inferwatt.units import NS_PER_SECOND, joules, named_joules, seconds, watts

_KEPT_REQUESTS = 500
_WINDOW_NS = 30 * NS_PER_SECOND
_POWER_NS = NS_PER_SECOND


@dataclass(slots=True)
class _Device:
    device: Device
    energy_uj: int = 0
    recent: deque[TickEnergy] = field(default_factory=deque)
    recent_uj: int = 0
    power_watts: float | None = None


@dataclass(frozen=True, slots=True)
class _Mark:
    """What stood at one time: energy and output tokens of each model, for the figures of the last window."""

    t_ns: int
    active_uj: Mapping[tuple[str, str], int]
    output_tokens: Mapping[tuple[str, str], int]


class Views:
    """Sums since the start of this agent, as the page and the terminal show them."""

    def __init__(self, books: Books) -> None:
        self._books = books
        self._devices: dict[str, _Device] = {}
        self._models: dict[tuple[str, str, str], EnergySum] = {}
        self._tenants: dict[tuple[str, str], EnergySum] = {}
        self._counts: dict[tuple[str, str], WorkCount] = {}
        self._tenant_counts: dict[str, WorkCount] = {}
        self._requests: deque[RequestView] = deque(maxlen=_KEPT_REQUESTS)
        self._requests_ended = 0
        self._marks: deque[_Mark] = deque()
        self._accounts: dict[str, AccountSum] = {}

    def tick(self, tick: TickEnergy) -> None:
        """Add one closed tick."""
        device = self._books.devices[tick.device]
        view = self._devices.get(tick.device) or self._devices.setdefault(tick.device, _Device(device))
        view.energy_uj += tick.energy_uj
        view.recent.append(tick)
        view.recent_uj += tick.energy_uj
        while tick.t1_ns - view.recent[0].t1_ns > _POWER_NS:
            view.recent_uj -= view.recent.popleft().energy_uj
        elapsed_ns = tick.t1_ns - view.recent[0].t0_ns
        view.power_watts = watts(view.recent_uj, elapsed_ns)
        self._accounts.setdefault(device.provenance.value, AccountSum()).add(tick)
        self._tick_models(tick, device)

    def _tick_models(self, tick: TickEnergy, device: Device) -> None:
        for (engine, model, tenant), (prefill_uj, decode_uj) in tick.requests.items():
            known = self._model(model, self._server(engine), device)
            known.prefill_uj += prefill_uj
            known.decode_uj += decode_uj
            self._gain(known, prefill_uj + decode_uj, device)
            key = (self._books.tenant(tenant), device.provenance.value)
            self._gain(self._tenants.setdefault(key, EnergySum()), prefill_uj + decode_uj, device)
        for engine, (prefill_uj, decode_uj) in tick.unlisted.items():
            known = self._model(self._name(engine), self._server(engine), device)
            known.unlisted_uj += prefill_uj + decode_uj
            self._gain(known, prefill_uj + decode_uj, device)
        for engine, uj in tick.idle_resident.items():
            known = self._model(self._name(engine), self._server(engine), device)
            known.idle_uj += uj
            self._gain(known, uj, device)

    def _gain(self, known: EnergySum, uj: int, device: Device) -> None:
        known.energy_uj += uj
        known.systematic_uj += uj * device.systematic_ratio

    def _model(self, model: str, server: str, device: Device) -> EnergySum:
        return self._models.setdefault((model, server, device.provenance.value), EnergySum())

    def _server(self, engine: str) -> str:
        known = self._books.engines.get(engine)
        return known.server if known else ""

    def _name(self, engine: str) -> str:
        known = self._books.engines.get(engine)
        return known.model if known else ""

    def request(self, request: Request, energy: RequestEnergy, end_unix_seconds: float) -> None:
        """Add one final request."""
        server = self._server(request.engine)
        tenant = self._books.tenant(request.tenant)
        for count in (
            self._counts.setdefault((request.model, server), WorkCount()),
            self._tenant_counts.setdefault(tenant, WorkCount()),
        ):
            count.requests += 1
            count.prompt += request.prompt_tokens or 0
            count.cached += request.cached_tokens or 0
            count.output += request.output_tokens or 0
        for part in energy.parts:
            half_uj = (part.high_uj - part.low_uj) / 2
            provenance = part.provenance.value
            for known in (
                self._models.setdefault((request.model, server, provenance), EnergySum()),
                self._tenants.setdefault((tenant, provenance), EnergySum()),
            ):
                known.split_uj2 += half_uj * half_uj
                known.settled_uj += part.energy_uj
        self._requests.appendleft(request_view(request, energy, server, end_unix_seconds))
        self._requests_ended += 1

    def mark(self, now_ns: int) -> None:
        """Remember what stands now; call it about once a second."""
        active: dict[tuple[str, str], int] = {}
        for (model, server, _), known in self._models.items():
            active[model, server] = active.get((model, server), 0) + known.active_uj
        tokens = {key: self._output_tokens(*key) for key in active}
        self._marks.append(_Mark(now_ns, active, tokens))
        while len(self._marks) > 2 and now_ns - self._marks[1].t_ns > _WINDOW_NS:
            self._marks.popleft()

    def _output_tokens(self, model: str, server: str) -> int:
        """Return the output tokens of a model: of its records, and those of its server's page that have none."""
        count = self._counts.get((model, server))
        unlisted = sum(
            self._books.tokens(name).unlisted.output
            for name, engine in self._books.engines.items()
            if (engine.model, engine.server) == (model, server)
        )
        return (count.output if count else 0) + unlisted

    def live(
        self, *, unix_seconds: float, started_unix_seconds: float, version: str, host: str, stale: frozenset[str]
    ) -> LiveView:
        """Return what is shown now, without what is lacking."""
        open_requests = self._books.values.get("inferwatt_open_requests", {})
        return LiveView(
            unix_seconds=unix_seconds,
            started_unix_seconds=started_unix_seconds,
            version=version,
            host=host,
            devices=tuple(self._device_view(view, stale) for view in self._devices.values()),
            models=tuple(
                self._model_view(*key, known, int(open_requests.get(key[:2], 0))) for key, known in self._models.items()
            ),
            tenants=tuple(self._tenant_view(*key, known) for key, known in self._tenants.items()),
            requests=tuple(self._requests),
            lacks=(),
            accounts=tuple(account.view(provenance) for provenance, account in self._accounts.items()),
            requests_ended=self._requests_ended,
        )

    def _device_view(self, view: _Device, stale: frozenset[str]) -> DeviceView:
        device = view.device
        is_stale = device.device in stale
        return DeviceView(
            device=device.device,
            domain=device.domain,
            component=device.component.value,
            provenance=device.provenance.value,
            systematic_ratio=device.systematic_ratio,
            power_watts=None if is_stale else view.power_watts,
            energy_joules=joules(view.energy_uj),
            stale=is_stale,
        )

    def _model_view(self, model: str, server: str, provenance: str, known: EnergySum, open_requests: int) -> ModelView:
        count = self._counts.get((model, server), WorkCount())
        output = self._output_tokens(model, server)
        each = low = high = None
        counted_uj = known.settled_uj + known.unlisted_uj
        if output and counted_uj:
            low, high = (bound / output for bound in known.bounds(counted_uj))
            each = joules(counted_uj) / output
        window_ns, power_watts, rate = self._window(model, server)
        return ModelView(
            model_name=model,
            server=server,
            provenance=provenance,
            window_seconds=seconds(window_ns),
            power_watts=power_watts,
            output_tokens_per_second=rate,
            joules_per_output_token=each,
            low_joules_per_output_token=low,
            high_joules_per_output_token=high,
            energy_joules=joules(known.active_uj),
            prefill_joules=joules(known.prefill_uj),
            decode_joules=joules(known.decode_uj),
            idle_joules=joules(known.idle_uj),
            unlisted_joules=joules(known.unlisted_uj),
            systematic_ratio=known.systematic_ratio(),
            prompt_tokens=count.prompt,
            cached_tokens=count.cached,
            output_tokens=output,
            requests=count.requests,
            open_requests=open_requests,
        )

    def _window(self, model: str, server: str) -> tuple[int, float | None, float]:
        """Return the length of the last window, and the model's active power and output tokens a second in it."""
        if len(self._marks) < 2:
            return 0, None, 0.0
        first, last = self._marks[0], self._marks[-1]
        key, elapsed_ns = (model, server), last.t_ns - first.t_ns
        gained_uj = last.active_uj.get(key, 0) - first.active_uj.get(key, 0)
        tokens = last.output_tokens.get(key, 0) - first.output_tokens.get(key, 0)
        return elapsed_ns, watts(gained_uj, elapsed_ns), tokens / seconds(elapsed_ns)

    def _tenant_view(self, tenant: str, provenance: str, known: EnergySum) -> TenantView:
        count = self._tenant_counts.get(tenant, WorkCount())
        low, high = known.bounds(known.energy_uj)
        return TenantView(
            tenant=tenant,
            provenance=provenance,
            energy_joules=joules(known.energy_uj),
            low_joules=low,
            high_joules=high,
            systematic_ratio=known.systematic_ratio(),
            requests=count.requests,
            output_tokens=count.output,
            joules_per_output_token=joules(known.settled_uj) / count.output if count.output else None,
        )


def request_view(request: Request, energy: RequestEnergy | None, server: str, end_unix_seconds: float) -> RequestView:
    """Return one ended request as it is shown; its joules are absent where no device was read while it ran."""
    known = energy if energy is not None and energy.parts else None
    end_ns = request.end_ns if request.end_ns is not None else request.arrival_ns
    return RequestView(
        request=request.request,
        response_id=request.response_id,
        model_name=request.model,
        server=server,
        tenant=request.tenant,
        end_unix_seconds=end_unix_seconds,
        duration_seconds=seconds(end_ns - request.arrival_ns),
        prompt_tokens=request.prompt_tokens,
        cached_tokens=request.cached_tokens,
        output_tokens=request.output_tokens,
        energy_joules=joules(known.energy_uj) if known else None,
        prefill_joules=joules(known.prefill_uj) if known else None,
        decode_joules=joules(known.decode_uj) if known else None,
        low_joules=joules(known.low_uj) if known else None,
        high_joules=joules(known.high_uj) if known else None,
        systematic_ratio=known.systematic_ratio if known else None,
        tier=energy.tier.value if energy else "",
        provenance=known.provenance.value if known and known.provenance else "",
        outcome=request.outcome.value if request.outcome else "",
        tags=request.tags,
        trace_id=request.trace_id,
        details=named_joules(known.details_uj) if known else {},
        unsure=known.is_unsure if known else False,
        recomputed_tokens=request.recomputed_tokens,
        rejected_tokens=request.rejected_tokens,
        wasted_tokens=request.wasted_tokens,
        ending=request.ending.value if request.ending else "",
        thrown_away_tokens=request.thrown_away,
        queue_seconds=None if request.queued_ns is None else seconds(request.queued_ns),
        namespace=request.namespace,
        pod=request.pod,
        container=request.container,
    )
