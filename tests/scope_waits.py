"""The waits of netio in programs of scopes, each held against what it must come to.

What ends a wait is known beforehand: what it waits for, its limit, or a cancel that the ledger was
told of and that is not held back. The first of them decides, and the moment is exact:

    a read, a write     returns, though its limit may be reached at that very moment; raises for
                        its limit; raises a `CancelledError` if, and only if, such a cancel came
    wait_for            the same for the work; if that is cancelled, it is so once, just then,
                        and `wait_for` comes back when it has ended, or the grace has, with
                        what law 24 says of it
    cancel_and_wait     likewise, with a cancel of all that still run when it begins

A `Budget` is spent by what the model has measured.
"""

import asyncio
import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import netio
from netio._defaults import TIMER_STEP_SECONDS

if TYPE_CHECKING:
    from scope_statements import World

CLEANUP_S = 2
ROUNDING_S = 1e-6


# What must happen in many programs.
WAIT_SITUATIONS = (
    "a limit ended a read or a write",
    "a budget ended a wait",
    "a budget was spent in several waits",
    "what came with the limit won",
    "wait_for reached its limit, and the work was cancelled",
    "wait_for returned a result that came late",
    "wait_for raised an error that came late",
    "work went on after the grace",
    "a cancel came while the work ended after the limit",
    "a cancel of wait_for had a late result",
    "a cancel of wait_for had an error as its cause",
    "a cancel came in the turn of the result",
    "cancel_and_wait ended several",
    "cancel_and_wait held a cancel back",
    "a wait for work in a shield held a cancel back",
)


class BodyError(Exception):
    """What a body raises of its own."""


class Pool:
    """A `Budget`, and what the model says is left of it."""

    def __init__(self, seconds: float) -> None:
        self.budget = netio.Budget(seconds)
        self.left = seconds
        self.spent = False  # some of it


class Work:
    """A task that ends as its kind says; `cuts` are the moments of the cancels that it has met."""

    def __init__(self, kind: str, seconds: float) -> None:
        self.kind, self.seconds = kind, seconds
        self.task: asyncio.Task[Any] | None = None  # None: it has not begun
        self.cuts: list[float] = []
        self.ended_at = -math.inf

    async def run(self) -> str:
        self.task = asyncio.current_task()
        now = asyncio.get_running_loop().time
        ends_at = now() + self.seconds
        try:
            while (left := ends_at - now()) >= 0:
                try:
                    await asyncio.sleep(left)
                    break
                except asyncio.CancelledError:
                    self.cuts.append(now())
                    if self.kind != "deaf":
                        raise
            if self.kind == "fails":
                raise BodyError
        except asyncio.CancelledError:
            if self.kind not in ("ends", "fails"):
                await self._clean_up()
            if self.kind == "returns late":
                return "late"
            if self.kind == "fails late":
                raise BodyError from None
            raise
        finally:
            self.ended_at = now()
        return "in time"

    async def _clean_up(self) -> None:
        try:
            await asyncio.sleep(CLEANUP_S)
        except asyncio.CancelledError:
            self.cuts.append(asyncio.get_running_loop().time())
            raise

    def runs(self) -> bool:
        return self.task is not None and not self.task.done()

    def error(self) -> BaseException | None:
        """What it has raised, and not its cancellation."""
        ended = self.task is not None and self.task.done() and not self.task.cancelled()
        return self.task.exception() if ended and self.task is not None else None

    def has_returned(self) -> bool:
        done = self.task is not None and self.task.done() and not self.task.cancelled()
        return done and self.error() is None


