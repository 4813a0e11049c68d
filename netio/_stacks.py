"""Where a task is: the chain of coroutines that it waits in."""

from __future__ import annotations

import asyncio
import types
from typing import Any, Final

_MOST: Final = 8


def stack_of(task: asyncio.Task[Any]) -> tuple[str, ...]:
    """The places where `task` is, the innermost first, no more than eight."""
    frames: list[types.FrameType] = []
    awaited: object = task.get_coro()
    while isinstance(awaited, (types.CoroutineType, types.GeneratorType)):
        if isinstance(awaited, types.CoroutineType):
            frame, awaited = awaited.cr_frame, awaited.cr_await
        else:
            frame, awaited = awaited.gi_frame, awaited.gi_yieldfrom
        if frame is not None:
            frames.append(frame)
    places = [f"{f.f_code.co_qualname} ({f.f_code.co_filename}:{f.f_lineno})" for f in frames]
    return tuple(reversed(places[-_MOST:]))
