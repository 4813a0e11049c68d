"""The two parts of a TLS connection in which one side waits for the other: its beginning, its end.

The handshake is an operation with a limit of its own. The goodbye is a part of closing: it waits
until it has gone, never for the peer's, and never longer than its limit; then the connection is
cut.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from netio._defaults import CLOSE_SECONDS
from netio._errors import connection_lost
from netio._holding import Hold
from netio._operation import Operation
from netio._readiness import NOTHING, READABLE

if TYPE_CHECKING:
    from netio._limits import Timeout
    from netio._observing import Wait
    from netio._tls import TLSChannel


class Handshake(Operation):
    """A handshake in progress: what it waits for, and how it failed.

    In a handshake a side that reads may have to write first, so each attempt says which it is.
    """

    __slots__ = ("channel", "error", "wants")

    def __init__(self, name: str, channel: TLSChannel) -> None:
        super().__init__(name, peer=channel.peer)
        self.channel = channel
        self.wants: int = READABLE
        self.error: OSError | None = None

    def attempt(self) -> bool:
        """Go on with it; True: it is done, has failed, or waits for the other direction now."""
        try:
            self.wants = self.channel.shake()
        except OSError as error:
            # Kept now: the kernel says it once, and the task may be cancelled before it runs.
            self.error = error.with_traceback(None)
        return self.error is not None or self.wants != self.awaits

    def describe(self, wait: Wait) -> None:
        super().describe(wait)
        if self.channel.closed:
            wait.outcome = "closed"
        elif self.error is not None:
            wait.outcome, wait.error = "failed", self.error


async def shake_hands(handshake: Handshake) -> None:
    """Wait until `handshake`, which was started, is done; the channel is left as it is.

    Raises:
        TLSError, CertificateError: the two sides don't agree. The alert that says so has gone, as
            far as it fitted.
        ConnectionLost: the connection failed, or the peer ended it.
        DeadlineExceeded: a limit was reached first. StreamClosed: another task has closed it.
    """
    channel = handshake.channel
    loop = channel.loop
    try:
        while True:
            if channel.closed or channel.innermost.closed:
                raise handshake.closed()
            if handshake.error is None:
                handshake.attempt()
            if handshake.error is not None:
                raise connection_lost(handshake.error, str(handshake), peer=handshake.peer)
            if handshake.wants == NOTHING:
                return
            now = loop.time()
            if handshake.deadline <= now and handshake.due(now):
                raise handshake.exceeded(now, "the handshake is not done")
            if handshake.wants == READABLE:
                await channel.wait_readable(handshake)
            else:
                await channel.wait_writable(handshake)
            await handshake.let_scopes_answer(loop)
    finally:
        channel.leave(handshake)
        handshake.stop_clocks(loop.time())


class Goodbye(Operation):
    """A goodbye that has not gone yet."""

    __slots__ = ("_channel",)

    def __init__(self, channel: TLSChannel) -> None:
        super().__init__("aclose", peer=channel.peer)
        self._channel = channel

    def attempt(self) -> bool:
        """Give what fits; True: it has gone, or nobody is there to hear it."""
        try:
            self._channel.shut_down_writing()
        except BlockingIOError:
            return False
        except OSError:
            pass
        return True


async def say_goodbye(
    channel: TLSChannel, timeout: Timeout, limit: float | None, *, torn: bool
) -> None:
    """Say goodbye within `timeout`, by default `limit` seconds, and close, whatever happens.

    There is none if a write was `torn`: the peer would take the part for the whole.
    For all who use the channel it is closed at once. A first cancel is held back until the end; a
    second one cuts at once (law 23).
    """
    silent = torn or not channel.can_part
    channel.part()
    goodbye = Goodbye(channel)
    if silent or goodbye.attempt() or not channel.loop.is_running():
        channel.close()
        return
    loop = channel.loop
    goodbye.start(loop.time(), timeout, CLOSE_SECONDS if limit is None else limit, "close")
    with Hold(most=1) as hold:
        try:
            while not channel.innermost.closed and not goodbye.attempt():
                if goodbye.deadline <= loop.time():
                    channel.abort()
                    break
                await channel.wait_writable(goodbye)
        except asyncio.CancelledError:
            channel.abort()
            raise
        finally:
            channel.leave(goodbye)
            goodbye.stop_clocks(loop.time())
            channel.close()
        held = hold.pass_out()
    if held is not None:
        raise asyncio.CancelledError(*held)
