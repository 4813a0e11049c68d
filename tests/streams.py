"""Pairs of connected streams of every kind, and a hand to force what happens to them and when.

A test module that says `kind, pair = streams.kind, streams.pair` has these fixtures, so that one
suite runs on TCP, on a Unix socket pair and on memory.

What a test makes happen "within one tick" it does in one callback of the loop, through a `Hand`:
the bytes, the end or the reset are waited for in the kernel (it is no wall-clock luck), and the
attempt that the loop would make is made there and then, so that every order can be forced.
"""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

import netio
from netio._memory import memory_pair
from netio._operation import Operation
from netio._readiness import WRITABLE, Waiter
from netio._stream import Stream
from netio.testing import Peer

KINDS = ("tcp", "unix", "memory")
PATIENCE_S = 5.0  # for the kernel, which needs microseconds
EVERYTHING = 1 << 20  # as much as is under way at most

Pair = tuple[Stream, Stream]


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
async def pair(kind: str) -> AsyncIterator[Pair]:
    near, far = make_pair(kind)
    yield near, far
    near.abort()
    far.abort()


@contextlib.asynccontextmanager
async def a_pair(kind: str, **options: Any) -> AsyncIterator[Pair]:
    """As the fixture, with `options` of `make_pair`; aborts both ends on leaving."""
    near, far = make_pair(kind, **options)
    try:
        yield near, far
    finally:
        near.abort()
        far.abort()


def make_pair(
    kind: str,
    *,
    timeouts: netio.Timeouts | None = None,
    limit: int = 65536,
    small: bool = False,
    capacity: int = 1 << 20,
) -> Pair:
    """Two connected streams. `small`: what is under way between them holds only some KiB."""
    timeouts = timeouts or netio.Timeouts(read=10, write=10)
    if kind == "memory":
        loop = asyncio.get_running_loop()
        channels = memory_pair(loop, capacity=8192 if small else capacity)
        one, other = (Stream(channel, timeouts=timeouts, limit=limit) for channel in channels)
        return one, other
    near, far = tcp_sockets(small=small) if kind == "tcp" else socket.socketpair()
    if small:
        for sock in (near, far):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 8192)
    return (
        netio.open_stream(near, timeouts=timeouts, limit=limit),
        netio.open_stream(far, timeouts=timeouts, limit=limit),
    )


def tcp_sockets(*, small: bool = False) -> tuple[socket.socket, socket.socket]:
    with socket.socket() as listening:
        if small:
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        listening.bind(("127.0.0.1", 0))
        listening.listen(1)
        near = socket.socket()
        if small:
            near.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        near.connect(listening.getsockname())
        far, _ = listening.accept()
    for sock in (near, far):
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return near, far


def waiting_to_write(channel: Any) -> list[Waiter]:
    return [waiter for waiter in channel.waiters if waiter.awaits == WRITABLE]


class Hand(Peer):
    """What happens to `near`, done from inside one callback, without suspending.

    What the peer does is the kit's own; here is more of it, and what the loop does on this side.
    """

    def __init__(self, near: Stream, far: Stream) -> None:
        super().__init__(near._channel, far._channel)
        self.near = near
        self.far = far

    # What the other side does.

    def data(self, data: bytes, *, noticed: bool = True) -> bool:
        """`far` sends, and it is in the kernel on this side; `near` attempts, if it waits."""
        assert super().data(data, noticed=noticed)
        return True

    def data_unnoticed(self, data: bytes) -> None:
        """`far` sends, and it is in the kernel on this side; the poller has yet to say so."""
        self.data(data, noticed=False)

    def make_room(self) -> int:
        """`far` takes all that is there, at once; `near` attempts, if it waits to write."""
        return self.take(EVERYTHING)

    def take_all(self) -> None:
        """`far` takes until the write of `near` is over, or was woken by something else."""
        self._until(lambda: not self.make_room() and not self.writer_waits())

    def take_until(self, size: int) -> None:
        """`far` takes all that is there, which is at least `size` bytes in all."""
        self._until(lambda: len(self.received) >= size)

    def writer_waits(self) -> bool:
        return any(waiter.waiting for waiter in waiting_to_write(self.near._channel))

    # What the loop does on this side.

    def time_is_over(self) -> None:
        """The stream's deadline passes, and its timer rings now."""
        self.near.deadline = netio.Deadline.at(asyncio.get_running_loop().time() - 0.001)
        self._ring()

    def _ring(self) -> None:
        channel = self.near._channel
        if channel._timer is not None:
            channel._timer.cancel()  # it rings now
        channel._ring()

    def limit(self, operation: Operation) -> None:
        """The limit of the call is reached, or that of `under`, and the timer rings now."""
        if operation.moving:
            [moving] = operation.moving.limits
            moving.passed = moving.seconds
            operation.deadline = moving.point()
        else:
            operation._own = operation.deadline = asyncio.get_running_loop().time() - 0.001
        self._ring()

    def under(self, limit: str) -> netio.Timeout:
        """Put `near` under this limit, anew, and what to give a call that is to obey it."""
        self.near.timeouts = netio.Timeouts()
        if limit == "idle":
            self.near.timeouts = netio.Timeouts(idle=10)
        elif limit == "min_rate":
            self.near.timeouts = netio.Timeouts(min_rate=netio.Rate(1 << 30, per=10))
            self.near._receiver.moving.floor.flows = (
                True  # also before the first byte of a read_some
            )
        return netio.Budget(10) if limit == "budget" else 10


async def in_one_tick(*events: Callable[[], object]) -> None:
    """Run `events` as callbacks of the loop's next tick, in this order."""
    loop = asyncio.get_running_loop()
    for event in events:
        loop.call_soon(event)
    await ticks(1)


async def ticks(count: int) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


async def read_rest(stream: Stream) -> bytes:
    """All that is still readable, up to the end or the failure of the connection."""
    stream.deadline = None
    rest = bytearray()
    try:
        while chunk := await stream.read_some(timeout=PATIENCE_S):
            rest += chunk
    except netio.ConnectionLost:
        pass
    return bytes(rest)


def fill(stream: Stream) -> int:
    """Write until the kernel takes no more: how many bytes."""
    total = 0
    with contextlib.suppress(BlockingIOError):
        while sent := stream._channel.send(b"~" * 65536):
            total += sent
    return total


async def outcome_of(awaitable: Any) -> Any:
    """What it returns, or the exception it raises."""
    try:
        return await awaitable
    except (Exception, asyncio.CancelledError) as error:
        return error


class Ticker:
    """Counts how often the loop comes round: `async with Ticker() as ticker`."""

    def __init__(self, every: float = 0.0) -> None:
        self._every = every
        self.count = 0

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(self._every)
            self.count += 1

    async def __aenter__(self) -> "Ticker":
        self._task = asyncio.create_task(self._tick())
        await asyncio.sleep(0)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._task
