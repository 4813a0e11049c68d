"""The end of a stream, in every way it can come, and what is left then: nothing. Law 34."""

import asyncio
import gc
import os
import socket
import threading
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import streams
from streams import Hand, Pair, a_pair, fill, in_one_tick, make_pair, outcome_of, read_rest, ticks
from virtual import virtual_loop

import netio
from netio._channel import SocketChannel
from netio._stream import Stream

kind, pair = streams.kind, streams.pair

Call = Callable[[Stream], Any]

READS: list[Call] = [
    lambda s: s.read_exactly(8),
    lambda s: s.read_exactly(100_000),
    lambda s: s.read_until(b";"),
    lambda s: s.read_line(),
    lambda s: s.read_some(),
    lambda s: s.read_into(bytearray(8)),
    lambda s: s.read_into(bytearray(100_000)),
    lambda s: s.read_all(limit=10),
    lambda s: anext(s.lines()),
    lambda s: anext(s.chunks()),
]
WRITES: list[Call] = [
    lambda s: s.write(b"x"),
    lambda s: s.write(b""),
    lambda s: s.write_many([b"x" * 50_000] * 2),
    lambda s: s.write_many([]),
]


async def end(stream: Stream, how: str) -> socket.socket | None:
    if how == "aclose":
        await stream.aclose()
    elif how == "abort":
        stream.abort()
    elif how == "leave":
        async with stream:
            pass
    else:
        return stream.detach()
    return None


WAYS = ["aclose", "abort", "leave", "detach"]


def registered(descriptor: int) -> bool:
    """Whether a poller of this process watches it, as the kernel (Linux) tells."""
    for entry in Path("/proc/self/fdinfo").iterdir():
        try:
            lines = entry.read_text().splitlines()
        except OSError:
            continue  # the one that iterdir itself has open
        if any(line.split()[:2] == ["tfd:", str(descriptor)] for line in lines):
            return True
    return False


# Waking who waits. ----------------------------------------------------------------------------


@pytest.mark.parametrize("way", WAYS)
async def test_an_end_wakes_the_read_that_waits(kind: str, way: str) -> None:
    if (kind, way) == ("memory", "detach"):
        return
    for read in READS:
        async with a_pair(kind) as (near, _):
            waiting = asyncio.create_task(outcome_of(read(near)))
            await ticks(2)
            given = await end(near, way)
            error = await waiting
            assert type(error) is netio.StreamClosed, repr(error)  # law 34
            assert near.closed
            if given is not None:
                given.close()


@pytest.mark.parametrize("way", ["aclose", "abort", "leave"])
async def test_an_end_wakes_the_writes_that_wait_and_those_that_queue(kind: str, way: str) -> None:
    async with a_pair(kind, small=True) as (near, _):
        calls = [near.write(b"x" * 1_000_000), near.write(b"y"), near.write_eof(), near.write(b"z")]
        waiting = [asyncio.create_task(outcome_of(call)) for call in calls]
        await ticks(3)
        await end(near, way)
        errors = [await task for task in waiting]
        assert [type(error) for error in errors] == [netio.StreamClosed] * 4
        assert f"took {near.statistics().bytes_sent} of 1000000 bytes" in str(errors[0])


async def test_an_end_in_the_tick_of_the_data_gives_the_data_or_says_closed(kind: str) -> None:
    for abort_first in (True, False):
        for n in (4, 100_000):
            async with a_pair(kind) as (near, far):
                hand = Hand(near, far)
                waiting = asyncio.create_task(outcome_of(near.read_exactly(n)))
                await ticks(2)
                events = [lambda n=n, hand=hand: hand.data(b"x" * n), near.abort]
                await in_one_tick(*(events[1:] if abort_first else events))
                answer = await waiting
                assert answer == b"x" * n or type(answer) is netio.StreamClosed
                assert near.buffered == 0


@pytest.mark.parametrize("way", WAYS)
async def test_after_the_end_every_call_says_closed(kind: str, way: str) -> None:
    if (kind, way) == ("memory", "detach"):
        return
    async with a_pair(kind) as (near, far):
        if way != "detach":
            await far.write(b"not read")
            await near.read_exactly(1)
        given = await end(near, way)
        for call in [*READS, *WRITES, lambda s: s.write_eof(), lambda s: s.read_exactly(0)]:
            with pytest.raises(netio.StreamClosed, match="closed"):
                await call(near)
        with pytest.raises(netio.StreamClosed):
            near.detach()
        assert (near.buffered, near.peek()) == (0, b"")
        if given is not None:
            given.close()


async def test_closing_may_be_repeated_in_every_way(pair: Pair) -> None:
    near, _ = pair
    await near.aclose()
    await near.aclose(timeout=0)
    near.abort()
    async with near:
        pass
    assert near.closed


