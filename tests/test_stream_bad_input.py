"""Wrong arguments: refused at the call, before any I/O, by an error that names the parameter."""

import array
import asyncio
import math
import re
import socket
from collections.abc import Callable
from typing import Any

import pytest
import streams
from streams import Hand, Pair, ticks

import netio
from netio import Deadline

kind, pair = streams.kind, streams.pair

Call = Callable[..., Any]


# (what is wrong, the call, the error, what its message says)
ROWS: list[tuple[str, Call, type[Exception], str]] = [
    ("n negative", lambda s: s.read_exactly(-1), ValueError, "n must be at least 0"),
    ("n float", lambda s: s.read_exactly(1.0), TypeError, "n must be an int, not float"),
    ("n NaN", lambda s: s.read_exactly(math.nan), TypeError, "n must be an int"),
    ("n str", lambda s: s.read_exactly("1"), TypeError, "n must be an int, not str"),
    ("n None", lambda s: s.read_exactly(None), TypeError, "n must be an int, not NoneType"),
    ("max_bytes 0", lambda s: s.read_some(0), ValueError, "max_bytes must be at least 1"),
    ("max_bytes negative", lambda s: s.read_some(-1), ValueError, "max_bytes"),
    ("max_bytes float", lambda s: s.read_some(2.5), TypeError, "max_bytes"),
    ("max_bytes None", lambda s: s.read_some(None), TypeError, "max_bytes"),
    ("chunks 0", lambda s: s.chunks(0), ValueError, "max_bytes"),
    ("chunks str", lambda s: s.chunks("9"), TypeError, "max_bytes"),
    ("separator empty", lambda s: s.read_until(b""), ValueError, "separator must not be empty"),
    ("separators none", lambda s: s.read_until(()), ValueError, "separator must not be empty"),
    ("one empty", lambda s: s.read_until((b"a", b"")), ValueError, "separator must not be empty"),
    ("separator str", lambda s: s.read_until("\n"), TypeError, "separator must be bytes"),
    ("one str", lambda s: s.read_until((b"a", "b")), TypeError, "separator must be bytes"),
    ("separator int", lambda s: s.read_until(10), TypeError, "separator must be bytes"),
    ("separator list", lambda s: s.read_until([b"a"]), TypeError, "separator must be bytes"),
    ("limit below", lambda s: s.read_until(b"abc", limit=2), ValueError, "limit .2. is smaller"),
    ("limit negative", lambda s: s.read_until(b"a", limit=-1), ValueError, "limit"),
    ("limit float", lambda s: s.read_until(b"a", limit=9.5), TypeError, "limit"),
    ("limit None", lambda s: s.read_until(b"a", limit=None), TypeError, "limit"),
    ("line limit 0", lambda s: s.read_line(limit=0), ValueError, "limit must be at least 1"),
    ("line limit str", lambda s: s.read_line(limit="5"), TypeError, "limit must be an int"),
    ("lines limit 0", lambda s: s.lines(limit=0), ValueError, "limit must be at least 1"),
    ("lines limit None", lambda s: s.lines(limit=None), TypeError, "limit must be an int"),
    ("all negative", lambda s: s.read_all(limit=-1), ValueError, "limit must be at least 0"),
    ("all float", lambda s: s.read_all(limit=math.inf), TypeError, "limit must be an int"),
    ("all left out", lambda s: s.read_all(), TypeError, "limit"),
    ("buffer bytes", lambda s: s.read_into(b"abc"), TypeError, "buffer must be writable.*bytes"),
    ("buffer str", lambda s: s.read_into("abc"), TypeError, "buffer must be bytes-like, not str"),
    ("buffer int", lambda s: s.read_into(5), TypeError, "buffer must be bytes-like, not int"),
    (
        "buffer read-only",
        lambda s: s.read_into(memoryview(bytearray(9)).toreadonly()),
        TypeError,
        "buffer must be writable",
    ),
    (
        "buffer in steps",
        lambda s: s.read_into(memoryview(bytearray(9))[::2]),
        ValueError,
        "buffer must be contiguous",
    ),
    ("data str", lambda s: s.write("text"), TypeError, "data must be bytes-like, not str"),
    ("data None", lambda s: s.write(None), TypeError, "data must be bytes-like, not NoneType"),
    ("data int", lambda s: s.write(5), TypeError, "data must be bytes-like, not int"),
    ("data list", lambda s: s.write([b"a"]), TypeError, "data must be bytes-like, not list"),
    (
        "data in steps",
        lambda s: s.write(memoryview(b"abcd")[::2]),
        ValueError,
        "data must be contiguous",
    ),
    ("buffers str", lambda s: s.write_many("ab"), TypeError, "buffers must be bytes-like"),
    ("buffers with str", lambda s: s.write_many([b"a", "b"]), TypeError, "buffers must be"),
    ("buffers bytes", lambda s: s.write_many(b"ab"), TypeError, "buffers must be bytes-like"),
    ("buffers None", lambda s: s.write_many(None), TypeError, "buffers must be|not iterable"),
    (
        "buffers in steps",
        lambda s: s.write_many([memoryview(b"abcd")[::2]]),
        ValueError,
        "buffers must be contiguous",
    ),
    ("positional", lambda s: s.read_exactly(1, 5), TypeError, "positional"),
]

