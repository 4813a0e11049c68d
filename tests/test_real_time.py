"""No test waits in real time without a reason: what counts as waiting, and that it is noticed."""

import asyncio
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable

import pytest
from real_time import block_until, counted, until
from virtual import on_virtual_clock

import netio
from netio.testing import Deadlock, run

WAITS = pytest.mark.real_time("what is counted is what happens here")
ON_STOCK = "config.getoption('--loop') == 'stock'"  # as `any_clock` is real on the others


def waited(main: Callable[[], object]) -> float:
    with counted() as waits:
        main()
    return waits.seconds


@WAITS
def test_a_timer_that_is_reached_counts() -> None:
    assert waited(lambda: asyncio.run(asyncio.sleep(0.002))) >= 0.002


@WAITS
def test_a_limit_that_is_reached_counts() -> None:
    async def main() -> None:
        near, far = netio.stream_pair()
        async with near, far:
            with pytest.raises(netio.DeadlineExceeded):
                await near.read_some(timeout=0.002)

    assert waited(lambda: asyncio.run(main())) >= 0.002


@WAITS
def test_a_sleep_counts_in_any_thread() -> None:
    def rest() -> None:
        thread = threading.Thread(target=time.sleep, args=(0.002,))
        thread.start()
        thread.join()

    assert waited(rest) >= 0.002
    assert waited(lambda: time.sleep(0.002)) >= 0.002


@WAITS
def test_virtual_time_does_not_count() -> None:
    assert waited(lambda: run(asyncio.sleep(100))) == 0


@WAITS
def test_real_time_that_a_virtual_clock_waits_counts() -> None:
    async def main() -> None:
        near, far = socket.socketpair()
        near.setblocking(False)
        with near, far:
            await asyncio.get_running_loop().sock_recv(near, 1)

    with counted() as waits, pytest.raises(Deadlock):
        run(main(), patience=0.002)
    assert waits.seconds >= 0.002


@WAITS
def test_an_event_that_comes_does_not_count_however_long_it_takes() -> None:
    async def main() -> None:
        near, far = netio.stream_pair()
        async with near, far:
            loop = asyncio.get_running_loop()
            thread = threading.Timer(0.002, loop.call_soon_threadsafe, (far.abort,))
            thread.start()
            with pytest.raises(netio.IncompleteRead):
                await near.read_exactly(1, timeout=5)
            await asyncio.to_thread(thread.join)

    assert waited(lambda: asyncio.run(main())) == 0


@WAITS
def test_a_program_that_is_waited_for_does_not_count() -> None:
    program = [sys.executable, "-S", "-c", "import time; time.sleep(0.002)"]
    assert waited(lambda: subprocess.run(program, timeout=10, check=True)) == 0


@WAITS
def test_looking_until_something_has_happened_does_not_count() -> None:
    looks = iter([False, False, True, False, True])
    assert waited(lambda: asyncio.run(until(lambda: next(looks)))) == 0
    assert waited(lambda: block_until(lambda: next(looks))) == 0


@WAITS
def test_what_never_happens_is_told() -> None:
    assert not asyncio.run(until(lambda: False, seconds=0.002))
    assert not block_until(lambda: False, seconds=0.002)


# The tests themselves. ------------------------------------------------------------------------


@WAITS
async def test_a_test_may_wait_that_says_why() -> None:
    await asyncio.sleep(0.001)


@pytest.mark.xfail(ON_STOCK, reason="it waits and does not say why", raises=pytest.fail.Exception)
async def test_a_test_that_waits_without_a_word_fails() -> None:
    await asyncio.sleep(0.001)


@pytest.mark.xfail(reason="it says nothing", raises=pytest.fail.Exception)
@pytest.mark.real_time
def test_a_reason_is_asked_for() -> None:
    pass


@pytest.mark.any_clock
async def test_any_clock_is_virtual_where_the_loop_is_stock(loop_variant: str) -> None:
    assert on_virtual_clock() == (loop_variant == "stock")
    await asyncio.sleep(100 if on_virtual_clock() else 0.001)
