"""What must come out of a scope, by laws 14 to 19, from who cancelled its task and took that back.

The model knows nothing of how scopes work. A `Ledger` is told each call of `cancel` and `uncancel`
of one task, by whom, and each time that the task is resumed. A cancel *stands* until the one who
asked for it takes it back; what stands decides (`judge`):

    a scope that has fired answers for a cancellation that leaves its block, unless a cancel stands
    that is not its own and that the block was the first to meet.

Others are trusted to take back their own, with these exceptions, and no more:

- A task group before Python 3.13 leaves its cancel behind if a child fails while the group waits
  for its children, or fails eagerly: it still stands, so the scope around must stay safe and let a
  `CancelledError` pass (law 17). It may also take back a cancel that was not met yet, of which the
  `CancelledError` comes all the same. Since 3.13 neither is accepted.
- A task group since 3.13 posts a cancel that stands once more: by taking one back, whosever it is,
  and asking at once for another. That is the same cancel, and it is pending again.
- anyio's scopes cancel again on each tick, and an inner one may leave it to an outer one to take
  its cancels back. They count as one: nothing is asserted of what comes out of them, but that no
  cancel of theirs stands once the outermost has been left. Each cancel that stands is respected as
  any other's.
"""

import asyncio
import math
import sys
from dataclasses import dataclass, field
from typing import Any

import netio

OUTSIDE, ANYIO = "outside", "anyio"
GROUPS_LEAVE_CANCELS = sys.version_info < (3, 13)


@dataclass(eq=False, slots=True)
class Cancel:
    by: Any  # OUTSIDE, ANYIO, or the very scope, timeout or group
    at: float
    step: int  # how often the task had been resumed
    by_itself: bool  # by the running task
    met: bool = False  # the task has been resumed since


class Ledger:
    """Who has cancelled one task, and who has taken that back."""

    def __init__(self) -> None:
        self.asked: list[Cancel] = []
        self.standing: list[Cancel] = []
        self.pending = False  # asked for by the running task itself, and not met yet
        self.step = 0  # how often the task was resumed
        self.left_groups: list[asyncio.TaskGroup] = []
        self.faults: list[str] = []
        self._posted_again: Cancel | None = None
        self._phantom = False  # before 3.13: taken back while pending

    def cancelled(self, by: Any, at: float, running: bool) -> None:
        cancel, self._posted_again = self._posted_again, None
        if cancel is None or not isinstance(by, asyncio.TaskGroup):
            cancel = Cancel(by, at, self.step, running)
            self.asked.append(cancel)
        self.standing.append(cancel)
        self.pending = self.pending or running

    def taken_back(self, by: Any) -> None:
        cancel = next((one for one in reversed(self.standing) if one.by is by), None)
        if cancel is None and isinstance(by, asyncio.TaskGroup) and self.standing:
            cancel = self._posted_again = self.standing[-1]
        if cancel is None:
            self.faults.append(f"law 17: {by!r} took back a cancel that was not its own")
            return
        self.standing.remove(cancel)
        if self.pending and not self.standing:
            self.pending = False
            if cancel is not self._posted_again:
                self._phantom = GROUPS_LEAVE_CANCELS and isinstance(by, asyncio.TaskGroup)

    def resumed(self, cancelled: bool) -> None:
        if cancelled and not (self.standing or self._phantom):
            self.faults.append("a CancelledError came though no cancel stands")
        self.step += 1
        self.pending = self._phantom = False
        for cancel in self.standing:
            cancel.met = True

    def of(self, by: Any) -> list[Cancel]:
        return [cancel for cancel in self.asked if cancel.by is by]


