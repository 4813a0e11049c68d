"""Conformance: a write waits until all was taken, and says what was sent when it is cut."""

from __future__ import annotations

import array
import asyncio
from typing import TYPE_CHECKING

from netio._errors import ConnectionLost, DeadlineExceeded, StreamClosed
from netio.testing._conformance.checking import (
    ENDLESS,
    PATIENCE,
    UNDER_WAY_BYTES,
    Pair,
    checks_of,
    expect,
    noise,
    promise,
    same,
)

if TYPE_CHECKING:
    from collections.abc import Coroutine


_LARGE_BYTES = 4_000_003  # no multiple of anything: who takes a part of it is to count right
_RECORD_BYTES = 100_000


@promise(28)
async def any_buffer_can_be_written(pair: Pair) -> None:
    """`write` sends the bytes of any contiguous buffer, whatever its items are."""
    numbers = array.array("I", range(1000))
    for data in (b"bytes", bytearray(b"array"), memoryview(b"view"), numbers):
        await pair.near.write(data, timeout=PATIENCE)
        expected = bytes(memoryview(data).cast("B"))
        await pair.gives(expected, pair.far.read_exactly(len(expected), timeout=PATIENCE))


@promise()
async def writing_nothing_means_nothing(pair: Pair) -> None:
    """An empty write sends nothing, and is no end of the stream."""
    await pair.near.write(b"", timeout=PATIENCE)
    await pair.near.write_many([], timeout=PATIENCE)
    await pair.near.write_many([b"", b""], timeout=PATIENCE)
    await pair.near.write(b"x", timeout=PATIENCE)
    await pair.gives(b"x", pair.far.read_some(timeout=PATIENCE))


@promise()
async def several_buffers_are_written_as_one(pair: Pair) -> None:
    """`write_many` sends all buffers in order, large and small ones, with nothing in between."""
    buffers = [noise(size, size) for size in (1, 0, 5000, 70_000, 3, 90_000)] * 3
    first = pair.start(pair.near.write_many(buffers, timeout=PATIENCE))
    await pair.settle()
    second = pair.start(pair.near.write(b"after", timeout=PATIENCE))
    whole = b"".join(buffers) + b"after"
    await pair.gives(whole, pair.far.read_exactly(len(whole), timeout=PATIENCE))
    await pair.gives(None, first)
    await pair.gives(None, second)


@promise()
async def a_large_write_is_whole(pair: Pair) -> None:
    """A write larger than all that may be under way arrives whole, when the peer reads."""
    data = noise(_LARGE_BYTES)
    await pair.near.write(b"!", timeout=PATIENCE)
    write = pair.start(pair.near.write(data, timeout=PATIENCE))
    await pair.settle()
    await pair.gives(b"!", pair.far.read_exactly(1, timeout=PATIENCE))
    await pair.gives(data, pair.far.read_exactly(len(data), timeout=PATIENCE))
    await pair.gives(None, write)


