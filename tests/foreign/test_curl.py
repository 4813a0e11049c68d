"""The HTTP server of the examples against curl."""

import asyncio
import contextlib
import dataclasses
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import example_modules
import pytest
import secured
import unix_paths
from other_programs import PATIENCE_S, running

import netio

place = unix_paths.place
http_server = example_modules.load("http_server")

HOST = "127.0.0.1"
KINDS = ("tcp", "unix", "tls")
CURL = ("curl", "--silent", "--show-error", "--max-time", str(PATIENCE_S), "--noproxy", "*")

pytestmark = pytest.mark.foreign("curl")
kinds = pytest.mark.parametrize("kind", KINDS)


class Site:
    """A running server, and curl as its client."""

    def __init__(self, server: netio.Server, url: str, options: tuple[str, ...] = ()) -> None:
        self.server = server
        self.url = url
        self.command = (*CURL, *options)

    async def curl(self, *arguments: str, data: bytes | None = None) -> tuple[int | None, str]:
        """Its exit status, and what it has written. `arguments`: URLs are paths here."""
        parts = [self.url + part if part.startswith("/") else part for part in arguments]
        async with running(*self.command, *parts) as process:
            out, _ = await asyncio.wait_for(process.communicate(data), PATIENCE_S)
            return process.returncode, out.decode()

    async def tells(self, *arguments: str, data: bytes | None = None) -> list[str]:
        """For each URL the status, and how many connections were made for it."""
        form = "%{http_code} %{num_connects}\n"
        status, out = await self.curl("--write-out", form, *arguments, data=data)
        assert status == 0, out
        return [line for line in out.splitlines() if line[3:] in (" 0", " 1")]


@contextlib.asynccontextmanager
async def site(kind: str, place: Path, **limits: Any) -> AsyncIterator[Site]:
    options: dict[str, Any] = {"timeouts": dataclasses.replace(http_server.LIMITS, **limits)}
    options["grace"] = 0
    if kind == "unix":
        path = place / "http"
        async with netio.serve_unix(http_server.serve, path, **options) as server:
            yield Site(server, "http://localhost", ("--unix-socket", str(path)))
    elif kind == "tls":
        authority = place / "ca.pem"
        secured.authority().cert_pem.write_to_path(str(authority))
        options["tls"] = secured.contexts()[1]
        async with netio.serve_tcp(http_server.serve, HOST, **options) as server:
            yield Site(server, f"https://{HOST}:{server.port}", ("--cacert", str(authority)))
    else:
        async with netio.serve_tcp(http_server.serve, HOST, **options) as server:
            yield Site(server, f"http://{HOST}:{server.port}")


@kinds
async def test_a_page_is_got_and_its_connection_kept(kind: str, place: Path) -> None:
    async with site(kind, place) as served:
        assert await served.curl("/") == (0, "200 OK\r\n")
        assert await served.tells("/", "/again", "/?and=again") == ["200 1", "200 0", "200 0"]
        assert await served.tells("--head", "/", "/again") == ["200 1", "200 0"]
        assert await served.tells("--http1.0", "/", "/") == ["200 1", "200 1"]
        closing = ("--header", "Connection: close")
        assert await served.tells(*closing, "/", "/") == ["200 1", "200 1"]
        assert served.server.statistics().failed == 0


@kinds
async def test_five_hundred_requests_over_fifty_connections(kind: str, place: Path) -> None:
    async with site(kind, place) as served:
        options = ("--parallel", "--parallel-immediate", "--parallel-max", "50")
        lines = await served.tells(*options, "/[1-500]")
        assert [line[:3] for line in lines] == ["200"] * 500
        made = sum(line.endswith(" 1") for line in lines)
        assert 0 < made <= 50
        assert served.server.statistics().accepted == made


@kinds
async def test_headers_that_are_too_large_are_refused_and_curl_learns_it(
    kind: str, place: Path
) -> None:
    async with site(kind, place) as served:
        for size, answer in ((15_000, ["200 1", "200 0"]), (20_000, ["431 1", "431 1"])):
            assert await served.tells("--header", "X: " + "x" * size, "/", "/") == answer
        many = [part for n in range(3000) for part in ("--header", f"X-{n}: {n:060}")]
        assert await served.tells(*many, "/") == ["431 1"]


@kinds
@pytest.mark.parametrize(
    "options",
    [
        (),  # curl asks first, for it expects "100 Continue"
        ("--header", "Expect:"),
        ("--header", "Expect:", "--header", "Transfer-Encoding: chunked"),
    ],
)
async def test_a_body_is_refused_and_curl_learns_it(
    kind: str, place: Path, options: tuple[str, ...]
) -> None:
    body = b"x" * 3_000_000
    async with site(kind, place) as served:
        assert await served.tells(*options, "--data-binary", "@-", "/", data=body) == ["413 1"]


@kinds
async def test_a_connection_that_was_closed_for_its_silence_is_made_anew(
    kind: str, place: Path
) -> None:
    async with site(kind, place, idle=0.05) as served:
        slowly = ("--rate", "3/s")  # a third of a second between the beginnings of two
        assert await served.tells(*slowly, "/", "/") == ["200 1", "200 1"]


@kinds
async def test_the_server_outlives_a_curl_that_is_killed(kind: str, place: Path) -> None:
    async with site(kind, place) as served:
        async with running(*served.command, f"{served.url}/[1-1000000]") as process:
            async with netio.timeout(PATIENCE_S):
                while not served.server.connections:  # noqa: ASYNC110
                    await asyncio.sleep(0.002)
            process.kill()
            await process.wait()
        assert await served.tells("/") == ["200 1"]
