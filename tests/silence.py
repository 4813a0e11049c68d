"""Waits of netio for what a peer does, who is silent until a moment that is said."""

import asyncio
import contextlib
import math
from collections.abc import AsyncIterator
from typing import Any

from streams import make_pair

import netio


class Silence:
    """``async with silence() as silent``: ``silent.wait(n)`` is a wait of netio, for n seconds."""

    def __init__(self, near: netio.Stream, far: netio.Stream) -> None:
        self.near, self.far = near, far

    async def wait(self, seconds: float = math.inf) -> None:
        """A read of a byte, which comes in so many seconds."""
        loop = asyncio.get_running_loop()
        timer = None
        if seconds < math.inf:
            timer = loop.call_later(seconds, self.far._channel.send, b"x")
        try:
            await self.near.read_exactly(1, timeout=None)
        finally:
            if timer is not None:
                timer.cancel()


@contextlib.asynccontextmanager
async def silence() -> AsyncIterator[Silence]:
    near, far = make_pair("memory")
    try:
        yield Silence(near, far)
    finally:
        near.abort()
        far.abort()


def this_task() -> "asyncio.Task[Any]":
    task = asyncio.current_task()
    assert task is not None
    return task


def now() -> float:
    return asyncio.get_running_loop().time()


async def forever() -> None:
    await asyncio.get_running_loop().create_future()
