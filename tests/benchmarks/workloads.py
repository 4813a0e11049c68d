"""The workloads: what is done how often, and by which sides."""

from __future__ import annotations

import dataclasses
from typing import Literal

from heap import Heap

# Before the memory of a server is taken: what a process needs once is there afterwards.
WARM_CONNECTIONS = 200

# The sides that are held against netio with many connections.
FEW = ("netio", "protocol", "streams", "streams_timeout")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Workload:
    """One thing that is measured, on one loop or the other.

    Attributes:
        name: what the command line calls it.
        what: what is counted, in one line, for people.
        family: the table of sides, see `sides.FAMILIES`.
        kind: how a round goes, see `measure.KINDS`.
        operations: of each side in a round.
        quick: the same with ``--quick``; None leaves the workload out.
        rounds: how often the sides take turns.
        sides: which sides of the family take part; None: all.
        figure: what is compared: time of the processor, time of the clock, or memory.
        connections: held open by the load.
        think: seconds a connection waits between an answer and the next request.
        size: bytes of a message, or of a block.
        heap: the state of the heap of the measured processes, see `heap.py`.
        loops: where it is measured; a quick run takes uvloop only where a target names it.
    """

    name: str
    what: str
    family: str
    kind: Literal["server", "guests", "idle", "client", "pour", "alone"]
    operations: int
    quick: int | None
    rounds: int = 7
    sides: tuple[str, ...] | None = None
    figure: Literal["cpu", "wall", "memory"] = "cpu"
    connections: int = 0
    think: float = 0.0
    size: int = 64
    heap: Heap = "grown"
    loops: tuple[str, ...] = ("stock", "uvloop")

    @property
    def descriptors(self) -> int:
        """How many connections a process holds at once."""
        return WARM_CONNECTIONS + self.operations if self.kind == "idle" else self.connections

    @property
    def tls(self) -> bool:
        return self.family.startswith("tls")


def echo(connections: int, **kwargs) -> Workload:
    what = f"echo server, {connections:,} connections, a request of 64 bytes"
    values = {"name": f"echo-{connections}", "what": what, "family": "echo", "kind": "server"}
    return Workload(connections=connections, **{**values, **kwargs})


WORKLOADS = (
    Workload(
        name="ping-pong",
        what="client with one connection, a round trip of 64 bytes",
        family="ping-pong",
        kind="client",
        operations=3_000,
        quick=300,
        figure="wall",
    ),
    echo(50, operations=8_000, quick=1_000),
    echo(
        50,
        name="echo-50-fresh-heap",
        what="echo server, 50 connections, fresh heap, a request of 64 bytes",
        operations=8_000,
        quick=1_000,
        rounds=5,
        sides=FEW,
        heap="fresh",
        loops=("stock",),  # uvloop receives into memory that it keeps
    ),
    echo(1_000, operations=10_000, quick=2_000, rounds=5, sides=FEW),
    echo(8_000, operations=24_000, quick=None, rounds=5, sides=FEW),
    echo(
        50,
        name="echo-think",
        what="echo server, 50 connections that think for 2 ms, a request of 64 bytes",
        operations=6_000,
        quick=1_000,
        rounds=5,
        sides=FEW,
        think=0.002,
    ),
    *(
        Workload(
            name=f"udp-{clients}",
            what=f"UDP echo server, {clients} client{'s'[: clients > 1]}, a datagram of 64 bytes",
            family="datagrams",
            kind="server",
            operations=8_000,
            quick=1_000,
            rounds=5,
            connections=clients,
        )
        for clients in (1, 50)
    ),
    Workload(
        name="buffer",
        what="read_exactly(16) that finds its bytes buffered",
        family="buffered",
        kind="alone",
        operations=40_000,
        quick=8_000,
    ),
    Workload(
        name="lines",
        what="read_line() that finds its 32 bytes buffered",
        family="lines",
        kind="alone",
        operations=40_000,
        quick=8_000,
    ),
    Workload(
        name="blocks-64k",
        what="client that is poured into, a block of 64 KiB",
        family="blocks",
        kind="pour",
        operations=3_000,
        quick=500,
        size=64 * 1024,
    ),
    Workload(
        name="blocks-64k-fresh-heap",
        what="client that is poured into, fresh heap, a block of 64 KiB",
        family="blocks",
        kind="pour",
        operations=3_000,
        quick=500,
        size=64 * 1024,
        heap="fresh",
        loops=("stock",),
    ),
    Workload(
        name="blocks-1m",
        what="client that is poured into, a block of 1 MiB",
        family="blocks",
        kind="pour",
        operations=200,
        quick=30,
        size=1024 * 1024,
    ),
    Workload(
        name="connect",
        what="server, a connection that comes, ends and is closed",
        family="connect",
        kind="guests",
        operations=1_500,
        quick=200,
    ),
    Workload(
        name="idle",
        what="server, an idle connection that waits in a read",
        family="echo",
        kind="idle",
        operations=2_000,
        quick=500,
        rounds=3,
        sides=FEW,
        figure="memory",
    ),
    Workload(
        name="tls-echo",
        what="echo server over TLS, 50 connections, a request of 64 bytes",
        family="tls-echo",
        kind="server",
        operations=6_000,
        quick=800,
        connections=50,
    ),
    Workload(
        name="tls-echo-64k",
        what="echo server over TLS, 50 connections, a request of 64 KiB",
        family="tls-echo-64k",
        kind="server",
        operations=1_500,
        quick=300,
        connections=50,
        size=64 * 1024,
    ),
    Workload(
        name="tls-idle",
        what="server, an idle connection over TLS that waits in a read",
        family="tls-echo",
        kind="idle",
        operations=400,
        quick=100,
        rounds=3,
        sides=("netio", "streams"),
        figure="memory",
        loops=("stock",),
    ),
    Workload(
        name="scope",
        what="a limit around one suspension",
        family="scope",
        kind="alone",
        operations=30_000,
        quick=5_000,
    ),
)
