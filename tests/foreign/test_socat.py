"""Over TCP against socat and ncat, as server and as client."""

import asyncio
import contextlib
import os
import socket
from collections.abc import AsyncIterator

import pytest
from other_programs import PATIENCE_S, free_port, running
from streams import outcome_of

import netio

pytestmark = pytest.mark.foreign("socat", "ncat")


async def connected(port: int) -> netio.Stream:
    """The program needs a moment until it listens."""
    deadline = netio.Deadline.after(PATIENCE_S)
    while True:
        try:
            return await netio.connect_tcp("127.0.0.1", port, timeout=deadline)
        except netio.ConnectFailed:
            await asyncio.sleep(0.005)


ECHO_SERVERS = {
    "socat": ["socat", "TCP-LISTEN:{port},bind=127.0.0.1,reuseaddr", "EXEC:cat"],
    "ncat": ["ncat", "--listen", "127.0.0.1", "{port}", "--exec", "/bin/cat"],
}


@contextlib.asynccontextmanager
async def echo_server(program: str) -> AsyncIterator[netio.Stream]:
    port = free_port()
    async with running(*(part.format(port=port) for part in ECHO_SERVERS[program])):
        async with await connected(port) as stream:
            yield stream


@pytest.mark.parametrize("program", ECHO_SERVERS)
async def test_every_byte_comes_back(program: str) -> None:
    # No more at a time than a pipe holds: ncat's own echo locks up when both pipes are full.
    data = os.urandom(32 * 1024)
    async with echo_server(program) as stream:
        for _ in range(3):
            await stream.write(data, timeout=PATIENCE_S)
            assert await stream.read_exactly(len(data), timeout=PATIENCE_S) == data
        await stream.write(b"a line\n")
        assert await stream.read_line(timeout=PATIENCE_S) == b"a line\n"


async def test_after_a_half_close_the_rest_comes_and_then_the_end() -> None:
    async with echo_server("socat") as stream:  # ncat drops what its command has still to say
        await stream.write(b"last words")
        await stream.write_eof()
        assert await stream.read_all(limit=100, timeout=PATIENCE_S) == b"last words"


async def test_a_reset_of_the_other_side_is_a_lost_connection() -> None:
    port = free_port()
    # It sends and never reads; killed with bytes unread, the system resets its connection.
    address = f"TCP-LISTEN:{port},bind=127.0.0.1,reuseaddr"
    async with running("socat", "-u", "-", address) as process:
        async with await connected(port) as stream:
            await stream.write(b"x" * 10_000)
            assert process.stdin is not None
            process.stdin.write(b"before the reset")
            assert await stream.read_exactly(16, timeout=PATIENCE_S) == b"before the reset"
            process.kill()
            error = await outcome_of(stream.read_some(timeout=PATIENCE_S))
            assert isinstance(error, netio.ConnectionReset)


async def test_a_sender_of_one_byte_at_a_time_is_put_together() -> None:
    port = free_port()
    sender = "for c in h e l l o; do printf $c; sleep 0.004; done; echo; printf rest"
    address = f"TCP-LISTEN:{port},bind=127.0.0.1,reuseaddr"
    async with running("socat", "-U", address, f"SYSTEM:{sender}"):
        async with await connected(port) as stream:
            assert await stream.read_until(b"\n", timeout=PATIENCE_S) == b"hello\n"
            assert await stream.read_exactly(4, timeout=PATIENCE_S) == b"rest"
            assert await stream.read_some(timeout=PATIENCE_S) == b""


CLIENTS = {
    "socat": ["socat", "-t5", "-", "TCP:127.0.0.1:{port}"],
    "ncat": ["ncat", "127.0.0.1", "{port}"],
}


@pytest.mark.parametrize("program", CLIENTS)
async def test_a_server_echoes_to_it_until_its_half_close(program: str) -> None:
    ended = []

    async def echo(stream: netio.Stream) -> None:
        async for chunk in stream.chunks():
            await stream.write(chunk)
        await stream.write(b"bye")
        ended.append(stream.statistics().bytes_received)

    data = os.urandom(200_000)
    async with netio.serve_tcp(echo, "127.0.0.1") as server:
        command = [part.format(port=server.addresses[0][1]) for part in CLIENTS[program]]
        async with running(*command) as process:
            out, _ = await asyncio.wait_for(process.communicate(data), PATIENCE_S)
    assert out == data + b"bye"
    assert ended == [len(data)]


@pytest.mark.parametrize("program", CLIENTS)
async def test_a_server_outlives_a_client_that_is_killed(program: str) -> None:
    seen = asyncio.Event()
    outcomes = []

    async def handler(stream: netio.Stream) -> None:
        assert await stream.read_line() == b"hello\n"
        seen.set()
        outcomes.append(await outcome_of(stream.read_some(timeout=PATIENCE_S)))

    async with netio.serve_tcp(handler, "127.0.0.1") as server:
        command = [part.format(port=server.addresses[0][1]) for part in CLIENTS[program]]
        async with running(*command) as process:
            assert process.stdin is not None
            process.stdin.write(b"hello\n")
            await asyncio.wait_for(seen.wait(), PATIENCE_S)
            process.kill()
            await process.wait()
    assert outcomes == [b""] or isinstance(outcomes[0], netio.ConnectionLost)


async def test_a_bare_socket_leaves_the_rest_to_other_code() -> None:
    port = free_port()
    address = f"TCP-LISTEN:{port},bind=127.0.0.1,reuseaddr"
    async with running("socat", "-u", "-", address) as process:
        stream = await connected(port)
        with stream.detach() as sock:
            assert process.stdin is not None
            process.stdin.write(b"head\r\nbody")
            process.stdin.close()
            assert await netio.readuntil(sock, b"\r\n", timeout=PATIENCE_S) == b"head\r\n"
            sock.settimeout(PATIENCE_S)
            assert sock.recv(4, socket.MSG_WAITALL) == b"body"


async def test_ncat_is_a_proxy_for_http_connect() -> None:
    port = free_port()
    proxy = ["ncat", "--listen", "127.0.0.1", str(port), "--proxy-type", "http"]
    async with netio.serve_tcp(greet, "127.0.0.1", grace=0) as server:
        for login in ("", "me:secret@"):
            options = ["--proxy-auth", "me:secret"] if login else []
            async with running(*proxy, *options):
                await (await connected(port)).aclose()
                url = f"http://{login}127.0.0.1:{port}"
                async with netio.connect_tcp("127.0.0.1", server.port, proxy=url) as stream:
                    assert await stream.read_exactly(5) == b"hello"
                    await stream.write(b"back")
                    assert await stream.read_exactly(4, timeout=PATIENCE_S) == b"back"
                if login:
                    url = f"http://me:wrong@127.0.0.1:{port}"
                    with pytest.raises(netio.ConnectFailed, match="answers 407"):
                        await netio.connect_tcp("127.0.0.1", server.port, proxy=url)
            port = free_port()
            proxy[3] = str(port)


async def greet(stream: netio.Stream) -> None:
    await stream.write(b"hello")
    await stream.write(await stream.read_exactly(4))
