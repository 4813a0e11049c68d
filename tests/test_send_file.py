"""Sending files: by the kernel and without it, exact to the byte, whatever becomes of the file."""

import asyncio
import errno
import io
import os
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import pytest
import streams
from streams import Pair, a_pair, outcome_of, read_rest

import netio

kind, pair = streams.kind, streams.pair

SIZE = 300_000
PATIENCE_S = 5.0


@pytest.fixture
def content() -> bytes:
    return os.urandom(SIZE)


@pytest.fixture
def file(tmp_path: Path, content: bytes) -> Iterator[BinaryIO]:
    path = tmp_path / "file"
    path.write_bytes(content)
    with path.open("rb") as file:
        yield file


@pytest.fixture(params=["by the kernel", "by reading"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param == "by reading":
        monkeypatch.delattr(os, "sendfile")
    return request.param


async def received(pair: Pair, size: int) -> asyncio.Task[bytes]:
    return asyncio.ensure_future(pair[1].read_exactly(size, timeout=PATIENCE_S))


async def test_a_file_arrives_whole(pair: Pair, file: BinaryIO, content: bytes, way: str) -> None:
    reading = await received(pair, SIZE)
    assert await pair[0].send_file(file) == SIZE
    assert await reading == content
    assert pair[0].statistics().bytes_sent == SIZE


@pytest.mark.parametrize(
    ("offset", "count"), [(0, 10), (5, 10), (SIZE - 1, None), (SIZE, None), (7, 0), (100, 200_000)]
)
async def test_a_part_of_a_file_is_sent(
    pair: Pair, file: BinaryIO, content: bytes, way: str, offset: int, count: int | None
) -> None:
    part = content[offset:] if count is None else content[offset : offset + count]
    reading = await received(pair, len(part))
    assert await pair[0].send_file(file, offset=offset, count=count) == len(part)
    assert await reading == part
    await pair[0].write(b"after")
    assert await pair[1].read_exactly(5) == b"after"


async def test_the_position_is_neither_used_nor_moved(
    pair: Pair, file: BinaryIO, content: bytes, way: str
) -> None:
    file.seek(1234)
    reading = await received(pair, SIZE)
    await pair[0].send_file(file)
    assert await reading == content
    assert file.tell() == 1234


async def test_the_kernel_does_it_over_a_socket(
    kind: str, pair: Pair, file: BinaryIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []
    original = os.sendfile
    monkeypatch.setattr(os, "sendfile", lambda *args: calls.append(args) or original(*args))
    reading = await received(pair, SIZE)
    await pair[0].send_file(file)
    await reading
    assert bool(calls) == (kind != "memory")


@pytest.mark.parametrize("number", [errno.EINVAL, errno.ENOSYS, errno.EIO])
async def test_where_the_kernel_can_not_it_is_read(
    pair: Pair, file: BinaryIO, content: bytes, number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = os.sendfile
    calls = []

    def sendfile(out: int, source: int, offset: int, count: int) -> int:
        calls.append(offset)
        if offset > 0:
            raise OSError(number, os.strerror(number))
        return original(out, source, offset, min(count, 1000))

    monkeypatch.setattr(os, "sendfile", sendfile)
    reading = await received(pair, SIZE)
    assert await pair[0].send_file(file) == SIZE
    assert await reading == content
    assert len(calls) <= 2


async def test_a_bytes_io_is_sent_too(pair: Pair, content: bytes) -> None:
    memory = io.BytesIO(content)
    reading = await received(pair, 1000)
    assert await pair[0].send_file(memory, offset=5, count=1000) == 1000
    assert await reading == content[5:1005]
    memory.truncate(0)  # nothing holds on to it


async def test_writes_of_others_come_before_or_after(
    pair: Pair, file: BinaryIO, content: bytes, way: str
) -> None:
    near, far = pair
    reading = asyncio.ensure_future(far.read_exactly(SIZE + 2_000_000, timeout=PATIENCE_S))
    await asyncio.gather(
        near.write(b"a" * 1_000_000), near.send_file(file), near.write(b"b" * 1_000_000)
    )
    assert await reading == b"a" * 1_000_000 + content + b"b" * 1_000_000


# Cuts. ----------------------------------------------------------------------------------------


@pytest.mark.real_time("the kernel's buffers are what is full")
async def test_a_limit_says_exactly_how_many_bytes_went(
    kind: str, file: BinaryIO, content: bytes, way: str
) -> None:
    async with a_pair(kind, small=True) as (near, far):
        with pytest.raises(
            netio.DeadlineExceeded, match=r"send_file\(300000\) to .* the kernel"
        ) as e:
            await near.send_file(file, timeout=0.02)
        assert 0 < e.value.done < SIZE
        assert e.value.expected == SIZE
        assert near.statistics().bytes_sent == e.value.done
        with pytest.raises(netio.ConnectionLost, match=r"an earlier send_file.* was cut after"):
            await near.write(b"x")
        assert await far.read_exactly(e.value.done, timeout=PATIENCE_S) == content[: e.value.done]
        await near.aclose()
        assert await read_rest(far) == b""


async def test_a_cancel_says_exactly_how_many_bytes_went(
    kind: str, file: BinaryIO, content: bytes, way: str
) -> None:
    async with a_pair(kind, small=True) as (near, far):
        sending = asyncio.ensure_future(near.send_file(file))
        for _ in range(20):
            await asyncio.sleep(0)
        assert not sending.done()
        sending.cancel()
        error = await outcome_of(sending)
        assert isinstance(error, asyncio.CancelledError)
        done: int = error.done  # type: ignore[attr-defined]
        assert 0 < done < SIZE
        assert await far.read_exactly(done, timeout=PATIENCE_S) == content[:done]
        with pytest.raises(netio.DeadlineExceeded):
            await far.read_some(timeout=0)
        with pytest.raises(netio.ConnectionLost, match="an earlier send_file"):
            await near.write(b"x")


async def test_one_that_still_waits_its_turn_has_sent_nothing(kind: str, file: BinaryIO) -> None:
    async with a_pair(kind, small=True) as (near, far):
        filler = asyncio.ensure_future(near.write(b"~" * 100_000))
        sending = asyncio.ensure_future(near.send_file(file))
        for _ in range(20):
            await asyncio.sleep(0)
        sending.cancel()
        error = await outcome_of(sending)
        assert error.done == 0
        assert await far.read_exactly(100_000, timeout=PATIENCE_S) == b"~" * 100_000
        await filler
        await near.write(b"still in step")
        assert await far.read_exactly(13) == b"still in step"


async def test_the_end_of_the_stream_ends_it(kind: str, file: BinaryIO, way: str) -> None:
    async with a_pair(kind, small=True) as (near, _):
        sending = asyncio.ensure_future(near.send_file(file))
        for _ in range(20):
            await asyncio.sleep(0)
        near.abort()
        with pytest.raises(netio.StreamClosed, match=r"the kernel took .* of 300000") as caught:
            await sending
        assert caught.value.done > 0
        with pytest.raises(netio.StreamClosed):
            await near.send_file(file)


async def test_a_peer_that_is_gone_ends_it(kind: str, file: BinaryIO, way: str) -> None:
    async with a_pair(kind, small=True) as (near, far):
        sending = asyncio.ensure_future(near.send_file(file, timeout=PATIENCE_S))
        for _ in range(20):
            await asyncio.sleep(0)
        far.abort()
        with pytest.raises(netio.ConnectionLost):
            await sending
        with pytest.raises(netio.ConnectionLost):
            await near.send_file(file)


async def test_no_descriptor_is_left_in_whatever_way_it_ends(pair: Pair, file: BinaryIO) -> None:
    near, far = pair
    before = len(os.listdir("/proc/self/fd"))
    await near.send_file(file, count=10)
    await far.read_exactly(10)
    await near.write_eof()
    for call in (near.send_file(file), near.send_file(file, timeout=0)):
        with pytest.raises(netio.StreamClosed):
            await call
    assert len(os.listdir("/proc/self/fd")) == before


# What becomes of the file. --------------------------------------------------------------------


async def test_what_is_added_meanwhile_is_not_sent(
    kind: str, tmp_path: Path, content: bytes, way: str
) -> None:
    path = tmp_path / "log"
    path.write_bytes(content)
    async with a_pair(kind, small=True) as (near, far):
        with path.open("rb") as file, path.open("ab") as log:
            sending = asyncio.ensure_future(near.send_file(file))
            for _ in range(5):
                await asyncio.sleep(0)
            log.write(b"more")
            log.flush()
            reading = asyncio.ensure_future(far.read_exactly(SIZE, timeout=PATIENCE_S))
            assert await sending == SIZE
            assert await reading == content
        with pytest.raises(netio.DeadlineExceeded):
            await far.read_some(timeout=0)


async def test_a_file_that_becomes_shorter_is_an_error_and_the_stream_is_out_of_step(
    kind: str, tmp_path: Path, content: bytes, way: str
) -> None:
    path = tmp_path / "log"
    path.write_bytes(content)
    async with a_pair(kind, small=True) as (near, far):
        with path.open("rb") as file:
            sending = asyncio.ensure_future(near.send_file(file))
            for _ in range(5):
                await asyncio.sleep(0)
            os.truncate(path, 5000)
            reading = asyncio.ensure_future(far.read_exactly(SIZE, timeout=PATIENCE_S))
            with pytest.raises(OSError, match="the file has become shorter; the kernel") as caught:
                await sending
            done: int = caught.value.done  # type: ignore[attr-defined]
            assert 5000 <= done < SIZE
        with pytest.raises(netio.ConnectionLost, match=r"an earlier send_file.* was cut after"):
            await near.write(b"x")
        reading.cancel()
        await outcome_of(reading)
        assert far.buffered <= done


async def test_a_file_that_is_closed_meanwhile_is_sent_all_the_same(
    kind: str, tmp_path: Path, content: bytes, way: str
) -> None:
    path = tmp_path / "file"
    path.write_bytes(content)
    (tmp_path / "other").write_bytes(b"?" * SIZE)
    async with a_pair(kind, small=True) as (near, far):
        with path.open("rb") as file:
            number = file.fileno()
            sending = asyncio.ensure_future(near.send_file(file))
            for _ in range(5):
                await asyncio.sleep(0)
        with (tmp_path / "other").open("rb") as other:
            assert other.fileno() == number
            reading = asyncio.ensure_future(far.read_exactly(SIZE, timeout=PATIENCE_S))
            assert await sending == SIZE
            assert await reading == content


# Misuse. --------------------------------------------------------------------------------------


async def test_what_can_not_be_sent_is_refused_before_anything_is(
    tmp_path: Path, pair: Pair
) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"content")
    near = pair[0]
    with path.open() as text, pytest.raises(TypeError, match="file must be opened in binary mode"):
        await near.send_file(text)  # type: ignore[arg-type]
    with tempfile.NamedTemporaryFile("w+") as wrapped:
        with pytest.raises(TypeError, match="file must be opened in binary mode"):
            await near.send_file(wrapped)  # type: ignore[arg-type]
    with path.open("ab") as file, pytest.raises(ValueError, match="must be opened for reading"):
        await near.send_file(file)
    with pytest.raises(ValueError, match="file: I/O operation on closed file"):
        await near.send_file(file)
    for bad in ("name", 5, path, io.StringIO("x"), None):
        with pytest.raises(TypeError, match="file must be"):
            await near.send_file(bad)  # type: ignore[arg-type]
    read_end, write_end = os.pipe()
    with open(read_end, "rb") as pipe, open(write_end, "wb"):
        with pytest.raises(ValueError, match="file must be a regular file, and this is a pipe"):
            await near.send_file(pipe)
    with open("/dev/null", "rb") as device, pytest.raises(ValueError, match="this is a device"):
        await near.send_file(device)
    with socket.socket() as sock, sock.makefile("rb") as other:
        with pytest.raises(ValueError, match="this is a socket"):
            await near.send_file(other)

    directory = os.open(tmp_path, os.O_RDONLY)
    file_like = type("D", (), {"fileno": lambda _: directory, "readable": lambda _: True})()
    with pytest.raises(ValueError, match="this is a directory"):
        await near.send_file(file_like)
    os.close(directory)
    assert near.statistics().bytes_sent == 0
    await near.write(b"still usable")


@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        ({"offset": -1}, ValueError, "offset must be at least 0"),
        ({"offset": 1.5}, TypeError, "offset must be an int"),
        ({"offset": SIZE + 1}, ValueError, "is past the end of the file"),
        ({"count": -1}, ValueError, "count must be at least 0"),
        ({"count": "5"}, TypeError, "count must be an int"),
        ({"offset": 1, "count": SIZE}, ValueError, "is more than the 299999 bytes from offset on"),
        ({"timeout": "5"}, TypeError, "timeout"),
    ],
)
async def test_numbers_that_can_not_be_are_refused(
    pair: Pair, file: BinaryIO, options: Any, error: type[Exception], text: str
) -> None:
    with pytest.raises(error, match=text):
        await pair[0].send_file(file, **options)
    assert pair[0].statistics().bytes_sent == 0


# Limits, and fairness. ------------------------------------------------------------------------


@pytest.mark.real_time("the kernel takes what it is given")
async def test_a_large_file_does_not_starve_the_loop(tmp_path: Path) -> None:
    path = tmp_path / "large"
    with path.open("wb") as file:
        file.truncate(64 << 20)
    turns = 0

    async def count() -> None:
        nonlocal turns
        while True:
            await asyncio.sleep(0)
            turns += 1

    near, far = streams.make_pair("tcp")
    counting = asyncio.ensure_future(count())
    with path.open("rb") as file:

        async def read() -> None:
            left = 64 << 20
            while left:
                left -= len(await far.read_some())

        await asyncio.gather(near.send_file(file), read())
    counting.cancel()
    near.abort()
    far.abort()
    assert turns > 100


async def test_a_silence_is_renewed_by_what_the_kernel_takes(pair: Pair, file: BinaryIO) -> None:
    near, _ = pair
    near.timeouts = netio.Timeouts(idle=PATIENCE_S, min_rate=netio.Rate(1, per=5))
    reading = await received(pair, SIZE)
    await near.send_file(file)
    await reading