async def test_a_close_says_the_end_after_all_that_was_written(pair: Pair) -> None:
    near, far = pair
    await near.write(b"last words")
    await near.aclose()
    assert await far.read_all(limit=100) == b"last words"


async def test_a_close_over_bytes_not_read_does_not_reset(pair: Pair) -> None:
    near, far = pair
    await far.write(b"nobody reads this")
    await near.write(b"last words")
    await near.aclose()
    assert await far.read_all(limit=100) == b"last words"


async def test_an_abort_is_a_reset_at_the_other_side() -> None:
    for kind in ("tcp", "memory"):
        async with a_pair(kind) as (near, far):
            near.abort()
            with pytest.raises(netio.ConnectionReset):
                await far.read_some()


async def test_closing_never_raises_for_what_the_peer_did(pair: Pair) -> None:
    near, far = pair
    hand = Hand(near, far)
    hand.reset()
    await near.aclose()
    assert near.closed


async def test_a_close_that_is_cancelled_has_closed(pair: Pair) -> None:
    near, _ = pair
    fill(near)
    task = asyncio.create_task(near.aclose())
    task.cancel()
    await outcome_of(task)
    await near.aclose()
    assert near.closed


# Nothing is left. -----------------------------------------------------------------------------


@pytest.mark.parametrize("way", WAYS)
async def test_the_watchers_go_before_the_descriptor(way: str) -> None:
    for kind in ("tcp", "unix"):
        async with a_pair(kind, small=True) as (near, _):
            tasks = [asyncio.create_task(outcome_of(near.read_some()))]
            if way != "detach":
                tasks += [asyncio.create_task(outcome_of(near.write(b"x" * 1_000_000)))]
            await ticks(3)
            descriptor = near.socket.fileno()
            assert registered(descriptor)
            channel = near._channel
            assert isinstance(channel, SocketChannel)
            watched_at_close: list[bool] = []

            class Watched(socket.socket):
                __slots__ = ()

                def close(
                    self, number: int = descriptor, told: list[bool] = watched_at_close
                ) -> None:
                    told.append(registered(number))
                    super().close()

            channel.sock.__class__ = Watched
            given = await end(near, way)
            if given is not None:
                given.close()
            assert watched_at_close[0] is False
            await asyncio.gather(*tasks)


@pytest.mark.virtual_clock
async def test_no_timer_is_left() -> None:
    for way in ("aclose", "abort"):
        near, far = make_pair("memory")
        waiting = asyncio.create_task(outcome_of(near.read_some(timeout=100)))
        await ticks(2)
        assert len(virtual_loop().timers()) == 1
        await end(near, way)
        await waiting
        assert virtual_loop().timers() == []
        await far.aclose()


async def test_the_number_of_a_closed_descriptor_can_be_used_at_once(kind: str) -> None:
    if kind == "memory":
        return
    for way in ("aclose", "abort"):
        near, far = make_pair(kind)
        number = near.socket.fileno()
        waiting = asyncio.create_task(outcome_of(near.read_some()))
        await ticks(2)
        await end(near, way)
        await use_the_number(number)
        await waiting
        far.abort()


async def use_the_number(number: int) -> None:
    """Open a socket that gets this very descriptor, and have the loop watch it."""
    held: list[socket.socket] = []
    try:
        for _ in range(50):
            held += socket.socketpair()
            if held[-2].fileno() == number or held[-1].fileno() == number:
                break
        index = [sock.fileno() for sock in held].index(number)
        mine, peer = held[index], held[index ^ 1]
        stream = netio.open_stream(mine.detach() and socket.socket(fileno=number))
        reading = asyncio.create_task(stream.read_exactly(3, timeout=5))
        await ticks(2)
        peer.send(b"abc")
        assert await reading == b"abc"
        stream.abort()
    finally:
        for sock in held:
            sock.close()


@pytest.mark.parametrize("error", [False, True], ids=["a warning", "an error"])
@pytest.mark.any_clock
async def test_an_abandoned_stream_warns_and_is_closed(kind: str, error: bool) -> None:
    near, far = make_pair(kind)
    number = -1 if kind == "memory" else near.socket.fileno()
    await near.read_exactly(0)
    assert isinstance(await outcome_of(near.read_some(timeout=0.001)), netio.DeadlineExceeded)
    unraisable: list[Any] = []
    with warnings.catch_warnings(record=True) as caught, pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.unraisablehook", unraisable.append)
        warnings.simplefilter("error" if error else "always")
        del near
        gc.collect()
    told = [u.exc_value for u in unraisable] if error else [w.message for w in caught]
    assert [type(one) for one in told] == [ResourceWarning]
    assert "unclosed <netio.Stream open peer=" in str(told[0])
    assert await far.read_some(timeout=5) == b""
    if number >= 0:
        await use_the_number(number)
    far.abort()


