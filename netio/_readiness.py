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
import select
from contextvars import Context
from typing import TYPE_CHECKING, Final
from weakref import ref

from netio._defaults import TIMER_STEP_SECONDS
from netio._holding import HeldFuture, current_hold, holds
from netio._observing import ObservedFuture, observed
from netio._turns import turns_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from netio._observing import Wait


# What a waiter waits for.
NOTHING: Final = 0  # it has no place among those who wait
READABLE: Final = 1
WRITABLE: Final = 2
WAKING: Final = 3  # by somebody else, who calls `Waiter.wake`


class Waiter:
    """One party that waits, until `deadline`, a `loop.time()`.

    The deadline may be moved at any moment; who moves it earlier calls `Readiness.rearm`.
    """

    __slots__ = ("awaits", "deadline", "future")

    def __init__(self, deadline: float = math.inf) -> None:
        self.deadline: float = deadline
        self.future: asyncio.Future[None] | None = None
        self.awaits: int = NOTHING

    def attempt(self) -> bool:
        """Called by the loop when the direction waited for is ready: is the wait over?

        A subclass makes its system call here. As it stands, being ready is all there is to it.
        """
        return True

    @property
    def waiting(self) -> bool:
        """Whether it waits now, and nothing has woken it yet."""
        return self.future is not None and not self.future.done()

    def due(self, now: float) -> bool:
        """Whether the deadline is reached. A subclass may know by now that it has become later."""
        return self.deadline <= now

    def wake(self) -> None:
        """End the wait, for whatever reason; the one who waited looks what has happened."""
        if self.future is not None and not self.future.done():
            self.future.set_result(None)

    def describe(self, wait: Wait) -> None:
        """Say to observers what this wait is for; here, nothing is known of that."""


