"""Drives the stand-in for libnvidia-ml.so.1 (nvml.c): one page of memory that this writes and the library reads.

`built` compiles it once, `StandIn` is the page. The layout is that of nvml.c; `StandIn` asks the library how large its
page is, so that the two cannot drift apart unseen.
"""

import ctypes
import mmap
import re
import shutil
import subprocess
import time
from pathlib import Path

SOURCE = Path(__file__).with_name("nvml.c")
SONAME = "libnvidia-ml.so.1"
VARIABLE = "NVML_STAND_IN"
"""The environment variable that names the page."""
CALLS = re.findall(r"X\((nvml\w+)\)", SOURCE.read_text(encoding="utf-8"))
"""Every call of a device, in the order of nvml.c."""
DEVICES, FIELDS, PROCESSES, SAMPLES, INSTANCES = 16, 16, 16, 64, 8
NO_ID = -1
_U32, _I32, _U64 = ctypes.c_uint32, ctypes.c_int32, ctypes.c_uint64


class Pace(ctypes.Structure):
    """A counter that grows by `power_mw` from `base_mj` at `since_ns` on; it stands still at 0 mW."""

    _fields_ = (("base_mj", _U64), ("since_ns", _U64), ("power_mw", _U64))


class Field(ctypes.Structure):
    """What one field answers in one scope."""

    _fields_ = (("id", _U32), ("scope", _U32), ("code", _I32), ("type", _U32), ("value", _U64))


class Process(ctypes.Structure):
    """One process on a device: 0 computes, 1 draws, 2 computes under MPS."""

    _fields_ = (
        ("pid", _U32),
        ("graphics", _U32),
        ("gpu_instance", _I32),
        ("compute_instance", _I32),
        ("used_bytes", _U64),
    )


class Sample(ctypes.Structure):
    """How much of a device a process used until `time_us`, percent."""

    _fields_ = (("time_us", _U64), ("pid", _U32), ("sm", _U32), ("memory", _U32), ("unused", _U32))


class Instance(ctypes.Structure):
    """One MIG device; `busy_ns` of `elapsed_ns` is what its GPM counters have seen so far."""

    _fields_ = (
        ("exists", _U32),
        ("gpu_instance", _U32),
        ("compute_instance", _U32),
        ("slices", _U32),
        ("busy_ns", _U64),
        ("elapsed_ns", _U64),
    )


class DevicePage(ctypes.Structure):
    """One GPU; see nvml.c for each word."""

    _fields_ = (
        ("name", ctypes.c_char * 96),
        ("uuid", ctypes.c_char * 96),
        ("status", _I32),
        ("absent", _I32),
        ("codes", _I32 * len(CALLS)),
        ("calls", _U32 * len(CALLS)),
        ("delay_ns", _U64),
        ("delayed_call", ctypes.c_int64),
        ("tick_ns", _U64),
        ("paces", Pace * 2),
        ("which", _U64),
        *((name, _U32) for name in ["average_mw", "instant_mw", "limit_mw", "max_limit_mw", "default_limit_mw"]),
        *((name, _U32) for name in ["celsius", "clock_mhz", "busy", "memory_busy"]),
        *((name, _U32) for name in ["architecture", "persistence", "c2c", "mig", "gpm", "cores"]),
        ("hides_processes", _U64),
        ("memory_bytes", _U64),
        ("memory_used_bytes", _U64),
        ("reasons", _U64),
        ("throttled_ns", _U64 * 6),
        ("field_count", _U64),
        ("process_count", _U64),
        ("sample_count", _U64),
        ("fields", Field * FIELDS),
        ("processes", Process * PROCESSES),
        ("samples", Sample * SAMPLES),
        ("instances", Instance * INSTANCES),
    )


class Page(ctypes.Structure):
    """The whole page."""

    _fields_ = (
        ("count", _U64),
        ("epoch", _U64),
        ("init_status", _I32),
        ("count_status", _I32),
        ("stale_status", _I32),
        ("process_stride", _U32),
        ("inits", _U32),
        ("shutdowns", _U32),
        ("cuda_version", _U32),
        ("max_slices", _U32),
        ("driver", ctypes.c_char * 80),
        ("devices", DevicePage * DEVICES),
    )


