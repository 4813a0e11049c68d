"""Listening without a server: connections are accepted one by one, by whoever asks for them.

An accept takes its connection from the kernel in the task that asks, with no suspension until it is
returned: no order of arrival, limit and cancellation can lose one (laws 9, 10).
"""

from __future__ import annotations

import asyncio
import socket
import warnings
from collections import deque
from typing import TYPE_CHECKING, Self

from netio._arguments import check_count, check_host, check_port
from netio._defaults import ACCEPTS_PER_TURN, BACKLOG, DEFAULT, STREAM_LIMIT_BYTES
from netio._engine import check_server_context
from netio._errors import StreamClosed, format_address
from netio._greeting import Greeter
from netio._holding import give_turn
from netio._limits import DEFAULT_TIMEOUTS, check_timeout, check_timeouts
from netio._network import check_listener, chosen_network, listen_on, port_of
from netio._opening import Opening
from netio._operation import Operation
from netio._options import DEFAULT_OPTIONS, SocketOptions, check_options
from netio._readiness import Readiness, Waiter
from netio._stream import Stream
from netio._turns import turns_of

if TYPE_CHECKING:
    import ssl

    from netio._channel import Channel
    from netio._errors import Address
    from netio._limits import Timeout, Timeouts
    from netio._network import Acceptor, Network


class _Lookout(Waiter):
    """Waits at one acceptor, and wakes all who want a connection when there may be one."""

    __slots__ = ("_line",)

    def __init__(self, line: Readiness) -> None:
        super().__init__()
        self._line = line

    def attempt(self) -> bool:
        _wake_all(self._line)
        return True


def _wake_all(line: Readiness) -> None:
    for waiter in line.waiters:
        waiter.wake()


