"""Scopes: a limit around any code, which raises for its own expiry and for nothing else.

A drop-in for `asyncio.timeout`, with its surface and its rules of state, and right where that
has open bugs. The race between an expiry and a cancellation from outside is decided by one rule
(law 16), drawn in ``docs/design/scopes.md``:

    at entry   remember `cancelling()`, or zero if a cancel is pending and undelivered
    at exit    take back each own cancel once; convert only if the count is not above that

A scope arms one timer of the loop, in `__aenter__`, and none if it has no deadline. Entering and
leaving never suspend. Expiry acts through a loop callback and never cancels the running task: on
3.11 and 3.12 a task remembers a cancel that was taken back (law 8).
"""

from __future__ import annotations

import asyncio
import contextlib
import enum
import logging
import math
from asyncio import current_task
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Final, Self

from netio._cancels import (
    delivered_cancels,
    is_about_to_be_cancelled,
    is_about_to_get_a_result,
    is_destroyed,
    met_cancels,
    only_cancellation,
)
from netio._defaults import TIMER_STEP_SECONDS
from netio._errors import DeadlineExceeded, format_address, format_seconds
from netio._holding import cancel, innermost_hold
from netio._limits import MARKS, Deadline, check_seconds
from netio._observing import observed, tell
from netio._stubborn import Stubborn

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextvars import Context
    from types import TracebackType

_logger = logging.getLogger("netio")

# The scope that the running code has entered last; the innermost one is the nearest of its chain
# that was not left. A child task inherits it, and can read its deadline (laws 5, 6). Leaving does
# not set it back: that would cost as much as all else it does.
_latest: Final[ContextVar[Scope | None]] = ContextVar("netio_scope", default=None)


# Of a deadline or a grace: there is none.
_NEVER: Final = math.inf


class _State(enum.Enum):
    CREATED = "created"
    ACTIVE = "active"
    EXPIRING = "expiring"
    EXPIRED = "expired"
    FINISHED = "finished"


