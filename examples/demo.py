"""netio in a few seconds: an echo server in a process of its own, and what limits do to a client.

Each step shows what happens and checks it. The exit status is 0 only if every check held.

PYTHONPATH=. python examples/demo.py      (or: make demo)
"""

import asyncio
import contextlib
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Awaitable, Iterator
from pathlib import Path

import echo_client

import netio

HOST = "127.0.0.1"
STEP_SECONDS = 5  # asyncio's own limit around each step, should netio's fail to fire
SERVER_SECONDS = 10  # for the server's start, and for its end


class Report:
    """What is printed, and how many checks failed."""

    def __init__(self) -> None:
        self.steps = 0
        self.held = 0
        self.failed = 0

    def step(self, title: str) -> None:
        self.steps += 1
        print(f"\n{self.steps}. {title}", flush=True)

    def say(self, text: object) -> None:
        print(f"   {text}", flush=True)

    def check(self, claim: str, holds: bool, *, got: object) -> None:
        if holds:
            self.held += 1
            self.say(f"ok      {claim}")
        else:
            self.failed += 1
            self.say(f"FAILED  expected: {claim}; got: {got!r}")


async def outcome(work: Awaitable[object]) -> object:
    """What `work` returns, or the error it raises."""
    try:
        return await work
    except Exception as error:
        return error


def about(seconds: float, wanted: float) -> bool:
    """On a busy machine things take longer; timers of some loops are half a millisecond early."""
    return wanted - 0.002 <= seconds < wanted + 2


async def round_trip(report: Report, stream: netio.Stream) -> None:
    report.say("> hello")
    answer = await echo_client.echo(stream, "hello", timeout=2)
    report.say(f"< {answer}")
    report.check("the server sends back 'hello'", answer == "hello", got=answer)


async def own_timeout(report: Report, stream: netio.Stream) -> None:
    report.say("> hello, and then nothing")
    await stream.write(b"hello\n")
    error = await outcome(stream.read_exactly(16, timeout=0.5))
    report.say(f"{type(error).__name__}: {error}")
    if not isinstance(error, netio.DeadlineExceeded):
        report.check("the read raises DeadlineExceeded", False, got=error)
        return
    for name, value in vars(error).items():
        report.say(f"  .{name:<10} {value!r}")
    report.check("it is a TimeoutError", isinstance(error, TimeoutError), got=type(error))
    report.check("the limit that fired is the call's", error.limit == "call", got=error.limit)
    report.check(
        "operation, seconds and peer are right",
        (error.operation, error.seconds, error.peer) == ("read_exactly(16)", 0.5, stream.peer),
        got=(error.operation, error.seconds, error.peer),
    )
    report.check("it took 0.5 s", about(error.elapsed, 0.5), got=error.elapsed)
    progress = error.done, error.expected
    report.check("6 of 16 bytes were there", progress == (6, 16), got=progress)
    line = await outcome(stream.read_line(timeout=1))
    report.check("these 6 are still readable", line == b"hello\n", got=line)


async def connection_deadline(report: Report, stream: netio.Stream) -> None:
    async def send_slowly() -> None:
        for number in (1, 2, 3):
            await asyncio.sleep(0.4)
            await stream.write(b"line %d\n" % number)

    async with asyncio.TaskGroup() as group:
        group.create_task(send_slowly())
        report.say("a line comes every 0.4 s, and each read may take 0.8 s")
        stream.deadline = netio.Deadline.after(1)
        results = [await outcome(stream.read_line(timeout=0.8)) for _ in range(3)]
        for result in results:
            report.say(result)
        in_time = results[:2] == [b"line 1\n", b"line 2\n"]
        report.check("the first two reads are in time", in_time, got=results[:2])
        error = results[2]
        limit = getattr(error, "limit", None)
        report.check("the deadline cuts the third one", limit == "deadline", got=error)
        elapsed = getattr(error, "elapsed", None)
        own_left = elapsed is not None and elapsed < 0.8
        report.check("which had not used up its own 0.8 s", own_left, got=elapsed)
        stream.deadline = None
        line = await outcome(stream.read_line(timeout=2))
        report.check("once it is lifted, the stream goes on", line == b"line 3\n", got=line)


async def nested_limits(report: Report, stream: netio.Stream) -> None:
    report.say("the whole request may take 0.4 s, one try 3 s, the read in it 2 s")
    answered = "nobody"
    error: object = None
    inner = netio.timeout(3, name="one try")
    outer = netio.timeout(0.4, name="whole request")
    try:
        async with outer:
            try:
                async with inner:
                    await stream.read_line(timeout=2)
            except TimeoutError:
                answered = "inner"  # a retry here would outlive the whole request
    except TimeoutError as raised:
        answered, error = "outer", raised
    report.say(f"{type(error).__name__}: {error}")
    report.check("the inner `except TimeoutError` is passed by", answered == "outer", got=answered)
    scope = getattr(error, "scope", None)
    report.check("the error names 'whole request'", scope is outer, got=scope)
    flags = outer.expired(), inner.expired()
    report.check("only the outer scope has expired", flags == (True, False), got=flags)


