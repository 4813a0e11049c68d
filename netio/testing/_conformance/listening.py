"""Conformance: who connects reaches a handler, and a server that is closed leaves nobody waiting.

A listener is looked at through two functions, one that serves and one that connects, so that the
same promises can be asked of any network, and later of other ways to listen.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any

from netio._errors import (
    ConnectFailed,
    ConnectionLost,
    DeadlineExceeded,
    NetioError,
    TruncatedStream,
)
from netio._server import Server
from netio._stream import Stream
from netio.testing._conformance.checking import PATIENCE, Scene, checks_of, expect, promise, show

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    Handler = Callable[[Stream], Awaitable[object]]
    Serve = Callable[..., Awaitable[Server]]
    Connect = Callable[..., Awaitable[Stream]]

_MANY = 30
_TURNS_MAX = 8


class Service(Scene):
    """A way to serve and one to connect; what is opened is closed in the end."""

    def __init__(self, short: float, serve: Serve, connect: Connect) -> None:
        super().__init__(short)
        self._serve = serve
        self._connect = connect
        self._opened = contextlib.AsyncExitStack()
        self.server: Server

    async def serve(self, handler: Handler, *, grace: float = 0.0, **options: Any) -> Server:
        """Begin to serve, as what `connect` connects to."""
        server = await self._serve(handler, grace=grace, **options)
        if not isinstance(server, Server):
            raise TypeError(f"serve must give a netio.Server, not {show(server)}")
        self._opened.push_async_callback(server.aclose)
        self.server = server
        return server

    async def connect(self, **options: Any) -> Stream:
        """Connect to the server."""
        stream = await self._connect(self.server, **{"timeout": PATIENCE, **options})
        if not isinstance(stream, Stream):
            raise TypeError(f"connect must give a netio.Stream, not {show(stream)}")
        self._opened.callback(stream.abort)
        return stream

    @contextlib.asynccontextmanager
    async def connected(self) -> AsyncIterator[tuple[Stream, Stream]]:
        """A client, and the stream that a handler has."""
        accepted: asyncio.Queue[Stream] = asyncio.Queue()
        over = asyncio.Event()

        async def handler(stream: Stream) -> None:
            accepted.put_nowait(stream)
            await over.wait()

        try:
            await self.serve(handler)
            client = await self.connect()
            yield client, await asyncio.wait_for(accepted.get(), PATIENCE)
        finally:
            over.set()
            await self.end()

    async def end(self) -> None:
        """Cancel what still runs, cut the connections, and close the server."""
        try:
            await super().end()
        finally:
            await self._opened.aclose()

    async def echoes(self, stream: Stream, text: bytes = b"hello") -> None:
        """What is written comes back."""
        await stream.write(text, timeout=PATIENCE)
        await self.gives(text, stream.read_exactly(len(text), timeout=PATIENCE))

    async def meets_an_end(self, stream: Stream) -> None:
        """The peer ends the connection, in whatever way."""
        try:
            await self.gives(b"", stream.read_some(timeout=PATIENCE))
        except ConnectionLost:
            pass


async def _echo(stream: Stream) -> None:
    # With more patience than a check has: it is the client's end that ends it.
    async for chunk in stream.chunks(timeout=10 * PATIENCE):
        await stream.write(chunk, timeout=PATIENCE)


# Connecting. ----------------------------------------------------------------------------------


@promise()
async def a_connection_reaches_a_handler(service: Service) -> None:
    """Who connects has a stream, its other end is a handler's, and bytes go both ways."""
    await service.serve(_echo)
    stream = await service.connect()
    await service.echoes(stream)
    await stream.aclose()
    await service.until(lambda: not service.server.connections, "that the handler met the end")


@promise()
async def connections_are_not_mixed(service: Service) -> None:
    """Of many connections at once each has a handler of its own, and its own bytes."""
    await service.serve(_echo)

    async def talk(number: int) -> None:
        stream = await service.connect()
        for _ in range(3):
            await service.echoes(stream, b"%d;" % number)
            await asyncio.sleep(0)

    for task in [service.start(talk(number)) for number in range(_MANY)]:
        await service.gives(None, task)
    told = service.server.statistics().accepted
    expect(told == _MANY, f"{told} connections were accepted, and {_MANY} made")


