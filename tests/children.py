"""Work of every kind that is waited for and cancelled at some time, for tests of child tasks.

A test module that says ``play = children.play`` has the fixture of that name, and with
``nothing_complains = children.nothing_complains`` each of its tests is looked at by that.
"""

import asyncio
import gc
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

import pytest
from virtual import TASK_FACTORIES, run_with, virtual_loop

Main = Callable[[], Coroutine[Any, Any, None]]
Play = Callable[[Main], None]


@pytest.fixture(params=TASK_FACTORIES)
def play(request: pytest.FixtureRequest) -> Play:
    """Runs a coroutine on a virtual loop, once for each kind of task."""
    return lambda main: run_with(TASK_FACTORIES[request.param], main())


@pytest.fixture(autouse=True)
def nothing_complains(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """No exception is said to be lost, and none is when the garbage is gone."""
    yield
    gc.collect()
    assert [record.getMessage() for record in caplog.records if record.name == "asyncio"] == []


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


async def ends_alone(*tasks: "asyncio.Future[Any]") -> None:
    """Wait for what a test has left running."""
    await asyncio.wait(tasks)


def now() -> float:
    return virtual_loop().time()


def this_task() -> "asyncio.Task[Any]":
    task = asyncio.current_task()
    assert task is not None
    return task
