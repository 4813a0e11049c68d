"""What TLS is told and what it tells: arguments checked into an engine, and `TLSInfo`.

An engine is one side of a session: OpenSSL's object with the two buffers that it works on. It is
made, and with it everything checked that can be wrong about a context, a name or a session, before
any I/O.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Final, Literal, cast

from netio._hello import HELLO_BYTES, asked_server_name
from netio._openssl import ssl

if TYPE_CHECKING:
    #: What ``tls=`` takes: a context; True for ``ssl.create_default_context()``; None for no TLS.
    TLSOption = ssl.SSLContext | Literal[True] | None

_WRONG_SIDE: Final = {
    (ssl.PROTOCOL_TLS_CLIENT, True): "a context for clients, and this side is the server",
    (ssl.PROTOCOL_TLS_SERVER, False): "a context for servers, and this side is the client",
}


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class TLSInfo:
    """What the two sides of a TLS connection have agreed on, and who the peer is.

    Attributes:
        version: the protocol, ``"TLSv1.3"`` for instance.
        cipher: the cipher suite by its name.
        alpn: the application protocol that was chosen, or None.
        server_name: the name that the client asked for; None if none. On a client it is the one
            that the certificate was checked for, which may be an address, that is not asked for. On
            a server nobody has checked it.
        peer_certificate: the peer's certificate as ``ssl.SSLSocket.getpeercert`` gives it; ``{}``
            if it was not verified, None if there is none.
        peer_certificate_der: the same as DER, verified or not; None if there is none.
        session: on a client what `connect_tcp` takes as `tls_session`, to make the next handshake
            shorter. TLS 1.3 servers send it after the handshake: ask when something was read.
        session_reused: whether this handshake was a shorter one.
    """

    version: str
    cipher: str
    alpn: str | None
    server_name: str | None
    peer_certificate: dict[str, object] | None
    peer_certificate_der: bytes | None
    session: ssl.SSLSession | None
    session_reused: bool


class Engine:
    """One side of a TLS session: OpenSSL's object and the buffers between it and the wire."""

    __slots__ = ("_heard", "_server_name", "incoming", "object", "outgoing")

    def __init__(
        self,
        context: ssl.SSLContext,
        *,
        server_side: bool,
        server_hostname: str | None,
        session: ssl.SSLSession | None,
    ) -> None:
        self.incoming = ssl.MemoryBIO()
        self.outgoing = ssl.MemoryBIO()
        self.object = context.wrap_bio(
            self.incoming,
            self.outgoing,
            server_side=server_side,
            server_hostname=server_hostname,
            session=session,
        )

        self._heard = (
            bytearray() if server_side else None
        )  # of the client, until the end of its hello
        self._server_name = server_hostname

    def hear(self, data: bytes) -> None:
        """Ciphertext that has come before the handshake was done."""
        heard = self._heard
        if heard is not None and len(heard) < HELLO_BYTES:
            heard += data[:HELLO_BYTES]

    def has_shaken(self) -> None:
        """The handshake is done."""
        if self._heard is not None:
            self._server_name = asked_server_name(self._heard)
            self._heard = None

    @property
    def tolerates_truncation(self) -> bool:
        """Whether the caller takes an end without a goodbye for an end."""
        option: int = getattr(ssl, "OP_IGNORE_UNEXPECTED_EOF", 0)
        return bool(self.object.context.options & option)

    def info(self) -> TLSInfo:
        """What there is to say after the handshake."""
        tls = self.object
        cipher = tls.cipher()
        return TLSInfo(
            version=tls.version() or "",
            cipher=cipher[0] if cipher else "",
            alpn=tls.selected_alpn_protocol(),
            server_name=self._server_name,
            peer_certificate=cast("dict[str, object] | None", tls.getpeercert()),
            peer_certificate_der=tls.getpeercert(binary_form=True),
            session=tls.session,
            session_reused=bool(tls.session_reused),
        )


def make_engine(
    tls: TLSOption,
    name: str,
    *,
    server_side: bool = False,
    server_hostname: str | None = None,
    session: ssl.SSLSession | None = None,
) -> Engine:
    """The engine for a connection; `name` is what the caller calls `tls`.

    Raises TypeError and ValueError, naming the argument, for everything that can be told before
    any I/O.
    """
    context = _context(tls, name, server_side=server_side)
    if server_hostname is not None:
        if not isinstance(server_hostname, str):
            raise TypeError(f"server_hostname must be a str or None, not {server_hostname!r}")
        if server_side:
            raise ValueError("server_hostname is for clients, and this side is the server")
    elif context.check_hostname and not server_side:
        raise ValueError("server_hostname is missing, which the context checks")
    if session is not None and not isinstance(session, ssl.SSLSession):
        raise TypeError(f"session must be an ssl.SSLSession or None, not {session!r}")
    try:
        return Engine(
            context, server_side=server_side, server_hostname=server_hostname, session=session
        )
    except ssl.SSLError as error:
        raise ValueError(f"{name} does not serve here: {error}") from error
    except ValueError as error:  # what is left to be wrong: a name, or a session of another context
        what = "session" if "ession" in str(error) else "server_hostname"
        raise ValueError(f"{what} is of no use: {error}") from error


def check_server_context(tls: object) -> None:
    """TypeError or ValueError, naming ``tls``, for what is neither None nor can serve."""
    if tls is not None:
        make_engine(tls, "tls", server_side=True)  # type: ignore[arg-type]


def client_engine(
    tls: TLSOption,
    server_hostname: str | None,
    session: ssl.SSLSession | None,
    host: str | None = None,
) -> Engine | None:
    """The engine for a client that connects, to `host` if it has a name; None without TLS.

    Raises as `make_engine`.
    """
    if tls is None:
        if server_hostname is not None:
            raise ValueError("server_hostname is for TLS, and tls is None")
        if session is not None:
            raise ValueError("tls_session is for TLS, and tls is None")
        return None
    if server_hostname is None and host is not None:
        # No certificate has a final dot, nor the zone of an address.
        server_hostname = host.rstrip(".").partition("%")[0]
    return make_engine(tls, "tls", server_hostname=server_hostname, session=session)


def _context(tls: object, name: str, *, server_side: bool) -> ssl.SSLContext:
    if tls is True and not server_side:
        return ssl.create_default_context()
    if tls is True:
        raise ValueError(f"{name} must be an ssl.SSLContext with the server's certificate")
    if not isinstance(tls, ssl.SSLContext):
        raise TypeError(f"{name} must be an ssl.SSLContext, not {type(tls).__name__}")
    wrong = _WRONG_SIDE.get((tls.protocol, server_side))
    if wrong is not None:
        raise ValueError(f"{name} is {wrong}")
    return tls
