"""TLS over any channel: what goes in is encrypted, what comes out is decrypted, nothing waits.

A `TLSChannel` stands on another channel, a socket, one in memory, or one with TLS. OpenSSL works on
two memory buffers; this file moves ciphertext between them and the channel below. Waiting is done
by the innermost channel, so that there is one timer and one pair of watchers however many stand on
one another; the attempt of who waits comes back through `receive` and `send`.

Two rules keep reads and writes what they are over a socket:

- A `receive` that gives less than was asked for means that nothing more can be had without the
  channel below: a reader would otherwise wait for a socket that has nothing. What is met behind
  bytes that are given (the end, a failure) is told by the loop in its next turn.
- `send` counts plaintext whose records the channel below has whole. What is encrypted and has not
  left stands first in the next `send`, to which the same bytes are offered again: `committed`.

What TLS itself has to say (the answer to a new key, alerts) goes out as far as it fits, and the
rest with the next write. The handshake, and the goodbye that waits, are in ``_handshake.py``.
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections import deque
from typing import TYPE_CHECKING, Final, overload

from netio._defaults import BYTES_PER_TURN, READ_BYTES
from netio._openssl import ssl
from netio._readiness import NOTHING, READABLE, WRITABLE
from netio._turns import turns_of

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Sequence

    from netio._channel import Channel
    from netio._engine import Engine
    from netio._errors import Address
    from netio._readiness import Waiter

# What TLS puts into one record at most (RFC 8446, 5.1).
_RECORD_BYTES: Final = 16 * 1024

# Plaintext that is encrypted before the channel below is asked to take it.
_PIECE_BYTES: Final = 4 * _RECORD_BYTES

# Ciphertext that is taken from below at once: `READ_BYTES` of plaintext, and what its records add.
_CIPHERTEXT_BYTES: Final = READ_BYTES + 1024

# Rounds of a handshake within one call. A regular one takes two; the loop calls again.
_ROUNDS: Final = 16


class TLSChannel:
    """A channel that encrypts what it sends over `inner`, which belongs to it alone.

    `received` are bytes that were taken from `inner` before.

    Attributes:
        committed: plaintext bytes that are encrypted, and not reported as sent.
        truncated: the channel below has ended, and the peer had not said that it would.
    """

    __slots__ = (
        "_ended",
        "_exhausted",
        "_failure",
        "_full",
        "_held",
        "_incoming",
        "_inner_receive",
        "_inner_send",
        "_object",
        "_outgoing",
        "_parted",
        "_passed",
        "_read",
        "_send_failure",
        "_shaken",
        "_telling",
        "_tolerant",
        "_units",
        "_unsent",
        "_write",
        "closed",
        "committed",
        "engine",
        "inner",
        "innermost",
        "leave",
        "loop",
        "park",
        "rearm",
        "truncated",
        "wait_readable",
        "wait_writable",
    )

    def __init__(self, inner: Channel, engine: Engine, received: bytes = b"") -> None:
        self.loop: asyncio.AbstractEventLoop = inner.loop
        self.closed: bool = False
        self.inner = inner
        self.innermost: Channel = inner.innermost if isinstance(inner, TLSChannel) else inner
        self.engine = engine
        self.committed = 0
        self.truncated = False
        self._object = engine.object
        self._incoming = engine.incoming
        self._outgoing = engine.outgoing
        # Bound once, where a call is felt.
        self._read = engine.object.read
        self._write = engine.object.write
        self._inner_receive = inner.receive
        self._inner_send = inner.send
        below = self.innermost
        self.park = below.park
        self.leave = below.leave
        self.rearm = below.rearm
        self.wait_readable = below.wait_readable
        self.wait_writable = below.wait_writable
        self._shaken = False  # the handshake is done
        self._exhausted = False  # nothing can be decrypted of what was taken from below
        self._telling = False  # the loop is going to attempt for who waits to read
        self._full = False  # the last piece from below filled its room: there may be more
        self._ended = False  # the peer has said goodbye, or the channel below has ended
        self._tolerant = engine.tolerates_truncation
        self._failure: OSError | None = None  # of TLS, or met below behind bytes that were given
        self._held = b""  # decrypted, and not given yet
        self._unsent: bytes | memoryview = b""  # ciphertext offered below, and not taken
        self._units: deque[tuple[int, int]] = deque()  # where records end, and their plaintext
        self._passed = 0  # ciphertext that the channel below has taken
        self._send_failure: OSError | None = None  # met when TLS itself had something to say
        self._parted = False  # our goodbye is said; it may be unsent
        self.feed(received)

    @property
    def peer(self) -> Address:
        return self.inner.peer

    @property
    def local(self) -> Address:
        return None if self.closed else self.inner.local

    @property
    def ripe(self) -> bool:
        """As of the channel below."""
        return self.innermost.ripe

    @ripe.setter
    def ripe(self, ripe: bool) -> None:
        self.innermost.ripe = ripe

    @property
    def waiters(self) -> tuple[Waiter, ...]:
        """All who wait, on whichever of the channels on one another."""
        return self.innermost.waiters

    @property
    def dry(self) -> bool:
        """Whether all that was taken from below is given, and that was all there was."""
        return self._exhausted and not (self._full or self._ended or self._failure is not None)

    def readable(self) -> bool:
        """As of the channel below."""
        return self.innermost.readable()

    # Reading.

    def receive(self, max_bytes: int, /) -> bytes:
        if self._exhausted and not self._pump():
            return b""
        if self._held:
            return self._more(b"", max_bytes)
        try:
            piece = self._read(_RECORD_BYTES)
        except ssl.SSLError as error:
            piece = self._decrypt(_RECORD_BYTES) if self._goes_on(error) else b""
        if not piece:
            self._ended = True
            return b""
        if len(piece) >= max_bytes or self._incoming.pending or self._full:
            return self._more(piece, max_bytes)
        self._exhausted = True  # it was one record, as nearly always
        if self._outgoing.pending:
            self._flush_quietly()
        return piece

    def _more(self, first: bytes, max_bytes: int) -> bytes:
        """What is held, or else `first`, and what else can be decrypted; the surplus is held."""
        pieces = [self._held or first]
        size = len(pieces[0])
        read, incoming = self._read, self._incoming
        try:
            while size < max_bytes and (incoming.pending or self._full):
                try:
                    piece = read(_RECORD_BYTES)
                except ssl.SSLError as error:
                    piece = self._decrypt(_RECORD_BYTES) if self._goes_on(error) else b""
                if not piece:
                    self._ended = True
                    break
                pieces.append(piece)
                size += len(piece)
        except OSError as error:
            self._keep(error)
        whole = b"".join(pieces)
        if size > max_bytes:
            self._held = whole[max_bytes:]
            whole = whole[:max_bytes]
        else:
            self._held = b""
        self._conclude(exhausted=size < max_bytes or self._is_empty)
        return whole

    def receive_into(self, view: memoryview, /) -> int:
        if self._exhausted and not self._pump():
            return 0
        held = self._held[: len(view)]
        self._held = self._held[len(held) :]
        view[: len(held)] = held
        size, most = len(held), len(view)
        try:
            while size < most and (not size or self._incoming.pending or self._full):
                with view[size:] as room:
                    more = self._decrypt(most - size, room)
                if not more:
                    break
                size += more
        except OSError as error:
            if not size:
                raise
            self._keep(error)
        if size:
            self._conclude(exhausted=size < most or self._is_empty)
        return size

    @overload
    def _decrypt(self, most: int) -> bytes: ...

    @overload
    def _decrypt(self, most: int, room: memoryview) -> int: ...

    def _decrypt(self, most: int, room: memoryview | None = None) -> bytes | int:
        """One record, or a part of it, as `SSLObject.read` gives it; nothing at the end."""
        while True:
            try:
                piece = self._read(most, room)
            except ssl.SSLError as error:
                if self._goes_on(error):
                    continue
                piece = b"" if room is None else 0  # type: ignore[assignment]
            if not piece:
                self._ended = True
            return piece

    def _goes_on(self, error: ssl.SSLError) -> bool:
        """Whether there is more to decrypt behind `error`, or the end; what else it is, is raised.

        That is the failure met first: what OpenSSL says after one does not tell much.
        """
        if isinstance(error, ssl.SSLWantReadError):
            return self._pump()
        if isinstance(error, ssl.SSLZeroReturnError):  # said after our own goodbye
            return False
        raise self._fail(error) from None

    def _keep(self, error: OSError) -> None:
        """Keep what was met behind bytes that are given, to be told after them."""
        if not isinstance(error, BlockingIOError):
            self._failure = error.with_traceback(None)

    def _conclude(self, *, exhausted: bool) -> None:
        """The end of a `receive` that gives bytes: if there is more, have it asked for soon.

        The kernel has nothing to tell of what is in here, so that no reader would fire.
        """
        self._exhausted = exhausted
        if self._has_more and not self._telling:
            self.ripe = self._telling = True
            self.loop.call_soon(self._tell, context=turns_of(self.loop).context)
        if self._outgoing.pending:
            self._flush_quietly()

    @property
    def _is_empty(self) -> bool:
        """Whether all that was taken from below is decrypted and given."""
        return not (self._held or self._incoming.pending or self._object.pending())

    @property
    def _has_more(self) -> bool:
        """Whether a `receive` would give bytes, or the end, or a failure, without one below."""
        return not self._exhausted or self._ended or self._failure is not None

    def _tell(self) -> None:
        """Be what the poller is for a socket, if nobody has asked meanwhile."""
        self._telling = False
        if not self.closed and self._has_more:
            self.innermost.readable()

    def _pump(self) -> bool:
        """Take in what the channel below has; False: nothing more comes."""
        if self._failure is not None:
            raise self._failure
        if self._ended:
            return False
        self._full = False
        data = self._inner_receive(_CIPHERTEXT_BYTES)
        if not data:
            self._ended = True
            self.truncated = not self._tolerant
            return False
        self._incoming.write(data)
        if not self._shaken:
            self.engine.hear(data)
        self._full = len(data) == _CIPHERTEXT_BYTES
        self._exhausted = False
        return True

    def _fail(self, error: ssl.SSLError) -> OSError:
        """Keep a failure of TLS, and send the alert that tells the peer, as far as it fits."""
        error.__context__ = None
        self._failure = self._failure or error.with_traceback(None)
        self._exhausted = True
        self._flush_quietly()
        return self._failure

    # Writing.

    def send(self, data: bytes | memoryview, /) -> int:
        size = len(data)
        if (
            self._unsent
            or self._units
            or size > _PIECE_BYTES
            or self._failure is not None
            or self._send_failure is not None
        ):
            return self._send_on(data)
        sent = self._send_piece(data, size)
        if not sent and size:
            raise _would_block()
        return sent

    def _send_on(self, data: bytes | memoryview) -> int:
        """Give on what was encrypted before, and then piece after piece until it is too much."""
        self._check_sending()
        flushed = self._flush()
        offset = self._passed_units()
        with memoryview(data)[:BYTES_PER_TURN] as view:  # no more at a time (law 35)
            while flushed and offset < len(view):
                with view[offset : offset + _PIECE_BYTES] as piece:
                    size = len(piece)
                    try:
                        sent = self._send_piece(piece, size)
                    except OSError as error:
                        if not offset:
                            raise
                        self._send_failure = error.with_traceback(None)  # told by the next call
                        return offset
                offset += sent
                flushed = sent == size
            if not offset and len(view):
                raise _would_block()
        return offset

    def _send_piece(self, piece: bytes | memoryview, size: int) -> int:
        """Encrypt `piece`: how much of it went, in whole records. The rest is committed."""
        if not size:
            return 0
        outgoing = self._outgoing
        ahead = outgoing.pending
        try:
            self._write(piece)
        except ssl.SSLError as error:
            raise self._fail(_write_error(error)) from None
        ciphertext = outgoing.read()
        try:
            sent = self._inner_send(ciphertext)
        except BlockingIOError:
            sent = 0
        if sent == len(ciphertext):
            return size
        self._passed = sent
        self._unsent = memoryview(ciphertext)[sent:]
        self.committed = size
        self._units.extend(_records(ciphertext, ahead, size))
        return self._passed_units()

    def _passed_units(self) -> int:
        """The plaintext whose records the channel below has whole by now, reported once."""
        passed = 0
        units = self._units
        while units and units[0][0] <= self._passed:
            passed += units.popleft()[1]
        self.committed -= passed
        return passed

    def _check_sending(self) -> None:
        error = self._send_failure or self._failure
        if error is not None:
            raise error

    def _flush(self) -> bool:
        """Have the channel below take what is encrypted; True: it has all of it."""
        while True:
            if not self._unsent:
                if not self._outgoing.pending:
                    return True
                self._unsent = memoryview(self._outgoing.read())
            offered = self._unsent
            try:
                sent = self._inner_send(offered)
            except BlockingIOError:
                return False
            self._passed += sent
            self._unsent = offered[sent:]
            if sent < len(offered):
                return False

    def _flush_quietly(self) -> None:
        """As `_flush`, for what nobody waits for: a failure is told to the next who sends."""
        if self._send_failure is None and (self._unsent or self._outgoing.pending):
            try:
                self._flush()
            except OSError as error:
                self._send_failure = error.with_traceback(None)

    def tear(self) -> None:
        """Send nothing more: no record can go but behind those of the write that was cut."""
        if self._send_failure is None:
            self._send_failure = ConnectionError("an earlier write was cut")
            self._unsent = b""

    def send_many(self, views: Sequence[memoryview], /) -> int:
        if len(views) == 1:
            return self.send(views[0])
        taken, size = [], 0
        for view in views:
            taken.append(view[: _PIECE_BYTES - size])
            size += len(taken[-1])
            if size == _PIECE_BYTES:
                break
        joined = b"".join(taken)
        for view in taken:
            view.release()
        return self.send(joined)

    # The handshake and the end.

    def feed(self, received: bytes) -> None:
        """Take `received` as if it had come from below."""
        if received:
            self._incoming.write(received)
            self.engine.hear(received)

    def shake(self) -> int:
        """Go on with the handshake: what it waits for now, ``NOTHING`` when it is done.

        Raises ``OSError`` when it has failed; the alert has gone, as far as it fitted.
        """
        for _ in range(_ROUNDS):
            if not self._shaken:
                try:
                    self._object.do_handshake()
                    self._shaken = True
                    self.engine.has_shaken()
                except ssl.SSLWantReadError:
                    pass
                except ssl.SSLError as error:
                    raise self._fail(error) from None
            if not self._flush():
                return WRITABLE
            if self._shaken:
                return NOTHING
            try:
                if not self._pump():
                    raise ConnectionError("the peer ended the connection in the TLS handshake")
            except BlockingIOError:
                break
        return READABLE

    def shut_down_writing(self) -> None:
        """Say goodbye, in this direction; BlockingIOError: not all of it has gone yet.

        What has come before is decrypted first: what OpenSSL finds as it closes, it throws away.
        And it is told once only, since the second time it looks for an answer.
        """
        self._check_sending()
        if not self._parted:
            self._parted = True
            self._hold_what_came()
            try:
                self._object.unwrap()
            except ssl.SSLWantReadError:
                pass  # it is said, and the peer has not said its own
            except ssl.SSLError as error:
                raise self._fail(error) from None
        if not self._flush():
            raise _would_block()

    def _hold_what_came(self) -> None:
        """Decrypt all that was taken from below, which is no more than one piece of it."""
        pieces = [self._held]
        try:
            while piece := self._read(_RECORD_BYTES):
                pieces.append(piece)
            self._ended = True
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLZeroReturnError:
            self._ended = True
        except ssl.SSLError as error:
            self._fail(error)
        self._held = b"".join(pieces)
        self._exhausted = self._exhausted and not self._held

    def part(self) -> None:
        """Be closed for all who use it, and wake them, while the goodbye is under way below."""
        self.closed = True
        for waiter in self.waiters:
            waiter.wake()

    @property
    def can_part(self) -> bool:
        """Whether a goodbye makes sense: after a handshake, and not in the middle of a message."""
        failed = self._failure is not None or self._send_failure is not None
        return self._shaken and not self.committed and not failed

    def close(self) -> None:
        if not self.closed:
            self.part()
            if self.can_part:
                with contextlib.suppress(OSError):
                    self.shut_down_writing()
        self.inner.close()

    def abort(self) -> None:
        self.closed = True
        self.inner.abort()

    def abandon(self) -> None:
        if self.loop.is_closed():
            self.closed = True
            self.inner.abandon()
        else:
            self.loop.call_soon_threadsafe(self.close)

    def release(self) -> None:
        self.closed = True
        self.inner.release()


def _records(ciphertext: bytes, ahead: int, size: int) -> list[tuple[int, int]]:
    """Where the records with `size` bytes of plaintext end, and how much of it each has.

    `ahead` bytes of `ciphertext` are not among them: TLS had something to say before.
    """
    ends = []
    end = 0
    while end < len(ciphertext):
        end += 5 + int.from_bytes(ciphertext[end + 3 : end + 5])  # RFC 8446, 5.1
        if end > ahead:
            ends.append(end)
    full, rest = divmod(size, _RECORD_BYTES)
    plain = [_RECORD_BYTES] * full + [rest] * bool(rest)
    if len(ends) != len(plain):  # TLS 1.0 may cut them in its own way
        return [(len(ciphertext), size)]
    return list(zip(ends, plain, strict=True))


def _write_error(error: ssl.SSLError) -> ssl.SSLError:
    """What `error` of a write means."""
    if not isinstance(error, ssl.SSLWantReadError):
        return error
    what = "the peer negotiates anew, and until it has done so nothing can be written"
    return ssl.SSLError(ssl.SSL_ERROR_SSL, what)


def _would_block() -> BlockingIOError:
    return BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))
