"""Connecting that is cut, at any moment and by anything, leaves nothing behind."""

import asyncio
import contextlib
import itertools
import socket
import time
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any
from weakref import WeakSet

import pytest
from footprint import footprint, settled
from raw_sockets import full_listener
from streams import outcome_of, ticks

import netio
from netio import _attempts, _racing


async def until_closed(stream: netio.Stream) -> None:
    async for _ in stream.chunks():
        pass


@pytest.fixture
async def port() -> AsyncIterator[int]:
    async with netio.serve_tcp(until_closed, "127.0.0.1", grace=0) as server:
        yield server.addresses[0][1]


@pytest.fixture
def black_hole() -> Iterator[tuple[str, int]]:
    with full_listener() as address:
        yield address


@pytest.fixture
def lookups(monkeypatch: pytest.MonkeyPatch) -> dict[str, list[str]]:
    hosts: dict[str, list[str]] = {}
    original = socket.getaddrinfo

    def getaddrinfo(host: str, port: int, **options: Any) -> list[Any]:
        if host not in hosts:
            return original(host, port, **options)
        if options.get("flags", 0) & socket.AI_NUMERICHOST:
            raise socket.gaierror(socket.EAI_NONAME, "not numeric")
        return [
            (socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in hosts[host]
        ]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    return hosts


@pytest.fixture
def unready(monkeypatch: pytest.MonkeyPatch) -> None:
    """A connect over loopback is through at once; this makes each look again after one wait."""
    looked: WeakSet[socket.socket] = WeakSet()
    original = _attempts._connected

    def connected(sock: socket.socket) -> bool:
        if sock not in looked:
            looked.add(sock)
            return False
        return original(sock)

    monkeypatch.setattr(_attempts, "_connected", connected)


async def closed_by(cut: Callable[["asyncio.Task[netio.Stream]"], object], opening: Any) -> Any:
    task = asyncio.create_task(opening)
    await ticks(2)
    cut(task)
    outcome = await outcome_of(task)
    if isinstance(outcome, netio.Stream):
        await outcome.aclose()
    return outcome


@pytest.mark.parametrize("host", ["127.0.0.1", "name.example", "twice.example"])
@pytest.mark.real_time("the thread of the lookup needs a moment")
async def test_a_cancel_at_any_tick_leaves_nothing_behind(
    lookups: dict[str, list[str]],
    unready: None,
    port: int,
    host: str,
) -> None:
    lookups["name.example"] = ["127.0.0.1"]
    lookups["twice.example"] = ["127.0.0.77", "127.0.0.1"]  # the first one refuses
    before = footprint()
    connected = 0
    for after in itertools.count():
        task = asyncio.create_task(netio.connect_tcp(host, port))
        for _ in range(after):
            await asyncio.sleep(0)
            time.sleep(0.00005)
        task.cancel()
        outcome = await outcome_of(task)
        if isinstance(outcome, netio.Stream):
            await outcome.aclose()
            connected += 1
        else:
            assert type(outcome) is asyncio.CancelledError
        if connected == 3:
            break
    assert await settled(before) == before


@pytest.mark.any_clock
async def test_a_black_hole_is_cut_by_the_deadline_over_all(black_hole: tuple[str, int]) -> None:
    before = footprint()
    started = time.monotonic()
    with pytest.raises(netio.DeadlineExceeded, match="tried 1 address") as caught:
        await netio.connect_tcp(*black_hole, timeout=0.03)
    assert time.monotonic() - started < 2
    assert caught.value.limit == "call"
    [attempt] = caught.value.attempts
    assert isinstance(attempt, netio.DeadlineExceeded)
    assert attempt.peer == black_hole
    assert footprint() == before


@pytest.mark.any_clock
async def test_a_black_hole_is_left_for_the_next_address_by_the_limit_of_an_attempt(
    black_hole: tuple[str, int], lookups: dict[str, list[str]]
) -> None:
    lookups["dual.example"] = ["127.0.0.1", "127.0.0.2"]
    before = footprint()
    with socket.create_server(("127.0.0.2", black_hole[1])):
        timeouts = netio.Timeouts(attempt=0.02)
        async with netio.connect_tcp("dual.example", black_hole[1], timeouts=timeouts) as stream:
            assert stream.peer == ("127.0.0.2", black_hole[1])
    assert await settled(before) == before


@pytest.mark.parametrize("first", ["refuses", "hole", "fine"])
@pytest.mark.any_clock
async def test_a_race_leaves_no_socket_behind(
    first: str, lookups: dict[str, list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """All mixes of three, on sockets of the system, run to their ends and cut in every wait."""
    monkeypatch.setattr(_racing, "ATTEMPT_DELAY_SECONDS", 0.002)
    lookups["three.example"] = hosts = ["127.0.0.1", "127.0.0.2", "127.0.0.3"]
    timeouts = netio.Timeouts(attempt=0.006)
    for mix in itertools.product([first], ["refuses", "hole", "fine"], ["refuses", "hole", "fine"]):
        with there_are(dict(zip(hosts, mix, strict=True))) as port:
            before = footprint()
            for cut_after in (None, *range(5)):
                connecting = netio.connect_tcp("three.example", port, timeouts=timeouts)
                task = asyncio.create_task(connecting)
                if cut_after is not None:
                    await ticks(cut_after)
                    task.cancel()
                outcome = await outcome_of(task)
                if isinstance(outcome, netio.Stream):
                    assert outcome.peer == (hosts[mix.index("fine")], port)
                    await outcome.aclose()
                elif cut_after is None:
                    assert "fine" not in mix
                    assert len(outcome.attempts) == 3
                assert await settled(before) == before


@contextlib.contextmanager
def there_are(kinds: dict[str, str]) -> Iterator[int]:
    """On one port of each host: a listener, a black hole, or nobody."""
    with contextlib.ExitStack() as opened:
        while True:
            free = opened.enter_context(socket.create_server(("127.0.0.9", 0)))
            port = free.getsockname()[1]
            try:
                for host, kind in kinds.items():
                    if kind == "fine":
                        opened.enter_context(socket.create_server((host, port)))
                    elif kind == "hole":
                        opened.enter_context(full_listener(host, port))
            except OSError:  # one of them is not free on another host
                opened.close()
            else:
                break
        yield port


async def test_a_cancel_while_the_peer_is_silent_leaves_nothing_behind(
    black_hole: tuple[str, int],
) -> None:
    before = footprint()
    for _ in range(5):
        cut = await closed_by(lambda task: task.cancel(), netio.connect_tcp(*black_hole))
        assert isinstance(cut, asyncio.CancelledError)
        assert footprint() == before


async def test_a_group_that_fails_cancels_the_connect_and_leaves_nothing_behind(
    black_hole: tuple[str, int],
) -> None:
    before = footprint()
    with pytest.raises(ExceptionGroup):
        async with asyncio.TaskGroup() as group:
            group.create_task(netio.connect_tcp(*black_hole))
            await ticks(3)
            raise ZeroDivisionError
    assert footprint() == before


@pytest.mark.any_clock
async def test_the_standard_timeout_cuts_it_and_leaves_nothing_behind(
    black_hole: tuple[str, int],
) -> None:
    before = footprint()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await netio.connect_tcp(*black_hole)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(netio.connect_tcp(*black_hole), 0.01)
    assert footprint() == before


async def test_a_limit_of_zero_takes_a_connection_that_is_there_at_once_or_fails(
    port: int, black_hole: tuple[str, int]
) -> None:
    before = footprint()
    outcome = await outcome_of(netio.connect_tcp("127.0.0.1", port, timeout=0))
    if isinstance(outcome, netio.Stream):
        await outcome.aclose()
    else:
        assert isinstance(outcome, netio.DeadlineExceeded)
    for timeout in (0, -1):
        with pytest.raises(netio.DeadlineExceeded) as caught:
            await netio.connect_tcp(*black_hole, timeout=timeout)
        assert len(caught.value.attempts) == 1
    assert await settled(before) == before


async def test_leaving_the_block_by_a_cancel_closes_the_stream(port: int) -> None:
    before = footprint()

    async def use() -> None:
        async with netio.connect_tcp("127.0.0.1", port) as stream:
            await stream.read_some()

    task = asyncio.create_task(use())
    await ticks(5)
    task.cancel()
    await asyncio.wait([task])
    assert task.cancelled()
    assert await settled(before) == before


async def test_b19_a_cancelled_connect_lets_its_descriptor_be_used_at_once(
    black_hole: tuple[str, int],
) -> None:
    connecting = asyncio.create_task(netio.connect_tcp(*black_hole))
    await ticks(5)
    connecting.cancel()
    await asyncio.wait([connecting])
    for _ in range(5):  # the number that was free last is given out first
        near, far = netio.stream_pair()
        reading = asyncio.create_task(near.read_exactly(1, timeout=5))
        await ticks(3)
        await far.write(b"x")
        assert await reading == b"x"
        await near.aclose()
        await far.aclose()
