"""The sending side of a datagram socket: each datagram whole, or not at all.

It is offered to the kernel at once, and where the kernel has no room the call waits for it.
Datagrams for one address go in the order of their calls; one for a receiver that is full (a Unix
socket) holds up no other.
"""

from __future__ import annotations

import asyncio
import errno
import socket
from asyncio import get_running_loop
from collections import deque
from typing import TYPE_CHECKING, Final

from netio._arguments import is_numeric
from netio._datagram_channel import DatagramChannel, datagram_error, is_of_the_network
from netio._defaults import COST_SHIFT, SYSTEM_CALL_COST
from netio._errors import Address, StreamClosed, format_address
from netio._holding import give_turn
from netio._operation import Operation
from netio._resting import Resting
from netio._turns import turns_of

if TYPE_CHECKING:
    from netio._datagram_receiving import Arrivals
    from netio._limits import Timeout, Timeouts

    Bytes = bytes | memoryview

# What is left of 65,535 bytes by the headers: 20 and 8 of IPv4 and UDP; 8 of UDP over IPv6.
_MOST: Final = {socket.AF_INET: 65507, socket.AF_INET6: 65527}


class Departure(Operation):
    """One datagram that waits for room."""

    __slots__ = ("_address", "_channel", "_line", "data", "error", "in_vain", "sent")

    def __init__(self, name: str, channel: DatagramChannel, data: Bytes, address: Address) -> None:
        peer = channel.peer if address is None else address
        super().__init__(name, size=len(data), peer=peer, expected=len(data))
        self._channel = channel
        self._address = address
        self._line: deque[Departure] = deque()
        self.data = data
        self.sent = False
        self.error: OSError | None = None
        self.in_vain = False  # the poller said ready, and the kernel would block

    def join(self, line: deque[Departure]) -> None:
        """Stand behind those for the same address."""
        self._line = line
        line.append(self)

    @property
    def first(self) -> bool:
        """Whether nobody is before it."""
        return self._line[0] is self

    def attempt(self) -> bool:
        """Offer it, once; True: it is over, or the poller is not to be asked again."""
        if self.sent or self.error is not None:
            return True
        if not self.first:
            return False
        try:
            offer(self._channel, self.data, self._address)
        except (BlockingIOError, InterruptedError):
            self.in_vain = True
            return True
        except OSError as error:
            self.error = error
            return True
        self.sent = True
        return True

    @property
    def done(self) -> int:
        """How many bytes the kernel took: all or none."""
        return len(self.data) if self.sent else 0


def offer(channel: DatagramChannel, data: Bytes, address: Address) -> None:
    """The system call."""
    if address is None:
        channel.send(data)
    else:
        channel.send_to(data, address)


