"""Four addresses that refuse, are black holes, slow or fine: all 256 mixes, against a model."""

import asyncio
import itertools
from collections.abc import AsyncIterator, Generator, Iterator
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

import pytest
from streams import outcome_of
from virtual import virtual_loop

import netio
from netio.testing import Link, Network, faults
from netio.testing._network.connecting import open_ends

KINDS = ("refuses", "hole", "slow", "fine")
# As the system lists them; the families take turns, so that the third is tried before the second.
LISTED = ("10.0.0.1", "10.0.0.2", "fd00::1", "fd00::2")
TRIED = ("10.0.0.1", "fd00::1", "10.0.0.2", "fd00::2")

# Seconds, all sums of powers of two: what happens at one moment in the model does so in the race.
ANSWER = {"refuses": 0.0625, "fine": 0.0625, "slow": 0.625, "hole": 1.0}
ATTEMPT = ANSWER["hole"]  # its limit
DELAY = 0.25
PORT = 7

Mix = tuple[str, ...]
MIXES = {first: [(first, *rest) for rest in itertools.product(KINDS, repeat=3)] for first in KINDS}
of_each_kind = pytest.mark.parametrize("first", KINDS)


class Expected(NamedTuple):
    """What the model says: who wins, else what became of each that was tried, and when."""

    winner: int | None
    ends: tuple[str, ...]
    at: float
    moments: tuple[float, ...]  # at which something happens


def model(mix: Mix, limit: float) -> Expected:
    """A race as RFC 8305 has it, told by its moments alone."""
    begun: list[float] = [0.0]
    while len(begun) < len(mix):
        ends = [when + ANSWER[mix[place]] for place, when in enumerate(begun)]
        failed = [
            end for place, end in enumerate(ends)
            if mix[place] in ("refuses", "hole") and end > begun[-1]
        ]  # fmt: skip
        begun.append(min([begun[-1] + DELAY, *failed]))
    ends = [when + ANSWER[mix[place]] for place, when in enumerate(begun)]
    answers = [(end, i) for i, end in enumerate(ends) if mix[i] in ("slow", "fine")]
    over, winner = min(answers, default=(max(ends), None))
    if limit < over:
        over, winner = limit, None
    tried = [i for i, when in enumerate(begun) if when < over]
    told = tuple(
        "limit" if limit < ends[i] else "attempt" if mix[i] == "hole" else "refused" for i in tried
    )
    moments = {moment for moment in (*begun, *ends, over) if 0 < moment <= over}
    return Expected(winner, () if winner is not None else told, over, tuple(sorted(moments)))


@asynccontextmanager
async def network_of(mix: Mix) -> AsyncIterator[Network]:
    """Where the addresses are as the mix says, in the order in which they are tried."""
    links = {
        address: Link(latency=ANSWER[kind] / 2)
        for address, kind in zip(TRIED, mix, strict=True)
        if kind != "hole"
    }
    network = Network(names={"many": LISTED}, links=links)
    servers = []
    for address, kind in zip(TRIED, mix, strict=True):
        if kind == "hole":
            network.add(faults.BlackHole(), to=address)
        if kind != "refuses":
            server = netio.serve_tcp(until_the_end, address, PORT, network=network, grace=60)
            servers.append(await server)
    yield network
    await asyncio.sleep(5)  # for what is under way
    assert not network._live  # whose client was not closed
    for server in servers:
        report = await server.aclose()
        assert (report.cancelled, report.finished) == (0, 0)
    assert not open_ends()


async def until_the_end(stream: netio.Stream) -> None:
    await stream.read_all(limit=1)


def connect(network: Network, limit: float = 60.0) -> Any:
    timeouts = netio.Timeouts(attempt=ATTEMPT)
    return netio.connect_tcp("many", PORT, timeout=limit, timeouts=timeouts, network=network)


