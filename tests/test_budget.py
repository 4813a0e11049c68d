"""`Budget`: a pool of waiting time that calls, streams and tasks share. Time is virtual."""

import asyncio
import math
import random
import socket
from collections.abc import Callable
from typing import Any

import pytest
from limited import WAITS, WRITES, Call, at, expect_limit, stuck_pair
from streams import a_pair, make_pair, outcome_of, ticks
from virtual import virtual_loop

import netio
from netio import Budget, Deadline
from netio.testing import Network, faults

virtual = pytest.mark.virtual_clock
CALLS = pytest.mark.parametrize("call", WAITS.values(), ids=WAITS)


# What is spent. -------------------------------------------------------------------------------


@CALLS
@virtual
async def test_it_ends_an_operation_when_it_is_spent(call: Call) -> None:
    async with stuck_pair() as (near, _):
        budget = Budget(3)
        await asyncio.sleep(10)
        error = await expect_limit(call(near, timeout=budget), "budget", 13)
        assert (error.seconds, error.elapsed) == (3, 3)
        assert "the budget (3 s of waiting) was used up after 3.000 s" in str(error)
        assert budget.remaining() == 0


@virtual
async def test_a_spent_one_has_nothing_left_by_rounding_either() -> None:
    await asyncio.sleep(1_234_567.1)  # a clock that tells less than the tenth digit of seconds
    async with stuck_pair() as (near, _):
        left = []
        for seconds in range(1, 100):
            budget = Budget(seconds / 1000)
            await outcome_of(near.read_some(timeout=budget))
            left.append(budget.remaining())
        assert left == [0.0] * len(left)


@CALLS
@virtual
async def test_calls_one_after_the_other_share_it_and_the_time_between_is_free(call: Call) -> None:
    async with stuck_pair() as (near, _):
        budget = Budget(5)
        for left in (3.5, 2, 0.5):
            async with netio.move_on_after(1.5):
                await call(near, timeout=budget)
            assert budget.remaining() == left
            await asyncio.sleep(100)
        error = await expect_limit(call(near, timeout=budget), "budget", 3 * 101.5 + 0.5)
        assert (error.seconds, error.elapsed) == (5, 0.5)
        error = await expect_limit(call(near, timeout=budget), "budget", 3 * 101.5 + 0.5)
        assert error.elapsed == 0


@virtual
async def test_two_who_wait_at_once_spend_it_once() -> None:
    async with stuck_pair() as (near, _), stuck_pair() as (other, _):
        budget = Budget(5)
        calls = [
            near.read_some(timeout=budget),
            near.write(b"x", timeout=budget),
            at(2, lambda: other.read_some(timeout=budget)),
            at(4, lambda: other.write(b"x", timeout=budget)),
        ]
        errors = await asyncio.gather(*map(outcome_of, calls))
        assert [error.limit for error in errors] == ["budget"] * 4
        assert [error.elapsed for error in errors] == [5, 5, 3, 1]
        assert virtual_loop().time() == 5


@virtual
async def test_it_is_spent_as_long_as_anybody_waits() -> None:
    async with stuck_pair() as (near, _), stuck_pair() as (other, _):
        budget = Budget(10)
        first = asyncio.create_task(near.read_some(timeout=budget))
        await at(2, lambda: None)
        second = asyncio.create_task(other.read_some(timeout=budget))
        await at(3, first.cancel)
        await at(5, second.cancel)
        await asyncio.wait([first, second])
        await asyncio.sleep(50)
        assert budget.remaining() == 5
        await expect_limit(near.read_some(timeout=budget), "budget", 60)


@virtual
async def test_what_remains_is_known_while_somebody_waits() -> None:
    async with stuck_pair() as (near, _):
        budget = Budget(5)
        assert budget.remaining() == 5
        waiting = asyncio.create_task(outcome_of(near.read_some(timeout=budget)))
        await asyncio.sleep(2)
        assert budget.remaining() == 3
        assert repr(budget) == "Budget(5 s, 3 s left)"
        await waiting
        assert repr(budget) == "Budget(5 s, 0 s left)"
        assert budget.seconds == 5


@virtual
async def test_the_queue_of_writes_and_the_wait_for_their_end_are_spent() -> None:
    async with stuck_pair() as (near, _):
        writing = asyncio.create_task(outcome_of(near.write(b"x" * 9, timeout=50)))
        await ticks(1)
        budget = Budget(2)
        await expect_limit(near.write(b"x", timeout=budget), "budget", 2)
        await expect_limit(near.write_eof(timeout=Budget(2)), "budget", 4)
        writing.cancel()
        await writing


