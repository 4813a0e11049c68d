"""Scopes inside and around what asyncio and anyio have for limits and groups (law 27)."""

import asyncio
import itertools
from collections.abc import Callable, Coroutine
from typing import Any

import anyio
import pytest
from virtual import TASK_FACTORIES, run_with, virtual_loop

import netio
import netio.testing

Main = Callable[[], Coroutine[Any, Any, None]]


@pytest.fixture(params=TASK_FACTORIES)
def run(request: pytest.FixtureRequest) -> Callable[[Main], None]:
    """Runs a coroutine on a virtual loop, once for each kind of task."""
    return lambda main: run_with(TASK_FACTORIES[request.param], main())


def this_task() -> "asyncio.Task[Any]":
    task = asyncio.current_task()
    assert task is not None
    return task


async def forever() -> None:
    await asyncio.get_running_loop().create_future()


def combine(order: tuple[str, ...], netio_is_outer: bool) -> Main:
    """Both limits at 1, their timers set in `order`; with "c", an outside cancel as well."""

    async def main() -> None:
        task = this_task()
        outer_limit = netio.timeout(None) if netio_is_outer else asyncio.timeout(None)
        inner_limit = asyncio.timeout(None) if netio_is_outer else netio.timeout(None)
        expected = asyncio.CancelledError if "c" in order else TimeoutError
        inner_answered = False
        with pytest.raises(expected) as caught:
            async with outer_limit:
                try:
                    async with inner_limit:
                        for event in order:
                            if event == "c":
                                virtual_loop().call_at(1, task.cancel)
                            else:
                                {"o": outer_limit, "i": inner_limit}[event].reschedule(1)
                        await forever()
                except TimeoutError:
                    inner_answered = True
                    raise
        assert not inner_answered
        if "c" not in order:
            assert isinstance(caught.value, netio.DeadlineExceeded) == netio_is_outer
        assert task.cancelling() == order.count("c")
        while task.cancelling():
            task.uncancel()

    return main


@pytest.mark.parametrize("netio_is_outer", [True, False])
@pytest.mark.parametrize(
    "order", [*itertools.permutations("oi"), *itertools.permutations("oic")], ids="".join
)
def test_with_asyncio_timeout_the_outer_answers_and_an_outside_cancel_beats_both(
    order: tuple[str, ...], netio_is_outer: bool, run: Callable[[Main], None]
) -> None:
    run(combine(order, netio_is_outer))


@pytest.mark.parametrize("netio_is_outer", [True, False])
def test_with_asyncio_timeout_the_nearer_of_two_limits_answers(
    netio_is_outer: bool, run: Callable[[Main], None]
) -> None:
    async def main() -> None:
        outer = netio.timeout(9) if netio_is_outer else asyncio.timeout(9)
        inner = asyncio.timeout(1) if netio_is_outer else netio.timeout(1)
        async with outer:
            with pytest.raises(TimeoutError):
                async with inner:
                    await forever()
        assert (outer.expired(), inner.expired(), this_task().cancelling()) == (False, True, 0)

    run(main)


def test_a_scope_around_a_task_group_ends_its_children(run: Callable[[Main], None]) -> None:
    async def main() -> None:
        with pytest.raises(netio.DeadlineExceeded):
            async with netio.timeout(1):
                async with asyncio.TaskGroup() as group:
                    children = [group.create_task(forever()) for _ in range(3)]
        assert all(child.cancelled() for child in children)
        assert this_task().cancelling() == 0

    run(main)


def test_a_scope_in_a_task_group_does_not_end_the_children(run: Callable[[Main], None]) -> None:
    async def main() -> None:
        async with asyncio.TaskGroup() as group:
            child = group.create_task(asyncio.sleep(5, "result"))
            with pytest.raises(netio.DeadlineExceeded):
                async with netio.timeout(1):
                    await forever()
        assert child.result() == "result"

    run(main)


