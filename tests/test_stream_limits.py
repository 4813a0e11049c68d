"""Limits of reads and writes: which holds, which fired, when, and what the error says.

Time is virtual: limits are met exactly. What is bound to the kernel runs on every kind of pair.
"""

import asyncio
import decimal
import fractions
import math
import numbers
import select
from typing import Any

import pytest
import streams
from limited import READS, WAITS, WRITES, Call, expect_limit, stuck_pair
from streams import Hand, Pair, a_pair, outcome_of, ticks
from virtual import virtual_loop

import netio
from netio import Deadline
from netio._stream import Stream

kind, pair = streams.kind, streams.pair

# What `timeout=` takes. -----------------------------------------------------------------------


@pytest.mark.parametrize("call", WAITS.values(), ids=WAITS)
@pytest.mark.parametrize(
    "seconds", [2, 2.0, fractions.Fraction(2), decimal.Decimal(2)], ids=["int", "float", "f", "d"]
)
@pytest.mark.virtual_clock
async def test_seconds_count_from_the_call(call: Call, seconds: Any) -> None:
    async with stuck_pair() as (near, _):
        await asyncio.sleep(3)
        if isinstance(seconds, decimal.Decimal):
            with pytest.raises(TypeError, match="timeout must be a number of seconds"):
                await call(near, timeout=seconds)
            return
        error = await expect_limit(call(near, timeout=seconds), "call", 5)
        assert (error.seconds, error.elapsed) == (2, 2)


class Coarse:
    """A number that makes what it is added to as coarse as itself, as numpy.float32 does."""

    def __float__(self) -> float:
        return 0.25

    def __lt__(self, other: float) -> bool:
        return other > 0.25

    def __gt__(self, other: float) -> bool:
        return other < 0.25

    def __radd__(self, other: float) -> float:
        return float(round(other))


numbers.Real.register(Coarse)


@pytest.mark.parametrize("call", WAITS.values(), ids=WAITS)
@pytest.mark.virtual_clock
async def test_a_number_of_another_kind_is_as_exact_as_a_float(call: Call) -> None:
    async with stuck_pair() as (near, _):
        await asyncio.sleep(100)
        error = await expect_limit(call(near, timeout=Coarse()), "call", 100.25)
        assert (error.seconds, error.elapsed) == (0.25, 0.25)


@pytest.mark.parametrize("call", [READS["read_exactly(8)"], WRITES["write(1000)"]])
@pytest.mark.virtual_clock
async def test_the_length_of_a_limit_is_told_as_it_was_said(call: Call) -> None:
    rounded = 0
    async with stuck_pair() as (near, _):
        for started in range(1, 100):
            await asyncio.sleep(started / 7)
            before = virtual_loop().time()
            with pytest.raises(netio.DeadlineExceeded) as caught:
                await call(near, timeout=0.05)
            rounded += virtual_loop().time() - before < 0.05
            assert caught.value.seconds == 0.05 <= caught.value.elapsed
            near.timeouts = netio.Timeouts(read=0.3, write=0.3)
            with pytest.raises(netio.DeadlineExceeded) as caught:
                await call(near)
            assert caught.value.seconds == 0.3 <= caught.value.elapsed
    assert rounded > 10  # where adding and taking away again gives less


@pytest.mark.parametrize("call", WAITS.values(), ids=WAITS)
@pytest.mark.parametrize(
    "none", [None, math.inf, 10**400, Deadline.at(None), Deadline.at(math.inf)]
)
@pytest.mark.virtual_clock
async def test_none_and_infinity_mean_no_limit(call: Call, none: Any) -> None:
    async with stuck_pair() as (near, _):
        waiting = asyncio.create_task(call(near, timeout=none))
        await asyncio.sleep(1e6)  # law 1
        assert not waiting.done()
        assert virtual_loop().timers() == []
        waiting.cancel()
        await outcome_of(waiting)


@pytest.mark.parametrize("call", WAITS.values(), ids=WAITS)
@pytest.mark.parametrize(
    "before",
    [-(10**400), -(10**15), -1, -math.inf, -0.0],
    ids=["beyond floats", "huge", "int", "inf", "zero"],
)
@pytest.mark.virtual_clock
async def test_a_limit_below_zero_is_over_however_large(call: Call, before: float) -> None:
    async with stuck_pair() as (near, _):
        await asyncio.sleep(1)
        error = await expect_limit(call(near, timeout=before), "call", 1)
        assert (error.seconds, error.elapsed) == (0, 0)


