"""What a read and a write that wait over TLS answer, whatever happens in whatever order (law 10).

The cases are those of plain streams, in memory. What is noticed, and when, is below, as a poller
would tell it. The peer of a read encrypts what it sends, and says goodbye where it ends; that of a
write takes ciphertext, by any number of bytes, and what it can decrypt in the end is what `done`
says.
"""

import asyncio
import ssl
from collections.abc import Iterable
from typing import Any

import pytest
import reads
import secured
import writes
from read_benches import ReadBench
from reads import STREAM_READS, Read
from schedules import Acts, Play, check_played, play_all, thinned
from streams import EVERYTHING, Hand, Pair, outcome_of, ticks, waiting_to_write

import netio
from netio._tls import TLSChannel
from netio.testing import Stage

CASES = 320  # of each read
WRITE_CASES = 600
BEHIND = b"behind"


def some_of(schedules: Iterable[str], count: int, loop_variant: str) -> list[str]:
    """`count` of those that are to be played on this loop, or a few more; or all, if they are less.

    Handshakes take a while, and plain streams play them all.
    """
    every = list(dict.fromkeys(schedules))
    cases = thinned(every, len(every), loop_variant)
    return cases[:: max(1, len(cases) // count)]


class SecureHand(Hand):
    """The peer acts over TLS, and this side notices it below."""

    def __init__(self, near: netio.Stream, far: netio.Stream) -> None:
        super().__init__(near, far)
        assert isinstance(near._channel, TLSChannel)
        self._near = near._channel.innermost

    def _ring(self) -> None:
        if self._near._timer is not None:
            self._near._timer.cancel()  # it rings now
        self._near._ring()


@pytest.mark.timeout(60)
@pytest.mark.parametrize("read", STREAM_READS, ids=lambda read: read.name.replace(" ", "_"))
async def test_a_waiting_read_over_tls_answers_by_the_table_and_loses_no_byte(
    read: Read, loop_variant: str
) -> None:
    cases = some_of(reads.schedules(), CASES, loop_variant)

    async def make() -> Pair:
        return await secured.make_pair("memory", "1.3")

    bench = ReadBench(f"TLS {read.name}", read, make, hand=SecureHand)
    check_played(await play_all(bench, cases), cases)
    await asyncio.sleep(0)


class TakingHand(SecureHand):
    """The peer takes what comes out of TLS on this side, and decrypts it when that is over."""

    def __init__(self, near: netio.Stream, far: netio.Stream) -> None:
        super().__init__(near, far)
        assert isinstance(far._channel, TLSChannel)
        self._far = far._channel.innermost
        self._engine = far._channel.engine

    def decrypted(self) -> bytes:
        """All plaintext that this side has sent."""
        self._engine.incoming.write(self.received)
        self._received.clear()
        pieces = []
        try:
            while piece := self._engine.object.read(EVERYTHING):
                pieces.append(piece)
        except ssl.SSLWantReadError:
            pass
        return b"".join(pieces)


class SecureWriteBench:
    """Plays writes over TLS; a pair of which the write was not cut serves the next case, too."""

    events = writes.EVENTS
    name = "TLS write"

    def __init__(self) -> None:
        self._pair: Pair | None = None

    async def play(self, stage: Stage) -> None:
        self._pair = self._pair or await secured.make_pair("memory", "1.3", small=True)
        near, far = self._pair
        hand = TakingHand(near, far)
        before = near.statistics().bytes_sent
        play = Play(stage, near.write(writes.PAYLOAD, timeout=hand.under("call")))
        while not hand.writer_waits():
            await ticks(1)
        behind = asyncio.create_task(outcome_of(near.write(BEHIND, timeout=10)))
        await ticks(1)
        answer = await play.outcome(self._acts(hand, behind))
        done = writes.check(play, answer)
        done_behind = await self._check_behind(hand, stage.schedule, done, behind)
        there = writes.PAYLOAD[:done] + BEHIND[:done_behind]
        if "r" in stage.schedule or "x" in stage.schedule:
            assert there.startswith(hand.decrypted())  # what was under way is gone
        else:
            assert hand.decrypted() == there
        assert near.statistics().bytes_sent - before == done + done_behind
        if set("rx") & set(stage.schedule) or done < len(writes.PAYLOAD):
            self.close()

    def _acts(self, hand: Hand, behind: "asyncio.Task[Any]") -> Acts:
        near = hand.near
        [outgoing] = waiting_to_write(near._channel)
        return {
            "p": lambda: hand.take(writes.SOME),
            "w": hand.take_all,
            "r": hand.reset,
            "x": near.abort,
            "t": lambda: hand.limit(outgoing),
            "q": behind.cancel,
        }

    async def _check_behind(
        self, hand: Hand, schedule: str, done: int, behind: "asyncio.Task[Any]"
    ) -> int:
        """How many bytes of the write behind have gone: none, where the one before was cut."""
        while not behind.done():
            hand.make_room()
            await ticks(1)
        outcome = behind.result()
        if outcome is None:
            assert done == len(writes.PAYLOAD)
            return len(BEHIND)
        if isinstance(outcome, asyncio.CancelledError):
            assert "q" in schedule
        elif "x" in schedule or "r" in schedule:
            assert isinstance(outcome, netio.ConnectionLost | netio.StreamClosed)
        else:
            assert done < len(writes.PAYLOAD)
            assert isinstance(outcome, netio.ConnectionLost)
            assert "out of step" in str(outcome)
        assert not getattr(outcome, "done", 0)
        return 0

    def close(self) -> None:
        for stream in self._pair or ():
            stream.abort()
        self._pair = None


@pytest.mark.timeout(60)
async def test_a_waiting_write_over_tls_answers_by_the_table_and_its_count_is_exact(
    loop_variant: str,
) -> None:
    """Whole records are counted, and a write that is cut is the last one, however little went."""
    cases = some_of(writes.schedules("pwrxtscq"), WRITE_CASES, loop_variant)
    check_played(await play_all(SecureWriteBench(), cases), cases)
    await asyncio.sleep(0)
