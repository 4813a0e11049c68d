"""Faults: each does what it says, where and when it says, counts it, and can be taken away."""

import asyncio
import itertools
import math
from collections.abc import Callable
from typing import Any

import pytest
from streams import outcome_of, read_rest
from virtual import virtual_loop

import netio
from netio.testing import Link, Network, assert_fired, faults

NAMES = {"server": "10.0.0.1", "client": "10.0.0.2", "other": "10.0.0.3"}


def now() -> float:
    return virtual_loop().time()


def with_faults(*several: faults.Fault, seed: int = 0, **link: Any) -> Network:
    network = Network(names=NAMES, seed=seed, link=Link(**link), record=True)
    for fault in several:
        network.add(fault)
    return network


async def echo(stream: netio.Stream) -> None:
    async for chunk in stream.chunks():
        await stream.write(chunk)


async def pieces(stream: netio.Stream) -> list[tuple[float, bytes]]:
    """What each receive brings, and when, until the end."""
    got = []
    while chunk := await stream.read_some():
        got.append((now(), chunk))
    return got


def kinds(network: Network) -> list[str]:
    """The faults that fired, in order."""
    known = {fault.name for fault in network.faults}
    return [event.what for event in network.events if event.what in known]


# Latency and jitter. ---------------------------------------------------------------------------


@pytest.mark.virtual_clock
async def test_latency_adds_to_that_of_the_link_in_both_directions() -> None:
    fault = faults.Latency(0.5)
    near, far = with_faults(fault, latency=1).pair()
    async with near, far:
        await near.write(b"x")
        await far.read_exactly(1)
        assert now() == 1.5
        await far.write(b"x")
        await near.read_exactly(1)
        assert now() == 3.0
    assert fault.fired >= 2


@pytest.mark.virtual_clock
async def test_latency_may_be_in_one_direction_only() -> None:
    near, far = with_faults(faults.Latency(1, direction="downstream")).pair()
    async with near, far:
        await near.write(b"x")
        await far.read_exactly(1)
        assert now() == 0.0
        await far.write(b"x")
        await near.read_exactly(1)
        assert now() == 1.0


@pytest.mark.virtual_clock
async def test_latency_holds_up_connecting_and_refusals() -> None:
    network = with_faults(faults.Latency(1))
    with pytest.raises(netio.ConnectFailed):
        await netio.connect_tcp("server", 7000, network=network)
    assert now() == 2.0


@pytest.mark.virtual_clock
async def test_jitter_changes_distances_and_never_the_order() -> None:
    near, far = with_faults(faults.Latency(10, jitter=10), seed=5).pair()
    reading = asyncio.create_task(pieces(far))
    for n in range(50):
        await near.write(b"%02d" % n)
        await asyncio.sleep(1)
    await near.write_eof()
    got = await reading
    assert b"".join(data for _, data in got) == b"".join(b"%02d" % n for n in range(50))
    times = [when for when, _ in got]
    assert times == sorted(times)
    distances = {round(b - a, 3) for a, b in itertools.pairwise(times)}
    assert len(distances) > 10
    near.abort()
    far.abort()


# Bandwidth. ------------------------------------------------------------------------------------


@pytest.mark.virtual_clock
async def test_bandwidth_drips_and_lets_the_writer_wait() -> None:
    fault = faults.Bandwidth(100, direction="upstream")
    near, far = with_faults(fault, buffer_bytes=50).pair()
    async with near, far:
        reading = asyncio.create_task(pieces(far))
        await near.write(bytes(1000))
        assert now() == pytest.approx(9.5)  # the last ones are under way
        await near.write_eof()
        got = await reading
        assert got[-1][0] == pytest.approx(10.0)
        assert len(got) == 100  # a tenth of a second each
        await far.write(bytes(50))
        assert len(await near.read_exactly(50)) == 50
        assert now() == pytest.approx(10.0)
    assert_fired(fault)


# Slicer. ---------------------------------------------------------------------------------------


