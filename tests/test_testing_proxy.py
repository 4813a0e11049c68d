"""The proxy on loopback: passes on bytes, ends and resets, and puts the same faults on them."""

import asyncio
import contextlib
import gc
import hashlib
import select
import socket
import subprocess
import sys
import textwrap
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from raw_sockets import HAS_IPV6, unread
from real_time import until
from streams import outcome_of, read_rest
from virtual import has_passed, held, on_virtual_clock

import netio
from netio.testing import Proxy, assert_fired, faults

SHORT_S = 0.03
LIMITS = netio.Timeouts(read=5, write=5)


@contextlib.asynccontextmanager
async def through(*several: faults.Fault, **options: Any) -> AsyncIterator[tuple[Any, ...]]:
    """A client's end, the server's end, and the proxy between them."""
    arrived: asyncio.Queue[netio.Stream] = asyncio.Queue()
    over = asyncio.Event()

    async def handler(stream: netio.Stream) -> None:
        arrived.put_nowait(stream)
        await over.wait()

    async with netio.serve_tcp(handler, "127.0.0.1", timeouts=LIMITS, grace=1) as server:
        async with Proxy("127.0.0.1", server.port, *several, **options) as proxy:
            async with netio.connect_tcp(*proxy.address, timeouts=LIMITS) as near:
                try:
                    async with netio.timeout(5):
                        far = await arrived.get()
                    yield near, far, proxy
                finally:
                    over.set()


async def until_over(proxy: Proxy) -> float:
    """How many seconds its connections last."""
    loop = asyncio.get_running_loop()
    began = loop.time()
    assert await until(lambda: not proxy._live)
    return loop.time() - began


def is_broken(sock: socket.socket) -> bool:
    poll = select.poll()
    poll.register(sock, 0)
    return any(events & select.POLLERR for _, events in poll.poll(0))


async def echo(stream: netio.Stream) -> None:
    async for chunk in stream.chunks():
        await stream.write(chunk)


# It passes everything on. ----------------------------------------------------------------------


async def test_bytes_go_through_both_ways() -> None:
    async with through() as (near, far, proxy):
        data = bytes(range(256)) * 4096
        reading = asyncio.create_task(far.read_exactly(len(data)))
        await near.write(data)
        assert hashlib.sha256(await reading).digest() == hashlib.sha256(data).digest()
        reading = asyncio.create_task(near.read_exactly(len(data)))
        await far.write(data)
        assert await reading == data
        assert proxy.address == ("127.0.0.1", proxy.port) == near.peer


@pytest.mark.parametrize("which", ["client", "server"])
@pytest.mark.any_clock
async def test_a_half_close_is_passed_on_and_the_other_direction_goes_on(which: str) -> None:
    async with through() as (near, far, _):
        one, other = (near, far) if which == "client" else (far, near)
        await one.write(b"question")
        await one.write_eof()
        assert await other.read_all(limit=100) == b"question"
        await asyncio.sleep(SHORT_S)
        await other.write(b"answer")
        await other.write_eof()
        assert await one.read_all(limit=100) == b"answer"


@pytest.mark.parametrize("which", ["client", "server"])
async def test_a_reset_is_passed_on_after_the_data(which: str) -> None:
    async with through() as (near, far, _):
        one, other = (near, far) if which == "client" else (far, near)
        await one.write(b"last words")
        assert await until(lambda: unread(other.socket) == 10)  # or the kernel may drop them
        one.abort()
        assert await other.read_exactly(10) == b"last words"
        with pytest.raises(netio.ConnectionReset):
            await other.read_some()


@pytest.mark.parametrize("which", ["client", "server"])
async def test_a_reset_after_a_half_close_is_passed_on_once_it_is_met(which: str) -> None:
    async with through() as (near, far, _):
        one, other = (near, far) if which == "client" else (far, near)
        await one.write_eof()
        assert await other.read_some() == b""
        one.abort()
        await other.write(b"x")
        assert await until(lambda: is_broken(other.socket))
        with pytest.raises(netio.BrokenPipe):
            await other.write(b"x")


async def test_a_close_ends_both_sides_and_the_connection_of_the_proxy() -> None:
    async with through() as (near, far, proxy):
        await near.aclose()
        assert await far.read_some() == b""
        await far.aclose()
        assert await until_over(proxy) < 1


@pytest.mark.parametrize("which", ["client", "server"])
async def test_a_reset_ends_both_sides_and_the_connection_of_the_proxy(which: str) -> None:
    async with through() as (near, far, proxy):
        one, other = (near, far) if which == "client" else (far, near)
        one.abort()
        with pytest.raises(netio.ConnectionReset):
            await other.read_some()
        assert await until_over(proxy) < 4


