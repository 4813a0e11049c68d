"""The targets: what netio must not cost more than (the gate), and what it tries for (the aim).

Each is a ratio of two figures of one run: netio's by the other side's, less is better. They are
data, and a verdict beside the results; time fails no build.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator

from measure import Result
from sides import ours
from workloads import Workload


@dataclasses.dataclass(frozen=True)
class Target:
    workload: str
    loop: str
    against: str  # a side
    gate: float
    aim: float


TARGETS = (
    Target("ping-pong", "stock", "blocking", 1.6, 1.2),
    Target("echo-50", "stock", "protocol", 1.5, 1.1),
    Target("echo-50", "stock", "streams_timeout", 0.40, 0.30),
    Target("echo-50", "stock", "streams", 0.55, 0.40),
    Target("echo-50-fresh-heap", "stock", "streams_timeout", 0.40, 0.30),
    Target("echo-50-fresh-heap", "stock", "streams", 0.55, 0.40),
    Target("echo-50", "uvloop", "protocol", 1.45, 1.15),
    Target("echo-50", "uvloop", "streams_timeout", 0.60, 0.45),
    Target("echo-50", "uvloop", "streams", 1.05, 0.9),
    Target("echo-1000", "stock", "protocol", 1.5, 1.1),
    Target("echo-8000", "stock", "protocol", 1.5, 1.1),
    Target("echo-think", "stock", "streams_timeout", 0.55, 0.4),
    Target("udp-1", "stock", "queue", 1.0, 0.6),
    Target("udp-50", "stock", "queue", 1.0, 0.6),
    Target("buffer", "stock", "streams", 1.0, 0.7),
    Target("lines", "stock", "streams", 0.6, 0.3),
    Target("blocks-64k", "stock", "streams", 0.25, 0.15),
    Target("blocks-64k", "stock", "blocking_into", 1.5, 1.2),
    Target("blocks-64k-fresh-heap", "stock", "streams", 0.25, 0.15),
    Target("blocks-64k-fresh-heap", "stock", "blocking_into", 1.5, 1.2),
    Target("connect", "stock", "streams", 0.8, 0.5),
    Target("idle", "stock", "streams_timeout", 0.5, 0.35),
    Target("tls-echo", "stock", "streams", 0.9, 0.6),
    Target("tls-echo-64k", "stock", "streams", 0.9, 0.6),
    Target("tls-echo", "uvloop", "streams", 1.3, 0.9),
    Target("tls-echo-64k", "uvloop", "streams", 1.1, 0.9),
    Target("tls-idle", "stock", "streams", 0.5, 0.5),
    Target("scope", "stock", "asyncio_timeout", 1.1, 0.8),
)


def is_target(workload: Workload, loop: str) -> bool:
    """Whether any target names it."""
    return any((target.workload, target.loop) == (workload.name, loop) for target in TARGETS)


@dataclasses.dataclass(frozen=True)
class Verdict:
    target: Target
    ratio: float  # of the minima
    median: float

    @property
    def text(self) -> str:
        """By the minima; and by the median of the rounds, where that says something else."""
        text, other = self._judge(self.ratio), self._judge(self.median)
        return text if text == other else f"{text} (median: {other})"

    def _judge(self, ratio: float) -> str:
        if ratio > self.target.gate:
            return "gate missed"
        return "aim met" if ratio <= self.target.aim else "gate met"


def verdicts(results: Iterable[Result]) -> Iterator[Verdict]:
    """For each target that was measured."""
    measured = {(result.workload.name, result.loop): result for result in results}
    for target in TARGETS:
        result = measured.get((target.workload, target.loop))
        mine = ours(target.against)
        if result and mine in result.samples and target.against in result.samples:
            yield Verdict(target, *result.ratio(mine, target.against))
