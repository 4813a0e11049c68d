"""Closing a server: no more connections, a grace, a cancel, a cut, and a bound over all of it."""

import asyncio
import contextlib
import gc
import logging
import socket
import time
import weakref
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from footprint import footprint, settled
from real_time import until
from streams import outcome_of, ticks
from virtual import TASK_FACTORIES, run_with, virtual_loop

import netio
from netio.testing import Network

Log = pytest.LogCaptureFixture
Report = netio.ShutdownReport


class Handlers:
    """A server in memory, with one handler per client, each of the kind the client asks for."""

    def __init__(self, server: netio.Server, network: Network) -> None:
        self.server = server
        self.network = network
        self.ended: list[str] = []
        self.cancels = 0
        self.clients: list[netio.Stream] = []
        self.free = asyncio.Event()

    async def add(self, *kinds: str) -> None:
        connect = netio.connect_tcp
        clients = [await connect("server", 7000, network=self.network) for _ in kinds]
        self.clients += clients
        await ticks(10)  # all are accepted before the first handler may close the server
        for kind, client in zip(kinds, clients, strict=True):
            await client.write(kind.encode() + b"\n")
        await ticks(10)

    async def handle(self, stream: netio.Stream) -> None:
        kind = (await stream.read_line()).decode().strip()
        try:
            await getattr(self, kind)(stream)
        finally:
            self.ended.append(kind)

    async def quick(self, stream: netio.Stream) -> None:
        await asyncio.sleep(3)

    async def waiting(self, stream: netio.Stream) -> None:
        await stream.read_some(timeout=None)

    async def cleaning(self, stream: netio.Stream) -> None:
        try:
            await stream.read_some(timeout=None)
        finally:
            await asyncio.sleep(1)

    async def failing(self, stream: netio.Stream) -> None:
        try:
            await stream.read_some(timeout=None)
        except asyncio.CancelledError:
            raise ZeroDivisionError from None

    async def swallowing(self, stream: netio.Stream) -> None:
        """Ends only when its stream is taken away."""
        while not stream.closed:
            try:
                await stream.read_some(timeout=None)
            except asyncio.CancelledError:
                self.cancels += 1

    async def deaf(self, stream: netio.Stream) -> None:
        while not self.free.is_set():
            try:
                await self.free.wait()
            except asyncio.CancelledError:
                self.cancels += 1

    async def closing(self, stream: netio.Stream) -> None:
        self.report = await self.server.aclose(grace=1)

    async def closing_and_going_on(self, stream: netio.Stream) -> None:
        await self.server.aclose(grace=1)
        await asyncio.sleep(2)

    async def closing_in_a_task(self, stream: netio.Stream) -> None:
        self.report = await asyncio.create_task(self.server.aclose(grace=1))


@contextlib.asynccontextmanager
async def handlers(*kinds: str, **options: Any) -> AsyncIterator[Handlers]:
    network = Network(names={"server": "10.0.0.1"})
    handling: list[Handlers] = []
    before = asyncio.all_tasks()

    async def handle(stream: netio.Stream) -> None:
        await handling[0].handle(stream)

    server = await netio.serve_tcp(handle, "server", 7000, network=network, **options)
    handling.append(Handlers(server, network))
    await handling[0].add(*kinds)
    try:
        yield handling[0]
    finally:
        handling[0].free.set()
        await server.aclose(grace=0)
        for client in handling[0].clients:
            client.abort()
        await ticks(3)
        assert asyncio.all_tasks() <= before


def now() -> float:
    return virtual_loop().time()


# The steps. --------------------------------------------------------------------------------------


@pytest.mark.virtual_clock
async def test_a_server_without_connections_closes_at_once() -> None:
    async with handlers() as h:
        assert await h.server.aclose() == Report()
        assert now() == 0


@pytest.mark.virtual_clock
async def test_closing_stops_accepting_first() -> None:
    async with handlers("quick") as h:
        closing = asyncio.create_task(h.server.aclose())
        await ticks(2)
        with pytest.raises(netio.ConnectFailed, match="refused"):
            await netio.connect_tcp("server", 7000, network=h.network)
        assert not closing.done()
        await closing