@pytest.mark.real_time("the loop that abandons it is the real one")
def test_a_stream_abandoned_by_its_loop_warns_and_is_closed(loop_factory: Any) -> None:
    async def main() -> Stream:
        near, far = make_pair("unix")
        await outcome_of(near.read_some(timeout=0.001))
        far.abort()
        return near

    with asyncio.Runner(loop_factory=loop_factory) as runner:
        stream = runner.run(main())
    number = stream.socket.fileno()
    streams_held = [stream]
    del stream
    with pytest.warns(ResourceWarning, match="unclosed"):
        streams_held.clear()
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(number)


async def test_a_failure_does_not_make_a_cycle_that_keeps_the_stream(kind: str) -> None:
    near, far = make_pair(kind)
    hand = Hand(near, far)
    hand.reset()
    for call in [*READS[:5], lambda s: s.write(b"x")]:
        assert isinstance(await outcome_of(call(near)), netio.ConnectionLost)
    gc.collect()
    gc.disable()
    try:
        with pytest.warns(ResourceWarning, match="unclosed"):
            del near, hand
    finally:
        gc.enable()
    await ticks(2)


# Detaching. -----------------------------------------------------------------------------------


async def test_a_detached_socket_is_the_callers_and_loses_no_byte() -> None:
    for kind in ("tcp", "unix"):
        async with a_pair(kind) as (near, far):
            hand = Hand(near, far)
            await far.write(b"abc")
            assert await near.read_exactly(3) == b"abc"
            hand.data_unnoticed(b"def")
            view = near.socket
            sock = near.detach()
            assert near.closed
            assert view.fileno() == -1
            with pytest.raises(netio.StreamClosed):
                view.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            assert not registered(sock.fileno())
            assert sock.recv(10) == b"def"
            assert sock.gettimeout() == 0
            again = netio.open_stream(sock)
            await again.write(b"!")
            assert await far.read_exactly(1) == b"!"
            again.abort()


@pytest.mark.parametrize("n", [8, 100_000])
@pytest.mark.parametrize("into", [False, True])
async def test_a_stream_that_holds_bytes_is_not_detached(kind: str, n: int, into: bool) -> None:
    if kind == "memory":
        return
    async with a_pair(kind) as (near, far):
        hand = Hand(near, far)
        call = near.read_into(bytearray(n)) if into else near.read_exactly(n)
        waiting = asyncio.create_task(outcome_of(call))
        await ticks(2)
        hand.data(b"abc")
        with pytest.raises(netio.StreamBusy, match="3 bytes are buffered"):
            near.detach()
        hand.data(b"x" * (n - 3))
        answer = await waiting
        assert answer == (n if into else b"abc" + b"x" * (n - 3))


async def test_detaching_wakes_the_writes_that_wait_and_tells_what_was_sent() -> None:
    async with a_pair("unix", small=True) as (near, far):
        writing = asyncio.create_task(outcome_of(near.write(b"x" * 100_000)))
        queueing = asyncio.create_task(outcome_of(near.write(b"y")))
        await ticks(2)
        with near.detach():
            errors = [await writing, await queueing]
        assert [type(error) for error in errors] == [netio.StreamClosed] * 2  # law 34
        assert await read_rest(far) == b"x" * errors[0].done
        assert errors[1].done == 0


@pytest.mark.parametrize("end", ["aclose", "abort"])
async def test_a_large_read_that_is_ended_as_it_is_satisfied_gives_no_wrong_bytes(
    pair: Pair, end: str
) -> None:
    """What was buffered is gone then, though more than was asked for may have come since."""
    near, far = pair
    sent = bytes(range(256)) * 300
    hand = Hand(near, far)
    await far.write(sent[:100])
    await near.read_exactly(10)
    reading = asyncio.create_task(outcome_of(near.read_exactly(70_000)))
    await ticks(2)
    hand.data(sent[100:69_000])
    hand.data(sent[69_000:])
    if end == "aclose":
        await near.aclose()
    else:
        near.abort()
    assert isinstance(await reading, netio.StreamClosed)


async def test_the_error_of_a_socket_is_told_by_the_next_read_and_by_nothing_else() -> None:
    async with a_pair("tcp") as (near, far):
        far.abort()
        await ticks(3)
        with pytest.raises(ValueError, match="SO_ERROR"):
            near.socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        with pytest.raises(netio.ConnectionReset):
            await near.read_some()


async def test_memory_has_no_socket_to_give_or_to_show() -> None:
    async with a_pair("memory") as (near, _):
        with pytest.raises(TypeError):
            near.detach()
        with pytest.raises(TypeError):
            _ = near.socket
        assert not near.closed


