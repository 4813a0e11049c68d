"""Deadlines for code that has a bare non-blocking socket, and wants nothing else.

These functions own nothing but the wait. What a read has consumed when it fails is on the error,
as `partial`, since there is no buffer in which it could stay readable. `readuntil` takes nothing
past the separator out of the kernel, so that other code can go on reading from the same socket:

- it peeks, so that it knows what it will consume;
- what holds no complete separator belongs to the result, and is consumed: waiting on bytes that
  were only peeked at would spin, since they keep the descriptor ready;
- what holds one is consumed up to its end.
"""

from __future__ import annotations

import asyncio
import contextlib
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
from netio._limits import Operation, Timeouts, check_timeout
from netio._readiness import DescriptorReadiness
from netio._stream import Stream

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from netio._arguments import Buffer
    from netio._defaults import DefaultType
    from netio._limits import Timeout

_DEFAULTS: Final = Timeouts()

# Descriptors that are being read or written by these functions. A loop has one reader a
# descriptor, so a second wait would take it from the first without a word.
_in_use: Final[WeakKeyDictionary[asyncio.AbstractEventLoop, set[tuple[int, str]]]] = (
    WeakKeyDictionary()
)


async def read_bytes(sock: socket.socket | Stream, n: int, *, timeout: Timeout = DEFAULT) -> bytes:
    """Read exactly `n` bytes from a non-blocking socket, or from a `Stream`.

    `timeout`: seconds for the whole call, a `Deadline`, None for no limit; left out, 60 seconds.

    Returns: the bytes.

    Raises:
        DeadlineExceeded, ConnectionLost, IncompleteRead: the limit, a failure or the end came
            first. The bytes consumed are on the error as `partial`; the socket stays usable.
        StreamBusy: another call reads from this socket. Nothing is consumed.
        ValueError: the socket is blocking, or `n` is negative. TypeError: a wrong type.

    Cancellation: the ``CancelledError`` has the bytes consumed as `partial`. On a `Stream`, here
    and in the errors above, nothing is consumed and everything stays readable.
    """
    if isinstance(sock, Stream):
        return await sock.read_exactly(n, timeout=timeout)
    count = check_count(n, "n")
    call = _Call("read_bytes", sock, timeout, "read", size=count, expected=count)
    taken = bytearray()

    def attempt() -> bool | None:
        if len(taken) == count:
            return True
        chunk = sock.recv(min(count - len(taken), READ_BYTES))
        taken.extend(chunk)
        if not chunk:
            raise call.incomplete(taken)
        return len(taken) == count

    await call.run(attempt, taken)
    return bytes(taken)


async def readuntil(
    sock: socket.socket | Stream,
    separator: bytes | tuple[bytes, ...],
    *,
    limit: int | DefaultType = DEFAULT,
    timeout: Timeout = DEFAULT,
) -> bytes:
    """Read up to and including a separator, and nothing past it, from a non-blocking socket.

    `separator`: bytes, or a tuple of several; the earliest end wins, then the shorter one.
    `limit`: the longest result in bytes; left out, 64 KiB (or the limit of the `Stream`).
    `timeout`: seconds for the whole call, a `Deadline`, None for no limit; left out, 60 seconds.

    Returns: the bytes, the separator included. What follows it is still in the kernel.

    Raises:
        DeadlineExceeded, ConnectionLost, IncompleteRead, LimitExceeded: the bytes consumed are on
            the error as `partial`; the socket stays usable.
        StreamBusy: another call reads from this socket. Nothing is consumed.
        ValueError: the socket is blocking, the separator empty, or the limit smaller than it.
        TypeError: a wrong type.

    Cancellation: the ``CancelledError`` has the bytes consumed as `partial`. On a `Stream`, here
    and in the errors above, nothing is consumed and everything stays readable.
    """
    if isinstance(sock, Stream):
        return await sock.read_until(separator, limit=limit, timeout=timeout)
    separators = check_separators(separator)
    most = STREAM_LIMIT_BYTES if limit is DEFAULT else check_count(limit, "limit")
    if most < min(map(len, separators)):
        raise ValueError(f"limit ({most}) is smaller than the separator")
    call = _Call("readuntil", sock, timeout, "read")
    seen = ReceiveBuffer()
    search = Search(separators, most)
    taken = bytearray()

    def attempt() -> bool | None:
        if len(taken) == most:
            raise LimitExceeded(
                f"{call.operation}: no separator within the limit of {most} bytes; what was "
                "consumed is in .partial",
                limit=most,
                partial=bytes(taken),
            )
        ahead = sock.recv(min(most - len(taken), PEEK_BYTES), socket.MSG_PEEK)
        if not ahead:
            raise call.incomplete(taken)
        seen.append(ahead)
        found = search.find(seen)
        taken.extend(sock.recv(search.end - len(taken) if found else len(ahead)))
        return found

    await call.run(attempt, taken)
    return bytes(taken)