@pytest.mark.any_clock
async def test_a_writer_waits_for_a_reader_who_does_not_read() -> None:
    async with through(buffer_bytes=1000) as (near, far, proxy):
        with pytest.raises(netio.DeadlineExceeded) as caught:
            while True:
                await near.write(bytes(1 << 22), timeout=0.1)
        assert caught.value.done < 1 << 24
        [connection] = proxy._live.values()
        assert connection.upstream.held <= 1000
        near.abort()
        far.abort()


@pytest.mark.any_clock
async def test_a_reset_is_not_held_up_by_who_does_not_read() -> None:
    async with through(buffer_bytes=1 << 26) as (near, far, proxy):
        with held("TCP, which has timers of its own"):
            await near.write(bytes(1 << 25))  # more than the kernel holds, less than the wire does
        near.abort()
        took = await until_over(proxy)
        assert (1 <= took < 1.01) if on_virtual_clock() else took < 3
        assert isinstance(await outcome_of(far.write(b"x")), netio.ConnectionLost)


async def test_a_server_that_cannot_be_reached_is_a_reset() -> None:
    async with netio.serve_tcp(echo, "127.0.0.1") as server:
        pass
    async with Proxy("127.0.0.1", server.port) as proxy:
        async with netio.connect_tcp(*proxy.address) as stream:
            with pytest.raises(netio.ConnectionReset):
                await stream.read_some(timeout=5)


@pytest.mark.real_time("so many connections at once take the kernel a moment")
async def test_many_connections_at_once() -> None:
    async def one(n: int) -> None:
        async with netio.connect_tcp(*proxy.address) as stream:
            await stream.write(b"%04d" % n)
            assert await stream.read_exactly(4) == b"%04d" % n

    async with netio.serve_tcp(echo, "127.0.0.1") as server:
        async with Proxy("127.0.0.1", server.port, faults.Latency(0.01)) as proxy:
            await asyncio.gather(*(one(n) for n in range(100)))


@pytest.mark.skipif(not HAS_IPV6, reason="needs IPv6")
async def test_it_may_listen_on_another_address() -> None:
    async with netio.serve_tcp(echo, "127.0.0.1") as server:
        async with Proxy("127.0.0.1", server.port, listen_host="::1") as proxy:
            assert proxy.address[0] == "::1"
            async with netio.connect_tcp("::1", proxy.port) as stream:
                await stream.write(b"six")
                assert await stream.read_exactly(3) == b"six"


# It ends. --------------------------------------------------------------------------------------


@pytest.mark.parametrize("fault", [None, faults.Timeout(), faults.Latency(60)], ids=str)
async def test_closing_it_ends_all_connections_soon_and_leaves_nothing(
    fault: faults.Fault | None,
) -> None:
    async with netio.serve_tcp(echo, "127.0.0.1", grace=1) as server:
        proxy = Proxy("127.0.0.1", server.port)
        await proxy.start()
        streams = [await netio.connect_tcp(*proxy.address) for _ in range(5)]
        for stream in streams:
            await stream.write(b"x")
            await stream.read_exactly(1)
        if fault is not None:
            proxy.add(fault)
        for stream in streams:
            await stream.write(b"y")
        began = time.monotonic()
        await proxy.aclose()
        await proxy.aclose()
        assert time.monotonic() - began < 1
        for stream in streams:
            assert await read_rest(stream) in (b"", b"y")
            await stream.aclose()
        refused = await outcome_of(netio.connect_tcp(*proxy.address))
        assert isinstance(refused, netio.ConnectFailed)
    assert not proxy._live


async def test_a_cancelled_close_closes_all_the_same() -> None:
    async with netio.serve_tcp(echo, "127.0.0.1", grace=1) as server:
        proxy = Proxy("127.0.0.1", server.port)
        await proxy.start()
        async with netio.connect_tcp(*proxy.address) as stream:
            closing = asyncio.create_task(proxy.aclose())
            await asyncio.sleep(0)
            closing.cancel()
            with pytest.raises(asyncio.CancelledError):
                await closing
            await read_rest(stream)
    assert len(asyncio.all_tasks()) == 1


