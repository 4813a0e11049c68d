"""Bare sockets: the outcome table, for every order of events within one tick of the loop.

d: enough data, the end or a reset; p: some data, not enough; t: the call's own limit; s: a scope of
the task; c: a cancel from outside. Whatever the order, the bytes returned, those on the error as
`partial` and those still in the kernel are together what was sent.
"""

import asyncio
import contextlib
import itertools
import socket
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from raw_sockets import READS, deliver, fill, reset
from streams import outcome_of, ticks
from virtual import virtual, virtual_loop

import netio
from netio import _sockets
from netio._readiness import DescriptorReadiness

ORDERS = [
    "".join(order)
    for size in range(1, 5)
    for chosen in itertools.combinations("dptsc", size)
    for order in itertools.permutations(chosen)
]
FIRST, SOME, RECORD_BYTES = b"first", b"some", 100
AFTER = b"after"  # belongs to whoever reads next


class Wait:
    """One read that waits, and what can happen to it, all done without suspending."""

    def __init__(self, kind: str, data: str) -> None:
        self.near, self.far = socket.socketpair()
        self.near.setblocking(False)
        self.kind = kind
        self.data = data
        self.sent = b""
        self.readiness: DescriptorReadiness | None = None
        self.scope = netio.timeout(10)

    async def run(self) -> bytes:
        async with self.scope:
            return await READS[self.kind](self.near, timeout=10)

    def send(self, data: bytes) -> None:
        deliver(self.far, self.near, data)
        self.sent += data

    def happens(self, event: str) -> None:
        readiness = self.readiness
        assert readiness is not None
        if event == "d":
            self._data()
        elif event == "p" and self.far.fileno() >= 0:
            with contextlib.suppress(BrokenPipeError):
                self.send(SOME)
        elif event == "t":
            for waiter in readiness.readers:
                waiter.deadline = readiness.loop.time() - 0.001
            readiness._ring()
        elif event == "s":
            self.scope.reschedule(readiness.loop.time() - 0.001)
        elif event == "c":
            self.task.cancel()
        if event in "dp" and readiness.watching:
            readiness._on_readable()  # as the loop would, now

    def _data(self) -> None:
        if self.data == "data":
            self.send((RECORD_BYTES - len(self.sent) - 1) * b"x" + b"\n" + AFTER)
        elif self.data == "end":
            self.far.shutdown(socket.SHUT_WR)
        else:
            reset(self.far, self.near)

    def rest(self) -> bytes:
        found = bytearray()
        with contextlib.suppress(OSError):
            while chunk := self.near.recv(1000):
                found += chunk
        return bytes(found)

    def close(self) -> None:
        self.near.close()
        self.far.close()


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Wait]]:
    """Each `Wait` in this list is given the readiness that its read makes."""
    waits: list[Wait] = []

    class Known(DescriptorReadiness):
        def __init__(self, *args: Any) -> None:
            super().__init__(*args)
            waits[-1].readiness = self

    monkeypatch.setattr(_sockets, "DescriptorReadiness", Known)
    yield waits
    for wait in waits:
        wait.close()


async def outcome_of_order(wait: Wait, order: str) -> Any:
    loop = asyncio.get_running_loop()
    wait.task = asyncio.create_task(outcome_of(wait.run()))
    await ticks(2)
    wait.send(FIRST)
    while wait.near.fileno() >= 0 and len(wait.readiness.readers[0].taken) < len(FIRST):  # type: ignore
        await ticks(1)
    await ticks(1)
    loop.call_soon(lambda: [wait.happens(event) for event in order])
    await ticks(1)
    if set(order) == {"p"}:
        await ticks(2)
        wait.happens("c")
    return await asyncio.wait_for(wait.task, 5)


