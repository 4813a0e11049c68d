"""Listeners: connections one by one, none of them lost, whoever asks and whoever is cut."""

import asyncio
import contextlib
import errno
import gc
import os
import socket
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
import unix_paths
from raw_sockets import HAS_IPV6
from streams import outcome_of

import netio
from netio.testing import Network

place = unix_paths.place

KINDS = ("tcp", "unix", "memory", "unix in memory")


class Road:
    """A listener, and how it is connected to."""

    def __init__(self, kind: str, place: Path) -> None:
        self.kind = kind
        self.path = place / "s"
        self.network = Network() if "memory" in kind else None

    def listen(self, **options: Any) -> Any:
        if "unix" in self.kind:
            return netio.listen_unix(self.path, network=self.network, **options)
        return netio.listen_tcp("127.0.0.1", network=self.network, **options)

    async def connect(self, listener: netio.Listener) -> netio.Stream:
        if "unix" in self.kind:
            return await netio.connect_unix(self.path, network=self.network)
        return await netio.connect_tcp("127.0.0.1", listener.port, network=self.network)


@pytest.fixture(params=KINDS)
async def road(request: pytest.FixtureRequest, place: Path) -> Road:
    return Road(request.param, place)


@pytest.fixture
async def listener(road: Road) -> AsyncIterator[netio.Listener]:
    async with road.listen() as listener:
        yield listener


@contextlib.asynccontextmanager
async def linked(road: Road, listener: netio.Listener) -> AsyncIterator[None]:
    """A client that has connected, and the stream accepted for it, which agree."""
    client = await road.connect(listener)
    stream = await listener.accept(timeout=5)
    try:
        await client.write(b"hi")
        assert await stream.read_exactly(2) == b"hi"
        yield
    finally:
        client.abort()
        stream.abort()


async def waiting(coroutine: Any) -> asyncio.Task[Any]:
    task = asyncio.ensure_future(coroutine)
    for _ in range(5):
        await asyncio.sleep(0)
    assert not task.done()
    return task


async def test_one_that_waits_has_the_next_connection(road: Road, listener: netio.Listener) -> None:
    accepting = await waiting(listener.accept())
    client = await road.connect(listener)
    stream = await accepting
    await stream.write(b"x")
    assert await client.read_exactly(1) == b"x"
    client.abort()
    stream.abort()


async def test_what_is_there_is_accepted_at_once(road: Road, listener: netio.Listener) -> None:
    client = await road.connect(listener)
    await asyncio.sleep(0)
    stream = await listener.accept(timeout=0)
    client.abort()
    stream.abort()


@pytest.mark.parametrize("timeout", [0, -1])
async def test_nothing_there_and_no_time_is_an_error_at_once(
    listener: netio.Listener, timeout: float
) -> None:
    with pytest.raises(netio.DeadlineExceeded, match=r"accept on .*nobody has connected") as e:
        await listener.accept(timeout=timeout)
    assert e.value.limit == "call"
    assert e.value.operation == "accept"
    assert e.value.peer == listener.address


@pytest.mark.virtual_clock
async def test_every_kind_of_limit_holds() -> None:
    network = Network()
    loop = asyncio.get_running_loop()
    async with netio.listen_tcp(
        "127.0.0.1", network=network, timeouts=netio.Timeouts(read=7)
    ) as listener:
        for timeout, limit, seconds in (
            (2, "call", 2),
            (netio.Deadline.after(2.5), "deadline", 2.5 - 2),
            (netio.Budget(3), "budget", 3),
            (netio.DEFAULT, "read", 7),
        ):
            began = loop.time()
            with pytest.raises(netio.DeadlineExceeded) as caught:
                await listener.accept(timeout=timeout)
            assert caught.value.limit == limit
            assert loop.time() - began == pytest.approx(seconds)
        with pytest.raises(netio.DeadlineExceeded) as caught:
            async with netio.timeout(4, name="outer"):
                await listener.accept(timeout=None)
        assert caught.value.scope_name == "outer"
        assert caught.value.operation == "accept"


