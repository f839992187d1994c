"""Which of a BMC's chassis is the server: never guessed, never two of them added."""

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inferwatt.errors import SourceRetry
from inferwatt.sources.redfish import Bmc
from inferwatt.sources.redfish_power import Chassis, Kind, Meter, NoDocument, checked, choose, document, figure_mw
from inferwatt.sources.server import MOST_WATTS, NoFigure
from inferwatt.sources.settings import RedfishConfig
from tests.doubles.redfish import CHASSIS, Document, RedfishBmc, chassis, control, environment

METER = Meter(Kind.CONTROL, ("/redfish/v1/Chassis/1/Power",))


def ask(*listed: Document, name: str = "") -> int | None:
    """Poll a BMC with these chassis once, and return the power in mW."""
    with RedfishBmc(*listed) as service:
        bmc = Bmc(RedfishConfig(url=service.url, chassis=name))
        try:
            return bmc.poll().power_mw
        finally:
            bmc.close()


def gpu_server() -> list[Document]:
    """Return a GPU server as its BMC lists it: boards and modules with power of their own inside the server."""
    return [
        chassis("Baseboard", form="Module", inside="Server", environment=environment(2900)),
        chassis("GPU_1", form="Module", inside="Baseboard", environment=environment(690)),
        chassis("Server", environment=environment(4100)),
        chassis("NIC", form="Component", inside="Server"),
    ]


def test_what_a_server_contains_is_part_of_it() -> None:
    """Its GPUs' boards are not added to it and are not in its place, however deep they are."""
    assert ask(*gpu_server()) == 4_100_000


def test_of_several_servers_none_is_guessed() -> None:
    """The failure lists them, and is the exact setting."""
    listed = [chassis("1", power=control(300)), chassis("2", form="", power=control(310)), chassis("3")]

    with pytest.raises(
        SourceRetry,
        match=r"name this server's in sources.redfish.chassis: 1 \(RackMount\), 2\n.*\n.*chassis = .1. or .2.$",
    ):
        ask(*listed)


def test_an_enclosure_is_not_the_server_inside_it() -> None:
    """An enclosure holds other servers too, so it does not swallow its blade: the user says which."""
    listed = [
        chassis("Enclosure", form="Enclosure", power=control(9000)),
        chassis("Blade", form="Blade", inside="Enclosure", power=control(310)),
    ]

    with pytest.raises(SourceRetry, match=r"Enclosure \(Enclosure\), Blade \(Blade\)"):
        ask(*listed)
    assert ask(*listed, name="Blade") == 310_000


def test_a_chassis_that_is_named_is_the_only_one_that_is_read() -> None:
    """The others are not even asked for."""
    with RedfishBmc(*gpu_server()) as service:
        bmc = Bmc(RedfishConfig(url=service.url, chassis="Baseboard"))
        power_mw = bmc.poll().power_mw
        bmc.close()

        assert power_mw == 2_900_000
        assert {path for path in service.paths() if path.count("/") > 3} == {
            f"{CHASSIS}/Baseboard",
            f"{CHASSIS}/Baseboard/EnvironmentMetrics",
        }


def test_a_chassis_may_be_named_by_its_id() -> None:
    """Where that is not the end of its address."""
    listed = [chassis("1", power=control(300)), chassis("2", power=control(310))]
    listed[1][f"{CHASSIS}/2"]["Id"] = "Node-B"

    assert ask(*listed, name="Node-B") == 310_000


def test_a_chassis_that_is_not_there_is_said() -> None:
    """With those that are."""
    with pytest.raises(SourceRetry, match=r'no chassis Sever: it has Baseboard .*\n.*\n.*or "Server" or'):
        ask(*gpu_server(), name="Sever")


def test_a_chassis_that_is_listed_and_not_there_is_left_out() -> None:
    """Its neighbour is read."""
    with RedfishBmc(chassis("1", power=control(300)), chassis("2", power=control(310))) as service:
        del service.resources[f"{CHASSIS}/1"]
        bmc = Bmc(RedfishConfig(url=service.url))

        assert bmc.poll().power_mw == 310_000
        bmc.close()


def test_a_chassis_that_fails_fails_the_poll() -> None:
    """Whoever leaves out the server because it was busy takes a board for it."""
    with RedfishBmc(*gpu_server()) as service:
        service.resources[f"{CHASSIS}/Server"] = b"<html>"
        bmc = Bmc(RedfishConfig(url=service.url))

        with pytest.raises(SourceRetry, match="is no JSON"):
            bmc.poll()
        bmc.close()


@st.composite
def racks(draw: st.DrawFn) -> list[Chassis]:
    """Draw chassis that contain each other in any way, circles included."""
    count = draw(st.integers(0, 6))
    return [
        Chassis(
            str(number),
            f"/redfish/v1/Chassis/{number}",
            draw(st.sampled_from(["RackMount", "Module", "Enclosure", ""])),
            f"/redfish/v1/Chassis/{draw(st.integers(0, 7))}",
            draw(st.sampled_from([METER, None])),
        )
        for number in range(count)
    ]


@given(racks())
def test_the_choice_is_among_the_metered_and_never_empty_where_there_is_one(rack: list[Chassis]) -> None:
    """Whatever contains what; the order of the list stays."""
    metered = [each for each in rack if each.meter is not None]
    chosen = choose(rack)

    assert chosen == [each for each in metered if each in chosen]
    assert bool(chosen) == bool(metered)


KEYS = [
    "PowerControl",
    "PowerConsumedWatts",
    "PowerWatts",
    "Reading",
    "ReadingUnits",
    "Status",
    "State",
    "InputPowerWatts",
]
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=4),
    max_leaves=12,
)


@given(st.sampled_from(Kind), st.dictionaries(st.sampled_from(KEYS), JSON, max_size=4))
def test_whatever_a_resource_holds_it_is_a_sane_power_or_none(kind: Kind, found: Document) -> None:
    """Never a negative one, never one beyond all servers, never another exception."""
    with suppress(NoFigure):
        assert (0 if kind is Kind.SUPPLIES else 1) <= figure_mw(kind, found) <= MOST_WATTS * 1000


@given(st.text() | st.integers() | st.none())
def test_a_path_is_of_this_service_or_nothing(path: object) -> None:
    """No host, no second header, no fragment."""
    found = checked(path)

    assert found == "" or (
        found.startswith("/redfish/") and found.isascii() and found.isprintable() and "#" not in found
    )


@given(st.binary(max_size=200))
def test_whatever_is_sent_is_an_object_or_none(body: bytes) -> None:
    """No other exception than that it is none."""
    with suppress(NoDocument):
        assert isinstance(document(body), dict)
