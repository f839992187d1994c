"""From a page to what each device used, without a network."""

import pytest

from inferwatt.engines.pages import MALFORMED, NOT_FINITE
from inferwatt.errors import RecordRejected
from inferwatt.sources.coefficients import Cpu
from inferwatt.sources.reported_devices import named
from inferwatt.sources.reported_page import heard, metric_names
from inferwatt.sources.reported_table import exporters, recognised
from tests.sources import exporters as pages
from tests.sources.exporters import ENERGY, FIRST, POWER, SECOND, dcgm

Told = dict[str, tuple[str, int | None]]


def told(kind: str, page: str) -> Told:
    """Return the best figure of each device: its unit, and µJ or mW; ("", None) where none is known."""
    said = heard(page.encode(), exporters()[kind])
    best: Told = {}
    for each in named(said.rows, exporters()[kind], Cpu()).devices:
        known = ((place, said.rows[place].amount) for place in each.places if place in said.rows)
        place, amount = next(((place, amount) for place, amount in known if amount is not None), (None, None))
        unit = exporters()[kind].device[place.sort].figures[place.figure].unit.value if place else ""
        best[each.device.device] = (unit, amount)
    return best


def reasons(kind: str, page: str) -> list[str]:
    """Return why each unknown row is unknown."""
    return [row.why for row in heard(page.encode(), exporters()[kind]).rows.values() if row.amount is None]


@pytest.mark.parametrize(
    ("kind", "page", "expected"),
    [
        ("dcgm", pages.DCGM_MIG, {"gpu-0": ("millijoule", 257858331000), "gpu-1": ("millijoule", 187554325000)}),
        (
            "node",
            pages.NODE,
            {
                "cpu-0": ("joule", 240422366267),
                "cpu-1": ("joule", 140422366267),
                "dram-0": ("joule", 12345678),
                "psys-2": ("joule", 999),
            },
        ),
        (
            "kepler",
            pages.KEPLER,
            {
                "gpu-0": ("joule", 1234567000000),
                "cpu": ("joule", 21231500000),
                "dram-0": ("joule", 31000002),
                "psys-1": ("joule", 51231500000),
            },
        ),
        ("kepler", pages.KEPLER_0_7, {"cpu-0": ("joule", 55797732000), "cpu-1": ("", None)}),
        ("zeusd", pages.ZEUSD_GPU, {"gpu-0": ("millijoule", 123456000), "gpu-1": ("millijoule", 789012000)}),
        (
            "zeusd",
            pages.ZEUSD_CPU,
            {"cpu-0": ("microjoule", 123456), "cpu-1": ("microjoule", 234567), "dram-0": ("microjoule", 78901)},
        ),
        ("zeusd", pages.ZEUSD_POWER, {"cpu-0": ("milliwatt", 85000), "dram-0": ("milliwatt", 12000)}),
        ("triton", pages.TRITON, {"gpu-0": ("", None), "gpu-1": ("joule", 9380053000)}),
        ("nvidia_gpu_exporter", pages.NVIDIA_SMI, {"gpu-1": ("watt", 627400)}),
        ("amd", pages.AMD, {"gpu-0": ("microjoule", 15 * 10**12), "gpu-1": ("", None)}),
        ("all_smi", pages.ALL_SMI, {"gpu-0": ("joule", 8430000125000)}),
    ],
)
def test_each_exporters_figures_are_read_in_its_own_units(kind: str, page: str, expected: Told) -> None:
    """Joules, millijoules, microjoules and watts of every kind arrive as whole µJ and mW, each device once."""
    assert told(kind, page) == expected
    assert recognised(metric_names(page.encode(), json=page.startswith("{"))) == kind


def test_zero_of_triton_is_unknown() -> None:
    """Triton sets a power that it cannot read to 0: no reading, and no zero joules."""
    why = "says 0, by which it means that it could not read it"

    assert reasons("triton", pages.TRITON) == [why, why]


