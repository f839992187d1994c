"""AMD GPUs for tests: a sysfs that has the cards, and the real package `amdsmi` upon the stand-in for its C library."""

import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from inferwatt.sources import Emitted, Found, Source, SourcesConfig
from inferwatt.sources.amdsmi import discover
from inferwatt.sources.amdsmi_binding import load
from inferwatt.sources.settings import AmdsmiConfig
from tests.doubles.amd_smi import PAGE, Page, build, imported
from tests.doubles.amd_sysfs import AmdSysfs


@pytest.fixture(scope="session")
def amd_library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The stand-in, compiled once: the folder of a ROCm."""
    return build(tmp_path_factory.mktemp("rocm"))


@pytest.fixture(scope="module")
def amdsmi(amd_library: Path) -> Iterator[ModuleType]:
    """The real package, imported upon the stand-in."""
    with imported(amd_library) as module:
        yield module
    load.cache_clear()


@pytest.fixture
def page(amdsmi: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Page]:
    """What the stand-in says: no GPU yet."""
    monkeypatch.setenv(PAGE, str(tmp_path / "page"))
    page = Page(tmp_path / "page", amdsmi)
    load.cache_clear()
    yield page
    page.close()


@pytest.fixture
def tree(tmp_path: Path) -> AmdSysfs:
    """A sysfs without a GPU."""
    return AmdSysfs(tmp_path)


@pytest.fixture
def no_package(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The package `amdsmi` is not installed."""
    monkeypatch.setitem(sys.modules, "amdsmi", None)
    load.cache_clear()
    yield
    load.cache_clear()


@pytest.fixture
def search(tree: AmdSysfs) -> Iterator["Search"]:
    """Searches of which nothing is left open."""
    search = Search(SourcesConfig(sysfs_root=str(tree.root)))
    yield search
    for source in search.opened:
        source.close()


class Search:
    """Looks for the GPUs, and keeps what is to be closed."""

    def __init__(self, settings: SourcesConfig) -> None:
        self.settings = settings
        self.opened: list[Source] = []

    def found(self, *, use_counter: bool = True) -> Found:
        """Return what is found now."""
        result = discover(replace_settings(self.settings, use_counter))
        self.opened += result.sources
        return result

    def one(self, *, use_counter: bool = True) -> Source:
        """Return the only GPU that is found."""
        (source,) = self.found(use_counter=use_counter).sources
        return source


def replace_settings(settings: SourcesConfig, use_counter: bool) -> SourcesConfig:
    """Return the settings with or without the use of counters."""
    return SourcesConfig(sysfs_root=settings.sysfs_root, amdsmi=AmdsmiConfig(use_counter=use_counter))


def in_tuple(source: Source, now_ns: int) -> list[Emitted]:
    """Return what comes beside the reading."""
    said = source.read(now_ns)
    return list(said[1:]) if isinstance(said, tuple) else []


def found(tree: AmdSysfs) -> Found:
    """Return what is found in the tree."""
    return discover(SourcesConfig(sysfs_root=str(tree.root)))
