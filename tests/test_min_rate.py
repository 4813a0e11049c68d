"""The floor of a rate: who sends, or takes, a byte at a time is cut, and nobody else.

Time is virtual: a floor is met at the points that its window gives.
"""

import asyncio
import dataclasses
import random
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from limited import WAITS, at, expect_limit, make_room, stuck_pair
from streams import outcome_of, ticks
from virtual import virtual_loop

import netio
from netio import Rate
from netio._moving import Floor

pytestmark = pytest.mark.virtual_clock

NO_LIMIT: dict[str, Any] = {"read": None, "write": None}
FLOOR = {"min_rate": Rate(10, per=4), **NO_LIMIT}


async def drip(far: netio.Stream, every: float, count: int, data: bytes = b"x") -> None:
    """Send `data` so often, the first time at once."""
    for _ in range(count):
        await far.write(data)
        await asyncio.sleep(every)


async def drain(near: netio.Stream, every: float, count: int, size: int = 1) -> None:
    for _ in range(count):
        make_room(near, size)
        await asyncio.sleep(every)


async def all_chunks(stream: netio.Stream, **options: Any) -> bytes:
    return b"".join([chunk async for chunk in stream.chunks(**options)])


READS: dict[str, Callable[..., Awaitable[Any]]] = {
    "read_exactly": lambda s, **kw: s.read_exactly(1000, **kw),
    "read_exactly large": lambda s, **kw: s.read_exactly(100_000, **kw),
    "read_line": lambda s, **kw: s.read_line(**kw),
    "read_until": lambda s, **kw: s.read_until(b"\r\n", **kw),
    "read_into": lambda s, **kw: s.read_into(bytearray(1000), **kw),
    "read_into large": lambda s, **kw: s.read_into(bytearray(100_000), **kw),
    "read_all": lambda s, **kw: s.read_all(limit=1000, **kw),
    "lines": lambda s, **kw: anext(s.lines(**kw)),
    "chunks": all_chunks,
}
ANY_READ = pytest.mark.parametrize("call", READS.values(), ids=READS)
ALSO_WITH_A_SILENCE = pytest.mark.parametrize("idle", [None, 1000])


# Reads. ---------------------------------------------------------------------------------------


@ANY_READ
async def test_a_drip_into_a_read_is_cut_a_window_after_its_first_byte(call: Any) -> None:
    async with stuck_pair(**FLOOR) as (near, far):
        reading = asyncio.create_task(outcome_of(call(near)))
        await at(100, lambda: None)  # silence before the first byte is no slowness
        dripping = asyncio.create_task(drip(far, 1, 50))
        error = await reading
        assert (error.limit, virtual_loop().time()) == ("min_rate", 104)
        assert error.seconds == 4
        dripping.cancel()


@ANY_READ
async def test_who_sends_fast_enough_is_never_cut(call: Any) -> None:
    async with stuck_pair(**FLOOR) as (near, far):
        reading = asyncio.create_task(outcome_of(call(near)))
        await ticks(2)
        await drip(far, 0.35, 300)
        await far.write(b"\r\n")
        await far.write_eof()
        result = await reading
        assert not isinstance(result, netio.DeadlineExceeded)


@ANY_READ
async def test_retries_with_short_limits_do_not_renew_it(call: Any) -> None:
    async with stuck_pair(**FLOOR) as (near, far):
        dripping = asyncio.create_task(drip(far, 0.9, 50))
        error = None
        for _ in range(50):
            error = await outcome_of(call(near, timeout=0.7))
            if error.limit != "call":
                break
        assert error is not None
        assert (error.limit, virtual_loop().time()) == ("min_rate", 4)
        dripping.cancel()


@ANY_READ
async def test_a_read_that_is_cancelled_and_repeated_does_not_renew_it(call: Any) -> None:
    async with stuck_pair(**FLOOR) as (near, far):
        dripping = asyncio.create_task(drip(far, 1.5, 50))
        task = asyncio.create_task(outcome_of(call(near)))
        await at(3.2, task.cancel)
        await asyncio.sleep(10)  # in which nobody waits
        assert (await outcome_of(call(near))).limit == "min_rate"
        # Much has come meanwhile, which is not enough; of the window 0.8 seconds were left.
        assert virtual_loop().time() == pytest.approx(14)
        dripping.cancel()


@ANY_READ
async def test_a_burst_is_forgotten_when_the_window_has_passed_it(call: Any) -> None:
    async with stuck_pair(**FLOOR) as (near, far):
        reading = asyncio.create_task(outcome_of(call(near)))
        await at(1, lambda: far.write(b"x" * 50))
        dripping = asyncio.create_task(at(3, lambda: drip(far, 1, 9)))
        error = await reading
        assert (error.limit, virtual_loop().time()) == ("min_rate", 5)
        dripping.cancel()


