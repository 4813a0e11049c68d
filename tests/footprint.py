"""What a program holds at one moment: descriptors, tasks, watchers and timers of the loop."""

import asyncio
import os
from typing import NamedTuple

from real_time import until

NULL_DEVICE = os.stat(os.devnull).st_rdev


class Footprint(NamedTuple):
    descriptors: frozenset[int]
    tasks: int
    watchers: frozenset[int]  # descriptors the loop watches; empty where it does not tell
    timers: int  # not cancelled; 0 where the loop does not tell


def footprint() -> Footprint:
    loop = asyncio.get_running_loop()
    watched = loop._selector.get_map() if hasattr(loop, "_selector") else {}
    timers = [timer for timer in getattr(loop, "_scheduled", ()) if not timer.cancelled()]
    return Footprint(
        descriptors=frozenset(descriptors()),
        tasks=len(asyncio.all_tasks()),
        watchers=frozenset(watched),
        timers=len(timers),
    )


def descriptors() -> list[int]:
    """Those of /dev/null are uvloop's reserve, and not counted."""
    found = []
    for name in os.listdir("/proc/self/fd"):
        try:
            if os.fstat(int(name)).st_rdev != NULL_DEVICE:
                found.append(int(name))
        except OSError:
            pass  # the one that listdir itself had open
    return found


async def settled(before: Footprint, *, seconds: float = 2.0) -> Footprint:
    """The footprint, once it is as `before`, or after `seconds` if that never happens."""
    await until(lambda: footprint() == before, seconds=seconds)
    return footprint()
