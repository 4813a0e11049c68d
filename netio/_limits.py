"""Limits as a program says them: what ``timeout=`` takes, and the defaults of a connection."""

from __future__ import annotations

import asyncio
import dataclasses
import math
import numbers
from types import NoneType
from typing import Final, SupportsFloat

from netio._defaults import Default, DefaultType


class Deadline:
    """A point in time that many calls share, as a value of ``timeout=``.

    Points are `loop.time()` of the running loop. A `Deadline` never changes; to move the limit
    of a stream, assign another one.

        deadline = netio.Deadline.after(5)
        header = await stream.read_exactly(16, timeout=deadline)
        body = await stream.read_exactly(size, timeout=deadline)
    """

    __slots__ = ("_when",)

    def __init__(self, when: float | None) -> None:
        """The point `when`, a `loop.time()` in seconds; None or infinity mean "never"."""
        self._when = math.inf if when is None else check_seconds(when, "when")

    @classmethod
    def after(cls, seconds: float | None) -> Deadline:
        """The point `seconds` from now; None or infinity mean "never".

        A negative number is a point in the past. Needs a running loop, whose clock it reads.
        """
        if seconds is None:
            return cls(None)
        seconds = check_seconds(seconds, "seconds")
        return cls(asyncio.get_running_loop().time() + seconds)

    @classmethod
    def at(cls, when: float | None) -> Deadline:
        """The point `when`, a `loop.time()` in seconds; None or infinity mean "never"."""
        return cls(when)

    @property
    def when(self) -> float:
        """The point, a `loop.time()` in seconds; infinity for "never"."""
        return self._when

    def remaining(self) -> float:
        """Seconds until the point, by the running loop's clock; never negative."""
        if self._when == math.inf:
            return math.inf
        return max(0.0, self._when - asyncio.get_running_loop().time())

    def __eq__(self, other: object) -> bool:
        return self._when == other._when if isinstance(other, Deadline) else NotImplemented

    def __hash__(self) -> int:
        return hash((Deadline, self._when))

    def __repr__(self) -> str:
        return "Deadline(never)" if self._when == math.inf else f"Deadline(at={self._when:.3f})"


#: What a cancellation says of the operation that it cut.
MARKS: Final = ("operation", "peer", "done", "expected", "partial", "attempts")

#: What ``timeout=`` takes: left out, None, seconds, or a `Deadline`.
Timeout = float | Deadline | None | DefaultType

#: Numbers below this can be added to a time without a check for overflow.
HUGE_SECONDS: Final = 10**15

_TIMEOUT_CLASSES: Final = frozenset({int, float, NoneType, Deadline, Default})


def check_seconds(value: SupportsFloat, name: str) -> float:
    """`value` as a float; TypeError for what is not a number, ValueError for NaN (law 1)."""
    cls = value.__class__
    if cls is float:
        seconds: float = value  # type: ignore[assignment]
    elif cls is int or is_number(value):
        seconds = as_float(value)
    else:
        raise TypeError(f"{name} must be a number of seconds, not {cls.__name__}")
    if seconds != seconds:
        raise ValueError(f"{name} must not be NaN")
    return seconds


def is_number(value: object) -> bool:
    """Whether `value` is a real number, and no bool, which would be a mistake."""
    return isinstance(value, numbers.Real) and not isinstance(value, bool)


def as_float(seconds: SupportsFloat) -> float:
    """`seconds` as a float; what is too large for one means no limit."""
    try:
        return float(seconds)
    except OverflowError:
        return math.inf if seconds > 0 else -math.inf  # type: ignore[operator]


def check_timeout(timeout: object) -> None:
    """Raise for what ``timeout=`` does not take; cheap, since it stands on every buffer hit."""
    cls = timeout.__class__
    if cls is float:
        if timeout != timeout:
            raise ValueError("timeout must not be NaN")
    elif cls not in _TIMEOUT_CLASSES and not isinstance(timeout, Deadline):
        if not is_number(timeout):
            raise TypeError(
                "timeout must be a number of seconds, None, a netio.Deadline, or left out, "
                f"not {cls.__name__}"
            )
        check_seconds(timeout, "timeout")  # type: ignore[arg-type]


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Timeouts:
    """The default limits of one connection; every field is seconds > 0, or None for no limit.

    Immutable: vary one with ``dataclasses.replace``. Every default is finite, since a peer that
    went away without a word would otherwise be waited for without end.

    Attributes:
        connect: all of connecting: the lookup and every attempt. 30 s is enough for a slow
            lookup and two dead addresses (Go's http.DefaultTransport dials for 30 s).
        resolve: the lookup of a name. 10 s is two tries of resolv.conf's default of 5 s.
        attempt: one address. 10 s is a SYN and three retransmissions (after 1, 2 and 4 s,
            RFC 6298), so that a dead address leaves time for the next one.
        read: one read that names no limit of its own. 60 s, as nginx's client_body_timeout and
            proxy_read_timeout.
        write: one write that names no limit of its own. 60 s, as nginx's send_timeout.
        close: saying goodbye, after which the connection is cut; None means 2.0 as well: a peer
            owes us nothing at that point. A goodbye over plain TCP waits for nothing, so that
            this limit is never reached there.
    """

    connect: float | None = 30.0
    resolve: float | None = 10.0
    attempt: float | None = 10.0
    read: float | None = 60.0
    write: float | None = 60.0
    close: float | None = 2.0

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if value is None:
                continue
            seconds = check_seconds(value, f"Timeouts.{field.name}")
            if seconds <= 0:
                raise ValueError(f"Timeouts.{field.name} must be more than 0 seconds, or None")
            object.__setattr__(self, field.name, None if seconds == math.inf else seconds)


#: The limits of a connection for which nothing else was said.
DEFAULT_TIMEOUTS: Final = Timeouts()


def check_timeouts(timeouts: Timeouts) -> None:
    """TypeError for what is not a `Timeouts`."""
    if not isinstance(timeouts, Timeouts):
        raise TypeError(f"timeouts must be netio.Timeouts, not {type(timeouts).__name__}")