def told(error: Any) -> tuple[str, ...]:
    """What became of each attempt; the errors are in the order of the addresses."""
    for attempt, address in zip(error.attempts, TRIED, strict=False):
        assert address in str(attempt)
    return tuple(
        {"attempt": "attempt", "call": "limit"}[attempt.limit]
        if isinstance(attempt, netio.DeadlineExceeded)
        else "refused"
        for attempt in error.attempts
    )


@of_each_kind
@pytest.mark.parametrize("limit", [60.0, 1.1, 0.3])
@pytest.mark.virtual_clock
async def test_the_first_good_one_wins_or_every_failure_is_told(first: str, limit: float) -> None:
    for mix in MIXES[first]:
        expected = model(mix, limit)
        async with network_of(mix) as network:
            began = virtual_loop().time()
            outcome = await outcome_of(connect(network, limit))
            elapsed = virtual_loop().time() - began
            if expected.winner is not None:
                assert isinstance(outcome, netio.Stream), (mix, outcome)
                assert outcome.peer[0] == TRIED[expected.winner], mix  # type: ignore[index]
                await outcome.aclose()
            else:
                over = expected.at == limit
                cls = netio.DeadlineExceeded if over else netio.ConnectFailed
                assert type(outcome) is cls, (mix, outcome)
                assert told(outcome) == expected.ends, mix
                tried = len(expected.ends)
                of = f"{tried} of 4" if tried < 4 else "4"
                assert f"tried {of} addresses" in str(outcome)
            assert elapsed == pytest.approx(expected.at, abs=1e-9), mix


class Stepped:
    """A coroutine of which the task is cancelled when it waits for the so many-th time."""

    def __init__(self, coroutine: Any, cancel_at: int) -> None:
        self._inner = coroutine.__await__()
        self._left = cancel_at
        self.cancelled = False

    def __await__(self) -> Generator[Any, Any, Any]:
        step: Any = lambda: self._inner.send(None)  # noqa: E731
        while True:
            try:
                awaited = step()
            except StopIteration as stop:
                return stop.value
            if self._left == 0:
                task = asyncio.current_task()
                assert task is not None
                asyncio.get_running_loop().call_soon(task.cancel)
                self.cancelled = True
            self._left -= 1
            try:
                yield awaited
            except BaseException as error:
                step = lambda error=error: self._inner.throw(error)  # noqa: E731
            else:
                step = lambda: self._inner.send(None)  # noqa: E731


async def await_it(awaitable: Any) -> Any:
    return await awaitable


@of_each_kind
@pytest.mark.virtual_clock
async def test_a_cancel_in_any_wait_is_raised_and_nothing_is_left(first: str) -> None:
    for mix in MIXES[first]:
        async with network_of(mix) as network:
            for step in itertools.count():
                stepped = Stepped(connect(network), step)
                task = asyncio.create_task(await_it(stepped))
                outcome = await outcome_of(task)
                if not stepped.cancelled:
                    break  # it has waited less often
                assert isinstance(outcome, asyncio.CancelledError), (mix, step, outcome)
                assert task.cancelled()
                assert task.cancelling() == 1
            assert step > 1
            if isinstance(outcome, netio.Stream):
                await outcome.aclose()


@of_each_kind
@pytest.mark.virtual_clock
async def test_a_cancel_at_any_moment_is_raised_and_nothing_is_left(first: str) -> None:
    """In the very tick in which an attempt is answered, is late, or the next one is to begin."""
    for mix in MIXES[first]:
        async with network_of(mix) as network:
            for moment, ahead in cancels(model(mix, 60.0)):
                task = asyncio.create_task(connect(network))
                if not ahead:
                    await asyncio.sleep(0)
                loop = virtual_loop()
                came: list[bool] = []
                loop.call_at(loop.time() + moment, lambda: came.append(task.cancel()))  # noqa: B023
                outcome = await outcome_of(task)
                assert isinstance(outcome, asyncio.CancelledError) == (came == [True]), mix
                if isinstance(outcome, netio.Stream):
                    await outcome.aclose()
                await asyncio.sleep(2)


def cancels(expected: Expected) -> Iterator[tuple[float, bool]]:
    return itertools.product(expected.moments, (True, False))
