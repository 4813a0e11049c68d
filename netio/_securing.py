"""The part of a stream that is about TLS: beginning it in place, and what was agreed on."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from netio._connection_limits import HasLimits
from netio._defaults import DEFAULT
from netio._engine import make_engine
from netio._handshake import Handshake, shake_hands
from netio._limits import check_timeout
from netio._tls import TLSChannel

if TYPE_CHECKING:
    import ssl
    from typing import Literal

    from netio._channel import Channel
    from netio._engine import TLSInfo
    from netio._limits import Timeout
    from netio._receiving import Receiver
    from netio._sending import Sender


class Securing(HasLimits):
    """The part of a stream that is about TLS, which moves it to another channel."""

    __slots__ = ("_channel", "_receiver", "_sender")

    _channel: Channel
    _receiver: Receiver
    _sender: Sender

    async def start_tls(
        self,
        context: ssl.SSLContext | Literal[True],
        *,
        server_hostname: str | None = None,
        server_side: bool = False,
        session: ssl.SSLSession | None = None,
        timeout: Timeout = DEFAULT,
    ) -> None:
        """Go on with TLS, in place: what is read and written after this is encrypted.

        Bytes that are buffered already are taken for the beginning of the peer's TLS. Writes of
        other tasks that are called meanwhile wait, and go over TLS; reads get `StreamBusy`.

        `context`: an ``ssl.SSLContext``, or True on a client for ``ssl.create_default_context()``
        (which loads the system's certificates each time). `server_hostname`: on a client the name
        to ask for, and to be checked in the certificate; None where the context checks none.
        `server_side`: whether this side is the server. `session`: on a client `TLSInfo.session` of
        an earlier connection with the same context, or None. `timeout`: seconds for the handshake,
        a `Deadline` or `Budget`, None for no limit, left out for ``timeouts.handshake``.

        Raises:
            CertificateError: the peer's certificate is refused. TLSError: the two sides don't
                agree. ConnectionLost: the connection failed or was ended. DeadlineExceeded: a
                limit was reached first. After each of them the stream can only be closed.
            StreamBusy: a read or a write waits. StreamClosed: closed, or after `write_eof`.
                TypeError, ValueError: for a wrong context, name or session. The stream is usable
                as before.

        Cancellation: the stream is neither plain nor TLS then, and can only be closed.
        """
        check_timeout(timeout)
        engine = make_engine(
            context,
            "context",
            server_side=server_side,
            server_hostname=server_hostname,
            session=session,
        )
        handshake = Handshake("start_tls", TLSChannel(self._channel, engine))
        handshake.stand(min(self._receiver.standing_limit, self._sender.standing))
        await self._secure(handshake, timeout, self._timeouts.handshake)

    async def _secure(self, handshake: Handshake, timeout: Timeout, limit: float | None) -> None:
        """Go on over the channel of `handshake`, once that is done: within `limit` by default."""
        receiver, sender, channel = self._receiver, self._sender, handshake.channel
        receiver.occupy(handshake)
        try:
            sender.occupy(handshake)
        except BaseException:
            receiver.end()
            raise
        try:
            handshake.start(channel.loop.time(), timeout, limit, "handshake")
            channel.feed(receiver.buffer.take(receiver.buffer.size))
            self._channel = channel
            receiver.stand_on(channel)
            await self._shake_hands(handshake)
        finally:
            receiver.end()
            sender.vacate(self._channel)

    async def _shake_hands(self, handshake: Handshake) -> None:
        try:
            await shake_hands(handshake)
        except BaseException as error:
            if isinstance(error, asyncio.CancelledError):
                handshake.mark(error)
            cut = ConnectionError("start_tls was cut, so the stream is neither plain nor TLS")
            self._receiver.give_up(handshake.error or cut)
            raise

    @property
    def tls(self) -> TLSInfo | None:
        """What was agreed on with the peer, as of now; None without TLS."""
        channel = self._channel
        return channel.engine.info() if isinstance(channel, TLSChannel) else None
