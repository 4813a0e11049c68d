"""Where Unix sockets are connected and listened on: in the system, or on another network.

As in ``_network.py``: what is made of it is the same for all, so that a test may put a network in
memory there.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import socket
from typing import TYPE_CHECKING, Final, Protocol, runtime_checkable

from netio._arguments import check_socket
from netio._descriptor_channel import check_max_descriptors, socket_channel
from netio._network import SocketAcceptor, start_listening
from netio._paths import BoundPath, bind_path
from netio._readiness import Readiness
from netio._resting import Resting

if TYPE_CHECKING:
    from netio._channel import Channel, SocketChannel
    from netio._errors import Address
    from netio._network import Acceptor
    from netio._operation import Operation

# The backlog is full (Linux); or, elsewhere, a connect that is under way.
_LATER: Final = {errno.EAGAIN, errno.EINTR, errno.EINPROGRESS, errno.EALREADY}


@runtime_checkable
class UnixNetwork(Protocol):
    """Unix sockets out and in."""

    async def dial_unix(self, path: str | bytes, operation: Operation) -> Channel:
        """Connect. Raises ``OSError``, or `DeadlineExceeded` in time."""

    async def listen_unix(self, path: str | bytes, *, backlog: int, mode: int | None) -> Acceptor:
        """Listen at `path`. Raises ``OSError``."""


class SystemUnixNetwork:
    """The Unix sockets of the operating system."""

    def __init__(self, max_descriptors: int = 0) -> None:
        self._max_descriptors = max_descriptors

    async def dial_unix(self, path: str | bytes, operation: Operation) -> SocketChannel:
        """See `UnixNetwork`. Whatever happens, no socket is left behind."""
        loop = asyncio.get_running_loop()
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            sock.setblocking(False)
            await _connect(sock, path, operation, loop)
        except BaseException:
            sock.close()
            raise
        return socket_channel(loop, sock, path, self._max_descriptors)

    async def listen_unix(self, path: str | bytes, *, backlog: int, mode: int | None) -> Acceptor:
        """See `UnixNetwork`, and `bind_path` for a file that is there already."""
        loop = asyncio.get_running_loop()
        with contextlib.ExitStack() as opened:
            sock = opened.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))
            bound = bind_path(sock, path, mode=mode)
            if bound is not None:
                opened.callback(bound.remove)
            start_listening(sock, backlog)
            opened.pop_all()  # all is well: leave it open
        return UnixAcceptor(loop, sock, bound, self._max_descriptors)


_SYSTEM: Final = SystemUnixNetwork()


def chosen_unix_network(network: UnixNetwork | None, max_descriptors: int) -> UnixNetwork:
    """`network`, or the system's for None, which alone passes descriptors."""
    check_max_descriptors(max_descriptors)
    if network is None:
        return SystemUnixNetwork(max_descriptors) if max_descriptors else _SYSTEM
    if max_descriptors:
        raise ValueError("max_descriptors is of the system's network, and network is another one")
    if not isinstance(network, UnixNetwork):
        raise TypeError(f"network must have dial_unix and listen_unix; {network!r} has not")
    return network


class UnixAcceptor(SocketAcceptor):
    """A listening Unix socket, and the file that it has made; None: there is none of ours."""

    __slots__ = ("_bound", "_max_descriptors")

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        sock: socket.socket,
        bound: BoundPath | None = None,
        max_descriptors: int = 0,
    ) -> None:
        super().__init__(loop, sock)
        self._bound = bound
        self._max_descriptors = max_descriptors

    def channel(self, sock: socket.socket, peer: Address) -> SocketChannel:
        return socket_channel(self.loop, sock, peer, self._max_descriptors)

    def close(self) -> None:
        if self._bound is not None and not self.closed:
            self._bound.remove()  # first: who comes after must not be refused by what is left
        super().close()


async def _connect(
    sock: socket.socket, path: str | bytes, operation: Operation, loop: asyncio.AbstractEventLoop
) -> None:
    readiness = Readiness(loop)
    resting = Resting(readiness, operation)
    try:
        while (number := sock.connect_ex(path)) not in (0, errno.EISCONN):
            if number not in _LATER:
                raise OSError(number, os.strerror(number))
            now = loop.time()
            if operation.deadline <= now:
                raise operation.exceeded(now, "the listener's backlog is full")
            await resting.rest(now)
            await operation.let_scopes_answer(loop)
    finally:
        readiness.release()


def check_unix_listener(sock: socket.socket) -> None:
    """TypeError or ValueError, naming `sock`, for what can't be made a listener."""
    check_socket(sock)
    if sock.family != socket.AF_UNIX or sock.type != socket.SOCK_STREAM:
        raise ValueError("sock must be a Unix stream socket")
    if not sock.getsockname():
        raise ValueError("sock must be bound")
    with contextlib.suppress(OSError):
        sock.getpeername()
        raise ValueError("sock must be a listener, and this one is connected")