TAKE_A_TIMEOUT: dict[str, Call] = {
    "read_exactly": lambda s, t: s.read_exactly(1, timeout=t),
    "read_until": lambda s, t: s.read_until(b"a", timeout=t),
    "read_line": lambda s, t: s.read_line(timeout=t),
    "read_some": lambda s, t: s.read_some(timeout=t),
    "read_into": lambda s, t: s.read_into(bytearray(1), timeout=t),
    "read_all": lambda s, t: s.read_all(limit=9, timeout=t),
    "lines": lambda s, t: s.lines(timeout=t),
    "chunks": lambda s, t: s.chunks(timeout=t),
    "write": lambda s, t: s.write(b"x", timeout=t),
    "write bytearray": lambda s, t: s.write(bytearray(b"x"), timeout=t),
    "write_many": lambda s, t: s.write_many([b"x"], timeout=t),
    "write_eof": lambda s, t: s.write_eof(timeout=t),
    "aclose": lambda s, t: s.aclose(timeout=t),
}
BAD_TIMEOUTS: list[tuple[Any, type[Exception], str]] = [
    ("5", TypeError, "timeout must be a number of seconds.*not str"),
    (math.nan, ValueError, "timeout must not be NaN"),
    (True, TypeError, "timeout must be a number of seconds.*not bool"),
    (1j, TypeError, "timeout must be a number of seconds"),
    ([], TypeError, "timeout must be a number of seconds"),
    (netio.Timeouts(), TypeError, "not Timeouts; those of a connection are its timeouts"),
    (netio.timeout(5), TypeError, "not Scope; a scope is put around the call, by async with"),
    (Deadline, TypeError, "timeout must be a number of seconds"),
    (..., TypeError, "timeout must be a number of seconds"),
]


async def refused(call: Callable[[], Any]) -> Exception:
    """The error of a call, which comes without a suspension: nothing was waited for."""
    try:
        result = call()
        if hasattr(result, "send"):
            result.send(None)
    except StopIteration:
        pytest.fail("it was accepted")
    except Exception as error:
        return error
    pytest.fail("it was accepted, and waits")


async def check_usable(near: Any, far: Any, buffered: bytes) -> None:
    assert near.peek() == buffered
    assert not near.closed
    await far.write(b";rest")
    assert await near.read_exactly(len(buffered) + 5) == buffered + b";rest"
    await near.write(b"answer")
    assert await far.read_exactly(6) == b"answer"  # and nothing before it


@pytest.mark.parametrize("buffered", [b"", b"held"])
async def test_wrong_arguments_are_refused_before_any_io(pair: Pair, buffered: bytes) -> None:
    near, far = pair
    await far.write(b"." + buffered)
    await near.read_exactly(1)
    hand = Hand(near, far)
    hand.data_unnoticed(b"unread")
    before = near.statistics()
    for what, call, cls, message in ROWS:
        error = await refused(lambda call=call: call(near))
        assert type(error) is cls, what
        assert_matches(error, message, what)
        assert near.statistics() == before, what
    assert await near.read_exactly(len(buffered) + 6) == buffered + b"unread"
    await check_usable(near, far, b"")


