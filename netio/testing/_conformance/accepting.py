"""Conformance: a `Listener` gives each connection once, loses none to a cut, and ends when closed.

It is looked at through two functions, one that listens and one that connects. (Servers, which have
a task for each connection, are looked at in ``listening.py``.)
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any, Final

from netio._defaults import DEFAULT
from netio._errors import ConnectFailed, ConnectionLost, DeadlineExceeded, NetioError, StreamClosed
from netio._limits import Budget, Deadline, Timeouts
from netio._listen import Listener
from netio._scopes import move_on_after, timeout
from netio._stream import Stream
from netio.testing._conformance.checking import PATIENCE, Scene, checks_of, expect, promise, show

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from netio._limits import Timeout
    from netio._scopes import Scope

    Listen = Callable[..., Awaitable[Listener]]
    ConnectTo = Callable[..., Awaitable[Stream]]

_FEW: Final = 5
_MANY: Final = 30
_TURNS_MAX: Final = 6
_ENDLESS_CALLS: Final = 2000


class Counter(Scene):
    """A way to listen and one to connect; what is opened is closed in the end."""

    def __init__(self, short: float, listen: Listen, connect: ConnectTo) -> None:
        super().__init__(short)
        self._listen = listen
        self._connect = connect
        self._opened = contextlib.AsyncExitStack()
        self.listener: Listener

    async def listen(self, **options: Any) -> Listener:
        """Begin to listen, as what `connect` connects to."""
        listener = await self._listen(**options)
        if not isinstance(listener, Listener):
            raise TypeError(f"listen must give a netio.Listener, not {show(listener)}")
        self._opened.push_async_callback(listener.aclose)
        self.listener = listener
        return listener

    async def connect(self) -> Stream:
        """Connect to the listener; it is in the backlog, or with who waits, when this returns."""
        stream = await self._connect(self.listener, timeout=PATIENCE)
        if not isinstance(stream, Stream):
            raise TypeError(f"connect must give a netio.Stream, not {show(stream)}")
        self._opened.callback(stream.abort)
        await self.settle()
        return stream

    async def accept(self, timeout: Timeout = PATIENCE) -> Stream:
        """The next connection, which is cut in the end."""
        stream = await self.listener.accept(timeout=timeout)
        self._opened.callback(stream.abort)
        return stream

    async def end(self) -> None:
        """Cancel what still runs, cut the connections, and close the listener."""
        try:
            await super().end()
        finally:
            await self._opened.aclose()

    async def takes(self, client: Stream, work: Awaitable[Stream]) -> Stream:
        """`work` gives the other end of `client`, and bytes go both ways."""
        began = self.now()
        stream = await work
        self.promptly(began, "accept")
        for sender, receiver, text in ((client, stream, b"there"), (stream, client, b"back")):
            await sender.write(text, timeout=PATIENCE)
            await self.gives(text, receiver.read_exactly(len(text), timeout=PATIENCE))
        return stream

    async def is_empty(self) -> None:
        """Nobody else has connected."""
        await self.raises(DeadlineExceeded, self.listener.accept(timeout=0))

    async def meets_an_end(self, stream: Stream) -> None:
        """The peer ends the connection, in whatever way."""
        try:
            await self.gives(b"", stream.read_some(timeout=PATIENCE))
        except ConnectionLost:
            pass


# Accepting. -----------------------------------------------------------------------------------


@promise()
async def a_connection_is_accepted(counter: Counter) -> None:
    """Who connects has a stream, its other end is accepted, and bytes go both ways."""
    await counter.listen()
    client = await counter.connect()
    await counter.takes(client, counter.accept())
    await counter.is_empty()


@promise()
async def what_came_before_anybody_asked_is_there(counter: Counter) -> None:
    """Connections wait until they are asked for, and each is given once."""
    await counter.listen()
    clients = [await counter.connect() for _ in range(_FEW)]
    for number, client in enumerate(clients):
        await client.write(b"%d" % number, timeout=PATIENCE)
    came = set()
    for _ in clients:
        stream = await counter.accept()
        came.add(await stream.read_exactly(1, timeout=PATIENCE))
    expect(len(came) == _FEW, f"of {_FEW} connections {len(came)} came")
    await counter.is_empty()


@promise()
async def one_that_waits_is_woken(counter: Counter) -> None:
    """Who waits has the connection as soon as it comes, again and again."""
    await counter.listen()
    for _ in range(_FEW):
        accepting = await counter.begin(counter.accept())
        client = await counter.connect()
        await counter.takes(client, accepting)


@promise()
async def of_many_who_wait_each_has_one(counter: Counter) -> None:
    """Of many connections and many who wait for them, each has another, and none is missing."""
    await counter.listen()
    accepting = [await counter.begin(counter.accept()) for _ in range(_MANY)]

    async def come(number: int) -> None:
        stream = await counter.connect()
        await stream.write(b"%d" % number, timeout=PATIENCE)
        await stream.write_eof(timeout=PATIENCE)

    coming = [counter.start(come(number)) for number in range(_MANY)]
    came = set()
    for task in accepting:
        await counter.ended(task)
        came.add(await task.result().read_all(limit=10, timeout=PATIENCE))
    for client in coming:
        await counter.gives(None, client)
    expect(len(came) == _MANY, f"of {_MANY} connections {len(came)} came")


@promise()
async def the_ends_agree_about_addresses(counter: Counter) -> None:
    """`peer` of either end is `local` of the other, and the listener's address is among them."""
    listener = await counter.listen()
    client = await counter.connect()
    stream = await counter.accept()
    ours, theirs = (client.local, client.peer), (stream.peer, stream.local)
    expect(ours == theirs, f"the client has {ours}, and what was accepted {theirs}")
    expect(client.peer in listener.addresses, f"{client.peer!r} is none of {listener.addresses!r}")
    expect(listener.address == listener.addresses[0], f"address is {listener.address!r}")