@promise()
async def the_ends_agree_about_their_addresses(service: Service) -> None:
    """`peer` of either end is `local` of the other, and the server's address is among them."""
    seen: list[tuple[object, object]] = []

    async def handler(stream: Stream) -> None:
        seen.append((stream.peer, stream.local))
        await stream.read_some(timeout=PATIENCE)

    server = await service.serve(handler)
    stream = await service.connect()
    ours = (stream.local, stream.peer)
    await service.until(lambda: bool(seen), "that a handler ran")
    expect(seen[0] == ours, f"the client has {ours}, and the handler {seen[0]}")
    expect(stream.peer in server.addresses, f"{stream.peer!r} is none of {server.addresses!r}")


@promise()
async def a_cancelled_connect_leaves_nothing_behind(service: Service) -> None:
    """A connect that is cancelled at any moment leaves no connection: its handler meets an end."""
    await service.serve(_echo)
    for turns in range(_TURNS_MAX):
        task = service.start(_connected(service))
        for _ in range(turns):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait({task}, timeout=PATIENCE)
        expect(task.done(), f"it goes on after a cancel, {turns} turns after it began")
        if not task.cancelled():
            task.result().abort()
    await service.settle()
    await service.until(lambda: not service.server.connections, "that all handlers met an end")
    await service.echoes(await service.connect())


@promise(12)
async def connecting_ends_at_its_limit(service: Service) -> None:
    """A connect with no time at all is over at once, with a stream or with `DeadlineExceeded`."""
    await service.serve(_echo)
    began = service.now()
    try:
        stream = await service.connect(timeout=0)
    except DeadlineExceeded as error:
        expect(error.limit == "call" or error.limit == "connect", f"limit is {error.limit!r}")
    else:
        stream.abort()
    service.lasted(began, 0)


@promise()
async def connecting_to_a_closed_server_fails(service: Service) -> None:
    """Where nobody listens any more, connecting is `ConnectFailed`, which tells each attempt."""
    server = await service.serve(_echo)
    await service.connect()
    await server.aclose()
    error = await service.raises(ConnectFailed, service.connect())
    expect(len(error.attempts) > 0, "it tells of no attempt")


# Handlers. ------------------------------------------------------------------------------------


@promise()
async def a_handler_that_returns_closes_its_stream(service: Service) -> None:
    """When a handler returns, what it wrote is read, and then the end."""

    async def handler(stream: Stream) -> None:
        await stream.write(b"bye", timeout=PATIENCE)

    await service.serve(handler)
    stream = await service.connect()
    await service.gives(b"bye", stream.read_all(limit=10, timeout=PATIENCE))
    await service.until(lambda: not service.server.connections, "that the connection is over")


@promise()
async def an_error_of_a_handler_ends_its_connection_only(service: Service) -> None:
    """A handler that fails ends its connection, is told to `on_error`, and disturbs no other."""
    told: list[Exception] = []

    async def handler(stream: Stream) -> None:
        if await stream.read_exactly(1, timeout=PATIENCE) == b"!":
            raise ConnectionError("as a peer might cause it")
        await _echo(stream)

    await service.serve(handler, on_error=lambda _, error: told.append(error))
    good, bad = await service.connect(), await service.connect()
    await good.write(b"+", timeout=PATIENCE)
    await bad.write(b"!", timeout=PATIENCE)
    await service.meets_an_end(bad)
    await service.echoes(good)
    await service.until(lambda: len(told) == 1, "that on_error was told")
    failed = service.server.statistics().failed
    expect(failed == 1, f"{failed} handlers are counted that failed, and 1 did")


@promise()
async def a_slow_handler_holds_up_nobody(service: Service) -> None:
    """While handlers wait, further connections are accepted and served."""
    idle = asyncio.Event()

    async def handler(stream: Stream) -> None:
        if await stream.read_exactly(1, timeout=PATIENCE) == b"s":
            await idle.wait()
        await _echo(stream)

    await service.serve(handler)
    for _ in range(3):
        slow = await service.connect()
        await slow.write(b"s", timeout=PATIENCE)
    quick = await service.connect()
    await quick.write(b"q", timeout=PATIENCE)
    await service.echoes(quick)


@promise()
async def a_client_that_leaves_at_once_does_not_end_the_server(service: Service) -> None:
    """Connections that are cut as soon as they are made are passed over or meet their end."""
    await service.serve(_echo)
    for _ in range(_MANY):
        (await service.connect()).abort()
    await service.echoes(await service.connect())
    await service.until(lambda: len(service.server.connections) == 1, "that the others are over")


