"""`join`, `wait_for` and `cancel_and_wait`: when they come back, with what, and what is left then.

The orders in which things happen are in `test_children_races.py`.
"""

import asyncio
import contextlib
import gc
import pickle
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

import anyio
import pytest
from children import Work, named, turns
from virtual import TASK_FACTORIES, run_with, virtual_loop

import netio
from netio.testing import Deadlock, run

Main = Callable[[], Coroutine[Any, Any, None]]


@pytest.fixture(params=TASK_FACTORIES)
def play(request: pytest.FixtureRequest) -> Callable[[Main], None]:
    """Runs a coroutine on a virtual loop, once for each kind of task."""
    return lambda main: run_with(TASK_FACTORIES[request.param], main())


def now() -> float:
    return virtual_loop().time()


async def ends_alone(*tasks: "asyncio.Future[Any]") -> None:
    """Wait for what a test has left running."""
    await asyncio.wait(tasks)


@pytest.fixture(autouse=True)
def nothing_complains(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """No exception is said to be lost, and none is when the garbage is gone."""
    yield
    gc.collect()
    assert [record.getMessage() for record in caplog.records if record.name == "asyncio"] == []


# join. ------------------------------------------------------------------------------------------


@pytest.mark.virtual_clock
async def test_join_returns_the_result_of_the_task() -> None:
    task = named(Work().good(3))
    assert await netio.join(task) == "good"
    assert now() == 3
    assert await netio.join(task, timeout=0) == "good"


@pytest.mark.virtual_clock
async def test_join_raises_the_error_of_the_task_each_time() -> None:
    async def fail() -> None:
        await asyncio.sleep(1)
        raise OSError("it is full")

    task = named(fail())
    for _ in range(2):
        with pytest.raises(OSError, match="it is full"):
            await netio.join(task)


@pytest.mark.virtual_clock
async def test_join_of_a_task_that_is_cancelled_raises_that_as_await_would() -> None:
    task = named(Work().good())
    virtual_loop().call_later(1, task.cancel)
    with pytest.raises(asyncio.CancelledError):
        await netio.join(task)
    assert task.cancelled()
    current = asyncio.current_task()
    assert current is not None
    assert current.cancelling() == 0


@pytest.mark.virtual_clock
@pytest.mark.parametrize(
    ("timeout", "limit", "seconds"),
    [(2, "call", 2), (netio.DEFAULT, "call", 60), (0, "call", 0), (-1, "call", 0)],
)
async def test_join_says_which_limit_was_reached_and_where_the_task_is(
    timeout: netio.Timeout, limit: str, seconds: float
) -> None:
    task = named(Work().good())
    with pytest.raises(netio.DeadlineExceeded) as caught:
        await netio.join(task, timeout=timeout)
    error = caught.value
    assert (error.limit, error.operation, error.seconds) == (limit, "join('work')", seconds)
    assert now() == seconds
    assert f"the limit of this call ({seconds} s) was reached" in str(error)
    assert "the work goes on: 'work' waits: sleep (" in str(error)
    assert "called from Work.good" in str(error)
    assert await netio.join(task, timeout=None) == "good"


@pytest.mark.virtual_clock
async def test_join_takes_a_deadline() -> None:
    task = named(Work().good())
    deadline = netio.Deadline.after(2)
    for elapsed in 2, 0:
        with pytest.raises(netio.DeadlineExceeded) as caught:
            await netio.join(task, timeout=deadline)
        assert (caught.value.limit, caught.value.elapsed) == ("deadline", elapsed)
    await netio.cancel_and_wait(task)


@pytest.mark.virtual_clock
async def test_join_has_no_limit_where_that_is_said() -> None:
    assert await netio.join(named(Work().good(10_000)), timeout=None) == "good"


@pytest.mark.virtual_clock
async def test_a_join_that_is_cancelled_leaves_the_task_alone() -> None:
    work = Work()
    task = named(work.good())
    joining = named(netio.join(task))
    await turns(2)
    joining.cancel()
    await turns(2)
    assert joining.cancelled()
    assert not task.done()
    assert await netio.join(task, timeout=None) == "good"
    assert work.cancels == 0


@pytest.mark.virtual_clock
async def test_a_scope_around_a_join_leaves_the_task_alone_and_names_the_join() -> None:
    task = named(Work().good(3))
    with pytest.raises(netio.DeadlineExceeded, match=r"during join\('work'\)") as caught:
        async with netio.timeout(1):
            await netio.join(task)
    assert caught.value.operation == "join('work')"
    assert not task.done()
    assert await netio.join(task) == "good"


@pytest.mark.virtual_clock
async def test_many_can_join_one_task() -> None:
    task = named(Work().good(3))
    assert await asyncio.gather(*(netio.join(task) for _ in range(5))) == ["good"] * 5


@pytest.mark.virtual_clock
async def test_a_future_can_be_joined() -> None:
    future = virtual_loop().create_future()
    with pytest.raises(netio.DeadlineExceeded, match=r"join\('Future'\)"):
        await netio.join(future, timeout=1)
    virtual_loop().call_later(1, future.set_result, 7)
    assert await netio.join(future) == 7


@pytest.mark.virtual_clock
async def test_joining_what_is_done_again_and_again_leaves_turns_to_others() -> None:
    task = named(Work().quick())
    await netio.join(task)
    ticking = named(turns(3))
    for _ in range(5000):
        await netio.join(task)
    assert ticking.done()


@pytest.mark.virtual_clock
async def test_joining_in_vain_again_and_again_leaves_turns_to_others() -> None:
    task = named(Work().good())
    ticking = named(turns(3))
    for _ in range(5):
        with pytest.raises(netio.DeadlineExceeded):
            await netio.join(task, timeout=0)
    assert ticking.done()
    await netio.cancel_and_wait(task)


@pytest.mark.virtual_clock
async def test_the_limit_of_zero_takes_what_ends_in_this_turn() -> None:
    assert await netio.join(named(Work().quick()), timeout=0) == "quick"


# wait_for. --------------------------------------------------------------------------------------


def test_wait_for_returns_the_result(play: Callable[[Main], None]) -> None:
    async def main() -> None:
        assert await netio.wait_for(Work().good(3), 5) == "good"
        assert now() == 3
        assert await netio.wait_for(Work().quick(), 5) == "quick"
        assert await netio.wait_for(named(Work().good(3)), None) == "good"
        assert now() == 6

    play(main)


@pytest.mark.virtual_clock
async def test_wait_for_takes_whatever_can_be_awaited() -> None:
    class Awaited:
        def __await__(self) -> Iterator[Any]:
            yield from asyncio.sleep(1).__await__()
            return 5

    assert await netio.wait_for(Awaited(), 2) == 5
    future = virtual_loop().create_future()
    virtual_loop().call_later(1, future.set_result, 6)
    assert await netio.wait_for(future, 2) == 6
    with pytest.raises(netio.DeadlineExceeded, match=r"wait_for\('Awaited'\)"):
        await netio.wait_for(Awaited(), 0)


def test_wait_for_waits_until_the_work_has_really_ended(play: Callable[[Main], None]) -> None:
    async def main() -> None:
        work = Work()
        with pytest.raises(netio.DeadlineExceeded) as caught:
            await netio.wait_for(work.cleaning(), 3)
        assert now() == 5
        error = caught.value
        assert (error.limit, error.operation) == ("call", "wait_for('cleaning')")
        assert (error.seconds, error.elapsed) == (3, 5)
        assert isinstance(error.__cause__, asyncio.CancelledError)  # where it was cut
        assert "the work was cancelled, and has ended 2.000 s after that" in str(error)
        assert work.cancels == 1

    play(main)


def test_a_result_that_comes_late_is_returned(play: Callable[[Main], None]) -> None:
    async def main() -> None:
        assert await netio.wait_for(Work().late(), 3) == "late"
        assert now() == 5

    play(main)


def test_an_error_that_comes_late_is_raised_and_says_so(play: Callable[[Main], None]) -> None:
    async def main() -> None:
        with pytest.raises(OSError, match="the disk is full") as caught:
            await netio.wait_for(Work().failing(), 3)
        note = "wait_for('failing') had reached its limit 2.000 s before"
        assert caught.value.__notes__ == [note]
        assert now() == 5

    play(main)


@pytest.mark.virtual_clock
async def test_an_error_in_time_is_raised_as_it_is() -> None:
    async def fail() -> None:
        raise OSError("it is full")

    with pytest.raises(OSError, match="it is full") as caught:
        await netio.wait_for(fail(), 3)
    assert not hasattr(caught.value, "__notes__")


def test_work_that_is_deaf_is_left_after_the_grace(play: Callable[[Main], None]) -> None:
    async def main() -> None:
        work = Work()
        left: list[asyncio.Future[Any]] = []
        graces: list[tuple[dict[str, Any], float]]
        graces = [({}, 10.0), ({"grace": 4}, 4.0), ({"grace": 0}, 0.001)]
        for options, seconds in graces:
            began = now()
            with pytest.raises(netio.StillRunning) as caught:
                await netio.wait_for(work.deaf(), 3, **options)
            assert now() - began == pytest.approx(3 + seconds)
            [task] = caught.value.tasks
            assert not isinstance(task, str)
            assert not task.done()
            left.append(task)
            assert str(caught.value).startswith("wait_for('deaf'): 1 task is still running ")
            assert "called from Work.deaf" in str(caught.value)
        assert work.cancels == 3
        work.free.set()
        await ends_alone(*left)

    play(main)


@pytest.mark.virtual_clock
async def test_without_a_bound_the_grace_lasts_until_the_work_ends() -> None:
    work = Work()
    virtual_loop().call_later(10_000, work.free.set)
    assert await netio.wait_for(work.deaf(), 1, grace=None) == "heard at last"
    assert now() == 10_000


@pytest.mark.virtual_clock
async def test_work_that_ends_with_a_grace_of_zero_has_ended() -> None:
    with pytest.raises(netio.DeadlineExceeded):
        await netio.wait_for(Work().good(), 1, grace=0)


@pytest.mark.virtual_clock
@pytest.mark.parametrize("timeout", [0, -1, 0.0])
async def test_with_a_limit_of_zero_the_work_has_one_turn(timeout: float) -> None:
    assert await netio.wait_for(Work().quick(), timeout) == "quick"
    assert await netio.wait_for(named(Work().quick()), timeout) == "quick"
    work = Work()
    with pytest.raises(netio.DeadlineExceeded, match="has ended"):
        await netio.wait_for(work.good(), timeout)
    assert work.cancels == 1  # it had begun, and was cut
    assert now() == 0


@pytest.mark.virtual_clock
async def test_a_task_that_is_given_is_cancelled_at_the_limit_as_well() -> None:
    task = named(Work().good())
    with pytest.raises(netio.DeadlineExceeded, match=r"wait_for\('work'\)"):
        await netio.wait_for(task, 1)
    assert task.cancelled()


@pytest.mark.virtual_clock
async def test_work_that_somebody_else_cancels_is_not_said_to_be_too_late() -> None:
    task = named(Work().good())
    virtual_loop().call_later(1, task.cancel)
    with pytest.raises(asyncio.CancelledError):
        await netio.wait_for(task, 3)


def test_a_cancel_waits_until_the_work_has_ended(play: Callable[[Main], None]) -> None:
    async def main() -> None:
        for kind, cancels in (("cleaning", 1), ("late", 2), ("failing", 3), ("cleaning", 3)):
            work = Work()
            began = now()
            waiting = named(netio.wait_for(getattr(work, kind)(), 60))
            for number in range(cancels):
                virtual_loop().call_later(3 + number / 2, waiting.cancel, f"cancel {number}")
            with pytest.raises(asyncio.CancelledError) as caught:
                await netio.join(waiting)
            assert now() - began == 5
            assert work.cancels == 1
            assert waiting.cancelling() == cancels
            assert caught.value.args == ("cancel 0",)
            assert getattr(caught.value, "late_result", None) == (
                "late" if kind == "late" else None
            )
            assert isinstance(caught.value.__cause__, OSError) == (kind == "failing")

    play(main)


@pytest.mark.virtual_clock
async def test_a_cancel_beside_work_that_is_deaf_has_that_as_its_cause() -> None:
    work = Work()
    waiting = named(netio.wait_for(work.deaf(), None, grace=4))
    virtual_loop().call_later(3, waiting.cancel)
    with pytest.raises(asyncio.CancelledError) as caught:
        await netio.join(waiting)
    assert now() == 7
    assert isinstance(caught.value.__cause__, netio.StillRunning)
    work.free.set()
    await ends_alone(*caught.value.__cause__.tasks)  # type: ignore[arg-type]


@pytest.mark.virtual_clock
async def test_a_cancel_while_the_work_ends_after_its_limit_wins() -> None:
    for kind in "cleaning", "late", "failing":
        waiting = named(netio.wait_for(getattr(Work(), kind)(), 3))
        virtual_loop().call_later(4, waiting.cancel, "now")
        with pytest.raises(asyncio.CancelledError) as caught:
            await netio.join(waiting)
        assert caught.value.args == ("now",)
        assert getattr(caught.value, "late_result", None) == ("late" if kind == "late" else None)
        assert isinstance(caught.value.__cause__, OSError) == (kind == "failing")


@pytest.mark.virtual_clock
async def test_a_scope_around_wait_for_answers_and_names_what_it_cut() -> None:
    near, far = netio.stream_pair()
    async with near, far:
        with pytest.raises(netio.DeadlineExceeded) as caught:
            async with netio.timeout(1):
                await netio.wait_for(near.read_exactly(4), 30)
        assert caught.value.operation == "read_exactly(4)"
        assert caught.value.limit == "scope"
        with pytest.raises(netio.DeadlineExceeded) as caught:
            async with netio.timeout(1):
                await netio.wait_for(Work().cleaning(), 30)
        assert caught.value.operation == "wait_for('cleaning')"


@pytest.mark.virtual_clock
async def test_an_error_that_comes_late_is_found_below_any_number_of_waits() -> None:
    async def inner() -> None:
        await netio.wait_for(Work().failing(), 60)

    with pytest.raises(netio.DeadlineExceeded) as caught:
        await netio.wait_for(netio.wait_for(inner(), None), 3)
    cut = caught.value.__cause__
    assert isinstance(cut, asyncio.CancelledError)
    assert isinstance(cut.__cause__, OSError)
    task = named(netio.wait_for(inner(), None))
    await turns(3)
    with pytest.raises(OSError, match="the disk is full"):
        await netio.cancel_and_wait(task)


@pytest.mark.virtual_clock
async def test_a_result_that_comes_late_is_found_below_any_number_of_waits() -> None:
    waiting = named(netio.wait_for(netio.wait_for(Work().late(), 60), None))
    await turns(4)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError) as caught:
        await netio.join(waiting)
    assert getattr(caught.value, "late_result", None) == "late"