@pytest.mark.virtual_clock
async def test_iterating_waits_for_longer_than_any_default() -> None:
    network = Network()
    async with netio.listen_tcp("127.0.0.1", network=network) as listener:

        async def come_late() -> netio.Stream:
            await asyncio.sleep(10_000)
            return await netio.connect_tcp("127.0.0.1", listener.port, network=network)

        coming = asyncio.ensure_future(come_late())
        async for stream in listener:
            stream.abort()
            break
        (await coming).abort()


async def test_a_cancelled_accept_loses_no_connection(road: Road, listener: netio.Listener) -> None:
    accepting = await waiting(listener.accept())
    client = await road.connect(listener)
    accepting.cancel()  # it may have been woken already
    outcome = await outcome_of(accepting)
    stream = outcome if isinstance(outcome, netio.Stream) else await listener.accept(timeout=5)
    await client.write(b"x")
    assert await stream.read_exactly(1) == b"x"
    client.abort()
    stream.abort()


async def test_in_every_turn_a_cancel_or_a_scope_loses_no_connection(
    road: Road, listener: netio.Listener
) -> None:
    """The connection comes, and the task is cut so many turns later (B16)."""
    for turns in range(6):
        for cut in ("cancel", "scope"):
            scope = netio.move_on_after(None)

            async def accept(scope: netio.Scope = scope) -> netio.Stream | None:
                async with scope:
                    return await listener.accept(timeout=5)
                return None

            accepting = await waiting(accept())
            client = await road.connect(listener)
            for _ in range(turns):
                await asyncio.sleep(0)
            accepting.cancel() if cut == "cancel" else accepting.done() or scope.reschedule(0)
            outcome = await outcome_of(accepting)
            if not isinstance(outcome, netio.Stream):
                outcome = await listener.accept(timeout=5)
            await client.write(b"%d" % turns)
            assert await outcome.read_exactly(1) == b"%d" % turns
            client.abort()
            outcome.abort()


async def test_the_limit_and_a_connection_in_one_tick_give_the_connection(
    road: Road, listener: netio.Listener
) -> None:
    loop = asyncio.get_running_loop()
    deadline = netio.Deadline.at(loop.time() - 1)
    client = await road.connect(listener)
    await asyncio.sleep(0)
    stream = await listener.accept(timeout=deadline)
    client.abort()
    stream.abort()


async def test_many_tasks_accept_and_each_connection_goes_to_one(
    road: Road, listener: netio.Listener
) -> None:
    accepting = [await waiting(listener.accept()) for _ in range(5)]
    clients = [await road.connect(listener) for _ in range(5)]
    streams = await asyncio.gather(*accepting)
    for number, client in enumerate(clients):
        await client.write(b"%d" % number)
    assert sorted([await stream.read_exactly(1) for stream in streams]) == [
        b"%d" % number for number in range(5)
    ]
    for stream in (*streams, *clients):
        stream.abort()


async def test_one_that_is_cut_takes_nothing_from_the_others(
    road: Road, listener: netio.Listener
) -> None:
    first, second = await waiting(listener.accept()), await waiting(listener.accept())
    first.cancel()
    client = await road.connect(listener)
    stream = await asyncio.wait_for(second, 5)
    assert first.cancelled()
    client.abort()
    stream.abort()


async def test_iterating_ends_when_it_is_closed(road: Road, listener: netio.Listener) -> None:
    served = 0

    async def serve() -> None:
        nonlocal served
        async for stream in listener:
            served += 1
            await stream.aclose()

    serving = await waiting(serve())
    for _ in range(3):
        client = await road.connect(listener)
        assert await client.read_some() == b""
        await client.aclose()
    await listener.aclose()
    await asyncio.wait_for(serving, 5)
    assert served == 3


async def test_closing_wakes_all_who_wait(road: Road, listener: netio.Listener) -> None:
    accepting = [await waiting(listener.accept()) for _ in range(3)]
    assert not listener.closed
    await listener.aclose()
    await listener.aclose()
    assert listener.closed
    for task in accepting:
        with pytest.raises(netio.StreamClosed, match=r"accept on .*: the listener was closed"):
            await task
    with pytest.raises(netio.StreamClosed):
        await listener.accept()
    with pytest.raises(netio.ConnectFailed):
        await road.connect(listener)


