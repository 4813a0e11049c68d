"""A resolver that asks name servers itself, by aiodns (c-ares): the extra ``netio-streams[dns]``.

`getaddrinfo` of the system takes a thread for each lookup, and one that is stuck keeps it. This has
one thread for all of them, which c-ares runs; and once it was used, pycares keeps one that closes
resolvers until the process ends.
"""

from __future__ import annotations

import asyncio
import socket
from typing import TYPE_CHECKING, Any, Final

try:
    import aiodns
except ImportError as error:
    raise ImportError("netio.integrations.dns needs aiodns: install netio-streams[dns]") from error

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import TracebackType

# What c-ares says of a name, in the numbers of getaddrinfo; all else is a failure of the servers.
_NO_SUCH_NAME: Final = frozenset(
    {aiodns.error.ARES_ENOTFOUND, aiodns.error.ARES_ENODATA, aiodns.error.ARES_ENONAME}
)


class DnsResolver:
    """Asks name servers, for ``resolver=`` of `netio.connect_tcp`.

    As ``getaddrinfo``, it reads ``/etc/hosts`` first, and orders addresses as RFC 6724 says. It
    belongs to the event loop in which it is first asked; keep one for all connects, since it knows
    which servers answer, and close it in the end.

        async with DnsResolver() as resolver:
            stream = await netio.connect_tcp("example.org", 7000, resolver=resolver)
    """

    def __init__(
        self,
        nameservers: Sequence[str] = (),
        *,
        timeout: float | None = None,
        tries: int | None = None,
    ) -> None:
        """`nameservers`: addresses (``"10.0.0.53"``, ``"10.0.0.53:5353"``); none are the system's.

        `timeout`: seconds that a server has for its answer the first time; None: what the system
        says, or 2. `tries`: how often each is asked; None: what the system says, or 3. That is what
        c-ares does on its own; how long a lookup may take says `netio.Timeouts.resolve`.
        """
        if isinstance(nameservers, str):
            raise TypeError("nameservers must be a list of addresses, not a str")
        self._options: dict[str, Any] = {"nameservers": list(nameservers) or None}
        if timeout is not None:
            self._options["timeout"] = timeout
        if tries is not None:
            self._options["tries"] = tries
        self._resolver: aiodns.DNSResolver | None = None
        self._closed = False

    async def lookup(self, host: str, port: int) -> list[str]:
        """The addresses of `host`; `port` makes no difference.

        Returns: numeric addresses, the preferred one first.

        Raises:
            socket.gaierror: there is no such name, or the servers failed.
            RuntimeError: the resolver is closed, or belongs to another event loop.

        Cancellation: the question is given up; c-ares forgets it when its server has answered, or
        its own tries are over.
        """
        resolver = self._here()
        try:
            found = await resolver.getaddrinfo(host, type=socket.SOCK_STREAM)
        except aiodns.error.DNSError as error:
            number, text = error.args[0], str(error.args[-1])
            known = socket.EAI_NONAME if number in _NO_SUCH_NAME else socket.EAI_AGAIN
            raise socket.gaierror(known, text) from error
        addresses = [node.addr[0] for node in found.nodes]
        return [a.decode() if isinstance(a, bytes) else a for a in addresses]

    async def aclose(self) -> None:
        """Let go of everything; lookups in progress fail. May be repeated.

        Cancellation: it waits for nothing, and so is not cut.
        """
        self._closed = True
        resolver, self._resolver = self._resolver, None
        if resolver is not None:
            await resolver.close()

    def _here(self) -> aiodns.DNSResolver:
        loop = asyncio.get_running_loop()
        if self._closed:
            raise RuntimeError("this DnsResolver is closed")
        if self._resolver is None:
            self._resolver = aiodns.DNSResolver(loop=loop, **self._options)
        elif self._resolver.loop is not loop:
            raise RuntimeError("this DnsResolver belongs to another event loop")
        return self._resolver

    async def __aenter__(self) -> DnsResolver:
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.aclose()
