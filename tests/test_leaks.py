"""The leak check finds what is left, of every kind, names it, and lets go what ends by itself."""

import asyncio
import contextlib
import gc
import os
import socket
import sys
import threading
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from virtual import on_virtual_clock, virtual_loop

import netio
from netio.testing import Leaked, Network, _leaks, check_leaks, run

linux_or_macos = pytest.mark.skipif(sys.platform == "win32", reason="descriptors are not told")


@contextlib.contextmanager
def expect_leaks(*expected: str) -> Iterator[None]:
    """The leaks that are found are these, by how their lines begin, in this order."""
    with pytest.raises(Leaked) as caught:
        yield
    leaks = caught.value.leaks
    assert len(leaks) == len(expected), leaks
    for leak, start in zip(leaks, expected, strict=True):
        assert leak.startswith(start), leaks
    assert all(leak in str(caught.value) for leak in leaks)


# What is left. ----------------------------------------------------------------------------------


@linux_or_macos
@pytest.mark.real_time("on a real clock, what may go by itself is given a quarter of a second")
async def test_a_descriptor_that_is_left_open_is_found_and_named() -> None:
    with pytest.raises(Leaked) as caught:
        async with check_leaks():
            held = socket.socket()
    with held:
        [leak] = caught.value.leaks
        assert leak.startswith(f"descriptor {held.fileno()} is open: ")


@linux_or_macos
def test_a_descriptor_that_is_left_open_is_found_without_a_loop() -> None:
    held: list[socket.socket] = []
    with expect_leaks("descriptor ", "descriptor "), check_leaks():
        held += socket.socketpair()
    for one in held:
        one.close()


@pytest.mark.virtual_clock
async def test_a_stream_in_memory_that_is_left_open_is_found_and_named_as_a_descriptor_is() -> None:
    network = Network()
    kept, before = network.pair(), network.pair()
    async with kept[0], kept[1], before[0], before[1]:
        with pytest.raises(Leaked) as caught:
            async with check_leaks():
                near, far = network.pair()
                await before[0].aclose()
                await far.aclose()
        [leak] = caught.value.leaks
        assert leak == f"a stream in memory is open: {near.local[0]}:{near.local[1]} to " + (
            f"{near.peer[0]}:{near.peer[1]}"
        )
        await near.aclose()


@pytest.mark.any_clock
async def test_a_task_that_is_left_is_found_with_what_it_waits_for() -> None:
    async def wait() -> None:
        await asyncio.Event().wait()

    with expect_leaks("the task 'the one' waits: Event.wait (asyncio"):
        async with check_leaks():
            task = asyncio.create_task(wait(), name="the one")
    task.cancel()
    await asyncio.wait([task])


@pytest.mark.any_clock
async def test_a_timer_that_is_left_is_found(loop_variant: str) -> None:
    if loop_variant == "uvloop":
        pytest.skip("uvloop does not tell of its timers")
    handle = "_Timer" if on_virtual_clock() else "TimerHandle"
    with expect_leaks(f"the timer <{handle} when="):
        async with check_leaks():
            timer = asyncio.get_running_loop().call_later(100, print)
    timer.cancel()


def drop_a_socket() -> None:
    socket.socket()


class Cycle:
    """Something that only the collector can free, and that was to be closed."""

    def __init__(self) -> None:
        self.itself = self

    def __del__(self) -> None:
        warnings.warn("unclosed cycle", ResourceWarning, stacklevel=1)


async def test_what_is_dropped_open_is_found_whatever_the_filters_say() -> None:
    warnings.simplefilter("ignore")
    with expect_leaks("ResourceWarning: unclosed <socket.socket "):
        async with check_leaks():
            drop_a_socket()
    with expect_leaks("ResourceWarning: unclosed cycle"), contextlib.ExitStack() as stack:
        stack.callback(gc.collect)
        async with check_leaks():
            Cycle()


@pytest.mark.parametrize("generation", [1, 2])
def test_what_was_dropped_before_is_not_found(generation: int) -> None:
    gc.collect()
    gc.disable()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            Cycle()
            with check_leaks(generation=generation):
                gc.collect()
    finally:
        gc.enable()


def test_a_stream_that_is_dropped_open_is_found_by_its_name() -> None:
    async def main() -> None:
        near, far = netio.stream_pair()
        await far.aclose()
        del near

    with expect_leaks("ResourceWarning: unclosed <netio.Stream "), check_leaks():
        run(main())


# What is not left. ------------------------------------------------------------------------------


async def test_what_was_there_before_is_not_found() -> None:
    near, far = socket.socketpair()
    event = asyncio.Event()
    task = asyncio.create_task(event.wait())
    timer = asyncio.get_running_loop().call_later(100, print)
    async with check_leaks():
        await asyncio.sleep(0)
    near.close()
    far.close()
    event.set()
    await task
    timer.cancel()


