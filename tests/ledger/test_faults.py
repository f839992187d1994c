"""What happens to the ledger when its process is killed, its disk is full or its file is damaged."""

import os
import random
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from inferwatt.errors import LedgerRetry
from inferwatt.ledger.rows import LedgerBatch
from tests.ledger.books import HOUR, batch, names, open_ledger, sql

ROOT = Path(__file__).parents[2]
ROUNDS = 20
PAGE_BYTES = 4096


def last_told_before_a_kill(path: Path, lines: int) -> int:
    """Let a real process write until it has told `lines` commits, kill it, return the last row that it told."""
    child = subprocess.Popen(
        [sys.executable, "-m", "tests.ledger.writing_child", str(path)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": f"{ROOT / 'src'}{os.pathsep}{ROOT}"},
        stdout=subprocess.PIPE,
        text=True,
    )
    with child:
        assert child.stdout is not None
        told = [child.stdout.readline() for _ in range(lines)]
        child.kill()
        told += child.stdout.readlines()
    return int([line for line in told if line.endswith("\n")][-1])


def test_kill_9_loses_nothing_that_was_acknowledged(tmp_path: Path) -> None:
    """A real process is killed at random in the middle of its commits, again and again on the same file."""
    path = tmp_path / "l"
    chance = random.Random(9)
    for _ in range(ROUNDS):
        told = last_told_before_a_kill(path, chance.randrange(1, 12))
        ledger = open_ledger(path)
        (tenant,) = ledger.tenants(0, 2 * HOUR)
        kept = tenant.requests

        assert kept >= told
        assert ledger.counters() == {"rows": {(): kept}}
        assert tenant.energies[0].energy_uj == 1000 * kept
        assert (ledger.set_aside, ledger.lost_batches) == (0, 0)
        ledger.close()
    result = open_ledger(path).verify()

    assert (result.ok, result.rows) == (True, kept)


@contextmanager
def small_disk(folder: Path, options: str) -> Iterator[Path]:
    """Mount a small file system; only root may."""
    folder.mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)], capture_output=True, check=False
    )
    if done.returncode != 0:
        if os.environ.get("CI"):
            pytest.fail(f"CI must be able to mount a file system: {done.stderr.decode()}")
        pytest.skip("only root can mount a file system")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def fill(file: Path) -> None:
    """Take what room is left on a disk."""
    with file.open("wb", buffering=0) as filler:
        try:
            while filler.write(bytes(PAGE_BYTES)):
                pass
        except OSError:
            return


def test_a_full_disk_costs_nothing_but_time(tmp_path: Path) -> None:
    """On a disk that is full the commit fails with words and leaves nothing; with room again the same batch goes in."""
    with small_disk(tmp_path / "small", "size=1m") as folder:
        ledger = open_ledger(folder / "l")
        ledger.commit(batch(0))
        fill(folder / "filler")
        committed = 1
        trouble: LedgerRetry | None = None
        while trouble is None:
            try:
                ledger.commit(LedgerBatch(rows=batch(committed).rows, counters={"rows": {(): committed + 1}}))
                committed += 1
            except LedgerRetry as error:
                trouble = error

        assert ("full" in trouble.what, trouble.fix.startswith("free disk space")) == (True, True)
        assert len(ledger.requests(2000)) == committed
        assert ledger.counters().get("rows", {}).get((), 1) == committed
        (folder / "filler").unlink()
        done = ledger.commit(batch(committed))

        assert (done.rows, done.duplicates) == (1, ())
        assert ledger.verify(ledger.head).ok
        assert ledger.set_aside == 0
        ledger.close()


def test_a_disk_that_is_full_at_the_start_is_said_in_words(tmp_path: Path) -> None:
    """No ledger can be made, the error says so, and it can be made once there is room."""
    with small_disk(tmp_path / "small", "size=64k") as folder:
        fill(folder / "filler")
        with pytest.raises(LedgerRetry, match="cannot open the ledger"):
            open_ledger(folder / "l")
        (folder / "filler").unlink()


