"""Channels in memory: two connected ends without a kernel between them.

Each direction is a pipe that holds a bounded number of bytes, so that a writer waits as it would
for a socket. Every event (bytes arrived, room made, end, reset) reaches the other side as a
callback of the loop, as a poller would report it, and never inside the call that caused it.
"""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

from netio._defaults import STREAM_LIMIT_BYTES
from netio._readiness import Readiness, Waiter

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Sequence

    from netio._errors import Address


class _Pipe:
    """One direction: the bytes under way, and how it ended."""

    __slots__ = ("capacity", "data", "ended", "reset", "unread_end")

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.data = bytearray()
        self.ended = False  # the writer said that nothing follows
        self.unread_end = False  # the reader is gone
        self.reset = False  # to be reported once, as the kernel does


class MemoryChannel(Readiness):
    """One end of a connection in memory; `memory_pair` makes both."""

    __slots__ = ("_incoming", "_local", "_other", "_outgoing", "_peer", "_signalled")

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        incoming: _Pipe,
        outgoing: _Pipe,
        local: Address,
        peer: Address,
    ) -> None:
        super().__init__(loop)
        self._incoming = incoming
        self._outgoing = outgoing
        self._local = local
        self._peer = peer
        self._other: MemoryChannel | None = None
        self._signalled = False

    @property
    def peer(self) -> Address:
        return self._peer

    @property
    def local(self) -> Address:
        return None if self.closed else self._local

    def receive(self, max_bytes: int, /) -> bytes:
        pipe = self._incoming
        if pipe.data:
            chunk = bytes(memoryview(pipe.data)[:max_bytes])
            del pipe.data[: len(chunk)]
            self._tell_other()
            return chunk
        if pipe.reset:
            pipe.reset = False
            raise OSError(errno.ECONNRESET, os.strerror(errno.ECONNRESET))
        if pipe.ended:
            return b""
        raise _would_block()

    def receive_into(self, view: memoryview, /) -> int:
        chunk = self.receive(len(view))
        view[: len(chunk)] = chunk
        return len(chunk)

    def send(self, data: bytes | memoryview, /) -> int:
        pipe = self._outgoing
        if self._incoming.reset:
            self._incoming.reset = False
            raise OSError(errno.ECONNRESET, os.strerror(errno.ECONNRESET))
        if pipe.unread_end or pipe.ended:
            raise OSError(errno.EPIPE, os.strerror(errno.EPIPE))
        room = pipe.capacity - len(pipe.data)
        if room <= 0:
            raise _would_block()
        taken = data[:room]
        pipe.data += taken
        self._tell_other()
        return len(taken)

    def send_many(self, views: Sequence[memoryview], /) -> int:
        total = 0
        for view in views:
            try:
                sent = self.send(view)
            except BlockingIOError:
                if not total:
                    raise
                break
            total += sent
            if sent < len(view):
                break
        return total

    def shut_down_writing(self) -> None:
        self._outgoing.ended = True
        self._tell_other()

    def close(self) -> None:
        if self.closed:
            return
        self.release()
        self._incoming.unread_end = True
        self._incoming.data.clear()
        self._outgoing.ended = True
        self._tell_other()

    def abort(self) -> None:
        if self.closed:
            return
        self.release()
        self._incoming.unread_end = True
        self._incoming.data.clear()
        self._outgoing.ended = True
        self._outgoing.reset = True
        self._tell_other()

    def abandon(self) -> None:
        if self.loop.is_closed():
            self.closed = True
        else:
            self.loop.call_soon_threadsafe(self.close)

    def wait_readable(self, waiter: Waiter) -> asyncio.Future[None]:
        self._signal()
        return super().wait_readable(waiter)

    def wait_writable(self, waiter: Waiter) -> asyncio.Future[None]:
        self._signal()
        return super().wait_writable(waiter)

    def _tell_other(self) -> None:
        if self._other is not None and not self._other.closed:
            self._other._signal()

    def _signal(self) -> None:
        """Have the loop attempt for those who wait here, on its next tick and once."""
        if not self._signalled:
            self._signalled = True
            self.loop.call_soon(self._report)

    def _report(self) -> None:
        self._signalled = False
        again = self._can_read() and self.readable()
        if self._can_write() and self.writable():
            again = True
        if again and (self._can_read() or self._can_write()):
            self._signal()

    def _can_read(self) -> bool:
        return bool(self._incoming.data) or self._incoming.ended or self._incoming.reset

    def _can_write(self) -> bool:
        pipe = self._outgoing
        return pipe.unread_end or self._incoming.reset or len(pipe.data) < pipe.capacity


def _would_block() -> BlockingIOError:
    return BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))


def memory_pair(
    loop: asyncio.AbstractEventLoop,
    *,
    capacity: int = STREAM_LIMIT_BYTES,
    local: Address = "memory:0",
    peer: Address = "memory:1",
) -> tuple[MemoryChannel, MemoryChannel]:
    """Two connected ends, each direction holding at most `capacity` bytes under way."""
    there, back = _Pipe(capacity), _Pipe(capacity)
    near = MemoryChannel(loop, back, there, local, peer)
    far = MemoryChannel(loop, there, back, peer, local)
    near._other, far._other = far, near
    return near, far
