"""Where each task is: what it waits for, an operation of netio by its text, and at which lines.

A task that waits is a chain of coroutines, each of which awaits the next. This walks down the
chain. It looks and touches nothing: what it needs of a frame it asks the garbage collector for,
since `frame.f_locals` is a dict before Python 3.13 that keeps what it found alive.
"""

from __future__ import annotations

import asyncio
import gc
import os
import sys
import types
from collections.abc import Coroutine
from threading import get_ident
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from netio import _operation
from netio._operation import Operation

if TYPE_CHECKING:
    from collections.abc import Iterator

#: Coroutines that are told of one task, the innermost.
MAX_FRAMES: Final = 8

_NETIO: Final = os.path.dirname(_operation.__file__) + os.sep
_KIT: Final = os.path.join(_NETIO, "testing") + os.sep
_ASYNCIO: Final = os.path.dirname(asyncio.__file__) + os.sep
_LOOKING: Final = (__file__, os.path.join(_NETIO, "_snapshot.py"))  # who looks, and is not told

_COROUTINES: Final = (types.CoroutineType, types.GeneratorType, types.AsyncGeneratorType)

# What stands between, for an `async for` and the like, and shows only to the collector.
_BETWEEN: Final = frozenset(
    {
        "anext_awaitable",
        "async_generator_asend",
        "async_generator_athrow",
        "coroutine_wrapper",
    }
)


class Place(NamedTuple):
    """One coroutine of a chain, or one call of a task that runs, and where it is."""

    holder: object  # of the local variables: a coroutine; None of a call
    frame: types.FrameType


class Whereabouts(NamedTuple):
    """Where a task is. Not to be kept: the operation is the live one.

    `state` is ``"running"``, ``"ready"`` (to run: what it waited for has come, or it has not begun)
    or ``"waiting"``; `awaited` the name of the task that it waits for, if it is one; `operation`
    what netio does for it; `lines` where that was called, the innermost first.
    """

    state: str
    awaited: str | None
    operation: Operation | None
    lines: tuple[str, ...]


def describe(task: asyncio.Task[Any]) -> str:
    """One line: the name of `task`, what it waits for, and where."""
    state, awaited, operation, lines = look_at(task)
    if operation is not None:
        doing = f"waits in {operation}"
    elif awaited is not None:
        doing = f"waits for the task {awaited!r}"
    else:
        doing = {"running": "is running", "ready": "is ready to run", "waiting": "waits"}[state]
    if operation is not None and not lines:  # a task of netio's own, or made of a call to it
        return f"{task.get_name()!r} {doing}"
    where = ", called from ".join(lines) or "at an unknown place"
    return f"{task.get_name()!r} {doing}: {where}"


def look_at(task: asyncio.Task[Any]) -> Whereabouts:
    """Where `task` is right now; one that is done is nowhere."""
    # Python 3.12.1 crashes when it is asked for the coroutine of an eager task that is done.
    coroutine = None if task.done() else task.get_coro()
    places = list(_chain(coroutine))
    operation = awaited = None
    if getattr(coroutine, "cr_running", False):
        state = "running"
        if places:
            places = [*places[:-1], *_calls_from(places[-1])]
    else:
        future = getattr(task, "_fut_waiter", None)
        state = "ready" if future is None or future.done() else "waiting"
        if state == "waiting" and isinstance(future, asyncio.Task):
            awaited = future.get_name()
        operation, places = _cut_at_netio(places)
    return Whereabouts(state, awaited, operation, _lines(places))


def _cut_at_netio(places: list[Place]) -> tuple[Operation | None, list[Place]]:
    """What netio does for the innermost code of the program, and the places down to that.

    netio may have called that code in its turn, as a server its handlers.
    """
    inside = 0
    for index, place in enumerate(places):
        if not place.frame.f_code.co_filename.startswith((_NETIO, _ASYNCIO)):
            inside = index + 1
    for index in range(inside, len(places)):
        if _is_netio(places[index].frame):
            operation = _operation_in(places[index:])
            if operation is not None:
                return operation, places[:index]
            break
    return None, places


def _is_netio(frame: types.FrameType) -> bool:
    name = frame.f_code.co_filename
    return name.startswith(_NETIO) and not name.startswith(_KIT)


def _operation_in(places: list[Place]) -> Operation | None:
    """The outermost: to connect, and not the one attempt that is made right now."""
    for place in places:
        held = [one for one in gc.get_referents(place.holder) if isinstance(one, Operation)]
        if held:
            return next((one for one in held if one.waiting), held[0])
    return None


def _chain(awaited: object) -> Iterator[Place]:
    """A chain of coroutines, the outermost first."""
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
            frame, following = None, _held_by(awaited)
        if frame is not None:
            yield Place(awaited, frame)
        awaited = following


def _held_by(wrapper: object) -> object:
    """The coroutine within what stands between two, or within an object that stands for one."""
    if not _is_between(wrapper) and not isinstance(wrapper, Coroutine):
        return None
    held = gc.get_referents(wrapper)
    return next((one for one in held if isinstance(one, _COROUTINES) or _is_between(one)), None)


def _is_between(thing: object) -> bool:
    return type(thing).__name__ in _BETWEEN


def _calls_from(place: Place) -> list[Place]:
    """The calls in which the coroutine at `place` runs right now, in whatever thread it does."""
    running = sys._current_frames()
    running[get_ident()] = sys._getframe(1)  # a frame that refers to itself would stay, with all
    for frame in running.values():
        calls: list[Place] = []
        call: types.FrameType | None = frame
        while call is not None and call is not place.frame:
            if calls or call.f_code.co_filename not in _LOOKING:
                calls.append(Place(None, call))
            call = call.f_back
        if call is not None:
            return [place, *reversed(calls)]
    return [place]


def _lines(places: list[Place]) -> tuple[str, ...]:
    return tuple(_line(place.frame) for place in reversed(places[-MAX_FRAMES:]))


def _line(frame: types.FrameType) -> str:
    return f"{frame.f_code.co_qualname} ({_short(frame.f_code.co_filename)}:{frame.f_lineno})"


def _short(path: str) -> str:
    """Without what every path of this project, or of the standard library, begins with."""
    for start, instead in (
        (_here(), ""),
        (_ASYNCIO, "asyncio" + os.sep),
        (os.path.dirname(os.path.dirname(_NETIO)) + os.sep, ""),
    ):
        if path.startswith(start):
            return instead + path[len(start) :]
    return path


def _here() -> str:
    try:
        return os.getcwd() + os.sep
    except OSError:  # which may have been removed
        return os.sep * 2
