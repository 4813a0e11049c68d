"""A timeline has what happened, in plain events of which two runs of the same compare equal."""

import asyncio
import gc
import json
import subprocess
import sys
import weakref
from pathlib import Path

import pytest
from recordings import a_fetch, a_tangle, quietly, recorded
from streams import a_pair, outcome_of

import netio
from netio._observing import observed
from netio.testing import Network, Timeline, TimelineEvent, mark, record, run


def brief(timeline: Timeline, task: str | None = None) -> list[str]:
    return [
        f"{event.time:g} {event.kind}: {event.name}"
        for event in timeline.events
        if task in (None, event.task)
    ]


def test_it_tells_what_a_task_has_done_and_when() -> None:
    assert brief(recorded(a_fetch), "client") == [
        "0 task seen: client",
        "0 scope entered: fetch",
        "0 wait began: connect_tcp: lookup",
        "0.25 wait ended: connect_tcp: lookup",
        "0.25 stream opened: stream 1",
        "0.25 wait began: read_line",
        "1.25 wait ended: read_line",
        "1.75 wait began: read_exactly(16)",
        "5 scope fired: fetch",
        "5 wait ended: read_exactly(16)",
        "5 stream closed: stream 1",
        "5 scope left: fetch",
    ]


def test_the_details_tell_limits_and_progress() -> None:
    events = [event for event in recorded(a_fetch).events if event.task == "client"]
    entered, began, ended, left = events[1], events[7], events[9], events[11]
    assert entered.details == {"scope": 1, "deadline": 5.0, "seconds": 5.0}
    assert (began.details["limit"], began.details["deadline"]) == ("read", 61.75)
    assert (began.details["stream"], began.details["peer"]) == (1, "10.0.0.1:7000")
    assert (ended.details["outcome"], ended.details["done"]) == ("cancelled", 4)
    assert (left.details["caught"], left.details["overrun"]) == (True, 0.0)


def test_a_limit_that_was_reached_is_told_with_what_was_done() -> None:
    async def main() -> None:
        async with a_pair("memory") as (near, far):
            await far.write(b"123")
            await outcome_of(near.read_exactly(8, timeout=2))

    [event] = [e for e in recorded(main).events if e.kind == "timed out"]
    assert (event.time, event.name) == (2.0, "read_exactly(8)")
    assert event.details == {
        "limit": "call",
        "seconds": 2,
        "elapsed": 2.0,
        "peer": "memory:1",
        "done": 3,
        "expected": 8,
    }


def test_a_stream_is_told_with_its_ends_and_bytes() -> None:
    events = recorded(a_fetch).events
    [closed] = [e for e in events if e.kind == "stream closed" and e.details["stream"] == 1]
    assert closed.details == {
        "stream": 1,
        "local": "10.0.0.1:49152",
        "peer": "10.0.0.1:7000",
        "reason": "closed",
        "bytes_received": 10,
        "bytes_sent": 4,
        "unread": 4,
    }


def test_a_mark_and_a_fault_are_told_with_their_details() -> None:
    async def main() -> None:
        mark("plain", number=1, text="t", nothing=None, peer=("::1", 7), other=[1])
        mark("reset", category="fault", ratio=float("inf"), yes=True)

    plain, fault = recorded(main).events[1:]
    assert (plain.kind, plain.name, plain.task) == ("mark", "plain", "recording")
    assert plain.details == {
        "number": 1,
        "text": "t",
        "nothing": None,
        "peer": "[::1]:7",
        "other": "[1]",
    }
    assert (fault.kind, fault.details) == ("fault", {"ratio": "inf", "yes": True})


def test_a_fault_that_fires_is_told_with_its_connection() -> None:
    fault = next(event for event in recorded(a_fetch).events if event.kind == "fault")
    assert (fault.time, fault.name) == (1.75, "timeout")
    assert fault.details == {"connection": 1, "direction": "downstream", "bytes": 12}


def test_a_timeline_can_be_marked_itself() -> None:
    async def main() -> None:
        with record() as one, record() as other:
            one.mark("here", value=1)
        assert [event.name for event in one.events] == ["main", "here"]
        assert [event.details for event in one.events] == [{"within": None}, {"value": 1}]
        assert other.events == ()
        return

    with record() as timeline:
        run(main())
    with pytest.raises(RuntimeError, match="no running event loop"):
        timeline.mark("where")