@promise()
async def a_client_that_left_is_no_error(counter: Counter) -> None:
    """A connection that is gone when it is asked for is passed over, or meets its end."""
    await counter.listen()
    for _ in range(_FEW):
        (await counter.connect()).abort()
    client = await counter.connect()
    await client.write(b"here", timeout=PATIENCE)
    came = b""
    for _ in range(_FEW + 1):
        stream = await counter.accept()
        with contextlib.suppress(ConnectionLost):
            came = await stream.read_some(timeout=PATIENCE)
        if came:
            break
    expect(came == b"here", f"{came!r} came from the one who stayed")
    await counter.takes(client, _given(stream))


async def _given(stream: Stream) -> Stream:
    return stream


# Limits. --------------------------------------------------------------------------------------


@promise(9)
async def without_time_it_takes_what_is_there(counter: Counter) -> None:
    """A limit of zero, less, or long past takes what is there; where nothing is, it is an error."""
    await counter.listen()
    for limit in (0, -1, Deadline.at(counter.now() - 1)):
        began = counter.now()
        error = await counter.raises(DeadlineExceeded, counter.accept(limit))
        counter.lasted(began, 0)
        kind = "deadline" if isinstance(limit, Deadline) else "call"
        expect(error.limit == kind, f"limit is {error.limit!r}, not {kind!r}")
        client = await counter.connect()
        await counter.takes(client, counter.accept(limit))


@promise(12)
async def every_limit_ends_an_accept(counter: Counter) -> None:
    """Seconds, a point in time, a budget and the default each end an accept, and are named."""
    await counter.listen(timeouts=Timeouts(read=counter.short))
    limits: dict[str, Callable[[], Timeout]] = {
        "call": lambda: counter.short,
        "deadline": lambda: Deadline.after(counter.short),
        "budget": lambda: Budget(counter.short),
        "read": lambda: DEFAULT,
    }
    for kind, limit in limits.items():
        began = counter.now()
        error = await counter.raises(DeadlineExceeded, counter.accept(limit()))
        counter.lasted(began, counter.short, f"the accept under {kind!r}")
        expect(error.limit == kind, f"limit is {error.limit!r}, not {kind!r}")
        expect(error.operation == "accept", f"operation is {error.operation!r}")


