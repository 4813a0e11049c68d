"""Channels with one planted fault each, to see that the conformance kit names what they break.

Each differs from netio's own in one thing, in which its docstring says. Both ends of a connection
have it. What is in here must not be written like that.
"""

import asyncio
import math
import socket
from typing import Any

from plain_channel import MakePair, PlainChannel

import netio
from netio._channel import SocketChannel
from netio._readiness import READABLE, WRITABLE, Readiness

# Channels: the bytes. --------------------------------------------------------------------------


class Duplicates(PlainChannel):
    """Sends the first byte of each 1,000th call twice."""

    calls = 0

    def send(self, data: Any) -> int:
        sent = super().send(data)
        self.calls += 1
        if self.calls % 1000 == 0:
            self._outgoing.data += data[:1]
        return sent


class Loses(PlainChannel):
    """Loses the last byte of each 10th call that fills the pipe."""

    calls = 0

    def send(self, data: Any) -> int:
        sent = super().send(data)
        if len(self._outgoing.data) == self._outgoing.capacity:
            self.calls += 1
            if self.calls % 10 == 0:
                del self._outgoing.data[-1:]
        return sent


class FlipsABit(PlainChannel):
    """Gets a byte wrong in each 70th receive."""

    calls = 0

    def receive(self, max_bytes: int) -> bytes:
        chunk = super().receive(max_bytes)
        self.calls += 1
        if self.calls % 70 == 0 and chunk:
            return bytes([chunk[0] ^ 1]) + chunk[1:]
        return chunk


class Swaps(PlainChannel):
    """Swaps the last two bytes of a full receive."""

    def receive(self, max_bytes: int) -> bytes:
        chunk = super().receive(max_bytes)
        return chunk[:-2] + chunk[:-3:-1] if len(chunk) > 20_000 else chunk


class TranslatesNewlines(PlainChannel):
    """Makes a carriage return and a newline one newline, as a file in text mode does."""

    def receive(self, max_bytes: int) -> bytes:
        return super().receive(max_bytes).replace(b"\r\n", b"\n")


class DropsSingleBytes(PlainChannel):
    """Takes a single byte that is zero for padding."""

    def receive(self, max_bytes: int) -> bytes:
        chunk = super().receive(max_bytes)
        return super().receive(max_bytes) if chunk == b"\0" else chunk


class MixesDirections(PlainChannel):
    """While both directions are busy, sends what came back where it came from."""

    def send(self, data: Any) -> int:
        if len(self._incoming.data) > 50_000 and len(self._outgoing.data) > 50_000:
            self._incoming.data[:1], self._outgoing.data[:1] = (
                self._outgoing.data[:1],
                self._incoming.data[:1],
            )
        return super().send(data)


class ReceivesIntoShort(PlainChannel):
    """Says that it has filled a view, of which it has filled all but the last byte."""

    def receive_into(self, view: memoryview) -> int:
        chunk = self.receive(len(view))
        view[: len(chunk) - 1] = chunk[:-1]
        return len(chunk)


class ReceivesTooMuch(PlainChannel):
    """Gives all that is there, whatever it was asked for."""

    def receive(self, max_bytes: int) -> bytes:
        self._outgoing.capacity = self._incoming.capacity = 1 << 20
        return super().receive(1 << 30)

    def receive_into(self, view: memoryview) -> int:
        chunk = super().receive(len(view))
        view[: len(chunk)] = chunk
        return len(chunk)


class SendsFirstOnly(PlainChannel):
    """Takes the first of several buffers, and says that it has taken all."""

    def send_many(self, views: Any) -> int:
        super().send_many(views[:1])
        return sum(map(len, views))


class SendsWithoutTaking(PlainChannel):
    """Says that it has taken 10 bytes when there is no room."""

    def send(self, data: Any) -> int:
        try:
            return super().send(data)
        except BlockingIOError:
            return min(10, len(data))


class TakesOneMore(PlainChannel):
    """Takes a byte more than it says, where not all fits."""

    def send(self, data: Any) -> int:
        sent = super().send(data)
        if sent < len(data):
            self._outgoing.data += data[sent : sent + 1]
        return sent


class SaysOneMore(PlainChannel):
    """Says that it has taken a byte more than it has, where not all fits."""

    def send(self, data: Any) -> int:
        sent = super().send(data)
        return sent + 1 if 0 < sent < len(data) - 1 else sent


class KeepsTheCallersMemory(PlainChannel):
    """Puts a reference to what is written into the pipe, and the bytes only in the next tick."""

    def send(self, data: Any) -> int:
        sent = super().send(data)
        del self._outgoing.data[-sent or len(self._outgoing.data) :]
        self._outgoing.capacity -= sent
        self.loop.call_soon(self._put, memoryview(data)[:sent])
        return sent

    def _put(self, kept: memoryview) -> None:
        self._outgoing.capacity += len(kept)
        self._outgoing.data += kept
        self._tell_other()


