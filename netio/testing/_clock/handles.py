"""What a handle of the loop is about to do: the one place that looks inside of them."""

from __future__ import annotations

import asyncio

from netio._readiness import Readiness


def acts_at(timer: asyncio.TimerHandle) -> float:
    """When `timer` does something, at the earliest; infinity: as things stand, never.

    This is the one place that knows of timers that are set too early. The timer of a channel is
    moved lazily (`netio._readiness`): it may ring when nobody waits any more, or for who waits
    until later, and then sets itself again, or not. To stop there would show a time at which
    nothing happens, and hide a deadlock.
    """
    callback = timer._callback  # type: ignore[attr-defined]
    owner = getattr(callback, "__self__", None)
    # A channel may have timers of its own, too, which do something whoever waits.
    if isinstance(owner, Readiness) and callback == owner._ring:
        return owner.nearest()
    return timer.when()


def wakes_somebody(watcher: asyncio.Handle) -> bool:
    """Whether anybody waits for what `watcher` is called for: netio's readers stay registered."""
    owner = getattr(watcher._callback, "__self__", None)  # type: ignore[attr-defined]
    return not isinstance(owner, Readiness) or owner.awaited


def is_step(handle: asyncio.Handle) -> bool:
    """Whether it starts or resumes a task (and is not, say, `Task.cancel`)."""
    callback = handle._callback  # type: ignore[attr-defined]
    owner = getattr(callback, "__self__", None)
    if not (asyncio.isfuture(owner) and hasattr(owner, "get_coro")):
        return False
    name = getattr(callback, "__name__", "_step")
    return name == "task_wakeup" or name.startswith("_")
