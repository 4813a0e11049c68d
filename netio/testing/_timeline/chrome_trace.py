"""A recording in the Trace Event Format, which Perfetto and chrome://tracing open.

One track a task. Waits and scopes are complete events (``X``), nested as they were in time; what
does not nest (a scope that was left out of order) and the streams, which cross all tasks, are
asynchronous events (``b`` and ``e``), and limits, marks and faults are instants (``i``). Times are
microseconds. The format: "Trace Event Format", Google, 2016, which Perfetto documents as its own.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

from netio.testing._timeline.words import clean

if TYPE_CHECKING:
    from collections.abc import Iterator

    from netio.testing._timeline.event import Plain
    from netio.testing._timeline.spans import (
        Moment,
        ScopeSpan,
        Story,
        StreamSpan,
        TaskSpan,
        WaitSpan,
    )

_PROCESS: Final = 1
_FIRST: Final = 2  # track: Perfetto gives 0 no name, and takes that of the process for its main one

Event = dict[str, Any]  # as JSON has it


def chrome_trace(story: Story, *, virtual: bool) -> str:
    """The trace as JSON text, with one event a line."""
    # A moment comes before what begins with it, so that it is not taken for a part of that.
    events = sorted(_events(story), key=lambda event: (event["ts"], event["ph"] != "i"))
    lines = ",\n".join(map(_line, [*_names(story), *events]))
    about = json.dumps({"clock": "virtual" if virtual else "real", "recorded by": "netio.testing"})
    return f'{{"traceEvents": [\n{lines}\n],\n"displayTimeUnit": "ms",\n"otherData": {about}}}\n'


def _line(event: Event) -> str:
    """As UTF-8, since Perfetto shows escapes as they stand."""
    return clean(json.dumps(event, allow_nan=False, ensure_ascii=False))


def _names(story: Story) -> Iterator[Event]:
    yield _meta("process_name", _FIRST, {"name": "netio"})
    for number, task in enumerate(story.tasks, _FIRST):
        yield _meta("thread_name", number, {"name": task.name})
        yield _meta("thread_sort_index", number, {"sort_index": number})
    yield _meta("thread_name", _outside(story), {"name": "outside tasks"})
    yield _meta("thread_sort_index", _outside(story), {"sort_index": 0})


def _outside(story: Story) -> int:
    """The track of what the loop does outside any task."""
    return _FIRST + len(story.tasks)


def _meta(name: str, track: int, args: dict[str, Plain]) -> Event:
    return {"ph": "M", "name": name, "pid": _PROCESS, "tid": track, "args": args}


def _events(story: Story) -> Iterator[Event]:
    tracks = {task.name: number for number, task in enumerate(story.tasks, _FIRST)}
    for task in story.tasks:
        yield from _task(task, tracks[task.name], story.duration)
    for stream in story.streams:
        yield from _stream(stream, tracks.get(stream.task, _outside(story)), story.duration)
    for moment in story.moments:
        yield _instant(moment, _outside(story))


def _task(task: TaskSpan, track: int, end: float) -> Iterator[Event]:
    spans = [_scope_span(scope, end) for scope in task.scopes]
    spans += [_wait_span(wait, end) for wait in task.waits]
    # Outer ones first, where several begin at once, so that they are told apart by the order.
    spans.sort(key=lambda span: (span[0], -span[1]))
    around: list[int] = []
    for number, (begin, until, event) in enumerate(spans):
        event |= {"pid": _PROCESS, "tid": track}
        while around and around[-1] <= begin and not (begin == until == around[-1]):
            around.pop()
        if around and around[-1] < until:
            yield from _async(event, begin, until, f"{track}.{number}")
            continue
        around.append(until)
        yield {**event, "ph": "X", "ts": _microseconds(begin), "dur": _microseconds(until - begin)}
    for scope in task.scopes:
        if scope.fired is not None:
            name = f"{_title(scope)} {'is cancelled' if scope.by_hand else 'fires'}"
            yield _instant_event(name, "limit", scope.fired, track, {})
    for moment in task.moments:
        yield _instant(moment, track)


def _scope_span(scope: ScopeSpan, end: float) -> tuple[int, int, Event]:
    args: dict[str, Plain] = {
        "ended": scope.ending,
        "limit (s)": scope.seconds,
        "deadline at (s)": scope.deadline,
    }
    until = end if scope.ended is None else scope.ended
    event = {"name": _title(scope), "cat": "scope", "args": _known(args)}
    return _nanoseconds(scope.began), _nanoseconds(until), event


def _wait_span(wait: WaitSpan, end: float) -> tuple[int, int, Event]:
    args = {**wait.details, "ended": wait.how or "still waiting", "by": wait.cut_by or None}
    until = end if wait.ended is None else wait.ended
    event = {"name": wait.operation, "cat": wait.family, "args": _known(args)}
    return _nanoseconds(wait.began), _nanoseconds(until), event


def _stream(stream: StreamSpan, track: int, end: float) -> Iterator[Event]:
    event = {
        "name": f"stream {stream.number}: {stream.title}",
        "cat": "stream",
        "pid": _PROCESS,
        "tid": track,
        "args": _known(stream.details),
    }
    begin = _nanoseconds(stream.opened or 0.0)
    until = _nanoseconds(end if stream.closed is None else stream.closed)
    yield from _async(event, begin, until, f"stream {stream.number}")


def _async(event: Event, begin: int, until: int, number: str) -> Iterator[Event]:
    place = {"id2": {"local": number}}  # of this process; else Perfetto puts it under "global"
    yield {**event, "ph": "b", "ts": _microseconds(begin), **place}
    yield {**event, "ph": "e", "ts": _microseconds(until), **place, "args": {}}


def _instant(moment: Moment, track: int) -> Event:
    limit = moment.category == "limit"
    name = f"limit of {moment.name}" if limit else moment.name
    return _instant_event(name, moment.category, moment.time, track, moment.details)


def _instant_event(
    name: str, category: str, time: float, track: int, details: dict[str, Plain]
) -> Event:
    return {
        "ph": "i",
        "s": "t",  # of its track
        "name": name,
        "cat": category,
        "pid": _PROCESS,
        "tid": track,
        "ts": _microseconds(_nanoseconds(time)),
        "args": _known(details),
    }


def _title(scope: ScopeSpan) -> str:
    return scope.name if scope.name == "scope" else f"scope {scope.name}"


def _known(details: dict[str, Plain]) -> dict[str, Plain]:
    return {key: value for key, value in details.items() if value is not None}


def _nanoseconds(seconds: float) -> int:
    """Whole ones, so that what begins where another ends does so exactly."""
    return round(seconds * 1e9)


def _microseconds(nanoseconds: int) -> int | float:
    return nanoseconds // 1000 if nanoseconds % 1000 == 0 else nanoseconds / 1000