@pytest.mark.virtual_clock
async def test_a_caller_that_is_destroyed_cancels_the_work_that_it_has_started() -> None:
    work = Work()
    waiting = netio.wait_for(work.good(), 60)
    waiting.send(None)
    await turns(2)
    waiting.close()
    await turns(2)
    assert work.cancels == 1


@pytest.mark.virtual_clock
async def test_the_work_may_end_the_program() -> None:
    async def stop() -> None:
        try:
            await asyncio.sleep(100)
        finally:
            raise SystemExit(3)

    async def main() -> None:
        await netio.wait_for(stop(), 1)

    with pytest.raises(SystemExit):
        await asyncio.to_thread(lambda: run(main()))


@pytest.mark.virtual_clock
async def test_waiting_for_what_is_done_again_and_again_leaves_turns_to_others() -> None:
    done = virtual_loop().create_future()
    done.set_result(1)
    ticking = named(turns(3))
    for _ in range(5000):
        await netio.wait_for(done, 1)
    assert ticking.done()


# cancel_and_wait. -------------------------------------------------------------------------------


def test_all_have_ended_when_it_comes_back(play: Callable[[Main], None]) -> None:
    async def main() -> None:
        work = Work()
        tasks = [named(work.good()), named(work.cleaning(1)), named(work.cleaning(3))]
        await turns(2)
        await netio.cancel_and_wait(*tasks)
        assert all(task.cancelled() for task in tasks)
        assert (work.cancels, now()) == (3, 3)

    play(main)


