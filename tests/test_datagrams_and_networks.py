"""Datagrams and the network: what it says about them, and to whom; and datagrams for many."""

import asyncio
import errno
import socket
from pathlib import Path
from typing import Any

import pytest
import unix_paths
from datagrams import until, waiting
from raw_sockets import HAS_IPV6
from streams import outcome_of

import netio
from netio._turns import turns_of

place = unix_paths.place

pytestmark = pytest.mark.skipif(not HAS_IPV6, reason="the tests of all kinds need IPv6")


# What it says. -----------------------------------------------------------------------------------


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
async def test_a_port_that_nobody_has_is_told_once_and_the_socket_stays_usable(host: str) -> None:
    async with netio.bind_udp(host) as gone:
        port = gone.local[1]  # type: ignore[index]
    async with netio.connect_udp(host, port) as client:
        for direction in ("receive", "send", "receive that waits"):
            receiving = await waiting(client.receive()) if "waits" in direction else None
            await client.send(b"anybody?")
            if receiving is None:
                call = client.receive() if direction == "receive" else client.send(b"again")
            else:
                call = receiving
            with pytest.raises(netio.ConnectionRefused, match="refused") as caught:
                await call
            assert caught.value.errno == errno.ECONNREFUSED
            assert isinstance(caught.value, netio.ConnectionLost)
            assert isinstance(caught.value, ConnectionRefusedError)
            with pytest.raises(netio.DeadlineExceeded):
                await client.receive(timeout=0)
        assert client.statistics().sent == 3
        async with netio.bind_udp(host, port) as server:
            await client.send(b"there you are")
            assert (await server.receive()).data == b"there you are"
            await server.send_to(b"yes", client.local)
            assert (await client.receive()).data == b"yes"


async def test_an_error_that_a_cancelled_receive_met_is_for_the_next_call() -> None:
    async with netio.bind_udp("127.0.0.1") as gone:
        port = gone.local[1]  # type: ignore[index]
    async with netio.connect_udp("127.0.0.1", port) as client:
        receiving = await waiting(client.receive())
        await client.send(b"anybody?")
        await until(lambda: client._arrivals.failure is not None or receiving.done())
        receiving.cancel()
        outcome = await outcome_of(receiving)
        if isinstance(outcome, asyncio.CancelledError):
            with pytest.raises(netio.ConnectionRefused):
                await client.send(b"next")
        else:
            assert isinstance(outcome, netio.ConnectionRefused)
        await client.send(b"sent")


async def in_line(sock: netio.DatagramSocket, send: Any) -> asyncio.Task[None]:
    """A send that has met an error, and waits a turn before it raises it."""
    task = asyncio.ensure_future(send)
    if not sock._departures._lines:
        await asyncio.sleep(0)
    assert sock._departures._lines
    return task


async def test_an_error_that_a_cancelled_send_met_is_for_the_next_call() -> None:
    async with netio.bind_udp("127.0.0.1") as gone:
        port = gone.local[1]  # type: ignore[index]
    async with netio.connect_udp("127.0.0.1", port) as client:
        await client.send(b"anybody?")
        await asyncio.sleep(0)
        turns_of(asyncio.get_running_loop()).credit = 1
        sending = await in_line(client, client.send(b"again"))
        sending.cancel()
        outcome = await outcome_of(sending)
        assert isinstance(outcome, asyncio.CancelledError)
        assert outcome.done == 0  # type: ignore[attr-defined]
        with pytest.raises(netio.ConnectionRefused):
            await client.receive()


async def test_an_error_of_one_send_is_told_to_no_other_call(place: Path) -> None:
    """A send that fails while the loop's credit is used up has to wait a turn first."""
    async with netio.bind_unix_datagram(place / "s") as sock:
        for other in ("send", "receive"):
            turns_of(asyncio.get_running_loop()).credit = 1
            failing = await in_line(sock, sock.send_to(b"x", str(place / "none")))
            await sock.send_to(other.encode(), str(place / "s"))
            if other == "receive":
                assert (await sock.receive()).data == b"send"
            with pytest.raises(netio.ConnectionLost, match="none: nothing was sent: No such file"):
                await failing


