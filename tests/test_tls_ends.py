"""How TLS ends: said by the peer or cut, in one direction or both, within limits."""

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator
from typing import Any

import pytest
import secured
from streams import outcome_of, ticks

import netio
from netio._memory import MemoryChannel, memory_pair
from netio._stream import Stream
from netio._tls import TLSChannel

versions = pytest.mark.parametrize("version", secured.VERSIONS)
OPTIONS = {"timeouts": netio.Timeouts(read=10, write=10), "limit": 65536}


@contextlib.asynccontextmanager
async def pair(version: str | None = None, **options: Any) -> AsyncIterator[secured.Pair]:
    near, far = await secured.make_pair("memory", version, **options)
    try:
        yield near, far
    finally:
        near.abort()
        far.abort()


def below(stream: Stream) -> MemoryChannel:
    channel = stream._channel
    assert isinstance(channel, TLSChannel)
    assert isinstance(channel.innermost, MemoryChannel)
    return channel.innermost


# The end that the peer said, and the one that it did not. ---------------------------------------


READS = {
    "read_exactly": lambda s: s.read_exactly(5),
    "read_until": lambda s: s.read_until(b"\n"),
    "read_line": lambda s: s.read_line(),
    "read_some": lambda s: s.read_some(),
    "read_into": lambda s: s.read_into(bytearray(5)),
    "large read_into": lambda s: s.read_into(bytearray(100_000)),
    "read_all": lambda s: s.read_all(limit=1000),
    "large read_exactly": lambda s: s.read_exactly(100_000),
    "lines": lambda s: anext(s.lines()),
    "chunks": lambda s: anext(s.chunks()),
}


@pytest.mark.any_clock
@pytest.mark.parametrize("read", READS)
async def test_an_end_without_a_goodbye_is_told_by_every_read_each_time(read: str) -> None:
    async with pair() as (near, far):
        below(far).close()
        errors = [await outcome_of(READS[read](near)) for _ in range(2)]
        assert [type(error) for error in errors] == [netio.TruncatedStream] * 2
        assert errors[0] is not errors[1]
        assert isinstance(errors[0], netio.IncompleteRead)
        assert "without saying goodbye" in str(errors[0])


@pytest.mark.any_clock
@pytest.mark.parametrize("read", set(READS) - {"read_some", "chunks"})
async def test_bytes_before_such_an_end_are_on_the_error_and_readable(read: str) -> None:
    async with pair() as (near, far):
        await far.write(b"part")
        below(far).close()
        error = await outcome_of(READS[read](near))
        assert type(error) is netio.TruncatedStream
        assert error.partial == b"part"
        assert await near.read_some() == b"part"
        assert type(await outcome_of(near.read_some())) is netio.TruncatedStream


@pytest.mark.any_clock
async def test_a_caller_may_take_such_an_end_for_an_end() -> None:
    near, far = netio_pair()
    context = secured.client_context()
    context.options |= ssl.OP_IGNORE_UNEXPECTED_EOF
    await asyncio.gather(
        near.start_tls(context, server_hostname=secured.NAME),
        far.start_tls(secured.server_context(), server_side=True),
    )
    await far.write(b"all")
    below(far).close()
    assert await near.read_all(limit=10) == b"all"
    near.abort()
    far.abort()


def netio_pair() -> secured.Pair:
    one, other = (Stream(c, **OPTIONS) for c in memory_pair(asyncio.get_running_loop()))
    return one, other


@pytest.mark.any_clock
@versions
async def test_a_session_cut_at_each_byte_has_a_clean_end_only_after_the_goodbye(
    version: str,
) -> None:
    sizes = (1, 0, 60, 200)
    whole = b"".join(bytes([65 + i]) * size for i, size in enumerate(sizes))

    async def play(cut: int | None) -> int:
        """How much ciphertext follows the handshake; `cut` lets so many bytes of it through."""
        near, far = await secured.make_pair("memory", version)
        channel = far._channel
        passed = bytearray()
        channel._inner_send = lambda data: passed.extend(data) or len(data)  # the wire
        start = len(passed)
        for i, size in enumerate(sizes):
            await far.write(bytes([65 + i]) * size)
        await far.write_eof()
        total = len(passed) - start
        kept = bytes(passed[:cut])
        if kept:
            channel.inner.send(kept)
        channel.inner.shut_down_writing()
        got = bytearray()
        try:
            while chunk := await near.read_some():
                got += chunk
            clean = True
        except netio.TruncatedStream:
            clean = False
        assert whole.startswith(got)
        assert clean == (cut is None or cut >= total), cut
        if clean:
            assert bytes(got) == whole
        near.abort()
        far.abort()
        return total

    total = await play(None)
    for cut in range(total + 1):
        await play(cut)