@pytest.mark.virtual_clock
async def test_what_has_ended_is_left_as_it_is() -> None:
    async def fail() -> None:
        raise OSError("it is full")

    failed, done = named(fail()), named(Work().quick())
    await turns(2)
    await netio.cancel_and_wait(failed, done, done)
    await netio.cancel_and_wait()
    assert done.result() == "quick"
    assert isinstance(failed.exception(), OSError)  # and not by netio: see the next test


@pytest.mark.own_loop
def test_an_error_from_before_the_call_is_still_told_by_asyncio_if_nobody_looks(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def main() -> None:
        async def fail() -> None:
            raise OSError("it is full")

        task = named(fail())
        await turns(2)
        await netio.cancel_and_wait(task)
        del task
        gc.collect()

    run(main())
    assert ["was never retrieved" in record.getMessage() for record in caplog.records] == [True]
    caplog.clear()


@pytest.mark.virtual_clock
async def test_a_task_that_has_not_begun_never_begins() -> None:
    work = Work()
    task = named(work.good())
    await netio.cancel_and_wait(task)
    assert task.cancelled()
    assert work.cancels == 0


@pytest.mark.virtual_clock
async def test_an_error_on_the_way_out_is_raised_and_several_in_a_group() -> None:
    work = Work()
    tasks = [named(work.failing()), named(work.good()), named(work.late())]
    await turns(2)
    with pytest.raises(OSError, match="the disk is full"):
        await netio.cancel_and_wait(*tasks)
    assert tasks[2].result() == "late"  # it stays there
    tasks = [named(work.failing(n)) for n in (3, 1)]
    await turns(2)
    with pytest.raises(ExceptionGroup) as caught:
        await netio.cancel_and_wait(*tasks)
    assert list(caught.value.exceptions) == [task.exception() for task in tasks]


@pytest.mark.virtual_clock
async def test_those_that_are_deaf_are_named_after_the_grace() -> None:
    work = Work()
    deaf = [named(work.deaf(), name) for name in ("one", "two")]
    others = [named(work.good()), named(work.failing())]
    await turns(2)
    with pytest.raises(netio.StillRunning) as caught:
        await netio.cancel_and_wait(deaf[0], *others, deaf[1], grace=5)
    assert now() == 5
    assert caught.value.tasks == tuple(deaf)
    assert isinstance(caught.value.__cause__, OSError)
    text = str(caught.value)
    assert text.startswith("cancel_and_wait: 2 tasks are still running 5 s after the cancel; 'one'")
    assert text.count("called from Work.deaf") == 2
    work.free.set()
    await ends_alone(*deaf)


@pytest.mark.virtual_clock
async def test_the_text_about_a_thousand_deaf_tasks_is_bounded() -> None:
    work = Work()
    tasks = [named(work.deaf()) for _ in range(1000)]
    await turns(2)
    with pytest.raises(netio.StillRunning) as caught:
        await netio.cancel_and_wait(*tasks, grace=0)
    assert len(str(caught.value)) < 3000
    assert str(caught.value).endswith("; and 992 more")
    assert len(caught.value.tasks) == 1000
    work.free.set()
    await ends_alone(*tasks)


def test_cancels_of_the_caller_wait_for_all_and_are_raised_then(
    play: Callable[[Main], None],
) -> None:
    async def main() -> None:
        for cancels in 1, 2, 3:
            work = Work()
            tasks = [named(work.cleaning(3)), named(work.failing(2))]
            await turns(2)
            ending = named(netio.cancel_and_wait(*tasks))
            began = now()
            for number in range(cancels):
                virtual_loop().call_later(number, ending.cancel, f"cancel {number}")
            with pytest.raises(asyncio.CancelledError) as caught:
                await netio.join(ending)
            assert now() - began == 3
            assert all(task.done() for task in tasks)
            assert work.cancels == 2
            assert caught.value.args == ("cancel 0",)
            assert ending.cancelling() == cancels
            assert isinstance(caught.value.__cause__, OSError)

    play(main)


@pytest.mark.virtual_clock
async def test_a_cancel_beside_deaf_tasks_has_all_that_was_met_as_its_causes() -> None:
    work = Work()
    tasks = [named(work.deaf()), named(work.failing())]
    await turns(2)
    ending = named(netio.cancel_and_wait(*tasks))
    virtual_loop().call_later(1, ending.cancel)
    with pytest.raises(asyncio.CancelledError) as caught:
        await netio.join(ending)
    still = caught.value.__cause__
    assert isinstance(still, netio.StillRunning)
    assert still.tasks == (tasks[0],)
    assert isinstance(still.__cause__, OSError)
    work.free.set()
    await ends_alone(*tasks)


@pytest.mark.virtual_clock
async def test_a_cancel_that_was_pending_at_the_call_is_raised_when_all_have_ended() -> None:
    async def end_others(task: "asyncio.Task[Any]") -> None:
        current = asyncio.current_task()
        assert current is not None
        current.cancel()
        await netio.cancel_and_wait(task)

    work = Work()
    task = named(work.cleaning(3))
    await turns(2)
    ending = named(end_others(task))
    await ends_alone(ending)
    assert ending.cancelled()
    assert (now(), work.cancels, task.done()) == (3, 1, True)


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
@pytest.mark.parametrize("limit", [netio.timeout, asyncio.timeout])
async def test_a_limit_around_wait_for_answers_when_the_work_has_ended(
    limit: Callable[[float], Any],
) -> None:
    with pytest.raises(TimeoutError):
        async with limit(1):
            await netio.wait_for(Work().cleaning(3), 60)
    assert now() == 4


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


@pytest.mark.own_loop
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


@pytest.mark.own_loop
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
