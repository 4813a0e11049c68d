"""Making connections: a name looked up, its addresses raced, one deadline over all."""

from __future__ import annotations

import asyncio
import socket
from typing import TYPE_CHECKING, Final, NamedTuple

from netio._arguments import check_count, check_host, check_port
from netio._defaults import DEFAULT, STREAM_LIMIT_BYTES
from netio._descriptor_channel import check_max_descriptors, socket_channel
from netio._engine import client_engine
from netio._errors import ConnectFailed, DeadlineExceeded, NetioError, format_address
from netio._handshake import Handshake
from netio._limits import DEFAULT_TIMEOUTS, Timeouts, check_timeout, check_timeouts
from netio._lookups import check_resolver, look_up, within
from netio._network import check_local_address, chosen_network
from netio._opening import Opening
from netio._operation import Operation
from netio._options import DEFAULT_OPTIONS, SocketOptions, check_options
from netio._proxies import chosen_proxy
from netio._racing import Race
from netio._resolve import numeric_targets
from netio._sockets import connected_peer
from netio._stream import Stream
from netio._tls import TLSChannel

if TYPE_CHECKING:
    import ssl
    from collections.abc import Sequence

    from netio._channel import Channel
    from netio._engine import Engine, TLSOption
    from netio._limits import Timeout
    from netio._lookups import Resolver
    from netio._network import Network
    from netio._proxies import Proxy
    from netio._resolve import Target

#: Until it is given away, a stream has only the limit of the whole.
NO_LIMITS: Final = Timeouts(connect=None, resolve=None, attempt=None, read=None, write=None)


def connect_tcp(
    host: str,
    port: int,
    *,
    tls: TLSOption = None,
    server_hostname: str | None = None,
    tls_session: ssl.SSLSession | None = None,
    local_address: str | tuple[str, int] | None = None,
    timeout: Timeout = DEFAULT,
    timeouts: Timeouts = DEFAULT_TIMEOUTS,
    options: SocketOptions = DEFAULT_OPTIONS,
    limit: int = STREAM_LIMIT_BYTES,
    resolver: Resolver | None = None,
    proxy: Proxy | str | None = None,
    network: Network | None = None,
) -> Opening[Stream]:
    """Connect to a TCP port: ``async with connect_tcp(...) as stream``, or ``await`` it.

    The addresses of `host` race (RFC 8305, "happy eyeballs"): they are tried in the order the
    system gives them, families in turn, each for at most ``timeouts.attempt`` seconds; the next one
    begins as soon as one has failed, or when the latest has not answered for a quarter of a second.
    The first to answer is taken, the others are closed before this returns. Small messages are sent
    at once (``TCP_NODELAY``).

    `tls`: an ``ssl.SSLContext`` to speak TLS with, or True for ``ssl.create_default_context()``
    (which loads the system's certificates each time: make one context for many connections);
    None for plain TCP. Client certificates and ALPN are the context's. `server_hostname`: the name
    to ask for and to be checked; None for `host`. `tls_session`: `TLSInfo.session` of an earlier
    connection with the same context, for a shorter handshake; None for a whole one.
    `local_address`: a numeric address of this machine to connect from, or ``(host, port)``; None
    lets the system choose. Addresses of the other family can't be connected to from there.
    `timeout`: seconds for all of it, a `Deadline` or `Budget`, None for no limit; left out, the
    limit is ``timeouts.connect``. Within it ``timeouts.resolve``, ``timeouts.attempt`` and
    ``timeouts.handshake`` hold, whatever it is. `timeouts`: the limits of the new stream, of the
    lookup, of each attempt and of the handshake.
    `limit`: the longest record in bytes, unless a call says otherwise; the stream holds no more
    unread than that, or what a call asks for, and one read of 64 KiB. `options`: what is set on the
    socket before it connects.
    `resolver`: what looks the name up, see `Resolver`; None is the network's, which is
    ``getaddrinfo`` in a thread on the system's. Numeric addresses are not looked up.
    `proxy`: what connects instead, a `Socks5Proxy`, an `HttpProxy`, or a URL
    (``"socks5://user:password@host:1080"``, ``"http://host:3128"``). Its addresses race, and it
    looks `host` up; `Stream.peer` is the proxy, and TLS is spoken with `host`. None is no proxy,
    whatever the environment says.
    `network`: connect there instead of on the system's network, which is None; `local_address` and
    `options` are of the system's sockets only.

    Returns: an awaitable that gives the `Stream`, and a context manager that closes it.

    Raises:
        ConnectFailed: the name does not resolve, no address could be connected to, or the proxy
            has not done it; `attempts` has one error for each address, in the order they were tried
            in, or the proxy's. Nothing is left open, and it may be tried again.
        DeadlineExceeded: the limit, or that of the lookup or of the handshake, was reached first;
            `attempts` has the failures until then.
        CertificateError: the server's certificate is refused, or is that of another name. TLSError,
            ConnectionLost: the handshake failed otherwise. No other address is tried then.
        TypeError, ValueError: at the call, before any I/O.

    Cancellation: nothing is left behind but, at most, a lookup in its daemon thread, which can't
    be stopped. It may be tried again.
    """
    check_host(host)
    check_port(port, at_least=1)
    check_timeout(timeout)
    check_count(limit, "limit", at_least=1)
    check_timeouts(timeouts)
    check_options(options)
    local = check_local_address(local_address)
    if local is not None and network is not None:
        raise ValueError("local_address is of the system's network, and network is another one")
    check_resolver(resolver)
    proxy = chosen_proxy(proxy)
    chosen = chosen_network(network, options, local)
    engine = client_engine(tls, server_hostname, tls_session, host)
    way = _Way(host, port, timeouts, resolver, proxy, chosen, engine)
    return Opening("connect_tcp", _connect(way, timeout, limit))


