"""A small snapshot that gains, for the tests of exporters."""

from inferwatt.export.catalog import CATALOG, Metric
from inferwatt.ledger.rows import RequestRow
from inferwatt.records import Component, EnergyPart, Outcome, Provenance, Request, RequestEnergy, Tier
from inferwatt.snapshot import Exemplar, HistogramValue, Labels, LiveView, Snapshot

LIVE = LiveView(0.0, 0.0, "0", "h", (), (), (), (), (), ())
ENERGY = ("m/8B", "vllm:8000", "decode", "accelerator", "measured")
TENANT = ("acme", "m/8B", "measured")
REQUEST_JOULES = "inferwatt_request_energy_joules"


def snapshot(uj: int = 0, requests: int = 1, watts: float = 99.5) -> Snapshot:
    """Return a page's figures after `uj` microjoules and so many requests of 3 J."""
    places = len(CATALOG[REQUEST_JOULES].buckets) + 1
    counts = tuple(requests if place == 5 else 0 for place in range(places))
    exemplars = {5: Exemplar(3.0, 1.8e9, "r1")}
    return Snapshot(
        {
            "inferwatt_energy_joules_total": {ENERGY: uj, ("", "", "other", "cpu", "modelled"): 5 * uj},
            "inferwatt_tenant_energy_joules_total": {TENANT: uj},
            "inferwatt_requests_total": {(*ENERGY[:2], "finished"): requests},
            "inferwatt_device_power_watts": {("gpu-0", "gpu", "measured"): watts},
            "inferwatt_build_info": {("0.1.0", "3.11.7"): 1},
        },
        {REQUEST_JOULES: {(*ENERGY[:2], "measured"): HistogramValue(counts, 3.0 * requests, exemplars)}},
        LIVE,
    )


def row(name: str, uj: int = 3_000_000, model: str = "m/8B") -> RequestRow:
    """Return an ended request of `uj` microjoules and ten output tokens."""
    part = EnergyPart(Component.ACCELERATOR, Provenance.MEASURED, 0, uj, uj, uj, 0.05)
    request = Request(name, model=model, output_tokens=10, outcome=Outcome.FINISHED)
    return RequestRow(request, RequestEnergy(name, (part,), Tier.STEP_EXACT, final=True), "vllm:8000", 10**18)


def expected_labels(shown: Snapshot, metric: Metric, labels: Labels) -> frozenset[tuple[str, str]]:
    """What a line's labels must be: its own, and where its server runs if one of them is in a container."""
    own = dict(zip(metric.labels, labels, strict=True))
    names = CATALOG["inferwatt_server_info"].labels
    known = [dict(zip(names, row, strict=True)) for row in shown.values.get("inferwatt_server_info", {})]
    placed = {each["server"]: each for each in known if each["namespace"] or each["pod"] or each["container"]}
    if placed and "server" in own and "pod" not in own:
        where = placed.get(own["server"], {})
        own |= {name: where.get(name, "") for name in ("namespace", "pod", "container")}
    return frozenset(own.items())
