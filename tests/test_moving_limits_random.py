"""Random courses of reads under a silence and a floor: what must come of them is computed.

A program reads again and again, each time for a while, and pauses between. Its reads are never
satisfied, so that silence and floor go on from one to the next. The model knows the whole course in
advance, and looks at each window of it. Time is virtual; what is planned lies on a grid, and bytes
come between its points, so that no two things happen at once.
"""

import asyncio
import dataclasses
import random

import pytest
from limited import stuck_pair
from streams import outcome_of
from virtual import virtual_loop

import netio
from netio import Rate

pytestmark = pytest.mark.own_loop

GRID = 0.25
BETWEEN = 0.11  # when bytes come, after a point of the grid


@dataclasses.dataclass
class Course:
    """What is going to happen, if no limit of the connection is reached before."""

    reads: list[tuple[float, float]]  # from when to when somebody waits
    arrivals: list[tuple[float, int]]  # when how much comes
    idle: float | None
    rate: Rate | None

    def received(self) -> list[tuple[float, int]]:
        """When it is noticed: at once by who waits, else by the next read."""
        found = []
        for when, size in self.arrivals:
            begins = [max(begin, when) for begin, end in self.reads if when < end]
            if begins:
                found.append((begins[0], size))
        return found

    def waited(self, start: float, end: float) -> float:
        """For how long somebody waited, between two points."""
        spans = [(max(start, b), min(end, e)) for b, e in self.reads]
        return sum(max(0.0, e - b) for b, e in spans)

    def after(self, start: float, seconds: float) -> float | None:
        """When so much has been waited since `start`; None: never."""
        left = seconds
        for begin, end in self.reads:
            begin = max(begin, start)
            if end - begin >= left > 0 and end > begin:
                return begin + left
            left -= max(0.0, end - begin)
        return None

    def silence_ends(self) -> float | None:
        if self.idle is None:
            return None
        moments = [0.0, *(when for when, _ in self.received())]
        for moment, following in zip(moments, [*moments[1:], float("inf")], strict=True):
            end = self.after(moment, self.idle)
            if end is not None and end < following:
                return end
        return None

    def too_slow(self) -> float | None:
        """When a window, of time waited since the first byte, has too little for the first time."""
        received = self.received()
        if self.rate is None or not received:
            return None
        first = received[0][0]
        clocked = [(self.waited(first, when), size) for when, size in received]
        per = self.rate.per
        for end in sorted({per, *(when + per for when, _ in clocked)}):
            inside = sum(size for when, size in clocked if when <= end < when + per)
            if end >= per and inside < self.rate.bytes:
                return self.after(first, end)
        raise AssertionError("after the last byte nothing comes")


def random_course(random_: random.Random) -> Course:
    reads, now = [], 0.0
    for _ in range(random_.randint(1, 12)):
        now += GRID * random_.choice([0, 0, 1, 4, 20])
        span = GRID * random_.choice([1, 2, 3, 7, 30])
        reads.append((now, now + span))
        now += span
    points = int(now / GRID)
    count = random_.choice([0, 1, points // 8, points // 2, points])
    moments = sorted(random_.sample(range(points), min(count, points)))
    arrivals = [(GRID * k + BETWEEN, random_.choice([1, 1, 2, 9])) for k in moments]
    return Course(
        reads,
        arrivals,
        idle=random_.choice([None, 1.03, 3.03]),
        rate=random_.choice([None, Rate(1, per=2.07), Rate(6, per=2.07), Rate(6, per=8.07)]),
    )


async def play(course: Course) -> tuple[str, float] | None:
    """The first limit of the connection that was reached, and when."""
    timeouts = {"idle": course.idle, "min_rate": course.rate, "read": None}
    async with stuck_pair(**timeouts) as (near, far):
        sending = asyncio.create_task(send(far, course.arrivals))
        try:
            for begin, end in course.reads:
                await asyncio.sleep(max(0.0, begin - virtual_loop().time()))
                error = await outcome_of(near.read_exactly(9999, timeout=end - begin))
                if error.limit != "call":
                    return error.limit, virtual_loop().time()
                assert virtual_loop().time() == pytest.approx(end)
            return None
        finally:
            sending.cancel()


async def send(far: netio.Stream, arrivals: list[tuple[float, int]]) -> None:
    for when, size in arrivals:
        await asyncio.sleep(when - virtual_loop().time())
        await far.write(b"x" * size)


def may_be(course: Course) -> list[tuple[str, float, float] | None]:
    """What may be the first limit, and between which points."""
    silence, slow = course.silence_ends(), course.too_slow()
    late = 0.0
    if course.rate is not None and slow is not None:
        # A sixteenth of time waited, which pauses may stretch.
        late = (course.after(slow, course.rate.per / 16) or float("inf")) - slow
    found: list[tuple[str, float, float] | None] = []
    if silence is not None and (slow is None or silence <= slow + late):
        found.append(("idle", silence, silence))
    if slow is not None and (silence is None or slow <= silence):
        found.append(("min_rate", slow, slow + late))
    if silence is None and (slow is None or late == float("inf")):
        found.append(None)
    return found


@pytest.mark.parametrize("block", range(8))
@pytest.mark.virtual_clock
async def test_a_course_of_reads_ends_as_it_must(block: int) -> None:
    ends = set()
    began = 0.0
    for number in range(100):
        seed = 100 * block + number
        course = random_course(random.Random(seed))
        began = virtual_loop().time()
        course.reads = [(b + began, e + began) for b, e in course.reads]
        course.arrivals = [(w + began, s) for w, s in course.arrivals]
        end = await play(course)
        ends.add(end and end[0])
        fits = [
            expected is end is None
            or (
                expected is not None
                and end is not None
                and expected[0] == end[0]
                and expected[1] - 1e-6 <= end[1] <= expected[2] + 1e-6
            )
            for expected in may_be(course)
        ]
        assert any(fits), f"seed {seed}: {end}, not one of {may_be(course)}; {course}"
    assert ends == {None, "idle", "min_rate"}
