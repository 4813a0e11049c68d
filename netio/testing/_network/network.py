"""A network in memory: names, addresses and listeners, for ``network=`` of connect and serve.

Streams and servers on it are netio's own; what is in memory is what lies below them. Connecting
takes its steps over the same wires as the bytes (``wire.py``): latency and faults act on it, too.
``connect`` goes up, ``accept`` or ``refuse`` comes down, ``open`` goes up.
"""

from __future__ import annotations

import dataclasses
import errno
import functools
import os
import socket
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Final

from netio._arguments import check_count, check_port
from netio._defaults import STREAM_LIMIT_BYTES
from netio._errors import ConnectFailed, format_address
from netio._limits import DEFAULT_TIMEOUTS, Timeouts, check_timeouts
from netio._resolve import Target
from netio._stream import Stream
from netio.testing import faults
from netio.testing._network.connecting import (
    Connecting,
    MemoryAcceptor,
    MemoryAttempt,
    answered,
    wait_until,
)
from netio.testing._network.placement import Place, Placement

if TYPE_CHECKING:
    import asyncio

    from netio._attempts import Attempt
    from netio._errors import Address, KnownAddress
    from netio._memory import MemoryChannel
    from netio._network import Acceptor
    from netio._operation import Operation

_ANY: Final = {socket.AF_INET: "0.0.0.0", socket.AF_INET6: "::"}
_THIS_MACHINE: Final = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # where a connect to them goes

# IANA's range for ports that nobody chose.
_FIRST_PORT: Final = 49152
_PORTS: Final = 65536 - _FIRST_PORT


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Link:
    """What lies between two ends, in each direction.

    Attributes:
        latency: seconds that everything takes. Connecting takes it three times, as over TCP:
            the client is connected after twice that, the server sees it after three times.
        bandwidth: bytes a second, or None for no bound.
        buffer_bytes: bytes that may be sent and not yet received; then the writer has to wait.
    """

    latency: float = 0.0
    bandwidth: float | None = None
    buffer_bytes: int = STREAM_LIMIT_BYTES

    def __post_init__(self) -> None:
        faults.finite(self.latency, "latency")
        check_count(self.buffer_bytes, "buffer_bytes", at_least=1)
        if self.bandwidth is not None and not faults.finite(
            self.bandwidth, "bandwidth", of=" of bytes a second"
        ):
            raise ValueError("bandwidth must be more than 0 bytes a second, or None")


