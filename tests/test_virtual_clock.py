"""The virtual clock: when it jumps, how exactly, what it waits for, how it ends what has no end."""

import asyncio
import contextlib
import gc
import math
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from virtual import python_task_factory, virtual_loop

import netio
import netio.testing._clock.loop
from netio._operation import Operation
from netio._readiness import Readiness, Waiter
from netio._resolve import resolver_of
from netio.testing import Deadlock, TooManySteps, VirtualLoop, new_event_loop, run

DAY_S = 86400


async def forever() -> None:
    await asyncio.get_running_loop().create_future()


@contextlib.contextmanager
def takes_less_than(seconds: float) -> Iterator[None]:
    """In real time."""
    before = time.monotonic()
    yield
    assert time.monotonic() - before < seconds


# Time. ----------------------------------------------------------------------------------------


@pytest.mark.virtual_clock
async def test_time_starts_at_zero_and_stands_still_while_anything_can_run() -> None:
    loop = virtual_loop()
    timer = loop.call_at(1, lambda: None)
    for _ in range(100):
        await asyncio.sleep(0)
    assert loop.time() == 0.0
    timer.cancel()


def test_a_day_of_timeouts_takes_milliseconds() -> None:
    async def main() -> float:
        near, far = netio.stream_pair()
        async with near, far:
            for _ in range(24):
                with pytest.raises(netio.DeadlineExceeded):
                    await near.read_exactly(1, timeout=3600)
        return asyncio.get_running_loop().time()

    with takes_less_than(2):  # it is about 10 ms
        assert run(main()) == DAY_S


def test_ten_thousand_mixed_timers_are_exact() -> None:
    """asyncio's sleeps and timeouts, netio's scopes, and reads of streams that share a timer."""
    seed = random.randrange(2**32)
    draw = random.Random(seed)
    late: list[tuple[str, float, float]] = []

    def check(kind: str, due: float) -> None:
        if (now := asyncio.get_running_loop().time()) != due:
            late.append((kind, due, now))

    def delay() -> float:
        """Most of them within a few milliseconds of one another, some at the same moment."""
        return draw.choice((draw.uniform(0, 0.05), draw.uniform(0, 100), draw.randrange(50) / 10))

    async def sleeps(loop: asyncio.AbstractEventLoop) -> None:
        due = loop.time() + (seconds := delay())
        await asyncio.sleep(seconds)
        check("sleep", due)

    async def of_asyncio(loop: asyncio.AbstractEventLoop) -> None:
        due = loop.time() + delay()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout_at(due):
                await forever()
        check("asyncio.timeout", due)

    async def scope(loop: asyncio.AbstractEventLoop) -> None:
        due = loop.time() + (seconds := delay())
        async with netio.move_on_after(seconds):
            await forever()
        check("scope", due)

    async def read(loop: asyncio.AbstractEventLoop, stream: netio.Stream) -> None:
        due = loop.time() + (seconds := delay())
        with contextlib.suppress(netio.DeadlineExceeded):
            await stream.read_exactly(1, timeout=seconds)
        check("read", due)

    async def of_one_task(loop: asyncio.AbstractEventLoop) -> int:
        near, far = netio.stream_pair()
        async with near, far:
            for _ in range(25):
                await draw.choice((sleeps, of_asyncio, scope))(loop)
                await read(loop, near)
        return 50

    async def main() -> int:
        loop = asyncio.get_running_loop()
        return sum(await asyncio.gather(*(of_one_task(loop) for _ in range(200))))

    assert run(main()) == 10_000
    assert not late, f"seed {seed}: {late[:5]}"


@pytest.mark.virtual_clock
async def test_waits_of_one_channel_are_exact_to_a_tenth_of_a_millisecond() -> None:
    """They share a timer, which is set again for less than the millisecond that uvloop needs."""
    loop = virtual_loop()
    readiness = Readiness(loop)
    woken = []

    async def wait(deadline: float) -> None:
        await readiness.park(Waiter(deadline))
        woken.append((deadline, loop.time()))

    await asyncio.gather(*(wait(1 + n / 10_000) for n in range(20)))
    readiness.release()
    assert woken == [(1 + n / 10_000,) * 2 for n in range(20)]


