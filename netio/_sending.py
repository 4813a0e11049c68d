"""The writing side of a stream: whose turn it is, what the kernel has taken, what was cut.

There is no write buffer: a write returns when the kernel has every byte. Writers queue in the
order of their calls, each with its own limit. One that is cut says how many of its bytes the
kernel took; if these are some and not all, the two sides are out of step, and the stream refuses
further writes (law 13).
"""

from __future__ import annotations

import asyncio
from asyncio import get_running_loop
from collections import deque
from itertools import islice
from typing import TYPE_CHECKING

from netio._arguments import readable_view
from netio._defaults import (
    BUFFERS_PER_SEND,
    BYTES_PER_TURN,
    COST_SHIFT,
    LAST_LOOK_BYTES,
    OPERATIONS_PER_TURN,
    READ_BYTES,
    SMALL_PIECE_BYTES,
    SYSTEM_CALL_COST,
)
from netio._errors import ConnectionLost, NetioError, StreamBusy, StreamClosed, connection_lost
from netio._holding import give_turn
from netio._limits import Timeouts
from netio._operation import NO_STANDING, Operation, Standing
from netio._receiving import Receiver

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterable

    from netio._arguments import Buffer
    from netio._channel import Channel
    from netio._errors import TLSError
    from netio._limits import Timeout
    from netio._moving import Moving
    from netio._observing import Wait


class Outgoing(Operation):
    """One write in progress: what the kernel has not taken yet."""

    __slots__ = ("_receiver", "_views", "begun", "done", "error", "full", "total")

    def __init__(
        self,
        name: str,
        receiver: Receiver,
        views: Iterable[memoryview],
        *,
        total: int,
        done: int | None = None,
    ) -> None:
        super().__init__(name, size=total, peer=receiver.peer, expected=total)
        self._receiver = receiver  # which keeps the failure that both directions share
        self._views = deque(views)
        self.total = total
        self.done = 0
        self.error: OSError | None = None
        self.full = done is not None  # the kernel did not take all it was offered: it would block
        self.begun = self.full  # it was offered
        self._advance(done or 0)

    def attempt(self) -> bool:
        """Offer what is left, once; True: it is all taken, or can't be."""
        views = self._views
        channel = self._receiver.channel
        self.begun = True
        try:
            if len(views) == 1:
                with views[0][:BYTES_PER_TURN] as offered:
                    sent = channel.send(offered)
                    self.full = sent < len(offered)
            else:
                sent = channel.send_many(list(islice(views, BUFFERS_PER_SEND)))
                self.full = False
        except BlockingIOError:
            self.full = True
            return False
        except OSError as error:
            # Kept now: the kernel says it once, and a read may come before this write is resumed,
            # or this write be cancelled (law 29).
            self.error = self._receiver.fail(error)
            return True
        self._advance(sent)
        if self.moving is not None and sent:
            self.moving.moved(sent, channel.loop.time())
        return self.done == self.total

    def _advance(self, sent: int) -> None:
        self.done += sent
        views = self._views
        while sent:
            with views.popleft() as first:
                if sent < len(first):
                    views.appendleft(first[sent:])
                    return
                sent -= len(first)

    def forget(self) -> None:
        """Let go of the caller's memory, also while an error with this frame is alive."""
        while self._views:
            self._views.popleft().release()

    def describe(self, wait: Wait) -> None:
        super().describe(wait)
        wait.done = self.done
        if self._receiver.channel.closed:
            wait.outcome = "closed"
        elif self.error is not None:
            wait.outcome, wait.error = "failed", self.error

    def progress(self) -> str:
        """How far it got, for errors."""
        if not self.done:
            return f"none of {self.total} bytes was sent"
        rest = "" if self.done == self.total else ", so the stream refuses further writes"
        return f"the kernel took {self.done} of {self.total} bytes{rest}"


