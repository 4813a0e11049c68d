"""The network in memory: exact times, bounded bytes, the kernel's answers, and nothing left."""

import asyncio
import contextvars
import gc
import math
import weakref
from collections.abc import Callable
from typing import Any

import pytest
from streams import Ticker, outcome_of
from virtual import virtual_loop

import netio
from netio._operation import Operation
from netio._readiness import Waiter
from netio.testing import Link, Network, faults, run

NAMES = {"server": "10.0.0.1", "client": "10.0.0.2", "six": "fd00::6"}


def now() -> float:
    return virtual_loop().time()


def over(**link: Any) -> Network:
    return Network(names=NAMES, link=Link(**link), record=True)


async def echo(stream: netio.Stream) -> None:
    async for chunk in stream.chunks():
        await stream.write(chunk)


def is_empty(network: Network) -> bool:
    """Nothing of it is open or under way."""
    return not (network._live or network._ports_used or network._listeners)


# Times. ----------------------------------------------------------------------------------------


@pytest.mark.virtual_clock
async def test_a_byte_arrives_exactly_its_latency_later() -> None:
    near, far = over(latency=0.05).pair()
    async with near, far:
        await asyncio.sleep(0.1)
        await near.write(b"x")
        assert now() == 0.1
        assert await far.read_some() == b"x"
        assert now() == 0.1 + 0.05


@pytest.mark.virtual_clock
async def test_bytes_keep_their_order_and_their_distances() -> None:
    near, far = over(latency=3).pair()
    arrived = []

    async def read() -> None:
        while chunk := await far.read_some():
            arrived.append((now(), chunk))

    async with near, far:
        reading = asyncio.create_task(read())
        for n in range(5):
            await near.write(b"%d" % n)
            await asyncio.sleep(0.5)
        await near.write_eof()
        await reading
    assert arrived == [(3 + n / 2, b"%d" % n) for n in range(5)]


@pytest.mark.virtual_clock
async def test_connecting_takes_two_latencies_and_the_server_sees_it_after_three() -> None:
    seen = []

    async def handler(stream: netio.Stream) -> None:
        seen.append(now())
        await stream.write(b"welcome")

    network = over(latency=0.25)
    async with netio.serve_tcp(handler, "server", 7000, network=network):
        async with netio.connect_tcp("server", 7000, network=network) as stream:
            assert now() == 0.5
            assert await stream.read_exactly(7) == b"welcome"
            assert (seen, now()) == ([0.75], 1.0)


@pytest.mark.virtual_clock
async def test_a_refusal_takes_a_round_trip() -> None:
    with pytest.raises(netio.ConnectFailed, match="refused"):
        await netio.connect_tcp("server", 7000, network=over(latency=0.25))
    assert now() == 0.5


@pytest.mark.parametrize(("size", "rate"), [(1000, 100), (10, 3), (100_000, 1e6), (7, 0.5)])
@pytest.mark.virtual_clock
async def test_bytes_pass_at_the_bandwidth_exactly(size: int, rate: float) -> None:
    near, far = over(bandwidth=rate).pair()
    async with near, far:
        writing = asyncio.create_task(near.write(bytes(size), timeout=None))
        first = await far.read_exactly(1, timeout=None)
        assert now() <= max(0.1, 1 / rate) + 1e-9  # it comes bit by bit
        assert len(first + await far.read_exactly(size - 1, timeout=None)) == size
        assert now() == size / rate
        await writing


@pytest.mark.virtual_clock
async def test_what_was_idle_has_the_whole_bandwidth_again() -> None:
    near, far = over(bandwidth=10).pair()
    async with near, far:
        await near.write(bytes(10))
        assert await far.read_exactly(10) == bytes(10)
        await asyncio.sleep(9)
        await near.write(bytes(10))
        await near.write(bytes(10))
        assert await far.read_exactly(20) == bytes(20)
        assert now() == 12.0


