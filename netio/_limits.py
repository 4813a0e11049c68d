"""Limits as a program says them: what ``timeout=`` takes, and the defaults of a connection."""

from __future__ import annotations

import asyncio
import dataclasses
import math
import numbers
from types import NoneType
from typing import Final, SupportsFloat

from netio._arguments import check_count
from netio._defaults import Default, DefaultType
from netio._errors import format_seconds
from netio._stopwatch import Stopwatch


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
        """The point `when`, a `loop.time()` in seconds; None or infinity mean "never".

        Raises: TypeError for what is not a number or None, ValueError for NaN.
        """
        self._when = math.inf if when is None else check_seconds(when, "when")

    @classmethod
    def after(cls, seconds: float | None) -> Deadline:
        """The point `seconds` from now; None or infinity mean "never".

        A negative number is a point in the past. Needs a running loop, whose clock it reads.

        Raises: TypeError for what is not a number or None, ValueError for NaN, RuntimeError where
            no loop runs.
        """
        if seconds is None:
            return cls(None)
        seconds = check_seconds(seconds, "seconds")
        return cls(asyncio.get_running_loop().time() + seconds)

    @classmethod
    def at(cls, when: float | None) -> Deadline:
        """The point `when`, a `loop.time()` in seconds; None or infinity mean "never".

        The same as ``Deadline(when)``, and raises as that does.
        """
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


#: Seconds by which sums of the clock's times may be wrong: what is left of a spent Budget.
_ROUNDING: Final = 1e-9


class Budget:
    """A pool of waiting time that many calls, streams and tasks share, as a value of ``timeout=``.

    It is spent while an operation that was given it is in progress; two at once spend it once. The
    time between, in which nobody waits on it, is free, and so is what is buffered already. (A
    `Deadline` goes on while the program computes.) So it does not bound a loop of tries that fail
    at once.

        budget = netio.Budget(5)  # to wait for this server, in all
        await stream.write(question, timeout=budget)
        answer = await stream.read_line(timeout=budget)

    It belongs to the event loop in which it was first waited on: in another one, it is refused with
    a RuntimeError before any I/O.
    """

    __slots__ = ("_loop", "_seconds", "_spent")

    def __init__(self, seconds: float | None) -> None:
        """A pool of `seconds`; None or infinity mean no limit, zero or less that all is spent.

        Raises: TypeError for what is not a number or None, ValueError for NaN.
        """
        self._seconds = math.inf if seconds is None else check_seconds(seconds, "seconds")
        self._spent = Stopwatch()
        self._loop: asyncio.AbstractEventLoop | None = None

    @property
    def seconds(self) -> float:
        """What the pool held when it was made, in seconds; infinity for no limit."""
        return self._seconds

    def remaining(self) -> float:
        """Seconds that are left, those being spent right now taken off; never negative.

        Infinity for no limit. Needs no running loop.
        """
        now = 0.0 if self._loop is None else self._loop.time()
        left = self._seconds - self._spent.read(now)
        return left if left > _ROUNDING else 0.0

    def __repr__(self) -> str:
        if self._seconds == math.inf:
            return "Budget(no limit)"
        left = format_seconds(self.remaining())
        return f"Budget({format_seconds(self._seconds)}, {left} left)"


def spend(budget: Budget, loop: asyncio.AbstractEventLoop, now: float) -> tuple[Stopwatch, float]:
    """An operation waits on `budget` from `now` on: what runs until it ends, and all is spent when.

    That point stays where it is as long as the operation waits.
    """
    _check_loop(budget, loop)
    budget._loop = loop
    budget._spent.start(now)
    return budget._spent, budget._spent.when(budget._seconds)


def _check_loop(budget: Budget, loop: asyncio.AbstractEventLoop | None) -> None:
    """RuntimeError in a loop to which the pool does not belong; None is no loop."""
    if loop is not None and budget._loop is not None and loop is not budget._loop:
        raise RuntimeError(
            "timeout: this netio.Budget belongs to another event loop, in which it was first "
            "waited on; make one for each loop"
        )


@dataclasses.dataclass(frozen=True, slots=True)
class Rate:
    """A floor for the speed of a transfer: at least `bytes` bytes in any `per` seconds of it.

    ``Rate(1000, per=10)`` bears a pause of nine seconds, as ``Rate(100, per=1)`` does not, though
    both ask for 100 bytes a second: `per` is also how long a peer, or the network, may falter.
    `Timeouts.min_rate` says what counts.

    Attributes:
        bytes: how many, at least 1.
        per: seconds, more than 0 and finite.

    Raises: TypeError for what is not a number, ValueError for one that is out of these bounds.
    """

    bytes: int
    per: float

    def __post_init__(self) -> None:
        object.__setattr__(self, "bytes", check_count(self.bytes, "bytes", at_least=1))
        per = check_seconds(self.per, "per")
        if not 0 < per < math.inf:
            raise ValueError("per must be more than 0 seconds, and finite")
        object.__setattr__(self, "per", per)

    def __str__(self) -> str:
        return f"{self.bytes} bytes per {format_seconds(self.per)}"


#: What a cancellation says of the operation that it cut.
MARKS: Final = ("operation", "peer", "done", "expected", "partial", "attempts")

#: What ``timeout=`` takes: left out, None, seconds, a `Deadline` or a `Budget`.
Timeout = float | Deadline | Budget | None | DefaultType

