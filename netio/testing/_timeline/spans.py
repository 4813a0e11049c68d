"""What is drawn of a recording: its events put together to waits, scopes, tasks and streams.

The events are all that this knows; a recording that begins in the middle of things, or was cut, has
ends without beginnings and the other way round, and still makes a story.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from netio.testing._timeline.event import Plain, TimelineEvent

#: Operations of one kind look alike: by the beginning of their names.
FAMILIES: Final = ("read", "write", "connect", "accept")


@dataclasses.dataclass(slots=True, eq=False)
class WaitSpan:
    """A wait of an operation. All times are seconds since the recording began.

    Attributes:
        ended: None if it goes on when the recording ends.
        how: how it ended: ``"ready"``, ``"limit"`` (one of its own was reached), ``"scope"`` (one
            has cut it), ``"cancelled"``, ``"failed"``, ``"end"``, ``"closed"``; ``""``: not yet.
        cut_by: the limit, the scope or the error that ended it, in words.
    """

    number: int
    task: str
    operation: str
    began: float
    details: dict[str, Plain]
    ended: float | None = None
    how: str = ""
    cut_by: str = ""

    @property
    def hit(self) -> bool:
        """Whether a limit has ended it."""
        return self.how in ("limit", "scope")

    @property
    def family(self) -> str:
        """What kind of operation it is: one of `FAMILIES`, or ``"other"``."""
        return next((f for f in FAMILIES if self.operation.startswith(f)), "other")

    @property
    def progress(self) -> str:
        """The bytes it had at the end, in words; ``""`` where it moves none."""
        done, expected = self.details.get("done"), self.details.get("expected")
        if expected is not None:
            return f"{done} of {expected} bytes"
        return f"{done} bytes" if done else ""


@dataclasses.dataclass(slots=True, eq=False)
class ScopeSpan:
    """A scope, from entering to leaving. All times are seconds since the recording began.

    Attributes:
        depth: how many scopes of its task stand around it.
        seconds: its length as it was entered; None: no limit.
        deadline: where its limit was at last; None: no limit.
        fired: when it cut its block; None: it did not.
        ended: None if its block goes on when the recording ends.
    """

    number: int
    task: str
    name: str
    began: float
    depth: int
    seconds: float | None = None
    deadline: float | None = None
    fired: float | None = None
    by_hand: bool = False
    ended: float | None = None
    caught: bool = False
    error: str | None = None

    @property
    def hit(self) -> bool:
        """Whether its limit was reached."""
        return self.fired is not None and not self.by_hand

    @property
    def ending(self) -> str:
        """How it ended, in words."""
        if self.fired is None:
            if self.ended is None:
                return "not left yet"
            if self.error is None:
                return "finished in time"
            return "cancelled" if self.error == "CancelledError" else f"raised {self.error}"
        what = "cancelled by hand" if self.by_hand else "fired"
        if self.ended is None:
            return f"{what}, and not left yet"
        if self.caught:
            return what
        if self.error is None:
            return f"{what}, but its block ended all the same"
        if self.error == "CancelledError":
            return f"{what}, but what is around it answered"
        return f"{what}, but raised {self.error}"


@dataclasses.dataclass(slots=True, eq=False)
class Moment:
    """Something that has no length: a mark, a fault that fired, a limit of an operation.

    Attributes:
        of_wait: it is told by a wait already, which a limit has ended.
    """

    time: float
    category: str
    name: str
    task: str
    details: dict[str, Plain]
    of_wait: bool = False


@dataclasses.dataclass(slots=True, eq=False)
class StreamSpan:
    """A stream, from opening to closing; None: before, or after the recording."""

    number: int
    task: str
    opened: float | None = None
    closed: float | None = None
    details: dict[str, Plain] = dataclasses.field(default_factory=dict)

    @property
    def title(self) -> str:
        """Both its ends, in words."""
        ends = [self.details.get("local"), self.details.get("peer")]
        return " → ".join(str(end or "no name") for end in ends) if any(ends) else "without names"


@dataclasses.dataclass(slots=True, eq=False)
class TaskSpan:
    """A task, from the first to the last that is known of it.

    Attributes:
        parent: the task in a scope of which it was started; None: of none.
        level: how many parents it has.
        open: whether it is in the middle of something when the recording ends.
    """

    name: str
    first: float
    last: float
    parent: str | None = None
    level: int = 0
    open: bool = False
    scopes: list[ScopeSpan] = dataclasses.field(default_factory=list)
    waits: list[WaitSpan] = dataclasses.field(default_factory=list)
    moments: list[Moment] = dataclasses.field(default_factory=list)

    @property
    def only_accepts(self) -> bool:
        """Whether it is a server's task that waits for connections, and does nothing else."""
        return bool(self.waits) and all(wait.family == "accept" for wait in self.waits)