@pytest.mark.parametrize("seconds", [0, 0.001, 0.005])
@pytest.mark.any_clock
async def test_a_block_that_is_cancelled_leaves_nothing(seconds: float) -> None:
    async def block() -> None:
        async with through(faults.Latency(0.01)) as (near, _, _):
            await near.write(b"x")
            await near.read_some()

    task = asyncio.create_task(block())
    await asyncio.sleep(seconds)
    task.cancel()
    await asyncio.wait([task])
    assert task.cancelled()
    gc.collect()


# The faults. -----------------------------------------------------------------------------------


@pytest.mark.any_clock
async def test_latency() -> None:
    fault = faults.Latency(0.05, direction="upstream")
    async with through(fault) as (near, far, _):
        before = asyncio.get_running_loop().time()
        await near.write(b"x")
        await far.read_exactly(1)
        assert has_passed(0.05, since=before)
    assert_fired(fault)


@pytest.mark.any_clock
async def test_bandwidth() -> None:
    fault = faults.Bandwidth(10_000, direction="downstream")
    async with through(fault) as (near, far, _):
        before = asyncio.get_running_loop().time()
        await far.write(bytes(1000))
        await near.read_exactly(1000)
        assert has_passed(0.1, since=before)
    assert_fired(fault)


@pytest.mark.any_clock
async def test_slicer() -> None:
    fault = faults.Slicer(2, delay=0.01, direction="upstream")
    async with through(fault) as (near, far, _):
        await near.write(b"0123456789")
        await near.write_eof()
        got = [chunk async for chunk in far.chunks()]
        assert b"".join(got) == b"0123456789"
        # A busy machine may join some.
        assert len(got) == 5 if on_virtual_clock() else len(got) >= 3
    assert_fired(fault)


@pytest.mark.any_clock
async def test_timeout_stops_and_is_taken_away() -> None:
    fault = faults.Timeout(after_bytes=4)
    async with through(fault) as (near, far, proxy):
        await near.write(b"01234567")
        with pytest.raises(netio.DeadlineExceeded) as caught:
            await far.read_exactly(8, timeout=SHORT_S)
        assert caught.value.done == 4
        proxy.remove(fault)
        assert await far.read_exactly(8) == b"01234567"
    assert_fired(fault)


@pytest.mark.any_clock
async def test_timeout_closes_the_connection_when_it_is_over() -> None:
    fault = faults.Timeout(SHORT_S)
    async with through(fault) as (near, far, _):
        await near.write(b"lost")
        assert await near.read_all(limit=10) == b""
        assert await far.read_all(limit=10) == b""
    assert_fired(fault)


@pytest.mark.any_clock
async def test_slow_close() -> None:
    fault = faults.SlowClose(0.05, direction="upstream")
    async with through(fault) as (near, far, _):
        before = asyncio.get_running_loop().time()
        await near.write_eof()
        assert await far.read_some() == b""
        assert has_passed(0.05, since=before)
    assert_fired(fault)


async def test_limit_data() -> None:
    fault = faults.LimitData(5, direction="downstream")
    async with through(fault) as (near, far, _):
        await far.write(b"0123456789")
        assert await near.read_all(limit=10) == b"01234"
        assert await read_rest(far) == b""
    assert_fired(fault)


async def test_reset_peer() -> None:
    fault = faults.ResetPeer(after_bytes=5, direction="upstream")
    async with through(fault) as (near, far, _):
        await near.write(b"0123456789")
        assert await read_rest(far) in (b"01234", b"")  # the kernel may drop what came before
        for stream in (near, far):
            with pytest.raises(netio.ConnectionReset):
                await stream.read_some()
    assert_fired(fault)


async def test_down_refuses_at_the_same_port_and_comes_up_again() -> None:
    fault = faults.Down()
    async with through() as (near, far, proxy):
        with proxy.add(fault):
            assert await near.read_some() == b""
            assert await far.read_some() == b""
            for _ in range(3):
                with pytest.raises(netio.ConnectFailed, match="refused"):
                    await netio.connect_tcp(*proxy.address)
        for _ in range(3):
            async with netio.connect_tcp(*proxy.address) as stream:
                await stream.write(b"x")
    assert_fired(fault)


async def test_a_proxy_goes_up_and_down_within_a_tick() -> None:
    async with netio.serve_tcp(echo, "127.0.0.1") as server:
        async with Proxy("127.0.0.1", server.port) as proxy:
            for _ in range(5):
                proxy.add(faults.Down()).remove()
            async with netio.connect_tcp(*proxy.address) as stream:
                await stream.write(b"x")
                assert await stream.read_exactly(1) == b"x"
            proxy.add(faults.Down()).remove()
            proxy.add(faults.Down())
            with pytest.raises(netio.ConnectFailed, match="refused"):
                await netio.connect_tcp(*proxy.address)


