"""TLS for connections that are accepted one by one: their handshakes go on beside each other.

A peer that says nothing must not hold up who accepts. So handshakes go on in callbacks of the loop,
each within its limit, and whoever accepts gets one that is done. They belong to the listener: no
cancel of who waits loses one, and a close ends all.
"""

from __future__ import annotations

import logging
from collections import deque
from typing import TYPE_CHECKING

from netio._defaults import DEFAULT
from netio._engine import make_engine
from netio._errors import connection_lost, format_address
from netio._handshake import Handshake
from netio._readiness import NOTHING, READABLE
from netio._tls import TLSChannel
from netio._turns import turns_of

if TYPE_CHECKING:
    import asyncio
    import ssl
    from collections.abc import Callable

    from netio._channel import Channel

_logger = logging.getLogger("netio")


class Greeter:
    """Shakes hands with those who connect, each within `limit` seconds; `wake` tells of one."""

    def __init__(
        self, context: ssl.SSLContext, limit: float | None, wake: Callable[[], None]
    ) -> None:
        self.wake = wake
        self.under_way: set[_Greeting] = set()
        self.done: deque[TLSChannel] = deque()
        self._context = context
        self._limit = limit

    def greet(self, below: Channel) -> None:
        """Begin TLS over `below`, which from now on belongs to this."""
        engine = make_engine(self._context, "tls", server_side=True)
        handshake = Handshake("handshake", TLSChannel(below, engine))
        handshake.start(below.loop.time(), DEFAULT, self._limit, "handshake")
        greeting = _Greeting(self, handshake)
        self.under_way.add(greeting)
        greeting.go_on()

    def next(self) -> TLSChannel | None:
        """One of which the handshake is done; None if there is none."""
        return self.done.popleft() if self.done else None

    def close(self) -> None:
        """End all, also those that nobody has taken."""
        for greeting in tuple(self.under_way):
            greeting.end()
        while self.done:
            self.done.popleft().abort()


class _Greeting:
    """One handshake, with nobody who awaits it."""

    def __init__(self, greeter: Greeter, handshake: Handshake) -> None:
        self._greeter = greeter
        self._handshake = handshake
        self._channel = handshake.channel

    def go_on(self, _: asyncio.Future[None] | None = None) -> None:
        """Attempt, and wait again, until it is done, fails, or takes too long."""
        handshake, channel = self._handshake, self._channel
        if channel.closed:
            return
        if handshake.error is None:
            handshake.attempt()
        now = channel.loop.time()
        if handshake.error is not None:
            self._fail(connection_lost(handshake.error, str(handshake), peer=handshake.peer))
        elif handshake.wants == NOTHING:
            channel.leave(handshake)
            self._greeter.under_way.discard(self)
            self._greeter.done.append(channel)
            self._greeter.wake()
        elif handshake.deadline <= now and handshake.due(now):
            self._fail(handshake.exceeded(now, "the handshake is not done"))
        else:
            reads = handshake.wants == READABLE
            wait = channel.wait_readable if reads else channel.wait_writable
            wait(handshake)
            future = handshake.future
            assert future is not None
            future.add_done_callback(self.go_on, context=turns_of(channel.loop).context)

    def _fail(self, error: Exception) -> None:
        peer = format_address(self._channel.peer)
        self._greeter.under_way.discard(self)
        self._channel.close()  # and no reset: it would take the alert from the peer
        _logger.info("connection of %s ended: %s: %s", peer, type(error).__name__, error)

    def end(self) -> None:
        """The listener is closed."""
        self._greeter.under_way.discard(self)
        self._channel.abort()
