"""On the clock of the machine: no wait is early by `loop.time()`, and how late they are is told.

`pytest -s tests/test_real_clock.py` shows the figures. That they are small is for a quiet machine
to show; here only what holds on any.
"""

import asyncio
import random
from statistics import quantiles

import pytest

import netio

STREAMS = 100
WAITS_EACH = 10


@pytest.mark.real_time("the real clock is measured")
async def test_of_a_thousand_waits_none_is_early_and_how_late_they_are_is_told(
    loop_variant: str,
) -> None:
    loop = asyncio.get_running_loop()
    draw = random.Random(1)
    late: list[float] = []

    async def wait_again_and_again(stream: netio.Stream) -> None:
        for number in range(WAITS_EACH):
            seconds = draw.uniform(0.001, 0.06)
            due = loop.time() + seconds
            with pytest.raises(netio.DeadlineExceeded):
                timeout = netio.Deadline.at(due) if number % 2 else seconds
                await stream.read_exactly(1, timeout=timeout)
            late.append(loop.time() - due)

    pairs = [netio.stream_pair() for _ in range(STREAMS)]
    await asyncio.gather(*(wait_again_and_again(near) for near, _ in pairs))
    for stream in (stream for pair in pairs for stream in pair):
        stream.abort()
    assert len(late) == STREAMS * WAITS_EACH
    assert min(late) >= 0
    tell(f"{len(late)} waits on the {loop_variant} loop", late)


def tell(what: str, late: list[float]) -> None:
    shares = quantiles(late, n=100)
    told = [f"{share}% {shares[share - 1] * 1e3:.2f}" for share in (1, 10, 50, 90, 99)]
    print(f"\n{what}, ms late: {', '.join(told)}, all {max(late) * 1e3:.2f}")  # noqa: T201
