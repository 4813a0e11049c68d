"""The receive buffer and what fills it, against models that a child could write."""

import math
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netio._buffer import Direct, Gathering, ReceiveBuffer, Search

CHUNKS = st.lists(st.binary(min_size=1, max_size=40), max_size=12)
SEPARATORS = st.lists(st.text("ab\n", min_size=1, max_size=4), min_size=1, max_size=3)


class Script:
    """A channel that gives these chunks, however much is asked for, and then would block."""

    def __init__(self, *chunks: bytes) -> None:
        self.chunks = list(chunks)
        self.asked: list[int] = []

    def receive(self, max_bytes: int) -> bytes:
        self.asked.append(max_bytes)
        if not self.chunks:
            raise BlockingIOError
        chunk = self.chunks.pop(0)
        if len(chunk) > max_bytes:
            chunk, rest = chunk[:max_bytes], chunk[max_bytes:]
            self.chunks.insert(0, rest)
        return chunk

    def receive_into(self, view: memoryview) -> int:
        chunk = self.receive(len(view))
        view[: len(chunk)] = chunk
        return len(chunk)


def test_an_empty_buffer_has_nothing() -> None:
    buffer = ReceiveBuffer()
    assert len(buffer) == 0
    assert buffer.peek() == b""
    assert buffer.take(0) == b""


@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("append"), st.binary(min_size=1, max_size=50)),
            st.tuples(st.just("take"), st.integers(0, 60)),
            st.tuples(st.just("peek"), st.just(0)),
            st.tuples(st.just("clear"), st.just(0)),
        ),
        max_size=60,
    )
)
def test_it_gives_away_what_was_appended_in_order(steps: list[tuple[str, bytes | int]]) -> None:
    buffer, model = ReceiveBuffer(), b""
    for step, argument in steps:
        if step == "append":
            assert isinstance(argument, bytes)
            buffer.append(argument)
            model += argument
        elif step == "take":
            assert isinstance(argument, int)
            n = min(argument, len(model))
            taken = buffer.take(n)
            assert type(taken) is bytes
            assert taken == model[:n]
            model = model[n:]
        elif step == "clear":
            buffer.clear()
            model = b""
        assert len(buffer) == len(model)
        assert type(buffer.peek()) is bytes
        assert buffer.peek() == model


def test_to_ask_an_empty_buffer_for_a_line_cuts_nothing() -> None:
    buffer = ReceiveBuffer()
    buffer.append(b"one\n")
    assert buffer.take_line(100) == b"one\n"
    assert buffer.lines_at == buffer.start  # as after any line: more of them are expected
    assert buffer.take_line(100) is None
    assert buffer.lines is None


def test_a_message_that_came_alone_is_never_copied() -> None:
    buffer = ReceiveBuffer()
    message = bytes(5000)
    buffer.append(message)
    assert buffer.take(5000) is message


def test_what_was_taken_does_not_change_when_more_comes() -> None:
    buffer = ReceiveBuffer()
    buffer.append(b"abcdef")
    buffer.append(b"g")
    taken = buffer.take(3)
    peeked = buffer.peek()
    buffer.append(b"hijk")
    assert (taken, peeked) == (b"abc", b"defg")


def test_an_appended_bytearray_belongs_to_the_buffer_and_grows() -> None:
    buffer = ReceiveBuffer()
    buffer.append(bytearray(b"abc"))
    buffer.append(b"d")
    assert buffer.take(4) == b"abcd"


class Copies:
    """How many bytes were copied: a stand-in for the clock, which is too noisy to judge by."""

    def __init__(self) -> None:
        self.bytes = 0

    def watch(self, buffer: ReceiveBuffer, chunk: bytes) -> None:
        before, held = buffer.data, len(buffer)
        buffer.append(chunk)
        self.bytes += len(chunk)
        if buffer.data is not before:
            self.bytes += held


@pytest.mark.parametrize("taken", [0, 1, 7])
def test_a_drip_costs_in_proportion_to_its_bytes(taken: int) -> None:
    buffer, copies = ReceiveBuffer(), Copies()
    buffer.append(bytes(65536))
    for _ in range(65536):
        copies.watch(buffer, b"x")
        buffer.take(min(taken, len(buffer) - 1))
    assert copies.bytes < 4 * 2 * 65536  # law 32