class HoldsTheCallersMemory(PlainChannel):
    """Keeps a view of the last buffer that it was given."""

    last: Any = None

    def send(self, data: Any) -> int:
        self.last = memoryview(data)
        return super().send(data)

    def receive_into(self, view: memoryview) -> int:
        self.last = view[:]
        return super().receive_into(view)


class Unbounded(PlainChannel):
    """Holds whatever it is given."""

    def send(self, data: Any) -> int:
        self._outgoing.capacity = 1 << 40
        return super().send(data)


class ReadsAhead(PlainChannel):
    """Takes in what comes, also when nobody asks for it."""

    def _report(self) -> None:
        receiver = self._other and self.__dict__.get("receiver")
        super()._report()
        if receiver is not None and not self.closed and self._incoming.data:
            receiver.attempt()


# Channels: ends and failures. ------------------------------------------------------------------


class ResetIsTheEnd(PlainChannel):
    """Reads a reset as the end of the stream."""

    def receive(self, max_bytes: int) -> bytes:
        if self._incoming.reset and not self._incoming.data:
            return b""
        return super().receive(max_bytes)


class ResetOvertakes(PlainChannel):
    """Tells a reset before the bytes that came before it, which it drops."""

    def receive(self, max_bytes: int) -> bytes:
        if self._incoming.reset:
            self._incoming.data.clear()
        return super().receive(max_bytes)


class ResetForgetsToWake(PlainChannel):
    """Tells nobody that it was cut."""

    def abort(self) -> None:
        if not self.closed:
            other, self._other = self._other, None
            super().abort()
            self._other = other


class AbortIsAClose(PlainChannel):
    """Ends the stream in a regular way when it is aborted."""

    def abort(self) -> None:
        self.close()


class EndIsLost(PlainChannel):
    """Would block at the end of the stream."""

    def receive(self, max_bytes: int) -> bytes:
        chunk = super().receive(max_bytes)
        if not chunk:
            raise BlockingIOError
        return chunk


class EndForgetsToWake(PlainChannel):
    """Tells nobody that the other side has closed."""

    def close(self) -> None:
        other, self._other = self._other, None
        super().close()
        self._other = other


class EndOvertakes(PlainChannel):
    """Drops what the other side has not read yet when it closes."""

    def close(self) -> None:
        if not self.closed:
            self._outgoing.data.clear()
        super().close()


class CloseOverUnreadResets(PlainChannel):
    """Resets the connection when it is closed over bytes that were not read, as the kernel does."""

    def close(self) -> None:
        if not self.closed and self._incoming.data:
            self._outgoing.data.clear()
            self.abort()
        super().close()


class HalfCloseClosesBothWays(PlainChannel):
    """Ends both directions when one is shut down."""

    def shut_down_writing(self) -> None:
        super().shut_down_writing()
        self._incoming.ended = True


class HalfCloseDoesNothing(PlainChannel):
    """Does not tell the other side that nothing follows."""

    def shut_down_writing(self) -> None:
        pass


class CloseForgetsToWake(PlainChannel):
    """Wakes nobody when it is closed."""

    def release(self) -> None:
        self.waiters = ()
        super().release()


class CloseRaises(PlainChannel):
    """Raises when it is closed after the other side."""

    def close(self) -> None:
        gone = self._incoming.ended and not self.closed
        super().close()
        if gone:
            raise OSError("not connected")


class ClosesOnce(PlainChannel):
    """Raises when it is closed again."""

    def close(self) -> None:
        if self.closed:
            raise OSError("closed twice")
        super().close()


class ForgetsItsPeer(PlainChannel):
    """Knows no peer once it is closed."""

    @property
    def peer(self) -> Any:
        return None if self.closed else self._peer


class KeepsItsAddress(PlainChannel):
    """Has an address of its own also when it is closed."""

    @property
    def local(self) -> Any:
        return self._local


class AbandonDoesNothing(PlainChannel):
    """Stays open when its stream is garbage."""

    def abandon(self) -> None:
        pass


class WritesIntoTheVoid(PlainChannel):
    """Takes bytes though the other side is gone."""

    def send(self, data: Any) -> int:
        if self._outgoing.unread_end:
            return len(data)
        return super().send(data)


# Channels: waiting. ----------------------------------------------------------------------------


class ForgetsRoom(PlainChannel):
    """Does not notice that the other side has made room."""

    def receive(self, max_bytes: int) -> bytes:
        other, self._other = self._other, None
        try:
            return super().receive(max_bytes)
        finally:
            self._other = other


class NeverMovesItsTimer(PlainChannel):
    """Leaves a timer that is set where it is."""

    def _set_timer(self, when: float) -> None:
        if self._timer is None:
            super()._set_timer(when)


class ForgetsTheOtherWaiter(PlainChannel):
    """Sets no timer again for those who still wait when it rings."""

    def _ring(self) -> None:
        super()._ring()
        if self._timer is not None:
            self._timer.cancel()
            self._timer, self._rings_at = None, math.inf


