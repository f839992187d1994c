"""Where a server runs is told beside each of its figures, by every exporter, and makes no counter begin anew."""

from dataclasses import replace

from inferwatt.engines.roster import EngineSeen
from inferwatt.export.catalog import CATALOG
from inferwatt.export.datadog_owed import Owed as OwedToDatadog
from inferwatt.export.datadog_owed import distributions, gauges
from inferwatt.export.otlp_names import TOLD, attributes_of
from inferwatt.export.otlp_owed import Owed as OwedByOtlp
from inferwatt.export.otlp_owed import Point
from inferwatt.export.places import INFO, SERVED, places_of
from inferwatt.export.prometheus import render
from inferwatt.export.remote_write_wire import samples, series
from inferwatt.records import Model, Place
from inferwatt.snapshot import Labels, Snapshot
from tests.desk import SERVER, Desk, ended

from .figures import ENERGY, REQUEST_JOULES, row, snapshot

JOULES = "inferwatt_energy_joules_total"
POD = ("llm", "vllm-0", "server")
ANOTHER = ("llm", "vllm-1", "server")
NOBODYS: Labels = ("", "", "idle_empty", "cpu", "modelled")
START_NS = 1_800_000_000 * 10**9


def page(uj: int = 1_000_000, place: Labels = POD) -> Snapshot:
    """Return figures of a server that runs there, and what belongs to no server."""
    figures = snapshot(uj)
    energy = {ENERGY: uj, NOBODYS: 7_000_000}
    return replace(figures, values={**figures.values, JOULES: energy, INFO: {("vllm:8000", "vllm", "0.32", *place): 1}})


def lines(text: bytes, family: str) -> list[str]:
    """Return the page's lines of a family."""
    return [line for line in text.decode().splitlines() if line.startswith(f"{family}{{")]


def test_each_figure_of_a_server_names_its_pod_on_the_page() -> None:
    """Counters and histograms; what is no server's has no pod, in so many words, so that it gets no other's."""
    text = render(page(), openmetrics=False)
    pod = 'namespace="llm",pod="vllm-0",container="server"'
    energy, nobodys = lines(text, JOULES)

    assert energy.endswith(f'provenance="measured",{pod}}} 1.000000')
    assert nobodys.endswith('namespace="",pod="",container=""} 7.000000')
    assert all(f"{pod}," in line for line in lines(text, f"{REQUEST_JOULES}_bucket"))
    assert all("pod=" not in line for line in lines(text, "inferwatt_device_power_watts"))


def test_where_nothing_is_in_a_container_no_figure_has_the_labels() -> None:
    """The page of a machine without containers is as short as it was."""
    text = render(page(place=("", "", "")), openmetrics=True)

    assert all("pod=" not in line for line in lines(text, JOULES))
    assert places_of(page(place=("", "", ""))) == {}


def test_remote_write_has_the_series_of_the_page() -> None:
    """With the same labels; an empty one is none."""
    told = dict(samples(page(), {}, ("inferwatt", "node-1")))
    names = (*CATALOG[JOULES].labels, "namespace", "pod", "container")

    assert series(JOULES, names, (*ENERGY, *POD), ("inferwatt", "node-1")) in told
    assert series(JOULES, CATALOG[JOULES].labels, NOBODYS, ("inferwatt", "node-1")) in told


def test_datadog_is_told_by_its_own_names_and_nothing_twice() -> None:
    """Its tags for pods; a pod that takes another's place goes on with the counter."""
    owed = OwedToDatadog(10**6)
    owed.gather(page(0), 0)
    owed.gather(page(2_000_000), 10)
    owed.gather(page(5_000_000, ANOTHER), 20)
    told = [
        each for interval in owed.waiting for _, each in interval.series() if each.name.endswith("energy_joules.count")
    ]
    of_model = [(each.value, each.tags[-3:]) for each in told if "phase:decode" in each.tags]
    (shown,) = distributions(row("a"), page(), places_of(page()))
    (info,) = [each for each in gauges(page()) if each.name == "inferwatt.server_info"]

    assert of_model == [
        (2.0, ("kube_namespace:llm", "pod_name:vllm-0", "kube_container_name:server")),
        (3.0, ("kube_namespace:llm", "pod_name:vllm-1", "kube_container_name:server")),
    ]
    assert shown.tags[-2] == info.tags[-2] == "pod_name:vllm-0"


