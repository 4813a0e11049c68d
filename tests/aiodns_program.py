"""Has aiodns look names up, asking a name server that is here: run by `test_resolver.py`."""

import asyncio
import socket
import sys

import pytest
from conftest import loop_factory_of
from footprint import footprint, settled
from streams import outcome_of

import netio
from netio.integrations.dns import DnsResolver


async def greet(stream: netio.Stream) -> None:
    await stream.write(b"hello")


async def names_are_asked_of_servers() -> None:
    before = footprint()
    async with netio.serve_tcp(greet, "127.0.0.1", grace=0) as server:
        with NameServer({"known.example": "127.0.0.1"}) as name_server:
            async with DnsResolver([name_server.address], tries=1, timeout=0.2) as resolver:
                for host, limit in (
                    ("known.example", 5),
                    ("unknown.example", 5),
                    ("silent.example", 0.05),
                ):
                    connecting = netio.connect_tcp(
                        host, server.port, resolver=resolver, timeout=limit
                    )
                    outcome = await outcome_of(connecting)
                    if host == "known.example":
                        assert isinstance(outcome, netio.Stream)
                        assert await outcome.read_exactly(5) == b"hello"
                        await outcome.aclose()
                    elif host == "unknown.example":
                        assert isinstance(outcome, netio.ConnectFailed)
                        assert isinstance(outcome.attempts[0], socket.gaierror)
                        assert outcome.attempts[0].errno == socket.EAI_NONAME
                    else:
                        assert isinstance(outcome, netio.DeadlineExceeded)
                        assert outcome.limit == "call"
    assert await settled(before) == before


class NameServer:
    """Knows the addresses of some names, and never answers for ``silent.example``."""

    def __init__(self, names: dict[str, str]) -> None:
        self.names = names
        self.sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.sock.bind(("127.0.0.1", 0))
        self.sock.setblocking(False)
        self.address = f"127.0.0.1:{self.sock.getsockname()[1]}"

    def __enter__(self) -> "NameServer":
        asyncio.get_running_loop().add_reader(self.sock, self.answer)
        return self

    def __exit__(self, *_: object) -> None:
        asyncio.get_running_loop().remove_reader(self.sock)
        self.sock.close()

    def answer(self) -> None:
        query, peer = self.sock.recvfrom(512)
        labels, at = [], 12
        while query[at]:
            labels.append(query[at + 1 : at + 1 + query[at]].decode())
            at += 1 + query[at]
        question = query[12 : at + 5]
        host, kind = ".".join(labels), int.from_bytes(query[at + 1 : at + 3], "big")
        if host == "silent.example":
            return
        address = self.names.get(host)
        records = b""
        if address is not None and kind == 1:
            records = b"\xc0\x0c\0\1\0\1\0\0\0\x3c\0\4" + socket.inet_aton(address)
        flags = b"\x81\x80" if address is not None else b"\x81\x83"  # NXDOMAIN
        counts = b"\0\1" + (b"\0\1" if records else b"\0\0") + bytes(4)
        self.sock.sendto(query[:2] + flags + counts + question + records, peer)


async def a_wrong_one_is_refused() -> None:
    """One that is closed, or belongs to another loop."""
    with pytest.raises(TypeError, match="nameservers"):
        DnsResolver("127.0.0.1")
    resolver = DnsResolver(["127.0.0.1:1"])
    with pytest.raises(socket.gaierror):
        await resolver.lookup("any.example", 7)
    with pytest.raises(RuntimeError, match="another event loop"):
        await asyncio.to_thread(asyncio.run, resolver.lookup("any.example", 7))
    await resolver.aclose()
    await resolver.aclose()
    with pytest.raises(RuntimeError, match="closed"):
        await resolver.lookup("any.example", 7)


if __name__ == "__main__":
    part, variant = sys.argv[1:]
    with asyncio.Runner(loop_factory=loop_factory_of(variant)) as runner:
        runner.run(globals()[part]())