@pytest.mark.virtual_clock
async def test_slicer_cuts_down_to_a_byte_at_a_time_and_no_receive_joins_them() -> None:
    fault = faults.Slicer()
    near, far = with_faults(fault).pair()
    async with near, far:
        await near.write(b"hello")
        await near.write_eof()
        await asyncio.sleep(1)
        assert [data for _, data in await pieces(far)] == [b"h", b"e", b"l", b"l", b"o"]
    assert fault.fired == 1


@pytest.mark.parametrize("delay", [0, 0.5])
@pytest.mark.virtual_clock
async def test_any_cutting_can_be_had(delay: float) -> None:
    whole = b"0123456789"
    for cuts in range(1 << 9):
        edges = [0, *(n + 1 for n in range(9) if cuts >> n & 1), 10]
        sizes = [b - a for a, b in itertools.pairwise(edges)]
        near, far = with_faults(faults.Slicer(sizes=sizes, delay=delay)).pair()
        start = now()
        await near.write(whole)
        await near.write_eof()
        got = await pieces(far)
        assert [data for _, data in got] == [whole[a:b] for a, b in itertools.pairwise(edges)]
        assert [when - start for when, _ in got] == [delay * n for n in range(len(sizes))]
        near.abort()
        far.abort()


@pytest.mark.virtual_clock
async def test_sizes_count_along_the_stream_however_it_was_written() -> None:
    near, far = with_faults(faults.Slicer(sizes=[3, 1, 4])).pair()
    async with near, far:
        for part in (b"01", b"2345", b"6789", b"abc"):
            await near.write(part)
        await near.write_eof()
        got = [data for _, data in await pieces(far)]
        assert got == [b"01", b"2", b"3", b"45", b"67", b"89", b"abc"]


@pytest.mark.virtual_clock
async def test_sizes_vary_around_the_average() -> None:
    near, far = with_faults(faults.Slicer(10, size_variation=5)).pair()
    async with near, far:
        await near.write(bytes(10_000))
        await near.write_eof()
        sizes = [len(data) for _, data in await pieces(far)]
    assert sum(sizes) == 10_000
    assert (min(sizes[:-1]), max(sizes)) == (5, 15)
    assert 9 < sum(sizes) / len(sizes) < 11


@pytest.mark.virtual_clock
async def test_what_is_not_cut_does_not_count() -> None:
    fault = faults.Slicer(100)
    near, far = with_faults(fault).pair()
    async with near, far:
        await near.write(b"short")
        await far.read_exactly(5)
    assert fault.fired == 0


# Timeout: a stall. -----------------------------------------------------------------------------


@pytest.mark.virtual_clock
async def test_timeout_stops_the_data_and_the_end() -> None:
    fault = faults.Timeout(after_bytes=3, direction="downstream")
    near, far = with_faults(fault).pair()
    async with near, far:
        await far.write(b"123456")
        await far.write_eof()
        with pytest.raises(netio.DeadlineExceeded) as caught:
            await near.read_exactly(6, timeout=100)
        assert caught.value.done == 3
        await near.write(b"the other direction goes on")
        assert await far.read_exactly(5) == b"the o"
    assert fault.fired == 2
    assert virtual_loop().timers() == []


@pytest.mark.virtual_clock
async def test_a_stalled_writer_waits_once_the_buffer_is_full() -> None:
    near, far = with_faults(faults.Timeout(), buffer_bytes=10).pair()
    async with near, far:
        with pytest.raises(netio.DeadlineExceeded) as caught:
            await near.write(bytes(100), timeout=1)
        assert caught.value.done == 10


@pytest.mark.virtual_clock
async def test_a_stall_that_is_taken_away_in_time_has_lost_nothing() -> None:
    network = with_faults()
    near, far = network.pair()
    async with near, far:
        with network.add(faults.Timeout(60)) as stall:
            await near.write(b"hello ")
            await near.write(b"world")
            await near.write_eof()
            await asyncio.sleep(59)
        assert await far.read_all(limit=100) == b"hello world"
        assert now() == 59.0
    assert_fired(stall)
    assert virtual_loop().timers() == []