@virtual
async def test_iterators_take_it_for_all_their_reads() -> None:
    async with stuck_pair() as (near, far):
        budget = Budget(2.4)
        dripping = asyncio.create_task(lines(far))
        seen = []
        with pytest.raises(netio.DeadlineExceeded) as caught:
            async for line in near.lines(timeout=budget):
                seen.append(line)
                await asyncio.sleep(0.5)  # which is free
        assert (seen, caught.value.limit) == ([b"a\n"] * 4, "budget")
        dripping.cancel()
        budget = Budget(2)
        with pytest.raises(netio.DeadlineExceeded) as caught:
            async for _ in near.chunks(timeout=budget):
                pass
        assert caught.value.limit == "budget"


async def lines(far: netio.Stream) -> None:
    for _ in range(5):
        await asyncio.sleep(0.9)
        await far.write(b"a\n")


# What is free. --------------------------------------------------------------------------------


@virtual
async def test_what_is_at_hand_costs_nothing_and_wins() -> None:
    async with stuck_pair() as (near, far):
        budget = Budget(0)
        await far.write(b"line\nmore of it")
        assert await near.read_line(timeout=budget) == b"line\n"
        assert await near.read_exactly(4, timeout=budget) == b"more"
        await far.write(b"!")
        assert await near.read_exactly(7, timeout=budget) == b" of it!"
        await expect_limit(near.read_some(timeout=budget), "budget", 0)
        assert budget.remaining() == 0
    near, far = make_pair("memory")
    await near.write(b"x", timeout=Budget(-1))
    near.abort()
    far.abort()


@virtual
async def test_none_and_infinity_are_no_limit() -> None:
    async with stuck_pair() as (near, _):
        for budget in (Budget(None), Budget(math.inf)):
            assert budget.remaining() == math.inf == budget.seconds
            assert repr(budget) == "Budget(no limit)"
            near.read_deadline = Deadline.after(5)
            now = virtual_loop().time()
            await expect_limit(near.read_some(timeout=budget), "deadline", now + 5)
            assert budget.remaining() == math.inf


@virtual
async def test_it_survives_an_error_a_close_and_an_end() -> None:
    budget = Budget(10)
    near, far = make_pair("memory")
    reading = asyncio.create_task(outcome_of(near.read_some(timeout=budget)))
    await at(1, near.abort)
    assert isinstance(await reading, netio.StreamClosed)
    reading = asyncio.create_task(outcome_of(far.read_exactly(2, timeout=budget)))
    assert isinstance(await reading, netio.ConnectionLost)
    far.abort()
    near, far = make_pair("memory")
    await near.aclose()
    with pytest.raises(netio.StreamClosed):
        await near.read_some(timeout=budget)
    reading = asyncio.create_task(outcome_of(far.read_exactly(2, timeout=budget)))
    assert isinstance(await reading, netio.IncompleteRead)
    await asyncio.sleep(10)
    assert budget.remaining() == 9
    await far.aclose(timeout=budget)


@virtual
async def test_a_read_that_is_refused_spends_nothing() -> None:
    async with stuck_pair() as (near, _):
        budget = Budget(10)
        first = asyncio.create_task(near.read_some(timeout=50))
        await ticks(2)
        with pytest.raises(netio.StreamBusy):
            await near.read_some(timeout=budget)
        await asyncio.sleep(5)
        assert budget.remaining() == 10
        first.cancel()


@virtual
async def test_a_coroutine_that_is_given_up_stops_spending() -> None:
    async with stuck_pair() as (near, _):
        budget = Budget(10)
        reading = near.read_some(timeout=budget)
        reading.send(None)
        await asyncio.sleep(1)
        reading.close()
        await asyncio.sleep(5)
        assert budget.remaining() == 9


# Where it is taken. ---------------------------------------------------------------------------


@virtual
async def test_connecting_takes_it() -> None:
    network = Network()
    network.add(faults.BlackHole())
    budget = Budget(3)
    for ends in (3, 3):
        with pytest.raises(netio.DeadlineExceeded) as caught:
            await netio.connect_tcp("10.0.0.1", 80, timeout=budget, network=network)
        assert (caught.value.limit, virtual_loop().time()) == ("budget", ends)
    budget = Budget(30)
    async with netio.move_on_after(2):
        await netio.connect_tcp("10.0.0.1", 80, timeout=budget, network=network)
    await asyncio.sleep(5)
    assert budget.remaining() == 28


