"""`shielded`: foreign code that must not be cut, in a task of its own, within a bound (law 22)."""

import asyncio
from collections.abc import Callable
from typing import Any

import anyio
import children
import pytest
from children import Play, Work, named, now, this_task, turns
from silence import silence
from virtual import virtual_loop

import netio

play = children.play
nothing_complains = children.nothing_complains


async def going_on(error: type[Exception] | None = None) -> str:
    """What no cancel may reach."""
    await asyncio.sleep(3)
    if error is not None:
        raise error
    return "done"


def test_the_result_is_returned(play: Play) -> None:
    async def main() -> None:
        assert await netio.shielded(going_on(), 5) == "done"
        assert await netio.shielded(Work().quick(), netio.Deadline.after(5)) == "quick"

    play(main)


def test_cancels_are_held_back_and_raised_once_with_the_result(
    play: Play,
) -> None:
    async def main() -> None:
        for cancels in 1, 2, 3:
            work = Work()
            began = now()
            program = named(netio.shielded(work.good(3), 5))
            for number in range(cancels):
                virtual_loop().call_later(number, program.cancel, f"cancel {number}")
            with pytest.raises(asyncio.CancelledError) as caught:
                await netio.join(program)
            assert (now() - began, work.cancels) == (3, 0)
            assert caught.value.args == ("cancel 0",)
            assert program.cancelling() == cancels
            assert getattr(caught.value, "late_result", None) == "good"

    play(main)


def test_an_error_goes_on_and_the_cancel_stays_pending(play: Play) -> None:
    async def main() -> None:
        met: list[str] = []

        async def program() -> None:
            try:
                await netio.shielded(going_on(ZeroDivisionError), 5)
            except ZeroDivisionError:
                met.append("error")
            try:
                await asyncio.sleep(0)
            except asyncio.CancelledError:
                met.append("cancel")
                raise

        task = named(program())
        virtual_loop().call_later(1, task.cancel)
        await asyncio.wait([task])
        assert met == ["error", "cancel"]
        assert (task.cancelled(), task.cancelling(), now()) == (True, 1, 3)

    play(main)


@pytest.mark.virtual_clock
async def test_the_scopes_around_fire_when_it_is_over() -> None:
    with pytest.raises(netio.DeadlineExceeded) as caught:
        async with netio.timeout(1):
            assert await netio.shielded(going_on(), 5) == "done"
            await asyncio.sleep(100)
    assert caught.value.limit == "scope"
    assert now() == 3


@pytest.mark.virtual_clock
@pytest.mark.parametrize("limit", [asyncio.timeout, anyio.fail_after])
async def test_limits_of_others_around_answer_when_it_is_over(limit: Callable[..., Any]) -> None:
    work = Work()

    async def program() -> None:
        if limit is asyncio.timeout:
            async with asyncio.timeout(1):
                await netio.shielded(work.good(3), 5)
        else:
            with anyio.fail_after(1):
                await netio.shielded(work.good(3), 5)
                await asyncio.sleep(1)

    with pytest.raises(TimeoutError):
        await program()
    assert (now(), work.cancels, this_task().cancelling()) == (3, 0, 0)


def test_at_the_bound_the_work_is_cancelled_and_waited_for(play: Play) -> None:
    async def main() -> None:
        work = Work()
        with pytest.raises(netio.DeadlineExceeded) as caught:
            await netio.shielded(work.cleaning(2), 3, name="goodbye")
        error = caught.value
        assert (error.limit, error.scope_name, error.seconds) == ("shield", "goodbye", 3)
        assert "during shielded('cleaning')" in str(error)
        assert (now(), work.cancels, this_task().cancelling()) == (5, 1, 0)

    play(main)


def test_what_comes_after_the_bound_is_not_lost(play: Play) -> None:
    async def main() -> None:
        assert await netio.shielded(Work().late(2), 3) == "late"
        assert now() == 5
        with pytest.raises(OSError, match="the disk is full") as caught:
            await netio.shielded(Work().failing(2), 3)
        assert caught.value.__notes__ == ["shield had expired 2.000 s before"]
        assert this_task().cancelling() == 0
        await asyncio.sleep(1)

    play(main)


