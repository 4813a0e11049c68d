"""TLS where connections come from: Unix sockets, listeners, proxies; and files that go over it."""

import asyncio
import contextlib
import io
import logging
import socket
import ssl
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import secured
from footprint import footprint, settled
from real_time import until
from streams import outcome_of

import netio
import netio.testing
from netio.testing import check_listener

HOST = "127.0.0.1"
pytestmark = pytest.mark.real_time("the kernel makes the connections")

Pair = tuple[netio.Stream, netio.Stream]


async def echo(stream: netio.Stream) -> None:
    async for chunk in stream.chunks():
        await stream.write(chunk)


async def echoes(stream: netio.Stream) -> None:
    await stream.write(b"hello", timeout=5)
    assert await stream.read_exactly(5, timeout=5) == b"hello"


def over_unix(path: Path, **options: Any) -> Any:
    client = secured.contexts()[0]
    options = {"tls": client, "server_hostname": secured.NAME, "timeout": 5, **options}
    return netio.connect_unix(path, **options)


@contextlib.asynccontextmanager
async def listening(**options: Any) -> AsyncIterator[netio.Listener]:
    async with netio.listen_tcp(HOST, tls=secured.contexts()[1], **options) as listener:
        yield listener


def connect(listener: Any, **options: Any) -> Any:
    return netio.connect_tcp(HOST, listener.port, tls=secured.contexts()[0], timeout=5, **options)


# Unix sockets. ---------------------------------------------------------------------------------


async def test_tls_goes_over_unix_sockets(tmp_path: Path) -> None:
    path = tmp_path / "socket"
    async with netio.serve_unix(echo, path, tls=secured.contexts()[1], grace=0):
        async with over_unix(path) as stream:
            await echoes(stream)
            assert stream.tls.server_name == secured.NAME
        with pytest.raises(netio.CertificateError, match="not valid for 'other'"):
            await over_unix(path, server_hostname="other")


async def test_a_handshake_over_a_unix_socket_has_limits(tmp_path: Path) -> None:
    path = tmp_path / "socket"
    async with netio.listen_unix(path):  # in whose backlog it stays
        error = await outcome_of(over_unix(path, timeout=0.02))
        assert (type(error), error.limit) == (netio.DeadlineExceeded, "call")
        assert "TLS handshake" in str(error)
        error = await outcome_of(over_unix(path, timeouts=netio.Timeouts(handshake=0.02)))
        assert (type(error), error.limit) == (netio.DeadlineExceeded, "handshake")


def test_over_unix_sockets_what_can_be_wrong_is_told_before_any_io(tmp_path: Path) -> None:
    client, server = secured.contexts()
    path = tmp_path / "socket"
    for options, text in (
        ({"tls": client}, "server_hostname is missing"),
        ({"tls": server}, "tls is a context for servers"),
        ({"server_hostname": "x"}, "server_hostname is for TLS"),
        ({"tls": client, "server_hostname": "x", "max_descriptors": 1}, "max_descriptors"),
    ):
        with pytest.raises(ValueError, match=text):
            netio.connect_unix(path, **options)
    for listen in (netio.listen_unix, lambda *a, **o: netio.serve_unix(echo, *a, **o)):
        with pytest.raises(ValueError, match="tls is a context for clients"):
            listen(path, tls=client)
        with pytest.raises(ValueError, match="max_descriptors"):
            listen(path, tls=server, max_descriptors=1)
    with pytest.raises(TypeError, match="tls must be"):
        netio.listen_tcp(HOST, tls=5)


@pytest.mark.timeout(60)
@pytest.mark.parametrize("road", ["tcp", "unix"])
async def test_serving_and_connecting_over_tls_conform(road: str, tmp_path: Path) -> None:
    contexts = secured.contexts()
    paths: dict[int, Path] = {}

    def serve(handler: Any, **options: Any) -> Any:
        if road == "tcp":
            return netio.serve_tcp(handler, HOST, tls=contexts[1], **options)
        paths[0] = tmp_path / str(len(list(tmp_path.iterdir())))
        return netio.serve_unix(handler, paths[0], tls=contexts[1], **options)

    def to(server: netio.Server, **options: Any) -> Any:
        if road == "tcp":
            return netio.connect_tcp(HOST, server.port, tls=contexts[0], **options)
        path = server.addresses[0]
        assert isinstance(path, str)
        return netio.connect_unix(path, tls=contexts[0], server_hostname=secured.NAME, **options)

    await check_listener(serve, to)


