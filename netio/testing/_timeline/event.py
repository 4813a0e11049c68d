"""What a timeline is made of: plain events, which compare equal where two runs did the same."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

#: What the details of an event are.
Plain = str | int | float | bool | None


@dataclasses.dataclass(frozen=True, slots=True)
class TimelineEvent:
    """One thing that happened in a recorded run, in plain values that can be compared.

    Attributes:
        time: seconds since the recording began.
        kind: what happened: ``"task seen"``, ``"scope entered"``, ``"scope fired"``,
            ``"scope left"``, ``"wait began"``, ``"wait ended"``, ``"timed out"``,
            ``"stream opened"``, ``"stream closed"``, or the category of a mark: ``"mark"``, or
            ``"fault"`` for a fault of the test kit that fired.
        task: the name of the task, or ``""``. A task that was given no name has that of its
            coroutine function; of those with one name the second is called ``"name #2"``.
        name: of the task, the scope, the operation, the stream or the mark.
        details: what else is known: numbers (of seconds and of bytes), texts, True, False, None.
            Points in time are seconds since the recording began; the numbers of scopes, waits and
            streams tell which events belong together.
    """

    time: float
    kind: str
    task: str
    name: str
    details: Mapping[str, Plain]

    def __str__(self) -> str:
        known = [f"{key}={value}" for key, value in self.details.items() if value is not None]
        return "  ".join([f"{self.time:.6f}", self.task or "-", self.kind, self.name, *known])
