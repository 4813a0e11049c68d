"""The errors of netio: one class per cause, each with what a program needs to act on it.

What the network causes is also the standard error that code already catches: `DeadlineExceeded` is
a `TimeoutError`, `ConnectionReset` a `ConnectionResetError`, `IncompleteRead` an
`asyncio.IncompleteReadError`. (`StreamClosed`, `StreamBusy` and `StillRunning` are the program's
doing, and netio's only.) All of them survive pickling; what cannot travel (a scope) is
replaced by its name.
"""

from __future__ import annotations

import asyncio
import errno
from socket import gaierror
from typing import TYPE_CHECKING, Any, Final

from netio._openssl import ssl

if TYPE_CHECKING:
    from collections.abc import Sequence

#: A socket address as Python's `socket` has it: ``(host, port)``, ``(host, port, flow, scope)``,
#: a path, or None where a peer has no name.
KnownAddress = tuple[str, int] | tuple[str, int, int, int] | str | bytes
Address = KnownAddress | None


def format_address(address: Address) -> str:
    """`address` as a person writes it: ``10.0.0.7:7000``, ``[::1]:7000``, ``/run/x.sock``."""
    if isinstance(address, tuple):
        host, port = address[0], address[1]
        return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    if isinstance(address, bytes):
        return "@" + address[1:].decode(errors="replace")
    return address or "an unnamed peer"


def format_seconds(seconds: float) -> str:
    """A length of time as a person writes it: ``0.25 s``, ``86400 s``."""
    return f"{seconds:.3g} s" if seconds < 1000 else f"{seconds:.0f} s"


class NetioError(Exception):
    """The base class of all errors that netio raises for what happens on a connection.

    Wrong arguments are not among them: these are ``TypeError`` and ``ValueError``.
    """

    def __reduce__(self) -> tuple[object, ...]:
        return _rebuild, (type(self), self.args, self._state())

    def _state(self) -> dict[str, object]:
        state = dict(self.__dict__)
        if isinstance(self, OSError):
            state["errno"] = self.errno
        return state


def _rebuild(
    cls: type[NetioError], args: tuple[object, ...], state: dict[str, object]
) -> NetioError:
    error = cls.__new__(cls, *args)
    error.args = args
    for name, value in state.items():
        setattr(error, name, value)
    return error


class DeadlineExceeded(NetioError, TimeoutError):
    """A limit was reached before the work was done.

    It is a ``TimeoutError``, and therefore also an ``OSError``, as every ``TimeoutError`` is:
    an ``except OSError`` around netio calls catches it too. `errno` is None.

    Attributes:
        limit: which limit fired: ``"call"`` (seconds given to it), ``"read"`` or ``"write"`` (the
            connection's defaults), ``"connect"``, ``"resolve"``, ``"attempt"``, ``"deadline"``
            (a `Deadline`, of the call or of the stream), ``"budget"`` (a `Budget`), ``"idle"``,
            ``"total"``, ``"min_rate"`` (those of `Timeouts`), ``"scope"`` or ``"shield"``. Where
            several are reached at once: the call's own, a deadline of the stream, ``"total"``,
            ``"idle"``, ``"min_rate"``, in this order.
        operation: what was under way, for instance ``"read_exactly(16)"``.
        seconds: the length of the limit in seconds, counted from the start of the operation; 0.0
            where it had passed before. That of ``"idle"``, ``"total"``, ``"min_rate"`` (its `per`)
            and ``"budget"`` is what it was made with, and may be more than `elapsed`. (None only in
            an error that was made by hand.)
        elapsed: seconds from the start of the operation to this error.
        peer: the address of the other side, or None.
        done: bytes that were there (a read; they are kept and readable) or that the kernel took
            (a write).
        expected: bytes the operation needed, or None where that is open.
        scope: the scope that fired (its name, once the error was pickled), or None.
        scope_name: the name of that scope, or None.
        attempts: when connecting, one error for each address tried so far, in the order in which
            they were.
        partial: on a bare socket the bytes that were consumed; on a stream ``b""``.
    """

    def __init__(
        self,
        message: str = "",
        *,
        limit: str = "call",
        operation: str = "",
        seconds: float | None = None,
        elapsed: float = 0.0,
        peer: Address = None,
        done: int = 0,
        expected: int | None = None,
        scope: object = None,
        attempts: Sequence[Exception] = (),
        partial: bytes = b"",
    ) -> None:
        super().__init__(message)
        self.limit: str = limit
        self.operation: str = operation
        self.seconds: float | None = seconds
        self.elapsed: float = elapsed
        self.peer: Address = peer
        self.done: int = done
        self.expected: int | None = expected
        self.scope: object = scope
        self.attempts: tuple[Exception, ...] = tuple(attempts)
        self.partial: bytes = partial

    @property
    def scope_name(self) -> str | None:
        """The name of the scope that fired, or None."""
        return self.scope if isinstance(self.scope, str) else getattr(self.scope, "name", None)

    def _state(self) -> dict[str, object]:
        state = super()._state()
        if self.scope is not None:
            state["scope"] = self.scope_name
        return state


