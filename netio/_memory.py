"""Channels in memory: two connected ends without a kernel between them.

They behave as TCP does on loopback. Each direction holds a bounded number of bytes, so that a
writer waits as it would for a socket; what is sent to an end that is closed is answered by a
reset; an error is told once, and is EPIPE where the end had come before the reset. What one side
does reaches the other as a callback of the loop, as a poller would report it, and never inside
the call that caused it.

`Way` is one direction. This one leads straight to the other side; the test kit has one that takes
its time.
"""

from __future__ import annotations

import enum
import errno
import os
from collections import deque
from typing import TYPE_CHECKING, Protocol

from netio._defaults import STREAM_LIMIT_BYTES
from netio._readiness import Readiness, Waiter

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Sequence

    from netio._errors import Address


class Sign(enum.Enum):
    """What travels in order with the bytes."""

    CUT = "cut"  # a receive takes nothing from before and after this at once
    END = "end"
    RESET = "reset"


class Sender(Protocol):
    """What a way comes from."""

    def room_made(self) -> None:
        """The way takes more bytes again."""


class Receiver(Protocol):
    """What a way leads to."""

    def deliver(self, item: bytes | Sign) -> None:
        """Something has come; of bytes it says later, with `Way.take`, that they have left."""


class Way:
    """One direction of a connection, which holds at most `capacity` bytes under way."""

    __slots__ = ("capacity", "held", "receiver", "sender")

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.held = 0  # sent and not received yet
        self.sender: Sender
        self.receiver: Receiver

    def put(self, item: bytes | Sign) -> None:
        """Send, without regard to the capacity, which the sender minds."""
        if item.__class__ is bytes:
            self.held += len(item)
        self.receiver.deliver(item)

    def take(self, size: int) -> None:
        """So many bytes have left the way."""
        self.held -= size
        self.sender.room_made()


class MemoryChannel(Readiness):
    """One end of a connection in memory; `memory_pair` makes both."""

    __slots__ = (
        "_broken",
        "_cuts",
        "_data",
        "_end_came",
        "_end_sent",
        "_error",
        "_incoming",
        "_local",
        "_outgoing",
        "_peer",
        "_signalled",
        "_taken",
    )

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        incoming: Way,
        outgoing: Way,
        local: Address,
        peer: Address,
    ) -> None:
        super().__init__(loop)
        self._incoming = incoming
        self._outgoing = outgoing
        incoming.receiver = outgoing.sender = self
        self._local = local
        self._peer = peer
        self._data = bytearray()
        self._taken = 0  # bytes that were received so far
        self._cuts: deque[int] | None = None  # after which byte a receive has to stop
        self._end_came = False
        self._end_sent = False  # or a reset: nothing follows
        self._broken = False  # a reset came: nothing comes or goes any more
        self._error = 0  # the number to be told, once, as the kernel does
        self._signalled = False

    @property
    def peer(self) -> Address:
        return self._peer

    @property
    def local(self) -> Address:
        return None if self.closed else self._local

    def receive(self, max_bytes: int, /) -> bytes:
        data = self._data
        if data:
            if self._cuts is not None:
                max_bytes = min(max_bytes, self._to_the_next_cut())
            chunk = bytes(memoryview(data)[:max_bytes])
            size = len(chunk)
            del data[:size]
            self._taken += size
            self._incoming.take(size)
            return chunk
        if not self._end_came:
            self._tell_error()
            if not self._broken:
                raise _would_block()
        return b""

    def receive_into(self, view: memoryview, /) -> int:
        chunk = self.receive(len(view))
        view[: len(chunk)] = chunk
        return len(chunk)

    def send(self, data: bytes | memoryview, /) -> int:
        if self._broken or self._end_sent:
            self._tell_error()
            raise OSError(errno.EPIPE, os.strerror(errno.EPIPE))
        way = self._outgoing
        room = way.capacity - way.held
        if room <= 0:
            raise _would_block()
        taken = bytes(data[:room])
        if taken:
            way.put(taken)
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
        if self._broken:
            raise OSError(errno.ENOTCONN, os.strerror(errno.ENOTCONN))
        self._say(Sign.END)

    def close(self) -> None:
        if not self.closed:
            self.release()
            self._forget()
            self._say(Sign.END)

    def abort(self) -> None:
        if not self.closed:
            self.release()
            self._forget()
            self._end_sent = False  # a reset is told also after the end
            self._say(Sign.RESET)

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

    # What the ways say.

    def deliver(self, item: bytes | Sign) -> None:
        if self.closed or self._broken:
            if isinstance(item, bytes):
                self._refuse(len(item))
            return
        if isinstance(item, bytes):
            self._data += item
        elif item is Sign.CUT:
            self._cut()
        elif item is Sign.END:
            self._end_came = True
        else:
            self._broken = True
            self._error = errno.EPIPE if self._end_came else errno.ECONNRESET
        self._signal()

    def room_made(self) -> None:
        if self.waiters and not self.closed:
            self._signal()

    def _say(self, sign: Sign) -> None:
        """The last thing this end says, unless it was said before, or nobody would hear it."""
        if not self._end_sent and not self._broken:
            self._end_sent = True
            self._outgoing.put(sign)

    def _refuse(self, size: int) -> None:
        """Bytes for an end that is closed: the other side is told, once, that nobody is there."""
        self._incoming.take(size)
        if not self._broken:
            self._broken = True
            self._outgoing.put(Sign.RESET)

    def _forget(self) -> None:
        """Nobody is going to receive what is here."""
        size = len(self._data)
        if size:
            self._data = bytearray()
            self._incoming.take(size)

    def _tell_error(self) -> None:
        number, self._error = self._error, 0
        if number:
            raise OSError(number, os.strerror(number))

    def _cut(self) -> None:
        if self._data:
            if self._cuts is None:
                self._cuts = deque()
            self._cuts.append(self._taken + len(self._data))

    def _to_the_next_cut(self) -> int:
        """How many bytes there are up to the next cut, which is past if none are."""
        cuts = self._cuts
        while cuts and cuts[0] <= self._taken:
            cuts.popleft()
        if cuts:
            return cuts[0] - self._taken
        self._cuts = None
        return len(self._data)

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
        return bool(self._data) or self._end_came or self._broken

    def _can_write(self) -> bool:
        return self._broken or self._outgoing.held < self._outgoing.capacity


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
    there, back = Way(capacity), Way(capacity)
    return (
        MemoryChannel(loop, back, there, local, peer),
        MemoryChannel(loop, there, back, peer, local),
    )