def assert_matches(error: Exception, message: str, what: str) -> None:
    assert re.search(message, str(error)), (what, str(error))


@pytest.mark.parametrize("name", TAKE_A_TIMEOUT)
async def test_a_wrong_timeout_is_refused_also_on_a_hit(pair: Pair, name: str) -> None:
    near, far = pair
    await far.write(b".a\n")
    await near.read_exactly(1)
    before = near.statistics()
    for timeout, cls, message in BAD_TIMEOUTS:
        error = await refused(lambda t=timeout: TAKE_A_TIMEOUT[name](near, t))
        assert type(error) is cls, (timeout, error)
        assert_matches(error, message, repr(timeout))
        assert near.statistics() == before
    await check_usable(near, far, b"a\n")


@pytest.mark.parametrize("name", ["deadline", "read_deadline", "write_deadline"])
async def test_a_deadline_must_be_one(pair: Pair, name: str) -> None:
    near, far = pair
    setattr(near, name, Deadline.after(100))
    before = getattr(near, name)
    for bad in (5, 5.0, "5", math.nan, True, netio.Timeouts()):
        with pytest.raises(TypeError, match=f"{name} must be a netio.Deadline or None"):
            setattr(near, name, bad)
        assert getattr(near, name) is before
    with pytest.raises(TypeError, match=r"not int; seconds from now are netio\.Deadline\.after\("):
        setattr(near, name, 5)
    await check_usable(near, far, b"")


async def test_deadlines_refuse_what_is_no_number() -> None:
    for make, name in ((Deadline.after, "seconds"), (Deadline.at, "when"), (Deadline, "when")):
        for bad, cls in (("5", TypeError), (math.nan, ValueError), (True, TypeError)):
            with pytest.raises(cls, match=name):
                make(bad)  # type: ignore[operator]


@pytest.mark.parametrize("field", ["connect", "resolve", "attempt", "read", "write", "close"])
def test_default_limits_are_more_than_zero_or_none(field: str) -> None:
    for bad, cls in (
        (0, ValueError),
        (-1, ValueError),
        (math.nan, ValueError),
        (-math.inf, ValueError),
        ("5", TypeError),
        (True, TypeError),
    ):
        with pytest.raises(cls, match=f"Timeouts.{field}"):
            netio.Timeouts(**{field: bad})
    assert getattr(netio.Timeouts(**{field: math.inf}), field) is None
    assert getattr(netio.Timeouts(**{field: 5}), field) == 5


async def test_integers_of_any_kind_are_counts(pair: Pair) -> None:
    class Index:
        def __index__(self) -> int:
            return 2

    near, far = pair
    await far.write(b"abcdef\n")
    assert await near.read_exactly(Index()) == b"ab"  # type: ignore[arg-type]
    assert await near.read_some(Index()) == b"cd"  # type: ignore[arg-type]
    assert await near.read_until(b"\n", limit=2**70) == b"ef\n"


@pytest.mark.parametrize("buffered", [b"", b"a\n"])
async def test_a_second_reader_is_refused_before_any_io(pair: Pair, buffered: bytes) -> None:
    near, far = pair
    waiting = asyncio.create_task(near.read_exactly(10))
    await ticks(2)
    hand = Hand(near, far)
    if buffered:
        hand.data(buffered)
    hand.data_unnoticed(b"bc")
    before = near.statistics()
    for call in (
        lambda: near.read_exactly(1),
        lambda: near.read_exactly(0),
        lambda: near.read_some(),
        lambda: near.read_line(),
        lambda: near.read_until(b"a"),
        lambda: near.read_into(bytearray(1)),
        lambda: near.read_into(bytearray()),
        lambda: near.read_all(limit=1),
        lambda: anext(near.lines()),
        lambda: anext(near.chunks()),
    ):
        error = await refused(call)
        assert type(error) is netio.StreamBusy
        assert "read_exactly(10)" in str(error)
        assert near.statistics() == before
    assert near.peek() == buffered
    rest = b"defghijk"[len(buffered) :]
    await far.write(rest)
    assert await waiting == buffered + b"bc" + rest
    await check_usable(near, far, b"")


