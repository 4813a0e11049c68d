"""Exploration: one scenario under every schedule of events, and the shortest one that breaks it.

`explore` plays each schedule on a loop and a virtual clock of its own, `explore_here` on the loop
that runs. Schedules are played in the order of their length, so that the first that fails is the
shortest of them; one that was drawn by chance is made shorter, as long as what is left still fails.
"""

from __future__ import annotations

import asyncio
import dataclasses
import inspect
import random
from collections import Counter
from collections.abc import Callable, Coroutine, Generator, Iterable, Iterator, Mapping
from typing import Any, Final, TypeVar

from netio._arguments import check_callable, check_count
from netio._waiting import describe
from netio.testing._clock.loop import VirtualLoop, run_on
from netio.testing._exploring import notation
from netio.testing._exploring.notation import Script
from netio.testing._exploring.stage import Event, Stage
from netio.testing._leaks import live_timers
from netio.testing.events import STANDARD

T = TypeVar("T")

Scenario = Callable[[Stage], Coroutine[Any, Any, object]]
Legal = Callable[[str], bool]

#: Schedules of one exploration: some ten seconds of a small program.
MAX_SCHEDULES: Final = 20_000

#: Turns of the loop in one schedule. A small program takes some dozens.
MAX_STEPS: Final = 1_000

#: Schedules that are played in search of a shorter one that fails.
MAX_TRIALS: Final = 500

#: What the program started may take so many turns more to end.
_SETTLE_TURNS: Final = 5

_DRAWS: Final = 1_000  # of a seed, until an order is legal


@dataclasses.dataclass(frozen=True, slots=True)
class Exploration:
    """What was played, and passed.

    Attributes:
        schedules: how many distinct ones.
        happened: by its letter, in how many of them an event has really happened before the
            program was over.
    """

    schedules: int
    happened: Mapping[str, int]

    def __str__(self) -> str:
        told = ", ".join(f"{event} in {count:,}" for event, count in self.happened.items())
        return f"{self.schedules:,} schedules; happened: {told or 'nothing'}"


class CounterExample(AssertionError):
    """A schedule under which a scenario fails. What it failed with is the ``__cause__``.

    The text says what happens, turn by turn, and how to play that alone.

    Attributes:
        schedule: the shortest one that was found.
        found: the one that was found first.
        seed: the seed that has drawn that one, or None where all were played.
        played: how many distinct schedules were played until then.
    """

    def __init__(self, text: str, schedule: str, found: str, seed: int | None, played: int) -> None:
        super().__init__(text)
        self.schedule: str = schedule
        self.found: str = found
        self.seed: int | None = seed
        self.played: int = played


def explore(
    scenario: Scenario,
    *,
    events: Mapping[str, Event] = STANDARD,
    max_events: int = 3,
    ticks: int = 2,
    seeds: int | Iterable[int] | None = None,
    legal: Legal | None = None,
    schedules: Iterable[str] | None = None,
    max_schedules: int = MAX_SCHEDULES,
    max_steps: int = MAX_STEPS,
    debug: bool | None = None,
) -> Exploration:
    """Run `scenario` under every schedule of `events`, each on a virtual clock of its own.

    scenario: an async function of a `Stage`, which has it play the schedule to a program and
        asserts what must hold then, whatever has happened.
    events: what may happen, by the letters that schedules are written with; each at most once, so
        list under two letters what may happen twice. What the peer does has an order: its data
        comes as listed, and nothing after its end but a reset.
    max_events: of one schedule. All of 0 to so many are played.
    ticks: turns of the loop that may lie between two events, and before the first one. In each of
        them all orders of the events are played, ahead of and behind what was woken in between.
    seeds: draw one schedule for so many seeds (0, 1, ...), or for each of these, instead of playing
        all; None: play all.
    legal: which orders of events can happen, by their letters; None: all but those ruled out above.
    schedules: play exactly these; None: those that all the rest describes.
    max_schedules: more than that are not played, but refused.
    max_steps: turns of the loop, after which a program is taken to have no end.
    debug: asyncio's debug mode; None: as the interpreter was started.

    Besides what the scenario asserts, these fail a schedule: a program that waits for ever or has
    no end (`Deadlock`, `TooManySteps`), one that swallows a cancel or an expiry (`Stage.play`),
    tasks, timers and connections that are left, and what the loop would have logged.

    Returns: an `Exploration`: how many schedules were played, and how often each event happened.

    Raises:
        CounterExample: a schedule fails. It names the shortest that was found.
        AssertionError: all were played, or one for each of so many seeds, and an event has not
            really happened in any of them: they say nothing of it. (Where `schedules` or the seeds
            are named, which events happen is up to you.)
        ValueError: there are more than `max_schedules`, or an argument is none.
        RuntimeError: a loop runs in this thread already (see `explore_here`).
    """
    _refuse_two_loops("explore")
    check_count(max_steps, "max_steps", at_least=1)
    space = _Space(events, max_events, ticks, legal, max_schedules)
    search = _Search(scenario, space)

    def play(schedule: str) -> BaseException | None:
        return _failure_of(
            schedule, lambda: _run_alone(search.one(schedule, alone=True), max_steps, debug)
        )

    going = search.through(space.cases(seeds, schedules))
    error: BaseException | None = None
    while (schedule := _following(going, error)) is not None:
        error = play(schedule)
    return search.conclude(all_events=_asks_for_all(seeds, schedules))


