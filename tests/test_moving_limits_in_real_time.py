"""Limits that move, on real clocks and sockets: in time, and never early."""

import asyncio
import dataclasses
from typing import Any

import pytest
import streams
from streams import Pair, fill, outcome_of, ticks

import netio
from netio import Budget, Rate

kind, pair = streams.kind, streams.pair
pytestmark = pytest.mark.real_time("the clocks of the loops, and the kernel, are what is tested")

SECONDS = 0.02
EARLY = 0.0015  # uvloop counts in milliseconds, and tells of each when it has begun


@dataclasses.dataclass
class Watch:
    """How long it has been since it was made."""

    began: float = dataclasses.field(default_factory=lambda: asyncio.get_running_loop().time())

    @property
    def passed(self) -> float:
        return asyncio.get_running_loop().time() - self.began


async def test_a_silence_counts_from_the_last_byte(pair: Pair) -> None:
    near, far = pair
    near.timeouts = netio.Timeouts(idle=SECONDS)
    watch = Watch()
    reading = asyncio.create_task(outcome_of(near.read_exactly(9)))
    for _ in range(3):
        await asyncio.sleep(SECONDS / 2)
        await far.write(b"x")
    error = await reading
    assert (error.limit, error.done) == ("idle", 3)
    assert watch.passed >= 2.5 * SECONDS - EARLY


async def test_a_silence_ends_a_write(pair: Pair) -> None:
    near, _ = pair
    near.timeouts = netio.Timeouts(idle=SECONDS)
    fill(near)
    watch = Watch()
    error = await outcome_of(near.write(b"x" * 1_000_000))
    assert (error.limit, error.done) == ("idle", 0)
    assert watch.passed >= SECONDS - EARLY


async def test_a_floor_counts_from_the_first_byte(pair: Pair) -> None:
    near, far = pair
    near.timeouts = netio.Timeouts(min_rate=Rate(100, per=SECONDS))
    reading = asyncio.create_task(outcome_of(near.read_exactly(9)))
    await asyncio.sleep(2 * SECONDS)
    watch = Watch()
    await far.write(b"x")
    error = await reading
    assert (error.limit, error.done) == ("min_rate", 1)
    assert watch.passed >= SECONDS - EARLY


async def test_a_budget_is_spent_by_what_waits(pair: Pair) -> None:
    near, far = pair
    budget = Budget(SECONDS)
    await far.write(b"x")
    assert await near.read_exactly(1, timeout=budget) == b"x"
    watch = Watch()
    calls: list[Any] = [near.read_some(timeout=budget), far.read_some(timeout=budget)]
    errors = await asyncio.gather(*map(outcome_of, calls))
    assert [error.limit for error in errors] == ["budget", "budget"]
    assert watch.passed >= SECONDS / 2 - EARLY
    assert budget.remaining() == 0


async def test_life_ends_on_time_and_a_closed_stream_leaves_nothing(pair: Pair) -> None:
    near, _ = pair
    near.timeouts = netio.Timeouts(total=SECONDS, idle=5, min_rate=Rate(1, per=5))
    error = await outcome_of(near.read_some())
    assert error.limit == "total"
    near.timeouts = netio.Timeouts(idle=5)
    reading = asyncio.create_task(outcome_of(near.read_some()))
    await ticks(2)
    await near.aclose()
    assert isinstance(await reading, netio.StreamClosed)
