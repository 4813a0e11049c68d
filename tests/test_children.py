"""`join`, `wait_for` and `cancel_and_wait` in all kinds of company, and given what they can't take.

What each of them does is in the tests named after it, and every order of events in
`test_children_races.py`.
"""

import asyncio
import contextlib
import pickle
from collections.abc import Callable, Coroutine
from typing import Any

import anyio
import children
import pytest
from children import Work, ends_alone, named, now, turns
from virtual import has_passed, virtual_loop

import netio
from netio.testing import Deadlock, run

nothing_complains = children.nothing_complains


# In and around limits of all kinds. -------------------------------------------------------------


@pytest.mark.virtual_clock
@pytest.mark.parametrize("limit", [netio.timeout, asyncio.timeout, anyio.fail_after])
async def test_a_limit_around_answers_when_all_have_ended(limit: Callable[[float], Any]) -> None:
    task = named(Work().cleaning(3))
    await turns(2)
    with pytest.raises(TimeoutError):
        async with contextlib.AsyncExitStack() as stack:
            around = limit(1)
            if hasattr(around, "__aenter__"):
                await stack.enter_async_context(around)
            else:
                stack.enter_context(around)
            began = virtual_loop()._steps
            await netio.cancel_and_wait(task)
            # No turn of the loop was spent on cancels that come again and again.
            assert virtual_loop()._steps - began < 20
            await asyncio.sleep(0)  # an anyio scope cancels only who waits
    assert (now(), task.cancelled()) == (3, True)
    current = asyncio.current_task()
    assert current is not None
    assert current.cancelling() == 0


@pytest.mark.virtual_clock
@pytest.mark.parametrize("limit", [netio.timeout, asyncio.timeout, anyio.fail_after])
async def test_a_limit_around_wait_for_answers_when_the_work_has_ended(
    limit: Callable[[float], Any],
) -> None:
    before = virtual_loop()._steps
    with pytest.raises(TimeoutError):
        if limit is anyio.fail_after:
            with anyio.fail_after(1):
                await netio.wait_for(Work().cleaning(3), 60)
        else:
            async with limit(1):
                await netio.wait_for(Work().cleaning(3), 60)
    assert now() == 4
    assert virtual_loop()._steps - before < 30


@pytest.mark.virtual_clock
async def test_an_anyio_scope_around_several_waits_lets_a_late_error_through() -> None:
    with pytest.raises(TimeoutError) as caught, anyio.fail_after(1):
        await netio.wait_for(Work().failing(3), 60)
    errors: list[BaseException | None] = [caught.value]
    while errors[-1] is not None:
        errors.append(errors[-1].__cause__ or errors[-1].__context__)
    assert any(
        isinstance(error, OSError) and not isinstance(error, TimeoutError) for error in errors
    )


@pytest.mark.virtual_clock
async def test_a_task_group_that_fails_waits_for_the_work() -> None:
    work = Work()

    async def fail() -> None:
        await asyncio.sleep(1)
        raise ZeroDivisionError

    with pytest.raises(ExceptionGroup) as caught:
        async with asyncio.TaskGroup() as group:
            group.create_task(netio.wait_for(work.cleaning(3), 60))
            group.create_task(fail())
    assert now() == 4
    assert work.cancels == 1
    assert [type(error) for error in caught.value.exceptions] == [ZeroDivisionError]


@pytest.mark.virtual_clock
async def test_in_a_shield_all_of_it_is_kept_from_cancels() -> None:
    work = Work()
    task = named(work.cleaning(3))
    came: list[object] = []

    async def ending() -> None:
        async with netio.shield(30):
            await netio.cancel_and_wait(task)
            came.append(now())
            came.append(await netio.wait_for(Work().good(2), 10))
            came.append(await netio.join(named(Work().good(2))))

    await turns(2)
    program = named(ending())
    for seconds in 1, 4, 6:
        virtual_loop().call_later(seconds, program.cancel)
    await ends_alone(program)
    assert program.cancelled()
    assert came == [3, "good", "good"]
    assert now() == 7


