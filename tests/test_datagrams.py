"""Datagram sockets: whole datagrams, under limits, of which none is lost."""

import asyncio
import contextlib
import errno
import gc
import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import datagrams
import pytest
import unix_paths
from datagrams import Pair, a_pair, fill, until, waiting
from raw_sockets import HAS_IPV6
from streams import outcome_of

import netio

kind, pair, place = datagrams.kind, datagrams.pair, unix_paths.place

pytestmark = pytest.mark.skipif(not HAS_IPV6, reason="the tests of all kinds need IPv6")


# Sending and receiving. -----------------------------------------------------------------------


async def test_a_datagram_is_received_as_it_was_sent_and_can_be_answered(pair: Pair) -> None:
    client, server = pair
    for data in (b"hello", b"", b"x" * 9000):
        await client.send(data)
        datagram = await server.receive()
        assert datagram == (data, client.local)
        assert isinstance(datagram, netio.Datagram)
        assert not datagram.truncated
        await server.send_to(data + b"!", datagram.address)
        answer = await client.receive()
        assert (answer.data, answer.address) == (data + b"!", server.local)


async def test_one_that_waits_has_the_next_datagram(pair: Pair) -> None:
    receiving = await waiting(pair.server.receive())
    await pair.client.send(b"hello")
    assert (await receiving).data == b"hello"


async def test_datagrams_are_not_joined_and_not_cut_and_stay_in_order(pair: Pair) -> None:
    for number in range(5):
        await pair.client.send(b"%d" % number * (number + 1))
    for number in range(5):
        assert (await pair.server.receive()).data == b"%d" % number * (number + 1)


@pytest.mark.parametrize("kind", ["udp", "unix"])
async def test_what_is_longer_than_what_is_received_is_cut_and_says_so(kind: str) -> None:
    async with a_pair(kind, max_bytes=100) as (client, server):
        for size in (99, 100, 101, 5000, 100):
            await client.send(b"x" * size)
            datagram = await server.receive()
            assert datagram.data == b"x" * min(size, 100)
            assert datagram.truncated == (size > 100)
            assert isinstance(datagram, netio.Datagram)
        assert server.statistics().truncated == 2


@pytest.mark.parametrize("form", [bytearray, memoryview])
async def test_any_buffer_can_be_sent_and_changed_afterwards(pair: Pair, form: Any) -> None:
    memory = bytearray(b"hello")
    data = memory if form is bytearray else memoryview(memory)
    await pair.client.send(data)
    memory[:] = b"other"
    memory.append(0) if form is bytearray else None  # nothing holds on to it
    assert (await pair.server.receive()).data == b"hello"


async def test_iterating_ends_when_this_side_closes(pair: Pair) -> None:
    seen = []

    async def serve() -> None:
        async for data, address in pair.server:
            seen.append((data, address))

    serving = await waiting(serve())
    await pair.client.send(b"a")
    await pair.client.send(b"b")
    await until(lambda: len(seen) == 2)
    pair.server.close()
    await serving
    assert seen == [(b"a", pair.client.local), (b"b", pair.client.local)]


async def test_the_statistics_count_datagrams_and_their_bytes(pair: Pair) -> None:
    await pair.client.send(b"abc")
    await pair.client.send(b"")
    await pair.server.receive()
    await pair.server.receive()
    sent, received = pair.client.statistics(), pair.server.statistics()
    assert (sent.sent, sent.bytes_sent, sent.received) == (2, 3, 0)
    assert (received.received, received.bytes_received, received.sent) == (2, 3, 0)
    pair.server.close()
    assert pair.server.statistics().received == 2


@pytest.mark.skipif(os.uname().sysname != "Linux", reason="only Linux tells")
async def test_what_the_kernel_drops_is_counted() -> None:
    async with a_pair("udp") as (client, server):
        server.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        assert server.statistics().dropped == 0
        for _ in range(100):
            await client.send(b"x" * 1000)
        received = 0
        with contextlib.suppress(netio.DeadlineExceeded):
            while await server.receive(timeout=0):
                received += 1
        assert 0 < received < 100
        assert server.statistics().dropped == 100 - received


async def test_the_addresses_and_the_state_are_told(pair: Pair, kind: str) -> None:
    client, server = pair
    assert client.peer == server.local
    assert server.peer is None
    assert "open" in repr(client)
    assert client.socket.fileno() > 0
    assert client.socket.type == socket.SOCK_DGRAM
    where = client.peer
    client.close()
    assert client.closed
    assert client.local is None
    assert client.peer == where
    assert client.socket.fileno() == -1


