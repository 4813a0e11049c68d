"""Deadlines for code that has a bare non-blocking socket, and wants nothing else.

These functions own nothing but the wait. What a read has consumed when it fails is on the error,
as `partial`, since there is no buffer in which it could stay readable. `readuntil` takes nothing
past the separator out of the kernel, so that other code can go on reading from the same socket:

- it peeks, so that it knows what it will consume;
- what holds no complete separator belongs to the result, and is consumed: waiting on bytes that
  were only peeked at would spin, since they keep the descriptor ready;
- what holds one is consumed up to its end.

Bytes leave the kernel only in the task that asked for them, with no suspension until they are
returned or put on the error: no order of data, limit and cancellation can lose one (law 10).
"""

from __future__ import annotations

import asyncio
import select
import socket
from typing import TYPE_CHECKING, Final
from weakref import WeakKeyDictionary

from netio._arguments import check_count, check_separators, check_socket, readable_view
from netio._buffer import ReceiveBuffer, Search
from netio._defaults import (
    BYTES_PER_TURN,
    DEFAULT,
    LAST_LOOK_BYTES,
    PEEK_BYTES,
    READ_BYTES,
    STREAM_LIMIT_BYTES,
    TIMER_STEP_SECONDS,
)
from netio._errors import (
    ConnectionLost,
    DeadlineExceeded,
    IncompleteRead,
    LimitExceeded,
    NetioError,
    StreamBusy,
    connection_lost,
)
from netio._limits import DEFAULT_TIMEOUTS, check_timeout
from netio._operation import Operation
from netio._readiness import DescriptorReadiness, Waiter
from netio._stream import Stream
from netio._turns import Turns, turns_of

if TYPE_CHECKING:
    from netio._arguments import Buffer
    from netio._defaults import DefaultType
    from netio._errors import Address
    from netio._limits import Timeout
    from netio._observing import Wait


async def read_bytes(sock: socket.socket | Stream, n: int, *, timeout: Timeout = DEFAULT) -> bytes:
    """Read exactly `n` bytes from a non-blocking socket, or from a `Stream`.

    Don't close the socket while the call waits.
    `timeout`: seconds for the whole call, a `Deadline` or `Budget`, None for no limit; left
    out, 60 seconds.

    Returns: the bytes.

    Raises:
        DeadlineExceeded, ConnectionLost, IncompleteRead: the limit, a failure or the end came
            first. The bytes consumed are on the error as `partial`; the socket stays usable.
        StreamBusy: another call reads from this socket. Nothing is consumed.
        ValueError: the socket is blocking, not connected or no stream socket, or `n` is negative.
        TypeError: a wrong type.

    Cancellation: the ``CancelledError`` has the bytes consumed as `partial`. On a `Stream`, here
    and in the errors above, nothing is consumed and everything stays readable.
    """
    if isinstance(sock, Stream):
        return await sock.read_exactly(n, timeout=timeout)
    call = _ReadExactly(sock, check_count(n, "n"))
    await call.run(timeout)
    return bytes(call.taken)


async def readuntil(
    sock: socket.socket | Stream,
    separator: bytes | tuple[bytes, ...],
    *,
    limit: int | DefaultType = DEFAULT,
    timeout: Timeout = DEFAULT,
) -> bytes:
    """Read up to and including a separator, and nothing past it, from a non-blocking socket.

    Don't close the socket while the call waits.
    `separator`: bytes, or a tuple of several; the earliest end wins, then the shorter one.
    `limit`: the longest result in bytes; left out, 64 KiB (or the limit of the `Stream`).
    `timeout`: seconds for the whole call, a `Deadline` or `Budget`, None for no limit; left
    out, 60 seconds.

    Returns: the bytes, the separator included. What follows it is still in the kernel.

    Raises:
        DeadlineExceeded, ConnectionLost, IncompleteRead, LimitExceeded: the bytes consumed are on
            the error as `partial`; the socket stays usable.
        StreamBusy: another call reads from this socket. Nothing is consumed.
        ValueError: the socket is blocking, not connected or no stream socket; the separator is
            empty, or the limit smaller than it. TypeError: a wrong type.

    Cancellation: the ``CancelledError`` has the bytes consumed as `partial`. On a `Stream`, here
    and in the errors above, nothing is consumed and everything stays readable.
    """
    if isinstance(sock, Stream):
        return await sock.read_until(separator, limit=limit, timeout=timeout)
    separators = check_separators(separator)
    most = STREAM_LIMIT_BYTES if limit is DEFAULT else check_count(limit, "limit")
    if most < min(map(len, separators)):
        raise ValueError(f"limit ({most}) is smaller than the separator")
    call = _ReadUntil(sock, separators, most)
    await call.run(timeout)
    return bytes(call.taken)


