"""Servers: a task for each connection, and an end that is bounded.

Each listening address has a task that accepts; each connection has a task that runs the handler
and closes the stream. Closing the server stops accepting, lets the handlers end for `grace`
seconds, cancels those that have not, and cuts the sockets of those that don't listen to that.
"""

from __future__ import annotations

import asyncio
import dataclasses
import enum
import functools
import logging
import socket
from collections.abc import Awaitable, Callable
from inspect import iscoroutinefunction
from typing import TYPE_CHECKING, Self

from netio._arguments import check_count, check_host, check_port
from netio._defaults import (
    ACCEPT_PAUSE_SECONDS,
    ACCEPTS_PER_TURN,
    BACKLOG,
    CLEANUP_SECONDS,
    DEFAULT,
    GRACE_SECONDS,
    STREAM_LIMIT_BYTES,
    DefaultType,
)
from netio._engine import check_server_context
from netio._errors import NetioError, StreamBusy, StreamClosed, format_address
from netio._holding import give_turn
from netio._limits import DEFAULT_TIMEOUTS, Timeouts, check_seconds, check_timeouts
from netio._network import check_listener, chosen_network, listen_on, port_of
from netio._opening import Opening
from netio._operation import Operation
from netio._options import DEFAULT_OPTIONS, SocketOptions, check_options
from netio._stream import Stream
from netio._tasks import TaskWait, until_ended, wait_ended
from netio._turns import turns_of

if TYPE_CHECKING:
    import ssl

    from netio._channel import Channel
    from netio._errors import Address
    from netio._network import Acceptor, Network

    Handler = Callable[[Stream], Awaitable[object]]
    OnError = Callable[[Stream, Exception], object]

_logger = logging.getLogger("netio")

_ENDS_THE_PROGRAM = (KeyboardInterrupt, SystemExit)


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class ServerStatistics:
    """A snapshot of what a server has done.

    Attributes:
        accepted: connections accepted so far.
        active: connections whose handler runs now.
        failed: handlers that ended with an exception, and TLS handshakes that failed.
    """

    accepted: int
    active: int
    failed: int


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class ShutdownReport:
    """How the handlers ended that ran when a server was closed.

    Attributes:
        finished: handlers that ended by themselves within the grace.
        cancelled: handlers that ended when they were cancelled.
        aborted: handlers that ended only when their connection was cut.
        deaf: names of the tasks that are running still.
    """

    finished: int = 0
    cancelled: int = 0
    aborted: int = 0
    deaf: tuple[str, ...] = ()


