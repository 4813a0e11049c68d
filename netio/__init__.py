"""netio: network I/O for asyncio in which every operation has a deadline.

async with netio.connect_tcp("example.org", 7000, timeout=5) as stream:
    await stream.write(b"HELLO\\n")
    header = await stream.read_exactly(16, timeout=10)
"""

from netio._bind import (
    bind_udp,
    bind_unix_datagram,
    connect_udp,
    connect_unix_datagram,
    open_datagrams,
)
from netio._carrying import deadline_after_ms, remaining_ms
from netio._channel import PeerCredentials, SocketView
from netio._children import cancel_and_wait, shielded, wait_for
from netio._connect import connect_tcp, open_stream, stream_pair
from netio._datagram import DatagramSocket, DatagramStatistics
from netio._datagram_receiving import Datagram
from netio._defaults import DEFAULT
from netio._engine import TLSInfo
from netio._errors import (
    Address,
    BrokenPipe,
    CertificateError,
    ConnectFailed,
    ConnectionLost,
    ConnectionRefused,
    ConnectionReset,
    DeadlineExceeded,
    IncompleteRead,
    LimitExceeded,
    NetioError,
    StillRunning,
    StreamBusy,
    StreamClosed,
    TLSError,
    TruncatedStream,
)
from netio._iterator import StreamIterator
from netio._limits import Budget, Deadline, Rate, Timeout, Timeouts
from netio._listen import Listener, listen_tcp
from netio._lookups import Resolver
from netio._observer import Observer, observe
from netio._observing import Wait
from netio._opening import Opening
from netio._options import SocketOptions
from netio._proxies import HttpProxy, Proxy, Socks5Proxy
from netio._scopes import (
    Scope,
    current_deadline,
    move_on_after,
    move_on_at,
    remaining,
    timeout,
    timeout_at,
)
from netio._server import Server, ServerStatistics, ShutdownReport, serve_tcp
from netio._shields import shield
from netio._snapshot import (
    OperationSnapshot,
    ScopeSnapshot,
    Snapshot,
    TaskSnapshot,
    snapshot,
)
from netio._sockets import read_bytes, readuntil, write_bytes
from netio._statistics import StreamStatistics
from netio._stream import Stream
from netio._tasks import join
from netio._unix import connect_unix, listen_unix, serve_unix

__all__ = [
    "DEFAULT",
    "Address",
    "BrokenPipe",
    "Budget",
    "CertificateError",
    "ConnectFailed",
    "ConnectionLost",
    "ConnectionRefused",
    "ConnectionReset",
    "Datagram",
    "DatagramSocket",
    "DatagramStatistics",
    "Deadline",
    "DeadlineExceeded",
    "HttpProxy",
    "IncompleteRead",
    "LimitExceeded",
    "Listener",
    "NetioError",
    "Observer",
    "Opening",
    "OperationSnapshot",
    "PeerCredentials",
    "Proxy",
    "Rate",
    "Resolver",
    "Scope",
    "ScopeSnapshot",
    "Server",
    "ServerStatistics",
    "ShutdownReport",
    "Snapshot",
    "SocketOptions",
    "SocketView",
    "Socks5Proxy",
    "StillRunning",
    "Stream",
    "StreamBusy",
    "StreamClosed",
    "StreamIterator",
    "StreamStatistics",
    "TLSError",
    "TLSInfo",
    "TaskSnapshot",
    "Timeout",
    "Timeouts",
    "TruncatedStream",
    "Wait",
    "bind_udp",
    "bind_unix_datagram",
    "cancel_and_wait",
    "connect_tcp",
    "connect_udp",
    "connect_unix",
    "connect_unix_datagram",
    "current_deadline",
    "deadline_after_ms",
    "join",
    "listen_tcp",
    "listen_unix",
    "move_on_after",
    "move_on_at",
    "observe",
    "open_datagrams",
    "open_stream",
    "read_bytes",
    "readuntil",
    "remaining",
    "remaining_ms",
    "serve_tcp",
    "serve_unix",
    "shield",
    "shielded",
    "snapshot",
    "stream_pair",
    "timeout",
    "timeout_at",
    "wait_for",
    "write_bytes",
]
