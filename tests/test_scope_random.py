"""Random programs of scopes, cancels and cleanups, each exit of a scope held against laws 14 to 19.

Deadlines, sleeps and cancels fall on whole seconds of a virtual clock, so that most of them
collide; which of those due at one moment comes first is random, too.
"""

import asyncio
import math
import random
from dataclasses import dataclass, field
from typing import Any

import pytest
from virtual import VirtualLoop

import netio

PROGRAMS = 2000
DEPTH_MAX = 3


class BodyError(Exception):
    """What a body raises of its own."""


# A program is a tree of tuples: a word, and what it needs. ---------------------------------------


def random_block(rng: random.Random, depth: int) -> list[tuple[Any, ...]]:
    return [random_statement(rng, depth) for _ in range(rng.randint(1, 3))]


def random_statement(rng: random.Random, depth: int) -> tuple[Any, ...]:
    words = ["sleep"] * 6 + ["cancel myself", "cancel scope", "reschedule", "raise"]
    if depth < DEPTH_MAX:
        words += ["scope"] * 8 + ["clean up"] * 4 + ["swallow"] * 2
    word = rng.choice(words)
    if word == "sleep":
        return word, rng.randint(0, 4)
    if word in ("reschedule", "cancel scope"):
        return word, rng.randint(0, DEPTH_MAX), rng.randint(1, 4)
    if word == "scope":
        delay = rng.choice([-1, 0, 1, 1, 2, 2, 3, 4, None])
        return word, delay, rng.random() < 0.3, random_block(rng, depth + 1)
    if word == "clean up":
        return word, random_block(rng, depth + 1), random_block(rng, depth + 2)
    if word == "swallow":
        return word, random_block(rng, depth + 1)
    return (word,)


# Running it. -------------------------------------------------------------------------------------


class WatchedTask(asyncio.Task[None]):
    """Keeps a log of who cancelled it: a scope says so in its message, others say nothing."""

    log: list[str]
    taken_back = 0

    def cancel(self, msg: Any | None = None) -> bool:
        self.log.append(msg or "outside")
        return super().cancel(msg)

    def uncancel(self) -> int:
        self.taken_back += 1
        return super().uncancel()


@dataclass
class World:
    """What happened so far, told by the task and by the program, and not by netio."""

    task: WatchedTask
    scopes: list[netio.Scope] = field(default_factory=list)  # those around the running statement
    made: int = 0
    pending: bool = False  # the task has cancelled itself, and did not suspend since
    by_hand: set[str] = field(default_factory=set)

    def outside(self) -> int:
        return self.task.log.count("outside")

    def fired(self, scope: netio.Scope) -> int:
        return sum(said.startswith(f"scope {scope.name!r} ") for said in self.task.log)


async def run_block(world: World, block: list[tuple[Any, ...]]) -> None:
    for statement in block:
        await run_statement(world, *statement)


async def run_statement(world: World, word: str, *args: Any) -> None:
    loop = asyncio.get_running_loop()
    if word == "sleep":
        try:
            await asyncio.sleep(args[0])
        finally:
            world.pending = False
    elif word == "cancel myself":
        world.task.cancel()
        world.pending = True
    elif word == "raise":
        raise BodyError
    elif word == "swallow":
        try:
            await run_block(world, args[0])
        except asyncio.CancelledError:
            pass
    elif word == "clean up":
        try:
            await run_block(world, args[0])
        finally:
            await run_block(world, args[1])
    elif word == "scope":
        await run_scope(world, *args)
    elif args[0] < len(world.scopes):
        scope = world.scopes[args[0]]
        if word == "reschedule" and not world.fired(scope) and scope.name not in world.by_hand:
            scope.reschedule(loop.time() + args[1])
        elif word == "cancel scope":
            loop.call_later(args[1], cancel_by_hand, world, scope)


def cancel_by_hand(world: World, scope: netio.Scope) -> None:
    if scope in world.scopes and not world.fired(scope):
        world.by_hand.add(str(scope.name))
    scope.cancel()


async def run_scope(
    world: World, delay: float | None, quiet: bool, block: list[tuple[Any, ...]]
) -> None:
    world.made += 1
    make = netio.move_on_after if quiet else netio.timeout
    scope = make(delay, name=f"{world.made}")
    clock = asyncio.get_running_loop().time
    entered_at, left_at = clock(), 0.0
    count, outside = world.task.cancelling(), world.outside() - world.pending
    enclosing = [other for other in world.scopes if not world.fired(other)]
    pending = world.pending
    raised: BaseException | None = None
    came_out: BaseException | None = None
    world.scopes.append(scope)
    try:
        async with scope:
            try:
                await run_block(world, block)
            except BaseException as error:
                raised = error
                raise
            finally:
                left_at = clock()
    except BaseException as error:
        came_out = error
        raise
    finally:
        world.scopes.pop()
        fired = world.fired(scope)
        by_hand = str(scope.name) in world.by_hand
        cancels = world.outside() - outside
        expiries = sum(world.fired(other) for other in enclosing)

        due = scope.when() if scope.when() is not None else math.inf
        assert fired <= 1
        assert fired or not left_at > max(due, entered_at)
        assert by_hand or not fired or left_at >= due
        assert scope.expired() == (fired and not by_hand)
        assert world.task.cancelling() == count + cancels - pending + expiries, "law 17"
        if not fired or raised is None:
            expected = raised  # law 19
        elif not isinstance(raised, asyncio.CancelledError):
            expected = raised  # law 18
            assert hasattr(raised, "__notes__") or by_hand
        elif cancels or expiries:
            expected = raised  # laws 14 to 16
        else:
            assert scope.caught
            expected = None
            if not quiet and not by_hand:
                expected = came_out
                assert isinstance(came_out, netio.DeadlineExceeded)
                assert came_out.scope is scope
        assert came_out is expected
        assert scope.caught == (fired and raised is not came_out and raised is not None)


def run_program(seed: str) -> None:
    rng = random.Random(seed)
    block = random_block(rng, 0)
    cancels = [rng.randint(0, 6) for _ in range(rng.choice([0, 0, 1, 1, 2]))]
    loop = VirtualLoop(shuffle=rng)

    async def main() -> None:
        task = asyncio.current_task()
        assert isinstance(task, WatchedTask)
        world = World(task)
        try:
            await run_block(world, block)
        except (asyncio.CancelledError, BodyError, netio.DeadlineExceeded):
            pass
        own = len(task.log) - world.outside()
        assert (task.taken_back, task.cancelling()) == (own, world.outside())

    try:
        task = WatchedTask(main(), loop=loop)
        task.log = []
        for when in cancels:
            loop.call_at(when, task.cancel)
        loop.run_until_complete(asyncio.wait([task], timeout=1000))
        if not task.cancelled():  # its last act was to cancel itself
            task.result()
    except BaseException as error:
        error.add_note(f"seed {seed!r}: {block}, outside cancels at {cancels}")
        raise
    finally:
        loop.close()


def test_random_programs_obey_the_laws_of_attribution(pytestconfig: pytest.Config) -> None:
    base = pytestconfig.getoption("hypothesis_seed") or 0
    for number in range(PROGRAMS):
        run_program(f"{base}.{number}")
