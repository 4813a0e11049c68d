"""Scopes: a limit around any code, which raises for its own expiry and for nothing else.

A drop-in for `asyncio.timeout`, with its surface and its rules of state, and right where that
has open bugs. The race between an expiry and a cancellation from outside is decided by one rule
(law 16), drawn in ``docs/design/scopes.md``:

    at entry   remember `cancelling()`, less one if a cancel is pending and undelivered
    at exit    take back each own cancel once; convert only if the count is not above that

A scope arms one timer of the loop, in `__aenter__`, and none if it has no deadline. Entering and
leaving never suspend. Expiry acts through a loop callback and never cancels the running task: on
3.11 and 3.12 a task remembers a cancel that was taken back (law 8).
"""

from __future__ import annotations

import asyncio
import enum
import logging
import math
from contextvars import ContextVar
from typing import TYPE_CHECKING, Final, Self

from netio._defaults import TIMER_STEP_SECONDS
from netio._errors import DeadlineExceeded
from netio._limits import Deadline, check_seconds

if TYPE_CHECKING:
    from types import TracebackType

_logger = logging.getLogger("netio")

# The innermost scope of the running code. A child task inherits it and can read its deadline; a
# scope that was left stays in the chains of such tasks, and contributes nothing (law 5).
_innermost: Final[ContextVar[Scope | None]] = ContextVar("netio_scope", default=None)


class _State(enum.Enum):
    CREATED = "created"
    ACTIVE = "active"
    EXPIRING = "expiring"
    EXPIRED = "expired"
    FINISHED = "finished"