@pytest.mark.virtual_clock
async def test_bandwidth_and_latency_add_up() -> None:
    near, far = over(bandwidth=16, latency=0.5).pair()
    async with near, far:
        await near.write(bytes(16))
        await near.write_eof()
        assert await far.read_all(limit=100) == bytes(16)
        assert now() == 1.5


@pytest.mark.parametrize("how", ["end", "close", "abort"])
@pytest.mark.virtual_clock
async def test_ends_and_resets_take_the_latency_and_come_after_the_data(how: str) -> None:
    near, far = over(latency=2).pair()
    await near.write(b"last")
    await asyncio.sleep(1)
    match how:
        case "end":
            await near.write_eof()
        case "close":
            await near.aclose()
        case "abort":
            near.abort()
    assert (await far.read_exactly(4), now()) == (b"last", 2.0)
    outcome = await outcome_of(far.read_some())
    assert now() == 3.0
    assert isinstance(outcome, netio.ConnectionReset) if how == "abort" else outcome == b""
    near.abort()
    await far.aclose()
    assert virtual_loop().timers() == []


@pytest.mark.virtual_clock
async def test_a_write_to_a_closed_end_is_told_a_round_trip_later_and_once() -> None:
    network = over(latency=1)
    near, far = network.pair()
    await far.aclose()
    await near.write(b"x")
    await asyncio.sleep(1.99)
    await near.write(b"y")
    await asyncio.sleep(0.02)
    with pytest.raises(netio.BrokenPipe):
        await near.write(b"z")
    await asyncio.sleep(5)
    await near.aclose()
    said = [(event.direction, event.what) for event in network.events if not event.size]
    assert said == [
        ("downstream", "end"),
        ("downstream", "end arrived"),
        ("downstream", "reset"),
        ("downstream", "reset arrived"),
    ]


# Bounds. ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("link", [{}, {"latency": 1}, {"bandwidth": 1}], ids=str)
@pytest.mark.virtual_clock
async def test_no_more_bytes_are_under_way_than_the_buffer_holds(link: dict[str, Any]) -> None:
    near, far = over(buffer_bytes=100, **link).pair()
    async with near, far:
        with pytest.raises(netio.DeadlineExceeded) as caught:
            await near.write(bytes(1000), timeout=0.5)
        assert caught.value.done == 100


@pytest.mark.virtual_clock
async def test_a_writer_goes_on_as_soon_as_the_reader_takes_something() -> None:
    near, far = over(buffer_bytes=100, latency=1).pair()
    async with near, far:
        writing = asyncio.create_task(near.write(bytes(250)))
        assert [len(await far.read_some()) for _ in range(3)] == [100, 100, 50]
        assert now() == 3.0
        await writing


@pytest.mark.virtual_clock
async def test_each_direction_has_a_buffer_of_its_own() -> None:
    near, far = over(buffer_bytes=10).pair()
    async with near, far:
        await near.write(bytes(10))
        await far.write(bytes(10))
        assert await far.read_exactly(10) == await near.read_exactly(10) == bytes(10)


@pytest.mark.virtual_clock
async def test_a_writer_that_waits_is_told_of_a_reset_when_it_comes() -> None:
    near, far = over(buffer_bytes=100, latency=2).pair()
    async with near:
        writing = asyncio.create_task(outcome_of(near.write(bytes(1000))))
        await asyncio.sleep(1)
        far.abort()
        assert isinstance(await writing, netio.ConnectionReset)
        assert now() == 3.0


# Nothing is left behind. -----------------------------------------------------------------------


@pytest.mark.parametrize("ways", [("aclose", "aclose"), ("abort", "aclose"), ("aclose", "abort")])
@pytest.mark.virtual_clock
async def test_no_timer_is_left_once_both_ends_are_closed(ways: tuple[str, str]) -> None:
    network = over(latency=100, bandwidth=10)
    near, far = network.pair(timeouts=netio.Timeouts(read=None, write=None))
    await near.write(bytes(500))
    await far.write(bytes(500))
    await asyncio.sleep(30)
    assert len(virtual_loop().timers()) == 4
    for stream, way in zip((near, far), ways, strict=True):
        outcome = getattr(stream, way)()
        if outcome is not None:
            await outcome
    assert virtual_loop().timers() == []
    assert is_empty(network)


