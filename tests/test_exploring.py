"""`explore` plays every schedule there is, and finds what is wrong with a program under one.

The faults are planted in small clients; each is one that such clients are known to have.
"""

import asyncio
import math
import socket
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

import netio
from netio.testing import (
    CounterExample,
    Deadlock,
    Event,
    Stage,
    TooManySteps,
    explore,
    explore_here,
    replay,
    run,
)
from netio.testing._exploring.notation import letters, parse, placements, shorter
from netio.testing.events import CANCEL, END, RESET, SCOPE, STANDARD, TIME, data

pytestmark = pytest.mark.own_loop

ANSWER = b"5\nhello"
EVENTS = {**STANDARD, "h": data(b"5\n"), "b": data(b"hello")}

Client = Callable[[netio.Stream], Awaitable[bytes]]
Scenario = Callable[[Stage], Any]


async def ask(stream: netio.Stream) -> bytes:
    """The client that is right: a header that says how long the body is, and the body."""
    await stream.write(b"ask\n")
    size = int(await stream.read_until(b"\n", timeout=3))
    return await stream.read_exactly(size, timeout=3)


def scenario_of(client: Client) -> Scenario:
    """The client has the whole answer, or what it did not consume of it is still readable."""

    async def scenario(stage: Stage) -> None:
        outcome = await stage.play(client(stage.near))  # type: ignore[arg-type]
        rest = await stage.rest()
        if outcome.error is None:
            assert (outcome.value, rest) == (b"hello", b"")
        else:
            assert isinstance(outcome.error, (netio.NetioError, asyncio.CancelledError))
            assert rest in (stage.sent, stage.sent.removeprefix(b"5\n"))

    return scenario


# What is played. ------------------------------------------------------------------------------


def test_a_client_that_is_right_passes_and_every_event_has_really_happened() -> None:
    found = explore(scenario_of(ask), events=EVENTS, max_events=2)
    assert found.schedules == 355
    assert set(found.happened) == set(EVENTS)
    assert all(count > 5 for count in found.happened.values())
    assert str(found).startswith("355 schedules; happened: c in ")


def formula(own: int, size: int, ticks: int) -> int:
    """Events without an order of their own: choose, permute, and place them."""
    between = ticks + 2 if ticks else 1
    return math.perm(own, size) * ((ticks + 1) * between ** (size - 1) if size else 1)


async def nothing(stage: Stage) -> None:
    """A program that reads nothing of its connection."""
    assert not stage.near.closed
    await stage.play(asyncio.sleep(1))


@pytest.mark.parametrize(("own", "most", "ticks"), [(1, 1, 0), (2, 2, 3), (3, 3, 1), (4, 2, 2)])
def test_as_many_distinct_schedules_are_played_as_there_are(
    own: int, most: int, ticks: int
) -> None:
    seen: list[str] = []

    async def scenario(stage: Stage) -> None:
        seen.append(stage.schedule)
        await nothing(stage)

    events = {letter: Event("nothing much", lambda _: None) for letter in "wxyz"[:own]}
    found = explore(scenario, events=events, max_events=most, ticks=ticks)
    expected = sum(formula(own, size, ticks) for size in range(most + 1))
    assert found.schedules == len(seen) == len(set(seen)) == expected


@pytest.mark.parametrize("most", [2, 3, 4])
def test_orders_of_a_peer_are_counted_as_they_are_made(most: int) -> None:
    """Too large a space is refused by a formula; where it is played, both are known."""
    events = {**EVENTS, "r": RESET}
    with pytest.raises(ValueError, match="more than max_schedules") as refused:
        explore(nothing, events=events, max_events=most, ticks=0, max_schedules=1)
    seen = []

    async def scenario(stage: Stage) -> None:
        seen.append(stage.schedule)
        await nothing(stage)

    explore(scenario, events=events, max_events=most, ticks=0)
    assert f"there are {len(seen):,} schedules" in str(refused.value)
    for schedule in seen:
        of_peer = [event for event in schedule if event in "hber"]
        assert of_peer == sorted(of_peer, key="hber".index)
        assert "b" not in schedule or "h" in schedule


