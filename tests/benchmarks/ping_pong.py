"""Ping-pong: one client, which is measured, sends a message and waits for its echo, over and over.

The peer is the load process, with a blocking socket. Before the timed round trips each side makes
some that are not, so that code and sockets are warm.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable

from load import HOST, MESSAGE
from stopwatch import Stopwatch

import netio

TIMEOUT = 300  # seconds; never reached here
WARM_UP = 100
SIZE = len(MESSAGE)

RoundTrips = Callable[[int], Awaitable[None]]


async def timed(count: int, round_trips: RoundTrips) -> Stopwatch:
    watch = Stopwatch()
    await round_trips(WARM_UP)
    with watch:
        await round_trips(count)
    return watch


async def with_netio(count: int, port: int) -> Stopwatch:
    async def round_trips(count: int) -> None:
        for _ in range(count):
            await stream.write(MESSAGE, timeout=TIMEOUT)
            await stream.read_exactly(SIZE, timeout=TIMEOUT)

    async with netio.connect_tcp(HOST, port, timeout=TIMEOUT) as stream:
        return await timed(count, round_trips)


class PingProtocol(asyncio.BufferedProtocol):
    """Sends again as soon as an echo is complete, until it has `left` none to send."""

    def __init__(self) -> None:
        self.buffer = bytearray(SIZE)
        self.missing = 0  # bytes of this echo

    def connection_made(self, transport: asyncio.Transport) -> None:
        self.transport = transport

    def get_buffer(self, sizehint: int) -> bytearray:
        return self.buffer

    def round_trips(self, count: int) -> asyncio.Future[None]:
        self.done = asyncio.get_running_loop().create_future()
        self.left = count
        self.send()
        return self.done

    def send(self) -> None:
        self.left -= 1
        self.missing = SIZE
        self.transport.write(MESSAGE)

    def buffer_updated(self, n: int) -> None:
        self.missing -= n
        if self.missing:
            return
        if self.left:
            self.send()
        else:
            self.done.set_result(None)


async def with_protocol(count: int, port: int) -> Stopwatch:
    loop = asyncio.get_running_loop()
    transport, protocol = await loop.create_connection(PingProtocol, HOST, port)
    try:
        return await timed(count, protocol.round_trips)
    finally:
        transport.close()


async def with_streams(count: int, port: int) -> Stopwatch:
    async def round_trips(count: int) -> None:
        for _ in range(count):
            writer.write(MESSAGE)
            await writer.drain()
            await reader.readexactly(SIZE)

    reader, writer = await asyncio.open_connection(HOST, port)
    try:
        return await timed(count, round_trips)
    finally:
        writer.close()


async def with_streams_timeout(count: int, port: int) -> Stopwatch:
    async def round_trips(count: int) -> None:
        for _ in range(count):
            writer.write(MESSAGE)
            async with asyncio.timeout(TIMEOUT):
                await writer.drain()
            async with asyncio.timeout(TIMEOUT):
                await reader.readexactly(SIZE)

    reader, writer = await asyncio.open_connection(HOST, port)
    try:
        return await timed(count, round_trips)
    finally:
        writer.close()


async def with_streams_wait_for(count: int, port: int) -> Stopwatch:
    async def round_trips(count: int) -> None:
        for _ in range(count):
            writer.write(MESSAGE)
            await asyncio.wait_for(writer.drain(), TIMEOUT)
            await asyncio.wait_for(reader.readexactly(SIZE), TIMEOUT)

    reader, writer = await asyncio.open_connection(HOST, port)
    try:
        return await timed(count, round_trips)
    finally:
        writer.close()


async def with_anyio(count: int, port: int) -> Stopwatch:
    import anyio

    async def round_trips(count: int) -> None:
        for _ in range(count):
            with anyio.fail_after(TIMEOUT):
                await stream.send(MESSAGE)
            with anyio.fail_after(TIMEOUT):
                await stream.receive(SIZE)

    async with await anyio.connect_tcp(HOST, port) as stream:
        return await timed(count, round_trips)


async def with_trio(count: int, port: int) -> Stopwatch:
    import trio

    async def round_trips(count: int) -> None:
        for _ in range(count):
            with trio.fail_after(TIMEOUT):
                await stream.send_all(MESSAGE)
            with trio.fail_after(TIMEOUT):
                await stream.receive_some(SIZE)

    async with await trio.open_tcp_stream(HOST, port) as stream:
        return await timed(count, round_trips)


def with_blocking_socket(count: int, port: int) -> Stopwatch:
    watch = Stopwatch()

    def round_trips(count: int) -> None:
        for _ in range(count):
            sock.sendall(MESSAGE)
            missing = SIZE
            while missing:
                missing -= len(sock.recv(missing))

    with socket.create_connection((HOST, port), TIMEOUT) as sock:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.settimeout(TIMEOUT)
        round_trips(WARM_UP)
        with watch:
            round_trips(count)
    return watch


SIDES = {
    "netio": with_netio,
    "protocol": with_protocol,
    "streams": with_streams,
    "streams_timeout": with_streams_timeout,
    "streams_wait_for": with_streams_wait_for,
    "anyio": with_anyio,
    "trio": with_trio,
    "blocking": with_blocking_socket,
}
