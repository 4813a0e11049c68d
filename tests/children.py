"""Work of every kind that is waited for and cancelled at some time, for tests of child tasks."""

import asyncio
from typing import Any


class Work:
    """Tasks that end as they are told to, and remember how often they were cancelled."""

    def __init__(self) -> None:
        self.cancels = 0
        self.free = asyncio.Event()  # ends the deaf

    async def quick(self) -> str:
        """Ends by itself, in the first turn."""
        return "quick"

    async def good(self, seconds: float = 100) -> str:
        """Ends when it is cancelled, or by itself."""
        try:
            await asyncio.sleep(seconds)
        except asyncio.CancelledError:
            self.cancels += 1
            raise
        return "good"

    async def cleaning(self, seconds: float = 2) -> None:
        """Has something to await before it ends."""
        try:
            await asyncio.sleep(100)
        finally:
            self.cancels += 1
            await asyncio.sleep(seconds)

    async def late(self, seconds: float = 2) -> str:
        """Returns something although it was cancelled."""
        try:
            await asyncio.sleep(100)
        except asyncio.CancelledError:
            self.cancels += 1
            await asyncio.sleep(seconds)
        return "late"

    async def failing(self, seconds: float = 2) -> None:
        """Raises something on its way out."""
        try:
            await asyncio.sleep(100)
        finally:
            self.cancels += 1
            await asyncio.sleep(seconds)
            raise OSError("the disk is full")

    async def deaf(self) -> str:
        """Does not listen."""
        while not self.free.is_set():
            try:
                await self.free.wait()
            except asyncio.CancelledError:
                self.cancels += 1
        return "heard at last"

    async def heedless(self) -> None:
        """Listens to the second cancel."""
        try:
            await self.free.wait()
        except asyncio.CancelledError:
            self.cancels += 1
            await self.free.wait()


def named(coroutine: Any, name: str = "work") -> "asyncio.Task[Any]":
    return asyncio.get_running_loop().create_task(coroutine, name=name)


async def turns(count: int) -> None:
    for _ in range(count):
        await asyncio.sleep(0)
