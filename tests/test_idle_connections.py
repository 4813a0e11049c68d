"""Ten thousand idle connections: what their limits cost while nothing happens."""

import asyncio
import contextlib
import dataclasses
import tracemalloc
from collections.abc import Callable
from typing import Any

import pytest
from streams import make_pair, outcome_of, ticks
from virtual import virtual_loop

import netio
from netio import Deadline, Rate, Timeouts

pytestmark = pytest.mark.own_loop  # what is counted is the same in debug mode, which is slow

COUNT = 10_000
NO_LIMIT = Timeouts(read=None, write=None)
LIMITED = dataclasses.replace(NO_LIMIT, idle=50, total=500, min_rate=Rate(10, per=20))

Near = list[netio.Stream]


@contextlib.asynccontextmanager
async def connections(timeouts: Timeouts, count: int = COUNT) -> Any:
    pairs = [make_pair("memory", timeouts=timeouts) for _ in range(count // 2)]
    streams = [stream for pair in pairs for stream in pair]
    try:
        yield streams
    finally:
        for stream in streams:
            stream.abort()
        await ticks(3)


async def all_wait(streams: Near, call: Callable[[netio.Stream], Any]) -> "list[asyncio.Task[Any]]":
    tasks = [asyncio.create_task(outcome_of(call(stream))) for stream in streams]
    await ticks(3)
    return tasks


@pytest.mark.timeout(60)
@pytest.mark.virtual_clock
async def test_each_has_one_timer_at_most_and_none_without_limits() -> None:
    loop = virtual_loop()
    async with connections(NO_LIMIT) as streams:
        tasks = await all_wait(streams, lambda s: s.read_some())
        assert loop._timers_set == 0
        for stream in streams:
            stream.timeouts = LIMITED
            stream.deadline = Deadline.after(1000)
        assert len(loop.timers()) <= COUNT
        await asyncio.sleep(20)
        # A byte each, and what follows it: nothing is set for that.
        before = loop._timers_set
        for stream in streams:
            stream._channel.send(b"x")
        await asyncio.gather(*tasks)
        tasks = await all_wait(streams, lambda s: s.read_exactly(5))
        assert len(loop.timers()) <= COUNT
        await asyncio.sleep(29)
        assert loop._timers_set - before <= 2
        await asyncio.wait(tasks)
        assert {task.result().limit for task in tasks} == {"idle"}
        assert loop.time() == 70
        assert loop._timers_set - before <= COUNT + 2  # each timer was set again once


@pytest.mark.virtual_clock
async def test_a_stream_without_limits_keeps_next_to_nothing_for_them() -> None:
    def size_of(timeouts: Timeouts) -> float:
        tracemalloc.start()
        before, _ = tracemalloc.get_traced_memory()
        pairs = [make_pair("memory", timeouts=timeouts) for _ in range(500)]
        after, _ = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        for near, far in pairs:
            near.abort()
            far.abort()
        return (after - before) / 1000

    plain, limited = size_of(NO_LIMIT), size_of(LIMITED)
    await ticks(3)
    assert limited - plain < 1000  # bytes, for all three