class Wait:
    """One wait of netio: what was to come of it, and what came of it."""

    def __init__(self, world: "World", name: str, limit: float | str | None) -> None:
        self.world, self.name = world, name
        self.began = world.loop.time()
        self.pool = world.pools[limit] if isinstance(limit, str) else None
        self.given: Any = limit if self.pool is None else self.pool.budget
        self.kind = "call" if self.pool is None else "budget"
        left = limit if self.pool is None else self.pool.left
        #: When its limit is reached.
        self.limit_at = math.inf if left is None else self.began + float(left)  # type: ignore[arg-type]
        self.asked = len(world.ledger.asked)
        self.pending = world.ledger.pending
        self.phantom = world.ledger._phantom

    @property
    def exact(self) -> bool:
        return not self.world.loop.busy_times

    def cancelled_at(self) -> float:
        """When the first cancel came that is not held back; infinity: none did."""
        if self.pending:
            return self.began
        came = self.world.ledger.asked[self.asked :]
        return min((cancel.at for cancel in came if not cancel.held), default=math.inf)

    def spend(self, until: float) -> None:
        """Its budget is spent until then."""
        pool = self.pool
        if pool is not None:
            self.note("a budget was spent in several waits", until > self.began and pool.spent)
            pool.spent = pool.spent or until > self.began
            left = max(0.0, pool.left - (until - self.began))
            self.look_at_pool()
            if abs(left - pool.left) > ROUNDING_S and self.exact:
                self.broken(f"the budget has {pool.left} s left, not {left}")

    def look_at_pool(self) -> None:
        """Go on from what its budget says of itself."""
        if self.pool is not None:
            self.pool.left = self.pool.budget.remaining()

    def note(self, situation: str, is_so: object) -> None:
        assert situation in WAIT_SITUATIONS
        self.world.seen[situation] += bool(is_so)

    def broken(self, what: str) -> None:
        self.world.broken.append(f"{self.name} from {self.began} on: {what}")

    def check_cancelled(self, error: BaseException | None) -> bool:
        """Whether it was cancelled; broken if that was not asked for, or is not what came of it."""
        asked_for = self.cancelled_at() < math.inf
        cancelled = isinstance(error, asyncio.CancelledError)
        if cancelled != asked_for and not self.phantom and not self.world.ledger.unsure:
            self.broken(f"a cancel came at {self.cancelled_at()}, and of it came {error!r}")
        return cancelled

    def check_moment(self, moment: float) -> None:
        now = self.world.loop.time()
        if now != moment and self.exact:
            self.broken(f"it was to end at {moment}, and has at {now}")

    def check_own_limit(self, error: BaseException | None) -> None:
        if not isinstance(error, netio.DeadlineExceeded):
            self.broken(f"at its limit, {self.limit_at}, it came to {error!r}")
        elif error.scope is not None or error.limit != self.kind:
            self.broken(f"its limit is called {error.limit}, of {error.scope}")


# Reads and writes. --------------------------------------------------------------------------------


@contextmanager
def transfer(
    world: "World", name: str, seconds: float, limit: float | str | None
) -> Iterator["Wait"]:
    """Around a read or a write for which the peer does its part in so many `seconds`."""
    ledger = world.ledger
    wait = Wait(world, name, limit)
    done_at, failure = wait.began + seconds, None
    try:
        if wait.limit_at > wait.began:
            with ledger.netio_waits():
                wait.pending = ledger.pending
                yield wait
        else:  # nothing is there, and nothing is waited for
            wait.pending = False
            yield wait
    except BaseException as error:
        failure = error
        raise
    finally:
        wait.spend(world.loop.time())
        judge_transfer(wait, done_at, failure)


def judge_transfer(wait: Wait, done_at: float, failure: BaseException | None) -> None:
    if wait.check_cancelled(failure):
        if not wait.phantom:
            wait.check_moment(wait.cancelled_at())
    elif failure is None:
        wait.check_moment(done_at)
        if done_at > wait.limit_at and wait.exact:
            wait.broken(f"it returned after its limit, {wait.limit_at}")
        wait.note("what came with the limit won", done_at == wait.limit_at)
    else:
        wait.check_own_limit(failure)
        wait.check_moment(wait.limit_at)
        if wait.began < wait.limit_at >= done_at and wait.exact:
            wait.broken(f"its limit, {wait.limit_at}, hides what came")
        wait.note("a limit ended a read or a write", True)
        wait.note("a budget ended a wait", wait.pool)


# Tasks. -------------------------------------------------------------------------------------------


async def netio_wait_for(
    world: "World", kind: str, seconds: float, limit: float | str | None, grace: float | None
) -> None:
    work = Work(kind, seconds)
    world.works.append(work)
    wait = Wait(world, "wait_for", limit)
    result, failure = None, None
    try:
        with world.ledger.netio_waits():
            wait.pending = world.ledger.pending
            result = await netio.wait_for(work.run(), wait.given, grace=grace)
    except BaseException as error:
        failure = error
        raise
    finally:
        judge_wait_for(wait, work, grace, result, failure)


def judge_wait_for(
    wait: Wait, work: Work, grace: float | None, result: object, failure: BaseException | None
) -> None:
    ends_at = wait.began + work.seconds
    cut_at = min(wait.limit_at, wait.cancelled_at())
    if wait.phantom and isinstance(failure, asyncio.CancelledError):
        wait.look_at_pool()  # when that came, nothing here knows
        return
    wait.spend(min(ends_at, cut_at))
    note_wait_for(wait, work, failure)
    judge_cuts(wait, work, cut_at, ends_at)
    judge_end(wait, [work], cut_at, grace)
    cancelled = wait.check_cancelled(failure)
    if cancelled:
        late = getattr(failure, "late_result", None)
        if (late is not None) != work.has_returned():
            wait.broken(f"late_result is {late!r}")
        judge_causes(wait, [work], failure.__cause__ if failure else None)
    elif work.runs():
        judge_causes(wait, [work], failure)
    elif work.error() is not None:
        if failure is not work.error():
            wait.broken(f"the work's {work.error()!r} became {failure!r}")
        if bool(work.cuts) != bool(getattr(failure, "__notes__", ())):
            wait.broken(f"the note on {failure!r} is wrong")
    elif work.has_returned():
        if failure is not None or result is None:
            wait.broken(f"the result became {failure!r}")
    else:
        wait.check_own_limit(failure)


