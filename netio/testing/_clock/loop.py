"""The virtual clock: an event loop on which time passes only when there is nothing else to do.

Time stands still while anything can run, and jumps to the next timer when nothing can. So a day of
timeouts takes milliseconds, and a timer set for 0.3 runs at 0.3 exactly. ``docs/testing.md`` is the
guide; this is how each turn of the loop is decided, once the system has said that no descriptor is
ready and no callback is left:

    work under way that the loop has given away?    wait for it, in real time, for `patience`
      (an executor's job, a lookup, a program, `hold`)
    a timer that would do something?                jump to it
    a descriptor, a signal or a thread of others?   wait for it, in real time, for a second
    nothing of it                                   Deadlock

It stands on a few inner names of asyncio: the loop's `_ready`, `_scheduled`, `_clock_resolution`,
`_process_events`, `_signal_handlers` and `_check_...`. They were the same in each version from 3.7
on. What a handle of the loop is about to do, `_clock/handles.py` knows.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import heapq
import math
import os
import random
import selectors
import threading
from typing import TYPE_CHECKING, Any, Final, TypeVar, TypeVarTuple, Unpack

from netio._arguments import check_count
from netio._limits import check_seconds
from netio._resolve import resolver_of
from netio.testing._clock.handles import acts_at, wakes_somebody
from netio.testing._clock.order import mix, shuffle_equals, shuffle_tasks
from netio.testing._clock.waiting import Deadlock, TooManySteps, describe_tasks
from netio.testing.faults import finite

if TYPE_CHECKING:
    from collections import deque
    from collections.abc import Callable, Coroutine, Iterator
    from concurrent.futures import Executor
    from contextvars import Context

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

#: Turns of the loop in one run. A day of one timeout a second takes about a quarter of them, and
#: a task that goes round without waiting uses them up in a few seconds.
MAX_STEPS: Final = 1_000_000

#: Real seconds for what the loop has given to others, such as a job in a thread: a busy machine
#: may take its time, and a test runner has its own limit on top.
PATIENCE_SECONDS: Final = 10.0

#: Real seconds for what may come from others, when nothing that the loop knows of is left.
STRANGER_SECONDS: Final = 1.0


class _Timer(asyncio.TimerHandle):
    """Timers that are due at one moment run in the order in which they were set."""

    rank: tuple[float, ...] = (0.0,)

    def __lt__(self, other: object) -> bool:
        return isinstance(other, _Timer) and self.rank < other.rank


class _Selector(selectors.DefaultSelector):
    """Asks the system what is ready, and the loop what to do if nothing is."""

    loop: VirtualLoop

    def select(self, timeout: float | None = None) -> list[Any]:
        return self.loop._turn(super().select, idle=timeout != 0)


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop whose clock stands still while anything can run, and else jumps.

    An ordinary loop in all else, with real descriptors, threads and signals. `run` is the easy way
    to use one; where an event loop factory is asked for, give this class, or `new_event_loop`.

    The clock starts at 0.0 and jumps to the next timer when nothing is ready to run and no
    descriptor is ready at that moment. It does not jump while a job is in an executor
    (``asyncio.to_thread`` too), a name is looked up, a program that was started on this loop runs,
    or the program holds the clock (`hold`).
    """

    # Of asyncio, which does not tell of them.
    _ready: deque[asyncio.Handle]
    _scheduled: list[_Timer]
    _selector: _Selector
    _signal_handlers: dict[int, object]
    _check_closed: Callable[[], None]
    _check_thread: Callable[[], None]
    _check_callback: Callable[[object, str], None]

    def __init__(
        self,
        *,
        seed: int | None = None,
        timers_first: bool = False,
        max_steps: int | None = MAX_STEPS,
        patience: float = PATIENCE_SECONDS,
    ) -> None:
        """A loop that was not run yet, at 0.0.

        seed: draw the order of what asyncio leaves open: which of the tasks that are ready runs
            first, which of the timers that are due at one moment, which of the descriptors that
            are ready, and how the latter two mix. The same seed draws the same. None: the order
            of asyncio. Callbacks given to ``call_soon`` keep their place, as asyncio promises.
        timers_first: what a turn brings from timers comes before what it brings from descriptors,
            as on uvloop.
        max_steps: turns of the loop that one run may take before it ends with `TooManySteps`;
            None: no bound.
        patience: seconds of real time for what the loop has given to others, before it ends with
            `Deadlock`.
        """
        self._now = 0.0
        self._timers_set = 0
        self._steps = 0
        self._stands_at = 0.0  # since the step of this number
        self._stands_since = 0
        self._holds: dict[object, str] = {}
        self._jobs: dict[asyncio.Future[Any], str] = {}
        self._programs: list[asyncio.SubprocessTransport] = []
        selector = _Selector()
        selector.loop = self
        super().__init__(selector)
        self._set_time(0.0)  # with a grain of its own, which is finer than that of the real clock
        self._own = set(selector.get_map())  # by which threads and signals wake the loop
        try:
            if seed is not None:
                check_count(seed, "seed")
            self._random = None if seed is None else random.Random(seed)
            self._timers_first = timers_first
            if max_steps is not None:
                check_count(max_steps, "max_steps", at_least=1)
            self._max_steps = max_steps
            self._patience = finite(patience, "patience")
        except (TypeError, ValueError):
            self.close()
            raise

    # The clock.

    def time(self) -> float:
        """Seconds since the loop was made; it changes between two turns of the loop only."""
        return self._now

    def advance(self, seconds: float) -> None:
        """Let `seconds` pass now, within a turn, as code that blocks the loop does."""
        if not 0 <= check_seconds(seconds, "seconds") < math.inf:
            raise ValueError(f"seconds must be finite and not negative, not {seconds}")
        self._set_time(self._now + seconds)

    def timers(self) -> list[float]:
        """When each timer that is set and not cancelled is due, in order, as a `time()`.

        Among them those that would wake nobody: the timer of a stream stays set when an operation
        has ended.
        """
        return sorted(timer.when() for timer in self._scheduled if not timer.cancelled())

    @contextlib.contextmanager
    def hold(self, reason: str) -> Iterator[None]:
        """Keep the clock from jumping in a ``with`` block: it waits for the real world instead.

        For what the loop can't know of, such as a thread of your own, or another process at the
        other end of a socket. `reason` names it in the `Deadlock` that ends a wait in which nothing
        comes for `patience` seconds of real time.
        """
        if not isinstance(reason, str):
            raise TypeError(f"reason must be a str, not {type(reason).__name__}")
        key = object()
        self._holds[key] = reason
        try:
            yield
        finally:
            del self._holds[key]

    def jump(self) -> bool:
        """Go to the next timer that does something; False, and no time has passed: there is none.

        One that would do nothing rings on the way, at its time, while nobody can see the clock.
        """
        before = self._now
        while self._scheduled:
            timer = self._scheduled[0]
            if timer.when() == math.inf:
                break
            if not timer.cancelled():
                self._set_time(max(self._now, timer.when()))
                if acts_at(timer) <= self._now:
                    return True
            heapq.heappop(self._scheduled)
            timer._scheduled = False  # type: ignore[attr-defined]
            if not timer.cancelled():
                timer._run()
        self._set_time(before)
        return False

    def _set_time(self, now: float) -> None:
        self._now = now
        self._clock_resolution = math.ulp(now)  # asyncio runs timers that are early by less

    # One turn.

    def run_forever(self) -> None:
        """As every event loop does; the turns that `max_steps` bounds are counted from here."""
        self._steps = self._stands_since = 0
        super().run_forever()

    def _turn(self, select: Callable[[float], list[Any]], *, idle: bool) -> list[Any]:
        """What is ready. If nothing is, and the loop is idle: the choice that the file tells of."""
        self._steps += 1
        if self._now != self._stands_at:
            self._stands_at, self._stands_since = self._now, self._steps
        if self._max_steps is not None and self._steps > self._max_steps:
            raise TooManySteps(self._too_many(), describe_tasks(self))
        events = select(0)
        if events or not idle:
            return events
        if away := self._given_away():
            events = select(self._patience)
            if not events:
                what = f"the clock was held for {self._patience:g} s of real time by "
                raise Deadlock(what + ", ".join(away), describe_tasks(self))
        elif not self.jump():
            strangers = self._strangers()
            events = select(min(self._patience, STRANGER_SECONDS)) if strangers else []
            if not events:
                raise Deadlock(self._nothing_left(strangers), describe_tasks(self))
        return events

    def _too_many(self) -> str:
        stood = self._max_steps - self._stands_since  # type: ignore[operator]
        clock = f"the clock stands at {self._now:g} s"
        if stood > 1000:
            clock += f", for the last {stood:,} of them"
        return f"{self._max_steps:,} turns of the loop were not enough (max_steps): {clock}"

    def _nothing_left(self, strangers: list[str]) -> str:
        text = f"nothing can run at {self._now:g} s, and no timer is set that would wake anybody"
        if strangers:
            text += "; nothing came from " + ", ".join(strangers)
        return text

    # What may still come without a timer.

    def _given_away(self) -> list[str]:
        """Work that is under way elsewhere, and will wake the loop when it is done."""
        self._jobs = {job: name for job, name in self._jobs.items() if not job.done()}
        self._programs = [p for p in self._programs if p.get_returncode() is None]
        resolver = resolver_of(self)
        lookups = resolver.running - resolver.abandoned
        return [
            *self._holds.values(),
            *(f"{name} in an executor" for name in self._jobs.values()),
            *(f"the program with process id {p.get_pid()}" for p in self._programs),
            *([f"{lookups} lookup(s) of names"] if lookups else []),
        ]

    def _strangers(self) -> list[str]:
        """What may wake the loop, though nobody knows whether it will."""
        found = [
            f"{_name_of(key.fd)}, watched for {way}"
            for key in self._selector.get_map().values()
            if key.fd not in self._own
            for way, handle in zip(("reading", "writing"), key.data, strict=True)
            if handle is not None and wakes_somebody(handle)
        ]
        if self._signal_handlers:
            found.append("a signal")
        if threading.active_count() > 1:
            found.append("another thread")
        return found

    def run_in_executor(
        self, executor: Executor | None, func: Callable[[Unpack[Ts]], T], *args: *Ts
    ) -> asyncio.Future[T]:
        """As every event loop does; the clock does not jump before the job is done."""
        job = super().run_in_executor(executor, func, *args)
        self._jobs[job] = _name_of_job(func)
        return job

    async def subprocess_exec(self, *args: Any, **kwargs: Any) -> Any:
        """As every event loop does; the clock does not jump before the program has ended."""
        return self._started(await super().subprocess_exec(*args, **kwargs))

    async def subprocess_shell(self, *args: Any, **kwargs: Any) -> Any:
        """As every event loop does; the clock does not jump before the program has ended."""
        return self._started(await super().subprocess_shell(*args, **kwargs))

    def _started(self, program: Any) -> Any:
        self._programs.append(program[0])
        return program

    async def shutdown_default_executor(self, timeout: float | None = None) -> None:
        """As every event loop does, without a timer, which would ring before the threads end."""
        with self.hold("the threads of the default executor"):
            await super().shutdown_default_executor()

    # The order within a turn.

    def call_at(
        self,
        when: float,
        callback: Callable[[Unpack[Ts]], object],
        *args: *Ts,
        context: Context | None = None,
    ) -> asyncio.TimerHandle:
        """As every event loop does; timers due at one moment run in the order they were set."""
        self._check_closed()
        when = check_seconds(when, "when")  # a float, which the time is going to be
        if self.get_debug():
            self._check_thread()
            self._check_callback(callback, "call_at")
        timer = _Timer(when, callback, args, self, context)
        self._timers_set += 1
        timer.rank = (when, self._timers_set)
        timer._scheduled = True  # type: ignore[attr-defined]
        heapq.heappush(self._scheduled, timer)
        return timer

    def _process_events(self, event_list: list[Any]) -> None:
        """Called by the loop between asking the system and running what is ready."""
        if self._random is None and not self._timers_first:
            super()._process_events(event_list)  # type: ignore[misc]
            return
        # Taken out by their number and put back in front: a thread may append at any moment.
        before = self._take(len(self._ready))
        super()._process_events(event_list)  # type: ignore[misc]
        mixed = self._take(len(self._ready))
        watchers = {id(watcher) for key, _ in event_list for watcher in key.data}
        events = [handle for handle in mixed if id(handle) in watchers]
        before += [handle for handle in mixed if id(handle) not in watchers]
        due = self._take_due()
        if self._random is not None:
            shuffle_tasks(before, self._random)
            self._random.shuffle(events)
            shuffle_equals(due, self._random)
        if self._timers_first or self._random is None:
            found = due + events
        else:
            found = mix(events, due, self._random)
        self._ready.extendleft(reversed(before + found))

    def _take(self, count: int) -> list[asyncio.Handle]:
        return [self._ready.popleft() for _ in range(count)]

    def _take_due(self) -> list[_Timer]:
        due = []
        while self._scheduled and self._scheduled[0].when() <= self._now:
            timer = heapq.heappop(self._scheduled)
            timer._scheduled = False  # type: ignore[attr-defined]
            due.append(timer)
        return due


