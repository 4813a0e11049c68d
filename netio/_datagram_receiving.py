"""The receiving side of a datagram socket: one datagram for each call, none lost, none kept twice.

While a call waits, the loop's reader callback itself takes the datagram, one, and wakes the task:
left in the kernel it would have the callback called again before the task runs. Where that task is
cut meanwhile, the datagram stays here for the next call (laws 9, 10). The same holds for an error
that the kernel tells once.
"""

from __future__ import annotations

import asyncio
from asyncio import get_running_loop
from typing import TYPE_CHECKING, Final, NamedTuple

from netio._datagram_channel import DatagramChannel, datagram_error
from netio._defaults import COST_SHIFT, OPERATIONS_PER_TURN, SYSTEM_CALL_COST
from netio._errors import Address, NetioError, StreamBusy, StreamClosed
from netio._holding import give_turn
from netio._operation import Operation
from netio._turns import turns_of

if TYPE_CHECKING:
    from netio._limits import Timeout, Timeouts

# After a look that found nothing, the next call waits for the poller at once, after another one the
# next two, and so on up to this. In a flood each look finds something, and saves a turn of the
# loop; in a conversation none does, and costs an error.
_CALLS_BETWEEN_LOOKS_MAX: Final = 16


class Datagram(NamedTuple):
    """One datagram: a tuple of its bytes and of who sent it.

    Attributes:
        data: the bytes; there may be none.
        address: the sender's address, for `DatagramSocket.send_to`; None where it has no name.
        truncated: whether `data` is only the beginning, since there was more than ``max_bytes``.
    """

    data: bytes
    address: Address

    @property
    def truncated(self) -> bool:
        """Whether `data` is only the beginning, since there was more than ``max_bytes``."""
        return False


class TruncatedDatagram(Datagram):
    """One that was longer than ``max_bytes``; the rest is gone."""

    __slots__ = ()

    @property
    def truncated(self) -> bool:
        return True


class Arrivals(Operation):
    """Receives for one socket. One call at a time, so that this is the operation that waits.

    Attributes:
        kept: what was taken from the kernel, and not given to anybody yet.
        failure: what the kernel said instead, for the next call of either direction.
    """

    __slots__ = (
        "_between",
        "_max_bytes",
        "_recv",
        "_recvfrom",
        "_skip",
        "_turns",
        "busy",
        "channel",
        "failure",
        "kept",
        "received",
        "received_bytes",
        "timeouts",
        "truncated",
    )

    def __init__(self, channel: DatagramChannel, timeouts: Timeouts, max_bytes: int) -> None:
        super().__init__("receive", peer=channel.peer or channel.local)
        self.channel = channel
        self.timeouts = timeouts
        self.kept: Datagram | None = None
        self.failure: OSError | None = None
        self.busy = False
        self.received = 0
        self.received_bytes = 0
        self.truncated = 0
        self._max_bytes = max_bytes
        # An address costs as much as the rest of the call; of a connected socket it is known.
        self._recv = channel.sock.recv if channel.connected else None
        self._recvfrom = channel.sock.recvfrom
        self._between = 0  # calls from one look to the next
        self._skip = 0  # that are left until then
        self._turns = turns_of(channel.loop)

    async def next(self, timeout: Timeout) -> Datagram:
        """The next datagram, within the limits that begin now."""
        channel = self.channel
        try:
            self._begin(timeout)
        except NetioError:
            await self._turns.pay()
            raise
        try:
            if self.kept is None and self.failure is None:
                await self._wait_for_one()
            elif self._turns.credit <= 0:
                await self._turns.give()
            if channel.closed:
                raise self._closed()
            if self.failure is not None:
                error, self.failure = self.failure, None
                raise datagram_error(error, str(self))
            datagram, self.kept = self.kept, None
            assert datagram is not None
            return datagram
        except asyncio.CancelledError as cancelled:
            self.mark(cancelled)
            raise
        finally:
            self.busy = False
            if self.running:
                self.stop_clocks(channel.loop.time())

    def _begin(self, timeout: Timeout) -> None:
        """Raises before any I/O, and leaves the call that is in progress alone."""
        channel = self.channel
        if get_running_loop() is not channel.loop:
            raise RuntimeError("receive: the socket belongs to another event loop")
        if self.busy:
            raise StreamBusy("receive: another task receives already; a socket has one receiver")
        if channel.closed:
            raise self._closed()
        self.start(channel.loop.time(), timeout, self.timeouts.read, "read")
        self._turns.credit -= SYSTEM_CALL_COST
        self.busy = True

    async def _wait_for_one(self) -> None:
        """Until `kept` or `failure` is there, or the socket is closed."""
        channel, turns, loop = self.channel, self._turns, self.channel.loop
        waited = False
        look = self._is_likely()
        if turns.credit <= 0:
            await turns.give()
        now = self.started
        while True:
            expired = self.deadline <= now
            if look or expired:
                look = False
                channel.ripe = False
                if self.attempt():
                    self._between = 0
                    return
                self._skip = self._between = min(2 * self._between or 1, _CALLS_BETWEEN_LOOKS_MAX)
            if not expired:
                await channel.wait_readable(self)
                turns.credit = OPERATIONS_PER_TURN
            elif waited:
                await give_turn()  # a scope that fired in the same tick answers (law 15)
            else:
                raise self.exceeded(now, "no datagram came")
            if self.kept is not None or self.failure is not None or channel.closed:
                return
            waited = not expired
            now = loop.time()

    def _is_likely(self) -> bool:
        if self._skip > 0 and not self.channel.ripe:
            self._skip -= 1
            return False
        return True

    def attempt(self) -> bool:
        """Take one datagram, if none is here; True: one is, or what the kernel said instead."""
        if self.kept is not None or self.failure is not None:
            return True
        most = self._max_bytes
        try:
            if self._recv is not None:
                data = self._recv(most + 1)
                address = self.channel.peer
            else:
                data, address = self._recvfrom(most + 1)
        except (BlockingIOError, InterruptedError):
            return False
        except OSError as error:
            self.failure = error
            return True
        size = len(data)
        if size > most:  # there was room for one byte more, which tells that it was cut
            self.truncated += 1
            self.kept = TruncatedDatagram(data[:most], address)
        else:
            self.kept = Datagram(data, address)
        self.received += 1
        self.received_bytes += size
        self._turns.credit -= size >> COST_SHIFT
        return True

    def _closed(self) -> StreamClosed:
        return StreamClosed(f"{self}: the socket was closed by this side", peer=self.peer)
