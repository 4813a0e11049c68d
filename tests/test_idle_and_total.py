"""The silence and the life of a connection: `Timeouts.idle` and `Timeouts.total`.

Time is virtual: limits are met exactly.
"""

import asyncio
import dataclasses
from typing import Any

import pytest
from limited import READS, WAITS, WRITES, Call, at, expect_limit, make_room, stuck_pair
from streams import Pair, make_pair, outcome_of, ticks
from virtual import virtual_loop

import netio
from netio import Deadline, DeadlineExceeded

pytestmark = pytest.mark.virtual_clock

NO_LIMIT: dict[str, Any] = {"read": None, "write": None}
CALLS = pytest.mark.parametrize("call", WAITS.values(), ids=WAITS)


def change(stream: netio.Stream, **fields: Any) -> None:
    stream.timeouts = dataclasses.replace(stream.timeouts, **fields)


# Silence. -------------------------------------------------------------------------------------


@CALLS
async def test_silence_while_an_operation_waits_ends_it(call: Call) -> None:
    async with stuck_pair(idle=3, **NO_LIMIT) as (near, _):
        await asyncio.sleep(10)
        error = await expect_limit(call(near), "idle", 13)
        assert (error.seconds, error.elapsed, error.peer) == (3, 3, "memory:1")


async def test_the_error_tells_the_limit_and_how_far_it_got() -> None:
    async with stuck_pair(idle=5, **NO_LIMIT) as (near, far):
        reading = asyncio.create_task(outcome_of(near.read_exactly(4096)))
        await at(2.3, lambda: far.write(b"x" * 1000))
        error = await reading
        assert str(error) == (
            "read_exactly(4096) from memory:1: the idle limit (5 s without a byte) was reached "
            "after 7.300 s; 1000 of 4096 bytes are buffered and readable"
        )
        assert (error.limit, error.done, error.expected) == ("idle", 1000, 4096)


@pytest.mark.parametrize("call", [READS["read_exactly(8)"], READS["read_line"]])
async def test_a_byte_that_comes_renews_it(call: Call) -> None:
    async with stuck_pair(idle=3, **NO_LIMIT) as (near, far):
        reading = asyncio.create_task(outcome_of(call(near)))
        for when in (2, 4.5, 5, 7):
            await at(when, lambda: far.write(b"x"))
        error = await reading
        assert (error.limit, error.done, virtual_loop().time()) == ("idle", 4, 10)


@pytest.mark.parametrize("call", WRITES.values(), ids=WRITES)
async def test_a_byte_that_goes_renews_it(call: Call) -> None:
    async with stuck_pair(idle=3, **NO_LIMIT) as (near, _):
        writing = asyncio.create_task(outcome_of(call(near)))
        for when in (2, 4.5, 7):
            await at(when, lambda: make_room(near, 1))
        error = await writing
        assert (error.limit, error.done, virtual_loop().time()) == ("idle", 3, 10)


async def test_a_byte_of_either_direction_renews_it_for_the_other() -> None:
    async with stuck_pair(idle=3, **NO_LIMIT) as (near, far):
        tasks = [outcome_of(near.read_exactly(9)), outcome_of(near.write(b"x" * 9))]
        both = asyncio.gather(*tasks)
        await at(2, lambda: far.write(b"x"))
        await at(4, lambda: make_room(near, 1))
        errors = await both
        assert [(error.limit, error.done) for error in errors] == [("idle", 1), ("idle", 1)]
        assert virtual_loop().time() == 7


async def test_a_write_that_does_not_wait_renews_it_for_a_read() -> None:
    async with stuck_pair(idle=3, **NO_LIMIT) as (near, _):
        make_room(near, 100)
        reading = asyncio.create_task(outcome_of(near.read_some()))
        await at(2, lambda: near.write(b"x"))
        assert (await reading).limit == "idle"
        assert virtual_loop().time() == 5


async def test_nothing_written_is_no_byte() -> None:
    async with stuck_pair(idle=3, **NO_LIMIT) as (near, _):
        make_room(near, 100)
        reading = asyncio.create_task(outcome_of(near.read_some()))
        await at(2, lambda: near.write(b""))
        assert (await reading).limit == "idle"
        assert virtual_loop().time() == 3


@CALLS
async def test_time_in_which_nobody_waits_does_not_count_and_retries_do_not_renew_it(
    call: Call,
) -> None:
    async with stuck_pair(idle=2.75, **NO_LIMIT) as (near, _):
        for round_ in range(5):
            await expect_limit(call(near, timeout=0.5), "call", 10.5 * round_ + 0.5)
            await asyncio.sleep(10)
        await expect_limit(call(near, timeout=0.5), "idle", 52.75)


