"""A dashboard for Datadog, as data. Pure.

Their queries work alike on what the Agent scrapes, on DogStatsD and on the API: counts, sums and gauges only. Joules of
different provenance are never added: each query is told apart by it, or is of the one that the reader chose.
"""

import json
from typing import Any, Final

Json = dict[str, Any]

CHOSEN: Final = "$host,$model_name,$server"
OF_ONE: Final = f"{CHOSEN},$provenance"
WORK: Final = "(phase:prefill OR phase:decode OR phase:unlisted)"
_ENERGY: Final = f"{OF_ONE},{WORK}"
IDLE: Final = "(phase:idle_resident OR phase:idle_empty)"


def gained(name: str, where: str = CHOSEN, by: str = "", *, how: str = "as_rate") -> str:
    """Return the query of a count: a second (`as_rate`; of joules that is watts), or what it was (`as_count`)."""
    groups = f" by {{{by}}}" if by else ""
    return f"sum:inferwatt.{name}{{{_spelled(where)}}}{groups}.{how}()"


def stands(name: str, where: str = CHOSEN, by: str = "", *, over: str = "avg") -> str:
    """Return the query of a gauge."""
    groups = f" by {{{by}}}" if by else ""
    return f"{over}:inferwatt.{name}{{{_spelled(where)}}}{groups}"


def _spelled(where: str) -> str:
    """Return a filter: where it has words between brackets, commas are not known."""
    return " AND ".join(where.split(",")) if "(" in where else where


def graph(title: str, formula: str, queries: Json, kind: str = "line") -> Json:
    """Return a graph of a formula over named queries."""
    request = _request(formula, queries, "timeseries") | {"display_type": kind}
    return {"definition": {"type": "timeseries", "title": title, "show_legend": True, "requests": [request]}}


def figure(title: str, formula: str, queries: Json) -> Json:
    """Return one figure over the time that is shown."""
    request = _request(formula, queries, "scalar")
    return {"definition": {"type": "query_value", "title": title, "autoscale": True, "requests": [request]}}


def ranking(title: str, formula: str, queries: Json) -> Json:
    """Return who has most."""
    return {"definition": {"type": "toplist", "title": title, "requests": [_request(formula, queries, "scalar")]}}


def _request(formula: str, queries: Json, form: str) -> Json:
    more = {"aggregator": "sum"} if form == "scalar" else {}
    return {
        "formulas": [{"formula": formula}],
        "queries": [
            {"name": name, "data_source": "metrics", "query": query, **more} for name, query in queries.items()
        ],
        "response_format": form,
    }


def group(title: str, *widgets: Json) -> Json:
    """Return widgets under a heading."""
    return {"definition": {"type": "group", "title": title, "layout_type": "ordered", "widgets": list(widgets)}}


def note(text: str) -> Json:
    """Return words."""
    return {"definition": {"type": "note", "content": text, "background_color": "white", "font_size": "14"}}


def _power() -> Json:
    """Return what is used, and where it goes."""
    return group(
        "Power",
        graph("Watts by device", "a", {"a": gained("device_energy_joules.count", "$host", "device,provenance")}),
        graph(
            "Watts by where they went",
            "a",
            {"a": gained("energy_joules.count", OF_ONE, "phase")},
            kind="area",
        ),
        graph(
            "Watts by pod",
            "a",
            {"a": gained("energy_joules.count", OF_ONE, "kube_namespace,pod_name")},
            kind="area",
        ),
        graph(
            "Idle, of all",
            "a / b",
            {
                "a": gained("energy_joules.count", f"{OF_ONE},{IDLE}"),
                "b": gained("energy_joules.count", OF_ONE),
            },
        ),
    )


def _models() -> Json:
    """Return each model."""
    return group(
        "Models",
        graph(
            "Joules per output token",
            "a / b",
            {
                "a": gained("energy_joules.count", _ENERGY, "model_name"),
                "b": gained("output_tokens.count", CHOSEN, "model_name"),
            },
        ),
        graph(
            "Joules per request, mean",
            "a / b",
            {
                "a": gained("request_energy_joules.sum", OF_ONE, "model_name"),
                "b": gained("request_energy_joules.count", OF_ONE, "model_name"),
            },
        ),
        graph("Output tokens a second", "a", {"a": gained("output_tokens.count", CHOSEN, "model_name")}),
        graph("Watts by model", "a", {"a": gained("energy_joules.count", _ENERGY, "model_name")}),
        graph("Open requests", "a", {"a": stands("open_requests", CHOSEN, "model_name", over="sum")}),
    )


def _tenants() -> Json:
    """Return who asks."""
    return group(
        "Tenants",
        ranking(
            "Kilowatt hours",
            "a / 3600000",
            {"a": gained("tenant_energy_joules.count", "$host,$model_name,$provenance", "tenant", how="as_count")},
        ),
        graph(
            "Watts by tenant",
            "a",
            {"a": gained("tenant_energy_joules.count", "$host,$model_name,$provenance", "tenant")},
            kind="area",
        ),
    )


def _hardware() -> Json:
    """Return how devices are."""
    return group(
        "Hardware",
        graph("Utilization", "a", {"a": stands("device_utilization_ratio", "$host", "device")}),
        graph("Temperature", "a", {"a": stands("device_temperature_celsius", "$host", "device")}),
        graph(
            "Throttled, part of the time",
            "a",
            {"a": gained("device_throttled_seconds.count", "$host", "device,reason")},
        ),
    )


def _meter() -> Json:
    """Return how the meter itself is."""
    return group(
        "The meter",
        graph(
            "Watts that nobody can be named for",
            "a",
            {"a": gained("energy_joules.count", f"{OF_ONE},phase:unattributed")},
        ),
        graph("Readings lost a second", "a", {"a": gained("samples_lost.count", "$host", "device")}),
        graph("Records dropped a second", "a", {"a": gained("records_dropped.count", "$host", "reason")}),
        graph(
            "Exports that failed",
            "a",
            {"a": gained("export_failures.count", "$host", "exporter,reason", how="as_count")},
        ),
        figure(
            "Joules of the meter itself",
            "a",
            {"a": gained("agent_energy_joules.count", "$host,$provenance", how="as_count")},
        ),
    )


def dashboard() -> Json:
    """Return the dashboard: what is used, by which model, by whom, and how the meter is."""
    return {
        "title": "inferwatt: energy of inference",
        "description": "Joules per request, token, model and tenant, with where they come from.",
        "layout_type": "ordered",
        "template_variables": [
            {"name": name, "prefix": name, "available_values": [], "default": default}
            for name, default in (("host", "*"), ("model_name", "*"), ("server", "*"), ("provenance", "measured"))
        ],
        "widgets": [
            note(
                "**provenance** says where a joule comes from (measured, sampled, reported, modelled, ...). Joules of "
                "different provenance are not added: choose one above. Empty? Choose `modelled`: this machine may have "
                "no energy counter."
            ),
            _power(),
            _models(),
            _tenants(),
            _hardware(),
            _meter(),
        ],
    }


def text_of_json(what: Json | list[Json]) -> str:
    """Return JSON as it is kept and pasted."""
    return json.dumps(what, indent=2) + "\n"
