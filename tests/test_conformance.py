"""Every transport of netio keeps what a netio stream promises, and all keep it in the same way."""

import asyncio
import re
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import streams
import unix_paths

import netio
import netio.testing
from netio.testing import (
    ConformanceReport,
    Verdict,
    check_listener,
    check_stream,
    listener_checks,
    stream_checks,
)

ROOT = Path(__file__).parent.parent
CHECKS_MIN = 60

NETTEST = [
    "BasicIO", "PingPong", "RacyRead", "RacyWrite", "ReadTimeout", "WriteTimeout", "PastTimeout",
    "PresentTimeout", "FutureTimeout", "CloseTimeout", "ConcurrentMethods",
]  # fmt: skip

LoopFactory = Callable[[], asyncio.AbstractEventLoop]
Pair = tuple[netio.Stream, netio.Stream]


async def memory() -> Pair:
    return streams.make_pair("memory", capacity=65536)


async def unix() -> Pair:
    return netio.stream_pair()


def serve_on_loopback(handler: Any, **options: Any) -> Any:
    return netio.serve_tcp(handler, "127.0.0.1", **options)


def connect_on_loopback(server: netio.Server, **options: Any) -> Any:
    return netio.connect_tcp("127.0.0.1", server.port, **options)


loopback = netio.testing.accepted_pairs(serve_on_loopback, connect_on_loopback)


def serve_on_a_path(handler: Any, **options: Any) -> Any:
    name = tempfile.mktemp(prefix="netio-")
    return netio.serve_unix(handler, name, **options)


def serve_on_a_name(handler: Any, **options: Any) -> Any:
    return netio.serve_unix(handler, unix_paths.abstract_name(), **options)


def connect_to_a_path(server: netio.Server, **options: Any) -> Any:
    [address] = server.addresses
    assert isinstance(address, str | bytes)
    return netio.connect_unix(address, **options)


unix_path = netio.testing.accepted_pairs(serve_on_a_path, connect_to_a_path)
unix_name = netio.testing.accepted_pairs(serve_on_a_name, connect_to_a_path)


# What a transport of sockets has, and one in memory has not.
OF_SOCKETS = {"a_detached_socket_is_the_callers", "a_closed_stream_leaves_no_descriptor"}
OF_TOLD_TIMERS = {"a_closed_stream_leaves_no_timer"}
OF_REAL_TIME = {"a_flood_does_not_outrun_a_limit"}


def not_applicable(report: ConformanceReport) -> set[str]:
    return {result.name for result in report.not_applicable}


TRANSPORTS = {
    "memory": memory,
    "unix": unix,
    "unix path": unix_path,
    "unix name": unix_name,
    "loopback": loopback,
}


@pytest.fixture(scope="module")
def reports(loop_factory: LoopFactory) -> dict[str, ConformanceReport]:
    """Of all transports: some at a time, in threads, since most of it is spent with waiting."""

    def look(make_pair: Any) -> ConformanceReport:
        with asyncio.Runner(loop_factory=loop_factory) as runner:
            return runner.run(check_stream(make_pair, both_ways=False))

    with ThreadPoolExecutor(3) as pool:
        return dict(zip(TRANSPORTS, pool.map(look, TRANSPORTS.values()), strict=True))


@pytest.mark.timeout(120)  # the first one waits for all
@pytest.mark.parametrize("transport", TRANSPORTS)
def test_a_transport_of_netio_conforms(
    reports: dict[str, ConformanceReport], transport: str, loop_variant: str
) -> None:
    report = reports[transport]
    expected = OF_SOCKETS if transport == "memory" else set()
    if loop_variant == "uvloop":
        expected = expected | OF_TOLD_TIMERS
    assert not_applicable(report) == expected
    assert len(report.kept) == len(stream_checks()) - len(expected)


@pytest.mark.timeout(120)
def test_memory_and_loopback_keep_each_promise_in_the_same_way(
    reports: dict[str, ConformanceReport],
) -> None:
    in_memory, over_tcp = reports["memory"].results, reports["loopback"].results
    both = [
        (one, other)
        for one, other in zip(in_memory, over_tcp, strict=True)
        if Verdict.NOT_APPLICABLE not in (one.verdict, other.verdict)
    ]
    assert both
    for one, other in both:
        assert (one.name, one.observed) == (other.name, other.observed)
    assert sum(len(one.observed) for one, _ in both) > 200


@pytest.mark.parametrize("seed", range(3))
def test_memory_conforms_in_other_orders_of_what_the_loop_leaves_open(
    seed: int, loop_variant: str
) -> None:
    if loop_variant != "stock":
        pytest.skip("the clock is virtual, and so is the loop")
    checks = check_stream(memory, both_ways=False)
    netio.testing.run(checks, seed=seed, timers_first=bool(seed % 2))


@pytest.mark.timeout(60)
@pytest.mark.virtual_clock
async def test_memory_conforms_both_ways_and_exactly_on_a_virtual_clock() -> None:
    report = await check_stream(memory)
    assert not_applicable(report) == OF_SOCKETS | OF_REAL_TIME


@pytest.mark.real_time("it is the kernel that is checked")
@pytest.mark.parametrize("serve", [serve_on_a_path, serve_on_a_name])
async def test_listeners_of_unix_sockets_conform(serve: Any) -> None:
    report = await check_listener(serve, connect_to_a_path)
    assert len(report.kept) == len(listener_checks())


def test_there_are_enough_checks_and_each_says_what_it_promises() -> None:
    checks = stream_checks()
    assert len(checks) >= CHECKS_MIN
    assert len({check.name for check in checks}) == len({check.promise for check in checks})
    for check in checks:
        assert check.promise.endswith("."), check.name
        assert len(check.promise) > 30, check.name


def test_the_checks_of_nettest_are_among_them() -> None:
    promises = " ".join(check.promise for check in stream_checks())
    assert [name for name in NETTEST if f"nettest's {name}:" not in promises] == []


def test_every_law_that_a_check_names_is_there() -> None:
    text = (ROOT / "docs" / "laws.md").read_text(encoding="utf-8")
    laws = {int(number) for number in re.findall(r"^\*\*(\d+)\. ", text, re.M)}
    named = {check.law for check in stream_checks()} - {None}
    assert named <= laws