@pytest.mark.virtual_clock
async def test_handlers_that_end_within_the_grace_are_left_alone() -> None:
    async with handlers("quick", "quick") as h:
        assert await h.server.aclose() == Report(finished=2)
        assert now() == 3.0
        assert h.server.connections == ()


@pytest.mark.virtual_clock
async def test_after_the_grace_handlers_are_cancelled_and_waited_for() -> None:
    async with handlers("waiting", "cleaning", "quick") as h:
        assert await h.server.aclose(grace=5) == Report(finished=1, cancelled=2)
        assert now() == 6.0  # the cleanup of one took a second
        assert sorted(h.ended) == ["cleaning", "quick", "waiting"]


@pytest.mark.virtual_clock
async def test_leaving_the_block_closes_with_the_grace_of_the_server() -> None:
    async with handlers("waiting", grace=4) as h:
        async with h.server:
            pass
        assert (now(), h.ended) == (4.0, ["waiting"])


@pytest.mark.virtual_clock
async def test_the_default_grace_is_ten_seconds() -> None:
    async with handlers("waiting") as h:
        await h.server.aclose()
        assert now() == 10.0


@pytest.mark.parametrize("grace", [0, -1])
@pytest.mark.virtual_clock
async def test_no_grace_cancels_at_once(grace: float) -> None:
    async with handlers("waiting") as h:
        assert await h.server.aclose(grace=grace) == Report(cancelled=1)
        assert now() == 0


@pytest.mark.virtual_clock
async def test_a_grace_without_end_waits_without_end() -> None:
    async with handlers("waiting") as h:
        closing = asyncio.create_task(h.server.aclose(grace=float("inf")))
        await asyncio.sleep(1e6)
        assert not closing.done()
        h.clients[0].abort()
        assert await closing == Report(finished=1)


@pytest.mark.virtual_clock
async def test_a_handler_that_swallows_its_cancel_loses_its_stream(caplog: Log) -> None:
    caplog.set_level(logging.INFO, "netio")
    async with handlers("swallowing") as h:
        assert await h.server.aclose(grace=1) == Report(aborted=1)
        assert now() == 3.0
        assert h.cancels == 1
    [record] = caplog.records
    assert (record.levelno, record.exc_info) == (logging.INFO, None)


@pytest.mark.virtual_clock
async def test_a_handler_that_ignores_everything_is_named_and_left(caplog: Log) -> None:
    async with handlers("deaf", "quick") as h:
        report = await h.server.aclose(grace=1)
        assert now() == 5.0
        assert (report.finished, report.cancelled, report.aborted) == (0, 1, 0)
        [name] = report.deaf
        assert "10.0.0.1:" in name
        assert name in caplog.text
        assert h.cancels == 1
        assert await h.server.aclose(grace=9) == Report(deaf=report.deaf)
        assert now() == 5.0, "it was waited for again"
    assert len(caplog.records) == 1


@pytest.mark.virtual_clock
async def test_a_handler_that_fails_when_it_is_cancelled_is_reported(caplog: Log) -> None:
    async with handlers("failing") as h:
        assert await h.server.aclose(grace=1) == Report(cancelled=1)
        assert h.server.statistics().failed == 1
    assert "ZeroDivisionError" in caplog.text


@pytest.mark.parametrize("grace", ["5", b"", [1]])
@pytest.mark.virtual_clock
async def test_a_bad_grace_leaves_the_server_running(grace: Any) -> None:
    async with handlers() as h:
        with pytest.raises(TypeError, match="grace"):
            await h.server.aclose(grace=grace)
        with pytest.raises(ValueError, match="grace"):
            await h.server.aclose(grace=float("nan"))
        await h.add("quick")
        assert len(h.server.connections) == 1


# Several calls. ----------------------------------------------------------------------------------