class ConnectFailed(NetioError, OSError):
    """No address could be connected to, or a name does not resolve, also one to listen on.

    Attributes:
        attempts: one error for each address tried, in the order in which they were; for a name that
            does not resolve, the error of the lookup.
        errno: the number of the last attempt's error; None for a lookup, and where it has none.
    """

    errno: int | None

    def __init__(self, message: str = "", *, attempts: Sequence[Exception] = ()) -> None:
        super().__init__(message)
        self.attempts: tuple[Exception, ...] = tuple(attempts)
        last = self.attempts[-1] if self.attempts else None
        # What a lookup says is no number of errno's.
        self.errno = None if isinstance(last, gaierror) else getattr(last, "errno", None)


class ConnectionLost(NetioError, ConnectionError):
    """The connection is gone, or a cut write has left it out of step.

    Also the kernel's own ``ETIMEDOUT``: the peer did not acknowledge for minutes. That is a lost
    connection, not a limit of netio.

    Attributes:
        errno: the kernel's error number, or None (a stream torn by a cut write).
        done: bytes that are buffered and readable (a read), or that the kernel took (a write).
        partial: on a bare socket the bytes that were consumed; on a stream ``b""``.
    """

    errno: int | None

    def __init__(
        self,
        message: str = "",
        *,
        errno: int | None = None,
        done: int = 0,
        partial: bytes = b"",
    ) -> None:
        super().__init__(message)
        self.errno = errno
        self.done: int = done
        self.partial: bytes = partial


class ConnectionReset(ConnectionLost, ConnectionResetError):
    """The peer reset the connection (``ECONNRESET``)."""


class BrokenPipe(ConnectionLost, BrokenPipeError):
    """The peer has closed its end and takes no more bytes (``EPIPE``)."""


class ConnectionRefused(ConnectionLost, ConnectionRefusedError):
    """Nobody has the port, or the path, that a datagram was sent to (``ECONNREFUSED``).

    The other side's system said so, to this datagram or to one before; the socket stays usable.
    """


class IncompleteRead(NetioError, asyncio.IncompleteReadError):
    """The peer ended the stream before the read had what it asked for.

    Attributes:
        partial: a copy of the bytes that came. They are still readable, with `Stream.read_some`
            for instance. (On a bare socket they are consumed, and are only here.)
        expected: bytes the read needed, or None where that is open.
    """

    def __init__(
        self, message: str = "", *, partial: bytes = b"", expected: int | None = None
    ) -> None:
        EOFError.__init__(self, message)  # the parent would make a message of its own
        self.partial: bytes = partial
        self.expected: int | None = expected


class TruncatedStream(IncompleteRead):
    """The connection has ended, and the peer had not said that it would, as TLS has it.

    Somebody on the way may have cut it: what came is not known to be all. Every kind of read raises
    it when the bytes before are read, `Stream.read_some` and `Stream.read_all` among them. A
    context with ``ssl.OP_IGNORE_UNEXPECTED_EOF`` in its options takes such an end for an end.
    """


class TLSError(NetioError, ssl.SSLError):
    """TLS has failed: the two sides don't agree, or what came is not what the peer has sent.

    It is an ``ssl.SSLError``, and therefore an ``OSError``. The connection is of no more use.

    Attributes:
        peer: the address of the other side, or None.
        reason: OpenSSL's name for it, ``"WRONG_VERSION_NUMBER"`` for instance, or None.
        library: the part of OpenSSL that says so, ``"SSL"`` mostly, or None.
        done: bytes that are buffered and readable (a read), or that the kernel took (a write).
    """

    errno: int | None
    reason: str | None  # type: ignore[assignment]
    library: str | None  # type: ignore[assignment]

    def __init__(
        self,
        message: str = "",
        *,
        errno: int | None = None,
        peer: Address = None,
        reason: str | None = None,
        library: str | None = None,
        done: int = 0,
    ) -> None:
        super().__init__(message)
        self.errno = errno
        self.peer: Address = peer
        self.reason = reason
        self.library = library
        self.done: int = done

    def __str__(self) -> str:
        return Exception.__str__(self)  # that of ssl.SSLError shows a tuple


class CertificateError(TLSError, ssl.SSLCertVerificationError):
    """The certificate of the peer is not to be trusted, or is that of somebody else.

    It is an ``ssl.SSLCertVerificationError``, and as that a ``ValueError``, too.

    Attributes:
        verify_code: OpenSSL's number for what is wrong; 0 in an error that was made by hand.
        verify_message: the same in words, ``"certificate has expired"`` for instance.
        peer, reason, library, done: as of `TLSError`.
    """

    verify_code: int
    verify_message: str

    def __init__(
        self,
        message: str = "",
        *,
        errno: int | None = None,
        peer: Address = None,
        reason: str | None = None,
        library: str | None = None,
        done: int = 0,
        verify_code: int = 0,
        verify_message: str = "",
    ) -> None:
        super().__init__(message, errno=errno, peer=peer, reason=reason, library=library, done=done)
        self.verify_code = verify_code
        self.verify_message = verify_message


