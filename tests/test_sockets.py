"""Bare sockets: a deadline and exact bytes for code that has a socket and wants nothing else."""

import asyncio
import gc
import math
import os
import socket
import time
import weakref
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

import pytest
from footprint import footprint
from raw_sockets import BAD_SOCKS, READS, bad_sock, deliver, fill, reset, unread
from streams import Ticker, outcome_of, tcp_sockets, ticks

import netio

Pair = tuple[socket.socket, socket.socket]
Read = Callable[..., Coroutine[Any, Any, bytes]]


@pytest.fixture(params=["tcp", "unix"])
def pair(request: pytest.FixtureRequest) -> Iterator[Pair]:
    near, far = tcp_sockets() if request.param == "tcp" else socket.socketpair()
    near.setblocking(False)
    far.setblocking(False)
    with near, far:
        yield near, far


# Reads by count. -------------------------------------------------------------------------------


async def test_read_bytes_takes_exactly_n_and_leaves_the_rest_in_the_kernel(pair: Pair) -> None:
    near, far = pair
    deliver(far, near, b"headerbody")
    assert await netio.read_bytes(near, 6) == b"header"
    assert near.recv(100) == b"body"


async def test_read_bytes_waits_for_what_comes_one_byte_at_a_time(pair: Pair) -> None:
    near, far = pair
    task = asyncio.create_task(netio.read_bytes(near, 5))
    for byte in b"drip!":
        far.send(bytes([byte]))
        await ticks(3)
    assert await task == b"drip!"


async def test_read_bytes_of_nothing_is_empty_and_asks_for_nothing(pair: Pair) -> None:
    near, far = pair
    reset(far, near)
    assert await netio.read_bytes(near, 0) == b""


async def test_read_bytes_takes_more_than_the_kernel_holds(pair: Pair) -> None:
    near, far = pair
    data = os.urandom(1 << 20)
    _, got = await asyncio.gather(netio.write_bytes(far, data), netio.read_bytes(near, len(data)))
    assert got == data


# Reads to a separator. -------------------------------------------------------------------------


@pytest.mark.parametrize("separator", [b"\n", b"\r\n", b"\r\n\r\n", (b"\r\n", b"\n"), b"ab"])
async def test_readuntil_takes_nothing_past_the_separator_however_it_is_cut(
    separator: bytes | tuple[bytes, ...],
) -> None:
    data = b"aab\r\n\r\n\nrest"
    separators = separator if isinstance(separator, tuple) else (separator,)
    end = min(data.index(one) + len(one) for one in separators)
    for cut in range(1, len(data)):
        near, far = socket.socketpair()
        with near, far:
            near.setblocking(False)
            task = asyncio.create_task(netio.readuntil(near, separator))
            far.send(data[:cut])
            await ticks(3)
            far.send(data[cut:])
            assert await task == data[:end], cut
            assert near.recv(100) == data[end:], cut


async def test_of_several_separators_the_earliest_end_wins(pair: Pair) -> None:
    near, far = pair
    deliver(far, near, b"a\r\nb\nc")
    assert await netio.readuntil(near, (b"\n", b"\r\n")) == b"a\r\n"
    assert await netio.readuntil(near, (b"\r\nx", b"\n")) == b"b\n"
    assert near.recv(10) == b"c"


async def test_a_drip_with_false_starts_of_the_separator_is_put_together(pair: Pair) -> None:
    near, far = pair
    data = b"\r\n\r\r\n\r\n\rx\r\n\r\n\r\n"
    task = asyncio.create_task(netio.readuntil(near, b"x\r\n\r\n"))
    for byte in data:
        far.send(bytes([byte]))
        await ticks(2)
    assert await task == data[:-2]
    assert near.recv(10) == data[-2:]


async def test_records_are_read_in_turn_with_other_code_on_the_same_socket(pair: Pair) -> None:
    near, far = pair
    deliver(far, near, b"5\r\nhello7\r\ngoodbye")
    assert await netio.readuntil(near, b"\r\n") == b"5\r\n"
    assert near.recv(5) == b"hello"
    assert await netio.readuntil(near, b"\r\n") == b"7\r\n"
    assert await netio.read_bytes(near, 7) == b"goodbye"


async def test_a_record_longer_than_one_look_ahead_is_read(pair: Pair) -> None:
    near, far = pair
    data = b"x" * 50_000 + b"\n"
    write = asyncio.create_task(netio.write_bytes(far, data + b"next"))
    assert await netio.readuntil(near, b"\n") == data
    await write
    assert await netio.read_bytes(near, 4) == b"next"