class Server:
    """A running server, made by `serve_tcp` or `serve_unix`.

    An async context manager that closes on leaving.
    """

    def __init__(
        self,
        handler: Handler,
        acceptors: list[Acceptor],
        *,
        tls: ssl.SSLContext | None,
        timeouts: Timeouts,
        limit: int,
        grace: float,
        on_error: OnError | None,
    ) -> None:
        self._handler = handler
        self._acceptors = acceptors
        self._tls = tls
        self._timeouts = timeouts
        self._limit = limit
        self._grace = grace
        self._on_error = on_error
        self._addresses = tuple(acceptor.address for acceptor in acceptors)
        self._connections: dict[Stream, _Connection] = {}
        self._accepted = 0
        self._failed = 0
        self._loop = asyncio.get_running_loop()
        self._context = turns_of(self._loop).context
        self._accepting = [
            self._loop.create_task(self._accept(a), name=f"netio {format_address(a.address)}")
            for a in acceptors
        ]

    @property
    def addresses(self) -> tuple[Address, ...]:
        """The addresses the server listens on, with the ports the system chose."""
        return self._addresses

    @property
    def port(self) -> int:
        """The port of the first address.

        Raises:
            ValueError: the server does not listen on a port of the internet.
        """
        return port_of(self._addresses[0])

    @property
    def connections(self) -> tuple[Stream, ...]:
        """The streams whose handlers run now."""
        running = self._connections.values()
        return tuple(c.stream for c in running if c.task is None or not c.task.done())

    def statistics(self) -> ServerStatistics:
        """A snapshot of the server's counters, also after it was closed."""
        active = len(self.connections)
        return ServerStatistics(accepted=self._accepted, active=active, failed=self._failed)

    async def serve_forever(self) -> None:
        """Wait until the server stops accepting, because another task closes it.

        Raises: nothing of its own; the server stays usable.

        Cancellation: ends the wait only; leaving the server's block is what closes it.
        """
        operation = TaskWait("serve_forever", peer=self._addresses[0])
        try:
            await until_ended(operation, self._accepting)
        except asyncio.CancelledError as error:
            operation.mark(error)
            raise

    async def aclose(self, *, grace: float | DefaultType = DEFAULT) -> ShutdownReport:
        """Stop accepting, let the handlers end, then cancel them, then cut their sockets.

        `grace`: seconds the handlers get to end by themselves; left out, what the server was made
        with. After it they have 2 seconds for their cleanup, and 2 more when their socket is cut.
        May be repeated, also while a call is under way, for instance with a shorter grace. A
        handler may call it in its own task, and is then left out of the wait, as are the handlers
        that have called it before.

        Returns: the `ShutdownReport`, about the handlers that ran when this was called. Those
        that are running even then are named there.

        Raises:
            RuntimeError: called from another event loop than the server's.
            TypeError, ValueError: for a wrong `grace`; the server stays usable.

        Cancellation: the first one ends the grace, a second one the time for cleanup: handlers
        are cancelled, cut and waited for all the same, bounded as above. Then the first
        ``CancelledError`` is raised.
        """
        seconds = self._grace if grace is DEFAULT else check_seconds(grace, "grace")
        if asyncio.get_running_loop() is not self._loop:
            raise RuntimeError("aclose: the server belongs to another event loop")
        for acceptor in self._acceptors:
            acceptor.close()
        connections = self._connections.values()
        mine = next((c for c in connections if c.task in (asyncio.current_task(), None)), None)
        # Handlers that close the server must not wait for each other in a circle.
        ending = [c for c in connections if c is not mine and not (mine and c.closes)]
        if mine is not None:
            mine.closes = True
        await self._end(ending, seconds)
        fates = [c.fate for c in ending]
        return ShutdownReport(
            finished=fates.count(_Fate.FINISHED),
            cancelled=fates.count(_Fate.CANCELLED),
            aborted=fates.count(_Fate.ABORTED),
            deaf=tuple(c.name for c in ending if c.fate is _Fate.DEAF),
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def _end(self, connections: list[_Connection], grace: float) -> None:
        waited_for = [c.task for c in connections if c.task and c.fate is not _Fate.DEAF]
        tasks = [*self._accepting, *waited_for]
        cancelled: asyncio.CancelledError | None = None
        steps = ((grace, _Fate.CANCELLED), (CLEANUP_SECONDS, _Fate.ABORTED))
        for seconds, fate in (*steps, (CLEANUP_SECONDS, _Fate.DEAF)):
            closing = TaskWait("aclose of the server", peer=self._addresses[0])
            patient = fate is _Fate.DEAF
            arrived = await wait_ended(tasks, seconds, closing, patient=patient, after=cancelled)
            cancelled = cancelled or arrived
            for connection in connections:
                connection.press(fate)
        if cancelled is not None:
            raise cancelled

    async def _accept(self, acceptor: Acceptor) -> None:
        arrival = Operation("accept", peer=acceptor.address)
        arrival.started = self._loop.time()
        pause = Operation("accept: pause after an error", peer=acceptor.address)
        drained = True  # to wait first: no handler runs before the caller has the server
        try:
            while not acceptor.closed:
                try:
                    await (acceptor.wait_readable(arrival) if drained else asyncio.sleep(0))
                    drained = self._accept_some(acceptor)
                except Exception as error:  # whatever it is, it must not end the server
                    self._complain(acceptor, error)
                    pause.started = self._loop.time()
                    pause.deadline = pause.started + ACCEPT_PAUSE_SECONDS
                    await acceptor.park(pause)
                    drained = False
        finally:
            acceptor.close()

    def _accept_some(self, acceptor: Acceptor) -> bool:
        """Start handlers for what is there; True when there is no more."""
        for _ in range(ACCEPTS_PER_TURN):
            # An eager task has run its handler by now, which may have closed the server.
            channel = None if acceptor.closed else acceptor.accept()
            if channel is None:
                return True
            self._start(channel)
        return False

    def _complain(self, acceptor: Acceptor, error: Exception) -> None:
        text = "cannot accept on %s: %s; trying again in %g s"
        where = format_address(acceptor.address)
        traceback = None if isinstance(error, OSError) else error  # out of descriptors, mostly
        try:
            _logger.error(text, where, error, ACCEPT_PAUSE_SECONDS, exc_info=traceback)
        except Exception as failed:  # of a filter or a handler; it must not end the server either
            context = {"message": f"the log of netio failed at: {error}", "exception": failed}
            self._loop.call_exception_handler(context)

    def _start(self, channel: Channel) -> None:
        stream = Stream(channel, timeouts=self._timeouts, limit=self._limit)
        self._connections[stream] = connection = _Connection(stream, self._connections)
        self._accepted += 1
        handling = self._handle(connection)
        try:
            task = self._loop.create_task(handling, name=connection.name)
        except BaseException:
            handling.close()
            connection()
            raise
        connection.task = task
        task.add_done_callback(connection, context=self._context)

    async def _handle(self, connection: _Connection) -> None:
        stream = connection.stream
        try:
            if self._tls is not None:  # here, so that it holds up nobody else
                await stream.start_tls(self._tls, server_side=True)
            work: object = self._handler(stream)
            if not isinstance(work, Awaitable):
                kind = type(work).__name__
                raise TypeError(f"handler must be an async function; it returned {kind}")
            await work
        except (Exception, BaseExceptionGroup) as error:
            self._failed += 1
            self._report(connection, error)
            if isinstance(error, BaseExceptionGroup) and error.subgroup(_ENDS_THE_PROGRAM):
                raise
        finally:
            await stream.aclose()

    def _report(self, connection: _Connection, error: BaseException) -> None:
        """One line for what the peer caused, a traceback for what is the handler's own."""
        peer = format_address(connection.stream.peer)
        if _caused_from_outside(error, connection.stream.peer) or connection.fate is _Fate.ABORTED:
            _logger.info("connection of %s ended: %s", peer, _in_one_line(error))
        else:
            _logger.error("the handler of %s failed", peer, exc_info=error)
        if self._on_error is not None and isinstance(error, Exception):
            try:
                self._on_error(connection.stream, error)
            except Exception:
                _logger.exception("on_error failed for %s", peer)


class _Fate(enum.IntEnum):
    """What closing the server has done to a handler so far."""

    FINISHED = 0  # nothing: it has ended by itself, or may do so
    CANCELLED = 1
    ABORTED = 2
    DEAF = 3  # all that can be done; it is not waited for again


class _Connection:
    """One connection of a server: its stream, and the task that runs the handler.

    `task` is None while `create_task` runs an eager one; `closes` once it has closed the server.
    """

    __slots__ = ("_among", "closes", "fate", "name", "stream", "task")

    def __init__(self, stream: Stream, among: dict[Stream, _Connection]) -> None:
        self.stream = stream
        self._among = among
        self.name = f"netio {format_address(stream.peer)}"
        self.task: asyncio.Task[None] | None = None
        self.fate = _Fate.FINISHED
        self.closes = False

    def __call__(self, _: object = None) -> None:
        """The task has ended; if it was cancelled before it began, the stream is still open."""
        self._among.pop(self.stream, None)
        self.stream.abort()

    def press(self, fate: _Fate) -> None:
        """Do the next thing to a handler that is running still: once, however often we close."""
        if self.task is None or self.task.done() or self.fate >= fate:
            return
        self.fate = fate
        if fate is _Fate.CANCELLED:
            self.task.cancel("the server is closing")
        elif fate is _Fate.ABORTED:
            self.stream.abort()
        else:
            _logger.error("handler %s is still running after the server was closed", self.name)


def _caused_from_outside(error: BaseException, peer: Address) -> bool:
    """Whether a peer or the network caused it: nothing that an attacker could fill a log with.

    Plain errors of time and of connections count too: a handler that puts `asyncio.timeout` around
    its reads must not give each silent peer a traceback. And so does the end of another stream
    than the handler's own, to which it has passed something on.
    """
    if isinstance(error, BaseExceptionGroup):
        return all(_caused_from_outside(one, peer) for one in error.exceptions)
    if isinstance(error, StreamClosed):
        return error.peer != peer
    if isinstance(error, StreamBusy):
        return False
    return isinstance(error, (NetioError, TimeoutError, ConnectionError))


def _in_one_line(error: BaseException) -> str:
    if isinstance(error, BaseExceptionGroup):
        return "; ".join(map(_in_one_line, error.exceptions))
    return f"{type(error).__name__}: {error}"


def serve_tcp(
    handler: Handler,
    host: str | None = None,
    port: int = 0,
    *,
    sock: socket.socket | None = None,
    tls: ssl.SSLContext | None = None,
    timeouts: Timeouts = DEFAULT_TIMEOUTS,
    options: SocketOptions = DEFAULT_OPTIONS,
    limit: int = STREAM_LIMIT_BYTES,
    backlog: int = BACKLOG,
    grace: float = GRACE_SECONDS,
    on_error: OnError | None = None,
    network: Network | None = None,
) -> Opening[Server]:
    """Serve TCP connections: ``async with serve_tcp(handler, port=7000) as server``.

    ``handler(stream)`` is an async function; each connection has its own task, and its stream is
    closed when the handler returns. An exception of a handler ends that connection only: it is
    logged by the logger ``netio`` (what the peer caused in one line at INFO, without a traceback)
    and given to `on_error`, a function of the stream and the error.

    `host`: a name or address; None for all addresses of the machine. `port`: 0 lets the system
    choose, see `Server.addresses`. `sock`: a bound socket to use instead of both; None for none.
    `tls`: an ``ssl.SSLContext`` with the server's certificate, to speak TLS; None for plain TCP.
    The handshake is the first thing in the task of a connection, within ``timeouts.handshake``;
    one that fails is logged as what a handler raises, and the handler is not called.
    `timeouts`: the default limits of each stream. `limit`: the longest record in bytes unless a
    call says otherwise. `backlog`: connections the kernel queues. `grace`: seconds that handlers
    get to end by themselves when the server is closed. `options`: what is set on the socket before
    it listens, and on each connection. `network`: serve there; None is the system's, whose sockets
    alone have `options`.

    Returns: an awaitable that gives the `Server`, accepting already, and a context manager that
    closes it on leaving.

    Raises:
        OSError: the address can't be listened on. Nothing is left open.
        ConnectFailed: the name does not resolve; it is an OSError as well.
        DeadlineExceeded: the name took longer to look up than ``timeouts.resolve``.
        TypeError, ValueError: at the call, before any I/O.

    Cancellation: nothing is left behind.
    """
    check_functions(handler, on_error)
    if host is not None:
        check_host(host)
    check_port(port)
    if sock is not None:
        check_listener(sock)
        if host is not None or port != 0 or network is not None:
            raise ValueError("sock stands instead of host, port and network")
    check_timeouts(timeouts)
    check_options(options)
    check_count(backlog, "backlog", at_least=1)
    check_server_context(tls)
    make_server = functools.partial(
        Server,
        handler,
        tls=tls,
        timeouts=timeouts,
        limit=check_count(limit, "limit", at_least=1),
        grace=check_seconds(grace, "grace"),
        on_error=on_error,
    )
    chosen = chosen_network(network, options)
    where = (chosen, host, port) if sock is None else sock
    return Opening("serve_tcp", _serve(make_server, where, backlog, timeouts, options))


def check_functions(handler: object, on_error: object) -> None:
    """TypeError for what cannot handle connections, or be told of errors."""
    if not callable(handler):
        raise TypeError(f"handler must be an async function, not {handler!r}")
    if on_error is not None and (not callable(on_error) or iscoroutinefunction(on_error)):
        raise TypeError(f"on_error must be a plain function or None, not {on_error!r}")


async def _serve(
    make_server: Callable[[list[Acceptor]], Server],
    where: socket.socket | tuple[Network, str | None, int],
    backlog: int,
    timeouts: Timeouts,
    options: SocketOptions,
) -> Server:
    loop = asyncio.get_running_loop()
    await give_turn()  # a numeric address is bound, or refused, without waiting (law 35)
    acceptors: list[Acceptor]
    if isinstance(where, socket.socket):
        acceptors = [listen_on(where, backlog, options, loop)]
    else:
        network, host, port = where
        lookup = Operation("serve_tcp: lookup", peer=(host or "*", port))
        lookup.start(loop.time(), DEFAULT, timeouts.resolve, "resolve")
        acceptors = await network.listen(host, port, lookup, backlog=backlog)
    return make_server(acceptors)
