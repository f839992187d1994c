"""Rows and ledgers for these tests."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

from inferwatt.ledger.driver import ApswDriver, Connect, Row, StandardDriver, connect
from inferwatt.ledger.rows import LedgerBatch, RequestRow
from inferwatt.ledger.schema import PPM
from inferwatt.ledger.sqlite import Ledger, LedgerConfig
from inferwatt.records import Component, Ending, EnergyPart, Outcome, Provenance, Request, RequestEnergy, Tier
from inferwatt.testing import FakeClock

DRIVERS = (StandardDriver, ApswDriver)
HOUR = 1_800_000_000
"""The fake clock's first hour, seconds since the epoch."""

texts = st.text(max_size=12)
amounts = st.integers(0, 2**40)
maybe = st.none() | amounts
units = st.dictionaries(texts, st.integers(0, 2**63 - 1), max_size=3)
parts = st.builds(
    EnergyPart, st.sampled_from(Component), st.sampled_from(Provenance), amounts, amounts, amounts, amounts,
    st.integers(0, 2 * PPM).map(lambda ppm: ppm / PPM),
)  # fmt: skip


@st.composite
def rows(draw: st.DrawFn) -> RequestRow:
    """Any row that a ledger can hold."""
    request = Request(
        draw(texts), draw(texts), draw(texts), draw(texts), draw(amounts), draw(maybe), draw(maybe),
        draw(maybe), draw(maybe), draw(maybe), draw(st.none() | st.sampled_from(Outcome)), (),
        draw(maybe), draw(maybe), draw(maybe), draw(st.dictionaries(texts, texts, max_size=3)),
        draw(texts), draw(texts), draw(texts), draw(texts), draw(texts), draw(texts), draw(units),
        ending=draw(st.none() | st.sampled_from(Ending)),
        queued_ns=draw(st.none() | st.integers(0, 2**62)),
    )  # fmt: skip
    held = st.builds(
        RequestEnergy, st.just(request.request), st.lists(parts, max_size=3).map(tuple), st.sampled_from(Tier),
        st.just(True),
    )  # fmt: skip
    return RequestRow(
        request, draw(st.none() | held), draw(texts), draw(st.integers(0, 2**62)), draw(maybe), fit=draw(texts)
    )


def row(number: int, *, tenant: str = "acme", unix: float = HOUR, energy_uj: int = 1000, **changes: Any) -> RequestRow:
    """Return request `number` of producer `p`: a tenth of its joules prefill, ±50 µJ of split, ±40% of the model."""
    name = f"r{number}"
    request = Request(
        name, "e0", "m", tenant, 10, 20, 30, 100, 50, 10, Outcome.FINISHED, (), 0, 0, 0, {"team": "search"},
        f"resp-{name}", f"trace-{name}", "p", "prod", "chat-0", "server", {"images": 2},
    )  # fmt: skip
    prefill_uj = energy_uj // 10
    part = EnergyPart(
        Component.CPU, Provenance.MODELLED, prefill_uj, energy_uj - prefill_uj, energy_uj - 50, energy_uj + 50, 0.4
    )
    end_unix_ns = int(unix * 1e9)
    made = RequestRow(
        request, RequestEnergy(name, (part,), Tier.REQUEST_SPAN, final=True), "s", end_unix_ns, end_unix_ns - 20,
        fit="m/7",
    )  # fmt: skip
    return replace(made, **changes)


def batch(*numbers: int, **changes: Any) -> LedgerBatch:
    """Return a batch of these requests."""
    return LedgerBatch(rows=[row(number, **changes) for number in numbers])


def open_ledger(
    path: Path, *, clock: FakeClock | None = None, config: LedgerConfig | None = None, connect: Connect = connect
) -> Ledger:
    """Open a ledger as the agent does."""
    return Ledger.open(
        path,
        agent_version="1",
        config_hash="c",
        boot_id="b",
        clock=clock or FakeClock(),
        config=config or LedgerConfig(),
        connect=connect,
    )


def sql(path: Path, statement: str) -> list[Row]:
    """Do to a ledger's file what any owner of it can do."""
    driver = StandardDriver(str(path), False)
    try:
        return driver.rows(statement)
    finally:
        driver.close()


def names(found: list[RequestRow]) -> list[str]:
    """Return the internal ids of rows."""
    return [found_row.request.request for found_row in found]
