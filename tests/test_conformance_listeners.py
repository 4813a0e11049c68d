"""The conformance kit for listeners: netio's conform, and each planted fault breaks its promise."""

import asyncio
import contextlib
import gc
from collections.abc import Callable
from typing import Any

import pytest
from virtual import virtual_loop

import netio
from netio._attempts import Made
from netio._memory import memory_pair
from netio.testing import (
    ConformanceReport,
    Link,
    Network,
    NotConforming,
    accepted_pairs,
    check_listener,
    check_stream,
    listener_checks,
)
from netio.testing._network.connecting import MemoryAcceptor

Handler = Callable[[netio.Stream], Any]


def on(network: Network | None) -> tuple[Any, Any]:
    """What serves, and what connects, there; None: on the loopback interface."""
    host = "127.0.0.1"

    def serve(handler: Handler, **options: Any) -> Any:
        return netio.serve_tcp(handler, host, network=network, **options)

    def connect(server: netio.Server, **options: Any) -> Any:
        return netio.connect_tcp(host, server.port, network=network, **options)

    return serve, connect


@pytest.mark.real_time("it is the kernel that is checked")
async def test_the_loopback_interface_conforms() -> None:
    report = await check_listener(*on(None))
    assert len(report.kept) == len(listener_checks())


LINKS = {
    "at once": Link(),
    "slow": Link(latency=0.005),
    "small": Link(buffer_bytes=5_000),
}


@pytest.mark.virtual_clock
@pytest.mark.parametrize("link", LINKS)
async def test_a_network_in_memory_conforms_and_exactly_on_a_virtual_clock(
    link: str, loop_variant: str
) -> None:
    if loop_variant != "stock":
        pytest.skip("the clock is virtual, and so is the loop")
    where = on(Network(link=LINKS[link]))
    only = None
    if LINKS[link].latency:  # which connecting takes as well
        only = [
            check for check in listener_checks() if check.name != "connecting_ends_at_its_limit"
        ]
    await check_listener(*where, only=only)
    report = await check_stream(accepted_pairs(*where), both_ways=link == "at once")
    assert not_applicable(report) == {
        "a_detached_socket_is_the_callers",
        "a_closed_stream_leaves_no_descriptor",
        "a_flood_does_not_outrun_a_limit",
    }


def not_applicable(report: ConformanceReport) -> set[str]:
    return {result.name for result in report.not_applicable}


@pytest.mark.virtual_clock
async def test_what_serves_no_server_and_connects_no_stream_is_named() -> None:
    serve, connect = on(Network())
    with pytest.raises(NotConforming, match=r"serve must give a netio\.Server, not None"):
        await check_listener(lambda *_, **__: asyncio.sleep(0), connect)
    with pytest.raises(NotConforming, match=r"connect must give a netio\.Stream, not None"):
        await check_listener(serve, lambda *_, **__: asyncio.sleep(0))


# Faults of a network. --------------------------------------------------------------------------


class WithListeners(Network):
    """A network whose listeners are of another class."""

    listeners_are: type[MemoryAcceptor]

    async def listen(self, *args: Any, **options: Any) -> Any:
        acceptors = await super().listen(*args, **options)
        for acceptor in acceptors:
            acceptor.__class__ = self.listeners_are  # type: ignore[assignment]
        return acceptors


class Losing(MemoryAcceptor):
    """Every third connection is left to nobody."""

    accepted = 0

    def accept(self) -> Any:
        channel = super().accept()
        if channel is not None:
            self.accepted += 1
            if self.accepted % 3 == 0:
                self.lost = channel
                return super().accept()
        return channel


class LosesConnections(WithListeners):
    """Connections reach nobody now and then."""

    listeners_are = Losing


class Mixing(MemoryAcceptor):
    """What comes from every second client goes to the handler of the one before."""

    before: Any = None

    def accept(self) -> Any:
        channel, before = super().accept(), self.before
        if channel is not None and before is None:
            self.before = channel
        elif channel is not None:
            self.before = None
            channel._incoming.receiver, before._incoming.receiver = before, channel
        return channel


class MixesConnections(WithListeners):
    """Two connections get into each other."""

    listeners_are = Mixing


