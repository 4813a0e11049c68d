"""Conformance: reads give the bytes that were written, in order, and only those asked for."""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING

from netio._errors import IncompleteRead, StreamBusy
from netio.testing._conformance.checking import (
    PATIENCE,
    Pair,
    checks_of,
    expect,
    noise,
    promise,
    same,
)

if TYPE_CHECKING:
    from netio._stream import Stream

_MEGABYTE = (1 << 20) + 13
_LARGE_BYTES = 300_000  # goes past the buffer of a stream
_CUT_BYTES_MAX = 20_000
_PAUSE_TURNS = 20


@promise(28)
async def read_exactly_gives_that_many_bytes(pair: Pair) -> None:
    """`read_exactly(n)` gives the next n bytes, and the rest stays for the next read."""
    await pair.send(b"abcdefghij")
    for expected in (b"a", b"bcd", b"", b"efghij"):
        await pair.gives(expected, pair.near.read_exactly(len(expected), timeout=PATIENCE))


@promise(28)
async def read_exactly_waits_until_all_is_there(pair: Pair) -> None:
    """`read_exactly` returns when all n bytes have come, in however many pieces."""
    read = await pair.begin(pair.near.read_exactly(6, timeout=PATIENCE))
    for piece in (b"a", b"bcd", b"e"):
        await pair.arrives(piece)
        expect(not read.done(), "it returned, or raised, before all was there")
    await pair.send(b"fg")
    await pair.gives(b"abcdef", read)
    await pair.still_readable(b"g")


@promise(9)
async def reading_nothing_does_not_wait(pair: Pair) -> None:
    """A read of no bytes returns at once, though nothing is there."""
    began = pair.now()
    await pair.gives(b"", pair.near.read_exactly(0, timeout=PATIENCE))
    await pair.gives(0, pair.near.read_into(bytearray(), timeout=PATIENCE))
    pair.lasted(began, 0)


@promise(28)
async def read_some_gives_what_is_there(pair: Pair) -> None:
    """`read_some` waits for a first byte and for no more, and gives at most `max_bytes`."""
    read = await pair.begin(pair.near.read_some(100, timeout=PATIENCE))
    await pair.send(b"abcdef")
    await pair.ended(read)
    got = read.result()
    expect(0 < len(got) <= 6, f"read_some gave {got!r} of b'abcdef'")
    while len(got) < 6:
        piece = await pair.near.read_some(2, timeout=PATIENCE)
        expect(0 < len(piece) <= 2, f"read_some(2) gave {piece!r}")
        got += piece
    same(b"abcdef", got)


@promise(28)
async def read_some_gives_at_most_what_was_asked_for(pair: Pair) -> None:
    """`read_some(n)` leaves what is past the n bytes for the next read."""
    await pair.buffered(b"abcdef")
    await pair.gives(b"ab", pair.near.read_some(2, timeout=PATIENCE))
    await pair.still_readable(b"cdef")


@promise(28)
async def read_line_gives_line_by_line(pair: Pair) -> None:
    """`read_line` gives each line with its newline, or without it, and the last as it came."""
    await pair.send(b"one\ntwo\r\n\nlast")
    await pair.far.aclose()
    await pair.gives(b"one\n", pair.near.read_line(timeout=PATIENCE))
    await pair.gives(b"two\r", pair.near.read_line(keep=False, timeout=PATIENCE))
    await pair.gives(b"\n", pair.near.read_line(timeout=PATIENCE))
    await pair.gives(b"last", pair.near.read_line(timeout=PATIENCE))
    await pair.gives(b"", pair.near.read_line(timeout=PATIENCE))


@promise(28)
async def a_separator_is_found_wherever_it_is_cut(pair: Pair) -> None:
    """`read_until` finds a separator that comes in two pieces, and takes nothing after it."""
    record = b"head\r\n\r\n"
    for cut in range(1, len(record)):
        read = await pair.begin(pair.near.read_until(b"\r\n\r\n", timeout=PATIENCE))
        await pair.arrives(record[:cut])
        expect(not read.done(), f"read_until was over after {record[:cut]!r}")
        await pair.send(record[cut:] + b"body")
        await pair.gives(record, read)
        await pair.still_readable(b"body")


@promise(28)
async def the_earliest_of_several_separators_ends_a_record(pair: Pair) -> None:
    """Of several separators the one that ends first ends the record, then the shorter one."""
    await pair.send(b"a;b\r\nc\nd")
    separators = (b"\r\n", b"\n", b";")
    await pair.gives(b"a;", pair.near.read_until(separators, timeout=PATIENCE))
    await pair.gives(b"b\r", pair.near.read_until(separators, keep=False, timeout=PATIENCE))
    await pair.gives(b"c\n", pair.near.read_until(separators, timeout=PATIENCE))
    await pair.still_readable(b"d")