@pytest.mark.parametrize("after", [0, 0.5, 1, 1.5, 2, 2.5, 3, 3.5])
@pytest.mark.parametrize("cut", ["cancel", "limit"])
@pytest.mark.virtual_clock
async def test_a_connect_that_is_cut_leaves_nothing(cut: str, after: float) -> None:
    network = over(latency=1)
    server = await netio.serve_tcp(echo, "server", 7000, network=network)
    limit = netio.Deadline.at(after if cut == "limit" else math.inf)
    connect = netio.connect_tcp("server", 7000, timeout=limit, network=network)
    task = asyncio.create_task(outcome_of(connect))
    await asyncio.sleep(after)
    if cut == "cancel":
        task.cancel()
    stream = await task
    assert isinstance(stream, netio.Stream) == (after > 2 or (after == 2 and cut == "limit"))
    if isinstance(stream, netio.Stream):
        await stream.aclose()
    await server.aclose(grace=0)
    assert virtual_loop().timers() == []
    await asyncio.sleep(10)
    assert is_empty(network)
    assert len(asyncio.all_tasks()) == 1


@pytest.mark.virtual_clock
async def test_a_connect_that_is_cancelled_in_the_tick_of_its_answer_is_an_end() -> None:
    network = over(latency=1)
    async with netio.serve_tcp(echo, "server", 7000, network=network) as server:
        connect = netio.connect_tcp("server", 7000, network=network)
        task = asyncio.create_task(outcome_of(connect))
        await asyncio.sleep(1.5)
        virtual_loop().call_at(2.0, task.cancel)
        assert isinstance(await task, asyncio.CancelledError)
        await asyncio.sleep(5)
        assert server.statistics().accepted == 1  # as TCP has it: the two were connected
        assert server.connections == ()
    assert is_empty(network)


@pytest.mark.parametrize("after", [0, 0.5, 1, 1.5, 2, 2.5, 3, 3.5])
@pytest.mark.virtual_clock
async def test_a_server_that_closes_during_a_connect_leaves_nothing(after: float) -> None:
    network = over(latency=1)
    server = await netio.serve_tcp(echo, "server", 7000, network=network)
    task = asyncio.create_task(outcome_of(netio.connect_tcp("server", 7000, network=network)))
    await asyncio.sleep(after)
    await server.aclose(grace=0)
    stream = await task
    if after < 1:
        assert isinstance(stream, netio.ConnectFailed)
    else:
        outcome = await outcome_of(stream.read_some(timeout=10))
        assert isinstance(outcome, netio.ConnectionReset if after <= 3 else bytes)
        await stream.aclose()
    assert virtual_loop().timers() == []
    assert is_empty(network)


@pytest.mark.virtual_clock
async def test_what_is_under_way_keeps_nothing_of_who_has_sent_it() -> None:
    near, far = over(latency=100).pair()

    async def send() -> weakref.ref[Any]:
        kept = type("Kept", (), {})()
        contextvars.ContextVar[Any]("kept").set(kept)
        await near.write(b"x")
        return weakref.ref(kept)

    kept = await asyncio.create_task(send())
    await asyncio.sleep(1)
    gc.collect()
    assert kept() is None
    assert await far.read_some(timeout=None) == b"x"
    await near.aclose()
    await far.aclose()


@pytest.mark.virtual_clock
async def test_a_thousand_connections_leave_nothing() -> None:
    network = over(latency=0.01)

    async def one() -> None:
        async with netio.connect_tcp("server", 7000, network=network) as stream:
            await stream.write(b"hello")
            assert await stream.read_exactly(5) == b"hello"

    async with netio.serve_tcp(echo, "server", 7000, network=network) as server:
        await asyncio.gather(*(one() for _ in range(1000)))
        assert server.statistics().accepted == 1000
    assert now() == 0.05
    assert is_empty(network)
    assert virtual_loop().timers() == []


# Names, addresses and ports. -------------------------------------------------------------------


