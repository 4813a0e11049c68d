"""The conformance kit itself: what it says, what it refuses, and that nothing makes it hang."""

import asyncio
import contextlib
import pickle
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest
from faulty_channels import AbortIsAClose, HalfCloseDoesNothing, RaisesInACallback
from plain_channel import MakePair, PlainChannel, pair_of

import netio
from netio.testing import (
    CheckResult,
    ConformanceReport,
    NotConforming,
    Verdict,
    accepted_pairs,
    check_listener,
    check_stream,
    stream_checks,
)

ONE = "read_exactly_gives_that_many_bytes"
HALF_CLOSE = "write_eof_ends_one_direction_only"

good = pair_of()


async def report_of(make_pair: MakePair, **options: Any) -> ConformanceReport:
    with pytest.raises(NotConforming) as caught:
        await check_stream(make_pair, **options)
    assert caught.value.report is not None
    return caught.value.report


# What is asked for. ----------------------------------------------------------------------------


@pytest.mark.virtual_clock
async def test_checks_are_named_by_name_by_promise_or_as_they_are() -> None:
    check = next(check for check in stream_checks() if check.name == ONE)
    for only in (ONE, check.promise, check, [ONE, HALF_CLOSE], (check,)):
        report = await check_stream(good, only=only)
        assert report.kept[0].name == ONE
        assert report.kept[0].promise == check.promise
        assert len(report.results) == len(only if isinstance(only, (list, tuple)) else [only])


async def test_a_check_that_is_not_there_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(ValueError, match=f"no check .*did you mean '{ONE}'"):
        await check_stream(good, only="read_exactly_gives_as_many_bytes")


@pytest.mark.parametrize(("only", "error"), [([], ValueError), ("", ValueError), (5, TypeError)])
async def test_to_ask_for_no_check_is_refused(only: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match="only must"):
        await check_stream(good, only=only)
    with pytest.raises(error, match="only must"):
        await check_listener(netio.serve_tcp, netio.connect_tcp, only=only)


@pytest.mark.parametrize("seconds", [0, -1])
async def test_no_time_at_all_is_refused(seconds: float) -> None:
    """In which everything would hang."""
    with pytest.raises(ValueError, match="check_timeout must be more than 0 seconds"):
        await check_stream(good, only=ONE, check_timeout=seconds)


async def test_what_is_called_must_be_a_function() -> None:
    wrong: Any
    for wrong in ((5, netio.connect_tcp), (netio.serve_tcp, 5)):
        with pytest.raises(TypeError, match=r"(serve|connect) must be a function, not int"):
            await check_listener(*wrong)
        with pytest.raises(TypeError, match=r"(serve|connect) must be a function, not int"):
            accepted_pairs(*wrong)


@pytest.mark.virtual_clock
async def test_what_a_transport_lacks_is_not_applicable_and_is_said() -> None:
    report = await check_stream(good, lacks=["half_close"], only=[ONE, HALF_CLOSE])
    assert [result.verdict for result in report.results] == [Verdict.KEPT, Verdict.NOT_APPLICABLE]
    assert report.not_applicable[0].seen.startswith("it lacks half_close: ")
    assert "1 kept, 0 broken, 1 not applicable" in str(report)
    assert HALF_CLOSE in str(report)


@pytest.mark.virtual_clock
async def test_a_transport_conforms_but_for_what_it_lacks() -> None:
    asked = [check for check in stream_checks() if check.needs or check.law in (23, 29)]
    report = await check_stream(pair_of(HalfCloseDoesNothing), lacks={"half_close"}, only=asked)
    lacking = [result for result in report.not_applicable if "half_close" in result.seen]
    assert len(lacking) == sum("half_close" in check.needs for check in asked) > 2
    report = await check_stream(pair_of(AbortIsAClose), lacks=("reset",), only=asked)
    lacking = [result for result in report.not_applicable if "reset" in result.seen]
    assert len(lacking) == sum("reset" in check.needs for check in asked) > 4