@promise(33)
async def what_was_written_does_not_change(pair: Pair) -> None:
    """A buffer that is changed as soon as `write` has returned arrives as it was before."""
    for size in (10, _LARGE_BYTES // 9):
        data = bytearray(b"a" * size)
        read = pair.start(pair.far.read_exactly(2 * size, timeout=PATIENCE))
        await pair.near.write(data, timeout=PATIENCE)
        data[:] = b"b" * size
        await pair.near.write_many([data], timeout=PATIENCE)
        data[:] = b"c" * size
        await pair.gives(b"a" * size + b"b" * size, read)


@promise(33)
async def the_memory_of_the_caller_is_free_again(pair: Pair) -> None:
    """No call keeps hold of the caller's memory when it is over, also when it was cut."""
    data, target = bytearray(b"x" * _RECORD_BYTES), bytearray(_RECORD_BYTES)
    read = pair.start(pair.far.read_exactly(2 * len(data), timeout=PATIENCE))
    await pair.near.write(data, timeout=PATIENCE)
    await pair.near.write_many([data], timeout=PATIENCE)
    await pair.ended(read)
    _resize(data, "a write")
    await pair.raises(DeadlineExceeded, pair.near.read_into(target, timeout=pair.short))
    _resize(target, "a read that was cut")
    large = bytearray(UNDER_WAY_BYTES)
    await pair.raises(DeadlineExceeded, pair.near.write(large, timeout=pair.short))
    _resize(large, "a write that was cut")


@promise()
async def writes_queue_in_the_order_of_their_calls(pair: Pair) -> None:
    """Writes of several tasks arrive one after the other, each of them whole."""
    await pair.begin_endless_write()
    letters = b"abcdef"
    for letter in letters:
        write = pair.near.write(bytes([letter]) * _RECORD_BYTES, timeout=PATIENCE)
        await pair.begin(write)
    await pair.take_endless(pair.far)
    for letter in letters:
        expected = bytes([letter]) * _RECORD_BYTES
        await pair.gives(expected, pair.far.read_exactly(len(expected), timeout=PATIENCE))


@promise(31)
async def a_peer_that_does_not_read_makes_a_write_wait(pair: Pair) -> None:
    """What a peer does not read is held within bounds: a write waits for it."""
    error = await pair.raises(DeadlineExceeded, pair.near.write(ENDLESS, timeout=pair.short))
    expect(error.done < UNDER_WAY_BYTES, f"{error.done} bytes were taken, and none was read")


@promise(needs=["clean_cut"])
async def a_write_that_waits_goes_on_when_there_is_room(pair: Pair) -> None:
    """A write that waits is over when the peer has read enough, and not before."""
    clogged = await pair.clog(pair.near)
    write = await pair.begin(pair.near.write(b"later", timeout=PATIENCE))
    await asyncio.sleep(pair.short)
    expect(not write.done(), "it returned, or raised, while there was no room")
    await pair.unclog(pair.far, clogged)
    await pair.gives(None, write)
    await pair.gives(b"later", pair.far.read_exactly(5, timeout=PATIENCE))


@promise()
async def directions_do_not_wait_for_each_other(pair: Pair) -> None:
    """A read that waits holds up no write, and a write that waits no read."""
    read = await pair.begin(pair.near.read_exactly(1, timeout=PATIENCE))
    await pair.near.write(b"x", timeout=PATIENCE)
    await pair.gives(b"x", pair.far.read_exactly(1, timeout=PATIENCE))
    expect(not read.done(), "the read is over, and nothing came")
    write = await pair.begin_endless_write()
    await pair.send(b"y")
    await pair.still_readable(b"y")
    expect(not write.done(), "the write is over, and there was no room")


# Writes that are cut. -------------------------------------------------------------------------


@promise(13)
async def a_write_cut_by_its_limit_says_what_was_sent(pair: Pair) -> None:
    """`DeadlineExceeded.done` is exactly how many bytes of the write the peer gets."""
    write = await pair.begin_endless_write(pair.short)
    head = await pair.far.read_exactly(_RECORD_BYTES, timeout=PATIENCE)
    error = await pair.raises(DeadlineExceeded, write)
    expect(error.expected == UNDER_WAY_BYTES, f"expected is {error.expected}")
    await _counts(pair, error.done, head)


@promise(13)
async def a_cancelled_write_says_what_was_sent(pair: Pair) -> None:
    """The `CancelledError` of a write has the same `done`."""
    task = await pair.begin(_cut(pair.near.write(ENDLESS, timeout=PATIENCE)))
    head = await pair.far.read_exactly(_RECORD_BYTES, timeout=PATIENCE)
    task.cancel()
    await pair.ended(task)
    cancelled = task.result()
    done = getattr(cancelled, "done", None)
    expect(isinstance(done, int), f"the CancelledError has done={done!r}")
    assert isinstance(done, int)
    await _counts(pair, done, head)


@promise(13)
async def a_closed_write_says_what_was_sent(pair: Pair) -> None:
    """The `StreamClosed` of a write that waited has the same `done`."""
    write = await pair.begin_endless_write()
    head = await pair.far.read_exactly(_RECORD_BYTES, timeout=PATIENCE)
    await pair.near.aclose()
    error = await pair.raises(StreamClosed, write)
    await _counts(pair, error.done, head)


@promise(13)
async def a_torn_stream_refuses_further_writes(pair: Pair) -> None:
    """After a write that was sent in part further ones are `ConnectionLost`; reading goes on."""
    error = await pair.raises(DeadlineExceeded, pair.near.write(ENDLESS, timeout=pair.short))
    expect(error.done > 0, "nothing fits into a new connection")
    await pair.raises(ConnectionLost, pair.near.write(b"x", timeout=PATIENCE))
    await pair.raises(ConnectionLost, pair.near.write_many([b"x"], timeout=PATIENCE))
    await pair.raises(ConnectionLost, pair.near.write_eof(timeout=PATIENCE))
    await pair.send(b"reading goes on")
    await pair.still_readable(b"reading goes on")
    await pair.near.aclose()
    got = await pair.rest_of(pair.far)
    same(bytes(error.done), got, "what the peer got")


@promise(13, needs=["clean_cut"])
async def a_write_of_which_nothing_was_sent_leaves_the_stream_usable(pair: Pair) -> None:
    """A write that was cut before any byte went has done 0, and can be repeated."""
    clogged = await pair.clog(pair.near)
    error = await pair.raises(DeadlineExceeded, pair.near.write(b"n", timeout=pair.short))
    expect((error.done, error.expected) == (0, 1), f"done is {error.done}, of {error.expected}")
    task = await pair.begin(pair.near.write(b"n", timeout=PATIENCE))
    task.cancel()
    await pair.is_cancelled(task)
    write = await pair.begin(pair.near.write(b"now", timeout=PATIENCE))
    await pair.unclog(pair.far, clogged)
    await pair.gives(None, write)
    await pair.gives(b"now", pair.far.read_exactly(3, timeout=PATIENCE))


@promise(13)
async def a_write_cut_in_the_queue_has_sent_nothing(pair: Pair) -> None:
    """A write that is cut while it waits its turn sends nothing, and those around it go on."""
    await pair.begin_endless_write()
    late = await pair.begin(pair.near.write(b"late", timeout=pair.short))
    cancelled = await pair.begin(pair.near.write(b"cancelled", timeout=PATIENCE))
    last = await pair.begin(pair.near.write(b"last", timeout=PATIENCE))
    error = await pair.raises(DeadlineExceeded, late)
    expect(error.done == 0, f"done is {error.done}")
    cancelled.cancel()
    await pair.is_cancelled(cancelled)
    await pair.take_endless(pair.far)
    await pair.gives(None, last)
    await pair.near.aclose()
    same(b"last", await pair.rest_of(pair.far), "what came after the first write")


def _resize(memory: bytearray, what: str) -> None:
    try:
        memory.append(0)
    except BufferError:
        held = True
    else:
        held = False
    expect(not held, f"the memory is held after {what}")


async def _counts(pair: Pair, done: int, head: bytes) -> None:
    """The peer gets `done` zeros in all, of which it has `head`."""
    await pair.near.aclose()
    got = head + await pair.rest_of(pair.far)
    expect(ENDLESS.startswith(got), "the peer got other bytes than were written")
    expect(0 < done < UNDER_WAY_BYTES, f"done is {done}, of {UNDER_WAY_BYTES}")
    expect(done == len(got), f"done is {done}, and the peer got {len(got)} bytes")


async def _cut(work: Coroutine[None, None, None]) -> BaseException | None:
    """The cancellation that reaches `work`."""
    try:
        await work
    except asyncio.CancelledError as cancelled:
        return cancelled
    return None


WRITING = checks_of(globals())
