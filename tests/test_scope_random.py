"""Random programs of scopes, each exit of a scope held against laws 14 to 22 (`scope_model`).

So is each wait of netio in them: reads and writes, budgets, and work that is ended (`scope_waits`).

Scopes of every kind, shields among them, stand in one another and among the limits and groups of
asyncio and anyio, around waits of netio and of others; they are cancelled from outside and by hand,
moved, swallowed and cleaned up after. Time is virtual, and most events of a program happen at the
same few moments, in an order that is random, too.

A program that breaks a law is made smaller and printed. `--hypothesis-seed=123.4567` runs it alone,
and `run_program(...)` with what was printed is a test of its own.
"""

import asyncio
import math
from collections import Counter
from collections.abc import Iterable
from typing import Any

import pytest
from scope_machine import Machine, Violation, run_program
from scope_programs import Program, random_program, shrink, statements_in
from scope_situations import ALL_SITUATIONS

import netio
from netio import _children, _scopes
from netio._holding import Hold
from netio._shields import Shield
from netio._stopwatch import Stopwatch
from netio._stubborn import Stubborn

PROGRAMS = 20_000
OCCURRENCES_MIN = 10  # of each situation; the rarest comes 30 times
RUN_S = 60  # takes 4 to 6


def numbers_of(seed: str) -> tuple[str, Iterable[int]]:
    """All programs of a seed like "123", or the one of a seed like "123.4567"."""
    base, _, number = seed.partition(".")
    return base, [int(number)] if number else range(PROGRAMS)


def first_violation(machine: Machine, seed: str) -> tuple[str, Program] | None:
    base, numbers = numbers_of(seed)
    for number in numbers:
        program = random_program(f"{base}.{number}")
        if machine.run(program):
            return f"{base}.{number}", program
    return None


def report(machine: Machine, seed: str, program: Program) -> str:
    least = shrink(program, lambda smaller: bool(machine.run(smaller)))
    broken = machine.run(least)
    return "\n".join([*broken, f"--hypothesis-seed={seed} made smaller:", f"run_program({least})"])


@pytest.mark.timeout(RUN_S)
def test_random_programs_obey_the_laws_of_attribution(pytestconfig: pytest.Config) -> None:
    seed = pytestconfig.getoption("hypothesis_seed") or "0"
    with Machine() as machine:
        found = first_violation(machine, seed)
        assert found is None, report(machine, *found)
        scarce = [name for name in ALL_SITUATIONS if machine.seen[name] < OCCURRENCES_MIN]
    assert "." in seed or not scarce, f"hardly ever happened: {scarce}"


def test_a_loop_that_runs_many_programs_runs_each_as_a_new_one_does() -> None:
    programs = [random_program(f"loops.{number}") for number in range(200)]
    alone: Counter[str] = Counter()
    with Machine() as together:
        for program in programs:
            together.run(program)
            with Machine() as machine:
                machine.run(program)
            alone += machine.seen
    assert together.seen == alone


# The check itself: a fault is found, and what shows it is small. ----------------------------------


def leave_without_uncancel(scope: netio.Scope, task: "asyncio.Task[object]") -> None:
    scope._own_cancels = 0
    TAKE_BACK(scope, task)


def take_back_twice(scope: netio.Scope, task: "asyncio.Task[object]") -> None:
    scope._own_cancels *= 2
    TAKE_BACK(scope, task)


def answer_for_others(
    scope: netio.Scope, task: "asyncio.Task[object]", error: BaseException | None
) -> bool | None:
    scope._entry_count = task.cancelling()
    return CONCLUDE(scope, task, error)


async def cancel_the_running_task(scope: netio.Scope) -> netio.Scope:
    await ENTER(scope)
    if scope.remaining() == 0:
        task = scope._task
        assert task is not None
        scope._disarm()
        scope._fire(task)
    return scope


def forget_to_set_the_timer(scope: netio.Scope, when: float | None) -> None:
    MOVE(scope, when)
    scope._disarm()


def hold_nothing_back(hold: Hold, *cancel: Any) -> bool:
    return False


def ring_without_doubling(stubborn: Stubborn, now: float) -> None:
    stubborn._pause /= 2
    CUT_AGAIN(stubborn, now)


