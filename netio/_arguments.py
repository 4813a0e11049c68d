"""Checks of arguments: wrong ones get an error that names the parameter, before any I/O."""

from __future__ import annotations

import asyncio
import operator
import re
import socket
import sys
from typing import TYPE_CHECKING, Any, Final, SupportsIndex

if TYPE_CHECKING:
    import array
    import mmap

    #: What can be written, and read into: any contiguous buffer.
    Buffer = bytes | bytearray | memoryview | array.array[Any] | mmap.mmap


#: A larger number of bytes, or of anything, is taken as this one. No memory holds more; and Python
#: refuses to print an int of 4,300 digits, so that every error would fail that tells of one.
MAX_COUNT: Final = sys.maxsize


def check_count(value: SupportsIndex, name: str, *, at_least: int = 0) -> int:
    """`value` as a number of bytes or the like, at least `at_least` and at most `MAX_COUNT`."""
    if value.__class__ is int and at_least <= value <= MAX_COUNT:
        return value
    try:
        count = operator.index(value)
    except TypeError:
        count = None
    if count is None or isinstance(value, bool):
        raise TypeError(f"{name} must be an int, not {type(value).__name__}")
    if count < at_least:
        raise ValueError(f"{name} must be at least {at_least}{_not(count)}")
    return min(count, MAX_COUNT)


def _not(count: int) -> str:
    """What an error says of a wrong number that is not too large to be told."""
    return f", not {count}" if abs(count) < MAX_COUNT else ""


def check_callable(value: object, name: str) -> None:
    """A function, or what is called like one."""
    if not callable(value):
        raise TypeError(f"{name} must be a function, not {type(value).__name__}")


def check_separators(separator: bytes | tuple[bytes, ...]) -> tuple[bytes, ...]:
    """One or several separators, none of them empty."""
    separators = separator if isinstance(separator, tuple) else (separator,)
    for one in separators:
        if not isinstance(one, (bytes, bytearray)):
            raise TypeError(f"separator must be bytes, or a tuple of bytes, not {separator!r}")
    if not separators or not all(separators):
        raise ValueError("separator must not be empty")
    return tuple(map(bytes, separators))


def readable_view(data: Buffer, name: str) -> memoryview:
    """The bytes of `data`, without a copy."""
    try:
        return memoryview(data).cast("B")
    except TypeError:
        if isinstance(data, memoryview):
            raise ValueError(f"{name} must be contiguous") from None
        raise TypeError(f"{name} must be bytes-like, not {type(data).__name__}") from None


def writable_view(buffer: Buffer) -> memoryview:
    """The bytes of `buffer`, to be written to."""
    view = readable_view(buffer, "buffer")
    if view.readonly:
        view.release()
        raise TypeError(f"buffer must be writable, and this {type(buffer).__name__} is read-only")
    return view


#: What no name and no address has, but a URL, or an address in brackets.
_OF_NO_HOST: Final = re.compile(r"[\s/?#@\[\]]")


def check_host(host: str) -> None:
    """A name or a numeric address."""
    if not isinstance(host, str):
        raise TypeError(f"host must be a str, not {type(host).__name__}")
    if not host or not host.isprintable() or _OF_NO_HOST.search(host):
        raise ValueError(f"host must be a name or an address, not {host!r}")
    try:
        host.encode("idna")
    except UnicodeError as error:
        raise ValueError(f"host is not a valid name: {host!r} ({error})") from None


def is_numeric(host: str, family: int) -> bool:
    """Whether `host` is an address of `family` in numbers, which the system needs no lookup for."""
    if family == socket.AF_INET6:
        host = host.partition("%")[0]  # what follows is the interface
    try:
        socket.inet_pton(family, host)
    except (OSError, ValueError):
        return False
    return True


def check_port(port: int, *, at_least: int = 0) -> int:
    """A port number: 1 to 65535, or 0 as well where the system may choose."""
    number = check_count(port, "port", at_least=at_least)
    if number > 65535:
        raise ValueError(f"port must be at most 65535, not {number}")
    return number


def check_loop(loop: asyncio.AbstractEventLoop, name: str, what: str) -> None:
    """RuntimeError, for `name`, where the own `loop` of `what` may be running elsewhere (law 3)."""
    try:
        here = asyncio.get_running_loop()
    except RuntimeError:
        here = None
    if here is loop or loop.is_closed():
        return
    if here is not None or loop.is_running():
        raise RuntimeError(f"{name}: the {what} belongs to another event loop")


def check_socket(sock: object) -> None:
    """An open socket of the system, not one wrapped by the ssl module."""
    if not isinstance(sock, socket.socket) or hasattr(sock, "do_handshake"):
        raise TypeError(f"sock must be a plain socket.socket, not {type(sock).__name__}")
    if sock.fileno() < 0:
        raise ValueError("sock is closed")
