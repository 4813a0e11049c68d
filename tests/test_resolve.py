"""Lookups: a stuck one holds up nothing: not its limit, the loop, other lookups or the exit."""

import asyncio
import gc
import socket
import subprocess
import sys
import textwrap
import threading
import time
import weakref
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest
from footprint import footprint
from real_time import block_until, until
from streams import outcome_of, ticks

import netio
from netio import _resolve
from netio._operation import Operation
from netio._resolve import Target, resolver_of

LATE_S = 0.05
PATIENCE_S = 5.0


class Names:
    """Stands for the C library: `stuck.*` blocks until it is freed, `nowhere.*` is unknown."""

    def __init__(self) -> None:
        self.freed = threading.Event()
        self.asked: list[str] = []
        self.answered = threading.Semaphore(0)
        self.original = socket.getaddrinfo

    def getaddrinfo(self, host: str, port: int, **options: Any) -> list[Any]:
        if host is None or host.rpartition(".")[2][:1].isdigit():
            return self.original(host, port, **options)
        assert threading.current_thread().name == "netio lookup"  # it may take for ever
        self.asked.append(host)
        try:
            if host.startswith("stuck"):
                assert self.freed.wait(10)
            if host.startswith("nowhere"):
                raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
            return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port))]
        finally:
            self.answered.release()

    def let_go(self, threads: int = 1) -> None:
        """Free the stuck ones, and see that their threads are through."""
        self.freed.set()
        for _ in range(threads):
            assert self.answered.acquire(timeout=PATIENCE_S)
        assert block_until(
            lambda: all(thread.name != "netio lookup" for thread in threading.enumerate())
        )


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> Iterator[Names]:
    names = Names()
    monkeypatch.setattr(socket, "getaddrinfo", names.getaddrinfo)
    yield names
    names.let_go(0)


def operation(timeout: float | None = 5) -> Operation:
    operation = Operation("lookup")
    now = asyncio.get_running_loop().time()
    operation.start(now, timeout, default=None, kind="resolve")
    return operation


async def lookup(host: str, timeout: float | None = 5) -> list[Target]:
    return await resolver_of(asyncio.get_running_loop()).lookup(host, 80, operation(timeout))


async def test_a_name_is_looked_up_in_a_thread(names: Names) -> None:
    assert await lookup("good.example") == [Target(socket.AF_INET, ("127.0.0.1", 80))]
    resolver = resolver_of(asyncio.get_running_loop())
    assert (resolver.running, resolver.abandoned) == (0, 0)


@pytest.mark.parametrize("host", ["127.0.0.1", "127.1", "0x7f.1", "0x7f000001", "2130706433"])
async def test_an_address_is_not_looked_up(names: Names, host: str) -> None:
    assert await lookup(host, timeout=0) == [Target(socket.AF_INET, ("127.0.0.1", 80))]
    assert names.asked == []


@pytest.mark.parametrize("host", ["localhost", "a.example", "7.example", "x1", "ab.c2", "a.b."])
async def test_a_name_is_never_looked_up_in_the_loops_own_thread(names: Names, host: str) -> None:
    assert await lookup(host) == [Target(socket.AF_INET, ("127.0.0.1", 80))]
    assert names.asked == [host]


async def test_an_error_of_the_lookup_reaches_the_caller(names: Names) -> None:
    with pytest.raises(socket.gaierror, match="not known"):
        await lookup("nowhere.example")


async def abandon_one(names: Names) -> None:
    """Ask for what is stuck, and leave when its thread has begun to."""
    asked = len(names.asked)
    task = asyncio.create_task(lookup("stuck.example"))
    assert await until(lambda: len(names.asked) > asked)
    task.cancel()
    await asyncio.wait([task])


async def lateness(limit: float, call: Callable[[], Awaitable[object]]) -> float:
    """How late `call` is cut: the best of three, since the machine may be busy with other work."""
    took = []
    for _ in range(3):
        before = time.monotonic()
        with pytest.raises(netio.DeadlineExceeded):
            await call()
        took.append(time.monotonic() - before)
    return min(took) - limit


@pytest.mark.real_time("how late a stuck lookup is cut is measured")
async def test_the_limit_of_a_stuck_lookup_holds(names: Names) -> None:
    assert await lateness(0.005, lambda: lookup("stuck.example", timeout=0.005)) < LATE_S


@pytest.mark.real_time("how late a stuck lookup is cut is measured")
async def test_the_limit_of_connecting_holds_for_a_stuck_lookup(names: Names) -> None:
    def connect() -> Awaitable[object]:
        return netio.connect_tcp("stuck.example", 80, timeout=0.005)

    assert await lateness(0.005, connect) < LATE_S


