"""Names for Unix sockets in tests: short ones, since such a path has no more than 107 bytes.

A test module that says `place = unix_paths.place` has a directory of its own.
"""

import itertools
import os
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

_numbers = itertools.count(1)


@pytest.fixture
def place() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="netio-") as name:
        yield Path(name)


def abstract_name() -> bytes:
    """One that nobody else has."""
    return b"\0netio-test-%d-%d" % (os.getpid(), next(_numbers))


def leave_stale(path: Path, kind: int = socket.SOCK_STREAM) -> None:
    """What a program leaves that was killed."""
    with socket.socket(socket.AF_UNIX, kind) as sock:
        sock.bind(str(path))
