"""What can be wrong with an exploration, its arguments and scenarios; and what is left behind."""

import asyncio
from typing import Any

import pytest
from test_exploring import EVENTS, nothing

import netio
from netio.testing import (
    CounterExample,
    Deadlock,
    Event,
    Stage,
    explore,
    explore_here,
    replay,
)
from netio.testing._exploring.notation import letters
from netio.testing.events import CANCEL, SCOPE, TIME, data

pytestmark = pytest.mark.own_loop


# Arguments and scenarios. ---------------------------------------------------------------------


def test_too_large_a_space_is_refused_with_its_size_and_what_to_do() -> None:
    with pytest.raises(ValueError, match=r"there are [\d,]{7,} schedules .*seeds=1000"):
        explore(nothing, events=EVENTS, max_events=7)
    with pytest.raises(ValueError, match="there are up to "):
        explore(nothing, events=EVENTS, max_events=7, legal=lambda order: len(order) < 2)


def test_an_event_that_never_happens_is_an_error_and_not_a_proof() -> None:
    with pytest.raises(AssertionError, match=r"in none of .*: 't' \(the clock goes on"):
        explore(is_over_at_once, events={"c": CANCEL, "t": TIME})


async def is_over_at_once(stage: Stage) -> None:
    await stage.play(asyncio.sleep(0))


def test_an_event_that_never_happens_is_an_error_for_a_number_of_seeds_too() -> None:
    events = {"c": CANCEL, "t": TIME}
    with pytest.raises(AssertionError, match=r"in none of .*: 't' .* too few seeds have drawn it"):
        explore(is_over_at_once, events=events, seeds=200)
    assert explore(nothing, events=events, seeds=20).happened.keys() == {"c", "t"}


def test_which_events_happen_is_up_to_who_names_the_seeds_or_the_schedules() -> None:
    """As those do who play one again that has failed."""
    events = {"c": CANCEL, "t": TIME}
    assert explore(is_over_at_once, events=events, seeds=[0, 1]).schedules == 2
    assert explore(is_over_at_once, events=events, schedules=["c", "t"]).schedules == 2


async def test_an_event_that_never_happens_is_an_error_on_the_running_loop_too() -> None:
    events = {"c": CANCEL, "x": Event("x", lambda stage: False)}
    for seeds in (None, 20):
        with pytest.raises(AssertionError, match=r"in none of .*: 'x' "):
            await explore_here(nothing_on_any_clock, events=events, seeds=seeds)
    await explore_here(nothing_on_any_clock, events=events, seeds=[0])


async def nothing_on_any_clock(stage: Stage) -> None:
    await stage.play(asyncio.Event().wait(), ticks=3)


def test_what_can_happen_may_be_narrowed() -> None:
    async def scenario(stage: Stage) -> None:
        assert not letters(stage.schedule).endswith("sc")
        await nothing(stage)

    explore(scenario, events={"c": CANCEL, "s": SCOPE}, legal=lambda order: order != "sc")


def test_a_scenario_that_plays_nothing_is_told() -> None:
    async def scenario(stage: Stage) -> None:
        pass

    with pytest.raises(CounterExample) as found:
        explore(scenario)
    assert "without `await stage.play(...)`" in str(found.value.__cause__)


@pytest.mark.parametrize("schedule", [5, None, b"c"])
def test_a_schedule_is_a_string(schedule: Any) -> None:
    with pytest.raises(TypeError, match="schedule must be a str, not"):
        replay(nothing, schedule)


def test_a_stage_plays_one_program_once() -> None:
    async def twice(stage: Stage) -> None:
        await nothing(stage)
        await nothing(stage)

    async def again(stage: Stage) -> None:
        await nothing(stage)
        await stage.outcome()

    async def none(stage: Stage) -> None:
        await stage.outcome()

    for scenario, text in {
        twice: "one program",
        again: "was played already",
        none: "no program was started",
    }.items():
        with pytest.raises(RuntimeError, match=text):
            replay(scenario, "c")


