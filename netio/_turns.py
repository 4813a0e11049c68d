"""Turns: no task keeps the loop to itself by operations that never have to wait (law 35).

The operations of one loop share a credit. What goes without waiting costs some of it, and when it
is used up, the next operation lets the loop turn once. A wait is such a turn, and renews it.
"""

from __future__ import annotations

import asyncio
from contextvars import Context
from typing import Final
from weakref import WeakKeyDictionary

from netio._defaults import COST_SHIFT, OPERATIONS_PER_TURN, SYSTEM_CALL_COST
from netio._holding import give_turn


class Turns:
    """What the operations of one loop share.

    Attributes:
        credit: what they have until the loop must turn. The quick ways lower it themselves.
        context: an empty one, for callbacks that are nobody's. In the context of whoever happens
            to call, a callback that is kept for long would keep all that is in there.
    """

    __slots__ = ("context", "credit")

    def __init__(self) -> None:
        self.credit = OPERATIONS_PER_TURN
        self.context = Context()

    def charge(self, size: int) -> None:
        """One operation has moved, searched or copied `size` bytes without waiting."""
        self.credit -= SYSTEM_CALL_COST + (size >> COST_SHIFT)

    def renew(self) -> None:
        """The loop has turned."""
        self.credit = OPERATIONS_PER_TURN

    async def give(self) -> None:
        """Let the loop turn once."""
        self.credit = OPERATIONS_PER_TURN
        await give_turn()

    async def pay(self) -> None:
        """An operation ends without having waited, one that did not get as far, too."""
        self.charge(0)
        if self.credit <= 0:
            await self.give()


_turns: Final[WeakKeyDictionary[asyncio.AbstractEventLoop, Turns]] = WeakKeyDictionary()


def turns_of(loop: asyncio.AbstractEventLoop) -> Turns:
    """What the operations of `loop` share."""
    turns = _turns.get(loop)
    if turns is None:
        turns = _turns[loop] = Turns()
    return turns
