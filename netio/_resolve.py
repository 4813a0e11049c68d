"""Looking up names, within a limit that really holds.

``getaddrinfo`` of the C library can't be stopped. So each lookup runs in a daemon thread of its
own: one that is stuck is left behind when its limit is reached, and counted. It holds up neither
the loop, nor other lookups, nor the exit of the program. (asyncio runs lookups in the loop's
default executor: a few stuck ones fill it, and joining it delays the exit.)
"""

from __future__ import annotations

import asyncio
import errno
import socket
import threading
import weakref
from collections import deque
from typing import TYPE_CHECKING, Any, Final, NamedTuple
from weakref import WeakKeyDictionary

from netio._defaults import MAX_LOOKUPS
from netio._readiness import Readiness

if TYPE_CHECKING:
    from netio._errors import KnownAddress
    from netio._operation import Operation


class Target(NamedTuple):
    """One address to connect or bind to."""

    family: int
    address: KnownAddress


class _Lookup:
    """What the thread leaves for the loop, and who waits for it; None: nobody any more."""

    __slots__ = ("error", "finished", "targets", "waiter")

    def __init__(self, waiter: Operation) -> None:
        self.waiter: Operation | None = waiter
        self.finished = False
        self.targets: list[Target] = []
        self.error: Exception | None = None


class SystemResolver:
    """The lookups of one loop: at most `MAX_LOOKUPS` threads, further lookups wait their turn.

    Attributes:
        running: threads that run now.
        abandoned: those among them whose answer nobody waits for any more.
    """

    def __init__(self) -> None:
        self._queue: deque[Operation] = deque()
        self.running = 0
        self.abandoned = 0

    async def lookup(
        self, host: str | None, port: int, operation: Operation, *, flags: int = 0
    ) -> list[Target]:
        """The addresses of `host`, in the order of the system's preference.

        Raises `DeadlineExceeded` at the operation's deadline, and what ``getaddrinfo`` raises.
        """
        numeric = numeric_targets(host, port, flags)
        if numeric is not None:
            return numeric
        readiness = Readiness(asyncio.get_running_loop())
        try:
            await self._take_place(operation, readiness)
            lookup = _Lookup(operation)
            self._start_thread(readiness.loop, lookup, host, port, flags)
            return await self._answer(lookup, operation, readiness)
        finally:
            readiness.release()

    async def _take_place(self, operation: Operation, readiness: Readiness) -> None:
        """One of the `MAX_LOOKUPS` places, in the order of the calls."""
        _check(operation, readiness, "the lookup was not begun")
        if self.running < MAX_LOOKUPS:
            self.running += 1
            return
        self._queue.append(operation)
        try:
            while operation in self._queue:
                await _park(operation, readiness)
                if operation in self._queue:
                    _check(operation, readiness, f"{self.running} other lookups are stuck")
        except BaseException:
            if operation in self._queue:
                self._queue.remove(operation)
            else:
                self._leave_place()  # given the place, and cut at once
            raise

    def _leave_place(self) -> None:
        """Give the place to the next in line, if there is one."""
        if self._queue:
            self._queue.popleft().wake()
        else:
            self.running -= 1

    def _start_thread(self, loop: asyncio.AbstractEventLoop, *work: Any) -> None:
        try:
            # The thread may be stuck for long, and must not keep a loop that nobody needs.
            threading.Thread(
                target=self._ask, args=(weakref.ref(loop), *work), name="netio lookup", daemon=True
            ).start()
        except RuntimeError as error:  # no more threads
            self._leave_place()
            raise OSError(errno.EAGAIN, f"no thread for the lookup: {error}") from error

    async def _answer(
        self, lookup: _Lookup, operation: Operation, readiness: Readiness
    ) -> list[Target]:
        try:
            while not lookup.finished:
                _check(operation, readiness, "the lookup is left behind in its thread")
                await _park(operation, readiness)
        except BaseException:
            if not lookup.finished:
                lookup.waiter = None
                self.abandoned += 1
            raise
        if lookup.error is not None:
            raise lookup.error.with_traceback(None)
        return lookup.targets

    def _ask(
        self,
        reference: weakref.ref[asyncio.AbstractEventLoop],
        lookup: _Lookup,
        host: str | None,
        port: int,
        flags: int,
    ) -> None:
        """In the thread: ask, and leave the answer to the loop, if it is still there."""
        targets: list[Target] = []
        error: Exception | None = None
        try:
            targets = _addresses(host, port, flags)
        except Exception as failed:
            error = failed
        loop = reference()
        try:
            if loop is not None:
                loop.call_soon_threadsafe(self._deliver, lookup, targets, error)
        except RuntimeError:
            pass  # the loop was closed meanwhile; nobody waits for the answer

    def _deliver(self, lookup: _Lookup, targets: list[Target], error: Exception | None) -> None:
        lookup.targets, lookup.error, lookup.finished = targets, error, True
        self._leave_place()
        if lookup.waiter is None:
            self.abandoned -= 1
        else:
            lookup.waiter.wake()


async def _park(operation: Operation, readiness: Readiness) -> None:
    await readiness.park(operation)
    await operation.let_scopes_answer(readiness.loop)


def _check(operation: Operation, readiness: Readiness, progress: str) -> None:
    now = readiness.loop.time()
    if operation.deadline <= now:
        raise operation.exceeded(now, progress)


def numeric_targets(host: str | None, port: int, flags: int = 0) -> list[Target] | None:
    """What `host` says itself, without a lookup; None: it is a name, and somebody has to be asked.

    No `host` at all is the address of this machine, or all of them where `flags` say so.
    """
    if _may_be_numeric(host):
        try:
            return _addresses(host, port, flags | socket.AI_NUMERICHOST)
        except socket.gaierror:
            pass
    return None


def _may_be_numeric(host: str | None) -> bool:
    """Whether asking for `host` in the loop's thread is worth it: a name is never asked there."""
    return host is None or ":" in host or host.rstrip(".").rpartition(".")[2][:1].isdigit()


def _addresses(host: str | None, port: int, flags: int) -> list[Target]:
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=flags)
    # A Python without IPv6 gives addresses that are no addresses: (int, bytes).
    targets = [
        Target(family, (host, *rest))
        for family, _, _, _, (host, *rest) in found
        if isinstance(host, str)
    ]
    return list(dict.fromkeys(targets))


_resolvers: Final[WeakKeyDictionary[asyncio.AbstractEventLoop, SystemResolver]] = (
    WeakKeyDictionary()
)


def resolver_of(loop: asyncio.AbstractEventLoop) -> SystemResolver:
    """The resolver of `loop`; its threads are counted there."""
    resolver = _resolvers.get(loop)
    if resolver is None:
        resolver = _resolvers[loop] = SystemResolver()
    return resolver
