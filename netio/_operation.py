"""One operation in progress: what it is called, since when it runs, and which limit fired.

It is made only where an operation has to wait: a hit on the buffer checks its ``timeout`` and
reads no clock.
"""

from __future__ import annotations

import asyncio
import math
from typing import TYPE_CHECKING, Final

from netio._defaults import DEFAULT
from netio._errors import Address, DeadlineExceeded, StreamClosed, format_address, format_seconds
from netio._holding import give_turn
from netio._limits import MARKS, Deadline, as_float
from netio._observing import observed, tell
from netio._readiness import Waiter

if TYPE_CHECKING:
    from collections.abc import Sequence

    from netio._limits import Timeout
    from netio._observing import Wait

_WAYS: Final = {"write": "to", "connect": "to", "serve": "on", "accept": "on"}

#: The limits of an operation as an error names them.
LIMIT_WORDS: Final = {
    "call": "the limit of this call",
    "read": "the connection's read limit",
    "write": "the connection's write limit",
    "connect": "the connect limit",
    "resolve": "the limit of the lookup",
    "attempt": "the limit of one attempt",
}


class Operation(Waiter):
    """One operation in progress: what it is called, since when it runs and what bounds it.

    `deadline` is the minimum of the call's own limit and of `standing`, the deadline its connection
    carries. Nothing here is a timer: the channel has one for all its waiters.
    """

    __slots__ = (
        "_given",
        "_kind",
        "_own",
        "_standing_kind",
        "expected",
        "name",
        "peer",
        "size",
        "started",
    )

    deadline: float

    def __init__(
        self,
        name: str,
        *,
        size: object = None,
        peer: Address = None,
        expected: int | None = None,
    ) -> None:
        super().__init__()
        self.name: str = name
        self.size: object = size
        self.peer: Address = peer
        self.expected: int | None = expected
        self.started: float = 0.0
        self._given: float | Deadline | None = None  # the own one, as the caller said it
        self._own = math.inf
        self._kind = "call"
        self._standing_kind = "deadline"

    def start(
        self,
        now: float,
        timeout: Timeout,
        default: float | None,
        kind: str,
        standing: float = math.inf,
    ) -> None:
        """Count from `now`: `timeout`, or `default` (a limit called `kind`) where left out."""
        self.started = now
        self._kind = "call"
        if timeout is DEFAULT:
            self._kind = kind
            timeout = default
        if timeout is None:
            own = math.inf
        elif isinstance(timeout, Deadline):
            own = timeout.when
            self._kind = "deadline"
        elif timeout.__class__ is float:
            own = now + timeout
        else:  # as a float, since others add up in their own precision (numpy.float32 does)
            own = now + as_float(timeout)
        self._given = timeout
        self._own = own
        self.deadline = own if own <= standing else standing

    def within(self, whole: Operation) -> None:
        """Stand under the limit of the operation that this one is a part of."""
        self._standing_kind = whole.kind
        self.deadline = min(self._own, whole.deadline)

    @property
    def kind(self) -> str:
        """Which limit is reached first, by its name in `DeadlineExceeded.limit`."""
        return self._kind if self._own <= self.deadline else self._standing_kind

    @property
    def _seconds(self) -> float:
        """The length of the limit that is reached first: as it was said, where it was."""
        given = self._given
        if self._own > self.deadline or given is None or isinstance(given, Deadline):
            return max(0.0, self.deadline - self.started)
        return max(0.0, as_float(given))

    async def let_scopes_answer(self, loop: asyncio.AbstractEventLoop) -> None:
        """After a wait: if the limit is reached, give a scope of the same tick its turn (law 15).

        A scope that found this operation about to be resumed looks again one tick later.
        """
        if self.deadline <= loop.time():
            await give_turn()

    def move(self, standing: float) -> None:
        """Another deadline of the connection, for an operation that may already wait (law 7)."""
        self.deadline = min(self._own, standing)

    @property
    def text(self) -> str:
        """The operation as an error names it, for instance ``read_exactly(16)``."""
        return self.name if self.size is None else f"{self.name}({self.size})"

    def __str__(self) -> str:
        way = next((way for name, way in _WAYS.items() if self.name.startswith(name)), "from")
        return f"{self.text} {way} {format_address(self.peer)}"

    def exceeded(
        self, now: float, progress: str, *, done: int = 0, attempts: Sequence[Exception] = ()
    ) -> DeadlineExceeded:
        """The error that says which limit fired, during what, with whom, and how far it got."""
        kind = self.kind
        seconds = self._seconds
        elapsed = max(seconds, now - self.started)  # which a float may put a hair below
        if kind != "deadline":
            length = format_seconds(seconds)
            reached = f"{LIMIT_WORDS[kind]} ({length}) was reached after {elapsed:.3f} s"
        elif seconds:
            reached = f"the deadline was reached {seconds:.3f} s after the call began"
        else:
            reached = "the deadline had passed before the call began"
        error = DeadlineExceeded(
            f"{self}: {reached}; {progress}",
            limit=kind,
            operation=self.text,
            seconds=seconds,
            elapsed=elapsed,
            peer=self.peer,
            done=done,
            expected=self.expected,
            attempts=attempts,
        )
        if observed:
            tell(asyncio.get_running_loop(), "timed_out", error)
        return error

    def describe(self, wait: Wait) -> None:
        wait.operation = self.text
        wait.peer = self.peer
        wait.expected = self.expected
        wait.deadline = self.deadline
        wait.limit = "" if self.deadline == math.inf else self.kind

    def closed(self, progress: str = "", *, done: int = 0) -> StreamClosed:
        """The error that says that this side has ended the stream."""
        what = f"{self}: the stream was closed or detached by this side{progress}"
        return StreamClosed(what, peer=self.peer, done=done)

    def mark(
        self,
        error: asyncio.CancelledError,
        *,
        done: int = 0,
        partial: bytes = b"",
        attempts: Sequence[Exception] = (),
    ) -> None:
        """Leave on a cancellation what it cut, for the scope or the program that meets it.

        These are fields of `DeadlineExceeded`, of which a scope makes its error: see `MARKS`.
        """
        if not hasattr(error, "operation"):
            values = (self.text, self.peer, done, self.expected, partial, tuple(attempts))
            error.__dict__.update(zip(MARKS, values, strict=True))