class _Ending(Outgoing):
    """The goodbye of one direction: one thing to be taken, which over a socket never waits."""

    __slots__ = ()

    def __init__(self, receiver: Receiver) -> None:
        super().__init__("write_eof", receiver, (), total=1)
        self.size = self.expected = None

    def attempt(self) -> bool:
        try:
            self._receiver.channel.shut_down_writing()
        except BlockingIOError:
            self.full = True
            return False
        except OSError as error:
            # Not kept: "not connected" only repeats what the kernel is still going to say.
            self.error = error
            return True
        self.done = 1
        return True

    def progress(self) -> str:
        return "the end was not told"


class _Joining:
    """Puts buffers in a row, small ones joined to pieces of some size."""

    def __init__(self) -> None:
        self.views: list[memoryview] = []
        self._small: list[bytes] = []
        self._size = 0

    def add(self, buffer: Buffer) -> None:
        if isinstance(buffer, bytes) and len(buffer) < SMALL_PIECE_BYTES:
            self._join_later(buffer)
            return
        view = readable_view(buffer, "buffers")
        if len(view) < SMALL_PIECE_BYTES:
            with view:
                self._join_later(bytes(view))
        else:
            self.join()
            self.views.append(view)

    def _join_later(self, piece: bytes) -> None:
        self._small.append(piece)
        self._size += len(piece)
        if self._size >= READ_BYTES:
            self.join()

    def join(self) -> None:
        if self._size:
            self.views.append(memoryview(b"".join(self._small)))
        self._small.clear()
        self._size = 0

    def join_all(self) -> None:
        joined = memoryview(b"".join(self.views))
        for view in self.views:
            view.release()
        self.views = [joined]


def few_views(buffers: Iterable[Buffer]) -> list[memoryview]:
    """All of `buffers` in order, in few pieces: a view of a small one costs more than its copy."""
    try:
        iterator = iter(buffers)
    except TypeError:
        kind = type(buffers).__name__
        raise TypeError(f"buffers must be an iterable of bytes-like objects, not {kind}") from None
    joining = _Joining()
    try:
        for buffer in iterator:
            joining.add(buffer)
        joining.join()
        if len(joining.views) > 1 and sum(map(len, joining.views)) <= READ_BYTES:
            joining.join_all()
    except BaseException:
        for view in joining.views:
            view.release()
        raise
    return joining.views


