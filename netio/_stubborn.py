"""What is done about a body that goes on after its scope has cut it.

A scope cuts its body once, so that cleanup can await (law 20). One that was given a grace cuts it
again when that is over, and then after pauses that double, each by a timer, so that a body which
swallows every cancel costs next to nothing. Whoever is still in the block five seconds after the
cut is reported, once (law 21).
"""

from __future__ import annotations

import asyncio
import logging
import math
from typing import TYPE_CHECKING, Any

from netio._cancels import is_about_to_be_cancelled, is_about_to_get_a_result
from netio._defaults import STUBBORN_SECONDS, TIMER_STEP_SECONDS
from netio._waiting import describe

if TYPE_CHECKING:
    from collections.abc import Callable

_logger = logging.getLogger("netio")


class Stubborn:
    """Cuts again, and reports, for one scope that has fired, until its block is left."""

    __slots__ = (
        "_cut",
        "_cuts_at",
        "_fired_at",
        "_held",
        "_looked_again",
        "_pause",
        "_reports_at",
        "_task",
        "_timer",
        "_title",
    )

    def __init__(
        self,
        task: asyncio.Task[Any],
        now: float,
        grace: float,
        title: str,
        cut: Callable[[], None],
    ) -> None:
        self._task = task
        self._title = title
        self._cut = cut
        self._fired_at = now
        self._pause = max(grace, TIMER_STEP_SECONDS)
        self._cuts_at = now + self._pause
        self._reports_at = now + STUBBORN_SECONDS
        self._looked_again = False
        self._held = False
        # Most blocks are left in this very turn of the loop, and need no timer.
        self._timer: asyncio.Handle | None = task.get_loop().call_soon(self._ring)

    def cancel(self) -> None:
        """The block was left."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def hold(self) -> None:
        """A shield inside the block begins: nothing is cut meanwhile."""
        self._held = True

    def resume(self) -> None:
        """The shield has ended, and what was due meanwhile is due now."""
        self._held = False
        self.cancel()
        self._set_timer(self._task.get_loop().time())

    def _set_timer(self, now: float) -> None:
        cuts_at = math.inf if self._held else self._cuts_at
        when = min(cuts_at, self._reports_at)
        loop = self._task.get_loop()
        if when <= now:
            self._timer = loop.call_soon(self._ring)
        elif when < math.inf:
            # uvloop's timers are early at times.
            self._timer = loop.call_at(max(when, now + TIMER_STEP_SECONDS), self._ring)

    def _ring(self) -> None:
        self._timer = None
        now = self._task.get_loop().time()
        try:
            if now >= self._reports_at:
                self._reports_at = math.inf
                self._report(now)
        finally:  # a filter or a handler of the log may fail
            if now >= self._cuts_at and not self._held:
                self._cut_again(now)
            self._set_timer(now)

    def _cut_again(self, now: float) -> None:
        task = self._task
        if not self._looked_again and is_about_to_get_a_result(task):
            self._looked_again = True  # as the first cut does (law 8)
            return
        self._looked_again = False
        self._pause *= 2
        self._cuts_at = math.inf if task.done() else now + self._pause
        if not task.done() and not is_about_to_be_cancelled(task):
            self._cut()

    def _report(self, now: float) -> None:
        """Say once who goes on for how long, and where (law 21)."""
        text = "%s has fired %.1f s ago, and its block still runs; %s"
        if self._task.done():
            where = f"{self._task.get_name()!r} has ended without leaving it: a yield inside?"
        else:
            where = describe(self._task)
        _logger.warning(text, self._title, now - self._fired_at, where)
