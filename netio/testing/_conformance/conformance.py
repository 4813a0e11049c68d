"""Conformance: whether a transport keeps what every netio stream promises, check by check.

    report = await check_stream(make_pair)

The checks are in the other files here; each is played on connections of its own, both ways.
"""

from __future__ import annotations

import dataclasses
import difflib
import functools
from collections.abc import Collection
from typing import TYPE_CHECKING, Final

from netio._arguments import check_callable
from netio._limits import check_seconds
from netio._stream import Stream
from netio.testing._conformance.accepting import ACCEPTING, Counter
from netio.testing._conformance.checking import Check, Pair
from netio.testing._conformance.cutting import CUTTING
from netio.testing._conformance.datagrams import DATAGRAMS, Exchange
from netio.testing._conformance.ending import ENDING
from netio.testing._conformance.keeping import KEEPING
from netio.testing._conformance.limits import LIMITS
from netio.testing._conformance.listening import LISTENING, Service
from netio.testing._conformance.nettest import NETTEST
from netio.testing._conformance.playing import HANGS, played, result_of
from netio.testing._conformance.reading import READING
from netio.testing._conformance.report import CheckResult, ConformanceReport, NotConforming, Verdict
from netio.testing._conformance.writing import WRITING

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence
    from contextlib import AbstractAsyncContextManager

    from netio.testing._conformance.accepting import ConnectTo, Listen
    from netio.testing._conformance.datagrams import MakeSockets
    from netio.testing._conformance.listening import Connect, Serve
    from netio.testing._conformance.playing import MakeScene

    MakePair = Callable[
        [], Awaitable[tuple[Stream, Stream]] | AbstractAsyncContextManager[tuple[Stream, Stream]]
    ]
    Only = str | Check | Collection[str | Check]

#: What a transport may be unable to do, and what that means for those who use it.
CAPABILITIES: Final = {
    "half_close": "`write_eof` ends one direction, and the other goes on",
    "clean_cut": "a write that finds no room has sent nothing, and leaves the stream usable",
    "reset": "`abort` is told from a regular end by the peer",
}

#: How long one check may take, in real seconds.
CHECK_SECONDS: Final = 30.0

# Once a check has hung others will, and each costs its time: from then on, this part of it.
_HANGING_FRACTION: Final = 0.1

_STREAM_CHECKS: Final = (
    *NETTEST,
    *READING,
    *WRITING,
    *LIMITS,
    *CUTTING,
    *ENDING,
    *KEEPING,
)


def stream_checks() -> tuple[Check, ...]:
    """The checks that `check_stream` makes, in order, to be named in its `only`."""
    return _STREAM_CHECKS


async def check_stream(
    make_pair: MakePair,
    *,
    lacks: Collection[str] = (),
    only: Only | None = None,
    both_ways: bool = True,
    check_timeout: float = CHECK_SECONDS,
) -> ConformanceReport:
    """Look whether the streams of `make_pair` keep what every netio stream promises.

    Works on every loop, with real and with virtual time; on a virtual clock limits must be exact.
    Each check is made on new connections. What is sent must arrive within five milliseconds or so.

    `make_pair`: an async function without arguments that returns two connected `Stream`s, or an
    async context manager of them. They are aborted after each check.
    `lacks`: what the transport is unable to do, ``"half_close"``, ``"reset"`` or ``"clean_cut"``:
    promises about that are not applicable. `only`: a check, or its name or promise, or several;
    None for all. `both_ways`: look at each of the two ends, and not only at the first.
    `check_timeout`: real seconds after which a check is said to hang; one that blocks the loop
    can't be ended.

    Returns: the report, in which nothing is broken. What is not applicable is listed there.

    Raises:
        NotConforming: promises are broken.
        TypeError, ValueError: for wrong arguments, and for what `make_pair` gives.
        Exception: whatever `make_pair` raises.

    Cancellation: what the checks have opened is closed; nothing is kept.
    """
    if not _are_capabilities(lacks):
        known = ", ".join(sorted(CAPABILITIES))
        raise ValueError(f"lacks must be a collection of: {known}; not {lacks!r}")
    if not callable(make_pair):
        raise TypeError(
            f"make_pair must be an async function that returns two netio.Streams, not {make_pair!r}"
        )
    ends: list[MakeScene] = [functools.partial(Pair, make_pair=make_pair, flipped=False)]
    if both_ways:
        ends.append(functools.partial(Pair, make_pair=make_pair, flipped=True))
    return await _all_played(_chosen(_STREAM_CHECKS, only), ends, lacks, check_timeout)


def _are_capabilities(names: object) -> bool:
    if isinstance(names, str) or not isinstance(names, Collection):
        return False
    return all(name in CAPABILITIES for name in names)


def listener_checks() -> tuple[Check, ...]:
    """The checks that `check_listener` makes, in order, to be named in its `only`."""
    return LISTENING


async def check_listener(
    serve: Serve,
    connect: Connect,
    *,
    only: Only | None = None,
    check_timeout: float = CHECK_SECONDS,
) -> ConformanceReport:
    """Look whether serving and connecting keep what netio's promise, over any network.

    What is carried then, `check_stream` looks at: give it `accepted_pairs(serve, connect)`.

    `serve`: a function that is called as ``serve(handler, **options)``, with options of `serve_tcp`
    such as `grace`, and returns what that does, at an address of its choice.
    `connect`: one that is called as ``connect(server, **options)``, with options of `connect_tcp`
    such as `timeout`, and returns what that does, connecting to `server`.
    `only`: a check, or its name or promise, or several; None for all. `check_timeout`: real seconds
    after which a check is said to hang; one that blocks the loop can't be ended.

    Returns: the report, in which nothing is broken. What is not applicable is listed there.

    Raises:
        NotConforming: promises are broken.
        TypeError, ValueError: for wrong arguments.

    Cancellation: what the checks have opened is closed; nothing is kept.
    """
    check_callable(serve, "serve")
    check_callable(connect, "connect")
    scenes = [functools.partial(Service, serve=serve, connect=connect)]
    return await _all_played(_chosen(LISTENING, only), scenes, (), check_timeout)


