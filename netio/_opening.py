"""What `connect_*` and `serve_*` return: to be awaited, or used with ``async with``."""

from __future__ import annotations

from collections.abc import Coroutine, Generator
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

if TYPE_CHECKING:
    from types import TracebackType


class Closable(Protocol):
    """Something that ``async with`` closes on leaving."""

    async def aclose(self) -> object:
        """Close it."""


T = TypeVar("T", bound=Closable)


class Opening(Coroutine[Any, Any, T], Generic[T]):
    """A coroutine that opens something, and a context manager around what it opens.

    ``await`` it and close the result yourself, or enter it with ``async with``, which closes on
    leaving. It is a real coroutine: `asyncio.create_task`, `asyncio.TaskGroup` and `asyncio.run`
    take it, and one that was forgotten warns as any coroutine does.
    """

    __slots__ = ("_inner", "_opened")

    def __init__(self, name: str, inner: Coroutine[Any, Any, T]) -> None:
        inner.__name__ = inner.__qualname__ = name  # type: ignore[attr-defined]
        self._inner = inner
        self._opened: T | None = None

    def __await__(self) -> Generator[Any, Any, T]:
        return self._inner.__await__()

    def send(self, value: Any) -> Any:
        """As of any coroutine."""
        return self._inner.send(value)

    def throw(self, *args: Any) -> Any:
        """As of any coroutine."""
        return self._inner.throw(*args)

    def close(self) -> None:
        """As of any coroutine."""
        self._inner.close()

    async def __aenter__(self) -> T:
        self._opened = await self._inner
        return self._opened

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._opened is not None:
            await self._opened.aclose()

    def __repr__(self) -> str:
        return f"<netio.{getattr(self._inner, '__name__', 'opening')}: await it, or async with>"
