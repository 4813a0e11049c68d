"""Conformance: ends and failures come after all bytes, are told each time, and wake who waits."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from typing import TYPE_CHECKING

from netio._errors import (
    ConnectionLost,
    ConnectionReset,
    DeadlineExceeded,
    StreamBusy,
    StreamClosed,
)
from netio.testing._conformance.checking import (
    PATIENCE,
    Pair,
    Unsuitable,
    checks_of,
    expect,
    noise,
    promise,
    same,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from typing import Any

    from netio._stream import Stream

_TAIL_BYTES = 3_000  # fits into any connection
_LARGE_BYTES = 300_000  # and this does not
_WRITES_MAX = 1000
_PAUSE_SECONDS = 0.001


# Half close. ----------------------------------------------------------------------------------


@promise(needs=["half_close"])
async def write_eof_ends_one_direction_only(pair: Pair) -> None:
    """After `write_eof` the peer reads all and then the end, and what it writes still arrives."""
    await pair.near.write(b"question", timeout=PATIENCE)
    await pair.near.write_eof(timeout=PATIENCE)
    await pair.gives(b"question", pair.far.read_all(limit=100, timeout=PATIENCE))
    await pair.send(b"answer")
    await pair.still_readable(b"answer")
    await pair.far.write_eof(timeout=PATIENCE)
    await pair.gives(b"", pair.near.read_some(timeout=PATIENCE))


@promise(needs=["half_close"])
async def write_eof_may_be_repeated_and_ends_writing(pair: Pair) -> None:
    """After `write_eof` every write is `StreamClosed`, and another `write_eof` changes nothing."""
    await pair.near.write_eof(timeout=PATIENCE)
    await pair.near.write_eof(timeout=PATIENCE)
    for name in ("write", "write, empty", "write_many"):
        await pair.raises(StreamClosed, _CALLS[name](pair.near), name)
    await pair.gives(b"", pair.far.read_some(timeout=PATIENCE))


@promise(needs=["half_close"])
async def write_eof_comes_after_the_writes_that_queue(pair: Pair) -> None:
    """`write_eof` waits for the writes before it, within its limit, which ends nothing else."""
    await pair.begin_endless_write()
    await pair.raises(DeadlineExceeded, pair.near.write_eof(timeout=pair.short))
    last = await pair.begin(pair.near.write(b"last", timeout=PATIENCE))
    end = await pair.begin(pair.near.write_eof(timeout=PATIENCE))
    await pair.take_endless(pair.far)
    await pair.gives(None, last)
    await pair.gives(None, end)
    same(b"last", await pair.rest_of(pair.far), "what comes before the end")


# The end. -------------------------------------------------------------------------------------


@promise(23)
async def a_close_comes_after_all_that_was_written(pair: Pair) -> None:
    """`aclose` loses nothing of what was written: the peer reads it all, and then the end."""
    data = noise(_TAIL_BYTES)
    await pair.near.write(data, timeout=PATIENCE)
    await pair.near.aclose()
    same(data, await pair.rest_of(pair.far))
    await pair.open()
    data = noise(_LARGE_BYTES)
    reading = pair.start(pair.rest_of(pair.far))
    await pair.near.write(data, timeout=PATIENCE)
    await pair.near.aclose()
    await pair.gives(data, reading)


@promise(23)
async def a_close_over_unread_bytes_is_no_failure_for_the_peer(pair: Pair) -> None:
    """A close drops what was not read here, and the peer still reads all that was sent to it."""
    await pair.send(b"never read")
    await pair.near.write(b"all of it", timeout=PATIENCE)
    await pair.near.aclose()
    same(b"all of it", await pair.rest_of(pair.far))


@promise(23)
async def a_close_does_not_wait_for_the_peer(pair: Pair) -> None:
    """`aclose` is over within its limit, though the peer reads nothing and says nothing."""
    write = await pair.begin_endless_write()
    began = pair.now()
    await pair.near.aclose(timeout=pair.short)
    pair.promptly(began, "aclose")
    expect(pair.near.closed, "it is not closed")
    await pair.raises(StreamClosed, write)


@promise(23)
async def closing_may_be_repeated(pair: Pair) -> None:
    """`aclose` and `abort` can be called again, in any order, and change nothing any more."""
    await pair.near.aclose()
    await pair.near.aclose()
    pair.near.abort()
    await pair.near.aclose()
    pair.far.abort()
    pair.far.abort()
    await pair.far.aclose()
    expect(pair.near.closed and pair.far.closed, "a stream is open after it was closed")


@promise(23)
async def closing_does_not_raise_for_what_the_peer_did(pair: Pair) -> None:
    """`aclose` and `abort` raise nothing when the peer has closed, or cut, the connection."""
    for end in _CLOSES:
        for close in _CLOSES:
            await pair.near.write(b"x", timeout=PATIENCE)
            await pair.send(b"x")
            await end(pair.far)
            await asyncio.sleep(pair.short / 4)
            await close(pair.near)
            expect(pair.near.closed, "the stream is open after it was closed")
            await pair.open()


@promise(34)
async def a_close_wakes_a_read_that_waits(pair: Pair) -> None:
    """`aclose` and `abort` end a read that waits, at once, with `StreamClosed`."""
    for close in _CLOSES:
        read = await pair.begin(pair.near.read_exactly(9, timeout=PATIENCE))
        await pair.arrives(b"some")
        await close(pair.near)
        await pair.raises(StreamClosed, read)
        await pair.open()


@promise(34)
async def a_close_wakes_the_writes_that_wait(pair: Pair) -> None:
    """`aclose` and `abort` end a write that waits, and those behind it, with `StreamClosed`."""
    for close in _CLOSES:
        write = await pair.begin_endless_write()
        behind = await pair.begin(pair.near.write(b"behind", timeout=PATIENCE))
        await close(pair.near)
        await pair.raises(StreamClosed, write)
        error = await pair.raises(StreamClosed, behind)
        expect(error.done == 0, f"done of a write that queued is {error.done}")


@promise(34)
async def after_the_end_every_call_says_closed(pair: Pair) -> None:
    """On a closed stream every operation is `StreamClosed` at once, and what was unread is gone."""
    for close in _CLOSES:
        await pair.buffered(b"never read")
        await close(pair.near)
        for name, call in _CALLS.items():
            await pair.raises(StreamClosed, call(pair.near), name)
        expect(pair.near.peek() == b"" and not pair.near.buffered, "bytes are still shown")
        await pair.open()


@promise(34)
async def a_closed_stream_still_knows_its_peer(pair: Pair) -> None:
    """`closed` tells the state; `peer` stays known after the end, and `local` is None."""
    for stream in (pair.near, pair.far):
        expect(not stream.closed, "a new stream says that it is closed")
        peer = stream.peer
        await stream.aclose()
        expect(stream.closed, "a stream that was closed says that it is open")
        expect(stream.peer == peer, f"peer was {peer!r}, and is {stream.peer!r} after the end")
        expect(stream.local is None, f"local is {stream.local!r} after the end")


@promise(23)
async def leaving_its_block_closes_a_stream(pair: Pair) -> None:
    """``async with stream`` gives the stream, and closes it on leaving, also by an error."""

    async def fail() -> None:
        async with pair.near as stream:
            expect(stream is pair.near, f"the block was given {stream!r}")
            raise ZeroDivisionError

    await pair.raises(ZeroDivisionError, fail())
    expect(pair.near.closed, "it is open after its block")
    await pair.gives(b"", pair.far.read_some(timeout=PATIENCE))


@promise(23)
async def a_stream_abandoned_in_another_thread_is_closed(pair: Pair) -> None:
    """`abandon`, which a finalizer calls in whatever thread, closes the channel on its loop."""
    channel = pair.near._channel
    thread = threading.Thread(target=channel.abandon)
    thread.start()
    thread.join()
    await pair.gives(b"", pair.far.read_some(timeout=PATIENCE))
    await pair.until(lambda: channel.closed, "that the abandoned channel is closed")


@promise(29)
async def writing_to_a_peer_that_is_gone_fails(pair: Pair) -> None:
    """Writes to a peer that has closed become `ConnectionLost`, and stay so, each time afresh."""
    await pair.far.aclose()
    first = await pair.raises(ConnectionLost, _write_on(pair.near))
    for _ in range(2):
        again = await pair.raises(ConnectionLost, pair.near.write(b"x", timeout=PATIENCE))
        expect(again is not first, "the same error object was raised twice")


# Resets. --------------------------------------------------------------------------------------


@promise(29, needs=["reset"])
async def a_reset_is_no_end(pair: Pair) -> None:
    """When the peer cuts the connection, reads are `ConnectionReset`, and never ``b""``."""
    await _reset_by_peer(pair)
    seen: list[ConnectionReset] = []
    for name, call in _READS.items():
        for _ in range(2):
            error = await pair.raises(ConnectionReset, call(pair.near), name)
            expect(all(error is not other for other in seen), "one error object is raised twice")
            seen.append(error)


@promise(29, needs=["reset"])
async def a_reset_comes_after_all_bytes(pair: Pair) -> None:
    """What came before a reset is read first, and then the reset is told."""
    data = noise(_TAIL_BYTES)
    await pair.send(b"!" + data)
    await pair.gives(b"!", pair.near.read_exactly(1, timeout=PATIENCE))
    await asyncio.sleep(pair.short / 4)  # the rest is here by now: a reset may overtake what is not
    await _reset_by_peer(pair)
    await pair.still_readable(data[:-5], "what came before the reset")
    error = await pair.raises(ConnectionReset, pair.near.read_exactly(9, timeout=PATIENCE))
    expect(error.done == 5, f"done is {error.done}, and 5 bytes are left")
    await pair.still_readable(data[-5:], "the last of what came before the reset")
    await pair.raises(ConnectionReset, pair.near.read_some(timeout=PATIENCE))
    await pair.open()
    await pair.send(data)  # of which nothing is asked for before the reset
    await asyncio.sleep(pair.short / 4)
    await _reset_by_peer(pair)
    await pair.still_readable(data, "what came before the reset")
    await pair.raises(ConnectionReset, pair.near.read_some(timeout=PATIENCE))


@promise(29, needs=["reset"])
async def a_reset_wakes_a_read_that_waits(pair: Pair) -> None:
    """A read that waits is `ConnectionReset` as soon as the peer cuts the connection."""
    for name, call in _READS.items():
        read = await pair.begin(call(pair.near))
        await _reset_by_peer(pair)
        await pair.raises(ConnectionReset, read, name)
        await pair.open()


@promise(29, needs=["reset"])
async def a_reset_wakes_the_writes_that_wait(pair: Pair) -> None:
    """A write that waits, and those behind it, are `ConnectionLost` when the peer cuts."""
    write = await pair.begin_endless_write()
    behind = await pair.begin(pair.near.write(b"behind", timeout=PATIENCE))
    pair.far.abort()
    await pair.raises(ConnectionLost, write)
    await pair.raises(ConnectionLost, behind)


@promise(29, needs=["reset"])
async def a_reset_met_by_one_direction_is_told_by_the_other(pair: Pair) -> None:
    """A reset that a write has met is raised by reads, after what came, and the other way round."""
    await pair.buffered(b"left")
    await _reset_by_peer(pair)
    await pair.raises(ConnectionLost, _write_on(pair.near))
    await pair.still_readable(b"left")
    await pair.raises(ConnectionLost, pair.near.read_some(timeout=PATIENCE))
    await pair.open()
    await _reset_by_peer(pair)
    await pair.raises(ConnectionLost, pair.near.read_some(timeout=PATIENCE))
    await pair.raises(ConnectionLost, pair.near.write(b"x", timeout=PATIENCE))


# Giving the socket away. ----------------------------------------------------------------------


@promise(34)
async def a_detached_socket_is_the_callers(pair: Pair) -> None:
    """`detach` gives the socket with all its unread bytes, and ends what waits on the stream."""
    _check_has_socket(pair.near)
    await pair.buffered(b"ab")
    await _check_can_detach(pair.near)
    await pair.raises(StreamBusy, _detached(pair.near))
    await pair.still_readable(b"ab")
    read = await pair.begin(pair.near.read_exactly(1, timeout=PATIENCE))
    with await _detached(pair.near) as sock:
        await pair.raises(StreamClosed, read)
        expect(pair.near.closed, "the stream is open after it gave its socket away")
        await pair.send(b"raw")
        await pair.until(lambda: _peeked(sock) == b"raw", "that bytes reach the detached socket")
        sock.send(b"back")
        await pair.gives(b"back", pair.far.read_exactly(4, timeout=PATIENCE))
    await pair.open()
    await pair.send(b"unread")
    await asyncio.sleep(pair.short / 4)
    with await _detached(pair.near) as sock:
        got = _peeked(sock)
        expect(got == b"unread", f"b'unread' had come, and the detached socket has {got!r}")


# Calls, as the checks make them. ---------------------------------------------------------------


async def _close(stream: Stream) -> None:
    await stream.aclose()


async def _abort(stream: Stream) -> None:
    stream.abort()


async def _check_can_detach(stream: Stream) -> None:
    with contextlib.suppress(StreamBusy):
        try:
            await _detached(stream)
        except TypeError as error:
            raise Unsuitable(str(error)) from error


async def _detached(stream: Stream) -> socket.socket:
    return stream.detach()


async def _next_line(stream: Stream) -> bytes:
    return await anext(stream.lines(timeout=PATIENCE))


_CLOSES = (_close, _abort)

_READS: dict[str, Callable[[Stream], Coroutine[Any, Any, object]]] = {
    "read_exactly": lambda stream: stream.read_exactly(1, timeout=PATIENCE),
    "read_exactly, large": lambda stream: stream.read_exactly(100_000, timeout=PATIENCE),
    "read_until": lambda stream: stream.read_until(b";", timeout=PATIENCE),
    "read_line": lambda stream: stream.read_line(timeout=PATIENCE),
    "read_some": lambda stream: stream.read_some(timeout=PATIENCE),
    "read_into": lambda stream: stream.read_into(bytearray(1), timeout=PATIENCE),
    "read_all": lambda stream: stream.read_all(limit=9, timeout=PATIENCE),
    "lines": _next_line,
}

_CALLS: dict[str, Callable[[Stream], Coroutine[Any, Any, object]]] = {
    **_READS,
    "read_exactly(0)": lambda stream: stream.read_exactly(0, timeout=PATIENCE),
    "write": lambda stream: stream.write(b"x", timeout=PATIENCE),
    "write, empty": lambda stream: stream.write(b"", timeout=PATIENCE),
    "write_many": lambda stream: stream.write_many([b"x"], timeout=PATIENCE),
    "write_eof": lambda stream: stream.write_eof(timeout=PATIENCE),
}


async def _reset_by_peer(pair: Pair) -> None:
    """`far` cuts the connection; over bytes it has not read, without which some only end it."""
    await pair.near.write(b"?", timeout=PATIENCE)
    await asyncio.sleep(pair.short / 4)
    pair.far.abort()


async def _write_on(stream: Stream) -> None:
    """Write until that fails: the first bytes may go before it is known that nobody takes them."""
    for _ in range(_WRITES_MAX):
        await stream.write(b"x" * 1000, timeout=PATIENCE)
        await asyncio.sleep(_PAUSE_SECONDS)


def _check_has_socket(stream: Stream) -> None:
    try:
        _ = stream.socket
    except TypeError as error:
        raise Unsuitable(str(error)) from error


def _peeked(sock: socket.socket) -> bytes:
    try:
        return sock.recv(100, socket.MSG_PEEK)
    except BlockingIOError:
        return b""


ENDING = checks_of(globals())
