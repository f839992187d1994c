"""Pages of other exporters, and a stand-in that serves them.

`TRITON_WITHOUT_GPU` is a part of what a real Triton answered: PyTriton 0.7.0 on a machine without a GPU,
``curl http://127.0.0.1:8002/metrics``. All other pages are synthetic: the form is that of the source file named at
each, the numbers and UUIDs are ours.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

TRITON_WITHOUT_GPU = """\
# HELP nv_inference_request_success Number of successful inference requests, all batch sizes
# TYPE nv_inference_request_success counter
nv_inference_request_success{model="tiny",version="1"} 20
# HELP nv_inference_count Number of inferences performed (does not include cached requests)
# TYPE nv_inference_count counter
nv_inference_count{model="tiny",version="1"} 20
# HELP nv_pinned_memory_pool_total_bytes Pinned memory pool total memory size, in bytes
# TYPE nv_pinned_memory_pool_total_bytes gauge
nv_pinned_memory_pool_total_bytes 268435456
# HELP nv_cpu_utilization CPU utilization rate [0.0 - 1.0]
# TYPE nv_cpu_utilization gauge
nv_cpu_utilization 0.075
"""

FIRST, SECOND = "GPU-00000000-0000-4000-8000-0000000000a0", "GPU-00000000-0000-4000-8000-0000000000b1"
ZONES = "/host/sys/class/powercap"


def dcgm(*rows: tuple[str, int, str, str, str]) -> str:
    """Return a page as dcgm-exporter d5e5f51 renders it (internal/pkg/rendermetrics/render_metrics.go).

    A row is the metric, the GPU's number and UUID, its MIG instance (empty: none) and the value.
    """
    lines = ["# HELP DCGM_FI_DEV_SM_CLOCK SM clock frequency (in MHz).", "# TYPE DCGM_FI_DEV_SM_CLOCK gauge"]
    for metric, number, uuid, instance, value in rows:
        mig = f',GPU_I_PROFILE="2g.20gb",GPU_I_ID="{instance}"' if instance else ""
        labels = f'gpu="{number}",UUID="{uuid}",pci_bus_id="",device="nvidia{number}",modelName="NVIDIA A100-SXM4-80GB"'
        lines.append(f'{metric}{{{labels}{mig},hostname="node-7"}} {value}')
    return "\n".join([*lines, ""])


ENERGY, POWER = "DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION", "DCGM_FI_DEV_POWER_USAGE"
DCGM_MIG = dcgm(
    # one read for each instance: the powers differ in the third digit, as in dcgm-exporter issue 317
    (ENERGY, 0, FIRST, "3", "257858316"),
    (ENERGY, 0, FIRST, "5", "257858316"),
    (ENERGY, 0, FIRST, "6", "257858331"),
    (ENERGY, 1, SECOND, "", "187554325"),
    (POWER, 0, FIRST, "3", "78.174000"),
    (POWER, 0, FIRST, "5", "78.174000"),
    (POWER, 0, FIRST, "6", "78.446000"),
    (POWER, 1, SECOND, "", "55.942000"),
)
TRITON = f"""\
# TYPE nv_gpu_power_usage gauge
nv_gpu_power_usage{{gpu_uuid="{SECOND}"}} 61.25
nv_gpu_power_usage{{gpu_uuid="{FIRST}"}} 0
# TYPE nv_energy_consumption counter
nv_energy_consumption{{gpu_uuid="{SECOND}"}} 9380.053
nv_energy_consumption{{gpu_uuid="{FIRST}"}} 0
"""
"""src/metrics.cc of triton-inference-server/core at 73aad7c: the second GPU cannot be read."""

KEPLER = f"""\
kepler_node_cpu_joules_total{{node_name="n",path="aggregated-package",zone="package"}} 21231.5
kepler_node_cpu_joules_total{{node_name="n",path="{ZONES}/intel-rapl:0:0",zone="core"}} 9231.5
kepler_node_cpu_joules_total{{node_name="n",path="{ZONES}/intel-rapl:0:1",zone="dram"}} 31.000002
kepler_node_cpu_joules_total{{node_name="n",path="{ZONES}/intel-rapl:1",zone="psys"}} 51231.5
kepler_node_gpu_joules_total{{gpu="0",gpu_name="NVIDIA L4",gpu_uuid="{FIRST}",node_name="n"}} 1.234567e+06
kepler_process_cpu_joules_total{{comm="a",node_name="n",pid="7",zone="package"}} 1
"""
"""docs/user/metrics.md and internal/device/energy_zone.go of Kepler at 13944a69: two sockets."""

KEPLER_0_7 = """\
kepler_node_package_joules_total{instance="n",mode="dynamic",package="0",source="rapl-sysfs"} 151.503
kepler_node_package_joules_total{instance="n",mode="idle",package="0",source="rapl-sysfs"} 55646.229
kepler_node_package_joules_total{instance="n",mode="dynamic",package="1",source="rapl-sysfs"} 12.5
kepler_node_dram_joules_total{instance="n",mode="dynamic",package="0",source="trained_power_model"} 7
kepler_node_dram_joules_total{instance="n",mode="idle",package="0",source="trained_power_model"} 7
"""
"""pkg/metrics of Kepler v0.7.9; the second package has no idle part, as in issue 1617."""

ZEUSD_GPU = '{"0": {"energy_mj": 123456}, "1": {"energy_mj": 789012}}'
ZEUSD_CPU = (
    '{"0": {"cpu_energy_uj": 123456, "dram_energy_uj": 78901}, "1": {"cpu_energy_uj": 234567, "dram_energy_uj": null}}'
)
ZEUSD_POWER = '{"timestamp_ms": 1762000000000, "power_mw": {"0": {"cpu_mw": 85000, "dram_mw": 12000}}}'
"""docs/zeusd/api.md of Zeus at 75a8b939."""

NVIDIA_SMI = f"""\
nvidia_smi_gpu_info{{index="1",name="NVIDIA H200",uuid="{FIRST[4:]}"}} 1
nvidia_smi_power_draw_average_watts{{uuid="{FIRST[4:]}"}} 627.4
nvidia_smi_power_draw_watts{{uuid="{FIRST[4:]}"}} 627.5
"""
"""docs/METRICS.md and internal/integration/testdata of nvidia_gpu_exporter at e656cd8: its default backend."""

AMD = """\
gpu_nodes_total{hostname="n"} 1
gpu_energy_consumed{card_series="MI300X",gpu_id="0",gpu_partition_id="0",gpu_uuid="51ff74a1-0000",hostname="n"} 1.5e+13
gpu_package_power{card_series="MI300X",gpu_id="0",gpu_partition_id="0",gpu_uuid="51ff74a1-0000",hostname="n"} 141
gpu_package_power{card_series="MI300X",gpu_id="1",gpu_partition_id="1",gpu_uuid="51ff74a1-0001",hostname="n"} 0
"""
"""pkg/amdgpu/gpuagent/gpuagent_gpu_metrics.go at afd0fe81; a second partition has no sensor."""

ALL_SMI = f"""\
all_smi_energy_consumed_joules_total{{host="a",scope="gpu",gpu_index="0",gpu_uuid="{FIRST}"}} 8430000.125
all_smi_energy_consumed_joules_total{{host="a",scope="chassis"}} 61300000.000
all_smi_gpu_power_consumption_watts{{gpu="NVIDIA L4",instance="a",gpu_uuid="{FIRST}",gpu_index="0"}} 33
"""
"""src/api/metrics/energy.rs and gpu.rs of all-smi at b92ea0a."""

NODE = f"""\
node_rapl_core_joules_total{{index="0",path="{ZONES}/intel-rapl:0:0"}} 118821.284256
node_rapl_package_joules_total{{index="0",path="{ZONES}/intel-rapl:0"}} 240422.366267
node_rapl_package_joules_total{{index="0",path="{ZONES}/intel-rapl-mmio:0"}} 240422.366267
node_rapl_package_joules_total{{index="1",path="{ZONES}/intel-rapl:1"}} 140422.366267
node_rapl_dram_joules_total{{index="0",path="{ZONES}/intel-rapl:0:1"}} 12.345678
node_rapl_psys_joules_total{{index="0",path="{ZONES}/intel-rapl:2"}} 0.000999
"""
"""Read off a real node_exporter 1.5.0 over a made tree; tests/real/test_node_exporter.py runs it."""


HWMON = """\
node_hwmon_chip_names{chip="b",chip_name="amd_energy"} 1
node_hwmon_chip_names{chip="c",chip_name="amdgpu"} 1
node_hwmon_sensor_label{chip="b",label="Ecore000",sensor="energy1"} 1
node_hwmon_sensor_label{chip="b",label="Esocket0",sensor="energy129"} 1
node_hwmon_power_average_watt{chip="lnxsybus:00_acpi000d:00",sensor="power1"} 250
node_hwmon_power_average_watt{chip="c",sensor="power1"} 90
node_hwmon_energy_joule_total{chip="b",sensor="energy1"} 0.000111
node_hwmon_energy_joule_total{chip="b",sensor="energy129"} 1234.56789
"""
"""collector/hwmon_linux.go of node_exporter: an ACPI power meter, AMD's counters, a graphics card."""


