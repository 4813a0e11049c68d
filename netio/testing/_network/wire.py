"""One direction of a connection that takes its time: the chain of faults that bytes go through.

A `Wire` is what a `netio._memory.Way` is, with stages between its two ends. What is put into it
(bytes, signs, the steps of connecting) goes from stage to stage: a stage passes it on at once, or
later by a timer of the loop, or never. So latency, bandwidth and every fault are the same kind of
thing, keep the order of what they hold, and can be put in and taken out while bytes are under way.
The last stage delivers to the receiver. The memory network and the proxy stand on this alike.

Nothing here is a task. Timers are exact on a virtual clock, and none is left once both ends of a
connection are closed.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Final, NamedTuple, TypeGuard

from netio._memory import Sign, Way
from netio._observing import mark
from netio._turns import turns_of

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from netio.testing.faults import Fault

# From the client to the server, and back, in Toxiproxy's words.
UPSTREAM: Final = "upstream"
DOWNSTREAM: Final = "downstream"


class WireEvent(NamedTuple):
    """One thing that happened on the wires of a network or a proxy.

    Attributes:
        time: when, a `loop.time()` in seconds.
        connection: the number of the connection, from 1 in the order in which they were begun.
        direction: ``"upstream"`` (client to server) or ``"downstream"``.
        what: what was sent (``"connect"``, ``"accept"``, ``"refuse"``, ``"open"``, ``"data"``,
            ``"end"``, ``"reset"``), with ``" arrived"`` once it has reached the other side; or
            the name of the fault that fired.
        size: bytes that it concerns; 0 where there are none.
    """

    time: float
    connection: int
    direction: str
    what: str
    size: int


class Handshake:
    """A step of connecting, which takes the same way as the bytes, and does what it is for."""

    __slots__ = ("arrive", "name")

    def __init__(self, name: str, arrive: Callable[[], None]) -> None:
        self.name = name
        self.arrive = arrive


Item = bytes | Sign | Handshake


def is_data(item: Item) -> TypeGuard[bytes]:
    """Whether it is bytes."""
    return item.__class__ is bytes


class Stage:
    """What one fault does to one direction of one connection.

    It lets everything pass until its moment has come, counted from when the connection was open;
    then `begin` is called once, and `act` for all that comes. A fault that acts on connecting and
    has no moment of its own is at work from the first.
    """

    __slots__ = (
        "_number",
        "_random",
        "_seconds_over",
        "_skip_bytes",
        "_timer",
        "active",
        "fault",
        "pass_on",
        "severed",
        "wire",
    )

    def __init__(self, wire: Wire, fault: Fault, number: int) -> None:
        """`number`: of the fault in its place, so that its chances are its own."""
        self.wire = wire
        self.fault = fault
        self._number = number
        self._random: random.Random | None = None  # made when it is needed: most are not
        self.pass_on: Callable[[Item], None] = wire.arrive
        self.active = False
        self.severed = False  # the connection was cut here: nothing comes through
        self._skip_bytes = fault.after_bytes
        self._seconds_over = not fault.after_seconds
        self._timer: asyncio.TimerHandle | None = None

    def chance(self) -> float:
        """The next chance of this stage, from 0 to 1."""
        if self._random is None:
            self._random = self.wire.connection.random(self._number, self.wire.direction)
        return self._random.random()

    def attached(self) -> None:
        """It is part of the chain from now on."""
        if self.wire.connection.is_open:
            self.opened()
        elif self.fault.acts_on_connects and self._seconds_over and not self._skip_bytes:
            self.active = True
            self.begin()

    def opened(self) -> None:
        """Both ends are connected: here its moment is counted from."""
        if not self._seconds_over:
            self._timer = self.call_later(self.fault.after_seconds, self._time_has_come)
        self._begin_if_due()

    def put(self, item: Item) -> None:
        """Something comes."""
        if self.severed:
            self.wire.refuse(item)
        elif self.active:
            self.act(item)
        elif self._skip_bytes and is_data(item):
            self._count(item)
        else:
            self.pass_on(item)

    def begin(self) -> None:
        """Its moment has come."""

    def act(self, item: Item) -> None:
        """Something comes, and its moment has come before."""
        self.pass_on(item)

    def release(self) -> None:
        """The fault is taken away: pass on what is held."""

    def close(self) -> None:
        """Forget what is held, and every timer. May be repeated."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def fire(self, size: int = 0) -> None:
        """It really did something, to so many bytes."""
        self.fault.fired += 1
        if not self.fault.is_of_link:
            wire = self.wire
            wire.record(self.fault.name, size)
            details = {"connection": wire.connection.number, "direction": wire.direction}
            mark(self.fault.name, "fault", **details, bytes=size)

    def call_at(self, when: float, callback: Callable[[], None]) -> asyncio.TimerHandle:
        """A timer, which `close` has to cancel. It is nobody's, and has an empty context."""
        loop = self.wire.connection.loop
        return loop.call_at(when, callback, context=turns_of(loop).context)

    def call_later(self, seconds: float, callback: Callable[[], None]) -> asyncio.TimerHandle:
        """As `call_at`, so many seconds from now."""
        return self.call_at(self.wire.connection.loop.time() + seconds, callback)

    def _count(self, data: bytes) -> None:
        """Let bytes pass until the fault's moment, which may be in the middle of `data`."""
        passed = data[: self._skip_bytes]
        self._skip_bytes -= len(passed)
        self.pass_on(passed)
        self._begin_if_due()
        if len(data) > len(passed):
            self.put(data[len(passed) :])

    def _time_has_come(self) -> None:
        self._timer = None
        self._seconds_over = True
        self._begin_if_due()

    def _begin_if_due(self) -> None:
        if self._seconds_over and not self._skip_bytes and not self.active and not self.severed:
            self.active = True
            self.begin()


