"""Watches files from a thread of its own and reads each state in which they have settled.

A thread, because an event loop must wait neither for a file system that hangs nor for the
processing of what was read. Pure Python holds the interpreter lock for 5 ms at a time, so such
processing calls a `CooperativeYield` regularly.
"""

import asyncio
import logging
import os
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeAlias

from watchfiles import watch

logger = logging.getLogger(__name__)

Contents: TypeAlias = Mapping[Path, bytes | str]
"""The content of each file; a string is the reason why a file can't be read."""
FileFilter: TypeAlias = Callable[[str], bool]
"""Whether a file of this name is watched."""
_Snapshot: TypeAlias = Mapping[Path, tuple[int, ...]]
"""The fingerprint of each file or folder."""

POLL_INTERVAL_S = 0.25
"""For file systems that report no changes: network mounts, links to other folders."""
STEP_MS = 50
"""How often the watching thread looks whether it shall stop."""
SETTLE_S = 0.2
"""Files must stay unchanged for this long: they are copied one by one, and in pieces."""
_MAX_READ_ATTEMPTS = 20


class CooperativeYield:
    """Lets other threads run; called after each small piece of work, pauses every 0.5 ms."""

    _WORK_S, _PAUSE_S = 0.0005, 0.0001

    def __init__(self) -> None:
        self._next_pause = time.perf_counter() + self._WORK_S

    def __call__(self) -> None:
        if time.perf_counter() >= self._next_pause:
            time.sleep(self._PAUSE_S)
            self._next_pause = time.perf_counter() + self._WORK_S


class WatchedFiles(Protocol):
    """A set of files that may change between snapshots; `str()` describes it in logs."""

    def files(self) -> Iterable[Path]: ...

    def folders(self) -> Iterable[Path]:
        """Return the folders that report when one of the files changes, appears or disappears."""
        ...


@dataclass(frozen=True, slots=True)
class WatchedFolder:
    """The files of a folder whose names pass the filter, sorted by name."""

    path: Path
    is_included: FileFilter

    def __str__(self) -> str:
        return str(self.path)

    def files(self) -> Iterable[Path]:
        """Return the files; the path itself if it is no folder, as reading it gives the reason."""
        try:
            names = os.listdir(self.path)  # noqa: PTH208  # names
        except OSError:
            return (self.path,)
        return sorted(self.path / name for name in names if self.is_included(name))

    def folders(self) -> Iterable[Path]:
        return (self.path,)


def read_files(watched: WatchedFiles) -> Contents:
    """Read all files in one state; files that never settle are read as they are."""
    for _ in range(_MAX_READ_ATTEMPTS):
        before = _snapshot(watched)
        contents = {path: read_file(path) for path in before}
        if before == _snapshot(watched):
            return contents
        time.sleep(SETTLE_S / _MAX_READ_ATTEMPTS)
    return {path: read_file(path) for path in _snapshot(watched)}


def read_file(path: Path) -> bytes | str:
    """Return a file's content, or the reason why it can't be read."""
    try:
        return path.read_bytes()
    except OSError as error:
        return error.strerror or str(error)


@asynccontextmanager
async def watch_files(
    watched: WatchedFiles, on_change: Callable[[Contents], None], *, initial: Contents
) -> AsyncIterator[None]:
    """Call `on_change`, in a thread, with each settled state of the files after `initial`."""
    watcher = _Watcher(watched, on_change, initial)
    watcher.start()
    try:
        yield
    finally:
        await asyncio.to_thread(watcher.stop)


class _Watcher:
    def __init__(
        self, watched: WatchedFiles, on_change: Callable[[Contents], None], initial: Contents
    ) -> None:
        self._watched = watched
        self._on_change = on_change
        self._contents = initial
        # Not the present snapshot: the initial contents may be older.
        self._last_snapshot: _Snapshot | None = None
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"watch {watched}", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Stop the thread and wait until it has ended."""
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        for _ in self._wakeups():
            if _snapshot(self._watched) == self._last_snapshot:
                continue
            contents = self._read_settled()
            if contents is None or contents == self._contents:
                continue
            self._contents = contents
            try:
                self._on_change(contents)
            except Exception:
                logger.exception("failed to apply a change of %s", self._watched)

    def _read_settled(self) -> Contents | None:
        """Read the files once they have settled; None if the watcher is stopped before."""
        while True:
            before = _snapshot(self._watched)
            if self._stop.wait(SETTLE_S):
                return None
            if before != _snapshot(self._watched):
                continue
            contents = {path: read_file(path) for path in before}
            if before == _snapshot(self._watched):
                self._last_snapshot = before
                return contents

    def _wakeups(self) -> Iterator[None]:
        """Yield after each change that is reported, and at least once in a poll interval."""
        while not self._stop.is_set():
            try:
                folders = self._folder_identities()
                for _ in watch(
                    *folders,
                    watch_filter=None,
                    debounce=round(POLL_INTERVAL_S * 1000),
                    step=STEP_MS,
                    rust_timeout=round(POLL_INTERVAL_S * 1000),
                    yield_on_timeout=True,
                    stop_event=self._stop,
                    recursive=False,
                    raise_interrupt=False,
                ):
                    yield
                    if self._folder_identities() != folders:
                        break  # a folder was replaced: the watch is on the one that is gone
            except (OSError, RuntimeError) as error:
                # The folder is missing, or the system has no watches left; watchfiles reports all
                # other failures to watch as RuntimeError.
                logger.debug("can't watch %s: %s", self._watched, error)
                yield
                self._stop.wait(POLL_INTERVAL_S)

    def _folder_identities(self) -> _Snapshot:
        return {folder: _fingerprint(folder)[:2] for folder in self._watched.folders()}


def _snapshot(watched: WatchedFiles) -> _Snapshot:
    """Return what changes with every change of the files, without reading them."""
    return {path: _fingerprint(path) for path in watched.files()}


def _fingerprint(path: Path) -> tuple[int, ...]:
    """Identify one state of a file; links are followed."""
    try:
        status = path.stat()
    except OSError as error:
        return (error.errno or 0,)
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns
