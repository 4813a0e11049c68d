"""Connecting through a proxy: SOCKS5 (RFC 1928, 1929) and HTTP CONNECT (RFC 9110, 9.3.6).

Each is a short dialogue over the stream to the proxy, which is the program's stream afterwards. So
the reads consume no byte that follows the proxy's answer: who is connected may speak first. How
long it may take is the business of `connect_tcp`; how much may come is bounded here. What is to be
connected to is sent as it was given: a name is looked up by the proxy.
"""

from __future__ import annotations

import dataclasses
import errno
import os
import re
import socket
from typing import TYPE_CHECKING, ClassVar, Final, Protocol, runtime_checkable

from netio._arguments import check_host, check_port
from netio._errors import LimitExceeded, format_address

if TYPE_CHECKING:
    from netio._stream import Stream

# The answer to CONNECT, all headers together; nginx and Apache take 8 KiB a line.
_HEAD_BYTES: Final = 32 * 1024

# Answers that precede the one that counts (1xx); there is no reason for any.
_INTERIM_ANSWERS: Final = 4

_STATUS_LINE: Final = re.compile(rb"HTTP/1\.[01] ([1-5][0-9][0-9])(?: (.*))?")

# What a SOCKS5 server answers, in the numbers and words of the system (RFC 1928, section 6).
_SOCKS_REPLIES: Final = {
    1: (None, "it failed, and does not say why"),
    2: (errno.EACCES, "its rules forbid this connection"),
    3: (errno.ENETUNREACH, "the network is unreachable from there"),
    4: (errno.EHOSTUNREACH, "the host is unreachable from there, or has no address"),
    5: (errno.ECONNREFUSED, "the connection was refused"),
    6: (errno.ETIMEDOUT, "the host has not answered it"),
    7: (errno.EOPNOTSUPP, "it does not make connections"),
    8: (errno.EAFNOSUPPORT, "it does not take this kind of address"),
}
_NO_LOGIN, _PASSWORD = 0, 2
_IPV4, _NAME, _IPV6 = 1, 3, 4


@runtime_checkable
class Proxy(Protocol):
    """One that connects on behalf of others, for ``proxy=`` of `connect_tcp`.

    `Socks5Proxy` and `HttpProxy` are two; an object with these three names is another.

    Attributes:
        host: its name or address.
        port: its port.
    """

    @property
    def host(self) -> str:
        """Its name or address."""

    @property
    def port(self) -> int:
        """Its port."""

    async def connect(self, stream: Stream, host: str, port: int) -> None:
        """Have the proxy at the other end of `stream` connect it to `host` and `port`.

        Consume nothing past its answer. The stream is closed if this raises.

        Returns: when what is read and written is that of the other side.

        Raises:
            OSError: the proxy does not do that; any error of `stream` as well. It becomes a
                `ConnectFailed`. Any other error passes through `connect_tcp` as it is.

        Cancellation: comes, too, when the limit of connecting is reached; let it pass.
        """


@dataclasses.dataclass(frozen=True, slots=True)
class _Login:
    """Where a proxy is, and who asks."""

    scheme: ClassVar[str]

    host: str
    port: int
    username: str | None = None
    password: str | None = dataclasses.field(default=None, repr=False)

    def __post_init__(self) -> None:
        check_host(self.host)
        check_port(self.port, at_least=1)
        if (self.username is None) != (self.password is None):
            raise ValueError("username and password must be given both, or neither")
        for name in ("username", "password"):
            value = getattr(self, name)
            if value is not None and not isinstance(value, str):
                raise TypeError(f"{name} must be a str or None, not {type(value).__name__}")
            if value is not None:
                self._check(name, value)

    def _check(self, name: str, value: str) -> None:
        raise NotImplementedError

    def __str__(self) -> str:
        return f"{self.scheme}://{format_address((self.host, self.port))}"


class Socks5Proxy(_Login):
    """A SOCKS5 server, for ``proxy=`` of `connect_tcp`. Names are looked up there.

    Attributes:
        host: its name or address.
        port: its port; 1080 as a rule.
        username: who asks, 1 to 255 bytes as UTF-8; None: nobody in particular.
        password: likewise. Both travel in the clear.
    """

    __slots__ = ()
    scheme = "socks5"

    def _check(self, name: str, value: str) -> None:
        if not 1 <= len(value.encode()) <= 255:
            raise ValueError(f"{name} must have 1 to 255 bytes for SOCKS5")

    async def connect(self, stream: Stream, host: str, port: int) -> None:
        """See `Proxy.connect`.

        Returns: nothing, once it is connected.

        Raises:
            OSError: the proxy refuses, with its reason as a number of `errno` where there is one.

        Cancellation: the stream is in the middle of the dialogue, and of no further use.
        """
        offered = [_NO_LOGIN] if self.username is None else [_NO_LOGIN, _PASSWORD]
        await stream.write(bytes([5, len(offered), *offered]))
        version, method = await stream.read_exactly(2)
        if version != 5:
            raise OSError(errno.EPROTO, "it does not speak SOCKS5")
        if method not in offered:
            wants = (
                "a username and a password" if self.username is None else "another kind of login"
            )
            raise OSError(errno.EACCES, f"it wants {wants}")
        if method == _PASSWORD:
            await self._log_in(stream)
        await stream.write(b"\5\1\0" + _socks_address(host) + port.to_bytes(2, "big"))
        version, reply, _, kind = await stream.read_exactly(4)
        if version != 5:
            raise OSError(errno.EPROTO, "it does not speak SOCKS5")
        if reply:
            number, text = _SOCKS_REPLIES.get(reply, (None, "it failed"))
            text = f"{text} (reply {reply})"
            raise OSError(number, text) if number else OSError(text)
        await self._read_address(stream, kind)

    async def _log_in(self, stream: Stream) -> None:
        texts = [text.encode() for text in (self.username, self.password) if text is not None]
        await stream.write(b"\1" + b"".join(bytes([len(text)]) + text for text in texts))
        _, refused = await stream.read_exactly(2)
        if refused:
            raise OSError(errno.EACCES, "it refuses this username and password")

    async def _read_address(self, stream: Stream, kind: int) -> None:
        """The address it connects from, which nobody needs."""
        sizes = {_IPV4: 4, _IPV6: 16}
        if kind == _NAME:
            [size] = await stream.read_exactly(1)
        elif kind in sizes:
            size = sizes[kind]
        else:
            raise OSError(errno.EPROTO, f"its answer is not SOCKS5 (a kind of address {kind})")
        await stream.read_exactly(size + 2)


