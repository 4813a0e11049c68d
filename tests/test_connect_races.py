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
from footprint import Footprint, footprint
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
from netio import _attempts, _connect
from netio._network import SystemNetwork
from netio._operation import Operation
from netio._racing import Race
from netio._resolve import Target
from netio.testing import Stage
from netio.testing._exploring.notation import orders, placements

ONE_EVENTS = events_of(
    y="the connection is ready",
    u="it is ready, and the loop has yet to notice",
    f="it is refused",
    t="the limit of the call is reached",
    o="the limit of this one attempt is reached",
)
TWO_EVENTS = ONE_EVENTS | events_of(
    n="it is time for the second address",
    z="the second address is ready, from when it is tried",
    g="the second address refuses, from when it is tried",
)
FIRST, SECOND = "127.0.0.1", "127.0.0.2"
PATIENCE_S = 5
CAME = {"s": "scope", "y": "connected", "u": "connected", "f": "refused"}
LIMITS = {"t": "limit", "o": "attempt"}
ONE_CASES = 1651
TWO_CASES = 3554


class Gated(Known):
    """A connect over loopback is through at once; it seems to be so only after an event."""

    opened_by: dict[str, str] = {}  # by address  # noqa: RUF012
    made: list["Gated"] = []  # noqa: RUF012

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.address = FIRST if not Gated.made else SECOND
        Gated.made.append(self)

    def _on_writable(self) -> None:
        if self.address in Gated.opened_by:
            super()._on_writable()


class KnownRace(Race):
    """The race of the last call is `KnownRace.last`."""

    last: "KnownRace"
    __slots__ = ()

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        KnownRace.last = self

    def reach_limit(self) -> None:
        whole, now = self._whole, self._loop.time()
        whole._own = whole.deadline = now - 0.001
        for run in self._running:
            run.operation.within(whole)
        self.ring()

    def reach_limit_of_the_first(self) -> None:
        for run in self._running[:1]:
            if run.place == 0:
                run.operation._own = run.operation.deadline = self._loop.time() - 0.001
        self.ring()

    def reach_the_next(self) -> None:
        self._next_at = min(self._next_at, self._loop.time() - 0.001)
        if self._begun == len(self._targets):
            return
        self.ring()

    def ring(self) -> None:
        """The timer rings now."""
        readiness = self._readiness
        assert readiness is not None
        if readiness._timer is not None:
            readiness._timer.cancel()
        self.deadline = self._loop.time() - 0.001
        readiness._ring()


class Addresses(SystemNetwork):
    """The system's network, on which every name has these addresses."""

    def __init__(self, addresses: tuple[str, ...]) -> None:
        super().__init__()
        self._addresses = addresses

    async def resolve(self, host: str, port: int, operation: Operation) -> list[Target]:
        return [Target(socket.AF_INET, (address, port)) for address in self._addresses]


class OneAddress:
    """Plays connects to a listener, the same for all, and looks what that has seen of each."""

    name = "one"
    events = ONE_EVENTS
    addresses: tuple[str, ...] = (FIRST,)

    def __init__(self) -> None:
        self._opened = contextlib.ExitStack()
        self._listeners: list[socket.socket] = []
        self._before: Footprint | None = None  # of the first case: then it is that of each

    async def play(self, stage: Stage) -> None:
        if not self._listeners:
            self._listeners = self._opened.enter_context(listening(self.addresses))
            self._opened.enter_context(gated())
            self._before = footprint()
        Gated.opened_by.clear()
        Gated.made.clear()
        play = Play(stage, self._connect(self._listeners[0].getsockname()[1]))
        await streams.ticks(10)
        assert KnownRace.last.waiting
        answer = await play.outcome(self._acts(KnownRace.last))
        check(play, answer, self.answer_of(answer, play), self.table(play.happened))
        if isinstance(answer, netio.Stream):
            answer.abort()
        assert footprint() == self._before
        for place, listener in enumerate(self._listeners):
            check_it_has_ended(listener, tried=place == 0)

    def close(self) -> None:
        self._opened.close()
        self._listeners = []

    async def _connect(self, port: int) -> netio.Stream:
        network = Addresses(self.addresses)
        return await netio.connect_tcp("many.example", port, timeout=10, network=network)

    def _acts(self, race: KnownRace) -> Acts:
        def open_by(event: str, address: str = FIRST) -> None:
            Gated.opened_by[address] = event

        def open_noticed(event: str, address: str = FIRST) -> None:
            open_by(event, address)
            for readiness in Gated.made:
                if readiness.address == address and readiness._watches_writable:
                    readiness._on_writable()

        acts: Acts = {
            "y": lambda: open_noticed("y"),
            "u": lambda: open_by("u"),
            "f": lambda: open_noticed("f"),
            "t": race.reach_limit,
            "o": race.reach_limit_of_the_first,
            "n": race.reach_the_next,
            "z": lambda: open_noticed("z", SECOND),
            "g": lambda: open_noticed("g", SECOND),
        }
        return {event: act for event, act in acts.items() if event in self.events}

    def table(self, happened: str) -> set[str]:
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

    def answer_of(self, answer: Any, play: Play) -> str:
        """What has come of it, in a word."""
        if WAITS in play.happened:
            return "waits"
        if isinstance(answer, asyncio.CancelledError):
            return "cancelled"
        if isinstance(answer, netio.Stream):
            return "connected"
        if isinstance(answer, netio.DeadlineExceeded):
            return "scope" if answer.scope is play.scope else "limit"
        return self.failure(answer)

    def failure(self, answer: Any) -> str:
        [attempt] = answer.attempts
        if isinstance(attempt, netio.DeadlineExceeded):
            return "attempt"
        return "refused" if isinstance(attempt, ConnectionRefusedError) else repr(answer)


