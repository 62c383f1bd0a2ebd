"""What killed test runs leave in memory is removed by the next one."""

import os
from pathlib import Path

import pytest

from batchd.devstack.locking import hold_lock
from tests.support.leftovers import remove_leftovers

PREFIX = "tests-"
LOCKS = ("lock", "server.lock")


def folder_of_a_run(parent: Path, *, name: str = f"{PREFIX}1", age_s: float = 3600.0) -> Path:
    folder = parent / name
    (folder / "cluster").mkdir(parents=True)
    for lock in LOCKS:
        (folder / lock).touch()
    modified = folder.stat().st_mtime - age_s
    os.utime(folder, (modified, modified))
    return folder


def test_folder_of_a_killed_run_is_removed(tmp_path: Path) -> None:
    folder = folder_of_a_run(tmp_path)
    remove_leftovers(tmp_path, PREFIX)
    assert not folder.exists()


@pytest.mark.parametrize("lock", LOCKS)
async def test_folder_of_a_run_or_of_its_server_stays(tmp_path: Path, lock: str) -> None:
    folder = folder_of_a_run(tmp_path)
    async with hold_lock(folder / lock):
        remove_leftovers(tmp_path, PREFIX)
    assert folder.exists()


def test_new_folder_stays(tmp_path: Path) -> None:
    folder = folder_of_a_run(tmp_path, age_s=0.0)
    remove_leftovers(tmp_path, PREFIX)
    assert folder.exists()


def test_a_folder_of_something_else_stays(tmp_path: Path) -> None:
    folder = folder_of_a_run(tmp_path, name="other")
    remove_leftovers(tmp_path, PREFIX)
    assert folder.exists()
