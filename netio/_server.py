"""Servers: a task for each connection, and an end that is bounded.

Each listening address has a task that accepts; each connection has a task that runs the handler
and closes the stream. Closing the server stops accepting, lets the handlers end for `grace`
seconds, cancels those that have not, and cuts the sockets of those that don't listen to that.
"""

from __future__ import annotations

import asyncio
import dataclasses
import logging
import socket
from typing import TYPE_CHECKING, Any, Self

from netio._arguments import check_count, check_host, check_port, check_socket
from netio._connect import check_timeouts
from netio._defaults import (
    ACCEPT_PAUSE_SECONDS,
    ACCEPTS_PER_TURN,
    BACKLOG,
    CLEANUP_SECONDS,
    DEFAULT,
    GRACE_SECONDS,
    STREAM_LIMIT_BYTES,
)
from netio._errors import NetioError, StreamBusy, StreamClosed, format_address
from netio._limits import Operation, Timeouts, check_seconds
from netio._network import SYSTEM, SocketAcceptor
from netio._opening import Opening
from netio._readiness import Waiter
from netio._stream import Stream
from netio._tasks import wait_ended

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from types import TracebackType

    from netio._channel import Channel
    from netio._errors import Address
    from netio._network import Acceptor, Network

    Handler = Callable[[Stream], Awaitable[object]]
    OnError = Callable[[Stream, Exception], object]

_logger = logging.getLogger("netio")
_DEFAULT_TIMEOUTS = Timeouts()


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class ServerStatistics:
    """A snapshot of what a server has done.

    Attributes:
        accepted: connections accepted so far.
        active: connections whose handler runs now.
        failed: handlers that ended with an exception.
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
        cut: handlers that ended only when their socket was cut.
        deaf: names of the tasks that are running still.
    """

    finished: int = 0
    cancelled: int = 0
    cut: int = 0
    deaf: tuple[str, ...] = ()


class Server:
    """A running server, made by `serve_tcp`. An async context manager that closes on leaving."""

    def __init__(
        self,
        handler: Handler,
        acceptors: list[Acceptor],
        *,
        timeouts: Timeouts,
        limit: int,
        grace: float,
        on_error: OnError | None,
    ) -> None:
        self._handler = handler
        self._acceptors = acceptors
        self._timeouts = timeouts
        self._limit = limit
        self._grace = grace
        self._on_error = on_error
        self._addresses = tuple(acceptor.address for acceptor in acceptors)
        self._streams: dict[asyncio.Task[None], Stream] = {}
        self._accepted = 0
        self._failed = 0
        self._stopping: asyncio.Task[ShutdownReport] | None = None
        self._loop = asyncio.get_running_loop()
        self._accepting = [
            self._loop.create_task(
                self._accept(acceptor), name=f"netio accept {format_address(acceptor.address)}"
            )
            for acceptor in acceptors
        ]

    @property
    def addresses(self) -> tuple[Address, ...]:
        """The addresses the server listens on, with the ports the system chose."""
        return self._addresses

    @property
    def connections(self) -> tuple[Stream, ...]:
        """The streams whose handlers run now."""
        return tuple(self._streams.values())

    def statistics(self) -> ServerStatistics:
        """A snapshot of the server's counters, also after it was closed."""
        return ServerStatistics(
            accepted=self._accepted, active=len(self._streams), failed=self._failed
        )

    async def serve_forever(self) -> None:
        """Wait until the server is closed by another task.

        Raises: nothing of its own; the server stays usable.

        Cancellation: ends the wait only; leaving the server's block is what closes it.
        """
        await asyncio.wait(self._accepting)

    async def aclose(self, *, grace: float | None = None) -> ShutdownReport:
        """Stop accepting, let the handlers end, then cancel them, then cut their sockets.

        `grace`: seconds the handlers get to end by themselves; None for what the server was made
        with. After it they have 2 seconds for their cleanup, and 2 more when their socket is cut.
        May be repeated; further calls wait for the same end. A handler may call it: it is left
        out of the wait for itself.

        Returns: the `ShutdownReport`. Handlers that are running even then are named there.

        Raises:
            TypeError, ValueError: for a wrong `grace`; the server stays usable.

        Cancellation: the grace is over at once; handlers are cancelled and waited for all the
        same, bounded as above, and then the ``CancelledError`` is raised.
        """
        seconds = self._grace if grace is None else check_seconds(grace, "grace")
        for acceptor in self._acceptors:
            acceptor.close()
        me = asyncio.current_task()
        return await self._end_handlers([t for t in self._streams if t is not me], seconds)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.aclose()

    async def _end_handlers(self, tasks: list[asyncio.Task[None]], grace: float) -> ShutdownReport:
        cancelled: asyncio.CancelledError | None = None
        counts = []
        try:
            await asyncio.wait([*self._accepting, *tasks], timeout=max(0.0, grace))
        except asyncio.CancelledError as error:
            cancelled = error
        counts.append(_running(tasks))
        for task in _running(tasks):
            task.cancel("the server is closing")
        cancelled = await wait_ended([*self._accepting, *tasks], CLEANUP_SECONDS) or cancelled
        counts.append(_running(tasks))
        for task in _running(tasks):
            if (stream := self._streams.get(task)) is not None:
                stream.abort()
        cancelled = await wait_ended(tasks, CLEANUP_SECONDS) or cancelled
        deaf = _running(tasks)
        if deaf:
            names = ", ".join(task.get_name() for task in deaf)
            _logger.error("handlers are still running after the server was closed: %s", names)
        if cancelled is not None:
            raise cancelled
        late, later = counts
        return ShutdownReport(
            finished=len(tasks) - len(late),
            cancelled=len(late) - len(later),
            cut=len(later) - len(deaf),
            deaf=tuple(task.get_name() for task in deaf),
        )

    async def _accept(self, acceptor: Acceptor) -> None:
        waiter = Waiter()
        while not acceptor.closed:
            try:
                drained = self._accept_some(acceptor)
            except OSError as error:
                _logger.error(
                    "cannot accept on %s: %s; trying again in %g s",
                    format_address(acceptor.address),
                    error.strerror or error,
                    ACCEPT_PAUSE_SECONDS,
                )
                await acceptor.park(Waiter(self._loop.time() + ACCEPT_PAUSE_SECONDS))
                continue
            if drained:
                await acceptor.wait_readable(waiter)
            else:
                await asyncio.sleep(0)

    def _accept_some(self, acceptor: Acceptor) -> bool:
        """Start handlers for what is there; True when the kernel has no more."""
        for _ in range(ACCEPTS_PER_TURN):
            channel = acceptor.accept()
            if channel is None:
                return True
            self._start(channel)
        return False

    def _start(self, channel: Channel) -> None:
        stream = Stream(channel, timeouts=self._timeouts, limit=self._limit)
        self._accepted += 1
        name = f"netio {format_address(channel.peer)}"
        task = self._loop.create_task(self._handle(stream), name=name)
        if not task.done():
            self._streams[task] = stream
            task.add_done_callback(self._forget)

    def _forget(self, task: asyncio.Task[None]) -> None:
        self._streams.pop(task, None)

    async def _handle(self, stream: Stream) -> None:
        try:
            await self._handler(stream)
        except Exception as error:
            self._failed += 1
            self._report(stream, error)
        finally:
            await stream.aclose()

    def _report(self, stream: Stream, error: Exception) -> None:
        """One line for what the peer caused, a traceback for what is the handler's own."""
        peer = format_address(stream.peer)
        if isinstance(error, NetioError) and not isinstance(error, (StreamBusy, StreamClosed)):
            _logger.info("connection of %s ended: %s: %s", peer, type(error).__name__, error)
        else:
            _logger.error("the handler of %s failed", peer, exc_info=error)
        if self._on_error is not None:
            try:
                self._on_error(stream, error)
            except Exception:
                _logger.exception("on_error failed for %s", peer)


