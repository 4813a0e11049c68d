"""What netio costs, beside what others cost, in one run: `python tests/benchmarks --help`.

Each side runs in a process of its own, loaded by another process over loopback. The sides take
turns, round by round, so that what else the machine does meets all of them. See
`docs/benchmarks.md`.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import platform
import resource
import signal
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from children import ChildFailed
from measure import Result, measure
from plot import plot
from report import as_json, heading, table, verdict_table
from targets import is_target, verdicts
from workloads import WORKLOADS, Workload

QUICK_ROUNDS = 2
SPARE_DESCRIPTORS = 50  # of a process, besides its connections


def main() -> int:
    args = arguments()
    if platform.system() != "Linux":
        print("the benchmarks need Linux: epoll, and /proc for the memory", file=sys.stderr)
        return 2
    # Stopped by a signal, the children are to be killed as on any other way out.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    begin = time.monotonic()
    print(heading())
    try:
        results = list(run(args))
    except ChildFailed as error:
        print(f"\nbenchmark failed: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    found = list(verdicts(results))
    rough = " (a quick run: rough figures)" if args.quick else ""
    if found:
        print(f"\n{verdict_table(found)}")
    print(f"\n{time.monotonic() - begin:.0f} s in all{rough}")
    if args.json:
        args.json.write_text(json.dumps(as_json(results, found), indent=1) + "\n")
    if args.plot:
        args.plot.write_text(plot(results, heading()))
    return 0


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="benchmarks", description=__doc__.splitlines()[0])
    names = [workload.name for workload in WORKLOADS]
    parser.add_argument("workloads", nargs="*", metavar="WORKLOAD", help=", ".join(names))
    parser.add_argument(
        "--loop",
        choices=["stock", "uvloop", "both"],
    )
    parser.add_argument("--quick", action="store_true", help="under half a minute, rough figures")
    parser.add_argument("--rounds", type=int, help="of each workload")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all samples there")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="write a picture (SVG) there")
    args = parser.parse_args()
    if unknown := set(args.workloads) - set(names):
        parser.error(f"no workload {', '.join(sorted(unknown))}; there are {', '.join(names)}")
    if args.rounds is not None and args.rounds < 1:
        parser.error("--rounds must be 1 or more")
    return args


def run(args: argparse.Namespace):
    """Each workload on each loop: yield its result, once its table is printed."""
    limit = raise_descriptor_limit()
    if args.loop != "stock" and importlib.util.find_spec("uvloop") is None:
        print("\nskipped: all of uvloop, which is not installed")
        args.loop = "stock"
    for workload in WORKLOADS:
        if args.workloads and workload.name not in args.workloads:
            continue
        if why := reason_to_skip(workload, quick=args.quick, limit=limit):
            print(f"\nskipped: {workload.name}: {why}")
            continue
        for loop in loops_of(workload, args):
            result = run_one(workload, loop, args)
            print(f"\n{table(result)}", flush=True)
            yield result


def loops_of(workload: Workload, args: argparse.Namespace) -> list[str]:
    """Where to measure it; a quick run that was not told takes uvloop only for a target."""
    chosen = workload.loops
    if args.loop is not None:
        return [loop for loop in chosen if args.loop in (loop, "both")]
    return [
        loop for loop in chosen if loop == "stock" or not args.quick or is_target(workload, loop)
    ]


def run_one(workload: Workload, loop: str, args: argparse.Namespace) -> Result:
    rounds = args.rounds or (min(QUICK_ROUNDS, workload.rounds) if args.quick else workload.rounds)
    operations = workload.quick if args.quick else workload.operations
    return measure(workload, loop, rounds=rounds, operations=operations)


def raise_descriptor_limit() -> int:
    """Ask for as many descriptors as the system allows, also for the children."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard


def reason_to_skip(workload: Workload, *, quick: bool, limit: int) -> str | None:
    needed = SPARE_DESCRIPTORS + workload.descriptors
    if quick and workload.quick is None:
        return "takes too long for --quick"
    if limit != resource.RLIM_INFINITY and needed > limit:
        return f"needs {needed:,} descriptors a process, the hard limit is {limit:,} (ulimit -Hn)"
    return None


if __name__ == "__main__":
    sys.exit(main())
