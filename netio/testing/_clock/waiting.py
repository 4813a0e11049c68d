"""The errors of a virtual clock, which end a run that would have no end, and tell of each task."""

from __future__ import annotations

import asyncio

from netio._waiting import describe


class Deadlock(Exception):
    """Nothing can run on a virtual clock any more: no timer is set that would wake anybody.

    The text names every task that waits, what for, and where. It is raised out of the loop, by
    `run` and its like, and not into a task: no ``except`` of the program under test can hide it.

    Attributes:
        waiting: a line for each task that waits.
    """

    def __init__(self, reason: str, waiting: tuple[str, ...] = ()) -> None:
        super().__init__(_with_tasks(reason, waiting))
        self.waiting: tuple[str, ...] = waiting


class TooManySteps(Exception):
    """A run on a virtual clock has taken as many turns of the loop as `max_steps` allows.

    The text says whether the clock stood still meanwhile, and names every task and where it is.

    Attributes:
        waiting: a line for each task.
    """

    def __init__(self, reason: str, waiting: tuple[str, ...] = ()) -> None:
        super().__init__(_with_tasks(reason, waiting))
        self.waiting: tuple[str, ...] = waiting


def _with_tasks(reason: str, waiting: tuple[str, ...]) -> str:
    return "\n  ".join([reason, *(waiting or ("there is no task",))])


def describe_tasks(loop: asyncio.AbstractEventLoop) -> tuple[str, ...]:
    """A line for each task of `loop` that has not ended, by name."""
    tasks = sorted(asyncio.all_tasks(loop), key=lambda t: (len(t.get_name()), t.get_name()))
    return tuple(describe(task) for task in tasks)
