"""Connecting through proxies: what is said to them, what they say, and one limit over all."""

import asyncio
import base64
import errno
import itertools
import pickle
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from streams import outcome_of
from test_connect_mixes import Stepped, await_it
from virtual import virtual_loop

import netio
from netio.testing import Link, Network, faults
from netio.testing._network.connecting import open_ends

SOCKS, HTTP = "socks5://proxy:1080", "http://proxy:1080"
SOCKS_HELLO = b"\5\1\0"
SOCKS_ASK = b"\5\1\0\3\x0bexample.org\x1b\x58"
HTTP_ASK = b"CONNECT example.org:7000 HTTP/1.1\r\nHost: example.org:7000\r\n\r\n"
SOCKS_OK = b"\5\0\0\1\x0a\0\0\x07\xc0\0"
HTTP_OK = b"HTTP/1.1 200 Connection established\r\nVia: 1.1 proxy\r\n\r\n"

# For each kind: its URL, and what is said in turn, by us and by the proxy.
DIALOGUES = {
    "socks": (SOCKS, [(SOCKS_HELLO, b"\5\0"), (SOCKS_ASK, SOCKS_OK)]),
    "http": (HTTP, [(HTTP_ASK, HTTP_OK)]),
}
of_each_kind = pytest.mark.parametrize("kind", DIALOGUES)

Turns = list[tuple[bytes, bytes]]


@asynccontextmanager
async def proxied(
    handler: Callable[[netio.Stream], Awaitable[object]], *, link: Link | None = None
) -> AsyncIterator[Network]:
    """A network on which `handler` plays the proxy; nothing is open on it in the end."""
    network = Network(names={"proxy": "10.0.0.9"}, link=link or Link())
    async with netio.serve_tcp(handler, "proxy", 1080, network=network, grace=0):
        yield network
    await asyncio.sleep(5)
    assert not network._live
    assert not open_ends()


def plays(turns: Turns, *, then: bytes = b"hello", pieces: bool = False) -> Any:
    """A proxy that expects just these bytes, and whose peer speaks first, with the last answer."""

    async def handler(stream: netio.Stream) -> None:
        for place, (expected, answer) in enumerate(turns):
            assert await stream.read_exactly(len(expected)) == expected
            out = answer + then if place == len(turns) - 1 else answer
            for cut in [out] if not pieces else [out[i : i + 1] for i in range(len(out))]:
                await stream.write(cut)
                await asyncio.sleep(0.01 if pieces else 0)
        await stream.write(await stream.read_exactly(4))

    return handler


def connect(network: Network, proxy: Any, **options: Any) -> Any:
    return netio.connect_tcp("example.org", 7000, proxy=proxy, network=network, **options)


# What is said. ----------------------------------------------------------------------------------


@of_each_kind
@pytest.mark.parametrize("pieces", [False, True])
@pytest.mark.virtual_clock
async def test_the_stream_is_that_of_the_other_side_from_its_first_byte_on(
    kind: str, pieces: bool
) -> None:
    url, turns = DIALOGUES[kind]
    async with proxied(plays(turns, pieces=pieces)) as network:
        timeouts = netio.Timeouts(read=3)
        async with connect(network, url, timeouts=timeouts) as stream:
            assert await stream.read_exactly(5) == b"hello"
            await stream.write(b"back")
            assert await stream.read_exactly(4) == b"back"
            assert stream.timeouts is timeouts
            assert stream.peer == ("10.0.0.9", 1080)


@pytest.mark.parametrize(
    ("host", "address", "target"),
    [
        ("example.org", b"\3\x0bexample.org", "example.org"),
        ("10.0.0.7", b"\1\x0a\0\0\7", "10.0.0.7"),
        ("fd00::7", b"\4" + socket.inet_pton(socket.AF_INET6, "fd00::7"), "[fd00::7]"),
        ("b\u00fccher.example", b"\3\x15xn--bcher-kva.example", "xn--bcher-kva.example"),
    ],
)
@pytest.mark.virtual_clock
async def test_the_host_is_sent_as_it_was_given(host: str, address: bytes, target: str) -> None:
    ask = f"CONNECT {target}:7000 HTTP/1.1\r\nHost: {target}:7000\r\n\r\n".encode()
    for url, turns in (
        (SOCKS, [(SOCKS_HELLO, b"\5\0"), (b"\5\1\0" + address + b"\x1b\x58", SOCKS_OK)]),
        (HTTP, [(ask, HTTP_OK)]),
    ):
        async with proxied(plays(turns)) as network:
            async with netio.connect_tcp(host, 7000, proxy=url, network=network) as stream:
                assert await stream.read_exactly(5) == b"hello"
                await stream.write(b"back")
                assert await stream.read_exactly(4) == b"back"


