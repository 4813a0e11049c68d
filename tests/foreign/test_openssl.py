"""TLS against openssl's own client and server, and curl."""

import asyncio
import contextlib
import datetime
import functools
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import other_programs
import pytest
import secured

import netio

PATIENCE_S = 10
HOST = "127.0.0.1"

versions = pytest.mark.parametrize("version", secured.VERSIONS)


#: What openssl has to say, it says on both.
running = functools.partial(other_programs.running, stderr=asyncio.subprocess.STDOUT)


@pytest.fixture
def files(tmp_path: Path) -> dict[str, str]:
    """The authority, and the certificate with its key, as files."""
    made = {"ca": tmp_path / "ca.pem", "chain": tmp_path / "chain.pem", "key": tmp_path / "key.pem"}
    secured.authority().cert_pem.write_to_path(made["ca"])
    secured.certificate().private_key_pem.write_to_path(made["key"])
    for pem in secured.certificate().cert_chain_pems:
        pem.write_to_path(made["chain"], append=True)
    return {name: str(path) for name, path in made.items()}


def flag(version: str) -> str:
    return f"-tls{version.replace('.', '_')}"


@contextlib.asynccontextmanager
async def s_server(files: dict[str, str], *options: str) -> AsyncIterator[int]:
    async with running_s_server(files, *options) as (_, port):
        yield port


@contextlib.asynccontextmanager
async def running_s_server(
    files: dict[str, str], *options: str
) -> AsyncIterator[tuple[asyncio.subprocess.Process, int]]:
    port = other_programs.free_port()
    command = ["openssl", "s_server", "-accept", f"{HOST}:{port}", "-naccept", "2"]
    files = ["-cert", files["chain"], "-key", files["key"], "-cert_chain", files["chain"]]
    async with running(*command, *files, *options) as process:
        while b"ACCEPT" not in (await process.stdout.readline()):
            pass
        yield process, port


@pytest.mark.foreign("openssl")
@versions
async def test_a_client_talks_to_s_server(version: str, files: dict[str, str]) -> None:
    context = secured.client_context(version)
    context.set_alpn_protocols(["http/1.1", "other"])
    options = (flag(version), "-rev", "-alpn", "other")
    async with s_server(files, *options) as port:
        async with netio.connect_tcp(HOST, port, tls=context, timeout=PATIENCE_S) as stream:
            await stream.write(b"hello\n")
            assert await stream.read_line(timeout=PATIENCE_S) == b"olleh\n"
            assert stream.tls.version == f"TLSv{version}"
            assert stream.tls.alpn == "other"


@pytest.mark.foreign("openssl")
@versions
async def test_s_server_asks_for_a_certificate(version: str, files: dict[str, str]) -> None:
    context = secured.client_context(version)
    secured.authority().issue_cert("client.example").configure_cert(context)
    options = (
        flag(version),
        "-rev",
        "-Verify",
        "1",
        "-CAfile",
        files["ca"],
        "-verify_return_error",
    )
    async with s_server(files, *options) as port:
        async with netio.connect_tcp(HOST, port, tls=context, timeout=PATIENCE_S) as stream:
            await stream.write(b"hello\n")
            assert await stream.read_line(timeout=PATIENCE_S) == b"olleh\n"
        with pytest.raises(netio.TLSError):
            async with netio.connect_tcp(
                HOST, port, tls=secured.client_context(version), timeout=PATIENCE_S
            ) as stream:
                await stream.read_some(timeout=PATIENCE_S)


@pytest.mark.foreign("openssl")
@versions
async def test_a_server_with_another_name_is_refused(version: str, files: dict[str, str]) -> None:
    context = secured.client_context(version)
    async with s_server(files, flag(version), "-rev") as port:
        with pytest.raises(netio.CertificateError, match=r"not valid for 'other\.example'"):
            await netio.connect_tcp(HOST, port, tls=context, server_hostname="other.example")


@pytest.mark.foreign("openssl")
@versions
async def test_a_server_with_an_expired_certificate_is_refused(
    version: str, tmp_path: Path
) -> None:
    past = datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=1)
    expired = secured.authority().issue_cert(HOST, not_after=past)
    file = str(tmp_path / "expired.pem")
    expired.private_key_and_cert_chain_pem.write_to_path(file)
    files = {"chain": file, "key": file}
    async with s_server(files, flag(version), "-rev") as port:
        with pytest.raises(netio.CertificateError, match="expired"):
            await netio.connect_tcp(HOST, port, tls=secured.client_context(version))


