"""AMD's library: how it is loaded, its codes, its start and its end, and what it does not show."""

from pathlib import Path
from types import ModuleType

import pytest

from inferwatt.errors import InferwattError, SourceGone, SourceRetry
from inferwatt.records import Provenance, Reading
from inferwatt.snapshot import Lack
from inferwatt.sources import Found, amdsmi_binding
from inferwatt.sources.amdsmi_binding import INSTALL_LIBRARY, AmdSmi, load
from inferwatt.sources.amdsmi_status import REINSTALL, STATUS, Handling
from tests.doubles.amd_smi import Page, build, rocm, wrapper
from tests.doubles.amd_sysfs import AmdSysfs

from .amd import Search, amd_library, amdsmi, page, search, tree
from .trees import read

__all__ = ["amd_library", "amdsmi", "page", "search", "tree"]

pytestmark = pytest.mark.real


def test_no_code_of_the_library_is_unmapped(amdsmi: ModuleType) -> None:
    """Every code that the installed package knows has its words, its handling and its command."""
    known = amdsmi.amdsmi_wrapper.amdsmi_status_t__enumvalues

    assert {code: name for code, name in known.items() if code and code not in STATUS} == {}
    assert [code for code, status in STATUS.items() if not (status.words and status.fix)] == []


@pytest.mark.parametrize("code", [*sorted(STATUS), 77])
def test_each_code_of_a_read_is_handled_by_the_table(page: Page, tree: AmdSysfs, search: Search, code: int) -> None:
    """What comes back by itself is a lost sample, what does not is gone; the code is in the words."""
    tree.card("0000:c1:00.0")
    gpu = page.add("0000:c1:00.0")
    source = search.one()
    gone = code in STATUS and STATUS[code].handling is Handling.GONE

    page.set(gpu, status=code)

    with pytest.raises(InferwattError, match=rf"amdsmi_get_energy_count: .*\(code {code}\)") as caught:
        source.read(1)
    assert isinstance(caught.value, SourceGone if gone else SourceRetry)


@pytest.mark.parametrize(("code", "fix"), [(10, "sudo usermod"), (34, "sudo modprobe amdgpu"), (18, "sudo modprobe")])
def test_a_library_that_does_not_start_leaves_the_gpus_to_sysfs(
    page: Page, tree: AmdSysfs, search: Search, code: int, fix: str
) -> None:
    """Why it does not is one lack with one command, and the power is read all the same."""
    tree.card("0000:c1:00.0")
    tree.card("0000:c6:00.0")
    page["init_status"] = code

    result = search.found()

    assert [source.device.provenance for source in result.sources] == [Provenance.SAMPLED] * 2
    (lack,) = result.lacks
    assert f"(code {code})" in lack.what
    assert lack.fix.startswith(fix)


def test_a_gpu_that_the_library_hides_is_read_by_sysfs(page: Page, tree: AmdSysfs, search: Search) -> None:
    """Without the group of its device node one of two is hidden: both are read, under names by PCI address."""
    tree.card("0000:c1:00.0")
    tree.card("0000:c6:00.0")
    page.add("0000:c6:00.0")

    result = search.found()

    assert [(source.device.device, source.device.provenance) for source in result.sources] == [
        ("gpu-0", Provenance.SAMPLED),
        ("gpu-1", Provenance.MEASURED),
    ]
    assert [(lack.where, lack.fix[:12]) for lack in result.lacks] == [("0000:c1:00.0", "sudo usermod")]


def test_a_machine_without_an_amd_gpu_never_starts_the_library(page: Page, search: Search) -> None:
    """Nothing is found, nothing is lacking, nothing is touched."""
    assert search.found() == Found()
    assert page["inits"] == 0