@pytest.mark.virtual_clock
async def test_closing_may_be_repeated() -> None:
    async with handlers("waiting") as h:
        await h.server.aclose(grace=1)
        assert await h.server.aclose() == Report()
        assert now() == 1.0


@pytest.mark.virtual_clock
async def test_calls_at_the_same_time_wait_for_the_same_end_and_cancel_once() -> None:
    async with handlers("swallowing") as h:
        reports = await asyncio.gather(*(h.server.aclose(grace=1) for _ in range(3)))
        assert reports == [Report(aborted=1)] * 3
        assert h.cancels == 1
        assert now() == 3.0


@pytest.mark.virtual_clock
async def test_a_second_call_with_a_shorter_grace_shortens_it_for_all() -> None:
    async with handlers("cleaning") as h:
        first = asyncio.create_task(h.server.aclose(grace=100))
        await asyncio.sleep(1)
        assert await h.server.aclose(grace=1) == Report(cancelled=1)
        assert now() == 3.0
        assert await first == Report(cancelled=1)
        assert now() == 3.0


@pytest.mark.virtual_clock
async def test_a_later_call_does_not_disturb_a_cleanup() -> None:
    async with handlers("cleaning") as h:
        first = asyncio.create_task(h.server.aclose(grace=0))
        await asyncio.sleep(0.5)
        assert await h.server.aclose(grace=0) == Report(cancelled=1)
        assert now() == 1.0
        await first


@pytest.mark.virtual_clock
async def test_a_handler_may_close_its_server() -> None:
    async with handlers("waiting", "closing") as h:
        await asyncio.sleep(2)
        assert h.report == Report(cancelled=1)
        assert h.ended == ["waiting", "closing"]
        await h.server.serve_forever()
        assert now() == 2.0


@pytest.mark.virtual_clock
async def test_handlers_that_all_close_the_server_do_not_wait_for_each_other_for_ever() -> None:
    async with handlers("closing", "closing", "closing") as h:
        assert h.ended == ["closing"] * 3
        assert now() == 0


@pytest.mark.virtual_clock
async def test_a_handler_that_goes_on_after_closing_is_waited_for_by_the_next_one() -> None:
    async with handlers("closing_and_going_on") as h:
        assert h.ended == []
        await h.server.aclose(grace=9)
        assert (h.ended, now()) == (["closing_and_going_on"], 2.0)


@pytest.mark.virtual_clock
async def test_the_block_waits_for_a_handler_that_closes() -> None:
    async with handlers("closing", "waiting") as h:
        assert await h.server.aclose(grace=5) == Report(finished=1, cancelled=1)
        assert now() == 1.0


@pytest.mark.virtual_clock
async def test_a_task_of_a_handler_may_close_its_server() -> None:
    async with handlers("closing_in_a_task", grace=1) as h:
        await asyncio.sleep(10)
        assert h.ended == ["closing_in_a_task"]


@pytest.mark.parametrize("factory", TASK_FACTORIES)
def test_a_handler_may_close_its_server_in_its_first_step(factory: str) -> None:
    async def main() -> None:
        network = Network(names={"server": "10.0.0.1"})
        reports = []

        async def handler(stream: netio.Stream) -> None:
            reports.append(await server.aclose(grace=1))

        server = await netio.serve_tcp(handler, "server", 7000, network=network)
        # At once: an eager handler closes the server as soon as it has accepted one of them.
        connects = [netio.connect_tcp("server", 7000, network=network) for _ in range(3)]
        clients = await asyncio.gather(*connects)
        await server.serve_forever()
        await server.aclose()
        assert reports
        assert now() <= 1.0
        assert server.connections == ()
        for client in clients:
            client.abort()
        await ticks(2)
        assert virtual_loop().timers() == []

    run_with(TASK_FACTORIES[factory], main())


# Cancelled. --------------------------------------------------------------------------------------


async def cancelled_at(h: Handlers, *seconds: float) -> "asyncio.Task[Report]":
    closing = asyncio.create_task(h.server.aclose(grace=10))
    started = now()
    for at in seconds:
        await asyncio.sleep(started + at - now())
        closing.cancel(f"at {at}")
    await asyncio.wait([closing])
    return closing