@pytest.mark.parametrize("lacks", ["half_close", ["reset", "legs"], {"everything"}, 5, None])
async def test_what_no_transport_is_asked_for_can_not_be_lacked(lacks: Any) -> None:
    with pytest.raises(ValueError, match="half_close, reset; not"):
        await check_stream(good, lacks=lacks)


@pytest.mark.parametrize(
    "wrong", [lambda: asyncio.sleep(0, None), lambda: asyncio.sleep(0, (1, 2))]
)
async def test_what_is_no_pair_of_streams_is_refused(wrong: Any) -> None:
    with pytest.raises(TypeError, match=r"make_pair must give two netio\.Streams, not"):
        await check_stream(wrong)


@pytest.mark.parametrize("wrong", [lambda: (1, 2), lambda: None, (1, 2)])
async def test_what_is_no_async_function_is_refused(wrong: Any) -> None:
    with pytest.raises(TypeError, match="make_pair must be an async function"):
        await check_stream(wrong)


async def test_an_error_of_make_pair_is_its_own_and_says_during_what() -> None:
    async def make_pair() -> tuple[netio.Stream, netio.Stream]:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError) as caught:
        await check_stream(make_pair)
    assert stream_checks()[0].name in caught.value.__notes__[0]


@pytest.mark.virtual_clock
async def test_pairs_can_come_from_a_context_manager_which_is_left() -> None:
    left = 0

    @contextlib.asynccontextmanager
    async def make_pair() -> AsyncIterator[tuple[netio.Stream, netio.Stream]]:
        nonlocal left
        near, far = await good()
        async with near, far:
            yield near, far
        left += 1

    await check_stream(make_pair, only=ONE)
    assert left == 2  # once from each end


# What is said. ---------------------------------------------------------------------------------


@pytest.mark.virtual_clock
async def test_the_error_lists_each_broken_promise_with_its_law_and_what_was_seen() -> None:
    with pytest.raises(NotConforming) as caught:
        await check_stream(pair_of(AbortIsAClose), only=[c for c in stream_checks() if c.needs])
    text = str(caught.value)
    assert len(caught.value.broken) > 2
    for result in caught.value.broken:
        assert isinstance(result, CheckResult)
        assert f"broken: {result.name}: {result.promise} (law {result.law})" in text
        assert result.seen in text
    again = pickle.loads(pickle.dumps(caught.value))
    assert (str(again), again.report) == (text, caught.value.report)


class OneEndLoses(PlainChannel):
    """The second of two ends loses what it sends in large pieces."""

    def send(self, data: Any) -> int:
        if self._local == "memory:1" and len(data) == 1024:
            return len(data)
        return super().send(data)


@pytest.mark.virtual_clock
async def test_each_of_the_two_ends_is_looked_at() -> None:
    only = "nettest_basic_io", "a_closed_stream_still_knows_its_peer"
    report = await report_of(pair_of(OneEndLoses), only=only)
    assert report.broken[0].seen.endswith("(seen from the second end)")
    assert (await check_stream(pair_of(OneEndLoses), only=only, both_ways=False)).kept


@pytest.mark.virtual_clock
async def test_what_a_callback_raises_breaks_the_promise_it_is_met_with() -> None:
    heard: list[dict[str, Any]] = []
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, context: heard.append(context))
    report = await report_of(pair_of(RaisesInACallback), only="closing_may_be_repeated")
    assert "the loop reported" in report.broken[0].seen
    assert "ZeroDivisionError: in a callback" in report.broken[0].seen
    loop.call_soon(lambda: 1 / 0)
    await asyncio.sleep(0)
    assert len(heard) == 1  # the handler of before is back, and met nothing meanwhile


# A machine that is busy. -----------------------------------------------------------------------

MOVED_LATER = "a_deadline_moved_later_is_obeyed_by_what_waits"


class StallsOnce(netio.Stream):
    """Its first read finds the machine busy with something else."""

    stalled = False

    async def read_exactly(self, n: int, **options: Any) -> bytes:
        if not StallsOnce.stalled:
            StallsOnce.stalled = True
            time.sleep(0.05)
        return await super().read_exactly(n, **options)