async def test_the_error_tells_what_really_came() -> None:
    async with stuck_pair(**{**FLOOR, "min_rate": Rate(1000, per=10)}) as (near, far):
        reading = asyncio.create_task(outcome_of(near.read_exactly(4096)))
        await at(5, lambda: far.write(b"x" * 2000))
        dripping = asyncio.create_task(at(6, lambda: drip(far, 1, 5, b"x" * 7)))
        error = await reading
        assert str(error) == (
            "read_exactly(4096) from memory:1: the floor of 1000 bytes per 10 s: 35 bytes came in "
            "the last 10 s of this transfer; 2035 of 4096 bytes are buffered and readable"
        )
        assert (error.limit, error.done, error.expected) == ("min_rate", 2035, 4096)
        assert (error.seconds, error.elapsed) == (10, 15)
        await dripping


async def test_a_single_byte_is_one_byte() -> None:
    async with stuck_pair(**FLOOR) as (near, far):
        reading = asyncio.create_task(outcome_of(near.read_exactly(8)))
        await ticks(2)
        await far.write(b"x")
        await at(1, lambda: far.write(b"x"))
        assert "10 bytes per 4 s: 1 byte came in the last 4 s" in str(await reading)


async def test_what_came_stays_readable_and_more_at_hand_ends_the_complaint() -> None:
    async with stuck_pair(**FLOOR) as (near, far):
        await far.write(b"ab")
        await expect_limit(near.read_exactly(20), "min_rate", 4)
        await expect_limit(near.read_exactly(20), "min_rate", 4)  # at once
        assert near.peek() == b"ab"
        await far.write(b"c" * 12)
        await expect_limit(near.read_exactly(20), "min_rate", 8)  # a window later
        await far.write(b"d" * 6)
        assert await near.read_exactly(20) == b"ab" + b"c" * 12 + b"d" * 6


# Between messages. ----------------------------------------------------------------------------

MESSAGES: dict[str, Callable[[netio.Stream], Awaitable[bytes]]] = {
    "read_exactly": lambda s: s.read_exactly(3),
    "read_line": lambda s: s.read_line(),
    "read_until": lambda s: s.read_until(b"\n"),
}


@pytest.mark.parametrize("replies", [True, False])
@pytest.mark.parametrize("read", MESSAGES.values(), ids=MESSAGES)
async def test_pauses_between_messages_are_idleness(read: Any, replies: bool) -> None:
    async with stuck_pair(**FLOOR) as (near, far):
        for _ in range(20):
            reading = asyncio.create_task(read(near))
            await asyncio.sleep(30)
            await far.write(b"a")
            await asyncio.sleep(0.01)
            await far.write(b"b\n")
            assert await reading == b"ab\n"
            if replies:
                make_room(near, 1)
                await near.write(b"x")


@pytest.mark.parametrize("read", MESSAGES.values(), ids=MESSAGES)
async def test_messages_that_all_drip_are_cut(read: Any) -> None:
    async with stuck_pair(**FLOOR) as (near, far):
        dripping = asyncio.create_task(slow_messages(far))
        results = [await outcome_of(read(near)) for _ in range(10)]
        assert results[0] == b"ab\n"
        assert results[-1].limit == "min_rate"
        dripping.cancel()


async def slow_messages(far: netio.Stream) -> None:
    while True:
        for piece in (b"a", b"b", b"\n"):
            await far.write(piece)
            await asyncio.sleep(0.9)


@ALSO_WITH_A_SILENCE
async def test_chunks_are_one_transfer_until_this_side_answers(idle: float | None) -> None:
    async with stuck_pair(**FLOOR, idle=idle) as (near, far):
        for _ in range(3):
            await far.write(b"request")
            assert await near.read_some() == b"request"
            make_room(near, 1)
            await near.write(b"!")
            reading = asyncio.create_task(near.read_some())
            await asyncio.sleep(30)
            await far.write(b"another")
            assert await reading == b"another"
            make_room(near, 1)
            await near.write(b"!")
        await far.write(b"request")
        assert await near.read_some() == b"request"
        now = virtual_loop().time()
        await expect_limit(near.read_some(), "min_rate", now + 4)