@pytest.mark.parametrize("due", [5e-324, 1e-12, 9e-10])
def test_a_timer_is_exact_from_the_first_moment_on(due: float) -> None:
    async def main() -> float:
        loop = asyncio.get_running_loop()
        rang = loop.create_future()
        loop.call_at(due, lambda: rang.set_result(loop.time()))
        for _ in range(3):  # turns in which something runs, and time stands still
            await asyncio.sleep(0)
        return await rang

    assert run(main()) == due


@pytest.mark.virtual_clock
async def test_the_time_is_a_float_whatever_a_timer_was_set_for() -> None:
    loop = virtual_loop()
    rang = loop.create_future()
    loop.call_at(5, rang.set_result, None)
    await rang
    assert type(loop.time()) is float
    assert loop.time() == 5.0
    with pytest.raises(TypeError, match="when"):
        loop.call_at("6", print)  # type: ignore[arg-type]


@pytest.mark.virtual_clock
async def test_timers_due_at_one_moment_run_in_the_order_in_which_they_were_set() -> None:
    called: list[int] = []
    for number in range(50):
        virtual_loop().call_at(1, called.append, number)
    await asyncio.sleep(2)
    assert called == list(range(50))


@pytest.mark.virtual_clock
async def test_time_can_be_let_pass_within_a_turn() -> None:
    loop = virtual_loop()
    called: list[float] = []
    loop.call_at(1, lambda: called.append(loop.time()))
    loop.advance(5)
    assert (loop.time(), called) == (5.0, [])
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert called == [5.0]


@pytest.mark.parametrize("wrong", [-1, math.inf, math.nan])
def test_time_does_not_go_back_nor_to_infinity(wrong: float) -> None:
    with contextlib.closing(VirtualLoop()) as loop, pytest.raises(ValueError, match="seconds"):
        loop.advance(wrong)


def test_impossible_parameters_are_refused_by_name() -> None:
    for wrong, error in (
        ({"seed": "one"}, TypeError),
        ({"max_steps": 0}, ValueError),
        ({"max_steps": 1.5}, TypeError),
        ({"patience": math.nan}, ValueError),
        ({"patience": math.inf}, ValueError),
        ({"patience": -1}, ValueError),
        ({"patience": "long"}, TypeError),
    ):
        with pytest.raises(error, match=next(iter(wrong))):
            VirtualLoop(**wrong)
        with pytest.raises(error, match=next(iter(wrong))):
            run(asyncio.sleep(0), **wrong)  # and no coroutine that was never awaited


def test_in_debug_mode_a_timer_is_checked_as_asyncio_checks_it() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        with pytest.raises(RuntimeError, match="Non-thread-safe"):
            await asyncio.to_thread(loop.call_later, 1, print)
        with pytest.raises(TypeError, match="coroutines cannot be used with call_at"):
            loop.call_later(1, nothing)  # type: ignore[arg-type]

    run(main(), debug=True)


@pytest.mark.virtual_clock
async def test_a_timer_at_nan_is_refused_before_it_spoils_the_order_of_all() -> None:
    with pytest.raises(ValueError, match="NaN"):
        virtual_loop().call_at(math.nan, lambda: None)


def test_a_closed_loop_takes_no_timer() -> None:
    loop = new_event_loop()
    loop.close()
    with pytest.raises(RuntimeError, match="closed"):
        loop.call_later(1, lambda: None)


# Timers that are early, and would wake nobody. --------------------------------------------------


@pytest.mark.virtual_clock
async def test_a_timer_that_would_wake_nobody_is_no_reason_to_jump() -> None:
    """The read ends at once, and its timer stays set for 10 s (`Readiness` moves it lazily)."""
    near, far = netio.stream_pair()
    async with near, far:
        reading = asyncio.create_task(near.read_exactly(1, timeout=10))
        await asyncio.sleep(1)
        await far.write(b"x")
        await reading
        assert virtual_loop().timers() == [10.0]
        seen: list[float] = []
        virtual_loop().call_at(20, lambda: seen.append(virtual_loop().time()))
        jumps = moments_of(virtual_loop())
        await asyncio.sleep(30)
        assert jumps == [20.0, 31.0]


def moments_of(loop: VirtualLoop) -> list[float]:
    """What the clock of `loop` shows after each of its jumps from here on."""
    moments: list[float] = []

    def jump() -> bool:
        jumped = VirtualLoop.jump(loop)
        moments.append(loop.time())
        return jumped

    loop.jump = jump  # type: ignore[method-assign]
    return moments


class Echoing(Readiness):
    """A channel with a timer of its own, which makes it readable."""

    def come_later(self, seconds: float) -> None:
        self.loop.call_later(seconds, self.readable)