class Scope:
    """A limit around a block of code, made by `timeout`, `move_on_after` and their like.

    Used once, with ``async with``, in one task. It has the surface of `asyncio.Timeout` and adds
    what is listed here. A scope interrupts only the task that entered it; tasks started inside
    can read its deadline (`current_deadline`) and are not cut by it.

    Attributes:
        name: what errors and logs call it, or None.
        caught: True when the scope's own expiry, or its `cancel()`, ended the block.
        overrun: seconds between firing and leaving the block; 0.0 while it has not fired.
    """

    __slots__ = (
        "__weakref__",
        "_by_hand",
        "_delay",
        "_entered_at",
        "_entry_count",
        "_fired_at",
        "_handle",
        "_looked_again",
        "_own_cancels",
        "_parent",
        "_quiet",
        "_state",
        "_task",
        "_when",
        "caught",
        "name",
        "overrun",
    )

    def __init__(
        self, *, delay: float | None, when: float | None, name: str | None, quiet: bool
    ) -> None:
        if name is not None and not isinstance(name, str):
            raise TypeError(f"name must be a str or None, not {type(name).__name__}")
        self.name = name
        self.caught = False
        self.overrun = 0.0
        self._delay = delay
        self._when = when
        self._quiet = quiet
        self._state = _State.CREATED
        self._handle: asyncio.Handle | None = None
        self._task: asyncio.Task[object] | None = None
        self._parent: Scope | None = None
        self._by_hand = False
        self._looked_again = False
        self._own_cancels = 0
        self._entry_count = 0
        self._entered_at = 0.0
        self._fired_at = 0.0

    def when(self) -> float | None:
        """The deadline as a `loop.time()` in seconds, or None where there is no limit.

        Before the block is entered: where the deadline would be if it were entered now (law 2).
        """
        if self._state is _State.CREATED and self._delay is not None:
            return asyncio.get_running_loop().time() + self._delay
        return self._when

    def remaining(self) -> float:
        """Seconds until this scope's own deadline: never negative, infinity without one."""
        if self._state is _State.CREATED and self._delay is not None:
            return max(0.0, self._delay)
        if self._when is None:
            return math.inf
        return max(0.0, self._when - asyncio.get_running_loop().time())

    def expired(self) -> bool:
        """Whether the deadline has cut the block, also if the block swallowed that."""
        return self._state in (_State.EXPIRING, _State.EXPIRED) and not self._by_hand

    def reschedule(self, when: float | Deadline | None) -> None:
        """Move the deadline to the point `when` (`loop.time()`, seconds), or remove it: None.

        Raises:
            RuntimeError: the scope has not been entered, has fired, or was left.
            ValueError: `when` is NaN.
        """
        point = _point(when)
        if self._state is not _State.ACTIVE or self._by_hand:
            state = "not been entered" if self._state is _State.CREATED else "fired or was left"
            raise RuntimeError(f"cannot move the deadline: {self._title} has {state}")
        self._when = point
        self._arm()

    def cancel(self) -> None:
        """End the block quietly: through the loop, as an expiry would, but `expired()` is False.

        May be called before the block is entered, and from other tasks of the same loop. Does
        nothing once the scope has fired or was left.
        """
        if self._state is _State.CREATED:
            self._by_hand = True
        elif self._state is _State.ACTIVE and not self._by_hand:
            self._by_hand = True
            self._arm()

    async def __aenter__(self) -> Self:
        if self._state is not _State.CREATED:
            raise RuntimeError(f"{self._title} was entered before; a scope is used once")
        task = asyncio.current_task()
        if task is None:
            raise RuntimeError(f"{self._title} must be entered inside a task")
        loop = task.get_loop()
        self._entered_at = loop.time()
        if self._delay is not None:
            self._when = self._entered_at + self._delay
        self._task = task
        self._entry_count = _delivered_cancels(task)
        self._parent = _nearest_live(_innermost.get())
        self._state = _State.ACTIVE
        _innermost.set(self)
        self._arm()
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool | None:
        task = self._check_leaving()
        self._disarm()
        _innermost.set(self._parent)
        if self._state is _State.ACTIVE:
            self._state = _State.FINISHED
            self._task = None
            return None
        self._task = None
        self._state = _State.EXPIRED
        now = task.get_loop().time()
        self.overrun = now - self._fired_at
        for _ in range(self._own_cancels):
            task.uncancel()
        self._own_cancels = 0
        return self._conclude(task, exc, now)

    def _conclude(
        self, task: asyncio.Task[object], exc: BaseException | None, now: float
    ) -> bool | None:
        """How a scope that has fired leaves, with its own cancels taken back."""
        if exc is None:
            return None  # swallowed (law 19)
        if not _only_cancellation(exc):
            if not self._by_hand:
                exc.add_note(f"{self._title} expired {self.overrun:.3f} s before")
            return None  # law 18
        if task.cancelling() > self._entry_count:
            return None  # an outside cancel wins (law 16)
        self.caught = True
        if self._quiet or self._by_hand:
            return True
        raise self._error(exc, now) from exc

    def _error(self, exc: BaseException, now: float) -> DeadlineExceeded:
        when = self._when if self._when is not None else now
        seconds = max(0.0, when - self._entered_at)
        cut = getattr(exc, "operation", None)
        during = f" during {cut}" if cut else ""
        return DeadlineExceeded(
            f"{self._title}: the limit of {seconds:.3g} s was reached after "
            f"{now - self._entered_at:.3f} s{during}",
            limit="scope",
            operation=cut or self._title,
            seconds=seconds,
            elapsed=now - self._entered_at,
            peer=getattr(exc, "peer", None),
            done=getattr(exc, "done", 0),
            expected=getattr(exc, "expected", None),
            scope=self,
        )

    def _check_leaving(self) -> asyncio.Task[object]:
        """Refuse to be left by another task or out of order, with nothing left behind (law 2)."""
        task = self._task
        if task is None or self._state not in (_State.ACTIVE, _State.EXPIRING):
            raise RuntimeError(f"{self._title} is not entered")
        inner = _nearest_live(_innermost.get())
        here = asyncio.current_task() is task
        if here and inner is self:
            return task
        self._disarm()
        self._state = _State.EXPIRED if self._state is _State.EXPIRING else _State.FINISHED
        self._task = None
        for _ in range(self._own_cancels):
            task.uncancel()
        if not here:
            raise RuntimeError(f"{self._title} was left in another task than it was entered in")
        raise RuntimeError(
            f"{self._title} was left out of order: {inner._title if inner else 'no scope'} "
            "is the innermost one here (is there a yield inside a scope?)"
        )

    def _arm(self) -> None:
        """One timer for the present deadline; what is due already fires at the next suspension."""
        self._disarm()
        task = self._task
        if task is None or (self._when is None and not self._by_hand):
            return
        loop = task.get_loop()
        if self._by_hand or (self._when is not None and self._when <= loop.time()):
            self._handle = loop.call_soon(self._fire)
        elif self._when is not None:
            self._handle = loop.call_at(self._when, self._fire)

    def _disarm(self) -> None:
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None

    def _fire(self) -> None:
        """Cancel the task that is inside, once, unless what it waits for has just arrived."""
        self._handle = None
        task = self._task
        if task is None:
            return
        loop = task.get_loop()
        now = loop.time()
        if not self._by_hand and self._when is not None and now < self._when:
            # uvloop's timers are early at times (law 3).
            self._handle = loop.call_at(max(self._when, now + TIMER_STEP_SECONDS), self._fire)
            return
        if not self._looked_again and _waits_on_done(task):
            # The task is about to be resumed with a result: cancelling now would lose what
            # `loop.sock_recv` and its like carry in their future (law 8).
            self._looked_again = True
            self._handle = loop.call_soon(self._fire)
            return
        self._warn_of_stale_count(task)
        self._state = _State.EXPIRING
        self._fired_at = now
        self._own_cancels += 1
        task.cancel(f"{self._title} {'was cancelled' if self._by_hand else 'expired'}")

    def _warn_of_stale_count(self, task: asyncio.Task[object]) -> None:
        """Say in debug mode why this scope will not convert its expiry (law 17)."""
        extra = task.cancelling() - self._entry_count
        scope = self._parent
        while scope is not None:
            if scope._fired_at >= self._entered_at:
                extra -= scope._own_cancels
            scope = scope._parent
        if extra > 0 and task.get_loop().get_debug():
            _logger.warning(
                "%s expires while task %r counts %d cancellation(s) more than when it entered; "
                "it will raise CancelledError, not DeadlineExceeded. Either an outside cancel is "
                "being handled right now, or one was swallowed without Task.uncancel() "
                "(asyncio.TaskGroup does so before Python 3.13)",
                self._title,
                task.get_name(),
                extra,
            )

    @property
    def _title(self) -> str:
        return "scope" if self.name is None else f"scope {self.name!r}"

    @property
    def _live(self) -> bool:
        return self._state in (_State.ACTIVE, _State.EXPIRING)

    def __repr__(self) -> str:
        info = [self._state.value]
        if self._when is not None:
            info.append(f"when={self._when:.3f}")
        elif self._delay is not None:
            info.append(f"delay={self._delay:.3f}")
        return f"<Scope {self.name + ' ' if self.name else ''}[{' '.join(info)}]>"


