"""Servers: a task for each connection, and what goes wrong in one stays there."""

import asyncio
import contextlib
import errno
import logging
import math
import socket
import subprocess
import sys
import textwrap
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest
from footprint import footprint, settled
from raw_sockets import HAS_IPV6
from real_time import until
from streams import outcome_of, tcp_sockets, ticks
from virtual import virtual_loop

import netio
from netio import _network
from netio._channel import SocketChannel
from netio._readiness import Waiter
from netio.testing import Network

Log = pytest.LogCaptureFixture


async def echo(stream: netio.Stream) -> None:
    async for chunk in stream.chunks():
        await stream.write(chunk)


def port_of(server: netio.Server) -> int:
    return server.addresses[0][1]


@contextlib.asynccontextmanager
async def serving(handler: Any, **options: Any) -> AsyncIterator[netio.Server]:
    options = {"host": "127.0.0.1", "grace": 0} | options
    async with netio.serve_tcp(handler, **options) as server:
        yield server


async def still_serves(server: netio.Server) -> bool:
    async with netio.connect_tcp("127.0.0.1", port_of(server), timeout=5) as stream:
        await stream.write(b"ping")
        return await stream.read_exactly(4, timeout=5) == b"ping"


# Serving. ----------------------------------------------------------------------------------------


def of_netio(caplog: Log) -> list[logging.LogRecord]:
    """Not what asyncio's debug mode says of a slow machine."""
    return [record for record in caplog.records if record.name == "netio"]


async def test_each_connection_has_its_own_task() -> None:
    async with serving(echo) as server:
        async with contextlib.AsyncExitStack() as opened:
            streams = [
                await opened.enter_async_context(netio.connect_tcp("127.0.0.1", port_of(server)))
                for _ in range(20)
            ]
            for number, stream in reversed(list(enumerate(streams))):
                await stream.write(b"%d" % number)
                assert await stream.read_some() == b"%d" % number
            assert len(server.connections) == 20
            assert server.statistics() == netio.ServerStatistics(accepted=20, active=20, failed=0)
            assert {s.peer for s in server.connections} == {s.local for s in streams}
        assert await until(lambda: not server.connections)
    assert server.statistics() == netio.ServerStatistics(accepted=20, active=0, failed=0)


async def test_the_stream_is_closed_when_the_handler_returns() -> None:
    async def hello(stream: netio.Stream) -> None:
        await stream.write(b"hello")

    async with serving(hello) as server:
        async with netio.connect_tcp("127.0.0.1", port_of(server)) as stream:
            assert await stream.read_all(limit=100, timeout=5) == b"hello"


async def test_the_settings_reach_the_streams() -> None:
    seen = []

    async def look(stream: netio.Stream) -> None:
        seen.append((stream.timeouts.read, type(await outcome_of(stream.read_line()))))

    timeouts = netio.Timeouts(read=7)
    async with serving(look, timeouts=timeouts, limit=5) as server:
        async with netio.connect_tcp("127.0.0.1", port_of(server)) as stream:
            await stream.write(b"too long\n")
            assert await until(lambda: bool(seen))
    assert seen == [(7, netio.LimitExceeded)]


async def test_a_handler_may_be_any_callable_that_gives_an_awaitable() -> None:
    async with serving(lambda stream: echo(stream)) as server:
        assert await still_serves(server)
    async with serving(lambda stream: asyncio.ensure_future(echo(stream))) as server:
        assert await still_serves(server)


async def test_a_handler_may_give_its_socket_away() -> None:
    given: list[socket.socket] = []

    async def give(stream: netio.Stream) -> None:
        given.append(stream.detach())

    async with serving(give) as server:
        async with netio.connect_tcp("127.0.0.1", port_of(server)) as stream:
            assert await until(lambda: bool(given) and not server.connections)
            with given[0] as sock:
                sock.send(b"alive")
                assert await stream.read_exactly(5) == b"alive"


