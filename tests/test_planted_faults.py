"""The tests can fail: each fault planted in a copy of netio is caught by the test named beside it.

A fault is a change of the source, and so tells of code that was rewritten: a text that is no longer
there, or there twice, is a failure too. The faults are those such a library is known to have.
"""

import os
import shutil
import subprocess
import sys
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest

pytestmark = pytest.mark.once

ROOT = Path(__file__).parent.parent
AT_ONCE = 2
TEST_S = 10  # of a test that a fault makes hang
RUN_S = 200  # of a run that is beyond saving

Edit = tuple[str, str, str]  # file, what stands there, what stands there with the fault


@dataclass(frozen=True)
class Fault:
    """What is wrong, where, and which test says so."""

    name: str
    test: str  # file::function; its parameters are all run
    edits: tuple[Edit, ...]


def fault(name: str, test: str, *edits: Edit) -> Fault:
    return Fault(name, test, edits)


FAULTS = [
    fault(
        "a byte is lost on a cancel",
        "test_stream_races.py::test_a_waiting_read_answers_by_the_table_and_loses_no_byte",
        (
            "_receiving.py",
            "            self.mark(error, done=self.have())\n",
            "            self.buffer.take(self.buffer.size // 2)\n",
        ),
    ),
    fault(
        "the payload is carried in the future",
        "test_stream_races.py::test_a_waiting_read_answers_by_the_table_and_loses_no_byte",
        (
            "_receiving.py",
            "                buffer = self.buffer\n                if buffer.size:\n",
            "                buffer = self.buffer\n"
            "                if self.waiting and taken >= self._wanted > 1:\n"
            "                    self.future.set_result(chunk)\n"
            "                    return False\n"
            "                if buffer.size:\n",
        ),
        (
            "_stream.py",
            "                await wait\n",
            "                buffer.append(await wait or b'')\n",
        ),
    ),
    fault(
        "each chunk renews the deadline",
        "test_stream_limits.py::test_a_drip_does_not_renew_the_limit_of_a_read",
        (
            "_receiving.py",
            "        self.bytes_received += taken\n",
            "        self.bytes_received += taken\n"
            "        self.deadline = self.channel.loop.time() + self._seconds\n",
        ),
    ),
    fault(
        "an own cancel is not taken back",
        "test_scope_races.py::test_an_outside_cancel_is_still_counted_on_every_way_out",
        ("_scopes.py", "            task.uncancel()\n", "            pass\n"),
    ),
    fault(
        "an own cancel is taken back twice",
        "test_scope_races.py::test_an_outside_cancel_is_still_counted_on_every_way_out",
        (
            "_scopes.py",
            "            task.uncancel()\n",
            "            task.uncancel()\n            task.uncancel()\n",
        ),
    ),
    fault(
        "a cancel that is pending at entry is ignored",
        "test_scope_races.py::test_a_cancel_pending_at_entry_beats_a_scope_that_has_expired_already",
        (
            "_scopes.py",
            "        self._entry_count = delivered_cancels(task)\n",
            "        self._entry_count = task.cancelling()\n",
        ),
    ),
    fault(
        "an inner scope answers for the outer one",
        "test_scope_races.py::test_of_scopes_that_are_due_at_one_moment_the_outermost_answers",
        (
            "_scopes.py",
            "        if met_cancels(task) > self._entry_count:\n            return None",
            "        if False:\n            return None",
        ),
    ),
    fault(
        "an expiry throws away a result that is there",
        "test_scopes.py::test_a_result_that_came_in_the_tick_of_the_expiry_is_not_lost",
        (
            "_scopes.py",
            "        elif not self._looked_again and is_about_to_get_a_result(task):\n",
            "        elif False:\n",
        ),
    ),
    fault(
        "a shield lets a cancel into a wait",
        "test_shield_waits.py::test_a_cancel_at_any_tick_is_held_back_and_raised_once_at_the_end",
        ("_holding.py", "(hold is not None and hold.take(msg, self.get_loop())) or ", ""),
    ),
    fault(
        "a cancel that was held back is forgotten where the block fails",
        "test_shield_waits.py::test_where_the_body_fails_its_error_goes_on_and_the_cancel_is_met_next",
        ("_shields.py", "            _leave_pending(task, held)\n", "            pass\n"),
    ),
    fault(
        "a shield does not hold back the scopes around it",
        "test_shields.py::test_the_scopes_around_fire_when_it_is_over",
        ("_shields.py", "            scope._hold()\n", "            scope._shields += 0\n"),
    ),
    fault(
        "a body is cut again without a pause that grows",
        "test_grace.py::test_the_least_grace_is_no_busy_loop",
        ("_stubborn.py", "        self._pause *= 2\n", ""),
    ),
    fault(
        "a second cut throws away a result that is there",
        "test_grace.py::test_a_result_that_came_in_the_tick_of_the_second_cut_is_not_lost",
        (
            "_stubborn.py",
            "        if not self._looked_again and is_about_to_get_a_result(task):\n",
            "        if False:\n",
        ),
    ),
    fault(
        "the watcher is left when the descriptor is closed",
        "test_stream_lifecycle.py::test_the_watchers_go_before_the_descriptor",
        (
            "_readiness.py",
            "            self._stop_reading()\n            self._stop_writing()\n",
            "            pass\n",
        ),
    ),
    fault(
        "nobody is woken by a close",
        "test_stream_lifecycle.py::test_an_end_wakes_the_read_that_waits",
        (
            "_readiness.py",
            "            if not self.loop.is_closed():\n                waiter.wake()\n",
            "",
        ),
    ),
    fault(
        "a reset is read as the end",
        "test_reading.py::test_a_reset_comes_after_all_bytes_and_is_raised_each_time_afresh",
        (
            "_receiving.py",
            "            self.fail(error)\n            self._finished = True\n",
            "            self._finished = True\n",
        ),
    ),
    fault(
        "what the kernel took is counted one too few",
        "test_writing.py::test_a_cut_write_says_exactly_what_the_kernel_took",
        (
            "_sending.py",
            "outgoing.progress(), done=outgoing.done)",
            "outgoing.progress(), done=outgoing.done - 1)",
        ),
    ),
    fault(
        "a stream that is out of step takes further writes",
        "test_writing.py::test_a_single_byte_that_went_is_enough_to_be_out_of_step",
        ("_sending.py", "            if 0 < outgoing.done < total:\n", "            if False:\n"),
    ),
    fault(
        "the timer is never set again",
        "test_stream_limits.py::test_lines_have_a_limit_each",
        (
            "_readiness.py",
            "        if nearest < math.inf:\n",
            "        if False:\n",
        ),
    ),
    fault(
        "a limit that has passed is not given a last look",
        "test_stream_limits.py::test_zero_or_less_takes_what_the_kernel_has",
        (
            "_receiving.py",
            "self._last_look() if expired else self._look()",
            "None if expired else self._look()",
        ),
    ),
    fault(
        "hits on the buffer never leave a turn",
        "test_stream_fairness.py::test_an_endless_run_of_operations_leaves_turns_for_others",
        (
            "_stream.py",
            "            turns.credit -= 1\n            data = buffer.data\n",
            "            data = buffer.data\n",
        ),
    ),
    fault(
        "lines that were cut in advance outlive what they were cut from",
        "test_reading.py::test_lines_that_were_cut_in_advance_are_forgotten_when_more_comes",
        ("_receiving.py", "                    buffer.lines = None\n", ""),
        (
            "_buffer.py",
            "        self.lines = None\n        if not remaining",
            "        if not remaining",
        ),
    ),
    fault(
        "a search begins anew with each chunk",
        "test_buffer.py::test_a_search_goes_on_where_it_stopped",
        ("_buffer.py", "            self._searched = stop\n", "            break\n"),
    ),
    fault(
        "a second reader is let in",
        "test_stream_bad_input.py::test_a_second_reader_is_refused_before_any_io",
        (
            "_receiving.py",
            "        if self.busy:\n            raise",
            "        if False:\n            raise",
        ),
    ),
    fault(
        "a bare socket forgets what it has consumed",
        "test_sockets.py::test_a_cancelled_read_has_the_partial_bytes",
        (
            "_sockets.py",
            "            self.mark(cancelled, done=self.done, partial=bytes(self.taken))\n",
            "            self.mark(cancelled, done=self.done)\n",
        ),
    ),
    fault(
        "a cancelled connect leaves its socket open",
        "test_connect_cancel.py::test_a_cancel_while_the_peer_is_silent_leaves_nothing_behind",
        (
            "_racing.py",
            "            for run in self._running:\n                run.attempt.close()\n",
            "            pass\n",
        ),
    ),
    fault(
        "a connect through a proxy that is cut leaves the stream open",
        "test_proxies.py::test_a_cancel_in_any_wait_is_raised_and_nothing_is_left[socks]",
        ("_connect.py", "        stream.abort()\n        raise\n", "        raise\n"),
    ),
    fault(
        "what a resolver is cut by is not told as the limit",
        "test_resolver.py::test_it_is_cut_at_the_limit_which_is_named",
        ("_lookups.py", "        if error.scope is not scope:\n", "        if True:\n"),
    ),
    fault(
        "the loser of a race is left open",
        "test_connect_mixes.py::test_the_first_good_one_wins_or_every_failure_is_told[60.0-slow]",
        (
            "_racing.py",
            "            for run in self._running:\n                run.attempt.close()\n",
            "            for run in self._running[1:]:\n                run.attempt.close()\n",
        ),
    ),
    fault(
        "the next address has to wait though one has failed",
        "test_connect_mixes.py::test_the_first_good_one_wins_or_every_failure_is_told[60.0-refuses]",
        (
            "_racing.py",
            "        self._next_at = -math.inf if self._begun < len(self._targets) else math.inf\n",
            "",
        ),
    ),
    fault(
        "the failures of a race are told in the order in which they came",
        "test_connect_mixes.py::test_the_first_good_one_wins_or_every_failure_is_told[60.0-hole]",
        (
            "_racing.py",
            "for place in sorted(self._failures)",
            "for place in self._failures",
        ),
    ),
    fault(
        "an address that answers in the tick of the limit is not looked at",
        "test_connect_races.py::test_a_race_of_two_answers_by_the_table_and_leaves_nothing_behind",
        (
            "_racing.py",
            "                    channel = self._look()\n",
            "                    late = self._whole.deadline <= self._loop.time()\n"
            "                    channel = None if late else self._look()\n",
        ),
    ),
    fault(
        "retries renew the silence of a connection",
        "test_idle_and_total.py::"
        "test_time_in_which_nobody_waits_does_not_count_and_retries_do_not_renew_it",
        (
            "_stopwatch.py",
            "            self.passed += now - self.since\n",
            "            self.passed = 0.0\n",
        ),
    ),
    fault(
        "two who wait on a budget stop it with the first",
        "test_budget.py::test_it_is_spent_as_long_as_anybody_waits",
        (
            "_stopwatch.py",
            "        if not self.waiting:\n            self.passed",
            "        if True:\n            self.passed",
        ),
    ),
    fault(
        "a byte that goes leaves the silence as it is",
        "test_idle_and_total.py::test_a_byte_of_either_direction_renews_it_for_the_other",
        (
            "_sending.py",
            "            self.moving.moved(sent, channel.loop.time())\n        return self.done",
            "            pass\n        return self.done",
        ),
    ),
    fault(
        "waiting for a message counts as slowness",
        "test_min_rate.py::test_pauses_between_messages_are_idleness",
        ("_operation.py", "(begun or floor in running)", "True"),
    ),
    fault(
        "a limit that has moved is not asked again",
        "test_idle_and_total.py::test_a_byte_that_comes_renews_it",
        (
            "_operation.py",
            "        if self.moving is not None and self.deadline <= now:\n",
            "        if False:\n",
        ),
    ),
    fault(
        "a cut operation goes on spending its budget",
        "test_budget.py::test_calls_one_after_the_other_share_it_and_the_time_between_is_free",
        (
            "_receiving.py",
            "        if self.running:\n            self.stop_clocks",
            "        if False:\n            self.stop_clocks",
        ),
    ),
    fault(
        "work that was cancelled is not waited for",
        "test_cancel_and_wait.py::test_all_have_ended_when_it_comes_back",
        (
            "_children.py",
            "    return await wait_ended(running, seconds, operation)\n",
            "    return None\n",
        ),
    ),
    fault(
        "a cancel of the caller leaves the work alone",
        "test_cancel_and_wait.py::test_cancels_of_the_caller_wait_for_all_and_are_raised_then",
        ("_tasks.py", "        hold = Hold()\n", "        hold = Hold(most=0)\n"),
    ),
    fault(
        "a result that comes beside a cancel is lost",
        "test_waiting_for.py::test_a_cancel_waits_until_the_work_has_ended",
        (
            "_children.py",
            "        cancelled.__dict__[LATE_RESULT] = work.result()\n",
            "        pass\n",
        ),
    ),
    fault(
        "an error below a second wait is lost",
        "test_waiting_for.py::test_an_error_that_comes_late_is_found_below_any_number_of_waits",
        (
            "_children.py",
            "    return None if cause is None or only_cancellation(cause) else cause\n",
            "    return None\n",
        ),
    ),
    fault(
        "a task that is joined is cancelled with the caller",
        "test_joining.py::test_a_join_that_is_cancelled_leaves_the_task_alone",
        (
            "_tasks.py",
            "        await wait_within(operation, (task,))\n",
            "        await asyncio.wait_for(task, None)\n",
        ),
    ),
]


