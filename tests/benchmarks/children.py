"""Child processes that answer one line of JSON with another, within bounded time."""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from heap import Heap, environment

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
START_SECONDS = 30
ANSWER_SECONDS = 60  # the slowest side needs a few; a busy machine makes it more
LAST_WORDS = 1500  # characters of a dead child's stderr


class ChildFailed(Exception):
    """A child has died, or did not answer in time."""


class Child:
    """One process, killed when the block is left."""

    def __init__(self, name: str, *command: str, environment: dict[str, str] | None = None) -> None:
        self.name = name
        self._unread = b""
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 - closed in __exit__
        self._process = subprocess.Popen(
            [sys.executable, *command],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            bufsize=0,
            cwd=HERE,
            env={**os.environ, "PYTHONPATH": str(ROOT), **(environment or {})},
        )

    def __enter__(self) -> Child:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()
        self._process.stdin.close()
        self._process.stdout.close()
        self._errors.close()

    def pin(self, core: int) -> None:
        """Keep the process on one of the cores that we may use: 0 is the first, -1 the last."""
        os.sched_setaffinity(self._process.pid, {sorted(os.sched_getaffinity(0))[core]})

    def ask(self, request: object, seconds: float = ANSWER_SECONDS) -> dict[str, object]:
        self.tell(request)
        return self.hear(seconds)

    def tell(self, request: object) -> None:
        try:
            self._process.stdin.write(json.dumps(request).encode() + b"\n")
        except BrokenPipeError:
            raise self._failed("has died") from None

    def hear(self, seconds: float = ANSWER_SECONDS) -> dict[str, object]:
        pipe = self._process.stdout
        give_up_at = time.monotonic() + seconds
        while b"\n" not in self._unread:
            left = give_up_at - time.monotonic()
            if left <= 0 or not select.select([pipe], [], [], left)[0]:
                raise self._failed(f"did not answer within {seconds} s")
            chunk = os.read(pipe.fileno(), 65536)
            if not chunk:
                raise self._failed("has died")
            self._unread += chunk
        line, _, self._unread = self._unread.partition(b"\n")
        return json.loads(line)

    def _failed(self, what: str) -> ChildFailed:
        self._process.kill()
        status = self._process.wait()
        self._errors.seek(0)
        words = self._errors.read().decode(errors="replace").strip()[-LAST_WORDS:]
        return ChildFailed(f"{self.name} {what} (status {status})\n{words}".rstrip())


def start_worker(
    family: str, side: str, loop: str, heap: Heap, extra: dict[str, str] | None = None
) -> Child:
    """The measured process of one side."""
    return Child(
        f"{family}: the process of {side!r} ({loop} loop)",
        *("worker.py", family, side, loop, heap),
        environment={**environment(heap), **(extra or {})},
    )


def start_load(side: str) -> Child:
    """The load of one side; isolated, since it needs the standard library only."""
    return Child(f"the load of {side!r}", "-I", "-S", "load.py")
