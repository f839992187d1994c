"""Where the agent's socket is, how it is made and reached, and who may connect: the transport as a seam.

Linux and macOS have Unix sockets. Where a platform has none, `connect`, `listen` and `peer_of` are what a loopback
TCP transport with a token file would fill; until then they say so. Standard library only, cheap to import.
"""

import contextlib
import os
import socket
import stat
import struct
import sys
import time
from collections.abc import Iterator
from typing import NamedTuple

from inferwatt.errors import Unavailable

VARIABLE = "INFERWATT_SOCKET"
SERVICE_FOLDER = "/run/inferwatt"
NAME = "agent.sock"
CONNECT_SECONDS = 1.0
GROUP = "inferwatt"
BACKLOG = 128
BIND_SECONDS = 1.0
LONGEST_PATH_BYTES = 103 if sys.platform == "darwin" else 107
"""sun_path of unix(7) holds 108 bytes with the final NUL, that of macOS 104."""


class Peer(NamedTuple):
    """Who is at the other end, as the kernel says it; -1 where it does not say."""

    pid: int = -1
    uid: int = -1
    gid: int = -1


def socket_path(*, listen: bool = False, service_folder: str = SERVICE_FOLDER) -> str:
    """Return the path of the agent's socket.

    `INFERWATT_SOCKET` decides. Else the first of the service's folder, $XDG_RUNTIME_DIR/inferwatt and
    /tmp/inferwatt-UID that has a socket in it; else, and always when an agent asks in order to `listen`, the first
    that can be used. A folder in /tmp counts only where it is ours alone: anyone could have made it.

    Raises:
        Unavailable: no folder can be trusted, or the path is too long for a Unix socket.
    """
    named = os.environ.get(VARIABLE)
    if named:
        return _short(os.path.abspath(named))
    usable = [path for path in _candidates(service_folder) if _usable(os.path.dirname(path), listen=listen)]
    if not usable:
        raise Unavailable("no folder for the agent's socket is safe to use", where="/tmp", fix=f"set {VARIABLE}")
    if not listen:
        usable = [path for path in usable if os.path.exists(path)] or usable
    return _short(usable[0])


@contextlib.contextmanager
def temporary_folder(prefix: str) -> Iterator[str]:
    """Hold a new temporary folder in which a socket can be made: in /tmp where TMPDIR lies too deep for one."""
    import tempfile

    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix=prefix))
        if not _fits(os.path.join(folder, NAME)):
            folder = stack.enter_context(tempfile.TemporaryDirectory(prefix=prefix, dir="/tmp"))
        yield folder


def connect(path: str) -> socket.socket:
    """Return a non-blocking connection to the agent at `path`.

    Raises:
        OSError: nobody listens there, or it does not take connections at the moment.
        Unavailable: this platform has no Unix sockets.
    """
    if not hasattr(socket, "AF_UNIX"):
        raise Unavailable("this platform has no Unix sockets", where=path, fix="use inferwatt.meter() in the process")
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        connection.settimeout(CONNECT_SECONDS)
        connection.connect(path)
        connection.setblocking(False)
    except OSError:
        connection.close()
        raise
    return connection


def listen(path: str) -> socket.socket:
    """Return a socket that listens at `path`, mode 0660; a folder that is missing is made with mode 0700.

    A socket file that nobody listens on is replaced; a live one is not.

    Raises:
        Unavailable: another agent listens there, the path is something else, or the folder cannot be used.
    """
    folder = os.path.dirname(path) or "."
    if not hasattr(socket, "AF_UNIX"):
        raise Unavailable("this platform has no Unix sockets", where=path, fix="use inferwatt.meter() in the process")
    try:
        if not os.path.isdir(folder):
            os.makedirs(folder, mode=0o700)
            _give_to_group(folder, 0o750)
        with _alone_in(folder):
            _remove_stale(path)
            listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            try:
                listener.bind(path)
                os.chmod(path, 0o660)  # before listen(): nobody can connect until it returns
                _give_to_group(path, 0o660)
                listener.listen(BACKLOG)
            except OSError:
                listener.close()
                raise
    except OSError as exc:
        what = f"cannot make the agent's socket: {exc.strerror or exc}"
        raise Unavailable(what, where=path, fix=f"set {VARIABLE} to a path that you can write") from exc
    listener.setblocking(False)
    return listener


