"""A snapshot tells where each task is, in which scopes and which operation, and keeps nothing."""

import ast
import asyncio
import contextlib
import dataclasses
import gc
import math
import pickle
import re
import signal
import socket
import sys
import textwrap
import threading
import types
import weakref
from collections.abc import AsyncIterator, Callable, Coroutine, Generator
from pathlib import Path
from typing import Any

import pytest
from streams import a_pair, fill, ticks
from virtual import TASK_FACTORIES, run_with

import netio
from netio.testing import Network, faults, run

PACKAGE = Path(netio.__file__).parent
LoopFactory = Callable[[], asyncio.AbstractEventLoop]


def look(name: str, snapshot: netio.Snapshot | None = None) -> netio.TaskSnapshot:
    """The one task of this name."""
    [task] = [t for t in (snapshot or netio.snapshot()).tasks if t.name == name]
    return task


def look_at_me(snapshot: netio.Snapshot | None = None) -> netio.TaskSnapshot:
    task = asyncio.current_task()
    assert task is not None
    return look(task.get_name(), snapshot)


@contextlib.asynccontextmanager
async def running(**work: Coroutine[Any, Any, Any]) -> AsyncIterator[None]:
    """Tasks that have come to their first wait; they are cancelled on leaving."""
    tasks = [asyncio.create_task(one, name=name) for name, one in work.items()]
    try:
        await ticks(3)
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def line_of(function: Callable[..., object], text: str) -> int:
    """The line of the file on which `text` stands in `function`."""
    lines = Path(__file__).read_text(encoding="utf-8").splitlines()
    start = function.__code__.co_firstlineno
    return next(n for n, line in enumerate(lines[start:], start + 1) if text in line)


# Operations. ----------------------------------------------------------------------------------


@pytest.mark.virtual_clock
async def test_an_operation_is_told_with_its_peer_its_limit_and_what_has_come() -> None:
    async def fetch(stream: netio.Stream) -> None:
        await stream.read_exactly(16, timeout=5)

    async with a_pair("memory") as (near, far), running(fetch=fetch(near)):
        await far.write(b"1234")
        await asyncio.sleep(2)
        operation = look("fetch").operation
        assert operation == netio.OperationSnapshot(
            text="read_exactly(16) from memory:1",
            peer=near.peer,
            limit="call",
            deadline=5.0,
            remaining=3.0,
            elapsed=2.0,
            done=4,
            expected=16,
        )
        assert look("fetch").state == "waiting"
        [where] = look("fetch").where
        line = line_of(fetch, "read_exactly(16, timeout=5)")
        assert re.fullmatch(rf"\S+fetch \(tests/test_snapshot\.py:{line}\)", where)


async def test_the_peer_and_the_limit_are_those_that_the_error_would_name() -> None:
    async with a_pair("tcp") as (near, _), running(reads=near.read_line()):
        operation = look("reads").operation
        assert operation is not None
        assert operation.text == f"read_line from 127.0.0.1:{near.peer[1]}"  # type: ignore[index]
        assert (operation.peer, operation.limit) == (near.peer, "read")
        assert 9 < operation.remaining <= 10


@pytest.mark.virtual_clock
async def test_an_operation_without_a_limit_says_so() -> None:
    async with a_pair("memory") as (near, _), running(reads=near.read_some(timeout=None)):
        task = look("reads")
        assert task.operation is not None
        assert (task.operation.limit, task.operation.deadline) == ("", math.inf)
        assert task.operation.remaining == math.inf
        assert "    limit   none of its own" in str(task)


@pytest.mark.virtual_clock
async def test_a_limit_that_moves_is_told_where_it_is_by_now() -> None:
    async with a_pair("memory", timeouts=netio.Timeouts(idle=5)) as (near, far):
        with netio.observe(Ends()) as ends:
            async with running(reads=near.read_exactly(500, timeout=6)):
                await asyncio.sleep(3)
                await far.write(b"x" * 60)
                await asyncio.sleep(0.5)
                operation = look("reads").operation
                assert operation is not None
                assert (operation.limit, operation.deadline) == ("call", 6.0)
                near.timeouts = netio.Timeouts(idle=2)
                await far.write(b"x")
                await asyncio.sleep(1)
                operation = look("reads").operation
                assert operation is not None
                assert (operation.limit, operation.deadline) == ("idle", 5.5)
    assert [(wait.limit, wait.deadline) for wait in ends.waits] == [("idle", 5.5)]


