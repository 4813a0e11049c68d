"""A program that says what it is doing: kill -USR1 its process, and it prints a snapshot.

python examples/snapshot.py
"""

import asyncio
import contextlib
import os
import signal

import netio


def print_snapshot(*_: object) -> None:
    """On stderr, past its buffer: the signal may come while the program itself writes there."""
    os.write(2, f"{netio.snapshot()}\n".encode())


async def silent(stream: netio.Stream) -> None:
    """A server that takes its time: it reads, and does not answer."""
    async for _ in stream.lines():
        pass


async def ask(port: int) -> None:
    """A client that waits for an answer, within the limit of its request."""
    async with netio.timeout(30, name="request"), netio.connect_tcp("127.0.0.1", port) as stream:
        await stream.write(b"hello?\n")
        print(f"waiting for an answer; kill -USR1 {os.getpid()} tells what for", flush=True)
        print(await stream.read_line())


async def work() -> None:
    """A server and its client in one program."""
    # By `signal.signal`, and not by the loop: it also answers while a task blocks the loop.
    signal.signal(signal.SIGUSR1, print_snapshot)
    async with netio.serve_tcp(silent, "127.0.0.1", grace=0) as server:
        await asyncio.create_task(ask(server.port), name="client")


def main() -> str | None:
    """Return what went wrong, for `sys.exit`."""
    if not hasattr(signal, "SIGUSR1"):
        return "snapshot: this system has no signal SIGUSR1; Windows is one of those"
    with contextlib.suppress(KeyboardInterrupt):
        try:
            asyncio.run(work())
        except netio.NetioError as error:
            return f"snapshot: {error}"
    return None


if __name__ == "__main__":
    raise SystemExit(main())