# What it shows. -------------------------------------------------------------------------------


async def test_the_statistics_count_both_directions_also_after_the_end(pair: Pair) -> None:
    near, far = pair
    await near.write(b"x" * 10)
    await near.write_many([b"y" * 100_000, b"z"])
    reading = asyncio.create_task(far.read_exactly(50_000))
    await reading
    await far.read_exactly(50_010)
    await far.write(b"abcdef")
    await near.read_exactly(2)
    wanted = netio.StreamStatistics(bytes_received=6, bytes_sent=100_011, buffered=4)
    assert near.statistics() == wanted
    near.abort()
    after = near.statistics()
    assert (after.bytes_received, after.bytes_sent, after.buffered) == (6, 100_011, 0)


async def test_the_repr_says_state_and_peer(pair: Pair) -> None:
    near, _ = pair
    peer = near.peer
    assert repr(near).startswith("<netio.Stream open peer=")
    await near.aclose()
    assert repr(near).startswith("<netio.Stream closed peer=")
    assert (near.peer, near.local) == (peer, None)


async def test_addresses_are_those_of_the_socket() -> None:
    async with a_pair("tcp") as (near, far):
        assert (near.peer, near.local) == (far.local, far.peer)
        assert near.peer == near.socket.getpeername()
    async with a_pair("unix") as (near, _):
        assert (near.peer, near.local) == (None, None)
        assert "an unnamed peer" in repr(near)


async def test_the_socket_is_shown_and_can_not_be_moved_or_read() -> None:
    async with a_pair("tcp") as (near, _):
        view = near.socket
        assert (view.family, view.type) == (socket.AF_INET, socket.SOCK_STREAM)
        assert view.getsockname() == near.local
        view.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        assert view.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
        linger = view.getsockopt(socket.SOL_SOCKET, socket.SO_LINGER, 8)
        assert isinstance(linger, bytes)
        for name in ("close", "dup", "detach", "recv", "send", "shutdown", "makefile"):
            assert not hasattr(view, name)
        number = view.fileno()
        assert repr(view) == f"<netio.SocketView fd={number}>"
        await near.aclose()
        assert view.fileno() == -1


@pytest.mark.any_clock
async def test_the_default_limits_can_be_assigned(pair: Pair) -> None:
    near, _ = pair
    near.timeouts = timeouts = netio.Timeouts(read=0.001)
    assert near.timeouts is timeouts
    with pytest.raises(netio.DeadlineExceeded) as caught:
        await near.read_some()
    assert (caught.value.limit, caught.value.seconds) == ("read", 0.001)
    with pytest.raises(TypeError, match="timeouts"):
        near.timeouts = 5  # type: ignore[assignment]
    assert near.timeouts is timeouts


async def test_a_stream_takes_no_other_attributes(pair: Pair) -> None:
    with pytest.raises(AttributeError):
        pair[0].timeout = 5  # type: ignore[attr-defined]


# Another loop. --------------------------------------------------------------------------------


async def test_another_loop_is_refused_before_any_io(pair: Pair, loop_factory: Any) -> None:
    near, far = pair
    reading = asyncio.create_task(near.read_exactly(2))
    await ticks(2)
    calls = [*READS[:8], *WRITES, lambda s: s.write_eof(), lambda s: s.aclose()]
    ways = [
        near.abort,
        near.detach,
        lambda: setattr(near, "deadline", None),
        lambda: setattr(near, "read_deadline", netio.Deadline.at(0)),
        lambda: setattr(near, "write_deadline", netio.Deadline.at(0)),
    ]
    found: list[Any] = []

    async def elsewhere() -> None:
        found.extend([await outcome_of(call(near)) for call in calls])
        act()

    def act() -> None:
        for way in ways:
            try:
                way()
            except Exception as error:
                found.append(error)

    loop = asyncio.get_running_loop()
    over = loop.create_future()

    def run() -> None:
        try:
            with asyncio.Runner(loop_factory=loop_factory) as runner:
                runner.run(elsewhere())
            act()  # nor where no loop runs
        finally:
            loop.call_soon_threadsafe(over.set_result, None)

    thread = threading.Thread(target=run)
    loop.call_soon(thread.start)
    await over
    thread.join()
    assert [type(error) for error in found] == [RuntimeError] * (
        len(calls) + 2 * len(ways)
    )  # law 3
    assert all("another event loop" in str(error) for error in found)
    await near.write(b"ok")
    await far.write(b"ok")
    assert [await reading, await far.read_exactly(2)] == [b"ok", b"ok"]
    await near.aclose()
    assert await read_rest(far) == b""
