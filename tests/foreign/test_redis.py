"""The client of the examples against a real Redis server, which each test starts for itself."""

import asyncio
import contextlib
import dataclasses
import os
from collections.abc import AsyncIterator
from typing import Any

import pytest
import secured
from other_programs import PATIENCE_S
from redis_servers import HOST, KINDS, Server, client, running

import netio

pytestmark = pytest.mark.foreign("redis-server")
kinds = pytest.mark.parametrize("kind", KINDS)


async def until_blocked(redis: Any, count: int) -> None:
    """Until so many clients wait for something to pop."""
    async with netio.timeout(PATIENCE_S):
        blocked = b"\r\nblocked_clients:%d\r\n" % count
        while blocked not in await redis.execute("INFO", "clients"):  # noqa: ASYNC110
            await asyncio.sleep(0.002)


async def refused(redis: Any) -> None:
    """The connection is not used any more, and says why."""
    sent = redis.stream.statistics().bytes_sent
    with pytest.raises(netio.ConnectionLost, match="replies are still due"):
        await redis.execute("PING")
    assert redis.stream.statistics().bytes_sent == sent


# When all is well. ----------------------------------------------------------------------------


@kinds
async def test_values_of_any_bytes_and_sizes_come_back(kind: str) -> None:
    async with running(kind) as server, server.connect() as redis:
        assert await redis.execute("GET", "none") is None
        for size in (0, 1, 2, 100, 16 * 1024 - 1, 65535, 65536, 65537, 1 << 20):
            value = (b"\r\n$-1\r\n" + os.urandom(size))[-size:] if size else b""
            assert await redis.execute("SET", b"key \0\r\n\xff", value) == b"OK"
            assert await redis.execute("GET", b"key \0\r\n\xff") == value
            assert await redis.execute("STRLEN", b"key \0\r\n\xff") == size


@kinds
async def test_ten_thousand_commands_are_sent_at_once(kind: str) -> None:
    async with running(kind) as server, server.connect() as redis:
        count = 10_000
        replies = await redis.execute_many(*[("INCR", "n")] * count, timeout=PATIENCE_S)
        assert replies == list(range(1, count + 1))
        value = os.urandom(1000)
        sets = [("SET", f"key {n}", b"%d " % n + value) for n in range(count)]
        assert await redis.execute_many(*sets, timeout=PATIENCE_S) == [b"OK"] * count
        gets = [("GET", f"key {n}") for n in range(count)]
        replies = await redis.execute_many(*gets, timeout=PATIENCE_S)
        assert replies == [b"%d " % n + value for n in range(count)]


@kinds
async def test_replies_that_are_large(kind: str) -> None:
    async with running(kind) as server, server.connect() as redis:
        everything = await redis.execute("INFO", "everything")
        assert b"\r\nprocess_id:%d\r\n" % server.process.pid in everything
        assert len(everything) > 4000
        assert len(await redis.execute("COMMAND")) > 200  # each of which is an array of arrays
        pushes = [("RPUSH", "list", *range(n, n + 1000)) for n in range(0, 100_000, 1000)]
        await redis.execute_many(*pushes, timeout=PATIENCE_S)
        values = await redis.execute("LRANGE", "list", 0, -1, timeout=PATIENCE_S)
        assert values == [b"%d" % n for n in range(100_000)]


@kinds
async def test_arrays_hold_arrays_and_nulls_and_errors(kind: str) -> None:
    script = "return {1, 'two', {3, {}}, false, redis.error_reply('E five')}"
    async with running(kind) as server, server.connect() as redis:
        *values, error = await redis.execute("EVAL", script, 0)
        assert values == [1, b"two", [3, []], None]
        assert isinstance(error, client.RedisError)
        assert str(error) == "E five"
        assert await redis.execute("BLPOP", "none", 0.01) is None  # a null array


