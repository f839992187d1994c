"""Laws of numbers and pages, whatever they say."""

from contextlib import suppress
from decimal import Decimal
from fractions import Fraction

from hypothesis import given
from hypothesis import strategies as st

from inferwatt.errors import RecordRejected
from inferwatt.sources.coefficients import Cpu
from inferwatt.sources.reported_devices import MOST_DEVICES, named
from inferwatt.sources.reported_page import MOST_MW, MOST_UJ, heard, looks_like_json, metric_names, whole_units
from inferwatt.sources.reported_table import Unit, exporters, recognised
from tests.sources.exporters import ENERGY, FIRST, dcgm

UNITS = st.sampled_from(Unit)
FIGURES = st.floats(min_value=0, max_value=9e12)
WORDS = st.sampled_from(
    [
        *(name for exporter in exporters().values() for name in exporter.names),
        *'{}"=,#\\\n 0123456789.eE+-NaInfxµ\0',
        '{gpu="0",UUID="GPU-1"} ',
        '{path="/intel-rapl:0",index="0"} ',
        '{zone="package",path="aggregated-package"} ',
        '{gpu_uuid="GPU-1"} ',
        "\r\n",
        "nan",
    ]
)


@given(st.integers(min_value=0, max_value=10**15 - 1), st.integers(min_value=0, max_value=6), UNITS)
def test_no_unit_is_made_of_rounding(digits: int, point: int, unit: Unit) -> None:
    """A decimal text of up to 15 digits arrives as exactly that many µJ or mW, though it went through a double."""
    text = Decimal(digits).scaleb(-point)
    exact = Fraction(digits, 10**point) * 10**unit.exponent

    assert whole_units(float(text), unit) == round(exact)


@given(st.integers(min_value=0, max_value=10**15 - 1))
def test_a_counter_of_microjoules_printed_as_joules_comes_back(energy_uj: int) -> None:
    """What node_exporter does (µJ by a million, as a double) is undone to the microjoule, up to a gigajoule."""
    assert whole_units(energy_uj / 1_000_000, Unit.JOULE) == energy_uj


@given(FIGURES, FIGURES, UNITS)
def test_a_larger_figure_is_never_a_smaller_amount(one: float, other: float, unit: Unit) -> None:
    """A counter that only rises never falls for us."""
    small, large = sorted((one, other))

    assert whole_units(small, unit) <= whole_units(large, unit)


@given(st.one_of(st.floats().map(repr), st.integers(min_value=-(10**30), max_value=10**30).map(str)))
def test_every_number_is_an_amount_that_can_be_or_is_unknown(text: str) -> None:
    """Whatever stands there, it is a whole number of µJ within 63 bits, or it is nothing."""
    page = dcgm((ENERGY, 0, FIRST, "", text), (ENERGY, 1, "GPU-1", "", "7"))
    rows = heard(page.encode(), exporters()["dcgm"]).rows.values()

    assert all(row.amount is None or 0 < row.amount <= MOST_UJ for row in rows)
    assert [row.amount for row in rows if row.uuid == "GPU-1"] == [7000]


@given(st.lists(WORDS, max_size=60), st.sampled_from(sorted(exporters())))
def test_no_page_breaks_the_reader(words: list[str], kind: str) -> None:
    """Arbitrary text made of what pages are made of: devices with sane figures, or a page that is refused."""
    body = "".join(words).encode()
    exporter = exporters()[kind]
    try:
        recognised(metric_names(body, json=looks_like_json(body)))
        said = heard(body, exporter)
    except RecordRejected:
        return
    names = named(said.rows, exporter, Cpu())

    assert len({each.device.device for each in names.devices}) == len(names.devices) <= MOST_DEVICES
    for place, row in said.rows.items():
        unit = exporter.device[place.sort].figures[place.figure].unit
        assert row.amount is None or 0 <= row.amount <= (MOST_UJ if unit.is_energy else MOST_MW)


@given(st.binary(max_size=200), st.sampled_from(sorted(exporters())))
def test_no_bytes_break_the_reader(body: bytes, kind: str) -> None:
    """Neither do bytes that are no text."""
    with suppress(RecordRejected):
        recognised(metric_names(body, json=looks_like_json(body)))
        heard(body, exporters()[kind])
