"""Where connections come from: the system's network, or another one put in its place.

`connect_tcp` and `serve_tcp` take ``network=``, an object with the three methods of `Network`.
What is made of them (limits, attempts in order, errors) is the same for all, so that a test that
puts a network in memory there tests the real thing.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import socket
from typing import TYPE_CHECKING, Final, Protocol

from netio._channel import SocketChannel
from netio._readiness import DescriptorReadiness
from netio._resolve import Target, resolver_of

if TYPE_CHECKING:
    from netio._channel import Channel
    from netio._errors import Address
    from netio._limits import Operation
    from netio._readiness import Waiter


class Acceptor(Protocol):
    """What a listener stands on, as a stream stands on a channel."""

    loop: asyncio.AbstractEventLoop
    closed: bool

    @property
    def address(self) -> Address:
        """The address it is bound to."""

    def accept(self) -> Channel | None:
        """The next connection; None: would block. Raises ``OSError`` when out of descriptors."""

    def close(self) -> None:
        """Accept no more; who waits wakes up."""

    async def park(self, waiter: Waiter, line: list[Waiter] | None = None) -> None:
        """See `Readiness`."""

    async def wait_readable(self, waiter: Waiter) -> None:
        """See `Readiness`."""


class Network(Protocol):
    """Names, connections out, connections in."""

    async def resolve(self, host: str, port: int, operation: Operation) -> list[Target]:
        """The addresses of a name. Raises ``OSError`` for none, `DeadlineExceeded` in time."""

    async def dial(self, target: Target, operation: Operation) -> Channel:
        """One attempt to connect. Raises ``OSError``, or `DeadlineExceeded` in time."""

    async def listen(
        self, host: str | None, port: int, operation: Operation, *, backlog: int
    ) -> list[Acceptor]:
        """Listen on all addresses of `host` (None: on all of this machine's)."""


class SystemNetwork:
    """The network of the operating system."""

    async def resolve(self, host: str, port: int, operation: Operation) -> list[Target]:
        """See `Network`."""
        return await resolver_of(asyncio.get_running_loop()).lookup(host, port, operation)

    async def dial(self, target: Target, operation: Operation) -> SocketChannel:
        """See `Network`. Whatever happens, no socket is left behind."""
        loop = asyncio.get_running_loop()
        sock = socket.socket(target.family, socket.SOCK_STREAM)
        try:
            sock.setblocking(False)
            no_delay(sock)
            number = sock.connect_ex(target.address)
            if number in (errno.EINPROGRESS, errno.EWOULDBLOCK, errno.EINTR):
                await _finish_connecting(sock, operation, loop)
            elif number:
                raise OSError(number, os.strerror(number))
            _refuse_self_connection(sock)
        except BaseException:
            sock.close()
            raise
        return SocketChannel(loop, sock, target.address)

    async def listen(
        self, host: str | None, port: int, operation: Operation, *, backlog: int
    ) -> list[Acceptor]:
        """See `Network`. With port 0 the first address chooses, and the others take the same."""
        loop = asyncio.get_running_loop()
        resolver = resolver_of(loop)
        targets = await resolver.lookup(host, port, operation, flags=socket.AI_PASSIVE)
        acceptors: list[Acceptor] = []
        try:
            for target in targets:
                try:
                    sock = _bound(target, port)
                except OSError as error:
                    # A machine without IPv6 still lists "::" among its wildcard addresses.
                    unsupported = error.errno in (errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL)
                    if unsupported and host is None and len(targets) > 1:
                        continue
                    raise
                port = sock.getsockname()[1]
                acceptors.append(SocketAcceptor(loop, sock, backlog))
        except BaseException:
            for acceptor in acceptors:
                acceptor.close()
            raise
        return acceptors


SYSTEM: Final = SystemNetwork()


class SocketAcceptor(DescriptorReadiness):
    """A listening socket. From here on it belongs to the acceptor alone."""

    __slots__ = ("_sock", "address")

    def __init__(self, loop: asyncio.AbstractEventLoop, sock: socket.socket, backlog: int) -> None:
        super().__init__(loop, sock.fileno())
        sock.setblocking(False)
        sock.listen(backlog)
        self._sock = sock
        self.address: Address = sock.getsockname()

    def accept(self) -> SocketChannel | None:
        """The next connection; what the peer has given up meanwhile is passed over."""
        while True:
            try:
                sock, peer = self._sock.accept()
            except (BlockingIOError, InterruptedError):
                return None
            except ConnectionError:
                continue
            break
        sock.setblocking(False)
        no_delay(sock)
        return SocketChannel(self.loop, sock, peer or None)

    def close(self) -> None:
        """Accept no more; the kernel refuses what it has queued."""
        if not self.closed:
            self.release()
            self._sock.close()


def no_delay(sock: socket.socket) -> None:
    """Send small messages at once; a peer that is gone already makes no difference."""
    if sock.family in (socket.AF_INET, socket.AF_INET6):
        with contextlib.suppress(OSError):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


async def _finish_connecting(
    sock: socket.socket, operation: Operation, loop: asyncio.AbstractEventLoop
) -> None:
    readiness = DescriptorReadiness(loop, sock.fileno())
    try:
        while not _connected(sock):
            now = loop.time()
            if operation.deadline <= now:
                raise operation.exceeded(now, "the peer has not answered")
            await readiness.wait_writable(operation)
    finally:
        readiness.release()


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


def _bound(target: Target, port: int) -> socket.socket:
    """A socket bound to the host of `target` and to `port`."""
    if not isinstance(target.address, tuple):
        raise TypeError(f"not an address of the internet: {target.address!r}")
    host = target.address[0]
    address = (host, port, *target.address[2:])
    sock = socket.socket(target.family, socket.SOCK_STREAM)
    try:
        if os.name == "posix":  # on Windows the option lets others steal the port
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if target.family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind(address)
    except OSError as error:
        sock.close()
        text = f"cannot listen on {host} port {port}: {os.strerror(error.errno or 0)}"
        raise OSError(error.errno, text) from None
    except BaseException:
        sock.close()
        raise
    return sock
