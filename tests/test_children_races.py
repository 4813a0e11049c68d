"""Waiting for work, in every order of what may happen to it: what comes back, and what is lost.

For each call and each kind of work all orders of two events of eight are played, and some orders of
five, drawn by chance, with each kind of task. Judged is by how the work has really ended.
"""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from children import turns
from virtual import TASK_FACTORIES

import netio
from netio.testing import Event, Stage, explore, explore_here
from netio.testing.events import CANCEL, SCOPE, TIME

LIMIT, GRACE = 3.0, 5.0
TICKS = 20  # more than any of it needs where no time has to pass
EVENTS = {
    "c": CANCEL,
    "a": CANCEL,  # again
    "b": CANCEL,  # and once more
    "s": SCOPE,
    "t": TIME,  # the limit of the call, or the grace
    "u": TIME,
    "f": Event("the work ends by itself"),
    "x": Event("somebody else cancels the work"),
}
KINDS = ("plain", "cleaning", "late", "failing", "deaf")


class Staged:
    """Work that ends when it is told to, or else as its kind does when it is cancelled."""

    def __init__(self, kind: str) -> None:
        self._kind = kind
        self._gate: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self.task: asyncio.Task[str] | None = None
        self.cancels = 0
        self.cancels_of_others = 0
        self.free = asyncio.Event()
        self.ending: str | BaseException | None = None  # None: it still runs

    async def run(self) -> str:
        self.task = asyncio.current_task()
        try:
            self.ending = await self._work()
        except BaseException as error:
            self.ending = error
            raise
        return self.ending

    async def _work(self) -> str:
        try:
            return await self._gate
        except asyncio.CancelledError:
            self.cancels += 1
            if self._kind == "plain":
                raise
            if self._kind == "deaf":
                while not self.free.is_set():
                    try:
                        await self.free.wait()
                    except asyncio.CancelledError:
                        self.cancels += 1
                return "heard"
            await turns(2)
            if self._kind == "late":
                return "late"
            if self._kind == "failing":
                raise OSError("the disk is full") from None
            raise

    def finish(self) -> bool:
        if self._gate.done():
            return False
        self._gate.set_result("done")
        return True

    def cancel(self) -> bool:
        done = self.task is not None and self.task.cancel()
        self.cancels_of_others += done
        return done

    @property
    def ended_at_last(self) -> bool:
        """Nothing is left, or what is left was told of."""
        return self.task is None or self.task.done()

    async def let_go(self) -> None:
        self.free.set()
        if self.task is not None and not self.task.done():
            await asyncio.wait([self.task])


Call = Callable[[Staged], Any]


async def waiting_for(work: Staged) -> Any:
    return await netio.wait_for(work.run(), LIMIT, grace=GRACE)


async def ending(work: Staged) -> Any:
    assert work.task is not None
    return await netio.cancel_and_wait(work.task, grace=GRACE)


async def shielding(work: Staged) -> Any:
    return await netio.shielded(work.run(), LIMIT, grace=GRACE)


class Played:
    """One schedule, played to one call and one kind of work."""

    def __init__(
        self, call: Call, kind: str, factory: Any = None, *, ticks: int | None = None
    ) -> None:
        """`ticks`: turns after which it is cancelled, on a real clock; None: time passes."""
        self._call, self._kind, self._factory, self._ticks = call, kind, factory, ticks
        self.met: set[str] = set()  # what has come of it so far

    def __repr__(self) -> str:
        return f"{self._call.__name__} {self._kind} work"

    async def __call__(self, stage: Stage) -> None:
        loop: Any = asyncio.get_running_loop()
        if self._factory is not None:
            loop.set_task_factory(self._factory)
        work = Staged(self._kind)
        over: dict[str, Any] = {}
        if self._call is ending:
            work.task = loop.create_task(work.run())
            await turns(2)

        async def program() -> Any:
            try:
                return await self._call(work)
            finally:
                over.update(left=not work.ended_at_last, ending=work.ending, time=loop.time())

        may_swallow = self._call is shielding
        acts = {"f": work.finish, "x": work.cancel}
        acts = {letter: act for letter, act in acts.items() if letter in stage._events}
        outcome = await stage.play(program(), acts, ticks=self._ticks, may_swallow=may_swallow)
        happened = outcome.happened + "c" * outcome.waits
        cancels = sum(happened.count(letter) for letter in "cab")
        assert stage.task.cancelling() == cancels
        # Once by the call, however often its caller is.
        assert work.cancels <= 1 + work.cancels_of_others
        self._judge(outcome.value, outcome.error, happened, over)
        live = [timer for timer in getattr(loop, "_scheduled", ()) if not timer.cancelled()]
        assert not live, "a timer is left"
        await work.let_go()

    def _judge(
        self, value: object, error: BaseException | None, happened: str, over: dict[str, Any]
    ) -> None:
        came = over["ending"]
        cancelled = any(letter in happened for letter in "cab")
        self.met.add(type(error).__name__ if error is not None else str(value))
        if isinstance(error, netio.DeadlineExceeded) and error.limit == "scope":
            assert "s" in happened
            assert not cancelled
            error = error.__cause__
            assert isinstance(error, asyncio.CancelledError)
        elif not cancelled or (
            # An error goes on, and the cancel stays pending.
            self._call is shielding and (isinstance(came, OSError) or over["left"])
        ):
            self._judge_alone(value, error, happened, over)
            return
        # A cancel has won, and has with it whatever there is.
        assert isinstance(error, asyncio.CancelledError)
        late = getattr(error, "late_result", None)
        assert late == (came if isinstance(came, str) and self._call is not ending else None)
        if over["left"]:
            assert isinstance(error.__cause__, netio.StillRunning)
        elif isinstance(came, OSError):
            assert error.__cause__ is came
        else:
            assert error.__cause__ is None or isinstance(error.__cause__, asyncio.CancelledError)

    def _judge_alone(
        self, value: object, error: BaseException | None, happened: str, over: dict[str, Any]
    ) -> None:
        came = over["ending"]
        if over["left"]:
            assert isinstance(error, netio.StillRunning)
            assert over["time"] >= GRACE
        elif isinstance(came, str):
            assert error is None
            assert value == (None if self._call is ending else came)
        elif isinstance(came, OSError):
            assert error is came
        elif self._call is ending:
            assert (value, error) == (None, None)
        elif isinstance(error, asyncio.CancelledError):
            assert "x" in happened
        else:
            assert isinstance(error, netio.DeadlineExceeded)
            assert error.limit == ("shield" if self._call is shielding else "call")
            assert over["time"] >= LIMIT