@pytest.mark.parametrize("answer", [SOCKS_OK, b"\5\0\0\4" + bytes(18), b"\5\0\0\3\2ab\0\7"])
@pytest.mark.virtual_clock
async def test_every_kind_of_address_is_passed_over(answer: bytes) -> None:
    async with proxied(plays([(SOCKS_HELLO, b"\5\0"), (SOCKS_ASK, answer)])) as network:
        async with connect(network, SOCKS) as stream:
            assert await stream.read_exactly(5) == b"hello"


@pytest.mark.virtual_clock
async def test_who_asks_is_said_where_the_proxy_wants_to_know() -> None:
    url = "socks5://me:p%40ss@proxy:1080"
    login = (b"\1\2me\4p@ss", b"\1\0")
    for turns in (
        [(b"\5\2\0\2", b"\5\2"), login, (SOCKS_ASK, SOCKS_OK)],
        [(b"\5\2\0\2", b"\5\0"), (SOCKS_ASK, SOCKS_OK)],
    ):
        async with proxied(plays(turns)) as network:
            async with connect(network, url) as stream:
                assert await stream.read_exactly(5) == b"hello"
    basic = base64.b64encode(b"me:p@ss")
    ask = HTTP_ASK[:-2] + b"Proxy-Authorization: Basic " + basic + b"\r\n\r\n"
    async with proxied(plays([(ask, HTTP_OK)])) as network:
        async with connect(network, "http://me:p%40ss@proxy:1080") as stream:
            assert await stream.read_exactly(5) == b"hello"


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.0 200\r\n\r\n",
        b"HTTP/1.1 204 Fine\n\n",
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n",
    ],
)
@pytest.mark.virtual_clock
async def test_every_success_of_http_is_one(answer: bytes) -> None:
    async with proxied(plays([(HTTP_ASK, answer)])) as network:
        async with connect(network, HTTP) as stream:
            assert await stream.read_exactly(5) == b"hello"


@pytest.mark.virtual_clock
async def test_the_addresses_of_the_proxy_race_and_its_name_is_looked_up_by_the_resolver() -> None:
    class Names:
        async def lookup(self, host: str, port: int) -> list[str]:
            assert (host, port) == ("proxy", 1080)
            return ["10.0.0.1", "10.0.0.9"]

    async with proxied(plays(DIALOGUES["socks"][1])) as network:
        network.add(faults.BlackHole(), to="10.0.0.1")
        async with connect(network, SOCKS, resolver=Names()) as stream:
            assert virtual_loop().time() == 0.25
            assert await stream.read_exactly(5) == b"hello"


@pytest.mark.virtual_clock
async def test_an_object_of_the_program_is_a_proxy_as_well() -> None:
    class Plain:
        host, port = "proxy", 1080

        async def connect(self, stream: netio.Stream, host: str, port: int) -> None:
            await stream.write(f"{host}:{port}\n".encode())
            if await stream.read_line(timeout=1) != b"ok\n":
                raise OSError("it is not ok")

        def __str__(self) -> str:
            return "plain"

    async def shy(stream: netio.Stream) -> None:
        assert await stream.read_line() == b"example.org:7000\n"
        await stream.write(answers.pop())
        await stream.read_all(limit=1)

    answers = [b"", b"no\n", b"ok\n"]
    async with proxied(shy) as network:
        async with connect(network, Plain()):
            pass
        with pytest.raises(netio.ConnectFailed, match=r"the proxy plain .*: it is not ok"):
            await connect(network, Plain())
        with pytest.raises(netio.ConnectFailed, match=r"the proxy plain .*: read_line") as caught:
            await connect(network, Plain())
        [error] = caught.value.attempts
        assert isinstance(error, netio.DeadlineExceeded)


# What they refuse. ------------------------------------------------------------------------------

