"""The primitive: wait until a descriptor is ready, or a limit is reached.

Everything netio does on the network is one loop: try the system call; if it would block, wait
here; try again. Nothing else in netio touches the loop's readers and writers, its timers (the
scopes' aside) or futures. ``docs/design/primitive.md`` draws the orders of events.

What it costs, and must keep costing:

- a wait makes one future and no timer, once the timer of its channel runs;
- the timer is only ever moved earlier. When it rings too early for those who wait by then, it is
  set again for the nearest of their deadlines. An operation that ends cancels nothing;
- the loop's reader stays registered between waits. It is removed when it fires and nobody waits
  (netio reads only when asked: that is the back-pressure), and put back by the next wait.

A future carries a wake-up and never payload: bytes are in an object that netio owns before
anybody is woken, so no order of cancel, timer and data can lose one (law 10).
"""

from __future__ import annotations

import asyncio
import math

from netio._defaults import TIMER_STEP_SECONDS


class Waiter:
    """One party that waits, until `deadline`, a `loop.time()`.

    The deadline may be moved at any moment; who moves it earlier calls `Readiness.rearm`.
    """

    __slots__ = ("deadline", "future")

    def __init__(self, deadline: float = math.inf) -> None:
        self.deadline = deadline
        self.future: asyncio.Future[None] | None = None

    def attempt(self) -> bool:
        """Called by the loop when the direction waited for is ready: is the wait over?

        A subclass makes its system call here. As it stands, being ready is all there is to it.
        """
        return True

    def wake(self) -> None:
        """End the wait, for whatever reason; the one who waited looks what has happened."""
        if self.future is not None and not self.future.done():
            self.future.set_result(None)


class Readiness:
    """Who waits on one channel, in which direction and until when, with one timer for all.

    This part knows no descriptor. A channel in memory calls `readable` and `writable` itself.
    """

    __slots__ = ("_rings_at", "_timer", "closed", "loop", "parked", "readers", "writers")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.closed = False
        self.readers: list[Waiter] = []
        self.writers: list[Waiter] = []
        self.parked: list[Waiter] = []
        self._timer: asyncio.TimerHandle | None = None
        self._rings_at = math.inf

    @property
    def watching(self) -> bool:
        """Whether the next readable moment will be noticed without asking for it again."""
        return False

    async def park(self, waiter: Waiter, line: list[Waiter] | None = None) -> None:
        """Wait until somebody wakes `waiter`, its deadline is reached, or `release` is called.

        Returns in all three cases, and now and then for no reason: who waits looks again.
        """
        line = self.parked if line is None else line
        waiter.future = future = self.loop.create_future()
        line.append(waiter)
        if waiter.deadline < self._rings_at:
            self._set_timer(waiter.deadline)
        try:
            await future
        finally:
            line.remove(waiter)
            waiter.future = None

    async def wait_readable(self, waiter: Waiter) -> None:
        """`park` until the channel is readable and the attempt of `waiter` says it is over."""
        await self.park(waiter, self.readers)

    async def wait_writable(self, waiter: Waiter) -> None:
        """`park` until the channel is writable and the attempt of `waiter` says it is over."""
        await self.park(waiter, self.writers)

    def readable(self) -> bool:
        """Attempt for everybody who waits to read; False when nobody does."""
        return _attempt_all(self.readers)

    def writable(self) -> bool:
        """Attempt for everybody who waits to write; False when nobody does."""
        return _attempt_all(self.writers)

    def rearm(self, waiter: Waiter) -> None:
        """Obey the deadline of a `waiter` that was moved (law 7)."""
        if waiter.future is not None and waiter.deadline < self._rings_at:
            self._set_timer(waiter.deadline)

    def release(self) -> None:
        """Stop watching, drop the timer, and wake everybody: the channel is about to be closed."""
        self.closed = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        for waiter in (*self.readers, *self.writers, *self.parked):
            waiter.wake()

    def _set_timer(self, when: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._rings_at = when
        self._timer = self.loop.call_at(when, self._ring)

    def _ring(self) -> None:
        """Wake who is due, by the loop's own clock (uvloop's timers are early at times)."""
        self._timer = None
        self._rings_at = math.inf
        now = self.loop.time()
        nearest = math.inf
        for waiter in (*self.readers, *self.writers, *self.parked):
            if waiter.deadline <= now:
                waiter.wake()
            else:
                nearest = min(nearest, waiter.deadline)
        if nearest < math.inf:
            self._set_timer(max(nearest, now + TIMER_STEP_SECONDS))


def _attempt_all(waiters: list[Waiter]) -> bool:
    waiting = False
    for waiter in waiters:
        future = waiter.future
        if future is None or future.done():
            continue
        try:
            over = waiter.attempt()
        except Exception as error:
            # A fault of an attempt belongs to the one who waits for it, not to the loop, which
            # would log it and call again on the next tick, for ever.
            future.set_exception(error)
            continue
        if over:
            future.set_result(None)
        else:
            waiting = True
    return waiting


class DescriptorReadiness(Readiness):
    """The readiness of one descriptor, told by the loop's poller.

    The descriptor is netio's alone. One that is closed while it is registered makes the stock
    loop spin and uvloop abort, so `release` comes before the close, always.
    """

    __slots__ = ("_descriptor", "_watches_readable", "_watches_writable")

    def __init__(self, loop: asyncio.AbstractEventLoop, descriptor: int) -> None:
        super().__init__(loop)
        self._descriptor = descriptor
        self._watches_readable = False
        self._watches_writable = False

    @property
    def watching(self) -> bool:
        return self._watches_readable

    async def wait_readable(self, waiter: Waiter) -> None:
        if not self._watches_readable:
            try:
                self.loop.add_reader(self._descriptor, self._on_readable)
            except NotImplementedError:
                raise _no_poller(self.loop) from None
            self._watches_readable = True
        await self.park(waiter, self.readers)

    async def wait_writable(self, waiter: Waiter) -> None:
        if not self._watches_writable:
            try:
                self.loop.add_writer(self._descriptor, self._on_writable)
            except NotImplementedError:
                raise _no_poller(self.loop) from None
            self._watches_writable = True
        await self.park(waiter, self.writers)

    def _on_readable(self) -> None:
        if self.readers:
            _attempt_all(self.readers)
        else:
            self._stop_reading()

    def _on_writable(self) -> None:
        # A socket is nearly always writable: keeping the writer would fire on every tick.
        if not _attempt_all(self.writers):
            self._stop_writing()

    def _stop_reading(self) -> None:
        if self._watches_readable:
            self._watches_readable = False
            self.loop.remove_reader(self._descriptor)

    def _stop_writing(self) -> None:
        if self._watches_writable:
            self._watches_writable = False
            self.loop.remove_writer(self._descriptor)

    def release(self) -> None:
        if not self.loop.is_closed():
            self._stop_reading()
            self._stop_writing()
        super().release()


def _no_poller(loop: asyncio.AbstractEventLoop) -> RuntimeError:
    return RuntimeError(
        f"{type(loop).__name__} cannot watch descriptors (it has no add_reader); netio needs a "
        "selector loop: asyncio.SelectorEventLoop, or uvloop or winloop"
    )
