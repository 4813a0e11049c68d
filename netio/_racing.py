"""A race of attempts to connect (RFC 8305, "happy eyeballs"): the first one that answers wins.

The addresses take turns by family, and one after the other is tried: the next one as soon as an
attempt has failed, or when the latest is not answered for `ATTEMPT_DELAY_SECONDS`. Those begun
before it go on.

One task runs the race, and no other: attempts are looked at, and all of them end its wait by one
future (`DescriptorReadiness.watch_writable`). So there is no task whose result could be lost, or
whose cleanup could swallow a cancel. What is open is in `_running`, from the call that opens it
until it is closed or is the winner, with no suspension between: in whatever way the race ends, one
``finally`` closes the rest. ``docs/design/connecting.md`` draws it.
"""

from __future__ import annotations

import asyncio
import itertools
import math
from typing import TYPE_CHECKING, NamedTuple

from netio._defaults import ATTEMPT_DELAY_SECONDS, DEFAULT
from netio._errors import ConnectFailed, format_address
from netio._holding import give_turn
from netio._operation import Operation
from netio._readiness import Readiness, Waiter

if TYPE_CHECKING:
    from netio._attempts import Attempt
    from netio._channel import Channel
    from netio._network import Network
    from netio._observing import Wait
    from netio._resolve import Target


class _Run(NamedTuple):
    """One attempt under way."""

    place: int  # of its target, in the order in which they are tried
    attempt: Attempt
    operation: Operation


class Race(Waiter):
    """Attempts at several addresses, all under the limits of one operation, `whole`."""

    __slots__ = (
        "_begun",
        "_failures",
        "_loop",
        "_network",
        "_next_at",
        "_readiness",
        "_running",
        "_seconds",
        "_targets",
        "_whole",
        "_whose",
    )

    def __init__(
        self,
        targets: list[Target],
        whole: Operation,
        network: Network,
        seconds: float | None,
        *,
        whose: str = "",
    ) -> None:
        """`seconds` are those that each attempt may take; None: as many as the whole has.

        `whose` the addresses are, in errors, where they are not those of the `whole`.
        """
        super().__init__()
        self._whose = whose
        self._targets = interleaved(targets)
        self._whole = whole
        self._network = network
        self._seconds = seconds
        self._loop = asyncio.get_running_loop()
        self._begun = 0
        self._next_at = -math.inf  # when the next target is to be tried
        self._running: list[_Run] = []
        self._failures: dict[int, Exception] = {}  # by the place of the target
        self._readiness: Readiness | None = None  # on loopback most races are over at once

    @property
    def failures(self) -> list[Exception]:
        """One error for each address that has failed so far, in the order they were tried in."""
        return [self._failures[place] for place in sorted(self._failures)]

    async def winner(self) -> Channel:
        """The first connection that is made; nothing else is open when this returns or raises.

        Raises `ConnectFailed` when no address is left, `DeadlineExceeded` at the limit of `whole`.
        """
        try:
            while True:
                await give_turn()  # on loopback a connect answers without waiting (law 35)
                self._begin_next()
                while True:
                    channel = self._look()
                    if channel is not None:
                        return channel
                    now = self._loop.time()
                    self._give_up(now)
                    if self._next_at <= now:
                        break
                    await self._wait()
        finally:
            if self._readiness is not None:
                self._readiness.release()
            for run in self._running:
                run.attempt.close()

    def _begin_next(self) -> None:
        """Try the next target; when the limit has passed, the first one only (law 9)."""
        now = self._loop.time()
        if self._begun and self._whole.deadline <= now:
            return
        place, target = self._begun, self._targets[self._begun]
        self._begun += 1
        operation = Operation("connect", peer=target.address)
        operation.start(now, DEFAULT, self._seconds, "attempt")
        operation.within(self._whole)
        try:
            attempt = self._network.begin_dial(target)
        except OSError as error:
            self._has_failed(place, _named(error, target))
        else:
            self._running.append(_Run(place, attempt, operation))
            left = self._begun < len(self._targets)
            self._next_at = now + ATTEMPT_DELAY_SECONDS if left else math.inf

    def _look(self) -> Channel | None:
        """The connection of the first attempt that is answered, in the order they were begun in."""
        for run in tuple(self._running):
            try:
                channel = run.attempt.check()
            except OSError as error:
                self._leave(run, _named(error, self._targets[run.place]))
                continue
            if channel is not None:
                self._running.remove(run)
                return channel
        return None

    def _give_up(self, now: float) -> None:
        """Leave the attempts that take too long; raise when nothing is left to be tried."""
        late = [run for run in self._running if run.operation.deadline <= now]
        for run in late:
            self._leave(run, run.operation.exceeded(now, "the peer has not answered"))
        left = self._begun < len(self._targets)
        if (late or left) and self._whole.deadline <= now:
            failures = self.failures
            raise self._whole.exceeded(now, self._tried(), attempts=failures) from failures[-1]
        if not self._running and not left:
            failures = self.failures
            text = f"{self._whole}: {self._tried()}"  # the error in a local would make a cycle
            raise ConnectFailed(text, attempts=failures) from failures[-1]

    def _leave(self, run: _Run, failure: Exception) -> None:
        self._running.remove(run)
        run.attempt.close()
        self._has_failed(run.place, failure)

    def _has_failed(self, place: int, failure: Exception) -> None:
        self._failures[place] = failure
        self._next_at = -math.inf if self._begun < len(self._targets) else math.inf

    async def _wait(self) -> None:
        """Until an attempt has news, a limit is reached, or the next one is to begin."""
        if self._readiness is None:
            self._readiness = Readiness(self._loop)
        self.deadline = min(self._limit(), self._next_at)
        answered = self._readiness.park(self)
        for run in self._running:
            run.attempt.watch(self)
        await answered
        if self._limit() <= self._loop.time():
            await give_turn()  # to a scope that is due in the same tick (law 15)

    def _limit(self) -> float:
        """When the first of those under way has taken too long."""
        return min([run.operation.deadline for run in self._running])

    def _tried(self) -> str:
        failures, targets = self.failures, len(self._targets)
        reasons = "; ".join(str(getattr(error, "strerror", None) or error) for error in failures)
        tried = str(targets) if len(failures) == targets else f"{len(failures)} of {targets}"
        noun = "address" if targets == 1 else "addresses"
        of = f" of {self._whose}" if self._whose else ""
        return f"tried {tried} {noun}{of}: {reasons}"

    def describe(self, wait: Wait) -> None:
        self._running[0].operation.describe(wait)


def _named(error: OSError, target: Target) -> OSError:
    """The same error, with the address it belongs to in its message."""
    text = f"{format_address(target.address)}: {error.strerror or error}"
    named = OSError(error.errno, text) if error.errno else OSError(text)
    named.__cause__ = error.with_traceback(None)  # which would make a cycle
    return named


def interleaved(targets: list[Target]) -> list[Target]:
    """The families take turns, the first one's first; the order within a family is kept.

    RFC 8305, section 4, with a First Address Family Count of 1.
    """
    if len(targets) < 3:
        return targets
    families: dict[int, list[Target]] = {}
    for target in targets:
        families.setdefault(target.family, []).append(target)
    rounds = itertools.zip_longest(*families.values())
    return [target for turn in rounds for target in turn if target is not None]
