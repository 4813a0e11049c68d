"""Waiting for tasks to end, without ever cancelling one, whatever happens to the one who waits."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any, Final, TypeGuard, TypeVar, cast

from netio._defaults import DEFAULT
from netio._errors import task_name
from netio._holding import Hold, current_hold
from netio._limits import DEFAULT_TIMEOUTS, check_timeout
from netio._operation import Operation
from netio._readiness import Readiness
from netio._turns import turns_of
from netio._waiting import describe

if TYPE_CHECKING:
    from collections.abc import Collection

    from netio._errors import Address
    from netio._limits import Timeout

T = TypeVar("T")

#: The limit of a wait for a task where the caller names none: that of a read, for the same reason.
#: The one who works, as the one who sends, may never come to an end.
DEFAULT_WAIT_SECONDS: Final = DEFAULT_TIMEOUTS.read


class TaskWait(Operation):
    """The wait of one party for tasks, as errors, observers and snapshots see it."""

    __slots__ = ()

    def __init__(
        self, name: str, task: asyncio.Future[Any] | None = None, *, peer: Address = None
    ) -> None:
        super().__init__(name, peer=peer)
        # Counted from here also where there is no limit to `start`, as for the work of a shield.
        self.started = asyncio.get_running_loop().time()
        if task is not None:
            self.name_after(task)

    def name_after(self, task: asyncio.Future[Any]) -> None:
        """It waits for this one task."""
        self.size = repr(task_name(task))

    def __str__(self) -> str:
        return self.text  # a peer has nothing to do with it


async def join(task: asyncio.Future[T], *, timeout: Timeout = DEFAULT) -> T:
    """Wait until `task` has ended, and never cancel it, whatever happens here.

    For work that others share, or that must go on. A bare ``await task`` is not like that: where
    it is cancelled, by a scope around it for instance, Python cancels the task.

    `timeout` is seconds for this wait, a `Deadline`, a `Budget`, or None for no limit; left out it
    is 60 seconds, as for a read: who waits for work is in no better place than who waits for a
    peer. Zero or less takes the result if it is there. `task` may be any future of the loop.

    Returns: the result of the task, at once if it is there.

    Raises:
        DeadlineExceeded: the limit was reached. The task runs on, and can be joined again.
        Exception: what the task has raised, as ``await`` would.
        CancelledError: also if it is the task that was cancelled, as ``await`` would:
            ``task.cancelled()`` tells. (A cancel of the caller leaves it unended.)
        TypeError: `task` is a coroutine, or anything else that is no future; or for `timeout`.
        RuntimeError: `task` is the caller itself, or belongs to another event loop.

    Cancellation: ends the wait; the task runs on. If both come in one turn of the loop, the
    cancellation is raised, and the result is still in the task.
    """
    check_timeout(timeout)
    loop = asyncio.get_running_loop()
    check_future("join", task)
    if task.done():
        await turns_of(loop).pay()
        return task.result()
    operation = TaskWait("join", task)
    operation.start(loop.time(), timeout, DEFAULT_WAIT_SECONDS, "call")
    try:
        await wait_within(operation, (task,))
    except asyncio.CancelledError as error:
        operation.mark(error)
        raise
    finally:
        operation.stop_clocks(loop.time())
    if task.done():
        return task.result()
    raise operation.exceeded(loop.time(), f"the work goes on: {where(task)}")


async def wait_within(operation: Operation, tasks: Collection[asyncio.Future[Any]]) -> None:
    """Wait until all `tasks` have ended, or the limit of `operation` is reached.

    If it is, the loop turns once more: the task may have been about to end; a scope of the same
    turn answers in place of the limit (law 15); and who asks with a limit of zero, again and again,
    leaves turns to others (law 35).
    """
    await until_ended(operation, tasks)
    if not all(task.done() for task in tasks):
        await operation.let_scopes_answer(asyncio.get_running_loop())


async def until_ended(operation: Operation, tasks: Collection[asyncio.Future[Any]]) -> None:
    """Wait until all `tasks` have ended, or the deadline of `operation` is reached."""
    loop = asyncio.get_running_loop()
    running = {task for task in tasks if not task.done()}
    if not running or operation.deadline <= loop.time():
        return

    def ended(task: asyncio.Future[Any]) -> None:
        running.discard(task)
        if not running:
            operation.wake()

    readiness = Readiness(loop)
    for task in running:
        task.add_done_callback(ended, context=turns_of(loop).context)
    try:
        while running and operation.deadline > loop.time():
            await readiness.park(operation)
    finally:
        for task in running:
            task.remove_done_callback(ended)
        readiness.release()
    turns_of(loop).renew()


async def wait_ended(
    tasks: Collection[asyncio.Future[Any]],
    seconds: float | None,
    operation: Operation,
    *,
    patient: bool = True,
    after: asyncio.CancelledError | None = None,
) -> asyncio.CancelledError | None:
    """Wait until all `tasks` have ended, `seconds` at most, also when cancelled meanwhile.

    Cancels nothing. A cancellation of the caller is held back and returned, to be raised when the
    caller has finished its cleanup; `Task.cancelling()` counts it all the same (law 25). None is
    returned where a shield around the caller has taken it.

    It ends the wait of a caller who is not `patient`, and is returned as well. `after` is the one
    that has ended the wait before: an anyio scope repeats its cancel on each turn of the loop, and
    must not end this one with the same cancel.
    """
    operation.start(asyncio.get_running_loop().time(), seconds, None, "call")
    hold: Hold | None = None
    if patient:
        hold = Hold()
    elif after is not None and current_hold() is None:
        hold = Hold(most=0)  # which keeps nothing out but anyio's scopes
    try:
        with hold or contextlib.nullcontext():
            await until_ended(operation, tasks)
    except asyncio.CancelledError as cancelled:
        return cancelled
    held = hold.pass_out() if hold is not None else None
    return None if held is None else asyncio.CancelledError(*held)


def where(task: asyncio.Future[Any]) -> str:
    """What `task` is called, and what it waits for, for a person."""
    return describe(task) if is_task(task) else repr(task)


def is_task(thing: object) -> TypeGuard[asyncio.Task[Any]]:
    """Whether `thing` is a task, of whatever class: a factory may make others than asyncio's."""
    return asyncio.isfuture(thing) and hasattr(thing, "uncancel")


def check_future(name: str, task: object, *, only_tasks: bool = False) -> None:
    """Refuse what is no future (or no task) of the running loop, and a wait for oneself."""
    if not (is_task(task) if only_tasks else asyncio.isfuture(task)):
        hint = ""
        if asyncio.iscoroutine(task):
            hint = "; asyncio.create_task() makes a task of a coroutine"
        elif only_tasks and isinstance(task, list | tuple | set | frozenset):
            hint = f"; write {name}(*tasks)"
        word = "a task" if only_tasks else "a task or another asyncio.Future"
        raise TypeError(f"{name}: task must be {word}, not {type(task).__name__}{hint}")
    future = cast("asyncio.Future[Any]", task)
    if future is asyncio.current_task():
        raise RuntimeError(f"{name}: a task can't wait for its own end")
    if future.get_loop() is not asyncio.get_running_loop():
        raise RuntimeError(f"{name}: {task_name(future)!r} belongs to another event loop")
