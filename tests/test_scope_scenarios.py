"""Known ways in which limits go wrong, in asyncio and elsewhere: what netio does with each.

The numbers are those of the table in ``docs/laws.md``.
"""

import asyncio
import math
import signal
import socket
import sys
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from typing import Any

import pytest
from silence import silence
from virtual import TASK_FACTORIES, run_with, virtual_loop

import netio
from netio.testing import run

# Before 3.13, a task group whose child failed left the count of cancels of its task raised by one.
GROUPS_LEAVE_A_COUNT = sys.version_info < (3, 13)


def this_task() -> "asyncio.Task[Any]":
    task = asyncio.current_task()
    assert task is not None
    return task


async def forever() -> None:
    await asyncio.get_running_loop().create_future()


async def fail_after(seconds: float) -> None:
    await asyncio.sleep(seconds)
    raise ZeroDivisionError


# Lost or invented cancellations. ----------------------------------------------------------------


@pytest.mark.virtual_clock
async def test_b01_a_cancel_pending_at_entry_wins_over_an_expired_scope() -> None:
    this_task().cancel()
    with pytest.raises(asyncio.CancelledError):
        async with netio.timeout(0):
            await forever()


@pytest.mark.virtual_clock
async def test_b01_a_cancel_pending_at_entry_wins_over_a_scope_that_expires_in_its_cleanup() -> (
    None
):
    this_task().cancel()
    with pytest.raises(asyncio.CancelledError):
        async with netio.timeout(2):
            try:
                await forever()
            finally:
                await asyncio.sleep(5)


def test_b01_control_c_wins_over_an_expired_scope() -> None:
    async def main() -> None:
        signal.raise_signal(signal.SIGINT)
        async with netio.timeout(0):
            await forever()

    with pytest.raises(KeyboardInterrupt):
        run(main())


@pytest.mark.virtual_clock
async def test_b02_nan_is_refused_and_delays_no_other_timer() -> None:
    loop = virtual_loop()
    rang: list[float] = []
    for when in (5, math.nan, 3, 1, 20):
        if math.isnan(when):
            with pytest.raises(ValueError, match="NaN"):
                netio.timeout(when)
            continue
        loop.call_at(when, lambda: rang.append(loop.time()))
    await asyncio.sleep(30)
    assert rang == [1, 3, 5, 20]