@pytest.mark.virtual_clock
async def test_timeout_closes_the_connection_for_both_when_it_is_over() -> None:
    fault = faults.Timeout(5, direction="upstream")
    near, far = with_faults(fault).pair()
    async with near, far:
        await near.write(b"lost")
        assert await far.read_all(limit=100) == b""
        assert await near.read_all(limit=100) == b""
        assert now() == 5.0
        await near.write(b"x")
        with pytest.raises(netio.BrokenPipe):
            await near.write(b"x")
        await far.write(b"x")
        with pytest.raises(netio.BrokenPipe):
            await far.write(b"x")


@pytest.mark.virtual_clock
async def test_a_reset_comes_through_a_stall_and_what_was_held_is_lost() -> None:
    network = with_faults(faults.Timeout())
    near, far = network.pair()
    async with far:
        await near.write(b"lost")
        near.abort()
        with pytest.raises(netio.ConnectionReset):
            await far.read_some()
        assert now() == 0.0
        network.remove(network.faults[0])
        with pytest.raises(netio.ConnectionReset):
            await far.read_some()


@pytest.mark.virtual_clock
async def test_a_writer_that_waits_is_told_when_timeout_closes_the_connection() -> None:
    near, far = with_faults(faults.Timeout(5), buffer_bytes=100).pair()
    async with near, far:
        with pytest.raises(netio.BrokenPipe) as caught:
            await near.write(bytes(1000))
        assert now() == 5.0
        assert 100 <= caught.value.done < 1000


# SlowClose, LimitData, ResetPeer. --------------------------------------------------------------


@pytest.mark.parametrize("how", ["write_eof", "aclose"])
@pytest.mark.virtual_clock
async def test_slow_close_delays_the_end_and_nothing_else(how: str) -> None:
    fault = faults.SlowClose(7, direction="upstream")
    near, far = with_faults(fault).pair()
    async with far:
        await near.write(b"data")
        await getattr(near, how)()
        assert [(await far.read_exactly(4), now()), (await far.read_some(), now())] == [
            (b"data", 0.0),
            (b"", 7.0),
        ]
        near.abort()
    assert fault.fired == 1
    assert virtual_loop().timers() == []


@pytest.mark.virtual_clock
async def test_slow_close_does_not_delay_a_reset() -> None:
    near, far = with_faults(faults.SlowClose(7)).pair()
    async with far:
        await near.write_eof()
        near.abort()
        await asyncio.sleep(10)
        with pytest.raises(netio.ConnectionReset):
            await far.read_some()


@pytest.mark.parametrize(
    "writes", [[b"0123456789"], [b"01", b"23", b"45", b"67", b"89"], [b"0123"]]
)
@pytest.mark.virtual_clock
async def test_limit_data_truncates_after_so_many_bytes_wherever_that_is(
    writes: list[bytes],
) -> None:
    fault = faults.LimitData(4, direction="downstream")
    near, far = with_faults(fault).pair()
    async with near, far:
        for data in writes:
            await outcome_of(far.write(data))
        with pytest.raises(netio.IncompleteRead) as caught:
            await near.read_exactly(10)
        assert caught.value.partial == b"0123"
        if writes == [b"0123"]:
            await far.write(b"x")  # which nobody has refused yet
        with pytest.raises(netio.BrokenPipe):
            await far.write(b"x")
    assert fault.fired == 1


@pytest.mark.virtual_clock
async def test_limit_data_of_nothing_closes_at_once() -> None:
    network = with_faults(faults.LimitData(0))
    async with netio.serve_tcp(echo, "server", 7000, network=network):
        async with netio.connect_tcp("server", 7000, network=network) as stream:
            assert await stream.read_some() == b""


@pytest.mark.virtual_clock
async def test_what_has_passed_the_limit_still_comes_through_what_is_slow() -> None:
    near, far = with_faults(faults.LimitData(4, direction="upstream"), faults.Latency(9)).pair()
    async with near, far:
        await near.write(b"012345")
        assert await near.read_some() == b""  # at once
        assert now() == 0.0
        assert await far.read_all(limit=100) == b"0123"
        assert now() == 9.0