SOCKS_FAILURES = {
    1: None,
    2: errno.EACCES,
    3: errno.ENETUNREACH,
    4: errno.EHOSTUNREACH,
    5: errno.ECONNREFUSED,
    6: errno.ETIMEDOUT,
    7: errno.EOPNOTSUPP,
    8: errno.EAFNOSUPPORT,
    77: None,
}
FAILURES: list[tuple[str, Turns, int | None, str]] = [
    *(
        (SOCKS, [(SOCKS_HELLO, b"\5\0"), (SOCKS_ASK, bytes([5, reply, 0, 1]))], number, "reply")
        for reply, number in SOCKS_FAILURES.items()
    ),
    (SOCKS, [(SOCKS_HELLO, b"\5\xff")], errno.EACCES, "wants a username"),
    (SOCKS, [(SOCKS_HELLO, b"\5\2")], errno.EACCES, "wants a username"),
    (SOCKS, [(SOCKS_HELLO, b"HTTP/1.1 400 Bad Request\r\n\r\n")], errno.EPROTO, "SOCKS5"),
    (SOCKS, [(SOCKS_HELLO, b"\5\0"), (SOCKS_ASK, b"\4\0\0\1")], errno.EPROTO, "SOCKS5"),
    (SOCKS, [(SOCKS_HELLO, b"\5\0"), (SOCKS_ASK, b"\5\0\0\2")], errno.EPROTO, "kind of address"),
    (
        "socks5://me:sesame@proxy:1080",
        [(b"\5\2\0\2", b"\5\2"), (b"\1\2me\6sesame", b"\1\1")],
        errno.EACCES,
        "refuses this username",
    ),
    (HTTP, [(HTTP_ASK, b"HTTP/1.1 407 Log in\r\n\r\n")], errno.EACCES, "answers 407 Log in"),
    (HTTP, [(HTTP_ASK, b"HTTP/1.1 502 Bad\x1b[2J\r\n\r\n")], None, r"answers 502 Bad\?\[2J"),
    (HTTP, [(HTTP_ASK, b"HTTP/1.1 301 Moved\r\n\r\n")], None, "answers 301"),
    (HTTP, [(HTTP_ASK, b"HTTP/1.1 100 Wait\r\n\r\n" * 9)], None, "answers 100"),
    (HTTP, [(HTTP_ASK, b"SSH-2.0-OpenSSH_9.6\r\n")], errno.EPROTO, "not HTTP: b'SSH"),
    (HTTP, [(HTTP_ASK, b"HTTP/2 200\r\n\r\n")], errno.EPROTO, "not HTTP"),
    (HTTP, [(HTTP_ASK, b"\5\0\r\n")], errno.EPROTO, "not HTTP"),
    (
        HTTP,
        [(HTTP_ASK, b"HTTP/1.1 200 OK\r\n" + b"a: b\r\n" * 10_000)],
        errno.EMSGSIZE,
        "over 32768 bytes",
    ),
    (HTTP, [(HTTP_ASK, b"x" * 100_000)], errno.EMSGSIZE, "over 32768 bytes"),
]


@pytest.mark.parametrize(("url", "turns", "number", "text"), FAILURES)
@pytest.mark.virtual_clock
async def test_a_refusal_is_a_failed_connect_with_what_the_proxy_said(
    url: str, turns: Turns, number: int | None, text: str
) -> None:
    async def handler(stream: netio.Stream) -> None:
        for expected, answer in turns:
            assert await stream.read_exactly(len(expected)) == expected
            await stream.write(answer)
        await stream.read_all(limit=1)

    async with proxied(handler) as network:
        error = await outcome_of(connect(network, url))
        assert type(error) is netio.ConnectFailed
        assert error.errno == number
        assert "connect_tcp to example.org:7000: the proxy " in str(error)
        [attempt] = error.attempts
        with pytest.raises(Exception, match=text):
            raise attempt
        assert "sesame" not in str(error) + repr(error)
        assert str(pickle.loads(pickle.dumps(error))) == str(error)


@pytest.mark.virtual_clock
async def test_a_proxy_that_is_not_there_is_told_as_the_proxy() -> None:
    network = Network(names={"proxy": "10.0.0.9"})
    with pytest.raises(netio.ConnectFailed, match=r"of the proxy socks5://proxy:1080: .*refused"):
        await connect(network, SOCKS)
    with pytest.raises(netio.ConnectFailed, match="the proxy http://other:1 does not resolve"):
        await connect(network, "http://other:1")


def cuts(turns: Turns) -> list[Turns]:
    """The dialogue up to each byte that the proxy says."""
    return [
        [*turns[:place], (expected, answer[:size])]
        for place, (expected, answer) in enumerate(turns)
        for size in range(len(answer))
    ]


@of_each_kind
@pytest.mark.parametrize("how", ["hangs up", "is silent"])
@pytest.mark.virtual_clock
async def test_one_that_stops_at_any_byte_is_told_in_time(kind: str, how: str) -> None:
    url, turns = DIALOGUES[kind]

    async def handler(stream: netio.Stream) -> None:
        for expected, answer in said:
            await stream.read_exactly(len(expected))
            await stream.write(answer)
        if how == "is silent":
            await stream.read_all(limit=1)

    for said in cuts(turns):
        async with proxied(handler) as network:
            began = virtual_loop().time()
            error = await outcome_of(connect(network, url, timeout=4))
            elapsed = virtual_loop().time() - began
            if how == "hangs up":
                assert type(error) is netio.ConnectFailed, said
                assert elapsed < 1
            else:
                assert type(error) is netio.DeadlineExceeded, said
                assert (error.limit, error.operation, elapsed) == ("call", "connect_tcp", 4.0)
                assert f"the proxy {url} has not answered" in str(error)


