"""What a user downloads: the wheel and the source distribution, as hatchling builds them here."""

import re
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

import inferwatt
from inferwatt.export.paste import BOARDS

pytestmark = pytest.mark.real

ROOT = Path(__file__).resolve().parent.parent.parent
NOT_FOR_USERS = re.compile(r"node_modules|__pycache__|\.recording/|(^|/)\.(?!ci/|gitignore$|dockerignore$)|\.pth$")


def build(kind: str, folder: Path) -> Path:
    """Build one distribution of this checkout into `folder`, by the build tools of this environment."""
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", kind, "-d", str(folder)],
        cwd=ROOT,
        check=True,
        capture_output=True,
    )
    (made,) = folder.iterdir()
    return made


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the wheel."""
    return build("wheel", tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module")
def sdist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the source distribution."""
    return build("sdist", tmp_path_factory.mktemp("sdist"))


def test_one_wheel_serves_every_platform(wheel: Path) -> None:
    """The wheel is pure Python, named by the version that the package says it is."""
    assert wheel.name == f"inferwatt-{inferwatt.__version__}-py3-none-any.whl"


def test_the_wheel_holds_our_package_and_nothing_else(wheel: Path) -> None:
    """Nothing lands in site-packages but `inferwatt` and its metadata: no tests, no `.pth`, no build tools."""
    names = zipfile.ZipFile(wheel).namelist()

    assert {name.split("/")[0] for name in names} == {"inferwatt", f"inferwatt-{inferwatt.__version__}.dist-info"}
    assert [name for name in names if NOT_FOR_USERS.search(name)] == []


def test_the_wheel_is_whole(wheel: Path) -> None:
    """Types, licence, data files, dashboards and the built page are in it: a user needs no Node, and no checkout."""
    names = set(zipfile.ZipFile(wheel).namelist())
    package = ROOT / "src" / "inferwatt"
    data = {f"inferwatt/{path.relative_to(package).as_posix()}" for path in package.rglob("*.toml")}

    data |= {f"inferwatt/export/boards/inferwatt-{board}.json" for board in BOARDS}

    assert {"inferwatt/py.typed", "inferwatt/web/static/index.html"} | data <= names
    assert f"inferwatt-{inferwatt.__version__}.dist-info/licenses/LICENSE" in names


def test_the_source_distribution_can_be_built_from(sdist: Path) -> None:
    """It holds what a build needs, and nothing that a build makes."""
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}

    assert sdist.name == f"inferwatt-{inferwatt.__version__}.tar.gz"
    assert {"pyproject.toml", "LICENSE", "README.md", "hatch_build.py", "src/inferwatt/web/app/package.json"} <= names
    assert [name for name in names if NOT_FOR_USERS.search(name)] == []
