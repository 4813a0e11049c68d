"""The stage: where one schedule is played to a program, and what the program and its peer stand on.

The events of a schedule happen as callbacks of the loop, each at its own place among those of its
turn. What must come of it is judged by what has really happened until the program was over, and by
nothing else: how many turns it took is its own affair.
"""

from __future__ import annotations

import asyncio
import dataclasses
import inspect
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar

from netio._arguments import check_callable, check_count
from netio._defaults import STREAM_LIMIT_BYTES
from netio._limits import Timeouts
from netio._memory import memory_pair
from netio._scopes import timeout as scope_of
from netio._stream import Stream
from netio.testing._clock.loop import VirtualLoop
from netio.testing._exploring import notation
from netio.testing._exploring.course import Course
from netio.testing._exploring.peer import Peer, PeerNetwork

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Mapping

    from netio._memory import MemoryChannel
    from netio._network import Network
    from netio._scopes import Scope

T = TypeVar("T")

#: Turns of the loop that a program is given to end when the scenario has failed.
_LAST_TURNS: Final = 5

_CAPACITY_BYTES: Final = (
    1 << 20
)  # under way, so that no program waits for a peer that does not read


@dataclasses.dataclass(frozen=True, slots=True)
class Event:
    """Something that may happen.

    Attributes:
        words: what happens, for the text of a `CounterExample`.
        act: makes it happen, at once; it is given the `Stage`. If it returns False, nothing has
            happened: it was too late, say. (Anything else, None too, means that it has.) None: each
            scenario says itself what happens, in the `acts` of `Stage.play`.
        by_peer: ``"data"``, ``"end"`` or ``"reset"`` for what the peer of a connection does, which
            can't happen in every order; "" for all else, which can.
    """

    words: str
    act: Callable[[Stage], object] | None = None
    by_peer: str = ""

    def __post_init__(self) -> None:
        if not isinstance(self.words, str):
            raise TypeError(f"words must be a str, not {type(self.words).__name__}")
        if self.act is not None:
            check_callable(self.act, "act")
        if self.by_peer not in ("", "data", "end", "reset"):
            raise ValueError(f"by_peer must be '', 'data', 'end' or 'reset', not {self.by_peer!r}")


@dataclasses.dataclass(frozen=True, slots=True)
class Outcome(Generic[T]):
    """What has come of a program that was played a schedule.

    Attributes:
        value: what it has returned; None if it has raised.
        error: what it has raised, out of the scope around it, or None. A ``CancelledError`` if it
            ended as cancelled.
        happened: the events that have really happened before it was over, in their order.
        waits: it was not over so many turns after the last event, and was cancelled then.
    """

    value: T | None
    error: BaseException | None
    happened: str
    waits: bool = False

    def result(self) -> T:
        """What the program has returned; raises what it has raised."""
        if self.error is not None:
            raise self.error
        return self.value  # type: ignore[return-value]

    @property
    def cancelled(self) -> bool:
        """Whether the program ended as cancelled."""
        return isinstance(self.error, asyncio.CancelledError)


