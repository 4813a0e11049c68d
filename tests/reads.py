"""Every kind of read, for tests of races: what it waits for, what comes, and what comes of that."""

import asyncio
import itertools
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass
from typing import Any

from schedules import FAR, NEXT, WAITS, Play, events_of

import netio
from netio._stream import Stream
from netio.testing._exploring.notation import orders, placements

EVENTS = events_of(
    a="the first cut of the rest of the data comes",
    b="the second one does",
    d="both come at once",
    n="both come at once, and the loop has yet to notice",
    e="the end comes",
    r="a reset comes",
    t="the limit of the call is reached",
)
DATA = "abdn"
ARRIVALS = DATA + "er"
LARGE = 20_000  # so much goes past the stream's buffer
BIG = bytes(range(256)) * 100

Outcome = tuple[str, Any]  # its kind, and the bytes returned or the kind of error


@dataclass(frozen=True)
class Read:
    """One kind of read."""

    name: str
    call: Callable[[Any, netio.Timeout], Coroutine[Any, Any, Any]]  # of what, for how long
    before: bytes  # comes first, and is not enough
    first: bytes  # comes as `a`
    second: bytes  # comes as `b`
    enough: Callable[[bytes], Any]  # what it makes of so many bytes; None: it waits on
    at_end: Callable[[bytes], Any]  # what it makes of them and the end
    in_callback: bool = True  # the reader callback takes the bytes, and not the task

    @property
    def cuts(self) -> dict[str, bytes]:
        whole = self.first + self.second
        return {"a": self.first, "b": self.second, "d": whole, "n": whole}


def _exactly(size: int) -> Callable[[bytes], Any]:
    return lambda came: came[:size] if len(came) >= size else None


def _up_to(separator: bytes) -> Callable[[bytes], Any]:
    def record(came: bytes) -> bytes | None:
        end = came.find(separator) + len(separator)
        return came[:end] if separator in came else None

    return record


def _incomplete(came: bytes) -> Any:
    return netio.IncompleteRead


async def _into(stream: Stream, size: int, timeout: netio.Timeout) -> bytes:
    target = bytearray(size)
    assert await stream.read_into(target, timeout=timeout) == size
    return bytes(target)


_SMALL = (b"abc", b"de", b"fghijkl", _exactly(8), _incomplete)
_BIG = (BIG[:1000], BIG[1000:9000], BIG[9000 : LARGE + 9], _exactly(LARGE), _incomplete)
_RECORD = (b"ab", b"\r", b"\ncd", _up_to(b"\r\n"), _incomplete)

STREAM_READS = [
    Read("read_exactly", lambda s, t: s.read_exactly(8, timeout=t), *_SMALL),
    Read("read_exactly large", lambda s, t: s.read_exactly(LARGE, timeout=t), *_BIG),
    Read("read_into", lambda s, t: _into(s, 8, t), *_SMALL),
    Read("read_into large", lambda s, t: _into(s, LARGE, t), *_BIG),
    Read("read_until", lambda s, t: s.read_until(b"\r\n", timeout=t), *_RECORD),
    Read(
        "read_line", lambda s, t: s.read_line(timeout=t), b"ab", b"c", b"d\ne", _up_to(b"\n"), bytes
    ),
    Read(
        "read_some",
        lambda s, t: s.read_some(4, timeout=t),
        b"",
        b"abc",
        b"def",
        lambda came: came[:4] or None,
        bytes,
    ),
    Read(
        "read_all",
        lambda s, t: s.read_all(limit=9, timeout=t),
        b"ab",
        b"c",
        b"de",
        lambda _: None,
        bytes,
    ),
    Read(
        "read_all over",
        lambda s, t: s.read_all(limit=4, timeout=t),
        b"ab",
        b"c",
        b"de",
        lambda came: netio.LimitExceeded if len(came) > 4 else None,
        bytes,
    ),
]

