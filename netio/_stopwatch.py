"""A stopwatch that runs while anybody waits: time in which nobody does, does not count.

Two who wait at once are counted once. All times are `loop.time()`, in seconds.
"""

from __future__ import annotations


class Stopwatch:
    """Time during which anybody waited.

    Attributes:
        passed: seconds counted until the last time that it stopped.
        since: when it began to run, if it runs.
        waiting: how many wait; it runs while anybody does.
    """

    __slots__ = ("passed", "since", "waiting")

    def __init__(self) -> None:
        self.passed = 0.0
        self.since = 0.0
        self.waiting = 0

    def start(self, now: float) -> None:
        """One more waits."""
        if not self.waiting:
            self.since = now
        self.waiting += 1

    def stop(self, now: float) -> None:
        """One of those who wait does so no more."""
        self.waiting -= 1
        if not self.waiting:
            self.passed += now - self.since

    def read(self, now: float) -> float:
        """Seconds counted so far."""
        return self.passed + (now - self.since) if self.waiting else self.passed

    def when(self, reading: float) -> float:
        """The point at which it reads `reading`, if it runs on from now."""
        return self.since + (reading - self.passed)