class WrongAddress(Network):
    """A client has another address than its peer is told."""

    def begin_dial(self, target: Any) -> Any:
        attempt = super().begin_dial(target)
        attempt._connection.near._local = ("10.9.9.9", 9)
        return attempt


class Leaking(Made):
    """It is made, and says so when it was waited for."""

    def __init__(self, channel: Any) -> None:
        super().__init__(channel)
        self.looks = 0

    def check(self) -> Any:
        self.looks += 1
        return super().check() if self.looks > 1 else None

    def watch(self, waiter: Any) -> None:
        asyncio.get_running_loop().call_soon(waiter.wake)

    def close(self) -> None:
        pass


class LeaksOnCancel(Network):
    """A connect that is cancelled leaves its connection open."""

    def begin_dial(self, target: Any) -> Any:
        self.left = channel = super().begin_dial(target).check()
        return Leaking(channel)


class IgnoresLimits(Network):
    """Takes its time to connect."""

    def begin_dial(self, target: Any) -> Any:
        virtual_loop().advance(0.01)
        return super().begin_dial(target)


class ConnectsToNobody(Network):
    """Connects though nobody listens."""

    def begin_dial(self, target: Any) -> Any:
        if self._listener_at(target.address):
            return super().begin_dial(target)
        channel, self.nobody = memory_pair(asyncio.get_running_loop())
        return Made(channel)


class RefusesOddly(Network):
    """Raises an error of its own where nobody listens."""

    def begin_dial(self, target: Any) -> Any:
        if self._listener_at(target.address):
            return super().begin_dial(target)
        raise netio.StreamClosed("nobody listens")


class Forgetful(MemoryAcceptor):
    """Leaves open what was not accepted when it is closed."""

    def close(self) -> None:
        self.forgotten = [*self._coming, *self._queue]
        self._coming.clear()
        self._queue.clear()
        super().close()


class ForgetsItsQueue(WithListeners):
    """Clients that were not accepted wait on when a listener is closed."""

    listeners_are = Forgetful


class Sleepy(MemoryAcceptor):
    """Is woken for the first connection only."""

    told = False

    def readable(self) -> bool:
        told, self.told = self.told, True
        return told or super().readable()


class TellsOnce(WithListeners):
    """Serves what has come at once, and no later connection."""

    listeners_are = Sleepy


class Fragile(MemoryAcceptor):
    """Ends with a connection that was cut before it was accepted."""

    def accept(self) -> Any:
        channel = super().accept()
        if channel is not None and channel._broken:
            self.close()
        return channel


class FailsOnReset(WithListeners):
    """A client that leaves at once ends the server."""

    listeners_are = Fragile


NETWORKS = {
    LosesConnections: "connections_are_not_mixed",
    MixesConnections: "connections_are_not_mixed",
    WrongAddress: "the_ends_agree_about_their_addresses",
    LeaksOnCancel: "a_cancelled_connect_leaves_nothing_behind",
    IgnoresLimits: "connecting_ends_at_its_limit",
    ConnectsToNobody: "connecting_to_a_closed_server_fails",
    RefusesOddly: "connecting_to_a_closed_server_fails",
    ForgetsItsQueue: "a_connection_that_meets_the_close_is_not_left_waiting",
    TellsOnce: "a_client_that_leaves_at_once_does_not_end_the_server",
    FailsOnReset: "a_client_that_leaves_at_once_does_not_end_the_server",
}


@pytest.mark.allow_leaks("what these networks do wrong leaves connections behind")
@pytest.mark.virtual_clock
@pytest.mark.once
@pytest.mark.parametrize("network", NETWORKS, ids=lambda network: network.__name__)
async def test_a_fault_of_a_network_breaks_the_promise_that_is_named(network: Any) -> None:
    with pytest.raises(NotConforming, match=f"broken: {NETWORKS[network]}: "):
        await check_listener(*on(network()), only=NETWORKS[network])
    gc.collect()  # what the faulty ones have left open, of whatever generation it is by now


# Faults of what serves. ------------------------------------------------------------------------


async def answers_backwards(stream: netio.Stream, handler: Handler) -> None:
    """Handlers get nothing, and clients something else."""
    await stream.write(b"olleh")


