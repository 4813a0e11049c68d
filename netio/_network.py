"""Where connections come from: the system's network, or another one put in its place.

`connect_tcp` and `serve_tcp` take ``network=``, an object with the three methods of `Network`.
What is made of them (limits, attempts in order, errors) is the same for all, so that a test that
puts a network in memory there tests the real thing.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket
from typing import TYPE_CHECKING, Final, Protocol, runtime_checkable

from netio._arguments import check_port, check_socket, is_numeric
from netio._attempts import SocketAttempt
from netio._channel import SocketChannel
from netio._errors import ConnectFailed, format_address
from netio._options import (
    DEFAULT_OPTIONS,
    Settings,
    SocketOptions,
    connection_settings,
    listener_settings,
)
from netio._readiness import DescriptorReadiness
from netio._resolve import Target, resolver_of

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from netio._attempts import Attempt
    from netio._channel import Channel
    from netio._errors import Address
    from netio._operation import Operation
    from netio._readiness import Waiter


_INTERNET: Final = (socket.AF_INET, socket.AF_INET6)

# What accept says when there is nothing to accept, or when the connection at hand is broken
# already: Linux passes on what the network had to say about it (accept(2)).
_NOT_THIS_ONE: Final = {
    errno.EAGAIN,
    errno.EWOULDBLOCK,
    errno.EINTR,
    errno.ECONNABORTED,
    errno.ECONNRESET,
    errno.ECONNREFUSED,
    errno.EPERM,  # refused by a firewall
    errno.EPROTO,
    errno.ENETDOWN,
    errno.ENETUNREACH,
    errno.EHOSTDOWN,
    errno.EHOSTUNREACH,
    errno.ETIMEDOUT,
}

# A port that is free for one address may be in use on the other; the system is asked for so many.
_PORT_TRIES: Final = 8


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

    def park(self, waiter: Waiter) -> Awaitable[None]:
        """See `Readiness`."""

    def wait_readable(self, waiter: Waiter) -> Awaitable[None]:
        """See `Readiness`."""


@runtime_checkable
class Network(Protocol):
    """Names, connections out, connections in."""

    async def resolve(self, host: str, port: int, operation: Operation) -> list[Target]:
        """The addresses of a name. Raises ``OSError`` for none, `DeadlineExceeded` in time."""

    def begin_dial(self, target: Target) -> Attempt:
        """Begin one attempt to connect, and wait for nothing. Raises ``OSError``."""

    async def listen(
        self, host: str | None, port: int, operation: Operation, *, backlog: int
    ) -> list[Acceptor]:
        """Listen on all addresses of `host` (None: on all of this machine's)."""


class SystemNetwork:
    """The network of the operating system, with the options that its sockets get.

    `local`: the numeric address that connections come from, with a port or 0; None: the system's
    choice.
    """

    def __init__(
        self, options: SocketOptions = DEFAULT_OPTIONS, local: tuple[str, int] | None = None
    ) -> None:
        self.settings = connection_settings(options)
        self._of_listeners = listener_settings(options, reuse=True)
        self._of_bound = listener_settings(options, reuse=bool(local and local[1]))
        self._local = local

    def _prepare(self, sock: socket.socket) -> None:
        """Set the options of a socket that is going to be connected, and its own address."""
        if self._local is None:
            apply_settings(self.settings, sock)
            return
        apply_settings(self._of_bound, sock)
        try:
            sock.bind(self._local)
        except socket.gaierror:  # an address of the other family
            where = format_address(self._local)
            text = f"local_address {where} is of another family"
            raise OSError(errno.EAFNOSUPPORT, text) from None
        except OSError as error:
            text = f"local_address {format_address(self._local)}: {error.strerror}"
            raise OSError(error.errno, text) from error

    async def resolve(self, host: str, port: int, operation: Operation) -> list[Target]:
        """See `Network`."""
        return await resolver_of(asyncio.get_running_loop()).lookup(host, port, operation)

    def begin_dial(self, target: Target) -> SocketAttempt:
        """See `Network`."""
        sock = socket.socket(target.family, socket.SOCK_STREAM)
        try:
            sock.setblocking(False)
            self._prepare(sock)
            return SocketAttempt(asyncio.get_running_loop(), sock, target.address)
        except BaseException:
            sock.close()
            raise

    async def listen(
        self, host: str | None, port: int, operation: Operation, *, backlog: int
    ) -> list[Acceptor]:
        """See `Network`. With port 0 the first address chooses, and the others take the same."""
        loop = asyncio.get_running_loop()
        lookup = resolver_of(loop).lookup(host, port, operation, flags=socket.AI_PASSIVE)
        try:
            targets = await lookup
        except socket.gaierror as error:
            raise ConnectFailed(
                f"cannot listen on {host}: it does not resolve: {error.strerror}",
                attempts=[error.with_traceback(None)],
            ) from error
        socks = _listeners(targets, port, backlog, self._of_listeners)
        return [SocketAcceptor(loop, sock, self.settings) for sock in socks]


_SYSTEM: Final = SystemNetwork()


def chosen_network(
    network: Network | None,
    options: SocketOptions = DEFAULT_OPTIONS,
    local: tuple[str, int] | None = None,
) -> Network:
    """`network`, or for None the system's with these options, which are of no other."""
    if network is None:
        if local is None and options == DEFAULT_OPTIONS:
            return _SYSTEM
        return SystemNetwork(options, local)
    if not isinstance(network, Network):
        raise TypeError(f"network must have resolve, begin_dial and listen; {network!r} has not")
    return network


class SocketAcceptor(DescriptorReadiness):
    """A listening socket. From here on it belongs to the acceptor alone."""

    __slots__ = ("_settings", "_sock", "address")

    def __init__(
        self, loop: asyncio.AbstractEventLoop, sock: socket.socket, settings: Settings = ()
    ) -> None:
        """`settings`: what is set on each connection."""
        super().__init__(loop, sock.fileno())
        self._sock = sock
        self._settings = settings
        self.address: Address = sock.getsockname()

    def accept(self) -> SocketChannel | None:
        """The next connection; one that the peer has given up meanwhile is passed over."""
        try:
            sock, peer = self._sock.accept()
        except OSError as error:
            # What is left in the queue is reported again at once.
            if error.errno in _NOT_THIS_ONE:
                return None
            raise
        sock.setblocking(False)
        with contextlib.suppress(OSError):  # a peer that is gone already makes no difference
            apply_settings(self._settings, sock)
        return self.channel(sock, peer or None)

    def channel(self, sock: socket.socket, peer: Address) -> SocketChannel:
        """What a connection that was accepted becomes."""
        return SocketChannel(self.loop, sock, peer)

    def close(self) -> None:
        """Accept no more; the kernel refuses what it has queued."""
        if not self.closed:
            self.release()
            self._sock.close()


def apply_settings(settings: Settings, sock: socket.socket) -> None:
    """Set each. Raises ``OSError``, which names the option."""
    for setting in settings:
        setting.apply(sock)


def check_local_address(address: object) -> tuple[str, int] | None:
    """An own address to connect from, as a pair: a numeric host, or one with a port; or None."""
    if address is None:
        return None
    host, port = (address, 0) if isinstance(address, str) else _pair(address)
    check_port(port)
    if not any(is_numeric(host, family) for family in _INTERNET):
        raise ValueError(f"local_address must be numeric, not {host!r}")
    return host, port


def _pair(address: object) -> tuple[str, int]:
    if isinstance(address, tuple) and len(address) == 2 and isinstance(address[0], str):
        return address
    raise TypeError(f"local_address must be a host, (host, port) or None, not {address!r}")


def port_of(address: Address) -> int:
    """The port of an address that is listened on; ValueError where there is none."""
    if not isinstance(address, tuple):
        raise ValueError(f"{format_address(address)} has no port")
    return address[1]


def check_listener(sock: socket.socket) -> None:
    """TypeError or ValueError, naming `sock`, for what can't be made a listener for TCP."""
    check_socket(sock)
    if sock.family not in _INTERNET or sock.type != socket.SOCK_STREAM:
        raise ValueError("sock must be a TCP socket")
    if not sock.getsockname()[1]:
        raise ValueError("sock must be bound")
    with contextlib.suppress(OSError):
        sock.getpeername()
        raise ValueError("sock must be a listener, and this one is connected")


def listen_on(
    sock: socket.socket, backlog: int, options: SocketOptions, loop: asyncio.AbstractEventLoop
) -> SocketAcceptor:
    """Make a listener of a bound TCP socket that the caller has handed over."""
    settings = connection_settings(options)
    # Of those for listeners the one of a port in use is too late. The others are set here, too, so
    # that what the system refuses is an error, and not passed over with each connection.
    apply_settings(settings, sock)
    start_listening(sock, backlog)
    return SocketAcceptor(loop, sock, settings)


def start_listening(sock: socket.socket, backlog: int) -> None:
    """Make `sock`, which is bound, a non-blocking listener."""
    sock.setblocking(False)
    sock.listen(backlog)


def _listeners(
    targets: list[Target], port: int, backlog: int, settings: Settings
) -> list[socket.socket]:
    """A listener for each target, all on the same port."""
    if port == 0:
        for _ in range(_PORT_TRIES - 1):
            try:
                return _listen_on_all(targets, 0, backlog, settings)
            except OSError as error:
                if error.errno != errno.EADDRINUSE:
                    raise
    return _listen_on_all(targets, port, backlog, settings)


def _listen_on_all(
    targets: list[Target], port: int, backlog: int, settings: Settings
) -> list[socket.socket]:
    unsupported: OSError | None = None
    socks = []
    with contextlib.ExitStack() as opened:
        for target in targets:
            try:
                sock = _listener(target, port, backlog, settings)
            except OSError as error:
                # A machine without IPv6 still lists "::" among its addresses.
                if error.errno not in (errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL):
                    raise
                unsupported = error
                continue
            opened.callback(sock.close)
            socks.append(sock)
            port = sock.getsockname()[1]
        if unsupported is not None and not socks:
            raise unsupported
        opened.pop_all()  # all is well: leave them open
    return socks


def _listener(target: Target, port: int, backlog: int, settings: Settings) -> socket.socket:
    if not isinstance(target.address, tuple):
        raise TypeError(f"not an address of the internet: {target.address!r}")
    host, _, *rest = target.address
    try:
        with contextlib.ExitStack() as opened:
            sock = opened.enter_context(socket.socket(target.family, socket.SOCK_STREAM))
            apply_settings(settings, sock)
            if target.family == socket.AF_INET6:
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            sock.bind((host, port, *rest))
            start_listening(sock, backlog)
            opened.pop_all()
    except OSError as error:
        text = f"cannot listen on {format_address((host, port))}: {error.strerror}"
        raise OSError(error.errno, text) from None
    return sock