@pytest.mark.virtual_clock
async def test_a_cancel_ends_the_grace_and_still_waits() -> None:
    async with handlers("cleaning") as h:
        closing = await cancelled_at(h, 1)
        assert closing.cancelled()
        assert now() == 2.0
        assert h.ended == ["cleaning"]


@pytest.mark.virtual_clock
async def test_a_second_cancel_cuts_the_streams_and_still_waits() -> None:
    async with handlers("swallowing") as h:
        closing = await cancelled_at(h, 1, 2)
        assert closing.cancelled()
        assert now() == 2.0
        assert h.ended == ["swallowing"]


@pytest.mark.virtual_clock
async def test_more_cancels_do_not_make_it_leave_earlier() -> None:
    async with handlers("deaf") as h:
        closing = await cancelled_at(h, 1, 1.25, 1.5, 1.75, 2)
        assert closing.cancelled()
        assert now() == 3.25


@pytest.mark.virtual_clock
async def test_a_cancel_storm_leaves_no_handler_running() -> None:
    async with handlers("waiting", "swallowing", "failing") as h:
        closing = asyncio.create_task(h.server.aclose(grace=10))
        await ticks(1)
        while not closing.done():
            closing.cancel()
            await ticks(1)
        assert closing.cancelled()
        assert sorted(h.ended) == ["failing", "swallowing", "waiting"]
        assert now() == 0


@pytest.mark.virtual_clock
async def test_the_first_cancel_is_the_one_that_is_raised() -> None:
    async with handlers("deaf") as h:
        closing = await cancelled_at(h, 1, 2)
        with pytest.raises(asyncio.CancelledError, match="at 1"):
            closing.result()


@pytest.mark.virtual_clock
async def test_the_first_cancel_is_raised_also_when_all_come_at_the_very_end() -> None:
    async with handlers("deaf") as h:
        closing = await cancelled_at(h, 12.5, 13)
        assert now() == 14.0
        with pytest.raises(asyncio.CancelledError, match=r"at 12\.5"):
            closing.result()


@pytest.mark.virtual_clock
async def test_a_scope_around_the_close_answers_for_its_own_cancel() -> None:
    async with handlers("waiting") as h:
        with pytest.raises(netio.DeadlineExceeded) as caught:
            async with netio.timeout(3) as scope:
                await h.server.aclose(grace=100)
        assert caught.value.scope is scope
        assert now() == 3.0
        assert h.ended == ["waiting"]
        assert asyncio.current_task().cancelling() == 0  # type: ignore[union-attr]


@pytest.mark.virtual_clock
async def test_a_block_that_is_cancelled_closes_within_its_bounds() -> None:
    async def serve() -> None:
        async with handlers("waiting", grace=1) as h:
            seen.append(h)
            async with h.server:
                await asyncio.sleep(100)

    seen: list[Handlers] = []
    task = asyncio.create_task(serve())
    await asyncio.sleep(5)
    task.cancel()
    await asyncio.wait([task])
    assert task.cancelled()
    assert now() == 6.0
    assert seen[0].ended == ["waiting"]


@pytest.mark.virtual_clock
async def test_an_accept_task_cancelled_from_outside_gives_its_socket_back() -> None:
    network = Network(names={"server": "10.0.0.1"})
    known = asyncio.all_tasks()
    server = await netio.serve_tcp(lambda s: s.read_some(), "server", 7000, network=network)
    await ticks(2)
    [accepting] = asyncio.all_tasks() - known
    accepting.cancel()
    await asyncio.wait([accepting])
    with pytest.raises(netio.ConnectFailed, match="refused"):
        await netio.connect_tcp("server", 7000, network=network)
    await server.serve_forever()
    await server.aclose()


# On the system's network. ------------------------------------------------------------------------


