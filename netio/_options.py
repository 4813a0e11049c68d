"""SocketOptions: what the system is to do with a socket, as one immutable object.

Each option is set before it matters: on a listener before it listens, on a connection before it
connects. What this system has not, or will not do, is an error that names the option.
"""

from __future__ import annotations

import dataclasses
import math
import os
import socket
from typing import TYPE_CHECKING, Final, NamedTuple

from netio._arguments import check_count
from netio._limits import check_seconds

if TYPE_CHECKING:
    from collections.abc import Iterator

# What Linux takes; more than that is a mistake elsewhere, too.
_KEEPALIVE_SECONDS_MAX: Final = 32767
_KEEPALIVE_COUNT_MAX: Final = 127
_USER_TIMEOUT_SECONDS_MAX: Final = (2**31 - 1) // 1000
_BUFFER_MAX: Final = 2**31 - 1

_FLAGS: Final = ("nodelay", "keepalive", "reuse_port")
_OF_KEEPALIVE: Final = ("keepalive_idle", "keepalive_interval", "keepalive_count")
_OF_TCP: Final = ("keepalive", *_OF_KEEPALIVE, "user_timeout")


def _check_flag(value: object, name: str) -> None:
    if not isinstance(value, bool):
        raise TypeError(f"SocketOptions.{name} must be a bool, not {value!r}")


def _check_number(value: int, name: str) -> None:
    most = _KEEPALIVE_COUNT_MAX if name == "keepalive_count" else _BUFFER_MAX
    if check_count(value, f"SocketOptions.{name}", at_least=1) > most:
        raise ValueError(f"SocketOptions.{name} must be at most {most}, not {value}")


def _check_length(value: float | None, name: str, most: float) -> None:
    if value is None:
        return
    seconds = check_seconds(value, f"SocketOptions.{name}")
    if not 0 < seconds <= most:
        raise ValueError(f"SocketOptions.{name} must be more than 0 seconds, and at most {most}")


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class SocketOptions:
    """Options of a socket, for ``options=``; `dataclasses.replace` makes another one of it.

    On a connection that is open already, `Stream.socket` sets what it is asked to.

    Attributes:
        nodelay: send small messages at once (``TCP_NODELAY``), as Go does; without it, one may wait
            for the peer's acknowledgement of the one before.
        keepalive: ask a silent peer whether it is there (``SO_KEEPALIVE``), after two hours unless
            the next ones say otherwise. (To bound a silence, see `Timeouts.idle`.)
        keepalive_idle: seconds of silence before it is asked, rounded up to whole ones; None for
            the system's.
        keepalive_interval: seconds from one question to the next, likewise; None for the system's.
        keepalive_count: questions without an answer until the connection is lost; None for the
            system's.
        user_timeout: seconds that bytes may be sent and not acknowledged until the connection is
            lost (``TCP_USER_TIMEOUT``); None for the system's, which is about 15 minutes.
        receive_buffer: bytes that the system keeps unread (``SO_RCVBUF``), of which it takes more
            for itself, and which it caps; None leaves it to the system, which adapts it.
        send_buffer: likewise, bytes that are written and not acknowledged (``SO_SNDBUF``).
        reuse_address: listen or bind though connections of before are not quite over
            (``SO_REUSEADDR``), and, for UDP, though others have the port, too. None is yes for what
            listens or is bound to a port of TCP (but on Windows, where others could steal it), and
            no for UDP.
        reuse_port: let others of the same user have the port, too (``SO_REUSEPORT``): the system
            spreads what comes.
    """

    nodelay: bool = True
    keepalive: bool = False
    keepalive_idle: float | None = None
    keepalive_interval: float | None = None
    keepalive_count: int | None = None
    user_timeout: float | None = None
    receive_buffer: int | None = None
    send_buffer: int | None = None
    reuse_address: bool | None = None
    reuse_port: bool = False

    def __post_init__(self) -> None:
        for name in _FLAGS:
            _check_flag(getattr(self, name), name)
        if self.reuse_address is not None:
            _check_flag(self.reuse_address, "reuse_address")
        for name in ("keepalive_idle", "keepalive_interval"):
            _check_length(getattr(self, name), name, _KEEPALIVE_SECONDS_MAX)
        _check_length(self.user_timeout, "user_timeout", _USER_TIMEOUT_SECONDS_MAX)
        for name in ("receive_buffer", "send_buffer", "keepalive_count"):
            value = getattr(self, name)
            if value is not None:
                _check_number(value, name)
        for name in _OF_KEEPALIVE:
            if getattr(self, name) is not None and not self.keepalive:
                raise ValueError(f"SocketOptions.{name} needs keepalive=True")