# Listeners. ------------------------------------------------------------------------------------


async def test_a_listener_gives_connections_that_have_spoken_tls() -> None:
    before = footprint()
    async with listening() as listener:
        for _ in range(2):
            client = asyncio.create_task(outcome_of(connect(listener)))
            async with await listener.accept(timeout=5) as theirs:
                assert theirs.tls is not None
                async with await client as ours:
                    await ours.write(b"hello")
                    assert await theirs.read_exactly(5, timeout=5) == b"hello"
    assert await settled(before) == before


async def test_who_says_nothing_holds_up_nobody_and_is_a_line_in_the_log(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO, "netio")
    async with listening(timeouts=netio.Timeouts(handshake=0.1)) as listener:
        with socket.create_connection((HOST, listener.port)) as silent:
            with socket.create_connection((HOST, listener.port)) as rude:
                rude.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
                client = asyncio.create_task(outcome_of(connect(listener)))
                async with await listener.accept(timeout=5), await client:
                    pass
                silent.setblocking(False)
                # With nobody who accepts, too.
                assert await asyncio.get_running_loop().sock_recv(silent, 100) == b""
    texts = [record.getMessage() for record in caplog.records if record.name == "netio"]
    assert len(texts) == 2
    assert "plain HTTP" in texts[0]
    assert "the limit of the handshake (0.1 s) was reached" in texts[1]


async def test_a_cancelled_accept_loses_no_connection_in_its_handshake() -> None:
    async with listening() as listener:
        client = asyncio.create_task(outcome_of(connect(listener)))
        accepting = asyncio.create_task(outcome_of(listener.accept()))
        greeter = listener._greeter
        assert await until(lambda: greeter.under_way or greeter.done)
        accepting.cancel()
        assert isinstance(await accepting, asyncio.CancelledError)
        async with await client as ours, await listener.accept(timeout=5) as theirs:
            await theirs.write(b"hello")
            assert await ours.read_exactly(5, timeout=5) == b"hello"


async def test_closing_a_listener_ends_its_handshakes() -> None:
    """One that is under way, and one that is done and was not taken."""
    before = footprint()
    with socket.socket() as silent:
        silent.settimeout(5)
        async with listening() as listener:
            greeter = listener._greeter
            accepting = asyncio.create_task(outcome_of(listener.accept()))
            silent.connect((HOST, listener.port))
            assert await until(lambda: greeter.under_way)
            accepting.cancel()
            await accepting
            client = asyncio.create_task(outcome_of(connect(listener)))
            while len(greeter.under_way) + len(greeter.done) < 2:
                assert type(await outcome_of(listener.accept(timeout=0))) is netio.DeadlineExceeded
                await until(lambda: greeter.done, seconds=0.01)
            assert await until(lambda: greeter.done)
        async with await client as stream:
            assert isinstance(await outcome_of(stream.read_some(timeout=5)), netio.ConnectionLost)
        with pytest.raises(ConnectionResetError):
            silent.recv(1)
    assert await settled(before) == before


async def test_hundred_clients_at_once_are_accepted() -> None:
    async with listening() as listener:

        async def client(number: int) -> None:
            async with connect(listener) as stream:
                await stream.write(b"%d\n" % number)
                assert await stream.read_line(timeout=10) == b"%d\n" % number

        clients = [asyncio.create_task(client(number)) for number in range(100)]
        for _ in clients:
            async with await listener.accept(timeout=10) as stream:
                await stream.write(await stream.read_line(timeout=10))
        await asyncio.gather(*clients)


# Proxies. --------------------------------------------------------------------------------------


async def tunnel(stream: netio.Stream) -> None:
    """An HTTP proxy that connects wherever it is asked to."""
    line = await stream.read_line()
    host, _, port = line.split()[1].decode().rpartition(":")
    while await stream.read_line() != b"\r\n":
        pass
    async with netio.connect_tcp(host, int(port)) as onward:
        await stream.write(b"HTTP/1.1 200 OK\r\n\r\n")
        await asyncio.gather(pour(stream, onward), pour(onward, stream))


