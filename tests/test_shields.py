"""Shields: cleanup that must finish, within a bound (law 22), as the docstring of `shield` says."""

import asyncio
import contextlib
import math
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
from silence import forever, now, silence, this_task
from streams import outcome_of, ticks
from virtual import TASK_FACTORIES, run_with, virtual_loop

import netio
from netio import _holding

Main = Callable[[], Coroutine[Any, Any, None]]


@pytest.fixture(params=TASK_FACTORIES)
def run(request: pytest.FixtureRequest) -> Callable[[Main], None]:
    """Runs a coroutine on a virtual loop, once for each kind of task."""
    return lambda main: run_with(TASK_FACTORIES[request.param], main())


@pytest.fixture(autouse=True)
def nothing_is_held_afterwards() -> Any:
    yield
    assert not _holding.holds


# The bound. ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("limit", [None, math.inf, math.nan, 10**400, netio.Deadline.at(None)])
def test_a_shield_always_has_a_bound(limit: Any) -> None:
    with pytest.raises(ValueError, match="limit"):
        netio.shield(limit)


@pytest.mark.parametrize("limit", [True, "5", [], 1j])
def test_a_bound_that_is_no_number_is_refused(limit: Any) -> None:
    with pytest.raises(TypeError, match="limit"):
        netio.shield(limit)


def test_a_shield_around_a_coroutine_is_refused_with_a_word_on_shielded() -> None:
    coroutine = forever()
    with pytest.raises(TypeError, match=r"not coroutine; .* shielded\(coroutine, limit\)"):
        netio.shield(coroutine)  # type: ignore[arg-type]
    coroutine.close()


@pytest.mark.virtual_clock
async def test_the_bound_of_a_shield_may_be_moved_but_not_removed() -> None:
    async with silence() as silent:
        with pytest.raises(netio.DeadlineExceeded) as caught:
            async with netio.shield(1) as shield:
                for none in (None, math.inf, math.nan, netio.Deadline.at(None)):
                    with pytest.raises(ValueError, match="when"):
                        shield.reschedule(none)
                assert shield.when() == 1.0
                shield.reschedule(3)
                await silent.wait()
        assert now() == 3.0
    assert caught.value.limit == "shield"


@pytest.mark.parametrize("limit", [2, netio.Deadline.at(2)])
def test_at_its_bound_a_shield_raises_an_error_that_says_so(
    limit: Any, run: Callable[[Main], None]
) -> None:
    async def main() -> None:
        async with silence() as silent:
            with pytest.raises(netio.DeadlineExceeded) as caught:
                async with netio.shield(limit, name="goodbye") as shield:
                    await silent.wait()
        error = caught.value
        assert (error.limit, error.scope, error.elapsed) == ("shield", shield, 2.0)
        assert error.operation == "read_exactly(1)"
        assert "shield 'goodbye': the limit of 2 s was reached" in str(error)
        assert (shield.caught, shield.expired(), this_task().cancelling()) == (True, True, 0)

    run(main)


@pytest.mark.parametrize("limit", [0, -1, -math.inf])
@pytest.mark.virtual_clock
async def test_zero_or_less_takes_what_needs_no_waiting(limit: float) -> None:
    async with silence() as silent:
        silent.far._channel.send(b"ab")
        async with netio.shield(limit):
            assert await silent.near.read_exactly(2) == b"ab"
        with pytest.raises(netio.DeadlineExceeded) as caught:
            async with netio.shield(limit):
                await silent.near.read_exactly(1)
        assert caught.value.limit == "shield"


@pytest.mark.virtual_clock
async def test_the_bound_cuts_what_is_not_of_netio_too() -> None:
    with pytest.raises(netio.DeadlineExceeded) as caught:
        async with netio.shield(1):
            await asyncio.sleep(50)
    assert (now(), caught.value.limit) == (1.0, "shield")


