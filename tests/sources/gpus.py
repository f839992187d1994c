"""NVIDIA GPUs for tests: the real binding over the stand-in library, with trees that say that the hardware is there."""

import ctypes
from collections.abc import Callable, Iterator
from pathlib import Path

import pynvml
import pytest

from inferwatt.records import Condition, Device, Reading, Usage
from inferwatt.sources import Found, Said, SourcesConfig
from inferwatt.sources.nvml import NvmlGpu, find
from inferwatt.sources.nvml_api import Session
from tests.doubles.nvml import VARIABLE, Gpu, StandIn, built, compiler
from tests.real.conftest import missing

MS = 1_000_000
SECOND = 1000 * MS


@pytest.fixture(scope="session")
def nvml_library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The stand-in, compiled once."""
    if compiler() is None:
        missing("there is no C compiler: apt install gcc libc6-dev")
    return built(tmp_path_factory.mktemp("nvml"))


class Machine:
    """A machine with GPUs: the stand-in's page, a session of NVML of its own, and the trees that sources look at."""

    def __init__(self, folder: Path, count: int) -> None:
        self.stand_in = StandIn(folder, count)
        self.gpus: list[Gpu] = self.stand_in.gpus
        self.session = Session()
        self.dev = folder / "dev"
        self.dev.mkdir()
        (self.dev / "nvidiactl").touch()
        self.proc = folder / "proc"
        (self.proc / "sys" / "kernel").mkdir(parents=True)
        (self.proc / "sys" / "kernel" / "pid_max").write_text("4194304\n")
        self.settings = SourcesConfig(sysfs_root=str(folder / "sys"), proc_root=str(self.proc))

    def find(self) -> Found:
        """Look for the GPUs, as the agent does at its start and again when one is gone."""
        return find(self.settings, self.session, dev_root=str(self.dev))

    def open(self) -> list[NvmlGpu]:
        """Return the GPUs that are found."""
        return [source for source in self.find().sources if isinstance(source, NvmlGpu)]

    def only(self) -> NvmlGpu:
        """Return the one GPU of this machine."""
        (gpu,) = self.open()
        return gpu


@pytest.fixture
def machine_of(
    nvml_library: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[[int], Machine]]:
    """Make a machine with so many GPUs; the binding's library is the stand-in until the test ends."""
    library = ctypes.CDLL(str(nvml_library))
    monkeypatch.setattr(pynvml, "nvmlLib", library)
    pynvml._nvmlGetFunctionPointer_cache.clear()

    def make(count: int = 1) -> Machine:
        machine = Machine(tmp_path, count)
        monkeypatch.setenv(VARIABLE, str(machine.stand_in.path))
        return machine

    yield make
    while library.nvmlShutdown() == 0:
        pass  # what a test left open
    pynvml._nvmlGetFunctionPointer_cache.clear()


def parts(said: Said) -> tuple[Reading | None, Usage | None, Condition | None]:
    """Return what one read brought, by kind."""
    records = said if isinstance(said, tuple) else (said,)
    reading = next((record for record in records if isinstance(record, Reading)), None)
    usage = next((record for record in records if isinstance(record, Usage)), None)
    return reading, usage, next((record for record in records if isinstance(record, Condition)), None)


def devices(found: Found) -> list[Device]:
    """Return the devices that were found."""
    return [source.device for source in found.sources]