@pytest.mark.any_clock
@versions
async def test_what_was_not_whole_of_a_large_record_is_not_given(version: str) -> None:
    """None of a record can be trusted before all of it is there."""
    async with pair(version) as (near, far):
        channel = far._channel
        passed = bytearray()
        channel._inner_send = lambda data: passed.extend(data) or len(data)  # the wire
        await far.write(b"x" * 40_000)
        begin = 0
        for end in (1, 5, 16_000, 16_500, len(passed) - 1):
            channel.inner.send(bytes(passed[begin:end]))
            begin = end
            error = await outcome_of(near.read_exactly(40_000, timeout=0.01))
            assert type(error) is netio.DeadlineExceeded
            assert error.done % (16 * 1024) == 0
        assert error.done == 32 * 1024
        channel.inner.send(bytes(passed[begin:]))
        assert await near.read_exactly(40_000) == b"x" * 40_000


@pytest.mark.any_clock
@versions
async def test_a_reader_and_a_writer_go_on_at_once(version: str) -> None:
    """Both sides send more than is under way at most, and nobody reads before it is sent."""
    async with pair(version, capacity=30_000) as streams:
        data = bytes(range(256)) * 1000

        async def send(stream: Stream) -> None:
            for at in range(0, len(data), 50_000):
                await stream.write(data[at : at + 50_000], timeout=5)

        async def receive(stream: Stream) -> bytes:
            got = bytearray()
            while len(got) < len(data):
                got += await stream.read_some(7000, timeout=5)
            return bytes(got)

        outcomes = await asyncio.gather(*map(send, streams), *map(receive, streams))
        assert outcomes == [None, None, data, data]


@pytest.mark.any_clock
@versions
async def test_garbage_in_the_midst_is_told_after_all_bytes_before_it(version: str) -> None:
    async with pair(version) as (near, far):
        await far.write(b"good")
        below(far).send(b"\x17\x03\x03\x00\x20" + bytes(32))
        error = await outcome_of(near.read_exactly(5))
        assert type(error) is netio.TLSError
        assert error.done == 4
        assert await near.read_exactly(4) == b"good"
        again = await outcome_of(near.read_some())
        assert type(again) is netio.TLSError
        assert again is not error
        assert type(await outcome_of(near.write(b"x"))) is netio.TLSError
        told = await outcome_of(far.read_some())
        assert type(told) is netio.TLSError  # the alert
        assert "ALERT" in told.reason


# One direction. ---------------------------------------------------------------------------------


@pytest.mark.any_clock
@versions
async def test_reading_goes_on_after_the_own_end(version: str) -> None:
    async with pair(version) as (near, far):
        await near.write_eof()
        await near.write_eof()
        assert await far.read_some() == b""
        for size in (1, 70_000):
            write = asyncio.create_task(far.write(b"x" * size))
            assert await near.read_exactly(size) == b"x" * size
            await write
        await far.write_eof()
        assert await near.read_some() == b""
        assert await outcome_of(near.write(b"x")) is not None


@pytest.mark.any_clock
@versions
async def test_what_came_before_the_own_end_is_not_lost(version: str) -> None:
    """As OpenSSL closes, it throws away what it finds."""
    async with pair(version, capacity=200_000) as (near, far):
        data = bytes(range(256)) * 240
        await far.write(data)
        target = bytearray(20_000)
        await near.read_into(target)  # the channel below has given more, in whole records
        assert near.buffered == 0
        await near.write_eof()
        assert target + await near.read_exactly(len(data) - len(target)) == data
        await far.write(b"after")
        assert await near.read_exactly(5) == b"after"
        await far.aclose()
        assert await near.read_some() == b""


