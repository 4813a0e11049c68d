"""Writes: whole and in order, each within its limits; a cut one says what the kernel took."""

import array
import asyncio
import contextlib
import itertools
from collections.abc import AsyncIterator
from typing import Any

import pytest
import streams
from streams import Hand, Pair, a_pair, fill, outcome_of, read_rest, ticks

import netio
from netio._memory import MemoryChannel, memory_pair
from netio._sending import few_views
from netio._stream import Stream

kind, pair = streams.kind, streams.pair

BIG = bytes(range(256)) * 8000
TCP = "when TCP has room again, and tells of it, hangs on timers of the kernel's"


async def collect(far: Stream) -> bytes:
    """What comes out at the other side, in the order it comes, until it ends."""
    return await far.read_all(limit=1 << 30, timeout=10)


# Whole. ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [0, 1, 1000, 65536, len(BIG)])
@pytest.mark.parametrize(
    "make", [bytes, bytearray, memoryview, lambda data: array.array("B", data)]
)
async def test_a_write_sends_all_of_any_buffer(pair: Pair, size: int, make: Any) -> None:
    near, far = pair
    collecting = asyncio.create_task(collect(far))
    await near.write(make(BIG[:size]))
    assert near.statistics().bytes_sent == size
    await near.write_eof()
    assert await collecting == BIG[:size]


async def test_items_larger_than_a_byte_are_sent_as_bytes(pair: Pair) -> None:
    near, far = pair
    numbers = array.array("I", range(1000))
    await near.write(numbers)
    await near.write(memoryview(numbers))
    assert await far.read_exactly(2 * 4000) == numbers.tobytes() * 2


@pytest.mark.parametrize(
    "buffers",
    [
        [],
        [b""],
        [b"", b"abc", b"", bytearray(b"def"), memoryview(b"ghi"), b""],
        [b"%d," % i for i in range(1500)],
        [b"", *(b"%04d" % i * 20 for i in range(1500)), b""],
        [BIG, b"", b"x", BIG[:100_000]],
        [b"x"] * 70_000,
    ],
    ids=["none", "empty", "few", "many", "over iov_max", "large", "tiny"],
)
async def test_several_buffers_are_sent_as_one(pair: Pair, buffers: list[Any]) -> None:
    near, far = pair
    collecting = asyncio.create_task(collect(far))
    await near.write_many(iter(buffers))
    await near.write_eof()
    whole = b"".join(buffers)
    assert await collecting == whole
    assert near.statistics().bytes_sent == len(whole)


async def test_what_was_written_does_not_change_with_the_callers_memory(pair: Pair) -> None:
    near, far = pair
    data = bytearray(b"old!" * 1000)
    await near.write(data)
    data[:] = b"new!" * 1000  # law 33
    assert await far.read_exactly(4000) == b"old!" * 1000


@pytest.mark.parametrize("many", [False, True])
@pytest.mark.real_time(TCP)
async def test_the_callers_memory_is_free_again_after_each_call(kind: str, many: bool) -> None:
    async with a_pair(kind, small=True) as (near, far):
        small, large, empty = bytearray(b"x" * 10), bytearray(3_000_000), bytearray()

        def call(timeout: float) -> Any:
            if many:
                return near.write_many([small, empty, large, small], timeout=timeout)
            return near.write(large, timeout=timeout)

        reading = asyncio.create_task(far.read_exactly(3_000_000))
        await call(5)
        for one in (small, large, empty):
            one.append(0)  # no BufferError
        await reading
        errors = [await outcome_of(call(0.005)), await outcome_of(call(0.005))]
        far.abort()
        errors.append(await outcome_of(call(1)))
        for one in (small, large, empty):
            one.append(0)  # nor while the errors are alive
        assert [type(e).__name__ for e in errors[:2]] == ["DeadlineExceeded", "ConnectionLost"]
        assert isinstance(errors[2], netio.ConnectionLost)


async def test_the_callers_memory_is_free_when_a_buffer_is_refused(pair: Pair) -> None:
    near, _ = pair
    first = bytearray(b"abc")
    with pytest.raises(TypeError) as caught:
        await near.write_many([first, "text"])  # type: ignore[list-item]
    first.append(0)
    assert "buffers" in str(caught.value)


