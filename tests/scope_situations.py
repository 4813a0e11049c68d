"""What must happen in many random programs of scopes, or else they prove nothing."""

import asyncio
from collections import Counter
from collections.abc import Callable

from scope_model import ANYIO, GROUPS_LEAVE_CANCELS, OUTSIDE, Block, only_cancellation
from scope_waits import WAIT_SITUATIONS

import netio
from netio._shields import Shield


class Facts:
    """Of a block that was left, and of which the scope has fired."""

    def __init__(self, block: Block) -> None:
        [fired] = block.ledger.of(block.scope)[:1]
        asked, left = block.ledger.asked, block.ledger.left_groups
        others = block.others()
        self.block = block
        self.cuts = len(block.ledger.of(block.scope))
        self.held = [cancel for cancel in block.ledger.standing if cancel.held]
        self.answers = block.answers()
        self.error = block.raised is not None and not only_cancellation(block.raised)
        self.left_by_groups = [cancel for cancel in others if cancel.by in left]
        self.around = [cancel.by for cancel in others if cancel.by not in left]
        meanwhile = [c for c in asked if c.step >= block.step and c.by is not block.scope]
        outside = [c for c in meanwhile if c.by == OUTSIDE]
        together = [c for c in meanwhile if c.step == fired.step and not c.by_itself]
        self.earlier = [c for c in outside if c.step < fired.step]
        self.later = [c for c in outside if c.step > fired.step]
        self.taken_back = [c.by for c in meanwhile if c not in block.ledger.standing]
        self.scopes_together = [c for c in together if isinstance(c.by, netio.Scope)]
        self.just_before = [c for c in together if c.by == OUTSIDE and before(asked, c, fired)]
        self.just_after = [c for c in together if c.by == OUTSIDE and before(asked, fired, c)]

    def cut_around(self, kind: type) -> bool:
        return any(isinstance(by, kind) for by in self.around)


def before(items: list[object], one: object, other: object) -> bool:
    return items.index(one) < items.index(other)


def told(block: Block) -> bool:
    return block.reports > 0 and block.exact


SITUATIONS: dict[str, Callable[[Facts], object]] = {
    "it answered with an error": lambda f: f.answers and not (f.block.quiet or f.block.by_hand),
    "it answered quietly": lambda f: f.answers and f.block.quiet,
    "it was cancelled by hand": lambda f: f.answers and f.block.by_hand,
    "a cancel from outside beat one by hand": lambda f: f.block.by_hand and OUTSIDE in f.around,
    "a cancel was pending at entry": lambda f: f.block.pending,
    "a cancel from outside, then the expiry, in one tick": lambda f: f.just_before,
    "the expiry, then a cancel from outside, in one tick": lambda f: f.just_after,
    "it fired while a cancel from outside was unwound": lambda f: f.earlier and OUTSIDE in f.around,
    "a cancel from outside came while the expiry was unwound": lambda f: f.later,
    "it answered in the cleanup of an earlier cancel": lambda f: f.answers and f.block.met,
    "a cancel was taken back, and it answered": lambda f: f.answers and OUTSIDE in f.taken_back,
    "several scopes fired in one tick": lambda f: f.scopes_together,
    "a scope around it answered": lambda f: f.cut_around(netio.Scope),
    "the block swallowed it": lambda f: f.block.raised is None,
    "the block raised another error": lambda f: f.error,
    "a group failed in the block": lambda f: f.error and isinstance(f.block.raised, ExceptionGroup),
    "the block made something else of the CancelledError": (
        lambda f: f.answers and type(f.block.raised) is not asyncio.CancelledError
    ),
    "its deadline had been moved": lambda f: f.block.moved,
    "an asyncio.timeout around it cut it, too": lambda f: f.cut_around(asyncio.Timeout),
    "a task group around it cut it, too": lambda f: f.cut_around(asyncio.TaskGroup),
    "an anyio scope around it cut it, too": lambda f: ANYIO in f.around,
    "an anyio scope stands between it and a scope around it": lambda f: f.block.anyio_between,
    "an anyio scope within it was left cut": lambda f: ANYIO in f.taken_back,
    "an asyncio.timeout within it was left cut": (
        lambda f: any(isinstance(by, asyncio.Timeout) for by in f.taken_back)
    ),
}
# Of shields, and of what stands in them and around them.
SITUATIONS |= {
    "a shield answered at its bound": lambda f: f.answers and f.block.shield,
    "a scope was cut again after its grace": lambda f: f.cuts > 1,
    "a scope was cut three times and more": lambda f: f.cuts > 2,
    "a block that went on was reported": lambda f: told(f.block),
    "it answered while a cancel was held back": lambda f: f.answers and f.held,
    "a shield around it has cut it, too": lambda f: f.cut_around(Shield),
    "it was held back by a shield": lambda f: f.block.held_by_shield,
    "it was to be cut again, and a shield held that back": lambda f: f.block.recut_held,
}

# Also of a shield that has not fired.
LET_OUT: dict[str, Callable[[Block], object]] = {
    "a shield raised what it had held back": lambda b: b.let_out and b.raised is None,
    "a shield left what it had held back to be met later": (
        lambda b: b.let_out and b.raised is not None and not only_cancellation(b.raised)
    ),
    "a shield ended by a cancellation, and had held one back": (
        lambda b: b.let_out and only_cancellation(b.raised) and b.raised is not None
    ),
    "a shield gave what it had held back to one around it": lambda b: b.passed_out,
    "a limit of asyncio in a shield took its cancel back": lambda b: b.unsure,
}

if GROUPS_LEAVE_CANCELS:
    SITUATIONS["a task group left its cancel behind"] = lambda f: f.left_by_groups


ALL_SITUATIONS = (*SITUATIONS, *LET_OUT, *WAIT_SITUATIONS)


def note_situations(block: Block, seen: Counter[str]) -> None:
    if block.shield:
        seen.update(name for name, is_so in LET_OUT.items() if is_so(block))
    if block.fired():
        facts = Facts(block)
        seen.update(name for name, is_so in SITUATIONS.items() if is_so(facts))
