"""The course of a schedule: its events happen as callbacks of the loop, each at its own place.

Nothing is used of the loop but `call_soon`, which every loop runs in order, so that a schedule is
the same on all of them.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from netio.testing._exploring import notation

if TYPE_CHECKING:
    from collections.abc import Callable


class Course:
    """Has the events of a schedule happen, each as a callback of the loop."""

    def __init__(self, schedule: str, happen: Callable[[str], object]) -> None:
        self._loop = asyncio.get_running_loop()
        self._turns = notation.parse(schedule)
        self._happen = happen
        self._ended = False
        self._failed: BaseException | None = None

    async def run(self, over: Callable[[], bool], ticks: int) -> None:
        """Until all have happened; and until it is `over`, or so many turns have passed."""
        self._plan(0)
        for _ in range(len(self._turns) + ticks):
            await asyncio.sleep(0)
            if self._ended and over():
                break
        if self._failed is not None:
            raise self._failed
        if not self._ended:
            raise RuntimeError("the loop did not run what was planned for it")

    def _plan(self, index: int) -> None:
        """In the turn before: give each event of this one its own place among the callbacks."""
        last = index + 1 == len(self._turns)
        next_is_ahead = not last and self._turns[index + 1][0] == "|"
        if next_is_ahead:
            self._loop.call_soon(self._plan, index + 1)
        for event in self._turns[index][1]:
            self._loop.call_soon(self._happen_safely, event)
        if last:
            self._loop.call_soon(self._end)
        elif not next_is_ahead:
            self._loop.call_soon(self._plan, index + 1)

    def _happen_safely(self, event: str) -> None:
        try:
            self._happen(event)
        except BaseException as error:  # which the loop would only log
            self._failed = self._failed or error

    def _end(self) -> None:
        self._ended = True