async def never_returns(stream: netio.Stream, handler: Handler) -> None:
    await handler(stream)
    await asyncio.sleep(1000)


async def swallows_errors(stream: netio.Stream, handler: Handler) -> None:
    with contextlib.suppress(Exception):
        await handler(stream)


async def serves_one_at_a_time(stream: netio.Stream, handler: Handler) -> None:
    async with lock_of_the_loop():
        await handler(stream)


async def leaves_a_task(stream: netio.Stream, handler: Handler) -> None:
    task = asyncio.create_task(asyncio.sleep(10), name="left")
    task.add_done_callback(lambda _: None)
    await handler(stream)


def lock_of_the_loop() -> asyncio.Lock:
    loop: Any = asyncio.get_running_loop()
    loop.one_at_a_time = getattr(loop, "one_at_a_time", None) or asyncio.Lock()
    return loop.one_at_a_time


HANDLERS: dict[Any, str] = {
    answers_backwards: "a_connection_reaches_a_handler",
    never_returns: "a_handler_that_returns_closes_its_stream",
    swallows_errors: "an_error_of_a_handler_ends_its_connection_only",
    serves_one_at_a_time: "a_slow_handler_holds_up_nobody",
    leaves_a_task: "a_closed_server_leaves_no_task",
}


@pytest.mark.virtual_clock
@pytest.mark.once
@pytest.mark.parametrize("change", HANDLERS, ids=lambda change: change.__name__)
async def test_a_fault_around_handlers_breaks_the_promise_that_is_named(change: Any) -> None:
    serve, connect = on(Network())

    def serve_changed(handler: Handler, **options: Any) -> Any:
        return serve(lambda stream: change(stream, handler), **options)

    with pytest.raises(NotConforming, match=f"broken: {HANDLERS[change]}: "):
        await check_listener(serve_changed, connect, only=HANDLERS[change])
    for task in asyncio.all_tasks():
        if task.get_name() == "left":
            task.cancel()


class CountsTwice(netio.Server):
    """Counts each connection twice."""

    def statistics(self) -> netio.ServerStatistics:
        counts = super().statistics()
        return netio.ServerStatistics(
            accepted=2 * counts.accepted, active=counts.active, failed=counts.failed
        )


class NoGrace(netio.Server):
    """Gives no grace."""

    async def aclose(self, **_: Any) -> netio.ShutdownReport:
        return await super().aclose(grace=0)


class MoreGrace(netio.Server):
    """Gives more grace than was said."""

    async def aclose(self, **_: Any) -> netio.ShutdownReport:
        return await super().aclose(grace=2 * self._grace)


class ClosesOnce(netio.Server):
    """Can't be closed again."""

    closed = False

    async def aclose(self, **options: Any) -> netio.ShutdownReport:
        if self.closed:
            raise RuntimeError("closed already")
        self.closed = True
        return await super().aclose(**options)


class ServesTooLong(netio.Server):
    """`serve_forever` is for ever."""

    async def serve_forever(self) -> None:
        await asyncio.sleep(1000)


SERVERS: dict[type[netio.Server], str] = {
    CountsTwice: "the_statistics_count_connections",
    NoGrace: "a_close_lets_handlers_end_within_its_grace",
    MoreGrace: "a_close_ends_handlers_after_its_grace",
    ClosesOnce: "closing_a_server_may_be_repeated",
    ServesTooLong: "serving_for_ever_ends_with_the_server",
}


@pytest.mark.virtual_clock
@pytest.mark.once
@pytest.mark.parametrize("kind", SERVERS, ids=lambda kind: kind.__name__)
async def test_a_fault_of_a_server_breaks_the_promise_that_is_named(kind: Any) -> None:
    serve, connect = on(Network())

    async def serve_with(handler: Handler, **options: Any) -> netio.Server:
        server = await serve(handler, **options)
        server.__class__ = kind
        return server

    with pytest.raises(NotConforming, match=f"broken: {SERVERS[kind]}: "):
        await check_listener(serve_with, connect, only=SERVERS[kind])


def test_every_check_of_listeners_can_fail() -> None:
    named = {*NETWORKS.values(), *HANDLERS.values(), *SERVERS.values()}
    assert {check.name for check in listener_checks()} == named
