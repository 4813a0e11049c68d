"""What a program holds at one moment: descriptors, tasks, watchers and timers of the loop."""

import asyncio
import os
from typing import NamedTuple


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
            if os.readlink(f"/proc/self/fd/{name}") != os.devnull:
                found.append(int(name))
        except FileNotFoundError:
            pass  # the one that listdir itself had open
    return found


async def settled(before: Footprint, *, seconds: float = 2.0) -> Footprint:
    """The footprint, once it is as `before`, or after `seconds` if that never happens."""
    loop = asyncio.get_running_loop()
    give_up_at = loop.time() + seconds
    now = footprint()
    while now != before and loop.time() < give_up_at:
        await asyncio.sleep(0.001)
        now = footprint()
    return now
