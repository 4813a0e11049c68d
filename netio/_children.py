"""Work in tasks of its own: cancelled, and then waited for until it has really ended.

`asyncio` cancels and goes on. What the work does from then on, its result and its error, are lost
in one way or another; ``docs/design/children.md`` shows how, and tells the rule that holds here:

    what is raised first      of a cancel of the caller, work that does not end, and an error that
                              the work raises on its way out, in this order; what comes after in
                              it is the ``__cause__`` of what comes before
    a result that comes late  is returned; beside a cancel of the caller it is `late_result`
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import itertools
from typing import TYPE_CHECKING, Any, Final, TypeVar

from netio._cancels import only_cancellation
from netio._defaults import GRACE_SECONDS, TIMER_STEP_SECONDS
from netio._errors import StillRunning, format_seconds
from netio._limits import MARKS, Deadline, check_seconds, check_timeout
from netio._shields import Shield
from netio._tasks import (
    DEFAULT_WAIT_SECONDS,
    TaskWait,
    check_future,
    until_ended,
    wait_ended,
    wait_within,
    where,
)
from netio._turns import turns_of

if TYPE_CHECKING:
    from collections.abc import Awaitable, Iterator, Sequence

    from netio._limits import Timeout

T = TypeVar("T")

#: Tasks that don't end of which an error tells where they are; of more it tells the number.
MAX_TOLD: Final = 8

#: The attribute of a ``CancelledError`` with the result of work that came in spite of it.
LATE_RESULT: Final = "late_result"


async def cancel_and_wait(*tasks: asyncio.Task[Any], grace: float | None = GRACE_SECONDS) -> None:
    """Cancel `tasks`, and wait until all of them have ended, also when cancelled meanwhile.

    Each is cancelled once, so that its cleanup can await; those that have ended are left as they
    are. `grace` is the number of seconds they have for ending, all together; None: they are waited
    for without limit, left out: 10 seconds.

    What a task returns although it was cancelled stays in it: ``task.result()``.

    Raises:
        Exception: what a task has raised on its way out, as it is; an ``ExceptionGroup``, if
            several have. (Of a task that had ended before the call nothing is raised.)
        StillRunning: tasks did not end within `grace`; they run on. What others have raised is
            its ``__cause__``.
        TypeError: something is no task, or for `grace`. Nothing was cancelled.
        ValueError: `grace` is negative or NaN. Nothing was cancelled.
        RuntimeError: the caller is among the tasks, or one belongs to another event loop. Nothing
            was cancelled.

    Cancellation: is held back until all have ended or the grace is over, however often it comes.
    Then ``CancelledError`` is raised; what would have been raised otherwise is its ``__cause__``.
    """
    loop = asyncio.get_running_loop()
    _check_grace(grace)
    for task in tasks:
        check_future("cancel_and_wait", task, only_tasks=True)
    running = [task for task in dict.fromkeys(tasks) if not task.done()]
    if not running:
        await turns_of(loop).pay()
        return
    operation = TaskWait("cancel_and_wait", running[0] if len(running) == 1 else None)
    cancelled = await _end(operation, running, grace)
    failure = _one_of([_error_in(_raised_by(task)) for task in running])
    _raise_first(cancelled, _still_running(operation, running, grace), failure)


async def wait_for(
    awaitable: Awaitable[T], timeout: Timeout, *, grace: float | None = GRACE_SECONDS
) -> T:
    """Await work within a limit; at the limit, cancel it, and wait until it has really ended.

    A coroutine runs in a task of its own; a task or a future is taken as it is, and cancelled at
    the limit as well (`join` does not). `timeout` is seconds, a `Deadline`, a `Budget`, or None
    for no limit. With zero or less the work has one turn of the loop: what is done by then is
    returned. Inside the work, `current_deadline` and `remaining` don't see it: it may be a
    task that began without; where work asks them, put a `timeout` around what it does.

    `grace` is the number of seconds that the work has for ending once it was cancelled; None: it
    is waited for without limit, left out: 10 seconds. It is cancelled once.

    Returns: the result of the work, also one that comes although the work was cancelled.

    Raises:
        DeadlineExceeded: the limit was reached, and the work has ended since.
        Exception: what the work has raised, also when it was cancelled; a note on it says so.
        StillRunning: the work did not end within `grace`; it runs on.
        CancelledError: also if it is the work that somebody else has cancelled.
        TypeError, ValueError: for what can't be awaited, and a wrong `timeout` or `grace`.
        RuntimeError: the task is the caller itself, or belongs to another event loop.

    Cancellation: the work is cancelled and waited for, as above; more cancels change nothing. Then
    ``CancelledError`` is raised. What the work has raised, or `StillRunning`, is its ``__cause__``;
    a result that came is its attribute ``late_result``.
    """
    loop = asyncio.get_running_loop()
    operation = TaskWait("wait_for")
    with _closing_if_refused(awaitable):
        check_timeout(timeout)
        _check_grace(grace)
        operation.start(loop.time(), timeout, DEFAULT_WAIT_SECONDS, "call")
    cancelled: asyncio.CancelledError | None = None
    try:
        with _closing_if_refused(awaitable):
            work = _start("wait_for", awaitable)
        operation.name_after(work)
        if work.done():
            await turns_of(loop).pay()
        else:
            await wait_within(operation, (work,))
    except asyncio.CancelledError as error:
        cancelled = error
    except GeneratorExit:
        _abandon(work, awaitable)
        raise
    finally:
        operation.stop_clocks(loop.time())
    if work.done() and cancelled is None:
        return work.result()
    cut_at = loop.time()
    # As a wait of its own, since `operation` has yet to tell of its limit; and in a variable, since
    # there a snapshot finds it, as the one that waits.
    ending = TaskWait("wait_for", work)
    held = await _end(ending, [work], grace)
    raised = _raised_by(work)
    late = _error_in(raised)
    cancelled = cancelled or held
    if cancelled is not None:
        _carry(cancelled, work, raised)
        operation.mark(cancelled)
    elif late is not None:
        note = f"{operation} had reached its limit {loop.time() - cut_at:.3f} s before"
        with contextlib.suppress(Exception):  # a frozen dataclass takes no notes
            late.add_note(note)
    by_itself = late if cancelled is not None or late is raised else None
    _raise_first(cancelled, _still_running(operation, [work], grace), by_itself)
    if raised is not None:
        ended = f"the work was cancelled, and has ended {loop.time() - cut_at:.3f} s after that"
        raise operation.exceeded(loop.time(), ended) from raised
    return work.result()


async def shielded(
    coroutine: Awaitable[T],
    limit: float | Deadline,
    *,
    name: str | None = None,
    grace: float | None = GRACE_SECONDS,
) -> T:
    """Await work that must not be cut, whatever it awaits, within `limit` seconds.

    It runs in a task of its own, and the caller waits for that in a `shield`: cancels from outside
    and the scopes around are held back until it has ended, and don't reach it. For cleanup in code
    of others; where only operations of netio are awaited, ``async with shield(...)`` does as well.

    `limit` is seconds from now, or a `Deadline`; there is no value for "none". Inside the work,
    `current_deadline` and `remaining` see it. `name` is what errors call the shield, None: nothing.
    At the limit the work is cancelled once, and has `grace` seconds for ending; None: it is waited
    for without limit, left out: 10 seconds.

    Returns: the result of the work, also one that comes although the limit has cancelled it.

    Raises:
        DeadlineExceeded: the limit ``"shield"`` was reached, and the work has ended since.
        Exception: what the work has raised, also when it was cancelled; a note on it says so.
        StillRunning: the work did not end within `grace`; it runs on.
        TypeError, ValueError: for what can't be awaited, and a wrong `limit` or `grace`.
        RuntimeError: a task that was given is the caller itself, or belongs to another event loop.

    Cancellation: is held back, and raised when the work has ended; a result that came is then the
    attribute ``late_result`` of the ``CancelledError``. If the work ends with an error, that goes
    on, and the cancel is met by the next suspension.
    """
    with _closing_if_refused(coroutine):
        _check_grace(grace)
        bound = Shield(limit, name)
    work: asyncio.Future[T] | None = None
    try:
        async with bound:
            with _closing_if_refused(coroutine):
                work = _start("shielded", coroutine)
            return await _see_through(work, coroutine, grace)
        raise AssertionError  # for the type checker: a shield is not quiet
    except asyncio.CancelledError as cancelled:
        if work is not None:
            _carry(cancelled, work, None)
        raise


async def _see_through(work: asyncio.Future[T], awaitable: object, grace: float | None) -> T:
    """Wait for `work` in a shield, and end it when that has reached its bound."""
    operation = TaskWait("shielded", work)
    cut: asyncio.CancelledError | None = None
    try:
        if work.done():
            await turns_of(work.get_loop()).pay()
        else:
            await until_ended(operation, [work])
    except asyncio.CancelledError as error:
        cut = error
    except GeneratorExit:
        _abandon(work, awaitable)
        raise
    if cut is None or work.done():
        return work.result()
    await _end(operation, [work], grace)
    _raise_first(None, _still_running(operation, [work], grace), None)
    raised = _raised_by(work)
    if raised is None or not only_cancellation(raised):
        return work.result()
    _carry(cut, work, raised)
    operation.mark(cut)
    _raise_first(cut, None, _error_in(raised))
    raise cut


# What the three share. -------------------------------------------------------------------------


async def _end(
    operation: TaskWait, running: Sequence[asyncio.Future[Any]], grace: float | None
) -> asyncio.CancelledError | None:
    """Cancel `running`, and wait for their end; the cancel of the caller that came meanwhile."""
    for task in running:
        if not task.done():
            task.cancel(f"cancelled by {operation}")
    # With a grace of zero they have just the turn or two that a cancel takes to be heard.
    seconds = None if grace is None else max(grace, TIMER_STEP_SECONDS)
    return await wait_ended(running, seconds, operation)


def _still_running(
    operation: TaskWait, tasks: Sequence[asyncio.Future[Any]], grace: float | None
) -> StillRunning | None:
    """The error for those that have not ended within the grace; None: all have."""
    deaf = [task for task in tasks if not task.done()]
    if not deaf:
        return None
    after = "" if grace is None else f" {format_seconds(grace)} after the cancel"
    who = "1 task is" if len(deaf) == 1 else f"{len(deaf)} tasks are"
    told = [where(task) for task in deaf[:MAX_TOLD]]
    if len(deaf) > MAX_TOLD:
        told.append(f"and {len(deaf) - MAX_TOLD} more")
    text = f"{operation}: {who} still running{after}; {'; '.join(told)}"
    return StillRunning(text, tasks=deaf)


def _one_of(errors: Sequence[BaseException | None]) -> BaseException | None:
    """The one error that there is, or a group of several; None: there is none.

    A task that waits for another one raises what that has raised, the same exception.
    """
    different = list({id(error): error for error in errors if error is not None}.values())
    if len(different) > 1:
        return BaseExceptionGroup("several tasks failed when they were cancelled", different)
    return different[0] if different else None


def _raise_first(*errors: BaseException | None) -> None:
    """Raise the first of `errors` that there is; each has the next one as its cause."""
    there = [error for error in errors if error is not None]
    for error, cause in itertools.pairwise(there):
        error.__cause__ = cause
    if there:
        raise there[0]


def _raised_by(work: asyncio.Future[Any]) -> BaseException | None:
    """What `work` has raised, also its cancellation; None: it has returned, or runs still.

    To be asked once: a task gives away the exception that it was cancelled with, which tells
    where that was, and afterwards makes new ones.
    """
    if not work.done():
        return None
    if not work.cancelled():
        return work.exception()
    try:
        work.result()
    except asyncio.CancelledError as cancellation:
        return cancellation
    raise AssertionError  # for the type checker


def _error_in(raised: BaseException | None) -> BaseException | None:
    """The error in what a piece of work has raised, and not its cancellation, which was asked for.

    Work that waited for work of its own ends as cancelled, with the error of that as the cause.
    """
    if raised is None or not only_cancellation(raised):
        return raised
    cause = raised.__cause__
    return None if cause is None or only_cancellation(cause) else cause


def _carry(
    cancelled: asyncio.CancelledError, work: asyncio.Future[Any], raised: BaseException | None
) -> None:
    """Put on the cancel of the caller what has come of `work`: what it cut there, or a result."""
    if raised is not None:
        found = vars(raised) if type(raised) is asyncio.CancelledError else {}
        for name in (*MARKS, LATE_RESULT):
            if name in found:
                cancelled.__dict__.setdefault(name, found[name])
    elif work.done() and not work.cancelled() and work.exception() is None:
        cancelled.__dict__[LATE_RESULT] = work.result()


def _not_awaitable(name: str, thing: object) -> TypeError:
    hint = "; call it, to have what can be awaited" if callable(thing) else ""
    return TypeError(f"{name}: awaitable can't be awaited: {thing!r}{hint}")


def _start(name: str, awaitable: Awaitable[T]) -> asyncio.Future[T]:
    """`awaitable` as a task, unless it is one, or a future."""
    loop = asyncio.get_running_loop()
    if asyncio.isfuture(awaitable):
        check_future(name, awaitable)
        return awaitable
    if not inspect.isawaitable(awaitable):
        raise _not_awaitable(name, awaitable)
    title = getattr(awaitable, "__name__", None) or type(awaitable).__name__
    coroutine = awaitable if asyncio.iscoroutine(awaitable) else _await(awaitable)
    return loop.create_task(coroutine, name=title)


async def _await(awaitable: Awaitable[T]) -> T:
    return await awaitable


def _abandon(work: asyncio.Future[Any], awaitable: object) -> None:
    """The caller is being destroyed, and can't wait; what it has started must not go on alone."""
    loop = work.get_loop()
    if work is not awaitable and not loop.is_closed():
        work.cancel()


@contextlib.contextmanager
def _closing_if_refused(awaitable: object) -> Iterator[None]:
    """A coroutine that is not going to run must not complain of that, besides."""
    try:
        yield
    except BaseException:
        if asyncio.iscoroutine(awaitable):
            with contextlib.suppress(RuntimeError, ValueError):  # it runs, in some other task
                awaitable.close()
        raise


def _check_grace(grace: float | None) -> None:
    if grace is not None and check_seconds(grace, "grace") < 0:
        raise ValueError("grace must be at least 0 seconds, or None for no limit")
