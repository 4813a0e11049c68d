"""Pairs of datagram sockets of every kind, and what is in the kernel between them.

A test module that says `kind, pair = datagrams.kind, datagrams.pair` has these fixtures.
"""

import asyncio
import contextlib
import tempfile
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import unix_paths

import netio

KINDS = ("udp", "udp6", "unix", "unix name")
PATIENCE_S = 5.0


class Pair(NamedTuple):
    """`client` is connected to `server`, which is bound, and can answer it."""

    client: netio.DatagramSocket
    server: netio.DatagramSocket


@contextlib.asynccontextmanager
async def a_pair(kind: str, **options: Any) -> AsyncIterator[Pair]:
    """`options`: of both."""
    async with contextlib.AsyncExitStack() as opened:
        if kind.startswith("udp"):
            host = "::1" if kind == "udp6" else "127.0.0.1"
            server = await opened.enter_async_context(netio.bind_udp(host, **options))
            port = server.local[1]  # type: ignore[index]
            client = await opened.enter_async_context(netio.connect_udp(host, port, **options))
        else:
            names: list[Any]
            if kind == "unix":
                place = opened.enter_context(tempfile.TemporaryDirectory(prefix="netio-"))
                names = [Path(place) / "server", Path(place) / "client"]
            else:
                names = [unix_paths.abstract_name(), unix_paths.abstract_name()]
            making = netio.bind_unix_datagram(names[0], **options)
            server = await opened.enter_async_context(making)
            connecting = netio.connect_unix_datagram(names[0], local_path=names[1], **options)
            client = await opened.enter_async_context(connecting)
        yield Pair(client, server)


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
async def pair(kind: str) -> AsyncIterator[Pair]:
    async with a_pair(kind) as pair:
        yield pair


async def fill(sock: netio.DatagramSocket, address: Any = None, size: int = 100) -> int:
    """Send until the kernel has no more room: how many were taken."""
    count = 0
    with contextlib.suppress(BlockingIOError):
        while True:
            if address is None:
                sock._channel.sock.send(b"~" * size)
            else:
                sock._channel.sock.sendto(b"~" * size, address)
            count += 1
    return count


async def waiting(coroutine: Any) -> asyncio.Task[Any]:
    task = asyncio.ensure_future(coroutine)
    for _ in range(5):
        await asyncio.sleep(0)
    assert not task.done()
    return task


async def until(condition: Callable[[], bool]) -> None:
    for _ in range(10_000):
        if condition():
            return
        await asyncio.sleep(0)
    raise AssertionError("it did not come to pass")