@pytest.mark.virtual_clock
async def test_the_bound_of_a_shield_is_raised_when_the_tasks_have_ended() -> None:
    """Held back by the wait for them, and not by the shield as well, which would never tell."""
    went_on = False
    task = named(Work().cleaning(5))
    await turns(2)
    with pytest.raises(netio.DeadlineExceeded) as caught:
        async with netio.shield(2):
            await netio.cancel_and_wait(task)
            went_on = True
    assert caught.value.limit == "shield"
    assert (now(), went_on, task.done()) == (5, False, True)


@pytest.mark.virtual_clock
async def test_a_scope_in_a_shield_is_answered_when_the_tasks_have_ended() -> None:
    task = named(Work().cleaning(5))
    await turns(2)
    async with netio.shield(20):
        with pytest.raises(netio.DeadlineExceeded) as caught:
            async with netio.timeout(1):
                await netio.cancel_and_wait(task)
    assert caught.value.limit == "scope"
    assert now() == 5


# Known scenarios, as docs/laws.md numbers them. -------------------------------------------------


@pytest.mark.virtual_clock
async def test_b07_a_cancel_in_the_turn_of_the_result_has_it() -> None:
    future = virtual_loop().create_future()
    waiting = named(netio.wait_for(future, 2))
    virtual_loop().call_at(1, future.set_result, "value")
    virtual_loop().call_at(1, waiting.cancel)
    with pytest.raises(asyncio.CancelledError) as caught:
        await netio.join(waiting)
    assert getattr(caught.value, "late_result", None) == "value"
    assert waiting.cancelling() == 1


@pytest.mark.virtual_clock
@pytest.mark.parametrize("first", ["result", "limit"])
async def test_b17_a_result_in_the_turn_of_the_limit_is_returned(first: str) -> None:
    future = virtual_loop().create_future()
    if first == "result":
        virtual_loop().call_at(3, future.set_result, "value")
    waiting = named(netio.wait_for(future, 3))
    await turns(2)
    if first == "limit":
        virtual_loop().call_at(3, future.set_result, "value")
    assert await waiting == "value"
    assert now() == 3


@pytest.mark.virtual_clock
async def test_b20_a_shared_task_that_is_joined_goes_on() -> None:
    shared = named(asyncio.sleep(5, "result"))
    async with netio.move_on_after(1) as scope:
        await netio.join(shared)
    assert scope.caught
    assert await shared == "result"


# On every loop. ---------------------------------------------------------------------------------

TICK_S = 0.02


@pytest.mark.any_clock
async def test_the_limits_hold_on_every_clock() -> None:
    loop = asyncio.get_running_loop()
    work = Work()
    task = named(work.good(3 * TICK_S))
    began = loop.time()
    with pytest.raises(netio.DeadlineExceeded):
        await netio.join(task, timeout=TICK_S)
    assert has_passed(TICK_S, since=began)
    assert await netio.join(task) == "good"
    began = loop.time()
    with pytest.raises(netio.DeadlineExceeded):
        await netio.wait_for(work.cleaning(TICK_S), TICK_S)
    assert has_passed(2 * TICK_S, since=began)
    began = loop.time()
    with pytest.raises(netio.DeadlineExceeded):
        await netio.shielded(work.cleaning(TICK_S), TICK_S)
    assert has_passed(2 * TICK_S, since=began)
    began = loop.time()
    with pytest.raises(netio.StillRunning):
        await netio.wait_for(work.deaf(), TICK_S, grace=TICK_S)
    assert has_passed(2 * TICK_S, since=began)
    work.free.set()
    await turns(3)


@pytest.mark.any_clock
async def test_cancels_are_held_back_on_every_clock() -> None:
    loop = asyncio.get_running_loop()
    work = Work()
    task = named(work.cleaning(3 * TICK_S))
    await turns(2)
    began = loop.time()
    for waiting in netio.cancel_and_wait(task), netio.shielded(work.good(3 * TICK_S), 5):
        ending = named(waiting)
        for number in range(3):
            loop.call_later(number * TICK_S, ending.cancel)
        with pytest.raises(asyncio.CancelledError):
            await netio.join(ending)
        assert ending.cancelling() == 3
    assert has_passed(6 * TICK_S, since=began)
    assert work.cancels == 1


