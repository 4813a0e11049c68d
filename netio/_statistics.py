"""What a stream has done, in numbers."""

from __future__ import annotations

import dataclasses


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class StreamStatistics:
    """A snapshot of what a stream has done.

    Attributes:
        bytes_received: bytes taken from the connection, buffered ones included.
        bytes_sent: bytes the kernel has taken.
        buffered: bytes received and not yet read.
    """

    bytes_received: int
    bytes_sent: int
    buffered: int
