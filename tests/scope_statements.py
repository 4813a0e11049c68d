"""What each statement of a program of scopes does, and what it tells the model."""

import asyncio
import math
from collections import Counter
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any

import anyio
from scope_model import ANYIO, OUTSIDE, Block, Ledger, judge, leave_shield, only_cancellation
from scope_programs import Statement
from scope_situations import note_situations
from scope_waits import BodyError, Pool, Work, cancel_and_wait, netio_wait_for, transfer

import netio
from netio._memory import memory_pair
from netio._stream import Stream

if TYPE_CHECKING:
    from scope_machine import ProgramLoop


NO_LIMITS = netio.Timeouts(read=None, write=None)


class Stopped(asyncio.CancelledError):
    """What some libraries make of a cancellation."""


class World:
    """One run of one program."""

    task: "asyncio.Task[None]"

    def __init__(self, loop: "ProgramLoop", seen: Counter[str], reported: list[str]) -> None:
        self.loop = loop
        self.seen = seen
        self.reported = reported  # of which scopes it was said that their block goes on
        self.blocks: list[Block] = []  # around the running statement, the outermost first
        self.ledger = Ledger(self.blocks)
        self.around: list[str] = []  # the same, and what else is entered: "scope", ANYIO, ...
        self.groups: list[asyncio.TaskGroup] = []
        self.timers: list[asyncio.Handle] = []
        self.children: list[asyncio.Task[None]] = []
        self.works: list[Work] = []
        self.pools = {"short": Pool(2), "long": Pool(5)}
        self.made = 0
        self.broken: list[str] = []

    def later(self, seconds: float, call: Callable[..., object], *args: Any) -> None:
        self.timers.append(self.loop.call_later(seconds, call, *args))

    def cancel_from_outside(self) -> None:
        self.task.cancel()

    def cancel_a_tick_later(self) -> None:
        self.loop.call_soon(self.cancel_from_outside)

    def child(self, seconds: float) -> "asyncio.Task[None]":
        self.children.append(asyncio.create_task(asyncio.sleep(seconds)))
        return self.children[-1]

    async def end_children(self) -> None:
        left = [*self.children, *(work.task for work in self.works if work.task and work.runs())]
        for child in left:
            child.cancel()
        if left:
            await asyncio.wait(left)
        for work in self.works:
            work.error()  # or asyncio says that nobody has asked for it

    def block(self, which: int) -> Block | None:
        return self.blocks[-1 - which] if which < len(self.blocks) else None


async def run_block(world: World, block: tuple[Statement, ...]) -> None:
    for word, *args in block:
        await STATEMENTS[word](world, *args)


async def sleep(world: World, seconds: float) -> None:
    await asyncio.sleep(seconds)


async def read(world: World, seconds: int, limit: float | str | None) -> None:
    near, far = small_pair(world.loop)
    timer = world.loop.call_later(seconds, far._channel.send, b"x")
    try:
        with transfer(world, "read", seconds, limit) as wait:
            await near.read_exactly(1, timeout=wait.given)
    finally:
        end(timer, near, far)


async def write(world: World, seconds: int, limit: float | str | None) -> None:
    near, far = small_pair(world.loop)
    timer = world.loop.call_later(seconds, far._channel.receive, 9)
    try:
        with transfer(world, "write", seconds, limit) as wait:
            await near.write(b"more than", timeout=wait.given)
    finally:
        end(timer, near, far)


def small_pair(loop: "ProgramLoop") -> tuple[netio.Stream, netio.Stream]:
    channels = memory_pair(loop, capacity=5)
    one, other = (Stream(channel, timeouts=NO_LIMITS, limit=99) for channel in channels)
    return one, other


def end(timer: asyncio.TimerHandle, *streams: netio.Stream) -> None:
    timer.cancel()
    for stream in streams:
        stream.abort()


async def wait_for(world: World, seconds: float, limit: float | None) -> None:
    await asyncio.wait_for(asyncio.sleep(seconds), limit)


