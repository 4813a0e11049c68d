"""DatagramSocket: whole datagrams over UDP and Unix sockets, each operation under its limits.

This file is the public contract. Receiving is done in ``_datagram_receiving.py``, sending in
``_datagram_sending.py``.
"""

from __future__ import annotations

import dataclasses
import socket
import warnings
from typing import TYPE_CHECKING, Final, Self

from netio._arguments import check_loop, readable_view
from netio._channel import SocketView
from netio._datagram_receiving import Arrivals, Datagram
from netio._datagram_sending import Departures, check_destination
from netio._defaults import DEFAULT
from netio._errors import StreamClosed, format_address
from netio._limits import check_timeout, check_timeouts
from netio._multicast import CastsToMany
from netio._paths import check_path

if TYPE_CHECKING:
    from types import TracebackType

    from netio._arguments import Buffer
    from netio._datagram_channel import DatagramChannel
    from netio._errors import Address
    from netio._limits import Timeout, Timeouts


# So many addresses are known not to need a check, which costs as much as a tenth of a send.
_ADDRESSES_MAX: Final = 1024


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class DatagramStatistics:
    """A snapshot of what a datagram socket has done.

    Attributes:
        received: datagrams taken from the kernel.
        bytes_received: their bytes, as far as they were taken.
        truncated: those of them that were longer than ``max_bytes``.
        sent: datagrams the kernel has taken.
        bytes_sent: their bytes.
        dropped: datagrams that the kernel has dropped since its queue for this socket was full;
            None where it does not tell (it does on Linux), and once the socket is closed.
    """

    received: int
    bytes_received: int
    truncated: int
    sent: int
    bytes_sent: int
    dropped: int | None