@pytest.mark.parametrize("call", WAITS.values(), ids=WAITS)
@pytest.mark.virtual_clock
async def test_a_deadline_is_shared_by_calls_and_may_lie_in_the_past(call: Call) -> None:
    async with stuck_pair() as (near, _):
        deadline = Deadline.after(2)
        await asyncio.sleep(1.5)
        error = await expect_limit(call(near, timeout=deadline), "deadline", 2)
        assert (error.seconds, error.elapsed) == (0.5, 0.5)
        await expect_limit(call(near, timeout=deadline), "deadline", 2)
        await asyncio.sleep(1)
        error = await expect_limit(call(near, timeout=deadline), "deadline", 3)
        assert (error.seconds, error.elapsed) == (0, 0)


@pytest.mark.parametrize(("names", "default"), [(READS, "read"), (WRITES, "write")])
@pytest.mark.virtual_clock
async def test_left_out_it_is_the_connections_default(names: dict[str, Call], default: str) -> None:
    async with stuck_pair(**{"read": 3, "write": 3, default: 4}) as (near, _):
        for i, call in enumerate(names.values()):
            await expect_limit(call(near), default, 4 * (i + 1))
        near.timeouts = netio.Timeouts(**{default: 5})
        before = virtual_loop().time()
        await expect_limit(next(iter(names.values()))(near), default, before + 5)
        near.timeouts = netio.Timeouts(**{default: None})
        waiting = asyncio.create_task(next(iter(names.values()))(near))
        await asyncio.sleep(1e6)
        assert not waiting.done()
        waiting.cancel()
        await outcome_of(waiting)


@pytest.mark.parametrize("call", WAITS.values(), ids=WAITS)
@pytest.mark.parametrize("now", [0, -1, -math.inf, Deadline.at(-5)])
@pytest.mark.virtual_clock
async def test_zero_or_less_fails_at_once_when_nothing_is_there(call: Call, now: Any) -> None:
    async with stuck_pair() as (near, _):
        coroutine = call(near, timeout=now)
        with pytest.raises(netio.DeadlineExceeded):
            coroutine.send(None)  # law 9: without a single suspension
        assert virtual_loop().timers() == []


@pytest.mark.parametrize("now", [0, -1, Deadline.at(0)])
async def test_zero_or_less_takes_what_the_kernel_has(pair: Pair, now: Any) -> None:
    near, far = pair
    hand = Hand(near, far)
    for name, call in READS.items():
        if "100000" in name or name == "read_all":
            continue
        hand.data_unnoticed(b"abcdef;\n")
        assert await call(near, timeout=now)  # law 9
        near._receiver.buffer.clear()
    hand.data_unnoticed(b"x" * 100_000)
    assert await near.read_exactly(100_000, timeout=now) == b"x" * 100_000
    hand.data_unnoticed(b"y" * 100_000)
    assert await near.read_into(bytearray(100_000), timeout=now) == 100_000
    hand.data_unnoticed(b"z")
    far._channel.shut_down_writing()
    hand._until_event(select.POLLRDHUP)
    assert await near.read_all(limit=10, timeout=now) == b"z"
    assert await near.read_some(timeout=now) == b""


async def test_what_is_buffered_wins_over_a_deadline_that_has_passed(pair: Pair) -> None:
    near, far = pair
    await far.write(b"ab\ncd;efgh")
    await near.read_exactly(1)
    near.deadline = Deadline.at(0)
    assert await near.read_line(timeout=0) == b"b\n"  # law 9
    assert await near.read_until(b";", timeout=-1) == b"cd;"
    assert await near.read_exactly(2, timeout=Deadline.at(0)) == b"ef"
    assert await near.read_some(1) == b"g"
    assert await near.read_into(bytearray(1)) == 1
    with pytest.raises(netio.DeadlineExceeded):
        await near.read_some()


# One limit for the whole call. ----------------------------------------------------------------