def test_both_orders_within_a_turn_really_occur_and_on_either_side_of_what_was_woken() -> None:
    """A program that is woken by `w`, and notes when; `x` and `y` note when they come."""
    seen: dict[str, str] = {}

    async def scenario(stage: Stage) -> None:
        woken = asyncio.get_running_loop().create_future()
        notes: list[str] = []

        async def program() -> None:
            await woken
            notes.append("!")
            await asyncio.sleep(10)

        def note(letter: str) -> None:
            notes.append(letter)
            if letter == "w" and not woken.done():
                woken.set_result(None)

        acts = {letter: lambda letter=letter: note(letter) for letter in "wxy"}
        stage.start(program())
        stage.task.add_done_callback(lambda _: notes.append("."))
        asyncio.get_running_loop().call_later(5, note, "w")
        await stage.outcome(acts)
        seen[stage.schedule] = "".join(notes).partition(".")[0]

    events = {letter: Event(f"{letter} is noted") for letter in "wxy"}
    explore(scenario, events=events)
    assert seen["wxy"].startswith("wxy!")
    assert seen["wyx"].startswith("wyx!")
    assert seen["xwy"].startswith("xwy!")
    assert seen["w|xy"].startswith("wxy!")
    assert seen["w|yx"].startswith("wyx!")
    assert seen["w|x/y"].startswith("wx!y")
    assert seen["w/xy"].startswith("w!xy")
    assert seen["w/yx"].startswith("w!yx")
    assert seen["//w"].startswith("w!")


def test_a_turn_in_which_nothing_happens_lets_the_program_go_on() -> None:
    turns: dict[str, int] = {}

    async def scenario(stage: Stage) -> None:
        count = 0

        async def program() -> None:
            nonlocal count
            while True:
                count += 1
                await asyncio.sleep(0)

        await stage.play(program())
        turns[stage.schedule] = count

    explore(scenario, events={"c": CANCEL}, schedules=["c", "/c", "//c", "///c", "///////c"])
    assert turns == {"c": 1, "/c": 2, "//c": 3, "///c": 4, "///////c": 8}


# What is found. -------------------------------------------------------------------------------


async def loses_what_came_on_a_cancel(stream: netio.Stream) -> bytes:
    size = int(await stream.read_until(b"\n"))
    body = b""
    while len(body) < size:
        chunk = await stream.read_some(2)
        if not chunk:
            raise netio.ConnectionLost("too short")
        body += chunk
    return body


async def swallows_a_cancel(stream: netio.Stream) -> bytes:
    try:
        return await ask(stream)
    except asyncio.CancelledError:
        return b""


async def makes_a_cancel_an_error(stream: netio.Stream) -> bytes:
    try:
        return await ask(stream)
    except asyncio.CancelledError:
        raise netio.ConnectionLost("cancelled") from None


async def swallows_an_expiry(stream: netio.Stream) -> bytes:
    task = asyncio.current_task()
    assert task is not None
    try:
        return await ask(stream)
    except asyncio.CancelledError:
        task.uncancel()
        return b"hello"


async def takes_a_reset_for_the_end(stream: netio.Stream) -> bytes:
    body = b""
    try:
        while chunk := await stream.read_some():
            body += chunk
    except netio.ConnectionReset:
        pass
    return body


async def hangs_at_the_end(stream: netio.Stream) -> bytes:
    size, body = int(await stream.read_until(b"\n")), b""
    while len(body) < size:
        body += await stream.read_some(size - len(body))
        await asyncio.sleep(0)
    return body


async def has_no_limit(stream: netio.Stream) -> bytes:
    return await stream.read_exactly(int(await stream.read_until(b"\n")), timeout=None)


async def leaves_a_task(stream: netio.Stream) -> bytes:
    keeper = asyncio.create_task(asyncio.sleep(100), name="the keeper")
    answer = await ask(stream)
    keeper.cancel()
    return answer


async def forgets_an_error(stream: netio.Stream) -> bytes:
    try:
        return await ask(stream)
    except netio.IncompleteRead:
        asyncio.get_running_loop().call_soon(lambda: 1 / 0)
        raise