def test_the_library_is_started_once_and_shut_down_by_the_last(page: Page, tree: AmdSysfs, search: Search) -> None:
    """Each source and each search counts; a second close counts for nothing."""
    for bus in ("c1", "c6"):
        tree.card(f"0000:{bus}:00.0")
        page.add(f"0000:{bus}:00.0")
    first, second = search.found().sources
    again = search.found().sources

    for source in (first, first, *again):
        source.close()
    assert (page["inits"], page["shutdowns"]) == (1, 0)
    assert read(second, 1).counter_uj == 65_536_000_000
    second.close()
    assert (page["inits"], page["shutdowns"]) == (1, 1)


def test_a_handle_that_is_used_again_is_another_gpu(page: Page) -> None:
    """A handle is an address: after a new start the same one may be that of another GPU, so it is asked anew."""
    gpu = page.add("0000:c1:00.0")
    library = load()
    assert isinstance(library, AmdSmi)

    for bus in (0xC1, 0xC6, 0xC9):
        page.set(gpu, bdf=bus << 8)
        library.open()
        assert list(library.handles()) == [f"0000:{bus:02x}:00"]
        library.close()


def lack_of(root: Path) -> Lack:
    """Return why the package cannot be loaded whose ROCm is in `root`."""
    load.cache_clear()
    with rocm(root):
        library = load()
    load.cache_clear()
    assert isinstance(library, Lack)
    return library


def test_a_package_without_its_library_is_a_lack_and_prints_nothing(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """The import raises KeyError and prints why: that is in the lack, with the command that brings the library."""
    wrapper()

    lack = lack_of(tmp_path)

    assert lack.what.startswith("AMD's library libamd_smi.so cannot be loaded: AMD GPUs are read by sysfs")
    assert "libamd_smi.so" in lack.where
    assert lack.fix == INSTALL_LIBRARY
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("version", "fix"),
    [("6.3.1\n", "pip install 'amdsmi==6.3.*'"), ("", REINSTALL), (None, REINSTALL)],
)
def test_a_package_that_is_newer_than_its_library_is_a_lack(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, version: str | None, fix: str
) -> None:
    """One symbol that is missing makes the import raise AttributeError: the fitting version is named, where known."""
    monkeypatch.setattr(amdsmi_binding, "ROCM_VERSION", tmp_path / "version")
    if version is not None:
        (tmp_path / "version").write_text(version)

    lack = lack_of(build(tmp_path, without="amdsmi_get_gpu_vram_usage"))

    assert lack.what.startswith("the Python package amdsmi is newer than the installed ROCm")
    assert "amdsmi_get_gpu_vram_usage" in lack.where
    assert lack.fix.startswith(fix)


def test_an_older_package_names_the_accumulator_otherwise(
    page: Page, amdsmi: ModuleType, tree: AmdSysfs, search: Search, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before amdsmi 6.4 the key was `power`; here the installed package's answer is renamed to it."""
    tree.card("0000:c1:00.0")
    page.add("0000:c1:00.0")
    now = amdsmi.amdsmi_get_energy_count

    def before(handle: object) -> dict[str, object]:
        answer = now(handle)
        return {"power": answer["energy_accumulator"], "counter_resolution": answer["counter_resolution"]}

    monkeypatch.setattr(amdsmi, "amdsmi_get_energy_count", before)

    assert read(search.one(), 1) == Reading(1, "gpu-0", 65_536_000_000)


@pytest.mark.parametrize(
    "answer", [{"energy_accumulator": "N/A", "counter_resolution": 15.3}, {"energy_accumulator": 7}, {}]
)
def test_an_answer_without_numbers_is_a_lost_sample(
    page: Page,
    amdsmi: ModuleType,
    tree: AmdSysfs,
    search: Search,
    monkeypatch: pytest.MonkeyPatch,
    answer: dict[str, object],
) -> None:
    """A package that says "N/A", or leaves a key out, is no crash and no zero."""
    tree.card("0000:c1:00.0")
    page.add("0000:c1:00.0")
    source = search.one()

    monkeypatch.setattr(amdsmi, "amdsmi_get_energy_count", lambda _handle: answer)

    with pytest.raises(SourceRetry, match="amdsmi_get_energy_count: no number"):
        source.read(1)
