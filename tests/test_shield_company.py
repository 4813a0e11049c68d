"""Shields in one another, among the limits of asyncio and anyio, and left by mistake (law 22)."""

import asyncio
import contextlib
import gc
import sys
import weakref
from collections.abc import AsyncGenerator, Callable, Coroutine
from typing import Any

import anyio
import pytest
from silence import Silence, forever, now, silence, this_task
from virtual import virtual_loop

import netio
from netio import _holding
from netio._holding import Hold
from netio.testing import VirtualLoop

Main = Callable[[], Coroutine[Any, Any, None]]


@pytest.fixture(autouse=True)
def nothing_is_held_afterwards() -> Any:
    yield
    assert not _holding.holds


# Several shields. ---------------------------------------------------------------------------------


@pytest.mark.virtual_clock
async def test_of_nested_shields_the_outermost_raises_what_was_held_back() -> None:
    done = []
    async with silence() as silent:
        virtual_loop().call_at(1, this_task().cancel, "first")
        virtual_loop().call_at(3, this_task().cancel, "second")
        with pytest.raises(asyncio.CancelledError) as caught:
            async with netio.shield(10):
                async with netio.shield(10):
                    await silent.wait(2)
                    done.append("inner")
                await silent.wait(2)
                done.append("outer")
        assert (done, caught.value.args) == (["inner", "outer"], ("first",))
        await asyncio.sleep(1)
    assert this_task().uncancel() == 1
    assert this_task().uncancel() == 0


@pytest.mark.virtual_clock
async def test_an_inner_shield_answers_at_its_bound_though_the_outer_one_holds_a_cancel() -> None:
    done = []
    async with silence() as silent:
        virtual_loop().call_at(1, this_task().cancel)
        with pytest.raises(asyncio.CancelledError):
            async with netio.shield(10):
                with pytest.raises(netio.DeadlineExceeded) as caught:
                    async with netio.shield(2):
                        await silent.wait()
                await silent.wait(1)
                done.append(caught.value.limit)
    assert (done, now()) == (["shield"], 3.0)
    assert this_task().uncancel() == 0


@pytest.mark.virtual_clock
async def test_an_inner_shield_holds_back_the_bound_of_the_outer_one() -> None:
    done = []
    async with silence() as silent:
        with pytest.raises(netio.DeadlineExceeded) as caught:
            async with netio.shield(1) as outer:
                async with netio.shield(10):
                    await silent.wait(3)
                    done.append(now())
                await silent.wait()
    assert (done, caught.value.scope, now()) == ([3.0], outer, 3.0)


@pytest.mark.virtual_clock
async def test_shields_of_two_tasks_have_nothing_to_do_with_each_other() -> None:
    async with silence() as one, silence() as two:

        async def shielded(silent: Silence) -> str:
            async with netio.shield(10):
                await silent.wait(5)
            return "done"

        first, second = (asyncio.create_task(shielded(silent)) for silent in (one, two))
        await asyncio.sleep(1)
        first.cancel()
        await asyncio.wait([first, second])
        assert (first.cancelled(), second.result()) == (True, "done")


@pytest.mark.virtual_clock
async def test_a_cancel_for_a_scope_between_two_holds_is_not_taken_by_the_shield_around_it() -> (
    None
):
    """As where a stream is closed, under a hold of its own, in a scope in a shield."""
    async with silence() as silent:
        virtual_loop().call_at(1, this_task().cancel, "outside")
        with pytest.raises(asyncio.CancelledError) as caught:
            async with netio.shield(10):
                with pytest.raises(netio.DeadlineExceeded):
                    async with netio.timeout(2):
                        with Hold() as hold:
                            await silent.wait(3)
                        held = hold.pass_out()
                        assert held is not None
                        raise asyncio.CancelledError(*held)
                await silent.wait(1)
        assert (now(), caught.value.args) == (4.0, ("outside",))
    assert this_task().uncancel() == 0


# Mistakes, and what is forgotten. -----------------------------------------------------------------