FAULTS: dict[Client, tuple[str, type[BaseException], str]] = {
    swallows_a_cancel: (
        "c",
        AssertionError,
        "swallowed a cancel from outside: it has returned b''",
    ),
    makes_a_cancel_an_error: (
        "c",
        AssertionError,
        "swallowed a cancel from outside: it has raised",
    ),
    swallows_an_expiry: ("s", AssertionError, "swallowed the expiry of its scope"),
    hangs_at_the_end: ("he", TooManySteps, "'the program' is ready to run: "),
    has_no_limit: ("h", Deadlock, "'the program' waits in read_exactly(5)"),
    leaves_a_task: ("", AssertionError, "has left running: "),
    forgets_an_error: ("e", AssertionError, "the loop has met: Exception in callback"),
}


@pytest.mark.parametrize("client", FAULTS, ids=lambda client: client.__name__)
def test_a_fault_is_found_by_its_shortest_schedule_which_fails_in_the_same_way_alone(
    client: Client,
) -> None:
    schedule, kind, text = FAULTS[client]
    scenario = scenario_of(client)
    with pytest.raises(CounterExample) as found:
        explore(scenario, events=EVENTS)
    assert found.value.schedule == schedule
    assert type(found.value.__cause__) is kind
    assert text in str(found.value.__cause__)
    with pytest.raises(kind) as again:
        replay(scenario, schedule, events=EVENTS, debug=True)
    assert str(again.value).splitlines()[0] == str(found.value.__cause__).splitlines()[0]


def test_a_byte_that_is_lost_on_a_cancel_is_found() -> None:
    """Part of the body must be there, and the rest of it must not."""
    events = {"h": data(b"5\n"), "b": data(b"hel"), "d": data(b"lo"), "c": CANCEL}
    scenario = scenario_of(loses_what_came_on_a_cancel)
    with pytest.raises(CounterExample) as found:
        explore(scenario, events=events)
    assert found.value.schedule in ("hb", "hbc")
    with pytest.raises(AssertionError) as alone:
        replay(scenario, found.value.schedule, events=events)
    assert str(alone.value) == str(found.value.__cause__)


def test_a_reset_that_is_taken_for_the_end_is_found() -> None:
    async def scenario(stage: Stage) -> None:
        outcome = await stage.play(takes_a_reset_for_the_end(stage.near))
        if outcome.error is None:
            assert "r" not in outcome.happened
            assert outcome.value == stage.sent

    with pytest.raises(CounterExample) as found:
        explore(scenario, events={"h": data(b"5\n"), "e": END, "r": RESET})
    assert found.value.schedule == "r"


def test_a_counter_example_tells_what_happens_turn_by_turn_and_how_to_play_it() -> None:
    async def fetching(stage: Stage) -> None:
        await stage.play(ask(stage.near))
        assert letters(stage.schedule) != "hsc"

    fetching.__qualname__ = "fetching"
    events = {"h": data(b"5\n"), "c": CANCEL, "s": SCOPE}
    with pytest.raises(CounterExample) as found:
        explore(fetching, events=events, schedules=["c", "s|c", "h|s//c", "h"])
    error = found.value
    assert (error.found, error.seed, error.played) == ("h|s//c", None, 3)
    assert error.schedule == "hsc"
    lines = str(error).splitlines()
    assert lines[:4] == [
        "fetching fails under the schedule 'hsc', the shortest that was found:",
        "    h  the peer sends b'5\\n' (turn 0)",
        "    s  a scope around the task expires (turn 0)",
        "    c  the task is cancelled from outside (turn 0)",
    ]
    assert lines[4].startswith("with AssertionError: ")
    assert lines[-1] == ("to play it alone: netio.testing.replay(fetching, 'hsc', events=...)")


def test_the_turns_and_the_sides_are_told() -> None:
    async def fetching(stage: Stage) -> None:
        await stage.play(ask(stage.near))
        assert stage.schedule != "/h|c//s"

    events = {"h": data(b"5\n"), "c": CANCEL, "s": SCOPE}
    with pytest.raises(CounterExample) as found:
        explore(fetching, events=events, schedules=["/h|c//s"])
    assert [line.rpartition("(")[2] for line in str(found.value).splitlines()[1:4]] == [
        "turn 1, after what turn 0 has woken)",
        "turn 2, before what turn 1 has woken)",
        "turn 4, after what turn 3 has woken)",
    ]