def test_a_read_only_disk_is_said_in_words(tmp_path: Path) -> None:
    """With a ledger on it or without: no crash, no file set aside."""
    with small_disk(tmp_path / "small", "size=4m") as folder:
        ledger = open_ledger(folder / "l")
        ledger.commit(batch(1))
        ledger.close()
        subprocess.run(["mount", "-o", "remount,ro", str(folder)], check=True)
        for name in ("l", "another"):
            with pytest.raises(LedgerRetry, match=r"cannot open the ledger: [\s\S]*fix:"):
                open_ledger(folder / name)
        assert sorted(os.listdir(folder)) == ["l", "l.lock"]


def test_a_folder_without_permission_is_said_in_words(tmp_path: Path) -> None:
    """What is in the way of the folder is named."""
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(LedgerRetry, match=r"cannot open the ledger: (Not a directory|File exists)"):
        open_ledger(tmp_path / "file" / "l")


def filled(path: Path) -> int:
    """Make a ledger of 60 batches of 20 rows, closed and checkpointed; return its size in bytes."""
    ledger = open_ledger(path)
    for first in range(0, 1200, 20):
        ledger.commit(batch(*range(first, first + 20)))
    ledger.close()
    return path.stat().st_size


@pytest.mark.parametrize("damage", ["junk page", "junk header", "junk file", "cut", "zeros"])
def test_a_damaged_file_is_set_aside(tmp_path: Path, damage: str) -> None:
    """The agent starts with a new ledger, the damaged one is kept under another name, and it is counted."""
    path = tmp_path / "l"
    size = filled(path)
    junk = random.Random(1).randbytes(PAGE_BYTES)
    with path.open("r+b") as file:
        if damage == "cut":
            file.truncate(size // 2)
        elif damage == "junk file":
            file.write(junk * (size // PAGE_BYTES))
        else:
            file.seek(0 if damage == "junk header" else size // PAGE_BYTES // 2 * PAGE_BYTES)
            file.write(bytes(PAGE_BYTES) if damage == "zeros" else junk)
    ledger = open_ledger(path)

    assert (ledger.set_aside, ledger.lost_batches, ledger.requests(5)) == (1, 0, [])
    assert f"l.corrupt-{HOUR}" in os.listdir(tmp_path)
    assert ledger.commit(batch(1)).rows == 1


def test_one_set_aside_never_overwrites_another(tmp_path: Path) -> None:
    """Damaged twice in one second: both files are kept."""
    for _ in range(2):
        (tmp_path / "l").write_bytes(b"junk" * PAGE_BYTES)
        open_ledger(tmp_path / "l").close()

    assert {f"l.corrupt-{HOUR}", f"l.corrupt-{HOUR + 1}"} <= set(os.listdir(tmp_path))


def test_a_last_batch_that_does_not_hold_is_set_aside(tmp_path: Path) -> None:
    """A file that SQLite finds sound, but whose newest rows are not what was committed, is not gone on with."""
    filled(tmp_path / "l")
    sql(tmp_path / "l", "DROP TRIGGER request_never_changes")
    sql(tmp_path / "l", "UPDATE request SET output_tokens = 11 WHERE seq = 1200")

    assert open_ledger(tmp_path / "l").set_aside == 1


@pytest.mark.parametrize("damage", ["cut", "flip"])
def test_a_torn_write_ahead_log_is_noticed(tmp_path: Path, damage: str) -> None:
    """SQLite drops the tail of a damaged log without a word; the ledger goes on from what is left, and says it."""
    path = tmp_path / "l"
    last_told_before_a_kill(path, 20)
    log = Path(f"{path}-wal")
    log_bytes = bytearray(log.read_bytes())
    if damage == "cut":
        del log_bytes[len(log_bytes) // 2 :]
    else:
        log_bytes[len(log_bytes) // 2] ^= 1
    log.write_bytes(log_bytes)
    ledger = open_ledger(path)

    assert ledger.set_aside == 0
    assert ledger.lost_batches > 0
    assert ledger.verify().ok
    assert ledger.commit(batch(100_000)).rows == 1
    assert names(ledger.find("r100000")) == ["r100000"]
