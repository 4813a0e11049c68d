"""TLS: connecting, serving, what is agreed on, and what is refused."""

import asyncio
import contextlib
import datetime
import logging
import pickle
import random
import socket
import ssl
import tempfile
import warnings
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
import secured
import trustme
from streams import outcome_of

import netio
import netio.testing
from netio._hello import asked_server_name

HOST = "127.0.0.1"
ON_LOOPBACK = "connects over TCP, which takes no time that a test could choose"
pytestmark = pytest.mark.real_time(ON_LOOPBACK)

versions = pytest.mark.parametrize("version", secured.VERSIONS)


async def echo(stream: netio.Stream) -> None:
    async for chunk in stream.chunks():
        await stream.write(chunk)


@contextlib.asynccontextmanager
async def served(
    context: ssl.SSLContext | None = None, handler: Any = echo, **options: Any
) -> AsyncIterator[netio.Server]:
    context = context or secured.server_context()
    async with netio.serve_tcp(handler, HOST, tls=context, grace=0, **options) as server:
        yield server


def connect(server: netio.Server, context: Any = None, **options: Any) -> Any:
    context = context or secured.client_context()
    return netio.connect_tcp(HOST, server.port, tls=context, timeout=5, **options)


@versions
async def test_a_client_and_a_server_talk_and_know_what_was_agreed_on(version: str) -> None:
    async with served(secured.server_context(version)) as server:
        async with connect(server, secured.client_context(version)) as stream:
            await stream.write(b"hello" * 50_000)
            assert await stream.read_exactly(250_000) == b"hello" * 50_000
            info = stream.tls
            assert info is not None
            assert info.version == f"TLSv{version}"
            assert info.server_name == HOST
            assert info.cipher
            assert ("DNS", "localhost") in info.peer_certificate["subjectAltName"]
            assert ssl.DER_cert_to_PEM_cert(info.peer_certificate_der) in [
                pem.bytes().decode() for pem in secured.certificate().cert_chain_pems
            ]


async def test_a_plain_stream_has_no_tls() -> None:
    one, other = netio.stream_pair()
    async with one, other:
        assert one.tls is None


async def test_alpn_is_the_contexts() -> None:
    contexts = secured.server_context(), secured.client_context()
    contexts[0].set_alpn_protocols(["h2", "http/1.1"])
    contexts[1].set_alpn_protocols(["http/1.1"])
    async with served(contexts[0]) as server, connect(server, contexts[1]) as stream:
        assert stream.tls.alpn == "http/1.1"


@versions
async def test_client_certificates_are_the_contexts(version: str) -> None:
    names = []

    async def tell(stream: netio.Stream) -> None:
        names.append(stream.tls.peer_certificate["subjectAltName"])
        await echo(stream)

    contexts = secured.server_context(version), secured.client_context(version)
    contexts[0].verify_mode = ssl.CERT_REQUIRED
    secured.authority().configure_trust(contexts[0])
    secured.authority().issue_cert("client.example").configure_cert(contexts[1])
    async with served(contexts[0], tell) as server, connect(server, contexts[1]) as stream:
        await stream.write(b"x")
        assert await stream.read_exactly(1) == b"x"
    assert names == [(("DNS", "client.example"),)]


@versions
async def test_a_server_refuses_a_client_without_a_certificate(version: str) -> None:
    context = secured.server_context(version)
    context.verify_mode = ssl.CERT_REQUIRED
    async with served(context) as server:
        with pytest.raises(netio.TLSError, match=r"certificate required|handshake failure"):
            async with connect(server, secured.client_context(version)) as stream:
                await stream.read_some()  # in 1.3 the server says it after the client's handshake
        await asyncio.sleep(0.01)
        assert server.statistics().failed == 1


@versions
async def test_a_session_makes_the_next_handshake_a_shorter_one(version: str) -> None:
    contexts = secured.server_context(version), secured.client_context(version)
    async with served(contexts[0]) as server:
        async with connect(server, contexts[1]) as stream:
            await stream.write(b"x")
            await stream.read_exactly(1)
            assert not stream.tls.session_reused
            session = stream.tls.session
        async with connect(server, contexts[1], tls_session=session) as stream:
            await stream.write(b"x")
            await stream.read_exactly(1)
            assert stream.tls.session_reused


@versions
async def test_a_server_knows_which_name_it_was_asked_for(version: str) -> None:
    names = []

    async def tell(stream: netio.Stream) -> None:
        names.append(stream.tls.server_name)

    context = secured.client_context(version)
    async with served(secured.server_context(version), tell) as server:
        for name in (secured.NAME, "localhost", HOST):
            async with connect(server, context, server_hostname=name) as stream:
                assert stream.tls.server_name == name
                assert await stream.read_some() == b""
    assert names == [secured.NAME, "localhost", None]  # an address is not asked for


