"""Datagrams for many: broadcast, and the groups of multicast, as options of a datagram socket."""

from __future__ import annotations

import ipaddress
import socket
import struct
from typing import TYPE_CHECKING, Final

from netio._arguments import check_count
from netio._errors import StreamClosed

if TYPE_CHECKING:
    from netio._datagram_channel import DatagramChannel

    #: An interface of this machine: an address that it has (IPv4), its name, or its number.
    Interface = str | int

_HOPS_MAX: Final = 255
_NUMBER_MAX: Final = 2**31 - 1


class CastsToMany:
    """The part of a datagram socket that is about more than one receiver."""

    __slots__ = ()

    _channel: DatagramChannel

    @property
    def broadcast(self) -> bool:
        """Whether datagrams may be sent to a broadcast address (``SO_BROADCAST``); assignable."""
        return bool(self._internet().getsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST))

    @broadcast.setter
    def broadcast(self, broadcast: bool) -> None:
        _check_bool(broadcast, "broadcast")
        self._internet().setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, int(broadcast))

    def join_group(self, group: str, *, interface: Interface | None = None) -> None:
        """Receive what is sent to the multicast `group`, a numeric address of the socket's kind.

        `interface`: where from: an address that this machine has there (IPv4), its name or its
        number; None: the system chooses. The membership ends with the socket.

        Raises:
            OSError: the system refuses, for instance since it is a member already.
            TypeError, ValueError: no such group or interface. StreamClosed: closed by this side.
        """
        self._change_membership("join_group", group, interface, join=True)

    def leave_group(self, group: str, *, interface: Interface | None = None) -> None:
        """Receive no longer what is sent to the multicast `group`.

        `interface`: as it was said to `join_group`; None where nothing was said.

        Raises:
            OSError: it is no member. TypeError, ValueError, StreamClosed: as for `join_group`.
        """
        self._change_membership("leave_group", group, interface, join=False)

    @property
    def multicast_hops(self) -> int:
        """How many routers multicast datagrams of this socket may pass, 0 to 255; assignable.

        1, where the system begins, is the own network; 0 the own machine. (IPv4 calls it TTL.)
        """
        sock, four, six = self._options("IP_MULTICAST_TTL", "IPV6_MULTICAST_HOPS")
        return sock.getsockopt(four, six)

    @multicast_hops.setter
    def multicast_hops(self, hops: int) -> None:
        if check_count(hops, "multicast_hops") > _HOPS_MAX:
            raise ValueError(f"multicast_hops must be at most {_HOPS_MAX}, not {hops}")
        sock, level, option = self._options("IP_MULTICAST_TTL", "IPV6_MULTICAST_HOPS")
        sock.setsockopt(level, option, hops)

    @property
    def multicast_loopback(self) -> bool:
        """Whether this machine receives multicast datagrams of its own; assignable."""
        sock, level, option = self._options("IP_MULTICAST_LOOP", "IPV6_MULTICAST_LOOP")
        return bool(sock.getsockopt(level, option))

    @multicast_loopback.setter
    def multicast_loopback(self, loopback: bool) -> None:
        _check_bool(loopback, "multicast_loopback")
        sock, level, option = self._options("IP_MULTICAST_LOOP", "IPV6_MULTICAST_LOOP")
        sock.setsockopt(level, option, int(loopback))

    def set_multicast_interface(self, interface: Interface) -> None:
        """Send multicast datagrams there: an address of this machine (IPv4), a name or a number.

        Raises:
            OSError: the system refuses. TypeError, ValueError: no such interface. StreamClosed.
        """
        sock, level, option = self._options("IP_MULTICAST_IF", "IPV6_MULTICAST_IF")
        if sock.family == socket.AF_INET6:
            value = struct.pack("@I", _interface_number(interface))
        else:
            value = _request("0.0.0.0", interface)
        sock.setsockopt(level, option, value)

    def _internet(self) -> socket.socket:
        channel = self._channel
        if channel.closed:
            raise StreamClosed("the socket was closed by this side", peer=channel.peer)
        if channel.family not in (socket.AF_INET, socket.AF_INET6):
            raise ValueError("only sockets of the internet send to many")
        return channel.sock

    def _options(self, four: str, six: str) -> tuple[socket.socket, int, int]:
        """The socket, and the level and the number of an option in its family."""
        sock = self._internet()
        if sock.family == socket.AF_INET6:
            return sock, socket.IPPROTO_IPV6, getattr(socket, six)
        return sock, socket.IPPROTO_IP, getattr(socket, four)

    def _change_membership(
        self, name: str, group: str, interface: Interface | None, *, join: bool
    ) -> None:
        sock = self._internet()
        version = 6 if sock.family == socket.AF_INET6 else 4
        if not isinstance(group, str):
            raise TypeError(f"group must be a numeric address, not {group!r}")
        try:
            address = ipaddress.ip_address(group)
        except ValueError:
            address = None
        if address is None or address.version != version or not address.is_multicast:
            raise ValueError(f"group must be a multicast address of IPv{version}, not {group!r}")
        if "%" in group:
            raise ValueError(f"group must be without an interface, which has its own: {group!r}")
        if version == 6:
            number = 0 if interface is None else _interface_number(interface)
            request = address.packed + struct.pack("@I", number)
            option = socket.IPV6_JOIN_GROUP if join else socket.IPV6_LEAVE_GROUP
            level = socket.IPPROTO_IPV6
        else:
            request = _request(group, interface)
            option = socket.IP_ADD_MEMBERSHIP if join else socket.IP_DROP_MEMBERSHIP
            level = socket.IPPROTO_IP
        try:
            sock.setsockopt(level, option, request)
        except OSError as error:
            raise OSError(error.errno, f"{name} {group}: {error.strerror}") from None


def _request(group: str, interface: Interface | None) -> bytes:
    """A ``struct ip_mreqn`` of IPv4: the group, an address of the interface, or its number."""
    address, number = "0.0.0.0", 0
    if interface is not None:
        try:
            address = str(ipaddress.IPv4Address(interface if isinstance(interface, str) else ""))
        except ValueError:
            number = _interface_number(interface)
    packed = socket.inet_aton(group) + socket.inet_aton(address)
    return packed + struct.pack("@i", number)


def _interface_number(interface: Interface) -> int:
    if isinstance(interface, str):
        try:
            return socket.if_nametoindex(interface)
        except OSError:
            raise ValueError(f"interface: this machine has none called {interface!r}") from None
    number = check_count(interface, "interface")
    if number > _NUMBER_MAX:
        raise ValueError(f"interface must be at most {_NUMBER_MAX}, not {number}")
    return number


def _check_bool(value: object, name: str) -> None:
    if not isinstance(value, bool):
        raise TypeError(f"{name} must be a bool, not {value!r}")