@pytest.mark.parametrize("blank", ["9223372036854775794", "9223372036854775792", "0"])
def test_a_blank_of_dcgm_is_unknown(blank: str) -> None:
    """The README of dcgm-exporter shows 9223372036854775794 where a GPU has no such sensor; watts stand in."""
    page = dcgm((ENERGY, 0, FIRST, "", blank), (POWER, 0, FIRST, "", "52.6"))

    assert told("dcgm", page) == {"gpu-0": ("watt", 52600)}


@pytest.mark.parametrize("watts", ["140737488355328", "140737488355330.0", "100001", "-1"])
def test_watts_that_cannot_be_are_unknown(watts: str) -> None:
    """DCGM's blank double, more than any device draws, and less than nothing."""
    assert told("dcgm", dcgm((POWER, 0, FIRST, "", watts))) == {"gpu-0": ("", None)}


@pytest.mark.parametrize("word", ["NaN", "+Inf", "-Inf", "1e999"])
def test_no_number_is_no_row_and_counted(word: str) -> None:
    """Row 1 of the bad pages: what is not finite is left out of the page, and the page says how much was."""
    said = heard(dcgm((ENERGY, 0, FIRST, "", word), (ENERGY, 1, SECOND, "", "7")).encode(), exporters()["dcgm"])

    assert [row.uuid for row in said.rows.values()] == [SECOND]
    assert said.left_out == {NOT_FINITE: 1}


def test_a_part_that_is_missing_makes_the_whole_unknown() -> None:
    """Kepler's idle joules without its dynamic ones are not a package's: no lower counter is made of them."""
    page = pages.KEPLER_0_7.replace('mode="dynamic",package="0",source="rapl-sysfs"} 151.503', 'mode="x"} NaN')

    assert told("kepler", page) == {"cpu-0": ("", None), "cpu-1": ("", None)}
    assert set(reasons("kepler", page)) == {"does not say all of dynamic, idle"}


def test_a_third_part_makes_the_whole_unknown() -> None:
    """A mode that we do not know may be in the others, or not."""
    more = 'kepler_node_package_joules_total{instance="n",mode="boost",package="0",source="rapl-sysfs"} 5\n'

    assert told("kepler", pages.KEPLER_0_7 + more)["cpu-0"] == ("", None)


def test_what_a_model_made_up_is_not_reported() -> None:
    """Kepler without RAPL publishes the guess of a trained model under the same names: it is not read."""
    page = pages.KEPLER_0_7.replace("rapl-sysfs", "trained_power_model")

    with pytest.raises(RecordRejected, match="of no device that is known"):
        heard(page.encode(), exporters()["kepler"])


def test_a_page_of_several_machines_is_refused() -> None:
    """A page that collects other machines' would bring their joules into ours."""
    page = dcgm((ENERGY, 0, FIRST, "", "7")) + dcgm((ENERGY, 0, SECOND, "", "7")).replace("node-7", "node-8")

    with pytest.raises(RecordRejected, match=r"of 2 machines \(hostname\)"):
        heard(page.encode(), exporters()["dcgm"])


def test_a_package_that_is_listed_by_dies_is_not_read() -> None:
    """On AMD each die shows the whole package: eight times the joules would be made of one."""
    page = pages.NODE.replace("node_rapl_package_joules", "node_rapl_package_0_die_0_joules")

    assert {name for name in told("node", page) if name.startswith("cpu")} == set()


def test_zones_by_label_are_the_same_zones() -> None:
    """With --collector.rapl.enable-zone-label the name of the zone is in a label."""
    page = f"""\
node_rapl_joules_total{{index="0",path="{pages.ZONES}/intel-rapl:0",rapl_zone="package"}} 1.5
node_rapl_joules_total{{index="0",path="{pages.ZONES}/intel-rapl:0:0",rapl_zone="core"}} 1
node_rapl_joules_total{{index="0",path="{pages.ZONES}/intel-rapl:0:1",rapl_zone="dram"}} 0.5
"""

    assert told("node", page) == {"cpu-0": ("joule", 1500000), "dram-0": ("joule", 500000)}


