"""The load: a process of its own that opens connections, sends, waits for answers and counts them.

It is told what to do in lines of JSON on stdin, answers each with one line on stdout, and ends
when stdin does. Every wait is bounded. It uses epoll directly, because what it costs itself
decides how many requests the measured process finds waiting. It imports the standard library
only, so that it starts fast.
"""

from __future__ import annotations

import json
import select
import socket
import ssl
import struct
import sys
import time
from collections import deque

HOST = "127.0.0.1"
MESSAGE_BYTES = 64
MESSAGE = b"x" * MESSAGE_BYTES
STALL_SECONDS = 15  # no answer for so long: something hangs
OPENED_AT_ONCE = 100  # fits into every backlog
CLOSED_AT_ONCE = 16
POUR = bytes(1024 * 1024)


class Load:
    """What a load process holds: its connections, and a listener for clients that are measured."""

    def __init__(self) -> None:
        # First of all, so that select() can wait for it: that takes descriptors below 1024.
        self.epoll = select.epoll()
        self.listener = socket.create_server((HOST, 0))
        self.listener.settimeout(STALL_SECONDS)
        self.sockets: dict[int, socket.socket] = {}
        self.message = b""

    # Against a server that is measured.

    def connect(
        self,
        port: int,
        connections: int,
        size: int,
        tls: bool = False,
        datagrams: bool = False,
    ) -> dict[str, object]:
        """Open connections, and exchange one message on each: the server has it, and waits."""
        self.message = b"x" * size
        dial_one = dial_datagrams if datagrams else dial
        while connections:
            opened = [dial_one(port) for _ in range(min(connections, OPENED_AT_ONCE))]
            connections -= len(opened)
            if tls:
                opened = [encrypted(sock) for sock in opened]
            for sock in opened:
                sock.sendall(self.message)
            for sock in opened:
                receive(sock, size)
                # A timeout of Python's would add a poll() to each operation.
                sock.setblocking(tls or size > MESSAGE_BYTES)
                self.epoll.register(sock, select.EPOLLIN)
                self.sockets[sock.fileno()] = sock
        return {}

    def drive(self, requests: int, think: float) -> dict[str, object]:
        """Have `requests` answered, and tell how long that took."""
        begin = time.perf_counter()
        if think:
            self.think(requests, think)
        else:
            self.keep_in_flight(requests)
        return {"wall": time.perf_counter() - begin, "done": requests}

    def keep_in_flight(self, requests: int) -> None:
        """One request of each connection at any time, until all were sent."""
        sockets, message, size = self.sockets, self.message, len(self.message)
        for sock in list(sockets.values())[:requests]:
            sock.sendall(message)
        sent, answered = min(len(sockets), requests), 0
        while answered < requests:
            events = self.epoll.poll(STALL_SECONDS)
            if not events:
                raise TimeoutError(f"no answer for {STALL_SECONDS} s")
            for descriptor, _ in events:
                sock = sockets[descriptor]
                receive(sock, size)
                answered += 1
                if sent < requests:
                    sock.sendall(message)
                    sent += 1

    def think(self, requests: int, seconds: float) -> None:
        """Each connection waits `seconds` between an answer and the next request."""
        sockets, poll, clock = self.sockets, self.epoll.poll, time.perf_counter
        start, apart = clock(), seconds / len(sockets)
        # In the order of time, since everybody thinks equally long.
        due = deque((start + i * apart, sock) for i, sock in enumerate(sockets.values()))
        sent = answered = 0
        while answered < requests:
            now = clock()
            while due and due[0][0] <= now and sent < requests:
                due.popleft()[1].send(MESSAGE)
                sent += 1
            nearest = due[0][0] - now if due and sent < requests else STALL_SECONDS
            # select() counts in microseconds; epoll rounds up to whole milliseconds.
            readable, _, _ = select.select([self.epoll], [], [], nearest)
            if not readable and nearest == STALL_SECONDS:
                raise TimeoutError(f"no answer for {STALL_SECONDS} s")
            for descriptor, _ in poll(0):
                sock = sockets[descriptor]
                receive(sock, MESSAGE_BYTES)
                answered += 1
                due.append((clock() + seconds, sock))

    def come_and_go(self, port: int, connections: int) -> dict[str, object]:
        """Connections that end at once, some at a time, and wait until the server has closed."""
        begin = time.perf_counter()
        waiting: dict[int, socket.socket] = {}
        opened = closed = 0
        while closed < connections:
            while len(waiting) < CLOSED_AT_ONCE and opened < connections:
                sock = dial(port)
                sock.shutdown(socket.SHUT_WR)
                self.epoll.register(sock, select.EPOLLIN)
                waiting[sock.fileno()] = sock
                opened += 1
            events = self.epoll.poll(STALL_SECONDS)
            if not events:
                raise TimeoutError(f"no connection was closed for {STALL_SECONDS} s")
            for descriptor, _ in events:
                with waiting.pop(descriptor) as sock:
                    if sock.recv(1):
                        raise ConnectionError("a server has sent something")
                closed += 1
        return {"wall": time.perf_counter() - begin, "done": connections}

    # For a client that is measured.

    def echo(self) -> dict[str, object]:
        """Accept one connection, and send back what comes until it ends."""
        with self.accept() as sock:
            buffer = bytearray(MESSAGE_BYTES)
            view = memoryview(buffer)
            while n := sock.recv_into(buffer):
                sock.send(view[:n])
        return {}

    def pour(self, total: int) -> dict[str, object]:
        """Accept one connection, send `total` bytes, and wait for its end."""
        with self.accept() as sock, memoryview(POUR) as view:
            while total:
                total -= sock.send(view[: min(total, len(POUR))])
            sock.recv(1)
        return {}

    def accept(self) -> socket.socket:
        sock, _ = self.listener.accept()
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        # The kernel's own limit: a timeout of Python's would add a poll() to each operation.
        sock.settimeout(None)
        for option in (socket.SO_RCVTIMEO, socket.SO_SNDTIMEO):
            sock.setsockopt(socket.SOL_SOCKET, option, struct.pack("ll", STALL_SECONDS, 0))
        return sock


def dial(port: int) -> socket.socket:
    sock = socket.create_connection((HOST, port), STALL_SECONDS)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return sock


def dial_datagrams(port: int) -> socket.socket:
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.connect((HOST, port))
    sock.settimeout(STALL_SECONDS)
    return sock


def encrypted(sock: socket.socket) -> ssl.SSLSocket:
    """`sock` with TLS, whoever answers."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context.wrap_socket(sock)


def receive(sock: socket.socket, size: int) -> None:
    """One answer. A small one was sent whole, so over loopback it comes whole."""
    n = len(sock.recv(size))
    while 0 < n < size and size > MESSAGE_BYTES:
        more = len(sock.recv(size - n))
        n = n + more if more else 0
    if n != size:
        raise ConnectionError(f"a server has answered {n} bytes instead of {size}")


def main() -> None:
    load = Load()
    print(json.dumps({"port": load.listener.getsockname()[1]}), flush=True)
    for line in sys.stdin:
        request = json.loads(line)
        answer = getattr(load, request.pop("do"))(**request)
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
