"""Peers that stop, drip or send garbage in place of TLS: each ends in an error, and in time.

`NETIO_GARBAGE` in the environment is how many first flights of garbage are played; 400 if it is not
there.
"""

import asyncio
import logging
import os
import random
import socket
import ssl
from collections.abc import Callable

import pytest
import secured
from streams import outcome_of

import netio
from netio._memory import memory_pair
from netio._stream import Stream

FLIGHTS = int(os.environ.get("NETIO_GARBAGE", "400"))
TOTAL = 0.5  # seconds of a handshake, on a virtual clock

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


@pytest.mark.any_clock
@pytest.mark.timeout(600)
@pytest.mark.parametrize("ends", [False, True], ids=["and waits", "and leaves"])
async def test_garbage_in_place_of_a_hello_ends_in_an_error_in_time(*, ends: bool) -> None:
    """The server's side; a hello that happens to be one is met by silence."""
    loop = asyncio.get_running_loop()
    failed: list[tuple[str, object]] = []
    loop.set_exception_handler(lambda _, context: failed.append(("loop", context)))
    first, context = hello(), secured.server_context()
    kinds = list(GARBAGE)
    for seed in range(FLIGHTS // 2):
        kind = kinds[seed % len(kinds)]
        flight = GARBAGE[kind](first, random.Random(seed))
        near, far = memory_pair(loop, capacity=1 << 20)
        stream = Stream(near, timeouts=netio.Timeouts(), limit=65536)
        far.send(flight)
        if ends:
            far.close()
        began = loop.time()
        error = await outcome_of(stream.start_tls(context, server_side=True, timeout=TOTAL))
        if not isinstance(error, netio.NetioError) or loop.time() - began > 1.1 * TOTAL:
            failed.append((f"{kind} {seed}", error))
        await stream.aclose()
        if near.waiters or not near.closed:
            failed.append((f"{kind} {seed}", near.waiters))
        far.close()
    assert not failed


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

    async def play(allowed: int, *, leaves: bool) -> tuple[object, int]:
        """The outcome, and how much the peer had to say for the whole of the handshake."""
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
        tasks = {
            client: asyncio.create_task(
                client.start_tls(
                    secured.client_context(version), server_hostname=secured.NAME, timeout=TOTAL
                )
            ),
            server: asyncio.create_task(
                server.start_tls(secured.server_context(version), server_side=True, timeout=TOTAL)
            ),
        }
        began = loop.time()
        outcome = await outcome_of(tasks[ours])
        assert loop.time() - began <= 1.1 * TOTAL
        tasks[theirs].cancel()
        await outcome_of(tasks[theirs])
        ours.abort()
        theirs.abort()
        assert not near.waiters
        return outcome, said[0]

    outcome, whole = await play(1 << 20, leaves=False)
    assert outcome is None
    for allowed in range(1, whole, 29):
        outcome, _ = await play(allowed, leaves=False)
        # What a server says last (its tickets) the client does not wait for.
        assert outcome is None or type(outcome) is netio.DeadlineExceeded
        outcome, _ = await play(allowed, leaves=True)
        assert outcome is None or type(outcome) is netio.ConnectionLost


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
async def test_a_server_meets_garbage_with_one_line_each_and_goes_on(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO, "netio")
    flights = [make(hello(), random.Random(7)) for make in GARBAGE.values()]
    loop = asyncio.get_running_loop()

    async def echo(stream: netio.Stream) -> None:
        await stream.write(await stream.read_exactly(1))

    serving = netio.serve_tcp(
        echo,
        "127.0.0.1",
        tls=secured.server_context(),
        timeouts=netio.Timeouts(handshake=0.2),
        grace=1,
    )
    async with serving as server:

        async def meet(flight: bytes) -> None:
            with socket.socket() as sock:
                sock.setblocking(False)
                await loop.sock_connect(sock, ("127.0.0.1", server.port))
                try:
                    await loop.sock_sendall(sock, flight)
                    while await loop.sock_recv(sock, 10_000):
                        pass
                except ConnectionError:
                    pass

        await asyncio.gather(*map(meet, flights))
        context = secured.client_context()
        async with netio.connect_tcp("127.0.0.1", server.port, tls=context) as stream:
            await stream.write(b"x")
            assert await stream.read_exactly(1) == b"x"
    records = [record for record in caplog.records if record.name == "netio"]
    assert len(records) == len(flights)
    assert all(record.exc_info is None for record in records)
