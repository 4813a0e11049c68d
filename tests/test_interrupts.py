"""Ctrl-C ends a program whose scopes expire at that moment by KeyboardInterrupt, always (law 16).

The signal comes between any two steps of netio's own code: its handler cancels the main task there.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.own_loop, pytest.mark.real_time("signals come while real timers ring")]

ROOT = Path(__file__).parent.parent
RUNS = 200

PROGRAM = '''
import asyncio, contextlib, os, random, signal, sys, threading, time

import netio

SHORT_S = 0.0005
DEBUG = sys.argv[1] == "debug"


async def expire():
    async with netio.timeout(SHORT_S):
        await asyncio.sleep(9)


async def expire_in_one_another():
    async with netio.timeout(SHORT_S):
        async with netio.move_on_after(SHORT_S):
            try:
                await asyncio.sleep(9)
            finally:
                async with netio.move_on_after(SHORT_S):
                    await asyncio.sleep(9)


async def clean_up_for_longer_than_the_grace():
    async with netio.timeout(SHORT_S, grace=SHORT_S):
        try:
            await asyncio.sleep(9)
        finally:
            await asyncio.sleep(9)


async def shield_a_wait(near):
    async with netio.timeout(SHORT_S):
        try:
            await near.read_some()
        finally:
            with contextlib.suppress(TimeoutError):  # which would take the place of a cancel
                async with netio.shield(SHORT_S):
                    async with netio.move_on_after(SHORT_S / 2, grace=SHORT_S):
                        await near.read_some()
                    await near.read_some()


async def never_wait():
    async with netio.timeout(0):
        sum(range(1000))
    async with netio.shield(1):
        pass


async def main(number, started):
    near, far = netio.stream_pair()
    async with near, far:
        interrupt(number, started)
        while True:
            with contextlib.suppress(TimeoutError):
                if number % 5 == 0:
                    await expire()
                elif number % 5 == 1:
                    await expire_in_one_another()
                elif number % 5 == 2:
                    await clean_up_for_longer_than_the_grace()
                elif number % 5 == 3:
                    await shield_a_wait(near)
                else:
                    await never_wait()
                    await asyncio.sleep(0)


def interrupt(number, started):
    """In the thread of the loop, in the very tick of an expiry; or whenever another thread says."""
    if number % 2:
        loop = asyncio.get_running_loop()
        after = SHORT_S * (1 + number % 3)
        loop.call_later(after, signal.raise_signal, signal.SIGINT)
    else:
        started.set()


def send_when_started(number, started):
    started.wait()
    time.sleep(random.random() * 6 * SHORT_S)
    os.kill(os.getpid(), signal.SIGINT)


outcomes = {}
for number in range(int(sys.argv[2])):
    started = threading.Event()
    if number % 2 == 0:
        threading.Thread(target=send_when_started, args=(number, started), daemon=True).start()
    try:
        asyncio.run(main(number, started), debug=DEBUG)
    except BaseException as error:
        outcomes.setdefault(type(error).__name__, []).append(number)
print({name: len(numbers) for name, numbers in outcomes.items()})
'''


@pytest.mark.parametrize("mode", ["plain", "debug"])
def test_a_program_that_is_interrupted_while_scopes_expire_ends_by_keyboard_interrupt(
    mode: str,
) -> None:
    ended = subprocess.run(
        [sys.executable, "-c", PROGRAM, mode, str(RUNS)],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=15,
        check=False,
    )
    assert ended.stdout == f"{{'KeyboardInterrupt': {RUNS}}}\n", ended.stderr
