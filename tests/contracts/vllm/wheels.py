"""The source of a version of vLLM: from its wheel, which pip brings, kept without the kernels in the user's cache.

A wheel is 80 to 340 MB, of which 2 to 5 MB are what is read here: that is kept, the wheel is not.
"""

import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from functools import cache
from pathlib import Path

from tests.contracts.vllm.source import Vllm

DOWNLOAD_SECONDS = 600.0
LEFT_OUT = ("vllm/model_executor/", "vllm/third_party/", "vllm/vllm_flash_attn/")
"""Models and kernels: nine tenths of the Python in a wheel."""
LIBRARIES = ("manylinux_2_35", "manylinux_2_31", "manylinux_2_28", "manylinux_2_17", "manylinux2014", "manylinux1")
WANTED = (
    *("--implementation", "cp", "--python-version", "3.12", "--abi", "abi3", "--abi", "cp312"),
    *(word for library in LIBRARIES for word in ("--platform", f"{library}_x86_64")),
)
"""One wheel for all, whatever machine asks: its Python files are the same everywhere."""


class NoWheel(Exception):
    """Why a version cannot be read here, in pip's words."""


def cache_folder() -> Path:
    """Return where the sources are kept: the user's cache, never the repository."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "inferwatt" / "vllm-source"


def vllm_of(requirement: str) -> Vllm:
    """Return the source of `NAME==VERSION`, downloaded if it has not been yet.

    Raises:
        NoWheel: it is not kept, and pip cannot bring it.
    """
    kept = _kept(requirement)
    if isinstance(kept, NoWheel):
        raise kept
    return kept


@cache
def _kept(requirement: str) -> Vllm | NoWheel:
    """Return the source, or why there is none: asked once, since pip tries long where there is no network."""
    kept = cache_folder() / f"{requirement}.zip"
    if not kept.is_file():
        cache_folder().mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=cache_folder()) as folder:
            slim = Path(folder) / "slim.zip"
            try:
                keep_source(download(requirement, Path(folder)), slim)
            except NoWheel as exc:
                return exc
            slim.replace(kept)
    archive = zipfile.ZipFile(kept)
    names = frozenset(archive.namelist())
    return Vllm(requirement, lambda path: archive.read(f"vllm/{path}").decode() if f"vllm/{path}" in names else None)


def download(requirement: str, folder: Path) -> Path:
    """Let pip bring the wheel of a requirement into a folder.

    Raises:
        NoWheel: it cannot.
    """
    arguments = (
        "--quiet",
        "--disable-pip-version-check",
        "--no-cache-dir",
        "--no-input",
        "--no-deps",
        "--retries",
        "2",
    )
    command = [python_with_pip(), "-m", "pip", "download", *arguments, "--only-binary", ":all:", *WANTED]
    try:
        run = subprocess.run(
            [*command, "--dest", str(folder), requirement],
            capture_output=True,
            text=True,
            timeout=DOWNLOAD_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired as exc:
        raise NoWheel(f"{requirement}: pip took longer than {DOWNLOAD_SECONDS:g} s") from exc
    wheels = list(folder.glob("*.whl"))
    if run.returncode or not wheels:
        last = (run.stderr.strip().splitlines() or ["it said nothing"])[-1]
        raise NoWheel(f"{requirement}: pip could not bring it (is there a network?): {last}")
    return wheels[0]


def python_with_pip() -> str:
    """Return this Python, or the one that made its environment where the environment has no pip."""
    has_pip = subprocess.run([sys.executable, "-m", "pip", "--version"], capture_output=True, check=False)
    return sys.executable if has_pip.returncode == 0 else str(getattr(sys, "_base_executable", sys.executable))


def keep_source(wheel: Path, kept: Path) -> None:
    """Copy the Python files that anybody may ask for out of a wheel."""
    with zipfile.ZipFile(wheel) as files, zipfile.ZipFile(kept, "w", zipfile.ZIP_DEFLATED) as slim:
        for name in files.namelist():
            if name.startswith("vllm/") and name.endswith(".py") and not name.startswith(LEFT_OUT):
                with files.open(name) as source, slim.open(name, "w") as target:
                    shutil.copyfileobj(source, target)
