"""What a request costs an echo server: CPU time per request, side by side in one run.

    python tests/benchmarks/echo.py [--quick] [--connections 50] [--loop stock]

Each side is a server in a process of its own. The load comes from this process, over loopback:
every connection sends 64 bytes, waits for the echo, and sends again. The sides take turns, round
by round, so that what else the machine does meets all of them. A figure is the CPU time (user and
system) of the server's process divided by the requests of the round; the minimum of the rounds is
what it costs, the median what it cost today.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import selectors
import socket
import statistics
import subprocess
import sys
import threading
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import netio

MESSAGE = b"x" * 64
TIMEOUT = 300  # seconds, on each read and write of the sides that have one; never reached here


# The sides. Each starts a server on loopback and returns its port.


async def serve_netio() -> int:
    async def echo(stream: netio.Stream) -> None:
        while True:
            data = await stream.read_exactly(len(MESSAGE), timeout=TIMEOUT)
            await stream.write(data, timeout=TIMEOUT)

    server = await netio.serve_tcp(echo, "127.0.0.1")
    KEPT.append(server)
    return server.addresses[0][1]


class EchoProtocol(asyncio.BufferedProtocol):
    def __init__(self) -> None:
        self.buffer = bytearray(65536)

    def connection_made(self, transport) -> None:
        self.transport = transport

    def get_buffer(self, sizehint: int) -> bytearray:
        return self.buffer

    def buffer_updated(self, n: int) -> None:
        self.transport.write(bytes(memoryview(self.buffer)[:n]))


async def serve_protocol() -> int:
    server = await asyncio.get_running_loop().create_server(EchoProtocol, "127.0.0.1")
    KEPT.append(server)
    return server.sockets[0].getsockname()[1]


async def serve_streams() -> int:
    async def echo(reader, writer) -> None:
        try:
            while True:
                data = await reader.readexactly(len(MESSAGE))
                writer.write(data)
                await writer.drain()
        except asyncio.IncompleteReadError:
            writer.close()

    return await start_streams(echo)


async def serve_streams_timeout() -> int:
    async def echo(reader, writer) -> None:
        try:
            while True:
                async with asyncio.timeout(TIMEOUT):
                    data = await reader.readexactly(len(MESSAGE))
                writer.write(data)
                async with asyncio.timeout(TIMEOUT):
                    await writer.drain()
        except asyncio.IncompleteReadError:
            writer.close()

    return await start_streams(echo)


async def start_streams(echo) -> int:
    server = await asyncio.start_server(echo, "127.0.0.1")
    KEPT.append(server)
    return server.sockets[0].getsockname()[1]


KEPT: list[object] = []  # servers must not be collected
SIDES = {
    "netio": (serve_netio, "netio, a timeout on each call"),
    "protocol": (serve_protocol, "asyncio BufferedProtocol callbacks, no timeouts"),
    "streams": (serve_streams, "asyncio streams, no timeouts"),
    "streams_timeout": (serve_streams_timeout, "asyncio streams with asyncio.timeout"),
}


def run_side(name: str, loop_name: str) -> None:
    """The server process: print the port, then the CPU time so far for each line on stdin."""

    def answer() -> None:
        for _ in sys.stdin:
            print(time.process_time(), flush=True)

    async def main() -> None:
        print(await SIDES[name][0](), flush=True)
        threading.Thread(target=answer, daemon=True).start()
        await asyncio.Event().wait()

    if loop_name == "uvloop":
        import uvloop

        asyncio.Runner(loop_factory=uvloop.new_event_loop).run(main())
    else:
        asyncio.run(main())


class Side:
    """One server process, its connections, and what it has cost."""

    def __init__(self, name: str, loop_name: str, connections: int) -> None:
        self.name = name
        self.costs: list[float] = []  # seconds of CPU per request, one a round
        command = [sys.executable, __file__, "--serve", name, "--loop", loop_name]
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        port = int(self.process.stdout.readline())
        self.sockets = [connect(port) for _ in range(connections)]

    def cpu_time(self) -> float:
        self.process.stdin.write("cpu\n")
        self.process.stdin.flush()
        return float(self.process.stdout.readline())

    def round(self, requests: int) -> None:
        before = self.cpu_time()
        done = drive(self.sockets, requests)
        self.costs.append((self.cpu_time() - before) / done)

    def stop(self) -> None:
        for sock in self.sockets:
            sock.close()
        self.process.stdin.close()
        self.process.stdout.close()
        self.process.kill()
        self.process.wait()


def connect(port: int) -> socket.socket:
    sock = socket.create_connection(("127.0.0.1", port))
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return sock


def drive(sockets: list[socket.socket], requests: int) -> int:
    """Keep one request of each socket in flight until `requests` are answered: how many were."""
    with selectors.DefaultSelector() as selector:
        for sock in sockets:
            selector.register(sock, selectors.EVENT_READ)
            sock.sendall(MESSAGE)
        sent, answered = len(sockets), 0
        while answered < sent:
            for key, _ in selector.select():
                sock = key.fileobj
                if len(sock.recv(len(MESSAGE), socket.MSG_WAITALL)) < len(MESSAGE):
                    raise RuntimeError("a server has closed a connection")
                answered += 1
                if sent < requests:
                    sock.send(MESSAGE)
                    sent += 1
    return answered


def report(sides: list[Side], args: argparse.Namespace) -> None:
    ours = next(side for side in sides if side.name == "netio")
    rows = []
    for side in sides:
        ratios = [mine / theirs for mine, theirs in zip(ours.costs, side.costs, strict=True)]
        rows.append(
            {
                "side": SIDES[side.name][1],
                "min_us": min(side.costs) * 1e6,
                "median_us": statistics.median(side.costs) * 1e6,
                "netio_is": min(ours.costs) / min(side.costs),
                "netio_is_median": statistics.median(ratios),
            }
        )
    if args.json:
        print(json.dumps({"python": sys.version.split()[0], **vars(args), "rows": rows}, indent=2))
        return
    print(
        f"echo server, {args.connections} connections, {len(MESSAGE)}-byte messages, "
        f"{args.loop} loop, Python {sys.version.split()[0]}\n"
        f"CPU of the server's process per request, {args.rounds} rounds of {args.requests}\n"
    )
    print(f"{'':50}{'min us':>8}{'median':>8}{'netio is':>10}{'median':>8}")
    for row in rows:
        print(
            f"{row['side']:50}{row['min_us']:8.2f}{row['median_us']:8.2f}"
            f"{row['netio_is']:9.2f}x{row['netio_is_median']:7.2f}x"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--connections", type=int, default=50)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--requests", type=int, default=20_000, help="per round and side")
    parser.add_argument("--loop", choices=["stock", "uvloop"], default="stock")
    parser.add_argument("--quick", action="store_true", help="a few seconds, rough figures")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--serve", choices=list(SIDES), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.serve:
        run_side(args.serve, args.loop)
        return
    if args.quick:
        args.rounds, args.requests = 3, 4_000
    sides: list[Side] = []
    try:
        sides.extend(Side(name, args.loop, args.connections) for name in SIDES)
        for side in sides:
            side.round(2_000)  # warm-up
            side.costs.clear()
        for _ in range(args.rounds):
            for side in sides:
                side.round(args.requests)
        report(sides, args)
    finally:
        for side in sides:
            side.stop()


if __name__ == "__main__":
    main()