async def write_bytes(
    sock: socket.socket | Stream, data: Buffer, *, timeout: Timeout = DEFAULT
) -> None:
    """Write all of `data` to a non-blocking socket, or to a `Stream`.

    Don't close the socket while the call waits.
    `timeout`: seconds for the whole call, a `Deadline` or `Budget`, None for no limit; left
    out, 60 seconds.

    Raises:
        DeadlineExceeded, ConnectionLost: `done` says how many bytes the kernel took. The socket
            stays usable, but unless that is none the peer has a part only.
        StreamBusy: another call writes to this socket. Nothing is sent.
        ValueError: the socket is blocking, not connected or no stream socket.
        TypeError: a wrong type.

    Cancellation: the ``CancelledError`` has `done`, as above.
    """
    if isinstance(sock, Stream):
        await sock.write(data, timeout=timeout)
        return
    with readable_view(data, "data") as view:
        await _Write(sock, view).run(timeout)


def connected_peer(sock: socket.socket) -> Address:
    """The other side of a connected stream socket; an error that names `sock` for any other."""
    check_socket(sock)
    if sock.type != socket.SOCK_STREAM:
        raise ValueError("sock must be a stream socket")
    try:
        return sock.getpeername() or None
    except OSError:
        if not _was_connected(sock):
            raise ValueError("sock must be connected") from None
    return None


def _was_connected(sock: socket.socket) -> bool:
    """Whether `sock` has lost its peer by now, which is the network's doing, not the caller's.

    A lost connection has an end or an error to read; a socket that never had one has not. Asking
    for the error itself would take it away from the read that is to raise it.
    """
    if sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN) or not hasattr(select, "poll"):
        return False
    poll = select.poll()
    poll.register(sock, select.POLLIN)
    return any(events & select.POLLIN for _, events in poll.poll(0))


# What is being read or written by these functions. A loop has one reader and one writer a
# descriptor, so that a second wait would take them from the first without a word.
_in_use: Final[WeakKeyDictionary[asyncio.AbstractEventLoop, set[tuple[int, str]]]] = (
    WeakKeyDictionary()
)


