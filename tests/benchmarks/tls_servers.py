"""The echo servers over TLS that are compared, for messages of one size; as in `servers.py`.

The sides of uvloop's TLS and of aiofastnet's are those of asyncio's streams, on what makes their
transports. The load does not look at the certificate, which is made for this run.
"""

from __future__ import annotations

import asyncio
import atexit
import functools
import os
import shutil
import ssl
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

from servers import BACKLOG, HOST, TIMEOUT, Started, StreamHandler

import netio

# In the environment of the measured process: a file with the certificate and its key.
CERTIFICATE = "NETIO_BENCHMARK_CERTIFICATE"


@functools.cache
def certificate_file() -> str:
    """A new certificate with its key, for as long as this process runs."""
    import trustme

    folder = tempfile.mkdtemp()
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    path = Path(folder) / "certificate.pem"
    trustme.CA().issue_cert(HOST).private_key_and_cert_chain_pem.write_to_path(path)
    return str(path)


def server_context() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(os.environ[CERTIFICATE])
    return context


async def echo_netio(size: int, started: Started) -> None:
    async def echo(stream: netio.Stream) -> None:
        while True:
            data = await stream.read_exactly(size, timeout=TIMEOUT)
            await stream.write(data, timeout=TIMEOUT)

    async with netio.serve_tcp(echo, HOST, backlog=BACKLOG, tls=server_context()) as server:
        started(server.port)
        await server.serve_forever()


def echo_of_streams(size: int) -> StreamHandler:
    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            writer.write(await reader.readexactly(size))
            await writer.drain()

    return echo


async def echo_streams(size: int, started: Started) -> None:
    await serve_streams(echo_of_streams(size), started, asyncio.start_server)


async def echo_streams_timeout(size: int, started: Started) -> None:
    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            async with asyncio.timeout(TIMEOUT):
                data = await reader.readexactly(size)
            writer.write(data)
            async with asyncio.timeout(TIMEOUT):
                await writer.drain()

    await serve_streams(echo, started, asyncio.start_server)


async def echo_aiofastnet(size: int, started: Started) -> None:
    import aiofastnet

    start = partial(aiofastnet.start_server, asyncio.get_running_loop())
    await serve_streams(echo_of_streams(size), started, start)


async def serve_streams(handler: StreamHandler, started: Started, start: Callable) -> None:
    server = await start(handler, HOST, 0, backlog=BACKLOG, ssl=server_context())
    started(server.sockets[0].getsockname()[1])
    await server.serve_forever()


SIDES = {
    "netio": echo_netio,
    "streams": echo_streams,
    "streams_timeout": echo_streams_timeout,
    "aiofastnet": echo_aiofastnet,
}


def sides(size: int) -> dict[str, partial]:
    """The sides that answer messages of `size` bytes."""
    return {name: partial(side, size) for name, side in SIDES.items()}