def of_model(points: list[Point]) -> Point:
    """Return the point of the server's energy."""
    (found,) = [point for point in points if (point.family, point.labels) == (JOULES, ENERGY)]
    return found


def test_otlp_has_the_conventions_attributes() -> None:
    """`k8s.*` of the server, which the resource has of the agent."""
    owed = OwedByOtlp(is_delta=False, started_unix_ns=START_NS, host="node-1")
    point = of_model(owed.look(page(), START_NS))
    found = attributes_of(TOLD[JOULES], point.labels, {}, {}, point.place)

    assert {key: value for key, value in found.items() if key.startswith("k8s.")} == {
        "k8s.namespace.name": "llm",
        "k8s.pod.name": "vllm-0",
        "k8s.container.name": "server",
    }


def test_a_cumulative_stream_ends_with_its_pod_and_the_next_begins_there() -> None:
    """What the receiver had not taken of the old stream is in the new one: both together are the counter."""
    owed = OwedByOtlp(is_delta=False, started_unix_ns=START_NS, host="node-1")
    owed.taken(owed.look(page(0), START_NS))
    owed.taken(owed.look(page(2_000_000), START_NS + 1))
    lost = of_model(owed.look(page(3_000_000), START_NS + 2))
    moved = of_model(owed.look(page(7_000_000, ANOTHER), START_NS + 3))
    later = of_model(owed.look(page(9_000_000, ANOTHER), START_NS + 4))

    assert (lost.gained, lost.since_unix_ns, lost.place) == (3_000_000, START_NS, POD)
    assert (moved.gained, moved.since_unix_ns, moved.place) == (5_000_000, START_NS + 1, ANOTHER)
    assert (later.gained, later.since_unix_ns) == (7_000_000, START_NS + 1)


def test_a_delta_goes_on_under_the_new_pods_name() -> None:
    """It is owed to the counter, whoever holds it."""
    owed = OwedByOtlp(is_delta=True, started_unix_ns=START_NS, host="node-1")
    owed.look(page(0), START_NS)
    first = owed.look(page(2_000_000), START_NS + 1)
    owed.taken(first)
    second = owed.look(page(3_000_000, ANOTHER), START_NS + 2)

    assert [(of_model(each).gained, of_model(each).place) for each in (first, second)] == [
        (2_000_000, POD),
        (1_000_000, ANOTHER),
    ]


def test_every_family_with_a_server_is_placed() -> None:
    """All but the one that says where it runs."""
    assert frozenset(name for name, metric in CATALOG.items() if "server" in metric.labels) - SERVED == {INFO}


def test_a_server_that_is_found_in_a_pod_names_it_beside_its_joules() -> None:
    """From what is found to the page: the model's work has the pod, what was idle before has none."""
    desk = Desk()
    desk.live(3)
    place = Place(namespace="llm", pod="vllm-0", container="server")
    seen = EngineSeen(desk.now, SERVER, Model(SERVER.model), frozenset({50}), "http://x", "1", place)
    desk.keeper.put(seen)
    begin_ns = desk.now
    desk.live(2)
    desk.say(ended("r", begin_ns, desk.now))
    desk.live(5)
    text = render(desk.keeper.snapshot, openmetrics=True)
    decode = next(line for line in lines(text, JOULES) if 'phase="decode"' in line)
    idle = next(line for line in lines(text, JOULES) if 'phase="idle_empty"' in line)

    assert 'namespace="llm",pod="vllm-0",container="server"' in decode
    assert 'pod=""' in idle
