"""Who answers: the expiry of a scope, of one around it, or a cancel from outside (laws 14 to 19).

The clock is virtual and several things happen within one tick, in every order. A scope's timer is
set when `reschedule` is called, and timers due at one moment run in the order they were set.
"""

import asyncio
import itertools
import logging
import signal
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

import pytest
from virtual import TASK_FACTORIES, run_with, virtual_loop

import netio
from netio.testing import run

each_kind_of_scope = pytest.mark.parametrize("make", [netio.timeout_at, netio.move_on_at])
Factory = Callable[..., netio.Scope]
Main = Callable[[], Coroutine[Any, Any, None]]


@pytest.fixture(params=TASK_FACTORIES)
def run_in_task(request: pytest.FixtureRequest) -> Callable[[Main], None]:
    """Runs a coroutine in a task of each kind: in C, in Python, eager."""

    def run(main: Main) -> None:
        finished = []

        async def in_task() -> None:
            await main()
            finished.append(True)

        async def outermost() -> None:
            task = asyncio.create_task(in_task())
            await asyncio.wait([task])
            if not task.cancelled():
                task.result()

        run_with(TASK_FACTORIES[request.param], outermost())
        assert finished

    return run


def this_task() -> "asyncio.Task[Any]":
    task = asyncio.current_task()
    assert task is not None
    return task


async def forever() -> None:
    await asyncio.get_running_loop().create_future()


async def clean_up(seconds: float) -> None:
    """Waits for ever, and takes its time when it is cut."""
    try:
        await forever()
    finally:
        await asyncio.sleep(seconds)


# Law 14: the own expiry, and that of a scope around it. -----------------------------------------


@pytest.mark.virtual_clock
async def test_the_own_expiry_raises_an_error_that_names_the_scope() -> None:
    with pytest.raises(netio.DeadlineExceeded) as caught:
        async with netio.timeout(1.5, name="lookup") as scope:
            await clean_up(0.25)
    error = caught.value
    assert (error.scope, error.limit, error.operation) == (scope, "scope", "scope 'lookup'")
    assert (error.seconds, error.elapsed) == (1.5, 1.75)
    assert str(error) == "scope 'lookup': the limit of 1.5 s was reached after 1.750 s"
    assert isinstance(error, TimeoutError)
    assert isinstance(error.__cause__, asyncio.CancelledError)
    assert (scope.caught, scope.expired()) == (True, True)


@pytest.mark.virtual_clock
async def test_the_length_of_a_scope_is_told_as_it_was_said() -> None:
    rounded = 0
    for started in range(1, 100):
        await asyncio.sleep(started / 7)
        before = virtual_loop().time()
        with pytest.raises(netio.DeadlineExceeded) as caught:
            async with netio.timeout(0.05):
                await forever()
        rounded += virtual_loop().time() - before < 0.05
        assert caught.value.seconds == 0.05 <= caught.value.elapsed
    assert rounded > 10  # where adding and taking away again gives less


@pytest.mark.virtual_clock
async def test_the_error_says_what_was_cut() -> None:
    cut = asyncio.CancelledError()
    cut.__dict__.update(
        operation="read_bytes(16)", peer=("10.0.0.7", 7000), done=4, expected=16, partial=b"abcd"
    )
    with pytest.raises(netio.DeadlineExceeded) as caught:
        async with netio.timeout(1):
            try:
                await forever()
            except asyncio.CancelledError:
                raise cut from None
    error = caught.value
    assert (error.operation, error.peer) == ("read_bytes(16)", ("10.0.0.7", 7000))
    assert (error.done, error.expected, error.partial) == (4, 16, b"abcd")
    assert str(error).endswith(" during read_bytes(16), peer 10.0.0.7:7000")