def timeout(delay: float | Deadline | None, *, name: str | None = None) -> Scope:
    """A scope that raises `DeadlineExceeded` when its block takes longer than `delay` seconds.

    `delay` counts from entering the block. None or infinity mean no limit, zero or a negative
    number fires at the first suspension. A `Deadline` is taken as the point it is. `name` is what
    errors call the scope.

    Returns: the `Scope`, to be used once with ``async with``.

    Raises:
        TypeError: `delay` is not a number, None or a `Deadline`.
        ValueError: `delay` is NaN.

    Leaving the block raises `DeadlineExceeded` (a ``TimeoutError``) if this scope's own limit cut
    it. The expiry of an enclosing scope passes through as ``CancelledError``.

    Cancellation: a cancel from outside always stays a ``CancelledError``, in every order with the
    expiry; `Task.cancelling()` is left as it was.
    """
    if isinstance(delay, Deadline):
        return Scope(delay=None, when=_point(delay), name=name, quiet=False)
    return Scope(delay=_finite(delay, "delay"), when=None, name=name, quiet=False)


def timeout_at(when: float | Deadline | None, *, name: str | None = None) -> Scope:
    """A scope that raises `DeadlineExceeded` when its block runs past the point `when`.

    `when` is a `loop.time()` in seconds or a `Deadline`; None or infinity mean no limit, a point
    in the past fires at the first suspension. All else is as in `timeout`.

    Returns: the `Scope`, to be used once with ``async with``.

    Raises:
        TypeError: `when` is not a number, None or a `Deadline`.
        ValueError: `when` is NaN.

    Cancellation: as in `timeout`.
    """
    return Scope(delay=None, when=_point(when), name=name, quiet=False)


