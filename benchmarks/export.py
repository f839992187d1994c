"""Time one scrape of 200 models with 50 tenants each, beside prometheus_client with the same content; then exporters.

Ends with one JSON line. A scrape holds the interpreter, so that this is also how long it can delay the sampler.
"""

import json
import os
import platform
import statistics
import time
from collections.abc import Callable, Mapping
from importlib.metadata import version
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client import exposition as classic
from prometheus_client.openmetrics import exposition as openmetrics

from benchmarks.export_parts.exporters import measure
from inferwatt.export.catalog import CATALOG
from inferwatt.export.prometheus import render
from inferwatt.snapshot import Exemplar, HistogramValue, Labels, LiveView, Snapshot

MODELS = 200
TENANTS = 50
ROUNDS = 30
TENANT_ENERGY = "inferwatt_tenant_energy_joules_total"
HISTOGRAMS = ("inferwatt_request_energy_joules", "inferwatt_request_energy_per_output_token_joules")
TRACE = "0af7651916cd43dd8448eb211c80319c"
OF_TENANTS = [
    (f"tenant-{tenant}", f"model-{model}", "measured") for model in range(MODELS) for tenant in range(TENANTS)
]
OF_MODELS = [(f"model-{model}", "server", "measured") for model in range(MODELS)]
"""Labels are the same objects in each snapshot, as in the books."""
EXEMPLARS: dict[tuple[str, int], dict[int, Exemplar]] = {}
LIVE = LiveView(0.0, 0.0, "", "", (), (), (), (), (), ())


def our_snapshot(scrape: int, exemplars_new: int) -> Snapshot:
    """Return the content as the books publish it: the same series each time, other numbers, some new exemplars."""
    tenants: dict[Labels, float] = {
        labels: 1_234_567_890 + 977 * scrape + place for place, labels in enumerate(OF_TENANTS)
    }
    histograms: dict[str, dict[Labels, HistogramValue]] = {}
    for name in HISTOGRAMS:
        places = len(CATALOG[name].buckets) + 1
        histograms[name] = {
            labels: HistogramValue(
                (scrape,) * places, 123.5 + scrape, exemplars_of(name, model, places, scrape, exemplars_new)
            )
            for model, labels in enumerate(OF_MODELS)
        }
    return Snapshot({TENANT_ENERGY: tenants}, histograms, LIVE)


def exemplars_of(name: str, model: int, places: int, scrape: int, new: int) -> Mapping[int, Exemplar]:
    """Return the kept exemplars of one histogram, `new` of them replaced in each scrape."""
    kept = EXEMPLARS.setdefault((name, model), {})
    for place in range(places):
        if place not in kept or (place - scrape) % places < new:
            kept[place] = Exemplar(1.5 + scrape, 1_800_000_000.5, f"chatcmpl-{model}-{place}", TRACE)
    return dict(kept)


def their_registry() -> CollectorRegistry:
    """Return the same content in prometheus_client."""
    registry = CollectorRegistry()
    metric = CATALOG[TENANT_ENERGY]
    counter = Counter(metric.name, metric.help, metric.labels, registry=registry)
    for model in range(MODELS):
        for tenant in range(TENANTS):
            counter.labels(f"tenant-{tenant}", f"model-{model}", "measured").inc(1_234.5 + model)
    for name in HISTOGRAMS:
        metric = CATALOG[name]
        histogram = Histogram(name, metric.help, metric.labels, buckets=metric.buckets, registry=registry)
        for model in range(MODELS):
            child = histogram.labels(f"model-{model}", "server", "measured")
            for bound in metric.buckets:
                child.observe(bound, {"request_id": "chatcmpl-1", "trace_id": TRACE})
    return registry


def milliseconds(call: Callable[[int], bytes]) -> tuple[float, int]:
    """Return the median CPU time of `call` over the rounds, after three to warm up, and the lines of its page."""
    times = []
    page = b""
    for scrape in range(ROUNDS + 3):
        start = time.thread_time()
        page = call(scrape)
        times.append((time.thread_time() - start) * 1000)
    return statistics.median(times[3:]), page.count(b"\n")


def main() -> None:
    """Print the JSON line."""
    from prometheus_client import disable_created_metrics

    disable_created: Any = disable_created_metrics
    disable_created()
    snapshots = [our_snapshot(scrape, exemplars_new=1) for scrape in range(ROUNDS + 3)]
    all_new = [our_snapshot(scrape, exemplars_new=99) for scrape in range(ROUNDS + 3)]
    registry = their_registry()
    theirs: Any = openmetrics
    ours_classic, lines = milliseconds(lambda scrape: render(snapshots[scrape], openmetrics=False))
    ours_open, lines_open = milliseconds(lambda scrape: render(snapshots[scrape], openmetrics=True))
    ours_new, _ = milliseconds(lambda scrape: render(all_new[scrape], openmetrics=True))
    theirs_classic, their_lines = milliseconds(lambda _: classic.generate_latest(registry))
    theirs_open, _ = milliseconds(lambda _: bytes(theirs.generate_latest(registry)))
    figures = {
        "scrape_ms_200_models_50_tenants": round(max(ours_classic, ours_open), 2),
        "text_ms": round(ours_classic, 2),
        "openmetrics_ms": round(ours_open, 2),
        "openmetrics_all_exemplars_new_ms": round(ours_new, 2),
        "lines": lines_open,
        "prometheus_client_text_ms": round(theirs_classic, 2),
        "prometheus_client_openmetrics_ms": round(theirs_open, 2),
    }
    exporters = measure(lambda turn: our_snapshot(turn, exemplars_new=1))
    machine = {"cpus": os.cpu_count(), "arch": platform.machine(), "python": platform.python_version()}
    notes = (
        f"median CPU time of {ROUNDS} warm scrapes, the slower form first; {lines} lines against {their_lines} of "
        f"prometheus_client {version('prometheus_client')} without its _created lines; "
        f"an exemplar on each bucket, one of each histogram new in each scrape; exporters: the same figures, the "
        f"joules of every tenant moved, CPU time of the exporter's own thread; memory held after 10 minutes of a "
        f"closed port or a missing folder at 100 requests a second, on a clock that is put forward"
    )
    every = {**figures, "exporters": exporters}
    print(json.dumps({"bench": "export", "machine": machine, "figures": every, "notes": notes}))


if __name__ == "__main__":
    main()
