"""The conformance kit for listeners: netio's conform, and each planted fault breaks its promise."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
import unix_paths

import netio
from netio._limits import Deadline
from netio.testing import Network, NotConforming, accepting_checks, check_accepting

CHECKS_MIN = 20

place = unix_paths.place

Road = tuple[Callable[..., Any], Callable[..., Any]]


def tcp(network: Network | None = None) -> Road:
    def listen(**options: Any) -> Any:
        return netio.listen_tcp("127.0.0.1", network=network, **options)

    def connect(listener: netio.Listener, **options: Any) -> Any:
        return netio.connect_tcp("127.0.0.1", listener.port, network=network, **options)

    return listen, connect


def unix(path: Any, network: Network | None = None) -> Road:
    def listen(**options: Any) -> Any:
        return netio.listen_unix(path, network=network, **options)

    def connect(listener: netio.Listener, **options: Any) -> Any:
        return netio.connect_unix(path, network=network, **options)

    return listen, connect


@pytest.mark.real_time("it is the kernel that is checked")
@pytest.mark.parametrize("kind", ["tcp", "unix", "unix name"])
async def test_listeners_of_the_system_conform(kind: str, place: Path) -> None:
    name = place / "s" if kind == "unix" else unix_paths.abstract_name()
    report = await check_accepting(*(tcp() if kind == "tcp" else unix(name)))
    assert len(report.kept) == len(accepting_checks()) >= CHECKS_MIN


@pytest.mark.virtual_clock
@pytest.mark.parametrize("kind", ["tcp", "unix"])
async def test_those_of_a_network_in_memory_conform(kind: str) -> None:
    network = Network()
    report = await check_accepting(*(tcp(network) if kind == "tcp" else unix("s", network)))
    assert len(report.kept) == len(accepting_checks())


@pytest.mark.virtual_clock
async def test_what_does_not_listen_or_connect_is_refused() -> None:
    listen, connect = tcp(Network())
    with pytest.raises(TypeError, match="listen must be a function"):
        await check_accepting(5, connect)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="connect must be a function"):
        await check_accepting(listen, 5)  # type: ignore[arg-type]
    with pytest.raises(NotConforming, match=r"listen must give a netio\.Listener"):
        await check_accepting(lambda **_: asyncio.sleep(0), connect)  # type: ignore[arg-type,return-value]
    with pytest.raises(NotConforming, match=r"connect must give a netio\.Stream"):
        await check_accepting(listen, lambda *_, **__: asyncio.sleep(0))  # type: ignore[arg-type,return-value]
    with pytest.raises(ValueError, match="there is no check 'accept'"):
        await check_accepting(listen, connect, only="accept")


# Faults. --------------------------------------------------------------------------------------


class CutsConnections(netio.Listener):
    async def accept(self, **options: Any) -> netio.Stream:
        stream = await super().accept(**options)
        stream.abort()
        return stream


class LosesTheThird(netio.Listener):
    calls = 0

    async def accept(self, **options: Any) -> netio.Stream:
        self.calls += 1
        if self.calls == 3:
            (await super().accept(**options)).abort()
        return await super().accept(**options)


class LooksNowAndThen(netio.Listener):
    """One who waits is not woken by the connection."""

    async def accept(self, *, timeout: Any = netio.DEFAULT) -> netio.Stream:
        if isinstance(timeout, (int, float)) and timeout > 1:
            await asyncio.sleep(2.6)
        return await super().accept(timeout=timeout)


class TellsAnotherAddress(netio.Listener):
    @property
    def addresses(self) -> tuple[Any, ...]:
        return (("192.0.2.1", 7),)


class FailsForThoseWhoLeft(netio.Listener):
    async def accept(self, **options: Any) -> netio.Stream:
        stream = await super().accept(**options)
        try:
            gone = stream._channel.receive(1) == b""
        except OSError as error:
            gone = not isinstance(error, BlockingIOError)
        if gone:
            stream.abort()
            raise ConnectionResetError("it has left")
        return stream


class LosesWithoutTime(netio.Listener):
    async def accept(self, *, timeout: Any = netio.DEFAULT) -> netio.Stream:
        if isinstance(timeout, Deadline) and timeout.remaining() == 0:
            raise netio.DeadlineExceeded("too late", limit="deadline")
        return await super().accept(timeout=timeout)


class MisnamesLimits(netio.Listener):
    async def accept(self, **options: Any) -> netio.Stream:
        try:
            return await super().accept(**options)
        except netio.DeadlineExceeded as error:
            error.limit = "read"
            raise


class IsLate(netio.Listener):
    async def accept(self, *, timeout: Any = netio.DEFAULT) -> netio.Stream:
        if isinstance(timeout, float):
            timeout += 3
        return await super().accept(timeout=timeout)


class HidesScopes(netio.Listener):
    async def accept(self, **options: Any) -> netio.Stream:
        try:
            return await super().accept(**options)
        except asyncio.CancelledError:
            raise netio.DeadlineExceeded("nobody has connected", operation="accept") from None


class TakesAnyLimit(netio.Listener):
    async def accept(self, *, timeout: Any = netio.DEFAULT) -> netio.Stream:
        return await super().accept(timeout=None if isinstance(timeout, str) else timeout)


class TakesItAlong(netio.Listener):
    """One that is cancelled takes what has come, and drops it."""

    async def accept(self, **options: Any) -> netio.Stream:
        try:
            return await super().accept(**options)
        except asyncio.CancelledError:
            channel = self._acceptors[0][0].accept()
            if channel is not None:
                channel.abort()
            raise


class ReturnsLate(netio.Listener):
    async def accept(self, **options: Any) -> netio.Stream:
        stream = await super().accept(**options)
        try:
            for _ in range(3):
                await asyncio.sleep(0)
        except asyncio.CancelledError:
            stream.abort()
            raise
        return stream


class Cancels(netio.Listener):
    async def accept(self, **options: Any) -> netio.Stream:
        try:
            return await super().accept(**options)
        except netio.DeadlineExceeded:
            task = asyncio.current_task()
            assert task is not None
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.sleep(0)
            raise


class ClosesAtTheSecond(netio.Listener):
    closes = 0

    async def aclose(self) -> None:
        self.closes += 1
        if self.closes > 1:
            await super().aclose()


class EndsWithAnError(netio.Listener):
    async def __anext__(self) -> netio.Stream:
        return await self.accept(timeout=None)


class TakesAllAlong(netio.Listener):
    """When it is closed, what was accepted is cut."""

    accepted: tuple[netio.Stream, ...] = ()

    async def accept(self, **options: Any) -> netio.Stream:
        stream = await super().accept(**options)
        self.accepted += (stream,)
        return stream

    async def aclose(self) -> None:
        for stream in self.accepted:
            stream.abort()
        await super().aclose()


class ListensOn(netio.Listener):
    """It says that it is closed, and the kernel still takes connections, until the second close."""

    closes = 0

    def _close(self) -> None:
        self.closes += 1
        if self.closes > 2:
            super()._close()
        else:
            self._line.release()


class KeepsWhatIsPending(netio.Listener):
    """What is in the backlog at the close is neither accepted nor ended."""

    kept: tuple[Any, ...] = ()

    async def aclose(self) -> None:
        if not self.closed:
            channel = self._acceptors[0][0].accept()
            if channel is not None:
                asyncio.get_running_loop().call_later(3, channel.abort)
        await super().aclose()


class LeavesATask(netio.Listener):
    async def accept(self, **options: Any) -> netio.Stream:
        stream = await super().accept(**options)
        task = asyncio.ensure_future(asyncio.sleep(60), loop=self._loop)
        task.set_name("left")
        return stream


class KeepsTheLoop(netio.Listener):
    async def accept(self, **options: Any) -> netio.Stream:
        self._turns.credit = 10_000
        return await super().accept(**options)


FAULTS = {
    CutsConnections: "a_connection_is_accepted",
    LosesTheThird: "what_came_before_anybody_asked_is_there",
    LooksNowAndThen: "one_that_waits_is_woken",
    TellsAnotherAddress: "the_ends_agree_about_addresses",
    FailsForThoseWhoLeft: "a_client_that_left_is_no_error",
    LosesWithoutTime: "without_time_it_takes_what_is_there",
    MisnamesLimits: "every_limit_ends_an_accept",
    IsLate: "every_limit_ends_an_accept",
    HidesScopes: "a_scope_ends_an_accept_and_is_told_which",
    TakesAnyLimit: "what_is_no_limit_of_an_accept_is_refused",
    TakesItAlong: "a_cancel_loses_no_connection",
    ReturnsLate: "a_scope_loses_no_connection",
    Cancels: "a_limit_of_an_accept_counts_as_no_cancel",
    ClosesAtTheSecond: "closing_wakes_all_who_accept",
    EndsWithAnError: "iterating_gives_connections_until_the_close",
    TakesAllAlong: "what_was_accepted_outlives_the_listener",
    ListensOn: "a_closed_listener_refuses",
    KeepsWhatIsPending: "who_meets_the_close_is_not_left_waiting",
    LeavesATask: "a_listener_has_no_task",
    KeepsTheLoop: "accepts_that_never_wait_leave_turns_to_others",
}
PLANTED = [
    *FAULTS.items(),
    (LosesTheThird, "of_many_who_wait_each_has_one"),
    (TakesItAlong, "one_that_is_cut_takes_nothing_from_others"),
]


@contextlib.asynccontextmanager
async def tasks_ended() -> AsyncIterator[None]:
    try:
        yield
    finally:
        for task in asyncio.all_tasks():
            if task.get_name() == "left":
                task.cancel()
                await asyncio.wait({task})


@pytest.mark.virtual_clock
@pytest.mark.once
@pytest.mark.parametrize(("fault", "check"), PLANTED, ids=lambda one: getattr(one, "__name__", one))
async def test_a_planted_fault_is_found(fault: type[netio.Listener], check: str) -> None:
    listen, connect = tcp(Network())

    async def listen_badly(**options: Any) -> netio.Listener:
        listener: netio.Listener = await listen(**options)
        listener.__class__ = fault
        return listener

    async with tasks_ended():
        with pytest.raises(NotConforming) as caught:
            await check_accepting(listen_badly, connect, only=check)
    assert [result.name for result in caught.value.broken] == [check]


def test_every_check_can_fail() -> None:
    assert {check for _, check in PLANTED} == {check.name for check in accepting_checks()}
