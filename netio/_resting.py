"""Resting before another attempt, where the poller says "ready" and the system call does not.

A connect to a full backlog, and a datagram for a full receiver, of a Unix socket: epoll calls such
a socket writable, and whoever waited for that would spin. So it is tried again after a while, and
then after twice that.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from netio._operation import Operation
    from netio._readiness import Readiness

#: The first rest, and the longest.
REST_FIRST_SECONDS: Final = 0.001
REST_MOST_SECONDS: Final = 0.1


class Resting:
    """The rests of one operation, each twice as long as the one before, up to a bound."""

    __slots__ = ("_operation", "_readiness", "_seconds")

    def __init__(self, readiness: Readiness, operation: Operation) -> None:
        self._readiness = readiness
        self._operation = operation
        self._seconds = REST_FIRST_SECONDS

    async def rest(self, now: float) -> None:
        """Wait for the next rest to be over, for the operation's deadline, or to be woken."""
        operation = self._operation
        limit = operation.deadline
        operation.deadline = min(now + self._seconds, limit)
        self._seconds = min(2 * self._seconds, REST_MOST_SECONDS)
        try:
            await self._readiness.park(operation)
        finally:
            operation.deadline = limit