def move_on_after(delay: float | Deadline | None, *, name: str | None = None) -> Scope:
    """A scope that ends its block quietly when it takes longer than `delay` seconds.

    As `timeout`, but its own expiry raises nothing: the program goes on after the block, and
    `Scope.caught` says whether the block was cut. None or infinity mean no limit.

    Returns: the `Scope`, to be used once with ``async with``.

    Raises:
        TypeError: `delay` is not a number, None or a `Deadline`.
        ValueError: `delay` is NaN.

    Cancellation: as in `timeout`.
    """
    if isinstance(delay, Deadline):
        return Scope(delay=None, when=_point(delay), name=name, quiet=True)
    return Scope(delay=_finite(delay, "delay"), when=None, name=name, quiet=True)


def move_on_at(when: float | Deadline | None, *, name: str | None = None) -> Scope:
    """A scope that ends its block quietly when it runs past the point `when`.

    `when` is a `loop.time()` in seconds or a `Deadline`; None or infinity mean no limit. All else
    is as in `move_on_after`.

    Returns: the `Scope`, to be used once with ``async with``.

    Raises:
        TypeError: `when` is not a number, None or a `Deadline`.
        ValueError: `when` is NaN.

    Cancellation: as in `timeout`.
    """
    return Scope(delay=None, when=_point(when), name=name, quiet=True)


def current_deadline() -> float:
    """The nearest deadline of the enclosing scopes, as a `loop.time()` in seconds.

    Infinity where there is none. In a task that was started inside a scope this reads the
    inherited deadline, although that scope cuts only the task that entered it (law 6).
    """
    nearest = math.inf
    scope = _innermost.get()
    while scope is not None:
        if scope._live and scope._when is not None:
            nearest = min(nearest, scope._when)
        scope = scope._parent
    return nearest


def remaining() -> float:
    """Seconds until `current_deadline`: never negative, infinity where there is none."""
    deadline = current_deadline()
    if deadline == math.inf:
        return math.inf
    return max(0.0, deadline - asyncio.get_running_loop().time())


def _finite(value: float | None, name: str) -> float | None:
    seconds = math.inf if value is None else check_seconds(value, name)
    return None if seconds == math.inf else seconds


def _point(when: float | Deadline | None) -> float | None:
    return _finite(when.when if isinstance(when, Deadline) else when, "when")


def _nearest_live(scope: Scope | None) -> Scope | None:
    """Skip scopes that were left, so that chains of tasks don't keep each other's scopes."""
    while scope is not None and not scope._live:
        scope = scope._parent
    return scope


def _delivered_cancels(task: asyncio.Task[object]) -> int:
    """The cancels of `task` that its code has already met, by the rule of law 16.

    `_must_cancel` is set while a cancel waits for the next suspension; tasks in C, in Python and
    eager ones all show it. Where it can't be read, a pending cancel counts as met: the scope may
    then answer in place of it, as `asyncio.timeout` does.
    """
    count = task.cancelling()
    return count - 1 if getattr(task, "_must_cancel", False) else count


def _waits_on_done(task: asyncio.Task[object]) -> bool:
    future = getattr(task, "_fut_waiter", None)
    return future is not None and future.done()


def _only_cancellation(exc: BaseException) -> bool:
    if isinstance(exc, BaseExceptionGroup):
        return all(_only_cancellation(one) for one in exc.exceptions)
    return isinstance(exc, asyncio.CancelledError)