@pytest.mark.virtual_clock
async def test_names_are_looked_up_without_regard_to_case() -> None:
    network = over()
    async with netio.serve_tcp(echo, "SERVER", 7000, network=network) as server:
        assert server.addresses == (("10.0.0.1", 7000),)
        async with netio.connect_tcp("Server", 7000, network=network) as stream:
            assert stream.peer == ("10.0.0.1", 7000)


@pytest.mark.virtual_clock
async def test_an_address_of_version_6_has_four_parts() -> None:
    network = over()
    async with netio.serve_tcp(echo, "six", 7000, network=network) as server:
        assert server.addresses == (("fd00::6", 7000, 0, 0),)
        async with netio.connect_tcp("six", 7000, network=network) as stream:
            assert stream.peer == ("fd00::6", 7000, 0, 0)
            assert stream.local[0] == "fd00::6"  # type: ignore[index]


@pytest.mark.virtual_clock
@pytest.mark.parametrize("spelling", ["::1", "0:0:0:0:0:0:0:1", "::0:1"])
async def test_an_address_of_version_6_is_the_same_in_every_spelling(spelling: str) -> None:
    network = Network(names={"server": spelling}, links={spelling: Link(latency=1)})
    fault = faults.Slicer()
    network.add(fault, to=spelling)
    async with netio.serve_tcp(echo, spelling, 7000, network=network):
        with pytest.raises(OSError, match="in use"):
            await netio.serve_tcp(echo, "0::1", 7000, network=network)
        for host in ("::1", "0:0:0:0:0:0:0:1", "server"):
            began = now()
            async with netio.connect_tcp(host, 7000, network=network) as stream:
                assert stream.peer == ("::1", 7000, 0, 0)
                assert now() - began == 2
                await stream.write(b"ab")
                assert await stream.read_some() == b"a"


@pytest.mark.virtual_clock
async def test_the_two_versions_have_ports_of_their_own() -> None:
    network = over()
    async with netio.serve_tcp(echo, "::", 7000, network=network):
        async with netio.serve_tcp(echo, "0.0.0.0", 7000, network=network):
            async with netio.connect_tcp("::1", 7000, network=network) as stream:
                assert stream.peer == ("::1", 7000, 0, 0)


@pytest.mark.virtual_clock
async def test_ports_that_nobody_chose_are_of_the_range_for_that_and_differ() -> None:
    network = over()
    servers = [await netio.serve_tcp(echo, "server", network=network) for _ in range(3)]
    streams = [await netio.connect_tcp("server", s.port, network=network) for s in servers]
    ports = [s.port for s in servers] + [s.local[1] for s in streams]  # type: ignore[index]
    assert len(set(ports)) == 6
    assert all(49152 <= port <= 65535 for port in ports)
    for thing in (*streams, *servers):
        await thing.aclose()


