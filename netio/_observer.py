"""What netio tells of itself to who wants to see: an observer, and how one is put to work."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, TypeVar

from netio._observing import watching

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from contextlib import AbstractContextManager

    from netio._errors import DeadlineExceeded
    from netio._observing import Wait
    from netio._scopes import Scope
    from netio._stream import Stream


class Observer:
    """Is told what netio does on a loop. Derive from it, and override what you want to see.

    Each method is called at the moment it speaks of, in the loop's thread, from within netio: it
    must be short, and use nothing that it is given but to look at it. What it raises is logged by
    the logger ``netio``, the first time, and goes no further. Later versions may tell more, by
    further methods; names that begin with an underscore are yours.
    """

    def scope_entered(self, scope: Scope, task: asyncio.Task[object]) -> None:
        """The block of `scope` begins, in `task`."""

    def scope_fired(self, scope: Scope, task: asyncio.Task[object]) -> None:
        """`scope` cuts its block: its deadline has passed, or (`Scope.expired` is False) by hand.

        `task` is the one whose block it is. This is called by the loop, outside any task.
        """

    def scope_left(
        self, scope: Scope, task: asyncio.Task[object], error: BaseException | None
    ) -> None:
        """The block of `scope` is over, with the `error` that came out of the block, or None.

        `Scope.caught` says whether the scope answers for it. `task` is the one that entered it.
        """

    def wait_began(self, wait: Wait) -> None:
        """An operation can't go on at once, and waits."""

    def wait_ended(self, wait: Wait) -> None:
        """The wait is over; `Wait.outcome` says how. The same object as when it began."""

    def timed_out(self, error: DeadlineExceeded) -> None:
        """A limit of an operation was reached. `error` is about to be raised; don't keep it.

        A part of an operation, an attempt to connect for instance, is told as well as the whole.
        Scopes are told by `scope_fired` and `scope_left`.
        """

    def stream_opened(self, stream: Stream) -> None:
        """A stream was made."""

    def stream_closed(self, stream: Stream, reason: str) -> None:
        """A stream is being closed by this side: ``"closed"``, ``"aborted"`` or ``"detached"``.

        `Stream.statistics` tells what it has done. (One that is forgotten is not told here: it
        warns when it is collected.)
        """

    def marked(self, name: str, category: str, details: Mapping[str, object]) -> None:
        """Somebody has marked this moment: a fault of the test kit that fires, for instance.

        `category` is the kind of thing it is, such as ``"fault"``; `details` are plain values.
        """


ObserverT = TypeVar("ObserverT", bound=Observer)


def observe(observer: ObserverT) -> AbstractContextManager[ObserverT]:
    """Have `observer` told what netio does on the running loop: ``with observe(...):``.

    Several may watch one loop, each for as long as its block runs, whatever the order in which
    these end. What was opened before the block is told from then on as it goes. While nobody
    watches, this costs nothing; while somebody does, a wait costs some microseconds more.

    Returns: a context manager, which gives the `observer`.

    Raises:
        RuntimeError: no loop is running.
        TypeError: `observer` is not an `Observer`.
    """
    if not isinstance(observer, Observer):
        raise TypeError(f"observer must be a netio.Observer, not {observer!r}")
    return _observing(observer, asyncio.get_running_loop())


@contextlib.contextmanager
def _observing(observer: ObserverT, loop: asyncio.AbstractEventLoop) -> Iterator[ObserverT]:
    with watching(observer, loop):
        yield observer
