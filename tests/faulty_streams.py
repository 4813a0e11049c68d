"""Streams with one planted fault each, over good channels; see `faulty_channels`."""

import asyncio
from collections.abc import Callable
from typing import Any

from faulty_channels import is_seconds

import netio
from netio._errors import LimitExceeded

# Streams: reading. -----------------------------------------------------------------------------


class ReturnsEarly(netio.Stream):
    """`read_exactly` returns what is there."""

    async def read_exactly(self, n: int, **options: Any) -> bytes:
        return await super().read_some(n, **options) if n else b""


class DropsTheRest(netio.Stream):
    """`read_exactly` drops what has come with the bytes that were asked for."""

    async def read_exactly(self, n: int, **options: Any) -> bytes:
        data = await super().read_exactly(n, **options)
        if 1 < n < 100:
            self._receiver.buffer.clear()
        return data


class WaitsForNothing(netio.Stream):
    """`read_exactly(0)` and an empty `read_into` wait for a byte."""

    async def read_exactly(self, n: int, **options: Any) -> bytes:
        if n == 0 and not self.buffered and not self.closed:
            await super().read_exactly(1, timeout=0.1)
        return await super().read_exactly(n, **options)


class ReadSomeFills(netio.Stream):
    """`read_some` waits until it has all that it may return."""

    async def read_some(self, max_bytes: int = 65536, **options: Any) -> bytes:
        if 1 < max_bytes < 65536:
            try:
                return await super().read_exactly(max_bytes, **options)
            except netio.IncompleteRead:
                pass
        return await super().read_some(max_bytes, **options)


class ReadSomeDiscards(netio.Stream):
    """`read_some` drops what is past the bytes that were asked for."""

    async def read_some(self, max_bytes: int = 65536, **options: Any) -> bytes:
        return (await super().read_some(65536, **options))[:max_bytes]


class StripsCarriageReturns(netio.Stream):
    """`read_line` without its newline is without a carriage return, too."""

    async def read_line(self, *, keep: bool = True, **options: Any) -> bytes:
        line = await super().read_line(keep=keep, **options)
        return line if keep else line.removesuffix(b"\r")


class StopsAtAnEmptyLine(netio.Stream):
    """`lines` takes an empty line for the end."""

    def lines(self, *, keep: bool = True, **options: Any) -> Any:
        async def iterate() -> Any:
            while line := await self.read_line(keep=keep, **options):
                yield line

        return iterate()


class MissesCutSeparators(netio.Stream):
    """`read_until` looks for its separator in each piece that comes."""

    async def read_until(self, separator: Any, **options: Any) -> bytes:
        if separator != b"\r\n\r\n":
            return await super().read_until(separator, **options)
        record = b""
        while True:
            piece = await super().read_some(**options)
            head, found, tail = piece.partition(separator)
            record += head + found
            if found:
                if tail:
                    self._receiver.buffer.append(tail)
                return record


class TakesTheFirstSeparator(netio.Stream):
    """`read_until` looks for one separator after the other."""

    async def read_until(self, separator: Any, **options: Any) -> bytes:
        if isinstance(separator, tuple):
            separator = separator[0]
        return await super().read_until(separator, **options)


class ReadAllStopsEarly(netio.Stream):
    """`read_all` stops when no more is there."""

    async def read_all(self, **options: Any) -> bytes:
        if not self.closed and not self._receiver.busy:
            return await super().read_some(options["limit"] or 1, timeout=options["timeout"])
        return await super().read_all(**options)


class PeekTakes(netio.Stream):
    """`peek` takes the bytes that it shows."""

    def peek(self) -> bytes:
        shown = super().peek()
        self._receiver.buffer.clear()
        return shown


class LetsTwoRead(netio.Stream):
    """A second reader takes the place of the first."""

    async def read_some(self, *args: Any, **options: Any) -> bytes:
        self._receiver.busy = False
        return await super().read_some(*args, **options)

    async def read_line(self, **options: Any) -> bytes:
        self._receiver.busy = False
        return await super().read_line(**options)