@pytest.mark.parametrize(
    ("moment", "when"),
    [({"after_bytes": 4}, 0.0), ({"after_seconds": 3}, 3.0), ({}, 0.0)],
    ids=str,
)
@pytest.mark.virtual_clock
async def test_reset_peer_resets_both_ends_at_its_moment(
    moment: dict[str, Any], when: float
) -> None:
    fault = faults.ResetPeer(direction="upstream", **moment)
    near, far = with_faults(fault).pair()
    async with near, far:
        await outcome_of(near.write(b"01234567"))
        assert await read_rest(far) == (
            b"" if not moment else b"0123" if when == 0 else b"01234567"
        )
        for stream in (near, far):
            with pytest.raises(netio.ConnectionReset):
                await stream.read_some()
        assert now() == when
    assert fault.fired == 1
    assert virtual_loop().timers() == []


# Down, black hole, partition, half-open. -------------------------------------------------------


@pytest.mark.virtual_clock
async def test_down_refuses_connects_and_closes_what_is_connected() -> None:
    network = with_faults(latency=1)
    async with netio.serve_tcp(echo, "server", 7000, network=network):
        async with netio.connect_tcp("server", 7000, network=network) as stream:
            await asyncio.sleep(5)
            fault = faults.Down()
            with network.add(fault, to="server"):
                assert fault.fired == 1
                assert await stream.read_some(timeout=0) == b""
                before = now()
                with pytest.raises(netio.ConnectFailed, match="refused"):
                    await netio.connect_tcp("server", 7000, network=network)
                assert now() == before + 2
                assert fault.fired == 2
        async with netio.connect_tcp("server", 7000, network=network) as stream:
            await stream.write(b"up again")
            assert await stream.read_exactly(8) == b"up again"


@pytest.mark.parametrize("after", [0.5, 1.5, 2.5, 3.5])
@pytest.mark.virtual_clock
async def test_down_during_a_connect_is_an_end_or_a_refusal(after: float) -> None:
    network = with_faults(latency=1)
    async with netio.serve_tcp(echo, "server", 7000, network=network):
        connect = netio.connect_tcp("server", 7000, timeout=20, network=network)
        task = asyncio.create_task(outcome_of(connect))
        await asyncio.sleep(after)
        network.add(faults.Down())
        outcome = await task
        if after < 1:
            assert isinstance(outcome, netio.ConnectFailed)
            return
        assert await outcome.read_some() == b""
        await outcome.aclose()


@pytest.mark.virtual_clock
async def test_a_black_hole_answers_no_connect_until_it_is_taken_away() -> None:
    network = with_faults()
    hole = faults.BlackHole()
    network.add(hole, to=("server", 7000))
    async with netio.serve_tcp(echo, "server", 7000, network=network):
        with pytest.raises(netio.ConnectFailed) as caught:
            await netio.connect_tcp("server", 7000, network=network)
        assert caught.value.attempts[0].limit == "attempt"  # type: ignore[attr-defined]
        assert now() == 10.0
        task = asyncio.create_task(netio.connect_tcp("server", 7000, network=network))
        await asyncio.sleep(3)
        network.remove(hole)
        async with await task as stream:
            assert now() == 13.0
            await stream.write(b"hello")
            assert await stream.read_exactly(5) == b"hello"
    assert_fired(hole)
    assert virtual_loop().timers() == []


@pytest.mark.parametrize("how", ["write", "write_eof", "aclose", "abort"])
@pytest.mark.virtual_clock
async def test_a_black_hole_swallows_all_there_is_and_nobody_is_told(how: str) -> None:
    network = with_faults()
    near, far = network.pair()
    hole = faults.BlackHole(direction="upstream")
    network.add(hole)
    outcome = near.write(b"x") if how == "write" else getattr(near, how)()
    if outcome is not None:
        await outcome
    with pytest.raises(netio.DeadlineExceeded):
        await far.read_some(timeout=1000)
    assert hole.fired == 1
    network.remove(hole)
    now_comes = await outcome_of(far.read_some(timeout=0.1))
    expected: Any = {"write": b"x", "abort": "ConnectionReset"}.get(how, b"")
    assert now_comes == expected or type(now_comes).__name__ == expected
    near.abort()
    await far.aclose()