async def test_a_proxy_may_be_down_from_the_beginning() -> None:
    fault = faults.Down()
    async with netio.serve_tcp(echo, "127.0.0.1") as server:
        async with Proxy("127.0.0.1", server.port, fault) as proxy:
            with pytest.raises(netio.ConnectFailed, match="refused"):
                await netio.connect_tcp(*proxy.address)
            proxy.remove(fault)
            async with netio.connect_tcp(*proxy.address) as stream:
                await stream.write(b"x")
                assert await stream.read_exactly(1) == b"x"
        proxy.add(fault)  # makes no difference any more
        proxy.remove(fault)


@pytest.mark.any_clock
async def test_black_hole() -> None:
    fault = faults.BlackHole()
    async with through() as (near, far, proxy):
        with proxy.add(fault):
            await near.write(b"x")
            await near.write_eof()
            with pytest.raises(netio.DeadlineExceeded):
                await far.read_some(timeout=SHORT_S)
        assert await far.read_all(limit=10) == b"x"
    assert_fired(fault)


@pytest.mark.any_clock
async def test_half_open() -> None:
    fault = faults.HalfOpen("server", back_after=SHORT_S)
    async with through(fault) as (near, far, _):
        await asyncio.sleep(2 * SHORT_S)
        await near.write(b"hello?")
        with pytest.raises(netio.ConnectionReset):
            await near.read_some()
        far.abort()
    assert_fired(fault)


@pytest.mark.any_clock
async def test_events_are_as_those_of_a_network() -> None:
    async with through(faults.Latency(0.001), record=True) as (near, far, proxy):
        await near.write(b"hello")
        await far.read_exactly(5)
    what = [event.what for event in proxy.events if event.direction == "upstream"]
    assert what[:3] == ["data", "latency", "data arrived"]
    assert {event.connection for event in proxy.events} == {1}


# A program that is not netio. ------------------------------------------------------------------


async def test_a_program_with_blocking_sockets_meets_the_faults() -> None:
    program = """
        import socket, sys
        with socket.create_connection(("127.0.0.1", int(sys.argv[1]))) as sock:
            sock.sendall(b"0123456789")
            got = b""
            while chunk := sock.recv(100):
                got += chunk
            print(got)
        """
    fault = faults.LimitData(4, direction="downstream")
    async with netio.serve_tcp(echo, "127.0.0.1") as server:
        async with Proxy("127.0.0.1", server.port, fault) as proxy:
            command = [sys.executable, "-c", textwrap.dedent(program), str(proxy.port)]
            ran = await asyncio.to_thread(subprocess.run, command, capture_output=True, timeout=10)
    assert ran.stdout.strip() == b"b'0123'"
    assert_fired(fault)


# Bad input. ------------------------------------------------------------------------------------

BAD: list[tuple[Callable[[], Any], type[Exception], str]] = [
    (lambda: Proxy(5, 80), TypeError, "host"),  # type: ignore[arg-type]
    (lambda: Proxy("", 80), ValueError, "host"),
    (lambda: Proxy("localhost", 0), ValueError, "port"),
    (lambda: Proxy("localhost", 80, listen_port=70_000), ValueError, "port"),
    (lambda: Proxy("localhost", 80, buffer_bytes=0), ValueError, "buffer_bytes"),
    (lambda: Proxy("localhost", 80, seed=None), TypeError, "seed"),  # type: ignore[arg-type]
    (lambda: Proxy("localhost", 80, "latency"), TypeError, "fault"),  # type: ignore[arg-type]
    (lambda: Proxy("localhost", 80, faults.Partition("a", "b")), ValueError, "BlackHole"),
    (lambda: Proxy("localhost", 80).address, RuntimeError, "not started"),
    (lambda: Proxy("localhost", 80).remove(faults.Down()), ValueError, "not on this proxy"),
]


@pytest.mark.parametrize(("make", "error", "match"), BAD)
def test_wrong_arguments_are_named(
    make: Callable[[], Any], error: type[Exception], match: str
) -> None:
    with pytest.raises(error, match=match):
        make()


async def test_a_port_in_use_is_an_error_and_starting_twice_is_one() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        with pytest.raises(OSError, match="in use"):
            await Proxy("127.0.0.1", 80, listen_port=taken.getsockname()[1]).start()
    async with Proxy("127.0.0.1", 80) as proxy:
        with pytest.raises(RuntimeError, match="started before"):
            await proxy.start()
