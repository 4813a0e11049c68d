"""A channel in memory as somebody else might write one, short and open, to plant faults in.

netio's own does more (``netio/_memory.py``). This one knows nothing of it, and conforms as well.
"""

import asyncio
import errno
import os
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import netio
from netio._readiness import Readiness, Waiter

CAPACITY = 65536

MakePair = Callable[[], Awaitable[tuple[netio.Stream, netio.Stream]]]


class Pipe:
    """One direction: the bytes under way, and how it ended."""

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.data = bytearray()
        self.ended = False  # the writer said that nothing follows
        self.unread_end = False  # the reader is gone
        self.reset = False  # to be reported once, as the kernel does


class PlainChannel(Readiness):
    """One end of a connection in memory."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        incoming: Pipe,
        outgoing: Pipe,
        local: netio.Address,
        peer: netio.Address,
    ) -> None:
        super().__init__(loop)
        self._incoming = incoming
        self._outgoing = outgoing
        self._local = local
        self._peer = peer
        self._other: Any = None
        self._signalled = False

    @property
    def peer(self) -> netio.Address:
        return self._peer

    @property
    def local(self) -> netio.Address:
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
        raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))

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
            raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))
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


def pair_of(
    channel: type[PlainChannel] = PlainChannel,
    stream: type[netio.Stream] = netio.Stream,
    capacity: int = CAPACITY,
) -> MakePair:
    """Two connected ends of these classes."""

    async def make_pair() -> tuple[netio.Stream, netio.Stream]:
        loop = asyncio.get_running_loop()
        there, back = Pipe(capacity), Pipe(capacity)
        near = channel(loop, back, there, "memory:0", "memory:1")
        far = channel(loop, there, back, "memory:1", "memory:0")
        near._other, far._other = far, near
        options: Any = {"timeouts": netio.Timeouts(), "limit": 65536}
        return stream(near, **options), stream(far, **options)

    return make_pair