@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        ({"events": {"cc": CANCEL}}, ValueError, "one letter"),
        ({"events": {"|": CANCEL}}, ValueError, "one letter"),
        ({"events": {"c": "cancel"}}, TypeError, "must be an Event, not str"),
        ({"max_events": 0}, ValueError, "max_events must be at least 1"),
        ({"ticks": -1}, ValueError, "ticks must be at least 0"),
        ({"ticks": 1.5}, TypeError, "ticks must be an int"),
        ({"seeds": -1}, ValueError, "seeds must be at least 1"),
        ({"seeds": 0}, ValueError, "seeds must be at least 1"),
        ({"events": []}, TypeError, "events must map letters to events, not list"),
        ({"seeds": 1.5}, TypeError, "seeds must be an int or an iterable of them, not float"),
        ({"schedules": 5}, TypeError, "schedules must be an iterable of strings, not int"),
        ({"seeds": iter(())}, ValueError, "seeds must not be empty"),
        ({"schedules": []}, ValueError, "schedules must not be empty"),
        ({"schedules": "cs"}, TypeError, "schedules must be several"),
        ({"schedules": ["c"], "seeds": 3}, ValueError, "seeds draw schedules"),
        ({"seeds": [0, "x"]}, TypeError, "a seed must be an int"),
        ({"events": {1: CANCEL}}, TypeError, "called by a letter, not by 1"),
        ({"events": {}, "seeds": 3}, ValueError, "seeds draw events, and there are none"),
        ({"legal": 5}, TypeError, "legal must be a function, not int"),
        ({"schedules": [5]}, TypeError, "schedule must be a str, not int"),
        ({"seeds": 1, "legal": lambda order: False}, ValueError, "rules out nearly every order"),
        ({"max_schedules": 0}, ValueError, "max_schedules must be"),
        ({"max_steps": 0}, ValueError, "max_steps must be"),
        ({"schedules": ["c|x"]}, ValueError, "'c|x' has 'x', which is no event"),
        ({"schedules": ["x"], "events": {"c": CANCEL}}, ValueError, "in `events`, which has 'c'"),
        ({"schedules": ["c c"]}, ValueError, "which is no event"),
    ],
)
def test_an_impossible_argument_is_refused_before_anything_is_played(
    options: dict[str, Any], error: type[Exception], text: str
) -> None:
    async def scenario(stage: Stage) -> None:
        raise AssertionError("played")

    with pytest.raises(error) as refused:
        explore(scenario, **options)
    assert text in str(refused.value)


@pytest.mark.parametrize("program", [asyncio.sleep, None, lambda: nothing])
def test_a_program_that_is_no_coroutine_is_refused_by_the_first_schedule(program: Any) -> None:
    async def scenario(stage: Stage) -> None:
        await stage.play(program)

    with pytest.raises(
        TypeError, match="program must be a coroutine, as calling an async function"
    ):
        replay(scenario, "c")


def test_an_act_for_what_is_no_event_is_refused() -> None:
    async def at_once(stage: Stage) -> None:
        await stage.play(asyncio.sleep(0), {"x": lambda: None})

    async def in_two_steps(stage: Stage) -> None:
        stage.start(asyncio.sleep(0))
        await stage.outcome({"x": lambda: None})

    for scenario in (at_once, in_two_steps):
        with pytest.raises(ValueError, match="acts has 'x', which is no event in `events`"):
            replay(scenario, "c")


@pytest.mark.parametrize("play", [explore, lambda scenario: replay(scenario, "c")])
def test_a_scenario_that_is_not_async_is_told(play: Any) -> None:
    with pytest.raises(TypeError, match="scenario must be an async function"):
        play(None)
    with pytest.raises((TypeError, CounterExample), match="scenario must be an async function"):
        play(lambda stage: None)


def test_data_that_is_none_and_an_event_without_an_act_are_told() -> None:
    with pytest.raises(ValueError, match="must not be empty"):
        data(b"")
    with pytest.raises(TypeError, match="must be bytes, not str"):
        data("text")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="words must be a str, not int"):
        Event(5)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="act must be a function, not str"):
        Event("x", "y")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="by_peer must be"):
        Event("x", by_peer="maybe")
    with pytest.raises(RuntimeError, match="'x' has no act"):
        replay(nothing, "x", events={"x": Event("x")})


def test_what_waits_for_ever_is_told_with_the_code_of_the_program() -> None:
    async def waits_for_ever(stream: netio.Stream) -> bytes:
        return await stream.read_exactly(16, timeout=None)

    async def scenario(stage: Stage) -> None:
        await stage.play(waits_for_ever(stage.near))

    with pytest.raises(
        Deadlock, match=r"waits in read_exactly\(16\) .*waits_for_ever \(.*py:\d+\)"
    ):
        replay(scenario, "", events={})


