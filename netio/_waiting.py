"""Names what each task waits for: an operation of netio by its text, anything else by its code.

A task that waits is a chain of coroutines, each of which awaits the next. This walks down the
chain, and says at which line each one is, the innermost first.
"""

from __future__ import annotations

import asyncio
import gc
import os
import types
from typing import TYPE_CHECKING, Any, Final

from netio import _operation
from netio._operation import Operation

if TYPE_CHECKING:
    from collections.abc import Iterator

#: Coroutines that are told of one task, the innermost.
MAX_FRAMES: Final = 8

_NETIO: Final = os.path.dirname(_operation.__file__) + os.sep
_KIT: Final = os.path.join(_NETIO, "testing") + os.sep
_STANDARD_LIBRARY: Final = os.path.dirname(asyncio.__file__) + os.sep


def describe(task: asyncio.Task[Any]) -> str:
    """One line: the name of `task`, what it waits for, and where."""
    frames = list(_frames(task.get_coro()))
    operation, frames = _cut_at_netio(frames)
    waits_for = operation or _waits_for(task)
    places = [_place(frame) for frame in reversed(frames[-MAX_FRAMES:])]
    if operation and not places:  # a task of netio's own, or made of a call to it
        return f"{task.get_name()!r} {waits_for}"
    where = ", called from ".join(places) or "at an unknown place"
    return f"{task.get_name()!r} {waits_for}: {where}"


def _waits_for(task: asyncio.Task[Any]) -> str:
    future = getattr(task, "_fut_waiter", None)
    if future is None or future.done():
        return "is ready to run"
    if isinstance(future, asyncio.Task):
        return f"waits for the task {future.get_name()!r}"
    return "waits"


def _cut_at_netio(frames: list[types.FrameType]) -> tuple[str, list[types.FrameType]]:
    """What netio does for this task, and the frames of those who called it; "": not netio."""
    for index, frame in enumerate(frames):
        if _is_netio(frame):
            operation = _operation_in(frames[index:])
            if operation is not None:
                return f"waits in {operation}", frames[:index]
            break
    return "", frames


def _is_netio(frame: types.FrameType) -> bool:
    name = frame.f_code.co_filename
    return name.startswith(_NETIO) and not name.startswith(_KIT)


def _operation_in(frames: list[types.FrameType]) -> Operation | None:
    """The outermost: to connect, and not the one attempt that is made right now."""
    for frame in frames:
        for value in frame.f_locals.values():
            if isinstance(value, Operation):
                return value
    return None


def _frames(awaited: object) -> Iterator[types.FrameType]:
    """The frames of a chain of coroutines, the outermost first."""
    seen: set[int] = set()
    while awaited is not None and id(awaited) not in seen:
        seen.add(id(awaited))
        if isinstance(awaited, types.CoroutineType):
            frame, following = awaited.cr_frame, awaited.cr_await
        elif isinstance(awaited, types.GeneratorType):
            frame, following = awaited.gi_frame, awaited.gi_yieldfrom
        elif isinstance(awaited, types.AsyncGeneratorType):
            frame, following = awaited.ag_frame, awaited.ag_await
        else:
            # What stands between, for an `async for` and the like, shows only to the collector.
            frame, following = None, _held_by(awaited)
        if frame is not None:
            yield frame
        awaited = following


def _held_by(wrapper: object) -> object:
    kinds = (types.CoroutineType, types.GeneratorType, types.AsyncGeneratorType)
    if type(wrapper).__name__ not in ("async_generator_asend", "coroutine_wrapper"):
        return None
    return next((held for held in gc.get_referents(wrapper) if isinstance(held, kinds)), None)


def _place(frame: types.FrameType) -> str:
    return f"{frame.f_code.co_qualname} ({_short(frame.f_code.co_filename)}:{frame.f_lineno})"


def _short(path: str) -> str:
    """Without what every path of this project, or of the standard library, begins with."""
    for start, instead in (
        (os.getcwd() + os.sep, ""),
        (_STANDARD_LIBRARY, "asyncio" + os.sep),
        (os.path.dirname(os.path.dirname(_NETIO)) + os.sep, ""),
    ):
        if path.startswith(start):
            return instead + path[len(start) :]
    return path
