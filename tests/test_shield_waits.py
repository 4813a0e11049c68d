"""A shield keeps every wait of netio from a cancel, which is raised once at its end (law 22).

Each kind of wait is cancelled from outside, up to three times, at each tick of the loop.
"""

import asyncio
import contextlib
import itertools
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from types import SimpleNamespace
from typing import Any, NamedTuple

import pytest
from raw_sockets import full_listener
from streams import a_pair, outcome_of, ticks
from virtual import on_virtual_clock, python_task_factory

import netio
from netio import _resolve
from netio._attempts import SocketAttempt
from netio._channel import SocketChannel
from netio._operation import Operation
from netio._racing import Race
from netio._readiness import Readiness
from netio._resolve import Target
from netio._turns import turns_of
from netio.testing import Link, Network

any_clock = pytest.mark.any_clock

LONG_S = 60
LAST_TICK = 6  # before which all that is waited for has not come
SETTLED_TICKS = 12


class Work(NamedTuple):
    """What is waited for, and what makes it come."""

    operation: Callable[[], Awaitable[Any]]
    release: Callable[[], Any]


def nothing() -> None:
    pass


@contextlib.asynccontextmanager
async def reading() -> AsyncIterator[Work]:
    async with a_pair("memory") as (near, far):
        yield Work(lambda: near.read_exactly(3), lambda: far._channel.send(b"abc"))


@contextlib.asynccontextmanager
async def reading_a_socket() -> AsyncIterator[Work]:
    async with a_pair("unix") as (near, far):
        yield Work(lambda: near.read_until(b"\n"), lambda: far._channel.send(b"abc\n"))


@contextlib.asynccontextmanager
async def writing() -> AsyncIterator[Work]:
    async with a_pair("memory", small=True) as (near, far):
        yield Work(lambda: near.write(bytes(10_000)), lambda: far._channel.receive(10_000))


@contextlib.asynccontextmanager
async def writing_behind_another() -> AsyncIterator[Work]:
    async with a_pair("memory", small=True) as (near, far):
        other = asyncio.create_task(near.write(bytes(10_000)))
        await ticks(1)

        def release() -> None:
            far._channel.receive(10_000)

        yield Work(lambda: near.write(b"x"), release)
        await other


@contextlib.asynccontextmanager
async def connecting_in_memory() -> AsyncIterator[Work]:
    network = Network(names={"server": "10.0.0.1"}, link=Link(latency=0.001))
    made: list[netio.Stream] = []

    async def connect() -> None:
        made.append(await netio.connect_tcp("server", 7000, network=network))

    async def end_at_once(stream: netio.Stream) -> None:
        pass

    async with netio.serve_tcp(end_at_once, "server", 7000, network=network):
        yield Work(connect, nothing)
        for stream in made:
            stream.abort()


class Unanswered(SocketAttempt):
    """One over a socket of which the kernel says for a while that it is not connected yet."""

    def __init__(self, loop: asyncio.AbstractEventLoop, sock: socket.socket) -> None:
        self._loop, self._sock, self._peer, self._readiness = loop, sock, None, None
        self.answered = False

    def check(self) -> SocketChannel | None:
        if not self.answered:
            return None
        self._stop_watching()
        return SocketChannel(self._loop, self._sock)

    def close(self) -> None:
        self._stop_watching()


@contextlib.asynccontextmanager
async def connecting() -> AsyncIterator[Work]:
    """A race of one address, over a socket."""
    one, other = full_pair()
    attempt = Unanswered(asyncio.get_running_loop(), one)
    network: Any = SimpleNamespace(begin_dial=lambda target: attempt)

    def release() -> None:
        attempt.answered = True
        drain(other)

    async def race() -> None:
        await Race([Target(socket.AF_UNIX, "")], operation("connect"), network, None).winner()

    with one, other:
        yield Work(race, release)


def full_pair() -> tuple[socket.socket, socket.socket]:
    """The first one is not writable until the second one is drained."""
    one, other = socket.socketpair()
    for sock in one, other:
        sock.setblocking(False)
    with contextlib.suppress(BlockingIOError):
        while True:
            one.send(bytes(65536))
    return one, other