@pytest.mark.virtual_clock
async def test_a_fault_may_be_for_one_port_only() -> None:
    network = with_faults()
    network.add(faults.Down(), to=("server", 7000))
    ports = {}
    for port in (7000, 7001):
        async with netio.serve_tcp(echo, "server", port, network=network):
            outcome = await outcome_of(netio.connect_tcp("server", port, network=network))
            ports[port] = isinstance(outcome, netio.Stream)
            if ports[port]:
                await outcome.aclose()
    assert ports == {7000: False, 7001: True}


@pytest.mark.virtual_clock
async def test_a_partition_is_between_its_hosts_only_and_heals() -> None:
    network = with_faults()
    hosts = {name: network.host(name) for name in NAMES}
    async with netio.serve_tcp(echo, "server", 7000, network=hosts["server"]):
        streams = {
            name: await netio.connect_tcp("server", 7000, network=hosts[name])
            for name in ("client", "other")
        }

        async def is_reached(name: str) -> bool:
            await streams[name].write(b"x")
            try:
                return await streams[name].read_exactly(1, timeout=5) == b"x"
            except netio.DeadlineExceeded:
                return False

        assert [await is_reached(name) for name in streams] == [True, True]
        partition = faults.Partition("server", ["client"])
        network.add(partition)
        assert [await is_reached(name) for name in streams] == [False, True]
        connect = netio.connect_tcp("server", 7000, timeout=1, network=hosts["client"])
        with pytest.raises(netio.DeadlineExceeded):
            await connect
        network.remove(partition)
        assert await streams["client"].read_exactly(1, timeout=0.1) == b"x"  # sent meanwhile
        assert [await is_reached(name) for name in streams] == [True, True]
        assert_fired(partition)
        for stream in streams.values():
            await stream.aclose()


@pytest.mark.parametrize("gone", ["server", "client"])
@pytest.mark.virtual_clock
async def test_half_open_one_side_is_gone_without_a_word(gone: str) -> None:
    fault = faults.HalfOpen(gone, after_seconds=5)
    near, far = with_faults(fault).pair()
    alive, lost = (near, far) if gone == "server" else (far, near)
    await lost.write(b"last words")
    assert await alive.read_exactly(10) == b"last words"
    await asyncio.sleep(5)
    await lost.aclose()
    await alive.write(b"are you there?")
    with pytest.raises(netio.DeadlineExceeded):
        await alive.read_some(timeout=1000)
    await alive.aclose()
    assert_fired(fault)
    assert virtual_loop().timers() == []


@pytest.mark.virtual_clock
async def test_half_open_whoever_is_back_knows_of_no_connection() -> None:
    fault = faults.HalfOpen("server", back_after=10)
    near, far = with_faults(fault).pair()
    async with near, far:
        await asyncio.sleep(20)
        with pytest.raises(netio.DeadlineExceeded):
            await near.read_some(timeout=5)  # nobody says anything by itself
        await near.write(b"hello?")
        with pytest.raises(netio.ConnectionReset):
            await near.read_some()
        assert now() == 25.0
    assert_fired(fault)


@pytest.mark.virtual_clock
async def test_half_open_what_was_sent_meanwhile_is_answered_on_coming_back() -> None:
    near, far = with_faults(faults.HalfOpen("server", back_after=10, after_bytes=4)).pair()
    async with near, far:
        await near.write(b"hello?")
        await far.write(b"yes")  # which comes no more
        assert await far.read_exactly(4) == b"hell"
        with pytest.raises(netio.ConnectionReset):
            await near.read_some()
        assert now() == 10.0


# Moments. --------------------------------------------------------------------------------------