async def test_nothing_is_left_of_a_server_that_was_closed() -> None:
    before = footprint()

    async def handler(stream: netio.Stream) -> None:
        await stream.read_some()

    async with contextlib.AsyncExitStack() as opened:
        async with netio.serve_tcp(handler, grace=0) as server:
            for _ in range(10):
                client = netio.connect_tcp("127.0.0.1", server.addresses[0][1])
                await opened.enter_async_context(client)
            assert await until(lambda: server.statistics().accepted == 10)
        assert server.connections == ()
        assert server.statistics().accepted == 10
    assert await settled(before) == before


async def test_a_handler_that_closes_at_once_leaves_what_is_queued_to_the_kernel(
    caplog: Log,
) -> None:
    """An eager task runs its handler inside accept, which goes on with a closed socket then."""
    reports = []

    async def handler(stream: netio.Stream) -> None:
        reports.append(await server.aclose(grace=1))

    server = await netio.serve_tcp(handler, "127.0.0.1")
    with contextlib.ExitStack() as opened:
        for _ in range(5):
            opened.enter_context(socket.create_connection(server.addresses[0][:2]))
        await server.serve_forever()
        await server.aclose()
    assert reports
    assert caplog.records == []


@pytest.mark.parametrize("after_ticks", range(8))
async def test_connections_on_their_way_when_the_server_closes_leave_nothing(
    after_ticks: int,
) -> None:
    async def handler(stream: netio.Stream) -> None:
        await stream.read_some()

    before = footprint()
    async with contextlib.AsyncExitStack() as opened:
        async with netio.serve_tcp(handler, "127.0.0.1", grace=0) as server:
            connecting = [
                asyncio.create_task(netio.connect_tcp(*server.addresses[0][:2])) for _ in range(5)
            ]
            await ticks(after_ticks)
        for task in connecting:
            outcome = await outcome_of(task)
            if isinstance(outcome, netio.Stream):
                opened.callback(outcome.abort)
    assert await settled(before) == before


def test_a_server_that_is_never_closed_ends_with_its_program(
    loop_factory: Callable[[], asyncio.AbstractEventLoop],
) -> None:
    async def handler(stream: netio.Stream) -> None:
        await stream.write(b"hello")
        await stream.read_some()

    async def main() -> tuple[netio.Server, netio.Stream]:
        server = await netio.serve_tcp(handler, "127.0.0.1")
        client = await netio.connect_tcp("127.0.0.1", server.addresses[0][1])
        await client.read_exactly(5, timeout=5)
        return server, client

    before = time.monotonic()
    with asyncio.Runner(loop_factory=loop_factory) as runner:
        server, client = runner.run(main())
        runner.run(client.aclose())
    assert time.monotonic() - before < 2
    assert server.connections == ()


def test_a_server_belongs_to_its_loop(
    loop_factory: Callable[[], asyncio.AbstractEventLoop],
) -> None:
    async def handler(stream: netio.Stream) -> None:
        await stream.read_some()

    with asyncio.Runner(loop_factory=loop_factory) as runner:
        server = runner.run(netio.serve_tcp(handler, "127.0.0.1"))
        with asyncio.Runner(loop_factory=loop_factory) as other:
            with pytest.raises(RuntimeError, match="another event loop"):
                other.run(server.aclose())
        runner.run(server.aclose())


def test_a_closed_server_and_its_streams_are_garbage(
    loop_factory: Callable[[], asyncio.AbstractEventLoop],
) -> None:
    streams: list[weakref.ref[netio.Stream]] = []

    async def handler(stream: netio.Stream) -> None:
        streams.append(weakref.ref(stream))

    async def main() -> "weakref.ref[netio.Server]":
        async with netio.serve_tcp(handler, "127.0.0.1") as server:
            async with netio.connect_tcp(*server.addresses[0][:2]) as client:
                await client.read_some()
            return weakref.ref(server)

    with asyncio.Runner(loop_factory=loop_factory) as runner:
        reference = runner.run(main())
    gc.collect()
    assert reference() is None
    assert [stream() for stream in streams] == [None]
