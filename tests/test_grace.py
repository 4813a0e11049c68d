"""A body that goes on after it was cut: it is cut again after a grace, and reported."""

import asyncio
import contextlib
import functools
import logging
import math
import time
from collections.abc import AsyncGenerator, Callable, Coroutine
from typing import Any

import anyio
import pytest
from silence import forever, now, this_task
from streams import make_pair
from virtual import TASK_FACTORIES, run_with, virtual_loop

import netio

Main = Callable[[], Coroutine[Any, Any, None]]
Body = Callable[[float], Coroutine[Any, Any, None]]


@pytest.fixture(params=TASK_FACTORIES)
def run(request: pytest.FixtureRequest) -> Callable[[Main], None]:
    """Runs a coroutine on a virtual loop, once for each kind of task."""
    return lambda main: run_with(TASK_FACTORIES[request.param], main())


async def cuts_until(end: float) -> list[float]:
    """When this body was cut, which swallows all that comes before `end`."""
    came = []
    while now() < end:
        try:
            await asyncio.sleep(end - now())
        except asyncio.CancelledError:
            came.append(now())
    return came


def said(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.name == "netio"]


# Cutting again. -----------------------------------------------------------------------------------


@pytest.mark.virtual_clock
@pytest.mark.parametrize("grace", [None, math.inf, 10**400])
async def test_without_a_grace_a_body_is_cut_once(grace: float | None) -> None:
    async with netio.timeout(1, grace=grace):
        assert await cuts_until(10_000) == [1.0]


@pytest.mark.parametrize(
    ("grace", "cuts"),
    [(2, [1.0, 3.0, 7.0, 15.0, 31.0]), (0.5, [1, 1.5, 2.5, 4.5, 8.5, 16.5, 32.5])],
)
def test_with_a_grace_it_is_cut_again_and_then_after_pauses_that_double(
    grace: float, cuts: list[float], run: Callable[[Main], None]
) -> None:
    async def main() -> None:
        async with netio.timeout(1, grace=grace) as scope:
            assert await cuts_until(50) == cuts
        assert this_task().cancelling() == 0
        assert (scope.expired(), scope.caught, scope.overrun) == (True, False, 49.0)

    run(main)


@pytest.mark.parametrize("grace", [0, 1e-9])
@pytest.mark.virtual_clock
async def test_the_least_grace_is_no_busy_loop(grace: float) -> None:
    async with netio.timeout(1, grace=grace):
        came = await cuts_until(101)
    assert came[0] == 1.0
    assert came[1] == pytest.approx(1.001)
    assert len(came) == 17  # 100 s, in steps that double from a millisecond on


@pytest.mark.virtual_clock
async def test_a_cleanup_that_is_over_within_the_grace_is_cut_once() -> None:
    with pytest.raises(netio.DeadlineExceeded) as caught:
        async with netio.timeout(1, grace=2):
            try:
                await forever()
            finally:
                await asyncio.sleep(1.5)
    assert (now(), caught.value.seconds, caught.value.elapsed) == (2.5, 1.0, 2.5)
    await asyncio.sleep(50)  # nothing follows
    assert this_task().cancelling() == 0


@pytest.mark.virtual_clock
async def test_a_cleanup_that_takes_longer_than_the_grace_ends_when_that_is_over() -> None:
    with pytest.raises(netio.DeadlineExceeded) as caught:
        async with netio.timeout(1, grace=2):
            try:
                await forever()
            finally:
                await forever()
    assert (now(), caught.value.elapsed) == (3.0, 3.0)
    assert this_task().cancelling() == 0


@pytest.mark.parametrize("kind", ["timeout", "timeout_at", "move_on_after", "move_on_at"])
@pytest.mark.virtual_clock
async def test_each_kind_of_scope_takes_a_grace(kind: str) -> None:
    with contextlib.suppress(netio.DeadlineExceeded):
        async with getattr(netio, kind)(1, grace=1) as scope:
            try:
                await forever()
            finally:
                await forever()
    assert (scope.caught, now()) == (True, 2.0)


@pytest.mark.virtual_clock
async def test_a_cancel_by_hand_has_the_grace_too() -> None:
    async with netio.move_on_after(None, grace=2) as scope:
        virtual_loop().call_at(1, scope.cancel)
        assert await cuts_until(10) == [1.0, 3.0, 7.0]
    assert not scope.expired()


