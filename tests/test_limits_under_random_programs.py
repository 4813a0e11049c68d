"""Random programs on streams under all limits at once, which are assigned and cancelled meanwhile.

Three connections, some tasks on both ends of each, pools that all share, a connect that nobody
answers. Whatever happens, no clock runs for an operation that has ended.
"""

import asyncio
import collections
import dataclasses
import math
import random
from collections.abc import Iterator
from typing import Any

import pytest
from streams import make_pair, outcome_of, ticks

import netio
from netio import Budget, Deadline, Rate, Timeouts
from netio._stopwatch import Stopwatch
from netio.testing import Network, faults

pytestmark = pytest.mark.own_loop

SPANS = (0.0, 0.01, 0.25, 0.5, 1.0, 3.0)


def random_timeouts(random_: random.Random) -> Timeouts:
    return Timeouts(
        read=random_.choice([None, 0.7, 60]),
        write=random_.choice([None, 0.7, 60]),
        idle=random_.choice([None, 0.6, 2.1]),
        total=random_.choice([None, None, 4, 20]),
        min_rate=random_.choice([None, Rate(3, per=1.03), Rate(50, per=0.31), Rate(1, per=4)]),
    )


class Program:
    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.limits: collections.Counter[str] = collections.Counter()
        self.budgets = [Budget(self.random.choice([1, 5, 50, math.inf])) for _ in range(2)]
        self.network = Network()
        self.network.add(faults.BlackHole())
        self.streams: list[netio.Stream] = []
        for _ in range(3):
            pair = make_pair("memory", timeouts=random_timeouts(self.random), capacity=60)
            self.streams += pair

    def timeout(self) -> Any:
        random_ = self.random
        return random_.choice(
            [
                *self.budgets,
                *self.budgets,
                random_.choice(SPANS),
                Deadline.after(random_.choice(SPANS)),
                netio._defaults.DEFAULT,
                None,
            ]
        )

    async def call(self, stream: netio.Stream) -> None:
        random_, timeout = self.random, self.timeout()
        size = random_.choice([1, 7, 40, 100, 20_000])
        kind = random_.randrange(13)
        if kind == 0:
            await stream.read_exactly(size, timeout=timeout)
        elif kind in (1, 2):
            await stream.read_some(size, timeout=timeout)
        elif kind == 3:
            await stream.read_line(timeout=timeout)
        elif kind == 4:
            await stream.read_into(bytearray(size), timeout=timeout)
        elif kind == 5:
            await stream.read_all(limit=size, timeout=timeout)
        elif kind == 6:
            async for _ in stream.chunks(timeout=timeout):
                if random_.random() < 0.3:
                    break
        elif kind < 11:
            await stream.write(random_.choice([b"x", b"x\n"]) * size, timeout=timeout)
        elif kind == 11:
            await stream.write_many([b"x" * size, b"\n"], timeout=timeout)
        elif random_.random() < 0.1:
            await stream.write_eof(timeout=timeout)
        else:
            where = {"timeout": self.budgets[0], "network": self.network}
            async with netio.timeout(random_.choice(SPANS)):
                await netio.connect_tcp("10.0.0.1", 80, **where)

    def assign(self, stream: netio.Stream) -> None:
        random_ = self.random
        for _ in range(random_.choice([1, 1, 2, 3])):
            kind = random_.randrange(5)
            if kind == 0:
                stream.timeouts = random_timeouts(random_)
            elif kind == 1:
                stream.timeouts = stream.timeouts
            elif kind == 2:
                stream.timeouts = dataclasses.replace(
                    stream.timeouts, idle=random_.choice([None, 0.5, 1])
                )
            else:
                name = random_.choice(["deadline", "read_deadline", "write_deadline"])
                when = random_.choice([None, Deadline.after(random_.choice([-1, 0, 0.5, 9]))])
                setattr(stream, name, when)

    async def act(self) -> None:
        random_ = self.random
        for _ in range(12):
            stream = random_.choice(self.streams)
            kind = random_.randrange(20)
            try:
                if kind < 3:
                    await asyncio.sleep(random_.choice(SPANS))
                elif kind == 3:
                    self.assign(stream)
                elif kind == 4:
                    async with netio.move_on_after(random_.choice(SPANS)):
                        await self.call(stream)
                elif kind == 5:
                    async with netio.shield(random_.choice(SPANS)):
                        await self.call(stream)
                elif kind == 6 and random_.random() < 0.05:
                    stream.abort()
                else:
                    await self.call(stream)
            except netio.DeadlineExceeded as error:
                self.limits[error.limit] += 1
            except netio.NetioError as error:
                self.limits[type(error).__name__] += 1
            self.look()

    def clocks(self) -> Iterator[Stopwatch]:
        for budget in self.budgets:
            yield budget._spent
        for stream in self.streams:
            for moving in (stream._receiver.moving, stream._sender.moving):
                yield from () if moving is None else moving.limits

    def look(self) -> None:
        assert all(clock.waiting >= 0 for clock in self.clocks())
        assert all(clock.passed >= 0 for clock in self.clocks())
        netio.snapshot()

    async def disturb(self, actors: "list[asyncio.Task[None]]") -> None:
        random_ = self.random
        for _ in range(40):
            if random_.random() < 0.5:
                await ticks(random_.randrange(4))
            else:
                await asyncio.sleep(random_.choice(SPANS))
            self.look()
            if random_.random() < 0.3:
                random_.choice(actors).cancel()
            if random_.random() < 0.3:
                self.assign(random_.choice(self.streams))

    async def run(self) -> None:
        actors = [asyncio.create_task(self.act()) for _ in range(8)]
        await self.disturb(actors)
        await asyncio.sleep(self.random.choice([0, 5]))
        for actor in actors:
            actor.cancel()
        for actor in actors:
            result = await outcome_of(actor)
            assert result is None or isinstance(result, asyncio.CancelledError), repr(result)
        for clock in self.clocks():
            assert clock.waiting == 0
        for stream in self.streams:
            assert not stream._receiver.busy
            assert stream._receiver.running == ()
            assert stream._sender._current is None
            assert not stream._channel.awaited


@pytest.mark.parametrize("block", range(8))
@pytest.mark.virtual_clock
async def test_no_clock_runs_on_whatever_happens(block: int) -> None:
    limits: collections.Counter[str] = collections.Counter()
    for seed in range(25 * block, 25 * block + 25):
        program = Program(seed)
        try:
            await program.run()
        except BaseException as error:
            error.add_note(f"seed {seed}")
            raise
        finally:
            for stream in program.streams:
                stream.abort()
        limits += program.limits
    assert {"idle", "total", "min_rate", "budget", "deadline"} <= set(limits)
