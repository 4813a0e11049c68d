"""A loop whose clock jumps to the next timer when nothing is ready: time is free, and exact.

    @virtual
    async def test_a_thing() -> None: ...

The clock starts at 0.0 and stands still while code runs: a timer set for 0.3 fires at 0.3, exactly.
Timers due at one moment run in one tick, in the order they were set. Descriptors are real: the
clock only jumps when none is ready at that moment, so what a test sends must be there at once (a
socketpair, not a network).
"""

import asyncio
import functools
import heapq
import math
import random
import selectors
import sys
from collections.abc import Callable, Coroutine
from contextvars import Context
from typing import Any, TypeVar

T = TypeVar("T")

# A thread (a name lookup) may yet wake a loop that has no timer; after this, nothing will.
DEADLOCK_S = 1.0


class Deadlock(Exception):
    """The program waits, and no timer and no descriptor is going to wake it."""


class _Timer(asyncio.TimerHandle):
    rank: tuple[float, float, int] = (0.0, 0.0, 0)

    def __lt__(self, other: object) -> bool:
        return isinstance(other, _Timer) and self.rank < other.rank


class _Selector(selectors.DefaultSelector):  # type: ignore[valid-type,misc]
    loop: "VirtualLoop"

    def select(self, timeout: float | None = None) -> list[Any]:
        events = super().select(0)
        if events or timeout == 0 or self.loop.jump():
            return events
        events = super().select(DEADLOCK_S)
        if not events:
            raise Deadlock("nothing is ready, and no timer is set")
        return events


class VirtualLoop(asyncio.SelectorEventLoop):
    """With `shuffle`, timers due at one moment run in random order. With `timers_first`, what a
    tick brings from timers comes before what it brings from descriptors, as it does on uvloop."""

    def __init__(self, *, shuffle: random.Random | None = None, timers_first: bool = False) -> None:
        self._now = 0.0
        self._timers_set = 0
        self._shuffle = shuffle
        self._timers_first = timers_first
        selector = _Selector()
        selector.loop = self
        super().__init__(selector)

    def time(self) -> float:
        return self._now

    def advance(self, seconds: float) -> None:
        """Let time pass within a tick, as code that blocks the loop does."""
        self._set_time(self._now + seconds)

    def jump(self) -> bool:
        """To the next timer; False when there is none."""
        when = self._scheduled[0].when() if self._scheduled else math.inf
        if when == math.inf:
            return False
        self._set_time(max(self._now, when))
        return True

    def _set_time(self, now: float) -> None:
        self._now = now
        self._clock_resolution = math.ulp(now)  # asyncio runs timers that are early by less

    def timers(self) -> list[float]:
        """When each timer that is set and not cancelled is due."""
        return sorted(timer.when() for timer in self._scheduled if not timer.cancelled())

    def call_at(
        self,
        when: float,
        callback: Callable[..., object],
        *args: Any,
        context: Context | None = None,
    ) -> asyncio.TimerHandle:
        self._check_closed()
        timer = _Timer(when, callback, args, self, context)
        self._timers_set += 1
        timer.rank = (when, self._shuffle.random() if self._shuffle else 0.0, self._timers_set)
        timer._scheduled = True
        heapq.heappush(self._scheduled, timer)
        return timer

    async def shutdown_default_executor(self, timeout: float | None = None) -> None:
        await super().shutdown_default_executor()  # a timer would ring before the threads end

    def _process_events(self, event_list: list[Any]) -> None:
        if self._timers_first:
            while self._scheduled and self._scheduled[0].when() <= self._now:
                timer = heapq.heappop(self._scheduled)
                timer._scheduled = False
                self._ready.append(timer)
        super()._process_events(event_list)


def run_virtual(
    main: Coroutine[Any, Any, T],
    *,
    debug: bool = False,
    task_factory: Any = None,
    shuffle: random.Random | None = None,
    timers_first: bool = False,
) -> T:
    """Run `main` to its end on a loop of its own, as `asyncio.run` does."""

    def new_loop() -> VirtualLoop:
        loop = VirtualLoop(shuffle=shuffle, timers_first=timers_first)
        loop.set_task_factory(task_factory)
        return loop

    with asyncio.Runner(loop_factory=new_loop, debug=debug) as runner:
        return runner.run(main)


def virtual(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """Make a test of a coroutine function: it runs on a `VirtualLoop`, whatever ``--loop`` says."""

    @functools.wraps(test)
    def run(*args: Any, **kwargs: Any) -> None:
        run_virtual(test(*args, **kwargs))

    return run


def virtual_loop() -> VirtualLoop:
    """The running loop, in a test that is marked `virtual`."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualLoop)
    return loop


def python_task_factory(
    loop: asyncio.AbstractEventLoop, coro: Coroutine[Any, Any, T], **options: Any
) -> "asyncio.Task[T]":
    """Tasks as asyncio has them where its C module is missing."""
    return asyncio.tasks._PyTask(coro, loop=loop, **options)  # type: ignore[attr-defined,no-any-return]


# What else may be behind `asyncio.create_task`, for tests that should hold for all of them.
TASK_FACTORIES: dict[str, Any] = {"c": None, "python": python_task_factory}
if sys.version_info >= (3, 12):
    TASK_FACTORIES["eager"] = asyncio.eager_task_factory
