"""What the meter has learnt is kept between two runs."""

import logging
from pathlib import Path

import pytest

from inferwatt.fits import NAME, read_fits, write_fits
from inferwatt.records import Fit

FITS = (Fit("m", "H100", 2, (1.0, 0.5), (0.1, 1e-300), (3.0,), (), 20_000_000, 0, 71.25), Fit("n", "", 1, ()))


def test_what_is_kept_comes_back(tmp_path: Path) -> None:
    """The numbers of the file are those that were written, and a second writing replaces it whole."""
    write_fits(tmp_path, FITS[:1])
    write_fits(tmp_path, FITS)

    assert read_fits(tmp_path) == FITS
    assert [path.name for path in tmp_path.iterdir()] == [NAME]


def test_nothing_is_known_at_first(tmp_path: Path) -> None:
    """No file is no trouble."""
    assert read_fits(tmp_path / "none") == ()


@pytest.mark.parametrize(
    "text", [b"", b"{", b"[]", b'{"format": "inferwatt-fits/1", "fits": [{"model": 3}]}', b"\xff\xfe"]
)
def test_a_damaged_file_is_said_and_learnt_anew(text: bytes, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A file that cannot be read stops nothing."""
    (tmp_path / NAME).write_bytes(text)

    assert read_fits(tmp_path) == ()
    assert NAME in caplog.text


def test_a_file_of_another_form_is_left_alone(tmp_path: Path) -> None:
    """A newer form is not misread."""
    (tmp_path / NAME).write_bytes(b'{"format": "inferwatt-fits/9", "fits": []}')

    assert read_fits(tmp_path) == ()


def test_where_it_cannot_be_kept_it_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A full disk or a folder that is gone costs the next run its start, and nothing else."""
    with caplog.at_level(logging.WARNING):
        write_fits(tmp_path / "gone", FITS)

    assert "cannot be kept" in caplog.text
