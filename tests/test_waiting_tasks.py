"""What an error of the virtual clock says of each task: its name, what it waits for, and where."""

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

import pytest

import netio
from netio.testing import Deadlock, Network, VirtualLoop, faults

NO_TIMEOUTS = netio.Timeouts(connect=None, resolve=None, attempt=None)

Main = Callable[[], Coroutine[Any, Any, None]]


def said_of(main: Main, *, task: str = "the main task") -> str:
    """The line of `task` in the deadlock that `main` ends in."""
    with asyncio.Runner(loop_factory=VirtualLoop) as runner, pytest.raises(Deadlock) as caught:
        loop = runner.get_loop()
        loop.run_until_complete(loop.create_task(main(), name="the main task"))
    assert all(line in str(caught.value) for line in caught.value.waiting)
    [line] = [line for line in caught.value.waiting if line.startswith(f"{task!r} ")]
    return line


def test_an_operation_of_netio_is_named_by_its_text_and_its_callers() -> None:
    async def fetch(stream: netio.Stream) -> None:
        await stream.read_exactly(16, timeout=None)

    async def main() -> None:
        near, far = Network().pair()
        async with near, far:
            await fetch(near)

    line = said_of(main)
    assert line.startswith("'the main task' waits in read_exactly(16) from ")
    places = re.findall(r"(\w+) \(tests/test_waiting_tasks\.py:\d+\)", line)
    assert places == ["fetch", "main"]


def test_an_operation_that_no_code_of_the_program_has_called_is_told_without_a_place() -> None:
    async def main() -> None:
        near, far = Network().pair()
        async with near, far, asyncio.TaskGroup() as group:
            group.create_task(near.read_exactly(16, timeout=None), name="the reader")

    assert re.fullmatch(
        r"'the reader' waits in read_exactly\(16\) from [^: ]+:\d+",
        said_of(main, task="the reader"),
    )


CALLS: dict[str, Callable[[netio.Stream], Any]] = {
    "read_some(65536)": lambda stream: stream.read_some(timeout=None),
    "read_exactly(16)": lambda stream: stream.read_exactly(16, timeout=None),
    "read_line": lambda stream: stream.read_line(timeout=None),
    "read_until": lambda stream: stream.read_until(b"\r\n", timeout=None),
    "read_all": lambda stream: stream.read_all(limit=100, timeout=None),
    "write": lambda stream: stream.write(b"x" * 10_000_000, timeout=None),
}


@pytest.mark.parametrize("name", CALLS)
def test_every_wait_of_a_stream_is_named(name: str) -> None:
    async def main() -> None:
        near, far = Network().pair()
        async with near, far:
            await CALLS[name](near)

    assert f"waits in {name}" in said_of(main)


def test_an_iteration_is_seen_through() -> None:
    async def numbers() -> AsyncIterator[int]:
        await asyncio.Event().wait()
        yield 1

    async def main() -> None:
        async for _ in numbers():
            pass

    line = said_of(main)
    assert re.search(r"Event\.wait \(asyncio/locks\.py:\d+\), called from .*numbers \(", line)

    async def lines() -> None:
        near, far = Network().pair()
        async with near, far:
            async for _ in near.lines(timeout=None):
                pass

    assert "waits in read_line" in said_of(lines)


def test_the_end_of_an_iteration_is_seen_through() -> None:
    async def numbers() -> AsyncIterator[int]:
        try:
            yield 1
        finally:
            await asyncio.Event().wait()

    async def main() -> None:
        iterator = numbers()
        await anext(iterator)
        await iterator.aclose()  # type: ignore[attr-defined]

    assert re.search(r"Event\.wait \(asyncio/locks\.py:\d+\), called from .*numbers", said_of(main))

    async def nothing_more() -> None:
        await anext(numbers_of_nothing(), None)

    async def numbers_of_nothing() -> AsyncIterator[int]:
        await asyncio.Event().wait()
        yield 1

    assert "numbers_of_nothing" in said_of(nothing_more)


def test_a_handler_of_a_server_is_told_with_its_operation_and_its_own_code() -> None:
    async def greet(stream: netio.Stream) -> None:
        await stream.read_line(timeout=None)

    async def connected() -> None:
        network = Network()
        async with netio.serve_tcp(greet, "127.0.0.1", 7, network=network):
            async with netio.connect_tcp("127.0.0.1", 7, network=network) as stream:
                await stream.read_line(timeout=None)

    with asyncio.Runner(loop_factory=VirtualLoop) as runner, pytest.raises(Deadlock) as caught:
        runner.run(connected())
    [line] = [line for line in caught.value.waiting if "greet" in line]
    assert " waits in read_line from " in line
    assert re.search(r"greet \(tests/test_waiting_tasks\.py:\d+\)", line)


def test_a_task_of_a_connect_alone_is_seen_through() -> None:
    async def main() -> None:
        network = Network()
        network.add(faults.BlackHole())
        opening = netio.connect_tcp(
            "10.0.0.1", 7, network=network, timeout=None, timeouts=NO_TIMEOUTS
        )
        await asyncio.create_task(opening, name="connecting")

    line = said_of(main, task="connecting")
    assert line == "'connecting' waits in connect_tcp to 10.0.0.1:7"


def test_a_callers_other_operation_is_not_taken_for_the_one_that_waits() -> None:
    """What is waited for is the program's own, though netio has called it."""

    async def hang(stream: netio.Stream) -> None:
        await asyncio.Event().wait()

    async def connected() -> None:
        network = Network()
        async with netio.serve_tcp(hang, "127.0.0.1", 7, network=network):
            async with netio.connect_tcp("127.0.0.1", 7, network=network) as stream:
                await stream.read_line(timeout=None)

    with asyncio.Runner(loop_factory=VirtualLoop) as runner, pytest.raises(Deadlock) as caught:
        runner.run(connected())
    [line] = [line for line in caught.value.waiting if "hang" in line]
    assert re.search(
        r" waits: Event\.wait .*hang .* called from .*_handle \(netio/_server\.py", line
    )


def test_any_other_wait_is_told_by_its_code_the_innermost_first() -> None:
    async def inner() -> None:
        await asyncio.Event().wait()

    async def main() -> None:
        await inner()

    line = said_of(main)
    assert re.search(
        r"^'the main task' waits: Event\.wait \(asyncio/locks\.py:\d+\), called from "
        r"\S+inner \(tests/test_waiting_tasks\.py:\d+\), called from "
        r"\S+main \(tests/test_waiting_tasks\.py:\d+\)$",
        line,
    )


def test_every_task_is_told_of_and_who_waits_for_whom() -> None:
    async def child() -> None:
        await asyncio.Event().wait()

    async def main() -> None:
        await asyncio.create_task(child(), name="the child")

    assert "waits for the task 'the child'" in said_of(main)
    assert said_of(main, task="the child").startswith("'the child' waits: Event.wait")


def test_an_endless_depth_of_calls_is_told_in_a_few_lines() -> None:
    async def deep(depth: int) -> None:
        if depth:
            await deep(depth - 1)
        else:
            await asyncio.Event().wait()

    assert said_of(lambda: deep(200)).count("called from") < 10


def test_a_loop_without_tasks_says_so() -> None:
    with contextlib.closing(VirtualLoop()) as loop:
        with pytest.raises(Deadlock, match="there is no task"):
            loop.run_forever()