@pytest.mark.real_time("the thread of a lookup is stuck")
async def test_the_error_of_a_stuck_lookup_names_the_limit_that_was_reached(names: Names) -> None:
    timeouts = netio.Timeouts(resolve=0.05)  # long enough for the thread to be begun
    with pytest.raises(netio.DeadlineExceeded, match="looked up") as caught:
        await netio.connect_tcp("stuck.example", 80, timeout=0.002)
    assert caught.value.limit == "call"
    with pytest.raises(netio.DeadlineExceeded, match="left behind") as caught:
        await netio.connect_tcp("stuck.example", 80, timeouts=timeouts)
    assert caught.value.limit == "resolve"
    with pytest.raises(netio.DeadlineExceeded) as caught:
        await netio.serve_tcp(lambda stream: ticks(1), "stuck.example", timeouts=timeouts)
    assert caught.value.limit == "resolve"


async def test_an_expired_limit_asks_nobody(names: Names) -> None:
    with pytest.raises(netio.DeadlineExceeded):
        await netio.connect_tcp("good.example", 80, timeout=0)
    assert names.asked == []


@pytest.mark.real_time("the thread of a lookup is stuck")
async def test_the_loop_keeps_turning_while_a_lookup_is_stuck(names: Names) -> None:
    task = asyncio.create_task(outcome_of(lookup("stuck.example")))
    for _ in range(5):
        await asyncio.sleep(0.001)
    assert names.asked == ["stuck.example"]
    assert not task.done()
    names.let_go()
    assert await task


async def test_other_lookups_proceed_while_some_are_stuck(names: Names) -> None:
    stuck = [asyncio.create_task(outcome_of(lookup("stuck.example"))) for _ in range(20)]
    await ticks(2)
    assert await lookup("good.example")
    assert not any(task.done() for task in stuck)
    names.let_go(21)
    assert all(isinstance(targets, list) for targets in await asyncio.gather(*stuck))


@pytest.mark.real_time("the thread of a lookup is stuck")
async def test_an_abandoned_lookup_is_counted_until_its_thread_ends(names: Names) -> None:
    resolver = resolver_of(asyncio.get_running_loop())
    for _ in range(2):
        await abandon_one(names)
    assert (resolver.running, resolver.abandoned) == (2, 2)
    names.let_go(2)
    await ticks(2)
    assert (resolver.running, resolver.abandoned) == (0, 0)


@pytest.mark.real_time("the threads of lookups are stuck")
async def test_lookups_past_the_cap_wait_and_say_so(
    names: Names, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_resolve, "MAX_LOOKUPS", 2)
    resolver = resolver_of(asyncio.get_running_loop())
    tasks = [asyncio.create_task(lookup("stuck.example")) for _ in range(5)]
    await ticks(3)
    assert (resolver.running, len(names.asked)) == (2, 2)
    with pytest.raises(netio.DeadlineExceeded, match="2 other lookups are stuck"):
        await lookup("good.example", timeout=0.002)
    assert await lookup("127.0.0.1")  # which needs no place
    names.freed.set()
    await asyncio.gather(*tasks)
    assert names.asked == ["stuck.example"] * 5
    assert resolver.running == 0


async def test_lookups_past_the_cap_are_served_in_order(
    names: Names, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_resolve, "MAX_LOOKUPS", 1)
    hosts = ["stuck.example", "a.example", "b.example", "c.example"]
    tasks = [asyncio.create_task(lookup(host)) for host in hosts]
    await ticks(3)
    names.freed.set()
    await tasks[0]
    late = asyncio.create_task(lookup("late.example"))
    await asyncio.gather(late, *tasks)
    assert names.asked == [*hosts, "late.example"]


async def test_a_place_given_to_a_lookup_that_is_cut_in_that_tick_goes_to_the_next(
    names: Names, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_resolve, "MAX_LOOKUPS", 1)
    resolver = resolver_of(asyncio.get_running_loop())
    first = asyncio.create_task(lookup("stuck.example"))
    await ticks(2)
    second = asyncio.create_task(lookup("second.example"))
    third = asyncio.create_task(lookup("third.example"))
    await ticks(2)

    def answer_then_cancel() -> None:
        names.let_go()  # the answer is queued on the loop when this returns
        asyncio.get_running_loop().call_soon(second.cancel)

    asyncio.get_running_loop().call_soon(answer_then_cancel)
    assert await first
    assert await third
    assert second.cancelled()
    assert names.asked == ["stuck.example", "third.example"]
    names.let_go(1)
    await ticks(2)
    assert resolver.running == 0