class Wire(Way):
    """One direction of a connection, with the stages that what is sent goes through."""

    __slots__ = ("_first", "connection", "direction", "is_dead", "stages")

    def __init__(self, connection: Connection, direction: str, capacity: int) -> None:
        super().__init__(capacity)
        self.connection = connection
        self.direction = direction
        self.stages: list[Stage] = []
        self.is_dead = False  # the connection was cut: what still comes is refused at the end
        self._first: Callable[[Item], None] = self.arrive

    @property
    def opposite(self) -> Wire:
        """The other direction."""
        connection = self.connection
        return connection.downstream if self is connection.upstream else connection.upstream

    def put(self, item: Item) -> None:
        """Send, without regard to the capacity, which the sender minds."""
        if is_data(item):
            self.held += len(item)
        self._record_item(item, "")
        self._first(item)

    def arrive(self, item: Item) -> None:
        """Something has come through all stages."""
        if self.is_dead:
            self.refuse(item)
        else:
            self.deliver(item)

    def deliver(self, item: Item) -> None:
        """Give it to the receiver."""
        self._record_item(item, " arrived")
        if isinstance(item, Handshake):
            item.arrive()
        else:
            self.receiver.deliver(item)

    def refuse(self, item: Item) -> None:
        """Something comes after the connection was cut: whoever sends bytes is told so."""
        if is_data(item):
            self.take(len(item))
            self.opposite.deliver(Sign.RESET)

    def add(self, stage: Stage) -> None:
        """One more stage, the last one from now on."""
        self.stages.append(stage)
        self._link()
        stage.attached()

    def remove(self, fault: Fault) -> None:
        """Take the stage of `fault` out; what it holds goes on in order."""
        for stage in self.stages:
            if stage.fault is fault and not stage.severed:
                stage.release()
                stage.close()
                self.stages.remove(stage)
                self._link()
                return

    def stage_of(self, fault: Fault) -> Stage | None:
        """The stage that `fault` has here."""
        return next((stage for stage in self.stages if stage.fault is fault), None)

    def close(self) -> None:
        """Forget everything that is under way."""
        for stage in self.stages:
            stage.close()
        self.stages.clear()
        self._link()

    def record(self, what: str, size: int = 0) -> None:
        """Keep an event, where events are kept."""
        connection = self.connection
        if connection.events is not None:
            event = (connection.loop.time(), connection.number, self.direction, what, size)
            connection.events.append(WireEvent(*event))

    def _record_item(self, item: Item, how: str) -> None:
        if self.connection.events is None or item is Sign.CUT:
            return
        if isinstance(item, bytes):
            self.record("data" + how, len(item))
        elif isinstance(item, Sign):
            self.record(item.value + how)
        else:
            self.record(item.name + how)

    def _link(self) -> None:
        following: Callable[[Item], None] = self.arrive
        for stage in reversed(self.stages):
            stage.pass_on = following
            following = stage.put
        self._first = following


class Connection:
    """The two wires of one connection, and what happens to both."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        number: int,
        *,
        buffer_bytes: int,
        seed: int,
        events: list[WireEvent] | None,
    ) -> None:
        self.loop = loop
        self.number = number
        self.events = events
        self.is_open = False
        self.is_severed = False
        self._seed = seed
        self.upstream = Wire(self, UPSTREAM, buffer_bytes)
        self.downstream = Wire(self, DOWNSTREAM, buffer_bytes)

    def random(self, *purpose: object) -> random.Random:
        """Chances that depend on the seed, this connection and `purpose`, and on nothing else."""
        # Seeded by text, which Python hashes by SHA-512 whatever its version and PYTHONHASHSEED.
        return random.Random(":".join(map(str, (self._seed, self.number, *purpose))))

    def opened(self) -> None:
        """Both ends are connected."""
        self.is_open = True
        for wire in (self.upstream, self.downstream):
            for stage in tuple(wire.stages):
                stage.opened()

    def refuse(self) -> None:
        """Turn down a connection that is not open yet."""
        raise NotImplementedError

    def sever(self, sign: Sign, at: Stage | None = None) -> bool:
        """Cut both directions at this moment, and have both ends see `sign`; False: was cut before.

        With `at`, the direction of that stage ends there: what has passed it still arrives.
        """
        if self.is_severed:
            return False
        self.is_severed = True
        for wire in (self.upstream, self.downstream):
            if at is not None and at.wire is wire:
                at.severed = True
                at.close()
                at.pass_on(sign)
            else:
                wire.deliver(sign)
                wire.is_dead = True
        return True

    def close(self) -> None:
        """Both ends are closed: nothing is under way any more, and no timer is left."""
        self.upstream.close()
        self.downstream.close()