@dataclasses.dataclass(slots=True, eq=False)
class Firing:
    """A limit that was reached: of an operation, or a scope.

    Attributes:
        wait: what was waited for at that moment, where that is known.
        scope: the scope, if it is one.
    """

    time: float
    task: str
    name: str
    details: dict[str, Plain]
    wait: WaitSpan | None = None
    scope: ScopeSpan | None = None


@dataclasses.dataclass(slots=True, eq=False)
class Story:
    """A whole recording; tasks stand behind the one in a scope of which they were started."""

    duration: float
    events: int
    tasks: list[TaskSpan]
    streams: list[StreamSpan]
    moments: list[Moment]
    firings: list[Firing]

    def task(self, name: str) -> TaskSpan | None:
        """The task of that name."""
        return next((task for task in self.tasks if task.name == name), None)


class _Teller:
    """Reads the events in order, and remembers what is open."""

    def __init__(self) -> None:
        self.tasks: dict[str, TaskSpan] = {}
        self.scopes: dict[int, ScopeSpan] = {}
        self.waits: dict[int, WaitSpan] = {}
        self.streams: dict[int, StreamSpan] = {}
        self.moments: list[Moment] = []
        self.firings: list[Firing] = []
        self._inside: dict[str, list[ScopeSpan]] = {}  # the scopes that each task stands in

    def read(self, event: TimelineEvent) -> None:
        if event.task:
            self._task(event).last = event.time
        readers = {
            "task seen": self._task_seen,
            "scope entered": self._scope_entered,
            "scope fired": self._scope_fired,
            "scope left": self._scope_left,
            "wait began": self._wait_began,
            "wait ended": self._wait_ended,
            "timed out": self._timed_out,
            "stream opened": self._stream_opened,
            "stream closed": self._stream_closed,
        }
        readers.get(event.kind, self._marked)(event)

    def _task(self, event: TimelineEvent) -> TaskSpan:
        if event.task not in self.tasks:
            self.tasks[event.task] = TaskSpan(event.task, event.time, event.time)
        return self.tasks[event.task]

    def _task_seen(self, event: TimelineEvent) -> None:
        around = self.scopes.get(_number(event, "within"))
        if around is not None and around.task in self.tasks:
            self._task(event).parent = around.task

    def _scope_entered(self, event: TimelineEvent) -> None:
        task = self._task(event)
        inside = self._inside.setdefault(event.task, [])
        taken = {scope.depth for scope in inside}
        depth = next(d for d in range(len(taken) + 1) if d not in taken)
        scope = ScopeSpan(_number(event, "scope"), event.task, event.name, event.time, depth)
        scope.seconds = _seconds(event.details.get("seconds"))
        scope.deadline = _seconds(event.details.get("deadline"))
        self.scopes[scope.number] = scope
        task.scopes.append(scope)
        inside.append(scope)

    def _scope(self, event: TimelineEvent) -> ScopeSpan:
        """The scope of an event; one that was entered before the recording began is so then."""
        number = _number(event, "scope")
        if number not in self.scopes:
            scope = ScopeSpan(number, event.task, event.name, 0.0, 0)
            self.scopes[number] = scope
            self._task(event).scopes.append(scope)
            self._inside.setdefault(event.task, []).append(scope)
        self.scopes[number].deadline = _seconds(event.details.get("deadline"))
        return self.scopes[number]

    def _scope_fired(self, event: TimelineEvent) -> None:
        scope = self._scope(event)
        scope.fired = event.time
        scope.by_hand = bool(event.details.get("by_hand"))
        waits = self._task(event).waits
        wait = waits[-1] if waits and waits[-1].ended is None else None
        if not scope.by_hand:
            details = dict(event.details)
            self.firings.append(Firing(event.time, event.task, event.name, details, wait, scope))

    def _scope_left(self, event: TimelineEvent) -> None:
        scope = self._scope(event)
        scope.ended = event.time
        scope.caught = bool(event.details.get("caught"))
        error = event.details.get("error")
        scope.error = None if error is None else str(error)
        inside = self._inside.get(scope.task, [])
        if scope in inside:
            inside.remove(scope)

    def _wait_began(self, event: TimelineEvent) -> None:
        number = _number(event, "wait")
        wait = WaitSpan(number, event.task, event.name, event.time, dict(event.details))
        self.waits[number] = wait
        self._task(event).waits.append(wait)

    def _wait_ended(self, event: TimelineEvent) -> None:
        wait = self.waits.get(_number(event, "wait"))
        if wait is None:
            return
        wait.ended = event.time
        wait.details |= event.details
        wait.how = str(event.details.get("outcome", ""))
        wait.cut_by = str(event.details.get("error") or "")
        if wait.how == "cancelled":
            inside = self._inside.get(event.task, [])
            scope = next((s for s in reversed(inside) if s.fired is not None), None)
            if scope is not None:
                wait.how, wait.cut_by = "scope", scope.name

    def _timed_out(self, event: TimelineEvent) -> None:
        task = self._task(event)
        wait = task.waits[-1] if task.waits else None
        elapsed = _seconds(event.details.get("elapsed")) or 0.0
        if wait is not None and wait.began < event.time - elapsed - 1e-6:
            wait = None  # of an operation before: this one did not have to wait
        if wait is not None and wait.operation == event.name and wait.how == "ready":
            wait.how, wait.cut_by = "limit", str(event.details.get("limit"))
        details = dict(event.details)
        before = self.firings[-1] if self.firings else None
        if before is not None and before.scope is None and wait and before.wait is wait:
            self.firings.pop()  # a part, an attempt for instance; and now the whole
        self.firings.append(Firing(event.time, event.task, event.name, details, wait))
        told = wait is not None and wait.hit
        task.moments.append(Moment(event.time, "limit", event.name, event.task, details, told))

    def _stream(self, event: TimelineEvent) -> StreamSpan:
        number = _number(event, "stream")
        stream = self.streams.setdefault(number, StreamSpan(number, event.task))
        stream.details |= event.details
        return stream

    def _stream_opened(self, event: TimelineEvent) -> None:
        self._stream(event).opened = event.time

    def _stream_closed(self, event: TimelineEvent) -> None:
        self._stream(event).closed = event.time

    def _marked(self, event: TimelineEvent) -> None:
        moment = Moment(event.time, event.kind, event.name, event.task, dict(event.details))
        (self._task(event).moments if event.task else self.moments).append(moment)