async def test_a_record_of_exactly_the_limit_is_read(pair: Pair) -> None:
    near, far = pair
    deliver(far, near, b"1234\r\n")
    assert await netio.readuntil(near, b"\r\n", limit=6) == b"1234\r\n"


async def test_a_record_past_the_limit_has_what_was_consumed_as_partial(pair: Pair) -> None:
    near, far = pair
    deliver(far, near, b"1234\r\n")
    with pytest.raises(netio.LimitExceeded) as caught:
        await netio.readuntil(near, b"\r\n", limit=5)
    assert caught.value.partial == b"1234\r"
    assert caught.value.limit == 5
    assert near.recv(10) == b"\n"


async def test_a_limit_that_ends_with_a_turn_of_the_loop_is_told_at_once(pair: Pair) -> None:
    near, far = pair
    limit = 256 * 1024
    write = asyncio.create_task(netio.write_bytes(far, b"x" * limit))
    with pytest.raises(netio.LimitExceeded) as caught:
        await netio.readuntil(near, b"\n", limit=limit, timeout=5)
    assert len(caught.value.partial) == limit
    await write


# What was consumed is on what is raised. -------------------------------------------------------


@pytest.fixture(params=list(READS))
def read(request: pytest.FixtureRequest) -> Read:
    return READS[request.param]


@pytest.mark.any_clock
async def test_an_expired_limit_has_the_partial_bytes(pair: Pair, read: Read) -> None:
    near, far = pair
    deliver(far, near, b"partial")
    with pytest.raises(netio.DeadlineExceeded, match=r"7 .*bytes") as caught:
        await read(near, timeout=0.02)
    assert caught.value.partial == b"partial"
    assert (caught.value.limit, caught.value.done) == ("call", 7)
    assert unread(near) == 0
    deliver(far, near, b"usable")
    assert await netio.read_bytes(near, 6) == b"usable"


async def test_zero_takes_what_is_there_now(pair: Pair, read: Read) -> None:
    near, far = pair
    deliver(far, near, b"partial")
    with pytest.raises(netio.DeadlineExceeded) as caught:
        await read(near, timeout=0)
    assert caught.value.partial == b"partial"
    deliver(far, near, b"x" * 99 + b"\n")
    assert await read(near, timeout=-1) == b"x" * 99 + b"\n"


async def test_the_end_has_the_partial_bytes(pair: Pair, read: Read) -> None:
    near, far = pair
    deliver(far, near, b"partial")
    far.shutdown(socket.SHUT_WR)
    with pytest.raises(netio.IncompleteRead) as caught:
        await read(near)
    assert caught.value.partial == b"partial"


async def test_a_reset_has_the_bytes_consumed_before_it(pair: Pair, read: Read) -> None:
    near, far = pair
    task = asyncio.create_task(read(near))
    await ticks(2)
    deliver(far, near, b"partial")
    while unread(near):
        await ticks(1)
    reset(far, near)
    with pytest.raises(netio.ConnectionLost) as caught:
        await task
    assert caught.value.partial == b"partial"
    assert isinstance(caught.value, netio.ConnectionReset)


async def test_a_reset_before_the_call_is_a_lost_connection_and_no_bad_argument(
    pair: Pair, read: Read
) -> None:
    near, far = pair
    reset(far, near)
    with pytest.raises(netio.ConnectionLost):
        await read(near)


async def test_a_cancelled_read_has_the_partial_bytes(pair: Pair, read: Read) -> None:
    near, far = pair
    seen = []

    async def reading() -> None:
        try:
            await read(near)
        except asyncio.CancelledError as cancelled:
            seen.append(cancelled.partial)  # type: ignore[attr-defined]
            raise

    task = asyncio.create_task(reading())
    deliver(far, near, b"partial")
    await ticks(3)
    task.cancel()
    await asyncio.wait([task])
    assert task.cancelled()
    assert seen == [b"partial"]


@pytest.mark.any_clock
async def test_a_scope_that_cuts_a_read_has_the_partial_bytes(pair: Pair, read: Read) -> None:
    near, far = pair
    deliver(far, near, b"partial")
    with pytest.raises(netio.DeadlineExceeded) as caught:
        async with netio.timeout(0.02):
            await read(near)
    assert caught.value.limit == "scope"
    assert caught.value.partial == b"partial"


async def test_a_loop_that_cannot_watch_the_socket_does_not_cost_the_bytes(
    pair: Pair, read: Read, monkeypatch: pytest.MonkeyPatch
) -> None:
    near, far = pair
    deliver(far, near, b"partial")

    def no_poller(*_: object) -> None:
        raise NotImplementedError

    monkeypatch.setattr("netio._readiness.DescriptorReadiness.wait_readable", no_poller)
    with pytest.raises(NotImplementedError) as caught:
        await read(near)
    assert caught.value.partial == b"partial"  # type: ignore[attr-defined]


