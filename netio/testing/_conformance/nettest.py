"""Conformance: the eleven checks of Go's ``golang.org/x/net/nettest``, as far as they are netio's.

Each has the name it has there. Two things differ: a stream has one reader at a time, so that many
read in turn; and an operation whose deadline has passed takes what is there, or sends what fits
(law 9), so that one is looked at that would wait.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

from netio._errors import (
    ConnectionLost,
    DeadlineExceeded,
    StreamBusy,
    StreamClosed,
    TruncatedStream,
)
from netio._limits import Deadline
from netio.testing._conformance.checking import (
    ENDLESS,
    PATIENCE,
    Pair,
    checks_of,
    expect,
    noise,
    promise,
    same,
)

if TYPE_CHECKING:
    from netio._stream import Stream

_BYTES = 1 << 20
_CHUNK_BYTES = 1024  # of every copy, as there
_ROUND_TRIPS = 100
_TASKS = 10
_CALLS = 100
_MILLISECOND = 0.001
_HELLO = b"Hello, world!"


@promise(28)
async def nettest_basic_io(pair: Pair) -> None:
    """nettest's BasicIO: what one end writes, the other reads, whole and in order, to the end."""
    data = noise(_BYTES)

    async def copy() -> None:
        for at in range(0, len(data), _CHUNK_BYTES):
            await pair.near.write(data[at : at + _CHUNK_BYTES], timeout=PATIENCE)
        await pair.near.aclose()

    copying = pair.start(copy())
    got = bytearray()
    while chunk := await pair.far.read_some(_CHUNK_BYTES, timeout=PATIENCE):
        got += chunk
    await pair.gives(None, copying)
    same(data, bytes(got))


@promise(28)
async def nettest_ping_pong(pair: Pair) -> None:
    """nettest's PingPong: two ends can count up, each answering the other."""

    async def count(stream: Stream) -> int:
        number = 0
        while number < 2 * _ROUND_TRIPS:
            came = int.from_bytes(await stream.read_exactly(8, timeout=PATIENCE), "little")
            expect(number in (0, came - 2), f"{came} follows {number}")
            number = came
            await stream.write((number + 1).to_bytes(8, "little"), timeout=PATIENCE)
        return number

    counting = [pair.start(count(stream)) for stream in (pair.near, pair.far)]
    await pair.near.write(bytes(8), timeout=PATIENCE)
    await pair.gives(2 * _ROUND_TRIPS + 1, counting[0])
    await pair.gives(2 * _ROUND_TRIPS, counting[1])


@promise(10)
async def nettest_racy_read(pair: Pair) -> None:
    """nettest's RacyRead: a buffer can be changed as soon as a read into it has been cut."""
    data = noise(_CHUNK_BYTES * _TASKS * 10)
    sending = pair.start(_send_haltingly(pair.far, data))
    turn = asyncio.Lock()
    got = bytearray()

    async def read_in_turn() -> None:
        target = bytearray(_CHUNK_BYTES)
        while len(got) < len(data):
            async with turn:
                if len(got) == len(data):
                    return
                pair.near.read_deadline = Deadline.after(_MILLISECOND)
                try:
                    await pair.near.read_into(target)
                    got.extend(target)
                except DeadlineExceeded:
                    pass
                target[:] = bytes(_CHUNK_BYTES)

    readers = [pair.start(read_in_turn()) for _ in range(_TASKS)]
    for task in (*readers, sending):
        await pair.gives(None, task)
    same(data, bytes(got))


@promise(13)
async def nettest_racy_write(pair: Pair) -> None:
    """nettest's RacyWrite: a buffer can be changed as soon as a write of it has been cut."""
    reading = pair.start(_read_haltingly(pair.far))
    sent = 0

    async def write_often() -> int:
        sent = 0
        for _ in range(_CALLS):
            data = bytearray(b"1" * 8 * _CHUNK_BYTES)
            try:
                await pair.near.write(data, timeout=_MILLISECOND)
                sent += len(data)
            except DeadlineExceeded as error:
                sent += error.done
            except ConnectionLost:  # one was cut in the middle
                return sent
            finally:
                data[:] = b"0" * len(data)
        return sent

    writers = [pair.start(write_often()) for _ in range(_TASKS)]
    for task in writers:
        await pair.ended(task)
        sent += task.result()
    await pair.near.aclose()
    await pair.ended(reading)
    got = reading.result()
    expect(not got.strip(b"1"), "bytes arrived that were put there after the write")
    expect(len(got) == sent, f"{len(got)} bytes arrived, and {sent} were said to be sent")


@promise(12)
async def nettest_read_timeout(pair: Pair) -> None:
    """nettest's ReadTimeout: a read deadline that has passed does not affect writes."""
    pair.near.read_deadline = Deadline.after(-1)
    await pair.raises(DeadlineExceeded, pair.near.read_exactly(_CHUNK_BYTES))
    await pair.near.write(bytes(_CHUNK_BYTES))
    await pair.gives(bytes(_CHUNK_BYTES), pair.far.read_exactly(_CHUNK_BYTES, timeout=PATIENCE))
    write = await pair.begin(pair.near.write(ENDLESS))
    write.cancel()
    await pair.is_cancelled(write)


@promise(12)
async def nettest_write_timeout(pair: Pair) -> None:
    """nettest's WriteTimeout: a write deadline that has passed does not affect reads."""
    pair.near.write_deadline = Deadline.after(-1)
    await pair.raises(DeadlineExceeded, pair.near.write(ENDLESS))
    await pair.send(bytes(_CHUNK_BYTES))
    await pair.gives(bytes(_CHUNK_BYTES), pair.near.read_exactly(_CHUNK_BYTES))
    read = await pair.begin(pair.near.read_exactly(1))
    await pair.send(b"x")
    await pair.gives(b"x", read)