def test_the_name_is_found_however_the_hello_is_cut_and_nothing_else_is() -> None:
    message = b"".join(hello_records()[1:])
    for size in (1, 2, 7, 100, 5000):
        cuts = [message[at : at + size] for at in range(0, len(message), size)]
        flight = b"".join(b"\x16\x03\x01" + len(cut).to_bytes(2) + cut for cut in cuts)
        assert asked_server_name(flight) == secured.NAME
        assert asked_server_name(flight + b"\x14\x03\x03\x00\x01\x01") == secured.NAME
    whole = b"".join(hello_records())
    for end in range(len(whole)):  # short, it is no name or that one, and never an error
        assert asked_server_name(whole[:end]) in (None, secured.NAME)
    rng = random.Random(1)
    for _ in range(2000):
        changed = bytearray(whole)
        changed[rng.randrange(len(changed))] = rng.randrange(256)
        asked_server_name(changed)


def hello_records() -> tuple[bytes, bytes]:
    """The header of a client's first record, and what is in it."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = secured.client_context().wrap_bio(incoming, outgoing, server_hostname=secured.NAME)
    with contextlib.suppress(ssl.SSLWantReadError):
        tls.do_handshake()
    flight = outgoing.read()
    return flight[:5], flight[5:]


async def test_a_server_chooses_its_certificate_by_the_name_asked_for() -> None:
    def choose(tls: ssl.SSLObject, name: str, context: ssl.SSLContext) -> None:
        asked.append(name)

    asked: list[str] = []
    context = secured.server_context()
    context.sni_callback = choose
    async with served(context) as server:
        async with connect(server, server_hostname=secured.NAME) as stream:
            assert stream.tls.server_name == secured.NAME
    assert asked == [secured.NAME]


# What is refused. ------------------------------------------------------------------------------


def expired() -> trustme.LeafCert:
    past = datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=1)
    return secured.authority().issue_cert(HOST, not_after=past)


REFUSED: dict[str, tuple[Callable[[], trustme.LeafCert], str]] = {
    "wrong name": (lambda: secured.authority().issue_cert("other.example"), "mismatch"),
    "expired": (expired, "expired"),
    "wrong CA": (lambda: trustme.CA().issue_cert(HOST), "unable to get local issuer|self-signed"),
    "self-signed": (lambda: SelfSigned(), "self-signed certificate"),
}


class SelfSigned:
    """An authority that serves as itself."""

    def configure_cert(self, context: ssl.SSLContext) -> None:
        ca = trustme.CA()
        with tempfile.NamedTemporaryFile() as file:
            file.write(ca.private_key_pem.bytes() + ca.cert_pem.bytes())
            file.flush()
            context.load_cert_chain(file.name)


@pytest.mark.parametrize("kind", REFUSED)
@versions
async def test_a_certificate_that_is_not_to_be_trusted_is_refused(kind: str, version: str) -> None:
    make, text = REFUSED[kind]
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    make().configure_cert(context)
    async with served(context) as server:
        with pytest.raises(netio.CertificateError, match=text) as caught:
            await connect(server, secured.client_context(version))
    error = caught.value
    assert isinstance(error, ssl.SSLCertVerificationError)
    assert error.peer == (HOST, server.port)
    assert error.reason == "CERTIFICATE_VERIFY_FAILED"
    assert error.verify_code > 0
    assert error.verify_message in str(error)
    copy = pickle.loads(pickle.dumps(error))
    assert (str(copy), copy.__dict__) == (str(error), error.__dict__)


async def test_the_default_context_refuses_an_unknown_authority() -> None:
    async with served() as server:
        with pytest.raises(netio.CertificateError):
            await connect(server, True)


def old(context: ssl.SSLContext) -> ssl.SSLContext:
    """`context` with versions that are not safe any more, and with what they need."""
    with warnings.catch_warnings(action="ignore", category=DeprecationWarning):
        context.minimum_version = ssl.TLSVersion.TLSv1
        context.maximum_version = ssl.TLSVersion.TLSv1_1
    context.set_ciphers("DEFAULT:@SECLEVEL=0")
    return context


async def test_old_versions_are_refused() -> None:
    async with served(old(secured.server_context())) as server:
        with pytest.raises(netio.TLSError) as caught:
            await connect(server, secured.client_context())
        assert not isinstance(caught.value, netio.CertificateError)
        async with connect(server, old(secured.client_context())) as stream:
            assert stream.tls.version == "TLSv1.1"  # so that this is what was refused


async def test_old_versions_are_refused_by_a_server() -> None:
    async with served() as server:
        with pytest.raises(netio.TLSError, match="protocol version"):
            await connect(server, old(secured.client_context()))


async def test_a_client_that_does_not_speak_tls_is_told_in_the_log(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO, "netio")
    failures = []
    called = []

    async def handler(stream: netio.Stream) -> None:
        called.append(stream)

    async with served(handler=handler, on_error=lambda s, e: failures.append(e)) as server:
        async with netio.connect_tcp(HOST, server.port) as stream:
            await stream.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            await stream.read_all(limit=1000)
    assert not called
    assert [type(error) for error in failures] == [netio.TLSError]
    (record,) = [record for record in caplog.records if record.name == "netio"]
    assert "plain HTTP" in record.getMessage()
    assert record.exc_info is None


async def test_a_server_that_does_not_speak_tls_is_told() -> None:
    async def speak(stream: netio.Stream) -> None:
        await stream.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    async with netio.serve_tcp(speak, HOST) as server:
        with pytest.raises(netio.TLSError, match="does not seem to speak TLS"):
            await connect(server)


async def test_a_peer_that_ends_the_handshake_is_a_lost_connection() -> None:
    async def leave(stream: netio.Stream) -> None:
        await stream.read_some()

    async with netio.serve_tcp(leave, HOST) as server:
        with pytest.raises(netio.ConnectionLost, match="ended the connection in the TLS handshake"):
            await connect(server)


# Limits. ---------------------------------------------------------------------------------------


async def silent(stream: netio.Stream) -> None:
    await stream.read_all(limit=100_000, timeout=5)


async def test_a_handshake_has_a_limit_of_its_own() -> None:
    async with netio.serve_tcp(silent, HOST, grace=0) as server:
        with pytest.raises(netio.DeadlineExceeded) as caught:
            await connect(server, timeouts=netio.Timeouts(handshake=0.05))
    error = caught.value
    assert (error.limit, error.operation, error.seconds) == ("handshake", "handshake", 0.05)


async def test_a_handshake_stands_under_the_limit_of_the_whole() -> None:
    async with netio.serve_tcp(silent, HOST, grace=0) as server:
        with pytest.raises(netio.DeadlineExceeded) as caught:
            await netio.connect_tcp(HOST, server.port, tls=secured.client_context(), timeout=0.05)
    error = caught.value
    assert (error.limit, error.operation) == ("call", "connect_tcp")
    assert "TLS handshake" in str(error)


async def test_a_silent_client_holds_up_nobody_and_is_cut() -> None:
    options = {"timeouts": netio.Timeouts(handshake=0.1)}
    async with served(**options) as server:
        with socket.create_connection((HOST, server.port)) as silent:
            async with connect(server) as stream:
                await stream.write(b"x")
                assert await stream.read_exactly(1) == b"x"
            silent.setblocking(False)
            assert await asyncio.get_running_loop().sock_recv(silent, 100) == b""
        assert server.statistics().failed == 1


async def test_a_cancelled_handshake_leaves_nothing_behind() -> None:
    async with netio.serve_tcp(silent, HOST, grace=0) as server:
        task = asyncio.create_task(connect(server))
        await asyncio.sleep(0.02)
        task.cancel()
        assert isinstance(await outcome_of(task), asyncio.CancelledError)


# Bad input. ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        ({"tls": "yes"}, TypeError, "tls must be an ssl.SSLContext"),
        ({"tls": False}, TypeError, "tls must be an ssl.SSLContext"),
        ({"tls": secured.server_context()}, ValueError, "tls is a context for servers"),
        ({"server_hostname": "x"}, ValueError, "server_hostname is for TLS"),
        ({"tls_session": object()}, ValueError, "tls_session is for TLS"),
        ({"tls": True, "server_hostname": 5}, TypeError, "server_hostname must be a str"),
        ({"tls": True, "server_hostname": ""}, ValueError, "server_hostname"),
        ({"tls": True, "server_hostname": ".x"}, ValueError, "server_hostname"),
        ({"tls": True, "tls_session": 5}, TypeError, "session must be"),
    ],
)
def test_what_can_be_wrong_is_told_before_any_io(
    options: dict[str, Any], error: type[Exception], text: str
) -> None:
    with pytest.raises(error, match=text):
        netio.connect_tcp(HOST, 1, **options)


@pytest.mark.parametrize(
    ("tls", "error", "text"),
    [
        (True, ValueError, "with the server's certificate"),
        (secured.client_context(), ValueError, "tls is a context for clients"),
        (5, TypeError, "tls must be an ssl.SSLContext"),
    ],
)
def test_a_server_needs_a_context_for_servers(tls: Any, error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        netio.serve_tcp(echo, HOST, tls=tls)


async def test_a_session_of_another_context_is_refused_before_any_io() -> None:
    async with served() as server:
        async with connect(server) as stream:
            await stream.write(b"x")
            await stream.read_exactly(1)
            session = stream.tls.session
        with pytest.raises(ValueError, match="session"):
            connect(server, tls_session=session)


async def test_the_socket_of_a_tls_stream_can_be_seen_and_not_taken() -> None:
    async with served() as server, connect(server) as stream:
        assert stream.socket.getpeername() == (HOST, server.port)
        with pytest.raises(TypeError, match="TLS"):
            stream.detach()
