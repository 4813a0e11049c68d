"""Stream: bytes in both directions over any channel, each operation under its limits.

This file is the public contract. Reading is done in ``_receiving.py``, writing in
``_sending.py``; both stand on a channel. The laws the docstrings name are in ``docs/laws.md``.
"""

from __future__ import annotations

import functools
import warnings
from typing import TYPE_CHECKING, Self

from netio._arguments import (
    check_count,
    check_loop,
    check_separators,
    readable_view,
    writable_view,
)
from netio._channel import SocketChannel, SocketView
from netio._connection_limits import NO_DEADLINES, are_needed
from netio._defaults import DEFAULT, OPERATIONS_PER_TURN, READ_BYTES, DefaultType
from netio._descriptors import PassesDescriptors
from netio._errors import NetioError, StreamBusy, StreamClosed, format_address
from netio._handshake import say_goodbye
from netio._iterator import StreamIterator
from netio._limits import check_timeout, check_timeouts
from netio._observing import observed, tell
from netio._receiving import Receiver
from netio._securing import Securing
from netio._send_file import SendsFiles
from netio._sending import Sender, few_views
from netio._statistics import StreamStatistics
from netio._tls import TLSChannel

if TYPE_CHECKING:
    import socket as sockets
    from collections.abc import Iterable
    from types import TracebackType

    from netio._arguments import Buffer
    from netio._channel import Channel
    from netio._errors import Address
    from netio._limits import Timeout, Timeouts


