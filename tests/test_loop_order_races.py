"""A loop that was busy finds the limit and the data due at once, and decides which comes first.

The stock loop always handles descriptors first. uvloop does so when a timer's callback kept it
busy, and handles timers first when a reader's callback did. What a read answers is in the table of
law 10 whichever it is. Here the loop itself decides; the virtual one does as it is told.
"""

import asyncio
import socket
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
import streams
from raw_sockets import Known, known_readiness, what_is_in
from reads import SOCKET_READS, STREAM_READS, Read, table
from streams import outcome_of
from virtual import virtual_loop

import netio
from netio import _sockets
from netio._channel import SocketChannel
from netio._scopes import Scope
from netio._stream import Stream
from netio.testing import run

LIMIT_S = 0.005
READS = [read for read in (*STREAM_READS, *SOCKET_READS) if read.name != "read_all"]

Busy = Callable[[], None]


class Heard:
    """What the loop has told, in this order. d: of data; t, s: of the limit, of a scope."""

    events = ""

    def _on_readable(self) -> None:
        Heard.events += "d"
        super()._on_readable()  # type: ignore[misc]

    def _ring(self) -> None:
        Heard.events += "t"
        super()._ring()  # type: ignore[misc]


class HeardChannel(Heard, SocketChannel):
    pass


class HeardReadiness(Heard, Known):
    pass


class HeardScope(Scope):
    def _fire(self, task: "asyncio.Task[object]") -> None:
        Heard.events += "s"
        super()._fire(task)


@asynccontextmanager
async def source_for(read: Read, near: socket.socket) -> AsyncIterator[Any]:
    """What it reads from."""
    near.setblocking(False)
    if read in SOCKET_READS:
        with known_readiness(_sockets, HeardReadiness):
            yield near
    else:
        channel = HeardChannel(asyncio.get_running_loop(), near)
        stream = Stream(channel, timeouts=netio.Timeouts(), limit=65536)
        yield stream
        stream.abort()


async def collide(read: Read, limit: str, keep_busy: Callable[[Busy], object], pause: Busy) -> str:
    """What the loop told, of data and of a `limit` that were due at once.

    Nothing if it was late, and told of the limit before it was kept busy.
    """
    near, far = socket.socketpair()
    data = read.cuts["d"]
    in_time = False
    loop = asyncio.get_running_loop()

    def busy() -> None:
        nonlocal in_time
        if task.done():
            return
        in_time = limit not in Heard.events and loop.time() < due
        Heard.events = ""
        far.send(data)
        pause()

    async def reading(source: Any) -> Any:
        seconds = {limit: LIMIT_S}
        async with HeardScope(delay=seconds.get("s"), name=None, quiet=False):
            return await read.call(source, seconds.get("t"))

    with near, far:
        async with source_for(read, near) as source:
            Heard.events = ""
            due = loop.time() + LIMIT_S
            task = asyncio.create_task(outcome_of(reading(source)))
            far.send(read.before)
            await streams.ticks(3)
            keep_busy(busy)
            answer = await task
            told = "".join(dict.fromkeys(Heard.events + "d"))
            if not in_time:
                return ""
            check(read, told, answer)
            returned = answer if isinstance(answer, bytes) else getattr(answer, "partial", b"")
            buffered = source.peek() if isinstance(source, Stream) else b""
            assert returned + buffered + what_is_in(near) == read.before + data
            return told


def check(read: Read, told: str, answer: Any) -> None:
    [(kind, what)] = table(read, told)
    if kind == "scope":
        assert isinstance(answer, netio.DeadlineExceeded)
        assert answer.limit == "scope"
    else:
        assert answer == what or isinstance(answer, what)


def from_a_timer(busy: Busy) -> None:
    asyncio.get_running_loop().call_later(0, busy)


def from_a_reader(busy: Busy) -> None:
    loop = asyncio.get_running_loop()
    near, far = socket.socketpair()
    far.send(b"!")

    def notice() -> None:
        loop.remove_reader(near)
        near.close()
        far.close()
        busy()

    loop.add_reader(near, notice)


def past_the_limit() -> None:
    time.sleep(LIMIT_S + 0.002)


@pytest.mark.parametrize("limit", ["t", "s"])
@pytest.mark.real_time("the loop is blocked until its own timer is due")
async def test_a_busy_loop_gives_the_answers_of_the_table_whichever_it_handles_first(
    limit: str, loop_variant: str
) -> None:
    first: Counter[str] = Counter()
    for read in READS:
        for keep_busy in (from_a_timer, from_a_reader):
            while not (told := await collide(read, limit, keep_busy, past_the_limit)):
                pass
            first[told[0]] += 1
    assert first.total() == 2 * len(READS)
    assert set(first) == ({"d", limit} if loop_variant == "uvloop" else {"d"})


@pytest.mark.parametrize("timers_first", [False, True])
@pytest.mark.parametrize("limit", ["t", "s"])
def test_data_that_comes_with_the_limit_wins_whichever_the_loop_runs_first(
    limit: str, timers_first: bool
) -> None:
    async def main() -> None:
        for read in READS:
            for keep_busy in (from_a_timer, from_a_reader):
                told = await collide(read, limit, keep_busy, lambda: virtual_loop().advance(1))
                assert told[0] == (limit if timers_first else "d")

    run(main(), timers_first=timers_first)
