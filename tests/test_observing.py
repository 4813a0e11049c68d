"""An observer is told what happens, in order; it changes nothing, harms nobody, and costs nothing
when there is none."""

import ast
import asyncio
import inspect
import logging
import socket
import sys
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from streams import PATIENCE_S, a_pair, fill, outcome_of, ticks
from virtual import virtual_loop

import netio
from netio._observing import mark, observed
from netio.testing import Network, faults, run

PACKAGE = Path(netio.__file__).parent
EVENTS = {name for name in vars(netio.Observer) if not name.startswith("_")}


class Notes(netio.Observer):
    """What an observer is told, as texts; times are left out."""

    def __init__(self) -> None:
        self.told: list[str] = []
        self.waits: list[netio.Wait] = []

    def scope_entered(self, scope: netio.Scope, task: asyncio.Task[object]) -> None:
        assert task is asyncio.current_task()
        self.told.append(f"{scope.name} entered")

    def scope_fired(self, scope: netio.Scope, task: asyncio.Task[object]) -> None:
        assert asyncio.current_task() is None
        assert not task.done()
        self.told.append(f"{scope.name} fired" if scope.expired() else f"{scope.name} by hand")

    def scope_left(
        self, scope: netio.Scope, task: asyncio.Task[object], error: BaseException | None
    ) -> None:
        how = "caught" if scope.caught else type(error).__name__
        self.told.append(f"{scope.name} left: {how}")

    def wait_began(self, wait: netio.Wait) -> None:
        assert wait.task is asyncio.current_task()
        assert wait.ended is None
        assert wait.outcome == ""
        self.told.append(f"{wait.operation} waits")

    def wait_ended(self, wait: netio.Wait) -> None:
        assert wait.ended is not None
        assert wait.ended >= wait.began
        self.waits.append(wait)
        of = "" if wait.expected is None else f" of {wait.expected}"
        self.told.append(f"{wait.operation} {wait.outcome}, {wait.done}{of}")

    def timed_out(self, error: netio.DeadlineExceeded) -> None:
        self.told.append(f"{error.operation} timed out: {error.limit}")

    def stream_opened(self, stream: netio.Stream) -> None:
        self.told.append("opened")

    def stream_closed(self, stream: netio.Stream, reason: str) -> None:
        assert not stream.closed
        self.told.append(reason)

    def marked(self, name: str, category: str, details: Mapping[str, object]) -> None:
        self.told.append(f"{category}: {name} {dict(details)}")


async def told(work: Awaitable[object]) -> list[str]:
    """What an observer is told while `work` is done, whatever comes of it."""
    with netio.observe(Notes()) as notes:
        await asyncio.gather(work, return_exceptions=True)
    return notes.told


# Scopes. --------------------------------------------------------------------------------------


async def cut(scope: netio.Scope) -> None:
    async with scope:
        await asyncio.sleep(10)


async def swallow(scope: netio.Scope) -> None:
    async with scope:
        try:
            await asyncio.sleep(10)
        except asyncio.CancelledError:
            pass


async def finish(scope: netio.Scope) -> None:
    async with scope:
        pass


async def fail(scope: netio.Scope) -> None:
    async with scope:
        raise KeyError


async def cancel(scope: netio.Scope) -> None:
    async with scope:
        scope.cancel()
        await asyncio.sleep(10)