@pytest.mark.virtual_clock
async def test_the_grace_counts_from_firing_also_where_the_deadline_was_moved() -> None:
    async with netio.timeout(1, grace=1) as scope:
        scope.reschedule(4)
        assert await cuts_until(6.5) == [4.0, 5.0]
        with pytest.raises(RuntimeError, match="expiring"):
            scope.reschedule(9)


@pytest.mark.parametrize("name", ["timeout", "timeout_at", "move_on_after", "move_on_at"])
def test_a_grace_that_is_none_is_refused_before_there_is_a_scope(name: str) -> None:
    make = getattr(netio, name)
    for wrong in (math.nan, -1, -1e-9, -math.inf):
        with pytest.raises(ValueError, match="grace"):
            make(1, grace=wrong)
    for wrong in (True, "5", b"5", 1j, []):
        with pytest.raises(TypeError, match="grace"):
            make(1, grace=wrong)


# The second cut is as the first. ------------------------------------------------------------------


@pytest.mark.virtual_clock
async def test_a_result_that_came_in_the_tick_of_the_second_cut_is_not_lost() -> None:
    loop = virtual_loop()
    arrives, got = loop.create_future(), None
    loop.call_at(2, arrives.set_result, "bytes")  # before the scope sets its timer
    with pytest.raises(netio.DeadlineExceeded):
        async with netio.timeout(1, grace=1):
            with contextlib.suppress(asyncio.CancelledError):
                await forever()
            got = await arrives
            await forever()  # which is cut a tick later
    assert (got, now()) == ("bytes", 2.0)


@pytest.mark.virtual_clock
async def test_no_body_hides_from_the_second_cut_behind_a_run_of_results() -> None:
    loop = virtual_loop()
    results = 0
    with pytest.raises(netio.DeadlineExceeded):
        async with netio.timeout(1, grace=1):
            with contextlib.suppress(asyncio.CancelledError):
                await forever()
            await asyncio.sleep(0.5)  # the timer of the second cut is set
            loop._set_time(2.0)
            futures = [loop.create_future() for _ in range(20)]
            feed = iter(futures)

            def set_next() -> None:
                if not (future := next(feed)).done():
                    future.set_result(None)
                    loop.call_soon(set_next)

            loop.call_soon(set_next)  # on each tick, after the task and before the scope
            for future in futures:
                await future
                results += 1
    assert results == 1  # that of the first look


@pytest.mark.parametrize("outside", ["before", "in the tick", "after"])
@pytest.mark.virtual_clock
async def test_an_outside_cancel_beats_a_scope_that_cuts_again(outside: str) -> None:
    task = this_task()
    at = {"before": 1.5, "in the tick": 2.0, "after": 2.5}[outside]
    virtual_loop().call_at(at, task.cancel)
    with pytest.raises(asyncio.CancelledError):
        async with netio.timeout(1, grace=1):
            await cuts_until(2.2 if outside == "after" else 1.2)
            try:
                await forever()
            finally:
                await asyncio.sleep(0)
    assert task.uncancel() == 0


@pytest.mark.virtual_clock
async def test_two_scopes_with_a_grace_cut_together_once_and_the_outer_one_answers() -> None:
    cuts = []
    with pytest.raises(netio.DeadlineExceeded) as caught:
        async with netio.timeout(1, grace=1, name="outer"):
            async with netio.timeout(1, grace=1, name="inner"):
                cuts += await cuts_until(2.5)
                await forever()
    assert caught.value.scope.name == "outer"
    assert (cuts, now()) == ([1.0, 2.0], 4.0)
    assert this_task().cancelling() == 0


@pytest.mark.virtual_clock
async def test_after_its_block_was_left_a_scope_cuts_nothing() -> None:
    async with netio.timeout(1, grace=1):
        await cuts_until(1.5)
    assert await cuts_until(100) == []
    assert virtual_loop().timers() == []


@pytest.mark.virtual_clock
async def test_a_task_that_ended_inside_a_scope_is_not_cut_again() -> None:
    held = []

    async def body() -> AsyncGenerator[None, None]:
        async with netio.timeout(1, grace=1):
            yield

    async def consumer() -> None:
        held.append(generator := body())
        await anext(generator)
        with contextlib.suppress(asyncio.CancelledError):
            await forever()

    task = asyncio.create_task(consumer())
    await asyncio.wait([task])
    before = task.cancelling()
    await asyncio.sleep(50)
    assert task.cancelling() == before
    with pytest.raises(RuntimeError, match="another task"):
        await held[0].aclose()


