"""Finds what code leaves behind: open descriptors, tasks, timers, and what was never closed.

What is there before is remembered, and what is there afterwards compared with it. Of the things
that Python itself reports when they are dropped open, it collects the `ResourceWarning`.
"""

from __future__ import annotations

import asyncio
import gc
import math
import os
import stat
import sys
import warnings
from typing import TYPE_CHECKING, Any, Final

from netio._arguments import check_count
from netio._errors import format_address
from netio._waiting import describe
from netio.testing._clock.handles import acts_at
from netio.testing._clock.loop import VirtualLoop
from netio.testing._network.connecting import open_ends

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

#: What ends with the code may take a few more turns of the loop to be gone: asyncio's transports
#: close in a callback.
SETTLE_TURNS: Final = 20

#: And on a busy machine a moment. Waited for only when something is left, and in real time only.
SETTLE_SECONDS: Final = 0.25

_DESCRIPTORS: Final = ("/proc/self/fd", "/dev/fd")


class Leaked(AssertionError):
    """Something was left behind that was not there before.

    Attributes:
        leaks: a line for each thing that is left.
    """

    def __init__(self, leaks: tuple[str, ...]) -> None:
        super().__init__("\n  ".join(["left behind:", *leaks]))
        self.leaks: tuple[str, ...] = leaks


def check_leaks(
    *,
    descriptors: bool = True,
    tasks: bool = True,
    timers: bool = True,
    warnings: bool = True,
    generation: int = 2,
) -> LeakCheck:
    """Check that a block leaves nothing behind; `Leaked` is raised where it ends.

        async with check_leaks():  # in a coroutine: all of it
            ...
        with check_leaks():  # around whole runs of loops: descriptors and ResourceWarnings
            asyncio.run(main())

    A block that raises is not checked: it may well leave something, which is not the news. What is
    about to go is waited for, at most a quarter of a second.

    descriptors: open descriptors of the process, except of ``/dev/null``; Linux and macOS only.
        They are told apart by number. And what stands for them on a network in memory.
    tasks: tasks of the running loop that have not ended.
    timers: timers of the running loop that would still do something. uvloop does not tell of its.
    warnings: every `ResourceWarning`, whatever the filters for warnings say of it. (Others go their
        way.)
    generation: which garbage is collected at both ends, so that what is reachable no more reports
        itself, and is not taken for a leak of the next block: 2 for all, 1 for what was made
        lately, which takes no time.
    """
    if check_count(generation, "generation") > 2:
        raise ValueError(f"generation must be at most 2, not {generation}")
    return LeakCheck(descriptors, tasks, timers, warnings, generation)