@CALLS
async def test_a_wait_that_is_cancelled_keeps_its_silence(call: Call) -> None:
    async with stuck_pair(idle=3, **NO_LIMIT) as (near, _):
        task = asyncio.create_task(call(near))
        await at(2, task.cancel)
        assert isinstance(await outcome_of(task), asyncio.CancelledError)
        await expect_limit(call(near), "idle", 3)


async def test_two_who_wait_at_once_are_silent_once() -> None:
    async with stuck_pair(idle=3, **NO_LIMIT) as (near, _):
        reading = asyncio.create_task(outcome_of(near.read_some()))
        writing = asyncio.create_task(outcome_of(near.write(b"x" * 9, timeout=2)))
        queued = asyncio.create_task(outcome_of(near.write(b"y")))
        assert ((await writing).limit, virtual_loop().time()) == ("call", 2)
        assert [(await task).limit for task in (reading, queued)] == ["idle", "idle"]
        assert virtual_loop().time() == 3


async def test_what_is_at_hand_wins_over_a_silence_that_was_too_long_and_ends_it() -> None:
    async with stuck_pair(idle=3, **NO_LIMIT) as (near, far):
        await expect_limit(near.read_some(), "idle", 3)
        await expect_limit(near.read_exactly(3), "idle", 3)  # at once: nothing has changed
        await far.write(b"ab")
        await expect_limit(near.read_exactly(3), "idle", 6)  # there was something
        assert await near.read_exactly(2) == b"ab"
        await far.write(b"c")
        assert await near.read_some() == b"c"
        await expect_limit(near.read_some(), "idle", 9)


async def test_it_holds_for_half_of_a_connection() -> None:
    async with stuck_pair(idle=3, **NO_LIMIT) as (near, far):
        await near.write_eof()
        await expect_limit(near.read_some(), "idle", 3)
        await far.write_eof()
        assert await near.read_some() == b""


@CALLS
async def test_it_may_be_set_while_an_operation_waits(call: Call) -> None:
    async with stuck_pair(**NO_LIMIT) as (near, _):
        task = asyncio.create_task(outcome_of(call(near)))
        await at(1, lambda: change(near, idle=2))
        assert ((await task).limit, virtual_loop().time()) == ("idle", 3)


@pytest.mark.parametrize(("seconds", "ends"), [(7, 7), (3, 3), (1, 2), (None, 20)])
@CALLS
async def test_it_may_be_moved_and_removed_while_an_operation_waits(
    call: Call, seconds: float | None, ends: float
) -> None:
    async with stuck_pair(idle=5, **NO_LIMIT) as (near, _):
        task = asyncio.create_task(outcome_of(call(near, timeout=20)))
        await at(2, lambda: change(near, idle=seconds))
        limit = "call" if seconds is None else "idle"
        assert ((await task).limit, virtual_loop().time()) == (limit, ends)
        await ticks(2)


async def test_a_write_that_queues_obeys_as_well() -> None:
    async with stuck_pair(**NO_LIMIT) as (near, _):
        tasks = [asyncio.create_task(outcome_of(near.write(b"x" * 9))) for _ in range(3)]
        await at(1, lambda: change(near, idle=2))
        assert [(await task).limit for task in tasks] == ["idle"] * 3
        assert virtual_loop().time() == 3


async def test_bytes_move_no_timer() -> None:
    async with stuck_pair(idle=1, **NO_LIMIT) as (near, far):
        loop = virtual_loop()
        reading = asyncio.create_task(near.read_exactly(100))
        for _ in range(100):
            await asyncio.sleep(0.1)
            await far.write(b"x")
            assert len([when for when in loop.timers() if when > loop.time()]) <= 1
        await reading
        assert loop._timers_set - 100 <= 12  # besides the sleeps: ten seconds in steps of one


async def test_who_waits_is_not_woken_before_the_silence_has_lasted() -> None:
    async with stuck_pair(idle=1, **NO_LIMIT) as (near, far):
        reading = asyncio.create_task(near.read_exactly(10))
        await ticks(2)
        future = near._receiver.future
        for _ in range(9):
            await asyncio.sleep(0.9)
            await far.write(b"x")
        await ticks(3)
        assert near._receiver.future is future
        await far.write(b"x")
        assert await reading == b"x" * 10


async def test_who_looks_is_told_where_the_silence_ends_by_now() -> None:
    async with stuck_pair(idle=3, **NO_LIMIT) as (near, far):
        reading = asyncio.create_task(near.read_exactly(9), name="reader")
        for when, limit_at in ((0, 3), (2, 5), (4, 7)):
            await at(when, lambda: far.write(b"x"))
            await ticks(2)
            [task] = [task for task in netio.snapshot().tasks if task.name == "reader"]
            assert task.operation is not None
            assert (task.operation.limit, task.operation.deadline) == ("idle", limit_at)
        reading.cancel()


