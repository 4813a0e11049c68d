"""What belongs to whom: loops, threads and contexts, and nothing that is kept too long."""

import asyncio
import contextvars
import gc
import socket
import sys
import threading
import time
import weakref
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest
from raw_sockets import reset
from real_time import block_until
from streams import outcome_of, tcp_sockets

import netio


@pytest.fixture
def no_gc() -> Iterator[None]:
    gc.collect()
    gc.disable()
    yield
    gc.enable()


# Loops and threads. ---------------------------------------------------------------------------

CALLS: dict[str, Callable[[netio.Stream], Awaitable[object]]] = {
    "read": lambda stream: stream.read_until(b"\n"),
    "write": lambda stream: stream.write(b"x"),
    "write_eof": lambda stream: stream.write_eof(),
}


@pytest.mark.parametrize("name", CALLS)
async def test_another_thread_is_refused_also_while_the_loop_is_in_a_step(
    name: str, loop_factory: Any
) -> None:
    near, far = netio.stream_pair()
    await far.write(b"line\n")
    found: list[Any] = []

    async def use() -> None:
        found.append(await outcome_of(CALLS[name](near)))

    def run() -> None:
        with asyncio.Runner(loop_factory=loop_factory) as runner:
            runner.run(use())

    thread = threading.Thread(target=run)
    thread.start()
    assert block_until(lambda: not thread.is_alive())  # this task never leaves its step
    thread.join()
    assert isinstance(found[0], RuntimeError)  # law 3
    assert "another event loop" in str(found[0])
    assert await near.read_line() == b"line\n"
    await near.aclose()
    await far.aclose()


@pytest.mark.parametrize("end", ["abort", "aclose"])
def test_a_stream_can_be_ended_after_its_loop_was_closed(loop_factory: Any, end: str) -> None:
    loop = loop_factory()
    streams: list[netio.Stream] = []

    async def start() -> asyncio.Task[bytes]:
        streams.extend(netio.stream_pair())
        reading = asyncio.create_task(streams[0].read_exactly(1))
        await asyncio.sleep(0)
        return reading

    reading = loop.run_until_complete(start())
    numbers = [stream.socket.fileno() for stream in streams]
    loop.close()
    for stream in streams:
        if end == "abort":
            stream.abort()
        else:
            with pytest.raises(StopIteration):
                stream.aclose().send(None)
    assert [stream.closed for stream in streams] == [True, True]
    for number in numbers:
        with pytest.raises(OSError, match="Bad file descriptor"):
            socket.socket(fileno=number)
    reading._log_destroy_pending = False  # type: ignore[attr-defined]


# Contexts. ------------------------------------------------------------------------------------


@pytest.mark.virtual_clock
async def test_tasks_that_share_a_context_do_not_disturb_each_others_scopes() -> None:
    context = contextvars.copy_context()

    async def work(before: float, limit: float) -> str:
        await asyncio.sleep(before)
        try:
            async with netio.timeout(limit):
                await asyncio.sleep(3)
        except netio.DeadlineExceeded:
            return "expired"
        return "done"

    loop = asyncio.get_running_loop()
    works = [work(0, 500), work(1, 500), work(1.5, 0.5)]
    tasks = [loop.create_task(one, context=context) for one in works]
    assert await asyncio.gather(*tasks) == ["done", "done", "expired"]
    assert loop.time() == 4.0
    assert context.run(netio.remaining) == float("inf")


async def test_a_stream_does_not_keep_the_context_of_who_read_first(no_gc: None) -> None:
    class Thing:
        pass

    variable: contextvars.ContextVar[Thing] = contextvars.ContextVar("variable")
    near, far = netio.stream_pair()

    async def read_first() -> None:
        variable.set(Thing())
        things.append(weakref.ref(variable.get()))
        await near.read_exactly(1)

    things: list[weakref.ref[Thing]] = []
    reading = asyncio.create_task(read_first())
    await asyncio.sleep(0)
    await far.write(b"x")
    await reading
    del reading
    await asyncio.sleep(0)
    assert things[0]() is None
    await near.aclose()
    await far.aclose()


# Errors keep nothing alive. -------------------------------------------------------------------


async def test_errors_of_bare_sockets_keep_no_socket(no_gc: None) -> None:
    near, far = socket.socketpair()
    near.setblocking(False)
    kept = weakref.ref(near)
    assert isinstance(await outcome_of(netio.read_bytes(near, 1, timeout=0)), TimeoutError)
    far.close()
    assert isinstance(await outcome_of(netio.read_bytes(near, 1)), netio.IncompleteRead)
    near.close()
    del near
    assert kept() is None


@pytest.mark.parametrize("host", ["127.0.0.1", "no.such.name.invalid"])
async def test_a_failed_connect_leaves_no_cycle(no_gc: None, host: str) -> None:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port = sock.getsockname()[1]
    error = await outcome_of(netio.connect_tcp(host, port))
    assert isinstance(error, netio.ConnectFailed)
    kept = weakref.ref(error)
    del error
    await asyncio.sleep(0)
    assert kept() is None


async def test_a_failure_that_is_kept_has_no_context_of_the_caller() -> None:
    ours, theirs = tcp_sockets()
    near = netio.open_stream(ours)
    reset(theirs, ours)
    try:
        raise ZeroDivisionError
    except ZeroDivisionError:
        await outcome_of(near.read_some())
    with pytest.raises(netio.ConnectionLost) as lost:
        await near.read_some()
    assert lost.value.__cause__ is not None
    assert lost.value.__cause__.__context__ is None
    await near.aclose()


@pytest.mark.any_clock
async def test_a_scope_that_cuts_a_connect_says_so() -> None:
    listener = socket.create_server(("127.0.0.1", 0), backlog=0)
    port = listener.getsockname()[1]
    fill = [socket.socket() for _ in range(4)]
    for sock in fill:
        sock.setblocking(False)
        sock.connect_ex(("127.0.0.1", port))
    with pytest.raises(netio.DeadlineExceeded, match=r"during connect_tcp, peer 127.0.0.1:") as e:
        async with netio.timeout(0.01):
            await netio.connect_tcp("127.0.0.1", port)
    assert (e.value.operation, e.value.peer) == ("connect_tcp", ("127.0.0.1", port))
    for sock in (*fill, listener):
        sock.close()


@pytest.mark.skipif(sys.platform != "linux", reason="out-of-band data on Unix sockets")
@pytest.mark.real_time("the CPU time that a wait takes is measured")
async def test_out_of_band_data_does_not_make_readuntil_spin() -> None:
    near, far = socket.socketpair()
    near.setblocking(False)
    with near, far:
        try:
            far.send(b"a", socket.MSG_OOB)
        except OSError:
            pytest.skip("no out-of-band data on Unix sockets here")
        before = time.process_time()
        await outcome_of(netio.readuntil(near, b"\n", timeout=0.1))
        assert time.process_time() - before < 0.05


async def test_a_handler_that_ends_the_program_does_so_from_a_group() -> None:
    tasks: list[Any] = []

    async def handler(stream: netio.Stream) -> None:
        tasks.append(asyncio.current_task())
        raise BaseExceptionGroup("", [KeyboardInterrupt()])

    async with netio.serve_tcp(handler, "127.0.0.1", grace=0) as server:
        async with netio.connect_tcp("127.0.0.1", server.port) as stream:
            assert await stream.read_some(timeout=5) == b""
    assert isinstance(tasks[0].exception(), BaseExceptionGroup)