def test_work_that_is_deaf_is_left_after_the_grace(play: Play) -> None:
    async def main() -> None:
        work = Work()
        with pytest.raises(netio.StillRunning, match="shielded") as caught:
            await netio.shielded(work.deaf(), 3, grace=4)
        assert (now(), this_task().cancelling()) == (7, 0)
        work.free.set()
        await asyncio.wait(caught.value.tasks)  # type: ignore[type-var]

    play(main)


@pytest.mark.virtual_clock
@pytest.mark.parametrize("kind", ["cleaning", "late", "failing"])
async def test_a_cancel_from_outside_and_the_bound(kind: str) -> None:
    work = Work()
    program = named(netio.shielded(getattr(work, kind)(2), 3))
    for seconds in 1, 4:
        virtual_loop().call_later(seconds, program.cancel)
    expected = OSError if kind == "failing" else asyncio.CancelledError
    with pytest.raises(expected) as caught:
        await netio.join(program)
    assert (now(), work.cancels, program.cancelling()) == (5, 1, 2)
    assert getattr(caught.value, "late_result", None) == ("late" if kind == "late" else None)


@pytest.mark.virtual_clock
async def test_the_work_sees_the_bound_and_nothing_of_the_scopes_around() -> None:
    async def work() -> tuple[float, float]:
        return netio.current_deadline(), netio.remaining()

    async with netio.timeout(1):
        assert await netio.shielded(work(), 5) == (5, 5)


@pytest.mark.virtual_clock
async def test_work_that_somebody_else_cancels_ends_it_as_await_would() -> None:
    task = named(Work().good())
    virtual_loop().call_later(1, task.cancel)
    with pytest.raises(asyncio.CancelledError):
        await netio.shielded(task, 3)
    assert (now(), this_task().cancelling()) == (1, 0)


@pytest.mark.virtual_clock
async def test_a_bound_of_zero_is_felt_at_the_first_suspension() -> None:
    work = Work()
    with pytest.raises(netio.DeadlineExceeded):
        await netio.shielded(work.good(), 0)
    assert work.cancels == 1
    assert await netio.shielded(Work().late(2), -1) == "late"


@pytest.mark.virtual_clock
async def test_a_shielded_in_a_shield_hands_its_cancel_on() -> None:
    async def program() -> None:
        async with netio.shield(30):
            assert await netio.shielded(going_on(), 5) == "done"
            assert await netio.shielded(going_on(), 5) == "done"

    task = named(program())
    virtual_loop().call_later(1, task.cancel)
    await asyncio.wait([task])
    assert (task.cancelled(), now()) == (True, 6)


@pytest.mark.virtual_clock
@pytest.mark.parametrize(
    ("arguments", "error", "text"),
    [
        ({"limit": None}, ValueError, "limit must be finite: a shield always has a bound"),
        ({"limit": float("inf")}, ValueError, "limit must be finite"),
        ({"limit": float("nan")}, ValueError, "limit must not be NaN"),
        ({"limit": "1"}, TypeError, "limit must be a number of seconds"),
        ({"limit": 1, "grace": -1}, ValueError, "grace must be at least 0 seconds"),
        ({"limit": 1, "name": 3}, TypeError, "name must be a str or None"),
    ],
)
async def test_wrong_arguments_are_refused_and_the_coroutine_does_not_complain(
    arguments: dict[str, Any], error: type[Exception], text: str
) -> None:
    with pytest.raises(error, match=text):
        await netio.shielded(Work().quick(), **arguments)
    with pytest.raises(TypeError, match="can't be awaited: 3"):
        await netio.shielded(3, 1)  # type: ignore[arg-type]


@pytest.mark.virtual_clock
@pytest.mark.parametrize("wait", ["read", "cancel_and_wait"])
async def test_the_cut_of_a_scope_inside_counts_alike_whichever_wait_it_comes_through(
    wait: str,
) -> None:
    cut_at = []
    async with silence() as silent, netio.shield(9):
        async with netio.move_on_after(1):
            try:
                if wait == "read":
                    await silent.wait()
                else:  # in which a cut is held back until the work has ended
                    work = named(Work().cleaning(2))
                    await turns(2)
                    await netio.cancel_and_wait(work)
            except asyncio.CancelledError:
                this_task().cancel()  # for all that a shield can know it is the scope's
                with pytest.raises(asyncio.CancelledError):
                    await silent.wait(1)
                cut_at.append(now())
        assert this_task().uncancel() == 0
    assert cut_at == [1.0 if wait == "read" else 2.0]
