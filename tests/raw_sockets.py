"""Bare sockets for tests: bytes that are there when a call returns, and sockets that won't do."""

import array
import contextlib
import fcntl
import select
import socket
import ssl
import termios
from collections.abc import Callable, Coroutine, Iterator
from types import ModuleType
from typing import Any

import pytest

import netio
from netio._readiness import DescriptorReadiness

READS: dict[str, Callable[..., Coroutine[Any, Any, bytes]]] = {
    "read_bytes": lambda sock, **options: netio.read_bytes(sock, 100, **options),
    "readuntil": lambda sock, **options: netio.readuntil(sock, b"\n", **options),
}


def unread(sock: socket.socket) -> int:
    count = array.array("i", [0])
    fcntl.ioctl(sock.fileno(), termios.FIONREAD, count)
    return count[0]


def deliver(far: socket.socket, near: socket.socket, data: bytes) -> None:
    """Send, and have it in the kernel on the other side when this returns."""
    expected = unread(near) + len(data)
    far.sendall(data)
    while unread(near) < expected:
        pass


def what_is_in(sock: socket.socket) -> bytes:
    """All that is in the kernel, up to an end or a failure; it is taken out."""
    found = b""
    with contextlib.suppress(BlockingIOError, ConnectionError):
        while chunk := sock.recv(1 << 20):
            found += chunk
    return found


def reset(far: socket.socket, near: socket.socket) -> None:
    """Cut the connection, and have `near` know when this returns."""
    with contextlib.suppress(BlockingIOError):  # enough is there
        near.send(b"!")  # a Unix socket resets when it is closed over bytes that were not read
    far.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    far.close()
    poll = select.poll()
    poll.register(near, 0)
    assert poll.poll(5000)


def fill(sock: socket.socket) -> int:
    total = 0
    with contextlib.suppress(BlockingIOError):
        while True:
            total += sock.send(b"~" * 65536)
    return total


def has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6) as sock:
            sock.bind(("::1", 0))
    except OSError:
        return False
    return True


HAS_IPV6 = has_ipv6()


@contextlib.contextmanager
def full_listener(host: str = "127.0.0.1", port: int = 0) -> Iterator[tuple[str, int]]:
    """A black hole: its backlog is full, and the kernel drops what would connect."""
    with contextlib.ExitStack() as opened:
        listening = opened.enter_context(socket.socket())
        listening.bind((host, port))
        listening.listen(0)
        address = listening.getsockname()
        for _ in range(8):
            sock = opened.enter_context(socket.socket())
            sock.setblocking(False)
            sock.connect_ex(address)
        yield address


class Known(DescriptorReadiness):
    """What a call waits by; that of the last call is `Known.last`."""

    last: "Known | None" = None

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        Known.last = self

    @property
    def waits(self) -> bool:
        return any(waiter.waiting for waiter in self.waiters)

    def reach_limit(self) -> None:
        """The limit of the call is reached, and the timer rings now."""
        for waiter in self.waiters:
            waiter._own = waiter.deadline = self.loop.time() - 0.001  # type: ignore[attr-defined]
        self.ring()

    def ring(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._ring()


@contextlib.contextmanager
def known_readiness(module: ModuleType, kind: type[Known] = Known) -> Iterator[None]:
    """What `module` waits by is known."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "DescriptorReadiness", kind)
        Known.last = None
        yield


@contextlib.contextmanager
def bad_sock(kind: str) -> Iterator[object]:
    with contextlib.ExitStack() as opened:
        if kind == "datagram":
            sock, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
            opened.enter_context(other)
        elif kind == "ssl":
            sock = ssl.create_default_context().wrap_socket(
                socket.socket(), server_hostname="x", do_handshake_on_connect=False
            )
        elif kind in ("blocking", "with a timeout"):
            sock, other = socket.socketpair()
            opened.enter_context(other)
        else:
            sock = socket.socket()
        opened.enter_context(sock)
        sock.setblocking(kind == "blocking")
        if kind == "with a timeout":
            sock.settimeout(1.0)
        if kind == "closed":
            sock.close()
        if kind == "listening":
            sock.bind(("127.0.0.1", 0))
            sock.listen(1)
            client = opened.enter_context(socket.create_connection(sock.getsockname()))
            assert client
        if kind == "connecting":
            sock.connect_ex(opened.enter_context(full_listener()))
        yield sock


BAD_SOCKS = {
    "blocking": (ValueError, "sock must be non-blocking"),
    "with a timeout": (ValueError, "sock must be non-blocking"),
    "closed": (ValueError, "sock is closed"),
    "unconnected": (ValueError, "sock must be connected"),
    "connecting": (ValueError, "sock must be connected"),
    "listening": (ValueError, "sock must be connected"),
    "datagram": (ValueError, "sock must be a stream socket"),
    "ssl": (TypeError, "sock must be a plain socket"),
}
