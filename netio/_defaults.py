"""Every default and bound of netio that is not a caller's choice, each with its reason.

Sizes are bytes, durations are seconds.
"""

from __future__ import annotations

import enum
from typing import Final, Literal


class Default(enum.Enum):
    """The value of an argument that was left out, where ``None`` means "no limit"."""

    DEFAULT = "default"

    def __repr__(self) -> str:
        return "DEFAULT"


DEFAULT: Final = Default.DEFAULT
DefaultType = Literal[Default.DEFAULT]

# One system call takes at most this much. It is what a Linux socket hands out well; larger
# requests make the allocator map and unmap memory for each call.
READ_BYTES: Final = 64 * 1024

# A read that still needs this much or more asks for just that, so that blocks are not cut across
# two chunks; a smaller one reads ahead, since the next message is probably there already.
READ_AHEAD_BELOW_BYTES: Final = 16 * 1024

# Pieces below this size are merged, as they come (a drip costs bytes, not objects) and before they
# are written (a view of such a piece costs more than a copy of it).
SMALL_PIECE_BYTES: Final = 4 * 1024

# What a stream holds unread, and the longest line or record, unless the caller says otherwise.
# asyncio's streams and Go's bufio.Scanner have the same number.
STREAM_LIMIT_BYTES: Final = 64 * 1024

# After so many operations that did not have to wait, or so many bytes in one of them, the task
# gives the loop a turn (law 35). 512 buffer hits take a fifth of a millisecond.
OPERATIONS_PER_TURN: Final = 512
BYTES_PER_TURN: Final = 256 * 1024

# What an operation costs of its task's turn: one for a buffer hit, more for what may ask the
# system, and one for each 512 bytes it moved, by shifting.
SYSTEM_CALL_COST: Final = 2
COST_SHIFT: Final = (BYTES_PER_TURN // OPERATIONS_PER_TURN).bit_length() - 1

# An operation whose limit has passed takes what is there at that moment (law 9); a peer that
# keeps sending must not stretch that moment. More than the receive buffers of common systems.
LAST_LOOK_BYTES: Final = 8 * 1024 * 1024

# A body that is still running so long after its scope has fired is reported. Cleanup that takes its
# time, a goodbye over TLS for instance, is over by then.
STUBBORN_SECONDS: Final = 5.0

# A timer that fired early is set again for no less than this: uvloop counts in milliseconds and
# fires up to half a millisecond early, so that a naive re-arm would spin.
TIMER_STEP_SECONDS: Final = 0.001

# sendmsg takes at most IOV_MAX buffers (1024 on Linux); more than 64 gain nothing.
BUFFERS_PER_SEND: Final = 64

# An address that has not answered for so long gets company: the next one is tried beside it. What
# RFC 8305 recommends (section 5); curl has 0.2 s, Go's net 0.3 s.
ATTEMPT_DELAY_SECONDS: Final = 0.25

# Lookups of one loop that may be stuck in the C library at once; more wait their turn.
MAX_LOOKUPS: Final = 64

# A bare-socket read looks at most this far ahead of what it may consume.
PEEK_BYTES: Final = 16 * 1024

# The kernel's queue of connections not yet accepted; Linux caps it at net.core.somaxconn.
BACKLOG: Final = 1024

# How long a server lets its handlers end by themselves when it is closed (nginx and uvicorn wait
# without limit, gunicorn 30 s; systemd kills after 90 s).
GRACE_SECONDS: Final = 10.0

# How long cancelled handlers get for their cleanup, and then to notice that their socket is gone.
CLEANUP_SECONDS: Final = 2.0

# A listener that is out of descriptors or memory rests so long before it accepts again; asyncio
# has the same number.
ACCEPT_PAUSE_SECONDS: Final = 1.0

# Connections accepted in one go before other tasks get a turn.
ACCEPTS_PER_TURN: Final = 64

# The window of a rate slides in so many steps: a cut is late by at most one of them, and the
# history of a connection is no more than so many pairs of numbers.
RATE_WINDOW_PARTS: Final = 16

# The longest datagram that is received whole, unless the caller says otherwise: more than UDP has
# (65,507 bytes over IPv4), and less than a Unix socket may send.
DATAGRAM_BYTES: Final = 64 * 1024

# How long a goodbye may take where `Timeouts.close` is None: a peer owes us nothing at that point.
CLOSE_SECONDS: Final = 2.0
