"""Channels: the small non-blocking interface that a stream stands on, and the one of a socket.

A channel never waits inside a call. It takes and gives bytes, or says that it would block, as a
non-blocking socket does; what waiting is needed, in either direction, is the primitive's
(`Readiness`). Whoever writes a channel derives from that and adds these few methods.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol

from netio._defaults import BYTES_PER_TURN, READ_BYTES
from netio._errors import StreamClosed
from netio._readiness import DescriptorReadiness

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Awaitable, Sequence

    from netio._errors import Address
    from netio._readiness import Waiter

_RESET_ON_CLOSE: Final = struct.pack("ii", 1, 0)
_CREDENTIALS: Final = struct.Struct("iII")  # a pid, which may be 0 or less, a uid and a gid


class Channel(Protocol):
    """What a stream needs: bytes in, bytes out, waiting, and an end.

    `receive`, `receive_into`, `send` and `send_many` are what `recv`, `recv_into`, `send` and
    `sendmsg` of a non-blocking socket are: ``BlockingIOError`` where they would block, any other
    ``OSError`` for what the connection does; the stream keeps the first such error. All sizes are
    bytes.
    """

    loop: asyncio.AbstractEventLoop
    closed: bool
    ripe: bool

    @property
    def committed(self) -> int:
        """Bytes of the last `send` that are on their way and not reported: encrypted already.

        The next one must offer the same bytes first. A write that is cut while this is not 0 has
        been sent in part (law 13). Always 0 for a socket.
        """

    @property
    def dry(self) -> bool:
        """Whether more can't be had now, though the last `receive` gave all that was asked for.

        Asking a socket would only tell that it blocks. Always False where that is not known.
        """

    @property
    def truncated(self) -> bool:
        """Whether the end that `receive` told was not what the peer had announced."""

    @property
    def peer(self) -> Address:
        """The other side's address, also after the connection is gone."""

    @property
    def local(self) -> Address:
        """This side's address, or None once the channel is closed."""

    def receive(self, max_bytes: int, /) -> bytes:
        """Up to `max_bytes`; ``b""`` at the end of the stream."""

    def receive_into(self, view: memoryview, /) -> int:
        """As `receive`, into the beginning of `view`: how many bytes."""

    def send(self, data: bytes | memoryview, /) -> int:
        """Give what fits of `data`: how many bytes were taken."""

    def send_many(self, views: Sequence[memoryview], /) -> int:
        """As `send`, for several buffers in order."""

    def shut_down_writing(self) -> None:
        """Tell the other side that no more bytes follow.

        ``BlockingIOError``: call it again when the channel is writable.
        """

    def tear(self) -> None:
        """A write was cut after a part had gone: of what is kept of it nothing more is to go."""

    def close(self) -> None:
        """Release everything, in order; waiting operations wake up."""

    def abort(self) -> None:
        """As `close`, but the other side sees a reset."""

    def abandon(self) -> None:
        """`close` from a finalizer: from any thread, whatever has become of the loop."""

    def park(self, waiter: Waiter) -> Awaitable[None]:
        """See `Readiness`."""

    def wait_readable(self, waiter: Waiter) -> Awaitable[None]:
        """See `Readiness`."""

    def wait_writable(self, waiter: Waiter) -> Awaitable[None]:
        """See `Readiness`."""

    def leave(self, waiter: Waiter) -> None:
        """See `Readiness`."""

    def rearm(self, waiter: Waiter) -> None:
        """See `Readiness`."""

    def release(self) -> None:
        """See `Readiness`."""

    def readable(self) -> bool:
        """See `Readiness`."""

    @property
    def waiters(self) -> tuple[Waiter, ...]:
        """See `Readiness`."""