class Network(Place[Connecting]):
    """A network in memory, for ``network=`` of `netio.connect_tcp`, `netio.serve_tcp` and the like.

    It behaves as the kernel does on loopback: the same errors for a port that nobody listens on,
    an address in use, a name that does not exist; a full backlog lets connects wait. There is
    nothing between the two ends but what its links and faults say, so that everything happens at
    exact times on the virtual clock. It works on any loop.

    Every numeric address exists, and can be listened on. Connections come from the address that
    they go to, as on one machine; `host` gives machines of their own. Unix sockets have names of
    this network, and make no files.
    """

    def __init__(
        self,
        *,
        names: Mapping[str, str | Iterable[str]] | None = None,
        link: Link = Link(),
        links: Mapping[str, Link] | None = None,
        seed: int = 0,
        lookup_seconds: float = 0.0,
        record: bool = False,
    ) -> None:
        """`names`: the addresses of each name, one or several; None for no names but ``localhost``.

        `link`: what connections go over. `links`: others, for those to some names or addresses;
        None for none.
        `seed`: of all chances. `lookup_seconds`: what looking up a name takes. `record`: keep
        `events`.

        Raises:
            TypeError, ValueError: naming the argument.
        """
        super().__init__(seed=seed, record=record)
        self._names = {"localhost": ("127.0.0.1",)} | _check_names(names or {})
        self._link = _check_link(link, "link")
        self._links: dict[str, Link] = {}
        for host, special in _check_mapping(links or {}, "links").items():
            special = _check_link(special, "links")
            self._links.update(dict.fromkeys(self._addresses(host, "links"), special))
        self._link_faults = {link: _faults_of(link) for link in (link, *self._links.values())}
        self._lookup_seconds = faults.finite(lookup_seconds, "lookup_seconds")
        self._listeners: dict[tuple[str, int], MemoryAcceptor] = {}
        self._unix_listeners: dict[str | bytes, MemoryAcceptor] = {}
        self._ports_used: set[tuple[str, int]] = set()
        self._last_port = _FIRST_PORT - 1

    def host(self, name: str) -> Host:
        """A machine of its own on this network: connections from it come from its address.

        `name`: a name or an address.

        Raises:
            ValueError: there is no such name.
        """
        return Host(self, self._addresses(name, "name"))

    def add(self, fault: faults.Fault, *, to: str | tuple[str, int] | None = None) -> Placement:
        """Put `fault` on the connections there are and those to come, until it is taken away.

        `to`: only those to this name or address, or ``(name, port)``; None for all.

        Returns: what takes it away again: as a context manager, or with ``remove``.

        Raises:
            ValueError: it is on this network already, or there is no such name.
        """
        if isinstance(fault, faults.Partition):
            if to is not None:
                raise ValueError("to: a Partition says itself which hosts it is between")
            one = {a for host in fault.one for a in self._addresses(host, "one")}
            other = {a for host in fault.other for a in self._addresses(host, "other")}
            return self._put(fault, functools.partial(_is_between, one, other))
        if to is None:
            return self._put(fault, lambda connection: True)
        try:
            host, port = (to, None) if isinstance(to, str) else to
        except (TypeError, ValueError):
            raise TypeError(f"to must be a host, or (host, port), or None, not {to!r}") from None
        if port is not None:
            check_port(port)
        return self._put(fault, functools.partial(_is_to, self._addresses(host, "to"), port))

    def pair(
        self, *, timeouts: Timeouts = DEFAULT_TIMEOUTS, limit: int = STREAM_LIMIT_BYTES
    ) -> tuple[Stream, Stream]:
        """Two streams that are connected over this network already: a client's and a server's.

        `timeouts`: their default limits. `limit`: the longest record in bytes. Needs a running
        loop.
        """
        check_timeouts(timeouts)
        check_count(limit, "limit", at_least=1)
        host = "127.0.0.1"
        connection = self._begin(Target(socket.AF_INET, (host, self._free_port(host))), host)
        connection.opened()
        return (
            Stream(connection.near, timeouts=timeouts, limit=limit),
            Stream(connection.far, timeouts=timeouts, limit=limit),
        )

    # What `netio._network.Network` asks for.

    async def resolve(self, host: str, port: int, operation: Operation) -> list[Target]:
        """The addresses of a name.

        Returns: one target for each.

        Raises:
            OSError: there is none (``socket.gaierror``).
            DeadlineExceeded: the lookup takes longer.

        Cancellation: nothing is left behind.
        """
        loop = self._here()
        if (address := _address(host)) is not None:
            return [_target(address, port)]
        if self._lookup_seconds:
            await wait_until(loop, loop.time() + self._lookup_seconds, operation)
        addresses = self._names.get(host.lower())
        if addresses is None:
            unknown = socket.gaierror(socket.EAI_NONAME, "Name or service not known")
            unknown.add_note(
                f"{host!r} is not among the names of this netio.testing.Network: "
                f"{self._names_told()}"
            )
            raise unknown
        return [_target(address, port) for address in addresses]

    def begin_dial(self, target: Target) -> Attempt:
        """Begin one attempt to connect, from the address that it goes to.

        Returns: the attempt, which gives the client's end.

        Raises:
            OSError: no port is free.
        """
        return self._begin_dial(target, None)

    async def listen(
        self, host: str | None, port: int, operation: Operation, *, backlog: int
    ) -> list[Acceptor]:
        """Listen on all addresses of `host`; None: on all there are.

        Returns: a listener for each address.

        Raises:
            OSError: the address is in use.
            ConnectFailed: the name does not exist.
            DeadlineExceeded: the lookup takes longer.

        Cancellation: nothing is left behind.
        """
        if host is None:
            targets = [_target(address, port) for address in _ANY.values()]
        else:
            targets = await self._listening_targets(self, host, port, operation)
        return self._listen(targets, port, backlog)

    # What `netio._unix_network.UnixNetwork` asks for.

    async def dial_unix(self, path: str | bytes, operation: Operation) -> MemoryChannel:
        """Connect to a Unix socket of this network, over its `link`.

        Returns: the client's end, which has no name.

        Raises:
            OSError: nobody listens there.
            DeadlineExceeded: it is not answered in time.

        Cancellation: nothing is left behind.
        """
        if path not in self._unix_listeners:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
        connection = self._new(None, path, self._link)
        connection.begin()
        return await answered(connection, operation)

    async def listen_unix(self, path: str | bytes, *, backlog: int, mode: int | None) -> Acceptor:
        """Listen on a Unix socket of this network; without a file, whatever `mode` is, or None.

        Returns: the listener.

        Raises:
            OSError: somebody listens there.

        Cancellation: nothing is left behind.
        """
        loop = self._here()
        if path in self._unix_listeners:
            text = f"cannot listen on {format_address(path)}: {os.strerror(errno.EADDRINUSE)}"
            raise OSError(errno.EADDRINUSE, text)
        forget = functools.partial(self._unix_listeners.__delitem__, path)
        self._unix_listeners[path] = acceptor = MemoryAcceptor(loop, path, backlog, forget)
        return acceptor

    async def _listening_targets(
        self, names: Network | Host, host: str, port: int, operation: Operation
    ) -> list[Target]:
        try:
            return await names.resolve(host, port, operation)
        except socket.gaierror as error:
            raise ConnectFailed(
                f"cannot listen on {host}: it does not resolve: {error.strerror}",
                attempts=[error.with_traceback(None)],
            ) from error

    def _listen(self, targets: list[Target], port: int, backlog: int) -> list[Acceptor]:
        loop = self._here()
        hosts = [_host_and_port(target.address)[0] for target in targets]
        port = port or self._free_port(*hosts)
        for host in hosts:
            self._check_free(host, port)
        return [self._listener(loop, host, port, backlog) for host in hosts]

    def _listener(
        self, loop: asyncio.AbstractEventLoop, host: str, port: int, backlog: int
    ) -> MemoryAcceptor:
        def forget() -> None:
            del self._listeners[host, port]

        acceptor = MemoryAcceptor(loop, _target(host, port).address, backlog, forget)
        self._listeners[host, port] = acceptor
        return acceptor

    def _check_free(self, host: str, port: int) -> None:
        """As Linux, where an address and all addresses of its family are in each other's way."""
        family = _family(host)
        for other, used in self._listeners:
            if used != port or _family(other) != family:
                continue
            if other == host or _ANY[family] in (host, other):
                where = format_address((host, port))
                text = f"cannot listen on {where}: {os.strerror(errno.EADDRINUSE)}"
                raise OSError(errno.EADDRINUSE, text)

    def _free_port(self, *hosts: str) -> int:
        for _ in range(_PORTS):
            self._last_port = _FIRST_PORT + (self._last_port + 1 - _FIRST_PORT) % _PORTS
            port = self._last_port
            if any((host, port) in self._ports_used for host in hosts):
                continue
            if not any(used == port for _, used in self._listeners):
                return port
        raise OSError(errno.EADDRNOTAVAIL, os.strerror(errno.EADDRNOTAVAIL))

    def _begin(self, target: Target, source: str | None) -> Connecting:
        """A connection of which nothing was sent yet."""
        host, port = _host_and_port(target.address)
        host = _THIS_MACHINE.get(host, host)
        source = host if source is None else source
        source_port = self._free_port(source)
        client, server = _target(source, source_port).address, _target(host, port).address
        connection = self._new(client, server, self._links.get(host, self._link))
        self._ports_used.add((source, source_port))
        return connection

    def _new(self, client: Address, server: KnownAddress, link: Link) -> Connecting:
        connection = Connecting(
            self._here(),
            self._next_number(),
            client=client,
            server=server,
            buffer_bytes=link.buffer_bytes,
            seed=self._seed,
            events=self._events,
            listener_at=self._listener_at,
            when_over=self._forget,
        )
        self._equip(connection, self._link_faults[link])
        return connection

    def _begin_dial(self, target: Target, source: str | None) -> MemoryAttempt:
        connection = self._begin(target, source)
        connection.begin()
        return MemoryAttempt(connection)

    def _listener_at(self, address: KnownAddress) -> MemoryAcceptor | None:
        if not isinstance(address, tuple):
            return self._unix_listeners.get(address)
        host, port = _host_and_port(address)
        listeners = self._listeners
        return listeners.get((host, port)) or listeners.get((_ANY[_family(host)], port))

    def _addresses(self, host: str, argument: str) -> tuple[str, ...]:
        if not isinstance(host, str):
            raise TypeError(f"{argument} must be a name or an address, not {host!r}")
        if (address := _address(host)) is not None:
            return (address,)
        if host.lower() not in self._names:
            raise ValueError(
                f"{argument}: this network has no name {host!r}; it knows {self._names_told()}"
            )
        return self._names[host.lower()]

    def _names_told(self) -> str:
        return ", ".join(map(repr, sorted(self._names))) + " (names= gives it more)"

    def _in_use(self) -> bool:
        return bool(self._live or self._listeners or self._unix_listeners)

    def _forget_all(self) -> None:
        super()._forget_all()
        self._listeners.clear()
        self._unix_listeners.clear()
        self._ports_used.clear()

    def _forget(self, connection: Connecting) -> None:
        super()._forget(connection)
        if isinstance(connection.client, tuple):
            self._ports_used.discard(_host_and_port(connection.client))


