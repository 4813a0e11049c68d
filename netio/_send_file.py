"""Sending a file: by the kernel alone where it can, read and written where it can't.

It is a write like any other: in its turn, under its limits, torn when it is cut (law 13). Bytes are
read at a place of their own, so that the file's position is neither used nor moved; and from a
descriptor of its own, so that one that is closed meanwhile and used again is not sent instead.
"""

from __future__ import annotations

import errno
import io
import os
import stat
from typing import TYPE_CHECKING, Final, Protocol

from netio._arguments import check_count
from netio._channel import SocketChannel
from netio._defaults import BYTES_PER_TURN, DEFAULT, READ_BYTES
from netio._limits import check_timeout
from netio._sending import Outgoing, Sender

if TYPE_CHECKING:
    from netio._channel import Channel
    from netio._limits import Timeout
    from netio._receiving import Receiver

# What sendfile says where it is not made for such a file or file system, or is not there. (EIO is
# the file's, too: reading it says so for certain.)
_CAN_NOT: Final = {
    errno.EINVAL,
    errno.ENOSYS,
    errno.EOPNOTSUPP,
    errno.ENOTSUP,
    errno.EOVERFLOW,
    errno.EIO,
}

_KINDS: Final = (
    (stat.S_ISDIR, "a directory"),
    (stat.S_ISFIFO, "a pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)


class BinaryFile(Protocol):
    """A file that was opened in binary mode."""

    def fileno(self) -> int:
        """Its descriptor."""

    def readable(self) -> bool:
        """Whether it can be read."""


class SendsFiles:
    """The part of a stream that sends files."""

    __slots__ = ()

    _channel: Channel
    _receiver: Receiver
    _sender: Sender

    async def send_file(
        self,
        file: BinaryFile | io.BytesIO,
        *,
        offset: int = 0,
        count: int | None = None,
        timeout: Timeout = DEFAULT,
    ) -> int:
        """Write a file, or a part of it, without taking it into memory.

        Over a socket the kernel does it (``sendfile``). Writes of other tasks come before or after.
        `file`: a regular file, opened in binary mode, or an `io.BytesIO`. Its position is neither
        used nor moved, and what is still in a buffer of its own is not sent: flush it. Its
        descriptor is what is read, of one that unpacks (`gzip`) the packed bytes. It may be closed
        meanwhile. Reading from a slow disk blocks the loop, as it does everywhere.
        `offset`: where to begin, in bytes from the beginning of the file. `count`: how many bytes;
        None for all there are at the call. What is added to the file meanwhile is not sent.
        `timeout`: seconds for all of it, a `Deadline` or `Budget`, None for no limit, left out for
        ``timeouts.write``, which is short for a large file (`Timeouts.min_rate` bounds it better).

        Returns: how many bytes were sent: `count`, or all there were.

        Raises:
            DeadlineExceeded: a limit was reached first. Its `done` says how many bytes the kernel
                took. If none, the stream stays usable; else further writes raise
                `ConnectionLost` (law 13). Reading goes on in any case.
            ConnectionLost: the connection failed, or an earlier write was cut. What the peer has
                sent stays readable.
            OSError: the file can't be read, or has become shorter than it was at the call; the
                stream is as after a limit.
            StreamClosed: closed, or after `write_eof`.
            TypeError, ValueError: it was opened in text mode, is no regular file, can't be read, or
                has less than that. Nothing is sent.

        Cancellation: as for DeadlineExceeded; the ``CancelledError`` has the same `done`.
        """
        check_timeout(timeout)
        start = check_count(offset, "offset")
        if isinstance(file, io.BytesIO):
            with file.getbuffer() as whole:
                size = _size_to_send(len(whole), start, count)
                view = whole[start : start + size]
                await self._sender.write("send_file", [view], size, timeout)
            return size
        descriptor = _descriptor_of(file)
        size = _size_to_send(os.fstat(descriptor).st_size, start, count)
        outgoing = _OutgoingFile(self._receiver, os.dup(descriptor), start, size)
        await self._sender.write("send_file", [], size, timeout, outgoing=outgoing)
        return size


class _OutgoingFile(Outgoing):
    """A file in the midst of being sent; it owns its descriptor."""

    __slots__ = ("_by_kernel", "_descriptor", "_offset")

    def __init__(self, receiver: Receiver, descriptor: int, offset: int, total: int) -> None:
        super().__init__("send_file", receiver, (), total=total)
        self._descriptor = descriptor
        self._offset = offset
        self._by_kernel = isinstance(receiver.channel, SocketChannel) and hasattr(os, "sendfile")

    def attempt(self) -> bool:
        """Offer what is left, once; raises ``OSError`` for what is wrong with the file."""
        channel = self._receiver.channel
        if self._by_kernel and isinstance(channel, SocketChannel):
            return self._attempt_by_kernel(channel)
        if not self._views:
            at = self._offset + self.done
            chunk = os.pread(self._descriptor, min(READ_BYTES, self.total - self.done), at)
            if not chunk:
                raise self._shorter()
            self._views.append(memoryview(chunk))
        return super().attempt()

    def _attempt_by_kernel(self, channel: SocketChannel) -> bool:
        asked = min(BYTES_PER_TURN, self.total - self.done)
        try:
            sent = channel.send_file(self._descriptor, self._offset + self.done, asked)
        except BlockingIOError:
            self.full = True
            return False
        except OSError as error:
            if error.errno in _CAN_NOT:
                self._by_kernel = False
                return self.attempt()
            self.error = self._receiver.fail(error)  # as of any other write
            return True
        if not sent:
            raise self._shorter()
        self.full = sent < asked
        self.done += sent
        if self.moving is not None:
            self.moving.moved(sent, channel.loop.time())
        return self.done == self.total

    def _shorter(self) -> OSError:
        text = f"{self}: the file has become shorter; {self.progress()}"
        error = OSError(errno.EIO, text)
        error.done = self.done  # type: ignore[attr-defined]
        return error

    def forget(self) -> None:
        super().forget()
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


def _descriptor_of(file: BinaryFile) -> int:
    """The descriptor of a regular file; an error that names `file` for any other thing."""
    # What wraps a file, as those of `tempfile` do, is told by its encoding, which only text has.
    if isinstance(file, io.TextIOBase) or hasattr(file, "encoding"):
        raise TypeError("file must be opened in binary mode, and this one is in text mode")
    try:
        descriptor = file.fileno()
        readable = file.readable()
    except (AttributeError, io.UnsupportedOperation):
        kind = type(file).__name__
        raise TypeError(f"file must be a file of the system or an io.BytesIO, not {kind}") from None
    except ValueError as error:
        raise ValueError(f"file: {error}") from None  # it is closed
    mode = os.fstat(descriptor).st_mode
    if not stat.S_ISREG(mode):
        kind = next((name for test, name in _KINDS if test(mode)), "something else")
        raise ValueError(f"file must be a regular file, and this is {kind}")
    if not readable:
        raise ValueError("file must be opened for reading")
    return descriptor


def _size_to_send(size: int, offset: int, count: int | None) -> int:
    """How many bytes, of a file of `size`."""
    if offset > size:
        raise ValueError(f"offset ({offset}) is past the end of the file, which has {size} bytes")
    left = size - offset
    if count is None:
        return left
    wanted = check_count(count, "count")
    if wanted > left:
        raise ValueError(f"count ({wanted}) is more than the {left} bytes from offset on")
    return wanted
