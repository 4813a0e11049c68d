"""The memory network and the kernel's loopback say the same of the same scenario, word for word.

What is compared is what a program sees: results, classes of errors, their numbers, how much was
done, what is still readable. A scenario is played once on each network; on the kernel's it has to
wait a moment after each step, so that what the other side did has come.
"""

import asyncio
import contextlib
import itertools
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
from streams import outcome_of, tcp_sockets

import netio
from netio._channel import Channel, SocketChannel
from netio._memory import memory_pair
from netio._network import SystemNetwork
from netio._operation import Operation
from netio.testing import Network, run

MOMENT_S = 0.002  # for loopback to deliver; virtual in memory
LOOPBACK = "loopback needs a moment to deliver, and nothing tells when it has"

Ends = tuple[netio.Stream, netio.Stream]  # a client's and a server's
Scenario = Callable[[netio.Stream, netio.Stream], Awaitable[list[Any]]]


@contextlib.asynccontextmanager
async def connected(network: Network | None) -> AsyncIterator[Ends]:
    arrived: asyncio.Future[netio.Stream] = asyncio.get_running_loop().create_future()
    over = asyncio.Event()

    async def handler(stream: netio.Stream) -> None:
        arrived.set_result(stream)
        await over.wait()

    async with netio.serve_tcp(handler, "127.0.0.1", network=network) as server:
        async with netio.connect_tcp("127.0.0.1", server.port, network=network) as client:
            try:
                yield client, await arrived
            finally:
                over.set()


def told(outcome: Any) -> Any:
    """What a program can tell of it, without what differs from run to run (ports, times)."""
    if not isinstance(outcome, BaseException):
        return outcome
    more = {name: getattr(outcome, name) for name in ("done", "limit") if hasattr(outcome, name)}
    if isinstance(outcome, netio.IncompleteRead):
        more["partial"] = outcome.partial
    return type(outcome).__name__, getattr(outcome, "errno", None), more


async def read(stream: netio.Stream) -> Any:
    return told(await outcome_of(stream.read_some(timeout=0)))


async def write(stream: netio.Stream, data: bytes = b"x") -> Any:
    return told(await outcome_of(stream.write(data, timeout=0)))


async def end(stream: netio.Stream) -> Any:
    return told(await outcome_of(stream.write_eof()))


async def moment() -> None:
    await asyncio.sleep(MOMENT_S)


async def play(steps: str, near: netio.Stream, far: netio.Stream) -> list[Any]:
    """A scenario in letters: r, w, e of the near end read, write, end; capitals are the far end's.

    c and C close, a and A abort; what each says is kept.
    """
    said = []
    for step in steps:
        stream = far if step.isupper() else near
        match step.lower():
            case "r":
                said.append((step, await read(stream)))
            case "w":
                said.append((step, await write(stream)))
            case "e":
                said.append((step, await end(stream)))
            case "c":
                await stream.aclose()
            case "a":
                stream.abort()
        await moment()
    return said


SCRIPTS = (
    "r w R W r",  # all is well
    "W C r r w w w r e",  # the end, and writes after it
    "C w w r r",
    "C w r w r",
    "C e w r",
    "C w e r r",
    "W A r r r w w",  # a reset, after data that is still readable
    "W A w r r r w e",
    "A r r w w e",
    "A w w r",
    "A e r w",
    "W E A r r w w",  # a reset after the end
    "E A w r r",
    "E A e r r",
    "E e A r r w",
    "e A r r",  # a reset after one's own end
    "e W A r r r",
    "e C r r",
    "e W r R W r C r",  # half close: the other direction goes on
    "E w R w R r",
    "E r r w R e R R",
    "w C r r w w",  # closed over bytes that nobody read: still an end, and no reset
    "w A r w",
    "w w c R R R W W R",
    "w a R R R W",
    "e e W r E r E",  # repeated
    "c r w e R W W",  # on a stream that is closed on this side
    "a r w e R W",
    "c c a C A",
)


async def playing(script: str, network: Network | None) -> list[Any]:
    async with connected(network) as (near, far):
        return await play(script.replace(" ", ""), near, far)


@pytest.mark.parametrize("script", SCRIPTS)
@pytest.mark.real_time(LOOPBACK)
async def test_ends_resets_and_half_closes_look_the_same(script: str) -> None:
    on_loopback = await playing(script, None)
    in_memory = await asyncio.to_thread(run, playing(script, Network()))
    assert in_memory == on_loopback
    assert len(on_loopback) > 1 or "c c" in script


