"""Carrying a limit to another process: as the milliseconds that are left, less a margin.

Clocks of two machines differ, so that a point in time means nothing to the other one; what is left
does. gRPC says the same of its deadlines, which it sends as a timeout from which the time that has
passed is taken away (``grpc-timeout``, in its guide on deadlines).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

from netio._arguments import check_count
from netio._errors import DeadlineExceeded, format_seconds
from netio._limits import Deadline, check_deadline, check_seconds
from netio._scopes import scopes_that_count

if TYPE_CHECKING:
    from netio._scopes import Scope

#: No more milliseconds than this are sent, or believed: 115 days. The Connect protocol's header
#: ``connect-timeout-ms`` has ten digits at most (in ``grpc-timeout`` there are eight, and a unit).
MAX_MS: Final = 10**10 - 1

# A difference of two floats may be a hair below the whole number that it stands for.
_HAIR_MS: Final = 1e-6


def remaining_ms(deadline: Deadline | None = None, *, margin: float = 0.0) -> int | None:
    """The milliseconds that another process has for its part, to be sent along with a request.

    That is what is left of the nearest enclosing scope (see `remaining`), or of `deadline` where
    that is nearer, less `margin`: seconds that this side keeps, for the way there and back and
    for its own work on the answer. Whole milliseconds, rounded down, so that the limit of the
    other process is never later than the one here; at most ten digits of them. `deadline` None:
    the scopes alone.

        ms = netio.remaining_ms(margin=0.05)
        headers = {} if ms is None else {"x-timeout-ms": str(ms)}

    Sent as what is left and not as a point in time, since the clocks of two machines differ; as
    gRPC (``grpc-timeout``: ``f"{ms}m"``, for no more than eight digits) and the Connect protocol
    (``connect-timeout-ms``) do. The other side makes a limit of it by `deadline_after_ms`.

    Returns: milliseconds, 1 or more; None: there is no limit, and nothing is to be sent of it.

    Raises:
        DeadlineExceeded: less than a millisecond is left after the margin; the request would come
            too late, and is better not sent. `limit` is ``"scope"`` or ``"shield"``, with the
            scope, or ``"deadline"``; `seconds` is what was left.
        TypeError: `margin` is not a number, or `deadline` not a `Deadline`.
        ValueError: `margin` is negative, NaN or infinite.
    """
    margin = check_seconds(margin, "margin")
    if not 0 <= margin < math.inf:
        raise ValueError(f"margin must be a finite number of seconds, 0 or more, not {margin}")
    check_deadline(deadline, "deadline")
    scope, left = _nearest_scope()
    if deadline is not None and deadline.remaining() <= left:
        scope, left = None, deadline.remaining()
    if left == math.inf:
        return None
    ms = math.floor(min((left - margin) * 1000 + _HAIR_MS, MAX_MS))
    if ms < 1:
        raise _nothing_left(scope, left, margin)
    return ms


def deadline_after_ms(ms: int | None) -> Deadline:
    """The deadline of which another process says that it is `ms` milliseconds away; None: never.

    The other end of `remaining_ms`. What a peer sends may be anything: 0 is a point that has come,
    and what has more than ten digits is taken as the largest number that has ten (115 days). The
    time that the request was on its way is not known, and not in it: that is what the margin is
    for. Needs a running loop, whose clock it reads.

        async with netio.timeout_at(netio.deadline_after_ms(ms), name="the client's limit"):
            ...

    Returns: a `Deadline`, for a scope or for ``timeout=``.

    Raises:
        TypeError: `ms` is not an int (a text is first made one, and refused where it is none).
        ValueError: `ms` is negative.
    """
    if ms is None:
        return Deadline.after(None)
    return Deadline.after(min(check_count(ms, "ms"), MAX_MS) / 1000)


def _nearest_scope() -> tuple[Scope | None, float]:
    """The scope that is reached first, and the seconds until then; of equal ones the outermost."""
    nearest, left = None, math.inf
    for scope in scopes_that_count():
        of_scope = scope.remaining()
        if of_scope <= left:
            nearest, left = scope, of_scope
    return nearest, left


def _nothing_left(scope: Scope | None, left: float, margin: float) -> DeadlineExceeded:
    title = "the deadline" if scope is None else scope._title
    kept = f", and the margin is {format_seconds(margin)}" if margin else ""
    return DeadlineExceeded(
        f"remaining_ms: {title} has {format_seconds(left)} left{kept}; there is not a millisecond "
        "to give to another process",
        limit="deadline" if scope is None else scope._limit,
        operation="remaining_ms",
        seconds=left,
        scope=scope,
    )
