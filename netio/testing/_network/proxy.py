"""The same faults for programs that are not netio: a TCP proxy on loopback.

Each connection has the two wires of a connection of the memory network, with the same stages. Here
the ends of a wire are a stream that is read, no faster than the wire has room, and a stream that
is written. The end of one is passed on as the end, a reset as a reset.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections import deque
from typing import TYPE_CHECKING, Final, Self

from netio._arguments import check_count, check_host, check_port
from netio._connect import connect_tcp
from netio._defaults import BACKLOG, CLEANUP_SECONDS, READ_BYTES, STREAM_LIMIT_BYTES
from netio._errors import NetioError, StreamClosed
from netio._limits import Deadline, Timeouts
from netio._memory import Sign
from netio._network import start_listening
from netio._server import serve_tcp
from netio._tasks import TaskWait, wait_ended
from netio.testing import faults
from netio.testing._network.placement import Place, Placement
from netio.testing._network.wire import Connection

if TYPE_CHECKING:
    from netio._errors import KnownAddress
    from netio._server import Server
    from netio._stream import Stream
    from netio.testing._network.wire import Wire

# Connections last as long as their ends want; the proxy is what ends, and then they do.
_PATIENT: Final = Timeouts(read=None, write=None)

# What was sent before a reset is delivered first, but a reset is not held up by who does not read.
_RESET_SECONDS: Final = 1.0


class Proxy(Place["_Proxied"]):
    """A TCP proxy on loopback that puts `netio.testing.faults` on what goes through it.

        async with netio.testing.Proxy("127.0.0.1", 5432, faults.Latency(0.1)) as proxy:
            ...  # have the program connect to proxy.port

    The kernel has its own buffers on both sides, and may join or cut what comes. A
    `faults.BlackHole` answers connects all the same, since the kernel does; then nothing comes. A
    connection whose server can't be reached is reset.
    """

    def __init__(
        self,
        host: str,
        port: int,
        *several: faults.Fault,
        listen_host: str = "127.0.0.1",
        listen_port: int = 0,
        buffer_bytes: int = STREAM_LIMIT_BYTES,
        seed: int = 0,
        record: bool = False,
    ) -> None:
        """A proxy for the server at `host` and `port`, with `several` faults from the beginning.

        `listen_host`, `listen_port`: a numeric address, and a port or 0 for any that is free.
        `buffer_bytes`: what may be under way in each direction of a connection, besides what the
        kernel holds. `seed`: of all chances. `record`: keep `events`.

        Raises:
            TypeError, ValueError: naming the argument.
        """
        super().__init__(seed=seed, record=record)
        check_host(host)
        check_host(listen_host)
        self._upstream = (host, check_port(port, at_least=1))
        self._listen_at = (listen_host, check_port(listen_port))
        self._buffer_bytes = check_count(buffer_bytes, "buffer_bytes", at_least=1)
        self._address: KnownAddress | None = None
        self._reserved: socket.socket | None = None  # has the port while nobody is to listen
        self._servers: list[Server] = []
        self._starting: dict[asyncio.Task[None], socket.socket] = {}
        self._closed = False
        for fault in several:
            self.add(fault)

    @property
    def address(self) -> KnownAddress:
        """Where it listens: ``(host, port)``, and two numbers more for version 6.

        Raises:
            RuntimeError: it was not started yet.
        """
        if self._address is None:
            raise RuntimeError("the proxy was not started: use async with, or await its start")
        return self._address

    @property
    def port(self) -> int:
        """The port of `address`."""
        address = self.address
        assert isinstance(address, tuple)
        return address[1]

    def add(self, fault: faults.Fault) -> Placement:
        """Put `fault` on the connections there are and those to come, until it is taken away.

        Returns: what takes it away again: as a context manager, or with ``remove``.

        Raises:
            ValueError: it is on this proxy already; or it is a `faults.Partition`, which is
                between hosts of a network: `faults.BlackHole` is what does that here.
        """
        if isinstance(fault, faults.Partition):
            raise ValueError("fault: a Partition is for a Network; on a proxy it is a BlackHole")
        placement = self._put(fault, lambda connection: True)
        self._look_if_down()
        return placement

    def remove(self, fault: faults.Fault) -> None:
        """Take `fault` away, also from the connections that are live: what it holds goes on.

        What it has done stays done: a connection that was cut is not mended.

        Raises:
            ValueError: it is not here.
        """
        super().remove(fault)
        self._look_if_down()

    async def start(self) -> None:
        """Listen. ``async with`` does it on entering.

        Raises:
            OSError: the address can't be listened on. Nothing is left open.
            RuntimeError: it was started before.

        Cancellation: nothing is left behind.
        """
        self._here()
        if self._address is not None:
            raise RuntimeError("the proxy was started before")
        await asyncio.sleep(0)  # who is cancelled here has nothing to close
        self._reserved = _bound(*self._listen_at)
        self._address = self._reserved.getsockname()
        self._look_if_down()

    async def aclose(self) -> None:
        """Listen no more, and cut all connections: within a few seconds at the most.

        Raises: nothing.

        Cancellation: everything is closed all the same; then it is raised.
        """
        self._closed = True
        self._stop_listening()
        if self._reserved is not None:
            self._reserved.close()
            self._reserved = None
        closing = TaskWait("aclose of the proxy")
        cancelled = await wait_ended(tuple(self._starting), CLEANUP_SECONDS, closing)
        for server in self._servers:
            try:
                await server.aclose(grace=0)
            except asyncio.CancelledError as error:
                cancelled = error
        if cancelled is not None:
            raise cancelled

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    # Listening, or not.

    def _look_if_down(self) -> None:
        """Connects are refused as long as there is a fault that says so."""
        if self._address is None or self._closed:
            return
        down = any(isinstance(fault, faults.Down) and fault.toxicity == 1 for fault in self._placed)
        if down and self._reserved is None:
            self._stop_listening()
            self._reserved = _bound(self._listen_at[0], self.port)
        elif not down and self._reserved is not None:
            sock, self._reserved = self._reserved, None
            start_listening(sock, BACKLOG)  # now: the kernel queues until we accept
            task = asyncio.get_running_loop().create_task(self._serve(sock))
            self._starting[task] = sock
            task.add_done_callback(self._starting.pop)

    def _stop_listening(self) -> None:
        for task, sock in self._starting.items():
            task.cancel()
            sock.close()
        for server in self._servers:
            for acceptor in server._acceptors:
                acceptor.close()

    async def _serve(self, sock: socket.socket) -> None:
        server = await serve_tcp(self._handle, sock=sock, timeouts=_PATIENT, grace=0)
        self._servers.append(server)

    # Connections.

    async def _handle(self, client: Stream) -> None:
        try:
            server = await connect_tcp(*self._upstream, timeouts=_PATIENT)
        except (NetioError, OSError):
            client.abort()
            return
        async with server:
            connection = _Proxied(
                asyncio.get_running_loop(),
                self._next_number(),
                buffer_bytes=self._buffer_bytes,
                seed=self._seed,
                events=self._events,
            )
            try:
                await connection.run(client, server, self)
            finally:
                self._forget(connection)


class _Proxied(Connection):
    """One connection through a proxy."""

    async def run(self, client: Stream, server: Stream, proxy: Proxy) -> None:
        """Until both ends have seen the end, or a reset."""
        pumps = (_Pump(client, server, self.upstream), _Pump(server, client, self.downstream))
        proxy._equip(self, ())
        self.opened()
        async with asyncio.TaskGroup() as group:
            reading = [group.create_task(pump.read()) for pump in pumps]
            await asyncio.wait([group.create_task(pump.write()) for pump in pumps])
            for task in reading:
                task.cancel()


class _Pump:
    """Both ends of one wire: what is read from `source`, and what is written to `target`."""

    def __init__(self, source: Stream, target: Stream, wire: Wire) -> None:
        self._source = source
        self._target = target
        self._wire = wire
        self._room = asyncio.Event()
        self._arrived = asyncio.Event()
        self._items: deque[bytes | Sign] = deque()
        self._ended = False  # the target was told that nothing follows
        wire.sender = wire.receiver = self

    async def read(self) -> None:
        """Put what comes into the wire, as far as there is room."""
        wire = self._wire
        with contextlib.suppress(StreamClosed):
            while True:
                room = wire.capacity - wire.held
                if room <= 0:
                    self._room.clear()
                    await self._room.wait()
                    continue
                try:
                    chunk = await self._source.read_some(min(room, READ_BYTES))
                except OSError:
                    wire.put(Sign.RESET)
                    self._source.abort()
                    wire.opposite.receiver.deliver(Sign.RESET)  # nobody is left to write to
                    return
                wire.put(chunk or Sign.END)
                if not chunk:
                    return

    async def write(self) -> None:
        """Write what has come through the wire, until the end or a reset."""
        target = self._target
        try:
            while True:
                while not self._items:
                    self._arrived.clear()
                    await self._arrived.wait()
                item = self._items.popleft()
                if isinstance(item, bytes):
                    await target.write(item)
                    self._wire.take(len(item))
                elif item is Sign.END:
                    self._ended = True
                    await target.write_eof()
                    return
                elif item is Sign.RESET:
                    target.abort()
                    return
        except StreamClosed:
            pass  # a reset from the other direction
        except OSError:  # the target is gone, or does not take what came before a reset
            target.abort()
            self._wire.opposite.put(Sign.RESET)

    # What the wire says.

    def deliver(self, item: bytes | Sign) -> None:
        """See `netio._memory.Receiver`."""
        if item is Sign.RESET and not self._target.closed:
            if self._ended:
                self._target.abort()
                return
            self._target.write_deadline = Deadline.after(_RESET_SECONDS)
        self._items.append(item)
        self._arrived.set()

    def room_made(self) -> None:
        """See `netio._memory.Sender`."""
        self._room.set()


def _bound(host: str, port: int) -> socket.socket:
    """A socket that has the port and does not listen: connects are refused."""
    sock = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    try:
        if os.name == "posix":  # on Windows the option lets others steal the port
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((host, port))
    except BaseException:
        sock.close()
        raise
    return sock
