"""A Unix socket that takes descriptors along with bytes, and holds them until they are asked for.

Descriptors come with a byte of the stream (``SCM_RIGHTS``), and a plain ``recv`` of that byte drops
them. So this channel receives with ``recvmsg``, whoever reads: bytes stay in the lane of bytes, and
descriptors are a second lane beside it, in order, and bounded.
"""

from __future__ import annotations

import array
import errno
import os
import socket
from collections import deque
from typing import TYPE_CHECKING, Final

from netio._arguments import check_count
from netio._channel import SocketChannel
from netio._errors import StreamBusy

if TYPE_CHECKING:
    import asyncio

    from netio._errors import Address

#: Linux takes no more with one system call.
DESCRIPTORS_PER_SEND: Final = 253

_SIZE: Final = array.array("i").itemsize
# A child process that is started meanwhile must not inherit them.
_FLAGS: Final = getattr(socket, "MSG_CMSG_CLOEXEC", 0)

_CAN_PASS: Final = hasattr(socket, "SCM_RIGHTS") and hasattr(socket.socket, "recvmsg")

Ancillary = list[tuple[int, int, bytes]]


class DescriptorChannel(SocketChannel):
    """A Unix socket over which descriptors come.

    Attributes:
        held: those that have come, and were not asked for yet.
    """

    __slots__ = ("_lost", "_most", "_space", "held")

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        sock: socket.socket,
        peer: Address = None,
        *,
        most: int,
    ) -> None:
        super().__init__(loop, sock, peer)
        self.held: deque[int] = deque()
        self._most = most
        self._space = socket.CMSG_SPACE(DESCRIPTORS_PER_SEND * _SIZE)
        self._lost: OSError | None = None  # for the receive that comes next
        self.receive = self._receive_both  # type: ignore[assignment]

    def _receive_both(self, max_bytes: int, /) -> bytes:
        self._raise_lost()
        data, ancillary, flags, _ = self.sock.recvmsg(max_bytes, self._space, _FLAGS)
        if ancillary or flags & socket.MSG_CTRUNC:
            self._take(ancillary, flags)
        return data

    def receive_into(self, view: memoryview, /) -> int:
        self._raise_lost()
        size, ancillary, flags, _ = self.sock.recvmsg_into([view], self._space, _FLAGS)
        if ancillary or flags & socket.MSG_CTRUNC:
            self._take(ancillary, flags)
        return size

    def _raise_lost(self) -> None:
        if self._lost is not None:
            raise self._lost

    def _take(self, ancillary: Ancillary, flags: int) -> None:
        """Hold what came. Bytes that came with too much are still given; then it is an error."""
        came = array.array("i")
        for level, kind, data in ancillary:
            if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
                came.frombytes(data[: len(data) - len(data) % _SIZE])
        if not _FLAGS:
            for descriptor in came:
                os.set_inheritable(descriptor, False)
        if len(self.held) + len(came) > self._most:
            for descriptor in came:
                os.close(descriptor)
            text = f"the peer sent more descriptors than max_descriptors, {self._most}"
            self._lost = OSError(errno.EMSGSIZE, text)
        elif flags & socket.MSG_CTRUNC:
            self.held.extend(came)
            text = "the system has dropped descriptors: this process has too many open"
            self._lost = OSError(errno.EMFILE, text)
        else:
            self.held.extend(came)

    def _close_held(self) -> None:
        while self.held:
            os.close(self.held.popleft())

    def close(self) -> None:
        super().close()
        self._close_held()

    def abort(self) -> None:
        super().abort()
        self._close_held()

    def abandon(self) -> None:
        if self.loop.is_closed():
            self._close_held()
        super().abandon()

    def check_detach(self) -> None:
        if self.held:
            text = f"detach: {len(self.held)} descriptors have come; receive_descriptors first"
            raise StreamBusy(text)


def socket_channel(
    loop: asyncio.AbstractEventLoop, sock: socket.socket, peer: Address, max_descriptors: int
) -> SocketChannel:
    """A channel of a connected socket, over which descriptors come where that is asked for."""
    if max_descriptors:
        return DescriptorChannel(loop, sock, peer, most=max_descriptors)
    return SocketChannel(loop, sock, peer)


def send_along(sock: socket.socket, data: memoryview, descriptors: list[int]) -> int:
    """As `send`; the descriptors go with the first of the bytes that are taken."""
    rights = array.array("i", descriptors)
    return sock.sendmsg([data], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, rights)])


def check_max_descriptors(max_descriptors: int) -> int:
    """TypeError or ValueError, naming it, for what is no number of descriptors."""
    if not _CAN_PASS and max_descriptors:
        raise ValueError("max_descriptors: this system passes no descriptors")
    return check_count(max_descriptors, "max_descriptors")
