"""Playing one conformance check, bounded from outside, since what it looks at may be broken.

A stream that is broken in any way, its limits included, must not make the kit hang. So a check has
a timer of the loop; and where the loop's clock is virtual, and does not move while callbacks make
each other ready, a thread that counts real seconds and the turns of the loop. A check that is not
over by then is cancelled, what it opened is cut, and if that does not end it, it is left behind.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from typing import TYPE_CHECKING, Any, Final

from netio.testing._clock.loop import VirtualLoop
from netio.testing._conformance.checking import Broken, Check, Scene, Unsuitable, show
from netio.testing._conformance.report import CheckResult, Verdict

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Contexts = list[dict[str, Any]]
    MakeScene = Callable[[float], Scene]

#: How what was seen of a check begins that was not over in time.
HANGS: Final = "hangs"

# A limit that is going to be reached, in seconds; and longer ones, for a machine that is busy.
_SHORT_SECONDS: Final = (0.02, 0.1, 0.5)

# How often it is seen whether the loop comes late, in seconds.
_LATENESS_STEP_SECONDS: Final = 0.005

# How long a check may take on a virtual clock, where that costs nothing, in its seconds.
_VIRTUAL_SECONDS: Final = 600.0

# A virtual clock that has stood still for so many turns of its loop is not going to move again.
_TURNS_STANDING: Final = 50_000

# How often that is looked at, in real seconds.
_WATCH_SECONDS: Final = 0.02

# How long what was cancelled may take to end, before it is left behind.
_CANCELLED_SECONDS: Final = 2.0


def result_of(
    check: Check, verdict: Verdict, seen: str = "", observed: tuple[str, ...] = ()
) -> CheckResult:
    """What has come of `check`."""
    return CheckResult(
        name=check.name,
        promise=check.promise,
        law=check.law,
        verdict=verdict,
        seen=seen,
        observed=observed,
    )


async def played(check: Check, make_scene: MakeScene, seconds: float) -> CheckResult:
    """Make `check` on what `make_scene` gives, in so many real seconds.

    On a real clock a machine that is busy with other things can be too slow for the limits of a
    check. So a promise that is broken while the loop came late is looked at again, with longer
    limits.

    Raises what opening the scene raises, which is none of the promises.
    """
    for short in _SHORT_SECONDS:
        with _Lateness() as lateness:
            result = await _played_once(check, make_scene(short), seconds)
        hangs = result.seen.startswith(HANGS)
        if result.verdict is not Verdict.BROKEN or hangs or lateness.longest < short / 4:
            break
    return result


async def _played_once(check: Check, scene: Scene, seconds: float) -> CheckResult:
    with _callback_failures() as failures:
        task = scene.loop.create_task(_look(check, scene))
        try:
            if not await _over(task, seconds):
                return result_of(check, Verdict.BROKEN, await _ended_by_force(task, scene, seconds))
        except asyncio.CancelledError:
            await _ended_by_force(task, scene, seconds)
            raise
    verdict, seen = task.result()
    if failures and verdict is Verdict.KEPT:
        verdict, seen = Verdict.BROKEN, f"the loop reported {_reported(failures[0])}"
    return result_of(check, verdict, seen, tuple(scene.observed))


class _Lateness:
    """How late timers of the loop ring, in seconds, within a block: never, on a virtual clock."""

    def __init__(self) -> None:
        self.longest = 0.0
        self._loop = asyncio.get_running_loop()

    def __enter__(self) -> _Lateness:
        if not isinstance(self._loop, VirtualLoop):
            self._set()
        return self

    def _set(self) -> None:
        due = self._loop.time() + _LATENESS_STEP_SECONDS
        self._timer = self._loop.call_at(due, self._ring, due)

    def _ring(self, due: float) -> None:
        self.longest = max(self.longest, self._loop.time() - due)
        self._set()

    def __exit__(self, *_: object) -> None:
        if not isinstance(self._loop, VirtualLoop):
            self._timer.cancel()


async def _opened(scene: Scene, check: Check) -> None:
    try:
        await scene.open()
    except BaseException as error:
        error.add_note(f"raised by what the conformance kit was given, for {check.name}")
        await scene.end()
        raise


async def _look(check: Check, scene: Scene) -> tuple[Verdict, str]:
    verdict, seen = Verdict.KEPT, ""
    await _opened(scene, check)
    try:
        await check.look(scene)
    except asyncio.CancelledError:
        await scene.end()
        raise
    except Unsuitable as why:
        verdict, seen = Verdict.NOT_APPLICABLE, str(why)
    except Broken as broken:
        verdict, seen = Verdict.BROKEN, str(broken)
    except Exception as error:
        verdict, seen = Verdict.BROKEN, f"raised {show(error)}"
    try:
        await scene.end()
    except Exception as error:
        if verdict is Verdict.KEPT:
            verdict, seen = Verdict.BROKEN, f"cutting the connection raised {show(error)}"
    return verdict, seen


async def _ended_by_force(task: asyncio.Task[Any], scene: Scene, seconds: float) -> str:
    """End a check that hangs: what is to be said of it."""
    hangs = f"{HANGS}: it did not end in {seconds:g} s"
    if isinstance(scene.loop, VirtualLoop):
        hangs += f", nor in {_VIRTUAL_SECONDS:g} s of the virtual clock, if that went on"
    task.cancel()
    if await _over(task, _CANCELLED_SECONDS):
        return hangs
    ending = scene.loop.create_task(scene.end())
    if not await _over(ending, _CANCELLED_SECONDS):
        ending.cancel()
        await _over(ending, _CANCELLED_SECONDS)
    return f"{hangs}; it was cancelled, and goes on"


async def _over(task: asyncio.Task[Any], seconds: float) -> bool:
    """Whether `task` ends within so many real seconds, and before a virtual clock runs away."""
    loop = asyncio.get_running_loop()
    up = loop.create_future()

    def time_is_up() -> None:
        if not up.done():
            up.set_result(None)

    is_virtual = isinstance(loop, VirtualLoop)
    timer = loop.call_later(_VIRTUAL_SECONDS if is_virtual else seconds, time_is_up)
    watch = threading.Event()
    if isinstance(loop, VirtualLoop):
        args = (loop, watch, seconds, time_is_up)
        threading.Thread(target=_watch, args=args, daemon=True).start()
    try:
        await asyncio.wait({task, up}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        up.cancel()
        timer.cancel()
        watch.set()
    return task.done()


def _watch(
    loop: VirtualLoop, over: threading.Event, seconds: float, ring: Callable[[], None]
) -> None:
    """In a thread: `ring` on the loop when too much real time, or too many turns, have gone by.

    No timer does that: a virtual clock stands still while callbacks make each other ready.
    """
    give_up_at = time.monotonic() + seconds
    while not over.wait(_WATCH_SECONDS):
        if time.monotonic() > give_up_at or loop._steps - loop._stands_since > _TURNS_STANDING:
            with contextlib.suppress(RuntimeError):  # the loop is closed
                loop.call_soon_threadsafe(ring)
            return


@contextlib.contextmanager
def _callback_failures() -> Iterator[Contexts]:
    """What callbacks of the loop raise meanwhile, which nobody else would hear of."""
    loop = asyncio.get_running_loop()
    before = loop.get_exception_handler()
    failures: Contexts = []

    def handle(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        if "exception" in context and not context.keys() & {"task", "future"}:
            failures.append(context)
        elif before is not None:
            before(loop, context)
        else:
            loop.default_exception_handler(context)

    loop.set_exception_handler(handle)
    try:
        yield failures
    finally:
        loop.set_exception_handler(before)


def _reported(context: dict[str, Any]) -> str:
    return f"{context.get('message', 'an error')}: {show(context['exception'])}"
