"""What is published of NVIDIA's products: peak rates from datasheets, and how far their power sensor was found off.

Data and look-up only. A product that is not in a table has no peak rate: unknown is absent, never guessed.

`PEAKS`: dense BF16 tensor FLOP/s (half of what a datasheet states "with sparsity") and memory bandwidth, by the name
that the driver reports. Each row names NVIDIA's datasheet that has it.

`systematic_ratio`: Yang, Adamek, Armour, "Accurate and Convenient Energy Measurements for GPUs: A Detailed Study of
NVIDIA GPU's Built-In Power Sensor" (SC'24, arXiv 2312.02741), their results workbook (github.com/JimZeyuYang/
GPU_Power_Benchmark, 4b5c944, Overall_Results.xlsx, sheet "Local GPUs"): energy by the sensor against an external meter.
For a board in the study, the larger of its steady-state and energy errors over drivers. For any other board, the 90th
percentile of the energy errors of the study's 13 boards from Maxwell on (7.8%), rounded up. Whether the energy counter
integrates the same sensor is not documented: the same bound is given to both.
"""

import re
from dataclasses import dataclass

PUBLICATION = "Yang, Adamek, Armour, SC'24, arXiv 2312.02741, Overall_Results.xlsx, Local GPUs"
OTHER_BOARDS_RATIO = 0.08
INTEGRATION_RATIO = 0.01
"""Power integrated by polling against the counter, steady load: "at most 1% difference" (ml-energy/zeus issue 12)."""

TERA = 10**12
GIGA = 10**9


@dataclass(frozen=True, slots=True)
class Peak:
    """What a product can do at most: dense BF16 FLOP/s, memory bytes/s, and the datasheet that says so."""

    flops: float
    bytes_per_second: float
    datasheet: str


def _peak(teraflops: float, gigabytes_per_second: float, datasheet: str) -> Peak:
    return Peak(teraflops * TERA, gigabytes_per_second * GIGA, datasheet)


_A100 = "NVIDIA A100 Tensor Core GPU datasheet, 1758950-r4"
_H100 = "NVIDIA H100 Tensor Core GPU datasheet, SXM and PCIe (1979 and 1513 TFLOPS with sparsity)"
_H100_NVL = "NVIDIA H100 Tensor Core GPU datasheet, NVL (1671 TFLOPS with sparsity)"
_H200 = "NVIDIA H200 Tensor Core GPU datasheet, SXM and NVL (1979 and 1671 TFLOPS with sparsity)"
_B200 = "NVIDIA Blackwell datasheet, HGX B200 (4.5 PFLOPS with sparsity)"

PEAKS = {
    "NVIDIA A100-PCIE-40GB": _peak(312, 1555, _A100),
    "NVIDIA A100-SXM4-40GB": _peak(312, 1555, _A100),
    "NVIDIA A100 80GB PCIe": _peak(312, 1935, _A100),
    "NVIDIA A100-SXM4-80GB": _peak(312, 2039, _A100),
    "NVIDIA H100 80GB HBM3": _peak(989.5, 3350, _H100),
    "NVIDIA H100 PCIe": _peak(756.5, 2000, _H100),
    "NVIDIA H100 NVL": _peak(835.5, 3900, _H100_NVL),
    "NVIDIA H200": _peak(989.5, 4800, _H200),
    "NVIDIA H200 NVL": _peak(835.5, 4800, _H200),
    "NVIDIA B200": _peak(2250, 7700, _B200),
    "NVIDIA A10": _peak(125, 600, "NVIDIA A10 Tensor Core GPU datasheet"),
    "NVIDIA L4": _peak(121, 300, "NVIDIA L4 Tensor Core GPU datasheet (242 TFLOPS with sparsity)"),
    "NVIDIA L40S": _peak(362.05, 864, "NVIDIA L40S datasheet"),
    "NVIDIA GeForce RTX 4090": _peak(165.2, 1008, "NVIDIA Ada GPU Architecture, appendix A (FP32 accumulate)"),
}

_BOARDS = (
    ("A100", 0.06),  # A100-PCIE-40GB: -5.5% steady, -5.8% energy
    ("RTX 4090", 0.06),  # -4.3%, -5.3%
    ("RTX 3090", 0.06),  # two machines: -4.7%, -5.6%; -2.6%, -3.7%
    ("RTX 3070 Ti", 0.04),  # -2.7%, -4.0%
    ("RTX A5000", 0.08),  # -6.1%, -7.0%
    ("RTX 2080 Ti", 0.09),  # -6.4%, -8.0%
    ("RTX 2060 SUPER", 0.14),  # +11.4%, +13.2%
    ("Tesla K80", 0.09),  # -8.9%
    ("Quadro K620", 0.42),  # -41.1%: estimated by the board, not measured
)


_SUPERCHIP = re.compile(r"\bG[HB][23]00\b")
"""Grace Hopper and Grace Blackwell, by the driver's name: NVIDIA GH200 480GB, NVIDIA GB200, NVIDIA GB300."""


def is_superchip(name: str) -> bool:
    """Return whether a product shares its module with a CPU, by the driver's name for it."""
    return bool(_SUPERCHIP.search(name))


def peak(name: str) -> Peak | None:
    """Return the peak rates of a product by the driver's name for it, None where no datasheet is in the table."""
    return PEAKS.get(name)


def systematic_ratio(name: str, *, integrated: bool) -> float:
    """Return the 90% bound of a board's sensor; integrating power adds what polling was found to add."""
    sensor = next((ratio for board, ratio in _BOARDS if board in name), OTHER_BOARDS_RATIO)
    return round(sensor + (INTEGRATION_RATIO if integrated else 0.0), 3)
