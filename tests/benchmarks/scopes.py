"""A limit around code: entering and leaving a scope that holds one suspension."""

from __future__ import annotations

import asyncio

from stopwatch import Stopwatch

import netio

LIMIT = 30  # seconds; never reached here


async def with_netio(count: int) -> Stopwatch:
    watch = Stopwatch()
    with watch:
        for _ in range(count):
            async with netio.timeout(LIMIT):
                await asyncio.sleep(0)
    return watch


async def with_asyncio(count: int) -> Stopwatch:
    watch = Stopwatch()
    with watch:
        for _ in range(count):
            async with asyncio.timeout(LIMIT):
                await asyncio.sleep(0)
    return watch


async def without(count: int) -> Stopwatch:
    watch = Stopwatch()
    with watch:
        for _ in range(count):
            await asyncio.sleep(0)
    return watch


SIDES = {"netio_timeout": with_netio, "asyncio_timeout": with_asyncio, "bare": without}