class DatagramSocket(CastsToMany):
    """A socket for datagrams: each is sent whole or not at all, and received as it was sent.

    Made by `bind_udp`, `connect_udp`, `bind_unix_datagram`, `connect_unix_datagram` and
    `open_datagrams`. An async context manager that closes on leaving, and to be iterated over with
    ``async for``: each datagram under the limit ``timeouts.read``, until this side closes. It
    belongs to the event loop it was made in.

    The kernel's queue is the only queue: where that is full, it drops datagrams, and counts them
    (`statistics`). No datagram that was taken from it is lost by a limit or a cancellation.

    Every waiting method takes ``timeout``: seconds for this call, a `Deadline` or a `Budget` shared
    by several calls, None for no limit of its own, or left out for the default in `timeouts`. Zero
    or less takes what is there now.

    One receive at a time; sends for one address go in the order of the calls.
    """

    __slots__ = ("__weakref__", "_arrivals", "_channel", "_checked", "_departures", "_timeouts")

    def __init__(self, channel: DatagramChannel, *, timeouts: Timeouts, max_bytes: int) -> None:
        self._channel = channel
        self._timeouts = timeouts
        self._arrivals = Arrivals(channel, timeouts, max_bytes)
        self._departures = Departures(channel, self._arrivals, timeouts)
        # The addresses that were sent to lately, as the system takes them.
        self._checked: dict[Address, Address] = {}

    async def receive(self, *, timeout: Timeout = DEFAULT) -> Datagram:
        """Receive one datagram.

        `timeout`: seconds, `Deadline`, `Budget`, None for no limit, left out for ``timeouts.read``.

        Returns: the `Datagram`, a tuple of data and address.

        Raises:
            DeadlineExceeded: none came in time. The socket is usable as before.
            ConnectionRefused: on a connected socket: nobody has the port that an earlier datagram
                was sent to. Told once; the socket stays usable.
            ConnectionLost: likewise, for what else the network had to say.
            StreamBusy: another task receives already. StreamClosed: closed by this side.

        Cancellation: no datagram is lost; one that has come is kept for the next call.
        """
        if timeout.__class__ is not int:
            check_timeout(timeout)
        return await self._arrivals.next(timeout)

    async def send(self, data: Buffer, *, timeout: Timeout = DEFAULT) -> None:
        """Send a datagram to the peer of a connected socket; the kernel has it when this returns.

        `data` may be empty, and may be changed as soon as this returns.
        `timeout`: seconds to wait for room, a `Deadline` or `Budget`, None for no limit, left out
        for ``timeouts.write``.

        Raises:
            DeadlineExceeded: the kernel had no room in time. Nothing is sent.
            ConnectionRefused: nobody has the port that an earlier datagram was sent to; this one is
                not sent. Told once; the socket stays usable, and this can be sent again.
            ConnectionLost: likewise, for what else the network had to say.
            OSError: the system refuses it (``EMSGSIZE``: it is too large). Nothing is sent.
            StreamClosed: closed by this side.
            ValueError: it is larger than any datagram, or the socket is not connected. TypeError.

        Cancellation: it was sent or not, as the `done` of the ``CancelledError`` says.
        """
        if timeout.__class__ is not int:
            check_timeout(timeout)
        if not self._channel.connected:
            raise ValueError("send: the socket is not connected; use send_to")
        await self._send("send", data, None, timeout)

    async def send_to(self, data: Buffer, address: Address, *, timeout: Timeout = DEFAULT) -> None:
        """Send a datagram to `address`, from a socket that is not connected.

        `data` may be empty, and may be changed as soon as this returns. `address`: that of a
        `Datagram`, or a tuple ``(host, port)`` with a numeric host, since a name would be looked up
        each time; for Unix sockets a path. (None is the sender without a name, who can't be
        answered.) `timeout`: seconds to wait for room, a `Deadline` or `Budget`, None for no limit,
        left out for ``timeouts.write``.

        Raises:
            DeadlineExceeded: the kernel, or a receiver on this machine, had no room in time.
                Nothing is sent.
            ConnectionLost: the network can't be reached; `ConnectionRefused`: nobody has that
                path. Nothing is sent; the socket stays usable.
            OSError: the system refuses it (``EMSGSIZE``: it is too large; ``EACCES``: a broadcast,
                see `broadcast`). Nothing is sent.
            StreamClosed: closed by this side.
            TypeError, ValueError: no such address, a datagram that is larger than any, or the
                socket is connected.

        Cancellation: it was sent or not, as the `done` of the ``CancelledError`` says.
        """
        if timeout.__class__ is not int:
            check_timeout(timeout)
        try:
            where = self._checked[address]
        except (KeyError, TypeError):  # not hashable: not an address either
            where = self._check_destination(address)
        await self._send("send_to", data, where, timeout)

    async def _send(self, name: str, data: Buffer, address: Address, timeout: Timeout) -> None:
        departures = self._departures
        if data.__class__ is bytes:
            if not departures.quick(data, address):
                await departures.slow(name, data, address, timeout)
            return
        with readable_view(data, "data") as view:
            if not departures.quick(view, address):
                await departures.slow(name, view, address, timeout)

    def _check_destination(self, address: Address) -> Address:
        channel = self._channel
        if channel.connected:
            where = format_address(channel.peer)
            raise ValueError(f"send_to: the socket is connected to {where}; use send")
        if channel.family != getattr(socket, "AF_UNIX", None):
            checked = check_destination(channel, address)
        elif address is None or isinstance(address, tuple):
            raise TypeError(f"address must be a path, not {address!r}")
        else:
            checked = check_path(address, "address")
        if len(self._checked) >= _ADDRESSES_MAX:
            self._checked.clear()
        self._checked[address] = checked
        return checked

    # The end

    def close(self) -> None:
        """Close at once: datagrams have no goodbye. May be repeated.

        Operations that wait in other tasks end with `StreamClosed`. What was not received is gone.

        Raises:
            RuntimeError: the socket belongs to another event loop. Nothing changes.
        """
        check_loop(self._channel.loop, "close", "socket")
        self._arrivals.kept = None
        self._channel.close()

    async def aclose(self) -> None:
        """As `close`; this waits for nothing. May be repeated.

        Raises: RuntimeError, as `close`.

        Cancellation: it is closed whatever happens.
        """
        self.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Datagram:
        try:
            return await self._arrivals.next(DEFAULT)
        except StreamClosed:
            raise StopAsyncIteration from None

    def __del__(self) -> None:
        channel = getattr(self, "_channel", None)
        if channel is not None and not channel.closed:
            try:
                warnings.warn(f"unclosed {self!r}", ResourceWarning, source=self, stacklevel=2)
            finally:  # the warning may have been made an error
                channel.abandon()

    # What it is

    @property
    def timeouts(self) -> Timeouts:
        """The limits of this socket, of which `read` and `write` hold, for calls begun later."""
        return self._timeouts

    @timeouts.setter
    def timeouts(self, timeouts: Timeouts) -> None:
        check_datagram_timeouts(timeouts)
        self._timeouts = self._arrivals.timeouts = self._departures.timeouts = timeouts

    @property
    def peer(self) -> Address:
        """The address it is connected to, also after the close; None where it is not."""
        return self._channel.peer

    @property
    def local(self) -> Address:
        """This side's address; None where it has none, and once the socket was closed."""
        return self._channel.local

    @property
    def closed(self) -> bool:
        """Whether this side has closed the socket."""
        return self._channel.closed

    @property
    def socket(self) -> SocketView:
        """The socket's options, names and ``fileno``; the socket itself stays netio's."""
        return SocketView(self._channel)

    def statistics(self) -> DatagramStatistics:
        """A snapshot of the socket's counters, also after it was closed."""
        return DatagramStatistics(
            received=self._arrivals.received,
            bytes_received=self._arrivals.received_bytes,
            truncated=self._arrivals.truncated,
            sent=self._departures.sent,
            bytes_sent=self._departures.sent_bytes,
            dropped=self._channel.dropped(),
        )

    def __repr__(self) -> str:
        state = "closed" if self.closed else "open"
        local = "" if self.local is None else f" local={format_address(self.local)}"
        peer = "" if self.peer is None else f" peer={format_address(self.peer)}"
        return f"<netio.DatagramSocket {state}{local}{peer}>"


def check_datagram_timeouts(timeouts: Timeouts) -> None:
    """TypeError or ValueError for what does not hold for datagrams."""
    check_timeouts(timeouts)
    for name in ("idle", "total", "min_rate"):
        if getattr(timeouts, name) is not None:
            raise ValueError(f"Timeouts.{name} is a limit of streams; datagrams have none such")