@promise(14)
async def a_scope_ends_an_accept_and_is_told_which(counter: Counter) -> None:
    """A scope around an accept without a limit ends it, and says what it cut."""
    await counter.listen()
    error = None
    try:
        async with timeout(counter.short, name="outer"):
            await counter.accept(None)
    except DeadlineExceeded as caught:
        error = caught
    expect(error is not None, "the block ended without an error")
    told = (error.scope_name, error.operation) if error is not None else None
    expect(told == ("outer", "accept"), f"the error tells {told}")


@promise(1)
async def what_is_no_limit_of_an_accept_is_refused(counter: Counter) -> None:
    """A limit that is none, or NaN, is an error at once, and no connection is taken for it."""
    await counter.listen()
    client = await counter.connect()
    await counter.raises(TypeError, counter.accept("5"))  # type: ignore[arg-type]
    await counter.raises(ValueError, counter.accept(float("nan")))
    await counter.takes(client, counter.accept())


# Cuts. ----------------------------------------------------------------------------------------


@promise(10)
async def a_cancel_loses_no_connection(counter: Counter) -> None:
    """An accept that is cancelled in any turn after one has come has it, or the next one has."""
    await counter.listen()
    for turns in range(_TURNS_MAX):
        accepting = await counter.begin(counter.accept())
        connecting = counter.start(counter.connect())
        for _ in range(turns):
            await asyncio.sleep(0)
        accepting.cancel()
        await counter.ended(accepting)
        await counter.ended(connecting)
        client = connecting.result()
        await counter.takes(client, counter.accept() if accepting.cancelled() else accepting)
    await counter.is_empty()


@promise(10)
async def a_scope_loses_no_connection(counter: Counter) -> None:
    """An accept that a scope cuts in any turn after one has come has it, or the next one has."""
    await counter.listen()
    for turns in range(_TURNS_MAX):
        scope = move_on_after(None)
        accepting = await counter.begin(_accept_within(scope, counter))
        connecting = counter.start(counter.connect())
        for _ in range(turns):
            await asyncio.sleep(0)
        if not accepting.done():
            scope.reschedule(counter.now())
        await counter.ended(accepting)
        await counter.ended(connecting)
        client, came = connecting.result(), accepting.result()
        await counter.takes(client, _given(came[0]) if came else counter.accept())
    await counter.is_empty()


async def _accept_within(scope: Scope, counter: Counter) -> list[Stream]:
    """One, or none if the scope ends it."""
    came = []
    async with scope:
        came.append(await counter.accept())
    return came


@promise(10)
async def one_that_is_cut_takes_nothing_from_others(counter: Counter) -> None:
    """Of two who wait one is cancelled as a connection comes, which either of them has."""
    await counter.listen()
    for turns in range(_TURNS_MAX):
        first = await counter.begin(counter.accept())
        second = await counter.begin(counter.accept())
        connecting = counter.start(counter.connect())
        for _ in range(turns):
            await asyncio.sleep(0)
        first.cancel()
        await counter.ended(first)
        if first.cancelled():
            await counter.ended(connecting)
            await counter.takes(connecting.result(), second)
        else:
            second.cancel()
            await counter.ended(second)
    await counter.is_empty()


@promise(11)
async def a_limit_of_an_accept_counts_as_no_cancel(counter: Counter) -> None:
    """A limit that ends an accept counts as no cancel, and the listener goes on."""
    await counter.listen()
    task = asyncio.current_task()
    before = task.cancelling() if task is not None else 0
    await counter.raises(DeadlineExceeded, counter.accept(counter.short))
    expect(task is None or task.cancelling() == before, "the task counts another cancel")
    client = await counter.connect()
    await counter.takes(client, counter.accept())


