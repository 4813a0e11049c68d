"""A snapshot of a loop: each task with where it is, the scopes it stands in, and its operation.

Nothing is kept for this while nobody asks: the tasks are those that asyncio knows, the scopes of
one are found through its context, and its operation on its chain of coroutines (`_waiting.py`).
What is found is copied into plain values, so that a snapshot keeps nothing alive.
"""

from __future__ import annotations

import asyncio
import gc
import math
from contextvars import Context
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from netio._errors import Address
from netio._observing import Wait
from netio._operation import LIMIT_WORDS
from netio._scopes import scopes_in
from netio._waiting import look_at

if TYPE_CHECKING:
    from collections.abc import Iterator

    from netio._operation import Operation
    from netio._scopes import Scope


@dataclass(frozen=True, slots=True)
class ScopeSnapshot:
    """A scope in which a task stood. All times are seconds.

    Attributes:
        name: what errors call it, or None.
        kind: ``"timeout"``, which raises, ``"move_on"``, which leaves quietly, or ``"shield"``.
        state: ``"active"``; ``"expired"``, when it has cut its block, which is not left yet; or
            ``"cancelled"``, likewise, by `Scope.cancel`.
        deadline: a `loop.time()`; infinity: no limit.
        remaining: until the deadline; never negative, infinity without one.
        overdue: since it fired, or, where it could not fire yet, since its deadline; else 0.0.
        elapsed: since its block was entered.
        held: whether a shield inside of it holds back its expiry.
        own: whether the task entered it itself. An inherited scope can be read, and does not cut.
        task: the name of the task that entered it.
    """

    name: str | None
    kind: str
    state: str
    deadline: float
    remaining: float
    overdue: float
    elapsed: float
    held: bool
    own: bool
    task: str


@dataclass(frozen=True, slots=True)
class OperationSnapshot:
    """An operation of netio in which a task waited. All times are seconds.

    Attributes:
        text: what errors call it, with its peer: ``"read_exactly(16) from 10.0.0.7:7000"``.
        peer: the address of the other side, or None.
        limit: which limit was the nearest, by its name in `DeadlineExceeded.limit`; ``""``: none.
            The scopes are not among them.
        deadline: when that is reached, a `loop.time()`; infinity: never.
        remaining: until the deadline; never negative, infinity without one.
        elapsed: since the operation began.
        done: bytes that had come, or that the kernel had taken.
        expected: bytes that the operation needs, or None where that is open.
    """

    text: str
    peer: Address
    limit: str
    deadline: float
    remaining: float
    elapsed: float
    done: int
    expected: int | None