@pytest.mark.parametrize("name", [n for n in READS if n != "read_some(65536)"])
@pytest.mark.virtual_clock
async def test_a_drip_does_not_renew_the_limit_of_a_read(name: str) -> None:
    async with stuck_pair() as (near, far):

        async def drip() -> None:
            while True:
                await asyncio.sleep(0.3)
                await far.write(b".")

        dripping = asyncio.create_task(drip())
        error = await expect_limit(READS[name](near, timeout=2), "call", 2)  # law 12
        assert (error.done, near.peek()) == (6, b"......")
        dripping.cancel()
        await outcome_of(dripping)


@pytest.mark.parametrize("call", WRITES.values(), ids=WRITES)
@pytest.mark.virtual_clock
async def test_a_peer_that_reads_slowly_does_not_renew_the_limit_of_a_write(call: Call) -> None:
    async with stuck_pair() as (near, far):

        async def sip() -> None:
            while True:
                await asyncio.sleep(0.3)
                far._channel.receive(10)

        sipping = asyncio.create_task(sip())
        error = await expect_limit(call(near, timeout=2), "call", 2)  # law 12
        assert error.done == 60
        sipping.cancel()
        await outcome_of(sipping)


@pytest.mark.virtual_clock
async def test_the_time_in_the_queue_counts() -> None:
    async with stuck_pair() as (near, far):
        first = asyncio.create_task(outcome_of(near.write(b"a" * 10, timeout=3)))
        second = asyncio.create_task(outcome_of(near.write(b"b" * 10, timeout=2)))
        third = asyncio.create_task(outcome_of(near.write(b"c" * 10, timeout=4)))
        errors = [await second, await first, await third]
        assert [error.elapsed for error in errors] == [2, 3, 4]
        assert [error.done for error in errors] == [0, 0, 0]
        assert await far.read_some(timeout=0) == b"~" * 100


@pytest.mark.virtual_clock
async def test_time_spent_while_a_run_of_hits_yields_counts() -> None:
    async with stuck_pair() as (near, far):
        await far.write(b"x" * 100)
        near._receiver.turns.credit = 1
        task = asyncio.create_task(outcome_of(near.read_exactly(200, timeout=2)))
        await asyncio.sleep(0)
        virtual_loop().advance(1.5)
        error = await task
        assert (error.limit, error.elapsed) == ("call", 2.0)
        assert virtual_loop().time() == 2


@pytest.mark.virtual_clock
async def test_lines_have_a_limit_each() -> None:
    async with stuck_pair() as (near, far):

        async def feed() -> None:
            for _ in range(3):
                await asyncio.sleep(1.5)
                await far.write(b"x\n")

        feeding = asyncio.create_task(feed())
        seen = []
        with pytest.raises(netio.DeadlineExceeded):
            async for line in near.lines(timeout=2):
                seen += [line]
        assert (len(seen), virtual_loop().time()) == (3, 6.5)
        await feeding


# Deadlines of the stream, as in Go. -----------------------------------------------------------

ATTRIBUTES = [("deadline", WAITS), ("read_deadline", READS), ("write_deadline", WRITES)]
ROWS = [(name, op) for name, ops in ATTRIBUTES for op in ops]


@pytest.mark.parametrize(("attribute", "operation"), ROWS)
@pytest.mark.virtual_clock
async def test_a_streams_deadline_holds_for_every_operation(attribute: str, operation: str) -> None:
    async with stuck_pair() as (near, _):
        setattr(near, attribute, Deadline.at(2))
        assert getattr(near, attribute) == Deadline.at(2)
        for _ in range(2):
            await expect_limit(WAITS[operation](near), "deadline", 2)
        await expect_limit(WAITS[operation](near, timeout=None), "deadline", 2)


@pytest.mark.parametrize(("attribute", "operation"), ROWS)
@pytest.mark.virtual_clock
async def test_it_may_be_moved_while_an_operation_waits(attribute: str, operation: str) -> None:
    async with stuck_pair() as (near, _):
        loop = virtual_loop()
        for points, fires in [
            ([(1, None, 3.0)], 3.0),  # set
            ([(0, 5.0, None), (1, None, 3.0)], 3.0),  # earlier
            ([(0, 2.0, None), (1, None, 3.0)], 3.0),  # later
            ([(0, 2.0, None), (1, None, 3.0), (1.5, None, 2.5)], 2.5),  # later, then earlier
            ([(0, 2.0, None), (1, None, math.inf), (2.5, None, 4.0)], 4.0),  # removed, set
            ([(0, 2.0, None), (1, None, -1.0)], 1.0),  # to the past
        ]:
            begin = loop.time()

            def move(when: float, begin: float = begin) -> None:
                setattr(near, attribute, None if when == math.inf else Deadline.at(begin + when))

            for at, first, later in points:
                if first is not None:
                    move(first)
                else:
                    loop.call_at(begin + at, move, later)
            error = await expect_limit(  # law 7
                WAITS[operation](near, timeout=50), "deadline", begin + fires
            )
            assert error.elapsed == pytest.approx(fires, abs=0.0011)
            setattr(near, attribute, None)