class Readiness:
    """Who waits on one channel, in which direction and until when, with one timer for all.

    This part knows no descriptor. A channel in memory calls `readable` and `writable` itself.

    Attributes:
        ripe: it was readable when nobody waited for that, so that an attempt is likely to succeed.
        waiters: all who wait, in the order in which they came. A tuple: most channels have one
            waiter or none, and there are many channels.
    """

    __slots__ = ("_rings_at", "_timer", "closed", "loop", "ripe", "waiters")

    # What `Channel` says of channels that encrypt; there is nothing of it here.
    committed: int = 0
    truncated: bool = False
    dry: bool = False

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop: asyncio.AbstractEventLoop = loop
        self.closed: bool = False
        self.ripe: bool = False
        self.waiters: tuple[Waiter, ...] = ()
        self._timer: asyncio.TimerHandle | None = None
        self._rings_at = math.inf

    def tear(self) -> None:
        """As `Channel` says, of channels that keep nothing."""

    def park(self, waiter: Waiter, awaits: int = WAKING) -> asyncio.Future[None]:
        """To be awaited: somebody wakes `waiter`, its deadline is reached, or all is released.

        The future is done in all three cases, and now and then for no reason: who waits looks
        again. The waiter keeps its place between waits, until it leaves for good; it has one at
        one readiness at a time.
        """
        special = observed or holds
        future = self._special_future(waiter) if special else self.loop.create_future()
        waiter.future = future
        if self.closed:
            future.set_result(None)
            return future
        if waiter not in self.waiters:
            self.waiters = (*self.waiters, waiter)
        waiter.awaits = awaits
        if waiter.deadline < self._rings_at:
            self._set_timer(waiter.deadline)
        return future

    def _special_future(self, waiter: Waiter) -> asyncio.Future[None]:
        """One that somebody watches, or that a shield keeps from being cancelled."""
        if observed and not self.closed:
            future: HeldFuture = ObservedFuture(self.loop, waiter, self)
        else:
            future = HeldFuture(loop=self.loop)
        return future.held_by(current_hold())

    def wait_readable(self, waiter: Waiter) -> asyncio.Future[None]:
        """`park` until the channel is readable and the attempt of `waiter` says it is over."""
        return self.park(waiter, READABLE)

    def wait_writable(self, waiter: Waiter) -> asyncio.Future[None]:
        """`park` until the channel is writable and the attempt of `waiter` says it is over."""
        return self.park(waiter, WRITABLE)

    def leave(self, waiter: Waiter) -> None:
        """Give up the place of `waiter`, which waits no more."""
        if waiter.awaits:
            waiter.awaits = NOTHING
            self.waiters = tuple([other for other in self.waiters if other is not waiter])

    def readable(self) -> bool:
        """Attempt for everybody who waits to read; False when nobody does."""
        self.ripe = _attempt_all(self.waiters, READABLE) == _NOBODY_WAITED
        return not self.ripe

    def writable(self) -> bool:
        """Attempt for everybody who waits to write; False when nobody does."""
        return _attempt_all(self.waiters, WRITABLE) != _NOBODY_WAITED

    @property
    def awaited(self) -> bool:
        """Whether anybody waits now, for whatever."""
        return any(waiter.waiting for waiter in self.waiters)

    def nearest(self) -> float:
        """The nearest deadline of those who wait; infinity when nobody does, or none has one."""
        return min((w.deadline for w in self.waiters if w.waiting), default=math.inf)

    def rearm(self, waiter: Waiter) -> None:
        """Obey the deadline of a `waiter` that was moved (law 7)."""
        if waiter.waiting and waiter.deadline < self._rings_at:
            self._set_timer(waiter.deadline)

    def release(self) -> None:
        """Stop watching, drop the timer, and wake everybody: the channel is about to be closed."""
        self.closed = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        waiters, self.waiters = self.waiters, ()
        for waiter in waiters:
            waiter.awaits = NOTHING
            if not self.loop.is_closed():
                waiter.wake()

    def _set_timer(self, when: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._rings_at = when
        # In an empty context: that of the present caller would be kept for as long as the channel.
        self._timer = self.loop.call_at(when, self._ring, context=turns_of(self.loop).context)

    def _ring(self) -> None:
        """Wake who is due, by the loop's own clock (uvloop's timers are early at times)."""
        now = self.loop.time()
        early = now < self._rings_at
        self._timer = None
        self._rings_at = math.inf
        for waiter in self.waiters:
            if waiter.waiting and waiter.due(now):
                waiter.wake()
        nearest = self.nearest()
        if nearest < math.inf:
            # One that rang before its time might do so over and over.
            self._set_timer(max(nearest, now + TIMER_STEP_SECONDS) if early else nearest)


# What `_attempt_all` says.
_NOBODY_WAITED: Final = 0
_NOBODY_WAITS: Final = 1  # any more
_SOMEBODY_WAITS: Final = 2


def _attempt_all(waiters: tuple[Waiter, ...], awaited: int) -> int:
    """Attempt for everybody who waits for what is `awaited`."""
    outcome = _NOBODY_WAITED
    for waiter in waiters:
        future = waiter.future
        if waiter.awaits != awaited or future is None or future.done():
            continue
        try:
            if not waiter.attempt():
                outcome = _SOMEBODY_WAITS
                continue
            future.set_result(None)
        except Exception as error:
            # A fault of an attempt belongs to the one who waits for it, not to the loop, which
            # would log it and call again on the next tick, for ever.
            future.set_exception(error)
        outcome = outcome or _NOBODY_WAITS
    return outcome


class DescriptorReadiness(Readiness):
    """The readiness of one descriptor, told by the loop's poller.

    The descriptor is netio's alone. One that is closed while it is registered makes the stock
    loop spin and uvloop abort, so `release` comes before the close, always.
    """

    __slots__ = ("_descriptor", "_has_failed", "_reader", "_watches_readable", "_watches_writable")

    def __init__(self, loop: asyncio.AbstractEventLoop, descriptor: int) -> None:
        super().__init__(loop)
        self._descriptor = descriptor
        self._watches_readable = False
        self._watches_writable = False
        # uvloop drops both watchers of a descriptor on which the kernel reports an error (a reset),
        # after calling each once more and without a word, though bytes may be left before the
        # error. So for who waits on after a call the descriptor is asked whether it has an error;
        # and as uvloop lets go of what it has called, the next wait sees that its reader is gone.
        self._has_failed = _error_check(loop, descriptor)
        self._reader: ref[Callable[[], None]] | None = None

    def wait_readable(self, waiter: Waiter) -> asyncio.Future[None]:
        reader = self._reader
        if not self._watches_readable or (reader is not None and reader() is None):
            self._watch_readable()
        if (
            waiter.awaits == READABLE
            and waiter.deadline >= self._rings_at
            and not observed
            and not holds
        ):
            waiter.future = future = self.loop.create_future()  # all that `park` would do
            return future
        return self.park(waiter, READABLE)

    def wait_writable(self, waiter: Waiter) -> asyncio.Future[None]:
        if not self._watches_writable:
            self._watch_writable()
        return self.park(waiter, WRITABLE)

    def watch_writable(self, stand_in: Waiter, waiter: Waiter) -> None:
        """Once this is writable, the wait of `waiter`, which waits elsewhere, is over.

        So one task waits for several descriptors, by one future. `stand_in` waits here in its
        place, which it keeps, and without a limit.
        """
        if not self._watches_writable:
            self._watch_writable()
        stand_in.future = waiter.future
        stand_in.awaits = WRITABLE
        if stand_in not in self.waiters:
            self.waiters = (*self.waiters, stand_in)

    def _watch_readable(self) -> None:
        if self.closed:
            return
        callback = self._on_readable
        try:
            self._add(self.loop.add_reader, callback)
        except NotImplementedError:
            raise _no_poller(self.loop) from None
        except RuntimeError:  # uvloop keeps the dropped watcher until it is removed
            self.loop.remove_reader(self._descriptor)
            self._add(self.loop.add_reader, callback)
        self._watches_readable = True
        if self._has_failed is not None:
            self._reader = ref(callback)

    def _watch_writable(self) -> None:
        if self.closed:
            return
        try:
            self._add(self.loop.add_writer, self._on_writable)
        except NotImplementedError:
            raise _no_poller(self.loop) from None
        except RuntimeError:
            self.loop.remove_writer(self._descriptor)
            self._add(self.loop.add_writer, self._on_writable)
        self._watches_writable = True

    def _add(self, add: Callable[..., object], callback: Callable[[], None]) -> None:
        """Watch in an empty context: that of the present caller would be kept for long."""
        Context().run(add, self._descriptor, callback)

    def _watch_again(self) -> None:
        if self._watches_readable:
            self._watch_readable()
        if self._watches_writable:
            self._watch_writable()

    def _on_readable(self) -> None:
        outcome = _attempt_all(self.waiters, READABLE)
        if outcome == _NOBODY_WAITED:
            self.ripe = True
            self._stop_reading()
        elif outcome == _SOMEBODY_WAITS:
            self._look_for_failure()

    def _on_writable(self) -> None:
        # A socket is nearly always writable: a writer that nobody waits for fires on every tick.
        if _attempt_all(self.waiters, WRITABLE) == _SOMEBODY_WAITS:
            self._look_for_failure()
        else:
            self._stop_writing()

    def _look_for_failure(self) -> None:
        """Set the watchers again that uvloop is about to drop, for those who wait on."""
        if self._has_failed is not None and self._has_failed(0):
            self.loop.call_soon(self._watch_again)

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


def _error_check(
    loop: asyncio.AbstractEventLoop, descriptor: int
) -> Callable[[int], list[tuple[int, int]]] | None:
    """What says whether the kernel has an error for `descriptor`; None: the loop does not mind."""
    if isinstance(loop, asyncio.SelectorEventLoop) or not hasattr(select, "poll"):
        return None
    poll = select.poll()
    poll.register(descriptor, 0)  # an error is reported also to those who ask for nothing
    return poll.poll


def _no_poller(loop: asyncio.AbstractEventLoop) -> RuntimeError:
    return RuntimeError(
        f"{type(loop).__name__} cannot watch descriptors (it has no add_reader); netio needs a "
        "selector loop: asyncio.SelectorEventLoop, or uvloop or winloop"
    )