class LeakCheck:
    """A block that is checked for leaks, as `check_leaks` makes it; used once."""

    def __init__(
        self, descriptors: bool, tasks: bool, timers: bool, warnings: bool, generation: int
    ) -> None:
        self._descriptors = descriptors
        self._tasks = tasks
        self._timers = timers
        self._warnings = warnings
        self._generation = generation
        self._loop: asyncio.AbstractEventLoop | None = None
        self._said: list[str] = []
        self._forgiven = False
        self._used = False

    def __enter__(self) -> Self:
        if asyncio._get_running_loop() is not None:
            raise RuntimeError("in a coroutine, write: async with check_leaks()")
        self._begin()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            self._finish(failed=kind is not None)
        finally:
            self._restore_warnings()

    async def __aenter__(self) -> Self:
        self._begin()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            if kind is None and not self._forgiven:
                await self._settle()
            self._finish(failed=kind is not None)
        finally:
            self._restore_warnings()

    def forgive(self) -> None:
        """Let the block leave what it leaves: it has failed already, for those who can't raise."""
        self._forgiven = True

    def _begin(self) -> None:
        if self._used:
            raise RuntimeError("a LeakCheck is used once: call check_leaks() for each block")
        self._used = True
        self._loop = asyncio._get_running_loop()  # in a `with`, there is none
        gc.collect(self._generation)
        self._catch_warnings()
        self._open_before = set(open_descriptors()) if self._descriptors else set()
        self._ends_before = set(open_ends()) if self._descriptors else set()
        self._tasks_before = set(asyncio.all_tasks(self._loop)) if self._loop else set()
        # Kept, and not only their ids, which others might be given meanwhile.
        self._timers_before = live_timers(self._loop)

    def _finish(self, *, failed: bool) -> None:
        if failed or self._forgiven:
            return
        gc.collect(self._generation)
        left = self._left()
        if left or self._said:
            gc.collect()  # a warning that belongs here is not for some later test to meet
            raise Leaked((*left, *dict.fromkeys(self._said)))

    async def _settle(self) -> None:
        for _ in range(SETTLE_TURNS):
            if not self._left():
                return
            await asyncio.sleep(0)
        loop = asyncio.get_running_loop()
        if isinstance(loop, VirtualLoop):
            return  # time would pass for those that are left, too
        give_up_at = loop.time() + SETTLE_SECONDS
        while self._left() and loop.time() < give_up_at:  # noqa: ASYNC110
            await asyncio.sleep(0.005)

    def _left(self) -> list[str]:
        left = []
        if self._descriptors:
            left += [
                f"descriptor {number} is open: {what}"
                for number, what in sorted(open_descriptors().items())
                if number not in self._open_before and what != os.devnull
            ]
            left += sorted(
                f"a stream in memory is open: {format_address(end.local)} to "
                f"{format_address(end.peer)}"
                for end in open_ends()
                if end not in self._ends_before
            )
        if self._tasks and self._loop is not None:
            this = asyncio.current_task()
            tasks = asyncio.all_tasks(self._loop) - self._tasks_before - {this}
            left += [f"the task {describe(task)}" for task in sorted(tasks, key=_name_of)]
        if self._timers:
            before = {id(timer) for timer in self._timers_before}
            timers = [timer for timer in live_timers(self._loop) if id(timer) not in before]
            left += [f"the timer {timer!r}" for timer in timers]
        return left

    # Warnings.

    def _catch_warnings(self) -> None:
        if not self._warnings:
            return
        self._catching = warnings.catch_warnings()
        self._catching.__enter__()
        warnings.simplefilter("always", ResourceWarning)
        show = warnings.showwarning

        def note(message: Warning | str, category: type[Warning], *args: Any, **kw: Any) -> None:
            if issubclass(category, ResourceWarning):
                self._said.append(f"{category.__name__}: {message}")
            else:
                show(message, category, *args, **kw)

        warnings.showwarning = note

    def _restore_warnings(self) -> None:
        if self._warnings:
            self._catching.__exit__(*sys.exc_info())


def _name_of(task: asyncio.Task[Any]) -> str:
    return task.get_name()


def open_descriptors() -> dict[int, str]:
    """The open descriptors of this process and what each is; empty where the system tells none.

    What it is, is for instance ``socket:[4711]``.
    """
    found: dict[int, str] = {}
    directory = next((path for path in _DESCRIPTORS if os.path.isdir(path)), None)
    if directory is None:
        return found
    for number in map(int, os.listdir(directory)):
        try:
            status = os.fstat(number)
        except OSError:
            continue  # the one that listdir itself had open
        try:
            found[number] = os.readlink(f"{directory}/{number}")
        except OSError:  # no link: macOS has none
            found[number] = os.devnull if _is_null(status) else "of an unknown kind"
    return found


def _is_null(status: os.stat_result) -> bool:
    return stat.S_ISCHR(status.st_mode) and status.st_rdev == os.stat(os.devnull).st_rdev


def live_timers(loop: asyncio.AbstractEventLoop | None) -> list[asyncio.TimerHandle]:
    """The timers of `loop` that would do something, where it tells of them."""
    timers: list[asyncio.TimerHandle] = getattr(loop, "_scheduled", [])
    return [t for t in timers if not t.cancelled() and acts_at(t) < math.inf]
