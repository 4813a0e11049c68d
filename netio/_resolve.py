"""Looking up names, within a limit that really holds.

``getaddrinfo`` of the C library can't be stopped. So each lookup runs in a daemon thread of its
own: one that is stuck is left behind when its limit is reached, and counted. It holds up neither
the loop, nor other lookups, nor the exit of the program. (asyncio runs lookups in the loop's
default executor: a few stuck ones fill it, and joining it delays the exit.)
"""

from __future__ import annotations

import asyncio
import socket
import threading
from collections import deque
from typing import TYPE_CHECKING, Final, NamedTuple
from weakref import WeakKeyDictionary

from netio._defaults import MAX_LOOKUPS
from netio._readiness import Readiness

if TYPE_CHECKING:
    from netio._errors import KnownAddress
    from netio._limits import Operation


class Target(NamedTuple):
    """One address to connect or bind to."""

    family: int
    address: KnownAddress


class _Lookup:
    """What the thread leaves for the loop."""

    __slots__ = ("error", "finished", "targets")

    def __init__(self) -> None:
        self.finished = False
        self.targets: list[Target] = []
        self.error: Exception | None = None


class Resolver:
    """The lookups of one loop: at most `MAX_LOOKUPS` threads, further lookups wait their turn."""

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
        try:
            return _addresses(host, port, flags | socket.AI_NUMERICHOST)
        except socket.gaierror:
            pass  # not numeric: somebody has to be asked
        readiness = Readiness(asyncio.get_running_loop())
        try:
            await self._take_place(operation, readiness)
            return await self._ask_in_thread(host, port, operation, flags, readiness)
        finally:
            readiness.release()

    async def _ask_in_thread(
        self, host: str | None, port: int, operation: Operation, flags: int, readiness: Readiness
    ) -> list[Target]:
        lookup = _Lookup()
        thread = threading.Thread(
            target=self._ask,
            args=(readiness.loop, lookup, operation, host, port, flags),
            name=f"netio lookup {host}",
            daemon=True,
        )
        self.running += 1
        thread.start()
        try:
            while not lookup.finished:
                _check(operation, readiness, f"the lookup of {host} is left in its thread")
                await readiness.park(operation)
        finally:
            if not lookup.finished:
                self.abandoned += 1
        if lookup.error is not None:
            raise lookup.error
        return lookup.targets

    async def _take_place(self, operation: Operation, readiness: Readiness) -> None:
        while self.running >= MAX_LOOKUPS:
            _check(operation, readiness, f"{self.running} lookups are still running")
            self._queue.append(operation)
            try:
                await readiness.park(operation)
            finally:
                if operation in self._queue:
                    self._queue.remove(operation)
                elif self._queue and self.running < MAX_LOOKUPS:
                    self._queue[0].wake()  # woken and cut at once: pass the place on

    def _ask(
        self,
        loop: asyncio.AbstractEventLoop,
        lookup: _Lookup,
        operation: Operation,
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
        try:
            loop.call_soon_threadsafe(self._deliver, lookup, operation, targets, error)
        except RuntimeError:
            pass  # the loop was closed meanwhile; nobody waits for the answer

    def _deliver(
        self,
        lookup: _Lookup,
        operation: Operation,
        targets: list[Target],
        error: Exception | None,
    ) -> None:
        lookup.targets, lookup.error, lookup.finished = targets, error, True
        self.running -= 1
        operation.wake()
        if self._queue:
            self._queue.popleft().wake()


def _check(operation: Operation, readiness: Readiness, progress: str) -> None:
    now = readiness.loop.time()
    if operation.deadline <= now:
        raise operation.exceeded(now, progress)


def _addresses(host: str | None, port: int, flags: int) -> list[Target]:
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=flags)
    # A Python without IPv6 gives addresses that are no addresses: (int, bytes).
    targets = [
        Target(family, (host, *rest))
        for family, _, _, _, (host, *rest) in found
        if isinstance(host, str)
    ]
    return list(dict.fromkeys(targets))


_resolvers: Final[WeakKeyDictionary[asyncio.AbstractEventLoop, Resolver]] = WeakKeyDictionary()


def resolver_of(loop: asyncio.AbstractEventLoop) -> Resolver:
    """The resolver of `loop`; its threads are counted there."""
    resolver = _resolvers.get(loop)
    if resolver is None:
        resolver = _resolvers[loop] = Resolver()
    return resolver
