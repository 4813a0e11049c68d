"""What a conformance check is made of: its promise, the streams it looks at, and what it may say.

A check is an async function of a `Pair`, named after the promise that it looks at, with the promise
as the first sentence of its docstring:

    @promise(law=30)
    async def a_limit_that_is_exceeded_discards_nothing(pair: Pair) -> None:
        \"""A record longer than the limit stays readable.\"""

It returns when the promise is kept, and raises `Broken` with what was seen when it is not. Any
other exception is what was seen, too. Whatever it awaits of the streams has a limit of its own, so
that a stream that merely forgets something makes it fail, and not hang.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import inspect
import random
from typing import TYPE_CHECKING, Any, Final, Self, TypeVar

from netio._errors import DeadlineExceeded, TruncatedStream
from netio._stream import Stream
from netio.testing._clock.loop import VirtualLoop

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Iterable

#: A limit for what must come, in seconds: on a slow machine it comes late.
PATIENCE: Final = 5.0

#: On a real clock nothing that is due is later than this, in seconds; on a virtual one, not at all.
LATE_SECONDS: Final = 2.0

#: More than a connection may hold under way to a peer that reads nothing, in bytes. Of the systems'
#: own, Linux holds most: 4 MiB that wait to be sent, and less than that on the other side.
UNDER_WAY_BYTES: Final = 32 << 20

#: So much that a write of it waits for the peer, whatever the connection holds.
ENDLESS: Final = bytes(UNDER_WAY_BYTES)

# How often the loop must turn until what was started has done all that needs no waiting.
_TURNS: Final = 10
_PAUSE_SECONDS: Final = 0.001

# Nothing more fits when nothing did for so long: Linux delays what makes room by 40 ms.
_QUIET_SECONDS: Final = 0.06

# A connection that takes less than this many pieces is full by then.
_CALLS_MAX: Final = 100_000

# Points in time are floats.
_ROUNDING_SECONDS: Final = 1e-6
_SHOWN_CHARACTERS: Final = 120

T = TypeVar("T")
E = TypeVar("E", bound=BaseException)


class Broken(Exception):
    """The promise is not kept; the text says what was seen."""


class Unsuitable(Exception):
    """The check does not apply here; the text says why."""


@dataclasses.dataclass(frozen=True, slots=True)
class Check:
    """One promise, and the function that looks whether it is kept.

    Attributes:
        name: what ``only=`` calls it.
        promise: the promise, in one sentence.
        law: its number in ``docs/laws.md``, or None.
        needs: what a transport must be able to do for it to apply, see `check_stream`.
    """

    name: str
    promise: str
    law: int | None
    needs: frozenset[str]
    look: Callable[[Any], Awaitable[None]] = dataclasses.field(repr=False)

    def __str__(self) -> str:
        return self.name


def promise(
    law: int | None = None, *, needs: Iterable[str] = ()
) -> Callable[[Callable[[Any], Awaitable[None]]], Check]:
    """Make a `Check` of a function."""

    def make(look: Callable[[Any], Awaitable[None]]) -> Check:
        text = (inspect.getdoc(look) or "").partition("\n\n")[0]
        return Check(look.__name__, " ".join(text.split()), law, frozenset(needs), look)

    return make


def checks_of(namespace: dict[str, object]) -> tuple[Check, ...]:
    """The checks that a module defines, in order; `namespace` is its ``globals()``."""
    return tuple(value for value in namespace.values() if isinstance(value, Check))


# Saying what was seen. ------------------------------------------------------------------------


def expect(condition: object, seen: str) -> None:
    """Break the promise, with what was `seen`, unless `condition` holds."""
    if not condition:
        raise Broken(seen)


def same(expected: bytes, got: bytes, what: str = "what came") -> None:
    """Break the promise unless both are the same bytes, with the first difference."""
    if got == expected:
        return
    if len(expected) <= _SHOWN_CHARACTERS // 4 >= len(got):
        raise Broken(f"{what} is {got!r}, not {expected!r}")
    at = next(
        (i for i, (a, b) in enumerate(zip(expected, got, strict=False)) if a != b),
        min(len(expected), len(got)),
    )
    raise Broken(f"{what}: {len(got)} bytes for {len(expected)}, which differ from byte {at} on")


def show(value: object) -> str:
    """`value` for a message, not too long."""
    if isinstance(value, BaseException):
        text = f"{type(value).__name__}: {value}" if str(value) else type(value).__name__
    else:
        text = repr(value)
    return text if len(text) <= _SHOWN_CHARACTERS else text[: _SHOWN_CHARACTERS - 3] + "..."


def noise(size: int, seed: int = 0) -> bytes:
    """`size` bytes without any pattern, the same for each `seed`."""
    return random.Random(seed).randbytes(size)


# Tasks, time and outcomes. --------------------------------------------------------------------


class Scene:
    """What every check has: tasks that end with it, a clock, and helpers to say what was seen.

    Attributes:
        short: a limit that is going to be reached, in seconds.
        observed: the outcomes of the check so far; two transports that keep the promise the same
            way have the same.
    """

    def __init__(self, short: float) -> None:
        self.short = short
        self.loop = asyncio.get_running_loop()
        # On a clock that stands still while code runs, what is due is never late.
        self.exact = isinstance(self.loop, VirtualLoop)
        self.observed: list[str] = []
        self._tasks: list[asyncio.Task[Any]] = []

    async def open(self) -> Self:
        """Make what is looked at."""
        return self

    def start(self, coroutine: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """Run it beside the check, and no longer than that."""
        # By its name it is told later: `get_coro` of an eager task that is done ends Python 3.12.
        task = self.loop.create_task(coroutine, name=_name_of(coroutine))
        self._tasks.append(task)
        return task

    async def settle(self) -> None:
        """Let the loop turn, until what was started waits for something."""
        for _ in range(_TURNS):
            await asyncio.sleep(0)

    async def begin(self, coroutine: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """`start` it, and let it come to where it waits; that it does is part of the promise."""
        name = _name_of(coroutine)
        task = self.start(coroutine)
        await self.settle()
        if task.done():
            raise Broken(f"{name} did not wait: {_told(task)}")
        return task

    async def ended(self, task: asyncio.Task[T]) -> None:
        """Wait until `task` has ended in whatever way."""
        await asyncio.wait({task}, timeout=PATIENCE)
        expect(task.done(), f"{_name_of(task)} still waits after {PATIENCE:g} s")

    async def gives(self, expected: object, work: Awaitable[object]) -> None:
        """`work` returns something equal to `expected`."""
        name = _name_of(work)
        value = await self._value(work)
        if isinstance(value, bytes) and isinstance(expected, bytes):
            same(expected, value, name)
        elif value != expected:
            raise Broken(f"{name} returned {show(value)}, not {show(expected)}")

    async def raises(
        self, kinds: type[E] | tuple[type[E], ...], work: Awaitable[object], what: str = ""
    ) -> E:
        """`work` raises one of `kinds`: the error."""
        name = what or _name_of(work)
        wanted = kinds if isinstance(kinds, tuple) else (kinds,)
        try:
            value = await self._value(work)
        except wanted as error:
            self.observe(error)
            return error
        except Broken:
            raise
        except Exception as error:
            raise Broken(f"{name} raised {show(error)}; not {_any_of(wanted)}") from error
        raise Broken(f"{name} returned {show(value)}, and did not raise {_any_of(wanted)}")

    async def _value(self, work: Awaitable[object]) -> object:
        name = _name_of(work)
        began = self.now()
        try:
            if isinstance(work, asyncio.Task):
                # A plain await could not tell the end of the task by a cancel from the check's own.
                await self.ended(work)
                if work.cancelled():
                    raise Broken(f"{name} was cancelled")
            return await work
        finally:
            self.promptly(began, name)

    def promptly(self, began: float, name: str) -> None:
        """What began at `began` was not ended by the limit that every wait of a check has."""
        elapsed = self.now() - began
        expect(elapsed < PATIENCE / 2, f"{name} was over after {elapsed:.3f} s only")

    async def is_cancelled(self, task: asyncio.Task[Any]) -> None:
        """`task`, which was cancelled from outside, ends that way."""
        await self.ended(task)
        expect(task.cancelled(), f"{_name_of(task)} was cancelled, and {_told(task)}")
        self.observed.append("cancelled")

    def observe(self, outcome: object) -> None:
        """Add it to what was observed, without what differs from run to run."""
        if isinstance(outcome, DeadlineExceeded):
            self.observed.append(f"DeadlineExceeded {outcome.limit} {outcome.operation}")
        elif isinstance(outcome, BaseException):
            self.observed.append(type(outcome).__name__)
        else:
            self.observed.append(show(outcome))

    def now(self) -> float:
        """The clock, in seconds."""
        return self.loop.time()

    def lasted(self, began: float, seconds: float, what: str = "it") -> None:
        """What began at `began` has lasted `seconds`: not less, and hardly more."""
        elapsed = self.now() - began
        if self.exact:
            near_enough = abs(elapsed - seconds) < _ROUNDING_SECONDS
        else:
            near_enough = -_ROUNDING_SECONDS < elapsed - seconds < LATE_SECONDS
        expect(near_enough, f"{what} lasted {elapsed:.6f} s, not {seconds:g} s")

    async def until(self, condition: Callable[[], bool], what: str) -> None:
        """Wait until `condition` holds, which is `what` must come to pass."""
        give_up_at = self.now() + PATIENCE
        turns = 0
        while not condition():
            expect(self.now() < give_up_at, f"{what} did not come to pass in {PATIENCE:g} s")
            turns += 1
            await asyncio.sleep(0 if turns < _TURNS else _PAUSE_SECONDS)

    async def end(self) -> None:
        """Cancel what still runs, and wait for it. May be repeated."""
        tasks, self._tasks = self._tasks, []
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=PATIENCE)
        for task in tasks:
            if task.done() and not task.cancelled():
                task.exception()  # which is retrieved by that, and not logged
        deaf = ", ".join(_name_of(task) for task in tasks if not task.done())
        expect(not deaf, f"{deaf} did not end when cancelled")


async def _awaited(work: Awaitable[T]) -> T:
    return await work


def _name_of(work: object) -> str:
    if isinstance(work, asyncio.Task):
        return work.get_name()
    return getattr(work, "__name__", type(work).__name__)


def _any_of(kinds: tuple[type[BaseException], ...]) -> str:
    return " or ".join(kind.__name__ for kind in kinds)


def _told(task: asyncio.Task[Any]) -> str:
    if task.cancelled():
        return "was cancelled"
    error = task.exception()
    return f"raised {show(error)}" if error is not None else f"returned {show(task.result())}"


class Ticker:
    """Counts how often the loop turns: `async with Ticker() as ticker`."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._ticks = 0

    @property
    def count(self) -> int:
        """Turns of the loop since the block began."""
        return self._turns() - self._began

    def _turns(self) -> int:
        return self._loop._steps if isinstance(self._loop, VirtualLoop) else self._ticks

    async def _tick(self) -> None:
        # On a virtual clock no time passes while anybody ticks; there the loop counts itself.
        while not isinstance(self._loop, VirtualLoop):
            await asyncio.sleep(0)
            self._ticks += 1

    async def __aenter__(self) -> Ticker:
        self._task = self._loop.create_task(self._tick())
        await asyncio.sleep(0)
        self._began = self._turns()
        return self

    async def __aexit__(self, *_: object) -> None:
        self._task.cancel()
        await asyncio.wait({self._task})


