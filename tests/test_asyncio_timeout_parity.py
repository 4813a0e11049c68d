"""A drop-in for `asyncio.timeout`: each test runs with both, and with both it must pass.

After CPython's own ``test_asyncio/test_timeouts.py``, on a virtual clock. Where netio differs on
purpose (a delay counts from entering; law 16; law 18) there is a test elsewhere.
"""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from virtual import virtual_loop

import netio

LIBRARIES = [pytest.param(asyncio, id="asyncio"), pytest.param(netio, id="netio")]
with_both = pytest.mark.parametrize("library", LIBRARIES)


def this_task() -> "asyncio.Task[Any]":
    task = asyncio.current_task()
    assert task is not None
    return task


async def forever() -> None:
    await asyncio.get_running_loop().create_future()


def state_of(limit: Any) -> str:
    """The state that the repr tells, for instance of ``<Timeout [active] when=1.0>``."""
    return repr(limit).partition("[")[2].replace("]", " ").split()[0]


# When it fires. ---------------------------------------------------------------------------------


@with_both
@pytest.mark.virtual_clock
async def test_a_limit_raises_timeout_error_and_cancels_the_body(library: Any) -> None:
    cancelled = False
    with pytest.raises(TimeoutError):
        async with library.timeout(0.5) as limit:
            try:
                await forever()
            except asyncio.CancelledError:
                cancelled = True
                raise
    assert (cancelled, limit.expired(), virtual_loop().time()) == (True, True, 0.5)


@with_both
@pytest.mark.virtual_clock
async def test_a_limit_at_a_point_fires_there(library: Any) -> None:
    await asyncio.sleep(1)
    with pytest.raises(TimeoutError):
        async with library.timeout_at(1.5) as limit:
            await forever()
    assert (limit.expired(), limit.when(), virtual_loop().time()) == (True, 1.5, 1.5)


@pytest.mark.parametrize("delay", [0, -1])
@with_both
@pytest.mark.virtual_clock
async def test_zero_and_less_cut_the_first_suspension(library: Any, delay: float) -> None:
    with pytest.raises(TimeoutError):
        async with library.timeout(delay) as limit:
            await asyncio.sleep(0)
    assert limit.expired()


@pytest.mark.parametrize("when", [0, 0.5, 1])
@with_both
@pytest.mark.virtual_clock
async def test_a_point_that_is_not_in_the_future_cuts_the_first_suspension(
    library: Any, when: float
) -> None:
    await asyncio.sleep(1)
    with pytest.raises(TimeoutError):
        async with library.timeout_at(when):
            await asyncio.sleep(0)


@with_both
@pytest.mark.virtual_clock
async def test_none_is_no_limit(library: Any) -> None:
    for limit in (library.timeout(None), library.timeout_at(None)):
        async with limit:
            await asyncio.sleep(100)
        assert (limit.expired(), limit.when()) == (False, None)


@with_both
@pytest.mark.virtual_clock
async def test_what_is_done_in_time_is_not_cut_and_no_timer_is_left(library: Any) -> None:
    async with library.timeout(1) as limit:
        await asyncio.sleep(0.5)
    assert not limit.expired()
    assert virtual_loop().timers() == []
    await asyncio.sleep(5)


# when(), expired() and the states. --------------------------------------------------------------


@with_both
@pytest.mark.virtual_clock
async def test_when_is_told_in_every_state(library: Any) -> None:
    limit = library.timeout_at(1)
    seen = [limit.when()]
    with pytest.raises(TimeoutError):
        async with limit:
            seen.append(limit.when())
            await forever()
    seen.append(limit.when())
    assert seen == [1, 1, 1]


@with_both
@pytest.mark.virtual_clock
async def test_the_states_of_a_limit_that_fires(library: Any) -> None:
    limit = library.timeout(1)
    seen = [(state_of(limit), limit.expired())]
    with pytest.raises(TimeoutError):
        async with limit:
            seen.append((state_of(limit), limit.expired()))
            try:
                await forever()
            finally:
                seen.append((state_of(limit), limit.expired()))
    seen.append((state_of(limit), limit.expired()))
    assert seen == [("created", False), ("active", False), ("expiring", True), ("expired", True)]