class StaysBusy(netio.Stream):
    """A read that was cancelled leaves the stream busy."""

    async def read_exactly(self, n: int, **options: Any) -> bytes:
        try:
            return await super().read_exactly(n, **options)
        except asyncio.CancelledError:
            self._receiver.busy = True
            raise


class LosesAtTheEnd(netio.Stream):
    """What came before an end that comes too early is gone."""

    async def read_exactly(self, n: int, **options: Any) -> bytes:
        try:
            return await super().read_exactly(n, **options)
        except netio.IncompleteRead:
            self._receiver.buffer.clear()
            raise


class EndToldOnce(netio.Stream):
    """Waits on when the end was met once."""

    met = False

    async def read_some(self, *args: Any, **options: Any) -> bytes:
        data = await super().read_some(*args, **options)
        if not data and not self.met:
            self.met = True
        elif not data:
            await asyncio.sleep(1)
            raise netio.DeadlineExceeded
        return data


class LosesOnCancel(netio.Stream):
    """What came to a read that is cut is gone."""

    async def read_exactly(self, n: int, **options: Any) -> bytes:
        try:
            return await super().read_exactly(n, **options)
        except asyncio.CancelledError:
            self._receiver.buffer.clear()
            raise


class LosesAtTheLimit(netio.Stream):
    """A byte is lost when a read meets its limit."""

    async def read_exactly(self, n: int, **options: Any) -> bytes:
        try:
            return await super().read_exactly(n, **options)
        except netio.DeadlineExceeded:
            if self.buffered:
                self._receiver.buffer.take(1)
            raise


class CarriesPayloadInTheWakeUp(netio.Stream):
    """The bytes go to the task that reads, and are lost when that is cut at this moment."""

    async def read_exactly(self, n: int, **options: Any) -> bytes:
        data = await super().read_exactly(n, **options)
        if 1 < n < 100:
            await asyncio.sleep(0)
        return data


# Streams: writing. -----------------------------------------------------------------------------


class CountsItems(netio.Stream):
    """Writes as many bytes as a buffer has items."""

    async def write(self, data: Any, **options: Any) -> None:
        if not isinstance(data, str) and memoryview(data).itemsize > 1:
            data = bytes(memoryview(data).cast("B"))[: len(data)]
        await super().write(data, **options)


class EmptyIsTheEnd(netio.Stream):
    """Takes an empty write for the end of the stream."""

    async def write(self, data: Any, **options: Any) -> None:
        if data == b"":
            await super().write_eof()
        await super().write(data, **options)


class WritesPieceByPiece(netio.Stream):
    """`write_many` lets other writes in between its buffers."""

    async def write_many(self, buffers: Any, **options: Any) -> None:
        for buffer in buffers:
            await super().write(buffer, **options)
            await asyncio.sleep(0)


class LastWriterFirst(netio.Stream):
    """Of the writes that wait their turn the last one comes first."""

    async def write(self, data: Any, **options: Any) -> None:
        queue = self._sender._queue
        if queue and len(queue) > 1:
            queue.rotate(1)
        await super().write(data, **options)


class OneLockForBoth(netio.Stream):
    """A write waits until no read is under way."""

    async def write(self, data: Any, **options: Any) -> None:
        for _ in range(100):
            if not self._receiver.busy:
                break
            await asyncio.sleep(0.1)
        await super().write(data, **options)


class DoneOffByOne(netio.Stream):
    """The error of a write that was cut counts a byte too many."""

    async def write(self, data: Any, **options: Any) -> None:
        try:
            await super().write(data, **options)
        except (netio.DeadlineExceeded, netio.StreamClosed, asyncio.CancelledError) as error:
            if getattr(error, "done", 0):
                error.done += 1  # type: ignore[union-attr]
            raise


class ForgetsItIsTorn(netio.Stream):
    """Takes further writes after one that was sent in part."""

    async def write(self, data: Any, **options: Any) -> None:
        self._sender._torn = None
        await super().write(data, **options)


class TornByAnyCut(netio.Stream):
    """Refuses further writes after one that was cut, also before anything was sent."""

    async def write(self, data: Any, **options: Any) -> None:
        try:
            await super().write(data, **options)
        except (netio.DeadlineExceeded, asyncio.CancelledError):
            self._sender._torn = "it was cut"
            raise