def cut_no_more(stubborn: Stubborn, now: float) -> None:
    stubborn._cuts_at = math.inf


def forget_what_is_due(scope: netio.Scope) -> None:
    scope._shields -= 1


def report_twice(stubborn: Stubborn, now: float) -> None:
    REPORT(stubborn, now)
    REPORT(stubborn, now)


async def wait_impatiently(*arguments: Any) -> asyncio.CancelledError | None:
    return await WAIT_ENDED(*arguments, patient=False)


def raise_the_last(*errors: BaseException | None) -> None:
    RAISE_FIRST(*reversed(errors))


WAIT_ENDED, RAISE_FIRST = _children.wait_ended, _children._raise_first
CUT_AGAIN, REPORT = Stubborn._cut_again, Stubborn._report
TAKE_BACK, CONCLUDE = netio.Scope._take_back, netio.Scope._conclude
ENTER, MOVE = netio.Scope.__aenter__, netio.Scope.reschedule

FAULTS: dict[str, tuple[Any, str, Any]] = {
    "a cancel is not taken back": (netio.Scope, "_take_back", leave_without_uncancel),
    "a cancel is taken back twice": (netio.Scope, "_take_back", take_back_twice),
    "the inner scope answers for others": (netio.Scope, "_conclude", answer_for_others),
    "a cancel pending at entry counts as met": (
        _scopes,
        "delivered_cancels",
        asyncio.Task.cancelling,
    ),
    "an earlier cancel counts as a new one": (_scopes, "delivered_cancels", lambda task: 0),
    "a group is no cancellation": (
        _scopes,
        "only_cancellation",
        lambda error: isinstance(error, asyncio.CancelledError),
    ),
    "the running task is cancelled": (netio.Scope, "__aenter__", cancel_the_running_task),
    "a moved deadline never comes": (netio.Scope, "reschedule", forget_to_set_the_timer),
    "a shield lets a cancel into a wait": (Hold, "take", hold_nothing_back),
    "a shield forgets what it has held back": (Shield, "_let_out", lambda *_: None),
    "what an inner shield has held back is lost": (Hold, "pass_out", lambda hold: None),
    "a shield does not hold back the scopes around it": (netio.Scope, "_hold", lambda scope: None),
    "what was due in a shield is not felt after it": (netio.Scope, "_release", forget_what_is_due),
    "a scope inside counts what a shield holds back": (
        _scopes,
        "met_cancels",
        asyncio.Task.cancelling,
    ),
    "a body is cut again after pauses that do not grow": (
        Stubborn,
        "_cut_again",
        ring_without_doubling,
    ),
    "a body is not cut again": (Stubborn, "_cut_again", cut_no_more),
    "a body that is not cut again keeps the loop busy": (
        Stubborn,
        "_cut_again",
        lambda stubborn, now: None,
    ),
    "a body that goes on is reported twice": (Stubborn, "_report", report_twice),
    "a cancel ends the wait for the end of work": (_children, "wait_ended", wait_impatiently),
    "work has no turn to end in after its limit": (
        _children,
        "wait_within",
        _children.until_ended,
    ),
    "an error of the work goes before the cancel": (_children, "_raise_first", raise_the_last),
    "a result that comes late is lost": (_children, "_carry", lambda *_: None),
    "work that does not end is not named": (_children, "_still_running", lambda *_: None),
    "a budget is not spent": (Stopwatch, "stop", lambda clock, now: None),
    "a cancel by hand is an expiry": (
        netio.Scope,
        "expired",
        lambda scope: scope._state in (_scopes._State.EXPIRING, _scopes._State.EXPIRED),
    ),
}


@pytest.mark.once
@pytest.mark.parametrize("fault", FAULTS)
def test_a_planted_fault_is_found_and_what_shows_it_is_small(
    fault: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(*FAULTS[fault])
    with Machine() as machine:
        found = first_violation(machine, "planted")
        assert found is not None
        text = report(machine, *found)
    least = eval(text.partition("run_program(")[2][:-1], {"Program": Program})
    assert statements_in(least.block) + len(least.cancels) <= 8, text
    with pytest.raises(Violation):
        run_program(least)
    monkeypatch.undo()
    run_program(least)