class LimitExceeded(NetioError, asyncio.LimitOverrunError):
    """A record is longer than the limit of the call. Nothing was discarded.

    Call again with a larger limit, or take the bytes that are there with `Stream.read_some`.

    Attributes:
        limit: the limit that was exceeded, in bytes.
        consumed: bytes that are buffered and readable.
        partial: on a bare socket the bytes already taken out of it; on a stream ``b""``.
    """

    def __init__(
        self, message: str = "", *, limit: int = 0, consumed: int = 0, partial: bytes = b""
    ) -> None:
        super().__init__(message, consumed)
        self.limit: int = limit
        self.partial: bytes = partial


class StreamClosed(NetioError):
    """The stream, or the direction asked for, was closed by this side.

    Attributes:
        peer: the address of the stream's other side, or None.
        done: bytes that the kernel had taken of a write that was under way.
    """

    def __init__(self, message: str = "", *, peer: Address = None, done: int = 0) -> None:
        super().__init__(message)
        self.peer: Address = peer
        self.done: int = done


class StreamBusy(NetioError):
    """The stream can't do this now: another operation has it, or bytes of it are still buffered.

    The stream is as usable as before.
    """


class StillRunning(NetioError):
    """Tasks were cancelled, and still ran when the time that they have for ending was over.

    They run on, and nobody waits for them any more: that is up to who catches this.

    Attributes:
        tasks: the tasks that don't end, in the order in which they were given (their names, once
            the error was pickled). What else is awaited, a future for instance, may be among them.

    Errors that other tasks have raised meanwhile are the ``__cause__``.
    """

    def __init__(
        self, message: str = "", *, tasks: Sequence[asyncio.Future[Any] | str] = ()
    ) -> None:
        super().__init__(message)
        self.tasks: tuple[asyncio.Future[Any] | str, ...] = tuple(tasks)

    def _state(self) -> dict[str, object]:
        return {**super()._state(), "tasks": tuple(map(task_name, self.tasks))}


def task_name(task: asyncio.Future[Any] | str) -> str:
    """What a task is called; a future has no name, and is called by its class."""
    if isinstance(task, str):
        return task
    name = getattr(task, "get_name", None)  # by what it has: a task need not be asyncio's own
    return str(name()) if name is not None else type(task).__name__


_LOST_CLASSES: Final[dict[int, type[ConnectionLost]]] = {
    errno.ECONNRESET: ConnectionReset,
    errno.EPIPE: BrokenPipe,
    errno.ECONNREFUSED: ConnectionRefused,
}


def connection_lost(
    error: OSError, what: str, *, done: int = 0, peer: Address = None
) -> ConnectionLost | TLSError:
    """A fresh error for what the kernel or TLS said once, to be raised now and each time."""
    if isinstance(error, ssl.SSLError):
        return _tls_error(error, what, done, peer)
    cls = _LOST_CLASSES.get(error.errno or 0, ConnectionLost)
    reason = error.strerror or str(error) or type(error).__name__
    lost = cls(f"{what}: {reason}", errno=error.errno, done=done)
    lost.__cause__ = error
    return lost


#: What OpenSSL's reasons mean to who meets them, where its own words don't help.
_TLS_REASONS: Final = {
    "HTTP_REQUEST": "the peer speaks plain HTTP, and not TLS",
    "WRONG_VERSION_NUMBER": "the peer does not seem to speak TLS",
    "UNSUPPORTED_PROTOCOL": "the peer speaks no version of TLS that is allowed here",
    "TLSV1_ALERT_PROTOCOL_VERSION": "the peer allows no version of TLS that is spoken here",
    "NO_SHARED_CIPHER": "no cipher is in common, or this side has no certificate",
}


def _tls_error(error: ssl.SSLError, what: str, done: int, peer: Address) -> TLSError:
    reason: str | None = getattr(error, "reason", None)
    library: str | None = getattr(error, "library", None)
    failed: TLSError
    if isinstance(error, ssl.SSLCertVerificationError):
        message = error.verify_message
        failed = CertificateError(
            f"{what}: the certificate is refused: {message}",
            errno=error.errno,
            peer=peer,
            reason=reason,
            library=library,
            done=done,
            verify_code=error.verify_code,
            verify_message=message,
        )
    else:
        words = _TLS_REASONS.get(reason or "", "TLS failed")
        said = (reason or error.strerror or str(error)).replace("_", " ").lower()
        failed = TLSError(
            f"{what}: {words} ({said})",
            errno=error.errno,
            peer=peer,
            reason=reason,
            library=library,
            done=done,
        )
    failed.__cause__ = error
    return failed