async def test_a_path_that_is_gone_is_told(place: Path) -> None:
    async with netio.bind_unix_datagram(place / "s") as sock:
        with pytest.raises(netio.ConnectionLost, match="No such file"):
            await sock.send_to(b"x", str(place / "none"))
        unix_paths.leave_stale(place / "stale", socket.SOCK_DGRAM)
        with pytest.raises(netio.ConnectionRefused):
            await sock.send_to(b"x", str(place / "stale"))
        await sock.send_to(b"x", str(place / "s"))


async def test_a_broadcast_must_be_allowed() -> None:
    async with netio.bind_udp("0.0.0.0") as sock:
        port = sock.local[1]  # type: ignore[index]
        with pytest.raises(PermissionError, match="nothing was sent: Permission denied"):
            await sock.send_to(b"x", ("127.255.255.255", port))
        assert sock.broadcast is False
        sock.broadcast = True
        assert sock.broadcast is True
        await sock.send_to(b"to all", ("127.255.255.255", port))
        assert (await sock.receive()).data == b"to all"
        with pytest.raises(TypeError, match="broadcast must be a bool"):
            sock.broadcast = 1  # type: ignore[assignment]


@pytest.mark.parametrize(
    ("host", "group", "interface"),
    [
        ("0.0.0.0", "239.1.2.3", "127.0.0.1"),
        ("0.0.0.0", "239.1.2.3", "lo"),
        ("::", "ff15::5", "lo"),
    ],
)
async def test_a_member_of_a_group_receives_until_it_leaves(
    host: str, group: str, interface: str
) -> None:
    async with netio.bind_udp(host) as member, netio.bind_udp(host) as sender:
        sender.set_multicast_interface(interface)
        port = member.local[1]  # type: ignore[index]
        member.join_group(group, interface=interface)
        with pytest.raises(OSError, match=f"join_group {group}: Address already in use"):
            member.join_group(group, interface=interface)
        try:
            await sender.send_to(b"to all", (group, port))
        except netio.ConnectionLost:
            pytest.skip("no route to a group of IPv6 here")
        assert (await member.receive()).data == b"to all"
        member.leave_group(group, interface=interface)
        await sender.send_to(b"too late", (group, port))
        with pytest.raises(netio.DeadlineExceeded):
            await member.receive(timeout=0)
        with pytest.raises(OSError, match=f"leave_group {group}"):
            member.leave_group(group, interface=interface)


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
async def test_the_options_of_multicast_are_set_and_told(host: str) -> None:
    async with netio.bind_udp(host) as sock:
        assert sock.multicast_hops == 1
        sock.multicast_hops = 9
        assert sock.multicast_hops == 9
        assert sock.multicast_loopback is True
        sock.multicast_loopback = False
        assert sock.multicast_loopback is False
        for hops in (-1, 256):
            with pytest.raises(ValueError, match="multicast_hops must be at"):
                sock.multicast_hops = hops
        for group in ("10.0.0.1", "no group", "ff15::5" if host == "127.0.0.1" else "239.1.2.3"):
            with pytest.raises(ValueError, match="group must be a multicast address of IPv"):
                sock.join_group(group)
        with pytest.raises(ValueError, match="this machine has none called 'none'"):
            sock.set_multicast_interface("none")
        with pytest.raises(TypeError, match="group must be a numeric address"):
            sock.join_group(5)  # type: ignore[arg-type]
        group = "239.1.2.3" if host == "127.0.0.1" else "ff15::5"
        with pytest.raises(ValueError, match="interface must be at most"):
            sock.join_group(group, interface=2**40)
        with pytest.raises(ValueError, match="group must be"):
            sock.join_group(f"{group}%lo")
    with pytest.raises(netio.StreamClosed):
        assert sock.multicast_hops


async def test_unix_sockets_send_to_nobody_but_one(place: Path) -> None:
    async with netio.bind_unix_datagram(place / "s") as sock:
        with pytest.raises(ValueError, match="only sockets of the internet"):
            sock.broadcast = True
