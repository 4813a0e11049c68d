"""Descriptors over Unix sockets: none is lost, none leaks, whoever is cut and whoever floods."""

import array
import asyncio
import errno
import os
import resource
import socket
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
import unix_paths
from streams import outcome_of

import netio

place = unix_paths.place

Pair = tuple[netio.Stream, netio.Stream]
PATIENCE_S = 5.0


def make_pair(most: int = 8, **options: Any) -> Pair:
    one, other = socket.socketpair()
    return (
        netio.open_stream(one, max_descriptors=most, **options),
        netio.open_stream(other, max_descriptors=most, **options),
    )


@pytest.fixture
async def pair() -> AsyncIterator[Pair]:
    near, far = make_pair()
    yield near, far
    near.abort()
    far.abort()


@pytest.fixture(autouse=True)
def nothing_leaks() -> Iterator[None]:
    before = set(os.listdir("/proc/self/fd"))
    yield
    # The loop, and what pytest has, are opened before this and closed after it.
    assert set(os.listdir("/proc/self/fd")) - before == set()


def pipe_with(data: bytes) -> int:
    """The end to read from of a pipe that holds `data`."""
    reading, writing = os.pipe()
    os.write(writing, data)
    os.close(writing)
    return reading


def content_of(descriptor: int) -> bytes:
    with open(descriptor, "rb") as file:
        return file.read()


async def pass_one(near: netio.Stream, data: bytes, text: bytes = b"x") -> None:
    reading = pipe_with(data)
    await near.send_descriptors([reading], text)
    os.close(reading)


async def test_a_descriptor_arrives_and_is_the_receivers(pair: Pair) -> None:
    near, far = pair
    await pass_one(near, b"hello", b"here it is")
    [descriptor] = await far.receive_descriptors()
    assert not os.get_inheritable(descriptor)
    assert content_of(descriptor) == b"hello"
    assert await far.read_exactly(10) == b"here it is"


async def test_they_come_in_order_whoever_reads_the_bytes_first(pair: Pair) -> None:
    near, far = pair
    for number in range(4):
        await pass_one(near, b"%d" % number, b"n%d;" % number)
    assert await far.read_until(b"n3;") == b"n0;n1;n2;n3;"
    descriptors = await far.receive_descriptors(3) + await far.receive_descriptors(timeout=0)
    assert [content_of(one) for one in descriptors] == [b"0", b"1", b"2", b"3"]


async def test_one_who_waits_for_them_has_them_and_the_bytes_stay(pair: Pair) -> None:
    near, far = pair
    receiving = asyncio.ensure_future(far.receive_descriptors(2))
    await near.write(b"before ")
    await pass_one(near, b"1", b"one ")
    for _ in range(5):
        await asyncio.sleep(0)
    assert not receiving.done()
    await pass_one(near, b"2", b"two")
    assert [content_of(one) for one in await receiving] == [b"1", b"2"]
    assert await far.read_exactly(14) == b"before one two"


async def test_large_reads_take_them_too(pair: Pair) -> None:
    near, far = pair
    sending = asyncio.ensure_future(pass_one(near, b"1", b"~" * 1_000_000))
    assert await far.read_into(memory := bytearray(1_000_000)) == 1_000_000
    await sending
    assert memory == b"~" * 1_000_000
    assert content_of((await far.receive_descriptors())[0]) == b"1"


async def test_files_and_sockets_can_be_given_and_closed_at_once(pair: Pair, place: Path) -> None:
    near, far = pair
    (place / "file").write_bytes(b"of a file")
    with (place / "file").open("rb") as file, socket.socket() as sock:
        await near.send_descriptors([file, sock, file.fileno()], b"x")
    first, second, third = await far.receive_descriptors(3)
    assert content_of(first) == b"of a file"
    os.close(second)
    os.close(third)


async def test_a_cancel_or_a_limit_keeps_what_came(pair: Pair) -> None:
    near, far = pair
    await pass_one(near, b"1", b"one")
    with pytest.raises(netio.DeadlineExceeded, match=r"receive_descriptors\(2\)"):
        await far.receive_descriptors(2, timeout=0)
    for turns in range(4):
        receiving = asyncio.ensure_future(far.receive_descriptors(2))
        for _ in range(turns):
            await asyncio.sleep(0)
        receiving.cancel()
        assert isinstance(await outcome_of(receiving), asyncio.CancelledError)
    assert await far.read_exactly(3) == b"one"
    assert content_of((await far.receive_descriptors(timeout=0))[0]) == b"1"