class Host:
    """One machine of a `Network`, for ``network=``: what comes from here has its address."""

    def __init__(self, network: Network, addresses: tuple[str, ...]) -> None:
        self._network = network
        self._addresses = addresses

    async def resolve(self, host: str, port: int, operation: Operation) -> list[Target]:
        """As `Network.resolve`, but ``localhost`` is this machine.

        Returns: the addresses.

        Raises:
            OSError, DeadlineExceeded: as there.

        Cancellation: as there.
        """
        if host.lower() == "localhost":
            return [_target(address, port) for address in self._addresses]
        return await self._network.resolve(host, port, operation)

    def begin_dial(self, target: Target) -> Attempt:
        """As `Network.begin_dial`, from an address of this machine.

        Returns: the attempt.

        Raises:
            OSError: as there, and where this machine has no address of that family.
        """
        family = _family(_host_and_port(target.address)[0])
        source = next((a for a in self._addresses if _family(a) == family), None)
        if source is None:
            raise OSError(errno.ENETUNREACH, os.strerror(errno.ENETUNREACH))
        return self._network._begin_dial(target, source)

    async def listen(
        self, host: str | None, port: int, operation: Operation, *, backlog: int
    ) -> list[Acceptor]:
        """As `Network.listen`; None: on all addresses of this machine.

        Returns: a listener for each address.

        Raises:
            OSError: the address is in use, or is not one of this machine's.
            ConnectFailed, DeadlineExceeded: as there.

        Cancellation: as there.
        """
        if host is None:
            targets = [_target(address, port) for address in self._addresses]
        else:
            targets = await self._network._listening_targets(self, host, port, operation)
        for target in targets:
            where = _host_and_port(target.address)
            if where[0] not in self._addresses:
                text = f"cannot listen on {format_address(where)}: "
                raise OSError(errno.EADDRNOTAVAIL, text + os.strerror(errno.EADDRNOTAVAIL))
        return self._network._listen(targets, port, backlog)

    def __repr__(self) -> str:
        return f"<netio.testing.Host {', '.join(self._addresses)}>"