def test_data_that_does_not_fit_is_told() -> None:
    with pytest.raises(BufferError, match="no room for 2000000 bytes"):
        replay(nothing_on_a_stream, "d", events={"d": data(b"x" * 2_000_000)})


async def nothing_on_a_stream(stage: Stage) -> None:
    await stage.play(stage.near.read_exactly(1))


async def test_two_clocks_in_one_thread_are_refused() -> None:
    with pytest.raises(RuntimeError, match="explore_here"):
        explore(nothing)
    with pytest.raises(RuntimeError, match=r"replay\(\) makes loops"):
        replay(nothing, "c")


async def test_time_is_not_told_to_pass_on_a_real_clock_and_what_has_failed_leaves_nothing() -> (
    None
):
    async def scenario(stage: Stage) -> None:
        await stage.play(asyncio.sleep(9 if stage.schedule else 0))

    with pytest.raises(CounterExample) as found:
        await explore_here(scenario, events={"t": TIME}, schedules=["t"])
    assert "virtual clock" in str(found.value.__cause__)
    assert asyncio.all_tasks() == {asyncio.current_task()}


def test_an_interruption_names_the_schedule_and_is_no_counter_example() -> None:
    async def scenario(stage: Stage) -> None:
        await nothing(stage)
        if stage.schedule:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt) as stopped:
        explore(scenario, events={"c": CANCEL})
    assert stopped.value.__notes__ == ["while the schedule 'c' was played"]


def test_a_negative_number_of_turns_is_refused() -> None:
    async def negative(stage: Stage) -> None:
        await stage.play(asyncio.sleep(1), ticks=-1)

    with pytest.raises(ValueError, match="ticks must be at least 0, not -1"):
        replay(negative, "c")


def test_of_several_acts_that_fail_the_first_is_told() -> None:
    def fail(stage: Stage) -> None:
        raise ValueError(f"after {stage.happened!r}")

    events = {"c": CANCEL, "x": Event("x", fail), "y": Event("y", fail)}
    with pytest.raises(ValueError, match="after ''"):
        replay(nothing, "x/c/y", events=events)


# What is left behind. -------------------------------------------------------------------------


def test_a_timer_that_is_left_is_found() -> None:
    async def program() -> None:
        timer = asyncio.get_running_loop().call_later(100, print, "forgotten")
        await asyncio.sleep(1)
        timer.cancel()

    async def scenario(stage: Stage) -> None:
        await stage.play(program())

    with pytest.raises(CounterExample, match=r"has left timers: <_Timer when=100\.0 ") as found:
        explore(scenario, events={"c": CANCEL, "t": TIME})
    assert found.value.schedule == "c"


def test_a_timer_that_would_wake_nobody_is_not_left() -> None:
    """That of a stream which is still open, after a read that had a limit."""
    timers: list[list[float]] = []

    async def scenario(stage: Stage) -> None:
        await stage.play(stage.near.read_exactly(1, timeout=9))
        loop = asyncio.get_running_loop()
        assert isinstance(loop, netio.testing.VirtualLoop)
        timers.append(loop.timers())

    explore(scenario, events={"d": data(b"!")}, schedules=["/d"])
    assert timers == [[9.0]]


async def test_a_cancel_that_the_scenario_meets_on_the_running_loop_is_a_failure_of_it() -> None:
    async def careless(stage: Stage) -> None:
        outcome = await stage.play(asyncio.Event().wait(), ticks=5)
        if not outcome.waits:
            outcome.result()

    with pytest.raises(CounterExample) as found:
        await explore_here(careless, events={"c": CANCEL})
    assert found.value.schedule == "c"
    assert isinstance(found.value.__cause__, asyncio.CancelledError)


async def test_who_cancels_an_exploration_on_the_running_loop_ends_it() -> None:
    playing = asyncio.Event()

    async def scenario(stage: Stage) -> None:
        playing.set()
        await stage.play(asyncio.Event().wait())

    task = asyncio.create_task(explore_here(scenario, events={"x": Event("x", lambda _: None)}))
    await playing.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