@pytest.mark.parametrize(("attribute", "operation"), ROWS)
@pytest.mark.virtual_clock
async def test_a_later_one_or_none_revives_the_stream(attribute: str, operation: str) -> None:
    async with stuck_pair() as (near, _):
        setattr(near, attribute, Deadline.at(0))
        await expect_limit(WAITS[operation](near), "deadline", 0)
        setattr(near, attribute, Deadline.at(2))
        await expect_limit(WAITS[operation](near), "deadline", 2)
        setattr(near, attribute, None)
        assert getattr(near, attribute) is None
        await expect_limit(WAITS[operation](near, timeout=1), "call", 3)


@pytest.mark.virtual_clock
async def test_the_earlier_of_two_deadlines_holds() -> None:
    async with stuck_pair() as (near, _):
        near.deadline, near.read_deadline = Deadline.at(3), Deadline.at(2)
        await expect_limit(near.read_some(), "deadline", 2)
        await expect_limit(near.write(b"x"), "deadline", 3)
        near.deadline, near.read_deadline = Deadline.at(4), Deadline.at(5)
        await expect_limit(near.read_some(), "deadline", 4)
        near.deadline = None
        await expect_limit(near.read_some(), "deadline", 5)


@pytest.mark.virtual_clock
async def test_a_write_that_queues_obeys_a_deadline_that_is_moved() -> None:
    async with stuck_pair() as (near, _):
        tasks = [asyncio.create_task(outcome_of(near.write(b"x"))) for _ in range(3)]
        await asyncio.sleep(1)
        near.write_deadline = Deadline.at(2)
        errors = [await task for task in tasks]
        assert virtual_loop().time() == 2
        assert {(error.limit, error.done) for error in errors} == {("deadline", 0)}


@pytest.mark.virtual_clock
async def test_a_deadline_of_reads_leaves_writes_alone_and_the_other_way_round() -> None:
    async with stuck_pair() as (near, _):
        near.read_deadline = Deadline.at(0)
        await expect_limit(near.write(b"x", timeout=2), "call", 2)
        near.read_deadline, near.write_deadline = None, Deadline.at(0)
        await expect_limit(near.read_some(timeout=2), "call", 4)


# Which one fired. -----------------------------------------------------------------------------


@pytest.mark.parametrize("call", WAITS.values(), ids=WAITS)
@pytest.mark.virtual_clock
async def test_the_error_names_the_limit_that_was_the_nearest(call: Call) -> None:
    async with stuck_pair(read=5, write=5) as (near, _):
        default = "read" if call in READS.values() else "write"
        near.deadline = Deadline.at(3)
        await expect_limit(call(near), "deadline", 3)
        await expect_limit(call(near, timeout=1), "deadline", 3)
        near.deadline = Deadline.at(20)
        await expect_limit(call(near, timeout=1), "call", 4)
        await expect_limit(call(near), default, 9)
        async with netio.timeout(50):
            await expect_limit(call(near, timeout=1), "call", 10)
        with pytest.raises(netio.DeadlineExceeded) as caught:
            async with netio.timeout(1, name="outer"):
                await call(near, timeout=2)
        assert (caught.value.limit, virtual_loop().time()) == ("scope", 11)


@pytest.mark.parametrize("operation", WAITS)
@pytest.mark.virtual_clock
async def test_a_scope_that_cuts_says_during_what_and_how_far_it_got(operation: str) -> None:
    async with stuck_pair() as (near, far):
        await far.write(b"abc" if not operation.startswith("read_some") else b"")
        with pytest.raises(netio.DeadlineExceeded) as caught:
            async with netio.timeout(1, name="login"):
                await WAITS[operation](near)
        error = caught.value
        assert (error.limit, error.operation, error.peer) == ("scope", operation, "memory:1")
        reads = operation.startswith("read") and not operation.startswith("read_some")
        assert error.done == (3 if reads else 0)