# Writes. ---------------------------------------------------------------------------------------


async def test_write_bytes_gives_the_kernel_everything(pair: Pair) -> None:
    near, far = pair
    data = bytearray(os.urandom(1 << 20))
    read = asyncio.create_task(netio.read_bytes(far, len(data)))
    await netio.write_bytes(near, data)
    assert await read == data
    data.append(1)  # nothing holds on to it


@pytest.mark.real_time("when TCP has room again hangs on timers of the kernel's")
async def test_a_write_that_is_cut_says_how_much_the_kernel_took(pair: Pair) -> None:
    near, far = pair
    data = os.urandom(16 << 20)
    with pytest.raises(netio.DeadlineExceeded) as caught:
        await netio.write_bytes(near, data, timeout=0.01)
    done = caught.value.done
    assert 0 < done < len(data)
    near.shutdown(socket.SHUT_WR)
    with pytest.raises(netio.IncompleteRead) as incomplete:
        await netio.read_bytes(far, len(data))
    assert incomplete.value.partial == data[:done]


async def test_a_cancelled_write_says_how_much_the_kernel_took(pair: Pair) -> None:
    near, far = pair
    data = os.urandom(16 << 20)
    task = asyncio.create_task(outcome_of(netio.write_bytes(near, data)))
    await ticks(3)
    task.cancel()
    cancelled = await task
    assert isinstance(cancelled, asyncio.CancelledError)
    near.shutdown(socket.SHUT_WR)
    got = (await outcome_of(netio.read_bytes(far, len(data)))).partial
    assert got == data[: cancelled.done]  # type: ignore[attr-defined]


async def test_a_write_to_a_peer_that_is_gone_is_a_lost_connection(pair: Pair) -> None:
    near, far = pair
    reset(far, near)
    with pytest.raises(netio.ConnectionLost) as caught:
        await netio.write_bytes(near, b"x" * (16 << 20))
    assert caught.value.done == 0


async def test_a_write_wakes_when_the_peer_resets(pair: Pair) -> None:
    near, far = pair
    fill(near)
    task = asyncio.create_task(netio.write_bytes(near, b"x"))
    await ticks(3)
    far.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    far.close()
    with pytest.raises(netio.ConnectionLost):
        await task


# One at a time. --------------------------------------------------------------------------------


async def test_a_second_reader_is_refused_and_the_first_goes_on(pair: Pair, read: Read) -> None:
    near, far = pair
    first = asyncio.create_task(netio.read_bytes(near, 5))
    await ticks(2)
    with pytest.raises(netio.StreamBusy, match="another call reads"):
        await read(near)
    far.send(b"first")
    assert await first == b"first"


async def test_a_second_reader_with_another_object_for_the_same_descriptor_is_refused(
    pair: Pair,
) -> None:
    near, far = pair
    twin = socket.socket(fileno=near.fileno())
    twin.setblocking(False)
    try:
        first = asyncio.create_task(netio.read_bytes(near, 1))
        await ticks(2)
        with pytest.raises(netio.StreamBusy):
            await netio.read_bytes(twin, 1)
        far.send(b"x")
        assert await first == b"x"
    finally:
        twin.detach()


async def test_a_second_writer_is_refused(pair: Pair) -> None:
    near, _ = pair
    # More than the kernel takes, which may still be making room.
    first = asyncio.create_task(netio.write_bytes(near, bytes(1 << 26)))
    await ticks(2)
    with pytest.raises(netio.StreamBusy, match="another call writes"):
        await netio.write_bytes(near, b"y")
    first.cancel()
    await asyncio.wait([first])


async def test_one_reads_while_another_writes(pair: Pair) -> None:
    near, far = pair
    filled = fill(near)
    write = asyncio.create_task(netio.write_bytes(near, b"end"))
    read = asyncio.create_task(netio.read_bytes(near, 4))
    await ticks(2)
    far.send(b"ping")
    assert await read == b"ping"
    await netio.read_bytes(far, filled)
    await write
    assert await netio.read_bytes(far, 3) == b"end"


@pytest.mark.any_clock
async def test_a_reader_that_was_cut_leaves_the_socket_to_the_next(pair: Pair, read: Read) -> None:
    near, far = pair
    task = asyncio.create_task(read(near))
    await ticks(2)
    task.cancel()
    await asyncio.wait([task])
    await outcome_of(read(near, timeout=0.001))
    deliver(far, near, b"next")
    assert await netio.read_bytes(near, 4) == b"next"