# The end. -------------------------------------------------------------------------------------


@promise(34)
async def closing_wakes_all_who_accept(counter: Counter) -> None:
    """A close ends every accept that waits, and each that comes after it, with `StreamClosed`."""
    listener = await counter.listen()
    accepting = [await counter.begin(counter.accept()) for _ in range(_FEW)]
    await listener.aclose()
    for task in accepting:
        await counter.raises(StreamClosed, task)
    await listener.aclose()
    await counter.raises(StreamClosed, counter.accept(0))
    expect(listener.closed, "closed is False")


@promise(34)
async def iterating_gives_connections_until_the_close(counter: Counter) -> None:
    """`async for` gives one connection after the other, and ends quietly when this side closes."""
    listener = await counter.listen()
    came: list[Stream] = []

    async def iterate() -> None:
        async for stream in listener:
            came.append(stream)  # noqa: PERF401 - what came is looked at meanwhile

    iterating = await counter.begin(iterate())
    try:
        for number in range(1, _FEW + 1):
            client = await counter.connect()
            await counter.until(lambda number=number: len(came) == number, f"that {number} came")  # type: ignore[misc]
            await counter.takes(client, _given(came[-1]))
        await listener.aclose()
        await counter.gives(None, iterating)
    finally:
        for stream in came:
            stream.abort()


@promise()
async def what_was_accepted_outlives_the_listener(counter: Counter) -> None:
    """Connections that were accepted go on when the listener is closed."""
    listener = await counter.listen()
    client = await counter.connect()
    stream = await counter.accept()
    await listener.aclose()
    await counter.takes(client, _given(stream))


@promise()
async def a_closed_listener_refuses(counter: Counter) -> None:
    """Where nobody listens any more, connecting is `ConnectFailed`."""
    async with await counter.listen() as listener:
        await counter.connect()
        await listener.aclose()
    await counter.raises(ConnectFailed, counter.connect())


@promise()
async def who_meets_the_close_is_not_left_waiting(counter: Counter) -> None:
    """Who connects as the listener is closed, and is not accepted, is refused or meets an end."""
    for turns in range(_TURNS_MAX):
        listener = await counter.listen()
        connecting = counter.start(counter.connect())
        for _ in range(turns):
            await asyncio.sleep(0)
        await listener.aclose()
        await counter.ended(connecting)
        try:
            stream = connecting.result()
        except NetioError as error:
            expect(isinstance(error, ConnectFailed), f"connecting raised {show(error)}")
        else:
            await counter.meets_an_end(stream)


@promise(24)
async def a_listener_has_no_task(counter: Counter) -> None:
    """No task is left of what was accepted, nor of a listener that is closed."""
    before = asyncio.all_tasks()
    for _ in range(_TURNS_MAX):
        listener = await counter.listen()
        client = await counter.connect()
        await counter.takes(client, counter.accept())
        await listener.aclose()
    await counter.settle()
    left = [task for task in asyncio.all_tasks() - before if not task.done()]
    expect(not left, f"{len(left)} tasks run after {_TURNS_MAX} listeners: {left[:1]}")


@promise(35)
async def accepts_that_never_wait_leave_turns_to_others(counter: Counter) -> None:
    """An endless run of accepts that fail at once lets the loop turn now and then."""
    await counter.listen()
    turned = 0

    async def turn() -> None:
        nonlocal turned
        while True:
            await asyncio.sleep(0)
            turned += 1

    counter.start(turn())
    for _ in range(_ENDLESS_CALLS):
        with contextlib.suppress(DeadlineExceeded):
            await counter.listener.accept(timeout=0)
    expect(turned > 2, f"{_ENDLESS_CALLS} accepts left {turned} turns")


ACCEPTING = checks_of(globals())