@pytest.mark.virtual_clock
async def test_a_timer_of_a_channels_own_is_a_reason_to_jump_whoever_waits_and_until_when() -> None:
    channel = Echoing(asyncio.get_running_loop())
    channel.come_later(3)
    waiter = Waiter(deadline=10)
    await channel.wait_readable(waiter)
    assert channel.loop.time() == 3.0
    channel.leave(waiter)
    channel.come_later(2)
    await asyncio.sleep(5)
    assert channel.ripe


@pytest.mark.virtual_clock
async def test_a_timer_that_is_early_for_who_waits_now_is_no_reason_to_jump_either() -> None:
    near, far = netio.stream_pair()
    async with near, far:
        for _ in range(2):  # the first leaves the timer at 10
            reading = asyncio.create_task(near.read_exactly(1, timeout=10))
            await asyncio.sleep(1)
            await far.write(b"x")
            await reading
        jumps = moments_of(virtual_loop())
        with pytest.raises(netio.DeadlineExceeded):
            await near.read_exactly(1, timeout=50)
        assert jumps == [52.0]


def test_a_loop_whose_only_timers_would_wake_nobody_is_in_a_deadlock() -> None:
    async def main() -> None:
        near, far = netio.stream_pair()
        async with near, far:
            reading = asyncio.create_task(near.read_exactly(1, timeout=10))
            await asyncio.sleep(1)
            await far.write(b"x")
            await reading
            assert virtual_loop().timers() == [10.0]
            await forever()

    with takes_less_than(1), pytest.raises(Deadlock, match="nothing can run at 1 s"):
        run(main())


def test_what_is_passed_over_by_a_jump_wakes_who_is_due_by_then() -> None:
    """However the deadlines of the waiters of one channel lie to its timer and to the others'."""
    for seed in range(200):
        draw = random.Random(seed)
        woken: list[tuple[float, float]] = []

        async def wait(readiness: Readiness, deadline: float, woken: Any = woken) -> None:
            await readiness.park(Waiter(deadline))
            woken.append((deadline, virtual_loop().time()))

        async def main(draw: random.Random = draw) -> None:
            channels = [Readiness(virtual_loop()) for _ in range(3)]
            tasks = []
            for _ in range(30):
                channel, deadline = draw.choice(channels), virtual_loop().time() + draw.randrange(9)
                tasks.append(asyncio.create_task(wait(channel, deadline)))
                if draw.random() < 0.3:
                    draw.choice(tasks).cancel()
                if draw.random() < 0.3:
                    await asyncio.sleep(draw.randrange(4))
            await asyncio.wait(tasks)
            for channel in channels:
                channel.release()

        run(main())
        assert all(due == at for due, at in woken), f"seed {seed}: {woken}"


# Deadlocks. -------------------------------------------------------------------------------------


def test_a_program_that_nothing_can_wake_ends_at_once() -> None:
    async def main() -> None:
        await asyncio.sleep(3)
        await forever()

    with takes_less_than(0.5), pytest.raises(Deadlock, match="nothing can run at 3 s"):
        run(main())


def test_a_timer_at_infinity_is_no_reason_to_wait() -> None:
    async def main() -> None:
        asyncio.get_running_loop().call_at(math.inf, lambda: None)
        await forever()

    with takes_less_than(0.5), pytest.raises(Deadlock):
        run(main())


def test_no_except_of_the_program_hides_a_deadlock() -> None:
    async def main() -> None:
        while True:
            with contextlib.suppress(Exception):
                await forever()

    with pytest.raises(Deadlock):
        run(main())


def test_after_a_deadlock_the_tasks_are_cancelled_and_may_clean_up() -> None:
    cleaned: list[float] = []

    async def main() -> None:
        try:
            await forever()
        finally:
            await asyncio.sleep(5)
            cleaned.append(asyncio.get_running_loop().time())

    with pytest.raises(Deadlock):
        run(main())
    assert cleaned == [5.0]


def test_a_cleanup_that_never_ends_is_told_with_the_deadlock_before() -> None:
    async def first_wait() -> None:
        await forever()

    async def second_wait() -> None:
        await forever()

    async def main() -> None:
        try:
            await first_wait()
        finally:
            await second_wait()

    with pytest.raises(Deadlock, match="first_wait") as caught:
        run(main())
    assert "second_wait" in caught.value.__notes__[0]