def _running(tasks: list[asyncio.Task[None]]) -> list[asyncio.Task[None]]:
    return [task for task in tasks if not task.done()]


def serve_tcp(
    handler: Handler,
    host: str | None = None,
    port: int = 0,
    *,
    sock: socket.socket | None = None,
    timeouts: Timeouts = _DEFAULT_TIMEOUTS,
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
    `timeouts`: the default limits of each stream. `limit`: how many bytes each stream holds
    unread. `backlog`: connections the kernel queues. `grace`: seconds that handlers get to end
    by themselves when the server is closed. `network`: serve there; None is the system's.

    Returns: an awaitable that gives the `Server`, accepting already, and a context manager that
    closes it on leaving.

    Raises:
        OSError: the address can't be listened on. Nothing is left open.
        DeadlineExceeded: the name took longer to look up than ``timeouts.resolve``.
        TypeError, ValueError: at the call, before any I/O.

    Cancellation: nothing is left behind.
    """
    if not callable(handler):
        raise TypeError(f"handler must be an async function, not {type(handler).__name__}")
    if on_error is not None and not callable(on_error):
        raise TypeError(f"on_error must be a function or None, not {type(on_error).__name__}")
    if host is not None:
        check_host(host)
    if sock is not None and (host is not None or port != 0):
        raise ValueError("sock stands instead of host and port; give one or the other")
    if sock is not None:
        check_socket(sock)
    check_port(port)
    check_timeouts(timeouts)
    settings: dict[str, Any] = {
        "timeouts": timeouts,
        "limit": check_count(limit, "limit", at_least=1),
        "grace": check_seconds(grace, "grace"),
        "on_error": on_error,
    }
    check_count(backlog, "backlog", at_least=1)
    opening = _serve(
        handler, host, port, sock, backlog, SYSTEM if network is None else network, settings
    )
    return Opening("serve_tcp", opening)


async def _serve(
    handler: Handler,
    host: str | None,
    port: int,
    sock: socket.socket | None,
    backlog: int,
    network: Network,
    settings: dict[str, Any],
) -> Server:
    loop = asyncio.get_running_loop()
    if sock is not None:
        return Server(handler, [SocketAcceptor(loop, sock, backlog)], **settings)
    lookup = Operation("serve_tcp: lookup", peer=(host or "*", port))
    limit = settings["timeouts"].resolve
    lookup.start(loop.time(), DEFAULT, default=limit, kind="resolve")
    acceptors = await network.listen(host, port, lookup, backlog=backlog)
    return Server(handler, acceptors, **settings)