def open_stream(
    sock: socket.socket,
    *,
    timeouts: Timeouts = DEFAULT_TIMEOUTS,
    limit: int = STREAM_LIMIT_BYTES,
    max_descriptors: int = 0,
) -> Stream:
    """Make a stream of a connected stream socket, which from then on is the stream's alone.

    The socket is made non-blocking; its other options stay as they are. `limit` is in bytes.
    `max_descriptors`: so many descriptors that the peer of a Unix socket passes are held for
    `Stream.receive_descriptors`; with 0 the system drops them. Needs a running loop. What is wrong
    with the socket is a TypeError or ValueError, after which the socket is still the caller's.
    """
    peer = connected_peer(sock)
    check_count(limit, "limit", at_least=1)
    check_timeouts(timeouts)
    if check_max_descriptors(max_descriptors) and sock.family != socket.AF_UNIX:
        raise ValueError("max_descriptors: sock must be a Unix socket")
    loop = asyncio.get_running_loop()
    sock.setblocking(False)
    channel = socket_channel(loop, sock, peer, max_descriptors)
    return Stream(channel, timeouts=timeouts, limit=limit)


def stream_pair(
    *, timeouts: Timeouts = DEFAULT_TIMEOUTS, limit: int = STREAM_LIMIT_BYTES
) -> tuple[Stream, Stream]:
    """Two connected streams, over a socket pair of the system. `limit` is in bytes.

    Needs a running loop.
    """
    check_count(limit, "limit", at_least=1)
    check_timeouts(timeouts)
    asyncio.get_running_loop()
    one, other = socket.socketpair()
    return (
        open_stream(one, timeouts=timeouts, limit=limit),
        open_stream(other, timeouts=timeouts, limit=limit),
    )


class _Way(NamedTuple):
    """Where to connect, and what by."""

    host: str
    port: int
    timeouts: Timeouts
    resolver: Resolver | None
    proxy: Proxy | None
    network: Network
    engine: Engine | None  # of TLS

    @property
    def first(self) -> tuple[str, int]:
        """Where the connection of this machine goes to."""
        return (self.host, self.port) if self.proxy is None else (self.proxy.host, self.proxy.port)

    @property
    def whose(self) -> str:
        """Whose addresses those are, if not those of `host`."""
        return "" if self.proxy is None else f"the proxy {self.proxy}"


