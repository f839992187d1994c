"""What `instrument()` brings into a host's process, and how it looks on while a module is loaded."""

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import inferwatt
from inferwatt.clients import border
from inferwatt.clients.hosts import host_of
from tests.test_layout import foreign, loaded_by


@pytest.fixture(autouse=True)
def _undone() -> Iterator[None]:
    """Every test leaves the process as it was."""
    yield
    inferwatt.uninstrument()
    border.troubles.clear()


def test_it_brings_the_standard_library_only() -> None:
    """No package, no asyncio, no client library: an estimate needs none of them."""
    loaded = loaded_by("import inferwatt; inferwatt.instrument()")

    assert foreign(loaded) == set()
    assert not {"asyncio", "openai", "botocore", "logging"} & loaded


def test_a_module_loads_as_it_does_without_us(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A library of another form gets one warning, its own loader and spec, and everything that it defines."""
    (tmp_path / "litellm.py").write_text("def completion(model):\n    return [model]\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "litellm", raising=False)
    inferwatt.instrument("litellm")
    module = importlib.import_module("litellm")
    monkeypatch.delitem(sys.modules, "litellm")

    assert module.completion("m") == ["m"]
    assert type(module.__loader__).__name__ == "SourceFileLoader"
    assert module.__spec__ is not None
    assert module.__spec__.loader is module.__loader__
    assert module.completion.__wrapped__.__name__ == "completion"
    assert sum(border.troubles.values()) >= 7  # what this one has not, and that it cannot say whose model m is


def test_a_module_that_fails_to_load_fails_as_without_us(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its own exception comes through, and nothing is instrumented."""
    (tmp_path / "litellm.py").write_text("raise ImportError('its own')\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "litellm", raising=False)
    inferwatt.instrument("litellm")

    with pytest.raises(ImportError, match="its own"):
        importlib.import_module("litellm")
    assert inferwatt.instrument("litellm") == ()


def test_undoing_leaves_no_finder_behind() -> None:
    """The import system is as it was."""
    before = list(sys.meta_path)
    inferwatt.instrument()
    inferwatt.instrument()
    assert len(sys.meta_path) == len(before) + 1
    inferwatt.uninstrument()

    assert sys.meta_path == before


@pytest.mark.parametrize(
    ("url", "host"),
    [
        ("https://api.openai.com/v1/", "api.openai.com"),
        ("http://user:secret@LOCALHOST:8080/v1", "localhost"),
        ("http://[::1]:8080", "::1"),
        ("meta-llama/Llama-3.1-8B", ""),
        (None, ""),
    ],
)
def test_the_host_in_a_url(url: object, host: str) -> None:
    """Without port and secrets; what is no URL has none."""
    assert host_of(url) == host