async def explore_here(
    scenario: Scenario,
    *,
    events: Mapping[str, Event] = STANDARD,
    max_events: int = 3,
    ticks: int = 2,
    seeds: int | Iterable[int] | None = None,
    legal: Legal | None = None,
    schedules: Iterable[str] | None = None,
    max_schedules: int = MAX_SCHEDULES,
) -> Exploration:
    """As `explore`, but on the loop that runs: for real sockets, other loops, and other clocks.

    The schedules are played one after the other, so a scenario may keep what it needs for the next
    one. Nothing ends a program that waits for ever or has no end, but what `Stage.play` is told;
    and what is left behind by one schedule is not looked for.

    scenario, events, max_events, ticks, seeds, legal, schedules, max_schedules, None: as of
    `explore`.

    Returns: an `Exploration`.

    Raises: as `explore`.

    Cancellation: ends the exploration, in the middle of a schedule.
    """
    space = _Space(events, max_events, ticks, legal, max_schedules)
    search = _Search(scenario, space)
    going = search.through(space.cases(seeds, schedules))
    error: BaseException | None = None
    while (schedule := _following(going, error)) is not None:
        error = None
        try:
            await search.one(schedule, alone=False)
        except BaseException as raised:
            if not _is_of_scenario(raised):
                raised.add_note(f"while the schedule {schedule!r} was played")
                raise
            error = raised
    return search.conclude(all_events=_asks_for_all(seeds, schedules))


def replay(
    scenario: Scenario,
    schedule: str,
    *,
    events: Mapping[str, Event] = STANDARD,
    max_steps: int = MAX_STEPS,
    debug: bool | None = None,
) -> None:
    """Play one schedule alone, as `explore` does, for instance one that a `CounterExample` names.

    scenario, events, max_steps: as of `explore`. debug: asyncio's debug mode; None: as the
    interpreter was started.

    Raises: what makes the schedule fail, as it is. RuntimeError: a loop runs in this thread
        already. ValueError: `schedule` has something that is not in `events`.
    """
    _refuse_two_loops("replay")
    search = _Search(scenario, _Space(events, 1, 0, None, MAX_SCHEDULES))
    _run_alone(search.one(schedule, alone=True), max_steps, debug)


