"""What an agent's pages say, for tests that look at them as a stranger would: plain HTTP, Prometheus' own parser."""

import json
import math
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

PATIENCE_SECONDS = 60.0
POLL_SECONDS = 0.1
OWN_PROCESS = "process_"
"""Families of the agent's process: they begin anew with each process."""

Samples = Mapping[tuple[str, frozenset[tuple[str, str]]], float]


def get(url: str, accept: str = "*/*") -> str:
    """Return what a page says, whatever its status."""
    try:
        with urllib.request.urlopen(urllib.request.Request(url, headers={"Accept": accept}), timeout=10) as answer:
            return str(answer.read().decode())
    except urllib.error.HTTPError as answer:
        with answer:
            return answer.read().decode()


def get_json(url: str) -> Any:
    """Return a JSON page, decoded."""
    return json.loads(get(url))


def samples(url: str) -> Samples:
    """Return every sample of a metrics page by its name and labels."""
    families = text_string_to_metric_families(get(f"{url}/metrics", "text/plain;version=0.0.4"))
    return {(s.name, frozenset(s.labels.items())): s.value for family in families for s in family.samples}


def total(page: Samples, name: str, **labels: str) -> float:
    """Return the sum of a family's samples that have these labels; 0 where there is none."""
    return math.fsum(value for (known, has), value in page.items() if known == name and labels.items() <= has)


def fallen(before: Samples, after: Samples) -> dict[str, tuple[float, float | None]]:
    """Return each counter, bucket and sum that is less on the later page, or gone from it."""
    counters = ("_total", "_bucket", "_count", "_sum")
    return {
        f"{name}{dict(labels)}": (value, after.get((name, labels)))
        for (name, labels), value in before.items()
        if name.endswith(counters) and not name.startswith(OWN_PROCESS)
        if after.get((name, labels), -1.0) < value
    }


def wait_for(what: str, seen: Callable[[], Any], patience_seconds: float = PATIENCE_SECONDS) -> Any:
    """Ask again and again until there is something, and return it; fail with `what` after `patience_seconds`."""
    deadline = time.monotonic() + patience_seconds
    while time.monotonic() < deadline:
        try:
            found = seen()
        except (OSError, ValueError):
            found = None
        if found:
            return found
        time.sleep(POLL_SECONDS)
    pytest.fail(f"not within {patience_seconds:.0f} s: {what}")