def accepting_checks() -> tuple[Check, ...]:
    """The checks that `check_accepting` makes, in order, to be named in its `only`."""
    return ACCEPTING


async def check_accepting(
    listen: Listen,
    connect: ConnectTo,
    *,
    only: Only | None = None,
    check_timeout: float = CHECK_SECONDS,
) -> ConformanceReport:
    """Look whether a `netio.Listener` keeps what netio's promise, over any network.

    `listen`: a function that is called as ``listen(**options)``, with options of `listen_tcp` such
    as `timeouts`, and returns what that does, at an address of its choice.
    `connect`: one that is called as ``connect(listener, **options)``, with options of `connect_tcp`
    such as `timeout`, and returns what that does, connecting to `listener`.
    `only`: a check, or its name or promise, or several; None for all. `check_timeout`: real seconds
    after which a check is said to hang; one that blocks the loop can't be ended.

    Returns: the report, in which nothing is broken.

    Raises:
        NotConforming: promises are broken.
        TypeError, ValueError: for wrong arguments.

    Cancellation: what the checks have opened is closed; nothing is kept.
    """
    check_callable(listen, "listen")
    check_callable(connect, "connect")
    scenes = [functools.partial(Counter, listen=listen, connect=connect)]
    return await _all_played(_chosen(ACCEPTING, only), scenes, (), check_timeout)


def datagram_checks() -> tuple[Check, ...]:
    """The checks that `check_datagrams` makes, in order, to be named in its `only`."""
    return DATAGRAMS


async def check_datagrams(
    make_sockets: MakeSockets,
    *,
    only: Only | None = None,
    check_timeout: float = CHECK_SECONDS,
) -> ConformanceReport:
    """Look whether the datagram sockets of `make_sockets` keep what netio's promise.

    `make_sockets`: an async function without arguments that returns two `netio.DatagramSocket`s, or
    an async context manager of them: the first is connected to the second, which is not connected,
    and can answer it. Both are closed after each check.
    `only`: a check, or its name or promise, or several; None for all. `check_timeout`: real seconds
    after which a check is said to hang; one that blocks the loop can't be ended.

    Returns: the report, in which nothing is broken. What is not applicable is listed there.

    Raises:
        NotConforming: promises are broken.
        TypeError, ValueError: for wrong arguments, and for what `make_sockets` gives.
        Exception: whatever `make_sockets` raises.

    Cancellation: what the checks have opened is closed; nothing is kept.
    """
    check_callable(make_sockets, "make_sockets")
    scenes = [functools.partial(Exchange, make_sockets=make_sockets)]
    return await _all_played(_chosen(DATAGRAMS, only), scenes, (), check_timeout)


def accepted_pairs(serve: Serve, connect: Connect) -> MakePair:
    """A ``make_pair`` for `check_stream`: a client's stream, and that of the handler it reached.

    `serve` and `connect` are as for `check_listener`. Each pair has a server of its own.
    """
    check_callable(serve, "serve")
    check_callable(connect, "connect")
    return lambda: Service(0, serve, connect).connected()


async def _all_played(
    checks: list[Check],
    ends: Sequence[MakeScene],
    lacks: Collection[str],
    check_timeout: float,
) -> ConformanceReport:
    seconds = patience = check_seconds(check_timeout, "check_timeout")
    if patience <= 0:
        raise ValueError(f"check_timeout must be more than 0 seconds, not {check_timeout}")
    results = []
    for check in checks:
        result = await _played_from(ends, check, lacks, seconds)
        if result.seen.startswith(HANGS):
            seconds = patience * _HANGING_FRACTION
        results.append(result)
    report = ConformanceReport(results=tuple(results))
    if report.broken:
        raise NotConforming(f"not conforming: {report}", report=report)
    return report


async def _played_from(
    ends: Sequence[MakeScene], check: Check, lacks: Collection[str], seconds: float
) -> CheckResult:
    """From one end after the other, until the promise is broken."""
    missing = sorted(check.needs.intersection(lacks))
    if missing:
        why = "; ".join(f"it lacks {name}: {CAPABILITIES[name]}" for name in missing)
        return result_of(check, Verdict.NOT_APPLICABLE, why)
    result = await played(check, ends[0], seconds)
    for end in ends[1:]:
        if result.verdict is Verdict.KEPT:
            result = await played(check, end, seconds)
            if result.verdict is Verdict.BROKEN:
                seen = f"{result.seen} (seen from the second end)"
                result = dataclasses.replace(result, seen=seen)
    return result


def _chosen(checks: tuple[Check, ...], only: Only | None) -> list[Check]:
    if only is None:
        return list(checks)
    if not isinstance(only, (str, Check, Collection)):
        raise TypeError(f"only must be a check, its name, or several, not {type(only).__name__}")
    if not only:
        raise ValueError("only must not be empty; None is for all checks")
    names = [only] if isinstance(only, (str, Check)) else list(only)
    by_name = {key: check for check in checks for key in (check.name, check.promise)}
    chosen = []
    for name in map(str, names):
        if name not in by_name:
            near = difflib.get_close_matches(name, by_name, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise ValueError(f"only: there is no check {name!r}{hint}")
        chosen.append(by_name[name])
    return chosen
