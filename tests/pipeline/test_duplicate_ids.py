"""Duplicate ids are found completely and exactly, in little memory."""

import tracemalloc
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchd.pipeline.validate import duplicate_ids
from batchd.pipeline.validate.duplicate_ids import DuplicateIdFinder
from batchd.settings import MIB

# Few of them, so that they repeat; among them what could be confused in a file of records.
ids = st.sampled_from(
    ["a", "A", "b", " ", "a ", "\n", "a\nb", "1 a", "é", "e\u0301", "\0", "𝕒" * 64]
)


def duplicates(finder: DuplicateIdFinder) -> list[tuple[int, str]]:
    for _ in finder.search():
        pass
    lines = list(finder.duplicates())
    assert finder.count == len(lines)
    return lines


def expected(lines: list[tuple[int, str]]) -> list[tuple[int, str]]:
    before = [{line_id for _, line_id in lines[:index]} for index in range(len(lines))]
    return [line for line, earlier in zip(lines, before, strict=True) if line[1] in earlier]


@pytest.mark.parametrize("search_bytes", [24 * MIB, 250], ids=["whole", "partitioned again"])
@given(gaps=st.lists(st.tuples(st.integers(1, 9), ids | st.text(min_size=1, max_size=2))))
def test_every_line_with_an_earlier_id_is_found(
    search_bytes: int, gaps: list[tuple[int, str]]
) -> None:
    line = 0
    lines = []
    for gap, line_id in gaps:
        line += gap
        lines.append((line, line_id))
    with pytest.MonkeyPatch.context() as patch, DuplicateIdFinder() as finder:
        patch.setattr(duplicate_ids, "_MAX_SEARCH_BYTES", search_bytes)
        patch.setattr(duplicate_ids, "_BUCKETS", 2)
        for number, line_id in lines:
            finder.add(number, line_id)
        assert duplicates(finder) == expected(lines)


@pytest.mark.parametrize("lines", [0, 1, 1000])
def test_unique_ids_are_not_reported(lines: int) -> None:
    with DuplicateIdFinder() as finder:
        for line in range(1, lines + 1):
            finder.add(line, str(UUID(int=line)))
        assert duplicates(finder) == []


def test_id_of_every_line_is_found_on_all_except_the_first() -> None:
    with DuplicateIdFinder() as finder:
        for line in range(1, 5001):
            finder.add(line, "a")
        assert duplicates(finder) == [(line, "a") for line in range(2, 5001)]


def test_bucket_of_an_id_differs_from_file_to_file() -> None:
    """Otherwise whoever writes the file could put all ids into one bucket."""
    buckets = set()
    for _ in range(20):
        with DuplicateIdFinder() as finder:
            finder.add(1, "a")
            sizes = [file.seek(0, 2) for file in finder._partition.finish()]
        buckets.add(sizes.index(max(sizes)))
    assert len(buckets) > 1


@pytest.mark.slow
def test_many_ids_in_one_bucket_use_little_memory(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(duplicate_ids, "_MEMORY_PER_BUCKET", 1024)
    monkeypatch.setattr(duplicate_ids, "_MAX_SEARCH_BYTES", MIB)
    monkeypatch.setattr(duplicate_ids, "_BUCKETS", 4)
    count = 20_000
    long_id = "{:064d}".format
    tracemalloc.start()
    try:
        with DuplicateIdFinder() as finder:
            for line in range(1, count + 1):
                finder.add(line, long_id(line))
            finder.add(count + 1, long_id(77))
            finder.add(count + 2, long_id(7))
            assert duplicates(finder) == [(count + 1, long_id(77)), (count + 2, long_id(7))]
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    # A set of them alone would have 4 MiB and more.
    assert peak < 3 * MIB