class Listener:
    """Listens on one address or several, made by `listen_tcp` or `listen_unix`.

    An async context manager that closes on leaving. To be iterated over with ``async for``: each
    connection is a `Stream`, which is the caller's to close. Iterating waits for as long as it
    takes, and ends when the listener is closed. It belongs to the event loop it was made in.

    Nothing is accepted before somebody asks: what comes meanwhile waits in the kernel's backlog.
    With TLS their handshakes go on beside each other, and also while nobody asks.
    """

    def __init__(
        self,
        acceptors: list[Acceptor],
        *,
        tls: ssl.SSLContext | None,
        timeouts: Timeouts,
        limit: int,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._line = line = Readiness(self._loop)
        self._greeter: Greeter | None = None
        if tls is not None:
            # Of the line only, so that a listener that is dropped is noticed.
            self._greeter = Greeter(tls, timeouts.handshake, lambda: _wake_all(line))
        self._acceptors = deque((acceptor, _Lookout(self._line)) for acceptor in acceptors)
        self._addresses = tuple(acceptor.address for acceptor in acceptors)
        self._timeouts = timeouts
        self._limit = limit
        self._turns = turns_of(self._loop)

    @property
    def address(self) -> Address:
        """The address it listens on, with the port the system chose; of several, the first."""
        return self._addresses[0]

    @property
    def addresses(self) -> tuple[Address, ...]:
        """All addresses it listens on."""
        return self._addresses

    @property
    def port(self) -> int:
        """The port of the first address.

        Raises:
            ValueError: it does not listen on a port of the internet.
        """
        return port_of(self.address)

    @property
    def closed(self) -> bool:
        """Whether it was closed."""
        return self._line.closed

    async def accept(self, *, timeout: Timeout = DEFAULT) -> Stream:
        """Accept the next connection. Several tasks may ask at once; each connection goes to one.

        `timeout`: seconds, a `Deadline` or `Budget`, None for no limit; left out, the limit is
        ``timeouts.read``, as for whatever waits for a peer. Zero or less takes what is there now.

        With TLS that is one whose handshake is done. Those that fail are told in the log.

        Returns: the `Stream`, which is the caller's to close.

        Raises:
            DeadlineExceeded: nobody has connected in time. The listener is usable as before.
            OSError: the system is out of descriptors or memory. What is queued stays queued.
            StreamClosed: the listener was closed, before or meanwhile.
            TypeError, ValueError, RuntimeError: at once; nothing changes.

        Cancellation: no connection is lost; what has come goes to the next who asks.
        """
        check_timeout(timeout)
        if asyncio.get_running_loop() is not self._loop:
            raise RuntimeError("accept: the listener belongs to another event loop")
        arrival = Operation("accept", peer=self.address)
        arrival.start(self._loop.time(), timeout, self._timeouts.read, "read")
        try:
            await self._turns.pay()
            return await self._next(arrival)
        except asyncio.CancelledError as cancelled:
            arrival.mark(cancelled)
            raise
        finally:
            self._line.leave(arrival)
            arrival.stop_clocks(self._loop.time())

    async def _next(self, arrival: Operation) -> Stream:
        waited = False
        while True:
            if self.closed:
                text = f"{arrival}: the listener was closed by this side"
                raise StreamClosed(text, peer=self.address)
            stream = self._take(arrival)
            if stream is not None:
                return stream
            now = self._loop.time()
            expired = arrival.deadline <= now
            if not expired:
                await self._wait(arrival)
                self._turns.renew()
            elif waited:
                await give_turn()  # a scope that fired in the same tick answers (law 15)
            else:
                raise arrival.exceeded(now, "nobody has connected")
            waited = not expired

    def _take(self, arrival: Operation) -> Stream | None:
        """A connection that is there, and that has spoken TLS where that is to be."""
        greeter = self._greeter
        if greeter is None:
            channel = self._accept(arrival)
        else:
            for _ in range(ACCEPTS_PER_TURN):
                channel = self._accept(arrival)
                if channel is None:
                    break
                greeter.greet(channel)
            channel = greeter.next()
        if channel is None:
            return None
        return Stream(channel, timeouts=self._timeouts, limit=self._limit)

    def _accept(self, arrival: Operation) -> Channel | None:
        """What is there at one of the acceptors, each of which is the first in its turn."""
        for _ in range(len(self._acceptors)):
            self._acceptors.rotate(-1)
            acceptor, _ = self._acceptors[-1]
            try:
                channel = acceptor.accept()
            except OSError as error:
                raise OSError(error.errno, f"{arrival}: {error.strerror}") from error
            if channel is not None:
                return channel
        return None

    async def _wait(self, arrival: Operation) -> None:
        for acceptor, lookout in self._acceptors:
            if not lookout.waiting:
                acceptor.wait_readable(lookout)
        await self._line.park(arrival)

    async def aclose(self) -> None:
        """Listen no more. May be repeated.

        Tasks that wait in `accept` get `StreamClosed`, iterations end, and the kernel refuses what
        is still in the backlog. Streams that were accepted live on.

        Raises:
            RuntimeError: called from another event loop; nothing changes.

        Cancellation: it is closed whatever happens; this waits for nothing.
        """
        if asyncio.get_running_loop() is not self._loop:
            raise RuntimeError("aclose: the listener belongs to another event loop")
        self._close()
        await self._turns.pay()

    def _close(self) -> None:
        for acceptor, _ in self._acceptors:
            acceptor.close()
        if self._greeter is not None:
            self._greeter.close()
        self._line.release()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Stream:
        try:
            return await self.accept(timeout=None)
        except StreamClosed:
            raise StopAsyncIteration from None

    def __del__(self) -> None:
        line = getattr(self, "_line", None)
        if line is None or line.closed:
            return
        try:
            warnings.warn(f"unclosed {self!r}", ResourceWarning, source=self, stacklevel=2)
        finally:  # the warning may have been made an error
            if self._loop.is_closed():
                self._close()
            else:
                # Not the listener itself, which is going to be no more.
                for acceptor, _ in self._acceptors:
                    self._loop.call_soon_threadsafe(acceptor.close)
                if self._greeter is not None:
                    self._loop.call_soon_threadsafe(self._greeter.close)

    def __repr__(self) -> str:
        state = "closed" if self.closed else "open"
        where = ", ".join(map(format_address, self._addresses))
        return f"<netio.Listener {state} {where}>"


def listen_tcp(
    host: str | None = None,
    port: int = 0,
    *,
    sock: socket.socket | None = None,
    tls: ssl.SSLContext | None = None,
    timeouts: Timeouts = DEFAULT_TIMEOUTS,
    options: SocketOptions = DEFAULT_OPTIONS,
    limit: int = STREAM_LIMIT_BYTES,
    backlog: int = BACKLOG,
    network: Network | None = None,
) -> Opening[Listener]:
    """Listen for TCP connections: ``async with listen_tcp(port=7000) as listener``.

    For those who want each connection in their hands; `serve_tcp` has a task for each.

    `host`: a name or address; None for all addresses of the machine. `port`: 0 lets the system
    choose, see `Listener.port`. `sock`: a bound socket to use instead of both; None for none.
    `tls`: an ``ssl.SSLContext`` with the server's certificate, to speak TLS; None for plain TCP.
    Each handshake has ``timeouts.handshake``; one that fails, or is late, is a line in the log.
    `timeouts`: the default limits of each stream, and of `Listener.accept` (``read``). `limit`:
    the longest record in bytes unless a call says otherwise. `backlog`: connections the kernel
    queues. `options`: what is set on the socket before it listens, and on each connection.
    `network`: listen there; None is the system's, whose sockets alone have `options`.

    Returns: an awaitable that gives the `Listener`, and a context manager that closes it.

    Raises:
        OSError: the address can't be listened on. Nothing is left open.
        ConnectFailed: the name does not resolve; it is an OSError as well.
        DeadlineExceeded: the name took longer to look up than ``timeouts.resolve``.
        TypeError, ValueError: at the call, before any I/O.

    Cancellation: nothing is left behind.
    """
    if host is not None:
        check_host(host)
    check_port(port)
    if sock is not None:
        check_listener(sock)
        if host is not None or port != 0 or network is not None:
            raise ValueError("sock stands instead of host, port and network")
    check_server_context(tls)
    check_timeouts(timeouts)
    check_options(options)
    check_count(backlog, "backlog", at_least=1)
    check_count(limit, "limit", at_least=1)
    chosen = chosen_network(network, options)

    async def listen() -> Listener:
        loop = asyncio.get_running_loop()
        await give_turn()  # a numeric address is bound, or refused, without waiting (law 35)
        acceptors: list[Acceptor]
        if sock is not None:
            acceptors = [listen_on(sock, backlog, options, loop)]
        else:
            lookup = Operation("listen_tcp: lookup", peer=(host or "*", port))
            lookup.start(loop.time(), DEFAULT, timeouts.resolve, "resolve")
            acceptors = await chosen.listen(host, port, lookup, backlog=backlog)
        return Listener(acceptors, tls=tls, timeouts=timeouts, limit=limit)

    return Opening("listen_tcp", listen())