# Found faster than an attribute of the enumeration.
_CREATED: Final = _State.CREATED
_ACTIVE: Final = _State.ACTIVE
_EXPIRING: Final = _State.EXPIRING
_EXPIRED: Final = _State.EXPIRED
_FINISHED: Final = _State.FINISHED


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

    # What `DeadlineExceeded.limit` calls it; and whether it hides the scopes around it.
    _limit = "scope"
    _is_shield = False

    # Slots, and no defaults in the class: over one of those each store is a slow one.
    __slots__ = (
        "__weakref__",
        "_by_hand",
        "_delay",
        "_entered_at",
        "_entry_count",
        "_fired_at",
        "_grace",
        "_handle",
        "_looked_again",
        "_own_cancels",
        "_parent",
        "_quiet",
        "_shields",
        "_state",
        "_task",
        "_when",
        "caught",
        "name",
        "overrun",
    )

    def __init__(
        self,
        delay: float | Deadline | None = None,
        when: float | Deadline | None = None,
        name: str | None = None,
        quiet: bool = False,
        grace: float | None = None,
    ) -> None:
        if name is not None and not isinstance(name, str):
            raise TypeError(f"name must be a str or None, not {type(name).__name__}")
        if delay is not None:
            if isinstance(delay, Deadline):
                delay, when = None, delay
            else:
                delay = check_seconds(delay, "delay")
        self.name: str | None = name
        self.caught: bool = False
        self.overrun: float = 0.0
        self._delay = delay
        self._when = _NEVER if when is None else point_of(when, "when")
        self._quiet = quiet
        self._state = _CREATED
        self._grace = _NEVER if grace is None else _check_grace(grace)
        # The timer, and what follows it once it has fired.
        self._handle: asyncio.Handle | Stubborn | None = None
        self._shields = 0  # how many there are inside, which hold back the expiry
        self._task: asyncio.Task[object] | None = None
        self._parent: Scope | None = None
        self._by_hand = False
        self._looked_again = False
        self._own_cancels = 0
        self._entry_count = 0
        # Set when it is entered, and when it fires: that costs nothing here.
        self._entered_at: float
        self._fired_at: float

    def when(self) -> float | None:
        """The deadline as a `loop.time()` in seconds, or None where there is no limit.

        Before the block is entered: where the deadline would be if it were entered now (law 2).
        """
        when = self._when
        if self._state is _CREATED and self._delay is not None:
            when = asyncio.get_running_loop().time() + self._delay
        return None if when == math.inf else when

    def remaining(self) -> float:
        """Seconds until this scope's own deadline: never negative, infinity without one."""
        if self._state is _CREATED and self._delay is not None:
            return max(0.0, self._delay)
        if self._when == math.inf:
            return math.inf
        task = self._task  # which a thread that was started inside asks for its clock
        loop = asyncio.get_running_loop() if task is None else task.get_loop()
        left = self._when - loop.time()
        # As floats add up, there might be a hair more left than the delay.
        return max(0.0, left if self._delay is None else min(left, self._delay))

    def expired(self) -> bool:
        """Whether the deadline has cut the block, also if the block swallowed that."""
        return self._state in (_EXPIRING, _EXPIRED) and not self._by_hand

    def reschedule(self, when: float | Deadline | None) -> None:
        """Move the deadline to the point `when` (`loop.time()`, seconds), or remove it: None.

        Raises:
            RuntimeError: the scope has not been entered, has fired, was cancelled or left.
            TypeError: `when` is not a number, None or a `Deadline`.
            ValueError: `when` is NaN.

        Nothing is changed then.
        """
        point = _NEVER if when is None else point_of(when, "when")
        if self._state is _CREATED and not self._by_hand:
            raise RuntimeError(f"{self._title} has not been entered; its deadline can't be moved")
        if self._state is not _ACTIVE or self._by_hand:
            state = "cancelled" if self._by_hand else self._state.value
            raise RuntimeError(f"cannot move the deadline of a scope that is {state}: {self!r}")
        self._when = point
        self._delay = None
        self._arm_again()

    def cancel(self) -> None:
        """End the block quietly: through the loop, as an expiry would, but `expired()` is False.

        May be called before the block is entered, and from other tasks of the same loop. Does
        nothing once the scope has fired or was left.
        """
        if self._state in (_CREATED, _ACTIVE) and not self._by_hand:
            self._by_hand = True
            self._arm_again()

    async def __aenter__(self) -> Self:
        if self._state is not _CREATED:
            raise RuntimeError(f"{self._title} has already been entered; a scope is used once")
        task = current_task()
        if task is None:
            raise RuntimeError(f"{self._title} must be entered inside a task")
        self._task = task
        loop = task.get_loop()
        self._entered_at = now = loop.time()
        if self._delay is not None:
            self._when = now + self._delay
        outer = _latest.get()
        while outer is not None and outer._task is None:  # as `_nearest_live` does
            outer = outer._parent
        self._parent = outer
        if task.cancelling():
            self._entry_count = delivered_cancels(task)
        _latest.set(self)
        self._state = _ACTIVE
        if now < self._when < _NEVER and not self._by_hand:  # as `_arm` would
            self._handle = loop.call_at(self._when, self._fire, task)
        else:
            self._arm(task, loop, now)
        if observed:
            tell(loop, "scope_entered", self, task)
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool | None:
        task = self._task
        if task is None:
            raise RuntimeError(f"{self._title} is not entered")
        try:
            at_home = current_task() is task
        except RuntimeError:  # a forgotten generator may be closed when no loop runs any more
            at_home = False
        latest = _latest.get()
        misuse = None
        if not at_home or (latest is not self and _nearest_live(latest) is not self):
            misuse = self._misuse(task, latest, at_home)
        # On every way out the timer is dropped, and each own cancel taken back once (law 17).
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None
        self._task = None
        if self._parent is not None:
            # A chain of tasks, each started in a scope of the one before, must not keep them all.
            self._parent = _nearest_live(self._parent)
        fired = self._state is _EXPIRING
        if fired:
            self._take_back(task)
        self._state = _EXPIRED if fired else _FINISHED
        try:
            if misuse is not None:
                if exc_type is GeneratorExit and is_destroyed(task):
                    return None  # a task that was forgotten, or outlived its loop
                raise RuntimeError(f"{self._title} was left {misuse}")
            return self._conclude(task, exc) if fired else None
        finally:
            if observed:
                tell(task.get_loop(), "scope_left", self, task, exc)

    def _misuse(
        self, task: asyncio.Task[object], latest: Scope | None, at_home: bool
    ) -> str | None:
        """Whether the block is left by another task or out of order (law 2)."""
        if not at_home:
            return "in another task than it was entered in"
        # Tasks may share a context, and then find each other's scopes there.
        inner = next((scope for scope in _live_scopes(latest) if scope._task is task), None)
        if inner is self:
            return None
        title = inner._title if inner is not None else "no scope"
        return f"out of order: {title} is the innermost one here (a yield inside a scope?)"

    def _take_back(self, task: asyncio.Task[object]) -> None:
        """Take back what this scope has cancelled, and nothing of what others have."""
        self.overrun = task.get_loop().time() - self._fired_at
        hold = innermost_hold(task)
        if hold is not None and not self._is_shield:  # of which the own hold has ended
            hold.cuts = max(0, hold.cuts - self._own_cancels)
        while self._own_cancels:
            self._own_cancels -= 1
            task.uncancel()

    def _conclude(self, task: asyncio.Task[object], exc: BaseException | None) -> bool | None:
        """What becomes of `exc` when the scope has fired and its own cancels are taken back."""
        if exc is None:
            return None  # swallowed (law 19)
        if not only_cancellation(exc):
            if not self._by_hand:
                with contextlib.suppress(Exception):  # a frozen dataclass takes no notes
                    exc.add_note(f"{self._title} had expired {self.overrun:.3f} s before")
            return None  # law 18
        if met_cancels(task) > self._entry_count:
            return None  # an outside cancel, or the expiry of an enclosing scope (laws 14-16)
        self.caught = True
        if self._quiet or self._by_hand:
            return True
        raise self._error(exc) from exc

    def _error(self, exc: BaseException) -> DeadlineExceeded:
        # What a subclass carries is not netio's.
        found = vars(exc) if type(exc) is asyncio.CancelledError else {}
        marks: dict[str, Any] = {name: found[name] for name in MARKS if name in found}
        during = f" during {marks['operation']}" if "operation" in marks else ""
        if marks.get("peer") is not None:
            during += f", peer {format_address(marks['peer'])}"
        length = self._when - self._entered_at if self._delay is None else self._delay
        seconds = max(0.0, length)
        elapsed = max(seconds, self._fired_at + self.overrun - self._entered_at)
        return DeadlineExceeded(
            f"{self._title}: the limit of {format_seconds(seconds)} was reached after "
            f"{elapsed:.3f} s"
            f"{during}",
            limit=self._limit,
            seconds=seconds,
            elapsed=elapsed,
            scope=self,
            **{"operation": self._title, **marks},
        )

    def _arm(self, task: asyncio.Task[object], loop: asyncio.AbstractEventLoop, now: float) -> None:
        """One timer for the present deadline; what is due already fires at the next suspension."""
        if self._by_hand or self._when <= now:
            self._handle = loop.call_soon(self._fire, task)
        elif self._when < math.inf:
            self._handle = loop.call_at(self._when, self._fire, task)

    def _arm_again(self) -> None:
        """As `_arm`, for a deadline that was moved, or a `cancel`; nothing before entering."""
        self._disarm()
        self._looked_again = False
        task = self._task
        if task is not None:
            loop = task.get_loop()
            self._arm(task, loop, loop.time())

    def _disarm(self) -> None:
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None

    def _fire(self, task: asyncio.Task[object]) -> None:
        """Cancel the task that is inside, once, unless what it waits for has just arrived."""
        self._handle = None
        if self._shields:
            return  # until the shield is over
        loop = task.get_loop()
        now = loop.time()
        if now < self._when and not self._by_hand:
            # uvloop's timers are early at times (law 3).
            when = max(self._when, now + TIMER_STEP_SECONDS)
            self._handle = loop.call_at(when, self._fire, task)
        elif not self._looked_again and is_about_to_get_a_result(task):
            # Cancelling now would lose what `loop.sock_recv` and its like carry (law 8).
            self._looked_again = True
            self._handle = loop.call_soon(self._fire, task)
        else:
            if loop.get_debug() and met_cancels(task) > self._entry_count:
                self._warn_of_count(task)
            self._state = _EXPIRING
            self._fired_at = now
            if observed:
                tell(loop, "scope_fired", self, task)
            self._cut()
            self._handle = Stubborn(task, now, self._grace, self._title, self._cut)

    def _cut(self) -> None:
        if self._task is not None:
            self._own_cancels += 1
            how = "was cancelled" if self._by_hand else "expired"
            cancel(self._task, f"{self._title} {how}")

    def _hold(self) -> None:
        """A shield begins inside: neither the expiry nor what follows it is felt meanwhile."""
        self._shields += 1
        if isinstance(self._handle, Stubborn):
            self._handle.hold()

    def _release(self) -> None:
        """The shield has ended: what was due meanwhile is felt at the next suspension."""
        self._shields -= 1
        task = self._task
        if self._shields or task is None:
            return
        loop = task.get_loop()
        if loop.is_closed():
            return  # a task that outlived its loop is being destroyed
        if isinstance(self._handle, Stubborn):
            self._handle.resume()
        elif self._handle is None and self._state is _ACTIVE:
            self._arm(task, loop, loop.time())

    def _warn_of_count(self, task: asyncio.Task[object]) -> None:
        """Say why this scope will not convert its expiry, where that is not plain (law 17)."""
        enclosing = _live_scopes(self._parent)
        if is_about_to_be_cancelled(task) or any(s._state is _EXPIRING for s in enclosing):
            return
        _logger.warning(
            "%s expires while task %r counts %d cancellation(s) more than when it entered; it "
            "will raise CancelledError, not DeadlineExceeded. Either an outside cancel is being "
            "handled right now, or one was swallowed without Task.uncancel() (asyncio.TaskGroup "
            "does so before Python 3.13)",
            self._title,
            task.get_name(),
            met_cancels(task) - self._entry_count,
        )

    @property
    def _title(self) -> str:
        return self._limit if self.name is None else f"{self._limit} {self.name!r}"

    def __repr__(self) -> str:
        info = "" if self.name is None else f" {self.name}"
        fired = self._state in (_EXPIRING, _EXPIRED)
        info += " [cancelled]" if fired and self._by_hand else f" [{self._state.value}]"
        if self._state is _CREATED and self._delay is not None:
            info += f" delay={self._delay:.3f}"
        elif self._when < math.inf:
            info += f" when={self._when:.3f}"
        return f"<{type(self).__name__}{info}>"


