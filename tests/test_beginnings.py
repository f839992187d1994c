"""Counters are shown from 0 on where that is known: Prometheus sees no increase in a series that appears at once."""

from inferwatt.attribution.accounts import TickEnergy
from inferwatt.books import Books
from inferwatt.records import Device, Engine

GPU = Device("gpu-0", domain="gpu")


def test_what_is_counted_begins_at_zero() -> None:
    """What may move at once later, after a gap or at a first fold, is there before: `increase()` sees that step."""
    books = Books()
    books.add_device(GPU)
    books.add_engine(Engine("e0", "m", ("gpu-0",), server="s"))
    books.tick(TickEnergy(GPU.device, 0, 1, 5, {}, {}, {"e0": 5}, 0, 0, 0))
    books.count_to("inferwatt_samples_lost_total", ("gpu-0",), 0)
    zeros = {name for name, series in books.values.items() if series.get(()) == 0}

    assert {key[2]: uj for key, uj in books.values["inferwatt_energy_joules_total"].items()} == {
        "idle_resident": 5,
        "idle_empty": 0,
        "other": 0,
        "unattributed": 0,
    }
    assert books.values["inferwatt_samples_lost_total"] == {("gpu-0",): 0}
    assert {
        "inferwatt_tenants_folded_total",
        "inferwatt_ledger_errors_total",
        "inferwatt_ledger_set_aside_total",
    } <= zeros