class Stage:
    """What a scenario is given: one schedule, and the connections and the task it is played to.

    A scenario makes what its program needs, has the stage play the schedule to it, and looks at
    what came of it. `explore` calls it once for each schedule, with a stage of its own.

    Attributes:
        schedule: what is going to happen, in the language of schedules.
        happened: the events that have really happened so far, in their order. What comes when the
            program is over already does not count.
        scope: the scope of the caller, around the program, without a deadline of its own.
    """

    def __init__(self, schedule: str, events: Mapping[str, Event]) -> None:
        notation.check(schedule, events)
        self._loop = asyncio.get_running_loop()
        self._events = events
        self._acts: Mapping[str, Callable[[], object]] = {}
        self._task: asyncio.Task[Any] | None = None
        self._program: Coroutine[Any, Any, Any]
        self._peers: list[Peer] = []
        self._made_by_program: list[MemoryChannel] = []
        self._near: Stream | None = None
        self._far: Stream | None = None
        self._given = False  # the events have been played
        self.schedule: str = schedule
        self.happened: str = ""
        self.scope: Scope = scope_of(None)

    # Connections.

    @property
    def near(self) -> Stream:
        """This side of a connection in memory, for the program; made when first asked for.

        Its limits are those of `netio.Timeouts()`. The stage closes it in the end.
        """
        if self._near is None:
            self._near = Stream(self._dial(), timeouts=Timeouts(), limit=STREAM_LIMIT_BYTES)
        return self._near

    @property
    def peer(self) -> Peer:
        """The other end of the latest connection. Before the first one: one that is closed."""
        return self._peers[-1] if self._peers else self._nobody()

    @property
    def peers(self) -> tuple[Peer, ...]:
        """The other ends of all connections, in the order in which they were made."""
        return tuple(self._peers)

    def use(self, near: Stream, far: Stream) -> None:
        """Play with these two ends, on real sockets for instance, as `near` and its `peer`."""
        self._near = near
        self._far = far  # kept, since a stream that is dropped while it is open complains
        self._peers.append(Peer(near._channel, far._channel))

    @property
    def network(self) -> Network:
        """For ``network=`` of `netio.connect_tcp`, in a program that connects by itself.

        Every name and address is there, and each connect makes a connection to a new `peer` at
        once. The program has to close what it makes: what is left open fails the scenario.
        """
        return PeerNetwork(self._dial_for_program)

    def _dial(self) -> MemoryChannel:
        near, far = memory_pair(self._loop, capacity=_CAPACITY_BYTES)
        self._peers.append(Peer(near, far))
        return near

    def _nobody(self) -> Peer:
        peer = Peer(*memory_pair(self._loop))
        peer.close()
        return peer

    def _dial_for_program(self) -> MemoryChannel:
        channel = self._dial()
        self._made_by_program.append(channel)
        return channel

    # Playing.

    async def play(
        self,
        program: Coroutine[Any, Any, T],
        acts: Mapping[str, Callable[[], object]] | None = None,
        *,
        ticks: int | None = None,
        may_swallow: bool = False,
    ) -> Outcome[T]:
        """Run `program` in a task and in `scope`, and let happen what the schedule says.

        The first turn of the schedule is the one in which the program begins, behind that. When
        all has happened, the peer is silent for ever, and time passes.

        acts: what events do that are made for this scenario, by their letters, in place of what
            `events` says; None: nothing.
        ticks: turns of the loop after the last event, after which the program is taken to wait for
            ever, and cancelled (see `Outcome.waits`). None: until it is over, however long it
            takes; on a virtual clock, where nothing waits for ever unnoticed.
        may_swallow: the program may return, or raise anything, although it was cancelled or its
            scope expired.

        Returns: what has come of it, also if the program has raised.

        Raises:
            AssertionError: a cancel from outside has happened, and the program did not end as
                cancelled; or the scope expired, and it has returned all the same.
            TypeError, ValueError, RuntimeError: `program` can't be awaited; `acts` has a letter
                that is no event; this stage has played already.

        Cancellation: the program goes on; `explore` ends it.
        """
        self.start(program)
        return await self.outcome(acts, ticks=ticks, may_swallow=may_swallow)

    def start(self, program: Coroutine[Any, Any, T]) -> None:
        """Begin to run `program`, and play nothing yet: the first half of `play`.

        Raises: TypeError: it can't be awaited. RuntimeError: a program has begun already.
        """
        if not inspect.isawaitable(program):
            raise TypeError(
                "program must be a coroutine, as calling an async function makes it, "
                f"not {program!r}"
            )
        if self._task is not None:
            program.close()
            raise RuntimeError("a stage plays one program; this one has begun to play already")
        self._program = program
        self._task = self._loop.create_task(self._guard(program), name="the program")

    async def outcome(
        self,
        acts: Mapping[str, Callable[[], object]] | None = None,
        *,
        ticks: int | None = None,
        may_swallow: bool = False,
    ) -> Outcome[Any]:
        """Let happen what the schedule says: the second half of `play`, which tells the rest.

        acts, None, ticks, may_swallow: see `play`.

        Returns: what has come of the program that was started.

        Raises: as `play`.

        Cancellation: as `play`.
        """
        task = self.task
        over = await self.unfold(acts, over=task.done, ticks=0 if ticks is None else ticks)
        waits = not over and ticks is not None
        if waits:
            task.cancel()
        await asyncio.wait([task])
        if not waits and not may_swallow:
            self._check_swallowed(task)
        value, error = None, None
        try:
            value = task.result()
        except (Exception, asyncio.CancelledError) as raised:
            error = raised
        return Outcome(value, error, self.happened, waits)

    async def unfold(
        self,
        acts: Mapping[str, Callable[[], object]] | None = None,
        *,
        over: Callable[[], bool],
        ticks: int = 0,
    ) -> bool:
        """Let happen what the schedule says, to something that the stage did not start.

        acts: as of `play`; None: nothing. over: whether it has ended. ticks: how many turns of the
        loop it may take after the last event.

        Returns: whether it was over by then.

        Raises: what an act has raised. RuntimeError: the schedule was played already. ValueError:
            `acts` has a letter that is no event.

        Cancellation: what was to follow still happens.
        """
        if self._given:
            raise RuntimeError("the schedule was played already; a stage plays it once")
        check_count(ticks, "ticks")
        if strange := (acts or {}).keys() - self._events.keys():
            told = ", ".join(map(repr, sorted(strange)))
            raise ValueError(f"acts has {told}, which is no event in `events`")
        self._given = True
        course = Course(self.schedule, lambda event: self._happen(event, over))
        self._acts = acts or {}
        await course.run(over, ticks)
        return over()

    @property
    def task(self) -> asyncio.Task[Any]:
        """The task in which the program runs.

        Returns: the task, after `start`.

        Raises: RuntimeError before that.

        Cancellation: to cancel it is the event `cancel`, which counts as such; see there.
        """
        if self._task is None:
            raise RuntimeError("no program was started on this stage: await stage.play(...)")
        return self._task

    async def _guard(self, program: Coroutine[Any, Any, T]) -> T:
        async with self.scope:
            return await program
        raise AssertionError  # for the type checker: this scope is not quiet

    def _happen(self, event: str, over: Callable[[], bool]) -> None:
        was_over = over()
        act = self._acts.get(event)
        of_all = self._events[event].act
        if act is None and of_all is None:
            raise RuntimeError(f"the event {event!r} has no act, neither in `events` nor in `acts`")
        done = act() if act is not None else of_all(self)  # type: ignore[misc]
        if done is not False and not was_over:
            self.happened += event

    def _check_swallowed(self, task: asyncio.Task[Any]) -> None:
        if task.cancelled():
            return
        error = task.exception()
        how = f"it has raised {error!r}" if error else f"it has returned {task.result()!r}"
        if task.cancelling():
            raise AssertionError(
                f"the program has swallowed a cancel from outside: {how}"
            ) from error
        if error is None and self.scope.expired():
            raise AssertionError(f"the program has swallowed the expiry of its scope: {how}")

    # What happens, besides what the peer does.

    def cancel(self) -> bool:
        """Cancel the program's task, as from outside. False: it is over."""
        return self.task.cancel("by the stage")

    def expire(self) -> bool:
        """Let `scope` expire now. False: it was left, or has expired before."""
        scope = self.scope
        try:
            scope.reschedule(self._loop.time())
        except RuntimeError:
            return False
        scope._disarm()  # rings now, and not in the next turn
        scope._fire(self.task)
        return True

    def pass_time(self) -> bool:
        """Move the virtual clock on to the next timer, which rings now. False: there is none.

        Timers that are due at the same moment ring, too, in their order.
        """
        if not isinstance(self._loop, VirtualLoop):
            raise RuntimeError("only on a virtual clock can time be told to pass")
        if not self._loop.jump():
            return False
        for timer in self._loop._take_due():
            if not timer.cancelled():  # by one that rang before it
                timer._run()
        return True

    # Looking.

    @property
    def sent(self) -> bytes:
        """All bytes that the peers have sent, one connection after the other."""
        return b"".join(peer.sent for peer in self._peers)

    async def rest(self) -> bytes:
        """Read all that is still readable on `near`, up to its end, its failure, or its last byte.

        So the bytes that a program has returned, and these, must be those `sent`.

        Returns: the bytes; ``b""`` where `near` is closed.

        Raises: nothing for what the peer has done. `netio.StreamBusy`: the program still reads.

        Cancellation: what was read is gone.
        """
        near, rest = self.near, bytearray()
        near.deadline = None
        while not near.closed:
            try:
                chunk = await near.read_some(timeout=0)
            except (TimeoutError, ConnectionError):
                break
            if not chunk:
                break
            rest += chunk
        return bytes(rest)

    # The end.

    def check_played(self) -> None:
        """RuntimeError if the scenario ended without playing anything."""
        if not self._given:
            raise RuntimeError("the scenario has ended without `await stage.play(...)`")

    def check_closed(self) -> None:
        """AssertionError if a connection that the program made is still open."""
        for number, channel in enumerate(self._made_by_program, 1):
            if not channel.closed:
                raise AssertionError(f"the program has left its connection {number} open")

    async def close(self) -> None:
        """End the program, if it still runs, and cut all connections.

        Raises: nothing.

        Cancellation: the connections are cut all the same.
        """
        try:
            await self._end_program()
        finally:
            for peer in self._peers:
                peer.close()

    async def _end_program(self) -> None:
        task = self._task
        if task is None:
            return
        if not task.done():
            task.cancel()
        for _ in range(_LAST_TURNS):
            if task.done():
                if not task.cancelled():
                    task.exception()  # which maybe nobody has looked at
                if inspect.iscoroutine(self._program):
                    self._program.close()  # of which maybe not a step was run
                break
            await asyncio.sleep(0)