# By chance, and made shorter. -----------------------------------------------------------------


async def picky(stage: Stage) -> None:
    """Fails when a cancel comes anywhere after the header, and a reset anywhere after that."""
    await stage.play(ask(stage.near), may_swallow=True)
    assert "hcr" not in "".join(event for event in letters(stage.schedule) if event in "hcr")


def test_what_was_drawn_by_chance_is_made_as_short_as_what_is_found_by_playing_all() -> None:
    with pytest.raises(CounterExample) as drawn:
        explore(picky, events=EVENTS, max_events=7, ticks=5, seeds=500)
    error = drawn.value
    assert error.schedule == "hcr"
    assert len(letters(error.found)) > 3
    assert error.seed is not None
    assert f"seeds=[{error.seed}]" in str(error)
    assert repr(error.found) in str(error)
    with pytest.raises(CounterExample) as again:
        explore(picky, events=EVENTS, max_events=7, ticks=5, seeds=[error.seed])
    assert again.value.found == error.found
    with pytest.raises(CounterExample) as complete:
        explore(picky, events=EVENTS, ticks=1)
    assert complete.value.found == complete.value.schedule == "hcr"


def test_a_seed_draws_the_same_and_all_draws_can_happen() -> None:
    def drawn(seeds: int) -> list[str]:
        seen = []

        async def scenario(stage: Stage) -> None:
            seen.append(stage.schedule)
            await nothing(stage)

        found = explore(scenario, events=EVENTS, max_events=6, ticks=3, seeds=seeds)
        assert found.schedules == len(seen) == len(set(seen))
        return seen

    seen = drawn(300)
    assert drawn(300) == seen
    assert len(seen) > 250
    assert set("".join(seen)) == {*EVENTS, "|", "/"}
    assert Counter(len(letters(s)) for s in seen).keys() == {1, 2, 3, 4, 5, 6}
    for schedule in seen:
        of_peer = [event for event in schedule if event in "hber"]
        assert of_peer == sorted(of_peer, key="hber".index)
        assert "b" not in schedule or "h" in schedule


def test_a_schedule_is_made_shorter_one_step_at_a_time() -> None:
    assert shorter("") == []
    assert shorter("c") == [""]
    assert shorter("/c") == ["", "c"]
    assert set(shorter("a//b")) == {"a", "b", "//b", "ab", "a|b", "a/b"}
    assert "a|c" in shorter("a|b/c")
    assert "a/c" in shorter("a|b/c")
    every = set(placements("abc", ("", "|", "/", "//"), ("", "/")))
    for schedule in every:
        for less in shorter(schedule):
            assert (len(letters(less)), len(less)) < (len(letters(schedule)), len(schedule))


def test_a_failure_of_another_kind_is_not_taken_for_the_same_one() -> None:
    async def scenario(stage: Stage) -> None:
        await nothing(stage)
        assert stage.schedule != "cs"
        if "c" in stage.schedule:
            raise ValueError("another thing")

    with pytest.raises(CounterExample) as found:
        explore(scenario, events={"c": CANCEL, "s": SCOPE}, schedules=["cs"])
    assert found.value.schedule == "cs"


# Events. --------------------------------------------------------------------------------------


def test_time_goes_on_to_the_limit_which_fires_in_that_very_turn() -> None:
    """Whichever comes first is taken, and bytes and limit in one turn are the bytes (law 9)."""
    outcomes: dict[str, Any] = {}

    async def scenario(stage: Stage) -> None:
        outcome = await stage.play(stage.near.read_exactly(2, timeout=3))
        outcomes[stage.schedule] = outcome.value or type(outcome.error)
        if isinstance(outcome.error, netio.DeadlineExceeded):
            assert outcome.error.limit == "call"
            assert asyncio.get_running_loop().time() == 3.0

    explore(scenario, events={"t": TIME, "d": data(b"hi")})
    assert outcomes["t"] is outcomes[""] is outcomes["t//d"] is netio.DeadlineExceeded
    assert outcomes["td"] == outcomes["dt"] == outcomes["t|d"] == outcomes["d/t"] == b"hi"