async def test_the_callers_memory_is_free_when_the_peer_is_gone(pair: Pair) -> None:
    near, far = pair
    hand = Hand(near, far)
    hand.reset()
    for size in (10, 100_000):
        data = bytearray(size)
        for call in (near.write(data), near.write_many([data, data])):
            with pytest.raises(netio.ConnectionLost) as caught:
                await call
            data.append(0)
            assert caught.value.done == 0


# The queue. -----------------------------------------------------------------------------------


def part(stream: Stream, letter: bytes, size: int = 300_000) -> asyncio.Task[None]:
    return asyncio.create_task(stream.write(letter * size))


def runs(data: bytes) -> list[tuple[bytes, int]]:
    return [(bytes([byte]), len(list(group))) for byte, group in itertools.groupby(data)]


async def test_writers_queue_in_the_order_of_their_calls_and_each_is_whole(kind: str) -> None:
    async with a_pair(kind, small=True) as (near, far):
        tasks = [part(near, bytes([65 + i])) for i in range(6)]
        many = asyncio.create_task(near.write_many([b"M" * 50_000] * 3))
        tiny = part(near, b"t", 1)
        await ticks(2)
        got = await far.read_exactly(6 * 300_000 + 150_001)
        assert runs(got) == [
            *((bytes([65 + i]), 300_000) for i in range(6)),
            (b"M", 150_000),
            (b"t", 1),
        ]
        await asyncio.gather(*tasks, many, tiny)


@pytest.mark.parametrize("how", ["cancel", "limit", "scope"])
@pytest.mark.real_time(TCP)
async def test_a_write_cut_while_it_waits_its_turn_has_sent_nothing(kind: str, how: str) -> None:
    async with a_pair(kind, small=True) as (near, far):
        first = part(near, b"A")
        await ticks(2)

        async def cut() -> None:
            if how == "limit":
                await near.write(b"B" * 1000, timeout=0.005)
            else:
                async with netio.timeout(0.005 if how == "scope" else None):
                    await near.write(b"B" * 1000)

        second = asyncio.create_task(outcome_of(cut()))
        await ticks(2)
        third = part(near, b"C")
        await ticks(2)
        if how == "cancel":
            second.cancel()
        error = await second
        assert error.done == 0  # law 13
        assert error.operation == "write(1000)"
        assert runs(await far.read_exactly(600_000)) == [(b"A", 300_000), (b"C", 300_000)]
        await asyncio.gather(first, third)


async def test_a_write_with_no_time_at_all_does_not_queue(kind: str) -> None:
    async with a_pair(kind, small=True) as (near, far):
        first = part(near, b"A")
        await ticks(2)
        with pytest.raises(netio.DeadlineExceeded, match="still waiting for an earlier write"):
            await near.write(b"B", timeout=0)
        assert runs(await far.read_exactly(300_000)) == [(b"A", 300_000)]
        await first


async def test_a_turn_that_is_handed_to_a_writer_cancelled_in_that_tick_goes_on(kind: str) -> None:
    async with a_pair(kind, small=True) as (near, far):
        tasks: list[asyncio.Task[None]] = []

        async def first() -> None:
            await near.write(b"A" * 300_000)
            assert near._sender._current is not None  # the second one has the turn, unresumed
            tasks[1].cancel()

        tasks += [asyncio.create_task(first())]
        await ticks(2)
        tasks += [part(near, b"B"), part(near, b"C")]
        await ticks(2)
        assert runs(await far.read_exactly(600_000)) == [(b"A", 300_000), (b"C", 300_000)]
        answers = await asyncio.gather(*tasks, return_exceptions=True)
        assert [type(answer) for answer in answers] == [
            type(None),
            asyncio.CancelledError,
            type(None),
        ]