@pytest.mark.virtual_clock
async def test_ports_are_used_again_and_none_free_is_an_error(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("netio.testing._network.network._PORTS", 3)
    network = over()
    async with netio.serve_tcp(echo, "server", 7000, network=network):
        for _ in range(10):
            await (await netio.connect_tcp("server", 7000, network=network)).aclose()
            await asyncio.sleep(0.1)
        streams = [await netio.connect_tcp("server", 7000, network=network) for _ in range(3)]
        with pytest.raises(netio.ConnectFailed, match="assign requested address"):
            await netio.connect_tcp("server", 7000, network=network)
        for stream in streams:
            await stream.aclose()


@pytest.mark.virtual_clock
async def test_a_host_has_an_address_of_its_own() -> None:
    network = over()
    client, server = network.host("client"), network.host("server")
    async with netio.serve_tcp(echo, port=7000, network=server) as serving:
        assert serving.addresses == (("10.0.0.1", 7000),)
        async with netio.connect_tcp("server", 7000, network=client) as stream:
            assert stream.local[0] == "10.0.0.2"  # type: ignore[index]
        async with netio.connect_tcp("localhost", 7000, network=server) as stream:
            assert stream.peer == ("10.0.0.1", 7000)
        with pytest.raises(netio.ConnectFailed, match="unreachable"):
            await netio.connect_tcp("six", 7000, network=client)
        with pytest.raises(netio.ConnectFailed, match="refused"):
            await netio.connect_tcp("localhost", 7000, network=client)
    with pytest.raises(OSError, match=r"listen on 10\.0\.0\.1:7000: Cannot assign"):
        await netio.serve_tcp(echo, "server", 7000, network=client)


@pytest.mark.virtual_clock
async def test_links_to_some_hosts_may_differ() -> None:
    network = Network(names=NAMES, links={"server": Link(latency=1), "fd00::6": Link(latency=2)})
    for host, seconds in (("server", 2.0), ("six", 4.0), ("client", 0.0)):
        before = now()
        with pytest.raises(netio.ConnectFailed):
            await netio.connect_tcp(host, 7000, network=network)
        assert now() - before == seconds


@pytest.mark.virtual_clock
async def test_a_slow_lookup_holds_a_connect_up() -> None:
    network = Network(names=NAMES, lookup_seconds=3)
    async with netio.serve_tcp(echo, "server", 7000, network=network):
        async with netio.connect_tcp("server", 7000, network=network):
            assert now() == 6.0  # the server's, and the client's
        async with netio.connect_tcp("10.0.0.1", 7000, network=network):
            assert now() == 6.0


# Backlogs. -------------------------------------------------------------------------------------


@pytest.mark.virtual_clock
async def test_a_connect_that_finds_the_backlog_full_waits_for_a_place() -> None:
    network = over()
    [acceptor] = await network.listen("server", 7000, Operation("listen"), backlog=1)

    async def connect() -> netio.Stream:
        return await netio.connect_tcp("server", 7000, network=network)

    connects = [asyncio.create_task(connect()) for _ in range(4)]
    await asyncio.sleep(5)
    assert [task.done() for task in connects] == [True, True, False, False]
    connects[2].cancel()
    await asyncio.sleep(1)
    channel = acceptor.accept()
    assert channel is not None
    await asyncio.sleep(0)
    assert connects[3].done() or await connects[3]
    assert now() == 6.0
    for task in connects:
        if not task.cancelled():
            await task.result().aclose()
    channel.close()
    acceptor.close()
    assert is_empty(network)


@pytest.mark.virtual_clock
async def test_connects_that_wait_are_refused_when_the_listener_closes() -> None:
    network = over(latency=1)
    [acceptor] = await network.listen("server", 7000, Operation("listen"), backlog=1)
    connects = [
        asyncio.create_task(outcome_of(netio.connect_tcp("server", 7000, network=network)))
        for _ in range(3)
    ]
    await asyncio.sleep(5)
    acceptor.close()
    *streams, error = [await task for task in connects]
    assert now() == 6.0
    assert isinstance(error, netio.ConnectFailed)
    for stream in streams:
        with pytest.raises(netio.ConnectionReset):
            await stream.read_some()
        await stream.aclose()
    assert is_empty(network)


@pytest.mark.virtual_clock
async def test_a_place_that_is_given_up_goes_to_the_next() -> None:
    network = over(latency=1)
    [acceptor] = await network.listen("server", 7000, Operation("listen"), backlog=1)
    connects = [
        asyncio.create_task(outcome_of(netio.connect_tcp("server", 7000, network=network)))
        for _ in range(3)
    ]
    await asyncio.sleep(1.5)
    connects[0].cancel()
    streams = [await task for task in connects[1:]]
    assert now() == 2.5
    for stream in streams:
        await stream.aclose()
    acceptor.close()


@pytest.mark.virtual_clock
async def test_an_acceptor_tells_of_what_has_come_before() -> None:
    network = over()
    [acceptor] = await network.listen("server", 7000, Operation("listen"), backlog=1)
    async with await netio.connect_tcp("server", 7000, network=network):
        await asyncio.sleep(1)
        await acceptor.wait_readable(Waiter(5.0))
        assert now() == 1.0
        channel = acceptor.accept()
        assert channel is not None
        channel.close()
    acceptor.close()
    assert acceptor.accept() is None


@pytest.mark.virtual_clock
async def test_a_scope_that_fires_with_the_attempt_answers() -> None:
    network = over()
    network.add(faults.BlackHole())
    with pytest.raises(netio.DeadlineExceeded) as caught:
        async with netio.timeout(None) as scope:
            virtual_loop().call_at(1, scope.reschedule, 3)  # so that the attempt's timer is first
            limits = netio.Timeouts(attempt=3)
            await netio.connect_tcp("server", 7000, timeouts=limits, network=network)
    assert caught.value.limit == "scope"


# Loops. ----------------------------------------------------------------------------------------


@pytest.mark.real_time("a network on the real clock")
async def test_it_works_on_any_loop_and_the_real_clock() -> None:
    network = over(latency=0.002)
    loop = asyncio.get_running_loop()
    before = loop.time()
    async with netio.serve_tcp(echo, "server", 7000, network=network):
        async with netio.connect_tcp("server", 7000, network=network) as stream:
            await stream.write(b"hello")
            assert await stream.read_exactly(5) == b"hello"
    assert loop.time() - before > 0.0095


def test_another_loop_may_use_it_once_the_first_has_left_it() -> None:
    network = over(latency=1)

    async def use() -> None:
        async with netio.serve_tcp(echo, "server", 7000, network=network):
            async with netio.connect_tcp("server", 7000, network=network) as stream:
                await stream.write(b"hello")
                assert await stream.read_exactly(5) == b"hello"

    run(use())
    run(use())


async def test_it_belongs_to_one_loop_at_a_time() -> None:
    network = over()
    near, far = network.pair()

    async def use() -> None:
        with pytest.raises(RuntimeError, match="network belongs to another event loop"):
            network.pair()
        with pytest.raises(RuntimeError, match="another event loop"):
            await netio.connect_tcp("server", 7000, network=network)

    await asyncio.to_thread(run, use())
    await near.aclose()
    await far.aclose()


@pytest.mark.any_clock
async def test_a_pair_is_bound_as_any_stream() -> None:
    near, far = over().pair(timeouts=netio.Timeouts(read=0.001), limit=10)
    async with near, far:
        with pytest.raises(netio.DeadlineExceeded):
            await near.read_some()
        await far.write(b"12345678901")
        with pytest.raises(netio.LimitExceeded):
            await near.read_line()
        assert near.local == far.peer
        assert far.local == near.peer
        async with Ticker() as ticker:
            for _ in range(1000):
                await near.write(b"x")
                await far.read_exactly(1)
        assert ticker.count > 2


# What happened. --------------------------------------------------------------------------------


@pytest.mark.virtual_clock
async def test_events_tell_what_went_over_the_wires_and_when() -> None:
    network = over(latency=1)
    async with netio.serve_tcp(echo, "server", 7000, network=network):
        async with netio.connect_tcp("server", 7000, network=network) as stream:
            await stream.write(b"hello")
            await stream.read_some()
    assert [tuple(event) for event in network.events] == [
        (0.0, 1, "upstream", "connect", 0),
        (1.0, 1, "upstream", "connect arrived", 0),
        (1.0, 1, "downstream", "accept", 0),
        (2.0, 1, "downstream", "accept arrived", 0),
        (2.0, 1, "upstream", "open", 0),
        (2.0, 1, "upstream", "data", 5),
        (3.0, 1, "upstream", "open arrived", 0),
        (3.0, 1, "upstream", "data arrived", 5),
        (3.0, 1, "downstream", "data", 5),
        (4.0, 1, "downstream", "data arrived", 5),
        (4.0, 1, "upstream", "end", 0),
        (5.0, 1, "upstream", "end arrived", 0),
        (5.0, 1, "downstream", "end", 0),
    ]
    assert Network().events == ()


# Bad input. ------------------------------------------------------------------------------------

BAD: list[tuple[Callable[[], Any], type[Exception], str]] = [
    (lambda: Link(latency=-1), ValueError, "latency"),
    (lambda: Link(latency=math.nan), ValueError, "latency"),
    (lambda: Link(latency=math.inf), ValueError, "latency"),
    (lambda: Link(latency="1"), TypeError, "latency"),  # type: ignore[arg-type]
    (lambda: Link(bandwidth=0), ValueError, "bandwidth"),
    (lambda: Link(bandwidth=-5), ValueError, "bandwidth"),
    (lambda: Link(buffer_bytes=0), ValueError, "buffer_bytes"),
    (lambda: Link(buffer_bytes=1.5), TypeError, "buffer_bytes"),  # type: ignore[arg-type]
    (lambda: Network(link=5), TypeError, "link"),  # type: ignore[arg-type]
    (lambda: Network(links={"server": Link()}), ValueError, "links: .*'server'"),
    (lambda: Network(links={"::1": 1}), TypeError, "links"),  # type: ignore[dict-item]
    (lambda: Network(names={"server": "there"}), ValueError, "names"),
    (lambda: Network(names={"server": []}), ValueError, "names"),
    (lambda: Network(names={"server": ["10.0.0.1", 5]}), ValueError, "names"),  # type: ignore[list-item]
    (lambda: Network(names={"server": 5}), TypeError, "names"),  # type: ignore[dict-item]
    (lambda: Network(names={5: "10.0.0.1"}), TypeError, "names"),  # type: ignore[dict-item]
    (lambda: Network(names={"10.0.0.1": "10.0.0.2"}), ValueError, "names"),
    (lambda: Network(names=["server"]), TypeError, "names"),  # type: ignore[arg-type]
    (lambda: Network(links=["server"]), TypeError, "links"),  # type: ignore[arg-type]
    (lambda: Network(seed="x"), TypeError, "seed"),  # type: ignore[arg-type]
    (lambda: Network(lookup_seconds=-1), ValueError, "lookup_seconds"),
    (lambda: over().host("nobody"), ValueError, "name: .*'nobody'"),
    (lambda: over().host("a"), ValueError, "no name 'a'; it knows .*'client', .*'server'.*names="),
    (lambda: over().host(5), TypeError, "name"),  # type: ignore[arg-type]
    (lambda: over().add("stall"), TypeError, "fault"),  # type: ignore[arg-type]
    (lambda: over().add(faults.Down(), to="nobody"), ValueError, "to: .*'nobody'"),
    (lambda: over().add(faults.Down(), to=7000), TypeError, "to must"),  # type: ignore[arg-type]
    (lambda: over().add(faults.Down(), to=("server",)), TypeError, "to must"),  # type: ignore
    (lambda: over().add(faults.Down(), to=("server", 70_000)), ValueError, "port"),
    (lambda: over().add(faults.Partition("server", "nobody")), ValueError, "other: .*'nobody'"),
    (lambda: over().add(faults.Partition("client", "six"), to="six"), ValueError, "to: "),
    (lambda: over().remove(faults.Down()), ValueError, "Down.* is not on this network"),
]


async def test_a_name_that_does_not_resolve_is_told_with_those_that_would() -> None:
    network = Network(names={"server": "10.0.0.1"})
    with pytest.raises(netio.ConnectFailed) as caught:
        await netio.connect_tcp("sever", 7000, network=network)
    assert caught.value.attempts[0].__notes__ == [
        "'sever' is not among the names of this netio.testing.Network: 'localhost', 'server' "
        "(names= gives it more)"
    ]


@pytest.mark.parametrize(("make", "error", "match"), BAD)
def test_wrong_arguments_are_named(
    make: Callable[[], Any], error: type[Exception], match: str
) -> None:
    with pytest.raises(error, match=match):
        make()


@pytest.mark.parametrize(
    ("options", "error"), [({"limit": 0}, "limit"), ({"timeouts": 5}, "timeouts")]
)
async def test_wrong_arguments_of_a_pair_are_named(options: dict[str, Any], error: str) -> None:
    with pytest.raises((TypeError, ValueError), match=error):
        Network().pair(**options)