class Sender:
    """Writes for one stream, in the order of the calls."""

    __slots__ = (
        "_current",
        "_queue",
        "_receiver",
        "_told",
        "_torn",
        "_turns",
        "bytes_sent",
        "channel",
        "ended",
        "moving",
        "standing",
        "timeouts",
    )

    def __init__(self, channel: Channel, receiver: Receiver, timeouts: Timeouts) -> None:
        self.channel = channel
        self.timeouts = timeouts
        self.bytes_sent = 0
        self.standing: Standing = NO_STANDING  # the connection's own deadline for writes
        self.moving: Moving | None = None
        self.ended = False  # this side said that nothing follows, or has begun to
        self._told = False  # it has said it
        self._receiver = receiver  # which keeps the failure that both directions share
        self._torn: str | None = None
        self._current: Operation | None = None  # a write, or what all writes have to wait for
        self._queue: deque[Outgoing] | None = None  # made when a write has to queue
        self._turns = receiver.turns

    def quick(self, data: bytes | memoryview) -> int | None:
        """Offer `data` to the kernel: how many bytes it took; None: something stands in the way."""
        channel = self.channel
        if (
            self._current is not None
            or self._turns.credit <= 0
            or self.ended
            or self._torn is not None
            or self._receiver.failure is not None
            or channel.closed
            or get_running_loop() is not channel.loop
        ):
            return None
        try:
            sent = channel.send(data)
        except BlockingIOError:
            return 0
        except OSError as error:
            # Kept here, since the kernel says it only once; the slow way raises it.
            self._receiver.fail(error)
            return None
        self._turns.credit -= SYSTEM_CALL_COST + (sent >> COST_SHIFT)
        self.bytes_sent += sent
        if self.moving is not None and sent:
            self.moving.moved(sent, channel.loop.time())
        return sent

    async def write(
        self,
        name: str,
        views: list[memoryview],
        total: int,
        timeout: Timeout,
        *,
        done: int | None = None,
        outgoing: Outgoing | None = None,
    ) -> None:
        """Send in turn what `quick` has left of `views`; `done` is what it returned.

        `outgoing`: one of another kind than of buffers, which are none then.
        """
        if outgoing is None:
            outgoing = Outgoing(name, self._receiver, views, total=total, done=done)
        try:
            await self._in_turn(outgoing, timeout, self._send)
        finally:
            self.bytes_sent += outgoing.done - (done or 0)
            if 0 < outgoing.done < total:
                self._torn = f"an earlier {outgoing.text} was cut after {outgoing.done} bytes"
            elif outgoing.begun and not outgoing.done and self.channel.committed:
                self._torn = f"an earlier {outgoing.text} was cut when it was encrypted in part"
            if self._torn is not None:
                self.channel.tear()
            self._leave(outgoing)
            outgoing.forget()

    async def end(self, timeout: Timeout) -> None:
        """Say that nothing follows, once the writes before are through."""
        outgoing = _Ending(self._receiver)
        if self._told and not self.channel.closed:
            self._turns.charge(0)
            await self._yield_at_times()
            return
        try:
            await self._in_turn(outgoing, timeout, self._shut_down)
        finally:
            self._leave(outgoing)

    def _leave(self, outgoing: Outgoing) -> None:
        self.channel.leave(outgoing)
        if outgoing.running:
            outgoing.stop_clocks(self.channel.loop.time())

    async def _shut_down(self, outgoing: Outgoing) -> None:
        if self._told and not self.channel.closed:
            return
        self._check(outgoing)
        try:
            await self._until_taken(outgoing)
            self._told = True
        finally:
            self.ended = self.ended or outgoing.full or outgoing.done == outgoing.total

    async def _in_turn(
        self,
        outgoing: Outgoing,
        timeout: Timeout,
        act: Callable[[Outgoing], Coroutine[None, None, None]],
    ) -> None:
        """`act` when the writes before are through, within the limits that begin now."""
        loop = self.channel.loop
        try:
            self._turns.charge(0)
            try:
                self._check(outgoing)
            except NetioError:
                await self._yield_at_times()
                raise
            now = loop.time()
            if self.standing is not NO_STANDING:
                outgoing.stand(self.standing)
            outgoing.start(now, timeout, self.timeouts.write, "write")
            if self.moving is not None:
                outgoing.bound_by(self.moving, now, begun=True)
            await self._take_turn(outgoing)
            try:
                await self._yield_at_times()
                await act(outgoing)
            finally:
                self._pass_on()
        except asyncio.CancelledError as cancelled:
            outgoing.mark(cancelled, done=outgoing.done)
            raise

    @property
    def is_torn(self) -> bool:
        """Whether the peer has, or would have after a close, a part of a write and not the rest."""
        current = self._current
        under_way = isinstance(current, Outgoing) and 0 < current.done < current.total
        return under_way or self._torn is not None or self.channel.committed > 0

    def occupy(self, operation: Operation) -> None:
        """Have all writes wait for `operation`, which has no part in what they send.

        Raises StreamBusy while one waits, and what a write would raise.
        """
        if self._current is not None:
            raise StreamBusy(f"{operation}: {self._current} of another task still waits")
        self._check(operation)
        self._current = operation

    def vacate(self, channel: Channel) -> None:
        """Have the writes that wait go on, over `channel`."""
        self.channel = channel
        self._pass_on()

    async def _yield_at_times(self) -> None:
        if self._turns.credit <= 0:
            await self._turns.give()

    def set_limits(self, standing: Standing, moving: Moving | None, now: float) -> None:
        """The limits of the connection are others now: writes that wait obey (law 7)."""
        self.standing = standing
        self.moving = moving
        if self._current is None:
            return  # and so nobody queues behind it
        for outgoing in (self._current, *(self._queue or ())):
            if isinstance(outgoing, Outgoing):
                outgoing.bound_by(moving, now, begun=True)
            outgoing.stand(standing)
            self.channel.rearm(outgoing)

    async def _take_turn(self, outgoing: Outgoing) -> None:
        """Wait until the writes before are through; whoever is cut here has sent nothing."""
        if self._current is None:
            self._current = outgoing
            return
        queue = self._queue = self._queue or deque()
        queue.append(outgoing)
        try:
            waited = False
            while self._current is not outgoing:
                now = self.channel.loop.time()
                expired = outgoing.deadline <= now and outgoing.due(now)
                if not expired:
                    await self.channel.park(outgoing)
                    self._turns.renew()
                elif waited:
                    await give_turn()  # a scope that fired in the same tick answers (law 15)
                else:
                    raise outgoing.exceeded(now, "it was still waiting for an earlier write")
                waited = not expired
                if self.channel.closed:
                    raise outgoing.closed()
        except BaseException:
            if self._current is outgoing:
                self._pass_on()
            else:
                queue.remove(outgoing)
            raise

    def _pass_on(self) -> None:
        self._current = self._queue.popleft() if self._queue else None
        if self._current is not None:
            self._current.wake()

    async def _send(self, outgoing: Outgoing) -> None:
        self._check(outgoing)
        await self._until_taken(outgoing)

    async def _until_taken(self, outgoing: Outgoing) -> None:
        """Offer, wait, offer again, until all is taken. The turn is this write's."""
        channel = self.channel
        likely = not outgoing.full
        waited = False
        while outgoing.done < outgoing.total:
            now = channel.loop.time()
            expired = outgoing.deadline <= now and outgoing.due(now)
            if likely or expired:
                likely = False
                self._offer(outgoing, LAST_LOOK_BYTES if expired else BYTES_PER_TURN)
            if outgoing.done < outgoing.total and outgoing.error is None:
                if not expired:
                    await channel.wait_writable(outgoing)
                    self._turns.renew()
                elif waited:
                    await give_turn()  # a scope that fired in the same tick answers (law 15)
                elif outgoing.due(now):  # unless what has just gone renews the limit
                    raise outgoing.exceeded(now, outgoing.progress(), done=outgoing.done)
                waited = not expired
            if outgoing.done == outgoing.total:
                return
            if channel.closed:
                taken = f"; the kernel took {outgoing.done} of {outgoing.total} bytes"
                raise outgoing.closed(taken, done=outgoing.done)
            if outgoing.error is not None:
                raise self._lost(outgoing, outgoing.error)

    def _offer(self, outgoing: Outgoing, most: int) -> None:
        """Attempt until all is taken, the kernel is full, or enough of either went (law 35)."""
        before = outgoing.done
        for _ in range(OPERATIONS_PER_TURN):
            if outgoing.attempt() or outgoing.full or outgoing.done - before >= most:
                break
        self._turns.charge(outgoing.done - before)

    def _check(self, outgoing: Operation) -> None:
        """Refuse what can't be written any more, before any I/O."""
        if get_running_loop() is not self.channel.loop:
            raise RuntimeError(f"{outgoing.name}: the stream belongs to another event loop")
        if self.channel.closed:
            raise outgoing.closed()
        if self.ended and not isinstance(outgoing, _Ending):
            what = f"{outgoing}: write_eof has closed this direction"
            raise StreamClosed(what, peer=outgoing.peer)
        if self._receiver.failure is not None:
            raise self._lost(outgoing, self._receiver.failure)
        if self._torn is not None:
            raise ConnectionLost(f"{outgoing}: the stream is out of step, {self._torn}")

    def _lost(self, outgoing: Operation, error: OSError) -> ConnectionLost | TLSError:
        what, done = str(outgoing), 0
        if isinstance(outgoing, Outgoing):
            what, done = f"{what} ({outgoing.progress()})", outgoing.done
        return connection_lost(error, what, done=done, peer=outgoing.peer)
