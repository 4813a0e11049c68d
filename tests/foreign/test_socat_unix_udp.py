"""Over Unix sockets and UDP against socat and ncat, as server and as client."""

import asyncio
import os
from pathlib import Path

import pytest
import unix_paths
from other_programs import PATIENCE_S, free_port, running

import netio

place = unix_paths.place

pytestmark = pytest.mark.foreign("socat", "ncat")


async def until_there(path: Path) -> None:
    """The program needs a moment until it listens."""
    async with netio.timeout(PATIENCE_S):
        while not path.exists():  # noqa: ASYNC110 - it is another process that makes it
            await asyncio.sleep(0.005)


async def connected(path: Path | bytes) -> netio.Stream:
    """As soon as it listens."""
    deadline = netio.Deadline.after(PATIENCE_S)
    while True:
        try:
            return await netio.connect_unix(path, timeout=deadline)
        except netio.ConnectFailed:
            await asyncio.sleep(0.005)


# Unix streams. --------------------------------------------------------------------------------


async def test_an_echo_server_of_socat_on_a_path(place: Path) -> None:
    async with running("socat", f"UNIX-LISTEN:{place / 's'}", "EXEC:cat"):
        async with await connected(place / "s") as stream:
            data = os.urandom(30_000)
            await stream.write(data)
            assert await stream.read_exactly(len(data), timeout=PATIENCE_S) == data
            await stream.write_eof()
            assert await stream.read_some(timeout=PATIENCE_S) == b""


async def test_an_echo_server_of_socat_on_an_abstract_name() -> None:
    name = unix_paths.abstract_name()
    shown = name[1:].decode()
    async with running("socat", f"ABSTRACT-LISTEN:{shown},unix-tightsocklen=1", "EXEC:cat"):
        async with await connected(name) as stream:
            await stream.write(b"hello")
            assert await stream.read_exactly(5, timeout=PATIENCE_S) == b"hello"


async def test_an_echo_server_of_ncat_on_a_path(place: Path) -> None:
    async with running("ncat", "--listen", "-U", str(place / "s"), "--exec", "/bin/cat"):
        async with await connected(place / "s") as stream:
            await stream.write(b"hello")
            assert await stream.read_exactly(5, timeout=PATIENCE_S) == b"hello"


CLIENTS = {
    "socat": ["socat", "-t5", "-", "UNIX-CONNECT:{path}"],
    "ncat": ["ncat", "-U", "{path}"],
}


@pytest.mark.parametrize("program", CLIENTS)
async def test_a_server_on_a_path_echoes_until_the_half_close(program: str, place: Path) -> None:
    credentials = []

    async def echo(stream: netio.Stream) -> None:
        credentials.append(stream.socket.peer_credentials())
        async for chunk in stream.chunks():
            await stream.write(chunk)
        await stream.write(b"bye")

    data = os.urandom(200_000)
    async with netio.serve_unix(echo, place / "s"):
        command = [part.format(path=place / "s") for part in CLIENTS[program]]
        async with running(*command) as process:
            out, _ = await asyncio.wait_for(process.communicate(data), PATIENCE_S)
            assert [told.pid for told in credentials] == [process.pid]
    assert out == data + b"bye"


async def test_what_a_killed_program_has_left_is_replaced(place: Path) -> None:
    async with running("socat", f"UNIX-LISTEN:{place / 's'}", "EXEC:cat") as process:
        await until_there(place / "s")
        with pytest.raises(OSError, match="in use"):
            async with netio.timeout(PATIENCE_S):
                while True:  # it may be there, and not listened on yet
                    await netio.listen_unix(place / "s")
        process.kill()
        await process.wait()
    assert (place / "s").exists()
    async with netio.listen_unix(place / "s"):
        pass


# Datagrams. -----------------------------------------------------------------------------------

UDP_SERVERS = {
    "socat": ["socat", "UDP-LISTEN:{port},bind=127.0.0.1", "EXEC:cat"],
    "ncat": ["ncat", "--udp", "--listen", "127.0.0.1", "{port}", "--exec", "/bin/cat"],
}


@pytest.mark.parametrize("program", UDP_SERVERS)
async def test_datagrams_are_echoed_by_a_server(program: str) -> None:
    port = free_port()
    async with running(*(part.format(port=port) for part in UDP_SERVERS[program])):
        async with netio.connect_udp("127.0.0.1", port) as sock:
            answer = None
            async with netio.timeout(PATIENCE_S):
                while answer is None:  # the program needs a moment until it is there
                    try:
                        await sock.send(b"hello")
                        answer = await sock.receive(timeout=0.2)
                    except (netio.ConnectionRefused, netio.DeadlineExceeded):
                        await asyncio.sleep(0.005)
            assert answer == (b"hello", ("127.0.0.1", port))


UDP_CLIENTS = {
    "socat": ["socat", "-t1", "-", "UDP:127.0.0.1:{port}"],
    "ncat": ["ncat", "--udp", "127.0.0.1", "{port}"],
}


@pytest.mark.parametrize("program", UDP_CLIENTS)
async def test_datagrams_of_a_client_are_answered(program: str) -> None:
    async with netio.bind_udp("127.0.0.1") as sock:
        port = sock.local[1]  # type: ignore[index]
        async with running(*(part.format(port=port) for part in UDP_CLIENTS[program])) as process:
            assert process.stdin is not None
            assert process.stdout is not None
            for line in (b"one\n", b"two\n"):
                process.stdin.write(line)
                datagram = await sock.receive(timeout=PATIENCE_S)
                assert datagram.data == line
                await sock.send_to(b"answer to " + line, datagram.address)
                answer = await asyncio.wait_for(process.stdout.readline(), PATIENCE_S)
                assert answer == b"answer to " + line


async def test_datagrams_of_socat_over_unix_sockets(place: Path) -> None:
    async with netio.bind_unix_datagram(place / "s") as sock:
        address = f"UNIX-SENDTO:{place / 's'},bind={place / 'c'}"
        async with running("socat", "-t1", "-", address) as process:
            assert process.stdin is not None
            assert process.stdout is not None
            process.stdin.write(b"question\n")
            datagram = await sock.receive(timeout=PATIENCE_S)
            assert datagram == (b"question\n", str(place / "c"))
            await sock.send_to(b"answer\n", datagram.address)
            answer = await asyncio.wait_for(process.stdout.readline(), PATIENCE_S)
            assert answer == b"answer\n"
    async with running("socat", f"UNIX-RECVFROM:{place / 'e'}", "EXEC:cat"):
        await until_there(place / "e")
        async with netio.connect_unix_datagram(place / "e", local_path=place / "own") as sock:
            await sock.send(b"echo")
            assert (await sock.receive(timeout=PATIENCE_S)).data == b"echo"