@promise(12)
async def nettest_past_timeout(pair: Pair) -> None:
    """nettest's PastTimeout: a deadline in the past ends reads and writes at once, until moved."""
    pair.start(_echo(pair.far))
    await _round_trip(pair)
    pair.near.deadline = Deadline.after(-1)
    began = pair.now()
    error = await pair.raises(DeadlineExceeded, pair.near.read_exactly(_CHUNK_BYTES))
    pair.lasted(began, 0, "the read")
    expect(error.done == 0, f"{error.done} bytes are left of an answer that was read")
    await _round_trip(pair)
    await pair.open()
    pair.near.deadline = Deadline.after(-1)
    began = pair.now()
    await pair.raises(DeadlineExceeded, pair.near.write(ENDLESS))
    pair.lasted(began, 0, "the write")


@promise(7)
async def nettest_present_timeout(pair: Pair) -> None:
    """nettest's PresentTimeout: a deadline moved into the past ends at once what waits."""
    write = await pair.begin_endless_write()
    read = await pair.begin(pair.near.read_exactly(_CHUNK_BYTES, timeout=PATIENCE))
    await asyncio.sleep(pair.short)
    expect(not read.done() and not write.done(), "an operation is over before the deadline is set")
    began = pair.now()
    pair.near.read_deadline = pair.near.write_deadline = Deadline.after(-1)
    await pair.raises(DeadlineExceeded, read)
    await pair.raises(DeadlineExceeded, write)
    pair.lasted(began, 0)


@promise(12)
async def nettest_future_timeout(pair: Pair) -> None:
    """nettest's FutureTimeout: a deadline ends, in time, what waits; the connection goes on."""
    began = pair.now()
    pair.near.deadline = Deadline.after(pair.short)
    read = pair.start(pair.near.read_exactly(_CHUNK_BYTES, timeout=PATIENCE))
    await pair.raises(DeadlineExceeded, read)
    pair.lasted(began, pair.short, "the read")
    pair.start(_echo(pair.far))
    await _round_trip(pair)
    await pair.open()
    began = pair.now()
    pair.near.deadline = Deadline.after(pair.short)
    write = pair.start(pair.near.write(ENDLESS, timeout=PATIENCE))
    await pair.raises(DeadlineExceeded, write)
    pair.lasted(began, pair.short, "the write")


@promise(34)
async def nettest_close_timeout(pair: Pair) -> None:
    """nettest's CloseTimeout: a close ends at once a read and a write that wait."""
    write = await pair.begin_endless_write()
    pair.near.deadline = None
    read = await pair.begin(pair.near.read_exactly(_CHUNK_BYTES, timeout=PATIENCE))
    began = pair.now()
    await pair.near.aclose()
    await pair.raises(StreamClosed, read)
    await pair.raises(StreamClosed, write)
    pair.lasted(began, 0)


@promise()
async def nettest_concurrent_methods(pair: Pair) -> None:
    """nettest's ConcurrentMethods: methods can be called at once, and the stream stays usable."""
    stream = pair.near
    echoing = pair.start(_echo(pair.far))
    calls = []
    for number in range(_CALLS):
        calls.append(pair.start(_ignoring(stream.read_some(_CHUNK_BYTES))))
        calls.append(pair.start(_ignoring(stream.write(bytes([number % 255])))))
        stream.deadline = Deadline.after(10 * _MILLISECOND)
        stream.read_deadline = Deadline.after(-1)
        stream.write_deadline = Deadline.after(-1)
        _ = stream.local, stream.peer, stream.buffered, stream.statistics(), repr(stream)
        stream.peek()
        if number % 10 == 0:
            await asyncio.sleep(0)
    for task in calls:
        await pair.gives(None, task)
    stream.deadline = stream.read_deadline = stream.write_deadline = None
    await stream.write(b"\xff", timeout=PATIENCE)
    await pair.near.read_until(b"\xff", timeout=PATIENCE)
    await _round_trip(pair)
    expect(not echoing.done(), "the peer met an end")


async def _ignoring(work: object) -> None:
    try:
        await work  # type: ignore[misc]
    except (DeadlineExceeded, StreamBusy):
        pass


async def _round_trip(pair: Pair) -> None:
    """What is written comes back, without any deadline of the stream."""
    pair.near.deadline = None
    await pair.near.write(_HELLO, timeout=PATIENCE)
    await pair.still_readable(_HELLO, "what came back")


async def _echo(stream: Stream) -> None:
    while data := await stream.read_some(_CHUNK_BYTES, timeout=PATIENCE):
        await stream.write(data, timeout=PATIENCE)


async def _send_haltingly(stream: Stream, data: bytes) -> None:
    """With a pause now and then, longer than the deadlines of who reads."""
    for at in range(0, len(data), 3 * _CHUNK_BYTES):
        await stream.write(data[at : at + 3 * _CHUNK_BYTES], timeout=PATIENCE)
        await asyncio.sleep(2 * _MILLISECOND)


async def _read_haltingly(stream: Stream) -> bytes:
    got = bytearray()
    with contextlib.suppress(TruncatedStream):  # as over TLS, when a write was cut
        while data := await stream.read_some(100 * _CHUNK_BYTES, timeout=PATIENCE):
            got += data
            await asyncio.sleep(2 * _MILLISECOND)
    return bytes(got)


NETTEST = checks_of(globals())
