"""Holding back the cancels of a task, for as long as it waits in operations of netio.

A task that is cancelled hands the cancel to the future that it waits for. While a `Hold` stands,
the futures of netio's own waits don't take it: they note it and stay as they are, so that the wait
goes on without the task being woken once. Whoever made the hold raises the cancel when it ends.
The count of `Task.cancelling()` is nobody's business here: it goes up as ever.

What is awaited beside that, `asyncio.sleep` for instance, is cancelled as ever.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
from typing import TYPE_CHECKING, Any, Final, Self

if TYPE_CHECKING:
    from types import TracebackType

#: The innermost hold of each task that stands in one, by the `id` of the task: as a key, a task
#: would be kept for ever if its loop is dropped. A plain dict, since each wait looks at it.
holds: Final[dict[int, Hold]] = {}


class Hold:
    """Notes the cancels of the running task instead of letting them into its waits.

    Attributes:
        cancelled: the message of the first cancel that was held back, in a tuple; None: there was
            none.
        answers_scopes: whether the scopes that fire in this task stand inside, and may cut it.
    """

    __slots__ = (
        "_anyio",
        "_cut_by_scope",
        "_cutting",
        "_left",
        "_outer",
        "_task",
        "answers_scopes",
        "cancelled",
    )

    def __init__(self, *, most: int | None = None, answers_scopes: bool = False) -> None:
        """`most`: so many cancels are held back, and the next one cuts; None: there is no end."""
        self.cancelled: tuple[Any, ...] | None = None
        self.answers_scopes = answers_scopes
        self._left = most
        self._cutting = False
        self._cut_by_scope = False
        self._task: asyncio.Task[Any] | None = None
        self._outer: Hold | None = None
        self._anyio: contextlib.AbstractContextManager[object] | None = None

    def __enter__(self) -> Self:
        task = self._task = asyncio.current_task()
        self._outer = holds.get(id(task))
        holds[id(task)] = self
        self._anyio = _shield_of_anyio()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None = None,
        exc: BaseException | None = None,
        traceback: TracebackType | None = None,
    ) -> None:
        if self._task is None:
            return
        if self._anyio is not None:
            with contextlib.suppress(RuntimeError):  # left in another task
                self._anyio.__exit__(exc_type, exc, traceback)
        if self._outer is None:
            holds.pop(id(self._task), None)
        else:
            holds[id(self._task)] = self._outer
        self._task = None

    def take(self, message: Any) -> bool:
        """A wait of the task is cancelled: True if that is held back."""
        if self._left == 0 or (self._cutting and self.answers_scopes):
            return False
        self._cut_by_scope = self._cut_by_scope or self._cutting
        if self._left is not None:
            self._left -= 1
        if self.cancelled is None:
            self.cancelled = () if message is None else (message,)
        return True

    def cut(self, task: asyncio.Task[Any], message: str) -> None:
        """Cancel `task` for a scope of its own, through the hold if that answers scopes."""
        self._cutting = True
        try:
            task.cancel(message)
        finally:
            self._cutting = False

    def pass_out(self) -> tuple[Any, ...] | None:
        """What was held back, for the one who ends the hold to raise; an outer hold takes it."""
        cancelled, outer = self.cancelled, self._outer
        if cancelled is None or outer is None:
            return cancelled
        if self._cut_by_scope and outer.answers_scopes:
            return cancelled  # the scope stands within the shield, which would never tell it
        if not outer.take(*(cancelled or (None,))):
            return cancelled
        outer._cut_by_scope = outer._cut_by_scope or self._cut_by_scope
        return None


class HeldFuture(asyncio.Future[None]):
    """The future of a wait, which no cancel reaches if it was made under a hold."""

    _hold: Hold | None = None

    def held_by(self, hold: Hold | None) -> Self:
        """Have the cancels of this wait go to `hold`."""
        self._hold = hold
        return self

    def cancel(self, msg: Any = None) -> bool:
        hold = self._hold
        # Also when it is done: the task would remember the cancel, and meet it as it is resumed.
        return (hold is not None and hold.take(msg)) or super().cancel(msg)


def current_hold() -> Hold | None:
    """The innermost hold that the running task stands in."""
    return holds.get(id(asyncio.current_task())) if holds else None


def cancel(task: asyncio.Task[Any], message: str) -> None:
    """Cancel `task` for a scope of its own, also where it stands in a shield inside of that."""
    hold = holds.get(id(task)) if holds else None
    if hold is not None:
        hold.cut(task, message)
    else:
        task.cancel(message)


async def give_turn() -> None:
    """Let the loop turn once. Held back is a cancel that comes meanwhile, as in any other wait."""
    hold = current_hold()
    if hold is None:
        await asyncio.sleep(0)
        return
    loop = asyncio.get_running_loop()
    turned = HeldFuture(loop=loop).held_by(hold)
    loop.call_soon(_wake, turned)
    await turned


def _wake(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


def _shield_of_anyio() -> contextlib.AbstractContextManager[object] | None:
    """A shielded scope of anyio, entered, where a program uses that.

    An anyio scope that was cancelled cancels its tasks again on each turn of the loop, for as long
    as they stand in it: while a hold lasts, the loop would do nothing else.
    """
    anyio = sys.modules.get("anyio")
    if anyio is None:
        return None
    try:
        shield: contextlib.AbstractContextManager[object] = anyio.CancelScope(shield=True)
        shield.__enter__()
    except Exception:  # a module of that name that is no anyio, or one that is still imported
        return None
    return shield