# Limits. --------------------------------------------------------------------------------------


@pytest.mark.parametrize("timeout", [0, -1])
async def test_zero_or_less_takes_what_is_there_now(pair: Pair, timeout: float) -> None:
    with pytest.raises(netio.DeadlineExceeded, match=r"receive from .*no datagram came") as caught:
        await pair.server.receive(timeout=timeout)
    assert caught.value.limit == "call"
    assert caught.value.operation == "receive"
    await pair.client.send(b"x", timeout=timeout)
    assert (await pair.server.receive(timeout=timeout)).data == b"x"


@pytest.mark.real_time("the kernel wakes who waits")
async def test_every_kind_of_limit_holds() -> None:
    loop = asyncio.get_running_loop()
    async with a_pair("udp", timeouts=netio.Timeouts(read=0.01)) as (_, server):
        for limit, make in (
            ("call", lambda: 0.01),
            ("deadline", lambda: netio.Deadline.after(0.01)),
            ("budget", lambda: netio.Budget(0.01)),
            ("read", lambda: netio.DEFAULT),
        ):
            began = loop.time()
            with pytest.raises(netio.DeadlineExceeded) as caught:
                await server.receive(timeout=make())
            assert caught.value.limit == limit
            assert 0.0099 < loop.time() - began < 1
        with pytest.raises(netio.DeadlineExceeded) as caught:
            async with netio.timeout(0.01, name="outer"):
                await server.receive(timeout=None)
        assert (caught.value.scope_name, caught.value.operation) == ("outer", "receive")


async def test_a_limit_that_is_none_is_refused_at_once(pair: Pair) -> None:
    for call in (pair.server.receive, lambda **o: pair.client.send(b"", **o)):
        with pytest.raises(TypeError, match="timeout"):
            await call(timeout="5")
        with pytest.raises(ValueError, match="timeout"):
            await call(timeout=float("nan"))


async def test_the_limits_of_streams_are_refused(pair: Pair) -> None:
    for timeouts in (netio.Timeouts(idle=1), netio.Timeouts(total=1)):
        with pytest.raises(ValueError, match="a limit of streams"):
            netio.bind_udp("127.0.0.1", timeouts=timeouts)
        with pytest.raises(ValueError, match="a limit of streams"):
            pair.server.timeouts = timeouts
    pair.server.timeouts = netio.Timeouts(read=3)
    assert pair.server.timeouts.read == 3


@pytest.mark.real_time("the kernel's buffers are what is full")
@pytest.mark.parametrize("connected", [True, False])
async def test_a_send_waits_for_a_receiver_that_is_full_without_spinning(
    place: Path, connected: bool
) -> None:
    """A poller calls the sender writable, where it is not connected."""
    loop = asyncio.get_running_loop()
    async with netio.bind_unix_datagram(place / "full") as full:
        if connected:
            making = netio.connect_unix_datagram(place / "full")
        else:
            making = netio.bind_unix_datagram(place / "own")
        async with making as sender:
            address = None if connected else str(place / "full")

            def send(data: bytes, **options: Any) -> Any:
                if connected:
                    return sender.send(data, **options)
                return sender.send_to(data, address, **options)

            count = await fill(sender, address)
            began, cpu = loop.time(), os.times()
            with pytest.raises(netio.DeadlineExceeded, match="nothing was sent") as caught:
                await send(b"late", timeout=0.1)
            assert caught.value.done == 0
            assert 0.0999 < loop.time() - began < 1
            assert sum(os.times()[:2]) - sum(cpu[:2]) < 0.05
            with pytest.raises(netio.DeadlineExceeded):
                await send(b"late", timeout=0)
            sending = [await waiting(send(b"%d" % number)) for number in range(3)]
            for _ in range(count):
                await full.receive()
            await asyncio.gather(*sending)
            assert [(await full.receive()).data for _ in range(3)] == [b"0", b"1", b"2"]


async def test_a_receiver_that_is_full_holds_up_no_other(place: Path) -> None:
    async with (
        netio.bind_unix_datagram(place / "full") as full,
        netio.bind_unix_datagram(place / "other") as other,
        netio.bind_unix_datagram(place / "own") as sender,
    ):
        await fill(sender, str(place / "full"))
        sending = await waiting(sender.send_to(b"late", str(place / "full")))
        await sender.send_to(b"quick", str(place / "other"))
        assert (await other.receive()).data == b"quick"
        sending.cancel()
        with pytest.raises(asyncio.CancelledError) as caught:
            await sending
        assert caught.value.done == 0  # type: ignore[attr-defined]
        assert full.statistics().received == 0


