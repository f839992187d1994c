"""Where the socket is."""

import os
import tempfile
from pathlib import Path

import pytest

from inferwatt import endpoint
from inferwatt.errors import Unavailable


@pytest.fixture(autouse=True)
def _clean(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(endpoint.VARIABLE, raising=False)
    monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)


def test_the_variable_decides(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """INFERWATT_SOCKET is taken as it is, made absolute."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(endpoint.VARIABLE, "a.sock")

    assert endpoint.socket_path() == str(tmp_path / "a.sock")


def test_the_services_folder_comes_before_the_users(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """/run/inferwatt where it exists, then $XDG_RUNTIME_DIR, then /tmp/inferwatt-UID."""
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    service = tmp_path / "system" / "service"
    before = endpoint.socket_path(service_folder=str(service))
    service.mkdir(parents=True)
    after = endpoint.socket_path(service_folder=str(service))
    monkeypatch.delenv("XDG_RUNTIME_DIR")
    service.rmdir()

    assert (before, after) == (str(tmp_path / "inferwatt/agent.sock"), str(service / "agent.sock"))
    assert endpoint.socket_path(service_folder=str(service)) == f"/tmp/inferwatt-{os.geteuid()}/agent.sock"


def test_a_client_goes_where_a_socket_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """An empty service folder does not hide the user's own agent; an agent itself takes the first folder."""
    service, own = tmp_path / "service", tmp_path / "inferwatt"
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    service.mkdir()
    own.mkdir()
    (own / "agent.sock").touch()

    assert endpoint.socket_path(service_folder=str(service)) == str(own / "agent.sock")
    assert endpoint.socket_path(service_folder=str(service), listen=True) == str(service / "agent.sock")


def test_a_folder_that_others_could_have_made_is_not_trusted(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A link or a folder that everybody can write to is no place for records: nothing is sent there."""
    folder = tmp_path / "own"
    monkeypatch.setattr(endpoint, "_own_folder", lambda: str(folder))
    absent = str(tmp_path / "absent")
    assert endpoint.socket_path(service_folder=absent) == str(folder / "agent.sock")
    folder.mkdir()
    folder.chmod(0o777)
    with pytest.raises(Unavailable, match="set INFERWATT_SOCKET"):
        endpoint.socket_path(service_folder=absent)
    folder.rmdir()
    folder.symlink_to(tmp_path)
    with pytest.raises(Unavailable):
        endpoint.socket_path(service_folder=absent)


def test_a_path_that_no_socket_can_have_is_said_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """A Unix socket's path has at most 107 bytes; the error says which variable to shorten."""
    monkeypatch.setenv(endpoint.VARIABLE, "/" + "x" * 200)
    with pytest.raises(Unavailable, match="107 bytes"):
        endpoint.socket_path()


def test_nobody_there_is_an_os_error(tmp_path: Path) -> None:
    """What is not there is told at once, and leaves no socket open."""
    with pytest.raises(FileNotFoundError):
        endpoint.connect(str(tmp_path / "nobody.sock"))


@pytest.mark.parametrize("depth", [1, 90])
def test_a_temporary_folder_has_room_for_a_socket(depth: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """However deep TMPDIR lies, a demo's agent can listen in its folder; a deep one is left as it was."""
    with tempfile.TemporaryDirectory(dir="/tmp") as top:
        deep = Path(top) / ("d" * depth)
        deep.mkdir()
        monkeypatch.setattr(tempfile, "tempdir", str(deep))
        with endpoint.temporary_folder("inferwatt-demo-") as folder:
            assert (Path(folder).parent == deep) == (depth == 1)
            endpoint.listen(os.path.join(folder, endpoint.NAME)).close()
        assert list(deep.iterdir()) == []
