"""The state of the heap of a measured process: it decides what asyncio's streams cost.

glibc maps a block of 128 KiB or more for itself and unmaps it when it is freed, with page faults
each time; and it gives the end of its heap back to the system once as much is free there.
asyncio's streams ask for 256 KiB with each `recv`, so from a fresh heap a message of 64 bytes
costs them twice as much, and a block of 64 KiB three times. But whenever a larger mapped block
than ever is freed, glibc raises both limits for good, up to 32 MiB and twice that (M_MMAP_THRESHOLD
in mallopt(3)). The first `recv` that meets the end of a connection does so a little, an import may,
a large message does. What a program has is chance, and may change while it runs; so the two ends
of it are measured, with the same heap for all sides of a workload:

- ``grown``: as after a block of nearly 32 MiB was freed. The rule, since it costs nobody anything.
- ``fresh``: as glibc begins, and it stays so.

With another allocator than glibc's the two are the same.
"""

from __future__ import annotations

from typing import Literal

Heap = Literal["grown", "fresh"]

FRESH_BYTES = 128 * 1024
GROWN_BYTES = 31 * 1024 * 1024


def environment(heap: Heap) -> dict[str, str]:
    """What the process must be started with: glibc never moves a limit that was set."""
    return {"MALLOC_MMAP_THRESHOLD_": str(FRESH_BYTES)} if heap == "fresh" else {}


def prepare(heap: Heap) -> None:
    """Called in the process before anything else."""
    if heap == "grown":
        bytearray(GROWN_BYTES)  # freed at once
