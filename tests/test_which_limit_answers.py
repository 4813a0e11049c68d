"""Which limit answers: every pairing of two, whichever is nearer, and those reached at once.

The nearest answers, at its point. Of those that are reached at once it is a scope, since the task
waits one turn for it (law 15), then the most specific: what this call was given, the deadlines of
the stream, its life, its silence, the floor of its speed.
"""

import dataclasses
import itertools
from typing import Any

import pytest
from limited import READS, WAITS, stuck_pair
from streams import Pair
from virtual import virtual_loop

import netio
from netio import Budget, Deadline, Rate

pytestmark = [pytest.mark.virtual_clock, pytest.mark.own_loop, pytest.mark.once]

# In the order in which they answer if they are reached at once.
OF_A_CALL = ("call", "default", "own deadline", "budget")
OF_A_STREAM = ("deadline", "directed deadline", "total", "idle", "min_rate")
ORDER = ("scope", *OF_A_CALL, *OF_A_STREAM)
FIELDS = ("total", "idle")


class Limits:
    """Some limits, each of which is reached so many seconds after the beginning."""

    def __init__(self, points: dict[str, float]) -> None:
        self.points = points

    def timeouts(self, name: str) -> netio.Timeouts:
        default = "read" if name in READS else "write"
        fields: dict[str, Any] = {field: self.points.get(field) for field in FIELDS}
        fields[default] = self.points.get("default")
        if "min_rate" in self.points:
            fields["min_rate"] = Rate(5, per=self.points["min_rate"])
        return netio.Timeouts(**fields)

    async def end(self, pair: Pair, name: str) -> Any:
        """What ends an operation that began at once with all of them."""
        near, far = pair
        if name in READS:
            await far.write(b"x")  # a transfer, for the floor
            if name.startswith("read_some"):
                await near.read_some()
        for attribute, given in (
            ("deadline", "deadline"),
            ("read_deadline" if name in READS else "write_deadline", "directed deadline"),
        ):
            if given in self.points:
                setattr(near, attribute, Deadline.at(self.points[given]))
        options = {
            "call": lambda seconds: {"timeout": seconds},
            "own deadline": lambda seconds: {"timeout": Deadline.after(seconds)},
            "budget": lambda seconds: {"timeout": Budget(seconds)},
        }
        own = [make(self.points[kind]) for kind, make in options.items() if kind in self.points]
        try:
            async with netio.timeout(self.points.get("scope")):
                await WAITS[name](near, **(own[0] if own else {}))
        except netio.DeadlineExceeded as error:
            return error
        raise AssertionError("it did not wait")

    def expected(self, name: str) -> tuple[str, float]:
        nearest = min(self.points.values())
        kind = next(kind for kind in ORDER if self.points.get(kind) == nearest)
        words = {
            "default": "read" if name in READS else "write",
            "own deadline": "deadline",
            "directed deadline": "deadline",
        }
        return words.get(kind, kind), nearest


PAIRS = [
    pair for pair in itertools.combinations(ORDER, 2) if not set(pair) <= set(OF_A_CALL)
]  # of which there is one
POINTS = {"at once": (3, 3), "the first": (2, 3), "the second": (3, 2), "far": (3, 50)}


@pytest.mark.parametrize("points", POINTS.values(), ids=POINTS)
@pytest.mark.parametrize("kinds", PAIRS, ids="-".join)
@pytest.mark.parametrize("name", WAITS)
async def test_the_nearest_of_two_answers_and_the_most_specific_of_equals(
    name: str, kinds: tuple[str, str], points: tuple[float, float]
) -> None:
    limits = Limits(dict(zip(kinds, points, strict=True)))
    async with stuck_pair(**fields(limits.timeouts(name))) as pair:
        error = await limits.end(pair, name)
        assert (error.limit, virtual_loop().time()) == limits.expected(name)
        assert error.operation == name
        assert error.peer == "memory:1"


@pytest.mark.parametrize("gone", range(2 + len(OF_A_STREAM)))
@pytest.mark.parametrize("own", OF_A_CALL)
@pytest.mark.parametrize("name", WAITS)
async def test_of_all_limits_at_once_each_answers_when_those_before_it_are_gone(
    name: str, own: str, gone: int
) -> None:
    kinds = ["scope", own, *OF_A_STREAM][gone:]
    limits = Limits(dict.fromkeys(kinds, 3))
    async with stuck_pair(**fields(limits.timeouts(name))) as pair:
        error = await limits.end(pair, name)
        assert (error.limit, virtual_loop().time()) == limits.expected(name)


@pytest.mark.parametrize("name", WAITS)
async def test_no_limit_at_all_waits_on(name: str) -> None:
    async with stuck_pair(read=None, write=None) as (near, _):
        async with netio.move_on_after(1000) as scope:
            await WAITS[name](near)
        assert scope.caught
        assert virtual_loop().timers() == []


def fields(timeouts: netio.Timeouts) -> dict[str, Any]:
    return {f.name: getattr(timeouts, f.name) for f in dataclasses.fields(timeouts)}