@pytest.mark.virtual_clock
async def test_a_budget_is_spent_by_these_waits_and_by_nothing_else() -> None:
    budget = netio.Budget(10)
    task = named(Work().good(3))
    await netio.join(task, timeout=budget)
    await asyncio.sleep(50)
    assert await netio.wait_for(Work().good(4), budget) == "good"
    joining = named(netio.join(named(Work().good(50)), timeout=budget))
    await asyncio.sleep(1)
    joining.cancel()
    await asyncio.sleep(50)
    with pytest.raises(netio.DeadlineExceeded, match="the budget") as caught:
        await netio.wait_for(Work().cleaning(5), budget)  # its end is not waited for with it
    assert (caught.value.limit, caught.value.operation) == ("budget", "wait_for('cleaning')")
    assert now() == 3 + 50 + 4 + 1 + 50 + 2 + 5
    assert budget.remaining() == 0


# Seen, and not left behind. ---------------------------------------------------------------------


@pytest.mark.virtual_clock
async def test_these_waits_are_seen_by_observers() -> None:
    class Seeing(netio.Observer):
        def __init__(self) -> None:
            self.seen: list[str] = []

        def wait_began(self, wait: netio.Wait) -> None:
            self.seen.append(wait.operation)

        def timed_out(self, error: netio.DeadlineExceeded) -> None:
            self.seen.append(f"too late: {error.operation}")

    task = named(Work().good())
    with netio.observe(Seeing()) as seeing:
        with pytest.raises(netio.DeadlineExceeded):
            await netio.join(task, timeout=1)
        await netio.cancel_and_wait(task)
        with pytest.raises(netio.DeadlineExceeded):
            await netio.wait_for(Work().good(), 1)
        await netio.shielded(Work().good(1), 3)
    assert seeing.seen == [
        "join('work')",
        "too late: join('work')",
        "cancel_and_wait('work')",
        "wait_for('good')",
        "wait_for('good')",
        "too late: wait_for('good')",
        "shielded('good')",
    ]


@pytest.mark.parametrize(
    ("waiting", "text"),
    [
        (lambda task: netio.join(task, timeout=None), "waits in join('work')"),
        (lambda task: netio.wait_for(task, None), "waits in wait_for('work')"),
        (lambda task: netio.cancel_and_wait(task, grace=None), "waits in cancel_and_wait('work')"),
    ],
)
def test_a_deadlock_is_told_by_the_names_of_these_waits(
    waiting: Callable[..., Coroutine[Any, Any, Any]], text: str
) -> None:
    async def main() -> None:
        work = Work()
        task = named(work.heedless() if "cancel" in text else work.free.wait())
        await turns(2)
        await waiting(task)

    with pytest.raises(Deadlock) as caught:
        run(main())
    assert text in str(caught.value)


@pytest.mark.virtual_clock
async def test_no_timer_and_no_callback_is_left() -> None:
    task = named(Work().good(50))
    await turns(2)
    timers = len(virtual_loop()._scheduled)  # type: ignore[attr-defined]
    joins = [named(netio.join(task)) for _ in range(200)]
    await turns(2)
    for joining in joins:
        joining.cancel()
    await turns(3)
    for _ in range(200):
        with pytest.raises(netio.DeadlineExceeded):
            await netio.join(task, timeout=0)
    live = [t for t in virtual_loop()._scheduled if not t.cancelled()]  # type: ignore[attr-defined]
    assert len(live) == timers
    assert not task._callbacks  # type: ignore[attr-defined]
    await netio.cancel_and_wait(task)


# Bad input. -------------------------------------------------------------------------------------


@pytest.mark.virtual_clock
@pytest.mark.parametrize("call", ["join", "cancel_and_wait"])
async def test_what_is_no_task_is_refused(call: str) -> None:
    coroutine = Work().quick()
    with pytest.raises(TypeError, match=r"not coroutine; asyncio.create_task\(\) makes a task"):
        await getattr(netio, call)(coroutine)
    coroutine.close()
    for wrong in None, 3, object():
        with pytest.raises(TypeError, match="task must be a task"):
            await getattr(netio, call)(wrong)


