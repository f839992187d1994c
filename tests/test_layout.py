"""The laws of the tree: what a checkout may hold, how large a file may grow, what an import may load."""

import importlib
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import inferwatt

ROOT = Path(__file__).resolve().parent.parent
SOURCE = ROOT / "src" / "inferwatt"
MADE_HERE = {".git", "node_modules", "static", "build", "dist", "__pycache__"}
CODE = {".py", ".ts", ".tsx"}

LONGEST_FILE_LINES = 300
LONGER_FOR_A_REASON = {
    "src/inferwatt/records.py": "one vocabulary, in one place: fields and their words, no logic",
}

VAGUE = {"utils", "util", "common", "base", "core", "helpers", "helper", "manager", "misc"}

# A home, a checkout or a package index is somebody's: none of them belongs in what everybody gets.
SOMEBODYS = re.compile(
    r"(?<!\w)/(?:Users|work|root)/\w"
    r"|file:///(?:opt|srv|home)"
    r"|(?:pypi|python" + r"hosted|registry\.npmjs|registry\.yarnpkg|deb\.debian|archive\.ubuntu)\.(?:org|com)"
    r"|--(?:extra-)?index-url"
    r"|--find-links"
)
SAYS_IT_FOR_A_REASON = {
    "tests/test_layout.py": "the law itself",
    "Makefile": "tells the locker to leave addresses out",
}


def files() -> Iterator[Path]:
    """Walk what a checkout holds: no repository, no environment, nothing that is built."""
    pending = [ROOT]
    while pending:
        for path in pending.pop().iterdir():
            hidden = path.name.startswith(".") and path.name != ".ci"
            if path.name in MADE_HERE or (path.is_dir() and hidden) or path.suffix in {".egg-info", ".recording"}:
                continue
            if path.is_dir():
                pending.append(path)
            else:
                yield path


def name_of(path: Path) -> str:
    """Name a file as the repository does."""
    return path.relative_to(ROOT).as_posix()


def lines_of(path: Path) -> int:
    """Count the lines of a text file."""
    return len(path.read_text(encoding="utf-8").splitlines())


def loaded_by(statement: str) -> set[str]:
    """Return the modules that `statement` loads in a new interpreter without site-packages."""
    script = f"import sys; before = set(sys.modules); {statement}; print(*set(sys.modules) - before)"
    run = subprocess.run(
        [sys.executable, "-S", "-c", script],
        check=True,
        capture_output=True,
        text=True,
        env={"PYTHONPATH": str(ROOT / "src")},
    )
    return set(run.stdout.split())


def foreign(modules: set[str]) -> set[str]:
    """Keep what neither Python nor we bring."""
    return {name for name in modules if name.partition(".")[0] not in {*sys.stdlib_module_names, "inferwatt"}}


def test_import_inferwatt_is_small() -> None:
    """`import inferwatt` loads the standard library only, no asyncio, and under 40 modules (typing alone is 30)."""
    loaded = loaded_by("import inferwatt")

    assert foreign(loaded) == set()
    assert {name for name in loaded if name.startswith("inferwatt.")} == set()
    assert len(loaded) < 40


def test_the_sdk_brings_nothing_into_a_users_process() -> None:
    """The first use of the SDK still loads the standard library only, and asyncio not before it is awaited."""
    loaded = loaded_by("import inferwatt; inferwatt.request")

    assert foreign(loaded) == set()
    assert "asyncio" not in loaded


def test_every_public_name_is_there() -> None:
    """What `__all__` promises can be had, and `__all__` is sorted."""
    assert sorted(inferwatt.__all__) == inferwatt.__all__
    assert [name for name in inferwatt.__all__ if not hasattr(inferwatt, name)] == []


def test_a_name_that_is_not_public_is_an_attribute_error() -> None:
    """A typing error in a name fails as in any module."""
    with pytest.raises(AttributeError, match="no attribute 'watts'"):
        _ = inferwatt.watts


@pytest.mark.parametrize("module", sorted(path.stem for path in SOURCE.glob("*.py") if path.stem != "__main__"))
def test_every_flat_module_says_what_it_is(module: str) -> None:
    """Each module beside the rooms opens with a sentence of its own."""
    name = "inferwatt" if module == "__init__" else f"inferwatt.{module}"

    assert (importlib.import_module(name).__doc__ or "").strip()


def test_no_file_grows_past_300_lines() -> None:
    """A file can be read in one sitting; the exceptions are named with their reasons."""
    long = {name_of(path): lines_of(path) for path in files() if path.suffix in CODE}

    assert {
        name: count for name, count in long.items() if count > LONGEST_FILE_LINES and name not in LONGER_FOR_A_REASON
    } == {}


def test_no_exception_has_outlived_its_reason() -> None:
    """An exception that is no longer needed is taken out of the list."""
    assert [name for name in LONGER_FOR_A_REASON if lines_of(ROOT / name) <= LONGEST_FILE_LINES] == []


def test_modules_are_named_by_what_they_hold() -> None:
    """No module is called utils, common, base, core, helpers, manager or misc."""
    assert [name_of(path) for path in files() if path.stem in VAGUE or path.parent.name in VAGUE] == []


def test_every_room_says_what_it_does() -> None:
    """Each folder of modules has an `__init__.py` that opens with its job."""
    rooms = {path.parent for path in files() if path.suffix == ".py" and path.is_relative_to(SOURCE)}

    silent = [
        name_of(room)
        for room in rooms
        if not (room / "__init__.py").is_file() or not (room / "__init__.py").read_text().lstrip().startswith('"""')
    ]

    assert silent == []


def test_every_test_folder_is_a_package() -> None:
    """Equal file names in two test folders do not collide."""
    folders = {path.parent for path in files() if path.match("test_*.py")}

    assert [name_of(folder) for folder in folders if not (folder / "__init__.py").is_file()] == []


@pytest.mark.parametrize(
    ("document", "most_lines"),
    [("README.md", 150), ("ARCHITECTURE.md", 200), ("CONTRIBUTING.md", 150), ("CHANGELOG.md", None), ("LICENSE", None)],
)
def test_the_documents_are_there_and_short(document: str, most_lines: int | None) -> None:
    """Who comes to the repository finds what it is, how it is built and how to help, in a few minutes."""
    assert 0 < lines_of(ROOT / document) <= (most_lines or 10_000)


def test_nothing_names_one_machine_or_one_package_index() -> None:
    """A clone works anywhere: no path of a home or checkout, no address of a package registry."""
    found = []
    for path in files():
        if name_of(path) in SAYS_IT_FOR_A_REASON:
            continue
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue
        found += [f"{name_of(path)}: {match.group()}" for match in SOMEBODYS.finditer(text)]

    assert found == []