@pytest.mark.any_clock
async def test_an_end_that_finds_no_room_waits_within_its_limit() -> None:
    async with pair(capacity=3000) as (near, far):
        clog(near)
        error = await outcome_of(near.write_eof(timeout=0.05))
        assert type(error) is netio.DeadlineExceeded
        assert type(await outcome_of(near.write(b"x"))) is netio.StreamClosed
        drain(far)
        await near.write_eof()  # which says the rest


def clog(stream: Stream) -> None:
    """Fill the way below: for what is sent over TLS there is no room any more."""
    below(stream)._outgoing.held += 1 << 20


def drain(far: Stream) -> None:
    below(far)._incoming.take(1 << 20)


# Closing. ---------------------------------------------------------------------------------------


@pytest.mark.any_clock
@versions
async def test_a_close_says_goodbye_and_does_not_wait_for_that_of_the_peer(version: str) -> None:
    async with pair(version) as (near, far):
        before = near._channel.loop.time()
        await near.aclose()
        assert near._channel.loop.time() - before < 0.05
        assert below(near).closed
        assert await far.read_some() == b""
        await far.aclose()


@pytest.mark.any_clock
async def test_a_goodbye_that_does_not_go_is_cut_at_the_limit_of_closing() -> None:
    async with pair(timeouts=netio.Timeouts(close=0.05)) as (near, far):
        clog(near)
        began = near._channel.loop.time()
        await near.aclose()
        assert 0.048 <= near._channel.loop.time() - began < 0.2
        assert below(near).closed
        assert isinstance(await outcome_of(far.read_some()), netio.ConnectionReset)


@pytest.mark.any_clock
async def test_a_goodbye_that_goes_later_is_waited_for() -> None:
    async with pair() as (near, far):
        clog(near)
        closing = asyncio.create_task(near.aclose())
        await ticks(5)
        assert near.closed
        assert not below(near).closed
        drain(far)
        await closing
        assert await far.read_some() == b""


@pytest.mark.any_clock
async def test_a_close_wakes_who_waits_before_it_waits_itself() -> None:
    async with pair() as (near, _):
        read = asyncio.create_task(near.read_some())
        clog(near)
        await ticks(3)
        closing = asyncio.create_task(near.aclose(timeout=0.05))
        assert type(await outcome_of(read)) is netio.StreamClosed
        assert not closing.done()
        await closing


@pytest.mark.any_clock
async def test_a_cancel_is_held_back_until_the_goodbye_has_gone() -> None:
    async with pair() as (near, far):
        clog(near)
        closing = asyncio.create_task(near.aclose())
        await ticks(3)
        closing.cancel()
        await ticks(3)
        assert not closing.done()
        drain(far)
        assert isinstance(await outcome_of(closing), asyncio.CancelledError)
        assert await far.read_some() == b""


@pytest.mark.any_clock
async def test_a_second_cancel_cuts_at_once() -> None:
    async with pair() as (near, far):
        clog(near)
        began = near._channel.loop.time()
        closing = asyncio.create_task(near.aclose(timeout=10))
        await ticks(3)
        closing.cancel()
        await ticks(3)
        closing.cancel()
        assert isinstance(await outcome_of(closing), asyncio.CancelledError)
        assert near._channel.loop.time() - began < 1
        assert below(near).closed
        assert isinstance(await outcome_of(far.read_some()), netio.ConnectionReset)


@pytest.mark.any_clock
async def test_an_abort_cuts_a_goodbye_that_is_under_way() -> None:
    async with pair() as (near, _):
        clog(near)
        closing = asyncio.create_task(near.aclose(timeout=10))
        await ticks(3)
        near.abort()
        await closing
        assert below(near).closed


@pytest.mark.any_clock
async def test_after_a_write_that_was_cut_there_is_no_goodbye() -> None:
    """The peer would take a part for the whole."""
    async with pair(capacity=30_000) as (near, far):
        error = await outcome_of(near.write(b"x" * 100_000, timeout=0.01))
        assert type(error) is netio.DeadlineExceeded
        assert error.done % (16 * 1024) == 0  # whole records
        await near.aclose()
        got = bytearray()
        with pytest.raises(netio.TruncatedStream):
            while chunk := await far.read_some():
                got += chunk
        assert len(got) == error.done


