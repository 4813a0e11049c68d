"""The reading side of a stream: what is buffered, who waits for more, and how it ended.

The way of a read: a hit on the buffer is answered at once; else `fill` asks the channel, and
where that would block, waits. While it waits, the loop's reader callback itself takes what comes
into the buffer (`attempt`), and wakes the task only when the read has what it wants, or when the
stream has ended. Between that wake-up and the taking of the bytes nothing suspends, and the bytes
are in the buffer whatever wakes the task first (laws 9, 10).
"""

from __future__ import annotations

import asyncio
import math
from asyncio import get_running_loop
from typing import TYPE_CHECKING, NoReturn

from netio._buffer import Direct, Gathering, LargeRead, ReceiveBuffer, Search
from netio._defaults import (
    BYTES_PER_TURN,
    LAST_LOOK_BYTES,
    OPERATIONS_PER_TURN,
    READ_AHEAD_BELOW_BYTES,
    READ_BYTES,
)
from netio._errors import (
    IncompleteRead,
    LimitExceeded,
    NetioError,
    StreamBusy,
    StreamClosed,
    connection_lost,
)
from netio._limits import Operation, Timeouts
from netio._turns import turns_of

if TYPE_CHECKING:
    from netio._channel import Channel
    from netio._limits import Timeout