@pytest.mark.virtual_clock
async def test_an_inner_except_timeout_error_does_not_catch_the_expiry_of_an_outer_scope() -> None:
    met = []
    with pytest.raises(netio.DeadlineExceeded) as caught:
        async with netio.timeout(1) as outer:
            try:
                async with netio.timeout(5) as inner:
                    await forever()
            except TimeoutError:
                met.append("TimeoutError")
            except asyncio.CancelledError:
                met.append("CancelledError")
                raise
    assert met == ["CancelledError"]
    assert caught.value.scope is outer
    assert not inner.expired()


@pytest.mark.virtual_clock
async def test_the_program_goes_on_after_a_scope_that_moves_on() -> None:
    async with netio.move_on_after(1) as scope:
        await forever()
    assert (scope.caught, scope.expired(), virtual_loop().time()) == (True, True, 1.0)


@pytest.mark.virtual_clock
async def test_a_quiet_inner_scope_does_not_swallow_the_expiry_of_an_outer_one() -> None:
    with pytest.raises(netio.DeadlineExceeded) as caught:
        async with netio.timeout(1) as outer:
            async with netio.move_on_after(5):
                await forever()
            await forever()
    assert (caught.value.scope, virtual_loop().time()) == (outer, 1.0)


@pytest.mark.virtual_clock
async def test_a_scope_in_the_cleanup_of_an_expired_scope_still_answers() -> None:
    cleaned_up = False
    with pytest.raises(netio.DeadlineExceeded) as caught:
        async with netio.timeout(1) as outer:
            try:
                await forever()
            finally:
                with pytest.raises(netio.DeadlineExceeded):
                    async with netio.timeout(1):
                        await forever()
                cleaned_up = True
    assert (cleaned_up, caught.value.scope) == (True, outer)


# Law 15: several fired: the outermost answers. --------------------------------------------------


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
@pytest.mark.virtual_clock
async def test_of_scopes_that_are_due_at_one_moment_the_outermost_answers(
    order: tuple[int, ...],
) -> None:
    cuts = 0
    with pytest.raises(netio.DeadlineExceeded) as caught:
        async with netio.timeout(None) as first, netio.timeout(None) as second:
            async with netio.move_on_after(None) as third:
                for which in order:
                    (first, second, third)[which].reschedule(1)
                try:
                    await forever()
                except asyncio.CancelledError:
                    cuts += 1
                    await asyncio.sleep(1)
                    raise
    assert caught.value.scope is first
    assert [scope.caught for scope in (first, second, third)] == [True, False, False]
    assert (cuts, virtual_loop().time(), this_task().cancelling()) == (1, 2.0, 0)


@pytest.mark.virtual_clock
async def test_an_outer_scope_that_fires_during_the_cleanup_of_an_inner_one_answers() -> None:
    with pytest.raises(netio.DeadlineExceeded) as caught:
        async with netio.timeout(2) as outer:
            async with netio.timeout(1):
                await clean_up(5)
    assert (caught.value.scope, virtual_loop().time()) == (outer, 2.0)


@pytest.mark.virtual_clock
async def test_an_inner_scope_that_was_left_before_the_outer_one_fires_has_answered() -> None:
    with pytest.raises(netio.DeadlineExceeded) as caught:
        async with netio.timeout(2) as outer:
            with pytest.raises(netio.DeadlineExceeded) as first:
                async with netio.timeout(1) as inner:
                    await forever()
            assert first.value.scope is inner
            await forever()
    assert caught.value.scope is outer


# Law 16: a cancel from outside wins, whenever it comes. -----------------------------------------


async def pending_at_entry(scope: netio.Scope) -> None:
    this_task().cancel()
    async with scope:
        await forever()


async def pending_at_entry_and_unwinding_past_the_deadline(scope: netio.Scope) -> None:
    this_task().cancel()
    async with scope:
        await clean_up(9)


async def before_the_timer(scope: netio.Scope) -> None:
    virtual_loop().call_at(1, this_task().cancel)
    async with scope:
        await forever()


async def before_the_timer_and_unwinding_past_the_deadline(scope: netio.Scope) -> None:
    virtual_loop().call_at(1, this_task().cancel)
    async with scope:
        await clean_up(9)


