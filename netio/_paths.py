"""The names of Unix sockets: checks, and files of sockets that nobody listens on any more.

A socket that is bound to a path makes a file, which stays behind when its program is killed, and
is in the way of the next one. `bind_path` does what careful servers do: it asks by connecting, and
takes away only what is refused, and only a socket.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import stat
import sys
from typing import Final, NamedTuple

from netio._arguments import check_count

#: What names a Unix socket: a path, or, with a leading NUL, a name of Linux's abstract space.
UnixPath = str | bytes | os.PathLike[str] | os.PathLike[bytes]

# sizeof(sun_path). A path has to end in a NUL, an abstract name has not.
_ROOM: Final = 108 if sys.platform == "linux" else 104
_HAS_ABSTRACT: Final = sys.platform == "linux"
_MODE_MAX: Final = 0o777

# Who connects to a socket that is in use gets one of these, or is connected.
_IN_USE: Final = {
    errno.EAGAIN,  # the backlog is full
    errno.EINPROGRESS,
    errno.EPROTOTYPE,  # a socket of another type
    errno.EACCES,  # which leaves open whether anybody listens: it is not ours to take away
    errno.EPERM,
}


def check_path(path: UnixPath, name: str = "path") -> str | bytes:
    """`path` as the kernel tells it: a str, or bytes for an abstract name."""
    try:
        raw = os.fsencode(path)
    except TypeError:
        kind = type(path).__name__
        raise TypeError(f"{name} must be a str, bytes or PathLike, not {kind}") from None
    if not hasattr(socket, "AF_UNIX"):
        raise ValueError(f"{name}: this system has no Unix sockets")
    abstract = raw.startswith(b"\0")
    if not raw or raw == b"\0":
        raise ValueError(f"{name} must not be empty")
    if abstract and not _HAS_ABSTRACT:
        raise ValueError(f"{name} must not begin with NUL: only Linux has abstract names")
    if not abstract and b"\0" in raw:
        raise ValueError(f"{name} must not contain NUL: {path!r}")
    most = _ROOM if abstract else _ROOM - 1
    if len(raw) > most:
        raise ValueError(f"{name} must be at most {most} bytes, and has {len(raw)}: {path!r}")
    return raw if abstract else os.fsdecode(raw)


def check_mode(mode: int | None) -> None:
    """TypeError or ValueError, naming `mode`, for what is no permissions of a file."""
    if mode is None:
        return
    if check_count(mode, "mode") > _MODE_MAX:
        raise ValueError(f"mode must be permissions from 0 to 0o777, not {mode:#o}")


class BoundPath(NamedTuple):
    """The file that a socket of ours has made."""

    path: str
    device: int
    inode: int

    def remove(self) -> None:
        """Take it away, unless it is another one by now, or cannot be."""
        with contextlib.suppress(OSError):
            if _file_of(os.lstat(self.path)) == (self.device, self.inode):
                os.unlink(self.path)


def bind_path(sock: socket.socket, path: str | bytes, *, mode: int | None) -> BoundPath | None:
    """Bind a Unix socket, in place of one that nobody listens on; None: it has no file.

    `mode` are the permissions of the file, set before anybody can connect; None: the umask's.
    Two programs that do this in the same moment may both think that they have the path; the one
    that comes second has it.

    Raises ``OSError``: the path is in use, is no socket, or cannot be made. Nothing is left of it.
    """
    try:
        try:
            sock.bind(path)
        except OSError as error:
            if error.errno != errno.EADDRINUSE or isinstance(path, bytes):
                raise
            _remove_stale(path, sock.type)
            sock.bind(path)
    except OSError as error:
        shown = path if isinstance(path, str) else "@" + path[1:].decode(errors="replace")
        raise OSError(error.errno, f"cannot listen on {shown}: {error.strerror}") from None
    if isinstance(path, bytes):
        return None
    bound = BoundPath(os.path.abspath(path), *_file_of(os.lstat(path)))
    if mode is not None:
        try:
            os.chmod(path, mode)
        except BaseException:
            bound.remove()
            raise
    return bound


def _file_of(status: os.stat_result) -> tuple[int, int]:
    return status.st_dev, status.st_ino


def _remove_stale(path: str, kind: int) -> None:
    """Take away the file at `path` if it is a socket that nobody has; else an ``OSError``."""
    try:
        before = os.lstat(path)
        if not stat.S_ISSOCK(before.st_mode):
            raise OSError(errno.ENOTSOCK, "there is a file, and it is no socket")
        with socket.socket(socket.AF_UNIX, kind) as probe:
            probe.setblocking(False)
            number = probe.connect_ex(path)
        if number == 0 or number in _IN_USE:
            raise OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE))
        if number != errno.ECONNREFUSED:
            raise OSError(number, os.strerror(number))
        if _file_of(os.lstat(path)) == _file_of(before):
            os.unlink(path)
    except FileNotFoundError:
        pass  # it is gone already
