"""A limit goes to another process as the milliseconds left, and comes back as a deadline."""

import asyncio
import math
import pickle
import random
from fractions import Fraction
from typing import Any

import pytest
from streams import a_pair

import netio

MOST_MS = 9_999_999_999  # ten digits

pytestmark = pytest.mark.virtual_clock


# What is sent. --------------------------------------------------------------------------------


async def test_no_limit_is_not_a_number() -> None:
    assert netio.remaining_ms() is None
    async with netio.timeout(None), netio.timeout(math.inf):
        assert netio.remaining_ms() is None
        assert netio.remaining_ms(netio.Deadline.after(None)) is None
        assert netio.remaining_ms(margin=5) is None


async def test_the_nearest_limit_is_carried_less_the_margin() -> None:
    async with netio.timeout(2, name="outer"):
        async with netio.timeout(5, name="inner"):
            assert netio.remaining_ms() == 2000
            assert netio.remaining_ms(margin=0.05) == 1950
            await asyncio.sleep(0.5)
            assert netio.remaining_ms(margin=0.05) == 1450
            assert netio.remaining_ms(netio.Deadline.after(1)) == 1000
            assert netio.remaining_ms(netio.Deadline.after(1), margin=0.2) == 800
            assert netio.remaining_ms(netio.Deadline.after(9)) == 1500


async def test_milliseconds_are_whole_and_rounded_down() -> None:
    for seconds, ms in [(0.0019, 1), (0.0010, 1), (1.9999, 1999), (60, 60_000)]:
        async with netio.timeout(seconds):
            assert netio.remaining_ms() == ms


async def test_no_whole_number_of_milliseconds_loses_one_to_the_floats() -> None:
    rng = random.Random(5)
    for _ in range(2000):
        ms = rng.randrange(1, 10**7)
        async with netio.timeout(ms / 1000):
            assert netio.remaining_ms() == ms


async def test_what_is_carried_is_never_more_than_is_left() -> None:
    rng = random.Random(6)
    for _ in range(2000):
        left, margin = rng.uniform(0.001, 5), rng.choice([0.0, rng.uniform(0, 1)])
        async with netio.timeout(left):
            try:
                ms = netio.remaining_ms(margin=margin)
            except netio.DeadlineExceeded:
                assert left - margin < 0.001
                continue
            assert ms is not None
            assert ms >= 1
            exact = (Fraction(left) - Fraction(margin)) * 1000
            assert -Fraction(1, 10**5) < exact - ms < 1


async def test_more_than_ten_digits_are_not_sent() -> None:
    async with netio.timeout(1e300):
        assert netio.remaining_ms() == MOST_MS


@pytest.mark.parametrize(("left", "margin"), [(0, 0), (-3, 0), (0.0009, 0), (0.2, 0.2), (1, 5)])
async def test_nothing_left_fails_and_says_how_much_there_was(left: float, margin: float) -> None:
    scope = netio.timeout(left, name="request")
    async with netio.timeout(10, name="outer"), scope:
        with pytest.raises(netio.DeadlineExceeded) as caught:
            netio.remaining_ms(margin=margin)
    error = caught.value
    assert (error.limit, error.scope, error.scope_name) == ("scope", scope, "request")
    assert error.operation == "remaining_ms"
    assert error.seconds == max(0, left)
    assert error.elapsed == 0.0
    assert f"scope 'request' has {max(0, left):.3g} s left" in str(error)
    assert (f"the margin is {margin:.3g} s" in str(error)) is (margin > 0)
    assert pickle.loads(pickle.dumps(error)).scope == "request"


async def test_nothing_left_of_a_deadline_names_the_deadline() -> None:
    with pytest.raises(netio.DeadlineExceeded, match=r"the deadline has 0\.1 s left") as caught:
        netio.remaining_ms(netio.Deadline.after(0.1), margin=0.5)
    assert (caught.value.limit, caught.value.scope) == ("deadline", None)


async def test_within_a_shield_its_bound_is_what_is_left() -> None:
    async with netio.timeout(1), netio.shield(3, name="goodbye") as shield:
        assert netio.remaining_ms() == 3000
        with pytest.raises(netio.DeadlineExceeded) as caught:
            netio.remaining_ms(margin=4)
    assert (caught.value.limit, caught.value.scope) == ("shield", shield)


