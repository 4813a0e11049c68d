"""What netio's own tests need of a virtual clock beyond `netio.testing`."""

import asyncio
import contextlib
import sys
from collections.abc import Coroutine
from typing import Any, TypeVar

import pytest

from netio.testing import VirtualLoop

T = TypeVar("T")


def run_with(task_factory: Any, main: Coroutine[Any, Any, T]) -> T:
    """As `netio.testing.run`, with other tasks: one of `TASK_FACTORIES`."""

    def new_loop() -> VirtualLoop:
        loop = VirtualLoop()
        loop.set_task_factory(task_factory)
        return loop

    with asyncio.Runner(loop_factory=new_loop) as runner:
        return runner.run(main)


def virtual_loop() -> VirtualLoop:
    """The running loop, in a test that is marked `virtual_clock`."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualLoop)
    return loop


def on_virtual_clock() -> bool:
    """Whether it is, in a test that is marked `any_clock`."""
    return isinstance(asyncio.get_running_loop(), VirtualLoop)


def held(reason: str) -> contextlib.AbstractContextManager[None]:
    """Real time for what the kernel still does, in a test that is marked `any_clock`."""
    return virtual_loop().hold(reason) if on_virtual_clock() else contextlib.nullcontext()


def has_passed(seconds: float, *, since: float) -> bool:
    """Whether just so much time has passed; on a real clock at least so much, less its grain."""
    passed = asyncio.get_running_loop().time() - since
    return passed == pytest.approx(seconds) if on_virtual_clock() else passed >= seconds - 0.001


def python_task_factory(
    loop: asyncio.AbstractEventLoop, coro: Coroutine[Any, Any, T], **options: Any
) -> "asyncio.Task[T]":
    """Tasks as asyncio has them where its C module is missing."""
    return asyncio.tasks._PyTask(coro, loop=loop, **options)  # type: ignore[attr-defined,no-any-return]


# What else may be behind `asyncio.create_task`, for tests that should hold for all of them.
TASK_FACTORIES: dict[str, Any] = {"c": None, "python": python_task_factory}
if sys.version_info >= (3, 12):
    TASK_FACTORIES["eager"] = asyncio.eager_task_factory
