"""The conformance kit for datagrams: netio's conform, and each planted fault breaks its promise."""

import asyncio
import contextlib
import functools
from collections.abc import AsyncIterator
from typing import Any

import datagrams
import pytest
from datagrams import a_pair
from raw_sockets import HAS_IPV6

import netio
from netio._datagram_sending import Departures
from netio._limits import Deadline
from netio.testing import NotConforming, check_datagrams, datagram_checks

CHECKS_MIN = 20

KINDS = [kind for kind in datagrams.KINDS if HAS_IPV6 or kind != "udp6"]


@pytest.mark.real_time("it is the kernel that is checked")
@pytest.mark.parametrize("kind", KINDS)
async def test_datagrams_of_netio_conform(kind: str) -> None:
    report = await check_datagrams(functools.partial(a_pair, kind))
    assert len(report.kept) == len(datagram_checks()) >= CHECKS_MIN


@pytest.mark.real_time("it is the kernel that is checked")
async def test_a_function_may_make_the_sockets() -> None:
    async def make() -> tuple[netio.DatagramSocket, netio.DatagramSocket]:
        server = await netio.bind_udp("127.0.0.1")
        port = server.local[1]  # type: ignore[index]
        return await netio.connect_udp("127.0.0.1", port), server

    await check_datagrams(make, only="datagrams_are_not_joined")


async def test_what_makes_no_sockets_is_refused() -> None:
    with pytest.raises(TypeError, match="make_sockets must be a function"):
        await check_datagrams(5)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"make_sockets must give two netio\.DatagramSockets"):
        await check_datagrams(lambda: asyncio.sleep(0), only="datagrams_are_not_joined")  # type: ignore[arg-type,return-value]
    with pytest.raises(TypeError, match="make_sockets must be an async function"):
        await check_datagrams(lambda: 5, only="datagrams_are_not_joined")  # type: ignore[arg-type,return-value]
    with pytest.raises(ValueError, match="there is no check 'datagram'"):
        await check_datagrams(functools.partial(a_pair, "udp"), only="datagram")


# Faults. --------------------------------------------------------------------------------------


class Faulty(netio.DatagramSocket):
    """Made of one of netio's, which it takes the parts of."""

    def __init__(self, sock: netio.DatagramSocket) -> None:
        for name in ("_arrivals", "_channel", "_checked", "_departures", "_timeouts"):
            setattr(self, name, getattr(sock, name))


class Joins(Faulty):
    async def receive(self, **options: Any) -> netio.Datagram:
        first = await super().receive(**options)
        with contextlib.suppress(netio.DeadlineExceeded):
            second = await super().receive(timeout=0)
            return netio.Datagram(first.data + second.data, first.address)
        return first


class Cuts(Faulty):
    async def receive(self, **options: Any) -> netio.Datagram:
        data, address = await super().receive(**options)
        return netio.Datagram(data[:1000], address)


class SkipsEmpty(Faulty):
    async def send(self, data: Any, **options: Any) -> None:
        if len(data):
            await super().send(data, **options)


class ForgetsAddresses(Faulty):
    async def receive(self, **options: Any) -> netio.Datagram:
        return netio.Datagram((await super().receive(**options)).data, None)


class SendsLater(Faulty):
    async def send(self, data: Any, **options: Any) -> None:
        sending = super().send(data, **options)
        asyncio.get_running_loop().call_later(0.001, lambda: asyncio.ensure_future(sending))


class CountsNothing(Faulty):
    def statistics(self) -> netio.DatagramStatistics:
        return netio.DatagramStatistics(
            received=0, bytes_received=0, truncated=0, sent=0, bytes_sent=0, dropped=None
        )


class LosesOnCancel(Faulty):
    async def receive(self, **options: Any) -> netio.Datagram:
        try:
            return await super().receive(**options)
        except asyncio.CancelledError:
            self._arrivals.kept = None
            raise


class ReturnsLate(Faulty):
    async def receive(self, **options: Any) -> netio.Datagram:
        datagram = await super().receive(**options)
        for _ in range(3):
            await asyncio.sleep(0)
        return datagram


class LosesWithoutTime(Faulty):
    async def receive(self, *, timeout: Any = netio.DEFAULT) -> netio.Datagram:
        if isinstance(timeout, Deadline) and timeout.remaining() == 0:
            raise netio.DeadlineExceeded("too late", limit="deadline")
        return await super().receive(timeout=timeout)


class IgnoresLimits(Faulty):
    async def receive(self, *, timeout: Any = netio.DEFAULT) -> netio.Datagram:
        if isinstance(timeout, float):
            timeout += 3
        return await super().receive(timeout=timeout)


class MisnamesLimits(Faulty):
    async def receive(self, **options: Any) -> netio.Datagram:
        try:
            return await super().receive(**options)
        except netio.DeadlineExceeded as error:
            error.limit = "read"
            raise


