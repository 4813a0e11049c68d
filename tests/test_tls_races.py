"""What a waiting read over TLS answers, whatever happens to it in whatever order (law 10).

The cases are those of reads of plain streams, in memory. The peer encrypts what it sends, and says
goodbye where it ends; what is noticed, and when, is below, as a poller would tell it.
"""

import asyncio
from typing import Any

import pytest
import secured
from reads import EVENTS, STREAM_READS, Read, check, schedules
from schedules import Acts, Play, check_played, play_all, thinned
from streams import Hand, Pair, read_rest, ticks

import netio
from netio._tls import TLSChannel
from netio.testing import Stage

CASES = 320  # of each read, or a few more
MARK = b"."


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


class SecureBench:
    """Plays reads over TLS; a pair of which neither end is over serves the next case, too."""

    events = EVENTS

    def __init__(self, read: Read) -> None:
        self.name = f"TLS {read.name}"
        self._read = read
        self._pair: Pair | None = None

    async def play(self, stage: Stage) -> None:
        self._pair = self._pair or await secured.make_pair("memory", "1.3")
        near, far = self._pair
        hand, read = SecureHand(near, far), self._read
        play = Play(stage, read.call(near, hand.under("call")))
        await ticks(2)
        assert near._receiver.waiting
        if read.before:
            hand.data(read.before)
        answer = await play.outcome(self._acts(hand))
        returned = check(read, play, answer, "call")
        rest = await self._rest(hand, stage.schedule, len(returned))
        assert returned + rest == hand.sent, answer
        assert not near._receiver.waiting
        assert not near._receiver.busy

    def _acts(self, hand: Hand) -> Acts:
        cuts = self._read.cuts
        return {
            "a": lambda: hand.data(cuts["a"]),
            "b": lambda: hand.data(cuts["b"]),
            "d": lambda: hand.data(cuts["d"]),
            "n": lambda: hand.data_unnoticed(cuts["n"]),
            "e": hand.end,
            "r": hand.reset,
            "t": lambda: hand.limit(hand.near._receiver),
        }

    async def _rest(self, hand: Hand, schedule: str, returned: int) -> bytes:
        near = hand.near
        near.timeouts = netio.Timeouts()
        if set(schedule) & set("er"):
            rest = await read_rest(near)
            self.close()
            return rest
        hand.data(MARK)
        rest = await near.read_exactly(len(hand.sent) - returned, timeout=0)
        assert near.buffered == hand.unread() == 0
        return rest

    def close(self) -> None:
        for stream in self._pair or ():
            stream.abort()
        self._pair = None


@pytest.mark.timeout(60)
@pytest.mark.parametrize("read", STREAM_READS, ids=lambda read: read.name.replace(" ", "_"))
async def test_a_waiting_read_over_tls_answers_by_the_table_and_loses_no_byte(
    read: Read, loop_variant: str
) -> None:
    every = list(dict.fromkeys(schedules()))
    some = every[:: len(every) // CASES]
    cases = thinned(some, len(some), loop_variant)
    bench: Any = SecureBench(read)
    check_played(await play_all(bench, cases), cases)
    await asyncio.sleep(0)
