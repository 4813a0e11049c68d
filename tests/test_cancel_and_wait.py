"""`cancel_and_wait`: it waits for all tasks, whatever happens to the one who waits (law 25)."""

import asyncio
import gc
from typing import Any

import children
import pytest
from children import Play, Work, ends_alone, named, now, turns
from virtual import virtual_loop

import netio
from netio.testing import run

play = children.play
nothing_complains = children.nothing_complains


def test_all_have_ended_when_it_comes_back(play: Play) -> None:
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
@pytest.mark.begins_later
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
async def test_an_error_that_comes_through_two_tasks_is_raised_as_the_one_that_it_is() -> None:
    async def parent(child: "asyncio.Task[Any]") -> None:
        await child

    child = named(Work().failing())
    tasks = [named(parent(child)), child]
    await turns(2)
    with pytest.raises(OSError, match="the disk is full"):
        await netio.cancel_and_wait(*tasks)
    assert all(task.done() for task in tasks)


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
    play: Play,
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