@pytest.mark.real_time("the loop is blocked, and comes late")
async def test_what_is_broken_while_the_loop_comes_late_is_looked_at_again() -> None:
    StallsOnce.stalled = False
    report = await check_stream(pair_of(stream=StallsOnce), only=MOVED_LATER, both_ways=False)
    assert report.kept


@pytest.mark.real_time("only on a real clock is something looked at again")
async def test_what_is_broken_by_itself_is_not_looked_at_again() -> None:
    pairs = 0

    async def make_pair() -> tuple[netio.Stream, netio.Stream]:
        nonlocal pairs
        pairs += 1
        return await pair_of(AbortIsAClose)()

    for _ in range(10):  # the machine may really be busy
        pairs = 0
        await report_of(make_pair, only="a_reset_is_no_end")
        if pairs == 1:
            break
    assert pairs == 1


# What hangs. -----------------------------------------------------------------------------------


class Hangs(netio.Stream):
    """`read_exactly` ignores its limit."""

    async def read_exactly(self, n: int, **_: Any) -> bytes:
        return await asyncio.get_running_loop().create_future()


class Deaf(netio.Stream):
    """`read_exactly` ignores its limit, and cancels."""

    deaf = True

    async def read_exactly(self, n: int, **_: Any) -> bytes:
        while Deaf.deaf:
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.sleep(1)
        return b""


class Spins(netio.Stream):
    """`read_exactly` asks again and again."""

    async def read_exactly(self, n: int, **_: Any) -> bytes:
        while True:  # noqa: ASYNC110
            await asyncio.sleep(0)


@pytest.mark.virtual_clock
@pytest.mark.parametrize("stream", [Hangs, Deaf, Spins])
async def test_a_check_that_hangs_is_ended_and_the_others_are_made(
    stream: type[netio.Stream],
) -> None:
    Deaf.deaf = True
    others = "any_buffer_can_be_written", "closing_may_be_repeated"
    report = await report_of(pair_of(stream=stream), only=[ONE, *others], both_ways=False)
    assert report.results[0].seen.startswith("hangs: it did not end in 30 s")
    assert ("goes on" in report.results[0].seen) == (stream is Deaf)
    assert report.results[2].verdict is Verdict.KEPT
    Deaf.deaf = False
    await asyncio.sleep(2)  # it hears now


@pytest.mark.real_time("the limit of a check is one of real time")
async def test_a_check_that_hangs_is_ended_in_real_time() -> None:
    report = await report_of(pair_of(stream=Hangs), only=ONE, check_timeout=0.02)
    assert report.broken[0].seen == "hangs: it did not end in 0.02 s"


@pytest.mark.virtual_clock
async def test_a_make_pair_that_hangs_is_ended() -> None:
    async def make_pair() -> tuple[netio.Stream, netio.Stream]:
        return await asyncio.get_running_loop().create_future()

    report = await report_of(make_pair, only=ONE)
    assert "hangs" in report.broken[0].seen


@pytest.mark.virtual_clock
async def test_a_cancel_ends_the_checks_and_leaves_nothing(netio_leak_check: None) -> None:
    pairs: list[netio.Stream] = []

    async def make_pair() -> tuple[netio.Stream, netio.Stream]:
        pair = await pair_of(stream=Hangs)()
        pairs.extend(pair)
        return pair

    task = asyncio.create_task(check_stream(make_pair, only=ONE))
    await asyncio.sleep(1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert [stream.closed for stream in pairs] == [True, True]


def test_the_kit_needs_no_pytest() -> None:
    program = (
        "import sys, asyncio, netio, netio.testing\n"
        "async def make_pair(): return netio.stream_pair()\n"
        f"netio.testing.run(netio.testing.check_stream(make_pair, only={ONE!r}))\n"
        "assert not {'pytest', '_pytest', 'anyio'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=15)
