"""One connection of the memory network, from the first step of connecting to its end.

The steps take the same wires as the bytes, so that latency and faults act on them, too: ``connect``
goes up; ``accept`` or ``refuse`` comes down; ``open`` goes up, and the server has the connection
as soon as it arrives. A listener gives a place to each that asks, as many as its backlog and one
more, as Linux does; who finds none waits until one is free.
"""

from __future__ import annotations

import errno
import os
from collections import deque
from typing import TYPE_CHECKING, Final
from weakref import WeakSet

from netio._memory import MemoryChannel, Sign
from netio._readiness import Readiness
from netio.testing._network.wire import Connection, Handshake, WireEvent

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from netio._errors import Address, KnownAddress
    from netio._operation import Operation
    from netio._readiness import Waiter
    from netio.testing._network.wire import Wire


_ends: Final[WeakSet[NetworkChannel]] = WeakSet()


def open_ends() -> list[NetworkChannel]:
    """The ends of connections in memory that are open, on whatever loop: their descriptors."""
    return [end for end in _ends if not end.closed]


class NetworkChannel(MemoryChannel):
    """One end of a connection of the network; says when it is closed."""

    __slots__ = ("__weakref__", "_when_closed")

    def __init__(
        self,
        connection: Connecting,
        incoming: Wire,
        outgoing: Wire,
        local: Address,
        peer: Address,
    ) -> None:
        super().__init__(connection.loop, incoming, outgoing, local, peer)
        self._when_closed = connection.end_closed
        _ends.add(self)

    def close(self) -> None:
        if not self.closed:
            super().close()
            self._when_closed()

    def abort(self) -> None:
        if not self.closed:
            super().abort()
            self._when_closed()

    def vanish(self) -> None:
        """Close without a word: nobody has ever held this end."""
        if not self.closed:
            self.release()
            self._when_closed()


class Connecting(Connection):
    """A connection of the memory network: its two ends, and the steps that connect them."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        number: int,
        *,
        client: Address,
        server: KnownAddress,
        buffer_bytes: int,
        seed: int,
        events: list[WireEvent] | None,
        listener_at: Callable[[KnownAddress], MemoryAcceptor | None],
        when_over: Callable[[Connecting], None],
    ) -> None:
        super().__init__(loop, number, buffer_bytes=buffer_bytes, seed=seed, events=events)
        self.client = client
        self.server = server
        self.near = NetworkChannel(self, self.downstream, self.upstream, client, server)
        self.far = NetworkChannel(self, self.upstream, self.downstream, server, client)
        self._listener_at = listener_at
        self._when_over = when_over
        self._listener: MemoryAcceptor | None = None
        self._answered = False
        self._refused = False
        self._dialling: Waiter | None = None

    # The client's side.

    def begin(self) -> None:
        """Ask for the connection."""
        self.upstream.put(Handshake("connect", self._connect_arrived))

    def answer(self) -> MemoryChannel | None:
        """The client's end, once it is connected; None: not answered yet. A refusal is an error."""
        if self._refused:
            raise OSError(errno.ECONNREFUSED, os.strerror(errno.ECONNREFUSED))
        return self.near if self._answered else None

    def wake_when_answered(self, waiter: Waiter) -> None:
        """The client waits for the answer."""
        self._dialling = waiter

    def give_up(self) -> None:
        """The client wants it no more, or was refused."""
        if self._answered and not self._refused:
            self.near.close()
            return
        if self._listener is not None:
            self._listener.leave_line(self)
        self.near.vanish()
        self.far.vanish()

    def _accept_arrived(self) -> None:
        self._end_wait()
        self.upstream.put(Handshake("open", self._open_arrived))

    def _refuse_arrived(self) -> None:
        self._refused = True
        self._end_wait()

    def _end_wait(self) -> None:
        self._answered = True
        waiter, self._dialling = self._dialling, None
        if waiter is not None:
            waiter.wake()

    # The server's side.

    def accept(self) -> None:
        """The listener has a place."""
        self.downstream.put(Handshake("accept", self._accept_arrived))

    def refuse(self) -> None:
        """Nobody listens, or not any more."""
        self.downstream.put(Handshake("refuse", self._refuse_arrived))

    def drop(self) -> None:
        """The listener is closed, and nobody is going to accept this."""
        if self.is_open:
            self.far.abort()
        else:
            self.far.vanish()  # `open` may be on its way, and is then answered by a reset

    def end_closed(self) -> None:
        """One end was closed; with both of them, all is over."""
        if self.near.closed and self.far.closed:
            self._when_over(self)

    def _connect_arrived(self) -> None:
        self._listener = self._listener_at(self.server)
        if self._listener is None:
            self.refuse()
        else:
            self._listener.ask(self)

    def _open_arrived(self) -> None:
        assert self._listener is not None
        if self.far.closed:
            self.downstream.put(Sign.RESET)
            return
        self._listener.offer(self)
        self.opened()


