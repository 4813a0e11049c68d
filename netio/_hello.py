"""The first message of a client in TLS: which server it asks for.

OpenSSL tells a server that only by a callback of the context, which is the program's own.
"""

from __future__ import annotations

from typing import Final

# A first message that is longer than this, with all its headers, is not looked into.
HELLO_BYTES: Final = 32 * 1024

_HANDSHAKE: Final = 22  # the kind of a record (RFC 8446, 5.1)
_CLIENT_HELLO: Final = 1  # the kind of a message in it (4)
_SERVER_NAME: Final = 0  # the number of an extension (4.2), and the kind of a name (RFC 6066, 3)
_BEFORE_SESSION: Final = 4 + 2 + 32  # the header of the message, a version, a random number


def asked_server_name(flight: bytes | bytearray) -> str | None:
    """The name in the message that `flight` begins with; None if there is none, nor such a message.

    `flight` has passed OpenSSL, which knows better what is valid: what is not is None here.
    """
    try:
        return _server_name(_Reader(_message(flight)))
    except (IndexError, UnicodeDecodeError):
        return None


def _message(flight: bytes | bytearray) -> bytes:
    """What the first records hold, which may cut a message anywhere."""
    message = bytearray()
    at = 0
    while flight[at : at + 1] == bytes([_HANDSHAKE]):
        end = at + 5 + int.from_bytes(flight[at + 3 : at + 5])
        message += flight[at + 5 : end]
        at = end
    return bytes(message)


class _Reader:
    """Takes fields from the beginning. IndexError where they are shorter than they say."""

    def __init__(self, data: bytes) -> None:
        self.data = data

    def take(self, size: int) -> bytes:
        if size > len(self.data):
            raise IndexError
        taken, self.data = self.data[:size], self.data[size:]
        return taken

    def number(self, size: int) -> int:
        return int.from_bytes(self.take(size))

    def field(self, size: int) -> bytes:
        """What is as long as a number of `size` bytes before it says."""
        return self.take(self.number(size))


def _server_name(hello: _Reader) -> str | None:
    if hello.take(_BEFORE_SESSION)[0] != _CLIENT_HELLO:
        return None
    hello.field(1)  # the session
    hello.field(2)  # ciphers
    hello.field(1)  # compressions
    extensions = _Reader(hello.field(2))
    while extensions.data:
        kind, value = extensions.number(2), extensions.field(2)
        if kind == _SERVER_NAME:
            names = _Reader(_Reader(value).field(2))
            if names.number(1) == _SERVER_NAME:
                return names.field(2).decode("ascii")
    return None
