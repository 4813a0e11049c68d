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

#: The innermost hold of each task that stands in one, by the `id` of the task: what is in here must
#: not keep a task, of which the loop may have been dropped. A plain dict: each wait looks at it.
holds: Final[dict[int, Hold]] = {}

# So begin the messages with which anyio cancels for one of its scopes.
_ANYIO_CANCELS: Final = ("Cancelled via cancel scope ", "Cancelled by cancel scope ")


class Hold:
    """Notes the cancels of the running task instead of letting them into its waits.

    Attributes:
        cancelled: the message of the first cancel that was held back, in a tuple; None: there was
            none.
        count: how many are held back. A limit of another kind within may have taken some of its
            own back by now; that shows in what is counted, and is looked at when it matters.
        base: what `Task.cancelling()` counted at the beginning, and had been met.
        cuts: cancels of the scopes inside, which they have not taken back yet.
        answers_scopes: whether the scopes that fire in this task stand inside, and may cut it.
    """

    __slots__ = (
        "_anyio",
        "_key",
        "_left",
        "_of_scopes",
        "_opened",
        "_outer",
        "answers_scopes",
        "base",
        "cancelled",
        "count",
        "cuts",
    )

    def __init__(self, *, most: int | None = None, answers_scopes: bool = False) -> None:
        """`most`: so many cancels are held back, and the next one cuts; None: there is no end."""
        self.cancelled: tuple[Any, ...] | None = None
        self.count = self.base = self.cuts = 0
        self.answers_scopes = answers_scopes
        self._of_scopes = 0  # of those that are held back: asked for by scopes of this task
        self._left = most
        self._opened = False
        self._key = 0  # the `id` of the task while this stands
        self._outer: Hold | None = None
        self._anyio: contextlib.AbstractContextManager[object] | None = None

    def __enter__(self) -> Self:
        self._key = id(asyncio.current_task())
        self._outer = _standing(holds.get(self._key))
        holds[self._key] = self
        self._anyio = _shield_of_anyio()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None = None,
        exc: BaseException | None = None,
        traceback: TracebackType | None = None,
    ) -> None:
        key, self._key = self._key, 0
        if not key:
            return
        if self._anyio is not None:
            with contextlib.suppress(RuntimeError):  # left in another task
                self._anyio.__exit__(exc_type, exc, traceback)
        # A generator that yields inside may leave them out of order.
        innermost = _standing(holds.get(key))
        if innermost is None:
            holds.pop(key, None)
        else:
            holds[key] = innermost

    def take(self, message: Any, loop: asyncio.AbstractEventLoop) -> bool:
        """A wait of the task is cancelled: True if that is held back."""
        if self.cuts and id(asyncio.current_task(loop)) == self._key:
            return False  # one that was pending, and may be that of a scope inside
        if self._opened or self._left == 0 or not self._key:
            return False
        if self._anyio is not None and str(message).startswith(_ANYIO_CANCELS):
            return False  # for a scope of anyio within: those around are kept out by its shield
        self._note((message,) if message is not None else (), 1)
        return True

    def _note(self, cancelled: tuple[Any, ...], count: int) -> None:
        if self._left is not None:
            self._left = max(0, self._left - count)
        self.count += count
        if self.cancelled is None:
            self.cancelled = cancelled

    def cut(self, task: asyncio.Task[Any], message: str) -> None:
        """Cancel `task` for a scope of its own: through the hold, if that stands inside of it."""
        self.settle(task)
        before = self.count
        self._opened = self.answers_scopes
        try:
            task.cancel(message)
        finally:
            self.cuts += self._opened
            self._opened = False
            self._of_scopes += self.count - before

    def settle(self, task: asyncio.Task[Any], pending: int = 0) -> None:
        """Forget what was taken back meanwhile, as far as the count of `task` tells.

        `pending`: cancels that are counted, and wait for the next suspension.
        """
        if self.count:
            elsewhere = self.base + self.cuts + pending + _held_by(self._outer)
            self.count = max(0, min(self.count, task.cancelling() - elsewhere))

    def pass_out(self) -> tuple[Any, ...] | None:
        """What was held back, for the one who ends the hold to raise; an outer hold takes it.

        What a scope has asked for that stands inside of a shield is not for that shield to take.
        """
        cancelled, outer = self.cancelled if self.count else None, _standing(self._outer)
        if cancelled is None or outer is None or outer._left == 0:
            return cancelled
        of_scopes = self._of_scopes
        if outer.answers_scopes:
            outer.cuts += of_scopes
        else:
            outer._of_scopes += of_scopes
            of_scopes = 0
        if self.count > of_scopes:
            outer._note(cancelled, self.count - of_scopes)
        return cancelled if of_scopes else None


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
        return (hold is not None and hold.take(msg, self.get_loop())) or super().cancel(msg)


def current_hold() -> Hold | None:
    """The innermost hold that the running task stands in."""
    return holds.get(id(asyncio.current_task())) if holds else None


def innermost_hold(task: asyncio.Task[Any]) -> Hold | None:
    """The innermost hold that `task` stands in."""
    return holds.get(id(task)) if holds else None


def held_cancels(task: asyncio.Task[Any]) -> int:
    """How many cancels of `task` are held back now: `Task.cancelling()` counts them already."""
    count = _held_by(innermost_hold(task))
    return min(count, task.cancelling())


def _held_by(hold: Hold | None) -> int:
    """By `hold` and those around it."""
    count = 0
    while (hold := _standing(hold)) is not None:
        count += hold.count
        hold = hold._outer
    return count


def cancel(task: asyncio.Task[Any], message: str) -> None:
    """Cancel `task` for a scope of its own, also where it stands in a shield inside of that."""
    hold = innermost_hold(task)
    if hold is not None:
        hold.cut(task, message)
    else:
        task.cancel(message)


def _standing(hold: Hold | None) -> Hold | None:
    """`hold`, or the nearest one around it that has not ended."""
    while hold is not None and not hold._key:
        hold = hold._outer
    return hold


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
