"""What each fault does to the bytes of one direction: the stages that wires are made of."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Final

from netio._memory import Sign
from netio.testing import faults
from netio.testing._network.wire import DOWNSTREAM, UPSTREAM, Handshake, Item, Stage, Wire, is_data

if TYPE_CHECKING:
    import asyncio

# A limited link passes pieces of a segment of Ethernet, or of a tenth of a second where that is
# less, so that a slow one drips and a fast one needs few timers.
_SEGMENT_BYTES: Final = 1460
_DRIP_SECONDS: Final = 0.1


class Holding(Stage):
    """A stage that holds what comes, in order."""

    __slots__ = ("held",)

    def __init__(self, wire: Wire, fault: faults.Fault, number: int) -> None:
        super().__init__(wire, fault, number)
        self.held: deque[Item] = deque()

    def release(self) -> None:
        held = self.held
        while held:
            self.pass_on(held.popleft())

    def close(self) -> None:
        super().close()
        lost = sum(len(item) for item in self.held if is_data(item))
        self.held.clear()
        if lost:
            self.wire.take(lost)


class Delaying(Holding):
    """A stage that holds what comes until some moment each; one timer, for the first."""

    __slots__ = ("_moments", "_ringing")

    def __init__(self, wire: Wire, fault: faults.Fault, number: int) -> None:
        super().__init__(wire, fault, number)
        self._moments: deque[float] = deque()
        self._ringing: asyncio.TimerHandle | None = None

    def delay(self, item: Item, when: float) -> None:
        """Pass it on at `when`, and not before what came earlier."""
        self.held.append(item)
        self._moments.append(when)
        if self._ringing is None:
            self._set_timer()

    def close(self) -> None:
        self._stop()
        super().close()

    def _set_timer(self) -> None:
        self._ringing = self.call_at(self._moments[0], self._ring)

    def _stop(self) -> None:
        self._moments.clear()
        if self._ringing is not None:
            self._ringing.cancel()
            self._ringing = None

    def _ring(self) -> None:
        # Timers may be early by the clock's own grain: the first is due, whatever the clock says.
        now = max(self.wire.connection.loop.time(), self._moments[0])
        while self._moments and self._moments[0] <= now:
            self._moments.popleft()
            self.pass_on(self.held.popleft())
        self._ringing = None
        if self._moments:
            self._set_timer()


class LatencyStage(Delaying):
    """Everything comes later, in order."""

    __slots__ = ()
    fault: faults.Latency

    def act(self, item: Item) -> None:
        fault = self.fault
        delay = fault.latency
        if fault.jitter:
            delay += fault.jitter * (2 * self.chance() - 1)
        if delay <= 0 and not self.held:
            self.pass_on(item)
            return
        self.delay(item, self.wire.connection.loop.time() + delay)
        self.fire(len(item) if is_data(item) else 0)


class BandwidthStage(Holding):
    """Bytes come one after the other, so many a second."""

    __slots__ = ("_busy_since", "_passed_bytes", "_piece_bytes", "_ringing")
    fault: faults.Bandwidth

    def __init__(self, wire: Wire, fault: faults.Bandwidth, number: int) -> None:
        super().__init__(wire, fault, number)
        self._piece_bytes = max(1, min(_SEGMENT_BYTES, int(fault.rate * _DRIP_SECONDS)))
        self._busy_since = 0.0
        self._passed_bytes = 0  # since then, so that no rounding adds up
        self._ringing: asyncio.TimerHandle | None = None

    def act(self, item: Item) -> None:
        if not self.held and not is_data(item):
            self.pass_on(item)
            return
        self.held.append(item)
        if is_data(item):
            self.fire(len(item))
        if self._ringing is None:
            self._busy_since = self.wire.connection.loop.time()
            self._passed_bytes = 0
            self._next()

    def close(self) -> None:
        self._stop()
        super().close()

    def _next(self) -> None:
        held = self.held
        while held:
            item = held[0]
            if is_data(item):
                self._passed_bytes += min(len(item), self._piece_bytes)
                when = self._busy_since + self._passed_bytes / self.fault.rate
                self._ringing = self.call_at(when, self._ring)
                return
            self.pass_on(held.popleft())

    def _ring(self) -> None:
        self._ringing = None
        data = self.held.popleft()
        assert is_data(data)
        if len(data) > self._piece_bytes:
            self.held.appendleft(data[self._piece_bytes :])
        self.pass_on(data[: self._piece_bytes])
        self._next()

    def _stop(self) -> None:
        if self._ringing is not None:
            self._ringing.cancel()
            self._ringing = None


class SlicerStage(Delaying):
    """Bytes come in pieces, which no receive joins again."""

    __slots__ = ("_last", "_left_bytes", "_next_size")
    fault: faults.Slicer

    def __init__(self, wire: Wire, fault: faults.Slicer, number: int) -> None:
        super().__init__(wire, fault, number)
        self._next_size = 0  # in `sizes`
        self._left_bytes = 0  # of the piece that has begun
        self._last = 0.0

    def act(self, item: Item) -> None:
        if not is_data(item):
            self._send(item, later=False)
            return
        start = 0
        while start < len(item):
            if not self._left_bytes:
                self._left_bytes = self._size() or len(item) - start
            piece = item[start : start + self._left_bytes]
            if start == 0 and len(piece) < len(item):
                self.fire(len(item))
            self._send(piece, later=start > 0)
            self._send(Sign.CUT, later=False)
            self._left_bytes -= len(piece)
            start += len(piece)

    def _size(self) -> int:
        """Of the next piece; 0 for all there is."""
        fault = self.fault
        if fault.sizes is None:
            spread = (2 * self.chance() - 1) * fault.size_variation
            return max(1, round(fault.average_size + spread))
        if self._next_size == len(fault.sizes):
            return 0
        self._next_size += 1
        return fault.sizes[self._next_size - 1]

    def _send(self, item: Item, *, later: bool) -> None:
        now = self.wire.connection.loop.time()
        if not self.fault.delay or (not later and not self.held):
            self._last = now
            self.pass_on(item)
            return
        self._last = max(now, self._last)
        if later:
            self._last += self.fault.delay
        self.delay(item, self._last)


class SlowCloseStage(Delaying):
    """The end comes later."""

    __slots__ = ()
    fault: faults.SlowClose

    def act(self, item: Item) -> None:
        if item is Sign.END:
            self.delay(item, self.wire.connection.loop.time() + self.fault.delay)
            self.fire()
        else:
            self.pass_on(item)


class TimeoutStage(Holding):
    """Nothing comes any more but a reset; after a while the connection is closed."""

    __slots__ = ()
    fault: faults.Timeout

    def begin(self) -> None:
        if self.fault.timeout is not None:
            self._timer = self.call_later(self.fault.timeout, self._time_is_over)

    def act(self, item: Item) -> None:
        if item is Sign.RESET or isinstance(item, Handshake):
            self.pass_on(item)
        else:
            self.held.append(item)
            if item is not Sign.CUT:
                self.fire(len(item) if is_data(item) else 0)

    def _time_is_over(self) -> None:
        self._timer = None
        if self.wire.connection.sever(Sign.END, at=self):
            self.fire()


class LimitDataStage(Stage):
    """So many bytes come, and then the connection is closed."""

    __slots__ = ("_left_bytes",)
    fault: faults.LimitData

    def __init__(self, wire: Wire, fault: faults.LimitData, number: int) -> None:
        super().__init__(wire, fault, number)
        self._left_bytes = fault.limit_bytes

    def begin(self) -> None:
        if not self._left_bytes:
            self._cut(0)

    def act(self, item: Item) -> None:
        if not is_data(item):
            self.pass_on(item)
            return
        passed = item[: self._left_bytes]
        self._left_bytes -= len(passed)
        self.pass_on(passed)
        if not self._left_bytes:
            self._cut(len(item) - len(passed))
            if len(item) > len(passed):
                self.wire.refuse(item[len(passed) :])

    def _cut(self, lost_bytes: int) -> None:
        if self.wire.connection.sever(Sign.END, at=self):
            self.fire(lost_bytes)


class ResetPeerStage(Stage):
    """Both ends see a reset."""

    __slots__ = ()

    def begin(self) -> None:
        if self.wire.connection.sever(Sign.RESET):
            self.fire()


class DownStage(Stage):
    """Connects are refused, and what is connected is closed."""

    __slots__ = ()

    def begin(self) -> None:
        if self.wire.connection.is_open and self.wire.connection.sever(Sign.END):
            self.fire()

    def opened(self) -> None:
        """It may have been at work since before the connection was open."""
        if self.active:
            self.begin()
        else:
            super().opened()

    def act(self, item: Item) -> None:
        if isinstance(item, Handshake) and item.name == "connect":
            self.fire()
            self.wire.connection.refuse()
        else:
            self.pass_on(item)


class BlackHoleStage(Holding):
    """Nothing comes, and nobody is told."""

    __slots__ = ()

    def act(self, item: Item) -> None:
        self.held.append(item)
        if item is not Sign.CUT:
            self.fire(len(item) if is_data(item) else 0)


class HalfOpenStage(BlackHoleStage):
    """The side that is gone says and hears nothing; once it is back, it knows of no connection."""

    __slots__ = ("_is_back",)
    fault: faults.HalfOpen

    def __init__(self, wire: Wire, fault: faults.HalfOpen, number: int) -> None:
        super().__init__(wire, fault, number)
        self._is_back = False

    def begin(self) -> None:
        other = self.wire.opposite.stage_of(self.fault)
        if isinstance(other, HalfOpenStage) and not other.active:
            other.active = True  # the side is gone in both directions at once
            other.begin()
        towards = UPSTREAM if self.fault.gone == "server" else DOWNSTREAM
        if self.wire.direction == towards and self.fault.back_after is not None:
            self._timer = self.call_later(self.fault.back_after, self._come_back)

    def act(self, item: Item) -> None:
        if not self._is_back:
            super().act(item)
        elif item is not Sign.RESET:
            self.wire.opposite.deliver(Sign.RESET)  # as for a connection that nobody knows
            self.fire(len(item) if is_data(item) else 0)

    def _come_back(self) -> None:
        self._timer = None
        self._is_back = True
        held = tuple(self.held)
        self.held.clear()
        for item in held:
            self.act(item)


_STAGES: Final[dict[type[faults.Fault], type[Stage]]] = {
    faults.Latency: LatencyStage,
    faults.Bandwidth: BandwidthStage,
    faults.Slicer: SlicerStage,
    faults.SlowClose: SlowCloseStage,
    faults.Timeout: TimeoutStage,
    faults.LimitData: LimitDataStage,
    faults.ResetPeer: ResetPeerStage,
    faults.Down: DownStage,
    faults.BlackHole: BlackHoleStage,
    faults.Partition: BlackHoleStage,
    faults.HalfOpen: HalfOpenStage,
}


def stage_class(fault: faults.Fault) -> type[Stage]:
    """What `fault` does to a direction; of a subclass, what its base does.

    Raises:
        TypeError: it is no fault that a stage is known for.
    """
    for cls in type(fault).__mro__:
        if cls in _STAGES:
            return _STAGES[cls]
    raise TypeError(f"fault must be one of netio.testing.faults, not {fault!r}")