class HttpProxy(_Login):
    """An HTTP proxy that takes CONNECT, for ``proxy=`` of `connect_tcp`. Names are looked up there.

    Attributes:
        host: its name or address.
        port: its port; 3128 or 8080 often.
        username: who asks, in Basic authentication (RFC 7617), without a colon; None: nobody in
            particular.
        password: likewise. Both travel in the clear.
    """

    __slots__ = ()
    scheme = "http"

    def _check(self, name: str, value: str) -> None:
        if not value.isprintable() or (name == "username" and ":" in value):
            raise ValueError(f"{name} must be printable, and a username without a colon, for HTTP")

    async def connect(self, stream: Stream, host: str, port: int) -> None:
        """See `Proxy.connect`.

        Returns: nothing, once it is connected.

        Raises:
            OSError: the proxy refuses, with the status that it has answered.

        Cancellation: the stream is in the middle of the dialogue, and of no further use.
        """
        target = format_address((host.encode("idna").decode(), port))
        lines = [f"CONNECT {target} HTTP/1.1", f"Host: {target}"]
        if self.username is not None:
            from base64 import b64encode

            login = b64encode(f"{self.username}:{self.password}".encode()).decode()
            lines.append(f"Proxy-Authorization: Basic {login}")
        await stream.write("".join(f"{line}\r\n" for line in (*lines, "")).encode())
        for _ in range(_INTERIM_ANSWERS):
            status, reason = await self._read_answer(stream)
            if 200 <= status < 300:
                return
            if status >= 300:
                break
        number = errno.EACCES if status in (401, 403, 407) else None
        text = f"it answers {status} {reason}".rstrip()
        raise OSError(number, text) if number else OSError(text)

    async def _read_answer(self, stream: Stream) -> tuple[int, str]:
        """Its status and reason; the headers are passed over."""
        first = await self._read_line(stream, _HEAD_BYTES)
        found = _STATUS_LINE.fullmatch(first.rstrip())
        if found is None:
            raise OSError(errno.EPROTO, f"its answer is not HTTP: {first[:40]!r}")
        left = _HEAD_BYTES
        while True:
            line = await self._read_line(stream, left)
            left -= len(line)
            if not line.strip():
                break
        reason = (found[2] or b"")[:100].decode("ascii", "replace")
        return int(found[1]), "".join(c if c.isprintable() else "?" for c in reason)

    async def _read_line(self, stream: Stream, limit: int) -> bytes:
        try:
            line = await stream.read_line(limit=max(limit, 1))
        except LimitExceeded:
            raise OSError(errno.EMSGSIZE, f"its answer has over {_HEAD_BYTES} bytes") from None
        if not line.endswith(b"\n"):
            raise OSError(errno.ECONNRESET, "it has hung up without an answer")
        return line


def _socks_address(host: str) -> bytes:
    for kind, family in ((_IPV4, socket.AF_INET), (_IPV6, socket.AF_INET6)):
        try:
            return bytes([kind]) + socket.inet_pton(family, host)
        except OSError:
            pass
    name = host.encode("idna")
    if len(name) > 255:
        raise OSError(errno.ENAMETOOLONG, os.strerror(errno.ENAMETOOLONG))
    return bytes([_NAME, len(name)]) + name


def chosen_proxy(proxy: Proxy | str | None) -> Proxy | None:
    """`proxy`, made of its URL where it is one. No error shows the URL, which may hold a password.

    TypeError or ValueError for what is none.
    """
    if proxy is None:
        return None
    if isinstance(proxy, str):
        return _of_url(proxy)
    if isinstance(proxy, type) or not isinstance(proxy, Proxy):
        raise TypeError(f"proxy must be a URL, or have host, port and connect; {proxy!r} has not")
    check_host(proxy.host)
    check_port(proxy.port, at_least=1)
    return proxy


def _of_url(url: str) -> Proxy:
    from urllib.parse import unquote, urlsplit

    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        raise ValueError("proxy is not a valid URL") from None
    kinds: dict[str, type[Socks5Proxy | HttpProxy]] = {
        "socks5": Socks5Proxy,
        "socks5h": Socks5Proxy,
        "http": HttpProxy,
    }
    kind = kinds.get(parts.scheme)
    if kind is None:
        known = ", ".join(f"{scheme}://" for scheme in kinds)
        raise ValueError(f"proxy must be a URL that begins with one of {known}")
    if not host or not port:
        raise ValueError(f"proxy must be a URL with a host and a port: {parts.scheme}://host:port")
    if parts.path not in ("", "/") or parts.query or parts.fragment:
        raise ValueError("proxy must be a URL without a path")
    login = [None if text is None else unquote(text) for text in (parts.username, parts.password)]
    try:
        return kind(host, port, *login)
    except ValueError as error:
        raise ValueError(f"proxy: {error}") from None