class Ends(netio.Observer):
    """Keeps the waits of an operation that have ended."""

    def __init__(self) -> None:
        self.waits: list[netio.Wait] = []

    def wait_ended(self, wait: netio.Wait) -> None:
        self.waits.append(wait)


@pytest.mark.virtual_clock
async def test_a_budget_and_a_floor_are_told_by_their_names() -> None:
    async with a_pair("memory", timeouts=netio.Timeouts(min_rate=netio.Rate(100, per=4))) as (
        near,
        far,
    ):
        async with running(reads=near.read_exactly(500, timeout=netio.Budget(3))):
            await asyncio.sleep(1)
            assert "    limit   the budget, 2.000 s left" in str(look("reads"))
        async with running(reads=near.read_exactly(500, timeout=None)):
            await far.write(b"x")
            await asyncio.sleep(1)
            assert "    limit   the floor of the rate, 3.000 s left" in str(look("reads"))


@pytest.mark.virtual_clock
async def test_an_operation_that_could_not_be_cut_yet_has_no_time_left() -> None:
    async with a_pair("memory") as (near, _), running(reads=near.read_some()):
        near.read_deadline = netio.Deadline.at(-5)
        operation = look("reads").operation
    assert operation is not None
    assert (operation.limit, operation.deadline, operation.remaining) == ("deadline", -5.0, 0.0)


async def test_a_write_is_told_with_what_the_kernel_took(kind: str) -> None:
    async with a_pair(kind, small=True) as (near, _):
        fill(near)
        async with running(writes=near.write(b"x" * 50), queued=near.write(b"y")):
            for name, size in (("writes", 50), ("queued", 1)):
                operation = look(name).operation
                assert operation is not None
                assert operation.text.startswith(f"write({size}) to ")
                assert (operation.done, operation.expected) == (0, size)


