"""Operations that wait, on streams where nothing moves by itself, and the limit that ends them."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
from streams import Pair, fill, make_pair
from virtual import virtual_loop

import netio

Call = Callable[..., Any]

READS: dict[str, Call] = {
    "read_exactly(8)": lambda s, **kw: s.read_exactly(8, **kw),
    "read_exactly(100000)": lambda s, **kw: s.read_exactly(100_000, **kw),
    "read_until": lambda s, **kw: s.read_until(b";", **kw),
    "read_line": lambda s, **kw: s.read_line(**kw),
    "read_some(65536)": lambda s, **kw: s.read_some(**kw),
    "read_into(8)": lambda s, **kw: s.read_into(bytearray(8), **kw),
    "read_into(100000)": lambda s, **kw: s.read_into(bytearray(100_000), **kw),
    "read_all": lambda s, **kw: s.read_all(limit=10, **kw),
}
WRITES: dict[str, Call] = {
    "write(1000)": lambda s, **kw: s.write(b"x" * 1000, **kw),
    "write_many(70000)": lambda s, **kw: s.write_many([b"x" * 35_000] * 2, **kw),
}
WAITS = {**READS, **WRITES}


@contextlib.asynccontextmanager
async def stuck_pair(**timeouts: Any) -> AsyncIterator[Pair]:
    """In memory; reads and writes of the near end both wait."""
    near, far = make_pair("memory", timeouts=netio.Timeouts(**timeouts), capacity=100)
    assert fill(near) == 100
    try:
        yield near, far
    finally:
        near.abort()
        far.abort()


async def expect_limit(awaitable: Any, limit: str, at: float) -> netio.DeadlineExceeded:
    with pytest.raises(netio.DeadlineExceeded) as caught:
        await awaitable
    assert caught.value.limit == limit
    assert virtual_loop().time() == at
    return caught.value


def make_room(near: Any, size: int) -> None:
    """The peer of a `stuck_pair` takes `size` bytes of what the near end has sent."""
    near._channel._outgoing.receiver.receive(size)


async def at(when: float, act: Callable[[], Any]) -> Any:
    """`act`, at this point of virtual time; awaited where it can be."""
    await asyncio.sleep(when - virtual_loop().time())
    result = act()
    return await result if isinstance(result, Awaitable) else result