def test_time_goes_on_to_a_sleep_and_a_scope_in_the_program_too() -> None:
    async def program() -> list[float]:
        loop = asyncio.get_running_loop()
        async with netio.move_on_after(1):
            await asyncio.Event().wait()
        await asyncio.sleep(2)
        return [loop.time()]

    async def scenario(stage: Stage) -> None:
        outcome = await stage.play(program())
        assert outcome.result() == [3.0]

    found = explore(scenario, events={"t": TIME, "u": TIME}, ticks=4)
    assert found.happened["t"] > 10
    assert found.happened["u"] > 10


def test_what_had_nothing_to_happen_to_has_not_happened() -> None:
    seen = {}

    async def scenario(stage: Stage) -> None:
        async def program() -> None:
            await stage.near.read_exactly(1, timeout=None)

        outcome = await stage.play(program())
        seen[stage.schedule] = outcome.happened

    events = {**STANDARD, "d": data(b"x")}
    explore(scenario, events=events, schedules=["ct", "tc", "d//c", "rd/e", "erc", "ss"[:1]])
    assert seen == {"ct": "c", "tc": "c", "d//c": "d", "rd/e": "r", "erc": "erc", "s": "s"}


def test_data_that_the_loop_has_yet_to_notice_is_there_one_turn_later() -> None:
    late: dict[bool, int] = {}

    async def scenario(stage: Stage) -> None:
        turns = 0

        async def program() -> None:
            nonlocal turns
            reading = asyncio.create_task(stage.near.read_exactly(1))
            while not reading.done():
                turns += 1
                await asyncio.sleep(0)

        await stage.play(program())
        late[noticed] = turns

    for noticed in (True, False):
        events = {"d": data(b"x", noticed=noticed)}
        explore(scenario, events=events, schedules=["//d"])
    assert late[False] == late[True] + 1


def test_an_event_of_ones_own_and_one_that_each_scenario_has() -> None:
    seen: list[str] = []

    async def scenario(stage: Stage) -> None:
        await stage.play(asyncio.sleep(1), {"x": lambda: seen.append("x")})

    events = {"x": Event("x"), "y": Event("y", lambda stage: seen.append(stage.schedule))}
    assert explore(scenario, events=events).happened.keys() == {"x", "y"}
    assert {"x", "xy", "y/x"} < set(seen)


# Connections. ---------------------------------------------------------------------------------


def client_that_connects(stage: Stage, *, careful: bool = True) -> Any:
    async def fetch() -> bytes:
        """Up to three times, under one scope."""
        async with netio.timeout(20, name="fetch"):
            for _ in range(2):
                stream = await netio.connect_tcp("server", 80, network=stage.network)
                try:
                    return await ask(stream)
                except (netio.ConnectionLost, netio.IncompleteRead):
                    await asyncio.sleep(1)
                finally:
                    if careful:
                        await stream.aclose()
            raise netio.ConnectionLost("twice")

    return fetch()


def test_a_client_that_connects_by_itself_and_tries_again_is_played_to() -> None:
    connections = Counter[int]()

    async def scenario(stage: Stage) -> None:
        outcome = await stage.play(client_that_connects(stage))
        connections[len(stage.peers)] += 1
        assert all(peer.received in (b"", b"ask\n") for peer in stage.peers)
        if outcome.error is None:
            assert outcome.value == b"hello"
            assert stage.peer.sent == ANSWER

    # The peer ends or resets the first connection, and may answer on the second.
    events = {**EVENTS, "h": Event("header", lambda s: s.peer.data(b"5\n"))}
    events["b"] = Event("body", lambda s: s.peer.sent == b"5\n" and s.peer.data(b"hello"))
    found = explore(scenario, events=events, max_events=3, ticks=1)
    assert found.schedules == 1 + 7 * 2 + (42 - 1) * 2 * 3 + (210 - 15) * 2 * 9
    assert set(connections) == {0, 1, 2}
    explore(scenario, events=events, schedules=["//////rt//////hb"])


def test_a_connection_that_is_left_open_is_found() -> None:
    async def scenario(stage: Stage) -> None:
        await stage.play(client_that_connects(stage, careful=False))

    with pytest.raises(CounterExample, match="has left its connection 1 open"):
        explore(scenario, events=EVENTS)


