"""Work in proportion to the bytes, when they come one at a time (law 32).

CPU time of one thread, for 64 KiB and for 512 KiB on streams, for 32 KiB and for 128 KiB on bare
sockets: n times the bytes may cost a quarter more than n times as much. Work that is squared costs
n times more than that, so that trying again does not hide it. (Below 64 KiB a stream reads in
another way, which costs more for each byte; and a search that begins anew each time is so fast for
one byte that it takes 512 KiB to tell.)

No loop has a part in it, so that it is measured on the stock one alone: what a loop would do when
a byte is there is done by the test, and a socket that is always readable is never waited for.
"""

import asyncio
import gc
import socket
import time
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from streams import outcome_of, ticks

import netio
from netio._memory import MemoryChannel, Way
from netio._stream import Stream

pytestmark = [pytest.mark.own_loop, pytest.mark.once]

STREAM_BYTES, STREAM_TIMES = 64 * 1024, 8
SOCKET_BYTES, SOCKET_TIMES = 32 * 1024, 4
EXCESS_MAX = 1.25
TRIES = 8  # a busy machine disturbs some of them

STREAM_READS: dict[str, Callable[[Stream, int], Awaitable[object]]] = {
    "read_exactly": lambda s, n: s.read_exactly(n),
    "read_until": lambda s, n: s.read_until(b"\r\n\r\n", limit=n),
    "read_until several": lambda s, n: s.read_until((b"\r\n\r\n", b"END", b"\0"), limit=n),
    "read_line": lambda s, n: s.read_line(limit=n),
    "read_into": lambda s, n: s.read_into(bytearray(n)),
    "read_all": lambda s, n: s.read_all(limit=n),
}
SOCKET_READS: dict[str, Callable[[socket.socket, int], Awaitable[object]]] = {
    "read_bytes": lambda s, n: netio.read_bytes(s, n),
    "readuntil": lambda s, n: netio.readuntil(s, b"\r\n\r\n", limit=n),
    "readuntil several": lambda s, n: netio.readuntil(s, (b"\r\n\r\n", b"END"), limit=n),
}


class DrippingChannel(MemoryChannel):
    """Gives a byte at a time, `left` of them, and then would block."""

    left = 0

    def receive(self, max_bytes: int) -> bytes:
        if not self.left:
            raise BlockingIOError
        self.left -= 1
        return b"x"

    def receive_into(self, view: memoryview) -> int:
        view[:1] = self.receive(1)
        return 1


class DrippingSocket(socket.socket):
    """The same, as a socket, which is always readable."""

    left = 0

    def recv(self, size: int, flags: int = 0) -> bytes:
        if not self.left:
            raise BlockingIOError
        if not flags & socket.MSG_PEEK:
            self.left -= 1
        return b"x"


async def seconds_on_a_stream(name: str, size: int) -> float:
    """The work of `size` attempts, each of which brings one byte, as the loop would make them."""
    loop, ways = asyncio.get_running_loop(), (Way(1), Way(1))
    channel = DrippingChannel(loop, *ways, None, None)
    MemoryChannel(loop, *reversed(ways), None, None)
    stream = Stream(channel, timeouts=netio.Timeouts(), limit=65536)
    task = asyncio.create_task(outcome_of(STREAM_READS[name](stream, size)))
    await ticks(3)
    channel.left = size
    attempt = stream._receiver.attempt
    before = time.thread_time()
    while channel.left:
        attempt()
    seconds = time.thread_time() - before
    assert stream.statistics().bytes_received == size
    stream.abort()
    await task
    return seconds


async def seconds_on_a_socket(name: str, size: int) -> float:
    near, far = socket.socketpair()
    with DrippingSocket(fileno=near.detach()) as sock, far:
        far.send(b"!")
        sock.setblocking(False)
        sock.left = size
        before = time.thread_time()
        await outcome_of(SOCKET_READS[name](sock, size))
        seconds = time.thread_time() - before
        assert sock.left == 0
    return seconds


@pytest.mark.timeout(60)
@pytest.mark.parametrize("name", [*STREAM_READS, *SOCKET_READS])
async def test_a_byte_at_a_time_costs_in_proportion_to_the_bytes(name: str) -> None:
    measure: Any
    if name in STREAM_READS:
        measure, small, times = seconds_on_a_stream, STREAM_BYTES, STREAM_TIMES
    else:
        measure, small, times = seconds_on_a_socket, SOCKET_BYTES, SOCKET_TIMES
    ratios = []
    gc.disable()
    try:
        for _ in range(TRIES):
            ratios.append(await measure(name, small * times) / await measure(name, small))
            if ratios[-1] <= times * EXCESS_MAX:
                return
    finally:
        gc.enable()
    pytest.fail(f"{times} times the bytes cost {ratios} times as much")
