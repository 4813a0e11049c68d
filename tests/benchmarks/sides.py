"""What is compared: the sides of each family of workloads, by name, and what a table calls them."""

from __future__ import annotations

import blocks
import buffered
import ping_pong
import scopes
import servers
import tls_servers

# A side named `trio` brings its own loop; one that is a plain function needs none.
FAMILIES = {
    "echo": servers.ECHO,
    "connect": servers.CONNECT,
    "datagrams": servers.DATAGRAMS,
    "ping-pong": ping_pong.SIDES,
    "buffered": buffered.READS,
    "lines": buffered.LINES,
    "blocks": blocks.SIDES,
    "tls-echo": tls_servers.sides(64),
    "tls-echo-64k": tls_servers.sides(64 * 1024),
    "scope": scopes.SIDES,
}

TEXTS = {
    "netio": "netio, a timeout on each call",
    "netio_into": "netio read_into, a timeout on each call",
    "protocol": "asyncio BufferedProtocol, no timeouts",
    "streams": "asyncio streams, no timeouts",
    "streams_timeout": "asyncio streams, asyncio.timeout",
    "streams_wait_for": "asyncio streams, asyncio.wait_for",
    "datagram_protocol": "asyncio DatagramProtocol, no timeouts",
    "queue": "asyncio.Queue of one, no timeouts",
    "queue_timeout": "asyncio.Queue of one, asyncio.timeout",
    "aiofastnet": "streams on aiofastnet, no timeouts",
    "anyio": "anyio, fail_after",
    "trio": "trio, fail_after",
    "blocking": "blocking sockets, settimeout",
    "blocking_into": "blocking recv_into, settimeout",
    "netio_timeout": "async with netio.timeout(30)",
    "asyncio_timeout": "async with asyncio.timeout(30)",
    "bare": "no limit at all",
}

# The netio side that another side is held against, where it is not the one named `netio`.
OURS = {
    "blocking_into": "netio_into",
    "asyncio_timeout": "netio_timeout",
    "bare": "netio_timeout",
}

# What a side needs besides netio, to be installed.
NEEDS = {"anyio": "anyio", "trio": "trio", "aiofastnet": "aiofastnet"}

# Sides that have no use for uvloop; blocking sockets are a reference on both.
STOCK_ONLY = {"trio"}


def ours(name: str) -> str:
    """The netio side that `name` is held against."""
    return OURS.get(name, "netio")


def is_ours(name: str) -> bool:
    """Whether the side is netio itself."""
    return name.startswith("netio")
