"""Limits of an operation: the values that ``timeout=`` takes, and which of them fired.

`Operation` is one operation in progress. It is made only where an operation has to wait: a hit
on the buffer checks its ``timeout`` and reads no clock.
"""

from __future__ import annotations

import asyncio
import dataclasses
import math
import numbers
from types import NoneType
from typing import TYPE_CHECKING, Final, SupportsFloat

from netio._defaults import DEFAULT, Default, DefaultType
from netio._errors import Address, DeadlineExceeded, StreamClosed, format_address, format_seconds
from netio._holding import give_turn
from netio._observing import observed, tell
from netio._readiness import Waiter

if TYPE_CHECKING:
    from collections.abc import Sequence

    from netio._observing import Wait


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