def note_wait_for(wait: Wait, work: Work, failure: BaseException | None) -> None:
    cancelled_at = wait.cancelled_at()
    late = bool(work.cuts)
    if cancelled_at < math.inf:
        after = wait.limit_at < cancelled_at
        wait.note("a cancel came while the work ended after the limit", late and after)
        wait.note("a cancel of wait_for had a late result", late and work.has_returned())
        cause = failure.__cause__ if failure is not None else None
        wait.note("a cancel of wait_for had an error as its cause", isinstance(cause, BodyError))
        wait.note("a cancel came in the turn of the result", not late and work.has_returned())
    else:
        own = isinstance(failure, netio.DeadlineExceeded)
        wait.note("wait_for reached its limit, and the work was cancelled", own)
        wait.note("wait_for returned a result that came late", late and work.has_returned())
        wait.note("wait_for raised an error that came late", late and work.error())
        wait.note("a budget ended a wait", own and wait.pool)
    wait.note("work went on after the grace", work.runs())
    held = any(cancel.held for cancel in wait.world.ledger.asked[wait.asked :])
    wait.note("a wait for work in a shield held a cancel back", held)


async def cancel_and_wait(world: "World", kind: str, seconds: float, grace: float | None) -> None:
    """Ends two new pieces of work after so many seconds, or when it is cut, and all others."""
    new = {work: asyncio.create_task(work.run()) for work in (Work(kind, 3), Work("cleans up", 4))}
    world.works += new
    try:
        await asyncio.sleep(seconds)
    finally:
        works = [work for work in world.works if work.runs()]
        tasks = [work.task for work in works if work.task is not None]
        tasks += [task for work, task in new.items() if work.task is None]  # they never begin
        await end_works(world, works, tasks, grace)


async def end_works(
    world: "World", works: list[Work], tasks: "list[asyncio.Task[Any]]", grace: float | None
) -> None:
    wait = Wait(world, "cancel_and_wait", None)
    failure = None
    met = [len(work.cuts) for work in works]
    try:
        if any(not task.done() for task in tasks):
            with world.ledger.netio_waits():
                wait.pending = world.ledger.pending
                await netio.cancel_and_wait(*tasks, grace=grace)
        else:
            wait.pending = False
            await netio.cancel_and_wait(*tasks, grace=grace)
    except BaseException as error:
        failure = error
        raise
    finally:
        for work, before in zip(works, met, strict=True):
            if work.cuts[before:] != [wait.began] and wait.exact:
                wait.broken(f"the work was cut at {work.cuts[before:]}")
        judge_end(wait, works, wait.began, grace)
        wait.note("cancel_and_wait ended several", len(works) > 1)
        wait.note(
            "cancel_and_wait held a cancel back", wait.cancelled_at() < wait.world.loop.time()
        )
        if wait.check_cancelled(failure):
            failure = failure.__cause__ if failure else None
        judge_causes(wait, works, failure)


def judge_cuts(wait: Wait, work: Work, cut_at: float, ends_at: float) -> None:
    """It is cancelled once, at the moment, unless it ends by then."""
    if not wait.exact or work.task is None:
        return
    allowed = [[cut_at]] if ends_at > cut_at else [[]]
    if ends_at == cut_at and cut_at in (wait.cancelled_at(), wait.began):
        # In the order of the two; and a limit of zero is one turn, of which such work needs two.
        allowed = [[], [cut_at]]
    if work.cuts not in allowed:
        wait.broken(f"the work was cut at {work.cuts}, of {allowed}")


def judge_end(wait: Wait, works: list[Work], cut_at: float, grace: float | None) -> None:
    """It comes back when all have ended, or at the end of the grace."""
    if not any(work.runs() for work in works):
        wait.check_moment(max([wait.began, *(work.ended_at for work in works)]))
    elif grace is None:
        wait.broken("it came back though the work still runs")
    else:
        wait.check_moment(cut_at + max(grace, TIMER_STEP_SECONDS))


def judge_causes(wait: Wait, works: list[Work], failure: BaseException | None) -> None:
    """Who still runs is named first, and then what was raised."""
    deaf = tuple(work.task for work in works if work.runs())
    if deaf:
        if not isinstance(failure, netio.StillRunning) or set(failure.tasks) != set(deaf):
            wait.broken(f"{len(deaf)} are still running, and of it came {failure!r}")
            return
        failure = failure.__cause__
    raised = [error for work in works if (error := work.error()) is not None]
    told = list(failure.exceptions) if isinstance(failure, BaseExceptionGroup) else [failure]
    if set(told) != set(raised or [None]):
        wait.broken(f"{raised} became {failure!r}")
