"""Conformance: bounds of memory, of work and of turns; errors to act on; nothing left behind."""

from __future__ import annotations

import asyncio
import functools
import math
import os
import pickle
import threading
import time
from typing import TYPE_CHECKING

from netio._defaults import READ_BYTES
from netio._errors import (
    DeadlineExceeded,
    IncompleteRead,
    LimitExceeded,
    NetioError,
    StreamBusy,
    StreamClosed,
    format_address,
)
from netio.testing._conformance.checking import (
    ENDLESS,
    PATIENCE,
    UNDER_WAY_BYTES,
    Broken,
    Pair,
    Ticker,
    Unsuitable,
    checks_of,
    expect,
    promise,
    same,
    show,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from typing import Any

    from netio._stream import Stream

    Call = Callable[[Stream], Coroutine[Any, Any, object]]

_LIMIT_BYTES = 1000

# So often is done what must leave nothing behind, so that others' timers and tasks don't matter.
_ROUNDS = 8

# A loop turns this often in a run of operations, at least; netio lets it turn once in 256 of them.
_RUN_OPERATIONS = 8_000
_RUN_TURNS = 8
_LONG_BYTES = 8 << 20

_DRIP_BYTES = 500
_DRIP_TIMES = 8
_DRIP_COST_MAX = 20  # linear work costs 8 times as much, squared work 64 times
_DRIP_TRIES = 3


# Limits of records. ---------------------------------------------------------------------------


@promise(30)
async def a_limit_that_is_exceeded_discards_nothing(pair: Pair) -> None:
    """A record longer than its limit is `LimitExceeded`, and can be read with a larger one."""
    line = b"x" * (_LIMIT_BYTES + 10) + b"\n"
    await pair.send(line)
    for read in (
        pair.near.read_line,
        functools.partial(pair.near.read_until, b"\n"),
    ):
        error = await pair.raises(LimitExceeded, read(limit=_LIMIT_BYTES, timeout=PATIENCE))
        expect(error.limit == _LIMIT_BYTES, f"limit is {error.limit}, not {_LIMIT_BYTES}")
        expect(error.consumed <= len(line), f"consumed is {error.consumed}, of {len(line)} bytes")
    await pair.gives(line, pair.near.read_line(limit=len(line), timeout=PATIENCE))


@promise(30)
async def a_record_as_long_as_its_limit_is_not_too_long(pair: Pair) -> None:
    """A limit counts the whole record, its separator included, and is not exceeded by itself."""
    await pair.send(b"12345678\nab;")
    await pair.raises(LimitExceeded, pair.near.read_line(limit=8, timeout=PATIENCE))
    await pair.gives(b"12345678\n", pair.near.read_line(limit=9, timeout=PATIENCE))
    await pair.raises(LimitExceeded, pair.near.read_until(b";", limit=2, timeout=PATIENCE))
    await pair.gives(b"ab;", pair.near.read_until(b";", limit=3, timeout=PATIENCE))


@promise(30)
async def more_than_read_all_may_hold_discards_nothing(pair: Pair) -> None:
    """`read_all` of more than its limit is `LimitExceeded`, and all of it stays readable."""
    data = b"abc" * 50_000
    write = pair.start(pair.far.write(data, timeout=PATIENCE))
    await pair.raises(LimitExceeded, pair.near.read_all(limit=len(data) // 2, timeout=PATIENCE))
    await pair.still_readable(data)
    await pair.gives(None, write)


# Memory. --------------------------------------------------------------------------------------


@promise(31)
async def a_stream_holds_no_more_than_its_limit(pair: Pair) -> None:
    """What is held unread of an endless record is bounded by its limit, and one read more."""
    pair.start(pair.far.write(ENDLESS, timeout=PATIENCE))
    for _ in range(3):
        read = pair.near.read_line(limit=_LIMIT_BYTES, timeout=PATIENCE)
        await pair.raises(LimitExceeded, read)
        await asyncio.sleep(pair.short / 4)
        held = pair.near.buffered
        expect(held <= _LIMIT_BYTES + READ_BYTES, f"{held} bytes are held")


@promise(31)
async def a_stream_that_nobody_reads_takes_nothing(pair: Pair) -> None:
    """Bytes that nobody asks for are left to the transport, which makes the peer wait."""
    await pair.buffered(b"x")
    before = pair.near.statistics().bytes_received
    write = pair.start(pair.far.write(ENDLESS, timeout=PATIENCE))
    await asyncio.sleep(pair.short)
    taken = pair.near.statistics().bytes_received - before
    expect(taken <= READ_BYTES, f"{taken} bytes were taken in, and none was asked for")
    expect(not write.done(), f"a write of {UNDER_WAY_BYTES} bytes is over, and none was read")


@promise(31)
async def a_size_that_was_only_promised_takes_no_memory(pair: Pair) -> None:
    """A read of more bytes than there is memory waits for them like any other."""
    read = await pair.begin(pair.near.read_exactly(1 << 50, timeout=2 * pair.short))
    await pair.arrives(b"few")
    await pair.raises(DeadlineExceeded, read)
    await pair.still_readable(b"few")


# Work, and turns of the loop. -----------------------------------------------------------------


@promise(32)
async def a_drip_costs_in_proportion_to_its_bytes(pair: Pair) -> None:
    """The work for bytes that come one at a time grows as their number, and not as its square."""
    ratios = []
    for _ in range(_DRIP_TRIES):  # a busy machine disturbs some of them
        few = await _cost_of_a_drip(pair, _DRIP_BYTES)
        many = await _cost_of_a_drip(pair, _DRIP_BYTES * _DRIP_TIMES)
        ratios.append(many / few)
        if ratios[-1] <= _DRIP_COST_MAX:
            return
    told = ", ".join(f"{ratio:.0f}" for ratio in ratios)
    raise Broken(f"{_DRIP_TIMES} times the bytes cost {told} times the work")


@promise(35)
async def waiting_costs_nothing(pair: Pair) -> None:
    """The loop sleeps while operations wait, and while what came is not asked for."""
    await pair.send(b"x")
    await pair.gives(b"x", pair.near.read_exactly(1, timeout=PATIENCE))
    await _is_idle(pair, "nobody waits")
    write = await pair.begin_endless_write()
    read = await pair.begin(pair.near.read_exactly(1, timeout=PATIENCE))
    await _is_idle(pair, "a read and a write wait")
    await pair.send(b"yz")
    await pair.gives(b"y", read)
    await pair.send(b"not asked for")
    await _is_idle(pair, "a write waits, and there are bytes nobody asks for")
    write.cancel()
    await pair.is_cancelled(write)
    await _is_idle(pair, "there are bytes nobody asks for")


@promise(35)
async def the_end_of_the_peer_costs_nothing(pair: Pair) -> None:
    """The loop sleeps when the peer has ended the stream, and nobody reads that."""
    read = await pair.begin(pair.near.read_exactly(2, timeout=PATIENCE))
    await pair.send(b"ab")
    await pair.gives(b"ab", read)
    await pair.far.aclose()
    await _is_idle(pair, "the peer has closed")
    await pair.gives(b"", pair.near.read_some(timeout=PATIENCE))
    await _is_idle(pair, "the end was read")


@promise(35)
async def endless_small_reads_leave_turns(pair: Pair) -> None:
    """Reads that never have to wait let the loop turn now and then."""
    data = b"x" * _RUN_OPERATIONS
    write = pair.start(pair.far.write(data, timeout=PATIENCE))
    async with Ticker() as ticker:
        for _ in data:
            await pair.near.read_exactly(1, timeout=PATIENCE)
        expect(ticker.count >= _RUN_TURNS, _starved(len(data), ticker))
    await pair.gives(None, write)


@promise(35)
async def endless_small_writes_leave_turns(pair: Pair) -> None:
    """Writes that never have to wait let the loop turn now and then."""
    pair.start(pair.rest_of(pair.far))
    async with Ticker() as ticker:
        for _ in range(_RUN_OPERATIONS):
            await pair.near.write(b"x", timeout=PATIENCE)
        expect(ticker.count >= _RUN_TURNS, _starved(_RUN_OPERATIONS, ticker))


@promise(35)
async def endless_failures_leave_turns(pair: Pair) -> None:
    """Operations that fail at once let the loop turn now and then."""
    failed = 0
    async with Ticker() as ticker:
        for _ in range(_RUN_OPERATIONS // 4):
            try:
                await pair.near.read_exactly(1, timeout=0)
            except DeadlineExceeded:
                failed += 1
        expect(ticker.count >= _RUN_TURNS // 4, _starved(failed, ticker))
    expect(failed == _RUN_OPERATIONS // 4, "a read of nothing did not fail")


@promise(35)
async def a_long_operation_leaves_turns(pair: Pair) -> None:
    """A single long read, and a single long write, let the loop turn now and then."""
    data = bytes(_LONG_BYTES)
    async with Ticker() as ticker:
        write = pair.start(pair.far.write(data, timeout=PATIENCE))
        same(data, await pair.near.read_exactly(len(data), timeout=PATIENCE))
        expect(ticker.count >= _RUN_TURNS, _starved(2, ticker))
    await pair.gives(None, write)


@promise(35)
async def a_flood_does_not_outrun_a_limit(pair: Pair) -> None:
    """A read whose bytes pour in without a pause still ends at its limit."""
    if pair.exact:
        raise Unsuitable("on a virtual clock no time passes while bytes pour in")
    flood = pair.start(_flood(pair.far))
    began = pair.now()
    await pair.raises(DeadlineExceeded, pair.near.read_exactly(1 << 50, timeout=pair.short))
    pair.lasted(began, pair.short)
    expect(not flood.done(), "the flood came to an end")


# Errors, arguments, counters. -----------------------------------------------------------------


@promise(12)
async def an_error_says_what_was_under_way(pair: Pair) -> None:
    """`DeadlineExceeded` names the operation, the peer, the limit and how far it got."""
    read = await pair.begin(pair.near.read_exactly(16, timeout=2 * pair.short))
    await pair.arrives(b"abc")
    error = await pair.raises(DeadlineExceeded, read)
    told = (error.operation, error.peer, error.seconds, error.done, error.expected)
    wanted = ("read_exactly(16)", pair.near.peer, 2 * pair.short, 3, 16)
    expect(told == wanted, f"it says {told}, not {wanted}")
    expect(error.elapsed >= 2 * pair.short, f"it says that {error.elapsed} s have passed")
    expect(isinstance(error, TimeoutError), "it is no TimeoutError")
    for part in ("read_exactly(16)", format_address(pair.near.peer), "3 of 16"):
        expect(part in str(error), f"its message does not tell {part!r}: {error}")


@promise()
async def errors_survive_pickling(pair: Pair) -> None:
    """Each error is the same after pickling: its class, its message, and all it tells."""
    waits = await pair.begin(pair.near.read_exactly(9, timeout=2 * pair.short))
    await pair.arrives(b"abc")
    errors: list[NetioError] = [
        await pair.raises(StreamBusy, pair.near.read_some(timeout=PATIENCE)),
        await pair.raises(DeadlineExceeded, waits),
        await pair.raises(LimitExceeded, pair.near.read_until(b";", limit=2, timeout=PATIENCE)),
        await pair.raises(DeadlineExceeded, pair.near.write(ENDLESS, timeout=pair.short)),
    ]
    await pair.far.aclose()
    errors.append(
        await pair.raises((IncompleteRead, NetioError), pair.near.read_exactly(9, timeout=PATIENCE))
    )
    await pair.near.aclose()
    errors.append(await pair.raises(StreamClosed, pair.near.write(b"x", timeout=PATIENCE)))
    for error in errors:
        again = pickle.loads(pickle.dumps(error))
        expect(type(again) is type(error), f"{type(error).__name__} became {again!r}")
        expect(str(again) == str(error), f"{error} became {again}")
        expect(vars(again) == vars(error), f"{vars(error)} became {vars(again)}")


@promise()
async def wrong_arguments_are_refused(pair: Pair) -> None:
    """What makes no sense is a `TypeError` or `ValueError` before any I/O, and changes nothing."""
    await pair.buffered(b"left")
    for call, kind in _WRONG:
        await pair.raises(kind, call(pair.near))
    await pair.still_readable(b"left")
    await pair.near.write(b"alone", timeout=PATIENCE)
    await pair.gives(b"alone", pair.far.read_some(timeout=PATIENCE))


@promise(3)
async def another_loop_is_refused(pair: Pair) -> None:
    """An operation under another loop is `RuntimeError` before any I/O."""
    await pair.send(b"mine")
    for name, call in {
        "a read": lambda: pair.near.read_exactly(4, timeout=pair.short),
        "a write": lambda: pair.near.write(b"not mine", timeout=pair.short),
    }.items():
        given = _given_in_another_loop(call)
        expect(isinstance(given, RuntimeError), f"{name} there gave {show(given)}")
    await pair.still_readable(b"mine")
    await pair.near.write(b"ok", timeout=PATIENCE)
    await pair.gives(b"ok", pair.far.read_some(timeout=PATIENCE))


@promise()
async def statistics_count_both_directions(pair: Pair) -> None:
    """`statistics` counts the bytes taken in, those sent, and those unread, also after the end."""
    await pair.buffered(b"abc")
    await pair.near.write(b"12345", timeout=PATIENCE)
    await pair.near.write_many([b"678", b"9"], timeout=PATIENCE)
    counts = pair.near.statistics()
    told = (counts.bytes_received, counts.bytes_sent, counts.buffered)
    expect(told == (4, 9, 3), f"it says {told} of 4 received, 9 sent, 3 unread")
    await pair.near.aclose()
    counts = pair.near.statistics()
    told = (counts.bytes_received, counts.bytes_sent, counts.buffered)
    expect(told == (4, 9, 0), f"after the end it says {told} of 4 received, 9 sent, 0 unread")


# Nothing is left behind. ----------------------------------------------------------------------


@promise(23)
async def a_closed_stream_leaves_no_timer(pair: Pair) -> None:
    """After the end of a stream none of its timers is set, whatever waited on it."""
    if not hasattr(pair.loop, "_scheduled"):
        raise Unsuitable(f"{type(pair.loop).__name__} does not tell which timers are set")
    await asyncio.sleep(0)
    before = _timers(pair.loop)  # and not their ids alone, which others might be given
    known = {id(timer) for timer in before}
    await _used_and_closed(pair)
    left = [timer for timer in _timers(pair.loop) if id(timer) not in known]
    expect(len(left) < _ROUNDS, f"{len(left)} timers are set after {_ROUNDS} streams: {left[-1:]}")


@promise(24)
async def a_closed_stream_leaves_no_task(pair: Pair) -> None:
    """After the end of a stream no task is left that it has started."""
    before = asyncio.all_tasks()
    await _used_and_closed(pair)
    await pair.settle()
    left = [task for task in asyncio.all_tasks() - before if not task.done()]
    expect(len(left) < _ROUNDS, f"{len(left)} tasks run after {_ROUNDS} streams: {left[-1:]}")


@promise(23)
async def a_closed_stream_leaves_no_descriptor(pair: Pair) -> None:
    """The socket of a closed stream is closed at once, and the loop watches it no more."""
    for close_by_abort in (False, True):
        await _begin_waits(pair)
        try:
            number = pair.near.socket.fileno()
        except TypeError as error:
            raise Unsuitable(str(error)) from error
        if close_by_abort:
            pair.near.abort()
        else:
            await pair.near.aclose()
        try:
            os.fstat(number)
        except OSError:
            closed = True
        else:
            closed = False
        expect(closed, "the descriptor is open after the stream was closed")
        watched = pair.loop.remove_reader(number), pair.loop.remove_writer(number)
        expect(not any(watched), "the loop watches the descriptor after the stream was closed")


# Calls, as the checks make them. ---------------------------------------------------------------

_NUMBER: Any = 5
_TEXT: Any = "text"

_WRONG: tuple[tuple[Call, type[Exception] | tuple[type[Exception], ...]], ...] = (
    (lambda s: s.read_exactly(-1), ValueError),
    (lambda s: s.read_exactly(_TEXT), TypeError),
    (lambda s: s.read_some(0), ValueError),
    (lambda s: s.read_until(b""), ValueError),
    (lambda s: s.read_until(_TEXT), TypeError),
    (lambda s: s.read_until(b"ab", limit=1), ValueError),
    (lambda s: s.read_line(limit=0), ValueError),
    (lambda s: s.read_into(_TEXT), TypeError),
    (lambda s: s.read_into(b"read only"), (TypeError, ValueError)),
    (lambda s: s.read_all(limit=-1), ValueError),
    (lambda s: s.read_exactly(1, timeout=math.nan), ValueError),
    (lambda s: s.read_exactly(1, timeout=_TEXT), TypeError),
    (lambda s: s.write(_TEXT), TypeError),
    (lambda s: s.write(b"x", timeout=math.nan), ValueError),
    (lambda s: s.write(b"x", timeout=_TEXT), TypeError),
    (lambda s: s.write_many(_NUMBER), TypeError),
    (lambda s: s.write_many([b"x", _TEXT]), TypeError),
    (lambda s: s.write_eof(timeout=_TEXT), TypeError),
    (lambda s: s.aclose(timeout=_TEXT), TypeError),
)


async def _cost_of_a_drip(pair: Pair, size: int) -> float:
    """The processor's time, in seconds, for a read of `size` bytes that come one at a time.

    On a new connection: what came before costs, too, where the work is squared.
    """
    await pair.open()
    read = await pair.begin(pair.near.read_exactly(size, timeout=PATIENCE))
    before = time.thread_time()
    for _ in range(size):
        await pair.far.write(b"x", timeout=PATIENCE)
        await asyncio.sleep(0)
    await pair.ended(read)
    return time.thread_time() - before


async def _is_idle(pair: Pair, what: str) -> None:
    """The loop sleeps now. A virtual clock would not move if it did not: the check would hang."""
    await pair.settle()
    began, before = pair.now(), time.thread_time()
    await asyncio.sleep(2 * pair.short)
    busy, elapsed = time.thread_time() - before, pair.now() - began
    if not pair.exact:
        expect(busy < elapsed / 2, f"while {what}, the loop ran for {busy:.3f} of {elapsed:.3f} s")


def _timers(loop: asyncio.AbstractEventLoop) -> list[asyncio.TimerHandle]:
    """The timers that are set, also those that would wake nobody."""
    timers: list[asyncio.TimerHandle] = getattr(loop, "_scheduled", [])
    return [timer for timer in timers if not timer.cancelled()]


def _starved(operations: int, ticker: Ticker) -> str:
    return f"the loop turned {ticker.count} times in {operations} operations"


async def _flood(stream: Stream) -> None:
    """Write for much longer than any limit of a check, without a pause."""
    until = asyncio.get_running_loop().time() + PATIENCE
    while asyncio.get_running_loop().time() < until:
        await stream.write(b"x" * READ_BYTES, timeout=PATIENCE)


def _given_in_another_loop(call: Callable[[], Coroutine[Any, Any, object]]) -> object:
    """What it gives, or raises, in another thread with a loop of its own."""
    given: list[object] = []

    def run() -> None:
        try:
            given.append(asyncio.run(call()))
        except BaseException as error:
            given.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(PATIENCE)
    return given[0] if given else "nothing, and still waits"


async def _begin_waits(pair: Pair) -> list[asyncio.Task[Any]]:
    """A read that waits, and a write, on a new connection."""
    write = await pair.begin_endless_write()
    return [write, await pair.begin(pair.near.read_exactly(1, timeout=PATIENCE))]


async def _used_and_closed(pair: Pair) -> None:
    """Streams on which there was waiting, and is, are closed in every way."""
    for number in range(_ROUNDS):
        pair = await pair.another()
        tasks = await _begin_waits(pair)
        await pair.send(b"x")
        await pair.gives(b"x", tasks[1])
        if number % 4 < 2:
            tasks[1] = await pair.begin(pair.near.read_exactly(1, timeout=PATIENCE))
        if number % 2:
            pair.near.abort()
        else:
            await pair.near.aclose()
        pair.far.abort()
        for task in tasks:
            await pair.ended(task)
        await pair.end()


KEEPING = checks_of(globals())