#: Those of a socket for which nothing else was said.
DEFAULT_OPTIONS: Final = SocketOptions()


class Setting(NamedTuple):
    """One option as the system takes it."""

    name: str
    level: int
    option: int
    value: int

    def apply(self, sock: socket.socket) -> None:
        """Set it. Raises ``OSError``, which names the option."""
        try:
            sock.setsockopt(self.level, self.option, self.value)
        except OSError as error:
            text = f"SocketOptions.{self.name}: {error.strerror}"
            raise OSError(error.errno, text) from error


Settings = tuple[Setting, ...]


def check_options(options: SocketOptions) -> None:
    """TypeError for what are none."""
    if not isinstance(options, SocketOptions):
        raise TypeError(f"options must be netio.SocketOptions, not {type(options).__name__}")


def connection_settings(options: SocketOptions) -> Settings:
    """What is set on a TCP connection. ValueError for what this system has not."""
    return (*_of_connections(options), *_of_buffers(options))


def listener_settings(options: SocketOptions, *, reuse: bool) -> Settings:
    """What is set on a TCP listener, or on a connection with a local address.

    `reuse`: whether the address is to be used again where nothing was said.
    """
    return (*_of_reuse(options, reuse=reuse and os.name == "posix"), *connection_settings(options))


def datagram_settings(options: SocketOptions) -> Settings:
    """What is set on a socket for datagrams. ValueError for what is of TCP only."""
    for name in _OF_TCP:
        if getattr(options, name):
            raise ValueError(f"SocketOptions.{name} is an option of TCP; datagrams have none such")
    return (*_of_reuse(options, reuse=False), *_of_buffers(options))


def _of_connections(options: SocketOptions) -> Iterator[Setting]:
    tcp = socket.IPPROTO_TCP
    if options.nodelay:
        yield _setting("nodelay", tcp, "TCP_NODELAY", 1)
    if options.keepalive:
        yield _setting("keepalive", socket.SOL_SOCKET, "SO_KEEPALIVE", 1)
    idle = "TCP_KEEPIDLE" if hasattr(socket, "TCP_KEEPIDLE") else "TCP_KEEPALIVE"  # macOS
    if options.keepalive_idle is not None:
        yield _setting("keepalive_idle", tcp, idle, math.ceil(options.keepalive_idle))
    if options.keepalive_interval is not None:
        seconds = math.ceil(options.keepalive_interval)
        yield _setting("keepalive_interval", tcp, "TCP_KEEPINTVL", seconds)
    if options.keepalive_count is not None:
        yield _setting("keepalive_count", tcp, "TCP_KEEPCNT", options.keepalive_count)
    if options.user_timeout is not None:
        milliseconds = math.ceil(options.user_timeout * 1000)
        yield _setting("user_timeout", tcp, "TCP_USER_TIMEOUT", milliseconds)


def _of_buffers(options: SocketOptions) -> Iterator[Setting]:
    if options.receive_buffer is not None:
        yield _setting("receive_buffer", socket.SOL_SOCKET, "SO_RCVBUF", options.receive_buffer)
    if options.send_buffer is not None:
        yield _setting("send_buffer", socket.SOL_SOCKET, "SO_SNDBUF", options.send_buffer)


def _of_reuse(options: SocketOptions, *, reuse: bool) -> Iterator[Setting]:
    if options.reuse_address if options.reuse_address is not None else reuse:
        yield _setting("reuse_address", socket.SOL_SOCKET, "SO_REUSEADDR", 1)
    if options.reuse_port:
        yield _setting("reuse_port", socket.SOL_SOCKET, "SO_REUSEPORT", 1)


def _setting(name: str, level: int, constant: str, value: int) -> Setting:
    option = getattr(socket, constant, None)
    if option is None:
        raise ValueError(f"SocketOptions.{name}: this system has no {constant}")
    return Setting(name, level, option, value)
