"""The peers of slow_drips.py: told what to do in lines of JSON; the standard library only."""

from __future__ import annotations

import heapq
import json
import socket
import sys
import time

HOST = "127.0.0.1"
PAUSE_S = 0.005  # between two requests of the healthy client
STALL_S = 15


def healthy(port: int, seconds: float) -> dict[str, float]:
    """Request and answer for so long: how long each took, in seconds."""
    took = []
    with socket.create_connection((HOST, port), STALL_S) as sock:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.sendall(b"h")
        until = time.perf_counter() + seconds
        while time.perf_counter() < until:
            begin = time.perf_counter()
            sock.sendall(b"8 bytes!")
            got = b""
            while len(got) < 8:
                got += sock.recv(8 - len(got))
            took.append(time.perf_counter() - begin)
            time.sleep(PAUSE_S)
    took.sort()
    return {"requests": len(took), "p50": took[len(took) // 2], "p99": took[len(took) * 99 // 100]}


def drip(port: int, drips: int, every: float, spread: float) -> None:
    """A byte on each connection each so many seconds, until each was cut.

    They are opened over `spread` seconds, evenly.
    """
    begin = time.perf_counter()
    due: list[tuple[float, int, socket.socket | None]]
    due = [(begin + spread * index / drips, index, None) for index in range(drips)]
    while due:
        when, index, sock = due[0]
        rest = when - time.perf_counter()
        if rest > 0:
            time.sleep(rest)
        if sock is None:
            sock = socket.create_connection((HOST, port), STALL_S)
            sock.setblocking(False)
            byte = b"%d" % (index % 4)  # which limit it wants to meet
        else:
            byte = b"."
        try:
            sock.send(byte)
        except OSError:
            sock.close()
            heapq.heappop(due)
        else:
            heapq.heapreplace(due, (when + every, index, sock))


def main() -> None:
    for line in sys.stdin:
        request = json.loads(line)
        if "healthy" in request:
            print(json.dumps(healthy(request["healthy"], request["seconds"])), flush=True)
        else:
            drip(**request)


if __name__ == "__main__":
    main()
