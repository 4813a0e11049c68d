"""Runs programs of scopes (`scope_programs`) on a virtual clock, and tells the model of it."""

import asyncio
import heapq
import logging
import random
import sys
import types
from collections import Counter
from collections.abc import Coroutine, Generator
from typing import Any, Self

import anyio
from scope_model import ANYIO, OUTSIDE, Ledger
from scope_programs import A_TICK_LATER, Program
from scope_statements import World, run_block
from scope_waits import BodyError
from virtual import TASK_FACTORIES

import netio
from netio import _holding, _shields
from netio.testing import Deadlock, VirtualLoop

# anyio's scopes keep the loop busy while a block that they have cut waits. Time passes anyway.
BUSY_TICKS_MAX = 20
BUSY_TIMES_MAX = 3  # of programs without anyio
TICKS_MAX = 5000

LEAVE_PENDING = _shields._leave_pending.__code__
FOR_A_SCOPE = (_holding.cancel.__code__, _holding.Hold.cut.__code__)


class Violation(AssertionError):
    """A law was broken."""


# The loop and the task. ---------------------------------------------------------------------------


class ProgramLoop(VirtualLoop):
    """One loop for many programs, which use no descriptors: it asks the system for nothing."""

    def __init__(self) -> None:
        super().__init__()
        self._selector.select = self._select  # type: ignore[method-assign]
        self.set_exception_handler(lambda loop, context: self.complaints.append(str(context)))
        self.restart(0)

    def restart(self, order: int) -> None:
        self._set_time(0.0)
        self._draw = random.Random(order) if order else None
        self._busy = self.ticks = 0
        self.busy_times = 0  # so often time has passed though something was ready to run
        self.complaints: list[str] = []

    def call_at(self, when: float, *args: Any, **options: Any) -> asyncio.TimerHandle:
        """Timers due at one moment run in the order that was drawn when they were set."""
        timer = super().call_at(when, *args, **options)
        timer.rank = (when, self._draw.random() if self._draw else 0.0, *timer.rank[1:])
        heapq.heapify(self._scheduled)
        return timer

    def _select(self, timeout: float | None = None) -> list[Any]:
        self.ticks += 1
        if self.ticks > TICKS_MAX:
            raise Deadlock("the program runs in circles")
        self._busy = self._busy + 1 if timeout == 0 else 0
        if timeout != 0 or self._busy > BUSY_TICKS_MAX:
            self.busy_times += timeout == 0
            self._busy = 0
            if not self.jump() and timeout != 0:
                raise Deadlock("no timer is set")
        return []


class Watched:
    """A task that tells its ledger who cancels it, and who takes that back."""

    def __init__(self, program: Coroutine[Any, Any, None], world: "World", **options: Any) -> None:
        self.world = world  # before an eager task runs
        super().__init__(program, loop=world.loop, **options)  # type: ignore[call-arg]

    def cancel(self, msg: Any | None = None) -> bool:
        accepted: bool = super().cancel(msg)  # type: ignore[misc]
        if sys._getframe(1).f_code is LEAVE_PENDING:
            self.world.ledger.pending = True  # what was let out: no other cancel
        elif accepted:
            by, running = caller(sys._getframe(1)), asyncio.current_task() is self
            self.world.ledger.cancelled(by, self.world.loop.time(), running)
        return accepted

    def uncancel(self) -> int:
        if sys._getframe(1).f_code is not LEAVE_PENDING:
            self.world.ledger.taken_back(caller(sys._getframe(1)))
        return int(super().uncancel())  # type: ignore[misc]


class CTask(Watched, asyncio.Task[None]):
    pass


class PythonTask(Watched, asyncio.tasks._PyTask):  # type: ignore[misc,name-defined]
    pass


def caller(frame: types.FrameType) -> Any:
    """Known by its frame: the timeouts and groups of asyncio cancel without a message."""
    while frame.f_code in FOR_A_SCOPE:
        assert frame.f_back is not None
        frame = frame.f_back
    by = frame.f_locals.get("self")
    if isinstance(by, anyio.CancelScope):
        return ANYIO
    return by if isinstance(by, netio.Scope | asyncio.Timeout | asyncio.TaskGroup) else OUTSIDE