@pytest.mark.parametrize("cut", [*range(1, 9)])
@pytest.mark.virtual_clock
async def test_a_fault_begins_after_so_many_bytes_however_they_were_written(cut: int) -> None:
    fault = faults.Latency(10, after_bytes=4, direction="upstream")
    near, far = with_faults(fault).pair()
    data = b"01234567"
    async with near, far:
        await near.write(data[:cut])
        await near.write(data[cut:])
        assert (await far.read_exactly(4), now()) == (b"0123", 0.0)
        assert (await far.read_exactly(4), now()) == (b"4567", 10.0)


@pytest.mark.virtual_clock
async def test_a_moment_counts_from_when_the_connection_was_open() -> None:
    network = with_faults(faults.ResetPeer(after_seconds=5), latency=1)
    async with netio.serve_tcp(echo, "server", 7000, network=network):
        await asyncio.sleep(100)
        async with netio.connect_tcp("server", 7000, network=network) as stream:
            with pytest.raises(netio.ConnectionReset):
                await stream.read_some()
            assert now() == 108.0  # the server has it after three latencies


@pytest.mark.virtual_clock
async def test_a_moment_counts_from_when_the_fault_came_to_a_live_connection() -> None:
    network = with_faults()
    near, far = network.pair()
    async with near, far:
        await near.write(b"0123")
        await asyncio.sleep(100)
        network.add(faults.ResetPeer(after_seconds=5, after_bytes=2))
        await near.write(b"4")
        await asyncio.sleep(10)
        await near.write(b"5")
        with pytest.raises(netio.ConnectionReset):
            await near.read_some()
        assert (now(), await read_rest(far)) == (110.0, b"012345")


@pytest.mark.virtual_clock
async def test_both_moments_must_have_come() -> None:
    near, far = with_faults(
        faults.LimitData(1, after_bytes=2, after_seconds=5, direction="upstream")
    ).pair()
    async with near, far:
        await near.write(b"0123")
        assert await far.read_exactly(4) == b"0123"
        await asyncio.sleep(5)
        await near.write(b"4567")
        assert await far.read_all(limit=100) == b"4"


# Several, and taken away. ----------------------------------------------------------------------


@pytest.mark.virtual_clock
async def test_faults_work_in_the_order_in_which_they_were_added() -> None:
    near, far = with_faults(faults.Slicer(2), faults.Latency(1), faults.Slicer(1)).pair()
    async with near, far:
        await near.write(b"0123")
        await near.write_eof()
        assert await pieces(far) == [(1.0, b"0"), (1.0, b"1"), (1.0, b"2"), (1.0, b"3")]


@pytest.mark.parametrize(
    "make",
    [
        lambda: faults.Latency(50),
        lambda: faults.Bandwidth(1),
        lambda: faults.Slicer(1, delay=7),
        lambda: faults.SlowClose(60),
        lambda: faults.Timeout(),
        lambda: faults.BlackHole(),
    ],
)
@pytest.mark.virtual_clock
async def test_a_fault_that_is_taken_away_lets_go_at_once_and_in_order(
    make: Callable[[], faults.Fault],
) -> None:
    network = with_faults(faults.Latency(1))
    near, far = network.pair()
    async with near, far:
        placement = network.add(make())
        for n in range(10):
            await near.write(b"%d" % n)
        await near.write_eof()
        await asyncio.sleep(2.5)
        placement.remove()
        placement.remove()
        await asyncio.sleep(0)
        assert await far.read_all(limit=100, timeout=0) == b"0123456789"
        assert now() == 2.5
        await far.write(b"x")
        assert await near.read_some() == b"x"
        assert now() == 3.5
    assert virtual_loop().timers() == []


def test_leaving_a_block_takes_away_what_it_has_put_there_and_nothing_else() -> None:
    network, fault = Network(), faults.Latency(1)
    with network.add(fault):
        network.remove(fault)
    with pytest.raises(LookupError, match="of the block"), network.add(fault):
        network.remove(fault)
        raise LookupError("of the block")
    with network.add(fault):
        network.remove(fault)
        network.add(fault)
    assert network.faults == (fault,)


