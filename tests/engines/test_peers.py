import os
import socket
from pathlib import Path

from inferwatt.engines.peers import is_connected


def test_a_process_that_holds_a_connection_is_connected() -> None:
    """Our own connection to a port shows in /proc, and is gone when it is closed."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with socket.create_connection(("127.0.0.1", port)):
            during = is_connected(os.getpid(), port)
        after = is_connected(os.getpid(), 1)

    assert (during, after) == (True, False)


def test_another_process_is_not_connected() -> None:
    """Somebody else's connection is not this process's."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with socket.create_connection(("127.0.0.1", port)):
            assert not is_connected(2**22 + 1, port)


def test_no_proc_is_no_connection(tmp_path: Path) -> None:
    """Where there is no /proc nobody is connected, and nothing fails."""
    assert not is_connected(os.getpid(), 80, tmp_path)
