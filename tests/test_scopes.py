"""Scopes: values, time, composition and delivery (laws 1 to 8), on a virtual clock."""

import asyncio
import contextlib
import gc
import math
import socket
import time
import weakref
from collections.abc import AsyncGenerator, Callable, Iterator
from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest
from virtual import virtual_loop

import netio
from netio.testing import VirtualLoop, run

FACTORIES = [netio.timeout, netio.timeout_at, netio.move_on_after, netio.move_on_at]
Factory = Callable[..., netio.Scope]


async def forever() -> None:
    await asyncio.get_running_loop().create_future()


class AlreadyDone:
    """Suspends although what it waits for has come, as `loop.sock_recv` does in a tight race."""

    def __await__(self) -> Iterator[Any]:
        future = asyncio.get_running_loop().create_future()
        future.set_result("result")
        future._asyncio_future_blocking = True
        yield future
        return future.result()


# Law 1: what a delay and a point may be. ------------------------------------------------------


@pytest.mark.parametrize("make", FACTORIES)
@pytest.mark.parametrize("no_limit", [None, math.inf, 10**400])
@pytest.mark.virtual_clock
async def test_no_limit_sets_no_timer(make: Factory, no_limit: float | None) -> None:
    async with make(no_limit) as scope:
        assert virtual_loop().timers() == []
        assert scope.when() is None
        assert scope.remaining() == math.inf
        await asyncio.sleep(1e9)
    assert not scope.expired()


@pytest.mark.parametrize("make", FACTORIES)
def test_nan_is_refused_before_there_is_a_scope(make: Factory) -> None:
    with pytest.raises(ValueError, match=r"^(delay|when) must not be NaN$"):
        make(math.nan)


@pytest.mark.virtual_clock
async def test_nan_never_reaches_the_timers_of_the_loop() -> None:
    async with netio.timeout(5) as scope:
        with pytest.raises(ValueError, match="NaN"):
            scope.reschedule(math.nan)
        with pytest.raises(ValueError, match="NaN"):
            scope.reschedule(netio.Deadline(math.nan))
        assert virtual_loop().timers() == [5.0]
        assert scope.when() == 5.0


@pytest.mark.parametrize("make", FACTORIES)
@pytest.mark.parametrize("wrong", ["5", True, 1j, b"", Decimal(1), object()])
def test_what_is_not_a_number_is_refused(make: Factory, wrong: Any) -> None:
    with pytest.raises(TypeError, match=r"^(delay|when) must be a number of seconds, not "):
        make(wrong)


@pytest.mark.parametrize("make", FACTORIES)
def test_a_name_is_text(make: Factory) -> None:
    with pytest.raises(TypeError, match=r"^name must be a str or None, not int$"):
        make(1, name=5)


@pytest.mark.virtual_clock
async def test_any_real_number_is_a_number_of_seconds() -> None:
    with pytest.raises(netio.DeadlineExceeded):
        async with netio.timeout(Fraction(1, 4)):
            await forever()
    assert virtual_loop().time() == 0.25


@pytest.mark.parametrize("delay", [0, -1, -math.inf])
@pytest.mark.virtual_clock
async def test_a_delay_that_is_not_positive_fires_at_the_first_suspension(delay: float) -> None:
    reached = []
    with pytest.raises(netio.DeadlineExceeded) as caught:
        async with netio.timeout(delay):
            reached.append("body")
            await asyncio.sleep(0)
            reached.append("after")
    assert reached == ["body"]
    assert (caught.value.seconds, virtual_loop().time()) == (0.0, 0.0)


@pytest.mark.virtual_clock
async def test_a_deadline_is_taken_as_the_point_it_is() -> None:
    deadline = netio.Deadline.after(3)
    await asyncio.sleep(1)
    for make in FACTORIES:
        assert make(deadline).when() == 3.0
    async with netio.timeout(10) as scope:
        scope.reschedule(deadline)
        assert scope.when() == 3.0


# Law 2: when the clock starts; used once, in one task, in order. --------------------------------


@pytest.mark.virtual_clock
async def test_a_delay_counts_from_entering() -> None:
    scope = netio.timeout(5)
    await asyncio.sleep(2)
    with pytest.raises(netio.DeadlineExceeded):
        async with scope:
            assert scope.when() == 7.0
            await forever()
    assert virtual_loop().time() == 7.0


