"""Draws the order of what asyncio leaves open, and of nothing else.

asyncio promises that callbacks are called in the order in which they were given to ``call_soon``,
and much is built on that, netio's scopes among it (law 8). That tasks run in the order in which
they became ready follows from it, but nobody promises it. Timers that are due at one moment run in
an order which asyncio calls undefined, and descriptors in the order of the system's poller.

A draw is made only where there is a choice. So what asyncio does by itself, with a timer more or
less in another version, does not change what a seed gives.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING, Any, TypeVar

from netio.testing._clock.handles import is_step

if TYPE_CHECKING:
    import random

Timer = TypeVar("Timer", bound=asyncio.TimerHandle)


def shuffle_tasks(handles: list[asyncio.Handle], draw: random.Random) -> None:
    """Draw the order of the tasks; a plain callback stays behind all that came before it."""
    start = 0
    for end in range(len(handles) + 1):
        if end == len(handles) or not is_step(handles[end]):
            part = handles[start:end]
            draw.shuffle(part)
            handles[start:end] = part
            start = end + 1


def shuffle_equals(due: list[Timer], draw: random.Random) -> None:
    """Draw the order of those that are due at one moment, which asyncio calls undefined."""
    start = 0
    for end in range(1, len(due) + 1):
        if end == len(due) or due[end].when() != due[start].when():
            part = due[start:end]
            draw.shuffle(part)
            due[start:end] = part
            start = end


def mix(first: list[Any], second: list[Any], draw: random.Random) -> list[Any]:
    """All of both, each in its order."""
    mixed = []
    ones, others = deque(first), deque(second)
    while ones and others:
        both = len(ones) + len(others)
        mixed.append((ones if draw.random() * both < len(ones) else others).popleft())
    return [*mixed, *ones, *others]
