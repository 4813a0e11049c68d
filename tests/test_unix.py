"""Unix sockets: the names they have, the files they leave, and a backlog that is full."""

import asyncio
import errno
import os
import socket
import stat
from pathlib import Path
from typing import Any

import pytest
import unix_paths

import netio
from netio.testing import Link, Network, faults

place = unix_paths.place

ABSTRACT = pytest.mark.skipif(os.uname().sysname != "Linux", reason="only Linux has them")


async def echo(stream: netio.Stream) -> None:
    async for chunk in stream.chunks():
        await stream.write(chunk)


async def echoes(stream: netio.Stream) -> None:
    await stream.write(b"hello")
    assert await stream.read_exactly(5) == b"hello"


# Names. ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", [str, Path, os.fsencode])
async def test_a_path_may_be_a_str_bytes_or_a_path(place: Path, form: Any) -> None:
    path = form(place / "s")
    async with netio.serve_unix(echo, path) as server:
        assert server.addresses == (str(place / "s"),)
        async with netio.connect_unix(path) as stream:
            assert stream.peer == str(place / "s")
            await echoes(stream)


@ABSTRACT
@pytest.mark.parametrize("form", [bytes, os.fsdecode])
async def test_an_abstract_name_makes_no_file(form: Any) -> None:
    name = unix_paths.abstract_name()
    async with netio.serve_unix(echo, form(name)) as server:
        assert server.addresses == (name,)
        async with netio.connect_unix(form(name)) as stream:
            await echoes(stream)
            assert stream.peer == name
            assert repr(stream) == f"<netio.Stream open peer=@{os.fsdecode(name[1:])}>"
    assert not Path(f"@{os.fsdecode(name[1:])}").exists()


LONGEST = 107


async def test_the_longest_path_works_and_one_byte_more_is_refused_at_the_call(place: Path) -> None:
    path = str(place / ("x" * (LONGEST - 1 - len(str(place)))))
    assert len(path) == LONGEST
    async with netio.serve_unix(echo, path), netio.connect_unix(path) as stream:
        await echoes(stream)
    for call in (
        lambda: netio.connect_unix(path + "x"),
        lambda: netio.listen_unix(path + "x"),
        lambda: netio.serve_unix(echo, path + "x"),
    ):
        with pytest.raises(ValueError, match="path must be at most 107 bytes, and has 108"):
            call()


@ABSTRACT
async def test_the_longest_abstract_name_is_one_byte_longer() -> None:
    name = unix_paths.abstract_name().ljust(108, b"x")
    async with netio.serve_unix(echo, name), netio.connect_unix(name) as stream:
        await echoes(stream)
    with pytest.raises(ValueError, match="path must be at most 108 bytes"):
        netio.connect_unix(name + b"x")


BAD_PATHS = {
    "empty": ("", ValueError, "path must not be empty"),
    "a NUL and nothing": (b"\0", ValueError, "path must not be empty"),
    "a NUL inside": ("/tmp/a\0b", ValueError, "path must not contain NUL"),
    "a number": (5, TypeError, "path must be a str, bytes or PathLike, not int"),
}


@pytest.mark.parametrize("kind", BAD_PATHS)
def test_a_path_that_is_none_is_refused_at_the_call(kind: str) -> None:
    path, error, text = BAD_PATHS[kind]
    for call in (netio.connect_unix, netio.listen_unix, lambda p: netio.serve_unix(echo, p)):
        with pytest.raises(error, match=text):
            call(path)


def test_what_stands_instead_of_what_is_said_at_the_call(place: Path) -> None:
    with socket.socket(socket.AF_UNIX) as sock:
        with pytest.raises(ValueError, match="sock must be bound"):
            netio.listen_unix(sock=sock)
        sock.bind(str(place / "s"))
        with pytest.raises(ValueError, match="sock stands instead of path, mode and network"):
            netio.listen_unix(place / "t", sock=sock)
        with pytest.raises(ValueError, match="sock stands instead of path, mode and network"):
            netio.serve_unix(echo, sock=sock, mode=0o600)
    with pytest.raises(TypeError, match="path must be given, or sock"):
        netio.listen_unix()
    with socket.socket() as sock, pytest.raises(ValueError, match="sock must be a Unix stream"):
        netio.listen_unix(sock=sock)
    one, other = socket.socketpair()
    with one, other, pytest.raises(ValueError, match="sock must be"):
        netio.listen_unix(sock=one)
    with pytest.raises(TypeError, match="network must have dial_unix and listen_unix"):
        netio.connect_unix("x", network=object())  # type: ignore[arg-type]
    for mode, error in ((0o1000, ValueError), (-1, ValueError), ("600", TypeError)):
        with pytest.raises(error, match="mode must be"):
            netio.listen_unix("x", mode=mode)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="mode: an abstract name has no permissions"):
        netio.listen_unix(b"\0x", mode=0o600)


# Connecting. ----------------------------------------------------------------------------------