class SendsWhatWasCutInTheQueue(netio.Stream):
    """A write that is cut while it waits its turn is sent all the same."""

    async def write(self, data: Any, **options: Any) -> None:
        try:
            await super().write(data, **options)
        except (netio.DeadlineExceeded, asyncio.CancelledError) as error:
            if not getattr(error, "done", 1) and self._sender._current is not None:
                self._later = asyncio.ensure_future(super().write(data))
            raise


# Streams: limits. ------------------------------------------------------------------------------


def with_limit(change: Callable[[Any], Any]) -> type[netio.Stream]:
    """A stream of which every limit is changed like this."""

    class Changed(netio.Stream):
        async def read_exactly(self, n: int, *, timeout: Any = netio.DEFAULT) -> bytes:
            return await super().read_exactly(n, timeout=change(timeout))

        async def read_some(self, n: int = 65536, *, timeout: Any = netio.DEFAULT) -> bytes:
            return await super().read_some(n, timeout=change(timeout))

        async def write(self, data: Any, *, timeout: Any = netio.DEFAULT) -> None:
            await super().write(data, timeout=change(timeout))

    return Changed


LIMIT_EARLY = with_limit(lambda t: t * 0.9 if is_seconds(t) else t)
LIMIT_LATE = with_limit(lambda t: t + 0.005 if is_seconds(t) and t > 0 else t)
LIMIT_IGNORED = with_limit(lambda t: None if is_seconds(t) and 0 < t < 1 else t)
ZERO_WAITS = with_limit(lambda t: 0.01 if is_seconds(t) and t <= 0 else t)
NONE_IS_DEFAULT = with_limit(lambda t: netio.DEFAULT if t is None else t)
DEFAULT_IS_NONE = with_limit(lambda t: None if t is netio.DEFAULT else t)
DEADLINE_IS_A_DURATION = with_limit(
    lambda t: t.remaining() + 0.01 if isinstance(t, netio.Deadline) else t
)
NAN_IS_NOW = with_limit(lambda t: 0 if isinstance(t, float) and t != t else t)


class ZeroNeverTries(netio.Stream):
    """With no time at all it fails without a look at what is there."""

    async def read_exactly(self, n: int, *, timeout: Any = netio.DEFAULT) -> bytes:
        if is_seconds(timeout) and timeout <= 0 and not self.buffered:
            raise netio.DeadlineExceeded("too late")
        return await super().read_exactly(n, timeout=timeout)


class LooksAtTheLimitFirst(netio.Stream):
    """A limit that has passed wins over what is buffered."""

    async def read_exactly(self, n: int, *, timeout: Any = netio.DEFAULT) -> bytes:
        if is_seconds(timeout) and timeout <= 0:
            raise netio.DeadlineExceeded("too late")
        return await super().read_exactly(n, timeout=timeout)


class MisnamesTheLimit(netio.Stream):
    """Each limit is called a call's."""

    async def read_exactly(self, n: int, **options: Any) -> bytes:
        try:
            return await super().read_exactly(n, **options)
        except netio.DeadlineExceeded as error:
            error.limit = "call"
            raise


class NamesNoPeer(netio.Stream):
    """Its errors don't say with whom."""

    async def read_exactly(self, n: int, **options: Any) -> bytes:
        try:
            return await super().read_exactly(n, **options)
        except netio.DeadlineExceeded as error:
            error.peer = None
            raise


class OneDeadlineForBoth(netio.Stream):
    """A deadline of one direction holds for both."""

    __slots__ = ()

    read_deadline = netio.Stream.deadline
    write_deadline = netio.Stream.deadline


class IgnoresReadDeadline(netio.Stream):
    """The deadline of reads has no effect."""

    read_deadline = None  # type: ignore[assignment]


class DeadlineForLaterCalls(netio.Stream):
    """A deadline that is set holds for operations that begin later."""

    def _set_deadline(self, name: str, deadline: Any) -> None:
        waiting = [self._receiver] if self._receiver.busy else []
        waiting += [w for w in self._channel.waiters if w is not self._receiver]  # type: ignore
        before = [waiter.deadline for waiter in waiting]
        super()._set_deadline(name, deadline)
        for waiter, when in zip(waiting, before, strict=True):
            waiter.deadline = when


