"""Runs that are recorded, and the events of some that are made up."""

import asyncio
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from typing import Any

from streams import a_pair, outcome_of

import netio
from netio.testing import Network, Timeline, TimelineEvent, faults, mark, record, run
from netio.testing._timeline.spans import Story, story_of

Main = Callable[[], Awaitable[object]]


def recorded(main: Main, **options: Any) -> Timeline:
    """The timeline of `main`, run on a virtual clock."""

    async def recording() -> Timeline:
        with record(**options) as timeline:
            await main()
        return timeline

    return run(recording())


def story(main: Main) -> Story:
    timeline = recorded(main)
    return story_of(timeline.events, timeline.duration)


def made_up(*events: tuple[Any, ...], duration: float = 10.0) -> Story:
    """A story of events given as (time, kind, task, name, details)."""
    return story_of([TimelineEvent(*event) for event in events], duration)


async def quietly(*work: Awaitable[object]) -> None:
    await asyncio.gather(*work, return_exceptions=True)


async def fetch(network: Network) -> None:
    """A client whose deadline is spent on a lookup, a slow greeting, its own work and a stall."""
    async with netio.timeout(5, name="fetch"):
        async with netio.connect_tcp("server", 7000, network=network) as stream:
            await stream.read_line(timeout=2)
            await asyncio.sleep(0.5)
            await stream.write(b"GET\n")
            await stream.read_exactly(16)


async def serve(stream: netio.Stream) -> None:
    await asyncio.sleep(1)
    await stream.write(b"HELLO\n")
    await stream.read_line()
    await stream.write(bytes(16))
    await stream.read_line(timeout=None)


async def a_fetch() -> None:
    network = Network(names={"server": "10.0.0.1"}, lookup_seconds=0.25)
    network.add(faults.Timeout(direction="downstream", after_bytes=10))  # a stall
    async with netio.serve_tcp(serve, "10.0.0.1", 7000, network=network):
        client = asyncio.create_task(fetch(network), name="client")
        await quietly(client)


@asynccontextmanager
async def three_pairs() -> AsyncIterator[tuple[netio.Stream, ...]]:
    async with a_pair("memory") as one, a_pair("memory") as other, a_pair("memory") as third:
        yield (*one, *other, *third)


async def a_tangle() -> None:
    """Scopes out of order, deep, of no length, cut and swallowed; waits of every ending."""
    async with three_pairs() as (near, far, other, gone, idle, _):

        async def swallows() -> None:
            async with netio.timeout(0.5, name="swallows"):
                try:
                    await asyncio.sleep(2)
                except asyncio.CancelledError:
                    await asyncio.sleep(1)

        async def fails() -> None:
            async with netio.timeout(5, name="fails"):
                await other.read_exactly(10)

        async def resets() -> None:
            await asyncio.sleep(1)
            gone.abort()

        async def by_hand() -> None:
            async with netio.timeout(5, name="by hand") as scope:
                await asyncio.sleep(0.3)
                scope.cancel()
                await asyncio.sleep(5)

        async def no_length() -> None:
            for _ in range(3):
                async with netio.timeout(0, name="no length"):
                    pass
                await outcome_of(idle.read_some(timeout=0))
                await asyncio.sleep(0.5)

        async def out_of_order() -> None:
            first, second = netio.timeout(4, name="first"), netio.timeout(5, name="second")
            await first.__aenter__()
            await asyncio.sleep(0.3)
            await second.__aenter__()
            await asyncio.sleep(0.3)
            await outcome_of(first.__aexit__(None, None, None))
            await asyncio.sleep(0.6)
            await second.__aexit__(None, None, None)

        async def deep(n: int = 15) -> None:
            if n:
                async with netio.timeout(n, name=f"depth {n}"):
                    await deep(n - 1)
            await asyncio.sleep(0.01)

        async def parent() -> None:
            async with netio.timeout(1.2, name="whole"):
                async with asyncio.TaskGroup() as group:
                    group.create_task(child(), name="child")

        async def child() -> None:
            async with netio.timeout(1, name="part"):
                await near.read_exactly(1)

        works: Iterable[Any] = (
            swallows(), fails(), resets(), by_hand(), no_length(), out_of_order(), deep(), parent()
        )  # fmt: skip
        cancelled = asyncio.create_task(far.read_exactly(7), name="cancelled")
        asyncio.get_running_loop().call_later(1.1, cancelled.cancel)
        asyncio.get_running_loop().call_later(1.1, mark, "outside")
        await quietly(*works, cancelled)
        mark("all done", count=3)


if __name__ == "__main__":  # draws the picture in the documents
    from netio.testing._timeline.drawing import drawing_of

    sys.stdout.write(drawing_of(story(a_fetch)).svg)