async def test_serve_forever_waits_for_the_end_and_a_cancel_ends_only_the_wait() -> None:
    async with serving(echo) as server:
        task = asyncio.create_task(server.serve_forever())
        await ticks(3)
        task.cancel()
        await asyncio.wait([task])
        assert await still_serves(server)
        task = asyncio.create_task(server.serve_forever())
        await ticks(3)
        await server.aclose()
        await asyncio.wait_for(task, 1)


async def test_no_handler_runs_before_the_caller_has_the_server() -> None:
    """Not even an eager one, for a connection that was there before the server."""
    servers: list[netio.Server] = []
    seen = []

    async def handler(stream: netio.Stream) -> None:
        seen.append(len(servers))

    with socket.create_server(("127.0.0.1", 0)) as sock:
        with socket.create_connection(sock.getsockname()):
            async with netio.serve_tcp(handler, sock=sock) as server:
                servers.append(server)
                assert await until(lambda: bool(seen))
    assert seen == [1]


async def test_the_accepted_sockets_send_small_messages_at_once() -> None:
    seen = []

    async def look(stream: netio.Stream) -> None:
        seen.append(stream.socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))

    async with serving(look) as server:
        async with netio.connect_tcp("127.0.0.1", port_of(server)):
            assert await until(lambda: bool(seen))
    assert seen[0]


# Where. ------------------------------------------------------------------------------------------


@pytest.mark.skipif(not HAS_IPV6, reason="no IPv6 on this machine")
async def test_no_host_means_all_addresses_of_both_families_on_one_port() -> None:
    async with netio.serve_tcp(echo, grace=0) as server:
        assert {address[0] for address in server.addresses} == {"0.0.0.0", "::"}
        assert len({address[1] for address in server.addresses}) == 1
        for host in ("127.0.0.1", "::1"):
            async with netio.connect_tcp(host, port_of(server)) as stream:
                await stream.write(b"x")
                assert await stream.read_exactly(1) == b"x"