@pytest.mark.any_clock
@versions
async def test_nothing_more_of_a_write_that_was_cut_goes_with_what_tls_says_itself(
    version: str,
) -> None:
    """What its `done` says stays true, though OpenSSL has an alert to send behind it."""
    async with pair(version, capacity=30_000) as (near, far):
        error = await outcome_of(near.write(b"x" * 100_000, timeout=0.01))
        assert error.done == 16 * 1024
        assert await far.read_exactly(error.done) == b"x" * error.done
        below(far).send(b"\x17\x03\x03\x00\x20" + bytes(32))
        assert type(await outcome_of(near.read_some())) is netio.TLSError
        again = await outcome_of(far.read_some(timeout=0.01))
        assert type(again) is netio.DeadlineExceeded
        assert far.statistics().bytes_received == error.done


@pytest.mark.any_clock
async def test_nor_is_there_one_after_a_write_that_was_cut_between_two_records() -> None:
    async with pair(capacity=1 << 23) as (near, far):
        write = asyncio.create_task(near.write(b"x" * (1 << 22)))
        await ticks(2)
        write.cancel()
        error = await outcome_of(write)
        assert isinstance(error, asyncio.CancelledError)
        assert 0 < error.done < 1 << 22
        assert near._channel.committed == 0
        await near.aclose()
        got = 0
        with pytest.raises(netio.TruncatedStream):
            while chunk := await far.read_some():
                got += len(chunk)
        assert got == error.done


@pytest.mark.any_clock
@pytest.mark.parametrize("how", ["closed", "dropped"])
async def test_nor_where_another_task_closes_between_two_records_or_nobody_does(how: str) -> None:
    async with pair(capacity=1 << 23) as (near, far):
        write = asyncio.create_task(near.write(b"x" * (1 << 22)))
        await ticks(2)
        assert near._channel.committed == 0
        if how == "closed":
            await near.aclose()
        else:
            write.cancel()
        error = await outcome_of(write)
        if how == "dropped":
            near._channel.abandon()  # as a stream does that nobody refers to any more
        assert 0 < error.done < 1 << 22
        got = 0
        with pytest.raises(netio.TruncatedStream):
            while chunk := await far.read_some():
                got += len(chunk)
        assert got == error.done


@pytest.mark.any_clock
async def test_a_write_of_which_some_was_encrypted_is_the_last() -> None:
    async with pair() as (near, far):
        clog(near)
        error = await outcome_of(near.write(b"x", timeout=0))
        assert (type(error), error.done) == (netio.DeadlineExceeded, 0)
        drain(far)
        assert type(await outcome_of(near.write(b"y"))) is netio.ConnectionLost
        await far.write(b"reading goes on")
        assert await near.read_exactly(15) == b"reading goes on"


@pytest.mark.any_clock
async def test_a_write_that_is_cut_in_the_queue_tears_nothing() -> None:
    async with pair() as (near, far):
        clog(near)
        first = asyncio.create_task(near.write(b"first"))
        await ticks(3)
        second = await outcome_of(near.write(b"second", timeout=0))
        assert type(second) is netio.DeadlineExceeded
        drain(far)
        await first
        await near.write(b"third")
        assert await far.read_exactly(10) == b"firstthird"


# Beginning in place. ----------------------------------------------------------------------------


@pytest.mark.any_clock
@versions
async def test_what_came_in_one_piece_with_a_header_is_the_beginning_of_tls(version: str) -> None:
    near, far = netio_pair()
    client = asyncio.create_task(_hello_behind(near, b"PROXY TCP4 1.2.3.4\r\n", version))
    assert await far.read_line() == b"PROXY TCP4 1.2.3.4\r\n"
    assert far.buffered > 100  # the client's hello
    await far.start_tls(secured.server_context(version), server_side=True)
    await client
    await near.write(b"over TLS")
    assert await far.read_exactly(8) == b"over TLS"
    await near.aclose()
    await far.aclose()