# Cuts, in every order. ------------------------------------------------------------------------


async def test_a_cancel_or_a_scope_in_any_turn_loses_no_datagram(pair: Pair) -> None:
    for turns in range(5):
        for cut in ("cancel", "scope"):
            scope = netio.move_on_after(None)

            async def receive(scope: netio.Scope = scope) -> Any:
                async with scope:
                    return await pair.server.receive()

            receiving = await waiting(receive())
            await pair.client.send(b"%d" % turns)
            for _ in range(turns):
                await asyncio.sleep(0)
            if cut == "cancel":
                receiving.cancel()
            elif not receiving.done():
                scope.reschedule(0)
            outcome = await outcome_of(receiving)
            if not isinstance(outcome, tuple):
                outcome = await pair.server.receive()
            assert outcome == (b"%d" % turns, pair.client.local)
    with pytest.raises(netio.DeadlineExceeded):
        await pair.server.receive(timeout=0)


async def test_one_that_was_taken_for_a_cancelled_call_is_first(pair: Pair) -> None:
    receiving = await waiting(pair.server.receive())
    await pair.client.send(b"first")
    await until(lambda: pair.server._arrivals.kept is not None or receiving.done())
    if not receiving.done():
        receiving.cancel()
        await pair.client.send(b"second")
        outcome = await outcome_of(receiving)
        if isinstance(outcome, asyncio.CancelledError):
            assert (await pair.server.receive(timeout=0)).data == b"first"
        assert (await pair.server.receive(timeout=0)).data == b"second"


async def test_data_that_is_there_wins_over_a_limit_that_has_passed(pair: Pair) -> None:
    passed = netio.Deadline.at(asyncio.get_running_loop().time() - 1)
    await pair.client.send(b"x", timeout=passed)
    assert (await pair.server.receive(timeout=passed)).data == b"x"


async def test_a_limit_never_touches_the_cancel_count(pair: Pair) -> None:
    task = asyncio.current_task()
    assert task is not None
    with pytest.raises(netio.DeadlineExceeded):
        await pair.server.receive(timeout=0)
    assert task.cancelling() == 0


# Misuse. --------------------------------------------------------------------------------------


async def test_a_second_receiver_is_refused_and_the_first_goes_on(pair: Pair) -> None:
    receiving = await waiting(pair.server.receive())
    with pytest.raises(netio.StreamBusy, match="another task receives already"):
        await pair.server.receive()
    await pair.client.send(b"x")
    assert (await receiving).data == b"x"


async def test_closing_wakes_those_who_wait(place: Path) -> None:
    async with a_pair("unix") as (client, server):
        await fill(client)
        waits = [await waiting(client.send(b"x")), await waiting(client.receive())]
        client.close()
        client.close()
        await client.aclose()
        for task in waits:
            with pytest.raises(netio.StreamClosed, match="the socket was closed by this side"):
                await task
        for again in (client.send(b"x"), client.receive()):
            with pytest.raises(netio.StreamClosed):
                await again
        assert server.closed is False


async def test_the_wrong_one_of_send_and_send_to_says_which_is_right(pair: Pair) -> None:
    with pytest.raises(ValueError, match="send: the socket is not connected; use send_to"):
        await pair.server.send(b"x")
    with pytest.raises(ValueError, match=r"send_to: the socket is connected to .*; use send"):
        await pair.client.send_to(b"x", pair.server.local)


BAD_ADDRESSES = [
    (("localhost", 7), ValueError, "a name is looked up by connect_udp"),
    (("::1", 7), ValueError, "must be numeric, and of IPv4"),
    (("127.0.0.1", 0), ValueError, "the port must be from 1 to 65535"),
    (("127.0.0.1", 70000), ValueError, "the port must be from 1 to 65535"),
    (("127.0.0.1", "7"), TypeError, r"must be a tuple \(host, port\)"),
    ("127.0.0.1", TypeError, r"must be a tuple \(host, port\)"),
    (None, TypeError, r"must be a tuple \(host, port\)"),
    (["127.0.0.1", 7], TypeError, r"must be a tuple \(host, port\)"),
    (("127.0.0.1%lo", 7), ValueError, "must be numeric, and of IPv4"),  # the system looks it up
    (5, TypeError, r"must be a tuple \(host, port\)"),
]


@pytest.mark.parametrize(("address", "error", "text"), BAD_ADDRESSES)
async def test_an_address_that_is_none_is_refused(address: Any, error: Any, text: str) -> None:
    async with netio.bind_udp("127.0.0.1") as sock:
        for _ in range(2):
            with pytest.raises(error, match=text):
                await sock.send_to(b"x", address)


