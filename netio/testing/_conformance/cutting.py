"""Conformance: what is cut by a scope or a cancel ends at once, and keeps every byte."""

from __future__ import annotations

import asyncio
import contextlib
import functools
from typing import TYPE_CHECKING

from netio._errors import DeadlineExceeded
from netio._limits import Deadline
from netio._scopes import move_on_after, timeout
from netio.testing._conformance.checking import (
    ENDLESS,
    LATE_SECONDS,
    PATIENCE,
    Broken,
    Pair,
    checks_of,
    expect,
    promise,
    same,
    show,
)
from netio.testing._conformance.limits import KEEPING, PART, READS, RESTS

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterator
    from typing import Any

    from netio._scopes import Scope

# How many turns of the loop the data comes before the other event; or after it, where negative.
_APART = range(-5, 6)


@promise(11)
async def a_limit_leaves_the_count_of_cancels_alone(pair: Pair) -> None:
    """The limit of an operation cancels no task: `Task.cancelling` is 0 after it, and all works."""

    async def meet_a_limit() -> int:
        await pair.raises(DeadlineExceeded, pair.near.read_exactly(1, timeout=pair.short))
        task = asyncio.current_task()
        assert task is not None
        count = task.cancelling()
        await asyncio.sleep(0)
        return count

    await pair.gives(0, pair.start(meet_a_limit()))


@promise(14)
async def a_scope_cuts_an_operation_and_what_came_is_kept(pair: Pair) -> None:
    """`netio.timeout` around a read or a write ends it in time, and no byte is lost."""

    async def look(pair: Pair, name: str) -> None:
        task = pair.start(_under_a_scope(READS[name](pair.near, PATIENCE), 2 * pair.short))
        await pair.settle()
        await pair.arrives(PART)
        pair.observed.append(f"{name}: {await task}")
        await pair.still_readable(PART, f"what {name} has left")

    await pair.each(look, KEEPING)
    pair.observed.append(
        await _under_a_scope(pair.near.write(ENDLESS, timeout=PATIENCE), pair.short)
    )


@promise(27)
async def the_timeout_of_asyncio_cuts_an_operation(pair: Pair) -> None:
    """`asyncio.timeout` and `asyncio.wait_for` around a read end it, and no byte is lost."""
    began = pair.now()
    with _expected_timeout():
        async with asyncio.timeout(pair.short):
            await pair.near.read_exactly(8, timeout=PATIENCE)
    with _expected_timeout():
        await asyncio.wait_for(pair.near.read_exactly(8, timeout=PATIENCE), pair.short)
    expect(pair.now() - began < LATE_SECONDS, f"they took {pair.now() - began:.3f} s")
    await pair.send(b"all here")
    await pair.still_readable(b"all here")


@promise(8)
async def a_scope_in_which_nothing_waits_cuts_nothing(pair: Pair) -> None:
    """A scope that has expired does not end operations that have no need to wait."""
    await pair.buffered(b"abc")
    async with move_on_after(-1) as scope:
        await pair.gives(b"abc", pair.near.read_exactly(3, timeout=PATIENCE))
        await pair.near.write(b"x", timeout=PATIENCE)
    expect(not scope.caught, "the scope ended an operation that need not wait")


@promise(10)
async def a_cancelled_read_keeps_what_came(pair: Pair) -> None:
    """A read that is cancelled ends so, and what came before stays readable."""
    for name in KEEPING:
        task = await pair.begin(READS[name](pair.near, PATIENCE))
        await pair.arrives(PART)
        task.cancel()
        await pair.is_cancelled(task)
        await pair.still_readable(PART, f"what {name} has left")


@promise(10)
async def a_cancelled_read_lets_the_next_one_begin(pair: Pair) -> None:
    """A read that is cancelled has ended: the next one begins at once, and gets all that comes."""
    for _ in range(3):
        task = await pair.begin(pair.near.read_exactly(4, timeout=PATIENCE))
        task.cancel()
        await pair.is_cancelled(task)
        read = await pair.begin(pair.near.read_exactly(4, timeout=PATIENCE))
        await pair.send(b"next")
        await pair.gives(b"next", read)


@promise(10)
async def data_and_a_cancel_lose_no_byte(pair: Pair) -> None:
    """When data meets a cancel, the bytes returned and those left are those that came."""
    for name, apart, task in _meetings(pair):
        await _meet(pair, PART + RESTS[name], apart, task.cancel)
        await _nothing_is_lost(pair, name, apart, task, asyncio.CancelledError)


