"""What a waiting write of a stream answers, whatever happens to it in whatever order (law 13).

The events are those of `writes`, explored by `netio.testing`. After each case the peer has the
beginning of the message, as much as `done` says, and behind it only what a write that queues may
send; and a stream that can go on does.
"""

import asyncio
from typing import Any

import pytest
import streams
from footprint import footprint
from schedules import Acts, Play, check_played, play_all, play_alone, thinned
from streams import Hand, Pair, make_pair, outcome_of, waiting_to_write
from writes import EVENTS, PAYLOAD, SOME, STARTS, check, schedules

import netio
from netio._readiness import Readiness
from netio._receiving import Receiver
from netio._sending import Sender
from netio.testing import CounterExample, Stage

kind = streams.kind

BEHIND = b"behind"
LETTERS = "pwrxtscq"
CASES, CASES_IN_ONE_TICK = 2404, 302  # of each kind and start, and on TCP
LIMITS = ("idle", "min_rate", "budget")  # in the place of the limit of the call


class WriteBench:
    """Plays writes of streams; a pair that is whole after a case serves the next one, too."""

    events = EVENTS

    def __init__(self, kind: str, start: str, limit: str = "call") -> None:
        self.name = f"{kind} {start}"
        self._kind = kind
        self._limit = limit
        self._start = start
        self._pair: Pair | None = None

    async def play(self, stage: Stage) -> None:
        schedule = stage.schedule
        near, far = self._pair = self._pair or make_pair(self._kind, small=True)
        hand = Hand(near, far)
        filling = b"~" * streams.fill(near) if self._start == "untouched" else b""
        before = near.statistics().bytes_sent
        play = Play(stage, near.write(PAYLOAD, timeout=hand.under(self._limit)))
        while not hand.writer_waits():
            await streams.ticks(1)
        behind = asyncio.create_task(outcome_of(near.write(BEHIND, timeout=10)))
        await streams.ticks(1)
        answer = await play.outcome(self._acts(hand, behind))
        done = check(play, answer, limit=self._limit)
        done_behind = await self._check_behind(hand, schedule, done, behind)
        there = filling + PAYLOAD[:done] + BEHIND[:done_behind]
        if "r" in schedule or ("x" in schedule and self._kind == "tcp"):
            assert there.startswith(hand.received)  # what was under way is gone
        else:
            hand.take_until(len(there))
            assert hand.received == there
        assert near.statistics().bytes_sent - before == done + done_behind
        if set("rx") & set(schedule) or 0 < done < len(PAYLOAD):
            self.close()

    def _acts(self, hand: Hand, behind: "asyncio.Task[Any]") -> Acts:
        near = hand.near
        [outgoing] = waiting_to_write(near._channel)
        return {
            "p": lambda: hand.take(SOME),
            "w": hand.take_all,
            "r": hand.reset,
            "x": near.abort,
            "t": lambda: hand.limit(outgoing),
            "q": behind.cancel,
        }

    async def _check_behind(
        self, hand: Hand, schedule: str, done: int, behind: "asyncio.Task[Any]"
    ) -> int:
        """How many bytes of the write behind have gone out."""
        while not behind.done():
            hand.make_room()
            await streams.ticks(1)
        answer = behind.result()
        torn = 0 < done < len(PAYLOAD)
        if isinstance(answer, asyncio.CancelledError):
            assert "q" in schedule
            assert not torn or not answer.done
        elif "x" in schedule or "r" in schedule:
            lost = isinstance(answer, netio.ConnectionLost) and "r" in schedule
            closed = isinstance(answer, netio.StreamClosed) and "x" in schedule
            assert answer is None or lost or closed or (torn and "out of step" in str(answer))
        elif torn:
            assert isinstance(answer, netio.ConnectionLost)
            assert "out of step" in str(answer)
        elif isinstance(answer, netio.DeadlineExceeded):
            assert "t" in schedule
            assert (answer.limit, answer.done) == (self._limit, 0)
            assert self._limit in ("idle", "min_rate")  # which are those of the connection
        else:
            assert answer is None
        return len(BEHIND) if answer is None else answer.done

    def close(self) -> None:
        for stream in self._pair or ():
            stream.abort()
        self._pair = None


def replay(name: str, schedule: str) -> None:
    """Play one case alone: ``replay("unix begun", "p|c")``."""
    kind, start = name.split()
    play_alone(WriteBench(kind, start), schedule)


@pytest.mark.parametrize("start", STARTS)
async def test_a_waiting_write_answers_by_the_table_and_its_count_is_exact(
    kind: str, start: str, loop_variant: str
) -> None:
    """TCP, whose sockets take longer, is left with the schedules of one tick."""
    all_cases = schedules(LETTERS)
    if kind == "tcp":
        cases = thinned(filter(str.isalpha, all_cases), CASES_IN_ONE_TICK, loop_variant)
    else:
        cases = thinned(all_cases, CASES, loop_variant)
    before = footprint()
    check_played(await play_all(WriteBench(kind, start), cases), cases)
    await streams.ticks(1)
    assert footprint() == before


@pytest.mark.parametrize("limit", LIMITS)
@pytest.mark.parametrize("start", STARTS)
async def test_the_table_of_writes_holds_for_the_limits_of_a_connection_and_a_budget(
    start: str, limit: str, loop_variant: str
) -> None:
    cases = thinned(schedules(LETTERS), CASES, loop_variant)[::2]
    check_played(await play_all(WriteBench("memory", start, limit), cases), cases)


FAULTS: dict[str, tuple[Any, str, Any]] = {
    "a stream that is torn goes on": (Sender, "_torn", property(lambda _: None, lambda *_: None)),
    "a limit is no end of a wait": (Readiness, "_ring", lambda _: None),
    "what failed is forgotten": (Receiver, "fail", lambda _, error: None),
}


@pytest.mark.parametrize("fault", FAULTS)
async def test_a_planted_fault_of_writing_is_found(
    monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    monkeypatch.setattr(*FAULTS[fault])
    with pytest.raises(CounterExample):
        await play_all(WriteBench("memory", "begun"), schedules(LETTERS))