@pytest.mark.virtual_clock
async def test_a_shield_that_is_cancelled_by_hand_leaves_quietly() -> None:
    async with silence() as silent:
        async with netio.shield(5) as shield:
            virtual_loop().call_at(1, shield.cancel)
            await silent.wait()
    assert (now(), shield.caught, shield.expired()) == (1.0, True, False)


# What is asked inside. ----------------------------------------------------------------------------


@pytest.mark.virtual_clock
@pytest.mark.begins_later
async def test_inside_the_bound_is_seen_and_nothing_of_the_scopes_around() -> None:
    async def asked() -> tuple[float, float]:
        return netio.current_deadline(), netio.remaining()

    async with netio.timeout(1):
        await asyncio.sleep(0.5)
        async with netio.shield(10):
            assert await asked() == (10.5, 10.0)
            assert await asyncio.create_task(asked()) == (10.5, 10.0)
            async with netio.timeout(3):
                assert await asked() == (3.5, 3.0)
                assert await asyncio.create_task(asked()) == (3.5, 3.0)
            async with netio.timeout(30):
                assert await asked() == (10.5, 10.0)
            child = asyncio.create_task(asked())
        assert await asked() == (1.0, 0.5)
        assert await child == (1.0, 0.5)  # it runs when the shield has been left


# Scopes around. -----------------------------------------------------------------------------------


@pytest.mark.parametrize("fires", [1, 2, 3])
@pytest.mark.parametrize("how", ["timer", "by hand", "moved"])
def test_the_scopes_around_fire_when_it_is_over(
    fires: int, how: str, run: Callable[[Main], None]
) -> None:
    """The shield stands from 2 to 4; it is entered in the tick of the expiry, or before it."""

    async def main() -> None:
        done = []
        outcome = None
        async with silence() as silent:
            try:
                limit = fires if how == "timer" else None
                async with netio.timeout(limit) as scope:
                    if how == "by hand":
                        virtual_loop().call_at(fires, scope.cancel)
                    elif how == "moved":
                        virtual_loop().call_at(fires, scope.reschedule, fires)
                    try:
                        await asyncio.sleep(2 if fires > 1 else 1.5)
                        done.append("body")
                    finally:
                        async with netio.shield(10):
                            await silent.wait(2)
                            done.append("cleanup")
                    await forever()
            except netio.DeadlineExceeded as error:
                outcome = error
        assert "cleanup" in done
        if fires == 1:
            assert done == ["cleanup"]
        assert now() == {1: 3.0, 2: 4.0, 3: 4.0}[fires]
        assert scope.caught
        assert (outcome is None) == (how == "by hand")
        assert this_task().cancelling() == 0

    run(main)


@pytest.mark.virtual_clock
async def test_a_scope_that_fires_first_after_the_shield_keeps_its_moment() -> None:
    async with silence() as silent:
        with pytest.raises(netio.DeadlineExceeded):
            async with netio.timeout(5):
                async with netio.shield(10):
                    await silent.wait(2)
                await forever()
    assert now() == 5.0


@pytest.mark.virtual_clock
async def test_a_deadline_that_was_moved_on_while_it_was_held_back_keeps_its_new_moment() -> None:
    async with silence() as silent:
        with pytest.raises(netio.DeadlineExceeded):
            async with netio.timeout(1) as scope:
                async with netio.shield(10):
                    await silent.wait(2)
                    scope.reschedule(7)
                await forever()
    assert now() == 7.0


@pytest.mark.virtual_clock
async def test_a_deadline_that_is_removed_while_it_is_held_back_does_not_fire() -> None:
    async with silence() as silent:
        async with netio.timeout(1) as scope:
            async with netio.shield(10):
                await silent.wait(2)
                scope.reschedule(None)
            await asyncio.sleep(50)
    assert not scope.expired()