# Names. -------------------------------------------------------------------------------------------


def _name_of_job(func: Callable[..., object]) -> str:
    if isinstance(func, functools.partial):  # of `asyncio.to_thread`: Context.run(func, ...)
        func = func.args[0] if func.args and callable(func.args[0]) else func.func
    return getattr(func, "__qualname__", None) or repr(func)


def _name_of(descriptor: int) -> str:
    try:
        return f"descriptor {descriptor} ({os.readlink(f'/proc/self/fd/{descriptor}')})"
    except OSError:
        return f"descriptor {descriptor}"


# Running. ----------------------------------------------------------------------------------------


def new_event_loop() -> VirtualLoop:
    """A loop on a clock of its own, at 0.0; close it when you are done.

    For where a factory of loops is asked for: ``asyncio.Runner(loop_factory=new_event_loop)``, or
    the ``pytest_asyncio_loop_factories`` hook of pytest-asyncio.
    """
    return VirtualLoop()


def run(
    main: Coroutine[Any, Any, T],
    *,
    seed: int | None = None,
    timers_first: bool = False,
    debug: bool | None = None,
    max_steps: int | None = MAX_STEPS,
    patience: float = PATIENCE_SECONDS,
) -> T:
    """Run `main` to its end on a virtual clock of its own, as ``asyncio.run`` does on a real one.

        netio.testing.run(main())

    seed: draw the order of what asyncio leaves open (see `VirtualLoop`); None: asyncio's order.
    timers_first: timers before descriptors, within a turn, as on uvloop.
    debug: asyncio's debug mode; None: as the interpreter was started.
    max_steps: turns of the loop before `TooManySteps` is raised; None: no bound.
    patience: seconds of real time for threads, lookups and programs, before `Deadlock` is raised.

    Returns: what `main` returns.

    Raises: what `main` raises; `Deadlock` when nothing can run any more and no timer is set that
        would wake anybody; `TooManySteps`; RuntimeError when a loop runs in this thread already.
        In each case the tasks that are left have been cancelled, and the loop is closed.
    """
    if _a_loop_runs():
        if asyncio.iscoroutine(main):
            main.close()
        raise RuntimeError(
            "netio.testing.run() makes a loop with a clock of its own, and this thread runs a loop "
            "already: there would be two clocks. Call it from code that is not async"
        )

    def new_loop() -> VirtualLoop:
        return VirtualLoop(
            seed=seed, timers_first=timers_first, max_steps=max_steps, patience=patience
        )

    return run_on(new_loop, main, debug=debug)


def run_on(
    new_loop: Callable[[], VirtualLoop], main: Coroutine[Any, Any, T], *, debug: bool | None = None
) -> T:
    """As `run`, on the loop that `new_loop` makes."""
    first: Exception | None = None
    runner = asyncio.Runner(debug=debug, loop_factory=new_loop)
    try:
        runner.get_loop()  # which is made now
    except BaseException:
        if asyncio.iscoroutine(main):
            main.close()
        raise
    try:
        with runner:
            try:
                return runner.run(main)
            except (Deadlock, TooManySteps) as error:
                first = error
                raise
    except (Deadlock, TooManySteps) as error:
        if first is None or error is first:
            raise
        first.add_note(f"the cleanup of the tasks that were cancelled then did not end: {error}")
        raise first from None


def _a_loop_runs() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True