class Departures:
    """Sends for one socket."""

    __slots__ = (
        "_arrivals",
        "_channel",
        "_lines",
        "_met",
        "_most",
        "_turns",
        "sent",
        "sent_bytes",
        "timeouts",
    )

    def __init__(self, channel: DatagramChannel, arrivals: Arrivals, timeouts: Timeouts) -> None:
        self._channel = channel
        self._arrivals = arrivals  # which keeps the failure that both directions share
        self._lines: dict[Address, deque[Departure]] = {}  # those that wait, by where they go
        self._met: OSError | None = None  # from the quick way to the slow one, which raises it
        self._most = _MOST.get(channel.family)
        self._turns = turns_of(channel.loop)
        self.timeouts = timeouts
        self.sent = 0
        self.sent_bytes = 0

    def quick(self, data: Bytes, address: Address) -> bool:
        """Offer it at once: whether the kernel took it. False also where anything is unusual."""
        channel = self._channel
        if (
            self._lines
            or self._turns.credit <= 0
            or channel.closed
            or self._arrivals.failure is not None
            or get_running_loop() is not channel.loop
        ):
            return False
        size = len(data)
        if self._most is not None and size > self._most:
            return False
        try:
            offer(channel, data, address)
        except (BlockingIOError, InterruptedError):
            return False
        except OSError as error:
            self._met = error
            return False
        self._turns.credit -= SYSTEM_CALL_COST + (size >> COST_SHIFT)
        self.sent += 1
        self.sent_bytes += size
        return True

    async def slow(self, name: str, data: Bytes, address: Address, timeout: Timeout) -> None:
        """Send it in its turn, within the limits that begin now."""
        channel = self._channel
        departure = Departure(name, channel, data, address)
        departure.error, self._met = self._met, None
        loop = get_running_loop()
        if loop is not channel.loop:
            raise RuntimeError(f"{name}: the socket belongs to another event loop")
        if channel.closed:
            await self._turns.pay()
            raise _closed(departure)
        if self._most is not None and len(data) > self._most:
            raise ValueError(f"data has {len(data)} bytes; a datagram holds at most {self._most}")
        departure.start(loop.time(), timeout, self.timeouts.write, "write")
        line = self._lines.setdefault(address, deque())
        departure.join(line)
        try:
            await self._turns.pay()
            await self._send(departure)
        except asyncio.CancelledError as cancelled:
            departure.mark(cancelled, done=departure.done)
            self._keep_failure(departure)
            raise
        finally:
            self._leave(departure, line, address)

    def _leave(self, departure: Departure, line: deque[Departure], address: Address) -> None:
        channel = self._channel
        channel.leave(departure)
        line.remove(departure)
        if line:
            line[0].wake()
        else:
            del self._lines[address]
        if departure.running:
            departure.stop_clocks(channel.loop.time())
        if departure.sent:
            self.sent += 1
            self.sent_bytes += departure.done

    async def _send(self, departure: Departure) -> None:
        channel = self._channel
        loop = channel.loop
        resting = Resting(channel, departure)
        waited = False
        while not self._is_over(departure):
            now = loop.time()
            expired = departure.deadline <= now
            if not expired:
                await self._wait(departure, resting)
                self._turns.renew()
            elif waited:
                await give_turn()  # a scope that fired in the same tick answers (law 15)
            else:
                why = "the kernel had no room" if departure.first else "others were before it"
                raise departure.exceeded(now, f"{why}, and nothing was sent")
            waited = not expired

    def _is_over(self, departure: Departure) -> bool:
        """Whether it is sent, after an attempt if there was none; raises what was met instead."""
        if departure.sent:
            return True
        if self._channel.closed:
            raise _closed(departure)
        self._raise_failure(departure)
        if departure.first and departure.attempt():
            self._raise_failure(departure)
        return departure.sent

    async def _wait(self, departure: Departure, resting: Resting) -> None:
        """For room; or, where that is said and not so, for a while."""
        channel, loop = self._channel, self._channel.loop
        if not departure.first:
            await channel.park(departure)
            return
        departure.in_vain = False
        await channel.wait_writable(departure)
        if departure.in_vain and not channel.closed and departure.deadline > loop.time():
            await resting.rest(loop.time())

    def _raise_failure(self, departure: Departure) -> None:
        error = departure.error
        if error is None and not departure.sent:
            error, self._arrivals.failure = self._arrivals.failure, None
        departure.error = None
        if error is None:
            return
        if error.errno == errno.EMSGSIZE:
            size = len(departure.data)
            text = f"{departure}: {size} bytes are too many for one datagram; nothing was sent"
            raise OSError(errno.EMSGSIZE, text) from error
        raise datagram_error(error, f"{departure}: nothing was sent")

    def _keep_failure(self, departure: Departure) -> None:
        """For the next call: what the kernel tells once, and one that was cut has met."""
        error = departure.error
        if error is not None and self._channel.connected and is_of_the_network(error):
            self._arrivals.failure = self._arrivals.failure or error


def _closed(departure: Departure) -> StreamClosed:
    text = f"{departure}: the socket was closed by this side"
    return StreamClosed(text, peer=departure.peer)


def check_destination(channel: DatagramChannel, address: object) -> Address:
    """TypeError or ValueError for what is no address of the socket's kind, a name above all.

    The system would look a name up, and block the loop for it.
    """
    kind = {socket.AF_INET: "IPv4", socket.AF_INET6: "IPv6"}.get(channel.family)
    if kind is None:
        raise TypeError(f"address: not of a kind that can be sent to: {address!r}")
    if not isinstance(address, tuple) or not 2 <= len(address) <= 4:
        raise TypeError(f"address must be a tuple (host, port), not {address!r}")
    host, port = address[0], address[1]
    if not isinstance(host, str) or not isinstance(port, int) or isinstance(port, bool):
        raise TypeError(f"address must be a tuple (host, port), not {address!r}")
    if not 0 < port <= 65535:
        raise ValueError(f"address: the port must be from 1 to 65535, not {port}")
    if not is_numeric(host, channel.family):
        told = format_address((host, port))
        raise ValueError(
            f"address must be numeric, and of {kind} for this socket: {told}; a name is looked up "
            "by connect_udp"
        )
    return address
