"""What a ledger says after its agent has ended, or was killed: read as anybody would, by a reader of its own."""

from pathlib import Path

from inferwatt.ledger.queries import LedgerReader

MOST_ROWS = 100_000


def booked(ledger: Path) -> dict[str, int | None]:
    """Return the joules of each request, microjoules, None where no device was read while it ran.

    The chain is whole, and each request is there once.
    """
    reader = LedgerReader.open(ledger)
    try:
        rows = reader.requests(MOST_ROWS)
        verified = reader.verify()
    finally:
        reader.close()
    energies = {row.request.request: row.energy.energy_uj if row.energy else None for row in rows}
    assert verified.ok, verified.reason
    assert len(energies) == len(rows)
    return energies


def assert_conserved(ledger: Path) -> None:
    """The phases' counters sum to the devices' counters to the microjoule, kills and restarts included."""
    reader = LedgerReader.open(ledger)
    try:
        counters = reader.counters()
    finally:
        reader.close()
    phases, devices = (
        sum(int(uj) for uj in counters[name].values())
        for name in ("inferwatt_energy_joules_total", "inferwatt_device_energy_joules_total")
    )
    assert phases == devices
