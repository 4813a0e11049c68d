"""What the proofs of races share: `netio.testing` explores, here is how one operation is judged.

The language of schedules is that of `netio.testing` (`docs/testing-exploring.md`). The proofs play
theirs on the loop of the test, stock, debug, eager or uvloop, and most of them on real sockets.
"""

import asyncio
import sys
from collections.abc import Callable, Coroutine, Iterable, Mapping
from typing import Any, Protocol

from netio.testing import CounterExample, Event, Exploration, Stage, explore_here
from netio.testing._exploring.notation import gaps
from netio.testing.events import CANCEL, SCOPE

NEXT, FAR = gaps(1), gaps(2)  # what may stand between two events
# One case in so many is played, another share on each Python. One run on the stock loop plays all.
SHARES = {"stock": 1, "debug": 15, "eager": 2, "uvloop": 3}
TICKS = 12  # more than any operation needs to be over, once something has ended its wait
WAITS = "."  # what has happened last to an operation that is not over when they have passed

Acts = dict[str, Callable[[], object]]


def events_of(**words: str) -> dict[str, Event]:
    """Events whose acts each case has; the cancel from outside and the scope are the kit's."""
    return {"c": CANCEL, "s": SCOPE, **{letter: Event(text) for letter, text in words.items()}}


class Play:
    """One operation, in a task and in a scope, and what the schedule of a stage makes of it."""

    def __init__(self, stage: Stage, operation: Coroutine[Any, Any, Any]) -> None:
        self.happened = ""
        self.inner: BaseException | None = None  # what the operation itself raised
        self.count_inside = 0  # Task.cancelling() at that moment
        self._stage = stage
        stage.start(self._watch(operation))
        self.task = stage.task
        self.scope = stage.scope

    async def _watch(self, operation: Coroutine[Any, Any, Any]) -> Any:
        try:
            return await operation
        except BaseException as error:
            self.inner = error
            self.count_inside = self.task.cancelling()
            raise

    async def outcome(self, acts: Acts) -> Any:
        """Play it to the end: what the operation has returned, or the exception it has raised."""
        outcome = await self._stage.outcome(acts, ticks=TICKS)
        self.happened = outcome.happened + (WAITS if outcome.waits else "")
        return self.inner if outcome.cancelled else outcome.error or outcome.value


class Bench(Protocol):
    """Where the cases of one operation are played, one after the other."""

    name: str
    events: Mapping[str, Event]

    async def play(self, stage: Stage) -> None:
        """One case, with all that must hold after it."""

    def close(self) -> None:
        """Leave nothing behind."""


async def play_all(bench: Bench, schedules: Iterable[str]) -> Exploration:
    """Play each of them once. An error says which one it was, and how to play it alone."""

    async def scenario(stage: Stage) -> None:
        try:
            await bench.play(stage)
        except BaseException:
            bench.close()  # the next case must not meet what this one has left
            raise

    try:
        return await explore_here(scenario, events=bench.events, schedules=schedules)
    except CounterExample as found:
        found.add_note(f"to play it alone: replay({bench.name!r}, {found.schedule!r})")
        raise
    finally:
        bench.close()


def thinned(schedules: Iterable[str], count: int, loop_variant: str) -> list[str]:
    """All, which are `count` distinct ones, or the share of this kind of loop on this Python."""
    cases = list(dict.fromkeys(schedules))
    assert len(cases) == count
    share = SHARES[loop_variant]
    return cases[sys.version_info.minor % share :: share]


def plays_all(loop_variant: str) -> bool:
    """Whether this run leaves out none of the orders."""
    return SHARES[loop_variant] == 1


def check_played(exploration: Exploration, cases: Iterable[str]) -> None:
    """All cases were, and each event of them has really happened."""
    cases = set(cases)
    assert exploration.schedules == len(cases)
    assert set(exploration.happened) == set("".join(cases)) - set("|/")


def play_alone(bench: Bench, schedule: str) -> None:
    """Play one case on a loop of its own, for a debugger."""

    async def main() -> None:
        try:
            await bench.play(Stage(schedule, bench.events))
        finally:
            bench.close()

    asyncio.run(main(), debug=True)