@pytest.mark.virtual_clock
async def test_before_it_is_entered_a_scope_tells_where_its_deadline_would_be() -> None:
    scope = netio.timeout(5)
    assert (scope.when(), scope.remaining()) == (5.0, 5.0)
    await asyncio.sleep(2)
    assert (scope.when(), scope.remaining()) == (7.0, 5.0)


@pytest.mark.virtual_clock
async def test_a_point_in_time_does_not_move_while_the_scope_waits_to_be_entered() -> None:
    scope = netio.timeout_at(5)
    await asyncio.sleep(2)
    assert (scope.when(), scope.remaining()) == (5.0, 3.0)


@pytest.mark.virtual_clock
async def test_a_scope_can_be_made_and_looked_at_before_it_has_a_limit_to_keep() -> None:
    scope = netio.move_on_after(5, name="lookup")
    assert (scope.name, scope.expired(), scope.caught, scope.overrun) == ("lookup", False, False, 0)


def test_a_scope_can_be_made_where_no_loop_runs() -> None:
    assert repr(netio.timeout(5, name="lookup")) == "<Scope lookup [created] delay=5.000>"


@pytest.mark.virtual_clock
async def test_a_scope_is_used_once() -> None:
    async with netio.timeout(5, name="lookup") as scope:
        with pytest.raises(RuntimeError, match="scope 'lookup' has already been entered"):
            async with scope:
                pass
    with pytest.raises(RuntimeError, match="used once"):
        await scope.__aenter__()
    assert virtual_loop().timers() == []


@pytest.mark.virtual_clock
async def test_a_scope_is_entered_inside_a_task() -> None:
    refused: asyncio.Future[Exception] = asyncio.get_running_loop().create_future()

    def callback() -> None:
        try:
            netio.timeout(5).__aenter__().send(None)
        except RuntimeError as error:
            refused.set_result(error)

    asyncio.get_running_loop().call_soon(callback)
    assert "must be entered inside a task" in str(await refused)
    assert virtual_loop().timers() == []


@pytest.mark.virtual_clock
async def test_a_scope_is_not_left_in_another_task() -> None:
    scope = netio.timeout(5, name="lookup")
    await asyncio.create_task(scope.__aenter__())
    with pytest.raises(RuntimeError, match="scope 'lookup' was left in another task"):
        await scope.__aexit__(None, None, None)
    assert virtual_loop().timers() == []


@pytest.mark.virtual_clock
async def test_a_scope_is_not_left_out_of_order() -> None:
    outer, inner = netio.timeout(5, name="outer"), netio.timeout(6, name="inner")
    await outer.__aenter__()
    await inner.__aenter__()
    with pytest.raises(RuntimeError, match="'outer' was left out of order: scope 'inner' is the"):
        await outer.__aexit__(None, None, None)
    assert virtual_loop().timers() == [6.0]
    await inner.__aexit__(None, None, None)
    assert (virtual_loop().timers(), netio.current_deadline()) == ([], math.inf)


@pytest.mark.virtual_clock
async def test_a_scope_is_left_once_and_not_before_it_was_entered() -> None:
    scope = netio.timeout(5)
    with pytest.raises(RuntimeError, match="is not entered"):
        await scope.__aexit__(None, None, None)
    async with scope:
        pass
    with pytest.raises(RuntimeError, match="is not entered"):
        await scope.__aexit__(None, None, None)


@pytest.mark.virtual_clock
async def test_an_exit_stack_can_hold_scopes() -> None:
    async with contextlib.AsyncExitStack() as stack:
        for delay in (5, 4, 3):
            await stack.enter_async_context(netio.timeout(delay))
        assert netio.current_deadline() == 3.0
    assert netio.current_deadline() == math.inf


def test_a_forgotten_generator_can_be_closed_when_no_loop_runs() -> None:
    async def numbers() -> AsyncGenerator[int, None]:
        async with netio.timeout(5):
            yield 1

    async def main() -> AsyncGenerator[int, None]:
        generator = numbers()
        await anext(generator)
        return generator

    loop = VirtualLoop()
    generator = loop.run_until_complete(main())
    loop.close()
    with pytest.raises(RuntimeError, match="was left in another task"):
        generator.aclose().send(None)


