"""Where the reads of streams are played, over whatever channel they stand on."""

from collections.abc import Awaitable, Callable

import reads
from reads import Read
from schedules import Acts, Play
from streams import Hand, Pair, read_rest, ticks

import netio
from netio.testing import Stage

MARK = b"."  # comes after everything else


class ReadBench:
    """Plays reads of streams; a pair of which neither end is over serves the next case, too.

    `make` makes a pair, and `hand` is what acts on it; `limit` is what ends a read that is late.
    """

    events = reads.EVENTS

    def __init__(
        self,
        name: str,
        read: Read,
        make: Callable[[], Awaitable[Pair]],
        *,
        hand: type[Hand] = Hand,
        limit: str = "call",
    ) -> None:
        self.name = name
        self._read = read
        self._make = make
        self._hand = hand
        self._limit = limit
        self._pair: Pair | None = None

    async def play(self, stage: Stage) -> None:
        self._pair = self._pair or await self._make()
        near, far = self._pair
        hand, read = self._hand(near, far), self._read
        play = Play(stage, read.call(near, hand.under(self._limit)))
        await ticks(1)
        if not near._receiver.waiting:
            await ticks(1)  # now and then it gives others a turn first (law 35)
        assert near._receiver.waiting
        if read.before:
            hand.data(read.before)
        answer = await play.outcome(self._acts(hand))
        returned = reads.check(read, play, answer, self._limit)
        rest = await self._rest(hand, stage.schedule, len(returned))
        assert returned + rest == hand.sent, answer
        if isinstance(answer, netio.IncompleteRead):
            assert answer.partial == rest
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
        """What is still readable, all of it."""
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