@promise(10)
async def data_and_a_limit_lose_no_byte(pair: Pair) -> None:
    """When data meets the limit of a read, the bytes returned and those left are what came."""

    def reach_the_limit() -> None:
        pair.near.read_deadline = Deadline.after(-1)

    for name, apart, task in _meetings(pair):
        await _meet(pair, PART + RESTS[name], apart, reach_the_limit)
        await _nothing_is_lost(pair, name, apart, task, DeadlineExceeded)


@promise(10)
async def data_and_a_scope_lose_no_byte(pair: Pair) -> None:
    """When data meets a scope, the bytes returned and those left are those that came."""

    async def read_in_a_scope(name: str, scope: Scope) -> bytes:
        async with scope:
            return await READS[name](pair.near, PATIENCE)
        raise TimeoutError

    for name, rest in RESTS.items():
        for apart in _APART:
            scope = move_on_after(PATIENCE)
            task = pair.start(read_in_a_scope(name, scope))
            await pair.settle()
            await _meet(pair, PART + rest, apart, functools.partial(_expire, scope))
            await _nothing_is_lost(pair, name, apart, task, TimeoutError)


@promise(16)
async def an_outside_cancel_wins_over_a_limit(pair: Pair) -> None:
    """A read that is cancelled as its limit is reached is cancelled, in either order."""
    for apart in range(6):
        for cancel_first in (True, False):
            task = await pair.begin(pair.near.read_exactly(4, timeout=PATIENCE))
            cancelled = cancel_first and task.cancel()
            if cancel_first:
                await _turns(apart)
            pair.near.deadline = Deadline.after(-1)
            if not cancel_first:
                await _turns(apart)
                cancelled = task.cancel()
            if cancelled:
                await pair.ended(task)
                expect(task.cancelled(), f"it was not, {apart} turns apart")
            else:
                await pair.raises(DeadlineExceeded, task)
            pair.near.deadline = None
    await pair.send(b"fine")
    await pair.still_readable(b"fine")


@promise(23)
async def a_cancelled_close_has_closed(pair: Pair) -> None:
    """A close that is cancelled has closed all the same, and the peer meets the end."""
    begun = False

    async def close() -> None:
        nonlocal begun
        begun = True
        await pair.near.aclose()

    for turns in range(4):
        begun = False
        task = pair.start(close())
        await _turns(turns)
        task.cancel()
        await pair.ended(task)
        if not begun:  # it was cancelled before that
            await pair.near.aclose()
        expect(pair.near.closed, "aclose is over, and the stream is open")
        await pair.gives(b"", pair.far.read_some(timeout=PATIENCE))
        await pair.open()


def _meetings(pair: Pair) -> Iterator[tuple[str, int, asyncio.Task[bytes]]]:
    """A read of each kind, for each distance of two events."""
    for name in RESTS:
        for apart in _APART:
            yield name, apart, pair.start(READS[name](pair.near, PATIENCE))


async def _meet(pair: Pair, data: bytes, apart: int, event: Callable[[], object]) -> None:
    """`data` comes, and `event` happens so many turns later, or earlier."""
    await pair.settle()
    if apart < 0:
        event()
        await _turns(-apart)
    pair.start(pair.send(data))
    if apart >= 0:
        await _turns(apart)
        event()


async def _turns(count: int) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


async def _nothing_is_lost(
    pair: Pair,
    name: str,
    apart: int,
    task: asyncio.Task[bytes],
    kind: type[BaseException],
) -> None:
    """The read has returned its data, or ended with an error of this kind, and the data is left."""
    where = f"{name}, {apart} turns apart"
    await pair.ended(task)
    pair.near.read_deadline = None
    try:
        returned = task.result()
    except kind:
        returned = b""
    except (Exception, asyncio.CancelledError) as error:
        raise Broken(f"{where}: it raised {show(error)}") from error
    whole = PART + RESTS[name]
    left = b"" if returned else await pair.near.read_exactly(len(whole), timeout=PATIENCE)
    same(whole, returned + left, where)


def _expire(scope: Scope) -> None:
    with contextlib.suppress(RuntimeError):  # it was left already
        scope.reschedule(asyncio.get_running_loop().time() - 1)


async def _under_a_scope(work: Coroutine[Any, Any, object], seconds: float) -> str:
    """The name of what has ended `work`, which is to be cut after so many `seconds`."""
    try:
        async with timeout(seconds, name="around"):
            await work
    except DeadlineExceeded as error:
        expect(error.limit == "scope", f"it raised {show(error)}")
        return f"cut by {error.scope_name}"
    raise Broken("the scope did not end it")


@contextlib.contextmanager
def _expected_timeout() -> Iterator[None]:
    try:
        yield
    except TimeoutError as error:
        expect(not isinstance(error, DeadlineExceeded), f"it raised {show(error)}")
    else:
        raise Broken("the timeout did not end it")


CUTTING = checks_of(globals())
