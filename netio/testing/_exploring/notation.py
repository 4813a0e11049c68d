"""Schedules: what happens to a program that runs, in which turn of the loop, in which order.

A schedule is a string. A letter is an event; those that stand together happen in one turn, in this
order. ``|`` begins the next turn, ahead of what the turn before has woken, and ``/`` begins it
behind that, when the program has had its turn. In ``//`` there is a turn between in which nothing
happens. So in ``d|c`` a cancel comes in the turn after the data, just before the task that the data
woke; in ``d/c`` just after that; in ``dc`` and ``cd`` both come in one turn, in either order.

This file is the language alone: every schedule there is, what is shorter, and what one says.
"""

from __future__ import annotations

import itertools
import math
import re
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import random
    from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence

_TURN: Final = re.compile(r"(^|[|/])(\w*)")
_STEP: Final = re.compile(r"([|/]*)(\w)")


def gaps(ticks: int) -> tuple[str, ...]:
    """What may stand between two events that are at most so many turns apart.

    Between events that are two turns apart or more, only one side is worth playing: what the first
    one woke has run in either case.
    """
    return ("", "|", *("/" * n for n in range(1, ticks + 1))) if ticks else ("",)


def delays(ticks: int) -> tuple[str, ...]:
    """What may stand before the first event, when it comes in one of so many turns."""
    return tuple("/" * n for n in range(ticks + 1))


def orders(
    events: Iterable[str], size: int, legal: Callable[[str], bool] = lambda _: True
) -> Iterator[str]:
    """All orders of `size` of these events that can happen; one may be two letters, as "ab"."""
    for chosen in itertools.combinations(events, size):
        yield from filter(legal, map("".join, itertools.permutations("".join(chosen))))


def placements(order: str, between: Sequence[str], before: Sequence[str] = ("",)) -> Iterator[str]:
    """Every way to spread an order over the turns of the loop."""
    if not order:
        yield ""
        return
    for chosen in itertools.product(before, *[between] * (len(order) - 1)):
        yield "".join(itertools.chain(*zip(chosen, order, strict=True)))


def count_placements(size: int, ticks: int) -> int:
    """How many ways there are to spread an order of `size` events, by `gaps` and `delays`."""
    return len(delays(ticks)) * len(gaps(ticks)) ** (size - 1) if size else 1


def draw(order: str, ticks: int, chance: random.Random) -> str:
    """One of these ways, by chance."""
    between, before = gaps(ticks), delays(ticks)
    steps = [chance.choice(between if place else before) + e for place, e in enumerate(order)]
    return "".join(steps)


def parse(schedule: str) -> list[tuple[str, str]]:
    """For each turn: whether it is ahead of or behind what the one before woke, and its events."""
    return _TURN.findall(schedule)


def letters(schedule: str) -> str:
    """The events alone, in their order."""
    return re.sub(r"[|/]", "", schedule)


def check(schedule: str, known: Collection[str]) -> None:
    """ValueError for what is no schedule of these events."""
    if not isinstance(schedule, str):
        raise TypeError(f"schedule must be a str, not {type(schedule).__name__}")
    strange = set(schedule) - set(known) - {"|", "/"}
    if strange:
        told = ", ".join(map(repr, sorted(strange)))
        there = ", ".join(map(repr, known)) or "none"
        raise ValueError(
            f"the schedule {schedule!r} has {told}, which is no event in `events`, "
            f"which has {there}"
        )


def length(schedule: str) -> tuple[int, int, str]:
    """By this, schedules are put in order, the shortest first."""
    size = len(letters(schedule))
    return size, len(schedule) - size, schedule


def shorter(schedule: str) -> list[str]:
    """What is the same with one event less, or with less between two events; shortest first."""
    steps = _STEP.findall(schedule)
    found = {"".join(map("".join, steps))}  # without turns at the end, in which nothing happens
    for place, (gap, _) in enumerate(steps):
        head, [(_, event), *tail] = steps[:place], steps[place:]
        for less in ("", "|", *("/" * n for n in range(1, len(gap)))):
            if len(less) < len(gap):
                found.add("".join(map("".join, [*head, (less, event), *tail])))
        if not tail:
            found.add("".join(map("".join, head)))
            continue
        (following, next_event), *rest = tail
        for joined in {gap, following, gap + following}:
            found.add("".join(map("".join, [*head, (joined, next_event), *rest])))
    return sorted((s for s in found if length(s) < length(schedule)), key=length)


def in_words(schedule: str, words: Mapping[str, str]) -> list[str]:
    """A line for each event of the schedule."""
    lines = []
    for number, (side, events) in enumerate(parse(schedule)):
        when = f"turn {number}"
        if side:
            how = "before" if side == "|" else "after"
            when += f", {how} what turn {number - 1} has woken"
        lines += [f"{event}  {words.get(event, 'an event')} ({when})" for event in events]
    return lines or ["nothing happens"]


class Script:
    """Which orders of events can happen: what the peer does has an order of its own.

    Its pieces of data come in their order, and none without those before it. It ends once, and
    sends nothing after that; after a reset it does nothing at all. All other events may happen at
    any place, once each.
    """

    def __init__(
        self, events: Sequence[str], pieces: str = "", ends: str = "", cuts: str = ""
    ) -> None:
        """`pieces`, in their order, `ends` and `cuts` are those of `events` that the peer does."""
        self._events = "".join(events)
        self._pieces = pieces
        self._ends = ends
        self._cuts = cuts
        self._peer = pieces + ends + cuts

    def legal(self, order: str) -> bool:
        """Whether events can happen in this order."""
        return self._can_be("".join(event for event in order if event in self._peer))

    def _can_be(self, done: str) -> bool:
        """Whether this is all that the peer does, and in this order."""
        pieces = sum(event in self._pieces for event in done)
        ends = done[pieces:]
        if done[:pieces] != self._pieces[:pieces]:
            return False
        return len(ends) < 2 or (len(ends) == 2 and ends[0] in self._ends and ends[1] in self._cuts)

    def orders(self, size: int) -> Iterator[str]:
        """All orders of so many events."""
        return orders(self._events, size, self.legal)

    def count(self, size: int) -> int:
        """How many `orders` there are, without making them."""
        own = len(self._events) - len(self._peer)
        return sum(
            self._count_of_peer(done) * math.comb(own, size - done) * math.perm(size, size - done)
            for done in range(size + 1)
        )

    def _count_of_peer(self, done: int) -> int:
        """How many ways there are for the peer to do so many things."""
        pieces, ends, cuts = len(self._pieces), len(self._ends), len(self._cuts)
        return (
            (done <= pieces)
            + (1 <= done <= pieces + 1) * (ends + cuts)
            + (2 <= done <= pieces + 2) * ends * cuts
        )

    def draw(self, most: int, chance: random.Random) -> str:
        """One order of 1 to `most` events, by chance."""
        while True:  # not for long: one event alone is an order, or as many of the peer's pieces
            size = chance.randint(1, min(most, len(self._events)))
            order = chance.sample(self._events, size)
            peer = iter(self._put_right([event for event in order if event in self._peer]))
            drawn = "".join(next(peer) if event in self._peer else event for event in order)
            if self.legal(drawn):
                return drawn

    def _put_right(self, events: list[str]) -> str:
        """As many of what the peer does, in an order that can be, if there is one."""
        ends = "".join(e for e in self._ends + self._cuts if e in events)
        return self._pieces[: len(events) - len(ends)] + ends