@pytest.mark.real_time(TCP)
async def test_a_cut_write_makes_those_that_queue_fail_and_nothing_more_is_sent(kind: str) -> None:
    async with a_pair(kind, small=True) as (near, far):
        first = asyncio.create_task(outcome_of(near.write(b"A" * 3_000_000, timeout=0.01)))
        await ticks(2)
        rest = [asyncio.create_task(outcome_of(near.write(b"B"))) for _ in range(3)]
        ending = asyncio.create_task(outcome_of(near.write_eof()))
        error = await first
        assert isinstance(error, netio.DeadlineExceeded)
        assert 0 < error.done < error.expected
        for waiting in (*rest, ending):
            refused = await waiting
            assert type(refused) is netio.ConnectionLost
            assert refused.done == 0
            assert "out of step" in str(refused)
        await near.aclose()
        assert await read_rest(far) == b"A" * error.done


async def test_a_single_byte_that_went_is_enough_to_be_out_of_step() -> None:
    async with a_pair("memory", capacity=1) as (near, _):
        with pytest.raises(netio.DeadlineExceeded) as caught:
            await near.write(b"xyz", timeout=0)
        assert caught.value.done == 1
        with pytest.raises(netio.ConnectionLost, match="out of step"):
            await near.write(b"x", timeout=0)


async def test_of_a_limit_and_a_scope_in_one_tick_the_scope_answers_a_write_that_queues(
    kind: str,
) -> None:
    async with a_pair(kind, small=True) as (near, far):
        first = part(near, b"A")
        await ticks(2)
        scopes: list[netio.Scope] = []

        async def queued() -> None:
            async with netio.timeout(3600) as scope:
                scopes.append(scope)
                await near.write(b"B", timeout=3600)

        second = asyncio.create_task(outcome_of(queued()))
        await ticks(2)
        waiting = near._sender._queue[0]
        waiting.deadline = 0.0
        waiting.wake()
        scopes[0].reschedule(asyncio.get_running_loop().time() - 1)
        error = await second
        assert (error.limit, error.done) == ("scope", 0)  # law 15
        await far.read_exactly(300_000)
        await first


@pytest.mark.real_time(TCP)
async def test_reading_goes_on_after_a_cut_write(kind: str) -> None:
    async with a_pair(kind, small=True) as (near, far):
        await outcome_of(near.write(BIG, timeout=0.005))
        await far.write(b"still here")
        assert await near.read_exactly(10) == b"still here"


@pytest.mark.real_time(TCP)
async def test_a_write_of_which_nothing_was_sent_leaves_the_stream_usable(kind: str) -> None:
    async with a_pair(kind, small=True) as (near, far):
        size = fill(near)
        for timeout in (0, 0.005):
            with pytest.raises(netio.DeadlineExceeded) as caught:
                await near.write(b"B" * 1000, timeout=timeout)
            assert caught.value.done == 0
            assert "none of 1000 bytes" in str(caught.value)
        await far.read_exactly(size)
        await near.write(b"C")
        assert await far.read_exactly(1) == b"C"


async def test_a_write_with_no_time_sends_what_fits_now(pair: Pair) -> None:
    near, far = pair
    await near.write(b"fits", timeout=0)
    await near.write(b"fits", timeout=-5)
    assert await far.read_exactly(8) == b"fitsfits"


@pytest.mark.parametrize("timeout", [0, 0.005])
@pytest.mark.real_time(TCP)
async def test_a_cut_write_says_exactly_what_the_kernel_took(kind: str, timeout: float) -> None:
    async with a_pair(kind, small=True) as (near, far):
        payload = [BIG, b"x" * 10, BIG]
        total = sum(map(len, payload))
        with pytest.raises(netio.DeadlineExceeded) as caught:
            await near.write_many(payload, timeout=timeout)
        error = caught.value
        assert (error.expected, error.operation) == (total, f"write_many({total})")
        assert error.done > 0  # what fits now
        assert error.done == near.statistics().bytes_sent
        await near.aclose()
        assert await read_rest(far) == b"".join(payload)[: error.done]


@pytest.mark.real_time(TCP)
async def test_nothing_is_kept_of_writes_that_are_over(kind: str) -> None:
    async with a_pair(kind, small=True) as (near, far):
        fill(near)
        for timeout in (0, 0.001):
            calls = [
                near.write(b"x", timeout=timeout),
                near.write_many([b"y" * 70_000], timeout=timeout),
                near.write(b"z", timeout=timeout),
            ]
            errors = await asyncio.gather(*calls, return_exceptions=True)
            assert [type(error) for error in errors] == [netio.DeadlineExceeded] * 3
        whole = [part(near, b"A"), part(near, b"B"), asyncio.create_task(near.write_eof())]
        await collect(far)
        await asyncio.gather(*whole)
        channel = near._channel
        assert (channel.waiters, list(near._sender._queue)) == ((), [])
        assert near._sender._current is None