def played(call: Call, kind: str, factory: Any, **options: Any) -> set[str]:
    """Play many schedules, and tell what has come of them."""
    can_happen = dict(EVENTS)
    if call is ending:
        del can_happen["f"]  # it is told to end at once
        if kind == "plain":
            del can_happen["x"]  # and has ended before anybody else could tell it
    scenario = Played(call, kind, factory)
    explore(scenario, events=can_happen, **options)
    return scenario.met


# What comes of a kind of work once it was told to end, where that is not as usual.
ENDS = {"late": "late", "failing": "OSError", "deaf": "StillRunning"}


@pytest.mark.parametrize("factory", TASK_FACTORIES)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("call", [waiting_for, ending, shielding])
def test_it_answers_for_the_work_and_loses_nothing_of_it(
    call: Call, kind: str, factory: str
) -> None:
    met = played(call, kind, TASK_FACTORIES[factory], max_events=2, ticks=1)
    met |= played(call, kind, TASK_FACTORIES[factory], max_events=5, seeds=150)
    if call is ending:
        assert met >= {"CancelledError", ENDS.get(kind, "None").replace("late", "None")}
    else:
        assert met >= {"CancelledError", "done", ENDS.get(kind, "DeadlineExceeded")}


@pytest.mark.parametrize("kind", ["cleaning", "late", "failing"])
@pytest.mark.parametrize("call", [waiting_for, ending])
async def test_it_does_so_on_every_loop(call: Call, kind: str) -> None:
    """What needs no clock, so that it can be played on loops that have only a real one.

    But not what is shielded, which no cancel ends.
    """
    can_happen = {letter: event for letter, event in EVENTS.items() if letter in "casx"}
    if call is not ending:
        can_happen["f"] = EVENTS["f"]
    explored = await explore_here(
        Played(call, kind, ticks=TICKS), events=can_happen, max_events=2, ticks=1
    )
    assert explored.schedules > 60


# join. ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("factory", TASK_FACTORIES)
def test_a_join_answers_for_what_has_ended_and_ends_nothing(factory: str) -> None:
    """A future ends in the very moment it is told to, so that it is known what must come of it."""

    async def joining(stage: Stage) -> None:
        loop: Any = asyncio.get_running_loop()
        loop.set_task_factory(TASK_FACTORIES[factory])
        shared: asyncio.Future[str] = loop.create_future()

        def finish() -> bool:
            if not shared.done():
                shared.set_result("done")
                return True
            return False

        outcome = await stage.play(
            netio.join(shared, timeout=LIMIT), {"f": finish, "x": shared.cancel}
        )
        happened, error = outcome.happened, outcome.error
        assert stage.task.cancelling() == sum(happened.count(letter) for letter in "cab")
        if isinstance(error, netio.DeadlineExceeded) and error.limit == "scope":
            assert "s" in happened
        elif set(happened) & set("cab"):
            assert outcome.cancelled
        elif "f" in happened and not shared.cancelled():
            assert outcome.result() == "done"
        elif "x" in happened:
            assert outcome.cancelled
        else:
            assert isinstance(error, netio.DeadlineExceeded)
            assert error.limit == "call"
        assert shared.cancelled() <= ("x" in stage.schedule)
        assert not shared._callbacks
        assert not [timer for timer in loop._scheduled if not timer.cancelled()]

    options = {"max_events": 3, "ticks": 1} if factory == "c" else {"max_events": 2, "ticks": 2}
    can_happen = {letter: event for letter, event in EVENTS.items() if letter not in "bu"}
    explored = explore(joining, events=can_happen, **options)  # type: ignore[arg-type]
    assert explored.schedules > 300


@pytest.mark.parametrize("factory", TASK_FACTORIES)
def test_a_join_never_cancels_the_task(factory: str) -> None:
    async def joining(stage: Stage) -> None:
        loop = asyncio.get_running_loop()
        loop.set_task_factory(TASK_FACTORIES[factory])
        work = Staged("plain")
        task = loop.create_task(work.run())
        await turns(2)
        outcome = await stage.play(netio.join(task, timeout=LIMIT), {"f": work.finish})
        assert work.cancels == 0
        if "f" in stage.schedule:
            await asyncio.wait([task])
            assert task.result() == "done"
        if outcome.error is None:
            assert outcome.value == "done"
        work.finish()
        await asyncio.wait([task])

    can_happen = {letter: event for letter, event in EVENTS.items() if letter in "castf"}
    explore(joining, events=can_happen, max_events=2)