# What the clock waits for, in real time. ---------------------------------------------------------


def nap() -> str:
    time.sleep(0.01)
    return "rested"


@pytest.mark.virtual_clock
@pytest.mark.real_time("a thread takes its time")
async def test_the_clock_stands_still_while_a_job_is_in_an_executor() -> None:
    loop = virtual_loop()
    timer = loop.call_at(1, lambda: None)
    assert await asyncio.wait_for(asyncio.to_thread(nap), 10) == "rested"
    assert await loop.run_in_executor(None, nap) == "rested"
    assert loop.time() == 0.0
    timer.cancel()


@pytest.mark.virtual_clock
async def test_the_clock_goes_on_when_nobody_waits_for_the_job_any_more() -> None:
    release = threading.Event()
    job = virtual_loop().run_in_executor(None, release.wait, 10)
    job.cancel()
    await asyncio.sleep(1)
    assert virtual_loop().time() == 1.0
    release.set()


@pytest.mark.virtual_clock
@pytest.mark.real_time("a thread takes its time")
async def test_the_clock_stands_still_while_a_name_is_looked_up() -> None:
    real = socket.getaddrinfo

    def slow(*args: Any, **kwargs: Any) -> Any:
        time.sleep(0.01)
        return real("127.0.0.1", *args[1:], **kwargs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket, "getaddrinfo", slow)
        operation = Operation("connect_tcp")
        operation.start(0.0, 5.0, None, "resolve")
        found = await resolver_of(virtual_loop()).lookup("a.name.example", 80, operation)
        assert found[0].address == ("127.0.0.1", 80)
        await virtual_loop().getaddrinfo("another.name.example", 80)
    assert virtual_loop().time() == 0.0


@pytest.mark.virtual_clock
async def test_the_clock_stands_still_while_a_program_runs() -> None:
    code = "import time; time.sleep(0.01); print('done')"
    program = await asyncio.create_subprocess_exec(
        sys.executable, "-S", "-c", code, stdout=subprocess.PIPE
    )
    out, _ = await asyncio.wait_for(program.communicate(), 10)
    assert (out, virtual_loop().time()) == (b"done\n", 0.0)
    program = await asyncio.create_subprocess_shell("exit 3")
    async with asyncio.timeout(10):
        assert await program.wait() == 3
    assert virtual_loop().time() == 0.0


@pytest.mark.virtual_clock
async def test_the_clock_can_be_held_for_a_thread_of_ones_own() -> None:
    loop = virtual_loop()
    near, far = socket.socketpair()
    near.setblocking(False)
    with near, far:
        threading.Timer(0.02, far.send, [b"x"]).start()
        with loop.hold("the thread that sends"):
            assert await asyncio.wait_for(loop.sock_recv(near, 1), 10) == b"x"
    assert loop.time() == 0.0


@pytest.mark.virtual_clock
async def test_a_thread_that_is_not_known_of_does_not_hold_the_clock() -> None:
    loop = virtual_loop()
    come, may_come = asyncio.Event(), threading.Event()

    def comes() -> None:
        may_come.wait()
        loop.call_soon_threadsafe(come.set)

    thread = threading.Thread(target=comes)
    thread.start()
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(come.wait(), 10)
    assert loop.time() == 10.0
    may_come.set()
    with loop.hold("the thread"):
        await come.wait()
    thread.join()


@pytest.mark.virtual_clock
async def test_what_another_thread_hands_over_is_waited_for_when_there_is_no_timer() -> None:
    come = asyncio.Event()
    threading.Timer(0.02, virtual_loop().call_soon_threadsafe, [come.set]).start()
    await come.wait()


@pytest.mark.virtual_clock
async def test_a_signal_is_waited_for_when_there_is_no_timer() -> None:
    come = asyncio.Event()
    loop = virtual_loop()
    loop.add_signal_handler(signal.SIGALRM, come.set)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.02)
        await come.wait()
    finally:
        loop.remove_signal_handler(signal.SIGALRM)


@pytest.mark.virtual_clock
async def test_descriptors_that_are_ready_come_before_the_next_timer() -> None:
    loop = virtual_loop()
    near, far = socket.socketpair()
    near.setblocking(False)
    with near, far:
        far.send(b"x")
        assert await asyncio.wait_for(loop.sock_recv(near, 1), 5) == b"x"
    assert loop.time() == 0.0