@pytest.mark.virtual_clock
async def test_shields_that_are_left_out_of_order_hold_nothing_back_any_more() -> None:
    async def generator() -> AsyncGenerator[None, None]:
        async with netio.shield(10):
            yield

    async with silence() as silent:
        held = generator()
        with pytest.raises(RuntimeError, match="a yield inside"):
            async with netio.shield(10):
                await anext(held)
        await held.aclose()
        virtual_loop().call_at(1, this_task().cancel)
        with pytest.raises(asyncio.CancelledError):
            await silent.wait(5)
    assert (now(), this_task().uncancel()) == (1.0, 0)


@pytest.mark.virtual_clock
async def test_a_mistake_in_leaving_does_not_lose_the_cancel() -> None:
    async def generator() -> AsyncGenerator[None, None]:
        async with netio.shield(10):
            yield

    async with silence() as silent:
        held = generator()
        virtual_loop().call_at(1, this_task().cancel)
        with pytest.raises(RuntimeError, match="a yield inside"):
            async with netio.shield(10):
                await silent.wait(2)
                await anext(held)
        with pytest.raises(asyncio.CancelledError):
            await asyncio.sleep(1)
        await held.aclose()
    assert this_task().uncancel() == 0


@pytest.mark.virtual_clock
async def test_a_shield_that_another_task_leaves_says_so_and_holds_nothing_back() -> None:
    async def generator() -> AsyncGenerator[None, None]:
        async with netio.shield(10):
            yield

    held = generator()
    await asyncio.create_task(anext(held))  # type: ignore[arg-type]
    with pytest.raises(RuntimeError, match="another task"):
        await held.aclose()


@pytest.mark.virtual_clock
async def test_a_shield_that_another_task_leaves_does_not_lose_the_cancel() -> None:
    async def generator() -> AsyncGenerator[None, None]:
        async with netio.shield(10):
            yield

    async def program() -> None:
        async with silence() as silent:
            await anext(held)
            await silent.wait(2)
            await asyncio.sleep(99)

    held = generator()
    task = asyncio.create_task(program())
    virtual_loop().call_at(1, task.cancel)
    await asyncio.sleep(3)
    with pytest.raises(RuntimeError, match="another task"):
        await held.aclose()
    await asyncio.wait([task])
    assert (task.cancelled(), task.cancelling(), now()) == (True, 1, 3.0)


