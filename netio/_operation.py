"""One operation in progress: its name, since when it runs, what bounds it, and which limit fired.

It is made only where an operation has to wait: a hit on the buffer checks its ``timeout`` and
reads no clock.
"""

from __future__ import annotations

import asyncio
import math
from typing import TYPE_CHECKING, Final, NamedTuple

from netio._defaults import DEFAULT
from netio._errors import Address, DeadlineExceeded, StreamClosed, format_address, format_seconds
from netio._holding import give_turn
from netio._limits import MARKS, Budget, Deadline, as_float, spend
from netio._observing import observed, tell
from netio._readiness import Waiter

if TYPE_CHECKING:
    from collections.abc import Sequence

    from netio._limits import Timeout
    from netio._moving import Moving, MovingLimit
    from netio._observing import Wait
    from netio._stopwatch import Stopwatch

_WAYS: Final = {
    "write": "to",
    "send": "to",
    "connect": "to",
    "serve": "on",
    "bind": "on",
    "listen": "on",
    "accept": "on",
    "receive": "from",
    "handshake": "with",
    "start_tls": "with",
}

#: The limits of an operation as an error names them.
LIMIT_WORDS: Final = {
    "call": "the limit of this call",
    "read": "the connection's read limit",
    "write": "the connection's write limit",
    "connect": "the connect limit",
    "resolve": "the limit of the lookup",
    "attempt": "the limit of one attempt",
    "handshake": "the limit of the handshake",
    "close": "the limit of closing",
    "idle": "the idle limit",
    "total": "the total limit",
    "min_rate": "the floor of the rate",
    "budget": "the budget",
}

#: Those whose length is counted from the start of the operation that they end.
FROM_THE_START: Final = {"deadline", *LIMIT_WORDS} - {"idle", "total", "min_rate", "budget"}


class Standing(NamedTuple):
    """The nearest point that a connection, or the operation that this is a part of, stands under.

    Attributes:
        when: the point, a `loop.time()` in seconds; infinity for none.
        kind: its name in `DeadlineExceeded.limit`.
        seconds: the length of the limit, if it is not counted from the start of the operation.
    """

    when: float = math.inf
    kind: str = "deadline"
    seconds: float | None = None


NO_STANDING: Final = Standing()


