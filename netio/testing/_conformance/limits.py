"""Conformance: each operation ends by its limit, neither earlier nor later, and keeps what came."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
from typing import TYPE_CHECKING

from netio._errors import DeadlineExceeded
from netio._limits import Deadline
from netio.testing._conformance.checking import (
    ENDLESS,
    PATIENCE,
    Pair,
    checks_of,
    expect,
    noise,
    promise,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from typing import Any

    from netio._limits import Timeout
    from netio._stream import Stream

    Read = Callable[[Stream, Timeout], Coroutine[Any, Any, bytes]]

_LARGE_BYTES = 100_000

#: Comes first, and is not enough.
PART = b"part"


async def _into(stream: Stream, size: int, limit: Timeout) -> bytes:
    target = bytearray(size)
    await stream.read_into(target, timeout=limit)
    return bytes(target)


#: Every kind of read, by name: of a stream, within a limit.
READS: dict[str, Read] = {
    "read_exactly": lambda s, t: s.read_exactly(8, timeout=t),
    "read_exactly, large": lambda s, t: s.read_exactly(_LARGE_BYTES, timeout=t),
    "read_until": lambda s, t: s.read_until(b";", timeout=t),
    "read_line": lambda s, t: s.read_line(timeout=t),
    "read_into": lambda s, t: _into(s, 8, t),
    "read_into, large": lambda s, t: _into(s, _LARGE_BYTES, t),
    "read_all": lambda s, t: s.read_all(limit=_LARGE_BYTES, timeout=t),
    "read_some": lambda s, t: s.read_some(timeout=t),
}

#: Those that `PART` is not enough for.
KEEPING = tuple(name for name in READS if name != "read_some")

#: What comes after `PART`, and is enough.
RESTS: dict[str, bytes] = {
    "read_exactly": b"rest",
    "read_exactly, large": noise(_LARGE_BYTES - len(PART)),
    "read_until": b"rest;",
    "read_line": b"rest\n",
    "read_into": b"rest",
    "read_into, large": noise(_LARGE_BYTES - len(PART), 1),
}


@promise(12)
async def a_read_ends_at_its_limit(pair: Pair) -> None:
    """A read that gets nothing is `DeadlineExceeded` when its limit is reached."""

    async def look(pair: Pair, name: str) -> None:
        began = pair.now()
        error = await pair.raises(DeadlineExceeded, READS[name](pair.near, pair.short))
        pair.lasted(began, pair.short, name)
        expect(error.limit == "call", f"the limit of {name} is called {error.limit!r}")

    await pair.each(look, READS)


@promise(12)
async def a_write_ends_at_its_limit(pair: Pair) -> None:
    """A write for which there is no room is `DeadlineExceeded` when its limit is reached."""

    async def look(pair: Pair, many: bool) -> None:
        began = pair.now()
        stream = pair.near
        if many:
            write = stream.write_many([b"x" * 9000, ENDLESS], timeout=pair.short)
        else:
            write = stream.write(ENDLESS, timeout=pair.short)
        error = await pair.raises(DeadlineExceeded, write)
        pair.lasted(began, pair.short, error.operation)
        expect(error.limit == "call", f"the limit of {error.operation} is called {error.limit!r}")

    await pair.each(look, (False, True))


@promise(12)
async def a_read_that_ends_at_its_limit_keeps_what_came(pair: Pair) -> None:
    """What came before the limit of a read stays readable, and the error counts it."""

    async def look(pair: Pair, name: str) -> None:
        task = await pair.begin(READS[name](pair.near, 2 * pair.short))
        await pair.arrives(PART)
        error = await pair.raises(DeadlineExceeded, task)
        expect(error.done == len(PART), f"done of {name} is {error.done}, not {len(PART)}")
        await pair.still_readable(PART, f"what {name} has left")

    await pair.each(look, KEEPING)


@promise(9)
async def a_limit_of_zero_does_not_wait(pair: Pair) -> None:
    """With ``timeout=0`` an operation that would wait fails at once."""
    for seconds in (0, -1, Deadline.after(-1)):
        await pair.open()  # a new one: over TLS a write that is cut is the last
        await pair.clog(pair.near)
        began = pair.now()
        await pair.raises(DeadlineExceeded, pair.near.read_exactly(1, timeout=seconds))
        await pair.raises(DeadlineExceeded, pair.near.write(b"x", timeout=seconds))
        pair.lasted(began, 0)


@promise(9)
async def a_limit_of_zero_takes_what_is_there(pair: Pair) -> None:
    """With ``timeout=0`` a read returns what has come, and a write sends what fits."""
    await pair.near.write(b"fits", timeout=0)
    await pair.gives(b"fits", pair.far.read_exactly(4, timeout=PATIENCE))
    await pair.send(b"came")
    give_up_at = pair.now() + PATIENCE
    while True:
        try:
            got = await pair.near.read_exactly(4, timeout=0)
        except DeadlineExceeded:
            expect(pair.now() < give_up_at, "read_exactly with timeout=0 takes nothing")
            await asyncio.sleep(pair.short / 10)
        else:
            expect(got == b"came", f"it took {got!r}")
            return


@promise(9)
async def what_is_buffered_wins_over_a_limit_that_has_passed(pair: Pair) -> None:
    """Bytes that are buffered are returned though every limit has passed."""
    await pair.buffered(b"abc;d\nefgh")
    pair.near.deadline = Deadline.after(-1)
    await pair.gives(b"a", pair.near.read_exactly(1, timeout=-1))
    await pair.gives(b"bc;", pair.near.read_until(b";", timeout=0))
    await pair.gives(b"d\n", pair.near.read_line(timeout=0))
    await pair.gives(b"e", pair.near.read_some(1, timeout=0))
    await pair.gives(2, pair.near.read_into(bytearray(2), timeout=0))
    await pair.raises(DeadlineExceeded, pair.near.read_exactly(2))
    pair.near.deadline = None
    await pair.still_readable(b"h")


@promise(12)
async def a_drip_does_not_renew_the_limit_of_a_read(pair: Pair) -> None:
    """One limit covers a whole read, however steadily bytes come."""

    async def look(pair: Pair, name: str) -> None:
        drip = pair.start(_drip(pair.far, pair.short / 3))
        began = pair.now()
        task = pair.start(READS[name](pair.near, 2 * pair.short))
        await asyncio.wait({task, drip}, return_when=asyncio.FIRST_COMPLETED)
        expect(task.done(), f"{name} went on for {pair.now() - began:.3f} s with each byte")
        await pair.raises(DeadlineExceeded, task)
        pair.lasted(began, 2 * pair.short, name)

    await pair.each(look, KEEPING)


@promise(12)
async def a_slow_reader_does_not_renew_the_limit_of_a_write(pair: Pair) -> None:
    """One limit covers a whole write, however steadily the peer takes of it."""
    sipping = pair.start(_sip(pair.far, pair.short / 3))
    began = pair.now()
    task = pair.start(pair.near.write(ENDLESS, timeout=2 * pair.short))
    await asyncio.wait({task, sipping}, return_when=asyncio.FIRST_COMPLETED)
    expect(task.done(), f"it went on for {pair.now() - began:.3f} s with what was taken")
    await pair.raises(DeadlineExceeded, task)
    pair.lasted(began, 2 * pair.short)


@promise(12)
async def the_time_in_the_queue_counts(pair: Pair) -> None:
    """The limit of a write counts from its call, also while earlier writes are under way."""
    await pair.begin_endless_write()
    began = pair.now()
    error = await pair.raises(DeadlineExceeded, pair.near.write(b"queues", timeout=pair.short))
    pair.lasted(began, pair.short)
    expect(error.done == 0, f"done is {error.done}")


@promise(12)
async def a_deadline_is_shared_by_many_calls(pair: Pair) -> None:
    """Operations that share a `Deadline` end at that point, whenever they began."""
    began = pair.now()
    deadline = Deadline.after(2 * pair.short)
    pair.loop.call_later(pair.short, pair.far._channel.send, b"first")
    await pair.gives(b"first", pair.near.read_exactly(5, timeout=deadline))
    error = await pair.raises(DeadlineExceeded, pair.near.read_exactly(6, timeout=deadline))
    pair.lasted(began, 2 * pair.short)
    expect(error.limit == "deadline", f"the limit is called {error.limit!r}")


@promise(12)
async def a_limit_left_out_is_that_of_the_connection(pair: Pair) -> None:
    """Without a limit of its own an operation has that of `Stream.timeouts`, and names it."""
    pair.near.timeouts = dataclasses.replace(
        pair.near.timeouts, read=pair.short, write=2 * pair.short
    )
    began = pair.now()
    error = await pair.raises(DeadlineExceeded, pair.near.read_exactly(1))
    pair.lasted(began, pair.short, "the read")
    expect(error.limit == "read", f"the limit of a read is called {error.limit!r}")
    began = pair.now()
    error = await pair.raises(DeadlineExceeded, pair.near.write(ENDLESS))
    pair.lasted(began, 2 * pair.short, "the write")
    expect(error.limit == "write", f"the limit of a write is called {error.limit!r}")


@promise(1)
async def none_means_no_limit(pair: Pair) -> None:
    """With ``timeout=None`` an operation waits on, past the limits of the connection."""
    pair.near.timeouts = dataclasses.replace(
        pair.near.timeouts, read=pair.short / 3, write=pair.short / 3
    )
    read = await pair.begin(pair.near.read_exactly(1, timeout=None))
    write = await pair.begin(pair.near.write(ENDLESS, timeout=None))
    await asyncio.sleep(pair.short)
    expect(not read.done() and not write.done(), "an operation without limit did not wait")
    await pair.send(b"r")
    await pair.gives(b"r", read)


@promise(12)
async def a_read_and_a_write_each_have_their_limit(pair: Pair) -> None:
    """A read and a write that wait at once end each at its own limit, whichever is first."""
    for read_s, write_s in ((pair.short, 2 * pair.short), (2 * pair.short, pair.short)):
        await pair.open()
        began = pair.now()
        read = pair.start(pair.near.read_exactly(1, timeout=read_s))
        write = pair.start(pair.near.write(ENDLESS, timeout=write_s))
        first, last = (read, write) if read_s < write_s else (write, read)
        await pair.raises(DeadlineExceeded, first)
        pair.lasted(began, pair.short, "the first")
        expect(not last.done(), "the limit of one direction ended the other")
        await pair.raises(DeadlineExceeded, last)
        pair.lasted(began, 2 * pair.short, "the second")


@promise(12)
async def a_shorter_limit_after_a_longer_one_is_obeyed(pair: Pair) -> None:
    """The limit of an earlier operation, which is over, does not stand in for a later one's."""
    await pair.send(b"x")
    await pair.gives(b"x", pair.near.read_exactly(1, timeout=PATIENCE))
    read = await pair.begin(pair.near.read_exactly(1, timeout=PATIENCE))
    await pair.send(b"y")
    await pair.gives(b"y", read)
    for seconds in (pair.short, 2 * pair.short, pair.short):
        began = pair.now()
        await pair.raises(DeadlineExceeded, pair.near.read_exactly(1, timeout=seconds))
        pair.lasted(began, seconds)


