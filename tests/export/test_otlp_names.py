"""What each family is called in OpenTelemetry."""

import re

import pytest

from inferwatt.export.catalog import CATALOG, Kind
from inferwatt.export.otlp_names import FAMILIES, HOST, TOLD, attributes_of, hardware_type
from inferwatt.export.otlp_owed import totals
from inferwatt.records import Provenance
from inferwatt.snapshot import Labels, Snapshot

from .figures import LIVE

SUFFIXES = {"J": "joules", "W": "watts", "s": "seconds", "g": "grams", "By": "bytes", "Hz": "hertz", "Cel": "celsius"}
"""Prometheus' own, of those that we use (github.com/prometheus/otlptranslator, unit_namer.go)."""
OURS = [name for name in FAMILIES if TOLD[name].name.startswith("inferwatt.")]


def translated(name: str, unit: str, kind: Kind) -> str:
    """Return what Prometheus' translation of OTLP calls a metric: its unit and `_total` are added where not there."""
    words = re.sub(r"[^a-zA-Z0-9]", "_", name)
    suffix = "ratio" if unit == "1" and kind is Kind.GAUGE else SUFFIXES.get(unit, "")
    if suffix and suffix not in words.split("_"):
        words += f"_{suffix}"
    return f"{words}_total" if kind is Kind.COUNTER else words


@pytest.mark.parametrize("family", OURS)
def test_prometheus_calls_it_as_our_page_does(family: str) -> None:
    """By OTLP or by a scrape: one name."""
    told, metric = TOLD[family], FAMILIES[family]

    assert translated(told.name, told.unit, metric.kind) == family


def test_no_two_families_have_one_name() -> None:
    """And every family of the page has one, but for those of the process."""
    names = [told.name for told in TOLD.values()]

    assert len(set(names)) == len(names)
    assert set(CATALOG) - set(FAMILIES) == {name for name in CATALOG if name.startswith("process_")}


@pytest.mark.parametrize("family", FAMILIES)
def test_no_two_labels_have_one_attribute(family: str) -> None:
    """Nothing of a series is lost by another spelling."""
    assert len(set(TOLD[family].attributes)) == len(FAMILIES[family].labels)


def test_hardware_is_told_by_its_conventions() -> None:
    """hw.id and hw.type are required; a type that they do not name is our word for it."""
    told = TOLD["inferwatt_device_energy_joules_total"]
    found = attributes_of(told, ("gpu-0", "gpu", "measured"), {}, {})

    assert (told.name, told.unit) == ("hw.energy", "J")
    assert found == {
        "hw.id": "gpu-0",
        "hw.type": "gpu",
        "inferwatt.domain": "gpu",
        "inferwatt.provenance": "measured",
    }
    assert attributes_of(told, ("x", "rail", "sampled"), {}, {"x": "memory"})["hw.type"] == "memory"
    assert [hardware_type("gpu", "accelerator"), hardware_type("package"), hardware_type("dram", "dram")] == [
        "gpu",
        "cpu",
        "memory",
    ]
    assert hardware_type("overhead", "overhead") == "overhead"


def test_a_model_is_told_by_the_conventions_for_generative_ai() -> None:
    """Model, provider and the kind of token are theirs; an empty label is no attribute."""
    tokens = TOLD["inferwatt_prompt_tokens_total"]
    estimated = TOLD["inferwatt_estimated_tokens_total"]

    assert attributes_of(tokens, ("m", "vllm:8000", "read"), {"vllm:8000": "vllm"}, {}) == {
        "gen_ai.request.model": "m",
        "gen_ai.provider.name": "vllm",
        "gen_ai.token.type": "input",
        "inferwatt.server": "vllm:8000",
        "inferwatt.cache": "read",
    }
    assert attributes_of(estimated, ("m", "openai", "output"), {}, {})["gen_ai.token.type"] == "output"
    assert attributes_of(TOLD["inferwatt_energy_joules_total"], ("", "", "other", "cpu", "modelled"), {}, {}) == {
        "inferwatt.phase": "other",
        "inferwatt.component": "cpu",
        "inferwatt.provenance": "modelled",
    }


def test_a_whole_server_is_the_sum_of_its_disjoint_parts() -> None:
    """Only where its own meter was read: then what it draws beyond its devices is one of them."""
    devices: dict[Labels, float] = {
        ("gpu-0", "gpu", "measured"): 7_000_000,
        ("cpu-0", "package", "measured"): 2_000_000,
    }
    whole = {**devices, ("overhead", "overhead", "reported"): 1_000_000}
    energy = "inferwatt_device_energy_joules_total"

    assert HOST not in dict(totals(Snapshot({energy: devices}, {}, LIVE), "node-1"))
    assert dict(totals(Snapshot({energy: whole}, {}, LIVE), "node-1"))[HOST] == {
        ("node-1", Provenance.REPORTED.value): 10_000_000
    }