SOCKET_READS = [
    Read("read_bytes", lambda s, t: netio.read_bytes(s, 8, timeout=t), *_SMALL, in_callback=False),
    Read(
        "readuntil",
        lambda s, t: netio.readuntil(s, b"\r\n", timeout=t),
        *_RECORD,
        in_callback=False,
    ),
]


def possible(order: str) -> bool:
    """`b` is what follows `a`; nothing follows an end but a reset, and nothing a reset."""
    arrivals = [event for event in order if event in ARRIVALS]
    return arrivals == sorted(arrivals, key="abdner".index)


def schedules() -> Iterator[str]:
    """All that is played: about 3,200."""
    cuts = ("e", "r", "t", "s", "c")
    for data, size in itertools.product("dn", (1, 2)):
        for order in orders((data, *cuts), size, possible):
            yield from placements(order, FAR)
    for data in "dn":
        for order in orders((data, *cuts), 3, possible):
            yield from placements(order, NEXT)
    for size in (0, 1, 2):
        for others in itertools.combinations(cuts, size):
            for order in orders(("a", "b", *others), 2 + size, possible):
                yield from placements(order, NEXT)
    yield from orders(("d", *cuts), 4, possible)


def conclusions(read: Read, happened: str) -> list[tuple[int, Outcome]]:
    """Where in this order there is something to answer, and what, if the read looks just then."""
    found: list[tuple[int, Outcome]] = []
    came = read.before
    ended = False
    for place, event in enumerate(happened):
        if event not in ARRIVALS:
            continue
        came += read.cuts.get(event, b"")
        ended = ended or event == "e"
        enough = read.enough(came)
        if enough is not None:
            found.append((place, ("data", enough)))
        elif event == "r":
            found.append((place, ("lost", netio.ConnectionLost)))
        elif ended:
            found.append((place, ("end", read.at_end(came))))
    return found


def table(read: Read, happened: str, limit: str = "call") -> list[Outcome]:
    """Law 10: what may come of it, when all this has happened until the read was over."""
    if "c" in happened:
        return [("cancelled", asyncio.CancelledError)]
    found = conclusions(read, happened)
    came = [outcome for _, outcome in found]
    wakers = "ts" if read.in_callback else "tsabder"
    woken = next((place for place, event in enumerate(happened) if event in wakers), len(happened))
    first = found[0][0] if found else len(happened)
    if read.in_callback and first < woken and happened[first] != "n":
        return came[:1]  # the callback has seen it as it came
    if "s" not in happened:
        return came or [("limit", limit) if "t" in happened else ("waits", WAITS)]
    if first == woken and "t" not in happened:
        return came  # the scope has found the task about to get it
    if not came or (happened[woken] == "s" and "n" not in happened[:woken]):
        return [("scope", "scope")]
    return [*came, ("scope", "scope")]


def check(read: Read, play: Play, answer: Any, limit: str = "call") -> bytes:
    """Hold an answer against the table; the bytes that were returned."""
    wanted = table(read, play.happened, limit)
    looked_at = "n" * ("n" in play.happened) + play.happened.partition("t")[2]
    if limit == "idle" and "t" in play.happened and set(looked_at) & set(DATA):
        wanted.append(("waits", WAITS))  # renewed by a byte that came with it
    assert any(_fits(play, answer, *outcome) for outcome in wanted), (answer, wanted)
    cancelled = "c" in play.happened or WAITS in play.happened
    assert play.task.cancelled() == cancelled
    assert play.task.cancelling() == cancelled  # law 17
    if not cancelled and "s" not in play.happened:
        assert play.count_inside == 0  # law 11
    return answer if isinstance(answer, bytes) else b""


def _fits(play: Play, answer: Any, kind: str, what: Any) -> bool:
    if kind == "waits":
        return WAITS in play.happened
    if kind == "limit":
        return getattr(answer, "limit", None) == what
    if kind == "scope":
        return getattr(answer, "scope", None) is play.scope
    return answer == what if isinstance(what, bytes) else isinstance(answer, what)