# Deadlines of the stream. ---------------------------------------------------------------------


@promise(7)
async def a_deadline_moved_earlier_is_obeyed_by_what_waits(pair: Pair) -> None:
    """A stream's deadline that is moved earlier ends what waits already, at the new point."""

    async def look(pair: Pair, name: str) -> None:
        pair.near.deadline = Deadline.after(PATIENCE / 2)
        task = await pair.begin(_WAITS[name](pair.near))
        began = pair.now()
        pair.near.deadline = Deadline.after(pair.short)
        error = await pair.raises(DeadlineExceeded, task)
        pair.lasted(began, pair.short, name)
        expect(error.limit == "deadline", f"the limit of {name} is called {error.limit!r}")

    await pair.each(look, _WAITS)


@promise(7)
async def a_deadline_moved_later_is_obeyed_by_what_waits(pair: Pair) -> None:
    """A stream's deadline that is moved later ends what waits already at the new point only."""

    async def look(pair: Pair, name: str) -> None:
        began = pair.now()
        pair.near.deadline = Deadline.at(began + pair.short)
        task = pair.start(_WAITS[name](pair.near))
        await asyncio.sleep(0)
        pair.near.deadline = Deadline.at(began + 3 * pair.short)
        await pair.raises(DeadlineExceeded, task)
        pair.lasted(began, 3 * pair.short, name)

    await pair.each(look, _WAITS)