async def test_what_is_known_of_addresses_is_bounded() -> None:
    async with netio.bind_udp("127.0.0.1") as sock:
        for port in range(1, 1100):
            await sock.send_to(b"", ("127.0.0.2", port))
        assert len(sock._checked) < 1025


async def test_a_unix_socket_sends_to_paths_only(place: Path) -> None:
    async with netio.bind_unix_datagram(place / "s") as sock:
        with pytest.raises(TypeError, match="address must be a path"):
            await sock.send_to(b"x", ("127.0.0.1", 7))
        with pytest.raises(TypeError, match="address must be a path"):
            await sock.send_to(b"x", None)
        with pytest.raises(ValueError, match="address must be at most"):
            await sock.send_to(b"x", "x" * 200)
        await sock.send_to(b"x", str(place / "s"))
        assert (await sock.receive()).data == b"x"


@pytest.mark.parametrize(("kind", "most"), [("udp", 65507), ("udp6", 65527)])
async def test_a_datagram_that_is_larger_than_any_is_refused(kind: str, most: int) -> None:
    async with a_pair(kind) as (client, server):
        await client.send(b"x" * most)
        assert len((await server.receive()).data) == most
        for _ in range(2):
            with pytest.raises(ValueError, match=f"data has {most + 1} bytes; .* at most {most}"):
                await client.send(b"x" * (most + 1))
        assert client.statistics().sent == 1
        await client.send(b"fits")
        assert (await server.receive()).data == b"fits"


async def test_one_that_the_system_finds_too_large_says_so(place: Path) -> None:
    async with a_pair("unix") as (client, server):
        with pytest.raises(OSError, match=r"send\(10000000\) to .*/server: .* too many") as caught:
            await client.send(bytes(10_000_000))
        assert caught.value.errno == errno.EMSGSIZE
        await client.send(b"fits")
        assert (await server.receive()).data == b"fits"


async def test_what_is_no_buffer_is_refused(pair: Pair) -> None:
    with pytest.raises(TypeError, match="data must be bytes-like, not str"):
        await pair.client.send("text")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "call",
    [
        lambda **o: netio.bind_udp("127.0.0.1", **o),
        lambda **o: netio.connect_udp("127.0.0.1", 7, **o),
        lambda **o: netio.bind_unix_datagram("x", **o),
        lambda **o: netio.connect_unix_datagram("x", **o),
    ],
)
@pytest.mark.parametrize(
    "bad", [{"max_bytes": 0}, {"max_bytes": 1.5}, {"max_bytes": 2**40}, {"timeouts": None}]
)
def test_bad_arguments_are_refused_at_the_call(call: Any, bad: dict[str, Any]) -> None:
    [name] = bad
    with pytest.raises((TypeError, ValueError), match=name):
        call(**bad)


def test_a_host_and_a_port_are_checked_at_the_call() -> None:
    with pytest.raises(ValueError, match="port must be at least 1"):
        netio.connect_udp("127.0.0.1", 0)
    with pytest.raises(TypeError, match="host must be a str"):
        netio.bind_udp(None)  # type: ignore[arg-type]


async def test_another_loop_is_refused(pair: Pair) -> None:
    def elsewhere() -> None:
        async def use() -> None:
            for call in (pair.client.receive(), pair.client.send(b"x")):
                with pytest.raises(RuntimeError, match="the socket belongs to another event loop"):
                    await call
            with pytest.raises(RuntimeError, match="close: the socket belongs to another"):
                pair.client.close()

        asyncio.run(use())

    await asyncio.to_thread(elsewhere)
    assert not pair.client.closed


# Making them. ---------------------------------------------------------------------------------


async def test_a_port_in_use_is_an_error() -> None:
    async with netio.bind_udp("127.0.0.1") as sock:
        port = sock.local[1]  # type: ignore[index]
        with pytest.raises(OSError, match=f"bind_udp on 127.0.0.1:{port}: Address already"):
            await netio.bind_udp("127.0.0.1", port)


async def test_all_addresses_of_a_kind_are_bound_and_not_those_of_the_other() -> None:
    async with netio.bind_udp("::") as six:
        port = six.local[1]  # type: ignore[index]
        async with netio.bind_udp("0.0.0.0", port) as four:
            for host, sock in (("::1", six), ("127.0.0.1", four)):
                async with netio.connect_udp(host, port) as client:
                    await client.send(host.encode())
                    assert await sock.receive() == (host.encode(), client.local)