async def in_the_tick_of_the_timer_and_before_it(scope: netio.Scope) -> None:
    virtual_loop().call_at(3, this_task().cancel)
    async with scope:
        await forever()


async def in_the_tick_of_the_timer_and_after_it(scope: netio.Scope) -> None:
    async with scope:
        virtual_loop().call_at(3, this_task().cancel)
        await forever()


async def one_tick_after_the_timer(scope: netio.Scope) -> None:
    async with scope:
        loop = virtual_loop()
        loop.call_at(3, loop.call_soon, this_task().cancel)
        await clean_up(1)


async def during_the_cleanup(scope: netio.Scope) -> None:
    async with scope:
        virtual_loop().call_at(4, this_task().cancel)
        await clean_up(9)


async def at_the_end_of_the_cleanup_without_another_suspension(scope: netio.Scope) -> None:
    async with scope:
        try:
            await forever()
        finally:
            this_task().cancel()


async def twice_around_the_timer(scope: netio.Scope) -> None:
    virtual_loop().call_at(2, this_task().cancel)
    async with scope:
        virtual_loop().call_at(5, this_task().cancel)
        try:
            await forever()
        finally:
            await clean_up(9)


CANCELS: list[tuple[Callable[[netio.Scope], Awaitable[None]], int]] = [
    (pending_at_entry, 1),
    (pending_at_entry_and_unwinding_past_the_deadline, 1),
    (before_the_timer, 1),
    (before_the_timer_and_unwinding_past_the_deadline, 1),
    (in_the_tick_of_the_timer_and_before_it, 1),
    (in_the_tick_of_the_timer_and_after_it, 1),
    (one_tick_after_the_timer, 1),
    (during_the_cleanup, 1),
    (at_the_end_of_the_cleanup_without_another_suspension, 1),
    (twice_around_the_timer, 2),
]


@each_kind_of_scope
@pytest.mark.parametrize(("body", "cancels"), CANCELS, ids=[body.__name__ for body, _ in CANCELS])
def test_a_cancel_from_outside_beats_the_expiry(
    body: Callable[[netio.Scope], Awaitable[None]],
    cancels: int,
    make: Factory,
    run_in_task: Callable[[Main], None],
) -> None:
    async def main() -> None:
        scope = make(3)
        with pytest.raises(asyncio.CancelledError):
            await body(scope)
        assert not scope.caught
        assert this_task().cancelling() == cancels

    run_in_task(main)


@pytest.mark.parametrize("delay", [0, -1])
@each_kind_of_scope
def test_a_cancel_pending_at_entry_beats_a_scope_that_has_expired_already(
    delay: float, make: Factory, run_in_task: Callable[[Main], None]
) -> None:
    async def main() -> None:
        with pytest.raises(asyncio.CancelledError):
            await pending_at_entry(make(delay))
        assert this_task().cancelling() == 1

    run_in_task(main)


@pytest.mark.parametrize("order", list(itertools.permutations("dsc")))
def test_a_cancel_beats_expiry_and_result_in_every_order_within_one_tick(
    order: tuple[str, ...], run_in_task: Callable[[Main], None]
) -> None:
    async def main() -> None:
        loop, task = virtual_loop(), this_task()
        future = loop.create_future()
        with pytest.raises(asyncio.CancelledError):
            async with netio.timeout(None) as scope:
                for event in order:
                    if event == "d":
                        loop.call_at(1, lambda: future.done() or future.set_result(None))
                    elif event == "s":
                        scope.reschedule(1)
                    else:
                        loop.call_at(1, task.cancel)
                await future
                await forever()
        assert task.cancelling() == 1

    run_in_task(main)


@pytest.mark.parametrize("order", list(itertools.permutations("oic")))
def test_a_cancel_beats_several_expiries_in_every_order_within_one_tick(
    order: tuple[str, ...], run_in_task: Callable[[Main], None]
) -> None:
    async def main() -> None:
        loop, task = virtual_loop(), this_task()
        with pytest.raises(asyncio.CancelledError):
            async with netio.timeout(None) as outer:
                async with netio.timeout(None) as inner:
                    for event in order:
                        if event == "c":
                            loop.call_at(1, task.cancel)
                        else:
                            {"o": outer, "i": inner}[event].reschedule(1)
                    await clean_up(1)
        assert task.cancelling() == 1

    run_in_task(main)