class Exporter:
    """A stand-in for an exporter: an HTTP server with one page that a test may change."""

    def __init__(self, page: str, status: int = 200) -> None:
        self.page = page.encode()
        self.status = status
        self.asked: list[tuple[str, str]] = []
        """Path and `Authorization` of each question."""
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = False  # its end waits for the last answer
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self.url = f"http://127.0.0.1:{self._server.server_port}/metrics"

    def start(self) -> None:
        """Answer from now on."""
        self._thread.start()

    def stop(self) -> None:
        """Be gone: nobody listens any more."""
        if self._thread.is_alive():
            self._server.shutdown()
            self._thread.join()
            self._server.server_close()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        exporter = self

        class Handler(BaseHTTPRequestHandler):
            """Answers with the page."""

            def do_GET(self) -> None:
                """Send the page as it is now."""
                exporter.asked.append((self.path, self.headers.get("Authorization", "")))
                self.send_response(exporter.status)
                self.send_header("Content-Length", str(len(exporter.page)))
                self.end_headers()
                self.wfile.write(exporter.page)

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        return Handler


@contextmanager
def serving(page: str, status: int = 200) -> Iterator[Exporter]:
    """Serve a page while the block runs."""
    exporter = Exporter(page, status)
    exporter.start()
    try:
        yield exporter
    finally:
        exporter.stop()