@ALSO_WITH_A_SILENCE
async def test_a_write_while_a_chunk_is_waited_for_ends_no_transfer(idle: float | None) -> None:
    async with stuck_pair(**FLOOR, idle=idle) as (near, far):
        await far.write(b"body")
        assert await near.read_some() == b"body"
        reading = asyncio.create_task(outcome_of(near.read_some(timeout=3.5)))
        for when in (1, 2, 3):
            make_room(near, 1)
            await at(when, lambda: near.write(b"!"))
        assert (await reading).limit == "call"
        await expect_limit(near.read_some(), "min_rate", 4)


@ALSO_WITH_A_SILENCE
async def test_a_message_after_chunks_may_be_waited_for(idle: float | None) -> None:
    async with stuck_pair(**FLOOR, idle=idle) as (near, far):
        await far.write(b"body")
        assert await near.read_some() == b"body"
        reading = asyncio.create_task(near.read_line())
        await at(30, lambda: far.write(b"next\n"))
        assert await reading == b"next\n"


# Writes. --------------------------------------------------------------------------------------


@pytest.mark.parametrize("many", [False, True])
async def test_a_slow_drain_is_cut(many: bool) -> None:
    async with stuck_pair(**FLOOR) as (near, _):
        data = b"x" * 1000
        write = near.write_many([data] * 10) if many else near.write(data)
        draining = asyncio.create_task(drain(near, 1, 50))
        error = await outcome_of(write)
        assert (error.limit, virtual_loop().time()) == ("min_rate", 4)
        assert error.done > 0
        assert "bytes per 4 s: 4 bytes went in the last 4 s" in str(error)
        draining.cancel()


async def test_who_drains_fast_enough_is_not_cut() -> None:
    async with stuck_pair(**FLOOR) as (near, _):
        draining = asyncio.create_task(drain(near, 0.35, 100))
        await near.write(b"x" * 80)
        draining.cancel()


async def test_a_peer_that_takes_nothing_is_below_the_floor() -> None:
    async with stuck_pair(**FLOOR) as (near, _):
        error = await expect_limit(near.write(b"x"), "min_rate", 4)
        assert "0 bytes went in the last 4 s" in str(error)
        await expect_limit(near.write(b"x"), "min_rate", 4)  # at once
        make_room(near, 20)
        await near.write(b"y" * 20)


async def test_what_went_without_waiting_counts() -> None:
    async with stuck_pair(**FLOOR) as (near, _):
        await asyncio.create_task(outcome_of(near.write(b"x", timeout=3)))
        make_room(near, 50)
        await near.write(b"x" * 50)
        error = await outcome_of(near.write(b"x" * 9))
        assert (error.limit, virtual_loop().time()) == ("min_rate", 7)


async def test_time_between_writes_does_not_count() -> None:
    async with stuck_pair(**FLOOR) as (near, _):
        for _ in range(20):
            writing = asyncio.create_task(near.write(b"xy"))
            await asyncio.sleep(0.5)
            make_room(near, 2)
            await writing
            await asyncio.sleep(30)


async def test_the_directions_have_a_floor_each() -> None:
    async with stuck_pair(**FLOOR) as (near, far):
        flood = asyncio.create_task(drip(far, 0.1, 100, b"x" * 100))
        reading = asyncio.create_task(near.read_exactly(10_000))
        await expect_limit(near.write(b"x"), "min_rate", 4)
        await flood
        await reading


async def test_writes_that_queue_are_one_transfer() -> None:
    async with stuck_pair(**FLOOR) as (near, _):
        tasks = [asyncio.create_task(outcome_of(near.write(b"x" * 9))) for _ in range(3)]
        assert {(await task).limit for task in tasks} == {"min_rate"}
        assert virtual_loop().time() == 4


# Assigned while an operation waits. -----------------------------------------------------------


@pytest.mark.parametrize("name", WAITS)
async def test_it_may_be_set_and_removed_while_an_operation_waits(name: str) -> None:
    async with stuck_pair(**NO_LIMIT) as (near, far):
        if name.startswith("read_some"):  # of which a transfer has begun
            near.timeouts = dataclasses.replace(near.timeouts, min_rate=Rate(10, per=100))
            await far.write(b"x")
            await near.read_some()
        elif name.startswith("read"):
            await far.write(b"x")
        task = asyncio.create_task(outcome_of(WAITS[name](near, timeout=20)))
        with_floor = dataclasses.replace(near.timeouts, min_rate=Rate(10, per=4))
        without = dataclasses.replace(near.timeouts, min_rate=None)
        await at(1, lambda: setattr(near, "timeouts", with_floor))
        await at(3, lambda: setattr(near, "timeouts", without))
        await at(5, lambda: setattr(near, "timeouts", with_floor))
        await at(6, lambda: setattr(near, "timeouts", dataclasses.replace(with_floor, read=3)))
        ends = 20 if name.startswith("read_some") else 9  # which begins anew with a new floor
        assert (await task).limit == ("call" if ends == 20 else "min_rate")
        assert virtual_loop().time() == ends


