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
        flows: what comes next belongs to the transfer that was, though nothing of it is here.
    """

    __slots__ = ("flows", "seconds")

    kind: ClassVar[str]

    def __init__(self, seconds: float) -> None:
        super().__init__()
        self.seconds = seconds
        self.flows = False

    def begins(self, begun: bool) -> bool:
        """Whether it runs from the beginning of an operation, of which a part is done or not."""
        raise NotImplementedError

    def moved(self, size: int, now: float) -> None:
        """So many bytes have come, or gone."""
        raise NotImplementedError

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

    def begins(self, begun: bool) -> bool:
        return True

    def moved(self, size: int, now: float) -> None:
        self.reset(now)

    def point(self) -> float:
        return self.when(self.seconds)

    def reached(self, elapsed: float, now: float) -> str:
        length = format_seconds(self.seconds)
        return f"the idle limit ({length} without a byte) was reached after {elapsed:.3f} s"


class Floor(MovingLimit):
    """At least so many bytes in each window of transfer; one for each direction.

    Attributes:
        rate: what is asked for.
        way: how bytes of this direction move: they ``"came"`` or ``"went"``.
        answered: the floor of the other direction, for which a byte of this one ends a transfer
            that nobody waits in; None: none.
    """

    __slots__ = ("_fell", "_part", "_parts", "_sum", "answered", "rate", "way")

    kind = "min_rate"

    def __init__(self, rate: Rate, way: str, answered: Floor | None = None) -> None:
        super().__init__(rate.per)
        self.rate = rate
        self.way = way
        self.answered = answered
        self._part = rate.per / RATE_WINDOW_PARTS
        # Of each part, by the stopwatch: its first byte, its last one, and how many bytes. A list,
        # since they are few, and an empty deque is larger than all else of a floor.
        self._parts: list[tuple[float, float, int]] = []
        self._sum = 0
        #: While less is here than the floor: since when. A first window is granted in full.
        self._fell = rate.per

    def begins(self, begun: bool) -> bool:
        return begun

    def moved(self, size: int, now: float) -> None:
        reading = self.read(now)
        parts = self._parts
        while parts and parts[0][1] <= reading - self.seconds:
            self._fell = max(self._fell, parts[0][1] + self.seconds)
            self._sum -= parts.pop(0)[2]
        if parts and reading - parts[-1][0] < self._part:
            first, _, before = parts[-1]
            parts[-1] = (first, reading, before + size)
        else:
            parts.append((reading, reading, size))
        self._sum += size
        while self._sum - parts[0][2] >= self.rate.bytes:
            self._sum -= parts.pop(0)[2]
        if self.answered is not None and not self.answered.waiting:
            self.answered.flows = False

    def point(self) -> float:
        if self._sum < self.rate.bytes:
            return self.when(self._fell)
        return self.when(self._parts[0][1] + self.seconds)

    def reached(self, elapsed: float, now: float) -> str:
        left = self._window(now)
        size = "1 byte" if left == 1 else f"{left} bytes"
        span = f"the last {format_seconds(self.seconds)} of this transfer"
        return f"the floor of {self.rate}: {size} {self.way} in {span}"

    def _window(self, now: float) -> int:
        """How many bytes moved in the window that ends now."""
        oldest = self.read(now) - self.seconds
        inside = [size for _, last, size in self._parts if last > oldest]
        if self._sum >= self.rate.bytes and len(inside) == len(self._parts):
            inside.pop(0)  # it has just left, by less than a float can tell
        return sum(inside)