@of_each_kind
@pytest.mark.virtual_clock
async def test_one_limit_is_over_all_of_it(kind: str) -> None:
    """The lookup, the race of the proxy's addresses and the dialogue share it."""
    url, turns = DIALOGUES[kind]

    async def handler(stream: netio.Stream) -> None:
        for _ in range(100):
            await stream.write(turns[0][1][:1] if kind == "socks" else b"")
            await asyncio.sleep(1)

    network = Network(names={"proxy": "10.0.0.9"}, lookup_seconds=2, link=Link(latency=0.5))
    server = await netio.serve_tcp(handler, "10.0.0.9", 1080, network=network, grace=0)
    async with server:
        for limits, limit in (
            ({"timeout": 5}, "call"),
            ({"timeouts": netio.Timeouts(connect=5, read=0.1)}, "connect"),
            ({"timeout": netio.Budget(5)}, "budget"),
            ({"timeout": netio.Deadline.after(20)}, "deadline"),
        ):
            began = virtual_loop().time()
            error = await outcome_of(connect(network, url, **limits))
            assert isinstance(error, netio.DeadlineExceeded)
            assert (error.limit, error.operation) == (limit, "connect_tcp")
            assert virtual_loop().time() == (20.0 if limit == "deadline" else began + 5)
        with pytest.raises(netio.DeadlineExceeded) as caught:
            async with netio.timeout(5) as scope:
                await connect(network, url)
        assert caught.value.scope is scope
        assert caught.value.operation == "connect_tcp"
        await asyncio.sleep(200)


@of_each_kind
@pytest.mark.virtual_clock
async def test_a_cancel_in_any_wait_is_raised_and_nothing_is_left(kind: str) -> None:
    url, turns = DIALOGUES[kind]
    async with proxied(plays(turns, pieces=True), link=Link(latency=0.125)) as network:
        for step in itertools.count():
            stepped = Stepped(connect(network, url), step)
            task = asyncio.create_task(await_it(stepped))
            outcome = await outcome_of(task)
            await asyncio.sleep(5)
            if not stepped.cancelled:
                await outcome.aclose()
                break
            assert isinstance(outcome, asyncio.CancelledError)
            assert task.cancelling() == 1
            assert not network._live
        assert step > 4


# Bad input, at the call. ------------------------------------------------------------------------

BAD_URLS = [
    ("", "socks5://"),
    ("proxy:1080", "socks5://"),
    ("https://proxy:443", "socks5://"),
    ("socks4://proxy:1080", "socks5://"),
    ("socks5://proxy", "host and a port"),
    ("socks5://:1080", "host and a port"),
    ("http://proxy:0", "host and a port"),
    ("http://proxy:99999", "not a valid URL"),
    ("http://[fd00::1:80", "not a valid URL"),
    ("http://proxy:80/path", "without a path"),
    ("http://proxy:80?x=1", "without a path"),
    ("socks5://secret@proxy:1080", "both"),
    ("socks5://" + "secret" * 50 + ":x@proxy:1080", "255"),
    ("http://secret%3Ax:y@proxy:80", "colon"),
    ("http://secret:y%0Az@proxy:80", "printable"),
    ("http://a..b:80", "host"),
]


@pytest.mark.parametrize(("url", "text"), BAD_URLS)
def test_a_bad_url_is_told_at_the_call_without_its_password(url: str, text: str) -> None:
    with pytest.raises(ValueError, match=f"proxy.*{text}") as caught:
        netio.connect_tcp("example.org", 80, proxy=url)
    assert "secret" not in str(caught.value)
    assert caught.value.__suppress_context__ or caught.value.__context__ is None


@pytest.mark.parametrize("wrong", [5, b"http://proxy:80", ("proxy", 80), netio.Socks5Proxy])
def test_what_is_no_proxy_is_named_at_the_call(wrong: Any) -> None:
    with pytest.raises(TypeError, match="proxy"):
        netio.connect_tcp("example.org", 80, proxy=wrong)


def test_a_proxy_says_what_is_wrong_with_it_and_shows_no_password() -> None:
    for cls in (netio.Socks5Proxy, netio.HttpProxy):
        made = cls("proxy", 80, "me", "secret")
        assert "secret" not in repr(made) + str(made)
        assert cls("proxy", 80) == cls("proxy", 80)
        with pytest.raises(ValueError, match="port"):
            cls("proxy", 0)
        with pytest.raises(TypeError, match="host"):
            cls(None, 80)  # type: ignore[arg-type]
        with pytest.raises(TypeError, match="password"):
            cls("proxy", 80, "me", b"secret")  # type: ignore[arg-type]
        with pytest.raises(ValueError, match="both"):
            cls("proxy", 80, "me")
    with pytest.raises(ValueError, match="username"):
        netio.Socks5Proxy("proxy", 80, "", "x")
