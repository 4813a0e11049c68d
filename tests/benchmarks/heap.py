"""The state that the heap of a measured process is in: it decides what asyncio streams cost.

glibc maps a block of 128 KiB or more for itself and unmaps it when it is freed, with page faults
each time; and it gives the end of its heap back as soon as that much is free there. asyncio's
streams ask for 256 KiB with each `recv`, so from a fresh heap a message of 64 bytes costs them
twice as much. But whenever a larger mapped block than ever is freed, glibc raises both limits for
good (M_MMAP_THRESHOLD in mallopt(3)), to 32 MiB at most. Imports can do that, or the first `recv`
that meets the end of a connection. Left to chance, two runs of one side would differ by half; so
every side of a workload gets the same heap:

- ``fresh``: as glibc begins, and it stays so. A program whose first connections are all open yet.
- ``used``: after one connection has ended, as soon happens to any server.
- ``grown``: after a block of nearly 32 MiB was freed; glibc then returns memory no more.

With another allocator (musl, macOS) the three are the same.
"""

from __future__ import annotations

import socket
from typing import Literal

Heap = Literal["fresh", "used", "grown"]

ASYNCIO_RECV_BYTES = 256 * 1024
GROWN_BYTES = 31 * 1024 * 1024


def environment(heap: Heap) -> dict[str, str]:
    """What the process must be started with: glibc never moves a limit that was set."""
    return {"MALLOC_MMAP_THRESHOLD_": str(128 * 1024)} if heap == "fresh" else {}


def prepare(heap: Heap) -> None:
    """Called in the process before anything else."""
    if heap == "used":
        ours, theirs = socket.socketpair()
        theirs.close()
        with ours:
            ours.recv(ASYNCIO_RECV_BYTES)
    elif heap == "grown":
        bytearray(GROWN_BYTES)
