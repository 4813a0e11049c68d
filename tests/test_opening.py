"""What connect and serve return: a real coroutine, and a context manager that closes."""

import asyncio
import collections.abc
import gc
import inspect
import io
import warnings
from collections.abc import AsyncIterator, Callable

import pytest
from streams import ticks

import netio
from netio._opening import Opening
from netio.testing import Network, faults


async def until_closed(stream: netio.Stream) -> None:
    async for _ in stream.chunks():
        pass


@pytest.fixture
async def port() -> AsyncIterator[int]:
    async with netio.serve_tcp(until_closed, "127.0.0.1", grace=0) as server:
        yield server.addresses[0][1]


class Thing:
    closed = False

    async def aclose(self) -> None:
        self.closed = True


async def open_thing(*, fails: bool = False) -> Thing:
    await asyncio.sleep(0)
    if fails:
        raise ZeroDivisionError
    return Thing()


async def test_it_can_be_awaited() -> None:
    thing = await Opening("open_thing", open_thing())
    assert not thing.closed


async def test_a_block_closes_what_was_opened() -> None:
    async with Opening("open_thing", open_thing()) as thing:
        assert not thing.closed
    assert thing.closed


async def test_a_block_that_fails_closes_and_passes_the_error_on() -> None:
    things = []
    with pytest.raises(ZeroDivisionError):
        async with Opening("open_thing", open_thing()) as thing:
            things.append(thing)
            raise ZeroDivisionError
    assert things[0].closed


async def test_an_opening_that_fails_raises_on_entering() -> None:
    entered = False
    with pytest.raises(ZeroDivisionError):
        async with Opening("open_thing", open_thing(fails=True)):
            entered = True
    assert not entered


async def test_it_is_used_once() -> None:
    opening = Opening("open_thing", open_thing())
    await opening
    with pytest.raises(RuntimeError, match="already awaited"):
        await opening
    with pytest.raises(RuntimeError, match="already awaited"):
        async with opening:
            pass


async def test_it_is_a_real_coroutine(port: int) -> None:
    opening = netio.connect_tcp("127.0.0.1", port)
    assert isinstance(opening, collections.abc.Coroutine)
    assert asyncio.iscoroutine(opening)
    assert inspect.isawaitable(opening)
    assert "connect_tcp" in repr(opening)
    opening.close()


@pytest.mark.parametrize("start", ["create_task", "ensure_future", "gather", "wait_for", "shield"])
async def test_asyncio_takes_it_as_any_coroutine(port: int, start: str) -> None:
    opening = netio.connect_tcp("127.0.0.1", port)
    stream: netio.Stream
    if start == "create_task":
        stream = await asyncio.create_task(opening)
    elif start == "ensure_future":
        stream = await asyncio.ensure_future(opening)
    elif start == "gather":
        [stream] = await asyncio.gather(opening)
    elif start == "wait_for":
        stream = await asyncio.wait_for(opening, 5)
    else:
        stream = await asyncio.shield(opening)
    assert stream.peer == ("127.0.0.1", port)
    await stream.aclose()


async def test_a_task_group_takes_it(port: int) -> None:
    async with asyncio.TaskGroup() as group:
        task = group.create_task(netio.connect_tcp("127.0.0.1", port))
    await task.result().aclose()


@pytest.mark.parametrize("run", ["runner", "run_until_complete"])
def test_a_loop_runs_it(loop_factory: Callable[[], asyncio.AbstractEventLoop], run: str) -> None:
    serving = netio.serve_tcp(until_closed, "127.0.0.1")
    if run == "runner":
        with asyncio.Runner(loop_factory=loop_factory) as runner:
            server = runner.run(serving)
            runner.run(server.aclose())
        return
    loop = loop_factory()
    server = loop.run_until_complete(serving)
    loop.run_until_complete(server.aclose())
    loop.close()


def test_asyncio_run_takes_it() -> None:
    with pytest.raises(netio.ConnectFailed):
        asyncio.run(netio.connect_tcp("10.0.0.1", 80, network=Network()))


async def test_a_task_shows_its_name_and_its_stack() -> None:
    network = Network()
    network.add(faults.BlackHole())
    task = asyncio.create_task(netio.connect_tcp("10.0.0.1", 80, network=network))
    await ticks(2)
    assert "connect_tcp" in repr(task)
    text = io.StringIO()
    task.print_stack(file=text)
    assert "_connect.py" in text.getvalue()
    coroutine = task.get_coro()
    assert inspect.getcoroutinestate(coroutine) == inspect.CORO_SUSPENDED  # type: ignore[arg-type]
    assert coroutine.cr_await is not None  # type: ignore[union-attr]
    task.cancel()
    await asyncio.wait([task])


@pytest.mark.parametrize("name", ["connect_tcp", "serve_tcp"])
def test_one_that_was_forgotten_warns(name: str) -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        if name == "connect_tcp":
            netio.connect_tcp("localhost", 80)
        else:
            netio.serve_tcp(until_closed)
        gc.collect()
    [warning] = caught
    assert warning.category is RuntimeWarning
    assert f"coroutine '{name}' was never awaited" in str(warning.message)


def test_the_call_itself_needs_no_loop_and_opens_nothing() -> None:
    netio.connect_tcp("localhost", 80).close()
    netio.serve_tcp(until_closed).close()


async def test_an_error_thrown_in_reaches_the_coroutine() -> None:
    opening = Opening("open_thing", open_thing())
    opening.send(None)
    with pytest.raises(ZeroDivisionError):
        opening.throw(ZeroDivisionError())