def timeout(
    delay: float | Deadline | None, *, name: str | None = None, grace: float | None = None
) -> Scope:
    """A scope that raises `DeadlineExceeded` when its block takes longer than `delay` seconds.

    `delay` counts from entering the block. None or infinity mean no limit, zero or a negative
    number fires at the first suspension. A `Deadline` is taken as the point it is. `name` is what
    errors call the scope.

    The block is cut once, so that its cleanup can await. `grace`: seconds after which a block that
    is not over is cut again, and then after pauses that double; None or infinity: never again. A
    block that still runs 5 seconds after the first cut is reported, by the logger `netio`.

    Returns: the `Scope`, to be used once with ``async with``.

    Raises:
        TypeError: `delay` is not a number, None or a `Deadline`; `grace` is not a number or None.
        ValueError: `delay` is NaN; `grace` is NaN or negative.

    Leaving the block raises `DeadlineExceeded` (a ``TimeoutError``) if this scope's own limit cut
    it. The expiry of an enclosing scope passes through as ``CancelledError``.

    Cancellation: a cancel from outside always stays a ``CancelledError``, in every order with the
    expiry; `Task.cancelling()` is left as it was.
    """
    return Scope(delay, None, name, False, grace)


def timeout_at(
    when: float | Deadline | None, *, name: str | None = None, grace: float | None = None
) -> Scope:
    """A scope that raises `DeadlineExceeded` when its block runs past the point `when`.

    `when` is a `loop.time()` in seconds or a `Deadline`; None or infinity mean no limit, a point
    in the past fires at the first suspension. All else, `grace`, errors and cancellation included,
    is as in `timeout`.
    """
    return Scope(None, when, name, False, grace)