def drain(sock: socket.socket) -> None:
    with contextlib.suppress(BlockingIOError):
        while True:
            sock.recv(65536)


@contextlib.asynccontextmanager
async def looking_up() -> AsyncIterator[Work]:
    loop = asyncio.get_running_loop()
    one = operation("lookup")
    lookup = _resolve._Lookup(one)

    def release() -> None:
        lookup.finished = True
        one.wake()

    yield Work(lambda: _resolve.SystemResolver()._answer(lookup, one, Readiness(loop)), release)


@contextlib.asynccontextmanager
async def reading_a_bare_socket() -> AsyncIterator[Work]:
    near, far = socket.socketpair()
    near.setblocking(False)
    with near, far:
        yield Work(lambda: netio.read_bytes(near, 3), lambda: far.send(b"abc"))


@contextlib.asynccontextmanager
async def writing_to_a_bare_socket() -> AsyncIterator[Work]:
    one, other = full_pair()
    with one, other:
        yield Work(lambda: netio.write_bytes(one, b"x"), lambda: drain(other))


@contextlib.asynccontextmanager
async def giving_turns() -> AsyncIterator[Work]:
    """As after many operations that had not to wait."""
    async with a_pair("memory") as (near, far):
        far._channel.send(b"x" * 100)
        turns = turns_of(asyncio.get_running_loop())

        async def read_often() -> None:
            for _ in range(4):
                turns.credit = 0
                await near.read_exactly(1)

        yield Work(read_often, nothing)


@contextlib.asynccontextmanager
async def closing() -> AsyncIterator[Work]:
    async with a_pair("memory") as (near, far):
        turns = turns_of(asyncio.get_running_loop())

        async def close() -> None:
            turns.credit = 0
            await near.aclose()
            turns.credit = 0
            await far.aclose()

        yield Work(close, nothing)


def operation(name: str) -> Operation:
    one = Operation(name)
    one.start(asyncio.get_running_loop().time(), LONG_S, None, "call")
    return one


KINDS = [
    reading,
    reading_a_socket,
    writing,
    writing_behind_another,
    connecting_in_memory,
    connecting,
    looking_up,
    reading_a_bare_socket,
    writing_to_a_bare_socket,
    giving_turns,
    closing,
]

kinds = pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)


class Run:
    """One task that works in a shield, and what has happened to it."""

    def __init__(self, work: Work, *, pending: bool = False, fails: bool = False) -> None:
        self.said: list[str] = []
        self._work, self._pending, self._fails = work, pending, fails
        self.task = asyncio.create_task(self._main())

    async def _main(self) -> None:
        if self._pending:
            me = asyncio.current_task()
            assert me is not None
            me.cancel("pending")
        try:
            async with netio.shield(LONG_S):
                self.said.append("in")
                await self._work.operation()
                self.said.append("done")
                if self._fails:
                    raise ZeroDivisionError
        except ZeroDivisionError:
            self.said.append("failed")
            await asyncio.sleep(0)
        except asyncio.CancelledError as cancelled:
            self.said.append(f"cancelled {cancelled.args}")
            raise
        self.said.append("after")

    async def play(self, cancels: tuple[int, ...]) -> int:
        """Cancel at these ticks, and let the work end: how many cancels the task has accepted."""
        accepted = 0
        for tick in range(SETTLED_TICKS):
            if tick == LAST_TICK:
                self._work.release()
            await ticks(1)
            for which, at in enumerate(cancels):
                accepted += at == tick and self.task.cancel(f"cancel {which}")
        await asyncio.wait([self.task], timeout=LONG_S)
        assert self.task.done()
        return accepted


PLANS = [
    plan for count in range(3) for plan in itertools.combinations_with_replacement(range(8), count)
] + [(tick, tick, tick) for tick in range(8)]


