from pathlib import Path

import pytest

from inferwatt.errors import ConfigError
from inferwatt.settings import AgentConfig, AgentSection, configuration, state_folder


def test_the_defaults_need_no_file() -> None:
    """Without a file, environment or flags everything stands at its default."""
    assert configuration(None).value == AgentConfig()


def test_a_flag_is_named_as_the_user_typed_it() -> None:
    """What came from the command line says so by its name there."""
    loaded = configuration(None, {"web.listen": "127.0.0.1:1", "agent.state_dir": "x"})

    assert loaded.value.web.listen == "127.0.0.1:1"
    assert loaded.origin("web.listen") == "flag --listen"
    assert loaded.origin("agent.state_dir") == "flag --state-dir"


def test_a_wrong_key_names_its_neighbour(tmp_path: Path) -> None:
    """A typing error says where it is and what was probably meant."""
    file = tmp_path / "inferwatt.toml"
    file.write_text("[sampling]\nidle_hzz = 5\n")

    with pytest.raises(ConfigError, match=r"sampling.idle_hzz is not a key. Did you mean idle_hz\?\n.*line 2"):
        configuration(file)


def test_state_lies_where_it_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The configuration, then systemd, then the XDG rules say where the ledger is."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "xdg"))
    monkeypatch.delenv("STATE_DIRECTORY", raising=False)
    assert state_folder(AgentSection()) == tmp_path / "xdg" / "inferwatt"

    monkeypatch.setenv("STATE_DIRECTORY", f"{tmp_path}/service:/other")
    assert state_folder(AgentSection()) == tmp_path / "service"

    assert state_folder(AgentSection(state_dir="here")) == Path("here")
