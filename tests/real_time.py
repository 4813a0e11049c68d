"""How long a test waits in real time: counted, so that only those wait that say why.

A test waits when a timer of a real loop is reached while nothing happens, or in `time.sleep`. What
the kernel, a thread or another program does takes its time as well, and is not counted: that is
waited for by its event, or by `until`.
"""

import asyncio
import contextlib
import selectors
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

PATIENCE_S = 5.0  # for the kernel and for threads, which need microseconds
PAUSE_S = 0.001

_excused = 0


class Waits:
    """Those of one test."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def add(self, seconds: float) -> None:
        if not _excused:
            self.seconds += seconds


@contextlib.contextmanager
def counted() -> Iterator[Waits]:
    """Counts what is waited for by timers of loops with a selector, and in `time.sleep`."""
    waits = Waits()
    poller: Any = selectors.DefaultSelector
    real_select, real_sleep = poller.select, time.sleep

    def select(self: Any, timeout: float | None = None) -> Any:
        if timeout is None or timeout <= 0:
            return real_select(self, timeout)
        before = time.perf_counter()
        ready = real_select(self, timeout)
        if not ready:
            waits.add(time.perf_counter() - before)
        return ready

    def sleep(seconds: float) -> None:
        real_sleep(seconds)
        if sys._getframe(1).f_globals["__name__"] != "subprocess":  # which waits for a program
            waits.add(seconds)

    poller.select, time.sleep = select, sleep
    try:
        yield waits
    finally:
        poller.select, time.sleep = real_select, real_sleep


@contextlib.contextmanager
def _not_counted() -> Iterator[None]:
    global _excused
    _excused += 1
    try:
        yield
    finally:
        _excused -= 1


async def until(condition: Callable[[], object], *, seconds: float = PATIENCE_S) -> bool:
    """Wait for what the kernel or a thread does: whether it has happened within `seconds`."""
    loop = asyncio.get_running_loop()
    give_up_at = loop.time() + seconds
    while not condition():
        if loop.time() >= give_up_at:
            return False
        with _not_counted():
            await asyncio.sleep(PAUSE_S)
    return True


def block_until(condition: Callable[[], object], *, seconds: float = PATIENCE_S) -> bool:
    """The same, without leaving the step of the loop."""
    give_up_at = time.monotonic() + seconds
    while not condition():
        if time.monotonic() >= give_up_at:
            return False
        with _not_counted():
            time.sleep(PAUSE_S / 2)
    return True
