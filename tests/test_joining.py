"""`join`: it waits for a task, within a limit, and never cancels it (law 26)."""

import asyncio

import children
import pytest
from children import Work, named, now, turns
from virtual import virtual_loop

import netio

nothing_complains = children.nothing_complains


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
