"""The measured process: one side, which it runs while it is asked, and nothing else.

    python worker.py FAMILY SIDE LOOP HEAP

A server prints its port, and then answers each line on stdin with the CPU time and the memory it
has used so far: a thread does so, which sleeps while the server is measured. Any other side is
run anew for each line, with the arguments in it, and takes its own time. All lines are JSON. The
process ends when stdin does.
"""

from __future__ import annotations

import asyncio
import inspect
import json
import os
import sys
import threading
import time

import heap
from sides import FAMILIES

SERVERS = {"echo", "connect", "datagrams", "tls-echo", "tls-echo-64k"}


def say(answer: dict[str, object]) -> None:
    print(json.dumps(answer), flush=True)


def resident_bytes() -> int:
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def answer_questions() -> None:
    for _ in sys.stdin:
        say({"cpu": time.process_time(), "memory": resident_bytes()})
    os._exit(0)  # the loop would run on


def started(port: int) -> None:
    say({"port": port})
    threading.Thread(target=answer_questions, daemon=True).start()


def run(name: str, loop: str, side, *args):
    """Call the side, in the loop that it needs."""
    if name == "trio":
        import trio

        return trio.run(side, *args)
    if not inspect.iscoroutinefunction(side):
        return side(*args)
    factory = None
    if loop == "uvloop":
        import uvloop

        factory = uvloop.new_event_loop
    with asyncio.Runner(loop_factory=factory) as runner:
        return runner.run(side(*args))


def main() -> None:
    family, name, loop, state = sys.argv[1:]
    heap.prepare(state)
    side = FAMILIES[family][name]
    if family in SERVERS:
        run(name, loop, side, started)
        return
    say({})
    for line in sys.stdin:
        arguments = json.loads(line)
        watch = run(name, loop, side, *arguments)
        say({"cpu": watch.cpu, "wall": watch.wall})


if __name__ == "__main__":
    main()