class WakesEverybody(PlainChannel):
    """Ends every wait when its timer rings, by moving all deadlines there."""

    def _ring(self) -> None:
        for waiter in self.waiters:
            waiter.deadline = min(waiter.deadline, self.loop.time())
        super()._ring()


class RingsEarly(PlainChannel):
    """Has a clock that is 2 ms fast, for limits of less than a second."""

    def park(self, waiter: Any, *awaits: Any) -> Any:
        if is_seconds(waiter._given) and waiter._given < 1:
            waiter.deadline = waiter.started + waiter._given - 0.002
        return super().park(waiter, *awaits)


class DoesNotRearm(PlainChannel):
    """Does not look again when a deadline is moved."""

    def rearm(self, waiter: Any) -> None:
        pass


class RenewsWithEachChunk(PlainChannel):
    """Begins the limit of a read anew with all that comes."""

    def receive(self, max_bytes: int) -> bytes:
        chunk = super().receive(max_bytes)
        _renew(self, READABLE)
        return chunk


class RenewsWithEachSend(PlainChannel):
    """Begins the limit of a write anew with all that is taken."""

    def send(self, data: Any) -> int:
        sent = super().send(data)
        _renew(self, WRITABLE)
        return sent


def _renew(channel: PlainChannel, awaits: int) -> None:
    waiter: Any
    for waiter in channel.waiters:
        if waiter.awaits == awaits and is_seconds(waiter._given):
            waiter.deadline = waiter._own = channel.loop.time() + waiter._given


class SpinsWhenFull(PlainChannel):
    """Says that it is writable, whether it is or not."""

    def _can_write(self) -> bool:
        return True


class SpinsAtTheEnd(PlainChannel):
    """Says over and over that the end is there."""

    def _report(self) -> None:
        super()._report()
        if self._incoming.ended and not self.closed:
            self._signal()


class SpinsOnUnread(PlainChannel):
    """Says over and over that bytes are there which nobody asks for."""

    def _report(self) -> None:
        super()._report()
        if self._incoming.data and not self.closed:
            self._signal()


class LeavesItsTimer(PlainChannel):
    """Leaves its timer set when it is closed."""

    def release(self) -> None:
        self._timer = None
        super().release()


class LeavesATask(PlainChannel):
    """Has a task that looks after it, and goes on when it is closed."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.watching_task = self.loop.create_task(self._watch())

    async def _watch(self) -> None:
        await self.loop.create_future()


class CostsMoreAndMore(PlainChannel):
    """Goes through all that ever came with each receive."""

    history = b""

    def receive(self, max_bytes: int) -> bytes:
        chunk = super().receive(max_bytes)
        self.history += chunk
        if len(self.history) < 10_000:
            for _ in range(16):
                sum(self.history)
        return chunk


class RaisesInACallback(PlainChannel):
    """Has a callback that fails when the other side closes."""

    def close(self) -> None:
        if not self.closed and self._other is not None:
            self.loop.call_soon(self._fail)
        super().close()

    def _fail(self) -> None:
        raise ZeroDivisionError("in a callback")


class BelongsToAnyLoop(PlainChannel):
    """Works under whatever loop is running."""

    @property
    def loop(self) -> Any:  # type: ignore[override]
        try:
            return asyncio.get_running_loop()
        except RuntimeError:
            return self._first_loop

    @loop.setter
    def loop(self, loop: Any) -> None:
        self._first_loop = loop


def is_seconds(timeout: Any) -> bool:
    return isinstance(timeout, (int, float)) and timeout == timeout


# Over sockets. ---------------------------------------------------------------------------------


class LeavesItsWatchers(SocketChannel):
    """Is still registered with the loop's poller when its socket is closed."""

    def release(self) -> None:
        Readiness.release(self)


class LeavesItsDescriptor(SocketChannel):
    """Leaves its socket open."""

    def close(self) -> None:
        if not self.closed:
            self.release()
            self.sock.shutdown(socket.SHUT_WR)
            leftovers.append(self.sock)

    def abort(self) -> None:
        self.close()


#: What `LeavesItsDescriptor` has left, for a test to close.
leftovers: list[socket.socket] = []


class DetachTakesBytes(SocketChannel):
    """Gives its socket away without a byte that had come."""

    def detach(self) -> socket.socket:
        try:
            self.sock.recv(1)
        except BlockingIOError:
            pass
        return super().detach()


class DetachForgetsToWake(SocketChannel):
    """Wakes nobody when it gives its socket away."""

    def detach(self) -> socket.socket:
        self.waiters = ()
        return super().detach()


def sockets_of(
    channel: type[SocketChannel] = SocketChannel, stream: type[netio.Stream] = netio.Stream
) -> MakePair:
    """Two connected ends of these classes, over a socket pair."""

    async def make_pair() -> tuple[netio.Stream, netio.Stream]:
        loop = asyncio.get_running_loop()
        options: Any = {"timeouts": netio.Timeouts(), "limit": 65536}
        ends = []
        for sock in socket.socketpair():
            sock.setblocking(False)
            ends.append(stream(channel(loop, sock, None), **options))
        return ends[0], ends[1]

    return make_pair
