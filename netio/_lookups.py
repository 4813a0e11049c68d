"""Lookups by a resolver of the program's own, for ``resolver=``, under the limits of netio.

The code of somebody else runs in the task that connects, in a scope: what cuts it is a cancel.
"""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Awaitable, Iterable, Sequence
from typing import TYPE_CHECKING, Protocol, TypeVar, runtime_checkable

from netio._errors import DeadlineExceeded
from netio._limits import MARKS
from netio._resolve import Target, numeric_targets
from netio._scopes import timeout_at

if TYPE_CHECKING:
    from netio._operation import Operation

T = TypeVar("T")


@runtime_checkable
class Resolver(Protocol):
    """Looks names up, for ``resolver=`` of `connect_tcp`: an object with this one method.

    `netio.integrations.dns.DnsResolver` is one that asks name servers itself.
    """

    async def lookup(self, host: str, port: int) -> Sequence[str]:
        """The addresses of the name `host`, to which `port` is going to be connected.

        It is not asked for numeric addresses.

        Returns: addresses as text (``"10.0.0.7"``, ``"fd00::7"``), in the order to try them in; the
            families take turns afterwards. None of them is a failure, too.

        Raises:
            OSError: the name does not resolve, a ``socket.gaierror`` for instance. It becomes a
                `ConnectFailed`. Any other error passes through `connect_tcp` as it is.

        Cancellation: comes, too, when the limit of the lookup is reached; let it pass.
        """


def check_resolver(resolver: object) -> None:
    """TypeError for what is neither a `Resolver` nor None."""
    if resolver is not None and (isinstance(resolver, type) or not isinstance(resolver, Resolver)):
        raise TypeError(f"resolver must have a method lookup; {resolver!r} has not")


async def look_up(resolver: Resolver, host: str, port: int, operation: Operation) -> list[Target]:
    """The addresses of `host`, as `resolver` has them.

    Raises `DeadlineExceeded` at the operation's deadline, and ``OSError``.
    """
    asked = _ask(resolver, host, port)
    found = await within(operation, asked, "the resolver has not answered")
    return _targets(resolver, found, port)


async def _ask(resolver: Resolver, host: str, port: int) -> object:
    try:
        return await resolver.lookup(host, port)
    except DeadlineExceeded as error:  # a limit within the resolver: it has failed
        raise OSError(errno.ETIMEDOUT, str(error)) from error


async def within(operation: Operation, work: Awaitable[T], progress: str) -> T:
    """Await `work` that is not netio's, within the limit of `operation`, whose error it is."""
    scope = timeout_at(operation.deadline, name=operation.name)
    try:
        async with scope:
            return await work
    except asyncio.CancelledError as cancelled:
        for mark in MARKS:  # what `work` was about is not what the program has called
            cancelled.__dict__.pop(mark, None)
        raise
    except DeadlineExceeded as error:
        if error.scope is not scope:
            raise
        raise operation.exceeded(asyncio.get_running_loop().time(), progress) from error


def _targets(resolver: Resolver, found: object, port: int) -> list[Target]:
    if isinstance(found, (str, bytes)) or not isinstance(found, Iterable):
        raise TypeError(f"resolver must return a list of addresses, not {found!r}: {resolver!r}")
    targets: list[Target] = []
    for address in found:
        if not isinstance(address, str):
            raise TypeError(f"resolver must return addresses as str, not {address!r}: {resolver!r}")
        numeric = numeric_targets(address, port)
        if not numeric:
            raise ValueError(
                f"resolver must return numeric addresses, not {address!r}: {resolver!r}"
            )
        targets += numeric
    return list(dict.fromkeys(targets))