class _Space:
    """All schedules that are asked for."""

    def __init__(
        self,
        events: Mapping[str, Event],
        max_events: int,
        ticks: int,
        legal: Legal | None,
        max_schedules: int,
    ) -> None:
        if not isinstance(events, Mapping):
            raise TypeError(f"events must map letters to events, not {type(events).__name__}")
        for letter, event in events.items():
            if not isinstance(letter, str):
                raise TypeError(f"an event is called by a letter, not by {letter!r}")
            if len(letter) != 1 or not letter.isalnum():
                raise ValueError(f"an event is called by one letter or digit, not {letter!r}")
            if not isinstance(event, Event):
                raise TypeError(f"events[{letter!r}] must be an Event, not {type(event).__name__}")

        def of(kind: str) -> str:
            return "".join(letter for letter, event in events.items() if event.by_peer == kind)

        self.events = events
        self._script = Script("".join(events), of("data"), of("end"), of("reset"))
        self._max_events = min(check_count(max_events, "max_events", at_least=1), len(events))
        self._ticks = check_count(ticks, "ticks")
        if legal is not None:
            check_callable(legal, "legal")
        self._legal = legal
        self._max_schedules = check_count(max_schedules, "max_schedules", at_least=1)

    def legal(self, order: str) -> bool:
        return self._script.legal(order) and (self._legal is None or self._legal(order))

    def count(self) -> int:
        """How many there are; those that the user's `legal` rules out included."""
        return sum(
            self._script.count(size) * notation.count_placements(size, self._ticks)
            for size in range(self._max_events + 1)
        )

    def cases(
        self, seeds: int | Iterable[int] | None, schedules: Iterable[str] | None
    ) -> Iterator[tuple[str, int | None]]:
        """Each schedule, with the seed that has drawn it."""
        if schedules is not None:
            if seeds is not None:
                raise ValueError("seeds draw schedules, and these are given: leave out one of them")
            if isinstance(schedules, str):
                raise TypeError(f"schedules must be several, as [{schedules!r}]; one is a string")
            given = _several(schedules, "schedules", "an iterable of strings")
            for schedule in given:
                notation.check(schedule, self.events)
            return iter([(schedule, None) for schedule in given])
        if seeds is not None:
            if not self.events:
                raise ValueError("seeds draw events, and there are none")
            if isinstance(seeds, int):
                seeds = range(check_count(seeds, "seeds", at_least=1))
            several = _several(seeds, "seeds", "an int or an iterable of them")
            return iter([(self._draw(seed), seed) for seed in several])
        count = self.count()
        if count > self._max_schedules:
            at_most = "up to " if self._legal is not None else ""
            raise ValueError(
                f"there are {at_most}{count:,} schedules of at most {self._max_events} of "
                f"{len(self.events)} events, {self._ticks} turns apart; more than max_schedules "
                f"({self._max_schedules:,}). Play some of them, by chance (seeds=1000), or fewer "
                "(max_events, ticks), or allow for more"
            )
        return iter([(schedule, None) for schedule in self._all()])

    def _all(self) -> Iterator[str]:
        between, before = notation.gaps(self._ticks), notation.delays(self._ticks)
        for size in range(self._max_events + 1):
            found = [
                schedule
                for order in self._script.orders(size)
                if self._legal is None or self._legal(order)
                for schedule in notation.placements(order, between, before)
            ]
            yield from sorted(found, key=notation.length)

    def _draw(self, seed: int) -> str:
        chance = random.Random(check_count(seed, "a seed"))
        for _ in range(_DRAWS):
            order = self._script.draw(self._max_events, chance)
            if self.legal(order):
                return notation.draw(order, self._ticks, chance)
        raise ValueError("`legal` rules out nearly every order of the events")


def _several(several: Iterable[T], argument: str, expected: str) -> list[T]:
    if not isinstance(several, Iterable):
        raise TypeError(f"{argument} must be {expected}, not {type(several).__name__}")
    listed = list(several)
    if not listed:  # an iterator that was used up, say
        raise ValueError(f"{argument} must not be empty: it would show nothing")
    return listed