async def test_a_task_that_is_destroyed_inside_is_no_fault_of_the_block(
    recwarn: pytest.WarningsRecorder,
) -> None:
    """As with asyncio.timeout: the loop says that the task was destroyed, and that is all."""
    loop = asyncio.get_running_loop()
    said: list[str] = []
    loop.set_exception_handler(lambda _, context: said.append(context["message"]))

    async def forgotten() -> None:
        async with netio.timeout(None):  # a timer would keep the task
            await loop.create_future()

    asyncio.create_task(forgotten())  # noqa: RUF006
    await asyncio.sleep(0)
    gc.collect()
    await asyncio.sleep(0)
    gc.collect()
    assert said == ["Task was destroyed but it is pending!"]


# Law 3: the only clock is that of the loop. ----------------------------------------------------


@pytest.mark.virtual_clock
async def test_time_that_passes_without_a_suspension_cuts_nothing() -> None:
    async with netio.timeout(1) as scope:
        virtual_loop().advance(5)
        assert scope.remaining() == 0.0
    assert not scope.expired()
    await asyncio.sleep(0)


class EarlyLoop(VirtualLoop):
    """Timers ring up to half a millisecond early, as uvloop's do."""

    timers_set = 0

    def call_at(self, when: float, *args: Any, **kwargs: Any) -> asyncio.TimerHandle:
        self.timers_set += 1
        return super().call_at(when - 0.0005, *args, **kwargs)


def test_a_timer_that_rings_early_does_not_make_the_scope_early() -> None:
    async def main() -> None:
        with pytest.raises(netio.DeadlineExceeded):
            async with netio.timeout(1):
                await forever()

    loop = EarlyLoop()
    loop.run_until_complete(main())
    assert 1.0 <= loop.time() < 1.001
    assert loop.timers_set == 2
    loop.close()


def test_a_scope_can_be_made_under_one_loop_and_entered_under_another() -> None:
    async def make() -> netio.Scope:
        return netio.timeout(5)

    async def use(scope: netio.Scope) -> float:
        await asyncio.sleep(1)
        with pytest.raises(netio.DeadlineExceeded):
            async with scope:
                await forever()
        return virtual_loop().time()

    assert run(use(run(make()))) == 6.0


# Law 4: the nearest deadline counts. -----------------------------------------------------------


@pytest.mark.virtual_clock
async def test_the_current_deadline_is_the_nearest_of_the_enclosing_scopes() -> None:
    async with netio.timeout(5):
        async with netio.timeout(3):
            async with netio.timeout(None), netio.move_on_after(9):
                assert (netio.current_deadline(), netio.remaining()) == (3.0, 3.0)
        assert netio.current_deadline() == 5.0
    assert (netio.current_deadline(), netio.remaining()) == (math.inf, math.inf)


@pytest.mark.virtual_clock
async def test_what_remains_is_never_more_than_the_delay() -> None:
    rounded = 0
    for started in range(1, 100):
        await asyncio.sleep(started / 7)
        async with netio.timeout(0.05) as scope:
            rounded += scope.when() - virtual_loop().time() > 0.05
            assert scope.remaining() <= 0.05
            assert netio.remaining() <= 0.05
    assert rounded > 10  # where adding and taking away again gives more


async def test_a_thread_that_is_started_inside_reads_what_remains() -> None:
    async with netio.timeout(3600) as outer, netio.timeout(7200):
        assert await asyncio.to_thread(netio.current_deadline) == outer.when()
        assert 3500 < await asyncio.to_thread(netio.remaining) <= 3600
    assert await asyncio.to_thread(netio.remaining) == math.inf


@pytest.mark.virtual_clock
async def test_what_remains_is_never_negative() -> None:
    async with netio.timeout(1) as scope:
        virtual_loop().advance(5)
        assert (netio.remaining(), scope.remaining(), netio.current_deadline()) == (0.0, 0.0, 1.0)


@pytest.mark.virtual_clock
async def test_the_current_deadline_follows_one_that_is_moved() -> None:
    async with netio.timeout(5) as outer, netio.timeout(4):
        outer.reschedule(2)
        assert netio.current_deadline() == 2.0
        outer.reschedule(None)
        assert netio.current_deadline() == 4.0


@pytest.mark.virtual_clock
async def test_cleanup_after_the_expiry_still_reads_the_deadline_that_passed() -> None:
    with pytest.raises(netio.DeadlineExceeded):
        async with netio.timeout(1):
            try:
                await forever()
            finally:
                assert (netio.current_deadline(), netio.remaining()) == (1.0, 0.0)


