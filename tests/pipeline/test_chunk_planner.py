"""Chunks contain every line that will run, once, in order, within the limits."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from batchd.domain.chunks import Chunk
from batchd.pipeline.line_reader import LineSplitter, RawLine
from batchd.pipeline.validate.chunk_planner import ChunkPlanner

files = st.lists(st.sampled_from([b"\n", b" \n", b"a\n", b"bb\n", b"\r\n", b"c" * 9 + b"\n"])).map(
    b"".join
)


def lines_in(data: bytes, *, first_line: int = 1, start: int = 0) -> list[RawLine]:
    """Return the lines that will run."""
    splitter = LineSplitter(max_line_bytes=100, first_line=first_line, start=start)
    return [*splitter.feed(data), *splitter.finish()]


def plan_for(
    lines: list[RawLine], *, max_lines: int, max_bytes: int, max_chunks: int = 1_000
) -> tuple[list[Chunk], int]:
    plan = ChunkPlanner(max_lines=max_lines, max_bytes=max_bytes, max_chunks=max_chunks)
    for line in lines:
        plan.add(line)
    return plan.finish(), plan.lines


@given(files, st.sampled_from([b"", b"last"]), st.integers(1, 5), st.integers(1, 25))
def test_chunks_contain_every_line_once_in_order(
    terminated: bytes, last: bytes, max_lines: int, max_bytes: int
) -> None:
    data = terminated + last
    lines = lines_in(data)
    chunks, total = plan_for(lines, max_lines=max_lines, max_bytes=max_bytes)
    assert total == len(lines)
    assert [chunk.number for chunk in chunks] == list(range(len(chunks)))
    read = []
    for chunk in chunks:
        own = lines_in(
            data[chunk.start : chunk.start + chunk.size],
            first_line=chunk.first_line,
            start=chunk.start,
        )
        assert len(own) == chunk.lines
        assert own[0].number == chunk.first_line
        assert 1 <= chunk.lines <= max_lines
        assert chunk.size <= max_bytes or chunk.lines == 1
        read += own
    assert read == lines


@given(files, st.integers(1, 5), st.integers(1, 25))
def test_chunks_are_as_large_as_the_limits_allow(
    data: bytes, max_lines: int, max_bytes: int
) -> None:
    lines = lines_in(data)
    chunks, _ = plan_for(lines, max_lines=max_lines, max_bytes=max_bytes)
    line_at = {line.start: line for line in lines}
    for chunk, after in pairwise(chunks):
        extended_size = after.start + line_at[after.start].size - chunk.start
        assert chunk.lines == max_lines or extended_size > max_bytes


def test_file_without_lines_has_no_chunks() -> None:
    assert plan_for([], max_lines=1, max_bytes=1) == ([], 0)


def test_oversized_line_has_a_chunk_of_its_own() -> None:
    lines = lines_in(b"a\n" + b"b" * 50 + b"\nc\n")
    chunks, _ = plan_for(lines, max_lines=10, max_bytes=10)
    assert [(chunk.first_line, chunk.size) for chunk in chunks] == [(1, 2), (2, 51), (3, 2)]


@given(files, st.integers(1, 3), st.integers(1, 25), st.integers(1, 9))
def test_number_of_chunks_is_limited(
    data: bytes, max_lines: int, max_bytes: int, max_chunks: int
) -> None:
    lines = lines_in(data)
    chunks, _ = plan_for(lines, max_lines=max_lines, max_bytes=max_bytes, max_chunks=max_chunks)
    assert len(chunks) <= max_chunks
    assert [chunk.number for chunk in chunks] == list(range(len(chunks)))
    read = [
        line
        for chunk in chunks
        for line in lines_in(
            data[chunk.start : chunk.start + chunk.size],
            first_line=chunk.first_line,
            start=chunk.start,
        )
    ]
    assert read == lines
    assert sum(chunk.lines for chunk in chunks) == len(lines)


def test_chunks_grow_in_lines_before_bytes() -> None:
    lines = lines_in(b"a\n" * 600)
    chunks, _ = plan_for(lines, max_lines=1, max_bytes=20, max_chunks=100)
    assert max(chunk.lines for chunk in chunks) == 8
    assert max(chunk.size for chunk in chunks) <= 20