@types.coroutine
def watch(ledger: Ledger, program: Coroutine[Any, Any, None]) -> Generator[Any, None, None]:
    """Steps through a coroutine as its task does, and tells the ledger each time it is resumed."""
    error: BaseException | None = None
    while True:
        ledger.resumed(isinstance(error, asyncio.CancelledError))
        try:
            waits_for = program.send(None) if error is None else program.throw(error)
        except StopIteration:
            return
        try:
            yield waits_for
            error = None
        except BaseException as thrown:
            error = thrown


# Running one. -------------------------------------------------------------------------------------


class Reports(logging.Handler):
    """Of which scopes it was said that their block goes on (law 21)."""

    told: list[str]

    def emit(self, record: logging.LogRecord) -> None:
        assert isinstance(record.args, tuple)
        self.told.append(str(record.args[0]))


class Machine:
    """Runs one program after the other on one loop, and a new one after a fault."""

    def __init__(self) -> None:
        self.seen: Counter[str] = Counter()
        self.loop = ProgramLoop()
        self._reports = Reports()

    def __enter__(self) -> Self:
        logger = logging.getLogger("netio")
        logger.addHandler(self._reports)
        logger.propagate = False
        return self

    def __exit__(self, *_: object) -> None:
        logger = logging.getLogger("netio")
        logger.removeHandler(self._reports)
        logger.propagate = True
        self.loop.close()

    def run(self, program: Program) -> list[str]:
        """What was broken: nothing, if all is well."""
        loop = self.loop
        loop.restart(program.order)
        loop.set_task_factory(TASK_FACTORIES.get(program.tasks))
        self._reports.told = world_reports = []
        world = World(loop, self.seen, world_reports)
        try:
            loop.run_until_complete(run_in_task(world, program))
        except (Exception, asyncio.CancelledError) as error:
            world.broken.append(f"it failed: {error!r}")
        broken = world.broken + world.ledger.faults + loop.complaints
        if broken:
            loop.close()
            self.loop = ProgramLoop()
        return broken


async def run_in_task(world: World, program: Program) -> None:
    set_cancels(world, program.cancels)
    task = new_task(world, program)
    await asyncio.wait([task])
    for timer in world.timers:
        timer.cancel()
    await world.end_children()
    if world.loop.busy_times > BUSY_TIMES_MAX and not world.ledger.of(ANYIO):
        world.broken.append("law 20: the loop was kept busy, and not by anyio")
    if world.loop.timers():
        world.broken.append(f"timers are left: {world.loop.timers()}")
    if task.cancelled():
        if not world.ledger.asked:
            world.broken.append("the task was cancelled though nobody asked for it")
    elif (error := task.exception()) is not None and not expected_error(error):
        raise error
    if _holding.holds:
        world.broken.append("law 22: something is held back after the end")
        _holding.holds.clear()
    await asyncio.sleep(0)


def expected_error(error: BaseException) -> bool:
    kinds = BodyError | TimeoutError | netio.StillRunning | asyncio.CancelledError
    return isinstance(error, kinds | BaseExceptionGroup)


def set_cancels(world: World, cancels: tuple[tuple[int, int], ...]) -> None:
    for when, place in cancels:
        if place == A_TICK_LATER:
            world.later(when, world.cancel_a_tick_later)
        else:
            world.later(when, world.cancel_from_outside)
        world.timers[-1].rank = (when, place, len(world.timers))  # type: ignore[attr-defined]
    heapq.heapify(world.loop._scheduled)


def new_task(world: World, program: Program) -> "asyncio.Task[None]":
    main = run_whole(world, program)
    if program.tasks == "python":
        return PythonTask(main, world)
    if program.tasks == "eager" and "eager" in TASK_FACTORIES:
        return CTask(main, world, eager_start=True)
    return CTask(main, world)


async def run_whole(world: World, program: Program) -> None:
    task = asyncio.current_task()
    assert task is not None
    world.task = task
    await watch(world.ledger, run_block(world, program.block))


def run_program(program: Program) -> None:
    """Raises `Violation` if the program breaks a law."""
    with Machine() as machine:
        broken = machine.run(program)
    if broken:
        raise Violation("\n".join([*broken, repr(program)]))