async def test_what_was_accepted_outlives_the_listener(
    road: Road, listener: netio.Listener
) -> None:
    client = await road.connect(listener)
    stream = await listener.accept()
    await listener.aclose()
    await client.write(b"x")
    assert await stream.read_exactly(1) == b"x"
    client.abort()
    stream.abort()


@pytest.mark.skipif(not HAS_IPV6, reason="no IPv6 here")
async def test_all_addresses_are_accepted_from_and_none_is_starved() -> None:
    async with netio.listen_tcp() as listener:
        ports = {address[1] for address in listener.addresses}
        assert len(listener.addresses) == 2
        assert ports == {listener.port}
        accepting = await waiting(listener.accept())
        clients = [
            await netio.connect_tcp(host, listener.port) for host in ("::1", "127.0.0.1", "::1")
        ]
        streams = [await accepting] + [await listener.accept(timeout=5) for _ in range(2)]
        assert {stream.peer for stream in streams} == {client.local for client in clients}
        for stream in (*streams, *clients):
            stream.abort()


async def test_a_bound_socket_can_be_listened_on() -> None:
    sock = socket.socket()
    sock.bind(("127.0.0.1", 0))
    async with netio.listen_tcp(sock=sock) as listener:
        async with netio.connect_tcp("127.0.0.1", listener.port):
            (await listener.accept()).abort()


async def test_out_of_descriptors_is_an_error_and_the_connection_stays_queued(
    road: Road, listener: netio.Listener, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = await road.connect(listener)
    await asyncio.sleep(0)
    [(acceptor, _)] = listener._acceptors
    with monkeypatch.context() as patch:

        def fail(self: object) -> None:
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

        patch.setattr(type(acceptor), "accept", fail)
        with pytest.raises(OSError, match=r"accept on .*: Too many open files") as caught:
            await listener.accept()
        assert caught.value.errno == errno.EMFILE
    stream = await listener.accept(timeout=5)
    client.abort()
    stream.abort()


async def test_an_endless_run_of_accepts_leaves_turns_for_others(listener: netio.Listener) -> None:
    turns = 0

    async def count() -> None:
        nonlocal turns
        while True:
            await asyncio.sleep(0)
            turns += 1

    counting = asyncio.ensure_future(count())
    for _ in range(2000):
        with pytest.raises(netio.DeadlineExceeded):
            await listener.accept(timeout=0)
    counting.cancel()
    assert turns > 4


async def test_another_loop_is_refused(listener: netio.Listener) -> None:
    def elsewhere() -> None:
        async def use() -> None:
            with pytest.raises(RuntimeError, match="accept: the listener belongs to another"):
                await listener.accept()
            with pytest.raises(RuntimeError, match="aclose: the listener belongs to another"):
                await listener.aclose()

        asyncio.run(use())

    await asyncio.to_thread(elsewhere)
    assert not listener.closed


@contextlib.contextmanager
def warned() -> Iterator[None]:
    with pytest.warns(ResourceWarning, match="unclosed <netio.Listener open"):
        yield


async def test_an_abandoned_listener_warns_and_is_closed(road: Road) -> None:
    listener = await road.listen()
    [(acceptor, _)] = listener._acceptors
    with warned():
        del listener
        gc.collect()
    await asyncio.sleep(0)
    assert acceptor.closed


async def test_a_listener_that_waits_is_not_kept_alive_by_its_loop(road: Road) -> None:
    listener = await road.listen()
    accepting = await waiting(listener.accept())
    accepting.cancel()
    await asyncio.wait({accepting})
    del accepting
    with warned():
        del listener
        gc.collect()
    await asyncio.sleep(0)


@pytest.mark.parametrize("bad", [{"backlog": 0}, {"limit": 0}, {"timeouts": None}])
def test_bad_arguments_are_refused_at_the_call(bad: dict[str, Any]) -> None:
    [name] = bad
    for listen in (lambda: netio.listen_tcp(**bad), lambda: netio.listen_unix("x", **bad)):
        with pytest.raises((TypeError, ValueError), match=name):
            listen()