def move_on_after(
    delay: float | Deadline | None, *, name: str | None = None, grace: float | None = None
) -> Scope:
    """A scope that ends its block quietly when it takes longer than `delay` seconds.

    As `timeout`, but its own expiry raises nothing: the program goes on after the block, and
    `Scope.caught` says whether the block was cut. None or infinity mean no limit.
    """
    return Scope(delay, None, name, True, grace)


def move_on_at(
    when: float | Deadline | None, *, name: str | None = None, grace: float | None = None
) -> Scope:
    """A scope that ends its block quietly when it runs past the point `when`.

    `when` is a `loop.time()` in seconds or a `Deadline`; None or infinity mean no limit. All else
    is as in `move_on_after`.
    """
    return Scope(None, when, name, True, grace)


def current_deadline() -> float:
    """The nearest deadline of the enclosing scopes, as a `loop.time()` in seconds.

    Infinity where there is none. In a task that was started inside a scope this reads the
    inherited deadline, although that scope cuts only the task that entered it (law 6). Only
    netio's scopes are seen: not an `asyncio.timeout`, nor the limit of `wait_for` or of a call.
    """
    return min((scope._when for scope in scopes_that_count()), default=math.inf)


def remaining() -> float:
    """Seconds until `current_deadline`: never negative, infinity where there is none.

    Also in a thread that was started inside a scope, by `asyncio.to_thread` for instance.
    """
    return min((scope.remaining() for scope in scopes_that_count()), default=math.inf)