def test_a_cancel_before_the_task_first_runs_wins() -> None:
    async def main() -> None:
        async def never_starts() -> None:
            async with netio.timeout(0):
                await forever()

        task = asyncio.create_task(never_starts())
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled()

    run(main())


@pytest.mark.virtual_clock
async def test_a_cancel_that_was_handled_and_taken_back_does_not_disarm_the_scope() -> None:
    virtual_loop().call_at(1, this_task().cancel)
    with pytest.raises(netio.DeadlineExceeded):
        async with netio.timeout(3):
            try:
                await forever()
            except asyncio.CancelledError:
                this_task().uncancel()
            await forever()
    assert this_task().cancelling() == 0


@pytest.mark.virtual_clock
async def test_a_cancel_pending_at_entry_that_is_taken_back_does_not_disarm_the_scope() -> None:
    this_task().cancel()
    with pytest.raises(netio.DeadlineExceeded):
        async with netio.timeout(3):
            try:
                await forever()
            except asyncio.CancelledError:
                this_task().uncancel()
            await forever()
    assert this_task().cancelling() == 0


def test_cancels_pending_at_entry_that_are_taken_back_do_not_hide_the_next_one(
    run_in_task: Callable[[Main], None],
) -> None:
    async def main() -> None:
        task = this_task()
        task.cancel()
        task.cancel()
        virtual_loop().call_at(1, task.cancel)
        with pytest.raises(asyncio.CancelledError):
            async with netio.timeout(1):
                try:
                    await forever()
                except asyncio.CancelledError:
                    task.uncancel()
                    task.uncancel()
                await forever()
        assert task.cancelling() == 1

    run_in_task(main)


@pytest.mark.virtual_clock
async def test_a_cancel_taken_back_before_entry_does_not_disarm_the_scope() -> None:
    # Before Python 3.13 the CancelledError comes all the same, and the count is already zero.
    this_task().cancel()
    this_task().uncancel()
    with pytest.raises(netio.DeadlineExceeded):
        async with netio.timeout(3):
            try:
                await asyncio.sleep(0)
            except asyncio.CancelledError:
                pass
            await forever()
    assert this_task().cancelling() == 0


@pytest.mark.virtual_clock
async def test_a_scope_in_the_cleanup_of_a_cancelled_task_expires_as_any_other() -> None:
    virtual_loop().call_at(1, this_task().cancel)
    with pytest.raises(asyncio.CancelledError):
        try:
            await forever()
        finally:
            with pytest.raises(netio.DeadlineExceeded):
                async with netio.timeout(3):
                    await forever()
    assert this_task().cancelling() == 1


@pytest.mark.virtual_clock
async def test_a_second_cancel_beats_a_scope_in_the_cleanup_of_the_first() -> None:
    this_task().cancel()
    with pytest.raises(asyncio.CancelledError):
        try:
            await forever()
        finally:
            virtual_loop().call_at(2, this_task().cancel)
            with pytest.raises(asyncio.CancelledError):
                async with netio.timeout(1):
                    await clean_up(9)
    assert this_task().cancelling() == 2


@pytest.mark.virtual_clock
async def test_a_cancel_after_the_scope_was_left_does_not_undo_its_answer() -> None:
    with pytest.raises(netio.DeadlineExceeded):
        async with netio.timeout(1):
            await forever()
    this_task().cancel()
    with pytest.raises(asyncio.CancelledError):
        await forever()


@pytest.mark.parametrize("delay", [0, -1, 5])
def test_control_c_while_the_main_task_computes_is_not_lost_in_a_scope(delay: float) -> None:
    async def main() -> None:
        signal.raise_signal(signal.SIGINT)
        async with netio.timeout(delay):
            await forever()

    with pytest.raises(KeyboardInterrupt):
        run(main())