@pytest.mark.real_time("a thread takes its time")
def test_the_end_of_a_run_waits_for_the_threads_of_its_executor(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(netio.testing._clock.loop, "STRANGER_SECONDS", 0.001)
    ended: list[str] = []

    async def main() -> None:
        asyncio.get_running_loop().run_in_executor(None, lambda: ended.append(nap())).cancel()

    before = threading.active_count()
    run(main())
    assert threading.active_count() == before
    assert len(ended) <= 1  # one that had not begun does not


@pytest.mark.real_time("how long is waited for what is not of the clock")
def test_a_job_that_does_not_end_is_an_error_that_names_it() -> None:
    release = threading.Event()

    async def main() -> None:
        asyncio.get_running_loop().call_at(1, lambda: None)
        try:
            await asyncio.to_thread(release.wait, 10)
        finally:
            release.set()

    message = r"the clock was held for 0\.05 s of real time by Event\.wait in an executor"
    with pytest.raises(Deadlock, match=message):
        run(main(), patience=0.05)


@pytest.mark.real_time("how long is waited for what is not of the clock")
def test_a_hold_in_which_nothing_comes_is_an_error_that_names_it() -> None:
    async def main() -> None:
        with virtual_loop().hold("the answer of the database"):
            await asyncio.sleep(1)

    with pytest.raises(Deadlock, match="by the answer of the database"):
        run(main(), patience=0.05)


@pytest.mark.virtual_clock
async def test_a_hold_is_told_its_reason_as_a_text() -> None:
    with pytest.raises(TypeError, match="reason must be a str, not int"):
        with virtual_loop().hold(5):  # type: ignore[arg-type]
            pytest.fail("held")


@pytest.mark.real_time("how long is waited for what is not of the clock")
def test_real_io_that_never_completes_is_an_error_that_names_the_descriptor() -> None:
    near, far = socket.socketpair()
    near.setblocking(False)

    async def main() -> None:
        await asyncio.get_running_loop().sock_recv(near, 1)

    with near, far:
        message = rf"descriptor {near.fileno()} \(.*\), watched for reading"
        with pytest.raises(Deadlock, match=message):
            run(main(), patience=0.05)


def test_a_descriptor_that_nobody_waits_for_does_not_delay_a_deadlock() -> None:
    """netio's readers stay registered between reads."""

    async def main() -> None:
        near, far = socket.socketpair()
        async with netio.open_stream(near) as stream:
            reading = asyncio.create_task(stream.read_some(timeout=10))
            await asyncio.sleep(0)
            far.send(b"x")
            await reading
            with far:
                await forever()

    with takes_less_than(0.5), pytest.raises(Deadlock) as caught:
        run(main())
    assert "nothing came from" not in str(caught.value)


# Runs that would not end. -------------------------------------------------------------------------


async def go_round() -> None:
    while True:  # noqa: ASYNC110
        await asyncio.sleep(0)


async def count_the_days() -> None:
    while True:  # noqa: ASYNC110
        await asyncio.sleep(DAY_S)


def test_a_task_that_goes_round_ends_by_the_number_of_steps() -> None:
    async def main() -> None:
        await asyncio.sleep(3)
        await go_round()

    with pytest.raises(TooManySteps, match="max_steps") as caught:
        run(main(), max_steps=5000)
    text = str(caught.value)
    assert "5,000 turns of the loop were not enough" in text
    assert "the clock stands at 3 s, for the last 4,99" in text
    assert "go_round" in text
    assert "is ready to run" in text


def test_a_program_that_never_ends_in_time_that_goes_on_ends_by_the_number_of_steps() -> None:
    with pytest.raises(TooManySteps) as caught:
        run(count_the_days(), max_steps=1000)
    assert "for the last" not in str(caught.value)
    assert "count_the_days" in str(caught.value)


def test_the_default_bound_is_finite() -> None:
    with contextlib.closing(VirtualLoop()) as loop:
        assert loop._max_steps == 1_000_000


def test_steps_are_counted_anew_for_each_run_of_a_loop_and_may_be_without_bound() -> None:
    async def turns(count: int) -> None:
        for _ in range(count):
            await asyncio.sleep(0)

    with asyncio.Runner(loop_factory=lambda: VirtualLoop(max_steps=100)) as runner:
        for _ in range(3):
            runner.run(turns(80))
    run(turns(2000), max_steps=None)


def test_a_task_that_ignores_its_cancellation_does_not_hang_the_end_of_a_run() -> None:
    async def main() -> None:
        while True:
            with contextlib.suppress(asyncio.CancelledError):
                await go_round()

    with pytest.raises(TooManySteps):
        run(main(), max_steps=1000)
    gc.collect()


# Two clocks. --------------------------------------------------------------------------------------


async def nothing() -> None:
    pass


async def test_a_clock_within_another_is_refused() -> None:
    with pytest.raises(RuntimeError, match="two clocks"):
        run(nothing())


@pytest.mark.virtual_clock
async def test_a_clock_within_a_virtual_one_is_refused() -> None:
    with pytest.raises(RuntimeError, match="two clocks"):
        run(nothing())


async def test_a_virtual_loop_within_a_running_one_is_refused() -> None:
    with contextlib.closing(VirtualLoop()) as loop:
        with pytest.raises(RuntimeError, match="another loop is running"):
            loop.run_forever()


def test_two_loops_one_after_the_other_have_a_clock_each() -> None:
    async def pause() -> float:
        await asyncio.sleep(7)
        return asyncio.get_running_loop().time()

    assert (run(pause()), run(pause())) == (7.0, 7.0)


# The order of what asyncio leaves open. -----------------------------------------------------------


def orders(main: Any, seeds: range = range(40), **options: Any) -> set[tuple[Any, ...]]:
    return {tuple(run(main(), seed=seed, **options)) for seed in seeds}


async def order_of_tasks() -> list[int]:
    seen: list[int] = []

    async def step(number: int) -> None:
        seen.append(number)
        await asyncio.sleep(0)
        seen.append(number + 10)

    await asyncio.gather(*map(step, range(3)))
    return seen


async def order_of_timers() -> list[int]:
    seen: list[int] = []
    for number in range(3):
        virtual_loop().call_at(1, seen.append, number)
    virtual_loop().call_at(0.5, seen.append, 10)
    virtual_loop().advance(2)  # all are late by now
    await asyncio.sleep(0)
    return seen


def test_without_a_seed_the_order_is_that_of_asyncio() -> None:
    assert run(order_of_tasks()) == asyncio.run(order_of_tasks()) == [0, 1, 2, 10, 11, 12]
    assert run(order_of_timers()) == [10, 0, 1, 2]


def test_a_seed_draws_the_order_of_the_tasks_that_are_ready() -> None:
    found = orders(order_of_tasks)
    assert len({order[:3] for order in found}) == len({order[3:] for order in found}) == 6


def test_a_seed_draws_the_order_of_tasks_that_were_woken() -> None:
    async def main() -> list[int]:
        seen: list[int] = []
        event = asyncio.Event()

        async def wait(number: int) -> None:
            await event.wait()
            seen.append(number)

        async with asyncio.TaskGroup() as group:
            for number in range(3):
                group.create_task(wait(number))
                await asyncio.sleep(1)  # so that it is only their waking that is drawn
            event.set()
        return seen

    assert len(orders(main)) == 6


def test_a_seed_draws_the_order_of_tasks_of_every_kind() -> None:
    async def main() -> list[int]:
        asyncio.get_running_loop().set_task_factory(python_task_factory)
        return await order_of_tasks()

    assert len({order[:3] for order in orders(main)}) == 6


def test_a_seed_draws_the_order_of_timers_due_at_one_moment_and_of_no_others() -> None:
    assert orders(order_of_timers) == {
        (10, 0, 1, 2), (10, 0, 2, 1), (10, 1, 0, 2), (10, 1, 2, 0), (10, 2, 0, 1), (10, 2, 1, 0),
    }  # fmt: skip


async def order_of_descriptors() -> list[str]:
    loop = virtual_loop()
    seen: list[str] = []
    with contextlib.ExitStack() as stack:
        for name in "abc":
            near, far = socket.socketpair()
            stack.enter_context(near)
            stack.enter_context(far)
            far.send(b"x")
            loop.add_reader(near, lambda n=name, s=near: (seen.append(n), loop.remove_reader(s)))
        loop.call_at(1, seen.append, "timer")
        loop.advance(1)
        await asyncio.sleep(0)
    return seen


def test_a_seed_draws_how_descriptors_and_timers_mix() -> None:
    found = orders(order_of_descriptors, range(200))
    assert len(found) == 24
    found = orders(order_of_descriptors, range(100), timers_first=True)
    assert len(found) == 6
    assert {order[0] for order in found} == {"timer"}
    assert run(order_of_descriptors(), timers_first=True)[0] == "timer"
    assert run(order_of_descriptors())[-1] == "timer"


def test_plain_callbacks_keep_the_order_that_asyncio_promises() -> None:
    """Also to the tasks that were ready before them: netio's scopes build on it (law 8)."""

    async def main() -> list[str]:
        loop, seen = asyncio.get_running_loop(), list[str]()

        async def task(name: str) -> None:
            seen.append(name)

        tasks = [asyncio.create_task(task(name)) for name in "ab"]
        loop.call_soon(seen.append, "1")
        loop.call_soon(seen.append, "2")
        tasks += [asyncio.create_task(task(name)) for name in "cd"]
        loop.call_soon(tasks[2].cancel)  # whose first step comes before
        future = loop.create_future()
        for number in "34":
            future.add_done_callback(lambda _, n=number: seen.append(n))
        future.set_result(None)
        await asyncio.gather(*tasks)
        return seen

    assert orders(main) == {
        (*first, "1", "2", *second, "3", "4") for first in ("ab", "ba") for second in ("cd", "dc")
    }


def test_what_one_task_does_stays_in_its_order() -> None:
    async def main() -> list[str]:
        seen: list[str] = []
        queue: asyncio.Queue[int] = asyncio.Queue(1)

        async def put() -> None:
            for number in range(5):
                await queue.put(number)

        async def get() -> None:
            seen.extend([str(await queue.get()) for _ in range(5)])

        await asyncio.gather(put(), get(), put(), get())
        return seen

    for order in orders(main):
        assert sorted(order) == sorted("0011223344")


def test_the_same_seed_draws_the_same() -> None:
    async def main() -> list[int]:
        return [n for _ in range(10) for n in await order_of_tasks() + await order_of_timers()]

    assert run(main(), seed=5) == run(main(), seed=5) != run(main(), seed=6)


def test_what_a_thread_hands_over_while_descriptors_are_looked_at_keeps_its_order(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    handed_over: list[int] = []
    real = asyncio.SelectorEventLoop._process_events  # type: ignore[attr-defined]

    def process(self: asyncio.SelectorEventLoop, events: list[Any]) -> None:
        real(self, events)
        for number in range(3):
            self.call_soon(handed_over.append, number)

    monkeypatch.setattr(asyncio.SelectorEventLoop, "_process_events", process)
    run(asyncio.sleep(1), seed=1)
    assert len(handed_over) > 9
    assert handed_over == [n % 3 for n in range(len(handed_over))]


def test_what_other_threads_hand_over_is_neither_lost_nor_reordered() -> None:
    async def main() -> None:
        loop, seen = virtual_loop(), list[int]()

        def hand_over() -> None:
            for number in range(2000):
                loop.call_soon_threadsafe(seen.append, number)

        job = loop.run_in_executor(None, hand_over)
        while not job.done():  # noqa: ASYNC110
            await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert seen == list(range(2000))

    run(main(), seed=1, max_steps=None)


# The way to a loop. -------------------------------------------------------------------------------


def test_a_loop_can_be_had_wherever_a_factory_is_asked_for() -> None:
    async def pause() -> float:
        await asyncio.sleep(100)
        return asyncio.get_running_loop().time()

    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        assert runner.run(pause()) == 100.0
        assert runner.run(pause()) == 200.0


def test_a_run_gives_what_its_coroutine_gives_and_raises_what_it_raises() -> None:
    async def fails() -> None:
        raise ZeroDivisionError

    async def gives() -> str:
        return "given"

    assert run(gives()) == "given"
    with pytest.raises(ZeroDivisionError):
        run(fails())


@pytest.mark.parametrize("debug", [True, False])
def test_a_run_can_be_in_the_debug_mode_of_asyncio(debug: bool) -> None:
    async def mode() -> bool:
        await asyncio.sleep(1)
        return asyncio.get_running_loop().get_debug()

    assert run(mode(), debug=debug) is debug


def test_control_c_ends_a_run() -> None:
    async def main() -> None:
        with virtual_loop().hold("somebody at the keyboard"):
            signal.setitimer(signal.ITIMER_REAL, 0.02)
            await asyncio.sleep(1)

    before = signal.signal(signal.SIGALRM, lambda *_: signal.raise_signal(signal.SIGINT))
    try:
        with pytest.raises(KeyboardInterrupt):
            run(main())
    finally:
        signal.signal(signal.SIGALRM, before)