class TwoAddresses(OneAddress):
    """The same with two, of which the second is tried in time, or when the first has failed."""

    name = "two"
    events = TWO_EVENTS
    addresses = (FIRST, SECOND)

    def table(self, happened: str) -> set[str]:
        if "c" in happened:
            return {"cancelled"}
        ready = [event for event in happened if event in "yuo"]
        if ready[:1] == ["o"] and len(ready) > 1:  # too late, or just in time
            gone = happened.replace("y", "").replace("u", "")
            return self.table(gone) | self.table(happened.replace("o", ""))
        first_lost = bool({"f", "o"} & set(happened))
        tried = first_lost or "n" in happened
        came = set()
        if {"y", "u"} & set(happened):
            came.add("connected")
        elif tried and "z" in happened:
            came.add("connected")
            if "t" in happened:  # after which the second is not begun any more
                came.add("limit")
        if "s" in happened:
            came.add("scope")
        if came:
            return came
        if first_lost and "g" in happened:
            came.add("failed")
        if "t" in happened:
            came.add("limit")
        return came or {"waits"}

    def failure(self, answer: Any) -> str:
        first, second = answer.attempts
        assert FIRST in str(first)
        assert SECOND in str(second)
        assert isinstance(first, (netio.DeadlineExceeded, ConnectionRefusedError))
        assert isinstance(second, ConnectionRefusedError)
        return "failed"


BENCHES = {bench.name: bench for bench in (OneAddress(), TwoAddresses())}


@contextlib.contextmanager
def listening(addresses: tuple[str, ...]) -> Iterator[list[socket.socket]]:
    """A listener on each address, all on one port."""
    with contextlib.ExitStack() as opened:
        listeners: list[socket.socket] = []
        for address in addresses:
            port = listeners[0].getsockname()[1] if listeners else 0
            listeners.append(opened.enter_context(socket.create_server((address, port))))
        yield listeners


@contextlib.contextmanager
def gated() -> Iterator[None]:
    """Connects wait for an event, each for one of its address."""
    really_connected = _attempts._connected

    def connected(sock: socket.socket) -> bool:
        event = Gated.opened_by.get(sock.getpeername()[0])
        if event in ("f", "g"):
            raise OSError(errno.ECONNREFUSED, os.strerror(errno.ECONNREFUSED))
        return event is not None and really_connected(sock)

    with known_readiness(_attempts, Gated), pytest.MonkeyPatch.context() as patch:
        patch.setattr(_attempts, "_connected", connected)
        patch.setattr(_connect, "Race", KnownRace)
        yield


def check(play: Play, answer: Any, found: str, wanted: set[str]) -> None:
    assert found in wanted, (answer, wanted)
    cancelled = found in ("waits", "cancelled")
    assert play.task.cancelled() == play.task.cancelling() == cancelled
    if not cancelled and "s" not in play.happened:
        assert play.count_inside == 0  # law 11


def check_it_has_ended(listening: socket.socket, *, tried: bool) -> None:
    """Who listens sees the end of what came, if something did."""
    listening.settimeout(PATIENCE_S if tried else 0)
    try:
        came, _ = listening.accept()
    except BlockingIOError:
        return
    with came:
        came.settimeout(PATIENCE_S)
        with contextlib.suppress(ConnectionError):
            assert came.recv(1) == b""


def possible(order: str) -> bool:
    """Each address is ready, or refuses, once."""
    return all(sum(order.count(event) for event in of_one) <= 1 for of_one in ("yuf", "zg"))


def schedules_of_one() -> Iterator[str]:
    events = "".join(ONE_EVENTS)
    for size in (1, 2):
        for order in orders(events, size, possible):
            yield from placements(order, FAR)
    for order in orders(events, 3, possible):
        yield from placements(order, NEXT)
    yield from orders(events, 4, possible)


def schedules_of_two() -> Iterator[str]:
    events = "".join(TWO_EVENTS)
    for size in (1, 2):
        for order in orders(events, size, possible):
            yield from placements(order, FAR)
    for order in orders(events, 3, adds_to_pairs):
        spread = "u" not in order  # which differs from y within a tick
        yield from placements(order, NEXT) if spread else [order]


def adds_to_pairs(order: str) -> bool:
    """What is ready at the second address matters if that is tried."""
    told = set(order)
    return possible(order) and (not told & set("zg") or bool(told & set("nfo")))


def replay(bench: str, schedule: str) -> None:
    """Play one case alone: ``replay("two", "f|g")``."""
    play_alone(BENCHES[bench], schedule)


async def test_connecting_answers_by_the_table_and_leaves_nothing_behind(loop_variant: str) -> None:
    cases = thinned(schedules_of_one(), ONE_CASES, loop_variant)
    check_played(await play_all(BENCHES["one"], cases), cases)


async def test_a_race_of_two_answers_by_the_table_and_leaves_nothing_behind(
    loop_variant: str,
) -> None:
    cases = thinned(schedules_of_two(), TWO_CASES, loop_variant)
    check_played(await play_all(BENCHES["two"], cases), cases)