async def test_a_path_that_is_not_there_is_a_connect_that_failed(place: Path) -> None:
    with pytest.raises(netio.ConnectFailed, match=r"connect_unix to .*: No such file") as caught:
        await netio.connect_unix(place / "none")
    assert caught.value.errno == errno.ENOENT
    assert len(caught.value.attempts) == 1


async def test_a_socket_that_nobody_listens_on_refuses(place: Path) -> None:
    unix_paths.leave_stale(place / "s")
    with pytest.raises(netio.ConnectFailed, match="refused") as caught:
        await netio.connect_unix(place / "s")
    assert caught.value.errno == errno.ECONNREFUSED


def full_backlog(path: Path) -> tuple[socket.socket, list[socket.socket]]:
    """A listener whose backlog is full, and the clients that fill it."""
    listening = socket.socket(socket.AF_UNIX)
    listening.bind(str(path))
    listening.listen(0)
    clients = []
    while True:
        client = socket.socket(socket.AF_UNIX)
        client.setblocking(False)
        clients.append(client)
        if client.connect_ex(str(path)):
            return listening, clients


@pytest.mark.real_time("the kernel's backlog is what is full")
async def test_a_full_backlog_is_waited_for_without_spinning(place: Path) -> None:
    listening, clients = full_backlog(place / "s")
    loop = asyncio.get_running_loop()
    try:
        began = loop.time()
        cpu = os.times()
        with pytest.raises(netio.DeadlineExceeded, match="the listener's backlog is full") as e:
            await netio.connect_unix(place / "s", timeout=0.2)
        assert e.value.limit == "call"
        assert 0.199 < loop.time() - began < 1.0  # uvloop counts milliseconds
        spent = sum(os.times()[:2]) - sum(cpu[:2])
        assert spent < 0.1  # it would be all of it
        connecting = asyncio.ensure_future(netio.connect_unix(place / "s", timeout=5))
        await asyncio.sleep(0.01)
        assert not connecting.done()
        listening.accept()[0].close()
        (await connecting).abort()
    finally:
        for sock in (listening, *clients):
            sock.close()


@pytest.mark.real_time("the kernel's backlog is what is full")
async def test_a_cancel_while_the_backlog_is_full_leaves_nothing(place: Path) -> None:
    listening, clients = full_backlog(place / "s")
    try:
        connecting = asyncio.ensure_future(netio.connect_unix(place / "s", timeout=5))
        await asyncio.sleep(0.005)
        connecting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await connecting
        async with netio.move_on_after(0.01) as scope:
            await netio.connect_unix(place / "s", timeout=5)
        assert scope.caught
        began = asyncio.get_running_loop().time()
        with pytest.raises(netio.DeadlineExceeded):
            await netio.connect_unix(place / "s", timeout=0)
        assert asyncio.get_running_loop().time() - began < 1
    finally:
        for sock in (listening, *clients):
            sock.close()


# Files. ---------------------------------------------------------------------------------------


async def test_what_a_killed_program_has_left_is_replaced(place: Path) -> None:
    unix_paths.leave_stale(place / "s")
    async with netio.serve_unix(echo, place / "s"):
        async with netio.connect_unix(place / "s") as stream:
            await echoes(stream)
    assert not (place / "s").exists()


async def test_a_socket_that_is_in_use_is_left_alone(place: Path) -> None:
    async with netio.serve_unix(echo, place / "s"):
        with pytest.raises(OSError, match=r"cannot listen on .*/s: Address already in use") as e:
            await netio.listen_unix(place / "s")
        assert e.value.errno == errno.EADDRINUSE
        async with netio.connect_unix(place / "s") as stream:
            await echoes(stream)


async def test_one_with_a_full_backlog_is_in_use(place: Path) -> None:
    listening, clients = full_backlog(place / "s")
    with pytest.raises(OSError, match="in use"):
        await netio.listen_unix(place / "s")
    assert (place / "s").exists()
    for sock in (listening, *clients):
        sock.close()