@promise(7)
async def a_deadline_that_is_removed_ends_nothing(pair: Pair) -> None:
    """A stream's deadline that is removed lets what waits already wait on."""
    pair.near.deadline = Deadline.after(pair.short)
    read = await pair.begin(pair.near.read_exactly(1, timeout=PATIENCE))
    write = await pair.begin(pair.near.write(ENDLESS, timeout=PATIENCE))
    pair.near.deadline = None
    await asyncio.sleep(2 * pair.short)
    expect(not read.done() and not write.done(), "the deadline that was removed ended something")
    await pair.send(b"r")
    await pair.gives(b"r", read)


@promise(12)
async def a_later_deadline_revives_a_stream(pair: Pair) -> None:
    """A stream whose deadline has passed is as usable as before once that is moved or removed."""
    for later in (None, Deadline.after(2 * PATIENCE)):
        pair.near.deadline = Deadline.after(-1)
        await pair.raises(DeadlineExceeded, pair.near.read_exactly(2))
        pair.near.deadline = later
        read = await pair.begin(pair.near.read_exactly(2, timeout=PATIENCE))
        await pair.send(b"ok")
        await pair.gives(b"ok", read)
        await pair.near.write(b"ok", timeout=PATIENCE)
        await pair.gives(b"ok", pair.far.read_exactly(2, timeout=PATIENCE))