@kinds
async def test_an_error_of_the_server_leaves_the_connection_in_step(kind: str) -> None:
    async with running(kind, "--requirepass", "secret") as server, server.connect() as redis:
        with pytest.raises(client.RedisError, match="NOAUTH"):
            await redis.execute("GET", "key")
        assert await redis.execute("AUTH", "secret") == b"OK"
        await redis.execute("RPUSH", "list", "value")
        with pytest.raises(client.RedisError, match="WRONGTYPE"):
            await redis.execute("GET", "list")
        commands = [("MULTI",), ("INCR", "list"), ("LLEN", "list"), ("EXEC",)]
        multi, *queued, [error, length] = await redis.execute_many(*commands)
        assert (multi, queued, length) == (b"OK", [b"QUEUED"] * 2, 1)
        assert isinstance(error, client.RedisError)
        assert await redis.execute("PING") == b"PONG"


# Limits. --------------------------------------------------------------------------------------


@kinds
async def test_a_reply_that_its_limit_cut_is_never_taken_for_another(kind: str) -> None:
    async with running(kind) as server, server.connect() as other:
        async with server.connect() as redis:
            with pytest.raises(netio.DeadlineExceeded) as caught:
                await redis.execute("BLPOP", "list", 0, timeout=0.05)
            assert (caught.value.limit, caught.value.done) == ("deadline", 0)
            await other.execute("RPUSH", "list", "value")
            # What would have been the reply to the next command; and no byte of it was lost.
            late = await client.read_reply(redis.stream, PATIENCE_S)
            assert late == [b"list", b"value"]
            await refused(redis)


@kinds
async def test_a_connection_that_was_cut_and_closed_takes_nothing_from_others(kind: str) -> None:
    async with running(kind) as server, server.connect() as other:
        async with server.connect() as redis:
            with pytest.raises(netio.DeadlineExceeded):
                await redis.execute("BLPOP", "list", 0, timeout=0.05)
            await until_blocked(other, 1)
            await refused(redis)
        await until_blocked(other, 0)
        await other.execute("RPUSH", "list", "value")
        assert await other.execute("LPOP", "list") == b"value"
        async with server.connect() as redis:
            assert await redis.execute("PING") == b"PONG"


@kinds
async def test_a_pipeline_that_its_limit_cut_has_done_what_came_before(kind: str) -> None:
    async with running(kind) as server, server.connect() as redis, server.connect() as other:
        commands = [("INCR", "n")] * 3 + [("BLPOP", "list", 0)] + [("INCR", "n")] * 3
        with pytest.raises(netio.DeadlineExceeded):
            await redis.execute_many(*commands, timeout=0.05)
        await refused(redis)
        assert await other.execute("GET", "n") == b"3"


@kinds
async def test_a_cancel_in_the_middle_of_a_reply(kind: str) -> None:
    async with running(kind) as server, server.connect() as redis, server.connect() as other:
        waiting = asyncio.create_task(redis.execute("BLPOP", "list", 0))
        await until_blocked(other, 1)
        waiting.cancel()
        await asyncio.wait([waiting])
        assert waiting.cancelled()
        await refused(redis)


@kinds
async def test_a_scope_around_several_calls(kind: str) -> None:
    async with running(kind) as server, server.connect() as redis:
        with pytest.raises(netio.DeadlineExceeded) as caught:
            async with netio.timeout(0.1, name="request"):
                assert await redis.execute("PING", timeout=None) == b"PONG"
                await redis.execute("BLPOP", "list", 0, timeout=None)
        assert caught.value.scope_name == "request"
        await refused(redis)


@kinds
async def test_each_call_ends_in_time_when_the_server_stands_still(kind: str) -> None:
    async with running(kind) as server:
        async with server.connect() as reader, server.connect() as writer:
            with server.stopped():
                with pytest.raises(netio.DeadlineExceeded) as caught:
                    await reader.execute("GET", "key", timeout=0.05)
                assert caught.value.operation == "read_until"
                assert 0.05 <= caught.value.elapsed < 1
                size = 32 << 20  # more than the buffers of both sides
                with pytest.raises(netio.DeadlineExceeded) as caught:
                    await writer.execute("SET", "key", b"x" * size, timeout=0.1)
                assert caught.value.operation.startswith("write(")
                assert 0 < caught.value.done < size
            await refused(reader)
            await refused(writer)


async def test_a_handshake_ends_in_time_when_the_server_stands_still() -> None:
    async with running("tls") as server:
        with server.stopped():
            with pytest.raises(netio.DeadlineExceeded, match="TLS handshake") as caught:
                await server.opening(timeout=0.1)
            assert 0.1 <= caught.value.elapsed < 1
        async with server.connect() as redis:
            assert await redis.execute("PING") == b"PONG"


