"""Iterating over a stream: a read, again and again, until it returns ``b""``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable


class StreamIterator:
    """Reads again and again until a read returns ``b""``: what `lines` and `chunks` return.

    A class, not an async generator: it holds nothing open, and can be left at any point.
    """

    __slots__ = ("_keep", "_read")

    def __init__(self, read: Callable[[], Awaitable[bytes]], *, keep: bool = True) -> None:
        self._read = read
        self._keep = keep

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        data = await self._read()
        if not data:
            raise StopAsyncIteration
        return data if self._keep else data.removesuffix(b"\n")