class Gpu:
    """One GPU of the stand-in, in the words of a test; `page` has all the rest."""

    def __init__(self, page: DevicePage) -> None:
        self.page = page

    @property
    def energy_mj(self) -> int:
        """Return what the counter starts from; set it and the counter stands there."""
        return int(self.page.paces[self.page.which & 1].base_mj)

    @energy_mj.setter
    def energy_mj(self, energy_mj: int) -> None:
        self._turn(Pace(energy_mj, 0, 0))

    def run(self, watts: float, *, tick_ns: int = 0) -> None:
        """Let the counter grow by the clock from where it is, and the power fields say the same."""
        now_ns = time.monotonic_ns()
        pace = self.page.paces[self.page.which & 1]
        grown_mj = int(pace.power_mw) * max(now_ns - int(pace.since_ns), 0) // 10**9 if pace.power_mw else 0
        self.page.tick_ns = tick_ns
        self.page.average_mw = self.page.instant_mw = round(watts * 1000)
        self._turn(Pace(int(pace.base_mj) + grown_mj, now_ns, round(watts * 1000)))

    def _turn(self, pace: Pace) -> None:
        """Write the other pace, then point at it: a reader sees the old one or the new one, never half of each."""
        other = 1 - (self.page.which & 1)
        self.page.paces[other] = pace
        self.page.which = other

    def answer(self, call: str, code: int) -> None:
        """Let one call answer `code` from now on."""
        self.page.codes[CALLS.index(call)] = code

    def hang(self, call: str = "", seconds: float = 3600.0) -> None:
        """Let one call (every one where it is empty) take so long, or until `release`."""
        self.page.delayed_call = CALLS.index(call) if call else -1
        self.page.delay_ns = round(seconds * 1e9)

    def release(self) -> None:
        """Let calls that hang come back, and no more hang."""
        self.page.delay_ns = 0

    def calls(self, call: str) -> int:
        """Return how often a call was made."""
        return int(self.page.calls[CALLS.index(call)])

    def field(self, number: int, value: int = 0, *, scope: int = 0, code: int = 0, kind: int = 3) -> None:
        """Let a field answer by a value of its own: `kind` 1 is 32 bits, 3 is 64 bits, both unsigned."""
        at = next((i for i in range(self.page.field_count) if self._is(i, number, scope)), self.page.field_count)
        self.page.fields[at] = Field(number, scope, code, kind, value)
        self.page.field_count = max(self.page.field_count, at + 1)

    def _is(self, at: int, number: int, scope: int) -> bool:
        return (self.page.fields[at].id, self.page.fields[at].scope) == (number, scope)

    def hold(self, *pids: int, graphics: bool = False, instance: tuple[int, int] = (NO_ID, NO_ID)) -> None:
        """Put processes on the device."""
        for pid in pids:
            self.page.processes[self.page.process_count] = Process(pid, int(graphics), *instance, 1 << 30)
            self.page.process_count += 1

    def sampled(self, time_us: int, shares: dict[int, int]) -> None:
        """Add one utilisation sample for each pid, percent, as of `time_us`."""
        for pid, percent in shares.items():
            self.page.samples[self.page.sample_count] = Sample(time_us, pid, percent, 0, 0)
            self.page.sample_count += 1

    def slice_into(self, *slices: int) -> None:
        """Turn MIG on, with one instance of each size; their ids are 1, 2, 3 and so on."""
        self.page.mig = 1
        for at, size in enumerate(slices):
            self.page.instances[at] = Instance(1, at + 1, 0, size, 0, 0)

    def lose(self, code: int = 15) -> None:
        """Let every call answer that the GPU is lost."""
        self.page.status = code

    def come_back(self) -> None:
        """Let it answer again, on the bus again."""
        self.page.status = self.page.absent = 0


class StandIn:
    """The page of the stand-in in `folder`, with `count` GPUs that draw nothing until a test says so."""

    def __init__(self, folder: Path, count: int = 1) -> None:
        self.path = folder / "nvml.page"
        self.path.write_bytes(bytes(ctypes.sizeof(Page)))
        with self.path.open("r+b") as file:
            self._memory = mmap.mmap(file.fileno(), ctypes.sizeof(Page))
        self.page = Page.from_buffer(self._memory)
        self.page.process_stride = 24
        self.page.max_slices = 7
        self.page.stale_status = 999
        self.page.cuda_version = 13000
        self.page.driver = b"580.95.05"
        self.gpus = [Gpu(self.page.devices[index]) for index in range(DEVICES)]
        for index, gpu in enumerate(self.gpus):
            _fill(gpu.page, index)
        self.page.count = count

    @property
    def environment(self) -> dict[str, str]:
        """Return what a process that is to see this page needs in its environment."""
        return {VARIABLE: str(self.path)}

    def reload_driver(self) -> None:
        """Load the driver anew: sessions of before are stale, counters begin at zero."""
        self.page.epoch += 1
        for gpu in self.gpus:
            gpu.energy_mj = 0


def _fill(page: DevicePage, index: int) -> None:
    page.name = b"NVIDIA H100 80GB HBM3"
    page.uuid = f"GPU-00000000-0000-0000-0000-{index:012}".encode()
    page.delayed_call = -1
    page.paces[0] = Pace(1_000_000 * (index + 1), 0, 0)
    page.average_mw, page.instant_mw = 300_000, 310_000
    page.limit_mw = page.default_limit_mw = 650_000
    page.max_limit_mw = 700_000
    page.celsius, page.clock_mhz, page.busy = 51, 1_755, 40
    page.architecture, page.persistence, page.cores = 9, 1, 16_896
    page.memory_bytes, page.memory_used_bytes = 80 << 30, 20 << 30


def compiler() -> str | None:
    """Return the C compiler of this machine, None without one."""
    return shutil.which("cc")


def built(folder: Path) -> Path:
    """Compile the stand-in into `folder` under the driver's name; return the library.

    Raises:
        RuntimeError: it and this file do not agree on the page.
    """
    library = folder / SONAME
    flags = ("-O2", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC", f"-Wl,-soname,{SONAME}")
    subprocess.run([compiler() or "cc", *flags, "-o", str(library), str(SOURCE)], check=True)
    loaded = ctypes.CDLL(str(library))
    bytes_there = (loaded.stand_in_page_bytes(), loaded.stand_in_device_bytes())
    if bytes_there != (ctypes.sizeof(Page), ctypes.sizeof(DevicePage)):
        raise RuntimeError(f"nvml.c has {bytes_there}, not {(ctypes.sizeof(Page), ctypes.sizeof(DevicePage))}")
    return library
