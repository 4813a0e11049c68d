"""A connection that comes as its server is closed, in every order: none is lost, none is leaked."""

import asyncio
import socket
import struct
from collections.abc import Iterator

import pytest
import streams
from footprint import footprint, settled
from schedules import (
    NEXT,
    TICKS,
    Acts,
    check_played,
    events_of,
    play_all,
    play_alone,
    thinned,
)

import netio
from netio._network import SocketAcceptor
from netio.testing import Stage
from netio.testing._exploring.notation import orders, placements

EVENTS = events_of(
    n="a connection comes",
    u="another one comes, and the loop has yet to notice",
    g="the first one is given up by its peer",
    q="the server is closed",
    k="the task that accepts is cancelled",
)
GREETING = b"hello"
PATIENCE_S = 5
CASES = 508


class AcceptBench:
    """Plays what comes to servers that greet everybody. Their handlers get `grace` seconds."""

    events = EVENTS

    def __init__(self, grace: str) -> None:
        self.name = grace
        self._grace = float(grace)

    async def play(self, stage: Stage) -> None:
        before = footprint()
        greeted: list[netio.Stream] = []
        clients: list[socket.socket] = []
        closing: list[asyncio.Task[netio.ShutdownReport]] = []

        async def greet(stream: netio.Stream) -> None:
            await stream.write(GREETING)
            greeted.append(stream)

        server = await netio.serve_tcp(greet, "127.0.0.1", grace=self._grace)
        await streams.ticks(1)
        acts = self._acts(server, clients)
        acts["q"] = lambda: closing.append(asyncio.create_task(server.aclose()))
        await stage.unfold(acts, over=server._accepting[0].done, ticks=TICKS)
        await asyncio.gather(*closing)
        while server.connections:
            await streams.ticks(1)
        served = [said_to(client) for client in clients].count(GREETING)
        await server.aclose()
        counted = server.statistics()
        assert counted.active == 0
        if self._grace:
            assert len(greeted) + counted.failed == counted.accepted
            assert counted.accepted - served in ((0, 1) if "g" in stage.schedule else (0,))
        assert await settled(before) == before

    def _acts(self, server: netio.Server, clients: list[socket.socket]) -> Acts:
        [acceptor] = server._acceptors
        assert isinstance(acceptor, SocketAcceptor)

        def come() -> None:
            clients.append(socket.socket())
            clients[-1].setblocking(False)
            clients[-1].connect_ex(server.addresses[0])

        def come_noticed() -> None:
            come()
            if acceptor._watches_readable:
                acceptor._on_readable()

        def give_up() -> None:
            with clients[0] as client:
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

        return {"n": come_noticed, "u": come, "g": give_up, "k": server._accepting[0].cancel}

    def close(self) -> None:
        pass


def said_to(client: socket.socket) -> bytes:
    """All that was said to a client until the end, which must come."""
    said = b""
    with client:
        if client.fileno() >= 0:
            client.settimeout(PATIENCE_S)
            try:
                while chunk := client.recv(100):
                    said += chunk
            except ConnectionError:
                pass
    return said


def possible(order: str) -> bool:
    """One comes, one goes that has come, and there is an end to it."""
    comes = [order.find(event) for event in "nu" if event in order]
    gone = order.find("g") if "g" in order else len(order)
    return bool(comes) and min(comes) < gone and bool({"q", "k"} & set(order))


def schedules() -> Iterator[str]:
    for size in (2, 3):
        for order in orders("nugqk", size, possible):
            yield from placements(order, NEXT)
    yield from orders("nugqk", 4, possible)
    yield from orders("nugqk", 5, possible)


def replay(grace: str, schedule: str) -> None:
    """Play one case alone: ``replay("5", "n|q")``."""
    play_alone(AcceptBench(grace), schedule)


@pytest.mark.parametrize("grace", ["0", "5"])
async def test_a_connection_that_comes_as_its_server_is_closed_is_served_or_sees_an_end(
    grace: str, loop_variant: str
) -> None:
    cases = thinned(schedules(), CASES, loop_variant)
    check_played(await play_all(AcceptBench(grace), cases), cases)
