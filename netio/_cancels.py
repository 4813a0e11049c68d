"""What asyncio tells of the cancels of a task, which a scope must know to tell its own from others.

Some of it is told by attributes that have no public name. Tasks in C, in Python and eager ones all
have them; where one can't be read, each function says what it answers instead.
"""

from __future__ import annotations

import asyncio
from asyncio import current_task

from netio._holding import held_cancels, innermost_hold


def met_cancels(task: asyncio.Task[object]) -> int:
    """The cancels of `task`, without those that a shield around this code holds back."""
    hold = innermost_hold(task)
    if hold is not None:
        hold.settle(task)
    return task.cancelling() - held_cancels(task)


def delivered_cancels(task: asyncio.Task[object]) -> int:
    """The cancels of `task` that its code is sure to have met, by the rule of law 16.

    `_must_cancel` is set while a cancel waits for the next suspension; it does not say how many
    wait: then none is sure to have been met. Where it can't be read, a pending cancel counts as
    met: the scope may then answer in place of it, as `asyncio.timeout` does.
    """
    # Read first: Ctrl-C may come between the two, and cancel.
    count = met_cancels(task)
    return 0 if has_pending_cancel(task) else count


def has_pending_cancel(task: asyncio.Task[object]) -> bool:
    """Whether a cancel of `task` waits for its next suspension; False where it can't be read."""
    return getattr(task, "_must_cancel", False)


def is_about_to_get_a_result(task: asyncio.Task[object]) -> bool:
    """Whether what `task` waits for has come, so that a cancel would throw it away."""
    future = getattr(task, "_fut_waiter", None)
    return future is not None and future.done() and not future.cancelled()


def is_about_to_be_cancelled(task: asyncio.Task[object]) -> bool:
    """Whether a cancel of `task` was asked for and is not delivered yet."""
    future = getattr(task, "_fut_waiter", None)
    return has_pending_cancel(task) or (future is not None and future.cancelled())


def is_destroyed(task: asyncio.Task[object]) -> bool:
    """Whether the coroutine of `task` is being closed: it runs, and the task does not."""
    if task.done():  # and so without a coroutine; Python 3.12.1 crashes when asked for that
        return False
    running = getattr(task.get_coro(), "cr_running", False)
    return running and current_task(task.get_loop()) is not task


def only_cancellation(exc: BaseException) -> bool:
    """Whether `exc` is a cancellation, or a group that holds nothing else (law 18)."""
    if isinstance(exc, BaseExceptionGroup):
        return all(only_cancellation(one) for one in exc.exceptions)
    return isinstance(exc, asyncio.CancelledError)
