"""Limits of a connection that move with what happens on it: silence, and the floor of a rate.

Each is a stopwatch that runs while an operation waits, and a point that is later the more bytes
move. No timer is moved with that: a deadline that is reached is asked once more where it is by now
(`Operation.due`). Only the first byte of a transfer, with which its floor begins, brings a point
nearer.

The floor looks at a window that slides over the time of transfer. What moved in it is kept in a few
parts, each stamped with the time of its last byte, so that a cut is never early, and late by at
most one part; and no more of them are kept than hold what the floor asks for.
"""

from __future__ import annotations

import math
from typing import ClassVar

from netio._defaults import RATE_WINDOW_PARTS
from netio._errors import format_seconds
from netio._limits import Rate
from netio._stopwatch import Stopwatch


class MovingLimit(Stopwatch):
    """What both have in common. It runs while operations wait, and is asked only then.

    Attributes:
        kind: its name in `DeadlineExceeded.limit`.
        seconds: its length.
    """

    __slots__ = ("seconds",)

    kind: ClassVar[str]

    def __init__(self, seconds: float) -> None:
        super().__init__()
        self.seconds = seconds

    def point(self) -> float:
        """Where it is reached if nothing moves."""
        raise NotImplementedError

    def reached(self, elapsed: float, now: float) -> str:
        """What an error says of it, `elapsed` seconds after the operation began."""
        raise NotImplementedError


class Idle(MovingLimit):
    """Silence of a connection; both directions share one, and a byte either way renews it."""

    __slots__ = ()

    kind = "idle"

    def point(self) -> float:
        return self.when(self.seconds)

    def reached(self, elapsed: float, now: float) -> str:
        length = format_seconds(self.seconds)
        return f"the idle limit ({length} without a byte) was reached after {elapsed:.3f} s"


class Floor(MovingLimit):
    """At least so many bytes in each window of transfer; one for each direction.

    It runs once a part of what an operation wants has moved, and not from its beginning.

    Attributes:
        rate: what is asked for.
        flows: what comes next belongs to the transfer that was, though nothing of it is here.
        way: how bytes of this direction move: they ``"came"`` or ``"went"``.
        answered: the floor of the other direction, for which a byte of this one ends a transfer
            that nobody waits in; None: none.
    """

    __slots__ = (
        "_first", "_last", "_part", "_parts", "_rests", "_size", "_sum", "answered", "flows",
        "rate", "way",
    )  # fmt: skip

    kind = "min_rate"

    def __init__(self, rate: Rate, way: str, answered: Floor | None = None) -> None:
        super().__init__(rate.per)
        self.rate = rate
        self.flows = False
        self.way = way
        self.answered = answered
        self._part = rate.per / RATE_WINDOW_PARTS  # the length of one
        # The part that bytes are added to: its first byte and its last one, by the stopwatch, and
        # how many bytes; and those before it. A list, since they are few, and an empty deque is
        # larger than all else of a floor.
        self._first = self._last = -math.inf
        self._size = 0
        self._parts: list[tuple[float, int]] = []
        self._sum = 0  # of those before
        self._rests = False  # it has not run since the last byte: the next one has the same stamp

    def start(self, now: float) -> None:
        super().start(now)
        self._rests = False

    def moved(self, size: int, now: float) -> None:
        """So many bytes have come, or gone."""
        if self._rests:
            self._size += size
        else:
            self._add(size, self.read(now))
        answered = self.answered
        if answered is not None and answered.flows and not answered.waiting:
            answered.flows = False

    def _add(self, size: int, reading: float) -> None:
        if reading - self._first < self._part:
            self._size += size
        else:
            if self._size:
                self._begin_part()
            self._first = reading
            self._size = size
        self._last = reading
        self._rests = not self.waiting

    def _begin_part(self) -> None:
        """Put the present part to those before it, and drop what nobody asks for any more."""
        parts, enough = self._parts, self.rate.bytes
        parts.append((self._last, self._size))
        self._sum += self._size
        while parts and self._sum - parts[0][1] >= enough:
            self._sum -= parts.pop(0)[1]
        if len(parts) > RATE_WINDOW_PARTS + 1:  # long out of the window
            self._sum -= parts.pop(0)[1]

    def point(self) -> float:
        """Where the oldest part leaves the window without which too little is in it.

        While too little is in the window, the point is in the past, and stays there until enough
        has moved since. Changes nothing: `snapshot` asks in the midst of all, from a signal handler
        or another thread.
        """
        left, enough = self._sum + self._size, self.rate.bytes
        if left < enough:  # in the beginning: a first window is granted in full
            return self.when(self.seconds)
        for last, size in self._parts:
            left -= size
            if left < enough:
                return self.when(last + self.seconds)
        return self.when(self._last + self.seconds)

    def reached(self, elapsed: float, now: float) -> str:
        left = self._window(now)
        size = "1 byte" if left == 1 else f"{left} bytes"
        span = f"the last {format_seconds(self.seconds)} of this transfer"
        return f"the floor of {self.rate}: {size} {self.way} in {span}"

    def _window(self, now: float) -> int:
        """How many bytes moved in the window that ends now."""
        parts = [*self._parts, (self._last, self._size)]
        oldest = self.read(now) - self.seconds
        inside = [size for last, size in parts if last > oldest]
        if sum(inside) >= self.rate.bytes:
            inside.pop(0)  # it has just left, by less than a float can tell
        return sum(inside)


class Moving:
    """The moving limits of one direction, at least one of them.

    Each has a name here, and is not one of several in a loop, since this is what every read and
    write of a stream with limits asks.
    """

    __slots__ = ("floor", "idle")

    def __init__(self, idle: Idle | None, floor: Floor | None) -> None:
        self.idle = idle
        self.floor = floor

    @property
    def limits(self) -> tuple[MovingLimit, ...]:
        """Those that there are, in the order in which they answer."""
        return tuple([limit for limit in (self.idle, self.floor) if limit is not None])

    def moved(self, size: int, now: float) -> None:
        """So many bytes have come, or gone."""
        idle, floor = self.idle, self.floor
        if idle is not None:  # whose silence ends with that, in both directions
            idle.passed = 0.0
            idle.since = now
        if floor is not None:
            floor.moved(size, now)