async def test_bare_sockets_take_it() -> None:
    near, far = socket.socketpair()
    with near, far:
        near.setblocking(False)
        budget = Budget(0)
        far.send(b"abc;")
        assert await netio.read_bytes(near, 2, timeout=budget) == b"ab"
        assert await netio.readuntil(near, b";", timeout=budget) == b"c;"
        await netio.write_bytes(near, b"x", timeout=budget)
        far.send(b"d")
        with pytest.raises(netio.DeadlineExceeded) as caught:
            await netio.read_bytes(near, 2, timeout=budget)
        assert (caught.value.limit, caught.value.partial) == ("budget", b"d")
        budget = Budget(30)
        reading = asyncio.create_task(netio.read_bytes(near, 1, timeout=budget))
        await ticks(3)
        reading.cancel()
        await outcome_of(reading)
        assert budget._spent.waiting == 0
        assert 29 < budget.remaining() <= 30


# Bad input. -----------------------------------------------------------------------------------


def test_what_is_no_number_of_seconds_is_refused() -> None:
    with pytest.raises(ValueError, match="seconds must not be NaN"):
        Budget(math.nan)
    for wrong in ("5", True, Budget(5), Deadline.at(5)):
        with pytest.raises(TypeError, match="seconds must be a number of seconds"):
            Budget(wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize("make", [netio.timeout, netio.move_on_after, netio.timeout_at])
def test_a_scope_does_not_take_it_and_says_what_to_use(make: Callable[..., Any]) -> None:
    with pytest.raises(TypeError, match=r"not a netio.Budget: .* say budget.remaining\(\)"):
        make(Budget(5))


@CALLS
async def test_another_loop_is_refused_before_any_io(call: Call, loop_factory: Any) -> None:
    budget = Budget(50)
    async with a_pair("memory") as (near, _):
        reading = asyncio.create_task(outcome_of(near.read_some(timeout=budget)))
        await ticks(2)
        reading.cancel()
        await reading

    async def elsewhere() -> None:
        async with a_pair("memory", capacity=10) as (near, far):
            error = await outcome_of(call(near, timeout=budget))
            assert isinstance(error, RuntimeError)
            assert "Budget belongs to another event loop" in str(error)
            sent = near.statistics().bytes_sent
            assert sent == 0
            if call in WRITES.values():
                await near.write(b"x")
                assert await far.read_some() == b"x"

    def run() -> None:
        with asyncio.Runner(loop_factory=loop_factory) as runner:
            runner.run(elsewhere())

    await asyncio.to_thread(run)
    assert budget.remaining() <= 50


async def test_another_loop_is_refused_where_a_connection_is_made(loop_factory: Any) -> None:
    budget = Budget(50)
    async with a_pair("memory") as (near, _):
        reading = asyncio.create_task(outcome_of(near.read_some(timeout=budget)))
        await ticks(2)
        reading.cancel()
        await reading

    async def elsewhere() -> None:
        with pytest.raises(RuntimeError, match="Budget belongs to another event loop"):
            netio.connect_tcp("127.0.0.1", 1, timeout=budget)
        near, far = socket.socketpair()
        with near, far:
            near.setblocking(False)
            with pytest.raises(RuntimeError, match="Budget belongs to another event loop"):
                await netio.read_bytes(near, 1, timeout=budget)

    def run() -> None:
        with asyncio.Runner(loop_factory=loop_factory) as runner:
            runner.run(elsewhere())

    await asyncio.to_thread(run)


# Random programs. -----------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(200))
@virtual
async def test_random_programs_spend_what_a_model_says(seed: int) -> None:
    """Tasks wait for random spans, some of them on the pool, and some are cut meanwhile."""
    random_ = random.Random(seed)
    size = random_.choice([3, 8, 20])
    budget = Budget(size)
    ends = []

    async def wait_often(count: int) -> None:
        async with stuck_pair() as (near, _):
            for _ in range(count):
                await asyncio.sleep(random_.choice([0, 0.25, 1, 2.5]))
                began = virtual_loop().time()
                span = random_.choice([0.25, 0.5, 1.25, 4])
                call = random_.choice(list(WAITS.values()))
                async with netio.move_on_after(span):
                    error = await outcome_of(call(near, timeout=budget))
                    if isinstance(error, asyncio.CancelledError):
                        raise error
                    assert error.limit == "budget"
                    ends.append(virtual_loop().time())
                spans.append((began, virtual_loop().time()))

    spans: list[tuple[float, float]] = []
    await asyncio.gather(*(wait_often(random_.randint(1, 6)) for _ in range(3)))
    assert budget.remaining() == size - waited(spans, math.inf)
    assert all(waited(spans, end) == size for end in ends)


def waited(spans: list[tuple[float, float]], until: float) -> float:
    """For how long at least one of them lasted."""
    total, last = 0.0, 0.0
    for began, ended in sorted(spans):
        total += max(0.0, min(ended, until) - max(began, last))
        last = max(last, ended)
    return total