def pytest_run(package: Path, *tests: str) -> subprocess.CompletedProcess[str]:
    """Run `tests` with the netio that stands in `package`."""
    options = ["-q", "-x", "-p", "no:cacheprovider", "-o", f"timeout={TEST_S}", "--tb=line"]
    command = [sys.executable, "-P", "-m", "pytest", *options, *(f"tests/{test}" for test in tests)]
    return subprocess.run(
        command,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(package), "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        timeout=RUN_S,
    )


def copy_of_netio(place: Path, edits: tuple[Edit, ...] = ()) -> Path:
    ignore = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "netio", place / "netio", ignore=ignore)
    shutil.copy(ROOT / "_netio_pytest.py", place)
    for name, old, new in edits:
        path = place / "netio" / name
        text = path.read_text(encoding="utf-8")
        assert text.count(old) == 1, f"{name} has this {text.count(old)} times:\n{old}"
        path.write_text(text.replace(old, new), encoding="utf-8")
    return place


@pytest.fixture(scope="module")
def runs(
    tmp_path_factory: pytest.TempPathFactory, loop_variant: str
) -> "dict[str, Future[subprocess.CompletedProcess[str]]]":
    """All the runs, some at once; each test waits for its own."""
    if loop_variant != "stock":
        pytest.skip("on one loop is enough")

    tmp_path_factory.getbasetemp()  # which several threads can't make at once

    def run(one: Fault) -> subprocess.CompletedProcess[str]:
        return pytest_run(copy_of_netio(tmp_path_factory.mktemp("fault"), one.edits), one.test)

    with ThreadPoolExecutor(AT_ONCE) as pool:
        return {one.name: pool.submit(run, one) for one in FAULTS}


# The fixture waits for all, each of which has a limit: how long that takes is up to the machine.
@pytest.mark.timeout(20, func_only=True)
@pytest.mark.parametrize("planted", FAULTS, ids=lambda one: one.name)
def test_a_planted_fault_is_caught(
    runs: "dict[str, Future[subprocess.CompletedProcess[str]]]", planted: Fault
) -> None:
    done = runs[planted.name].result()
    assert done.returncode == pytest.ExitCode.TESTS_FAILED, done.stdout + done.stderr
    assert f"FAILED tests/{planted.test}" in done.stdout, done.stdout


@pytest.mark.timeout(RUN_S + 10)
def test_without_a_fault_a_run_passes(tmp_path: Path, loop_variant: str) -> None:
    """It is not the copy that makes them fail: that each passes on netio, its own run shows."""
    if loop_variant != "stock":
        pytest.skip("on one loop is enough")
    done = pytest_run(copy_of_netio(tmp_path), FAULTS[-1].test)
    assert done.returncode == pytest.ExitCode.OK, done.stdout + done.stderr