async def test_of_equal_limits_the_own_deadline_answers_and_then_the_outermost_scope() -> None:
    async with netio.timeout_at(0, name="outer") as outer, netio.timeout_at(0, name="inner"):
        with pytest.raises(netio.DeadlineExceeded) as caught:
            netio.remaining_ms()
        assert caught.value.scope is outer
        with pytest.raises(netio.DeadlineExceeded) as caught:
            netio.remaining_ms(netio.Deadline.at(0))
        assert caught.value.limit == "deadline"


async def test_nothing_left_fails_before_anything_is_sent() -> None:
    async with a_pair("memory") as (near, far):

        async def request() -> None:
            await near.write(b"%d ping\n" % netio.remaining_ms(margin=0.1))

        async with netio.timeout(0.1), netio.move_on_after(5):
            with pytest.raises(netio.DeadlineExceeded):
                await request()
        assert near.statistics().bytes_sent == 0
        async with netio.timeout(0.2):
            await request()
        assert await far.read_line() == b"100 ping\n"


async def test_a_task_that_was_started_inside_carries_the_limit_it_inherited() -> None:
    async def child() -> int | None:
        return netio.remaining_ms()

    async with netio.timeout(3):
        assert await asyncio.create_task(child()) == 3000


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"margin": None}, TypeError, "margin"),
        ({"margin": "1"}, TypeError, "margin"),
        ({"margin": True}, TypeError, "margin"),
        ({"margin": math.nan}, ValueError, "margin"),
        ({"margin": math.inf}, ValueError, "margin"),
        ({"margin": -0.1}, ValueError, "margin"),
        ({"deadline": 5.0}, TypeError, r"deadline must be a netio\.Deadline or None, not float"),
        ({"deadline": 5}, TypeError, r"seconds from now are netio\.Deadline\.after\(seconds\)"),
        ({"deadline": netio.timeout(5)}, TypeError, "deadline"),
        (
            {"deadline": netio.Budget(5)},
            TypeError,
            r"not Budget; .* netio\.Deadline\.after\(budget\.remaining\(\)\)",
        ),
    ],
)
async def test_wrong_arguments_are_refused_also_where_there_is_no_limit(
    arguments: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        netio.remaining_ms(**arguments)


# What is received. ----------------------------------------------------------------------------


async def test_what_was_received_is_a_deadline_from_now() -> None:
    await asyncio.sleep(7)
    deadline = netio.deadline_after_ms(1500)
    assert deadline == netio.Deadline.at(8.5)
    async with netio.move_on_at(deadline) as scope:
        await asyncio.sleep(60)
    assert scope.caught
    assert asyncio.get_running_loop().time() == 8.5


async def test_none_received_is_no_limit() -> None:
    assert netio.deadline_after_ms(None) == netio.Deadline.at(None)


async def test_zero_received_has_passed() -> None:
    assert netio.deadline_after_ms(0).remaining() == 0.0


@pytest.mark.parametrize("ms", [MOST_MS + 1, 2**63, 10**400])
async def test_what_is_gigantic_is_taken_as_ten_digits_of_milliseconds(ms: int) -> None:
    assert netio.deadline_after_ms(ms) == netio.deadline_after_ms(MOST_MS)
    assert math.isfinite(netio.deadline_after_ms(ms).when)


@pytest.mark.parametrize(
    ("ms", "error"),
    [
        (-1, ValueError),
        (-(10**400), ValueError),
        (True, TypeError),
        ("1500", TypeError),
        (b"1500", TypeError),
        (1500.0, TypeError),
        (math.nan, TypeError),
        (math.inf, TypeError),
        ([1500], TypeError),
    ],
)
async def test_what_is_no_number_of_milliseconds_is_refused(
    ms: Any, error: type[Exception]
) -> None:
    with pytest.raises(error, match=r"^ms must be"):
        netio.deadline_after_ms(ms)


async def test_a_limit_that_crosses_many_processes_never_grows() -> None:
    async with netio.timeout(1):
        ms = netio.remaining_ms()
        for hop in range(1, 6):
            async with netio.timeout_at(netio.deadline_after_ms(ms)):
                await asyncio.sleep(0.0123)  # at work
                ms = netio.remaining_ms(margin=0.01)
                assert ms is not None
                assert ms <= 1000 - hop * (12 + 10)
