"""Connecting: addresses in order, one deadline over all, every failure kept, bad input named."""

import asyncio
import errno
import math
import pickle
import socket
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from raw_sockets import BAD_SOCKS, HAS_IPV6, bad_sock, reset
from streams import outcome_of, tcp_sockets
from virtual import virtual_loop

import netio
from netio import _attempts, _network
from netio.testing import Link, Network, assert_fired, faults

NAMES = {"server": "10.0.0.1"}


async def echo(stream: netio.Stream) -> None:
    async for chunk in stream.chunks():
        await stream.write(chunk)


@pytest.fixture
async def server() -> AsyncIterator[netio.Server]:
    async with netio.serve_tcp(echo, "127.0.0.1", grace=0) as server:
        yield server


@pytest.fixture
def port(server: netio.Server) -> int:
    return server.addresses[0][1]


@pytest.fixture
def refused_port() -> Iterator[int]:
    """Nobody listens there, and nobody else gets it."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        yield sock.getsockname()[1]


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> dict[str, list[str]]:
    """Names and their addresses, besides those that the system knows."""
    names: dict[str, list[str]] = {}
    original = socket.getaddrinfo

    def lookup(host: str, port: int, **options: Any) -> list[Any]:
        if host not in names:
            return original(host, port, **options)
        if options.get("flags", 0) & socket.AI_NUMERICHOST:
            raise socket.gaierror(socket.EAI_NONAME, "not numeric")
        return [
            (socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in names[host]
        ]

    monkeypatch.setattr(socket, "getaddrinfo", lookup)
    return names


# It works. -------------------------------------------------------------------------------------


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
async def test_a_connection_carries_bytes_both_ways(port: int, host: str) -> None:
    async with netio.connect_tcp(host, port, timeout=5) as stream:
        await stream.write(b"hello")
        assert await stream.read_exactly(5) == b"hello"
        assert stream.peer == ("127.0.0.1", port)
        assert stream.socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
    assert stream.closed


async def test_it_can_be_awaited_and_closed_by_hand(port: int) -> None:
    stream = await netio.connect_tcp("127.0.0.1", port)
    await stream.aclose()


@pytest.mark.any_clock
async def test_the_settings_reach_the_stream(port: int) -> None:
    timeouts = netio.Timeouts(read=0.01)
    async with netio.connect_tcp("127.0.0.1", port, timeouts=timeouts, limit=5) as stream:
        assert stream.timeouts is timeouts
        with pytest.raises(netio.DeadlineExceeded):
            await stream.read_some()
        await stream.write(b"too long\n")
        with pytest.raises(netio.LimitExceeded):
            await stream.read_line(timeout=5)


@pytest.mark.skipif(not HAS_IPV6, reason="no IPv6 on this machine")
async def test_ipv6_is_a_host_like_any_other() -> None:
    async with netio.serve_tcp(echo, "::1", grace=0) as server:
        async with netio.connect_tcp("::1", server.addresses[0][1]) as stream:
            assert stream.peer[0] == "::1"  # type: ignore[index]


async def test_addresses_are_tried_in_order_until_one_answers(
    names: dict[str, list[str]], port: int
) -> None:
    names["many.example"] = ["127.0.0.2", "127.0.0.3", "127.0.0.1"]
    async with netio.connect_tcp("many.example", port) as stream:
        assert stream.peer == ("127.0.0.1", port)


async def test_an_address_that_is_listed_twice_is_tried_once(
    names: dict[str, list[str]], refused_port: int
) -> None:
    names["twice.example"] = ["127.0.0.1", "127.0.0.1"]
    with pytest.raises(netio.ConnectFailed) as caught:
        await netio.connect_tcp("twice.example", refused_port)
    assert len(caught.value.attempts) == 1


# It fails, and says all of it. -----------------------------------------------------------------


async def test_a_refused_port_is_told_with_its_address(refused_port: int) -> None:
    with pytest.raises(netio.ConnectFailed, match=f"127.0.0.1:{refused_port}") as caught:
        await netio.connect_tcp("127.0.0.1", refused_port)
    [attempt] = caught.value.attempts
    assert isinstance(attempt, ConnectionRefusedError)
    assert str(refused_port) in str(attempt)
    assert caught.value.errno == errno.ECONNREFUSED


async def test_every_address_that_failed_is_told(
    names: dict[str, list[str]], refused_port: int
) -> None:
    names["many.example"] = ["127.0.0.1", "127.0.0.2", "127.0.0.3"]
    with pytest.raises(netio.ConnectFailed, match="tried 3 addresses") as caught:
        await netio.connect_tcp("many.example", refused_port)
    assert len(caught.value.attempts) == 3
    for attempt, address in zip(caught.value.attempts, names["many.example"], strict=True):
        assert address in str(attempt)
        assert isinstance(attempt, ConnectionRefusedError)
    again = pickle.loads(pickle.dumps(caught.value))
    assert [str(e) for e in again.attempts] == [str(e) for e in caught.value.attempts]


async def test_a_name_that_does_not_resolve_is_a_failed_connect(
    names: dict[str, list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    def unknown(host: str, port: int, **options: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    with pytest.raises(netio.ConnectFailed, match=r"nowhere\.example.* does not resolve") as caught:
        await netio.connect_tcp("nowhere.example", 80)
    [attempt] = caught.value.attempts
    assert isinstance(attempt, socket.gaierror)


async def test_a_name_without_addresses_is_a_failed_connect(names: dict[str, list[str]]) -> None:
    names["empty.example"] = []
    with pytest.raises(netio.ConnectFailed, match="no address"):
        await netio.connect_tcp("empty.example", 80)


async def test_a_port_of_our_own_that_would_connect_to_itself_is_refused() -> None:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        sock.connect(sock.getsockname())
        with pytest.raises(ConnectionRefusedError):
            _attempts._refuse_self_connection(sock)


async def test_a_connect_that_did_not_begin_has_failed(
    port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """EAGAIN of connect means that there is no free port: waiting for it would never end."""

    class Full(socket.socket):
        def connect_ex(self, address: object) -> int:
            return errno.EAGAIN

    monkeypatch.setattr(_network.socket, "socket", Full)
    with pytest.raises(netio.ConnectFailed) as caught:
        await netio.connect_tcp("127.0.0.1", port, timeout=5)
    assert caught.value.errno == errno.EAGAIN


async def test_no_free_descriptor_is_a_failed_connect(
    port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def none_free(*_: object) -> None:
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr(_network.socket, "socket", none_free)
    with pytest.raises(netio.ConnectFailed) as caught:
        await netio.connect_tcp("127.0.0.1", port)
    assert caught.value.errno == errno.EMFILE


async def test_an_error_of_a_foreign_class_keeps_its_message_and_cause() -> None:
    class Odd(OSError):
        def __init__(self) -> None:
            super().__init__("odd")

    class Odder(Network):
        def begin_dial(self, *_: object) -> Any:
            raise Odd

    with pytest.raises(netio.ConnectFailed, match="odd") as caught:
        await netio.connect_tcp("10.0.0.1", 80, network=Odder())
    assert isinstance(caught.value.attempts[0].__cause__, Odd)


# Limits, on a network in memory and in virtual time. -------------------------------------------


@pytest.mark.virtual_clock
async def test_connecting_and_serving_work_on_another_network_unchanged() -> None:
    network = Network(names=NAMES)
    async with netio.serve_tcp(echo, "server", 7000, network=network) as server:
        assert server.addresses == (("10.0.0.1", 7000),)
        async with netio.connect_tcp("server", 7000, network=network) as stream:
            await stream.write(b"in memory")
            assert await stream.read_exactly(9) == b"in memory"
            assert stream.peer == ("10.0.0.1", 7000)
        await asyncio.sleep(0.1)
        assert server.connections == ()
    with pytest.raises(netio.ConnectFailed, match="refused"):
        await netio.connect_tcp("server", 7000, network=network)
    with pytest.raises(netio.ConnectFailed, match="does not resolve"):
        await netio.connect_tcp("unknown", 7000, network=network)


@pytest.mark.virtual_clock
async def test_an_attempt_that_is_not_answered_leaves_time_for_the_next_address() -> None:
    network = Network(names={"dual": ["10.0.0.1", "10.0.0.2"], "server": "10.0.0.2"})
    hole = faults.BlackHole()
    network.add(hole, to="10.0.0.1")
    async with netio.serve_tcp(echo, "server", 7000, network=network):
        timeouts = netio.Timeouts(attempt=0.125)
        async with netio.connect_tcp("dual", 7000, timeouts=timeouts, network=network) as stream:
            assert stream.peer == ("10.0.0.2", 7000)
        assert virtual_loop().time() == 0.125
    assert_fired(hole)


DUAL = ["10.0.0.1", "10.0.0.2", "fd00::1", "10.0.0.3", "fd00::2"]


@pytest.mark.parametrize(
    ("listed", "tried"),
    [
        (DUAL, ["10.0.0.1", "fd00::1", "10.0.0.2", "fd00::2", "10.0.0.3"]),
        (DUAL[::-1], ["fd00::2", "10.0.0.3", "fd00::1", "10.0.0.2", "10.0.0.1"]),
        (DUAL[:2], ["10.0.0.1", "10.0.0.2"]),
    ],
)
@pytest.mark.virtual_clock
async def test_families_take_turns_and_the_order_within_each_is_kept(
    listed: list[str], tried: list[str]
) -> None:
    with pytest.raises(netio.ConnectFailed) as caught:
        await netio.connect_tcp("dual", 1, network=Network(names={"dual": listed}))
    assert len(caught.value.attempts) == len(tried)
    for attempt, address in zip(caught.value.attempts, tried, strict=True):
        assert address in str(attempt)


@pytest.mark.virtual_clock
async def test_the_next_address_is_tried_after_a_quarter_of_a_second_beside_the_first() -> None:
    """The first one answers in the end, and is taken: it was not given up."""
    network = Network(
        names={"dual": ["10.0.0.1", "10.0.0.2", "10.0.0.3"]},
        links={"10.0.0.1": Link(latency=0.375), "10.0.0.2": Link(latency=0.375)},
        record=True,
    )
    async with netio.serve_tcp(echo, "10.0.0.1", 7, network=network):
        async with netio.connect_tcp("dual", 7, network=network) as stream:
            assert stream.peer == ("10.0.0.1", 7)
            assert virtual_loop().time() == 0.75
    begun = [event.time for event in network.events if event.what == "connect"]
    assert begun == [0.0, 0.25, 0.5]


@pytest.mark.virtual_clock
async def test_a_cancel_says_which_addresses_had_failed_until_then() -> None:
    network = Network(names={"dual": ["10.0.0.1", "10.0.0.2"]})
    network.add(faults.BlackHole(), to="10.0.0.2")
    with pytest.raises(netio.DeadlineExceeded) as caught:
        async with netio.timeout(1):
            await netio.connect_tcp("dual", 7, network=network)
    [attempt] = caught.value.attempts
    assert "10.0.0.1:7" in str(attempt)


@pytest.mark.virtual_clock
async def test_all_attempts_unanswered_are_a_failed_connect_with_each_of_them() -> None:
    network = Network(names={"dark": ["10.0.0.1", "10.0.0.2"]})
    network.add(faults.BlackHole())
    with pytest.raises(netio.ConnectFailed) as caught:
        await netio.connect_tcp("dark", 1, timeouts=netio.Timeouts(attempt=3), network=network)
    assert virtual_loop().time() == 3.25
    assert [error.limit for error in caught.value.attempts] == ["attempt"] * 2  # type: ignore


@pytest.mark.parametrize("limit", ["call", "connect", "deadline"])
@pytest.mark.virtual_clock
async def test_one_deadline_over_all_names_its_limit_and_the_attempts(limit: str) -> None:
    network = Network(names={"dark": ["10.0.0.9", "10.0.0.1", "10.0.0.2"]})
    network.add(faults.BlackHole(), to="10.0.0.1")
    network.add(faults.BlackHole(), to="10.0.0.2")
    timeouts = netio.Timeouts(attempt=4.875, connect=5)
    options: dict[str, Any] = {
        "call": {"timeout": 5},
        "connect": {},
        "deadline": {"timeout": netio.Deadline.after(5)},
    }[limit]
    with pytest.raises(netio.DeadlineExceeded, match="tried 3 addresses") as caught:
        await netio.connect_tcp("dark", 1, timeouts=timeouts, network=network, **options)
    error = caught.value
    assert virtual_loop().time() == 5.0
    assert (error.limit, error.seconds, error.elapsed) == (limit, 5.0, 5.0)
    assert error.peer == ("dark", 1)
    refused, first, second = error.attempts
    assert isinstance(refused, ConnectionRefusedError)
    assert isinstance(first, netio.DeadlineExceeded)
    assert isinstance(second, netio.DeadlineExceeded)
    assert "10.0.0.1" in str(first)
    assert (first.limit, second.limit) == ("attempt", limit)


@pytest.mark.virtual_clock
async def test_a_slow_lookup_is_cut_by_its_own_limit() -> None:
    network = Network(names=NAMES, lookup_seconds=60)
    with pytest.raises(netio.DeadlineExceeded) as caught:
        await netio.connect_tcp("server", 1, network=network)
    assert (virtual_loop().time(), caught.value.limit) == (10.0, "resolve")


@pytest.mark.virtual_clock
async def test_a_slow_lookup_is_cut_by_the_limit_over_all() -> None:
    network = Network(names=NAMES, lookup_seconds=60)
    with pytest.raises(netio.DeadlineExceeded, match="looked up") as caught:
        await netio.connect_tcp("server", 1, timeout=4, network=network)
    assert (virtual_loop().time(), caught.value.limit) == (4.0, "call")


@pytest.mark.virtual_clock
async def test_the_lookup_and_the_attempts_share_one_deadline() -> None:
    network = Network(names=NAMES, lookup_seconds=2)
    network.add(faults.BlackHole(), to="server")
    with pytest.raises(netio.DeadlineExceeded) as caught:
        await netio.connect_tcp("server", 1, timeout=5, network=network)
    assert virtual_loop().time() == 5.0
    assert len(caught.value.attempts) == 1


@pytest.mark.virtual_clock
async def test_no_limit_means_none() -> None:
    network = Network(names=NAMES)
    network.add(faults.BlackHole(), to="server")
    timeouts = netio.Timeouts(connect=None, attempt=None, resolve=None)
    with pytest.raises(netio.DeadlineExceeded) as caught:
        async with netio.timeout(1e6):
            await netio.connect_tcp("server", 1, timeouts=timeouts, network=network)
    assert caught.value.limit == "scope"
    assert virtual_loop().time() == 1e6


# Sockets handed over. --------------------------------------------------------------------------


async def test_open_stream_takes_a_connected_socket_over() -> None:
    near, far = tcp_sockets()
    with far:
        async with netio.open_stream(near, timeouts=netio.Timeouts(read=1), limit=10) as stream:
            assert near.gettimeout() == 0
            assert stream.peer == far.getsockname()
            far.send(b"x")
            assert await stream.read_some() == b"x"
        assert near.fileno() == -1


async def test_open_stream_takes_a_socket_that_was_reset_meanwhile() -> None:
    near, far = tcp_sockets()
    reset(far, near)
    async with netio.open_stream(near) as stream:
        with pytest.raises(netio.ConnectionLost):
            await stream.read_some()


@pytest.mark.parametrize("kind", set(BAD_SOCKS) - {"blocking", "with a timeout"})
async def test_open_stream_refuses_a_socket_that_will_not_do(kind: str) -> None:
    expected, message = BAD_SOCKS[kind]
    with bad_sock(kind) as sock, pytest.raises(expected, match=message):
        netio.open_stream(sock)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"limit": 0}, ValueError),
        ({"limit": "1"}, TypeError),
        ({"timeouts": None}, TypeError),
        ({"timeouts": 5}, TypeError),
    ],
)
async def test_open_stream_leaves_the_socket_alone_when_an_argument_is_wrong(
    options: dict[str, Any], expected: type[Exception]
) -> None:
    near, far = tcp_sockets()
    with near, far:
        with pytest.raises(expected, match=next(iter(options))):
            netio.open_stream(near, **options)
        assert near.fileno() >= 0
        assert near.gettimeout() is None
        with pytest.raises(expected, match=next(iter(options))):
            netio.stream_pair(**options)


def test_open_stream_without_a_loop_leaves_the_socket_alone() -> None:
    near, far = socket.socketpair()
    with near, far:
        with pytest.raises(RuntimeError, match="loop"):
            netio.open_stream(near)
        with pytest.raises(RuntimeError, match="loop"):
            netio.stream_pair()
        assert near.gettimeout() is None


async def test_stream_pair_is_two_connected_ends() -> None:
    one, other = netio.stream_pair(timeouts=netio.Timeouts(read=3), limit=100)
    async with one, other:
        await one.write(b"there")
        await other.write(b"back")
        assert (await other.read_exactly(5), await one.read_exactly(4)) == (b"there", b"back")
        assert one.timeouts.read == 3


# Bad input, at the call. -----------------------------------------------------------------------

BAD_ARGUMENTS: list[tuple[dict[str, Any], type[Exception], str]] = [
    ({"port": 0}, ValueError, "port"),
    ({"port": 70000}, ValueError, "port"),
    ({"port": -1}, ValueError, "port"),
    ({"port": "x"}, TypeError, "port"),
    ({"port": "80"}, TypeError, "port"),
    ({"port": None}, TypeError, "port"),
    ({"port": 80.0}, TypeError, "port"),
    ({"host": ""}, ValueError, "host"),
    ({"host": None}, TypeError, "host"),
    ({"host": b"localhost"}, TypeError, "host"),
    ({"host": "a\0b"}, ValueError, "host"),
    ({"host": "a\nb"}, ValueError, "host"),
    ({"host": "x" * 64 + ".example"}, ValueError, "host"),
    ({"host": "a..b"}, ValueError, "host"),
    ({"host": "\udc80"}, ValueError, "host"),
    ({"host": "a b"}, ValueError, "host"),
    ({"host": "[::1]"}, ValueError, "host"),
    ({"host": "http://localhost/"}, ValueError, "host"),
    ({"host": "me@localhost"}, ValueError, "host"),
    ({"timeout": "5"}, TypeError, "timeout"),
    ({"timeout": [5]}, TypeError, "timeout"),
    ({"timeout": math.nan}, ValueError, "timeout"),
    ({"timeout": netio.Timeouts()}, TypeError, "timeout"),
    ({"timeouts": 5}, TypeError, "timeouts"),
    ({"timeouts": None}, TypeError, "timeouts"),
    ({"limit": 0}, ValueError, "limit"),
    ({"limit": -1}, ValueError, "limit"),
    ({"limit": "64k"}, TypeError, "limit"),
    ({"limit": True}, TypeError, "limit"),
    ({"limit": None}, TypeError, "limit"),
    ({"network": "lan"}, TypeError, "network"),
    ({"network": socket}, TypeError, "network"),
]


@pytest.mark.parametrize(("wrong", "expected", "name"), BAD_ARGUMENTS)
def test_a_bad_argument_is_named_at_the_call(
    wrong: dict[str, Any], expected: type[Exception], name: str
) -> None:
    """There is no loop here, and nothing to await: it is the call itself that raises."""
    with pytest.raises(expected, match=rf"\b{name}\b"):
        netio.connect_tcp(**{"host": "localhost", "port": 80} | wrong)


@pytest.mark.parametrize("kind", ["connect", "resolve", "attempt", "read", "write", "close"])
@pytest.mark.parametrize(
    ("value", "expected"),
    [("1", TypeError), (0, ValueError), (-1, ValueError), (math.nan, ValueError)],
)
def test_a_bad_limit_of_a_connection_is_named(
    kind: str, value: Any, expected: type[Exception]
) -> None:
    with pytest.raises(expected, match=kind):
        netio.Timeouts(**{kind: value})


async def test_a_connection_that_was_reset_at_once_ends_in_a_clear_error() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.setblocking(False)
        opening = netio.connect_tcp("127.0.0.1", listening.getsockname()[1])
        async with opening as stream:
            peer, _ = listening.accept()
            peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            peer.close()
            error = await outcome_of(stream.read_some(timeout=5))
    assert isinstance(error, netio.ConnectionReset)