async def test_what_ends_within_a_few_turns_is_waited_for() -> None:
    async def brief() -> None:
        for _ in range(5):
            await asyncio.sleep(0)

    async with check_leaks():
        task = asyncio.create_task(brief())
    assert task.done()


@pytest.mark.real_time("a thread takes the moment")
async def test_what_ends_in_a_moment_is_waited_for(loop_variant: str) -> None:
    async with check_leaks():
        near, far = socket.socketpair()
        near.close()
        threading.Timer(0.005, far.close).start()


@pytest.mark.virtual_clock
async def test_on_a_virtual_clock_no_time_passes_for_what_is_left() -> None:
    with expect_leaks("the task '", "the timer "):
        async with check_leaks():
            task = asyncio.create_task(asyncio.sleep(0.1))
    assert virtual_loop().time() == 0.0
    await task


@pytest.mark.virtual_clock
async def test_a_timer_that_would_wake_nobody_is_not_found() -> None:
    """The timer of a stream stays set when a read has ended."""
    near, far = netio.stream_pair()
    async with near, far:
        async with check_leaks():
            reading = asyncio.create_task(near.read_exactly(1, timeout=10))
            await asyncio.sleep(0)
            await far.write(b"x")
            await reading
            assert virtual_loop().timers() == [10.0]


async def test_a_block_of_a_coroutine_that_raises_is_not_checked() -> None:
    with pytest.raises(ZeroDivisionError):
        async with check_leaks():
            task = asyncio.create_task(asyncio.sleep(100))
            raise ZeroDivisionError
    task.cancel()
    await asyncio.wait([task])


def test_a_block_that_raises_is_not_checked() -> None:
    with pytest.raises(ZeroDivisionError), check_leaks():
        held = socket.socket()
        raise ZeroDivisionError
    held.close()


async def test_dev_null_is_no_leak() -> None:
    async with check_leaks():
        descriptor = os.open(os.devnull, os.O_RDONLY)
    os.close(descriptor)


@linux_or_macos
def test_where_descriptors_are_no_links_dev_null_is_known_and_what_is_closed_is_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on macOS: a file for each number, also for the one by which the directory is read."""
    monkeypatch.setattr(_leaks, "_DESCRIPTORS", (str(tmp_path),))
    near, far = socket.socketpair()
    with near, far, open(os.devnull) as null:
        for number in (near.fileno(), null.fileno(), 4711):
            (tmp_path / str(number)).touch()
        assert _leaks.open_descriptors() == {
            near.fileno(): "of an unknown kind",
            null.fileno(): os.devnull,
        }


@pytest.mark.parametrize("kind", ["descriptors", "tasks", "timers", "warnings"])
@pytest.mark.virtual_clock
async def test_each_kind_can_be_left_out(kind: str) -> None:
    others = dict.fromkeys(["descriptors", "tasks", "timers", "warnings"], False)
    held: list[Any] = []

    def leave() -> None:
        if kind == "descriptors":
            held.extend(socket.socketpair())
        elif kind == "tasks":
            held.append(asyncio.create_task(asyncio.Event().wait()))
        elif kind == "timers":
            held.append(asyncio.get_running_loop().call_later(1, print))
        else:
            Cycle()

    with pytest.raises(Leaked):
        async with check_leaks(**{**others, kind: True}):
            leave()
    with pytest.warns(ResourceWarning) if kind == "warnings" else contextlib.nullcontext():
        async with check_leaks(**{kind: False}):
            leave()
            gc.collect()
    for one in held:
        one.cancel() if hasattr(one, "cancel") else one.close()
    await asyncio.sleep(0)


# Manners. ---------------------------------------------------------------------------------------


def test_other_warnings_go_their_way() -> None:
    with pytest.warns(UserWarning, match="mind this"), check_leaks():
        warnings.warn("mind this", UserWarning, stacklevel=1)


def test_the_filters_for_warnings_are_as_before() -> None:
    before = list(warnings.filters), warnings.showwarning
    with check_leaks():
        pass
    with pytest.raises(Leaked), check_leaks():
        drop_a_socket()
    with pytest.raises(ZeroDivisionError), check_leaks():
        raise ZeroDivisionError
    assert (list(warnings.filters), warnings.showwarning) == before


async def test_in_a_coroutine_the_check_must_be_awaited() -> None:
    with pytest.raises(RuntimeError, match="async with"), check_leaks():
        pass


def test_checks_can_be_nested() -> None:
    with check_leaks():
        with expect_leaks("ResourceWarning: "), check_leaks():
            drop_a_socket()


def test_a_check_is_used_once() -> None:
    """A second time would take what was found the first time for its own."""
    check = check_leaks()
    with check:
        with pytest.raises(RuntimeError, match="used once"), check:
            pass
    with pytest.raises(RuntimeError, match="used once"):
        check.__enter__()


@pytest.mark.parametrize("wrong", [-1, 3])
def test_an_impossible_generation_is_refused(wrong: int) -> None:
    with pytest.raises(ValueError, match="generation"):
        check_leaks(generation=wrong)
