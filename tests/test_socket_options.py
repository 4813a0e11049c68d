"""SocketOptions and local addresses: set before they matter, and refused with their name."""

import asyncio
import dataclasses
import errno
import math
import socket
from collections.abc import Callable
from typing import Any

import pytest
from raw_sockets import HAS_IPV6

import netio
from netio.testing import Network

TCP, SOL = socket.IPPROTO_TCP, socket.SOL_SOCKET
LINUX = pytest.mark.skipif(not hasattr(socket, "TCP_USER_TIMEOUT"), reason="only Linux has it")

ALL = netio.SocketOptions(
    keepalive=True,
    keepalive_idle=7.2,
    keepalive_interval=3,
    keepalive_count=5,
    user_timeout=12.5,
    receive_buffer=20_000,
    send_buffer=30_000,
)


def told(view: Any) -> dict[str, Any]:
    return {
        "nodelay": bool(view.getsockopt(TCP, socket.TCP_NODELAY)),
        "keepalive": bool(view.getsockopt(SOL, socket.SO_KEEPALIVE)),
        "idle": view.getsockopt(TCP, socket.TCP_KEEPIDLE),
        "interval": view.getsockopt(TCP, socket.TCP_KEEPINTVL),
        "count": view.getsockopt(TCP, socket.TCP_KEEPCNT),
        "user_timeout": view.getsockopt(TCP, socket.TCP_USER_TIMEOUT),
        "receive_buffer": view.getsockopt(SOL, socket.SO_RCVBUF),
        "send_buffer": view.getsockopt(SOL, socket.SO_SNDBUF),
    }


EXPECTED = {
    "nodelay": True,
    "keepalive": True,
    "idle": 8,  # whole seconds, and not sooner than said
    "interval": 3,
    "count": 5,
    "user_timeout": 12_500,
    "receive_buffer": 40_000,  # Linux takes twice that, for itself
    "send_buffer": 60_000,
}


async def echo(stream: netio.Stream) -> None:
    seen.append(told(stream.socket))
    async for chunk in stream.chunks():
        await stream.write(chunk)


seen: list[dict[str, Any]] = []


@LINUX
@pytest.mark.parametrize("given", ["an address", "a socket"])
async def test_they_are_set_on_what_connects_and_what_is_accepted(given: str) -> None:
    seen.clear()
    sock = None
    if given == "a socket":
        sock = socket.socket()
        sock.bind(("127.0.0.1", 0))
    host = None if sock else "127.0.0.1"
    async with netio.serve_tcp(echo, host, sock=sock, options=ALL) as server:
        async with netio.connect_tcp("127.0.0.1", server.port, options=ALL) as stream:
            await stream.write(b"x")
            await stream.read_exactly(1)
            assert told(stream.socket) == EXPECTED
        assert seen == [EXPECTED]
    async with netio.listen_tcp("127.0.0.1", options=ALL) as listener:
        async with netio.connect_tcp("127.0.0.1", listener.port):
            async with await listener.accept() as stream:
                assert told(stream.socket) == EXPECTED


@LINUX
async def test_small_messages_are_sent_at_once_unless_that_is_said() -> None:
    off = netio.SocketOptions(nodelay=False)
    for options, nodelay in ((netio.SocketOptions(), True), (off, False)):
        async with netio.listen_tcp("127.0.0.1", options=options) as listener:
            async with netio.connect_tcp("127.0.0.1", listener.port, options=options) as stream:
                assert told(stream.socket)["nodelay"] == nodelay
                async with await listener.accept() as stream:
                    assert told(stream.socket)["nodelay"] == nodelay


async def test_a_buffer_of_a_datagram_socket_is_set() -> None:
    options = netio.SocketOptions(receive_buffer=20_000, send_buffer=30_000)
    async with netio.bind_udp("127.0.0.1", options=options) as server:
        port = server.local[1]  # type: ignore[index]
        async with netio.connect_udp("127.0.0.1", port, options=options) as client:
            for sock in (server, client):
                assert sock.socket.getsockopt(SOL, socket.SO_RCVBUF) == 40_000
                assert sock.socket.getsockopt(SOL, socket.SO_SNDBUF) == 60_000