async def test_no_thread_to_be_had_is_a_failed_connect(
    names: Names, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        with pytest.raises(netio.ConnectFailed, match="no thread"):
            await netio.connect_tcp("good.example", 80)
    assert resolver_of(asyncio.get_running_loop()).running == 0
    assert await lookup("good.example")


# Cancelled. ------------------------------------------------------------------------------------


@pytest.mark.parametrize("after_ticks", range(5))
async def test_a_lookup_cancelled_at_any_tick_leaves_only_its_thread(
    names: Names, after_ticks: int
) -> None:
    before = footprint()
    task = asyncio.create_task(netio.connect_tcp("stuck.example", 80))
    await ticks(after_ticks)
    task.cancel()
    await asyncio.wait([task])
    assert task.cancelled()
    assert footprint() == before
    resolver = resolver_of(asyncio.get_running_loop())
    assert resolver.running == resolver.abandoned == len(names.asked)


@pytest.mark.parametrize("order", ["cancel first", "answer first"])
async def test_a_cancel_wins_over_an_answer_of_the_same_tick(names: Names, order: str) -> None:
    loop = asyncio.get_running_loop()
    before = footprint()
    task = asyncio.create_task(netio.connect_tcp("stuck.example", 80))
    await ticks(3)

    def both() -> None:
        names.let_go()
        if order == "cancel first":
            task.cancel()
        else:
            loop.call_soon(task.cancel)  # queued behind the answer, ahead of the task

    loop.call_soon(both)
    await asyncio.wait([task])
    assert task.cancelled()
    await ticks(2)
    assert footprint() == before
    assert (resolver_of(loop).running, resolver_of(loop).abandoned) == (0, 0)


async def test_an_answer_in_the_tick_of_the_limit_is_taken(names: Names) -> None:
    loop = asyncio.get_running_loop()
    task = asyncio.create_task(lookup("stuck.example", timeout=0.1))
    await ticks(3)

    def block_past_the_limit() -> None:
        names.let_go()
        until = loop.time() + 0.15  # in which the thread gets its turn, too
        while loop.time() < until:
            pass

    loop.call_soon(block_past_the_limit)
    assert await task


@pytest.mark.real_time("the thread of a lookup is stuck")
async def test_a_scope_that_fires_in_the_tick_of_the_limit_answers(names: Names) -> None:
    loop = asyncio.get_running_loop()
    with pytest.raises(netio.DeadlineExceeded) as caught:
        async with netio.timeout(5) as scope:
            limit = operation(5)

            def both() -> None:
                limit.deadline = loop.time() - 0.001
                limit.wake()
                scope.reschedule(loop.time())

            loop.call_later(0.002, both)
            await resolver_of(loop).lookup("stuck.example", 80, limit)
    assert caught.value.scope is scope


# After the loop. -------------------------------------------------------------------------------


@pytest.mark.real_time("the loop that the thread outlives is the real one")
def test_a_thread_that_outlives_its_loop_says_nothing_and_keeps_nothing(
    names: Names,
    loop_factory: Callable[[], asyncio.AbstractEventLoop],
    capfd: pytest.CaptureFixture[str],
) -> None:
    async def leave_a_stuck_lookup() -> "weakref.ref[asyncio.AbstractEventLoop]":
        await abandon_one(names)
        return weakref.ref(asyncio.get_running_loop())

    with asyncio.Runner(loop_factory=loop_factory) as runner:
        reference = runner.run(leave_a_stuck_lookup())
    del runner
    gc.collect()
    assert reference() is None, "the stuck thread, or the registry, keeps the loop alive"
    names.let_go()
    assert capfd.readouterr() == ("", "")


@pytest.mark.real_time("the loop that the thread outlives is the real one")
def test_an_answer_for_a_loop_that_is_closed_but_alive_is_dropped_silently(
    names: Names,
    loop_factory: Callable[[], asyncio.AbstractEventLoop],
    capfd: pytest.CaptureFixture[str],
) -> None:
    loop = loop_factory()
    task = loop.create_task(abandon_one(names))
    loop.run_until_complete(task)
    loop.close()
    names.let_go()
    assert capfd.readouterr() == ("", "")


def test_the_exit_is_not_held_up() -> None:
    program = textwrap.dedent(
        """
        import asyncio, socket, threading, time, netio

        def stuck(host, port, **options):
            if options.get("flags", 0) & socket.AI_NUMERICHOST:
                raise socket.gaierror(socket.EAI_NONAME, "not numeric")
            time.sleep(60)

        socket.getaddrinfo = stuck

        async def main():
            tasks = [asyncio.create_task(netio.connect_tcp("x.example", 1)) for _ in range(3)]
            try:
                await netio.connect_tcp("x.example", 1, timeout=0.01)
            except netio.DeadlineExceeded:
                pass

        asyncio.run(main())
        print("done", threading.active_count(), time.time())
        """
    )
    run = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=15, check=True
    )
    ended = time.time()
    done, threads, at = run.stdout.split()
    assert (done, threads) == ("done", "5")
    assert run.stderr == ""
    assert ended - float(at) < 10
