"""The example that is an HTTP server, with clients of all kinds; no other program is needed."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

import example_modules
import pytest

import netio
from netio.testing import Network

http_server = example_modules.load("http_server")

GET = b"GET / HTTP/1.1\r\nHost: here\r\n\r\n"
OK = (200, True)

pytestmark = pytest.mark.virtual_clock


@contextlib.asynccontextmanager
async def connected() -> AsyncIterator[netio.Stream]:
    network = Network()
    options = {"timeouts": http_server.LIMITS, "network": network, "grace": 0}
    async with netio.serve_tcp(http_server.serve, "localhost", 80, **options):
        async with netio.connect_tcp("localhost", 80, network=network) as stream:
            yield stream


async def answer_to(stream: netio.Stream, request: bytes) -> tuple[int, bool]:
    """The status, and whether the connection is kept."""
    await stream.write(request)
    return await answered(stream)


async def answered(stream: netio.Stream, *, has_body: bool = True) -> tuple[int, bool]:
    head = (await stream.read_until(b"\r\n\r\n", timeout=20)).decode()
    line, length, connection = head.split("\r\n")[:3]
    body = await stream.read_exactly(int(length.partition(": ")[2]) if has_body else 0)
    assert body.decode().strip() in line
    return int(line.split()[1]), connection == "Connection: keep-alive"


async def is_closed(stream: netio.Stream) -> bool:
    return await stream.read_some(timeout=20) == b""


def now() -> float:
    return asyncio.get_running_loop().time()


async def test_a_connection_is_kept_for_many_requests() -> None:
    async with connected() as stream:
        for _ in range(3):
            assert await answer_to(stream, GET) == OK
            await asyncio.sleep(50)
        await stream.write(GET * 3)  # before the answers
        assert [await answered(stream) for _ in range(3)] == [OK] * 3


async def test_a_head_is_answered_without_a_body() -> None:
    async with connected() as stream:
        await stream.write(b"HEAD / HTTP/1.1\r\nHost: here\r\n\r\n" + GET)
        assert await answered(stream, has_body=False) == OK
        assert await answered(stream) == OK


async def test_a_client_may_ask_for_the_end() -> None:
    for last in (
        b"GET / HTTP/1.1\r\nHost: here\r\nConnection: Close\r\n\r\n",
        b"GET / HTTP/1.0\r\n\r\n",
    ):
        async with connected() as stream:
            assert await answer_to(stream, last) == (200, False)
            assert await is_closed(stream)


@pytest.mark.parametrize(
    ("request_", "answer"),
    [
        (b"\r\n" + GET, OK),
        (b"GET / HTTP/1.1\r\nhOST:\there \r\nAccept: a\r\naccept: b\r\n\r\n", OK),
        (b"GET / HTTP/1.1\r\nHost:\r\nX: \xff\r\nConnection: \xff\r\n\r\n", OK),
        (b"GET / HTTP/1.1\r\nHost: here\r\nContent-Length: 0\r\n\r\n", OK),
        (b"DELETE / HTTP/1.1\r\nHost: here\r\n\r\n", (501, True)),
        (b"GET / HTTP/1.1\r\n\r\n", (400, False)),
        (b"GET / HTTP/1.1\r\nHost: here\r\nHost: here\r\n\r\n", (400, False)),
        (b"GET / HTTP/1.1\r\nHost : here\r\n\r\n", (400, False)),
        (b"GET / HTTP/1.1\r\nHost: here\r\n folded\r\n\r\n", (400, False)),
        (b"GET / HTTP/1.1\r\nHost: here\nX: y\r\n\r\n", (400, False)),
        (b"GET / HTTP/1.1\r\nHost: here\0\r\n\r\n", (400, False)),
        (b"GET  / HTTP/1.1\r\nHost: here\r\n\r\n", (400, False)),
        (b"GET / HTTP/2.0\r\nHost: here\r\n\r\n", (400, False)),
        (b"\x16\x03\x01 hello\r\n\r\n", (400, False)),
        (b"POST / HTTP/1.1\r\nHost: here\r\nContent-Length: 5\r\n\r\nhello", (413, False)),
        (
            b"GET / HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\nContent-Length: 5\r\n\r\nhello",
            (413, False),
        ),
        (
            b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            (413, False),
        ),
    ],
)
async def test_what_is_lawful_is_served_and_the_rest_refused(
    request_: bytes, answer: tuple[int, bool]
) -> None:
    async with connected() as stream:
        assert await answer_to(stream, request_) == answer
        await stream.write(GET)
        if answer[1]:
            assert await answered(stream) == OK
        else:
            assert await is_closed(stream)


async def test_a_head_has_a_largest_size() -> None:
    def padded(size: int) -> bytes:
        start = GET[:-2] + b"X: "
        return start + b"x" * (size - len(start) - 4) + b"\r\n\r\n"

    for size, answer in ((16 * 1024, OK), (16 * 1024 + 2, (431, False))):
        async with connected() as stream:
            assert await answer_to(stream, padded(size)) == answer


async def test_a_head_without_an_end_is_refused_before_it_ends() -> None:
    async with connected() as stream:
        assert await answer_to(stream, GET[:-2] + b"X: x\r\n" * 3000) == (431, False)
        await stream.write(b"X: x\r\n" * 100_000)  # it is read, so that the answer is not lost
        assert await is_closed(stream)


async def test_who_drips_a_head_is_told_and_sent_away_in_time() -> None:
    async with connected() as stream:
        await stream.write(b"G")
        started = now()

        async def drip() -> None:
            for byte in GET[1:]:
                await asyncio.sleep(1)
                await stream.write(bytes([byte]))

        dripping = asyncio.create_task(drip())
        assert await answered(stream) == (408, False)
        assert now() - started == pytest.approx(10)
        assert await is_closed(stream)
        assert now() - started == pytest.approx(10)
        await netio.cancel_and_wait(dripping)


async def test_who_goes_on_after_it_was_refused_is_cut() -> None:
    async with connected() as stream:
        assert await answer_to(stream, b"nonsense\r\n\r\n") == (400, False)
        started = now()
        with pytest.raises(netio.ConnectionLost):
            while now() < started + 60:
                await stream.write(b"more")
                await asyncio.sleep(0.1)
        assert now() - started == pytest.approx(2, abs=0.2)


async def test_who_is_silent_between_requests_is_sent_away() -> None:
    async with connected() as stream:
        assert await answer_to(stream, GET) == OK
        started = now()
        assert await stream.read_some(timeout=None) == b""
        assert now() - started == pytest.approx(60)


async def test_who_does_not_read_the_answers_is_sent_away() -> None:
    async with connected() as stream:
        started = now()
        with pytest.raises(netio.ConnectionLost):
            await stream.write(GET * 1_000_000, timeout=None)
        assert now() - started == pytest.approx(10)