@pytest.mark.virtual_clock
async def test_a_block_that_ends_with_its_shield_is_not_cut_though_it_is_late() -> None:
    async with silence() as silent:
        async with netio.timeout(1) as scope:
            async with netio.shield(10):
                await silent.wait(2)
        await asyncio.sleep(0)
    assert (scope.expired(), this_task().cancelling()) == (False, 0)


@pytest.mark.virtual_clock
async def test_of_several_scopes_that_were_held_back_the_outermost_answers() -> None:
    async with silence() as silent:
        with pytest.raises(netio.DeadlineExceeded) as caught:
            async with netio.timeout(3, name="outer"):
                async with netio.timeout(2, name="middle"):
                    async with netio.timeout(1, name="inner"):
                        async with netio.shield(10):
                            await silent.wait(5)
                        await forever()
    assert (caught.value.scope.name, now()) == ("outer", 5.0)


@pytest.mark.virtual_clock
async def test_in_the_cleanup_of_an_expired_scope_the_second_cut_waits_for_the_shield() -> None:
    done = []
    async with silence() as silent:
        with pytest.raises(netio.DeadlineExceeded):
            async with netio.timeout(1, grace=1):
                try:
                    await forever()
                finally:
                    try:
                        async with netio.shield(10):
                            await silent.wait(4)
                            done.append("cleanup")
                        await forever()
                    finally:
                        done.append(now())
                        await forever()
    # Cut at 1, at the end of the shield, and again when a doubled pause is over.
    assert (done, now()) == (["cleanup", 5.0], 7.0)
    assert this_task().cancelling() == 0


