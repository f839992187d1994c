"""Builds the stand-in libamd_smi.so, and writes the page that it answers from.

The real package `amdsmi` binds every symbol of the library when it is imported. So the stand-in has them all: the calls
that are needed, written by hand in amd_smi.c, and for every other name in the installed package's wrapper a stub that
returns 2 (not supported). A later amdsmi brings more names, and the stubs follow.
"""

import importlib
import importlib.util
import mmap
import os
import re
import shutil
import struct
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

from tests.real.conftest import missing

PAGE = "INFERWATT_AMD_SMI_PAGE"
BYTES = 65_536
NONE16, NONE32, NONE64 = 0xFFFF, 0xFFFFFFFF, 0xFFFFFFFFFFFFFFFF
"""What the library says where it has nothing to say."""
ROUNDED = 15.3
"""The resolution that the library hands out, in µJ (a C float)."""

_HEAD = ("count", "init_status", "inits", "shutdowns", "init_hang")
_FIELDS = {
    "amdsmi_power_info_t": ("current_socket_power", "average_socket_power", "socket_power"),
    "amdsmi_engine_usage_t": ("gfx_activity",),
    "amdsmi_asic_info_t": ("market_name",),
    "amdsmi_driver_info_t": ("driver_version",),
    "amdsmi_power_cap_info_t": ("power_cap", "max_power_cap"),
    "amdsmi_clk_info_t": ("clk",),
}
_NAMES = tuple(name for names in _FIELDS.values() for name in names)
_NUMBERS = (
    *("status", "energy_status", "power_status", "activity_status", "asic_status", "calls", "hang", "bdf"),
    *("accumulator", "step", "resolution", "timestamp_ns", "current_watts", "average_watts", "socket_watts"),
    *("busy_percent", "hotspot_celsius", "edge_celsius", "clock_mhz", "cap_uw", "max_cap_uw", "since_init"),
)
_TEXTS = ("name", "uuid", "driver")
_FIRST_FIELD, _FIRST_GPU, _FIRST_TEXT, _GPU_WORDS = 16, 64, 32, 64
_HERE = Path(__file__).parent


def build(root: Path, *, without: str = "") -> Path:
    """Build the library under `root`, as a ROCm of its own (``lib/libamd_smi.so``), and return `root`.

    Args:
        root: an empty folder.
        without: the stub of this symbol is left out, as in a library that is older than the package.
    """
    compiler = shutil.which(os.environ.get("CC", "cc"))
    if compiler is None:
        missing("there is no C compiler: apt install gcc libc6-dev")
    source = root / "amd_smi.c"
    source.write_text(_head(without) + (_HERE / "amd_smi.c").read_text())
    (root / "lib").mkdir(exist_ok=True)
    library = root / "lib" / "libamd_smi.so"
    subprocess.run([compiler, "-shared", "-fPIC", "-O1", "-Wall", "-Werror", "-o", library, source], check=True)
    return root


def wrapper() -> Path:
    """Return the file in which the installed package binds the library's symbols."""
    spec = importlib.util.find_spec("amdsmi")
    if spec is None or not spec.submodule_search_locations:
        missing("the package amdsmi is not installed: pip install amdsmi")
    return Path(spec.submodule_search_locations[0]) / "amdsmi_wrapper.py"


def symbols() -> set[str]:
    """Return the names of all symbols that the installed package binds."""
    return set(re.findall(r"_libraries\['libamd_smi\.so'\]\.(\w+)", wrapper().read_text()))


@contextmanager
def rocm(root: Path) -> Iterator[None]:
    """Let the package look for its library in `root`, as if nobody had imported it yet; all is as it was afterwards."""
    before = {name: os.environ.get(name) for name in ("ROCM_PATH", "ROCM_HOME")}
    modules = _taken()
    os.environ.update(dict.fromkeys(before, str(root)))
    try:
        yield
    finally:
        _taken()
        sys.modules.update(modules)
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})


@contextmanager
def imported(root: Path) -> Iterator[ModuleType]:
    """Import the real package upon the stand-in, and forget it afterwards."""
    with rocm(root):
        yield importlib.import_module("amdsmi")