@with_both
@pytest.mark.virtual_clock
async def test_the_states_of_a_limit_that_does_not_fire(library: Any) -> None:
    limit = library.timeout(1)
    async with limit:
        await asyncio.sleep(0)
    assert (state_of(limit), limit.expired()) == ("finished", False)


@with_both
@pytest.mark.virtual_clock
async def test_a_limit_that_was_swallowed_has_expired(library: Any) -> None:
    async with library.timeout(1) as limit:
        try:
            await forever()
        except asyncio.CancelledError:
            pass
    assert (state_of(limit), limit.expired(), this_task().cancelling()) == ("expired", True, 0)


@with_both
@pytest.mark.virtual_clock
async def test_a_limit_that_an_outside_cancel_beat_has_expired_all_the_same(library: Any) -> None:
    with pytest.raises(asyncio.CancelledError):
        async with library.timeout(1) as limit:
            virtual_loop().call_at(1, this_task().cancel)
            await forever()
    assert (state_of(limit), limit.expired()) == ("expired", True)


@with_both
@pytest.mark.virtual_clock
async def test_a_body_that_fails_before_the_limit_has_finished(library: Any) -> None:
    with pytest.raises(KeyError):
        async with library.timeout(1) as limit:
            raise KeyError
    assert (state_of(limit), virtual_loop().timers()) == ("finished", [])


# reschedule(). ----------------------------------------------------------------------------------


@pytest.mark.parametrize("moved", [2, 9])
@with_both
@pytest.mark.virtual_clock
async def test_a_limit_can_be_moved(library: Any, moved: float) -> None:
    with pytest.raises(TimeoutError):
        async with library.timeout(5) as limit:
            limit.reschedule(moved)
            assert limit.when() == moved
            await forever()
    assert virtual_loop().time() == moved


@with_both
@pytest.mark.virtual_clock
async def test_a_limit_can_be_removed_and_set_again(library: Any) -> None:
    with pytest.raises(TimeoutError):
        async with library.timeout(5) as limit:
            limit.reschedule(None)
            assert (limit.when(), virtual_loop().timers()) == (None, [])
            await asyncio.sleep(7)
            limit.reschedule(8)
            await forever()
    assert virtual_loop().time() == 8


@with_both
@pytest.mark.virtual_clock
async def test_a_limit_moved_into_the_past_cuts_the_next_suspension(library: Any) -> None:
    with pytest.raises(TimeoutError):
        async with library.timeout(5) as limit:
            limit.reschedule(-1)
            await asyncio.sleep(0)


@with_both
@pytest.mark.virtual_clock
async def test_a_limit_cannot_be_moved_before_it_is_entered(library: Any) -> None:
    with pytest.raises(RuntimeError):
        library.timeout(1).reschedule(2)


@with_both
@pytest.mark.virtual_clock
async def test_a_limit_cannot_be_moved_while_it_expires_nor_after(library: Any) -> None:
    with pytest.raises(TimeoutError):
        async with library.timeout(1) as limit:
            try:
                await forever()
            finally:
                with pytest.raises(RuntimeError, match="expiring"):
                    limit.reschedule(5)
    with pytest.raises(RuntimeError, match="expired"):
        limit.reschedule(5)


@with_both
@pytest.mark.virtual_clock
async def test_a_limit_cannot_be_moved_after_it_was_left(library: Any) -> None:
    async with library.timeout(1) as limit:
        pass
    with pytest.raises(RuntimeError, match="finished"):
        limit.reschedule(5)


# Use, and misuse. -------------------------------------------------------------------------------


@with_both
@pytest.mark.virtual_clock
async def test_a_limit_is_entered_once(library: Any) -> None:
    async with library.timeout(1) as limit:
        with pytest.raises(RuntimeError, match="entered"):
            async with limit:
                pass
    with pytest.raises(RuntimeError, match="entered"):
        async with limit:
            pass


@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.virtual_clock
async def test_a_limit_outside_a_task_is_a_runtime_error(library: Any) -> None:
    refused: asyncio.Future[bool] = asyncio.get_running_loop().create_future()

    def callback() -> None:
        try:
            library.timeout(1).__aenter__().send(None)
        except RuntimeError as error:
            refused.set_result("inside a task" in str(error))

    asyncio.get_running_loop().call_soon(callback)
    assert await refused