@pytest.mark.virtual_clock
async def test_who_stands_in_a_shield_is_reported_as_anybody(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with silence() as silent:
        with pytest.raises(netio.DeadlineExceeded):
            async with netio.timeout(1, name="outer", grace=1):
                try:
                    await forever()
                finally:
                    async with netio.shield(60):
                        await silent.wait(20)
    [message] = [record.getMessage() for record in caplog.records if record.name == "netio"]
    assert "scope 'outer' has fired 5.0 s ago" in message
    assert "waits in read_exactly(1)" in message


@pytest.mark.virtual_clock
async def test_a_scope_of_a_task_around_is_not_held_back_by_the_shield_of_its_child() -> None:
    async with silence() as silent:

        async def child() -> None:
            async with netio.shield(10):
                await silent.wait(5)

        with pytest.raises(netio.DeadlineExceeded):
            async with netio.timeout(1):
                task = asyncio.create_task(child())
                await asyncio.wait([task])
        assert now() == 1.0
        await task
    assert now() == 5.0


# Scopes inside. -----------------------------------------------------------------------------------


@pytest.mark.virtual_clock
async def test_a_scope_inside_cuts_netios_waits_and_answers() -> None:
    async with silence() as silent:
        async with netio.shield(10):
            with pytest.raises(netio.DeadlineExceeded) as caught:
                async with netio.timeout(1, name="inside"):
                    await silent.wait()
            assert (now(), caught.value.scope.name) == (1.0, "inside")
            async with netio.move_on_after(1) as scope:
                await silent.wait()
            assert (now(), scope.caught) == (2.0, True)


@pytest.mark.virtual_clock
async def test_a_scope_inside_with_a_grace_cuts_again() -> None:
    cuts = []
    async with silence() as silent:
        async with netio.shield(100):
            async with netio.move_on_after(1, grace=1):
                while len(cuts) < 3:
                    with contextlib.suppress(asyncio.CancelledError):
                        await silent.wait()
                    cuts.append(now())
    assert cuts == [1.0, 2.0, 4.0]


@pytest.mark.parametrize("cancel_at", [0.5, 1.0, 1.5])
def test_a_scope_inside_answers_though_a_cancel_from_outside_is_held_back(
    cancel_at: float, run: Callable[[Main], None]
) -> None:
    """The rest of the cleanup is done; what is held back is the shield's to raise, at its end."""
    done = []

    async def main() -> None:
        async with silence() as silent:
            virtual_loop().call_at(cancel_at, this_task().cancel, "from outside")
            with pytest.raises(asyncio.CancelledError) as caught:
                async with netio.shield(10):
                    for _ in range(2):
                        try:
                            async with netio.timeout(1):
                                await silent.wait()
                        except TimeoutError as error:
                            done.append((type(error), now()))
                    await silent.wait(1)
                    done.append("goodbye")
            assert caught.value.args == ("from outside",)
            assert this_task().uncancel() == 0

    run(main)
    expected = [(netio.DeadlineExceeded, 1.0), (netio.DeadlineExceeded, 2.0), "goodbye"]
    assert done == expected


@pytest.mark.virtual_clock
async def test_a_cancel_that_cut_a_foreign_wait_still_beats_a_scope_inside() -> None:
    async with silence() as silent:
        virtual_loop().call_at(0.5, this_task().cancel, "held back")
        virtual_loop().call_at(1.5, this_task().cancel, "delivered")
        with pytest.raises(asyncio.CancelledError):
            async with netio.shield(10):
                async with netio.timeout(2) as scope:
                    await silent.wait(1)
                    try:
                        await forever()
                    finally:
                        await asyncio.sleep(1)
    assert (scope.expired(), scope.caught) == (True, False)
    assert this_task().uncancel() == 1
    assert this_task().uncancel() == 0


# Cancels from outside. ----------------------------------------------------------------------------


@pytest.mark.virtual_clock
async def test_a_foreign_wait_is_cut_by_a_cancel_as_ever() -> None:
    virtual_loop().call_at(1, this_task().cancel)
    with pytest.raises(asyncio.CancelledError):
        async with netio.shield(10):
            await asyncio.sleep(5)
    assert (now(), this_task().uncancel()) == (1.0, 0)


@pytest.mark.virtual_clock
async def test_what_was_held_back_and_what_cut_a_foreign_wait_are_one_cancellation() -> None:
    async with silence() as silent:
        virtual_loop().call_at(1, this_task().cancel)
        virtual_loop().call_at(3, this_task().cancel)
        with pytest.raises(asyncio.CancelledError):
            async with netio.shield(10):
                await silent.wait(2)
                await asyncio.sleep(5)
        assert now() == 3.0
        await asyncio.sleep(1)  # nothing follows
    assert this_task().cancelling() == 2
    this_task().uncancel()
    this_task().uncancel()


@pytest.mark.virtual_clock
async def test_a_cancel_beats_the_bound_as_it_beats_any_expiry() -> None:
    async with silence() as silent:
        virtual_loop().call_at(1, this_task().cancel)
        with pytest.raises(asyncio.CancelledError):
            async with netio.shield(2) as shield:
                await silent.wait()
    assert (now(), shield.expired(), shield.caught) == (2.0, True, False)
    assert this_task().uncancel() == 0


@pytest.mark.virtual_clock
async def test_a_cancel_that_waits_at_entry_and_meets_no_wait_is_met_after_the_block() -> None:
    this_task().cancel()
    async with netio.shield(5):
        pass
    with pytest.raises(asyncio.CancelledError):
        await asyncio.sleep(0)
    assert this_task().uncancel() == 0


# How it is made. ----------------------------------------------------------------------------------


@pytest.mark.virtual_clock
async def test_a_cancel_that_is_held_back_does_not_wake_the_task() -> None:
    async with silence() as silent:

        async def shielded() -> None:
            async with netio.shield(10):
                await silent.wait()

        task = asyncio.create_task(shielded())
        await ticks(2)
        future = silent.near._channel.waiters[0].future
        for _ in range(3):
            assert task.cancel()
            await ticks(2)
        assert future is not None
        assert silent.near._channel.waiters[0].future is future
        assert not future.done()
        silent.near.abort()
        assert isinstance(await outcome_of(asyncio.wait([task])), tuple)
        with pytest.raises(netio.StreamClosed):
            task.result()
    assert task.cancelling() == 3
