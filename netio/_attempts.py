"""One attempt to connect that has begun: looked at now and then, and never waited for by itself.

So that one task can have several of them under way, with one future: see ``_racing.py``. An
attempt owns what it holds until it gives a channel; whoever has begun it closes it otherwise.
"""

from __future__ import annotations

import errno
import os
import socket
from typing import TYPE_CHECKING, Final, Protocol

from netio._channel import SocketChannel
from netio._readiness import DescriptorReadiness, Waiter

if TYPE_CHECKING:
    import asyncio

    from netio._channel import Channel
    from netio._errors import KnownAddress


# What a connect that has begun says; Windows has a number of its own. (Not EAGAIN: on Linux that
# means that there is no free port or no room, and nothing is going to happen.)
_IN_PROGRESS: Final = {
    0,
    errno.EINPROGRESS,
    errno.EINTR,
    getattr(errno, "WSAEWOULDBLOCK", errno.EINPROGRESS),
}


class Attempt(Protocol):
    """An attempt to connect that is under way."""

    def check(self) -> Channel | None:
        """The connection, once and for good; None: not answered yet. Raises ``OSError``."""

    def watch(self, waiter: Waiter) -> None:
        """Wake `waiter`, which has begun to wait, when `check` has something new to say.

        Called anew for each wait, and always with the same waiter.
        """

    def close(self) -> None:
        """Give up, also what has been answered meanwhile: nothing is left open."""


class Made:
    """An attempt that needs no answer: the connection is there."""

    __slots__ = ("_channel",)

    def __init__(self, channel: Channel) -> None:
        self._channel = channel

    def check(self) -> Channel:
        """See `Attempt`."""
        return self._channel

    def watch(self, waiter: Waiter) -> None:
        """See `Attempt`."""
        waiter.wake()

    def close(self) -> None:
        """See `Attempt`."""
        self._channel.close()


class SocketAttempt:
    """A socket that connects."""

    __slots__ = ("_loop", "_peer", "_readiness", "_sock", "_stand_in")

    def __init__(
        self, loop: asyncio.AbstractEventLoop, sock: socket.socket, address: KnownAddress
    ) -> None:
        """`sock`, which is non-blocking, is the attempt's, unless this raises (``OSError``)."""
        number = sock.connect_ex(address)
        if number not in _IN_PROGRESS:
            raise OSError(number, os.strerror(number))
        self._loop = loop
        self._sock = sock
        self._peer = address
        self._readiness: DescriptorReadiness | None = None  # most attempts never wait

    def check(self) -> SocketChannel | None:
        """See `Attempt`."""
        if not _connected(self._sock):
            return None
        _refuse_self_connection(self._sock)
        self._stop_watching()
        return SocketChannel(self._loop, self._sock, self._peer)

    def watch(self, waiter: Waiter) -> None:
        """See `Attempt`."""
        if self._readiness is None:
            self._readiness = DescriptorReadiness(self._loop, self._sock.fileno())
            self._stand_in = Waiter()
        self._readiness.watch_writable(self._stand_in, waiter)

    def close(self) -> None:
        """See `Attempt`."""
        self._stop_watching()
        self._sock.close()

    def _stop_watching(self) -> None:
        if self._readiness is not None:
            self._readiness.release()


def _connected(sock: socket.socket) -> bool:
    number = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
    if number:
        raise OSError(number, os.strerror(number))
    try:
        sock.getpeername()
    except OSError:
        return False
    return True


def _refuse_self_connection(sock: socket.socket) -> None:
    """A port of the ephemeral range that nobody listens on can be connected to itself.

    TCP allows that (simultaneous open); to the caller it is a refused port. Go's net does the
    same.
    """
    if sock.getsockname() == sock.getpeername():
        raise ConnectionRefusedError(errno.ECONNREFUSED, os.strerror(errno.ECONNREFUSED))
