"""Shields: cleanup that must finish, within a bound.

A shield is a scope with two more effects, for as long as its block runs:

- the scopes around it don't fire; those that are due fire at the first suspension after it;
- the cancels of its task don't reach the waits of netio's operations. What came is remembered, and
  raised once when the block is left; `Task.cancelling()` counts it all the time (law 22).
"""

from __future__ import annotations

import asyncio
import inspect
import math
from typing import TYPE_CHECKING, Any, Self

from netio._cancels import has_pending_cancel, is_destroyed, met_cancels, only_cancellation
from netio._holding import Hold
from netio._scopes import Scope, enclosing_scopes, point_of

if TYPE_CHECKING:
    from types import TracebackType

    from netio._limits import Deadline


class Shield(Scope):
    """The scope that `shield` makes: see there."""

    _limit = "shield"
    _is_shield = True

    __slots__ = ("_around", "_hold_of_cancels")

    def __init__(self, limit: float | Deadline, name: str | None = None) -> None:
        _check_bound(limit, "limit")
        super().__init__(limit, None, name)
        self._around: list[Scope] = []
        self._hold_of_cancels = Hold(answers_scopes=True)

    def reschedule(self, when: float | Deadline | None) -> None:
        """Move the bound to the point `when` (`loop.time()`, seconds). There always is one.

        Raises:
            TypeError: `when` is not a number or a `Deadline`.
            ValueError: `when` is None, infinity or NaN.
            RuntimeError: the shield has not been entered, has fired, was cancelled or left.

        Nothing is changed then.
        """
        _check_bound(when, "when")
        super().reschedule(when)

    async def __aenter__(self) -> Self:
        await super().__aenter__()
        task = self._task
        self._around = [s for s in enclosing_scopes() if s._task is task and s is not self]
        for scope in self._around:
            scope._hold()
        self._hold_of_cancels.__enter__()
        self._hold_of_cancels.base = self._entry_count
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool | None:
        task, hold = self._task, self._hold_of_cancels
        for scope in self._around:
            scope._release()
        self._around = []
        hold.__exit__(exc_type, exc, traceback)
        if task is not None:
            hold.settle(task, has_pending_cancel(task))
        # Before the shield answers for its bound: what a shield around it has taken is not raised
        # here, and stands in the way of nothing.
        held = hold.pass_out()
        try:
            caught = await super().__aexit__(exc_type, exc, traceback)
        except BaseException as error:
            self._let_out(task, held, error)
            raise
        self._let_out(task, held, exc)
        return caught

    def _let_out(
        self,
        task: asyncio.Task[object] | None,
        held: tuple[Any, ...] | None,
        error: BaseException | None,
    ) -> None:
        """Raise what was `held` back, or leave it pending where the block ends with an `error`."""
        if held is None or task is None or _is_over(task):
            return
        # A limit within the block that had asked for it may have taken it back. What is counted for
        # a cancel that waits for the next suspension is met there.
        if met_cancels(task) - has_pending_cancel(task) <= self._entry_count:
            return
        if error is None:
            raise asyncio.CancelledError(*held)
        if not only_cancellation(error):
            _leave_pending(task, held)


def shield(limit: float | Deadline, *, name: str | None = None) -> Scope:
    """A scope for cleanup that must finish, within `limit` seconds: ``async with shield(2):``.

    In its block nothing cuts netio's own waits but the bound itself, their own limits and those of
    the connection, and the scopes that are opened inside: the scopes around fire when it is over,
    and a cancel from outside that comes meanwhile is remembered, and raised once when the block is
    left. So a program can say goodbye to a peer though it was told to stop:

        try:
            await serve(stream)
        finally:
            async with netio.shield(2):
                await stream.write(GOODBYE)

    `limit` is seconds from entering the block, or a `Deadline`. A shield always has a bound: there
    is no value for "none". Zero or less takes what needs no waiting. `name` is what errors call it.

    What is awaited beside netio's operations, `asyncio.sleep` or a task for instance, is cut by a
    cancel from outside as ever; run it with `shielded`. An `asyncio.timeout` inside the block can't
    cut netio's waits either, so use `timeout`, nor can an `asyncio.TaskGroup` of which a child has
    failed; anyio's scopes inside can. Those of anyio that stand around are kept out altogether: a
    cancelled one would keep the loop busy for as long.

    A shield inside another one holds back the bound of that, too, for as long as its own allows.

    Returns: the `Scope`, to be used once with ``async with``. In its block `current_deadline` and
    `remaining` see the bound, and nothing of the scopes around.

    Raises:
        TypeError: `limit` is not a number or a `Deadline`.
        ValueError: `limit` is None, infinity or NaN.

    Leaving the block raises `DeadlineExceeded` with the limit ``"shield"`` if the bound cut it.

    Cancellation: as said above. One that was held back is raised as ``CancelledError`` when the
    block ends well; if it ends with an error, that error goes on, and the cancel is met by the
    next suspension. `Task.cancelling()` counts it in both cases.
    """
    return Shield(limit, name)


def _is_over(task: asyncio.Task[object]) -> bool:
    """Whether `task` meets no cancel any more: it has ended, was forgotten, or outlived its loop.

    Who leaves the block may be another one, a mistake by which no cancel is lost.
    """
    return task.done() or task.get_loop().is_closed() or is_destroyed(task)


def _leave_pending(task: asyncio.Task[object], message: tuple[Any, ...]) -> None:
    """Have the next suspension of `task` raise a cancel that is counted already."""
    task.cancel(*message)
    task.uncancel()


def _check_bound(limit: Any, name: str) -> None:
    if inspect.isawaitable(limit):
        kind = type(limit).__name__
        raise TypeError(
            f"{name} must be a number of seconds, not {kind}; a shield is put around a block, and "
            "what runs a coroutine is shielded(coroutine, limit)"
        )
    if limit is None or point_of(limit, name) == math.inf:
        raise ValueError(f"{name} must be finite: a shield always has a bound")