@pytest.mark.real_time(LOOPBACK)
async def test_whatever_two_ends_do_to_each_other_looks_the_same() -> None:
    """Three steps of either end in every order, and what both ends see then."""
    steps = "wWeEaACc"
    scripts = ["".join(three) + "rRwWrR" for three in itertools.product(steps, repeat=3)]
    on_loopback = await asyncio.gather(*(playing(script, None) for script in scripts))

    async def all_in_memory() -> list[Any]:
        return [await playing(script, Network()) for script in scripts]

    in_memory: Any = await asyncio.to_thread(run, all_in_memory())
    different = {
        script: pair
        for script, *pair in zip(scripts, on_loopback, in_memory, strict=True)
        if pair[0] != pair[1]
    }
    assert not different


def play_on_channels(script: str, near: Channel, far: Channel) -> list[Any]:
    """The same one level below, where an error is told once."""
    said: list[Any] = []
    ended = set()
    for step in script:
        channel = far if step.isupper() else near
        if channel.closed or (step in "eE" and step in ended):
            continue  # a stream does neither
        try:
            match step.lower():
                case "r":
                    said.append(channel.receive(100))
                case "w":
                    said.append(channel.send(b"x"))
                case "e":
                    ended.add(step)
                    channel.shut_down_writing()
                case "c":
                    channel.close()
                case "a":
                    channel.abort()
        except OSError as error:
            said.append((step, type(error).__name__, error.errno))
    return said


async def test_channels_say_the_same_and_each_error_once() -> None:
    loop = asyncio.get_running_loop()
    for first in itertools.product("wWeEaACcrR", repeat=3):
        script = "".join(first) + "rRwWeErRwWrR"
        sockets = tcp_sockets()
        for sock in sockets:
            sock.setblocking(False)
        kernel = [SocketChannel(loop, sock) for sock in sockets]
        on_loopback = play_on_channels(script, *kernel)
        memory = memory_pair(loop)
        assert play_on_channels(script, *memory) == on_loopback, script
        near, far = Network().pair()
        assert play_on_channels(script, near._channel, far._channel) == on_loopback, script
        for channel in (*kernel, *memory, near._channel, far._channel):
            channel.close()


# Waiting operations. ---------------------------------------------------------------------------


async def waits(near: netio.Stream, far: netio.Stream, event: str) -> list[Any]:
    """What a waiting read makes of what the other end does."""
    waiting = asyncio.create_task(outcome_of(near.read_exactly(5)))
    await moment()
    assert not waiting.done()
    match event:
        case "close":
            await far.aclose()
        case "abort":
            far.abort()
        case "data, end":
            await far.write(b"123")
            await far.write_eof()
        case "data, abort":
            await far.write(b"123")
            far.abort()
        case "data":
            await far.write(b"12345")
        case "own close":
            await near.aclose()
        case "own abort":
            near.abort()
    outcome = told(await waiting)
    after = [] if "own" in event else [await read(near), await read(near)]
    return [outcome, after]


EVENTS = ("close", "abort", "data, end", "data, abort", "data", "own close", "own abort")


@pytest.mark.parametrize("event", EVENTS)
@pytest.mark.real_time(LOOPBACK)
async def test_a_read_that_waits_ends_the_same(event: str) -> None:
    async def played(network: Network | None) -> list[Any]:
        async with connected(network) as (near, far):
            return await waits(near, far, event)

    on_loopback = await played(None)
    assert await asyncio.to_thread(run, played(Network())) == on_loopback


# Full buffers. ---------------------------------------------------------------------------------


async def full(near: netio.Stream, far: netio.Stream, event: str) -> list[Any]:
    """A large write that has filled the buffers, and what becomes of it."""
    limit = 0.05 if event == "nothing" else 5
    writing = asyncio.create_task(outcome_of(near.write(bytes(1 << 25), timeout=limit)))
    await asyncio.sleep(0.02)
    assert not writing.done()
    received = 0
    match event:
        case "abort":
            far.abort()
        case "close":
            await far.aclose()
        case "read all":
            received = len(await far.read_exactly(1 << 25))
        case "own abort":
            near.abort()
        case "own close":
            await near.aclose()
        case "nothing":
            pass
    outcome = told(await writing)
    if isinstance(outcome, tuple):
        assert 0 < outcome[2].pop("done") < 1 << 25
    again = [await write(near)]
    for one in again:
        if isinstance(one, tuple):
            one[2].pop("done", None)
    return [outcome, received, *again]