@promise(12)
async def the_earliest_of_all_limits_holds(pair: Pair) -> None:
    """Of the call's limit and the stream's deadlines the earliest ends a read, and is named."""
    for call, whole, reads, name in (
        (pair.short, 2 * pair.short, 3 * pair.short, "call"),
        (3 * pair.short, pair.short, 2 * pair.short, "deadline"),
        (2 * pair.short, 3 * pair.short, pair.short, "deadline"),
    ):
        began = pair.now()
        pair.near.deadline = Deadline.at(began + whole)
        pair.near.read_deadline = Deadline.at(began + reads)
        error = await pair.raises(DeadlineExceeded, pair.near.read_exactly(1, timeout=call))
        pair.lasted(began, pair.short)
        expect(error.limit == name, f"the limit is called {error.limit!r}, not {name!r}")


#: An operation of each direction that waits.
_WAITS: dict[str, Callable[[Stream], Coroutine[Any, Any, object]]] = {
    "a read": lambda stream: stream.read_exactly(1, timeout=PATIENCE),
    "a write": lambda stream: stream.write(ENDLESS, timeout=PATIENCE),
}


async def _drip(stream: Stream, pause: float) -> None:
    """A byte after each `pause` in seconds, for much longer than the limit of the check."""
    for _ in range(60):
        await asyncio.sleep(pause)
        await stream.write(b"x", timeout=PATIENCE)


async def _sip(stream: Stream, pause: float) -> None:
    """Take a little after each `pause` in seconds, for much longer than the limit of the check."""
    for _ in range(60):
        await asyncio.sleep(pause)
        with contextlib.suppress(DeadlineExceeded):
            await stream.read_some(40_000, timeout=0)


LIMITS = checks_of(globals())