class DeadAfterItsDeadline(netio.Stream):
    """Once a limit was reached it is of no use any more."""

    dead = False

    async def read_exactly(self, n: int, **options: Any) -> bytes:
        if self.dead:
            raise netio.DeadlineExceeded("dead")
        try:
            return await super().read_exactly(n, **options)
        except netio.DeadlineExceeded as error:
            self.dead = error.limit == "deadline"
            raise


class CancelsItsTask(netio.Stream):
    """Ends a read by cancelling its task, and does not take that back."""

    async def read_exactly(self, n: int, **options: Any) -> bytes:
        try:
            return await super().read_exactly(n, **options)
        except netio.DeadlineExceeded:
            task = asyncio.current_task()
            assert task is not None
            task.cancel()
            try:
                await asyncio.sleep(0)
            except asyncio.CancelledError:
                pass
            raise


class ShieldsItsReads(netio.Stream):
    """A read goes on when its task is cut, and what it gets is lost."""

    async def read_exactly(self, n: int, **options: Any) -> bytes:
        return await asyncio.shield(super().read_exactly(n, **options))


class AlwaysSuspends(netio.Stream):
    """Lets the loop turn also when all is there."""

    async def read_exactly(self, n: int, **options: Any) -> bytes:
        await asyncio.sleep(0)
        return await super().read_exactly(n, **options)


class LimitWinsOverCancel(netio.Stream):
    """Takes a cancel for its limit when that has passed, too."""

    async def read_exactly(self, n: int, **options: Any) -> bytes:
        try:
            return await super().read_exactly(n, **options)
        except asyncio.CancelledError:
            if self.deadline is not None and not self.deadline.remaining():
                raise netio.DeadlineExceeded from None
            raise


class ClosesLater(netio.Stream):
    """Lets the loop turn before it closes."""

    async def aclose(self, **options: Any) -> None:
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        await super().aclose(**options)


class CloseWaitsForThePeer(netio.Stream):
    """Waits with closing until the writes under way are through."""

    async def aclose(self, **options: Any) -> None:
        for _ in range(1000):
            if self._sender._current is None:
                break
            await asyncio.sleep(0.01)
        await super().aclose(**options)


class LeavesItsBlockOpen(netio.Stream):
    """Stays open after its block when that ended with an error."""

    async def __aexit__(self, exc_type: Any, *_: object) -> None:
        if exc_type is None:
            await self.aclose()


class KeepsBytesAfterTheEnd(netio.Stream):
    """Shows, and gives, what was buffered also after it was closed."""

    def _end(self, *_: object) -> None:
        pass


class RaisesOneErrorAgain(netio.Stream):
    """Keeps the error of a lost connection, and raises it again."""

    kept: Any = None

    async def read_some(self, *args: Any, **options: Any) -> bytes:
        try:
            return await super().read_some(*args, **options)
        except netio.ConnectionLost as error:
            self.kept = self.kept or error
            raise self.kept from None

    async def write(self, *args: Any, **options: Any) -> None:
        try:
            await super().write(*args, **options)
        except netio.ConnectionLost as error:
            self.kept = self.kept or error
            raise self.kept from None


class DirectionsKeepTheirFailures(netio.Stream):
    """A failure that one direction has met is not told by the other."""

    async def write(self, *args: Any, **options: Any) -> None:
        kept, self._receiver.failure = self._receiver.failure, None
        try:
            await super().write(*args, **options)
        finally:
            self._receiver.failure = kept


class WriteEofOnce(netio.Stream):
    """Raises when the end is said twice."""

    async def write_eof(self, **options: Any) -> None:
        if self._sender.ended:
            raise netio.StreamClosed("said already")
        await super().write_eof(**options)


class WriteEofOvertakes(netio.Stream):
    """Ends the direction while writes wait."""

    async def write_eof(self, **options: Any) -> None:
        if self._sender._current is None:
            await super().write_eof(**options)
        else:
            self._channel.shut_down_writing()