class Page:
    """What the stand-in says: words by name, for the whole and for each GPU."""

    def __init__(self, file: Path, amdsmi: ModuleType | None = None) -> None:
        """Map the page in `file`, made where there is none; `amdsmi` lays out the structs."""
        if not file.exists():
            file.write_bytes(bytes(BYTES))
        with file.open("r+b") as opened:
            self._map = mmap.mmap(opened.fileno(), BYTES)
        if amdsmi is not None:
            self._lay_out(amdsmi)

    def __getitem__(self, name: str) -> int:
        return self._word(_HEAD.index(name))

    def __setitem__(self, name: str, value: int) -> None:
        self._set(_HEAD.index(name), value)

    def add(self, bdf: str, **words: int | float | str) -> int:
        """Add a GPU at a PCI address, an MI300X that draws 140 W unless `words` say otherwise; return its number."""
        number = self["count"]
        self["count"] = number + 1
        idle: dict[str, int | float | str] = {
            "accumulator": 1 << 32,
            "resolution": ROUNDED,
            "timestamp_ns": 10**15,
            "current_watts": 140,
            "average_watts": NONE16,
            "socket_watts": 140,
            "hotspot_celsius": 45,
            "edge_celsius": NONE64,
            "clock_mhz": 132,
            "cap_uw": 750_000_000,
            "max_cap_uw": 750_000_000,
            "name": "AMD Instinct MI300X OAM",
            "uuid": f"{number:02x}ff74a1-0000-1000-8012-3456789abcde",
            "driver": "6.12.12",
        }
        domain, bus, device, function = (int(part, 16) for part in re.split("[:.]", bdf))
        self.set(number, bdf=domain << 16 | bus << 8 | device << 3 | function, **{**idle, **words})
        return number

    def set(self, gpu: int, **words: int | float | str) -> None:
        """Set words of one GPU."""
        for name, value in words.items():
            if isinstance(value, str):
                at = 8 * (_FIRST_GPU + gpu * _GPU_WORDS + _FIRST_TEXT + 8 * _TEXTS.index(name))
                self._map[at : at + 64] = value.encode().ljust(64, b"\0")
            else:
                number = struct.unpack("<I", struct.pack("<f", value))[0] if name == "resolution" else int(value)
                self._set(_FIRST_GPU + gpu * _GPU_WORDS + _NUMBERS.index(name), number)

    def get(self, gpu: int, name: str) -> int:
        """Return one word of one GPU."""
        return self._word(_FIRST_GPU + gpu * _GPU_WORDS + _NUMBERS.index(name))

    def close(self) -> None:
        """Unmap the page."""
        self._map.close()

    def _lay_out(self, amdsmi: ModuleType) -> None:
        """Write where the package has the fields of its structs; a field of another version has no size."""
        numbers = {name: number for number, name in enumerate(_NAMES)}
        for struct_name, names in _FIELDS.items():
            for name in names:
                field = getattr(getattr(amdsmi.amdsmi_wrapper, struct_name), name, None)
                at = _FIRST_FIELD + 2 * numbers[name]
                self._set(at, field.offset if field else 0)
                self._set(at + 1, field.size if field else 0)

    def _word(self, at: int) -> int:
        return int(struct.unpack_from("<Q", self._map, 8 * at)[0])

    def _set(self, at: int, value: int) -> None:
        struct.pack_into("<Q", self._map, 8 * at, value)


def _head(without: str) -> str:
    """Return what goes before amd_smi.c: the numbers of the words, and the stubs."""
    numbers = {
        **{name: at for at, name in enumerate(_HEAD)},
        **{name: at for at, name in enumerate(_NUMBERS)},
        **{name: _FIRST_TEXT + 8 * at for at, name in enumerate(_TEXTS)},
        **{f"f_{name}": at for at, name in enumerate(_NAMES)},
        **{"first_field": _FIRST_FIELD, "first_gpu": _FIRST_GPU, "gpu_words": _GPU_WORDS, "page_bytes": BYTES},
    }
    by_hand = set(re.findall(r"^int (amdsmi_\w+)\(", (_HERE / "amd_smi.c").read_text(), re.MULTILINE))
    defines = "".join(f"#define {name.upper()} {number}\n" for name, number in numbers.items())
    stubs = "".join(f"int {name}(void) {{ return 2; }}\n" for name in sorted(symbols() - by_hand - {without}))
    return f"#include <stdint.h>\n{defines}{stubs}"


def _taken() -> dict[str, ModuleType]:
    """Take the package out of what is imported, and return what it was."""
    return {name: sys.modules.pop(name) for name in list(sys.modules) if name.partition(".")[0] == "amdsmi"}