async def test_what_is_no_connected_stream_socket_is_refused_and_stays_the_callers() -> None:
    unconnected, datagram = socket.socket(), socket.socket(type=socket.SOCK_DGRAM)
    closed = socket.socket()
    closed.close()
    rows: list[tuple[Any, type[Exception], str]] = [
        (unconnected, ValueError, "sock must be connected"),
        (datagram, ValueError, "sock must be a stream socket"),
        (closed, ValueError, "sock is closed"),
        (5, TypeError, "sock must be a plain socket.socket, not int"),
        (None, TypeError, "sock must be a plain socket.socket"),
    ]
    for sock, cls, message in rows:
        with pytest.raises(cls, match=message):
            netio.open_stream(sock)
    assert unconnected.gettimeout() is None
    assert unconnected.fileno() >= 0
    unconnected.close()
    datagram.close()


async def test_the_arguments_of_a_new_stream_are_checked_while_the_socket_is_the_callers() -> None:
    one, other = socket.socketpair()
    rows: list[tuple[dict[str, Any], type[Exception], str]] = [
        ({"limit": 0}, ValueError, "limit must be at least 1"),
        ({"limit": "5"}, TypeError, "limit must be an int"),
        ({"limit": None}, TypeError, "limit must be an int"),
        ({"timeouts": 5}, TypeError, "timeouts must be netio.Timeouts"),
        ({"timeouts": None}, TypeError, "timeouts must be netio.Timeouts"),
    ]
    for options, cls, message in rows:
        with pytest.raises(cls, match=message):
            netio.open_stream(one, **options)
        with pytest.raises(cls, match=message):
            netio.stream_pair(**options)
    assert one.gettimeout() is None
    one.send(b"mine")
    assert other.recv(10) == b"mine"
    one.close()
    other.close()


def test_a_stream_needs_a_running_loop() -> None:
    one, other = socket.socketpair()
    with pytest.raises(RuntimeError):
        netio.open_stream(one)
    with pytest.raises(RuntimeError):
        netio.stream_pair()
    assert one.fileno() >= 0
    one.close()
    other.close()


async def test_items_of_a_callers_array_are_filled_as_bytes(pair: Pair) -> None:
    near, far = pair
    numbers = array.array("I", range(3))
    await far.write(array.array("I", [7, 8, 9]))
    assert await near.read_into(numbers) == 12
    assert list(numbers) == [7, 8, 9]


# A loop that can't watch descriptors. ---------------------------------------------------------


class NoPoller(asyncio.SelectorEventLoop):
    """As the loop of Windows that is the default there."""

    def add_reader(self, *args: Any) -> None:
        raise NotImplementedError

    add_writer = add_reader  # type: ignore[assignment]


def test_a_loop_without_a_poller_is_told_which_one_to_use() -> None:
    async def main() -> None:
        near, far = netio.stream_pair()
        with pytest.raises(RuntimeError, match="SelectorEventLoop"):
            await near.read_some()
        with pytest.raises(RuntimeError, match="SelectorEventLoop"):
            await near.write(bytes(10_000_000))
        near.abort()
        far.abort()

    with asyncio.Runner(loop_factory=NoPoller) as runner:
        runner.run(main())


@pytest.mark.virtual_clock
async def test_a_number_too_long_to_be_printed_is_told_by_errors_as_any_other() -> None:
    """Python refuses to print an int of more than 4,300 digits, with a ValueError."""
    huge = 10**5000
    near, far = netio.stream_pair()
    async with near, far:
        calls: list[Call] = [near.read_exactly, near.read_some]
        for call in calls:
            with pytest.raises(netio.DeadlineExceeded, match=call.__name__):
                await call(huge, timeout=1)
            with pytest.raises(ValueError, match=r"must be at least \d"):
                await call(-huge, timeout=1)
        await far.aclose()
        with pytest.raises(netio.IncompleteRead):
            await near.read_exactly(huge)
    assert str(netio.Rate(huge, 1)).endswith("bytes per 1 s")
    for wrong in (huge, -huge):
        with pytest.raises(ValueError, match="port must be at"):
            await netio.connect_tcp("localhost", wrong)