class WritesAfterTheEnd(netio.Stream):
    """Takes writes after `write_eof`, and drops them."""

    async def write(self, data: Any, **options: Any) -> None:
        if not (self._sender.ended and not self.closed):
            await super().write(data, **options)


# Streams: bounds. ------------------------------------------------------------------------------


class DiscardsWhatIsTooLong(netio.Stream):
    """Drops a record that is longer than its limit."""

    async def read_line(self, **options: Any) -> bytes:
        try:
            return await super().read_line(**options)
        except netio.LimitExceeded:
            self._receiver.buffer.clear()
            raise


class LimitOffByOne(netio.Stream):
    """A line as long as its limit is too long."""

    async def read_line(self, **options: Any) -> bytes:
        if is_seconds(options.get("limit")):
            options["limit"] -= 1
        return await super().read_line(**options)


class ReadAllDiscards(netio.Stream):
    """Drops a byte of what is more than `read_all` may hold."""

    async def read_all(self, **options: Any) -> bytes:
        try:
            return await super().read_all(**options)
        except LimitExceeded:
            self._receiver.buffer.take(1)
            raise


class PutsAWholeRecordAside(netio.Stream):
    """Reads on past its limit to find the end of a line."""

    async def read_line(self, **options: Any) -> bytes:
        try:
            return await super().read_line(**options)
        except netio.LimitExceeded:
            try:
                await super().read_line(limit=1_000_000, timeout=0)
            except (netio.LimitExceeded, netio.DeadlineExceeded):
                pass
            raise


class PreparesRoom(netio.Stream):
    """Makes room for all the bytes that a read is going to have."""

    async def read_exactly(self, n: int, **options: Any) -> bytes:
        _ = bytearray(n if isinstance(n, int) and n > 0 else 0)
        return await super().read_exactly(n, **options)


class NeverYields(netio.Stream):
    """Gives the loop no turn while nothing has to wait."""

    def __init__(self, channel: Any, **options: Any) -> None:
        super().__init__(channel, **options)
        self._receiver.turns = self._sender._turns = EndlessCredit()  # type: ignore[assignment]


class EndlessCredit:
    """A credit that is never used up."""

    credit = property(lambda self: 256, lambda self, value: None)

    def charge(self, size: int) -> None:
        pass

    def renew(self) -> None:
        pass

    async def give(self) -> None:
        pass

    async def pay(self) -> None:
        pass


class CountsNothingSent(netio.Stream):
    """Does not count what is written at once."""

    def statistics(self) -> Any:
        self._sender.bytes_sent = 0
        return super().statistics()


class TakesAnyNumber(netio.Stream):
    """Makes something of a wrong argument."""

    async def read_exactly(self, n: int, **options: Any) -> bytes:
        return await super().read_exactly(abs(n) if isinstance(n, int) else n, **options)


class LosesItsStateInAPickle(netio.Stream):
    """Raises errors that come out of a pickle without what they tell."""

    async def read_exactly(self, n: int, **options: Any) -> bytes:
        try:
            return await super().read_exactly(n, **options)
        except netio.DeadlineExceeded as error:
            raise ForgetfulError(*error.args, done=error.done) from None


class ForgetfulError(netio.DeadlineExceeded):
    """Keeps its message only."""

    def __reduce__(self) -> Any:
        return type(self), self.args


class ReadsAheadStream(netio.Stream):
    """The stream of that."""

    def __init__(self, channel: Any, **options: Any) -> None:
        super().__init__(channel, **options)
        channel.__dict__["receiver"] = self._receiver


class LimitOnlyWhenDry(netio.Stream):
    """Looks at the limit of a read only when no more comes."""

    async def read_exactly(self, n: int, *, timeout: Any = netio.DEFAULT) -> bytes:
        while n > 1 << 30 and is_seconds(timeout):
            try:
                return await super().read_exactly(n, timeout=timeout)
            except netio.DeadlineExceeded:
                if not self.buffered:
                    raise
                self._receiver.buffer.clear()
        return await super().read_exactly(n, timeout=timeout)
