"""What must come out of a scope, by laws 14 to 22, from who cancelled its task and took that back.

The model knows nothing of how scopes work. A `Ledger` is told each call of `cancel` and `uncancel`
of one task, by whom, and each time that the task is resumed. A cancel *stands* until the one who
asked for it takes it back; what stands decides (`judge`):

    a scope that has fired answers for a cancellation that leaves its block, unless a cancel stands
    that is not its own and that the block was the first to meet.

A cancel from outside that comes while the task waits in an operation of netio, inside a shield, is
*held back*: it is not met, and decides nothing until the outermost shield is left.

What can't be known is not asserted: if a limit of asyncio in a shield takes back its cancel, which
was held back, netio learns that from the count, and where more cancels stand not even from that.

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
import contextlib
import math
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import netio
from netio._defaults import STUBBORN_SECONDS, TIMER_STEP_SECONDS

OUTSIDE, ANYIO = "outside", "anyio"
CANCELS_ARE_REMEMBERED = GROUPS_LEAVE_CANCELS = sys.version_info < (3, 13)


@dataclass(eq=False, slots=True)
class Cancel:
    by: Any  # OUTSIDE, ANYIO, or the very scope, timeout or group
    at: float
    step: int  # how often the task had been resumed
    by_itself: bool  # by the running task
    met: bool = False  # the task has been resumed since
    held: bool = False  # back, by a shield
    again: bool = False  # a group has posted it once more, and it is not met since
    again_at: float = -math.inf  # and when


class Ledger:
    """Who has cancelled one task, and who has taken that back."""

    def __init__(self, blocks: list["Block"]) -> None:
        self.blocks = blocks  # in use, the outermost first
        self.waits_shielded = False  # in an operation of netio, inside a shield
        self.unsure = False  # which cancel is held back, inside the outermost shield
        self.asked: list[Cancel] = []
        self.standing: list[Cancel] = []
        self.pending = False  # asked for by the running task itself, and not met yet
        self.step = 0  # how often the task was resumed
        self.left_groups: list[asyncio.TaskGroup] = []
        self.faults: list[str] = []
        self._posted_again: Cancel | None = None
        self._phantom = False  # taken back while pending, and it comes all the same

    def cancelled(self, by: Any, at: float, running: bool) -> None:
        cancel, self._posted_again = self._posted_again, None
        if cancel is None or not isinstance(by, asyncio.TaskGroup):
            cancel = Cancel(by, at, self.step, running)
            self.asked.append(cancel)
        else:
            cancel.again, cancel.again_at = True, at
        self.standing.append(cancel)
        self.pending = self.pending or running
        if isinstance(by, netio.Scope):
            self._cut(by, at)
        elif by != ANYIO:  # of which the scopes around a shield are kept out
            cancel.held = self.waits_shielded

    def _cut(self, scope: netio.Scope, at: float) -> None:
        """A scope cuts its block, which it must not do over a shield that stands inside."""
        place = next((n for n, b in enumerate(self.blocks) if b.scope is scope), None)
        if place is None:
            self.faults.append(f"{scope.name} has cut though it is not in use")
        elif any(block.shield for block in self.blocks[place + 1 :]):
            self.faults.append(f"law 22: scope {scope.name} has cut over a shield inside")
        else:
            self.blocks[place].cut(at)

    def not_held_back(self) -> list["Block"]:
        """The blocks without a shield inside of them."""
        shields = [n for n, block in enumerate(self.blocks) if block.shield]
        return self.blocks[shields[-1] if shields else 0 :]

    @contextlib.contextmanager
    def netio_waits(self) -> Iterator[None]:
        """While an operation of netio waits: in a shield, what is pending is held back, too."""
        self.waits_shielded = any(block.shield for block in self.blocks)
        inside = [block.scope for block in self.not_held_back()]
        # What is pending where a scope inside has cut may be its own, posted again by a group.
        if self.waits_shielded and self.pending and not any(c.by in inside for c in self.standing):
            self.pending = False
            # Of several only one is told of: the others count as met, which is the safe side.
            unmet = [cancel for cancel in self.standing if cancel.again or not cancel.met]
            for cancel in (unmet or self.standing)[-1:]:
                cancel.held = True
                # Posted again by a group: the hold takes it for one from outside.
                self.unsure = self.unsure or isinstance(cancel.by, netio.Scope)
        try:
            yield
        finally:
            self.waits_shielded = False

    def taken_back(self, by: Any) -> None:
        standing = [one for one in self.standing if one.by is by]
        standing.sort(key=lambda one: one.met)  # who takes one back knows of it
        cancel = standing[-1] if standing else None
        if cancel is None and isinstance(by, asyncio.TaskGroup) and self.standing:
            cancel = self._posted_again = self.standing[-1]
        if cancel is None:
            self.faults.append(f"law 17: {by!r} took back a cancel that was not its own")
            return
        self.standing.remove(cancel)
        self.unsure = self.unsure or cancel.held
        if self.pending and not self.standing:
            self.pending = False
            if cancel is not self._posted_again:
                self._phantom = CANCELS_ARE_REMEMBERED
        elif self.pending and all(one.held for one in self.standing):
            self._phantom = (
                True  # Python forgets what is pending when the count is zero, which it is not
            )

    def resumed(self, cancelled: bool) -> None:
        if cancelled and all(cancel.held for cancel in self.standing) and not self._phantom:
            self.faults.append("a CancelledError came though no cancel stands that is not held")
        self.step += 1
        self.pending = self._phantom = False
        for cancel in self.standing:
            cancel.met, cancel.again = cancel.met or not cancel.held, False

    def posted(self, at: float) -> bool:
        """Whether a cancel was asked for at that moment, or posted once more."""
        return any(at in (cancel.at, cancel.again_at) for cancel in self.asked)

    def of(self, by: Any) -> list[Cancel]:
        return [cancel for cancel in self.asked if cancel.by is by]


@dataclass(eq=False)
class Block:
    """One scope in use: what was said to it and what it met, until its block ended."""

    scope: netio.Scope
    ledger: Ledger
    entered_at: float
    due: float  # fires at this moment, and never before the moment when that was said
    quiet: bool = False
    shield: bool = False
    grace: float | None = None
    count: int = 0  # cancelling() at entry
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
    next_cut: float = math.inf  # after the first one
    pause: float = math.inf
    missed: list[float] = field(default_factory=list)  # cuts that did not come
    cuts_unsure: bool = False  # whether one has come before a shield began, or is held back by it
    reports: int = 0
    let_out: bool = False  # a shield: what it has held back
    unsure: bool = False  # whether a cancel is held back or met: the scope can't know
    passed_out: bool = False  # a shield: to one around it
    held_by_shield: bool = False  # it was due while a shield stood inside
    recut_held: bool = False  # the same, of a cut after its grace

    def __post_init__(self) -> None:
        task = asyncio.current_task()
        assert task is not None
        self.count = task.cancelling()
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
        return [c for c in standing if c not in self.met and c.by is not self.scope and not c.held]

    def answers(self) -> bool:
        """Laws 14 to 16 and 18, of a block that was left."""
        return bool(self.fired()) and only_cancellation(self.raised) and not self.others()

    def cut(self, at: float) -> None:
        """It has cut its block; when is the next time (law 20)?"""
        if self.next_cut == math.inf:
            self.pause = math.inf if self.grace is None else max(self.grace, TIMER_STEP_SECONDS)
        else:
            self.settle_cuts(at)
            if at != self.next_cut:
                self.missed.append(self.next_cut)
            self.pause *= 2
        self.next_cut = at + self.pause

    def settle_cuts(self, now: float) -> None:
        """Those before `now` have come, unless another cancel was about to be met just then."""
        while self.next_cut < now:
            if not self.ledger.posted(self.next_cut):
                self.missed.append(self.next_cut)
            self.pause *= 2
            self.next_cut += self.pause

    def hold_cuts(self, now: float) -> None:
        """A shield begins inside."""
        self.settle_cuts(now)
        self.cuts_unsure = self.cuts_unsure or (self.next_cut == now and self.ledger.posted(now))

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


def leave_shield(shield: Block, around: list[Block]) -> None:
    """What was due meanwhile is due now; what was held back comes out, or goes to a shield around.

    It is raised at the end of a block that ends well, and is what comes out of one that is
    cancelled. If an error comes out, it is met later.
    """
    now, ledger = shield.left_at, shield.ledger
    shield.unsure = ledger.unsure
    for block in around:
        if not block.fired() and block.due <= now:
            block.due, block.held_by_shield = now, True
        elif block.next_cut <= now:
            block.next_cut, block.recut_held = now, True
    if any(block.shield for block in around):
        shield.passed_out = any(cancel.held for cancel in ledger.standing)
        return
    ledger.unsure = False
    held = [cancel for cancel in ledger.standing if cancel.held]
    # What is pending already is met at the next suspension, and what was held back with it.
    with_it = ledger.pending and shield.raised is None and shield.came_out is None
    shield.let_out = bool(held) and not with_it
    failed = shield.raised is not None and not only_cancellation(shield.raised)
    for cancel in held:
        cancel.held, cancel.met = False, cancel.met or not (failed or with_it)
    if failed and held:
        ledger.pending = True
        for block in around:  # who finds that it is about to be met does not cut
            block.cuts_unsure = block.cuts_unsure or block.next_cut == now


def judge(block: Block, count: int) -> list[str]:
    """The laws that a scope has broken, now that it was left with `cancelling()` at `count`."""
    broken = [*timing(block), *attribution(block), *counting(block, count)]
    return [f"scope {block.scope.name}: {what}" for what in broken]


def timing(block: Block) -> list[str]:
    """It fires once, at its moment, if the block suspends then, and acts through the loop."""
    fired, broken = block.ledger.of(block.scope), []
    if len(fired) > 1 and block.grace is None:
        broken.append(f"law 20: it has cut its block {len(fired)} times")
    block.settle_cuts(block.left_at)
    if block.missed and block.exact and not block.cuts_unsure:
        broken.append(f"law 20: it has not cut its block again at {block.missed}")
    if not fired and block.left_at > block.due and block.exact:
        broken.append(f"law 7: due at {block.due}, it had not fired at {block.left_at}")
    if fired and (fired[0].at < block.due or (fired[0].at > block.due and block.exact)):
        broken.append(f"law 7: due at {block.due}, it fired at {fired[0].at}")
    if not all(cancel.met for cancel in fired):
        broken.append("law 8: it was left before its cancel was met")
    overrun = block.left_at - fired[0].at if fired else 0.0
    if block.scope.overrun != overrun:
        broken.append(f"overrun is {block.scope.overrun}, not {overrun}")
    least, most = (overrun > STUBBORN_SECONDS + grain for grain in (1e-6, -1e-6))
    if not least <= block.reports <= most and block.exact:
        broken.append(f"law 21: it was reported {block.reports} times, {overrun} s too late")
    return broken


def attribution(block: Block) -> list[str]:
    scope, raised, came_out = block.scope, block.raised, block.came_out
    expired, answers = bool(block.fired()) and not block.by_hand, block.answers()
    broken: list[str] = []
    others = [c for c in block.ledger.standing if c.by is not scope]
    if others and (block.unsure or block.ledger.unsure):
        return broken
    if scope.expired() != expired:
        broken.append(f"law 19: expired() is not {expired}")
    if scope.caught != answers:
        others = [cancel.by for cancel in block.others()]
        broken.append(f"laws 14-16: caught is not {answers}; others: {others}")
    if answers and expired and not block.quiet:
        limit = "shield" if block.shield else "scope"
        if not isinstance(came_out, netio.DeadlineExceeded) or came_out.scope is not scope:
            broken.append(f"law 14: not its own DeadlineExceeded came out, but {came_out!r}")
        elif came_out.limit != limit:
            broken.append(f"law 14: its limit is called {came_out.limit}")
    elif block.let_out and raised is None:
        if type(came_out) is not asyncio.CancelledError:
            broken.append(f"law 22: what was held back was not raised, but {came_out!r}")
    elif came_out is not (None if answers else raised):
        broken.append(f"laws 14-19: {raised!r} became {came_out!r}")
    noted = any(
        f"{scope._limit} {scope.name!r} " in note for note in getattr(raised, "__notes__", ())
    )
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
