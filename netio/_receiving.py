"""The reading side of a stream: what is buffered, who waits for more, and how it ended.

The way of a read: a hit on the buffer is answered at once; else `begin` waits where the channel
would likely block, and `finish` asks it, and waits as often as it takes (`fill` is both). While it
waits, the loop's reader callback itself takes what comes into the buffer (`attempt`), and wakes the
task only when the read has what it wants, or when the stream has ended. Between that wake-up and
the taking of the bytes nothing suspends, and the bytes are in the buffer whatever wakes the task
first (laws 9, 10).
"""

from __future__ import annotations

import asyncio
from asyncio import get_running_loop
from typing import TYPE_CHECKING

from netio._buffer import Direct, Gathering, LargeRead, ReceiveBuffer, Search
from netio._defaults import (
    BYTES_PER_TURN,
    LAST_LOOK_BYTES,
    READ_AHEAD_BELOW_BYTES,
    READ_BYTES,
    SYSTEM_CALL_COST,
)
from netio._errors import (
    IncompleteRead,
    LimitExceeded,
    NetioError,
    StreamBusy,
    TruncatedStream,
    connection_lost,
)
from netio._holding import give_turn
from netio._limits import Timeouts, as_float
from netio._operation import Operation, Standing
from netio._turns import turns_of

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from netio._channel import Channel
    from netio._limits import Timeout
    from netio._moving import Moving
    from netio._observing import Wait