@dataclass(frozen=True, slots=True)
class TaskSnapshot:
    """A task that had not ended.

    Attributes:
        name: its name.
        state: ``"waiting"``; ``"ready"`` to run: what it waited for has come, or it has not begun;
            ``"running"``, as the one that asks; ``"unknown"`` where it could not be looked at, and
            `where` is the name of the error.
        awaited: the name of the task that it waits for, if it is one, else None.
        where: where its code is, or has called netio: ``"function (file:line)"``, the innermost
            first, eight at most.
        scopes: the scopes in which it stands, the innermost first.
        operation: what it waits for, if that is an operation of netio, else None.
        cancelling: the cancels that it has been sent and has not taken back (`Task.cancelling`).
    """

    name: str
    state: str
    awaited: str | None
    where: tuple[str, ...]
    scopes: tuple[ScopeSnapshot, ...]
    operation: OperationSnapshot | None
    cancelling: int

    def __str__(self) -> str:
        return "\n".join(_lines_of_task(self))


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What the tasks of a loop were about at one moment: plain values, which can be pickled.

    ``str(snapshot)`` is a text for a person.

    Attributes:
        time: the moment, a `loop.time()` in seconds.
        tasks: all tasks of the loop that had not ended, by name.
    """

    time: float
    tasks: tuple[TaskSnapshot, ...]

    def __str__(self) -> str:
        operations = sum(task.operation is not None for task in self.tasks)
        own = sum(scope.own for task in self.tasks for scope in task.scopes)
        counts = (
            _count(len(self.tasks), "task"),
            _count(own, "scope"),
            _count(operations, "operation"),
        )
        return "\n\n".join([f"{', '.join(counts)}; {self.time:.3f} s", *map(str, self.tasks)])


def snapshot(loop: asyncio.AbstractEventLoop | None = None) -> Snapshot:
    """What the tasks of a loop are about right now: their scopes, what they wait for, and where.

    For a signal handler, a debugger or a page of a program: nothing is prepared for it, so that it
    costs nothing before it is called. Then it takes about 30 microseconds a task, in one go.

    `loop` None: the loop that runs in this thread, also in a handler of `signal.signal`. Another
    thread names the loop that it asks about, which goes on meanwhile: what it does between two
    looks is then half in the picture.

    Returns: a `Snapshot`, of plain values: it keeps no task, scope or stream alive.

    Raises:
        RuntimeError: no loop runs in this thread and none was given, or it is closed.
        TypeError: `loop` is not an event loop.
    """
    if loop is None:
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            raise RuntimeError("no event loop runs in this thread: say loop=...") from None
    elif not isinstance(loop, asyncio.AbstractEventLoop):
        raise TypeError(f"loop must be an event loop or None, not {type(loop).__name__}")
    if loop.is_closed():
        raise RuntimeError("the loop is closed")
    now = loop.time()
    looks = [_look(task, now) for task in asyncio.all_tasks(loop) if not task.done()]
    return Snapshot(now, tuple(sorted(looks, key=lambda look: (len(look.name), look.name))))


def _look(task: asyncio.Task[Any], now: float) -> TaskSnapshot:
    try:
        state, awaited, operation, where = look_at(task)
        return TaskSnapshot(
            name=task.get_name(),
            state=state,
            awaited=awaited,
            where=where,
            scopes=tuple(_scopes_of(task, now)),
            operation=None if operation is None else _look_at_operation(operation, now),
            cancelling=task.cancelling(),
        )
    except Exception as error:  # somebody's odd kind of task must not hide all the others
        kind, what = f"a {type(task).__qualname__}", type(error).__name__
        return TaskSnapshot(kind, "unknown", None, (what,), (), None, 0)


def _scopes_of(task: asyncio.Task[Any], now: float) -> Iterator[ScopeSnapshot]:
    context = _context_of(task)
    if context is not None:
        for scope in scopes_in(context):
            owner = scope._task
            if owner is not None:  # it was not left meanwhile, while its loop runs in a thread
                yield _look_at_scope(scope, owner, owner is task, now)


def _context_of(task: asyncio.Task[Any]) -> Context | None:
    if hasattr(task, "get_context"):  # from Python 3.12 on
        context: Context = task.get_context()
        return context
    own = getattr(task, "_context", None)  # of a task in Python
    held = [own] if own is not None else gc.get_referents(task)
    # A task in C shows only to the collector: its own context first, then that of a callback.
    return next((one for one in held if isinstance(one, Context)), None)


def _look_at_scope(
    scope: Scope, owner: asyncio.Task[object], own: bool, now: float
) -> ScopeSnapshot:
    fired = scope._own_cancels > 0
    deadline = scope._when
    since = scope._fired_at if fired else deadline
    state = "cancelled" if scope._by_hand else "expired" if fired else "active"
    return ScopeSnapshot(
        name=scope.name,
        kind="shield" if scope._is_shield else "move_on" if scope._quiet else "timeout",
        state=state,
        deadline=deadline,
        remaining=max(0.0, deadline - now),
        overdue=max(0.0, now - since),
        elapsed=max(0.0, now - scope._entered_at),
        held=scope._shields > 0,
        own=own,
        task=owner.get_name(),
    )


def _look_at_operation(operation: Operation, now: float) -> OperationSnapshot:
    wait = Wait(None, now, None)
    operation.describe(wait)
    return OperationSnapshot(
        text=str(operation),
        peer=wait.peer,
        limit=wait.limit,
        deadline=wait.deadline,
        remaining=max(0.0, wait.deadline - now),
        elapsed=max(0.0, now - operation.started),
        done=wait.done,
        expected=wait.expected,
    )


# The text. ------------------------------------------------------------------------------------

_WORDS: Final = {
    "running": "is running",
    "ready": "is ready to run",
    "waiting": "waits",
    "unknown": "could not be looked at",
}


def _lines_of_task(task: TaskSnapshot) -> Iterator[str]:
    operation = task.operation
    if operation is not None:
        doing = f"waits in {operation.text} for {operation.elapsed:.3f} s"
    elif task.awaited is not None:
        doing = f"waits for the task {task.awaited!r}"
    else:
        doing = _WORDS[task.state]
    cancels = f", cancelled {_count(task.cancelling, 'time')}" if task.cancelling else ""
    yield f"{task.name!r} {doing}{cancels}"
    if operation is not None:
        yield f"    limit   {_words_of_limit(operation)}"
        if operation.expected is not None:
            yield f"    bytes   {operation.done} of {operation.expected}"
        elif operation.done:
            yield f"    bytes   {operation.done}"
    for title, where in zip(_titles("at"), task.where, strict=False):
        yield f"    {title}{where}"
    rows = [_row_of_scope(scope) for scope in task.scopes]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for title, row in zip(_titles("in"), rows, strict=False):
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        yield f"    {title}{'  '.join(cells)}".rstrip()


def _titles(first: str) -> Iterator[str]:
    yield first.ljust(8)
    while True:
        yield " " * 8


def _words_of_limit(operation: OperationSnapshot) -> str:
    if not operation.limit:
        return "none of its own"
    words = LIMIT_WORDS.get(operation.limit, f"the {operation.limit}")
    return f"{words}, {_left(operation.deadline, operation.remaining)}"


def _row_of_scope(scope: ScopeSnapshot) -> tuple[str, ...]:
    if scope.state != "active":
        left = f"{scope.state.upper()} {scope.overdue:.3f} s ago"
    elif scope.overdue:
        left = f"{scope.overdue:.3f} s LATE"
    else:
        left = _left(scope.deadline, scope.remaining)
    if scope.held:
        left += ", held by a shield"
    name = "" if scope.name is None else repr(scope.name)
    whose = "" if scope.own else f"inherited from {scope.task!r}"
    return scope.kind, name, left, f"entered {scope.elapsed:.3f} s ago", whose


def _left(deadline: float, remaining: float) -> str:
    return "no limit" if deadline == math.inf else f"{remaining:.3f} s left"


def _count(number: int, thing: str) -> str:
    return f"{number} {thing}" if number == 1 else f"{number} {thing}s"
