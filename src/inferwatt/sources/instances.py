"""What is published of a cloud's instance types: the processor, threads per logical CPU, accelerators. Data, look-up.

The processor is used only where CPUID does not tell it: CPUID is what this very machine has. It is Amazon's column
"Platform CPU Name" in ``data/aws-instances-latest-2026.csv`` of github.com/cloud-carbon-footprint/ccf-coefficients,
commit b0032d92, by generation (EPYC 7R32 is Zen 2, 7R13 Zen 3, 9R14 Zen 4, 9R45 Zen 5; Graviton2 is Neoverse N1). For
Google and Microsoft it is left out: their series have several processors each, and that file and Google's own pages
differ on some.

`threads` is how many hardware threads one logical CPU stands for: two where a cloud sells whole cores of a processor
with two threads each. Amazon: C7a, M7a and R7a ("x86 instances" in Financial Services Grid Computing on AWS; "CPU
options for Amazon EC2 instances"). Google: T2D, H3 and H4D "always have one vCPU per core" ("CPU platforms").

Accelerators: "Accelerated computing" in "Amazon EC2 instance types"; "GPU machine types", Compute Engine. Microsoft's
name theirs themselves (Standard_ND96isr_H100_v5).
"""

import re
from dataclasses import dataclass

from inferwatt.sources.cloud import AZURE, EC2, GCE, Instance


@dataclass(frozen=True, slots=True)
class Series:
    """One series of instances; `types` is the pattern of its types. Empty words are not known."""

    cloud: str
    types: str
    microarchitecture: str = ""
    threads: int = 1
    accelerator: str = ""


UNKNOWN = Series("", "")
_SIZE = r"\..+"
SERIES = (
    Series(EC2, r"[cmr]6i\w*" + _SIZE, "Ice Lake"),
    Series(EC2, r"([cmr]7i(-flex)?|r7iz)" + _SIZE, "Sapphire Rapids"),
    Series(EC2, r"[cmr]8id?(-flex)?" + _SIZE, "Granite Rapids"),
    Series(EC2, r"[cmr]6a" + _SIZE, "Zen 3"),
    Series(EC2, r"[cmr]7a" + _SIZE, "Zen 4", threads=2),
    Series(EC2, r"[cmr]8a" + _SIZE, "Zen 5"),
    Series(EC2, r"[cmr]6g\w*" + _SIZE, "Neoverse N1"),
    Series(EC2, r"g4dn" + _SIZE, "Cascade Lake", accelerator="NVIDIA T4"),
    Series(EC2, r"g5" + _SIZE, "Zen 2", accelerator="NVIDIA A10G"),
    Series(EC2, r"g6" + _SIZE, "Zen 3", accelerator="NVIDIA L4"),
    Series(EC2, r"g6e" + _SIZE, "Zen 3", accelerator="NVIDIA L40S"),
    Series(EC2, r"p4de?" + _SIZE, accelerator="NVIDIA A100"),
    Series(EC2, r"p5" + _SIZE, "Zen 3", accelerator="NVIDIA H100"),
    Series(EC2, r"p5e" + _SIZE, "Zen 3", accelerator="NVIDIA H200"),
    Series(EC2, r"p5en" + _SIZE, "Sapphire Rapids", accelerator="NVIDIA H200"),
    Series(EC2, r"p6-b200" + _SIZE, "Emerald Rapids", accelerator="NVIDIA B200"),
    Series(GCE, r"(t2d|h3|h4d)-.+", threads=2),
    Series(GCE, r"a2-.+", accelerator="NVIDIA A100"),
    Series(GCE, r"a3-(edge|high|mega)gpu-.+", accelerator="NVIDIA H100"),
    Series(GCE, r"a3-ultragpu-.+", accelerator="NVIDIA H200"),
    Series(GCE, r"a4-.+", accelerator="NVIDIA B200"),
    Series(GCE, r"g2-.+", accelerator="NVIDIA L4"),
    Series(AZURE, r"Standard_N\w*_A100\w*", accelerator="NVIDIA A100"),
    Series(AZURE, r"Standard_N\w*_H100\w*", accelerator="NVIDIA H100"),
    Series(AZURE, r"Standard_N\w*_H200\w*", accelerator="NVIDIA H200"),
    Series(AZURE, r"Standard_N\w*_MI300X\w*", accelerator="AMD MI300X"),
    Series(AZURE, r"Standard_NC\w*_T4_v3", accelerator="NVIDIA T4"),
)


def series_of(instance: Instance) -> Series:
    """Return what is published of this instance, nothing where it is not in the table."""
    for series in SERIES:
        if series.cloud == instance.cloud and re.fullmatch(series.types, instance.type):
            return series
    return UNKNOWN