def story_of(events: Iterable[TimelineEvent], duration: float) -> Story:
    """Put `events` together; `duration` is where the recording ends, in seconds."""
    teller = _Teller()
    count = 0
    for event in events:
        teller.read(event)
        count += 1
    for task in teller.tasks.values():
        open_waits = any(wait.ended is None for wait in task.waits)
        task.open = open_waits or any(scope.ended is None for scope in task.scopes)
    return Story(
        duration,
        count,
        list(_behind_their_parents(teller.tasks)),
        list(teller.streams.values()),
        teller.moments,
        teller.firings,
    )


def _behind_their_parents(tasks: Mapping[str, TaskSpan]) -> Iterable[TaskSpan]:
    children: dict[str | None, list[TaskSpan]] = {}
    for task in tasks.values():
        children.setdefault(task.parent, []).append(task)
    # Those that only accept wait all the time, and tell the least: the last ones.
    stack = sorted(children.get(None, []), key=lambda task: task.only_accepts)[::-1]
    while stack:
        task = stack.pop()
        yield task
        for child in reversed(children.get(task.name, [])):
            child.level = task.level + 1
            stack.append(child)


def _number(event: TimelineEvent, key: str) -> int:
    number = event.details.get(key)
    return number if isinstance(number, int) else 0


def _seconds(value: Plain) -> float | None:
    return float(value) if isinstance(value, (int, float)) else None