def test_a_rail_is_known_by_its_chip_and_its_label() -> None:
    """A socket's counter and the server's power are read; a core (in the socket) and an unknown chip are not."""
    assert told("node", pages.HWMON) == {"cpu-0": ("joule", 1234567890), "server": ("watt", 250000)}


@pytest.mark.parametrize(
    ("page", "what"),
    [
        ("", "is empty"),
        ("<html>", "is HTML"),
        ("DCGM_FI_DEV_SM_CLOCK 5\n", "the page has no joules and no watts"),
        ("node_load1 5\n", "no wanted sample"),
        (f'{ENERGY}{{gpu="0"}} 1 2 3\n', "no wanted sample"),
        (f'{ENERGY}{{gpu="0"', "no wanted sample"),
    ],
)
def test_a_page_without_a_figure_is_a_failed_read(page: str, what: str) -> None:
    """Rows 4, 6, 11 and 12 of the bad pages: never zeros."""
    with pytest.raises(RecordRejected, match=what):
        heard(page.encode(), exporters()["dcgm"])


def test_a_page_of_the_right_exporter_says_what_it_lacks() -> None:
    """A real Triton without a GPU is recognised, and told how to have joules."""
    assert recognised(metric_names(pages.TRITON_WITHOUT_GPU.encode())) == "triton"
    with pytest.raises(RecordRejected, match="no joules and no watts") as trouble:
        heard(pages.TRITON_WITHOUT_GPU.encode(), exporters()["triton"])

    assert "--allow-gpu-metrics=true" in trouble.value.fix


@pytest.mark.parametrize(
    "page",
    [
        "[]",
        "7",
        "{}",
        '{"0": {"energy_mj": null}}',
        '{"0": {"energy_mj"',
        "{" * 200_000,
        '{"a":' * 5_000 + "1" + "}" * 5_000,
        '{"a":' * 20 + '{"energy_mj": 5}' + "}" * 20,
    ],
)
def test_json_without_a_figure_is_a_failed_read(page: str) -> None:
    """Neither a list, a null, a cut answer nor a very deep one is a zero or a crash."""
    with pytest.raises(RecordRejected):
        heard(page.encode(), exporters()["zeusd"])


@pytest.mark.parametrize("digits", [13, 30, 400, 5_000])
def test_a_number_of_many_digits_is_unknown(digits: int) -> None:
    """JSON has numbers of any length: more than 63 bits of µJ is no counter."""
    page = f'{{"0": {{"cpu_energy_uj": {"7" * digits}}}, "1": {{"cpu_energy_uj": 7}}}}'
    try:
        known = told("zeusd", page)
    except RecordRejected:
        known = {}

    assert known.get("cpu-0", ("", None)) == (("microjoule", int("7" * 13)) if digits == 13 else ("", None))


@pytest.mark.parametrize("value", ['"5"', "true", "[5]"])
def test_what_is_no_number_in_json_is_counted(value: str) -> None:
    """A text, a truth value or a list is no figure."""
    said = heard(f'{{"0": {{"energy_mj": {value}}}, "1": {{"energy_mj": 7}}}}'.encode(), exporters()["zeusd"])

    assert [row.number for row in said.rows.values()] == ["1"]
    assert said.left_out == {MALFORMED: 1}


def test_a_page_of_nobody_is_recognised_as_nobodys() -> None:
    """A Go program's own metrics are no exporter's."""
    assert recognised(metric_names(b"go_goroutines 7\n# HELP x y\nprocess_cpu_seconds_total 1\n\n")) is None


def test_joules_say_more_of_a_page_than_signs() -> None:
    """A page with Kepler's joules beside node_exporter's other metrics is read for its joules."""
    assert recognised(["node_cpu_seconds_total", "kepler_node_cpu_joules_total"]) == "kepler"


def test_every_kind_says_what_it_is() -> None:
    """Each table has a title, says where its names come from, and covers devices with a bound."""
    assert len(exporters()) == 8
    for exporter in exporters().values():
        assert exporter.title
        assert exporter.tried
        assert exporter.device
        assert all(0 < rows.systematic_ratio < 1 and rows.figures for rows in exporter.device)
