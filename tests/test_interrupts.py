"""Ctrl-C ends a program whose scopes expire at that moment by KeyboardInterrupt, always (law 16).

The signal comes between any two steps of netio's own code: its handler cancels the main task there.
"""

import asyncio
import contextlib
import os
import random
import subprocess
import sys
import types
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from silence import silence

import netio
from netio import _cancels, _holding, _scopes, _shields, _stubborn
from netio.testing import VirtualLoop

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
@pytest.mark.real_time("signals come while real timers ring")
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


# At every instruction. ----------------------------------------------------------------------------

# What a handler of a signal may come into the middle of.
FILES = {module.__file__ for module in (_cancels, _holding, _scopes, _shields, _stubborn)}
STEP = 23  # from one instruction that is tried to the next; where that begins, says the seed
CASES_MIN = 120  # a program runs 3700 to 5300 instructions
NEVER = 10**9

Program = Callable[[Callable[[], Awaitable[None]]], Awaitable[None]]


async def expiring_in_one_another(wait: Callable[[], Awaitable[None]]) -> None:
    async with netio.timeout(1):
        async with netio.move_on_after(1):
            try:
                await asyncio.sleep(9)
            finally:
                async with netio.move_on_after(1, grace=1):
                    await asyncio.sleep(9)


async def shielding_the_cleanup(wait: Callable[[], Awaitable[None]]) -> None:
    async with netio.timeout(1, grace=1):
        try:
            await wait()
        finally:
            with contextlib.suppress(TimeoutError):
                async with netio.shield(3):
                    async with netio.move_on_after(1, grace=1):
                        await wait()
                    await wait()


async def shielding_twice(wait: Callable[[], Awaitable[None]]) -> None:
    async with netio.timeout(1):
        async with netio.shield(3):
            async with netio.shield(2):
                async with netio.move_on_after(1.5):
                    await wait()
        await asyncio.sleep(5)


class Interrupt:
    """Cancels a task at one instruction of netio's code, as the handler of Ctrl-C does."""

    def __init__(self, at: int) -> None:
        self.at = at
        self.task: asyncio.Task[None] | None = None
        self.came = ""  # where
        self._count = 0

    def trace(self, frame: types.FrameType, event: str, arg: Any) -> Any:
        if frame.f_code.co_filename not in FILES or self.came:
            return None
        frame.f_trace_opcodes, frame.f_trace_lines = True, False
        return self._step

    def _step(self, frame: types.FrameType, event: str, arg: Any) -> Any:
        self._count += event == "opcode"
        if self._count < self.at or self.task is None or self.task.done():
            return self._step
        self.came = f"{frame.f_code.co_name}, line {frame.f_lineno}"
        sys.settrace(None)
        self.task.cancel()
        return None


def play(program: Program, interrupt: Interrupt) -> "asyncio.Task[None]":
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(interrupted(program, interrupt))


async def interrupted(program: Program, interrupt: Interrupt) -> "asyncio.Task[None]":
    async def twice() -> None:
        async with silence() as silent:
            for _ in range(2):
                with contextlib.suppress(TimeoutError):
                    await program(silent.wait)
                await asyncio.sleep(0)

    before = sys.gettrace()
    interrupt.task = task = asyncio.create_task(twice())
    sys.settrace(interrupt.trace)
    try:
        await asyncio.wait([task])
    finally:
        sys.settrace(before)
    return task


@pytest.mark.parametrize(
    "program", [expiring_in_one_another, shielding_the_cleanup, shielding_twice]
)
def test_a_cancel_between_any_two_instructions_of_netio_is_never_lost(
    program: Program, pytestconfig: pytest.Config
) -> None:
    at = random.Random(pytestconfig.getoption("hypothesis_seed")).randrange(STEP)
    cases = 0
    play(program, Interrupt(NEVER))  # Python 3.12.1 traces no code at the first time
    while True:
        task = play(program, interrupt := Interrupt(at))
        if not interrupt.came:
            break
        assert task.cancelled(), interrupt.came
        assert task.cancelling() == 1, interrupt.came
        at += STEP
        cases += 1
    assert cases > CASES_MIN
    assert not _holding.holds