def _address(host: str) -> str | None:
    """A numeric address in its usual spelling, of the several that version 6 has; None: a name."""
    try:
        return socket.inet_ntop(_family(host), socket.inet_pton(_family(host), host))
    except (OSError, ValueError):
        return None


def _family(address: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in address else socket.AF_INET


def _target(host: str, port: int) -> Target:
    family = _family(host)
    return Target(family, (host, port, 0, 0) if family == socket.AF_INET6 else (host, port))


def _host_and_port(address: KnownAddress) -> tuple[str, int]:
    if not isinstance(address, tuple):
        raise TypeError(f"not an address of the internet: {address!r}")
    return address[0], address[1]


def _check_mapping(mapping: object, argument: str) -> Mapping[Any, Any]:
    if not isinstance(mapping, Mapping):
        raise TypeError(f"{argument} must be a mapping, not {type(mapping).__name__}")
    return mapping


def _check_names(names: Mapping[Any, Any]) -> dict[str, tuple[str, ...]]:
    checked = {}
    for name, given in _check_mapping(names, "names").items():
        if not isinstance(name, str) or not isinstance(given, Iterable):
            raise TypeError(f"names must map names to addresses, not {name!r} to {given!r}")
        if not name or _address(name) is not None:
            raise ValueError(f"names: {name!r} is no name")
        several = (given,) if isinstance(given, str) else tuple(given)
        numeric = [_address(address) for address in several if isinstance(address, str)]
        found = tuple(address for address in numeric if address is not None)
        if not found or len(found) < len(several):
            raise ValueError(f"names must map names to numeric addresses; {name!r} does not")
        checked[name.lower()] = found
    return checked


def _check_link(link: object, argument: str) -> Link:
    if not isinstance(link, Link):
        raise TypeError(f"{argument} must be netio.testing.Link, not {link!r}")
    return link


def _faults_of(link: Link) -> tuple[faults.Fault, ...]:
    """A link does the same to bytes as the faults that are called so."""
    found: list[faults.Fault] = []
    if link.bandwidth is not None:
        found.append(faults.Bandwidth(link.bandwidth))
    if link.latency:
        found.append(faults.Latency(link.latency))
    for fault in found:
        fault.is_of_link = True
    return tuple(found)


def _is_to(addresses: tuple[str, ...], port: int | None, connection: Connecting) -> bool:
    if not isinstance(connection.server, tuple):
        return False  # a Unix socket is on no host
    host, its_port = _host_and_port(connection.server)
    return host in addresses and port in (None, its_port)


def _is_between(one: set[str], other: set[str], connection: Connecting) -> bool:
    ends = (connection.client, connection.server)
    client, server = (a[0] if isinstance(a, tuple) else "" for a in ends)
    return (client in one and server in other) or (client in other and server in one)