# Life. ----------------------------------------------------------------------------------------


@pytest.fixture
async def old_pair() -> Any:
    """Of which the near end was made two seconds ago, and has a second and a half to live."""
    async with stuck_pair(total=3.5, **NO_LIMIT) as pair:
        await asyncio.sleep(2)
        yield pair


@CALLS
async def test_it_counts_from_the_beginning_of_the_stream(old_pair: Pair, call: Call) -> None:
    near, _ = old_pair
    error = await expect_limit(call(near), "total", 3.5)
    assert (error.seconds, error.elapsed) == (3.5, 1.5)
    assert "the total limit (3.5 s from the stream's beginning) was reached 1.500 s after" in str(
        error
    )
    error = await expect_limit(call(near), "total", 3.5)
    assert error.elapsed == 0
    assert "stream's beginning) had passed before the call began" in str(error)


async def test_bytes_do_not_renew_it_and_what_is_at_hand_wins(old_pair: Pair) -> None:
    near, far = old_pair
    reading = asyncio.create_task(outcome_of(near.read_exactly(9)))
    await at(3, lambda: far.write(b"x"))
    assert ((await reading).limit, virtual_loop().time()) == ("total", 3.5)
    assert await near.read_some() == b"x"
    await far.write(b"y")
    assert await near.read_some() == b"y"


@pytest.mark.parametrize(("seconds", "ends"), [(7, 7), (3, 3), (1, 2), (None, 22)])
@CALLS
async def test_life_may_be_changed_while_an_operation_waits(
    old_pair: Pair, call: Call, seconds: float | None, ends: float
) -> None:
    near, _ = old_pair
    task = asyncio.create_task(outcome_of(call(near, timeout=20)))
    await ticks(2)
    change(near, total=seconds)
    limit = "call" if seconds is None else "total"
    assert ((await task).limit, virtual_loop().time()) == (limit, ends)


async def test_a_longer_life_revives_a_stream() -> None:
    near, far = make_pair("memory", timeouts=netio.Timeouts(total=1))
    await expect_limit(near.read_some(), "total", 1)
    change(near, total=5)
    await expect_limit(near.read_some(), "total", 5)
    near.deadline = Deadline.at(6)
    change(near, total=7)
    await expect_limit(near.read_some(), "deadline", 6)
    near.abort()
    far.abort()


async def test_the_limits_of_calls_are_assigned_without_ending_a_silence() -> None:
    async with stuck_pair(idle=3, **NO_LIMIT) as (near, _):
        await expect_limit(near.read_some(timeout=2), "call", 2)
        change(near, read=50)
        await expect_limit(near.read_some(), "idle", 3)


async def test_other_threads_and_loops_may_not_assign_them(loop_factory: Any) -> None:
    async with stuck_pair(**NO_LIMIT) as (near, _):

        async def assign() -> None:
            change(near, idle=1)

        def elsewhere() -> Any:
            with asyncio.Runner(loop_factory=loop_factory) as runner:
                return runner.run(outcome_of(assign()))

        error = await asyncio.to_thread(elsewhere)
        assert isinstance(error, RuntimeError)
        assert "timeouts: the stream belongs to another event loop" in str(error)
        assert near.timeouts.idle is None


# What is no limit. ----------------------------------------------------------------------------


@pytest.mark.parametrize("field", ["idle", "total"])
def test_a_field_is_seconds_or_none(field: str) -> None:
    for wrong in (0, -1, float("nan")):
        with pytest.raises(ValueError, match=f"Timeouts.{field} must"):
            netio.Timeouts(**{field: wrong})
    for wrong in ("5", True, netio.Rate(1, per=1), netio.Budget(5)):
        with pytest.raises(TypeError, match=f"Timeouts.{field} must"):
            netio.Timeouts(**{field: wrong})  # type: ignore[arg-type]
    assert getattr(netio.Timeouts(**{field: float("inf")}), field) is None


@CALLS
async def test_the_stream_is_usable_after_it(call: Call) -> None:
    for limits in ({"idle": 1}, {"total": 1}):
        async with stuck_pair(**limits, **NO_LIMIT) as (near, far):
            assert isinstance(await outcome_of(call(near)), DeadlineExceeded)
            change(near, idle=None, total=None)
            make_room(near, 100)
            await near.write(b"x")
            await far.write(b"y")
            assert await near.read_some() == b"y"