class Stream(Securing, SendsFiles, PassesDescriptors):
    """A connection: reads and writes of bytes, each of which ends within its limits.

    Made by `connect_tcp`, `open_stream`, `stream_pair`, and by servers for their handlers. An
    async context manager that closes on leaving. It belongs to the event loop it was made in.

    Every waiting method takes ``timeout``: seconds for this call as a whole, a `Deadline` or a
    `Budget` shared by several calls, None for no limit of its own, or left out for the connection's
    default in `timeouts`. Zero or less takes what is there now. What is there wins over a limit
    that has passed (law 9). What `timeouts` says of the connection, and `deadline`, hold besides.

    One read at a time; writes queue. Bytes are lost by no order of data, limit, cancellation, end
    and reset (law 10).
    """

    __slots__ = ("__weakref__",)

    def __init__(self, channel: Channel, *, timeouts: Timeouts, limit: int) -> None:
        check_timeouts(timeouts)
        self._channel = channel
        self._timeouts = timeouts
        self._receiver = Receiver(channel, timeouts, check_count(limit, "limit", at_least=1))
        self._sender = Sender(channel, self._receiver, timeouts)
        self._deadlines = NO_DEADLINES
        self._born = channel.loop.time()
        if are_needed(timeouts):
            self._apply_limits()
        if observed:
            tell(channel.loop, "stream_opened", self)

    # Reading. What is buffered is given at once, in this room: a hit is one call, and one more to
    # take the bytes; not while a read is in progress, nor when the loop is owed a turn (law 35).
    # Plain seconds are told from other limits by their class, before anything is called.

    async def read_exactly(self, n: int, *, timeout: Timeout = DEFAULT) -> bytes:
        """Read exactly `n` bytes.

        `timeout`: seconds, `Deadline`, `Budget`, None for no limit, left out for ``timeouts.read``.

        Returns: the bytes; ``b""`` for ``n=0``.

        Raises:
            DeadlineExceeded: a limit was reached first. Nothing is consumed: what came stays
                readable, and the stream is usable as before.
            IncompleteRead: the peer ended the stream first. What came stays readable.
            ConnectionLost: the connection failed first. What came stays readable.
            StreamBusy, StreamClosed, ValueError, TypeError: before any I/O; nothing changes.

        Cancellation: nothing is consumed; what came is kept, and the call may be repeated.
        """
        if timeout.__class__ is not int:
            check_timeout(timeout)
        receiver = self._receiver
        buffer = receiver.buffer
        turns = receiver.turns
        size = buffer.size
        if n.__class__ is int and 0 < n <= size and not receiver.busy and turns.credit > 0:
            turns.credit -= 1
            data = buffer.data
            if n == size or data.__class__ is not bytes:
                return buffer.take(n)
            start = buffer.start  # the rest is what `take` would do
            buffer.start = end = start + n
            buffer.size = size - n
            return data[start:end]
        if n.__class__ is not int or n < 0:
            n = check_count(n, "n")
        if n - buffer.size >= READ_BYTES:
            return await receiver.gather(check_count(n, "n"), timeout)  # as it may be told
        try:
            wait = receiver.begin("read_exactly", n, timeout, n, n)
        except NetioError:
            await turns.pay()
            raise
        if wait is not None:  # nearly always, all has come when this is over
            try:
                await wait
            except BaseException as error:
                receiver.cut(error)
                raise
            if buffer.size >= n:
                receiver.busy = False
                if receiver.running:
                    receiver.end()
                turns.credit = OPERATIONS_PER_TURN
                return buffer.take(n)
        if await receiver.finish(wait):
            return buffer.take(n)
        raise receiver.incomplete()

    async def read_until(
        self,
        separator: bytes | tuple[bytes, ...],
        *,
        limit: int | DefaultType = DEFAULT,
        keep: bool = True,
        timeout: Timeout = DEFAULT,
    ) -> bytes:
        """Read up to and including a separator.

        `separator`: bytes, or a tuple of several; the earliest end wins, then the shorter one.
        `limit`: the longest record in bytes, its separator included; left out, the stream's.
        `keep`: False leaves the separator out of the result (it is consumed all the same).
        `timeout`: seconds, `Deadline`, `Budget`, None for no limit, left out for ``timeouts.read``.

        Returns: the record.

        Raises:
            LimitExceeded: no record ends within `limit` bytes. Nothing is discarded: it stays
                readable, with a larger limit for instance.
            DeadlineExceeded: a limit was reached first. What came stays readable.
            IncompleteRead: the peer ended the stream first. What came stays readable.
            ConnectionLost: the connection failed first. What came stays readable.
            StreamBusy, StreamClosed, ValueError, TypeError: before any I/O; nothing changes.

        Cancellation: nothing is consumed; what came is kept, and the call may be repeated. The
        next search begins anew, with what is there.
        """
        check_timeout(timeout)
        separators = check_separators(separator)
        bound = self._receiver.limit if limit is DEFAULT else check_count(limit, "limit")
        shortest = min(map(len, separators))
        if bound < shortest:
            raise ValueError(f"limit ({bound}) is smaller than the separator ({shortest} bytes)")
        return await self._receiver.record(
            "read_until", separators, timeout, limit=bound, keep=keep, last_may_lack_it=False
        )

    async def read_line(
        self,
        *,
        limit: int | DefaultType = DEFAULT,
        keep: bool = True,
        timeout: Timeout = DEFAULT,
    ) -> bytes:
        r"""Read a line, up to and including ``\n``.

        `limit`: the longest line in bytes, its ``\n`` included; left out, the stream's.
        `keep`: False leaves the ``\n`` out of the result (an ``\r`` before it stays).
        `timeout`: seconds, `Deadline`, `Budget`, None for no limit, left out for ``timeouts.read``.

        Returns: the line. The last one before the end of the stream may lack its ``\n``; at the
        end ``b""``. (With ``keep=False`` an empty line is ``b""`` too; `lines` tells them apart.)

        Raises:
            LimitExceeded: the line is longer than `limit`. Nothing is discarded: it stays
                readable, with a larger limit for instance. (One of `limit` bytes without its
                ``\n`` may be the last: only the next byte tells.)
            DeadlineExceeded: a limit was reached first. What came stays readable.
            ConnectionLost: the connection failed first. What came stays readable.
            StreamBusy, StreamClosed, ValueError, TypeError: before any I/O; nothing changes.

        Cancellation: nothing is consumed; what came is kept, and the call may be repeated.
        """
        if timeout.__class__ is not int:
            check_timeout(timeout)
        receiver = self._receiver
        if limit is DEFAULT:
            buffer = receiver.buffer
            turns = receiver.turns
            lines = buffer.lines
            if not receiver.busy and turns.credit > 0:
                if lines and (start := buffer.start) == buffer.lines_at:
                    turns.credit -= 1
                    line = lines.pop()
                    size = len(line)
                    buffer.size -= size
                    buffer.start = buffer.lines_at = start + size
                    return line if keep else line[:-1]
                if found := buffer.take_line(receiver.limit):
                    turns.credit -= 1
                    return found if keep else found[:-1]
            limit = receiver.limit
        else:
            limit = check_count(limit, "limit", at_least=1)
        return await receiver.record(
            "read_line", (b"\n",), timeout, limit=limit, keep=keep, last_may_lack_it=True
        )

    async def read_some(self, max_bytes: int = READ_BYTES, *, timeout: Timeout = DEFAULT) -> bytes:
        """Read what is there, or what comes first, up to `max_bytes` bytes (at least 1).

        `timeout`: seconds, `Deadline`, `Budget`, None for no limit, left out for ``timeouts.read``.

        Returns: at least one byte; ``b""`` at the end of the stream.

        Raises:
            DeadlineExceeded: nothing came before a limit. The stream is usable as before.
            ConnectionLost: the connection failed, and everything that came was read before.
            StreamBusy, StreamClosed, ValueError, TypeError: before any I/O; nothing changes.

        Cancellation: nothing is consumed; what came is kept, and the call may be repeated.
        """
        check_timeout(timeout)
        receiver = self._receiver
        most = check_count(max_bytes, "max_bytes", at_least=1)
        data = receiver.hit(min(most, len(receiver.buffer)))
        return await receiver.some(most, timeout) if data is None else data

    async def read_into(self, buffer: Buffer, *, timeout: Timeout = DEFAULT) -> int:
        """Fill `buffer`, a writable and contiguous one (``bytearray``, ``memoryview`` ...).

        Large ones are filled by the kernel directly. Don't touch the buffer before the call ends.
        `timeout`: seconds, `Deadline`, `Budget`, None for no limit, left out for ``timeouts.read``.

        Returns: the size of the buffer in bytes.

        Raises:
            DeadlineExceeded: a limit was reached first. Nothing is consumed: what came stays
                readable (the contents of `buffer` are undefined).
            IncompleteRead: the peer ended the stream first. What came stays readable.
            ConnectionLost: the connection failed first. What came stays readable.
            StreamBusy, StreamClosed, ValueError, TypeError: before any I/O; nothing changes.

        Cancellation: nothing is consumed; what came is kept, and the call may be repeated.
        """
        check_timeout(timeout)
        with writable_view(buffer) as view:
            size = len(view)
            data = self._receiver.hit(size)
            if data is None:
                await self._receiver.into(view, timeout)
            else:
                view[:] = data
        return size

    async def read_all(self, *, limit: int, timeout: Timeout = DEFAULT) -> bytes:
        """Read everything until the peer ends the stream, if that is at most `limit` bytes.

        `timeout`: seconds for all of it, a `Deadline` or `Budget`, None for no limit, left out for
        ``timeouts.read``.

        Returns: the bytes; ``b""`` where none are left.

        Raises:
            LimitExceeded: there is more than `limit`. Nothing is discarded: it stays readable.
            DeadlineExceeded: a limit was reached first. What came stays readable.
            ConnectionLost: the connection failed first. What came stays readable.
            StreamBusy, StreamClosed, ValueError, TypeError: before any I/O; nothing changes.

        Cancellation: nothing is consumed; what came is kept, and the call may be repeated.
        """
        check_timeout(timeout)
        return await self._receiver.everything(check_count(limit, "limit"), timeout)

    def lines(
        self,
        *,
        limit: int | DefaultType = DEFAULT,
        keep: bool = True,
        timeout: Timeout = DEFAULT,
    ) -> StreamIterator:
        """Iterate over the lines, each read as by `read_line`, until the end of the stream.

        `limit` is the longest line in bytes. `timeout` holds for each line: seconds, a
        `Deadline` or `Budget`, None for no limit, left out for ``timeouts.read``. An error ends the
        iteration and leaves the stream as `read_line` does; it may be iterated again.
        """
        check_timeout(timeout)
        if limit is not DEFAULT:
            check_count(limit, "limit", at_least=1)
        # Read with the newline, without which an empty line and the end look the same.
        read = functools.partial(self.read_line, limit=limit, timeout=timeout)
        return StreamIterator(read, keep=keep)

    def chunks(self, max_bytes: int = READ_BYTES, *, timeout: Timeout = DEFAULT) -> StreamIterator:
        """Iterate over whatever comes, each read as by `read_some`, until the end of the stream.

        `max_bytes` bounds each chunk, in bytes. `timeout` holds for each one: seconds, a
        `Deadline` or `Budget`, None for no limit, left out for ``timeouts.read``.
        """
        check_timeout(timeout)
        most = check_count(max_bytes, "max_bytes", at_least=1)
        return StreamIterator(functools.partial(self.read_some, most, timeout=timeout))

    def peek(self) -> bytes:
        """A copy of the bytes that are buffered; nothing is consumed, and nothing is asked for."""
        return self._receiver.buffer.peek()

    @property
    def buffered(self) -> int:
        """How many bytes are buffered: received, and not read yet."""
        return len(self._receiver.buffer)

    # Writing

    async def write(self, data: Buffer, *, timeout: Timeout = DEFAULT) -> None:
        """Write all of `data` (any contiguous buffer); the kernel has it when this returns.

        There is no hidden buffer and nothing to drain. Writes of several tasks queue in the order
        of their calls. `data` may be changed as soon as this returns (law 33).
        `timeout`: seconds, a `Deadline` or `Budget`, None for no limit, left out for
        ``timeouts.write``; the time spent queueing counts.

        Raises:
            DeadlineExceeded: a limit was reached first. Its `done` says how many bytes the kernel
                took. If none, the stream stays usable; else further writes raise
                `ConnectionLost` (law 13). Reading goes on in any case.
            ConnectionLost: the connection failed, or an earlier write was cut. What the peer has
                sent stays readable.
            StreamClosed: closed, or after `write_eof`. TypeError, ValueError: nothing is sent.

        Cancellation: as for DeadlineExceeded; the ``CancelledError`` has the same `done`. A write
        that still waited its turn has sent nothing, and the stream stays usable.
        """
        if timeout.__class__ is not int:
            check_timeout(timeout)
        if data.__class__ is bytes:
            done = self._sender.quick(data)
            if done is None or done < len(data):
                views = [memoryview(data)]
                await self._sender.write("write", views, len(data), timeout, done=done)
            return
        with readable_view(data, "data") as view:
            total = len(view)
            done = self._sender.quick(view)
            if done is None or done < total:
                await self._sender.write("write", [view], total, timeout, done=done)

    async def write_many(self, buffers: Iterable[Buffer], *, timeout: Timeout = DEFAULT) -> None:
        """Write several buffers as one: nothing comes between them, and few system calls are made.

        `timeout`: seconds for all of them, `Deadline`, `Budget`, None for no limit, left out for
        ``timeouts.write``.

        Raises:
            DeadlineExceeded, ConnectionLost, StreamClosed, TypeError, ValueError: as for `write`,
                with `done` counting over all buffers; the stream stays usable as said there.

        Cancellation: as for `write`.
        """
        check_timeout(timeout)
        views = few_views(buffers)
        total = sum(map(len, views))
        done = self._sender.quick(views[0]) if len(views) == 1 else None
        if done is None or done < total:
            await self._sender.write("write_many", views, total, timeout, done=done)
        else:
            views[0].release()

    async def write_eof(self, *, timeout: Timeout = DEFAULT) -> None:
        """Tell the peer that no more bytes follow; reading goes on. May be repeated.

        `timeout`: seconds to wait for writes in progress, `Deadline`, `Budget`, None for no limit,
        left out for ``timeouts.write``.

        Raises:
            DeadlineExceeded: earlier writes took too long. Nothing is sent, the stream is usable.
            ConnectionLost: the connection failed, or an earlier write was cut, so that the peer
                would take a part for the whole. What the peer has sent stays readable.
            StreamClosed: the stream was closed.

        Cancellation: nothing is sent, and the stream is usable as before.
        """
        check_timeout(timeout)
        await self._sender.end(timeout)

    # The end

    async def aclose(self, *, timeout: Timeout = DEFAULT) -> None:
        """Close: say goodbye, then release the socket. May be repeated.

        Waits for nothing of the peer's. Operations of other tasks that wait on the stream end
        with `StreamClosed`. Bytes not read are gone.
        `timeout`: seconds for the goodbye, a `Deadline` or `Budget`, None or left out for
        ``timeouts.close``; over plain TCP a goodbye does not wait. Over TLS it is cut then.

        Raises: nothing for what a peer does. The stream is closed in any case; nothing is kept.
            RuntimeError: the stream belongs to another event loop. Nothing changes.

        Cancellation: the socket is released before this returns, whatever happens (law 23).
        """
        check_timeout(timeout)
        self._check_loop("aclose")
        self._end("closed")
        channel = self._channel
        if isinstance(channel, TLSChannel):
            torn = self._sender.is_torn
            await say_goodbye(channel, timeout, self._timeouts.close, torn=torn)
        channel.close()
        if channel.loop.is_running():
            await self._receiver.turns.pay()

    def abort(self) -> None:
        """Cut the connection at once: over TCP the peer sees a reset. May be repeated.

        Raises:
            RuntimeError: the stream belongs to another event loop. Nothing changes.
        """
        self._check_loop("abort")
        self._end("aborted")
        self._channel.abort()

    def detach(self) -> sockets.socket:
        """Give the non-blocking socket to other code; the stream is closed without closing it.

        Raises:
            StreamBusy: bytes are buffered; read them first (`buffered` says how many). Nothing
                changes.
            StreamClosed: it was closed before.
            TypeError: the stream does not stand on a socket.
            RuntimeError: the stream belongs to another event loop. Nothing changes.

        Operations that wait in other tasks end with `StreamClosed`, a write with its `done`.
        """
        self._check_loop("detach")
        channel = self._channel
        if channel.closed:
            raise StreamClosed("detach: the stream was closed by this side", peer=self.peer)
        if not isinstance(channel, SocketChannel):
            raise TypeError("detach: this stream does not stand on a socket, or TLS is between")
        unread = self._receiver.have()
        if unread:
            raise StreamBusy(f"detach: {unread} bytes are buffered; read them first")
        channel.check_detach()
        self._end("detached")
        return channel.detach()

    def _check_loop(self, name: str) -> None:
        check_loop(self._channel.loop, name, "stream")

    def _end(self, how: str) -> None:
        """Nothing is buffered from here on, so that no read finds anything."""
        if not self._channel.closed:
            if observed:
                tell(self._channel.loop, "stream_closed", self, how)
            self._receiver.buffer.clear()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.aclose()

    def __del__(self) -> None:
        channel = getattr(self, "_channel", None)
        if channel is not None and not channel.closed:
            try:
                warnings.warn(f"unclosed {self!r}", ResourceWarning, source=self, stacklevel=2)
            finally:  # the warning may have been made an error
                channel.abandon()

    # What it is

    @property
    def peer(self) -> Address:
        """The other side's address, also after the stream was closed; None where it has none."""
        return self._channel.peer

    @property
    def local(self) -> Address:
        """This side's address; None where it has none, and once the stream was closed."""
        return self._channel.local

    @property
    def closed(self) -> bool:
        """Whether this side has closed the stream."""
        return self._channel.closed

    @property
    def socket(self) -> SocketView:
        """The socket's options, names and ``fileno``; the socket itself stays the stream's.

        Raises:
            TypeError: the stream does not stand on a socket.
        """
        channel = self._channel
        below = channel.innermost if isinstance(channel, TLSChannel) else channel
        if not isinstance(below, SocketChannel):
            raise TypeError("this stream does not stand on a socket")
        return SocketView(below)

    def statistics(self) -> StreamStatistics:
        """A snapshot of the stream's counters, also after it was closed."""
        return StreamStatistics(
            bytes_received=self._receiver.bytes_received,
            bytes_sent=self._sender.bytes_sent,
            buffered=self.buffered,
        )

    def __repr__(self) -> str:
        state = "closed" if self.closed else "open"
        return f"<netio.Stream {state} peer={format_address(self.peer)}>"