class Operation(Waiter):
    """One operation in progress: what it is called, since when it runs and what bounds it.

    `deadline` is the minimum of the call's own limit, of `standing` and of the `moving` limits of
    its connection. Where several are reached at once, that is the order in which they answer.
    Nothing here is a timer: the channel has one for all its waiters.

    Attributes:
        moving: the limits that move with what happens on the connection; nearly always None.
        running: the stopwatches that run for this operation, until `stop_clocks`.
    """

    __slots__ = (
        "_given",
        "_kind",
        "_own",
        "_standing",
        "expected",
        "moving",
        "name",
        "peer",
        "running",
        "size",
        "standing",
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
        self._given: float | Deadline | Budget | None = None  # the own one, as the caller said it
        self._own = math.inf
        self._kind = "call"
        self._standing = NO_STANDING
        self.standing = math.inf  # its point
        self.moving: Moving | None = None
        self.running: tuple[Stopwatch, ...] = ()

    def start(self, now: float, timeout: Timeout, default: float | None, kind: str) -> None:
        """Count from `now`: `timeout`, or `default` (a limit called `kind`) where left out.

        Whoever starts an operation calls `stop_clocks` when it has ended, however it has.
        """
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
        elif isinstance(timeout, Budget):
            clock, own = spend(timeout, asyncio.get_running_loop(), now)
            self.running = (clock,)
            self._kind = "budget"
        elif timeout.__class__ is float:
            own = now + timeout
        else:  # as a float, since others add up in their own precision (numpy.float32 does)
            own = now + as_float(timeout)
        self._given = timeout
        self._own = own
        self.deadline = own if own <= self.standing else self.standing

    def start_clocks(self, now: float, *, begun: bool) -> None:
        """Start the `moving` limits that hold from now on; `begun`: a part of the work is done."""
        deadline = self._own if self._own <= self.standing else self.standing
        running, moving = self.running, self.moving
        if moving is not None:
            idle, floor = moving.idle, moving.floor
            if idle is not None:
                if idle not in running:
                    idle.start(now)
                    running = (*running, idle)
                point = idle.since + (idle.seconds - idle.passed)  # its `point`, which is felt
                if point < deadline:
                    deadline = point
            if floor is not None and (begun or floor in running):
                if floor not in running:
                    floor.start(now)
                    running = (*running, floor)
                point = floor.point()
                if point < deadline:
                    deadline = point
        self.running = running
        self.deadline = deadline

    def stop_clocks(self, now: float) -> None:
        """This operation waits no more."""
        for clock in self.running:
            clock.stop(now)
        self.running = ()

    def stop_moving(self, now: float) -> None:
        """It waits for nothing more of the peer's, though it has not ended, nor its budget."""
        if self._kind != "budget":
            self.stop_clocks(now)
            return
        for limit in self.running[1:]:  # all but the clock of the budget, which `start` has put
            limit.stop(now)
        self.running = self.running[:1]

    def due(self, now: float) -> bool:
        if self.moving is not None and self.deadline <= now:
            self._renew()
        return self.deadline <= now

    def _renew(self) -> None:
        moving = self._nearest_moving
        self.deadline = min(self._own, self.standing) if moving is None else moving.point()

    def bound_by(self, moving: Moving | None, now: float, *, begun: bool) -> None:
        """Other `moving` limits, for an operation that is in progress (law 7)."""
        before = () if self.moving is None else self.moving.limits
        after = () if moving is None else moving.limits
        stay = [c for c in self.running if c in after or c not in before]
        self.running = tuple(stay)  # what is gone is nobody's any more, and need not be stopped
        self.moving = moving
        self.start_clocks(now, begun=begun)

    def stand(self, standing: Standing) -> None:
        """Stand under this point, too, from now on (law 7)."""
        self._standing = standing
        self.standing = standing.when
        self._renew()

    def within(self, whole: Operation) -> None:
        """Stand under the limit of the operation that this one is a part of."""
        self.stand(Standing(whole.deadline, whole.kind))

    @property
    def kind(self) -> str:
        """Which limit is reached first, by its name in `DeadlineExceeded.limit`."""
        moving = self._nearest_moving
        if moving is not None:
            return moving.kind
        return self._kind if self._own <= self.standing else self._standing.kind

    @property
    def _nearest_moving(self) -> MovingLimit | None:
        """The one of the moving limits that is nearer than all else, if one is."""
        if self.moving is None:
            return None
        nearest, at = None, min(self._own, self.standing)
        for limit in self.moving.limits:
            if limit in self.running and limit.point() < at:
                nearest, at = limit, limit.point()
        return nearest

    @property
    def _deadline_by_now(self) -> float:
        """`deadline` is set anew only when it is reached: bytes have moved the limits since."""
        if self.moving is None:
            return self.deadline
        moving = self._nearest_moving
        return min(self._own, self.standing) if moving is None else moving.point()

    @property
    def _seconds(self) -> float:
        """The length of the limit that is reached first: as it was said, where it was."""
        moving = self._nearest_moving
        if moving is not None:
            return moving.seconds
        given = self._given
        if self._own > self.standing:
            if self._standing.seconds is not None:
                return self._standing.seconds
        elif isinstance(given, Budget):
            return max(0.0, given.seconds)
        elif given is not None and not isinstance(given, Deadline):
            return max(0.0, as_float(given))
        return max(0.0, self.deadline - self.started)

    async def let_scopes_answer(self, loop: asyncio.AbstractEventLoop) -> None:
        """After a wait: if the limit is reached, give a scope of the same tick its turn (law 15).

        A scope that found this operation about to be resumed looks again one tick later.
        """
        if self.deadline <= loop.time():
            await give_turn()

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
        elapsed = now - self.started
        if kind in FROM_THE_START:
            elapsed = max(seconds, elapsed)  # which a float may put a hair below
        reached = self._reached(kind, seconds, elapsed, now)
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

    def _reached(self, kind: str, seconds: float, elapsed: float, now: float) -> str:
        moving = self._nearest_moving
        if moving is not None:
            return moving.reached(elapsed, now)
        length = format_seconds(seconds)
        if kind == "budget":
            return f"the budget ({length} of waiting) was used up after {elapsed:.3f} s"
        if kind not in ("deadline", "total"):
            return f"{LIMIT_WORDS[kind]} ({length}) was reached after {elapsed:.3f} s"
        what = "the deadline"
        if kind == "total":
            what = f"the total limit ({length} from the stream's beginning)"
        after = self.deadline - self.started
        if after <= 0:
            return f"{what} had passed before the call began"
        return f"{what} was reached {after:.3f} s after the call began"

    def describe(self, wait: Wait) -> None:
        wait.operation = self.text
        wait.peer = self.peer
        wait.expected = self.expected
        wait.deadline = deadline = self._deadline_by_now
        wait.limit = "" if deadline == math.inf else self.kind

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
