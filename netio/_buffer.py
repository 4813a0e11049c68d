"""What a stream has received and not yet given away.

The operations it wants, and what they cost:

- take n bytes of what one `recv` brought: a slice of that very `bytes` object, or the object
  itself, so that a message that came alone is never copied;
- append a chunk: linear in all bytes that ever came, also when they come one at a time (law 32).
  A remainder smaller than the chunk is joined to it; a larger one becomes a `bytearray`, which
  grows and loses its beginning in amortized constant time;
- look for a separator: where the last search stopped, not from the beginning;
- one line after the other: cut in advance, some at a time.
"""

from __future__ import annotations

import io
import itertools
from typing import TYPE_CHECKING, Final, Protocol

from netio._defaults import (
    BYTES_PER_TURN,
    READ_AHEAD_BELOW_BYTES,
    READ_BYTES,
    SMALL_PIECE_BYTES,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

# A search for several separators goes through the bytes in windows, so that one that never comes
# does not make each record cost a pass over everything that is buffered.
_FIRST_WINDOW_BYTES: Final = 256

# Who reads line after line gets so many bytes cut in advance: at first what costs little if no more
# lines are asked for, then twice as much each time. A line cut in advance is a copy.
_FIRST_CUT_BYTES: Final = 256
_LARGEST_CUT_BYTES: Final = 4096


class ReceiveBuffer:
    """Unread bytes, in order: `data` from `start` on.

    Attributes:
        size: how many bytes are unread.
        lines: what follows cut into lines, the next one last, as long as `start` is `lines_at`;
            never the last bytes of `data`. Whoever takes one moves both, and lowers `size`.
    """

    __slots__ = ("_cut", "data", "lines", "lines_at", "size", "start")

    def __init__(self) -> None:
        self.data: bytes | bytearray = b""
        self.start = 0
        self.size = 0
        self.lines: list[bytes] | None = None
        self.lines_at = -1
        self._cut = _FIRST_CUT_BYTES

    def __len__(self) -> int:
        return self.size

    def append(self, chunk: bytes | bytearray) -> None:
        """Add what was received."""
        data, start = self.data, self.start
        remaining = self.size
        self.size = remaining + len(chunk)
        self.lines = None
        if not remaining:
            self.data = chunk
        elif isinstance(data, bytearray):
            del data[:start]
            data += chunk
        elif remaining <= len(chunk):
            self.data = data[start:] + chunk
        else:
            self.data = bytearray(memoryview(data)[start:])
            self.data += chunk
        self.start = 0

    def take(self, n: int) -> bytes:
        """Give away the first `n` bytes, which must be there."""
        data, start = self.data, self.start
        if n == self.size and not start and isinstance(data, bytes):
            self.data = b""
            self.size = 0
            return data
        end = start + n
        taken = data[start:end] if isinstance(data, bytes) else bytes(memoryview(data)[start:end])
        self.size = rest = self.size - n
        if rest:
            self.start = end
        else:
            self.data = b""
            self.start = 0
        return taken

    def take_line(self, limit: int) -> bytes | None:
        """Give away a line of at most `limit` bytes, if all of it is here."""
        if not self.size:
            return None  # who asks line by line is not to pay for cutting nothing
        if self.lines_at == self.start:
            self._cut_lines(limit)
            if self.lines:
                line = self.lines.pop()
                self.size -= len(line)
                self.start = self.lines_at = self.start + len(line)
                return line
        else:  # something else was read since the last line
            self.lines = None
            self._cut = _FIRST_CUT_BYTES
        end = self.data.find(b"\n", self.start, self.start + limit) + 1
        if not end:
            return None
        line = self.take(end - self.start)
        self.lines_at = self.start
        return line

    def _cut_lines(self, limit: int) -> None:
        """Cut what follows into lines; the last bytes, or a line that is too long, end that."""
        end = min(self.start + self._cut, self.start + self.size - 1)
        self._cut = min(2 * self._cut, _LARGEST_CUT_BYTES)
        lines = io.BytesIO(memoryview(self.data)[self.start : end]).readlines()
        if lines and not lines[-1].endswith(b"\n"):
            lines.pop()
        if limit < _LARGEST_CUT_BYTES:
            lines = list(itertools.takewhile(lambda line: len(line) <= limit, lines))
        lines.reverse()
        self.lines = lines

    def peek(self) -> bytes:
        """A copy of everything; nothing is given away."""
        return bytes(memoryview(self.data)[self.start :])

    def clear(self) -> None:
        """Forget everything."""
        self.lines = None
        self.data = b""
        self.start = self.size = 0


class LargeRead(Protocol):
    """Where a read that is larger than one chunk puts what comes, past the buffer."""

    size: int

    def receive(self, channel: Receivable, missing: int) -> int:
        """One attempt: how many bytes came, 0 at the end; or what the channel raises."""

    def give_back(self, buffer: ReceiveBuffer) -> None:
        """The read did not end well: everything stays readable."""


class Receivable(Protocol):
    """The part of a channel that bytes come out of; see there."""

    def receive(self, max_bytes: int, /) -> bytes: ...
    def receive_into(self, view: memoryview, /) -> int: ...


class Gathering:
    """The pieces of a large read: kept apart while they come, joined once at the end.

    What the buffer holds when the read begins stays there and comes first.
    """

    __slots__ = ("_pieces", "size")

    def __init__(self) -> None:
        self._pieces: list[bytes | bytearray] = []
        self.size = 0

    def receive(self, channel: Receivable, missing: int) -> int:
        room = missing if READ_AHEAD_BELOW_BYTES <= missing < READ_BYTES else READ_BYTES
        chunk = channel.receive(room)
        self.size += len(chunk)
        pieces = self._pieces
        if len(chunk) >= SMALL_PIECE_BYTES:
            pieces.append(chunk)
        elif pieces and isinstance(pieces[-1], bytearray):
            pieces[-1] += chunk
        else:
            pieces.append(bytearray(chunk))
        return len(chunk)

    def finish(self, buffer: ReceiveBuffer, n: int) -> bytes:
        """The first `n` bytes of `buffer` and the pieces; what is left over goes to `buffer`."""
        pieces = self._pieces
        if len(pieces) == 1 and len(pieces[0]) == n and not buffer and isinstance(pieces[0], bytes):
            return pieces[0]  # as the kernel gave it, without a copy
        surplus = len(buffer) + self.size - n
        rest = b""
        if surplus:
            last = pieces[-1]
            cut = len(last) - surplus
            rest, pieces[-1] = bytes(last[cut:]), last[:cut]
        whole = b"".join((buffer.take(len(buffer)), *pieces))
        if rest:
            buffer.append(rest)
        return whole

    def give_back(self, buffer: ReceiveBuffer) -> None:
        for piece in self._pieces:
            buffer.append(piece)


class Direct:
    """A large read into the caller's memory, without a copy of netio's between.

    As in `Gathering`, what the buffer holds when the read begins stays there and comes first.
    """

    __slots__ = ("_begin", "_view", "size")

    def __init__(self, view: memoryview, buffered: int) -> None:
        self._view = view
        self._begin = buffered
        self.size = 0

    def receive(self, channel: Receivable, missing: int) -> int:
        end = self._begin + self.size
        # Released at once: an error of the channel would keep it, and with it the caller's memory.
        with self._view[end : end + min(missing, BYTES_PER_TURN)] as room:
            taken = channel.receive_into(room)
        self.size += taken
        return taken

    def finish(self, buffer: ReceiveBuffer) -> None:
        """Put what `buffer` holds in front of what came."""
        if self._begin:
            self._view[: self._begin] = buffer.take(self._begin)

    def give_back(self, buffer: ReceiveBuffer) -> None:
        if self.size:
            with self._view[self._begin : self._begin + self.size] as filled:
                buffer.append(bytes(filled))


class Search:
    """Looks for the first of some separators: the earliest end wins, then the shorter one.

    `end` and `length` tell where the record ends and how long its separator is, once found. A
    record is found only if it ends within `limit` bytes, so that the answer does not depend on
    how the bytes were cut (law 28).
    """

    __slots__ = ("_limit", "_searched", "_separators", "end", "length")

    def __init__(self, separators: Iterable[bytes], limit: int) -> None:
        self._separators = sorted(set(separators), key=len)
        self._limit = limit
        self._searched = 0
        self.end = 0
        self.length = 0

    def find(self, buffer: ReceiveBuffer) -> bool:
        """Whether a record is complete, looking only at bytes not looked at before."""
        visible = min(len(buffer), self._limit)
        separators = self._separators
        window = visible if len(separators) == 1 else _FIRST_WINDOW_BYTES
        while self._searched < visible:
            stop = min(self._searched + window, visible)
            if self._find_before(buffer, stop):
                return True
            self._searched = stop
            window *= 2
        return False

    def _find_before(self, buffer: ReceiveBuffer, stop: int) -> bool:
        data, start = buffer.data, buffer.start
        found = 0
        for separator in self._separators:
            length = len(separator)
            begin = max(0, self._searched - length + 1)
            at = data.find(separator, start + begin, start + stop)
            if at >= 0 and (not found or at - start + length < found):
                found = at - start + length
                self.length = length
        self.end = found
        return found > 0