async def test_a_descriptor_that_is_used_again_after_a_close_is_a_new_socket() -> None:
    numbers = set()
    for _ in range(5):
        near, far = socket.socketpair()
        with near, far:
            near.setblocking(False)
            numbers.add(near.fileno())
            task = asyncio.create_task(netio.readuntil(near, b"\n"))
            await ticks(2)
            far.send(b"x\n")
            assert await task == b"x\n"
    assert len(numbers) == 1


@pytest.mark.any_clock
async def test_nothing_is_left_on_the_loop(pair: Pair, read: Read) -> None:
    near, far = pair
    before = footprint()
    deliver(far, near, b"partial")
    await outcome_of(read(near, timeout=0.001))
    task = asyncio.create_task(outcome_of(read(near)))
    await ticks(2)
    task.cancel()
    await task
    deliver(far, near, b"x" * 99 + b"\n")
    await read(near)
    fill(near)
    await outcome_of(netio.write_bytes(near, b"x", timeout=0.001))
    assert footprint() == before


@pytest.mark.real_time("the loop that must go is the real one")
def test_the_registry_does_not_keep_a_loop_alive(
    loop_factory: Callable[[], asyncio.AbstractEventLoop],
) -> None:
    async def use() -> "weakref.ref[asyncio.AbstractEventLoop]":
        near, far = socket.socketpair()
        with near, far:
            near.setblocking(False)
            await outcome_of(netio.read_bytes(near, 1, timeout=0.001))
        return weakref.ref(asyncio.get_running_loop())

    with asyncio.Runner(loop_factory=loop_factory) as runner:
        reference = runner.run(use())
    del runner
    gc.collect()
    assert reference() is None


# No spinning, no starving. ---------------------------------------------------------------------


@pytest.mark.real_time("the CPU time that a wait takes is measured")
async def test_waiting_for_the_rest_of_a_separator_costs_no_cpu(pair: Pair) -> None:
    near, far = pair
    deliver(far, near, b"HTTP/1.1 200 OK\r")
    before = time.process_time()
    with pytest.raises(netio.DeadlineExceeded):
        await netio.readuntil(near, b"\r\n", timeout=0.05)
    assert time.process_time() - before < 0.025


@pytest.mark.any_clock
async def test_a_wait_makes_no_attempts_of_its_own(pair: Pair, read: Read) -> None:
    near, far = pair
    deliver(far, near, b"partial")
    attempts = []

    class Counting(socket.socket):
        def recv(self, *args: int) -> bytes:
            attempts.append(args)
            return super().recv(*args)

    counting = Counting(fileno=near.fileno())
    counting.setblocking(False)
    try:
        error = await outcome_of(read(counting, timeout=0.02))
    finally:
        counting.detach()
    assert error.partial == b"partial"
    assert len(attempts) <= 6


async def test_reads_that_never_wait_leave_turns_to_the_loop(pair: Pair) -> None:
    near, far = pair
    deliver(far, near, b"x\n" * 2048)
    async with Ticker() as ticker:
        for _ in range(2048):
            await netio.readuntil(near, b"\n")
    assert ticker.count >= 7


async def test_writes_that_never_wait_leave_turns_to_the_loop() -> None:
    near, far = socket.socketpair()
    with near, far:
        near.setblocking(False)
        async with Ticker() as ticker:
            for _ in range(20):
                await netio.write_bytes(near, b"x" * 65536)
                far.recv(1 << 20)
        assert ticker.count >= 3


async def test_a_scope_cuts_a_loop_of_reads_that_never_wait() -> None:
    near, far = socket.socketpair()
    with near, far:
        near.setblocking(False)
        with pytest.raises(netio.DeadlineExceeded):
            async with netio.timeout(0.02):
                while True:
                    far.send(b"x")
                    await netio.read_bytes(near, 1)


class Endless(socket.socket):
    """A kernel that is never empty and never full."""

    def recv(self, size: int, flags: int = 0) -> bytes:
        return b"x" * size

    def send(self, data: Any, flags: int = 0) -> int:
        return len(data)


@pytest.fixture
def endless() -> Iterator[Endless]:
    near, far = socket.socketpair()
    far.send(b"x")
    with Endless(fileno=near.detach()) as sock, far:
        sock.setblocking(False)
        yield sock


async def test_one_long_call_that_never_waits_leaves_turns_to_the_loop(endless: Endless) -> None:
    async with Ticker() as ticker:
        await netio.read_bytes(endless, 4 << 20)
        assert ticker.count >= 10
    async with Ticker() as ticker:
        await netio.write_bytes(endless, bytes(4 << 20))
        assert ticker.count >= 10


