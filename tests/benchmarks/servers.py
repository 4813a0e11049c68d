"""The servers that are compared. Each calls `started` with its port, and serves until killed.

A side is written as its own documentation would have it, and where there is a choice, in the way
that costs it less. Every read and every write of a side with timeouts has one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from load import MESSAGE_BYTES

import netio

TIMEOUT = 300  # seconds; never reached here
BACKLOG = 4096  # thousands of connections come at once; what the kernel allows by default
HOST = "127.0.0.1"

Started = Callable[[int], None]
StreamHandler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


async def echo_netio(started: Started) -> None:
    async def echo(stream: netio.Stream) -> None:
        while True:
            data = await stream.read_exactly(MESSAGE_BYTES, timeout=TIMEOUT)
            await stream.write(data, timeout=TIMEOUT)

    await serve_netio(echo, started)


class EchoProtocol(asyncio.BufferedProtocol):
    def __init__(self) -> None:
        self.buffer = bytearray(MESSAGE_BYTES)

    def connection_made(self, transport: asyncio.Transport) -> None:
        self.transport = transport

    def get_buffer(self, sizehint: int) -> bytearray:
        return self.buffer

    def buffer_updated(self, n: int) -> None:
        self.transport.write(self.buffer[:n])  # a copy: the transport may keep it


async def echo_protocol(started: Started) -> None:
    await serve_protocol(EchoProtocol, started)


async def echo_streams(started: Started) -> None:
    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            writer.write(await reader.readexactly(MESSAGE_BYTES))
            await writer.drain()

    await serve_streams(echo, started)


async def echo_streams_timeout(started: Started) -> None:
    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            async with asyncio.timeout(TIMEOUT):
                data = await reader.readexactly(MESSAGE_BYTES)
            writer.write(data)
            async with asyncio.timeout(TIMEOUT):
                await writer.drain()

    await serve_streams(echo, started)


async def echo_streams_wait_for(started: Started) -> None:
    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            writer.write(await asyncio.wait_for(reader.readexactly(MESSAGE_BYTES), TIMEOUT))
            await asyncio.wait_for(writer.drain(), TIMEOUT)

    await serve_streams(echo, started)


async def echo_anyio(started: Started) -> None:
    import anyio

    async def echo(stream: anyio.abc.SocketStream) -> None:
        while True:
            with anyio.fail_after(TIMEOUT):
                data = await stream.receive(MESSAGE_BYTES)
            with anyio.fail_after(TIMEOUT):
                await stream.send(data)

    listener = await anyio.create_tcp_listener(local_host=HOST, backlog=BACKLOG)
    started(listener.extra(anyio.abc.SocketAttribute.local_port))
    await listener.serve(echo)


async def echo_trio(started: Started) -> None:
    import trio

    async def echo(stream: trio.SocketStream) -> None:
        while True:
            with trio.fail_after(TIMEOUT):
                data = await stream.receive_some(MESSAGE_BYTES)
            with trio.fail_after(TIMEOUT):
                await stream.send_all(data)

    [listener] = await trio.open_tcp_listeners(0, host=HOST, backlog=BACKLOG)
    started(listener.socket.getsockname()[1])
    await trio.serve_listeners(echo, [listener])


# Connections that come, say nothing and go: the handler notices the end, and closes.


async def connect_netio(started: Started) -> None:
    async def handle(stream: netio.Stream) -> None:
        await stream.read_some(timeout=TIMEOUT)

    await serve_netio(handle, started)


async def connect_protocol(started: Started) -> None:
    await serve_protocol(EchoProtocol, started)  # a transport closes itself at the end


async def connect_streams(started: Started) -> None:
    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(65536)
        writer.close()

    await serve_streams(handle, started)


async def connect_streams_timeout(started: Started) -> None:
    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        async with asyncio.timeout(TIMEOUT):
            await reader.read(65536)
        writer.close()

    await serve_streams(handle, started)


# Datagrams, each of which is sent back.


async def datagrams_netio(started: Started) -> None:
    async with netio.bind_udp(HOST) as sock:
        started(sock.local[1])
        while True:
            data, address = await sock.receive(timeout=TIMEOUT)
            await sock.send_to(data, address, timeout=TIMEOUT)


class DatagramEcho(asyncio.DatagramProtocol):
    def connection_made(self, transport: asyncio.DatagramTransport) -> None:
        self.transport = transport

    def datagram_received(self, data: bytes, address: tuple[str, int]) -> None:
        self.transport.sendto(data, address)


async def datagrams_protocol(started: Started) -> None:
    loop = asyncio.get_running_loop()
    transport, _ = await loop.create_datagram_endpoint(DatagramEcho, (HOST, 0))
    started(transport.get_extra_info("sockname")[1])
    await loop.create_future()


class DatagramQueue(asyncio.DatagramProtocol):
    def __init__(self) -> None:
        self.queue = asyncio.Queue()

    def datagram_received(self, data: bytes, address: tuple[str, int]) -> None:
        self.queue.put_nowait((data, address))


async def datagrams_queue(started: Started) -> None:
    loop = asyncio.get_running_loop()
    transport, protocol = await loop.create_datagram_endpoint(DatagramQueue, (HOST, 0))
    started(transport.get_extra_info("sockname")[1])
    while True:
        transport.sendto(*await protocol.queue.get())


async def datagrams_queue_timeout(started: Started) -> None:
    loop = asyncio.get_running_loop()
    transport, protocol = await loop.create_datagram_endpoint(DatagramQueue, (HOST, 0))
    started(transport.get_extra_info("sockname")[1])
    while True:
        async with asyncio.timeout(TIMEOUT):
            datagram = await protocol.queue.get()
        transport.sendto(*datagram)


# What the sides share.


async def serve_netio(handler: Callable[[netio.Stream], Awaitable[None]], started: Started) -> None:
    async with netio.serve_tcp(handler, HOST, backlog=BACKLOG) as server:
        started(server.port)
        await server.serve_forever()


async def serve_streams(handler: StreamHandler, started: Started) -> None:
    server = await asyncio.start_server(handler, HOST, backlog=BACKLOG)
    started(server.sockets[0].getsockname()[1])
    await server.serve_forever()


async def serve_protocol(protocol: type[asyncio.BufferedProtocol], started: Started) -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(protocol, HOST, backlog=BACKLOG)
    started(server.sockets[0].getsockname()[1])
    await server.serve_forever()


ECHO = {
    "netio": echo_netio,
    "protocol": echo_protocol,
    "streams": echo_streams,
    "streams_timeout": echo_streams_timeout,
    "streams_wait_for": echo_streams_wait_for,
    "anyio": echo_anyio,
    "trio": echo_trio,
}
CONNECT = {
    "netio": connect_netio,
    "protocol": connect_protocol,
    "streams": connect_streams,
    "streams_timeout": connect_streams_timeout,
}
DATAGRAMS = {
    "netio": datagrams_netio,
    "datagram_protocol": datagrams_protocol,
    "queue": datagrams_queue,
    "queue_timeout": datagrams_queue_timeout,
}
