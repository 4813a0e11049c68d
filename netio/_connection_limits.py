"""What bounds every operation of a stream: its deadlines, its life, its silence, its speed.

The limits themselves are with the two directions that obey them (`Receiver`, `Sender`), so that a
stream without them has nothing more to keep. Here is what becomes of them when one is assigned.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

from netio._arguments import check_loop
from netio._limits import check_deadline, check_timeouts
from netio._moving import Floor, Idle, Moving
from netio._operation import Standing

if TYPE_CHECKING:
    from collections.abc import Mapping

    from netio._channel import Channel
    from netio._limits import Deadline, Timeouts
    from netio._receiving import Receiver
    from netio._sending import Sender

    Deadlines = Mapping[str, Deadline]

NO_DEADLINES: Final[Mapping[str, Deadline]] = {}


def are_needed(timeouts: Timeouts) -> bool:
    """Whether `timeouts` bounds more than single operations."""
    return timeouts.idle is not None or timeouts.total is not None or timeouts.min_rate is not None


class HasLimits:
    """The part of a stream that is about its limits."""

    __slots__ = ("_born", "_deadlines", "_timeouts")

    _born: float
    _channel: Channel
    _deadlines: Mapping[str, Deadline]
    _receiver: Receiver
    _sender: Sender
    _timeouts: Timeouts

    @property
    def timeouts(self) -> Timeouts:
        """The limits of this connection.

        Assigning applies `read`, `write` and `close` to calls that begin later, and `idle`, `total`
        and `min_rate` also to operations that wait already. A silence goes on under another `idle`
        and a life under another `total`; another `min_rate` begins a window of its own.

        Raises: TypeError for what is not a `Timeouts`, RuntimeError in another loop or thread.
            Nothing is changed then.
        """
        return self._timeouts

    @timeouts.setter
    def timeouts(self, timeouts: Timeouts) -> None:
        check_loop(self._channel.loop, "timeouts", "stream")
        check_timeouts(timeouts)
        self._timeouts = self._receiver.timeouts = self._sender.timeouts = timeouts
        self._apply_limits()

    @property
    def deadline(self) -> Deadline | None:
        """A point in time for all reads and writes of this stream, or None.

        As in Go: it holds for every operation until it is changed. Assigning applies to an
        operation that waits already, and a later point revives a stream whose deadline passed.

        Raises: TypeError for what is neither a `Deadline` nor None, RuntimeError in another event
            loop or thread. Nothing is changed then.
        """
        return self._deadlines.get("deadline")

    @deadline.setter
    def deadline(self, deadline: Deadline | None) -> None:
        self._set_deadline("deadline", deadline)

    @property
    def read_deadline(self) -> Deadline | None:
        """As `deadline`, for reads only; the earlier one of the two holds. None: no such point."""
        return self._deadlines.get("read_deadline")

    @read_deadline.setter
    def read_deadline(self, deadline: Deadline | None) -> None:
        self._set_deadline("read_deadline", deadline)

    @property
    def write_deadline(self) -> Deadline | None:
        """As `deadline`, for writes only; the earlier one of the two holds. None: no such point."""
        return self._deadlines.get("write_deadline")

    @write_deadline.setter
    def write_deadline(self, deadline: Deadline | None) -> None:
        self._set_deadline("write_deadline", deadline)

    def _set_deadline(self, name: str, deadline: Deadline | None) -> None:
        check_loop(self._channel.loop, name, "stream")
        check_deadline(deadline, name)
        others = {n: d for n, d in self._deadlines.items() if n != name}
        self._deadlines = others if deadline is None else {**others, name: deadline}
        self._apply_limits()

    def _apply_limits(self) -> None:
        apply_limits(self._receiver, self._sender, self._timeouts, self._deadlines, self._born)


def apply_limits(
    receiver: Receiver, sender: Sender, timeouts: Timeouts, deadlines: Deadlines, born: float
) -> None:
    """Have all operations of a stream, which was made at `born`, obey these from now on (law 7)."""
    reads, writes = _moving(receiver, sender, timeouts)
    now = receiver.channel.loop.time()
    for direction, name, moving in ((receiver, "read", reads), (sender, "write", writes)):
        standing = _standing(timeouts, deadlines, ("deadline", f"{name}_deadline"), born)
        direction.set_limits(standing, moving, now)


def _standing(
    timeouts: Timeouts, deadlines: Deadlines, names: tuple[str, ...], born: float
) -> Standing:
    """The nearest of the points that stay; a deadline answers where the life ends with it."""
    when = min((deadlines[name].when for name in names if name in deadlines), default=math.inf)
    total = timeouts.total
    if total is not None and born + total < when:
        return Standing(born + total, "total", total)
    return Standing(when)


def _moving(
    receiver: Receiver, sender: Sender, timeouts: Timeouts
) -> tuple[Moving | None, Moving | None]:
    """The moving limits of both directions; one that holds already goes on from where it is."""
    reads, writes = receiver.moving, sender.moving
    idle, rate = None, timeouts.min_rate
    if timeouts.idle is not None:
        idle = None if reads is None else reads.idle
        if idle is None:
            idle = Idle(timeouts.idle)
        idle.seconds = timeouts.idle
    coming = None if reads is None else reads.floor
    going = None if writes is None else writes.floor
    if rate is None:
        coming = going = None
    elif coming is None or coming.rate != rate:
        coming = Floor(rate, "came")
        going = Floor(rate, "went", answered=coming)
    if idle is None and rate is None:
        return None, None
    return Moving(idle, coming), Moving(idle, going)