_TIMEOUT_CLASSES: Final = frozenset({int, float, NoneType, Deadline, Default})


def check_seconds(value: SupportsFloat, name: str) -> float:
    """`value` as a float; TypeError for what is not a number, ValueError for NaN (law 1)."""
    cls = value.__class__
    if cls is float:
        seconds: float = value  # type: ignore[assignment]
    elif cls is int or is_number(value):
        try:
            seconds = float(value)  # without the call of `as_float`: each scope comes by here
        except OverflowError:
            seconds = as_float(value)
    elif isinstance(value, Budget):
        raise TypeError(
            f"{name} must be a number of seconds, not a netio.Budget: that is spent by operations, "
            "each of which takes it as its timeout; here, say budget.remaining()"
        )
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
        if isinstance(timeout, Budget):
            _check_loop(timeout, asyncio._get_running_loop())
            return
        if not is_number(timeout):
            hint = ""
            if isinstance(timeout, Timeouts):
                hint = "; those of a connection are its timeouts"
            elif hasattr(timeout, "reschedule"):  # asyncio has them, too
                hint = "; a scope is put around the call, by async with"
            raise TypeError(
                "timeout must be a number of seconds, None, a netio.Deadline, a netio.Budget, or "
                f"left out, not {cls.__name__}{hint}"
            )
        check_seconds(timeout, "timeout")  # type: ignore[arg-type]


def check_deadline(deadline: object, name: str) -> None:
    """TypeError, with a word on how to make one, for what is neither a `Deadline` nor None."""
    if deadline is None or isinstance(deadline, Deadline):
        return
    hint = ""
    if isinstance(deadline, Budget):
        hint = "; what is left of a budget is netio.Deadline.after(budget.remaining())"
    elif is_number(deadline):
        hint = "; seconds from now are netio.Deadline.after(seconds)"
    raise TypeError(f"{name} must be a netio.Deadline or None, not {type(deadline).__name__}{hint}")


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Timeouts:
    """The limits of one connection; every field is seconds > 0 (`min_rate` a `Rate`), or None.

    None means no such limit. Immutable: vary one with ``dataclasses.replace``. Every default of an
    operation is finite, since a peer that went away without a word would otherwise be waited for
    without end. `idle`, `total` and `min_rate` hold beside these for every read and write, also one
    with a ``timeout`` of its own: retries renew the limit of a call, and none of these three.

    Attributes:
        connect: all of connecting: the lookup, every attempt, a proxy, the TLS handshake. 30 s is
            enough for a slow lookup and a slow peer (Go's http.DefaultTransport dials for 30 s).
        resolve: the lookup of a name. 10 s is two tries of resolv.conf's default of 5 s.
        attempt: one address. 10 s is a SYN and three retransmissions (after 1, 2 and 4 s,
            RFC 6298). The next address does not wait for that: it is tried beside the first after
            a quarter of a second.
        handshake: the TLS handshake, also of each connection of a server. 10 s is several round
            trips over the worst networks (Go's http.Transport has the same number, asyncio 60 s).
        read: one read that names no limit of its own. 60 s, as nginx's client_body_timeout and
            proxy_read_timeout.
        write: one write that names no limit of its own. 60 s, as nginx's send_timeout.
        close: saying goodbye, after which the connection is cut; None means 2.0 as well: a peer
            owes us nothing at that point. A goodbye over plain TCP waits for nothing, so that
            this limit is never reached there.
        idle: silence, in both directions at once, while an operation waits; a byte that comes or
            that the kernel takes, either way, renews it. Time in which no operation waits does not
            count, and a wait that ends without a byte leaves its silence to the next one. None,
            since `read` and `write` bound a wait already; it is for calls with a long limit or
            none, as HAProxy's timeout tunnel (RFC 5382 has routers keep a silent TCP connection for
            two hours, and many drop it after minutes).
        total: the life of the connection, from the moment the stream is made. None, since many
            live for long by design; HTTP servers bound it to spread their clients again (nginx's
            keepalive_time is 1 h, gRPC's MAX_CONNECTION_AGE is set by the operator).
        min_rate: a floor for the speed of a transfer, in each direction, over the last ``per``
            seconds of it; it cuts who sends, or takes, a byte at a time to hold a connection
            (Apache's mod_reqtimeout has MinRate=500 a second, since 2.4 by default). Only time in
            which a transfer waits counts. A read is one from the first byte of what it wants on;
            waiting for the first byte of a message is idleness, and not slowness. A `read_some`
            (or `chunks`) has no message: once a byte has come to one, the next ones are the same
            transfer, until this side writes while none of them waits. The window runs on from one
            message to the next of its direction: what is in it of the one before counts for both,
            and so does the time in which that came or went. A write is a transfer from its
            beginning on, and counts what the kernel takes, which takes much at once: let ``bytes``
            be less than the buffers of a socket hold. Never early, and at most a sixteenth of
            ``per`` late.
    """

    connect: float | None = 30.0
    resolve: float | None = 10.0
    attempt: float | None = 10.0
    handshake: float | None = 10.0
    read: float | None = 60.0
    write: float | None = 60.0
    close: float | None = 2.0
    idle: float | None = None
    total: float | None = None
    min_rate: Rate | None = None

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if value is None:
                continue
            if field.name == "min_rate":
                if not isinstance(value, Rate):
                    kind = type(value).__name__
                    raise TypeError(f"Timeouts.min_rate must be a netio.Rate or None, not {kind}")
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