@promise()
async def the_statistics_count_connections(service: Service) -> None:
    """`statistics` and `connections` tell what was accepted, and what runs now."""
    server = await service.serve(_echo)
    streams = [await service.connect() for _ in range(3)]
    await service.until(lambda: len(server.connections) == 3, "that three handlers run")
    await streams[0].aclose()
    await service.until(lambda: len(server.connections) == 2, "that two of them are left")
    counts = server.statistics()
    told = (counts.accepted, counts.active, counts.failed)
    expect(told == (3, 2, 0), f"{told} were accepted, active and failed; (3, 2, 0) are")


# The end of a server. -------------------------------------------------------------------------


@promise(25)
async def a_close_lets_handlers_end_within_its_grace(service: Service) -> None:
    """Handlers that end by themselves within the grace are left alone, and are counted so."""

    async def handler(stream: Stream) -> None:
        await stream.read_exactly(1, timeout=PATIENCE)
        await stream.write(b"done", timeout=PATIENCE)

    server = await service.serve(handler, grace=PATIENCE)
    stream = await service.connect()
    await service.until(lambda: bool(server.connections), "that a handler runs")
    closing = await service.begin(server.aclose())
    await stream.write(b"x", timeout=PATIENCE)
    await service.gives(b"done", stream.read_all(limit=10, timeout=PATIENCE))
    await service.ended(closing)
    expect(closing.result().finished == 1, f"the report is {closing.result()}")


@promise(25)
async def a_close_ends_handlers_after_its_grace(service: Service) -> None:
    """Handlers that go on are cancelled when the grace is over, and their peers meet an end."""
    server = await service.serve(_echo, grace=service.short)
    stream = await service.connect()
    await service.echoes(stream)
    began = service.now()
    report = await server.aclose()
    service.lasted(began, service.short, "the close")
    expect(report.cancelled == 1, f"the report is {report}")
    await service.meets_an_end(stream)
    expect(not server.connections, f"{server.connections} are left")


@promise(25)
async def closing_a_server_may_be_repeated(service: Service) -> None:
    """A server can be closed again, and in its block; what was closed stays so."""
    async with await service.serve(_echo) as server:
        await server.aclose()
        await server.aclose()
    await service.raises(ConnectFailed, service.connect())


@promise(25)
async def a_connection_that_meets_the_close_is_not_left_waiting(service: Service) -> None:
    """Who connects as the server is closed is served, refused, or meets an end."""
    for turns in range(_TURNS_MAX):
        server = await service.serve(_echo)
        task = service.start(_connected(service))
        for _ in range(turns):
            await asyncio.sleep(0)
        await server.aclose()
        await service.ended(task)
        try:
            stream = task.result()
        except NetioError as error:
            # Over TLS it meets the end in its handshake, or of one that was not done there.
            refused = isinstance(error, ConnectFailed | ConnectionLost)
            expect(refused, f"connecting raised {show(error)}")
        else:
            with contextlib.suppress(TruncatedStream):
                await service.meets_an_end(stream)


@promise()
async def serving_for_ever_ends_with_the_server(service: Service) -> None:
    """`serve_forever` returns when the server is closed, and a cancel ends only the wait."""
    server = await service.serve(_echo)
    waiting = await service.begin(server.serve_forever())
    cut = await service.begin(server.serve_forever())
    cut.cancel()
    await service.is_cancelled(cut)
    await service.echoes(await service.connect())
    await server.aclose()
    await service.gives(None, waiting)


@promise(24)
async def a_closed_server_leaves_no_task(service: Service) -> None:
    """After the close of a server no task is left of it, nor of its connections."""
    before = asyncio.all_tasks()
    for _ in range(_TURNS_MAX):
        server = await service.serve(_echo)
        await service.echoes(await service.connect())
        await server.aclose()
    await service.settle()
    left = [task for task in asyncio.all_tasks() - before if not task.done()]
    expect(len(left) < _TURNS_MAX, f"{len(left)} tasks run after {_TURNS_MAX} servers: {left[:1]}")


async def _connected(service: Service) -> Stream:
    return await service.connect()


LISTENING = checks_of(globals())
