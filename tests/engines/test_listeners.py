import os
import socket
from pathlib import Path

from inferwatt.engines.listeners import Listener, command_line, listeners, mapped_files
from inferwatt.engines.networks import pids_behind

HEAD = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n"


def row(address: str, state: str, inode: int) -> str:
    """Return one row of /proc/net/tcp."""
    return f"   0: {address} 00000000:0000 {state} 00000000:00000000 00:00000000 00000000     0        0 {inode} 1\n"


def test_our_own_listening_socket_is_found_with_our_pid() -> None:
    """The real /proc says that this process listens on the port that it has just opened."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]

        assert Listener("127.0.0.1", port, frozenset({os.getpid()})) in listeners()
        assert pids_behind(f"http://localhost:{port}/v1") == {os.getpid()}
        assert pids_behind(f"http://192.0.2.1:{port}") == frozenset()


def test_only_sockets_that_loopback_reaches_are_listed(tmp_path: Path) -> None:
    """Listening on loopback or on all addresses counts; connections and other addresses do not."""
    net = tmp_path / "net"
    net.mkdir()
    rows = row("0100007F:1F90", "0A", 1) + row("00000000:2710", "0A", 2) + row("0A000001:2711", "0A", 3)
    (net / "tcp").write_text(HEAD + rows + row("0100007F:2712", "01", 4))
    six = row("00000000000000000000000001000000:2713", "0A", 5) + row("00000000000000000000000000000000:1F90", "0A", 6)
    (net / "tcp6").write_text(HEAD + six + "garbage\n")
    for pid, inode in ((7, 1), (8, 6), (9, 5)):
        (tmp_path / str(pid) / "fd").mkdir(parents=True)
        (tmp_path / str(pid) / "fd" / "3").symlink_to(f"socket:[{inode}]")

    assert listeners(tmp_path) == (
        Listener("127.0.0.1", 8080, frozenset({7, 8})),
        Listener("127.0.0.1", 10000, frozenset()),
        Listener("[::1]", 10003, frozenset({9})),
    )


def test_a_process_is_known_by_its_command_line_and_libraries() -> None:
    """Of our own process both can be read; of one that is gone neither, without an error."""
    assert "python" in command_line(os.getpid())
    assert any("libc" in path for path in mapped_files(os.getpid()))
    assert (command_line(2**22 + 1), mapped_files(2**22 + 1)) == ("", frozenset())
