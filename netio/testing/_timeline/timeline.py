"""The timeline of a run: what its tasks waited for, under which limits, and what fired."""

from __future__ import annotations

import asyncio
import contextlib
from threading import get_ident
from typing import TYPE_CHECKING, Final

from netio._arguments import check_count
from netio._observing import watching
from netio.testing._timeline.recorder import Recorder

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator
    from contextlib import AbstractContextManager

    from netio.testing._timeline.event import TimelineEvent

# Some hundred bytes each: what the memory of a test run and Perfetto take easily.
MAX_EVENTS: Final = 100_000


class Timeline:
    """What happened in a run, made by `record`: to be compared, printed and drawn.

    ``str(timeline)`` has a line for each event. It may be read and written at any time, also
    while it is being recorded.
    """

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder

    @property
    def events(self) -> tuple[TimelineEvent, ...]:
        """What happened, in order. Two runs that did the same at the same times compare equal."""
        return tuple(self._recorder.events)

    @property
    def left_out(self) -> int:
        """How many events came when there were as many as the recording keeps."""
        return self._recorder.left_out

    @property
    def duration(self) -> float:
        """Seconds from the beginning of the recording to its end, or to now.

        Where the loop was closed before, to the last event.
        """
        return self._recorder.duration

    def mark(self, name: str, **details: object) -> None:
        """Put a mark of your own at this moment, with some `details`, into this timeline.

        `netio.testing.mark` does so for every timeline that is being recorded just now.

        Raises:
            RuntimeError: no loop is running, or another one than that of the timeline.
        """
        if not self._recorder.belongs_to(asyncio.get_running_loop()):
            raise RuntimeError("mark: this is a timeline of another event loop")
        self._recorder.marked(name, "mark", details)

    def write_chrome_trace(self, path: str | os.PathLike[str]) -> None:
        """Write it in the Trace Event Format, a JSON that Perfetto (ui.perfetto.dev) opens."""
        from netio.testing._timeline.chrome_trace import (
            chrome_trace,  # what writes is imported to write
        )
        from netio.testing._timeline.spans import story_of

        story = story_of(self._recorder.events, self.duration)
        text = chrome_trace(story, virtual=self._recorder.virtual)
        _write(path, text)

    def write_html(self, path: str | os.PathLike[str], *, title: str = "") -> None:
        """Write it as one self-contained page, to be read in a browser.

        `title` stands at the top, the name of a test for instance. What is too much to be drawn is
        left out, and the page says so.
        """
        from netio.testing._timeline.page import page
        from netio.testing._timeline.spans import story_of

        recorder = self._recorder
        story = story_of(recorder.events, self.duration)
        text = page(story, title=title, virtual=recorder.virtual, left_out=recorder.left_out)
        _write(path, text)

    def __str__(self) -> str:
        return "\n".join(map(str, self._recorder.events))

    def __repr__(self) -> str:
        count = len(self._recorder.events)
        return f"<netio.testing.Timeline of {count} events in {self.duration:.3f} s>"


def _write(path: str | os.PathLike[str], text: str) -> None:
    with open(path, "w", encoding="utf-8", newline="\n") as file:
        file.write(text)


def record(*, max_events: int = MAX_EVENTS) -> AbstractContextManager[Timeline]:
    """Record what netio does: ``with netio.testing.record() as timeline:``.

    Inside a running loop, what happens on it from here to the end of the block. Where none runs,
    the first loop of this thread on which something of netio happens in the block, such as that of
    `netio.testing.run`. The run itself is not changed by being recorded.

    `max_events` bounds what is kept, some hundred bytes each; what comes later is only counted.

    Returns: a context manager that gives the `Timeline`.

    Raises:
        TypeError, ValueError: for a wrong `max_events`.
    """
    return _recording(Recorder(check_count(max_events, "max_events", at_least=1)))


@contextlib.contextmanager
def _recording(recorder: Recorder) -> Iterator[Timeline]:
    where: asyncio.AbstractEventLoop | int
    try:
        where = asyncio.get_running_loop()
    except RuntimeError:
        where = get_ident()
    else:
        recorder.belongs_to(where)
    with watching(recorder, where):
        try:
            yield Timeline(recorder)
        finally:
            recorder.end()
