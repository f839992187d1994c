"""What the terminal shows while the demo runs: the agent's live view as a table, or as a line where there is none."""

from collections.abc import Sequence

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from inferwatt.snapshot import AccountView, LiveView, ModelView, RequestView

UNKNOWN = "-"
_LAST_REQUESTS = 6
_SMALL_PER_TOKEN = 1.0


def render(view: LiveView | None, *, elapsed_seconds: float, address: str | None, ends: str) -> RenderableType:
    """Return the whole table; `address` is the page's, None where it is not to be named."""
    head = Text.assemble(("inferwatt demo", "bold"), f"   {elapsed_seconds:.0f} s   {ends}")
    if address:
        head.append(f"   page: {address}", style="cyan")
    if view is None or not view.devices:
        return Group(head, Text("waiting for the first figures", style="dim"))
    parts: list[RenderableType] = [head, _devices(view), _models(view), _tenants(view), _requests(view.requests)]
    parts += [Text(_account(account), style="dim") for account in view.accounts]
    return Group(*(item for part in parts for item in (part, Text(""))))


def _account(account: AccountView) -> str:
    return (
        f"{account.provenance} since the start: requests {_joules(account.prefill_joules + account.decode_joules)}   "
        f"idle {_joules(account.idle_joules)}   other processes {_joules(account.other_joules)}   "
        f"unlisted {_joules(account.unlisted_joules)}   unattributed {_joules(account.unattributed_joules)}"
    )


def line(view: LiveView | None, *, elapsed_seconds: float) -> str:
    """Return the same in one line, for logs."""
    if view is None or not view.devices:
        return f"{elapsed_seconds:4.0f} s  waiting for the first figures"
    devices = ", ".join(
        f"{d.device} {_watts(d.power_watts)} {d.provenance} ±{_ratio(d.systematic_ratio)}" for d in view.devices
    )
    models = "; ".join(
        f"{m.model_name or UNKNOWN} {per_token(m)} {m.provenance}, {m.output_tokens_per_second:.0f} tokens/s, "
        f"{m.requests} requests"
        for m in view.models
    )
    tenants = ", ".join(f"{t.tenant} {_joules(t.energy_joules)}" for t in view.tenants)
    return f"{elapsed_seconds:4.0f} s  {devices} | {models or 'no model yet'} | {tenants or 'no tenant yet'}"


def per_token(model: ModelView) -> str:
    """Return joules per output token with both bounds together."""
    figure, low, high = (
        model.joules_per_output_token,
        model.low_joules_per_output_token,
        model.high_joules_per_output_token,
    )
    return UNKNOWN if figure is None else f"{_each(figure)} J/token ({_each(low)} to {_each(high)})"


def _devices(view: LiveView) -> Table:
    table = _table("device", ("watts", True), ("joules", True), ("between", True), "how")
    for device in view.devices:
        ratio = device.systematic_ratio
        table.add_row(
            device.device,
            "stale" if device.stale else _watts(device.power_watts),
            _joules(device.energy_joules),
            _between(device.energy_joules * (1 - ratio), device.energy_joules * (1 + ratio)),
            f"{device.provenance}, sensor ±{_ratio(ratio)}",
        )
    return table


def _models(view: LiveView) -> Table:
    columns = ("joules per output token", True), ("tokens/s", True), ("watts", True), ("joules", True), ("idle", True)
    table = _table("model", *columns, ("requests", True), ("open", True), "how")
    for model in view.models:
        table.add_row(
            model.model_name or UNKNOWN,
            per_token(model),
            f"{model.output_tokens_per_second:.1f}",
            _watts(model.power_watts),
            _joules(model.energy_joules),
            _joules(model.idle_joules),
            str(model.requests),
            str(model.open_requests),
            f"{model.provenance}, sensor ±{_ratio(model.systematic_ratio)}",
        )
    return table


def _tenants(view: LiveView) -> Table:
    columns = ("joules", True), ("between", True), ("J/token", True), ("tokens", True), ("requests", True)
    table = _table("tenant", *columns, "how")
    for tenant in view.tenants:
        table.add_row(
            tenant.tenant,
            _joules(tenant.energy_joules),
            _between(tenant.low_joules, tenant.high_joules),
            _each(tenant.joules_per_output_token),
            str(tenant.output_tokens),
            str(tenant.requests),
            f"{tenant.provenance}, sensor ±{_ratio(tenant.systematic_ratio)}",
        )
    return table


def _requests(requests: Sequence[RequestView]) -> Table:
    columns = ("prompt/cached/output", True), ("joules", True), ("split 90%", True)
    table = _table("last requests", "outcome", *columns, "how")
    for request in requests[:_LAST_REQUESTS]:
        tokens = (request.prompt_tokens, request.cached_tokens, request.output_tokens)
        between = UNKNOWN
        if request.low_joules is not None and request.high_joules is not None:
            between = _between(request.low_joules, request.high_joules)
        table.add_row(
            request.tenant,
            request.outcome,
            "/".join(UNKNOWN if count is None else str(count) for count in tokens),
            _joules(request.energy_joules),
            between,
            f"{request.provenance or UNKNOWN}, {request.tier}",
        )
    return table


def _table(first: str, *columns: str | tuple[str, bool]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold", expand=False)
    table.add_column(first, min_width=22)
    for column in columns:
        name, is_number = (column, False) if isinstance(column, str) else column
        table.add_column(name, justify="right" if is_number else "left")
    return table


def _watts(power_watts: float | None) -> str:
    return UNKNOWN if power_watts is None else f"{power_watts:.2f} W"


def _joules(energy_joules: float | None) -> str:
    return UNKNOWN if energy_joules is None else f"{energy_joules:.2f} J"


def _each(energy_joules: float | None) -> str:
    if energy_joules is None:
        return UNKNOWN
    return f"{energy_joules:.3g}" if energy_joules >= _SMALL_PER_TOKEN else f"{energy_joules:.4f}"


def _between(low_joules: float, high_joules: float) -> str:
    return f"{low_joules:.2f} to {high_joules:.2f}"


def _ratio(ratio: float) -> str:
    return f"{ratio:.0%}"


def ending(duration_seconds: float | None) -> str:
    """Return how this run ends, in words."""
    return "Ctrl-C ends it" if duration_seconds is None else f"ends after {duration_seconds:g} s, or by Ctrl-C"