async def outside_cancel(report: Report, stream: netio.Stream) -> None:
    report.say("a read in a scope of 0.3 s is cancelled by another part of the program")
    loop = asyncio.get_running_loop()
    for title, offset in (
        ("0.2 s before the expiry", None),
        ("in one tick with the expiry, just before it", -0.001),
        ("in one tick with the expiry, just after it", +0.001),
    ):
        scope = netio.timeout(0.3, name="request")

        async def request(scope: netio.Scope = scope) -> bytes:
            async with scope:
                return await stream.read_line(timeout=2)

        task = asyncio.create_task(request())
        await asyncio.sleep(0)  # now it waits in its scope
        expiry = scope.when() or 0.0
        if offset is None:
            loop.call_at(expiry - 0.2, task.cancel)
        else:
            # The loop is busy while both fall due, and then handles them in one go.
            loop.call_at(expiry - 0.05, time.sleep, 0.1)
            loop.call_at(expiry + offset, task.cancel)
        await asyncio.wait([task])
        ended = "cancelled" if task.cancelled() else repr(task.exception() or task.result())
        report.check(f"{title}: it ends as cancelled", task.cancelled(), got=ended)
    report.check("that last scope had fired indeed", scope.expired(), got=scope)


async def nothing_lost(report: Report, stream: netio.Stream) -> None:
    report.say("> 0123456789, half of what is asked for")
    sent = b"0123456789\n"
    await stream.write(sent)
    error = await outcome(stream.read_exactly(22, timeout=0.3))
    cut = isinstance(error, netio.DeadlineExceeded) and error.done == 11
    report.check("a read of 22 bytes times out when 11 have come", cut, got=error)

    async with netio.move_on_after(0.2) as scope:
        await stream.read_exactly(22)
    report.check("a scope cuts the next one", scope.caught, got=scope)

    task = asyncio.create_task(stream.read_exactly(22))
    asyncio.get_running_loop().call_later(0.1, task.cancel)
    await asyncio.wait([task])
    report.check("a cancellation cuts the third", task.cancelled(), got=task)

    report.say("> 0123456789, the other half")
    # It comes, and the limit of the read is reached, while the loop is busy.
    await stream.write(sent)
    asyncio.get_running_loop().call_soon(time.sleep, 0.3)
    result = await outcome(stream.read_exactly(22, timeout=0.1))
    report.check("in one tick with its timer, data wins", result == 2 * sent, got=result)
    counts = stream.buffered, stream.statistics().bytes_received
    report.check("all 22 bytes were read, once and in order", counts == (0, 22), got=counts)


STEPS = (
    ("An echo round trip", round_trip),
    ("read_exactly(16, timeout=0.5), and only 6 bytes come", own_timeout),
    ("A deadline of 1 s for the connection, and a line every 0.4 s", connection_deadline),
    ("Limits within limits: the outer one is reached, and the outer one answers", nested_limits),
    ("A cancellation from outside stays one, whatever expires just then", outside_cancel),
    ("After all kinds of interruption every byte is still there", nothing_lost),
)


async def run(report: Report, port: int) -> None:
    """All steps, each on a connection of its own, so that none spoils the next."""
    for title, step in STEPS:
        report.step(title)
        before = report.held + report.failed
        try:
            async with (
                asyncio.timeout(STEP_SECONDS),
                netio.connect_tcp(HOST, port, timeout=2) as stream,
            ):
                await step(report, stream)
        except Exception as error:
            report.check(f"the step ends well, and within {STEP_SECONDS} s", False, got=error)
        if report.held + report.failed == before:
            report.check("the step checks something", False, got="no check")


@contextlib.contextmanager
def echo_server() -> Iterator[int]:
    """Run echo_server.py on a port that the system chooses, and end it whatever happens."""
    paths = [str(Path(netio.__file__).parent.parent), os.environ.get("PYTHONPATH", "")]
    program = Path(__file__).with_name("echo_server.py")
    process = subprocess.Popen(
        [sys.executable, program, "--host", HOST, "--port", "0"],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))},
    )
    with process:
        too_late = threading.Timer(SERVER_SECONDS, process.kill)
        too_late.start()
        try:
            line = process.stdout.readline() if process.stdout else ""
            too_late.cancel()
            port = re.fullmatch(r"listening on \S+ port (\d+)\s*", line)
            if port is None:
                raise RuntimeError(f"{program} did not start; it said {line!r}")
            yield int(port[1])
        finally:
            too_late.cancel()
            process.terminate()
            try:
                process.wait(SERVER_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()


def main() -> int:
    """Return the exit status: 0 only if every step ran and every check held."""
    report = Report()
    started = time.monotonic()
    try:
        with echo_server() as port:
            print(f"An echo server runs as another process, on {HOST} port {port}.")
            asyncio.run(run(report, port))
    except KeyboardInterrupt:
        return 130  # as a shell has it
    except Exception as error:
        report.check("the demo runs to its end", False, got=error)
    seconds = time.monotonic() - started
    print(f"\n{report.steps} steps in {seconds:.1f} s, {report.held} checks ok, ", end="")
    print(f"{report.failed} FAILED")
    return 0 if report.steps == len(STEPS) and not report.failed else 1


if __name__ == "__main__":
    sys.exit(main())