@pytest.mark.parametrize("end", ["aclose", "abort"])
async def test_what_nobody_took_is_closed_with_the_stream(end: str) -> None:
    near, far = make_pair()
    for _ in range(3):
        await pass_one(near, b"x")
    await far.read_exactly(1)  # which has read ahead
    await pass_one(near, b"still in the kernel")
    if end == "aclose":
        await far.aclose()
    else:
        far.abort()
    near.abort()


async def test_an_abandoned_stream_closes_them() -> None:
    near, far = make_pair()
    await pass_one(near, b"x")
    await far.read_exactly(1)
    near.abort()
    with pytest.warns(ResourceWarning, match="unclosed"):
        del far
    await asyncio.sleep(0)


async def test_an_end_before_they_came_is_told_and_keeps_what_came(pair: Pair) -> None:
    near, far = pair
    await pass_one(near, b"1", b"one")
    await near.write_eof()
    with pytest.raises(netio.IncompleteRead):
        await far.receive_descriptors(2)
    assert content_of((await far.receive_descriptors())[0]) == b"1"
    assert await far.read_all(limit=10) == b"one"


async def test_a_peer_that_sends_bytes_instead_is_stopped_at_the_limit() -> None:
    near, far = make_pair(limit=1000)
    await near.write(b"~" * 5000)
    with pytest.raises(netio.LimitExceeded, match="read them first"):
        await far.receive_descriptors()
    assert await far.read_exactly(5000) == b"~" * 5000
    near.abort()
    far.abort()


async def test_a_flood_of_descriptors_ends_the_connection_and_leaks_none() -> None:
    near, far = make_pair(most=2)
    for number in range(4):
        await pass_one(near, b"%d" % number, b"n%d" % number)
    assert await far.read_exactly(6) == b"n0n1n2"  # the bytes were given, also of one too many
    with pytest.raises(netio.ConnectionLost, match="more descriptors than max_descriptors, 2"):
        await far.read_exactly(6)
    for one in await far.receive_descriptors(2):
        assert content_of(one) in (b"0", b"1")
    near.abort()
    far.abort()


async def test_a_process_without_room_for_them_says_so() -> None:
    near, far = make_pair()
    await pass_one(near, b"1")
    free = os.open("/dev/null", os.O_RDONLY)
    os.close(free)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (free, hard))  # none below that is left
    try:
        assert await far.read_exactly(1) == b"x"
        outcome = await outcome_of(far.receive_descriptors(timeout=0))
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert isinstance(outcome, netio.ConnectionLost)
    assert outcome.errno == errno.EMFILE
    near.abort()
    far.abort()


async def test_without_being_asked_for_they_are_dropped_by_the_system() -> None:
    one, other = socket.socketpair()
    near, far = netio.open_stream(one), netio.open_stream(other)
    await pass_one(near, b"x", b"data")
    assert await far.read_exactly(4) == b"data"
    with pytest.raises(TypeError, match="the stream was made without max_descriptors"):
        await far.receive_descriptors()
    near.abort()
    far.abort()


async def test_those_who_connect_and_those_who_serve_pass_them(place: Path) -> None:
    got = []

    async def handler(stream: netio.Stream) -> None:
        got.extend(await stream.receive_descriptors())
        await pass_one(stream, b"back")

    async with netio.serve_unix(handler, place / "s", max_descriptors=1):
        async with netio.connect_unix(place / "s", max_descriptors=1) as stream:
            await pass_one(stream, b"there")
            assert content_of((await stream.receive_descriptors())[0]) == b"back"
    assert content_of(got[0]) == b"there"
    async with netio.listen_unix(place / "s", max_descriptors=1) as listener:
        async with netio.connect_unix(place / "s") as stream, await listener.accept() as accepted:
            await pass_one(stream, b"there")
            assert content_of((await accepted.receive_descriptors())[0]) == b"there"


