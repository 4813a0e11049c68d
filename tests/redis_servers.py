"""Real Redis servers: one for a test, in a directory of its own, on each kind of socket."""

import asyncio
import contextlib
import signal
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import example_modules
import secured
from other_programs import PATIENCE_S, free_port
from other_programs import running as program

import netio

HOST = "127.0.0.1"
KINDS = ("tcp", "unix", "tls")
STARTS = 3  # another program may be quicker to take the port

client = example_modules.load("redis_client")


class Server:
    """A running redis-server, and how to connect to it.

    `name` is how errors call it. `process` is its process.
    """

    process: asyncio.subprocess.Process

    def __init__(self, kind: str, place: Path) -> None:
        self.place = place
        self.path = place / "redis.sock"
        self.kind = kind
        self.port = 0 if kind == "unix" else free_port()
        self.name = str(self.path) if kind == "unix" else f"{HOST}:{self.port}"

    @property
    def log(self) -> Path:
        return self.place / "log"

    def command(self) -> list[str]:
        where = {
            "tcp": ["--port", str(self.port), "--bind", HOST],
            "unix": ["--port", "0", "--unixsocket", str(self.path)],
            "tls": ["--port", "0", "--tls-port", str(self.port), "--bind", HOST, *self.secure()],
        }
        own = ["--dir", str(self.place), "--logfile", str(self.log), "--save", ""]
        return ["redis-server", *where[self.kind], *own]

    def secure(self) -> list[str]:
        """With a certificate; none is asked of clients."""
        chain, key, ca = (str(self.place / name) for name in ("chain.pem", "key.pem", "ca.pem"))
        secured.authority().cert_pem.write_to_path(ca)
        secured.certificate().private_key_pem.write_to_path(key)
        secured.certificate().cert_chain_pems[0].write_to_path(chain)
        files = ["--tls-cert-file", chain, "--tls-key-file", key, "--tls-ca-cert-file", ca]
        return [*files, "--tls-auth-clients", "no"]

    def opening(self, **options: Any) -> netio.Opening[netio.Stream]:
        if self.kind == "unix":
            return netio.connect_unix(self.path, **options)
        if self.kind == "tls":
            options["tls"] = secured.contexts()[0]
        return netio.connect_tcp(HOST, self.port, **options)

    @contextlib.asynccontextmanager
    async def connect(self) -> AsyncIterator[Any]:
        async with self.opening(timeout=PATIENCE_S) as stream:
            yield client.Redis(stream)

    async def answers(self) -> bool:
        try:
            async with self.connect() as redis:
                return bool(await redis.execute_many(("PING",), timeout=PATIENCE_S))
        except (netio.ConnectFailed, netio.IncompleteRead, netio.ConnectionLost):
            return False

    @contextlib.contextmanager
    def stopped(self) -> Iterator[None]:
        """It lives, and says nothing."""
        self.process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            with contextlib.suppress(ProcessLookupError):  # it was killed
                self.process.send_signal(signal.SIGCONT)


@contextlib.asynccontextmanager
async def running(kind: str, *options: str) -> AsyncIterator[Server]:
    """A server that answers already."""
    with tempfile.TemporaryDirectory(prefix="netio-") as place:
        for _ in range(STARTS):
            server = Server(kind, Path(place))
            async with program(*server.command(), *options) as server.process:
                deadline = netio.Deadline.after(PATIENCE_S)
                while server.process.returncode is None and deadline.remaining():
                    if await server.answers():
                        yield server
                        return
                    await asyncio.sleep(0.005)
        raise AssertionError(f"redis-server does not start: {server.log.read_text()}")
