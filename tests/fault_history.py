"""A random run with every kind of fault, and what happened in it, as a digest.

    python tests/fault_history.py SEED RUNS

prints the digest of each run once, so that another process, with another seed of its hashes or of
another Python, can be compared.
"""

import asyncio
import hashlib
import random
import sys

import netio
from netio.testing import Link, Network, Timeline, assert_fired, faults, record, run

HOSTS = {
    "plain": "10.0.0.1",
    "cut": "10.0.0.2",
    "dark": "10.0.0.3",
    "gone": "10.0.0.4",
    "client": "10.0.0.9",
}
SERVERS = ("plain", "cut", "dark", "gone")
SECONDS = 1
LIMITS = netio.Timeouts(connect=1, attempt=1, read=1, write=1)

History = list[tuple[object, ...]]


class Run:
    """Four clients and their servers, for some time, with eleven kinds of fault."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.history: History = []
        link = Link(latency=0.01, buffer_bytes=2048)
        self.network = Network(names=HOSTS, link=link, seed=seed, record=True)
        self.faults: list[faults.Fault] = []
        self.timeline: Timeline | None = None
        for fault, to in (
            (faults.Latency(0.1, jitter=0.1), None),
            (faults.Bandwidth(4000, direction="downstream", toxicity=0.8), "plain"),
            (faults.Slicer(60, size_variation=50, delay=0.002, direction="upstream"), "plain"),
            (faults.SlowClose(0.2), "plain"),
            (faults.LimitData(400, direction="downstream", toxicity=0.7), "cut"),
            (faults.ResetPeer(after_bytes=150, direction="upstream", toxicity=0.7), "cut"),
            (faults.Timeout(0.7, after_bytes=100), "dark"),
            (faults.HalfOpen(after_bytes=100, back_after=0.3), "gone"),
        ):
            self.faults.append(fault)
            self.network.add(fault, to=to)

    def tell(self, *what: object) -> None:
        self.history.append((asyncio.get_running_loop().time(), *what))

    async def serve(self, stream: netio.Stream) -> None:
        async for line in stream.lines(timeout=5):
            self.tell("asked", stream.peer, line)
            await stream.write(b"x" * int(line))

    async def ask(self, number: int, chance: random.Random) -> None:
        """One client: connect, ask some, read the answers, again and again, at each server."""
        where = self.network.host("client")
        while asyncio.get_running_loop().time() < SECONDS:
            number += 1
            host = SERVERS[number % len(SERVERS)]
            try:
                async with netio.connect_tcp(host, 7000, timeouts=LIMITS, network=where) as stream:
                    for _ in range(2):
                        size = int(chance.random() * 600)
                        await stream.write(b"%0*d\n" % (1 + int(chance.random() * 200), size))
                        got = await stream.read_exactly(size)
                        self.tell(number, host, "got", len(got))
            except (netio.NetioError, OSError) as error:
                self.tell(number, host, type(error).__name__, str(error))
            await asyncio.sleep(chance.random())

    async def disturb(self) -> None:
        """What comes and goes, for all connections."""
        for fault, to in (
            (faults.BlackHole(), "dark"),
            (faults.Down(), "plain"),
            (faults.Partition("client", ["cut", "gone"]), None),
        ):
            self.faults.append(fault)
            await asyncio.sleep(0.1)
            with self.network.add(fault, to=to):
                await asyncio.sleep(0.3)

    async def main(self) -> None:
        async with netio.serve_tcp(self.serve, port=7000, network=self.network, grace=1):
            async with asyncio.TaskGroup() as group:
                group.create_task(self.disturb())
                for n in range(len(SERVERS)):
                    chance = random.Random(self.random.random())
                    group.create_task(self.ask(n, chance))
        assert_fired(*self.faults)

    def digest(self) -> str:
        with record() as timeline:
            run(self.main())
        self.timeline = timeline
        everything = [*map(tuple, self.network.events), *self.history, *timeline.events]
        return hashlib.sha256(repr(everything).encode()).hexdigest()


def digests(seed: int, runs: int) -> set[str]:
    return {Run(seed).digest() for _ in range(runs)}


if __name__ == "__main__":
    sys.stdout.write("\n".join(sorted(digests(int(sys.argv[1]), int(sys.argv[2])))) + "\n")
