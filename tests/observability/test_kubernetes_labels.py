"""A real Prometheus that scrapes an agent's pod: each figure has the pod of its server, none that of the agent."""

from pathlib import Path

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from inferwatt.export.prometheus import TEXT_TYPE, render
from tests.export.test_places import POD, page
from tests.real.prometheus import scraping
from tests.real.test_prometheus import serving

pytestmark = pytest.mark.real

AGENT = {"namespace": "inferwatt", "pod": "inferwatt-x", "container": "agent"}
JOULES = "inferwatt_energy_joules_total"


def test_a_figure_has_the_pod_of_its_server(tmp_path: Path) -> None:
    """Not the agent's, which is the target's; what is no server's has none; a device's has the agent's."""

    async def metrics(_: Request) -> Response:
        return Response(render(page(), openmetrics=False), headers={"content-type": TEXT_TYPE})

    with (
        serving(Starlette(routes=[Route("/metrics", metrics)])) as url,
        scraping(tmp_path, {"inferwatt": f"{url}/metrics"}, labels=AGENT) as prometheus,
    ):
        prometheus.wait(JOULES)
        of_pods = {sample.labels.get("pod"): sample.value for sample in prometheus.query(f"sum by (pod) ({JOULES})")}
        (place,) = [
            tuple(sample.labels[name] for name in ("namespace", "pod", "container"))
            for sample in prometheus.query(f'{JOULES}{{server!=""}}')
        ]
        (device,) = prometheus.query("inferwatt_device_power_watts")

    assert of_pods == {POD[1]: 1.0, None: 7.0}
    assert place == POD
    assert device.labels["pod"] == AGENT["pod"]
