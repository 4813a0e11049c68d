"""Where faults are put: what the memory network and the proxy share.

A `Place` knows its connections and the faults on it. A new connection goes through the faults
that are there; one that is added or taken away later finds the connections that are live.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Generic, TypeVar

from netio._arguments import check_count
from netio.testing._network.stages import stage_class

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from types import TracebackType

    from netio.testing._network.wire import Connection, WireEvent
    from netio.testing.faults import Fault

C = TypeVar("C", bound="Connection")


class Placement:
    """A fault that was put somewhere. As a context manager, it is taken away on leaving.

    ``with network.add(faults.Down()) as down:`` gives the fault, whose ``fired`` is its count.
    """

    def __init__(self, fault: Fault, remove: Callable[[], None]) -> None:
        self._fault = fault
        self._remove = remove

    def remove(self) -> None:
        """Take the fault away; what it holds goes on, in order. Nothing if it was taken away."""
        self._remove()

    def __enter__(self) -> Fault:
        return self._fault

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.remove()


class _Placed(Generic[C]):
    """One fault on a place: for which connections, and its number there."""

    def __init__(self, fault: Fault, number: int, applies: Callable[[C], bool]) -> None:
        self.fault = fault
        self.number = number
        self.applies = applies


class Place(Generic[C]):
    """The base of `Network` and `Proxy`."""

    def __init__(self, *, seed: int, record: bool) -> None:
        self._seed = check_count(seed, "seed")
        self._events: list[WireEvent] | None = [] if record else None
        self._placed: dict[Fault, _Placed[C]] = {}
        self._added = 0
        self._live: dict[int, C] = {}
        self._begun = 0
        self._loop: asyncio.AbstractEventLoop | None = None

    @property
    def events(self) -> tuple[WireEvent, ...]:
        """What happened on the wires so far, in order; empty unless made with ``record=True``."""
        return tuple(self._events or ())

    @property
    def faults(self) -> tuple[Fault, ...]:
        """The faults that are on it, in the order in which they were added."""
        return tuple(self._placed)

    def remove(self, fault: Fault) -> None:
        """Take `fault` away, also from the connections that are live: what it holds goes on.

        What it has done stays done: a connection that was cut is not mended.

        Raises:
            ValueError: it is not here.
        """
        if self._placed.pop(fault, None) is None:
            raise ValueError(f"{fault!r} is not on this {self._called}")
        for connection in tuple(self._live.values()):
            connection.upstream.remove(fault)
            connection.downstream.remove(fault)

    @property
    def _called(self) -> str:
        return type(self).__name__.lower()

    def _put(self, fault: Fault, applies: Callable[[C], bool]) -> Placement:
        stage_class(fault)
        if fault in self._placed:
            raise ValueError(f"{fault!r} is on this {self._called} already")
        self._added += 1
        placed = self._placed[fault] = _Placed(fault, self._added, applies)
        for connection in tuple(self._live.values()):
            self._attach(connection, placed)
        return Placement(fault, lambda: self._remove_placed(placed))

    def _remove_placed(self, placed: _Placed[C]) -> None:
        """If it is still there; and not the same fault when it was put there again."""
        if self._placed.get(placed.fault) is placed:
            self.remove(placed.fault)

    def _here(self) -> asyncio.AbstractEventLoop:
        """The running loop, to which all this belongs as long as anything of it is open."""
        loop = asyncio.get_running_loop()
        if self._loop is not loop:
            if self._loop is not None and self._in_use() and not self._loop.is_closed():
                raise RuntimeError(f"the {self._called} belongs to another event loop")
            self._forget_all()
            self._loop = loop
        return loop

    def _in_use(self) -> bool:
        return bool(self._live)

    def _forget_all(self) -> None:
        """What another loop has left, which is closed."""
        self._live.clear()

    def _next_number(self) -> int:
        self._begun += 1
        return self._begun

    def _equip(self, connection: C, of_link: Iterable[Fault]) -> None:
        """Make the chains of a new connection: its link, and then the faults in order."""
        self._live[connection.number] = connection
        for number, fault in enumerate(of_link):
            self._attach(connection, _Placed(fault, -1 - number, lambda _: True))
        for placed in tuple(self._placed.values()):
            self._attach(connection, placed)

    def _attach(self, connection: C, placed: _Placed[C]) -> None:
        fault = placed.fault
        if connection.is_severed or not placed.applies(connection):
            return
        share = fault.toxicity
        if share < 1 and connection.random(placed.number).random() >= share:
            return
        stage = stage_class(fault)
        for wire in (connection.upstream, connection.downstream):
            if fault.direction in (None, wire.direction):
                wire.add(stage(wire, fault, placed.number))

    def _forget(self, connection: C) -> None:
        """Both ends of it are closed."""
        self._live.pop(connection.number, None)
        connection.close()