@pytest.fixture(params=["tcp", "unix", "memory"])
def kind(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.mark.virtual_clock
async def test_connecting_is_told_as_a_whole() -> None:
    network = Network(names={"server": "10.0.0.1"})
    network.add(faults.BlackHole())
    async with running(connects=netio.connect_tcp("server", 7, timeout=3, network=network)):
        await asyncio.sleep(1)
        task = look("connects")
    assert task.operation is not None
    assert task.operation.text == "connect_tcp to server:7"
    assert (task.operation.limit, task.operation.remaining) == ("call", 2.0)


async def test_a_bare_socket_and_a_server_are_told() -> None:
    near, far = socket.socketpair()
    with near, far:
        near.setblocking(False)
        async with (
            netio.serve_tcp(lambda stream: stream.read_some(), "127.0.0.1"),
            running(reads=netio.read_bytes(near, 4)),
        ):
            assert look("reads").operation is not None
            waits = [t.operation.text for t in netio.snapshot().tasks if t.operation]
    assert any(text.startswith("accept on 127.0.0.1:") for text in waits)
    assert any(text.startswith("read_bytes(4) from ") for text in waits)


@pytest.mark.virtual_clock
async def test_a_server_is_told_to_wait_since_it_began_also_when_it_rests_after_an_error(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    await asyncio.sleep(7)
    network = Network()
    async with netio.serve_tcp(lambda s: s.read_some(), "127.0.0.1", 7, network=network) as server:
        await asyncio.sleep(2)
        [operation] = [task.operation for task in netio.snapshot().tasks if task.operation]
        assert operation.text == "accept on 127.0.0.1:7"
        assert (operation.elapsed, operation.limit) == (2.0, "")

        def fail(*_: object) -> bool:
            raise OSError("no descriptors")

        monkeypatch.setattr(type(server), "_accept_some", fail)
        async with netio.connect_tcp("127.0.0.1", 7, network=network):
            await asyncio.sleep(0.25)
            [operation] = [task.operation for task in netio.snapshot().tasks if task.operation]
    assert operation.text == "accept: pause after an error on 127.0.0.1:7"
    assert (operation.elapsed, operation.remaining) == (0.25, 0.75)


@pytest.mark.virtual_clock
async def test_in_a_handler_of_a_server_its_own_code_is_told() -> None:
    async def greet(stream: netio.Stream) -> None:
        await stream.read_line()

    network = Network()
    async with (
        netio.serve_tcp(greet, "127.0.0.1", 7, network=network),
        netio.connect_tcp("127.0.0.1", 7, network=network),
    ):
        await asyncio.sleep(1)
        [task] = [t for t in netio.snapshot().tasks if any("greet" in w for w in t.where)]
    assert task.operation is not None
    assert task.operation.text.startswith("read_line from 127.0.0.1:")
    assert "greet (tests/test_snapshot.py:" in task.where[0]
    assert "_handle (netio/_server.py:" in task.where[1]


# Scopes. --------------------------------------------------------------------------------------


@pytest.mark.virtual_clock
async def test_scopes_are_told_the_innermost_first() -> None:
    async def work() -> None:
        async with netio.timeout(10, name="outer"), netio.move_on_after(3), netio.timeout(None):
            await asyncio.sleep(60)

    async with running(work=work()):
        await asyncio.sleep(1)
        unlimited, moves_on, outer = look("work").scopes
    assert outer == netio.ScopeSnapshot(
        name="outer",
        kind="timeout",
        state="active",
        deadline=10.0,
        remaining=9.0,
        overdue=0.0,
        elapsed=1.0,
        held=False,
        own=True,
        task="work",
    )
    assert (moves_on.name, moves_on.kind, moves_on.remaining) == (None, "move_on", 2.0)
    assert (unlimited.deadline, unlimited.remaining) == (math.inf, math.inf)


@pytest.mark.virtual_clock
async def test_a_scope_that_fired_is_told_with_how_long_ago() -> None:
    async def stubborn() -> None:
        async with netio.timeout(1, name="s"), netio.timeout(60, name="inner"):
            try:
                await asyncio.sleep(60)
            finally:
                await asyncio.sleep(60)

    async with running(stubborn=stubborn()):
        await asyncio.sleep(3.5)
        task = look("stubborn")
    inner, scope = task.scopes
    assert (scope.state, scope.remaining, scope.overdue) == ("expired", 0.0, 2.5)
    assert (inner.state, inner.overdue) == ("active", 0.0)
    assert task.cancelling == 1


@pytest.mark.virtual_clock
async def test_a_scope_that_was_cancelled_by_hand_is_told_as_such() -> None:
    scope = netio.timeout(60)

    async def stubborn() -> None:
        async with scope:
            try:
                await asyncio.sleep(60)
            finally:
                await asyncio.sleep(60)

    async with running(stubborn=stubborn()):
        scope.cancel()
        [told] = look("stubborn").scopes
        assert (told.state, told.overdue) == ("cancelled", 0.0)
        await asyncio.sleep(2)
        [told] = look("stubborn").scopes
        assert (told.state, told.overdue) == ("cancelled", 2.0)


@pytest.mark.virtual_clock
async def test_a_scope_that_could_not_fire_yet_is_late() -> None:
    async with netio.timeout_at(-3) as scope:
        [told] = look_at_me().scopes
        assert (told.state, told.remaining, told.overdue) == ("active", 0.0, 3.0)
        assert "3.000 s LATE" in str(look_at_me())
        scope.reschedule(None)


@pytest.mark.virtual_clock
async def test_a_shield_and_the_scope_that_it_holds_back_are_told() -> None:
    async def work() -> None:
        async with netio.timeout(1, name="s"):
            async with netio.shield(5, name="goodbye"):
                await asyncio.sleep(60)

    async with running(work=work()):
        await asyncio.sleep(0.5)
        assert [scope.held for scope in look("work").scopes] == [False, True]
        await asyncio.sleep(2)
        task = look("work")
    shield, scope = task.scopes
    assert (shield.kind, shield.name, shield.remaining) == ("shield", "goodbye", 2.5)
    assert (scope.state, scope.overdue, scope.held) == ("active", 1.5, True)
    assert "1.500 s LATE, held by a shield" in str(task)


@pytest.mark.virtual_clock
async def test_an_inherited_scope_is_told_apart_with_the_task_that_entered_it() -> None:
    async def child() -> None:
        async with netio.timeout(5, name="own"):
            await asyncio.sleep(60)

    async with netio.timeout(10, name="page"):
        async with running(child=child()):
            own, inherited = look("child").scopes
            mine = look_at_me()
    assert (own.own, own.task) == (True, "child")
    assert (inherited.name, inherited.own, inherited.task) == ("page", False, mine.name)
    assert [(scope.name, scope.own) for scope in mine.scopes] == [("page", True)]


async def test_a_scope_that_was_left_is_not_told() -> None:
    async def child() -> None:
        await asyncio.sleep(60)

    async with contextlib.AsyncExitStack() as stack:
        async with netio.timeout(60):
            await stack.enter_async_context(running(child=child()))
            assert len(look("child").scopes) == 1
        assert look("child").scopes == ()
        assert look_at_me().scopes == ()


async def test_a_scope_that_is_left_while_another_thread_asks_is_not_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with netio.timeout(60) as left:
        pass
    async with netio.timeout(60, name="s") as scope:
        monkeypatch.setattr("netio._snapshot.scopes_in", lambda context: [left, scope])
        assert [told.name for told in look_at_me().scopes] == ["s"]


@pytest.mark.parametrize("factory", TASK_FACTORIES)
def test_the_scopes_of_every_kind_of_task_are_found(factory: str) -> None:
    class Sub(asyncio.Task[None]):
        pass

    async def work(name: str) -> None:
        async with netio.timeout(5, name=name):
            await asyncio.sleep(60)

    async def main() -> None:
        loop = asyncio.get_running_loop()
        sub = Sub(work("of sub"), loop=loop, name="sub")
        async with running(a=work("of a"), b=work("of b")):
            # From then on the variables of a task in Python are in a dict.
            [getattr(task, "__dict__", None) for task in asyncio.all_tasks()]
            sub.add_done_callback(lambda _: None)  # which has a context of its own
            assert {name: look(name).scopes[0].name for name in ("a", "b", "sub")} == {
                "a": "of a",
                "b": "of b",
                "sub": "of sub",
            }
        sub.cancel()
        await asyncio.wait([sub])

    run_with(TASK_FACTORIES[factory], main())


# Tasks, and where they are. -------------------------------------------------------------------


async def test_a_task_that_runs_is_told_with_its_calls() -> None:
    def inner() -> netio.TaskSnapshot:
        return look_at_me(netio.snapshot())

    async def outer() -> netio.TaskSnapshot:
        return inner()

    task = await outer()
    assert (task.state, task.operation, task.awaited) == ("running", None, None)
    names = [where.partition(" (")[0].rpartition(".")[2] for where in task.where]
    assert names[:3] == ["inner", "outer", "test_a_task_that_runs_is_told_with_its_calls"]


async def test_a_task_that_is_ready_and_one_that_waits_for_a_task_are_told() -> None:
    async def sleep() -> None:
        await asyncio.sleep(60)

    async def join(task: asyncio.Task[None]) -> None:
        await task

    future: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def wait() -> None:
        await future

    sleeper = asyncio.create_task(sleep(), name="sleeper")
    async with running(join=join(sleeper), wait=wait()):
        assert (look("join").state, look("join").awaited) == ("waiting", "sleeper")
        assert (look("wait").state, look("wait").awaited) == ("waiting", None)
        future.set_result(None)
        assert look("wait").state == "ready"
        task = asyncio.create_task(sleep(), name="new")
        assert look("new").state in ("ready", "waiting")  # an eager one has begun
        task.cancel()
        await asyncio.wait([task])
        assert "new" not in {t.name for t in netio.snapshot().tasks}


@pytest.mark.skipif(sys.version_info < (3, 12), reason="asyncio has eager tasks since Python 3.12")
def test_within_the_first_step_of_an_eager_task_it_and_its_parent_run() -> None:
    async def child() -> netio.Snapshot:
        async with netio.timeout(5, name="of the child"):
            return netio.snapshot()

    async def main() -> None:
        task = asyncio.current_task()
        assert task is not None
        task.set_name("main")
        async with netio.timeout(9, name="of the parent"):
            # asyncio gives an eager task its name when its first step is over.
            snapshot = await asyncio.create_task(child())
        parent = look("main", snapshot)
        [eager] = [task for task in snapshot.tasks if task is not parent]
        assert (parent.state, eager.state) == ("running", "running")
        assert [scope.name for scope in parent.scopes] == ["of the parent"]
        assert [(scope.name, scope.own) for scope in eager.scopes] == [
            ("of the child", True),
            ("of the parent", False),
        ]
        assert "child (tests/test_snapshot.py:" in eager.where[0]

    run_with(TASK_FACTORIES["eager"], main())


async def test_where_a_task_is_is_bounded() -> None:
    async def deep(depth: int) -> None:
        await (deep(depth - 1) if depth else asyncio.sleep(60))

    async with running(deep=deep(300)):
        where = look("deep").where
    assert len(where) == 8
    assert where[0].startswith("sleep (asyncio/tasks.py:")


async def test_the_tasks_of_another_loop_are_not_told() -> None:
    def other() -> set[str]:
        async def main() -> set[str]:
            return {task.name for task in netio.snapshot().tasks}

        return asyncio.run(main())

    here = look_at_me().name
    there = await asyncio.to_thread(other)
    assert len(there) == 1
    assert here not in there or len(netio.snapshot().tasks) == 1


async def test_tasks_are_told_by_name_numbers_in_their_order() -> None:
    async def sleep() -> None:
        await asyncio.sleep(60)

    async with running(**{f"x{n}": sleep() for n in (10, 9, 2, 1)}):
        names = [task.name for task in netio.snapshot().tasks if task.name.startswith("x")]
    assert names == ["x1", "x2", "x9", "x10"]


# Odd tasks. -----------------------------------------------------------------------------------


async def awaits_an_iterator() -> None:
    """It awaits an iterator, which is no generator."""
    future: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    class Awaitable:
        def __await__(self) -> "Awaitable":
            return self

        def __iter__(self) -> "Awaitable":
            return self

        def __next__(self) -> Any:
            future._asyncio_future_blocking = True
            return future

    await Awaitable()  # type: ignore[misc]


@types.coroutine
def generator_based() -> Generator[Any, Any, None]:
    yield from asyncio.sleep(60).__await__()


async def awaits_a_generator() -> None:
    await generator_based()


async def iterates() -> None:
    async def numbers() -> AsyncIterator[int]:
        await asyncio.sleep(60)
        yield 1

    async for _ in numbers():
        pass


async def closes_a_generator() -> None:
    async def numbers() -> AsyncIterator[int]:
        try:
            yield 1
        finally:
            await asyncio.sleep(60)

    iterator = numbers()
    await anext(iterator)
    await iterator.aclose()  # type: ignore[attr-defined]


async def waits_for_a_gather_with_one_that_is_done() -> None:
    async def done() -> None:
        pass

    await asyncio.gather(done(), asyncio.sleep(60))


async def waits_in_a_foreign_coroutine() -> None:
    class Foreign(Coroutine[Any, Any, None]):
        def __init__(self) -> None:
            self.inner = asyncio.sleep(60)

        def send(self, value: Any) -> Any:
            return self.inner.send(value)

        def throw(self, *args: Any) -> Any:
            return self.inner.throw(*args)

        def close(self) -> None:
            self.inner.close()

        def __await__(self) -> Generator[Any, Any, None]:
            return self.inner.__await__()

    await asyncio.get_running_loop().create_task(Foreign(), name="foreign")


ODD = {
    "awaits_an_iterator": awaits_an_iterator,
    "generator_based": awaits_a_generator,
    "numbers": iterates,
    "numbers, closing": closes_a_generator,
    "gather": waits_for_a_gather_with_one_that_is_done,
    "foreign": waits_in_a_foreign_coroutine,
}


@pytest.mark.parametrize("name", ODD)
async def test_an_odd_task_is_told_as_far_as_it_can_be_seen(name: str) -> None:
    async with running(odd=ODD[name]()):
        snapshot = netio.snapshot()
        task = look("odd", snapshot)
        assert task.state in ("waiting", "ready")
        assert any("test_snapshot.py" in where for where in task.where)
        if name.startswith(("numbers", "generator_based")):
            assert task.where[0].startswith("sleep (asyncio")
            assert any(name.partition(",")[0] in where for where in task.where)
        if name == "foreign":
            assert look("foreign", snapshot).where[0].startswith("sleep (asyncio")
        assert "'odd' " in str(snapshot)


async def test_a_task_that_cannot_be_looked_at_hides_no_other() -> None:
    class Breaks(asyncio.Task[None]):
        def get_name(self) -> str:
            if sys._getframe(1).f_code.co_filename.startswith(str(PACKAGE)):
                raise OSError("no name")
            return super().get_name()

    async def sleep() -> None:
        await asyncio.sleep(60)

    task = Breaks(sleep(), loop=asyncio.get_running_loop())
    async with running(sound=sleep()):
        snapshot = netio.snapshot()
    task.cancel()
    await asyncio.wait([task])
    assert look("sound", snapshot).state == "waiting"
    [odd] = [t for t in snapshot.tasks if t.state == "unknown"]
    assert str(odd).split("\n") == [
        "'a " + Breaks.__qualname__ + "' could not be looked at",
        "    at      OSError",
    ]


async def test_it_can_be_taken_where_there_is_no_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    assert look_at_me().state == "running"


# From where it can be asked for. --------------------------------------------------------------


async def test_a_handler_of_a_signal_asks_while_a_task_runs(loop_variant: str) -> None:
    snapshots: list[netio.Snapshot] = []

    def handle(*_: object) -> None:
        snapshots.append(netio.snapshot())

    def busy() -> None:
        signal.raise_signal(signal.SIGUSR1)

    previous = signal.signal(signal.SIGUSR1, handle)
    try:
        async with netio.timeout(60, name="s"):
            busy()
    finally:
        signal.signal(signal.SIGUSR1, previous)
    [snapshot] = snapshots
    me = look_at_me(snapshot)
    assert me.state == "running"
    assert [scope.name for scope in me.scopes] == ["s"]
    names = [where.partition(" (")[0].rpartition(".")[2] for where in me.where]
    assert names[:2] == ["handle", "busy"]


@pytest.mark.real_time("a signal comes while the loop is asleep in the kernel")
async def test_a_handler_of_a_signal_asks_while_the_loop_sleeps() -> None:
    snapshots: list[netio.Snapshot] = []
    waiting = asyncio.Event()
    loop = asyncio.get_running_loop()

    def handle(*_: object) -> None:
        snapshots.append(netio.snapshot())
        loop.call_soon_threadsafe(waiting.set)

    previous = signal.signal(signal.SIGUSR1, handle)
    timer = threading.Timer(
        0.05, signal.pthread_kill, [threading.main_thread().ident, signal.SIGUSR1]
    )
    try:
        timer.start()
        async with netio.timeout(5, name="s"):
            await waiting.wait()
    finally:
        timer.join()
        signal.signal(signal.SIGUSR1, previous)
    me = look_at_me(snapshots[0])
    assert me.state == "waiting"
    assert [scope.name for scope in me.scopes] == ["s"]


async def test_another_thread_asks_about_a_loop_that_is_blocked_in_a_step() -> None:
    loop = asyncio.get_running_loop()
    snapshots: list[netio.Snapshot] = []

    name = look_at_me().name

    def ask() -> None:
        while not snapshots or "threading.py" not in look(name, snapshots[-1]).where[0]:
            snapshots.append(netio.snapshot(loop=loop))

    async with a_pair("memory") as (near, _), running(reads=near.read_exactly(4)):
        async with netio.timeout(60, name="s"):
            thread = threading.Thread(target=ask)
            thread.start()
            thread.join()  # a step that blocks the loop
    me = look(name, snapshots[-1])
    assert me.state == "running"
    assert [scope.name for scope in me.scopes] == ["s"]
    assert look("reads", snapshots[-1]).operation is not None


@pytest.mark.real_time("another thread asks, over and over, while the loop works")
async def test_another_thread_asks_over_and_over_while_the_loop_works() -> None:
    loop = asyncio.get_running_loop()
    stop = threading.Event()
    seen: list[int] = []
    failures: list[BaseException] = []

    def ask() -> None:
        try:
            while not stop.is_set():
                snapshot = netio.snapshot(loop)
                seen.append(len(snapshot.tasks))
                str(snapshot)
        except BaseException as error:
            failures.append(error)

    async def work(near: netio.Stream, far: netio.Stream) -> None:
        for _ in range(20):
            async with netio.timeout(5, name="s"), netio.move_on_after(1):
                reading = asyncio.create_task(near.read_exactly(4))
                await asyncio.sleep(0)
                await far.write(b"1234")
                await reading

    interval = sys.getswitchinterval()
    thread = threading.Thread(target=ask)
    thread.start()
    try:
        sys.setswitchinterval(1e-5)
        while len(seen) < 100 and not failures:
            async with a_pair("memory") as (near, far):
                await work(near, far)
    finally:
        sys.setswitchinterval(interval)
        stop.set()
        thread.join()
    assert not failures
    assert max(seen) >= 1


def test_it_can_be_asked_between_two_runs_of_a_loop(loop_factory: LoopFactory) -> None:
    async def sleep() -> None:
        async with netio.timeout(60, name="s"):
            await asyncio.sleep(60)

    with contextlib.closing(loop_factory()) as loop:
        task = loop.create_task(sleep(), name="sleeps")
        loop.run_until_complete(asyncio.sleep(0))
        assert look("sleeps", netio.snapshot(loop)).scopes[0].name == "s"
        task.cancel()
        loop.run_until_complete(asyncio.wait([task]))


def test_without_a_loop_it_says_what_to_do(loop_factory: LoopFactory) -> None:
    with pytest.raises(RuntimeError, match="no event loop runs in this thread: say loop="):
        netio.snapshot()
    with pytest.raises(TypeError, match="loop must be an event loop or None, not str"):
        netio.snapshot("loop")  # type: ignore[arg-type]
    loop = loop_factory()
    loop.close()
    with pytest.raises(RuntimeError, match="the loop is closed"):
        netio.snapshot(loop)


# What it costs, and keeps. --------------------------------------------------------------------


class Payload:
    """Something that a program wants to be rid of."""


async def read_within(scope: netio.Scope, stream: netio.Stream) -> None:
    async with scope:
        await stream.read_exactly(4)


async def test_it_keeps_no_stream_no_scope_and_no_task() -> None:
    gc.collect()
    gc.disable()
    try:
        scope = netio.timeout(60, name="s")
        async with a_pair("memory") as (near, far):
            task = asyncio.create_task(read_within(scope, near))
            await ticks(3)
            snapshot = netio.snapshot()
            await far.write(b"1234")
            await task
        kept = [weakref.ref(task), weakref.ref(scope), weakref.ref(near)]
        del task, scope, near, far
        await ticks(3)
        assert [ref() for ref in kept] == [None, None, None]
        assert len(snapshot.tasks) >= 2
    finally:
        gc.enable()


async def test_it_keeps_no_variable_of_the_code_that_it_saw() -> None:
    first, second = asyncio.Event(), asyncio.Event()
    kept: list[weakref.ref[Payload]] = []

    async def work() -> None:
        payload: Payload | None = Payload()
        kept.append(weakref.ref(payload))
        await first.wait()
        payload = None
        await second.wait()
        assert payload is None

    async with running(work=work()):
        snapshot = netio.snapshot()
        assert kept[0]() is not None
        first.set()
        await ticks(3)
        assert kept[0]() is None
        assert look("work", snapshot).state == "waiting"


def plain(value: object) -> bool:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return all(plain(getattr(value, field.name)) for field in dataclasses.fields(value))
    if isinstance(value, tuple):
        return all(map(plain, value))
    return value is None or type(value) in (str, int, float, bool, bytes)


async def test_it_is_made_of_plain_values_and_can_be_pickled() -> None:
    async with a_pair("tcp") as (near, _), netio.timeout(60, name="s"):
        async with running(reads=near.read_exactly(4)):
            snapshot = netio.snapshot()
    assert plain(snapshot)
    assert not plain(near)
    assert pickle.loads(pickle.dumps(snapshot)) == snapshot
    assert hash(snapshot) == hash(pickle.loads(pickle.dumps(snapshot)))
    with pytest.raises(dataclasses.FrozenInstanceError):
        snapshot.time = 0.0  # type: ignore[misc]


def test_nothing_in_netio_prepares_for_a_snapshot() -> None:
    """Only who reports knows the files that look: nobody on the way of an operation."""
    using = {
        path.relative_to(PACKAGE).as_posix()
        for path in PACKAGE.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.ImportFrom) and node.module in ("netio._snapshot", "netio._waiting")
    }
    assert {name for name in using if not name.startswith("testing/")} == {
        "__init__.py",
        "_snapshot.py",
        "_tasks.py",  # whose errors say where the work is that they don't wait for
        "_stubborn.py",  # whose report on a body that goes on says where that is
    }


@pytest.mark.virtual_clock
async def test_a_snapshot_changes_nothing_of_what_follows() -> None:
    async def work(*, snapshots: bool) -> list[object]:
        told: list[object] = []
        async with a_pair("memory") as (near, far):
            began = asyncio.get_running_loop().time()

            async def write() -> None:
                for _ in range(5):
                    await asyncio.sleep(1)
                    await far.write(b"12")

            async with running(write=write()):
                for seconds in (0.5, 1.5, 3):
                    async with netio.move_on_after(seconds) as scope:
                        if snapshots:
                            asyncio.get_running_loop().call_later(0.05, netio.snapshot)
                        await asyncio.sleep(0.1)
                        told.append(await near.read_exactly(4))
                    told += [scope.caught, round(asyncio.get_running_loop().time() - began, 6)]
        return told

    assert await work(snapshots=False) == await work(snapshots=True)


# The text. ------------------------------------------------------------------------------------


def test_the_text_is_for_a_person() -> None:
    async def fetch(stream: netio.Stream) -> None:
        async with netio.timeout(10, name="request"), netio.move_on_after(2):
            await stream.read_exactly(16)

    async def stubborn() -> None:
        async with netio.timeout(0.5, name="session"):
            try:
                await asyncio.sleep(10)
            finally:
                await asyncio.sleep(10)

    async def main() -> str:
        task = asyncio.current_task()
        assert task is not None
        task.set_name("m")
        near, far = Network().pair()
        async with near, far, netio.timeout(20, name="page"):
            async with running(client=fetch(near), stubborn=stubborn()):
                await far.write(b"1234")
                await asyncio.sleep(1)
                return str(netio.snapshot())

    text = re.sub(r"\((\S+):\d+\)", r"(\1)", run(main()))
    text = re.sub(r"127\.0\.0\.1:\d+", "127.0.0.1:PORT", text).replace(
        f"{test_the_text_is_for_a_person.__name__}.<locals>.", ""
    )
    here = "tests/test_snapshot.py"
    assert (
        text
        == textwrap.dedent(f"""\
        3 tasks, 4 scopes, 1 operation; 1.000 s

        'm' is running
            at      main ({here})
            in      timeout  'page'  19.000 s left  entered 1.000 s ago

        'client' waits in read_exactly(16) from 127.0.0.1:PORT for 1.000 s
            limit   the connection's read limit, 59.000 s left
            bytes   4 of 16
            at      fetch ({here})
            in      move_on             1.000 s left   entered 1.000 s ago
                    timeout  'request'  9.000 s left   entered 1.000 s ago
                    timeout  'page'     19.000 s left  entered 1.000 s ago  inherited from 'm'

        'stubborn' waits, cancelled 1 time
            at      sleep (asyncio/tasks.py)
                    stubborn ({here})
            in      timeout  'session'  EXPIRED 0.500 s ago  entered 1.000 s ago
                    timeout  'page'     19.000 s left        entered 1.000 s ago  inherited from 'm'
        """).rstrip()
    )


@pytest.mark.virtual_clock
async def test_a_wait_for_tasks_that_has_no_limit_is_counted_from_its_beginning() -> None:
    await asyncio.sleep(100)
    network = Network()
    async with (
        netio.serve_tcp(lambda s: s.read_some(), "127.0.0.1", 7, network=network) as server,
        running(shielded=netio.shielded(asyncio.sleep(9), 20), serves=server.serve_forever()),
    ):
        await asyncio.sleep(3)
        for name in "shielded", "serves":
            operation = look(name).operation
            assert operation is not None
            assert (name, operation.elapsed, operation.limit) == (name, 3.0, "")


@pytest.mark.virtual_clock
async def test_of_a_wait_for_that_has_cancelled_its_work_the_limit_is_its_grace() -> None:
    async def cleaning() -> None:
        try:
            await asyncio.sleep(99)
        finally:
            await asyncio.sleep(3)

    async with running(waits=netio.wait_for(cleaning(), 1, grace=8)):
        await asyncio.sleep(2)
        operation = look("waits").operation
        assert operation is not None
        assert operation.text.startswith("wait_for('cleaning')")
        assert (operation.remaining, operation.elapsed) == (7.0, 1.0)