@pytest.mark.virtual_clock
async def test_a_collection_of_tasks_is_refused_with_a_word_on_how_to_give_them() -> None:
    task = named(Work().good(1))
    for collection in [task], (task,), {task}:
        with pytest.raises(TypeError, match=r"write cancel_and_wait\(\*tasks\)"):
            await netio.cancel_and_wait(collection)  # type: ignore[arg-type]
    assert await task == "good"


@pytest.mark.virtual_clock
async def test_a_future_is_no_task_to_cancel_and_then_nothing_is_cancelled() -> None:
    task = named(Work().good(1))
    with pytest.raises(TypeError, match="task must be a task, not Future"):
        await netio.cancel_and_wait(task, virtual_loop().create_future())  # type: ignore[arg-type]
    assert await task == "good"


@pytest.mark.virtual_clock
async def test_a_task_that_waits_for_itself_is_refused() -> None:
    current = asyncio.current_task()
    assert current is not None
    for waiting in netio.join(current), netio.cancel_and_wait(current), netio.wait_for(current, 1):
        with pytest.raises(RuntimeError, match="a task can't wait for its own end"):
            await waiting
    assert current.cancelling() == 0


def test_a_task_of_another_loop_is_refused() -> None:
    other = asyncio.new_event_loop()
    future: asyncio.Future[None] = other.create_future()

    async def main() -> None:
        for waiting in netio.join(future), netio.wait_for(future, 1):
            with pytest.raises(RuntimeError, match="belongs to another event loop"):
                await waiting

    run(main())
    other.close()


@pytest.mark.virtual_clock
@pytest.mark.parametrize(
    ("arguments", "error", "text"),
    [
        ({"timeout": "1"}, TypeError, "timeout must be a number of seconds"),
        ({"timeout": float("nan")}, ValueError, "timeout must not be NaN"),
        ({"timeout": 1, "grace": -1}, ValueError, "grace must be at least 0 seconds"),
        ({"timeout": 1, "grace": float("nan")}, ValueError, "grace must not be NaN"),
        ({"timeout": 1, "grace": "1"}, TypeError, "grace must be a number of seconds"),
    ],
)
async def test_wrong_limits_are_refused_and_a_coroutine_does_not_complain(
    arguments: dict[str, Any], error: type[Exception], text: str
) -> None:
    with pytest.raises(error, match=text):
        await netio.wait_for(Work().quick(), **arguments)
    task = named(Work().good(1))
    if "grace" in arguments:
        with pytest.raises(error, match=text):
            await netio.cancel_and_wait(task, grace=arguments["grace"])
    else:
        with pytest.raises(error, match=text):
            await netio.join(task, **arguments)
    assert await task == "good"


@pytest.mark.virtual_clock
async def test_what_cannot_be_awaited_is_refused() -> None:
    with pytest.raises(TypeError, match="can't be awaited: 3"):
        await netio.wait_for(3, 1)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"; call it, to have what can be awaited"):
        await netio.wait_for(Work().quick, 1)  # type: ignore[arg-type]


@pytest.mark.virtual_clock
async def test_the_error_about_what_still_runs_survives_pickling_by_names() -> None:
    work = Work()
    task = named(work.deaf(), "worker 3")
    await turns(2)
    with pytest.raises(netio.StillRunning) as caught:
        await netio.cancel_and_wait(task, grace=0)
    copy = pickle.loads(pickle.dumps(caught.value))
    assert isinstance(copy, netio.StillRunning)
    assert (copy.tasks, str(copy)) == (("worker 3",), str(caught.value))
    assert isinstance(copy, netio.NetioError)
    work.free.set()
    await ends_alone(task)


@pytest.mark.virtual_clock
async def test_a_budget_of_another_loop_starts_no_work() -> None:
    budget = netio.Budget(5)

    async def spend() -> None:
        with pytest.raises(netio.DeadlineExceeded):
            await netio.wait_for(Work().good(), budget)

    await asyncio.to_thread(lambda: run(spend()))
    with pytest.raises(RuntimeError, match="loop"):
        await netio.wait_for(Work().quick(), budget)