# A pair of streams. ---------------------------------------------------------------------------


class Pair(Scene):
    """Two connected streams, `near`, which is looked at, and `far`, its peer."""

    near: Stream
    far: Stream

    def __init__(self, short: float, make_pair: Callable[[], Any], *, flipped: bool) -> None:
        super().__init__(short)
        self._make_pair = make_pair
        self._flipped = flipped
        self._opened = contextlib.AsyncExitStack()

    async def open(self) -> Self:
        """Connect `near` and `far`, anew if they were; all are closed in the end."""
        making = self._make_pair()
        if hasattr(making, "__aenter__"):
            made = await self._opened.enter_async_context(making)
        elif inspect.isawaitable(making):
            made = await making
        else:
            raise TypeError(
                "make_pair must be an async function that returns two netio.Streams, or return an "
                f"async context manager of them, and not {show(making)}"
            )
        try:
            one, other = made
        except TypeError:
            one = other = None
        if not (isinstance(one, Stream) and isinstance(other, Stream)):
            raise TypeError(f"make_pair must give two netio.Streams, not {show(made)}")
        self.near, self.far = (other, one) if self._flipped else (one, other)
        for stream in (one, other):
            self._opened.callback(stream._channel.abort)  # should that of the stream fail
            self._opened.callback(stream.abort)
        return self

    async def end(self) -> None:
        """Cancel what still runs, and cut the connections."""
        try:
            await super().end()
        finally:
            await self._opened.aclose()

    async def another(self) -> Pair:
        """One more pair, which can be ended before this one, and ends with it."""
        pair = Pair(self.short, self._make_pair, flipped=self._flipped)
        self._opened.push_async_callback(pair.end)
        return await pair.open()

    async def each(self, look: Callable[[Pair, T], Awaitable[None]], items: Iterable[T]) -> None:
        """`look(pair, item)` for all items at once, so that their limits do not add up."""
        played: list[tuple[Pair, asyncio.Task[None]]] = []
        for item in items:
            pair = await self.another()
            played.append((pair, self.start(_awaited(look(pair, item)))))
        await asyncio.wait([task for _, task in played])
        for pair, task in played:
            await task
            self.observed += pair.observed

    async def send(self, data: bytes) -> None:
        """`far` writes `data`."""
        await self.far.write(data, timeout=PATIENCE)

    async def arrives(self, data: bytes) -> None:
        """`far` writes `data`, and a read of `near` that waits has taken it in."""
        before = self.near.statistics().bytes_received
        await self.send(data)
        await self.until(
            lambda: self.near.statistics().bytes_received >= before + len(data),
            f"that {len(data)} bytes reached the read that waits for more",
        )

    async def buffered(self, data: bytes) -> None:
        """`far` writes `data`, and `near` holds it unread."""
        await self.send(b"!" + data)
        await self.gives(b"!", self.near.read_exactly(1, timeout=PATIENCE))
        while self.near.buffered < len(data):  # it came in pieces
            wanted = len(data) + 1
            await self.raises(
                DeadlineExceeded, self.near.read_exactly(wanted, timeout=_PAUSE_SECONDS)
            )

    async def still_readable(self, data: bytes, what: str = "what is left") -> None:
        """The next bytes that `near` reads are `data`."""
        same(data, await self.near.read_exactly(len(data), timeout=PATIENCE), what)

    async def clog(self, stream: Stream) -> int:
        """Have the peer of `stream` read nothing, until not a byte more fits: how many were put in.

        They are all ``~``. It goes past `Stream.write`, which is never cut without a trace.
        """
        total = calls = 0
        filler = b"~" * 65536
        quiet_at = self.now() + _QUIET_SECONDS
        while self.now() < quiet_at:
            with contextlib.suppress(BlockingIOError):
                while sent := stream._channel.send(filler):
                    total += sent
                    calls += 1
                    quiet_at = self.now() + _QUIET_SECONDS
                    enough = total < UNDER_WAY_BYTES and calls < _CALLS_MAX
                    expect(enough, f"{total} bytes fit in, and none was read")
            await asyncio.sleep(_QUIET_SECONDS / 8)
        return total

    async def begin_endless_write(self, seconds: float = PATIENCE) -> asyncio.Task[None]:
        """A write of zeros on a new connection that waits for `far` to read, after its first bytes.

        `seconds` is its limit.
        """
        await self.open()
        return await self.begin(self.near.write(ENDLESS, timeout=seconds))

    async def take_endless(self, stream: Stream) -> None:
        """Read what `begin_endless_write` writes, at its other end."""
        taken = 0
        while taken < UNDER_WAY_BYTES:
            piece = await stream.read_some(UNDER_WAY_BYTES - taken, timeout=PATIENCE)
            expect(piece and ENDLESS.startswith(piece), "other bytes came than were written")
            taken += len(piece)

    async def unclog(self, stream: Stream, clogged: int) -> None:
        """Read what `clog` has put in, at its other end."""
        await self.gives(b"~" * clogged, stream.read_exactly(clogged, timeout=PATIENCE))

    async def rest_of(self, stream: Stream) -> bytes:
        """All that can still be read of one of the two, up to the end."""
        pieces = []
        began = self.now()
        try:
            while piece := await stream.read_some(timeout=PATIENCE):
                pieces.append(piece)
                began = self.now()
        except TruncatedStream:
            pass  # as over TLS, when the other side has cut a write and closed
        self.promptly(began, "the end")
        return b"".join(pieces)
