"""What `connect_*` and `serve_*` return: to be awaited, or used with ``async with``."""

from __future__ import annotations

from collections.abc import Coroutine, Generator
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar, cast

if TYPE_CHECKING:
    from types import CodeType, CoroutineType, FrameType, TracebackType


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
        self._inner = cast("CoroutineType[Any, Any, T]", inner)
        self._inner.__name__ = self._inner.__qualname__ = name
        self._opened: T | None = None

    # What asyncio and inspect show of a coroutine; `Task.get_stack` needs the frame.

    @property
    def __name__(self) -> str:
        return self._inner.__name__

    @property
    def cr_await(self) -> object:
        """As of any coroutine."""
        return self._inner.cr_await

    @property
    def cr_code(self) -> CodeType:
        """As of any coroutine."""
        return self._inner.cr_code

    @property
    def cr_frame(self) -> FrameType | None:
        """As of any coroutine."""
        return self._inner.cr_frame

    @property
    def cr_running(self) -> bool:
        """As of any coroutine."""
        return self._inner.cr_running

    @property
    def cr_suspended(self) -> bool:
        """As of any coroutine."""
        return self._inner.cr_suspended

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
        return f"<netio.{self._inner.__name__}: await it, or async with>"
