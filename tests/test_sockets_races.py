"""What a read of a bare socket answers, whatever happens to it in whatever order (law 10).

As in `test_stream_races`; but bytes that a failed read has taken are on its error, as `partial`.
"""

import asyncio
import contextlib
import socket
from collections.abc import Callable
from typing import Any

import pytest
import streams
import writes
from footprint import footprint
from raw_sockets import READS, Known, deliver, fill, known_readiness, reset, unread, what_is_in
from reads import EVENTS, SOCKET_READS, Read, check, schedules
from schedules import Acts, Play, check_played, play_all, play_alone, thinned
from virtual import virtual_loop

import netio
from netio import _sockets
from netio.testing import Stage

CASES, WRITE_CASES = 3213, 906  # of each read, and of each start of a write


class SocketBench:
    """Plays reads of bare sockets; a pair of which neither end is over serves the next case."""

    events = EVENTS

    def __init__(self, read: Read) -> None:
        self.name = read.name
        self._read = read
        self._pair: tuple[socket.socket, socket.socket] | None = None

    async def play(self, stage: Stage) -> None:
        self._pair = near, far = self._pair or socket.socketpair()
        near.setblocking(False)
        self._sent = b""
        play = Play(stage, self._read.call(near, 10))
        readiness = await until_it_waits()
        self._send(self._read.before)
        while unread(near) or not readiness.waits:
            await streams.ticks(1)
        await streams.ticks(2)  # the loop may have noticed it a second time
        answer = await play.outcome(self._acts(readiness, near, far))
        check(self._read, play, answer)
        taken = answer if isinstance(answer, bytes) else answer.partial
        assert taken == getattr(play.inner, "partial", taken)  # a scope tells the same
        assert taken + what_is_in(near) == self._sent, answer
        check_nothing_is_left(near, readiness)
        if set(stage.schedule) & set("er"):
            self.close()

    def _acts(self, readiness: Known, near: socket.socket, far: socket.socket) -> Acts:
        cuts = self._read.cuts

        def noticed(act: Callable[..., object], *arguments: Any) -> Callable[[], None]:
            """The loop notices it at once."""

            def happen() -> None:
                act(*arguments)
                if readiness._watches_readable:
                    readiness._on_readable()

            return happen

        return {
            "a": noticed(self._send, cuts["a"]),
            "b": noticed(self._send, cuts["b"]),
            "d": noticed(self._send, cuts["d"]),
            "n": lambda: self._send(cuts["n"]),
            "e": noticed(far.shutdown, socket.SHUT_WR),
            "r": noticed(reset, far, near),
            "t": readiness.reach_limit,
        }

    def _send(self, data: bytes) -> None:
        assert self._pair is not None
        near, far = self._pair
        deliver(far, near, data)
        self._sent += data

    def close(self) -> None:
        for sock in self._pair or ():
            sock.close()
        self._pair = None


class SocketWriteBench:
    """Plays writes to bare sockets; `w` has the peer take all that comes from then on."""

    events = writes.EVENTS

    def __init__(self, start: str) -> None:
        self.name = start
        self._start = start

    async def play(self, stage: Stage) -> None:
        near, self._far = small_pair()
        with near, self._far:
            self._came = b""
            filling = b"~" * fill(near) if self._start == "untouched" else b""
            play = Play(stage, netio.write_bytes(near, writes.PAYLOAD, timeout=10))
            readiness = await until_it_waits()
            answer = await play.outcome(self._acts(play, near, readiness))
            done = writes.check(play, answer, in_callback=False)
            while self._take(1 << 20):
                pass
            there = filling + writes.PAYLOAD[:done]
            assert self._came == there or ("r" in stage.schedule and there.startswith(self._came))
            check_nothing_is_left(near, readiness)

    def _acts(self, play: Play, near: socket.socket, readiness: Known) -> Acts:
        def noticed(act: Callable[..., object], *arguments: Any) -> Callable[[], None]:
            def happen() -> None:
                act(*arguments)
                if readiness._watches_writable:
                    readiness._on_writable()

            return happen

        def take_all() -> None:
            self._take(1 << 20)
            if not play.task.done():
                readiness.loop.call_soon(take_all)

        return {
            "p": noticed(self._take, writes.SOME),
            "w": noticed(take_all),
            "r": noticed(reset, self._far, near),
            "t": readiness.reach_limit,
        }

    def _take(self, size: int) -> int:
        chunk = b""
        with contextlib.suppress(OSError):
            chunk = self._far.recv(size)
        self._came += chunk
        return len(chunk)

    def close(self) -> None:
        pass


def small_pair() -> tuple[socket.socket, socket.socket]:
    """What is under way between them holds only some KiB."""
    near, far = socket.socketpair()
    for sock in (near, far):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 8192)
        sock.setblocking(False)
    return near, far


async def until_it_waits() -> Known:
    for _ in range(2):  # now and then it gives others a turn first (law 35)
        await streams.ticks(1)
        if Known.last is not None and Known.last.waits:
            return Known.last
    raise AssertionError("it does not wait")


def check_nothing_is_left(sock: socket.socket, readiness: Known) -> None:
    assert not readiness.waits
    assert readiness._timer is None
    assert not asyncio.get_running_loop().remove_reader(sock.fileno())
    assert not asyncio.get_running_loop().remove_writer(sock.fileno())
    assert not _sockets._in_use[readiness.loop]


def replay(name: str, schedule: str) -> None:
    """Play one case alone: ``replay("readuntil", "a|c")``, or ``replay("begun", "p|c")``."""
    benches = {read.name: SocketBench(read) for read in SOCKET_READS}
    with known_readiness(_sockets):
        play_alone(benches.get(name) or SocketWriteBench(name), schedule)


@pytest.mark.parametrize("read", SOCKET_READS, ids=lambda read: read.name)
async def test_the_outcome_table_holds_in_every_order(read: Read, loop_variant: str) -> None:
    cases = thinned(schedules(), CASES, loop_variant)
    before = footprint()
    with known_readiness(_sockets):
        check_played(await play_all(SocketBench(read), cases), cases)
    assert footprint() == before


@pytest.mark.parametrize("start", writes.STARTS)
async def test_a_write_that_is_cut_in_any_order_says_what_the_kernel_took(
    start: str, loop_variant: str
) -> None:
    cases = thinned(writes.schedules("pwrtsc"), WRITE_CASES, loop_variant)
    before = footprint()
    with known_readiness(_sockets):
        check_played(await play_all(SocketWriteBench(start), cases), cases)
    assert footprint() == before


@pytest.mark.virtual_clock
@pytest.mark.parametrize("kind", READS)
async def test_a_read_in_pieces_does_not_rest_between_them(kind: str) -> None:
    near, far = socket.socketpair()
    near.setblocking(False)
    with near, far:
        task = asyncio.create_task(READS[kind](near))
        for _ in range(99):
            await streams.ticks(5)
            far.send(b"x")
        await streams.ticks(5)
        far.send(b"\n")
        assert await task == 99 * b"x" + b"\n"
        assert virtual_loop().time() == 0.0