# Exactness. -----------------------------------------------------------------------------------


def cut_at(arrivals: list[tuple[float, int]], rate: Rate) -> float:
    """When a window of `per` seconds that begins with the first byte, or later, has too little."""
    first = arrivals[0][0]
    points = [first + rate.per, *(when + rate.per for when, _ in arrivals)]
    for end in sorted(points):
        inside = sum(size for when, size in arrivals if when <= end < when + rate.per)
        if end >= first + rate.per and inside < rate.bytes:
            return end
    raise AssertionError("the last byte of all leaves the window at some time")


@pytest.mark.parametrize("writes", [False, True])
@pytest.mark.parametrize("seed", range(150))
async def test_a_cut_is_never_early_and_at_most_a_sixteenth_late(seed: int, writes: bool) -> None:
    random_ = random.Random(seed)
    rate = Rate(random_.choice([1, 5, 20]), per=random_.choice([1, 16]))
    pause = rate.per / random_.choice([2, 8, 40])
    arrivals = [(0.0, random_.choice([1, 30]))]
    for _ in range(random_.choice([3, 30, 100])):
        when = arrivals[-1][0] + random_.choice([pause, pause * random_.random()])
        arrivals.append((when, random_.choice([1, 1, 1, 7, rate.bytes])))
    expected = cut_at(arrivals, rate)
    async with stuck_pair(min_rate=rate, **NO_LIMIT) as (near, far):
        call = near.write(b"x" * 9000) if writes else near.read_exactly(9000)
        task = asyncio.create_task(outcome_of(call))
        for when, size in arrivals:
            await asyncio.sleep(max(0.0, when - virtual_loop().time()))
            if task.done():
                break
            if writes:
                make_room(near, size)
            else:
                await far.write(b"x" * size)
        error = await task
        assert error.limit == "min_rate"
        assert expected - 1e-9 <= error.elapsed <= expected + rate.per / 16 + 1e-9


def test_the_history_is_bounded() -> None:
    floor = Floor(Rate(10**9, per=1), "came")
    floor.start(0)
    for step in range(10_000):
        floor.moved(1, step / 1000)
        floor.point()
        assert len(floor._parts) <= 17
    assert floor._window(10) == pytest.approx(1000, abs=70)


async def test_bytes_of_a_transfer_move_no_timer() -> None:
    async with stuck_pair(min_rate=Rate(1, per=1), idle=1, **NO_LIMIT) as (near, far):
        loop = virtual_loop()
        reading = asyncio.create_task(near.read_exactly(100))
        for _ in range(100):
            await asyncio.sleep(0.1)
            await far.write(b"x")
        await reading
        assert loop._timers_set - 100 <= 14  # besides the sleeps: ten seconds in steps of one


# What is no rate. -----------------------------------------------------------------------------


def test_a_rate_is_bytes_in_seconds() -> None:
    assert Rate(1000, per=10) == Rate(bytes=1000, per=10.0)
    assert str(Rate(1000, per=10)) == "1000 bytes per 10 s"
    for wrong in (0, -1):
        with pytest.raises(ValueError, match="bytes must be at least 1"):
            Rate(wrong, per=1)
    for wrong in (1.5, "1", True, None):
        with pytest.raises(TypeError, match="bytes must be"):
            Rate(wrong, per=1)  # type: ignore[arg-type]
    for wrong in (0, -1, float("nan"), float("inf")):
        with pytest.raises(ValueError, match="per must"):
            Rate(1, per=wrong)
    for wrong in ("1", True, None):
        with pytest.raises(TypeError, match="per must be"):
            Rate(1, per=wrong)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="bytes"):
        Rate(0, per=0)


def test_the_field_is_a_rate_or_none() -> None:
    for wrong in (5, (1000, 10), netio.Budget(5)):
        with pytest.raises(TypeError, match=r"Timeouts\.min_rate must be a netio\.Rate or None"):
            netio.Timeouts(min_rate=wrong)  # type: ignore[arg-type]


async def test_who_looks_at_a_floor_leaves_it_alone() -> None:
    """Another thread may look, in the midst of what the loop does."""
    async with stuck_pair(**FLOOR) as (near, far):
        reading = asyncio.create_task(outcome_of(near.read_exactly(1000)))
        await drip(far, 0.4, 8, b"x" * 10)
        floor = near._receiver.moving.floor
        before = (list(floor._parts), floor._sum)
        netio.snapshot()
        assert (floor._parts, floor._sum) == before
        assert (await reading).limit == "min_rate"