@promise(28)
async def read_into_fills_the_buffer(pair: Pair) -> None:
    """`read_into` fills the buffer given to it, exactly, and returns its size."""
    data = noise(_LARGE_BYTES + 5)
    pair.start(pair.far.write(data, timeout=PATIENCE))
    for size in (5, _LARGE_BYTES - 7):
        target = bytearray(size)
        await pair.gives(size, pair.near.read_into(target, timeout=PATIENCE))
        same(data[:size], bytes(target), "the buffer")
        data = data[size:]
    await pair.still_readable(data)


@promise(28)
async def a_large_read_is_whole(pair: Pair) -> None:
    """A read larger than any buffer gives all its bytes, and leaves what comes after it."""
    data = noise(_LARGE_BYTES + 9)
    pair.start(pair.far.write(data, timeout=PATIENCE))
    await pair.gives(data[:9], pair.near.read_exactly(9, timeout=PATIENCE))
    size = _LARGE_BYTES - 9
    await pair.gives(data[9 : 9 + size], pair.near.read_exactly(size, timeout=PATIENCE))
    await pair.still_readable(data[9 + size :])


@promise(28)
async def read_all_gives_everything_up_to_the_end(pair: Pair) -> None:
    """`read_all` returns when the peer has ended the stream, with all that was left."""
    data = noise(_LARGE_BYTES)
    pair.start(_write_and_close(pair.far, data))
    await pair.gives(data[:10], pair.near.read_exactly(10, timeout=PATIENCE))
    await pair.gives(data[10:], pair.near.read_all(limit=len(data), timeout=PATIENCE))
    await pair.gives(b"", pair.near.read_all(limit=1, timeout=PATIENCE))


@promise(28)
async def iterating_goes_on_until_the_end(pair: Pair) -> None:
    """`lines` and `chunks` give what `read_line` and `read_some` give, and stop at the end."""
    await pair.send(b"a\n\nb")
    await pair.far.aclose()
    lines = [line async for line in pair.near.lines(keep=False, timeout=PATIENCE)]
    expect(lines == [b"a", b"", b"b"], f"the lines are {lines!r}")
    await pair.open()
    await pair.send(b"abcdef")
    await pair.far.aclose()
    chunks = [chunk async for chunk in pair.near.chunks(4, timeout=PATIENCE)]
    expect(all(0 < len(chunk) <= 4 for chunk in chunks), f"the chunks are {chunks!r}")
    same(b"abcdef", b"".join(chunks), "all chunks")


@promise(28)
async def peeking_takes_nothing(pair: Pair) -> None:
    """`peek` shows the bytes that are buffered, `buffered` counts them, and neither takes any."""
    await pair.buffered(b"abc")
    for _ in range(2):
        same(b"abc", pair.near.peek(), "peek")
        expect(pair.near.buffered == 3, f"buffered is {pair.near.buffered}")
    await pair.still_readable(b"abc")
    expect(not pair.near.peek() and not pair.near.buffered, "what was read is still shown")


@promise(28)
async def every_byte_value_passes(pair: Pair) -> None:
    """No byte has a meaning: all values, alone and beside every other, arrive as they are."""
    for value in range(256):
        await pair.send(bytes([value]))
        await pair.still_readable(bytes([value]))
    data = b"".join(bytes((0, value, 255, value, 10)) for value in range(256))
    await pair.send(data)
    await pair.still_readable(data, "what came")


@promise(28)
async def a_megabyte_arrives_whole_however_it_is_cut(pair: Pair) -> None:
    """Bytes arrive unchanged and in order, however writes and reads cut them."""
    data = noise(_MEGABYTE)
    pair.start(_write_in_cuts(pair.far, data, seed=1))
    same(data, await _read_in_cuts(pair.near, len(data), seed=2))