class _Call(Operation):
    """One call on a bare socket: its limit, its place in the registry, its errors."""

    __slots__ = ("_sock", "done", "taken")

    direction = "read"

    def __init__(
        self, name: str, sock: socket.socket, *, size: int | None = None, expected: int | None
    ) -> None:
        super().__init__(name, size=size, peer=connected_peer(sock), expected=expected)
        if sock.gettimeout() != 0:
            raise ValueError("sock must be non-blocking: call sock.setblocking(False)")
        self._sock = sock
        self.done = 0
        self.taken = bytearray()

    def step(self) -> bool:
        """Move some bytes, or raise ``BlockingIOError``; True: the work is done."""
        raise NotImplementedError

    async def run(self, timeout: Timeout) -> None:
        """Step until the work is done; what is raised instead has the bytes `taken`."""
        check_timeout(timeout)
        loop = asyncio.get_running_loop()
        default = getattr(DEFAULT_TIMEOUTS, self.direction)
        self.start(loop.time(), timeout, default, self.direction)
        try:
            await self._run_alone(loop)
        except asyncio.CancelledError as cancelled:
            self.mark(cancelled, done=self.done, partial=bytes(self.taken))
            raise
        except NetioError:
            raise
        except OSError as error:
            raise self._lost(error) from error
        except Exception as error:  # a loop that can't watch the socket, for instance
            error.__dict__["partial"] = bytes(self.taken)
            raise
        finally:
            self.stop_clocks(loop.time())

    async def _run_alone(self, loop: asyncio.AbstractEventLoop) -> None:
        turns = turns_of(loop)
        turns.charge(0)
        if turns.credit <= 0:
            await turns.give()
        in_use = _in_use.setdefault(loop, set())
        place = (self._sock.fileno(), self.direction)
        if place in in_use:
            raise StreamBusy(f"{self}: another call {self.direction}s on this socket")
        in_use.add(place)
        readiness = DescriptorReadiness(loop, self._sock.fileno())
        try:
            await self._step_until_done(readiness, turns)
        finally:
            readiness.release()
            in_use.discard(place)

    async def _step_until_done(self, readiness: DescriptorReadiness, turns: Turns) -> None:
        loop = readiness.loop
        wait = readiness.wait_readable if self.direction == "read" else readiness.wait_writable
        in_vain = 0  # so often in a row nothing was moved
        while True:
            expired = self.deadline <= loop.time()
            before = self.done
            try:
                if self._step_often(LAST_LOOK_BYTES if expired else BYTES_PER_TURN):
                    return
            finally:
                turns.charge(self.done - before)
            if expired:
                raise self._expired(loop.time())
            in_vain = in_vain + 1 if self.done == before else 0
            if in_vain > 1:
                # Ready, and yet it would block, and not only since the loop has looked before the
                # last bytes were taken: out-of-band data on a Unix socket does that for good. Look
                # again in a while, and don't spin.
                rest = Waiter(loop.time() + TIMER_STEP_SECONDS)
                await readiness.park(rest)
                readiness.leave(rest)
            await wait(self)
            await self.let_scopes_answer(loop)
            turns.renew()

    def describe(self, wait: Wait) -> None:
        super().describe(wait)
        wait.done = self.done

    def _expired(self, now: float) -> DeadlineExceeded:
        error = self.exceeded(now, self._progress(), done=self.done)
        error.partial = bytes(self.taken)
        return error

    def _lost(self, error: OSError) -> ConnectionLost:
        lost = connection_lost(error, f"{self} ({self._progress()})", done=self.done)
        assert isinstance(lost, ConnectionLost)  # there is no TLS on a bare socket
        lost.partial = bytes(self.taken)
        return lost

    def _step_often(self, most: int) -> bool:
        """Step until the work is done, the kernel would block, or `most` bytes were moved."""
        enough = self.done + most
        try:
            while self.done < enough:
                if self.step():
                    return True
        except (BlockingIOError, InterruptedError):
            pass
        return False

    def _take(self, chunk: bytes) -> None:
        self.taken += chunk
        self.done += len(chunk)

    def _progress(self) -> str:
        of = "" if self.expected is None else f" of {self.expected}"
        return f"{self.done}{of} bytes were done"

    def _incomplete(self) -> IncompleteRead:
        return IncompleteRead(
            f"{self}: the peer ended the stream first; the {self.done} bytes consumed are in "
            ".partial",
            partial=bytes(self.taken),
            expected=self.expected,
        )


class _ReadExactly(_Call):
    __slots__ = ("_count",)

    def __init__(self, sock: socket.socket, count: int) -> None:
        super().__init__("read_bytes", sock, size=count, expected=count)
        self._count = count

    def step(self) -> bool:
        missing = self._count - self.done
        if missing:
            chunk = self._sock.recv(min(missing, READ_BYTES))
            if not chunk:
                raise self._incomplete()
            self._take(chunk)
        return self.done == self._count


class _ReadUntil(_Call):
    __slots__ = ("_limit", "_search", "_seen")

    def __init__(self, sock: socket.socket, separators: tuple[bytes, ...], limit: int) -> None:
        super().__init__("readuntil", sock, expected=None)
        self._limit = limit
        self._search = Search(separators, limit)
        self._seen = ReceiveBuffer()

    def step(self) -> bool:
        ahead = self._sock.recv(min(self._limit - self.done, PEEK_BYTES), socket.MSG_PEEK)
        if not ahead:
            raise self._incomplete()
        self._seen.append(ahead)
        found = self._search.find(self._seen)
        self._take(self._sock.recv(self._search.end - self.done if found else len(ahead)))
        if not found and self.done == self._limit:
            raise LimitExceeded(
                f"{self}: no separator within the limit of {self._limit} bytes; what was consumed "
                "is in .partial",
                limit=self._limit,
                partial=bytes(self.taken),
            )
        return found


class _Write(_Call):
    __slots__ = ("_view",)

    direction = "write"

    def __init__(self, sock: socket.socket, view: memoryview) -> None:
        super().__init__("write_bytes", sock, size=len(view), expected=len(view))
        self._view = view

    def step(self) -> bool:
        if self.done < len(self._view):
            with self._view[self.done : self.done + BYTES_PER_TURN] as rest:
                self.done += self._sock.send(rest)
        return self.done == len(self._view)
