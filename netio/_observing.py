"""Telling observers what happens: who watches a loop, and what a wait looks like to them.

Free when unused: whoever has something to tell asks ``if observed:`` first, a look at a dict that
is empty unless somebody watches, and a hit on a buffer does not even ask. While somebody watches,
netio does what it would do otherwise, in the same ticks of the loop and with the same callbacks:
an observer sees the run that would have been. `Observer`, whose methods are named here by their
names since it knows classes that stand above this file, is in ``_observer.py``.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import logging
import math
from threading import get_ident
from typing import TYPE_CHECKING, Final, Protocol

from netio._holding import HeldFuture

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

    from netio._errors import Address

_logger = logging.getLogger("netio")


class _Registration:
    """One observer at work, and whether it was complained about."""

    __slots__ = ("complained", "observer")

    def __init__(self, observer: object) -> None:
        self.observer = observer
        self.complained = False


#: Who watches: a loop, or whatever loop runs in a thread (its identifier). A plain dict, since a
#: look at it must cost nothing; an entry stands only while a ``with`` block of `watching` does.
observed: Final[dict[asyncio.AbstractEventLoop | int, tuple[_Registration, ...]]] = {}


@contextlib.contextmanager
def watching(observer: object, where: asyncio.AbstractEventLoop | int) -> Iterator[None]:
    """Have `observer` told what happens in a loop, or in any loop of a thread."""
    registration = _Registration(observer)
    observed[where] = (*observed.get(where, ()), registration)
    try:
        yield
    finally:
        left = tuple(other for other in observed[where] if other is not registration)
        if left:
            observed[where] = left
        else:
            del observed[where]


def tell(loop: asyncio.AbstractEventLoop, event: str, *details: object) -> None:
    """Call the method `event` of each observer of `loop`; what one raises harms nobody."""
    for registration in (*observed.get(loop, ()), *observed.get(get_ident(), ())):
        try:
            getattr(registration.observer, event)(*details)
        except (Exception, asyncio.CancelledError):
            if not registration.complained:
                registration.complained = True
                text = "%s of observer %r failed; further failures of this observer are not logged"
                _logger.exception(text, event, registration.observer)


def mark(name: str, /, category: str = "mark", **details: object) -> None:
    """Tell the observers of the running loop of this moment; nothing happens without any.

    `category` is the kind of thing it is; the test kit's faults say ``"fault"``. `details` are
    plain values (numbers, texts, None).
    """
    if observed:
        with contextlib.suppress(RuntimeError):  # no loop is running, and so nobody watches it
            tell(asyncio.get_running_loop(), "marked", name, category, details)


@dataclasses.dataclass(slots=True, weakref_slot=True, eq=False)
class Wait:
    """One wait of an operation, for what its peer does or for its turn, as an observer sees it.

    It is the same object when the wait begins and when it has ended. A read or a write that does
    not have to wait makes none; one that is woken too early makes several.

    Attributes:
        operation: as errors name it, for instance ``"read_exactly(16)"``.
        peer: the address of the other side, or None.
        task: the task that waits.
        limit: which limit is the nearest, by its name in `DeadlineExceeded.limit`; ``""``: none.
        deadline: when that is reached, a `loop.time()` in seconds; infinity: never. Both are as
            they were when the wait began, or ended: a deadline may be moved meanwhile.
        began: a `loop.time()` in seconds.
        ended: likewise; None while it waits.
        done: bytes that have come, or that the kernel took, by the beginning or the end.
        expected: bytes that the operation needs, or None where that is open.
        outcome: ``""`` while it waits; then ``"ready"``, ``"end"`` (of the stream), ``"failed"``,
            ``"closed"`` (by this side) or ``"cancelled"``. Where a limit is reached, and nothing
            else was met, it is ``"ready"``, and `Observer.timed_out` follows.
        error: the failure met, if the outcome is ``"failed"``, else None.
        channel: what is waited on; the same object for all waits of one stream.
    """

    task: asyncio.Task[object] | None
    began: float
    channel: object
    operation: str = "wait"
    peer: Address = None
    limit: str = ""
    deadline: float = math.inf
    done: int = 0
    expected: int | None = None
    ended: float | None = None
    outcome: str = ""
    error: OSError | None = None


class Describing(Protocol):
    """One that waits, and can say what for: a `Waiter`."""

    def describe(self, wait: Wait) -> None:
        """Fill in all but the times, the task and the channel; `outcome` where one was met."""


class ObservedFuture(HeldFuture):
    """The future of a wait that somebody watches: it tells when it is awaited, and when that ends.

    In the task itself, so that no callback is added to the loop, which may be counting them.
    """

    def __init__(
        self, loop: asyncio.AbstractEventLoop, waiter: Describing, channel: object
    ) -> None:
        super().__init__(loop=loop)
        self._waiter = waiter
        self._channel = channel

    def __await__(self) -> Generator[asyncio.Future[None], None, None]:
        loop = self.get_loop()
        wait = Wait(asyncio.current_task(loop), loop.time(), self._channel)
        self._waiter.describe(wait)
        wait.outcome, wait.error = "", None
        tell(loop, "wait_began", wait)
        outcome = ""
        try:
            yield from super().__await__()
        except (asyncio.CancelledError, GeneratorExit):
            outcome = "cancelled"
            raise
        finally:
            self._waiter.describe(wait)
            wait.ended = loop.time()
            wait.outcome = outcome or wait.outcome or "ready"
            if wait.outcome != "failed":
                wait.error = None
            tell(loop, "wait_ended", wait)