# Names. ---------------------------------------------------------------------------------------


def test_tasks_are_told_apart_without_the_numbers_of_asyncio() -> None:
    async def client() -> None:
        mark("here")

    async def main() -> None:
        tasks = [asyncio.create_task(client()) for _ in range(3)]
        tasks += [asyncio.create_task(client(), name="named") for _ in range(2)]
        await asyncio.wait(tasks)

    names = [event.task for event in recorded(main).events if event.kind == "mark"]
    assert names == ["client", "client #2", "client #3", "named", "named #2"]


def test_a_task_that_connects_has_the_name_of_that() -> None:
    async def main() -> None:
        network = Network(names={"server": "10.0.0.1"}, lookup_seconds=1)
        await quietly(asyncio.create_task(netio.connect_tcp("server", 7, network=network)))

    assert "connect_tcp" in {event.task for event in recorded(main).events}


def test_a_task_is_told_with_the_scope_in_which_it_was_started() -> None:
    async def child() -> None:
        async with netio.timeout(1, name="inner"):
            pass

    async def main() -> None:
        async with netio.timeout(1, name="before"):
            pass
        async with netio.timeout(1, name="outer"):
            await asyncio.create_task(child())
        await asyncio.create_task(child())

    seen = {e.task: e.details["within"] for e in recorded(main).events if e.kind == "task seen"}
    assert seen == {"recording": None, "child": 2, "child #2": None}


# The same run, the same events. ---------------------------------------------------------------


@pytest.mark.parametrize("main", [a_fetch, a_tangle])
def test_two_runs_that_did_the_same_compare_equal(main: object) -> None:
    one, other = recorded(main), recorded(main)  # type: ignore[arg-type]
    assert one.events == other.events
    assert str(one) == str(other)
    assert len(one.events) >= 25


def test_runs_that_differ_compare_different() -> None:
    async def read(size: int) -> None:
        async with a_pair("memory") as (near, _):
            await outcome_of(near.read_exactly(size, timeout=1))

    assert recorded(lambda: read(1)).events != recorded(lambda: read(2)).events


def test_the_events_are_plain_values() -> None:
    for event in recorded(a_tangle).events:
        text = json.dumps([event.time, event.kind, event.task, event.name, event.details])
        assert " at 0x" not in text
        assert "Task-" not in text


