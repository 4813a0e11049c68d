"""Making datagram sockets: of UDP and Unix sockets, bound or connected, or of one you have."""

from __future__ import annotations

import asyncio
import socket
from typing import TYPE_CHECKING, Final

from netio._arguments import check_count, check_host, check_port, check_socket
from netio._datagram import DatagramSocket, check_datagram_timeouts
from netio._datagram_channel import DatagramChannel
from netio._defaults import DATAGRAM_BYTES, DEFAULT
from netio._errors import ConnectFailed, DeadlineExceeded, format_address
from netio._holding import give_turn
from netio._limits import DEFAULT_TIMEOUTS, check_timeout
from netio._network import apply_settings, chosen_network
from netio._opening import Opening
from netio._operation import Operation
from netio._options import DEFAULT_OPTIONS, SocketOptions, check_options, datagram_settings
from netio._paths import BoundPath, bind_path, check_mode, check_path

if TYPE_CHECKING:
    from collections.abc import Callable

    from netio._limits import Timeout, Timeouts
    from netio._options import Settings
    from netio._paths import UnixPath
    from netio._resolve import Target

# Each receive asks for so much memory, before it gives back what it did not need. No system has
# datagrams near this.
_MOST_BYTES: Final = 64 << 20


def bind_udp(
    host: str,
    port: int = 0,
    *,
    timeouts: Timeouts = DEFAULT_TIMEOUTS,
    options: SocketOptions = DEFAULT_OPTIONS,
    max_bytes: int = DATAGRAM_BYTES,
) -> Opening[DatagramSocket]:
    """Receive UDP datagrams from anybody: ``async with bind_udp("0.0.0.0", 7000) as sock``.

    `host`: a name or address of this machine; ``"0.0.0.0"`` or ``"::"`` are all of its addresses of
    that kind. Of a name, the first address that can be bound is taken. `port`: 0 lets the system
    choose, see `DatagramSocket.local`. `timeouts`: the default limits: ``read`` of a receive,
    ``write`` of a send, ``resolve`` of the lookup. `options`: what is set on the socket before it
    is bound: its buffers, and whether others may have the port, too. `max_bytes`: the longest
    datagram that is received whole; the default, 65,536 bytes, is more than any of UDP has.

    Returns: an awaitable that gives the `DatagramSocket`, and a context manager that closes it.

    Raises:
        OSError: the address can't be bound. Nothing is left open.
        ConnectFailed: the name does not resolve; it is an OSError as well.
        DeadlineExceeded: the name took longer to look up than ``timeouts.resolve``.
        TypeError, ValueError: at the call, before any I/O.

    Cancellation: nothing is left behind.
    """
    check_host(host)
    check_port(port)
    check_datagram_timeouts(timeouts)
    check_options(options)
    settings = datagram_settings(options)
    _check_max_bytes(max_bytes)

    async def bind() -> DatagramSocket:
        whole = Operation("bind_udp", peer=(host, port))
        targets = await _look_up(whole, host, port, DEFAULT, timeouts.resolve, "resolve")
        sock = _first_that_works(targets, _bind, settings, whole)
        return _datagram_socket(sock, None, timeouts, max_bytes)

    return Opening("bind_udp", bind())


