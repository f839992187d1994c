"""`import amdsmi` where it cannot work, in processes of their own: one lack, one command, a clean standard output."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.doubles.amd_smi import build, wrapper
from tests.doubles.amd_sysfs import AmdSysfs

CHILD = """
import json, sys
if sys.argv[2] == "without":
    sys.modules["amdsmi"] = None
from inferwatt.sources import SourcesConfig
from inferwatt.sources.amdsmi import discover
settings = SourcesConfig(sysfs_root=sys.argv[1])
for _ in range(2):
    found = discover(settings)
said = [[s.device.provenance, s.read(0)[0].power_mw] for s in found.sources]
print(json.dumps({"read": said, "lacks": [[l.what, l.where, l.fix] for l in found.lacks]}))
"""


def searched(sysfs: Path, rocm: Path, package: str = "with") -> tuple[list[list[object]], list[list[str]]]:
    """Return what a child finds that looks twice, and what it lacks; nothing but that may be on its standard output."""
    child = subprocess.run(
        [sys.executable, "-c", CHILD, str(sysfs), package],
        env={**os.environ, "ROCM_PATH": str(rocm), "ROCM_HOME": str(rocm)},
        capture_output=True,
        text=True,
        check=True,
    )
    (line,) = child.stdout.splitlines()
    said = json.loads(line)
    return said["read"], said["lacks"]


@pytest.fixture
def sysfs(tmp_path: Path) -> Path:
    """A sysfs with one MI300X."""
    tree = AmdSysfs(tmp_path / "sys")
    tree.card("0000:c1:00.0")
    return tree.root


def test_without_the_package_the_extra_is_named(sysfs: Path, tmp_path: Path) -> None:
    """The power is read by sysfs, and the lack has the command that installs the package."""
    read, lacks = searched(sysfs, tmp_path, "without")

    assert read == [["sampled", 140_000]]
    assert [fix for _, _, fix in lacks] == ["pip install 'inferwatt[amd]'"]


@pytest.mark.real
def test_without_the_library_what_the_package_prints_is_in_the_lack(sysfs: Path, tmp_path: Path) -> None:
    """The package prints on standard output and raises KeyError: neither gets through, and its reason is kept."""
    wrapper()
    read, lacks = searched(sysfs, tmp_path)

    assert read == [["sampled", 140_000]]
    ((what, where, fix),) = lacks
    assert "libamd_smi.so cannot be loaded" in what
    assert "libamd_smi.so: cannot open shared object file" in where
    assert fix.startswith("sudo apt install amd-smi-lib")


@pytest.mark.real
def test_a_library_that_is_older_than_the_package_is_said_to_be(sysfs: Path, tmp_path: Path) -> None:
    """One missing symbol is an AttributeError in the middle of the import: the lack names the matching package."""
    read, lacks = searched(sysfs, build(tmp_path, without="amdsmi_get_gpu_virtualization_mode"))

    assert read == [["sampled", 140_000]]
    ((what, where, fix),) = lacks
    assert "newer than the installed ROCm" in what
    assert "amdsmi_get_gpu_virtualization_mode" in where
    assert fix.startswith("pip install")
