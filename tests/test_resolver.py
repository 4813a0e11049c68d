"""A resolver of the program's own: asked for names only, within the limits, taken at its word."""

import asyncio
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from streams import outcome_of, ticks
from virtual import virtual_loop

import netio
from netio.testing import Network


class Names:
    """Knows some names, and takes its time."""

    def __init__(self, answer: Any = (), *, seconds: float = 0.0) -> None:
        self.answer = answer
        self.seconds = seconds
        self.asked: list[tuple[str, int]] = []
        self.cancelled = 0

    async def lookup(self, host: str, port: int) -> Sequence[str]:
        self.asked.append((host, port))
        try:
            await asyncio.sleep(self.seconds)
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer  # type: ignore[no-any-return]


async def greet(stream: netio.Stream) -> None:
    await stream.write(b"hello")


async def connected_peer(resolver: Any, host: str = "any.example") -> Any:
    network = Network()
    async with netio.serve_tcp(greet, "10.0.0.2", 7, network=network):
        async with netio.connect_tcp(host, 7, network=network, resolver=resolver) as stream:
            return stream.peer


@pytest.mark.virtual_clock
async def test_it_is_asked_for_the_name_and_its_addresses_are_tried_in_order() -> None:
    names = Names(["10.0.0.1", "10.0.0.2"])
    assert await connected_peer(names) == ("10.0.0.2", 7)
    assert names.asked == [("any.example", 7)]


@pytest.mark.virtual_clock
async def test_a_numeric_address_is_not_looked_up() -> None:
    names = Names([])
    assert await connected_peer(names, "10.0.0.2") == ("10.0.0.2", 7)
    assert names.asked == []


async def test_it_serves_the_network_of_the_system_as_well() -> None:
    async with netio.serve_tcp(greet, "127.0.0.1", grace=0) as server:
        connecting = netio.connect_tcp("any.example", server.port, resolver=Names(["127.0.0.1"]))
        async with connecting as stream:
            assert await stream.read_exactly(5) == b"hello"


@pytest.mark.virtual_clock
async def test_its_families_take_turns() -> None:
    names = Names(["fd00::1", "fd00::2", "10.0.0.1", "fd00::1"])
    connecting = netio.connect_tcp("any.example", 7, network=Network(), resolver=names)
    error = await outcome_of(connecting)
    assert isinstance(error, netio.ConnectFailed)
    for attempt, address in zip(error.attempts, ["fd00::1", "10.0.0.1", "fd00::2"], strict=True):
        assert address in str(attempt)


@pytest.mark.parametrize(
    ("limits", "limit", "seconds"),
    [
        ({}, "resolve", 10.0),
        ({"timeout": 4}, "call", 4.0),
        ({"timeouts": netio.Timeouts(connect=3)}, "connect", 3.0),
        ({"timeout": netio.Budget(2)}, "budget", 2.0),
    ],
)
@pytest.mark.virtual_clock
async def test_it_is_cut_at_the_limit_which_is_named(
    limits: dict[str, Any], limit: str, seconds: float
) -> None:
    names = Names(["10.0.0.1"], seconds=60)
    with pytest.raises(netio.DeadlineExceeded) as caught:
        await netio.connect_tcp("any.example", 7, network=Network(), resolver=names, **limits)
    assert (virtual_loop().time(), caught.value.limit) == (seconds, limit)
    assert caught.value.operation.startswith("connect_tcp")
    assert caught.value.scope is None
    assert names.cancelled == 1
    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0


@pytest.mark.virtual_clock
async def test_a_cancel_and_a_scope_reach_it_and_pass_through() -> None:
    names = Names(["10.0.0.1"], seconds=60)
    connecting = netio.connect_tcp("any.example", 7, network=Network(), resolver=names)
    task = asyncio.create_task(connecting)
    await ticks(3)
    task.cancel()
    assert isinstance(await outcome_of(task), asyncio.CancelledError)
    assert task.cancelled()
    with pytest.raises(netio.DeadlineExceeded) as caught:
        async with netio.timeout(1) as scope:
            await netio.connect_tcp("any.example", 7, network=Network(), resolver=names)
    assert caught.value.scope is scope
    assert caught.value.operation == "connect_tcp"
    assert names.cancelled == 2


@pytest.mark.parametrize(
    ("failure", "text"),
    [
        (socket.gaierror(socket.EAI_NONAME, "no such name"), "does not resolve: no such name"),
        (OSError("the server is down"), "does not resolve: the server is down"),
        (netio.DeadlineExceeded("read_exactly(2) took too long"), "read_exactly"),
    ],
)
@pytest.mark.virtual_clock
async def test_what_it_fails_with_is_a_failed_connect(failure: Exception, text: str) -> None:
    connecting = netio.connect_tcp("any.example", 7, network=Network(), resolver=Names(failure))
    error = await outcome_of(connecting)
    assert type(error) is netio.ConnectFailed
    assert text in str(error)
    [attempt] = error.attempts
    assert attempt is failure or attempt.__cause__ is failure


@pytest.mark.virtual_clock
async def test_no_address_is_a_failed_connect_and_a_fault_of_its_own_passes_through() -> None:
    network = Network()
    with pytest.raises(netio.ConnectFailed, match="no address"):
        await netio.connect_tcp("any.example", 7, network=network, resolver=Names([]))
    with pytest.raises(ZeroDivisionError):
        names = Names(ZeroDivisionError())
        await netio.connect_tcp("any.example", 7, network=network, resolver=names)


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ("10.0.0.1", TypeError),
        (None, TypeError),
        ([("10.0.0.1", 7)], TypeError),
        (["other.example"], ValueError),
        (["10.0.0.1", ""], ValueError),
        (["10.0.0.256"], ValueError),
    ],
)
@pytest.mark.virtual_clock
async def test_an_answer_that_is_none_is_told_with_the_resolver(
    answer: Any, expected: type[Exception]
) -> None:
    with pytest.raises(expected, match="resolver must return"):
        await netio.connect_tcp("any.example", 7, network=Network(), resolver=Names(answer))


@pytest.mark.parametrize("wrong", ["8.8.8.8", Names, 5, socket])
def test_what_is_no_resolver_is_named_at_the_call(wrong: Any) -> None:
    with pytest.raises(TypeError, match="resolver"):
        netio.connect_tcp("any.example", 7, resolver=wrong)


@pytest.mark.parametrize("part", ["names_are_asked_of_servers", "a_wrong_one_is_refused"])
def test_aiodns_is_a_resolver(part: str, loop_variant: str) -> None:
    """In a process of its own: pycares leaves a thread behind, and a virtual clock sees threads."""
    pytest.importorskip("aiodns")
    program = Path(__file__).with_name("aiodns_program.py")
    command = [sys.executable, "-W", "error", program, part, loop_variant]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=15)
    assert (ran.returncode, ran.stderr) == (0, "")
