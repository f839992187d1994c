"""Measure what a row costs the ledger, end to end: from the meter's records to a synced, hashed and rolled-up commit.

Ends with one JSON line. CPU time of the whole process, not wall time: a commit waits for the disk.
"""

import json
import os
import platform
import sqlite3
import tempfile
import time
import uuid
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from random import Random
from statistics import median
from typing import Any

from inferwatt.clock import SystemClock
from inferwatt.ledger.driver import ApswDriver, Connect, StandardDriver
from inferwatt.ledger.rows import LedgerBatch, RequestRow
from inferwatt.ledger.sqlite import Ledger, LedgerConfig
from inferwatt.records import Component, EnergyPart, Outcome, Provenance, Request, RequestEnergy, Tier

BATCH_ROWS = 1000
BATCHES = 300
GROUP_BATCHES = 20
TENANTS = 50
MODELS = 4
PRODUCERS = tuple(str(uuid.UUID(int=number)) for number in range(3))

Record = tuple[Request, RequestEnergy]


def records(chance: Random, first: int) -> list[Record]:
    """Return a batch of ended requests as the meter hands them over: random ids, as servers make them."""
    return [record(chance, number) for number in range(first, first + BATCH_ROWS)]


def record(chance: Random, number: int) -> Record:
    """Return one request of a measured accelerator."""
    name = f"chatcmpl-{chance.getrandbits(128):032x}"
    at_ns = number * 1_000_000
    request = Request(
        name, "e0", f"model-{number % MODELS}", f"tenant-{chance.randrange(TENANTS)}", at_ns, at_ns + 10**8,
        at_ns + 10**9, chance.randrange(4000), 128, chance.randrange(800), Outcome.FINISHED, (), 0, 0, 0,
        {"team": "search", "environment": "production"}, name, f"{chance.getrandbits(128):032x}",
        PRODUCERS[number % len(PRODUCERS)],
    )  # fmt: skip
    prefill_uj, decode_uj = chance.randrange(10**8), chance.randrange(10**9)
    total_uj = prefill_uj + decode_uj
    part = EnergyPart(
        Component.ACCELERATOR, Provenance.MEASURED, prefill_uj, decode_uj, total_uj * 9 // 10, total_uj * 11 // 10, 0.05
    )
    return request, RequestEnergy(name, (part,), Tier.STEP_EXACT, final=True)


def measure(folder: Path, connect: Connect) -> dict[str, float]:
    """Fill a ledger of 300,000 rows, and return what a row took."""
    clock = SystemClock()
    path = folder / connect.__name__
    ledger = Ledger.open(
        path, agent_version="bench", config_hash="", boot_id="bench", clock=clock, config=LedgerConfig(),
        connect=connect,
    )  # fmt: skip
    chance = Random(1)
    cpu_ns, wall_ns = [], []
    for number in range(BATCHES):
        batch = records(chance, number * BATCH_ROWS)
        wall0_ns, cpu0_ns = time.perf_counter_ns(), time.process_time_ns()
        unix_ns = clock.unix_ns()
        rows = [RequestRow(request, energy, "vllm:8000", unix_ns, unix_ns - 10**9) for request, energy in batch]
        done = ledger.commit(LedgerBatch(rows=rows, counters={"rows": {(): number}}))
        cpu_ns.append(time.process_time_ns() - cpu0_ns)
        wall_ns.append(time.perf_counter_ns() - wall0_ns)
        if done.rows != BATCH_ROWS:
            raise SystemExit(f"the ledger took {done.rows} rows of {BATCH_ROWS}")
    known_us = cost_of_known(ledger, batch)
    started_ns = time.process_time_ns()
    if not ledger.verify(ledger.head).ok:
        raise SystemExit("the chain does not hold")
    verify_ns = time.process_time_ns() - started_ns
    ledger.close()
    total = BATCHES * BATCH_ROWS
    return {
        "rows_per_core_second": round(rate(cpu_ns)),
        "rows_per_core_second_best": round(rate(cpu_ns, best=True)),
        "rows_per_second": round(rate(wall_ns)),
        "known_cpu_us": round(known_us, 2),
        "verified_rows_per_core_second": round(total / verify_ns * 1e9),
        "bytes_per_row": round(path.stat().st_size / total),
    }


def rate(batch_ns: list[int], *, best: bool = False) -> float:
    """Return rows per second: the median (or best) of groups of batches, each long enough to hold an index merge."""
    groups = [sum(batch_ns[at : at + GROUP_BATCHES]) for at in range(0, len(batch_ns), GROUP_BATCHES)]
    return GROUP_BATCHES * BATCH_ROWS * 1e9 / (min(groups) if best else median(groups))


def cost_of_known(ledger: Ledger, batch: list[Record]) -> float:
    """Return the CPU time, µs, of asking whether a new request is booked already, as the inbox does for each record."""
    started_ns = time.process_time_ns()
    for request, _ in batch:
        if ledger.known(request.producer, request.request + "-new"):
            raise SystemExit("the ledger knows what it never saw")
    return (time.process_time_ns() - started_ns) / len(batch) / 1000


def main() -> None:
    """Measure with each driver that is installed, and print the JSON line."""
    figures: dict[str, Any] = {}
    drivers = [f"sqlite3 (SQLite {sqlite3.sqlite_version})"]
    with tempfile.TemporaryDirectory() as folder:
        standard = measure(Path(folder), StandardDriver)
        try:
            drivers.insert(0, f"apsw {version('apsw')}")
            figures |= measure(Path(folder), ApswDriver)
            figures |= {f"standard_{name}": value for name, value in standard.items()}
        except PackageNotFoundError:
            figures |= standard
    machine = {"cpus": os.cpu_count(), "arch": platform.machine(), "python": platform.python_version()}
    notes = (
        f"{BATCHES * BATCH_ROWS:,} rows with random ids and one part each, synchronous=FULL, {BATCH_ROWS}-row commits, "
        "found by three ids and booked once, hash-chained and rolled up; CPU time from records to commit, "
        "median and best of 15 groups of 20 commits; "
        f"{', then standard_ with '.join(drivers)}. "
        "month_chargeback_seconds_10m_rows is not measured yet."
    )
    print(json.dumps({"bench": "ledger", "machine": machine, "figures": figures, "notes": notes}))


if __name__ == "__main__":
    main()