@pytest.mark.parametrize("child_first", [True, False])
def test_a_child_that_fails_in_the_tick_of_the_expiry_ends_the_group_and_is_reported(
    child_first: bool, run: Callable[[Main], None]
) -> None:
    async def main() -> None:
        moment = virtual_loop().create_future()

        async def fail() -> None:
            await moment
            raise ZeroDivisionError

        scope = netio.move_on_after(None)
        with pytest.raises(ExceptionGroup) as caught:
            async with asyncio.TaskGroup() as group:
                group.create_task(fail())
                await asyncio.sleep(0)
                async with scope:
                    if child_first:
                        virtual_loop().call_at(1, moment.set_result, None)
                    scope.reschedule(1)
                    if not child_first:
                        virtual_loop().call_at(1, moment.set_result, None)
                    await forever()
                await forever()
        assert [type(error) for error in caught.value.exceptions] == [ZeroDivisionError]

    run(main)


def test_an_error_of_a_child_during_the_expiry_passes_with_a_note(
    run: Callable[[Main], None],
) -> None:
    async def fail_when_cut() -> None:
        try:
            await forever()
        finally:
            raise ZeroDivisionError

    async def main() -> None:
        with pytest.raises(ExceptionGroup) as caught:
            async with netio.timeout(1, name="all"):
                async with asyncio.TaskGroup() as group:
                    group.create_task(fail_when_cut())
                    await asyncio.sleep(0)
                    await forever()
        assert caught.value.__notes__ == ["scope 'all' had expired 0.000 s before"]
        assert this_task().cancelling() == 0
        await asyncio.sleep(0)  # no cancel is left pending, either

    run(main)


def test_scopes_in_the_children_of_a_group_answer_for_themselves(
    run: Callable[[Main], None],
) -> None:
    async def child(seconds: float) -> float:
        async with netio.move_on_after(seconds):
            await forever()
        return virtual_loop().time()

    async def main() -> None:
        async with netio.timeout(5), asyncio.TaskGroup() as group:
            children = [group.create_task(child(seconds)) for seconds in (1, 2, 3)]
        assert [child.result() for child in children] == [1.0, 2.0, 3.0]

    run(main)


def test_wait_for_inside_a_scope_and_a_scope_inside_wait_for(run: Callable[[Main], None]) -> None:
    async def limited(seconds: float) -> None:
        async with netio.timeout(seconds):
            await forever()

    async def main() -> None:
        with pytest.raises(netio.DeadlineExceeded):
            async with netio.timeout(1):
                await asyncio.wait_for(forever(), 5)
        with pytest.raises(netio.DeadlineExceeded):
            await asyncio.wait_for(limited(1), 5)
        with pytest.raises(TimeoutError) as caught:
            await asyncio.wait_for(limited(5), 1)
        assert not isinstance(caught.value, netio.DeadlineExceeded)
        async with netio.timeout(5):
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(forever(), 1)
        assert this_task().cancelling() == 0

    run(main)


def test_a_scope_around_gather_ends_what_is_gathered(run: Callable[[Main], None]) -> None:
    async def main() -> None:
        tasks = [asyncio.ensure_future(forever()) for _ in range(3)]
        with pytest.raises(netio.DeadlineExceeded):
            async with netio.timeout(1):
                await asyncio.gather(*tasks)
        assert all(task.cancelled() for task in tasks)

    run(main)


def test_scopes_that_are_gathered_answer_for_themselves(run: Callable[[Main], None]) -> None:
    async def limited(seconds: float) -> None:
        async with netio.timeout(seconds):
            await forever()

    async def main() -> None:
        async with netio.timeout(5):
            errors = await asyncio.gather(limited(1), limited(2), return_exceptions=True)
        assert [getattr(error, "elapsed", None) for error in errors] == [1.0, 2.0]

    run(main)


def test_what_is_shielded_outlives_the_scope(run: Callable[[Main], None]) -> None:
    async def main() -> None:
        task = asyncio.ensure_future(asyncio.sleep(5, "result"))
        async with netio.move_on_after(1) as scope:
            await asyncio.shield(task)
        assert scope.caught
        assert await task == "result"

    run(main)


