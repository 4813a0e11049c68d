"""Conformance: a datagram is whole or not there, no cut loses one, and every limit holds.

Two sockets are looked at: `client`, which is connected, and `server`, which answers whoever sends.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
from typing import TYPE_CHECKING, Any, Final, Self

from netio._datagram import DatagramSocket
from netio._defaults import DEFAULT
from netio._errors import DeadlineExceeded, StreamBusy, StreamClosed
from netio._limits import Budget, Deadline, Timeouts
from netio._scopes import move_on_after, timeout
from netio.testing._conformance.checking import (
    PATIENCE,
    Scene,
    checks_of,
    expect,
    noise,
    promise,
    same,
    show,
)

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from contextlib import AbstractAsyncContextManager

    from netio._datagram_receiving import Datagram
    from netio._limits import Timeout
    from netio._scopes import Scope

    Sockets = tuple[DatagramSocket, DatagramSocket]
    MakeSockets = Callable[[], Awaitable[Sockets] | AbstractAsyncContextManager[Sockets]]

# A socket's queue may be short (10 datagrams of a Unix socket of Linux); this many fit in any.
_FEW: Final = 5
_MANY: Final = 300
_TURNS_MAX: Final = 5
_ENDLESS_CALLS: Final = 2000


class Exchange(Scene):
    """Two sockets; datagrams of one that are to be seen by the other."""

    client: DatagramSocket
    server: DatagramSocket

    def __init__(self, short: float, make_sockets: MakeSockets) -> None:
        super().__init__(short)
        self._make_sockets = make_sockets
        self._opened = contextlib.AsyncExitStack()

    async def open(self) -> Self:
        """Make the two; both are closed in the end."""
        making: Any = self._make_sockets()
        if hasattr(making, "__aenter__"):
            made = await self._opened.enter_async_context(making)
        elif inspect.isawaitable(making):
            made = await making
        else:
            raise TypeError(
                "make_sockets must be an async function that returns two netio.DatagramSockets, or "
                f"return an async context manager of them, and not {show(making)}"
            )
        sockets: Any = made if isinstance(made, tuple) and len(made) == 2 else (None, None)
        if not all(isinstance(sock, DatagramSocket) for sock in sockets):
            raise TypeError(f"make_sockets must give two netio.DatagramSockets, not {show(made)}")
        self.client, self.server = sockets
        for sock in sockets:
            self._opened.callback(sock.close)
        return self

    async def end(self) -> None:
        """Cancel what still runs, and close both."""
        try:
            await super().end()
        finally:
            await self._opened.aclose()

    async def send(self, data: bytes) -> None:
        """`client` sends, and it is in the queue of `server`, or with who waits there."""
        await self.client.send(data, timeout=PATIENCE)
        await self.settle()

    async def receives(self, data: bytes, work: Awaitable[Datagram]) -> Datagram:
        """`work` gives a datagram of `client` with these bytes."""
        began = self.now()
        datagram = await work
        self.promptly(began, "receive")
        same(data, datagram.data, "what came")
        expect(
            datagram.address == self.client.local,
            f"address is {datagram.address!r}, and the sender's {self.client.local!r}",
        )
        return datagram

    async def comes(self, data: bytes) -> Datagram:
        """The next datagram that `server` receives is this one."""
        return await self.receives(data, self.server.receive(timeout=PATIENCE))

    async def is_empty(self) -> None:
        """Nothing more comes to `server`."""
        await self.raises(DeadlineExceeded, self.server.receive(timeout=0))


# Sending and receiving. -----------------------------------------------------------------------


@promise()
async def a_datagram_arrives_as_it_was_sent(pair: Exchange) -> None:
    """A datagram of any size that fits comes with its bytes, none of another, and an empty one."""
    for size in (1, 0, 100, 1400, 8000, 0):
        data = noise(size, size)
        await pair.send(data)
        datagram = await pair.comes(data)
        expect(not datagram.truncated, f"one of {size} bytes says that it was cut")
    await pair.is_empty()


@promise()
async def datagrams_are_not_joined(pair: Exchange) -> None:
    """Of several that are there, each receive gives one, in the order they were sent in."""
    for number in range(_FEW):
        await pair.send(b"%d" % number * (number + 1))
    for number in range(_FEW):
        await pair.comes(b"%d" % number * (number + 1))


@promise()
async def an_answer_reaches_who_asked(pair: Exchange) -> None:
    """What is sent to the address of a datagram is received by its sender, with the own address."""
    await pair.send(b"question")
    question = await pair.comes(b"question")
    await pair.server.send_to(b"answer", question.address, timeout=PATIENCE)
    answer = await pair.client.receive(timeout=PATIENCE)
    same(b"answer", answer.data)
    told = pair.server.local
    expect(answer.address == told, f"the answer is of {answer.address!r}, not {told!r}")
    expect(pair.client.peer == told, f"peer is {pair.client.peer!r}, not {told!r}")


@promise(33)
async def a_buffer_may_be_changed_after_a_send(pair: Exchange) -> None:
    """What is sent is what stood in the buffer at the call, and nothing holds on to it."""
    memory = bytearray(b"before")
    await pair.client.send(memory, timeout=PATIENCE)
    memory[:] = b"behind"
    memory.append(0)
    await pair.comes(b"before")


@promise()
async def a_receive_that_waits_is_woken(pair: Exchange) -> None:
    """Who waits has the datagram as soon as it comes, again and again."""
    for number in range(_FEW):
        receiving = await pair.begin(pair.server.receive(timeout=PATIENCE))
        await pair.send(b"%d" % number)
        await pair.receives(b"%d" % number, receiving)


@promise()
async def many_are_exchanged_in_a_row(pair: Exchange) -> None:
    """A long conversation goes on to its end, with nothing twice and nothing missing."""
    for number in range(_MANY):
        await pair.client.send(b"%d" % number, timeout=PATIENCE)
        datagram = await pair.comes(b"%d" % number)
        await pair.server.send_to(datagram.data, datagram.address, timeout=PATIENCE)
        same(b"%d" % number, (await pair.client.receive(timeout=PATIENCE)).data)


@promise()
async def the_statistics_count_datagrams(pair: Exchange) -> None:
    """`statistics` tells how many were sent and received, and their bytes, also after the close."""
    for data in (b"", b"abc"):
        await pair.send(data)
        await pair.comes(data)
    sent = pair.client.statistics()
    pair.server.close()
    received = pair.server.statistics()
    told = (sent.sent, sent.bytes_sent, received.received, received.bytes_received)
    expect(told == (2, 3, 2, 3), f"{told} are counted; (2, 3, 2, 3) went and came")


# Limits. --------------------------------------------------------------------------------------


@promise(9)
async def with_no_time_it_takes_what_is_there(pair: Exchange) -> None:
    """A limit of zero, less, or long past takes what is there; where nothing is, it is an error."""
    for limit in (0, -1, Deadline.at(pair.now() - 1)):
        began = pair.now()
        error = await pair.raises(DeadlineExceeded, pair.server.receive(timeout=limit))
        pair.lasted(began, 0)
        kind = "deadline" if isinstance(limit, Deadline) else "call"
        expect(error.limit == kind, f"limit is {error.limit!r}, not {kind!r}")
        await pair.send(b"here")
        await pair.receives(b"here", pair.server.receive(timeout=limit))


@promise(12)
async def every_limit_ends_a_receive(pair: Exchange) -> None:
    """Seconds, a point in time, a budget and the default each end a receive, and are named."""
    pair.server.timeouts = Timeouts(read=pair.short)
    limits: dict[str, Callable[[], Timeout]] = {
        "call": lambda: pair.short,
        "deadline": lambda: Deadline.after(pair.short),
        "budget": lambda: Budget(pair.short),
        "read": lambda: DEFAULT,
    }
    for kind, limit in limits.items():
        began = pair.now()
        error = await pair.raises(DeadlineExceeded, pair.server.receive(timeout=limit()))
        pair.lasted(began, pair.short, f"the receive under {kind!r}")
        expect(error.limit == kind, f"limit is {error.limit!r}, not {kind!r}")
        expect(error.operation == "receive", f"operation is {error.operation!r}")


@promise(14)
async def a_scope_ends_a_receive_and_is_told_which(pair: Exchange) -> None:
    """A scope around a receive without a limit ends it, and says what it cut."""
    error = None
    try:
        async with timeout(pair.short, name="outer"):
            await pair.server.receive(timeout=None)
    except DeadlineExceeded as caught:
        error = caught
    expect(error is not None, "the block ended without an error")
    told = (error.scope_name, error.operation) if error is not None else None
    expect(told == ("outer", "receive"), f"the error tells {told}")


@promise(1)
async def what_is_no_limit_is_refused(pair: Exchange) -> None:
    """A limit that is none, or NaN, is an error at once, and no datagram is taken for it."""
    await pair.send(b"here")
    await pair.raises(TypeError, pair.server.receive(timeout="5"))  # type: ignore[arg-type]
    await pair.raises(ValueError, pair.server.receive(timeout=float("nan")))
    await pair.comes(b"here")


# Cuts. ----------------------------------------------------------------------------------------


@promise(10)
async def a_cancel_loses_no_datagram(pair: Exchange) -> None:
    """A receive that is cancelled in any turn after one has come has it, or the next one has."""
    for turns in range(_TURNS_MAX):
        receiving = await pair.begin(pair.server.receive(timeout=PATIENCE))
        await pair.client.send(b"%d" % turns, timeout=PATIENCE)
        for _ in range(turns):
            await asyncio.sleep(0)
        receiving.cancel()
        await pair.ended(receiving)
        if receiving.cancelled():
            await pair.comes(b"%d" % turns)
        else:
            await pair.receives(b"%d" % turns, receiving)
    await pair.is_empty()


@promise(10)
async def a_scope_loses_no_datagram(pair: Exchange) -> None:
    """A receive that a scope cuts in any turn after one has come has it, or the next one has."""
    for turns in range(_TURNS_MAX):
        scope = move_on_after(None)

        receiving = await pair.begin(_receive_within(scope, pair.server))
        await pair.client.send(b"%d" % turns, timeout=PATIENCE)
        for _ in range(turns):
            await asyncio.sleep(0)
        if not receiving.done():
            scope.cancel()  # through the loop, as it expires, but with no clock in between
        await pair.ended(receiving)
        for datagram in receiving.result():
            same(b"%d" % turns, datagram.data)
        if not receiving.result():
            await pair.comes(b"%d" % turns)
    await pair.is_empty()


async def _receive_within(scope: Scope, sock: DatagramSocket) -> list[Datagram]:
    """One, or none if the scope ends it."""
    came = []
    async with scope:
        came.append(await sock.receive(timeout=PATIENCE))
    return came


@promise(11)
async def a_limit_leaves_the_cancel_count_alone(pair: Exchange) -> None:
    """A limit that ends a receive counts as no cancel, and the socket goes on."""
    task = asyncio.current_task()
    before = task.cancelling() if task is not None else 0
    await pair.raises(DeadlineExceeded, pair.server.receive(timeout=pair.short))
    expect(task is None or task.cancelling() == before, "the task counts another cancel")
    await pair.send(b"on")
    await pair.comes(b"on")


# Misuse, and the end. -------------------------------------------------------------------------


@promise()
async def there_is_one_receiver_at_a_time(pair: Exchange) -> None:
    """A second receive is `StreamBusy` at once, and the first one goes on."""
    receiving = await pair.begin(pair.server.receive(timeout=PATIENCE))
    await pair.raises(StreamBusy, pair.server.receive(timeout=PATIENCE))
    await pair.send(b"for the first")
    await pair.receives(b"for the first", receiving)


@promise()
async def a_datagram_that_is_too_large_is_refused_whole(pair: Exchange) -> None:
    """One that is larger than any is an error, of which nothing is sent, and the next one goes."""
    await pair.raises((ValueError, OSError), pair.client.send(bytes(32 << 20), timeout=PATIENCE))
    expect(pair.client.statistics().sent == 0, "it is counted as sent")
    await pair.send(b"fits")
    await pair.comes(b"fits")
    await pair.is_empty()


@promise()
async def each_send_has_its_kind_of_socket(pair: Exchange) -> None:
    """`send` needs a peer, `send_to` none: the wrong one is `ValueError`, and nothing is sent."""
    await pair.raises(ValueError, pair.server.send(b"x", timeout=PATIENCE))
    await pair.raises(ValueError, pair.client.send_to(b"x", pair.server.local, timeout=PATIENCE))
    await pair.is_empty()


@promise(34)
async def closing_wakes_who_waits(pair: Exchange) -> None:
    """A close ends the receive that waits, and every call after it, with `StreamClosed`."""
    receiving = await pair.begin(pair.client.receive(timeout=PATIENCE))
    await pair.client.aclose()
    pair.client.close()
    await pair.raises(StreamClosed, receiving)
    await pair.raises(StreamClosed, pair.client.receive(timeout=PATIENCE))
    await pair.raises(StreamClosed, pair.client.send(b"x", timeout=PATIENCE))
    expect(pair.client.closed, "closed is False")
    number = pair.client.socket.fileno()
    expect(number == -1, f"the descriptor is {number} still")


@promise(34)
async def iterating_gives_each_and_ends_with_the_close(pair: Exchange) -> None:
    """`async for` gives one datagram after the other, and ends quietly when this side closes."""
    came: list[bytes] = []

    async def iterate() -> None:
        async for datagram in pair.server:
            came.append(datagram.data)  # noqa: PERF401 - what came is looked at meanwhile

    iterating = await pair.begin(iterate())
    for number in range(_FEW):
        await pair.send(b"%d" % number)
    await pair.until(lambda: len(came) == _FEW, f"that {_FEW} datagrams came")
    pair.server.close()
    await pair.gives(None, iterating)
    same(b"".join(b"%d" % number for number in range(_FEW)), b"".join(came))


@promise(35)
async def calls_that_never_wait_leave_turns_to_others(pair: Exchange) -> None:
    """An endless run of sends, receives and failures lets the loop turn now and then."""
    turned = 0

    async def turn() -> None:
        nonlocal turned
        while True:
            await asyncio.sleep(0)
            turned += 1

    pair.start(turn())
    for _ in range(_ENDLESS_CALLS):
        await pair.client.send(b"x", timeout=PATIENCE)
        await pair.server.receive(timeout=0)
    expect(turned > 2, f"{_ENDLESS_CALLS} sends and receives left {turned} turns")
    before = turned
    for _ in range(_ENDLESS_CALLS):
        with contextlib.suppress(DeadlineExceeded):
            await pair.server.receive(timeout=0)
    expect(turned > before + 2, f"{_ENDLESS_CALLS} failures left {turned - before} turns")


DATAGRAMS = checks_of(globals())