async def test_a_port_is_shared_by_those_who_say_so() -> None:
    shared = netio.SocketOptions(reuse_port=True)
    async with netio.listen_tcp("127.0.0.1", options=shared) as first:
        async with netio.listen_tcp("127.0.0.1", first.port, options=shared) as second:
            assert second.port == first.port
        with pytest.raises(OSError, match="in use"):
            await netio.listen_tcp("127.0.0.1", first.port)
    async with netio.bind_udp("127.0.0.1", options=shared) as sock:
        port = sock.local[1]  # type: ignore[index]
        async with netio.bind_udp("127.0.0.1", port, options=shared):
            pass
        with pytest.raises(OSError, match="in use"):
            await netio.bind_udp("127.0.0.1", port)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (netio.SocketOptions(), True),
        (netio.SocketOptions(reuse_address=True), True),
        (netio.SocketOptions(reuse_address=False), False),
    ],
)
async def test_an_address_is_used_again_by_listeners_unless_that_is_said(
    options: netio.SocketOptions, expected: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with netio.listen_tcp("127.0.0.1", options=options) as listener:
        [(acceptor, _)] = listener._acceptors
        sock: socket.socket = acceptor._sock  # type: ignore[attr-defined]
        assert bool(sock.getsockopt(SOL, socket.SO_REUSEADDR)) == expected


# Bad ones. ------------------------------------------------------------------------------------

BAD: list[tuple[dict[str, Any], type[Exception], str]] = [
    ({"nodelay": 1}, TypeError, "nodelay must be a bool"),
    ({"keepalive": None}, TypeError, "keepalive must be a bool"),
    ({"reuse_address": "yes"}, TypeError, "reuse_address must be a bool"),
    ({"reuse_port": 0}, TypeError, "reuse_port must be a bool"),
    ({"keepalive_idle": 5}, ValueError, "keepalive_idle needs keepalive=True"),
    ({"keepalive": True, "keepalive_idle": 0}, ValueError, "keepalive_idle must be more than 0"),
    ({"keepalive": True, "keepalive_idle": math.inf}, ValueError, "keepalive_idle must be more"),
    (
        {"keepalive": True, "keepalive_interval": math.nan},
        ValueError,
        "keepalive_interval must not",
    ),
    ({"keepalive": True, "keepalive_interval": "5"}, TypeError, "keepalive_interval must be a num"),
    ({"keepalive": True, "keepalive_count": 0}, ValueError, "keepalive_count must be at least 1"),
    ({"keepalive": True, "keepalive_count": 128}, ValueError, "keepalive_count must be at most"),
    ({"keepalive": True, "keepalive_count": 1.5}, TypeError, "keepalive_count must be an int"),
    ({"user_timeout": -1}, ValueError, "user_timeout must be more than 0 seconds"),
    ({"receive_buffer": 0}, ValueError, "receive_buffer must be at least 1"),
    ({"send_buffer": True}, TypeError, "send_buffer must be an int"),
    ({"send_buffer": 2**40}, ValueError, "send_buffer must be at most 2147483647"),
]


@pytest.mark.parametrize(("values", "error", "text"), BAD)
def test_a_bad_value_is_named(values: dict[str, Any], error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=f"SocketOptions.{text}"):
        netio.SocketOptions(**values)


def test_they_are_one_immutable_object() -> None:
    options = netio.SocketOptions()
    with pytest.raises(dataclasses.FrozenInstanceError):
        options.nodelay = False  # type: ignore[misc]
    assert dataclasses.replace(options, nodelay=False).nodelay is False


CALLS: list[Callable[..., object]] = [
    lambda **o: netio.connect_tcp("127.0.0.1", 7, **o),
    lambda **o: netio.serve_tcp(echo, **o),
    lambda **o: netio.listen_tcp(**o),
    lambda **o: netio.bind_udp("127.0.0.1", **o),
    lambda **o: netio.connect_udp("127.0.0.1", 7, **o),
]


@pytest.mark.parametrize("call", CALLS)
def test_what_are_none_is_refused_at_the_call(call: Callable[..., object]) -> None:
    with pytest.raises(TypeError, match=r"options must be netio\.SocketOptions, not dict"):
        call(options={"nodelay": True})


@pytest.mark.parametrize("call", CALLS[:3])
def test_what_this_system_has_not_is_an_error_at_the_call(
    call: Callable[..., object], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(socket, "TCP_USER_TIMEOUT", raising=False)
    options = netio.SocketOptions(user_timeout=5)
    with pytest.raises(ValueError, match="user_timeout: this system has no TCP_USER_TIMEOUT"):
        call(options=options)


@pytest.mark.parametrize("call", CALLS[3:])
@pytest.mark.parametrize(
    "options", [netio.SocketOptions(keepalive=True), netio.SocketOptions(user_timeout=1)]
)
def test_what_is_of_tcp_is_refused_for_datagrams(
    call: Callable[..., object], options: netio.SocketOptions
) -> None:
    with pytest.raises(ValueError, match="is an option of TCP"):
        call(options=options)


async def test_what_the_system_refuses_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: Any, sock: socket.socket) -> None:
        sock.setsockopt(TCP, socket.TCP_KEEPCNT, 1000)

    from netio._options import Setting

    bad = Setting("keepalive_count", TCP, socket.TCP_KEEPCNT, 1000)
    monkeypatch.setattr("netio._network.connection_settings", lambda options: (bad,))
    options = netio.SocketOptions(keepalive=True)
    with pytest.raises(netio.ConnectFailed, match=r"SocketOptions\.keepalive_count: Invalid"):
        await netio.connect_tcp("127.0.0.1", 7, options=options)
    sock = socket.socket()
    sock.bind(("127.0.0.1", 0))
    with sock, pytest.raises(OSError, match=r"SocketOptions\.keepalive_count: Invalid"):
        await netio.listen_tcp(sock=sock, options=options)


@pytest.mark.virtual_clock
async def test_a_network_in_memory_has_no_sockets_to_set_them_on() -> None:
    network = Network()
    async with netio.listen_tcp("127.0.0.1", network=network, options=ALL) as listener:
        async with netio.connect_tcp("127.0.0.1", listener.port, network=network, options=ALL):
            (await listener.accept()).abort()


# The address that a connection comes from. ----------------------------------------------------


@pytest.mark.parametrize("local", ["127.0.0.3", ("127.0.0.3", 0)])
async def test_a_connection_comes_from_the_address_that_was_said(local: Any) -> None:
    async with netio.listen_tcp("127.0.0.1") as listener:
        making = netio.connect_tcp("127.0.0.1", listener.port, local_address=local)
        async with making as stream, await listener.accept() as accepted:
            assert stream.local[0] == "127.0.0.3"  # type: ignore[index]
            assert accepted.peer == stream.local


async def test_a_connection_comes_from_the_port_that_was_said_also_again() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    async with netio.listen_tcp("127.0.0.1") as listener:
        for _ in range(2):  # the first one has left something behind, for a minute
            async with netio.connect_tcp(
                "127.0.0.1", listener.port, local_address=("127.0.0.1", port)
            ) as stream:
                assert stream.local == ("127.0.0.1", port)
                async with await listener.accept() as accepted:
                    await stream.write_eof()
                    assert await accepted.read_some() == b""
                    await accepted.write_eof()
                    assert await stream.read_some() == b""


async def test_an_address_of_another_machine_is_a_connect_that_failed() -> None:
    with pytest.raises(
        netio.ConnectFailed, match=r"local_address 192\.0\.2\.1:0: Cannot"
    ) as caught:
        await netio.connect_tcp("127.0.0.1", 7, local_address="192.0.2.1")
    assert caught.value.errno == errno.EADDRNOTAVAIL


@pytest.mark.skipif(not HAS_IPV6, reason="no IPv6 here")
async def test_an_address_of_the_other_family_is_passed_over() -> None:
    with pytest.raises(netio.ConnectFailed, match="is of another family") as caught:
        await netio.connect_tcp("127.0.0.1", 7, local_address="::1")
    assert caught.value.errno == errno.EAFNOSUPPORT
    async with netio.listen_tcp("::1") as listener:
        async with netio.connect_tcp("::1", listener.port, local_address="::1") as stream:
            assert stream.local[0] == "::1"  # type: ignore[index]


@pytest.mark.parametrize(
    ("local", "error", "text"),
    [
        ("localhost", ValueError, "local_address must be numeric"),
        ("127.0.0.1%lo", ValueError, "local_address must be numeric"),  # which is looked up
        (5, TypeError, "local_address must be a host"),
        (("127.0.0.1",), TypeError, "local_address must be a host"),
        (("127.0.0.1", "7"), TypeError, "port must be an int"),
        (("127.0.0.1", 70000), ValueError, "port must be at most 65535"),
    ],
)
def test_an_address_that_is_none_is_refused_at_the_call(
    local: Any, error: type[Exception], text: str
) -> None:
    with pytest.raises(error, match=text):
        netio.connect_tcp("127.0.0.1", 7, local_address=local)


def test_another_network_has_addresses_of_its_own() -> None:
    with pytest.raises(ValueError, match="local_address is of the system's network"):
        netio.connect_tcp("10.0.0.1", 7, local_address="10.0.0.2", network=Network())


async def test_a_failed_connect_from_a_local_address_leaves_no_socket() -> None:
    for _ in range(3):
        with pytest.raises(netio.ConnectFailed):
            await netio.connect_tcp("127.0.0.1", 1, local_address="127.0.0.1")
    await asyncio.sleep(0)
