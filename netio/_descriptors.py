"""Passing descriptors over a Unix socket: open files and sockets that another process goes on with.

Sent ones are copies made at the call, so that the caller may close its own. Received ones are held
by the channel until they are asked for, and closed with it: no order of cancel, limit and end leaks
one.
"""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Iterable
from typing import TYPE_CHECKING, Final, Protocol

from netio._arguments import check_count, readable_view
from netio._buffer import Search
from netio._channel import SocketChannel
from netio._defaults import DEFAULT
from netio._descriptor_channel import DESCRIPTORS_PER_SEND, DescriptorChannel, send_along
from netio._errors import LimitExceeded
from netio._limits import check_timeout
from netio._sending import Outgoing, Sender

if TYPE_CHECKING:
    from collections import deque

    from netio._arguments import Buffer
    from netio._channel import Channel
    from netio._limits import Timeout
    from netio._receiving import Receiver

# What the system says about the descriptors, and not about the connection.
_OF_DESCRIPTORS: Final = {errno.ETOOMANYREFS, errno.EBADF, errno.EINVAL, errno.EPERM}


class HasDescriptor(Protocol):
    """An open file, a socket, or whatever else has one."""

    def fileno(self) -> int:
        """It."""


class PassesDescriptors:
    """The part of a stream that passes descriptors."""

    __slots__ = ()

    _channel: Channel
    _receiver: Receiver
    _sender: Sender

    async def send_descriptors(
        self,
        descriptors: Iterable[int | HasDescriptor],
        data: Buffer,
        *,
        timeout: Timeout = DEFAULT,
    ) -> None:
        """Write `data`, and pass descriptors with its first byte, over a Unix socket.

        `descriptors`: 1 to 253 numbers, or things with ``fileno``. Copies are made at the call, so
        that they may be closed at once; the peer has copies of its own. `data`: at least one byte.
        `timeout`: seconds, a `Deadline` or `Budget`, None for no limit, left out for
        ``timeouts.write``.

        Raises:
            DeadlineExceeded, ConnectionLost, StreamClosed: as for `write`; where its `done` is 0,
                no descriptor went, and the stream stays usable as said there.
            OSError: the system refuses the descriptors (``ETOOMANYREFS``: too many are under way).
                Nothing is sent.
            TypeError, ValueError: no such descriptors, no data, or no Unix socket. Nothing is sent.

        Cancellation: as for `write`: the descriptors went if `done` of the ``CancelledError`` is
        more than 0.
        """
        check_timeout(timeout)
        channel = self._channel
        if not isinstance(channel, SocketChannel) or channel.sock.family != socket.AF_UNIX:
            raise TypeError("send_descriptors: descriptors go over Unix sockets only")
        with readable_view(data, "data") as view:
            total = len(view)
            if not total:
                raise ValueError("data must have at least one byte, which the descriptors go with")
            copies = _copies_of(descriptors)
            outgoing = _OutgoingDescriptors(self._receiver, view, copies)
            name = outgoing.name
            await self._sender.write(name, [], total, timeout, outgoing=outgoing)

    async def receive_descriptors(self, count: int = 1, *, timeout: Timeout = DEFAULT) -> list[int]:
        """Take descriptors that the peer has passed, in order; they are the caller's to close.

        The stream must have been made with ``max_descriptors=``. Bytes that come meanwhile stay
        readable, up to the limit of the stream; those that the descriptors came with, too. Those
        that nobody takes are closed with the stream. No child process inherits them.
        `count`: how many, at least 1. `timeout`: seconds, `Deadline`, `Budget`, None for no limit,
        left out for ``timeouts.read``.

        Returns: so many descriptors.

        Raises:
            DeadlineExceeded: a limit was reached first. What came is kept, descriptors and bytes.
            IncompleteRead: the peer ended the stream first. What came is kept.
            ConnectionLost: the connection failed first; so it does where the peer sends more than
                ``max_descriptors`` that nobody has taken. What came is kept.
            LimitExceeded: more bytes came than the stream may hold; read them first.
            StreamBusy, StreamClosed, ValueError, TypeError: before any I/O; nothing changes.

        Cancellation: nothing is taken; what came is kept, and the call may be repeated.
        """
        check_timeout(timeout)
        wanted = check_count(count, "count", at_least=1)
        channel, receiver = self._channel, self._receiver
        if not isinstance(channel, DescriptorChannel):
            raise TypeError("receive_descriptors: the stream was made without max_descriptors")
        held = channel.held
        enough = _Enough(held, wanted)
        # With none to wait for, a read does not wait for the poller either.
        most = 0 if len(held) >= wanted else receiver.limit
        name = "receive_descriptors"
        complete = await receiver.fill(name, most, timeout, size=wanted, search=enough)
        if len(held) >= wanted:
            return [held.popleft() for _ in range(wanted)]
        if complete:
            have = receiver.have()
            text = f"{receiver}: {have} bytes came, as many as may be held; read them first"
            raise LimitExceeded(text, limit=most, consumed=have)
        raise receiver.incomplete()


class _Enough(Search):
    """Stands where the search for a record stands: whether enough descriptors are there."""

    def __init__(self, held: deque[int], wanted: int) -> None:
        super().__init__((b"\0",), 1)
        self._held = held
        self._wanted = wanted

    def find(self, buffer: object) -> bool:
        return len(self._held) >= self._wanted


class _OutgoingDescriptors(Outgoing):
    """A write with descriptors, which it owns, and which go with its first byte."""

    __slots__ = ("_copies",)

    def __init__(self, receiver: Receiver, view: memoryview, copies: list[int]) -> None:
        super().__init__("send_descriptors", receiver, [view[:]], total=len(view))
        self._copies = copies

    def attempt(self) -> bool:
        channel = self._receiver.channel
        if self.done or not isinstance(channel, SocketChannel):
            return super().attempt()
        try:
            sent = send_along(channel.sock, self._views[0], self._copies)
        except BlockingIOError:
            self.full = True
            return False
        except OSError as error:
            if error.errno in _OF_DESCRIPTORS:
                text = f"{self}: nothing was sent: {error.strerror}"
                raise OSError(error.errno, text) from error
            self.error = self._receiver.fail(error)
            return True
        self._advance(sent)
        if self.moving is not None:
            self.moving.moved(sent, channel.loop.time())
        return self.done == self.total

    def forget(self) -> None:
        super().forget()
        while self._copies:
            os.close(self._copies.pop())


def _copies_of(descriptors: Iterable[int | HasDescriptor]) -> list[int]:
    """A copy of each; an error that names `descriptors` leaves none."""
    if isinstance(descriptors, (int, str)) or not isinstance(descriptors, Iterable):
        kind = type(descriptors).__name__
        raise TypeError(f"descriptors must be an iterable of descriptors, not {kind}")
    copies: list[int] = []
    try:
        for one in descriptors:
            number = one if isinstance(one, int) else getattr(one, "fileno", lambda: None)()
            if not isinstance(number, int) or isinstance(number, bool):
                raise TypeError(f"descriptors: {one!r} is none, and has none")
            if len(copies) == DESCRIPTORS_PER_SEND:
                raise ValueError(f"descriptors must be at most {DESCRIPTORS_PER_SEND}")
            try:
                copies.append(os.dup(number))
            except OverflowError:
                raise ValueError(f"descriptors: {number} is not open") from None
            except OSError as error:
                if error.errno == errno.EBADF:
                    raise ValueError(f"descriptors: {number} is not open") from None
                raise
        if not copies:
            raise ValueError("descriptors must be at least one")
    except BaseException:
        for copy in copies:
            os.close(copy)
        raise
    return copies