@given(CHUNKS, st.integers(0, 500))
def test_gathered_pieces_are_joined_and_the_surplus_stays(chunks: list[bytes], n: int) -> None:
    everything = b"".join(chunks)
    held, coming = chunks[:1], chunks[1:]
    n = min(n, len(everything))
    buffer = ReceiveBuffer()
    for chunk in held:
        buffer.append(chunk)
    gathering, channel = Gathering(), Script(*coming)
    n = max(n, len(buffer))
    while len(buffer) + gathering.size < n:
        assert gathering.receive(channel, n - len(buffer) - gathering.size)
    came = len(buffer) + gathering.size
    assert gathering.finish(buffer, n) == everything[:n]
    assert buffer.peek() == everything[n:came]


@given(CHUNKS, st.binary(max_size=30))
def test_gathered_pieces_that_are_given_back_come_after_what_was_held(
    chunks: list[bytes], held: bytes
) -> None:
    buffer = ReceiveBuffer()
    if held:
        buffer.append(held)
    gathering, channel = Gathering(), Script(*chunks)
    for _ in chunks:
        assert gathering.receive(channel, 1 << 20)
    gathering.give_back(buffer)
    assert buffer.take(len(buffer)) == held + b"".join(chunks)


def test_gathering_a_drip_keeps_bytes_not_objects() -> None:
    gathering = Gathering()
    for _ in range(10_000):
        gathering.receive(Script(b"x"), 1 << 20)
    assert gathering.size == 10_000
    assert len(gathering._pieces) == 1


@pytest.mark.parametrize("big", [4096, 65536])
def test_gathering_does_not_copy_large_pieces(big: int) -> None:
    gathering = Gathering()
    pieces = [bytes([i]) * big for i in range(3)]
    for piece in pieces:
        gathering.receive(Script(piece), 1 << 20)
    assert [kept is piece for kept, piece in zip(gathering._pieces, pieces, strict=True)] == [
        True
    ] * 3


@pytest.mark.parametrize(
    ("missing", "asked"),
    [(1, 65536), (16383, 65536), (16384, 16384), (65535, 65535), (1 << 30, 65536)],
)
def test_a_large_read_asks_for_one_chunk_at_most(missing: int, asked: int) -> None:
    channel = Script()
    with pytest.raises(BlockingIOError):
        Gathering().receive(channel, missing)
    assert channel.asked == [asked]  # law 31: never what a peer's header promised


def test_the_end_is_zero_and_what_would_block_says_so() -> None:
    assert Gathering().receive(Script(b""), 5) == 0
    with pytest.raises(BlockingIOError):
        Gathering().receive(Script(), 5)
    with memoryview(bytearray(5)) as view:
        assert Direct(view, 0).receive(Script(b""), 5) == 0
        with pytest.raises(BlockingIOError):
            Direct(view, 0).receive(Script(), 5)


@given(CHUNKS, st.binary(max_size=30), st.integers(0, 40))
def test_a_direct_read_fills_the_memory_of_the_caller(
    chunks: list[bytes], held: bytes, spare: int
) -> None:
    everything = held + b"".join(chunks)
    for done in (False, True):
        target = bytearray(len(everything) + spare)
        buffer = ReceiveBuffer()
        if held:
            buffer.append(held)
        channel = Script(*chunks)
        with memoryview(target) as view:
            direct = Direct(view, len(held))
            while channel.chunks:
                assert direct.receive(channel, len(target) - len(held) - direct.size)
            assert direct.size == len(everything) - len(held)
            assert buffer.peek() == held
            if done:
                direct.finish(buffer)
                assert target[: len(everything)] == everything
            else:
                direct.give_back(buffer)
        target.clear()  # no view of it is left
        assert buffer.peek() == (b"" if done else everything)


def test_a_direct_read_takes_no_more_than_it_misses() -> None:
    channel = Script(b"x" * 100)
    with memoryview(bytearray(50)) as view:
        assert Direct(view, 0).receive(channel, 50) == 50
    assert channel.chunks == [b"x" * 50]


def first_record(data: bytes, separators: Sequence[bytes], limit: int) -> tuple[int, int] | None:
    """By trying every end: the earliest, and there the shortest separator."""
    for end in range(1, min(len(data), limit) + 1):
        for separator in sorted(separators, key=len):
            if data[:end].endswith(separator):
                return end, len(separator)
    return None