@pytest.mark.foreign("openssl")
async def test_s_server_changes_its_keys_and_asks_for_ours(files: dict[str, str]) -> None:
    context = secured.client_context("1.3")
    async with running_s_server(files) as (server, port):
        async with netio.connect_tcp(HOST, port, tls=context, timeout=PATIENCE_S) as stream:
            for number in range(3):
                server.stdin.write(b"K\n")
                async with netio.timeout(PATIENCE_S):
                    while True:  # it drops what it gets together with a K
                        server.stdin.write(b"line\n")
                        async with netio.move_on_after(0.05):
                            assert await stream.read_line() == b"line\n"
                            break
                await stream.write(b"answer %d\n" % number)
                await said(server, b"answer %d" % number)


async def echo(stream: netio.Stream) -> None:
    async for line in stream.lines(timeout=PATIENCE_S):
        await stream.write(b"echo of " + line)


@contextlib.asynccontextmanager
async def s_client(
    server: netio.Server, files: dict[str, str], *options: str
) -> AsyncIterator[asyncio.subprocess.Process]:
    command = ["openssl", "s_client", "-connect", f"{HOST}:{server.port}", "-CAfile", files["ca"]]
    async with running(*command, "-verify_return_error", *options) as process:
        yield process


async def said(process: asyncio.subprocess.Process, text: bytes) -> None:
    seen = []
    async with netio.timeout(PATIENCE_S):
        while line := await process.stdout.readline():
            seen.append(line)
            if text in line:
                return
    raise AssertionError(f"it did not say {text!r}: {b''.join(seen).decode()}")


@pytest.mark.foreign("openssl")
@versions
async def test_s_client_talks_to_a_server(version: str, files: dict[str, str]) -> None:
    context = secured.server_context(version)
    context.set_alpn_protocols(["other"])
    async with netio.serve_tcp(echo, HOST, tls=context, grace=0) as server:
        options = (flag(version), "-alpn", "other", "-verify_hostname", "localhost")
        async with s_client(server, files, *options) as client:
            await said(client, b"ALPN protocol: other")
            client.stdin.write(b"hello\n")
            await said(client, b"echo of hello")


@pytest.mark.foreign("openssl")
async def test_s_client_changes_its_keys_and_asks_for_ours(files: dict[str, str]) -> None:
    async with netio.serve_tcp(echo, HOST, tls=secured.server_context("1.3"), grace=0) as server:
        async with s_client(server, files) as client:
            for number in range(3):
                client.stdin.write(b"K\n")
                await said(client, b"KEYUPDATE")
                client.stdin.write(b"line %d\n" % number)
                await said(client, b"echo of line %d" % number)


@pytest.mark.foreign("openssl")
@versions
async def test_s_client_refuses_another_name(version: str, files: dict[str, str]) -> None:
    failures: list[Exception] = []
    serving = netio.serve_tcp(
        echo,
        HOST,
        tls=secured.server_context(version),
        grace=1,
        on_error=lambda stream, error: failures.append(error),
    )
    async with serving as server:
        async with s_client(server, files, "-verify_hostname", "other.example") as client:
            await client.wait()
    assert [type(error) for error in failures] == [netio.TLSError]
    assert "bad certificate" in str(failures[0]) or "unknown" in str(failures[0])


@pytest.mark.foreign("curl")
async def test_curl_gets_a_page(files: dict[str, str]) -> None:
    async def page(stream: netio.Stream) -> None:
        while await stream.read_line(timeout=PATIENCE_S) != b"\r\n":
            pass
        body = b"x" * 100_000
        head = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\nConnection: close\r\n\r\n" % len(body)
        await stream.write_many([head, body])

    context = secured.server_context()
    assert isinstance(context, ssl.SSLContext)
    async with netio.serve_tcp(page, HOST, tls=context, grace=0) as server:
        url = f"https://localhost:{server.port}/"
        command = ["curl", "--silent", "--show-error", "--ipv4", "--cacert", files["ca"], url]
        async with running(*command) as curl:
            out = await curl.stdout.read()
            assert out == b"x" * 100_000, out[:200]
            assert await curl.wait() == 0