async def test_a_socket_of_another_type_is_in_use(place: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as other:
        other.bind(str(place / "s"))
        with pytest.raises(OSError, match="in use"):
            await netio.listen_unix(place / "s")
    assert (place / "s").exists()


@pytest.mark.parametrize("kind", ["a file", "a directory", "a link to nothing"])
async def test_what_is_no_socket_is_left_alone(place: Path, kind: str) -> None:
    path = place / "s"
    if kind == "a file":
        path.write_text("precious")
    elif kind == "a directory":
        path.mkdir()
    else:
        path.symlink_to("nowhere")
    before = os.lstat(path)
    with pytest.raises(
        OSError, match=r"cannot listen on .*/s: there is a file, and it is no socket"
    ):
        await netio.listen_unix(place / "s")
    assert os.lstat(path) == before


async def test_a_directory_that_is_not_there_is_said(place: Path) -> None:
    with pytest.raises(OSError, match=r"cannot listen on .*No such file") as caught:
        await netio.listen_unix(place / "none" / "s")
    assert caught.value.errno == errno.ENOENT


async def test_the_own_file_is_removed_and_no_other(place: Path) -> None:
    path = place / "s"
    async with netio.listen_unix(path) as first:
        os.unlink(path)
        async with netio.listen_unix(path):
            await first.aclose()
            assert path.exists()
            async with netio.connect_unix(path):
                pass
        assert not path.exists()


async def test_a_relative_path_is_removed_though_the_directory_was_changed(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(place)
    async with netio.listen_unix("s"):
        monkeypatch.chdir("/")
    assert not (place / "s").exists()


@pytest.mark.parametrize("mode", [0o600, 0o666])
async def test_the_permissions_are_those_that_were_said(place: Path, mode: int) -> None:
    async with netio.listen_unix(place / "s", mode=mode):
        assert stat.S_IMODE(os.stat(place / "s").st_mode) == mode


async def test_a_listener_that_can_not_be_made_leaves_no_file(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(errno.EPERM, "no")

    with monkeypatch.context() as patch:
        patch.setattr(os, "chmod", refuse)
        with pytest.raises(PermissionError):
            await netio.listen_unix(place / "s", mode=0o600)
        assert not (place / "s").exists()
        patch.setattr("netio._unix_network.start_listening", refuse)
        with pytest.raises(PermissionError):
            await netio.listen_unix(place / "s")
        assert not (place / "s").exists()


async def test_a_socket_that_was_handed_over_keeps_its_file(place: Path) -> None:
    sock = socket.socket(socket.AF_UNIX)
    sock.bind(str(place / "s"))
    async with netio.serve_unix(echo, sock=sock):
        async with netio.connect_unix(place / "s") as stream:
            await echoes(stream)
    assert (place / "s").exists()
    assert sock.fileno() == -1


# Servers. -------------------------------------------------------------------------------------


async def test_a_server_on_a_path_has_no_port_and_removes_its_file(place: Path) -> None:
    async with netio.serve_unix(echo, place / "s") as server:
        with pytest.raises(ValueError, match="has no port"):
            assert server.port
    assert not (place / "s").exists()
    with pytest.raises(netio.ConnectFailed):
        await netio.connect_unix(place / "s")


# On the network of the test kit. --------------------------------------------------------------


@pytest.mark.virtual_clock
async def test_a_network_in_memory_has_unix_sockets_that_no_file_is_made_for(place: Path) -> None:
    network = Network(link=Link(latency=1.0))
    began = asyncio.get_running_loop().time()
    async with netio.serve_unix(echo, place / "s", network=network, mode=0o600) as server:
        assert server.addresses == (str(place / "s"),)
        assert not (place / "s").exists()
        async with netio.connect_unix(place / "s", network=network) as stream:
            assert asyncio.get_running_loop().time() - began == 2.0
            assert (stream.local, stream.peer) == (None, str(place / "s"))
            await echoes(stream)
            [handled] = server.connections
            assert (handled.local, handled.peer) == (str(place / "s"), None)
        with pytest.raises(OSError, match=r"cannot listen on .*/s: Address already in use") as e:
            await netio.listen_unix(place / "s", network=network)
        assert e.value.errno == errno.EADDRINUSE
    with pytest.raises(netio.ConnectFailed) as refused:
        await netio.connect_unix(place / "s", network=network)
    assert refused.value.errno == errno.ENOENT
    async with netio.listen_unix(place / "s", network=network):
        pass


@pytest.mark.virtual_clock
async def test_faults_of_a_network_in_memory_fall_on_unix_sockets_too(place: Path) -> None:
    network = Network()
    async with netio.serve_unix(echo, b"\0name", network=network):
        async with netio.connect_unix(b"\0name", network=network) as stream:
            await echoes(stream)
            with (
                network.add(faults.BlackHole()) as fault,
                network.add(faults.Latency(5), to="10.0.0.1") as other,
            ):
                await stream.write(b"hello")
                with pytest.raises(netio.DeadlineExceeded):
                    await stream.read_exactly(5, timeout=60)
            assert fault.fired
            assert not other.fired


@pytest.mark.virtual_clock
async def test_the_backlog_of_a_network_in_memory_lets_connects_wait(place: Path) -> None:
    network = Network()
    async with netio.listen_unix(place / "s", network=network, backlog=1) as listener:
        streams = [await netio.connect_unix(place / "s", network=network) for _ in range(2)]
        with pytest.raises(netio.DeadlineExceeded):
            await netio.connect_unix(place / "s", network=network, timeout=10)
        streams += [await listener.accept() for _ in range(2)]
        for stream in streams:
            stream.abort()


async def test_a_network_that_knows_no_unix_sockets_is_refused() -> None:
    with pytest.raises(TypeError, match="network must have dial_unix and listen_unix"):
        netio.serve_unix(echo, "x", network=Network().host("10.0.0.1"))  # type: ignore[arg-type]