def test_nobody_listens_on_the_network_of_a_stage() -> None:
    async def scenario(stage: Stage) -> None:
        with pytest.raises(OSError, match="nobody can listen"):
            await netio.serve_tcp(ask, "server", 80, network=stage.network)  # type: ignore[arg-type]
        await nothing(stage)

    replay(scenario, "c")


@pytest.mark.parametrize("family", ["unix", "tcp"])
def test_real_sockets_give_what_memory_gives(family: str) -> None:
    """On the virtual clock; for each schedule of one turn the outcome is the same.

    But not for a reset after the end: over TCP that is no news any more.
    """
    outcomes: dict[bool, dict[str, Any]] = {False: {}, True: {}}

    def scenario_on(real: bool) -> Scenario:
        async def scenario(stage: Stage) -> None:
            far = None
            if real:
                near, far = sockets(family)
                stage.use(near, far)
            outcome = await stage.play(ask(stage.near))
            kind = outcome.value or type(outcome.error)
            outcomes[real][stage.schedule] = (kind, outcome.happened, await stage.rest())

        return scenario

    for real in (False, True):
        explore(scenario_on(real), events=EVENTS, ticks=0, legal=lambda order: "er" not in order)
    assert len(outcomes[True]) > 100
    assert outcomes[True] == outcomes[False]


def sockets(family: str) -> tuple[netio.Stream, netio.Stream]:
    if family == "unix":
        return netio.stream_pair()
    with socket.create_server(("127.0.0.1", 0)) as listening:
        near = socket.create_connection(listening.getsockname())
        far, _ = listening.accept()
    return netio.open_stream(near), netio.open_stream(far)


async def test_the_running_loop_can_be_played_on_and_what_is_kept_serves_the_next() -> None:
    near, far = netio.stream_pair()
    async with near, far:

        async def scenario(stage: Stage) -> None:
            acts = {"d": lambda: far._channel.send(b"x")}
            outcome = await stage.play(near.read_some(timeout=5), acts, ticks=5)
            assert outcome.waits == ("d" not in stage.schedule and not outcome.happened)
            assert outcome.cancelled != (outcome.value == b"x")
            await stage.rest()
            near._receiver.buffer.clear()
            while await outcome_or(near):
                pass

        events = {"d": Event("data", None), "c": CANCEL}
        found = await explore_here(scenario, events=events)
        assert found.schedules == 1 + 2 * 3 + 2 * 3 * 4
        assert min(found.happened["d"], found.happened["c"]) > 12


async def outcome_or(stream: netio.Stream) -> bytes:
    try:
        return await stream.read_some(timeout=0)
    except netio.DeadlineExceeded:
        return b""


# What is told. --------------------------------------------------------------------------------


def test_an_outcome_is_told_as_the_program_has_ended() -> None:
    async def scenario(stage: Stage) -> None:
        outcome = await stage.play(asyncio.sleep(1, "slept"))
        if outcome.error is None:
            assert outcome.result() == "slept"
        else:
            with pytest.raises(type(outcome.error)):
                outcome.result()
        assert outcome.cancelled == ("c" in outcome.happened)
        if outcome.happened == "s":
            assert isinstance(outcome.error, netio.DeadlineExceeded)
            assert outcome.error.scope is stage.scope

    explore(scenario, events={"c": CANCEL, "s": SCOPE})


def test_the_language_is_read_as_it_is_written() -> None:
    assert parse("") == [("", "")]
    assert parse("d|c") == [("", "d"), ("|", "c")]
    assert parse("//dc") == [("", ""), ("/", ""), ("/", "dc")]


def test_the_peer_has_what_the_client_sent_and_says_what_it_can_not_do() -> None:
    async def main() -> None:
        stage = Stage("", STANDARD)
        near, peer = stage.near, stage.peer
        await near.write(b"one")
        assert peer.take(2) == 2
        assert peer.received == b"one"
        assert peer.data(b"two")
        assert peer.end()
        assert not peer.data(b"three")
        assert not peer.end()
        assert peer.reset()
        assert not peer.reset()
        assert stage.sent == await stage.rest() == b"two"
        await stage.close()
        assert await stage.rest() == b""

    run(main())
