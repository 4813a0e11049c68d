"""Thousands of connections, opened and killed at random moments, leave nothing behind."""

import asyncio
import logging
import random

import pytest
from footprint import footprint, settled

import netio

CONNECTIONS, WAVE = 2000, 200


async def greedy(stream: netio.Stream) -> None:
    """Answers each line with more than fits on the way, now and then."""
    async for line in stream.lines(timeout=5):
        await stream.write(line * 2, timeout=5)
        if len(line) % 7 == 0:
            await stream.write(b"~" * 300_000, timeout=5)


class Client:
    """One connection, which does random things until it is killed in a random way."""

    def __init__(self, address: tuple[str, int], rng: random.Random, died: dict[str, int]) -> None:
        self.address = address
        self.rng = rng
        self.died = died

    async def run(self) -> None:
        async with netio.connect_tcp(*self.address, timeout=10) as stream:
            try:
                for _ in range(self.rng.randrange(4)):
                    await stream.write(b"x" * self.rng.randrange(100) + b"\n")
                    if self.rng.random() < 0.5:
                        await stream.read_line(timeout=self.rng.choice([0, 0.001, 5]))
            except (netio.DeadlineExceeded, netio.ConnectionLost):
                pass
            await self._die(stream)

    async def _die(self, stream: netio.Stream) -> None:
        how = self.rng.choice(["reset", "close", "cancel", "half-written", "half-closed"])
        self.died[how] += 1
        if how == "reset":
            stream.abort()
        elif how == "cancel":
            asyncio.get_running_loop().call_soon(asyncio.current_task().cancel)  # type: ignore
            await stream.read_exactly(1 << 20, timeout=5)
        elif how == "half-written":
            await stream.write(b"x" * 2_000_000, timeout=0.001)
        elif how == "half-closed":
            await stream.write_eof()
            await stream.read_all(limit=1000, timeout=0.01)


@pytest.mark.real_time("they are killed at any moment of real work")
async def test_two_thousand_connections_killed_at_random_leave_nothing_behind(
    caplog: pytest.LogCaptureFixture,
) -> None:
    seed = random.randrange(2**32)
    print(f"seed {seed}")  # noqa: T201
    rng = random.Random(seed)
    caplog.set_level(logging.ERROR)
    died = dict.fromkeys(["reset", "close", "cancel", "half-written", "half-closed"], 0)
    before = footprint()
    async with netio.serve_tcp(greedy, "127.0.0.1", grace=5) as server:
        await asyncio.sleep(0)
        serving = footprint()
        for _ in range(CONNECTIONS // WAVE):
            tasks = [
                asyncio.create_task(Client(server.addresses[0][:2], rng, died).run())  # type: ignore
                for _ in range(WAVE)
            ]
            for task in tasks:
                if rng.random() < 0.1:
                    asyncio.get_running_loop().call_later(rng.random() * 0.05, task.cancel)
            outcomes = await asyncio.gather(*tasks, return_exceptions=True)
            expected = (netio.NetioError, asyncio.CancelledError, type(None))
            assert all(isinstance(outcome, expected) for outcome in outcomes), outcomes
            assert await settled(serving, seconds=5) == serving
    assert await settled(before) == before
    assert all(count > CONNECTIONS // 20 for count in died.values()), died
    assert caplog.records == []