# The end. -------------------------------------------------------------------------------------


async def test_write_eof_comes_after_the_writes_that_queue_and_may_be_repeated(kind: str) -> None:
    async with a_pair(kind, small=True) as (near, far):
        writes = [part(near, b"A"), part(near, b"B")]
        await ticks(2)
        endings = [asyncio.create_task(near.write_eof()) for _ in range(3)]
        assert runs(await collect(far)) == [(b"A", 300_000), (b"B", 300_000)]
        await asyncio.gather(*writes, *endings)
        await near.write_eof()
        with pytest.raises(netio.StreamClosed, match="write_eof"):
            await near.write(b"more")
        await far.write(b"answer")
        assert await near.read_exactly(6) == b"answer"


@pytest.mark.real_time(TCP)
async def test_write_eof_that_is_cut_while_it_queues_has_ended_nothing(kind: str) -> None:
    async with a_pair(kind, small=True) as (near, far):
        first = part(near, b"A")
        await ticks(2)
        with pytest.raises(netio.DeadlineExceeded) as caught:
            await near.write_eof(timeout=0.005)
        assert (caught.value.operation, caught.value.done) == ("write_eof", 0)
        ending = asyncio.create_task(near.write_eof())
        await ticks(2)
        ending.cancel()
        cancelled = await outcome_of(ending)
        assert isinstance(cancelled, asyncio.CancelledError)
        third = part(near, b"C")
        assert runs(await far.read_exactly(600_000)) == [(b"A", 300_000), (b"C", 300_000)]
        await asyncio.gather(first, third)


async def test_write_eof_on_a_reset_connection_does_not_hide_the_reset(pair: Pair) -> None:
    near, far = pair
    hand = Hand(near, far)
    hand.reset()
    refused = await outcome_of(near.write_eof())  # by TCP: "not connected"
    with pytest.raises(netio.ConnectionReset):
        await near.read_some()
    with pytest.raises(netio.ConnectionReset if refused else netio.StreamClosed):
        await near.write(b"x")


@pytest.mark.real_time(TCP)
async def test_a_peer_that_takes_no_more_breaks_the_pipe_each_time_afresh(pair: Pair) -> None:
    near, far = pair
    await far.aclose()
    errors = []
    for _ in range(100):  # TCP learns it from the answer to the first write
        errors.append(await outcome_of(near.write(b"x")))
        await asyncio.sleep(0.001 if errors[-1] is None else 0)
        if len(errors) > 2 and errors[-2] is not None:
            break
    assert all(isinstance(error, netio.ConnectionLost) for error in errors[-2:]), errors
    assert errors[-1] is not errors[-2]
    assert errors[-1].done == 0


# Attribution of an attempt that fails halfway. ------------------------------------------------


class Choosy(MemoryChannel):
    """Takes `step` bytes a time, and fails after `until` bytes; if `deaf`, fails to receive."""

    def __init__(self, near: MemoryChannel) -> None:
        super().__init__(near.loop, near._incoming, near._outgoing, near.local, near.peer)
        self.step, self.until, self.given, self.deaf = 7, 1 << 60, 0, False

    def receive(self, max_bytes: int) -> bytes:
        if self.deaf:
            raise OSError(110, "Connection timed out")
        return super().receive(max_bytes)

    def send(self, data: bytes | memoryview) -> int:
        if self.given >= self.until:
            raise OSError(104, "Connection reset by peer")
        sent = super().send(data[: self.step])
        self.given += sent
        return sent


@contextlib.asynccontextmanager
async def choosy_pair() -> AsyncIterator[tuple[Stream, Stream, Choosy]]:
    near, far = memory_pair(asyncio.get_running_loop())
    channel = Choosy(near)
    timeouts = netio.Timeouts(read=10, write=10)
    one, other = (Stream(end, timeouts=timeouts, limit=65536) for end in (channel, far))
    yield one, other, channel
    one.abort()
    other.abort()