async def test_other_programs_pass_them_as_this_one_does() -> None:
    one, other = socket.socketpair()
    far = netio.open_stream(other, max_descriptors=1)
    reading = pipe_with(b"hello")
    socket.send_fds(one, [b"x"], [reading])
    os.close(reading)
    assert content_of((await far.receive_descriptors())[0]) == b"hello"
    await pass_one(far, b"back", b"y")
    data, [descriptor], _, _ = socket.recv_fds(one, 10, 1)
    assert (data, content_of(descriptor)) == (b"y", b"back")
    # Other messages beside the data are nobody's, and harm nothing.
    rights = array.array("i", [one.fileno()])
    one.sendmsg([b"z"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, rights)])
    [again] = await far.receive_descriptors()
    os.close(again)
    assert await far.read_exactly(2) == b"xz"
    one.close()
    far.abort()


@pytest.mark.real_time("the kernel's buffer is what is full")
async def test_a_send_that_is_cut_before_it_began_has_passed_none(pair: Pair) -> None:
    near, far = pair
    filler = asyncio.ensure_future(near.write(b"~" * 1_000_000))
    await asyncio.sleep(0)
    reading = pipe_with(b"x")
    with pytest.raises(netio.DeadlineExceeded) as caught:
        await near.send_descriptors([reading], b"x", timeout=0.01)
    os.close(reading)
    assert caught.value.done == 0
    assert await far.read_exactly(1_000_000) == b"~" * 1_000_000
    await filler
    await pass_one(near, b"later")
    assert content_of((await far.receive_descriptors())[0]) == b"later"


class Closes(netio.Observer):
    def __init__(self) -> None:
        self.reasons: list[str] = []

    def stream_closed(self, stream: netio.Stream, reason: str) -> None:
        self.reasons.append(reason)


async def test_a_socket_is_given_away_only_when_they_were_taken(pair: Pair) -> None:
    near, far = pair
    await pass_one(near, b"1")
    await far.read_exactly(1)
    with netio.observe(Closes()) as closes:
        with pytest.raises(netio.StreamBusy, match="1 descriptors have come"):
            far.detach()
        assert closes.reasons == []
    os.close((await far.receive_descriptors())[0])
    far.detach().close()


async def test_bad_arguments_are_refused_and_nothing_is_sent(pair: Pair) -> None:
    near, _ = pair
    for bad, error, text in (
        ([], ValueError, "descriptors must be at least one"),
        (5, TypeError, "descriptors must be an iterable"),
        (["x"], TypeError, "descriptors: 'x' is none"),
        ([True], TypeError, "descriptors: True is none"),
        ([2**40], ValueError, "descriptors: 1099511627776 is not open"),
        ([10_000], ValueError, "descriptors: 10000 is not open"),
        ([0] * 254, ValueError, "descriptors must be at most 253"),
    ):
        with pytest.raises(error, match=text):
            await near.send_descriptors(bad, b"x")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="data must have at least one byte"):
        await near.send_descriptors([0], b"")
    with pytest.raises(ValueError, match="count must be at least 1"):
        await near.receive_descriptors(0)
    assert near.statistics().bytes_sent == 0
    for max_descriptors in (-1, 1.5):
        with pytest.raises((TypeError, ValueError), match="max_descriptors must be"):
            netio.connect_unix("x", max_descriptors=max_descriptors)  # type: ignore[arg-type]
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        with socket.create_connection(listening.getsockname()) as sock:
            with pytest.raises(ValueError, match="sock must be a Unix socket"):
                netio.open_stream(sock, max_descriptors=1)
            stream = netio.open_stream(sock.dup())
            with pytest.raises(TypeError, match="descriptors go over Unix sockets only"):
                await stream.send_descriptors([0], b"x")
            with pytest.raises(TypeError, match="peer_credentials: only Unix sockets"):
                stream.socket.peer_credentials()
            stream.abort()


@pytest.mark.skipif(not hasattr(socket, "SO_PEERCRED"), reason="only Linux tells")
async def test_who_the_peer_is(place: Path) -> None:
    async with netio.listen_unix(place / "s") as listener:
        async with netio.connect_unix(place / "s") as stream, await listener.accept() as accepted:
            expected = (os.getpid(), os.getuid(), os.getgid())
            assert stream.socket.peer_credentials() == expected
            told = accepted.socket.peer_credentials()
            assert (told.pid, told.uid, told.gid) == expected
        with pytest.raises(netio.StreamClosed):
            stream.socket.peer_credentials()
