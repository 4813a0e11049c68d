"""What a waiting read or write answers when several things happen within one tick, in every order.

d: enough data. e: the end. r: a reset. t: the stream's own limit. s: a scope of the task.
c: a cancel from outside. The table is law 10; after each case the bytes returned and the bytes
still readable are the bytes that were sent.
"""

import asyncio
import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest
import streams
from streams import Hand, a_pair, outcome_of, read_rest, ticks

import netio
from netio._stream import Stream

kind, pair = streams.kind, streams.pair

LARGE = 100_000
EITHER = object()


@dataclass(frozen=True)
class Method:
    """A read: what it waits for."""

    name: str
    call: Callable[[Stream], Any]
    before: bytes  # comes before, and is not enough
    data: bytes  # comes as `d`
    result: Any  # what it returns then
    at_end: Any  # what it returns or raises at the end without `d`
    data_is_enough: bool = True


def into(stream: Stream, size: int) -> Any:
    target = bytearray(size)

    async def read() -> bytes:
        assert await stream.read_into(target) == size
        return bytes(target)

    return read()


INCOMPLETE, LOST, EXCEEDED = netio.IncompleteRead, netio.ConnectionLost, netio.LimitExceeded
BIG = bytes(range(256)) * (LARGE // 256 + 1)

METHODS = [
    Method("exactly", lambda s: s.read_exactly(8), b"abc", b"defghijkl", b"abcdefgh", INCOMPLETE),
    Method("until", lambda s: s.read_until(b"\r\n"), b"ab\r", b"\ncd", b"ab\r\n", INCOMPLETE),
    Method("line", lambda s: s.read_line(), b"abc", b"d\nef", b"abcd\n", b"abc"),
    Method("some", lambda s: s.read_some(4), b"", b"abcdef", b"abcd", b""),
    Method("into", lambda s: into(s, 8), b"abc", b"defghijkl", b"abcdefgh", INCOMPLETE),
    Method("all", lambda s: s.read_all(limit=90), b"ab", b"cd", b"abcd", b"ab", False),
    Method("all_over", lambda s: s.read_all(limit=3), b"ab", b"cd", EXCEEDED, b"ab"),
    Method(
        "exactly_large",
        lambda s: s.read_exactly(LARGE),
        BIG[:70_000],
        BIG[70_000:],
        BIG[:LARGE],
        INCOMPLETE,
    ),
    Method(
        "into_large",
        lambda s: into(s, LARGE),
        BIG[:70_000],
        BIG[70_000:] + b"surplus",
        BIG[:LARGE],
        INCOMPLETE,
    ),
]


def orders(events: str, *sizes: int) -> Iterator[str]:
    for size in sizes:
        for chosen in itertools.permutations(events, size):
            order = "".join(chosen)
            ended = min((order.index(x) for x in "er" if x in order), default=len(order))
            if "d" in order[ended:] or "re" in order.replace("t", "").replace("s", ""):
                continue  # nothing follows an end, and no end a reset
            if "r" in order and "e" in order[order.index("r") :]:
                continue
            yield order


def first_conclusion(method: Method, arrived: str) -> Any:
    """What a read that sees these arrivals one after the other returns, or None: it waits on."""
    so_far = ""
    for event in arrived:
        if event == "d":
            so_far = "d"
            if method.data_is_enough:
                return method.result
        elif event == "e":
            return method.result if so_far else method.at_end
        elif event == "r":
            return LOST
    return None


def expected(method: Method, order: str) -> Any:
    """The table."""
    if "c" in order:
        return asyncio.CancelledError
    for i, event in enumerate(order):
        arrived = "".join(e for e in order[: i + 1] if e in "der")
        conclusion = first_conclusion(method, arrived)
        if event in "der" and conclusion is not None:
            return conclusion
        if event == "s":
            return "scope"
        if event == "t":  # and then it looks once more
            arrived = "".join(e for e in order if e in "der")
            if "er" in arrived and not (method.data_is_enough and "d" in arrived):
                return EITHER  # the systems differ in which of the two they tell
            late = first_conclusion(method, arrived)
            if late is not None:
                return late
            return "scope" if "s" in order else "limit"
    raise AssertionError(order)


async def race(kind: str, method: Method, order: str) -> None:
    async with a_pair(kind) as (near, far):
        hand = Hand(near, far)
        if "r" in order:
            hand.prepare_reset()
        loop = asyncio.get_running_loop()
        scopes: list[netio.Scope] = []

        async def inside() -> Any:
            async with netio.timeout(3600) as scope:
                scopes.append(scope)
                return await method.call(near)

        task = asyncio.create_task(inside())
        await ticks(2)
        if method.before:
            hand.data(method.before)
        assert not task.done()
        acts: dict[str, Callable[[], object]] = {
            "d": lambda: hand.data(method.data),
            "e": hand.end,
            "r": hand.reset,
            "t": hand.time_is_over,
            "c": task.cancel,
        }
        for event in order:
            if event == "s":
                scopes[0].reschedule(loop.time() - 1)  # its callback stands at this very place
            else:
                loop.call_soon(acts[event])
        answer = await outcome_of(task)
        check_answer(answer, expected(method, order))
        returned = answer if isinstance(answer, bytes) else b""
        if "e" not in order and "r" not in order:
            hand.far._channel.shut_down_writing()
        assert returned + await read_rest(near) == hand.sent, (order, answer)


def check_answer(answer: Any, wanted: Any) -> None:
    if isinstance(wanted, bytes):
        assert answer == wanted
    elif wanted is EITHER:
        assert isinstance(answer, (bytes, INCOMPLETE, LOST)), repr(answer)
    elif wanted == "scope":
        assert isinstance(answer, netio.DeadlineExceeded), repr(answer)
        assert answer.limit == "scope"
    elif wanted == "limit":
        assert isinstance(answer, netio.DeadlineExceeded), repr(answer)
        assert answer.limit == "deadline"
    else:
        assert isinstance(answer, wanted), repr(answer)


@pytest.mark.parametrize("method", METHODS, ids=lambda m: m.name)
async def test_a_waiting_read_answers_by_the_table_and_loses_no_byte(
    kind: str, method: Method
) -> None:
    for order in orders("dtscer", 1, 2, 3):
        if order == "d" and not method.data_is_enough:
            continue  # it would wait on
        try:
            await race(kind, method, order)
        except BaseException as error:
            error.add_note(f"the order was {order!r}")
            raise


# Writes. m: the peer takes everything. x: this side aborts. The others as above.

PAYLOAD = bytes(range(256)) * 2000


async def write_race(kind: str, order: str) -> None:
    async with a_pair(kind, small=True) as (near, far):
        hand = Hand(near, far)
        loop = asyncio.get_running_loop()
        scopes: list[netio.Scope] = []
        inner: list[Any] = []

        async def inside() -> None:
            async with netio.timeout(3600) as scope:
                scopes.append(scope)
                try:
                    inner.append(await near.write(PAYLOAD))
                except BaseException as error:
                    inner.append(error)
                    raise

        task = asyncio.create_task(inside())
        await ticks(3)
        assert not task.done()
        acts: dict[str, Callable[[], object]] = {
            "m": hand.take_all,
            "r": hand.reset,
            "t": hand.time_is_over,
            "c": task.cancel,
            "x": near.abort,
        }
        for event in order:
            if event == "s":
                scopes[0].reschedule(loop.time() - 1)
            else:
                loop.call_soon(acts[event])
        answer = await outcome_of(task)
        assert_write_answer(order, answer, inner[0])
        await check_what_was_sent(order, hand, inner[0])


def assert_write_answer(order: str, answer: Any, inner: Any) -> None:
    first = order[0]
    if "c" in order:
        assert isinstance(answer, asyncio.CancelledError), repr(answer)
    elif order in ("tsr", "tsx"):  # the last look may meet it
        met = LOST if order == "tsr" else netio.StreamClosed
        assert isinstance(answer, (met, netio.DeadlineExceeded)), repr(answer)
    elif first == "s" or order[:2] == "ts":
        assert isinstance(answer, netio.DeadlineExceeded), repr(answer)
        assert answer.limit == "scope"
        assert answer.done == inner.done
    elif first == "m":
        assert answer is None, repr(answer)
    elif first == "r":
        wanted = netio.StreamClosed if "x" in order else netio.ConnectionLost
        assert isinstance(answer, wanted), repr(answer)
    elif first == "x":
        assert isinstance(answer, netio.StreamClosed), repr(answer)
    elif order == "t":
        assert isinstance(answer, netio.DeadlineExceeded), repr(answer)
        assert answer.limit == "deadline"


async def check_what_was_sent(order: str, hand: Hand, inner: Any) -> None:
    near, far = hand.near, hand.far
    done = len(PAYLOAD) if inner is None else getattr(inner, "done", None)
    if done is not None:
        assert near.statistics().bytes_sent == done
    if "r" in order or "x" in order or done is None:
        return
    near.deadline = None
    torn = 0 < done < len(PAYLOAD)
    after = await outcome_of(near.write(b"after", timeout=5)) if done else None
    if torn:
        assert isinstance(after, netio.ConnectionLost), repr(after)
        assert "out of step" in str(after)
        assert after.done == 0
    await near.aclose()
    there = hand.there + await read_rest(far)
    if inner is None or not torn:
        there = there.removesuffix(b"after")
    assert there == PAYLOAD[:done]


@pytest.mark.parametrize("size", [1, 2, 3])
async def test_a_waiting_write_answers_by_the_table_and_its_count_is_exact(
    kind: str, size: int
) -> None:
    for order in map("".join, itertools.permutations("mtscrx", size)):
        if "m" in order and set(order[: order.index("m")]) & set("rx"):
            continue  # there is nobody left to take anything
        if "x" in order and "r" in order[order.index("x") :]:
            continue
        try:
            await write_race(kind, order)
        except BaseException as error:
            error.add_note(f"the order was {order!r}")
            raise
