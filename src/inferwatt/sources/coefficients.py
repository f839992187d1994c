"""Watts per logical CPU by microarchitecture, each row with where it comes from. Data and look-up only, no I/O.

Source of the rows: SPECpower_ssj2008 results (spec.org/power_ssj2008/results), as transcribed in
github.com/cloud-carbon-footprint/ccf-coefficients, ``data/SPECpower-2026-03-09.csv``, commit
b0032d928c787cf76cecd7d1d611c5b46f366e29 (2026-04-24). A row here stands for those rows of that file whose
"CPU Description" matches `match` and whose threads = cores x threads per core = chips x cores per chip x threads per
core (two threads a core; one for Sierra Forest and Neoverse N1). `idle_uw` and `full_uw` are the medians over these
`results` of "avg. watts @ active idle" and "avg. watts @ 100%" by "Total Threads". We take medians of a named set and
not that project's averages: its EPYC 5th Gen average (3.68 and 8.96 W a thread) comes from parts of another socket.
`spread_ratio` is the 90th percentile, over the same results, of how far a server lies from the row at half load.

What such a figure can and cannot say (all of it is in `systematic_ratio`):

- It is a whole server's power at the wall, tuned for efficiency, under Java business load. The processor package alone
  needs less of the wall, but more under vector-heavy load: package power by RAPL of three bare-metal machines under a
  stress load (Teads, in ``data/aws-instances.csv`` of the same commit, rows m5.metal, i3.metal and c5.metal:
  477.98/96, 281.13/72 and 626.76/96 W a thread) is 1.21, 1.26 and 1.62 times this table's full load. `WORKLOAD_RATIO`.
- A straight line from idle to full load is off by -35% to +30% (5th and 95th percentile at the worst of nine load
  levels, 229 servers of 2016 and later in github.com/green-coding-solutions/spec-power-model,
  ``data/spec_data_cleaned_unmelted.csv``, last changed 2022-10-30): too low at 10%, too high at 60%. `LINE_RATIO`.
- A logical CPU is taken for a hardware thread, for two where the cloud is known to sell whole cores (instances.py).
  Where it does so unknown to us, the true share is up to twice this.
- It has the server's memory, fans and losses in it. So there is no figure for DRAM beside it: that would count it
  twice.

Which CPUID is which microarchitecture: Linux, arch/x86/include/asm/intel-family.h and arch/x86/kernel/cpu/amd.c.
EPYC 8004 (Siena) has the CPUID of Zen 4c, but its small servers are not in that row.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from math import hypot

PUBLICATION = "SPECpower_ssj2008 by ccf-coefficients b0032d92, data/SPECpower-2026-03-09.csv"
WORKLOAD_RATIO = 0.50
LINE_RATIO = 0.30
LEAST_RATIO = 0.40
"""No modelled figure claims better than this, whatever its parts say."""


@dataclass(frozen=True, slots=True)
class Row:
    """One row of the table: microwatts per logical CPU, the 90% spread between servers, and where from."""

    microarchitecture: str
    vendor: str
    idle_uw: int
    full_uw: int
    spread_ratio: float
    results: int
    match: str


@dataclass(frozen=True, slots=True)
class Cpu:
    """Which processor: vendor and numbers as CPUID gives them; zeros and blanks are unknown.

    `is_guest` is CPUID's word that a hypervisor is below (x86 only: Arm has no such flag).
    """

    vendor: str = ""
    family: int = 0
    model: int = 0
    stepping: int = 0
    name: str = ""
    part: int = 0
    is_guest: bool = False


@dataclass(frozen=True, slots=True)
class Coefficients:
    """What the model uses, per logical CPU, and how far it can be off (90%, the same for every request)."""

    kind: str
    idle_uw: int
    full_uw: int
    systematic_ratio: float
    known: bool


AMD, HYGON, INTEL, ARM = "AuthenticAMD", "HygonGenuine", "GenuineIntel", "ARM"

ROWS = (
    Row("Zen 5c", AMD, 210_938, 1_146_875, 0.13, 31, r"EPYC 9(965|845|825|745|645)\b"),
    Row("Zen 5", AMD, 353_385, 1_976_562, 0.11, 8, r"EPYC 9(755|655P?)\b"),
    Row("Zen 4/5 AM5", AMD, 1_127_604, 4_354_167, 0.38, 4, r"EPYC 4\d\d[45]P"),
    Row("Zen 4c", AMD, 232_227, 1_329_102, 0.16, 30, r"EPYC 97\d4"),
    Row("Zen 4", AMD, 331_250, 1_864_583, 0.12, 20, r"EPYC 9[0-6]\d4"),
    Row("Zen 3", AMD, 421_875, 1_828_125, 0.24, 21, r"EPYC 7\w\w3\b"),
    Row("Zen 2", AMD, 437_109, 1_664_062, 0.19, 36, r"EPYC 7\w\w2P?\b"),
    Row("Zen", AMD, 743_750, 2_320_312, 0.24, 10, r"EPYC 7\w\w1P?\b"),
    Row("Granite Rapids", INTEL, 609_012, 2_712_209, 0.15, 26, r"Xeon 6[579]\d\dP"),
    Row("Sierra Forest", INTEL, 694_444, 2_524_306, 0.20, 15, r"Xeon 67\d\dE"),
    Row("Emerald Rapids", INTEL, 833_984, 3_313_477, 0.45, 32, r"(Platinum|Gold|Silver|Bronze) [3-8]5\d\d"),
    Row("Sapphire Rapids", INTEL, 900_000, 3_987_500, 0.32, 63, r"(Platinum|Gold|Silver|Bronze) [3-8]4\d\d"),
    Row("Ice Lake", INTEL, 923_611, 4_099_375, 0.26, 43, r"(Platinum|Gold|Silver|Bronze) [3-8]3\d\d(?!H)"),
    Row("Cooper Lake", INTEL, 866_071, 4_629_464, 0.22, 8, r"(Platinum|Gold) [5-8]3\d\dHL?\b"),
    Row("Cascade Lake", INTEL, 602_679, 4_038_149, 0.24, 77, r"(Platinum|Gold|Silver|Bronze) [3-8]2\d\d"),
    Row("Skylake", INTEL, 530_357, 4_120_536, 0.19, 77, r"(Platinum|Gold|Silver|Bronze) [3-8]1\d\d"),
    Row("Broadwell", INTEL, 529_545, 3_090_909, 0.41, 17, r"E[57]-\d+L? v4"),
    Row("Haswell", INTEL, 654_167, 3_812_500, 0.15, 16, r"E[57]-\d+L? v3"),
    Row("Ivy Bridge", INTEL, 1_391_667, 5_458_333, 0.20, 3, r"E[57]-\d+L? v2"),
    Row("Sandy Bridge", INTEL, 1_753_125, 7_898_438, 0.48, 114, r"E5-\d{4}L?$"),
    Row("Coffee Lake", INTEL, 1_050_000, 5_975_000, 0.36, 9, r"E-2[12]\d\dG?"),
    Row("Neoverse N1", ARM, 617_188, 1_921_875, 0.30, 7, r"Altra"),
)

_ANY = range(1 << 16)
# (vendor, family, models, steppings) -> microarchitecture
_CPUID: tuple[tuple[str, int, range, range, str], ...] = (
    (AMD, 26, range(0x00, 0x10), _ANY, "Zen 5"),
    (AMD, 26, range(0x10, 0x20), _ANY, "Zen 5c"),
    (AMD, 26, range(0x40, 0x50), _ANY, "Zen 4/5 AM5"),
    (AMD, 25, range(0x60, 0x70), _ANY, "Zen 4/5 AM5"),
    (AMD, 25, range(0xA0, 0xB0), _ANY, "Zen 4c"),
    (AMD, 25, range(0x10, 0x20), _ANY, "Zen 4"),
    (AMD, 25, range(0x00, 0x10), _ANY, "Zen 3"),
    (AMD, 23, range(0x30, 0x40), _ANY, "Zen 2"),
    (AMD, 23, range(0x00, 0x10), _ANY, "Zen"),
    (INTEL, 6, range(0xAD, 0xAF), _ANY, "Granite Rapids"),
    (INTEL, 6, range(0xAF, 0xB0), _ANY, "Sierra Forest"),
    (INTEL, 6, range(0xCF, 0xD0), _ANY, "Emerald Rapids"),
    (INTEL, 6, range(0x8F, 0x90), _ANY, "Sapphire Rapids"),
    (INTEL, 6, range(0x6A, 0x6D), _ANY, "Ice Lake"),
    (INTEL, 6, range(0x55, 0x56), range(10, 16), "Cooper Lake"),
    (INTEL, 6, range(0x55, 0x56), range(5, 10), "Cascade Lake"),
    (INTEL, 6, range(0x55, 0x56), range(5), "Skylake"),
    (INTEL, 6, range(0x4F, 0x50), _ANY, "Broadwell"),
    (INTEL, 6, range(0x3F, 0x40), _ANY, "Haswell"),
    (INTEL, 6, range(0x3E, 0x3F), _ANY, "Ivy Bridge"),
    (INTEL, 6, range(0x2D, 0x2E), _ANY, "Sandy Bridge"),
    (INTEL, 6, range(0x9E, 0x9F), range(10, 16), "Coffee Lake"),
)
_NEOVERSE_N1_PART = 0xD0C
"""MIDR part number (Arm Neoverse N1 Technical Reference Manual, MIDR_EL1)."""


def microarchitecture(cpu: Cpu) -> str:
    """Return the microarchitecture by CPUID (or Arm part), empty where it is not in the table."""
    if cpu.vendor == ARM:
        return "Neoverse N1" if cpu.part == _NEOVERSE_N1_PART else ""
    for vendor, family, models, steppings, name in _CPUID:
        if (vendor, family) == (cpu.vendor, cpu.family) and cpu.model in models and cpu.stepping in steppings:
            return name
    return ""


def coefficients(cpu: Cpu, otherwise: str = "") -> Coefficients:
    """Return the row of this processor, or where it has none an interval over the rows that it could be.

    `otherwise` is the microarchitecture by other knowledge, for a CPUID that does not tell. The interval spans the
    rows of the same vendor (all rows where that is unknown too): its centre is the figure and its half-width enters
    the uncertainty, so that nobody takes it for a row.
    """
    name = microarchitecture(cpu) or otherwise
    for row in ROWS:
        if row.microarchitecture == name:
            return Coefficients(name, row.idle_uw, row.full_uw, _bound(row.spread_ratio), known=True)
    rows = [row for row in ROWS if row.vendor == cpu.vendor] or list(ROWS)
    idle_uw, idle_ratio = _interval([row.idle_uw for row in rows])
    full_uw, full_ratio = _interval([row.full_uw for row in rows])
    return Coefficients("unknown CPU", idle_uw, full_uw, _bound(max(idle_ratio, full_ratio)), known=False)


def _interval(values: list[int]) -> tuple[int, float]:
    """Return the centre of the values and the half-width as a ratio of it."""
    low, high = min(values), max(values)
    return (low + high) // 2, (high - low) / (high + low)


def _bound(spread_ratio: float) -> float:
    """Add three independent causes as roots of squares: which server, which work, and the straight line."""
    return round(max(LEAST_RATIO, hypot(spread_ratio, WORKLOAD_RATIO, LINE_RATIO)), 2)


def describe_cpuinfo(text: str) -> Cpu:
    """Return the processor that the first block of ``/proc/cpuinfo`` describes."""
    fields = dict(_cpuinfo_fields(text.split("\n\n", 1)[0]))
    if "CPU part" in fields:
        return Cpu(ARM, name=fields.get("model name", ""), part=_number(fields["CPU part"]))
    return Cpu(
        vendor=fields.get("vendor_id", ""),
        family=_number(fields.get("cpu family", "")),
        model=_number(fields.get("model", "")),
        stepping=_number(fields.get("stepping", "")),
        name=fields.get("model name", ""),
        is_guest="hypervisor" in fields.get("flags", "").split(),
    )


def _cpuinfo_fields(block: str) -> Iterator[tuple[str, str]]:
    for line in block.splitlines():
        key, _, value = line.partition(":")
        yield key.strip(), value.strip()


def _number(text: str) -> int:
    try:
        return int(text, 0)
    except ValueError:
        return 0