def test_there_is_no_deadline_where_no_loop_runs() -> None:
    assert (netio.current_deadline(), netio.remaining()) == (math.inf, math.inf)


# Law 5: a scope that was left contributes nothing. ----------------------------------------------


@pytest.mark.virtual_clock
async def test_a_task_no_longer_reads_the_deadline_of_a_scope_that_was_left() -> None:
    read: list[float] = []

    async def child() -> None:
        read.append(netio.current_deadline())
        await asyncio.sleep(1)
        read.append(netio.current_deadline())

    async with netio.timeout(9):
        async with netio.timeout(5):
            task = asyncio.create_task(child())
            await asyncio.sleep(0)
        await task
    assert read == [5.0, 9.0]


@pytest.mark.virtual_clock
async def test_a_scope_that_a_task_opens_within_one_that_is_left_meanwhile_stands_alone() -> None:
    read: list[float] = []

    async def child() -> None:
        async with netio.timeout(7):
            await asyncio.sleep(1)
            read.append(netio.current_deadline())
        read.append(netio.current_deadline())

    async with netio.timeout(5):
        task = asyncio.create_task(child())
        await asyncio.sleep(0)
    await task
    assert read == [7.0, math.inf]


@pytest.mark.parametrize("overlap", [False, True])
@pytest.mark.virtual_clock
@pytest.mark.begins_later
async def test_a_chain_of_tasks_does_not_keep_the_scopes_it_has_left(overlap: bool) -> None:
    scopes: weakref.WeakSet[netio.Scope] = weakref.WeakSet()
    most = 0

    async def link(left: int) -> None:
        nonlocal most
        async with netio.timeout(100) as scope:
            scopes.add(scope)
            del scope
            if left % 10 == 0:
                gc.collect()
                most = max(most, len(scopes))
            if left:
                start(left - 1)
            else:
                over.set()
            if overlap:
                await asyncio.sleep(0)

    def start(left: int) -> None:
        task = asyncio.create_task(link(left))
        tasks.add(task)
        task.add_done_callback(tasks.discard)  # a task keeps its context, and so its last scope

    tasks: set[asyncio.Task[None]] = set()
    over = asyncio.Event()
    start(50)
    await over.wait()
    await asyncio.gather(*tasks)
    assert 0 < most <= 15


@pytest.mark.virtual_clock
async def test_a_scope_that_was_left_lets_go_of_its_task() -> None:
    async def child() -> netio.Scope:
        async with netio.move_on_after(1) as scope:
            await forever()
        return scope

    task = asyncio.create_task(child())
    scope = await task
    reference = weakref.ref(task)
    del task
    await asyncio.sleep(0)  # this tick was the task's doing
    gc.collect()
    assert scope.caught
    assert reference() is None


# Law 6: a scope interrupts the task that entered it, and no other. ------------------------------


@pytest.mark.virtual_clock
async def test_a_task_reads_the_deadline_it_inherited_and_is_not_cut_by_it() -> None:
    async def child() -> float:
        deadline = netio.current_deadline()
        await asyncio.sleep(9)
        return deadline

    with pytest.raises(netio.DeadlineExceeded):
        async with netio.timeout(5):
            task = asyncio.create_task(child())
            await forever()
    assert await task == 5.0
    assert virtual_loop().time() == 9.0


@pytest.mark.virtual_clock
async def test_a_child_that_is_cut_by_its_own_scope_leaves_its_parent_alone() -> None:
    async def child() -> None:
        with pytest.raises(netio.DeadlineExceeded):
            async with netio.timeout(1):
                await forever()

    async with netio.timeout(5):
        task = asyncio.create_task(child())
        await asyncio.sleep(2)
    assert task.done()
    await task


# Law 7: a deadline moves until it fires. --------------------------------------------------------


@pytest.mark.parametrize("moved", [2, 7.5])
@pytest.mark.virtual_clock
async def test_a_wait_in_progress_obeys_a_deadline_that_is_moved(moved: float) -> None:
    with pytest.raises(netio.DeadlineExceeded) as caught:
        async with netio.timeout(5) as scope:
            virtual_loop().call_later(1, scope.reschedule, moved)
            await forever()
    assert (virtual_loop().time(), caught.value.seconds) == (moved, moved)


