"""Peers that stop, drip or send garbage in place of TLS: each ends in an error, and in time.

`NETIO_GARBAGE` in the environment is how many first flights of garbage are played; 400 if it is not
there. `NETIO_GARBAGE=40000 make test ARGS="-k garbage"` plays 10,000 in each test.
"""

import asyncio
import logging
import os
import random
import socket
import ssl
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

import pytest
import secured
from footprint import footprint, settled
from streams import outcome_of, ticks

import netio
from netio._memory import memory_pair
from netio._stream import Stream

FLIGHTS = int(os.environ.get("NETIO_GARBAGE", "400"))
TOTAL = 0.5  # seconds of a handshake, mostly on a virtual clock
LATE = 10 * TOTAL  # what a busy machine may make of it; on a virtual clock it is met exactly
PATIENT = 20 * TOTAL  # where no limit is to be met
WAVE = 50  # played at once

Mutate = Callable[[bytes, random.Random], bytes]


def hello() -> bytes:
    """The first flight of a client."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = secured.client_context().wrap_bio(incoming, outgoing, server_hostname=secured.NAME)
    with pytest.raises(ssl.SSLWantReadError):
        tls.do_handshake()
    return outgoing.read()


def cut(data: bytes, rng: random.Random) -> bytes:
    return data[: rng.randrange(len(data))]


def change(data: bytes, rng: random.Random) -> bytes:
    changed = bytearray(data)
    for _ in range(rng.randint(1, 8)):
        changed[rng.randrange(len(changed))] = rng.randrange(256)
    return bytes(changed)


def insert(data: bytes, rng: random.Random) -> bytes:
    at = rng.randrange(len(data))
    return data[:at] + rng.randbytes(rng.randint(1, 300)) + data[at:]


def leave_out(data: bytes, rng: random.Random) -> bytes:
    at = rng.randrange(len(data))
    return data[:at] + data[at + rng.randint(1, 20) :]


GARBAGE: dict[str, Mutate] = {
    "cut": cut,
    "changed": change,
    "inserted": insert,
    "left out": leave_out,
    "HTTP": lambda data, rng: b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"[: rng.randint(1, 27)],
    "zeros": lambda data, rng: bytes(rng.randint(1, 70_000)),
    "random": lambda data, rng: rng.randbytes(rng.randint(1, 2000)),
    "oversize record": lambda data, rng: b"\x16\x03\x01\xff\xff" + rng.randbytes(66_000),
    "an endless message": lambda data, rng: (
        b"\x16\x03\x01\x40\x00\x01\xff\xff\xff" + (bytes(16_380) + b"\x16\x03\x01\x40\x00") * 12
    ),
    "twice": lambda data, rng: data + data,
    "an alert": lambda data, rng: b"\x15\x03\x01\x00\x02" + rng.randbytes(2),
}


class Played:
    """One side of a handshake with a peer of which each byte is chosen, and what has gone wrong."""

    def __init__(self, side: str, *, ends: bool) -> None:
        self.failed: list[object] = []
        self.contexts = secured.contexts()
        self._side = side
        self._ends = ends
        self._hello = hello()
        self._loop = asyncio.get_running_loop()
        self._loop.set_exception_handler(lambda _, context: self.failed.append(context))

    async def play(self, seed: int) -> None:
        kind = list(GARBAGE)[seed % len(GARBAGE)]
        near, far = memory_pair(self._loop, capacity=1 << 20)
        stream = Stream(near, timeouts=netio.Timeouts(), limit=65536)
        began = self._loop.time()
        shaking = asyncio.create_task(outcome_of(self._start_tls(stream)))
        first = self._hello
        if self._side == "client":
            await ticks(2)
            first = self._answer_to(far.receive(65536))
        far.send(GARBAGE[kind](first, random.Random(seed)))
        if self._ends:
            far.close()
        error = await shaking
        if error is None and self._side == "client" and kind in ("twice", "changed"):
            # Of the bytes that TLS ignores one was changed, or the garbage is behind its own.
            error = await outcome_of(stream.read_some(timeout=TOTAL))
        if not isinstance(error, netio.NetioError) or self._loop.time() - began > LATE:
            self.failed.append((kind, seed, error))
        await stream.aclose()
        if near.waiters or not near.closed:
            self.failed.append((kind, seed, near.waiters))
        far.close()

    async def _start_tls(self, stream: Stream) -> None:
        client, server = self.contexts
        if self._side == "client":
            await stream.start_tls(client, server_hostname=secured.NAME, timeout=TOTAL)
        else:
            await stream.start_tls(server, server_side=True, timeout=TOTAL)

    def _answer_to(self, flight: bytes) -> bytes:
        """The first flight of a server."""
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        incoming.write(flight)
        with pytest.raises(ssl.SSLWantReadError):
            self.contexts[1].wrap_bio(incoming, outgoing, server_side=True).do_handshake()
        return outgoing.read()


async def in_waves(play: Callable[[Any], Awaitable[object]], cases: Iterable[Any]) -> list[Any]:
    """Some at once, since on most loops their limits take real time."""
    cases = list(cases)
    outcomes: list[Any] = []
    for at in range(0, len(cases), WAVE):
        outcomes += await asyncio.gather(*map(play, cases[at : at + WAVE]))
    return outcomes


@pytest.mark.any_clock
@pytest.mark.timeout(600)
@pytest.mark.parametrize("ends", [False, True], ids=["and waits", "and leaves"])
@pytest.mark.parametrize("side", ["client", "server"])
async def test_garbage_in_place_of_a_first_flight_ends_in_an_error_in_time(
    side: str, *, ends: bool
) -> None:
    """A hello of a client that happens to be one is met by silence."""
    played = Played(side, ends=ends)
    await in_waves(played.play, range(FLIGHTS // 4))
    assert not played.failed


@pytest.mark.any_clock
@pytest.mark.timeout(60)
async def test_a_hello_cut_at_each_byte_is_waited_for_and_then_cut() -> None:
    loop = asyncio.get_running_loop()
    first, context = hello(), secured.server_context()

    async def play(size: int) -> object:
        near, far = memory_pair(loop)
        stream = Stream(near, timeouts=netio.Timeouts(), limit=65536)
        far.send(first[:size])
        error = await outcome_of(stream.start_tls(context, server_side=True, timeout=TOTAL))
        stream.abort()
        return type(error)

    outcomes = await asyncio.gather(*map(play, range(len(first) + 1)))
    assert set(outcomes) == {netio.DeadlineExceeded}


@pytest.mark.any_clock
@pytest.mark.parametrize("side", ["client", "server"])
@pytest.mark.parametrize("version", secured.VERSIONS)
async def test_a_peer_that_stops_at_any_byte_of_its_flights_is_cut_in_time(
    side: str, version: str
) -> None:
    """Also in the middle of a record; and one that leaves there is a lost connection."""
    loop = asyncio.get_running_loop()

    async def play(case: tuple[int, bool]) -> tuple[object, int]:
        """The outcome, and how much the peer had to say for the whole of the handshake."""
        allowed, leaves = case
        timeout = PATIENT if leaves or allowed > 100_000 else TOTAL
        near, far = memory_pair(loop)
        ours, theirs = (Stream(c, timeouts=netio.Timeouts(), limit=65536) for c in (near, far))
        budget, said = [allowed], [0]
        send = far.send

        def stop(data: bytes | memoryview) -> int:
            passed = bytes(data[: budget[0]])
            budget[0] -= len(passed)
            said[0] += len(data)
            if passed:
                send(passed)
            if leaves and passed and not budget[0]:
                far.shut_down_writing()
            return len(data)

        class Stopping:
            def __getattr__(self, name: str) -> object:
                return stop if name == "send" else getattr(far, name)

        theirs._channel = Stopping()
        client, server = (ours, theirs) if side == "client" else (theirs, ours)
        contexts = secured.contexts(version)
        starting = (
            client.start_tls(contexts[0], server_hostname=secured.NAME, timeout=timeout),
            server.start_tls(contexts[1], server_side=True, timeout=timeout),
        )
        tasks = {
            end: asyncio.create_task(start)
            for end, start in zip((client, server), starting, strict=True)
        }
        began = loop.time()
        outcome = await outcome_of(tasks[ours])
        assert loop.time() - began <= LATE
        tasks[theirs].cancel()
        await outcome_of(tasks[theirs])
        ours.abort()
        theirs.abort()
        assert not near.waiters
        return outcome, said[0]

    outcome, whole = await play((1 << 20, False))
    assert outcome is None
    for leaves, error in ((False, netio.DeadlineExceeded), (True, netio.ConnectionLost)):
        cases = [(allowed, leaves) for allowed in range(1, whole, 29)]
        outcomes = [type(outcome) for outcome, _ in await in_waves(play, cases)]
        # What a server says last (its tickets) the client does not wait for.
        while side == "client" and outcomes[-1] is type(None):
            outcomes.pop()
        assert set(outcomes) == {error}


@pytest.mark.any_clock
@pytest.mark.parametrize("version", secured.VERSIONS)
async def test_a_drip_does_not_renew_the_limit_of_a_handshake(version: str) -> None:
    loop = asyncio.get_running_loop()
    near, far = memory_pair(loop)
    stream = Stream(near, timeouts=netio.Timeouts(), limit=65536)
    task = asyncio.create_task(
        stream.start_tls(secured.server_context(version), server_side=True, timeout=TOTAL)
    )
    began = loop.time()
    for byte in hello():
        if task.done():
            break
        far.send(bytes([byte]))
        await asyncio.sleep(TOTAL / 20)
    assert type(await outcome_of(task)) is netio.DeadlineExceeded
    assert loop.time() - began < 1.2 * TOTAL
    stream.abort()
    far.close()


@pytest.mark.real_time("clients that the kernel connects")
@pytest.mark.timeout(600)
async def test_a_server_meets_garbage_with_one_line_each_and_goes_on(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO, "netio")
    makes, first = list(GARBAGE.values()), hello()
    loop = asyncio.get_running_loop()
    failed: list[object] = []
    loop.set_exception_handler(lambda _, context: failed.append(context))

    async def echo(stream: netio.Stream) -> None:
        await stream.write(await stream.read_exactly(1))

    serving = netio.serve_tcp(
        echo,
        "127.0.0.1",
        tls=secured.server_context(),
        timeouts=netio.Timeouts(handshake=0.3),
        grace=1,
    )
    before = footprint()
    async with serving as server:

        async def meet(seed: int) -> None:
            with socket.socket() as sock:
                sock.setblocking(False)
                await loop.sock_connect(sock, ("127.0.0.1", server.port))
                try:
                    flight = makes[seed % len(makes)](first, random.Random(seed))
                    await loop.sock_sendall(sock, flight)
                    while await loop.sock_recv(sock, 10_000):
                        pass
                except ConnectionError:
                    pass

        await in_waves(meet, range(FLIGHTS // 4))
        context = secured.client_context()
        async with netio.connect_tcp("127.0.0.1", server.port, tls=context) as stream:
            await stream.write(b"x")
            assert await stream.read_exactly(1) == b"x"
    assert await settled(before) == before
    records = [record for record in caplog.records if record.name == "netio"]
    assert len(records) == FLIGHTS // 4
    assert all(record.exc_info is None for record in records)
    assert not failed
