"""How a measured process takes its own time."""

from __future__ import annotations

import time


class Stopwatch:
    """CPU time (user and system, of this process) and wall time, summed over timed pieces.

    with watch:
        ...  # timed
    """

    __slots__ = ("_cpu_from", "_wall_from", "cpu", "wall")

    def __init__(self) -> None:
        self.cpu = self.wall = 0.0  # seconds

    def __enter__(self) -> None:
        self._wall_from = time.perf_counter()
        self._cpu_from = time.process_time()

    def __exit__(self, *_: object) -> None:
        self.cpu += time.process_time() - self._cpu_from
        self.wall += time.perf_counter() - self._wall_from