def test_b03_a_scope_around_a_task_group_that_failed_is_right_or_cautious_and_says_so(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def main() -> None:
        async with netio.timeout(5):
            try:
                async with asyncio.TaskGroup() as group:
                    group.create_task(fail_after(1))
            except* ZeroDivisionError:
                pass
            await forever()

    async def outcome() -> type[BaseException] | None:
        task = asyncio.create_task(main())
        await asyncio.wait([task])
        return asyncio.CancelledError if task.cancelled() else type(task.exception())

    raised = run(outcome(), debug=True)
    said = [record.getMessage() for record in caplog.records if record.name == "netio"]
    if GROUPS_LEAVE_A_COUNT:
        assert raised is asyncio.CancelledError
        assert len(said) == 1
        assert "asyncio.TaskGroup" in said[0]
    else:
        assert (raised, said) == (netio.DeadlineExceeded, [])


@pytest.mark.virtual_clock
async def test_b04_a_scope_around_groups_that_fail_together_still_ends_the_body() -> None:
    async def body() -> None:
        async with netio.timeout(3):
            async with asyncio.TaskGroup() as outer:
                outer.create_task(fail_after(1))
                try:
                    async with asyncio.TaskGroup() as inner:
                        inner.create_task(fail_after(1))
                except* ZeroDivisionError:
                    pass
                await forever()  # before 3.13 the group's own cancel is lost, and this is reached

    task = asyncio.create_task(body())
    await asyncio.wait([task])
    assert not task.cancelled()
    assert isinstance(task.exception(), ExceptionGroup)
    assert virtual_loop().time() == (3.0 if GROUPS_LEAVE_A_COUNT else 1.0)


@pytest.mark.virtual_clock
async def test_b05_a_scope_leaves_no_count_from_which_a_task_group_makes_a_phantom_cancel() -> None:
    for way_out in ("expires", "swallows"):
        async with netio.move_on_after(1):
            try:
                await forever()
            except asyncio.CancelledError:
                if way_out == "expires":
                    raise
        with pytest.raises(ExceptionGroup):
            async with asyncio.TaskGroup() as group:
                group.create_task(fail_after(1))
                await group.create_task(asyncio.sleep(0))
        await asyncio.sleep(0)


@pytest.mark.virtual_clock
async def test_b06_a_scope_never_cancels_the_running_task() -> None:
    async with netio.timeout(0) as expired:
        pass
    async with netio.timeout(None) as cancelled:
        cancelled.cancel()
    async with netio.timeout(5) as moved:
        moved.reschedule(-1)
    await asyncio.sleep(0)
    assert not expired.expired()
    assert not moved.expired()


@pytest.mark.virtual_clock
async def test_b07_a_cancel_that_wait_for_swallows_is_still_not_called_a_timeout() -> None:
    loop = virtual_loop()
    future = loop.create_future()
    loop.call_at(1, future.set_result, "value")
    loop.call_at(1, this_task().cancel)
    with pytest.raises(asyncio.CancelledError):
        async with netio.timeout(3):
            await asyncio.wait_for(future, 2)
            await forever()


@pytest.mark.virtual_clock
async def test_b08_a_scope_that_has_expired_at_entry_cancels_nothing_after_it() -> None:
    async with netio.move_on_after(-1):
        pass
    await asyncio.sleep(0)


@pytest.mark.virtual_clock
async def test_b08_an_error_or_a_swallow_leaves_no_count() -> None:
    with pytest.raises(ZeroDivisionError):
        async with netio.timeout(1):
            try:
                await forever()
            finally:
                raise ZeroDivisionError
    async with netio.timeout(1):
        try:
            await forever()
        except asyncio.CancelledError:
            pass
    assert this_task().cancelling() == 0


@pytest.mark.virtual_clock
async def test_b08_a_count_from_before_does_not_hide_an_expiry() -> None:
    this_task().cancel()
    with pytest.raises(asyncio.CancelledError):
        await forever()
    with pytest.raises(netio.DeadlineExceeded):
        async with netio.timeout(1):
            await forever()


@pytest.mark.virtual_clock
async def test_b08_a_scope_in_the_cleanup_of_an_expired_one_is_seen() -> None:
    with pytest.raises(netio.DeadlineExceeded) as caught:
        async with netio.timeout(1, name="outer"):
            try:
                await forever()
            finally:
                with pytest.raises(netio.DeadlineExceeded, match="cleanup"):
                    async with netio.timeout(1, name="cleanup"):
                        await forever()
    assert caught.match("outer")


@pytest.mark.virtual_clock
async def test_b08_a_group_of_nothing_but_cancellation_is_an_expiry() -> None:
    with pytest.raises(netio.DeadlineExceeded):
        async with netio.timeout(1):
            try:
                await forever()
            except asyncio.CancelledError as cancelled:
                raise BaseExceptionGroup("", [cancelled]) from None


@pytest.mark.virtual_clock
@pytest.mark.begins_later
async def test_b09_a_child_reads_no_deadline_of_a_scope_that_was_left() -> None:
    async def child() -> float:
        return netio.current_deadline()

    async with netio.timeout(0.5):
        task = asyncio.create_task(child())
    assert await task == math.inf


@pytest.mark.virtual_clock
async def test_b10_a_subclass_of_the_cancellation_is_converted() -> None:
    class Stopped(asyncio.CancelledError):
        pass

    with pytest.raises(netio.DeadlineExceeded):
        async with netio.timeout(1):
            try:
                await forever()
            except asyncio.CancelledError:
                raise Stopped from None


@pytest.mark.skipif(sys.version_info < (3, 12), reason="asyncio has eager tasks since 3.12")
def test_b11_an_eager_child_that_fails_at_once_is_not_called_a_timeout() -> None:
    async def fail() -> None:
        raise ZeroDivisionError

    async def main() -> None:
        async with netio.timeout(3):
            try:
                async with asyncio.TaskGroup() as group:
                    group.create_task(fail())
            except* ZeroDivisionError:
                pass
            await forever()

    # Python 3.12's group leaves a cancel pending, which the next await of the task meets.
    expected = asyncio.CancelledError if GROUPS_LEAVE_A_COUNT else netio.DeadlineExceeded
    with pytest.raises(expected):
        run_with(asyncio.eager_task_factory, main())


def test_b13_a_scope_outside_a_task_says_so() -> None:
    async def main() -> None:
        said: list[str] = []

        def callback() -> None:
            try:
                netio.timeout(1, name="lookup").__aenter__().send(None)
            except RuntimeError as error:
                said.append(str(error))

        asyncio.get_running_loop().call_soon(callback)
        await asyncio.sleep(0)
        assert said == ["scope 'lookup' must be entered inside a task"]

    run(main())


@pytest.mark.parametrize("cancel_first", [False, True])
@pytest.mark.virtual_clock
async def test_b14_a_cancel_in_the_tick_of_the_expiry_is_not_turned_into_a_timeout(
    cancel_first: bool,
) -> None:
    if cancel_first:
        virtual_loop().call_at(1, this_task().cancel)
    with pytest.raises(asyncio.CancelledError):
        async with netio.timeout_at(1):
            if not cancel_first:
                virtual_loop().call_at(1, this_task().cancel)
            await forever()


# Lost data and leaked sockets. ------------------------------------------------------------------


@pytest.mark.parametrize("timers_first", [False, True])
def test_b15_sock_recv_under_a_scope_keeps_its_bytes(timers_first: bool) -> None:
    async def main() -> bytes:
        got = b""
        ours, theirs = socket.socketpair()
        with ours, theirs:
            ours.setblocking(False)
            virtual_loop().call_at(1, theirs.send, b"data")
            virtual_loop().call_at(1, virtual_loop().advance, 5)
            async with netio.move_on_after(3):
                got = await virtual_loop().sock_recv(ours, 100)
            return got or ours.recv(100)

    assert run(main(), timers_first=timers_first) == b"data"


@pytest.mark.parametrize("limit", ["call", "scope"])
@pytest.mark.parametrize("timers_first", [False, True])
def test_b15_a_read_in_that_race_keeps_its_bytes(limit: str, timers_first: bool) -> None:
    async def main() -> bytes:
        got = b""
        ours, theirs = socket.socketpair()
        async with netio.open_stream(ours) as stream:
            with theirs:
                virtual_loop().call_at(1, theirs.send, b"data")
                virtual_loop().call_at(1, virtual_loop().advance, 5)
                try:
                    async with netio.timeout(3 if limit == "scope" else None):
                        got = await stream.read_exactly(4, timeout=3 if limit == "call" else None)
                except netio.DeadlineExceeded:
                    pass
                return got or await stream.read_exactly(4, timeout=0)

    assert run(main(), timers_first=timers_first) == b"data"


@pytest.mark.virtual_clock
async def test_b16_sock_accept_under_a_scope_returns_the_connection() -> None:
    # In the stock loop's order. In the other, asyncio accepts for a future that is cancelled.
    with socket.create_server(("127.0.0.1", 0)) as listener, socket.socket() as client:
        listener.setblocking(False)
        virtual_loop().call_at(1, client.connect, listener.getsockname())
        virtual_loop().call_at(1, virtual_loop().advance, 5)
        async with netio.timeout(3) as scope:
            accepted, _ = await virtual_loop().sock_accept(listener)
        accepted.close()
    assert not scope.expired()


@pytest.mark.virtual_clock
async def test_b17_a_result_that_came_in_the_tick_of_the_expiry_is_returned() -> None:
    future = virtual_loop().create_future()
    virtual_loop().call_at(3, future.set_result, "value")
    async with netio.timeout(3):
        assert await future == "value"


@pytest.mark.virtual_clock
async def test_b20_a_bare_await_of_a_shared_task_cancels_it_as_python_does() -> None:
    shared = asyncio.create_task(asyncio.sleep(5))
    async with netio.move_on_after(1):
        await shared
    assert shared.cancelled()


@pytest.mark.virtual_clock
async def test_b20_a_shared_task_that_is_shielded_goes_on() -> None:
    shared = asyncio.create_task(asyncio.sleep(5, "result"))
    async with netio.move_on_after(1):
        await asyncio.shield(shared)
    assert await shared == "result"


@pytest.mark.parametrize("limit", ["call", "scope"])
@pytest.mark.virtual_clock
async def test_b21_a_read_that_is_cut_has_consumed_nothing(limit: str) -> None:
    ours, theirs = socket.socketpair()
    async with netio.open_stream(ours) as stream:
        with theirs:
            theirs.send(b"da")
            with pytest.raises(netio.DeadlineExceeded) as caught:
                async with netio.timeout(1 if limit == "scope" else None):
                    await stream.read_exactly(4, timeout=1 if limit == "call" else None)
            theirs.send(b"ta")
            assert await stream.read_exactly(4) == b"data"
    assert (caught.value.limit, caught.value.done, caught.value.expected) == (limit, 2, 4)


# Stuck, slow or busy. ---------------------------------------------------------------------------


@pytest.mark.virtual_clock
async def test_b22_a_body_that_goes_on_waiting_is_cut_once_and_not_over_and_over() -> None:
    cuts = 0
    async with netio.move_on_after(1):
        while virtual_loop().time() < 20:
            try:
                await asyncio.sleep(5)
            except asyncio.CancelledError:
                cuts += 1
    assert cuts == 1


@pytest.mark.virtual_clock
async def test_b22_with_a_grace_it_is_cut_again_after_pauses_that_double() -> None:
    cuts = []
    async with netio.move_on_after(1, grace=2):
        while virtual_loop().time() < 20:
            try:
                await asyncio.sleep(50)
            except asyncio.CancelledError:
                cuts.append(virtual_loop().time())
    assert cuts == [1.0, 3.0, 7.0, 15.0, 31.0]


@pytest.mark.virtual_clock
async def test_b23_overrun_tells_how_long_a_condition_held_the_block_past_its_limit() -> None:
    condition = asyncio.Condition()

    async def hold() -> None:
        await asyncio.sleep(1)
        async with condition:
            await asyncio.sleep(5)

    holder = asyncio.create_task(hold())
    with pytest.raises(netio.DeadlineExceeded) as caught:
        async with netio.timeout(2) as scope:
            async with condition:
                await condition.wait()
    assert (scope.overrun, caught.value.seconds, caught.value.elapsed) == (4.0, 2.0, 6.0)
    await holder


@pytest.mark.virtual_clock
async def test_b24_a_body_that_swallows_its_expiry_can_be_told() -> None:
    async with netio.timeout(1) as scope:
        try:
            await forever()
        except asyncio.CancelledError:
            await asyncio.sleep(20)
    assert (scope.expired(), scope.caught, scope.overrun) == (True, False, 20.0)


@pytest.mark.virtual_clock
async def test_b24_a_body_that_swallows_its_expiry_is_reported_after_a_while(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with netio.timeout(1, name="swallowed"):
        try:
            await forever()
        except asyncio.CancelledError:
            await asyncio.sleep(20)
    [message] = [record.getMessage() for record in caplog.records if record.name == "netio"]
    assert message.startswith("scope 'swallowed' has fired 5.0 s ago, and its block still runs")


@pytest.mark.parametrize("by", ["a native cancel", "a limit of asyncio"])
@pytest.mark.virtual_clock
async def test_b25_nothing_from_outside_pierces_a_shield(by: str) -> None:
    said = []
    async with silence() as silent:
        outcome = asyncio.CancelledError if by == "a native cancel" else TimeoutError
        with pytest.raises(outcome):
            async with asyncio.timeout(1 if by == "a limit of asyncio" else None):
                if by == "a native cancel":
                    virtual_loop().call_at(1, this_task().cancel)
                async with netio.shield(10):
                    await silent.wait(3)
                    said.append("goodbye")
    assert (said, virtual_loop().time()) == (["goodbye"], 3.0)
    while this_task().cancelling():
        this_task().uncancel()


@pytest.mark.virtual_clock
async def test_b26_a_retry_loop_inside_an_expired_scope_ends() -> None:
    tries = 0
    with pytest.raises(netio.DeadlineExceeded):
        async with netio.timeout(1):
            while True:
                tries += 1
                try:
                    async with netio.timeout(5):
                        await forever()
                except TimeoutError:
                    pass
    assert tries == 1


@pytest.mark.virtual_clock
async def test_b26_an_expiry_is_reported_and_a_cancel_by_hand_is_not_called_too_slow() -> None:
    with pytest.raises(netio.DeadlineExceeded):
        async with netio.timeout(1):
            await forever()
    async with netio.timeout(1) as scope:
        scope.cancel()
        await forever()
    assert (scope.expired(), scope.caught) == (False, True)


@pytest.mark.parametrize("delays", [(None, 1), (1, None), (None, 1, None), (5, None, 1)])
@pytest.mark.virtual_clock
async def test_b27_none_nests_with_limits_at_every_level(delays: tuple[float | None, ...]) -> None:
    async def nest(left: tuple[float | None, ...]) -> None:
        if not left:
            assert netio.current_deadline() == 1.0
            await forever()
        async with netio.timeout(left[0]):
            await nest(left[1:])

    with pytest.raises(netio.DeadlineExceeded) as caught:
        await nest(delays)
    assert caught.value.seconds == 1.0


@pytest.mark.virtual_clock
async def test_b28_a_limit_is_for_the_whole_call_however_steadily_the_bytes_drip() -> None:
    ours, theirs = socket.socketpair()
    async with netio.open_stream(ours) as stream:
        with theirs:
            for number in range(100):
                virtual_loop().call_at(number * 0.5, theirs.send, b"x")
            with pytest.raises(netio.DeadlineExceeded) as caught:
                await stream.read_exactly(100, timeout=3.25)
            assert virtual_loop().time() == 3.25
            assert caught.value.done == stream.buffered == 7
            await asyncio.sleep(50)


# Structure. -------------------------------------------------------------------------------------


async def two_numbers() -> AsyncGenerator[int, None]:
    async with netio.timeout(1, name="generator"):
        yield 1
        yield 2


@pytest.mark.virtual_clock
async def test_b29_a_scope_left_open_by_a_yield_cancels_its_consumer_and_can_be_closed() -> None:
    # What Python gives: the scope can't know that its block is suspended at a yield.
    async with aclosing(two_numbers()) as numbers:
        with pytest.raises(asyncio.CancelledError):
            async for _ in numbers:
                await asyncio.sleep(5)
    assert this_task().cancelling() == 0


@pytest.mark.virtual_clock
async def test_b29_leaving_a_scope_around_an_open_generator_asks_about_a_yield() -> None:
    numbers = two_numbers()
    with pytest.raises(RuntimeError, match=r"'generator' is the innermost .* \(a yield inside"):
        async with netio.timeout(5):
            await anext(numbers)
    await numbers.aclose()
    assert virtual_loop().timers() == []


@pytest.mark.parametrize("tasks", TASK_FACTORIES)
@pytest.mark.virtual_clock
async def test_b29_a_generator_that_another_task_closes_says_so_and_leaves_no_timer(
    tasks: str,
) -> None:
    virtual_loop().set_task_factory(TASK_FACTORIES[tasks])
    numbers: AsyncIterator[int] = two_numbers()

    async def take_one() -> int:
        return await anext(numbers)

    assert await asyncio.create_task(take_one()) == 1
    with pytest.raises(RuntimeError, match="'generator' was left in another task"):
        await numbers.aclose()  # type: ignore[attr-defined]
    assert virtual_loop().timers() == []


@pytest.mark.virtual_clock
async def test_b30_a_timeout_of_the_body_is_not_mistaken_for_that_of_the_scope() -> None:
    kernel = TimeoutError(110, "Connection timed out")
    with pytest.raises(TimeoutError) as caught:
        async with netio.timeout(1) as scope:
            raise kernel
    assert caught.value is kernel
    assert not scope.expired()
    with pytest.raises(netio.DeadlineExceeded) as own:
        async with netio.timeout(1) as scope:
            await forever()
    assert own.value.scope is scope
    assert str(own.value)


@pytest.mark.virtual_clock
async def test_b31_an_error_of_the_cleanup_tells_that_the_scope_had_expired() -> None:
    with pytest.raises(ZeroDivisionError) as caught:
        async with netio.timeout(1, name="lookup"):
            try:
                await forever()
            finally:
                raise ZeroDivisionError
    assert caught.value.__notes__ == ["scope 'lookup' had expired 0.000 s before"]


@pytest.mark.parametrize("delay", [0, -1])
@pytest.mark.virtual_clock
async def test_b32_zero_and_less_fire_at_the_first_suspension_also_in_cleanup(delay: float) -> None:
    with pytest.raises(netio.DeadlineExceeded) as caught:
        async with netio.timeout(1) as outer:
            try:
                await forever()
            finally:
                with pytest.raises(netio.DeadlineExceeded):
                    async with netio.timeout(delay):
                        await asyncio.sleep(0)
    assert caught.value.scope is outer


@pytest.mark.virtual_clock
async def test_b33_a_block_that_never_suspends_is_not_failed() -> None:
    async with netio.timeout(1) as scope:
        virtual_loop().advance(5)
    assert not scope.expired()


@pytest.mark.virtual_clock
async def test_b34_the_scope_and_the_error_go_by_one_number() -> None:
    await asyncio.sleep(0.1)
    with pytest.raises(netio.DeadlineExceeded) as caught:
        async with netio.timeout(0.2) as scope:
            assert scope.when() == netio.current_deadline()
            await forever()
    assert virtual_loop().time() == scope.when()
    assert caught.value.seconds == 0.2 <= caught.value.elapsed < 0.2 + 1e-9  # as floats add up