async def pour(one: netio.Stream, other: netio.Stream) -> None:
    with contextlib.suppress(netio.NetioError):
        async for chunk in one.chunks():
            await other.write(chunk)
        await other.write_eof()


async def test_tls_is_spoken_with_the_host_behind_a_proxy() -> None:
    context = secured.contexts()[1]
    async with netio.serve_tcp(echo, HOST, tls=context, grace=0) as server:
        async with netio.serve_tcp(tunnel, HOST, grace=1) as proxy:
            url = f"http://{HOST}:{proxy.port}"
            async with connect(server, proxy=url) as stream:
                await echoes(stream)
                assert stream.peer == (HOST, proxy.port)
                assert stream.tls.server_name == HOST
            with pytest.raises(netio.CertificateError):
                await connect(server, proxy=url, server_hostname="other.example")


async def test_a_failed_handshake_behind_a_proxy_leaves_nothing() -> None:
    before = footprint()

    async def refuse(stream: netio.Stream) -> None:
        await stream.read_until(b"\r\n\r\n")
        await stream.write(b"HTTP/1.1 200 OK\r\n\r\nand no TLS")

    async with netio.serve_tcp(refuse, HOST, grace=1) as proxy:
        with pytest.raises(netio.TLSError):
            await connect(proxy, proxy=f"http://{HOST}:{proxy.port}")
    assert await settled(before) == before


# Who watches, and files. -----------------------------------------------------------------------


class Watch(netio.Observer):
    def __init__(self) -> None:
        self.events: list[str] = []

    def stream_opened(self, stream: netio.Stream) -> None:
        self.events.append("opened")

    def stream_closed(self, stream: netio.Stream, how: str) -> None:
        self.events.append(how)


async def test_an_observer_is_told_of_a_stream_of_which_the_handshake_fails() -> None:
    async with netio.serve_tcp(echo, HOST, tls=secured.contexts()[1], grace=0) as server:
        watch = Watch()
        with netio.observe(watch):
            with pytest.raises(netio.CertificateError):
                await connect(server, server_hostname="other.example")
            await until(lambda: len(watch.events) == 4)  # of the server, too
        assert sorted(watch.events) == ["closed", "closed", "opened", "opened"]


@pytest.mark.parametrize("kind", ["file", "BytesIO"])
async def test_a_file_goes_over_tls(kind: str, tmp_path: Path) -> None:
    data = bytes(range(256)) * 4000
    path = tmp_path / "file"
    path.write_bytes(data)
    near, far = await secured.make_pair("tcp")
    async with near, far:
        with path.open("rb") if kind == "file" else io.BytesIO(data) as file:
            sending = asyncio.create_task(near.send_file(file, offset=10))
            assert await far.read_exactly(len(data) - 10) == data[10:]
            assert await sending == len(data) - 10


async def test_a_file_that_is_cut_over_tls_is_counted_to_the_byte(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"x" * (8 << 20))
    near, far = await secured.make_pair("tcp", small=True)
    with path.open("rb") as file:
        error = await outcome_of(near.send_file(file, timeout=0.02))
    assert isinstance(error, netio.DeadlineExceeded)
    await near.aclose()
    got = 0
    with pytest.raises(netio.TruncatedStream):
        while chunk := await far.read_some(timeout=5):
            got += len(chunk)
    assert got == error.done
    await far.aclose()


async def test_descriptors_do_not_go_over_tls() -> None:
    near, far = await secured.make_pair("unix")
    async with near, far:
        with pytest.raises(TypeError, match="Unix sockets only"):
            await near.send_descriptors([0], b"x")


async def test_ssl_of_the_standard_library_is_all_it_takes(tmp_path: Path) -> None:
    """A plain client of its own, over a Unix socket."""
    path = tmp_path / "socket"
    loop = asyncio.get_running_loop()

    def ask() -> bytes:
        with socket.socket(socket.AF_UNIX) as sock:
            sock.settimeout(5)
            sock.connect(str(path))
            context: ssl.SSLContext = secured.contexts()[0]
            with context.wrap_socket(sock, server_hostname=secured.NAME) as secure:
                secure.sendall(b"hello")
                return secure.recv(5)

    async with netio.serve_unix(echo, path, tls=secured.contexts()[1], grace=1):
        assert await loop.run_in_executor(None, ask) == b"hello"