class MemoryAttempt:
    """The client's side of a connection that is not answered yet."""

    def __init__(self, connection: Connecting) -> None:
        self._connection = connection

    def check(self) -> MemoryChannel | None:
        """See `netio._attempts.Attempt`."""
        return self._connection.answer()

    def watch(self, waiter: Waiter) -> None:
        """See `netio._attempts.Attempt`."""
        self._connection.wake_when_answered(waiter)

    def close(self) -> None:
        """See `netio._attempts.Attempt`."""
        self._connection.give_up()


async def answered(connection: Connecting, operation: Operation) -> MemoryChannel:
    """The client's end, once it is connected; whatever happens else, nothing is left of it.

    Raises ``OSError`` for a refusal, and `DeadlineExceeded` at the operation's deadline.
    """
    loop = connection.loop
    attempt, readiness = MemoryAttempt(connection), Readiness(loop)
    try:
        while (channel := attempt.check()) is None:
            now = loop.time()
            if operation.deadline <= now:
                raise operation.exceeded(now, "the peer has not answered")
            waiting = readiness.park(operation)
            attempt.watch(operation)
            await waiting
            await operation.let_scopes_answer(loop)
    except BaseException:
        attempt.close()
        raise
    finally:
        readiness.release()
    return channel


class MemoryAcceptor(Readiness):
    """A listener of the memory network."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        address: Address,
        backlog: int,
        when_closed: Callable[[], None],
    ) -> None:
        super().__init__(loop)
        self.address: Address = address
        self._places = backlog + 1
        self._when_closed = when_closed
        self._line: dict[Connecting, None] = {}  # those without a place, in order
        self._coming: dict[Connecting, None] = {}  # those with a place that are not open yet
        self._queue: deque[Connecting] = deque()

    def accept(self) -> MemoryChannel | None:
        """The next connection; None: would block."""
        if not self._queue:
            return None
        connection = self._queue.popleft()
        self._fill_places()
        return connection.far

    def close(self) -> None:
        """Accept no more: what waits is refused, what is queued is reset."""
        if self.closed:
            return
        self.release()
        self._when_closed()
        waiting, self._line = self._line, {}
        for connection in waiting:
            connection.refuse()
        queued = (*self._coming, *self._queue)
        self._coming.clear()
        self._queue.clear()
        for connection in queued:
            connection.drop()

    def wait_readable(self, waiter: Waiter) -> asyncio.Future[None]:
        if self._queue:
            self.loop.call_soon(self.readable)
        return super().wait_readable(waiter)

    # What connections ask.

    def ask(self, connection: Connecting) -> None:
        """It wants a place; it gets one at once, or when one is free."""
        self._line[connection] = None
        self._fill_places()

    def offer(self, connection: Connecting) -> None:
        """It is open, and waits to be accepted."""
        self._coming.pop(connection, None)
        self._queue.append(connection)
        self.loop.call_soon(self.readable)

    def leave_line(self, connection: Connecting) -> None:
        """It is given up, before it was open."""
        self._line.pop(connection, None)
        if self._coming.pop(connection, self) is None:
            self._fill_places()

    def _fill_places(self) -> None:
        while self._line and len(self._coming) + len(self._queue) < self._places:
            connection = next(iter(self._line))
            del self._line[connection]
            self._coming[connection] = None
            connection.accept()


async def wait_until(loop: asyncio.AbstractEventLoop, when: float, operation: Operation) -> None:
    """Until then, or until the operation's deadline, which is an error."""
    readiness = Readiness(loop)
    limit = operation.deadline
    operation.deadline = min(when, limit)
    try:
        while loop.time() < operation.deadline:
            await readiness.park(operation)
            await operation.let_scopes_answer(loop)
    finally:
        operation.deadline = limit
        readiness.release()
    if limit < when:
        raise operation.exceeded(loop.time(), "the name was still being looked up")