@pytest.mark.virtual_clock
async def test_a_connection_that_was_cut_is_not_mended() -> None:
    network = with_faults()
    near, far = network.pair()
    late = faults.Latency(1)
    async with near, far:
        with network.add(faults.LimitData(3)):
            await near.write(b"123")
        network.add(late)
        await near.write(b"456")
        with pytest.raises(netio.BrokenPipe):
            await near.write(b"789")
        assert await far.read_all(limit=100) == b"123"
        assert now() == 0.0
    assert late.fired == 0


@pytest.mark.virtual_clock
async def test_one_fault_may_be_on_several_networks() -> None:
    fault = faults.Latency(1)
    for network in (with_faults(fault), with_faults(fault)):
        near, far = network.pair()
        async with near, far:
            await near.write(b"x")
            await far.read_some()
    assert now() == 2.0
    assert fault.fired >= 2


@pytest.mark.virtual_clock
async def test_a_fault_is_on_a_network_once() -> None:
    network = with_faults(faults.Down())
    with pytest.raises(ValueError, match="on this network already"):
        network.add(network.faults[0])
    network.remove(network.faults[0])
    assert network.faults == ()


# Chances. --------------------------------------------------------------------------------------


async def times_of(network: Network) -> list[float]:
    near, far = network.pair()
    got = asyncio.create_task(pieces(far))
    for _ in range(20):
        await near.write(b"x")
        await asyncio.sleep(1)
    await near.write_eof()
    start = now()
    times = [when - start for when, _ in await got]
    near.abort()
    far.abort()
    return times


@pytest.mark.virtual_clock
async def test_chances_depend_on_the_seed_the_connection_and_nothing_else() -> None:
    def jittery(seed: int) -> Network:
        return with_faults(faults.Latency(1, jitter=1), seed=seed)

    def rounded(times: list[float]) -> list[float]:
        return [round(when, 6) for when in times]

    one, same, other = jittery(1), jittery(1), jittery(2)
    first, second = rounded(await times_of(one)), rounded(await times_of(one))
    assert [rounded(await times_of(same)), rounded(await times_of(same))] == [first, second]
    assert first != second
    assert rounded(await times_of(other)) != first


@pytest.mark.virtual_clock
async def test_toxicity_is_the_share_of_connections_that_a_fault_works_on() -> None:
    fault = faults.Latency(1, toxicity=0.3)
    network = with_faults(fault)
    slow = 0
    for _ in range(300):
        near, far = network.pair()
        async with near, far:
            before = now()
            await near.write(b"x")
            await far.read_exactly(1)
            await far.write(b"x")
            await near.read_exactly(1)
            assert now() - before in (0.0, 2.0)  # in both directions, or in none
            slow += now() > before
    assert 60 < slow < 120


# What is said of them. -------------------------------------------------------------------------


@pytest.mark.virtual_clock
async def test_assert_fired_names_those_that_did_not() -> None:
    idle = faults.ResetPeer(after_bytes=1000, direction="upstream")
    busy = faults.Latency(1)
    near, far = with_faults(idle, busy).pair()
    async with near, far:
        await near.write(b"x")
        await far.read_some()
    assert_fired(busy)
    with pytest.raises(AssertionError) as caught:
        assert_fired(busy, idle)
    assert str(caught.value) == (
        "1 of 2 never fired: ResetPeer(direction='upstream', after_bytes=1000)"
    )
    with pytest.raises(ValueError, match="at least one"):
        assert_fired()
    with pytest.raises(TypeError, match="not a fault"):
        assert_fired("latency")  # type: ignore[arg-type]


@pytest.mark.virtual_clock
async def test_events_tell_what_fired_and_when() -> None:
    network = with_faults(faults.Slicer(2), faults.Latency(1), faults.LimitData(5))
    near, far = network.pair()
    async with near, far:
        await near.write(b"012345")
        await asyncio.sleep(2)
    fired = [tuple(e) for e in network.events if e.what in ("slicer", "latency", "limit_data")]
    assert fired[0] == (0.0, 1, "upstream", "slicer", 6)
    assert (0.0, 1, "upstream", "latency", 2) in fired
    assert (1.0, 1, "upstream", "limit_data", 1) in fired


