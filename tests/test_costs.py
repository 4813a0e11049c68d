"""What an operation costs, counted: futures, timers, watchers and system calls.

These counts are what keeps netio fast: a clock may be noisy, a count is not.
"""

import asyncio
import socket
from collections import Counter
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from streams import fill, outcome_of, ticks

import netio

Call = Callable[[netio.Stream], Any]

# Each takes 8 bytes, which end a line.
MESSAGE = b"7 bytes\n"
READS: dict[str, Call] = {
    "read_exactly": lambda s: s.read_exactly(8, timeout=10),
    "read_exactly by default": lambda s: s.read_exactly(8),
    "read_until": lambda s: s.read_until(b"\n", timeout=10),
    "read_line": lambda s: s.read_line(timeout=10),
    "read_some": lambda s: s.read_some(8, timeout=10),
    "read_into": lambda s: s.read_into(bytearray(8), timeout=10),
}
LOOP_METHODS = (
    "create_future",
    "call_at",
    "add_reader",
    "remove_reader",
    "add_writer",
    "remove_writer",
)


class CountedSocket(socket.socket):
    """Counts the system calls that move bytes."""

    counts: Counter[str]

    def recv(self, *args: Any) -> bytes:
        self.counts["recv"] += 1
        return super().recv(*args)

    def recv_into(self, *args: Any) -> int:
        self.counts["recv"] += 1
        return super().recv_into(*args)

    def send(self, *args: Any) -> int:
        self.counts["send"] += 1
        return super().send(*args)


class Side:
    """A stream whose calls are counted, and the other end as a plain socket."""

    def __init__(self, counts: Counter[str]) -> None:
        near, self.far = socket.socketpair()
        self.far.setblocking(False)
        sock = CountedSocket(near.family, near.type, near.proto, near.detach())
        sock.counts = self.counts = counts
        self.stream = netio.open_stream(sock)

    async def read(self, call: Call, *pieces: bytes) -> None:
        """A read that waits before each of `pieces` comes."""
        reading = asyncio.create_task(call(self.stream))
        for piece in pieces:
            await ticks(3)
            assert not reading.done()
            self.far.send(piece)
        await reading


@pytest.fixture
async def counts(monkeypatch: pytest.MonkeyPatch, loop_variant: str) -> Counter[str]:
    """How often each method of the loop is called that makes something wait."""
    if loop_variant == "uvloop":
        pytest.skip("the methods of a loop in C can't be replaced")
    counts: Counter[str] = Counter()
    loop = asyncio.get_running_loop()

    def counted(name: str) -> Callable[..., Any]:
        method = getattr(loop, name)

        def call(*args: Any, **kwargs: Any) -> Any:
            counts[name] += 1
            return method(*args, **kwargs)

        return call

    for name in LOOP_METHODS:
        monkeypatch.setattr(loop, name, counted(name))
    return counts


@pytest.fixture
async def side(counts: Counter[str]) -> AsyncIterator[Side]:
    side = Side(counts)
    yield side
    side.stream.abort()
    side.far.close()


@pytest.mark.parametrize("call", READS.values(), ids=READS)
async def test_a_read_from_the_buffer_costs_nothing_of_the_loop_or_the_kernel(
    side: Side, call: Call
) -> None:
    await side.read(call, MESSAGE * 20)
    side.counts.clear()
    for _ in range(19):
        await call(side.stream)
    assert side.counts == {}
    assert side.stream.buffered == 0


@pytest.mark.parametrize("call", READS.values(), ids=READS)
async def test_a_read_that_waits_costs_one_future_and_one_system_call(
    side: Side, call: Call
) -> None:
    await side.read(call, MESSAGE)  # sets the stream's timer, and its reader
    side.counts.clear()
    for _ in range(10):
        await side.read(call, MESSAGE)
    assert side.counts == {"create_future": 10, "recv": 10}