async def join(world: World, seconds: float) -> None:
    await asyncio.wait([world.child(seconds)])


async def await_child(world: World, seconds: float) -> None:
    await world.child(seconds)


async def netio_join(world: World, seconds: float) -> None:
    child = world.child(seconds)
    with world.ledger.netio_waits():
        await netio.join(child, timeout=None)


async def cancel_myself(world: World) -> None:
    world.cancel_from_outside()


async def raise_error(world: World) -> None:
    raise BodyError


async def stubborn(world: World, times: int, seconds: float) -> None:
    for _ in range(times):
        try:
            await asyncio.sleep(seconds)
        except asyncio.CancelledError:
            pass


async def clean_up(world: World, block: Any, cleanup: Any) -> None:
    try:
        await run_block(world, block)
    finally:
        await run_block(world, cleanup)


async def swallow(world: World, block: Any) -> None:
    try:
        await run_block(world, block)
    except asyncio.CancelledError:
        pass


async def take_back(world: World, block: Any) -> None:
    """What a body may do that knows who cancelled it: the cancel that it met counts no more."""
    known = [cancel for cancel in world.ledger.standing if cancel.met]
    try:
        await run_block(world, block)
    except asyncio.CancelledError:
        for cancel in list(world.ledger.standing):
            if cancel.by == OUTSIDE and cancel.met and cancel not in known:
                world.task.uncancel()


async def replace(world: World, how: str, block: Any) -> None:
    try:
        await run_block(world, block)
    except asyncio.CancelledError as cancelled:
        if how == "subclass":
            raise Stopped from None
        if how == "group":
            raise BaseExceptionGroup("", [cancelled, Stopped()]) from None
        if how == "mixed group":
            raise BaseExceptionGroup("", [cancelled, BodyError()]) from None
        raise BodyError from None


async def handle(world: World, block: Any) -> None:
    try:
        await run_block(world, block)
    except (BodyError, TimeoutError, netio.StillRunning, ExceptionGroup):
        pass
    except BaseExceptionGroup as group:
        if only_cancellation(group):
            raise


async def reschedule(world: World, which: int, seconds: float | None) -> None:
    block = world.block(which)
    if block is not None and (seconds is not None or not block.shield):
        now = world.loop.time()
        to = None if seconds is None else now + seconds
        refused = bool(block.fired() or block.by_hand)
        try:
            block.scope.reschedule(to)
        except RuntimeError:
            if not refused:
                world.broken.append("law 7: a deadline that has not fired cannot be moved")
        else:
            if refused:
                world.broken.append("law 7: a deadline was moved after it fired")
            block.move(now, to)


async def cancel_scope(world: World, which: int, seconds: float) -> None:
    block = world.block(which)
    if block is not None and seconds:
        world.later(seconds, cancel_by_hand, world, block)
    elif block is not None:
        cancel_by_hand(world, block)


def cancel_by_hand(world: World, block: Block) -> None:
    if block in world.blocks:
        block.cancel(world.loop.time())
    block.scope.cancel()


async def run_scope(
    world: World, kind: str, seconds: float | None, grace: float | None, block: Any
) -> None:
    now, world.made = world.loop.time(), world.made + 1
    to = None if seconds is None else now + seconds
    given = to if kind.endswith("_at") else seconds
    scope = getattr(netio, kind)(given, name=str(world.made), grace=grace)
    here = Block(scope, world.ledger, now, math.inf if to is None else to)
    here.quiet, here.grace = kind.startswith("move_on"), grace
    await run_in(world, here, block)


async def run_shield(world: World, seconds: float, block: Any) -> None:
    now, world.made = world.loop.time(), world.made + 1
    scope = netio.shield(seconds, name=str(world.made))
    here = Block(scope, world.ledger, now, now + seconds)
    here.shield = True
    for around in world.ledger.not_held_back():
        around.hold_cuts(now)
    await run_in(world, here, block)