class Receiver(Operation):
    """Reads for one stream. One read at a time: another one gets `StreamBusy`.

    Since there is one, the receiver is itself the operation that waits, made once a stream.
    """

    __slots__ = (
        "_dry",
        "_finished",
        "_large",
        "_receive",
        "_search",
        "_wanted",
        "buffer",
        "busy",
        "bytes_received",
        "channel",
        "failure",
        "limit",
        "timeouts",
        "turns",
    )

    def __init__(self, channel: Channel, timeouts: Timeouts, limit: int) -> None:
        super().__init__("read", peer=channel.peer)
        self.channel = channel
        self._receive = channel.receive
        self.timeouts = timeouts
        self.limit = limit
        self.buffer = ReceiveBuffer()
        self.busy = False
        self.bytes_received = 0
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
        try:
            wait = self.begin("read_exactly", n, timeout, n, n)
        except NetioError:
            await self.turns.pay()
            raise
        gathering = self._large = Gathering()
        if await self.finish(wait):  # as `fill`, without one more coroutine to go through
            return gathering.finish(self.buffer, n)
        self._give_back(gathering)
        raise self.incomplete()

    async def into(self, view: memoryview, timeout: Timeout) -> None:
        """Fill `view`."""
        n = len(view)
        if n - self.buffer.size < READ_AHEAD_BELOW_BYTES:
            if await self.fill("read_into", n, timeout, size=n, expected=n):
                view[:] = self.buffer.take(n)
                return
        else:
            direct = Direct(view, self.buffer.size)
            if await self.fill("read_into", n, timeout, size=n, expected=n, large=direct):
                direct.finish(self.buffer)
                return
            self._give_back(direct)
        raise self.incomplete()

    async def some(self, max_bytes: int, timeout: Timeout) -> bytes:
        """What is there, or comes first; ``b""`` at the end."""
        if not await self.fill("read_some", 1, timeout, size=max_bytes):
            self._check_end()
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
        search = Search(separators, limit)
        # A last line of `limit` bytes is not too long: only one more byte tells that it is.
        wanted = limit + 1 if last_may_lack_it else limit
        complete = await self.fill(name, wanted, timeout, search=search)
        if search.end:
            taken = self.buffer.take(search.end)
            return taken if keep else taken[: -search.length]
        if complete:
            more = "more than" if last_may_lack_it else "no separator within"
            raise self._over(limit, more)
        if not last_may_lack_it:
            raise self.incomplete()
        self._check_end()
        return self.buffer.take(self.buffer.size)

    async def everything(self, limit: int, timeout: Timeout) -> bytes:
        """All until the end of the stream, if that is no more than `limit` bytes."""
        gathering = Gathering()
        if not await self.fill("read_all", limit + 1, timeout, large=gathering):
            if not self.channel.truncated:
                return gathering.finish(self.buffer, self.buffer.size + gathering.size)
            self._give_back(gathering)
            self._check_end()
        self._give_back(gathering)
        raise self._over(limit, "more than")

    def occupy(self, operation: Operation) -> None:
        """Have all reads refused while `operation` is in progress, until `end`; StreamBusy now."""
        if self.busy:
            what = f"{operation}: {self} of another task still waits"
            raise StreamBusy(what)
        self.name = operation.name
        self.size = None
        self.busy = True

    def give_up(self, error: OSError) -> None:
        """Nothing more can be read, nor written, because of `error`."""
        self.fail(error)
        self._finished = True

    @property
    def standing_limit(self) -> Standing:
        """The connection's own deadline for reads, as it is told."""
        return self._standing

    def stand_on(self, channel: Channel) -> None:
        """Read from `channel` from now on, which has all that came from the one before."""
        self.channel = channel
        self._receive = channel.receive
        self._dry = False

    def set_limits(self, standing: Standing, moving: Moving | None, now: float) -> None:
        """The limits of the connection are others now: a read that waits obeys (law 7)."""
        if not self.busy:
            self.moving = moving
            self.stand(standing)
            return
        self.bound_by(moving, now, begun=self._begun())
        self.stand(standing)
        self.channel.rearm(self)

    def begin(
        self, name: str, wanted: int, timeout: Timeout, size: int | None, expected: int | None
    ) -> Awaitable[None] | None:
        """Start a read: all that comes before its first wait, which is returned.

        None: it does not wait yet. `finish`, or `cut`, ends what this has begun. Raises before any
        I/O, and leaves the read that is in progress alone.
        """
        channel = self.channel
        if get_running_loop() is not channel.loop:
            raise RuntimeError(f"{name}: the stream belongs to another event loop")
        if self.busy:
            raise StreamBusy(f"{name}: {self} of another task still waits; a stream has one reader")
        self.name = name
        self.size = size
        self.expected = expected
        if channel.closed:
            raise self.closed()
        self._wanted = wanted
        now = channel.loop.time()
        if timeout.__class__ is float or timeout.__class__ is int:  # which for mypy is a float
            # As `start` would; that call costs as much as all the rest of this.
            self._kind = "call"
            self._given = timeout
            self.started = now
            try:
                own = now + timeout
            except OverflowError:  # for an int beyond floats
                own = as_float(timeout)
            self._own = own
            self.deadline = own if own <= self.standing else self.standing
        else:
            self.start(now, timeout, self.timeouts.read, "read")
        if self.moving is not None:
            # A call less, as nearly always, nothing is buffered past what `_begun` would look at.
            begun = self.buffer.size > 0 if name != "read_some" else self._begun()
            self.start_clocks(now, begun=begun)
        turns = self.turns
        turns.credit -= SYSTEM_CALL_COST
        wait = None
        if (
            self._dry
            and not channel.ripe
            and not self.buffer.size
            and now < self.deadline
            and turns.credit > 0
            and wanted
            and not self._finished
        ):
            try:
                wait = channel.wait_readable(self)
            except BaseException:
                self.stop_clocks(now)
                raise
        self.busy = True
        return wait

    async def fill(
        self,
        name: str,
        wanted: int,
        timeout: Timeout,
        *,
        size: int | None = None,
        expected: int | None = None,
        search: Search | None = None,
        large: LargeRead | None = None,
    ) -> bool:
        """Wait until `wanted` bytes or the record sought are there; False: the end came first.

        If it raises, everything is readable again, also what came to `large`.
        """
        try:
            wait = self.begin(name, wanted, timeout, size, expected)
        except NetioError:
            await self.turns.pay()
            raise
        self._search = search
        self._large = large
        return await self.finish(wait)

    async def finish(self, wait: Awaitable[None] | None) -> bool:
        """The read that was begun, to its end, after the first `wait`."""
        channel, turns = self.channel, self.turns
        try:
            waited = wait is not None
            likely = not waited and (channel.ripe or not self._dry)
            if wait is not None:
                await wait
                turns.renew()
            elif turns.credit <= 0:
                await turns.give()
            now = channel.loop.time() if waited else self.started
            while (complete := self._conclusion()) is None:
                expired = self.deadline <= now and self.due(now)
                if likely or expired:
                    likely = False
                    complete = self._last_look() if expired else self._look()
                    if complete is not None:
                        break
                if not expired:
                    await channel.wait_readable(self)
                elif waited:
                    await give_turn()  # a scope that fired in the same tick answers (law 15)
                elif self.due(now):  # unless what has just come renews the limit
                    raise self.exceeded(now, self._progress(), done=self.have())
                waited = not expired
                turns.renew()
                now = channel.loop.time()
        except BaseException as error:
            self.cut(error)
            raise
        self.end()
        self._search = self._large = None
        return complete

    def end(self) -> None:
        """The read in progress is over."""
        self.busy = False
        if self.running:
            self.stop_clocks(self.channel.loop.time())

    def cut(self, error: BaseException) -> None:
        """The read in progress has ended with `error`: everything that came stays readable."""
        if isinstance(error, asyncio.CancelledError):
            self.mark(error, done=self.have())
        large = self._large
        self.end()
        self._search = self._large = None
        if large is not None:
            self._give_back(large)

    def _give_back(self, large: LargeRead) -> None:
        if not self.channel.closed:
            large.give_back(self.buffer)

    def _look(self) -> bool | None:
        """Attempt until the read is over, its turn is (law 35), or more is not likely there."""
        until = self.bytes_received + BYTES_PER_TURN
        before = self.bytes_received
        self.channel.ripe = False
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
        large, room = self._large, READ_BYTES
        try:
            if large is None:
                chunk = self._receive(READ_BYTES)
                taken = len(chunk)
                buffer = self.buffer
                if buffer.size:
                    buffer.append(chunk)
                else:
                    buffer.data = chunk
                    buffer.lines = None
                    buffer.start = 0
                    buffer.size = taken
            else:
                missing = self._wanted - self.buffer.size - large.size
                room = min(missing, READ_BYTES)
                taken = large.receive(self.channel, missing)
        except BlockingIOError:
            self._dry = True
            return False
        except OSError as error:
            self.fail(error)
            self._finished = True
            return True
        self._dry = taken < room or self.channel.dry
        if not taken:
            self._finished = True
            return True
        self.bytes_received += taken
        if self.moving is not None:
            return self._came(taken, self.moving)
        if large is None and self._search is None:
            return self.buffer.size >= self._wanted
        return self._satisfied()

    def _begun(self) -> bool:
        """Whether a part of what the read wants is here, or of what flows anyway."""
        if self.name == "read_some":
            floor = None if self.moving is None else self.moving.floor
            return floor is not None and floor.flows
        return self.have() > 0

    def _came(self, size: int, moving: Moving) -> bool:
        """The end of an `attempt` under `moving` limits."""
        now = self.channel.loop.time()
        moving.moved(size, now)
        floor = moving.floor
        if floor is not None and self.name == "read_some":
            floor.flows = True
        if self._satisfied():
            self.stop_moving(now)  # so that nobody has to read the time for that later
            return True
        if floor is not None and floor not in self.running:  # a first byte brings a deadline nearer
            self.start_clocks(now, begun=True)
            self.channel.rearm(self)
        return False

    def _satisfied(self) -> bool:
        if self._search is not None and self._search.find(self.buffer):
            return True
        have = self.buffer.size
        if self._large is not None:
            have += self._large.size
        return have >= self._wanted

    def _conclusion(self) -> bool | None:
        """True: there; False: the end came first; None: not over. Raises what was met instead."""
        if self.channel.closed:  # first: what was buffered is gone, and the rest is not the whole
            raise self.closed()
        if self._satisfied():
            return True
        if not self._finished:
            return None
        if self.failure is not None:
            what = f"{self} ({self._progress()})"
            raise connection_lost(self.failure, what, done=self.have(), peer=self.peer)
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

    def describe(self, wait: Wait) -> None:
        super().describe(wait)
        wait.done = self.have()
        if self.channel.closed:
            wait.outcome = "closed"
        elif self._finished and not self._satisfied():
            wait.error = self.failure
            wait.outcome = "end" if self.failure is None else "failed"

    def _progress(self) -> str:
        expected = self.expected
        of = "" if expected is None else f" of {expected}"
        return f"{self.have()}{of} bytes are buffered and readable"

    def _check_end(self) -> None:
        """Refuse to take an end for the end of what the peer had to say, if it was not (law 29)."""
        if self.channel.truncated:
            raise self.incomplete()

    def incomplete(self) -> IncompleteRead:
        self.turns.charge(self.buffer.size)  # for the copy
        truncated = self.channel.truncated
        how = "without saying goodbye, as TLS has it" if truncated else "first"
        error = TruncatedStream if truncated else IncompleteRead
        return error(
            f"{self}: the peer ended the stream {how}; {self._progress()}",
            partial=self.buffer.peek(),
            expected=self.expected,
        )

    def _over(self, limit: int, how: str) -> LimitExceeded:
        self.turns.charge(limit)  # for the search
        return LimitExceeded(
            f"{self}: {how} the limit of {limit} bytes; nothing was discarded, {self._progress()}",
            limit=limit,
            consumed=self.have(),
        )
