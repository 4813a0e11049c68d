"""What a page says of a thing: short, beside it, and in full where one points at it."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Final

from netio.testing._timeline.words import length

if TYPE_CHECKING:
    from collections.abc import Sequence

    from netio.testing._timeline.spans import Moment, ScopeSpan, StreamSpan, TaskSpan, WaitSpan

_HOW: Final = {
    "": "still waiting when the recording ended",
    "ready": "over when it had what it needed, or was woken to look again",
    "limit": "ended by a limit",
    "scope": "cut by scope",
    "cancelled": "cancelled from outside",
    "failed": "the connection failed",
    "end": "the peer ended the stream",
    "closed": "the stream was closed by this side",
}


def of_task(task: TaskSpan) -> str:
    """A task, in full."""
    waited = sum(wait.ended - wait.began for wait in task.waits if wait.ended is not None)
    lines = [f"task {task.name}", f"{len(task.waits)} waits, {length(waited)} in all"]
    if task.parent is not None:
        lines.append(f"started by task {task.parent}, inside a scope")
    return "\n".join(lines)


def of_wait(wait: WaitSpan) -> str:
    """A wait, in full."""
    details = wait.details
    lines = [wait.operation]
    if details.get("peer") is not None:
        lines.append(f"peer {details['peer']}")
    if details.get("stream") is not None:
        lines.append(f"stream {details['stream']}")
    took = "" if wait.ended is None else f", for {length(wait.ended - wait.began)}"
    lines.append(f"waits from {length(wait.began)} on{took}")
    deadline = details.get("deadline")
    if isinstance(deadline, (int, float)):
        lines.append(f"nearest limit: {details.get('limit')}, reached at {length(deadline)}")
    else:
        lines.append("no limit of its own")
    if wait.progress:
        lines.append(wait.progress)
    by = f": {wait.cut_by}" if wait.cut_by else ""
    return "\n".join([*lines, _HOW.get(wait.how, wait.how) + by])


def beside_wait(wait: WaitSpan) -> list[str]:
    """A wait, in fewer and fewer words."""
    name = wait.operation.removeprefix("connect_tcp: ")
    peer = wait.details.get("peer")
    full = name if peer is None else f"{name} · {peer}"
    if wait.how in ("ready", "") or not wait.progress:
        return [full, name]
    return [f"{full} · {wait.progress}", f"{name} · {wait.progress}", name]


def of_scope(scope: ScopeSpan) -> str:
    """A scope, in full."""
    limit = "no limit" if scope.seconds is None else f"limit {length(scope.seconds)}"
    lines = [f"{_title(scope)}, {limit}", f"entered at {length(scope.began)}"]
    if scope.deadline is not None:
        lines.append(f"deadline at {length(scope.deadline)}")
    if scope.fired is not None:
        lines.append(f"fired at {length(scope.fired)}")
    if scope.ended is not None:
        lines.append(f"left at {length(scope.ended)}, after {length(scope.ended - scope.began)}")
        if scope.fired is not None and scope.ended > scope.fired:
            lines.append(f"left {length(scope.ended - scope.fired)} after it fired")
    return "\n".join([*lines, scope.ending])


def beside_scope(scope: ScopeSpan) -> list[str]:
    """A scope, in fewer and fewer words."""
    name = _title(scope) if scope.name == "scope" else scope.name
    limit = "no limit" if scope.seconds is None else length(scope.seconds)
    in_time = scope.ended is not None and scope.fired is None and scope.error is None
    full = f"{name} ({limit})"
    return [full, name] if in_time else [f"{full}: {scope.ending}", full, name]


def _title(scope: ScopeSpan) -> str:
    return "scope" if scope.name == "scope" else f"scope {scope.name}"


def of_many(spans: Sequence[WaitSpan | ScopeSpan], names: Sequence[str]) -> str:
    """Several waits, or scopes, that are drawn as one."""
    seconds = sum(span.ended - span.began for span in spans if span.ended is not None)
    hits = sum(span.hit for span in spans)
    lines = [f"{len(spans)} from {length(spans[0].began)} on, {length(seconds)} in all"]
    if hits:
        lines.append(f"{hits} of them ended by a limit")
    most = Counter(names).most_common(5)
    lines += [f"{count} times {name}" for name, count in most]
    others = len(spans) - sum(count for _, count in most)
    return "\n".join([*lines, *([f"and {others} others"] if others else [])])


def of_moment(moment: Moment) -> str:
    """A mark, a fault or a limit, in full."""
    known = [f"{key}: {value}" for key, value in moment.details.items() if value is not None]
    return "\n".join([f"{moment.category}: {moment.name}", f"at {length(moment.time)}", *known])


def of_stream(stream: StreamSpan) -> str:
    """A stream, in full."""
    lines = [f"stream {stream.number}: {stream.title}"]
    if stream.opened is not None:
        lines.append(f"opened at {length(stream.opened)} by task {stream.task or '(none)'}")
    if stream.closed is None:
        return "\n".join([*lines, "still open when the recording ended"])
    lines.append(f"ended at {length(stream.closed)}: {beside_stream(stream)}")
    unread = stream.details.get("unread")
    return "\n".join([*lines, *([f"{unread} B unread"] if unread else [])])


def beside_stream(stream: StreamSpan) -> str:
    """A stream, in few words."""
    if stream.closed is None:
        return "open"
    received, sent = stream.details.get("bytes_received"), stream.details.get("bytes_sent")
    return f"{stream.details.get('reason')}, {received} B in, {sent} B out"