def connect_udp(
    host: str,
    port: int,
    *,
    timeout: Timeout = DEFAULT,
    timeouts: Timeouts = DEFAULT_TIMEOUTS,
    options: SocketOptions = DEFAULT_OPTIONS,
    max_bytes: int = DATAGRAM_BYTES,
) -> Opening[DatagramSocket]:
    """Exchange UDP datagrams with one peer: ``async with connect_udp(host, 53) as sock``.

    Nothing is sent by that: whether anybody is there is told by the first datagrams. Those of
    others are not received. Of a name, the first address that this machine has a way to is taken.

    `host`: a name or address. `timeout`: seconds for the lookup, a `Deadline` or `Budget`, None for
    no limit; left out, the limit is ``timeouts.resolve``. `timeouts`: the default limits: ``read``
    of a receive, ``write`` of a send. `options`: what is set on the socket before it is connected,
    its buffers. `max_bytes`: the longest datagram that is received whole; the default, 65,536
    bytes, is more than any of UDP has.

    Returns: an awaitable that gives the `DatagramSocket`, and a context manager that closes it.

    Raises:
        ConnectFailed: the name does not resolve, or there is no way to any of its addresses.
        DeadlineExceeded: the name took longer to look up.
        TypeError, ValueError: at the call, before any I/O.

    Cancellation: nothing is left behind.
    """
    check_host(host)
    check_port(port, at_least=1)
    check_timeout(timeout)
    check_datagram_timeouts(timeouts)
    check_options(options)
    settings = datagram_settings(options)
    _check_max_bytes(max_bytes)

    async def connect() -> DatagramSocket:
        whole = Operation("connect_udp", peer=(host, port))
        targets = await _look_up(whole, host, port, timeout, timeouts.resolve, "resolve")
        try:
            sock = _first_that_works(targets, _connect, settings, whole)
        except OSError as error:
            raise ConnectFailed(
                str(error.strerror), attempts=[error.with_traceback(None)]
            ) from error
        return _datagram_socket(sock, None, timeouts, max_bytes)

    return Opening("connect_udp", connect())


def bind_unix_datagram(
    path: UnixPath,
    *,
    mode: int | None = None,
    timeouts: Timeouts = DEFAULT_TIMEOUTS,
    max_bytes: int = DATAGRAM_BYTES,
) -> Opening[DatagramSocket]:
    """Receive datagrams on a Unix socket: ``async with bind_unix_datagram(path) as sock``.

    `path`, and the file that is made and removed: as for `listen_unix`. `mode`: the permissions of
    the file, for instance ``0o660``; None leaves them to the umask. (They are set just after it is
    there; let a directory keep others out where a moment matters.) `timeouts`: the default limits:
    ``read`` of a receive, ``write`` of a send. `max_bytes`: the longest datagram that is received
    whole, in bytes; of a longer one the rest is gone, and it says `Datagram.truncated`.

    Returns: an awaitable that gives the `DatagramSocket`, and a context manager that closes it.

    Raises:
        OSError: somebody has the path (``EADDRINUSE``), there is a file that is no socket
            (``ENOTSOCK``), or the path can't be made. Nothing is left open.
        TypeError, ValueError: at the call, before any I/O; a path that is too long, too.

    Cancellation: nothing is left behind.
    """
    where = check_path(path)
    check_mode(mode)
    if mode is not None and isinstance(where, bytes):
        raise ValueError("mode: an abstract name has no permissions")
    check_datagram_timeouts(timeouts)
    _check_max_bytes(max_bytes)

    async def bind() -> DatagramSocket:
        await give_turn()  # it is bound, or refused, without waiting (law 35)
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        try:
            bound = bind_path(sock, where, mode=mode)
        except BaseException:
            sock.close()
            raise
        return _datagram_socket(sock, bound, timeouts, max_bytes)

    return Opening("bind_unix_datagram", bind())


def connect_unix_datagram(
    path: UnixPath,
    *,
    local_path: UnixPath | None = None,
    timeouts: Timeouts = DEFAULT_TIMEOUTS,
    max_bytes: int = DATAGRAM_BYTES,
) -> Opening[DatagramSocket]:
    """Send datagrams to a Unix socket: ``async with connect_unix_datagram(path) as sock``.

    `path`: as for `connect_unix`. `local_path`: the own name, without which nobody can answer; made
    and removed as that of `bind_unix_datagram`; None for no name. `timeouts`: the default limits:
    ``read`` of a receive, ``write`` of a send. `max_bytes`: the longest datagram that is received
    whole, in bytes.

    Returns: an awaitable that gives the `DatagramSocket`, and a context manager that closes it.

    Raises:
        ConnectFailed: nobody has that path; its `errno` says what the system said.
        OSError: the own path can't be bound, as for `bind_unix_datagram`. Nothing is left open.
        TypeError, ValueError: at the call, before any I/O; a path that is too long, too.

    Cancellation: nothing is left behind.
    """
    where = check_path(path)
    own = None if local_path is None else check_path(local_path, "local_path")
    check_datagram_timeouts(timeouts)
    _check_max_bytes(max_bytes)

    async def connect() -> DatagramSocket:
        await give_turn()  # the system connects without waiting (law 35)
        bound: BoundPath | None = None
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        try:
            if own is not None:
                bound = bind_path(sock, own, mode=None)
            try:
                sock.connect(where)
            except OSError as error:
                text = f"connect_unix_datagram to {format_address(where)}: {error.strerror}"
                raise ConnectFailed(text, attempts=[error.with_traceback(None)]) from error
        except BaseException:
            if bound is not None:
                bound.remove()
            sock.close()
            raise
        return _datagram_socket(sock, bound, timeouts, max_bytes)

    return Opening("connect_unix_datagram", connect())