async def test_the_port_the_system_chose_for_one_family_may_be_in_use_in_the_other(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    busy = iter([False, True, False, False])
    opened = []

    def listener(target: _network.Target, port: int, *rest: Any) -> socket.socket:
        if next(busy):
            assert port
            raise OSError(errno.EADDRINUSE, "in use")
        opened.append(original(_network.Target(socket.AF_INET, ("127.0.0.1", 0)), 0, *rest))
        return opened[-1]

    original = _network._listener
    monkeypatch.setattr(_network, "_listener", listener)
    targets = [_network.Target(socket.AF_INET, ("127.0.0.1", 0))] * 2
    socks = _network._listeners(targets, 0, 5, ())
    assert socks == opened[1:]
    assert opened[0].fileno() == -1, "the listener of the failed try is left open"
    for sock in socks:
        sock.close()


@pytest.mark.parametrize("unsupported", [errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT])
async def test_a_machine_without_ipv6_serves_on_the_rest(
    monkeypatch: pytest.MonkeyPatch, unsupported: int
) -> None:
    original = _network._listener

    def listener(target: _network.Target, port: int, *rest: Any) -> socket.socket:
        if target.family == socket.AF_INET6:
            raise OSError(unsupported, "no IPv6 here")
        return original(target, port, *rest)

    monkeypatch.setattr(_network, "_listener", listener)
    async with netio.serve_tcp(echo, grace=0) as server:
        assert [address[0] for address in server.addresses] == ["0.0.0.0"]
    with pytest.raises(OSError, match="no IPv6 here"):
        await netio.serve_tcp(echo, "::1")


async def test_a_port_in_use_is_an_error_that_names_the_address() -> None:
    before = footprint()
    async with serving(echo) as server:
        with pytest.raises(OSError, match=f"127.0.0.1:{port_of(server)}") as caught:
            await netio.serve_tcp(echo, "127.0.0.1", port_of(server))
        assert caught.value.errno == errno.EADDRINUSE
        if HAS_IPV6:
            with pytest.raises(OSError, match=str(port_of(server))):
                await netio.serve_tcp(echo, None, port_of(server))
        assert await still_serves(server)
    assert await settled(before) == before


async def test_an_address_of_another_machine_is_an_error_that_names_it() -> None:
    with pytest.raises(OSError, match=r"192\.0\.2\.1:80") as caught:
        await netio.serve_tcp(echo, "192.0.2.1", 80)
    assert caught.value.errno == errno.EADDRNOTAVAIL


async def test_a_name_that_does_not_resolve_is_an_error_that_names_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def unknown(*_: object, **__: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    with pytest.raises(netio.ConnectFailed, match=r"listen on nowhere\.example") as caught:
        await netio.serve_tcp(echo, "nowhere.example", 80)
    [error] = caught.value.attempts
    assert isinstance(error, socket.gaierror)


@pytest.mark.parametrize("listening", [False, True])
async def test_a_bound_socket_can_be_handed_over(listening: bool) -> None:
    sock = socket.socket()
    sock.bind(("127.0.0.1", 0))
    if listening:
        sock.listen(1)
    async with netio.serve_tcp(echo, sock=sock, grace=0) as server:
        assert server.addresses == (sock.getsockname(),)
        assert await still_serves(server)
    assert sock.fileno() == -1


@pytest.mark.parametrize(
    ("kind", "expected", "message"),
    [
        ("closed", ValueError, "sock is closed"),
        ("datagram", ValueError, "sock must be a TCP socket"),
        ("unix", ValueError, "sock must be a TCP socket"),
        ("unbound", ValueError, "sock must be bound"),
        ("connected", ValueError, "sock must be a listener"),
        ("text", TypeError, "sock must be a plain socket"),
    ],
)
def test_a_socket_that_will_not_do_is_refused(
    kind: str, expected: type[Exception], message: str
) -> None:
    with contextlib.ExitStack() as opened:
        sock: Any = "sock"
        if kind != "text":
            family = socket.AF_UNIX if kind == "unix" else socket.AF_INET
            type_ = socket.SOCK_DGRAM if kind == "datagram" else socket.SOCK_STREAM
            sock = opened.enter_context(socket.socket(family, type_))
        if kind == "connected":
            sock, other = tcp_sockets()
            opened.enter_context(sock)
            opened.enter_context(other)
        if kind == "datagram":
            sock.bind(("127.0.0.1", 0))
        if kind == "closed":
            sock.close()
        with pytest.raises(expected, match=message):
            netio.serve_tcp(echo, sock=sock)


@pytest.mark.parametrize(
    ("wrong", "expected", "name"),
    [
        ({"handler": None}, TypeError, "handler"),
        ({"handler": 5}, TypeError, "handler"),
        ({"handler": echo(None)}, TypeError, "handler"),  # type: ignore[arg-type]
        ({"on_error": 5}, TypeError, "on_error"),
        ({"on_error": echo}, TypeError, "on_error"),
        ({"host": ""}, ValueError, "host"),
        ({"host": 5}, TypeError, "host"),
        ({"host": "a\0b"}, ValueError, "host"),
        ({"host": "x" * 64}, ValueError, "host"),
        ({"port": 70000}, ValueError, "port"),
        ({"port": -1}, ValueError, "port"),
        ({"port": "x"}, TypeError, "port"),
        ({"port": None}, TypeError, "port"),
        ({"timeouts": 5}, TypeError, "timeouts"),
        ({"limit": 0}, ValueError, "limit"),
        ({"limit": "x"}, TypeError, "limit"),
        ({"backlog": 0}, ValueError, "backlog"),
        ({"backlog": "x"}, TypeError, "backlog"),
        ({"grace": "x"}, TypeError, "grace"),
        ({"grace": None}, TypeError, "grace"),
        ({"grace": math.nan}, ValueError, "grace"),
        ({"network": 5}, TypeError, "network"),
    ],
)
def test_a_bad_argument_is_named_at_the_call(
    wrong: dict[str, Any], expected: type[Exception], name: str
) -> None:
    with pytest.raises(expected, match=rf"\b{name}\b"):
        netio.serve_tcp(**{"handler": echo} | wrong)
    if asyncio.iscoroutine(wrong.get("handler")):
        wrong["handler"].close()


def test_a_socket_stands_instead_of_an_address() -> None:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        for other in ({"host": "x"}, {"port": 1}, {"network": Network()}):
            with pytest.raises(ValueError, match="sock stands instead"):
                netio.serve_tcp(echo, sock=sock, **other)  # type: ignore[arg-type]


# What goes wrong in a handler. -------------------------------------------------------------------


async def test_an_error_of_a_handler_ends_its_connection_only(caplog: Log) -> None:
    async def handler(stream: netio.Stream) -> None:
        async for line in stream.lines():
            if line == b"fail\n":
                raise ZeroDivisionError
            await stream.write(line)

    async with serving(handler) as server:
        async with netio.connect_tcp("127.0.0.1", port_of(server)) as good:
            async with netio.connect_tcp("127.0.0.1", port_of(server)) as bad:
                await bad.write(b"fail\n")
                assert await bad.read_some() == b""
                peer = f"127.0.0.1:{bad.local[1]}"  # type: ignore[index]
            await good.write(b"fine\n")
            assert await good.read_line() == b"fine\n"
        assert await until(lambda: not server.connections)
        assert server.statistics().failed == 1
    [record] = of_netio(caplog)
    assert (record.name, record.levelno) == ("netio", logging.ERROR)
    assert record.exc_info is not None
    assert peer in record.getMessage()


@pytest.mark.parametrize("grouped", [False, True])
@pytest.mark.any_clock
async def test_what_the_peer_caused_is_one_line_without_a_traceback(
    caplog: Log, grouped: bool
) -> None:
    async def handler(stream: netio.Stream) -> None:
        if not grouped:
            await stream.read_exactly(100)
        async with asyncio.TaskGroup() as group:
            group.create_task(stream.read_exactly(100))

    caplog.set_level(logging.INFO, "netio")
    async with serving(handler, timeouts=netio.Timeouts(read=0.02)) as server:
        reset = await netio.connect_tcp("127.0.0.1", port_of(server))
        truncated = await netio.connect_tcp("127.0.0.1", port_of(server))
        silent = await netio.connect_tcp("127.0.0.1", port_of(server))
        assert await until(lambda: len(server.connections) == 3)
        reset.abort()
        await truncated.aclose()
        assert await until(lambda: not server.connections)
        await silent.aclose()
    assert len(caplog.records) == 3
    for record in caplog.records:
        assert record.levelno == logging.INFO
        assert record.exc_info is None
        assert "\n" not in record.getMessage()
        assert "127.0.0.1:" in record.getMessage()
        assert "of 100 bytes are buffered" in record.getMessage()  # also when it is in a group


@pytest.mark.parametrize("error", [TimeoutError, ConnectionResetError])
async def test_plain_errors_of_time_and_connection_give_no_traceback_either(
    caplog: Log, error: type[OSError]
) -> None:
    async def handler(stream: netio.Stream) -> None:
        raise error

    caplog.set_level(logging.INFO, "netio")
    async with serving(handler) as server:
        async with netio.connect_tcp("127.0.0.1", server.port) as stream:
            assert await stream.read_some() == b""
    [record] = of_netio(caplog)
    assert (record.levelno, record.exc_info) == (logging.INFO, None)


async def test_the_port_of_a_server_is_that_of_its_first_address() -> None:
    async with serving(echo) as server:
        assert server.port == server.addresses[0][1]


async def test_a_stream_of_another_handler_that_has_ended_gives_no_traceback(caplog: Log) -> None:
    """A chat: who passes something on must not fill the log when the other one has left."""
    streams: list[netio.Stream] = []

    async def handler(stream: netio.Stream) -> None:
        streams.append(stream)
        if len(streams) == 1:
            await stream.read_some()
            return
        assert await until(lambda: streams[0].closed)
        await streams[0].write(b"hello")

    caplog.set_level(logging.INFO, "netio")
    async with serving(handler) as server:
        first = await netio.connect_tcp("127.0.0.1", server.port)
        assert await until(lambda: len(streams) == 1)
        async with netio.connect_tcp("127.0.0.1", server.port) as second:
            assert await until(lambda: len(streams) == 2)
            await first.aclose()
            assert await second.read_some() == b""
    [record] = of_netio(caplog)
    assert (record.levelno, record.exc_info) == (logging.INFO, None)
    assert "StreamClosed" in record.getMessage()


async def test_a_mistake_of_the_handler_is_no_fault_of_the_peer(caplog: Log) -> None:
    async def handler(stream: netio.Stream) -> None:
        await stream.aclose()
        await stream.read_some()

    async with serving(handler) as server:
        async with netio.connect_tcp("127.0.0.1", port_of(server)) as stream:
            assert await stream.read_some() == b""
    [record] = of_netio(caplog)
    assert record.levelno == logging.ERROR
    assert record.exc_info is not None


async def test_a_handler_that_is_no_coroutine_function_is_told_and_closed(caplog: Log) -> None:
    async with serving(lambda stream: None) as server:
        async with netio.connect_tcp("127.0.0.1", port_of(server)) as stream:
            assert await stream.read_some() == b""
    [record] = of_netio(caplog)
    assert record.exc_info is not None
    assert "handler must be an async function" in str(record.exc_info[1])


async def test_on_error_is_given_the_stream_and_the_error(caplog: Log) -> None:
    caplog.set_level(logging.CRITICAL, "netio")
    seen: list[tuple[object, Exception]] = []

    async def handler(stream: netio.Stream) -> None:
        await stream.read_exactly(5)

    async with serving(handler, on_error=lambda *args: seen.append(args)) as server:  # type: ignore
        async with netio.connect_tcp("127.0.0.1", port_of(server)) as stream:
            local = stream.local
        assert await until(lambda: bool(seen))
    [(failed, error)] = seen
    assert isinstance(failed, netio.Stream)
    assert failed.peer == local
    assert isinstance(error, netio.IncompleteRead)


async def test_an_on_error_that_fails_is_logged_and_the_server_goes_on(caplog: Log) -> None:
    async def handler(stream: netio.Stream) -> None:
        await stream.write(await stream.read_exactly(4))

    def on_error(stream: netio.Stream, error: Exception) -> None:
        raise ZeroDivisionError

    async with serving(handler, on_error=on_error) as server:
        await (await netio.connect_tcp("127.0.0.1", port_of(server))).aclose()
        assert await until(lambda: server.statistics().failed == 1)
        assert await still_serves(server)
    assert [record.levelno for record in caplog.records] == [logging.ERROR]
    assert "on_error failed" in caplog.text


async def test_a_handler_that_cancels_itself_ends_its_connection_only(caplog: Log) -> None:
    async def handler(stream: netio.Stream) -> None:
        if await stream.read_exactly(4) == b"stop":
            raise asyncio.CancelledError
        await stream.write(b"ping")

    async with serving(handler) as server:
        async with netio.connect_tcp("127.0.0.1", port_of(server)) as stream:
            await stream.write(b"stop")
            assert await stream.read_some() == b""
        assert await still_serves(server)
    assert caplog.records == []


async def test_a_handler_cancelled_before_its_first_step_leaves_no_socket_open() -> None:
    loop = asyncio.get_running_loop()
    started = []

    async def handler(stream: netio.Stream) -> None:
        started.append(stream)
        await stream.read_some()

    before = footprint()
    async with serving(handler) as server:
        known = asyncio.all_tasks()

        def cancel_new() -> None:
            for task in asyncio.all_tasks() - known:
                task.cancel()
            if not server.statistics().accepted:
                loop.call_soon(cancel_new)

        async with netio.connect_tcp("127.0.0.1", port_of(server)) as stream:
            loop.call_soon(cancel_new)
            outcome = await outcome_of(stream.read_some(timeout=5))
            assert outcome == b"" or isinstance(outcome, netio.ConnectionReset)
    if loop.get_task_factory() is None:  # an eager task has begun when it is made
        assert not started
    assert await settled(before) == before


# What goes wrong in accepting. -------------------------------------------------------------------


async def test_a_connection_given_up_before_it_is_accepted_does_not_stop_the_server() -> None:
    async with serving(echo) as server:
        for _ in range(50):
            sock = socket.create_connection(("127.0.0.1", port_of(server)))
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            sock.close()
        assert await still_serves(server)


@pytest.mark.parametrize("number", [errno.ECONNABORTED, errno.EPROTO, errno.EHOSTUNREACH])
async def test_an_error_of_one_connection_does_not_make_the_others_wait(
    monkeypatch: pytest.MonkeyPatch, number: int, caplog: Log
) -> None:
    errors = iter([number] * 5)

    class Broken(socket.socket):
        def accept(self) -> tuple[socket.socket, Any]:
            if (error := next(errors, None)) is not None:
                raise OSError(error, "broken already")
            return super().accept()

    sock = Broken()
    sock.bind(("127.0.0.1", 0))
    async with netio.serve_tcp(echo, sock=sock, grace=0) as server:
        async with asyncio.timeout(0.9):
            assert await still_serves(server)
    assert next(errors, None) is None
    assert caplog.records == []


class Failing(Network):
    """Whose acceptors fail for a while, each time they are asked."""

    def __init__(self, error: Exception, times: int) -> None:
        super().__init__(names={"server": "10.0.0.1"})
        self.errors = [error] * times
        self.asked = 0

    async def listen(self, *args: Any, **options: Any) -> list[Any]:
        [acceptor] = await super().listen(*args, **options)
        original = acceptor.accept

        def accept() -> Any:
            self.asked += 1
            if self.errors:
                raise self.errors.pop()
            return original()

        acceptor.accept = accept  # type: ignore[method-assign]
        return [acceptor]


@pytest.mark.parametrize(
    "error", [OSError(errno.EMFILE, "Too many open files"), MemoryError(), ValueError("odd")]
)
@pytest.mark.virtual_clock
async def test_whatever_accept_raises_the_server_rests_and_goes_on(error: Exception) -> None:
    network = Failing(error, times=3)
    async with netio.serve_tcp(echo, "server", 7000, network=network):
        async with netio.connect_tcp("server", 7000, network=network) as stream:
            await stream.write(b"ping")
            assert await stream.read_exactly(4) == b"ping"
        assert virtual_loop().time() == 3.0
        assert network.asked < 10


@pytest.mark.virtual_clock
async def test_a_server_that_rests_is_closed_at_once() -> None:
    network = Failing(OSError(errno.EMFILE, "Too many open files"), times=9)
    async with netio.serve_tcp(echo, "server", 7000, network=network):
        await asyncio.sleep(0.5)
    assert virtual_loop().time() == 0.5
    assert virtual_loop().timers() == []


def refuse_a_task(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the first task for a connection fail to be made, on the running loop."""
    monkeypatch.setattr("netio._server.ACCEPT_PAUSE_SECONDS", 0.01)
    loop = asyncio.get_running_loop()
    original = loop.get_task_factory()
    left = [1]

    def factory(loop: asyncio.AbstractEventLoop, coro: Any, **options: Any) -> Any:
        if "_handle" in coro.__qualname__ and left:
            left.pop()
            raise MemoryError
        if original is not None:
            return original(loop, coro, **options)
        name = options.pop("name", None)
        task = asyncio.Task(coro, loop=loop, **options)
        if name is not None:
            task.set_name(name)
        return task

    loop.set_task_factory(factory)


@pytest.mark.any_clock
async def test_a_task_that_cannot_be_made_costs_one_connection(
    monkeypatch: pytest.MonkeyPatch, caplog: Log
) -> None:
    refuse_a_task(monkeypatch)
    await one_connection_ends_and_the_server_goes_on()
    [record] = of_netio(caplog)
    assert "cannot accept" in record.getMessage()


@pytest.mark.any_clock
async def test_a_log_that_fails_does_not_end_the_server(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError("no space left")

    told: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: told.append(context))
    monkeypatch.setattr("netio._server._logger.error", full)
    refuse_a_task(monkeypatch)
    await one_connection_ends_and_the_server_goes_on()
    assert [str(context["exception"]) for context in told] == ["no space left"]


async def one_connection_ends_and_the_server_goes_on() -> None:
    async with serving(echo) as server:
        async with netio.connect_tcp("127.0.0.1", port_of(server)) as stream:
            outcome = await outcome_of(stream.read_some(timeout=5))
            assert outcome == b"" or isinstance(outcome, netio.ConnectionLost)
        assert await still_serves(server)


async def test_an_acceptor_passes_over_what_would_block() -> None:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        _network.start_listening(sock, 1)
        acceptor = _network.SocketAcceptor(asyncio.get_running_loop(), sock)
        assert acceptor.accept() is None
        with socket.create_connection(acceptor.address):  # type: ignore[arg-type]
            await acceptor.wait_readable(Waiter())
            channel = acceptor.accept()
            assert isinstance(channel, SocketChannel)
            channel.close()
        acceptor.close()
        acceptor.close()


OUT_OF_DESCRIPTORS = textwrap.dedent(
    """
    import asyncio, logging, resource, socket, sys, time
    import netio, netio._server

    netio._server.ACCEPT_PAUSE_SECONDS = 0.3
    lines = []

    class Keep(logging.Handler):
        def emit(self, record):
            lines.append(record.getMessage())

    logging.getLogger("netio").addHandler(Keep())

    async def echo(stream):
        async for chunk in stream.chunks():
            await stream.write(chunk)

    async def main():
        async with netio.serve_tcp(echo, "127.0.0.1", grace=0) as server:
            address = server.addresses[0]
            clients = [socket.socket() for _ in range(30)]
            for client in clients:
                client.setblocking(False)
            used = max(client.fileno() for client in clients) + 1
            soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
            resource.setrlimit(resource.RLIMIT_NOFILE, (used + 10, hard))
            for client in clients:
                client.connect_ex(address)
            await asyncio.sleep(0.05)
            accepted = server.statistics().accepted
            assert accepted <= 10, accepted
            cpu = time.process_time()
            await asyncio.sleep(0.3)
            cpu = time.process_time() - cpu
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
            before = time.monotonic()
            while server.statistics().accepted < 30:
                await asyncio.sleep(0.005)
            waited = time.monotonic() - before
            for client in clients:
                client.close()
            while server.connections:
                await asyncio.sleep(0.005)
            print(f"{cpu:.3f} {waited:.3f} {len(lines)}")
            assert all("Too many open files" in line for line in lines), lines

    if sys.argv[1] == "uvloop":
        import uvloop
        uvloop.run(main())
    else:
        asyncio.run(main())
    """
)


def test_a_server_out_of_descriptors_rests_and_goes_on_by_itself(loop_variant: str) -> None:
    before = time.monotonic()
    run = subprocess.run(
        [sys.executable, "-c", OUT_OF_DESCRIPTORS, loop_variant],
        capture_output=True,
        text=True,
        timeout=15,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    cpu, waited, lines = run.stdout.split()
    assert float(cpu) < 0.1, "it spins"
    assert float(waited) < 3
    assert 1 <= int(lines) <= 3
    assert time.monotonic() - before < 10
