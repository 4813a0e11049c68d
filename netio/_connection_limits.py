"""What bounds every operation of a stream: its deadlines, its life, its silence, its speed.

The limits themselves are with the two directions that obey them (`Receiver`, `Sender`), so that a
stream without them has nothing more to keep. Here is what becomes of them when one is assigned.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

from netio._moving import Floor, Idle, MovingLimit
from netio._operation import Standing

if TYPE_CHECKING:
    from collections.abc import Mapping

    from netio._limits import Deadline, Timeouts
    from netio._receiving import Receiver
    from netio._sending import Sender

    Deadlines = Mapping[str, Deadline]

NO_DEADLINES: Final[Mapping[str, Deadline]] = {}


def are_needed(timeouts: Timeouts) -> bool:
    """Whether `timeouts` bounds more than single operations."""
    return timeouts.idle is not None or timeouts.total is not None or timeouts.min_rate is not None


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
) -> tuple[tuple[MovingLimit, ...], tuple[MovingLimit, ...]]:
    """The moving limits of both directions; one that holds already goes on from where it is."""
    reads: list[MovingLimit] = []
    writes: list[MovingLimit] = []
    if timeouts.idle is not None:
        idle = next((limit for limit in receiver.moving if isinstance(limit, Idle)), None)
        if idle is None:
            idle = Idle(timeouts.idle)
        idle.seconds = timeouts.idle
        reads.append(idle)
        writes.append(idle)
    rate = timeouts.min_rate
    if rate is not None:
        floors = [floor for floor in (*receiver.moving, *sender.moving) if isinstance(floor, Floor)]
        if not floors or floors[0].rate != rate:
            coming = Floor(rate, "came")
            floors = [coming, Floor(rate, "went", answered=coming)]
        reads.append(floors[0])
        writes.append(floors[1])
    return tuple(reads), tuple(writes)