class SocketChannel(DescriptorReadiness):
    """A connected stream socket. From here on it belongs to the channel alone."""

    __slots__ = ("_peer", "receive", "send", "sock")

    def __init__(
        self, loop: asyncio.AbstractEventLoop, sock: socket.socket, peer: Address = None
    ) -> None:
        super().__init__(loop, sock.fileno())
        self.sock: socket.socket = sock
        self._peer = peer
        # The methods of the socket themselves, where a call is felt.
        self.receive = sock.recv
        self.send = sock.send

    @property
    def peer(self) -> Address:
        return self._peer

    @property
    def local(self) -> Address:
        if self.closed:
            return None
        address: Address = self.sock.getsockname()
        return address or None

    def receive_into(self, view: memoryview, /) -> int:
        return self.sock.recv_into(view)

    def send_many(self, views: Sequence[memoryview], /) -> int:
        return self.sock.sendmsg(views)

    def send_file(self, descriptor: int, offset: int, count: int) -> int:
        """As `send`, of the bytes of a file from `offset` on; 0: there are no more."""
        return os.sendfile(self.sock.fileno(), descriptor, offset, count)

    def shut_down_writing(self) -> None:
        self.sock.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        if self.closed:
            return
        try:
            self.release()
            self.sock.shutdown(socket.SHUT_WR)
            self._take_leftovers()
        except OSError:
            pass  # nothing more is here; or the connection was gone already
        finally:
            self.sock.close()

    def _take_leftovers(self) -> None:
        """Read what is here unread, once: closing over it would send a reset.

        A reset makes the peer drop what it has not read yet, our last bytes among it.
        """
        taken = 0
        while taken < BYTES_PER_TURN:
            chunk = self.receive(READ_BYTES)
            if not chunk:
                return
            taken += len(chunk)

    def abort(self) -> None:
        if self.closed:
            return
        try:
            self.release()
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
        except OSError:
            pass  # not a TCP socket, or gone already: closing is all there is
        finally:
            self.sock.close()

    def abandon(self) -> None:
        if self.loop.is_closed():
            self.sock.close()
        else:
            self.loop.call_soon_threadsafe(self.close)

    def check_detach(self) -> None:
        """Raise what says that something would be lost by `detach`."""

    def detach(self) -> socket.socket:
        """Give the socket away: nothing of netio is left on it, and the channel is closed."""
        self.release()
        return self.sock


class OwnsSocket(Protocol):
    """A channel that has a socket, and says when it has it no more."""

    closed: bool
    sock: socket.socket


class PeerCredentials(NamedTuple):
    """Who is at the other end of a Unix socket.

    Attributes:
        pid: the number of its process, as it was when the two were connected. That may have ended,
            and another one have the number.
        uid: the number of its user.
        gid: the number of its group.
    """

    pid: int
    uid: int
    gid: int


class SocketView:
    """What a stream shows of its socket: options and names, and nothing that moves bytes.

    The descriptor is the stream's alone. Closing or duplicating it behind netio's back spins the
    stock loop and aborts uvloop; `Stream.detach` gives the socket away for good. Once the stream
    is closed or detached, `fileno` is -1, and the rest raises `StreamClosed`.
    """

    __slots__ = ("_channel",)

    def __init__(self, channel: OwnsSocket) -> None:
        self._channel = channel

    @property
    def _sock(self) -> socket.socket:
        if self._channel.closed:
            raise StreamClosed("the socket is not the stream's any more: it was closed or detached")
        return self._channel.sock

    @property
    def family(self) -> int:
        """The address family, one of ``socket.AF_*``."""
        return self._sock.family

    @property
    def type(self) -> int:
        """The kind of socket, one of ``socket.SOCK_*``."""
        return self._sock.type

    @property
    def proto(self) -> int:
        """The protocol number."""
        return self._sock.proto

    def fileno(self) -> int:
        """The descriptor's number; -1 once the stream is closed. Don't close or register it."""
        return -1 if self._channel.closed else self._channel.sock.fileno()

    def getsockname(self) -> Address:
        """As ``socket.getsockname``."""
        address: Address = self._sock.getsockname()
        return address

    def getpeername(self) -> Address:
        """As ``socket.getpeername``."""
        address: Address = self._sock.getpeername()
        return address

    def getsockopt(self, level: int, option: int, size: int = 0) -> int | bytes:
        """As ``socket.getsockopt``; `size` bytes are asked for where it is not 0.

        Raises:
            ValueError: for ``SO_ERROR``: the kernel tells an error once, and it is for the next
                read or write, which would otherwise take a reset for the end of the stream.
        """
        if (level, option) == (socket.SOL_SOCKET, socket.SO_ERROR):
            raise ValueError(
                "option SO_ERROR belongs to the stream; a read or a write will raise it"
            )
        if size:
            return self._sock.getsockopt(level, option, size)
        return self._sock.getsockopt(level, option)

    def setsockopt(self, level: int, option: int, value: int | bytes) -> None:
        """As ``socket.setsockopt``."""
        self._sock.setsockopt(level, option, value)

    def peer_credentials(self) -> PeerCredentials:
        """Who the peer of a Unix socket was when the two were connected, as the system says.

        Raises:
            OSError: the system does not tell; Linux does.
            TypeError: it is no Unix socket.
            StreamClosed: it was closed or detached.
        """
        sock = self._sock
        if sock.family != getattr(socket, "AF_UNIX", None):
            raise TypeError("peer_credentials: only Unix sockets have them")
        if not hasattr(socket, "SO_PEERCRED"):
            raise OSError(errno.ENOTSUP, "peer_credentials: this system does not tell them")
        told = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
        return PeerCredentials(*_CREDENTIALS.unpack(told))

    def __repr__(self) -> str:
        return f"<netio.SocketView fd={self.fileno()}>"
