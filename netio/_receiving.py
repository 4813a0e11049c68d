"""The reading side of a stream: what is buffered, who waits for more, and how it ended.

The way of a read: a hit on the buffer is answered at once; else `_fill` asks the channel, and
where that would block, waits. While it waits, the loop's reader callback itself takes what comes
into the buffer (`attempt`), and wakes the task only when the read has what it wants, or when the
stream has ended. Between that wake-up and the taking of the bytes nothing suspends, and the bytes
are in the buffer whatever wakes the task first (laws 9, 10).
"""

from __future__ import annotations

import asyncio
import math
from typing import TYPE_CHECKING

from netio._buffer import Direct, Gathering, LargeRead, ReceiveBuffer, Search
from netio._defaults import (
    BYTES_PER_TURN,
    LAST_LOOK_BYTES,
    OPERATIONS_PER_TURN,
    READ_AHEAD_BELOW_BYTES,
    READ_BYTES,
)
from netio._errors import IncompleteRead, LimitExceeded, StreamBusy, StreamClosed, connection_lost
from netio._limits import Operation, Timeouts

if TYPE_CHECKING:
    from netio._channel import Channel
    from netio._limits import Timeout

# What an operation without waiting costs of its task's turn: one, and one for each KiB it moved.
COST_SHIFT = (BYTES_PER_TURN // OPERATIONS_PER_TURN).bit_length() - 1


class Receiver(Operation):
    """Reads for one stream. One read at a time: another one gets `StreamBusy`.

    Since there is one, the receiver is itself the operation that waits, made once a stream.
    """

    __slots__ = (
        "_credit",
        "_dry",
        "_finished",
        "_large",
        "_search",
        "_wanted",
        "buffer",
        "busy",
        "bytes_received",
        "channel",
        "failure",
        "fixed",
        "limit",
        "timeouts",
    )

    def __init__(self, channel: Channel, timeouts: Timeouts, limit: int) -> None:
        super().__init__("read", peer=channel.peer)
        self.channel = channel
        self.timeouts = timeouts
        self.limit = limit
        self.buffer = ReceiveBuffer()
        self.busy = False
        self.bytes_received = 0
        self.fixed = math.inf  # the connection's own deadline for reads
        self.failure: OSError | None = None  # the first one met in either direction (law 29)
        self._finished = False  # this direction has met its end, or a failure
        self._credit = OPERATIONS_PER_TURN
        self._dry = False  # the last receive did not fill its room: the next would likely block
        self._wanted = 0
        self._search: Search | None = None
        self._large: LargeRead | None = None

    def hit(self, n: int) -> bytes | None:
        """`n` bytes, if they are buffered and the loop has had its turn lately; else None."""
        buffer = self.buffer
        if n.__class__ is int and 0 < n <= len(buffer.data) - buffer.start and not self.busy:
            self._credit -= 1
            if self._credit > 0:
                return buffer.take(n)
        return None

    def hit_line(self) -> bytes | None:
        """A line that ends with a newline, under the same conditions and the stream's limit."""
        buffer = self.buffer
        start = buffer.start
        end = buffer.data.find(b"\n", start) + 1
        if 0 < end <= start + self.limit and not self.busy:
            self._credit -= 1
            if self._credit > 0:
                return buffer.take(end - start)
        return None

    async def exactly(self, n: int, timeout: Timeout) -> bytes:
        """`n` bytes, which may have to come first."""
        self._begin("read_exactly", n, n)
        try:
            if n - len(self.buffer) < READ_BYTES:
                if await self._fill(n, timeout):
                    return self.buffer.take(n)
            else:
                gathering = Gathering()
                if await self._fill_large(gathering, n, timeout):
                    return gathering.finish(self.buffer, n)
                self._give_back(gathering)
            raise self._incomplete()
        finally:
            self.busy = False

    async def into(self, view: memoryview, timeout: Timeout) -> None:
        """Fill `view`."""
        n = len(view)
        self._begin("read_into", n, n)
        try:
            if n - len(self.buffer) < READ_AHEAD_BELOW_BYTES:
                if await self._fill(n, timeout):
                    view[:] = self.buffer.take(n)
                    return
            else:
                direct = Direct(view, self.buffer)
                if await self._fill_large(direct, n, timeout):
                    return
                self._give_back(direct)
            raise self._incomplete()
        finally:
            self.busy = False

    async def some(self, max_bytes: int, timeout: Timeout) -> bytes:
        """What is there, or comes first; ``b""`` at the end."""
        self._begin("read_some", max_bytes, None)
        try:
            if not await self._fill(1, timeout):
                return b""
            return self.buffer.take(min(max_bytes, len(self.buffer)))
        finally:
            self.busy = False

    async def record(
        self,
        name: str,
        separators: tuple[bytes, ...],
        timeout: Timeout,
        *,
        limit: int,
        keep: bool,
        last_may_lack_it: bool,
    ) -> bytes:
        """Everything up to the first separator; `last_may_lack_it`: or up to the end."""
        self._begin(name, None, None)
        self._search = search = Search(separators, limit)
        try:
            complete = await self._fill(limit, timeout)
            if search.end:
                taken = self.buffer.take(search.end)
                return taken if keep else taken[: -search.length]
            if complete:
                raise self._over(limit)
            if not last_may_lack_it:
                raise self._incomplete()
            return self.buffer.take(len(self.buffer))
        finally:
            self._search = None
            self.busy = False

    async def everything(self, limit: int, timeout: Timeout) -> bytes:
        """All until the end of the stream, if that is no more than `limit` bytes."""
        self._begin("read_all", None, None)
        try:
            gathering = Gathering()
            if not await self._fill_large(gathering, limit + 1, timeout):
                return gathering.finish(self.buffer, len(self.buffer) + gathering.size)
            self._give_back(gathering)
            raise self._over(limit)
        finally:
            self.busy = False

    def set_fixed(self, when: float) -> None:
        """The connection's own deadline was moved: a read that waits obeys (law 7)."""
        self.fixed = when
        if self.busy:
            self.bound(when)
            self.channel.rearm(self)

    def _begin(self, name: str, size: int | None, expected: int | None) -> None:
        """Refuse what can't be begun, before any I/O; else the stream is this read's."""
        if self.busy:
            raise StreamBusy(f"{name}: {self} is still waiting; a stream has one reader")
        if asyncio.get_running_loop() is not self.channel.loop:
            raise RuntimeError(f"{name}: the stream belongs to another event loop")
        self.name = name
        self.size = size
        self.expected = expected
        if self.channel.closed:
            raise StreamClosed(f"{self}: the stream was closed by this side")
        self._credit -= 1
        self.busy = True

    async def _fill(self, wanted: int, timeout: Timeout) -> bool:
        """Wait until `wanted` bytes or the record sought are there; False: the end came first."""
        self._wanted = wanted
        if self._credit <= 0:
            self._credit = OPERATIONS_PER_TURN
            await asyncio.sleep(0)  # law 35
        complete = self._conclusion()
        if complete is not None:
            return complete
        channel = self.channel
        now = channel.loop.time()
        self.start(now, timeout, default=self.timeouts.read, kind="read", fixed=self.fixed)
        likely = not (self._dry and channel.watching)
        while complete is None:
            expired = self.deadline <= now
            if likely or expired:
                likely = False
                complete = self._look(LAST_LOOK_BYTES if expired else BYTES_PER_TURN)
                if complete is not None:
                    break
                if expired:
                    raise self.exceeded(now, self._progress(), done=self._have())
            try:
                await channel.wait_readable(self)
            except asyncio.CancelledError as cancelled:
                self.mark(cancelled, done=self._have())
                raise
            self._credit = OPERATIONS_PER_TURN
            complete = self._conclusion()
            if complete is None:
                now = channel.loop.time()
        return complete

    async def _fill_large(self, large: LargeRead, n: int, timeout: Timeout) -> bool:
        """`_fill` with what comes put into `large`; if it raises, everything is readable again."""
        self._large = large
        try:
            return await self._fill(n, timeout)
        except BaseException:
            self._give_back(large)
            raise
        finally:
            self._large = None

    def _give_back(self, large: LargeRead) -> None:
        if not self.channel.closed:
            large.give_back(self.buffer)

    def _look(self, most: int) -> bool | None:
        """Attempt until the read is over, the channel is empty or `most` bytes came (law 35)."""
        before = self.bytes_received
        while not self.attempt() and not self._dry and self.bytes_received - before < most:
            pass
        self._credit -= (self.bytes_received - before) >> COST_SHIFT
        return self._conclusion()

    def attempt(self) -> bool:
        """Take what is there, once; True: the read has what it wants, or nothing more comes."""
        large = self._large
        try:
            if large is not None:
                missing = self._wanted - len(self.buffer) - large.size
                taken = large.receive(self.channel, missing)
                self._dry = taken is None or taken < min(missing, READ_BYTES)
            else:
                chunk = self.channel.receive(READ_BYTES)
                taken = None if chunk is None else len(chunk)
                self._dry = taken is None or taken < READ_BYTES
                if chunk:
                    self.buffer.append(chunk)
        except OSError as error:
            self.failure = self.failure or error
            self._finished = True
            return True
        if not taken:
            self._finished = taken == 0
            return self._finished
        self.bytes_received += taken
        return self._satisfied()

    def _satisfied(self) -> bool:
        search = self._search
        if search is not None and search.find(self.buffer):
            return True
        return self._have() >= self._wanted

    def _conclusion(self) -> bool | None:
        """True: there; False: the end came first; None: not over. Raises what was met instead."""
        if self._satisfied():
            return True
        if self.channel.closed:
            raise StreamClosed(f"{self}: the stream was closed by this side")
        if not self._finished:
            return None
        if self.failure is not None:
            what = f"{self} ({self._progress()})"
            raise connection_lost(self.failure, what, done=self._have())
        return False

    def _have(self) -> int:
        have = len(self.buffer)
        return have if self._large is None else have + self._large.size

    def _progress(self) -> str:
        expected = self.expected
        of = "" if expected is None else f" of {expected}"
        return f"{self._have()}{of} bytes are buffered and readable"

    def _incomplete(self) -> IncompleteRead:
        return IncompleteRead(
            f"{self}: the peer ended the stream first; {self._progress()}",
            partial=self.buffer.peek(),
            expected=self.expected,
        )

    def _over(self, limit: int) -> LimitExceeded:
        return LimitExceeded(
            f"{self}: more than the limit of {limit} bytes; nothing was discarded, "
            f"{self._progress()}",
            limit=limit,
            consumed=self._have(),
        )