@given(
    st.lists(st.text("ab\n", min_size=1, max_size=30)), SEPARATORS, st.integers(1, 90), st.data()
)
def test_a_search_finds_the_earliest_end_however_the_bytes_are_cut(
    texts: list[str], separators: list[str], limit: int, data: st.DataObject
) -> None:
    seps = [s.encode() for s in separators]
    limit = max(limit, min(map(len, seps)))
    whole = "".join(texts).encode()
    expected = first_record(whole, seps, limit)
    skip = data.draw(st.integers(0, 3))  # a buffer that has lost its beginning
    buffer, search = ReceiveBuffer(), Search(seps, limit)
    buffer.append(b"#" * skip)
    found = None
    at = 0
    while at < len(whole):
        step = data.draw(st.integers(1, 20))
        buffer.append(whole[at : at + step])
        if at == 0:
            buffer.take(skip)
        at += step
        if search.find(buffer):
            found = (search.end, search.length)
            break
    assert found == expected  # law 28


@given(st.integers(250, 530), st.integers(0, 3), st.integers(1, 40))
def test_a_separator_across_the_edge_of_a_window_is_found(at: int, kind: int, step: int) -> None:
    separators = [b"\r\n", b"\r\n\r\n", b"END", b"X"]
    whole = b"." * at + separators[kind] + b"." * 10
    buffer, search = ReceiveBuffer(), Search(separators, 10_000)
    for begin in range(0, len(whole), step):
        buffer.append(whole[begin : begin + step])
        if search.find(buffer):
            break
    assert (search.end, search.length) == first_record(whole, separators, 10_000)


def test_on_a_tie_the_shorter_separator_is_the_one() -> None:
    buffer = ReceiveBuffer()
    buffer.append(b"abc\r\nrest")
    search = Search([b"\r\n", b"\n", b"c\r\n"], 100)
    assert search.find(buffer)
    assert (search.end, search.length) == (5, 1)


def test_a_record_that_ends_past_the_limit_is_not_found() -> None:
    buffer = ReceiveBuffer()
    buffer.append(b"abcd\n")
    assert not Search([b"\n"], 4).find(buffer)
    assert Search([b"\n"], 5).find(buffer)


class CountingBytes(bytearray):
    """Counts how many bytes its searches went through."""

    looked_at = 0

    def find(self, separator: object, start: object = 0, stop: object = math.inf) -> int:
        assert isinstance(start, int)
        assert isinstance(stop, int)
        self.looked_at += stop - start
        return super().find(separator, start, stop)  # type: ignore[arg-type]


@pytest.mark.parametrize("separators", [[b"\n"], [b"\r\n", b"\n"], [b"END"] * 3])
def test_a_search_goes_on_where_it_stopped(separators: list[bytes]) -> None:
    buffer = ReceiveBuffer()
    data = CountingBytes(b"x")
    buffer.data, buffer.size = data, 1
    search = Search(separators, 1 << 20)
    for _ in range(10_000):
        buffer.append(b"x")
        assert not search.find(buffer)
    assert buffer.data is data
    assert data.looked_at <= 10_000 * 3 * len(separators)  # law 32


def test_many_short_records_don_t_make_each_search_go_through_all_that_is_held() -> None:
    buffer = ReceiveBuffer()
    buffer.data = data = CountingBytes((b"x" * 9 + b"\n") * 10_000)
    buffer.size = len(data)
    for _ in range(10_000):
        search = Search([b"\n", b"never"], 65536)
        assert search.find(buffer)
        buffer.start += search.end
    assert data.looked_at < 10_000 * 2 * 300


def test_a_block_that_comes_in_one_piece_is_not_copied() -> None:
    piece = b"x" * 65536
    gathering = Gathering()
    gathering.receive(Script(piece), 65536)
    assert gathering.finish(ReceiveBuffer(), 65536) is piece


def test_a_piece_of_that_size_behind_what_was_buffered_is_cut() -> None:
    buffer = ReceiveBuffer()
    buffer.append(b"y" * 60_000)
    gathering = Gathering()
    gathering.receive(Script(b"x" * 65536), 65536 - 60_000)
    assert gathering.finish(buffer, 65536) == b"y" * 60_000 + b"x" * 5536
    assert buffer.peek() == b"x" * 60_000