def test_a_scope_in_code_that_runs_eagerly_does_not_touch_the_task_that_started_it(
    run: Callable[[Main], None],
) -> None:
    async def child() -> str:
        async with netio.move_on_after(0) as scope:
            await forever()
        return "cut" if scope.caught else "not cut"

    async def main() -> None:
        async with netio.timeout(5) as scope:
            task = asyncio.create_task(child())
            assert netio.current_deadline() == scope.when()
            assert await task == "cut"
        assert (scope.expired(), this_task().cancelling()) == (False, 0)

    run(main)


# anyio, whose scopes cancel again on every tick until their block is left. ------------------------


@pytest.mark.virtual_clock
async def test_an_anyio_scope_around_a_scope_is_not_mistaken_for_an_expiry() -> None:
    reached = []
    with anyio.move_on_after(1) as outer:
        async with netio.move_on_after(5) as inner:
            await forever()
        reached.append("after the inner scope")
    assert (outer.cancelled_caught, inner.caught, inner.expired()) == (True, False, False)
    assert (reached, this_task().cancelling()) == ([], 0)


@pytest.mark.virtual_clock
async def test_an_anyio_scope_in_a_scope_lets_the_expiry_through() -> None:
    with pytest.raises(netio.DeadlineExceeded):
        async with netio.timeout(1):
            with anyio.move_on_after(5) as inner:
                await forever()
    assert not inner.cancelled_caught
    assert this_task().cancelling() == 0


@pytest.mark.parametrize("netio_is_outer", [True, False])
@pytest.mark.virtual_clock
async def test_with_an_anyio_scope_the_nearer_of_two_limits_answers(netio_is_outer: bool) -> None:
    if netio_is_outer:
        async with netio.move_on_after(5) as scope:
            with anyio.move_on_after(1) as other:
                await forever()
        assert (scope.caught, other.cancelled_caught) == (False, True)
    else:
        with anyio.move_on_after(5) as other:
            async with netio.move_on_after(1) as scope:
                await forever()
        assert (scope.caught, other.cancelled_caught) == (True, False)
    assert this_task().cancelling() == 0


@pytest.mark.parametrize("netio_is_outer", [True, False])
@pytest.mark.virtual_clock
async def test_an_anyio_scope_that_is_due_at_the_same_moment_leaves_no_count(
    netio_is_outer: bool,
) -> None:
    if netio_is_outer:
        async with netio.move_on_after(1) as scope:
            with anyio.move_on_after(1):
                await forever()
            await forever()
        assert scope.caught
    else:
        with anyio.move_on_after(1) as other:
            async with netio.move_on_after(1):
                await forever()
            await forever()
        assert other.cancelled_caught
    assert this_task().cancelling() == 0
    await asyncio.sleep(0)


@pytest.mark.virtual_clock
async def test_a_scope_around_an_anyio_task_group_ends_its_children() -> None:
    with pytest.raises(netio.DeadlineExceeded):
        async with netio.timeout(1):
            async with anyio.create_task_group() as group:
                for _ in range(3):
                    group.start_soon(forever)
    assert this_task().cancelling() == 0


async def cut_by_both(limit: Callable[[float], Any]) -> None:
    with anyio.move_on_after(0):
        async with limit(0):
            await asyncio.sleep(0)


async def cut_by_one_while_a_group_ends_for_the_other(limit: Callable[[float], Any]) -> None:
    async def child() -> None:
        try:
            await forever()
        finally:
            await asyncio.sleep(1)
            for _ in range(5):
                await asyncio.sleep(0)  # by ticks: anyio keeps the loop busy, and the clock stands

    with anyio.move_on_after(2):
        async with limit(1), asyncio.TaskGroup() as group:
            group.create_task(child())


@pytest.mark.parametrize("body", [cut_by_both, cut_by_one_while_a_group_ends_for_the_other])
def test_where_an_anyio_scope_mistakes_its_cut_for_another_it_does_so_with_every_limit(
    body: Callable[[Any], Coroutine[Any, Any, None]],
) -> None:
    async def outcome(limit: Any) -> str:
        task = asyncio.ensure_future(body(limit))
        await asyncio.wait([task])
        return "cancelled" if task.cancelled() else repr(task.exception())

    outcomes = [netio.testing.run(outcome(limit)) for limit in (netio.timeout, asyncio.timeout)]
    assert outcomes[0] == outcomes[1]
