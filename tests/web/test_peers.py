import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from inferwatt.web.peers import holder, peer_uid

from .running import NEEDS_PROC


@NEEDS_PROC
@pytest.mark.parametrize(
    ("listen", "connect"), [("127.0.0.1", "127.0.0.1"), ("::1", "::1"), ("::", "127.0.0.1"), ("::", "::ffff:127.0.0.1")]
)
def test_the_kernel_knows_who_connects(listen: str, connect: str) -> None:
    """The user at the other end is found over IPv4, IPv6 and IPv4 within IPv6."""
    family = socket.AF_INET6 if ":" in listen else socket.AF_INET
    try:
        listener = socket.create_server((listen, 0), family=family)
    except OSError:
        pytest.skip("no IPv6 here")
    with listener:
        if family is socket.AF_INET6 and listen == "::":
            listener.close()
            listener = socket.create_server((listen, 0), family=family, dualstack_ipv6=True)
        with listener, socket.create_connection((connect, listener.getsockname()[1])) as client:
            server, peer = listener.accept()
            with server:
                assert os.getuid() == peer_uid(peer[:2], server.getsockname()[:2])
                client.close()
                assert peer_uid(peer[:2], server.getsockname()[:2]) is None


@NEEDS_PROC
@pytest.mark.skipif(not hasattr(os, "getuid") or os.getuid() != 0, reason="only root can become somebody else")
def test_another_user_is_told_apart() -> None:
    """A connection of another user is seen as theirs."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        listener.settimeout(10)
        connect = f"os.setuid(4711); s = socket.socket(); s.connect(('127.0.0.1', {port}))"
        script = f"import os, socket, sys; {connect}; sys.stdin.read()"
        with subprocess.Popen([sys.executable, "-I", "-S", "-c", script], stdin=subprocess.PIPE) as other:
            server, peer = listener.accept()
            with server:
                uid = peer_uid(peer, server.getsockname())
            other.communicate()

    assert uid == 4711


@pytest.mark.parametrize("uid", ["65534", "0"])
def test_a_user_that_the_kernel_does_not_name_is_nobody(tmp_path: Path, uid: str) -> None:
    """A socket without an owner is shown as root's, one of another user namespace as nobody's: neither counts."""
    inode = "0" if uid == "0" else "123"
    (tmp_path / "net").mkdir()
    row = f"   1: 0100007F:0001 0100007F:0002 01 00000000:00000000 00:00000000 00000000 {uid:>5} 0 {inode} 1\n"
    (tmp_path / "net/tcp").write_text(row)

    assert peer_uid(("127.0.0.1", 1), ("127.0.0.1", 2), tmp_path) is None


@NEEDS_PROC
def test_who_holds_a_port_is_named() -> None:
    """The process that listens is found by its socket, and nobody where none does."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        assert holder(port).endswith(f"(pid {os.getpid()})")
    assert holder(port) == ""
