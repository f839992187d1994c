"""What OpenTelemetry is told of each family, and by which names. Pure.

Devices go by the conventions for hardware (semantic-conventions 1.44.0, docs/hardware: `hw.energy`, `hw.power`,
`hw.host.energy`). Everything else is ours: there is no energy in the conventions for generative AI, and nothing of ours
is put into `gen_ai.*` but its attributes, as of 1.41.0, the last that the common repository has them in.

A name has dots and no unit. The unit is one that Prometheus' own translation of OTLP makes into the suffix that our
page has: `inferwatt.request.energy` in J arrives there as `inferwatt_request_energy_joules`, the name that a scrape
gives it. What that translation knows no unit for keeps it in the name.
"""

from collections.abc import Mapping
from typing import Final, NamedTuple

from inferwatt.export.catalog import CATALOG, Kind, Metric
from inferwatt.export.metric import MICRO, counter
from inferwatt.export.places import LABELS as PLACE

DEVICE_ENERGY: Final = "inferwatt_device_energy_joules_total"
HOST: Final = "hw.host.energy"
Attributes = dict[str, str]

_UNITS: Final = {
    "joules": "J",
    "watts": "W",
    "seconds": "s",
    "grams": "g",
    "bytes": "By",
    "hertz": "Hz",
    "celsius": "Cel",
    "ratio": "1",
}
_KEPT: Final = {"tokens": "{token}", "square_joules": "{square_joule}", "grams_per_joule": "{gram_per_joule}"}
"""Units that stay in the name: in braces they are a remark, which the translation leaves out."""
_SPACES: Final = frozenset({"device", "request", "tenant", "estimated", "ledger", "export", "agent", "live", "server"})
"""First words of names that others share: a dot follows them."""
_HARDWARE: Final = {DEVICE_ENERGY: "hw.energy", "inferwatt_device_power_watts": "hw.power", HOST: HOST}
_ATTRIBUTES: Final = {
    "model_name": "gen_ai.request.model",
    "provider": "gen_ai.provider.name",
    "device": "hw.id",
    "vendor": "hw.vendor",
    "model": "hw.model",
    "driver": "hw.driver_version",
    "namespace": "k8s.namespace.name",
    "pod": "k8s.pod.name",
    "container": "k8s.container.name",
}
_TYPES: Final = {"gpu": "gpu", "module": "gpu", "package": "cpu", "socket": "cpu", "rail": "cpu", "dram": "memory"}
"""`hw.type` by domain; of others the domain itself, which the conventions allow."""
_COMPONENT_TYPES: Final = {"accelerator": "gpu", "cpu": "cpu", "dram": "memory"}
_TOKEN_TYPES: Final = {
    "inferwatt_prompt_tokens_total": "input",
    "inferwatt_output_tokens_total": "output",
    "prompt": "input",
    "cached": "input",
    "output": "output",
}
"""`gen_ai.token.type` by family, or by what an estimated token was."""


class Told(NamedTuple):
    """What a family is called, its unit, its attributes in the order of its labels, and those that are always there."""

    name: str
    unit: str
    attributes: tuple[str, ...]
    always: Attributes


def told(metric: Metric) -> Told:
    """Return what a family is called."""
    attributes = tuple(_ATTRIBUTES.get(label, f"inferwatt.{label}") for label in metric.labels)
    token_type = _TOKEN_TYPES.get(metric.name)
    always = {"gen_ai.token.type": token_type} if token_type else {}
    return Told(_name(metric), _unit(metric), attributes, always)


def _name(metric: Metric) -> str:
    if metric.name in _HARDWARE:
        return _HARDWARE[metric.name]
    plain = metric.name.removeprefix("inferwatt_").removesuffix("_total" if metric.kind is Kind.COUNTER else "")
    if metric.unit in _UNITS:
        plain = plain.removesuffix(f"_{metric.unit}")
    first, _, rest = plain.partition("_")
    return f"inferwatt.{first}.{rest}" if rest and first in _SPACES else f"inferwatt.{plain}"


def _unit(metric: Metric) -> str:
    return _UNITS.get(metric.unit) or _KEPT.get(metric.unit) or ""


FAMILIES: Final = {
    **{name: metric for name, metric in CATALOG.items() if name.startswith("inferwatt_")},
    HOST: counter(
        HOST,
        "Energy that the whole server used, by its own meter: the sum of its devices and of what it draws beyond them.",
        ("device", "provenance"),
        "joules",
        MICRO,
    ),
}
"""What is told: `process_*` is told by others' agents, and of a whole server the page has only the parts."""
TOLD: Final = {name: told(metric) for name, metric in FAMILIES.items()}
"""How, by family."""


def attributes_of(
    family: Told,
    labels: tuple[str, ...],
    providers: Mapping[str, str],
    types: Mapping[str, str],
    place: tuple[str, ...] = (),
) -> Attributes:
    """Return the attributes of one series; a label that is empty is left out.

    Args:
        family: what the series is of.
        labels: its labels.
        providers: by server, what kind it is: where no managed API served a model, that is who did.
        types: by device, what kind of thing it is.
        place: namespace, pod and container of its server, where that has some.
    """
    found: Attributes = {name: value for name, value in zip(family.attributes, labels, strict=True) if value}
    found |= family.always
    if place:
        found |= {_ATTRIBUTES[name]: value for name, value in zip(PLACE, place, strict=True) if value}
    if (server := found.get("inferwatt.server", "")) in providers:
        found["gen_ai.provider.name"] = providers[server]
    if family.name in {"hw.energy", "hw.power"}:
        found["hw.type"] = types.get(found.get("hw.id", "")) or hardware_type(found.get("inferwatt.domain", ""))
    if "inferwatt.kind" in found and (token_type := _TOKEN_TYPES.get(found["inferwatt.kind"])):
        found["gen_ai.token.type"] = token_type
    return found


def hardware_type(domain: str, component: str = "") -> str:
    """Return the `hw.type` of a device."""
    return _COMPONENT_TYPES.get(component) or _TYPES.get(domain, domain)
