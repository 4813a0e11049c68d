"""Reads: what each method returns, however the bytes were cut, and what it keeps when it fails."""

import asyncio
import itertools
import socket
from collections.abc import Callable
from typing import Any

import pytest
import streams
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from streams import Hand, Pair, a_pair, in_one_tick, make_pair, outcome_of, read_rest, ticks

import netio
from netio._buffer import ReceiveBuffer
from netio._stream import Stream
from netio.testing import run

kind, pair = streams.kind, streams.pair

SOON = 5.0


# Each method. ---------------------------------------------------------------------------------


async def test_read_exactly_returns_that_many_and_leaves_the_rest(pair: Pair) -> None:
    near, far = pair
    await far.write(b"hello world")
    assert await near.read_exactly(5) == b"hello"
    assert await near.read_exactly(0) == b""
    assert (near.peek(), near.buffered) == (b" world", 6)
    assert await near.read_exactly(6) == b" world"


async def test_read_until_takes_the_separator_with_it_or_drops_it(pair: Pair) -> None:
    near, far = pair
    await far.write(b"a;b;c\r\nd\nrest")
    assert await near.read_until(b";") == b"a;"
    assert await near.read_until(b";", keep=False) == b"b"
    assert await near.read_until((b"\n", b"\r\n"), keep=False) == b"c\r"
    assert await near.read_until((b"\r\n", b"\n"), keep=False) == b"d"
    assert near.peek() == b"rest"


async def test_of_several_separators_the_earliest_end_wins_then_the_shorter(pair: Pair) -> None:
    near, far = pair
    await far.write(b"xENDyZ")
    assert await near.read_until((b"xENDyZ", b"Z", b"ND", b"END"), keep=False) == b"xE"


async def test_read_line_returns_lines_and_the_last_may_lack_its_newline(pair: Pair) -> None:
    near, far = pair
    await far.write(b"one\r\n\ntwo")
    await far.write_eof()
    assert await near.read_line() == b"one\r\n"
    assert await near.read_line(keep=False) == b""
    assert await near.read_line() == b"two"
    assert await near.read_line() == b""
    assert await near.read_line() == b""


async def test_lines_without_newlines_tell_an_empty_line_from_the_end(pair: Pair) -> None:
    near, far = pair
    await far.write(b"\n\na\n\nlast")
    await far.write_eof()
    assert [line async for line in near.lines(keep=False)] == [b"", b"", b"a", b"", b"last"]


async def test_lines_can_be_left_and_iterated_again(pair: Pair) -> None:
    near, far = pair
    await far.write(b"a\nb\nc\n")
    await far.write_eof()
    async for line in near.lines():
        assert line == b"a\n"
        break
    assert [line async for line in near.lines()] == [b"b\n", b"c\n"]


async def test_lines_go_on_after_a_line_that_was_too_long(pair: Pair) -> None:
    near, far = pair
    await far.write(b"0123456789\nb\n")
    await far.write_eof()
    lines = near.lines(limit=5)
    with pytest.raises(netio.LimitExceeded):
        await anext(lines)
    assert await near.read_line(limit=20) == b"0123456789\n"
    assert [line async for line in lines] == [b"b\n"]


async def test_chunks_give_everything_and_respect_their_bound(pair: Pair) -> None:
    near, far = pair
    await far.write(b"x" * 1000)
    await far.write_eof()
    chunks = [chunk async for chunk in near.chunks(300)]
    assert b"".join(chunks) == b"x" * 1000
    assert max(map(len, chunks)) <= 300


async def test_read_some_returns_what_is_there_and_empty_at_the_end(pair: Pair) -> None:
    near, far = pair
    await far.write(b"abcdef")
    assert await near.read_some(4) == b"abcd"
    assert await near.read_some() == b"ef"
    await far.write_eof()
    assert [await near.read_some(), await near.read_some()] == [b"", b""]