def test_another_process_tells_the_same() -> None:
    program = "from recordings import *; print(recorded(a_tangle))"
    runs = [
        subprocess.run(
            [sys.executable, "-c", program],
            cwd=Path(__file__).parent,
            env={"PYTHONPATH": f"{Path(netio.__file__).parent.parent}", "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
            timeout=15,
        ).stdout
        for seed in ("1", "2")
    ]
    assert runs[0] == runs[1] == str(recorded(a_tangle)) + "\n"


def test_a_line_of_text_has_what_is_known() -> None:
    event = TimelineEvent(1.5, "wait began", "", "read", {"peer": None, "done": 0})
    assert str(event) == "1.500000  -  wait began  read  done=0"


# What is recorded. ----------------------------------------------------------------------------


async def one_scope(name: str, seconds: float = 0.0) -> None:
    await asyncio.sleep(seconds)
    async with netio.timeout(1, name=name):
        pass


def test_a_recording_begins_and_ends_with_its_block() -> None:
    async def main() -> Timeline:
        await one_scope("before", 3)
        with record() as timeline:
            await one_scope("within", 2)
            assert timeline.duration == 2
            await asyncio.sleep(1)
        await one_scope("after", 1)
        return timeline

    timeline = run(main())
    assert brief(timeline)[1:] == ["2 scope entered: within", "2 scope left: within"]
    assert timeline.duration == 3


def test_what_has_begun_before_has_an_end_and_what_ends_later_a_beginning() -> None:
    async def main() -> Timeline:
        async with a_pair("memory") as (near, _), a_pair("memory") as (other, _):
            async with netio.timeout(5, name="before"):
                reading = asyncio.create_task(outcome_of(near.read_exactly(1)))
                await asyncio.sleep(1)
                with record() as timeline:
                    await near.aclose()
                    await reading
                    later = netio.timeout(5, name="later")
                    await later.__aenter__()
                    reading = asyncio.create_task(outcome_of(other.read_exactly(1)))
                    await asyncio.sleep(1)
                await later.__aexit__(None, None, None)
        return timeline

    assert brief(run(main())) == [
        "0 task seen: main",
        "0 stream closed: stream 1",
        "0 scope entered: later",
        "0 task seen: outcome_of",
        "0 wait began: read_exactly(1)",
    ]


def test_without_a_loop_the_first_one_of_the_thread_is_recorded() -> None:
    with record() as timeline:
        run(asyncio.sleep(1))
        run(one_scope("first", 3))
        run(one_scope("second"))
    assert brief(timeline)[1:] == ["0 scope entered: first", "0 scope left: first"]
    assert timeline.duration == 0


def test_a_recording_keeps_nothing_alive() -> None:
    kept: list[weakref.ref[object]] = []

    async def forgotten() -> None:
        async with netio.timeout(5) as scope, a_pair("memory") as (near, _):
            task = asyncio.current_task()
            kept.extend(weakref.ref(thing) for thing in (scope, near, task, task.get_loop()))  # type: ignore[union-attr]
            await near.read_exactly(1)

    async def main() -> None:
        task = asyncio.create_task(forgotten())
        await asyncio.sleep(1)
        assert not task.done()

    before = dict(observed)
    with record() as timeline:
        run(main())
        gc.collect()
        assert [ref() for ref in kept] == [None] * 4
    assert len(timeline.events) > 5
    assert observed == before


async def test_another_thread_is_not_recorded() -> None:
    with record() as timeline:
        await asyncio.to_thread(asyncio.run, one_scope("there"))
        await one_scope("here")
    assert [event.name for event in timeline.events][1:] == ["here", "here"]


@pytest.mark.real_time("a recording on the real clock")
async def test_the_real_clock_is_recorded_as_well(loop_variant: str) -> None:
    with record() as timeline:
        async with a_pair("tcp") as (near, _):
            await outcome_of(near.read_exactly(1, timeout=0.005))
    [event] = [event for event in timeline.events if event.kind == "timed out"]
    assert 0.004 <= event.time < 2  # uvloop counts in milliseconds
    assert timeline.duration >= event.time


def test_only_so_many_events_are_kept_and_the_others_counted() -> None:
    timeline = recorded(a_fetch, max_events=10)
    assert len(timeline.events) == 10
    assert timeline.left_out == len(recorded(a_fetch).events) - 10


@pytest.mark.parametrize("wrong", [0, -1, True, "5", 1.5])
def test_a_wrong_bound_is_refused_at_once(wrong: object) -> None:
    with pytest.raises((TypeError, ValueError), match="max_events"):
        record(max_events=wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize("seed", [None, 1, 2, 3, 4, 5])
def test_a_run_is_not_changed_by_being_recorded(seed: int | None) -> None:
    async def main() -> list[str]:
        done: list[str] = []

        async def work(number: int) -> None:
            async with netio.move_on_after(number // 3):
                async with a_pair("memory") as (near, far):
                    await far.write(b"x" * number)
                    await near.read_exactly(5)
            done.append(f"{number} at {asyncio.get_running_loop().time()}")

        await asyncio.gather(*(work(number) for number in range(1, 9)))
        return done

    plain = run(main(), seed=seed)
    assert (plain == run(main())) is (seed is None)  # a seed draws another order
    with record() as timeline:
        assert run(main(), seed=seed) == plain
    assert len(timeline.events) > 50


@pytest.mark.virtual_clock
async def test_a_mark_may_be_called_by_anything_that_has_a_text() -> None:
    with record() as timeline:
        mark(7)  # type: ignore[arg-type]
        mark("x", 5)  # type: ignore[arg-type]
    assert [(event.kind, event.name) for event in timeline.events if event.kind != "task seen"] == [
        ("mark", "7"),
        ("5", "x"),
    ]
    assert "mark  7" in str(timeline)