@pytest.mark.parametrize(
    "event", ["nothing", "abort", "close", "read all", "own abort", "own close"]
)
@pytest.mark.real_time(LOOPBACK)
async def test_a_write_into_full_buffers_ends_the_same(event: str) -> None:
    async def played(network: Network | None) -> list[Any]:
        async with connected(network) as (near, far):
            return await full(near, far, event)

    on_loopback = await played(None)
    assert await asyncio.to_thread(run, played(Network())) == on_loopback


# Connecting and listening. ---------------------------------------------------------------------


async def nothing(stream: netio.Stream) -> None:
    pass


def in_words(error: Any, port: int) -> list[Any]:
    """Class, number and text of an error and of all it was made of, without the port."""
    texts = [(type(e).__name__, e.errno, str(e)) for e in (error, *getattr(error, "attempts", ()))]
    return [(name, number, text.replace(str(port), "PORT")) for name, number, text in texts]


async def refused(network: Network | None) -> list[Any]:
    async with netio.serve_tcp(nothing, "127.0.0.1", network=network) as server:
        pass
    error = await outcome_of(netio.connect_tcp("127.0.0.1", server.port, network=network))
    return in_words(error, server.port)


async def address_in_use(network: Network | None) -> list[Any]:
    said = []
    for one, other in (("127.0.0.1", "127.0.0.1"), ("0.0.0.0", "127.0.0.1"),
                       ("127.0.0.1", "0.0.0.0"), ("127.0.0.1", "127.0.0.2")):  # fmt: skip
        async with netio.serve_tcp(nothing, one, network=network) as server:
            again = await outcome_of(netio.serve_tcp(nothing, other, server.port, network=network))
            if isinstance(again, netio.Server):
                said.append("free")
                await again.aclose()
            else:
                said += in_words(again, server.port)
    return said


async def addresses(network: Network | None) -> list[Any]:
    said: list[Any] = []
    for host in ("127.0.0.1", "0.0.0.0", None):
        async with netio.serve_tcp(nothing, host, network=network) as server:
            said += [address[0] for address in server.addresses]
            assert len({address[1] for address in server.addresses}) == 1
            async with netio.connect_tcp("127.0.0.1", server.port, network=network) as stream:
                said += [stream.peer[0], stream.local[0], len(stream.peer)]  # type: ignore
                assert stream.local[1] not in (0, server.port)  # type: ignore
            where = str(server.addresses[0][0])
            async with netio.connect_tcp(where, server.port, network=network) as stream:
                said.append(stream.local[0])  # type: ignore
    return said


async def unknown_name(network: Network | None) -> list[Any]:
    name = "no-such-name.invalid"
    listening = await outcome_of(netio.serve_tcp(nothing, name, 7000, network=network))
    connecting = await outcome_of(netio.connect_tcp(name, 7000, network=network))
    return [*in_words(listening, 7000)[:1], *in_words(connecting, 7000)[:1]]


async def full_backlog(network: Network | None) -> list[Any]:
    """Connections that nobody accepts: how many are made, and that the next one has to wait."""
    lookup = Operation("listen")
    where = network or SystemNetwork()
    [acceptor] = await where.listen("127.0.0.1", 0, lookup, backlog=2)
    port = acceptor.address[1]  # type: ignore
    limits = netio.Timeouts(attempt=0.02)
    said: list[Any] = []
    streams = []
    for _ in range(4):
        one = await outcome_of(
            netio.connect_tcp("127.0.0.1", port, timeouts=limits, network=network)
        )
        if isinstance(one, netio.Stream):
            streams.append(one)
            said.append("connected")
        else:
            said += [type(error).__name__ for error in (one, *one.attempts)]
    acceptor.close()
    await moment()
    for stream in streams:  # those that were queued
        said.append(told(await outcome_of(stream.read_some())))
        await stream.aclose()
    return said


@pytest.mark.parametrize(
    "scenario", [refused, address_in_use, addresses, unknown_name, full_backlog]
)
@pytest.mark.real_time(LOOPBACK)
async def test_connecting_and_listening_say_the_same(
    scenario: Callable[[Network | None], Awaitable[list[Any]]],
) -> None:
    on_loopback = await scenario(None)
    in_memory: Any = await asyncio.to_thread(run, scenario(Network()))  # type: ignore
    assert in_memory == on_loopback
    assert on_loopback