@pytest.mark.parametrize("make", [bytearray, lambda n: memoryview(bytearray(n))])
@pytest.mark.parametrize("size", [0, 10, 50_000])
async def test_read_into_fills_the_buffer(pair: Pair, make: Any, size: int) -> None:
    near, far = pair
    target = make(size)
    writing = asyncio.create_task(far.write(b"ab" * (size // 2) + b"rest"))
    assert await near.read_into(target) == size
    assert bytes(target) == b"ab" * (size // 2)
    await writing
    assert await near.read_exactly(4) == b"rest"


async def test_read_all_returns_everything_up_to_the_end(pair: Pair) -> None:
    near, far = pair
    payload = bytes(range(256)) * 1000
    writing = asyncio.create_task(far.write(payload))
    writing.add_done_callback(lambda _: far._channel.shut_down_writing())
    assert await near.read_all(limit=len(payload)) == payload
    assert await near.read_all(limit=0) == b""
    await writing


async def test_peek_asks_for_nothing_and_takes_nothing(pair: Pair) -> None:
    near, far = pair
    await far.write(b"abc")
    assert (near.peek(), near.buffered) == (b"", 0)
    assert await near.read_exactly(1) == b"a"
    peeked = near.peek()
    assert (type(peeked), peeked, near.peek()) == (bytes, b"bc", b"bc")


@pytest.mark.parametrize("n", [65535, 65536, 65537, 200_000])
@pytest.mark.parametrize("held", [0, 1, 70_000])
async def test_a_large_read_keeps_its_surplus_for_the_next(kind: str, n: int, held: int) -> None:
    async with a_pair(kind) as (near, far):
        payload = bytes(i * 7 % 251 for i in range(300_000))
        writing = asyncio.create_task(far.write(payload))
        if held:
            with pytest.raises(netio.LimitExceeded):
                await near.read_until(b"\xff", limit=held)
        assert await near.read_exactly(n) == payload[:n]
        target = bytearray(300_000 - n - 10)
        await near.read_into(target)
        assert target == payload[n:-10]
        assert await near.read_exactly(10) == payload[-10:]
        await writing


# Limits of size. ------------------------------------------------------------------------------


async def test_a_record_longer_than_the_limit_discards_nothing(pair: Pair) -> None:
    near, far = pair
    await far.write(b"0123456789\nrest")
    for _ in range(2):
        with pytest.raises(netio.LimitExceeded) as caught:
            await near.read_until(b"\n", limit=10)
        assert (caught.value.limit, caught.value.consumed) == (10, near.buffered)  # law 30
    assert await near.read_until(b"\n", limit=11) == b"0123456789\n"
    assert await near.read_exactly(4) == b"rest"


async def test_a_last_line_as_long_as_the_limit_is_not_too_long(pair: Pair) -> None:
    near, far = pair
    reading = asyncio.create_task(near.read_line(limit=3))
    await far.write(b"abc")
    await ticks(3)
    assert not reading.done()  # a newline would make it too long, and the end would not
    await far.write_eof()
    assert await reading == b"abc"
    assert await near.read_line(limit=3) == b""


async def test_a_line_is_too_long_with_its_newline(pair: Pair) -> None:
    near, far = pair
    await far.write(b"abc\nabcd")
    await far.write_eof()
    with pytest.raises(netio.LimitExceeded):
        await near.read_line(limit=3)
    assert await near.read_line(limit=4) == b"abc\n"
    with pytest.raises(netio.LimitExceeded):
        await near.read_line(limit=3)
    assert await near.read_line(limit=4) == b"abcd"


async def test_more_than_read_all_may_hold_discards_nothing(pair: Pair) -> None:
    near, far = pair
    await far.write(b"0123456789")
    await far.write_eof()
    with pytest.raises(netio.LimitExceeded):
        await near.read_all(limit=9)
    assert await near.read_all(limit=10) == b"0123456789"


async def test_the_streams_own_limit_holds_unless_the_call_names_one(kind: str) -> None:
    async with a_pair(kind, limit=8) as (near, far):
        await far.write(b"0123456789\n0123\n")
        with pytest.raises(netio.LimitExceeded, match="limit of 8 bytes"):
            await near.read_line()
        with pytest.raises(netio.LimitExceeded, match="limit of 8 bytes"):
            await near.read_until(b"\n")
        assert await near.read_line(limit=11) == b"0123456789\n"
        assert await near.read_line() == b"0123\n"


async def test_a_line_that_fits_is_a_hit_though_more_than_the_limit_is_buffered(kind: str) -> None:
    async with a_pair(kind, limit=8) as (near, far):
        await far.write(b"0123456\n" * 100)
        assert [await near.read_line() for _ in range(100)] == [b"0123456\n"] * 100


async def test_memory_is_bounded_by_the_limit_and_one_read(kind: str) -> None:
    async with a_pair(kind, limit=1000) as (near, far):
        endless = asyncio.create_task(outcome_of(far.write(b"x" * 10_000_000)))
        for read in (near.read_until(b"\n"), near.read_line(), near.read_all(limit=1000)):
            with pytest.raises(netio.LimitExceeded):
                await read
            assert near.buffered <= 1000 + 65536  # law 31
        await ticks(20)
        assert near.buffered <= 1000 + 65536
        assert not endless.done()
        far.abort()
        await endless


# Chunks. --------------------------------------------------------------------------------------

Call = Callable[[Stream], Any]


def into(n: int) -> Call:
    async def read(stream: Stream) -> bytes:
        target = bytearray(n)
        await stream.read_into(target)
        return bytes(target)

    return read


CALLS = st.one_of(
    st.integers(0, 30).map(lambda n: (f"exactly {n}", lambda s: s.read_exactly(n))),
    st.integers(0, 30).map(lambda n: (f"into {n}", into(n))),
    st.integers(1, 30).map(lambda n: (f"line {n}", lambda s: s.read_line(limit=n))),
    st.integers(2, 30).map(
        lambda n: (f"until {n}", lambda s: s.read_until((b"ab", b"\n\n"), limit=n, keep=False))
    ),
    st.integers(0, 60).map(lambda n: (f"all {n}", lambda s: s.read_all(limit=n))),
)


def shape(answer: Any) -> Any:
    """What of an answer must not depend on the cutting."""
    if isinstance(answer, netio.IncompleteRead):
        return (type(answer), answer.partial, answer.expected)
    return answer if isinstance(answer, bytes) else type(answer)


def outcomes(chunks: list[bytes], calls: list[tuple[str, Call]]) -> list[Any]:
    async def main() -> list[Any]:
        near, far = make_pair("memory")

        async def feed() -> None:
            for chunk in chunks:
                await far.write(chunk)
                await asyncio.sleep(0.01)
            await far.write_eof()

        feeding = asyncio.create_task(feed())
        found = [shape(await outcome_of(call(near))) for _, call in calls]
        await feeding
        found.append(await read_rest(near))
        near.abort()
        far.abort()
        return found

    return run(main())


@settings(max_examples=60, suppress_health_check=[HealthCheck.too_slow])
@given(st.text("ab\n", max_size=60), st.lists(CALLS, min_size=1, max_size=4), st.data())
def test_results_do_not_depend_on_how_the_bytes_were_cut(
    text: str, calls: list[tuple[str, Call]], data: st.DataObject
) -> None:
    whole = text.encode()
    cuts = data.draw(st.lists(st.integers(0, len(whole)), max_size=6).map(sorted))
    edges = [0, *cuts, len(whole)]
    pieces = [whole[a:b] for a, b in itertools.pairwise(edges) if a < b]
    alone = [whole[i : i + 1] for i in range(len(whole))]
    expected = outcomes([whole] if whole else [], calls)
    assert outcomes(pieces, calls) == expected  # law 28
    assert outcomes(alone, calls) == expected


LINE_LIMIT = 16
STEPS = st.lists(
    st.one_of(
        st.sampled_from(["line", "line", "line", "line without newline", "write"]),
        st.integers(1, 12),
    ),
    min_size=20,
    max_size=80,
)
# Short lines, and at times one that is too long.
TEXTS = st.lists(
    st.lists(st.integers(0, LINE_LIMIT), min_size=10, max_size=60).map(
        lambda sizes: b"".join(b"x" * size + b"\n" for size in sizes)
    ),
    min_size=1,
    max_size=4,
)


def model_line(rest: bytes) -> bytes | None:
    """The next line; None: it is too long."""
    end = rest.find(b"\n", 0, LINE_LIMIT) + 1
    return rest[:end] if end else rest if len(rest) <= LINE_LIMIT else None


@settings(max_examples=200)
@given(TEXTS, STEPS)
def test_lines_that_were_cut_in_advance_are_those_that_are_next(
    texts: list[bytes], steps: list[str | int]
) -> None:
    async def main() -> None:
        near, far = make_pair("memory", limit=LINE_LIMIT)
        unsent, rest = list(texts), b""
        for step in ["write", *steps]:
            if step == "write":
                if unsent:
                    rest += unsent[0]
                    await far.write(unsent.pop(0))
            elif isinstance(step, int):
                if step <= len(rest):
                    assert await near.read_exactly(step) == rest[:step]
                    rest = rest[step:]
            elif b"\n" in rest[:LINE_LIMIT] or len(rest) > LINE_LIMIT:
                line, keep = model_line(rest), step == "line"
                answer = await outcome_of(near.read_line(keep=keep))
                if line is None:
                    assert isinstance(answer, netio.LimitExceeded)
                else:
                    assert answer == (line if keep else line[:-1])
                    rest = rest[len(line) :]
            assert near.peek() == rest[: near.buffered]
        if rest:
            assert await near.read_exactly(len(rest)) == rest
        near.abort()
        far.abort()

    run(main())


@pytest.mark.parametrize("held", [False, True])
async def test_lines_that_were_cut_in_advance_are_forgotten_when_more_comes(held: bool) -> None:
    lines = [b"%03d\n" % number for number in range(100)]
    async with a_pair("memory") as (near, far):
        await far.write(b"".join(lines))
        assert [await near.read_line() for _ in range(3)] == lines[:3]
        if not held:
            await near.read_exactly(4 * 97)
        await far.write(b"new\n" * 20)
        with pytest.raises(netio.DeadlineExceeded):
            await near.read_exactly(1000, timeout=0)
        await near.read_exactly(4 * 3)  # to the place in the buffer where they were
        assert near._receiver.buffer.start == near._receiver.buffer.lines_at
        assert await near.read_line() == (lines[6] if held else b"new\n")


async def test_the_last_line_leaves_no_memory_behind(pair: Pair) -> None:
    near, far = pair
    await far.write(b"abc\n" * 1000)
    for _ in range(1000):
        assert await near.read_line() == b"abc\n"
    assert near.buffered == 0
    assert (near._receiver.buffer.data, near._receiver.buffer.lines or []) == (b"", [])


async def test_who_reads_line_after_line_gets_them_cut_in_advance(pair: Pair) -> None:
    near, far = pair
    await far.write(b"abc\n" * 8000)
    searches = 0

    class Counted(ReceiveBuffer):
        def take_line(self, limit: int) -> bytes | None:
            nonlocal searches
            searches += 1
            return super().take_line(limit)

    near._receiver.buffer = Counted()
    for _ in range(8000):
        assert await near.read_line() == b"abc\n"
    assert searches < 200


# The end, and failures. -----------------------------------------------------------------------


@pytest.mark.parametrize("size", [8, 100_000])
@pytest.mark.parametrize("how", ["exactly", "into"])
async def test_an_end_that_comes_too_early_keeps_what_came(pair: Pair, size: int, how: str) -> None:
    near, far = pair
    came = b"abcde" * (size // 10)
    await far.write(came)
    await far.write_eof()
    target = bytearray(size)
    for _ in range(2):
        call = near.read_exactly(size) if how == "exactly" else near.read_into(target)
        with pytest.raises(netio.IncompleteRead) as caught:
            await call
        assert (caught.value.partial, caught.value.expected) == (came, size)
        assert near.peek() == came
    assert await near.read_exactly(len(came)) == came


async def test_an_end_without_a_separator_keeps_what_came(pair: Pair) -> None:
    near, far = pair
    await far.write(b"abc")
    await far.write_eof()
    with pytest.raises(netio.IncompleteRead) as caught:
        await near.read_until(b";")
    assert (caught.value.partial, caught.value.expected) == (b"abc", None)
    assert await near.read_line() == b"abc"


READS: list[Call] = [
    lambda s: s.read_exactly(1),
    lambda s: s.read_exactly(100_000),
    lambda s: s.read_until(b"\n"),
    lambda s: s.read_line(),
    lambda s: s.read_some(),
    lambda s: s.read_all(limit=10),
    lambda s: s.read_into(bytearray(1)),
    lambda s: s.read_into(bytearray(100_000)),
]


@pytest.mark.parametrize("size", [10, 100_000])
async def test_a_reset_comes_after_all_bytes_and_is_raised_each_time_afresh(
    pair: Pair, size: int
) -> None:
    near, far = pair
    hand = Hand(near, far)
    hand.data(b"x" * size)
    hand.reset()
    with pytest.raises(netio.ConnectionLost) as caught:
        await near.read_exactly(size + 1)
    assert caught.value.done == size
    assert await near.read_exactly(size) == b"x" * size  # law 29
    errors = [await outcome_of(read(near)) for read in READS]
    assert all(isinstance(error, netio.ConnectionReset) for error in errors), errors
    assert len({id(error) for error in errors}) == len(READS)
    assert near.buffered == 0
    with pytest.raises(netio.ConnectionReset):
        await near.write(b"x")


async def test_a_reset_that_the_writer_meets_is_raised_by_reads_after_what_is_left(
    pair: Pair,
) -> None:
    near, far = pair
    hand = Hand(near, far)
    hand.data(b"left")
    hand.reset()
    with pytest.raises(netio.BrokenPipe if near.peer is None else netio.ConnectionReset):
        await near.write(b"x")  # a Unix socket says it is broken
    assert await near.read_exactly(4) == b"left"
    for read in READS:
        with pytest.raises(netio.ConnectionLost):
            await read(near)  # never b"", though the kernel reports a reset once
    with pytest.raises(netio.ConnectionLost):
        await near.write(b"y")


async def test_a_reset_that_a_cancelled_writer_met_is_still_raised_by_reads(kind: str) -> None:
    async with a_pair(kind, small=True) as (near, far):
        hand = Hand(near, far)
        task = asyncio.create_task(near.write(b"x" * 3_000_000))
        await ticks(3)
        await in_one_tick(hand.reset, task.cancel)
        assert isinstance(await outcome_of(task), asyncio.CancelledError)
        with pytest.raises(netio.ConnectionLost):
            await near.read_some()


async def test_a_reset_that_a_writer_met_is_known_to_a_read_of_the_same_tick(kind: str) -> None:
    async with a_pair(kind, small=True) as (near, far):
        hand = Hand(near, far)
        writing = asyncio.create_task(near.write(b"x" * 3_000_000))
        await ticks(3)
        answers: list[Any] = []

        def read_at_once() -> None:
            coroutine = near.read_some(timeout=0)
            try:
                coroutine.send(None)
            except (StopIteration, netio.NetioError) as answer:
                answers.append(answer)

        await in_one_tick(hand.reset, read_at_once)
        await outcome_of(writing)
        assert isinstance(answers[0], netio.ConnectionLost), answers


@pytest.mark.parametrize("size", [5, 100_000])
async def test_a_reset_right_behind_the_bytes_is_met_by_the_next_read(
    pair: Pair, size: int
) -> None:
    near, far = pair
    hand = Hand(near, far)
    reading = asyncio.create_task(near.read_exactly(4, timeout=1))
    await ticks(3)
    hand._prepare_reset()
    await in_one_tick(lambda: hand.data_unnoticed(b"x" * size), far.abort)
    assert await reading == b"xxxx"
    before = near._channel.loop.time()
    with pytest.raises(netio.ConnectionLost):
        await near.read_exactly(size + 1, timeout=1)
    assert near._channel.loop.time() - before < 0.5  # and not by the last look at its limit
    assert await read_rest(near) == b"x" * (size - 4)


@pytest.mark.parametrize("call", [lambda s: s.read_exactly(200_000), into(200_000)])
async def test_a_reset_in_the_middle_of_a_waiting_large_read_ends_it(
    pair: Pair, call: Call
) -> None:
    near, far = pair
    near.timeouts = netio.Timeouts(read=1)
    hand = Hand(near, far)
    before = near._channel.loop.time()
    reading = asyncio.create_task(outcome_of(call(near)))
    await ticks(3)
    hand._prepare_reset()
    await in_one_tick(lambda: hand.data_unnoticed(b"x" * 120_000), far.abort)
    answer = await reading
    assert isinstance(answer, netio.ConnectionLost), repr(answer)
    assert answer.done == 120_000
    assert near._channel.loop.time() - before < 0.5  # and not by the last look at its limit
    assert await read_rest(near) == b"x" * 120_000


async def test_a_failure_keeps_neither_frames_nor_the_memory_of_the_caller(pair: Pair) -> None:
    near, far = pair
    hand = Hand(near, far)
    hand.reset()
    target = bytearray(100_000)
    with pytest.raises(netio.ConnectionLost) as caught:
        await near.read_into(target)
    target.clear()  # no BufferError, while the error is alive
    assert caught.value.__cause__ is not None
    assert caught.value.__cause__.__traceback__ is None


# Cancellation, at each point. -----------------------------------------------------------------

CUT_READS: list[tuple[str, Call]] = [
    ("exactly", lambda s: s.read_exactly(150_000)),
    ("into", lambda s: s.read_into(bytearray(150_000))),
    ("until", lambda s: s.read_until(b"!", limit=150_000)),
    ("all", lambda s: s.read_all(limit=150_000)),
]


@pytest.mark.parametrize(("name", "call"), CUT_READS, ids=[name for name, _ in CUT_READS])
@pytest.mark.parametrize("how", ["cancel", "limit"])
async def test_a_large_read_that_is_cut_at_any_point_gives_everything_back(
    kind: str, name: str, call: Call, how: str
) -> None:
    payload = bytes(i * 11 % 199 + 40 for i in range(120_000)).replace(b"!", b"?")
    for steps in range(9):
        async with a_pair(kind) as (near, far):
            hand = Hand(near, far)
            if steps % 2:
                hand.data(b"held")
                await near.read_exactly(1)
            reading = asyncio.create_task(outcome_of(call(near)))
            await ticks(2)
            for at in range(steps):
                hand.data(payload[at * 15_000 : (at + 1) * 15_000])
                await ticks(at % 3)
            cut = reading.cancel if how == "cancel" else hand.time_is_over
            await in_one_tick(cut)
            answer = await reading
            assert isinstance(answer, (asyncio.CancelledError, netio.DeadlineExceeded))
            near.deadline = None
            expected = hand.sent[1:] if steps % 2 else hand.sent
            assert answer.done == len(expected)
            assert near.peek() == expected[: near.buffered]
            await far.write(b"!")
            await far.write_eof()
            assert await read_rest(near) == expected + b"!"


async def test_a_cancel_while_a_run_of_hits_yields_loses_nothing(pair: Pair) -> None:
    near, far = pair
    await far.write(bytes(range(250)) * 4 + b"end")
    await far.write_eof()
    taken = bytearray()

    async def run() -> None:
        while True:
            taken.extend(await near.read_exactly(1))

    for _ in range(3):
        task = asyncio.create_task(run())
        await ticks(2)  # it has yielded now, in the middle of a read
        task.cancel()
        await outcome_of(task)
    assert bytes(taken) + await read_rest(near) == bytes(range(250)) * 4 + b"end"


@pytest.mark.any_clock
async def test_a_read_after_one_that_was_cut_continues_where_it_was(pair: Pair) -> None:
    near, far = pair
    await far.write(b"abc")
    with pytest.raises(netio.DeadlineExceeded) as caught:
        await near.read_exactly(6, timeout=0.01)
    assert (caught.value.done, caught.value.expected) == (3, 6)
    await far.write(b"def")
    assert await near.read_exactly(6, timeout=SOON) == b"abcdef"


async def test_a_second_reader_is_refused_and_the_first_unharmed(pair: Pair) -> None:
    near, far = pair
    first = asyncio.create_task(near.read_exactly(3))
    await ticks(2)
    for read in READS:
        with pytest.raises(netio.StreamBusy, match=r"read_exactly\(3\)"):
            await read(near)
    await far.write(b"abcdef")
    assert await first == b"abc"
    assert await near.read_exactly(3) == b"def"


async def test_both_directions_work_at_once(pair: Pair) -> None:
    near, far = pair
    payload = bytes(range(256)) * 4000

    async def both(stream: Stream) -> bytes:
        writing = asyncio.create_task(stream.write(payload))
        got = await stream.read_exactly(len(payload))
        await writing
        return got

    assert await asyncio.gather(both(near), both(far)) == [payload, payload]


async def test_the_options_of_a_socket_that_is_handed_over_stay_its_own() -> None:
    one, other = socket.socketpair()
    one.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 20_000)
    size = one.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF)
    stream = netio.open_stream(one)
    assert stream.socket.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF) == size
    assert one.gettimeout() == 0
    stream.abort()
    other.close()


async def test_every_kind_of_channel_reports_a_reset_once_and_then_the_end(pair: Pair) -> None:
    near, far = pair
    hand = Hand(near, far)
    hand.data(b"left")
    hand.reset()
    channel = near._channel
    assert channel.receive(10) == b"left"
    with pytest.raises(ConnectionResetError):
        channel.receive(10)
    assert [channel.receive(10), channel.receive(10)] == [b"", b""]  # which is why law 29 says so
    with pytest.raises(BrokenPipeError):
        channel.send(b"x")
