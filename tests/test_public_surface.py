"""What `import netio` gives, and what it costs."""

import importlib.resources
import subprocess
import sys
import types

import pytest

import netio
import netio.testing

# The contract: what this version has of it. A name is added here when it is promised.
PROMISED = {
    # scopes
    "timeout", "timeout_at", "move_on_after", "move_on_at", "current_deadline", "remaining",
    "shield", "Scope",
    # child tasks
    "join", "wait_for", "cancel_and_wait", "shielded", "StillRunning",
    # limits
    "Deadline", "Budget", "Timeouts", "Rate",
    # carried to another process
    "remaining_ms", "deadline_after_ms",
    # streams
    "connect_tcp", "connect_unix", "open_stream", "stream_pair",
    "Stream", "StreamStatistics", "SocketView", "SocketOptions",
    "Resolver", "Proxy", "Socks5Proxy", "HttpProxy", "PeerCredentials",
    # datagrams
    "bind_udp", "connect_udp", "bind_unix_datagram", "connect_unix_datagram", "open_datagrams",
    "DatagramSocket", "Datagram", "DatagramStatistics",
    # bare sockets
    "read_bytes", "readuntil", "write_bytes",
    # servers
    "serve_tcp", "serve_unix", "Server", "ServerStatistics", "ShutdownReport",
    "listen_tcp", "listen_unix", "Listener",
    # errors
    "NetioError", "DeadlineExceeded", "ConnectFailed", "ConnectionLost", "ConnectionReset",
    "ConnectionRefused",
    "BrokenPipe", "IncompleteRead", "LimitExceeded", "StreamClosed", "StreamBusy",
    "TLSError", "CertificateError", "TruncatedStream",
    # TLS
    "TLSInfo",
    # for those who wrap and annotate
    "DEFAULT", "Timeout", "Address", "Opening", "StreamIterator",
    # for those who watch
    "observe", "Observer", "Wait",
    "snapshot", "Snapshot", "TaskSnapshot", "ScopeSnapshot", "OperationSnapshot",
}  # fmt: skip

PROMISED_FOR_TESTING = {
    # the clock
    "VirtualLoop", "run", "new_event_loop", "Deadlock", "TooManySteps",
    # leaks
    "check_leaks", "LeakCheck", "Leaked",
    # the network in memory, and faults
    "Network", "Link", "Host", "Placement", "Proxy", "WireEvent", "assert_fired",
    "faults",  # a module of its own
    # exploration
    "explore", "explore_here", "replay", "Exploration", "CounterExample", "Stage", "Outcome",
    "Peer", "Event", "events",
    # timelines
    "record", "mark", "Timeline", "TimelineEvent",
    # conformance
    "check_stream", "stream_checks", "check_listener", "listener_checks", "accepted_pairs",
    "check_datagrams", "datagram_checks", "check_accepting", "accepting_checks",
    "Check", "CheckResult", "ConformanceReport", "NotConforming", "Verdict",
}  # fmt: skip

PACKAGES = pytest.mark.parametrize(
    ("package", "promised"),
    [(netio, PROMISED), (netio.testing, PROMISED_FOR_TESTING)],
    ids=["netio", "netio.testing"],
)


def python(program: str) -> str:
    run = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=15
    )
    assert run.stderr == ""
    return run.stdout


@PACKAGES
def test_all_is_what_was_promised(package: types.ModuleType, promised: set[str]) -> None:
    assert set(package.__all__) == promised
    assert len(package.__all__) == len(promised)


@PACKAGES
def test_every_name_exists_and_nothing_else_is_public(
    package: types.ModuleType, promised: set[str]
) -> None:
    public = {
        name
        for name, value in vars(package).items()
        if name in package.__all__
        or (not name.startswith("_") and not isinstance(value, types.ModuleType))
    }
    assert public == promised


@PACKAGES
def test_every_public_class_says_that_it_is_of_netio_in_its_errors(
    package: types.ModuleType, promised: set[str]
) -> None:
    for name in promised:
        value = getattr(package, name)
        if isinstance(value, type):
            assert value.__module__.startswith("netio"), name


def test_types_are_part_of_the_package() -> None:
    assert importlib.resources.files("netio").joinpath("py.typed").is_file()


def test_importing_netio_does_not_import_ssl_before_it_is_needed() -> None:
    """asyncio imports ssl itself, so what matters is what netio adds to that."""
    program = (
        "import sys, asyncio; before = set(sys.modules); import netio;"
        "print(*sorted(m for m in set(sys.modules) - before if not m.startswith('netio')))"
    )
    added = set(python(program).split())
    assert not added & {"ssl", "_ssl", "typing_extensions", "multiprocessing", "http", "email"}
    assert len(added) < 12, added


def test_the_modules_of_netio_do_not_mention_ssl_at_import() -> None:
    program = (
        "import sys, types\n"
        "class Refuse:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name in ('ssl', '_ssl'):\n"
        "            raise ImportError(name)\n"
        "sys.meta_path.insert(0, Refuse())\n"
        "import netio\n"
        "print('ssl' in sys.modules)"
    )
    assert python(program).strip() == "False"


def test_importing_netio_opens_nothing_and_starts_nothing() -> None:
    program = (
        "import os, threading, asyncio, socket\n"
        "before = os.listdir('/proc/self/fd')\n"
        "import netio\n"
        "assert os.listdir('/proc/self/fd') == before\n"
        "assert threading.active_count() == 1\n"
        "print('fine')"
    )
    assert python(program) == "fine\n"


def test_the_test_kit_is_imported_when_it_is_asked_for_and_then_asks_for_little() -> None:
    program = (
        "import sys, netio; assert 'netio.testing' not in sys.modules\n"
        "before = set(sys.modules); import netio.testing\n"
        "print(*sorted(m for m in set(sys.modules) - before if not m.startswith('netio')))"
    )
    added = set(python(program).split())
    assert not added & {"pytest", "anyio", "unittest", "http", "email", "json", "multiprocessing"}
    assert len(added) < 12, added
