"""A write that waits, for tests of races: what may happen to it, and what may come of that."""

import asyncio
from collections.abc import Iterator
from typing import Any

from schedules import FAR, NEXT, WAITS, Play, events_of

import netio
from netio.testing._exploring.notation import orders, placements

EVENTS = events_of(
    p="the peer takes some",
    w="the peer takes everything",
    r="the peer resets",
    x="this side aborts",
    t="the limit of the call is reached",
    q="the write that queues behind it is cancelled",
)

PAYLOAD = bytes(range(256)) * 200
SOME = 10_000
STARTS = ("begun", "untouched")  # a part went out at once; or nothing did

KINDS = {
    "cancelled": asyncio.CancelledError,
    "closed": netio.StreamClosed,
    "lost": netio.ConnectionLost,
}


def possible(order: str) -> bool:
    """After a reset or an abort nobody takes anything, and after everything there is no more."""
    excluded = {"r": "pw", "x": "pwr", "w": "p"}
    return not any(set(order.partition(event)[2]) & set(excluded[event]) for event in excluded)


def schedules(events: str) -> Iterator[str]:
    for size in (1, 2):
        for order in orders(events, size, possible):
            yield from placements(order, FAR)
    for order in orders(events, 3, possible):
        yield from placements(order, NEXT)


def table(happened: str, *, in_callback: bool) -> set[str]:
    """What may come of it, when all this has happened until the write was over."""
    if "c" in happened:
        return {"cancelled"}
    ends = [event for event in happened if event in "wrxts"]
    meanings = {
        "w": "whole",
        "x": "closed",
        "s": "scope",
        "t": "limit",
        "r": "closed" if "x" in happened else "lost",
    }
    if not ends:
        return {"waits"}
    if ends[0] == "s" and (in_callback or "p" not in happened.partition("s")[0]):
        return {"scope"}
    if ends[0] != "t" and in_callback:
        return {meanings[ends[0]]}
    came = {meanings[event] for event in ends if event != "t"}
    # A peer that takes all after the limit makes room for more, and maybe not for the rest.
    return came | {"limit"} if came <= {"whole"} and "t" in ends else came


def check(play: Play, answer: Any, *, in_callback: bool = True, limit: str = "call") -> int:
    """Hold an answer against the table; how many bytes the write says have gone out."""
    wanted = table(play.happened, in_callback=in_callback)
    if limit == "idle" and set(play.happened.partition("t")[2]) & set("pw"):
        wanted |= {"waits", "whole"}  # renewed by a byte that went with it
    assert any(_fits(play, answer, kind, limit) for kind in wanted), (answer, wanted)
    cancelled = WAITS in play.happened or "c" in play.happened
    assert play.task.cancelled() == play.task.cancelling() == cancelled
    if answer is None:
        return len(PAYLOAD)
    assert answer.done == play.inner.done  # type: ignore[union-attr]
    return answer.done


def _fits(play: Play, answer: Any, kind: str, limit: str) -> bool:
    if kind == "waits":
        return WAITS in play.happened
    if kind == "whole":
        return answer is None
    if kind == "limit":
        return getattr(answer, "limit", None) == limit
    if kind == "scope":
        return getattr(answer, "scope", None) is play.scope
    return isinstance(answer, KINDS[kind])
