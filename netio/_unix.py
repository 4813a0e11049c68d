"""Unix sockets: connecting to one, listening on one, serving on one."""

from __future__ import annotations

import asyncio
import functools
import socket
from typing import TYPE_CHECKING, Final

from netio._arguments import check_count
from netio._connect import NO_LIMITS, secure
from netio._defaults import BACKLOG, DEFAULT, GRACE_SECONDS, STREAM_LIMIT_BYTES
from netio._engine import check_server_context, client_engine
from netio._errors import ConnectFailed, DeadlineExceeded
from netio._holding import give_turn
from netio._limits import DEFAULT_TIMEOUTS, check_seconds, check_timeout, check_timeouts
from netio._listen import Listener
from netio._network import start_listening
from netio._opening import Opening
from netio._operation import Operation
from netio._paths import check_mode, check_path
from netio._server import Server, check_functions
from netio._stream import Stream
from netio._unix_network import UnixAcceptor, check_unix_listener, chosen_unix_network

if TYPE_CHECKING:
    import ssl

    from netio._channel import Channel
    from netio._engine import Engine, TLSOption
    from netio._limits import Timeout, Timeouts
    from netio._network import Acceptor
    from netio._paths import UnixPath
    from netio._server import Handler, OnError
    from netio._unix_network import UnixNetwork

    Where = socket.socket | str | bytes

_NO_DESCRIPTORS: Final = "max_descriptors must be 0 with tls: what comes is for TLS to read"


def connect_unix(
    path: UnixPath,
    *,
    tls: TLSOption = None,
    server_hostname: str | None = None,
    tls_session: ssl.SSLSession | None = None,
    timeout: Timeout = DEFAULT,
    timeouts: Timeouts = DEFAULT_TIMEOUTS,
    limit: int = STREAM_LIMIT_BYTES,
    max_descriptors: int = 0,
    network: UnixNetwork | None = None,
) -> Opening[Stream]:
    """Connect to a Unix socket: ``async with connect_unix(...) as stream``, or ``await`` it.

    `path`: a str, bytes or PathLike; on Linux one that begins with NUL is an abstract name.
    `tls`, `tls_session`: as for `connect_tcp`. `server_hostname`: the name to be checked, which a
    path is not; None where the context checks none.
    `timeout`: seconds for all of it, a `Deadline` or `Budget`, None for no limit; left out, the
    limit is ``timeouts.connect``. Where the listener's backlog is full, it is tried again until
    then. `timeouts`: the limits of the new stream. `limit`: the longest record in bytes, unless a
    call says otherwise. `max_descriptors`: so many descriptors that the peer passes are held for
    `Stream.receive_descriptors`; with 0 the system drops them. `network`: connect there; None is
    the system.

    Returns: an awaitable that gives the `Stream`, and a context manager that closes it.

    Raises:
        ConnectFailed: nobody listens there; its `errno` says what the system said. Nothing is left
            open, and it may be tried again.
        DeadlineExceeded: the backlog was full until the limit was reached, or the handshake was not
            done. CertificateError, TLSError, ConnectionLost: the handshake failed.
        TypeError, ValueError: at the call, before any I/O; a path that is too long, too.

    Cancellation: nothing is left behind. It may be tried again.
    """
    where = check_path(path)
    check_timeout(timeout)
    check_count(limit, "limit", at_least=1)
    check_timeouts(timeouts)
    if tls is not None and max_descriptors:
        raise ValueError(_NO_DESCRIPTORS)
    chosen = chosen_unix_network(network, max_descriptors)
    engine = client_engine(tls, server_hostname, tls_session)
    connect = _connect(where, timeout, timeouts, limit, chosen, engine)
    return Opening("connect_unix", connect)


async def _connect(
    path: str | bytes,
    timeout: Timeout,
    timeouts: Timeouts,
    limit: int,
    network: UnixNetwork,
    engine: Engine | None,
) -> Stream:
    loop = asyncio.get_running_loop()
    whole = Operation("connect_unix", peer=path)
    whole.start(loop.time(), timeout, timeouts.connect, "connect")
    try:
        await give_turn()  # the system connects without waiting (law 35)
        channel = await _dial(path, whole, network)
        if engine is None:
            return Stream(channel, timeouts=timeouts, limit=limit)
        stream = Stream(channel, timeouts=NO_LIMITS, limit=limit)
        await secure(stream, engine, timeouts.handshake, whole)
        stream.timeouts = timeouts
        return stream
    except asyncio.CancelledError as cancelled:
        whole.mark(cancelled)
        raise
    finally:
        whole.stop_clocks(loop.time())


async def _dial(path: str | bytes, whole: Operation, network: UnixNetwork) -> Channel:
    try:
        return await network.dial_unix(path, whole)
    except DeadlineExceeded:
        raise
    except OSError as error:
        text = f"{whole}: {error.strerror or error}"
        raise ConnectFailed(text, attempts=[error.with_traceback(None)]) from error