@pytest.mark.parametrize("many", [False, True])
async def test_a_channel_that_takes_little_at_a_time_gets_all_in_order(many: bool) -> None:
    async with choosy_pair() as (near, far, _):
        reading = asyncio.create_task(far.read_exactly(40_000))
        data = BIG[:40_000]
        if many:
            await near.write_many([data[:10], data[10:30_001], data[30_001:]])
        else:
            await near.write(data)
        assert await reading == data


async def test_a_failure_in_the_middle_says_how_far_it_got_and_is_kept() -> None:
    async with choosy_pair() as (near, far, channel):
        channel.until = 70
        with pytest.raises(netio.ConnectionReset) as caught:
            await near.write(b"x" * 1000)
        assert caught.value.done == 70
        assert "70 of 1000 bytes" in str(caught.value)
        with pytest.raises(netio.ConnectionReset) as again:
            await near.write(b"y")
        assert again.value.done == 0
        far._channel.shut_down_writing()
        with pytest.raises(netio.ConnectionReset):
            await near.read_some()  # law 29


async def test_a_failure_that_a_read_met_is_raised_by_writes_that_would_still_work() -> None:
    async with choosy_pair() as (near, far, channel):
        channel.deaf = True
        with pytest.raises(netio.ConnectionLost, match="timed out"):
            await near.read_some()
        for call in (near.write(b"x"), near.write(b""), near.write_many([BIG]), near.write_eof()):
            with pytest.raises(netio.ConnectionLost, match="timed out") as caught:
                await call
            assert caught.value.done == 0
        await near.aclose()
        assert await read_rest(far) == b""


# Many buffers. --------------------------------------------------------------------------------

BUFFERS: dict[str, list[Any]] = {
    "none": [],
    "empty": [b"", bytearray(), b""],
    "tiny": [b"%d," % i for i in range(20_000)],
    "tiny and other kinds": [bytearray(b"ab"), memoryview(b"cd"), array.array("I", [1, 2])] * 3000,
    "a head and a body": [b"head", b"x" * 10_000],
    "large": [b"x" * 70_000, bytearray(b"y" * 70_000)],
    "mixed": [b"a", b"x" * 70_000, b"b", b"c", bytearray(b"y" * 5000), b"", b"z" * 4096] * 5,
}


@pytest.mark.parametrize("buffers", BUFFERS.values(), ids=BUFFERS)
async def test_several_buffers_arrive_as_one_in_order(pair: Pair, buffers: list[Any]) -> None:
    near, far = pair
    whole = b"".join(map(bytes, buffers))
    reading = asyncio.create_task(far.read_all(limit=len(whole)))
    await near.write_many(iter(buffers))
    await near.write_eof()
    assert await reading == whole
    for buffer in buffers:
        if isinstance(buffer, bytearray):
            buffer.append(0)  # no view of it is left
            del buffer[-1]


def test_small_buffers_are_joined_and_large_ones_are_not_copied() -> None:
    large = bytearray(70_000)
    views = few_views([b"x"] * 100_000 + [large] + [b"y"] * 10)
    assert [len(view) for view in views] == [65536, 100_000 - 65536, 70_000, 10]
    assert views[2].obj is large
    assert [len(view) for view in few_views([b"x" * 5000] * 3)] == [15_000]


@pytest.mark.parametrize(
    "wrong", [[bytearray(70_000), 5], [bytearray(70_000), memoryview(b"abcd")[::2]]]
)
async def test_a_wrong_buffer_among_good_ones_sends_nothing_and_keeps_none(wrong: Any) -> None:
    async with a_pair("unix") as (near, _):
        with pytest.raises((TypeError, ValueError), match="buffers"):
            await near.write_many(wrong)
        wrong[0].clear()  # no view of it is left
        assert near.statistics().bytes_sent == 0


@pytest.mark.parametrize("wrong", [5, None, b"bytes", "text"])
async def test_what_is_no_list_of_buffers_is_named(wrong: Any) -> None:
    async with a_pair("unix") as (near, _):
        with pytest.raises(TypeError, match="buffers must be"):
            await near.write_many(wrong)