class _Search:
    """Goes through schedules, each of which somebody else plays, up to the first that fails."""

    def __init__(self, scenario: Scenario, space: _Space) -> None:
        if not callable(scenario):
            raise TypeError(f"scenario must be an async function, not {scenario!r}")
        self._scenario = scenario
        self._space = space
        self._played: set[str] = set()
        self._happened: Counter[str] = Counter()

    def through(
        self, cases: Iterable[tuple[str, int | None]]
    ) -> Generator[str, BaseException | None, None]:
        """Gives a schedule, and is sent what made it fail."""
        for found, seed in cases:
            if found in self._played:
                continue
            error = yield found
            if error is None:
                self._played.add(found)
                continue
            played = len(self._played) + 1
            schedule, error = yield from self._shortest(found, error)
            raise self._counter_example(schedule, error, found, seed, played) from error

    def _shortest(
        self, schedule: str, error: BaseException
    ) -> Generator[str, BaseException | None, tuple[str, BaseException]]:
        """The shortest schedule that fails with the same kind of error, from this one down."""
        trials = 0
        while True:
            for candidate in notation.shorter(schedule):
                if candidate in self._played:
                    continue
                if not self._space.legal(notation.letters(candidate)) or trials == MAX_TRIALS:
                    continue
                trials += 1
                its_error = yield candidate
                if type(its_error) is type(error):
                    schedule, error = candidate, its_error
                    break
                self._played.add(candidate)  # it is not played again
            else:
                return schedule, error

    async def one(self, schedule: str, *, alone: bool) -> None:
        """Play one schedule, on the loop that runs; `alone`: on which nothing else does."""
        loop = asyncio.get_running_loop()
        logged: list[dict[str, Any]] = []
        handler = loop.get_exception_handler()
        loop.set_exception_handler(lambda _, context: logged.append(context))
        stage = Stage(schedule, self._space.events)
        task = asyncio.current_task()
        if alone and task is not None:
            task.set_name("the scenario")  # and no number, which would be another one each time
        try:
            playing = self._scenario(stage)
            if not inspect.isawaitable(playing):
                raise TypeError("scenario must be an async function, which is given a Stage")
            await playing
            stage.check_played()
            stage.check_closed()
            if alone:
                await _check_nothing_is_left()
        finally:
            self._happened.update(set(stage.happened))
            await stage.close()
            loop.set_exception_handler(handler)
        if logged:
            context = logged[0]
            raise AssertionError(f"the loop has met: {context['message']}") from context.get(
                "exception"
            )

    def conclude(self, *, all_events: bool) -> Exploration:
        """When all is played. `all_events`: each was to happen."""
        missing = [letter for letter in self._space.events if not self._happened[letter]]
        if all_events and missing:
            told = ", ".join(f"{e!r} ({self._space.events[e].words})" for e in missing)
            raise AssertionError(
                f"in none of {len(self._played):,} schedules has it really happened: {told}. The "
                "program was over, or there was nothing for it to happen to, or max_events leaves "
                "no room for what must come before, or too few seeds have drawn it"
            )
        happened = {e: self._happened[e] for e in self._space.events if self._happened[e]}
        return Exploration(len(self._played), happened)

    def _counter_example(
        self, schedule: str, error: BaseException, found: str, seed: int | None, played: int
    ) -> CounterExample:
        name = getattr(self._scenario, "__qualname__", None) or repr(self._scenario)
        words = {letter: event.words for letter, event in self._space.events.items()}
        lines = [
            f"{name} fails under the schedule {schedule!r}, the shortest that was found:",
            *(f"    {line}" for line in notation.in_words(schedule, words)),
            f"with {type(error).__name__}: {error}",
            f"to play it alone: netio.testing.replay({name}, {schedule!r}, events=...)",
        ]
        if seed is not None:
            lines.append(f"found as {found!r}, by explore({name}, seeds=[{seed}], ...)")
        return CounterExample("\n".join(lines), schedule, found, seed, played)


def _asks_for_all(seeds: int | Iterable[int] | None, schedules: Iterable[str] | None) -> bool:
    """Whether every event is to happen: unless it was said which schedules, or which seeds."""
    return schedules is None and (seeds is None or isinstance(seeds, int))


def _following(
    going: Generator[str, BaseException | None, None], error: BaseException | None
) -> str | None:
    """The next schedule, after what came of the one before; None: all was played."""
    try:
        return going.send(error)
    except StopIteration:
        return None


async def _check_nothing_is_left() -> None:
    this = asyncio.current_task()
    for _ in range(_SETTLE_TURNS):
        tasks, timers = asyncio.all_tasks() - {this}, live_timers(asyncio.get_running_loop())
        if not tasks and not timers:
            return
        await asyncio.sleep(0)
    if tasks:  # which the timers are probably of
        told = ", ".join(sorted(describe(task) for task in tasks))
        raise AssertionError(f"the program has left running: {told}")
    raise AssertionError(f"the program has left timers: {', '.join(map(repr, timers))}")


def _is_of_scenario(error: BaseException) -> bool:
    """Whether a scenario has failed with it, and not this task been cancelled or interrupted."""
    if isinstance(error, asyncio.CancelledError):
        task = asyncio.current_task()
        return task is not None and not task.cancelling()
    return isinstance(error, Exception)


def _failure_of(schedule: str, play: Callable[[], None]) -> BaseException | None:
    try:
        play()
    except (Exception, asyncio.CancelledError) as error:
        return error
    except BaseException as error:
        error.add_note(f"while the schedule {schedule!r} was played")
        raise
    return None


def _run_alone(main: Coroutine[Any, Any, None], max_steps: int, debug: bool | None) -> None:
    run_on(lambda: VirtualLoop(max_steps=max_steps), main, debug=debug)


def _refuse_two_loops(name: str) -> None:
    if asyncio._get_running_loop() is not None:
        raise RuntimeError(
            f"netio.testing.{name}() makes loops with clocks of their own, and this thread runs a "
            "loop already. Call it from code that is not async, or await explore_here()"
        )
