"""What can go wrong on the way: faults for a `netio.testing.Network` or a `netio.testing.Proxy`.

Where Toxiproxy has the same fault, the name is Toxiproxy's. A fault is put somewhere with ``add``,
may be taken away again with ``remove``, and may be put on several networks and proxies; several
faults on one connection work in the order in which they were added, on what the link delivers.
Each has a count of how often it really fired, and `assert_fired` fails where that is nought: a
test that passes although its fault never happened shows nothing.

Times are seconds, sizes bytes. Chances come from the seed of the network or proxy, for each
connection and direction on their own, so that one seed is one history.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import ClassVar, TypedDict, Unpack

from netio._arguments import check_count
from netio._limits import check_seconds, is_number

__all__ = [
    "Bandwidth",
    "BlackHole",
    "Down",
    "Fault",
    "HalfOpen",
    "Latency",
    "LimitData",
    "Partition",
    "ResetPeer",
    "Slicer",
    "SlowClose",
    "Timeout",
    "assert_fired",
]

_DIRECTIONS = ("upstream", "downstream")
_USUAL = {"after_bytes": 0, "after_seconds": 0, "toxicity": 1}  # not worth saying; nor is None


class Where(TypedDict, total=False):
    """What most faults take besides their own parameters; see `Fault`."""

    direction: str | None
    after_bytes: int
    after_seconds: float
    toxicity: float


class Fault:
    """What all faults share: where, when and on how many connections one works.

    Attributes:
        direction: ``"upstream"`` (client to server), ``"downstream"``, or None for both.
        after_bytes: so many bytes pass untouched first, in that direction and on each connection.
        after_seconds: the fault works so many seconds after a connection was open, or after it was
            put there, if that was later. Both moments must have come.
        toxicity: the share of connections that it works on, from 0 to 1.
        fired: how often it really did something.
    """

    name: ClassVar[str]  # in events
    acts_on_connects: ClassVar[bool] = False
    is_of_link = False  # a property of a link, and not a fault that anybody put there

    def __init__(
        self,
        *,
        direction: str | None = None,
        after_bytes: int = 0,
        after_seconds: float = 0.0,
        toxicity: float = 1.0,
    ) -> None:
        if direction is not None and direction not in _DIRECTIONS:
            raise ValueError(f"direction must be one of {_DIRECTIONS} or None, not {direction!r}")
        self.direction = direction
        self.after_bytes = check_count(after_bytes, "after_bytes")
        self.after_seconds = finite(after_seconds, "after_seconds")
        self.toxicity = finite(toxicity, "toxicity", of="")
        if self.toxicity > 1:
            raise ValueError(f"toxicity must be from 0 to 1, not {toxicity}")
        self.fired = 0

    def __repr__(self) -> str:
        said = [
            f"{name}={value!r}"
            for name, value in vars(self).items()
            if name != "fired" and value != _USUAL.get(name)
        ]
        return f"{type(self).__name__}({', '.join(said)})"


class Latency(Fault):
    """Everything comes `latency` seconds later, give or take `jitter`; in order all the same."""

    name = "latency"
    acts_on_connects = True

    def __init__(self, latency: float, *, jitter: float = 0.0, **where: Unpack[Where]) -> None:
        """`latency` and `jitter`: seconds, the second no more than the first."""
        super().__init__(**where)
        self.latency = finite(latency, "latency")
        self.jitter = finite(jitter, "jitter")
        if self.jitter > self.latency:
            raise ValueError(f"jitter ({jitter}) must not be more than the latency ({latency})")


class Bandwidth(Fault):
    """No more than `rate` bytes a second come, piece by piece; the writer has to wait."""

    name = "bandwidth"
    acts_on_connects = True

    def __init__(self, rate: float, **where: Unpack[Where]) -> None:
        """`rate`: bytes a second, more than 0 (Toxiproxy's are KiB)."""
        super().__init__(**where)
        self.rate = finite(rate, "rate", of=" of bytes a second")
        if not self.rate:
            raise ValueError("rate must be more than 0 bytes a second; Timeout is what stops all")


class Slicer(Fault):
    """What was sent at once comes in pieces, down to a byte at a time.

    On a network, no read of the other side gets more than a piece at once. Through a proxy the
    kernel may join again what comes without a `delay`.
    """

    name = "slicer"

    def __init__(
        self,
        average_size: int = 1,
        *,
        size_variation: int = 0,
        delay: float = 0.0,
        sizes: Iterable[int] | None = None,
        **where: Unpack[Where],
    ) -> None:
        """Pieces of `average_size` bytes, give or take `size_variation`, `delay` seconds apart.

        `sizes`: the sizes of the first pieces, in order, for one certain cutting; what follows
        them is not cut. None: by the average.
        """
        super().__init__(**where)
        self.average_size = check_count(average_size, "average_size", at_least=1)
        self.size_variation = check_count(size_variation, "size_variation")
        if self.size_variation >= self.average_size:
            raise ValueError("size_variation must be less than average_size")
        self.delay = finite(delay, "delay")
        self.sizes: Sequence[int] | None = None
        if sizes is not None:
            if not isinstance(sizes, Iterable):
                raise TypeError(f"sizes must be several sizes in bytes, or None, not {sizes!r}")
            self.sizes = tuple(check_count(size, "sizes", at_least=1) for size in sizes)
            if not self.sizes:
                raise ValueError("sizes must not be empty")


class Timeout(Fault):
    """A stall: no more bytes come, nor the end; after `timeout` seconds the connection is closed.

    What was sent is held, up to the size of the link's buffer; then the writer has to wait. When
    the fault is taken away in time, everything goes on. A reset still comes.
    """

    name = "timeout"

    def __init__(self, timeout: float | None = None, **where: Unpack[Where]) -> None:
        """`timeout`: seconds until both ends see the end of the connection; None for never."""
        super().__init__(**where)
        self.timeout = None if timeout is None else finite(timeout, "timeout")


class SlowClose(Fault):
    """The end of the stream comes `delay` seconds after it was said."""

    name = "slow_close"

    def __init__(self, delay: float, **where: Unpack[Where]) -> None:
        """`delay`: seconds."""
        super().__init__(**where)
        self.delay = finite(delay, "delay")


class LimitData(Fault):
    """`limit_bytes` come, and then the connection is closed, in the middle of whatever it was."""

    name = "limit_data"

    def __init__(self, limit_bytes: int, **where: Unpack[Where]) -> None:
        """`limit_bytes`: how many come; 0 closes as soon as the connection is open."""
        super().__init__(**where)
        self.limit_bytes = check_count(limit_bytes, "limit_bytes")


class ResetPeer(Fault):
    """Both ends see a reset, at once or at the moment given; what is under way is lost."""

    name = "reset_peer"


class Down(Fault):
    """Nobody is there: connects are refused, and what is connected is closed."""

    name = "down"
    acts_on_connects = True

    def __init__(self, *, toxicity: float = 1.0) -> None:
        super().__init__(toxicity=toxicity)


class BlackHole(Fault):
    """Nothing comes, neither bytes nor an end nor a reset, and connects are never answered.

    What was sent is held, as by a sender that gets no answer and sends again; when the fault is
    taken away, it comes.
    """

    name = "black_hole"
    acts_on_connects = True


class Partition(Fault):
    """Nothing comes through between `one` and `other`, in both directions, until it is healed.

    For a `Network`, whose hosts they are: a name, an address, or several. Take it away with
    ``network.remove`` to heal it: what was sent meanwhile then comes.
    """

    name = "partition"
    acts_on_connects = True

    def __init__(self, one: str | Iterable[str], other: str | Iterable[str]) -> None:
        super().__init__()
        self.one = _hosts(one, "one")
        self.other = _hosts(other, "other")


class HalfOpen(Fault):
    """One side is gone without a word, as a machine that lost its power: the other is half open.

    What is sent to it vanishes, and it says nothing more. `back_after` seconds later it is back,
    and knows of no connection: whatever is sent to it then is answered by a reset.
    """

    name = "half_open"

    def __init__(
        self,
        gone: str = "server",
        *,
        back_after: float | None = None,
        after_bytes: int = 0,
        after_seconds: float = 0.0,
        toxicity: float = 1.0,
    ) -> None:
        """`gone`: ``"server"`` or ``"client"``. `back_after`: seconds; None: it stays away."""
        super().__init__(after_bytes=after_bytes, after_seconds=after_seconds, toxicity=toxicity)
        if gone not in ("server", "client"):
            raise ValueError(f"gone must be 'server' or 'client', not {gone!r}")
        self.gone = gone
        self.back_after = None if back_after is None else finite(back_after, "back_after")


def assert_fired(*faults: Fault) -> None:
    """Fail unless each of `faults` has fired, at least once and on whatever it was put.

    Raises:
        AssertionError: naming those that have not.
        ValueError: without any fault, which would show nothing.
    """
    if not faults:
        raise ValueError("assert_fired needs at least one fault")
    for fault in faults:
        if not isinstance(fault, Fault):
            raise TypeError(f"not a fault: {fault!r}")
    idle = [repr(fault) for fault in faults if not fault.fired]
    if idle:
        raise AssertionError(f"{len(idle)} of {len(faults)} never fired: {', '.join(idle)}")


def finite(value: float, name: str, *, of: str = " of seconds") -> float:
    """A number that is finite and not negative, by its name in the error, and what it counts."""
    if not is_number(value):
        raise TypeError(f"{name} must be a number{of}, not {type(value).__name__}")
    number = check_seconds(value, name)
    if not 0 <= number < math.inf:
        raise ValueError(f"{name} must be finite, and 0 or more, not {value}")
    return number


def _hosts(hosts: str | Iterable[str], name: str) -> tuple[str, ...]:
    several = (hosts,) if isinstance(hosts, str) or not isinstance(hosts, Iterable) else (*hosts,)
    for host in several:
        if not isinstance(host, str):
            raise TypeError(f"{name} must be the name or address of a host, or several: {host!r}")
    if not several or not all(several):
        raise ValueError(f"{name} must be the name or address of a host, or several")
    return several
