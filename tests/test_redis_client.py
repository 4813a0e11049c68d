"""The example that is a Redis client, where the server may say anything; no Redis is needed."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import example_modules
import pytest

import netio
from netio.testing import Network, Stage, events, explore

client = example_modules.load("redis_client")

Pair = tuple[netio.Stream, netio.Stream]


@pytest.fixture
async def pair() -> AsyncIterator[Pair]:
    near, far = Network().pair()
    async with near, far:
        yield near, far


async def replies(pair: Pair, said: bytes, count: int = 1) -> Any:
    """What a client makes of `said`, the replies to so many commands."""
    near, far = pair
    await far.write(said)
    return await client.Redis(near).execute_many(*[("PING",)] * count, timeout=1)


@pytest.mark.virtual_clock
async def test_a_command_is_an_array_of_strings_of_any_bytes(pair: Pair) -> None:
    near, far = pair
    await far.write(b"+OK\r\n")
    await client.Redis(near).execute("SET", b"\0\r\n\xff", "ä", 7, 0.5)
    sent = b"*5\r\n$3\r\nSET\r\n$4\r\n\0\r\n\xff\r\n$2\r\n\xc3\xa4\r\n$1\r\n7\r\n$3\r\n0.5\r\n"
    assert await far.read_exactly(len(sent)) == sent


@pytest.mark.virtual_clock
@pytest.mark.parametrize(
    ("said", "reply"),
    [
        (b"+OK\r\n", b"OK"),
        (b"+\r\n", b""),
        (b":-9223372036854775808\r\n", -(2**63)),
        (b"$0\r\n\r\n", b""),
        (b"$2\r\n\r\n\r\n", b"\r\n"),
        (b"$-1\r\n", None),
        (b"*-1\r\n", None),
        (b"*0\r\n", []),
        (b"*2\r\n*1\r\n:1\r\n$-1\r\n", [[1], None]),
    ],
)
async def test_each_kind_of_reply(pair: Pair, said: bytes, reply: object) -> None:
    assert await replies(pair, said + b":1\r\n", 2) == [reply, 1]


@pytest.mark.virtual_clock
async def test_an_error_of_the_server_is_raised_and_the_next_reply_is_read(pair: Pair) -> None:
    near, far = pair
    redis = client.Redis(near)
    await far.write(b"-WRONGTYPE a list\r\n+PONG\r\n")
    with pytest.raises(client.RedisError, match="WRONGTYPE a list"):
        await redis.execute("GET", "list")
    assert await redis.execute("PING") == b"PONG"


@pytest.mark.virtual_clock
async def test_errors_of_the_server_stand_among_the_replies_of_many(pair: Pair) -> None:
    first, error, last, array = await replies(pair, b"+a\r\n-ERR b\r\n+c\r\n*1\r\n-ERR d\r\n", 4)
    assert (first, last) == (b"a", b"c")
    assert isinstance(error, client.RedisError)
    assert isinstance(array[0], client.RedisError)


@pytest.mark.virtual_clock
@pytest.mark.parametrize(
    "said",
    [
        b"HTTP/1.1 400 Bad Request\r\n",
        b"\r\n",
        b"$\r\n",
        b"$-2\r\n",
        b"$+1\r\n",
        b"$ 1\r\n",
        b"$1\n1\r\n",
        b"$1000000000\r\n",  # nobody waits for a gigabyte
        b"*1000000000\r\n",
        b"*1\r\n" * 10_000,
    ],
)
async def test_what_is_no_reply_is_an_error_and_ends_the_use_of_the_connection(
    pair: Pair, said: bytes
) -> None:
    near, far = pair
    redis = client.Redis(near)
    await far.write(said)
    with pytest.raises((netio.ConnectionLost, RecursionError)):
        await redis.execute("PING", timeout=1)
    with pytest.raises(netio.ConnectionLost, match="'PING'"):
        await redis.execute("PING", timeout=1)


@pytest.mark.virtual_clock
async def test_one_limit_is_over_all_replies(pair: Pair) -> None:
    near, far = pair

    async def drip() -> None:
        for _ in range(10):
            await asyncio.sleep(0.3)
            await far.write(b"+PONG\r\n")

    dripping = asyncio.create_task(drip())
    redis = client.Redis(near)
    started = asyncio.get_running_loop().time()
    with pytest.raises(netio.DeadlineExceeded):
        await redis.execute_many(*[("PING",)] * 10, timeout=1)
    assert asyncio.get_running_loop().time() - started == pytest.approx(1)
    await netio.cancel_and_wait(dripping)
    with pytest.raises(netio.ConnectionLost, match="'PING'"):  # also if those due are there now
        await redis.execute("PING")


@pytest.mark.virtual_clock
async def test_a_second_task_is_refused_before_anything_is_sent(pair: Pair) -> None:
    near, far = pair
    redis = client.Redis(near)
    first = asyncio.create_task(redis.execute("BLPOP", "list", 0))
    await asyncio.sleep(1)
    sent = near.statistics().bytes_sent
    with pytest.raises(netio.ConnectionLost, match="'BLPOP'"):
        await redis.execute("PING")
    assert near.statistics().bytes_sent == sent
    await far.write(b"$5\r\nvalue\r\n")
    assert await first == b"value"
    await far.write(b"+PONG\r\n")
    assert await redis.execute("PING") == b"PONG"


async def playing(stage: Stage) -> None:
    """A value in two pieces, whatever comes between: either it is returned, or no other ever is."""
    redis = client.Redis(stage.near)
    outcome = await stage.play(redis.execute("GET", "key", timeout=3))
    if outcome.error is None:
        assert outcome.value == b"value"
        return
    sent = stage.near.statistics().bytes_sent
    with pytest.raises(netio.ConnectionLost, match="'GET'"):
        await redis.execute("GET", "other", timeout=3)
    assert stage.near.statistics().bytes_sent == sent


def test_no_order_of_events_makes_a_reply_that_of_another_command() -> None:
    pieces = {"a": events.data(b"$5\r\nva"), "b": events.data(b"lue\r\n")}
    explored = explore(playing, events={**events.STANDARD, **pieces}, max_events=3)
    assert all(explored.happened[letter] > 100 for letter in "ctserab"), explored.happened