@pytest.mark.parametrize(
    ("block", "expected"),
    [
        (cut, ["s entered", "s fired", "s left: caught"]),
        (swallow, ["s entered", "s fired", "s left: NoneType"]),
        (finish, ["s entered", "s left: NoneType"]),
        (fail, ["s entered", "s left: KeyError"]),
        (cancel, ["s entered", "s by hand", "s left: caught"]),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
@pytest.mark.parametrize("make", [netio.timeout, netio.move_on_after], ids=["raises", "moves on"])
def test_a_scope_is_told_when_it_is_entered_fires_and_is_left(
    block: Callable[[netio.Scope], Awaitable[None]], expected: list[str], make: Any
) -> None:
    assert run(told(block(make(1, name="s")))) == expected


@pytest.mark.virtual_clock
async def test_of_nested_scopes_each_is_told_and_the_outer_one_answers() -> None:
    async def nested() -> None:
        async with netio.move_on_after(1, name="outer"):
            async with netio.timeout(5, name="inner"):
                await asyncio.sleep(10)

    assert await told(nested()) == [
        "outer entered",
        "inner entered",
        "outer fired",
        "inner left: CancelledError",
        "outer left: caught",
    ]


async def test_a_scope_that_is_left_wrongly_is_told_to_be_left() -> None:
    with netio.observe(Notes()) as notes:
        outer = await netio.timeout(5, name="outer").__aenter__()
        inner = await netio.timeout(5, name="inner").__aenter__()
        with pytest.raises(RuntimeError, match="out of order"):
            await outer.__aexit__(None, None, None)
        await inner.__aexit__(None, None, None)
    assert notes.told[2:] == ["outer left: NoneType", "inner left: NoneType"]


# Waits, and their limits. ---------------------------------------------------------------------


@pytest.fixture(params=["tcp", "unix", "memory"])
def kind(request: pytest.FixtureRequest) -> str:
    return request.param


async def test_a_read_that_waits_is_told_with_what_has_come(kind: str) -> None:
    async with a_pair(kind) as (near, far):
        with netio.observe(Notes()) as notes:
            reading = asyncio.create_task(near.read_exactly(8, timeout=5), name="reader")
            await ticks(3)
            await far.write(b"12345678")
            await reading
    assert notes.told == ["read_exactly(8) waits", "read_exactly(8) ready, 8 of 8"]
    [wait] = notes.waits
    assert wait.task is reading
    assert (wait.peer, wait.limit) == (near.peer, "call")
    assert wait.deadline - wait.began == pytest.approx(5, abs=0.1)


async def test_a_hit_on_the_buffer_is_not_told() -> None:
    async with a_pair("memory") as (near, far):
        await far.write(b"x" * 20)
        await near.read_exactly(1)
        assert await told(near.read_exactly(8)) == []
        assert await told(near.write(b"x")) == []


@pytest.mark.virtual_clock
async def test_waits_of_one_stream_are_told_to_be_of_one_channel() -> None:
    async with a_pair("memory") as (near, far), a_pair("memory") as (other, _):
        with netio.observe(Notes()) as notes:
            reads = [s.read_exactly(1, timeout=1) for s in (near, far, near, other)]
            for read in reads:
                await outcome_of(read)
    assert virtual_loop().time() == 4.0
    channels = [wait.channel for wait in notes.waits]
    assert channels[0] is channels[2]
    assert len(set(map(id, channels))) == 3


def no_more(near: netio.Stream, far: netio.Stream) -> None:
    far._channel.close()


def reset(near: netio.Stream, far: netio.Stream) -> None:
    far.abort()


def close(near: netio.Stream, far: netio.Stream) -> None:
    near.abort()


@pytest.mark.parametrize(
    ("act", "expected"),
    [
        (no_more, ["end, 3 of 8"]),
        (reset, ["failed, 3 of 8"]),
        (close, ["aborted", "closed, 0 of 8"]),
    ],
)
async def test_a_wait_is_told_with_what_it_has_met(
    act: Callable[[netio.Stream, netio.Stream], None], expected: list[str]
) -> None:
    async with a_pair("memory") as (near, far):
        await far.write(b"123")
        await near.read_exactly(0)
        with netio.observe(Notes()) as notes:
            reading = asyncio.create_task(near.read_exactly(8))
            await ticks(3)
            act(near, far)
            await outcome_of(reading)
        told = [text.removeprefix("read_exactly(8) ") for text in notes.told]
        assert [text for text in told if text != "waits"][-len(expected) :] == expected
        assert isinstance(notes.waits[-1].error, OSError) is (act is reset)


async def test_a_write_that_waits_is_told_with_what_the_kernel_took(kind: str) -> None:
    async with a_pair(kind, small=True) as (near, far):
        fill(near)
        with netio.observe(Notes()) as notes:
            writing = asyncio.create_task(near.write(b"x" * 50))
            queued = asyncio.create_task(near.write(b"y"))
            await ticks(3)
            queued.cancel()
            await outcome_of(queued)
            async with netio.timeout(PATIENCE_S):
                while not writing.done():
                    await far.read_some()
    of_writes = [text for text in notes.told if text.startswith("write")]
    assert of_writes[:3] == ["write(50) waits", "write(1) waits", "write(1) cancelled, 0 of 1"]
    assert of_writes[-1] == "write(50) ready, 50 of 50"


@pytest.mark.virtual_clock
async def test_a_limit_that_is_reached_is_told_once_and_after_the_wait() -> None:
    async with a_pair("memory") as (near, far):
        await far.write(b"123")
        with netio.observe(Notes()) as notes:
            assert isinstance(await outcome_of(near.read_exactly(8, timeout=2)), TimeoutError)
        assert notes.told == [
            "read_exactly(8) waits",
            "read_exactly(8) ready, 3 of 8",
            "read_exactly(8) timed out: call",
        ]
        [wait] = notes.waits
        assert (wait.began, wait.ended, wait.deadline) == (0, 2, 2)


@pytest.mark.virtual_clock
async def test_a_scope_that_cuts_a_read_is_told_between_the_wait_and_its_end() -> None:
    async with a_pair("memory") as (near, _):

        async def work() -> None:
            async with netio.timeout(2, name="s"):
                await near.read_exactly(8)

        assert await told(work()) == [
            "s entered",
            "read_exactly(8) waits",
            "s fired",
            "read_exactly(8) cancelled, 0 of 8",
            "s left: caught",
        ]


@pytest.mark.virtual_clock
async def test_connecting_tells_the_attempts_and_the_whole() -> None:
    network = Network(names={"server": "10.0.0.1"}, lookup_seconds=1)
    network.add(faults.BlackHole())
    connecting = netio.connect_tcp("server", 7, timeout=3, network=network)
    assert [text for text in await told(connecting) if not text.startswith("fault")] == [
        "connect_tcp: lookup waits",
        "connect_tcp: lookup ready, 0",
        "connect waits",
        "connect ready, 0",
        "connect timed out: call",
        "connect_tcp timed out: call",
    ]


async def test_a_server_tells_that_it_waits_for_connections_and_then_for_its_tasks() -> None:
    with netio.observe(Notes()) as notes:
        async with netio.serve_tcp(lambda s: s.read_some(), "127.0.0.1"):
            await ticks(3)
    assert notes.told == [
        "accept waits",
        "aclose of the server waits",
        "accept ready, 0",
        "aclose of the server ready, 0",
    ]


async def test_a_bare_socket_tells_what_was_moved() -> None:
    near, far = socket.socketpair()
    near.setblocking(False)
    with near, far:
        with netio.observe(Notes()) as notes:
            reading = asyncio.create_task(netio.read_bytes(near, 3))
            await ticks(3)
            far.send(b"12")
            await ticks(5)
            far.send(b"3")
            await reading
    assert notes.told[:3] == ["read_bytes(3) waits", "read_bytes(3) ready, 0 of 3", notes.told[0]]
    assert notes.told[-1] == "read_bytes(3) ready, 2 of 3"  # it was taken after the wait


# Streams, and marks. --------------------------------------------------------------------------


async def test_a_stream_is_told_when_it_is_opened_and_closed_once() -> None:
    with netio.observe(Notes()) as notes:
        near, far = netio.stream_pair()
        await near.aclose()
        await near.aclose()
        near.abort()
        far.detach().close()
        async with a_pair("memory") as (one, other):
            one.abort()
            await other.aclose()
    assert notes.told == ["opened"] * 2 + ["closed", "detached"] + ["opened"] * 2 + [
        "aborted",
        "closed",
    ]


async def test_a_stream_that_is_closed_can_still_be_asked() -> None:
    seen: list[object] = []

    class Asks(netio.Observer):
        def stream_closed(self, stream: netio.Stream, reason: str) -> None:
            seen.append((stream.local, stream.statistics().bytes_received, stream.buffered))

    async with a_pair("tcp") as (near, far):
        await far.write(b"hello")
        await near.read_exactly(2)
        local = near.local
        with netio.observe(Asks()):
            await near.aclose()
    assert seen == [(local, 5, 3)]


async def test_a_moment_can_be_marked() -> None:
    with netio.observe(Notes()) as notes:
        mark("reset", category="fault", after_bytes=3)
    mark("nobody hears this")
    assert notes.told == ["fault: reset {'after_bytes': 3}"]


def test_a_mark_outside_a_loop_does_nothing() -> None:
    mark("nobody hears this")


# Who is told. ---------------------------------------------------------------------------------


async def some_work() -> None:
    async with netio.timeout(5, name="s"):
        pass


async def test_several_observers_are_told_until_their_own_block_ends() -> None:
    one, other = Notes(), Notes()
    first, second = netio.observe(one), netio.observe(other)
    first.__enter__()
    await some_work()
    second.__enter__()
    await some_work()
    first.__exit__(None, None, None)  # not the innermost one
    await some_work()
    second.__exit__(None, None, None)
    await some_work()
    assert len(one.told) == len(other.told) == 4


async def test_an_observer_that_is_put_to_work_twice_is_told_twice() -> None:
    with netio.observe(Notes()) as notes, netio.observe(notes):
        await some_work()
    assert len(notes.told) == 4


async def test_another_loop_is_not_told_of() -> None:
    with netio.observe(Notes()) as notes:
        await asyncio.to_thread(asyncio.run, some_work())
    assert notes.told == []


async def test_nothing_is_kept_when_nobody_watches() -> None:
    before = dict(observed)
    with pytest.raises(ZeroDivisionError), netio.observe(Notes()), netio.observe(Notes()):
        assert observed.keys() == {*before, asyncio.get_running_loop()}
        _ = 1 / 0
    assert observed == before


def test_to_observe_needs_a_running_loop_and_an_observer() -> None:
    with pytest.raises(RuntimeError, match="no running event loop"):
        netio.observe(netio.Observer())
    with pytest.raises(TypeError, match=r"observer must be a netio\.Observer"):
        netio.observe(object())  # type: ignore[type-var]


# No harm. -------------------------------------------------------------------------------------


class Fails(netio.Observer):
    def __getattribute__(self, name: str) -> Any:
        if name in EVENTS:
            raise ValueError(name)
        return super().__getattribute__(name)


async def test_an_observer_that_raises_harms_nobody_and_is_logged_once(
    caplog: pytest.LogCaptureFixture, kind: str
) -> None:
    with caplog.at_level(logging.INFO, "netio"):
        with netio.observe(Fails()), netio.observe(Notes()) as notes:
            async with netio.timeout(5, name="s"):
                async with a_pair(kind) as (near, far):
                    reading = asyncio.create_task(near.read_exactly(2))
                    await ticks(3)
                    await far.write(b"12")
                    assert await reading == b"12"
                    assert isinstance(
                        await outcome_of(near.read_exactly(2, timeout=0)), netio.DeadlineExceeded
                    )
    assert len(notes.told) > 5
    [record] = caplog.records
    assert record.name == "netio"
    assert "scope_entered of observer" in record.getMessage()


@pytest.mark.virtual_clock
async def test_an_observer_that_raises_a_cancellation_cancels_nothing() -> None:
    class Cancels(netio.Observer):
        def wait_began(self, wait: netio.Wait) -> None:
            raise asyncio.CancelledError

    async with a_pair("memory") as (near, _):
        with netio.observe(Cancels()):
            result = await outcome_of(near.read_exactly(2, timeout=1))
    assert isinstance(result, netio.DeadlineExceeded)


async def a_busy_run() -> None:
    """Reads, writes, scopes, cancels and limits, on memory."""
    async with a_pair("memory", small=True) as (near, far):

        async def echo() -> None:
            async for chunk in far.chunks(timeout=None):
                await far.write(chunk)

        async def write() -> None:
            await near.write(b"x" * 30_000)

        echoing, writing = asyncio.create_task(echo()), asyncio.create_task(write())
        for n in range(1, 20):
            async with netio.timeout(1):
                await near.read_exactly(n)
            async with netio.move_on_after(0.5):
                await near.read_exactly(60_000)
        writing.cancel()
        await outcome_of(near.read_exactly(60_000, timeout=1))
        echoing.cancel()
        await asyncio.wait([echoing, writing])


@pytest.mark.virtual_clock
async def test_an_observer_adds_no_callback_and_no_tick_to_the_loop() -> None:
    loop = asyncio.get_running_loop()
    counts: list[str] = []
    for name in ("call_soon", "call_at"):
        method = getattr(loop, name)

        def counted(*args: Any, name: str = name, method: Any = method, **kwargs: Any) -> Any:
            counts.append(f"{name} {loop.time():.3f}")
            return method(*args, **kwargs)

        setattr(loop, name, counted)
    runs = []
    for observer in (None, Notes(), None):
        counts.clear()
        start = loop.time()
        if observer is None:
            await a_busy_run()
        else:
            with netio.observe(observer):
                await a_busy_run()
            assert len(observer.told) > 50
        runs.append((len(counts), round(loop.time() - start, 6)))
    assert runs[0] == runs[1] == runs[2]


@pytest.mark.virtual_clock
async def test_nothing_is_made_and_nobody_is_told_while_nobody_watches(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Scopes that fire, waits, and limits that are reached: none of them does more than ask."""
    done: list[str] = []
    for name, module in list(sys.modules.items()):
        for thing in ("tell", "ObservedFuture"):
            if name.startswith("netio._") and hasattr(module, thing):
                right = getattr(module, thing)

                def noted(*args: Any, thing: str = thing, right: Any = right) -> Any:
                    done.append(thing)
                    return right(*args)

                monkeypatch.setattr(module, thing, noted)
    await a_busy_run()
    assert done == []
    with netio.observe(netio.Observer()):
        await a_busy_run()
    assert set(done) == {"tell", "ObservedFuture"}


@pytest.mark.virtual_clock
async def test_a_run_that_has_it_all_tells_each_event() -> None:
    told: set[str] = set()

    class Names(netio.Observer):
        def __getattribute__(self, name: str) -> Any:
            told.add(name)
            return super().__getattribute__(name)

    with netio.observe(Names()):
        await a_busy_run()
        mark("a mark")
    assert told & EVENTS == EVENTS


# What is told is what there is to be told. ----------------------------------------------------


def told_in_the_source() -> set[tuple[str, int]]:
    """Each event that some ``tell(loop, event, ...)`` names, and how many details it has."""
    return {
        (call.args[1].value, len(call.args) - 2)
        for path in sorted(PACKAGE.rglob("*.py"))
        for call in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(call, ast.Call)
        and isinstance(call.func, ast.Name)
        and call.func.id == "tell"
        and isinstance(call.args[1], ast.Constant)
        and isinstance(call.args[1].value, str)
    }


def test_what_is_told_and_what_an_observer_hears_are_the_same() -> None:
    heard = {
        (name, len(inspect.signature(getattr(netio.Observer, name)).parameters) - 1)
        for name in EVENTS
    }
    assert told_in_the_source() == heard
    assert len(heard) == 9


def test_only_who_asks_whether_somebody_watches_tells() -> None:
    """Each ``tell`` outside `_observing` is the body of an ``if observed:``."""
    guarded = unguarded = 0
    for path in sorted(PACKAGE.glob("*.py")):
        if path.name == "_observing.py":
            continue
        tree = ast.parse(path.read_text(encoding="utf-8"))
        tells = [n for n in ast.walk(tree) if isinstance(n, ast.Name) and n.id == "tell"]
        inside = [
            name
            for node in ast.walk(tree)
            if isinstance(node, ast.If) and ast.unparse(node.test) == "observed"
            for name in ast.walk(node)
            if isinstance(name, ast.Name) and name.id == "tell"
        ]
        guarded += len(inside)
        unguarded += len(tells) - len(inside)
    assert (guarded, unguarded) == (6, 0)
