"""The bytes of a batch file are split into lines, whatever the size of the pieces."""

import tracemalloc
from collections.abc import AsyncIterable, AsyncIterator, Iterator
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchd.pipeline.line_reader import LineSplitter, RawLine, split_lines
from batchd.settings import MIB

LIMIT = 7

# Line breaks of both kinds, blank lines and lines around the limit come up often.
files = st.lists(
    st.sampled_from([b"\n", b"\r\n", b" ", b"a", b"{}", b"\0", b"x" * (LIMIT - 1), b"\xff" * 9])
).map(b"".join)
cuts = st.lists(st.integers(0, 200), max_size=12)


def cut(data: bytes, at: list[int]) -> list[bytes]:
    """Cut into pieces, empty ones among them."""
    offsets = [0, *sorted(min(offset, len(data)) for offset in at), len(data)]
    return [data[start:end] for start, end in pairwise(offsets)]


async def stream(pieces: list[bytes]) -> AsyncIterator[bytes]:
    for piece in pieces:
        yield piece


async def collect(pieces: AsyncIterable[bytes], into: list[bytes]) -> None:
    async for piece in pieces:
        into.append(piece)  # noqa: PERF401  # what came before an error is kept


async def joined(pieces: AsyncIterable[bytes]) -> bytes:
    return b"".join([piece async for piece in pieces])


async def lines_of(pieces: list[bytes], splitter: LineSplitter) -> list[RawLine]:
    return [line async for block in split_lines(stream(pieces), splitter) for line in block]


def expected_lines(data: bytes) -> Iterator[RawLine]:
    """Say it the simple way, with the whole file at hand. Blank lines only count."""
    start = 0
    for number, line in enumerate(_all_lines(data), 1):
        content = line.removesuffix(b"\n")
        if len(content) > LIMIT or content.strip():
            yield RawLine(number, start, len(line), content if len(content) <= LIMIT else None)
        start += len(line)


def _all_lines(data: bytes) -> list[bytes]:
    *terminated, rest = data.split(b"\n")
    return [*(line + b"\n" for line in terminated), *([rest] if rest else [])]


# Lines


@given(files, cuts)
async def test_lines_do_not_depend_on_the_size_of_pieces(data: bytes, at: list[int]) -> None:
    lines = await lines_of(cut(data, at), LineSplitter(max_line_bytes=LIMIT))
    assert lines == list(expected_lines(data))


@given(files, st.data())
async def test_reading_can_start_in_the_middle(data: bytes, draw: st.DataObject) -> None:
    all_lines = _all_lines(data)
    skipped = draw.draw(st.integers(0, len(all_lines)))
    start = sum(map(len, all_lines[:skipped]))
    splitter = LineSplitter(max_line_bytes=LIMIT, first_line=skipped + 1, start=start)
    lines = [line for line in expected_lines(data) if line.number > skipped]
    assert await lines_of([data[start:]], splitter) == lines
    assert splitter.next_number == len(all_lines) + 1


@pytest.mark.parametrize(
    ("content", "blank"),
    [(b"", True), (b"\r", True), (b" \t\r", True), (b"0", False), (b"\xff", False)],
)
@pytest.mark.parametrize("ending", [b"\n", b""], ids=["ended", "at the end of the file"])
def test_line_without_anything_on_it_is_left_out(
    content: bytes, blank: bool, ending: bytes
) -> None:
    splitter = LineSplitter(max_line_bytes=LIMIT)
    lines = [*splitter.feed(content + ending), *splitter.finish()]
    assert len(lines) == (0 if blank else 1)


def test_byte_order_mark_is_blank_on_the_first_line_only() -> None:
    lines = LineSplitter(max_line_bytes=LIMIT).feed(b"\xef\xbb\xbf\r\n\xef\xbb\xbf\n")
    assert [line.number for line in lines] == [2]


def test_line_of_the_permitted_length_is_kept_and_a_longer_one_is_not() -> None:
    splitter = LineSplitter(max_line_bytes=LIMIT)
    lines = splitter.feed(b"x" * LIMIT + b"\n" + b"x" * (LIMIT + 1) + b"\nnext\n")
    assert [line.data for line in lines] == [b"x" * LIMIT, None, b"next"]
    assert [line.size for line in lines] == [LIMIT + 1, LIMIT + 2, 5]


def test_too_long_line_uses_no_memory() -> None:
    splitter = LineSplitter(max_line_bytes=MIB)
    tracemalloc.start()
    try:
        for _ in range(64):
            assert splitter.feed(bytes(MIB)) == []
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 4 * MIB
    assert splitter.feed(b"\n{}\n") == [
        RawLine(1, 0, 64 * MIB + 1, None),
        RawLine(2, 64 * MIB + 1, 3, b"{}"),
    ]


async def test_piece_of_lines_is_split_in_small_parts() -> None:
    splitter = LineSplitter(max_line_bytes=LIMIT)
    count = 128 * 1024
    lists = [len(lines) async for lines in split_lines(stream([b"1\n" * count]), splitter)]
    assert sum(lists) == count
    assert max(lists) <= 16 * 1024


@pytest.mark.parametrize("line", [b"\n", b"\r\n", b" \t\n"])
async def test_many_blank_lines_are_counted(line: bytes) -> None:
    splitter = LineSplitter(max_line_bytes=MIB)
    assert await lines_of([line * MIB + b"{}"], splitter) == [
        RawLine(MIB + 1, MIB * len(line), 2, b"{}")
    ]