def peer_of(connection: socket.socket) -> Peer:
    """Return who is at the other end by SO_PEERCRED (unix(7)); where there is none, the folder's mode must do."""
    option = getattr(socket, "SO_PEERCRED", None)
    if option is None:
        return Peer()
    return Peer(*struct.unpack("3i", connection.getsockopt(socket.SOL_SOCKET, option, 12)))


def is_allowed(peer: Peer) -> bool:
    """Say whether `peer` is this user, root, or a member of the group `inferwatt`."""
    if peer.uid in {-1, 0, os.geteuid()}:
        return True
    import grp
    import pwd

    try:
        group = grp.getgrnam(GROUP)
        return peer.gid == group.gr_gid or pwd.getpwuid(peer.uid).pw_name in group.gr_mem
    except KeyError:
        return False


def is_private(folder: str) -> bool:
    """Say whether `folder` is a real folder of this user (or root) that others cannot write to."""
    try:
        found = os.lstat(folder)
    except OSError:
        return False
    writable_by_others = found.st_mode & stat.S_IWOTH
    return stat.S_ISDIR(found.st_mode) and found.st_uid in {os.geteuid(), 0} and not writable_by_others


def _candidates(service_folder: str) -> list[str]:
    runtime = os.environ.get("XDG_RUNTIME_DIR")
    folders = [service_folder, *([os.path.join(runtime, "inferwatt")] if runtime else []), _own_folder()]
    return [os.path.join(folder, NAME) for folder in folders]


def _own_folder() -> str:
    return f"/tmp/inferwatt-{os.geteuid() if hasattr(os, 'geteuid') else 0}"  # not TMPDIR: both ends must agree


def _usable(folder: str, *, listen: bool) -> bool:
    """A folder that exists must let us in; one of ours that does not exist yet will be made by the agent."""
    if folder == _own_folder():
        return is_private(folder) or not os.path.lexists(folder)
    if os.path.isdir(folder):
        return os.access(folder, os.X_OK | (os.W_OK if listen else 0))
    parent = os.path.dirname(folder)
    return parent == os.environ.get("XDG_RUNTIME_DIR") and os.access(parent, os.X_OK | (os.W_OK if listen else 0))


def _fits(path: str) -> bool:
    return len(os.fsencode(path)) <= LONGEST_PATH_BYTES


def _short(path: str) -> str:
    if not _fits(path):
        raise Unavailable(
            f"the path of the socket has more than {LONGEST_PATH_BYTES} bytes",
            where=path,
            fix=f"set {VARIABLE} to a shorter one",
        )
    return path


def _remove_stale(path: str) -> None:
    try:
        found = os.lstat(path)
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(found.st_mode):
        fix = f"remove it, or set {VARIABLE}"
        raise Unavailable("something that is no socket is in the way", where=path, fix=fix)
    with contextlib.closing(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)) as probe:
        probe.settimeout(1.0)
        try:
            probe.connect(path)
        except BlockingIOError:  # its backlog is full: it lives
            pid = -1
        except (ConnectionRefusedError, FileNotFoundError):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)
            return
        else:
            pid = peer_of(probe).pid
    who = f" (pid {pid})" if pid > 0 else ""
    fix = f"stop it, or set {VARIABLE} to another path for this one"
    raise Unavailable(f"another agent runs{who}", where=path, fix=fix)


@contextlib.contextmanager
def _alone_in(folder: str) -> Iterator[None]:
    """Keep a second agent that starts at the same moment from taking our fresh socket for a stale one."""
    import fcntl

    descriptor = os.open(folder, os.O_RDONLY)
    try:
        give_up = time.monotonic() + BIND_SECONDS
        while time.monotonic() < give_up:  # anyone can hold a lock on /tmp: it is a courtesy, not a condition
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                time.sleep(0.01)
        yield
    finally:
        os.close(descriptor)


def _give_to_group(path: str, mode: int) -> None:
    """Let the group `inferwatt` in, where there is one and we are root."""
    if os.geteuid() != 0:
        return
    import grp

    with contextlib.suppress(KeyError, OSError):
        os.chown(path, -1, grp.getgrnam(GROUP).gr_gid)
        os.chmod(path, mode)
