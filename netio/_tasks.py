"""Waiting for tasks to end, whatever happens to the one who waits."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Collection


async def wait_ended(
    tasks: Collection[asyncio.Task[Any]], seconds: float, *, patient: bool = True
) -> asyncio.CancelledError | None:
    """Wait until all `tasks` have ended, `seconds` at most, also when cancelled meanwhile.

    Cancels nothing. A cancellation of the caller is held back and returned, to be raised when the
    caller has finished its cleanup; `Task.cancelling()` counts it all the same (law 25). It ends
    the wait of a caller who is not `patient`.
    """
    loop = asyncio.get_running_loop()
    until = loop.time() + seconds
    held_back: asyncio.CancelledError | None = None
    while patient or held_back is None:
        running = [task for task in tasks if not task.done()]
        left = until - loop.time()
        if not running or left <= 0:
            break
        try:
            await asyncio.wait(running, timeout=left)
        except asyncio.CancelledError as cancelled:
            held_back = held_back or cancelled
    return held_back