@dataclass(eq=False)
class Block:
    """One scope in use: what was said to it and what it met, until its block ended."""

    scope: netio.Scope
    quiet: bool
    ledger: Ledger
    entered_at: float
    due: float  # fires at this moment, and never before the moment when that was said
    count: int  # cancelling() at entry
    exact: bool = True  # else time has passed though the loop was never idle
    by_hand: bool = False
    moved: bool = False
    anyio_between: bool = False  # an anyio scope stands between it and a scope around it
    left_at: float = 0.0
    raised: BaseException | None = None  # in the block
    came_out: BaseException | None = None  # of the scope
    before: list[Cancel] = field(default_factory=list)
    met: list[Cancel] = field(default_factory=list)  # of those, which its block cannot meet
    pending: bool = False
    step: int = 0

    def __post_init__(self) -> None:
        self.due = max(self.due, self.entered_at)
        self.before = list(self.ledger.standing)
        # Python tells whether a cancel is pending, but not which: all that stand may be.
        self.pending = self.ledger.pending
        self.met = [] if self.pending else self.before
        self.step = self.ledger.step

    def fired(self) -> Cancel | None:
        return next(iter(self.ledger.of(self.scope)), None)

    def others(self) -> list[Cancel]:
        """What stands of others, and was met in the block first."""
        standing = self.ledger.standing
        return [c for c in standing if c not in self.met and c.by is not self.scope]

    def answers(self) -> bool:
        """Laws 14 to 16 and 18, of a block that was left."""
        return bool(self.fired()) and only_cancellation(self.raised) and not self.others()

    def move(self, now: float, to: float | None) -> None:
        """The deadline moves, if it still may."""
        if not self.by_hand and not self.fired():
            self.due, self.moved = math.inf if to is None else max(to, now), True

    def cancel(self, now: float) -> None:
        """By hand, if that is still news."""
        if not self.by_hand and not self.fired():
            self.due, self.by_hand = now, True


def only_cancellation(error: BaseException | None) -> bool:
    if isinstance(error, BaseExceptionGroup):
        return all(only_cancellation(one) for one in error.exceptions)
    return isinstance(error, asyncio.CancelledError)


def judge(block: Block, count: int) -> list[str]:
    """The laws that a scope has broken, now that it was left with `cancelling()` at `count`."""
    broken = [*timing(block), *attribution(block), *counting(block, count)]
    return [f"scope {block.scope.name}: {what}" for what in broken]


def timing(block: Block) -> list[str]:
    """It fires once, at its moment, if the block suspends then, and acts through the loop."""
    fired, broken = block.ledger.of(block.scope), []
    if len(fired) > 1:
        broken.append(f"law 20: it has cut its block {len(fired)} times")
    if not fired and block.left_at > block.due and block.exact:
        broken.append(f"law 7: due at {block.due}, it had not fired at {block.left_at}")
    for cancel in fired:
        if cancel.at < block.due or (cancel.at > block.due and block.exact):
            broken.append(f"law 7: due at {block.due}, it fired at {cancel.at}")
        if not cancel.met:
            broken.append("law 8: it was left before its cancel was met")
    overrun = block.left_at - fired[0].at if fired else 0.0
    if block.scope.overrun != overrun:
        broken.append(f"overrun is {block.scope.overrun}, not {overrun}")
    return broken


def attribution(block: Block) -> list[str]:
    scope, raised, came_out = block.scope, block.raised, block.came_out
    expired, answers = bool(block.fired()) and not block.by_hand, block.answers()
    broken = []
    if scope.expired() != expired:
        broken.append(f"law 19: expired() is not {expired}")
    if scope.caught != answers:
        others = [cancel.by for cancel in block.others()]
        broken.append(f"laws 14-16: caught is not {answers}; others: {others}")
    if answers and expired and not block.quiet:
        if not isinstance(came_out, netio.DeadlineExceeded) or came_out.scope is not scope:
            broken.append(f"law 14: not its own DeadlineExceeded came out, but {came_out!r}")
    elif came_out is not (None if answers else raised):
        broken.append(f"laws 14-19: {raised!r} became {came_out!r}")
    noted = any(f"scope {scope.name!r} " in note for note in getattr(raised, "__notes__", ()))
    if noted != (expired and raised is not None and not only_cancellation(raised)):
        broken.append(f"law 18: the note on {raised!r} is {'wrong' if noted else 'missing'}")
    return broken


def counting(block: Block, count: int) -> list[str]:
    """Law 17: the count is what it was, and what others have added and taken back meanwhile."""
    standing = block.ledger.standing
    added = sum(cancel not in block.before for cancel in standing if cancel.by is not block.scope)
    gone = sum(cancel not in standing for cancel in block.before)
    expected = block.count + added - gone
    broken = [] if count == expected else [f"law 17: cancelling() is {count}, not {expected}"]
    left = [cancel for cancel in standing if cancel.by in block.ledger.left_groups]
    if left and not GROUPS_LEAVE_CANCELS:
        broken.append("a task group has left its cancel behind, which since 3.13 it does not")
    return broken
