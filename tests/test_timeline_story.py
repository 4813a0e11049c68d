"""Where the time of a deadline went: events are put together to waits, scopes, tasks, limits."""

import pytest
from recordings import a_fetch, a_tangle, made_up, story
from streams import outcome_of

import netio
from netio.testing import Network, faults
from netio.testing._timeline.shares import pieces_of, tasks_within
from netio.testing._timeline.spans import ScopeSpan, Story


def scope_of(story: Story, name: str) -> ScopeSpan:
    return next(s for task in story.tasks for s in task.scopes if s.name == name)


def test_the_time_of_a_deadline_is_told_by_what_it_was_spent_on() -> None:
    told = story(a_fetch)
    pieces = pieces_of(scope_of(told, "fetch"), told)
    assert [(piece.name, piece.seconds) for piece in pieces] == [
        ("connect_tcp: lookup, peer server:7000", 0.25),
        ("read_line, peer 10.0.0.1:7000", 1.0),
        ("read_exactly(16), peer 10.0.0.1:7000", 3.25),
        ("not waiting in netio", 0.5),
    ]
    assert sum(piece.seconds for piece in pieces) == 5


def test_waits_for_the_same_are_one_piece_and_the_one_that_was_cut_another() -> None:
    told = made_up(
        (0.0, "scope entered", "t", "s", {"scope": 1}),
        (0.0, "wait began", "t", "read", {"wait": 1}),
        (1.0, "wait ended", "t", "read", {"wait": 1, "outcome": "ready"}),
        (1.0, "wait began", "t", "read", {"wait": 2}),
        (3.0, "wait ended", "t", "read", {"wait": 2, "outcome": "ready"}),
        (3.0, "wait began", "t", "read", {"wait": 3}),
        (7.0, "scope fired", "t", "s", {"scope": 1}),
        (7.0, "wait ended", "t", "read", {"wait": 3, "outcome": "cancelled"}),
        (7.0, "scope left", "t", "s", {"scope": 1, "caught": True}),
        (7.0, "wait began", "t", "read", {"wait": 4}),
    )
    pieces = pieces_of(scope_of(told, "s"), told)
    assert [(p.name, p.seconds, p.count) for p in pieces] == [("read", 3, 2), ("read", 4, 1)]


def test_a_scope_that_goes_on_is_told_until_the_end() -> None:
    told = made_up(
        (1.0, "scope entered", "t", "s", {"scope": 1}),
        (4.0, "wait began", "t", "read", {"wait": 1}),
    )
    pieces = pieces_of(scope_of(told, "s"), told)
    assert [(p.name, p.seconds) for p in pieces] == [("read", 6), ("not waiting in netio", 3)]


@pytest.mark.parametrize(
    ("operation", "how", "cut_by"),
    [
        ("read_exactly(1)", "scope", "part"),
        ("read_exactly(7)", "cancelled", ""),
        ("read_exactly(10)", "failed", "Connection reset by peer"),
    ],
)
def test_each_wait_is_told_with_what_has_ended_it(operation: str, how: str, cut_by: str) -> None:
    [wait] = [w for t in story(a_tangle).tasks for w in t.waits if w.operation == operation]
    assert (wait.how, wait.cut_by, wait.hit) == (how, cut_by, how == "scope")


@pytest.mark.parametrize(
    ("name", "ending"),
    [
        ("swallows", "fired, but its block ended all the same"),
        ("fails", "raised ConnectionReset"),
        ("by hand", "cancelled by hand"),
        ("no length", "finished in time"),
        ("whole", "raised ExceptionGroup"),
        ("part", "fired"),
    ],
)
def test_each_scope_is_told_with_how_it_ended(name: str, ending: str) -> None:
    assert scope_of(story(a_tangle), name).ending == ending


@pytest.mark.parametrize(
    ("events", "ending"),
    [
        ([], "not left yet"),
        ([("scope fired", {})], "fired, and not left yet"),
        ([("scope left", {"error": "CancelledError"})], "cancelled"),
        (
            [("scope fired", {}), ("scope left", {"error": "CancelledError"})],
            "fired, but what is around it answered",
        ),
        (
            [("scope fired", {}), ("scope left", {"error": "KeyError"})],
            "fired, but raised KeyError",
        ),
    ],
    ids=str,
)
def test_endings_of_scopes(events: list[tuple[str, dict[str, object]]], ending: str) -> None:
    entered = (0.0, "scope entered", "t", "s", {"scope": 1})
    told = made_up(entered, *((1.0, kind, "t", "s", {"scope": 1, **d}) for kind, d in events))
    assert scope_of(told, "s").ending == ending


def test_scopes_are_told_with_how_many_stand_around_them() -> None:
    told = story(a_tangle)
    assert [scope.depth for scope in told.task("deep").scopes] == list(range(15))  # type: ignore[union-attr]
    first, second = told.task("out_of_order").scopes  # type: ignore[union-attr]
    assert (first.depth, second.depth) == (0, 1)


def test_the_limits_that_fired_are_told_with_what_was_under_way() -> None:
    told = [
        (f.time, f.name, None if f.wait is None else f.wait.operation)
        for f in story(a_tangle).firings
    ]
    assert told == [
        (0.0, "read_some(65536)", None),
        (0.5, "swallows", None),
        (0.5, "read_some(65536)", None),
        (1.0, "part", "read_exactly(1)"),
        (1.0, "read_some(65536)", None),
    ]


def test_the_limit_of_a_whole_is_told_once() -> None:
    async def connect() -> None:
        network = Network(names={"server": "10.0.0.1"})
        network.add(faults.BlackHole())
        await outcome_of(netio.connect_tcp("server", 7, timeout=3, network=network))

    [firing] = story(connect).firings
    assert (firing.name, firing.details["limit"]) == ("connect_tcp", "call")
    assert firing.wait is not None
    assert firing.wait.how == "limit"


def test_tasks_stand_behind_the_one_that_started_them_in_a_scope() -> None:
    told = story(a_tangle)
    names = [task.name for task in told.tasks]
    assert names.index("child") == names.index("parent") + 1
    assert told.task("child").level == 1  # type: ignore[union-attr]
    within = tasks_within(scope_of(told, "whole"), told)
    assert [task.name for task in within] == ["child"]


def test_a_task_that_only_accepts_stands_last() -> None:
    assert story(a_fetch).tasks[-1].only_accepts


def test_ends_without_a_beginning_make_a_story() -> None:
    told = made_up(
        (1.0, "wait ended", "t", "read", {"wait": 7, "outcome": "ready"}),
        (1.0, "stream closed", "t", "stream 1", {"stream": 1, "reason": "closed"}),
        (1.0, "scope fired", "t", "s", {"scope": 5}),
        (2.0, "scope left", "t", "s", {"scope": 5, "caught": True}),
        (2.0, "timed out", "u", "read", {"limit": "call"}),
    )
    assert [task.name for task in told.tasks] == ["t", "u"]
    assert (scope_of(told, "s").began, scope_of(told, "s").ended) == (0.0, 2.0)
    assert told.streams[0].opened is None
    assert len(told.firings) == 2


def test_an_empty_recording_is_an_empty_story() -> None:
    told = made_up(duration=0.0)
    assert (told.tasks, told.streams, told.firings, told.events) == ([], [], [], 0)