@kinds
@any_clock
async def test_a_cancel_at_any_tick_is_held_back_and_raised_once_at_the_end(kind: Any) -> None:
    held = 0
    for plan in PLANS:
        async with kind() as work:
            run = Run(work)
            accepted = await run.play(plan)
            if accepted:
                assert run.said == ["in", "done", "cancelled ('cancel 0',)"], plan
                assert run.task.cancelled()
            else:
                assert run.said == ["in", "done", "after"], plan
            assert run.task.cancelling() == accepted, plan
            held += accepted
    assert held > 20


@kinds
@any_clock
async def test_a_cancel_that_is_pending_at_entry_is_held_back_as_any_other(kind: Any) -> None:
    for plan in ((), (1,), (1, 2)):
        async with kind() as work:
            run = Run(work, pending=True)
            accepted = await run.play(plan)
            assert run.said == ["in", "done", "cancelled ('pending',)"]
            assert run.task.cancelling() == accepted + 1


@kinds
@any_clock
async def test_where_the_body_fails_its_error_goes_on_and_the_cancel_is_met_next(kind: Any) -> None:
    async with kind() as work:
        run = Run(work, fails=True)
        accepted = await run.play((1, 1))
        assert accepted == 2
        assert run.said == ["in", "done", "failed"]
        assert run.task.cancelled()
        assert run.task.cancelling() == 2


@kinds
@any_clock
async def test_it_is_so_in_tasks_of_each_kind(kind: Any) -> None:
    loop = asyncio.get_running_loop()
    factories: list[Any] = [python_task_factory]
    if hasattr(asyncio, "eager_task_factory") and on_virtual_clock():  # uvloop fails at them
        factories.append(asyncio.eager_task_factory)
    before = loop.get_task_factory()
    for factory in factories:
        async with kind() as work:
            loop.set_task_factory(factory)
            try:
                run = Run(work)
            finally:
                loop.set_task_factory(before)
            assert await run.play((1, 2, 2)) == 3
            assert run.said == ["in", "done", "cancelled ('cancel 0',)"]
            assert run.task.cancelling() == 3


@kinds
@any_clock
async def test_the_bound_cuts_each_of_them(kind: Any) -> None:
    if kind in (giving_turns, closing):
        pytest.skip("needs no waiting for others")
    async with kind() as work:
        shield = netio.shield(0)

        async def shielded() -> None:
            async with shield:
                await work.operation()

        task = asyncio.create_task(shielded())
        for _ in range(3):
            await ticks(1)
        if kind is connecting_in_memory:
            await asyncio.wait([task])
        assert task.done()
        error = task.exception()
        assert isinstance(error, netio.DeadlineExceeded)
        assert (error.limit, error.scope) == ("shield", shield)
        work.release()
        await ticks(3)


@pytest.mark.real_time("a kernel that answers nothing is waited for until the bound")
async def test_a_connect_that_nobody_answers_ends_at_the_bound_however_often_it_is_cancelled() -> (
    None
):
    async def connect() -> None:
        async with netio.shield(0.05):
            await netio.connect_tcp(*address)

    with full_listener() as address:
        task = asyncio.create_task(connect())
        for _ in range(5):
            await ticks(2)
            assert task.cancel()
        assert isinstance(await outcome_of(asyncio.wait([task])), tuple)
    assert task.cancelled()
    assert task.cancelling() == 5


@any_clock
async def test_outside_of_a_shield_a_cancel_cuts_as_ever_while_others_stand_in_one() -> None:
    async with a_pair("memory") as (near, far), a_pair("memory") as (one, other):

        async def shielded() -> bytes:
            async with netio.shield(LONG_S):
                return await near.read_exactly(1)

        async def plain() -> bytes:
            return await one.read_exactly(1)

        inside, outside = asyncio.create_task(shielded()), asyncio.create_task(plain())
        await ticks(2)
        outside.cancel()
        await ticks(2)
        assert outside.cancelled()
        assert not inside.done()
        far._channel.send(b"x")
        assert await inside == b"x"
        assert other.buffered == 0