async def _hello_behind(stream: Stream, header: bytes, version: str) -> None:
    channel = stream._channel
    send = channel.send
    first = [header]
    channel_class = type(channel)

    def joined(data: bytes) -> int:
        head = first.pop() if first else b""
        return send(head + bytes(data)) - len(head)

    class Joining:
        def __getattr__(self, name: str) -> Any:
            return joined if name == "send" else getattr(channel, name)

    assert channel_class is MemoryChannel
    stream._channel = Joining()
    await stream.start_tls(secured.client_context(version), server_hostname=secured.NAME)


@pytest.mark.any_clock
async def test_tls_begins_after_a_word_in_the_open_and_writes_wait_for_it() -> None:
    near, far = netio_pair()
    await near.write(b"STARTTLS\n")
    assert await far.read_line() == b"STARTTLS\n"
    await far.write(b"ready\n")
    assert await near.read_line() == b"ready\n"
    client = asyncio.create_task(
        near.start_tls(secured.client_context(), server_hostname=secured.NAME)
    )
    await ticks(2)
    write = asyncio.create_task(near.write(b"secret"))
    busy = await outcome_of(near.read_some())
    assert type(busy) is netio.StreamBusy
    assert "start_tls" in str(busy)
    await far.start_tls(secured.server_context(), server_side=True)
    await client
    await write
    assert await far.read_exactly(6) == b"secret"
    assert near.tls is not None
    await near.aclose()
    await far.aclose()


@pytest.mark.any_clock
@pytest.mark.parametrize("direction", ["read", "write"])
async def test_tls_does_not_begin_while_an_operation_waits(direction: str) -> None:
    near, far = netio_pair()
    if direction == "read":
        waiting = asyncio.create_task(near.read_exactly(3))
    else:
        waiting = asyncio.create_task(near.write(b"x" * 100_000))
    await ticks(3)
    with pytest.raises(netio.StreamBusy, match="start_tls with memory:1: "):
        await near.start_tls(secured.client_context(), server_hostname=secured.NAME)
    if direction == "read":
        await far.write(b"abc")
        assert await waiting == b"abc"
    else:
        await far.read_exactly(100_000)
        await waiting
    near.abort()
    far.abort()


@pytest.mark.any_clock
@pytest.mark.parametrize("how", ["limit", "cancel", "close"])
async def test_a_stream_of_which_the_handshake_was_cut_is_of_no_more_use(how: str) -> None:
    near, far = netio_pair()
    beginning = asyncio.create_task(
        near.start_tls(
            secured.client_context(),
            server_hostname=secured.NAME,
            timeout=0.05 if how == "limit" else 10,
        )
    )
    await ticks(5)
    if how == "cancel":
        beginning.cancel()
    elif how == "close":
        await near.aclose()
    outcome = await outcome_of(beginning)
    expected = {
        "limit": netio.DeadlineExceeded,
        "cancel": asyncio.CancelledError,
        "close": netio.StreamClosed,
    }
    assert type(outcome) is expected[how]
    after = netio.StreamClosed if how == "close" else netio.ConnectionLost
    assert type(await outcome_of(near.read_some())) is after
    assert type(await outcome_of(near.write(b"x"))) is after
    await near.aclose()
    far.abort()


@pytest.mark.any_clock
async def test_a_deadline_of_the_stream_holds_for_the_handshake() -> None:
    near, far = netio_pair()
    near.read_deadline = netio.Deadline.after(0.05)
    error = await outcome_of(
        near.start_tls(secured.client_context(), server_hostname=secured.NAME, timeout=None)
    )
    assert (type(error), error.limit) == (netio.DeadlineExceeded, "deadline")
    near.abort()
    far.abort()


@pytest.mark.any_clock
async def test_wrong_arguments_change_nothing() -> None:
    near, far = netio_pair()
    await far.write(b"plain")
    for context, options, error in (
        (None, {}, TypeError),
        (secured.server_context(), {"server_hostname": "x"}, ValueError),
        (secured.client_context(), {}, ValueError),
        (secured.client_context(), {"server_side": True}, ValueError),
        (secured.server_context(), {"server_side": True, "server_hostname": "x"}, ValueError),
    ):
        with pytest.raises(error):
            await near.start_tls(context, **options)
    assert await near.read_exactly(5) == b"plain"
    near.abort()
    far.abort()