def listen_unix(
    path: UnixPath | None = None,
    *,
    tls: ssl.SSLContext | None = None,
    sock: socket.socket | None = None,
    mode: int | None = None,
    timeouts: Timeouts = DEFAULT_TIMEOUTS,
    limit: int = STREAM_LIMIT_BYTES,
    max_descriptors: int = 0,
    backlog: int = BACKLOG,
    network: UnixNetwork | None = None,
) -> Opening[Listener]:
    """Listen on a Unix socket: ``async with listen_unix(path) as listener``.

    `path`: a str, bytes or PathLike; on Linux one that begins with NUL is an abstract name; None
    where `sock` is given. A file that is left of a listener that is gone is replaced, and the own
    one is removed when this is closed, unless another took its place. `sock`: a bound socket to
    use instead, of which the file is left alone; None for none. `mode`: the permissions of the
    file, for instance ``0o660``, in force before anybody can connect; None leaves them to the
    umask. (An abstract name has none: whoever is on the machine may connect.) `tls`: as for
    `listen_tcp`; None for none. `timeouts`: the default limits of each stream, and of
    `Listener.accept` (``read``). `limit`: the longest record in bytes unless a call says otherwise.
    `max_descriptors`: as for `connect_unix`, of each stream; 0 with `tls`. `backlog`: connections
    the kernel queues. `network`: listen there; None is the system.

    Returns: an awaitable that gives the `Listener`, and a context manager that closes it.

    Raises:
        OSError: somebody listens there (``EADDRINUSE``), there is a file that is no socket
            (``ENOTSOCK``), or the path can't be made. Nothing is left open.
        TypeError, ValueError: at the call, before any I/O; a path that is too long, too.

    Cancellation: nothing is left behind.
    """
    where = _check_where(path, sock, mode, network)
    _check_tls(tls, max_descriptors)
    check_timeouts(timeouts)
    check_count(backlog, "backlog", at_least=1)
    check_count(limit, "limit", at_least=1)
    chosen = chosen_unix_network(network, max_descriptors)

    async def listen() -> Listener:
        acceptor = await _acceptor(where, chosen, backlog, mode, max_descriptors)
        return Listener([acceptor], tls=tls, timeouts=timeouts, limit=limit)

    return Opening("listen_unix", listen())


def serve_unix(
    handler: Handler,
    path: UnixPath | None = None,
    *,
    tls: ssl.SSLContext | None = None,
    sock: socket.socket | None = None,
    mode: int | None = None,
    timeouts: Timeouts = DEFAULT_TIMEOUTS,
    limit: int = STREAM_LIMIT_BYTES,
    max_descriptors: int = 0,
    backlog: int = BACKLOG,
    grace: float = GRACE_SECONDS,
    on_error: OnError | None = None,
    network: UnixNetwork | None = None,
) -> Opening[Server]:
    """Serve on a Unix socket: ``async with serve_unix(handler, path) as server``.

    As `serve_tcp`, but for where it listens: see `listen_unix` for `path`, `sock` and `mode`, and
    what None means for each.

    `handler`: an async function of the `Stream`. `tls`: as for `serve_tcp`; None for none.
    `timeouts`: the default limits of each stream. `limit`: the longest record in bytes unless a
    call says otherwise. `max_descriptors`: as for `connect_unix`, of each stream; 0 with `tls`.
    `backlog`: connections the kernel queues. `grace`: seconds that handlers get to end by
    themselves when the server is closed. `on_error`: a function of the stream and the error of a
    handler, or None. `network`: serve there; None is the system.

    Returns: an awaitable that gives the `Server`, accepting already, and a context manager that
    closes it on leaving.

    Raises:
        OSError: as for `listen_unix`. Nothing is left open.
        TypeError, ValueError: at the call, before any I/O; a path that is too long, too.

    Cancellation: nothing is left behind.
    """
    check_functions(handler, on_error)
    where = _check_where(path, sock, mode, network)
    _check_tls(tls, max_descriptors)
    check_timeouts(timeouts)
    check_count(backlog, "backlog", at_least=1)
    make_server = functools.partial(
        Server,
        handler,
        tls=tls,
        timeouts=timeouts,
        limit=check_count(limit, "limit", at_least=1),
        grace=check_seconds(grace, "grace"),
        on_error=on_error,
    )
    chosen = chosen_unix_network(network, max_descriptors)

    async def serve() -> Server:
        return make_server([await _acceptor(where, chosen, backlog, mode, max_descriptors)])

    return Opening("serve_unix", serve())


def _check_tls(tls: object, max_descriptors: int) -> None:
    check_server_context(tls)
    if tls is not None and max_descriptors:
        raise ValueError(_NO_DESCRIPTORS)


def _check_where(
    path: UnixPath | None,
    sock: socket.socket | None,
    mode: int | None,
    network: UnixNetwork | None,
) -> Where:
    check_mode(mode)
    if sock is None:
        if path is None:
            raise TypeError("path must be given, or sock")
        where = check_path(path)
        if mode is not None and isinstance(where, bytes):
            raise ValueError("mode: an abstract name has no permissions")
        return where
    check_unix_listener(sock)
    if path is not None or mode is not None or network is not None:
        raise ValueError("sock stands instead of path, mode and network")
    return sock


async def _acceptor(
    where: Where, network: UnixNetwork, backlog: int, mode: int | None, max_descriptors: int
) -> Acceptor:
    await give_turn()  # it is bound, or refused, without waiting (law 35)
    if isinstance(where, socket.socket):
        start_listening(where, backlog)
        loop = asyncio.get_running_loop()
        return UnixAcceptor(loop, where, max_descriptors=max_descriptors)
    return await network.listen_unix(where, backlog=backlog, mode=mode)
