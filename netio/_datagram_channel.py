"""A datagram socket as a channel: the socket, its two system calls, and what it is called.

The kernel's queue of datagrams is the only queue. What a read has taken and nobody has had yet is
kept by the receiving side, and is one datagram at most.
"""

from __future__ import annotations

import errno
import socket
import struct
import sys
from typing import TYPE_CHECKING, Final

from netio._errors import connection_lost
from netio._readiness import DescriptorReadiness

if TYPE_CHECKING:
    import asyncio

    from netio._errors import Address
    from netio._paths import BoundPath

# Linux tells the state of a socket's queues as an array of 32-bit numbers; the ninth one is how
# many datagrams were dropped. (The number of the option is that of most architectures.)
_SO_MEMINFO: Final = 55
_MEMINFO: Final = struct.Struct("9I")

# What a datagram may bring back from the network; the rest is the caller's, or the system's.
_OF_THE_NETWORK: Final = {
    errno.ECONNREFUSED,
    errno.ECONNRESET,
    errno.ENETUNREACH,
    errno.EHOSTUNREACH,
    errno.ENETDOWN,
    getattr(errno, "EHOSTDOWN", errno.EHOSTUNREACH),
    errno.ENOTCONN,
    errno.EPIPE,
    errno.ENOENT,  # the path of a Unix socket that is gone
    errno.ETIMEDOUT,
    errno.ENOBUFS,
}


class DatagramChannel(DescriptorReadiness):
    """A datagram socket. From here on it belongs to the channel alone.

    Attributes:
        peer: the address that it is connected to; None: it is not, or to one without a name.
        connected: whether it has one peer.
        send, send_to: the methods of the socket itself, since each call is felt.
    """

    __slots__ = ("_bound", "connected", "family", "peer", "send", "send_to", "sock")

    def __init__(
        self, loop: asyncio.AbstractEventLoop, sock: socket.socket, bound: BoundPath | None = None
    ) -> None:
        super().__init__(loop, sock.fileno())
        self.sock: socket.socket = sock
        self.family = sock.family
        self._bound = bound
        self.peer: Address = None
        self.connected = True
        try:
            self.peer = sock.getpeername() or None
        except OSError:
            self.connected = False
        self.send = sock.send
        self.send_to = sock.sendto

    @property
    def local(self) -> Address:
        """This side's address, or None once it is closed."""
        if self.closed:
            return None
        address: Address = self.sock.getsockname()
        return address or None

    def dropped(self) -> int | None:
        """How many datagrams the kernel has dropped, since its queue was full; None: unknown."""
        if self.closed or not sys.platform.startswith("linux"):
            return None
        try:
            told = self.sock.getsockopt(socket.SOL_SOCKET, _SO_MEMINFO, _MEMINFO.size)
        except OSError:
            return None  # a kernel before 4.12
        if len(told) < _MEMINFO.size:
            return None
        drops: int = _MEMINFO.unpack(told)[-1]
        return drops

    def close(self) -> None:
        """Release everything, watchers first; waiting operations wake up."""
        if self.closed:
            return
        self.release()
        if self._bound is not None:
            self._bound.remove()
        self.sock.close()

    def abandon(self) -> None:
        """`close` from a finalizer: from any thread, whatever has become of the loop."""
        if self.loop.is_closed():
            self.close()
        else:
            self.loop.call_soon_threadsafe(self.close)

    def _look_for_failure(self) -> None:
        # An ICMP error makes uvloop drop both watchers, and is gone when the first attempt has met
        # it: asking whether there is one is too late.
        if self._has_failed is not None:
            self.loop.call_soon(self._watch_again)


def is_of_the_network(error: OSError) -> bool:
    """Whether the network said it, and not the system about what it was asked for."""
    return error.errno in _OF_THE_NETWORK


def datagram_error(error: OSError, what: str) -> OSError:
    """A fresh error for what the kernel said about a datagram."""
    if is_of_the_network(error):
        return connection_lost(error, what)
    fresh = OSError(error.errno, f"{what}: {error.strerror}")
    fresh.__cause__ = error
    return fresh