async def _connect(way: _Way, timeout: Timeout, limit: int) -> Stream:
    loop = asyncio.get_running_loop()
    whole = Operation("connect_tcp", peer=(way.host, way.port))
    whole.start(loop.time(), timeout, way.timeouts.connect, "connect")
    race: Race | None = None
    try:
        targets = await _resolve(way, whole)
        race = Race(targets, whole, way.network, way.timeouts.attempt, whose=way.whose)
        channel = await race.winner()
        if way.proxy is not None or way.engine is not None:
            return await _go_on(channel, way, whole, limit, race.failures)
    except asyncio.CancelledError as cancelled:
        whole.mark(cancelled, attempts=race.failures if race is not None else ())
        raise
    finally:
        whole.stop_clocks(loop.time())
    return Stream(channel, timeouts=way.timeouts, limit=limit)


async def _resolve(way: _Way, whole: Operation) -> list[Target]:
    host, port = way.first
    targets = numeric_targets(host, port)
    if targets is None:
        targets = await _look_up(way, whole)
    if not targets:
        raise ConnectFailed(f"{whole}: {way.whose or host} has no address")
    return targets


async def _look_up(way: _Way, whole: Operation) -> list[Target]:
    loop = asyncio.get_running_loop()
    host, port = way.first
    lookup = Operation("connect_tcp: lookup", peer=(host, port))
    lookup.start(loop.time(), DEFAULT, way.timeouts.resolve, "resolve")
    lookup.within(whole)
    try:
        if way.resolver is None:
            return await way.network.resolve(host, port, lookup)
        return await look_up(way.resolver, host, port, lookup)
    except DeadlineExceeded as error:
        now = loop.time()
        if whole.deadline <= now:
            raise whole.exceeded(now, "the name was still being looked up") from error
        raise
    except OSError as error:
        reason = error.strerror or str(error)
        raise ConnectFailed(
            f"{whole}: {way.whose or host} does not resolve: {reason}",
            attempts=[error.with_traceback(None)],
        ) from error


async def _go_on(
    channel: Channel, way: _Way, whole: Operation, limit: int, failures: list[Exception]
) -> Stream:
    """What `channel` needs to be the stream that was asked for, under the limit of the whole."""
    stream = Stream(channel, timeouts=NO_LIMITS, limit=limit)
    try:
        if way.proxy is not None:
            asked = _ask(way.proxy, stream, way, whole)
            await within(whole, asked, f"{way.whose} has not answered")
        if way.engine is not None:
            await secure(stream, way.engine, way.timeouts.handshake, whole, failures)
    except BaseException:
        stream.abort()
        raise
    stream.timeouts = way.timeouts
    return stream


async def _ask(proxy: Proxy, stream: Stream, way: _Way, whole: Operation) -> None:
    try:
        await proxy.connect(stream, way.host, way.port)
    except (NetioError, OSError) as error:
        reason = getattr(error, "strerror", None) or error
        text = f"{whole}: {way.whose} has not connected it: {reason}"
        raise ConnectFailed(text, attempts=[error.with_traceback(None)]) from error


async def secure(
    stream: Stream,
    engine: Engine,
    limit: float | None,
    whole: Operation,
    attempts: Sequence[Exception] = (),
) -> None:
    """The handshake of a client that connects, within `limit` seconds and the limit of `whole`.

    Raises as `Stream.start_tls`, or what the `whole` raises at its limit, with `attempts`; the
    stream is closed then.
    """
    loop = stream._channel.loop
    handshake = Handshake("handshake", TLSChannel(stream._channel, engine))
    handshake.within(whole)
    try:
        await stream._secure(handshake, DEFAULT, limit)
    except DeadlineExceeded as error:
        stream.abort()
        if whole.deadline <= (now := loop.time()):
            text = f"the TLS handshake with {format_address(handshake.peer)} was not done"
            raise whole.exceeded(now, text, attempts=attempts) from error
        raise
    except BaseException:
        await stream.aclose()  # and no reset: it would take the alert from the peer
        raise