@promise(28)
async def both_directions_carry_at_once(pair: Pair) -> None:
    """What goes one way neither stops nor touches what goes the other way."""
    there, back = noise(_MEGABYTE // 2, 1), noise(_MEGABYTE // 2, 2)
    pair.start(_write_in_cuts(pair.near, there, seed=3))
    pair.start(_write_in_cuts(pair.far, back, seed=4))
    other = pair.start(_read_in_cuts(pair.far, len(there), seed=5))
    same(back, await _read_in_cuts(pair.near, len(back), seed=6), "what came from the far end")
    await pair.ended(other)
    same(there, other.result(), "what came from the near end")


@promise(28)
async def a_drip_is_read_whole(pair: Pair) -> None:
    """Bytes that come one at a time make the same records as bytes that come at once."""
    data = noise(300).replace(b"\n", b"-") + b"\n"
    for in_lines in (False, True):
        if in_lines:
            read = await pair.begin(pair.near.read_line(timeout=PATIENCE))
        else:
            read = await pair.begin(pair.near.read_exactly(len(data), timeout=PATIENCE))
        for byte in data:
            await pair.arrives(bytes([byte]))
        await pair.gives(data, read)


@promise()
async def a_second_reader_is_refused(pair: Pair) -> None:
    """While a read waits another one is `StreamBusy`, and the one that waits gets its bytes."""
    first = await pair.begin(pair.near.read_exactly(4, timeout=PATIENCE))
    await pair.raises(StreamBusy, pair.near.read_some(timeout=pair.short))
    await pair.raises(StreamBusy, pair.near.read_exactly(1, timeout=pair.short))
    await pair.raises(StreamBusy, pair.near.read_line(timeout=pair.short))
    await pair.raises(StreamBusy, pair.near.read_into(bytearray(1), timeout=pair.short))
    await pair.raises(StreamBusy, pair.near.read_all(limit=1, timeout=pair.short))
    await pair.send(b"abcdef")
    await pair.gives(b"abcd", first)
    await pair.still_readable(b"ef")


@promise(29)
async def an_end_that_comes_too_early_keeps_what_came(pair: Pair) -> None:
    """`IncompleteRead` has a copy of the bytes that came, which stay readable."""
    await pair.send(b"abc")
    await pair.far.aclose()
    for read, expected in (
        (lambda: pair.near.read_exactly(5, timeout=PATIENCE), 5),
        (lambda: pair.near.read_exactly(_LARGE_BYTES, timeout=PATIENCE), _LARGE_BYTES),
        (lambda: pair.near.read_into(bytearray(4), timeout=PATIENCE), 4),
        (lambda: pair.near.read_into(bytearray(_LARGE_BYTES), timeout=PATIENCE), _LARGE_BYTES),
        (lambda: pair.near.read_until(b";", timeout=PATIENCE), None),
    ):
        error = await pair.raises(IncompleteRead, read())
        same(b"abc", error.partial, "partial")
        expect(error.expected == expected, f"expected is {error.expected}, not {expected}")
    await pair.gives(b"abc", pair.near.read_exactly(3, timeout=PATIENCE))


@promise(29)
async def the_end_is_told_each_time(pair: Pair) -> None:
    """Once all was read, every further read meets the end again, at once."""
    await pair.send(b"x")
    await pair.far.aclose()
    await pair.still_readable(b"x")
    for _ in range(3):
        await pair.gives(b"", pair.near.read_some(timeout=PATIENCE))
        await pair.gives(b"", pair.near.read_line(timeout=PATIENCE))
        error = await pair.raises(IncompleteRead, pair.near.read_exactly(1, timeout=PATIENCE))
        same(b"", error.partial, "partial")


@promise(29)
async def the_end_wakes_a_read_that_waits(pair: Pair) -> None:
    """A read that waits meets the end as soon as the peer ends the stream."""
    read = await pair.begin(pair.near.read_some(timeout=PATIENCE))
    await pair.far.aclose()
    await pair.gives(b"", read)
    await pair.open()
    read = await pair.begin(pair.near.read_exactly(4, timeout=PATIENCE))
    await pair.arrives(b"ab")
    await pair.far.aclose()
    error = await pair.raises(IncompleteRead, read)
    same(b"ab", error.partial, "partial")
    same(b"ab", await pair.rest_of(pair.near), "what is left")


async def _write_and_close(stream: Stream, data: bytes) -> None:
    await stream.write(data, timeout=PATIENCE)
    await stream.aclose()


async def _write_in_cuts(stream: Stream, data: bytes, seed: int) -> None:
    rng = random.Random(seed)
    at = 0
    while at < len(data):
        size = rng.choice((1, 2, rng.randrange(100), rng.randrange(_CUT_BYTES_MAX)))
        pieces = [data[at : at + size], data[at + size : at + 2 * size]]
        if rng.random() < 0.5:
            await stream.write_many(pieces, timeout=PATIENCE)
            at += len(pieces[1])
        else:
            await stream.write(memoryview(data)[at : at + size], timeout=PATIENCE)
        at += len(pieces[0])


async def _read_in_cuts(stream: Stream, total: int, seed: int) -> bytes:
    rng = random.Random(seed)
    got = bytearray()
    while (left := total - len(got)) > 0:
        for _ in range(rng.choice((0, 0, 0, _PAUSE_TURNS))):
            await asyncio.sleep(0)  # so that what is under way piles up
        size = min(left, rng.choice((1, rng.randrange(1, 100), rng.randrange(1, 3 * 65536))))
        how = rng.randrange(3)
        if how == 0:
            got += await stream.read_exactly(size, timeout=PATIENCE)
        elif how == 1:
            got += await stream.read_some(size, timeout=PATIENCE)
        else:
            target = bytearray(size)
            await stream.read_into(target, timeout=PATIENCE)
            got += target
    return bytes(got)


READING = checks_of(globals())