BAD: list[tuple[Callable[[], Any], type[Exception], str]] = [
    (lambda: faults.Latency(-1), ValueError, "latency"),
    (lambda: faults.Latency(math.inf), ValueError, "latency"),
    (lambda: faults.Latency(math.nan), ValueError, "latency"),
    (lambda: faults.Latency("1"), TypeError, "latency"),  # type: ignore[arg-type]
    (lambda: faults.Latency(1, jitter=2), ValueError, "jitter"),
    (lambda: faults.Latency(1, jitter=-1), ValueError, "jitter"),
    (lambda: faults.Latency(1, direction="up"), ValueError, "direction"),
    (lambda: faults.Latency(1, after_bytes=-1), ValueError, "after_bytes"),
    (lambda: faults.Latency(1, after_bytes=1.5), TypeError, "after_bytes"),  # type: ignore[arg-type]
    (lambda: faults.Latency(1, after_seconds=-1), ValueError, "after_seconds"),
    (lambda: faults.Latency(1, toxicity=1.1), ValueError, "toxicity"),
    (lambda: faults.Latency(1, toxicity=-0.1), ValueError, "toxicity"),
    (lambda: faults.Latency(1, toxicity="1"), TypeError, "toxicity must be a number, not"),  # type: ignore[arg-type]
    (lambda: faults.Latency(1, sometimes=True), TypeError, "sometimes"),  # type: ignore[call-arg]
    (lambda: faults.Bandwidth(0), ValueError, "rate"),
    (lambda: faults.Bandwidth(-3), ValueError, "rate"),
    (lambda: faults.Bandwidth("3"), TypeError, "rate must be a number of bytes a second"),  # type: ignore[arg-type]
    (lambda: faults.Bandwidth(math.inf), ValueError, "rate"),
    (lambda: faults.Slicer(0), ValueError, "average_size"),
    (lambda: faults.Slicer(1.5), TypeError, "average_size"),  # type: ignore[arg-type]
    (lambda: faults.Slicer(10, size_variation=10), ValueError, "size_variation"),
    (lambda: faults.Slicer(10, size_variation=-1), ValueError, "size_variation"),
    (lambda: faults.Slicer(delay=-1), ValueError, "delay"),
    (lambda: faults.Slicer(sizes=[]), ValueError, "sizes"),
    (lambda: faults.Slicer(sizes=[1, 0]), ValueError, "sizes"),
    (lambda: faults.Slicer(sizes=["1"]), TypeError, "sizes"),  # type: ignore[list-item]
    (lambda: faults.Slicer(sizes=5), TypeError, "sizes"),  # type: ignore[arg-type]
    (lambda: faults.Timeout(-1), ValueError, "timeout"),
    (lambda: faults.Timeout(math.nan), ValueError, "timeout"),
    (lambda: faults.SlowClose(-1), ValueError, "delay"),
    (lambda: faults.SlowClose(None), TypeError, "delay"),  # type: ignore[arg-type]
    (lambda: faults.LimitData(-1), ValueError, "limit_bytes"),
    (lambda: faults.LimitData(2.5), TypeError, "limit_bytes"),  # type: ignore[arg-type]
    (lambda: faults.Down(direction="upstream"), TypeError, "direction"),  # type: ignore[call-arg]
    (lambda: faults.Partition("", "b"), ValueError, "one"),
    (lambda: faults.Partition("a", []), ValueError, "other"),
    (lambda: faults.Partition(5, "b"), TypeError, "one"),  # type: ignore[arg-type]
    (lambda: faults.Partition("a", [5]), TypeError, "other"),  # type: ignore[list-item]
    (lambda: faults.HalfOpen("both"), ValueError, "gone"),
    (lambda: faults.HalfOpen(back_after=-1), ValueError, "back_after"),
]


@pytest.mark.parametrize(("make", "error", "match"), BAD)
def test_impossible_parameters_are_named(
    make: Callable[[], Any], error: type[Exception], match: str
) -> None:
    with pytest.raises(error, match=match):
        make()