async def test_one_long_call_that_never_waits_does_not_outrun_its_limit(endless: Endless) -> None:
    with pytest.raises(netio.DeadlineExceeded) as caught:
        await netio.read_bytes(endless, 1 << 40, timeout=0.01)
    assert len(caught.value.partial) == caught.value.done
    with pytest.raises(netio.DeadlineExceeded):
        await netio.readuntil(endless, b"\n", limit=1 << 40, timeout=0)


# Streams. --------------------------------------------------------------------------------------


async def test_the_functions_take_streams_as_well() -> None:
    near, far = netio.stream_pair()
    async with near, far:
        await netio.write_bytes(far, b"line\nrest")
        assert await netio.readuntil(near, b"\n") == b"line\n"
        assert await netio.read_bytes(near, 4) == b"rest"


@pytest.mark.any_clock
async def test_on_a_stream_nothing_is_consumed_by_a_read_that_is_cut() -> None:
    near, far = netio.stream_pair()
    async with near, far:
        await far.write(b"part")
        with pytest.raises(netio.DeadlineExceeded) as caught:
            await netio.read_bytes(near, 5, timeout=0.01)
        assert caught.value.partial == b""
        with pytest.raises(netio.DeadlineExceeded):
            await netio.readuntil(near, b"\n", timeout=0.01)
        with pytest.raises(netio.LimitExceeded):
            await netio.readuntil(near, b"\n", limit=3)
        assert await netio.read_bytes(near, 4) == b"part"


# Bad input. ------------------------------------------------------------------------------------


CALLS: dict[str, Callable[[Any], Coroutine[Any, Any, object]]] = {
    "read_bytes": lambda sock: netio.read_bytes(sock, 1),
    "readuntil": lambda sock: netio.readuntil(sock, b"\n"),
    "write_bytes": lambda sock: netio.write_bytes(sock, b"x"),
}


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("kind", BAD_SOCKS)
async def test_a_socket_that_will_not_do_is_refused(kind: str, call: str) -> None:
    expected, message = BAD_SOCKS[kind]
    with bad_sock(kind) as sock, pytest.raises(expected, match=message):
        await CALLS[call](sock)


@pytest.mark.parametrize("sock", [None, 7, "sock", object()])
@pytest.mark.parametrize("call", CALLS)
async def test_what_is_no_socket_is_refused(sock: object, call: str) -> None:
    with pytest.raises(TypeError, match="sock must be"):
        await CALLS[call](sock)


@pytest.mark.parametrize(
    ("call", "expected", "message"),
    [
        (lambda s: netio.read_bytes(s, -1), ValueError, "n must be"),
        (lambda s: netio.read_bytes(s, 1.5), TypeError, "n must be"),
        (lambda s: netio.read_bytes(s, None), TypeError, "n must be"),
        (lambda s: netio.readuntil(s, b""), ValueError, "separator"),
        (lambda s: netio.readuntil(s, ()), ValueError, "separator"),
        (lambda s: netio.readuntil(s, (b"x", b"")), ValueError, "separator"),
        (lambda s: netio.readuntil(s, "\n"), TypeError, "separator"),
        (lambda s: netio.readuntil(s, b"\n", limit=0), ValueError, "limit"),
        (lambda s: netio.readuntil(s, b"\r\n", limit=1), ValueError, "limit"),
        (lambda s: netio.readuntil(s, b"\n", limit=1.5), TypeError, "limit"),
        (lambda s: netio.write_bytes(s, "text"), TypeError, "data"),
        (lambda s: netio.write_bytes(s, None), TypeError, "data"),
        (lambda s: netio.write_bytes(s, memoryview(b"abcd")[::2]), ValueError, "data"),
        (lambda s: netio.read_bytes(s, 1, timeout="1"), TypeError, "timeout"),
        (lambda s: netio.read_bytes(s, 1, timeout=math.nan), ValueError, "timeout"),
        (lambda s: netio.readuntil(s, b"\n", timeout=b"1"), TypeError, "timeout"),
        (lambda s: netio.write_bytes(s, b"x", timeout=[1]), TypeError, "timeout"),
        (lambda s: netio.write_bytes(s, b"x", timeout=math.nan), ValueError, "timeout"),
    ],
)
async def test_a_bad_argument_is_named_before_any_byte_moves(
    pair: Pair,
    call: Callable[[socket.socket], Coroutine[Any, Any, object]],
    expected: type[Exception],
    message: str,
) -> None:
    near, far = pair
    deliver(far, near, b"x\n")
    with pytest.raises(expected, match=message):
        await call(near)
    assert unread(near) == 2
    assert unread(far) == 0
