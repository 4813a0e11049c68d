"""Large blocks: another process pours bytes into a connection, and blocks of one size are read."""

from __future__ import annotations

import asyncio
import socket

from load import HOST
from stopwatch import Stopwatch

import netio

TIMEOUT = 300  # seconds; never reached here


async def with_netio(count: int, port: int, size: int) -> Stopwatch:
    watch = Stopwatch()
    async with netio.connect_tcp(HOST, port, timeout=TIMEOUT) as stream:
        await stream.read_exactly(size, timeout=TIMEOUT)
        with watch:
            for _ in range(count):
                await stream.read_exactly(size, timeout=TIMEOUT)
    return watch


async def with_netio_into(count: int, port: int, size: int) -> Stopwatch:
    watch = Stopwatch()
    buffer = bytearray(size)
    async with netio.connect_tcp(HOST, port, timeout=TIMEOUT) as stream:
        await stream.read_into(buffer, timeout=TIMEOUT)
        with watch:
            for _ in range(count):
                await stream.read_into(buffer, timeout=TIMEOUT)
    return watch


async def with_streams(count: int, port: int, size: int) -> Stopwatch:
    watch = Stopwatch()
    reader, writer = await asyncio.open_connection(HOST, port)
    await reader.readexactly(size)
    with watch:
        for _ in range(count):
            await reader.readexactly(size)
    writer.close()
    return watch


async def with_streams_timeout(count: int, port: int, size: int) -> Stopwatch:
    watch = Stopwatch()
    reader, writer = await asyncio.open_connection(HOST, port)
    await reader.readexactly(size)
    with watch:
        for _ in range(count):
            async with asyncio.timeout(TIMEOUT):
                await reader.readexactly(size)
    writer.close()
    return watch


def with_blocking_into(count: int, port: int, size: int) -> Stopwatch:
    watch = Stopwatch()
    view = memoryview(bytearray(size))

    def read_block() -> None:
        done = 0
        while done < size:
            done += sock.recv_into(view[done:])

    with socket.create_connection((HOST, port), TIMEOUT) as sock:
        sock.settimeout(TIMEOUT)
        read_block()
        with watch:
            for _ in range(count):
                read_block()
    return watch


SIDES = {
    "netio": with_netio,
    "streams": with_streams,
    "streams_timeout": with_streams_timeout,
    "netio_into": with_netio_into,
    "blocking_into": with_blocking_into,
}
