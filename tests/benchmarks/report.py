"""The report: what was measured as a table and as JSON, with the machine it was measured on."""

from __future__ import annotations

import datetime
import importlib.metadata
import os
import platform
import statistics
from collections.abc import Iterable, Iterator
from pathlib import Path

from measure import Result
from sides import TEXTS, is_ours, ours
from targets import Verdict

LOOPS = {"stock": "the stock loop", "uvloop": "uvloop"}
PER = {"cpu": "CPU time", "wall": "wall time", "memory": "resident memory"}


def machine() -> dict[str, object]:
    """What a figure depends on besides the code."""
    release = platform.release().partition("-")[0]
    return {
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "python": platform.python_version(),
        **{name: version(name) for name in ("uvloop", "anyio", "trio")},
        "system": f"{platform.system()} {release} {platform.machine()}",
        "processor": processor(),
        "cores": os.cpu_count(),
    }


def version(distribution: str) -> str | None:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None


def processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor()


def heading() -> str:
    found = machine()
    versions = [f"{name} {found[name]}" for name in ("uvloop", "anyio", "trio") if found[name]]
    return (
        f"{found['date']}, Python {', '.join([str(found['python']), *versions])}\n"
        f"{found['processor']}, {found['cores']} cores, {found['system']}"
    )


def table(result: Result) -> str:
    """The sides of one workload, with what netio costs by what each of them costs."""
    workload = result.workload
    return "\n".join(
        [
            f"{workload.name}, {LOOPS[result.loop]}: {workload.what}; "
            f"{result.rounds} rounds of {result.operations:,}",
            *(rows_of_memory(result) if workload.figure == "memory" else rows_of_time(result)),
            *(f"  left out: {TEXTS[name]}: {why}" for name, why in result.left_out.items()),
        ]
    )


def rows_of_time(result: Result) -> Iterator[str]:
    yield header("CPU us", "median", "wall us", "median")
    for name in result.samples:
        cpu, wall = result.figures(name, "cpu"), result.figures(name, "wall")
        figures = (min(cpu), statistics.median(cpu), min(wall), statistics.median(wall))
        yield (
            f"  {TEXTS[name]:42}" + "".join(f"{f * 1e6:9.2f}" for f in figures) + held(result, name)
        )


def header(*columns: str) -> str:
    figures = "".join(f"{column:>9}" for column in columns)
    return f"  {'':42}{figures}{'netio is':>10}{'median':>8}"


def rows_of_memory(result: Result) -> Iterator[str]:
    yield header("KiB", "median", "", "")
    for name in result.samples:
        memory = result.figures(name)
        figures = (min(memory), statistics.median(memory))
        columns = "".join(f"{f / 1024:9.2f}" for f in figures)
        yield f"  {TEXTS[name]:42}{columns}{'':18}{held(result, name)}".rstrip()


def held(result: Result, name: str) -> str:
    """What netio costs by what this side costs: of the minima, and the median of the rounds."""
    if is_ours(name):
        return ""
    least, median = result.ratio(ours(name), name)
    return f"{least:9.2f}x{median:7.2f}x"


def verdict_table(found: Iterable[Verdict]) -> str:
    columns = f"{'ratio':>7}{'median':>8}{'gate':>7}{'aim':>7}"
    lines = [f"{'target':31}{'the figure of netio by that of':38}{columns}"]
    for verdict in found:
        target = verdict.target
        where = f"{target.workload}, {target.loop}"
        figures = f"{verdict.ratio:7.2f}{verdict.median:8.2f}{target.gate:7.2f}{target.aim:7.2f}"
        lines.append(f"{where:31}{TEXTS[target.against]:38}{figures}  {verdict.text}")
    return "\n".join(lines)


def as_json(results: Iterable[Result], found: Iterable[Verdict]) -> dict[str, object]:
    """Everything that was measured: seconds and bytes per operation, of each round."""
    return {
        "machine": machine(),
        "results": [
            {
                "workload": result.workload.name,
                "what": result.workload.what,
                "loop": result.loop,
                "compared": result.workload.figure,
                "rounds": result.rounds,
                "operations": result.operations,
                "sides": result.samples,
                "left_out": result.left_out,
            }
            for result in results
        ],
        "targets": [
            {
                "workload": verdict.target.workload,
                "loop": verdict.target.loop,
                "against": verdict.target.against,
                "gate": verdict.target.gate,
                "aim": verdict.target.aim,
                "ratio": verdict.ratio,
                "median": verdict.median,
                "verdict": verdict.text,
            }
            for verdict in found
        ],
    }
