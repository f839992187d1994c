"""A real Prometheus beside a test: it scrapes what it is told each second, and answers queries."""

import contextlib
import json
import os
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

PATIENCE_SECONDS = 60.0
"""A first scrape comes up to 5 s after the start; the rest is for a busy machine."""
POLL_SECONDS = 0.1

Labels = dict[str, str]


def program(name: str) -> str:
    """Return the path of a program; without it the test is skipped, and in CI it fails."""
    path = shutil.which(name)
    if path is not None:
        return path
    if os.environ.get("CI"):
        pytest.fail(f"{name} is not on PATH: CI installs it")
    pytest.skip(f"{name} is not on PATH")


@dataclass(frozen=True, slots=True)
class Sample:
    """One series at one moment."""

    labels: Labels
    value: float


@dataclass(frozen=True, slots=True)
class StoredExemplar:
    """One exemplar as Prometheus keeps it: the series that it hangs on, its own labels, its value."""

    series: Labels
    labels: Labels
    value: float
    unix_seconds: float


class Prometheus:
    """The query side of one running Prometheus."""

    def __init__(self, url: str) -> None:
        self.url = url

    def get(self, path: str, **parameters: str) -> Any:
        """Return the `data` of an answer of the HTTP API."""
        query = urllib.parse.urlencode(parameters)
        with urllib.request.urlopen(f"{self.url}/api/v1/{path}?{query}", timeout=5) as answer:
            return json.load(answer)["data"]

    def query(self, expression: str) -> list[Sample]:
        """Return what an expression is now."""
        result = self.get("query", query=expression)["result"]
        return [Sample(entry["metric"], float(entry["value"][1])) for entry in result]

    def value(self, expression: str) -> float:
        """Return the one value of an expression that has exactly one."""
        (sample,) = self.query(expression)
        return sample.value

    def points(self, expression: str) -> list[tuple[Labels, list[tuple[float, float]]]]:
        """Return the stored points of a range, (Unix seconds, value) each, series by series."""
        found = self.get("query", query=expression)["result"]
        return [(series["metric"], [(at, float(value)) for at, value in series["values"]]) for series in found]

    def wait(self, expression: str) -> list[Sample]:
        """Wait until an expression has a result, and return it.

        Raises:
            AssertionError: it had none for `PATIENCE_SECONDS`; the words say what the scrapes said.
        """
        deadline = time.monotonic() + PATIENCE_SECONDS
        while time.monotonic() < deadline:
            if samples := self.query(expression):
                return samples
            time.sleep(POLL_SECONDS)
        raise AssertionError(
            f"no result of {expression} in {PATIENCE_SECONDS} s; scrape errors: {self.scrape_errors()}"
        )

    def exemplars(self, expression: str) -> list[StoredExemplar]:
        """Return the exemplars of the last hour that are kept for the series of an expression."""
        now = time.time()
        found = self.get("query_exemplars", query=expression, start=str(now - 3600), end=str(now + 60))
        return [
            StoredExemplar(series["seriesLabels"], entry["labels"], float(entry["value"]), float(entry["timestamp"]))
            for series in found
            for entry in series["exemplars"]
        ]

    def scrape_errors(self) -> Mapping[str, str]:
        """Return, by job, what the last scrape that failed said."""
        targets = self.get("targets", state="active")["activeTargets"]
        return {target["labels"]["job"]: target["lastError"] for target in targets if target["lastError"]}


Scrape = Callable[[Mapping[str, str]], Prometheus]
"""Job name -> URL of a metrics page, to a Prometheus that scrapes them: the fixture `prometheus`."""


def configuration(
    targets: Mapping[str, str],
    rule_files: Sequence[str] = (),
    alertmanagers: Sequence[str] = (),
    labels: Mapping[str, str] | None = None,
) -> str:
    """Return a scrape configuration (YAML is a superset of JSON) of job name -> URL; alerts go to HOST:PORT each.

    Targets have `labels`, which the page's own win over.
    """
    jobs = []
    for job, target in targets.items():
        url = urllib.parse.urlsplit(target)
        found = {"targets": [url.netloc], "labels": labels or {}}
        jobs.append(
            {"job_name": job, "metrics_path": url.path, "honor_labels": bool(labels), "static_configs": [found]}
        )
    every_second = {"scrape_interval": "1s", "scrape_timeout": "1s"}
    told = {"alertmanagers": [{"static_configs": [{"targets": list(alertmanagers)}]}]}
    rules = {"rule_files": list(rule_files), "alerting": told}
    return json.dumps({"global": every_second, **rules, "scrape_configs": jobs})


def free_port() -> int:
    """Return a TCP port of the loopback that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextlib.contextmanager
def scraping(
    folder: Path,
    targets: Mapping[str, str],
    rule_files: Sequence[str] = (),
    alertmanagers: Sequence[str] = (),
    labels: Mapping[str, str] | None = None,
) -> Iterator[Prometheus]:
    """Run Prometheus in `folder` over `targets` (job name -> URL of a metrics page), with rules; stop it at the end."""
    (folder / "prometheus.yml").write_text(configuration(targets, rule_files, alertmanagers, labels))
    address = f"127.0.0.1:{free_port()}"
    command = [
        program("prometheus"),
        f"--config.file={folder / 'prometheus.yml'}",
        f"--storage.tsdb.path={folder / 'data'}",
        f"--web.listen-address={address}",
        "--enable-feature=exemplar-storage",
        "--rules.alert.resend-delay=1s",
        "--log.level=warn",
    ]
    with (folder / "prometheus.log").open("w") as log:
        process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL)
    try:
        _wait_until_ready(process, address, folder / "prometheus.log")
        yield Prometheus(f"http://{address}")
    finally:
        _stop(process)


@pytest.fixture(scope="module")
def prometheus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scrape]:
    """Start a real Prometheus over a job name -> URL mapping; it is stopped with the module."""
    program("prometheus")
    with contextlib.ExitStack() as running:

        def scrape(targets: Mapping[str, str]) -> Prometheus:
            return running.enter_context(scraping(tmp_path_factory.mktemp("prometheus"), targets))

        yield scrape


def _wait_until_ready(process: "subprocess.Popen[bytes]", address: str, log: Path) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < deadline:
        if process.poll() is not None:
            break
        with contextlib.suppress(OSError), urllib.request.urlopen(f"http://{address}/-/ready", timeout=1):
            return
        time.sleep(POLL_SECONDS)
    raise AssertionError(f"Prometheus did not start (exit code {process.poll()}):\n{log.read_text()}")


def _stop(process: "subprocess.Popen[bytes]") -> None:
    process.terminate()
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
