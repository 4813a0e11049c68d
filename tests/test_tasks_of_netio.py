"""The tasks and threads that netio itself starts, and how it waits for their end (laws 24, 25)."""

import ast
import asyncio
from pathlib import Path
from typing import Any

import anyio
import pytest
from children import named, turns
from virtual import virtual_loop

import netio
from netio.testing import Deadlock, Network, run

PACKAGE = Path(netio.__file__).parent
STARTS = {"create_task", "ensure_future", "asyncio.gather", "Thread", "TaskGroup"}

# Who starts what, and the tests that show how it ends.
STARTED = {
    # What the caller gives to these three; tests/test_children*.py, tests/test_shielded.py
    "_children.py": ["create_task in _start"],
    # One that accepts for each address, one for each connection; tests/test_server_shutdown.py
    "_server.py": ["create_task in __init__", "create_task in _start"],
    # A lookup may be stuck in the C library: the exception in law 24; tests/test_resolve.py
    "_resolve.py": ["Thread in _start_thread"],
}


def started_in(path: Path) -> list[str]:
    found = []
    for function in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
            for node in ast.walk(function):
                if isinstance(node, ast.Call):
                    called = ast.unparse(node.func)
                    name = called.rpartition(".")[2]
                    if STARTS & {name, called}:
                        found.append(f"{name} in {function.name}")
    return found


def test_nobody_else_in_netio_starts_a_task_or_a_thread() -> None:
    started = {path.name: started_in(path) for path in PACKAGE.glob("*.py")}
    assert {name: starts for name, starts in started.items() if starts} == STARTED


# A server that is closed waits for its handlers. -----------------------------------------------


class Served:
    """A server in memory with one handler, which is told to end and takes a second for that."""

    def __init__(self) -> None:
        self.cancels = 0
        self.cut = False

    async def start(self) -> netio.Server:
        network = Network(names={"server": "10.0.0.1"})
        server = await netio.serve_tcp(self.handle, "server", 7000, network=network, grace=5)
        self.client = await netio.connect_tcp("server", 7000, network=network)
        await turns(10)
        assert len(server.connections) == 1
        return server

    async def handle(self, stream: netio.Stream) -> None:
        try:
            await stream.read_some(timeout=None)
        except asyncio.CancelledError:
            self.cancels += 1
            await asyncio.sleep(1)
            self.cut = stream.closed
            raise


@pytest.mark.virtual_clock
async def test_an_anyio_scope_that_has_expired_ends_the_grace_and_not_the_cleanup() -> None:
    """It repeats its cancel on each turn: that is one cancel, and costs no turns."""
    served = Served()
    server = await served.start()
    before = virtual_loop()._steps
    with anyio.move_on_after(2) as scope:
        await server.aclose()
    assert scope.cancelled_caught
    assert virtual_loop().time() == 3
    assert (served.cancels, served.cut) == (1, False)
    assert virtual_loop()._steps - before < 40
    served.client.abort()


@pytest.mark.virtual_clock
async def test_a_second_cancel_from_outside_still_cuts_within_an_anyio_scope() -> None:
    served = Served()
    server = await served.start()

    async def close() -> None:
        with anyio.move_on_after(2):
            await server.aclose()

    closing = named(close())
    virtual_loop().call_later(2.5, closing.cancel)
    await asyncio.wait([closing])
    assert (served.cancels, served.cut) == (1, True)
    served.client.abort()


@pytest.mark.virtual_clock
async def test_in_a_shield_a_server_is_closed_with_its_whole_grace() -> None:
    served = Served()
    server = await served.start()

    async def close() -> None:
        async with netio.shield(30):
            await server.aclose()

    closing = named(close())
    for seconds in 1, 2, 5.5:
        virtual_loop().call_later(seconds, closing.cancel)
    await asyncio.wait([closing])
    assert closing.cancelled()
    assert virtual_loop().time() == 6
    assert (served.cancels, served.cut) == (1, False)
    served.client.abort()


@pytest.mark.virtual_clock
async def test_the_bound_of_a_shield_ends_the_grace_of_a_server() -> None:
    served = Served()
    server = await served.start()
    with pytest.raises(netio.DeadlineExceeded) as caught:
        async with netio.shield(2):
            await server.aclose()
    assert caught.value.limit == "shield"
    assert virtual_loop().time() == 3
    assert (served.cancels, served.cut) == (1, False)
    served.client.abort()


@pytest.mark.virtual_clock
async def test_the_waits_of_a_server_are_seen_by_their_names() -> None:
    class Seeing(netio.Observer):
        def __init__(self) -> None:
            self.seen: set[tuple[str, Any]] = set()

        def wait_began(self, wait: netio.Wait) -> None:
            self.seen.add((wait.operation, wait.peer))

    served = Served()
    server = await served.start()
    with netio.observe(Seeing()) as seeing:
        serving = named(server.serve_forever())
        await turns(2)
        await server.aclose(grace=1)
        await serving
    address = ("10.0.0.1", 7000)
    assert {("serve_forever", address), ("aclose of the server", address)} <= seeing.seen
    served.client.abort()


def test_a_server_that_serves_for_ever_says_so_in_a_deadlock() -> None:
    async def main() -> None:
        async with netio.serve_tcp(Served().handle, "server", 1, network=network()) as server:
            await server.serve_forever()

    def network() -> Network:
        return Network(names={"server": "10.0.0.1"})

    with pytest.raises(Deadlock, match="waits in serve_forever"):
        run(main())


@pytest.mark.virtual_clock
async def test_serving_for_ever_is_cut_by_a_scope_that_says_so() -> None:
    served = Served()
    server = await served.start()
    with pytest.raises(netio.DeadlineExceeded, match="during serve_forever"):
        async with netio.timeout(1):
            await server.serve_forever()
    await server.aclose(grace=0)
    served.client.abort()