# The report. --------------------------------------------------------------------------------------


async def the_body_in_question(end: float) -> list[float]:
    return await cuts_until(end)


@pytest.mark.parametrize("grace", [None, 1])
@pytest.mark.virtual_clock
async def test_who_is_still_there_after_five_seconds_is_reported_once(
    grace: float | None, caplog: pytest.LogCaptureFixture
) -> None:
    this_task().set_name("stubborn task")
    at: list[float] = []
    logging.getLogger("netio").addFilter(keep := lambda record: at.append(now()) or True)
    try:
        async with netio.timeout(1, name="limit of it", grace=grace):
            await the_body_in_question(500)
    finally:
        logging.getLogger("netio").removeFilter(keep)
    [message] = said(caplog)
    assert at == [1.0 + 5.0]
    assert "scope 'limit of it' has fired 5.0 s ago" in message
    assert "'stubborn task'" in message
    assert "cuts_until (tests/test_grace.py:" in message
    assert "called from the_body_in_question (tests/test_grace.py:" in message


@pytest.mark.virtual_clock
async def test_who_is_gone_before_is_not_reported(caplog: pytest.LogCaptureFixture) -> None:
    async with netio.timeout(1, grace=1):
        await cuts_until(5.999)
    await asyncio.sleep(100)
    assert said(caplog) == []


@pytest.mark.virtual_clock
async def test_the_report_names_the_operation_that_the_body_waits_in(
    caplog: pytest.LogCaptureFixture,
) -> None:
    near, far = make_pair("memory")
    async with near, far, netio.timeout(1):
        with contextlib.suppress(asyncio.CancelledError):
            await forever()
        with pytest.raises(netio.DeadlineExceeded):
            await near.read_exactly(16, timeout=30)
    [message] = said(caplog)
    assert "waits in read_exactly(16)" in message


@pytest.mark.virtual_clock
async def test_a_task_that_ended_without_leaving_the_scope_is_reported_as_a_yield_inside(
    caplog: pytest.LogCaptureFixture,
) -> None:
    held = []

    async def numbers() -> AsyncGenerator[int, None]:
        async with netio.timeout(1, name="of a generator"):
            yield 1

    async def consumer() -> None:
        held.append(generator := numbers())
        await anext(generator)
        with contextlib.suppress(asyncio.CancelledError):
            await forever()

    await asyncio.create_task(consumer(), name="consumer")
    await asyncio.sleep(100)
    [message] = said(caplog)
    assert "scope 'of a generator'" in message
    assert "'consumer' has ended without leaving it: a yield inside?" in message
    with contextlib.suppress(RuntimeError):
        await held[0].aclose()


