"""`wait_for`: at its limit the work is cancelled, and waited for until it has really ended."""

import asyncio
from collections.abc import Iterator
from typing import Any

import children
import pytest
from children import Play, Work, ends_alone, named, now, turns
from virtual import virtual_loop

import netio
from netio.testing import run

play = children.play
nothing_complains = children.nothing_complains


def test_wait_for_returns_the_result(play: Play) -> None:
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


def test_wait_for_waits_until_the_work_has_really_ended(play: Play) -> None:
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


def test_a_result_that_comes_late_is_returned(play: Play) -> None:
    async def main() -> None:
        assert await netio.wait_for(Work().late(), 3) == "late"
        assert now() == 5

    play(main)


def test_an_error_that_comes_late_is_raised_and_says_so(play: Play) -> None:
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


def test_work_that_is_deaf_is_left_after_the_grace(play: Play) -> None:
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


def test_a_cancel_waits_until_the_work_has_ended(play: Play) -> None:
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
