"""Results are stored in memory within the budget, then on disk, and are read in file order."""

import errno
import os

import pytest

from batchd.pipeline.chunks.result_store import ResultStore
from batchd.services.memory_budget import ProcessMemoryBudget

MIB = 1024**2
RESULTS = {3: b"d" * 400_000, 0: b"a\n", 2: b"c" * 10, 1: b"b" * MIB}


@pytest.fixture
def budget() -> ProcessMemoryBudget:
    return ProcessMemoryBudget(500_000)


@pytest.fixture
def store(budget: ProcessMemoryBudget) -> ResultStore:
    store = ResultStore(budget)
    for line_index, result_line in RESULTS.items():
        store.add(line_index, result_line)
    return store


def joined(store: ResultStore) -> bytes:
    return b"".join(store.blocks())


EXPECTED = b"".join(result_line for _, result_line in sorted(RESULTS.items()))


@pytest.mark.parametrize("limit", [0, 11, 400_000, 2 * MIB])
def test_results_are_in_the_order_of_their_lines(limit: int) -> None:
    with ResultStore(ProcessMemoryBudget(limit)) as store:
        for line_index, result_line in RESULTS.items():
            store.add(line_index, result_line)
        assert joined(store) == joined(store) == EXPECTED
        assert store.size == len(EXPECTED)
        assert len(store) == len(RESULTS)
        assert (2 in store, 4 in store) == (True, False)
        assert not store.overflowing


def test_results_beyond_the_budget_use_no_memory(
    store: ResultStore, budget: ProcessMemoryBudget
) -> None:
    with store:
        in_memory = sum(len(RESULTS[line_index]) for line_index in (0, 2, 3))
        assert budget.try_reserve(500_000 - in_memory)
        assert not budget.try_reserve(1)


def test_memory_is_released_at_the_end(store: ResultStore, budget: ProcessMemoryBudget) -> None:
    with store:
        pass
    assert budget.try_reserve(500_000)
    assert len(store) == 0


def test_no_result_is_lost_when_the_disk_is_full(
    budget: ProcessMemoryBudget, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "pwrite", refuse)
    with ResultStore(budget) as store:
        for line_index, result_line in RESULTS.items():
            store.add(line_index, result_line)
        assert store.overflowing
        assert joined(store) == EXPECTED
    assert budget.try_reserve(500_000)


def test_partial_write_is_continued(monkeypatch: pytest.MonkeyPatch) -> None:
    pwrite = os.pwrite
    monkeypatch.setattr(os, "pwrite", lambda fd, data, offset: pwrite(fd, data[:7000], offset))
    with ResultStore(ProcessMemoryBudget(0)) as store:
        for line_index, result_line in RESULTS.items():
            store.add(line_index, result_line)
        assert joined(store) == EXPECTED