# Law 17: the count of cancels is left as it was. ------------------------------------------------


async def returns(scope: netio.Scope) -> None:
    async with scope:
        return


async def swallows(scope: netio.Scope) -> None:
    async with scope:
        try:
            await forever()
        except asyncio.CancelledError:
            pass


async def raises_another_error(scope: netio.Scope) -> None:
    async with scope:
        try:
            await forever()
        finally:
            raise ValueError


async def raises_a_group(scope: netio.Scope) -> None:
    async with scope:
        try:
            await forever()
        except asyncio.CancelledError as cancelled:
            raise BaseExceptionGroup("", [cancelled, ValueError()]) from None


async def expires(scope: netio.Scope) -> None:
    async with scope:
        await forever()


async def leaves_a_loop(scope: netio.Scope) -> None:
    while True:
        async with scope:
            try:
                await forever()
            except asyncio.CancelledError:
                break


async def is_left_out_of_order(scope: netio.Scope) -> None:
    inner = netio.timeout(None)
    await scope.__aenter__()
    await inner.__aenter__()
    try:
        await forever()
    except asyncio.CancelledError as cancelled:
        try:
            await scope.__aexit__(type(cancelled), cancelled, None)
        finally:
            await inner.__aexit__(None, None, None)


async def is_left_in_another_task(scope: netio.Scope) -> None:
    await scope.__aenter__()
    try:
        await forever()
    except asyncio.CancelledError:
        await asyncio.create_task(scope.__aexit__(None, None, None))


async def opens_a_scope_in_its_cleanup(scope: netio.Scope) -> None:
    async with scope:
        try:
            await forever()
        finally:
            async with netio.move_on_after(1):
                await forever()


ways_out = pytest.mark.parametrize(
    "way_out",
    [
        returns,
        swallows,
        raises_another_error,
        raises_a_group,
        expires,
        leaves_a_loop,
        is_left_out_of_order,
        is_left_in_another_task,
        opens_a_scope_in_its_cleanup,
    ],
    ids=lambda way_out: way_out.__name__,
)


@ways_out
@each_kind_of_scope
@pytest.mark.parametrize("before", [0, 2])
@pytest.mark.virtual_clock
async def test_each_own_cancel_is_taken_back_once_on_every_way_out(
    way_out: Callable[[netio.Scope], Awaitable[None]], make: Factory, before: int
) -> None:
    for _ in range(before):
        this_task().cancel()
        with pytest.raises(asyncio.CancelledError):
            await forever()
    for scope in (make(1), make(None)):
        if scope.when() is None:
            scope.cancel()
        try:
            await way_out(scope)
        except (netio.DeadlineExceeded, ValueError, BaseExceptionGroup, RuntimeError):
            pass
        assert this_task().cancelling() == before
    await asyncio.sleep(0)  # no cancel is left pending, either
    assert virtual_loop().timers() == []


@ways_out
@each_kind_of_scope
@pytest.mark.virtual_clock
async def test_an_outside_cancel_is_still_counted_on_every_way_out(
    way_out: Callable[[netio.Scope], Awaitable[None]], make: Factory
) -> None:
    scope = make(1)
    virtual_loop().call_at(1, this_task().cancel)
    try:
        await way_out(scope)
        await asyncio.sleep(2)
    except (asyncio.CancelledError, ValueError, BaseExceptionGroup, RuntimeError):
        pass
    assert (scope.caught, this_task().cancelling()) == (False, 1)


async def swallow_a_cancel() -> None:
    """Leaves the count raised, as much code in the wild does."""
    this_task().cancel()
    try:
        await forever()
    except asyncio.CancelledError:
        pass


@each_kind_of_scope
@pytest.mark.virtual_clock
async def test_a_cancel_that_the_body_swallowed_makes_the_scope_cautious(make: Factory) -> None:
    scope = make(3)
    with pytest.raises(asyncio.CancelledError):
        async with scope:
            await swallow_a_cancel()
            await forever()
    assert (scope.caught, this_task().cancelling()) == (False, 1)


