"""Rounds: the sides of a workload take turns, and each turn gives one sample of what it costs.

A sample is per operation: seconds of CPU time (user and system) of the measured process, seconds
of wall time, and for the idle connections bytes of memory. Of a side's samples the minimum is
what it costs, the median what it cost today.
"""

from __future__ import annotations

import dataclasses
import importlib.util
import statistics
from collections.abc import Callable, Iterator
from contextlib import ExitStack

from children import Child, start_load, start_worker
from sides import FAMILIES, NEEDS, STOCK_ONLY
from tls_servers import CERTIFICATE, certificate_file
from workloads import WARM_CONNECTIONS, Workload

Sample = dict[str, float]

# Whether a client and its peer share a core decides what an operation costs, by a factor of two,
# and the scheduler would choose one for some rounds and the other for the rest. Two that never run
# at the same time share one, so that a round trip has no waking of an idle core in it.
MEASURED_CORE = -1
LOAD_CORE = {"client": -1, "pour": 0}


class Side:
    """One side under measurement: its process, its load if it needs one, and its samples."""

    def __init__(self, workload: Workload, name: str, loop: str) -> None:
        self.workload = workload
        self.name = name
        self.loop = loop
        self.samples: list[Sample] = []
        self.worker: Child
        self.load: Child
        self.port: object  # of the server that is measured, or of the load

    def start(self, stack: ExitStack) -> None:
        """Start the processes, without waiting for them: those of all sides come up together."""
        workload = self.workload
        extra = {CERTIFICATE: certificate_file()} if workload.tls else {}
        worker = start_worker(workload.family, self.name, self.loop, workload.heap, extra)
        self.worker = stack.enter_context(worker)
        if workload.kind != "alone":
            self.load = stack.enter_context(start_load(self.name))

    def ready(self) -> None:
        """Wait for the processes, and open the connections of the load."""
        self.port = self.worker.hear().get("port")
        if self.workload.kind != "alone":
            port = self.load.hear()["port"]
            self.port = port if self.port is None else self.port
        if self.workload.kind in LOAD_CORE:
            self.worker.pin(MEASURED_CORE)
            self.load.pin(LOAD_CORE[self.workload.kind])
        if self.workload.kind == "server":
            self.connect(self.workload.connections)

    def connect(self, connections: int) -> None:
        request = {"do": "connect", "port": self.port, "connections": connections}
        size, tls = self.workload.size, self.workload.tls
        datagrams = self.workload.family == "datagrams"
        self.load.ask({**request, "size": size, "tls": tls, "datagrams": datagrams})

    def take_turn(self, operations: int) -> Sample:
        return KINDS[self.workload.kind](self, operations)


# How a round goes.


def drive_server(side: Side, operations: int) -> Sample:
    request = {"do": "drive", "requests": operations, "think": side.workload.think}
    return while_loaded(side, request)


def send_guests(side: Side, operations: int) -> Sample:
    return while_loaded(side, {"do": "come_and_go", "port": side.port, "connections": operations})


def while_loaded(side: Side, request: dict[str, object]) -> Sample:
    before = side.worker.ask({})
    load = side.load.ask(request)
    cpu = side.worker.ask({})["cpu"] - before["cpu"]
    return {"cpu": cpu / load["done"], "wall": load["wall"] / load["done"]}


def fill_with_idle(side: Side, operations: int) -> Sample:
    """Memory is given back late or never, so each round has a server of its own."""
    with ExitStack() as stack:
        fresh = Side(side.workload, side.name, side.loop)
        fresh.start(stack)
        fresh.ready()
        fresh.connect(WARM_CONNECTIONS)
        before = fresh.worker.ask({})
        fresh.connect(operations)
        after = fresh.worker.ask({})
    return {
        "memory": (after["memory"] - before["memory"]) / operations,
        "cpu": (after["cpu"] - before["cpu"]) / operations,
    }


def run_client(side: Side, operations: int) -> Sample:
    return beside(side, {"do": "echo"}, [operations, side.port], operations)


def pour_blocks(side: Side, operations: int) -> Sample:
    size = side.workload.size
    pour = {"do": "pour", "total": (operations + 1) * size}  # the first one is not timed
    return beside(side, pour, [operations, side.port, size], operations)


def beside(side: Side, load: object, work: object, operations: int) -> Sample:
    side.load.tell(load)
    sample = per_operation(side.worker.ask(work), operations)
    side.load.hear()
    return sample


def run_alone(side: Side, operations: int) -> Sample:
    return per_operation(side.worker.ask([operations]), operations)


def per_operation(spent: dict[str, object], operations: int) -> Sample:
    return {"cpu": spent["cpu"] / operations, "wall": spent["wall"] / operations}


KINDS: dict[str, Callable[[Side, int], Sample]] = {
    "server": drive_server,
    "guests": send_guests,
    "idle": fill_with_idle,
    "client": run_client,
    "pour": pour_blocks,
    "alone": run_alone,
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Result:
    """What one workload gave on one loop: the samples of each side, in the order of the rounds."""

    workload: Workload
    loop: str
    rounds: int
    operations: int
    samples: dict[str, list[Sample]]
    left_out: dict[str, str]  # the sides that could not run, and why

    def figures(self, side: str, figure: str | None = None) -> list[float]:
        """All samples of one figure, by default of the one that is compared; none if not taken."""
        key = figure or self.workload.figure
        return [sample[key] for sample in self.samples[side] if key in sample]

    def ratio(self, side: str, other: str) -> tuple[float, float]:
        """Of the minima, and the median of those of each round."""
        mine, theirs = self.figures(side), self.figures(other)
        each_round = [a / b for a, b in zip(mine, theirs, strict=True)]
        return min(mine) / min(theirs), statistics.median(each_round)


def measure(workload: Workload, loop: str, *, rounds: int, operations: int) -> Result:
    """All rounds of one workload. Whatever happens, no process is left."""
    names = workload.sides or tuple(FAMILIES[workload.family])
    left_out = dict(missing(names, loop))
    sides = [Side(workload, name, loop) for name in names if name not in left_out]
    with ExitStack() as stack:
        if workload.kind != "idle":
            for side in sides:
                side.start(stack)
            for side in sides:
                side.ready()
                side.take_turn(max(1, operations // 4))  # warm-up
        for number in range(rounds):
            # Nobody is always the one after the slowest.
            first = number % len(sides)
            for side in sides[first:] + sides[:first]:
                side.samples.append(side.take_turn(operations))
    return Result(
        workload=workload,
        loop=loop,
        rounds=rounds,
        operations=operations,
        samples={side.name: side.samples for side in sides},
        left_out={name: why for name, why in left_out.items() if why},
    )


def missing(names: tuple[str, ...], loop: str) -> Iterator[tuple[str, str]]:
    """The sides that do not run, and why; "" where there is nothing to be said about it."""
    for name in names:
        if loop != "stock" and name in STOCK_ONLY:
            yield name, ""
        elif name in NEEDS and importlib.util.find_spec(NEEDS[name]) is None:
            yield name, f"{NEEDS[name]} is not installed"
