"""The other end of a connection, played from inside one callback of the loop.

What the peer does is done at once, and is there when the call returns: the bytes, the end or the
reset are waited for in the kernel, where there is one (it is no wall-clock luck), and the attempt
that the loop would make on this side is made there and then. So events can be put in any order
within a turn of the loop. In memory there is nothing to wait for.
"""

from __future__ import annotations

import select
import socket
import time
from typing import TYPE_CHECKING, Final

from netio._attempts import Made
from netio._channel import SocketChannel
from netio._memory import MemoryChannel
from netio._resolve import Target

if TYPE_CHECKING:
    from collections.abc import Callable

    from netio._attempts import Attempt
    from netio._channel import Channel
    from netio._network import Acceptor
    from netio._operation import Operation

#: Real seconds, for the kernel, which needs microseconds.
PATIENCE_SECONDS: Final = 5.0

_EVERYTHING: Final = 1 << 20
_END: Final = getattr(select, "POLLRDHUP", 0) or select.POLLIN


class Peer:
    """The other end of a connection: `Stage.peer` is that of the latest one.

    Each method acts at once, from a callback of the loop or from a coroutine, and never waits; this
    side notices in the same moment, if it waits. Each is False, and nothing has happened, where it
    can't be: the connection is over.

    Attributes:
        sent: the bytes that the peer has sent so far.
    """

    def __init__(self, near: Channel, far: Channel) -> None:
        self._near = near
        self._far = far
        self._received = bytearray()
        self._ended = False
        self.sent: bytes = b""

    # What the peer does.

    def data(self, data: bytes, *, noticed: bool = True) -> bool:
        """Send `data`, all of it. Without `noticed`, the loop has yet to notice it on this side.

        Returns: False if that can't be: either side is closed, or the peer has ended.

        Raises:
            BufferError: there is no room for that much under way.
        """
        if self._far.closed or self._near.closed or self._ended:
            return False
        before = self.unread() if self._is_slow else 0
        if self._send(data) < len(data):
            raise BufferError(f"there is no room for {len(data)} bytes under way to the client")
        self.sent += data
        if self._is_slow:
            self._until(lambda: self.unread() == before + len(data))
        if noticed:
            self.attempt_read()
        return True

    def end(self) -> bool:
        """Say that nothing follows. False if that can't be: either side is over."""
        if self._far.closed or self._near.closed or self._ended:
            return False
        self._ended = True
        self._far.shut_down_writing()
        self._until_event(_END)
        self.attempt_read()
        return True

    def reset(self) -> bool:
        """Cut the connection. False if that can't be: either side is closed."""
        if self._far.closed or self._near.closed:
            return False
        self._prepare_reset()
        self._far.abort()
        self._until_event(select.POLLERR | select.POLLHUP)
        self.attempt_read()
        self.attempt_write()
        return True

    def take(self, max_bytes: int = _EVERYTHING) -> int:
        """Receive what is there, up to `max_bytes` bytes; this side notices that there is room.

        Returns: how many bytes.
        """
        taken = 0
        while taken < max_bytes and (size := self._take_once(max_bytes - taken)):
            taken += size
        if taken:
            self.attempt_write()
        return taken

    @property
    def received(self) -> bytes:
        """All bytes that this side has sent so far, and that have come to the peer."""
        while self._take_once(_EVERYTHING):
            pass
        return bytes(self._received)

    # What the loop does on this side.

    def attempt_read(self) -> None:
        """As often as there is something, and once more to meet the end."""
        channel = self._near
        before = -1
        while not channel.closed and before != (before := self.unread()):
            if isinstance(channel, MemoryChannel):
                channel._report()
            elif isinstance(channel, SocketChannel) and channel._watches_readable:
                channel._on_readable()

    def attempt_write(self) -> None:
        """Once, for who waits to write."""
        channel = self._near
        if isinstance(channel, MemoryChannel):
            channel._report()
        elif isinstance(channel, SocketChannel) and channel._watches_writable:
            channel._on_writable()

    def unread(self) -> int:
        """How many bytes are on this side, below its stream."""
        channel = self._near
        if isinstance(channel, MemoryChannel):
            return len(channel._data)
        assert isinstance(channel, SocketChannel)
        return _unread(channel.sock)

    def close(self) -> None:
        """Leave nothing behind."""
        self._near.abort()
        self._far.abort()

    # The kernel.

    @property
    def _is_slow(self) -> bool:
        """What is sent into a Unix socket or a pipe in memory is there; TCP takes a moment."""
        near = self._near
        return isinstance(near, SocketChannel) and near.sock.family != socket.AF_UNIX

    def _prepare_reset(self) -> None:
        """A Unix socket resets only when it is closed over bytes that were not read."""
        near = self._near
        if isinstance(near, SocketChannel) and near.sock.family == socket.AF_UNIX:
            try:
                near.send(b"!")
            except OSError:
                pass  # enough is there, or it is over already

    def _send(self, data: bytes) -> int:
        try:
            return self._far.send(data)
        except BlockingIOError:
            return 0

    def _take_once(self, max_bytes: int) -> int:
        if self._far.closed:
            return 0
        try:
            chunk = self._far.receive(max_bytes)
        except OSError:
            return 0
        self._received += chunk
        return len(chunk)

    def _until(self, condition: Callable[[], bool]) -> None:
        give_up_at = time.monotonic() + PATIENCE_SECONDS
        while not condition():
            if time.monotonic() > give_up_at:
                raise RuntimeError("the kernel did not deliver")

    def _until_event(self, event: int) -> None:
        """Until the kernel reports it on this side, to whoever asks."""
        if isinstance(self._near, SocketChannel):
            poll = select.poll()
            poll.register(self._near.sock, event)
            self._until(lambda: any(flags & event for _, flags in poll.poll(100)))


class PeerNetwork:
    """A network on which every connect succeeds at once, and makes a new peer."""

    def __init__(self, dial: Callable[[], Channel]) -> None:
        self._dial = dial

    async def resolve(self, host: str, port: int, operation: Operation) -> list[Target]:
        """Every name is there."""
        return [Target(socket.AF_INET, (host, port))]

    def begin_dial(self, target: Target) -> Attempt:
        """One end of a new connection, of which the stage has the other."""
        return Made(self._dial())

    async def listen(
        self, host: str | None, port: int, operation: Operation, *, backlog: int
    ) -> list[Acceptor]:
        """Nobody can."""
        raise OSError("a stage plays programs that connect; nobody can listen on its network")


def _unread(sock: socket.socket) -> int:
    import array
    import fcntl
    import termios

    count = array.array("i", [0])
    fcntl.ioctl(sock.fileno(), termios.FIONREAD, count)
    return count[0]
