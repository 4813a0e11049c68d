"""A network in memory: names, addresses and listeners, for ``network=`` of connect and serve.

It is written against the interface alone, as a user's own would be.
"""

import asyncio
import errno
import os
import socket
from collections import deque

from netio._limits import Operation
from netio._memory import MemoryChannel, memory_pair
from netio._readiness import READABLE, Readiness, Waiter
from netio._resolve import Target


class MemoryAcceptor(Readiness):
    def __init__(self, network: "MemoryNetwork", address: tuple[str, int]) -> None:
        super().__init__(asyncio.get_running_loop())
        self.address = address
        self._network = network
        self._queue: deque[MemoryChannel] = deque()

    def offer(self, channel: MemoryChannel) -> None:
        self._queue.append(channel)
        self.loop.call_soon(self.readable)

    def accept(self) -> MemoryChannel | None:
        return self._queue.popleft() if self._queue else None

    def close(self) -> None:
        if not self.closed:
            self.release()
            del self._network.listeners[self.address]
            while self._queue:
                self._queue.popleft().abort()

    async def wait_readable(self, waiter: Waiter) -> None:
        if self._queue:
            self.loop.call_soon(self.readable)
        await self.park(waiter, READABLE)


class MemoryNetwork:
    """`names` maps hosts to addresses; connecting to one of the `black_holes` never ends."""

    def __init__(
        self,
        names: dict[str, list[str]] | None = None,
        *,
        black_holes: tuple[str, ...] = (),
        lookup_s: float = 0.0,
    ) -> None:
        self.names = names or {"server": ["10.0.0.1"]}
        self.black_holes = black_holes
        self.lookup_s = lookup_s
        self.listeners: dict[tuple[str, int], MemoryAcceptor] = {}
        self.dialled: list[str] = []
        self._next_port = 49152

    async def resolve(self, host: str, port: int, operation: Operation) -> list[Target]:
        if self.lookup_s:
            await self._wait(operation, self.lookup_s)
        addresses = self.names.get(host, [host] if host[0].isdigit() else [])
        if not addresses:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return [Target(socket.AF_INET, (address, port)) for address in addresses]

    async def dial(self, target: Target, operation: Operation) -> MemoryChannel:
        host, port, *_ = target.address
        assert isinstance(host, str)
        assert isinstance(port, int)
        self.dialled.append(host)
        if host in self.black_holes:
            await self._wait(operation, float("inf"))
        acceptor = self.listeners.get((host, port))
        if acceptor is None:
            raise OSError(errno.ECONNREFUSED, os.strerror(errno.ECONNREFUSED))
        near, far = memory_pair(
            asyncio.get_running_loop(), local=("10.0.0.99", self._port()), peer=(host, port)
        )
        acceptor.offer(far)
        return near

    async def listen(
        self, host: str | None, port: int, operation: Operation, *, backlog: int
    ) -> list[MemoryAcceptor]:
        address = (self.names[host or "server"][0], port or self._port())
        if address in self.listeners:
            raise OSError(errno.EADDRINUSE, f"cannot listen on {address}")
        self.listeners[address] = MemoryAcceptor(self, address)
        return [self.listeners[address]]

    def _port(self) -> int:
        self._next_port += 1
        return self._next_port

    async def _wait(self, operation: Operation, seconds: float) -> None:
        """Until then, or until the operation's limit, which is an error."""
        readiness = Readiness(asyncio.get_running_loop())
        until = readiness.loop.time() + seconds
        limit = operation.deadline
        operation.deadline = min(until, limit)
        try:
            await readiness.park(operation)
        finally:
            operation.deadline = limit
            readiness.release()
        if limit < until:
            raise operation.exceeded(readiness.loop.time(), "nobody answered")