@with_both
@pytest.mark.virtual_clock
async def test_entering_and_leaving_do_not_suspend(library: Any) -> None:
    turns: list[int] = []
    asyncio.get_running_loop().call_soon(turns.append, 1)
    async with library.timeout(1):
        pass
    assert turns == []


# Nested, and with what else happens. ------------------------------------------------------------


@with_both
@pytest.mark.virtual_clock
async def test_nested_limits_the_outer_of_which_is_due_first(library: Any) -> None:
    cancelled = False
    with pytest.raises(TimeoutError):
        async with library.timeout(1) as outer:
            try:
                async with library.timeout(5) as inner:
                    await forever()
            except asyncio.CancelledError:
                cancelled = True
                raise
    assert (cancelled, outer.expired(), inner.expired()) == (True, True, False)


@with_both
@pytest.mark.virtual_clock
async def test_nested_limits_the_inner_of_which_is_due_first(library: Any) -> None:
    async with library.timeout(5) as outer:
        with pytest.raises(TimeoutError):
            async with library.timeout(1) as inner:
                await forever()
    assert (outer.expired(), inner.expired()) == (False, True)


@with_both
@pytest.mark.virtual_clock
async def test_nested_limits_that_are_due_together(library: Any) -> None:
    inner_raised = None
    with pytest.raises(TimeoutError):
        async with library.timeout(1) as outer:
            try:
                async with library.timeout(1) as inner:
                    await forever()
            except BaseException as error:
                inner_raised = type(error)
                raise
    assert inner_raised is asyncio.CancelledError
    assert (outer.expired(), inner.expired(), this_task().cancelling()) == (True, True, 0)


@with_both
@pytest.mark.virtual_clock
async def test_an_outside_cancel_passes(library: Any) -> None:
    virtual_loop().call_at(0.5, this_task().cancel)
    with pytest.raises(asyncio.CancelledError):
        async with library.timeout(1) as limit:
            await forever()
    assert (limit.expired(), this_task().cancelling()) == (False, 1)


@with_both
@pytest.mark.virtual_clock
async def test_an_error_of_the_cleanup_passes(library: Any) -> None:
    with pytest.raises(KeyError):
        async with library.timeout(1) as limit:
            try:
                await forever()
            finally:
                raise KeyError
    assert (limit.expired(), this_task().cancelling()) == (True, 0)


@with_both
@pytest.mark.virtual_clock
async def test_a_timeout_error_of_the_body_passes(library: Any) -> None:
    own = TimeoutError("the body's own")
    with pytest.raises(TimeoutError) as caught:
        async with library.timeout(1) as limit:
            raise own
    assert caught.value is own
    assert not limit.expired()


@with_both
@pytest.mark.virtual_clock
async def test_the_cause_of_the_error_is_the_cancellation(library: Any) -> None:
    with pytest.raises(TimeoutError) as caught:
        async with library.timeout(1):
            await forever()
    assert isinstance(caught.value.__cause__, asyncio.CancelledError)
    assert isinstance(caught.value.__context__, asyncio.CancelledError)


@with_both
@pytest.mark.virtual_clock
async def test_a_limit_in_the_cleanup_of_a_cancelled_task(library: Any) -> None:
    this_task().cancel()
    with pytest.raises(asyncio.CancelledError):
        try:
            await forever()
        finally:
            with pytest.raises(TimeoutError):
                async with library.timeout(1):
                    await forever()
    assert this_task().cancelling() == 1


@with_both
@pytest.mark.virtual_clock
async def test_a_limit_around_a_task_group(library: Any) -> None:
    async def child(seconds: float, call: Callable[[], None]) -> None:
        try:
            await asyncio.sleep(seconds)
        finally:
            call()

    ended: list[float] = []
    with pytest.raises(TimeoutError):
        async with library.timeout(1), asyncio.TaskGroup() as group:
            for seconds in (0.5, 5):
                group.create_task(child(seconds, lambda: ended.append(virtual_loop().time())))
    assert ended == [0.5, 1.0]