def open_datagrams(
    sock: socket.socket,
    *,
    timeouts: Timeouts = DEFAULT_TIMEOUTS,
    max_bytes: int = DATAGRAM_BYTES,
) -> DatagramSocket:
    """Make a `DatagramSocket` of a socket of that kind, which from then on is its alone.

    The socket, bound or connected or not, is made non-blocking; its other options stay as they are.
    `max_bytes`: the longest datagram that is received whole, in bytes. Needs a running loop. What
    is wrong with the socket is a TypeError or ValueError, after which it is still the caller's.
    """
    check_socket(sock)
    if sock.type != socket.SOCK_DGRAM:
        raise ValueError("sock must be a datagram socket")
    check_datagram_timeouts(timeouts)
    _check_max_bytes(max_bytes)
    asyncio.get_running_loop()
    return _datagram_socket(sock, None, timeouts, max_bytes)


def _check_max_bytes(max_bytes: int) -> None:
    """TypeError or ValueError, naming it, for what no receive can have memory for."""
    if check_count(max_bytes, "max_bytes", at_least=1) > _MOST_BYTES:
        raise ValueError(f"max_bytes must be at most {_MOST_BYTES}, not {max_bytes}")


def _datagram_socket(
    sock: socket.socket, bound: BoundPath | None, timeouts: Timeouts, max_bytes: int
) -> DatagramSocket:
    sock.setblocking(False)
    channel = DatagramChannel(asyncio.get_running_loop(), sock, bound)
    return DatagramSocket(channel, timeouts=timeouts, max_bytes=max_bytes)


def _bind(sock: socket.socket, target: Target) -> None:
    if target.family == socket.AF_INET6:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)  # as listeners have it
    sock.bind(target.address)


def _connect(sock: socket.socket, target: Target) -> None:
    sock.connect(target.address)


async def _look_up(
    whole: Operation, host: str, port: int, timeout: Timeout, default: float | None, kind: str
) -> list[Target]:
    loop = asyncio.get_running_loop()
    whole.start(loop.time(), timeout, default, kind)
    try:
        await give_turn()  # a numeric address is bound, or refused, without waiting (law 35)
        return await chosen_network(None).resolve(host, port, whole)
    except DeadlineExceeded:
        raise
    except OSError as error:
        text = f"{whole}: {host} does not resolve: {error.strerror or error}"
        raise ConnectFailed(text, attempts=[error.with_traceback(None)]) from error
    except asyncio.CancelledError as cancelled:
        whole.mark(cancelled)
        raise
    finally:
        whole.stop_clocks(loop.time())


def _first_that_works(
    targets: list[Target],
    use: Callable[[socket.socket, Target], None],
    settings: Settings,
    whole: Operation,
) -> socket.socket:
    """A socket that `use` has bound or connected to the first address that will have it."""
    failure: OSError | None = None
    for target in targets:
        sock = None
        try:
            sock = socket.socket(target.family, socket.SOCK_DGRAM)
            sock.setblocking(False)
            apply_settings(settings, sock)
            use(sock, target)
        except OSError as error:
            failure = error.with_traceback(None)  # which would hold this frame, and so itself
            if sock is not None:
                sock.close()
        except BaseException:
            if sock is not None:
                sock.close()
            raise
        else:
            return sock
    if failure is None:
        raise ConnectFailed(f"{whole}: it has no address")
    raise OSError(failure.errno, f"{whole}: {failure.strerror}") from failure