@pytest.mark.virtual_clock
async def test_a_deadline_that_is_removed_does_not_fire() -> None:
    async with netio.timeout(5) as scope:
        virtual_loop().call_later(1, scope.reschedule, None)
        await asyncio.sleep(9)
    assert (scope.expired(), scope.when()) == (False, None)


@pytest.mark.virtual_clock
async def test_a_deadline_can_be_set_where_there_was_none() -> None:
    with pytest.raises(netio.DeadlineExceeded):
        async with netio.timeout(None) as scope:
            scope.reschedule(3)
            await forever()
    assert virtual_loop().time() == 3.0


@pytest.mark.virtual_clock
async def test_a_deadline_moved_into_the_past_fires_at_the_next_suspension() -> None:
    await asyncio.sleep(3)
    async with netio.move_on_after(5) as scope:
        scope.reschedule(1)
        assert not scope.expired()
        await forever()
    assert (scope.caught, virtual_loop().time()) == (True, 3.0)


@pytest.mark.virtual_clock
async def test_a_deadline_can_be_moved_in_the_very_tick_in_which_it_is_due() -> None:
    scope = netio.timeout_at(5)
    virtual_loop().call_at(5, scope.reschedule, 9)  # set before that of the scope: it comes first
    async with scope:
        await asyncio.sleep(7)
        assert scope.when() == 9.0
    assert not scope.expired()


@pytest.mark.virtual_clock
async def test_a_moved_deadline_leaves_one_timer() -> None:
    async with netio.timeout(5) as scope:
        for when in (4, 6, 3, 7):
            scope.reschedule(when)
        assert virtual_loop().timers() == [7.0]
    assert virtual_loop().timers() == []


@pytest.mark.virtual_clock
async def test_a_deadline_is_not_moved_before_entering_nor_after_firing_nor_after_leaving() -> None:
    scope = netio.timeout(1)
    with pytest.raises(RuntimeError, match="has not been entered"):
        scope.reschedule(5)
    with pytest.raises(netio.DeadlineExceeded):
        async with scope:
            try:
                await forever()
            finally:
                with pytest.raises(RuntimeError, match="expiring"):
                    scope.reschedule(5)
    with pytest.raises(RuntimeError, match="expired"):
        scope.reschedule(5)
    async with netio.timeout(1) as scope:
        pass
    with pytest.raises(RuntimeError, match="finished"):
        scope.reschedule(5)
    assert virtual_loop().timers() == []


# Law 8: delivered through the loop, and not in place of what has just arrived. ------------------


@pytest.mark.parametrize("delay", [0, -1])
@pytest.mark.virtual_clock
async def test_a_scope_of_zero_that_does_not_suspend_leaves_the_next_await_clean(
    delay: float,
) -> None:
    async with netio.timeout(delay) as scope:
        pass
    await asyncio.sleep(0)
    await asyncio.sleep(1)
    assert not scope.expired()
    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0


@pytest.mark.virtual_clock
async def test_a_wait_that_is_over_at_once_is_not_cut() -> None:
    future = asyncio.get_running_loop().create_future()
    future.set_result("data")
    async with netio.timeout(0):
        assert await future == "data"
    await asyncio.sleep(0)


@pytest.mark.virtual_clock
async def test_a_result_that_came_in_the_tick_of_the_expiry_is_not_lost() -> None:
    loop = asyncio.get_running_loop()
    future = loop.create_future()
    async with netio.timeout(None) as scope:
        loop.call_at(1, future.set_result, "data")
        scope.reschedule(1)
        assert await future == "data"
    assert not scope.expired()


@pytest.mark.virtual_clock
async def test_an_expiry_that_let_a_result_pass_cuts_the_next_suspension() -> None:
    loop = asyncio.get_running_loop()
    future = loop.create_future()
    got = None
    async with netio.move_on_after(None) as scope:
        loop.call_at(1, future.set_result, "data")
        scope.reschedule(1)
        got = await future
        await forever()
    assert (got, scope.caught, virtual_loop().time()) == ("data", True, 1.0)


