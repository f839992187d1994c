"""Writes docs/metrics.md from the catalogue: `python docs/make_metrics.py`; a test asks that it is up to date."""

from collections.abc import Callable, Iterator
from pathlib import Path

from inferwatt.export.catalog import CATALOG, PHASES, Kind, Metric
from inferwatt.export.otlp_names import TOLD

PAGE = Path(__file__).with_name("metrics.md")
SOURCE = Path(__file__).resolve().parent.parent / "src" / "inferwatt"

HEAD = """# Metrics

*Written by `docs/make_metrics.py` from `src/inferwatt/export/catalog.py`: change it there.*

The agent serves these at `/metrics`: text 0.0.4, or OpenMetrics with exemplars where the `Accept` header asks for it.
Families by tenant, and exemplars, are shown only to who may see them ([agent.md](agent.md#who-may-see-what)).

- Counters only grow, go on after a restart of the agent, and count what is final and committed to the ledger. Use
  `rate()` or `increase()`.
- Energies are whole microjoules, printed as joules to the last one.
- Each energy carries `provenance`: measured, sampled, reported, modelled, estimated or simulated. Sum within one
  provenance, or say that you did not.
- Label values are disjoint, so a sum over all of them means something: the sum of `inferwatt_energy_joules_total` over
  all labels is what the devices used. Its phases: {phases}.
- Uncertainty has two parts. Between requests, add the square of the split (`..._split_variance_square_joules_total`)
  and take the root; add the systematic part of a device (`..._systematic_uncertainty_ratio`) linearly.
- `server` is the configured name, else kind and port. A model that is not known is the empty label.
- Where a server of the machine is in a container, every family with `server` also has `namespace`, `pod` and
  `container` ([kubernetes.md](kubernetes.md#namespace-pod-and-container)).
- A series is absent where nothing is known, and never zero in its place.
- The last column is what OpenTelemetry is told, where that is configured ([otlp.md](otlp.md)).
"""

QUERIES = """## Queries to begin with

```promql
# watts of each model's work, measured apart from modelled
sum by (model_name, provenance) (rate(inferwatt_energy_joules_total{phase=~"prefill|decode|unlisted"}[5m]))

# joules per output token
sum by (model_name) (rate(inferwatt_energy_joules_total{phase=~"prefill|decode|unlisted"}[5m]))
  / sum by (model_name) (rate(inferwatt_output_tokens_total[5m]))

# which part of the joules no model explains
sum(rate(inferwatt_energy_joules_total{phase=~"idle_empty|other|unattributed"}[5m]))
  / sum(rate(inferwatt_device_energy_joules_total[5m]))
```
"""


def is_device(metric: Metric) -> bool:
    """Tell what a device is or does."""
    return metric.name.startswith("inferwatt_device_")


def is_work(metric: Metric) -> bool:
    """Tell what belongs to models, servers, requests and tenants."""
    return "model_name" in metric.labels or metric.name in {
        "inferwatt_server_info",
        *(f"inferwatt_{kind}_{what}" for kind in ("tenants", "models") for what in ("folded_total", "limit")),
    }


SECTIONS: tuple[tuple[str, Callable[[Metric], bool]], ...] = (
    ("Devices", is_device),
    ("Models, requests and tenants", is_work),
    ("The meter itself", lambda metric: metric.name.startswith("inferwatt_")),
    ("Its process", lambda _metric: True),
)


def page() -> str:
    """Return the page."""
    left = list(CATALOG.values())
    parts = [HEAD.format(phases=", ".join(f"`{phase}`" for phase in PHASES))]
    for title, belongs in SECTIONS:
        parts.append(f"## {title}\n\n" + "\n".join(table([metric for metric in left if belongs(metric)])) + "\n")
        left = [metric for metric in left if not belongs(metric)]
    parts += ["## Buckets of the histograms\n\n" + "\n".join(buckets()) + "\n", QUERIES]
    return "\n".join(parts)


def table(metrics: list[Metric]) -> Iterator[str]:
    """Yield a table's lines."""
    yield "| metric | kind | labels | what | by OTLP |"
    yield "|---|---|---|---|---|"
    filled = text_of_the_rooms()
    for metric in metrics:
        labels = ", ".join(f"`{label}`" for label in metric.labels)
        note = "" if f'"{metric.name}"' in filled else " **Reserved: nothing fills it yet.**"
        yield f"| `{metric.name}` | {metric.kind} | {labels} | {metric.help}{note} | {by_otlp(metric)} |"


def by_otlp(metric: Metric) -> str:
    """Return what OpenTelemetry is told of it: name and unit."""
    told = TOLD.get(metric.name)
    return "" if told is None else f"`{told.name}`" + (f" {told.unit}" if told.unit else "")


def text_of_the_rooms() -> str:
    """Return all code but the catalogue: a family that is named nowhere else has no value yet."""
    files = sorted(path for path in SOURCE.rglob("*.py") if path.name != "catalog.py")
    return "\n".join(path.read_text(encoding="utf-8") for path in files)


def buckets() -> Iterator[str]:
    """Yield a line for each histogram."""
    for metric in CATALOG.values():
        if metric.kind is Kind.HISTOGRAM:
            first, last = metric.buckets[0], metric.buckets[-1]
            yield f"- `{metric.name}`: {len(metric.buckets)} bounds from {first:g} to {last:g}, each twice the last"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
