"""DuplicateIdFinder used twice are found, all of them and no others, in little memory."""

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


def simply(lines: list[tuple[int, str]]) -> list[tuple[int, str]]:
    before = [{line_id for _, line_id in lines[:index]} for index in range(len(lines))]
    return [
        line for line, previous_ids in zip(lines, before, strict=True) if line[1] in previous_ids
    ]


@given(st.lists(st.tuples(st.integers(1, 9), ids | st.text(min_size=1, max_size=2))))
def test_every_line_whose_id_an_earlier_one_has_is_found(gaps: list[tuple[int, str]]) -> None:
    line = 0
    lines = []
    for gap, line_id in gaps:
        line += gap
        lines.append((line, line_id))
    with DuplicateIdFinder() as remembered:
        for number, line_id in lines:
            remembered.add(number, line_id)
        assert list(remembered.duplicates()) == simply(lines)


@pytest.mark.parametrize("lines", [0, 1, 1000])
def test_ids_used_once_are_not_found(lines: int) -> None:
    with DuplicateIdFinder() as remembered:
        for line in range(1, lines + 1):
            remembered.add(line, str(UUID(int=line)))
        assert list(remembered.duplicates()) == []


@pytest.mark.slow
def test_many_ids_take_little_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(duplicate_ids, "_MEMORY_PER_BUCKET", 1024)
    count = 30_000
    long_id = "{:064d}".format
    tracemalloc.start()
    try:
        with DuplicateIdFinder() as remembered:
            for line in range(1, count + 1):
                remembered.add(line, long_id(line))
            remembered.add(count + 1, long_id(77))
            remembered.add(count + 2, long_id(7))
            assert list(remembered.duplicates()) == [
                (count + 1, long_id(77)),
                (count + 2, long_id(7)),
            ]
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    # A set of them alone would have 5 MiB.
    assert peak < 2 * MIB
