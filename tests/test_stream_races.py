"""What a waiting read of a stream answers, whatever happens to it in whatever order (law 10).

Every set of events, in every order, spread over the ticks of the loop in every way: the events are
those of `reads`, explored by `netio.testing`. After each case the bytes returned and those still
readable are together what was sent, and a stream that can go on does.
"""

import asyncio
import re
from collections.abc import Callable
from typing import Any

import pytest
import streams
from footprint import footprint
from read_benches import ReadBench
from reads import STREAM_READS, Read, schedules
from schedules import check_played, play_all, play_alone, plays_all, thinned
from streams import KINDS, Pair, make_pair

import netio
from netio._readiness import Readiness
from netio._receiving import Receiver
from netio.testing import CounterExample

kind = streams.kind

CASES, CASES_IN_ONE_TICK = 3213, 432  # of each read, and on TCP
LIMITS = ("idle", "min_rate", "budget")  # in the place of the limit of the call
LIMITS_STEP = 3  # for these, one case of so many


def bench_of(kind: str, read: Read, limit: str = "call") -> ReadBench:
    async def make() -> Pair:
        return make_pair(kind)

    return ReadBench(f"{kind} {read.name}", read, make, limit=limit)


def replay(name: str, schedule: str) -> None:
    """Play one case alone: ``replay("unix read_exactly", "d|c")``."""
    kind, _, what = name.partition(" ")
    [read] = [read for read in STREAM_READS if read.name == what]
    play_alone(bench_of(kind, read), schedule)


def cases(kind: str, loop_variant: str) -> list[str]:
    """All schedules; TCP, whose sockets take longer, is left with those of one tick."""
    if kind != "tcp":
        return thinned(schedules(), CASES, loop_variant)
    return thinned(filter(str.isalpha, schedules()), CASES_IN_ONE_TICK, loop_variant)


@pytest.fixture(scope="module")
def played() -> dict[str, int]:
    """How many cases were played, by the name of their bench."""
    return {}


@pytest.mark.parametrize("read", STREAM_READS, ids=lambda read: read.name.replace(" ", "_"))
async def test_a_waiting_read_answers_by_the_table_and_loses_no_byte(
    kind: str, read: Read, played: dict[str, int], loop_variant: str
) -> None:
    before = footprint()
    bench, schedules = bench_of(kind, read), cases(kind, loop_variant)
    exploration = await play_all(bench, schedules)
    check_played(exploration, schedules)
    played[bench.name] = exploration.schedules
    await streams.ticks(1)  # in which a stream in memory tells its other end
    assert footprint() == before


@pytest.mark.parametrize("limit", LIMITS)
@pytest.mark.parametrize("read", STREAM_READS, ids=lambda read: read.name.replace(" ", "_"))
async def test_the_table_holds_for_the_limits_of_a_connection_and_a_budget(
    read: Read, limit: str, loop_variant: str
) -> None:
    cases = thinned(schedules(), CASES, loop_variant)[::LIMITS_STEP]
    check_played(await play_all(bench_of("memory", read, limit), cases), cases)


def test_more_than_ten_thousand_cases_were_played(
    played: dict[str, int], loop_variant: str, record_property: Callable[[str, object], None]
) -> None:
    if len(played) < len(KINDS) * len(STREAM_READS):
        pytest.skip("not all of this file was run, or not with success")
    if not plays_all(loop_variant):
        pytest.skip("a share only was played")
    total = sum(played.values())
    assert total == len(STREAM_READS) * (2 * CASES + CASES_IN_ONE_TICK)
    assert total > 10_000
    record_property("distinct cases of reads of streams", total)


def forget_on_cancel(receiver: Receiver, error: BaseException) -> None:
    cut(receiver, error)
    if isinstance(error, asyncio.CancelledError):
        receiver.buffer.clear()


cut = Receiver.cut

FAULTS: dict[str, tuple[Any, str, Any, str]] = {
    "a cancel loses what is buffered": (Receiver, "cut", forget_on_cancel, "read_exactly"),
    "a cut loses what came past the buffer": (
        Receiver,
        "_give_back",
        lambda *_: None,
        "read_into large",
    ),
    "no look after the limit": (Receiver, "_last_look", lambda _: None, "read_until"),
    "the limit wakes nobody": (Readiness, "_ring", lambda _: None, "read_line"),
}


@pytest.mark.parametrize("fault", FAULTS)
async def test_a_planted_fault_is_found_and_its_schedule_can_be_played_alone(
    monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    owner, name, planted, what = FAULTS[fault]
    [read] = [read for read in STREAM_READS if read.name == what]
    monkeypatch.setattr(owner, name, planted)
    bench = bench_of("memory", read)
    with pytest.raises(CounterExample) as caught:
        await play_all(bench, schedules())
    error = caught.value.__cause__
    assert isinstance(error, (AssertionError, netio.NetioError, TimeoutError))
    [note] = caught.value.__notes__
    found = re.fullmatch(r"to play it alone: replay\('(.+)', '(.*)'\)", note)
    assert found is not None
    with pytest.raises(type(error)):
        await asyncio.to_thread(replay, *found.groups())
