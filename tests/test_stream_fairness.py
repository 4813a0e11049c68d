"""No operation, and no run of them, keeps the loop to itself, costs more than its bytes or holds
more than its bound. Laws 31, 32 and 35.

Turns and operations are counted where that is possible; the clock judges only what is far apart.
"""

import asyncio
import socket
import threading
import time
import tracemalloc
from collections.abc import Callable
from typing import Any

import pytest
import streams
from streams import Hand, Ticker, a_pair, make_pair, outcome_of, ticks

import netio
from netio._defaults import BYTES_PER_TURN, LAST_LOOK_BYTES, OPERATIONS_PER_TURN
from netio._memory import MemoryChannel, Way
from netio._stream import Stream

kind, pair = streams.kind, streams.pair

Call = Callable[[Stream], Any]
RUNS = 5 * OPERATIONS_PER_TURN


class Endless(MemoryChannel):
    """A peer that always has more, and takes whatever it is given."""

    def __init__(self, text: bytes = b"x") -> None:
        loop, ways = asyncio.get_running_loop(), (Way(1), Way(1 << 60))
        super().__init__(loop, *ways, None, None)
        MemoryChannel(loop, *reversed(ways), None, None)
        self._text = text * (65536 // len(text))
        self._data += b"never empty"

    def receive(self, max_bytes: int) -> bytes:
        return self._text[:max_bytes]

    def receive_into(self, view: memoryview) -> int:
        size = min(len(view), 65536)
        view[:size] = self._text[:size]
        return size

    def send(self, data: bytes | memoryview) -> int:
        return len(data)

    def send_many(self, views: Any) -> int:
        return sum(map(len, views))


def endless(text: bytes = b"x") -> Stream:
    return Stream(Endless(text), timeouts=netio.Timeouts(read=None, write=None), limit=65536)


# Runs of operations that never have to wait. --------------------------------------------------

QUICK: dict[str, Call] = {
    "read_exactly": lambda s: s.read_exactly(1),
    "read_exactly nothing": lambda s: s.read_exactly(0),
    "read_exactly large": lambda s: s.read_exactly(70_000),
    "read_until": lambda s: s.read_until(b"\n"),
    "read_line": lambda s: s.read_line(),
    "read_line limit": lambda s: s.read_line(limit=100),
    "read_some": lambda s: s.read_some(1),
    "read_some all": lambda s: s.read_some(),
    "read_into": lambda s: s.read_into(bytearray(1)),
    "read_into nothing": lambda s: s.read_into(bytearray()),
    "lines": lambda s: anext(s.lines()),
    "chunks": lambda s: anext(s.chunks(1)),
    "no time": lambda s: s.read_exactly(1, timeout=0),
    "too long": lambda s: outcome_of(s.read_until(b"never", limit=10)),
    "read_all too long": lambda s: outcome_of(s.read_all(limit=10)),
    "write": lambda s: s.write(b"x"),
    "write bytearray": lambda s: s.write(bytearray(b"x")),
    "write nothing": lambda s: s.write(b""),
    "write large": lambda s: s.write(bytes(70_000)),
    "write_many": lambda s: s.write_many([b"x", b"y"]),
    "write_many nothing": lambda s: s.write_many([]),
    "write_many large": lambda s: s.write_many([bytes(40_000)] * 2),
}


@pytest.mark.parametrize("name", QUICK)
async def test_an_endless_run_of_operations_leaves_turns_for_others(name: str) -> None:
    stream = endless(b"some line\n")
    runs = RUNS // 10 if "large" in name else RUNS
    async with Ticker() as ticker:
        for _ in range(runs):
            await QUICK[name](stream)
        assert ticker.count >= runs // OPERATIONS_PER_TURN - 1  # law 35
    stream.abort()


FAILING: dict[str, Call] = {
    "nothing there": lambda s: s.read_some(timeout=0),
    "read at the end": lambda s: s.read_some(),
    "incomplete": lambda s: s.read_exactly(9),
    "reset": lambda s: s.read_some(),
    "reset large": lambda s: s.read_exactly(100_000),
    "write reset": lambda s: s.write(b"x"),
    "write torn": lambda s: s.write(b"x"),
    "write after write_eof": lambda s: s.write(b"x"),
    "write_eof again": lambda s: s.write_eof(),
    "write no room": lambda s: s.write(b"x", timeout=0),
    "closed read_exactly": lambda s: s.read_exactly(9),
    "closed read_line": lambda s: s.read_line(),
    "closed read_into": lambda s: s.read_into(bytearray(9)),
    "closed aclose": lambda s: s.aclose(),
    "busy": lambda s: s.read_some(),
}


@pytest.mark.parametrize("name", FAILING)
@pytest.mark.any_clock
async def test_an_endless_run_of_failures_leaves_turns_for_others(kind: str, name: str) -> None:
    async with a_pair(kind, small=True) as (near, far):
        hand = Hand(near, far)
        if "reset" in name:
            hand.reset()
        elif name in ("read at the end", "incomplete"):
            await far.write_eof()
        elif name == "write torn":
            await outcome_of(near.write(bytes(3_000_000), timeout=0.001))
        elif "write_eof" in name:
            await near.write_eof()
        elif name == "write no room":
            streams.fill(near)
        elif "closed" in name:
            await near.aclose()
        elif name == "busy":
            reading = asyncio.create_task(near.read_exactly(9))
            await ticks(1)
        async with Ticker() as ticker:
            for _ in range(RUNS):
                await outcome_of(FAILING[name](near))
            assert ticker.count >= RUNS // OPERATIONS_PER_TURN - 1  # law 35
        if name == "busy":
            reading.cancel()
            await asyncio.wait([reading])


async def test_a_run_of_hits_yields_no_more_often_than_it_must() -> None:
    stream = endless()
    await stream.read_exactly(1)
    async with Ticker() as ticker:
        for _ in range(OPERATIONS_PER_TURN * 10):
            await stream.read_exactly(1)
        assert ticker.count <= 12
    stream.abort()


# One long operation. --------------------------------------------------------------------------

LONG: dict[str, Call] = {
    "read_exactly": lambda s: s.read_exactly(16 << 20),
    "read_into": lambda s: s.read_into(bytearray(16 << 20)),
    "read_all": lambda s: outcome_of(s.read_all(limit=16 << 20)),
    "read_until": lambda s: outcome_of(s.read_until(b"\n", limit=16 << 20)),
    "write": lambda s: s.write(memoryview(bytes(16 << 20))),
    "write_many": lambda s: s.write_many([bytes(1 << 20)] * 16),
}


@pytest.mark.parametrize("name", [n for n in LONG if n != "write"])
async def test_one_long_operation_gives_the_loop_a_turn_now_and_then(name: str) -> None:
    stream = endless()
    if name == "write_many":  # 64 KiB of it at once
        stream._channel.send_many = lambda views: min(65536, sum(map(len, views)))  # type: ignore
    async with Ticker() as ticker:
        await LONG[name](stream)
        assert ticker.count >= (16 << 20) // BYTES_PER_TURN - 2  # law 35
    stream.abort()


@pytest.mark.parametrize("call", [LONG["read_all"], LONG["read_until"]])
@pytest.mark.parametrize("seconds", [0, 0.01])
async def test_an_endless_flood_does_not_outrun_the_limit_of_a_read(
    call: Call, seconds: float
) -> None:
    stream = endless()
    loop = asyncio.get_running_loop()
    before = loop.time()
    with pytest.raises(netio.DeadlineExceeded) as caught:
        await stream.read_all(limit=1 << 40, timeout=seconds)
    assert caught.value.done <= 1 << 30
    if not seconds:
        assert caught.value.done <= LAST_LOOK_BYTES + 65536
    assert loop.time() - before < 2
    stream.abort()


async def test_a_peer_that_takes_everything_does_not_outrun_the_limit_of_a_write() -> None:
    class Trickle(Endless):
        def send(self, data: bytes | memoryview) -> int:
            return min(len(data), 1)

        def send_many(self, views: Any) -> int:
            return 1

    for buffers in ([bytes(1 << 20)], [bytes(1 << 20)] * 2):
        stream = Stream(Trickle(), timeouts=netio.Timeouts(), limit=65536)
        async with Ticker() as ticker:
            with pytest.raises(netio.DeadlineExceeded) as caught:
                await stream.write_many(buffers, timeout=0.01)
            assert ticker.count > 3
        assert 0 < caught.value.done < caught.value.expected
        stream.abort()


@pytest.mark.timeout(60)
@pytest.mark.parametrize(
    ("method", "size"),
    [
        ("read_exactly", 128 << 20),
        ("read_into", 128 << 20),
        pytest.param("read_into", 1 << 30, marks=pytest.mark.once),
    ],
)
@pytest.mark.real_time("who ticks meanwhile is measured; a thread sends")
async def test_a_single_read_of_a_gigabyte_does_not_starve_a_ticker(method: str, size: int) -> None:
    one, other = socket.socketpair()
    stream = netio.open_stream(one)

    def send() -> None:
        block = bytes(1 << 20)
        for _ in range(size >> 20):
            other.sendall(block)

    thread = threading.Thread(target=send, daemon=True)
    target = bytearray(size if method == "read_into" else 0)
    async with Ticker(0.005) as ticker:
        thread.start()
        before = time.monotonic()
        if method == "read_into":
            await stream.read_into(target)
        else:
            assert len(await stream.read_exactly(size)) == size
        elapsed = time.monotonic() - before
        # `read_exactly` joins its pieces in one go at the end, which is a pause; else it ticks.
        assert ticker.count >= min(elapsed / 0.005 * 0.2, 10)
    thread.join()
    stream.abort()
    other.close()


@pytest.mark.real_time("a thread sends while the limit comes nearer")
async def test_a_long_read_obeys_its_own_limit_while_bytes_pour_in() -> None:
    one, other = socket.socketpair()
    stream = netio.open_stream(one)
    stop = threading.Event()

    def send() -> None:
        other.settimeout(0.05)
        while not stop.is_set():
            try:
                other.send(bytes(1 << 16))
            except OSError:
                pass

    thread = threading.Thread(target=send, daemon=True)
    thread.start()
    with pytest.raises(netio.DeadlineExceeded) as caught:
        await stream.read_exactly(1 << 40, timeout=0.05)
    assert 0.05 <= caught.value.elapsed < 2
    assert caught.value.done == stream.buffered > 0
    stop.set()
    thread.join()
    stream.abort()
    other.close()


# Work in proportion to the bytes. -------------------------------------------------------------

DRIPS: dict[str, Callable[[Stream, int], Any]] = {
    "read_exactly": lambda s, n: s.read_exactly(n),
    "read_exactly large": lambda s, n: s.read_exactly(n + 65536 * 2),
    "read_until": lambda s, n: s.read_until(b"\r\n\r\n", limit=n),
    "read_until several": lambda s, n: s.read_until((b"\r\n\r\n", b"END", b"\0"), limit=n),
    "read_line": lambda s, n: s.read_line(limit=n),
    "read_into": lambda s, n: s.read_into(bytearray(n)),
    "read_all": lambda s, n: s.read_all(limit=n),
}


@pytest.mark.parametrize("name", DRIPS)
async def test_a_drip_wakes_the_reader_once(name: str) -> None:
    near, far = make_pair("memory")
    resumed = []
    read = DRIPS[name](near, 300 if "all" not in name else 1000)
    inner = read.__await__()

    class Counted:
        def __await__(self) -> Any:
            while True:
                try:
                    future = inner.send(None)
                except StopIteration:
                    return
                resumed.append(1)
                yield from [future] if future is None else future

    async def wait() -> None:
        await Counted()

    task = asyncio.create_task(wait())
    await ticks(2)
    for _ in range(200):
        await far.write(b"x")
        await ticks(2)
    assert len(resumed) == 1
    task.cancel()
    await outcome_of(task)
    near.abort()
    far.abort()


# Memory. --------------------------------------------------------------------------------------


@pytest.mark.any_clock
async def test_a_size_that_a_peer_promised_allocates_nothing_beforehand(kind: str) -> None:
    async with a_pair(kind) as (near, far):
        tracemalloc.start()
        try:
            waiting = asyncio.create_task(outcome_of(near.read_exactly(1 << 40, timeout=0.01)))
            await far.write(b"x" * 1000)
            await waiting
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        assert peak < 1 << 20  # law 31


async def test_a_peer_that_never_reads_makes_nothing_grow(kind: str) -> None:
    async with a_pair(kind, small=True) as (near, _):
        payload = bytes(1 << 20)
        tracemalloc.start()
        try:
            for _ in range(20):
                await outcome_of(near.write(payload, timeout=0))
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        assert peak < 1 << 20  # law 31


@pytest.mark.any_clock
async def test_a_stream_that_nobody_reads_takes_nothing_from_the_kernel(kind: str) -> None:
    async with a_pair(kind, small=True) as (near, far):
        await far.write(b"x")
        await near.read_exactly(1)
        flood = asyncio.create_task(outcome_of(far.write(bytes(1 << 22), timeout=0.02)))
        error = await flood
        assert isinstance(error, netio.DeadlineExceeded)
        assert near.buffered <= 65536
        assert near.statistics().bytes_received <= 65536 + 1