@pytest.mark.virtual_clock
async def test_several_expiries_let_a_result_pass_and_then_the_outermost_answers() -> None:
    loop = asyncio.get_running_loop()
    future = loop.create_future()
    got = None
    with pytest.raises(netio.DeadlineExceeded) as caught:
        async with netio.timeout(None, name="outer") as outer:
            async with netio.timeout(None, name="inner") as inner:
                loop.call_at(1, future.set_result, "data")
                inner.reschedule(1)
                outer.reschedule(1)
                got = await future
                await forever()
    assert (got, caught.value.scope) == ("data", outer)


@pytest.mark.virtual_clock
async def test_a_scope_looks_again_only_once() -> None:
    turns = 0
    async with netio.move_on_after(0) as scope:
        while turns < 100:
            await AlreadyDone()
            turns += 1
    assert scope.caught
    assert turns < 3


@pytest.mark.virtual_clock
async def test_a_scope_that_let_a_result_pass_does_so_again_for_a_new_deadline() -> None:
    loop = asyncio.get_running_loop()
    got = []
    async with netio.timeout(None) as scope:
        for when in (1, 2):
            future = loop.create_future()
            loop.call_at(when, future.set_result, when)
            scope.reschedule(when)
            got.append(await future)
    assert got == [1, 2]


@pytest.mark.parametrize("timers_first", [False, True])
def test_bytes_that_came_in_the_tick_of_the_expiry_are_returned_or_still_readable(
    timers_first: bool,
) -> None:
    async def main() -> bytes:
        loop = asyncio.get_running_loop()
        ours, theirs = socket.socketpair()
        got = b""
        with ours, theirs:
            ours.setblocking(False)

            def stall() -> None:
                theirs.send(b"data")
                virtual_loop().advance(5)

            async with netio.move_on_after(3):
                loop.call_at(1, stall)
                got = await loop.sock_recv(ours, 100)
            return got or ours.recv(100)

    assert run(main(), timers_first=timers_first) == b"data"


# What a scope shows. ----------------------------------------------------------------------------


@pytest.mark.virtual_clock
async def test_a_scope_shows_its_name_its_state_and_its_deadline() -> None:
    scope = netio.move_on_after(1.5, name="lookup")
    seen = [repr(scope)]
    async with scope:
        seen.append(repr(scope))
        try:
            await forever()
        finally:
            seen.append(repr(scope))
    seen.append(repr(scope))
    assert seen == [
        "<Scope lookup [created] delay=1.500>",
        "<Scope lookup [active] when=1.500>",
        "<Scope lookup [expiring] when=1.500>",
        "<Scope lookup [expired] when=1.500>",
    ]
    assert repr(netio.timeout(None)) == "<Scope [created]>"


@pytest.mark.virtual_clock
async def test_overrun_is_the_time_from_firing_to_leaving() -> None:
    async with netio.move_on_after(1) as scope:
        try:
            await forever()
        finally:
            await asyncio.sleep(0.5)
    assert scope.overrun == 0.5


# On the loop that --loop names, whose clock and descriptors are real. ---------------------------


@pytest.mark.real_time("the real clock is measured")
async def test_a_scope_expires_on_a_real_clock_and_never_early() -> None:
    loop = asyncio.get_running_loop()
    with pytest.raises(netio.DeadlineExceeded):
        async with netio.timeout_at(loop.time() + 0.005) as scope:
            await forever()
    assert loop.time() >= scope.when()


@pytest.mark.real_time("the loop is blocked until its own timer is due")
async def test_an_outside_cancel_beats_an_expiry_that_a_blocked_loop_meets_with_it() -> None:
    async def child(scope: netio.Scope) -> None:
        async with scope:
            await forever()

    scope = netio.timeout(0.002)
    task = asyncio.create_task(child(scope))
    await asyncio.sleep(0)
    task.cancel()
    time.sleep(0.004)  # the timer is due as well, and has not run yet
    await asyncio.wait([task])
    assert (task.cancelled(), scope.caught) == (True, False)


@pytest.mark.real_time("the loop is blocked until its own timer is due")
async def test_bytes_that_came_while_the_loop_was_blocked_are_returned_or_still_readable() -> None:
    loop = asyncio.get_running_loop()
    ours, theirs = socket.socketpair()
    got = b""
    with ours, theirs:
        ours.setblocking(False)

        def stall() -> None:
            theirs.send(b"data")
            time.sleep(0.004)

        async with netio.move_on_after(0.002):
            loop.call_soon(stall)
            got = await loop.sock_recv(ours, 100)
        assert (got or ours.recv(100)) == b"data"
