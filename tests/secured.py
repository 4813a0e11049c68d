"""TLS for tests: certificates, contexts for both sides, and pairs of streams that speak it."""

import asyncio
import functools
import ssl
from typing import Any

import streams
import trustme

import netio

VERSIONS = {"1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3}
NAME = "server.example"

Pair = tuple[netio.Stream, netio.Stream]


@functools.cache
def authority() -> trustme.CA:
    """The one that both sides trust; made once, since making a key takes a while."""
    return trustme.CA()


@functools.cache
def certificate() -> trustme.LeafCert:
    return authority().issue_cert(NAME, "localhost", "127.0.0.1", "::1")


def server_context(version: str | None = None) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    certificate().configure_cert(context)
    return _of_version(context, version)


def client_context(version: str | None = None) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    authority().configure_trust(context)
    return _of_version(context, version)


@functools.cache
def contexts(version: str | None = None) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """Those of a client and a server, which nobody changes: reading certificates takes a while."""
    return client_context(version), server_context(version)


def _of_version(context: ssl.SSLContext, version: str | None) -> ssl.SSLContext:
    if version is not None:
        context.minimum_version = context.maximum_version = VERSIONS[version]
    return context


async def secure(pair: Pair, version: str | None = None, **options: Any) -> Pair:
    """Both ends of `pair` after a handshake, the first as the client."""
    client, server = pair
    ours, theirs = contexts(version)
    await asyncio.gather(
        client.start_tls(ours, server_hostname=NAME, **options),
        server.start_tls(theirs, server_side=True),
    )
    return pair


async def make_pair(
    kind: str, version: str | None = None, *, times: int = 1, **options: Any
) -> Pair:
    """Two connected streams over TLS; `options` are those of `streams.make_pair`."""
    pair = streams.make_pair(kind, **options)
    try:
        for _ in range(times):
            await secure(pair, version)
    except BaseException:
        for stream in pair:
            stream.abort()
        raise
    return pair