class HidesScopes(Faulty):
    async def receive(self, **options: Any) -> netio.Datagram:
        try:
            return await super().receive(**options)
        except asyncio.CancelledError:
            raise netio.DeadlineExceeded("no datagram came", operation="receive") from None


class TakesAnyLimit(Faulty):
    async def receive(self, *, timeout: Any = netio.DEFAULT) -> netio.Datagram:
        return await super().receive(timeout=None if isinstance(timeout, str) else timeout)


class Cancels(Faulty):
    async def receive(self, **options: Any) -> netio.Datagram:
        try:
            return await super().receive(**options)
        except netio.DeadlineExceeded:
            task = asyncio.current_task()
            assert task is not None
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.sleep(0)
            raise


class HasManyReceivers(Faulty):
    async def receive(self, **options: Any) -> netio.Datagram:
        for _ in range(10_000):
            if not self._arrivals.busy:
                break
            await asyncio.sleep(0.001)
        return await super().receive(**options)


class CutsWhatIsTooLarge(Faulty):
    async def send(self, data: Any, **options: Any) -> None:
        await super().send(bytes(data)[:1000] if len(data) > 65507 else data, **options)


class SendsAnyhow(Faulty):
    async def send(self, data: Any, **options: Any) -> None:
        if self._channel.connected:
            await super().send(data, **options)


class ClosesAtTheThird(Faulty):
    calls = 0

    def close(self) -> None:
        self.calls += 1
        if self.calls > 2:
            super().close()


class EndsWithAnError(Faulty):
    async def __anext__(self) -> netio.Datagram:
        return await self.receive()


class KeepsTheLoop(Faulty):
    async def receive(self, **options: Any) -> netio.Datagram:
        self._arrivals._turns.credit = 10_000
        return await super().receive(**options)


class TakesTwice(Faulty):
    async def receive(self, **options: Any) -> netio.Datagram:
        datagram = await super().receive(**options)
        if datagram.data == b"7":
            self._arrivals.kept = datagram
        return datagram


class Sleeps(Faulty):
    """Is woken late: it looks now and then, and not when something comes."""

    async def receive(self, *, timeout: Any = netio.DEFAULT) -> netio.Datagram:
        if isinstance(timeout, (int, float)) and timeout > 1:
            await asyncio.sleep(2.6)
        return await super().receive(timeout=timeout)


FAULTS = {
    Joins: "datagrams_are_not_joined",
    Cuts: "a_datagram_arrives_as_it_was_sent",
    SkipsEmpty: "a_datagram_arrives_as_it_was_sent",
    ForgetsAddresses: "an_answer_reaches_who_asked",
    SendsLater: "a_buffer_may_be_changed_after_a_send",
    Sleeps: "a_receive_that_waits_is_woken",
    TakesTwice: "many_are_exchanged_in_a_row",
    CountsNothing: "the_statistics_count_datagrams",
    LosesWithoutTime: "with_no_time_it_takes_what_is_there",
    IgnoresLimits: "every_limit_ends_a_receive",
    MisnamesLimits: "every_limit_ends_a_receive",
    HidesScopes: "a_scope_ends_a_receive_and_is_told_which",
    TakesAnyLimit: "what_is_no_limit_is_refused",
    LosesOnCancel: "a_cancel_loses_no_datagram",
    ReturnsLate: "a_scope_loses_no_datagram",
    Cancels: "a_limit_leaves_the_cancel_count_alone",
    HasManyReceivers: "there_is_one_receiver_at_a_time",
    CutsWhatIsTooLarge: "a_datagram_that_is_too_large_is_refused_whole",
    SendsAnyhow: "each_send_has_its_kind_of_socket",
    ClosesAtTheThird: "closing_wakes_who_waits",
    EndsWithAnError: "iterating_gives_each_and_ends_with_the_close",
    KeepsTheLoop: "calls_that_never_wait_leave_turns_to_others",
}


@contextlib.asynccontextmanager
async def with_a_fault(fault: type[Faulty]) -> AsyncIterator[Any]:
    async with a_pair("udp") as (client, server):
        yield fault(client), fault(server)


@pytest.mark.real_time("some faults are those of time")
@pytest.mark.once
@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
async def test_a_planted_fault_is_found(fault: type[Faulty]) -> None:
    with pytest.raises(NotConforming) as caught:
        make = functools.partial(with_a_fault, fault)
        await check_datagrams(make, only=FAULTS[fault], check_timeout=1)
    assert [result.name for result in caught.value.broken] == [FAULTS[fault]]


def test_every_check_can_fail() -> None:
    assert set(FAULTS.values()) == {check.name for check in datagram_checks()}


@pytest.mark.real_time("it is the kernel that is checked")
async def test_a_send_that_sends_nothing_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Departures, "quick", lambda *_: True)
    with pytest.raises(NotConforming):
        await check_datagrams(
            functools.partial(a_pair, "udp"),
            only="the_statistics_count_datagrams",
            check_timeout=0.5,
        )