async def test_one_that_can_not_be_made_leaves_nothing_to_collect(place: Path) -> None:
    """A cycle would keep what the program has in hand until garbage is collected."""
    none = place / "none" / "s"
    makers: list[Callable[[], Any]] = [
        lambda: netio.bind_udp("192.0.2.1"),
        lambda: netio.connect_udp("255.255.255.255", 7),
        lambda: netio.bind_unix_datagram(none),
        lambda: netio.connect_unix_datagram(none),
        lambda: netio.connect_unix(none),
        lambda: netio.listen_unix(none),
    ]
    for make in makers:
        with contextlib.suppress(OSError):
            await make()  # what is made once is made by now
        gc.collect()
        gc.disable()
        try:
            with contextlib.suppress(OSError):
                await make()
            assert gc.collect() == 0
        finally:
            gc.enable()


async def test_a_name_is_looked_up() -> None:
    async with netio.bind_udp("localhost") as server:
        host, port = server.local[:2]  # type: ignore[index,misc]
        async with netio.connect_udp(host, port) as client:
            await client.send(b"x")
            assert (await server.receive()).data == b"x"
    with pytest.raises(netio.ConnectFailed, match="does not resolve"):
        await netio.connect_udp("name.invalid", 7)


async def test_the_way_to_nowhere_is_a_connect_that_failed() -> None:
    with pytest.raises(netio.ConnectFailed, match="connect_udp to ") as caught:
        await netio.connect_udp("255.255.255.255", 7)
    assert caught.value.attempts


async def test_files_of_unix_datagrams_are_as_those_of_listeners(place: Path) -> None:
    unix_paths.leave_stale(place / "s", socket.SOCK_DGRAM)
    async with netio.bind_unix_datagram(place / "s", mode=0o600):
        assert (place / "s").stat().st_mode & 0o777 == 0o600
        with pytest.raises(OSError, match="in use"):
            await netio.bind_unix_datagram(place / "s")
        unix_paths.leave_stale(place / "own", socket.SOCK_DGRAM)
        async with netio.connect_unix_datagram(place / "s", local_path=place / "own"):
            assert (place / "own").exists()
        assert not (place / "own").exists()
    assert not (place / "s").exists()
    with pytest.raises(netio.ConnectFailed, match="No such file"):
        await netio.connect_unix_datagram(place / "s", local_path=place / "own")
    assert not (place / "own").exists()


async def test_one_without_a_name_can_not_be_answered(place: Path) -> None:
    async with netio.bind_unix_datagram(place / "s") as server:
        async with netio.connect_unix_datagram(place / "s") as client:
            assert client.local is None
            await client.send(b"x")
            assert (await server.receive()).address is None


async def test_a_socket_that_you_have_is_taken_over() -> None:
    one, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    async with netio.open_datagrams(one) as near, netio.open_datagrams(other) as far:
        await near.send(b"x")
        assert (await far.receive()).data == b"x"
    with socket.socket() as stream, pytest.raises(ValueError, match="sock must be a datagram"):
        netio.open_datagrams(stream)
    with pytest.raises(TypeError, match="sock must be a plain socket"):
        netio.open_datagrams(5)  # type: ignore[arg-type]


# Fairness, and the end. -----------------------------------------------------------------------


async def test_an_endless_run_of_sends_and_receives_leaves_turns_for_others(pair: Pair) -> None:
    turns = 0

    async def count() -> None:
        nonlocal turns
        while True:
            await asyncio.sleep(0)
            turns += 1

    counting = asyncio.ensure_future(count())
    for _ in range(1000):
        await pair.client.send(b"x")
        await pair.server.receive(timeout=0)
    assert turns > 4
    turns = 0
    for _ in range(1000):
        with pytest.raises(netio.DeadlineExceeded):
            await pair.server.receive(timeout=0)
    assert turns > 2
    counting.cancel()


async def test_an_abandoned_socket_warns_and_is_closed() -> None:
    sock = await netio.bind_udp("127.0.0.1")
    channel = sock._channel
    with pytest.warns(ResourceWarning, match="unclosed <netio.DatagramSocket open"):  # noqa: PT031
        del sock
        gc.collect()
    await asyncio.sleep(0)
    assert channel.closed


async def test_a_flood_is_received_without_a_turn_for_each() -> None:
    async with a_pair("udp") as (client, server):
        for _ in range(100):
            await client.send(b"x")
        turns = 0

        async def count() -> None:
            nonlocal turns
            while True:
                await asyncio.sleep(0)
                turns += 1

        counting = asyncio.ensure_future(count())
        for _ in range(100):
            await server.receive()
        counting.cancel()
        assert turns < 30
