"""Where the time of a deadline went: what its task waited for, and who else was at work in it."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from netio.testing._timeline.event import Plain
    from netio.testing._timeline.spans import ScopeSpan, Story, TaskSpan, WaitSpan


@dataclasses.dataclass(slots=True, eq=False)
class Piece:
    """A part of the time that a scope took, of its own task's waits or of what is left.

    Attributes:
        wait: one of the waits it is of, to tell what it looks like; None: no wait of netio.
    """

    name: str
    seconds: float
    count: int = 1
    wait: WaitSpan | None = None


def pieces_of(scope: ScopeSpan, story: Story) -> list[Piece]:
    """Where the time of `scope` went: its task's waits by operation and peer, and the rest.

    In the order in which each began; together they are the time from entering to leaving.
    """
    end = story.duration if scope.ended is None else scope.ended
    task = story.task(scope.task)
    pieces: dict[tuple[str, Plain, str], Piece] = {}
    rest = end - scope.began
    for wait in task.waits if task else ():
        until = end if wait.ended is None else min(wait.ended, end)
        seconds = until - max(wait.began, scope.began)
        if seconds <= 0:
            continue
        rest -= seconds
        peer = wait.details.get("peer")
        name = wait.operation if peer is None else f"{wait.operation}, peer {peer}"
        piece = pieces.setdefault((wait.operation, peer, wait.how), Piece(name, 0.0, 0, wait))
        piece.seconds += seconds
        piece.count += 1
    found = list(pieces.values())
    return [*found, Piece("not waiting in netio", rest)] if rest > 1e-9 or not found else found


def tasks_within(scope: ScopeSpan, story: Story) -> list[TaskSpan]:
    """The tasks that were started by the task of `scope` while it was inside."""
    end = story.duration if scope.ended is None else scope.ended
    children = [task for task in story.tasks if task.parent == scope.task]
    return [task for task in children if scope.began <= task.first <= end]
