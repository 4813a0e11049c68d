"""Streams over TLS keep what a netio stream promises, on every road and in one another."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import secured

from netio.testing import ConformanceReport, check_stream, stream_checks

# A cut write is the last one over TLS (law 13), and the socket is not to be given away.
LACKS = ["clean_cut"]
NOT_OVER_TLS = {
    "a_write_that_waits_goes_on_when_there_is_room",
    "a_write_of_which_nothing_was_sent_leaves_the_stream_usable",
    "a_detached_socket_is_the_callers",
}

ROADS = [
    ("tcp", "1.2", 1),
    ("tcp", "1.3", 1),
    ("unix", "1.3", 1),
    ("memory", "1.2", 1),
    ("tcp", "1.3", 2),
]
IDS = [f"{kind}, {times} x TLS {version}" for kind, version, times in ROADS]


def pairs(kind: str, version: str, times: int) -> Any:
    return lambda: secured.make_pair(kind, version, times=times, capacity=65536)


@pytest.fixture(scope="module")
def reports(
    loop_factory: Callable[[], asyncio.AbstractEventLoop],
) -> dict[str, ConformanceReport]:
    """Of all roads with sockets: each in a thread, since most of the time is spent with waiting."""

    def look(road: tuple[str, str, int]) -> ConformanceReport:
        with asyncio.Runner(loop_factory=loop_factory) as runner:
            return runner.run(check_stream(pairs(*road), lacks=LACKS, both_ways=False))

    secured.certificate()  # once, and not in each thread
    with ThreadPoolExecutor(3) as pool:
        return dict(zip(IDS, pool.map(look, ROADS), strict=True))


@pytest.mark.timeout(120)  # the first one waits for all
@pytest.mark.parametrize("road", IDS)
def test_a_stream_over_tls_conforms(
    reports: dict[str, ConformanceReport], road: str, loop_variant: str
) -> None:
    report = reports[road]
    expected = set(NOT_OVER_TLS)
    if road.startswith("memory"):
        expected |= {"a_closed_stream_leaves_no_descriptor"}
    if loop_variant == "uvloop":
        expected |= {"a_closed_stream_leaves_no_timer"}
    assert {result.name for result in report.not_applicable} == expected
    assert len(report.kept) == len(stream_checks()) - len(expected)


@pytest.mark.virtual_clock
@pytest.mark.timeout(60)
async def test_the_side_of_a_server_conforms_exactly_on_a_virtual_clock() -> None:
    """On the other roads it is the client that is looked at."""

    async def turned() -> secured.Pair:
        client, server = await secured.make_pair("memory", "1.3", capacity=65536)
        return server, client

    report = await check_stream(turned, lacks=LACKS, both_ways=False)
    assert not report.broken