def enclosing_scopes() -> Iterator[Scope]:
    """The scopes that the running code stands in, also inherited ones; the innermost first."""
    return _live_scopes(_latest.get())


def scopes_in(context: Context) -> Iterator[Scope]:
    """The scopes that code in `context` stands in, also inherited ones; the innermost first."""
    return _live_scopes(context.get(_latest))


def scopes_that_count() -> Iterator[Scope]:
    """The enclosing scopes up to the nearest shield, which is one of them (law 4)."""
    for scope in enclosing_scopes():
        yield scope
        if scope._is_shield:
            return


def _check_grace(grace: float) -> float:
    seconds = check_seconds(grace, "grace")
    if seconds < 0:
        raise ValueError("grace must be at least 0 seconds, or None: the body is cut once")
    return seconds


def point_of(when: float | Deadline, name: str) -> float:
    """The number in what a scope takes for its limit, where errors call that `name`."""
    return when.when if isinstance(when, Deadline) else check_seconds(when, name)


def _nearest_live(scope: Scope | None) -> Scope | None:
    """`scope`, or the nearest one around it that was not left (law 5)."""
    while scope is not None and scope._task is None:
        scope = scope._parent
    return scope


def _live_scopes(scope: Scope | None) -> Iterator[Scope]:
    """`scope` and those around it, innermost first, without the ones that were left."""
    while (scope := _nearest_live(scope)) is not None:
        yield scope
        scope = scope._parent
