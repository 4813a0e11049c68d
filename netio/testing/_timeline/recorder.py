"""The recorder: an observer that writes down what it is told, as plain events.

An event has no object in it, no memory address and no counter of the process: numbers and names
are given in the order in which things are first seen, so that two runs that do the same make the
same events.
"""

from __future__ import annotations

import asyncio
import math
import re
import weakref
from collections import Counter
from typing import TYPE_CHECKING, Any, Final

from netio._errors import format_address
from netio._observer import Observer
from netio._scopes import enclosing_scopes
from netio.testing._clock.loop import VirtualLoop
from netio.testing._timeline.event import TimelineEvent

if TYPE_CHECKING:
    from collections.abc import Mapping

    from netio._errors import Address, DeadlineExceeded
    from netio._observing import Wait
    from netio._scopes import Scope
    from netio._stream import Stream
    from netio.testing._timeline.event import Plain

_NUMBERED_BY_ASYNCIO: Final = re.compile(r"Task-\d+")


class Recorder(Observer):
    """Records one loop, the first one that it hears of.

    Attributes:
        events: what happened, in order.
        left_out: how many came when there were as many as it keeps.
    """

    def __init__(self, max_events: int) -> None:
        self.events: list[TimelineEvent] = []
        self.left_out = 0
        self.virtual = False
        self._max_events = max_events
        self._loop: weakref.ref[asyncio.AbstractEventLoop] | None = None
        self._origin = 0.0
        self._ended: float | None = None
        self._task_names = weakref.WeakKeyDictionary[asyncio.Task[object], str]()
        self._names_given: Counter[str] = Counter()
        self._counts: Counter[str] = Counter()
        # What has begun and not ended, by identity, and not kept alive: that would change the run.
        self._numbers: dict[int, tuple[int, weakref.ref[object]]] = {}

    def belongs_to(self, loop: asyncio.AbstractEventLoop) -> bool:
        """Whether this is a recording of `loop`: if it is of none yet, it is from here on."""
        if self._loop is None:
            self._loop = weakref.ref(loop)
            self._origin = loop.time()
            self.virtual = isinstance(loop, VirtualLoop)
        return self._loop() is loop

    @property
    def duration(self) -> float:
        """Seconds from the beginning of the recording to its end, or to now."""
        if self._ended is not None:
            return self._ended
        loop = None if self._loop is None else self._loop()
        if loop is None or loop.is_closed():
            return self.events[-1].time if self.events else 0.0
        return max(0.0, loop.time() - self._origin)

    def end(self) -> None:
        """Record nothing more, and let go of what was seen."""
        self._ended = self.duration
        self._numbers.clear()
        self._task_names.clear()

    # What netio tells. ------------------------------------------------------------------------

    def scope_entered(self, scope: Scope, task: asyncio.Task[object]) -> None:
        if self.belongs_to(task.get_loop()):
            when = scope.when()
            self._add(
                "scope entered",
                _title(scope),
                task,
                scope=self._begin("scope", scope),
                deadline=self._point(when),
                seconds=None if when is None else _length(scope),
            )

    def scope_fired(self, scope: Scope, task: asyncio.Task[object]) -> None:
        if self.belongs_to(task.get_loop()):
            self._add(
                "scope fired",
                _title(scope),
                task,
                scope=self._number("scope", scope),
                by_hand=not scope.expired(),
                deadline=self._point(scope.when()),
            )

    def scope_left(
        self, scope: Scope, task: asyncio.Task[object], error: BaseException | None
    ) -> None:
        if self.belongs_to(task.get_loop()):
            self._add(
                "scope left",
                _title(scope),
                task,
                scope=self._end("scope", scope),
                caught=scope.caught,
                error=None if error is None else type(error).__name__,
                overrun=scope.overrun,
                deadline=self._point(scope.when()),
            )

    def wait_began(self, wait: Wait) -> None:
        if self.belongs_to(asyncio.get_running_loop()):
            self._add(
                "wait began",
                wait.operation,
                wait.task,
                wait=self._begin("wait", wait),
                stream=self._known(wait.channel),
                peer=_address(wait.peer),
                limit=wait.limit or None,
                deadline=self._point(wait.deadline),
                done=wait.done,
                expected=wait.expected,
            )

    def wait_ended(self, wait: Wait) -> None:
        if self._known(wait) is not None:  # else it is of another loop, or began before
            self._add(
                "wait ended",
                wait.operation,
                wait.task,
                wait=self._end("wait", wait),
                outcome=wait.outcome,
                limit=wait.limit or None,
                deadline=self._point(wait.deadline),
                done=wait.done,
                error=None if wait.error is None else _reason(wait.error),
            )

    def timed_out(self, error: DeadlineExceeded) -> None:
        if self.belongs_to(asyncio.get_running_loop()):
            self._add(
                "timed out",
                error.operation,
                asyncio.current_task(),
                limit=error.limit,
                seconds=error.seconds,
                elapsed=error.elapsed,
                peer=_address(error.peer),
                done=error.done,
                expected=error.expected,
            )

    def stream_opened(self, stream: Stream) -> None:
        channel = stream._channel
        if self.belongs_to(channel.loop):
            self._add_of_stream("stream opened", stream, self._begin("stream", channel, stream))

    def stream_closed(self, stream: Stream, reason: str) -> None:
        channel = stream._channel
        if self.belongs_to(channel.loop):
            statistics = stream.statistics()
            self._add_of_stream(
                "stream closed",
                stream,
                self._end("stream", channel, stream),
                reason=reason,
                bytes_received=statistics.bytes_received,
                bytes_sent=statistics.bytes_sent,
                unread=statistics.buffered,
            )

    def marked(self, name: str, category: str, details: Mapping[str, object]) -> None:
        if self.belongs_to(asyncio.get_running_loop()):
            plain = {str(key): _plain(value) for key, value in details.items()}
            self._write(str(category), str(name), self._name(asyncio.current_task()), plain)

    # How it is written down. ------------------------------------------------------------------

    def _add_of_stream(self, kind: str, stream: Stream, number: int, **details: Plain) -> None:
        task = asyncio.current_task(stream._channel.loop)
        local, peer = _address(stream.local), _address(stream.peer)
        name = f"stream {number}"
        self._add(kind, name, task, stream=number, local=local, peer=peer, **details)

    def _add(
        self, kind: str, name: str, task: asyncio.Task[object] | None, **details: Plain
    ) -> None:
        self._write(kind, name, self._name(task), details)

    def _write(self, kind: str, name: str, task: str, details: Mapping[str, Plain]) -> None:
        loop = None if self._loop is None else self._loop()
        if self._ended is not None or loop is None:
            return
        if len(self.events) >= self._max_events:
            self.left_out += 1
            return
        time = loop.time() - self._origin
        self.events.append(TimelineEvent(time, kind, task, name, details))

    def _known(self, thing: object) -> int | None:
        """The number of what has begun and not ended; None: it is not known."""
        number, ref = self._numbers.get(id(thing), (None, None))
        owner = None if ref is None else ref()
        # Once a thing is gone, another one may have its identity.
        return number if owner is thing or getattr(owner, "_channel", None) is thing else None

    def _begin(self, what: str, thing: object, owner: object = None) -> int:
        """Give it a number; `owner`: what lives as long, of a thing that can't be asked."""
        self._counts[what] += 1
        self._numbers[id(thing)] = (self._counts[what], weakref.ref(owner or thing))
        return self._counts[what]

    def _number(self, what: str, thing: object, owner: object = None) -> int:
        """Its number, a new one for what began before the recording did."""
        return self._known(thing) or self._begin(what, thing, owner)

    def _end(self, what: str, thing: object, owner: object = None) -> int:
        number = self._number(what, thing, owner)
        del self._numbers[id(thing)]
        return number

    def _point(self, when: float | None) -> float | None:
        """A `loop.time()` as seconds since the recording began; None: never."""
        return None if when is None or when == math.inf else when - self._origin

    def _name(self, task: asyncio.Task[Any] | None) -> str:
        """The task's name, which no other task has; the first time, it is told to be seen."""
        if task is None:
            return ""
        name = self._task_names.get(task)
        if name is None:
            name = _own_name(task)
            self._names_given[name] += 1
            if self._names_given[name] > 1:
                name = f"{name} #{self._names_given[name]}"
            self._task_names[task] = name
            self._write("task seen", name, name, {"within": self._scope_around(task)})
        return name

    def _scope_around(self, task: asyncio.Task[object]) -> int | None:
        """The number of the scope within which another task has started this one; None: of none.

        A task inherits the scopes of the one that starts it (law 6).
        """
        if task is asyncio.current_task(task.get_loop()):
            for scope in enclosing_scopes():
                number = None if scope._task is task else self._known(scope)
                if number is not None:
                    return number
        return None


def _own_name(task: asyncio.Task[Any]) -> str:
    """Its name, or that of its coroutine: asyncio's numbers count all tasks of the process."""
    name = task.get_name()
    if not _NUMBERED_BY_ASYNCIO.fullmatch(name):
        return name
    coroutine = task.get_coro()
    full = getattr(coroutine, "__qualname__", None) or getattr(coroutine, "__name__", "task")
    return str(full).rpartition("<locals>.")[2]


def _title(scope: Scope) -> str:
    return "scope" if scope.name is None else scope.name


def _length(scope: Scope) -> float:
    """As it was said, since what remains is that only nearly, as floats add up."""
    return scope.remaining() if scope._delay is None else max(0.0, scope._delay)


def _address(address: Address) -> str | None:
    return None if address is None else format_address(address)


def _reason(error: OSError) -> str:
    return error.strerror or type(error).__name__


def _plain(value: object) -> Plain:
    """What is no plain value as a text, and what only derives from one as what it is."""
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else str(float(value))
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, tuple) and len(value) >= 2 and isinstance(value[0], str):
        return format_address(value)
    return str(value)