async def test_tls_and_a_plain_port_do_not_understand_each_other() -> None:
    async with running("tls") as secure, running("tcp") as plain:
        # It waits for the end of the line that a handshake is to it, unless there is one in it.
        with pytest.raises((netio.DeadlineExceeded, netio.TLSError), match="handshake with"):
            await netio.connect_tcp(HOST, plain.port, tls=secured.contexts()[0], timeout=0.2)
        async with netio.connect_tcp(HOST, secure.port, timeout=PATIENCE_S) as stream:
            with pytest.raises((netio.IncompleteRead, netio.ConnectionLost)):
                await client.Redis(stream).execute("PING")


# News. ----------------------------------------------------------------------------------------


@contextlib.asynccontextmanager
async def heartbeat(stream: netio.Stream, every: float) -> AsyncIterator[None]:
    """Ask for a sign of life again and again; it comes among the messages."""

    async def ping() -> None:
        while True:
            await asyncio.sleep(every)
            await stream.write(client.encode(("PING",)), timeout=every)

    pinging = asyncio.create_task(ping())
    try:
        yield
    finally:
        await netio.cancel_and_wait(pinging)


@contextlib.asynccontextmanager
async def subscribed(server: Server) -> AsyncIterator[netio.Stream]:
    async with server.connect() as redis:
        assert await redis.execute("SUBSCRIBE", "news") == [b"subscribe", b"news", 1]
        yield redis.stream


PONG = [b"pong", b""]


@kinds
async def test_messages_come_as_they_are_published(kind: str) -> None:
    async with running(kind) as server, server.connect() as other:
        async with subscribed(server) as stream:
            for number in range(100):
                message = b"%d " % number + os.urandom(number * 100)
                assert await other.execute("PUBLISH", "news", message) == 1
                reply = await client.read_reply(stream, PATIENCE_S)
                assert reply == [b"message", b"news", message]


@kinds
async def test_silence_ends_a_subscription(kind: str) -> None:
    async with running(kind) as server, subscribed(server) as stream:
        stream.timeouts = dataclasses.replace(stream.timeouts, idle=0.1)
        with pytest.raises(netio.DeadlineExceeded) as caught:
            await client.read_reply(stream, None)
        assert (caught.value.limit, caught.value.seconds) == ("idle", 0.1)


@kinds
async def test_a_heartbeat_keeps_a_silent_subscription(kind: str) -> None:
    async with running(kind) as server, server.connect() as other:
        async with subscribed(server) as stream, netio.timeout(PATIENCE_S):
            stream.timeouts = dataclasses.replace(stream.timeouts, idle=0.5)
            async with heartbeat(stream, 0.1):
                later = netio.Deadline.after(0.7)
                while later.remaining():
                    assert await client.read_reply(stream, None) == PONG
                await other.execute("PUBLISH", "news", "late")
                while (reply := await client.read_reply(stream, None)) == PONG:
                    pass
                assert reply == [b"message", b"news", b"late"]


@kinds
async def test_a_server_that_stands_still_misses_a_heartbeat(kind: str) -> None:
    async with running(kind) as server, subscribed(server) as stream:
        async with heartbeat(stream, 0.1):
            assert await client.read_reply(stream, PATIENCE_S) == PONG
            # It does not end by silence: our own heartbeats are bytes, too.
            stream.timeouts = dataclasses.replace(stream.timeouts, idle=0.5)
            with server.stopped():
                with pytest.raises(netio.DeadlineExceeded) as caught:
                    while True:
                        assert await client.read_reply(stream, 0.8) == PONG
                assert caught.value.limit == "call"


# The end. -------------------------------------------------------------------------------------


def tells(error: BaseException, server: Server, operation: str) -> bool:
    return f"{operation} from {server.name}" in str(error)


