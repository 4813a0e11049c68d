"""What connecting answers, whatever happens to it in whatever order, and that it leaves nothing."""

import asyncio
import contextlib
import errno
import os
import socket
from collections.abc import Iterator
from typing import Any

import pytest
import streams
from footprint import footprint
from raw_sockets import Known, known_readiness
from schedules import (
    FAR,
    NEXT,
    WAITS,
    Acts,
    Play,
    check_played,
    events_of,
    play_all,
    play_alone,
    thinned,
)

import netio
from netio import _network
from netio._operation import Operation
from netio.testing import Stage
from netio.testing._exploring.notation import orders, placements

EVENTS = events_of(
    y="the connection is ready",
    u="it is ready, and the loop has yet to notice",
    f="it is refused",
    t="the limit of the call is reached",
    o="the limit of this one attempt is reached",
)
PATIENCE_S = 5
CAME = {"s": "scope", "y": "connected", "u": "connected", "f": "refused"}
LIMITS = {"t": "limit", "o": "attempt"}
CASES = 1651


class Gated(Known):
    """A connect over loopback is through at once; it seems to be so only after an event."""

    opened_by = ""

    def _on_writable(self) -> None:
        if Gated.opened_by:
            super()._on_writable()


class ConnectBench:
    """Plays connects to a listener, and looks what that has seen of each."""

    name = "connect_tcp"
    events = EVENTS

    async def play(self, stage: Stage) -> None:
        with socket.create_server(("127.0.0.1", 0)) as listening, gated() as wholes:
            before = footprint()
            play = Play(stage, self._connect(listening.getsockname()[1]))
            while (readiness := Known.last) is None or not readiness.waits:
                await streams.ticks(1)
            answer = await play.outcome(self._acts(readiness, wholes[0]))
            check(play, answer)
            if isinstance(answer, netio.Stream):
                answer.abort()
            assert footprint() == before
            check_it_has_ended(listening)

    async def _connect(self, port: int) -> netio.Stream:
        return await netio.connect_tcp("127.0.0.1", port, timeout=10)

    def _acts(self, readiness: Known, whole: Operation) -> Acts:
        [attempt] = readiness.waiters
        assert isinstance(attempt, Operation)

        def open_by(event: str) -> None:
            Gated.opened_by = event

        def open_noticed(event: str) -> None:
            open_by(event)
            if readiness._watches_writable:
                readiness._on_writable()

        def reach_limit() -> None:
            whole._own = whole.deadline = readiness.loop.time() - 0.001
            attempt.within(whole)
            readiness.ring()

        return {
            "y": lambda: open_noticed("y"),
            "u": lambda: open_by("u"),
            "f": lambda: open_noticed("f"),
            "t": reach_limit,
            "o": readiness.reach_limit,
        }

    def close(self) -> None:
        pass


@contextlib.contextmanager
def gated() -> Iterator[list[Operation]]:
    """Connects wait for an event; gives the operation that is the whole of each."""
    Gated.opened_by = ""
    really_connected = _network._connected
    really_within = Operation.within
    wholes: list[Operation] = []

    def connected(sock: socket.socket) -> bool:
        if Gated.opened_by == "f":
            raise OSError(errno.ECONNREFUSED, os.strerror(errno.ECONNREFUSED))
        return bool(Gated.opened_by) and really_connected(sock)

    def within(attempt: Operation, whole: Operation) -> None:
        wholes.append(whole)
        really_within(attempt, whole)

    with known_readiness(_network, Gated), pytest.MonkeyPatch.context() as patch:
        patch.setattr(_network, "_connected", connected)
        patch.setattr(Operation, "within", within)
        yield wholes


def table(happened: str) -> set[str]:
    """What may come of it, when all this has happened until connecting was over."""
    if "c" in happened:
        return {"cancelled"}
    ends = [event for event in happened if event in "yufots"]
    if not ends:
        return {"waits"}
    if ends[0] == "s" or (ends[0] in "yf" and not {"o", "t"} & set(ends)):
        return {CAME[ends[0]]}
    came = {CAME[event] for event in ends if event in CAME}
    return came or {LIMITS[event] for event in ends}


def check(play: Play, answer: Any) -> None:
    found = (
        "waits"
        if WAITS in play.happened
        else "cancelled"
        if isinstance(answer, asyncio.CancelledError)
        else "connected"
        if isinstance(answer, netio.Stream)
        else "scope"
        if getattr(answer, "scope", None) is play.scope
        else "limit"
        if getattr(answer, "limit", None) == "call"
        else "attempt"
        if isinstance(answer.attempts[0], netio.DeadlineExceeded)
        else "refused"
        if isinstance(answer.attempts[0], ConnectionRefusedError)
        else repr(answer)
    )
    wanted = table(play.happened)
    assert found in wanted, (answer, wanted)
    cancelled = found in ("waits", "cancelled")
    assert play.task.cancelled() == play.task.cancelling() == cancelled
    if not cancelled and "s" not in play.happened:
        assert play.count_inside == 0  # law 11


def check_it_has_ended(listening: socket.socket) -> None:
    """Who listens sees the end of what came."""
    came, _ = listening.accept()
    with came:
        came.settimeout(PATIENCE_S)
        with contextlib.suppress(ConnectionError):
            assert came.recv(1) == b""


def possible(order: str) -> bool:
    """It is ready, or refused, once."""
    return sum(order.count(event) for event in "yuf") <= 1


def schedules() -> Iterator[str]:
    for size in (1, 2):
        for order in orders("yuftosc", size, possible):
            yield from placements(order, FAR)
    for order in orders("yuftosc", 3, possible):
        yield from placements(order, NEXT)
    yield from orders("yuftosc", 4, possible)


def replay(schedule: str) -> None:
    """Play one case alone: ``replay("y|c")``."""
    play_alone(ConnectBench(), schedule)


async def test_connecting_answers_by_the_table_and_leaves_nothing_behind(loop_variant: str) -> None:
    cases = thinned(schedules(), CASES, loop_variant)
    check_played(await play_all(ConnectBench(), cases), cases)