def check(wait: Wait, order: str, outcome: Any) -> None:
    partial = outcome if isinstance(outcome, bytes) else outcome.partial
    assert partial + wait.rest() == wait.sent, "a byte was lost, or came twice"
    own = isinstance(outcome, netio.DeadlineExceeded) and outcome.limit == "deadline"
    scope = isinstance(outcome, netio.DeadlineExceeded) and outcome.scope is wait.scope
    came = {
        "data": isinstance(outcome, bytes) and outcome.endswith(b"\n"),
        "end": isinstance(outcome, netio.IncompleteRead),
        "reset": isinstance(outcome, netio.ConnectionLost),
    }[wait.data]
    if "c" in order or order == "p":
        assert type(outcome) is asyncio.CancelledError
    elif "s" in order:
        assert scope or ("d" in order and came)
    elif "d" in order:
        assert came
    else:
        assert own


@pytest.mark.parametrize("data", ["data", "end", "reset"])
@pytest.mark.parametrize("kind", READS)
async def test_the_outcome_table_holds_in_every_order(
    waits: list[Wait], kind: str, data: str
) -> None:
    assert len(ORDERS) == 205
    for order in ORDERS:
        wait = Wait(kind, data)
        waits.append(wait)
        outcome = await outcome_of_order(wait, order)
        try:
            check(wait, order, outcome)
        except AssertionError as error:
            error.add_note(f"order {order}: {outcome!r}")
            raise
        wait.close()


@pytest.mark.parametrize("kind", READS)
async def test_a_loop_that_was_blocked_past_every_limit_still_gives_the_data(
    waits: list[Wait], kind: str
) -> None:
    """Timer and descriptor are due in one tick, and this loop decides which comes first."""
    wait = Wait(kind, "data")
    waits.append(wait)
    task = asyncio.create_task(READS[kind](wait.near, timeout=0.01))
    await ticks(2)

    def block() -> None:
        wait._data()
        until = wait.readiness.loop.time() + 0.02  # type: ignore[union-attr]
        while wait.readiness.loop.time() < until:  # type: ignore[union-attr]
            pass

    asyncio.get_running_loop().call_soon(block)
    got = await task
    assert got + wait.rest() == wait.sent
    assert len(got) == RECORD_BYTES


@pytest.mark.parametrize("order", ["rc", "cr", "rtc", "tr", "ts", "st", "c", "t", "s"])
async def test_a_write_that_is_cut_in_any_order_says_what_the_kernel_took(
    waits: list[Wait], order: str
) -> None:
    """r: the peer makes room."""
    wait = Wait("read_bytes", "data")
    waits.append(wait)
    before = fill(wait.near)
    data = b"0123456789" * 100_000

    async def write() -> None:
        async with wait.scope:
            await netio.write_bytes(wait.near, data, timeout=10)

    task = asyncio.create_task(outcome_of(write()))
    await ticks(3)
    readiness = wait.readiness
    assert readiness is not None
    got = bytearray()

    def room() -> None:
        while len(got) < before:
            got.extend(wait.far.recv(1 << 20))
        if readiness._watches_writable:
            readiness._on_writable()

    def limit() -> None:
        for waiter in readiness.writers:
            waiter.deadline = readiness.loop.time() - 0.001
        readiness._ring()

    events: dict[str, Callable[[], object]] = {
        "r": room,
        "t": limit,
        "s": lambda: wait.scope.reschedule(readiness.loop.time()),
        "c": task.cancel,
    }
    asyncio.get_running_loop().call_soon(lambda: [events[event]() for event in order])
    outcome = await asyncio.wait_for(task, 5)
    wait.near.shutdown(socket.SHUT_WR)
    while chunk := wait.far.recv(1 << 20):
        got.extend(chunk)
    assert got[before:] == data[: outcome.done]
    if "c" in order:
        assert type(outcome) is asyncio.CancelledError
    else:
        assert (outcome.limit == "scope") == ("s" in order)


@virtual
@pytest.mark.parametrize("kind", READS)
async def test_a_read_in_pieces_does_not_rest_between_them(kind: str) -> None:
    near, far = socket.socketpair()
    near.setblocking(False)
    with near, far:
        task = asyncio.create_task(READS[kind](near))
        for _ in range(99):
            await ticks(5)
            far.send(b"x")
        await ticks(5)
        far.send(b"\n")
        assert await task == 99 * b"x" + b"\n"
        assert virtual_loop().time() == 0.0
