"""Schedules: what happens to an operation that waits, in which tick of the loop, in which order.

A schedule is a string. A letter is an event; those that stand together happen in one tick, in this
order. `|` begins the next tick, ahead of what the tick before has woken, and `/` begins it behind
that, when the operation has had its turn. In `//` there is a tick between in which nothing happens.
So in "d|c" a cancel comes in the tick after the data, just before the task that the data woke.

What must come of it is judged by what has happened until the operation was over (`Play.happened`),
and by nothing else: how many ticks it took is its own affair, as long as they are few.
"""

import asyncio
import itertools
import re
from collections.abc import Callable, Coroutine, Iterable, Iterator
from typing import Any, Protocol

import netio

NEXT = ("", "|", "/")  # what may stand between two events
FAR = (*NEXT, "//")
DEBUG_STEP = 7  # asyncio's debug mode takes about that many times as long: one case of so many
TICKS = 12  # more than any operation needs to be over, once something has ended its wait
WAITS = "."  # what has happened last to an operation that is not over when they have passed

Acts = dict[str, Callable[[], object]]


def orders(events: Iterable[str], size: int, legal: Callable[[str], bool]) -> Iterator[str]:
    """All orders of `size` of these events that can happen; one may be two letters, as "ab"."""
    for chosen in itertools.combinations(events, size):
        yield from filter(legal, map("".join, itertools.permutations("".join(chosen))))


def placements(order: str, between: Iterable[str] = NEXT) -> Iterator[str]:
    """Every way to spread an order over ticks."""
    for gaps in itertools.product(between, repeat=len(order) - 1):
        yield "".join(itertools.chain(*itertools.zip_longest(order, gaps, fillvalue="")))


def parse(schedule: str) -> list[tuple[str, str]]:
    """For each tick: whether it is ahead of or behind what the one before woke, and its events."""
    return re.findall(r"(^|[|/])(\w*)", schedule)


class Course:
    """Has the events of a schedule happen, each as a callback of the loop."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._ended = False

    async def run(self, schedule: str, acts: Acts, *, over: Callable[[], bool]) -> bool:
        """Until all have happened and it is `over`, which is what is returned."""
        self._ticks = parse(schedule)
        self._acts = acts
        self._failed: BaseException | None = None
        self._plan(0)
        for _ in range(len(self._ticks) + TICKS):
            await asyncio.sleep(0)
            if self._ended and over():
                break
        if self._failed is not None:
            raise self._failed
        assert self._ended
        return over()

    def _plan(self, index: int) -> None:
        """In the tick before: give each event of this one its own place among the callbacks."""
        last = index + 1 == len(self._ticks)
        next_is_ahead = not last and self._ticks[index + 1][0] == "|"
        if next_is_ahead:
            self._loop.call_soon(self._plan, index + 1)
        for event in self._ticks[index][1]:
            self._loop.call_soon(self._happen, event)
            self._arm(event)
        if last:
            self._loop.call_soon(self._end)
        elif not next_is_ahead:
            self._loop.call_soon(self._plan, index + 1)

    def _arm(self, event: str) -> None:
        """What has a place among the callbacks by itself."""

    def _happen(self, event: str) -> None:
        try:
            if event in self._acts:
                self._acts[event]()
        except BaseException as error:  # which the loop would only log
            self._failed = error

    def _end(self) -> None:
        self._ended = True


class Play(Course):
    """One operation, in a task and in a scope, and what a schedule makes happen to it.

    `s` is the expiry of the scope, `c` cancels the task; the other letters are the operation's.
    """

    def __init__(self, operation: Coroutine[Any, Any, Any]) -> None:
        super().__init__()
        self.happened = ""
        self.scope = netio.timeout(None)
        self.inner: BaseException | None = None  # what the operation itself raised
        self.count_inside = 0  # Task.cancelling() at that moment
        self.task = self._loop.create_task(self._guard(operation))

    async def _guard(self, operation: Coroutine[Any, Any, Any]) -> Any:
        async with self.scope:
            try:
                return await operation
            except BaseException as error:
                self.inner = error
                self.count_inside = self.task.cancelling()
                raise

    async def outcome(self, schedule: str, acts: Acts) -> Any:
        """Play it to the end: what the operation has returned, or the exception it has raised."""
        acts = {**acts, "c": self.task.cancel}
        if not await self.run(schedule, acts, over=self.task.done):
            self.happened += WAITS
            self.task.cancel()
            await asyncio.wait([self.task])
        return self.inner if self.task.cancelled() else self.task.exception() or self.task.result()

    def _arm(self, event: str) -> None:
        if event == "s" and not self.task.done():
            self.scope.reschedule(self._loop.time() - 1)  # its callback stands just here

    def _happen(self, event: str) -> None:
        if not self.task.done():
            self.happened += event
        super()._happen(event)


class Bench(Protocol):
    """Where the cases of one operation are played, one after the other."""

    name: str

    async def play(self, schedule: str) -> None:
        """One case, with all that must hold after it."""

    def close(self) -> None:
        """Leave nothing behind."""


async def play_all(bench: Bench, schedules: Iterable[str]) -> int:
    """Play each of them once: how many. An error says which one it was."""
    cases = dict.fromkeys(schedules)
    loop = asyncio.get_running_loop()
    logged: list[dict[str, Any]] = []
    loop.set_exception_handler(lambda loop, context: logged.append(context))
    try:
        for schedule in cases:
            try:
                await bench.play(schedule)
                assert not logged
            except BaseException as error:
                error.add_note(f"to play it alone: replay({bench.name!r}, {schedule!r})")
                raise
    finally:
        bench.close()
        loop.set_exception_handler(None)
    return len(cases)


def thinned(schedules: Iterable[str], count: int, loop_variant: str) -> list[str]:
    """All, which are `count` distinct ones, or as many as this kind of loop has time for."""
    cases = list(dict.fromkeys(schedules))
    assert len(cases) == count
    return cases[::DEBUG_STEP] if loop_variant == "debug" else cases


def play_alone(bench: Bench, schedule: str) -> None:
    """Play one case on a loop of its own, for a debugger."""
    asyncio.run(play_all(bench, [schedule]), debug=True)