@kinds
async def test_a_server_that_is_killed_in_the_middle(kind: str) -> None:
    async with running(kind) as server:
        async with server.connect() as redis, server.connect() as other:
            waiting = asyncio.create_task(redis.execute("BLPOP", "list", 0))
            await until_blocked(other, 1)
            server.process.kill()
            await asyncio.wait([waiting])
            error = waiting.exception()
            assert isinstance(error, netio.IncompleteRead | netio.ConnectionReset)
            assert isinstance(error, netio.TruncatedStream) == (kind == "tls")  # it said no goodbye
            assert tells(error, server, "read_until")
            await refused(redis)
            with pytest.raises((netio.IncompleteRead, netio.ConnectionLost)):
                await other.execute("PING")  # it had nothing to do then
            await refused(other)
        await server.process.wait()
        with pytest.raises(netio.ConnectFailed) as failed:
            await server.opening(timeout=PATIENCE_S)
        assert server.name in str(failed.value)


@kinds
async def test_a_server_that_is_killed_within_a_reply(kind: str) -> None:
    """A part of the value is there, and then no more comes."""
    size = 64 << 20
    async with running(kind) as server, server.connect() as redis:
        await redis.execute("SETRANGE", "key", size - 1, "x", timeout=PATIENCE_S)
        reading = asyncio.create_task(redis.execute("GET", "key", timeout=PATIENCE_S))
        async with netio.timeout(PATIENCE_S):
            while redis.stream.statistics().bytes_received < 1 << 20:  # noqa: ASYNC110
                await asyncio.sleep(0)
        server.process.kill()
        await asyncio.wait([reading])
        error = reading.exception()
        assert isinstance(error, netio.IncompleteRead | netio.ConnectionReset)
        assert tells(error, server, f"read_exactly({size + 2})")
        assert redis.stream.buffered < size  # what came is still there
        await refused(redis)


@kinds
async def test_a_server_that_is_killed_within_a_command(kind: str) -> None:
    size = 64 << 20
    async with running(kind) as server, server.connect() as redis:
        value = b"x" * size
        with server.stopped():
            writing = asyncio.create_task(redis.execute("SET", "key", value, timeout=PATIENCE_S))
            async with netio.timeout(PATIENCE_S):
                while not redis.stream.statistics().bytes_sent:  # noqa: ASYNC110
                    await asyncio.sleep(0.002)
            server.process.kill()
            await asyncio.wait([writing])
        error = writing.exception()
        assert isinstance(error, netio.ConnectionReset | netio.BrokenPipe)
        assert f"to {server.name}" in str(error)
        assert "of 67108" in str(error)
        await refused(redis)


@kinds
async def test_a_server_that_shuts_down_answers_by_its_end(kind: str) -> None:
    async with running(kind) as server, server.connect() as redis:
        with pytest.raises(netio.IncompleteRead) as caught:
            await redis.execute("SHUTDOWN", "NOSAVE")
        assert caught.value.partial == b""
        assert tells(caught.value, server, "read_until")
        await refused(redis)


@kinds
async def test_a_client_that_another_one_kills(kind: str) -> None:
    async with running(kind) as server, server.connect() as other:
        async with server.connect() as busy, server.connect() as quiet:
            numbers = [await redis.execute("CLIENT", "ID") for redis in (busy, quiet)]
            waiting = asyncio.create_task(busy.execute("BLPOP", "list", 0))
            await until_blocked(other, 1)
            for number in numbers:
                assert await other.execute("CLIENT", "KILL", "ID", number) == 1
            await asyncio.wait([waiting])
            error = waiting.exception()
            assert isinstance(error, netio.IncompleteRead)
            assert tells(error, server, "read_until")
            with pytest.raises((netio.IncompleteRead, netio.ConnectionLost)):
                await quiet.execute("PING")
            await refused(busy)
            await refused(quiet)
        assert await other.execute("PING") == b"PONG"


@kinds
async def test_a_subscriber_that_does_not_read_is_cut_by_the_server(kind: str) -> None:
    limit = ("--client-output-buffer-limit", "pubsub 1mb 1mb 60")
    async with running(kind, *limit) as server, server.connect() as other:
        async with subscribed(server) as stream:
            message = b"x" * 100_000
            async with netio.timeout(PATIENCE_S):
                while await other.execute("PUBLISH", "news", message):
                    pass
            got = 0
            with pytest.raises((netio.IncompleteRead, netio.ConnectionLost)):
                while True:
                    reply = await client.read_reply(stream, PATIENCE_S)
                    assert reply == [b"message", b"news", message]
                    got += 1
            assert got > 0