def test_a_task_that_is_forgotten_in_a_shield_is_not_kept(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(sys.modules, "anyio")  # which keeps the tasks of its scopes itself
    unraisable: list[Any] = []
    monkeypatch.setattr(sys, "unraisablehook", unraisable.append)
    loop = VirtualLoop()

    async def body() -> None:
        async with netio.timeout(1), netio.move_on_after(0.5, grace=1), netio.shield(10):
            await loop.create_future()

    async def after_a_while() -> None:
        await asyncio.sleep(2)

    task = loop.create_task(body())
    loop.run_until_complete(after_a_while())
    loop.close()
    alive = weakref.ref(task)
    del task
    gc.collect()
    assert alive() is None
    assert not _holding.holds
    assert [str(one.exc_value) for one in unraisable] == []


# anyio. -------------------------------------------------------------------------------------------


@pytest.mark.virtual_clock
async def test_a_scope_of_anyio_around_cuts_when_the_shield_is_over() -> None:
    done = []
    async with silence() as silent:
        with anyio.move_on_after(1) as scope:
            async with netio.shield(10):
                await silent.wait(3)
                done.append(now())
            await forever()
    assert (done, now(), scope.cancelled_caught) == ([3.0], 3.0, True)
    assert this_task().cancelling() == 0


@pytest.mark.virtual_clock
async def test_a_scope_of_anyio_inside_cuts_as_ever() -> None:
    """It would cancel again on each tick, and keep the loop busy until the bound."""
    before = virtual_loop().time()
    async with silence() as silent:
        async with netio.shield(10):
            with anyio.move_on_after(1) as scope:
                await silent.wait()
            assert (now(), scope.cancelled_caught) == (before + 1.0, True)
            await silent.wait(1)
    assert this_task().cancelling() == 0


@pytest.mark.virtual_clock
async def test_a_cancel_of_a_shield_in_an_expired_scope_of_anyio_is_still_raised_once() -> None:
    done = []
    async with silence() as silent:
        with pytest.raises(asyncio.CancelledError), anyio.CancelScope() as scope:
            try:
                scope.cancel()
                await forever()
            finally:
                virtual_loop().call_at(1, this_task().cancel, "outside")
                async with netio.shield(10):
                    await silent.wait(2)
                    done.append(now())
    assert done == [2.0]
    assert this_task().uncancel() == 0


@pytest.mark.virtual_clock
async def test_a_module_of_that_name_that_is_no_anyio_does_no_harm(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "anyio", contextlib)
    async with silence() as silent:
        virtual_loop().call_at(1, this_task().cancel, "Cancelled via cancel scope 1")
        with pytest.raises(asyncio.CancelledError):
            async with netio.shield(10):
                await silent.wait(2)
    assert (now(), this_task().uncancel()) == (2.0, 0)


# asyncio. ----------------------------------------------------------------------------------------


@pytest.mark.virtual_clock
async def test_a_limit_of_asyncio_inside_cannot_cut_and_leaves_nothing_behind() -> None:
    async with silence() as silent:
        async with netio.shield(10):
            async with asyncio.timeout(1) as limit:
                await silent.wait(3)
        await asyncio.sleep(0)
    assert (now(), limit.expired(), this_task().cancelling()) == (3.0, True, 0)


@pytest.mark.virtual_clock
async def test_a_limit_of_asyncio_around_cuts_when_the_shield_is_over() -> None:
    async with silence() as silent:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(1):
                async with netio.shield(10):
                    await silent.wait(3)
                await forever()
    assert (now(), this_task().cancelling()) == (3.0, 0)


@pytest.mark.virtual_clock
async def test_a_task_group_that_is_ended_from_within_waits_for_the_shield() -> None:
    async def fail() -> None:
        await asyncio.sleep(1)
        raise ZeroDivisionError

    async with silence() as silent:
        with pytest.raises(ExceptionGroup):
            async with asyncio.TaskGroup() as group:
                group.create_task(fail())
                async with netio.shield(10):
                    await silent.wait(3)
                raise AssertionError("the cancel is raised as the shield ends")
    assert now() == 3.0
    assert this_task().cancelling() == 0


@pytest.mark.virtual_clock
async def test_a_limit_of_asyncio_that_took_its_cancel_back_is_no_longer_held_back() -> None:
    """Of a shield and a scope inside it that fire together the shield answers, as ever (law 15)."""
    async with silence() as silent:
        with pytest.raises(netio.DeadlineExceeded) as caught:
            async with netio.shield(4):
                async with netio.timeout(4):
                    async with asyncio.timeout(0):
                        async with netio.shield(9):
                            await silent.wait(3)
                    await forever()
    assert (caught.value.limit, now()) == ("shield", 4.0)
    assert this_task().cancelling() == 0


@pytest.mark.virtual_clock
async def test_a_task_that_cancels_itself_after_such_a_limit_meets_that_once() -> None:
    async with silence() as silent:
        async with netio.shield(9):
            async with asyncio.timeout(1):
                await silent.wait(2)
            this_task().cancel()
        with pytest.raises(asyncio.CancelledError):
            await asyncio.sleep(1)
        await asyncio.sleep(1)
    assert this_task().uncancel() == 0


@pytest.mark.skipif(sys.version_info < (3, 13), reason="groups do not post a cancel again")
@pytest.mark.virtual_clock
async def test_the_bound_still_cuts_after_a_task_group_inside_has_posted_its_cancel_again() -> None:
    async def fail_when_cut() -> None:
        try:
            await forever()
        finally:
            raise ZeroDivisionError

    async with silence() as silent:
        with pytest.raises(netio.DeadlineExceeded) as caught:
            async with netio.shield(1):
                with contextlib.suppress(ExceptionGroup):
                    async with asyncio.TaskGroup() as group:
                        group.create_task(fail_when_cut())
                await silent.wait()
    assert (caught.value.limit, now()) == ("shield", 1.0)
    assert this_task().cancelling() == 0