async def run_in(world: World, here: Block, block: Any) -> None:
    here.anyio_between = bool(world.blocks) and world.around[-1] == ANYIO
    world.blocks.append(here)
    world.around.append("scope")
    try:
        async with here.scope:
            try:
                await run_block(world, block)
            except BaseException as error:
                here.raised = error
                raise
            finally:
                here.left_at = world.loop.time()
    except BaseException as error:
        here.came_out = error
        raise
    finally:
        world.blocks.pop()
        world.around.pop()
        here.exact = not world.loop.busy_times
        if here.shield:
            leave_shield(here, world.blocks)
        here.reports = world.reported.count(f"{here.scope._limit} {here.scope.name!r}")
        world.broken += judge(here, world.task.cancelling())
        note_situations(here, world.seen)


async def run_asyncio(world: World, kind: str, seconds: float | None, block: Any) -> None:
    given = seconds
    if seconds is not None and kind == "timeout_at":
        given = world.loop.time() + seconds
    world.around.append("asyncio")
    try:
        async with getattr(asyncio, kind)(given):
            await run_block(world, block)
    finally:
        world.around.pop()


async def run_anyio(world: World, kind: str, seconds: float | None, block: Any) -> None:
    world.around.append(ANYIO)
    try:
        with getattr(anyio, kind)(seconds):
            await run_block(world, block)
    finally:
        world.around.pop()
        if ANYIO not in world.around and any(c.by == ANYIO for c in world.ledger.standing):
            world.broken.append("anyio has left a cancel behind")


async def run_group(world: World, block: Any) -> None:
    group = asyncio.TaskGroup()
    world.groups.append(group)
    world.around.append("group")
    try:
        async with group:
            try:
                await run_block(world, block)
            finally:
                world.groups.pop()
    finally:
        world.around.pop()
        world.ledger.left_groups.append(group)


async def start_child(world: World, kind: str, seconds: float) -> None:
    if world.groups:
        coroutine = CHILD_KINDS[kind](seconds)
        try:
            task = world.groups[-1].create_task(coroutine)
        except RuntimeError:  # the group is shutting down
            coroutine.close()
        else:
            if kind == "is cancelled":
                world.later(seconds, task.cancel)


async def fail(seconds: float) -> None:
    if seconds:
        await asyncio.sleep(seconds)
    raise BodyError


async def wait_long(seconds: float) -> None:
    await asyncio.sleep(9)


async def fail_when_cut(seconds: float) -> None:
    try:
        await asyncio.sleep(9)
    except asyncio.CancelledError:
        raise BodyError from None


async def clean_up_when_cut(seconds: float) -> None:
    try:
        await asyncio.sleep(9)
    finally:
        await asyncio.sleep(seconds)


CHILD_KINDS: dict[str, Callable[[float], Coroutine[Any, Any, None]]] = {
    "ends": asyncio.sleep,
    "fails": fail,
    "is cancelled": wait_long,
    "fails when cut": fail_when_cut,
    "cleans up": clean_up_when_cut,
}

STATEMENTS: dict[str, Callable[..., Coroutine[Any, Any, None]]] = {
    "sleep": sleep,
    "read": read,
    "write": write,
    "wait for": wait_for,
    "join": join,
    "netio join": netio_join,
    "netio wait for": netio_wait_for,
    "cancel and wait": cancel_and_wait,
    "await child": await_child,
    "cancel myself": cancel_myself,
    "raise": raise_error,
    "stubborn": stubborn,
    "clean up": clean_up,
    "swallow": swallow,
    "take back": take_back,
    "replace": replace,
    "handle": handle,
    "reschedule": reschedule,
    "cancel scope": cancel_scope,
    "scope": run_scope,
    "shield": run_shield,
    "asyncio": run_asyncio,
    "anyio": run_anyio,
    "group": run_group,
    "child": start_child,
}