class Receiver(Operation):
    """Reads for one stream. One read at a time: another one gets `StreamBusy`.

    Since there is one, the receiver is itself the operation that waits, made once a stream.
    """

    __slots__ = (
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
        "limit",
        "standing",
        "timeouts",
        "turns",
    )

    def __init__(self, channel: Channel, timeouts: Timeouts, limit: int) -> None:
        super().__init__("read", peer=channel.peer)
        self.channel = channel
        self.timeouts = timeouts
        self.limit = limit
        self.buffer = ReceiveBuffer()
        self.busy = False
        self.bytes_received = 0
        self.standing = math.inf  # the connection's own deadline for reads
        self.failure: OSError | None = None  # the first one met in either direction (law 29)
        self._finished = False  # this direction has met its end, or a failure
        self.turns = turns_of(channel.loop)
        self._dry = False  # the last receive did not fill its room: the next would likely block
        self._wanted = 0
        self._search: Search | None = None
        self._large: LargeRead | None = None

    def hit(self, n: int) -> bytes | None:
        """`n` bytes, if they are buffered and the loop has had its turn lately; else None."""
        if 0 < n <= self.buffer.size and not self.busy and self.turns.credit > 0:
            self.turns.credit -= 1
            return self.buffer.take(n)
        return None

    async def gather(self, n: int, timeout: Timeout) -> bytes:
        """`n` bytes, many more than are buffered."""
        gathering = Gathering()
        if await self._fill_large(gathering, n, timeout):
            return gathering.finish(self.buffer, n)
        self._give_back(gathering)
        raise self.incomplete()

    async def into(self, view: memoryview, timeout: Timeout) -> None:
        """Fill `view`."""
        n = len(view)
        if (refusal := self.begin("read_into", n, n)) is not None:
            await self.refuse(refusal)
        if n - self.buffer.size < READ_AHEAD_BELOW_BYTES:
            if await self.fill(n, timeout):
                view[:] = self.buffer.take(n)
                return
        else:
            direct = Direct(view, self.buffer)
            if await self._fill_large(direct, n, timeout):
                return
            self._give_back(direct)
        raise self.incomplete()

    async def some(self, max_bytes: int, timeout: Timeout) -> bytes:
        """What is there, or comes first; ``b""`` at the end."""
        if (refusal := self.begin("read_some", max_bytes, None)) is not None:
            await self.refuse(refusal)
        if not await self.fill(1, timeout):
            return b""
        return self.buffer.take(min(max_bytes, self.buffer.size))

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
        if (refusal := self.begin(name, None, None)) is not None:
            await self.refuse(refusal)
        self._search = search = Search(separators, limit)
        complete = await self.fill(limit, timeout)
        if search.end:
            taken = self.buffer.take(search.end)
            return taken if keep else taken[: -search.length]
        if complete:
            raise self._over(limit)
        if not last_may_lack_it:
            raise self.incomplete()
        return self.buffer.take(self.buffer.size)

    async def everything(self, limit: int, timeout: Timeout) -> bytes:
        """All until the end of the stream, if that is no more than `limit` bytes."""
        if (refusal := self.begin("read_all", None, None)) is not None:
            await self.refuse(refusal)
        gathering = Gathering()
        if not await self._fill_large(gathering, limit + 1, timeout):
            return gathering.finish(self.buffer, self.buffer.size + gathering.size)
        self._give_back(gathering)
        raise self._over(limit)

    def set_standing(self, when: float) -> None:
        """The connection's own deadline was moved: a read that waits obeys (law 7)."""
        self.standing = when
        if self.busy:
            self.move(when)
            self.channel.rearm(self)

    def begin(self, name: str, size: int | None, expected: int | None) -> NetioError | None:
        """Prepare `fill`, which comes next; or say, before any I/O, why it can't be: `refuse`."""
        if get_running_loop() is not self.channel.loop:
            raise RuntimeError(f"{name}: the stream belongs to another event loop")
        if self.busy:
            return StreamBusy(f"{name}: {self} is still waiting; a stream has one reader")
        self.name = name
        self.size = size
        self.expected = expected
        if self.channel.closed:
            return StreamClosed(f"{self}: the stream was closed by this side")
        self.turns.credit -= 1
        return None

    async def refuse(self, refusal: NetioError) -> NoReturn:
        """Raise it; a run of refusals leaves turns to the loop as any other (law 35)."""
        self.turns.charge(0)
        if self.turns.credit <= 0:
            await self.turns.give()
        raise refusal

    async def fill(self, wanted: int, timeout: Timeout) -> bool:
        """Wait until `wanted` bytes or the record sought are there; False: the end came first."""
        self._wanted = wanted
        channel, turns = self.channel, self.turns
        try:
            self.busy = True
            now = channel.loop.time()
            if turns.credit <= 0:
                await turns.give()
            complete = None
            if self.buffer.size or self._finished or not wanted or channel.closed:
                complete = self._conclusion()
                if complete is not None:
                    return complete
            self.start(now, timeout, self.timeouts.read, "read", self.standing)
            likely = not (self._dry and channel.watching)
            waited = False
            while complete is None:
                expired = self.deadline <= now
                if likely or expired:
                    likely = False
                    complete = self._last_look() if expired else self._look()
                    if complete is not None:
                        break
                if not expired:
                    await channel.wait_readable(self)
                elif waited:
                    await asyncio.sleep(0)  # a scope that fired in the same tick answers (law 15)
                else:
                    raise self.exceeded(now, self._progress(), done=self.have())
                waited = not expired
                turns.credit = OPERATIONS_PER_TURN
                if self.buffer.size >= wanted:
                    return True  # the attempt has seen to it
                complete = self._conclusion()
                if complete is None:
                    now = channel.loop.time()
            return complete
        except asyncio.CancelledError as cancelled:
            self.mark(cancelled, done=self.have())
            raise
        finally:
            self.busy = False
            self._search = None

    async def _fill_large(self, large: LargeRead, n: int, timeout: Timeout) -> bool:
        """`fill` with what comes put into `large`; if it raises, everything is readable again."""
        self._large = large
        try:
            return await self.fill(n, timeout)
        except BaseException:
            self._give_back(large)
            raise
        finally:
            self._large = None

    def _give_back(self, large: LargeRead) -> None:
        if not self.channel.closed:
            large.give_back(self.buffer)

    def _look(self) -> bool | None:
        """Attempt until the read is over, its turn is (law 35), or more is not likely there."""
        until = self.bytes_received + BYTES_PER_TURN
        before = self.bytes_received
        while not self.attempt() and not self._dry and self.bytes_received < until:
            pass
        self.turns.charge(self.bytes_received - before)
        return self._conclusion()

    def _last_look(self) -> bool | None:
        """Attempt until the read is over or the channel says that nothing is there (law 9)."""
        until = self.bytes_received + LAST_LOOK_BYTES
        before = -1
        while not self.attempt() and before < self.bytes_received < until:
            before = self.bytes_received
        return self._conclusion()

    def attempt(self) -> bool:
        """Take what is there, once; True: the read has what it wants, or nothing more comes."""
        large = self._large
        try:
            if large is None:
                chunk = self.channel.receive(READ_BYTES)
                taken = None if chunk is None else len(chunk)
                self._dry = taken is None or taken < READ_BYTES
                if chunk:
                    self.buffer.append(chunk)
            else:
                missing = self._wanted - self.buffer.size - large.size
                taken = large.receive(self.channel, missing)
                self._dry = taken is None or taken < min(missing, READ_BYTES)
        except OSError as error:
            self.fail(error)
            self._finished = True
            return True
        if not taken:
            self._finished = taken == 0
            return self._finished
        self.bytes_received += taken
        if large is None and self._search is None:
            return self.buffer.size >= self._wanted
        return self._satisfied()

    def _satisfied(self) -> bool:
        if self._search is not None and self._search.find(self.buffer):
            return True
        have = self.buffer.size
        if self._large is not None:
            have += self._large.size
        return have >= self._wanted

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
            raise connection_lost(self.failure, what, done=self.have())
        return False

    def fail(self, error: OSError) -> OSError:
        """Keep the first failure of either direction, and nothing of the code that met it."""
        if self.failure is None:
            error.__context__ = None
            self.failure = error.with_traceback(None)
        return self.failure

    def have(self) -> int:
        """How many bytes have come and were not given away, in the buffer or past it."""
        have = self.buffer.size
        return have if self._large is None else have + self._large.size

    def _progress(self) -> str:
        expected = self.expected
        of = "" if expected is None else f" of {expected}"
        return f"{self.have()}{of} bytes are buffered and readable"

    def incomplete(self) -> IncompleteRead:
        self.turns.charge(self.buffer.size)  # for the copy
        return IncompleteRead(
            f"{self}: the peer ended the stream first; {self._progress()}",
            partial=self.buffer.peek(),
            expected=self.expected,
        )

    def _over(self, limit: int) -> LimitExceeded:
        self.turns.charge(limit)  # for the search
        return LimitExceeded(
            f"{self}: more than the limit of {limit} bytes; nothing was discarded, "
            f"{self._progress()}",
            limit=limit,
            consumed=self.have(),
        )