@pytest.mark.parametrize("operation", WAITS)
@pytest.mark.virtual_clock
async def test_the_error_has_every_field_and_a_message_to_act_on(operation: str) -> None:
    async with stuck_pair() as (near, _):
        error = await expect_limit(WAITS[operation](near, timeout=1.5), "call", 1.5)
        assert (error.operation, error.peer) == (operation, "memory:1")
        assert (error.seconds, error.elapsed, error.done) == (1.5, 1.5, 0)
        expected = operation.partition("(")[2].rstrip(")")
        if operation.startswith("read_some") or not expected:
            assert error.expected is None
        else:
            assert error.expected == int(expected)
        assert (error.scope, error.attempts, error.partial) == (None, (), b"")
        for part in (operation, "memory:1", "limit of this call", "1.5 s", "1.500 s"):
            assert part in str(error)


async def test_the_error_names_the_peers_address() -> None:
    async with a_pair("tcp") as (near, far):
        with pytest.raises(netio.DeadlineExceeded) as caught:
            await near.read_some(timeout=0)
        assert caught.value.peer == far.local
        assert f"127.0.0.1:{near.peer[1]}" in str(caught.value)  # type: ignore[index]


@pytest.mark.any_clock
async def test_an_operations_limit_never_touches_the_cancel_count(pair: Pair) -> None:
    near, _ = pair
    task = asyncio.current_task()
    assert task is not None
    counts = []
    for _ in range(3):
        with pytest.raises(netio.DeadlineExceeded):
            await near.read_some(timeout=0.002)
        counts.append(task.cancelling())
    await asyncio.sleep(0)
    assert counts == [0, 0, 0]  # law 11


# Exactness, and the one timer. ----------------------------------------------------------------


@pytest.mark.real_time("the real clock is measured")
async def test_a_limit_is_never_early_and_hardly_late(pair: Pair) -> None:
    near, _ = pair
    loop = asyncio.get_running_loop()
    for seconds in (0.001, 0.003, 0.01):
        before = loop.time()
        with pytest.raises(netio.DeadlineExceeded) as caught:
            await near.read_some(timeout=seconds)
        assert caught.value.seconds == seconds <= caught.value.elapsed
        assert loop.time() - before >= seconds - 1e-6  # which is what a float loses


@pytest.mark.virtual_clock
async def test_there_is_one_timer_a_stream_and_it_is_only_moved_earlier() -> None:
    async with stuck_pair() as (near, far):
        loop = virtual_loop()
        for _ in range(50):
            await far.write(b"x")
            await asyncio.sleep(0.1)
            reading = asyncio.create_task(near.read_exactly(2, timeout=10))
            writing = asyncio.create_task(outcome_of(near.write(b"x", timeout=20)))
            await ticks(2)
            assert len([when for when in loop.timers() if when > loop.time()]) == 1
            await far.write(b"y")
            await reading
            writing.cancel()
            await writing
        assert loop._timers_set - 50 <= 3  # besides the sleeps: set once, and again for later ones


@pytest.mark.virtual_clock
async def test_a_shorter_limit_after_a_longer_one_is_obeyed_in_time() -> None:
    async with stuck_pair() as (near, _):
        for seconds in (10, 3, 1, 5, 2):
            before = virtual_loop().time()
            await expect_limit(near.read_some(timeout=seconds), "call", before + seconds)


@pytest.mark.virtual_clock
async def test_reader_and_writer_have_their_own_limits_at_once() -> None:
    async with stuck_pair() as (near, _):
        reading = asyncio.create_task(outcome_of(near.read_some(timeout=3)))
        writing = asyncio.create_task(outcome_of(near.write(b"x", timeout=2)))
        errors = [await writing, await reading]
        assert [error.elapsed for error in errors] == [2, 3]


@pytest.mark.any_clock
async def test_a_stream_of_which_the_limit_fired_is_usable_as_before(pair: Pair) -> None:
    near, far = pair
    for stream in (near, far):
        assert isinstance(stream, Stream)
        with pytest.raises(netio.DeadlineExceeded):
            await stream.read_exactly(1, timeout=0.001)
    await near.write(b"ping")
    assert await far.read_exactly(4) == b"ping"
    await far.write(b"pong")
    assert await near.read_exactly(4) == b"pong"
