"""Reads that hit the buffer: 64 KiB are there already, and are read in small pieces.

The bytes come through a socketpair, and only the reads that find them buffered are timed. The
first read of each filling is not: it is what makes netio, which reads only when asked, take them.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable

from stopwatch import Stopwatch

import netio

FILL_BYTES = 64 * 1024  # what one `recv` of netio takes, and less than asyncio's streams hold
READ_BYTES = 16
LINE = b"x" * 31 + b"\n"
TIMEOUT = 10  # seconds, for each read
FILL_SECONDS = 10  # nothing here takes that long, unless it hangs

Fill = Callable[[], Awaitable[None]]
Reads = Callable[[int], Awaitable[None]]  # of so many pieces, each of them buffered


async def timed(count: int, piece: bytes, fill: Fill, reads: Reads) -> Stopwatch:
    """`count` reads or some more, in whole fillings: the time of one read times `count`."""
    watch = Stopwatch()
    each = FILL_BYTES // len(piece) - 1
    done = 0
    while done < count:
        await fill()
        await reads(1)
        with watch:
            await reads(each)
        done += each
    watch.cpu *= count / done
    watch.wall *= count / done
    return watch


async def netio_side(
    count: int, piece: bytes, reads_of: Callable[[netio.Stream], Reads]
) -> Stopwatch:
    ours, theirs = socket.socketpair()
    theirs.settimeout(FILL_SECONDS)

    async def fill() -> None:
        theirs.sendall(piece * (FILL_BYTES // len(piece)))

    with theirs:
        async with netio.open_stream(ours) as stream:
            return await timed(count, piece, fill, reads_of(stream))


async def asyncio_side(
    count: int, piece: bytes, reads_of: Callable[[asyncio.StreamReader], Reads]
) -> Stopwatch:
    ours, theirs = socket.socketpair()
    theirs.settimeout(FILL_SECONDS)
    reader, writer = await asyncio.open_connection(sock=ours)

    async def fill() -> None:
        theirs.sendall(piece * (FILL_BYTES // len(piece)))
        async with asyncio.timeout(FILL_SECONDS):
            # Neither a public name nor an event tells that they are there.
            while len(reader._buffer) < FILL_BYTES:  # noqa: ASYNC110
                await asyncio.sleep(0)

    with theirs:
        try:
            return await timed(count, piece, fill, reads_of(reader))
        finally:
            writer.close()


async def reads_netio(count: int) -> Stopwatch:
    def reads_of(stream: netio.Stream) -> Reads:
        async def reads(count: int) -> None:
            for _ in range(count):
                await stream.read_exactly(READ_BYTES, timeout=TIMEOUT)

        return reads

    return await netio_side(count, b"x" * READ_BYTES, reads_of)


async def reads_streams(count: int) -> Stopwatch:
    def reads_of(reader: asyncio.StreamReader) -> Reads:
        async def reads(count: int) -> None:
            for _ in range(count):
                await reader.readexactly(READ_BYTES)

        return reads

    return await asyncio_side(count, b"x" * READ_BYTES, reads_of)


async def reads_streams_timeout(count: int) -> Stopwatch:
    def reads_of(reader: asyncio.StreamReader) -> Reads:
        async def reads(count: int) -> None:
            for _ in range(count):
                async with asyncio.timeout(TIMEOUT):
                    await reader.readexactly(READ_BYTES)

        return reads

    return await asyncio_side(count, b"x" * READ_BYTES, reads_of)


async def lines_netio(count: int) -> Stopwatch:
    def reads_of(stream: netio.Stream) -> Reads:
        async def reads(count: int) -> None:
            for _ in range(count):
                await stream.read_line(timeout=TIMEOUT)

        return reads

    return await netio_side(count, LINE, reads_of)


async def lines_streams(count: int) -> Stopwatch:
    def reads_of(reader: asyncio.StreamReader) -> Reads:
        async def reads(count: int) -> None:
            for _ in range(count):
                await reader.readline()

        return reads

    return await asyncio_side(count, LINE, reads_of)


async def lines_streams_timeout(count: int) -> Stopwatch:
    def reads_of(reader: asyncio.StreamReader) -> Reads:
        async def reads(count: int) -> None:
            for _ in range(count):
                async with asyncio.timeout(TIMEOUT):
                    await reader.readline()

        return reads

    return await asyncio_side(count, LINE, reads_of)


READS = {
    "netio": reads_netio,
    "streams": reads_streams,
    "streams_timeout": reads_streams_timeout,
}
LINES = {
    "netio": lines_netio,
    "streams": lines_streams,
    "streams_timeout": lines_streams_timeout,
}