@pytest.mark.parametrize("call", READS.values(), ids=READS)
async def test_a_drip_costs_a_system_call_a_piece_and_still_one_future(
    side: Side, call: Call
) -> None:
    await side.read(call, MESSAGE)
    side.counts.clear()
    pieces = [MESSAGE] if call is READS["read_some"] else [MESSAGE[:3], MESSAGE[3:7], MESSAGE[7:]]
    await side.read(call, *pieces)
    assert side.counts == {"create_future": 1, "recv": len(pieces)}


async def test_the_first_wait_of_a_stream_sets_its_timer_and_its_reader_and_tries_first(
    side: Side,
) -> None:
    await side.read(READS["read_exactly"], MESSAGE)
    assert side.counts == {"create_future": 1, "call_at": 1, "add_reader": 1, "recv": 2}


async def test_only_a_limit_that_ends_earlier_sets_the_timer_again(side: Side) -> None:
    await side.read(lambda s: s.read_exactly(8, timeout=50), MESSAGE)
    side.counts.clear()
    for seconds in (60, 50, 40, 45, 41):
        await side.read(lambda s, t=seconds: s.read_exactly(8, timeout=t), MESSAGE)  # type: ignore[misc]
    assert side.counts == {"create_future": 5, "recv": 5, "call_at": 1}


@pytest.mark.parametrize("name", READS)
async def test_limits_of_the_connection_cost_no_timer_a_read(side: Side, name: str) -> None:
    call, floor = READS[name], netio.Rate(1, per=5)
    side.stream.timeouts = netio.Timeouts(idle=30, total=300, min_rate=floor)
    for _ in range(2):  # the second `read_some` is a transfer that goes on
        await side.read(call, MESSAGE)
    side.counts.clear()
    for _ in range(10):
        await side.read(call, MESSAGE)
    assert side.counts == {"create_future": 10, "recv": 10}
    side.counts.clear()
    if name != "read_some":
        for _ in range(5):  # the first byte of a transfer brings the floor nearer, for once
            await side.read(call, MESSAGE[:3], MESSAGE[3:])
        assert side.counts == {"create_future": 5, "recv": 10, "call_at": 1}


async def test_bytes_that_nobody_waits_for_are_left_in_the_kernel_at_the_price_of_a_watcher(
    side: Side,
) -> None:
    await side.read(READS["read_exactly"], MESSAGE)
    side.counts.clear()
    side.far.send(MESSAGE)
    await ticks(5)
    assert side.counts == {"remove_reader": 1}
    assert await side.stream.read_exactly(8) == MESSAGE
    assert side.counts == {"remove_reader": 1, "recv": 1}


@pytest.mark.parametrize("data", [b"x" * 64, bytearray(64), memoryview(b"x" * 64)], ids=type)
async def test_a_write_that_the_kernel_takes_costs_one_system_call(side: Side, data: Any) -> None:
    for _ in range(10):
        await side.stream.write(data, timeout=10)
    await side.stream.write_many([data, data], timeout=10)
    assert side.counts == {"send": 11}


async def test_a_write_that_waits_costs_one_future_and_a_watcher(side: Side) -> None:
    await side.read(READS["read_exactly"], MESSAGE)
    fill(side.stream)
    side.counts.clear()
    writing = asyncio.create_task(side.stream.write(b"x" * 64))
    await ticks(3)
    while not isinstance(await outcome_of(empty(side.far)), BlockingIOError):
        pass
    await writing
    assert side.counts == {"create_future": 1, "add_writer": 1, "remove_writer": 1, "send": 2}


async def empty(sock: socket.socket) -> None:
    sock.recv(1 << 20)


async def test_a_scope_costs_one_timer_and_none_without_a_deadline(counts: Counter[str]) -> None:
    async with netio.timeout(30), netio.move_on_after(None), netio.timeout_at(None):
        await asyncio.sleep(0)
    assert counts == {"call_at": 1}