async def write_bytes(
    sock: socket.socket | Stream, data: Buffer, *, timeout: Timeout = DEFAULT
) -> None:
    """Write all of `data` to a non-blocking socket, or to a `Stream`.

    `timeout`: seconds for the whole call, a `Deadline`, None for no limit; left out, 60 seconds.

    Raises:
        DeadlineExceeded, ConnectionLost: `done` says how many bytes the kernel took. The socket
            stays usable, but unless that is none the peer has a part only.
        StreamBusy: another call writes to this socket. Nothing is sent.
        ValueError: the socket is blocking. TypeError: a wrong type.

    Cancellation: the ``CancelledError`` has `done`, as above.
    """
    if isinstance(sock, Stream):
        await sock.write(data, timeout=timeout)
        return
    with readable_view(data, "data") as view:
        call = _Call("write_bytes", sock, timeout, "write", size=len(view), expected=len(view))

        def attempt() -> bool | None:
            if call.done < len(view):
                with view[call.done : call.done + BYTES_PER_TURN] as rest:
                    call.done += sock.send(rest)
            return call.done == len(view)

        await call.run(attempt, None)


class _Call:
    """One call on a bare socket: its limit, its place in the registry, its errors."""

    def __init__(
        self,
        name: str,
        sock: socket.socket,
        timeout: Timeout,
        direction: str,
        *,
        size: int | None = None,
        expected: int | None = None,
    ) -> None:
        check_socket(sock)
        check_timeout(timeout)
        if sock.gettimeout() != 0:
            raise ValueError("sock must be non-blocking: call sock.setblocking(False)")
        peer = None
        with contextlib.suppress(OSError):
            peer = sock.getpeername() or None
        self.sock = sock
        self.done = 0
        self.operation = Operation(name, size=size, peer=peer, expected=expected)
        self.direction = direction
        self._timeout = timeout

    async def run(self, attempt: Callable[[], bool | None], taken: bytearray | None) -> None:
        """Attempt until it says True; put what was `taken` on whatever is raised instead."""
        loop = asyncio.get_running_loop()
        operation = self.operation
        default = _DEFAULTS.read if self.direction == "read" else _DEFAULTS.write
        now = loop.time()
        operation.start(now, self._timeout, default=default, kind=self.direction)
        readiness = DescriptorReadiness(loop, self.sock.fileno())
        with self._registered(loop):
            try:
                await self._attempt_until_done(attempt, taken, readiness)
            except asyncio.CancelledError as cancelled:
                operation.mark(cancelled, done=self._progress(taken), partial=bytes(taken or b""))
                raise
            except OSError as error:
                if isinstance(error, NetioError):
                    raise
                what = f"{operation} ({self._progress(taken)} bytes were done)"
                lost = connection_lost(error, what, done=self._progress(taken))
                raise _with_partial(lost, taken) from error
            finally:
                readiness.release()

    async def _attempt_until_done(
        self,
        attempt: Callable[[], bool | None],
        taken: bytearray | None,
        readiness: DescriptorReadiness,
    ) -> None:
        operation, loop = self.operation, readiness.loop
        wait = readiness.wait_readable if self.direction == "read" else readiness.wait_writable
        while True:
            expired = operation.deadline <= loop.time()
            before = self._progress(taken)
            most = LAST_LOOK_BYTES if expired else BYTES_PER_TURN
            try:
                while self._progress(taken) - before < most:
                    if attempt():
                        return
            except (BlockingIOError, InterruptedError):
                pass
            if expired:
                progress = f"{self._progress(taken)} bytes were done"
                error = operation.exceeded(loop.time(), progress, done=self._progress(taken))
                raise _with_partial(error, taken)
            await wait(operation)

    def _progress(self, taken: bytearray | None) -> int:
        return self.done if taken is None else len(taken)

    def incomplete(self, taken: bytearray) -> IncompleteRead:
        """The end came first."""
        return IncompleteRead(
            f"{self.operation}: the peer ended the stream first; the {len(taken)} bytes consumed "
            "are in .partial",
            partial=bytes(taken),
            expected=self.operation.expected,
        )

    @contextlib.contextmanager
    def _registered(self, loop: asyncio.AbstractEventLoop) -> Iterator[None]:
        in_use = _in_use.setdefault(loop, set())
        key = (self.sock.fileno(), self.direction)
        if key in in_use:
            raise StreamBusy(f"{self.operation}: another call {self.direction}s on this socket")
        in_use.add(key)
        try:
            yield
        finally:
            in_use.discard(key)


def _with_partial(error: DeadlineExceeded | ConnectionLost, taken: bytearray | None) -> NetioError:
    error.partial = bytes(taken or b"")
    return error
