"""Law 35 where no single stream is to blame: every kind of run leaves the loop its turns."""

import asyncio
import contextlib
import socket
from collections.abc import Awaitable, Callable

import pytest
from streams import Ticker, a_pair

import netio
from netio._defaults import OPERATIONS_PER_TURN, SYSTEM_CALL_COST
from netio._turns import Turns, turns_of

RUNS = 4 * OPERATIONS_PER_TURN


def closed_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


async def test_the_streams_of_a_loop_share_one_credit() -> None:
    async with contextlib.AsyncExitStack() as stack:
        pairs = [await stack.enter_async_context(a_pair("memory")) for _ in range(100)]
        async with Ticker() as ticker:
            for _ in range(RUNS // 100):
                for near, _ in pairs:
                    await near.write(b"x")
            assert ticker.count >= RUNS // OPERATIONS_PER_TURN - 1


async def test_a_wait_renews_the_credit() -> None:
    async with a_pair("memory") as (near, far):
        turns = turns_of(asyncio.get_running_loop())
        turns.credit = 2
        reading = asyncio.create_task(near.read_exactly(1))
        await asyncio.sleep(0)
        await far.write(b"x")
        await reading
        assert turns.credit > OPERATIONS_PER_TURN - 10


async def test_moving_bytes_costs_more_than_moving_none() -> None:
    turns = Turns()
    turns.charge(0)
    small = OPERATIONS_PER_TURN - turns.credit
    turns.charge(1 << 20)
    assert small == SYSTEM_CALL_COST
    assert turns.credit < 0


async def test_connecting_again_and_again_lets_the_server_start() -> None:
    port = closed_port()

    async def start_late() -> netio.Server:
        await asyncio.sleep(0.01)
        return await netio.serve_tcp(netio.Stream.read_some, "127.0.0.1", port, grace=0)

    starting = asyncio.create_task(start_late())
    async with netio.timeout(5):
        while True:
            try:
                stream = await netio.connect_tcp("127.0.0.1", port)
                break
            except netio.ConnectFailed:
                pass
    await stream.aclose()
    await (await starting).aclose()


async def test_serving_on_a_port_in_use_again_and_again_leaves_turns() -> None:
    async with netio.serve_tcp(netio.Stream.read_some, "127.0.0.1", grace=0) as server:
        async with Ticker() as ticker:
            for _ in range(100):
                with pytest.raises(OSError, match="cannot listen"):
                    await netio.serve_tcp(netio.Stream.read_some, "127.0.0.1", server.port)
            assert ticker.count >= 99


FAILING: dict[str, Callable[[socket.socket], Awaitable[object]]] = {
    "read_bytes": lambda sock: netio.read_bytes(sock, 1),
    "readuntil": lambda sock: netio.readuntil(sock, b"x"),
    "write_bytes": lambda sock: netio.write_bytes(sock, b"x"),
}


@pytest.mark.parametrize("name", FAILING)
async def test_failing_on_a_bare_socket_again_and_again_leaves_turns(name: str) -> None:
    near, far = socket.socketpair()
    near.setblocking(False)
    far.close()
    with near:
        async with Ticker() as ticker:
            for _ in range(RUNS):
                with pytest.raises((netio.IncompleteRead, netio.ConnectionLost)):
                    await FAILING[name](near)
            assert ticker.count >= RUNS // OPERATIONS_PER_TURN - 1


async def test_a_busy_bare_socket_asked_again_and_again_leaves_turns() -> None:
    near, far = socket.socketpair()
    near.setblocking(False)
    with near, far:
        reading = asyncio.create_task(netio.read_bytes(near, 1))
        await asyncio.sleep(0)
        async with Ticker() as ticker:
            for _ in range(RUNS):
                with pytest.raises(netio.StreamBusy):
                    await netio.read_bytes(near, 1)
            assert ticker.count >= RUNS // OPERATIONS_PER_TURN - 1
        reading.cancel()
        await asyncio.wait([reading])


@pytest.mark.parametrize("name", ["incomplete", "over the limit"])
async def test_an_error_that_costs_much_is_paid_for(name: str) -> None:
    async with a_pair("memory") as (near, far):
        near._receiver.buffer.append(bytes(8 << 20))
        await far.write_eof()
        async with Ticker() as ticker:
            for _ in range(10):
                if name == "incomplete":
                    with pytest.raises(netio.IncompleteRead):
                        await near.read_exactly(9 << 20)
                else:
                    with pytest.raises(netio.LimitExceeded):
                        await near.read_until(b"q", limit=8 << 20)
            assert ticker.count >= 9