@pytest.mark.virtual_clock
async def test_a_cancel_that_was_swallowed_before_the_scope_does_not_disarm_it() -> None:
    await swallow_a_cancel()
    with pytest.raises(netio.DeadlineExceeded):
        async with netio.timeout(3):
            await forever()
    assert this_task().cancelling() == 1


@pytest.mark.parametrize("debug", [False, True])
def test_in_debug_mode_a_warning_explains_why_an_expiry_is_not_converted(
    debug: bool, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        with pytest.raises(asyncio.CancelledError):
            async with netio.timeout(3, name="lookup"):
                await swallow_a_cancel()
                await forever()

    run(main(), debug=debug)
    said = [record.getMessage() for record in caplog.records if record.name == "netio"]
    assert len(said) == debug
    if debug:
        assert "scope 'lookup' expires while task 'Task-" in said[0]
        assert "TaskGroup" in said[0]
        assert caplog.records[0].levelno == logging.WARNING


@pytest.mark.parametrize("order", ["ic", "ci", "io", "oi", "oic", "cio", "ico"])
def test_an_ordinary_race_of_expiries_and_cancel_warns_of_nothing(
    order: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        with pytest.raises((asyncio.CancelledError, netio.DeadlineExceeded)):
            async with netio.timeout(None) as outer, netio.timeout(None) as inner:
                for event in order:
                    if event == "c":
                        virtual_loop().call_at(1, this_task().cancel)
                    else:
                        {"o": outer, "i": inner}[event].reschedule(1)
                await forever()

    run(main(), debug=True)
    assert [record for record in caplog.records if record.name == "netio"] == []


def test_a_scope_that_expires_in_the_cleanup_of_an_outer_one_warns_of_nothing(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def main() -> None:
        with pytest.raises(netio.DeadlineExceeded):
            async with netio.timeout(1), netio.timeout(2):
                await clean_up(5)

    run(main(), debug=True)
    assert [record for record in caplog.records if record.name == "netio"] == []


@pytest.mark.virtual_clock
async def test_a_scope_does_not_count_what_a_scope_of_its_parent_task_did() -> None:
    async def child() -> None:
        with pytest.raises(netio.DeadlineExceeded):
            async with netio.timeout(1):
                await forever()
        assert this_task().cancelling() == 0

    async with netio.move_on_after(1):
        task = asyncio.create_task(child())
        await forever()
    await task


# Law 18: only cancellation is converted. --------------------------------------------------------


class Stopped(asyncio.CancelledError):
    """What some libraries make of a cancellation."""


class Frozen(Exception):
    """Takes nothing, a note included, as a frozen dataclass."""

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(name)

    def add_note(self, note: str) -> None:
        raise AttributeError(note)


@pytest.mark.virtual_clock
async def test_an_error_that_takes_no_note_passes_all_the_same() -> None:
    error = Frozen()
    with pytest.raises(Frozen) as caught:
        async with netio.timeout(1):
            try:
                await forever()
            finally:
                raise error
    assert caught.value is error


@pytest.mark.virtual_clock
async def test_what_a_subclass_of_the_cancellation_carries_is_not_taken_for_netios() -> None:
    class Counted(asyncio.CancelledError):
        attempts, done, operation = 3, "a lot", 7

        def __init__(self) -> None:
            self.attempts, self.done, self.operation = 3, "a lot", 7

    with pytest.raises(netio.DeadlineExceeded) as caught:
        async with netio.timeout(1, name="x"):
            try:
                await forever()
            except asyncio.CancelledError:
                raise Counted from None
    assert (caught.value.attempts, caught.value.done) == ((), 0)
    assert caught.value.operation == "scope 'x'"


@pytest.mark.parametrize(
    "error",
    [
        Stopped(),
        BaseExceptionGroup("", [asyncio.CancelledError()]),
        BaseExceptionGroup("", [Stopped(), BaseExceptionGroup("", [asyncio.CancelledError()])]),
    ],
    ids=["subclass", "group", "group in a group"],
)
@pytest.mark.virtual_clock
async def test_a_subclass_and_a_group_of_nothing_but_cancellation_are_converted(
    error: BaseException,
) -> None:
    with pytest.raises(netio.DeadlineExceeded) as caught:
        async with netio.timeout(1):
            try:
                await forever()
            except asyncio.CancelledError:
                raise error from None
    assert caught.value.__cause__ is error
    async with netio.move_on_after(1) as scope:
        try:
            await forever()
        except asyncio.CancelledError:
            raise error from None
    assert scope.caught


@pytest.mark.parametrize(
    "error",
    [
        ValueError(),
        TimeoutError(),
        BaseExceptionGroup("", [asyncio.CancelledError(), ValueError()]),
        GeneratorExit(),
    ],
    ids=lambda error: type(error).__name__,
)
@each_kind_of_scope
@pytest.mark.virtual_clock
async def test_any_other_error_passes_unchanged_with_a_note(
    error: BaseException, make: Factory
) -> None:
    with pytest.raises(type(error)) as caught:
        async with make(1, name="lookup") as scope:
            try:
                await forever()
            finally:
                await asyncio.sleep(0.5)
                raise error
    assert caught.value is error
    assert error.__notes__[-1:] == ["scope 'lookup' had expired 0.500 s before"]
    assert (scope.expired(), scope.caught, scope.overrun) == (True, False, 0.5)


@pytest.mark.virtual_clock
async def test_an_error_without_an_expiry_has_no_note() -> None:
    with pytest.raises(ZeroDivisionError) as caught:
        async with netio.timeout(1):
            raise ZeroDivisionError
    assert not hasattr(caught.value, "__notes__")


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
def test_an_interrupt_of_the_program_passes(error: type[BaseException]) -> None:
    async def main() -> None:
        async with netio.timeout(1):
            try:
                await forever()
            finally:
                raise error

    with pytest.raises(error):
        run(main())


@pytest.mark.virtual_clock
async def test_a_cancelled_error_without_an_expiry_passes() -> None:
    async with netio.timeout(1) as scope:
        future = asyncio.get_running_loop().create_future()
        future.cancel()
        with pytest.raises(asyncio.CancelledError):
            async with netio.timeout(1):
                await future
    assert not scope.expired()


# Law 19: a body that swallows its expiry. -------------------------------------------------------


@each_kind_of_scope
@pytest.mark.virtual_clock
async def test_a_body_that_swallows_its_expiry_leaves_without_error(make: Factory) -> None:
    scope = make(1)
    await swallows(scope)
    assert (scope.expired(), scope.caught, this_task().cancelling()) == (True, False, 0)
    await asyncio.sleep(0)


@pytest.mark.virtual_clock
async def test_a_body_is_cut_once_so_that_its_cleanup_can_wait() -> None:
    cuts = 0
    async with netio.move_on_after(1) as scope:
        while cuts < 1:
            try:
                await forever()
            except asyncio.CancelledError:
                cuts += 1
        await asyncio.sleep(100)
    assert (virtual_loop().time(), scope.overrun) == (101.0, 100.0)


# A cancel by hand: through the loop, quiet, and no expiry. --------------------------------------

each_raising_or_not = pytest.mark.parametrize("make", [netio.timeout, netio.move_on_after])


@each_raising_or_not
@pytest.mark.virtual_clock
async def test_a_scope_cancelled_by_hand_leaves_quietly(make: Factory) -> None:
    reached = []
    async with make(5) as scope:
        scope.cancel()
        reached.append("after cancel()")
        await asyncio.sleep(0)
        reached.append("after a suspension")
    assert reached == ["after cancel()"]
    assert (scope.caught, scope.expired(), this_task().cancelling()) == (True, False, 0)
    assert virtual_loop().timers() == []


@each_raising_or_not
@pytest.mark.virtual_clock
async def test_a_scope_cancelled_before_entry_ends_its_block_at_the_first_suspension(
    make: Factory,
) -> None:
    scope = make(5)
    scope.cancel()
    async with scope:
        await forever()
    assert (scope.caught, scope.expired(), virtual_loop().time()) == (True, False, 0.0)


@pytest.mark.virtual_clock
async def test_a_scope_without_a_limit_can_be_cancelled_from_another_task() -> None:
    async def other(scope: netio.Scope) -> None:
        await asyncio.sleep(2)
        scope.cancel()

    async with netio.timeout(None) as scope:
        task = asyncio.create_task(other(scope))
        await forever()
    assert (scope.caught, scope.expired(), virtual_loop().time()) == (True, False, 2.0)
    await task


@pytest.mark.virtual_clock
async def test_a_scope_cancelled_by_hand_before_it_is_due_in_the_same_tick_has_not_expired() -> (
    None
):
    scope = netio.timeout_at(1)
    virtual_loop().call_at(1, scope.cancel)
    async with scope:
        await forever()
    assert (scope.caught, scope.expired()) == (True, False)


@pytest.mark.virtual_clock
async def test_a_scope_cancelled_by_hand_after_it_fired_in_the_same_tick_has_expired() -> None:
    with pytest.raises(netio.DeadlineExceeded):
        async with netio.timeout(1) as scope:
            virtual_loop().call_at(1, scope.cancel)
            await forever()
    assert (scope.caught, scope.expired(), this_task().cancelling()) == (True, True, 0)


@pytest.mark.parametrize("cancel_first", [False, True])
@pytest.mark.virtual_clock
async def test_a_cancel_from_outside_beats_one_by_hand(cancel_first: bool) -> None:
    scope = netio.move_on_after(5)
    task = this_task()
    calls = [task.cancel, scope.cancel]
    with pytest.raises(asyncio.CancelledError):
        async with scope:
            for call in calls if cancel_first else reversed(calls):
                virtual_loop().call_at(1, call)
            await forever()
    assert (scope.caught, task.cancelling()) == (False, 1)


@pytest.mark.virtual_clock
async def test_an_outer_expiry_beats_a_cancel_by_hand_in_the_same_tick() -> None:
    with pytest.raises(netio.DeadlineExceeded) as caught:
        async with netio.timeout(None) as outer, netio.timeout(None) as inner:
            virtual_loop().call_at(1, inner.cancel)
            outer.reschedule(1)
            await forever()
    assert (caught.value.scope, inner.caught) == (outer, False)


@pytest.mark.virtual_clock
async def test_cancelling_by_hand_twice_or_after_leaving_does_nothing_more() -> None:
    async with netio.timeout(5) as scope:
        scope.cancel()
        scope.cancel()
        await forever()
    scope.cancel()
    await asyncio.sleep(0)
    assert (scope.caught, this_task().cancelling()) == (True, 0)


@pytest.mark.virtual_clock
async def test_a_block_that_ends_before_the_cancel_by_hand_arrives_is_not_cut() -> None:
    async with netio.timeout(5) as scope:
        scope.cancel()
    await asyncio.sleep(0)
    assert (scope.caught, scope.expired()) == (False, False)


@pytest.mark.virtual_clock
async def test_the_deadline_of_a_scope_cancelled_by_hand_does_not_move() -> None:
    async with netio.timeout(5) as scope:
        scope.cancel()
        with pytest.raises(RuntimeError, match="cancelled"):
            scope.reschedule(9)
        await forever()


@pytest.mark.virtual_clock
async def test_an_error_in_a_scope_cancelled_by_hand_has_no_note() -> None:
    with pytest.raises(ZeroDivisionError) as caught:
        async with netio.timeout(5) as scope:
            scope.cancel()
            try:
                await forever()
            finally:
                raise ZeroDivisionError
    assert not hasattr(caught.value, "__notes__")
    assert not scope.caught