@pytest.mark.virtual_clock
async def test_each_of_several_scopes_that_fired_is_reported(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with pytest.raises(netio.DeadlineExceeded):
        async with netio.timeout(1, name="outer"):
            async with netio.timeout(1, name="inner"):
                try:
                    await forever()
                finally:
                    await asyncio.sleep(9)
    assert sorted(text.partition(" has")[0] for text in said(caplog)) == [
        "scope 'inner'",
        "scope 'outer'",
    ]


@pytest.mark.virtual_clock
async def test_a_scope_that_was_forgotten_with_its_task_keeps_no_timer() -> None:
    async def body() -> None:
        async with netio.timeout(1, grace=1):
            await cuts_until(1.5)
            await forever_and_a_day

    forever_and_a_day = virtual_loop().create_future()
    task = asyncio.create_task(body())
    await asyncio.sleep(1.25)
    assert len(virtual_loop().timers()) == 2  # of the sleep, and of the scope
    await asyncio.sleep(0.1)
    task.cancel()
    await asyncio.wait([task])
    assert virtual_loop().timers() == []


@pytest.mark.virtual_clock
async def test_a_report_that_fails_does_not_end_the_cuts() -> None:
    class Full(logging.Filter):
        def filter(self, record: logging.LogRecord) -> bool:
            raise OSError("no space left")

    failed: list[object] = []
    virtual_loop().set_exception_handler(lambda _, context: failed.append(context["exception"]))
    logger, full = logging.getLogger("netio"), Full()
    logger.addFilter(full)
    try:
        with pytest.raises(netio.DeadlineExceeded):
            async with netio.timeout(1, grace=6):  # cut at 1, reported at 6, cut again at 7
                try:
                    await forever()
                finally:
                    await forever()
    finally:
        logger.removeFilter(full)
    assert now() == 7
    assert [str(error) for error in failed] == ["no space left"]


# What a stubborn body costs. ----------------------------------------------------------------------


async def swallow(until: float) -> None:
    while now() < until:
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.sleep(until - now())


async def swallow_and_wait_forever(until: float) -> None:
    loop = asyncio.get_running_loop()
    while now() < until:
        ends = loop.create_future()
        loop.call_at(until, lambda future=ends: future.done() or future.set_result(None))
        with contextlib.suppress(asyncio.CancelledError):
            await ends


async def sleep_in_finally(until: float) -> None:
    try:
        await asyncio.sleep(until - now())
    finally:
        await swallow(until)


async def shield_itself(until: float) -> None:
    near, far = make_pair("memory")
    async with near, far, netio.shield(until - now()):
        await near.read_some()


async def shield_itself_again_and_again(until: float) -> None:
    near, far = make_pair("memory")
    async with near, far:
        while now() < until:
            with contextlib.suppress(netio.DeadlineExceeded, asyncio.CancelledError):
                async with netio.shield(0.05):
                    await near.read_some()


BODIES = [
    swallow,
    swallow_and_wait_forever,
    sleep_in_finally,
    shield_itself,
    shield_itself_again_and_again,
]
STUCK_S = 0.5
BUSY_SHARE_MAX = 0.05  # of a core; a busy loop takes all of it
ROUNDS = 3


async def goes_on(body: Body, grace: float | None) -> None:
    """Enters a scope that cuts `body` nearly at once, which goes on for `STUCK_S`."""
    began = now()
    with contextlib.suppress(netio.DeadlineExceeded, asyncio.CancelledError):
        async with netio.timeout(0.01, grace=grace):
            await body(began + STUCK_S)
    assert now() - began > STUCK_S / 2 or grace is not None


async def busy_share(*programs: Main) -> float:
    """The share of a core that this thread takes while all programs run: the least of some rounds.

    A machine with much else to do makes none of them cheaper.
    """
    if asyncio.get_running_loop().get_debug():
        pytest.skip("most of it would be the stacks that debug mode records, one for each callback")
    shares = []
    for _ in range(ROUNDS):
        before, began = time.thread_time(), time.perf_counter()
        await asyncio.gather(*(program() for program in programs))
        shares.append((time.thread_time() - before) / (time.perf_counter() - began))
        if shares[-1] < BUSY_SHARE_MAX:
            break
    return min(shares)


@pytest.mark.parametrize("grace", [None, 0.001])
@pytest.mark.real_time("what a body costs that goes on for a while after it was cut")
async def test_stubborn_bodies_cost_next_to_nothing_even_all_together(grace: float | None) -> None:
    programs = [functools.partial(goes_on, body, grace) for body in BODIES]
    share = await busy_share(*programs)
    assert share < BUSY_SHARE_MAX


# In an expired scope of anyio, which cancels again on each turn of the loop. ----------------------


async def in_a_scope_of_anyio(program: Main) -> None:
    with anyio.move_on_after(0.01):
        await program()


async def wait_in_netio(body: Body) -> None:
    """A wait that holds cancels back, for work that goes on."""
    work = asyncio.create_task(body(now() + STUCK_S))
    await asyncio.sleep(0)
    await netio.cancel_and_wait(work)


async def shield_foreign_work() -> None:
    """Likewise, and no cancel reaches the work."""
    await netio.shielded(asyncio.sleep(STUCK_S), 2 * STUCK_S)


@pytest.mark.real_time("what netio costs in a scope of anyio that has expired")
async def test_in_an_expired_scope_of_anyio_netios_waits_and_shields_cost_next_to_nothing() -> None:
    programs = [
        *(functools.partial(goes_on, shield_itself, grace) for grace in (None, 0.001)),
        *(functools.partial(goes_on, shield_itself_again_and_again, g) for g in (None, 0.001)),
        functools.partial(wait_in_netio, swallow),
        shield_foreign_work,
    ]
    in_anyio = [functools.partial(in_a_scope_of_anyio, program) for program in programs]
    share = await busy_share(*in_anyio)
    assert share < BUSY_SHARE_MAX
